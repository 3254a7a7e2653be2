"""Writes what rattler's Python package makes of the locks and the channel beside this script.

    python3 -m venv VENV && VENV/bin/pip install py-rattler && VENV/bin/python tests/record.py

Each `.expect` is a platform of a lock, or an environment that is resolved from tests/channel: one line
`SUBDIR/NAME-VERSION-BUILD HASH` for each package, in the order in which rattler links them. tests/locks.rs and tests/solve.rs
compare ours with them. The judge is another build of the same library than the one under test, with another reader of locks
in front of it; what both have in common is judged by the texts themselves, in tests/locks.rs.
"""

import asyncio
from pathlib import Path

from rattler import Channel, GenericVirtualPackage, LockFile, PackageName, PackageRecord, Version, solve
from rattler.package.build_string import BuildString

HERE = Path(__file__).resolve().parent


def write(path, records):
    lines = []
    for record in PackageRecord.sort_topologically(records):
        name = f"{record.subdir}/{record.name.normalized}-{record.version}-{record.build}"
        lines.append(f"{name} {(record.sha256 or record.md5).hex()}\n")
    path.write_text("".join(lines))
    print(f"{path.relative_to(HERE)}: {len(lines)} packages")


def lock(folder):
    file = LockFile.from_path(HERE / "locks" / folder / "pixi.lock")
    environment = file.default_environment()
    for platform in file.platforms():
        records = environment.conda_repodata_records_for_platform(platform)
        write(HERE / "locks" / folder / f"{platform.name}.expect", records)


def virtual(name, version, build="0"):
    return GenericVirtualPackage(PackageName(name), Version(version), BuildString(build))


async def resolve(name, *specs):
    records = await solve(
        sources=[Channel((HERE / "channel").as_uri())],
        specs=list(specs),
        platforms=["linux-64", "noarch"],
        virtual_packages=[
            virtual("__archspec", "1", "x86_64"),
            virtual("__glibc", "2.36"),
            virtual("__linux", "4.18"),
            virtual("__unix", "0"),
        ],
    )
    write(HERE / "channel" / f"{name}.expect", records)


lock("pytorch-gpu")
asyncio.run(resolve("python", "python"))
asyncio.run(resolve("all", "python", "pip", "cowsay", "requests", "numpy", "oddities"))
