//! From an environment of images.toml and its lock file to the packages that are installed.

mod conda;
mod pins;
mod poetry;
mod requirements;

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr as _;

use fs_err as fs;
use imgforge_layer::TreePath;
use imgforge_layer::wheel::Scheme;
use imgforge_resolver::pypi::{self, Defaults, Selection};
use imgforge_resolver::{Architecture, Artifact, CondaPackage, CondaPython, Libc, LockKind, Target};
use imgforge_store::Store;

use crate::config::{Environment, Settings};
use crate::error::Error;
use crate::facts::{self, Facts, Interpreter, short};
use crate::fetch::Fetcher;
use crate::images_lock::ImagesLock;

/// An environment, selected for a platform.
#[derive(Clone, Debug)]
pub struct Selected {
    /// What the wheels stand on.
    pub ground: Ground,
    /// Where wheels have their files. `None`: there is no Python.
    pub scheme: Option<Scheme>,
    /// The wheels, by name.
    pub artifacts: Vec<Artifact>,
    /// Wheels that are still to be built: their keys for a person, and their keys.
    pub pending: Vec<(String, String)>,
    /// Wheels that are installed for development, by name, each with the folder of its sources in the image.
    pub editable: BTreeMap<String, TreePath>,
}

/// What an environment has besides wheels.
#[derive(Clone, Debug)]
pub enum Ground {
    /// A virtual environment's own files.
    Venv {
        /// What `bin/python` links to.
        interpreter: String,
        /// CPython's version as far as it is known.
        version: String,
    },
    /// Conda packages.
    Conda(Conda),
    /// Nothing: the wheels go into another environment.
    Other,
}

