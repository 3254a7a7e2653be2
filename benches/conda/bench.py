"""Measures `imgforge build` of a conda environment beside rattler's installer with tar and zstd, and with buildah.

run.sh beside this file starts it; README.md says what is measured and how. It fails when something does not work or the
images differ, and not when a figure is a bad one.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import packages

HERE = Path(__file__).resolve().parent
PREFIX = "/opt/conda/envs/bench"
# Level of `Codec::Zstd` in crates/layer/src/codec.rs, which `compression = "auto"` means for conda packages.
LEVEL = 3
CORES = len(os.sched_getaffinity(0))
IMAGES = f"""version = 1
[settings]
platforms = ["linux/amd64"]
[base.empty]
scratch = true
[env.bench]
lock = "pixi.lock"
prefix = "{PREFIX}"
[image.bench]
base = "empty"
envs = ["bench"]
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="run.sh", description=__doc__.splitlines()[0])
    parser.add_argument("imgforge", type=Path, help="the program, of a release build")
    parser.add_argument("scratch", type=Path, help="an empty folder, or one with a channel from an earlier run")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--jobs", type=int, default=CORES, help="threads, of imgforge and of zstd")
    parser.add_argument("--without-buildah", action="store_true")
    arguments = parser.parse_args()
    Bench(arguments).run()


