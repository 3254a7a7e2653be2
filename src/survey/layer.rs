//! One layer: from its stored bytes to the few things in it that a survey is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use imgforge_oci::{Compression, DiffId, Error, Kind, Layer, kind, layer as stored};
use serde::{Deserialize, Serialize};

use super::parse::{self, CondaMeta};
use super::{SurveyError, name};

/// Bytes of a package manager's database, at most: ten times what a workstation has.
const MAX_DATABASE: u64 = 16 << 20;
/// Bytes of what conda has on one package, with all its files, at most.
const MAX_CONDA: u64 = 128 << 20;
/// Bytes of the head of a Python distribution's metadata, and of the other small files, at most.
const MAX_TEXT: u64 = 1 << 20;
/// Bytes of a C library, at most.
const MAX_LIBRARY: u64 = 32 << 20;
/// Bytes that are kept of one layer, at most: a hundred times what a large one needs.
const MAX_KEPT: usize = 64 << 20;

/// What one layer has and takes away. Paths are relative, without a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSurvey {
    /// Of its tar.
    pub diff_id: DiffId,
    /// Paths that are gone with all that was below them: whiteouts.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub removed: BTreeSet<String>,
    /// Folders whose content from the layers below is gone: opaque whiteouts. The root is the empty path.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub emptied: BTreeSet<String>,
    /// Links, and whatever else is neither a file nor a folder, that may stand where a layer below has a folder with
    /// something to be found in it. Those that can't, by their name or the folder that they are in, are left out, or
    /// this would list the whole layer.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub covering_links: BTreeSet<String>,
    /// Files likewise.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub covering_files: BTreeSet<String>,
    /// Folders in the root.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub top: BTreeSet<String>,
    /// What was found, by path.
    pub found: BTreeMap<String, Found>,
}

/// Something that a survey is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// dpkg's database, or one stanza of it.
    Debs(Vec<Listed>),
    /// apk's database.
    Apks {
        /// The packages.
        packages: Vec<Listed>,
        /// Folders of Python distributions that they brought.
        distributions: Vec<String>,
    },
    /// A package of conda's.
    Conda {
        /// Its name.
        name: String,
        /// Its version and build: `1.26.4=py311h0_0`.
        version: String,
        /// Folders of Python distributions that it brought, relative to the prefix.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        distributions: Vec<String>,
    },
    /// Metadata of a Python distribution.
    Distribution {
        /// Its name, normalised.
        name: String,
        /// Its version.
        version: String,
    },
    /// A file that is there: an interpreter, musl's loader.
    File,
    /// A symbolic or hard link, with its target; a hard link's is absolute.
    Link(String),
    /// A version that a file tells: glibc's, CPython's.
    Version(String),
    /// A file whose text is of interest.
    Text(String),
}

/// A package in a database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The architecture in the package manager's words; empty where it is not told.
    pub architecture: String,
}

impl LayerSurvey {
    /// Reads a layer's stored bytes to their end.
    ///
    /// # Errors
    /// [`SurveyError::Layer`] when they are not what `layer` says or no sound tar, [`SurveyError::TooLarge`] beyond a
    /// limit.
    pub fn read(layer: &Layer, content: impl Read) -> Result<Self, SurveyError> {
        let fail = |error| SurveyError::Layer { layer: name(layer), source: Box::new(error) };
        let compression = compression(layer).map_err(fail)?;
        let mut reader = Reader::default();
        let mut visit = |entry: stored::Entry, content: &mut dyn Read| reader.visit(entry, content);
        let read = stored::read(content, Some(compression), &mut visit).map_err(fail)?;
        if read.size != layer.size {
            let what = "its stored bytes".to_owned();
            return Err(fail(Error::SizeMismatch { what, expected: layer.size, found: read.size }));
        }
        if read.digest != layer.digest {
            let what = "its stored bytes".to_owned();
            return Err(fail(Error::DigestMismatch { what, expected: layer.digest, found: read.digest }));
        }
        let Some(tar) = read.layer else { return Err(fail(no_layer(layer))) };
        let diff_id = DiffId(tar.diff_id.map_err(fail)?);
        tar.summary.map_err(fail)?;
        if let Some(TooLarge { path, limit }) = reader.too_large {
            return Err(SurveyError::TooLarge { layer: name(layer), path, limit });
        }
        reader.finish(diff_id).checked(layer)
    }

