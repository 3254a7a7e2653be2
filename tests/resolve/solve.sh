#!/bin/bash
# Resolves environments from generated conda channels, and has py-rattler judge: the same records, or none as well.
#
#   tests/resolve/solve.sh [--channel URL SPEC…]     exit 1 when anything differs
#
# With --channel, one environment from a channel that there is. Needs PYTHON (python3 by default) with py-rattler, which is
# installed for it. SOLVE names the program that resolves, the example `solve` of crates/resolver/conda, which is built when
# it is not set.
set -euo pipefail
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-python3}
environment=$HOME/.cache/imgforge-tools/rattler
[ -x "$environment/bin/python" ] || "$PYTHON" -m venv "$environment"
"$environment/bin/python" -c 'import rattler' 2>/dev/null ||
    "$environment/bin/python" -m pip install --quiet 'py-rattler==0.28.0'
if [ -z "${SOLVE:-}" ]; then
    cargo test --quiet --workspace --no-run --example solve
    target=$(cargo metadata --format-version 1 --no-deps | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
    SOLVE=$target/debug/examples/solve
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$environment/bin/python" -B tests/resolve/solve.py "$(realpath "$SOLVE")" "$scratch" "$@"
