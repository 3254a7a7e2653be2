//! `poetry.lock` in its three formats, against an index on this machine that has the files of the lock and nothing else.
//!
//! What is selected is compared with what Poetry selects: the `.expect` files, which `tests/locks/poetry.sh` of the
//! repository writes.

#![allow(clippy::expect_used, clippy::panic)] // All of it is test code, helpers too.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use imgforge_resolver_pypi::{
    Architecture, Artifact, Defaults, Error, Indexes, Libc, Location, Selection, Target, poetry_lock,
};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

const GLIBC: Libc = Libc::Glibc { major: 2, minor: 36 };
const MUSL: Libc = Libc::Musl { major: 1, minor: 2 };

fn amd64(python: &str, libc: Libc) -> Target {
    Target { python: python.to_owned(), architecture: Architecture::Amd64, libc }
}

fn arm64(python: &str, libc: Libc) -> Target {
    Target { python: python.to_owned(), architecture: Architecture::Arm64, libc }
}

fn select(extras: &[&str], groups: &[&str]) -> Selection {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Selection { extras: owned(extras), groups: owned(groups), ..Selection::default() }
}

fn defaults(extras: &[&str], groups: &[&str]) -> Selection {
    Selection { default_groups: Defaults::With, ..select(extras, groups) }
}

/// Files of an index by package: name and SHA-256, which may be silent.
type Files = BTreeMap<String, Vec<(String, Option<String>)>>;

/// An index on this machine. Paths below `/NAME/` are an index of their own each.
struct Index {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
    cache: tempfile::TempDir,
}

impl Index {
    /// `files` by the name of the index.
    fn new(files: BTreeMap<&'static str, Files>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = [0; 4096];
                let read = stream.read(&mut request).unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default().trim_matches('/').to_owned();
                let (index, name) = path.split_once('/').unwrap_or((&path, ""));
                let known = files.get(index).and_then(|files| files.get(name));
                log.lock().expect("a log").push(path.clone());
                let mut page = String::from("<!DOCTYPE html><html><body>");
                for (file, hash) in known.into_iter().flatten() {
                    let hash = hash.as_ref().map(|hash| format!("#sha256={hash}")).unwrap_or_default();
                    let place = file.replace('+', "%2B");
                    page.push_str(&format!("<a href=\"../../files/{index}/{place}{hash}\">{file}</a>\n"));
                }
                let status = match (index, known) {
                    ("secret", _) => "401 Unauthorized",
                    ("broken", _) => "400 Bad Request",
                    (_, Some(_)) => "200 OK",
                    (_, None) => "404 Not Found",
                };
                let length = page.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncache-control: max-age=600\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{page}"
                );
            }
        });
        Self { address, asked, cache: tempfile::tempdir().expect("a folder") }
    }

    /// An index `simple` of every file of a lock.
    fn of_lock(text: &str) -> Self {
        let lock: toml::Table = toml::from_str(text).expect("a lock");
        let mut files = Files::new();
        let mut add = |name: &str, list: &toml::Value| {
            for file in list.as_array().into_iter().flatten() {
                let text = |key: &str| file[key].as_str().expect("a string").to_owned();
                let hash = text("hash").strip_prefix("sha256:").map(str::to_owned);
                files.entry(name.to_lowercase()).or_default().push((text("file"), hash));
            }
        };
        for package in lock["package"].as_array().into_iter().flatten() {
            let name = package["name"].as_str().expect("a name");
            if let Some(list) = package.get("files") {
                add(name, list);
            }
        }
        for (name, list) in
            lock["metadata"].get("files").and_then(toml::Value::as_table).into_iter().flatten()
        {
            add(name, list);
        }
        Self::new(BTreeMap::from([("simple", files)]))
    }

    fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    fn indexes(&self) -> Indexes {
        Indexes { index: Some(self.url("simple")), cache: self.cache.path().to_owned(), ..Indexes::default() }
    }
}

fn folder(lock: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/locks").join(lock)
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).expect("a file to read")
}

