#!/usr/bin/env python3
"""Judges rust-extension.sh's images and wheels, from what imgforge says of them.

    rust-extension.py family PLAN                  two images for each Python, and a wheel of each profile for each
    rust-extension.py same WHAT BEFORE AFTER [LAYER…]    the same wheels; of layers only these are others, by their titles
    rust-extension.py other WHAT BEFORE AFTER PYTHON…    other wheels for these Pythons, both profiles, and for no others
    rust-extension.py made BUILT LAYER…            a build made these layers, and no others
    rust-extension.py wheels LOCK                  prints the wheels that images.lock records: SHA256 FILE

PLAN, BEFORE and AFTER are of `imgforge plan --json`, BUILT of `imgforge build --json`. Exits with 1 when something does not hold.
"""

import json
import sys
import tomllib
from pathlib import Path

PYTHONS = {"cp311", "cp313"}
PROFILES = {"glyphs", "glyphs-dev"}


def read(path):
    return json.loads(Path(path).read_text())


def insist(holds, problem):
    if not holds:
        sys.exit(f"rust-extension.py: {problem}")


def wheels(path):
    """Keys by profile and Python."""
    parts = [(artifact["title"].split(" · "), artifact["key"]) for artifact in read(path)["artifacts"]]
    return {(title[0], title[1]): key for title, key in parts if title[0] in PROFILES}


def layers(path):
    return {(image["name"], layer["title"].removesuffix(" (to be built)")): layer["key"]
            for image in read(path)["images"] for layer in image["layers"]}


def family(path):
    names = sorted(image["name"] for image in read(path)["images"])
    insist(len(names) == 4 and {name.split("[")[0] for name in names} == {"devel", "runtime"}, f"the images are {names}")
    found = wheels(path)
    insist(set(found) == {(profile, python) for profile in PROFILES for python in PYTHONS}, f"the wheels are {sorted(found)}")
    insist(len(set(found.values())) == 4, "two wheels have one key")
    for (profile, python), key in sorted(found.items()):
        print(f"{profile} for {python}: {key[:12]}")
    for image in read(path)["images"]:
        own = [layer for layer in image["layers"] if any(package.startswith("glyphs ") for package in layer["content"])]
        insist(len(own) == 1, f"the wheel is in {len(own)} layers of {image['name']}")


def same(what, before, after, *titles):
    insist(wheels(before) == wheels(after), f"{what}: other wheels")
    before, after = layers(before), layers(after)
    others = {title for (image, title), key in after.items() if before.get((image, title)) != key}
    insist(others == set(titles), f"{what}: other layers are {sorted(others)}, expected {sorted(titles)}")
    print(f"{what}: the same wheels; other layers: {', '.join(sorted(others)) or 'none'}")


def other(what, before, after, *expected):
    pythons = set(expected)
    before, after = wheels(before), wheels(after)
    found = {wheel for wheel in after if after[wheel] not in before.values()}
    insist(found == {(profile, python) for profile in PROFILES for python in pythons}, f"{what}: other wheels are {sorted(found)}")
    print(f"{what}: other wheels for {', '.join(sorted(pythons))}")


def made(built, *titles):
    found = [(image["name"], layer["title"], layer["size"]) for image in read(built)["images"]
             for platform in image["platforms"] for layer in platform["layers"] if layer["made"]]
    for name, title, size in found:
        print(f"{name}: made {title}, {size} B")
    insist({title for _, title, _ in found} == set(titles), f"made {sorted(found)}, expected {sorted(titles)}")


def recorded(path):
    for artifact in tomllib.loads(Path(path).read_text()).get("artifact", []):
        if artifact["name"] in PROFILES:
            print(artifact["sha256"], artifact["file"])


if __name__ == "__main__":
    verbs = {"family": family, "same": same, "other": other, "made": made, "wheels": recorded}
    if len(sys.argv) < 3 or sys.argv[1] not in verbs:
        sys.exit(__doc__)
    verbs[sys.argv[1]](*sys.argv[2:])
