//! Requirements against an index on this machine that consists of pages and metadata: what is chosen depends on nothing else.

#![allow(clippy::expect_used, clippy::panic)] // All of it is test code, helpers too.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use imgforge_resolver_pypi::{
    Architecture, Artifact, Error, ErrorKind, Indexes, Libc, Location, Prereleases, Request, Resolution,
    Selection, Target, pylock, requirements_txt, resolve, uv_lock,
};
use serde_json::{Value, json};

/// What the index has: files, what each depends on, and the day of its upload in 2025.
const FILES: &[(&str, &[&str], &str)] = &[
    ("app-1.0-py3-none-any.whl", &["lib>=1"], "01-01"),
    ("app-2.0-py3-none-any.whl", &["lib>=2", "colour; extra == 'colour'", "win; os_name == 'nt'"], "06-01"),
    ("app-3.0rc1-py3-none-any.whl", &["lib>=2"], "07-01"),
    ("beta-0.1b2-py3-none-any.whl", &[], "01-01"),
    ("colour-1.0-py3-none-any.whl", &[], "01-01"),
    ("lib-1.5-py3-none-any.whl", &[], "01-01"),
    ("lib-2.0-cp311-cp311-manylinux_2_17_x86_64.whl", &[], "01-01"),
    ("lib-2.0-cp311-cp311-manylinux_2_17_aarch64.whl", &[], "01-01"),
    ("lib-2.1-cp311-cp311-manylinux_2_28_x86_64.whl", &[], "02-01"),
    ("lib-2.1-cp311-cp311-musllinux_1_2_x86_64.whl", &[], "02-01"),
    ("lib-3.0.tar.gz", &[], "05-01"),
    ("new-1.0-py3-none-any.whl", &["lib<2"], "01-01"),
    ("native-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", &[], "01-01"),
    ("sourced-1.0.tar.gz", &[], "01-01"),
];

fn hash(file: &str) -> String {
    let place = FILES.iter().position(|(name, ..)| *name == file).expect("a file of the index");
    format!("{place:02x}").repeat(32)
}

/// The index's answer to a path. `beginning` is what the URLs of its files begin with.
fn answer(path: &str, beginning: &str) -> Option<(String, &'static str)> {
    if let Some(file) = path.strip_prefix("/files/").and_then(|path| path.strip_suffix(".metadata")) {
        let (_, requires, _) = FILES.iter().find(|(name, ..)| *name == file)?;
        let mut parts = file.split('-');
        let (name, version) = (parts.next()?, parts.next()?);
        let mut text = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n");
        for requirement in *requires {
            if let Some((_, extra)) = requirement.split_once("extra == ") {
                text.push_str(&format!("Provides-Extra: {}\n", extra.trim_matches('\'')));
            }
            text.push_str(&format!("Requires-Dist: {requirement}\n"));
        }
        return Some((text, "text/plain"));
    }
    let wanted = path.strip_prefix("/simple/")?.trim_end_matches('/');
    let files: Vec<Value> = FILES
        .iter()
        .filter(|(file, ..)| file.split('-').next() == Some(wanted))
        .map(|(file, _, day)| {
            json!({
                "filename": file, "url": format!("{beginning}/files/{file}"), "hashes": { "sha256": hash(file) },
                "core-metadata": file.ends_with(".whl"), "size": 1000, "upload-time": format!("2025-{day}T12:00:00Z"),
            })
        })
        .collect();
    if files.is_empty() {
        return None;
    }
    let page = json!({ "meta": { "api-version": "1.1" }, "name": wanted, "files": files, "versions": [] });
    Some((page.to_string(), "application/vnd.pypi.simple.v1+json"))
}

/// A folder of requirements and an index beside it.
struct World {
    folder: tempfile::TempDir,
    address: String,
}

impl World {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let beginning = format!("http://{address}");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = [0; 4096];
                let read = stream.read(&mut request).unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default();
                let found = answer(path, &beginning);
                let status = if found.is_some() { "200 OK" } else { "404 Not Found" };
                let (body, kind) = found.unwrap_or_default();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Self { folder: tempfile::tempdir().expect("a folder"), address }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn indexes(&self) -> Indexes {
        let index = Some(format!("http://{}/simple", self.address));
        Indexes { index, cache: self.path("cache"), ..Indexes::default() }
    }

