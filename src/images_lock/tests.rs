use super::*;
use crate::facts::{Interpreter, Libc};

fn example() -> ImagesLock {
    let digest = Digest::of(b"x");
    let package = PinnedPackage {
        name: "libc6".into(),
        version: "2.36-9+deb12u1".into(),
        architecture: "amd64".into(),
        path: "pool/main/g/glibc/libc6_2.36-9_amd64.deb".into(),
        sha256: digest.hex(),
        size: 7,
        source: String::new(),
    };
    let artifact = Artifact {
        name: "a".into(),
        version: "1".into(),
        file: "a-1-py3-none-any.whl".into(),
        location: imgforge_resolver::Location::Url("https://example.org/a \"quoted\"".into()),
        sha256: digest.hex(),
        size: None,
    };
    let python =
        CondaPython { version: "3.11.2".into(), site_packages: "lib/python3.11/site-packages".into() };
    let conda = CondaPackage {
        name: "idna".into(),
        version: "3.20".into(),
        build: "py_0".into(),
        subdir: "noarch".into(),
        file: "idna-3.20-py_0.conda".into(),
        location: imgforge_resolver::Location::Path("../channel/idna-3.20-py_0.conda".into()),
        sha256: Some(Digest::of(b"idna").hex()),
        md5: None,
        size: Some(7),
        noarch: CondaNoarch::Python,
        record: None,
    };
    let layer = OutcomeLayer {
        title: "numpy 2".into(),
        key: digest.hex(),
        digest,
        diff_id: DiffId(digest),
        size: 1 << 40,
        media_type: Some("application/vnd.oci.image.layer.v1.tar+zstd".into()),
    };
    let facts = Facts {
        interpreters: vec![Interpreter { path: "/usr/bin/python3.11".into(), version: "3.11.2".into() }],
        libc: Some(Libc::Glibc("2.36".into())),
        links: [("bin".to_owned(), "usr/bin".to_owned()), ("a b".to_owned(), "c\"d".to_owned())].into(),
        passwd: Some("root:x:0:0:root:/root:/bin/sh\nnobody:x:1:1::/:/bin/sh\n".into()),
        group: None,
    };
    let pins = BasePins {
        image: "docker://registry.example.org/base:1".into(),
        digest,
        manifest: PinnedManifest {
            digest,
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            size: 9,
        },
        facts: Some(facts),
    };
    ImagesLock {
        bases: [
            (("c".to_owned(), "linux/amd64".to_owned()), pins.clone()),
            (("d".to_owned(), "linux/amd64".to_owned()), BasePins { facts: None, ..pins }),
        ]
        .into(),
        debian: [(
            ("b".to_owned(), Architecture::Amd64),
            DebianPins { request: "r".into(), packages: vec![package] },
        )]
        .into(),
        environments: [(
            ("e".to_owned(), "linux/amd64".to_owned()),
            EnvironmentPins {
                request: "r".into(),
                python: Some(python),
                artifacts: vec![artifact],
                packages: vec![conda],
            },
        )]
        .into(),
        artifacts: [BuiltArtifact {
            name: "x".into(),
            title: "x 1 · cp311".into(),
            key: Digest::of(b"key").hex(),
            file: "x-1-cp311-cp311-linux_x86_64.whl".into(),
            sha256: digest.hex(),
            size: 7,
        }]
        .map(|it| (it.key.clone(), it))
        .into(),
        images: [(
            ("i".to_owned(), "linux/amd64".to_owned()),
            Outcome { manifest: digest, layers: vec![layer] },
        )]
        .into(),
    }
}

#[test]
fn text_and_back() {
    let lock = example();
    let text = lock.to_text();
    assert_eq!(ImagesLock::parse(&text).unwrap(), lock, "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("    {")).count(), 4);
    assert!(lock.layer(&Digest::of(b"x").hex()).is_some());
}

/// Reads the example with `from` replaced.
#[track_caller]
fn check(from: &str, to: &str, expected: &str) {
    let text = example().to_text();
    assert!(text.contains(from), "{from} is not in {text}");
    let said = ImagesLock::parse(&text.replace(from, to)).err().map(|error| error.to_string());
    assert_eq!(said.unwrap_or_default(), expected);
}

#[test]
fn refuses_what_it_never_writes() {
    let hex = Digest::of(b"x").hex();
    let debian = "images.lock, [[debian]] b, libc6:";
    check(
        "vnd.oci.image.manifest.v1+json",
        "vnd.oci.image.layer.v1.tar",
        "images.lock, [[base]] c, docker://registry.example.org/base:1: media-type = \
         \"application/vnd.oci.image.layer.v1.tar\" is not a manifest's media type",
    );
    let wheel = "images.lock, [[environment]] e, a:";
    let below = "is not a path below the mirror, without `..`";
    check(
        "pool/main",
        "../main",
        &format!("{debian} path = \"../main/g/glibc/libc6_2.36-9_amd64.deb\" {below}"),
    );
    check("pool/main", "/main", &format!("{debian} path = \"/main/g/glibc/libc6_2.36-9_amd64.deb\" {below}"));
    check("2.36-9+deb12u1", "2/3", &format!("{debian} version = \"2/3\" is not one word without `/`"));
    check(
        "name = \"libc6\"",
        "name = \"li\\u001bbc\"",
        "images.lock, [[debian]] b, li\\u{1b}bc: name = \"li\\u{1b}bc\" is not one word without `/`",
    );
    check(
        &format!("sha256 = \"{hex}\""),
        &format!("sha256 = \"{}\"", hex.to_uppercase()),
        &format!("{debian} sha256 = {:?} is not 64 lower-case hexadecimal digits", hex.to_uppercase()),
    );
    let file = "is not a file's name without folders";
    check("a-1-py3-none-any.whl", "../a.whl", &format!("{wheel} file = \"../a.whl\" {file}"));
    check("a-1-py3-none-any.whl", ".a.whl", &format!("{wheel} file = \".a.whl\" {file}"));
    check("a-1-py3-none-any.whl", "a\\u0000.whl", &format!("{wheel} file = \"a\\0.whl\" {file}"));
    check(
        "https://example.org",
        "ftp://example.org",
        &format!("{wheel} url = \"ftp://example.org/a \\\"quoted\\\"\" is not an http or https URL"),
    );
    check(
        "url = 'https://example.org/a \"quoted\"'",
        "path = '/wheels/a.whl'",
        &format!("{wheel} path = \"/wheels/a.whl\" is not a path relative to images.toml"),
    );
    check("url = 'https://example.org/a \"quoted\"'", "path = '../wheels/a.whl'", "");
    check(
        "title = \"numpy 2\"",
        "title = \"\\u001b[2J\"",
        "images.lock, [[image]] i, \\u{1b}[2J: title = \"\\u{1b}[2J\" is not text without control characters",
    );
    check(
        &format!("key = \"{hex}\""),
        "key = \"../x\"",
        "images.lock, [[image]] i, numpy 2: key = \"../x\" is not 64 lower-case hexadecimal digits",
    );
}

#[test]
fn refuses_what_it_does_not_know() {
    assert!(matches!(ImagesLock::parse("version = 2"), Err(ImagesLockError::Version { version: 2 })));
    assert!(ImagesLock::parse("version = 1\nother = 1").is_err());
    assert!(ImagesLock::parse("<<<<<<< HEAD").is_err());
}
