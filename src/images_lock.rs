//! `images.lock`: what images.toml leaves open, pinned, and what came out.
//!
//! Written for review: everything is sorted, and each package and each layer is one line. The file has three kinds of
//! tables:
//!
//! - `[[debian]]`: the packages of a base, for an architecture;
//! - `[[environment]]`: the wheels of a lock that says only their hashes (`requirements.txt`);
//! - `[[image]]`: the manifest digest and the layers of an image that was built, for a platform.
//!
//! The first two have a `request`, a hash of what they were made from: when that changes they are out of date.

use std::collections::BTreeMap;

use imgforge_oci::{DiffId, Digest, Platform};
use imgforge_resolver::debian::PinnedPackage;
use imgforge_resolver::{Architecture, Artifact};
use serde::{Deserialize, Serialize};

/// The content of an `images.lock`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagesLock {
    /// Pinned packages by base and architecture.
    pub debian: BTreeMap<(String, Architecture), DebianPins>,
    /// Pinned wheels by environment, platform and base. One environment may be installed on several bases.
    pub environments: BTreeMap<(String, String), EnvironmentPins>,
    /// Outcomes by image and platform.
    pub images: BTreeMap<(String, String), Outcome>,
}

/// The packages of a base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebianPins {
    /// SHA-256 of what the base's table asks for.
    pub request: String,
    /// By name.
    pub packages: Vec<PinnedPackage>,
}

/// The wheels of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentPins {
    /// SHA-256 of the lock's text and the target.
    pub request: String,
    /// By name.
    pub artifacts: Vec<Artifact>,
}

/// What came out of building an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The digest of its manifest.
    pub manifest: Digest,
    /// From the bottom.
    pub layers: Vec<OutcomeLayer>,
}

/// A layer of an image that was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OutcomeLayer {
    /// What is in it, for readers.
    pub title: String,
    /// The key that it was made under.
    pub key: String,
    /// Of its compressed bytes.
    pub digest: Digest,
    /// Of its tar stream.
    pub diff_id: DiffId,
    /// Bytes, compressed.
    pub size: u64,
}

