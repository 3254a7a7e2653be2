"""Compares environments that are resolved with py-rattler's: solve.py SOLVE SCRATCH [--channel URL SPEC…].

The channels are indexes alone. Chance (with fixed seeds) makes their packages: versions, builds, what they depend on and
exclude, on each other and on virtual packages. Every record is compared whole, but for when its channel was indexed; so is
the pixi.lock that is written, which py-rattler reads.
"""

import asyncio
import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

from rattler import Channel, ChannelPriority, GenericVirtualPackage, LockFile, PackageName, Version, solve
from rattler.exceptions import SolverError
from rattler.package.build_string import BuildString

WORLDS = 60

GRANTED = {"__unix": "0", "__linux": "4.18", "__archspec": "1=x86_64"}
VIRTUAL = ["__cuda >=12.4", "__glibc >=2.17", "__glibc >=2.38", "__linux", "__archspec 1 x86_64"]
PRIORITY = {"strict": ChannelPriority.Strict, "disabled": ChannelPriority.Disabled}


def record(name, version, build, number, subdir, depends, **more):
    digest = hashlib.sha256(f"{name}-{version}-{build}-{more}".encode())
    return {
        "name": name, "version": version, "build": build, "build_number": number, "subdir": subdir, "depends": depends,
        "sha256": digest.hexdigest(), "md5": digest.hexdigest()[:32], "size": 1000, "license": "MIT",
        "timestamp": 1_700_000_000_000 + number, **more,
    } | ({"arch": "x86_64", "platform": "linux"} if subdir == "linux-64" else {})


def make_channel(folder, chance, names):
    """A channel whose packages depend on those after them, so that some sets fit and some don't."""
    subdirs = {"linux-64": {}, "noarch": {}}
    versions = {name: sorted({f"{chance.randint(0, 3)}.{chance.randint(0, 4)}" for _ in range(4)}) for name in names}
    for place, name in enumerate(names):
        generic = chance.random() < 0.25
        subdir = "noarch" if generic else "linux-64"
        for version in versions[name]:
            for number in range(chance.randint(1, 3)):
                depends, more = [], {}
                for other in chance.sample(names[place + 1 :], min(len(names) - place - 1, chance.randint(1, 4))):
                    wanted = chance.choice(versions[other])
                    depends.append(f"{other} {chance.choice(['>=', '<=', '==', '==', '<', '!='])}{wanted}")
                    if chance.random() < 0.2:
                        depends[-1] = f"{other} {wanted}.*" if chance.random() < 0.5 else f"{other} * *_{chance.randint(0, 1)}"
                if chance.random() < 0.25:
                    depends.append(chance.choice(VIRTUAL))
                if chance.random() < 0.15:
                    other = chance.choice(names)
                    if other != name:
                        more["constrains"] = [f"{other} {chance.choice(['>=', '<'])}{chance.choice(versions[other])}"]
                if chance.random() < 0.1:
                    more["track_features"] = "slow"
                if generic:
                    more["noarch"] = chance.choice(["python", "generic"])
                build = f"{chance.choice(['cpu', 'cuda128', 'py311', 'h1a2b3c'])}_{number}"
                subdirs[subdir][f"{name}-{version}-{build}.conda"] = record(name, version, build, number, subdir, depends, **more)
    for subdir, records in subdirs.items():
        (folder / subdir).mkdir(parents=True)
        index = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": records}
        (folder / subdir / "repodata.json").write_text(json.dumps(index))
    return folder.as_uri()


