#!/bin/bash
# Builds examples/stacks: nine images of PyTorch, Ray and marimo. Says what is stored, what is made again and how long it takes,
# has podman run what their owner runs, and fails where a promise does not hold.
#
#   tests/systems/stacks.sh [--plan] IMGFORGE
#
# Fetches 3 GB and needs 14 GB below TMPDIR, and root for podman, which gets its own storage. With --plan nothing is fetched or
# made: the example's files are held against each other, as far as the plan tells.
set -euo pipefail
cd "$(dirname "$0")/../.."

only_plan=no
if [ "${1-}" = --plan ]; then
    only_plan=yes
    shift
fi
imgforge=$(realpath "${1:?usage: stacks.sh [--plan] IMGFORGE}")
repository=$PWD
. tests/e2e/engines-apart.sh
step() { echo "stacks: $*" >&2; }
judge() { python3 -B "$repository/tests/systems/stacks.py" "$@"; }

export IMGFORGE_STORE=$scratch/store
mkdir "$scratch/examples"
cp -r examples/stacks "$scratch/examples/"
cp -r vendor "$scratch/"
cd "$scratch/examples/stacks"
rm -rf channel dist
python3 -B "$repository/examples/conda/channel.py" ../../vendor channel

# Another project beside this one, with the same locks and records.
beside() {
    mkdir "$scratch/examples/$1"
    cp -r images.lock environment-py311.yml locks channel "$scratch/examples/$1/"
    cat > "$scratch/examples/$1/images.toml"
}
# The family with a stack more: its name, the stack that it is on, and that one's environments.
with_stack() {
    cat images.toml - <<END
[env.$1]
lock = "locks/cu{cuda}-py{python}-torch{torch}/uv.lock"
into = "py"
groups = ["$1"]
[image.$1-runtime]
extends = "$2-runtime"
envs = [$3, "$1"]
[image.$1-devel]
extends = "$1-runtime"
base = "{root}-devel"
[image.$1-builder]
extends = "$1-runtime"
base = "{root}-builder"
END
}
with_stack lab marimo '"py", "simple", "ray", "marimo"' | beside lab
with_stack serve ray '"py", "simple", "ray"' | beside serve
sed 's/^# include/include/' images.toml | beside cuda

if [ "$only_plan" = yes ]; then
    step "the plan of nine images, and of twelve"
    "$imgforge" plan --offline --json > "$scratch/plan.json"
    judge family "$scratch/plan.json"
    "$imgforge" plan --offline --json ../lab/images.toml > "$scratch/lab.json"
    judge new "$scratch/plan.json" "$scratch/lab.json"
    "$imgforge" plan --offline --json --set cuda=128 ../cuda/images.toml > "$scratch/cuda.json"
    judge family "$scratch/cuda.json"
    step "everything is well"
    exit
fi

[ "$(id -u)" = 0 ] || die "run as root: podman takes it"
for program in skopeo podman runc zstd; do
    command -v "$program" >/dev/null || die "no $program; run: apt-get install skopeo podman runc zstd"
done
tag=cu130-py311-torch2.11.0

# Debian's packages of today: mirrors drop older ones. What images.lock records of the other layers stays, and each is compared
# with it.
step "images.lock, and the plan from nothing"
"$imgforge" lock --quiet --upgrade
"$imgforge" plan --json > "$scratch/plan.json"
fetched=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["totals"]["fetched_bytes"])' < "$scratch/plan.json")

seconds() { python3 -c 'import sys; print(f"{float(sys.argv[2]) - float(sys.argv[1]):.2f}")' "$1" "$EPOCHREALTIME"; }
step "nine images from nothing, fetched"
began=$EPOCHREALTIME
"$imgforge" build --quiet > digests
step "took $(seconds "$began") s"
"$imgforge" verify --quiet --layout dist
"$imgforge" inspect "ray-devel:$tag-ray2.51.0" > /dev/null
"$imgforge" inspect --json > inspected.json
judge family inspected.json dist "$fetched"

step "the same again: nothing is fetched, nothing is made"
began=$EPOCHREALTIME
"$imgforge" build --quiet --locked --offline > again
took=$(seconds "$began")
step "took $took s"
diff digests again || die "other images"
python3 -c 'import sys; sys.exit(float(sys.argv[1]) >= 1)' "$took" || die "it took more than a second"
"$imgforge" build --quiet --locked --offline --json > again.json
judge unchanged again.json

step "caches, bytecode and lists in any layer"
find dist/blobs/sha256 -type f -size +4k | while read -r blob; do
    # Configurations and manifests are no archives.
    [ "$(head -c 1 "$blob")" = '{' ] || tar --list --file "$blob"
done | sort -u > names
for expected in 'site-packages/torch/__init__\.py$' 'site-packages/marimo/__init__\.py$' 'usr/bin/gcc-12$'; do
    grep -q "$expected" names || die "no $expected in any layer: the listing is not whole"
