//! Wheels written for a test: right in everything that the test does not change.

use std::io::{Cursor, Seek, Write};

use data_encoding::BASE64URL_NOPAD;
use imgforge_oci::Digest;
use zip::CompressionMethod::{Deflated, Stored};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A wheel in the making: `demo` 1.0, with METADATA, WHEEL and a RECORD of what is added.
pub struct Wheel {
    /// Name, content and zip options, in the order of the archive.
    files: Vec<(String, Vec<u8>, SimpleFileOptions)>,
    /// What RECORD has for a name in place of the line that [`line`] makes: another one, or none.
    lines: Vec<(String, Option<String>)>,
    more_lines: String,
    folders: Vec<String>,
    links: Vec<(String, String)>,
    streamed: bool,
}

impl Wheel {
    pub fn new() -> Self {
        let wheel = Self {
            files: Vec::new(),
            lines: Vec::new(),
            more_lines: String::new(),
            folders: Vec::new(),
            links: Vec::new(),
            streamed: false,
        };
        wheel
            .file(
                "demo-1.0.dist-info/METADATA",
                "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n\nName: text\n",
            )
            .file(
                "demo-1.0.dist-info/WHEEL",
                "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            )
    }

    /// A deflated file with mode `0644`; replaces one of the same name.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.with(name, content, options())
    }

    /// A deflated file with mode `0755`.
    pub fn executable(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.with(name, content, options().unix_permissions(0o755))
    }

    /// A file that is not compressed.
    pub fn stored(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.with(name, content, options().compression_method(Stored))
    }

    /// A file with a Zip64 extra field in its header.
    pub fn zip64(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.with(name, content, options().large_file(true))
    }

    /// A file of the script section of entry_points.txt.
    pub fn entry_points(self, text: &str) -> Self {
        self.file("demo-1.0.dist-info/entry_points.txt", text)
    }

    /// An entry for a folder.
    pub fn folder(mut self, name: &str) -> Self {
        self.folders.push(name.to_owned());
        self
    }

    pub fn symlink(mut self, name: &str, target: &str) -> Self {
        self.links.push((name.to_owned(), target.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.files.retain(|(other, ..)| other != name);
        self
    }

    /// Sizes and CRC-32 come after each file's data.
    pub fn streamed(mut self) -> Self {
        self.streamed = true;
        self
    }

    /// Another line for a file in RECORD.
    pub fn line(mut self, name: &str, line: &str) -> Self {
        self.lines.push((name.to_owned(), Some(line.to_owned())));
        self
    }

    /// No line for a file in RECORD.
    pub fn unlisted(mut self, name: &str) -> Self {
        self.lines.push((name.to_owned(), None));
        self
    }

    /// Lines at RECORD's end.
    pub fn more_lines(mut self, lines: &str) -> Self {
        self.more_lines += lines;
        self
    }

    pub fn build(self) -> Vec<u8> {
        if self.streamed {
            let mut bytes = Vec::new();
            self.write(ZipWriter::new_stream(&mut bytes));
            bytes
        } else {
            let mut bytes = Cursor::new(Vec::new());
            self.write(ZipWriter::new(&mut bytes));
            bytes.into_inner()
        }
    }

    fn write<W: Write + Seek>(self, mut archive: ZipWriter<W>) {
        const RECORD: &str = "demo-1.0.dist-info/RECORD";
        let mut record = String::new();
        for (name, content, _) in &self.files {
            match self.lines.iter().find(|(other, _)| other == name) {
                Some((_, Some(other))) => record += other,
                Some((_, None)) => continue,
                None => record += &line(name, content),
            }
            record += "\n";
        }
        record += &self.more_lines;
        record += &format!("{RECORD},,\n");
        for folder in &self.folders {
            archive.add_directory(folder.as_str(), options()).unwrap();
        }
        for (name, target) in &self.links {
            archive.add_symlink(name.as_str(), target.as_str(), options()).unwrap();
        }
        let bring_record = self.lines.iter().all(|(name, line)| name != RECORD || line.is_some());
        let record = bring_record.then(|| (RECORD.to_owned(), record.into_bytes(), options()));
        for (name, content, options) in self.files.into_iter().chain(record) {
            archive.start_file(name, options).unwrap();
            archive.write_all(&content).unwrap();
        }
        archive.finish().unwrap();
    }

    fn with(mut self, name: &str, content: impl AsRef<[u8]>, options: SimpleFileOptions) -> Self {
        self.files.retain(|(other, ..)| other != name);
        self.files.push((name.to_owned(), content.as_ref().to_vec(), options));
        self
    }
}

/// RECORD's line for a file.
pub fn line(name: &str, content: impl AsRef<[u8]>) -> String {
    let content = content.as_ref();
    let name = match name.contains([',', '"']) {
        true => format!("\"{}\"", name.replace('"', "\"\"")),
        false => name.to_owned(),
    };
    format!("{name},sha256={},{}", BASE64URL_NOPAD.encode(Digest::of(content).as_bytes()), content.len())
}

fn options() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(Deflated).unix_permissions(0o644)
}
