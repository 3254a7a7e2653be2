#!/usr/bin/env python3
"""Judges dual-mode.sh's images, from what imgforge says of them.

    dual-mode.py modes FAMILY                  both images have the same layers but for the heavy package, which each has in one
    dual-mode.py others WHAT BEFORE AFTER [MODE:PACKAGE…]    of layers, only those with these packages are others, in these modes
    dual-mode.py made BUILT [MODE:PACKAGE…]    a build made these layers, and no others
    dual-mode.py artifact BEFORE AFTER same|other    the heavy package's wheel is the same, or another one
    dual-mode.py layers BUILT MODE             prints the digests of an image's layers
    dual-mode.py heavy BUILT MODE              prints the digest of its layer with the heavy package

FAMILY, BEFORE and AFTER are of `imgforge plan --json`, BUILT of `imgforge build --json`. Exits with 1 when something does not hold.
"""

import json
import sys
from pathlib import Path

HEAVY = "contourpy"
MODES = ("binary", "source")


def read(path):
    return json.loads(Path(path).read_text())


def insist(holds, problem):
    if not holds:
        sys.exit(f"dual-mode.py: {problem}")


def mode_of(name):
    [mode] = [mode for mode in MODES if f"mode={mode}" in name]
    return mode


def packages(layer):
    """Names in a layer, without versions; files are `files`."""
    return {package.removesuffix(" (to be built)").split(" ")[0] for package in layer["content"]}


def planned(path):
    """Layers by mode, as (key, packages)."""
    return {mode_of(image["name"]): [(layer["key"], packages(layer)) for layer in image["layers"]] for image in read(path)["images"]}


def modes(path):
    found = planned(path)
    insist(sorted(found) == sorted(MODES), f"the modes are {sorted(found)}")
    heavy = {mode: [key for key, names in layers if HEAVY in names] for mode, layers in found.items()}
    insist(all(len(keys) == 1 for keys in heavy.values()), f"{HEAVY} is in {heavy}")
    insist(heavy["binary"] != heavy["source"], f"{HEAVY} has the same layer in both modes")
    rest = {mode: [key for key, _ in layers if key not in heavy[mode]] for mode, layers in found.items()}
    insist(rest["binary"] == rest["source"], "other layers differ between the modes")
    alone = [names for layers in found.values() for key, names in layers if HEAVY in names and names != {HEAVY}]
    insist(not alone, f"beside {HEAVY} there is {alone}")
    titles = [artifact["title"] for artifact in read(path)["artifacts"]]
    insist(len(titles) == 1 and titles[0].startswith(HEAVY), f"the artifacts are {titles}")
    print(f"{len(rest['binary'])} layers are in both modes, and one with {HEAVY} is in each; to be compiled: {titles[0]}")


def tell(what, found, expected):
    wanted = set(expected)
    extra = [names for names in found if not any(name in names for name in wanted)]
    missing = [name for name in wanted if not any(name in names for names in found)]
    insist(not extra and not missing, f"{what}: not expected {extra}, missing {missing}")
    print(f"{what}: {len(found)} layers: {', '.join(sorted(wanted)) or 'none'}")


def others(what, before, after, *expected):
    before, after = planned(before), planned(after)
    known = {key for layers in before.values() for key, _ in layers}
    tell(what, [{f"{mode}:{name}" for name in names} for mode, layers in after.items() for key, names in layers if key not in known],
         expected)


def built(path):
    return {mode_of(image["name"]): [layer for platform in image["platforms"] for layer in platform["layers"]]
            for image in read(path)["images"]}


def made(path, *expected):
    # A title has the first packages of a layer and says how many more there are.
    found = [{f"{mode}:{name.split(' ')[0]}" for name in layer["title"].replace(" and ", ", ").split(", ")}
             for mode, layers in built(path).items() for layer in layers if layer["made"]]
    tell("made", found, expected)


def artifact(before, after, verdict):
    [before], [after] = read(before)["artifacts"], read(after)["artifacts"]
    insist((before["key"] == after["key"]) == (verdict == "same"), f"{after['title']}: the key is not {verdict}")
    print(f"{after['title']}: {verdict}")


def layers(path, mode):
    print(*(layer["digest"] for layer in built(path)[mode]), sep="\n")


def heavy(path, mode):
    print(*(layer["digest"] for layer in built(path)[mode] if layer["title"].split(" ")[0] == HEAVY), sep="\n")


if __name__ == "__main__":
    verbs = {verb.__name__: verb for verb in [modes, others, made, artifact, layers, heavy]}
    if len(sys.argv) < 3 or sys.argv[1] not in verbs:
        sys.exit(__doc__)
    verbs[sys.argv[1]](*sys.argv[2:])
