#!/bin/bash
# Measures `imgforge build` of a conda environment of 1 GB beside rattler's installer with tar and zstd, and with buildah.
#
#   benches/conda/run.sh [--imgforge PROGRAM] [--work FOLDER] [--rounds N] [--jobs N] [--without-buildah]
#
# Everything lies in a temporary folder that is removed, or in FOLDER, where a later run finds the channel again: 8 GB.
# Needs Debian, PYTHON (python3 by default) with py-rattler, which is installed for it, and root for buildah. README.md
# beside this file says what is measured.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

die() { echo "run.sh: $*" >&2; exit 1; }
imgforge=${CARGO_TARGET_DIR:-$here/../../target}/release/imgforge
work=
further=()
needed=(zstd tar openssl dpkg-query dpkg-deb)
with_buildah=yes
while [ $# -gt 0 ]; do
    case $1 in
        --imgforge) imgforge=${2:?--imgforge PROGRAM}; shift ;;
        --work) work=${2:?--work FOLDER}; shift ;;
        --rounds | --jobs) further+=("$1" "${2:?$1 N}"); shift ;;
        --without-buildah) further+=(--without-buildah); with_buildah=no ;;
        *) sed -n 2,8p "$0" >&2; exit 2 ;;
    esac
    shift
done
[ -x "$imgforge" ] || die "no $imgforge; run: cargo build --release --bins --package imgforge"
[ $with_buildah = no ] || needed+=(buildah)
for program in "${needed[@]}"; do
    command -v "$program" >/dev/null || die "no $program; run: apt-get install zstd tar openssl dpkg buildah"
done

PYTHON=${PYTHON:-python3}
environment=$HOME/.cache/imgforge-tools/rattler
[ -x "$environment/bin/python" ] || "$PYTHON" -m venv "$environment"
"$environment/bin/python" -c 'import rattler' 2>/dev/null ||
    "$environment/bin/python" -m pip install --quiet 'py-rattler==0.28.0'

if [ -z "$work" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
fi
mkdir -p "$work"
"$environment/bin/python" -B "$here/bench.py" "$imgforge" "$work" "${further[@]}"
