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

use std::collections::BTreeMap;
use std::path::Component;

use imgforge_oci::{DiffId, Digest, Kind, MediaType, Platform, kind};
use imgforge_resolver::debian::PinnedPackage;
use imgforge_resolver::{Architecture, Artifact, CondaNoarch, CondaPackage, CondaPython, Location};
use serde::{Deserialize, Serialize};

use crate::facts::Facts;

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

impl File {
    fn check(&self) -> Result<(), ImagesLockError> {
        for table in &self.base {
            let at = Place { table: "base", name: &table.name, entry: &table.image };
            at.expect("image", &table.image, "text without control characters", is_text)?;
            let media_type = &table.manifest.media_type;
            let is_manifest = |text: &str| kind(&MediaType::from(text)) == Kind::Manifest;
            at.expect("media-type", media_type, "a manifest's media type", is_manifest)?;
            for interpreter in table.facts.iter().flat_map(|facts| &facts.interpreters) {
                let is_path = |path: &str| is_text(path) && path.starts_with('/');
                at.expect("path", &interpreter.path, "an absolute path", is_path)?;
                at.word("version", &interpreter.version)?;
            }
        }
        for table in &self.debian {
            for package in &table.packages {
                let at = Place { table: "debian", name: &table.base, entry: &package.name };
                at.word("name", &package.name)?;
                at.word("version", &package.version)?;
                at.word("architecture", &package.architecture)?;
                at.sha256("sha256", &package.sha256)?;
                at.expect("path", &package.path, "a path below the mirror, without `..`", is_below)?;
            }
        }
        for table in &self.environment {
            for artifact in &table.artifacts {
                let at = Place { table: "environment", name: &table.environment, entry: &artifact.name };
                at.word("name", &artifact.name)?;
                at.word("version", &artifact.version)?;
                at.expect("file", &artifact.file, "a file's name without folders", is_word)?;
                at.sha256("sha256", &artifact.sha256)?;
                at.location(&artifact.location)?;
            }
            for package in &table.packages {
                let at = Place { table: "environment", name: &table.environment, entry: &package.name };
                for (key, value) in
                    [("name", &package.name), ("version", &package.version), ("subdir", &package.subdir)]
                {
                    at.word(key, value)?;
                }
                at.expect("file", &package.file, "a file's name without folders", is_word)?;
                at.sha256("sha256", &package.sha256)?;
                at.location(&package.location)?;
            }
            if let Some(python) = &table.python {
                let at = Place { table: "environment", name: &table.environment, entry: "python" };
                at.word("version", &python.version)?;
                let expected = "a path below the prefix, without `..`";
                at.expect("site-packages", &python.site_packages, expected, is_below)?;
            }
        }
        for artifact in &self.artifact {
            let at = Place { table: "artifact", name: &artifact.name, entry: &artifact.title };
            at.expect("title", &artifact.title, "text without control characters", is_text)?;
            at.sha256("key", &artifact.key)?;
            at.sha256("sha256", &artifact.sha256)?;
            at.expect("file", &artifact.file, "a file's name without folders", is_word)?;
        }
        for table in &self.image {
            for layer in &table.layers {
                let at = Place { table: "image", name: &table.name, entry: &layer.title };
                at.expect("title", &layer.title, "text without control characters", is_text)?;
                at.sha256("key", &layer.key)?;
                if let Some(media_type) = &layer.media_type {
                    let is_layer = |text: &str| matches!(kind(&MediaType::from(text)), Kind::Layer(_));
                    at.expect("media-type", media_type, "a layer's media type", is_layer)?;
                }
            }
        }
        Ok(())
    }
}

/// Where a value stands.
struct Place<'a> {
    table: &'static str,
    name: &'a str,
    entry: &'a str,
}

impl Place<'_> {
    fn expect(
        &self,
        key: &'static str,
        value: &str,
        expected: &'static str,
        is_good: impl Fn(&str) -> bool,
    ) -> Result<(), ImagesLockError> {
        if is_good(value) {
            return Ok(());
        }
        // What is refused may be there to be printed.
        let plain = |text: &str| text.escape_debug().to_string();
        Err(ImagesLockError::Value {
            table: self.table,
            name: plain(self.name),
            entry: plain(self.entry),
            key,
            value: value.to_owned(),
            expected,
        })
    }

    fn location(&self, location: &Location) -> Result<(), ImagesLockError> {
        match location {
            Location::Url(url) => self.expect("url", url, "an http or https URL", is_url),
            Location::Path(path) => {
                let expected = "a path relative to images.toml";
                self.expect("path", &path.to_string_lossy(), expected, is_relative)
            }
        }
    }

    fn word(&self, key: &'static str, value: &str) -> Result<(), ImagesLockError> {
        self.expect(key, value, "one word without `/`", is_word)
    }

    fn sha256(&self, key: &'static str, value: &str) -> Result<(), ImagesLockError> {
        self.expect(key, value, "64 lower-case hexadecimal digits", is_sha256)
    }
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

