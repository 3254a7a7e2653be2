//! A wheel becomes the tree that an installer would leave of it.
//!
//! The wheel is not unpacked: its directory is read strictly ([`crate::zip`]), its few metadata files are inflated into
//! memory, and every other entry becomes a reference to its DEFLATE stream. What an installer writes itself (entry
//! points, RECORD, INSTALLER) is made here. The result is what `uv pip install` leaves in the same prefix, less what
//! depends on the time, the host or a cache:
//!
//! - `INSTALLER` says `imgforge`;
//! - no `direct_url.json`, `uv_cache.json` or `uv_build.json`: they tell where the file was found, and any place that
//!   yields the locked SHA-256 is as good;
//! - no `__pycache__`, even when the wheel has one: it holds the time stamps of the build host;
//! - RECORD is complete and true where uv passes the wheel's own lines on: a missing hash or size is filled in, a wrong
//!   size corrected, a hash in hexadecimal digits becomes base64, each path stands once and normalised, and nothing is
//!   listed that is not installed (uv keeps the line of a file in `.data/scripts` that a launcher replaces);
//! - a wheel whose content is not what its RECORD says is refused, as is one in which two different files end up on
//!   one path: uv checks neither.
//!
//! Sources: the PyPA specifications "Binary distribution format", "Recording installed projects" and "Entry points".

mod editable;
mod entry_points;
mod metadata;
mod record;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use imgforge_oci::{Digest, Hasher};

use crate::inflate::{InflateError, StreamInflater, WHOLE_MAX, WholeInflater};
use crate::source::Source;
use crate::tree::{Content, Entry, Tree, TreeError, TreePath};
use crate::zip;

pub use editable::plan_editable;
pub use entry_points::EntryPointError;
pub use metadata::{FileName, header, normalise};
pub use record::RecordError;

use entry_points::Script;
use record::Record;

/// Plans the installation of a wheel.
///
/// `file_name` is the wheel's own name, whatever the file is called now (in the store: its digest). Every file of the
/// tree has its SHA-256, which the writer of the layer verifies.
///
/// # Errors
/// [`Error`], which names the wheel and says what is wrong with it.
pub fn plan(source: &Arc<Source>, file_name: &str, scheme: &Scheme) -> Result<Tree, Error> {
    Wheel::open(source, file_name)
        .and_then(|wheel| wheel.install(scheme))
        .map_err(|problem| Error { wheel: file_name.to_owned(), problem })
}

/// Where a Python environment has its files: an installation scheme of Python's `sysconfig`, `venv` for a virtual
/// environment and `posix_prefix` for a conda environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme {
    prefix: TreePath,
    python: (u8, u8),
    /// Below the prefix.
    site_packages: String,
    is_venv: bool,
}

impl Scheme {
    /// The scheme of a virtual environment at `prefix` for CPython `major.minor`.
    ///
    /// # Errors
    /// [`TreeError::Name`] for a prefix that is no path in an image.
    pub fn venv(prefix: &str, python: (u8, u8)) -> Result<Self, TreeError> {
        let site_packages = format!("lib/python{}.{}/site-packages", python.0, python.1);
        Ok(Self { prefix: TreePath::new(prefix)?, python, site_packages, is_venv: true })
    }

    /// The scheme of a conda environment at `prefix`, whose CPython `major.minor` looks for modules in `site_packages`,
    /// below the prefix.
    ///
    /// # Errors
    /// [`TreeError::Name`] for paths that are none in an image.
    pub fn conda(prefix: &str, python: (u8, u8), site_packages: &str) -> Result<Self, TreeError> {
        let prefix = TreePath::new(prefix)?;
        prefix.join(site_packages)?;
        Ok(Self { prefix, python, site_packages: site_packages.to_owned(), is_venv: false })
    }

    /// Whether it is a virtual environment's.
    pub const fn is_venv(&self) -> bool {
        self.is_venv
    }

