//! The store: verified blobs, records about them, leases and garbage collection.
//!
//! # On disk
//! ```text
//! STORE/
//!   version                  the layout's version, `1`
//!   CACHEDIR.TAG             tells backup programs to leave the folder out
//!   blobs/sha256/<hex>       verified bytes, mode 0444, mtime 0
//!   stamps/<hex>             size, mtime and inode of the blob when it was last known to be good;
//!                            the stamp's own mtime is when the blob was last used
//!   layers/<format>/<key>    records: JSON, with the blobs that each needs; its mtime is its last use
//!   artifacts/<key>          likewise; any other folder of records may be added the same way
//!   unpacked/<format>/…      likewise, of layers that are unpacked: each stands for a folder in `rootfs/`, whose bytes
//!                            count when the store is to shrink
//!   rootfs/                  those folders, made and removed by `imgforge-sandbox`: see there
//!   indexes/                 lists of packages that the resolver has read: its own cache, which is neither checked
//!                            nor collected here, and may be deleted while no build runs
//!   locks/gate               held for microseconds: shared by a lookup or a commit, exclusive by a removal
//!   locks/lease-…            one per running build, locked for as long as that runs
//!   locks/work-…             one per piece of work under way, locked by whoever does it
//!   tmp/                     unfinished work; anything in it may be deleted
//!   tmp/<hex>.part           an interrupted download, resumed by the next one
//!   tmp/folder-…/            a folder that somebody works in, locked for as long as that takes
//! ```
//!
//! # Killed at any point
//! A blob is written in `tmp/`, synced, and renamed into place only after its digest was compared, so the name of a
//! blob never stands for half of its bytes, power failure included: the data is on the disk before the name is.
//! Whether the *name* survives a power failure matters to nobody's correctness (a missing blob is made again), so the
//! folder is synced once per record or [`Store::sync`], not once per blob. Records and stamps are not synced at all:
//! a record carries its own checksum and counts as absent when that fails, and a stamp that is missing or torn costs
//! one hash of its blob. Nothing else is kept, so there is nothing to repair.
//!
//! # Two at once
//! Every lock is a `flock` on a file, which holds between threads as between processes, and which the kernel releases
//! when a process dies. Lock files are deleted by their holders; whoever gets a lock on a file that is no longer at
//! its path opens it anew. Locks spare work and keep the collector away; the bytes are right without them, because
//! blobs are named by content and appear atomically.
//!
//! **Order.** The gate is never held while waiting for anything. The holder of a [`Partial`] takes no other lock, so
//! a wait for one ends. Work locks are the ones that can deadlock: take those that are free with
//! [`Store::try_work_lock`], finish and release them, and only then, *holding none*, wait with [`Store::work_lock`] for
//! what somebody else is doing. Don't wait on a rayon worker: it may have been lent by a job that holds a lock.
//!
//! # What the collector may take
//! See [`Store::gc`] for the argument that it never takes what a running build needs.
//!
//! # What it does not do
//! It knows nothing of what a blob means, fetches nothing, and reads neither the environment nor a clock: uses are
//! dated by the file system, and the collector is told what time it is.

mod blob;
mod direct;
mod error;
mod folder;
mod gc;
mod lock;
mod partial;
mod record;
mod spool;
mod stamp;
mod verify;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use imgforge_oci::Digest;

pub use blob::{BlobState, BlobWriter, HashingWriter};
pub use error::StoreError;
pub use folder::Folder;
pub use gc::{GcPolicy, GcReport};
pub use lock::{Lease, WorkLock};
pub use partial::{Finished, Partial};
pub use verify::{Damaged, VerifyProgress};

use error::At as _;

/// The version of the layout above. A store of another version is refused, not converted: it is a cache.
const VERSION: &str = "1";

/// What is in the folder beside records, and which no bucket of them may be called.
const RESERVED: [&str; 8] =
    ["version", "CACHEDIR.TAG", "blobs", "stamps", "indexes", "rootfs", "locks", "tmp"];

