//! rattler's records → [`CondaPackage`]s, and the environment that they make.
//!
//! All that can't be installed is gathered before anything is refused, so that one run tells everything there is to mend.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr as _;

use imgforge_resolver_core::{Artifact, CondaEnvironment, CondaNoarch, CondaPackage};
use rattler_conda_types::package::{BuildString, CondaArchiveIdentifier, DistArchiveIdentifier};
use rattler_conda_types::{NoArchKind, PackageName, PackageRecord, RepoDataRecord, Subdir};
use serde_json::Value;
use url::Url;

use crate::error::{Error, Reason, Unusable, plain_text};
use crate::location::{Place, is_clean, without_credentials};
use crate::python::python;

/// Packages that an environment may have: several times what the largest have, and few enough for sorting them recursively.
pub(crate) const LIMIT: usize = 10_000;

/// Whether a lock says of packages without a platform of what kind they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noarch {
    /// It does.
    Known,
    /// It does not. Then all of them count as Python's: where their files go is decided when they are read, and until then one
    /// that might depend on the environment's Python has to be taken for one that does.
    Unknown,
}

/// The packages of a selection, and what is wrong with them.
pub(crate) struct Gathered<'a> {
    subdir: &'a str,
    noarch: Noarch,
    /// What adds missing hashes.
    mend: &'static str,
    packages: BTreeMap<String, Linked>,
    wheels: BTreeMap<String, Artifact>,
    unusable: Vec<Unusable>,
}

/// A package and what it is sorted by.
#[derive(Clone)]
struct Linked {
    record: PackageRecord,
    package: CondaPackage,
}

impl AsRef<PackageRecord> for Linked {
    fn as_ref(&self) -> &PackageRecord {
        &self.record
    }
}

impl<'a> Gathered<'a> {
    pub(crate) fn new(subdir: &'a str, noarch: Noarch, mend: &'static str) -> Self {
        Self {
            subdir,
            noarch,
            mend,
            packages: BTreeMap::new(),
            wheels: BTreeMap::new(),
            unusable: Vec::new(),
        }
    }

    pub(crate) fn subdir(&self) -> &str {
        self.subdir
    }

    pub(crate) fn mend(&self) -> &'static str {
        self.mend
    }

    pub(crate) fn refuse(&mut self, name: &str, version: Option<String>, reason: Reason) {
        let version = version.map(|version| plain_text(&version));
        self.unusable.push(Unusable { name: plain_text(name), version, reason });
    }

    /// A conda package.
    pub(crate) fn conda(
        &mut self,
        mut record: PackageRecord,
        place: Result<Place, String>,
        channel: Option<Url>,
    ) {
        let name = record.name.as_normalized().to_owned();
        let version = record.version.as_str().into_owned();
        match package(&mut record, place, channel, self.subdir, self.noarch, self.mend) {
            Ok(package) => {
                if self.packages.insert(name.clone(), Linked { record, package }).is_some() {
                    self.refuse(&name, Some(version), Reason::Twice);
                }
            }
            Err(reason) => self.refuse(&name, Some(version), reason),
        }
    }

    /// A wheel.
    pub(crate) fn wheel(&mut self, wheel: Artifact) {
        let (name, version) = (wheel.name.clone(), wheel.version.clone());
        if self.wheels.insert(name.clone(), wheel).is_some() {
            self.refuse(&name, Some(version), Reason::Twice);
        }
    }

    /// The environment: packages in the order of their links, wheels by name.
    pub(crate) fn finish(mut self, file: &Path) -> Result<CondaEnvironment, Error> {
        if self.packages.len() > LIMIT || self.wheels.len() > LIMIT {
            let message = format!("the environment has more than {LIMIT} packages, which none has");
            return Err(Error::Unsupported { file: file.to_owned(), message });
        }
        let python = self.packages.get("python").map(|Linked { record, .. }| {
            python(
                &record.version.as_str(),
                record.build.as_str(),
                record.python_site_packages_path.as_deref(),
            )
            .map_err(|message| (record.version.as_str().into_owned(), Reason::Location { message }))
        });
        let python = match python.transpose() {
            Ok(python) => python,
            Err((version, reason)) => {
                self.refuse("python", Some(version), reason);
                None
            }
        };
        if !self.unusable.is_empty() {
            self.unusable.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
            self.unusable.dedup();
            return Err(Error::Unusable { file: file.to_owned(), packages: self.unusable });
        }
        let packages = PackageRecord::sort_topologically(self.packages.into_values().collect());
        Ok(CondaEnvironment {
            packages: packages.into_iter().map(|linked| linked.package).collect(),
            wheels: self.wheels.into_values().collect(),
            python,
        })
    }
}

