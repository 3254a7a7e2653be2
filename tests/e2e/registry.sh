#!/bin/bash
# Images to and from registries: Debian's docker-registry on loopback, plain, with TLS, and with TLS and passwords.
#
#   tests/e2e/registry.sh IMGFORGE
#
# Asks skopeo, podman and docker for what was pushed, counts what went over the line by the registry's own log, and lets a
# second host build from a cache of layers. Needs root for docker's daemon, and works below a temporary folder.
set -euo pipefail
cd "$(dirname "$0")/../.."

imgforge=$(realpath "${1:?usage: registry.sh IMGFORGE}")
root=$PWD

. tests/e2e/engines-apart.sh
step() { echo "registry: $*" >&2; }

[ "$(id -u)" = 0 ] || die "run as root: docker's daemon takes it"
for program in docker-registry skopeo podman runc dockerd docker openssl htpasswd curl python3 strace; do
    command -v "$program" >/dev/null ||
        die "no $program; run: apt-get install docker-registry skopeo podman runc docker.io openssl apache2-utils curl python3 strace"
done

# ---- what stands around

# Nobody's own credentials.
export HOME=$scratch/home XDG_CONFIG_HOME=$scratch/home/.config XDG_RUNTIME_DIR=$scratch/home/run
unset REGISTRY_AUTH_FILE XDG_CACHE_HOME IMGFORGE_STORE
mkdir -p "$XDG_RUNTIME_DIR"

# An authority, and a server that it vouches for.
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority \
    -keyout "$scratch/ca.key" -out "$scratch/ca.crt" 2>/dev/null
openssl req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout "$scratch/tls.key" -out "$scratch/tls.csr" 2>/dev/null
openssl x509 -req -days 2 -in "$scratch/tls.csr" -CA "$scratch/ca.crt" -CAkey "$scratch/ca.key" -CAcreateserial \
    -extfile <(printf 'subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n') -out "$scratch/tls.crt" 2>/dev/null
password=correct-horse-$RANDOM
htpasswd -Bbn alice "$password" > "$scratch/htpasswd" 2>/dev/null

# serve NAME PORT [FURTHER YAML]
serve() {
    printf '%s\n' "version: 0.1" "log: {level: error, accesslog: {disabled: false}}" \
        "storage: {filesystem: {rootdirectory: $scratch/$1}, delete: {enabled: true}}" \
        "http:" "  addr: 127.0.0.1:$2" "${@:3}" > "$scratch/$1.yml"
    docker-registry serve "$scratch/$1.yml" > "$scratch/$1.log" 2>&1 &
    servers+=($!)
    for _ in $(seq 100); do
        curl --silent --insecure --output /dev/null "http://127.0.0.1:$2/" && return
        sleep 0.1
    done
    die "docker-registry does not come up: $(cat "$scratch/$1.log")"
}
plain=$(free_port); serve plain "$plain"
tls=$(free_port)
serve tls "$tls" "  tls: {certificate: $scratch/tls.crt, key: $scratch/tls.key}"
closed=$(free_port)
serve closed "$closed" "  tls: {certificate: $scratch/tls.crt, key: $scratch/tls.key}" \
    "auth: {htpasswd: {realm: test, path: $scratch/htpasswd}}"

# The repository's own images, with layers that docker 20 can read.
project=$scratch/project
mkdir "$project"
cp -r "$root/app" "$root/vendor" "$root/images.toml" "$root/images.lock" "$project"
sed -i 's/^platforms = .*/&\ncompression = "gzip"/' "$project/images.toml"
store=$scratch/store
run() { (cd "$project" && "$imgforge" --store "$store" "$@"); }

# value JSON EXPRESSION: a value of a result.
value() { python3 -c 'import json, sys; r = json.loads(sys.argv[1]); print(eval(sys.argv[2]))' "$1" "$2"; }
equal() { [ "$1" = "$2" ] || die "$3: \`$1\`, expected \`$2\`"; }
sent='sum(i["sent"]["bytes"] for i in r["images"])'
digest_of() { value "$1" "next(i[\"digest\"] for i in r[\"images\"] if i[\"name\"] == \"$2\")"; }

# ---- to a registry and back

