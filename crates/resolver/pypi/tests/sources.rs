//! Where the bytes of a locked package may come from, and what is refused: small locks, written here.

#![allow(clippy::expect_used, clippy::panic)] // All of it is test code, helpers too.

use std::path::{Path, PathBuf};

use imgforge_resolver_pypi::{
    Architecture, Artifact, Defaults, Error, Libc, Location, Selection, Target, pylock, uv_lock,
};

const HASH: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const WHEEL: &str = "dep-1.0-py3-none-any.whl";

fn target() -> Target {
    Target {
        python: "3.11".to_owned(),
        architecture: Architecture::Amd64,
        libc: Libc::Glibc { major: 2, minor: 36 },
    }
}

/// A lock of a project with one dependency, `dep`, whose `source`, `wheels` and `sdist` are given.
fn lock(dep: &str) -> String {
    format!(
        "version = 1\nrevision = 3\nrequires-python = \">=3.11\"\n\n\
         [[package]]\nname = \"app\"\nversion = \"0.1\"\nsource = {{ virtual = \".\" }}\n\
         dependencies = [{{ name = \"dep\" }}]\n\n\
         [[package]]\nname = \"dep\"\nversion = \"1.0\"\n{dep}\n"
    )
}

fn uv(text: &str) -> Result<Vec<Artifact>, Error> {
    uv_lock(text, Path::new("/srv/app/uv.lock"), None, &Selection::default(), &target())
}

#[track_caller]
fn check(dep: &str, expect: Location) {
    let artifacts = uv(&lock(&dep.replace("HASH", HASH))).expect("a selection");
    let [artifact] = artifacts.as_slice() else { panic!("{artifacts:?}") };
    assert_eq!(artifact.location, expect);
    assert_eq!((artifact.name.as_str(), artifact.version.as_str()), ("dep", "1.0"));
    assert_eq!((artifact.file.as_str(), artifact.sha256.as_str()), (WHEEL, &HASH[7..]));
}

