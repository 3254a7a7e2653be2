#!/bin/bash
# imgforge's own wheel as an artifact (examples/itself): compiled in the sandbox from the crates of Cargo.lock, put into an
# image, and run there.
#
#   tests/systems/itself.sh [--plan] IMGFORGE
#
# Needs the network for Debian's packages and crates. With --plan, nothing is compiled: the plan has to have the artifact
# with its axes, and a change of an input makes it another one. Without, it takes half an hour.
set -euo pipefail
cd "$(dirname "$0")/../.."

plan=no
if [ "${1-}" = --plan ]; then plan=yes; shift; fi
imgforge=$(realpath "${1:?usage: itself.sh [--plan] IMGFORGE}")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
die() { echo "itself: $*" >&2; exit 1; }

export IMGFORGE_STORE=${ITSELF_STORE:-$scratch/store}
version=$("$imgforge" --version)

# A copy, so that nothing is written here and something can be changed.
mkdir "$scratch/tree"
git ls-files -z | grep -zv '^vendor/' | xargs -0 cp --parents -t "$scratch/tree"
cd "$scratch/tree/examples/itself"

artifact() {
    "$imgforge" plan --json --quiet | python3 -c '
import json, sys
(artifact,) = json.load(sys.stdin)["artifacts"]
print(artifact["key"], artifact["title"], sep="\t")'
}
before=$(artifact)
for axis in 'imgforge · cp311' rustc-web gcc maturin; do
    grep -q "$axis" <<< "$before" || die "the artifact's line lacks \`$axis\`: $before"
done
echo >> ../../tests/python/run.sh
[ "$(artifact)" = "$before" ] || die "a test makes another wheel"
echo '// Another line.' >> ../../src/main.rs
[ "$(artifact)" != "$before" ] || die "another source makes the same wheel"
[ "$plan" = yes ] && exit 0

"$imgforge" build --output "$scratch/dist" >&2
"$imgforge" test >&2
said=$("$imgforge" inspect --output "$scratch/dist" imgforge)
grep -q "$version" <<< "$said" || die "the image has another imgforge: $said"
