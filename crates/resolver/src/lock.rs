//! Any lock, read by its file's name.

use std::fs;
use std::path::{Path, PathBuf};

use imgforge_resolver_conda as conda;
use imgforge_resolver_core::{Architecture, Artifact, CondaEnvironment, ErrorKind, Libc, Package, Target};
use imgforge_resolver_pypi as pypi;

use crate::kind::{KindError, LockKind};

/// What of a lock is wanted. Each format looks at what it knows of.
#[derive(Clone, Debug, Default)]
pub struct LockQuery {
    /// The format, where the file's name does not tell it.
    pub kind: Option<LockKind>,
    /// Extras, groups and the like, of locks of Python's own tools.
    pub selection: pypi::Selection,
    /// The environment of a `pixi.lock`; without, `default`.
    pub environment: Option<String>,
    /// Categories of a `conda-lock.yml` besides `main`.
    pub categories: Vec<String>,
    /// Where files are looked for whose URLs a lock does not have (`requirements.txt`, `poetry.lock`).
    pub indexes: pypi::Indexes,
    /// What an `environment.yml` is resolved with, in place of its own channels if there are any.
    pub channels: conda::Channels,
    /// What an `environment.yml` is resolved for, besides `__glibc`, which the target says.
    pub virtual_packages: Vec<(String, String)>,
}

/// What a lock says is to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locked {
    /// Wheels, by name: a lock of Python's own tools.
    Wheels(Vec<Artifact>),
    /// Conda packages, and maybe wheels beside them.
    Conda(CondaEnvironment),
}

impl Locked {
    /// All of its files: conda packages in the order of their links, then wheels by name.
    pub fn files(&self) -> Vec<Package> {
        match self {
            Self::Wheels(wheels) => wheels.iter().map(Package::from).collect(),
            Self::Conda(environment) => environment.files(),
        }
    }
}

/// Why a lock says nothing.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// No format goes by the file's name.
    #[error(transparent)]
    Kind(#[from] KindError),
    /// The file, or one that belongs to it, can't be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A lock of Python's own tools.
    #[error(transparent)]
    Pypi(#[from] pypi::Error),
    /// A lock of conda's tools.
    #[error(transparent)]
    Conda(#[from] conda::Error),
}

impl LockError {
    /// What sort of trouble it is.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Kind(_) => ErrorKind::Input,
            Self::Read { .. } => ErrorKind::Lock,
            Self::Pypi(error) => error.kind(),
            Self::Conda(error) => error.kind(),
        }
    }

    /// What mends it, where that is not part of the message.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Kind(_) | Self::Read { .. } => None,
            Self::Pypi(error) => error.hint(),
            Self::Conda(error) => error.hint(),
        }
    }
}

/// Reads a lock of any format and selects what is to be installed for `target`.
///
/// Files that belong to it are read from its folder: `pyproject.toml`, and what a requirements.txt includes.
///
/// # Errors
///
/// As the reader of its format.
pub fn read_lock(file: &Path, query: &LockQuery, target: &Target) -> Result<Locked, LockError> {
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|source| LockError::Read { path: path.to_owned(), source })
    };
    let kind = match query.kind {
        Some(kind) => kind,
        None => LockKind::from_file_name(&file.file_name().unwrap_or_default().to_string_lossy())?,
    };
    let text = read(file)?;
    let subdir = match target.architecture {
        Architecture::Amd64 => "linux-64",
        Architecture::Arm64 => "linux-aarch64",
    };
    let LockQuery { selection, indexes, .. } = query;
    Ok(match kind {
        LockKind::Uv => {
            let project = pypi::project_folder(&text, selection.package.as_deref());
            // uv.lock alone says all but what its default groups are.
            let pyproject =
                fs::read_to_string(file.with_file_name("").join(project).join("pyproject.toml")).ok();
            Locked::Wheels(pypi::uv_lock(&text, file, pyproject.as_deref(), selection, target)?)
        }
        LockKind::Pylock => Locked::Wheels(pypi::pylock(&text, file, selection, target)?),
        LockKind::Requirements => Locked::Wheels(pypi::requirements_txt(&text, file, target, indexes)?),
        LockKind::Poetry => {
            let pyproject = read(&file.with_file_name("pyproject.toml"))?;
            Locked::Wheels(pypi::poetry_lock(&text, file, &pyproject, selection, target, indexes, &[])?)
        }
        LockKind::Pixi => {
            let selection = conda::PixiSelection {
                environment: query.environment.clone().unwrap_or_else(|| "default".to_owned()),
                platform: None,
                without_folders: false,
            };
            Locked::Conda(conda::pixi_lock(&text, file, &selection, subdir)?)
        }
        LockKind::CondaLock => {
            let selection = conda::CondaLockSelection { categories: query.categories.clone() };
            Locked::Conda(conda::conda_lock(&text, file, &selection, subdir)?)
        }
        LockKind::Explicit => Locked::Conda(conda::explicit(&text, file, subdir)?),
        LockKind::EnvironmentYml => {
            let mut virtual_packages = query.virtual_packages.clone();
            if let Libc::Glibc { major, minor } = target.libc
                && !virtual_packages.iter().any(|(name, _)| name == "__glibc")
            {
                virtual_packages.push(("__glibc".to_owned(), format!("{major}.{minor}")));
            }
            let target = conda::CondaTarget { subdir: subdir.to_owned(), virtual_packages };
            Locked::Conda(conda::environment_yml(&text, file, &target, &query.channels)?)
        }
    })
}
