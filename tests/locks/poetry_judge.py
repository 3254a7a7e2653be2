"""What `poetry install` would install from locks for targets, compared with the .expect files beside the locks.

Usage: poetry_judge.py FOLDER [--record]             the cases below, in the folder that has their locks
       poetry_judge.py FOLDER LOCK PYTHON ARCH LIBC [extra=NAME | group=NAME | all-extras | default-groups]…

The second form prints one case. PYTHON is 3.11 or 3.11.2, ARCH x86_64 or aarch64, LIBC manylinux_2_36 or musllinux_1_2.

Which packages are installed, Poetry's own installer decides: its operations are read instead of run, and the environment
that it is given is that of the target. Which wheel is best, `packaging`'s tags decide. `main` is always wanted and other
groups when they are named, which is `--only main,NAME…` in Poetry's words; `default-groups` is `--with NAME…`.
"""

import difflib
import pathlib
import sys

from cleo.io.null_io import NullIO
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from poetry.config.config import Config
from poetry.core.constraints.version import Version
from poetry.factory import Factory
from poetry.installation.executor import Executor
from poetry.installation.installer import Installer
from poetry.repositories.installed_repository import InstalledRepository
from poetry.utils.env.mock_env import MockEnv

CASES = [
    ("poetry-1.1", "main", "3.11.2", "x86_64", "manylinux_2_36"),
    ("poetry-1.1", "main-old", "3.8", "aarch64", "manylinux_2_17"),
    ("poetry-1.1", "terminal", "3.9", "x86_64", "musllinux_1_2", "extra=terminal"),
    ("poetry-1.1", "pretty", "3.12", "aarch64", "manylinux_2_36", "extra=pretty-print"),
    ("poetry-1.1", "docs", "3.10", "x86_64", "manylinux_2_36", "group=docs"),
    ("poetry-1.1", "defaults", "3.8.10", "x86_64", "manylinux_2_36", "default-groups"),
    ("poetry-1.1", "everything", "3.11", "x86_64", "manylinux_2_36", "default-groups", "group=docs", "all-extras"),
    *(
        (lock, *case)
        for lock in ("poetry-2.0", "poetry-2.1")
        for case in (
            ("main", "3.11.2", "x86_64", "manylinux_2_36"),
            ("main-old", "3.9", "x86_64", "manylinux_2_17"),
            ("main-musl", "3.12", "aarch64", "musllinux_1_2"),
            ("server", "3.11.2", "x86_64", "manylinux_2_36", "extra=server"),
            ("pretty", "3.10", "aarch64", "manylinux_2_36", "extra=pretty-print"),
            ("all-extras", "3.9", "x86_64", "musllinux_1_2", "all-extras"),
            ("docs", "3.12", "x86_64", "manylinux_2_36", "group=docs"),
            ("defaults", "3.10.4", "x86_64", "manylinux_2_36", "default-groups"),
            ("everything", "3.11", "aarch64", "manylinux_2_36", "default-groups", "group=docs", "all-extras"),
        )
    ),
    ("poetry-standard", "main", "3.11.2", "x86_64", "manylinux_2_36"),
    ("poetry-standard", "old", "3.10", "aarch64", "manylinux_2_36", "extra=old", "extra=yaml", "group=types"),
    ("poetry-standard", "new", "3.12", "x86_64", "manylinux_2_36", "default-groups", "extra=new"),
    ("poetry-standard", "docs", "3.13.1", "aarch64", "musllinux_1_2", "default-groups", "group=docs"),
    ("poetry-standard", "both", "3.12", "x86_64", "manylinux_2_36", "extra=old", "extra=new"),
]


