//! Whole blocks on their way to the disk, past the page cache.
//!
//! A layer is written once, is often larger than the memory, and is seldom read on this machine soon after. To copy it
//! into the page cache costs more processor time than to hash it, and pushes out the inputs, which are read again. So
//! its blocks go to the disk directly, on a thread of their own, while the next ones are made.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use memmap2::MmapMut;

/// Bytes of a block. A multiple of any disk's sector and of the page, as its length, its place in the file and its
/// address in memory have to be.
pub(crate) const BLOCK: usize = 1 << 20;

/// Blocks of one writer: one is being filled, one is being written, and two absorb that either takes longer at times.
const BLOCKS: usize = 4;

/// Writes blocks in order, from the beginning of a file.
#[derive(Debug)]
pub(crate) struct DirectWriter {
    /// Blocks to write. None after [`finish`](Self::finish).
    full: Option<SyncSender<MmapMut>>,
    /// Blocks that were written.
    empty: Receiver<MmapMut>,
    /// Blocks made so far.
    made: usize,
    /// Whether a block was lost, which must not be forgotten when its error was told.
    has_failed: bool,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl DirectWriter {
    /// Opens the file a second time, for writing past the page cache; none where the file system can't.
    pub(crate) fn open(path: &Path) -> Option<Self> {
        let direct = File::options().write(true).custom_flags(libc::O_DIRECT).open(path).ok()?;
        let cached = File::options().write(true).open(path).ok()?;
        let (full, blocks) = sync_channel(BLOCKS);
        let (give_back, empty) = sync_channel(BLOCKS);
        let work = move || write_all(&direct, &cached, &blocks, &give_back);
        let thread = std::thread::Builder::new().name("write".to_owned()).spawn(work).ok()?;
        Some(Self { full: Some(full), empty, made: 0, has_failed: false, thread: Some(thread) })
    }

    /// A block to fill; waits for one that was written when there are enough.
    pub(crate) fn block(&mut self) -> io::Result<MmapMut> {
        if let Ok(block) = self.empty.try_recv() {
            return Ok(block);
        }
        if self.made < BLOCKS {
            self.made += 1;
            return MmapMut::map_anon(BLOCK);
        }
        match self.empty.recv() {
            Ok(block) => Ok(block),
            Err(_) => Err(self.failure()),
        }
    }

    /// Has a full block written.
    pub(crate) fn write(&mut self, block: MmapMut) -> io::Result<()> {
        match self.full.as_ref().map(|full| full.send(block)) {
            Some(Ok(())) => Ok(()),
            _ => Err(self.failure()),
        }
    }

    /// Waits until all blocks are written.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.full = None;
        let result = match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None if self.has_failed => Err(io::Error::other("an earlier block could not be written")),
            None => Ok(()),
        };
        self.has_failed |= result.is_err();
        result
    }

    /// Why the thread has stopped.
    fn failure(&mut self) -> io::Error {
        match self.finish() {
            Err(error) => error,
            Ok(()) => io::Error::other("the writing thread has stopped"),
        }
    }
}

impl Drop for DirectWriter {
    fn drop(&mut self) {
        // The file is removed next, or given its name: nobody may still be writing to it.
        let _ = self.finish();
    }
}

fn write_all(
    direct: &File,
    cached: &File,
    blocks: &Receiver<MmapMut>,
    give_back: &SyncSender<MmapMut>,
) -> io::Result<()> {
    let mut offset = 0;
    for block in blocks {
        match direct.write_all_at(&block, offset) {
            // Some file systems take the flag and then refuse the write.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                cached.write_all_at(&block, offset)?
            }
            result => result?,
        }
        offset += block.len() as u64;
        // Blocks that nobody is going to fill any more are freed.
        let _ = give_back.try_send(block);
    }
    Ok(())
}
