//! A source distribution becomes a tree, and its `pyproject.toml` the request that a build backend is asked.
//!
//! Sources: PyPA's "Source distribution format", PEP 517 and PEP 518.

mod build_system;

use std::path::Path;
use std::sync::Arc;

use imgforge_layer::wheel::header;
use imgforge_layer::{Source, Tree, TreeError, TreePath};

use crate::Distribution;
use crate::archive::{self, ArchiveError, Links, Scratch};

pub use build_system::{BuildSystem, BuildSystemError};

/// A source distribution as a sandbox will have it.
#[derive(Clone, Debug)]
pub struct Sdist {
    /// Its files, as a tree of root's: `0644` or `0755`, contents in the archive or in a scratch file that lives as long.
    pub tree: Tree,
    /// The project's folder in the tree: the archive's own, below the folder that was asked for.
    pub root: TreePath,
    /// How to build it.
    pub build_system: BuildSystem,
}

/// Reads a source distribution into a tree below `below`.
///
/// `file_name` is the archive's own name, which tells its kind: `.tar.gz`, `.tgz` or `.zip`. A compressed tar is inflated
/// into a file without a name in `scratch`.
///
/// PKG-INFO must be `expected`'s where there is one. Archives that some host makes of a tag have none; what they are is
/// then for the metadata of the wheel to say.
///
/// # Errors
/// [`Error`], which names the archive and says what is wrong with it.
pub fn read(
    source: &Arc<Source>,
    file_name: &str,
    expected: &Distribution,
    below: &TreePath,
    scratch: &Path,
) -> Result<Sdist, Error> {
    unpack(source, file_name, expected, below, scratch)
        .map_err(|problem| Error { sdist: file_name.to_owned(), problem })
}

/// A source distribution that can't be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{sdist} can't be built")]
pub struct Error {
    /// The archive's file name.
    pub sdist: String,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a source distribution.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A kind of archive that is not read.
    #[error("it is neither `.tar.gz`, `.tgz` nor `.zip`")]
    Kind,
    /// The archive itself.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A path that can't be.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// PKG-INFO describes another distribution.
    #[error("PKG-INFO is of {found}, expected {expected}")]
    Metadata {
        /// What it is.
        found: Distribution,
        /// What it should be.
        expected: Distribution,
    },
    /// Neither of the files that tell how to build it.
    #[error("{folder} has neither pyproject.toml nor setup.py: it is no Python project")]
    NoProject {
        /// The archive's folder.
        folder: String,
    },
    /// A file that is read as text is none.
    #[error("{file} is not UTF-8")]
    NotUtf8 {
        /// Its path in the archive.
        file: String,
    },
    /// pyproject.toml can't be used.
    #[error(transparent)]
    BuildSystem(#[from] BuildSystemError),
}

/// The largest source distributions on PyPI have about 1 GB.
const MAX_CONTENT: u64 = 16 << 30;
/// Metadata and settings are a few kilobytes.
const MAX_TEXT: u64 = 16 << 20;

fn unpack(
    source: &Arc<Source>,
    file_name: &str,
    expected: &Distribution,
    below: &TreePath,
    scratch: &Path,
) -> Result<Sdist, Problem> {
    let unpacked = if file_name.ends_with(".zip") {
        archive::read_zip(source, below)?
    } else if [".tar.gz", ".tgz"].iter().any(|ending| file_name.ends_with(ending)) {
        let mut inflated = Scratch::new(scratch)?;
        let range = inflated.inflate(source, MAX_CONTENT)?;
        let inflated = inflated.into_source(source.path())?;
        archive::read_tar(&inflated, range, below, Links::Within)?
    } else {
        return Err(Problem::Kind);
    };
    let (tree, root) = (unpacked.tree, below.join(&unpacked.top)?);
    let text = |name: &str| -> Result<Option<String>, Problem> {
        let Some(bytes) = archive::read_file(&tree, &root.join(name)?, MAX_TEXT)? else { return Ok(None) };
        let not_utf8 = |_| Problem::NotUtf8 { file: format!("{}/{name}", unpacked.top) };
        String::from_utf8(bytes).map(Some).map_err(not_utf8)
    };
    if let Some(metadata) = text("PKG-INFO")? {
        let field = |key| header(&metadata, key).unwrap_or_default().to_owned();
        let found = Distribution { name: field("Name"), version: field("Version") };
        if !expected.is_described_by(&found.name, &found.version) {
            return Err(Problem::Metadata { found, expected: expected.clone() });
        }
    }
    let build_system = match text("pyproject.toml")? {
        Some(pyproject) => BuildSystem::parse(&pyproject)?,
        None if tree.get(&root.join("setup.py")?).is_some() => BuildSystem::default(),
        None => return Err(Problem::NoProject { folder: unpacked.top }),
    };
    Ok(Sdist { tree, root, build_system })
}

#[cfg(test)]
mod tests;
