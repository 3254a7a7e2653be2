"""Resolves sets of requirements for several targets and compares that with uv: compare.py RESOLVE SCRATCH [NAME…].

uv says which versions there are to be and which of their wheels fit the target (`uv pip compile --format pylock.toml`);
pip's own copy of `packaging` says which of those wheels an installer takes. Requirements.txt and pylock.toml have to be what
uv writes, and uv has to take them, and the uv.lock, for locks that are up to date.
"""

import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pip._vendor.packaging import tags
from pip._vendor.packaging.utils import parse_wheel_filename

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"

# The first has this Python, which uv needs in order to look at a uv.lock.
TARGETS = {
    "here": {"python": HERE, "architecture": "amd64", "glibc": "2.36"},
    "arm64": {"python": "3.12", "architecture": "arm64", "glibc": "2.28"},
    "musl": {"python": "3.13.2", "architecture": "amd64", "musl": "1.2"},
}

# Requirements that have an answer, but for the targets that are named.
CASES = {
    "plain": {"requirements": ["rich>=13", "requests"]},
    "extras": {"requirements": ["uvicorn[standard]", "httpx[http2,socks]"]},
    "markers": {
        "requirements": [
            "tomli ; python_version < '3.12'",
            "pywin32 ; sys_platform == 'win32'",
            "greenlet ; platform_machine == 'x86_64'",
            "msgpack ; platform_machine == 'aarch64'",
            "importlib-metadata ; python_full_version >= '3.13.1'",
        ]
    },
    "constraints": {"requirements": ["flask"], "constraints": ["werkzeug<3.1", "jinja2!=3.1.6", "torch<1"]},
    "overrides": {"requirements": ["boto3==1.34.0"], "overrides": ["urllib3==2.2.3"]},
    "pre-release": {"requirements": ["sqlalchemy==2.1.0b1", "opentelemetry-instrumentation-requests"]},
    "pre-releases": {"requirements": ["flask", "sqlalchemy"], "prereleases": "allow"},
    "bounds": {"requirements": ["fastapi>=0.110", "starlette<0.40"]},
    "then": {"requirements": ["pandas", "scikit-learn"], "exclude_newer": "2025-06-01"},
    "wheels": {"requirements": ["cryptography", "pyyaml", "lxml"], "no_build": True},
    "platform": {"requirements": ["torch==2.9.0"], "fails": ["musl"]},
    "folder": {"requirements": ["demo[color]", "idna"], "find_links": ["wheels"]},
    "sources": {"requirements": ["demo-static"], "find_links": ["wheels"]},
    "by path": {"requirements": ["demo @ ./wheels/demo-1.1-py3-none-any.whl"]},  # as given there, absolute in uv.lock
}

# Requirements that nothing fits.
REFUSED = {
    "two bounds": {"requirements": ["flask==3.0.0", "werkzeug<3"]},
    "no version": {"requirements": ["rich>=1000"]},
    "no package": {"requirements": ["imgforge-is-no-package-of-this-name"]},
    "deep": {"requirements": ["fastapi==0.110.0", "starlette==0.40.0"]},
    "no wheel": {"requirements": ["nvidia-cublas-cu12==12.8.4.1"], "no_build": True, "only": "musl"},
    "python": {"requirements": ["numpy==1.21.0"], "no_build": True, "only": "arm64"},
    "late": {"requirements": ["rich>=14"], "exclude_newer": "2024-01-01T00:00:00Z"},
}


def platform(target):
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[target["architecture"]]
    if "musl" in target:
        return machine, f"{machine}-unknown-linux-musl"
    return machine, f"{machine}-manylinux_{target['glibc'].replace('.', '_')}"


def order(target):
    """Tags from the best on, as pip orders them."""
    machine, _ = platform(target)
    if "musl" in target:
        platforms = [f"musllinux_1_{minor}_{machine}" for minor in range(int(target["musl"].split(".")[1]), -1, -1)]
    else:
        platforms = []
        old = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
        for minor in range(int(target["glibc"].split(".")[1]), (5 if machine == "x86_64" else 17) - 1, -1):
            platforms.append(f"manylinux_2_{minor}_{machine}")
            if minor in old:
                platforms.append(f"{old[minor]}_{machine}")
    platforms.append(f"linux_{machine}")
    version = tuple(int(part) for part in target["python"].split(".")[:2])
    found = list(tags.cpython_tags(version, [f"cp{version[0]}{version[1]}"], platforms))
    found += tags.compatible_tags(version, f"cp{version[0]}{version[1]}", platforms)
    return {tag: place for place, tag in enumerate(found)}


def name_of(file):
    return file["url"].rsplit("/", 1)[-1].replace("%2B", "+") if "url" in file else Path(file["path"]).name


def run(command, folder, **keywords):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("UV_", "PIP_"))}
    environment |= {"NO_COLOR": "1", "UV_PYTHON_DOWNLOADS": "never"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, **keywords)


