#!/usr/bin/env python3
"""Makes a conda channel of this machine out of the repository's vendor folder: Debian's CPython, and wheels.

    channel.py VENDOR CHANNEL

Real projects have their channels on servers. This one exists so that the example builds where no server can be reached,
and the tests have a channel that they know. The same inputs give the same bytes, so that locks can name their digests.
"""

import bz2
import configparser
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PLACEHOLDER = "/opt/placehold" + "_placehold" * 20
STAMP = 1700000000


class Package:
    """Files of a package, by path below the prefix: (content, executable) or a link's target."""

    def __init__(self, name, version, build, depends, subdir, noarch=None):
        self.index = {
            "name": name, "version": version, "build": build, "build_number": 0, "depends": depends,
            "subdir": subdir, "timestamp": STAMP * 1000, "license": "see the package",
        }
        if noarch:
            self.index["noarch"] = noarch
        else:
            self.index |= {"arch": "x86_64", "platform": "linux"}
        self.files = {}
        self.entry_points = []

    @property
    def stem(self):
        return "-".join(self.index[key] for key in ("name", "version", "build"))

    def add(self, path, content, executable=False):
        self.files[path] = (content, executable)

    def link(self, path, target):
        self.files[path] = target

    def info(self):
        paths = []
        for path, entry in sorted(self.files.items()):
            line = {"_path": path, "path_type": "softlink"}
            if isinstance(entry, tuple):
                content, _ = entry
                line = {
                    "_path": path, "path_type": "hardlink", "sha256": hashlib.sha256(content).hexdigest(),
                    "size_in_bytes": len(content),
                }
                if PLACEHOLDER.encode() in content:
                    line |= {"file_mode": "binary" if b"\0" in content else "text", "prefix_placeholder": PLACEHOLDER}
            paths.append(line)
        files = {"index.json": self.index, "paths.json": {"paths": paths, "paths_version": 1}, "about.json": {}}
        if self.index.get("noarch") == "python":
            files["link.json"] = {
                "noarch": {"type": "python", "entry_points": self.entry_points}, "package_metadata_version": 1,
            }
        return {f"info/{name}": (json.dumps(value, sort_keys=True).encode(), False) for name, value in files.items()}

    def write(self, channel, form):
        folder = channel / self.index["subdir"]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.stem}.{form}"
        if form == "tar.bz2":
            path.write_bytes(bz2.compress(tar(self.info() | self.files)))
        else:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as out:
                for name, content in [
                    ("metadata.json", b'{"conda_pkg_format_version": 2}'),
                    (f"info-{self.stem}.tar.zst", zstandard(tar(self.info()))),
                    (f"pkg-{self.stem}.tar.zst", zstandard(tar(self.files))),
                ]:
                    out.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
        return path


