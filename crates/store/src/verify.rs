//! Verification: everything is read again.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use imgforge_oci::Digest;
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use crate::error::{At as _, StoreError};
use crate::record::record_needs;
use crate::{BlobState, Store};

/// Something that [`Store::verify`] found broken, and removed from its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damaged {
    /// A blob with other bytes than its digest says.
    Blob {
        /// What it is called.
        digest: Digest,
        /// The digest of the bytes found; none when they could not be read.
        received: Option<Digest>,
        /// Where they are now, until the next collection.
        moved_to: PathBuf,
    },
    /// A record that fails its own checksum.
    Record {
        /// Its `bucket/key`.
        name: String,
    },
}

/// How far [`Store::verify`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Bytes read so far.
    pub done: u64,
    /// Bytes to read in all.
    pub total: u64,
}

impl Store {
    /// Hashes every blob, whatever its stamp says, and checks every record; in parallel, on rayon's current pool.
    ///
    /// Damaged blobs are moved to `tmp/` and damaged records are removed, so that the next build makes them again.
    /// Returns them, blobs by digest first, then records by name. `on_progress` is called from several threads.
    ///
    /// # Errors
    /// As for any reading and writing in the store; damage is no error.
    pub fn verify(&self, on_progress: &(dyn Fn(VerifyProgress) + Sync)) -> Result<Vec<Damaged>, StoreError> {
        let blobs = self.blobs()?;
        let total = blobs.values().sum();
        let done = AtomicU64::new(0);
        let digests: Vec<_> = blobs.into_keys().collect();
        let states: Vec<_> = digests
            .par_iter()
            .map(|digest| {
                self.rehash(digest, &mut |bytes| {
                    let done = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
                    on_progress(VerifyProgress { done, total });
                })
            })
            .collect::<Result<_, _>>()?;
        let mut damaged = Vec::new();
        for (digest, state) in digests.into_iter().zip(states) {
            if let BlobState::Damaged { received, moved_to } = state {
                damaged.push(Damaged::Blob { digest, received, moved_to });
            }
        }
        let mut records = self.record_files()?;
        records.sort();
        for (name, path) in records {
            if record_needs(&path).is_none() && path.exists() {
                fs::remove_file(&path).at(&path)?;
                damaged.push(Damaged::Record { name });
            }
        }
        Ok(damaged)
    }
}
