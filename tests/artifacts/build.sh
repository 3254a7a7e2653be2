#!/bin/bash
# Builds examples/artifacts: a wheel of a lock's source distribution, one of a Rust project, and a C program by a script.
# podman runs what came out, auditwheel judges the wheels. Then things change, one at a time, and what is built again has
# to be what they make another, and nothing else. A build that fails leaves nothing, and another user gets the same bytes.
#
#   tests/artifacts/build.sh IMGFORGE
#
# Needs root for podman, which gets its own storage, and the network: Debian's packages, those of PyPI and crates.io.
set -euo pipefail
cd "$(dirname "$0")/../.."

imgforge=$(realpath "${1:?usage: build.sh IMGFORGE}")
example=$PWD/examples/artifacts
. tests/e2e/engines-apart.sh
step() { echo "artifacts: $* ($SECONDS s)" >&2; }

[ "$(id -u)" = 0 ] || die "run as root: podman and another user take it"
for program in skopeo podman runc runuser; do
    command -v "$program" >/dev/null || die "no $program; run: apt-get install skopeo podman runc util-linux"
done
command -v uv >/dev/null || die "no uv, which gets auditwheel; run: pip install uv"

export IMGFORGE_STORE=$scratch/store
cp -r "$example" "$scratch/one"
cd "$scratch/one"
rm -rf images.lock dist

# ---- what is asked again and again

# What a build says goes to $scratch/log.
build() { "$imgforge" build "$@" > "$scratch/digests" 2> "$scratch/log"; }
built() { sed -n 's/^building \([^ ]*\).*/\1/p' "$scratch/log" | sort | xargs; }

# What images.lock says of artifacts, one to a line: NAME KEY SHA256 FILE TITLE.
records() {
    python3 - "${1:-images.lock}" <<'END'
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    for it in tomllib.load(file).get("artifact", []):
        print(it["name"], it["key"], it["sha256"], it["file"], it["title"])
END
}

# A build of changed files is to build these artifacts, and no others, for this reason by the plan: `builds NAMES WHAT WHY`.
builds() {
    local changed
    "$imgforge" plan --quiet > "$scratch/plan"
    if [ -z "$1" ]; then
        ! grep -q '(to be built)' "$scratch/plan" || { cat "$scratch/plan" >&2; die "$2: the plan has something to build"; }
    else
        [ "$(grep -c '^  build  ' "$scratch/plan")" = 1 ] && grep -A1 "^  build  .*  $1 " "$scratch/plan" | grep -q "$3" ||
            { cat "$scratch/plan" >&2; die "$2: the plan does not say that $1 is built because $3"; }
    fi
    build || { tail -30 "$scratch/log" >&2; die "$2: the build fails"; }
    [ "$(built)" = "$1" ] || { grep -v ' | ' "$scratch/log" >&2; die "$2: built '$(built)', expected '$1'"; }
    records > "$scratch/now"
    changed=$({ diff "$scratch/records" "$scratch/now" || true; } | sed -n 's/^> \([^ ]*\).*/\1/p' | xargs)
    [ "$changed" = "$1" ] || die "$2: images.lock has other records of '$changed', expected of '$1'"
    step "$2: ${1:-nothing}"
}

# Changes a file by a sed program, which has to find something.
edit() {
    cp "$1" "$scratch/unedited"
    sed -i "$2" "$1"
    ! cmp -s "$1" "$scratch/unedited" || die "nothing in $1 is changed by $2"
}

# The example as it was, of which everything is in the store.
reset() {
    cp "$scratch/first" "$scratch/records"
    rm -rf tally
    cp -r "$example/images.toml" "$example/uv.lock" "$example/main.py" "$example/tally" .
    build || { tail -30 "$scratch/log" >&2; die "what was built before can't be built"; }
    [ -z "$(built)" ] || die "built again, though it was built before: $(built)"
    records | diff "$scratch/records" - >&2 || die "images.lock has other records of what was built before"
}

# ---- from nothing to images that run

step "a plan of what was never built"
"$imgforge" lock --quiet
[ -z "$(records)" ] || die "images.lock has artifacts that nobody has built"
"$imgforge" plan --quiet > "$scratch/plan"
for line in 'markupsafe 3[.0-9]* · cp311 · gcc 4:12[^ ]*' 'tally · cp311 · rustc-web [^ ]* · maturin [^ ]*' \
    'init · gcc [^ ]* · libc6-dev [^ ]*'; do
    [ "$(grep -c "^  make  .*  $line (to be built)$" "$scratch/plan")" = 2 ] ||
        { cat "$scratch/plan" >&2; die "the plan does not have '$line' to be built, for both images"; }
