#!/bin/bash
# Artifacts, and what packages' own scripts leave, on several hosts with one cache: what a bare host takes, what it leaves
# where it is, and what it does when the cache breaks its word. Then the same without a network, from `vendor/`.
#
#   tests/artifacts/cache.sh IMGFORGE
#
# Fetches some 10 MB of Debian packages, once.
set -euo pipefail
cd "$(dirname "$0")/../.."

imgforge=$(realpath "${1:?usage: cache.sh IMGFORGE}")
die() { echo "cache.sh: $*" >&2; exit 1; }
step() { echo "cache: $* ($SECONDS s)" >&2; }
for program in docker-registry curl python3; do
    command -v "$program" >/dev/null || die "no $program; run: apt-get install docker-registry curl python3"
done

scratch=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$scratch"' EXIT
unset IMGFORGE_STORE
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf '%s\n' "version: 0.1" "log: {level: error}" "storage: {filesystem: {rootdirectory: $scratch/registry}}" \
    "http: {addr: 127.0.0.1:$port}" > "$scratch/registry.yml"
docker-registry serve "$scratch/registry.yml" > "$scratch/registry.log" 2>&1 &
server=$!
for _ in $(seq 100); do
    ! curl --silent --output /dev/null "http://127.0.0.1:$port/" || break
    sleep 0.1
done
cache=docker://127.0.0.1:$port/cache

# A channel with a conda package that has a link script.
mkdir "$scratch/project"
python3 -B - "$PWD" "$scratch/project" <<'END'
import hashlib, pathlib, sys
root, work = map(pathlib.Path, sys.argv[1:])
sys.path[:0] = [str(root / "examples/conda"), str(root / "tests/conda")]
import channel, oddities
channel.make(root / "vendor", work / "channel", oddities.packages())
[package] = (work / "channel").rglob("scripts-1.0*")
digest = hashlib.sha256(package.read_bytes()).hexdigest()
(work / "explicit.txt").write_text(f"@EXPLICIT\nfile://{package}#sha256:{digest}\n")
END
cd "$scratch/project"
echo 'the source' > source.txt
cat > images.toml <<END
version = 1
[settings]
platforms = ["linux/amd64"]
[base.shell]
debian = "bookworm"
packages = ["coreutils", "dash"]
[env.linked]
lock = "explicit.txt"
prefix = "/opt/linked"
link-scripts = "run"
[artifact.tool]
script = "cp /build/sources/source.txt /opt/tool; echo one >> /opt/tool"
sources = [{ url = "source.txt", sha256 = "$(sha256sum source.txt | cut -d' ' -f1)" }]
outputs = ["/opt/tool"]
builder = "shell"
[base.empty]
scratch = true
[image.out]
base = "empty"
artifacts = ["tool"]
[image.linked]
base = "shell"
envs = ["linked"]
END

