//! An entry's content, in one pass: its digest, its compressed form, the build's folders in it, and itself for who has to
//! read it at any offset.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use imgforge_oci::{Digest, Hasher};
use memchr::memmem;
use tempfile::SpooledTempFile;

use super::deflate::{Deflater, PIECE};
use super::{Problem, elf};

/// Bytes of an ELF file that are kept in memory, before they go to a file.
const ELF_SPOOL: usize = 16 << 20;

/// An entry's content on its way: hashed, searched, compressed and, if it is an ELF file, kept.
pub(super) struct Examined<'a> {
    piece: Vec<u8>,
    sha256: Hasher,
    deflater: Deflater,
    elf: Option<SpooledTempFile>,
    is_first: bool,
    search: Search<'a>,
    scratch: &'a Path,
}

/// What is known of a content when all of it was read.
pub(super) struct Content<'a> {
    pub(super) sha256: Digest,
    pub(super) deflated: SpooledTempFile,
    /// Bytes.
    pub(super) deflated_len: u64,
    /// The content itself, if it begins like an ELF file.
    pub(super) elf: Option<SpooledTempFile>,
    /// Those of the build's folders that stand in it.
    pub(super) build_paths: Vec<&'a str>,
}

impl<'a> Examined<'a> {
    pub(super) fn new(build_paths: &[&'a str], scratch: &'a Path) -> Self {
        Self {
            piece: Vec::new(),
            sha256: Hasher::new(),
            deflater: Deflater::new(scratch),
            elf: None,
            is_first: true,
            search: Search::new(build_paths),
            scratch,
        }
    }

    /// Takes the next bytes.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), Problem> {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(PIECE - self.piece.len()));
            self.piece.extend_from_slice(now);
            bytes = rest;
            if self.piece.len() == PIECE {
                self.piece()?;
            }
        }
        Ok(())
    }

    fn piece(&mut self) -> Result<(), Problem> {
        let piece = std::mem::take(&mut self.piece);
        if std::mem::take(&mut self.is_first) && piece.starts_with(&elf::MAGIC) {
            self.elf = Some(tempfile::spooled_tempfile_in(ELF_SPOOL, self.scratch));
        }
        if let Some(elf) = &mut self.elf {
            elf.write_all(&piece)?;
        }
        self.sha256.update(&piece);
        self.search.next(&piece);
        Ok(self.deflater.push(piece)?)
    }

    /// Everything that was found out.
    pub(super) fn finish(mut self) -> Result<Content<'a>, Problem> {
        if !self.piece.is_empty() {
            self.piece()?;
        }
        let (deflated, deflated_len) = self.deflater.finish()?;
        let (sha256, build_paths) = (self.sha256.finish(), self.search.found());
        Ok(Content { sha256, deflated, deflated_len, elf: self.elf, build_paths })
    }
}

/// Searches a stream for several texts.
struct Search<'a> {
    texts: BTreeMap<&'a str, bool>,
    /// The end of what was seen: a text may go on in what comes next.
    tail: Vec<u8>,
}

impl<'a> Search<'a> {
    fn new(texts: &[&'a str]) -> Self {
        Self { texts: texts.iter().map(|text| (*text, false)).collect(), tail: Vec::new() }
    }

    fn next(&mut self, piece: &[u8]) {
        for (text, found) in self.texts.iter_mut().filter(|(_, found)| !**found) {
            let reach = text.len().saturating_sub(1);
            let before = self.tail.get(self.tail.len().saturating_sub(reach)..).unwrap_or_default();
            let behind = piece.get(..reach.min(piece.len())).unwrap_or_default();
            let between = [before, behind].concat();
            *found = [&between, piece].iter().any(|bytes| memmem::find(bytes, text.as_bytes()).is_some());
        }
        let longest = self.texts.keys().map(|text| text.len()).max().unwrap_or_default();
        self.tail.extend_from_slice(piece.get(piece.len().saturating_sub(longest)..).unwrap_or_default());
        self.tail.drain(..self.tail.len().saturating_sub(longest));
    }

    fn found(self) -> Vec<&'a str> {
        self.texts.into_iter().filter_map(|(text, found)| found.then_some(text)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(texts: &[&str], pieces: &[&str], expected: &[&str]) {
        let mut search = Search::new(texts);
        for piece in pieces {
            search.next(piece.as_bytes());
        }
        assert_eq!(search.found(), expected, "{texts:?} in {pieces:?}");
    }

    #[test]
    fn finds_what_is_cut_in_two_or_more() {
        check(&["/build"], &["x/buildy"], &["/build"]);
        check(&["/build"], &["/bui", "ld"], &["/build"]);
        check(&["/build"], &["/", "b", "u", "i", "l", "d"], &["/build"]);
        check(&["/build"], &["x/b", "", "uild"], &["/build"]);
        check(&["/build"], &["/buil", "/build"], &["/build"]);
        check(&["/build"], &["/buil", "x", "d"], &[]);
        check(&["/build"], &["/build".repeat(3).as_str()], &["/build"]);
        check(&["/a", "/long/one", "/no"], &["/lon", "g/o", "ne/", "a"], &["/a", "/long/one"]);
        check(&[], &["x"], &[]);
        check(&["/build"], &[], &[]);
    }
}
