//! From an environment of images.toml and its lock file to the wheels that are installed.

use std::path::Path;
use std::str::FromStr as _;

use fs_err as fs;
use imgforge_layer::wheel::Scheme;
use imgforge_oci::{Digest, json};
use imgforge_resolver::debian::PinnedPackage;
use imgforge_resolver::pypi::{self, Defaults, Indexes, Selection};
use imgforge_resolver::{Architecture, Artifact, Libc, LockKind, Target};
use serde_json::json;

use crate::config::{Environment, Settings};
use crate::error::Error;
use crate::images_lock::{EnvironmentPins, ImagesLock};

/// An environment, selected for a platform.
#[derive(Clone, Debug)]
pub struct Selected {
    /// Where it has its files.
    pub scheme: Scheme,
    /// What `bin/python` links to.
    pub interpreter: String,
    /// CPython's version as far as it is known.
    pub version: String,
    /// The wheels, by name.
    pub artifacts: Vec<Artifact>,
}

/// What selecting needs besides the environment's own table.
pub struct Context<'a> {
    /// The folder that images.toml is in.
    pub folder: &'a Path,
    /// `[settings]`.
    pub settings: &'a Settings,
    /// The environment's name.
    pub name: &'a str,
    /// What it is selected for.
    pub architecture: Architecture,
    /// The Debian packages of the bases that it is used on; none for an empty base.
    pub bases: &'a [&'a [PinnedPackage]],
    /// Where answers of package indexes are kept.
    pub cache: &'a Path,
    /// Whether the network is out of bounds.
    pub offline: bool,
}

impl Context<'_> {
    fn platform(&self) -> String {
        format!("linux/{}", self.architecture.as_str())
    }

    fn unclear(&self, problem: String, hint: String) -> Error {
        Error::EnvironmentUnclear {
            environment: self.name.to_owned(),
            platform: self.platform(),
            problem,
            hint,
        }
    }

    fn failed(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Environment {
            environment: self.name.to_owned(),
            platform: self.platform(),
            source: source.into(),
        }
    }
}

/// Selects an environment's wheels. Pins of `lock` are used where they are up to date; new ones are put into it.
///
/// # Errors
/// [`Error::EnvironmentUnclear`] when the Python or the C library is not known, [`Error::Environment`] when the lock
/// can't be used, [`Error::Io`] when it can't be read.
pub fn select(
    environment: &Environment,
    context: &Context<'_>,
    lock: &mut ImagesLock,
) -> Result<Selected, Error> {
    let (version, interpreter) = python(environment, context)?;
    let minor =
        version.split('.').take(2).map(u8::from_str).collect::<Result<Vec<_>, _>>().unwrap_or_default();
    let [major, minor] = minor.as_slice() else {
        return Err(context.unclear(
            format!("python = \"{version}\" is no version of CPython"),
            "set `python` to a version such as \"3.11\"".to_owned(),
        ));
    };
    let scheme = Scheme::venv(&environment.prefix, (*major, *minor))
        .map_err(|source| Error::Tree { what: format!("[env.{}], prefix", context.name), source })?;
    let target = Target {
        python: version.clone(),
        architecture: context.architecture,
        libc: libc(environment, context)?,
    };
    let artifacts = artifacts(environment, context, &target, lock)?;
    Ok(Selected { scheme, interpreter, version, artifacts })
}

/// CPython's version and the interpreter's path: as set, or the base's `pythonX.Y-minimal`.
fn python(environment: &Environment, context: &Context<'_>) -> Result<(String, String), Error> {
    let wanted =
        environment.python.as_deref().map(|version| version.split('.').take(2).collect::<Vec<_>>().join("."));
    let in_base = |packages: &[PinnedPackage]| -> Vec<String> {
        packages
            .iter()
            .filter_map(|package| package.name.strip_prefix("python")?.strip_suffix("-minimal"))
            .filter(|version| version.contains('.'))
            .map(str::to_owned)
            .collect()
    };
    let mut found: Vec<String> = context.bases.iter().flat_map(|packages| in_base(packages)).collect();
    found.sort();
    found.dedup();
    let version = match (&environment.python, found.as_slice()) {
        (Some(version), _) => version.clone(),
        (None, [only]) => only.clone(),
        (None, []) => {
            return Err(context.unclear(
                "the Python version is not known: the base has no Debian package of it".to_owned(),
                "set `python = \"3.11\"` and `interpreter`, or add python3-minimal to the base's packages"
                    .to_owned(),
            ));
        }
        (None, several) => {
            return Err(context.unclear(
                format!("the bases have several Pythons: {}", several.join(", ")),
                "set `python` to one of them".to_owned(),
            ));
        }
    };
    let short = wanted.unwrap_or_else(|| version.clone());
    let interpreter = match &environment.interpreter {
        Some(path) => path.clone(),
        None if found.contains(&short) => format!("/usr/bin/python{short}"),
        None => {
            return Err(context.unclear(
                format!("there is no interpreter of Python {short} in the base"),
                format!(
                    "add python{short} to the base's packages, or set `interpreter` to its path in the image"
                ),
            ));
        }
    };
    Ok((version, interpreter))
}

