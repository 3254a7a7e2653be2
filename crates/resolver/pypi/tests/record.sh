#!/usr/bin/env bash
# Writes what uv selects from the locks beside this script: tests/locks/<lock>/<case>.expect, one
# `name==version file` for each package, which tests/locks.rs compares our selection with.
#
#     tests/record.sh            every case again (no network: the locks are frozen)
#
# uv decides what is installed (`uv export`), with markers still in it. pip's copy of `packaging`, the reference
# implementation of markers (PEP 508) and tags (PEP 425, 600, 656), decides which of it the target gets and which wheel is
# best. So neither half of the expectation comes from the crates under test. Needs uv and a python3 with pip.
set -euo pipefail
cd "$(dirname "$0")/locks"

# case LOCK CASE PYTHON ARCH LIBC [uv export flags…]
case_() {
    local lock=$1 case=$2 python=$3 arch=$4 libc=$5
    shift 5
    (
        cd "$lock"
        uv export --quiet --frozen --offline --no-emit-workspace --no-default-groups --format pylock.toml "$@" \
            | python3 ../../record.py "$python" "$arch" "$libc" >"$case.expect"
        echo "$lock/$case: $(wc -l <"$case.expect") packages"
    )
}

case_ torch linux-amd64 3.11 x86_64 manylinux_2_36
case_ torch linux-arm64 3.12 aarch64 manylinux_2_36
case_ torch python-3.14 3.14.1 x86_64 manylinux_2_28
case_ workspace all 3.12 x86_64 manylinux_2_36 --all-packages
case_ workspace app 3.9 x86_64 manylinux_2_36 --package app
case_ workspace app-cli 3.13 aarch64 manylinux_2_17 --package app --extra cli --group dev
case_ workspace app-defaults 3.10 x86_64 manylinux_2_36 --package app --group docs
case_ workspace tools-musl 3.11 x86_64 musllinux_1_2 --package tools
case_ forks amd64 3.11 x86_64 manylinux_2_36
case_ forks arm64 3.11 aarch64 manylinux_2_36
case_ forks old-python 3.9 x86_64 manylinux_2_17 --extra old --group slow
case_ forks new-musl 3.12 aarch64 musllinux_1_2 --extra new --extra http --group fast --group dev
case_ lerobot default 3.12 x86_64 manylinux_2_36
case_ lerobot training 3.12 x86_64 manylinux_2_36 --extra training --extra pi
case_ lerobot arm64 3.13 aarch64 manylinux_2_36 --extra dataset
for target in "amd64 3.11 x86_64 manylinux_2_36" "arm64 3.13 aarch64 manylinux_2_28"; do
    read -r case python arch libc <<<"$target"
    python3 ../record.py "$python" "$arch" "$libc" <comfy-cli/pylock.toml >"comfy-cli/$case.expect"
    echo "comfy-cli/$case: $(wc -l <"comfy-cli/$case.expect") packages"
done
