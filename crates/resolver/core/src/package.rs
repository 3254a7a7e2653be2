//! A file that is to be installed, whatever kind of package it is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Artifact, CondaEnvironment, CondaPackage, Location};

/// A file that is to be installed: what [`Artifact`] and [`CondaPackage`] have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// The name, normalised as its kind of package has it.
    pub name: String,
    /// The version.
    pub version: String,
    /// What kind of package it is.
    pub kind: PackageKind,
    /// The build string of a conda package, where it is known: `py311h64a7726_0`.
    pub build: Option<String>,
    /// The file's name.
    pub file: String,
    /// Where the bytes are; any other place that yields the same hash is as good.
    pub location: Location,
    /// SHA-256 of the file: 64 lower-case hexadecimal digits. Only conda packages of old locks have none.
    pub sha256: Option<String>,
    /// MD5 of a conda package: 32 lower-case hexadecimal digits.
    pub md5: Option<String>,
    /// Bytes of the file, where they are known.
    pub size: Option<u64>,
}

/// What kind of package a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageKind {
    /// A Python package that is installed as it is (PEP 427).
    Wheel,
    /// The source distribution of a Python package, which somebody has to build.
    Sdist,
    /// A conda package.
    Conda,
}

impl PackageKind {
    /// One word for it: `wheel`, `sdist`, `conda`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wheel => "wheel",
            Self::Sdist => "sdist",
            Self::Conda => "conda",
        }
    }
}

impl fmt::Display for PackageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&Artifact> for Package {
    fn from(artifact: &Artifact) -> Self {
        let Artifact { name, version, file, location, sha256, size } = artifact.clone();
        let kind = if file.ends_with(".whl") { PackageKind::Wheel } else { PackageKind::Sdist };
        let sha256 = Some(sha256);
        Self { name, version, kind, build: None, file, location, sha256, md5: None, size }
    }
}

impl From<&CondaPackage> for Package {
    fn from(package: &CondaPackage) -> Self {
        let CondaPackage { name, version, build, file, location, sha256, md5, size, .. } = package.clone();
        let build = Some(build).filter(|build| !build.is_empty());
        Self { name, version, kind: PackageKind::Conda, build, file, location, sha256, md5, size }
    }
}

impl CondaEnvironment {
    /// All of its files: the conda packages in the order of their links, then the wheels by name.
    pub fn files(&self) -> Vec<Package> {
        self.packages.iter().map(Package::from).chain(self.wheels.iter().map(Package::from)).collect()
    }
}
