//! Fetched crates become a directory source.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use imgforge_layer::{Content, Entry, Source, Tree, TreeError, TreePath};
use imgforge_oci::{Digest, Hasher, json};

use super::Crate;
use crate::archive::{self, ArchiveError, Links, Scratch};

/// Makes the vendor folder of fetched crates, at `folder` in a tree.
///
/// ```text
/// FOLDER/
///   NAME-VERSION/                       for each crate, what its archive has
///   NAME-VERSION/.cargo-checksum.json   SHA-256 of each file and of the `.crate` file
/// ```
///
/// `open` gives the `.crate` file, whose digest was checked when it was fetched; one is open at a time. What is inflated
/// lies in a file without a name in `scratch`, which lives as long as the tree.
///
/// # Errors
/// [`VendorError`].
pub fn vendor(
    crates: &[Crate],
    open: &mut dyn FnMut(&Crate) -> io::Result<Source>,
    folder: &TreePath,
    scratch: &Path,
) -> Result<Tree, VendorError> {
    let mut inflated = Scratch::new(scratch).map_err(VendorError::Scratch)?;
    let mut ranges = Vec::with_capacity(crates.len());
    for each in crates {
        let error = |problem| VendorError::Archive { file: each.file_name(), problem };
        let source = open(each).map_err(|problem| error(ArchiveError::Read(problem)))?;
        ranges.push((each, inflated.inflate(&source, MAX_CONTENT).map_err(error)?));
    }
    let inflated = inflated.into_source(folder.as_str().as_ref()).map_err(VendorError::Scratch)?;
    let mut tree = Tree::new();
    for (each, range) in ranges {
        let error = |problem| VendorError::Archive { file: each.file_name(), problem };
        let unpacked = archive::read_tar(&inflated, range, folder, Links::Refused).map_err(error)?;
        if unpacked.top != each.folder() {
            return Err(VendorError::Folder { file: each.file_name(), folder: unpacked.top });
        }
        add(&mut tree, folder, each, unpacked.tree)?;
    }
    Ok(tree)
}

/// Why a vendor folder can't be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VendorError {
    /// What is inflated can't be kept.
    #[error("crates can't be inflated")]
    Scratch(#[source] ArchiveError),
    /// A `.crate` file that can't be used.
    #[error("{file} can't be used")]
    Archive {
        /// Its name.
        file: String,
        /// What is wrong.
        #[source]
        problem: ArchiveError,
    },
    /// A `.crate` file of another crate.
    #[error("{file} has the folder `{folder}` in it")]
    Folder {
        /// Its name.
        file: String,
        /// The folder at its top.
        folder: String,
    },
    /// A path that can't be.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The checksums have no JSON form.
    #[error(transparent)]
    Json(#[from] imgforge_oci::Error),
}

/// crates.io takes 10 MB, compressed, and more on request only.
const MAX_CONTENT: u64 = 4 << 30;

/// The file that makes a folder a crate of a directory source.
const CHECKSUMS: &str = ".cargo-checksum.json";

#[derive(serde::Serialize)]
struct Checksums {
    files: BTreeMap<String, String>,
    package: String,
}

fn add(tree: &mut Tree, folder: &TreePath, each: &Crate, unpacked: Tree) -> Result<(), VendorError> {
    let root = folder.join(&each.folder())?;
    let checksums = root.join(CHECKSUMS)?;
    let mut files = BTreeMap::new();
    for (path, entry) in unpacked.iter() {
        // Some were packed from a vendor folder, and brought that one's.
        if *path == checksums {
            continue;
        }
        if let Some(content) = entry.content() {
            let read_error = |problem| VendorError::Archive {
                file: each.file_name(),
                problem: ArchiveError::Read(problem),
            };
            let name = path.as_str().strip_prefix(root.as_str()).unwrap_or_default().trim_start_matches('/');
            files.insert(name.to_owned(), digest(content).map_err(read_error)?.hex());
        }
        tree.insert(path.clone(), entry.clone())?;
    }
    let text = json::canonical(&Checksums { files, package: each.sha256.hex() })?;
    Ok(tree.insert(checksums, Entry::bytes(text, false))?)
}

/// The digest of a file in the scratch file.
fn digest(content: &Content) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    if let Content::Range { source, offset, len, .. } = content {
        io::copy(&mut source.range(*offset, *len), &mut hasher)?;
    }
    Ok(hasher.finish())
}

/// The text of cargo's `config.toml`: crates of crates.io are in `folder`, an absolute path of the sandbox.
pub fn config(folder: &str) -> String {
    let directory = toml::Value::String(folder.to_owned());
    format!("[source.crates-io]\nreplace-with = \"vendored\"\n\n[source.vendored]\ndirectory = {directory}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_folder_can_be_named() {
        for folder in ["/build/vendor", "/a \"quoted\" \\ one", "/a\nb"] {
            let config: toml::Table = config(folder).parse().unwrap();
            assert_eq!(config["source"]["crates-io"]["replace-with"].as_str(), Some("vendored"));
            assert_eq!(config["source"]["vendored"]["directory"].as_str(), Some(folder));
        }
    }
}