    /// Whether it neither has nor takes away anything that decides which packages an image has, as far as that can be
    /// said without the layers below. A file in the place of a folder of packages would be nobody's doing, and is
    /// overlooked here.
    pub fn leaves_packages_alone(&self) -> bool {
        let tells_nothing = |found: &Found| matches!(found, Found::Text(_) | Found::Link(_));
        [&self.removed, &self.emptied, &self.covering_links].into_iter().all(BTreeSet::is_empty)
            && self.found.values().all(tells_nothing)
    }

    /// This, if an image says the same of the layer as its bytes.
    pub(super) fn checked(self, layer: &Layer) -> Result<Self, SurveyError> {
        if self.diff_id == layer.diff_id {
            return Ok(self);
        }
        let (DiffId(expected), DiffId(found)) = (layer.diff_id, self.diff_id);
        let error = Error::DigestMismatch { what: "its diff ID".to_owned(), expected, found };
        Err(SurveyError::Layer { layer: name(layer), source: Box::new(error) })
    }
}

fn compression(layer: &Layer) -> Result<Compression, Error> {
    match kind(&layer.media_type) {
        Kind::Layer(compression) => Ok(compression),
        _ => Err(no_layer(layer)),
    }
}

fn no_layer(layer: &Layer) -> Error {
    let (expected, found) = ("a layer's".to_owned(), layer.media_type.to_string());
    Error::MediaType { what: layer.digest.to_string(), expected, found }
}

/// What a path is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Status,
    Stanza,
    Installed,
    CondaMeta,
    Metadata,
    Interpreter,
    PatchLevel,
    Glibc,
    Musl,
    Text,
}

#[derive(Debug)]
struct TooLarge {
    path: String,
    limit: String,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Reader {
    removed: BTreeSet<String>,
    emptied: BTreeSet<String>,
    covering_links: BTreeSet<String>,
    covering_files: BTreeSet<String>,
    top: BTreeSet<String>,
    found: BTreeMap<String, Found>,
    kept: usize,
    /// The first thing beyond a limit. The bytes are read on, because a damaged layer is to be told as such.
    too_large: Option<TooLarge>,
}

impl Reader {
    fn visit(&mut self, entry: stored::Entry, content: &mut dyn Read) -> io::Result<()> {
        // Whatever is looked for has a name of ASCII, and so have the folders that are known to hold it; a whiteout of
        // another name can only be of something else.
        let Ok(path) = String::from_utf8(entry.path) else { return Ok(()) };
        if self.too_large.is_some() {
            return Ok(());
        }
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", &path));
        if let Some(hidden) = file.strip_prefix(".wh.") {
            match hidden.strip_prefix(".wh.") {
                Some(".opq") => self.keep(folder.to_owned(), |reader| &mut reader.emptied),
                // aufs's own notes.
                Some(_) => {}
                None if folder.is_empty() => self.keep(hidden.to_owned(), |reader| &mut reader.removed),
                None => self.keep(format!("{folder}/{hidden}"), |reader| &mut reader.removed),
            }
            return Ok(());
        }
        if let Some((top, _)) = path.split_once('/') {
            self.keep(top.to_owned(), |reader| &mut reader.top);
        }
        // Of several entries on one path the last one counts.
        self.found.remove(&path);
        let wanted = wanted(&path);
        let found = match entry.kind {
            b'0' | b'7' => match wanted {
                Some(wanted) => self.file(wanted, &path, entry.size, content)?,
                None => None,
            },
            b'1' => {
                let target = relative(&String::from_utf8_lossy(&entry.link));
                match (wanted, self.found.get(&target)) {
                    // An installer may link what it has unpacked in its cache, which lies in the same layer.
                    (Some(_), Some(found)) if !matches!(found, Found::File | Found::Link(_)) => {
                        Some(found.clone())
                    }
                    (Some(Wanted::Metadata), _) => parse::distribution_of_folder(&path),
                    (Some(_), _) => Some(Found::Link(format!("/{target}"))),
                    (None, _) => None,
                }
            }
            b'2' => match wanted {
                Some(Wanted::Metadata) => parse::distribution_of_folder(&path),
                None if !folder.is_empty() => None,
                _ => Some(Found::Link(String::from_utf8_lossy(&entry.link).into())),
            },
            _ => None,
        };
        if entry.kind == b'5' {
            match (wanted, folder.is_empty()) {
                // No file any more, whatever a layer below has there.
                (Some(_), _) => self.keep(path, |reader| &mut reader.removed),
                (None, true) if !path.is_empty() => self.keep(path, |reader| &mut reader.top),
                (None, _) => {}
            }
            return Ok(());
        }
        if found.is_none() && wanted.is_some() {
            self.keep(path.clone(), |reader| &mut reader.removed);
        } else if can_cover(&path) {
            self.keep(path.clone(), |reader| match entry.kind {
                b'0' | b'1' | b'7' => &mut reader.covering_files,
                _ => &mut reader.covering_links,
            });
        }
        if let Some(found) = found {
            self.spend(&path, path.len() + size(&found));
            self.found.insert(path, found);
        }
        Ok(())
    }