class Bench:
    """The programs that are measured, and the folder that they work in.

    ```
    SCRATCH/
      channel/          the packages; facts.json beside it says what they are, pixi.lock and bumped.lock are its locks
      project/          images.toml and the lock that is built
      store/, dist/     imgforge's store and output
      context/env/      where rattler installs, and what buildah copies
      cache/            rattler's package cache
      containers/       buildah's storage
      layer.tar.zst, buildah-dist/     what the others write
    ```
    """

    def __init__(self, arguments: argparse.Namespace):
        self.imgforge = arguments.imgforge.resolve()
        self.work = arguments.scratch.resolve()
        self.rounds = arguments.rounds
        self.jobs = arguments.jobs
        self.with_buildah = not arguments.without_buildah
        self.runs: dict[str, list[dict]] = {}

    def run(self) -> None:
        facts = self.prepare()
        self.describe(facts)
        archives = sorted((self.work / "channel").glob("*/*.conda"))
        for number in range(self.rounds):
            measured = [self.build_with_imgforge, self.build_with_rattler]
            for measure in measured if number % 2 == 0 else reversed(measured):
                warm(archives)
                measure()
            if number == 0:
                self.compare()
            self.forget_rattlers()
        self.report()
        self.report_bump(facts["bumped"])

    def prepare(self) -> dict:
        """The channel, its lock, and the lock after one package got another version."""
        known = self.work / "facts.json"
        project = self.work / "project"
        project.mkdir(exist_ok=True)
        (project / "images.toml").write_text(IMAGES)
        if known.exists():
            return json.loads(known.read_text())
        say("the channel: some minutes, for packages are compressed as conda-build does it")
        folder = self.work / "channel"
        folder.mkdir()
        facts = packages.make(folder)
        for name in ["pixi.lock", "bumped.lock"]:
            check([sys.executable, "-B", HERE / "installer.py", "lock", folder, self.work / name])
            if name == "pixi.lock":
                packages.bump(folder, facts["bumped"])
        known.write_text(json.dumps(facts, indent=1) + "\n")
        return facts

    # What is measured.

    def build_with_imgforge(self) -> None:
        for name in ["store", "dist"]:
            shutil.rmtree(self.work / name, ignore_errors=True)
        (self.work / "project/images.lock").unlink(missing_ok=True)
        self.use("pixi.lock")
        self.record("imgforge", timed(self.imgforge_build(), cwd=self.work / "project"))

    def build_with_rattler(self) -> None:
        """rattler's installer, then one layer of what it left: by tar and zstd, and by buildah."""
        self.forget_rattlers()
        env = self.work / "context/env"
        install = [sys.executable, "-B", HERE / "installer.py", "install", self.work / "pixi.lock", env]
        self.record("rattler install", timed([*install, self.work / "cache", PREFIX]))
        # Both digests that an image needs, hashed beside the compression; and on the disk, as imgforge's and buildah's are.
        script = (
            'set -e -o pipefail; mkfifo plain packed; trap "rm plain packed" EXIT\n'
            "openssl dgst -sha256 < plain > diff-id & openssl dgst -sha256 < packed > digest &\n"
            'tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --directory "$1" . |\n'
            '    tee plain | zstd --quiet "-$2" "-T$3" | tee packed > layer.tar.zst\nwait\nsync layer.tar.zst\n'
        )
        pack = ["bash", "-c", script, "pack", env, str(LEVEL), str(self.jobs)]
        self.record("tar and zstd", timed(pack, cwd=self.work))
        if self.with_buildah:
            self.build_with_buildah()

    def build_with_buildah(self) -> None:
        context = self.work / "context"
        (context / "Containerfile").write_text(f"FROM scratch\nCOPY env {PREFIX}\n")
        storage = ["--root", self.work / "containers/root", "--runroot", self.work / "containers/run"]
        (self.work / "tmp").mkdir(exist_ok=True)
        environment = {**os.environ, "TMPDIR": str(self.work / "tmp")}
        build = ["buildah", *storage, "build", "--quiet", "--layers=false", "--isolation", "chroot"]
        self.record("buildah build", timed([*build, "--tag", "localhost/bench", context], env=environment))
        push = ["buildah", *storage, "push", "--quiet", "--compression-format", "zstd", "--compression-level", str(LEVEL)]
        layout = f"oci:{self.work / 'buildah-dist'}:bench:latest"
        self.record("buildah push", timed([*push, "localhost/bench", layout], env=environment))

    def forget_rattlers(self) -> None:
        if (self.work / "containers").exists():
            storage = ["--root", self.work / "containers/root", "--runroot", self.work / "containers/run"]
            check(["buildah", *storage, "rmi", "--all", "--force"])
        for name in ["context/env", "cache", "containers", "buildah-dist", "tmp"]:
            shutil.rmtree(self.work / name, ignore_errors=True)
        (self.work / "context").mkdir(exist_ok=True)

    def imgforge_build(self) -> list:
        build = [self.imgforge, "build", "images.toml", "--offline", "--quiet", "--json", "--jobs", str(self.jobs)]
        return [*build, "--store", self.work / "store", "--output", self.work / "dist"]

    def use(self, lock: str) -> None:
        shutil.copy(self.work / lock, self.work / "project/pixi.lock")

    def record(self, name: str, run: dict) -> None:
        self.runs.setdefault(name, []).append(run)
        say(
            f"{name}: {run['seconds']:.2f} s, CPU {run['cpu']:.2f} s, {run['max_rss'] / 1e6:.0f} MB; "
            f"load before {run['load']:.1f}"
        )

    def compare(self) -> None:
        """Both have made the same environment: the same paths, with the same sizes and links."""
        ours, theirs = {}, {}
        for blob in self.layers(self.work / "dist"):
            read_tar(blob, PREFIX.removeprefix("/"), ours)
        read_tar(self.work / "layer.tar.zst", ".", theirs)
        # Records say in rattler's case where the installing host has its cache, and the history when that was.
        for entries in (ours, theirs):
            for name in [name for name in entries if name.startswith("conda-meta/")]:
                entries[name] = "record"
        different = [name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]
        for name in different[:20]:
            print(f"{name}: imgforge has {ours.get(name)}, rattler {theirs.get(name)}", file=sys.stderr)
        if different:
            sys.exit(f"{len(different)} paths differ: the benchmark compares two different things")
        say(f"both images have the same {len(ours):,} entries")

    # What is said about it.

    def describe(self, facts: dict) -> None:
        zstd = output(["zstd", "--version"]).split("v")[1].split(",")[0]
        versions = [output([self.imgforge, "--version"]).strip(), f"py-rattler {version('py-rattler')}", f"zstd {zstd}"]
        if self.with_buildah:
            versions.append(output(["buildah", "--version"]).split(" (")[0])
        cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        fs = output(["df", "--output=fstype", self.work]).split()[-1]
        print(
            f"{facts['packages']} packages ({facts['noarch']} of them noarch), {facts['archives'] / 1e6:.0f} MB of archives; "
            f"{facts['files']:,} files, {facts['bytes'] / 1e6:,.0f} MB; half of the packages are below "
            f"{facts['median'] / 1e6:.2f} MB, the largest are {', '.join(facts['largest'])}. Prefixes in {facts['texts']} texts "
            f"and {facts['binaries']} binaries; {facts['entry_points']} entry points. Archives {facts['sha256'][:12]}.\n\n"
            f"{', '.join(versions)}; {CORES} cores ({cpu.group(1) if cpu else 'unknown'}), {fs}. Layers are zstd of level "
            f"{LEVEL}, by {self.jobs} threads.\n"
        )

    def report(self) -> None:
        ours = self.runs["imgforge"]
        rattler = add(self.runs["rattler install"], self.runs["tar and zstd"])
        rows = [("imgforge build", ours, ""), ("rattler install, tar, zstd, two hashes", rattler, ratio(rattler, ours))]
        rows += [(f"– {name}", self.runs[name], "") for name in ["rattler install", "tar and zstd"]]
        if self.with_buildah:
            buildah = add(self.runs["rattler install"], self.runs["buildah build"], self.runs["buildah push"])
            rows.append(("rattler install, buildah build and push", buildah, ratio(buildah, ours)))
            rows += [(f"– {name}", self.runs[name], "") for name in ["buildah build", "buildah push"]]
        print("| | least | median | most | CPU | peak memory | ratio: time, CPU |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        for name, runs, times in rows:
            seconds = [run["seconds"] for run in runs]
            cells = [f"{value:.1f} s" for value in (min(seconds), median(seconds), max(seconds), middle(runs, "cpu"))]
            print(f"| {name} | {' | '.join(cells)} | {max(run['max_rss'] for run in runs) / 1e6:.0f} MB | {times} |")
        made = list(self.layers(self.work / "dist"))
        print(
            f"\nimgforge's image: {len(made)} layers, {sum(path.stat().st_size for path in made) / 1e6:.0f} MB; "
            f"one layer of tar and zstd: {(self.work / 'layer.tar.zst').stat().st_size / 1e6:.0f} MB."
        )

    def report_bump(self, name: str) -> None:
        """Another version of one package, in the store that has what was built before."""
        runs = []
        for _ in range(self.rounds):
            self.build_with_imgforge_quietly()
            self.use("bumped.lock")
            done = timed(self.imgforge_build(), cwd=self.work / "project")
            [image] = json.loads(done["output"])["images"]
            [platform] = image["platforms"]
            runs.append(done)
            layers = platform["layers"]
            made = [layer for layer in layers if layer["made"]]
        print(
            f"\nAnother version of {name}: {len(made)} of {len(layers)} layers made again, "
            f"{sum(layer['size'] for layer in made) / 1e6:.1f} MB; {middle(runs, 'seconds') * 1000:.0f} ms, "
            f"{max(run['max_rss'] for run in runs) / 1e6:.0f} MB of memory (median of {len(runs)}): "
            + "; ".join(layer["title"] for layer in made)
        )

    def build_with_imgforge_quietly(self) -> None:
        """The state before the bump: everything built and recorded."""
        for name in ["store", "dist"]:
            shutil.rmtree(self.work / name, ignore_errors=True)
        (self.work / "project/images.lock").unlink(missing_ok=True)
        self.use("pixi.lock")
        check(self.imgforge_build(), cwd=self.work / "project")

    def layers(self, layout: Path):
        """The blobs of a layout's only image, from the bottom up."""
        blob = lambda digest: layout / "blobs" / digest.replace(":", "/")
        [image] = json.loads((layout / "index.json").read_text())["manifests"]
        for layer in json.loads(blob(image["digest"]).read_text())["layers"]:
            yield blob(layer["digest"])


def timed(command: list, **options) -> dict:
    """Runs a command and returns what it took: wall and CPU seconds, and its peak resident memory, in bytes.

    Those of the processes that it started are in the CPU seconds, and the largest of them is in the peak.
    """
    # What somebody else has written is not this command's to wait for.
    os.sync()
    command = [str(word) for word in command]
    load = os.getloadavg()[0]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **options)
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"failed with {process.returncode}: {' '.join(command)[:400]}")
    cpu = usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "cpu": cpu, "max_rss": usage.ru_maxrss * 1024, "load": load, "output": text}


