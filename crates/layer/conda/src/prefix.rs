//! The prefix that a package was built with, replaced by the image's.
//!
//! A package's files name the folder that they were built in, the placeholder. What is installed has the image's prefix
//! in its place: in a text everywhere, and the text becomes longer or shorter; in a binary within each C string, which is
//! filled up with NULs so that nothing moves. The result is, byte for byte, what rattler writes
//! (`install/prefix_replacement`), found in another way: a file is searched in pieces and becomes a list of splices, where
//! rattler has it whole in memory and writes a new one.
//!
//! The placeholder is searched in five encodings (UTF-8, UTF-16 and UTF-32 of either byte order). They are shifted variants
//! of one another, so finds may overlap; which of them counts is decided as rattler decides it. One difference: places that
//! a package records in its paths.json (a draft of conda's) are not believed but searched.

mod search;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use imgforge_layer::{Insert, Splice, Spliced};
use imgforge_oci::{Digest, Hasher};
use rattler_conda_types::package::{FileMode, OffsetEncoding, PrefixPlaceholder};

use crate::contents::Stored;
use crate::{Problem, shebang};
use search::{Found, search, string_end};

/// A file with the image's prefix.
pub(crate) struct Replaced {
    pub(crate) content: Spliced,
    pub(crate) sha256: Digest,
    /// Of the file as the archive has it.
    pub(crate) original: Digest,
}

/// A placeholder in one encoding, and what stands in its place.
struct Encoded {
    encoding: OffsetEncoding,
    placeholder: Vec<u8>,
    prefix: Arc<[u8]>,
}

impl Encoded {
    fn end(&self, start: u64) -> u64 {
        start + self.placeholder.len() as u64
    }

    fn splice(&self, offset: u64) -> Splice {
        let remove = self.placeholder.len() as u64;
        Splice { offset, remove, insert: Insert::Bytes(Arc::clone(&self.prefix)) }
    }

    /// Whether a find is where such a text begins that stands by itself.
    fn is_aligned(&self, offset: u64) -> bool {
        offset.is_multiple_of(self.encoding.code_unit_size() as u64)
    }
}

/// The first line of a script; the kernel reads 255 bytes of it.
const MAX_LINE: u64 = 1 << 20;

/// Puts the image's `prefix` (with its leading slash) in the placeholder's place.
pub(crate) fn replace(
    path: &str,
    file: &Stored,
    placeholder: &PrefixPlaceholder,
    prefix: &str,
) -> Result<Replaced, Problem> {
    let PrefixPlaceholder { file_mode, placeholder, .. } = placeholder;
    if placeholder.chars().any(char::is_control) {
        return Err(problem(path, "the placeholder has a control character"));
    }
    let encodings: Vec<_> = OffsetEncoding::DEFINED
        .into_iter()
        .filter(|_| !placeholder.is_empty())
        .map(|encoding| {
            let (placeholder, prefix) = (encoding.encode(placeholder), encoding.encode(prefix).into());
            Encoded { encoding, placeholder, prefix }
        })
        .collect();
    let found = search(path, file, &encodings)?;
    let splices = match file_mode {
        _ if encodings.is_empty() => Vec::new(),
        FileMode::Text => text(path, file, &encodings, &found, placeholder, prefix)?,
        FileMode::Binary => binary(path, file, &encodings, &found, prefix)?,
    };
    let content = Spliced::new(Arc::clone(&file.source), file.offset, file.len, splices)
        .map_err(|_| problem(path, "two finds overlap"))?;
    let sha256 = if content.splices().is_empty() { found.sha256 } else { digest(&content)? };
    Ok(Replaced { content, sha256, original: found.sha256 })
}

fn problem(path: &str, reason: &'static str) -> Problem {
    Problem::Placeholder { path: path.to_owned(), reason }
}

fn digest(content: &Spliced) -> Result<Digest, Problem> {
    let mut hasher = Hasher::new();
    for piece in content.pieces() {
        hasher.update(&piece.map_err(Problem::Read)?);
    }
    Ok(hasher.finish())
}

