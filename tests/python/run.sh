#!/bin/bash
# The Python package, installed from its wheel into a clean virtual environment: the tests beside this file, the stubs as
# mypy reads them, and the examples of docs/python.md.
#
#   tests/python/run.sh WHEEL
#
# Needs docker-registry, and the network for pytest and mypy.
set -euo pipefail
cd "$(dirname "$0")/../.."

wheel=$(realpath "${1:?usage: run.sh WHEEL}")
command -v docker-registry >/dev/null || { echo "run.sh: no docker-registry; run: apt-get install docker-registry" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
unset IMGFORGE_STORE PYTHONPATH

"${PYTHON:-python3}" -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --no-index "$wheel"
[ "$("$scratch/venv/bin/imgforge" --version)" = "$("$python" -m imgforge --version)" ]
"$python" -m pip install --quiet pytest mypy

"$python" -m mypy --strict tests/python
# The stubs say what the module has, names, arguments and defaults.
"$python" -m mypy.stubtest imgforge
"$python" -m pytest --quiet -p no:cacheprovider tests/python

# The page's examples run where a reader would run them: in a project's folder.
mkdir "$scratch/project"
cp -r images.toml images.lock app vendor "$scratch/project"
page=$PWD/docs/python.md
(cd "$scratch/project" && IMGFORGE_STORE=$scratch/store "$python" -m doctest -o ELLIPSIS -o NORMALIZE_WHITESPACE "$page")