    fn resolve(&self, request: &Request, target: &Target) -> Result<Resolution, Error> {
        resolve(request, &self.path("requirements.in"), target, &self.indexes())
    }

    #[track_caller]
    fn check(&self, request: &Request, target: &Target, expect: &[&str]) {
        let found = self.resolve(request, target).expect("a resolution");
        assert_eq!(files(found.artifacts()), expect, "{request:?}");
        self.check_locks(&found, target);
    }

    /// What is written is read again as the same.
    #[track_caller]
    fn check_locks(&self, found: &Resolution, target: &Target) {
        let sdists = found.artifacts().iter().filter(|artifact| !artifact.file.ends_with(".whl"));
        let buildable: Vec<String> = sdists.map(|artifact| artifact.name.clone()).collect();
        let selection = Selection { buildable: buildable.clone(), ..Selection::default() };
        let lock = found.to_uv_lock().expect("a uv.lock");
        let read = uv_lock(&lock, &self.path("uv.lock"), None, &selection, target);
        assert_eq!(read.expect("a selection"), found.artifacts());
        if buildable.is_empty() {
            let lock = found.to_pylock().expect("a pylock.toml");
            let read = pylock(&lock, &self.path("pylock.toml"), &Selection::default(), target);
            assert_eq!(read.expect("a selection"), found.artifacts());
            let text = found.to_requirements();
            let read = requirements_txt(&text, &self.path("requirements.txt"), target, &self.indexes());
            assert_eq!(read.expect("a selection"), found.artifacts());
        }
    }

    #[track_caller]
    fn refused(&self, request: &Request, target: &Target, kind: ErrorKind, expect: &[&str]) {
        let error = self.resolve(request, target).expect_err("an error");
        let said = format!("{error}\nhint: {}", error.hint().unwrap_or_default());
        assert_eq!(error.kind(), kind, "{said}");
        for expect in expect {
            assert!(said.contains(expect), "{expect}: {said}");
        }
        assert!(!said.contains('\u{1b}'), "{said:?}");
    }
}

fn files(artifacts: &[Artifact]) -> Vec<&str> {
    artifacts.iter().map(|artifact| artifact.file.as_str()).collect()
}

fn request(requirements: &[&str]) -> Request {
    let requirements = requirements.iter().map(|&requirement| requirement.to_owned()).collect();
    Request { requirements, ..Request::default() }
}

fn amd64() -> Target {
    let libc = Libc::Glibc { major: 2, minor: 36 };
    Target { python: "3.11".to_owned(), architecture: Architecture::Amd64, libc }
}

const APP: &str = "app-2.0-py3-none-any.whl";
const NEWEST: &str = "lib-2.1-cp311-cp311-manylinux_2_28_x86_64.whl";

/// Wheels alone: the newest version of `lib` has none.
fn wheels(requirements: &[&str]) -> Request {
    Request { no_build: true, ..request(requirements) }
}

#[test]
fn the_file_of_the_target() {
    let world = World::new();
    world.check(&wheels(&["app"]), &amd64(), &[APP, NEWEST]);
    let old = Target { libc: Libc::Glibc { major: 2, minor: 17 }, ..amd64() };
    world.check(&wheels(&["app"]), &old, &[APP, "lib-2.0-cp311-cp311-manylinux_2_17_x86_64.whl"]);
    let musl = Target { libc: Libc::Musl { major: 1, minor: 2 }, ..amd64() };
    world.check(&wheels(&["app"]), &musl, &[APP, "lib-2.1-cp311-cp311-musllinux_1_2_x86_64.whl"]);
    let arm64 = Target { architecture: Architecture::Arm64, ..amd64() };
    world.check(&wheels(&["app"]), &arm64, &[APP, "lib-2.0-cp311-cp311-manylinux_2_17_aarch64.whl"]);
    // No wheel of `lib` 2 is for this Python, so that an older `app` is what fits.
    let other = Target { python: "3.12.4".to_owned(), ..amd64() };
    world.check(&wheels(&["app"]), &other, &["app-1.0-py3-none-any.whl", "lib-1.5-py3-none-any.whl"]);
}

