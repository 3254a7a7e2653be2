//! A `requirements.txt` has hashes and no URLs: which wheels it means is found once and pinned in images.lock.
//!
//! The pins hold as long as what they were made from: the file with everything that it includes, the target and the
//! indexes. In the lock, wheels that lie on this machine are named relative to the folder of images.toml, so that the
//! lock says the same in every checkout.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use imgforge_oci::{Digest, json};
use imgforge_resolver::pypi::{self, Indexes};
use imgforge_resolver::{Artifact, Location, Target};
use serde_json::json;

use super::Context;
use crate::error::Error;
use crate::images_lock::{EnvironmentPins, ImagesLock};

/// The wheels of the file's text, as pinned where that is up to date.
pub(super) fn artifacts(
    text: &str,
    path: &Path,
    context: &Context<'_>,
    target: &Target,
    lock: &mut ImagesLock,
) -> Result<Vec<Artifact>, Error> {
    let folder = std::path::absolute(context.folder)?;
    let indexes = &context.settings.indexes;
    let includes = included(text, path)?;
    let request =
        json::canonical(&json!({"text": text, "includes": includes, "target": target, "indexes": indexes}))?;
    let request = Digest::of(&request).hex();
    let key = (context.name.to_owned(), context.platform());
    if let Some(pins) = lock.environments.get(&key)
        && pins.request == request
    {
        return Ok(with_paths(&pins.artifacts, |path| plain(&folder.join(path))));
    }
    let (first, others) = match indexes.as_slice() {
        [first, others @ ..] => (Some(first.clone()), others.to_vec()),
        [] => (None, Vec::new()),
    };
    let indexes = Indexes {
        index: first,
        extra: others,
        find_links: Vec::new(),
        cache: context.cache.to_owned(),
        offline: context.offline,
    };
    let artifacts =
        pypi::requirements_txt(text, path, target, &indexes).map_err(|error| context.failed(error))?;
    let pinned = with_paths(&artifacts, |path| relative(path, &folder));
    let pins = EnvironmentPins { request, artifacts: pinned, ..EnvironmentPins::default() };
    lock.environments.insert(key, pins);
    Ok(artifacts)
}

/// The files that a file includes with `-r` and `-c`, as they are written, each with its text; in reading order.
fn included(text: &str, path: &Path) -> Result<Vec<(String, String)>, Error> {
    let mut seen = BTreeSet::from([plain(path)]);
    let mut files = Vec::new();
    follow(text, path, &mut seen, &mut files)?;
    Ok(files)
}

fn follow(
    text: &str,
    path: &Path,
    seen: &mut BTreeSet<PathBuf>,
    files: &mut Vec<(String, String)>,
) -> Result<(), Error> {
    for name in includes(text) {
        // What is on a server is refused where the file is resolved, which happens offline or not at all.
        if name.starts_with("http://") || name.starts_with("https://") {
            continue;
        }
        let below =
            path.parent().unwrap_or(Path::new("")).join(name.strip_prefix("file://").unwrap_or(&name));
        if seen.insert(plain(&below)) {
            let text = fs::read_to_string(&below)?;
            files.push((name, text.clone()));
            follow(&text, &below, seen, files)?;
        }
    }
    Ok(())
}

/// What stands after `-r`, `--requirement`, `-c` and `--constraint`.
fn includes(text: &str) -> Vec<String> {
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    let value = |line: &str| {
        let line = line.trim();
        let rest =
            ["--requirement", "--constraint", "-r", "-c"].iter().find_map(|it| line.strip_prefix(it))?;
        let rest = rest.find(" #").map_or(rest, |end| rest.split_at(end).0);
        let value = rest.trim().trim_start_matches('=').trim().trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.to_owned())
    };
    joined.lines().filter_map(value).collect()
}

fn with_paths(artifacts: &[Artifact], change: impl Fn(&Path) -> PathBuf) -> Vec<Artifact> {
    let mut artifacts = artifacts.to_vec();
    for artifact in &mut artifacts {
        if let Location::Path(path) = &artifact.location {
            artifact.location = Location::Path(change(path));
        }
    }
    artifacts
}

/// `path` as seen from `folder`, by their names alone. Both are absolute.
pub(super) fn relative(path: &Path, folder: &Path) -> PathBuf {
    let (path, folder) = (plain(path), plain(folder));
    let shared = path.components().zip(folder.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(path.components().skip(shared)).collect()
}

/// A path without `.`, and without `..` where a folder stands before it. As [`relative`] goes by names, so must the way
/// back: the system would follow a symbolic link before it goes up.
pub(super) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(plain.components().next_back(), Some(Component::Normal(_))) => {
                plain.pop();
            }
            component => plain.push(component),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_includes(text: &str, expected: &[&str]) {
        assert_eq!(includes(text), expected, "{text}");
    }

    #[test]
    fn lines_that_include() {
        check_includes("-r a.txt\n-c b.txt\n", &["a.txt", "b.txt"]);
        check_includes("--requirement=a.txt\n--constraint b.txt # why\n", &["a.txt", "b.txt"]);
        check_includes("  -r 'a b.txt'\r\n-ra.txt\n-r \\\n  c.txt", &["a b.txt", "a.txt", "c.txt"]);
        check_includes("--require-hashes\n# -r a.txt\nrich==1 --hash=sha256:00\n", &[]);
    }

    #[test]
    fn includes_of_includes() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        write("sub/a.txt", "-r b.txt\n-r ../top.txt\n");
        write("sub/b.txt", "rich==1\n");
        let top = folder.path().join("top.txt");
        let found = included("-r sub/a.txt\n-c sub/b.txt\n", &top).unwrap();
        let names: Vec<_> = found.iter().map(|(name, text)| (name.as_str(), text.len())).collect();
        assert_eq!(names, [("sub/a.txt", 23), ("b.txt", 8)]);
        let error = included("-r none.txt", &top).unwrap_err().to_string();
        assert!(error.contains("none.txt"), "{error}");
    }

    #[track_caller]
    fn check_relative(path: &str, folder: &str, expected: &str) {
        let found = relative(Path::new(path), Path::new(folder));
        assert_eq!(found, Path::new(expected));
        assert_eq!(plain(&Path::new(folder).join(found)), plain(Path::new(path)));
    }

    #[test]
    fn paths_and_back() {
        check_relative("/p/wheels/a.whl", "/p", "wheels/a.whl");
        check_relative("/p/./a.whl", "/p/images/", "../a.whl");
        check_relative("/q/a.whl", "/p/images/../x", "../../q/a.whl");
    }
}
