//! What is selected from real locks, compared with what uv and the reference implementation of tags select: the
//! `.expect` files, which `record.sh` writes.

#![allow(clippy::expect_used, clippy::panic)] // All of it is test code, helpers too.

use std::path::{Path, PathBuf};

use imgforge_resolver_pypi::{
    Architecture, Artifact, Defaults, Error, Libc, Location, Selection, Target, pylock, uv_lock,
};

const GLIBC: Libc = Libc::Glibc { major: 2, minor: 36 };
const MUSL: Libc = Libc::Musl { major: 1, minor: 2 };

fn glibc(minor: u16) -> Libc {
    Libc::Glibc { major: 2, minor }
}

fn amd64(python: &str, libc: Libc) -> Target {
    Target { python: python.to_owned(), architecture: Architecture::Amd64, libc }
}

fn arm64(python: &str, libc: Libc) -> Target {
    Target { python: python.to_owned(), architecture: Architecture::Arm64, libc }
}

/// `extras` and `groups` by name; a `package` is written before a colon.
fn select(package: &str, extras: &[&str], groups: &[&str]) -> Selection {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Selection {
        package: (!package.is_empty()).then(|| package.to_owned()),
        extras: owned(extras),
        groups: owned(groups),
        ..Selection::default()
    }
}

fn folder(lock: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/locks").join(lock)
}

fn read(lock: &str, selection: &Selection, target: &Target) -> Result<Vec<Artifact>, Error> {
    let folder = folder(lock);
    let text = |file: &Path| std::fs::read_to_string(file).expect("a lock to read");
    let file = folder.join("pylock.toml");
    if file.exists() {
        return pylock(&text(&file), &file, selection, target);
    }
    let file = folder.join("uv.lock");
    let pyproject = match &selection.package {
        Some(package) => folder.join("packages").join(package).join("pyproject.toml"),
        None => folder.join("pyproject.toml"),
    };
    let pyproject = std::fs::read_to_string(pyproject).ok();
    uv_lock(&text(&file), &file, pyproject.as_deref(), selection, target)
}

#[track_caller]
fn check(lock: &str, case: &str, selection: &Selection, target: &Target) {
    let artifacts = read(lock, selection, target).expect("a selection");
    let found: Vec<String> =
        artifacts.iter().map(|it| format!("{}=={} {}", it.name, it.version, it.file)).collect();
    let expect =
        std::fs::read_to_string(folder(lock).join(format!("{case}.expect"))).expect("what uv selects");
    let expect: Vec<&str> = expect.lines().collect();
    for (found, expect) in found.iter().zip(&expect) {
        assert_eq!(found, expect, "{lock}/{case}");
    }
    assert_eq!(found.len(), expect.len(), "{lock}/{case}");
    for artifact in &artifacts {
        assert!(
            matches!(&artifact.location, Location::Url(url) if url.starts_with("https://")),
            "{artifact:?}"
        );
        assert_eq!(artifact.sha256.len(), 64, "{artifact:?}");
    }
    assert!(artifacts.is_sorted_by(|a, b| a.name < b.name));
}

#[track_caller]
fn refused(lock: &str, selection: &Selection, target: &Target, expect: &str) {
    let error = read(lock, selection, target).expect_err("an error").to_string();
    assert!(error.contains(expect), "{error}");
    assert!(!error.contains('\u{1b}'), "{error:?}");
}

#[test]
fn torch_with_cuda() {
    check("torch", "linux-amd64", &Selection::default(), &amd64("3.11", GLIBC));
    check("torch", "linux-arm64", &Selection::default(), &arm64("3.12", GLIBC));
    check("torch", "python-3.14", &Selection::default(), &amd64("3.14.1", glibc(28)));
}

#[test]
fn workspace() {
    check("workspace", "all", &Selection::default(), &amd64("3.12", GLIBC));
    check("workspace", "app", &select("app", &[], &[]), &amd64("3.9", GLIBC));
    check("workspace", "app-cli", &select("app", &["cli"], &["dev"]), &arm64("3.13", glibc(17)));
    check("workspace", "tools-musl", &select("tools", &[], &[]), &amd64("3.11", MUSL));
}

#[test]
fn default_groups_are_those_of_the_project() {
    let selection = Selection { default_groups: Defaults::With, ..select("app", &[], &[]) };
    check("workspace", "app-defaults", &selection, &amd64("3.10", GLIBC));
}