#[test]
fn all_that_is_known_of_a_file() {
    let world = World::new();
    let found = world.resolve(&wheels(&["colour"]), &amd64()).expect("a resolution");
    let file = "colour-1.0-py3-none-any.whl";
    let expect = Artifact {
        name: "colour".to_owned(),
        version: "1.0".to_owned(),
        file: file.to_owned(),
        location: Location::Url(format!("http://{}/files/{file}", world.address)),
        sha256: hash(file),
        size: Some(1000),
    };
    assert_eq!(found.artifacts(), [expect]);
}

#[test]
fn extras_and_markers() {
    let world = World::new();
    world.check(&wheels(&["app[colour]"]), &amd64(), &[APP, "colour-1.0-py3-none-any.whl", NEWEST]);
    world.check(&wheels(&["colour ; python_version < '3.10'"]), &amd64(), &[]);
    world.check(
        &wheels(&["colour ; platform_machine == 'x86_64'", "beta ; sys_platform == 'win32'"]),
        &amd64(),
        &["colour-1.0-py3-none-any.whl"],
    );
}

#[test]
fn constraints_and_overrides() {
    let world = World::new();
    let constraints = vec!["lib<2".to_owned(), "native<1".to_owned()];
    let narrowed = Request { constraints, ..wheels(&["app"]) };
    world.check(&narrowed, &amd64(), &["app-1.0-py3-none-any.whl", "lib-1.5-py3-none-any.whl"]);
    let replaced = Request { overrides: vec!["lib==1.5".to_owned()], ..wheels(&["app"]) };
    world.check(&replaced, &amd64(), &[APP, "lib-1.5-py3-none-any.whl"]);
}

#[test]
fn pre_releases() {
    let world = World::new();
    let with = |prereleases: Prereleases| Request { prereleases, ..wheels(&["app", "beta"]) };
    let beta = "beta-0.1b2-py3-none-any.whl";
    world.check(&with(Prereleases::IfNecessary), &amd64(), &[APP, beta, NEWEST]);
    world.check(&with(Prereleases::Allow), &amd64(), &["app-3.0rc1-py3-none-any.whl", beta, NEWEST]);
    let disallowed = with(Prereleases::Disallow);
    world.refused(&disallowed, &amd64(), ErrorKind::Unsatisfiable, &["beta", "pre-release"]);
    let named = Request { prereleases: Prereleases::Explicit, ..wheels(&["app>=3.0rc1"]) };
    world.check(&named, &amd64(), &["app-3.0rc1-py3-none-any.whl", NEWEST]);
}

#[test]
fn nothing_newer_than() {
    let world = World::new();
    let until = |text: &str| Request { exclude_newer: Some(text.to_owned()), ..wheels(&["app"]) };
    let old = ["app-1.0-py3-none-any.whl", NEWEST];
    world.check(&until("2025-05-31"), &amd64(), &old);
    world.check(&until("2025-06-01T12:00:00Z"), &amd64(), &old);
    world.check(&until("2025-06-01"), &amd64(), &[APP, NEWEST]);
    world.refused(&until("2024-01-01"), &amd64(), ErrorKind::Unsatisfiable, &["app"]);
    world.refused(&until("soon"), &amd64(), ErrorKind::Input, &["exclude-newer = \"soon\": write a moment"]);
}

#[test]
fn what_does_not_fit_is_explained() {
    let world = World::new();
    let check = |requirements: &[&str], expect: &[&str]| {
        world.refused(&wheels(requirements), &amd64(), ErrorKind::Unsatisfiable, expect);
    };
    check(
        &["app>=2", "new"],
        &[
            "requirements.in: no set of packages fits cp311 on manylinux_2_36_x86_64",
            "app",
            "lib>=2",
            "lib<2",
        ],
    );
    check(&["app>=9"], &["only app<=", "app>=9"]);
    check(&["nothing"], &["nothing was not found in the package registry"]);
    let arm64 = Target { architecture: Architecture::Arm64, ..amd64() };
    world.refused(
        &wheels(&["native"]),
        &arm64,
        ErrorKind::Unsatisfiable,
        &["native", "has no wheels with a matching platform tag", "manylinux_2_17_x86_64"],
    );
}

