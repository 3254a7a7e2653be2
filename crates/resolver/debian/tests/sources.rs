//! apt's sources, in both formats, and a host's folders of them.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests may panic, as tests do.

use std::path::Path;

use imgforge_resolver_debian::{
    AptSource, Error, SignedBy, host_keyring, host_sources, parse_sources_deb822, parse_sources_list,
};

/// `URI | suites | components | architectures | whose key`, and `disabled`.
fn show(sources: &[AptSource]) -> String {
    let line = |source: &AptSource| {
        let signed_by = match &source.signed_by {
            SignedBy::Trusted => "trusted".to_owned(),
            SignedBy::Files(paths) => {
                paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
            }
            SignedBy::Fingerprints(fingerprints) => fingerprints.join(" "),
            SignedBy::Key(key) => format!("{key:?}"),
        };
        let words = [&source.suites, &source.components, &source.architectures].map(|words| words.join(" "));
        let disabled = if source.enabled { "" } else { " | disabled" };
        format!("{} | {} | {signed_by}{disabled}", source.uri, words.join(" | "))
    };
    sources.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn check(result: Result<Vec<AptSource>, Error>, expected: Result<&str, &str>) {
    match (result.map(|sources| show(&sources)), expected) {
        (Ok(shown), Ok(expected)) => assert_eq!(shown, expected),
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
        (result, expected) => panic!("expected {expected:?}, not {result:?}"),
    }
}

fn check_list(text: &str, expected: Result<&str, &str>) {
    check(parse_sources_list("sources.list", text), expected);
}

fn check_deb822(text: &str, expected: Result<&str, &str>) {
    check(parse_sources_deb822("debian.sources", text), expected);
}

#[test]
fn one_line_format() {
    check_list("", Ok(""));
    check_list("# nothing\n\n  # here\n", Ok(""));
    check_list(
        "deb http://example.org/debian/ bookworm main contrib # all\ndeb-src http://example.org/debian bookworm main",
        Ok("http://example.org/debian | bookworm | main contrib |  | trusted"),
    );
    check_list(
        "deb [arch=amd64,arm64 signed-by=/usr/share/keyrings/a.gpg,/b.asc trusted=yes] https://example.org/x s main",
        Ok("https://example.org/x | s | main | amd64 arm64 | /usr/share/keyrings/a.gpg /b.asc"),
    );
    check_list("deb [ signed-by=ABCD ] http://e.org ./", Ok("http://e.org | ./ |  |  | ABCD"));
    check_list("deb", Err("sources.list:1"));
    check_list("\nrpm http://example.org bookworm main", Err("sources.list:2"));
    check_list("deb http://example.org bookworm", Err("there is no component"));
    check_list("deb http://example.org ./ main", Err("has no components"));
    check_list("deb [arch=amd64 http://example.org bookworm main", Err("`]` is missing"));
}

#[test]
fn deb822_format() {
    check_deb822(
        "# Debian\nTypes: deb deb-src\nURIs: http://example.org/debian http://example.org/mirror\n\
         Suites: bookworm bookworm-updates\nComponents: main\n# the key\nSigned-By: /a.gpg\n\n\
         Types: deb\nURIs: http://example.org/security/\nSuites: bookworm-security\nComponents: main\n\
         Architectures: amd64\nEnabled: no\n",
        Ok("http://example.org/debian | bookworm bookworm-updates | main |  | /a.gpg\n\
            http://example.org/mirror | bookworm bookworm-updates | main |  | /a.gpg\n\
            http://example.org/security | bookworm-security | main | amd64 | trusted | disabled"),
    );
    check_deb822(
        "Types: deb\nURIs: http://e.org\nSuites: s\nComponents: c\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEXgyKwBYJ\n -----END PGP PUBLIC KEY BLOCK-----\n",
        Ok(
            "http://e.org | s | c |  | \"-----BEGIN PGP PUBLIC KEY BLOCK-----\\n\\nmDMEXgyKwBYJ\\n-----END PGP PUBLIC KEY BLOCK-----\\n\"",
        ),
    );
    check_deb822("Types: deb-src\nURIs: u\nSuites: s\n", Ok(""));
    check_deb822("URIs: u\nSuites: s\n", Err("debian.sources:1: the stanza has no `Types` field"));
    check_deb822("Types: deb\nSuites: s\nComponents: c\n", Err("no `URIs` field"));
    check_deb822("Types: deb\nURIs: u\nSuites: s\n", Err("there is no component"));
}

#[test]
fn a_host_is_read() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, bytes: &[u8]| {
        let path = root.path().join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, bytes).unwrap();
    };
    assert_eq!(host_sources(root.path()).unwrap(), []);
    let key = |name: &str| {
        fs_err::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)).unwrap()
    };
    write("etc/apt/sources.list", b"deb http://example.org/1 s c\n");
    write("etc/apt/sources.list.d/b.list", b"deb http://example.org/3 s c\n");
    write(
        "etc/apt/sources.list.d/a.sources",
        b"Types: deb\nURIs: http://example.org/2\nSuites: s\nComponents: c\n",
    );
    write("etc/apt/sources.list.d/c.list.save", b"not read");
    let sources = host_sources(root.path()).unwrap();
    let uris: Vec<_> = sources.iter().map(|source| source.uri.as_str()).collect();
    assert_eq!(uris, ["http://example.org/1", "http://example.org/2", "http://example.org/3"]);

    let keyring = |signed_by: SignedBy| host_keyring(root.path(), &signed_by).map(|_| ());
    assert!(matches!(keyring(SignedBy::Trusted), Err(Error::Keyring { .. })));
    write("etc/apt/trusted.gpg.d/a.gpg", &key("good.gpg"));
    write("etc/apt/trusted.gpg.d/b.asc", &key("other.asc"));
    write("etc/apt/trusted.gpg.d/c.txt", b"not read");
    write("usr/share/keyrings/x.asc", &key("both.asc"));
    keyring(SignedBy::Trusted).unwrap();
    keyring(SignedBy::Files(vec!["/usr/share/keyrings/x.asc".into()])).unwrap();
    keyring(SignedBy::Key(String::from_utf8(key("good.asc")).unwrap())).unwrap();
    assert!(keyring(SignedBy::Files(vec!["/usr/share/keyrings/y.asc".into()])).is_err());
    write("etc/apt/sources.list", b"debris\n");
    assert!(host_sources(root.path()).unwrap_err().to_string().contains("sources.list:1: "));
}