/// The C library that wheels may ask for: as set, or the oldest glibc of the bases.
fn libc(environment: &Environment, context: &Context<'_>) -> Result<Libc, Error> {
    let pair = |text: &str| -> Option<(u16, u16)> {
        let mut parts = text.split('.').map(u16::from_str);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    };
    let set = |key: &str, text: &str| {
        pair(text).ok_or_else(|| {
            context.unclear(
                format!("{key} = \"{text}\" is no version"),
                format!("set `{key}` to a version such as \"2.36\""),
            )
        })
    };
    if let Some(text) = &environment.musl {
        let (major, minor) = set("musl", text)?;
        return Ok(Libc::Musl { major, minor });
    }
    if let Some(text) = &environment.glibc {
        let (major, minor) = set("glibc", text)?;
        return Ok(Libc::Glibc { major, minor });
    }
    let oldest = context
        .bases
        .iter()
        .filter_map(|packages| packages.iter().find(|package| package.name == "libc6"))
        .filter_map(|package| pair(package.version.split('-').next()?))
        .min();
    match oldest {
        Some((major, minor)) => Ok(Libc::Glibc { major, minor }),
        None => Err(context.unclear(
            "the image's C library is not known: no base has the Debian package libc6".to_owned(),
            "set `glibc = \"2.36\"` or `musl = \"1.2\"`".to_owned(),
        )),
    }
}

fn artifacts(
    environment: &Environment,
    context: &Context<'_>,
    target: &Target,
    lock: &mut ImagesLock,
) -> Result<Vec<Artifact>, Error> {
    let path = context.folder.join(&environment.lock);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let kind = match environment.kind.as_deref().and_then(LockKind::from_name) {
        Some(kind) => kind,
        None => LockKind::from_file_name(name).map_err(|error| context.failed(error))?,
    };
    let text = fs::read_to_string(&path)?;
    let selection = Selection {
        package: environment.package.clone(),
        extras: environment.extras.clone(),
        groups: environment.groups.clone(),
        default_groups: if environment.default_groups { Defaults::With } else { Defaults::Format },
        ..Selection::default()
    };
    match kind {
        LockKind::Uv => {
            let pyproject = path.with_file_name("pyproject.toml");
            let pyproject = fs::read_to_string(pyproject).ok();
            pypi::uv_lock(&text, &path, pyproject.as_deref(), &selection, target)
        }
        LockKind::Pylock => pypi::pylock(&text, &path, &selection, target),
        LockKind::Requirements => return requirements(&text, &path, context, target, lock),
    }
    .map_err(|error| context.failed(error))
}

/// A `requirements.txt` has hashes and no URLs: which wheels it means is found once and pinned in images.lock.
fn requirements(
    text: &str,
    path: &Path,
    context: &Context<'_>,
    target: &Target,
    lock: &mut ImagesLock,
) -> Result<Vec<Artifact>, Error> {
    let indexes = &context.settings.indexes;
    let request = json::canonical(&json!({"text": text, "target": target, "indexes": indexes}))?;
    let request = Digest::of(&request).hex();
    let key = (context.name.to_owned(), context.platform());
    if let Some(pins) = lock.environments.get(&key)
        && pins.request == request
    {
        return Ok(pins.artifacts.clone());
    }
    let (first, others) = match indexes.as_slice() {
        [first, others @ ..] => (Some(first.clone()), others.to_vec()),
        [] => (None, Vec::new()),
    };
    let indexes = Indexes {
        index: first,
        extra: others,
        find_links: Vec::new(),
        cache: context.cache.to_owned(),
        offline: context.offline,
    };
    let artifacts =
        pypi::requirements_txt(text, path, target, &indexes).map_err(|error| context.failed(error))?;
    lock.environments.insert(key, EnvironmentPins { request, artifacts: artifacts.clone() });
    Ok(artifacts)
}