#[track_caller]
fn check(lock: &str, case: &str, selection: &Selection, target: &Target) {
    let folder = folder(lock);
    let file = folder.join("poetry.lock");
    let text = read(&file);
    let pyproject = read(&folder.join("pyproject.toml"));
    let index = Index::of_lock(&text);
    let artifacts = poetry_lock(&text, &file, &pyproject, selection, target, &index.indexes(), &[]);
    let artifacts = artifacts.expect("a selection");
    let found: Vec<String> =
        artifacts.iter().map(|it| format!("{}=={} {}", it.name, it.version, it.file)).collect();
    let expect = read(&folder.join(format!("{case}.expect")));
    assert_eq!(found, expect.lines().collect::<Vec<_>>(), "{lock}/{case}");
    for artifact in &artifacts {
        assert!(
            text.contains(&format!("{}\", hash = \"sha256:{}", artifact.file, artifact.sha256)),
            "{artifact:?}"
        );
        assert!(matches!(&artifact.location, Location::Url(_)), "{artifact:?}");
    }
}

#[track_caller]
fn check_all_formats(case: &str, selection: &Selection, target: &Target) {
    check("poetry-2.0", case, selection, target);
    check("poetry-2.1", case, selection, target);
}

#[test]
fn main_alone() {
    check_all_formats("main", &Selection::default(), &amd64("3.11.2", GLIBC));
    check_all_formats("main-old", &Selection::default(), &amd64("3.9", Libc::Glibc { major: 2, minor: 17 }));
    check_all_formats("main-musl", &Selection::default(), &arm64("3.12", MUSL));
}

#[test]
fn extras() {
    check_all_formats("server", &select(&["server"], &[]), &amd64("3.11.2", GLIBC));
    check_all_formats("pretty", &select(&["pretty-print"], &[]), &arm64("3.10", GLIBC));
    check_all_formats("pretty", &select(&["Pretty_Print"], &[]), &arm64("3.10", GLIBC));
    let all = Selection { all_extras: true, ..Selection::default() };
    check_all_formats("all-extras", &all, &amd64("3.9", MUSL));
}

#[test]
fn groups() {
    check_all_formats("docs", &select(&[], &["docs"]), &amd64("3.12", GLIBC));
    check_all_formats("defaults", &defaults(&[], &[]), &amd64("3.10.4", GLIBC));
    check_all_formats("everything", &defaults(&["server", "pretty-print"], &["docs"]), &arm64("3.11", GLIBC));
}

#[test]
fn the_oldest_format() {
    check("poetry-1.1", "main", &Selection::default(), &amd64("3.11.2", GLIBC));
    check(
        "poetry-1.1",
        "main-old",
        &Selection::default(),
        &arm64("3.8", Libc::Glibc { major: 2, minor: 17 }),
    );
    check("poetry-1.1", "terminal", &select(&["terminal"], &[]), &amd64("3.9", MUSL));
    check("poetry-1.1", "pretty", &select(&["pretty_print"], &[]), &arm64("3.12", GLIBC));
    check("poetry-1.1", "docs", &select(&[], &["docs"]), &amd64("3.10", GLIBC));
    check("poetry-1.1", "defaults", &defaults(&[], &[]), &amd64("3.8.10", GLIBC));
    check(
        "poetry-1.1",
        "everything",
        &defaults(&["terminal", "pretty-print"], &["docs"]),
        &amd64("3.11", GLIBC),
    );
}

#[test]
fn what_standards_have() {
    check("poetry-standard", "main", &Selection::default(), &amd64("3.11.2", GLIBC));
    check("poetry-standard", "old", &select(&["old", "yaml"], &["types"]), &arm64("3.10", GLIBC));
    check("poetry-standard", "new", &defaults(&["new"], &[]), &amd64("3.12", GLIBC));
    check("poetry-standard", "docs", &defaults(&[], &["docs"]), &arm64("3.13.1", MUSL));
    // Each is for the case that the other one is not.
    check("poetry-standard", "both", &select(&["old", "new"], &[]), &amd64("3.12", GLIBC));
}

