//! Which signed texts are believed: Debian's own, and every way to get around them.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests may panic, as tests do.

use imgforge_resolver_debian::{Compression, Error, Freshness, Keyring, verify_in_release};

/// 2026-11-19: a day after Debian signed `debian/InRelease`, which it calls valid for a week.
const NOW: Freshness = Freshness::At(1_795_046_400);
/// 2020-01-02: a day after the texts of `keys/` were signed.
const THEN: Freshness = Freshness::At(1_577_966_400);

fn read(path: &str) -> Vec<u8> {
    fs_err::read(format!("{}/tests/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Verifies `text` and compares the suite, or a part of the error.
fn check_text(text: &[u8], keyring: &str, freshness: Freshness, expected: Result<&str, &str>) {
    let keyring = Keyring::parse(&read(keyring)).unwrap();
    match (verify_in_release(text, &keyring, freshness), expected) {
        (Ok(release), Ok(suite)) => assert_eq!(release.suite, suite),
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
        (result, expected) => panic!("expected {expected:?}, not {result:?}"),
    }
}

fn check(text: &str, keyring: &str, freshness: Freshness, expected: Result<&str, &str>) {
    check_text(&read(text), keyring, freshness, expected);
}

/// Debian's InRelease with `from` replaced by `to`, once.
fn check_tampered(from: &str, to: &str, expected: Result<&str, &str>) {
    let text = String::from_utf8(read("debian/InRelease")).unwrap();
    assert!(text.contains(from));
    check_text(text.replacen(from, to, 1).as_bytes(), "debian/security.gpg", NOW, expected);
}

const DEBIAN: Result<&str, &str> = Ok("oldstable-security");
const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n";
const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END: &str = "-----END PGP SIGNATURE-----\n";

#[test]
fn debian_is_believed() {
    check("debian/InRelease", "debian/security.gpg", NOW, DEBIAN);
    check("debian/InRelease", "debian/security.asc", NOW, DEBIAN);
    check("debian/InRelease", "debian/security.gpg", Freshness::Snapshot, DEBIAN);
}

#[test]
fn debian_says_what_it_has() {
    let keyring = Keyring::parse(&read("debian/security.gpg")).unwrap();
    let release = verify_in_release(&read("debian/InRelease"), &keyring, NOW).unwrap();
    assert_eq!((release.origin.as_str(), release.codename.as_str()), ("Debian", "bookworm-security"));
    assert_eq!(release.date, 1_795_040_261);
    assert_eq!(release.architectures, ["amd64", "arm64", "armhf", "i386", "ppc64el"]);
    assert_eq!(release.components[0], "updates/main");
    assert_eq!(release.signed_by, ["B0CAB9266E8C3929798B3EEEBDE6D2B9216EC7A8"]);
    for component in ["main", "updates/main"] {
        let [index] = release.packages(component, "amd64").unwrap().try_into().unwrap();
        assert_eq!(index.file, "main/binary-amd64/Packages.xz");
        assert_eq!(index.path, format!("main/binary-amd64/by-hash/SHA256/{}", index.sha256));
        assert_eq!(index.compression, Compression::Xz);
    }
    let error = release.packages("main", "riscv64").unwrap_err();
    assert!(error.to_string().contains("architectures: amd64 arm64"), "{error}");
    assert!(matches!(release.packages("universe", "amd64"), Err(Error::NoIndex { .. })));
}

#[test]
fn another_text_is_refused() {
    check_tampered("Suite: oldstable", "Suite: unstable", Err("the text is not what was signed"));
    check_tampered("Components: updates/main ", "Components: ", Err("not what was signed"));
    check_tampered("SHA256:\n", "SHA256:\n\n", Err("not what was signed"));
    check_tampered("\nSHA256:\n", "\n\nSHA256:\n", Err("not what was signed"));
}

/// Blanks at line ends and the kind of line ends are outside of what this kind of signature covers.
#[test]
fn what_a_signature_ignores_is_ignored() {
    check_tampered("Origin: Debian\n", "Origin: Debian \t\n", DEBIAN);
    let text = String::from_utf8(read("debian/InRelease")).unwrap().replace('\n', "\r\n");
    check_text(text.as_bytes(), "debian/security.gpg", NOW, DEBIAN);
    check_tampered("Origin: Debian\n", "- Origin: Debian\n", DEBIAN);
}

#[test]
fn text_outside_of_the_signature_is_refused() {
    check_tampered(BEGIN, &format!("Suite: evil\n\n{BEGIN}"), Err("does not start with"));
    check_tampered(BEGIN, &format!("\n{BEGIN}"), Err("does not start with"));
    check_tampered(BEGIN, &BEGIN.replace("\n\n", "\nSuite: evil\n\n"), Err("no signed text"));
    check_tampered(BEGIN, &BEGIN.replace("\n\n", "\n \n\n"), Err(""));
    check_tampered(SIGNATURE, &format!("{SIGNATURE}\nSuite: evil\n{SIGNATURE}"), Err("no signed text"));
    check_tampered(
        SIGNATURE,
        &format!("-----BEGIN PGP SIGNED MESSAGE-----\n\n{SIGNATURE}"),
        Err("no signed text"),
    );
    check_tampered(END, &format!("{END}Suite: evil\n"), Err("no signed text"));
    check_tampered(END, &format!("{END}\n\nSuite: evil\n"), Err("no signed text"));
    let text = String::from_utf8(read("debian/InRelease")).unwrap();
    check_tampered(END, &format!("{END}{text}"), Err("no signed text"));
    check_tampered(END, "", Err("no signed text"));
}

#[test]
fn what_is_no_signed_text_is_refused() {
    for text in ["", "<html>log in</html>", "Suite: evil\n", BEGIN, &format!("{BEGIN}Suite: evil\n")] {
        check_text(text.as_bytes(), "keys/good.asc", THEN, Err("InRelease is no signed text"));
    }
    check_text(b"-----BEGIN PGP SIGNED MESSAGE-----\n\xff", "keys/good.asc", THEN, Err("not UTF-8"));
}

/// Every prefix of a signed text, and every single changed byte of it, is refused or says the same as before.
#[test]
fn damage_never_changes_what_is_believed() {
    let keyring = Keyring::parse(&read("keys/good.asc")).unwrap();
    let text = read("keys/good.txt");
    let whole = format!("{:?}", verify_in_release(&text, &keyring, THEN).unwrap());
    let believed = |text: &[u8]| verify_in_release(text, &keyring, THEN).ok().map(|it| format!("{it:?}"));
    for at in 0..text.len() {
        for replaced in [text[at] ^ 1, b'\n'] {
            let mut changed = text.clone();
            changed[at] = replaced;
            assert!(believed(&changed).is_none_or(|it| it == whole), "byte {at} as {replaced}");
        }
        assert!(believed(&text[..at]).is_none_or(|it| it == whole), "the first {at} bytes");
    }
}

#[test]
fn another_key_is_refused() {
    check("debian/InRelease", "debian/stable.gpg", NOW, Err("its key is not in the keyring"));
    check("keys/good.txt", "keys/other.asc", THEN, Err("its key is not in the keyring"));
    check("keys/good.txt", "keys/good.asc", THEN, Ok("example"));
    check("keys/good.txt", "keys/good.gpg", THEN, Ok("example"));
    check("keys/good.txt", "keys/both.asc", THEN, Ok("example"));
    check("keys/two.txt", "keys/good.asc", THEN, Ok("example"));
    check("keys/two.txt", "keys/other.asc", THEN, Ok("example"));
    check("keys/two.txt", "keys/expired.asc", THEN, Err("its key is not in the keyring"));
}

#[test]
fn dates_are_held_against_now() {
    let a_week_later = Freshness::At(1_795_046_400 + 7 * 86_400);
    check("debian/InRelease", "debian/security.gpg", a_week_later, Err("set `snapshot`"));
    check("debian/InRelease", "debian/security.gpg", THEN, Err("made in the future"));
    check("keys/good.txt", "keys/good.asc", Freshness::At(1_577_880_000), Ok("example"));
    check("keys/good.txt", "keys/good.asc", Freshness::At(1_577_870_000), Err("made in the future"));
    check("keys/brief.txt", "keys/good.asc", Freshness::At(1_577_880_100), Ok("example"));
    check("keys/brief.txt", "keys/good.asc", NOW, Err("it expired"));
    check("keys/brief.txt", "keys/good.asc", Freshness::Snapshot, Ok("example"));
}

#[test]
fn keys_must_be_valid() {
    check("keys/expired.txt", "keys/expired.asc", THEN, Ok("example"));
    check("keys/expired.txt", "keys/expired.asc", NOW, Err("its key expired"));
    check("keys/expired.txt", "keys/expired.asc", Freshness::Snapshot, Ok("example"));
    check("keys/revoked.txt", "keys/revoked.asc", THEN, Err("its key is revoked"));
    check("keys/revoked.txt", "keys/revoked.asc", Freshness::Snapshot, Err("its key is revoked"));
    check("keys/subkey.txt", "keys/subkey.asc", NOW, Ok("example"));
    check("keys/subkey.txt", "keys/subkey-revoked.asc", NOW, Err("its subkey is revoked"));
    check("keys/weak.txt", "keys/good.asc", THEN, Err("hash algorithm is too weak"));
}

#[test]
fn a_keyring_must_have_a_key() {
    let check = |bytes: &[u8], part: &str| {
        let error = Keyring::parse(bytes).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    check(b"", "no public key");
    check(b"hello", "no public key");
    check(b"\x00\x00\x00\x20\x01\x01\x00\x02KBXf", "keybox");
    check(&read("keys/good.txt"), "no public key");
    check(&read("keys/good.gpg")[..40], "no public key");
}

#[test]
fn fingerprints_select_keys() {
    let check = |fingerprint: &str, expected: bool| {
        let mut keyring = Keyring::parse(&read("debian/security.gpg")).unwrap();
        keyring.retain_fingerprints(&[fingerprint.to_owned()]);
        assert_eq!(verify_in_release(&read("debian/InRelease"), &keyring, NOW).is_ok(), expected);
    };
    check("05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0", true);
    check("b0cab9266e8c3929798b3eeebde6d2b9216ec7a8!", true);
    check("4D64FEC119C2029067D6E791F8D2585B8783D481", false);
}