fn package(
    record: &mut PackageRecord,
    place: Result<Place, String>,
    channel: Option<Url>,
    subdir: &str,
    noarch: Noarch,
    mend: &'static str,
) -> Result<CondaPackage, Reason> {
    let location = |message: String| Reason::Location { message: plain_text(&message) };
    let place = place.map_err(location)?;
    let archive = archive(&place.file).map_err(location)?;
    let identifier = &archive.identifier;
    // rattler takes it from the URL, and finds none in one that is percent-encoded.
    if record.build.as_str().is_empty() {
        record.build = BuildString::new_unchecked(identifier.build_string.clone());
    }
    let name = record.name.as_normalized();
    let (version, build) = (record.version.as_str(), record.build.as_str());
    check_words(name, &version, build).map_err(location)?;
    if !identifier.name.eq_ignore_ascii_case(name)
        || identifier.version != *version
        || identifier.build_string != build
    {
        return Err(location(format!(
            "its file is {}, which is another package's: {name}-{version}-{build} was expected",
            place.file
        )));
    }
    if record.subdir != subdir && record.subdir != Subdir::NoArch.as_str() {
        return Err(Reason::Platform { found: plain_text(&record.subdir), subdir: subdir.to_owned() });
    }
    let sha256 = record.sha256.as_ref().map(|hash| hexadecimal(hash));
    let md5 = record.md5.as_ref().map(|hash| hexadecimal(hash));
    if sha256.is_none() && md5.is_none() {
        return Err(Reason::NoHash { file: place.file, mend });
    }
    let noarch = match (noarch, record.noarch.kind()) {
        (Noarch::Unknown, _) if record.subdir == Subdir::NoArch.as_str() => CondaNoarch::Python,
        (_, Some(NoArchKind::Python)) => CondaNoarch::Python,
        (_, Some(NoArchKind::Generic)) => CondaNoarch::Generic,
        (_, None) => CondaNoarch::No,
    };
    let json = RepoDataRecord {
        // When a channel was indexed says nothing of the package, and is another time wherever it is mirrored.
        package_record: PackageRecord { indexed_timestamp: None, ..record.clone() },
        identifier: DistArchiveIdentifier::from(archive),
        url: place.origin,
        channel: channel.map(|channel| without_credentials(&channel, 0).to_string()),
    };
    let json = serde_json::to_value(&json).map_err(|error| location(error.to_string()))?;
    Ok(CondaPackage {
        name: name.to_owned(),
        version: version.into_owned(),
        build: build.to_owned(),
        subdir: record.subdir.clone(),
        file: place.file,
        location: place.location,
        sha256,
        md5,
        size: record.size,
        noarch,
        record: Some(sorted(json)),
    })
}

/// The name, version and build string that a file's name says.
///
/// # Errors
/// A sentence: it is no conda package's name.
pub(crate) fn archive(file: &str) -> Result<CondaArchiveIdentifier, String> {
    CondaArchiveIdentifier::try_from_filename(file).ok_or_else(|| {
        format!("{file:?} is no conda package: those are NAME-VERSION-BUILD.conda or .tar.bz2")
    })
}

/// Refuses what could be more than a name, a version and a build string: file names are made of them.
///
/// # Errors
/// A sentence that says which one.
pub(crate) fn check_words(name: &str, version: &str, build: &str) -> Result<(), String> {
    if name.is_empty() || name.starts_with('.') || PackageName::from_str(name).is_err() {
        return Err(format!("{name:?} is no name of a package"));
    }
    for (word, what) in [(version, "version"), (build, "build string")] {
        if word.is_empty() || !word.chars().all(is_clean) {
            return Err(format!("{word:?} is no {what}"));
        }
    }
    Ok(())
}

/// A value whose maps are by key, whatever order another crate's features make serde_json keep.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let map: BTreeMap<String, Value> =
                map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(map.into_iter().collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        value => value,
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
