#!/bin/bash
# Asks Poetry what it would install from the poetry.locks that the reader is tested with, and compares that with what the
# tests expect: crates/resolver/pypi/tests/locks/poetry-*/CASE.expect.
#
#   tests/locks/poetry.sh                               exit 1 when Poetry decides otherwise
#   tests/locks/poetry.sh --record                      writes the files anew
#   tests/locks/poetry.sh FOLDER PYTHON ARCH LIBC …     what it would install from the lock in a folder, for a target
#
# Poetry is fetched into a venv of its own below ~/.cache; PYTHON names the Python that it runs in (python3 by default).
# poetry_judge.py has the cases and the targets, of which this machine need be none, and says what the arguments are.
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=$HOME/.cache/imgforge-tools/poetry
if [ ! -x "$venv/bin/poetry" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet 'poetry>=2.3,<3'
fi
"$venv/bin/python" -B tests/locks/poetry_judge.py crates/resolver/pypi/tests/locks "$@"
