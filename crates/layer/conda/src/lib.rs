//! A conda package becomes the tree that rattler would leave of it.
//!
//! Nothing is unpacked under its name: the package's tars are decompressed once, into memory or an unlinked scratch file,
//! and the tree's files are ranges of that. Three things come out of an environment:
//!
//! - for each package, [`plan`]: its files, with the *image's* prefix where the package has that of the folder it was
//!   built in, and its record in `conda-meta`. That is a function of the package, its entry in the lock, the prefix and, for
//!   a noarch package of Python modules, the place of the environment's site-packages; so it is a layer that every image
//!   with this prefix shares;
//! - for the environment, [`environment`]: what is there before a package is;
//! - for packages that have paths in common, [`clobbers`]: who wins, and what of the others goes where. That stands in a
//!   small layer above those of the packages.
//!
//! The result is what rattler's installer leaves in the same prefix: paths, contents, modes, link targets, records. The
//! exceptions:
//!
//! - no time stamps, and in `conda-meta` no folder of the host that installs ([`Record`]). Rattler's records are readable
//!   for their owner alone, ours for everybody;
//! - packages are checked where rattler is lenient: what is not listed in `info/paths.json`, has another size, hash or kind
//!   than listed there, or is in an archive twice, is an error;
//! - empty folders that a package lists are made, as conda makes them; rattler 0.55 fails on them. Those that it leaves
//!   behind when it moves files out of `__clobbers__` are not;
//! - links that are to be installed as copies lead to files of the package or nowhere; rattler would copy the host's;
//! - places of the prefix that a package records itself are not believed but searched;
//! - a command's script replaces a link that another package has in its place; rattler writes through the link.
//!
//! Modes are the archive's, as with rattler, but for set-user-ID, set-group-ID and sticky bits: `0664` stays `0664`.
//!
//! Compiled Python (`__pycache__`, `.pyc`) that a package lists is kept, unlike a wheel's: the list in `conda-meta` names
//! it. A noarch package has none, and none is made, here or by rattler.
//!
//! No link script runs; [`Planned::link_scripts`] says which there are.
//!
//! Sources: conda's CEPs 34 and 35 and conda-build's documentation of `info/`; judged by rattler itself (`tests`, and
//! `examples/compare.rs` for real packages).

mod archive;
mod clobbers;
mod contents;
mod entry_point;
mod environment;
mod error;
mod link;
mod metadata;
mod prefix;
mod record;
mod shebang;

use std::path::Path;

use imgforge_layer::{Entry, Source, Tree, TreePath};
use imgforge_oci::Digest;

pub use clobbers::{Clobbers, Disputed, clobbers};
pub use environment::environment;
pub use error::{ClobberError, Error, Problem};
pub use record::{Record, RecordError};

use archive::FileName;
use contents::Contents;

/// A package's archive, and what a lock says about it.
#[derive(Clone, Copy, Debug)]
pub struct Package<'a> {
    /// The archive's own name, whatever the file is called now (in the store: its digest): `NAME-VERSION-BUILD.conda` or
    /// `.tar.bz2`.
    pub file_name: &'a str,
    /// The lock's record of the package: rattler's `RepoDataRecord` as JSON. Without one, the record is made from the
    /// package's own `info/index.json` and the fields below, which otherwise are not used.
    pub record: Option<&'a serde_json::Value>,
    /// The URL that the package is from; `None` for a file of the host.
    pub url: Option<&'a str>,
    /// Of the archive, as far as it is known.
    pub sha256: Option<Digest>,
    /// Of the archive, as far as it is known: 32 lower-case hexadecimal digits.
    pub md5: Option<&'a str>,
}

/// What packages are installed into.
#[derive(Clone, Copy, Debug)]
pub struct Installation<'a> {
    /// The environment's root in the image.
    pub prefix: &'a TreePath,
    /// The environment's Python, if there is one among its packages.
    pub python: Option<&'a Python>,
}

