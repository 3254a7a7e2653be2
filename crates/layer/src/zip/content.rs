//! Reading an entry's content, and seeing that it is what the directory declares.

use flate2::{Decompress, FlushDecompress, Status};

use super::{Entry, Error, Kind, Method};
use crate::Source;

const CHUNK: usize = 64 << 10;

/// Reads an entry's content and compares its size and CRC-32 with the declared ones, in constant memory.
///
/// # Errors
/// As for [`read`].
pub fn verify(source: &Source, entry: &Entry) -> Result<(), Error> {
    read(source, entry, &mut |_| Ok(()))
}

/// Gives an entry's content in pieces of at most 64 KiB, never more of it than declared.
///
/// What was given is only known to be right when this returns.
///
/// # Errors
/// [`Error::Io`]; [`Error::Inflate`] or [`Error::StreamEnd`] when the DEFLATE stream is not exactly the entry's bytes;
/// [`Error::ContentSize`] and [`Error::ContentCrc`]; and whatever `each` ends the work with.
pub fn read<E: From<Error>>(
    source: &Source,
    entry: &Entry,
    each: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut content = Content { entry, each, len: 0, crc: crc32fast::Hasher::new() };
    match entry.method {
        Method::Stored => read_stored(source, &mut content)?,
        // A directory may leave out even the empty stream.
        Method::Deflated if entry.kind == Kind::Directory && entry.compressed_size == 0 => {}
        Method::Deflated => inflate(source, &mut content)?,
    }
    let name = || entry.name.clone();
    if content.len != entry.size {
        return Err(Error::ContentSize { name: name(), found: content.len, size: entry.size }.into());
    }
    let found = content.crc.finalize();
    if found != entry.crc32 {
        return Err(Error::ContentCrc { name: name(), found, expected: entry.crc32 }.into());
    }
    Ok(())
}

/// What was read so far, and who wants it.
struct Content<'a, E> {
    entry: &'a Entry,
    each: &'a mut dyn FnMut(&[u8]) -> Result<(), E>,
    len: u64,
    crc: crc32fast::Hasher,
}

impl<E: From<Error>> Content<'_, E> {
    fn add(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.len += bytes.len() as u64;
        if self.len > self.entry.size {
            let (name, size) = (self.entry.name.clone(), self.entry.size);
            return Err(Error::ContentSize { name, found: self.len, size }.into());
        }
        self.crc.update(bytes);
        (self.each)(bytes)
    }
}

fn read_stored<E: From<Error>>(source: &Source, content: &mut Content<'_, E>) -> Result<(), E> {
    let mut chunks = Chunks::new(source, content.entry);
    while let Some(chunk) = chunks.next()? {
        content.add(chunk)?;
    }
    Ok(())
}

fn inflate<E: From<Error>>(source: &Source, content: &mut Content<'_, E>) -> Result<(), E> {
    let entry = content.entry;
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
            content.add(output.get(..produced).unwrap_or_default())?;
            match status {
                Status::StreamEnd if inflater.total_in() == entry.compressed_size => return Ok(()),
                Status::StreamEnd => {
                    return Err(Error::StreamEnd {
                        name: entry.name.clone(),
                        consumed: inflater.total_in(),
                        compressed_size: entry.compressed_size,
                    }
                    .into());
                }
                // Output that fills the buffer may have more behind it, even when no input is left.
                Status::Ok | Status::BufError if input.is_empty() && produced < output.len() => break,
                Status::Ok | Status::BufError if consumed == 0 && produced == 0 => {
                    return Err(damaged(content.len).into());
                }
                Status::Ok | Status::BufError => {}
            }
        }
    }
    Err(damaged(content.len).into())
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