done

step "three artifacts, two images"
build || { grep -v '^fetch' "$scratch/log" | tail -50 >&2; die "the build fails"; }
[ "$(built)" = "init markupsafe tally" ] || die "built '$(built)'"
"$imgforge" verify --quiet --layout dist
records | tee "$scratch/first" > "$scratch/records"
while read -r _ _ _ _ title; do
    grep -q "  $title (to be built)$" "$scratch/plan" || die "$title is not what the plan had"
done < "$scratch/records"
python3 - <<'END' || die "an artifact has not the same layer in both images"
import sys, tomllib
with open("images.lock", "rb") as file:
    images = {image["name"]: image["layers"] for image in tomllib.load(file)["image"]}
for name in ["init", "markupsafe", "tally"]:
    runtime, devel = ([layer["digest"] for layer in images[image] if name in layer["title"]] for image in ["runtime", "devel"])
    print(f"{name}: {runtime}", file=sys.stderr)
    if len(runtime) != 1 or runtime != devel:
        sys.exit(1)
END

step "podman runs the images"
for image in runtime devel; do
    skopeo copy --quiet "oci:dist:$image:latest" "containers-storage:localhost/$image:latest"
    found=$(podman run --rm --network none "localhost/$image:latest")
    [ "$found" = '<p>fish &amp; chips: 2 words</p>' ] || die "$image says: $found"
done
podman run --rm --network none --entrypoint init localhost/runtime:latest --version 2>&1 | grep -q '^init 1\.0' ||
    die "init does not run by itself"
podman run --rm --network none --entrypoint python localhost/runtime:latest -c '
import shutil, sys, tally, markupsafe._speedups
sys.exit(shutil.which("gcc") or shutil.which("rustc"))' || die "there is a compiler in the runtime image"
podman run --rm --network none --volume "$example/tally/tests:/tests:ro" --entrypoint python localhost/devel:latest -c '
import sys; sys.path.append("/tests"); import test_tally; test_tally.test_words()' || die "the tests of tally fail"

step "auditwheel finds no newer glibc than the wheels' tags have"
mkdir "$scratch/wheels"
grep '\.whl ' "$scratch/records" | while read -r _ _ sha256 file _; do
    cp "$IMGFORGE_STORE/blobs/sha256/$sha256" "$scratch/wheels/$file"
    uv run --quiet --no-project --with auditwheel auditwheel show "$scratch/wheels/$file" > "$scratch/audit"
    newest=$(tr -d '\n' < "$scratch/audit" | grep -o "GLIBC_[0-9.]*" | sort --version-sort | tail -1)
    [[ $file == *-manylinux_"$(sed 's/GLIBC_\(.*\)\.\(.*\)/\1_\2/' <<< "$newest")"_x86_64.whl ]] ||
        { cat "$scratch/audit" >&2; die "$file needs $newest"; }
    echo "$file: $newest" >&2
done

# ---- what is built again

step "what makes no other artifact"
edit images.toml '/^\[base.slim\]/,/^$/ s/"base-files"/"base-files", "netbase"/'
builds "" "another package in the runtime image's base"
edit images.toml 's/^    "rustc-web",/    "make",\n    "rustc-web",/'
builds "" "another package in the builder, of which no key speaks"
edit images.toml '/^\[env.app\]/ a groups = ["build"]'
builds "" "other packages in the environment"
edit images.toml '/^\[image.runtime\]/ a labels = { "org.example.label" = "other" }'
builds "" "a label"
echo '# Python of the application' >> main.py
echo '# and of the tests' >> tally/tests/test_tally.py
builds "" "files that are no input"
python3 - <<'END'
import re
text = open("images.toml").read()
tables = re.split(r"\n(?=\[(?!\[))", text)
open("images.toml", "w").write("\n".join([tables[0], *reversed(tables[1:])]) + "\n")
END
builds "" "another order of tables"
mv "$scratch/one" "$scratch/two"
cd "$scratch/two"
(umask 077 && touch images.toml main.py tally/src/lib.rs && TZ=Asia/Tokyo LC_ALL=C builds "" "another folder, times, umask, time zone")

