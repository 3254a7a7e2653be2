"""Installs each wheel with uv, unpacks imgforge's layer of it, and compares the two trees.

Usage: compare.py UNPACK_WHEELS SCRATCH WHEELS, all paths: the example program, an empty folder, a folder of wheels.

What may differ is what crates/layer/src/wheel/mod.rs and crates/layer/src/environment.rs document, and nothing else; the
constants and functions below name it piece by piece.
"""

import base64
import csv
import os
import pathlib
import shutil
import stat
import subprocess
import sys

# Tell where a file was found or when, and are left out.
LEFT_OUT = ("direct_url.json", "uv_cache.json", "uv_build.json")
# Activation scripts that imgforge makes with its own text, and what it does not make.
OWN_TEXT = {"bin/activate", "bin/activate.csh", "bin/activate.fish"}
APART = {
    "bin/activate.bat",
    "bin/activate.nu",
    "bin/activate.ps1",
    "bin/activate.xsh",
    "bin/activate_this.py",
    "bin/deactivate.bat",
    "bin/pydoc.bat",
    ".gitignore",
    ".lock",
    "CACHEDIR.TAG",
}


def main(program, scratch, wheels):
    scratch = pathlib.Path(scratch)
    prefix = scratch / "prefix" / "venv"
    minor = sys.version_info.minor
    uv = dict(os.environ, UV_CACHE_DIR=str(scratch / "cache"), VIRTUAL_ENV=str(prefix), UV_NO_CONFIG="1")
    files, differences = 0, []

    names = sorted(pathlib.Path(wheels).glob("*.whl"))
    if not names:
        sys.exit(f"no wheels in {wheels}")
    for number, wheel in enumerate([None, *names]):
        for folder in (prefix, scratch / "out"):
            shutil.rmtree(folder, ignore_errors=True)
        run(["uv", "venv", "--quiet", "--python", sys.executable, str(prefix)], uv)
        before = tree(prefix)
        # As uv found it: the path need not be that of this process.
        interpreter = os.readlink(prefix / "bin" / "python")
        arguments = [program, str(prefix), str(minor), interpreter, str(scratch / "out")]
        if wheel is None:
            run(arguments, uv)
            ours = tree((scratch / "out" / "environment").joinpath(*prefix.parts[1:]))
            found = compare_environment(before, ours)
            files += len(before)
            label = "uv venv"
        else:
            label = wheel.name
            installed = attempt(
                ["uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--no-compile", str(wheel)], uv
            )
            unpacked = attempt([*arguments, str(wheel)], uv)
            if installed and "invalid metadata" in installed:
                print(f"{label}: uv's resolver refuses its METADATA, which is not ours to judge")
                found = []
            elif installed or unpacked:
                found = [f"uv: {installed or 'installs it'}; imgforge: {unpacked or 'installs it'}"]
                if installed and unpacked:
                    print(f"{label}: refused by both: {found[0]}")
                    found = []
            else:
                theirs = {path: entry for path, entry in tree(prefix).items() if before.get(path) != entry}
                ours = tree((scratch / "out" / wheel.name).joinpath(*prefix.parts[1:]))
                found = compare_wheel(theirs, ours)
                files += len(theirs)
        differences += [f"{label}: {difference}" for difference in found]
        for difference in found:
            print(f"{label}: {difference}", flush=True)
        print(f"{number}/{len(names)} {label}", file=sys.stderr)
    print(f"{len(names)} wheels, {files} files compared, {len(differences)} differences")
    return 1 if differences else 0


def compare_environment(theirs, ours):
    """The files of `uv venv`, less the activation scripts and the like; pyvenv.cfg by its settings."""
    missing = [f"{path}: only uv has it" for path in OWN_TEXT if path in theirs and path not in ours]
    theirs = {path: entry for path, entry in theirs.items() if path not in APART | OWN_TEXT}
    ours = {path: entry for path, entry in ours.items() if path not in OWN_TEXT}
    settings = theirs.pop("pyvenv.cfg"), ours.pop("pyvenv.cfg")
    theirs_settings, ours_settings = (
        dict(line.split(" = ", 1) for line in text.decode().splitlines()) for _, _, text in settings
    )
    # The tool's own version, and the patch release, which the caller of `environment` may know.
    theirs_settings.pop("uv", None)
    theirs_settings["version_info"] = ".".join(theirs_settings["version_info"].split(".")[:2])
    found = []
    if theirs_settings != ours_settings:
        found.append(f"pyvenv.cfg: uv {theirs_settings}, imgforge {ours_settings}")
    return missing + found + compare(theirs, ours)


