#!/bin/sh
# Makes the keys and signed texts of tests/keys with GnuPG: the cases that Debian's own archive does not show (expired,
# revoked, weak). The secret keys are thrown away; run it only to change a case, and commit the result.
set -eu
cd "$(dirname "$0")/keys"
GNUPGHOME=$(mktemp -d)
export GNUPGHOME
trap 'gpgconf --kill all; rm -rf "$GNUPGHOME"' EXIT
gpg="gpg --quiet --batch --yes --pinentry-mode loopback --passphrase="

text() {
    printf 'Origin: Example\nSuite: example\nDate: Wed, 01 Jan 2020 12:00:00 UTC\nArchitectures: amd64\n'
    printf 'Components: main\nSHA256:\n %s 0 main/binary-amd64/Packages\n' \
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
}
# make NAME TIME EXPIRY: a key that signs, and a text signed by it at that time.
make() {
    $gpg --faked-system-time "$2!" --quick-generate-key "$1" ed25519 sign "$3"
    text | $gpg --faked-system-time "$2!" --local-user "=$1" --clearsign >"$1.txt"
    $gpg --armor --export "=$1" >"$1.asc"
}
fingerprint() { $gpg --with-colons --list-keys "=$1" | awk -F: '/^fpr/ { print $10 }' | sed -n "$2p"; }

make good 20200101T120000 0
make other 20200101T120000 0
make expired 20200101T120000 1y
$gpg --export =good >good.gpg
cat other.asc good.asc >both.asc

make revoked 20200101T120000 0
{ echo y; echo 0; echo; echo y; } | gpg --quiet --no-tty --command-fd 0 --pinentry-mode loopback --passphrase= \
    --gen-revoke "$(fingerprint revoked 1)" >"$GNUPGHOME/revocation" 2>/dev/null
$gpg --import "$GNUPGHOME/revocation"
$gpg --armor --export =revoked >revoked.asc

# A certificate whose signing subkey signs, and the same with the subkey revoked.
make subkey 20200101T120000 0
$gpg --faked-system-time 20200101T120000! --quick-add-key "$(fingerprint subkey 1)" ed25519 sign 0
text | $gpg --faked-system-time 20200101T120000! --local-user "$(fingerprint subkey 2)!" --clearsign >subkey.txt
$gpg --armor --export =subkey >subkey.asc
{ echo key 1; echo revkey; echo y; echo 0; echo; echo y; echo save; } | gpg --quiet --no-tty --command-fd 0 \
    --pinentry-mode loopback --passphrase= --edit-key "$(fingerprint subkey 1)" 2>/dev/null
$gpg --armor --export =subkey >subkey-revoked.asc

# A weak digest, two signatures, and a signature that expires by itself.
text | $gpg --faked-system-time 20200101T120000! --allow-weak-digest-algos --digest-algo SHA1 --local-user =good \
    --clearsign >weak.txt
text | $gpg --faked-system-time 20200101T120000! --local-user =other --local-user =good --clearsign >two.txt
text | $gpg --faked-system-time 20200101T120000! --default-sig-expire 1d --local-user =good --clearsign >brief.txt
