#!/bin/bash
# Builds examples/conda and has podman run what is in the images: the Python, NumPy, entry points of conda packages, and
# wheels on top of them. Then asks what must not matter: another user, another order, another prefix.
#
#   tests/conda/images.sh IMGFORGE
#
# Needs root for podman, which gets its own storage. Nothing is fetched: the channel is made of the vendor folder.
set -euo pipefail
cd "$(dirname "$0")/../.."

imgforge=$(realpath "${1:?usage: images.sh IMGFORGE}")
repository=$PWD
. tests/e2e/engines-apart.sh
step() { echo "conda: $*" >&2; }
[ "$(id -u)" = 0 ] || die "run as root: podman and another user take it"
for program in skopeo podman runc runuser; do
    command -v "$program" >/dev/null || die "no $program; run: apt-get install skopeo podman runc util-linux"
done

export IMGFORGE_STORE=$scratch/store

# A project like the example, where it finds the app and the vendor folder as it does in the repository.
mkdir -p "$scratch/one/examples"
cp -r examples/conda "$scratch/one/examples/"
cp -r app vendor "$scratch/one/"
cd "$scratch/one/examples/conda"
rm -rf channel dist

step "the channel, and the images that images.lock knows"
./channel.py ../../vendor channel
"$imgforge" build --offline --locked > "$scratch/digests"
"$imgforge" verify --quiet --layout dist

for image in science web; do
    skopeo copy --quiet "oci:dist:$image:latest" "containers-storage:localhost/$image:latest"
done
in_image() { podman run --rm --network none "localhost/$1:latest" "${@:2}"; }

step "Python, NumPy, entry points"
[ "$(in_image science python -c 'import sys, numpy; print(sys.prefix, numpy.arange(4).sum())')" = \
    "/opt/conda/envs/science 6" ] || die "NumPy does not add up"
in_image science pytest --version | grep -q '^pytest ' || die "the entry point of a noarch package does not run"
in_image science python -c 'import ssl, sqlite3, ctypes, lzma, bz2, zlib'
[ "$(in_image science python -c 'import os; print(os.environ["CONDA_PREFIX"])')" = /opt/conda/envs/science ] ||
    die "CONDA_PREFIX is not set"
in_image science python -c 'import sysconfig; print(sysconfig.get_config_var("prefix"))' |
    grep -qx /opt/conda/envs/science || die "the prefix was not put into the configuration"

step "wheels in the same environment"
podman run --rm --network none --entrypoint python localhost/web:latest \
    -c 'import fastapi, pydantic, numpy, idna; print(fastapi.__file__)' |
    grep -q '^/opt/conda/envs/science/lib/python3.11/.*/fastapi/' || die "wheels are elsewhere"
podman run --rm --network none --entrypoint uvicorn localhost/web:latest --version | grep -q uvicorn ||
    die "the entry point of a wheel does not run"

step "another folder, another user, another order of packages, an empty store"
mkdir "$scratch/two"
cp -r "$scratch/one/." "$scratch/two/"
rm -rf "$scratch/two/examples/conda/dist"
tac environment.yml | grep '^  - [a-z]' | grep -v channel > "$scratch/reversed"
{ printf 'name: other\nchannels:\n  - ./channel\ndependencies:\n'; cat "$scratch/reversed"; } \
    > "$scratch/two/examples/conda/environment.yml"
chown -R nobody "$scratch/two"
install --directory --owner nobody "$scratch/other-store"
# Where the program lies, another user may not look.
install --mode 755 "$imgforge" "$scratch/imgforge"
(cd "$scratch/two/examples/conda" && runuser --user nobody -- env HOME="$scratch/other-store" \
    IMGFORGE_STORE="$scratch/other-store/store" TZ=Asia/Tokyo "$scratch/imgforge" build --offline > "$scratch/other-digests") ||
    die "another user can't build it"
diff "$scratch/digests" "$scratch/other-digests" || die "other digests for another user"

step "one package more is one layer more or another bin, and nothing else"
sed -i 's/^  - pytest$/  - pytest\n  - idna/' environment.yml
# The web service's own idna is in the way now, which is told.
"$imgforge" build --offline science 2> "$scratch/twice" && die "two idna in one environment are no error"
grep -q 'no-install-package = \["idna"\]' "$scratch/twice" || { cat "$scratch/twice" >&2; die "no word on what mends it"; }
sed -i 's/no-install-package = \["numpy"\]/no-install-package = ["numpy", "idna"]/' images.toml
"$imgforge" build --offline --json science > "$scratch/more.json"
python3 - "$scratch/more.json" <<'END' || die "more than one layer was made again"
import json, sys
[image] = json.load(open(sys.argv[1]))["images"]
made = [layer["title"] for entry in image["platforms"] for layer in entry["layers"] if layer["made"]]
print("made again:", made, file=sys.stderr)
sys.exit(len(made) > 1)
END
step "a GPU project's own lock, planned whole"
mkdir "$scratch/gpu"
cp "$repository/crates/resolver/conda/tests/locks/pytorch-gpu/pixi.lock" "$scratch/gpu/"
cat > "$scratch/gpu/images.toml" <<'END'
version = 1
[settings]
platforms = ["linux/amd64"]
[base.empty]
scratch = true
[env.gpu]
lock = "pixi.lock"
prefix = "/opt/conda"
[image.gpu]
base = "empty"
envs = ["gpu"]
END
"$imgforge" plan --offline --json "$scratch/gpu/images.toml" > "$scratch/gpu/plan.json"
python3 - "$scratch/gpu/plan.json" <<'END' || die "the plan of a GPU environment is not whole"
import json, sys
[image] = json.load(open(sys.argv[1]))["images"]
titles = [layer["title"] for layer in image["layers"]]
alone = [title for title in titles if ", " not in title]
print(len(titles), "layers; alone:", ", ".join(alone)[:300], file=sys.stderr)
# What is expensive is a layer of its own.
sys.exit(not all(any(title.startswith(name + " ") for title in alone) for name in ["libtorch", "libcudnn", "libcublas"]))
END

echo "conda: everything is well" >&2
