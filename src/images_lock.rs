//! `images.lock`: what images.toml leaves open, pinned, and what came out.
//!
//! Written for review: everything is sorted, and each package and each layer is one line. The file has four kinds of
//! tables:
//!
//! - `[[base]]`: the image that a base stands for, for a platform;
//! - `[[debian]]`: the packages of a base, for an architecture;
//! - `[[environment]]`: the wheels of a lock that says only their hashes (`requirements.txt`), the conda packages that an
//!   `environment.yml` came to, or those that a lock has only the MD5 of;
//! - `[[image]]`: the manifest digest and the layers of an image that was built, for a platform.
//!
//! The second and the third have a `request`, a hash of what they were made from: when that changes they are out of date.

mod check;
mod write;

use std::collections::BTreeMap;

use imgforge_oci::{DiffId, Digest, Platform};
use imgforge_resolver::debian::PinnedPackage;
use imgforge_resolver::{Architecture, Artifact, CondaNoarch, CondaPackage, CondaPython, Location};
use serde::{Deserialize, Serialize};

use crate::facts::Facts;
use write::{base_table, head_of, inline, line, list, table};

/// The content of an `images.lock`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagesLock {
    /// Pinned images by base and platform.
    pub bases: BTreeMap<(String, String), BasePins>,
    /// Pinned packages by base and architecture.
    pub debian: BTreeMap<(String, Architecture), DebianPins>,
    /// Pinned wheels by environment, platform and base. One environment may be installed on several bases.
    pub environments: BTreeMap<(String, String), EnvironmentPins>,
    /// What came out of building artifacts, by key.
    pub artifacts: BTreeMap<String, BuiltArtifact>,
    /// Outcomes by image and platform.
    pub images: BTreeMap<(String, String), Outcome>,
}

/// The image of a base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasePins {
    /// Where it comes from, as images.toml has it: the pins of another text are out of date.
    pub image: String,
    /// What that stood for: an index or a manifest.
    pub digest: Digest,
    /// The manifest of the image for the platform.
    pub manifest: PinnedManifest,
    /// What is known of its layers, if that was asked for.
    pub facts: Option<Facts>,
}

/// What names a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PinnedManifest {
    /// Of its bytes.
    pub digest: Digest,
    /// OCI's or Docker's.
    pub media_type: String,
    /// Bytes.
    pub size: u64,
}

/// The packages of a base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebianPins {
    /// SHA-256 of what the base's table asks for.
    pub request: String,
    /// By name.
    pub packages: Vec<PinnedPackage>,
}

/// The packages of an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvironmentPins {
    /// SHA-256 of the lock's text and the target.
    pub request: String,
    /// The Python of an `environment.yml`.
    pub python: Option<CondaPython>,
    /// Wheels, by name.
    pub artifacts: Vec<Artifact>,
    /// Conda packages, in the order in which they are linked. They have their SHA-256 and no record.
    pub packages: Vec<CondaPackage>,
}

/// What came out of building an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BuiltArtifact {
    /// Its name in images.toml.
    pub name: String,
    /// Its key for a reader: `flash-attn 2.8.3 · cu128 · torch 2.9.0 · cp311`.
    pub title: String,
    /// The key that it was built under.
    pub key: String,
    /// The file that came out.
    pub file: String,
    /// Of its bytes: 64 hexadecimal digits.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
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
    /// Its media type, where that does not follow from the plan: of a layer that settles disputes between packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
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
    /// A value that imgforge never writes; names and paths become names of files, so none is taken on trust.
    #[error("images.lock, [[{table}]] {name}, {entry}: {key} = {value:?} is not {expected}")]
    Value {
        /// `base`, `debian`, `environment` or `image`.
        table: &'static str,
        /// The base, the environment or the image.
        name: String,
        /// The package or layer.
        entry: String,
        /// The value's key.
        key: &'static str,
        /// As it is written.
        value: String,
        /// What imgforge writes.
        expected: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    base: Vec<BaseTable>,
    #[serde(default)]
    debian: Vec<DebianTable>,
    #[serde(default)]
    environment: Vec<EnvironmentTable>,
    #[serde(default)]
    artifact: Vec<BuiltArtifact>,
    #[serde(default)]
    image: Vec<ImageTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BaseTable {
    name: String,
    platform: Platform,
    image: String,
    digest: Digest,
    manifest: PinnedManifest,
    facts: Option<Facts>,
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
    python: Option<CondaPython>,
    #[serde(default)]
    artifacts: Vec<Artifact>,
    #[serde(default)]
    packages: Vec<CondaLine>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CondaLine {
    name: String,
    version: String,
    build: String,
    subdir: String,
    file: String,
    location: Location,
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    md5: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "is_platform_specific")]
    noarch: CondaNoarch,
}

