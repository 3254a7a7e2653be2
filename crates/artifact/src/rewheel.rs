//! One wheel, always the same bytes, of whatever way a build backend has zipped it up.
//!
//! Backends write entries in the order of a folder's listing, with the times of the build, with the permissions of a
//! umask and with whatever zlib their Python has. Made anew here, a wheel's bytes follow from its files alone:
//!
//! - entries are sorted, those of `.dist-info` last and RECORD behind all others (PyPA, "Binary distribution format",
//!   "Recommended archiver features");
//! - files are `0644` or `0755`, of 1980-01-01, the first day that a zip archive can express; folders stay only where
//!   nothing is in them;
//! - contents are deflated by one codec ([`CODEC`]), or stored where that makes them no smaller;
//! - RECORD is true; its signatures, which can't be true any more, are left out, and so is `__pycache__`, which has the
//!   time of the build in it and is installed by nobody;
//! - the platform in the file name and in WHEEL says which glibc is needed: [`platform`] has the rule and its reasons.
//!
//! METADATA and all other contents stay as they are. On the way each ELF file is asked what it needs of the system, and
//! each file whether the build's folders stand in it: the [`Report`].

mod content;
mod deflate;
mod elf;
pub mod platform;
mod report;
mod zip_writer;

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write};
use std::path::Path;

use data_encoding::BASE64URL_NOPAD;
use imgforge_layer::Source;
use imgforge_layer::wheel::{FileName, header, normalise};
use imgforge_layer::zip::{self, Kind, Limits};
use imgforge_oci::{Digest, Hasher};
use pep440_rs::Version;
use tempfile::SpooledTempFile;

use crate::Distribution;
use content::Examined;
use deflate::{Deflater, PIECE};
use zip_writer::{Header, ZipWriter};

pub use deflate::CODEC;
pub use report::Report;

/// What is asked for beside the wheel itself.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// What the wheel must be of.
    pub expected: Option<&'a Distribution>,
    /// Folders of the build, whose names in files are reported. Not empty, and without a slash at the end.
    pub build_paths: &'a [&'a str],
    /// Where files without a name are made: as large as the largest entry.
    pub scratch: &'a Path,
}

/// A wheel that was made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewheeled {
    /// Its file name.
    pub file_name: String,
    /// Of its bytes.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// What its files need of the system.
    pub report: Report,
}

/// Writes the wheel in `source`, which a backend has called `file_name`, anew to `out`.
///
/// Memory is bounded: some tens of megabytes, whatever the wheel's size.
///
/// # Errors
/// [`Error`], which names the wheel; then `out` has a part of it.
pub fn rewheel(
    source: &Source,
    file_name: &str,
    options: Options<'_>,
    out: &mut dyn Write,
) -> Result<Rewheeled, Error> {
    Wheel::open(source, file_name, options)
        .and_then(|wheel| wheel.write(out))
        .map_err(|problem| Error { wheel: file_name.to_owned(), problem })
}

