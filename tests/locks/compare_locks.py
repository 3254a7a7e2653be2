"""Makes an image of each environment, installs the same lock with uv at the same prefix, and compares the two trees.

Usage: compare_locks.py IMGFORGE SCRATCH [--large] [NAME…]: the program, an empty folder, names of environments.toml.

What may differ is what tests/uv/compare.py leaves out, and one thing that a single wheel can't show: where two packages
bring one path with different content, uv keeps the file that came last, and imgforge that of the package with the later
name. Either is right here as long as imgforge names the path.

An image is read as its layers say, with nothing unpacked; so modes, owners and times are checked too.
"""

import hashlib
import io
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "uv"))
import compare

HOST = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}[platform.machine()]
CPU = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
# What of an environment's table is not for images.toml.
OURS_ALONE = ("lock", "platforms", "large")
# Longer files are compared by their hash: some are larger than memory should hold twice.
WHOLE_MAX = 4 << 20


def main(program, scratch, *arguments):
    environments = tomllib.loads((ROOT / "tests" / "locks" / "environments.toml").read_text())
    names = [name for name in arguments if name != "--large"]
    for name in set(names) - environments.keys():
        sys.exit(f"environments.toml has no {name}")
    if not names:
        names = [name for name, table in environments.items() if "--large" in arguments or not table.get("large")]

    failed = []
    for name in names:
        comparison = Comparison(program, pathlib.Path(scratch), name, environments[name])
        try:
            differences = comparison.run()
        except Failure as failure:
            differences = [str(failure)]
        for difference in differences:
            print(f"{name}: {difference}", flush=True)
        if differences:
            failed.append(name)
    print(f"{len(names)} environments, {len(failed)} with differences {' '.join(failed)}".rstrip())
    return 1 if failed else 0


class Failure(Exception):
    """A program that failed, or an image that is not as it should be."""