/// The conda packages of an environment.
#[derive(Clone, Debug)]
pub struct Conda {
    /// Where it lies.
    pub prefix: TreePath,
    /// Its Python, if it has one.
    pub python: Option<CondaPython>,
    /// In the order in which they are linked. Each has its SHA-256.
    pub packages: Vec<CondaPackage>,
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
    /// The bases that it is used on: their names and what is known of them.
    pub bases: &'a [(&'a str, &'a Facts)],
    /// Where answers of package indexes are kept.
    pub cache: &'a Path,
    /// Where packages are kept.
    pub store: &'a Store,
    /// Gets what a lock has only the MD5 of.
    pub fetcher: &'a Fetcher,
    /// Packages of which the source distribution is wanted, to be built.
    pub built: &'a [String],
    /// Packages of which it will do where there is no wheel.
    pub buildable: &'a [String],
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

/// Selects an environment's packages. Pins of `lock` are used where they are up to date; new ones are put into it.
///
/// `host` is the conda environment that the wheels go into, if they do.
///
/// # Errors
/// [`Error::EnvironmentUnclear`] when the Python or the C library is not known, [`Error::Environment`] when the lock
/// can't be used, [`Error::Io`] when it can't be read.
pub fn select(
    environment: &Environment,
    host: Option<&Conda>,
    context: &Context<'_>,
    lock: &mut ImagesLock,
) -> Result<Selected, Error> {
    let mut selected = match host {
        Some(host) => into(environment, host, context, lock)?,
        None if kind(environment, context)?.is_conda() => conda::select(environment, context, lock)?,
        None => venv(environment, context, lock)?,
    };
    selected.artifacts.retain(|wheel| !is_left_out(environment, &wheel.name));
    Ok(selected)
}

/// A lock of wheels, installed into a virtual environment.
fn venv(environment: &Environment, context: &Context<'_>, lock: &mut ImagesLock) -> Result<Selected, Error> {
    let (version, interpreter) = python(environment, context)?;
    let prefix = |source| Error::Tree { what: format!("[env.{}], prefix", context.name), source };
    let scheme = Scheme::venv(&environment.prefix, major_minor(&version, context)?).map_err(prefix)?;
    let target = Target {
        python: version.clone(),
        architecture: context.architecture,
        libc: libc(environment, context)?,
    };
    let artifacts = artifacts(environment, context, &target, lock)?;
    Ok(Selected {
        ground: Ground::Venv { interpreter, version },
        scheme: Some(scheme),
        artifacts,
        pending: Vec::new(),
        editable: BTreeMap::new(),
    })
}

/// A lock of wheels, installed into a conda environment.
fn into(
    environment: &Environment,
    host: &Conda,
    context: &Context<'_>,
    lock: &mut ImagesLock,
) -> Result<Selected, Error> {
    let (Some(scheme), Some(python)) = (conda::scheme(host, context)?, &host.python) else {
        return Err(context.unclear(
            format!("[env.{}] has no Python", environment.into.as_deref().unwrap_or_default()),
            "lock that environment with the package `python`".to_owned(),
        ));
    };
    let target = Target {
        python: python.version.clone(),
        architecture: context.architecture,
        libc: libc(environment, context)?,
    };
    let artifacts = artifacts(environment, context, &target, lock)?;
    let wanted = artifacts.iter().filter(|wheel| !is_left_out(environment, &wheel.name));
    if let Some((wheel, package)) =
        wanted.filter_map(|wheel| Some((wheel, conda::provider(host, &wheel.name)?))).next()
    {
        return Err(context.unclear(
            format!(
                "{} {} is in {} and, as the conda package {} {}, in [env.{}]",
                wheel.name,
                wheel.version,
                environment.lock.display(),
                package.name,
                package.version,
                environment.into.as_deref().unwrap_or_default()
            ),
            format!(
                "to keep the conda package, set `no-install-package = [\"{}\"]` in [env.{}]",
                wheel.name, context.name
            ),
        ));
    }
    Ok(Selected {
        ground: Ground::Other,
        scheme: Some(scheme),
        artifacts,
        pending: Vec::new(),
        editable: BTreeMap::new(),
    })
}

/// Whether images.toml says that a package is not to be installed. Names are compared as PEP 503 normalises them.
fn is_left_out(environment: &Environment, name: &str) -> bool {
    environment.no_install_package.iter().any(|other| normalized(other) == normalized(name))
}

/// A package's name as PEP 503 has it.
fn normalized(name: &str) -> String {
    let parts: Vec<_> = name.split(['-', '_', '.']).filter(|part| !part.is_empty()).collect();
    parts.join("-").to_lowercase()
}

fn major_minor(version: &str, context: &Context<'_>) -> Result<(u8, u8), Error> {
    let minor =
        version.split('.').take(2).map(u8::from_str).collect::<Result<Vec<_>, _>>().unwrap_or_default();
    match minor.as_slice() {
        [major, minor] => Ok((*major, *minor)),
        _ => Err(context.unclear(
            format!("python = \"{version}\" is no version of CPython"),
            "set `python` to a version such as \"3.11\"".to_owned(),
        )),
    }
}

fn kind(environment: &Environment, context: &Context<'_>) -> Result<LockKind, Error> {
    let name = environment.lock.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match environment.kind.as_deref().and_then(LockKind::from_name) {
        Some(kind) => Ok(kind),
        None => LockKind::from_file_name(name).map_err(|error| context.failed(error)),
    }
}

/// CPython's version and the interpreter's path: as set, or what the bases have.
fn python(environment: &Environment, context: &Context<'_>) -> Result<(String, String), Error> {
    let mut found: Vec<String> =
        context.bases.iter().flat_map(|(_, facts)| &facts.interpreters).map(Interpreter::short).collect();
    found.sort();
    found.dedup();
    // Where a base has several, the one that it finds first is its own.
    let mut own: Vec<Option<String>> =
        context.bases.iter().map(|(_, facts)| facts.interpreters.first().map(Interpreter::short)).collect();
    own.dedup();
    let version = match (&environment.python, own.as_slice(), found.as_slice()) {
        (Some(version), ..) => version.clone(),
        (None, [Some(only)], _) | (None, _, [only]) => only.clone(),
        (None, _, []) => {
            return Err(context.unclear(
                "the Python version is not known: the base has no CPython".to_owned(),
                "set `python = \"3.11\"` and `interpreter`, or add python3-minimal to the packages of a Debian base"
                    .to_owned(),
            ));
        }
        (None, _, several) => {
            return Err(context.unclear(
                format!("the bases have several Pythons: {}", several.join(", ")),
                "set `python` to one of them, or to the axis of [matrix] that it follows: `python = \"{python}\"`".to_owned(),
            ));
        }
    };
    let wanted = short(&version);
    let interpreter = match &environment.interpreter {
        Some(path) => path.clone(),
        None => interpreter(&wanted, context)?,
    };
    let version = match version == wanted {
        true => patch_version(&wanted, context).unwrap_or(version),
        false => version,
    };
    Ok((version, interpreter))
}

/// The path of an interpreter, the same in all bases.
fn interpreter(short: &str, context: &Context<'_>) -> Result<String, Error> {
    let mut path: Option<(&str, &str)> = None;
    for (base, facts) in context.bases {
        let found = facts.interpreters.iter().find(|interpreter| interpreter.short() == *short);
        match (found, path) {
            (None, _) => {
                return Err(context.unclear(
                    format!("there is no interpreter of Python {short} in [base.{base}]"),
                    format!(
                        "give [base.{base}] a Python {short}, or set `interpreter` to its path in the image"
                    ),
                ));
            }
            (Some(found), Some((other, before))) if found.path != before => {
                return Err(context.unclear(
                    format!(
                        "Python {short} is {before} in [base.{other}] and {} in [base.{base}]",
                        found.path
                    ),
                    "set `interpreter` to a path that all of them have, or use an environment for each"
                        .to_owned(),
                ));
            }
            (Some(found), _) => path = Some((base, &found.path)),
        }
    }
    Ok(path.map_or_else(|| format!("/usr/bin/python{short}"), |(_, path)| path.to_owned()))
}

/// `3.11` with its patch, as the bases have it; markers may ask for it.
fn patch_version(short: &str, context: &Context<'_>) -> Option<String> {
    let mut versions: Vec<&str> = context
        .bases
        .iter()
        .filter_map(|(_, facts)| facts.interpreters.iter().find(|interpreter| interpreter.short() == *short))
        .map(|interpreter| interpreter.version.as_str())
        .collect();
    versions.sort_unstable();
    versions.dedup();
    match versions.as_slice() {
        [only] if only.starts_with(&format!("{short}.")) => Some((*only).to_owned()),
        _ => None,
    }
}

/// The C library that wheels may ask for: as set, or the oldest of the bases.
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
    let mut oldest: Option<(bool, (u16, u16))> = None;
    for (base, facts) in context.bases {
        let found = match &facts.libc {
            Some(facts::Libc::Glibc(version)) => pair(version).map(|version| (false, version)),
            Some(facts::Libc::Musl(version)) => pair(version).map(|version| (true, version)),
            None => None,
        };
        let Some((is_musl, version)) = found else {
            return Err(context.unclear(
                format!("the C library of [base.{base}] is not known"),
                "set `glibc = \"2.36\"` or `musl = \"1.2\"`".to_owned(),
            ));
        };
        oldest = match oldest {
            Some((other, _)) if other != is_musl => {
                return Err(context.unclear(
                    "one base has glibc and another one musl, and no wheel fits both".to_owned(),
                    "use an environment for each".to_owned(),
                ));
            }
            Some((_, oldest)) => Some((is_musl, oldest.min(version))),
            None => Some((is_musl, version)),
        };
    }
    match oldest {
        Some((false, (major, minor))) => Ok(Libc::Glibc { major, minor }),
        Some((true, (major, minor))) => Ok(Libc::Musl { major, minor }),
        None => Err(context.unclear(
            "the image's C library is not known: the environment is used on no base".to_owned(),
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
    let kind = kind(environment, context)?;
    let path = context.folder.join(&environment.lock);
    let text = fs::read_to_string(&path).map_err(|error| context.failed(error))?;
    let selection = Selection {
        package: environment.package.clone(),
        extras: environment.extras.clone(),
        groups: [environment.groups.as_slice(), &environment.only_groups].concat(),
        only_groups: !environment.only_groups.is_empty(),
        default_groups: if environment.default_groups { Defaults::With } else { Defaults::Format },
        build: context.built.to_vec(),
        buildable: context.buildable.to_vec(),
        ..Selection::default()
    };
    match kind {
        LockKind::Uv => {
            let project = pypi::project_folder(&text, environment.package.as_deref());
            let pyproject = path.with_file_name("").join(project).join("pyproject.toml");
            let pyproject = fs::read_to_string(pyproject).ok();
            pypi::uv_lock(&text, &path, pyproject.as_deref(), &selection, target)
        }
        LockKind::Pylock => pypi::pylock(&text, &path, &selection, target),
        LockKind::Requirements => return requirements::artifacts(&text, &path, context, target, lock),
        LockKind::Poetry => return poetry::artifacts(&text, &path, &selection, context, target, lock),
        LockKind::Pixi | LockKind::CondaLock | LockKind::Explicit | LockKind::EnvironmentYml => {
            return Err(context.unclear(
                format!("{} is a lock of conda packages", environment.lock.display()),
                "give it a `prefix` of its own".to_owned(),
            ));
        }
    }
    .map_err(|error| context.failed(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> imgforge_resolver::debian::PinnedPackage {
        imgforge_resolver::debian::PinnedPackage {
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            path: "pool/x.deb".into(),
            sha256: String::new(),
            size: 0,
            source: String::new(),
        }
    }

    /// What is found on `bases`, each a list of `NAME=VERSION`: interpreter and C library, or what is missing.
    #[track_caller]
    fn check(keys: &str, bases: &[(&str, &[&str])], expected: &str) {
        let environment: Environment =
            toml::from_str(&format!("lock = \"uv.lock\"\nprefix = \"/v\"\n{keys}")).unwrap();
        let facts = |packages: &[&str]| {
            let split = packages.iter().filter_map(|text| text.split_once('='));
            let mut facts =
                Facts::of_debian(&split.map(|(name, version)| package(name, version)).collect::<Vec<_>>());
            // Others than Debian's are written as they are.
            let other = packages.iter().filter_map(|text| text.split_once(' '));
            for (key, value) in other {
                match key {
                    "musl" => facts.libc = Some(facts::Libc::Musl(value.to_owned())),
                    path => {
                        let (path, version) = (path.to_owned(), value.to_owned());
                        facts.interpreters.push(Interpreter { path, version });
                    }
                }
            }
            facts
        };
        let bases: Vec<(&str, Facts)> =
            bases.iter().map(|(name, packages)| (*name, facts(packages))).collect();
        let bases: Vec<_> = bases.iter().map(|(name, facts)| (*name, facts)).collect();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let fetcher = Fetcher::new(crate::fetch::FetchSettings::default()).unwrap();
        let context = Context {
            folder: Path::new(""),
            settings: &Settings::default(),
            name: "e",
            architecture: Architecture::Amd64,
            bases: &bases,
            cache: Path::new(""),
            store: &store,
            fetcher: &fetcher,
            built: &[],
            buildable: &[],
            offline: true,
        };
        let found = python(&environment, &context)
            .and_then(|(_, interpreter)| Ok(format!("{interpreter} {:?}", libc(&environment, &context)?)));
        let said = found.unwrap_or_else(|error| error.to_string());
        assert_eq!(said, expected);
    }

    const OLD: (&str, &[&str]) = ("old", &["python3.11-minimal=3.11.2-6", "libc6=2.36-9+deb12u1"]);
    const NEW: (&str, &[&str]) = ("new", &["python3.11-minimal=3.11.9-1", "libc6=2.41-12"]);
    const BARE: (&str, &[&str]) = ("bare", &[]);
    const LOCAL: (&str, &[&str]) =
        ("local", &["libc6=2.36-9", "/usr/local/bin/python3.12 3.12.4", "/usr/bin/python3.11 3.11.2"]);
    const ALPINE: (&str, &[&str]) = ("alpine", &["musl 1.2.5", "/usr/bin/python3.12 3.12.9"]);

    #[test]
    fn each_base_has_what_is_needed() {
        check("", &[OLD, NEW], "/usr/bin/python3.11 Glibc { major: 2, minor: 36 }");
        check(
            "",
            &[OLD, BARE],
            "[env.e] for linux/amd64: there is no interpreter of Python 3.11 in [base.bare]",
        );
        check(
            "interpreter = \"/python\"",
            &[OLD, BARE],
            "[env.e] for linux/amd64: the C library of [base.bare] is not known",
        );
        check(
            "interpreter = \"/python\"\nglibc = \"2.31\"",
            &[OLD, BARE],
            "/python Glibc { major: 2, minor: 31 }",
        );
        check(
            "python = \"3.12\"",
            &[OLD, NEW],
            "[env.e] for linux/amd64: there is no interpreter of Python 3.12 in [base.old]",
        );
    }

    #[test]
    fn an_image_may_have_several() {
        check("", &[LOCAL], "/usr/local/bin/python3.12 Glibc { major: 2, minor: 36 }");
        check("python = \"3.11\"", &[LOCAL], "/usr/bin/python3.11 Glibc { major: 2, minor: 36 }");
        check("", &[ALPINE], "/usr/bin/python3.12 Musl { major: 1, minor: 2 }");
        check("", &[LOCAL, OLD], "[env.e] for linux/amd64: the bases have several Pythons: 3.11, 3.12");
        check(
            "",
            &[LOCAL, ALPINE],
            "[env.e] for linux/amd64: Python 3.12 is /usr/local/bin/python3.12 in [base.local] and \
             /usr/bin/python3.12 in [base.alpine]",
        );
        check(
            "interpreter = \"/p\"",
            &[LOCAL, ALPINE],
            "[env.e] for linux/amd64: one base has glibc and another one musl, and no wheel fits both",
        );
    }
}
