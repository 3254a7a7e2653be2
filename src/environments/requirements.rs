//! A `requirements.txt` has hashes and no URLs: which wheels it means is found once and pinned in images.lock.
//!
//! The pins hold as long as what they were made from: the file with everything that it includes, the target and the
//! indexes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fs_err as fs;
use imgforge_resolver::{Artifact, Target, pypi};
use serde_json::json;

use super::Context;
use super::pins::{self, Pins, plain};
use crate::error::Error;
use crate::images_lock::ImagesLock;

/// The wheels of the file's text, as pinned where that is up to date.
pub(super) fn artifacts(
    text: &str,
    path: &Path,
    context: &Context<'_>,
    target: &Target,
    lock: &mut ImagesLock,
) -> Result<Vec<Artifact>, Error> {
    let indexes = &context.settings.indexes;
    let includes = included(text, path)?;
    let request = json!({"text": text, "includes": includes, "target": target, "indexes": indexes});
    let pins = Pins::of(&request, context)?;
    if let Some(pinned) = pins.read(lock) {
        return Ok(pinned);
    }
    let artifacts = pypi::requirements_txt(text, path, target, &pins::indexes(context))
        .map_err(|error| context.failed(error))?;
    pins.write(&artifacts, lock);
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
}
