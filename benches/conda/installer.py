"""What py-rattler does for the benchmark, each a process of its own.

    installer.py lock CHANNEL LOCK              solves for every package of a channel, and writes a pixi.lock
    installer.py install LOCK TARGET CACHE PREFIX    installs a pixi.lock's environment into a folder, as if at a prefix
"""

import asyncio
import json
import os
import sys
from pathlib import Path

import rattler
from rattler.lock import LockChannel, LockFile, LockPlatform


async def lock(channel: str, path: str) -> None:
    names = set()
    for repodata in Path(channel).glob("*/repodata.json"):
        packages = json.loads(repodata.read_text())["packages.conda"]
        names |= {record["name"] for record in packages.values()}
    url = f"file://{channel}"
    records = await rattler.solve([rattler.Channel(url)], sorted(names), platforms=["linux-64", "noarch"])
    lock = LockFile([LockPlatform("linux-64")])
    lock.set_channels("default", [LockChannel(url)])
    for record in records:
        lock.add_conda_package("default", LockPlatform("linux-64"), record)
    lock.to_path(Path(path))


async def install(lock: str, target: str, cache: str, prefix: str) -> None:
    environment = LockFile.from_path(Path(lock)).default_environment()
    [platform] = environment.platforms()
    records = environment.conda_repodata_records_for_platform(platform)
    await rattler.install(
        records, target_prefix=target, cache_dir=Path(cache), platform=rattler.Subdir("linux-64"), show_progress=False,
        execute_link_scripts=False, alternative_target_prefix=prefix,
    )


if __name__ == "__main__":
    asyncio.run({"lock": lock, "install": install}[sys.argv[1]](*sys.argv[2:]))
    sys.stdout.flush()
    # Threads of rattler's outlive main: an interpreter that ends in order aborts when one of them comes back to it.
    os._exit(0)
