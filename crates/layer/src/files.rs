//! Application files: a folder of the host becomes a tree.
//!
//! What is taken is names, contents, executable bits and symbolic links as links. Owners, times and other mode bits
//! stay behind: they are the checkout's, not the application's.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use ignore::WalkBuilder;
use ignore::gitignore::GitignoreBuilder;
use rayon::prelude::*;

use crate::hashes::{Hashed, Hashes};
use crate::tree::{Content, Entry, Tree, TreeError, TreePath};

/// Reads `source` (a folder or a single file) into a tree at `destination`.
///
/// A folder's content lies right below the destination; a file gets the destination as its own path, or its name
/// below it when `destination` ends in `/`. `exclude` has the syntax of gitignore, relative to `source`, without regard
/// to any ignore file on the host. Every file is hashed now, on rayon's threads, unless `hashes` knows it; the hash is
/// verified when the layer is written.
///
/// # Errors
/// [`FilesError`], by what failed.
pub fn files(
    source: &Path,
    destination: &str,
    exclude: &[String],
    hashes: &mut Hashes,
) -> Result<Tree, FilesError> {
    let mut tree = Tree::new();
    let metadata = fs::metadata(source).map_err(FilesError::Read)?;
    if metadata.is_file() {
        let name = source.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let path = match destination.ends_with('/') {
            true => format!("{destination}{name}"),
            false => destination.to_owned(),
        };
        let hashed = hashes.of("", source, &metadata).map_err(FilesError::Read)?;
        hashes.saw(String::new(), &hashed);
        tree.insert(TreePath::new(&path)?, regular(source.to_owned(), &metadata, &hashed))?;
        return Ok(tree);
    }
    if !metadata.is_dir() {
        return Err(FilesError::Special { path: source.to_owned() });
    }
    let root = destination.trim_end_matches('/');
    if !root.is_empty() {
        let path = TreePath::new(root)?;
        let entry = Entry::implied(&path);
        tree.insert(path, entry)?;
    }
    let mut files = Vec::new();
    for found in walk(source, exclude)? {
        let found = found.map_err(|error| FilesError::Walk { path: source.to_owned(), source: error })?;
        let relative = found.path().strip_prefix(source).unwrap_or(found.path());
        let Some(relative) = relative.to_str() else {
            return Err(FilesError::NotUtf8 { path: found.path().to_owned() });
        };
        if relative.is_empty() {
            continue;
        }
        let path = TreePath::new(&format!("{root}/{relative}"))?;
        let metadata = fs::symlink_metadata(found.path()).map_err(FilesError::Read)?;
        if metadata.is_file() {
            let name = relative.to_owned();
            files.push(Found { name, path, metadata, file: found.into_path() });
        } else {
            let entry = other(found.path(), &path, &metadata)?;
            tree.insert(path, entry)?;
        }
    }
    let known = &*hashes;
    let hash = |found: &Found| known.of(&found.name, &found.file, &found.metadata);
    let hashed: Vec<_> = files.par_iter().map(hash).collect();
    for (Found { name, path, file, metadata }, hashed) in files.into_iter().zip(hashed) {
        let hashed = hashed.map_err(FilesError::Read)?;
        hashes.saw(name, &hashed);
        tree.insert(path, regular(file, &metadata, &hashed))?;
    }
    Ok(tree)
}

/// A file of the host, before it is hashed.
struct Found {
    /// Its path in the folder.
    name: String,
    /// Its path in the image.
    path: TreePath,
    file: PathBuf,
    metadata: Metadata,
}

/// Why application files can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The system's error, which names the file.
    #[error(transparent)]
    Read(io::Error),
    /// A folder can't be listed.
    #[error("{path} can't be listed")]
    Walk {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: ignore::Error,
    },
    /// An `exclude` pattern that is none.
    #[error("exclude pattern `{pattern}` can't be read")]
    Pattern {
        /// As it is written.
        pattern: String,
        /// Why.
        source: ignore::Error,
    },
    /// A name that is no UTF-8.
    #[error("{path:?}: names in an image are UTF-8")]
    NotUtf8 {
        /// The path.
        path: PathBuf,
    },
    /// A socket, a device or a pipe.
    #[error("{path} is neither a file, a folder nor a symbolic link; exclude it")]
    Special {
        /// The path.
        path: PathBuf,
    },
    /// A path that the image can't hold.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

