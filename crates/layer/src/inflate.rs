//! Inflating one file of a wheel, at once or in pieces.
//!
//! libdeflate is half as fast again as zlib-rs and wants the whole file in memory, so it takes the files up to
//! [`WHOLE_MAX`]. The rest is streamed by fdeflate, which is a fifth faster than zlib-rs. Both tell whether the stream took all
//! of the input: what follows a stream would be copied into the layer with it, and must not be there.

#![allow(unsafe_code)]

use fdeflate::Decompressor;
use libdeflate_sys as sys;

/// Files up to this size, in bytes, are inflated whole.
pub(crate) const WHOLE_MAX: u64 = 16 << 20;

/// Why a DEFLATE stream can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// The bytes are no DEFLATE stream.
    #[error("damaged DEFLATE stream")]
    Damaged,
    /// The stream holds more or less than the archive's directory says.
    #[error("the stream's length is not the {expected} bytes that the archive's directory says")]
    Length {
        /// Bytes of the file by the archive's directory.
        expected: u64,
    },
    /// The stream ends before its bytes do.
    #[error("{unused} bytes follow the DEFLATE stream")]
    Trailing {
        /// Bytes after the stream.
        unused: u64,
    },
}

/// Inflates streams whose input and output are in memory.
pub(crate) struct WholeInflater(std::ptr::NonNull<sys::libdeflate_decompressor>);

// The decompressor is plain memory that one thread uses at a time, as `&mut self` says.
unsafe impl Send for WholeInflater {}

impl WholeInflater {
    /// A decompressor; `None` when there is no memory for it.
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: takes nothing, returns a valid pointer or null.
        std::ptr::NonNull::new(unsafe { sys::libdeflate_alloc_decompressor() }).map(Self)
    }

    /// Inflates `input`, all of it, into exactly `len` bytes.
    pub(crate) fn inflate(&mut self, input: &[u8], len: usize) -> Result<Vec<u8>, InflateError> {
        let mut output = Vec::with_capacity(len);
        let (mut used, mut made) = (0, 0);
        // SAFETY: both pointers are valid for the lengths given, and the two results are written before they are read.
        let result = unsafe {
            sys::libdeflate_deflate_decompress_ex(
                self.0.as_ptr(),
                input.as_ptr().cast(),
                input.len(),
                output.spare_capacity_mut().as_mut_ptr().cast(),
                len,
                &mut used,
                &mut made,
            )
        };
        match result {
            sys::libdeflate_result_LIBDEFLATE_SUCCESS if made == len && used == input.len() => {
                // SAFETY: libdeflate has written `made` bytes, and `made == len` lies within the capacity.
                unsafe { output.set_len(made) };
                Ok(output)
            }
            sys::libdeflate_result_LIBDEFLATE_SUCCESS if made == len => {
                Err(InflateError::Trailing { unused: (input.len() - used) as u64 })
            }
            sys::libdeflate_result_LIBDEFLATE_SUCCESS
            | sys::libdeflate_result_LIBDEFLATE_INSUFFICIENT_SPACE => {
                Err(InflateError::Length { expected: len as u64 })
            }
            _ => Err(InflateError::Damaged),
        }
    }
}

impl Drop for WholeInflater {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `libdeflate_alloc_decompressor` and is freed once.
        unsafe { sys::libdeflate_free_decompressor(self.0.as_ptr()) }
    }
}

/// Inflates one stream in pieces.
///
/// fdeflate reads zlib's format: the stream between a header and a checksum. Both are given to it here; the checksum is
/// not looked at, since CRC-32 and RECORD are. It is complete with the last byte of its checksum and not before, which
/// tells a stream that ends where its bytes do from all others.
pub(crate) struct StreamInflater {
    inflater: Decompressor,
    /// What came out last, which the stream may refer to, and room for what comes next.
    window: Vec<u8>,
    /// Where the room begins.
    filled: usize,
    /// Bytes of the file so far.
    made: u64,
    len: u64,
}

