//! The two formats of packages, decompressed.
//!
//! A `.conda` is a zip archive of two tars in zstd: `info-STEM.tar.zst` has what is below `info/`, `pkg-STEM.tar.zst` all
//! else. Zip archives are read strictly; both members lie in them as they are. Beside them stands `metadata.json`, which
//! says which version of the format this is. Any further `.tar.zst` is refused, because rattler would unpack it too; what
//! else there is (signatures) is ignored, as rattler ignores it. A `.tar.bz2` is one tar.
//!
//! What is small when decompressed stays in memory. The rest goes into a file without a name, one for each package.
//!
//! Sources: conda's CEP 35 "Distribution archives for conda packages"; `rattler_package_streaming`.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use imgforge_layer::Source;
use imgforge_layer::zip::{self, Kind, Method};
use tempfile::{SpooledData, SpooledTempFile, spooled_tempfile_in};

use crate::Problem;

/// A tar stream of a package, decompressed.
pub(crate) struct Tar {
    /// For messages.
    pub(crate) name: String,
    pub(crate) source: Arc<Source>,
    pub(crate) holds: Holds,
}

/// Which of a package's files a tar has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// What is below `info/`.
    Info,
    /// All else.
    Content,
    Both,
}

/// The name of a package's file, taken apart.
pub(crate) struct FileName<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    pub(crate) build: &'a str,
    format: Format,
}

enum Format {
    Conda,
    TarBz2,
}

/// Decompressed, what is smaller stays in memory: a file costs a descriptor and some 20 system calls, and many small
/// packages can make one layer.
const MEMORY: usize = 1 << 20;
/// Recipes and tests; the largest known have some 100 MB.
const MAX_INFO: u64 = 1 << 30;
/// PyTorch with CUDA has about 6 GB.
const MAX_CONTENT: u64 = 64 << 30;
/// No limit to the ratio below this, where a bomb would harm nobody.
const FREE: u64 = 64 << 20;
/// A tar of zeros reaches 20,000; real packages stay below 50.
const MAX_RATIO: u64 = 1_000;
/// 128 MiB, which is zstd's own limit and so rattler's.
const MAX_ZSTD_WINDOW: u32 = 27;
const MAX_METADATA: u64 = 64 << 10;
const BUFFER: usize = 256 << 10;

/// Decompresses a package's tars, the one with `info/` first.
pub(crate) fn open(source: &Source, file_name: &FileName<'_>, folder: &Path) -> Result<Vec<Tar>, Problem> {
    let FileName { name, version, build, format } = file_name;
    let stem = format!("{name}-{version}-{build}");
    match format {
        Format::TarBz2 => {
            let name = format!("{stem}.tar.bz2");
            let input = io::BufReader::with_capacity(BUFFER, source.range(0, source.len()));
            let decoder = bzip2::bufread::MultiBzDecoder::new(input);
            let inflater = Inflater { name: &name, len: source.len(), limit: MAX_CONTENT, source, folder };
            let tar = inflater.inflate(decoder)?;
            Ok(vec![Tar { name, source: tar, holds: Holds::Both }])
        }
        Format::Conda => conda(source, &stem, folder),
    }
}

impl<'a> FileName<'a> {
    pub(crate) fn parse(file_name: &'a str) -> Result<Self, Problem> {
        let (stem, format) = match (file_name.strip_suffix(".conda"), file_name.strip_suffix(".tar.bz2")) {
            (Some(stem), _) => (stem, Format::Conda),
            (_, Some(stem)) => (stem, Format::TarBz2),
            _ => return Err(Problem::FileName),
        };
        let mut parts = stem.rsplitn(3, '-');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(build), Some(version), Some(name))
                if ![name, version, build].iter().any(|part| part.is_empty() || part.contains('/')) =>
            {
                Ok(Self { name, version, build, format })
            }
            _ => Err(Problem::FileName),
        }
    }
}