#[test]
fn forks_extras_and_conflicts() {
    check("forks", "amd64", &Selection::default(), &amd64("3.11", GLIBC));
    check("forks", "arm64", &Selection::default(), &arm64("3.11", GLIBC));
    check("forks", "old-python", &select("", &["old"], &["slow"]), &amd64("3.9", glibc(17)));
    check("forks", "new-musl", &select("", &["new", "http"], &["fast", "dev"]), &arm64("3.12", MUSL));
}

#[test]
fn several_indexes() {
    check("lerobot", "default", &Selection::default(), &amd64("3.12", GLIBC));
    check("lerobot", "training", &select("", &["training", "pi"], &[]), &amd64("3.12", GLIBC));
    check("lerobot", "arm64", &select("", &["dataset"], &[]), &arm64("3.13", GLIBC));
}

#[test]
fn pylock_without_its_own_project() {
    check("comfy-cli", "amd64", &Selection::default(), &amd64("3.11", GLIBC));
    check("comfy-cli", "arm64", &Selection::default(), &arm64("3.13", glibc(28)));
}

#[test]
fn the_hash_is_the_chosen_wheel_s() {
    let lock = std::fs::read_to_string(folder("torch").join("uv.lock")).expect("a lock");
    for artifact in read("torch", &Selection::default(), &amd64("3.11", GLIBC)).expect("a selection") {
        let Location::Url(url) = &artifact.location else { panic!("{artifact:?}") };
        let line = lock.lines().find(|line| line.contains(url.as_str())).expect("the wheel's line");
        assert!(line.contains(&format!("sha256:{}", artifact.sha256)), "{line}");
    }
}

#[test]
fn names_that_do_not_exist() {
    let target = amd64("3.12", GLIBC);
    refused(
        "workspace",
        &select("ap", &[], &[]),
        &target,
        "no workspace member `ap`: it has app, core, tools",
    );
    refused("workspace", &select("app", &["gui"], &[]), &target, "no extra `gui`: it has cli");
    refused(
        "workspace",
        &select("app", &[], &["test"]),
        &target,
        "no dependency group `test`: it has dev, docs",
    );
    refused("workspace", &select("core", &["x y"], &[]), &target, "no extra `x y`");
    refused("comfy-cli", &select("", &["gui"], &[]), &target, "no extra `gui`: it has none");
    refused("comfy-cli", &select("app", &[], &[]), &target, "no workspace members");
}

#[test]
fn conflicts_are_refused() {
    let target = amd64("3.12", GLIBC);
    refused("forks", &select("", &["old", "new"], &[]), &target, "forks[new], forks[old] as conflicting");
    refused("forks", &select("", &[], &["slow", "fast"]), &target, "forks:fast, forks:slow as conflicting");
    let all = Selection { all_extras: true, ..Selection::default() };
    refused("forks", &all, &target, "as conflicting");
}

#[test]
fn targets_that_the_lock_excludes() {
    refused(
        "torch",
        &Selection::default(),
        &amd64("3.10", GLIBC),
        "is locked for Python >=3.11, and the environment has 3.10.0",
    );
    refused("comfy-cli", &Selection::default(), &amd64("3.9", GLIBC), "is locked for Python >=3.10");
    refused("torch", &Selection::default(), &amd64("4.0", GLIBC), "python = \"4.0\" is no CPython version");
}

#[test]
fn targets_without_wheels() {
    refused(
        "torch",
        &Selection::default(),
        &amd64("3.11", MUSL),
        "torch 2.9.0 has no wheel for cp311 on musllinux_1_2_x86_64: the lock has torch-2.9.0-cp311-cp311-manylinux_2_28_aarch64.whl",
    );
    refused("torch", &Selection::default(), &amd64("3.11", glibc(17)), "for cp311 on manylinux_2_17_x86_64");
    refused(
        "comfy-cli",
        &Selection::default(),
        &arm64("3.10", MUSL),
        "has no wheel for cp310 on musllinux_1_2_aarch64",
    );
}

#[test]
fn the_project_itself_is_refused() {
    let selection = Selection { install_project: true, ..Selection::default() };
    refused("torch", &selection, &amd64("3.11", GLIBC), "copy its code with `files`");
    refused("comfy-cli", &selection, &amd64("3.11", GLIBC), "copy its code with `files`");
}
