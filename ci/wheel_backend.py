"""The build backend of the Python package: maturin's, which makes the module, with the program put beside it.

maturin puts into a wheel's scripts what lies in the folder `data` of its settings. So each hook that makes a wheel has
the program compiled first, with the same profile, the same lock and the same target folder: what the two have in common,
which is nearly all, is compiled once.

IMGFORGE_BUILD_PROFILE chooses another profile than `release`: `quick` and `dev` are for trying things out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import maturin
from maturin import (  # noqa: F401
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)

ROOT = Path(__file__).resolve().parent.parent
# As pyproject.toml has it.
DATA = ROOT / "target" / "wheel"

Settings = dict[str, Any] | None


def build_wheel(folder: str, settings: Settings = None, metadata: str | None = None) -> str:
    _put_program()
    return maturin.build_wheel(folder, _with_profile(settings), metadata)


def build_editable(folder: str, settings: Settings = None, metadata: str | None = None) -> str:
    _put_program()
    return maturin.build_editable(folder, _with_profile(settings), metadata)


def build_sdist(folder: str, settings: Settings = None) -> str:
    _scripts().mkdir(parents=True, exist_ok=True)
    return maturin.build_sdist(folder, settings)


def prepare_metadata_for_build_wheel(folder: str, settings: Settings = None) -> str:
    _scripts().mkdir(parents=True, exist_ok=True)
    return maturin.prepare_metadata_for_build_wheel(folder, settings)


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel


def _profile() -> list[str]:
    """The profile, as cargo and maturin take it."""
    profile = os.environ.get("IMGFORGE_BUILD_PROFILE", "release")
    return ["--release"] if profile == "release" else ["--profile", profile]


def _scripts() -> Path:
    return DATA / "scripts"


def _with_profile(settings: Settings) -> dict[str, Any]:
    """The caller's settings, with the profile for maturin's own cargo."""
    settings = dict(settings or {})
    arguments = settings.get("build-args", "")
    if isinstance(arguments, list):
        arguments = " ".join(arguments)
    arguments = " ".join([arguments, "--locked", *_profile()]).strip()
    return {**settings, "build-args": arguments}


def _put_program() -> None:
    """Compiles the program and puts it where maturin looks for scripts."""
    command = ["cargo", "build", "--locked", *_profile(), "--package", "imgforge", "--bin", "imgforge"]
    command += ["--message-format", "json-render-diagnostics"]
    built = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    programs = [message.get("executable") for message in map(json.loads, built.stdout.splitlines())]
    program = next(filter(None, programs))
    shutil.rmtree(DATA, ignore_errors=True)
    _scripts().mkdir(parents=True)
    placed = _scripts() / "imgforge"
    shutil.copy(program, placed)
    # The profiles for trying things out keep what a debugger wants, which is most of their size.
    subprocess.run(["strip", placed], check=True)