/// A wheel that a build has made and that can't be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("the wheel {wheel}, which the build has made, can't be used")]
pub struct Error {
    /// Its file name.
    pub wheel: String,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a wheel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// It is no well-formed zip archive.
    #[error(transparent)]
    Zip(#[from] zip::Error),
    /// The file's name is not that of a wheel.
    #[error("the file name is not NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl")]
    FileName,
    /// There must be one folder `NAME-VERSION.dist-info`.
    #[error("{count} folders end in `.dist-info`, a wheel has one")]
    DistInfo {
        /// How many there are.
        count: usize,
    },
    /// A file that every wheel has is missing.
    #[error("{name} is missing")]
    Missing {
        /// Its name in the archive.
        name: String,
    },
    /// A metadata file is too large to be one.
    #[error("{name} has {size} bytes, more than the {limit} that such a file may have")]
    TooLarge {
        /// Its name in the archive.
        name: String,
        /// Bytes.
        size: u64,
        /// Bytes.
        limit: u64,
    },
    /// A metadata file is no UTF-8.
    #[error("{name} is not UTF-8")]
    NotUtf8 {
        /// Its name in the archive.
        name: String,
    },
    /// A symbolic link, which a wheel can't hold.
    #[error("{name} is a symbolic link; the wheel format has none")]
    Symlink {
        /// Its name in the archive.
        name: String,
    },
    /// It is a wheel of something else.
    #[error("it is of {found}, expected {expected}")]
    Distribution {
        /// What its METADATA say.
        found: Distribution,
        /// What was to be built, or what the file name says.
        expected: Distribution,
    },
    /// It can't be written, or a scratch file can't.
    #[error("it can't be written anew")]
    Write(#[from] io::Error),
    /// RECORD can't be written.
    #[error("RECORD can't be written")]
    Record(#[from] csv::Error),
}

/// METADATA and WHEEL are a few kilobytes.
const METADATA_LIMIT: u64 = 16 << 20;

/// An opened wheel.
struct Wheel<'a> {
    source: &'a Source,
    options: Options<'a>,
    file: FileName,
    /// `NAME-VERSION.dist-info`.
    dist_info: String,
    /// Those that stay, in the order of the wheel that is written.
    entries: Vec<zip::Entry>,
    /// The text of WHEEL.
    wheel: String,
}

impl<'a> Wheel<'a> {
    fn open(source: &'a Source, file_name: &str, options: Options<'a>) -> Result<Self, Problem> {
        let file = FileName::parse(file_name).ok_or(Problem::FileName)?;
        let mut entries = zip::read_directory(source, &Limits::default())?;
        if let Some(link) = entries.iter().find(|entry| entry.kind == Kind::Symlink) {
            return Err(Problem::Symlink { name: link.name.clone() });
        }
        let dist_info = find_dist_info(&entries)?;
        let wheel = text(source, &entries, &format!("{dist_info}/WHEEL"))?;
        check_metadata(&text(source, &entries, &format!("{dist_info}/METADATA"))?, &file, options.expected)?;

        let left_out = ["RECORD", "RECORD.jws", "RECORD.p7s"].map(|name| format!("{dist_info}/{name}"));
        entries.retain(|entry| {
            !left_out.contains(&entry.name) && entry.name.split('/').all(|part| part != "__pycache__")
        });
        let inhabited = inhabited(&entries);
        entries.retain(|entry| entry.kind == Kind::File || !inhabited.contains(&entry.name));
        let is_metadata = |name: &str| name.split('/').next() == Some(&dist_info);
        entries.sort_by(|a, b| (is_metadata(&a.name), &a.name).cmp(&(is_metadata(&b.name), &b.name)));
        Ok(Self { source, options, file, dist_info, entries, wheel })
    }

    fn write(self, out: &mut dyn Write) -> Result<Rewheeled, Problem> {
        let mut writing = Writing {
            archive: ZipWriter::new(Tee { out, hasher: Hasher::new() }),
            record: csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new()),
            report: Report::new(&self.file.platform),
            own: BTreeSet::new(),
            options: self.options,
        };
        let (metadata, files): (Vec<_>, Vec<_>) =
            self.entries.iter().partition(|entry| entry.name.split('/').next() == Some(&self.dist_info));
        for entry in files {
            writing.entry(self.source, entry)?;
        }
        writing.report.finish(&writing.own);
        // All files have been read, so that now is known what WHEEL is to say.
        let mut file = self.file;
        if let Some(platform) = platform::retag(&file.platform, writing.report.glibc) {
            file.platform = platform;
        }
        let (wheel, record) = (format!("{}/WHEEL", self.dist_info), format!("{}/RECORD", self.dist_info));
        for entry in metadata {
            match entry.name == wheel {
                true => writing.bytes(&wheel, retagged(&self.wheel, &file).as_bytes())?,
                false => writing.entry(self.source, entry)?,
            }
        }
        let Writing { mut archive, record: mut lines, report, .. } = writing;
        lines.write_record([record.as_str(), "", ""])?;
        let lines = lines.into_inner().map_err(|error| Problem::Write(error.into_error()))?;
        write_bytes(&mut archive, self.options.scratch, &record, &lines)?;
        let Tee { hasher, .. } = archive.finish()?;
        let size = hasher.len();
        Ok(Rewheeled { file_name: file.to_string(), sha256: hasher.finish(), size, report })
    }
}

/// The one folder at the top that ends in `.dist-info`.
fn find_dist_info(entries: &[zip::Entry]) -> Result<String, Problem> {
    let tops = entries.iter().filter_map(|entry| Some(entry.name.split_once('/')?.0));
    let found: BTreeSet<&str> = tops.filter(|top| top.ends_with(".dist-info")).collect();
    match found.first() {
        Some(name) if found.len() == 1 => Ok((*name).to_owned()),
        _ => Err(Problem::DistInfo { count: found.len() }),
    }
}

/// Checks METADATA against the file name, and against what was to be built.
fn check_metadata(metadata: &str, file: &FileName, expected: Option<&Distribution>) -> Result<(), Problem> {
    let field = |key| header(metadata, key).unwrap_or_default().to_owned();
    let found = Distribution { name: field("Name"), version: field("Version") };
    let named = || -> Option<bool> {
        let (ours, file_version) = (found.version.parse::<Version>().ok()?, file.version()?);
        let is_same_version = ours == file_version || ours == file_version.without_local();
        Some(is_same_version && normalise(&found.name) == normalise(&file.name))
    };
    if named() != Some(true) {
        let expected = Distribution { name: file.name.clone(), version: file.version.clone() };
        return Err(Problem::Distribution { found, expected });
    }
    match expected {
        Some(expected) if !expected.is_described_by(&found.name, &found.version) => {
            Err(Problem::Distribution { found, expected: expected.clone() })
        }
        _ => Ok(()),
    }
}

/// Every folder, by its name with the slash, that has something in it.
fn inhabited(entries: &[zip::Entry]) -> BTreeSet<String> {
    let mut folders = BTreeSet::new();
    for entry in entries {
        let mut name = entry.name.trim_end_matches('/');
        while let Some((folder, _)) = name.rsplit_once('/') {
            if !folders.insert(format!("{folder}/")) {
                break;
            }
            name = folder;
        }
    }
    folders
}

/// WHEEL with the tags of the file name (each combination in a line), in the place of those that it has.
fn retagged(text: &str, file: &FileName) -> String {
    let mut tags = String::new();
    for python in file.python.split('.') {
        for abi in file.abi.split('.') {
            for platform in file.platform.split('.') {
                tags += &format!("Tag: {python}-{abi}-{platform}\n");
            }
        }
    }
    let mut wheel = String::new();
    for line in text.lines().take_while(|line| !line.is_empty()) {
        match line.split_once(':') {
            Some((key, _)) if key.eq_ignore_ascii_case("Tag") => wheel += &std::mem::take(&mut tags),
            _ => {
                wheel += line;
                wheel += "\n";
            }
        }
    }
    wheel + &tags
}

fn text(source: &Source, entries: &[zip::Entry], name: &str) -> Result<String, Problem> {
    let entry = entries.iter().find(|entry| entry.name == name);
    let entry = entry.ok_or_else(|| Problem::Missing { name: name.to_owned() })?;
    if entry.size > METADATA_LIMIT {
        let (name, size, limit) = (name.to_owned(), entry.size, METADATA_LIMIT);
        return Err(Problem::TooLarge { name, size, limit });
    }
    let mut bytes = Vec::new();
    zip::read(source, entry, &mut |piece| {
        bytes.extend_from_slice(piece);
        Ok::<_, Problem>(())
    })?;
    String::from_utf8(bytes).map_err(|_| Problem::NotUtf8 { name: name.to_owned() })
}

/// The wheel in the making.
struct Writing<'a> {
    archive: ZipWriter<Tee<'a>>,
    record: csv::Writer<Vec<u8>>,
    report: Report,
    /// The names by which libraries of the wheel can be needed.
    own: BTreeSet<String>,
    options: Options<'a>,
}

