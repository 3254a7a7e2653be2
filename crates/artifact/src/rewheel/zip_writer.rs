//! The one writer of wheels' archives.
//!
//! Every field is fixed or follows from an entry's name, mode and content: no time but the format's first, no extra field
//! but Zip64's where a number does not fit, no data descriptor, no comment. Ours, and not a library's, because the bytes
//! are what an artifact's digest is of.
//!
//! Source: PKWARE's APPNOTE.TXT 6.3.10; section numbers in the comments are its.

use std::io::{self, Write};

/// 1980-01-01 in DOS's format (4.4.6), whose years count from 1980.
const DATE: u16 = 1 << 5 | 1;
/// Made on a Unix, by version 4.5 of the specification (4.4.2).
const MADE_BY: u16 = 3 << 8 | 45;
/// The name is UTF-8 (4.4.4, bit 11).
const UTF8: u16 = 1 << 11;

/// An entry whose content is known.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// A folder's ends in `/`.
    pub(super) name: String,
    /// Type and permissions as `st_mode` has them.
    pub(super) mode: u32,
    /// Whether what follows is a DEFLATE stream, and not the content itself.
    pub(super) is_deflated: bool,
    /// Of the content.
    pub(super) crc32: u32,
    /// Bytes that follow.
    pub(super) compressed_size: u64,
    /// Bytes of content.
    pub(super) size: u64,
}

/// Writes an archive, entry by entry.
pub(super) struct ZipWriter<W> {
    out: W,
    at: u64,
    directory: Vec<u8>,
    entries: u64,
    /// Numbers from this one on stand in Zip64's fields. A parameter for tests' sake.
    zip64_from: u64,
}

impl<W: Write> ZipWriter<W> {
    pub(super) const fn new(out: W) -> Self {
        Self { out, at: 0, directory: Vec::new(), entries: 0, zip64_from: u32::MAX as u64 }
    }

    /// Writes an entry's header; its [`Header::compressed_size`] bytes are to follow by [`data`](Self::data).
    pub(super) fn start(&mut self, header: &Header) -> io::Result<()> {
        let offset = self.at;
        let large = [header.size, header.compressed_size].iter().any(|size| *size >= self.zip64_from);
        let mut local = Record::default();
        local.u32(0x0403_4b50);
        // In a local header, Zip64's field has both sizes or is not there (4.5.3).
        self.common(&mut local, header, large, if large { 20 } else { 0 })?;
        local.bytes(header.name.as_bytes());
        if large {
            local.zip64(&[header.size, header.compressed_size]);
        }
        self.data(&local.0)?;

        let mut more = Vec::new();
        if large {
            more.extend([header.size, header.compressed_size]);
        }
        if offset >= self.zip64_from {
            more.push(offset);
        }
        let mut central = Record::default();
        central.u32(0x0201_4b50);
        central.u16(MADE_BY);
        self.common(
            &mut central,
            header,
            large,
            if more.is_empty() { 0 } else { 4 + 8 * more.len() as u16 },
        )?;
        central.u16(0); // comment
        central.u16(0); // disk
        central.u16(0); // internal attributes
        let directory = if header.name.ends_with('/') { 0x10 } else { 0 };
        central.u32(header.mode << 16 | directory);
        central.u32(self.number(offset));
        central.bytes(header.name.as_bytes());
        if !more.is_empty() {
            central.zip64(&more);
        }
        self.directory.extend_from_slice(&central.0);
        self.entries += 1;
        Ok(())
    }

