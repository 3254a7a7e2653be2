#!/bin/bash
# What a sandbox costs before its command begins and after it has ended: `true` in an unpacked root filesystem, in turns
# with bubblewrap on the same tree. Exit 1 when the median is more than 1.5 times bubblewrap's.
#
#   crates/sandbox/benches/start.sh [RUNS]
#
# As root it also measures users: one with a single id, as bubblewrap's sandboxes have, and one with lines in /etc/subuid.
# imgforge's time has all of it: the run's folder, the sandbox, what it says, and the folder's removal.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-200}

for program in bwrap:bubblewrap python3:python3 setpriv:util-linux /bin/busybox:busybox-static; do
    command -v "${program%%:*}" >/dev/null || { echo "missing: apt-get install ${program##*:}" >&2; exit 2; }
done
cargo build --quiet --profile quick --bin imgforge-sandbox-asker
target=${CARGO_TARGET_DIR:-../../target}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cp "$target/quick/imgforge-sandbox-asker" "$folder/asker"
mkdir -p "$folder"/root/{bin,dev,etc,proc,sys,tmp}
cp /bin/busybox "$folder/root/bin/"
ln -s busybox "$folder/root/bin/true"
tar --numeric-owner --owner=0 --group=0 -C "$folder/root" -cf "$folder/root.tar" .

measure() { # NAME UID COMMAND-PREFIX…
    local name=$1 uid=$2
    shift 2
    mkdir "$folder/store-$uid-$name"
    chown "$uid" "$folder/store-$uid-$name"
    python3 - "$name" "$folder" "$folder/store-$uid-$name" "$runs" "$@" "$folder/asker" <<'EOF'
import json, statistics, subprocess, sys
name, folder, store, runs, *asker = sys.argv[1:]
bubblewrap = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--hostname", "build",
              "--ro-bind", f"{folder}/root", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "/bin/true"]
request = {"store": store, "layers": [f"{folder}/root.tar"], "arguments": ["/bin/true"], "repeat": int(runs),
           "compare": bubblewrap}
answer = json.loads(subprocess.run(asker, input=json.dumps(request), stdout=subprocess.PIPE, text=True, check=True).stdout)
if "error" in answer:
    sys.exit(answer["error"])
# The first ones warm caches.
ours, theirs = (sorted(answer[key][5:]) for key in ("milliseconds", "other"))
quarter = lambda times: times[len(times) // 4]
ratio = statistics.median(ours) / statistics.median(theirs)
print(f"{name:12} imgforge {statistics.median(ours):6.2f} ms   bubblewrap {statistics.median(theirs):6.2f} ms   "
      f"ratio {ratio:.2f}   (fastest quarter: {quarter(ours) / quarter(theirs):.2f})")
sys.exit(ratio > 1.5)
EOF
}

outcome=0
if [ "$(id -u)" = 0 ]; then
    measure root 0 || outcome=1
    set -- setpriv --reuid=65534 --regid=65534 --clear-groups
    measure user 65534 "$@" || outcome=1
    # A line for that user, for as long as this takes, and for nobody else to see.
    echo "65534:1000000:65536" >"$folder/subids"
    bind="mount --bind $folder/subids /etc/subuid && mount --bind $folder/subids /etc/subgid"
    measure user-ids 65534 unshare --mount sh -c "$bind && exec \"\$@\"" sh "$@" ||
        echo "(not counted: bubblewrap's has one id, and newuidmap and newgidmap are two programs more)"
else
    measure user "$(id -u)" env || outcome=1
fi
exit $outcome
