//! Folders in `tmp/`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::{At as _, StoreError};
use crate::{Store, lock};

/// What names of folders in `tmp/` begin with.
const PREFIX: &str = "folder";

/// A folder in `tmp/`, for its owner alone (mode 0700) and locked for as long as this lives.
///
/// It stays when this is dropped: what is in it may belong to ids that only its maker can remove. A folder whose maker
/// died is handed out by [`Store::abandoned_folders`].
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it another place in the store, for good; folders above are made. What is in it must be on the disk.
    ///
    /// # Errors
    /// As for any writing to the store; also when there is something already.
    pub fn persist(self, path: &Path) -> Result<(), StoreError> {
        let parent = path.parent().unwrap_or(path);
        fs::create_dir_all(parent).at(parent)?;
        fs::rename(&self.path, path).at(path)
    }
}

impl Store {
    /// Makes a folder in `tmp/`.
    ///
    /// # Errors
    /// As for any writing to the store.
    pub fn folder(&self) -> Result<Folder, StoreError> {
        loop {
            let path = self.tmp().join(self.unique_name(PREFIX));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(StoreError::io(&path, error)),
            }
            // Between its creation and the lock, somebody may have taken it for remains, and removed it.
            if let Some(folder) = take(path)? {
                return Ok(folder);
            }
        }
    }

    /// Folders in `tmp/` whose makers are no more, locked by the caller, who is to remove them.
    ///
    /// # Errors
    /// As for any reading of the store.
    pub fn abandoned_folders(&self) -> Result<Vec<Folder>, StoreError> {
        let tmp = self.tmp();
        let mut folders = Vec::new();
        for entry in fs::read_dir(&tmp).at(&tmp)? {
            let entry = entry.at(&tmp)?;
            let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
            if is_ours && let Some(folder) = take(entry.path())? {
                folders.push(folder);
            }
        }
        Ok(folders)
    }
}

/// Locks a folder; none when it is gone or somebody else has it.
fn take(path: PathBuf) -> Result<Option<Folder>, StoreError> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io(&path, error)),
    };
    let is_free = lock::attempt(&file, &path)?;
    let is_ours = is_free && lock::is_at(&file, &path)?;
    Ok(is_ours.then_some(Folder { path, _lock: file }))
}
