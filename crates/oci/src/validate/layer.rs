use std::io::{self, BufReader, Read};

use crate::tar::{self, Input, Summary};
use crate::{Compression, Digest, Error, Hasher};

/// Bytes of a layer, uncompressed, at most: a bomb ends here.
const MAX_LAYER: u64 = 256 << 30;

/// What a blob turned out to be.
pub(super) struct Contents {
    /// Of the stored bytes.
    pub digest: Digest,
    /// What is inside; nothing when it is no layer.
    pub layer: Option<Tar>,
}

/// A layer, uncompressed.
pub(super) struct Tar {
    /// Of the tar stream; an error when it cannot be uncompressed.
    pub diff_id: Result<Digest, Error>,
    /// How the tar is made.
    pub summary: Result<Summary, Error>,
}

/// Reads a blob to its end, once, for all that can be said of it.
pub(super) fn read(content: impl Read, compression: Option<Compression>) -> Result<Contents, Error> {
    let mut stored = Hashed::new(content);
    let layer = match compression {
        None => None,
        Some(Compression::None) => Some(uncompressed(&mut stored)),
        Some(Compression::Gzip) => {
            // A gzip layer may have as many members as an archive has files.
            let reader = BufReader::with_capacity(256 << 10, &mut stored);
            Some(uncompressed(flate2::bufread::MultiGzDecoder::new(reader)))
        }
        Some(Compression::Zstd) => Some(uncompressed(zstd::Decoder::new(&mut stored)?)),
    };
    // A stream that cannot be uncompressed was probably damaged, which its digest tells better.
    io::copy(&mut stored, &mut io::sink())?;
    Ok(Contents { digest: stored.hasher.finish(), layer })
}

fn uncompressed(decoder: impl Read) -> Tar {
    let mut plain = Hashed::new(decoder);
    let summary = match tar::scan(&mut plain, |_| {}) {
        Err(Error::Io(error)) => return Tar { diff_id: Err(error.into()), summary: Ok(Summary::default()) },
        summary => summary,
    };
    // The diff ID is that of the whole stream, whatever is wrong with the tar.
    let diff_id = io::copy(&mut plain, &mut io::sink()).map(|_| plain.hasher.finish()).map_err(Error::from);
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

impl<R: Read> Input for &mut Hashed<R> {}