step "pushing"
run build --offline --quiet >/dev/null
first=$(run push "docker://127.0.0.1:$plain/team/{image}" runtime --json --quiet)
second=$(run push "docker://127.0.0.1:$plain/team/{image}" --json --quiet)
third=$(run push "docker://127.0.0.1:$plain/team/{image}" --json --quiet)
runtime=$(digest_of "$second" runtime) devel=$(digest_of "$second" devel)
equal "$(value "$third" "$sent")" 0 "bytes of a second push"
equal "$(value "$second" 'sum(i["sent"]["bytes"] for i in r["images"] if i["name"] == "runtime")')" 0 "bytes of runtime again"

# Application files that have not changed are not read, where the file system dates every write.
case $(stat --file-system --format %T "$project") in
    ext2/ext3 | xfs | btrfs | f2fs)
        (cd "$project" && strace --follow-forks --trace=openat --output "$scratch/opened" \
            "$imgforge" --store "$store" push "docker://127.0.0.1:$plain/team/{image}" --quiet >/dev/null)
        grep -q images.toml "$scratch/opened" || die "strace does not see what is opened"
        ! grep "app/src/app/" "$scratch/opened" || die "files are read that have not changed" ;;
esac

# What devel has and runtime has not, by their manifests: registries keep blobs by repository, so the rest is mounted.
manifest() { skopeo inspect --raw "oci:$project/dist:$1:latest"; }
new=$(python3 - "$(manifest runtime)" "$(manifest devel)" <<'END'
import json, sys
runtime, devel = (json.loads(text) for text in sys.argv[1:])
parts = lambda m: {p["digest"]: p["size"] for p in [m["config"], *m["layers"]]}
print(sum(size for digest, size in parts(devel).items() if digest not in parts(runtime)))
END
)
equal "$(value "$second" "$sent")" "$new" "bytes of devel after runtime"
mounted=$(run push "docker://127.0.0.1:$plain/other/{image}" --json --quiet)
equal "$(value "$mounted" "$sent")" 0 "bytes for another repository"

step "pulling with skopeo, podman and docker"
skopeo inspect --tls-verify=false "docker://127.0.0.1:$plain/team/runtime:latest" > "$scratch/inspect.json"
equal "$(value "$(cat "$scratch/inspect.json")" 'r["Digest"]')" "$runtime" "skopeo's digest"
skopeo copy --quiet --preserve-digests --src-tls-verify=false "docker://127.0.0.1:$plain/other/devel:latest" "oci:$scratch/back:devel"
equal "sha256:$(skopeo inspect --raw "oci:$scratch/back:devel" | sha256sum | cut -d' ' -f1)" "$devel" "what skopeo copied"
"$imgforge" verify --layout "$scratch/back" >/dev/null 2>&1 || die "what skopeo copied is not valid"
podman pull --quiet --tls-verify=false "127.0.0.1:$plain/team/runtime:latest" >/dev/null
equal "$(podman image inspect --format '{{.Digest}}' "127.0.0.1:$plain/team/runtime:latest")" "$runtime" "podman's digest"
start_docker
docker pull --quiet "127.0.0.1:$plain/team/runtime:latest" >/dev/null || die "docker can't pull: $(tail -3 "$scratch/dockerd.log")"
equal "$(docker image inspect --format '{{index .RepoDigests 0}}' "127.0.0.1:$plain/team/runtime:latest")" \
    "127.0.0.1:$plain/team/runtime@$runtime" "docker's digest"

step "an archive for docker load"
run build --offline --quiet runtime --docker-archive "$scratch/runtime.tar" >/dev/null
docker load --quiet --input "$scratch/runtime.tar" | grep -q "runtime:latest" || die "docker load did not take the archive"
docker run --rm --network none --entrypoint python runtime:latest -c 'import numpy' || die "what docker loaded does not run"

