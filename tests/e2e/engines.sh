#!/bin/bash
# What other people's programs make of the images: skopeo copies them, podman and docker run them, umoci unpacks them,
# dpkg finds its packages in them; and another user gets the same digests.
#
#   tests/e2e/engines.sh IMGFORGE
#
# Needs root, and works below a temporary folder: podman gets its own storage, docker its own daemon. Nothing is skipped:
# a program that is missing is an error that says how to install it.
set -euo pipefail
cd "$(dirname "$0")/../.."

imgforge=$(realpath "${1:?usage: engines.sh IMGFORGE}")
root=$PWD

. tests/e2e/engines-apart.sh
export IMGFORGE_STORE=$scratch/store
step() { echo "engines: $*" >&2; }

[ "$(id -u)" = 0 ] || die "run as root: docker's daemon and another user take it"
for program in skopeo podman runc dockerd docker umoci dpkg curl runuser; do
    command -v "$program" >/dev/null ||
        die "no $program; run: apt-get install skopeo podman runc docker.io umoci dpkg curl util-linux"
done

# The service answers on a port, with what NumPy has computed.
answers() {
    local port=$1 answer
    for _ in $(seq 150); do
        if curl --silent --fail --output /dev/null "http://127.0.0.1:$port/health"; then
            answer=$(curl --silent --fail --json '{"vector": [1, 0, 0, 0], "count": 1}' "http://127.0.0.1:$port/nearest")
            case $answer in
                '[{"name":"violin",'*) return 0 ;;
                *) echo "unexpected answer: $answer" >&2; return 1 ;;
            esac
        fi
        sleep 0.2
    done
    echo "no answer on port $port" >&2
    return 1
}

step "build: a layout, an archive, and a layout with gzip layers"
"$imgforge" build --quiet --offline --locked --output "$scratch/dist" images.toml > "$scratch/digests"
"$imgforge" build --quiet --offline --locked --archive "$scratch/images.tar" images.toml > "$scratch/digests-archive"
cmp "$scratch/digests" "$scratch/digests-archive"
"$imgforge" build --quiet --offline --compression gzip --output "$scratch/gzip" images.toml >/dev/null
digest_of() { sed -n "s/^$1 //p" "$scratch/digests"; }

step "skopeo copies from the layout and from the archive, and sees the digests that were printed"
for image in runtime devel; do
    for source in "oci:$scratch/dist:$image:latest" "oci-archive:$scratch/images.tar:$image:latest"; do
        skopeo copy --quiet "$source" "dir:$scratch/dir"
        found=$(sha256sum < "$scratch/dir/manifest.json")
        [ "sha256:${found%% *}" = "$(digest_of "$image")" ] || die "$source has another digest: $found"
        rm -rf "$scratch/dir"
    done
done

step "podman runs the runtime image, which answers over HTTP"
skopeo copy --quiet "oci:$scratch/dist:runtime:latest" containers-storage:localhost/runtime:latest
port=$(free_port)
podman run --detach --name runtime --network host --env APP_PORT="$port" localhost/runtime:latest >/dev/null
answers "$port" || { podman logs runtime >&2; die "podman: the runtime image does not answer"; }
[ "$(podman exec runtime python -c 'import os; print(os.getuid())')" = 65532 ] || die "podman: not run as the image's user"
podman rm --force --time 1 runtime >/dev/null

step "podman loads the archive, and the development image runs the application's tests"
skopeo copy --quiet "oci-archive:$scratch/images.tar:devel:latest" containers-storage:localhost/devel:latest
podman run --rm --network none localhost/devel:latest >&2 || die "podman: the tests fail in the development image"
podman run --rm --network none localhost/devel:latest bash -c 'less --version && ps ax' >/dev/null ||
    die "podman: the development image's tools do not run"

step "docker loads the image with gzip layers and runs it"
start_docker
skopeo copy --quiet "oci:$scratch/gzip:runtime:latest" "docker-archive:$scratch/runtime.tar:runtime:latest"
docker load --quiet --input "$scratch/runtime.tar" >/dev/null
port=$(free_port)
docker run --detach --name runtime --network host --env APP_PORT="$port" runtime:latest >/dev/null
answers "$port" || { docker logs runtime >&2; die "docker: the runtime image does not answer"; }
docker rm --force runtime >/dev/null

step "umoci unpacks it, and dpkg finds its packages in it"
skopeo copy --quiet "oci:$scratch/gzip:devel:latest" "oci:$scratch/umoci:devel"
umoci unpack --image "$scratch/umoci:devel" "$scratch/bundle"
rootfs=$scratch/bundle/rootfs
[ -x "$rootfs/opt/venv/bin/uvicorn" ] || die "umoci: the environment is missing"
dpkg --root="$rootfs" -l > "$scratch/dpkg-list"
for package in python3-minimal libc6 less; do
    # Unpacked, not installed, is a package whose maintainer script was not run.
    grep -q "^i[iU]  $package[: ]" "$scratch/dpkg-list" || { cat "$scratch/dpkg-list" >&2; die "dpkg does not know $package"; }
done
broken=$(dpkg --root="$rootfs" --verify 2>&1 | grep -v '^??' || true)
[ -z "$broken" ] || { echo "$broken" >&2; die "dpkg --verify finds differences"; }

step "another user, in another checkout, gets the same digests"
cp "$imgforge" "$scratch/imgforge"
mkdir "$scratch/checkout"
cp -r images.toml images.lock app vendor "$scratch/checkout/"
mkdir "$scratch/home"
chown -R nobody "$scratch/checkout" "$scratch/home"
(umask 027 && cd "$scratch/checkout" && runuser -u nobody -- env -i PATH="$PATH" HOME="$scratch/home" TMPDIR="$scratch/home" \
    "$scratch/imgforge" build --quiet --offline --locked images.toml) > "$scratch/digests-nobody"
diff "$scratch/digests" "$scratch/digests-nobody" || die "another user's digests differ"

echo "engines: everything is well" >&2
