//! What is in an image: packages, interpreters, the C library, users, and the links among the top folders.
//!
//! Two steps, so that the costly one is done once for a layer, whatever images it is in. [`LayerSurvey::read`] is a
//! function of a layer's bytes alone: it reads the tar as a stream, with the digests computed in the same pass, and
//! keeps a few kilobytes. [`Survey::of`] is a pure fold over the surveys of an image's layers, bottom to top, with what
//! upper layers take away: whiteouts, and files that stand where folders were. [`of_image`] joins them, and records each
//! layer's survey in the store by the layer's digest.
//!
//! What is recognised is what package managers leave behind them: dpkg's and apk's databases, conda's `conda-meta`, and
//! the metadata of Python distributions in `site-packages` and `dist-packages` (not in caches, vendored copies and
//! `--target` folders). Not recognised is rpm, whose database is a binary one that differs between its versions: of such
//! an image the Python packages, the interpreters and the C library are known, the system's packages are not.
//!
//! The layers are other people's. What breaks the format of a tar or a limit is an error that names the layer; text of
//! a database that can't be understood is no package, as it would be none to its own package manager.

mod claim;
mod fold;
mod layer;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use imgforge_oci::{Digest, Image, Layer};
use imgforge_store::{Store, StoreError};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use claim::{Distribution, PACKAGES_ANNOTATION, claim, claimed};
pub use layer::{Found, LayerSurvey, Listed};

/// The version of what the store keeps of a layer; raised when a survey of the same bytes comes out otherwise.
const FORMAT: u32 = 1;

/// What is in an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// All packages, sorted by kind, prefix and name.
    pub packages: Vec<Package>,
    /// CPython's programs, by path.
    pub interpreters: Vec<Interpreter>,
    /// What programs are linked with.
    pub libc: Option<Libc>,
    /// Symbolic links in the root folder, as they are written: `bin` → `usr/bin`.
    pub links: BTreeMap<String, String>,
    /// The text of `/etc/passwd`.
    pub passwd: Option<String>,
    /// The text of `/etc/group`.
    pub group: Option<String>,
}

/// A package in an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Who installed it.
    pub kind: PackageKind,
    /// Where: `/` for the system's packages, else an environment's folder, as `/opt/venv`.
    pub prefix: String,
    /// Its name: a Python distribution's normalised, a Debian package's with `:ARCHITECTURE` where that is not the
    /// system's.
    pub name: String,
    /// Its version; conda's with the build, `1.26.4=py311h0_0`.
    pub version: String,
    /// Whether a package of another kind brought it, as `python3-numpy` brings NumPy; it is listed there too then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_part: bool,
    /// The layer that it came with in this version, counted from the bottom, from zero.
    pub layer: usize,
}

/// Who installs packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageKind {
    /// dpkg.
    Deb,
    /// Alpine's apk.
    Apk,
    /// conda and its likes.
    Conda,
    /// pip, uv and other installers of Python distributions.
    Pypi,
}

impl fmt::Display for PackageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deb => "deb",
            Self::Apk => "apk",
            Self::Conda => "conda",
            Self::Pypi => "pypi",
        })
    }
}

/// A CPython.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Interpreter {
    /// The program, absolute: `/usr/bin/python3.11`.
    pub path: String,
    /// Its version as far as it is known: `3.11.2`, `3.11`.
    pub version: String,
    /// Links that lead to it, absolute and sorted: `/opt/venv/bin/python3`, `/usr/bin/python3`.
    pub links: Vec<String>,
}

/// A C library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Libc {
    /// Which one.
    pub family: LibcFamily,
    /// Its version, where it can be told: `2.36`.
    pub version: Option<String>,
}

/// Which C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LibcFamily {
    /// GNU's.
    Glibc,
    /// musl.
    Musl,
}

impl Survey {
    /// Puts together what is left of layers that lie on each other, bottom to top.
    pub fn of(layers: &[LayerSurvey]) -> Self {
        fold::fold(layers)
    }
}

/// Why a layer can't be surveyed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SurveyError {
    /// Its bytes are not what they should be.
    #[error("layer {layer}")]
    Layer {
        /// Its digest and what its history says.
        layer: String,
        /// What is wrong.
        #[source]
        source: Box<imgforge_oci::Error>,
    },
    /// Something in it is larger than any honest one.
    #[error("layer {layer}: {path} has more than {limit}")]
    TooLarge {
        /// Its digest and what its history says.
        layer: String,
        /// The file.
        path: String,
        /// Bytes or entries at most.
        limit: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Gives a layer's stored bytes.
pub type Open<'a, E> = dyn Fn(&Layer) -> Result<Box<dyn Read + Send>, E> + Sync + 'a;

/// Surveys an image. Layers that were surveyed before are not opened; of the others, `open` gives the stored bytes.
///
/// # Errors
/// What is wrong with the lowest layer that can't be read; an error of `open`.
pub fn of_image<E: From<SurveyError> + Send>(
    image: &Image,
    store: &Store,
    open: &Open<'_, E>,
) -> Result<Survey, E> {
    let surveys = image.layers().par_iter().map(|layer| of_layer(layer, store, open));
    // Collected before the first error is looked for, so that the same one is told each time.
    let surveys = surveys.collect::<Vec<_>>().into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(Survey::of(&surveys))
}

/// Surveys a layer, unless that was done before; if not, `open` gives the stored bytes.
///
/// # Errors
/// What is wrong with the layer; an error of `open`.
pub fn of_layer<E: From<SurveyError>>(
    layer: &Layer,
    store: &Store,
    open: &Open<'_, E>,
) -> Result<LayerSurvey, E> {
    let (bucket, key) = (format!("surveys/{FORMAT}"), layer.digest.hex());
    let known: Option<LayerSurvey> = store.record(&bucket, &key).map_err(SurveyError::from)?;
    if let Some(known) = known {
        // The record is of the bytes; what this image says of them may still be wrong.
        return Ok(known.checked(layer)?);
    }
    let survey = LayerSurvey::read(layer, open(layer)?)?;
    store.put_record(&bucket, &key, &survey, &[]).map_err(SurveyError::from)?;
    Ok(survey)
}

/// What messages call a layer: its digest and where it comes from.
fn name(layer: &Layer) -> String {
    let Layer { digest, history, .. } = layer;
    let text: String = history.chars().take(60).flat_map(char::escape_debug).collect();
    if text.is_empty() { Digest::to_string(digest) } else { format!("{digest} ({text})") }
}