/// The Python of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    /// CPython's major and minor version.
    pub version: (u8, u8),
    /// Where it looks for modules, below the prefix: `lib/python3.11/site-packages`.
    pub site_packages: String,
}

impl Python {
    /// The Python of this major and minor version, with its modules where they usually are.
    pub fn new(version: (u8, u8)) -> Self {
        let (major, minor) = version;
        Self { version, site_packages: format!("lib/python{major}.{minor}/site-packages") }
    }
}

/// A package as it will be in an image.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its files and its record, at their places in the image. What is not changed by the prefix has the SHA-256 of the
    /// package's list, which the writer of the layer verifies.
    pub tree: Tree,
    /// Its record in `conda-meta`; [`clobbers`] takes those of a whole environment.
    pub record: Record,
    /// Its link scripts, by path. They are installed and not run.
    pub link_scripts: Vec<LinkScript>,
}

/// A script that conda would run when the package is installed or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkScript {
    /// When it is to run.
    pub when: LinkScriptTime,
    /// Where it is in the image: `PREFIX/bin/.NAME-post-link.sh`.
    pub path: TreePath,
}

/// When a link script is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkScriptTime {
    /// Before the package is installed.
    PreLink,
    /// After the package was installed.
    PostLink,
    /// Before the package is removed; of no use in an image.
    PreUnlink,
}

impl LinkScriptTime {
    /// The word in the script's name: `post-link`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PreLink => "pre-link",
            Self::PostLink => "post-link",
            Self::PreUnlink => "pre-unlink",
        }
    }
}

/// Plans the installation of a package.
///
/// `folder` is where the scratch file is made, which lives as long as the tree: as many bytes as the package has
/// decompressed, none for a package of less than 1 MiB. `source` is not needed any more when this returns.
///
/// # Errors
/// [`Error`], which names the package and says what is wrong with it.
pub fn plan(
    source: &Source,
    package: &Package<'_>,
    installation: &Installation<'_>,
    folder: &Path,
) -> Result<Planned, Error> {
    let error = |problem| Error { package: package.file_name.to_owned(), problem };
    read(source, package, installation, folder).map_err(error)
}

fn read(
    source: &Source,
    package: &Package<'_>,
    installation: &Installation<'_>,
    folder: &Path,
) -> Result<Planned, Problem> {
    let file_name = FileName::parse(package.file_name)?;
    let contents = Contents::read(&archive::open(source, &file_name, folder)?)?;
    let index = metadata::index(&contents, &file_name)?;
    let (paths, list) = metadata::paths(&contents)?;
    let python = match index.noarch.is_python() {
        true => Some(installation.python.ok_or(Problem::NoPython)?),
        false => None,
    };
    let mut linked = link::link(&contents, paths.paths, list, installation, python)?;
    if let Some(python) = python {
        let entry_points = metadata::entry_points(&contents)?;
        link::link_entry_points(&mut linked, &entry_points, installation.prefix, python)?;
    }
    let record = Record::new(record::repodata(package, index, source.len())?, linked.paths);
    let mut tree = linked.tree;
    let json = record.json().map_err(|error| Problem::Record { reason: error.reason })?;
    tree.insert(record.path(installation.prefix)?, Entry::bytes(json.into_bytes(), false))?;
    let link_scripts = link_scripts(&tree, installation.prefix, record.name())?;
    Ok(Planned { tree, record, link_scripts })
}

fn link_scripts(tree: &Tree, prefix: &TreePath, name: &str) -> Result<Vec<LinkScript>, Problem> {
    let mut found = Vec::new();
    for when in [LinkScriptTime::PreLink, LinkScriptTime::PostLink, LinkScriptTime::PreUnlink] {
        let path = prefix.join(&format!("bin/.{name}-{}.sh", when.as_str()))?;
        if tree.get(&path).is_some() {
            found.push(LinkScript { when, path });
        }
    }
    Ok(found)
}