def compile_arguments(case, target, folder):
    """The request, as `uv pip compile` has it."""
    arguments = ["--python-platform", platform(target)[1], "--python-version", target["python"], "--no-header"]
    for key, option in [("constraints", "--constraints"), ("overrides", "--overrides")]:
        if key in case:
            (folder / f"{key}.txt").write_text("\n".join(case[key]))
            arguments += [option, f"{key}.txt"]
    if "exclude_newer" in case:
        # uv's days end by this machine's clock, ours by UTC's.
        day = case["exclude_newer"]
        arguments += ["--exclude-newer", day if "T" in day else f"{day[:-2]}{int(day[-2:]) + 1:02}T00:00:00Z"]
    if "prereleases" in case:
        arguments += ["--prerelease", case["prereleases"]]
    if case.get("no_build"):
        arguments += ["--only-binary", ":all:"]
    for link in case.get("find_links", []):
        arguments += ["--find-links", link]
    return arguments


class Judge:
    def __init__(self, program, scratch):
        self.program, self.scratch = program, scratch
        self.wheels = scratch / "wheels"
        self.wheels.mkdir()
        make_wheel(self.wheels, "demo", "1.0", [])
        make_wheel(self.wheels, "demo", "1.1", ["rich<14", "termcolor ; extra == 'color'"], extras=["color"])
        make_wheel(self.wheels, "demo", "1.2", [], tag="cp27-cp27m-win32")
        make_sdist(self.wheels, "demo-static", "1.0", "2.2")
        make_sdist(self.wheels, "demo-unbuilt", "1.0", "2.1")

    def ask(self, case, target, folder, **more):
        request = {key: value for key, value in case.items() if key not in ("fails", "only")} | target | more
        answer = run([self.program, str(folder), str(self.scratch / "ours")], folder, input=json.dumps(request))
        if answer.returncode != 0:
            raise AssertionError(answer.stderr)
        return json.loads(answer.stdout)

    def uv(self, arguments, folder, **keywords):
        cache = ["--cache-dir", str(self.scratch / "theirs")]
        return run(["uv", *arguments, *cache, "--quiet"], folder, **keywords)

    def folder(self, *names):
        folder = self.scratch / "-".join(names).replace(" ", "-")
        folder.mkdir()
        (folder / "wheels").symlink_to(self.wheels)
        return folder

    def compile(self, case, target, folder, *arguments):
        (folder / "given.in").write_text("\n".join(case["requirements"]))
        return self.uv(["pip", "compile", "given.in", *compile_arguments(case, target, folder), *arguments], folder)

    def check(self, name, target_name):
        """What differs, if anything."""
        case, target = CASES[name], TARGETS[target_name]
        if target_name in case.get("fails", []):
            return self.refused(case, target, self.folder(name, target_name))
        folder = self.folder(name, target_name)
        theirs = self.compile(case, target, folder, "--format", "pylock.toml")
        if theirs.returncode != 0:
            return [f"uv: {theirs.stderr.strip()}"]
        ours = self.ask(case, target, folder, locks=True)
        if "message" in ours:
            return [f"refused: {ours['message']}"]
        different = self.files(ours["artifacts"], tomllib.loads(theirs.stdout), target)
        if (folder / "pylock.toml").exists() and "find_links" not in case:
            if tomllib.loads((folder / "pylock.toml").read_text()) != tomllib.loads(theirs.stdout):
                different.append("pylock.toml is another one than uv's")
        if target_name != "musl":
            different += self.requirements(case, target, folder)
        if target_name == "here":
            different += self.locks(case, target, folder)
        return different

    def files(self, artifacts, lock, target):
        ranks, wanted = order(target), {}
        for package in lock["packages"]:
            if "archive" in package:
                package["wheels"] = [package["archive"]]
            ranked = []
            for wheel in package.get("wheels", []):
                fitting = [ranks[tag] for tag in parse_wheel_filename(name_of(wheel))[3] if tag in ranks]
                build = parse_wheel_filename(name_of(wheel))[2]
                if fitting:
                    ranked.append((min(fitting), tuple(-part if isinstance(part, int) else part for part in build[:1]), wheel))
            file = min(ranked, key=lambda it: it[:2])[2] if ranked else package["sdist"]
            wanted[package["name"]] = (package["version"], name_of(file), file["hashes"].get("sha256"))
        found = {it["name"]: (it["version"], it["file"], it["sha256"]) for it in artifacts}
        different = []
        for name in sorted(wanted.keys() | found.keys()):
            theirs, ours = wanted.get(name), found.get(name)
            # A folder of wheels says no hash.
            if theirs and ours and theirs[2] is None and len(ours[2]) == 64:
                theirs = (*theirs[:2], ours[2])
            if theirs != ours:
                different.append(f"{name}: {ours}, and uv has {theirs}")
        return different

    def requirements(self, case, target, folder):
        """Whether requirements.txt is what uv writes, and uv takes it."""
        different = []
        theirs = self.compile(case, target, folder, "--generate-hashes", "--no-annotate").stdout
        ours = (folder / "requirements.txt").read_text().splitlines(True)
        if "".join(line for line in ours if "    #" not in line) != theirs:
            different.append(f"requirements.txt is another one than uv's:\n{theirs}")
        return different + self.install(case, target, folder, "requirements.txt", "--require-hashes")

    def install(self, case, target, folder, lock, *arguments):
        # Not in the project's own folder, where uv looks at its pyproject.toml.
        apart = folder.with_name(f"{folder.name}-apart")
        if not apart.exists():
            apart.mkdir()
            (apart / "wheels").symlink_to(self.wheels)
        links = [part for _ in case.get("find_links", []) for part in ("--find-links", str(self.wheels))]
        place = ["--target", "there", "--python-platform", platform(target)[1], "--python-version", target["python"]]
        pre = ["--prerelease", "allow"] if "prereleases" in case else []
        command = ["pip", "install", "--dry-run", "--no-deps", "-r", str(folder / lock), *place, *links, *pre, *arguments]
        answer = self.uv(command, apart)
        return [f"uv does not take {lock}: {answer.stderr.strip()}"] if answer.returncode else []

    def locks(self, case, target, folder):
        """Whether uv takes pylock.toml, and uv.lock for up to date; both need this Python."""
        different = []
        if (folder / "pylock.toml").exists():
            different += self.install(case, target, folder, "pylock.toml")
        python = ["--python", sys.executable]
        answer = self.uv(["sync", "--locked", "--dry-run", *python], folder)
        if answer.returncode != 0:
            different.append(f"uv does not take uv.lock: {answer.stderr.strip()}")
        if "find_links" in case:
            return different
        without_revision = lambda: re.sub(r"^revision = .*", "", (folder / "uv.lock").read_text(), flags=re.MULTILINE)
        lock = without_revision()
        (folder / "uv.lock").unlink()
        self.uv(["lock", *python], folder)
        if lock != without_revision():
            different.append(f"uv.lock is another one than uv's:\n{lock}\n--- uv:\n{without_revision()}")
        return different

    def refused(self, case, target, folder):
        """Whether uv's explanation is in the message, and what it suggests in the hint."""
        theirs = self.compile(case, target, folder).stderr
        ours = self.ask(case, target, folder)
        if ours.get("kind") != "unsatisfiable":
            return [f"is not refused: {ours}"]
        said = f"{ours['message']}\n{ours['hint'] or ''}"
        explanation = theirs.split("cause:", 1)[-1] if "cause:" in theirs else theirs.split("╰─▶", 1)[-1]
        missing = words(explanation) - words(said)
        return [f"does not say {sorted(missing)}:\n{said}\n--- uv:\n{theirs}"] if missing or not words(explanation) else []

    def unbuilt(self, folder):
        """What has to be built to be known is named, or passed over."""
        case = {"requirements": ["demo-unbuilt"], "find_links": ["wheels"]}
        said = self.ask(case, TARGETS["here"], folder)
        passed = self.ask(case | {"no_build": True}, TARGETS["here"], folder)
        wanted = said.get("kind") == "unusable" and "demo-unbuilt 1.0 has only sources" in said["message"]
        return [] if wanted and passed.get("kind") == "unsatisfiable" else [f"{said}, {passed}"]


