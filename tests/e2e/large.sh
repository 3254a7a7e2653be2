#!/bin/bash
# A lock of gigabytes: torch with its CUDA packages, fetched, built twice in different ways, and checked.
#
#   tests/e2e/large.sh IMGFORGE
#
# Fetches some 4 GB and needs three times as much space, below TMPDIR.
set -euo pipefail
cd "$(dirname "$0")/../.."

imgforge=$(realpath "${1:?usage: large.sh IMGFORGE}")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r benches/torch/{images.toml,uv.lock,pyproject.toml,app} "$scratch/"
cd "$scratch"
export IMGFORGE_STORE=$scratch/store

echo "large: fetch and build" >&2
"$imgforge" build --quiet > first
echo "large: check every digest, size and diff ID" >&2
"$imgforge" verify --layout dist
echo "large: build again with one thread, from what was fetched" >&2
rm -r dist "$scratch/store/layers"
"$imgforge" build --quiet --offline --locked --jobs 1 > second
diff first second
echo "large: nothing is left to do" >&2
"$imgforge" plan --offline
echo "large: everything is well" >&2
