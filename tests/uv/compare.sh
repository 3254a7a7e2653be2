#!/bin/sh
# Compares what imgforge makes of wheels with what `uv pip install` leaves, file by file, for wheels from PyPI or for those
# in the folder that is given: `tests/uv/compare.sh [FOLDER]`. Exit 1 when anything differs that is not documented in
# crates/layer/src/wheel/mod.rs and crates/layer/src/environment.rs.
#
# Needs uv and pip for a CPython; PYTHON names it (python3.11 by default). Each wheel gets an environment of its own at one
# and the same prefix, so any set of wheels will do, several versions of one package included.
set -eu
wheels=${1:+$(cd "$1" && pwd)}
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-python3.11}
command -v "$PYTHON" >/dev/null || { echo "compare.sh: no $PYTHON; set PYTHON to a CPython 3" >&2; exit 2; }
command -v uv >/dev/null || { echo "compare.sh: no uv; run: pip install uv" >&2; exit 2; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if [ -z "$wheels" ]; then
    wheels=$scratch/wheels
    # Each line is here for something that few wheels have.
    sed 's/#.*//' <<'END' | xargs "$PYTHON" -m pip download --quiet --no-deps --only-binary=:all: --dest "$wheels"
greenlet pybind11-global jupyter-core notebook       # headers, .data/data
awscli cmake ninja ruff sympy docutils               # .data/scripts: rewritten, binary, both
pip setuptools wheel virtualenv                      # launchers named by version, old wrappers
cowsay black mypy pyyaml certifi selenium protobuf   # console scripts, compiled, Bazel's zip
numpy scipy matplotlib grpcio ansible-core           # large, many files, executable data
nvidia-nvtx torchvision mkl-fft                      # namespace folders, odd WHEEL
END
fi

cargo build --quiet -p imgforge-layer --example unpack_wheels
target=$(cargo metadata --format-version 1 --no-deps | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
"$PYTHON" tests/uv/compare.py "$target/debug/examples/unpack_wheels" "$scratch" "$wheels"
