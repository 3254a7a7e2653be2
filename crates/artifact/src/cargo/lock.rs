//! Cargo.lock, versions 3 and 4.

use std::collections::{BTreeMap, BTreeSet};

use imgforge_oci::Digest;
use serde::Deserialize;

/// What a Cargo.lock names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Crates to fetch, by name and then as they stand there; each name and version once.
    pub crates: Vec<Crate>,
    /// Packages of the project itself, by name: they must be in its folder, as nothing says where else they are.
    pub local: Vec<Local>,
}

/// A crate of crates.io at a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crate {
    /// Its name: ASCII letters, digits, `-` and `_`.
    pub name: String,
    /// Its version: a semantic version, as it is written.
    pub version: String,
    /// The SHA-256 of its `.crate` file.
    pub sha256: Digest,
}

/// A package that lies in the project's own folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Why a Cargo.lock can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// It is no TOML, or not of this shape.
    #[error("Cargo.lock does not read")]
    Toml(#[source] Box<toml::de::Error>),
    /// A version of the format that is not known.
    #[error(
        "Cargo.lock is of version {}; 3 and 4 are read: delete it and run `cargo generate-lockfile` with Rust 1.53 or later",
        .version.map_or_else(|| "1 or 2".to_owned(), |version| version.to_string())
    )]
    Version {
        /// The number, when there is one.
        version: Option<i64>,
    },
    /// A crate that is not from crates.io.
    #[error(
        "{name} {version} comes from {source_id}; only crates of crates.io, which Cargo.lock pins by checksum, can be had \
         for a build without a network: put it into the project's folder and depend on it by `path`"
    )]
    Source {
        /// The crate.
        name: String,
        /// Its version.
        version: String,
        /// As Cargo.lock has it, escaped.
        source_id: String,
    },
    /// A crate without a checksum, or with one that is none.
    #[error("{name} {version} has no SHA-256 in Cargo.lock: run `cargo update -p {name}`")]
    Checksum {
        /// The crate.
        name: String,
        /// Its version.
        version: String,
    },
    /// A name or version that can't be one.
    #[error("Cargo.lock has the package `{name}` `{version}`, which is no name with a semantic version")]
    Name {
        /// As it is written, escaped.
        name: String,
        /// As it is written, escaped.
        version: String,
    },
    /// One crate twice.
    #[error("Cargo.lock has {name} {version} twice")]
    Twice {
        /// The crate.
        name: String,
        /// Its version.
        version: String,
    },
    /// A Cargo.toml of the project that does not read.
    #[error("{path} does not read")]
    Manifest {
        /// Its path in the project.
        path: String,
        /// The parser's message.
        source: Box<toml::de::Error>,
    },
    /// A package that should be in the project's folder, and is not.
    #[error(
        "{name} {version} is a dependency by path, and none of the project's Cargo.toml files is its: it lies outside of the \
         project's folder, or `inputs` leaves it out"
    )]
    Outside {
        /// The package.
        name: String,
        /// Its version.
        version: String,
    },
}

/// The registry, as Cargo.lock names it: by its git index, and by its sparse one.
const CRATES_IO: [&str; 2] =
    ["registry+https://github.com/rust-lang/crates.io-index", "sparse+https://index.crates.io/"];

impl Lock {
    /// Reads the text of a Cargo.lock.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn parse(text: &str) -> Result<Self, LockError> {
        let file: File = toml::from_str(text).map_err(|error| LockError::Toml(Box::new(error)))?;
        if !matches!(file.version, Some(3 | 4)) {
            return Err(LockError::Version { version: file.version });
        }
        let (mut crates, mut local) = (BTreeMap::new(), BTreeSet::new());
        for package in file.package {
            let Package { name, version, source, checksum } = package;
            if !is_name(&name) || semver::Version::parse(&version).is_err() {
                let escaped = |text: String| text.escape_debug().to_string();
                return Err(LockError::Name { name: escaped(name), version: escaped(version) });
            }
            let Some(source) = source else {
                if !local.insert((name.clone(), version.clone())) {
                    return Err(LockError::Twice { name, version });
                }
                continue;
            };
            if !CRATES_IO.contains(&source.as_str()) {
                return Err(LockError::Source {
                    name,
                    version,
                    source_id: source.escape_debug().to_string(),
                });
            }
            let Some(sha256) = checksum.and_then(|hex| Digest::from_hex(&hex).ok()) else {
                return Err(LockError::Checksum { name, version });
            };
            if crates.insert((name.clone(), version.clone()), sha256).is_some() {
                return Err(LockError::Twice { name, version });
            }
        }
        let crates =
            crates.into_iter().map(|((name, version), sha256)| Crate { name, version, sha256 }).collect();
        let local = local.into_iter().map(|(name, version)| Local { name, version }).collect();
        Ok(Self { crates, local })
    }

    /// Checks that the project has all packages that must be in its folder; `manifests` are the paths and texts of all its
    /// Cargo.toml files.
    ///
    /// # Errors
    /// [`LockError::Outside`] for the first that is not there, [`LockError::Manifest`].
    pub fn check_local<'m>(
        &self,
        manifests: impl IntoIterator<Item = (&'m str, &'m str)>,
    ) -> Result<(), LockError> {
        let mut names = BTreeSet::new();
        for (path, text) in manifests {
            let manifest: Manifest = toml::from_str(text)
                .map_err(|error| LockError::Manifest { path: path.to_owned(), source: Box::new(error) })?;
            // A workspace's own Cargo.toml may have no package.
            names.extend(manifest.package.map(|package| package.name));
        }
        match self.local.iter().find(|local| !names.contains(&local.name)) {
            Some(Local { name, version }) => {
                Err(LockError::Outside { name: name.clone(), version: version.clone() })
            }
            None => Ok(()),
        }
    }
}

