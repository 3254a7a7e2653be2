use std::io;
use std::path::{Path, PathBuf};

use imgforge_oci::Digest;

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder is not empty and not a store.
    #[error(
        "{} is not a store: it contains `{found}` and no `version` file; give `--store` an empty or a new folder",
        root.display()
    )]
    NotAStore {
        /// The folder.
        root: PathBuf,
        /// One name in it that is not the store's.
        found: String,
    },
    /// The store was made by another version of imgforge.
    #[error(
        "the store {} has layout version `{found}`, this imgforge uses `{expected}`; give `--store` another folder, or \
         delete it: it is only a cache",
        root.display()
    )]
    Version {
        /// The store's folder.
        root: PathBuf,
        /// What its `version` file says.
        found: String,
        /// What this version reads and writes.
        expected: &'static str,
    },
    /// The file system is mounted read-only.
    #[error("{} is on a read-only file system; give `--store` a folder that can be written", path.display())]
    ReadOnly {
        /// The file or folder that was to be written.
        path: PathBuf,
    },
    /// The user may not write there.
    #[error("no permission for {}; give `--store` a folder of your own, or mend its owner", path.display())]
    Denied {
        /// The file or folder in question.
        path: PathBuf,
    },
    /// `flock` does not work there.
    #[error(
        "{}: the file system has no file locks ({source}), which keep two builds from doing the same work; put the store on \
         a local disk with `--store`",
        path.display()
    )]
    NoLocks {
        /// The lock file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The disk or the quota is full.
    #[error("no space left for {}; free some, or run `imgforge gc --max-size SIZE`", path.display())]
    Full {
        /// The file that did not fit.
        path: PathBuf,
    },
    /// Any other failure of the file system.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Bytes which are not those that the digest names.
    #[error("digest mismatch\n  expected: {expected}\n  received: {received} ({size} bytes)")]
    Mismatch {
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of what came.
        received: Digest,
        /// How much came, in bytes.
        size: u64,
    },
    /// The writer was given another number of bytes than its user says.
    #[error("{digest}: {written} bytes were written, {expected} were announced")]
    Size {
        /// The blob.
        digest: Digest,
        /// Bytes that its writer was given.
        written: u64,
        /// Bytes that there should be.
        expected: u64,
    },
    /// The blob is not in the store.
    #[error("{digest} is not in the store {}; run the build again to fetch or make it", root.display())]
    Missing {
        /// The blob.
        digest: Digest,
        /// The store.
        root: PathBuf,
    },
    /// The blob's bytes had changed; it was moved away.
    #[error(
        "{digest} was damaged on the disk and is moved to {}; run the build again to fetch or make it anew",
        moved_to.display()
    )]
    Damaged {
        /// The blob.
        digest: Digest,
        /// Where its bytes are now, until the next `imgforge gc`.
        moved_to: PathBuf,
    },
    /// A bucket or key that is no plain name.
    #[error("`{name}` can't name a record: expected letters, digits, `.`, `_`, `-`, not starting with `.`")]
    Name {
        /// The bucket or key.
        name: String,
    },
    /// The value of a record has no JSON form.
    #[error("the record {bucket}/{key} can't be written as JSON: {source}")]
    Record {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// Why not.
        source: serde_json::Error,
    },
}

impl StoreError {
    /// Sorts the system's error by what the user can do about it.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            io::ErrorKind::PermissionDenied => Self::Denied { path },
            _ => Self::Io { path, source },
        }
    }
}

/// Puts the path into an IO error.
pub(crate) trait At<T> {
    fn at(self, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, path: &Path) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::io(path, error.into()))
    }
}
