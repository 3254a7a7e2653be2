#!/bin/bash
# Runs every `imgforge …` line of the README's code blocks, in their order, in a copy of the project without a network.
#
#   tests/e2e/readme.sh IMGFORGE
set -euo pipefail
cd "$(dirname "$0")/../.."

imgforge=$(realpath "${1:?usage: readme.sh IMGFORGE}")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

awk '/^```sh$/ {inside = 1; next} /^```/ {inside = 0} inside && /^imgforge / {sub(/ +#.*/, ""); print}' README.md \
    > "$scratch/commands"
[ -s "$scratch/commands" ] || { echo "readme.sh: the README shows no command" >&2; exit 1; }

mkdir "$scratch/bin" "$scratch/project"
ln -s "$imgforge" "$scratch/bin/imgforge"
cp -r images.toml images.lock app "$scratch/project/"
ln -s "$PWD/vendor" "$scratch/project/vendor"
cd "$scratch/project"
export PATH=$scratch/bin:$PATH IMGFORGE_STORE=$scratch/store
while read -r line; do
    echo "readme: $line" >&2
    bash -euo pipefail -c "$line" > "$scratch/out" 2> "$scratch/err" < /dev/null ||
        { cat "$scratch/out" "$scratch/err" >&2; echo "readme.sh: failed: $line" >&2; exit 1; }
done < "$scratch/commands"
echo "readme: everything is well" >&2