impl Crate {
    /// Where its `.crate` file is.
    pub fn url(&self) -> String {
        let Self { name, version, .. } = self;
        // The plus of build metadata is a blank to the server.
        format!("https://static.crates.io/crates/{name}/{name}-{version}.crate").replace('+', "%2B")
    }

    /// `NAME-VERSION.crate`.
    pub fn file_name(&self) -> String {
        format!("{}.crate", self.folder())
    }

    /// `NAME-VERSION`: the folder in its archive, and that in the vendor folder.
    pub(super) fn folder(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }
}

#[derive(Deserialize)]
struct File {
    version: Option<i64>,
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
}

#[derive(Deserialize)]
struct Manifest {
    package: Option<ManifestPackage>,
}

#[derive(Deserialize)]
struct ManifestPackage {
    name: String,
}

/// crates.io takes ASCII names only; packages of a project may have others, but they are no part of any path here.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn package(name: &str, version: &str, source: &str) -> String {
        let source = match source {
            "" => String::new(),
            "registry" => format!("source = '{}'\nchecksum = '{HEX}'\n", CRATES_IO[0]),
            source => format!("source = '{source}'\nchecksum = '{HEX}'\n"),
        };
        format!("[[package]]\nname = '{name}'\nversion = '{version}'\n{source}\n")
    }

    fn check(packages: &[String], crates: &[&str], local: &[&str]) {
        for version in [3, 4] {
            let lock = Lock::parse(&format!("version = {version}\n{}", packages.concat())).unwrap();
            assert_eq!(lock.crates.iter().map(Crate::file_name).collect::<Vec<_>>(), crates);
            assert_eq!(lock.local.iter().map(|local| local.name.as_str()).collect::<Vec<_>>(), local);
        }
    }

    fn refuse(text: &str, message: &str) {
        let found = Lock::parse(text).unwrap_err().to_string();
        assert!(found.contains(message), "{found}");
    }

    #[test]
    fn what_is_named() {
        check(&[], &[], &[]);
        check(
            &[
                package("own", "0.1.0", ""),
                package("serde", "1.0.0", "registry"),
                package("a", "2.0.0", "sparse+https://index.crates.io/"),
                package("a", "1.0.0+x.1", "registry"),
                package("tool", "0.1.0", ""),
            ],
            &["a-1.0.0+x.1.crate", "a-2.0.0.crate", "serde-1.0.0.crate"],
            &["own", "tool"],
        );
    }

    #[test]
    fn where_crates_are() {
        let url = |version: &str| {
            Crate { name: "a_b".to_owned(), version: version.to_owned(), sha256: Digest::of(b"") }.url()
        };
        assert_eq!(url("1.0.0"), "https://static.crates.io/crates/a_b/a_b-1.0.0.crate");
        assert_eq!(url("1.0.0+2"), "https://static.crates.io/crates/a_b/a_b-1.0.0%2B2.crate");
    }

    #[test]
    fn what_is_refused() {
        let lock = |package: String| format!("version = 4\n{package}");
        refuse("[[package", "does not read");
        refuse("version = '4'", "does not read");
        refuse("", "version 1 or 2");
        refuse("version = 5", "version 5");
        refuse(
            &lock(package("a", "1.0.0", "git+https://x.org/a?branch=main#1234")),
            "a 1.0.0 comes from git+https",
        );
        refuse(
            &lock(package("a", "1.0.0", "registry+https://x.org/index")),
            "comes from registry+https://x.org",
        );
        refuse(
            &lock(
                package("a", "1.0.0", "path+file:///a\x1b[0m").replace('\'', "\"").replace('\x1b', "\\u001b"),
            ),
            r"a\u{1b}[0m",
        );
        for (name, version) in
            [("../a", "1.0.0"), ("a", "1/../../x"), ("", "1.0.0"), ("a", "1"), ("a b", "1.0.0")]
        {
            refuse(&lock(package(name, version, "registry")), "which is no name");
        }
        refuse(&lock(package("a", "1.0.0", "registry").replace(HEX, "00")), "run `cargo update -p a`");
        refuse(&lock(package("a", "1.0.0", "registry").repeat(2)), "a 1.0.0 twice");
        refuse(&lock(package("a", "1.0.0", "").repeat(2)), "a 1.0.0 twice");
    }

    #[test]
    fn packages_of_the_project() {
        let text =
            ["version = 4\n".to_owned(), package("own", "0.1.0", ""), package("tool", "0.1.0", "")].concat();
        let lock = Lock::parse(&text).unwrap();
        let check = |manifests: &[&str], expected: Option<&str>| {
            let found = lock.check_local(manifests.iter().map(|text| ("x/Cargo.toml", *text)));
            let found = found.err().map(|error| error.to_string());
            match expected {
                None => assert_eq!(found, None),
                Some(message) => {
                    assert!(found.as_ref().is_some_and(|text| text.contains(message)), "{found:?}")
                }
            }
        };
        let (workspace, own, tool) =
            ("[workspace]\nmembers = ['tool']", "[package]\nname = 'own'", "package.name = 'tool'");
        check(&[workspace, own, tool], None);
        check(&[workspace, own], Some("tool 0.1.0 is a dependency by path"));
        check(&[own, tool, "["], Some("x/Cargo.toml does not read"));
    }
}
