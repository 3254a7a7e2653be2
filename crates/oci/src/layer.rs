//! Layers as they are read: stored bytes to tar entries, with both hashes on the way.
//!
//! One pass over the bytes for all that can be asked of a layer, because bases are large: what it is called by
//! ([`Contents::digest`]), what a config says of it ([`Tar::diff_id`]), and what is in it. Nothing is kept of the content
//! but what the visitor keeps, and nothing that the visitor saw may be believed before the digest was compared.

use std::io::{self, BufRead, BufReader, Read};

use crate::tar::{self, Input, Manners};
use crate::{Compression, Digest, Error, Hasher};

pub use crate::tar::{Attributes, Entry, Summary};

/// Bytes of a layer, uncompressed, at most: a bomb ends here.
pub(crate) const MAX_LAYER: u64 = 256 << 30;

/// Bytes that are read, hashed and uncompressed at a time.
pub(crate) const BUFFER: usize = 256 << 10;

/// What a blob turned out to be.
#[derive(Debug)]
pub struct Contents {
    /// Of the stored bytes.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
    /// What is inside; nothing when it is no layer.
    pub layer: Option<Tar>,
}

/// A layer, uncompressed.
#[derive(Debug)]
pub struct Tar {
    /// Of the tar stream; an error when it cannot be uncompressed.
    pub diff_id: Result<Digest, Error>,
    /// How the tar is made.
    pub summary: Result<Summary, Error>,
}

/// Is given each entry of a layer with its content, of which it may read as much as it likes.
pub type Visit<'a> = dyn FnMut(Entry, &mut dyn Read) -> io::Result<()> + 'a;

/// Reads a blob to its end, once, for all that can be said of it; `visit` is called for each entry in the order of the
/// tar, as long as that is sound. Without a compression the blob is no layer, and is only hashed.
///
/// # Errors
/// [`Error::Io`] when the stored bytes can't be read. What is wrong with them is in the result, since to say which it is
/// (damaged, not what the config says, no sound tar) takes all of it.
pub fn read(
    content: impl Read,
    compression: Option<Compression>,
    visit: &mut Visit<'_>,
) -> Result<Contents, Error> {
    let mut stored = BufReader::with_capacity(BUFFER, Hashed::new(content));
    let layer = match compression {
        None => None,
        Some(compression) => {
            Some(uncompressed(plain(&mut stored, compression)?, compression.format(), visit))
        }
    };
    // A stream that cannot be uncompressed was probably damaged, which its digest tells better.
    io::copy(&mut stored, &mut io::sink())?;
    let hasher = stored.into_inner().hasher;
    Ok(Contents { size: hasher.len(), digest: hasher.finish(), layer })
}

/// What is inside of something that is stored so. A gzip layer may have as many members as an archive has files.
pub(crate) fn plain<'a>(
    stored: impl BufRead + 'a,
    compression: Compression,
) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(stored),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stored)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(stored)?),
    })
}

fn uncompressed(decoder: impl Read, format: &'static str, visit: &mut Visit<'_>) -> Tar {
    let broken = |error: io::Error| Error::Compression { format, detail: error.to_string() };
    let mut plain = BufReader::with_capacity(BUFFER, Hashed::new(decoder));
    let summary = match tar::read(&mut plain, Manners::OfLayers, visit) {
        Err(Error::Io(error)) => return Tar { diff_id: Err(broken(error)), summary: Ok(Summary::default()) },
        summary => summary,
    };
    // The diff ID is that of the whole stream, whatever is wrong with the tar.
    let rest = io::copy(&mut plain, &mut io::sink());
    let diff_id = rest.map(|_| plain.into_inner().hasher.finish()).map_err(broken);
    Tar { diff_id, summary }
}

/// Hashes what is read through it.
struct Hashed<R> {
    reader: R,
    hasher: Hasher,
}

impl<R: Read> Hashed<R> {
    fn new(reader: R) -> Self {
        Self { reader, hasher: Hasher::new() }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        if self.hasher.len() > MAX_LAYER {
            return Err(io::Error::other(format!("more than {MAX_LAYER} bytes")));
        }
        Ok(count)
    }
}

impl<R: Read> Input for &mut BufReader<Hashed<R>> {
    fn skip(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let available = self.fill_buf()?.len();
            if available == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let step = usize::try_from(count).unwrap_or(usize::MAX).min(available);
            self.consume(step);
            count -= step as u64;
        }
        Ok(())
    }
}
