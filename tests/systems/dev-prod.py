#!/usr/bin/env python3
"""Judges dev-prod.sh's images and their one compiled wheel, from what imgforge says of them.

    dev-prod.py pair FAMILY             the two images: one wheel in one layer, and nothing in prod that belongs to dev
    dev-prod.py hit BEFORE AFTER        the same wheel
    dev-prod.py miss BEFORE AFTER [AXIS…]    another wheel, because of these axes as far as a wheel was built before
    dev-prod.py both BEFORE AFTER       the same wheel and another one
    dev-prod.py passed TESTED COUNT     so many smoke commands, and every one succeeded

FAMILY is of `imgforge inspect --json` or of `imgforge plan --json`, BEFORE and AFTER of the latter, TESTED of `test --json`.
Prints figures, and exits with 1 when something does not hold.
"""

import json
import sys
from pathlib import Path

WHEEL = "torch-scatter"
# What only the development image has: what tests, checks, compiles and installs, the tools of a shell, and the project.
DEVELOPMENT = {"pytest", "hypothesis", "ruff", "cmake", "ninja", "wheel", "bash", "git", "dash"}
# What neither has: it is in the builder.
COMPILERS = {"g++", "gcc", "cpp", "binutils", "python3-dev", "libc6-dev"}


def read(path):
    return json.loads(Path(path).read_text())


def insist(holds, problem):
    if not holds:
        sys.exit(f"dev-prod.py: {problem}")


def megabytes(size):
    return "an unknown size" if size is None else f"{size / 1e6:,.1f} MB"


def images(path):
    """Each image's layers from the bottom, as (digest or key, packages, size), by the image's name."""
    found = {}
    for image in read(path)["images"]:
        name = image.get("reference") or image["name"]
        is_made = "reference" in image
        found[name.split("[")[0].split(":")[0]] = [
            (layer["digest"], layer["content"].split(", "), layer["size"])
            if is_made
            else (layer["key"], layer["content"], layer["size"])
            for layer in image["layers"]
        ]
    return found


def name_of(package):
    """A package's name without its version, nor the point of the matrix that it was built at."""
    return package.split(" ")[0].split("[")[0]


def packages(image):
    return {name_of(package) for _, content, _ in image for package in content}


def wheel(image):
    """The layer with the compiled wheel."""
    found = [layer for layer in image if WHEEL in map(name_of, layer[1])]
    insist(len(found) == 1, f"{WHEEL} is in {len(found)} layers of an image")
    return found[0]


def pair(path):
    both = images(path)
    insist(sorted(both) == ["dev", "prod"], f"the images are {sorted(both)}")
    dev, prod = both["dev"], both["prod"]
    insist(wheel(dev)[0] == wheel(prod)[0], f"{WHEEL} is another layer in prod than in dev")
    has = packages(dev), packages(prod)
    insist(DEVELOPMENT <= has[0], f"dev lacks {DEVELOPMENT - has[0]}")
    insist("files" in has[0], "dev lacks the project's files")
    unwanted = (DEVELOPMENT | COMPILERS | {"files"}) & has[1]
    insist(not unwanted, f"prod has {unwanted}")
    insist(not COMPILERS & has[0], f"dev has {COMPILERS & has[0]}")
    shared = {layer[0] for layer in dev} & {layer[0] for layer in prod}
    for name, image in both.items():
        size = None if any(layer[2] is None for layer in image) else sum(layer[2] for layer in image)
        print(f"{name}: {len(image)} layers, {megabytes(size)}; {len(shared)} of them are in both")
    print(f"{WHEEL}: layer {wheel(dev)[0]}, {megabytes(wheel(dev)[2])}, in both")


def artifacts(path):
    return {artifact["key"]: artifact for artifact in read(path)["artifacts"]}


def only(path):
    found = list(artifacts(path).values())
    insist(len(found) == 1, f"of {len(found)} wheels, one was expected")
    return found[0]


def reason(artifact):
    """Why it would be built, as plan says it."""
    why = artifact["why"] or {"reason": "it is there"}
    of = [f"{each['part']['name']}: {each['before']} -> {each['now']}" for each in why.get("differences", [])]
    return "; ".join(of) or why["reason"]


def hit(before, after):
    before, after = only(before), only(after)
    insist(before["key"] == after["key"], f"another key: {after['title']}")
    insist(before["built"] == after["built"], f"to be built: {after['title']}: {reason(after)}")
    print(f"hit: {after['title']}")


def miss(before, after, *axes):
    before, after = only(before), only(after)
    insist(before["key"] != after["key"], f"the same key: {after['title']}")
    insist(not after["built"], f"nobody has built {after['title']}")
    if before["built"]:
        different = {each["part"]["name"] for each in (after["why"] or {}).get("differences", [])}
        insist(set(axes) <= different, f"{after['title']}: the reason is not {axes}: {reason(after)}")
    print(f"to be built: {after['title']}: {reason(after)}")


def both(before, after):
    known, found = artifacts(before), artifacts(after)
    insist(len(known) == 1 and len(found) == 2 and set(known) < set(found), "not the same wheel and another one")
    for artifact in found.values():
        print(f"{'hit' if artifact['key'] in known else 'to be built'}: {artifact['title']}: {reason(artifact)}")


def passed(tested, count):
    results = read(tested)["results"]
    insist(len(results) == int(count), f"{len(results)} commands were run")
    for result in results:
        insist(result["success"], f"{result['image']}: {result['command']}: {result['output']}")
        print(f"{result['image']}: {' '.join(result['command'])[:40]!r}: {result['milliseconds']} ms")


if __name__ == "__main__":
    checks = {check.__name__: check for check in [pair, hit, miss, both, passed]}
    if len(sys.argv) < 3 or sys.argv[1] not in checks:
        sys.exit(__doc__)
    checks[sys.argv[1]](*sys.argv[2:])