fn walk(source: &Path, exclude: &[String]) -> Result<ignore::Walk, FilesError> {
    let pattern_error = |pattern: &str| {
        let pattern = pattern.to_owned();
        move |source| FilesError::Pattern { pattern, source }
    };
    // What is matched is the path below the source: `ignore` takes off a root's own `./` only once.
    let mut patterns = GitignoreBuilder::new("");
    for pattern in exclude {
        patterns.add_line(None, pattern).map_err(pattern_error(pattern))?;
    }
    let patterns = patterns.build().map_err(pattern_error(&exclude.join(" ")))?;
    // A folder that is left out is not entered, as with git: what is in it can't be brought back.
    let root = source.to_owned();
    let keep = move |found: &ignore::DirEntry| {
        let folder = found.file_type().is_some_and(|kind| kind.is_dir());
        let path = found.path().strip_prefix(&root).unwrap_or(found.path());
        path.as_os_str().is_empty() || !patterns.matched(path, folder).is_ignore()
    };
    Ok(WalkBuilder::new(source).standard_filters(false).follow_links(false).filter_entry(keep).build())
}

/// What is no regular file.
fn other(path: &Path, destination: &TreePath, metadata: &Metadata) -> Result<Entry, FilesError> {
    let kind = metadata.file_type();
    if kind.is_dir() {
        Ok(Entry::implied(destination))
    } else if kind.is_symlink() {
        let target = fs::read_link(path).map_err(FilesError::Read)?;
        let target = target.to_str().ok_or_else(|| FilesError::NotUtf8 { path: path.to_owned() })?;
        Ok(Entry::symlink(target))
    } else {
        Err(FilesError::Special { path: path.to_owned() })
    }
}

fn regular(path: PathBuf, metadata: &Metadata, hashed: &Hashed) -> Entry {
    let is_executable = metadata.permissions().mode() & 0o111 != 0;
    Entry::file(Content::Host { path, len: hashed.len }, Some(hashed.digest), is_executable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hashes::Remembered;

    /// Nothing is remembered.
    fn anew() -> Hashes {
        Hashes::new(Remembered::default(), 0)
    }

    const PATHS: [&str; 7] = [
        "app/__init__.py",
        "app/run.sh",
        "app/notes.md",
        "app/data/deep/notes.md",
        ".env",
        "tests/test_a.py",
        "link",
    ];

    /// Lays out `PATHS`, excludes, and returns what is left of the files.
    fn check(exclude: &[&str], expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        for path in PATHS {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match path.ends_with("link") {
                true => std::os::unix::fs::symlink("/nowhere", &path).unwrap(),
                false => fs::write(&path, "x").unwrap(),
            }
        }
        fs::write(folder.path().join(".gitignore"), "*.py\n").unwrap();
        let exclude: Vec<String> = exclude.iter().map(|pattern| (*pattern).to_owned()).collect();
        // However the folder is written.
        for source in [folder.path().to_owned(), folder.path().join(".").join(".").join("")] {
            let tree = files(&source, "/srv", &exclude, &mut anew()).unwrap();
            let found: Vec<_> = tree
                .iter()
                .filter(|(path, entry)| !entry.is_directory() && path.as_str() != "srv/.gitignore")
                .map(|(path, _)| path.as_str().trim_start_matches("srv/").to_owned())
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn everything_is_taken_whatever_the_host_ignores() {
        let mut all = PATHS;
        all.sort_unstable();
        check(&[], &all);
    }

    #[test]
    fn gitignore_patterns_exclude() {
        check(&["**/*.md", "/tests", "link"], &[".env", "app/__init__.py", "app/run.sh"]);
        check(
            &["*.md", "!app/notes.md", "tests/", "link", ".*"],
            &["app/__init__.py", "app/notes.md", "app/run.sh"],
        );
        check(&["app", "tests"], &[".env", "link"]);
        check(
            &["app/data/deep", "app/*.sh"],
            &[".env", "app/__init__.py", "app/notes.md", "link", "tests/test_a.py"],
        );
    }

    #[test]
    fn modes_come_from_the_executable_bit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run");
        fs::write(&file, "x").unwrap();
        for (host, image) in [(0o600, 0o644), (0o664, 0o644), (0o700, 0o755), (0o654, 0o755)] {
            fs::set_permissions(&file, PermissionsExt::from_mode(host)).unwrap();
            let tree = files(&file, "/bin/", &[], &mut anew()).unwrap();
            assert_eq!(tree.get(&TreePath::new("bin/run").unwrap()).unwrap().mode, image, "{host:o}");
        }
    }

    #[test]
    fn a_file_that_is_not_what_was_hashed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        for later in ["of", "other bytes"] {
            fs::write(&file, "as").unwrap();
            let tree = files(&file, "/file", &[], &mut anew()).unwrap();
            fs::write(&file, later).unwrap();
            let error = crate::write_layer(&tree, crate::Codec::None, 0, &mut Vec::new()).unwrap_err();
            let expected = format!("{} is not what it was when it was hashed", file.display());
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }
}