/// Why an `images.lock` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ImagesLockError {
    /// It is no TOML of this format.
    #[error("images.lock can't be read: {problem}")]
    Syntax {
        /// The parser's words, with the line.
        problem: String,
    },
    /// It was written by a newer imgforge.
    #[error("images.lock has version {version}, this imgforge reads version 1")]
    Version {
        /// As it is written.
        version: u32,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    debian: Vec<DebianTable>,
    #[serde(default)]
    environment: Vec<EnvironmentTable>,
    #[serde(default)]
    image: Vec<ImageTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DebianTable {
    base: String,
    architecture: Architecture,
    request: String,
    packages: Vec<PackageLine>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PackageLine {
    name: String,
    version: String,
    architecture: String,
    path: String,
    sha256: String,
    size: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvironmentTable {
    environment: String,
    target: String,
    request: String,
    artifacts: Vec<Artifact>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageTable {
    name: String,
    platform: Platform,
    manifest: Digest,
    layers: Vec<OutcomeLayer>,
}

impl ImagesLock {
    /// Reads the file's text.
    ///
    /// # Errors
    /// [`ImagesLockError`].
    pub fn parse(text: &str) -> Result<Self, ImagesLockError> {
        let file: File = toml::from_str(text)
            .map_err(|error| ImagesLockError::Syntax { problem: error.to_string().trim_end().to_owned() })?;
        if file.version != 1 {
            return Err(ImagesLockError::Version { version: file.version });
        }
        let debian = file.debian.into_iter().map(|table| {
            let packages = table.packages.into_iter().map(PackageLine::into_package).collect();
            ((table.base, table.architecture), DebianPins { request: table.request, packages })
        });
        let environments = file.environment.into_iter().map(|table| {
            let pins = EnvironmentPins { request: table.request, artifacts: table.artifacts };
            ((table.environment, table.target), pins)
        });
        let images = file.image.into_iter().map(|table| {
            let outcome = Outcome { manifest: table.manifest, layers: table.layers };
            ((table.name, table.platform.to_string()), outcome)
        });
        Ok(Self { debian: debian.collect(), environments: environments.collect(), images: images.collect() })
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text =
            "# Written by `imgforge lock` and `imgforge build`; not for editing by hand.\nversion = 1\n"
                .to_owned();
        for ((base, architecture), pins) in &self.debian {
            let lines = pins.packages.iter().map(|package| line(&PackageLine::of(package)));
            let head = [
                ("base", base.as_str()),
                ("architecture", architecture.as_str()),
                ("request", &pins.request),
            ];
            table(&mut text, "debian", &head, "packages", lines);
        }
        for ((environment, target), pins) in &self.environments {
            let head =
                [("environment", environment.as_str()), ("target", target), ("request", &pins.request)];
            table(&mut text, "environment", &head, "artifacts", pins.artifacts.iter().map(line));
        }
        for ((name, platform), outcome) in &self.images {
            let manifest = outcome.manifest.to_string();
            let head = [("name", name.as_str()), ("platform", platform), ("manifest", &manifest)];
            table(&mut text, "image", &head, "layers", outcome.layers.iter().map(line));
        }
        text
    }

    /// The layer that an earlier build had under a key.
    pub fn layer(&self, key: &str) -> Option<&OutcomeLayer> {
        self.images.values().flat_map(|outcome| &outcome.layers).find(|layer| layer.key == key)
    }
}

impl PackageLine {
    fn of(package: &PinnedPackage) -> Self {
        Self {
            name: package.name.clone(),
            version: package.version.clone(),
            architecture: package.architecture.clone(),
            path: package.path.clone(),
            sha256: package.sha256.clone(),
            size: package.size,
        }
    }

    fn into_package(self) -> PinnedPackage {
        let Self { name, version, architecture, path, sha256, size } = self;
        // Which mirror it was found at does not matter: any that yields the hash will do.
        PinnedPackage { name, version, architecture, path, sha256, size, source: String::new() }
    }
}

fn table(
    text: &mut String,
    name: &str,
    head: &[(&str, &str)],
    list: &str,
    lines: impl Iterator<Item = String>,
) {
    text.push_str(&format!("\n[[{name}]]\n"));
    for (key, value) in head {
        text.push_str(&format!("{key} = {}\n", toml::Value::from(*value)));
    }
    text.push_str(&format!("{list} = [\n"));
    for line in lines {
        text.push_str(&format!("    {line},\n"));
    }
    text.push_str("]\n");
}

/// A value as an inline table on one line.
fn line<T: Serialize>(value: &T) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    inline(&value)
}

fn inline(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            // What a reader looks for comes first.
            let first = |key: &str| !["title", "name", "version", "file"].contains(&key);
            let mut fields: Vec<_> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
            fields.sort_by_key(|(key, _)| (first(key), key.as_str() == "version"));
            let fields: Vec<_> =
                fields.into_iter().map(|(key, value)| format!("{key} = {}", inline(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::String(text) => toml::Value::from(text.as_str()).to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> ImagesLock {
        let digest = Digest::of(b"x");
        let package = PinnedPackage {
            name: "libc6".into(),
            version: "2.36-9+deb12u1".into(),
            architecture: "amd64".into(),
            path: "pool/main/g/glibc/libc6_2.36-9_amd64.deb".into(),
            sha256: digest.hex(),
            size: 7,
            source: String::new(),
        };
        let artifact = Artifact {
            name: "a".into(),
            version: "1".into(),
            file: "a-1-py3-none-any.whl".into(),
            location: imgforge_resolver::Location::Url("https://example.org/a \"quoted\"".into()),
            sha256: digest.hex(),
            size: None,
        };
        let layer = OutcomeLayer {
            title: "numpy 2".into(),
            key: digest.hex(),
            digest,
            diff_id: DiffId(digest),
            size: 1 << 40,
        };
        ImagesLock {
            debian: [(
                ("b".to_owned(), Architecture::Amd64),
                DebianPins { request: "r".into(), packages: vec![package] },
            )]
            .into(),
            environments: [(
                ("e".to_owned(), "linux/amd64".to_owned()),
                EnvironmentPins { request: "r".into(), artifacts: vec![artifact] },
            )]
            .into(),
            images: [(
                ("i".to_owned(), "linux/amd64".to_owned()),
                Outcome { manifest: digest, layers: vec![layer] },
            )]
            .into(),
        }
    }

    #[test]
    fn text_and_back() {
        let lock = example();
        let text = lock.to_text();
        assert_eq!(ImagesLock::parse(&text).unwrap(), lock, "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("    {")).count(), 3);
        assert!(lock.layer(&Digest::of(b"x").hex()).is_some());
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert!(matches!(ImagesLock::parse("version = 2"), Err(ImagesLockError::Version { version: 2 })));
        assert!(ImagesLock::parse("version = 1\nother = 1").is_err());
        assert!(ImagesLock::parse("<<<<<<< HEAD").is_err());
    }
}
