//! Blobs: writing, looking up, and noticing damage.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use imgforge_oci::{Digest, Hasher};
use memmap2::MmapMut;

use crate::Store;
use crate::direct::{BLOCK, DirectWriter};
use crate::error::{At as _, StoreError};
use crate::spool::Spool;
use crate::stamp::{Stamp, touch};

/// What [`Store::check`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobState {
    /// The blob is there and is what its digest says.
    Intact,
    /// There is none.
    Missing,
    /// There was one with other bytes; it is no longer in its place.
    Damaged {
        /// The digest of the bytes found; none when they could not be read.
        received: Option<Digest>,
        /// Where they are now, until the next collection.
        moved_to: PathBuf,
    },
}

impl Store {
    /// Whether the blob is there and good. Counts as a use.
    ///
    /// Costs a few microseconds while the blob's stamp holds, and one hash of it otherwise. A damaged blob is moved to
    /// `tmp/`, so that it is fetched or made again.
    ///
    /// # Errors
    /// As for any reading and writing in the store; damage is no error.
    pub fn check(&self, digest: &Digest) -> Result<BlobState, StoreError> {
        let path = self.blob_path(digest);
        {
            let _gate = self.gate_shared()?;
            match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_file() && self.stamp(digest) == Some(Stamp::of(&metadata)) => {
                    touch(&self.stamp_path(digest))?;
                    return Ok(BlobState::Intact);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BlobState::Missing),
                Err(error) => return Err(StoreError::io(&path, error)),
            }
        }
        self.rehash(digest, &mut |_| {})
    }

    /// Whether the blob is there and good: [`check`](Self::check) for those who make a damaged blob anew anyway.
    ///
    /// # Errors
    /// As for [`check`](Self::check).
    pub fn contains(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.check(digest)? == BlobState::Intact)
    }

    /// Opens a blob for reading, after a [`check`](Self::check).
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Damaged`], or as for any reading of the store.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        match self.check(digest)? {
            BlobState::Intact => {
                let path = self.blob_path(digest);
                File::open(&path).at(&path)
            }
            BlobState::Missing => Err(StoreError::Missing { digest: *digest, root: self.root().to_owned() }),
            BlobState::Damaged { moved_to, .. } => Err(StoreError::Damaged { digest: *digest, moved_to }),
        }
    }

    /// Stores bytes that are in memory.
    ///
    /// # Errors
    /// As for any writing to the store.
    pub fn insert(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if !self.contains(&digest)? {
            let mut writer = self.writer()?;
            writer.write_all(bytes).at(&self.tmp())?;
            writer.commit(digest, bytes.len() as u64)?;
        }
        Ok(digest)
    }

    /// Begins a blob whose writer hashes what it writes on its way.
    ///
    /// # Errors
    /// As for any writing to the store.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        let (file, path) = self.create_tmp()?;
        Ok(BlobWriter {
            store: self.clone(),
            direct: None,
            direct_len: 0,
            block: None,
            spool: Spool::new(file, path, 0),
        })
    }

    /// Begins a blob that is hashed as it is written.
    ///
    /// # Errors
    /// As for any writing to the store.
    pub fn hashing_writer(&self) -> Result<HashingWriter, StoreError> {
        Ok(HashingWriter { writer: self.writer()?, hasher: Hasher::new() })
    }

    /// Reads the whole blob, whatever its stamp says, and stamps or moves it. `on_bytes` learns of bytes read.
    pub(crate) fn rehash(
        &self,
        digest: &Digest,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<BlobState, StoreError> {
        let path = self.blob_path(digest);
        let options = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).clone();
        let file = match options.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BlobState::Missing),
            // A link is no blob, wherever it points. There are no bytes of its own to set aside.
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                return self.quarantine(digest, None, None);
            }
            Err(error) => return Err(StoreError::io(&path, error)),
        };
        let metadata = file.metadata().at(&path)?;
        if !metadata.is_file() {
            return self.quarantine(digest, Some(metadata.ino()), None);
        }
        // Sealed before it is read, so that a write during the reading shows in the comparison after it.
        let stamp = Stamp::seal(&file).at(&path)?;
        let received = hash(&file, on_bytes).ok();
        if received != Some(*digest) || Stamp::of(&file.metadata().at(&path)?) != stamp {
            return self.quarantine(digest, Some(metadata.ino()), received);
        }
        // A store that was copied here may not be on the disk yet, and a stamp must not be there before its blob.
        file.sync_all().at(&path)?;
        let _gate = self.gate_shared()?;
        // Written only when it is news, because its date is that of the last use, and verification is none.
        if self.stamp(digest) != Some(stamp) {
            self.put_stamp(digest, stamp)?;
        }
        Ok(BlobState::Intact)
    }

    /// Moves a bad blob away, unless somebody has put another file in its place meanwhile.
    fn quarantine(
        &self,
        digest: &Digest,
        inode: Option<u64>,
        received: Option<Digest>,
    ) -> Result<BlobState, StoreError> {
        let path = self.blob_path(digest);
        let moved_to = self.tmp().join(self.unique_name(&format!("damaged-{}", digest.hex())));
        let _gate = self.gate_exclusive()?;
        match fs::symlink_metadata(&path) {
            Ok(metadata) if inode.is_some_and(|inode| inode != metadata.ino()) => {}
            Ok(metadata) => {
                if metadata.is_symlink() {
                    fs::remove_file(&path).at(&path)?;
                } else {
                    fs::rename(&path, &moved_to).at(&path)?;
                }
                let _ = fs::remove_file(self.stamp_path(digest));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io(&path, error)),
        }
        Ok(BlobState::Damaged { received, moved_to })
    }

    /// Gives a finished file in `tmp/` its place. The caller has compared its digest.
    pub(crate) fn publish(&self, spool: &mut Spool, digest: &Digest) -> Result<(), StoreError> {
        let stamp = Stamp::seal(&spool.file).at(&spool.path)?;
        spool.file.sync_all().at(&spool.path)?;
        let path = self.blob_path(digest);
        let _gate = self.gate_shared()?;
        fs::rename(&spool.path, &path).at(&path)?;
        spool.is_kept = true;
        self.0.unsynced.store(true, Ordering::Release);
        // Without a stamp the blob is hashed at its next use, so a full disk here is no failure.
        match self.put_stamp(digest, stamp) {
            Err(StoreError::Full { .. }) => Ok(()),
            result => result,
        }
    }
}

/// A blob being written, by somebody who knows its digest at the end. Dropped without a commit, it leaves nothing.
///
/// What is written gathers in blocks, which go to the disk while the next ones are taken. An error of the disk is told by
/// a later write, or by the commit.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    /// From the first full block on, where the file system can. Dropped, and waited for, before the file is.
    direct: Option<DirectWriter>,
    /// The block that is being filled, and how far it is.
    block: Option<(MmapMut, usize)>,
    /// Bytes that went past the spool.
    direct_len: u64,
    spool: Spool,
}

impl BlobWriter {
    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.spool.written + self.direct_len + self.block.as_ref().map_or(0, |(_, filled)| *filled as u64)
    }

    /// Puts the blob into the store. `digest` and `size` must have been computed from the very bytes that were
    /// written here; if the blob is there already, what was written is dropped.
    ///
    /// # Errors
    /// [`StoreError::Size`] when another number of bytes was written, or as for any writing to the store.
    pub fn commit(mut self, digest: Digest, size: u64) -> Result<(), StoreError> {
        if size != self.written() {
            return Err(StoreError::Size { digest, written: self.written(), expected: size });
        }
        if self.store.contains(&digest)? {
            return Ok(());
        }
        self.settle().at(&self.spool.path)?;
        self.store.publish(&mut self.spool, &digest)
    }

    /// Hands a full block on.
    fn write_block(&mut self, block: MmapMut) -> io::Result<()> {
        if self.direct.is_none() && self.spool.written == 0 {
            self.direct = DirectWriter::open(&self.spool.path);
        }
        match &mut self.direct {
            Some(direct) => {
                self.direct_len += block.len() as u64;
                direct.write(block)
            }
            None => {
                self.spool.write_all(&block)?;
                self.block = Some((block, 0));
                Ok(())
            }
        }
    }

    /// Has everything in the file: the blocks that are on their way, and the last one, which is no whole block.
    fn settle(&mut self) -> io::Result<()> {
        if let Some(direct) = &mut self.direct {
            direct.finish()?;
            self.spool.advance(std::mem::take(&mut self.direct_len))?;
        }
        match self.block.take() {
            Some((block, filled)) => self.spool.write_all(block.get(..filled).unwrap_or(&block)),
            None => Ok(()),
        }
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (mut block, filled) = match (self.block.take(), &mut self.direct) {
            (Some(block), _) => block,
            (None, Some(direct)) => (direct.block()?, 0),
            (None, None) => (MmapMut::map_anon(BLOCK)?, 0),
        };
        let count = bytes.len().min(block.len() - filled);
        let (source, target) = (bytes.get(..count), block.get_mut(filled..filled + count));
        if let (Some(source), Some(target)) = (source, target) {
            target.copy_from_slice(source);
        }
        if filled + count == block.len() {
            self.write_block(block)?;
        } else {
            self.block = Some((block, filled + count));
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A blob being written and hashed. Dropped without a commit, it leaves nothing.
pub struct HashingWriter {
    writer: BlobWriter,
    hasher: Hasher,
}

impl HashingWriter {
    /// Puts the blob into the store, under the digest of what was written.
    ///
    /// # Errors
    /// As for any writing to the store.
    pub fn commit(self) -> Result<Digest, StoreError> {
        let size = self.hasher.len();
        let digest = self.hasher.finish();
        self.writer.commit(digest, size)?;
        Ok(digest)
    }

    /// Puts the blob into the store if it is the one expected.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] when it is not, or as for any writing to the store.
    pub fn commit_expecting(self, expected: &Digest) -> Result<(), StoreError> {
        let size = self.hasher.len();
        let received = self.hasher.finish();
        if received != *expected {
            return Err(StoreError::Mismatch { expected: *expected, received, size });
        }
        self.writer.commit(received, size)
    }
}

impl Write for HashingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hashes a file from its beginning.
fn hash(mut file: &File, on_bytes: &mut dyn FnMut(u64)) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => {
                hasher.update(buffer.get(..count).unwrap_or(&buffer));
                on_bytes(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