def compare_wheel(theirs, ours):
    """The files of a distribution; RECORD by its rows, INSTALLER by its being there."""
    theirs = {path: entry for path, entry in theirs.items() if not left_out(path) and path != ".lock"}
    # Folders that the environment has already are in a layer too.
    ours = {
        path: entry
        for path, entry in ours.items()
        if path in theirs or entry[0] != "folder" or not any(other.startswith(path + "/") for other in theirs)
    }
    found = []
    # Some packages have others' distributions inside; those are files like any.
    records = [path for path in theirs if path.endswith(".dist-info/RECORD") and path.count("/") == 4]
    if len(records) != 1:
        found.append(f"uv left {len(records)} RECORDs")
    for record in records:
        info = record.removesuffix("RECORD")
        installer = theirs.pop(info + "INSTALLER"), ours.pop(info + "INSTALLER", None)
        if installer[0][2] != b"uv" or installer[1] != ("file", False, b"imgforge"):
            found.append(f"INSTALLER: {installer}")
        theirs_record, ours_record = theirs.pop(record), ours.pop(record, None)
        if ours_record is None:
            found.append("RECORD is missing")
        else:
            found += compare_records(theirs_record[2], ours_record[2], ours)
    return found + compare(theirs, ours)


def left_out(path):
    parts = path.split("/")
    return "__pycache__" in parts or (len(parts) > 1 and parts[-2].endswith(".dist-info") and parts[-1] in LEFT_OUT)


def compare_records(theirs, ours, files):
    """RECORD's rows. uv keeps a wheel's rows as they are; imgforge's are complete and true:

    - a hash or size that the wheel leaves out is filled in, a wrong size corrected, a hash in hexadecimal digits or with
      padding written as the specification says;
    - a file of .data/scripts that a launcher replaces has no row, nor has anything else that is not installed;
    - a row that stands twice stands once.
    """

    def rows(text):
        table = {}
        for path, digest, size in csv.reader(text.decode().splitlines()):
            path = os.path.normpath(path)
            if not left_out(path) and not path.endswith(".dist-info/INSTALLER"):
                algorithm, _, value = digest.partition("=")
                if algorithm == "sha256" and len(value) == 64:
                    value = base64.urlsafe_b64encode(bytes.fromhex(value)).decode()
                table[path] = f"{algorithm}={value.rstrip('=')}" if digest else "", size
        return table

    found = []
    theirs, ours_rows = rows(theirs), rows(ours)
    for path in sorted(theirs.keys() | ours_rows.keys()):
        their, our = theirs.get(path), ours_rows.get(path)
        if their == our:
            continue
        if our is None and ".data/scripts/" in path:
            continue
        if their and our and their[0] in ("", our[0]) and our[0]:
            continue
        found.append(f"RECORD, {path}: uv {their}, imgforge {our}")
    text = ours.decode().splitlines()
    if text != sorted(text, key=lambda line: next(csv.reader([line]))[0].encode()):
        found.append("RECORD is not sorted")
    return found


def compare(theirs, ours):
    found = []
    for path in sorted(theirs.keys() | ours.keys()):
        their, our = theirs.get(path), ours.get(path)
        if their is None:
            found.append(f"{path}: only imgforge has it ({describe(our)})")
        elif our is None:
            found.append(f"{path}: only uv has it ({describe(their)})")
        elif their != our:
            found.append(f"{path}: uv {describe(their)}, imgforge {describe(our)}")
    return found


def describe(entry):
    kind, executable, content = entry
    return f"{kind}{' executable' if executable else ''} {len(content)} bytes {content[:60]!r}"


def tree(root):
    """Every path below a folder with its kind, executable bit and content (a link's target)."""
    entries = {}
    for folder, folders, names in os.walk(root):
        for name in folders + names:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                entry = "link", False, os.fsencode(os.readlink(path))
            elif stat.S_ISDIR(mode):
                entry = "folder", False, b""
            else:
                with open(path, "rb") as file:
                    entry = "file", bool(mode & 0o111), file.read()
            entries[os.path.relpath(path, root)] = entry
    return entries


def attempt(arguments, environment):
    """Runs a program; its last words when it fails, else None."""
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    return " ".join(done.stderr.split())[-300:] if done.returncode else None


def run(arguments, environment):
    failure = attempt(arguments, environment)
    if failure is not None:
        sys.exit(f"{arguments[0]} failed: {failure}")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
