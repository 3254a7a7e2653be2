//! `images.toml`: what the user wants.
//!
//! This module turns the file's text into a checked [`Config`]: every name that is used is defined, `extends` is
//! resolved, and what can't be meant is refused with the place in the file. It reads no other file and decides nothing
//! that a lock or a base would have to be looked at for.

mod artifact;
mod check;
mod environment;
mod extend;
mod image;
mod limits;
mod links;
mod matrix;

use std::collections::BTreeMap;
use std::path::PathBuf;

use imgforge_oci::Platform;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::transport::Transport;

pub use artifact::{Artifact, Folder, Source, SourceFile};
pub use check::ConfigError;
pub use environment::{Environment, LinkScripts, OnConflict};
pub use image::{FileSpec, Image, User};
pub use limits::{Limits, Size, Time};
pub use links::{Links, resolve};
pub use matrix::Values;

/// A checked `images.toml`.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[settings]`.
    pub settings: Settings,
    /// `[base.NAME]`.
    pub bases: BTreeMap<String, Base>,
    /// `[env.NAME]`.
    pub environments: BTreeMap<String, Environment>,
    /// `[artifact.NAME]`.
    pub artifacts: BTreeMap<String, Artifact>,
    /// `[image.NAME]`, with `extends` resolved; by `NAME[axis=value,…]` where the matrix has several of one name.
    pub images: BTreeMap<String, Image>,
}

impl Config {
    /// Reads and checks the text of an `images.toml`.
    ///
    /// # Errors
    /// [`ConfigError`], with the line where the file can't be read, or the table where it can't be meant.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        check::parse(text)
    }

    /// The JSON schema of the file, for editors.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(File).to_value()
    }
}

/// A file as it is written: `images.toml`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "images.toml")]
pub(crate) struct File {
    /// The version of this format: 1.
    version: u32,
    /// What holds for all images.
    #[serde(default)]
    settings: Settings,
    /// Axes of values that tables are repeated for: `{python}` in a table stands for a value of `python`.
    #[serde(default)]
    matrix: Option<MatrixTable>,
    /// Root filesystems that images start from.
    #[serde(default)]
    base: BTreeMap<String, BaseTable>,
    /// Locked environments.
    #[serde(default)]
    env: BTreeMap<String, Environment>,
    /// What is built once, in a sandbox.
    #[serde(default)]
    artifact: BTreeMap<String, artifact::ArtifactTable>,
    /// Images.
    #[serde(default)]
    image: BTreeMap<String, image::ImageTable>,
}

/// Axes, and which of their combinations there are.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct MatrixTable {
    /// Combinations that there are none of; a table with some of the axes stands for all that have its values.
    #[serde(default, rename = "exclude")]
    _exclude: Vec<BTreeMap<String, String>>,
    /// Combinations that there are besides, with a value for each axis.
    #[serde(default, rename = "include")]
    _include: Vec<BTreeMap<String, String>>,
    /// An axis: `python = ["3.11", "3.12"]`.
    #[serde(flatten)]
    _axes: BTreeMap<String, Vec<String>>,
}

/// For which values of the matrix a table is there: `{ cuda = "13.0", python = ["3.11", "3.12"] }`.
pub(crate) type When = BTreeMap<String, OneOrMany>;