/// Every find counts, but those that overlap a better one; the first line of a script has rules of its own.
fn text(
    path: &str,
    file: &Stored,
    encodings: &[Encoded],
    found: &Found,
    placeholder: &str,
    prefix: &str,
) -> Result<Vec<Splice>, Problem> {
    let mut splices = Vec::new();
    let line = found.first_line.unwrap_or(0);
    if line > MAX_LINE {
        return Err(problem(path, "its first line begins with `#!` and has more than a megabyte"));
    }
    if line > 0 {
        let before = file.source.read(file.offset, line as usize).map_err(Problem::Read)?;
        let after = shebang::replace(&before, placeholder, prefix);
        if after != before {
            splices.push(Splice { offset: 0, remove: line, insert: Insert::Bytes(after.into()) });
        }
    }
    let rank = |encoded: &Encoded, offset| match encoded.encoding {
        OffsetEncoding::Utf8 => 0,
        _ if encoded.is_aligned(offset) => 1,
        _ => 2,
    };
    let mut candidates: Vec<(u64, &Encoded)> = Vec::new();
    for (encoded, offsets) in encodings.iter().zip(&found.offsets) {
        candidates.extend(offsets.iter().map(|offset| (*offset, encoded)));
    }
    candidates.sort_by_key(|(offset, _)| *offset);
    let mut kept: Vec<(u64, &Encoded)> = Vec::with_capacity(candidates.len());
    for (offset, encoded) in candidates {
        match kept.last_mut() {
            Some(last) if offset < last.1.end(last.0) => {
                if rank(encoded, offset) < rank(last.1, last.0) {
                    *last = (offset, encoded);
                }
            }
            _ => kept.push((offset, encoded)),
        }
    }
    splices.extend(
        kept.into_iter()
            .filter(|(offset, _)| *offset >= line)
            .map(|(offset, encoded)| encoded.splice(offset)),
    );
    Ok(splices)
}

/// A C string with finds in it.
struct CString<'a> {
    encoded: &'a Encoded,
    offsets: &'a [u64],
    /// Where its terminator is, or the file's end.
    end: u64,
    /// Lower is better.
    rank: u8,
}

/// Each C string with finds in it is filled up behind; of strings that overlap, the best counts.
fn binary(
    path: &str,
    file: &Stored,
    encodings: &[Encoded],
    found: &Found,
    prefix: &str,
) -> Result<Vec<Splice>, Problem> {
    let mut strings: Vec<CString<'_>> = Vec::new();
    for (encoded, offsets) in encodings.iter().zip(&found.offsets) {
        let unit = encoded.encoding.code_unit_size();
        // For each alignment within a code unit: where the last string ends.
        let mut covered = [0; 4];
        for (number, &first) in offsets.iter().enumerate() {
            let Some(covered) = covered.get_mut((first % unit as u64) as usize) else { continue };
            if first < *covered {
                continue;
            }
            let terminator = string_end(file, encoded.end(first), unit)?;
            let end = terminator.unwrap_or(file.len);
            *covered = end;
            let offsets = offsets.get(number..).unwrap_or_default();
            let within = offsets.partition_point(|offset| encoded.end(*offset) <= end);
            let rank = match (encoded.encoding, encoded.is_aligned(first), terminator.is_some()) {
                (OffsetEncoding::Utf8, _, _) => 0,
                (_, true, true) => 1,
                (_, true, false) => 2,
                (_, false, true) => 3,
                (_, false, false) => 4,
            };
            let offsets = offsets.get(..within).unwrap_or_default();
            strings.push(CString { encoded, offsets, end, rank });
        }
    }
    strings.sort_by_key(|string| (string.rank, string.offsets.first().copied()));
    // By where they begin.
    let mut kept: BTreeMap<u64, CString<'_>> = BTreeMap::new();
    for string in strings {
        let Some(&start) = string.offsets.first() else { continue };
        let overlaps = |range: Range<u64>| {
            let before = kept.range(..=range.start).next_back();
            let behind = kept.range(range.start..).next();
            before.is_some_and(|(_, before)| range.start < before.end)
                || behind.is_some_and(|(start, _)| *start < range.end)
        };
        if !overlaps(start..string.end) {
            kept.insert(start, string);
        }
    }
    let mut splices = Vec::new();
    for CString { encoded, offsets, end, .. } in kept.into_values() {
        let room = encoded.placeholder.len();
        let Some(shorter) = room.checked_sub(encoded.prefix.len()) else {
            return Err(Problem::PrefixTooLong { path: path.to_owned(), prefix: prefix.to_owned(), room });
        };
        splices.extend(offsets.iter().map(|offset| encoded.splice(*offset)));
        let zeros = (offsets.len() * shorter) as u64;
        if zeros > 0 {
            splices.push(Splice { offset: end, remove: 0, insert: Insert::Zeros(zeros) });
        }
    }
    Ok(splices)
}

#[cfg(test)]
mod tests {
    use imgforge_layer::Source;
    use proptest::prelude::*;
    use rattler::install::link::copy_and_replace_placeholders;
    use rattler_conda_types::Subdir;

    use super::*;

    const PLACEHOLDER: &str = "/placehold_placehold";

