"""Makes an image of each environment, installs the same packages with rattler for the same prefix, and compares the trees.

Usage: compare.py IMGFORGE SCRATCH [NAME…]: the program, an empty folder, names of ENVIRONMENTS.

What may differ, and nothing else:
- `conda-meta/history` has the time of each installation: compared without it;
- a record of `conda-meta` says where the package's archive was unpacked on the host that installed it, and when;
- versions of rattler differ in whether a record has a `sha256_in_prefix` for a symbolic link;
- where no package that has a path depends on another one that has it, rattler's result depends on which of them its
  threads link first, and it leaves empty folders in `__clobbers__`. One of its results has to be ours.

An image is read as its layers say, with nothing unpacked; so modes, owners and times are checked too.
"""

import asyncio
import gzip
import hashlib
import json
import os
import pathlib
import re
import stat
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "examples" / "conda"), str(ROOT / "tests" / "conda")]

import rattler
from rattler.lock import LockChannel, LockFile, LockPlatform
import channel
import oddities

# Each environment's requirements. `link-scripts` is set for all.
ENVIRONMENTS = {
    "python": ["python", "numpy", "pytest", "idna"],
    "oddities": ["python", "prefixes", "links", "generic", "points", "scripts"],
    "clobbers": ["clobber-early", "clobber-late", "clobber-other", "links"],
    "clobbers-two": ["clobber-early", "clobber-other"],
    "bare": ["generic"],
}
PREFIXES = ["/opt/conda/envs/e", "/p"]
# Of a record, what depends on the host or the time of the installation.
HOSTS_OWN = {"extracted_package_dir", "package_tarball_full_path", "link", "url", "channel"}


def main(program, scratch, *names):
    scratch = pathlib.Path(scratch)
    folder = scratch / "channel"
    channel.make(ROOT / "vendor", folder, oddities.packages())
    failed = []
    for name in names or ENVIRONMENTS:
        records = asyncio.run(solve(folder, ENVIRONMENTS[name]))
        trees = []
        for prefix in PREFIXES:
            work = scratch / f"{name}{prefix.replace('/', '-')}"
            work.mkdir()
            write_lock(work / "pixi.lock", folder, records)
            ours, clobbers = build(program, scratch / "store", work, prefix)
            for attempt in range(12 if clobbers else 1):
                theirs = asyncio.run(install(scratch, work / f"rattler-{attempt}", prefix, records))
                differences = compare(ours, theirs)
                if not differences:
                    break
            trees.append(ours)
            for difference in differences:
                print(f"{name} at {prefix}: {difference}", flush=True)
            told = f", {clobbers} paths with several owners" if clobbers else ""
            print(f"{name} at {prefix}: {len(theirs)} entries compared, {len(differences)} differences{told}", flush=True)
            if differences or ("clobbers" in name) != bool(clobbers):
                failed.append(f"{name} at {prefix}")
        failed += [f"{name}: {problem}" for problem in compare_prefixes(*trees)]
    for failure in failed:
        print(f"failed: {failure}")
    return 1 if failed else 0


async def solve(folder, specs):
    virtual = [
        rattler.GenericVirtualPackage(rattler.PackageName(name), rattler.Version(version), rattler.BuildString("0"))
        for name, version in [("__unix", "0"), ("__linux", "0"), ("__glibc", "2.36")]
    ]
    return await rattler.solve(
        [rattler.Channel(f"file://{folder}")], specs, platforms=["linux-64", "noarch"], virtual_packages=virtual
    )


def write_lock(path, folder, records):
    lock = LockFile([LockPlatform("linux-64")])
    lock.set_channels("default", [LockChannel(f"file://{folder}")])
    for record in records:
        lock.add_conda_package("default", LockPlatform("linux-64"), record)
    lock.to_path(path)


async def install(scratch, target, prefix, records):
    await rattler.install(
        records, target_prefix=target, cache_dir=scratch / "cache", platform=rattler.Subdir("linux-64"), show_progress=False,
        execute_link_scripts=False, alternative_target_prefix=prefix,
    )
    found = {}
    for path in sorted(target.rglob("*")):
        name, status = str(path.relative_to(target)), path.lstat()
        if stat.S_ISLNK(status.st_mode):
            found[name] = ("link", os.readlink(path))
        elif stat.S_ISDIR(status.st_mode):
            found[name] = ("folder", "")
        else:
            found[name] = (f"{stat.S_IMODE(status.st_mode) & 0o111:o}", plain(name, path.read_bytes()))
    filled = {str(above) for name, (kind, _) in found.items() if kind != "folder" for above in pathlib.PurePath(name).parents}
    return {name: entry for name, entry in found.items() if not name.startswith("__clobbers__/") or entry[0] != "folder" or name in filled}


