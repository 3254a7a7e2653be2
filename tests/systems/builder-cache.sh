#!/bin/bash
# Builds examples/builder-cache: an image of ten extensions, each an artifact. Then changes what its owners change, says how
# much of it is made again and how long that takes, and fails where more is than has to be.
#
#   tests/systems/builder-cache.sh [--plan] IMGFORGE
#
# Fetches 250 MB, from Debian, PyPI and crates.io. With --plan nothing is fetched or built: what would be made again is asked of the plan.
set -euo pipefail
cd "$(dirname "$0")/../.."

only_plan=no
if [ "${1-}" = --plan ]; then
    only_plan=yes
    shift
fi
imgforge=$(realpath "${1:?usage: builder-cache.sh [--plan] IMGFORGE}")
repository=$PWD
. tests/e2e/engines-apart.sh
step() { echo "builder-cache: $*" >&2; }
judge() { python3 -B "$repository/tests/systems/builder-cache.py" "$@"; }

export IMGFORGE_STORE=$scratch/store
cp -r examples/builder-cache "$scratch/first"
cd "$scratch/first"
rm -rf dist

# Another state of the project, edited by a command in its folder, with all that is known of the first. An edit that edits
# nothing is a mistake.
parts=(images.toml images.lock pyproject.toml uv.lock extensions)
edited() {
    mkdir "$scratch/$1"
    for part in "${parts[@]}"; do cp -r "$scratch/first/$part" "$scratch/$1/"; done
    cd "$scratch/$1"
    "${@:2}"
    for part in "${parts[@]}"; do
        diff -r "$scratch/first/$part" "$part" > /dev/null || return 0
    done
    die "$1 is like the example"
}
# Edits of images.toml, by builder-cache.py: EDIT [ARGUMENT…].
rewrite() { judge "$@" < "$scratch/first/images.toml" > images.toml; }
version_of_reap() { sed -i 's/VERSION = "1.2.0"/VERSION = "1.2.1"/' images.toml; }
source_of_stamp() { sed -i 's/{:10.3}/{:12.6}/' extensions/stamp/src/main.rs; }
crate_of_stamp() { sed -i '/^name = "time"/,/^checksum/s/^checksum = "..../checksum = "0000/' extensions/stamp/Cargo.lock; }
# The beginning of a package's hash, in the builder's part of images.lock.
rehash() { sed -i "1,/^base = \"dev\"/{/name = \"$1\"/s/sha256 = \"..../sha256 = \"0000/}" images.lock; }

if [ "$only_plan" = yes ]; then
    # planned WHAT [EXPECTED…]: what the plan has that the first one has not.
    planned() {
        "$imgforge" plan --offline --json > planned.json
        judge planned "$1" "$scratch/first/planned.json" planned.json "${@:2}"
    }
    planned "the example"
    edited add rewrite add
    planned "A: an extension more" artifact:hush layer:hush
    # Another base without Debian's lists, for which the network would be asked.
    mkdir "$scratch/next"
    printf 'version = 1\n[base.empty]\nscratch = true\n[image.next]\nbase = "empty"\nfiles = [{ src = "images.toml", dest = "/etc/" }]\n' \
        > "$scratch/next/images.toml"
    (cd "$scratch/next" && "$imgforge" build --quiet --offline > digests)
    edited scratch-base rewrite base 'image = "oci:../next/dist:next:latest"'
    planned "B: another final base"
    edited version version_of_reap
    planned "C: another version of one extension" artifact:reap layer:reap
    edited source source_of_stamp
    planned "C: another source of one extension" artifact:stamp layer:stamp
    edited crate crate_of_stamp
    planned "C: another crate of one extension" artifact:stamp layer:stamp
    edited pyflakes sed -i '/pyflakes-.*\.whl/s/sha256:..../sha256:0000/' uv.lock
    planned "C: another wheel of one extension" artifact:pyflakes layer:pyflakes
    edited order rewrite reorder
    planned "D: another order"
    edited builder rehash libctf0
    planned "another package in the builder, of which no key speaks"
    edited compiler rehash gcc-12
    planned "another compiler" artifact:{reap,stamp,xxh3} layer:{reap,stamp,xxh3}
    step "everything is well"
    exit
fi

command -v uv >/dev/null || die "no uv; run: pip install uv"
command -v docker-registry >/dev/null || die "no docker-registry; run: apt-get install docker-registry"
command -v curl >/dev/null || die "no curl; run: apt-get install curl"