step "TLS and passwords"
refused() {
    local text; text=$("${@:2}" 2>&1) && die "this should fail: ${*:2}"
    grep -q -- "$1" <<<"$text" || die "expected an error about \`$1\`: $text"
    ! grep -q -- "$password" <<<"$text" || die "a password is in an error"
}
refused certificate run push "docker://127.0.0.1:$tls/a" runtime
run push "docker://127.0.0.1:$tls/a" runtime --ca-file "$scratch/ca.crt" --quiet >/dev/null
refused "there are none for it" run push "docker://127.0.0.1:$closed/a" runtime --ca-file "$scratch/ca.crt"
printf '{"auths": {"127.0.0.1:%s": {"auth": "%s"}}}' "$closed" "$(printf 'alice:%s' "$password" | base64 -w0)" > "$scratch/auth.json"
in=$(run push "docker://127.0.0.1:$closed/a" runtime --ca-file "$scratch/ca.crt" --authfile "$scratch/auth.json" 2>&1)
! grep -q -- "$password" <<<"$in" || die "a password is in the output"
mkdir -p "$XDG_CONFIG_HOME/containers"
cp "$scratch/auth.json" "$XDG_CONFIG_HOME/containers/auth.json"
mkdir -p "$XDG_CONFIG_HOME/containers/certs.d/127.0.0.1:$closed"
cp "$scratch/ca.crt" "$XDG_CONFIG_HOME/containers/certs.d/127.0.0.1:$closed/ca.crt"
run push "docker://127.0.0.1:$closed/b" runtime --quiet >/dev/null || die "podman's own files are not used"
equal "$(skopeo inspect --tls-verify=false --authfile "$scratch/auth.json" "docker://127.0.0.1:$closed/b:latest" | python3 -c 'import json, sys; print(json.load(sys.stdin)["Digest"])')" \
    "$runtime" "the digest behind a password"

# The first image gets through, the second one's repository is somebody else's.
printf '{"auths": {"127.0.0.1:%s/half/devel": {"auth": "%s"}, "127.0.0.1:%s/half/runtime": {"auth": "%s"}}}' \
    "$closed" "$(printf 'alice:%s' "$password" | base64 -w0)" "$closed" "$(printf 'alice:wrong' | base64 -w0)" > "$scratch/half.json"
half() { run push "docker://127.0.0.1:$closed/half/{image}" --authfile "$scratch/half.json" --quiet "$@"; }
said=$(half 2>"$scratch/half.log") && die "a wrong password is taken"
equal "$said" "devel 127.0.0.1:$closed/half/devel:latest@$devel" "what is told of images that were sent before a failure"
said=$(half --json 2>"$scratch/half.log") && die "a wrong password is taken"
equal "$(value "$said" '[i["name"] for i in r["images"]]')" "['devel']" "the same in JSON"
grep -q "half/runtime" "$scratch/half.log" || die "the image that failed is not named: $(cat "$scratch/half.log")"

# ---- bases

step "a base in a registry"
above=$scratch/above
mkdir -p "$above/files"
cp "$root/app/uv.lock" "$root/app/pyproject.toml" "$above"
echo 'print("above")' > "$above/files/above.py"
cat > "$above/images.toml" <<END
version = 1
[settings]
platforms = ["linux/amd64"]
vendor = "../project/vendor"
[base.below]
image = "docker://127.0.0.1:$plain/team/runtime:latest"
[env.dev]
lock = "uv.lock"
prefix = "/opt/dev"
groups = ["dev"]
[image.above]
base = "below"
envs = ["dev"]
files = [{ src = "files", dest = "/bin" }]
users = [{ name = "above", uid = 1234 }]
user = "above"
entrypoint = ["python", "/bin/above.py"]
END
over() { (cd "$above" && "$imgforge" --store "$1" "${@:2}"); }
over "$scratch/over" build --quiet > "$scratch/built"
skopeo copy --quiet "oci:$above/dist:above:latest" "containers-storage:localhost/above:latest"
equal "$(podman run --rm --network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 localhost/above:latest)" above "what runs on the base"
equal "$(podman run --rm --network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --entrypoint python localhost/above:latest -c 'import pytest, os, pwd; print(pwd.getpwuid(os.getuid()).pw_name)')" above "its environment and user"
"$imgforge" verify --layout "$above/dist" >/dev/null 2>&1 || die "the image on a base is not valid"

# A bare host, the registry of the base: no byte of the base's layers moves, in either direction.
over "$scratch/bare" push "docker://127.0.0.1:$plain/above" --locked --json --quiet > "$scratch/pushed.json"
for layer in $(manifest runtime | python3 -c 'import json, sys; print(*(l["digest"] for l in json.load(sys.stdin)["layers"]))'); do
    ! [ -e "$scratch/bare/blobs/sha256/${layer#sha256:}" ] || die "a base's layer was fetched for a push"
done
equal "$(value "$(cat "$scratch/pushed.json")" 'r["images"][0]["digest"]')" "$(cut -d' ' -f2 "$scratch/built")" "the digest of a bare host"
over "$scratch/bare" plan | grep -q "^  base .* layers of docker://127.0.0.1:$plain/team/runtime:latest, .* of them not here" ||
    die "plan says nothing of the base's layers"