/// What can be one component of a path and one word of a control file.
fn is_word(text: &str) -> bool {
    is_text(text)
        && !text.starts_with('.')
        && !text.contains(|char: char| char == '/' || char.is_whitespace())
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_below(path: &str) -> bool {
    is_text(path) && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn is_url(url: &str) -> bool {
    is_text(url) && (url.starts_with("https://") || url.starts_with("http://"))
}

fn is_relative(path: &str) -> bool {
    let root = |component: Component<'_>| matches!(component, Component::RootDir | Component::Prefix(_));
    is_text(path) && !std::path::Path::new(path).components().any(root)
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

fn table(
    text: &mut String,
    name: &str,
    head: &[(&str, &str)],
    name_of_list: &str,
    lines: impl Iterator<Item = String>,
) {
    text.push_str(&head_of(name, head));
    list(text, name_of_list, lines);
}

fn head_of(name: &str, head: &[(&str, &str)]) -> String {
    let keys = head.iter().map(|(key, value)| format!("{key} = {}\n", toml::Value::from(*value)));
    format!("\n[[{name}]]\n{}", keys.collect::<String>())
}

fn list(text: &mut String, name: &str, lines: impl Iterator<Item = String>) {
    text.push_str(&format!("{name} = [\n"));
    for line in lines {
        text.push_str(&format!("    {line},\n"));
    }
    text.push_str("]\n");
}

fn base_table(text: &mut String, name: &str, platform: &str, pins: &BasePins) {
    text.push_str("\n[[base]]\n");
    let digest = pins.digest.to_string();
    for (key, value) in [("name", name), ("platform", platform), ("image", &pins.image), ("digest", &digest)]
    {
        text.push_str(&format!("{key} = {}\n", toml::Value::from(value)));
    }
    text.push_str(&format!("manifest = {}\n", line(&pins.manifest)));
    let Some(facts) = &pins.facts else { return };
    text.push_str("\n[base.facts]\n");
    let facts = serde_json::to_value(facts).unwrap_or_default();
    let facts: BTreeMap<_, _> = facts.as_object().into_iter().flatten().collect();
    for (key, value) in facts {
        text.push_str(&format!("{key} = {}\n", inline(value)));
    }
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
            // By name then: a map's own order depends on how serde_json was compiled.
            fields.sort_by_key(|(key, _)| (first(key), key.as_str() == "version", key.as_str()));
            let fields: Vec<_> =
                fields.into_iter().map(|(key, value)| format!("{} = {}", bare(key), inline(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(values) => {
            format!("[{}]", values.iter().map(inline).collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => toml::Value::from(text.as_str()).to_string(),
        other => other.to_string(),
    }
}

/// A key, quoted where TOML wants that.
fn bare(key: &str) -> String {
    let is_bare = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
    if !key.is_empty() && key.chars().all(is_bare) {
        key.to_owned()
    } else {
        toml::Value::from(key).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Interpreter, Libc};

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
        let python =
            CondaPython { version: "3.11.2".into(), site_packages: "lib/python3.11/site-packages".into() };
        let conda = CondaPackage {
            name: "idna".into(),
            version: "3.20".into(),
            build: "py_0".into(),
            subdir: "noarch".into(),
            file: "idna-3.20-py_0.conda".into(),
            location: imgforge_resolver::Location::Path("../channel/idna-3.20-py_0.conda".into()),
            sha256: Some(Digest::of(b"idna").hex()),
            md5: None,
            size: Some(7),
            noarch: CondaNoarch::Python,
            record: None,
        };
        let layer = OutcomeLayer {
            title: "numpy 2".into(),
            key: digest.hex(),
            digest,
            diff_id: DiffId(digest),
            size: 1 << 40,
            media_type: Some("application/vnd.oci.image.layer.v1.tar+zstd".into()),
        };
        let facts = Facts {
            interpreters: vec![Interpreter { path: "/usr/bin/python3.11".into(), version: "3.11.2".into() }],
            libc: Some(Libc::Glibc("2.36".into())),
            links: [("bin".to_owned(), "usr/bin".to_owned()), ("a b".to_owned(), "c\"d".to_owned())].into(),
            passwd: Some("root:x:0:0:root:/root:/bin/sh\nnobody:x:1:1::/:/bin/sh\n".into()),
            group: None,
        };
        let pins = BasePins {
            image: "docker://registry.example.org/base:1".into(),
            digest,
            manifest: PinnedManifest {
                digest,
                media_type: "application/vnd.oci.image.manifest.v1+json".into(),
                size: 9,
            },
            facts: Some(facts),
        };
        ImagesLock {
            bases: [
                (("c".to_owned(), "linux/amd64".to_owned()), pins.clone()),
                (("d".to_owned(), "linux/amd64".to_owned()), BasePins { facts: None, ..pins }),
            ]
            .into(),
            debian: [(
                ("b".to_owned(), Architecture::Amd64),
                DebianPins { request: "r".into(), packages: vec![package] },
            )]
            .into(),
            environments: [(
                ("e".to_owned(), "linux/amd64".to_owned()),
                EnvironmentPins {
                    request: "r".into(),
                    python: Some(python),
                    artifacts: vec![artifact],
                    packages: vec![conda],
                },
            )]
            .into(),
            artifacts: [BuiltArtifact {
                name: "x".into(),
                title: "x 1 · cp311".into(),
                key: Digest::of(b"key").hex(),
                file: "x-1-cp311-cp311-linux_x86_64.whl".into(),
                sha256: digest.hex(),
                size: 7,
            }]
            .map(|it| (it.key.clone(), it))
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
        assert_eq!(text.lines().filter(|line| line.starts_with("    {")).count(), 4);
        assert!(lock.layer(&Digest::of(b"x").hex()).is_some());
    }

    /// Reads the example with `from` replaced.
    #[track_caller]
    fn check(from: &str, to: &str, expected: &str) {
        let text = example().to_text();
        assert!(text.contains(from), "{from} is not in {text}");
        let said = ImagesLock::parse(&text.replace(from, to)).err().map(|error| error.to_string());
        assert_eq!(said.unwrap_or_default(), expected);
    }

    #[test]
    fn refuses_what_it_never_writes() {
        let hex = Digest::of(b"x").hex();
        let debian = "images.lock, [[debian]] b, libc6:";
        check(
            "vnd.oci.image.manifest.v1+json",
            "vnd.oci.image.layer.v1.tar",
            "images.lock, [[base]] c, docker://registry.example.org/base:1: media-type = \
             \"application/vnd.oci.image.layer.v1.tar\" is not a manifest's media type",
        );
        let wheel = "images.lock, [[environment]] e, a:";
        let below = "is not a path below the mirror, without `..`";
        check(
            "pool/main",
            "../main",
            &format!("{debian} path = \"../main/g/glibc/libc6_2.36-9_amd64.deb\" {below}"),
        );
        check(
            "pool/main",
            "/main",
            &format!("{debian} path = \"/main/g/glibc/libc6_2.36-9_amd64.deb\" {below}"),
        );
        check("2.36-9+deb12u1", "2/3", &format!("{debian} version = \"2/3\" is not one word without `/`"));
        check(
            "name = \"libc6\"",
            "name = \"li\\u001bbc\"",
            "images.lock, [[debian]] b, li\\u{1b}bc: name = \"li\\u{1b}bc\" is not one word without `/`",
        );
        check(
            &format!("sha256 = \"{hex}\""),
            &format!("sha256 = \"{}\"", hex.to_uppercase()),
            &format!("{debian} sha256 = {:?} is not 64 lower-case hexadecimal digits", hex.to_uppercase()),
        );
        let file = "is not a file's name without folders";
        check("a-1-py3-none-any.whl", "../a.whl", &format!("{wheel} file = \"../a.whl\" {file}"));
        check("a-1-py3-none-any.whl", ".a.whl", &format!("{wheel} file = \".a.whl\" {file}"));
        check("a-1-py3-none-any.whl", "a\\u0000.whl", &format!("{wheel} file = \"a\\0.whl\" {file}"));
        check(
            "https://example.org",
            "ftp://example.org",
            &format!("{wheel} url = \"ftp://example.org/a \\\"quoted\\\"\" is not an http or https URL"),
        );
        check(
            "url = 'https://example.org/a \"quoted\"'",
            "path = '/wheels/a.whl'",
            &format!("{wheel} path = \"/wheels/a.whl\" is not a path relative to images.toml"),
        );
        check("url = 'https://example.org/a \"quoted\"'", "path = '../wheels/a.whl'", "");
        check(
            "title = \"numpy 2\"",
            "title = \"\\u001b[2J\"",
            "images.lock, [[image]] i, \\u{1b}[2J: title = \"\\u{1b}[2J\" is not text without control characters",
        );
        check(
            &format!("key = \"{hex}\""),
            "key = \"../x\"",
            "images.lock, [[image]] i, numpy 2: key = \"../x\" is not 64 lower-case hexadecimal digits",
        );
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert!(matches!(ImagesLock::parse("version = 2"), Err(ImagesLockError::Version { version: 2 })));
        assert!(ImagesLock::parse("version = 1\nother = 1").is_err());
        assert!(ImagesLock::parse("<<<<<<< HEAD").is_err());
    }
}
