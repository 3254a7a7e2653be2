"""A channel of a realistic environment, about 1 GB of files in some 180 packages, of what this machine has anyway.

The packages are those of Debian that are installed here, one conda package for each, and the wheels of the repository's
vendor folder: real names, real files, and the sizes that software has. They are as many of each size as in environments of
data science: one of more than 200 MB, some of tens, and a hundred that are small. Paths below `/usr` in scripts, in
configuration and among the strings of binaries become the placeholder, so that packages have prefixes to replace where
packages have them. Nothing of it is meant to be run. The same machine gives the same bytes.
"""

import concurrent.futures
import configparser
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples/conda"))

import channel  # noqa: E402

# How many packages there are of at least so many bytes, of files.
SIZES = [(200_000_000, 1), (100_000_000, 1), (10_000_000, 13), (1_000_000, 45), (1_000, 95)]
# conda-build's own default. It shows in how fast a package is decompressed.
LEVEL = 19
# Where conda-build would find the prefix as text.
TEXTS = (".pc", ".cmake", ".la", ".sh", ".conf", ".mk", ".service")
IN_TEXT = re.compile(rb"(?<![\w./-])/usr\b(?!/local)")
IN_BINARY = re.compile(rb"(?<=\0)/usr(?=/(?:bin|etc|lib|libexec|share)[ -~]*\0)")
SITE_PACKAGES = "lib/python3.11/site-packages"


