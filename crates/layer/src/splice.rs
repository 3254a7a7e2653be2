//! A file in which other bytes stand at some places.
//!
//! A conda package's files name the folder that they were built in, and are installed with another one in its place. The
//! file is not made anew for that: it stays a range of the archive, with a list of places where bytes are left out and
//! others stand instead. [`Spliced::pieces`] reads it from front to back in constant memory, for whoever hashes it and for
//! the writer of the layer alike.

use std::io;
use std::sync::Arc;

use crate::Source;

/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;

/// One place of a file, and what stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// Bytes from the start of the file as it is in the archive.
    pub offset: u64,
    /// Bytes of the file that are left out here.
    pub remove: u64,
    /// What stands in their place.
    pub insert: Insert,
}

/// Bytes that are not in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Insert {
    /// These.
    Bytes(Arc<[u8]>),
    /// As many NULs: they fill up a C string that became shorter.
    Zeros(u64),
}

impl Insert {
    /// Bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Zeros(len) => *len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A range of an open file with other bytes at some places.
#[derive(Clone, Debug)]
pub struct Spliced {
    source: Arc<Source>,
    offset: u64,
    source_len: u64,
    splices: Arc<[Splice]>,
    len: u64,
}

/// Splices that don't follow each other within the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the splice at byte {offset} overlaps the one before it, or the file's end")]
pub struct SpliceError {
    /// Where it is.
    pub offset: u64,
}

impl Spliced {
    /// The `source_len` bytes at `offset` of `source` with `splices`, which are in the order of their offsets.
    ///
    /// # Errors
    /// [`SpliceError`] when one begins before the end of the one before it, or ends behind the file.
    pub fn new(
        source: Arc<Source>,
        offset: u64,
        source_len: u64,
        splices: impl Into<Arc<[Splice]>>,
    ) -> Result<Self, SpliceError> {
        let splices = splices.into();
        let mut at = 0;
        let mut len = source_len;
        for splice in splices.iter() {
            let error = SpliceError { offset: splice.offset };
            let end =
                splice.offset.checked_add(splice.remove).filter(|end| *end <= source_len).ok_or(error)?;
            if splice.offset < at {
                return Err(error);
            }
            at = end;
            len = (len - splice.remove).checked_add(splice.insert.len()).ok_or(error)?;
        }
        Ok(Self { source, offset, source_len, splices, len })
    }

    /// Bytes of the file with its splices.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The places where it differs from the archive.
    pub fn splices(&self) -> &[Splice] {
        &self.splices
    }

    /// Its bytes from front to back, in pieces of about 256 KiB.
    pub const fn pieces(&self) -> Pieces<'_> {
        Pieces { spliced: self, at: 0, next: 0, window: Vec::new(), window_at: 0, zeros: 0 }
    }

    pub(crate) fn same_place(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source)
            && (self.offset, self.source_len, self.len) == (other.offset, other.source_len, other.len)
            && self.splices == other.splices
    }
}

/// The bytes of a [`Spliced`] file; ends after the first error.
#[derive(Debug)]
pub struct Pieces<'a> {
    spliced: &'a Spliced,
    /// Bytes of the file in the archive that are done.
    at: u64,
    /// The splice that is next.
    next: usize,
    /// What was read of the archive, from `window_at` of the file on.
    window: Vec<u8>,
    window_at: u64,
    /// Zeros of the last splice that are still to come.
    zeros: u64,
}

impl Iterator for Pieces<'_> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut piece = Vec::new();
        while piece.len() < PIECE {
            let room = PIECE - piece.len();
            if self.zeros > 0 {
                let len = self.zeros.min(room as u64);
                piece.resize(piece.len() + len as usize, 0);
                self.zeros -= len;
                continue;
            }
            let splice = self.spliced.splices.get(self.next);
            let until = splice.map_or(self.spliced.source_len, |splice| splice.offset);
            if self.at < until {
                if let Err(error) = self.copy(until, room, &mut piece) {
                    self.at = self.spliced.source_len;
                    self.next = self.spliced.splices.len();
                    return Some(Err(error));
                }
                continue;
            }
            let Some(splice) = splice else { break };
            match &splice.insert {
                Insert::Bytes(bytes) => piece.extend_from_slice(bytes),
                Insert::Zeros(len) => self.zeros = *len,
            }
            self.at = splice.offset + splice.remove;
            self.next += 1;
        }
        (!piece.is_empty()).then_some(Ok(piece))
    }
}

