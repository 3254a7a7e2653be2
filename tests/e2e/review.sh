#!/bin/bash
# A pull request that brings another version of a package: what `plan --against` says that it ships is what `push` then sends.
#
#   tests/e2e/review.sh IMGFORGE
#
# The repository's own images, in a repository of git and in a registry on loopback.
set -euo pipefail
cd "$(dirname "$0")/../.."

imgforge=$(realpath "${1:?usage: review.sh IMGFORGE}")
root=$PWD

. tests/e2e/engines-apart.sh
step() { echo "review: $*" >&2; }
for program in docker-registry git curl python3; do
    command -v "$program" >/dev/null || die "no $program; run: apt-get install docker-registry git curl python3"
done

export HOME=$scratch/home XDG_CONFIG_HOME=$scratch/home/.config GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
unset REGISTRY_AUTH_FILE XDG_CACHE_HOME IMGFORGE_STORE
port=$(free_port)
printf '%s\n' "version: 0.1" "log: {level: error}" "storage: {filesystem: {rootdirectory: $scratch/registry}}" \
    "http:" "  addr: 127.0.0.1:$port" > "$scratch/registry.yml"
docker-registry serve "$scratch/registry.yml" > "$scratch/registry.log" 2>&1 &
servers+=($!)
for _ in $(seq 100); do
    curl --silent --output /dev/null "http://127.0.0.1:$port/" && break
    sleep 0.1
done

project=$scratch/project store=$scratch/store
mkdir "$project"
cp -r "$root/app" "$root/vendor" "$root/images.toml" "$root/images.lock" "$project"
run() { (cd "$project" && "$imgforge" --store "$store" "$@"); }
commit() {
    git -C "$project" -c user.name=a -c user.email=a@example.org commit --quiet --all --message "$1"
}
# value JSON EXPRESSION: a value of a result.
value() { python3 -c 'import json, sys; r = json.loads(sys.argv[1]); print(eval(sys.argv[2]))' "$1" "$2"; }
equal() { [ "$1" = "$2" ] || die "$3: \`$1\`, expected \`$2\`"; }
to="docker://127.0.0.1:$port/team/{image}"
ships='r["totals"]["ships"]'
sent='sum(i["sent"]["bytes"] for i in r["images"])'

step "what was released"
git -C "$project" init --quiet --initial-branch main
git -C "$project" add app images.toml images.lock
run build --quiet >/dev/null
commit "Release"
run push "$to" --quiet >/dev/null
equal "$(value "$(run plan --against HEAD --json)" "$ships[\"bytes\"]")" 0 "bytes of an unchanged tree"

step "another version of a package"
# h11 0.16.1: the wheel of 0.16.0 under another version, with a record that is true.
python3 - "$project" <<'END'
import base64, hashlib, pathlib, re, sys, zipfile
project = pathlib.Path(sys.argv[1])
old = project / "vendor/h11-0.16.0-py3-none-any.whl"
new = project / "vendor/h11-0.16.1-py3-none-any.whl"
rows = []
with zipfile.ZipFile(old) as source, zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as target:
    for entry in source.infolist():
        name, data = entry.filename.replace("0.16.0", "0.16.1"), source.read(entry)
        if name.endswith("/RECORD"):
            record = name
            continue
        if name.endswith("/METADATA"):
            data = data.replace(b"Version: 0.16.0", b"Version: 0.16.1")
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(data)}\n")
        target.writestr(name, data)
    target.writestr(record, "".join(rows) + f"{record},,\n")
lock = project / "app/uv.lock"
text = lock.read_text()
digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (old, new)]
before = text
text = re.sub(r'(name = "h11"\nversion = ")0\.16\.0', r"\g<1>0.16.1", text)
text = text.replace("h11-0.16.0-py3", "h11-0.16.1-py3").replace(digests[0], digests[1])
assert text != before
lock.write_text(text)
END

# Before anything is made, the sizes of what is new are those of its packages.
planned=$(run plan --against main --json)
equal "$(value "$planned" "($ships[\"layers\"], $ships[\"estimated_layers\"] + $ships[\"layers_of_unknown_size\"])")" "(1, 1)" \
    "layers to make and ship"
run plan --against main > "$scratch/before.txt"
grep -q '^  + .*h11 0\.16\.1' "$scratch/before.txt" || die "the new layer is not named: $(cat "$scratch/before.txt")"
grep -q '^  - .*h11 0\.16\.0' "$scratch/before.txt" || die "the old layer is not named: $(cat "$scratch/before.txt")"

# Built, as CI does before the review: they are those of the layers.
run build --quiet >/dev/null
review=$(run plan --against HEAD --json)
run plan --against HEAD >&2
equal "$(value "$review" "($ships[\"layers\"], $ships[\"configs\"], $ships[\"estimated_layers\"])")" "(1, 2, 0)" "what is shipped"
# The file of another commit serves as well.
git -C "$project" show HEAD:images.lock > "$scratch/released.lock"
equal "$(value "$(run plan --against "$scratch/released.lock" --json)" "$ships")" "$(value "$review" "$ships")" "against a file"

# The layer goes to the first repository, and is mounted from there into the second.
pushed=$(run push "$to" --json --quiet)
equal "$(value "$review" "$ships[\"bytes\"]")" "$(value "$pushed" "$sent")" "bytes in the review, and bytes that were sent"
commit "h11 0.16.1"
equal "$(value "$(run plan --against HEAD --json)" "$ships[\"bytes\"]")" 0 "bytes after the release"

step "what can't be compared with"
if run plan --against nowhere 2> "$scratch/said"; then die "nowhere is something"; fi
grep -q 'error: --against nowhere: there is no such file, and git says: ' "$scratch/said" || die "$(cat "$scratch/said")"
if run plan --against=--output=x 2> "$scratch/said"; then die "an option is something"; fi
grep -q 'no commit is called so' "$scratch/said" || die "$(cat "$scratch/said")"

step "done"
