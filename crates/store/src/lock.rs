//! Locks: the gate, leases and work locks, all `flock`s.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use imgforge_oci::Digest;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::Store;
use crate::error::{At as _, StoreError};

/// Keeps the collector from what a build uses: see [`Store::gc`]. Released when dropped.
#[derive(Debug)]
#[must_use = "the lease ends when it is dropped"]
pub struct Lease {
    path: PathBuf,
    _file: File,
}

/// The right to do one piece of work, held by one thread of one process. Released when dropped.
#[derive(Debug)]
#[must_use = "the lock ends when it is dropped"]
pub struct WorkLock {
    path: PathBuf,
    _file: File,
}

/// Held across one lookup, commit or removal; released when dropped.
pub(crate) struct Gate(#[expect(dead_code, reason = "closing the file releases the lock")] File);

impl Store {
    /// Declares that a build runs from now on. Hold it from before the first lookup until the output is written.
    ///
    /// # Errors
    /// As for any writing to the store.
    pub fn lease(&self) -> Result<Lease, StoreError> {
        let folder = self.root().join("locks");
        let (file, path) = create_locked(|| folder.join(self.unique_name("lease")))?;
        Ok(Lease { path, _file: file })
    }

    /// Waits until nobody else does the work of this name, then holds the right to do it. Look afterwards whether the
    /// result is there by now. `on_wait` is called once if there is a wait, with the process ID of who has it.
    ///
    /// Call it only while holding no other work lock: see "Order" in the crate's documentation.
    ///
    /// # Errors
    /// As for any writing to the store.
    pub fn work_lock(&self, name: &str, on_wait: impl FnOnce(Option<u32>)) -> Result<WorkLock, StoreError> {
        let path = self.work_path(name);
        let file = lock(&path, on_wait)?;
        WorkLock::new(file, path, name)
    }

    /// Takes the right to do the work of this name if nobody has it.
    ///
    /// # Errors
    /// As for any writing to the store.
    pub fn try_work_lock(&self, name: &str) -> Result<Option<WorkLock>, StoreError> {
        let path = self.work_path(name);
        match try_lock(&path)? {
            Some(file) => Ok(Some(WorkLock::new(file, path, name)?)),
            None => Ok(None),
        }
    }

    /// The lock file of a piece of work; any text is a name.
    fn work_path(&self, name: &str) -> PathBuf {
        self.root().join("locks").join(format!("work-{}", Digest::of(name.as_bytes()).hex()))
    }

    /// Lets lookups and commits pass, and keeps removals out.
    pub(crate) fn gate_shared(&self) -> Result<Gate, StoreError> {
        self.gate(FlockOperation::LockShared)
    }

    /// Keeps lookups, commits and other removals out.
    pub(crate) fn gate_exclusive(&self) -> Result<Gate, StoreError> {
        self.gate(FlockOperation::LockExclusive)
    }

    /// Opens the gate's file anew each time: a lock belongs to the open file, so that two threads must not share one.
    fn gate(&self, operation: FlockOperation) -> Result<Gate, StoreError> {
        let path = self.root().join("locks/gate");
        let file = open(&path)?;
        wait(&file, operation, &path)?;
        Ok(Gate(file))
    }

    /// When the oldest lease that is still held began, and the files of those that are not held any more.
    pub(crate) fn live_leases(&self) -> Result<(Option<SystemTime>, Vec<PathBuf>), StoreError> {
        let folder = self.root().join("locks");
        let mut oldest: Option<SystemTime> = None;
        let mut dead = Vec::new();
        for entry in fs::read_dir(&folder).at(&folder)? {
            let path = entry.at(&folder)?.path();
            if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lease-")) {
                continue;
            }
            let Some(file) = open_existing(&path)? else { continue };
            if is_free(&file, &path)? {
                dead.push(path);
            } else {
                let began = file.metadata().and_then(|metadata| metadata.modified()).at(&path)?;
                oldest = Some(oldest.map_or(began, |oldest| oldest.min(began)));
            }
        }
        Ok((oldest, dead))
    }
}

impl WorkLock {
    /// Notes in the file who does what, for [`Store::work_lock`] of others and for curious people.
    fn new(mut file: File, path: PathBuf, name: &str) -> Result<Self, StoreError> {
        file.set_len(0).at(&path)?;
        file.write_all(format!("{} {name}\n", std::process::id()).as_bytes()).at(&path)?;
        Ok(Self { path, _file: file })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What can't be removed is found unlocked, and removed, by the next collection.
        let _ = fs::remove_file(&self.path);
    }
}

impl Drop for WorkLock {
    fn drop(&mut self) {
        // Removed while locked: whoever waits on this file sees afterwards that it is gone from its path.
        let _ = fs::remove_file(&self.path);
    }
}

/// Creates a new file, locked. Its name comes from `name`, which is asked again when it exists already.
pub(crate) fn create_locked(name: impl Fn() -> PathBuf) -> Result<(File, PathBuf), StoreError> {
    loop {
        let path = name();
        let file = match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(StoreError::io(&path, error)),
        };
        wait(&file, FlockOperation::LockExclusive, &path)?;
        // Between its creation and the lock, the collector may have taken it for somebody's remains.
        if is_at(&file, &path)? {
            return Ok((file, path));
        }
    }
}

/// Opens or creates a file and locks it, waiting for its holder if need be.
pub(crate) fn lock(path: &Path, on_wait: impl FnOnce(Option<u32>)) -> Result<File, StoreError> {
    let mut on_wait = Some(on_wait);
    loop {
        let mut file = open(path)?;
        if !attempt(&file, path)? {
            if let Some(on_wait) = on_wait.take() {
                on_wait(holder(&mut file));
            }
            wait(&file, FlockOperation::LockExclusive, path)?;
        }
        if is_at(&file, path)? {
            return Ok(file);
        }
    }
}

/// Opens or creates a file and locks it, unless somebody else has.
pub(crate) fn try_lock(path: &Path) -> Result<Option<File>, StoreError> {
    loop {
        let file = open(path)?;
        if !attempt(&file, path)? {
            return Ok(None);
        }
        if is_at(&file, path)? {
            return Ok(Some(file));
        }
    }
}

/// Whether nobody holds a lock on the file.
pub(crate) fn is_free(file: &File, path: &Path) -> Result<bool, StoreError> {
    attempt(file, path)
}

/// Opens a file to look at its lock; none when it is gone, or is a link, which nobody here makes.
pub(crate) fn open_existing(path: &Path) -> Result<Option<File>, StoreError> {
    match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => Ok(None),
        Err(error) => Err(StoreError::io(path, error)),
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).at(path)
}

pub(crate) fn attempt(file: &File, path: &Path) -> Result<bool, StoreError> {
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(lock_error(error, path)),
        }
    }
}

fn wait(file: &File, operation: FlockOperation, path: &Path) -> Result<(), StoreError> {
    loop {
        match flock(file, operation) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(lock_error(error, path)),
        }
    }
}

fn lock_error(error: Errno, path: &Path) -> StoreError {
    match error {
        Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL => {
            StoreError::NoLocks { path: path.to_owned(), source: error.into() }
        }
        _ => StoreError::io(path, error.into()),
    }
}

/// Whether the open file is still the one at the path.
pub(crate) fn is_at(file: &File, path: &Path) -> Result<bool, StoreError> {
    let ours = file.metadata().at(path)?;
    match fs::symlink_metadata(path) {
        Ok(theirs) => Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io(path, error)),
    }
}

/// The process ID in a lock file, if it is there yet.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(64).read_to_string(&mut text).ok()?;
    text.split_whitespace().next()?.parse().ok()
}