fn conda(source: &Source, stem: &str, folder: &Path) -> Result<Vec<Tar>, Problem> {
    let entries = zip::read_directory(source, &zip::Limits::default())?;
    let names = [format!("info-{stem}.tar.zst"), format!("pkg-{stem}.tar.zst")];
    let wrong =
        |name: &str, reason: &str| Problem::Member { name: name.to_owned(), reason: reason.to_owned() };
    if let Some(extra) =
        entries.iter().find(|entry| entry.name.ends_with(".tar.zst") && !names.contains(&entry.name))
    {
        let reason = format!("is none of {} and {}", names[0], names[1]);
        return Err(Problem::Member { name: extra.name.clone(), reason });
    }
    let find = |name: &str| {
        let entry =
            entries.iter().find(|entry| entry.name == name).ok_or_else(|| wrong(name, "is missing"))?;
        match (entry.kind, entry.method) {
            (Kind::File, Method::Stored) => Ok(entry),
            (Kind::File, Method::Deflated) => {
                Err(wrong(name, "is compressed once more; members lie in a .conda as they are"))
            }
            _ => Err(wrong(name, "is no file")),
        }
    };
    check_format(source, find("metadata.json")?)?;
    let mut tars = Vec::new();
    for (name, holds, limit) in [(&names[0], Holds::Info, MAX_INFO), (&names[1], Holds::Content, MAX_CONTENT)]
    {
        let entry = find(name)?;
        let mut input = Checked {
            inner: source.range(entry.data_offset, entry.compressed_size),
            crc: crc32fast::Hasher::new(),
        };
        let decode = |source| Problem::Decompress { name: name.clone(), source };
        let mut decoder =
            zstd::stream::read::Decoder::with_buffer(io::BufReader::with_capacity(BUFFER, &mut input))
                .map_err(decode)?;
        decoder.window_log_max(MAX_ZSTD_WINDOW).map_err(decode)?;
        let inflater = Inflater { name, len: entry.compressed_size, limit, source, folder };
        let tar = inflater.inflate(decoder)?;
        let found = input.crc.finalize();
        if found != entry.crc32 {
            let (name, expected) = (entry.name.clone(), entry.crc32);
            return Err(zip::Error::ContentCrc { name, found, expected }.into());
        }
        tars.push(Tar { name: name.clone(), source: tar, holds });
    }
    Ok(tars)
}

/// `{"conda_pkg_format_version": 2}`, the only version that there is.
fn check_format(source: &Source, entry: &zip::Entry) -> Result<(), Problem> {
    let error = |reason: String| Problem::Member { name: entry.name.clone(), reason };
    if entry.size > MAX_METADATA {
        return Err(error(format!("has {} bytes, more than {MAX_METADATA}", entry.size)));
    }
    zip::verify(source, entry)?;
    let bytes = source.read(entry.data_offset, entry.size as usize).map_err(Problem::Read)?;
    let value: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|source| error(format!("does not read: {source}")))?;
    match value.get("conda_pkg_format_version").and_then(serde_json::Value::as_u64) {
        Some(2) => Ok(()),
        Some(version) => Err(error(format!("has format version {version}; version 2 can be read"))),
        None => Err(error("has no conda_pkg_format_version".to_owned())),
    }
}

/// Decompresses one tar, as far as it is no bomb.
struct Inflater<'a> {
    name: &'a str,
    /// Bytes, compressed.
    len: u64,
    /// Bytes, decompressed, of any such tar.
    limit: u64,
    source: &'a Source,
    folder: &'a Path,
}

impl Inflater<'_> {
    fn inflate(&self, mut decoder: impl Read) -> Result<Arc<Source>, Problem> {
        let limit = self.limit.min(FREE.max(self.len.saturating_mul(MAX_RATIO)));
        let scratch = |source| Problem::Scratch { folder: self.folder.display().to_string(), source };
        let mut out: SpooledTempFile = spooled_tempfile_in(MEMORY, self.folder);
        let mut buffer = vec![0; BUFFER];
        let mut len = 0;
        loop {
            let read = match decoder.read(&mut buffer) {
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(|source| Problem::Decompress { name: self.name.to_owned(), source })?,
            };
            len += read as u64;
            if len > limit {
                return Err(Problem::TooLarge { name: self.name.to_owned(), limit });
            }
            out.write_all(buffer.get(..read).unwrap_or_default()).map_err(scratch)?;
        }
        let path = self.source.path();
        Ok(Arc::new(match out.into_inner() {
            SpooledData::InMemory(bytes) => {
                let mut bytes = bytes.into_inner();
                bytes.shrink_to_fit();
                Source::from_bytes(bytes, path)
            }
            SpooledData::OnDisk(file) => Source::from_file(file, path).map_err(scratch)?,
        }))
    }
}

/// Sums up what is read.
struct Checked<R> {
    inner: R,
    crc: crc32fast::Hasher,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.crc.update(buffer.get(..len).unwrap_or_default());
        Ok(len)
    }
}
