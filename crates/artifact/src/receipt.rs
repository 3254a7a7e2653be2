//! What an artifact was made from, the key that follows from it, and why there is none for a key.
//!
//! The key is SHA-256 over canonical JSON of everything that decides the bytes: the format of this program's work, the
//! platform, the sources, the recipe, the declared axes, the variables of the build. Axes count by the digests of what is
//! behind them: `cuda` is not a label but certain packages, so that a label that is wrong, or the same for two things, can't
//! make two builds one. What a person calls things stands beside them in [`Inputs`] and does not count.
//!
//! A [`Receipt`] is kept with each result, here and in a shared cache. It has all inputs, so that [`why`] can say in words
//! what is another than last time, and so that somebody else's result is taken only when its inputs give the key that was
//! asked for.

mod why;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use imgforge_oci::{Digest, json};
use serde::{Deserialize, Serialize};

use crate::rewheel::Report;

pub use why::{Difference, Part, Why, why};

/// The format of what is made from a build's result; part of every key. Whoever changes the bytes that come out of the same
/// inputs (the driver's calls, its environment, how a wheel is made anew) raises it.
pub const BUILDER_FORMAT: u32 = 1;

/// Everything that an artifact is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Inputs {
    /// [`BUILDER_FORMAT`] of the program that asks.
    pub format: u32,
    /// What it is called. Does not count: a name in images.toml may change.
    pub name: String,
    /// The version, where there is one. Does not count: the source decides.
    pub version: Option<String>,
    /// `linux/amd64`.
    pub platform: String,
    /// What is compiled, by the name under which the build finds it: `sdist`, a file of `sources`, the project's files.
    pub sources: BTreeMap<String, Digest>,
    /// What is done, by name: the hook, the backend's settings, the script, what is collected.
    pub recipe: BTreeMap<String, String>,
    /// What, besides, makes it another artifact; in the order of their declaration, each name once.
    pub axes: Vec<Axis>,
    /// The recipe's own variables.
    pub build_env: BTreeMap<String, String>,
}

/// One of the declared axes, and what it came down to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Axis {
    /// As in images.toml: `cuda`, `torch`, `python`.
    pub name: String,
    /// For a person: `cu128`. Does not count.
    pub label: String,
    /// What it is: the packages of a toolkit, a wheel, an interpreter. Their order and their titles don't count.
    pub parts: Vec<Resolved>,
}

/// Something with a digest that stands behind an axis.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Resolved {
    /// For a person: `torch-2.9.0-cp311-cp311-manylinux_2_28_x86_64.whl`.
    pub title: String,
    /// Of the artifact, or of a text where there is no artifact.
    pub digest: Digest,
}

/// SHA-256 over the inputs that count; 64 hexadecimal digits as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ArtifactKey(pub Digest);

impl fmt::Display for ArtifactKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex())
    }
}

/// The key of an artifact from its inputs.
///
/// # Errors
/// [`ReceiptError::Axis`] when an axis is declared twice.
pub fn key(inputs: &Inputs) -> Result<ArtifactKey, ReceiptError> {
    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Counted<'a> {
        format: u32,
        platform: &'a str,
        sources: &'a BTreeMap<String, Digest>,
        recipe: &'a BTreeMap<String, String>,
        axes: BTreeMap<&'a str, BTreeSet<Digest>>,
        build_env: &'a BTreeMap<String, String>,
    }
    let mut axes = BTreeMap::new();
    for axis in &inputs.axes {
        let digests = axis.parts.iter().map(|part| part.digest).collect();
        if axes.insert(axis.name.as_str(), digests).is_some() {
            return Err(ReceiptError::Axis { name: axis.name.escape_debug().to_string() });
        }
    }
    let Inputs { format, platform, sources, recipe, build_env, .. } = inputs;
    let counted = Counted { format: *format, platform, sources, recipe, axes, build_env };
    Ok(ArtifactKey(Digest::of(&json::canonical(&counted)?)))
}