def build(program, store, work, prefix):
    work.joinpath("images.toml").write_text(
        'version = 1\n[settings]\nplatforms = ["linux/amd64"]\ncompression = "gzip"\n[base.empty]\nscratch = true\n'
        f'[env.e]\nlock = "pixi.lock"\nprefix = "{prefix}"\nlink-scripts = "ignore"\n'
        '[image.i]\nbase = "empty"\nenvs = ["e"]\n'
    )
    outputs = []
    for _ in range(2):
        done = subprocess.run(
            [program, "build", "--json", "--quiet", "--offline", "--store", str(store)], cwd=work, check=True,
            stdout=subprocess.PIPE,
        )
        outputs.append(json.loads(done.stdout)["images"][0])
    first, second = outputs
    assert first["digest"] == second["digest"], "a second build gives another image"
    assert not any(layer["made"] for entry in second["platforms"] for layer in entry["layers"]), "a second build makes layers"
    conflicts = first["platforms"][0]["conflicts"]
    return read_image(work / "dist", prefix), len({conflict["path"] for conflict in conflicts})


def read_image(layout, prefix):
    blob = lambda digest: layout / "blobs" / digest.replace(":", "/")
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(blob(index["manifests"][0]["digest"]).read_text())
    found = {}
    for layer in manifest["layers"]:
        with gzip.open(blob(layer["digest"])) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                assert (member.uid, member.gid, member.mtime) == (0, 0, 0), f"{member.name}: owner or time"
                assert not pathlib.PurePath(member.name).name.startswith(".wh."), f"{member.name}: a whiteout"
                name = os.path.relpath("/" + member.name, prefix)
                if name.startswith("..") or name == ".":
                    continue
                if member.issym():
                    entry = ("link", member.linkname)
                elif member.isdir():
                    entry = ("folder", "")
                elif member.islnk():
                    entry = found[os.path.relpath("/" + member.linkname, prefix)]
                else:
                    entry = (f"{member.mode & 0o111:o}", plain(name, archive.extractfile(member).read()))
                found[name] = entry
    return found


def plain(name, content):
    """Content without what depends on the time or the host of an installation."""
    if name.startswith("conda-meta/") and name.endswith(".json"):
        record = {key: value for key, value in json.loads(content).items() if key not in HOSTS_OWN}
        for path in record["paths_data"]["paths"]:
            if path["path_type"] == "softlink":
                path.pop("sha256_in_prefix", None)
        # The order of paths is that of linking, which has no meaning.
        record["paths_data"]["paths"].sort(key=lambda path: path["_path"])
        record["files"].sort()
        return json.dumps(record, sort_keys=True, indent=1)
    if name == "conda-meta/history":
        return re.sub(rb"==> .* <==", b"==> <==", content).decode()
    return f"sha256 {hashlib.sha256(content).hexdigest()}, {len(content)} bytes"


def compare(ours, theirs):
    differences = []
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in theirs:
            differences.append(f"{name}: rattler has no such thing")
        elif name not in ours:
            differences.append(f"{name}: only rattler has it")
        elif ours[name] != theirs[name]:
            differences.append(f"{name}: {show(ours[name], theirs[name])}")
    return differences


def show(ours, theirs):
    if all(text.startswith("{") for _, text in (ours, theirs)):
        ours, theirs = (json.loads(text) for _, text in (ours, theirs))
        if ours["paths_data"] != theirs["paths_data"]:
            ours, theirs = ({path["_path"]: path for path in record["paths_data"]["paths"]} for record in (ours, theirs))
        keys = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)][:3]
        return "; ".join(f"{key} = {str(ours.get(key))[:300]}, rattler's {str(theirs.get(key))[:300]}" for key in keys)
    return f"{ours}, rattler's {theirs}"


def compare_prefixes(first, second):
    """The same environment at two prefixes differs in what names the prefix, and nowhere else."""
    if first.keys() != second.keys():
        yield f"other paths at another prefix: {sorted(first.keys() ^ second.keys())[:5]}"
    named = {name for name, entry in first.items() if second.get(name) != entry}
    if named and not all(name.startswith(("bin/", "lib/", "share/", "conda-meta/", "__clobbers__/")) for name in named):
        yield f"differs with the prefix: {sorted(named)[:5]}"


if __name__ == "__main__":
    status = main(*sys.argv[1:])
    sys.stdout.flush()
    # Threads of rattler's outlive main: an interpreter that ends in order aborts when one of them comes back to it.
    os._exit(status)
