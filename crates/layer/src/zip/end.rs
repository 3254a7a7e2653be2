//! The records at the end of an archive: the end record (4.3.16), and before it the Zip64 locator (4.3.15) and end
//! record (4.3.14).

use super::fields::{expect_signature, parse};
use super::{Error, Limits};
use crate::Source;

const END_SIGNATURE: u32 = 0x0605_4b50;
const END_LEN: usize = 22;
const LOCATOR_SIGNATURE: u32 = 0x0706_4b50;
const LOCATOR_LEN: u64 = 20;
const END64_SIGNATURE: u32 = 0x0606_4b50;
const END64_LEN: u64 = 56;
const COMMENT_MAX: u64 = u16::MAX as u64;

/// Where the central directory is.
#[derive(Debug, PartialEq, Eq)]
pub struct Directory {
    pub offset: u64,
    pub size: u64,
    pub entries: u64,
}

/// Finds the central directory, which ends where the end records begin.
pub fn find(source: &Source, limits: &Limits) -> Result<Directory, Error> {
    let (end, end_offset) = read_end(source)?;
    let (directory, records_offset) = match read_locator(source, end_offset)? {
        Some(end64_offset) => (read_end64(source, end64_offset, &end)?, end64_offset),
        None => (end.without_zip64()?, end_offset),
    };
    let directory_end = directory.offset.saturating_add(directory.size);
    if directory_end != records_offset {
        return Err(Error::DirectoryEnd { end: directory_end, expected: records_offset });
    }
    let archive = || "the archive".to_owned();
    Limits::check(archive, "entries", directory.entries, limits.entries)?;
    Limits::check(archive, "bytes of central directory", directory.size, limits.directory)?;
    Ok(directory)
}

/// The fields of the end record. Those that are all ones refer to the Zip64 end record.
struct End {
    disk: u16,
    directory_disk: u16,
    disk_entries: u16,
    entries: u16,
    size: u32,
    offset: u32,
}

/// Reads the last end record in the file, which has to be the only one that fits the file's end.
///
/// Readers search for it from the end backwards, from the end forwards within the largest comment, or trust the first
/// whose comment reaches the end. All find the same when the last signature of the file is the record, and no earlier
/// one has a comment of the right length.
fn read_end(source: &Source) -> Result<(End, u64), Error> {
    let searched = source.len().min(END_LEN as u64 + COMMENT_MAX);
    let tail_offset = source.len() - searched;
    let mut tail = vec![0; usize::try_from(searched).unwrap_or(0)];
    source.read_exact_at(&mut tail, tail_offset)?;

    let mut found: Option<(End, u64)> = None;
    for (index, window) in tail.windows(4).enumerate().rev() {
        if window != END_SIGNATURE.to_le_bytes() {
            continue;
        }
        let offset = tail_offset + index as u64;
        let bytes = tail.get(index..).unwrap_or_default();
        let record = parse("end record", offset, bytes, |fields| {
            fields.u32()?;
            let end = End {
                disk: fields.u16()?,
                directory_disk: fields.u16()?,
                disk_entries: fields.u16()?,
                entries: fields.u16()?,
                size: fields.u32()?,
                offset: fields.u32()?,
            };
            let comment = fields.u16()?;
            Some((end, offset + END_LEN as u64 + u64::from(comment)))
        });
        match &found {
            None => {
                let (end, archive_end) = record?;
                if archive_end != source.len() {
                    return Err(Error::BytesAfterEnd { end: archive_end, len: source.len() });
                }
                found = Some((end, offset));
            }
            Some((_, last)) => {
                if record.is_ok_and(|(_, archive_end)| archive_end == source.len()) {
                    return Err(Error::TwoEndRecords { first: offset, second: *last });
                }
            }
        }
    }
    found.ok_or(Error::NoEndRecord { searched, len: source.len() })
}

