#!/bin/bash
# Builds examples/rust-extension: a package with a core in Rust, as a release wheel and as an editable install, for two Pythons.
# Asks what compiles it again and what must not, runs it, and has auditwheel judge the wheels.
#
#   tests/systems/rust-extension.sh [--plan] IMGFORGE
#
# Compiles four wheels for some minutes, fetches 400 MB, from Debian, PyPI and crates.io, and needs root for podman, which gets its
# own storage. With --plan nothing is fetched or compiled: what the wheels depend on is asked of the plan.
set -euo pipefail
cd "$(dirname "$0")/../.."

only_plan=no
if [ "${1-}" = --plan ]; then
    only_plan=yes
    shift
fi
imgforge=$(realpath "${1:?usage: rust-extension.sh [--plan] IMGFORGE}")
repository=$PWD
. tests/e2e/engines-apart.sh
step() { echo "rust-extension: $*" >&2; }
judge() { python3 -B "$repository/tests/systems/rust-extension.py" "$@"; }

export IMGFORGE_STORE=$scratch/store
cp -r examples/rust-extension "$scratch/first"
cd "$scratch/first"
rm -rf dist

# Another project like the first but for an edit: NAME COMMAND…, run in its folder. An edit that edits nothing is a mistake.
parts=(images.toml images.lock pyproject.toml uv.lock Cargo.toml Cargo.lock rust src tests)
beside() {
    mkdir "$scratch/$1"
    for part in "${parts[@]}"; do cp -r "$scratch/first/$part" "$scratch/$1/"; done
    (cd "$scratch/$1" && "${@:2}")
    for part in "${parts[@]}"; do
        diff -r "$scratch/first/$part" "$scratch/$1/$part" > /dev/null || return 0
    done
    die "$1 is like the example"
}
plan() { (cd "$scratch/$1" && "$imgforge" plan --offline --json > "$scratch/$1.json"); }
# same NAME 'LAYER…|LAYER…' COMMAND…: an edit that leaves the wheels as they are, and makes these layers others.
same() {
    local layers=()
    [ -z "$2" ] || IFS='|' read -ra layers <<< "$2"
    beside "$1" "${@:3}"
    plan "$1"
    judge same "$1" "$scratch/first.json" "$scratch/$1.json" "${layers[@]}"
}
# other NAME 'PYTHON…' COMMAND…: an edit that makes other wheels for these Pythons.
other() {
    beside "$1" "${@:3}"
    plan "$1"
    judge other "$1" "$scratch/first.json" "$scratch/$1.json" $2
}
append() { echo "$2" >> "$1"; }
package='files /opt/venv/lib/python3.11/site-packages/glyphs|files /opt/venv/lib/python3.13/site-packages/glyphs|files /app/src'

ask() {
    plan first
    judge family "$scratch/first.json"
    step "what compiles nothing: Python files, tests, labels, other packages"
    same a-python-file "$package" sed -i 's/letters a text/signs a text/' src/glyphs/cli.py
    same a-new-python-file "$package" append src/glyphs/words.py '"""Words."""'
    same tests 'files /app/tests' append tests/test_glyphs.py '# more'
    same a-label '' sed -i '/^\[image.runtime\]/a labels = { team = "ours" }' images.toml
    same another-pytest 'glyphs 0.3.0 from /app/src, iniconfig 2.3.1 and 4 more' newer_pytest
    step "what compiles it again: what it is compiled from, and with"
    other metadata 'cp311 cp313' sed -i 's/^description = .*/description = "Counts letters"/' pyproject.toml
    other profile 'cp311 cp313' sed -i 's/"thin"/"fat"/' Cargo.toml
    other a-crate 'cp311 cp313' sed -i 's/^version = "1.21.4"/version = "1.21.3"/' Cargo.lock
    other a-file-in-Rust 'cp311 cp313' append rust/src/lib.rs '// more'
    other a-new-file-in-Rust 'cp311 cp313' append rust/src/more.rs '//! More.'
    other maturin 'cp311 cp313' sed -i '/maturin-.*manylinux.*x86_64/s/sha256:..../sha256:0000/' uv.lock
    other one-python 'cp313' sed -i '/libpython3.13-minimal/s/sha256 = "..../sha256 = "0000/' images.lock
    other one-compiler 'cp311' sed -i '/libstd-rust-web-dev/s/sha256 = "..../sha256 = "0000/' images.lock
}
# pytest's wheel with another hash: another wheel of the development image.
newer_pytest() { sed -i '/\/pytest-.*\.whl/s/sha256:..../sha256:0000/' uv.lock; }

if [ "$only_plan" = yes ]; then
    ask
    step "everything is well"
    exit
fi

[ "$(id -u)" = 0 ] || die "run as root: podman takes it"
for program in skopeo podman runc; do
    command -v "$program" >/dev/null || die "no $program; run: apt-get install skopeo podman runc"
done
command -v uv >/dev/null || die "no uv, which gets auditwheel; run: pip install uv"