/// A lock of format 2.1 with one package, `dep`, of the group `main`; `A` and `B` are hashes.
fn lock(dep: &str) -> String {
    package(&format!("files = [{{ file = \"dep-1.0-py3-none-any.whl\", hash = \"sha256:A\" }}]\n{dep}"))
}

fn package(keys: &str) -> String {
    locked(
        "2.1",
        &format!(
            "[[package]]\nname = \"dep\"\nversion = \"1.0\"\noptional = false\ngroups = [\"main\"]\npython-versions = \"*\"\n{keys}"
        ),
    )
}

/// What the locks below are of, and what Poetry makes of it.
const PYPROJECT: &str = "[tool.poetry.group.dev.dependencies]\n[tool.poetry.group.dev-tools.dependencies]\n";
const CONTENT_HASH: &str = "746ed14886f60aca7074b7204ef13a1b512db033e10844c2b4694de1e2d7df9c";

fn locked(format: &str, packages: &str) -> String {
    format!(
        "# made by hand\n{packages}\n[extras]\ngui = [\"dep\"]\n\n[metadata]\nlock-version = \"{format}\"\n\
         python-versions = \">=3.9,<3.13\"\ncontent-hash = \"{CONTENT_HASH}\"\n"
    )
    .replace("sha256:A", &format!("sha256:{A}"))
    .replace("sha256:B", &format!("sha256:{B}"))
}

/// Two indexes: `simple` has `dep` 1.0 as locked, `other` has it with other bytes, and a local version of its own.
fn two_indexes() -> Index {
    let file = |name: &str, hash: &str| (name.to_owned(), (!hash.is_empty()).then(|| hash.to_owned()));
    let files = |files: &[(String, Option<String>)]| Files::from([("dep".to_owned(), files.to_vec())]);
    Index::new(BTreeMap::from([
        ("simple", files(&[file("dep-1.0-py3-none-any.whl", A)])),
        ("other", files(&[file("dep-1.0-py3-none-any.whl", B), file("dep-1.0+cpu-py3-none-any.whl", B)])),
        ("silent", files(&[file("dep-1.0-py3-none-any.whl", "")])),
    ]))
}

fn select_from(text: &str, selection: &Selection, indexes: &Indexes) -> Result<Vec<Artifact>, Error> {
    let file = Path::new("/srv/app/poetry.lock");
    poetry_lock(text, file, PYPROJECT, selection, &amd64("3.11", GLIBC), indexes, &[])
}

/// `NAME VERSION FIRST-DIGIT-OF-HASH PLACE` of each artifact, where PLACE is without the index's address.
#[track_caller]
fn places(index: &Index, text: &str, indexes: &Indexes, expect: &[&str]) {
    let text = text.replace("INDEX", &index.address);
    let found: Vec<String> = select_from(&text, &Selection::default(), indexes)
        .expect("a selection")
        .iter()
        .map(|it| {
            let place = match &it.location {
                Location::Url(url) => url.replace(&index.address, ""),
                Location::Path(path) => path.display().to_string(),
            };
            format!("{} {} {} {place}", it.name, it.version, &it.sha256[..1])
        })
        .collect();
    assert_eq!(found, expect);
}