#[track_caller]
fn refused(result: Result<Vec<Artifact>, Error>, expect: &str) {
    let error = result.expect_err("an error");
    assert!(!matches!(error, Error::Internal { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(expect), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

fn url(text: &str) -> Location {
    Location::Url(text.to_owned())
}

fn path(text: &str) -> Location {
    Location::Path(PathBuf::from(text))
}

#[test]
fn wheels_by_url_and_path() {
    check(
        "source = { registry = \"https://index.example.org/simple\" }\n\
         wheels = [{ url = \"https://me:secret@example.org/dep-1.0-py3-none-any.whl#frag\", hash = \"HASH\" }]",
        url("https://example.org/dep-1.0-py3-none-any.whl"),
    );
    check(
        "source = { url = \"https://me:secret@example.org/dep-1.0-py3-none-any.whl\" }\n\
         wheels = [{ url = \"https://me:secret@example.org/dep-1.0-py3-none-any.whl\", hash = \"HASH\" }]",
        url("https://example.org/dep-1.0-py3-none-any.whl"),
    );
    check(
        "source = { path = \"vendor/dep-1.0-py3-none-any.whl\" }\n\
         wheels = [{ filename = \"dep-1.0-py3-none-any.whl\", hash = \"HASH\" }]",
        path("/srv/app/vendor/dep-1.0-py3-none-any.whl"),
    );
}

#[test]
fn flat_indexes() {
    check(
        "source = { registry = \"../wheels\" }\nwheels = [{ path = \"dep-1.0-py3-none-any.whl\", hash = \"HASH\" }]",
        path("/srv/wheels/dep-1.0-py3-none-any.whl"),
    );
    check(
        "source = { registry = \"https://example.org/links.html\" }\n\
         wheels = [{ url = \"https://example.org/dep-1.0-py3-none-any.whl\", hash = \"HASH\" }]",
        url("https://example.org/dep-1.0-py3-none-any.whl"),
    );
}

#[test]
fn sources_are_refused_with_a_way_on() {
    let dep = |source: &str| uv(&lock(&source.replace("HASH", HASH)));
    refused(
        dep(
            "source = { git = \"https://example.org/dep.git?rev=main#0123456789012345678901234567890123456789\" }",
        ),
        "dep 1.0 has only sources (git https://example.org/dep.git): build a wheel of it (`uv build --wheel`, `pip wheel`)",
    );
    refused(
        dep("source = { registry = \"https://index.example.org/simple\" }\n\
             sdist = { url = \"https://example.org/dep-1.0.tar.gz\", hash = \"HASH\" }"),
        "dep 1.0 has only sources (dep-1.0.tar.gz): build a wheel of it (`uv build --wheel`, `pip wheel`) and lock that by its path",
    );
    refused(
        dep("source = { url = \"https://example.org/dep-1.0.tar.gz\" }\nsdist = { hash = \"HASH\" }"),
        "dep 1.0 has only sources (https://example.org/dep-1.0.tar.gz)",
    );
    refused(dep("source = { directory = \"../dep\" }"), "dep 1.0 is a folder (/srv/dep)");
    refused(dep("source = { editable = \"../dep\" }"), "dep 1.0 is a folder (/srv/dep)");
}

#[test]
fn other_wheels_than_the_sdist_are_told() {
    refused(
        uv(&lock(&format!(
            "source = {{ registry = \"https://index.example.org/simple\" }}\n\
             sdist = {{ url = \"https://example.org/dep-1.0.tar.gz\", hash = \"{HASH}\" }}\n\
             wheels = [{{ url = \"https://example.org/dep-1.0-cp39-cp39-win_amd64.whl\", hash = \"{HASH}\" }}]"
        ))),
        "has no wheel for cp311 on manylinux_2_36_x86_64: the lock has dep-1.0-cp39-cp39-win_amd64.whl",
    );
}

#[test]
fn hashes_are_required() {
    let registry = |wheel: &str| {
        uv(&lock(&format!(
            "source = {{ registry = \"https://index.example.org/simple\" }}\n\
             wheels = [{{ url = \"https://example.org/dep-1.0-py3-none-any.whl\"{wheel} }}]"
        )))
    };
    refused(registry(""), "dep");
    refused(registry(""), "uv lock");
    let weak = ", hash = \"md5:0123456789abcdef0123456789abcdef\"";
    refused(registry(weak), "dep 1.0 has no SHA-256 for dep-1.0-py3-none-any.whl: run `uv lock`");
    refused(registry(", hash = \"sha256:../../etc\""), "has no SHA-256");
    // The hash of the recompressed wheel is not that of the wheel.
    let zstd = format!("{weak}, zstd = {{ hash = \"{HASH}\", size = 1 }}");
    refused(registry(&zstd), "has no SHA-256");
}

#[test]
fn later_formats() {
    refused(
        uv(&lock("").replace("version = 1\n", "version = 2\n")),
        "has format version 2, and this imgforge reads",
    );
    let text = "lock-version = \"1.1\"\ncreated-by = \"x\"\npackages = []\n";
    refused(pep751(text, &Selection::default()), "has format version 1.1");
}

#[test]
fn damaged_locks() {
    refused(uv(""), "can't be read as uv.lock");
    refused(uv("version = 1\n[[package]]\nname = 3"), "`uv lock` writes it again");
    let dangling = lock("source = { registry = \"w\" }").replace("{ name = \"dep\" }", "{ name = \"gone\" }");
    refused(uv(&dangling), "gone");
    refused(
        uv(&format!("version = 1\nrequires-python = \">=3.11\"\n# {}", "(".repeat(100_000))),
        "nests more than",
    );
    refused(uv(&format!("version = 1\nx = {}", "[".repeat(100_000))), "can't be read");
}

/// Whatever a byte is replaced by, there is a selection or an error, and no panic.
#[test]
fn no_text_makes_the_reader_panic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/locks");
    let uv_text = std::fs::read_to_string(folder.join("forks/uv.lock")).expect("a lock");
    // Only the start: parsing all of it 400 times would take a minute.
    let start = uv_text.find("[[package]]\nname = \"colorama\"").unwrap_or(0);
    let python = lock(&format!(
        "source = {{ registry = \"w\" }}\nwheels = [{{ path = \"{WHEEL}\", hash = \"{HASH}\" }}]"
    ));
    let texts = [&uv_text[..start.max(2000)], &python, PYLOCK];
    let mut random = 7_u64;
    for round in 0..400 {
        let mut bytes = texts[round % texts.len()].as_bytes().to_vec();
        for _ in 0..=round % 3 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (random >> 33) as usize % bytes.len();
            match random % 3 {
                0 => bytes[at] = b" \"'[]{}=.,\n0z\xc3"[(random >> 20) as usize % 14],
                1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        for result in [uv(&text), pep751(&text, &Selection::default())] {
            assert!(!matches!(result, Err(Error::Internal { .. })), "{result:?}\n{text}");
        }
    }
}

const PYLOCK: &str = r#"lock-version = "1.0"
created-by = "test"
requires-python = ">=3.10"
environments = ["sys_platform == 'linux'"]
extras = ["gui"]
dependency-groups = ["main", "test"]
default-groups = ["main"]

[[packages]]
name = "always"
version = "1.0"
wheels = [{ path = "wheels/always-1.0-py3-none-any.whl", hashes = { sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" } }]

[[packages]]
name = "in-gui"
version = "1.0"
marker = "'gui' in extras"
wheels = [{ url = "https://example.org/in_gui-1.0-py3-none-any.whl", hashes = { sha256 = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" } }]

[[packages]]
name = "in-main"
version = "1.0"
marker = "'main' in dependency_groups"
archive = { url = "https://example.org/in_main-1.0-py3-none-any.whl", size = 5, hashes = { sha256 = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc" } }

[[packages]]
name = "in-test"
version = "1.0"
marker = "'test' in dependency_groups"
wheels = [{ name = "in_test-1.0-py3-none-any.whl", url = "https://example.org/17", size = 5, hashes = { sha256 = "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd" } }]

[[packages]]
name = "for-windows"
version = "1.0"
marker = "sys_platform == 'win32'"
wheels = [{ url = "https://example.org/for_windows-1.0-cp311-cp311-win_amd64.whl", hashes = { sha256 = "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee" } }]
"#;

fn pep751(text: &str, selection: &Selection) -> Result<Vec<Artifact>, Error> {
    pylock(text, Path::new("/srv/app/pylock.toml"), selection, &target())
}

#[track_caller]
fn names(selection: &Selection, expect: &[&str]) {
    let artifacts = pep751(PYLOCK, selection).expect("a selection");
    let names: Vec<&str> = artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
    assert_eq!(names, expect);
}

#[test]
fn pylock_extras_and_groups() {
    let groups = |groups: &[&str], default_groups| Selection {
        groups: groups.iter().map(|&name| name.to_owned()).collect(),
        default_groups,
        ..Selection::default()
    };
    names(&Selection::default(), &["always", "in-main"]);
    names(&groups(&[], Defaults::Without), &["always"]);
    names(&groups(&["test"], Defaults::Format), &["always", "in-test"]);
    names(&groups(&["test"], Defaults::With), &["always", "in-main", "in-test"]);
    names(
        &Selection { all_extras: true, all_groups: true, ..Selection::default() },
        &["always", "in-gui", "in-main", "in-test"],
    );
    refused(
        pep751(PYLOCK, &groups(&["dev"], Defaults::Format)),
        "no dependency group `dev`: it has main, test",
    );
}

#[test]
fn pylock_places() {
    let all = Selection { all_groups: true, ..Selection::default() };
    let found = pep751(PYLOCK, &all).expect("a selection");
    let places: Vec<(&str, &Location)> = found.iter().map(|it| (it.file.as_str(), &it.location)).collect();
    assert_eq!(
        places,
        [
            ("always-1.0-py3-none-any.whl", &path("/srv/app/wheels/always-1.0-py3-none-any.whl")),
            ("in_main-1.0-py3-none-any.whl", &url("https://example.org/in_main-1.0-py3-none-any.whl")),
            ("in_test-1.0-py3-none-any.whl", &url("https://example.org/17")),
        ]
    );
}

#[test]
fn pylock_environments() {
    let text = PYLOCK.replace("sys_platform == 'linux'", "sys_platform == 'darwin'");
    refused(
        pep751(&text, &Selection::default()),
        "is locked for environments that cp311 on manylinux_2_36_x86_64",
    );
}

#[test]
fn pylock_sources_are_refused() {
    let package = |source: &str| {
        let text = format!("{PYLOCK}\n[[packages]]\nname = \"dep\"\nversion = \"1.0\"\n{source}\n");
        pep751(&text, &Selection::default())
    };
    let hashes = format!("hashes = {{ sha256 = \"{}\" }}", &HASH[7..]);
    refused(package("directory = { path = \"../dep\" }"), "dep 1.0 is a folder (/srv/dep)");
    refused(
        package(
            "vcs = { type = \"git\", url = \"https://example.org/dep\", commit-id = \"0123456789012345678901234567890123456789\" }",
        ),
        "dep 1.0 has only sources (git https://example.org/dep)",
    );
    refused(
        package(&format!("archive = {{ url = \"https://example.org/dep-1.0.tar.gz\", {hashes} }}")),
        "dep 1.0 has only sources (https://example.org/dep-1.0.tar.gz)",
    );
    refused(
        package(&format!("sdist = {{ url = \"https://example.org/dep-1.0.tar.gz\", {hashes} }}")),
        "dep 1.0 has only sources (dep-1.0.tar.gz)",
    );
    refused(
        package(&format!(
            "wheels = [{{ url = \"https://example.org/dep-1.0-cp39-cp39-win32.whl\", {hashes} }}]"
        )),
        "dep 1.0 has no wheel for cp311 on manylinux_2_36_x86_64: the lock has dep-1.0-cp39-cp39-win32.whl",
    );
    refused(
        package(
            "wheels = [{ url = \"https://example.org/dep-1.0-py3-none-any.whl\", hashes = { md5 = \"00\" } }]",
        ),
        "dep 1.0 has no SHA-256",
    );
    refused(
        package(&format!(
            "wheels = [{{ url = \"https://example.org/always-2.0-py3-none-any.whl\", {hashes} }}]"
        )),
        "always",
    );
}