def words(text):
    """Names with what is required of them, and everything else that is no mere grammar."""
    found = re.findall(r"[A-Za-z0-9_.\-]+(?:\[[^\]]*\])?(?:(?:==|>=|<=|!=|~=|<|>)[^\s,)]+)?", text)
    found = {word.strip(".,:-`").lower() for word in found}
    return {word for word in found if re.search(r"[a-z0-9]", word)} - {"cause", "hint", "x", "error"}


def make_wheel(folder, name, version, requires, extras=(), tag="py3-none-any"):
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Provides-Extra: {extra}\n" for extra in extras)
    metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}\n"
        for path, text in files.items()
    )
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


def make_sdist(folder, name, version, metadata):
    """Sources, whose metadata can be relied on from version 2.2 on."""
    files = {
        "PKG-INFO": f"Metadata-Version: {metadata}\nName: {name}\nVersion: {version}\nRequires-Dist: idna\n",
        "setup.py": "raise SystemExit('nobody is to build this')\n",
    }
    with tarfile.open(folder / f"{name}-{version}.tar.gz", "w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{path}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))


def main():
    program, scratch, *names = sys.argv[1:]
    judge = Judge(program, Path(scratch))
    asked = []
    for name in CASES:
        asked += [(name, target, lambda name=name, target=target: judge.check(name, target)) for target in TARGETS]
    for name, case in REFUSED.items():
        target = case.get("only", "here")
        check = lambda name=name, case=case, target=target: judge.refused(case, TARGETS[target], judge.folder(name, target))
        asked.append((name, target, check))
    asked.append(("unbuilt", "here", lambda: judge.unbuilt(judge.folder("unbuilt"))))
    asked = [it for it in asked if not names or it[0] in names]
    failed = 0
    with ThreadPoolExecutor(4) as pool:
        for (name, target, _), future in [(it, pool.submit(it[2])) for it in asked]:
            different = future.result()
            failed += bool(different)
            print(f"{name}, {target}: {'differs' if different else 'the same'}")
            for line in different:
                print("   ", line.replace("\n", "\n    "))
    print(f"{len(asked) - failed} of {len(asked)} are the same")
    return 1 if failed or not asked else 0


if __name__ == "__main__":
    sys.exit(main())
