#!/bin/bash
# Builds examples/dual-mode: a Poetry project with the heavy package's wheel of the index, or with the same package compiled.
# Looks for the wheel in every layer of the compiled mode, changes the code and a dependency, and says what is made again.
#
#   tests/systems/dual-mode.sh [--plan] IMGFORGE
#
# Compiles contourpy for a minute or two and fetches 150 MB, from Debian and PyPI. With --plan nothing is fetched or compiled: what
# the modes share, and what a change makes again, is asked of the plan.
set -euo pipefail
cd "$(dirname "$0")/../.."

only_plan=no
if [ "${1-}" = --plan ]; then
    only_plan=yes
    shift
fi
imgforge=$(realpath "${1:?usage: dual-mode.sh [--plan] IMGFORGE}")
repository=$PWD
die() { echo "dual-mode.sh: $*" >&2; exit 1; }
step() { echo "dual-mode: $*" >&2; }
judge() { python3 -B "$repository/tests/systems/dual-mode.py" "$@"; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export IMGFORGE_STORE=$scratch/store
cp -r examples/dual-mode "$scratch/family"
cd "$scratch/family"
rm -rf dist

# Another project like this one but for an edit: NAME COMMAND…, run in its folder. An edit that edits nothing is a mistake.
parts=(images.toml images.lock pyproject.toml poetry.lock src)
beside() {
    mkdir "../$1"
    cp -r "${parts[@]}" "../$1/"
    (cd "../$1" && "${@:2}")
    for part in "${parts[@]}"; do
        diff -r "$part" "../$1/$part" > /dev/null || return 0
    done
    die "$1 is like the example"
}
plan() { (cd "../$1" && "$imgforge" plan --offline --json > "../$1.json"); }
# asked NAME same|other 'MODE:PACKAGE…' COMMAND…: an edit, whether the compiled wheel is another, and whose layers are.
asked() {
    beside "$1" "${@:4}"
    plan "$1"
    judge artifact ../family.json "../$1.json" "$2"
    judge others "$1" ../family.json "../$1.json" $3
}

ask() {
    plan family
    judge modes ../family.json
    step "what compiles nothing: code, labels, what is in the builder besides the compiler"
    asked code same 'binary:files source:files' sed -i 's/along which/on which/' src/contours.py
    asked label same '' sed -i 's/contours, {mode}/lines, {mode}/' images.toml
    asked assembler same '' rehash binutils-x86-64-linux-gnu
    step "what compiles it again, for the one mode: the compiler, Python's headers, how it is compiled"
    asked compiler other 'source:contourpy' rehash g++-12
    asked flags other 'source:contourpy' sed -i 's/-O2/-O3/' images.toml
}
# The beginning of a package's hash, in the builder's part of images.lock.
rehash() { sed -i "/^base = \"builder\"/,/^]/{/name = \"$1\"/s/sha256 = \"..../sha256 = \"0000/}" images.lock; }

step "poetry.lock is Poetry's own, and torch's recipe is one"
python3 - <<'END' || die "poetry.lock is not of this pyproject.toml"
import tomllib
names = [package["name"] for package in tomllib.load(open("poetry.lock", "rb"))["package"]]
assert {"contourpy", "numpy", "click"} <= set(names) and "torch" not in names
END
mkdir torch/pytorch
printf '[build-system]\nrequires = ["setuptools"]\n' > torch/pytorch/pyproject.toml
(cd torch && "$imgforge" plan --offline > /dev/null 2> ../../torch.log) && die "NVIDIA's images were planned offline"
grep -q 'registry.example.org' ../torch.log || { cat ../torch.log >&2; die "torch's recipe has another problem than its base"; }

if [ "$only_plan" = yes ]; then
    ask
    step "everything is well"
    exit
fi

# Debian's packages of today: mirrors drop older ones.
"$imgforge" lock --quiet --upgrade
plan family

seconds() { python3 -c 'import sys; print(f"{float(sys.argv[2]) - float(sys.argv[1]):.2f}")' "$1" "$EPOCHREALTIME"; }
step "the compiled mode alone, from nothing"
began=$EPOCHREALTIME
"$imgforge" build --json --set mode=source > ../source.json 2> ../log || { tail -40 ../log >&2; die "it can't be built"; }
step "took $(seconds "$began") s"
grep '^built ' ../log >&2
[ "$(grep -c '^built contourpy ' ../log)" = 1 ] || die "contourpy was not compiled once"

step "the wheel of the index in the compiled mode: in the store, in any layer"
# Its files, as poetry.lock names them with their hashes; this host is for one of them.
python3 - > ../wheels <<'END'
import tomllib
for package in tomllib.load(open("poetry.lock", "rb"))["package"]:
    if package["name"] == "contourpy":
        print(*(file["hash"].removeprefix("sha256:") for file in package["files"] if file["file"].endswith(".whl")), sep="\n")
END
[ "$(wc -l < ../wheels)" -gt 10 ] || die "poetry.lock has hardly any wheel of contourpy"
while read -r sha256; do
    [ ! -e "$IMGFORGE_STORE/blobs/sha256/$sha256" ] || die "the wheel $sha256 was fetched"
done < ../wheels
"$imgforge" verify --quiet --layout dist
heavy=$(judge heavy ../source.json source)
# compiled LAYER: each compiled file of contourpy in a layer, with its hash.
compiled() {
    mkdir -p ../unpacked
    tar --extract --directory ../unpacked --file "dist/blobs/sha256/${1#sha256:}"
    (cd ../unpacked && find . -path '*contourpy*' -name '*.so*' -type f -exec sha256sum {} +)
    rm -rf ../unpacked
}
judge layers ../source.json source > ../layers
[ "$(wc -l < ../layers)" -gt 5 ] || die "the image has hardly any layer"
while read -r digest; do
    tar --list --file "dist/blobs/sha256/${digest#sha256:}" | grep contourpy | sed "s/^/$digest /" >> ../names || true
done < ../layers
grep -q " opt/heavy/.*/_contourpy\.cpython" ../names || die "contourpy is in no layer: the listing is not whole"
grep -v "^$heavy opt/heavy/" ../names >&2 && die "contourpy is elsewhere than at /opt/heavy"
compiled "$heavy" > ../of-source
[ -s ../of-source ] || die "nothing of contourpy is compiled"

step "the other mode: the wheel of the index, and nothing that is compiled"
began=$EPOCHREALTIME
"$imgforge" build --json > ../both.json 2> ../log || { tail -40 ../log >&2; die "it can't be built"; }
step "took $(seconds "$began") s"
! grep '^built' ../log >&2 || die "something was compiled"
judge made ../both.json binary:contourpy
fetched=0
while read -r sha256; do
    [ ! -e "$IMGFORGE_STORE/blobs/sha256/$sha256" ] || fetched=$((fetched + 1))
done < ../wheels
[ "$fetched" = 1 ] || die "of contourpy $fetched wheels were fetched"
compiled "$(judge heavy ../both.json binary)" > ../of-binary
[ -s ../of-binary ] || die "the wheel has nothing that is compiled"
comm -12 <(cut -d ' ' -f 1 ../of-source | sort) <(cut -d ' ' -f 1 ../of-binary | sort) | grep . && die "both modes have one compiled file"
"$imgforge" test --offline --quiet || { "$imgforge" test --offline; die "it does not run"; }
ask

step "the same again"
began=$EPOCHREALTIME
"$imgforge" build --json --locked --offline > ../again.json 2> ../log
step "took $(seconds "$began") s"
judge made ../again.json

step "a change of the code"
sed -i 's/along which/on which/' src/contours.py
began=$EPOCHREALTIME
"$imgforge" build --json --offline > ../code.json 2> ../log
took=$(seconds "$began")
step "took $took s"
judge made ../code.json binary:files source:files
python3 -c 'import sys; sys.exit(float(sys.argv[1]) >= 1)' "$took" || die "it took more than a second"

step "a change of a dependency, as poetry update --lock writes it"
python3 - <<'END'
import re
from pathlib import Path
text = Path("poetry.lock").read_text()
newer = """name = "click"
version = "8.5.1"
description = "Composable command line interface toolkit"
optional = false
python-versions = ">=3.10"
groups = ["main"]
files = [
    {file = "click-8.5.1-py3-none-any.whl", hash = "sha256:8bb5376d2006950386f8c6427613334a2acadc5f559cb80e638d00b4df957e37"},
    {file = "click-8.5.1.tar.gz", hash = "sha256:9bbfada76703fd1d784b83eea012e3e8c6a001a876543ef104fa56aaaeb072b4"},
]
"""
text, count = re.subn(r'(?s)name = "click"\n.*?\n\]\n', newer, text, count=1)
assert count == 1
Path("poetry.lock").write_text(text)
END
began=$EPOCHREALTIME
"$imgforge" build --json > ../dependency.json 2> ../log || { tail -40 ../log >&2; die "it can't be built"; }
step "took $(seconds "$began") s"
! grep '^built' ../log >&2 || die "something was compiled"
judge made ../dependency.json binary:click source:click
"$imgforge" test --offline --quiet || { "$imgforge" test --offline; die "it does not run with another click"; }

step "compiled a second time: the same bytes"
began=$EPOCHREALTIME
"$imgforge" verify --offline --rebuild contourpy 2> ../log || { tail -20 ../log >&2; die "other bytes"; }
step "took $(seconds "$began") s"

step "everything is well"
