//! Reading an entry's content to see that it is what the directory declares.

use flate2::{Decompress, FlushDecompress, Status};

use super::{Entry, Error, Kind, Method};
use crate::Source;

const CHUNK: usize = 64 << 10;

/// Reads an entry's content and compares its size and CRC-32 with the declared ones, in constant memory.
///
/// # Errors
/// [`Error::Io`]; [`Error::Inflate`] or [`Error::StreamEnd`] when the DEFLATE stream is not exactly the entry's bytes;
/// [`Error::ContentSize`] and [`Error::ContentCrc`]. Little is inflated beyond the declared size.
pub fn verify(source: &Source, entry: &Entry) -> Result<(), Error> {
    let mut content = Content::default();
    match entry.method {
        Method::Stored => read_stored(source, entry, &mut content)?,
        // A directory may leave out even the empty stream.
        Method::Deflated if entry.kind == Kind::Directory && entry.compressed_size == 0 => {}
        Method::Deflated => inflate(source, entry, &mut content)?,
    }
    let name = || entry.name.clone();
    if content.len != entry.size {
        return Err(Error::ContentSize { name: name(), found: content.len, size: entry.size });
    }
    let found = content.crc.finalize();
    if found != entry.crc32 {
        return Err(Error::ContentCrc { name: name(), found, expected: entry.crc32 });
    }
    Ok(())
}

/// What was read so far.
#[derive(Default)]
struct Content {
    len: u64,
    crc: crc32fast::Hasher,
}

impl Content {
    fn add(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        self.crc.update(bytes);
    }
}

fn read_stored(source: &Source, entry: &Entry, content: &mut Content) -> Result<(), Error> {
    let mut chunks = Chunks::new(source, entry);
    while let Some(chunk) = chunks.next()? {
        content.add(chunk);
    }
    Ok(())
}

fn inflate(source: &Source, entry: &Entry, content: &mut Content) -> Result<(), Error> {
    let mut chunks = Chunks::new(source, entry);
    let mut inflater = Decompress::new(false);
    let mut output = vec![0; CHUNK];
    let damaged = |produced| Error::Inflate { name: entry.name.clone(), produced };
    while let Some(chunk) = chunks.next()? {
        let mut input = chunk;
        loop {
            let (consumed, produced) = (inflater.total_in(), inflater.total_out());
            let status = inflater
                .decompress(input, &mut output, FlushDecompress::None)
                .map_err(|_| damaged(content.len))?;
            let consumed = usize::try_from(inflater.total_in() - consumed).unwrap_or(usize::MAX);
            let produced = usize::try_from(inflater.total_out() - produced).unwrap_or(usize::MAX);
            input = input.get(consumed..).unwrap_or_default();
            content.add(output.get(..produced).unwrap_or_default());
            if content.len > entry.size {
                return Err(Error::ContentSize {
                    name: entry.name.clone(),
                    found: content.len,
                    size: entry.size,
                });
            }
            match status {
                Status::StreamEnd if inflater.total_in() == entry.compressed_size => return Ok(()),
                Status::StreamEnd => {
                    return Err(Error::StreamEnd {
                        name: entry.name.clone(),
                        consumed: inflater.total_in(),
                        compressed_size: entry.compressed_size,
                    });
                }
                // Output that fills the buffer may have more behind it, even when no input is left.
                Status::Ok | Status::BufError if input.is_empty() && produced < output.len() => break,
                Status::Ok | Status::BufError if consumed == 0 && produced == 0 => {
                    return Err(damaged(content.len));
                }
                Status::Ok | Status::BufError => {}
            }
        }
    }
    Err(damaged(content.len))
}

/// An entry's bytes in the archive, piece by piece.
struct Chunks<'a> {
    source: &'a Source,
    offset: u64,
    left: u64,
    buffer: Vec<u8>,
}

impl<'a> Chunks<'a> {
    fn new(source: &'a Source, entry: &Entry) -> Self {
        Self { source, offset: entry.data_offset, left: entry.compressed_size, buffer: Vec::new() }
    }

    fn next(&mut self) -> Result<Option<&[u8]>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.buffer.resize(usize::try_from(self.left).map_or(CHUNK, |left| left.min(CHUNK)), 0);
        self.source.read_exact_at(&mut self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.left -= self.buffer.len() as u64;
        Ok(Some(&self.buffer))
    }
}