    /// The environment's root.
    pub const fn prefix(&self) -> &TreePath {
        &self.prefix
    }

    /// CPython's major and minor version.
    pub const fn python(&self) -> (u8, u8) {
        self.python
    }

    /// The interpreter that scripts name: `PREFIX/bin/python`, with its leading slash.
    pub fn executable(&self) -> String {
        format!("{}/bin/python", self.prefix)
    }

    /// Below the prefix; purelib and platlib are one folder on Linux.
    pub fn site_packages(&self) -> &str {
        &self.site_packages
    }

    fn headers(&self, name: &str) -> String {
        let (major, minor) = self.python;
        match self.is_venv {
            true => format!("include/site/python{major}.{minor}/{name}"),
            false => format!("include/python{major}.{minor}/{name}"),
        }
    }
}

/// A wheel that can't be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{wheel} can't be installed")]
pub struct Error {
    /// The wheel's file name.
    pub wheel: String,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a wheel.
#[derive(Debug, thiserror::Error)]
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
    /// An entry can't be read.
    #[error("{name} can't be read")]
    Read {
        /// Its name in the archive.
        name: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// An entry can't be inflated.
    #[error("{name} can't be inflated")]
    Inflate {
        /// Its name in the archive.
        name: String,
        /// What is wrong with the stream.
        source: InflateError,
    },
    /// An entry's content does not have the CRC-32 of the archive's directory.
    #[error("{name} has CRC-32 {actual:08x}, the archive's directory says {expected:08x}")]
    Crc {
        /// Its name in the archive.
        name: String,
        /// The directory's.
        expected: u32,
        /// The content's.
        actual: u32,
    },
    /// WHEEL asks for a newer specification.
    #[error("WHEEL has Wheel-Version `{version}`; versions 1.x can be installed")]
    WheelVersion {
        /// As it is written there.
        version: String,
    },
    /// METADATA describes another distribution than the file name.
    #[error("METADATA is of {name} {version}, the file name is not")]
    Metadata {
        /// Name in METADATA.
        name: String,
        /// Version in METADATA.
        version: String,
    },
    /// A symbolic link, which a wheel can't hold.
    #[error("{name} is a symbolic link; the wheel format has none")]
    Symlink {
        /// Its name in the archive.
        name: String,
    },
    /// A folder of `.data` with a name that is no installation scheme.
    #[error("{name}: `{scheme}` is none of purelib, platlib, headers, scripts, data")]
    DataScheme {
        /// Its name in the archive.
        name: String,
        /// The folder below `.data`.
        scheme: String,
    },
    /// A script that would replace the environment's interpreter.
    #[error("the script `{name}` would replace the environment's interpreter")]
    ReservedScript {
        /// Its name.
        name: String,
    },
    /// A folder where a script is expected.
    #[error("{name}: scripts lie directly in `.data/scripts`")]
    ScriptFolder {
        /// Its name in the archive.
        name: String,
    },
    /// RECORD can't be used.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// entry_points.txt can't be used.
    #[error(transparent)]
    EntryPoints(#[from] EntryPointError),
    /// Two files of the wheel end up on one path, or a path is unusable.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// METADATA, WHEEL and entry_points.txt are a few kilobytes; RECORD has some hundred bytes for each file.
const METADATA_LIMIT: u64 = 16 << 20;
const RECORD_LIMIT: u64 = 256 << 20;
/// A script whose first line is to be rewritten is text.
const SCRIPT_LIMIT: u64 = 64 << 20;

/// Files of `.dist-info` that are the installer's to write; a wheel that brings them was zipped up after an installation.
const INSTALLERS_OWN: [&str; 6] =
    ["RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"];

/// An opened wheel: its directory and its metadata.
struct Wheel<'a> {
    source: &'a Arc<Source>,
    entries: Vec<zip::Entry>,
    /// `NAME-VERSION`, as the folders in the archive have it.
    stem: String,
    /// The normalised name.
    name: String,
    record: Record,
    scripts: Vec<Script>,
}

impl<'a> Wheel<'a> {
    fn open(source: &'a Arc<Source>, file_name: &str) -> Result<Self, Problem> {
        let entries = zip::read_directory(source, &zip::Limits::default())?;
        if let Some(link) = entries.iter().find(|entry| entry.kind == zip::Kind::Symlink) {
            return Err(Problem::Symlink { name: link.name.clone() });
        }
        let stem = find_stem(&entries)?;
        let wheel = text(source, &entries, &format!("{stem}.dist-info/WHEEL"), METADATA_LIMIT)?;
        check_wheel_version(&wheel)?;
        let metadata = text(source, &entries, &format!("{stem}.dist-info/METADATA"), METADATA_LIMIT)?;
        let name = check_metadata(&metadata, file_name)?;
        let record = text(source, &entries, &format!("{stem}.dist-info/RECORD"), RECORD_LIMIT)?;
        let record = Record::parse(&record)?;
        let entry_points = format!("{stem}.dist-info/entry_points.txt");
        let scripts = match entries.iter().any(|entry| entry.name == entry_points) {
            true => entry_points::parse(&text(source, &entries, &entry_points, METADATA_LIMIT)?)?,
            false => Vec::new(),
        };
        Ok(Self { source, entries, stem, name, record, scripts })
    }

    fn install(self, scheme: &Scheme) -> Result<Tree, Problem> {
        let mut install = Install {
            tree: Tree::new(),
            prefix: scheme.prefix.clone(),
            site_packages: scheme.site_packages().to_owned(),
            lines: BTreeMap::new(),
        };
        let dist_info = format!("{}/{}.dist-info", install.site_packages, self.stem);
        let own = INSTALLERS_OWN.map(|file| format!("{dist_info}/{file}"));
        let signatures = ["RECORD.jws", "RECORD.p7s"].map(|file| format!("{dist_info}/{file}"));
        let scripts = entry_points::with_versioned_pip(self.scripts.clone(), scheme.python.1);
        for entry in &self.entries {
            let Some(place) = self.destination(entry, scheme)? else { continue };
            if own.contains(&place.path) {
                continue;
            }
            if entry.kind == zip::Kind::Directory {
                install.folder(&place.path)?;
            } else if !place.script {
                let digest = self.verified_digest(entry)?;
                let executable = entry.mode.is_some_and(|mode| mode & 0o111 != 0);
                // A signature of RECORD can't stand in it.
                let line = (!signatures.contains(&place.path))
                    .then(|| self.record.line(&entry.name, digest, entry.size));
                install.file(&place.path, content(self.source, entry), digest, executable, line)?;
            } else if !scripts.iter().any(|script| script.replaces(&place.path)) {
                self.script(&mut install, entry, &place.path, scheme)?;
            }
        }
        for script in &scripts {
            check_script_name(&script.name)?;
            let launcher = script.launcher(&scheme.executable());
            install.made(&format!("bin/{}", script.name), launcher.as_bytes(), true)?;
        }
        install.made(&format!("{dist_info}/REQUESTED"), b"", false)?;
        install.made(&format!("{dist_info}/INSTALLER"), b"imgforge", false)?;
        install.record(&format!("{dist_info}/RECORD"))
    }

    /// Where an entry goes, below the prefix; `None` for what is not installed.
    fn destination(&self, entry: &zip::Entry, scheme: &Scheme) -> Result<Option<Place>, Problem> {
        let name = entry.name.trim_end_matches('/');
        if name.split('/').any(|component| component == "__pycache__") {
            return Ok(None);
        }
        let data = name.strip_prefix(&self.stem).and_then(|rest| rest.strip_prefix(".data"));
        let Some(data) = data.filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
            return Ok(Some(Place { path: format!("{}/{name}", scheme.site_packages()), script: false }));
        };
        let Some((folder, rest)) = data.trim_start_matches('/').split_once('/') else {
            // The `.data` folder itself, or a folder right below it.
            return match entry.kind {
                zip::Kind::Directory => Ok(None),
                _ => Err(Problem::DataScheme {
                    name: entry.name.clone(),
                    scheme: data.trim_start_matches('/').to_owned(),
                }),
            };
        };
        let root = match folder {
            "purelib" | "platlib" => scheme.site_packages().to_owned(),
            "headers" => scheme.headers(&self.name),
            "scripts" if entry.kind == zip::Kind::Directory || rest.contains('/') => {
                return Err(Problem::ScriptFolder { name: entry.name.clone() });
            }
            "scripts" => "bin".to_owned(),
            "data" => String::new(),
            scheme => {
                return Err(Problem::DataScheme { name: entry.name.clone(), scheme: scheme.to_owned() });
            }
        };
        let path = match root.as_str() {
            "" => rest.to_owned(),
            root => format!("{root}/{rest}"),
        };
        // A virtual environment's `lib64` is a link to `lib`: what goes through it is put where it ends up, as a folder in
        // this layer would replace the link.
        let path = match path.strip_prefix("lib64").filter(|_| scheme.is_venv) {
            Some("") => "lib".to_owned(),
            Some(inside) if inside.starts_with('/') => format!("lib{inside}"),
            _ => path,
        };
        if let Some(script) = path.strip_prefix("bin/").filter(|script| !script.contains('/')) {
            check_script_name(script)?;
        }
        Ok(Some(Place { path, script: folder == "scripts" }))
    }

    /// Installs a file of `.data/scripts`: executable, and with this environment's interpreter in its first line.
    fn script(
        &self,
        install: &mut Install,
        entry: &zip::Entry,
        path: &str,
        scheme: &Scheme,
    ) -> Result<(), Problem> {
        const PLACEHOLDER: &[u8] = b"#!python";
        let digest = self.verified_digest(entry)?;
        if !starts_with(self.source, entry, PLACEHOLDER)? {
            let line = self.record.line(&entry.name, digest, entry.size);
            return install.file(path, content(self.source, entry), digest, true, Some(line));
        }
        let original = read(self.source, entry, SCRIPT_LIMIT)?;
        record::check_digest(&entry.name, digest, Digest::of(&original))?;
        let first = original.iter().position(|&byte| byte == b'\n' || byte == b'\r').map_or(0, |end| end + 1);
        // Without an end of line, the first line is all there is.
        let rest = if first == 0 { &[] } else { original.get(first..).unwrap_or_default() };
        let mut script = entry_points::shebang(&scheme.executable()).into_bytes();
        script.push(b'\n');
        script.extend_from_slice(rest);
        install.made(path, &script, true)
    }

    /// The SHA-256 of an entry: RECORD's, or, where RECORD has none for it or one of another kind, the content's own.
    fn verified_digest(&self, entry: &zip::Entry) -> Result<Digest, Problem> {
        if let Some(digest) = self.record.sha256(&entry.name) {
            return Ok(digest);
        }
        let mut sha256 = Hasher::new();
        let mut other = self.record.other_hash(&entry.name)?;
        pieces(self.source, entry, &mut |piece| {
            sha256.update(piece);
            if let Some(other) = &mut other {
                other.update(piece);
            }
            true
        })?;
        if let Some(other) = other {
            other.check(&entry.name)?;
        }
        Ok(sha256.finish())
    }
}

/// A destination below the prefix.
struct Place {
    path: String,
    /// Whether it came from `.data/scripts`.
    script: bool,
}

/// The tree and the RECORD in the making.
struct Install {
    tree: Tree,
    prefix: TreePath,
    site_packages: String,
    /// RECORD's lines without the path, by the path as RECORD writes it: relative to site-packages.
    lines: BTreeMap<String, record::Line>,
}

impl Install {
    fn folder(&mut self, path: &str) -> Result<(), Problem> {
        let path = self.prefix.join(path)?;
        Ok(self.tree.insert(path, Entry::directory(0o755))?)
    }