/// An open store. Clones share it; threads may use one at the same time.
#[derive(Clone, Debug)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    /// Makes names in `tmp/` and `locks/` differ within the process.
    serial: AtomicU64,
    /// Whether a blob was renamed into place since its folder was last synced.
    unsynced: AtomicBool,
}

impl Store {
    /// Opens the store in a folder and creates what is not there yet.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`] when the folder holds something else, [`StoreError::Version`] for another version of
    /// the layout, [`StoreError::ReadOnly`], [`StoreError::Denied`], [`StoreError::NoLocks`] where the file system
    /// cannot hold a store.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        fs::create_dir_all(&root).at(&root)?;
        let version = root.join("version");
        let is_new = match fs::read_to_string(&version) {
            Ok(text) if text.trim() == VERSION => false,
            Ok(text) => {
                let found = text.trim().chars().take(40).collect();
                return Err(StoreError::Version { root, found, expected: VERSION });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(StoreError::io(&version, error)),
        };
        if is_new {
            refuse_foreign_folder(&root)?;
        }
        for folder in ["blobs/sha256", "stamps", "locks", "tmp"] {
            let folder = root.join(folder);
            if !folder.is_dir() {
                fs::create_dir_all(&folder).at(&folder)?;
            }
        }
        let store =
            Self(Arc::new(Shared { root, serial: AtomicU64::new(0), unsynced: AtomicBool::new(false) }));
        drop(store.gate_shared()?);
        if is_new {
            let tag = store.root().join("CACHEDIR.TAG");
            fs::write(
                &tag,
                "Signature: 8a477f597d28d172789f06886806bc55\n# The store of imgforge: a cache.\n",
            )
            .at(&tag)?;
            let (mut file, draft) = store.create_tmp()?;
            file.write_all(format!("{VERSION}\n").as_bytes()).at(&draft)?;
            fs::rename(&draft, &version).at(&version)?;
        }
        Ok(store)
    }

    /// The folder that the store is in.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Where the blob is, or would be. The path may be hard-linked elsewhere and read, never written: use it only
    /// after [`check`](Self::check) or [`contains`](Self::contains), under a [`Lease`].
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blob_folder().join(digest.hex())
    }

    /// Makes the names of all blobs committed so far survive a power failure. Cheap when there was no commit.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the disk fails.
    pub fn sync(&self) -> Result<(), StoreError> {
        if self.0.unsynced.swap(false, Ordering::AcqRel) {
            let folder = self.blob_folder();
            let synced = fs::File::open(&folder).and_then(|folder| folder.sync_all());
            if synced.is_err() {
                self.0.unsynced.store(true, Ordering::Release);
            }
            synced.at(&folder)?;
        }
        Ok(())
    }

    fn blob_folder(&self) -> PathBuf {
        self.root().join("blobs/sha256")
    }

    fn stamp_path(&self, digest: &Digest) -> PathBuf {
        self.root().join("stamps").join(digest.hex())
    }

    fn tmp(&self) -> PathBuf {
        self.root().join("tmp")
    }

    /// A name that nobody else in this process gets, and hardly anybody in another.
    fn unique_name(&self, kind: &str) -> String {
        let serial = self.0.serial.fetch_add(1, Ordering::Relaxed);
        format!("{kind}-{}-{serial}", std::process::id())
    }

    /// Creates a file in `tmp/` which the collector leaves alone for as long as it is open.
    fn create_tmp(&self) -> Result<(fs::File, PathBuf), StoreError> {
        let folder = self.tmp();
        lock::create_locked(|| folder.join(self.unique_name("new")))
    }
}

/// Refuses a folder that has files and is no store, so that a mistyped `--store ~` doesn't spread one over it.
fn refuse_foreign_folder(root: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(root).at(root)? {
        let name = entry.at(root)?.file_name();
        if !RESERVED.iter().any(|known| name == *known) && name != "lost+found" {
            return Err(StoreError::NotAStore {
                root: root.to_owned(),
                found: name.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(())
}