# Debian's packages of today: mirrors drop older ones. The host's apt may know only its own release.
mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' | sed -n 's/^bookworm //p' | head -1)
sed -i "s,^debian = \"\(trixie\|{debian}\)\",&\nmirror = \"${mirror:?the mirror of the apt configuration for bookworm}\"," images.toml
"$imgforge" lock --quiet --upgrade

seconds() { python3 -c 'import sys; print(f"{float(sys.argv[2]) - float(sys.argv[1]):.2f}")' "$1" "$EPOCHREALTIME"; }
step "four images from nothing, and four wheels"
began=$EPOCHREALTIME
"$imgforge" build > digests 2> log || { grep -v '^fetching' log | tail -40 >&2; die "it can't be built"; }
step "took $(seconds "$began") s"
grep '^built ' log >&2
[ "$(grep -c '^built glyphs' log)" = 4 ] || die "there were not four wheels to build"
grep -q '^fetching unicode-segmentation-.*\.crate' log || die "no crate was fetched beforehand"
"$imgforge" verify --quiet --layout dist
ask

step "the same again"
began=$EPOCHREALTIME
"$imgforge" build --locked --offline > again 2> log
step "took $(seconds "$began") s"
diff digests again || die "other images"
! grep '^built' log >&2 || die "something was built again"

step "what the images are for"
"$imgforge" test --offline --quiet || { "$imgforge" test --offline; die "it does not run"; }

step "auditwheel finds no newer glibc than the wheels' tags have, and no older one would do"
mkdir "$scratch/wheels"
judge wheels images.lock > "$scratch/recorded"
[ "$(wc -l < "$scratch/recorded")" = 4 ] || die "images.lock does not record four wheels"
number=0
while read -r sha256 file; do
    # Release and dev wheels have one name.
    number=$((number + 1))
    mkdir "$scratch/wheels/$number"
    cp "$IMGFORGE_STORE/blobs/sha256/$sha256" "$scratch/wheels/$number/$file"
    uv run --quiet --no-project --with auditwheel auditwheel show "$scratch/wheels/$number/$file" > "$scratch/audit"
    newest=$(tr -d '\n' < "$scratch/audit" | grep -o "GLIBC_[0-9.]*" | sort --version-sort | tail -1)
    [[ $file == *-manylinux_"$(sed 's/GLIBC_\(.*\)\.\(.*\)/\1_\2/' <<< "$newest")"_x86_64.whl ]] ||
        { cat "$scratch/audit" >&2; die "$file needs $newest"; }
    echo "$file: $newest"
done < "$scratch/recorded"

step "a change of a Python file: its layer, and nothing is compiled"
sed -i 's/letters a text/signs a text/' src/glyphs/cli.py
began=$EPOCHREALTIME
"$imgforge" build --offline --json > built.json 2> log
took=$(seconds "$began")
step "took $took s"
IFS='|' read -ra titles <<< "$package"
judge made built.json "${titles[@]}"
! grep '^built' log >&2 || die "something was compiled"
python3 -c 'import sys; sys.exit(float(sys.argv[1]) >= 5)' "$took" || die "it took five seconds or more"

step "no compiler in the runtime image; edits of the development image's sources show at once"
for image in runtime devel; do
    skopeo copy --quiet "oci:dist:$image:py3.11" "containers-storage:localhost/$image:latest"
done
podman run --rm --network none --entrypoint glyphs localhost/runtime:latest --help | grep -q 'signs a text' ||
    die "the runtime image has not the Python file of now"
podman run --rm --network none --entrypoint python localhost/runtime:latest -c '
import shutil, sys
sys.exit(any(map(shutil.which, ["gcc", "cc", "ld", "rustc", "cargo", "sh"])))' || die "the runtime image has a compiler or a shell"
found=$(podman run --rm --network none localhost/devel:latest bash -c '
sed -i "s/signs a text/edited signs a text/" /app/src/glyphs/cli.py
glyphs --help
python -c "import glyphs; print(glyphs.__file__, glyphs.PROFILE)"
python -c "import glyphs._core; print(glyphs._core.__file__)"
python -c "from importlib.metadata import distribution; print(distribution(\"glyphs\").read_text(\"direct_url.json\"))"
cargo --version && gcc --version')
grep -q 'edited signs a text' <<< "$found" && grep -q '^/app/src/glyphs/__init__.py dev$' <<< "$found" ||
    die "the editable install says: $found"
grep -q '^/app/src/glyphs/_core\..*\.so$' <<< "$found" && grep -q '"editable":true.*file:///app/src"' <<< "$found" ||
    die "the editable install says: $found"

step "a crate with another checksum than Cargo.lock has"
beside tampered sed -i '/^name = "unicode-segmentation"/,/^checksum/s/^checksum = "..../checksum = "0000/' Cargo.lock
(cd "$scratch/tampered" && "$imgforge" build --set python=3.11 > /dev/null 2> log) && die "it was used"
grep -q 'unicode-segmentation' "$scratch/tampered/log" || { tail "$scratch/tampered/log" >&2; die "the error does not name the crate"; }

step "compiled a second time: the same bytes"
began=$EPOCHREALTIME
"$imgforge" verify --offline --rebuild glyphs 2> log || { tail -20 log >&2; die "other bytes"; }
step "took $(seconds "$began") s"

step "everything is well"