    fn file(
        &mut self,
        path: &str,
        content: Content,
        digest: Digest,
        executable: bool,
        line: Option<record::Line>,
    ) -> Result<(), Problem> {
        self.tree.insert(self.prefix.join(path)?, Entry::file(content, Some(digest), executable))?;
        if let Some(line) = line {
            self.lines.insert(record::relative(path, &self.site_packages), line);
        }
        Ok(())
    }

    /// A file that the installer makes.
    fn made(&mut self, path: &str, bytes: &[u8], executable: bool) -> Result<(), Problem> {
        let digest = Digest::of(bytes);
        let line = record::Line::of(digest, bytes.len() as u64);
        self.file(path, Content::Bytes(bytes.into()), digest, executable, Some(line))
    }

    fn record(mut self, path: &str) -> Result<Tree, Problem> {
        self.lines.insert(record::relative(path, &self.site_packages), record::Line::default());
        let text = record::write(&self.lines)?;
        self.tree.insert(self.prefix.join(path)?, Entry::bytes(text, false))?;
        Ok(self.tree)
    }
}

/// The one `NAME-VERSION` of which there is a `.dist-info` folder at the top.
fn find_stem(entries: &[zip::Entry]) -> Result<String, Problem> {
    let mut stems: Vec<&str> =
        entries.iter().filter_map(|entry| entry.name.split_once('/')?.0.strip_suffix(".dist-info")).collect();
    stems.sort_unstable();
    stems.dedup();
    match stems.as_slice() {
        [stem] => Ok((*stem).to_owned()),
        _ => Err(Problem::DistInfo { count: stems.len() }),
    }
}

fn check_wheel_version(wheel: &str) -> Result<(), Problem> {
    let version = header(wheel, "Wheel-Version").unwrap_or_default();
    match version.split_once('.') {
        Some(("1", _)) | Some(("0", "1")) => Ok(()),
        _ => Err(Problem::WheelVersion { version: version.to_owned() }),
    }
}

/// Checks METADATA's name and version against the file name's and returns the normalised name.
fn check_metadata(metadata: &str, file_name: &str) -> Result<String, Problem> {
    let file = FileName::parse(file_name).ok_or(Problem::FileName)?;
    let name = header(metadata, "Name").unwrap_or_default();
    let version = header(metadata, "Version").unwrap_or_default();
    let same_version = || -> Option<bool> {
        let ours = pep440_rs::Version::from_str(version).ok()?;
        let file = file.version()?;
        Some(ours == file || ours == file.without_local())
    };
    if normalise(name) != normalise(&file.name) || same_version() != Some(true) {
        return Err(Problem::Metadata { name: name.to_owned(), version: version.to_owned() });
    }
    Ok(normalise(name))
}

/// Names that belong to the environment itself, whatever their case or `.py` and `.exe` endings.
fn check_script_name(name: &str) -> Result<(), Problem> {
    let lower = name.to_ascii_lowercase();
    let stem = lower.strip_suffix(".exe").unwrap_or(&lower);
    let stem = stem.strip_suffix(".py").unwrap_or(stem);
    let version = ["python", "pypy", "graalpy"].iter().find_map(|name| stem.strip_prefix(name));
    let interpreter = version.is_some_and(|rest| {
        rest.trim_start_matches('w').chars().all(|c| c.is_ascii_digit() || ".t".contains(c))
    });
    if interpreter || name.contains('/') {
        return Err(Problem::ReservedScript { name: name.to_owned() });
    }
    Ok(())
}

fn text(source: &Source, entries: &[zip::Entry], name: &str, limit: u64) -> Result<String, Problem> {
    let entry = entries
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| Problem::Missing { name: name.to_owned() })?;
    String::from_utf8(read(source, entry, limit)?).map_err(|_| Problem::NotUtf8 { name: name.to_owned() })
}