    /// Writes an entry's next bytes.
    pub(super) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Writes the directory, and gives back what was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let (start, len) = (self.at, self.directory.len() as u64);
        let directory = std::mem::take(&mut self.directory);
        self.data(&directory)?;
        let mut end = Record::default();
        let many = self.entries >= self.zip64_from.min(u64::from(u16::MAX));
        if many || [start, len].iter().any(|number| *number >= self.zip64_from) {
            // 4.3.14 and 4.3.15
            end.u32(0x0606_4b50);
            end.u64(44);
            end.u16(MADE_BY);
            end.u16(45);
            end.u32(0);
            end.u32(0);
            end.u64(self.entries);
            end.u64(self.entries);
            end.u64(len);
            end.u64(start);
            end.u32(0x0706_4b50);
            end.u32(0);
            end.u64(self.at);
            end.u32(1);
        }
        // 4.3.16
        end.u32(0x0605_4b50);
        end.u16(0);
        end.u16(0);
        let entries = if many { u16::MAX } else { self.entries as u16 };
        end.u16(entries);
        end.u16(entries);
        end.u32(self.number(len));
        end.u32(self.number(start));
        end.u16(0);
        self.data(&end.0)?;
        Ok(self.out)
    }

    /// The fields that both headers have in the same order (4.3.7, 4.3.12), up to the length of the extra field.
    fn common(&self, record: &mut Record, header: &Header, large: bool, extra: u16) -> io::Result<()> {
        let name = u16::try_from(header.name.len()).map_err(io::Error::other)?;
        record.u16(if extra > 0 { 45 } else { 20 });
        record.u16(if header.name.is_ascii() { 0 } else { UTF8 });
        record.u16(if header.is_deflated { 8 } else { 0 });
        record.u16(0);
        record.u16(DATE);
        record.u32(header.crc32);
        record.u32(if large { u32::MAX } else { self.number(header.compressed_size) });
        record.u32(if large { u32::MAX } else { self.number(header.size) });
        record.u16(name);
        record.u16(extra);
        Ok(())
    }

    /// A number, or the sign that it stands elsewhere.
    fn number(&self, number: u64) -> u32 {
        if number >= self.zip64_from { u32::MAX } else { number as u32 }
    }
}

/// Little-endian fields, one behind the other.
#[derive(Default)]
struct Record(Vec<u8>);

impl Record {
    fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Zip64's extra field (4.5.3).
    fn zip64(&mut self, numbers: &[u64]) {
        self.u16(1);
        self.u16(8 * numbers.len() as u16);
        for number in numbers {
            self.u64(*number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use imgforge_layer::Source;
    use imgforge_layer::zip::{self, Kind, Limits, Method};

    use super::*;

    /// Writes files of these sizes, each with its own mode, and reads them back by the strict reader.
    fn check(sizes: &[usize], zip64_from: u64) -> Vec<u8> {
        let mut writer = ZipWriter { zip64_from, ..ZipWriter::new(Vec::new()) };
        for (number, &size) in sizes.iter().enumerate() {
            let content = vec![b'x'; size];
            let header = Header {
                name: format!("é/{number}"),
                mode: 0o100_644 + number as u32 % 2 * 0o111,
                is_deflated: false,
                crc32: crc32fast::hash(&content),
                compressed_size: size as u64,
                size: size as u64,
            };
            writer.start(&header).unwrap();
            writer.data(&content).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let source = Arc::new(Source::from_bytes(bytes.clone(), "x.whl"));
        let entries = zip::read_directory(&source, &Limits::default()).unwrap();
        assert_eq!(entries.len(), sizes.len());
        for (number, (entry, &size)) in entries.iter().zip(sizes).enumerate() {
            assert_eq!((entry.name.as_str(), entry.size), (format!("é/{number}").as_str(), size as u64));
            assert_eq!((entry.kind, entry.method), (Kind::File, Method::Stored));
            assert_eq!(entry.mode, Some(0o644 + number as u32 % 2 * 0o111));
            zip::verify(&source, entry).unwrap();
        }
        bytes
    }

    #[test]
    fn numbers_that_fit_and_numbers_that_do_not() {
        check(&[], 100);
        check(&[0], 100);
        check(&[1, 99], 100);
        check(&[100, 1, 101, 7], 100);
        check(&[0; 200], u64::from(u32::MAX));
        // Offsets are large before sizes are.
        check(&[30, 30, 30, 30], 100);
        // More entries than 16 bits count.
        check(&[0; 65_534], u64::from(u32::MAX));
        check(&[0; 65_535], u64::from(u32::MAX));
        check(&[0; 65_536], u64::from(u32::MAX));
    }

    /// What other people's programs read.
    #[test]
    fn python_and_unzip_read_it() {
        let folder = tempfile::tempdir().unwrap();
        for (number, zip64_from) in [100, u64::from(u32::MAX)].into_iter().enumerate() {
            let path = folder.path().join(format!("{number}.zip"));
            std::fs::write(&path, check(&[0, 1, 99, 100, 101, 5_000], zip64_from)).unwrap();
            for (program, arguments) in [("python3", &["-m", "zipfile", "-t"][..]), ("unzip", &["-tq"])] {
                let run = std::process::Command::new(program).args(arguments).arg(&path).output();
                let run = run.unwrap_or_else(|error| panic!("{program}: {error}; apt-get install {program}"));
                assert!(run.status.success(), "{program}: {}", String::from_utf8_lossy(&run.stdout));
            }
        }
    }
}