impl Writing<'_> {
    fn entry(&mut self, source: &Source, entry: &zip::Entry) -> Result<(), Problem> {
        if entry.kind == Kind::Directory {
            let header = Header {
                name: entry.name.clone(),
                mode: 0o40_755,
                is_deflated: false,
                crc32: 0,
                compressed_size: 0,
                size: 0,
            };
            return Ok(self.archive.start(&header)?);
        }
        let mut content = Examined::new(self.options.build_paths, self.options.scratch);
        zip::read(source, entry, &mut |piece| content.take(piece))?;
        let content = content.finish()?;
        self.report(&entry.name, content.elf, &content.build_paths)?;
        self.line(&entry.name, content.sha256, entry.size)?;
        let executable = entry.mode.is_some_and(|mode| mode & 0o111 != 0);
        let mut header = Header {
            name: entry.name.clone(),
            mode: if executable { 0o100_755 } else { 0o100_644 },
            is_deflated: true,
            crc32: entry.crc32,
            compressed_size: content.deflated_len,
            size: entry.size,
        };
        if content.deflated_len < entry.size {
            self.archive.start(&header)?;
            return copy(content.deflated, &mut self.archive);
        }
        header.is_deflated = false;
        header.compressed_size = entry.size;
        self.archive.start(&header)?;
        zip::read(source, entry, &mut |piece| Ok(self.archive.data(piece)?))
    }

    /// A file that is made here.
    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), Problem> {
        self.line(name, Digest::of(bytes), bytes.len() as u64)?;
        write_bytes(&mut self.archive, self.options.scratch, name, bytes)
    }

    fn line(&mut self, name: &str, sha256: Digest, size: u64) -> Result<(), Problem> {
        let hash = format!("sha256={}", BASE64URL_NOPAD.encode(sha256.as_bytes()));
        Ok(self.record.write_record([name, hash.as_str(), size.to_string().as_str()])?)
    }

    fn report(
        &mut self,
        name: &str,
        elf: Option<SpooledTempFile>,
        build_paths: &[&str],
    ) -> Result<(), Problem> {
        for path in build_paths {
            self.report.build_path(path, name);
        }
        let Some(elf) = elf else { return Ok(()) };
        match elf::read(elf) {
            Ok(Some(needs)) => {
                let file = name.rsplit('/').next().unwrap_or(name);
                self.own.extend([Some(file.to_owned()), needs.name.clone()].into_iter().flatten());
                self.report.add(name, needs);
            }
            Ok(None) => {}
            Err(reason) => self.report.unreadable(name, reason),
        }
        Ok(())
    }
}

/// Writes a file that is made here and is in memory.
fn write_bytes(
    archive: &mut ZipWriter<Tee<'_>>,
    scratch: &Path,
    name: &str,
    bytes: &[u8],
) -> Result<(), Problem> {
    let mut deflater = Deflater::new(scratch);
    for piece in bytes.chunks(PIECE) {
        deflater.push(piece.to_vec())?;
    }
    let (deflated, compressed_size) = deflater.finish()?;
    let size = bytes.len() as u64;
    let is_deflated = compressed_size < size;
    let compressed_size = if is_deflated { compressed_size } else { size };
    let crc32 = crc32fast::hash(bytes);
    let name = name.to_owned();
    archive.start(&Header { name, mode: 0o100_644, is_deflated, crc32, compressed_size, size })?;
    if is_deflated { copy(deflated, archive) } else { Ok(archive.data(bytes)?) }
}

fn copy(mut from: SpooledTempFile, archive: &mut ZipWriter<Tee<'_>>) -> Result<(), Problem> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => archive.data(buffer.get(..read).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes to two places: out, and into the digest.
struct Tee<'a> {
    out: &'a mut dyn Write,
    hasher: Hasher,
}

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
