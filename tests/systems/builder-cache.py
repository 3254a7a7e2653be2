#!/usr/bin/env python3
"""Judges the builds and plans of builder-cache.sh, and edits its images.toml.

    builder-cache.py made WHAT MICROSECONDS PLANNED BUILT LOG [EXPECTED…]
    builder-cache.py planned WHAT FIRST NOW [EXPECTED…]
    builder-cache.py ordered BUILT LOWEST HIGHEST
    builder-cache.py add|base TABLE|builder|reorder < images.toml > images.toml

`made` prints what a build made, of all that there is, and exits with 1 where that is not what was expected: `artifact:NAME`,
`layer:NAME`, `base` for layers of the base and nothing else, `everything`, or nothing. PLANNED is of `imgforge plan --json`
before the build, BUILT of `imgforge build --json`, and LOG is what the build said. `planned` does the same for what the plan NOW
has, of artifacts and their layers, that the plan FIRST has not. `ordered` says which extensions' layers are lowest and highest.
"""

import json
import re
import sys
from pathlib import Path

# A program that says nothing of another one, unless that fails.
MORE = """
[artifact.hush]
script = '''
mkdir -p /usr/local/bin
cat > /usr/local/bin/hush <<'END'
#!/bin/sh
log=$("$@" 2>&1) && exit
code=$?
echo "$log" >&2
exit $code
END
chmod 755 /usr/local/bin/hush
'''
outputs = ["/usr/local/bin/hush"]
builder = "builder"
key = []
"""


def read(path):
    return json.loads(Path(path).read_text())


def compare(found, expected):
    wanted = set(expected)
    if found != wanted:
        sys.exit(f"builder-cache.py: made and not expected: {sorted(found - wanted)}, the other way: {sorted(wanted - found)}")


def share(new, all):
    return f"{new[0]} of {all[0]} layers and {new[1]} of {all[1]} artifacts", f"{100 * (1 - sum(new) / sum(all)):.0f} %"


def made(what, microseconds, planned, built, log, *expected):
    artifacts = read(planned)["artifacts"]
    # A layer of an artifact is called as the artifact is.
    names = {artifact["title"]: artifact["name"] for artifact in artifacts}
    to_build = sorted(artifact["name"] for artifact in artifacts if not artifact["built"])
    [platform] = read(built)["images"][0]["platforms"]
    layers = platform["layers"]
    new = [layer["title"] for layer in layers if layer["made"]]
    taken = [layer for layer in layers if layer["from_cache"]]
    log = Path(log).read_text()
    done = sorted(re.findall(r"^built (\S+)", log, re.MULTILINE))

    text, kept = share((len(new), len(done)), (len(layers), len(artifacts)))
    print(f"{what}: {text} made, {kept} as they were, {int(microseconds) / 1e6:.1f} s"
          + (f"; from the cache: {len(taken)} layers" if taken else ""))
    found = {f"artifact:{name}" for name in done} | {f"layer:{names[title]}" if title in names else "base" for title in new}
    everything = {f"{kind}:{name}" for kind in ["artifact", "layer"] for name in names.values()} | {"base"}
    compare(found, everything if expected == ("everything",) else expected)
    if len(artifacts) < 10:
        sys.exit(f"builder-cache.py: there are only {len(artifacts)} extensions")
    fetched = set(re.findall(r"^fetching (.*) \(\S+ \S+\)$", log, re.MULTILINE)) - set(names)
    if taken and fetched:
        sys.exit(f"builder-cache.py: fetched in spite of the cache: {sorted(fetched)}")
    if done != to_build and not taken:
        sys.exit(f"builder-cache.py: built: {done}, planned: {to_build}")


def planned(what, first, now, *expected):
    first, now = read(first), read(now)
    names = {artifact["title"]: artifact["name"] for artifact in now["artifacts"]}
    title = lambda layer: layer["title"].removesuffix(" (to be built)")
    before = {artifact["key"] for artifact in first["artifacts"]}, {layer["key"] for layer in first["images"][0]["layers"]}
    artifacts = [artifact["name"] for artifact in now["artifacts"] if artifact["key"] not in before[0]]
    # The base is not asked for here: what it is made of has to be fetched first.
    layers = [layer for layer in now["images"][0]["layers"] if title(layer) in names]
    new = [names[title(layer)] for layer in layers if layer["key"] not in before[1]]
    text, kept = share((len(new), len(artifacts)), (len(layers), len(names)))
    print(f"{what}: {text} of extensions to be made, {kept} as they were")
    if len(layers) != len(names) or len(names) < 10:
        sys.exit(f"builder-cache.py: {len(names)} extensions have {len(layers)} layers")
    compare({f"artifact:{name}" for name in artifacts} | {f"layer:{name}" for name in new}, expected)


def ordered(built, lowest, highest):
    [platform] = read(built)["images"][0]["platforms"]
    extensions = [layer["title"].split(" ")[0] for layer in platform["layers"] if " · " in layer["title"]]
    print("from the lowest layer to the highest:", *extensions)
    if (extensions[0], extensions[-1]) != (lowest, highest):
        sys.exit("builder-cache.py: cache-priority says otherwise")


def add(text):
    """An extension more, in the middle of the file."""
    at = text.index("\n# ---- compiled")
    return text[:at].replace('"fzf", "jsonq"', '"fzf", "hush", "jsonq"').replace(
        '    ["fzf", "--version"]', '    ["hush", "sh", "-c", "echo unheard"],\n    ["fzf", "--version"]') + MORE + text[at:]


def base(text, table):
    """Another base below the image, and not below the extensions."""
    head, rest = text.split("[base.dev]\n")
    return f"{head}[base.dev]\n" + rest.replace('debian = "bookworm"\n' if "debian" in table else rest.split("\n\n")[0], table + "\n", 1)


def builder(text):
    """A program more in the builder, which is in no extension's key."""
    return text.replace('"esbuild", "g++"', '"esbuild", "file", "g++"', 1)


def reorder(text):
    """The extensions' tables from the last to the first, and the image's list of them."""
    head, *tables = re.split(r"^(?=\[artifact\.)", text, flags=re.MULTILINE)
    turn = lambda found: "artifacts = [" + ", ".join(reversed(found[1].split(", "))) + "]"
    return re.sub(r"artifacts = \[(.*)\]", turn, head) + "\n".join(reversed(tables))


if __name__ == "__main__":
    verb, arguments = sys.argv[1:2], sys.argv[2:]
    if verb in (["made"], ["planned"], ["ordered"]) and len(arguments) >= 3:
        globals()[verb[0]](*arguments)
    elif verb in (["add"], ["base"], ["builder"], ["reorder"]) and len(arguments) == (verb == ["base"]):
        sys.stdout.write(globals()[verb[0]](sys.stdin.read(), *arguments))
    else:
        sys.exit(__doc__)
