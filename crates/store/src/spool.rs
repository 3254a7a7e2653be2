//! Files that grow in `tmp/`.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::error::{At as _, StoreError};

/// A file in `tmp/` that grows, locked for as long as it is open, and removed when dropped unless it is kept.
#[derive(Debug)]
pub(crate) struct Spool {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) written: u64,
    /// Whether the file is to stay where it is: it was published, or is to be gone on with.
    pub(crate) is_kept: bool,
    /// Where the bytes begin that the disk has not been asked to write yet.
    pending: u64,
    /// Takes ranges to write, once the file is large enough to be worth a thread.
    write_behind: Option<SyncSender<Range>>,
}

/// Offset and length, in bytes.
type Range = (u64, u64);

/// How many bytes gather before the disk is asked to write them.
const WRITE_BEHIND: u64 = 8 << 20;

impl Spool {
    /// Takes over a file that stands at its end, which is at `written`.
    pub(crate) fn new(file: File, path: PathBuf, written: u64) -> Self {
        Self { file, path, written, is_kept: false, pending: written, write_behind: None }
    }

    /// [`Write::write_all`] with the path in the error.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        match self.write_all(bytes) {
            Ok(()) => Ok(()),
            Err(error) => Err(StoreError::io(&self.path, error)),
        }
    }

    /// Passes over bytes that were written by another descriptor and are on the disk.
    pub(crate) fn advance(&mut self, count: u64) -> io::Result<()> {
        self.written += count;
        self.pending = self.written;
        self.file.seek(SeekFrom::Start(self.written)).map(drop)
    }

    /// Empties the file.
    pub(crate) fn rewind(&mut self) -> Result<(), StoreError> {
        self.file.set_len(0).at(&self.path)?;
        self.file.seek(SeekFrom::Start(0)).at(&self.path)?;
        self.written = 0;
        self.pending = 0;
        Ok(())
    }

    /// Has the disk begin with what was written since the last time. When it is behind, the next range is larger.
    fn hint(&mut self) {
        if self.write_behind.is_none() {
            self.write_behind = spawn(&self.path);
        }
        let range = (self.pending, self.written - self.pending);
        if self.write_behind.as_ref().is_none_or(|sender| sender.try_send(range).is_ok()) {
            self.pending = self.written;
        }
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        if self.written - self.pending >= WRITE_BEHIND {
            self.hint();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if !self.is_kept {
            // What can't be removed is found unlocked, and removed, by the next collection.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Starts the thread that keeps the disk busy while the next bytes are made, so that the sync at the end has little
/// left to do. A thread, because the call waits when the disk has enough to do; and a descriptor of its own, because
/// a copy of the writer's would hold the writer's lock. All this is only a hint: where it fails, it is left out.
fn spawn(path: &Path) -> Option<SyncSender<Range>> {
    let file = File::open(path).ok()?;
    let (sender, ranges): (_, Receiver<Range>) = sync_channel(4);
    let work = move || {
        for (offset, len) in ranges {
            start_writing(&file, offset, len);
        }
    };
    std::thread::Builder::new().name("write-behind".to_owned()).spawn(work).ok()?;
    Some(sender)
}

/// Asks the kernel to begin writing a range to the disk.
fn start_writing(file: &File, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return };
    // SAFETY: the call takes an open descriptor, which `file` owns for its length, and no memory.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE);
    }
}
