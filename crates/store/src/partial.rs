//! Downloads that survive interruption.

use std::fs;
use std::io::{self, Read as _};

use imgforge_oci::{Digest, Hasher};

use crate::error::StoreError;
use crate::spool::Spool;
use crate::{Store, lock};

/// A blob that arrives piece by piece, and stays in `tmp/` when that is interrupted.
///
/// Whoever has it is alone with it: a second process or thread that wants the same blob waits in [`Store::partial`],
/// and then finds it in the store or goes on where the first one stopped. Its holder must take no other lock.
pub struct Partial {
    store: Store,
    digest: Digest,
    spool: Spool,
    hasher: Hasher,
}

/// What became of a download.
pub enum Finished {
    /// The blob is in the store.
    Stored,
    /// It was not what it should have been.
    Wrong {
        /// The same partial, empty.
        partial: Partial,
        /// The digest of what came.
        received: Digest,
        /// How much came, in bytes.
        size: u64,
    },
}

impl Store {
    /// Begins or goes on with a download; none when the blob is in the store (by now). `on_wait` is called once if
    /// somebody else is at it.
    ///
    /// What an earlier run left is read and hashed first, so that [`Partial::finish`] has a digest at once.
    ///
    /// # Errors
    /// As for any writing to the store.
    pub fn partial(&self, digest: &Digest, on_wait: impl FnOnce()) -> Result<Option<Partial>, StoreError> {
        if self.contains(digest)? {
            return Ok(None);
        }
        let path = self.tmp().join(format!("{}.part", digest.hex()));
        let mut file = lock::lock(&path, |_| on_wait())?;
        if self.contains(digest)? {
            let _ = fs::remove_file(&path);
            return Ok(None);
        }
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => hasher.update(buffer.get(..count).unwrap_or(&buffer)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StoreError::io(&path, error)),
            }
        }
        let spool = Spool::new(file, path, hasher.len());
        Ok(Some(Partial { store: self.clone(), digest: *digest, spool, hasher }))
    }
}

impl Partial {
    /// Bytes that are there: where a range request begins.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a length here is an offset, and zero is one like any other"
    )]
    pub fn len(&self) -> u64 {
        self.spool.written
    }

    /// Adds the next bytes.
    ///
    /// # Errors
    /// As for any writing to the store. What was written before stays.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let before = self.spool.written;
        let result = self.spool.append(bytes);
        // Even a write that failed may have put some bytes down, and the hash must follow the file.
        let count = usize::try_from(self.spool.written - before).unwrap_or(usize::MAX);
        self.hasher.update(bytes.get(..count).unwrap_or(bytes));
        result
    }

    /// Throws away what is there and begins anew.
    ///
    /// # Errors
    /// As for any writing to the store.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.hasher = Hasher::new();
        self.spool.rewind()
    }

    /// Puts the blob into the store if it is what it should be. Otherwise what came is thrown away, and the partial
    /// is handed back empty, so that another source can be tried without letting go of the lock.
    ///
    /// # Errors
    /// As for any writing to the store; other bytes are no error.
    pub fn finish(mut self) -> Result<Finished, StoreError> {
        let size = self.hasher.len();
        let received = self.hasher.clone().finish();
        if received != self.digest {
            self.restart()?;
            return Ok(Finished::Wrong { partial: self, received, size });
        }
        self.store.publish(&mut self.spool, &self.digest)?;
        Ok(Finished::Stored)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.spool.written > 0 {
            self.spool.is_kept = true;
        }
    }
}