other=$(over "$scratch/bare" push "docker://127.0.0.1:$tls/above" --locked --ca-file "$scratch/ca.crt" --json --quiet)
equal "$(value "$other" 'r["images"][0]["digest"]')" "$(cut -d' ' -f2 "$scratch/built")" "the digest in another registry"

step "a tag that moves"
skopeo copy --quiet --dest-tls-verify=false "oci:$project/dist:devel:latest" "docker://127.0.0.1:$plain/team/runtime:latest"
over "$scratch/over" lock 2>&1 | grep -q "has moved" || die "lock does not tell of a tag that has moved"
over "$scratch/fresh" build --locked --quiet > "$scratch/again"
cmp "$scratch/built" "$scratch/again" || die "a build followed a tag that has moved"
over "$scratch/over" lock --upgrade --quiet
grep -q "$devel" "$above/images.lock" || die "lock --upgrade does not follow the tag"

step "bases in layouts and archives"
for place in "oci:../project/dist:runtime:latest" "oci-archive:../runtime-oci.tar:runtime:latest" "docker-archive:../runtime.tar:runtime:latest"; do
    (cd "$project" && "$imgforge" --store "$store" build --offline --quiet runtime --archive "$scratch/runtime-oci.tar" >/dev/null)
    sed -i "s|^image = .*|image = \"$place\"|" "$above/images.toml"
    rm -rf "$above/dist" "$above/images.lock"
    over "$scratch/place" build --offline --quiet >/dev/null || die "no build on $place"
    "$imgforge" verify --layout "$above/dist" >/dev/null 2>&1 || die "the image on $place is not valid"
done

# ---- a cache of layers

step "two hosts with one cache"
cache=docker://127.0.0.1:$plain/cache
host() { (cd "$project" && "$imgforge" --store "$scratch/host-$1" build --cache "$cache" --output "$scratch/dist-$1" --json "${@:2}"); }
made='sum(l["made"] for i in r["images"] for p in i["platforms"] for l in p["layers"])'
one=$(host one --quiet)
[ "$(value "$one" "$made")" -gt 20 ] || die "the first host made too little"
mv "$project/vendor" "$scratch/vendor"
plan=$(cd "$project" && "$imgforge" --store "$scratch/host-none" plan --cache "$cache" --json --quiet)
equal "$(value "$plan" '[r["totals"][name] for name in ("made", "fetched_files")], r["totals"]["taken"] == r["totals"]["layers"]')" \
    "([0, 0], True)" "what a bare host plans to make and to fetch, and that it takes all layers"
two=$(host two --locked 2> "$scratch/two.log") || die "the second host: $(cat "$scratch/two.log")"
equal "$(value "$two" "$made")" 0 "layers made by the second host"
equal "$(value "$two" '[i["digest"] for i in r["images"]]')" "$(value "$one" '[i["digest"] for i in r["images"]]')" "the second host's digests"
! grep "^fetching" "$scratch/two.log" || die "the second host fetched artifacts"
mv "$scratch/vendor" "$project/vendor"

step "bare hosts that push with the cache"
# A file of the application has changed, so that images.lock does not say what comes out: only of the other layers.
changed=$scratch/changed
mkdir "$changed"
cp -r "$project/app" "$project/images.toml" "$project/images.lock" "$changed"
echo '# changed' >> "$changed/app/src/app/service.py"
cp -r "$changed" "$scratch/honest"
ln -s "$project/vendor" "$scratch/honest/vendor"
honest=$(cd "$scratch/honest" && "$imgforge" --store "$store" build --offline --json --quiet)

