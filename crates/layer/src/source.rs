use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use fs_err as fs;

/// An open archive that is read at any offset, by several threads at once.
///
/// Positioned reads rather than a memory map: a map counts into the process's resident memory, and a file that shrinks
/// under it is a signal instead of an error.
#[derive(Debug)]
pub struct Source {
    file: std::fs::File,
    path: PathBuf,
    len: u64,
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
        Ok(Self { file: file.into_parts().0, path, len })
    }

    /// Takes a file that is open already, such as an unlinked scratch file; `path` is for messages.
    ///
    /// # Errors
    /// The system's error on asking for the length.
    pub fn from_file(file: std::fs::File, path: impl Into<PathBuf>) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, path: path.into(), len })
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
    pub(crate) fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = offset + bytes.len() as u64;
            // A vector may have more room than was asked for; it is cut off below.
            match rustix::io::pread(&self.file, rustix::buffer::spare_capacity(&mut bytes), at) {
                Ok(0) => return Err(self.error(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.error(error.into())),
            }
        }
        bytes.truncate(len);
        Ok(bytes)
    }

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the file ends before; the system's error otherwise. Both name the path.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|error| self.error(error))
    }

    fn error(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }
}