impl Pieces<'_> {
    /// Copies bytes of the archive, at most up to `until` and as many as there is room for.
    fn copy(&mut self, until: u64, room: usize, piece: &mut Vec<u8>) -> io::Result<()> {
        let window_end = self.window_at + self.window.len() as u64;
        if self.at >= window_end {
            // Between splices that are close to each other, one read serves many; a long way is read as it is.
            let left = self.spliced.source_len - self.at;
            self.window =
                self.spliced.source.read(self.spliced.offset + self.at, left.min(PIECE as u64) as usize)?;
            self.window_at = self.at;
            if piece.is_empty() && until - self.at >= self.window.len() as u64 {
                self.at += self.window.len() as u64;
                *piece = std::mem::take(&mut self.window);
                return Ok(());
            }
        }
        let start = (self.at - self.window_at) as usize;
        let wanted = (until - self.at).min(room as u64) as usize;
        let available = self.window.get(start..).unwrap_or_default();
        let bytes = available.get(..wanted).unwrap_or(available);
        piece.extend_from_slice(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(bytes: &[u8]) -> Arc<Source> {
        Arc::new(Source::from_bytes(bytes.to_vec(), "test"))
    }

    fn splice(offset: u64, remove: u64, insert: &str) -> Splice {
        Splice { offset, remove, insert: Insert::Bytes(insert.as_bytes().into()) }
    }

    #[track_caller]
    fn check(text: &str, splices: &[Splice], expected: &str) {
        let before = format!("..{text}..");
        let spliced = Spliced::new(source(before.as_bytes()), 2, text.len() as u64, splices).unwrap();
        let bytes: Vec<u8> = spliced.pieces().flat_map(Result::unwrap).collect();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        assert_eq!(spliced.len(), expected.len() as u64);
    }

    #[test]
    fn small_files() {
        check("", &[], "");
        check("abc", &[], "abc");
        check("", &[splice(0, 0, "x")], "x");
        check("abc", &[splice(0, 3, "")], "");
        check("abc", &[splice(0, 1, "xyz"), splice(1, 1, ""), splice(3, 0, "!")], "xyzc!");
        check("abc", &[Splice { offset: 1, remove: 1, insert: Insert::Zeros(2) }], "a\0\0c");
        check("abc", &[splice(1, 0, "1"), splice(1, 0, "2"), splice(1, 1, "3")], "a123c");
    }

    #[test]
    fn at_the_borders_of_pieces() {
        let text: String = ('a'..='z').cycle().take(3 * PIECE + 5).collect();
        let places = [0, 1, PIECE - 2, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE - 3, 3 * PIECE, 3 * PIECE + 4];
        for insert in ["", "x", "a long prefix", &"y".repeat(2 * PIECE + 1)] {
            for remove in [1, 7, PIECE + 3] {
                let mut splices = Vec::new();
                let mut expected = String::new();
                let mut at = 0;
                for place in places {
                    if place < at || place + remove > text.len() {
                        continue;
                    }
                    expected += &text[at..place];
                    expected += insert;
                    at = place + remove;
                    splices.push(splice(place as u64, remove as u64, insert));
                }
                expected += &text[at..];
                check(&text, &splices, &expected);
            }
        }
    }

    #[test]
    fn many_zeros_come_in_pieces() {
        let zeros = Splice { offset: 1, remove: 0, insert: Insert::Zeros(3 * PIECE as u64) };
        let spliced = Spliced::new(source(b"ab"), 0, 2, [zeros]).unwrap();
        let pieces: Vec<_> = spliced.pieces().map(|piece| piece.unwrap().len()).collect();
        assert_eq!(pieces, [PIECE, PIECE, PIECE, 2]);
    }

    #[test]
    fn refuses_what_overlaps() {
        let new = |splices: &[Splice]| Spliced::new(source(b"abc"), 0, 3, splices).map(|_| ());
        assert_eq!(new(&[splice(1, 2, "")]), Ok(()));
        assert_eq!(new(&[splice(2, 2, "")]), Err(SpliceError { offset: 2 }));
        assert_eq!(new(&[splice(4, 0, "")]), Err(SpliceError { offset: 4 }));
        assert_eq!(new(&[splice(u64::MAX, 1, "")]), Err(SpliceError { offset: u64::MAX }));
        assert_eq!(new(&[splice(0, 2, ""), splice(1, 1, "")]), Err(SpliceError { offset: 1 }));
    }

    #[test]
    fn a_source_that_is_too_short_is_an_error_and_then_the_end() {
        let spliced = Spliced::new(source(b"abc"), 0, 9, []).unwrap();
        let mut pieces = spliced.pieces();
        assert!(pieces.next().unwrap().is_err());
        assert!(pieces.next().is_none());
    }
}
