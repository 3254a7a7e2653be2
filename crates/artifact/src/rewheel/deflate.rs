//! Compressing an entry: the same stream for the same content, however many threads there are.
//!
//! The content is cut into pieces of a fixed size, which are compressed on their own and in parallel, and whose streams
//! follow each other: a full flush ends a piece at a byte, so that together they are one stream. What is lost is what a
//! piece could have found in the 32 KiB before it, less than half a percent.

use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use flate2::{Compress, CompressError, Compression, FlushCompress, Status};
use rayon::prelude::*;
use tempfile::SpooledTempFile;

/// The codec's name: library, version, level, bytes of content in a piece. Whoever changes what it stands for raises
/// [`BUILDER_FORMAT`](crate::receipt::BUILDER_FORMAT).
pub const CODEC: &str = "deflate zlib-rs 0.6.8 level 6 piece 1M";

/// zlib's default: level 9 takes twice as long for half a percent.
const LEVEL: u32 = 6;

/// Bytes of content that are compressed on their own.
pub(super) const PIECE: usize = 1 << 20;

/// Pieces that are in memory at a time.
const BATCH: usize = 16;

/// Bytes of a compressed entry that are kept in memory, before they go to a file.
const SPOOL: usize = 16 << 20;

/// Takes an entry's content and compresses it.
pub(super) struct Deflater {
    pieces: Vec<Vec<u8>>,
    spool: SpooledTempFile,
    len: u64,
}

impl Deflater {
    /// Nothing yet; what does not fit into memory goes to a file without a name in `scratch`.
    pub(super) fn new(scratch: &Path) -> Self {
        Self { pieces: Vec::new(), spool: tempfile::spooled_tempfile_in(SPOOL, scratch), len: 0 }
    }

    /// Takes the next piece, of which all but the last have [`PIECE`] bytes.
    pub(super) fn push(&mut self, piece: Vec<u8>) -> io::Result<()> {
        // The last piece ends the stream: which it is shows only now, when another follows.
        if self.pieces.len() == BATCH {
            self.write(false)?;
        }
        self.pieces.push(piece);
        Ok(())
    }

    /// The whole stream and its length.
    pub(super) fn finish(mut self) -> io::Result<(SpooledTempFile, u64)> {
        self.write(true)?;
        self.spool.seek(SeekFrom::Start(0))?;
        Ok((self.spool, self.len))
    }

    fn write(&mut self, is_end: bool) -> io::Result<()> {
        let last = self.pieces.len().wrapping_sub(1);
        let streams: Result<Vec<_>, CompressError> = self
            .pieces
            .par_iter()
            .enumerate()
            .map(|(number, piece)| deflate(piece, is_end && number == last))
            .collect();
        for stream in streams.map_err(io::Error::other)? {
            self.len += stream.len() as u64;
            self.spool.write_all(&stream)?;
        }
        self.pieces.clear();
        Ok(())
    }
}

fn deflate(piece: &[u8], is_last: bool) -> Result<Vec<u8>, CompressError> {
    let flush = if is_last { FlushCompress::Finish } else { FlushCompress::Full };
    let mut compress = Compress::new(Compression::new(LEVEL), false);
    // More than DEFLATE makes of anything. A flush that had just filled the room would be made again.
    let mut stream = Vec::with_capacity(piece.len() + piece.len() / 8 + 1024);
    loop {
        let taken = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
        let rest = piece.get(taken..).unwrap_or_default();
        let status = compress.compress_vec(rest, &mut stream, flush)?;
        let has_taken_all = compress.total_in() == piece.len() as u64;
        match status {
            Status::StreamEnd => return Ok(stream),
            _ if !is_last && has_taken_all && stream.len() < stream.capacity() => return Ok(stream),
            _ => stream.reserve(64 << 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::super::tests::noise;
    use super::*;

    fn compressed(content: &[u8]) -> Vec<u8> {
        let mut deflater = Deflater::new(&std::env::temp_dir());
        for piece in content.chunks(PIECE) {
            deflater.push(piece.to_vec()).unwrap();
        }
        let (mut stream, len) = deflater.finish().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, len);
        bytes
    }

    fn check(content: &[u8]) {
        let stream = compressed(content);
        let mut back = Vec::new();
        let mut inflater = flate2::bufread::DeflateDecoder::new(stream.as_slice());
        inflater.read_to_end(&mut back).unwrap();
        assert!(back == content, "{} bytes", content.len());
        assert_eq!(inflater.total_in(), stream.len() as u64, "nothing follows the stream");
    }

    #[test]
    fn whatever_goes_in_comes_out() {
        for len in [1, 100, PIECE - 1, PIECE, PIECE + 1, BATCH * PIECE, (BATCH + 1) * PIECE + 7] {
            check(&vec![b'x'; len]);
        }
        // Nothing here deflates, and more of it than is kept in memory.
        for len in [1, 100, PIECE - 1, PIECE + 1, SPOOL + 1] {
            check(&noise(len));
        }
    }

    #[test]
    fn threads_do_not_show() {
        let mut content = noise(3 * PIECE + 5);
        content.iter_mut().for_each(|byte| *byte &= 3);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| compressed(&content))
        };
        assert!(with(1) == with(7));
    }

    /// The name in the keys is that of the library that is linked.
    #[test]
    fn the_codec_is_what_it_is_called() {
        let lock = include_str!("../../../../Cargo.lock");
        let version = CODEC.split(' ').nth(2).unwrap();
        assert!(lock.contains(&format!("name = \"zlib-rs\"\nversion = \"{version}\"\n")));
        assert_eq!(PIECE, 1 << 20);
    }
}
