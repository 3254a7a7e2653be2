//! Where a text stands in a file that is read in pieces.

use imgforge_oci::{Digest, Hasher};
use memchr::memmem::Finder;

use super::{Encoded, problem};
use crate::Problem;
use crate::contents::Stored;

/// What one pass over a file finds.
pub(super) struct Found {
    /// Of the file.
    pub(super) sha256: Digest,
    /// For each encoding, where the placeholder stands: from the left, without overlaps.
    pub(super) offsets: Vec<Vec<u64>>,
    /// Bytes of the first line with its line break, if the file begins with `#!`.
    pub(super) first_line: Option<u64>,
}

/// Bytes that are read at a time.
const PIECE: u64 = 256 << 10;
/// Each find is a splice of 48 bytes; real files have some thousands.
const MAX_FINDS: usize = 1_000_000;

/// Searches a file for the placeholder in all encodings, and hashes it on the way.
pub(super) fn search(path: &str, file: &Stored, encodings: &[Encoded]) -> Result<Found, Problem> {
    let mut finders: Vec<_> = encodings
        .iter()
        .map(|encoded| {
            let finder = Finder::new(&encoded.placeholder);
            (finder, 0_u64, Vec::new())
        })
        .collect();
    let longest = encodings.iter().map(|encoded| encoded.placeholder.len()).max().unwrap_or(1);
    let mut hasher = Hasher::new();
    let mut first_line = None;
    let mut finds = 0;
    // The end of the piece before, in which a find could begin, and the next piece.
    let mut window: Vec<u8> = Vec::new();
    let mut at = 0;
    while at < file.len {
        let piece =
            file.source.read(file.offset + at, PIECE.min(file.len - at) as usize).map_err(Problem::Read)?;
        hasher.update(&piece);
        first_line = match first_line {
            None if at == 0 && piece.starts_with(b"#!") => Some(line_end(&piece, at)),
            Some(None) => Some(line_end(&piece, at)),
            known => known,
        };
        let start = at - window.len() as u64;
        at += piece.len() as u64;
        window.extend_from_slice(&piece);
        for (finder, next, offsets) in &mut finders {
            while let Some(rest) = window.get(next.saturating_sub(start) as usize..)
                && let Some(found) = finder.find(rest)
            {
                let offset = start.max(*next) + found as u64;
                offsets.push(offset);
                *next = offset + finder.needle().len() as u64;
                finds += 1;
                if finds > MAX_FINDS {
                    return Err(problem(path, "it stands there more than a million times"));
                }
            }
        }
        let keep = window.len().min(longest - 1);
        window.drain(..window.len() - keep);
    }
    let first_line = first_line.map(|end| end.unwrap_or(file.len));
    let offsets = finders.into_iter().map(|(_, _, offsets)| offsets).collect();
    Ok(Found { sha256: hasher.finish(), offsets, first_line })
}

fn line_end(piece: &[u8], at: u64) -> Option<u64> {
    memchr::memchr(b'\n', piece).map(|end| at + end as u64 + 1)
}

/// Where the first code unit of zeros is, counting units from `from`.
pub(super) fn string_end(file: &Stored, from: u64, unit: usize) -> Result<Option<u64>, Problem> {
    let mut at = from;
    // Most strings end soon. Every length is a multiple of every unit.
    let mut step = 512;
    loop {
        let units = file.len.saturating_sub(at) / unit as u64 * unit as u64;
        if units == 0 {
            return Ok(None);
        }
        let len = units.min(step);
        let bytes = file.source.read(file.offset + at, len as usize).map_err(Problem::Read)?;
        let found = match unit {
            1 => memchr::memchr(0, &bytes),
            _ => bytes
                .chunks_exact(unit)
                .position(|unit| unit.iter().all(|byte| *byte == 0))
                .map(|units| units * unit),
        };
        if let Some(found) = found {
            return Ok(Some(at + found as u64));
        }
        at += len;
        step = PIECE.min(step * 8);
    }
}