def tar(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, entry in sorted(files.items()):
            member = tarfile.TarInfo(path)
            member.mtime = STAMP
            if isinstance(entry, tuple):
                content, executable = entry
                member.size, member.mode = len(content), 0o755 if executable else 0o644
                archive.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = tarfile.SYMTYPE, entry
                archive.addfile(member)
    return out.getvalue()


def zstandard(data):
    """A frame of blocks that are not compressed: no library's version shows in it. Source: RFC 8878, section 3.1.1."""
    out = bytearray((0xFD2FB528).to_bytes(4, "little") + bytes([0x00, 0x68]))
    blocks = [data[at:at + (1 << 17)] for at in range(0, len(data), 1 << 17)] or [b""]
    for number, block in enumerate(blocks):
        is_last = number == len(blocks) - 1
        out += (int(is_last) | len(block) << 3).to_bytes(3, "little") + block
    return bytes(out)


def python(vendor):
    """Debian's CPython, moved: it finds its standard library from where it lies."""
    package = Package("python", "3.11.2", "h0_0_cpython", [], "linux-64")
    with tempfile.TemporaryDirectory() as scratch:
        for name in ["python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"]:
            [deb] = vendor.glob(f"{name}_*_amd64.deb")
            subprocess.run(["dpkg-deb", "--extract", deb, scratch], check=True)
        root = Path(scratch)
        package.add("bin/python3.11", (root / "usr/bin/python3.11").read_bytes(), True)
        for name in ["bin/python", "bin/python3"]:
            package.link(name, "python3.11")
        for path in sorted((root / "usr/lib/python3.11").rglob("*")):
            below = f"lib/python3.11/{path.relative_to(root / 'usr/lib/python3.11')}"
            if path.is_symlink():
                package.link(below, os.readlink(path))
            elif path.is_file() and path.name != "EXTERNALLY-MANAGED" and "__pycache__" not in path.parts:
                content = path.read_bytes()
                if path.name.startswith("_sysconfigdata"):
                    content = content.replace(b"'/usr", f"'{PLACEHOLDER}".encode())
                package.add(below, content, os.access(path, os.X_OK))
    # Debian's CPython looks for modules of packages in a folder of another name.
    package.link("lib/python3.11/dist-packages", "site-packages")
    package.add("lib/python3.11/site-packages/README.txt", b"Packages of this environment.\n")
    return package


def of_wheel(path, depends=(), build="py_0"):
    """A wheel as a conda package: `noarch: python` where it is pure, else for CPython 3.11 on linux-64."""
    name, version = path.name.split("-")[:2]
    name = re.sub("[-_.]+", "-", name).lower()
    pure = path.name.endswith("-none-any.whl")
    if pure:
        package = Package(name, version, build, ["python >=3.9", *depends], "noarch", "python")
        site_packages = "site-packages"
    else:
        package = Package(name, version, "py311h0_0", ["python 3.11.*", *depends], "linux-64")
        site_packages = "lib/python3.11/site-packages"
    scripts = {}
    with zipfile.ZipFile(path) as wheel:
        for entry in wheel.infolist():
            if entry.is_dir() or entry.filename.endswith(".dist-info/RECORD"):
                continue
            content = wheel.read(entry)
            if ".data/" in entry.filename:
                raise SystemExit(f"{path.name}: {entry.filename} is not provided for")
            package.add(f"{site_packages}/{entry.filename}", content, bool(entry.external_attr >> 16 & 0o111))
            if entry.filename.endswith(".dist-info/entry_points.txt"):
                points = configparser.ConfigParser(delimiters=("=",))
                points.optionxform = str
                points.read_string(content.decode())
                scripts = dict(points["console_scripts"]) if points.has_section("console_scripts") else {}
    if pure:
        package.entry_points = [f"{name} = {target}" for name, target in sorted(scripts.items())]
    else:
        for script, target in scripts.items():
            module, function = target.split(":")
            text = f"#!{PLACEHOLDER}/bin/python3.11\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
            package.add(f"bin/{script}", text.encode(), True)
    return package


def make(vendor, channel, others=()):
    """The channel, with further packages in it: pairs of a package and `conda` or `tar.bz2`."""
    shutil.rmtree(channel, ignore_errors=True)

    def wheel(name, *depends):
        [path] = vendor.glob(f"{name}-*.whl")
        return of_wheel(path, depends)

    made = [
        (python(vendor), "conda"),
        (wheel("numpy"), "conda"),
        (wheel("pytest", "iniconfig", "packaging", "pluggy >=1", "pygments"), "conda"),
        (wheel("iniconfig"), "tar.bz2"),
        (wheel("packaging"), "tar.bz2"),
        (wheel("pluggy"), "tar.bz2"),
        (wheel("pygments"), "conda"),
        (wheel("idna"), "tar.bz2"),
        *others,
    ]
    repodata = {
        subdir: {"info": {"subdir": subdir}, "packages": {}, "packages.conda": {}, "repodata_version": 1}
        for subdir in ["linux-64", "noarch"]
    }
    for package, form in made:
        path = package.write(channel, form)
        content = path.read_bytes()
        record = package.index | {
            "md5": hashlib.md5(content).hexdigest(), "sha256": hashlib.sha256(content).hexdigest(), "size": len(content),
        }
        kind = "packages.conda" if form == "conda" else "packages"
        repodata[package.index["subdir"]][kind][path.name] = record
    for subdir, content in repodata.items():
        (channel / subdir).mkdir(exist_ok=True)
        (channel / subdir / "repodata.json").write_text(json.dumps(content, sort_keys=True, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    make(*map(Path, sys.argv[1:]))
