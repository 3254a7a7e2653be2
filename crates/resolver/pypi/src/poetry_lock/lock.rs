//! The text of a poetry.lock: its three formats, brought to one.
//!
//! 1.1 has the files of all versions of a name in one list at the end, 2.0 has them in each package, and 2.1 says of each
//! package which groups need it and when.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use uv_distribution_filename::{DistFilename, SourceDistExtension, SourceDistFilename, WheelFilename};
use uv_normalize::{ExtraName, GroupName, PackageName};
use uv_pep440::Version;

use super::constraint::Constraint;
use crate::error::{Error, plain, plain_text};

/// The formats that are read.
const SUPPORTED: &str = "1.1, 2.0 or 2.1";

/// What a poetry.lock says.
pub(super) struct Lock {
    /// `lock-version`.
    pub(super) format: Format,
    /// The packages, by name and version.
    pub(super) entries: Vec<Entry>,
    /// The project's extras, and the packages that each begins with.
    pub(super) extras: BTreeMap<ExtraName, Vec<PackageName>>,
    /// The versions of Python that the project is for, as written.
    pub(super) python_versions: String,
    /// What the parts of pyproject.toml that decide the lock hashed to.
    pub(super) content_hash: Option<String>,
    /// The version of Poetry in the comment at the top.
    pub(super) poetry: Option<Version>,
}

/// A version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    V1_1,
    V2_0,
    V2_1,
}

/// A package of the lock.
pub(super) struct Entry {
    pub(super) name: PackageName,
    pub(super) version: Version,
    /// The versions of Python that it runs on.
    pub(super) python: Constraint,
    /// The groups that need it, each with the markers under which it does. Empty before 2.1.
    pub(super) groups: BTreeMap<GroupName, String>,
    /// Its files, wheels and others.
    pub(super) files: Vec<File>,
    /// The tables of `[package.dependencies]` by name; 2.1 needs none of them.
    pub(super) dependencies: toml::Table,
    /// Its own extras and what they bring.
    pub(super) extras: BTreeMap<ExtraName, Vec<Optional>>,
    pub(super) source: Source,
}

/// A file that is locked.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct File {
    /// The file's name, without folders.
    pub(super) file: String,
    /// `sha256:…`.
    pub(super) hash: String,
}

/// What an extra of a package brings: a name, and extras of that.
pub(super) struct Optional {
    pub(super) name: PackageName,
    pub(super) extras: Vec<ExtraName>,
}

/// Where a package is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// PyPI, or what stands in its place.
    Pypi,
    /// Another index, with the name that pyproject.toml has for it.
    Index { url: String, reference: String },
    /// A file by its URL.
    Url(String),
    /// A file by its path, relative to the lock's folder.
    File(String),
    /// A folder by its path, relative to the lock's folder.
    Directory(String),
    /// A repository.
    Git(String),
}

impl Lock {
    pub(super) fn parse(text: &str, file: &Path) -> Result<Self, Error> {
        let parse = |message: String| Error::Parse {
            file: file.to_owned(),
            format: "poetry.lock",
            message: format!("{}; `poetry lock` writes it again", message.trim()),
        };
        let toml = |error: toml::de::Error| parse(plain(&error));
        // The version first: another one's other mistakes are none.
        let table: toml::Table = toml::from_str(text).map_err(toml)?;
        let version = table.get("metadata").and_then(|metadata| metadata.get("lock-version"));
        let format = match version.and_then(toml::Value::as_str) {
            Some("1.1") => Format::V1_1,
            Some("2.0") => Format::V2_0,
            Some("2.1") => Format::V2_1,
            Some(other) => {
                return Err(Error::FormatVersion {
                    file: file.to_owned(),
                    found: plain_text(other),
                    supported: SUPPORTED,
                    mend: "run `poetry lock` with Poetry 2, or use a newer imgforge if that wrote it",
                });
            }
            None => return Err(parse("it has no lock-version".to_owned())),
        };
        drop(table);
        let document: Document = toml::from_str(text).map_err(toml)?;

        let mut entries = Vec::with_capacity(document.package.len());
        for package in document.package {
            let name = plain_text(&package.name);
            let entry = package.entry(format, &document.metadata.files);
            entries.push(entry.map_err(|why| parse(format!("package {name}: {}", plain_text(&why))))?);
        }
        entries.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        let extras = document.extras.into_iter().map(|(extra, names)| {
            let names = names.iter().map(|name| name.parse().map_err(|_| name.clone()));
            Ok((extra.parse().map_err(|_| extra)?, names.collect::<Result<_, String>>()?))
        });
        Ok(Self {
            format,
            entries,
            extras: extras
                .collect::<Result<_, String>>()
                .map_err(|name| parse(format!("extras: {:?} is no name", plain_text(&name))))?,
            python_versions: document.metadata.python_versions,
            content_hash: document.metadata.content_hash,
            poetry: poetry(text),
        })
    }
}

