use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use fs_err as fs;

/// An open archive that is read at any offset, by several threads at once.
///
/// Positioned reads rather than a memory map: a map counts into the process's resident memory, and a file that shrinks
/// under it is a signal instead of an error.
#[derive(Debug)]
pub struct Source {
    bytes: Backing,
    path: PathBuf,
    len: u64,
}

/// Where a source's bytes are.
#[derive(Debug)]
enum Backing {
    File(std::fs::File),
    /// What was inflated and is too small to be worth a file.
    Memory(Vec<u8>),
}

impl Source {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// The system's error, with the path.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let file = fs::File::open(&path)?;
        let len = file.metadata()?.len();
        Ok(Self { bytes: Backing::File(file.into_parts().0), path, len })
    }

    /// Takes a file that is open already, such as an unlinked scratch file; `path` is for messages.
    ///
    /// # Errors
    /// The system's error on asking for the length.
    pub fn from_file(file: std::fs::File, path: impl Into<PathBuf>) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { bytes: Backing::File(file), path: path.into(), len })
    }

    /// Takes bytes that are in memory; `path` is for messages.
    pub fn from_bytes(bytes: Vec<u8>, path: impl Into<PathBuf>) -> Self {
        let len = bytes.len() as u64;
        Self { bytes: Backing::Memory(bytes), path: path.into(), len }
    }

    /// A range as a stream; reading beyond the file's end is an error.
    pub const fn range(&self, offset: u64, len: u64) -> Range<'_> {
        Range { source: self, at: offset, left: len }
    }

    /// Bytes in the file when it was opened.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file was empty when it was opened.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads `len` bytes from `offset`, without filling a buffer with zeros first.
    ///
    /// # Errors
    /// As for [`read_exact_at`](Self::read_exact_at).
    pub fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_into(&mut bytes, offset, len)?;
        Ok(bytes)
    }

    /// Appends `len` bytes from `offset`, without filling the buffer with zeros first.
    fn read_into(&self, bytes: &mut Vec<u8>, offset: u64, len: usize) -> io::Result<()> {
        let file = match &self.bytes {
            Backing::File(file) => file,
            Backing::Memory(memory) => {
                bytes.extend_from_slice(self.slice(memory, offset, len)?);
                return Ok(());
            }
        };
        let start = bytes.len();
        bytes.reserve_exact(len);
        while bytes.len() - start < len {
            let at = offset + (bytes.len() - start) as u64;
            // A vector may have more room than was asked for; it is cut off below.
            match rustix::io::pread(file, rustix::buffer::spare_capacity(bytes), at) {
                Ok(0) => return Err(self.error(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.error(error.into())),
            }
        }
        bytes.truncate(start + len);
        Ok(())
    }

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the file ends before; the system's error otherwise. Both name the path.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match &self.bytes {
            Backing::File(file) => file.read_exact_at(buffer, offset).map_err(|error| self.error(error)),
            Backing::Memory(memory) => {
                buffer.copy_from_slice(self.slice(memory, offset, buffer.len())?);
                Ok(())
            }
        }
    }

    fn slice<'a>(&self, memory: &'a [u8], offset: u64, len: usize) -> io::Result<&'a [u8]> {
        let start = usize::try_from(offset).ok();
        start
            .and_then(|start| memory.get(start..start.checked_add(len)?))
            .ok_or_else(|| self.error(io::ErrorKind::UnexpectedEof.into()))
    }

    fn error(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }
}

/// A range of a [`Source`] as a stream.
#[derive(Debug)]
pub struct Range<'a> {
    source: &'a Source,
    at: u64,
    left: u64,
}

impl Read for Range<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..wanted) else { return Ok(0) };
        self.source.read_exact_at(buffer, self.at)?;
        self.at += wanted as u64;
        self.left -= wanted as u64;
        Ok(wanted)
    }
}
