//! The words that the halves of the resolver share.
//!
//! Owns: [`Target`] (what an environment is selected for), [`Artifact`] and [`CondaPackage`] (what a lock says is to be
//! installed), [`Package`] (either of them, for who only wants to know which files there are) and [`ErrorKind`]. Owns no lock
//! format: each half reads its own. It is a crate of its own so that a change in one half compiles without the other.

mod kind;
mod package;

use std::path::PathBuf;

pub use kind::ErrorKind;
pub use package::{Package, PackageKind};

use serde::{Deserialize, Serialize};

/// What an environment is selected for: everything that decides which wheels are taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// CPython's version: `3.11` or `3.11.2` (a missing patch counts as 0 in `python_full_version` markers).
    pub python: String,
    /// The CPU, in OCI's words.
    pub architecture: Architecture,
    /// The C library of the image, with its version: wheels tagged for a newer one are not taken.
    pub libc: Libc,
}

/// A CPU architecture, in OCI's words (`amd64`, `arm64`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64: `x86_64` in wheel tags, `amd64` in Debian.
    Amd64,
    /// 64-bit ARM: `aarch64` in wheel tags, `arm64` in Debian.
    Arm64,
}

impl Architecture {
    /// OCI's word for it, which is Debian's too.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// A C library and the newest version of it that wheels may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Libc {
    /// The GNU C library: `manylinux_MAJOR_MINOR` wheels (PEP 600).
    Glibc {
        /// Always 2 so far.
        major: u16,
        /// The part after the dot.
        minor: u16,
    },
    /// musl: `musllinux_MAJOR_MINOR` wheels (PEP 656).
    Musl {
        /// Always 1 so far.
        major: u16,
        /// The part after the dot.
        minor: u16,
    },
}

/// A locked input that is to be installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The name, normalised (PEP 503).
    pub name: String,
    /// The version as the lock has it.
    pub version: String,
    /// The file name, which for a wheel says what it is tagged for: `numpy-2.1.0-cp311-….whl`.
    pub file: String,
    /// Where the lock says the bytes are; any other place that yields the same SHA-256 is as good.
    pub location: Location,
    /// SHA-256 of the file: 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Bytes of the file, where the lock says so.
    pub size: Option<u64>,
}

/// A conda package that is to be linked into an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CondaPackage {
    /// The name, normalised (lower case).
    pub name: String,
    /// The version as the lock has it.
    pub version: String,
    /// The build string: `py311h64a7726_0`. Empty where the lock does not say it.
    pub build: String,
    /// The channel's folder: `linux-64`, `noarch`.
    pub subdir: String,
    /// The archive's name: `numpy-1.26.4-py311h64a7726_0.conda`.
    pub file: String,
    /// Where the lock says the bytes are; any other place that yields the same SHA-256 is as good.
    pub location: Location,
    /// SHA-256 of the archive: 64 lower-case hexadecimal digits. Old locks have MD5 alone.
    pub sha256: Option<String>,
    /// MD5 of the archive: 32 lower-case hexadecimal digits.
    pub md5: Option<String>,
    /// Bytes of the archive, where the lock says so.
    pub size: Option<u64>,
    /// Whether the package is for any platform, and of which kind then.
    pub noarch: CondaNoarch,
    /// The repodata record that `conda-meta/*.json` is made from, as rattler's `RepoDataRecord` is serialised. `None` where
    /// the lock has none (`@EXPLICIT`): then the package's own `index.json` is taken.
    pub record: Option<serde_json::Value>,
}

/// Whether a conda package is for any platform (its metadata's `noarch`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CondaNoarch {
    /// For one platform, or not known before the package is read.
    #[default]
    No,
    /// Files that go where the archive has them.
    Generic,
    /// Python modules, which go into the site-packages of the environment's Python.
    Python,
}

/// The Python of a conda environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CondaPython {
    /// CPython's version: `3.11.2`.
    pub version: String,
    /// Where it looks for modules, below the prefix: `lib/python3.11/site-packages`.
    pub site_packages: String,
}

/// What a conda lock says is to be installed for a platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CondaEnvironment {
    /// The packages in the order in which rattler links them (topological by `depends`); by lock order where nothing is
    /// known of what depends on what.
    pub packages: Vec<CondaPackage>,
    /// Packages from PyPI that the same lock has, by name.
    pub wheels: Vec<Artifact>,
    /// The environment's Python, if it has one.
    pub python: Option<CondaPython>,
}

/// Where an artifact's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Location {
    /// An `https` or `http` URL, without credentials or fragment.
    Url(String),
    /// A file of this machine, made absolute: the lock may have it relative to its folder, or as a `file` URL.
    Path(PathBuf),
}
