#!/bin/bash
# Compares environments that imgforge makes of real locks with what uv installs from them, file by file.
#
#   tests/locks/compare.sh [--large] [NAME…]
#
# environments.toml lists them; without a name, all are compared, those of gigabytes only with --large. Exit 1 when anything
# differs that is not documented in crates/layer/src/wheel/mod.rs, crates/layer/src/environment.rs or src/conflicts.rs.
#
# Needs uv and a CPython that the locks allow; PYTHON names it (python3.11 by default). IMGFORGE names the program, which
# is built when it is not set. Fetches some 700 MB, twice; with --large 3 GB more.
set -euo pipefail
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-python3.11}
command -v "$PYTHON" >/dev/null || { echo "compare.sh: no $PYTHON; set PYTHON to a CPython from 3.11" >&2; exit 2; }
command -v uv >/dev/null || { echo "compare.sh: no uv; run: pip install uv" >&2; exit 2; }

if [ -z "${IMGFORGE:-}" ]; then
    cargo build --quiet
    target=$(cargo metadata --format-version 1 --no-deps | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
    IMGFORGE=$target/debug/imgforge
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$PYTHON" -B tests/locks/compare_locks.py "$(realpath "$IMGFORGE")" "$scratch" "$@"