done
grep -E '\.py[co]$|(^|/)__pycache__(/|$)|(^|/)\.cache(/|$)|^opt/conda/pkgs(/|$)|^var/cache/apt/.|^var/lib/apt/lists/.' names >&2 &&
    die "that should not be there"
step "none in $(wc -l < names) paths"

step "a stack on top: lab, on marimo"
"$imgforge" build --quiet --output ../lab/dist ../lab/images.toml > ../lab/digests
"$imgforge" inspect --json --output ../lab/dist > ../lab/inspected.json
judge new inspected.json ../lab/inspected.json

step "a stack beside: serve, on ray, with packages that marimo has too"
"$imgforge" build --quiet --output ../serve/dist ../serve/images.toml > ../serve/digests
"$imgforge" inspect --json --output ../serve/dist > ../serve/inspected.json
judge split inspected.json ../serve/inspected.json

step "another CUDA in the matrix: 12.8 beside 13.0"
"$imgforge" plan --json ../cuda/images.toml > ../cuda/plan.json
judge fetched inspected.json ../cuda/plan.json
# What becomes of the images that were there, without fetching the others' 4 GB.
"$imgforge" build --quiet --offline --set cuda=130 --output ../cuda/dist ../cuda/images.toml > ../cuda/digests
"$imgforge" inspect --json --output ../cuda/dist > ../cuda/inspected.json
judge split inspected.json ../cuda/inspected.json

for count in 'lab 12' 'serve 12' 'cuda 9' 'stacks 9'; do
    [ "$(wc -l < "../${count% *}/digests")" = "${count#* }" ] || die "of ${count% *} there are not ${count#* } images"
done
rm -r ../lab ../serve ../cuda

step "what the images start from, alone: compilers and tools"
sed 's/^envs = .*/envs = []/' images.toml | beside bases
"$imgforge" build --quiet --offline --output ../bases/dist ../bases/images.toml 'simple-*' > ../bases/digests
for image in simple-runtime simple-devel simple-builder; do
    skopeo copy --quiet "oci:../bases/dist:$image:$tag" "containers-storage:localhost/$image:latest"
done
in_image() { podman run --rm --network none "localhost/$1:latest" "${@:2}"; }
compile='printf "#include <cstdio>\nint main() { std::puts(\"compiled\"); }" | g++ -x c++ - -o /tmp/a && /tmp/a'
for image in simple-devel simple-builder; do
    [ "$(in_image $image sh -c "$compile")" = compiled ] || die "$image does not compile"
done
in_image simple-builder git --version
in_image simple-builder cmake --version
in_image simple-runtime sh -c true 2>/dev/null && die "simple-runtime has a shell"
podman rmi --all --force >/dev/null

step "the same on other bases: images in the place of NVIDIA's, which are on Docker Hub"
sed -e 's/^exclude = .*/exclude = [{ root = "debian" }]/' \
    -e "s|docker://docker.io/nvidia/cuda:{toolkit}-\([a-z]*\)-ubuntu24.04|oci:../bases/dist:simple-\1:$tag|" images.toml |
    beside nvidia
[ "$(grep -c 'oci:../bases' ../nvidia/images.toml)" = 3 ] || die "images.toml names other bases than expected"
"$imgforge" build --quiet --offline --output ../nvidia/dist ../nvidia/images.toml > ../nvidia/digests
"$imgforge" inspect --json --output ../nvidia/dist > ../nvidia/inspected.json
judge unlike inspected.json ../nvidia/inspected.json

step "what its owner runs, in marimo-runtime"
skopeo copy --quiet "oci:dist:marimo-runtime:$tag-ray2.51.0" containers-storage:localhost/marimo-runtime:latest
run() { in_image marimo-runtime "$@"; }
run marimo edit --help > help
grep -q 'marimo edit' help || die "marimo edit --help says nothing"
run python -c 'import ray; ray.init(); ray.shutdown()'
[ "$(run python -c 'import torch, torch_geometric; print(torch.version.cuda, int(torch.ones(3).sum()))')" = "13.0 3" ] ||
    die "torch does not add up"
run python -c '
import ray
ray.init(num_cpus=1, include_dashboard=False)

@ray.remote
def more(number):
    import torch
    return int(torch.tensor(number) + 1)

assert ray.get(more.remote(41)) == 42
'
podman run --detach --network none --name notebook localhost/marimo-runtime:latest \
    marimo edit --headless --no-token --port 2718 > /dev/null
answers() {
    podman exec notebook python -c 'import urllib.request
assert b"marimo" in urllib.request.urlopen("http://127.0.0.1:2718/").read()' 2>/dev/null
}
for _ in $(seq 60); do
    answers && break
    sleep 1
done
answers || { podman logs notebook >&2; die "marimo does not answer"; }

step "everything is well"