/// How far back a stream may refer. Source: RFC 1951, section 2.
const HISTORY: usize = 32 << 10;

/// A header of zlib's. Source: RFC 1950, section 2.2.
const ZLIB_HEADER: [u8; 2] = [0x78, 0x01];

impl StreamInflater {
    /// An inflater for a file of `len` bytes, which come out in pieces of at most `piece` bytes.
    pub(crate) fn new(len: u64, piece: usize) -> Self {
        let mut inflater = Decompressor::new();
        inflater.ignore_adler32();
        // A header that was not taken would make the stream's own bytes fail as one.
        let _ = inflater.read(&ZLIB_HEADER, &mut [], 0, false);
        Self { inflater, window: vec![0; HISTORY + piece], filled: 0, made: 0, len }
    }

    /// Takes the next piece of the stream and gives the file's bytes.
    ///
    /// `emit` may end the work with an error of its own.
    pub(crate) fn push<E: From<InflateError>>(
        &mut self,
        input: &[u8],
        emit: &mut dyn FnMut(Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let unused = self.read(input, false, emit)?;
        match self.inflater.is_done() {
            // It took what follows the stream for its checksum.
            true => Err(InflateError::Trailing { unused: (unused as u64).max(1) }.into()),
            false => Ok(()),
        }
    }

    /// Gives the file's last bytes, and checks that the stream has ended with all of its own.
    pub(crate) fn finish<E: From<InflateError>>(
        mut self,
        emit: &mut dyn FnMut(Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.push(&[0; 3], emit)?;
        self.read(&[0], true, emit)?;
        if !self.inflater.is_done() {
            return Err(InflateError::Damaged.into());
        }
        match self.made == self.len {
            true => Ok(()),
            false => Err(InflateError::Length { expected: self.len }.into()),
        }
    }

    /// Inflates as much as there is, and returns how much of the input was not taken.
    fn read<E: From<InflateError>>(
        &mut self,
        mut input: &[u8],
        is_end: bool,
        emit: &mut dyn FnMut(Vec<u8>) -> Result<(), E>,
    ) -> Result<usize, E> {
        loop {
            let (used, made) = self
                .inflater
                .read(input, &mut self.window, self.filled, is_end)
                .map_err(|_| InflateError::Damaged)?;
            input = input.get(used..).unwrap_or_default();
            let end = self.filled + made;
            self.made += made as u64;
            if self.made > self.len {
                return Err(InflateError::Length { expected: self.len }.into());
            }
            if let Some(plain) = self.window.get(self.filled..end).filter(|plain| !plain.is_empty()) {
                emit(plain.to_vec())?;
            }
            self.filled = end;
            let is_full = end == self.window.len();
            if is_full {
                let history = end.saturating_sub(HISTORY);
                self.window.copy_within(history.., 0);
                self.filled = end - history;
            }
            if self.inflater.is_done() || !is_full {
                return Ok(input.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn deflated(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    /// Inflates whole and in pieces of several sizes, and asserts that both say the same.
    fn check(stream: &[u8], len: usize, expected: Result<&[u8], InflateError>) {
        let whole = WholeInflater::new().unwrap().inflate(stream, len);
        assert_eq!(whole.as_deref().map_err(|e| *e), expected, "whole");
        for (read, piece) in [(1, 7), (13, 1 << 16), (1 << 16, 16), (1 << 20, 1 << 20)] {
            let mut back = Vec::new();
            let mut inflater = StreamInflater::new(len as u64, piece);
            let mut emit = |bytes: Vec<u8>| {
                assert!(!bytes.is_empty() && bytes.len() <= piece.max(HISTORY + piece), "{}", bytes.len());
                back.extend(bytes);
                Ok::<(), InflateError>(())
            };
            let mut result = Ok(());
            for chunk in stream.chunks(read) {
                result = result.and_then(|()| inflater.push(chunk, &mut emit));
            }
            let result = result.and_then(|()| inflater.finish(&mut emit));
            match expected {
                Ok(plain) => assert_eq!((result, back.as_slice()), (Ok(()), plain), "{read} {piece}"),
                // In pieces, not all of what follows has been seen when the error is found.
                Err(InflateError::Trailing { .. }) => {
                    assert!(
                        matches!(result, Err(InflateError::Trailing { .. })),
                        "{read} {piece} {result:?}"
                    );
                }
                Err(error) => assert_eq!(result, Err(error), "{read} {piece}"),
            }
        }
    }

    #[test]
    fn inflates_what_is_there_and_nothing_else() {
        let plain: Vec<u8> = (0..100_000_u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        let stream = deflated(&plain);
        check(&stream, plain.len(), Ok(&plain));
        check(&deflated(b""), 0, Ok(b""));
        check(&stream, plain.len() - 1, Err(InflateError::Length { expected: plain.len() as u64 - 1 }));
        check(&stream, plain.len() + 1, Err(InflateError::Length { expected: plain.len() as u64 + 1 }));
        check(&[&stream[..], b"x"].concat(), plain.len(), Err(InflateError::Trailing { unused: 1 }));
        check(&[0xff; 40], 10, Err(InflateError::Damaged));
        for garbage in 1..12 {
            let longer = [&stream[..], &vec![0; garbage]].concat();
            check(&longer, plain.len(), Err(InflateError::Trailing { unused: garbage as u64 }));
        }
    }

    #[test]
    fn nothing_is_before_the_first_byte() {
        // One block of fixed codes: a copy of three bytes from one byte back, where there is none.
        let stream = [0x03, 0x02, 0x00];
        assert_eq!(WholeInflater::new().unwrap().inflate(&stream, 3), Err(InflateError::Damaged));
        let mut inflater = StreamInflater::new(3, 16);
        let mut emit = |_| Ok::<(), InflateError>(());
        let result = inflater.push(&stream, &mut emit).and_then(|()| inflater.finish(&mut emit));
        assert_eq!(result, Err(InflateError::Damaged));
    }

    proptest::proptest! {
        #[test]
        fn both_agree(
            plain in proptest::collection::vec(0..6_u8, 0..200_000),
            level in 0..10_u32,
            flip in proptest::option::of((0..1_000_000_usize, 0..8_u32)),
            read in 1..70_000_usize,
        ) {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(level));
            encoder.write_all(&plain).unwrap();
            let mut stream = encoder.finish().unwrap();
            if let Some((at, bit)) = flip {
                let at = at % stream.len();
                stream[at] ^= 1 << bit;
            }
            let whole = WholeInflater::new().unwrap().inflate(&stream, plain.len());
            let mut back = Vec::new();
            let mut inflater = StreamInflater::new(plain.len() as u64, 1 << 14);
            let mut emit = |bytes: Vec<u8>| {
                back.extend(bytes);
                Ok::<(), InflateError>(())
            };
            let mut result = Ok(());
            for chunk in stream.chunks(read) {
                result = result.and_then(|()| inflater.push(chunk, &mut emit));
            }
            let result = result.and_then(|()| inflater.finish(&mut emit));
            proptest::prop_assert_eq!(result.is_ok(), whole.is_ok());
            if whole.is_ok() {
                proptest::prop_assert_eq!(whole.unwrap(), back);
            }
        }
    }

    #[test]
    fn a_stream_cut_off_is_an_error() {
        let plain = vec![7; 100_000];
        let stream = deflated(&plain);
        for end in 0..stream.len() {
            let cut = &stream[..end];
            assert!(WholeInflater::new().unwrap().inflate(cut, plain.len()).is_err(), "{end}");
            let mut inflater = StreamInflater::new(plain.len() as u64, 1 << 16);
            let mut emit = |_| Ok::<(), InflateError>(());
            let pushed = inflater.push(cut, &mut emit);
            assert!(pushed.and_then(|()| inflater.finish(&mut emit)).is_err(), "{end}");
        }
    }
}
