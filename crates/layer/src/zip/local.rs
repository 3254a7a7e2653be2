//! Local headers (4.3.7) and data descriptors (4.3.9), which have to say what the central directory says.

use std::io;

use super::central::CentralEntry;
use super::extra::Extra;
use super::fields::{Fields, expect_signature, parse};
use super::{Entry, Error, Header, Method};
use crate::Source;

const SIGNATURE: u32 = 0x0403_4b50;
const FIXED_LEN: usize = 30;
const FLAG_DESCRIPTOR: u16 = 0x0008;
const DESCRIPTOR_SIGNATURE: u32 = 0x0807_4b50;

/// Finds each entry's data. The entries, given by their headers' offsets, fill the archive up to `directory_offset`.
pub fn locate(
    source: &Source,
    entries: Vec<CentralEntry>,
    directory_offset: u64,
) -> Result<Vec<Entry>, Error> {
    let mut window = Window { source, bytes: Vec::new(), offset: 0 };
    let mut located: Vec<Entry> = Vec::with_capacity(entries.len());
    let mut position = 0;
    let mut entries = entries.into_iter().peekable();
    while let Some(entry) = entries.next() {
        let previous = located.last().map_or("", |entry| &entry.name);
        expect_next(previous, position, entry.header_offset)?;
        let header = read_header(&mut window, &entry)?;
        let data_offset = entry.header_offset + header.len;
        let data_end = data_offset.saturating_add(entry.compressed_size);
        position = data_end;
        if header.has_descriptor {
            // What is between the data and the next entry is the descriptor or a gap.
            let next = entries.peek().map_or(directory_offset, |entry| entry.header_offset);
            check_descriptor(&mut window, &entry, header.is_zip64, data_end, next)?;
            position = next;
        }
        located.push(Entry {
            name: entry.name,
            kind: entry.kind,
            method: entry.method,
            crc32: entry.crc32,
            compressed_size: entry.compressed_size,
            size: entry.size,
            data_offset,
            mode: entry.mode,
        });
    }
    let last = located.last().map_or("", |entry| &entry.name);
    expect_next(last, position, directory_offset)?;
    Ok(located)
}

fn expect_next(name: &str, end: u64, next: u64) -> Result<(), Error> {
    match end.cmp(&next) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(Error::Gap { name: name.to_owned(), end, next }),
        std::cmp::Ordering::Greater => Err(Error::Overlap { name: name.to_owned(), end, next }),
    }
}

/// What a local header adds to what the central directory says.
struct LocalHeader {
    /// Bytes of it, with name and extra fields.
    len: u64,
    has_descriptor: bool,
    is_zip64: bool,
}

fn read_header(window: &mut Window<'_>, entry: &CentralEntry) -> Result<LocalHeader, Error> {
    let record = "local header";
    let offset = entry.header_offset;
    let fixed = window.get(offset, FIXED_LEN)?;
    let (name_len, extra_len, header) = parse(record, offset, fixed, |fields| {
        let (signature, _needed) = (fields.u32()?, fields.u16()?);
        let (flags, method, _modified) = (fields.u16()?, fields.u16()?, fields.u32()?);
        let (crc32, compressed_size, size) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (name_len, extra_len) = (fields.u16()?, fields.u16()?);
        Some((name_len, extra_len, (signature, flags, method, crc32, compressed_size, size)))
    })?;
    let (signature, flags, method, crc32, compressed_size, size) = header;
    expect_signature(record, offset, signature, SIGNATURE)?;

    let len = FIXED_LEN + usize::from(name_len) + usize::from(extra_len);
    let bytes = window.get(offset, len)?;
    let (name, extra) = parse(record, offset, bytes, |fields| {
        fields.bytes(FIXED_LEN)?;
        Some((fields.bytes(name_len.into())?, fields.bytes(extra_len.into())?))
    })?;
    if name != entry.name.as_bytes() {
        return Err(Error::LocalName {
            central: entry.name.clone(),
            local: String::from_utf8_lossy(name).into_owned(),
            offset,
        });
    }
    let same = |field, local: u64, central: u64| {
        let name = || entry.name.clone();
        if local == central {
            Ok(())
        } else {
            Err(Error::HeadersDisagree { name: name(), field, local, central })
        }
    };
    // Streaming writers set the descriptor's flag in the local header; not all repeat it in the central one, where it
    // means nothing.
    let has_descriptor = flags & FLAG_DESCRIPTOR != 0;
    let meaningless = if has_descriptor { FLAG_DESCRIPTOR } else { 0 };
    same("flags", (flags | meaningless).into(), (entry.flags | meaningless).into())?;
    same("method", method.into(), if entry.method == Method::Stored { 0 } else { 8 })?;

    let extra = Extra::parse(&entry.name, Header::Local, extra)?;
    let is_zip64 = extra.is_zip64();
    let [size, compressed_size] = extra.widen([("size", size), ("compressed size", compressed_size)])?;
    // With a descriptor these are zero, unless the writer knew them before.
    for (field, local, central) in [
        ("CRC-32", u64::from(crc32), u64::from(entry.crc32)),
        ("compressed size", compressed_size, entry.compressed_size),
        ("size", size, entry.size),
    ] {
        if !(has_descriptor && local == 0) {
            same(field, local, central)?;
        }
    }
    // The length of stored data that only its descriptor gives has to be guessed by whoever reads from the front.
    if has_descriptor && entry.method == Method::Stored && compressed_size != entry.compressed_size {
        return Err(Error::UnknownLength { name: entry.name.clone(), size: entry.size });
    }
    Ok(LocalHeader { len: len as u64, has_descriptor, is_zip64 })
}

