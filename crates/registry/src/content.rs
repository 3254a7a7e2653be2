use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::PathBuf;

use imgforge_oci::{Blob, Digest};
use imgforge_store::{Store, StoreError};

/// Bytes that can be sent, and sent again from any place on.
#[expect(clippy::len_without_is_empty, reason = "a blob of no bytes is sent like any other")]
pub trait Content: Sync {
    /// How many there are.
    fn len(&self) -> u64;

    /// Reads from an offset on. It is read in large pieces: a buffer would only copy once more.
    ///
    /// # Errors
    /// The system's, for what is no longer there.
    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>>;
}

impl Content for &[u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(rest(self, offset)))
    }
}

impl Content for Blob {
    fn len(&self) -> u64 {
        self.descriptor().size
    }

    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(rest(self.bytes(), offset)))
    }
}

fn rest(bytes: &[u8], offset: u64) -> &[u8] {
    usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default()
}

/// A blob of the store, or of a layout: a file that does not change.
#[derive(Clone, Debug)]
pub struct FileContent {
    path: PathBuf,
    len: u64,
}

impl FileContent {
    /// Takes a file as it is.
    ///
    /// # Errors
    /// The system's, when its size can't be asked for.
    pub fn new(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let len = std::fs::metadata(&path)?.len();
        Ok(Self { path, len })
    }

    /// Takes a blob of the store, which checks that it is good. The caller holds a lease on it.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Damaged`].
    pub fn of_store(store: &Store, digest: &Digest) -> Result<Self, StoreError> {
        let path = store.blob_path(digest);
        let metadata = store.open_blob(digest)?.metadata();
        let len = metadata.map_err(|source| StoreError::Io { path: path.clone(), source })?.len();
        Ok(Self { path, len })
    }
}

impl Content for FileContent {
    fn len(&self) -> u64 {
        self.len
    }

    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &dyn Content, offset: u64, expected: &[u8]) {
        let mut bytes = Vec::new();
        content.open_at(offset).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!((bytes.as_slice(), content.len()), (expected, 9));
    }

    #[test]
    fn from_any_place_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blob");
        std::fs::write(&path, "some blob").unwrap();
        for (offset, expected) in [(0, "some blob"), (5, "blob"), (9, ""), (10, "")] {
            check(&b"some blob".as_slice(), offset, expected.as_bytes());
            check(&FileContent::new(&path).unwrap(), offset, expected.as_bytes());
        }
        assert!(FileContent::new(dir.path().join("none")).is_err());
    }
}