step "what makes another one of exactly one artifact"
reset
edit images.toml '/^\[artifact.markupsafe\]/ a build-env = { CFLAGS = "-O1" }'
builds markupsafe "a variable of the build" 'the variable CFLAGS is new: "-O1"'
reset
edit images.toml 's/ -s -O2 / -s -O1 /'
builds init "the script's text" "the recipe's script was"
reset
edit tally/python/tally/__init__.py 's/text.encode()/text.encode("utf-8")/'
builds tally "a Python input of the project" "the source project was sha256:"
edit tally/src/lib.rs 's/, in Rust\././'
builds tally "an input of the project in Rust" "the source project was sha256:"
reset
edit images.toml 's/"rustc-web", "maturin"/"rustc-web", "cffi"/'
builds tally "another axis of the key" "the axis cffi is new: cffi 2"
reset
python3 - <<'END'
import re
# markupsafe 3.0.2 for whatever is locked.
host = re.search(r'url = "(https://[^/]+)/', open("uv.lock").read())[1]
url = f"{host}/packages/b2/97/5d42485e71dfc078108a86d6de8fa46db44a1a9295e89c5d6d4a06e23a62/markupsafe-3.0.2.tar.gz"
sdist = f'sdist = {{ url = "{url}", hash = "sha256:ee55d3edf80167e48ea11a923c7386f4669df67d7994554387f84e7d8b0a2bf0" }}'
packages = open("uv.lock").read().split("[[package]]\n")
[at] = [at for at, text in enumerate(packages) if text.startswith('name = "markupsafe"')]
text = re.sub(r"(?m)^sdist = .*$", sdist, packages[at])
text = re.sub(r"(?m)^version = .*$", 'version = "3.0.2"', text)
packages[at] = re.sub(r"(?s)wheels = \[.*?\n\]\n", "", text)
open("uv.lock", "w").write("[[package]]\n".join(packages))
END
builds markupsafe "another version of the source distribution" "the source markupsafe-3.0.2.tar.gz is new"
reset
edit images.toml '/^\[artifact.init\]/,/^$/ s/^key = .*/key = ["builder"]/'
builds init "the whole builder as the key" "the axis builder is new"
records > "$scratch/records"
edit images.toml 's/^    "rustc-web",/    "make",\n    "rustc-web",/'
builds init "another package in the builder, all of which is the key" "the axis builder was .*make 4"
"$imgforge" build --quiet --locked > "$scratch/again"
diff "$scratch/digests" "$scratch/again" || die "another build has other digests"

step "two artifacts with one key are both in their images"
mkdir "$scratch/twins"
cat > "$scratch/twins/images.toml" <<'END'
version = 1
[settings]
platforms = ["linux/amd64"]
[base.shell]
debian = "bookworm"
packages = ["coreutils", "dash"]
[artifact.one]
script = "echo hello > /opt/hello"
outputs = ["/opt/hello"]
builder = "shell"
[artifact.two]
script = "echo hello > /opt/hello"
outputs = ["/opt/hello"]
builder = "shell"
[image.one]
base = "shell"
artifacts = ["one"]
[image.two]
base = "shell"
artifacts = ["two"]
END
(cd "$scratch/twins" && build) || { tail -30 "$scratch/log" >&2; die "the twins can't be built"; }
[ "$(wc -w <<< "$(built)")" = 1 ] || die "the twins, which are one, are built as '$(built)'"
[ "$(sed 's/.* //' "$scratch/digests" | uniq | wc -l)" = 1 ] || die "one of the twins is not in its image"

step "a second build has the same bytes, and is found out where it has not"
reset
for artifact in init markupsafe tally; do
    "$imgforge" verify --rebuild "$artifact" > "$scratch/log" 2>&1 || { cat "$scratch/log" >&2; die "$artifact: other bytes"; }
    grep -q ': the same bytes, sha256:' "$scratch/log" || die "$artifact: no word on a second build"
done
edit images.toml 's/^gcc .*/&\nhead -c 8 \/dev\/urandom >> \/usr\/local\/bin\/init/'
builds init "a script that is another one each time" "the recipe's script was"
"$imgforge" verify --rebuild init > "$scratch/log" 2>&1 && die "random bytes are taken for the same"
grep -q '^error: \[artifact.init\] does not come out the same twice' "$scratch/log" ||
    { tail "$scratch/log" >&2; die "no word on what differs"; }