def make(folder: Path) -> dict:
    """Makes the channel, and says what is in it."""
    plans = plan()
    with concurrent.futures.ProcessPoolExecutor() as pool:
        made = list(pool.map(write, plans, [folder] * len(plans)))
    repodata = {
        subdir: {"info": {"subdir": subdir}, "packages": {}, "packages.conda": {}, "repodata_version": 1}
        for subdir in ["linux-64", "noarch"]
    }
    for one in made:
        repodata[one["record"]["subdir"]]["packages.conda"][one["file"]] = one["record"]
    for subdir, content in repodata.items():
        (folder / subdir / "repodata.json").write_text(json.dumps(content, sort_keys=True, indent=1) + "\n")
    facts = {key: sum(one[key] for one in made) for key in ["files", "bytes", "texts", "binaries", "entry_points"]}
    facts["packages"] = len(made)
    facts["noarch"] = sum(one["record"]["subdir"] == "noarch" for one in made)
    facts["archives"] = sum(one["record"]["size"] for one in made)
    facts["largest"] = [
        f"{one['record']['name']} {one['bytes'] / 1e6:.0f} MB"
        for one in sorted(made, key=lambda one: -one["bytes"])[:5]
    ]
    sizes = sorted(one["bytes"] for one in made)
    facts["median"] = sizes[len(sizes) // 2]
    # What the bump is of: a package in the middle, which shares its layer with others.
    middle = sorted(made, key=lambda one: (one["bytes"], one["file"]))[len(made) // 2]
    facts["bumped"] = middle["record"]["name"]
    digests = sorted(one["record"]["sha256"] for one in made)
    facts["sha256"] = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return facts


def bump(folder: Path, name: str) -> str:
    """Adds another version of a package to the channel; returns the version."""
    [plan_of_it] = [plan for plan in plan() if conda_name(plan[1]) == name]
    one = write((*plan_of_it, ".1"), folder)
    path = folder / one["record"]["subdir"] / "repodata.json"
    repodata = json.loads(path.read_text())
    repodata["packages.conda"][one["file"]] = one["record"]
    path.write_text(json.dumps(repodata, sort_keys=True, indent=1) + "\n")
    return one["record"]["version"]


def plan() -> list[tuple]:
    """What there will be: (function, name, whatever else it takes). Names are unique, and so are paths."""
    plans = [(of_python, "python")]
    for path in sorted((ROOT / "vendor").glob("*.whl")):
        plans.append((of_wheel, path.name.split("-")[0], path))
    taken = {conda_name(plan[1]) for plan in plans}
    debian, seen = [], set()
    for name, version in installed():
        files = [path for path in files_of(name) if path not in seen]
        is_python = name.startswith("python3-")
        if is_python:
            files = [path for path in files if path.startswith("usr/lib/python3/dist-packages/")]
        short = name.removeprefix("python3-")
        if not files or conda_name(short) in taken or name.startswith(("python3.", "libpython3")):
            continue
        seen.update(files)
        taken.add(conda_name(short))
        if is_python:
            plans.append((of_debian_python, short, version, files))
        else:
            debian.append((sum(os.lstat(f"/{path}").st_size for path in files), (of_debian, name, version, files)))
    # As good as at random, and the same each time.
    debian.sort(key=lambda one: hashlib.sha256(one[1][1].encode()).digest())
    most = None
    for least, count in SIZES:
        fitting = [one for size, one in debian if size >= least and (most is None or size < most)]
        if len(fitting) < count:
            sys.exit(
                f"{len(fitting)} packages of at least {least:,} bytes are installed here, and {count} are wanted: "
                "apt-get install llvm-14-dev git podman gcc-12 postgresql-15 valgrind vim-runtime libicu-dev"
            )
        plans += fitting[:count]
        most = least
    return plans


def installed() -> list[tuple[str, str]]:
    """Debian's own packages on this machine, and their versions."""
    form = "${Package}\t${Version}\t${db:Status-Abbrev}\t${Maintainer}\n"
    lines = subprocess.run(["dpkg-query", "--show", f"--showformat={form}"], check=True, capture_output=True, text=True)
    found = {}
    for line in lines.stdout.splitlines():
        name, version, status, maintainer = line.split("\t")
        if status.startswith("ii") and "debian.org" in maintainer:
            found[name] = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*|\w+)", version).group(1)
    return sorted(found.items())


def files_of(name: str) -> list[str]:
    """Files and links of a package, as they are below `/`, where `/usr` is merged."""
    listed = subprocess.run(["dpkg-query", "--listfiles", name], check=True, capture_output=True, text=True).stdout
    found = set()
    for line in listed.splitlines():
        path = re.sub(r"^/(bin|sbin|lib|lib64)/", r"/usr/\1/", line)
        if not path.startswith("/usr/") or "__pycache__" in path or not os.access(path, os.R_OK):
            continue
        if stat.S_ISREG(os.lstat(path).st_mode) or os.path.islink(path):
            found.add(path.removeprefix("/"))
    return sorted(found)


def write(plan: tuple, folder: Path) -> dict:
    """Makes one package of the channel."""
    function, name, *rest = plan
    suffix = rest.pop() if rest and rest[-1] == ".1" else ""
    package = function(name, *rest)
    if suffix:
        package.index["version"] += suffix
        package.add(f"share/{name}/changes.txt", b"Another version.\n")
    # What the example writes without compression, so that no library shows in its digests.
    channel.zstandard = compress
    path = package.write(folder, "conda")
    content = path.read_bytes()
    files = [entry[0] for entry in package.files.values() if isinstance(entry, tuple)]
    prefixed = [b"\0" in content for content in files if channel.PLACEHOLDER.encode() in content]
    digests = {"md5": hashlib.md5(content).hexdigest(), "sha256": hashlib.sha256(content).hexdigest()}
    return {
        "file": path.name, "record": package.index | digests | {"size": len(content)}, "files": len(package.files),
        "bytes": sum(map(len, files)), "texts": prefixed.count(False), "binaries": prefixed.count(True),
        "entry_points": len(package.entry_points),
    }


def compress(data: bytes) -> bytes:
    command = ["zstd", "--quiet", f"-{LEVEL}", "--stdout", f"--stream-size={len(data)}"]
    return subprocess.run(command, input=data, check=True, stdout=subprocess.PIPE).stdout


def of_python(_: str) -> channel.Package:
    return channel.python(ROOT / "vendor")


def of_wheel(_: str, path: Path) -> channel.Package:
    return channel.of_wheel(path)


def of_debian(name: str, version: str, files: list[str]) -> channel.Package:
    package = channel.Package(conda_name(name), version, "h0_0", [], "linux-64")
    for path in files:
        add(package, path, path.removeprefix("usr/"))
    return package


def of_debian_python(name: str, version: str, files: list[str]) -> channel.Package:
    """Modules of Debian's: `noarch: python`, or for CPython 3.11 where one is compiled."""
    if any(path.endswith(".so") for path in files):
        package = channel.Package(conda_name(name), version, "py311h0_0", ["python 3.11.*"], "linux-64")
        below = SITE_PACKAGES
    else:
        package = channel.Package(conda_name(name), version, "py_0", ["python >=3.9"], "noarch", "python")
        below = "site-packages"
    for path in files:
        add(package, path, path.replace("usr/lib/python3/dist-packages", below, 1))
        if below == "site-packages" and path.endswith("-info/entry_points.txt"):
            points = configparser.ConfigParser(delimiters=("=",))
            points.optionxform = str
            points.read_string(Path("/", path).read_text())
            scripts = points["console_scripts"] if points.has_section("console_scripts") else {}
            package.entry_points = [f"{script} = {target}" for script, target in sorted(scripts.items())]
    return package


def add(package: channel.Package, source: str, path: str) -> None:
    source = Path("/", source)
    if source.is_symlink():
        target = os.readlink(source)
        if not target.startswith("/"):
            package.link(path, target)
        return
    content = source.read_bytes()
    if b"\0" in content:
        content = IN_BINARY.sub(channel.PLACEHOLDER.encode(), content)
    elif content.startswith(b"#!") or source.name.endswith(TEXTS):
        content = IN_TEXT.sub(channel.PLACEHOLDER.encode(), content)
    package.add(path, content, os.access(source, os.X_OK))


def conda_name(name: str) -> str:
    return re.sub("[-_.]+", "-", name).replace("+", "x").lower()