on() { "$imgforge" --store "$scratch/$1" "${@:2}"; }
value() { python3 -c 'import json, sys; r = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$1" "$2"; }
equal() { [ "$1" = "$2" ] || die "$3: \`$1\`, expected \`$2\`"; }
# host NAME ARGUMENTS…: builds with the cache, and says in $scratch/NAME.log what it does.
host() { on "$1" build --cache "$cache" --output "$scratch/dist-$1" "${@:2}" > "$scratch/$1.digests" 2> "$scratch/$1.log"; }
built() { sed -n 's/^building \(.*\)/\1/p' "$scratch/$1.log" | sort | xargs; }
fetched() { grep -c '^fetching .*\.deb' "$scratch/$1.log" || true; }

step "a plan counts each file once"
on none lock --quiet
on none plan --json > "$scratch/plan.json"
packages=$(python3 -c 'import tomllib; print(sum(len(it["packages"]) for it in tomllib.load(open("images.lock", "rb"))["debian"]))')
equal "$(value "$scratch/plan.json" 'r["totals"]["fetched_files"]')" "$packages" "files to fetch"

step "the first host builds, and shares"
host one || { tail -20 "$scratch/one.log" >&2; die "the first host can't build"; }
equal "$(built one)" "link scripts of /opt/linked tool · shell" "what the first host built"
result=$(sed -n '/^\[\[artifact\]\]/,/^$/s/^sha256 = "\(.*\)"/\1/p' images.lock)
[ -e "$scratch/one/blobs/sha256/$result" ] || die "images.lock has no result: $result"

step "a bare host plans to take everything"
on none plan --cache "$cache" --json > "$scratch/plan.json"
equal "$(value "$scratch/plan.json" '[(a["built"], a["from_cache"]) for a in r["artifacts"]]')" "[(True, True)]" "its artifact"
equal "$(value "$scratch/plan.json" '[r["totals"][name] for name in ("made", "fetched_files")]')" "[0, 0]" "what it makes and fetches"
scripts='[(s["title"], s["fate"]) for i in r["images"] for s in i["scripts"]]'
equal "$(value "$scratch/plan.json" "$scripts")" "[('link scripts of /opt/linked', 'take')]" "what becomes of scripts"
on one plan --json > "$scratch/plan.json"
equal "$(value "$scratch/plan.json" "$scripts")" "[('link scripts of /opt/linked', 'reuse')]" "what becomes of scripts that ran"
on none plan --cache "$cache" | grep -q '^  take .* tool · shell$' || die "the plan does not say that tool is taken"
cp images.lock "$scratch/images.lock"
sed -i '/^\[\[artifact\]\]/,$d' images.lock
on none plan --cache "$cache" --json > "$scratch/plan.json"
equal "$(value "$scratch/plan.json" 'r["totals"]["made"]')" 0 "layers to make where images.lock knows none"
cp "$scratch/images.lock" images.lock

step "a bare host takes layers and nothing else"
host two --locked || { tail -20 "$scratch/two.log" >&2; die "the second host can't build"; }
equal "$(built two)$(fetched two)" 0 "what the second host built or fetched"
cmp "$scratch/one.digests" "$scratch/two.digests" || die "the second host has other digests"
[ ! -e "$scratch/two/blobs/sha256/$result" ] || die "the second host has fetched a tar that nothing is made of"

step "it takes the artifact where a layer is to be made of it"
host two --compression gzip out || { tail -20 "$scratch/two.log" >&2; die "no other compression"; }
equal "$(built two)" "" "what the second host built for another compression"
[ -e "$scratch/two/blobs/sha256/$result" ] || die "the layer was made of nothing"
host two out
on two plan out | grep -q '^  reuse .* tool · shell$' || die "the receipt was not kept with the bytes"

step "a host that builds takes the builder's layers"
sed -i 's/echo one/echo two/' images.toml
host three out || { tail -20 "$scratch/three.log" >&2; die "the third host can't build"; }
equal "$(built three)" "tool · shell" "what the third host built"
equal "$(fetched three)" 0 "packages that the third host fetched"
sed -i 's/echo two/echo one/' images.toml
cp "$scratch/images.lock" images.lock

step "a cache that has lost the bytes that it promises"
cp -r "$scratch/registry" "$scratch/whole"
find "$scratch/registry" -path "*$result*" -type f -delete
host four --compression none out || { tail -20 "$scratch/four.log" >&2; die "a broken cache keeps the build from going on"; }
equal "$(built four)" "tool · shell" "what the fourth host built itself"
rm -rf "$scratch/registry"
mv "$scratch/whole" "$scratch/registry"

step "two builds of an artifact at once: both keys are kept"
mkdir "$scratch/left" "$scratch/right"
for side in left right; do
    cp -r images.toml source.txt explicit.txt "$scratch/$side/"
    sed -i "s/echo one/echo $side/" "$scratch/$side/images.toml"
    (cd "$scratch/$side" && "$imgforge" --store "$scratch/one" build --quiet out > /dev/null) &
    sides+=($!)
done
wait "${sides[@]}" || die "two builds at once fail"
equal "$(python3 -c '
import json, pathlib, sys
[record] = pathlib.Path(sys.argv[1]).rglob("artifact-keys/1/*")
print(len(json.loads(record.read_text())["record"]["value"]))' "$scratch/one")" 3 "keys of the artifact"

step "vendor: results and what they are built from"
on one vendor --quiet
for file in tool.tar source.txt; do
    [ -s "vendor/$file" ] || die "vendor has no $file"
done
on five build --offline --locked --output "$scratch/dist-five" > "$scratch/five.digests" 2> "$scratch/five.log" ||
    { tail -20 "$scratch/five.log" >&2; die "no build from vendor"; }
equal "$(built five)" "link scripts of /opt/linked" "what was built from a vendor folder that has the results"
cmp "$scratch/one.digests" "$scratch/five.digests" || die "other digests from vendor"
sed -i 's/echo one/echo three/' images.toml
on six build --offline --output "$scratch/dist-six" out > /dev/null 2> "$scratch/six.log" ||
    { tail -20 "$scratch/six.log" >&2; die "what builds need is not in vendor"; }
equal "$(built six)" "tool · shell" "what was built anew from vendor"

step "everything is well"
