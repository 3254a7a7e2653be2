#!/bin/bash
# Without vendored artifacts, everything comes from where the locks say, and the digests are the same.
#
#   tests/e2e/network.sh IMGFORGE
set -euo pipefail
cd "$(dirname "$0")/../.."

imgforge=$(realpath "${1:?usage: network.sh IMGFORGE}")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

mkdir "$scratch/vendor"
cp -r images.toml images.lock app "$scratch/"
cd "$scratch"

echo "network: an empty vendor folder and a new store" >&2
"$imgforge" build --quiet --locked --store "$scratch/store" images.toml

echo "network: images.lock made anew has the same outcome, unless Debian has newer packages" >&2
rm images.lock
"$imgforge" lock --quiet --store "$scratch/store" images.toml
grep -q '^\[\[debian\]\]' images.lock

echo "network: what is vendored now is enough for a build without the network" >&2
"$imgforge" vendor --quiet --store "$scratch/store" images.toml
"$imgforge" build --quiet --offline --store "$scratch/other" images.toml

echo "network: everything is well" >&2
