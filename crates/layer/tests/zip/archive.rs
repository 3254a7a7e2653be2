//! Archives written field by field, so that each field can be wrong.

use std::io::{Seek, Write};

use imgforge_layer::Source;

/// One entry: what its headers say, and what its bytes are. [`Entry::file`] is a stored file about which all agree.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// Bytes before the local header that belong to nothing.
    pub gap: Vec<u8>,
    pub name: Vec<u8>,
    /// Another name in the local header.
    pub local_name: Option<Vec<u8>>,
    pub flags: u16,
    pub local_flags: Option<u16>,
    pub method: u16,
    pub crc32: u32,
    pub compressed_size: u32,
    pub size: u32,
    /// CRC-32, compressed size and size in the local header, where they differ.
    pub local_values: Option<[u32; 3]>,
    pub local_extra: Vec<u8>,
    pub central_extra: Vec<u8>,
    pub comment: Vec<u8>,
    pub disk: u16,
    /// The system in the upper byte.
    pub made_by: u16,
    pub attributes: u32,
    pub data: Vec<u8>,
    pub descriptor: Vec<u8>,
}

impl Entry {
    pub fn file(name: &str, data: &[u8]) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            flags: if name.is_ascii() { 0 } else { 0x0800 },
            crc32: crc32fast::hash(data),
            compressed_size: data.len() as u32,
            size: data.len() as u32,
            made_by: 0x0314,
            data: data.to_vec(),
            ..Self::default()
        }
    }

    pub fn with_mode(self, mode: u32) -> Self {
        Self { attributes: mode << 16, ..self }
    }

    /// Deflated, with a data descriptor of 32-bit or 64-bit sizes. The local header leaves CRC-32 and sizes out, and the
    /// central header leaves out the flag.
    pub fn streamed(name: &str, data: &[u8], signature: bool, wide: bool) -> Self {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        let deflated = encoder.finish().unwrap();
        let mut entry = Self::file(name, data);
        entry.method = 8;
        entry.compressed_size = deflated.len() as u32;
        entry.local_flags = Some(entry.flags | 8);
        entry.local_values = Some([0; 3]);
        if signature {
            entry.descriptor.extend(b"PK\x07\x08");
        }
        entry.descriptor.extend(entry.crc32.to_le_bytes());
        if wide {
            entry.local_extra = extra(1, &[]);
            entry.descriptor.extend(u64::from(entry.compressed_size).to_le_bytes());
            entry.descriptor.extend(u64::from(entry.size).to_le_bytes());
        } else {
            entry.descriptor.extend(entry.compressed_size.to_le_bytes());
            entry.descriptor.extend(entry.size.to_le_bytes());
        }
        entry.data = deflated;
        entry
    }

    /// The header before the data.
    pub fn local_header(&self) -> Vec<u8> {
        let name = self.local_name.as_ref().unwrap_or(&self.name);
        let [crc32, compressed_size, size] =
            self.local_values.unwrap_or([self.crc32, self.compressed_size, self.size]);
        let mut bytes = b"PK\x03\x04".to_vec();
        put16(&mut bytes, &[20, self.local_flags.unwrap_or(self.flags), self.method, 0, 0x21]);
        put32(&mut bytes, &[crc32, compressed_size, size]);
        put16(&mut bytes, &[name.len() as u16, self.local_extra.len() as u16]);
        bytes.extend(name);
        bytes.extend(&self.local_extra);
        bytes
    }

    /// The header in the central directory.
    pub fn central_header(&self, offset: u32) -> Vec<u8> {
        let mut bytes = b"PK\x01\x02".to_vec();
        put16(&mut bytes, &[self.made_by, 20, self.flags, self.method, 0, 0x21]);
        put32(&mut bytes, &[self.crc32, self.compressed_size, self.size]);
        let (name, extra, comment) = (self.name.len(), self.central_extra.len(), self.comment.len());
        put16(&mut bytes, &[name as u16, extra as u16, comment as u16, self.disk, 0]);
        put32(&mut bytes, &[self.attributes, offset]);
        bytes.extend(&self.name);
        bytes.extend(&self.central_extra);
        bytes.extend(&self.comment);
        bytes
    }
}

/// An archive of these entries, in their order.
pub fn archive(entries: &[Entry]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        bytes.extend(&entry.gap);
        directory.extend(entry.central_header(bytes.len() as u32));
        bytes.extend(entry.local_header());
        bytes.extend(&entry.data);
        bytes.extend(&entry.descriptor);
    }
    let offset = bytes.len() as u32;
    bytes.extend(&directory);
    bytes.extend(end(entries.len() as u16, directory.len() as u32, offset, b""));
    bytes
}

/// An end record.
pub fn end(entries: u16, size: u32, offset: u32, comment: &[u8]) -> Vec<u8> {
    let mut bytes = b"PK\x05\x06".to_vec();
    put16(&mut bytes, &[0, 0, entries, entries]);
    put32(&mut bytes, &[size, offset]);
    put16(&mut bytes, &[comment.len() as u16]);
    bytes.extend(comment);
    bytes
}

/// The Zip64 end record and its locator, for a directory that ends where the record begins.
pub fn end64(entries: u64, size: u64, offset: u64) -> Vec<u8> {
    let mut bytes = b"PK\x06\x06".to_vec();
    put64(&mut bytes, &[44]);
    put16(&mut bytes, &[0x032d, 45]);
    put32(&mut bytes, &[0, 0]);
    put64(&mut bytes, &[entries, entries, size, offset]);
    bytes.extend(b"PK\x06\x07");
    put32(&mut bytes, &[0]);
    put64(&mut bytes, &[offset + size]);
    put32(&mut bytes, &[1]);
    bytes
}

/// One extra field.
pub fn extra(id: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put16(&mut bytes, &[id, value.len() as u16]);
    bytes.extend(value);
    bytes
}

/// A Zip64 extra field.
pub fn extra64(values: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put64(&mut bytes, values);
    extra(1, &bytes)
}

/// The bytes as a source.
pub fn source(bytes: &[u8]) -> Source {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    Source::from_file(file, "test.zip").unwrap()
}

fn put16(bytes: &mut Vec<u8>, values: &[u16]) {
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn put32(bytes: &mut Vec<u8>, values: &[u32]) {
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn put64(bytes: &mut Vec<u8>, values: &[u64]) {
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}