/// An entry's content as a reference into the wheel.
fn content(source: &Arc<Source>, entry: &zip::Entry) -> Content {
    match entry.method {
        zip::Method::Stored => Content::Range {
            source: Arc::clone(source),
            offset: entry.data_offset,
            len: entry.size,
            crc32: Some(entry.crc32),
        },
        zip::Method::Deflated => Content::Deflated {
            source: Arc::clone(source),
            offset: entry.data_offset,
            compressed_len: entry.compressed_size,
            len: entry.size,
            crc32: entry.crc32,
        },
    }
}

fn read(source: &Source, entry: &zip::Entry, limit: u64) -> Result<Vec<u8>, Problem> {
    if entry.size > limit {
        return Err(Problem::TooLarge { name: entry.name.clone(), size: entry.size, limit });
    }
    let mut bytes = Vec::new();
    pieces(source, entry, &mut |piece| {
        bytes.extend_from_slice(piece);
        true
    })?;
    Ok(bytes)
}

fn starts_with(source: &Source, entry: &zip::Entry, start: &[u8]) -> Result<bool, Problem> {
    let mut bytes: Vec<u8> = Vec::new();
    pieces(source, entry, &mut |piece| {
        bytes.extend(piece.iter().take(start.len() - bytes.len()));
        bytes.len() < start.len()
    })?;
    Ok(bytes == start)
}