# bare NAME ARGUMENTS: pushes from a host that has a checkout and nothing else.
bare() {
    [ -e "$scratch/$1" ] || cp -r "${from:-$changed}" "$scratch/$1"
    (cd "$scratch/$1" && "$imgforge" --store "$scratch/store-$1" push "${@:2}" --cache "$cache" --cache-read-only --json) \
        2> "$scratch/$1.log"
}
line() { wc -l < "$scratch/plain.log"; }
# counts PUSHED LINE EXPRESSION: what a push came to, as an expression over digests and sizes:
#   layers    those of the images that were pushed        cached   those of them that the cache has
#   fetched   blobs that were read from the registry of the cache since that line of its log, each with its bytes
#   sent      bytes that the push says it has sent
counts() {
    python3 - "$honest" "$1" "$scratch/honest/dist" "$scratch/plain.log" "$2" "$project/dist" "$3" <<'END'
import collections, json, pathlib, re, sys
built, pushed, dist, log, line, before, expression = sys.argv[1:]
built, pushed = json.loads(built), json.loads(pushed)
digests = {image["name"]: image["digest"] for image in built["images"]}
assert all(image["digest"] == digests[image["name"]] for image in pushed["images"]), "other digests than an honest host's"
def parts(dist, digest):
    manifest = json.loads(pathlib.Path(dist, "blobs/sha256", digest.removeprefix("sha256:")).read_text())
    return {part["digest"]: part["size"] for part in [manifest["config"], *manifest["layers"]]}
old = {}
for image in json.loads(pathlib.Path(before, "index.json").read_text())["manifests"]:
    old |= parts(before, image["digest"])
all = {}
for image in pushed["images"]:
    all |= parts(dist, image["digest"])
new = {digest: size for digest, size in all.items() if digest not in old}
cached = {digest: size for digest, size in all.items() if digest in old}
reads = re.compile(r'"GET /v2/\S*/blobs/(sha256:[0-9a-f]{64}) \S*" 20[06] (\d+) ')
fetched = collections.Counter()
for text in pathlib.Path(log).read_text().splitlines()[int(line):]:
    if found := reads.search(text):
        fetched[found[1]] += int(found[2])
layers = {digest: size for digest, size in fetched.items() if digest in all}
documents = sum(fetched.values()) - sum(layers.values())
sent = sum(image["sent"]["bytes"] for image in pushed["images"])
print(eval(expression))
END
}

at=$(line)
same=$(bare same "docker://127.0.0.1:$plain/bare/{image}") || die "a bare host: $(cat "$scratch/same.log")"
equal "$(counts "$same" "$at" 'layers, sent == sum(new.values())')" "({}, True)" "layers fetched for the registry of the cache"
[ "$(counts "$same" "$at" 'documents * 10 < sum(all.values())')" = True ] || die "records and listings are no small part"
for blob in $(counts "$same" "$at" '" ".join(cached)'); do
    ! [ -e "$scratch/store-same/blobs/sha256/${blob#sha256:}" ] || die "a layer of the cache is on a host that did not need it"
done
again=$(cd "$scratch/same" && "$imgforge" --store "$scratch/store-same" push "docker://127.0.0.1:$plain/bare/{image}" --locked --json --quiet)
equal "$(value "$again" "$sent")" 0 "bytes of a second push from a bare host"

# Another registry is sent everything, and everything is fetched for it, once; then what the next image has more.
other() { bare other "docker://127.0.0.1:$tls/bare/{image}" "$1" --ca-file "$scratch/ca.crt"; }
at=$(line)
runtime_only=$(other runtime) || die "to another registry: $(cat "$scratch/other.log")"
equal "$(counts "$runtime_only" "$at" 'layers == cached, sent == sum(all.values())')" "(True, True)" "layers fetched for another registry"
fetched=$(counts "$runtime_only" "$at" '" ".join(layers)')
at=$(line)
devel_after=$(other devel) || die "to another registry: $(cat "$scratch/other.log")"
more=$(counts "$devel_after" "$at" "{d for d in cached} - set('$fetched'.split()) == set(layers)")
equal "$more" True "layers of devel fetched after those of runtime"

# images.lock says nothing of any layer: the images that the tags stand for do, or nobody, and then all are verified.
unlocked=$scratch/unlocked
cp -r "$changed" "$unlocked"
sed -i '/^\[\[image\]\]/,$d' "$unlocked/images.lock"
at=$(line)
tagged=$(from=$unlocked bare tagged "docker://127.0.0.1:$plain/other/{image}") || die "without outcomes: $(cat "$scratch/tagged.log")"
equal "$(counts "$tagged" "$at" 'layers')" "{}" "layers fetched that the images at the destination have"
at=$(line)
unknown=$(from=$unlocked bare unknown "docker://127.0.0.1:$plain/unknown/{image}") || die "unvouched: $(cat "$scratch/unknown.log")"
equal "$(counts "$unknown" "$at" 'layers == cached, sent == sum(new.values())')" "(True, True)" "layers verified that nobody vouches for"

