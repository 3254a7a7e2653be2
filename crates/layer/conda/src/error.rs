use std::io;

use imgforge_layer::{TreeError, TreePath, members, zip};
use imgforge_oci::Digest;

/// A package that can't be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{package} can't be installed")]
pub struct Error {
    /// The package's file name.
    pub package: String,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a package.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file's name is not that of a conda package.
    #[error("the file name is not NAME-VERSION-BUILD.conda or NAME-VERSION-BUILD.tar.bz2")]
    FileName,
    /// It is no well-formed zip archive.
    #[error(transparent)]
    Zip(#[from] zip::Error),
    /// A `.conda` whose members are not those of one.
    #[error("its member {name} {reason}")]
    Member {
        /// The member's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tar in it does not decompress.
    #[error("{name} does not decompress")]
    Decompress {
        /// The compressed tar's name.
        name: String,
        /// The codec's message.
        source: io::Error,
    },
    /// A tar in it is larger than any real one, or compressed better than any.
    #[error("{name} holds more than {limit} bytes, or is compressed more than a thousandfold")]
    TooLarge {
        /// The compressed tar's name.
        name: String,
        /// Bytes.
        limit: u64,
    },
    /// A tar in it is not well-formed, or has an entry of a kind that is not read.
    #[error("{name}")]
    Tar {
        /// The compressed tar's name.
        name: String,
        /// What is wrong.
        source: members::MembersError,
    },
    /// More entries than any package has.
    #[error("it has more than {limit} entries")]
    TooMany {
        /// How many it may have.
        limit: usize,
    },
    /// An entry of a tar that can't be there.
    #[error("{name} {reason}")]
    Entry {
        /// Its name in the archive, escaped.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file that every package has is missing.
    #[error("{name} is missing")]
    Missing {
        /// Its name in the archive.
        name: &'static str,
    },
    /// A metadata file does not read.
    #[error("{name} does not read: {reason}")]
    Metadata {
        /// Its name in the archive.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The package is another one than it is said to be.
    #[error("its {field} is `{found}` by info/index.json and `{expected}` by {whose}")]
    Identity {
        /// `name`, `version` or `build`.
        field: &'static str,
        /// What the package itself says.
        found: String,
        /// What was expected.
        expected: String,
        /// Who expects it: the file name, or the lock.
        whose: &'static str,
    },
    /// A file is listed in paths.json and not in the archive.
    #[error("{path} is listed in {list} and is not in the archive")]
    Absent {
        /// The path in the package, escaped.
        path: String,
        /// The list: info/paths.json, or info/files.
        list: &'static str,
    },
    /// A file is in the archive and not listed.
    #[error("{path} is in the archive and is not listed in {list}")]
    Unlisted {
        /// The path in the package, escaped.
        path: String,
        /// The list: info/paths.json, or info/files.
        list: &'static str,
    },
    /// A path is listed twice, or two paths become one.
    #[error("{path} is listed twice")]
    Repeated {
        /// The path in the package, escaped.
        path: String,
    },
    /// A path that only an installer may write.
    #[error("{path} is the installer's to write")]
    Reserved {
        /// The path in the package.
        path: String,
    },
    /// The archive has another kind of file than the list says.
    #[error("{path} is a {found}, its record in {list} says {listed}")]
    Kind {
        /// The path in the package.
        path: String,
        /// What the list says.
        listed: &'static str,
        /// What the archive has.
        found: &'static str,
        /// The list: info/paths.json, or info/files.
        list: &'static str,
    },
    /// The archive has more or fewer bytes of a file than paths.json says.
    #[error("{path} has {found} bytes, its record in info/paths.json says {listed}")]
    Size {
        /// The path in the package.
        path: String,
        /// Bytes by paths.json.
        listed: u64,
        /// Bytes in the archive.
        found: u64,
    },
    /// The archive has other bytes of a file than paths.json says.
    #[error("{path} is {found}, its record in info/paths.json says {listed}")]
    Hash {
        /// The path in the package.
        path: String,
        /// By paths.json.
        listed: Digest,
        /// Of the bytes in the archive.
        found: Digest,
    },
    /// A link that can't be followed where it must be.
    #[error("the link {path} leads to `{target}`: {reason}")]
    Link {
        /// The link's path in the package.
        path: String,
        /// Its target, escaped.
        target: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A prefix that can't be replaced.
    #[error("the prefix in {path} can't be replaced: {reason}")]
    Placeholder {
        /// The path in the package.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A prefix of the image that does not fit into a binary.
    #[error(
        "the environment's prefix `{prefix}` is longer than the {room} bytes that {path} has for it; \
         choose a shorter prefix"
    )]
    PrefixTooLong {
        /// The path in the package.
        path: String,
        /// The image's prefix.
        prefix: String,
        /// Bytes of the placeholder.
        room: usize,
    },
    /// A noarch package of Python modules, and no Python to install them for.
    #[error(
        "it is a noarch package of Python modules, and there is no python among the environment's packages"
    )]
    NoPython,
    /// The lock's record of the package does not read.
    #[error("its record in the lock does not read: {reason}")]
    Record {
        /// What is wrong.
        reason: String,
    },
    /// Two files of the package end up on one path, or a path is unusable.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The package can't be read.
    #[error("can't be read")]
    Read(#[source] io::Error),
    /// The scratch file can't be made or written.
    #[error("no scratch file in {folder}")]
    Scratch {
        /// The folder.
        folder: String,
        /// The system's message.
        source: io::Error,
    },
}

/// Why what packages dispute could not be settled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClobberError {
    /// Two packages with one name.
    #[error("there are two packages `{name}` in the environment")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A record that no package gives.
    #[error("the record of {package} has the path `{path}`, which is no path below a prefix")]
    Path {
        /// The package's name.
        package: String,
        /// The path, escaped.
        path: String,
    },
    /// A path of the record is not in the package's tree: the two are not of one package.
    #[error("{package} has no {path}")]
    Missing {
        /// The package's name.
        package: String,
        /// The path in the image.
        path: TreePath,
    },
    /// A record can't be written.
    #[error("the record of {package} can't be written: {reason}")]
    Record {
        /// The package's name.
        package: String,
        /// What is wrong.
        reason: String,
    },
    /// A path is unusable.
    #[error(transparent)]
    Tree(#[from] TreeError),
}
