#!/bin/bash
# Resolves sets of requirements for several targets, and has uv judge: the same versions and files as `uv pip compile`, locks that
# `uv` takes, and its words where nothing fits.
#
#   tests/resolve/compare.sh [NAME…]     exit 1 when anything differs
#
# Asks PyPI, for metadata alone. Needs uv, and PYTHON (python3 by default) with pip. RESOLVE names the program that resolves,
# the example `resolve` of crates/resolver/pypi, which is built when it is not set.
set -euo pipefail
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-python3}
if [ -z "${RESOLVE:-}" ]; then
    # As the tests have it: `cargo build` would choose other features, and compile everything anew.
    cargo test --quiet --workspace --no-run --example resolve
    target=$(cargo metadata --format-version 1 --no-deps | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
    RESOLVE=$target/debug/examples/resolve
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$PYTHON" -B tests/resolve/compare.py "$(realpath "$RESOLVE")" "$scratch" "$@"
