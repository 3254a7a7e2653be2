#!/bin/bash
# Compares conda environments that imgforge makes with what rattler's own installer leaves, file by file.
#
#   tests/conda/compare.sh [NAME…]
#
# The channels are made here: examples/conda/channel.py has CPython and wheels from the vendor folder, tests/conda/oddities.py
# what makes linking hard. Exit 1 when anything differs that compare.py does not name.
#
# Needs PYTHON (python3 by default) with py-rattler, which is installed for it. IMGFORGE names the program, which is built
# when it is not set.
set -euo pipefail
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-python3}
environment=$HOME/.cache/imgforge-tools/rattler
[ -x "$environment/bin/python" ] || "$PYTHON" -m venv "$environment"
"$environment/bin/python" -c 'import rattler' 2>/dev/null ||
    "$environment/bin/python" -m pip install --quiet 'py-rattler==0.28.0'

if [ -z "${IMGFORGE:-}" ]; then
    cargo build --quiet
    target=$(cargo metadata --format-version 1 --no-deps | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
    IMGFORGE=$target/debug/imgforge
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$environment/bin/python" -B tests/conda/compare.py "$(realpath "$IMGFORGE")" "$scratch" "$@"