# Debian's packages of today: mirrors drop older ones. Where a compiler is newer too, images.lock's word on what it compiled goes.
step "images.lock"
"$imgforge" lock --quiet --upgrade

# made WHAT [EXPECTED…] [-- ARGUMENTS…]: builds what is here, and says what it made. What is expected to be is given as words:
# `artifact:NAME` and `layer:NAME` of an extension, `base` of layers of the base; nothing is nothing.
made() {
    local what=$1 expected=() began took
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do expected+=("$1"); shift; done
    [ $# -eq 0 ] || shift
    # The plan and the build would both pin what has to be pinned: once is enough.
    began=$(now)
    "$imgforge" lock --quiet
    took=$(($(now) - began))
    "$imgforge" plan --quiet --json "$@" > planned.json
    began=$(now)
    "$imgforge" build --json "$@" > built.json 2> log || { cat log >&2; die "$what: it was not built"; }
    took=$((took + $(now) - began))
    judge made "$what" "$took" planned.json built.json log "${expected[@]}"
}
now() { echo "${EPOCHREALTIME/[.,]/}"; }
digest() { python3 -c 'import json, sys; print(json.load(sys.stdin)["images"][0]["digest"])' < "$scratch/$1/built.json"; }

made "from nothing" everything
made "again"
"$imgforge" verify --quiet --layout dist
judge ordered built.json reap flame

step "what the image is for"
"$imgforge" test --quiet || { "$imgforge" test; die "a tool does not run"; }
for digest in $(python3 -c 'import json; print(*(layer["digest"].removeprefix("sha256:") for layer in
    json.load(open("built.json"))["images"][0]["platforms"][0]["layers"]))'); do
    tar --list --file "dist/blobs/sha256/$digest"
done | sort -u > "$scratch/names"
grep -q '^usr/local/bin/just$' "$scratch/names" || die "the listing of the image is not whole"
grep -E '^usr/bin/(gcc|g\+\+|ld|as)(-|$)|^opt/tools/' "$scratch/names" >&2 && die "that should not be there: it is the builder's"

edited add rewrite add
made "A: an extension more" artifact:hush layer:hush
"$imgforge" test --quiet || { "$imgforge" test; die "a tool does not run beside hush"; }

mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' | sed -n 's/^bookworm //p' | head -1)
edited trixie rewrite base "debian = \"trixie\"
mirror = \"${mirror:?the mirror of the apt configuration for bookworm}\""
made "B: the final base is trixie" base
"$imgforge" test --quiet || { "$imgforge" test; die "a tool does not run on trixie"; }

newer_pyflakes() { sed -i 's/pyflakes==.*"/pyflakes==4.0.3"/' pyproject.toml && uv lock --quiet; }
edited pyflakes newer_pyflakes
made "C: another version of one extension, by uv lock" artifact:pyflakes layer:pyflakes
edited version version_of_reap
made "C: another version of one of ours" artifact:reap layer:reap
edited source source_of_stamp
made "C: another source of one in Rust" artifact:stamp layer:stamp

edited order rewrite reorder
made "D: another order"
[ "$(digest order)" = "$(digest first)" ] || die "another order is another image"

edited builder rewrite builder
made "a program more in the builder"

step "compiled a second time: the same bytes"
cd "$scratch/first"
for extension in flame jsonq reap stamp xxh3; do
    "$imgforge" verify --offline --rebuild "$extension" 2> log || { tail -20 log >&2; die "$extension: other bytes"; }
done

step "another host, which has nothing, and the first one's cache"
port=$(free_port)
printf '%s\n' "version: 0.1" "log: {level: error, accesslog: {disabled: true}}" \
    "storage: {filesystem: {rootdirectory: $scratch/registry}}" "http: {addr: 127.0.0.1:$port}" > "$scratch/registry.yml"
docker-registry serve "$scratch/registry.yml" > "$scratch/registry.log" 2>&1 &
servers+=($!)
for _ in $(seq 100); do
    curl --silent --output /dev/null "http://127.0.0.1:$port/" && break
    sleep 0.1
done
cache=docker://127.0.0.1:$port/cache
"$imgforge" build --quiet --cache "$cache" > /dev/null
mkdir "$scratch/second"
cp -r "${parts[@]}" "$scratch/second/"
cd "$scratch/second"
export IMGFORGE_STORE=$scratch/second-store
made "another host with the cache" -- --cache "$cache"
[ "$(digest second)" = "$(digest first)" ] || die "another host makes another image"

step "everything is well"