/// Reads the Zip64 locator, if one is right before the end record, and gives the offset of the Zip64 end record, which
/// has to be right before the locator.
fn read_locator(source: &Source, end_offset: u64) -> Result<Option<u64>, Error> {
    let Some(offset) = end_offset.checked_sub(LOCATOR_LEN) else { return Ok(None) };
    let mut bytes = [0; LOCATOR_LEN as usize];
    source.read_exact_at(&mut bytes, offset)?;
    let record = "Zip64 locator";
    let (signature, disk, end64_offset, disks) = parse(record, offset, &bytes, |fields| {
        Some((fields.u32()?, fields.u32()?, fields.u64()?, fields.u32()?))
    })?;
    if signature != LOCATOR_SIGNATURE {
        return Ok(None);
    }
    let expected = offset.checked_sub(END64_LEN).ok_or(Error::Truncated {
        record: "Zip64 end record",
        offset: 0,
        available: offset,
    })?;
    check_field(record, "disk of the end record", disk.into(), 0)?;
    check_field(record, "number of disks", disks.into(), 1)?;
    check_field(record, "offset of the Zip64 end record", end64_offset, expected)?;
    Ok(Some(end64_offset))
}

/// Reads the Zip64 end record; what the end record gives itself has to be the same.
fn read_end64(source: &Source, offset: u64, end: &End) -> Result<Directory, Error> {
    let mut bytes = [0; END64_LEN as usize];
    source.read_exact_at(&mut bytes, offset)?;
    let record = "Zip64 end record";
    let (signature, record_size, disk, directory_disk, disk_entries, directory) =
        parse(record, offset, &bytes, |fields| {
            let (signature, record_size) = (fields.u32()?, fields.u64()?);
            let (_made_by, _needed) = (fields.u16()?, fields.u16()?);
            let (disk, directory_disk, disk_entries) = (fields.u32()?, fields.u32()?, fields.u64()?);
            let (entries, size, offset) = (fields.u64()?, fields.u64()?, fields.u64()?);
            let directory = Directory { offset, size, entries };
            Some((signature, record_size, disk, directory_disk, disk_entries, directory))
        })?;
    expect_signature(record, offset, signature, END64_SIGNATURE)?;
    // The size leaves out the signature and itself. A longer record has extensible data, in which no writer of wheels
    // has anything to say.
    check_field(record, "size", record_size, END64_LEN - 12)?;
    check_field(record, "number of this disk", disk.into(), 0)?;
    check_field(record, "disk of the central directory", directory_disk.into(), 0)?;
    check_field(record, "number of entries on this disk", disk_entries, directory.entries)?;

    let record = "end record";
    let narrow = [
        ("number of this disk", u64::from(end.disk), u64::from(u16::MAX), 0),
        ("disk of the central directory", end.directory_disk.into(), u16::MAX.into(), 0),
        ("number of entries on this disk", end.disk_entries.into(), u16::MAX.into(), directory.entries),
        ("number of entries", end.entries.into(), u16::MAX.into(), directory.entries),
        ("size of the central directory", end.size.into(), u32::MAX.into(), directory.size),
        ("offset of the central directory", end.offset.into(), u32::MAX.into(), directory.offset),
    ];
    for (field, value, all_ones, expected) in narrow {
        if value != all_ones {
            check_field(record, field, value, expected)?;
        }
    }
    Ok(directory)
}

impl End {
    /// The directory of an archive without Zip64 records, to which no field may refer then.
    fn without_zip64(&self) -> Result<Directory, Error> {
        let record = "end record";
        let missing = |field| Error::Zip64Missing { owner: "the end record".to_owned(), field };
        if self.entries == u16::MAX {
            return Err(missing("number of entries"));
        }
        if self.size == u32::MAX {
            return Err(missing("size of the central directory"));
        }
        if self.offset == u32::MAX {
            return Err(missing("offset of the central directory"));
        }
        check_field(record, "number of this disk", self.disk.into(), 0)?;
        check_field(record, "disk of the central directory", self.directory_disk.into(), 0)?;
        check_field(record, "number of entries on this disk", self.disk_entries.into(), self.entries.into())?;
        Ok(Directory { offset: self.offset.into(), size: self.size.into(), entries: self.entries.into() })
    }
}

fn check_field(record: &'static str, field: &'static str, found: u64, expected: u64) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::EndField { record, field, found, expected }) }
}