class Comparison:
    """One environment of environments.toml."""

    def __init__(self, program, scratch, name, table):
        self.program, self.name, self.table = program, name, table
        self.prefix = scratch / "prefix" / "venv"
        self.folder = scratch / name
        self.store = scratch / "store"
        self.platforms = table.get("platforms", [HOST])
        self.glibc = platform.libc_ver()[1]
        settings = {"UV_CACHE_DIR": str(scratch / "cache"), "UV_NO_CONFIG": "1", "UV_LINK_MODE": "hardlink"}
        outside = {key: value for key, value in os.environ.items() if not key.startswith(("UV_", "IMGFORGE_"))}
        self.environment = {**outside, **settings}

    def run(self):
        """Every difference, in words; prints what was found equal."""
        lock = ROOT / self.table["lock"]
        # uv wants to write beside a lock.
        shutil.copytree(lock.parent, self.folder / "project")
        self.lock = self.folder / "project" / lock.name
        self.write_images()
        conflicts = self.build()
        differences = []
        for at in self.platforms:
            before, theirs = self.install(at)
            ours, seen = read_image(self.folder / "dist", at, self.prefix)
            disputed = {conflict["path"].lstrip("/") for conflict in conflicts[at]}
            disputed = {os.path.relpath("/" + path, self.prefix) for path in disputed}
            found = compare_trees(before, theirs, ours, seen, disputed)
            told = f", {len(disputed)} paths with two owners" if disputed else ""
            print(f"{self.name} {at}: {len(theirs)} files compared, {len(found)} differences{told}", flush=True)
            differences += [f"{at}: {difference}" for difference in found]
        shutil.rmtree(self.folder)
        return differences

    # ---- imgforge's side

    def write_images(self):
        interpreter = self.interpreter()
        table = {key: value for key, value in self.table.items() if key not in OURS_ALONE}
        if "musl" not in table:
            table["glibc"] = self.glibc
        table |= {
            "lock": f"project/{self.lock.name}",
            "prefix": str(self.prefix),
            "python": platform.python_version(),
            "interpreter": interpreter,
        }
        # JSON's strings, lists and booleans are TOML's.
        lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
        self.folder.joinpath("images.toml").write_text(
            f'version = 1\n[settings]\ncompression = "gzip"\nplatforms = {json.dumps(self.platforms)}\n'
            '[base.empty]\nscratch = true\n[image.compared]\nbase = "empty"\nenvs = ["compared"]\n'
            "[env.compared]\n" + "\n".join(lines) + "\n"
        )

    def interpreter(self):
        """As uv finds it: the path need not be that of this process."""
        self.make_venv()
        return os.readlink(self.prefix / "bin" / "python")

    def build(self):
        """Builds twice, and lets imgforge check the result: nothing is left to do the second time. The conflicts."""
        self.imgforge("plan")
        first = self.imgforge("build")["images"][0]
        if [entry["platform"] for entry in first["platforms"]] != self.platforms:
            raise Failure(f"platforms {[entry['platform'] for entry in first['platforms']]}, not {self.platforms}")
        second = self.imgforge("build", "--locked", "--offline")["images"][0]
        made = [layer["title"] for entry in second["platforms"] for layer in entry["layers"] if layer["made"]]
        if made or first["digest"] != second["digest"]:
            raise Failure(f"a second build makes {made}, {second['digest']} after {first['digest']}")
        left = [
            layer["title"]
            for image in self.imgforge("plan")["images"]
            for layer in image["layers"]
            if layer["fate"] != "reuse" or layer["fetch_bytes"]
        ]
        if left:
            raise Failure(f"after a build, `plan` would still make {left}")
        self.imgforge("verify", "--layout", "dist")
        return {entry["platform"]: entry["conflicts"] for entry in first["platforms"]}

    def imgforge(self, *arguments):
        command = [self.program, *arguments, "--json", "--quiet", "--store", str(self.store)]
        return json.loads(self.command(command, self.folder))

    # ---- uv's side

    def install(self, at):
        """The environment as `uv venv` leaves it, and with the lock installed."""
        self.make_venv()
        before = tree(self.prefix)
        installer = self.poetry(at) if self.lock.name == "poetry.lock" else self.installer()
        self.command([*installer, *self.target(at)], self.lock.parent)
        return before, tree(self.prefix)

    def make_venv(self):
        shutil.rmtree(self.prefix, ignore_errors=True)
        self.command(["uv", "venv", "--quiet", "--python", sys.executable, str(self.prefix)], "/")
        self.environment |= {"VIRTUAL_ENV": str(self.prefix), "UV_PROJECT_ENVIRONMENT": str(self.prefix)}

    def installer(self):
        table = self.table
        chosen = [f"--extra={extra}" for extra in table.get("extras", [])]
        chosen += [f"--group={group}" for group in table.get("groups", [])]
        if self.lock.name.endswith(".py.lock"):
            script = self.lock.name.removesuffix(".lock")
            return ["uv", "sync", "--quiet", "--frozen", "--no-build", "--active", "--script", script]
        if self.lock.name == "uv.lock":
            command = ["uv", "sync", "--quiet", "--frozen", "--no-build", "--no-install-workspace", *chosen]
            if "package" in table:
                command.append(f"--package={table['package']}")
            if not table.get("default-groups"):
                command.append("--no-default-groups")
            return command
        if self.lock.suffix == ".toml":
            return ["uv", "pip", "sync", "--quiet", "--no-build", "--preview-features=pylock", *chosen, self.lock.name]
        return ["uv", "pip", "install", "--quiet", "--no-build", "--require-hashes", "-r", self.lock.name]

    def poetry(self, at):
        """What Poetry would install, for uv: the files that its lock has, and nothing that they need beside."""
        table = self.table
        libc = f"musllinux_{table['musl']}" if "musl" in table else f"manylinux_{self.glibc}"
        options = [f"extra={extra}" for extra in table.get("extras", [])]
        options += [f"group={group}" for group in table.get("groups", [])]
        options += ["default-groups"] * table.get("default-groups", False)
        command = [ROOT / "tests" / "locks" / "poetry.sh", self.lock.parent]
        target = [platform.python_version(), CPU[at], libc.replace(".", "_")]
        selected = self.command([*command, *target, *options], "/").splitlines()
        files = tomllib.loads(self.lock.read_text())
        tables = [*files["package"], *({"files": it} for it in files["metadata"].get("files", {}).values())]
        hashes = {file["file"]: file["hash"] for table in tables for file in table.get("files", [])}
        requirements = [line.split(" ") for line in selected]
        text = "".join(f"{name} --hash={hashes[file]}\n" for name, file in requirements)
        self.lock.with_name("selected.txt").write_text(text)
        return ["uv", "pip", "install", "--quiet", "--no-build", "--no-deps", "--require-hashes", "-r", "selected.txt"]

    def target(self, at):
        if "musl" in self.table:
            return [f"--python-platform={CPU[at]}-unknown-linux-musl"]
        if at != HOST:
            return [f"--python-platform={CPU[at]}-manylinux_{self.glibc.replace('.', '_')}"]
        return []

    def command(self, command, folder):
        done = subprocess.run(command, cwd=folder, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failure(f"{' '.join(map(str, command))}\n{done.stderr.strip()[-2000:]}")
        return done.stdout


def compare_trees(before, theirs, ours, seen, disputed):
    """`before` is what `uv venv` leaves, `seen` every content that a layer of the image has at a path."""
    settings = ours.get("pyvenv.cfg", ("", False, b""))[2].replace(
        f"version_info = {platform.python_version()}\n".encode(),
        "version_info = {}.{}\n".format(*sys.version_info).encode(),
    )
    environment = {path: entry for path, entry in ours.items() if path in before}
    environment["pyvenv.cfg"] = "file", False, settings
    found = compare.compare_environment(dict(before), environment)

    installed = {path: entry for path, entry in theirs.items() if before.get(path) != entry}
    installed = {path: entry for path, entry in installed.items() if not compare.left_out(path) and path != ".lock"}
    rest = {path: entry for path, entry in ours.items() if path not in before or path in installed}
    # Some packages have others' distributions inside; those are files like any.
    records = [path for path in installed if path.endswith(".dist-info/RECORD") and path.count("/") == 4]
    for record in records:
        installer = record.removesuffix("RECORD") + "INSTALLER"
        pair = installed.pop(installer), rest.pop(installer, None)
        if pair != (("file", False, b"uv"), ("file", False, b"imgforge")):
            found.append(f"{installer}: {pair}")
        if record in rest:
            rows = compare.compare_records(installed.pop(record)[2], rest.pop(record)[2], rest)
            found += [f"{record}: {row}" for row in rows]
    if not records:
        found.append("uv has installed nothing")
    for path in disputed:
        if installed.get(path) in seen.get(path, []) and path in rest:
            del installed[path], rest[path]
    return found + compare.compare(installed, rest)


def read_image(layout, at, prefix):
    """Every path below the prefix as the image of a platform has it, and all that layers have at the path."""

    def blob(descriptor):
        return layout / "blobs" / descriptor["digest"].replace(":", "/")

    index = json.loads((layout / "index.json").read_text())
    while "layers" not in index:
        (descriptor,) = (
            entry
            for entry in index["manifests"]
            if "platform" not in entry or "{os}/{architecture}".format(**entry["platform"]) == at
        )
        index = json.loads(blob(descriptor).read_text())
    entries, seen = {}, {}
    for descriptor in index["layers"]:
        with tarfile.open(blob(descriptor), "r:gz") as archive:
            for member in archive:
                if member.isdir() and prefix.is_relative_to("/" + member.name):
                    continue
                path = os.path.relpath("/" + member.name, prefix)
                if path.startswith("..") or "/.wh." in "/" + path:
                    raise Failure(f"{member.name} is not the environment's")
                entry = read_member(archive, member)
                entries[path] = entry
                seen.setdefault(path, []).append(entry)
    return entries, seen


def read_member(archive, member):
    owner = member.uid, member.gid, member.uname, member.gname, member.mtime
    if owner != (0, 0, "", "", 0):
        raise Failure(f"{member.name}: owner, names and time are {owner}")
    modes = {tarfile.DIRTYPE: (0o755,), tarfile.SYMTYPE: (0o777,), tarfile.REGTYPE: (0o644, 0o755)}
    if member.mode not in modes.get(member.type, ()):
        raise Failure(f"{member.name}: type {member.type}, mode {member.mode:o}")
    if member.isdir():
        return "folder", False, b""
    if member.issym():
        return "link", False, member.linkname.encode()
    return "file", member.mode == 0o755, content(archive.extractfile(member))


def tree(root):
    """Every path below a folder, as `read_image` has them; a link's target is its content."""
    entries = {}
    for folder, folders, names in os.walk(root):
        for name in folders + names:
            path = pathlib.Path(folder, name)
            if path.is_symlink():
                entry = "link", False, os.fsencode(os.readlink(path))
            elif path.is_dir():
                entry = "folder", False, b""
            else:
                with path.open("rb") as file:
                    entry = "file", bool(path.stat().st_mode & 0o111), content(file)
            entries[os.path.relpath(path, root)] = entry
    return entries


def content(file):
    """A file's bytes, or the SHA-256 of many."""
    start = file.read(WHOLE_MAX)
    if len(start) < WHOLE_MAX:
        return start
    digest = hashlib.sha256(start)
    for chunk in iter(lambda: file.read(io.DEFAULT_BUFFER_SIZE * 32), b""):
        digest.update(chunk)
    return digest.digest()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