def make_request(scratch, seed):
    chance = random.Random(seed)
    names = [f"package-{letter}" for letter in "abcdefghijklmnop"]
    channels = [make_channel(scratch / f"{seed}-0", chance, names)]
    if chance.random() < 0.4:
        channels.append(make_channel(scratch / f"{seed}-1", chance, names[4:]))
    specs = []
    for name in chance.sample(names, chance.randint(2, 6)):
        specs.append(chance.choice([name, name, f"{name} >=1.0", f"{name} <3", f"{name} * cpu*", f"{name} * *_0", f"{name} 1.*"]))
    virtual = {"__glibc": "2.36"} if chance.random() < 0.8 else {}
    if chance.random() < 0.5:
        virtual["__cuda"] = chance.choice(["12.2", "12.8"])
    priority = "strict" if chance.random() < 0.7 else "disabled"
    return {"specs": specs, "channels": channels, "subdir": "linux-64", "virtual_packages": virtual, "priority": priority}


def virtual_package(name, text):
    version, _, build = text.partition("=")
    return GenericVirtualPackage(PackageName(name), Version(version), BuildString(build or "0"))


def judged(record):
    """What a record says of the package: the JSON that goes into conda-meta, without what is the host's."""
    found = json.loads(record.to_json())
    for key in ("indexed_timestamp", "channel", "url"):
        found.pop(key, None)
    return found


async def theirs(request):
    virtual = GRANTED | request["virtual_packages"]
    try:
        records = await solve(
            sources=[Channel(channel) for channel in request["channels"]],
            specs=request["specs"],
            platforms=[request["subdir"], "noarch"],
            virtual_packages=[virtual_package(name, text) for name, text in virtual.items()],
            channel_priority=PRIORITY[request["priority"]],
        )
    except SolverError as error:
        return None, str(error)
    return sorted(records, key=lambda it: it.name.normalized), ""


def compare(request, answer, records, error, lock):
    if records is None:
        if answer.get("kind") != "unsatisfiable":
            return f"is refused by py-rattler ({error}), and not here: {answer}"
        # resolvo names one of the conflicts that there are, another release of it maybe another one: they share a requirement.
        named = lambda text: {spec for spec in request["specs"] if spec in text}
        if named(answer["message"]) & named(error):
            return None
        return f"is explained otherwise:\n{answer['message']}\n--- py-rattler:\n{error}"
    if "packages" not in answer:
        return f"is refused: {answer['message']}"
    without = lambda record: {key: value for key, value in record.items() if key not in ("channel", "url")}
    found = {it["name"]: without(it["record"]) for it in answer["packages"]}
    wanted = {it.name.normalized: judged(it) for it in records}
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            return f"{name}: {found.get(name)}, and py-rattler has {wanted.get(name)}"
    environment = LockFile.from_path(lock).default_environment()
    written = environment.conda_repodata_records_for_platform(environment.platforms()[0])
    written = {it.name.normalized: judged(it) for it in written}
    return None if written == wanted else f"pixi.lock: {written}, and py-rattler has {wanted}"


def main():
    program, scratch, *rest = sys.argv[1:]
    scratch = Path(scratch)
    if rest[:1] == ["--channel"]:
        request = {"specs": rest[2:], "channels": [rest[1]], "subdir": "linux-64", "priority": "strict"}
        requests = [request | {"virtual_packages": {"__glibc": "2.36"}}]
    else:
        requests = [make_request(scratch, seed) for seed in range(WORLDS)]
    failed, solved = 0, 0
    for seed, request in enumerate(requests):
        folder = scratch / f"answer-{seed}"
        folder.mkdir()
        run = subprocess.run([program, folder], input=json.dumps(request) + "\n", capture_output=True, text=True)
        if run.returncode != 0:
            raise SystemExit(f"{request}: {run.stderr}")
        records, error = asyncio.run(theirs(request))
        different = compare(request, json.loads(run.stdout), records, error, folder / "pixi.lock")
        solved += records is not None
        if different:
            failed += 1
            print(f"{seed} differs: {request}\n    {different}")
    refused = len(requests) - solved
    print(f"{len(requests) - failed} of {len(requests)} are the same: {solved} environments, {refused} that nothing fits")
    # Chance has to make both.
    return 1 if failed or (len(requests) > 1 and min(solved, refused) < 5) else 0


if __name__ == "__main__":
    sys.exit(main())
