"""Where the program ``imgforge`` is that came with this package."""

from __future__ import annotations

import os
import sys
import sysconfig

NAME = "imgforge"


def find() -> str | None:
    """The program's path, or nothing when the package was installed without it."""
    here = os.path.dirname(os.path.abspath(__file__))
    site = os.path.dirname(here)
    folders = [
        sysconfig.get_path("scripts"),
        # `pip install --user` and `--target` and `--prefix` have their own.
        sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user")),
        os.path.join(site, "bin"),
        os.path.join(site, "..", "..", "..", "bin"),
    ]
    for folder in folders:
        path = os.path.join(folder, NAME)
        if os.access(path, os.X_OK):
            return os.path.normpath(path)
    return None


def main() -> int:
    """Becomes the program: ``python -m imgforge``."""
    program = find()
    if program is None:
        print("imgforge: the program is not where this package was installed", file=sys.stderr)
        return 1
    os.execv(program, [NAME, *sys.argv[1:]])
