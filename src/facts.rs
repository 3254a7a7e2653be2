//! What has to be known of a root filesystem to put something on it, without its layers at hand.
//!
//! Of a base made of Debian packages all of it follows from the packages' names and versions. Of an image it is read from
//! the layers once, when the base is pinned, and pinned with it: so a later build on another host needs none of the base's
//! bytes to know which wheels fit.

use std::collections::BTreeMap;

use imgforge_resolver::debian::PinnedPackage;
use serde::{Deserialize, Serialize};

/// What is known of a root filesystem.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// CPython's programs; where there are several of one version, the one that the search path finds comes first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interpreters: Vec<Interpreter>,
    /// The C library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libc: Option<Libc>,
    /// Symbolic links in the root folder, as they are written: `bin` → `usr/bin`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, String>,
    /// The text of `/etc/passwd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passwd: Option<String>,
    /// The text of `/etc/group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// A CPython.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interpreter {
    /// The program's path: `/usr/bin/python3.11`.
    pub path: String,
    /// Its version as far as it is known: `3.11.2` or `3.11`.
    pub version: String,
}

impl Interpreter {
    /// The version's first two numbers: `3.11`.
    pub fn short(&self) -> String {
        short(&self.version)
    }
}

/// A C library, with the version that programs may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Libc {
    /// GNU's.
    Glibc(String),
    /// musl.
    Musl(String),
}

/// A version's first two numbers.
pub fn short(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

impl Facts {
    /// What follows from the packages of a Debian root filesystem.
    pub fn of_debian(packages: &[PinnedPackage]) -> Self {
        let interpreter = |package: &PinnedPackage| {
            let short = package.name.strip_prefix("python")?.strip_suffix("-minimal")?;
            if !short.contains('.') {
                return None;
            }
            let whole = package.version.split(['-', '+', '~']).next().unwrap_or(short);
            let version = if whole.starts_with(&format!("{short}.")) { whole } else { short };
            Some(Interpreter { path: format!("/usr/bin/python{short}"), version: version.to_owned() })
        };
        let libc6 = packages.iter().find(|package| package.name == "libc6");
        Self {
            interpreters: packages.iter().filter_map(interpreter).collect(),
            libc: libc6.and_then(|package| Some(Libc::Glibc(package.version.split('-').next()?.to_owned()))),
            ..Self::default()
        }
    }
}