/// Compares the data descriptor, which is all there is from `offset` to `next`.
///
/// Its signature is optional. Its sizes have 64 bits where the local header has a Zip64 field, and where 32 are not
/// enough: some writers notice only when they are done.
fn check_descriptor(
    window: &mut Window<'_>,
    entry: &CentralEntry,
    is_zip64: bool,
    offset: u64,
    next: u64,
) -> Result<(), Error> {
    let limit = u64::from(u32::MAX);
    let wide = is_zip64 || entry.size > limit || entry.compressed_size > limit;
    let bare_len = if wide { 20 } else { 12 };
    let Some(len) = next.checked_sub(offset) else {
        return expect_next(&entry.name, offset, next);
    };
    let mismatch = |field, descriptor, expected| Error::Descriptor {
        name: entry.name.clone(),
        field,
        descriptor,
        expected,
    };
    if len != bare_len && len != bare_len + 4 {
        return Err(mismatch("number of bytes", len, bare_len + 4));
    }
    let bytes = window.get(offset, usize::try_from(len).unwrap_or(0))?;
    let (signature, crc32, compressed_size, size) = parse("data descriptor", offset, bytes, |fields| {
        let signature = if len == bare_len { None } else { Some(fields.u32()?) };
        let crc32 = fields.u32()?;
        let size = |fields: &mut Fields<'_>| if wide { fields.u64() } else { fields.u32().map(u64::from) };
        Some((signature, crc32, size(fields)?, size(fields)?))
    })?;
    if let Some(signature) = signature {
        expect_signature("data descriptor", offset, signature, DESCRIPTOR_SIGNATURE)?;
    } else if crc32 == DESCRIPTOR_SIGNATURE {
        // Readers from the front would take the CRC-32 for a signature.
        return Err(mismatch("number of bytes", len, bare_len + 4));
    }
    for (field, descriptor, expected) in [
        ("CRC-32", u64::from(crc32), u64::from(entry.crc32)),
        ("compressed size", compressed_size, entry.compressed_size),
        ("size", size, entry.size),
    ] {
        if descriptor != expected {
            return Err(mismatch(field, descriptor, expected));
        }
    }
    Ok(())
}

/// A piece of the archive, read ahead: the headers of small entries are near each other, and those of large ones are
/// worth a read each.
struct Window<'a> {
    source: &'a Source,
    bytes: Vec<u8>,
    offset: u64,
}

impl Window<'_> {
    const LEN: usize = 16 << 10;

    /// `len` bytes at `offset`, or as many as the file has.
    fn get(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let available = self.source.len().saturating_sub(offset);
        let at_most = |len: usize| usize::try_from(available).map_or(len, |available| len.min(available));
        let len = at_most(len);
        let start = offset.checked_sub(self.offset).and_then(|start| usize::try_from(start).ok());
        let loaded = start.is_some_and(|start| start.saturating_add(len) <= self.bytes.len());
        if !loaded {
            self.bytes.resize(at_most(len.max(Self::LEN)), 0);
            self.offset = offset;
            self.source.read_exact_at(&mut self.bytes, offset)?;
        }
        let start = if loaded { start.unwrap_or(0) } else { 0 };
        Ok(self.bytes.get(start..start.saturating_add(len)).unwrap_or_default())
    }
}
