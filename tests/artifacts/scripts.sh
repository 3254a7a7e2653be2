#!/bin/bash
# Packages' own scripts: a Debian root filesystem that is configured, and a conda environment whose link scripts run. Both
# have to do what they are for, leave no traces, and come to the same bytes for another user with an empty store.
#
#   tests/artifacts/scripts.sh IMGFORGE
#
# Needs root for another user, to whom it gives ids. Fetches some 60 MB of Debian packages.
set -euo pipefail
cd "$(dirname "$0")/../.."

imgforge=$(realpath "${1:?usage: scripts.sh IMGFORGE}")
die() { echo "scripts.sh: $*" >&2; exit 1; }
step() { echo "scripts: $*" >&2; }
[ "$(id -u)" = 0 ] || die "run as root: another user takes it"

scratch=$(mktemp -d)
chmod 755 "$scratch"
trap 'rm -rf "$scratch"' EXIT
export IMGFORGE_STORE=$scratch/store
mkdir "$scratch/one"

step "a channel with a package that has a link script"
python3 -B - "$PWD" "$scratch/one" <<'END'
import hashlib, pathlib, sys
root, work = map(pathlib.Path, sys.argv[1:])
sys.path[:0] = [str(root / "examples/conda"), str(root / "tests/conda")]
import channel, oddities
channel.make(root / "vendor", work / "channel", oddities.packages())
[package] = (work / "channel").rglob("scripts-1.0*")
digest = hashlib.sha256(package.read_bytes()).hexdigest()
(work / "explicit.txt").write_text(f"@EXPLICIT\nfile://{package}#sha256:{digest}\n")
END
cat > "$scratch/one/images.toml" <<'END'
version = 1

[base.system]
debian = "bookworm"
packages = ["ca-certificates", "less", "openssl"]
configure = true

[env.linked]
lock = "explicit.txt"
prefix = "/opt/linked"
link-scripts = "run"

[image.system]
base = "system"
envs = ["linked"]
smoke = [
    ["sh", "-c", "test -s /etc/ssl/certs/ca-certificates.crt"],
    # The alternative that less's maintainer script sets up, and its links.
    ["sh", "-c", "test $(readlink -f /usr/bin/pager) = /usr/bin/less"],
    # Each certificate has its hash's name.
    ["openssl", "verify", "-CApath", "/etc/ssl/certs", "/etc/ssl/certs/ISRG_Root_X1.pem"],
    ["sh", "-c", "test -s /etc/ld.so.cache"],
    ["sh", "-c", "test -z \"$(dpkg --audit)\" && ! dpkg-query -W -f '${Status}\n' | grep -v '^install ok installed'"],
    ["sh", "-c", "test -z \"$(find /var/log /var/cache /tmp /run -type f; ls /etc/machine-id /usr/sbin/policy-rc.d 2>/dev/null)\""],
    # What the link script left.
    ["test", "-f", "/opt/linked/ran"],
]
END

step "configured, linked, and used"
cd "$scratch/one"
"$imgforge" vendor --quiet
"$imgforge" build --offline --quiet > "$scratch/digests"
"$imgforge" test --offline > /dev/null || die "what the scripts are for is not there"
"$imgforge" build --offline --json > "$scratch/again.json"
python3 - "$scratch/again.json" <<'END' || die "a second build makes something"
import json, sys
[image] = json.load(open(sys.argv[1]))["images"]
layers = [layer for platform in image["platforms"] for layer in platform["layers"]]
made_by_scripts = [layer["title"] for layer in layers if layer["title"].startswith(("link scripts", "configured"))]
sys.exit(any(layer["made"] for layer in layers) or len(made_by_scripts) != 2)
END

step "a link script is refused unless something is said of it"
sed -i '/link-scripts/d' images.toml
"$imgforge" build --offline 2> "$scratch/refused" && die "a link script is not refused"
grep -q 'link-scripts = "run"' "$scratch/refused" || die "no word on what mends it"

step "another user, another folder, an empty store: the same digests"
mkdir "$scratch/two"
cp -r "$scratch/one/." "$scratch/two/"
sed -i 's/^prefix = "\/opt\/linked"$/&\nlink-scripts = "run"/' "$scratch/two/images.toml"
rm -rf "$scratch/two/dist"
chown -R nobody "$scratch/two"
install --directory --owner nobody "$scratch/other-store"
install --mode 755 "$imgforge" "$scratch/imgforge"
as_nobody() {
    (cd "$scratch/two" && runuser --user nobody -- env HOME="$scratch/other-store" IMGFORGE_STORE="$scratch/other-store/store" \
        "$scratch/imgforge" build --offline --quiet --locked)
}
as_nobody 2> "$scratch/one-id" && die "scripts that change owners ran without owners"
grep -q /etc/subuid "$scratch/one-id" || { cat "$scratch/one-id" >&2; die "no word on what mends it"; }
# A line for that user, for as long as this takes, and for nobody else to see.
echo "nobody:1000000:65536" > "$scratch/ids"
export -f as_nobody
export scratch
unshare --mount bash -euc 'mount --bind "$scratch/ids" /etc/subuid && mount --bind "$scratch/ids" /etc/subgid && as_nobody' \
    > "$scratch/other-digests" || die "another user can't build it"
diff "$scratch/digests" "$scratch/other-digests" || die "other digests for another user"

echo "scripts: everything is well" >&2