    /// What stands in the file by us, or nothing if the prefix is too long for it.
    fn ours(bytes: &[u8], file_mode: FileMode, prefix: &str) -> Option<Vec<u8>> {
        // In the middle of something, as files are.
        let around = [b"before".as_slice(), bytes, b"behind"].concat();
        let source = Arc::new(Source::from_bytes(around, "test"));
        let file = Stored { source, offset: 6, len: bytes.len() as u64, mode: 0o644 };
        let placeholder =
            PrefixPlaceholder { file_mode, placeholder: PLACEHOLDER.to_owned(), experimental_offsets: None };
        let replaced = match replace("file", &file, &placeholder, prefix) {
            Ok(replaced) => replaced,
            Err(Problem::PrefixTooLong { .. }) => return None,
            Err(problem) => panic!("{problem}"),
        };
        let pieces: Vec<u8> = replaced.content.pieces().flat_map(Result::unwrap).collect();
        assert_eq!(replaced.content.len(), pieces.len() as u64);
        assert_eq!(replaced.sha256, Digest::of(&pieces));
        assert_eq!(replaced.original, Digest::of(bytes));
        Some(pieces)
    }

    fn rattlers(bytes: &[u8], file_mode: FileMode, prefix: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        copy_and_replace_placeholders(bytes, &mut out, PLACEHOLDER, prefix, &Subdir::Linux64, file_mode)
            .ok()
            .map(|()| out)
    }

    /// Files in which much can go wrong: finds in all encodings next to each other and to NULs, some cut off, some at the
    /// borders of pieces.
    fn files() -> impl Strategy<Value = Vec<u8>> {
        let encoded =
            || (0..5_usize).prop_map(|encoding| OffsetEncoding::DEFINED[encoding].encode(PLACEHOLDER));
        let cut = (encoded(), any::<prop::sample::Index>(), any::<bool>()).prop_map(|(bytes, at, front)| {
            let (before, behind) = bytes.split_at(at.index(bytes.len()));
            if front { before.to_vec() } else { behind.to_vec() }
        });
        let filler = prop_oneof![
            prop::collection::vec(prop_oneof![Just(0), Just(b'/'), Just(b'\n'), any::<u8>()], 0..9),
            prop::collection::vec(Just(0), 1..9),
            Just(b"/lib:".to_vec()),
        ];
        // So that what follows lies around the border of a piece.
        let long = (0..2_u8, 0..200_usize).prop_map(|(byte, less)| vec![byte; (256 << 10) - less]);
        let part = prop_oneof![12 => encoded(), 4 => cut, 8 => filler, 1 => long];
        let start = prop_oneof![Just(b"".to_vec()), Just(b"#!/bin/sh\n".to_vec()), Just(b"#! ".to_vec())];
        (start, prop::collection::vec(part, 0..12))
            .prop_map(|(start, parts)| [start, parts.concat()].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn as_rattler_does_it(bytes in files(), prefix in "/[a-z]{1,24}|/my conda|/[a-z]{130}|") {
            for file_mode in [FileMode::Text, FileMode::Binary] {
                let (ours, rattlers) = (ours(&bytes, file_mode, &prefix), rattlers(&bytes, file_mode, &prefix));
                prop_assert!(ours == rattlers, "{file_mode:?} {:?}\n{:?}\n{:?}", bytes.escape_ascii().to_string().get(..3000),
                    ours.map(|bytes| bytes.escape_ascii().to_string()), rattlers.map(|bytes| bytes.escape_ascii().to_string()));
            }
        }
    }

    /// A million finds would be a million splices.
    #[test]
    fn finds_are_limited() {
        let bytes = vec![b'/'; 1_000_001];
        let source = Arc::new(Source::from_bytes(bytes, "test"));
        let file = Stored { source, offset: 0, len: 1_000_001, mode: 0o644 };
        let check = |placeholder: &str| {
            let placeholder = PrefixPlaceholder {
                file_mode: FileMode::Text,
                placeholder: placeholder.to_owned(),
                experimental_offsets: None,
            };
            replace("file", &file, &placeholder, "/opt").map(|replaced| replaced.content.len())
        };
        assert!(matches!(check("/"), Err(Problem::Placeholder { .. })));
        assert!(matches!(check("a\0b"), Err(Problem::Placeholder { .. })));
        assert!(matches!(check("//"), Ok(2_000_001)));
        assert!(matches!(check(""), Ok(1_000_001)));
    }

    #[test]
    fn a_first_line_without_end_is_refused() {
        let bytes = [b"#!".to_vec(), vec![b'x'; 2 << 20]].concat();
        let len = bytes.len() as u64;
        let file =
            Stored { source: Arc::new(Source::from_bytes(bytes, "test")), offset: 0, len, mode: 0o644 };
        let placeholder = PrefixPlaceholder {
            file_mode: FileMode::Text,
            placeholder: PLACEHOLDER.to_owned(),
            experimental_offsets: None,
        };
        assert!(matches!(replace("file", &file, &placeholder, "/opt"), Err(Problem::Placeholder { .. })));
    }
}
