//! An environment's own files: what is there before a package is installed.

use imgforge_layer::{Entry, Tree, TreeError, TreePath};

/// The environment's own files at a prefix: what rattler's `Prefix::create` leaves.
///
/// - `conda-meta/history` is empty, as rattler leaves it: conda and others take a folder with such a file for an
///   environment;
/// - `CACHEDIR.TAG` keeps environments out of backups. Its text is that of the tag's specification; rattler's names rattler
///   in a comment, and so does this one, so that the two are the same.
///
/// `conda-meta/state` is not there: rattler writes none, and conda's holds variables that somebody has set.
///
/// # Errors
/// [`TreeError::Name`] for a prefix that can't hold the files.
pub fn environment(prefix: &TreePath) -> Result<Tree, TreeError> {
    let mut tree = Tree::new();
    tree.insert(prefix.join("conda-meta/history")?, Entry::bytes(*b"", false))?;
    tree.insert(prefix.join("CACHEDIR.TAG")?, Entry::bytes(TAG.as_bytes(), false))?;
    Ok(tree)
}

/// <https://bford.info/cachedir/>
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55
# This file is a cache directory tag created by rattler.
# For information about cache directory tags, see:
#\thttps://bford.info/cachedir/
";