#[test]
fn sources() {
    let world = World::new();
    world.refused(
        &request(&["sourced"]),
        &amd64(),
        ErrorKind::Index,
        // The index has no such file, so it can't be asked what it depends on.
        &["sourced"],
    );
    world.refused(
        &wheels(&["sourced"]),
        &amd64(),
        ErrorKind::Unsatisfiable,
        &["sourced", "no usable wheels"],
    );
}

#[test]
fn requirements_that_are_none() {
    let world = World::new();
    let check = |text: &str, expect: &str| {
        world.refused(&request(&[text]), &amd64(), ErrorKind::Input, &[expect]);
    };
    check("app >", "requirements.in: `app >`");
    check("demo @ git+https://me:secret@example.org/demo", "it is a git repository");
    check("demo @ ./demo", "it is a folder");
    let wrong = Target { python: "3".to_owned(), ..amd64() };
    world.refused(&request(&["app"]), &wrong, ErrorKind::Input, &["python = \"3\" is no CPython version"]);
    let deep = format!("app ; {}python_version > '3'{}", "(".repeat(300), ")".repeat(300));
    world.refused(&request(&[&deep]), &amd64(), ErrorKind::Lock, &["more than 200 parentheses"]);
}

#[test]
fn a_project_says_what_was_asked() {
    let world = World::new();
    let asked = Request {
        constraints: vec!["lib<3".to_owned()],
        exclude_newer: Some("2025-12-31".to_owned()),
        ..wheels(&["app[colour]>=1 ; sys_platform == 'linux'"])
    };
    let target = Target { python: "3.11.2".to_owned(), ..amd64() };
    let indexes = Indexes {
        index: Some(format!("http://me:secret@{}/simple", world.address)),
        find_links: vec!["wheels".to_owned()],
        ..world.indexes()
    };
    std::fs::create_dir(world.path("wheels")).expect("a folder");
    let found = resolve(&asked, &world.path("requirements.in"), &target, &indexes).expect("a resolution");
    let project: toml::Table = found.to_pyproject().expect("a project").parse().expect("TOML");
    let expect = json!({
        "project": {
            "name": "imgforge-environment", "version": "0", "requires-python": ">=3.11.2,<3.12",
            "dependencies": ["app[colour]>=1 ; sys_platform == 'linux'"],
        },
        "tool": { "uv": {
            "package": false, "no-build": true, "exclude-newer": "2026-01-01T00:00:00Z",
            "constraint-dependencies": ["lib<3"], "find-links": ["wheels"],
            "index": [{ "url": format!("http://{}/simple", world.address), "default": true }],
            "environments": [
                "platform_machine == 'x86_64' and platform_python_implementation == 'CPython' and sys_platform == 'linux'"
            ],
        } },
    });
    assert_eq!(serde_json::to_value(project).expect("a value"), expect);
    for text in
        [found.to_requirements(), found.to_pylock().expect("a lock"), found.to_uv_lock().expect("a lock")]
    {
        assert!(!text.contains("secret"), "{text}");
    }
}

/// Files by the name of their folder: what the zip of a wheel would have is not needed to know them.
fn tree(folder: &Path) -> BTreeMap<String, u64> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: &std::fs::DirEntry| entry.metadata().map(|metadata| metadata.len()).unwrap_or(0);
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), size(&entry))).collect()
}

#[test]
fn offline_uses_what_was_seen() {
    let world = World::new();
    let offline = Indexes { offline: true, ..world.indexes() };
    let file = world.path("requirements.in");
    let error = resolve(&wheels(&["app"]), &file, &amd64(), &offline).expect_err("an error");
    let hint = error.hint().expect("a hint");
    assert!(hint.contains("run once without --offline"), "{error}: {hint}");
    let found = world.resolve(&wheels(&["app"]), &amd64()).expect("a resolution");
    let before = tree(world.folder.path());
    let again = resolve(&wheels(&["app"]), &file, &amd64(), &offline).expect("a resolution");
    assert_eq!(again.artifacts(), found.artifacts());
    assert_eq!(again.to_pylock().expect("a lock"), found.to_pylock().expect("a lock"));
    // Nothing is left beside the requirements, whatever is written down.
    again.to_uv_lock().expect("a lock");
    assert_eq!(tree(world.folder.path()), before);
}