/// What holds for all images.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// What to build for: `linux/amd64`, `linux/arm64`. Default: the host's.
    #[schemars(with = "Vec<String>")]
    pub platforms: Vec<Platform>,
    /// Modification time of every file and the image's `created`, in seconds since 1970.
    pub source_date_epoch: u64,
    /// Layers at most per image, the base's included; leaves room for layers that somebody adds on top.
    pub layer_budget: usize,
    /// Bytes at most that a layer has, compressed, in MiB: an artifact that would be larger is split by file. Default: 4096,
    /// above which registries refuse blobs.
    pub layer_cap: u64,
    /// How layers are compressed.
    pub compression: Compression,
    /// The folder with artifacts that need not be fetched, relative to images.toml.
    pub vendor: PathBuf,
    /// Where artifacts are looked for before the place that their lock names: a URL to which the file name is appended,
    /// or one with `{sha256}`, `{file}` or `{name}` in it.
    pub mirrors: Vec<String>,
    /// Package indexes for `requirements.txt` and `poetry.lock`, which have no URLs. The first stands in for PyPI, which is
    /// the default; the others are asked before it.
    pub indexes: Vec<String>,
    /// A repository with layers that others have made, and for those that are made here: `docker://HOST/NAME`.
    pub cache: Option<String>,
    /// Registries that are spoken to without TLS: `HOST` or `HOST:PORT`. Those of this machine always may be.
    pub plain_http: Vec<String>,
    /// Where what runs in the sandbox is stopped: builds, packages' own scripts, smoke commands.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            platforms: Vec::new(),
            source_date_epoch: 0,
            layer_budget: 80,
            layer_cap: 4096,
            compression: Compression::default(),
            vendor: "vendor".into(),
            mirrors: Vec::new(),
            indexes: Vec::new(),
            cache: None,
            plain_http: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// How layers are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Wheels keep their own DEFLATE streams (gzip); everything else is zstd.
    #[default]
    Auto,
    /// gzip throughout, for readers that know no zstd; wheels keep their own streams.
    Gzip,
    /// zstd throughout.
    Zstd,
    /// No compression.
    None,
}

/// A root filesystem as it is written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct BaseTable {
    /// The base whose table this one adds to: its values are taken over unless set here, its lists come first.
    extends: Option<String>,
    /// Debian's suite: `bookworm`.
    debian: Option<String>,
    /// Debian packages; what they depend on comes with them.
    packages: Vec<String>,
    /// Archive mirrors: `URL` or `URL SUITE…`. Default: the host's apt configuration.
    mirror: OneOrMany,
    /// A date such as `20250520T000000Z`, put in the place of `{snapshot}` in `mirror`.
    snapshot: Option<String>,
    /// Archive components. Default: `main`.
    components: Vec<String>,
    /// OpenPGP keyring that the archive's signatures are verified with. Default: the host's.
    keyring: Option<PathBuf>,
    /// Run the packages' maintainer scripts in the sandbox, as one further layer: certificates' bundle, alternatives such as
    /// `cc`, the linker's cache. Debian's essential packages come too, since scripts may count on them. Default: no.
    configure: bool,
    /// An image: `docker://HOST/NAME:TAG`, `docker://HOST/NAME@sha256:…`, `oci:DIR:REF`, `oci-archive:FILE:REF` or
    /// `docker-archive:FILE:NAME:TAG`. Paths are relative to images.toml.
    image: Option<String>,
    /// Nothing at all.
    scratch: bool,
    /// For which values of the matrix it is there.
    when: When,
}

/// A string or several.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(from = "OneOrManyForm")]
#[schemars(with = "OneOrManyForm")]
pub(crate) struct OneOrMany(Vec<String>);

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum OneOrManyForm {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrManyForm> for OneOrMany {
    fn from(form: OneOrManyForm) -> Self {
        Self(match form {
            OneOrManyForm::One(text) => vec![text],
            OneOrManyForm::Many(texts) => texts,
        })
    }
}

/// A root filesystem that images start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// Debian packages.
    Debian(Debian),
    /// An image.
    Image(Transport),
}

/// A root filesystem of Debian packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debian {
    /// The suite: `bookworm`.
    pub suite: String,
    /// The packages asked for: `NAME` or `NAME=VERSION`.
    pub packages: Vec<String>,
    /// `URL` or `URL SUITE…`; empty: the host's apt configuration.
    pub mirrors: Vec<String>,
    /// Archive components.
    pub components: Vec<String>,
    /// The keyring; `None`: the host's.
    pub keyring: Option<PathBuf>,
    /// Whether the mirrors are of a past day, so that their indexes may have expired.
    pub snapshot: bool,
    /// Whether the packages' maintainer scripts are run.
    pub configure: bool,
}
