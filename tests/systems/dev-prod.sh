#!/bin/bash
# Builds examples/dev-prod: a development and a production image from two locks, with one wheel compiled for both. Asks what
# makes it another wheel, and what must not; has both images run it. Then builds an extension with a kernel for CUDA.
#
#   tests/systems/dev-prod.sh [--plan] IMGFORGE
#
# Compiles torch-scatter for some minutes. Fetches 2 GB and needs 12 GB below TMPDIR. With --plan nothing is fetched or made: what
# the wheel depends on is asked of the plan.
set -euo pipefail
cd "$(dirname "$0")/../.."

only_plan=no
if [ "${1-}" = --plan ]; then
    only_plan=yes
    shift
fi
imgforge=$(realpath "${1:?usage: dev-prod.sh [--plan] IMGFORGE}")
repository=$PWD
die() { echo "dev-prod.sh: $*" >&2; exit 1; }
step() { echo "dev-prod: $*" >&2; }
judge() { python3 -B "$repository/tests/systems/dev-prod.py" "$@"; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export IMGFORGE_STORE=$scratch/store
cp -r examples/dev-prod "$scratch/family"
cd "$scratch/family"
rm -rf dist

# Another project like this one but for an edit: NAME COMMAND…, run in its folder. An edit that edits nothing is a mistake.
parts=(images.toml images.lock pyproject.toml uv.lock prod src extension flash-attn)
beside() {
    mkdir "../$1"
    cp -r "${parts[@]}" "../$1/"
    (cd "../$1" && "${@:2}")
    for part in "${parts[@]}"; do
        diff -r "$part" "../$1/$part" > /dev/null || return 0
    done
    die "$1 is like the example"
}
plan() { (cd "../$1" && "$imgforge" plan --offline --json "${@:2}" > "../$1.json"); }
hit() { beside "$@"; plan "$1"; judge hit ../family.json "../$1.json"; }
miss() { beside "$1" "${@:3}"; plan "$1"; judge miss ../family.json "../$1.json" $2; }
# The beginning of a file's hash in both locks.
rehash() { sed -i "/$1/s/sha256:..../sha256:0000/" uv.lock prod/uv.lock; }

# That the wheel is in one layer, in all images of these.
layers() {
    python3 -c '
import json, sys
images = [image for name in sys.argv[1:] for image in json.load(open(f"../{name}.json"))["images"]]
found = [layer["digest"] for image in images for layer in image["layers"] if "torch-scatter " in layer["content"]]
print(f"one layer in {len(found)} images: {found[0]}")
sys.exit(len(found) != len(images) or len(set(found)) != 1)' "$@" || die "the wheel is not in one layer"
}

# What is asked of a plan, whether the wheel is there or not.
ask() {
    step "what makes no other wheel: labels, other packages, the order, CMake, what images start from"
    hit label sed -i 's/^labels = { /&team = "ours", /' images.toml
    hit tests sed -i 's/"test", "lint", //' images.toml
    hit sources sed -i 's/mean/total/' src/model.py
    hit order sed -i -e 's/"base-passwd", "ca-certificates", /"ca-certificates", "base-passwd", /' \
        -e 's/\["test", "lint"/["lint", "test"/' images.toml
    hit cmake sed -i 's/cmake = \["3.31"\]/cmake = ["4.1"]/' images.toml
    hit fatter sed -i '/^\[image.prod\]/,/^base/s/{root}-prod/{root}-dev/' images.toml
    hit ruff sed -i '/\/ruff-/s/sha256:..../sha256:0000/' uv.lock

    step "what makes another one: torch, CUDA, Python, the source, how it is built"
    miss torch torch rehash torch-2.11.0-cp311-cp311-manylinux
    miss cuda cuda rehash nvidia_cuda_runtime-13
    miss python python sed -i '/name = "libpython3.11-dev"/s/sha256 = "..../sha256 = "0000/' images.lock
    miss source '' rehash torch_scatter-2.1.2.tar.gz
    miss recipe '' sed -i 's/MAX_JOBS = "2"/MAX_JOBS = "3"/' images.toml
    miss another 'torch cuda' sed -i 's/cuda = \["130"\]/cuda = ["128"]/' images.toml

    step "two CUDAs in the matrix: a wheel for each"
    beside cudas sed -i 's/cuda = \["130"\]/cuda = ["130", "128"]/' images.toml
    plan cudas
    judge both ../family.json ../cudas.json

    step "production with another torch than the wheel is for"
    beside apart sed -i '/^\[env.prod\]/,/^extras/s/cu{cuda}/cu128/' images.toml
    (cd ../apart && "$imgforge" plan --offline > /dev/null 2> ../apart.log) && die "prod took a wheel that is for another torch"
    grep -q 'torch_scatter-2.1.2.tar.gz of \[env.prod.*is a source distribution' ../apart.log ||
        { cat ../apart.log >&2; die "no word on why"; }

    step "flash-attn's key"
    (cd flash-attn && "$imgforge" plan --offline --json > ../../attend.json)
    beside compiler sed -i '/nvidia_cuda_nvcc-13/s/sha256:..../sha256:0000/' flash-attn/uv.lock
    (cd ../compiler/flash-attn && "$imgforge" plan --offline --json > ../../compiler.json)
    judge miss ../attend.json ../compiler.json cuda
}

if [ "$only_plan" = yes ]; then
    step "the plan of two images"
    plan family
    judge pair ../family.json
    ask
    step "everything is well"
    exit
fi

# Debian's packages of today: mirrors drop older ones. What the wheel depends on of them may be newer too, so that images.lock's
# word on it goes.
"$imgforge" lock --quiet --upgrade

seconds() { python3 -c 'import sys; print(f"{float(sys.argv[2]) - float(sys.argv[1]):.2f}")' "$1" "$EPOCHREALTIME"; }
step "two images from nothing: fetched, and the wheel compiled"
began=$EPOCHREALTIME
"$imgforge" build > digests 2> log || { tail -40 log >&2; die "it can't be built"; }
step "took $(seconds "$began") s"
[ "$(grep -c '^built torch-scatter' log)" = 1 ] || die "torch-scatter was not built once"
grep '^built torch-scatter' log >&2
"$imgforge" verify --quiet --layout dist
"$imgforge" inspect --json > ../inspected.json
judge pair ../inspected.json

step "the same again: nothing is fetched, nothing is made"
began=$EPOCHREALTIME
"$imgforge" build --locked --offline > again 2> log
took=$(seconds "$began")
step "took $took s"
diff digests again || die "other images"
grep '^built' log >&2 && die "the wheel was built again"
python3 -c 'import sys; sys.exit(float(sys.argv[1]) >= 1)' "$took" || die "it took more than a second"

step "the smoke commands, in both"
"$imgforge" test --offline --json > ../tested.json || { cat ../tested.json >&2; die "a command fails"; }
judge passed ../tested.json 4

step "files that prod must not have"
for digest in $(python3 -c '
import json
[prod] = [image for image in json.load(open("../inspected.json"))["images"] if image["reference"].startswith("prod:")]
print(*(layer["digest"].removeprefix("sha256:") for layer in prod["layers"]))'); do
    tar --list --file "dist/blobs/sha256/$digest"
done | sort -u > names
grep -q 'site-packages/torch_scatter/_scatter_cpu\.so$' names || die "the listing of prod is not whole"
unwanted='^app/|/test_model\.py$|site-packages/(_?pytest|hypothesis|ruff|cmake|ninja|pip)/|bin/(cc|gcc|g\+\+|ld|as|nvcc|sh|bash)$'
grep -E "$unwanted" names >&2 && die "that should not be there"

plan family
ask

step "a label, and prod on another base: the wheel's layer stays"
beside other sed -i 's/^labels = { /&team = "ours", /; /^\[image.prod\]/,/^base/s/{root}-prod/{root}-dev/' images.toml
(cd ../other && "$imgforge" build --offline > digests 2> log && "$imgforge" inspect --json > ../other.json)
grep '^built' ../other/log >&2 && die "the wheel was built again"
layers inspected other

step "all variants on other bases: images in the place of NVIDIA's, which a registry would have"
beside bases sed -i 's/^envs = .*/envs = []/' images.toml
(cd ../bases && "$imgforge" build --quiet --offline > digests)
beside nvidia sed -i -e 's/^    { root = "nvidia" },$/    { root = "debian" },/' \
    -e 's|docker://registry.example.org.*|oci:../bases/dist:dev:cu130-base-bookworm-cmake3.31"|' images.toml
[ "$(grep -c '^image = "oci:' ../nvidia/images.toml)" = 2 ] || die "images.toml names other bases than expected"
(cd ../nvidia && "$imgforge" build --offline > digests 2> log && "$imgforge" inspect --json > ../nvidia.json) ||
    { cat ../nvidia/log >&2; die "it can't be built"; }
[ "$(wc -l < ../nvidia/digests)" = 6 ] || die "there are not six images"
grep '^built' ../nvidia/log >&2 && die "the wheel was built again"
layers inspected nvidia

step "a second build of the wheel is the same, byte for byte"
began=$EPOCHREALTIME
name=$(python3 -c 'import json; print(json.load(open("../family.json"))["artifacts"][0]["name"])')
"$imgforge" verify --offline --rebuild "$name" 2> log || { tail -20 log >&2; die "it is not"; }
step "took $(seconds "$began") s"

step "an extension of our own, by nvcc of NVIDIA's wheels"
cd extension
"$imgforge" lock --quiet --upgrade
began=$EPOCHREALTIME
"$imgforge" build > digests 2> log || { tail -40 log >&2; die "the extension can't be built"; }
step "took $(seconds "$began") s"
"$imgforge" test --offline --json > ../../extension.json || { cat ../../extension.json >&2; die "it does not run"; }
judge passed ../../extension.json 2
step "another file of it is another extension, and nothing else is made again"
"$imgforge" plan --offline --json > ../../clip.json
sed -i 's/256/128/g' clip/kernel.cu
"$imgforge" plan --offline --json > ../../narrower.json
judge miss ../../clip.json ../../narrower.json
cd ..

step "everything is well"