    /// Reads a file that is wanted; nothing when it is not what its name promises.
    fn file(
        &mut self,
        wanted: Wanted,
        path: &str,
        size: u64,
        content: &mut dyn Read,
    ) -> io::Result<Option<Found>> {
        let limit = match wanted {
            Wanted::Status | Wanted::Installed => MAX_DATABASE,
            Wanted::CondaMeta => MAX_CONDA,
            Wanted::Glibc => MAX_LIBRARY,
            Wanted::Stanza | Wanted::PatchLevel | Wanted::Text => MAX_TEXT,
            // Its head is read, not what follows; or nothing.
            Wanted::Metadata | Wanted::Interpreter | Wanted::Musl => u64::MAX,
        };
        if size > limit {
            self.too_large = Some(TooLarge { path: path.to_owned(), limit: format!("{limit} bytes") });
            return Ok(None);
        }
        Ok(match wanted {
            Wanted::Status | Wanted::Stanza => Some(Found::Debs(parse::dpkg(content)?)),
            Wanted::Installed => {
                let (packages, distributions) = parse::apk(content)?;
                Some(Found::Apks { packages, distributions })
            }
            Wanted::CondaMeta => parse::conda(content)?.map(|meta| {
                let CondaMeta { name, version, build, distributions } = meta;
                Found::Conda { name, version: format!("{version}={build}"), distributions }
            }),
            Wanted::Metadata => {
                parse::metadata(&mut content.take(MAX_TEXT))?.or_else(|| parse::distribution_of_folder(path))
            }
            Wanted::Musl => Some(Found::File),
            Wanted::Interpreter => (size > 0).then_some(Found::File),
            Wanted::PatchLevel => parse::patch_level(content)?.map(Found::Version),
            Wanted::Glibc => Some(parse::glibc(content)?.map_or(Found::File, Found::Version)),
            Wanted::Text => {
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes)?;
                String::from_utf8(bytes).ok().map(Found::Text)
            }
        })
    }

    fn keep(&mut self, path: String, set: impl FnOnce(&mut Self) -> &mut BTreeSet<String>) {
        let length = path.len() + 16;
        let shown = path.clone();
        if set(self).insert(path) {
            self.spend(&shown, length);
        }
    }

    fn spend(&mut self, path: &str, bytes: usize) {
        self.kept += bytes;
        if self.kept > MAX_KEPT && self.too_large.is_none() {
            let limit = format!("can be kept of a layer: {MAX_KEPT} bytes of names and versions");
            self.too_large = Some(TooLarge { path: path.to_owned(), limit });
        }
    }

    fn finish(self, diff_id: DiffId) -> LayerSurvey {
        let Self { removed, emptied, covering_links, covering_files, top, mut found, .. } = self;
        // What lies in a cache was read for the sake of links to it.
        found.retain(|path, found| {
            !matches!(found, Found::Distribution { .. }) || parse::site(path).is_some()
        });
        LayerSurvey { diff_id, removed, emptied, covering_links, covering_files, top, found }
    }
}