/// The key for a person: `flash-attn 2.8.3 · cu128 · torch 2.9.0 · cp311 · sm90`.
pub fn line(inputs: &Inputs) -> String {
    let name = match &inputs.version {
        Some(version) => format!("{} {version}", inputs.name),
        None => inputs.name.clone(),
    };
    let labels = inputs.axes.iter().map(|axis| axis.label.clone());
    std::iter::once(name).chain(labels).collect::<Vec<_>>().join(" · ")
}

/// How an artifact came about. Kept beside it as canonical JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Receipt {
    /// The version of this shape: 1.
    pub version: u32,
    /// The key of the inputs.
    pub key: ArtifactKey,
    /// The key for a person.
    pub line: String,
    /// Everything that it was made from.
    pub inputs: Inputs,
    /// What came out.
    pub result: Output,
    /// What the wheel's files need of the system; nothing for artifacts that are no wheel.
    pub report: Option<Report>,
    /// The digest of the build's log; the log itself is kept where the artifact was made.
    pub log: Option<Digest>,
    /// Milliseconds.
    pub duration: u64,
    /// Facts of the host that can't matter, and are the first thing to look at if they did: kernel, processor, user.
    pub host: BTreeMap<String, String>,
}

/// A file that came out of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Output {
    /// Its name.
    pub file: String,
    /// Of its bytes.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
}

/// Why a receipt can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// It is larger than any.
    #[error("a receipt of {len} bytes; at most {limit} are read")]
    TooLarge {
        /// Bytes.
        len: usize,
        /// Bytes.
        limit: usize,
    },
    /// It is no JSON, or not of this shape.
    #[error("the receipt does not read")]
    Json(#[source] serde_json::Error),
    /// It was written by another version.
    #[error("the receipt is of version {version}, this program reads {VERSION}")]
    Version {
        /// What it says.
        version: u32,
    },
    /// Its inputs give another key than it says.
    #[error("the receipt says key {said}, its inputs give {found}")]
    Key {
        /// What it says.
        said: ArtifactKey,
        /// What its inputs give.
        found: ArtifactKey,
    },
    /// The name of its file is a path, or no name.
    #[error("the receipt's file is called `{file}`, which is no file name")]
    File {
        /// The name, escaped.
        file: String,
    },
    /// An axis twice.
    #[error("the axis `{name}` is there twice")]
    Axis {
        /// Its name, escaped.
        name: String,
    },
    /// It can't be written as JSON.
    #[error(transparent)]
    Canonical(#[from] imgforge_oci::Error),
}

const VERSION: u32 = 1;

impl Receipt {
    /// A receipt of what was made of these inputs; what else is known of it is the caller's to add.
    ///
    /// # Errors
    /// As for [`key`].
    pub fn new(inputs: Inputs, result: Output) -> Result<Self, ReceiptError> {
        Ok(Self {
            version: VERSION,
            key: key(&inputs)?,
            line: line(&inputs),
            inputs,
            result,
            report: None,
            log: None,
            duration: 0,
            host: BTreeMap::new(),
        })
    }

    /// Its canonical JSON.
    ///
    /// # Errors
    /// [`ReceiptError::Canonical`].
    pub fn to_json(&self) -> Result<Vec<u8>, ReceiptError> {
        Ok(json::canonical(self)?)
    }

    /// Reads a receipt, which may be anybody's, and checks that its key is that of its inputs.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptError> {
        const LIMIT: usize = 64 << 20;
        if bytes.len() > LIMIT {
            return Err(ReceiptError::TooLarge { len: bytes.len(), limit: LIMIT });
        }
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(bytes).map_err(ReceiptError::Json)?;
        if version != VERSION {
            return Err(ReceiptError::Version { version });
        }
        let receipt: Self = serde_json::from_slice(bytes).map_err(ReceiptError::Json)?;
        let found = key(&receipt.inputs)?;
        if found != receipt.key {
            return Err(ReceiptError::Key { said: receipt.key, found });
        }
        let file = &receipt.result.file;
        if file.is_empty()
            || file == "."
            || file == ".."
            || file.contains('/')
            || file.contains(char::is_control)
        {
            return Err(ReceiptError::File { file: file.escape_debug().to_string() });
        }
        Ok(receipt)
    }
}

#[cfg(test)]
mod tests;