def main(folder, *arguments):
    folder = pathlib.Path(folder)
    if arguments and arguments != ("--record",):
        lock, *target = arguments
        print("\n".join(selection(folder / lock, *target)))
        return 0
    failed = 0
    for lock, case, *target in CASES:
        file = folder / lock / f"{case}.expect"
        found = selection(folder / lock, *target)
        if arguments:
            file.write_text("".join(f"{line}\n" for line in found))
        expected = file.read_text().splitlines()
        failed += found != expected
        print(f"{lock}/{case}: {len(expected)} packages", flush=True)
        print("".join(f"  {line}\n" for line in difflib.ndiff(expected, found) if line[0] in "+-"), end="")
    print(f"{len(CASES)} cases, {failed} of which Poetry decides otherwise")
    return 1 if failed else 0


def selection(folder, python, arch, libc, *options):
    """One `name==version file` for each package, by name."""
    tags = supported_tags(python, arch, libc)
    found = packages(folder, python, arch, tags, options)
    return [f"{it.name}=={it.version} {best_wheel(it, tags)}" for it in sorted(found, key=lambda it: it.name)]


class Recorder(Executor):
    """Keeps what is to be done, and does nothing."""

    packages = ()

    def execute(self, operations):
        self.packages = [it.package for it in operations if it.job_type == "install" and not it.skipped]
        return 0


def packages(folder, python, arch, tags, options):
    poetry = Factory().create_poetry(folder)
    major, minor, *patch = (int(part) for part in python.split("."))
    full = f"{major}.{minor}.{patch[0] if patch else 0}"
    env = MockEnv(
        version_info=tuple(map(int, full.split("."))),
        platform="linux",
        platform_machine=arch,
        supported_tags=tags,
        marker_env={
            "implementation_name": "cpython",
            "implementation_version": full,
            "os_name": "posix",
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
        },
    )
    project = poetry.package
    # The command refuses this before it reads the lock.
    if not project.python_constraint.allows(Version.parse(full)):
        raise SystemExit(f"{folder}: Python {full} is none of {project.python_versions}")

    values = [option.partition("=") for option in options]
    groups = {"main", *(canonicalize_name(value) for key, _, value in values if key == "group")}
    if "default-groups" in options:
        groups |= {name for name in project.dependency_group_names(include_optional=False)}
    for group in groups:
        if group != "main" and not project.has_dependency_group(group):
            raise SystemExit(f"{folder}: no group {group}")
    extras = [value for key, _, value in values if key == "extra"]
    if "all-extras" in options:
        extras = list(project.extras)

    config = Config.create()
    executor = Recorder(env, poetry.pool, config, NullIO())
    nothing = InstalledRepository()
    installer = Installer(NullIO(), env, project, poetry.locker, poetry.pool, config, nothing, executor)
    installer.only_groups(groups).extras(extras).dry_run(True)
    if installer.run():
        raise SystemExit(f"{folder}: Poetry fails")
    return executor.packages


def best_wheel(package, tags):
    """pip's choice and uv's: the best tag, then the highest build. Poetry has these two the other way around."""
    rank = {tag: -index for index, tag in reversed(list(enumerate(tags)))}
    wheels = []
    for file in (file["file"] for file in package.files):
        try:
            name, version, build, wheel_tags = parse_wheel_filename(file)
        except InvalidWheelFilename:
            continue
        # The oldest locks have the files of all versions in one list.
        if (name, str(version)) == (package.name, str(package.version)):
            wheels += [(rank[tag], build, file) for tag in wheel_tags if tag in rank]
    return max(wheels)[2] if wheels else "-"


def supported_tags(python, arch, libc):
    major, minor = (int(part) for part in python.split(".")[:2])
    kind, libc_major, libc_minor = libc.rsplit("_", 2)
    lowest = 0 if kind == "musllinux" else 17 if arch == "aarch64" else 5
    platforms = []
    for version in range(int(libc_minor), lowest - 1, -1):
        platforms.append(f"{kind}_{libc_major}_{version}_{arch}")
        if kind == "manylinux" and version in (17, 12, 5):
            platforms.append(f"manylinux{ {17: '2014', 12: '2010', 5: '1'}[version] }_{arch}")
    platforms.append(f"linux_{arch}")
    return [
        *cpython_tags((major, minor), platforms=platforms),
        *compatible_tags((major, minor), f"cp{major}{minor}", platforms),
    ]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
