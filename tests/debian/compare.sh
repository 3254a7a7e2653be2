#!/bin/sh
# Holds the root filesystem that imgforge makes of Debian packages against what dpkg leaves of the same packages:
#
#   1. dpkg's database of each package, and the status file, field by field
#   2. every path with type, mode, owner, link target and content
#   3. `dpkg --verify` and `dpkg -l` in our root
#   4. `dpkg --configure -a` in our root, which runs all the scripts that were left out, ends with every package installed
#   5. users, name resolution and trusted certificates are what those scripts make
#
# Needs root (for chroot), a Debian host of amd64 whose apt knows bookworm, and the network. Usage: compare.sh [PACKAGE…]
set -eu
cd "$(dirname "$0")/../.."
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
[ "$(id -u)" = 0 ] || { echo "compare.sh: run as root: it uses chroot and keeps owners" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/debs" "$work/ours" "$work/dpkg"
failed=0
fail() { echo "FAILED: $1"; failed=1; }

# usr-is-merged, because that is what our root is; the rest are the essential packages and what a runtime needs.
packages="apt base-files base-passwd bash bsdutils ca-certificates coreutils dash debianutils diffutils dpkg findutils
    grep gzip hostname init-system-helpers iputils-ping libc-bin libpython3-stdlib login mawk mount ncurses-base ncurses-bin
    perl-base python3-minimal sed sysvinit-utils tar usr-is-merged util-linux $*"
apt-get -o Dir::State::status=/dev/null -o Debug::NoLocking=1 --simulate --no-install-recommends install $packages |
    sed -n 's/^Inst \([^ ]*\) (\([^ ]*\) .*/\1=\2/p' | sort >"$work/closure"
(cd "$work/debs" && xargs apt-get -qq -o APT::Sandbox::User=root download <"$work/closure")
echo "$(wc -l <"$work/closure") packages"

cargo build --quiet -p imgforge-layer --example deb
target=${CARGO_TARGET_DIR:-target}
"$target/debug/examples/deb" amd64 "$work"/debs/*.deb >"$work/ours.tar"
tar -x -p --numeric-owner --xattrs --xattrs-include='*' -C "$work/ours" -f "$work/ours.tar"

# dpkg's root: everything is there before dpkg runs in it, as debootstrap does it, so that scripts find their programs.
cd "$work/dpkg"
mkdir -p usr/bin usr/sbin usr/lib usr/lib32 usr/lib64 usr/libx32
for folder in bin sbin lib lib32 lib64 libx32; do ln -s "usr/$folder" "$folder"; done
for deb in "$work"/debs/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x -p --keep-directory-symlink; done
find . ! -type d | sort >"$work/unpacked"
mkdir -p debs var/lib/dpkg/info var/lib/dpkg/updates
: >var/lib/dpkg/status
cp "$work"/debs/*.deb debs
mknod -m 666 dev/null c 1 3
chroot . sh -c 'ln -s mawk /usr/bin/awk && dpkg --force-all --unpack /debs/*.deb && rm /usr/bin/awk' >"$work/log" 2>&1 ||
    { tail -20 "$work/log"; fail "dpkg --unpack"; }
cd "$work"

echo "1. the database"
diff -r dpkg/var/lib/dpkg/info ours/var/lib/dpkg/info || fail "info"
diff -r --exclude Lock dpkg/var/lib/dpkg/triggers ours/var/lib/dpkg/triggers || fail "triggers"
# Conffiles are in place in ours, and what has no script is installed.
comparable='s/ (newconffile|[0-9a-f]{32})$/ MD5/; s/^Status: install ok installed$/Status: install ok unpacked/'
sed -E "$comparable" dpkg/var/lib/dpkg/status >status.dpkg
sed -E "$comparable" ours/var/lib/dpkg/status >status.ours
diff status.dpkg status.ours || fail "status"

echo "2. the files"
# Only what packages bring: not what scripts and dpkg itself wrote, and not the folders that are links in ours.
list() {
    (cd "$1" && find . -path ./debs -prune -o -path ./var/lib/dpkg -prune -o \( -type d -o -type l \) \
        -printf '%P %y %m %U:%G %l\n' -o -type f -printf '%P %y %m %U:%G %s %n\n' | sort)
    (cd "$1" && grep -v '^./\(dev\|var/lib/dpkg\)/' "$work/unpacked" | while read -r file; do
        if [ -f "$file" ] && [ ! -L "$file" ]; then sha256sum "$file"; fi
    done)
}
list dpkg | grep -v '\.dpkg-new ' >files.dpkg
list ours >files.ours
diff files.dpkg files.ours >difference || true
# Lost: what dpkg has and ours has not. Made by scripts, or moved to /run by ours as by base-files.
grep '^<' difference | grep -v -E \
    -e '^< (dev/null|etc/(passwd|group)|var/log/dpkg.log|var/cache/debconf/[^ ]*) ' \
    -e '^< (var/(run|lock)|var/lib/python|var/lib/python/python3.11_installed) ' && fail "files that are missing or differ"
# Won: the defaults that scripts copy, certificates, and the skeleton's folders.
grep '^>' difference | grep -v -E \
    -e '^> etc/(passwd|group|profile|motd|nsswitch.conf|ssl/certs/[^ ]*) ' -e '^> root/.(profile|bashrc) ' \
    -e '^> (media|mnt|opt|srv|run/lock|var/run|var/lock|usr/local[^ ]*) ' && fail "files that dpkg has not"

echo "3. dpkg in our root"
verified=$(chroot ours dpkg --verify) || fail "dpkg --verify"
[ -z "$verified" ] || { echo "$verified"; fail "dpkg --verify finds differences"; }
chroot ours dpkg -l | sed -n 's/^i[iU] *\([^ ]*\) *\([^ ]*\) .*/\1=\2/p' | sed 's/:amd64=/=/' | sort >listed
diff closure listed || fail "dpkg -l"

echo "4. the scripts"
cp -a ours configured
# What we made in the scripts' place is theirs to make here.
rm -rf configured/etc/ssl/certs/* configured/etc/profile configured/etc/motd configured/etc/nsswitch.conf \
    configured/root/.profile configured/root/.bashrc
mknod -m 666 configured/dev/null c 1 3
chroot configured env PATH=/usr/sbin:/usr/bin dpkg --configure -a >log 2>&1 || { tail -20 log; fail "dpkg --configure -a"; }
chroot configured dpkg -l | grep '^.[^i]' | grep '^i' && fail "packages that are not installed"

echo "5. what the scripts make"
for file in etc/profile etc/motd etc/nsswitch.conf root/.profile root/.bashrc etc/ssl/certs/ca-certificates.crt; do
    cmp "ours/$file" "configured/$file" || fail "$file"
done
for file in passwd group; do
    # The script of passwd moves the `*` of accounts without a password to /etc/shadow.
    sed 's/^\([^:]*\):x:/\1:*:/' "configured/etc/$file" | diff - "ours/etc/$file" || fail "etc/$file"
done
for root in ours configured; do
    (cd $root/etc/ssl/certs && find . -printf '%P %y %l\n' | sort) >certificates.$root
done
diff certificates.ours certificates.configured || fail "etc/ssl/certs"

[ "$failed" = 0 ] && echo "as dpkg leaves it"
exit "$failed"