step "a cache that lies"
# An entry whose record has another diff ID, one with the listing of another layer, and a blob with other bytes.
tampered=$(python3 - "http://127.0.0.1:$plain/v2/cache" "$scratch/plain" <<'END'
import hashlib, json, pathlib, sys, urllib.request
base, storage = sys.argv[1:]
def call(method, url, data=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method))
kind = "application/vnd.oci.image.manifest.v1+json"
tags = sorted(json.load(call("GET", f"{base}/tags/list"))["tags"])
get = lambda tag: json.load(call("GET", f"{base}/manifests/{tag}", Accept=kind))
def put(tag, manifest, **changes):
    record = json.load(call("GET", f"{base}/blobs/{manifest['config']['digest']}"))
    text = json.dumps({**record, **changes}).encode()
    digest = "sha256:" + hashlib.sha256(text).hexdigest()
    place = call("POST", f"{base}/blobs/uploads/", b"").headers["Location"]
    call("PUT", f"{place}&digest={digest}", text, Content_Type="application/octet-stream")
    manifest["config"].update(digest=digest, size=len(text))
    call("PUT", f"{base}/manifests/{tag}", json.dumps(manifest).encode(), Content_Type=kind)
tags.sort(key=lambda tag: get(tag)["layers"][0]["size"])
put(tags[0], get(tags[0]), diff_id="sha256:" + "0" * 64)
other = get(tags[1])
other["layers"][1] = get(tags[2])["layers"][1]
put(tags[1], other, listing=other["layers"][1]["digest"])
largest = None
for tag in tags[2:]:
    layer = json.load(call("GET", f"{base}/manifests/{tag}", Accept=kind))["layers"][0]
    if largest is None or layer["size"] > largest["size"]:
        largest = layer
name = largest["digest"].removeprefix("sha256:")
data = pathlib.Path(storage, "docker/registry/v2/blobs/sha256", name[:2], name, "data")
content = bytearray(data.read_bytes())
content[len(content) // 2] ^= 1
data.write_bytes(content)
print(3)
END
)
cp "$project/images.lock" "$scratch/images.lock"
sed -i '/^\[\[image\]\]/,$d' "$project/images.lock"
three=$(host three --cache-read-only 2> "$scratch/three.log") || die "a lying cache: $(cat "$scratch/three.log")"
equal "$(value "$three" 'len({l["key"] for i in r["images"] for p in i["platforms"] for l in p["layers"] if l["made"]})')" "$tampered" "layers made in spite of a lying cache"
equal "$(value "$three" '[i["digest"] for i in r["images"]]')" "$(value "$one" '[i["digest"] for i in r["images"]]')" "digests in spite of a lying cache"
cmp "$project/images.lock" "$scratch/images.lock" || die "images.lock differs in spite of equal digests"
# A host that needs the bytes for another registry finds the same, whatever images.lock vouches for.
cp -r "$changed" "$scratch/lied"
ln -s "$project/vendor" "$scratch/lied/vendor"
lied=$(bare lied "docker://127.0.0.1:$tls/lied/{image}" --ca-file "$scratch/ca.crt") || die "a lying cache: $(cat "$scratch/lied.log")"
counts "$lied" 1 0 > /dev/null || die "other images in spite of a lying cache"
[ "$(grep -c "^note: cache" "$scratch/lied.log")" -ge "$tampered" ] || die "a lie was not noticed: $(cat "$scratch/lied.log")"
skopeo copy --quiet --preserve-digests --src-tls-verify=false "docker://127.0.0.1:$tls/lied/devel:latest" "oci:$scratch/lied-back:devel"
"$imgforge" verify --layout "$scratch/lied-back" >/dev/null 2>&1 || die "what was pushed in spite of a lying cache is not valid"

step "a cache that its owner has emptied"
tags() { curl --silent "http://127.0.0.1:$plain/v2/cache/tags/list" | python3 -c 'import json, sys; print(len(json.load(sys.stdin).get("tags") or []))'; }
full=$(tags)
rm -r "$scratch/plain/docker/registry/v2/repositories/cache"
host one --quiet >/dev/null
equal "$(tags)" 0 "layers asked for that the cache had this day"
# A day later.
python3 - "$scratch/host-one/cached" <<'END'
import hashlib, json, pathlib, sys
for file in pathlib.Path(sys.argv[1]).rglob("*"):
    if file.is_file():
        record = json.loads(file.read_text())["record"]
        record["value"]["seen"] -= 25 * 60 * 60
        record = json.dumps(record)
        file.write_text('{"sha256": "%s", "record": %s}' % (hashlib.sha256(record.encode()).hexdigest(), record))
END
host one --quiet >/dev/null
equal "$(tags)" "$full" "layers that a host puts into an empty cache"

step "done"
