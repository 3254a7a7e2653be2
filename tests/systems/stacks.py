#!/usr/bin/env python3
"""Judges the images of stacks.sh from what imgforge says of them, and from the blobs that are there.

    stacks.py family FAMILY [LAYOUT FETCHED]      the nine images: one layer for each package, and what is stored
    stacks.py unchanged BUILT                     a build that made nothing
    stacks.py new BEFORE AFTER                    what came in is new
    stacks.py split BEFORE AFTER                  what came in is new, or little of what was there, made again
    stacks.py unlike BEFORE AFTER                 the same images on other bases: the same environments
    stacks.py fetched BEFORE PLANNED              what would be fetched is new

FAMILY, BEFORE and AFTER are of `imgforge inspect --json` or of `imgforge plan --json`, PLANNED of the latter, BUILT of
`build --json`. FETCHED is the number of bytes that were fetched for the images. Prints figures, and exits with 1 when
something does not hold.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

STACKS = ["simple", "ray", "marimo"]
KINDS = ["builder", "devel", "runtime"]
# What is made for an image and is no package.
ENVIRONMENT = "conda environment /opt/conda/envs/py"
GLUE = {"merged /usr", "dpkg database", ENVIRONMENT}
COMPILERS = {"g++-12", "gcc-12", "make"}
TOOLS = {"cmake", "git", "ninja-build"}
# Of all that is stored, how much may be made again where a group of packages is split.
AGAIN = 0.02


class Layer(NamedTuple):
    """A layer as it was made, by digest, or as it is planned, by key."""

    name: str
    packages: tuple
    # Bytes; none of a planned layer that nobody has made yet.
    size: int | None


def read(path):
    return json.loads(Path(path).read_text())


def insist(holds, problem):
    if not holds:
        sys.exit(f"stacks.py: {problem}")


def megabytes(size):
    return "an unknown size" if size is None else f"{size / 1e6:,.1f} MB"


def total(layers):
    sizes = [layer.size for layer in layers]
    return None if None in sizes else sum(sizes)


def images(path):
    """Each image's layers from the bottom, by the image's name."""
    found = {}
    for image in read(path)["images"]:
        name = image.get("reference") or image["name"]
        found[name.split("[")[0].split(":")[0]] = [
            Layer(layer["digest"], tuple(layer["content"].split(", ")), layer["size"])
            if "reference" in image
            else Layer(layer["key"], tuple(layer["content"]), layer["size"])
            for layer in image["layers"]
        ]
    return found


def layers(family):
    """Each layer once."""
    return {layer for image in family.values() for layer in image}


def packages(family):
    """The layers of each package."""
    found = defaultdict(set)
    for layer in layers(family):
        for package in set(layer.packages) - GLUE:
            found[package].add(layer)
    return found


def parts(image):
    """An image's layers up to the environment's own, and those above."""
    at = [layer.packages for layer in image].index((ENVIRONMENT,))
    return image[:at], image[at + 1:]


def named(layers):
    return {package for layer in layers for package in layer.packages}


def family(path, layout=None, fetched=None):
    nine = images(path)
    insist(sorted(nine) == sorted(f"{stack}-{kind}" for stack in STACKS for kind in KINDS), f"the images are {sorted(nine)}")

    owners = packages(nine)
    several = [package for package, its in owners.items() if len(its) != 1]
    insist(not several, f"packages with several layers: {several}")
    environments = []
    for stack in STACKS:
        own = [parts(nine[f"{stack}-{kind}"]) for kind in KINDS]
        insist(all(above == own[0][1] for _, above in own), f"the environments of {stack} differ")
        environments.append(named(own[0][1]))
        for kind, (below, _) in zip(KINDS, own):
            system = {package.split(" ")[0] for package in named(below)}
            insist((system & COMPILERS) == (set() if kind == "runtime" else COMPILERS), f"compilers of {stack}-{kind}")
            insist((system & TOOLS) == (TOOLS if kind == "builder" else set()), f"tools of {stack}-{kind}")
    simple, ray, marimo = environments
    insist(simple < ray < marimo, "a stack lacks packages of the one that it is on")

    # Each package once: the layers that have any, which are no two for one package.
    union = total(set().union(*owners.values()))
    separate = total([layer for image in nine.values() for layer in image])
    print(f"{len(owners)} packages, each with one layer in all images that have it: {len(layers(nine))} layers")
    print(f"environments: {len(simple)}, {len(ray)} and {len(marimo)} packages")
    print(f"the packages' own layers: {megabytes(union)}; nine images that share nothing: {megabytes(separate)}")
    if layout:
        stored = sum(path.stat().st_size for path in (Path(layout) / "blobs").rglob("*") if path.is_file())
        fetched = int(fetched)
        print(f"stored: {megabytes(stored)}, {stored / union:.4f} times the packages' own layers")
        print(f"fetched: {megabytes(fetched)}; stored for each byte of it: {stored / fetched:.4f}")
        insist(stored <= 1.1 * union, "more than 1.1 times the packages' own layers is stored")
        insist(stored <= 1.1 * fetched, "more than 1.1 times the packages that were fetched is stored")


def unchanged(built):
    found = [layer for image in read(built)["images"] for entry in image["platforms"] for layer in entry["layers"]]
    made = [layer["title"] for layer in found if layer["made"] or layer["from_cache"]]
    insist(found and not made, f"made again: {made}")


def grown(before, after):
    """Prints what came in, and gives the layers among it with packages that were there before."""
    known = packages(before)
    came = layers(after) - layers(before)
    insist(came, "nothing came in")
    again = {layer for layer in came if any(package in known for package in layer.packages)}
    print(f"layers: {len(layers(after) - came)} as they were; new: {len(came - again)} with "
          f"{megabytes(total(came - again))}; made again: {len(again)} with {megabytes(total(again))}")
    for layer in sorted(again):
        print(f"  again: {', '.join(layer.packages)}")
    return again


def new(before, after):
    insist(not grown(images(before), images(after)), "what was there was made again")


def split(before, after):
    before = images(before)
    again, stored = total(grown(before, images(after))), total(layers(before))
    insist(again <= AGAIN * stored, f"{megabytes(again)} of {megabytes(stored)} were made again")


def unlike(before, after):
    before, after = ({name: parts(image)[1] for name, image in images(path).items()} for path in (before, after))
    insist(before == after, "the layers of environments are others")
    print(f"{len(layers(after))} layers of environments are as they were")


def fetched(before, planned):
    known, planned = packages(images(before)), read(planned)
    to_fetch = [layer for image in planned["images"] for layer in image["layers"] if layer["fetch_files"]]
    had = {package for layer in to_fetch for package in layer["content"] if package in known}
    insist(to_fetch, "nothing would be fetched")
    insist(not had, f"would be fetched with packages that are there: {had}")
    totals = planned["totals"]
    print(f"to fetch: {totals['fetched_files']} packages with {megabytes(totals['fetched_bytes'])}, none of which was there; "
          f"{totals['reused']} of {totals['layers']} layers as they were")


if __name__ == "__main__":
    checks = {check.__name__: check for check in [family, unchanged, new, split, unlike, fetched]}
    if len(sys.argv) < 3 or sys.argv[1] not in checks:
        sys.exit(__doc__)
    checks[sys.argv[1]](*sys.argv[2:])