def add(*steps: list[dict]) -> list[dict]:
    """Steps of one thing, round by round: their times together, and the largest of their peaks."""
    return [
        {
            "seconds": sum(run["seconds"] for run in runs),
            "cpu": sum(run["cpu"] for run in runs),
            "max_rss": max(run["max_rss"] for run in runs),
        }
        for runs in zip(*steps)
    ]


def middle(runs: list[dict], field: str) -> float:
    return median(run[field] for run in runs)


def ratio(theirs: list[dict], ours: list[dict]) -> str:
    return ", ".join(f"{middle(theirs, field) / middle(ours, field):.1f} ×" for field in ["seconds", "cpu"])


def read_tar(path: Path, below: str, found: dict) -> None:
    """Entries of a layer that are below a folder: each is what it is in the last layer that has it."""
    unpack = subprocess.Popen(["zstd", "--decompress", "--quiet", "--stdout", path], stdout=subprocess.PIPE)
    with tarfile.open(fileobj=unpack.stdout, mode="r|") as archive:
        for member in archive:
            name = os.path.relpath(member.name, below)
            if name.startswith("..") or name == "." or member.isdir():
                continue
            if member.issym():
                found[name] = f"link to {member.linkname}"
            elif member.islnk():
                found[name] = found[os.path.relpath(member.linkname, below)]
            else:
                found[name] = f"{member.size} bytes, mode {member.mode & 0o111:o}"
    if unpack.wait() != 0:
        sys.exit(f"{path} can't be decompressed")


def warm(paths: list[Path]) -> None:
    """Reads files into the page cache: everybody starts with the archives there."""
    for path in paths:
        with open(path, "rb") as file:
            while file.read(1 << 20):
                pass


def check(command: list, **options) -> None:
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, **options)


def output(command: list) -> str:
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
