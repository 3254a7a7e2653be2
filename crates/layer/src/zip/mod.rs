//! The strict zip directory reader: what a wheel's archive holds and where each entry's bytes lie.
//!
//! A zip archive tells its content three times: in the central directory, in the local headers, and in the plain
//! sequence of its bytes. Readers differ in which of these they believe, and a hostile archive is one in which two
//! readers see different files. This reader believes none alone: an archive is accepted when all three agree, so that
//! no other reader, streaming or seeking, can find other files in it than the ones listed here.
//!
//! - The end record is the last one in the file, its comment ends exactly at the end of the file, and no other record
//!   could be taken for it. The Zip64 records, where there are any, stand right before it and say the same.
//! - The central directory fills the space up to the end records, with exactly as many entries as were announced.
//! - Local header, data and data descriptor of one entry are followed by the next entry's, from the first byte of the
//!   file to the central directory, without gap or overlap.
//! - Both headers of an entry have the same name, method, flags, sizes and CRC-32.
//! - Names are relative paths of plain components in UTF-8. No path occurs twice, and no file is also a folder.
//!
//! Nothing is repaired: some 90 wheels from PyPI, made by a dozen tools between 2013 and today, needed no exception. The
//! liberties of the format that are allowed are few: directory entries, an archive comment, entry comments, well-formed
//! extra fields, Zip64 fields and records where they are not needed, and data descriptors with and without signature.
//!
//! Nothing is inflated either, because whoever copies an entry's DEFLATE stream inflates it once anyway. Three things are
//! left to check then, as [`verify`] does: that the stream ends with exactly the last of [`Entry::compressed_size`]
//! bytes, and the content's size and CRC-32.
//!
//! Source: PKWARE's APPNOTE.TXT 6.3.10; section numbers in the comments are its.

mod central;
mod content;
mod end;
mod error;
mod extra;
mod fields;
mod local;
mod name;

pub use content::{read, verify};
pub use error::{Error, ExtraProblem, Header, NameProblem};

use crate::Source;

/// Lists an archive's entries in the order of their bytes in the file, which is the order to read them in.
///
/// # Errors
/// [`Error::Io`] when the file can't be read; every other variant says in what the archive is not well formed, or which
/// of the `limits` it exceeds.
pub fn read_directory(source: &Source, limits: &Limits) -> Result<Vec<Entry>, Error> {
    let directory = end::find(source, limits)?;
    let mut entries = central::read(source, &directory, limits)?;
    entries.sort_unstable_by_key(|entry| entry.header_offset);
    let entries = local::locate(source, entries, directory.offset)?;
    check_sizes(source, &entries, limits)?;
    check_paths(&entries)?;
    Ok(entries)
}

/// One entry of an archive, as both of its headers describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path as the archive has it: relative, components separated by `/`. A directory's ends in `/`.
    pub name: String,
    /// Whether it is a file, a directory or a symlink.
    pub kind: Kind,
    /// How the content is stored.
    pub method: Method,
    /// CRC-32 of the content. Not verified yet.
    pub crc32: u32,
    /// Bytes in the archive.
    pub compressed_size: u64,
    /// Bytes of content. Not verified yet, unless it is stored.
    pub size: u64,
    /// Where the entry's bytes begin in the archive.
    pub data_offset: u64,
    /// Permission bits (`0o7777`), when the entry has any.
    pub mode: Option<u32>,
}

/// What an entry is. Other types of file are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory; it has no content.
    Directory,
    /// A symbolic link, whose content is its target.
    Symlink,
}

/// How an entry's content is stored. Other methods are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// As it is.
    Stored,
    /// As a raw DEFLATE stream.
    Deflated,
}

/// How large an archive may be. The defaults leave room for several times the largest wheel known (torch: 12,000
/// entries, 1.7 GB), and keep the memory that a directory takes below 200 MiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes of the central directory, which is read in one piece.
    pub directory: u64,
    /// Bytes of a name.
    pub name: u64,
    /// Components of a name.
    pub depth: u64,
    /// Bytes of content of a single entry.
    pub entry_size: u64,
    /// Bytes of content of all entries.
    pub total_size: u64,
    /// Bytes of content per byte of archive. Not applied to archives with less than [`Limits::RATIO_FROM`] of content,
    /// which can harm nobody, and where a single file of zeros is a high ratio.
    pub ratio: u64,
}

impl Limits {
    /// From how many bytes of content on [`Limits::ratio`] applies.
    pub const RATIO_FROM: u64 = 64 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 500_000,
            directory: 64 << 20,
            name: 4096,
            depth: 64,
            entry_size: 16 << 30,
            total_size: 64 << 30,
            ratio: 200,
        }
    }
}

impl Limits {
    /// Compares a value with its limit; `subject` is who has it, for the message.
    fn check(
        subject: impl FnOnce() -> String,
        what: &'static str,
        value: u64,
        limit: u64,
    ) -> Result<(), Error> {
        if value > limit { Err(Error::Limit { subject: subject(), what, value, limit }) } else { Ok(()) }
    }
}

/// Compares the declared sizes with the limits.
fn check_sizes(source: &Source, entries: &[Entry], limits: &Limits) -> Result<(), Error> {
    let archive = || "the archive".to_owned();
    let mut total = 0_u64;
    for entry in entries {
        Limits::check(|| format!("{:?}", entry.name), "bytes of content", entry.size, limits.entry_size)?;
        total = total.saturating_add(entry.size);
    }
    Limits::check(archive, "bytes of content", total, limits.total_size)?;
    if total >= Limits::RATIO_FROM {
        Limits::check(archive, "bytes of content per byte", total / source.len().max(1), limits.ratio)?;
    }
    Ok(())
}

/// Refuses two entries on one path, and files below files.
///
/// Ordered by components, what is below a path follows it immediately, so that neighbours are all there is to compare.
fn check_paths(entries: &[Entry]) -> Result<(), Error> {
    let mut paths: Vec<(&str, &Entry)> =
        entries.iter().map(|entry| (entry.name.trim_end_matches('/'), entry)).collect();
    paths.sort_unstable_by(|(a, _), (b, _)| a.split('/').cmp(b.split('/')));
    for pair in paths.windows(2) {
        let &[(path, entry), (next_path, next)] = pair else { continue };
        if path == next_path {
            return Err(Error::Duplicate { first: entry.name.clone(), second: next.name.clone() });
        }
        let below = next_path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        if below && entry.kind != Kind::Directory {
            return Err(Error::FileAsFolder { file: entry.name.clone(), below: next.name.clone() });
        }
    }
    Ok(())
}