/// A hard link's target as paths are written here.
fn relative(target: &str) -> String {
    target.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/")
}

/// Bytes that a finding takes, more or less.
fn size(found: &Found) -> usize {
    let listed = |packages: &[Listed]| {
        packages.iter().map(|it| it.name.len() + it.version.len() + it.architecture.len() + 48).sum::<usize>()
    };
    let texts = |texts: &[String]| texts.iter().map(|text| text.len() + 24).sum::<usize>();
    match found {
        Found::Debs(packages) => listed(packages),
        Found::Apks { packages, distributions } => listed(packages) + texts(distributions),
        Found::Conda { name, version, distributions } => name.len() + version.len() + texts(distributions),
        Found::Distribution { name, version } => name.len() + version.len(),
        Found::File => 0,
        Found::Link(text) | Found::Version(text) | Found::Text(text) => text.len(),
    }
}

/// What a path is read for, if it is.
fn wanted(path: &str) -> Option<Wanted> {
    match path {
        "var/lib/dpkg/status" => return Some(Wanted::Status),
        "lib/apk/db/installed" | "usr/lib/apk/db/installed" => return Some(Wanted::Installed),
        "etc/passwd" | "etc/group" => return Some(Wanted::Text),
        _ => {}
    }
    if path.ends_with(".egg-info") {
        return Some(Wanted::Metadata);
    }
    let (folder, file) = path.rsplit_once('/')?;
    let parent = folder.rsplit_once('/').map_or(folder, |(_, parent)| parent);
    match file {
        "METADATA" if parent.ends_with(".dist-info") => Some(Wanted::Metadata),
        "PKG-INFO" if parent.ends_with(".egg-info") => Some(Wanted::Metadata),
        "patchlevel.h" if parent.starts_with("python3") => Some(Wanted::PatchLevel),
        "libc.so.6" if is_library_folder(folder) => Some(Wanted::Glibc),
        _ if folder == "var/lib/dpkg/status.d" && !file.ends_with(".md5sums") => Some(Wanted::Stanza),
        _ if parent == "conda-meta" && file.ends_with(".json") => Some(Wanted::CondaMeta),
        _ if parent == "bin" && parse::interpreter_version(file).is_some() => Some(Wanted::Interpreter),
        _ if file.starts_with("ld-musl-") && file.ends_with(".so.1") && is_library_folder(folder) => {
            Some(Wanted::Musl)
        }
        _ => None,
    }
}

/// Whether the system's own C library is looked for in a folder: `lib64`, `usr/lib/x86_64-linux-gnu`; not in those of
/// cross compilers.
fn is_library_folder(folder: &str) -> bool {
    let folder = folder.strip_prefix("usr/").unwrap_or(folder);
    match folder.split_once('/') {
        None => matches!(folder, "lib" | "lib64"),
        Some(("lib", triplet)) => triplet.contains("-linux-") && !triplet.contains('/'),
        Some(_) => false,
    }
}

/// Whether a file or link at this path could stand in the place of a folder in which a layer below has something.
///
/// The parts of such folders' paths are known by name, but for the place of an environment. That is looked for at most
/// four folders deep, and not among the system's programs, libraries and data.
fn can_cover(path: &str) -> bool {
    const SYSTEM: [&str; 9] =
        ["usr/bin/", "usr/sbin/", "usr/share/", "usr/include/", "usr/lib/", "bin/", "sbin/", "lib/", "etc/"];
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    match file {
        "lib" | "lib64" | "bin" | "include" | "site-packages" | "dist-packages" | "conda-meta" => true,
        "apk" | "db" | "status.d" => folder.len() < 12,
        _ if file.ends_with(".dist-info") || file.ends_with(".egg-info") || is_library_folder(path) => true,
        _ if file.starts_with("python3") && !folder.ends_with("bin") => true,
        _ => path.matches('/').count() < 4 && !SYSTEM.iter().any(|system| path.starts_with(system)),
    }
}