# ---- what fails

step "builds that fail"
reset
cp -r dist "$scratch/dist"
cp images.lock "$scratch/images.lock"
receipts() { find "$IMGFORGE_STORE/artifacts" -type f | sort; }
# A build that fails names the artifact, has a log with what it said, and leaves nothing: `fails NAME TEXT`.
fails() {
    local code=0 log
    receipts > "$scratch/receipts"
    build || code=$?
    [ "$code" = 1 ] || die "a build of $1 that fails ends with exit code $code"
    grep -q "^error: \[artifact.$1\]" "$scratch/log" || { tail "$scratch/log" >&2; die "the error does not name $1"; }
    log=$(sed -n 's/.*its log is \(.*\)/\1/p' "$scratch/log")
    grep -q "$2" "$log" || { tail "$scratch/log" >&2; die "no log of $1 that says '$2'"; }
    [ ! -s "$scratch/digests" ] || die "a build that fails prints digests"
    diff -r "$scratch/dist" dist >&2 || die "a build that fails changes dist"
    diff "$scratch/images.lock" images.lock >&2 || die "a build that fails changes images.lock"
    receipts | diff "$scratch/receipts" - >&2 || die "a build that fails leaves a receipt"
    step "$1 fails: $2"
}
edit images.toml 's/^gcc /gcc -no-such-option /'
fails init "unrecognized command-line option '-no-such-option'"
edit images.toml 's/ -no-such-option / -O1 /'
builds init "mended" "the recipe's script was"
reset
edit tally/src/lib.rs 's/unicode_words()/unicode_wards()/'
fails tally 'unicode_wards'
edit tally/src/lib.rs 's/unicode_wards()/unicode_words() /'
builds tally "mended" "the source project was"
reset
edit images.toml 's/sha256 = "..../sha256 = "0000/'
build && die "a source with another checksum is used"
grep -q 'init.c' "$scratch/log" || { tail "$scratch/log" >&2; die "the error does not name the source"; }
diff "$scratch/images.lock" images.lock >&2 || die "a build that fails changes images.lock"
reset

step "a build that is killed"
edit tally/src/lib.rs 's/unicode_words()/unicode_words( )/'
receipts > "$scratch/receipts"
"$imgforge" build > /dev/null 2> "$scratch/log" &
killed=$!
for _ in $(seq 300); do
    ! grep -q 'Compiling unicode-segmentation' "$scratch/log" || break
    sleep 0.05
done
kill -KILL "$killed" || die "it was over before it was killed"
wait "$killed" 2>/dev/null || true
diff -r "$scratch/dist" dist >&2 && diff "$scratch/images.lock" images.lock >&2 || die "a build that is killed changes outputs"
receipts | diff "$scratch/receipts" - >&2 || die "a build that is killed leaves a receipt"
builds tally "after it was killed" "the source project was"
reset

# ---- who builds

step "another user, with a store of its own"
mkdir "$scratch/home"
cp -r "$scratch/two" "$scratch/home/project"
# Debian's packages come from the first store. What no key speaks of is another way: nothing is compressed.
sed -i "s|^\[settings\]|&\ncompression = \"none\"\nmirrors = [\"$IMGFORGE_STORE/blobs/sha256/{sha256}\"]|" "$scratch/home/project/images.toml"
# Debian's packages stay pinned; what came out is forgotten.
sed -i '/^\[\[artifact\]\]/,$d' "$scratch/home/project/images.lock"
rm -rf "$scratch/home/project/dist"
chown -R nobody "$scratch/home"
# Where the program lies, another user may not look.
install --mode 755 "$imgforge" "$scratch/imgforge"
(cd "$scratch/home/project" && runuser --user nobody -- env -i PATH="$PATH" HOME="$scratch/home" TMPDIR="$scratch/home" \
    "$scratch/imgforge" build runtime > "$scratch/digests" 2> "$scratch/log") ||
    { grep -v '^fetch' "$scratch/log" | tail -30 >&2; die "another user can't build it"; }
[ "$(built)" = "init markupsafe tally" ] || die "another user built '$(built)'"
records "$scratch/home/project/images.lock" | diff "$scratch/records" - >&2 ||
    die "another user's artifacts are other ones"

step "everything is well"