fn is_platform_specific(noarch: &CondaNoarch) -> bool {
    *noarch == CondaNoarch::No
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
        file.check()?;
        let bases = file.base.into_iter().map(|table| {
            let BaseTable { name, platform, image, digest, manifest, facts } = table;
            ((name, platform.to_string()), BasePins { image, digest, manifest, facts })
        });
        let debian = file.debian.into_iter().map(|table| {
            let packages = table.packages.into_iter().map(PackageLine::into_package).collect();
            ((table.base, table.architecture), DebianPins { request: table.request, packages })
        });
        let environments = file.environment.into_iter().map(|table| {
            let pins = EnvironmentPins {
                request: table.request,
                python: table.python,
                artifacts: table.artifacts,
                packages: table.packages.into_iter().map(CondaLine::into_package).collect(),
            };
            ((table.environment, table.target), pins)
        });
        let images = file.image.into_iter().map(|table| {
            let outcome = Outcome { manifest: table.manifest, layers: table.layers };
            ((table.name, table.platform.to_string()), outcome)
        });
        Ok(Self {
            bases: bases.collect(),
            debian: debian.collect(),
            environments: environments.collect(),
            artifacts: file.artifact.into_iter().map(|it| (it.key.clone(), it)).collect(),
            images: images.collect(),
        })
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text =
            "# Written by `imgforge lock` and `imgforge build`; not for editing by hand.\nversion = 1\n"
                .to_owned();
        for ((name, platform), pins) in &self.bases {
            base_table(&mut text, name, platform, pins);
        }
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
            text.push_str(&head_of("environment", &head));
            if let Some(python) = &pins.python {
                text.push_str(&format!("python = {}\n", line(python)));
            }
            if !pins.artifacts.is_empty() || pins.packages.is_empty() {
                list(&mut text, "artifacts", pins.artifacts.iter().map(line));
            }
            if !pins.packages.is_empty() {
                list(
                    &mut text,
                    "packages",
                    pins.packages.iter().map(|package| line(&CondaLine::of(package))),
                );
            }
        }
        let mut artifacts: Vec<&BuiltArtifact> = self.artifacts.values().collect();
        artifacts.sort_by_key(|artifact| (&artifact.name, &artifact.key));
        for artifact in artifacts {
            text.push_str("\n[[artifact]]\n");
            let value = serde_json::to_value(artifact).unwrap_or_default();
            for key in ["name", "title", "key", "file", "sha256", "size"] {
                text.push_str(&format!("{key} = {}\n", inline(&value[key])));
            }
        }
        for ((name, platform), outcome) in &self.images {
            let manifest = outcome.manifest.to_string();
            let head = [("name", name.as_str()), ("platform", platform), ("manifest", &manifest)];
            table(&mut text, "image", &head, "layers", outcome.layers.iter().map(line));
        }
        text
    }

    /// Whether another lock pins the same.
    pub fn has_same_pins(&self, other: &Self) -> bool {
        (&self.bases, &self.debian, &self.environments) == (&other.bases, &other.debian, &other.environments)
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

impl CondaLine {
    fn of(package: &CondaPackage) -> Self {
        let CondaPackage { name, version, build, subdir, file, location, .. } = package.clone();
        let sha256 = package.sha256.clone().unwrap_or_default();
        let (md5, size, noarch) = (package.md5.clone(), package.size, package.noarch);
        Self { name, version, build, subdir, file, location, sha256, md5, size, noarch }
    }

    fn into_package(self) -> CondaPackage {
        let Self { name, version, build, subdir, file, location, sha256, md5, size, noarch } = self;
        let sha256 = Some(sha256);
        CondaPackage { name, version, build, subdir, file, location, sha256, md5, size, noarch, record: None }
    }
}

#[cfg(test)]
mod tests;
