//! Inflating one file of a wheel, at once or in pieces.
//!
//! libdeflate is half as fast again as the streaming inflaters and wants the whole file in memory, so it takes the files
//! up to [`WHOLE_MAX`]; zlib-rs streams the rest. Both say how much of the input the stream took: what follows a stream
//! would be copied into the layer with it, and must not be there.

#![allow(unsafe_code)]

use flate2::{Decompress, FlushDecompress, Status};
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
pub(crate) struct StreamInflater {
    state: Decompress,
    len: u64,
    ended: bool,
}

impl StreamInflater {
    /// An inflater for a file of `len` bytes.
    pub(crate) fn new(len: u64) -> Self {
        Self { state: Decompress::new(false), len, ended: false }
    }

    /// Takes the next piece of the stream and gives the file's bytes in pieces of at most `piece` bytes.
    ///
    /// `emit` may end the work with an error of its own.
    pub(crate) fn push<E: From<InflateError>>(
        &mut self,
        mut input: &[u8],
        piece: usize,
        emit: &mut dyn FnMut(Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !self.ended {
            let mut output = Vec::with_capacity(piece);
            let before = self.state.total_in();
            let status = self
                .state
                .decompress_vec(input, &mut output, FlushDecompress::None)
                .map_err(|_| InflateError::Damaged)?;
            let used = (self.state.total_in() - before) as usize;
            input = input.get(used..).unwrap_or_default();
            if self.state.total_out() > self.len {
                return Err(InflateError::Length { expected: self.len }.into());
            }
            let full = output.len() == output.capacity();
            if !output.is_empty() {
                emit(output)?;
            }
            match status {
                Status::StreamEnd => self.ended = true,
                _ if input.is_empty() && !full => return Ok(()),
                Status::BufError if used == 0 && !full => return Ok(()),
                _ => {}
            }
        }
        match input.len() {
            0 => Ok(()),
            unused => Err(InflateError::Trailing { unused: unused as u64 }.into()),
        }
    }

    /// Checks that the stream has ended with all of the file.
    pub(crate) fn finish(self) -> Result<(), InflateError> {
        match (self.ended, self.state.total_out() == self.len) {
            (true, true) => Ok(()),
            (true, false) => Err(InflateError::Length { expected: self.len }),
            (false, _) => Err(InflateError::Damaged),
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
            let mut inflater = StreamInflater::new(len as u64);
            let result = stream
                .chunks(read)
                .try_for_each(|chunk| {
                    inflater.push(chunk, piece, &mut |bytes| {
                        back.extend(bytes);
                        Ok::<(), InflateError>(())
                    })
                })
                .and_then(|()| inflater.finish());
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
    }

    #[test]
    fn a_stream_cut_off_is_an_error() {
        let plain = vec![7; 100_000];
        let stream = deflated(&plain);
        for end in 0..stream.len() {
            let cut = &stream[..end];
            assert!(WholeInflater::new().unwrap().inflate(cut, plain.len()).is_err(), "{end}");
            let mut inflater = StreamInflater::new(plain.len() as u64);
            let pushed = inflater.push(cut, 1 << 16, &mut |_| Ok::<(), InflateError>(()));
            assert!(pushed.and_then(|()| inflater.finish()).is_err(), "{end}");
        }
    }
}
