//! The central directory (4.3.12): one header per entry.

use super::end::Directory;
use super::extra::Extra;
use super::fields::{Fields, expect_signature, parse};
use super::{Error, Header, Kind, Limits, Method, name};
use crate::Source;

const SIGNATURE: u32 = 0x0201_4b50;
const FIXED_LEN: u64 = 46;

/// Bits 1 and 2 tell how hard the compressor tried, 3 that sizes follow the data, 11 that the name is UTF-8 (4.4.4).
/// What is left out encrypts, patches or masks.
const FLAGS: u16 = 0x080e;
const FLAG_UTF8: u16 = 0x0800;
const DOS_DIRECTORY: u32 = 0x10;

/// DEFLATE codes 258 bytes in two bits at best.
const DEFLATE_RATIO: u64 = 1032;
/// No content, deflated: one empty block with fixed codes.
const DEFLATE_MIN: u64 = 2;

/// An entry by its central header; where its data begins, only the local header knows.
#[derive(Debug)]
pub struct CentralEntry {
    pub header_offset: u64,
    pub name: String,
    pub kind: Kind,
    pub flags: u16,
    pub method: Method,
    pub crc32: u32,
    pub compressed_size: u64,
    pub size: u64,
    pub mode: Option<u32>,
}

/// Reads the central directory in one piece. Its entries fill it.
pub fn read(source: &Source, directory: &Directory, limits: &Limits) -> Result<Vec<CentralEntry>, Error> {
    // `end::find` compared the size with its limit and with the length of the file.
    let mut bytes = vec![0; usize::try_from(directory.size).unwrap_or(0)];
    source.read_exact_at(&mut bytes, directory.offset)?;

    let mut fields = Fields(&bytes);
    let capacity = directory.entries.min(directory.size / FIXED_LEN);
    let mut entries = Vec::with_capacity(usize::try_from(capacity).unwrap_or(0));
    for _ in 0..directory.entries {
        let offset = directory.offset + directory.size - fields.len() as u64;
        entries.push(read_entry(&mut fields, offset, limits)?);
    }
    if !fields.is_empty() {
        return Err(Error::DirectoryBytes { entries: directory.entries, bytes: fields.len() as u64 });
    }
    Ok(entries)
}

/// A central header as it is in the file.
struct Raw<'a> {
    signature: u32,
    flags: u16,
    method: u16,
    crc32: u32,
    compressed_size: u32,
    size: u32,
    disk: u16,
    attributes: u32,
    header_offset: u32,
    name: &'a [u8],
    extra: &'a [u8],
}

fn read_entry(fields: &mut Fields<'_>, offset: u64, limits: &Limits) -> Result<CentralEntry, Error> {
    let record = "central header";
    let bytes = fields.0;
    let (raw, rest) = parse(record, offset, bytes, |fields| Some((Raw::read(fields)?, *fields)))?;
    *fields = rest;
    expect_signature(record, offset, raw.signature, SIGNATURE)?;

    let name = name::check(raw.name, raw.flags & FLAG_UTF8 != 0, limits)?;
    let refused = raw.flags & !FLAGS;
    if refused != 0 {
        return Err(Error::Flags { name, flags: raw.flags, refused });
    }
    let method = match raw.method {
        0 => Method::Stored,
        8 => Method::Deflated,
        method => return Err(Error::Method { name, method }),
    };
    if raw.disk != 0 {
        return Err(Error::Disk { name, disk: raw.disk });
    }
    let extra = Extra::parse(&name, Header::Central, raw.extra)?;
    let [size, compressed_size, header_offset] = extra.widen([
        ("size", raw.size),
        ("compressed size", raw.compressed_size),
        ("offset of the local header", raw.header_offset),
    ])?;
    let (kind, mode) = kind_and_mode(&name, raw.attributes)?;
    let entry = CentralEntry {
        header_offset,
        name,
        kind,
        flags: raw.flags,
        method,
        crc32: raw.crc32,
        compressed_size,
        size,
        mode,
    };
    check_sizes(&entry)?;
    Ok(entry)
}

impl<'a> Raw<'a> {
    fn read(fields: &mut Fields<'a>) -> Option<Self> {
        let signature = fields.u32()?;
        let _made_by = fields.u16()?;
        let _needed = fields.u16()?;
        let (flags, method) = (fields.u16()?, fields.u16()?);
        let _modified = fields.u32()?;
        let (crc32, compressed_size, size) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (name, extra, comment) = (fields.u16()?, fields.u16()?, fields.u16()?);
        let disk = fields.u16()?;
        let _internal_attributes = fields.u16()?;
        let (attributes, header_offset) = (fields.u32()?, fields.u32()?);
        let name = fields.bytes(name.into())?;
        let extra = fields.bytes(extra.into())?;
        fields.bytes(comment.into())?;
        Some(Self {
            signature,
            flags,
            method,
            crc32,
            compressed_size,
            size,
            disk,
            attributes,
            header_offset,
            name,
            extra,
        })
    }
}

/// The type of file, which name and attributes have to agree on, and the permissions.
fn kind_and_mode(name: &str, attributes: u32) -> Result<(Kind, Option<u32>), Error> {
    let by_name = if name.ends_with('/') { Kind::Directory } else { Kind::File };
    let refuse = || Error::FileType { name: name.to_owned(), attributes };
    if attributes & DOS_DIRECTORY != 0 && by_name != Kind::Directory {
        return Err(refuse());
    }
    // The upper half counts whatever system wrote it, as for uv and pip: tools on Windows set a Unix mode too.
    let mode = attributes >> 16;
    let kind = match (mode & 0o170_000, by_name) {
        (0, kind) => kind,
        (0o040_000, Kind::Directory) => Kind::Directory,
        (0o100_000, Kind::File) => Kind::File,
        (0o120_000, Kind::File) => Kind::Symlink,
        _ => return Err(refuse()),
    };
    Ok((kind, (mode != 0).then_some(mode & 0o7777)))
}

/// Refuses sizes that no content can have.
fn check_sizes(entry: &CentralEntry) -> Result<(), Error> {
    let &CentralEntry { size, compressed_size, .. } = entry;
    let possible = match (entry.kind, entry.method) {
        (Kind::Directory, Method::Stored) => size == 0 && compressed_size == 0,
        // Some writers deflate even nothing.
        (Kind::Directory, Method::Deflated) => size == 0 && compressed_size <= DEFLATE_MIN,
        (_, Method::Stored) => size == compressed_size,
        (_, Method::Deflated) => compressed_size >= DEFLATE_MIN && size / DEFLATE_RATIO <= compressed_size,
    };
    if possible {
        return Ok(());
    }
    let name = entry.name.clone();
    Err(match entry.kind {
        Kind::Directory => Error::DirectoryContent { name, size, compressed_size },
        Kind::File | Kind::Symlink => {
            Error::Sizes { name, stored: entry.method == Method::Stored, size, compressed_size }
        }
    })
}