/// Gives an entry's content in pieces until `each` wants no more; checks the CRC-32 when it has wanted all.
fn pieces(source: &Source, entry: &zip::Entry, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Problem> {
    const PIECE: usize = 256 << 10;
    enum Stop {
        Enough,
        Inflate(InflateError),
    }
    impl From<InflateError> for Stop {
        fn from(error: InflateError) -> Self {
            Self::Inflate(error)
        }
    }
    let inflate_error = |source| Problem::Inflate { name: entry.name.clone(), source };
    let enough = |goes_on: bool| if goes_on { Ok(()) } else { Err(Stop::Enough) };
    let mut crc = crc32fast::Hasher::new();
    let mut take = |piece: &[u8]| {
        crc.update(piece);
        each(piece)
    };
    let read = |at: u64, len: usize| {
        source
            .read(entry.data_offset + at, len)
            .map_err(|source| Problem::Read { name: entry.name.clone(), source })
    };
    if entry.method == zip::Method::Deflated && entry.size <= WHOLE_MAX && entry.compressed_size <= WHOLE_MAX
    {
        let mut inflater = WholeInflater::new().ok_or_else(|| inflate_error(InflateError::Damaged))?;
        let compressed = read(0, entry.compressed_size as usize)?;
        if !take(&inflater.inflate(&compressed, entry.size as usize).map_err(inflate_error)?) {
            return Ok(());
        }
    } else {
        let mut stream = StreamInflater::new(entry.size, PIECE);
        let mut at = 0;
        while at < entry.compressed_size {
            let piece = read(at, (entry.compressed_size - at).min(PIECE as u64) as usize)?;
            at += piece.len() as u64;
            let pushed = match entry.method {
                zip::Method::Stored if take(&piece) => Ok(()),
                zip::Method::Stored => Err(Stop::Enough),
                zip::Method::Deflated => stream.push(&piece, &mut |piece: Vec<u8>| enough(take(&piece))),
            };
            match pushed {
                Ok(()) => {}
                Err(Stop::Enough) => return Ok(()),
                Err(Stop::Inflate(error)) => return Err(inflate_error(error)),
            }
        }
        if entry.method == zip::Method::Deflated {
            match stream.finish(&mut |piece: Vec<u8>| enough(take(&piece))) {
                Ok(()) => {}
                Err(Stop::Enough) => return Ok(()),
                Err(Stop::Inflate(error)) => return Err(inflate_error(error)),
            }
        }
    }
    let actual = crc.finalize();
    if actual != entry.crc32 {
        return Err(Problem::Crc { name: entry.name.clone(), expected: entry.crc32, actual });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