/// The version in `# This file is automatically @generated by Poetry 2.0.1 and …`.
fn poetry(text: &str) -> Option<Version> {
    let (_, after) = text.lines().next()?.split_once("Poetry ")?;
    after.split(' ').next()?.parse().ok()
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    package: Vec<Package>,
    #[serde(default)]
    extras: BTreeMap<String, Vec<String>>,
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Metadata {
    python_versions: String,
    content_hash: Option<String>,
    #[serde(default)]
    files: BTreeMap<String, Vec<File>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Package {
    name: String,
    version: String,
    python_versions: String,
    groups: Option<Vec<String>>,
    markers: Option<Markers>,
    files: Option<Vec<File>>,
    #[serde(default)]
    dependencies: toml::Table,
    #[serde(default)]
    extras: BTreeMap<String, Vec<String>>,
    source: Option<SourceTable>,
}

/// For all groups, or by group.
#[derive(Deserialize)]
#[serde(untagged)]
enum Markers {
    All(String),
    ByGroup(BTreeMap<String, String>),
}

#[derive(Deserialize)]
struct SourceTable {
    r#type: String,
    url: String,
    #[serde(default)]
    reference: String,
}

impl Package {
    fn entry(self, format: Format, files: &BTreeMap<String, Vec<File>>) -> Result<Entry, String> {
        let name: PackageName = self.name.parse().map_err(|_| "that is no name of a package".to_owned())?;
        let version: Version =
            self.version.parse().map_err(|_| format!("{:?} is no version", self.version))?;
        let files = match (self.files, format) {
            (Some(files), _) => files,
            (None, Format::V1_1) => {
                let all = files.get(&self.name).map(Vec::as_slice).unwrap_or_default();
                all.iter().filter(|it| is_of(&it.file, &name, &version)).cloned().collect()
            }
            (None, _) => return Err("its `files` are missing".to_owned()),
        };
        let groups = match (self.groups, format) {
            (Some(groups), Format::V2_1) => {
                let group = |text: String| {
                    let markers = match &self.markers {
                        Some(Markers::All(markers)) => Some(markers.as_str()),
                        Some(Markers::ByGroup(by_group)) => by_group.get(&text).map(String::as_str),
                        None => None,
                    };
                    let name = text.parse().map_err(|_| format!("{text:?} is no name of a group"))?;
                    Ok((name, markers.unwrap_or("*").to_owned()))
                };
                groups.into_iter().map(group).collect::<Result<_, String>>()?
            }
            (None, Format::V2_1) => return Err("its `groups` are missing".to_owned()),
            _ => BTreeMap::new(),
        };
        // Some names of extras are none. Nobody can ask for them.
        let extras = self.extras.into_iter().filter_map(|(extra, brings)| {
            Some((extra.parse().ok()?, brings.iter().filter_map(|text| Optional::parse(text)).collect()))
        });
        Ok(Entry {
            name,
            version,
            python: self.python_versions.parse()?,
            groups,
            files,
            dependencies: self.dependencies,
            extras: extras.collect(),
            source: self.source.map_or(Ok(Source::Pypi), Source::try_from)?,
        })
    }
}

/// Whether a file in a list for all versions is one of this version.
fn is_of(file: &str, name: &PackageName, version: &Version) -> bool {
    DistFilename::try_from_filename(file, name)
        .is_some_and(|file| file.name() == name && file.version() == version)
}

impl Optional {
    /// `name (>=1.0)`, `name[a,b]`: only names matter, as the versions are locked.
    fn parse(text: &str) -> Option<Self> {
        let end = text.find(|char: char| !char.is_ascii_alphanumeric() && !"-_.".contains(char));
        let (name, after) = text.split_at(end.unwrap_or(text.len()));
        let extras = after.strip_prefix('[').and_then(|after| after.split_once(']'));
        let extras = extras.map(|(extras, _)| extras).unwrap_or_default();
        Some(Self {
            name: name.parse().ok()?,
            extras: extras.split(',').filter_map(|extra| extra.trim().parse().ok()).collect(),
        })
    }
}

impl TryFrom<SourceTable> for Source {
    type Error = String;

    fn try_from(SourceTable { r#type, url, reference }: SourceTable) -> Result<Self, String> {
        Ok(match r#type.as_str() {
            "legacy" => Self::Index { url, reference },
            "url" => Self::Url(url),
            "file" => Self::File(url),
            "directory" => Self::Directory(url),
            "git" => Self::Git(url),
            other => return Err(format!("{other:?} is no kind of source")),
        })
    }
}

impl Entry {
    /// The wheels among its files.
    pub(super) fn wheels(&self) -> impl Iterator<Item = (WheelFilename, &File)> {
        let wheels =
            self.files.iter().filter_map(|file| Some((file.file.parse::<WheelFilename>().ok()?, file)));
        wheels.filter(|(wheel, _)| wheel.name == self.name && wheel.version == self.version)
    }

    /// The source distribution among its files; of several, the `.tar.gz` that PEP 625 has.
    pub(super) fn sdist(&self) -> Option<(SourceDistFilename, &File)> {
        let sdists = self.files.iter().filter_map(|file| {
            match DistFilename::try_from_filename(&file.file, &self.name) {
                Some(DistFilename::SourceDistFilename(sdist)) if sdist.version == self.version => {
                    Some((sdist, file))
                }
                _ => None,
            }
        });
        sdists.min_by_key(|(sdist, _)| sdist.extension != SourceDistExtension::TarGz)
    }
}