#[track_caller]
fn refused(result: Result<Vec<Artifact>, Error>, expect: &str) {
    let error = result.expect_err("an error");
    assert!(!matches!(error, Error::Internal { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(expect), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

const OTHER: &str = "[package.source]\ntype = \"legacy\"\nurl = \"INDEX/other\"\nreference = \"other\"\n";

#[test]
fn each_package_is_looked_for_at_its_own_index() {
    let index = two_indexes();
    let own = |version: &str| {
        let file = format!("files = [{{ file = \"dep-{version}-py3-none-any.whl\", hash = \"sha256:B\" }}]");
        package(&format!("{file}\n{OTHER}")).replace("version = \"1.0\"", &format!("version = \"{version}\""))
    };
    let none = Indexes { index: None, ..index.indexes() };
    places(&index, &own("1.0"), &none, &["dep 1.0 b /files/other/dep-1.0-py3-none-any.whl"]);
    places(&index, &own("1.0+cpu"), &none, &["dep 1.0+cpu b /files/other/dep-1.0%2Bcpu-py3-none-any.whl"]);
    assert_eq!(*index.asked.lock().expect("a log"), ["other/dep"], "once for both, and nobody else");

    // Given indexes are asked first, and what they have is taken only if it is what is locked.
    let index = two_indexes();
    places(&index, &own("1.0"), &index.indexes(), &["dep 1.0 b /files/other/dep-1.0-py3-none-any.whl"]);
    places(&index, &lock(""), &index.indexes(), &["dep 1.0 a /files/simple/dep-1.0-py3-none-any.whl"]);
    let extra = Indexes { extra: vec![index.url("other"), index.url("none")], ..index.indexes() };
    places(&index, &lock(""), &extra, &["dep 1.0 a /files/simple/dep-1.0-py3-none-any.whl"]);
    let silent = Indexes { index: Some(index.url("silent")), ..index.indexes() };
    places(&index, &lock(""), &silent, &["dep 1.0 a /files/silent/dep-1.0-py3-none-any.whl"]);
}

#[test]
fn folders_of_wheels() {
    let index = two_indexes();
    let links = tempfile::tempdir().expect("a folder");
    let wheel = links.path().join("dep-1.0-py3-none-any.whl");
    std::fs::write(&wheel, "").expect("a file");
    let find_links = vec![links.path().display().to_string()];
    let indexes = Indexes { find_links, ..index.indexes() };
    places(&index, &lock(""), &indexes, &[&format!("dep 1.0 a {}", wheel.display())]);
}

#[test]
fn what_no_index_has() {
    let index = two_indexes();
    let from = |text: &str, indexes: &Indexes| {
        select_from(&text.replace("INDEX", &index.address), &Selection::default(), indexes)
    };
    let other = Indexes { index: Some(index.url("other")), ..index.indexes() };
    refused(
        from(&lock(""), &other),
        &format!("dep 1.0: the index has dep-1.0-py3-none-any.whl with sha256:{B}"),
    );
    refused(from(&lock(""), &other), &format!("and the lock allows {A}: the file changed there"));
    let none = Indexes { index: Some(index.url("none")), ..index.indexes() };
    refused(
        from(&lock(""), &none),
        &format!("dep-1.0-py3-none-any.whl is at none of {}: name an index that has it", index.url("none")),
    );
    refused(from(&lock(""), &none), "run `poetry lock`");
    let secret = Indexes { index: Some(index.url("secret")), ..index.indexes() };
    refused(from(&lock(""), &secret), "/secret (which lets nobody in without credentials)");
    let broken = Indexes { index: Some(index.url("broken")), ..index.indexes() };
    refused(from(&lock(""), &broken), "the package index can't be used");
}

#[test]
fn offline_uses_what_was_seen() {
    let index = two_indexes();
    let offline = Indexes { offline: true, ..index.indexes() };
    refused(select_from(&lock(""), &Selection::default(), &offline), "run once without --offline");
    let expect = ["dep 1.0 a /files/simple/dep-1.0-py3-none-any.whl"];
    places(&index, &lock(""), &index.indexes(), &expect);
    places(&index, &lock(""), &offline, &expect);
}

/// A pin is a place of a file and its hash, whichever lock it was made for, and nothing else.
#[test]
fn what_is_pinned_is_not_asked_for() {
    let index = two_indexes();
    let found = select_from(&lock(""), &Selection::default(), &index.indexes()).expect("a selection");
    assert_eq!(index.asked.lock().expect("a log").len(), 1);
    let nowhere = two_indexes();
    let again = |text: &str, pinned: &[Artifact]| {
        let (file, target) = (Path::new("/srv/app/poetry.lock"), amd64("3.11", GLIBC));
        poetry_lock(text, file, PYPROJECT, &Selection::default(), &target, &nowhere.indexes(), pinned)
    };
    assert_eq!(again(&lock(""), &found).expect("a selection"), found);
    assert!(nowhere.asked.lock().expect("a log").is_empty());

    let with = |change: fn(&mut Artifact)| {
        let mut pinned = found.clone();
        pinned.iter_mut().for_each(change);
        again(&lock(""), &pinned).expect("a selection")
    };
    let place = |artifacts: &[Artifact]| artifacts.iter().map(|it| it.location.clone()).collect::<Vec<_>>();
    assert_ne!(place(&with(|it| it.sha256 = B.to_owned())), place(&found));
    assert_ne!(place(&with(|it| it.file = "dep-1.0-py2.py3-none-any.whl".to_owned())), place(&found));
    let renamed = with(|it| it.version = "2.0".to_owned());
    assert_eq!(renamed, found, "the version is the lock's");
}

fn source(kind: &str, url: &str) -> String {
    lock(&format!("[package.source]\ntype = \"{kind}\"\nurl = \"{url}\"\n"))
}

#[test]
fn files_by_url_and_path_need_no_index() {
    let index = two_indexes();
    let wheel = "dep-1.0-py3-none-any.whl";
    let check = |text: &str, expect: &str| places(&index, text, &Indexes::default(), &[expect]);
    check(
        &source("url", &format!("https://me:secret@example.org/{wheel}#x")),
        "dep 1.0 a https://example.org/dep-1.0-py3-none-any.whl",
    );
    check(&source("file", &format!("../wheels/{wheel}")), "dep 1.0 a /srv/wheels/dep-1.0-py3-none-any.whl");
    assert!(index.asked.lock().expect("a log").is_empty());
}

#[test]
fn sources_are_refused_with_a_way_on() {
    let from = |text: &str| select_from(text, &Selection::default(), &Indexes::default());
    refused(from(&source("directory", "../dep")), "dep 1.0 is a folder (/srv/dep): build a wheel of it");
    refused(
        from(&source("git", "https://example.org/dep.git")),
        "dep 1.0 has only sources (git https://example.org/dep.git): build a wheel of it",
    );
    refused(
        from(&source("url", "https://example.org/dep-1.0.tar.gz")),
        "dep 1.0 has only sources (https://example.org/dep-1.0.tar.gz)",
    );
    refused(from(&source("file", "dep-1.0.tar.gz")), "dep 1.0 has only sources (/srv/app/dep-1.0.tar.gz)");
    refused(from(&source("hg", "x")), "package dep: \"hg\" is no kind of source");
    refused(
        from(&source("url", "https://example.org/other-1.0-py3-none-any.whl")),
        "dep 1.0 can't be fetched: other-1.0-py3-none-any.whl is a wheel of other",
    );
    let files = |files: &str| package(&format!("files = [{files}]"));
    refused(
        from(&files("{ file = \"dep-1.0.tar.gz\", hash = \"sha256:A\" }")),
        "dep 1.0 has only sources (dep-1.0.tar.gz): build a wheel of it (`uv build --wheel`, `pip wheel`)",
    );
    refused(from(&files("")), "dep 1.0 has only sources (no file is locked)");
    refused(
        from(&files("{ file = \"dep-1.0-cp39-cp39-win_amd64.whl\", hash = \"sha256:A\" }")),
        "dep 1.0 has no wheel for cp311 on manylinux_2_36_x86_64: the lock has dep-1.0-cp39-cp39-win_amd64.whl",
    );
    refused(
        from(&files(
            "{ file = \"dep-1.0-py3-none-any.whl\", hash = \"md5:0123456789abcdef0123456789abcdef\" }",
        )),
        "dep 1.0 has no SHA-256 for dep-1.0-py3-none-any.whl: run `poetry lock`",
    );
}

#[test]
fn what_is_refused_asks_nobody() {
    let index = two_indexes();
    let second = "[[package]]\nname = \"git-dep\"\nversion = \"1\"\noptional = false\ngroups = [\"main\"]\n\
                  python-versions = \"*\"\nfiles = []\n[package.source]\ntype = \"git\"\nurl = \"https://example.org/x\"\n";
    let text = lock(&format!("\n{second}"));
    refused(select_from(&text, &Selection::default(), &index.indexes()), "git-dep 1 has only sources");
    assert!(index.asked.lock().expect("a log").is_empty());

    // In a group that nobody wants, it is in nobody's way.
    let text = text.replace(
        "\"1\"\noptional = false\ngroups = [\"main\"]",
        "\"1\"\noptional = false\ngroups = [\"dev\"]",
    );
    places(&index, &text, &index.indexes(), &["dep 1.0 a /files/simple/dep-1.0-py3-none-any.whl"]);
    refused(select_from(&text, &select(&[], &["dev"]), &index.indexes()), "git-dep 1 has only sources");
}

#[test]
fn the_best_wheel_is_chosen_by_the_lock_alone() {
    let wheels = |names: &[&str]| {
        let files: Vec<String> =
            names.iter().map(|it| format!("{{ file = \"{it}\", hash = \"sha256:A\" }}")).collect();
        package(&format!("files = [{}]", files.join(", ")))
    };
    let check = |names: &[&str], expect: &str| {
        let text = wheels(names);
        let index = Index::of_lock(&text);
        let found = select_from(&text, &Selection::default(), &index.indexes()).expect("a selection");
        assert_eq!(found.iter().map(|it| it.file.as_str()).collect::<Vec<_>>(), [expect]);
    };
    let (native, newer) =
        ("dep-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", "dep-1.0-cp311-cp311-manylinux_2_28_x86_64.whl");
    check(
        &["dep-1.0-py3-none-any.whl", native, newer, "dep-1.0-cp311-cp311-manylinux_2_40_x86_64.whl"],
        newer,
    );
    check(&["dep-1.0-2-py3-none-any.whl", "dep-1.0-1-py3-none-any.whl"], "dep-1.0-2-py3-none-any.whl");
    check(&["dep-1.0-2-py3-none-any.whl", native, "dep-1.0.tar.gz"], native);
    check(&["dep-1.0-py3-none-any.whl", "dep-2.0-py3-none-any.whl"], "dep-1.0-py3-none-any.whl");
}

#[test]
fn markers_groups_and_extras_of_2_1() {
    let index = two_indexes();
    let check = |keys: &str, selection: &Selection, expect: usize| {
        let text = lock("").replace("groups = [\"main\"]", keys);
        let found = select_from(&text, selection, &index.indexes()).expect(keys);
        assert_eq!(found.len(), expect, "{keys} {selection:?}");
    };
    let none = Selection::default();
    check("groups = [\"main\"]\nmarkers = \"python_version >= '3.11'\"", &none, 1);
    check("groups = [\"main\"]\nmarkers = \"python_version < '3.11'\"", &none, 0);
    check("groups = [\"main\"]\nmarkers = \"extra == 'gui'\"", &none, 0);
    check("groups = [\"main\"]\nmarkers = \"extra == 'gui'\"", &select(&["gui"], &[]), 1);
    check(
        "groups = [\"main\"]\nmarkers = \"extra == 'gui'\"",
        &Selection { all_extras: true, ..none.clone() },
        1,
    );
    check("groups = [\"main\"]\nmarkers = \"<empty>\"", &none, 0);
    check("groups = [\"dev\"]", &none, 0);
    check("groups = [\"Dev_Tools\"]", &select(&[], &["dev-tools"]), 1);
    check("groups = [\"dev\"]", &Selection { all_groups: true, ..none.clone() }, 1);
    let by_group = "groups = [\"main\", \"dev\"]\nmarkers = { main = \"sys_platform == 'win32'\" }";
    check(by_group, &none, 0);
    check(by_group, &select(&[], &["dev"]), 1);
}

#[test]
fn what_is_asked_for_must_exist() {
    let from = |selection: &Selection| select_from(&lock(""), selection, &Indexes::default());
    refused(from(&select(&["cli"], &[])), "no extra `cli`: it has gui");
    refused(from(&select(&[], &["docs"])), "no dependency group `docs`: it has dev, dev-tools, main");
    let package = Selection { package: Some("dep".to_owned()), ..Selection::default() };
    refused(from(&package), "no workspace members");
    refused(from(&Selection { install_project: true, ..Selection::default() }), "copy its code with `files`");
    let old = amd64("3.8", GLIBC);
    let file = Path::new("poetry.lock");
    refused(
        poetry_lock(&lock(""), file, PYPROJECT, &Selection::default(), &old, &Indexes::default(), &[]),
        "is locked for Python >=3.9,<3.13, and the environment has 3.8.0",
    );
}

#[test]
fn two_of_a_name() {
    let packages = "[[package]]\nname = \"dep\"\nversion = \"1.0\"\ngroups = [\"main\"]\npython-versions = \"*\"\nfiles = []\n";
    let text = locked("2.1", &format!("{packages}{}", packages.replace("1.0", "2.0")));
    refused(
        select_from(&text, &Selection::default(), &Indexes::default()),
        "dep 2.0 is named twice for this target",
    );
}

#[test]
fn formats() {
    let from = |text: &str| select_from(text, &Selection::default(), &Indexes::default());
    for (version, mend) in [
        ("1.0", "run `poetry lock` with Poetry 2"),
        ("2.2", "use a newer imgforge"),
        ("3.0", "1.1, 2.0 or 2.1"),
    ] {
        refused(from(&locked(version, "")), &format!("has format version {version}"));
        refused(from(&locked(version, "")), mend);
    }
    refused(from(""), "it has no lock-version; `poetry lock` writes it again");
    refused(from(&package("")), "package dep: its `files` are missing");
    refused(from(&lock("").replace("groups = [\"main\"]\n", "")), "package dep: its `groups` are missing");
    refused(from(&lock("").replace("\"1.0\"", "\"one\"")), "package dep: \"one\" is no version");
    refused(from(&lock("").replace("\"*\"", "\"^^\"")), "package dep: \"^^\"");
    refused(from(&lock("markers = \"python\"")), "package dep: ");
    refused(from(&lock(&format!("markers = \"{}\"", "(".repeat(300)))), "nests more than 200 parentheses");
}

/// A lock that was made of another pyproject.toml is refused, whichever of the two changed.
#[test]
fn stale_locks() {
    for lock in ["poetry-1.1", "poetry-2.0", "poetry-2.1", "poetry-standard"] {
        let file = folder(lock).join("poetry.lock");
        let (text, pyproject) = (read(&file), read(&file.with_file_name("pyproject.toml")));
        let from = |text: &str, pyproject: &str| {
            let (selection, target) = (select(&[], &["gone"]), amd64("3.11", GLIBC));
            poetry_lock(text, &file, pyproject, &selection, &target, &Indexes::default(), &[])
        };
        let stale = "is not up to date with the pyproject.toml beside it";
        refused(from(&text, &pyproject), "no dependency group `gone`");
        refused(from(&text, &pyproject.replace("description = \"", "description = \"New: ")), "group `gone`");
        refused(from(&text, &pyproject.replace(">=3", ">=3.0")), stale);
        refused(
            from(&text, &pyproject.replace("[tool.poetry.group.docs]", "[tool.poetry.group.paper]")),
            stale,
        );
        refused(
            from(
                &text,
                &pyproject.replace(
                    "[tool.poetry.group.docs]",
                    "[[tool.poetry.source]]\nname = \"x\"\n[tool.poetry.group.docs]",
                ),
            ),
            stale,
        );
        refused(from(&text.replace("content-hash", "old-hash"), &pyproject), "run `poetry lock`");
        refused(from(&text, "[project"), "pyproject.toml can't be read as pyproject.toml");
        refused(from(&text, &"(".repeat(300)), "nests more than 200 parentheses");
    }
}

/// Whatever a byte is replaced by, there is a selection or an error, and no panic.
#[test]
fn no_text_makes_the_reader_panic() {
    let index = Index::new(BTreeMap::new());
    let folder = folder("poetry-2.0");
    let (whole, pyproject) = (read(&folder.join("poetry.lock")), read(&folder.join("pyproject.toml")));
    // Without most packages: parsing all of it 400 times would take a minute.
    let metadata = whole.find("[extras]").expect("a table");
    let start = whole.find("[[package]]\nname = \"charset").expect("a package");
    let short = format!("{}{}", &whole[..start], &whole[metadata..]);
    let texts = [lock(OTHER), source("url", "https://example.org/dep-1.0-py3-none-any.whl"), short];
    let mut random = 7_u64;
    for round in 0..400 {
        let mut bytes = texts[round % texts.len()].as_bytes().to_vec();
        let mut project = pyproject.as_bytes().to_vec();
        for _ in 0..=round % 3 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bytes = if random.is_multiple_of(5) { &mut project } else { &mut bytes };
            let at = (random >> 33) as usize % bytes.len();
            match random % 3 {
                0 => bytes[at] = b" \"'[]{}=.,\n0z\xc3"[(random >> 20) as usize % 14],
                1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let (text, project) = (String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&project));
        // The first two texts are of the one, the third is of the other.
        for project in [PYPROJECT, project.as_ref()] {
            let (file, target) = (Path::new("poetry.lock"), amd64("3.11", GLIBC));
            let offline = Indexes { offline: true, ..index.indexes() };
            let result = poetry_lock(&text, file, project, &select(&[], &[]), &target, &offline, &[]);
            assert!(!matches!(result, Err(Error::Internal { .. })), "{result:?}\n{text}");
        }
    }
}

#[test]
fn source_distributions_for_somebody_to_build() {
    let file = |name: &str, hash: &str| (name.to_owned(), Some(hash.to_owned()));
    let files = [file("dep-1.0-py3-none-any.whl", A), file("dep-1.0.tar.gz", B)];
    let index = Index::new(BTreeMap::from([("simple", Files::from([("dep".to_owned(), files.to_vec())]))]));
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let found = |text: &str, build: &[&str], buildable: &[&str]| {
        let selection =
            Selection { build: names(build), buildable: names(buildable), ..Selection::default() };
        select_from(text, &selection, &index.indexes()).map(|found| {
            found.into_iter().map(|it| format!("{} {}", it.file, &it.sha256[..1])).collect::<Vec<_>>()
        })
    };
    let sdist = "{ file = \"dep-1.0.tar.gz\", hash = \"sha256:B\" }";
    let both = package(&format!(
        "files = [{{ file = \"dep-1.0-py3-none-any.whl\", hash = \"sha256:A\" }}, {sdist}]\n"
    ));
    let source = package(&format!("files = [{sdist}]\n"));
    assert_eq!(found(&both, &[], &[]).expect("a selection"), ["dep-1.0-py3-none-any.whl a"]);
    assert_eq!(found(&both, &[], &["dep"]).expect("a selection"), ["dep-1.0-py3-none-any.whl a"]);
    assert_eq!(found(&both, &["dep"], &[]).expect("a selection"), ["dep-1.0.tar.gz b"]);
    assert_eq!(found(&source, &[], &["dep"]).expect("a selection"), ["dep-1.0.tar.gz b"]);
    assert!(found(&source, &[], &[]).expect_err("no wheel").to_string().contains("dep 1.0 has only sources"));
    let wheel = found(&lock(""), &["dep"], &[]).expect_err("no source").to_string();
    assert!(wheel.contains("dep 1.0 can't be fetched: the lock has no source distribution of it"), "{wheel}");
}

#[test]
fn groups_alone() {
    let index = two_indexes();
    let alone = |groups: &[&str]| {
        let selection = Selection { only_groups: true, ..select(&[], groups) };
        select_from(&lock(""), &selection, &index.indexes()).expect("a selection").len()
    };
    assert_eq!(alone(&["dev"]), 0, "dep is of the group main");
    assert_eq!(alone(&["main"]), 1);
}
