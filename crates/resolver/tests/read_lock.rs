//! Locks of every format, read by their names: what each says is judged in the crate that reads it.

#![allow(clippy::expect_used)] // All of it is test code, helpers too.

use std::path::{Path, PathBuf};

use imgforge_resolver::{
    Architecture, ErrorKind, Libc, LockQuery, Package, PackageKind, Target, pypi, read_lock,
};

fn lock(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn target() -> Target {
    let libc = Libc::Glibc { major: 2, minor: 36 };
    Target { python: "3.11".to_owned(), architecture: Architecture::Amd64, libc }
}

/// How many files there are of each kind, and the first one.
#[track_caller]
fn check(file: &Path, query: &LockQuery, wheels: usize, conda: usize, first: &str) {
    let files: Vec<Package> = read_lock(file, query, &target()).expect("a lock").files();
    let count = |kind| files.iter().filter(|file| file.kind == kind).count();
    assert_eq!((count(PackageKind::Wheel), count(PackageKind::Conda)), (wheels, conda));
    assert_eq!(files.first().map(|file| file.file.as_str()), Some(first));
    assert!(files.iter().all(|file| file.sha256.is_some() || file.md5.is_some()));
}

#[track_caller]
fn refused(file: &Path, query: &LockQuery, kind: ErrorKind, expect: &str) {
    let error = read_lock(file, query, &target()).expect_err("an error");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(expect), "{error}");
}

#[test]
fn locks_of_python_s_tools() {
    let query = LockQuery::default();
    let first = "MarkupSafe-2.1.5-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl";
    check(&lock("pypi/tests/locks/forks/uv.lock"), &query, 2, 0, first);
    let first = "anyio-4.10.0-py3-none-any.whl";
    check(&lock("pypi/tests/locks/comfy-cli/pylock.toml"), &query, 45, 0, first);
}

#[test]
fn locks_of_conda_s_tools() {
    let query = LockQuery::default();
    let first = "tzdata-2025b-h78e105d_0.conda";
    check(&lock("conda/tests/locks/pytorch-gpu/pixi.lock"), &query, 0, 100, first);
    let old = LockQuery { environment: Some("old".to_owned()), ..LockQuery::default() };
    let files =
        read_lock(&lock("conda/tests/locks/small/pixi.lock"), &old, &target()).expect("a lock").files();
    assert!(files.iter().any(|file| file.sha256.is_none() && file.md5.is_some()), "{files:?}");
}

#[test]
fn what_a_resolver_is_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let channel = lock("conda/tests/channel");
    let text = format!("channels: [{}]\ndependencies: [python]\n", channel.display());
    let file = folder.path().join("environment.yml");
    std::fs::write(&file, text).expect("a file");
    let found = read_lock(&file, &LockQuery::default(), &target()).expect("an environment");
    let python = found.files().into_iter().find(|file| file.name == "python").expect("a Python");
    assert!(python.build.is_some() && python.kind == PackageKind::Conda);
}

#[test]
fn what_can_t_be_read() {
    let query = LockQuery::default();
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("a file");
        file
    };
    refused(&folder.path().join("uv.lock"), &query, ErrorKind::Lock, "uv.lock: No such file");
    refused(&file("Cargo.lock", ""), &query, ErrorKind::Input, "Cargo.lock has no name of a lock");
    refused(&file("poetry.lock", ""), &query, ErrorKind::Lock, "pyproject.toml: No such file");
    refused(&file("pylock.toml", "lock-version = 3"), &query, ErrorKind::Lock, "pylock.toml");
    let named = LockQuery { kind: imgforge_resolver::LockKind::from_name("pylock"), ..LockQuery::default() };
    refused(
        &file("my.lock", "packages = 1"),
        &named,
        ErrorKind::Lock,
        "my.lock can't be read as pylock.toml",
    );
    let group = pypi::Selection { groups: vec!["none".to_owned()], ..pypi::Selection::default() };
    let query = LockQuery { selection: group, ..LockQuery::default() };
    let forks = lock("pypi/tests/locks/forks/uv.lock");
    refused(&forks, &query, ErrorKind::Lock, "has no dependency group `none`");
}
