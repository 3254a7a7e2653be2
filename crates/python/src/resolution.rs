//! Requirements and locks become files for a target.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use imgforge::session::{self, Options};
use imgforge_resolver::conda::{self, ChannelPriority, Channels, CondaTarget};
use imgforge_resolver::pypi::{self, Indexes, Prereleases, Request, Selection};
use imgforge_resolver::{
    Architecture, CondaEnvironment, ErrorKind, Libc, LockError, LockKind, LockQuery, Locked, Target,
    read_lock as read,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyTuple};

use crate::config::surroundings;
use crate::error::{exception, raise};
use crate::image::{Package, tuple};
use crate::work;

/// The files that requirements or a lock amount to.
#[pyclass(frozen, module = "imgforge")]
pub(crate) struct Resolution {
    /// The files.
    #[pyo3(get)]
    packages: Py<PyTuple>,
    source: Source,
}

/// What a resolution can be written from.
enum Source {
    Pypi(Box<pypi::Resolution>),
    Conda {
        environment: CondaEnvironment,
        subdir: String,
        channels: Vec<String>,
    },
    /// Wheels of a lock, which have a lock already.
    Lock,
}

#[pymethods]
impl Resolution {
    fn __len__(&self, py: Python<'_>) -> usize {
        self.packages.bind(py).len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        self.packages.bind(py).try_iter()
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("Resolution({} packages)", self.packages.bind(py).len())
    }

    /// A requirements.txt with hashes.
    fn to_requirements(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.pypi(py, "requirements.txt")?.to_requirements())
    }

    /// A pylock.toml (PEP 751).
    fn to_pylock(&self, py: Python<'_>) -> PyResult<String> {
        self.pypi(py, "pylock.toml")?.to_pylock().map_err(|error| of_pypi(py, &error))
    }

    /// A uv.lock, for which the indexes are asked once more.
    fn to_uv_lock(&self, py: Python<'_>) -> PyResult<String> {
        let resolution = self.pypi(py, "uv.lock")?.clone();
        work::ask(py, move || resolution.to_uv_lock())?.map_err(|error| of_pypi(py, &error))
    }

    /// The pyproject.toml that uv wants beside a uv.lock.
    fn to_pyproject(&self, py: Python<'_>) -> PyResult<String> {
        self.pypi(py, "pyproject.toml")?.to_pyproject().map_err(|error| of_pypi(py, &error))
    }

    /// An `@EXPLICIT` list of conda packages.
    fn to_explicit(&self, py: Python<'_>) -> PyResult<String> {
        let (environment, subdir, _) = self.conda(py, "an explicit list")?;
        Ok(conda::to_explicit(environment, subdir))
    }

    /// A pixi.lock.
    fn to_pixi_lock(&self, py: Python<'_>) -> PyResult<String> {
        let (environment, subdir, channels) = self.conda(py, "a pixi.lock")?;
        conda::to_pixi_lock(&[(subdir, environment)], channels).map_err(|error| of_conda(py, &error))
    }
}

impl Resolution {
    fn new(py: Python<'_>, packages: &[imgforge_resolver::Package], source: Source) -> PyResult<Self> {
        Ok(Self { packages: tuple(py, packages.iter().map(Package::from))?, source })
    }

    fn pypi(&self, py: Python<'_>, what: &str) -> PyResult<&pypi::Resolution> {
        match &self.source {
            Source::Pypi(resolution) => Ok(resolution),
            Source::Conda { .. } | Source::Lock => {
                Err(unusable(py, &format!("{what} is written of what `resolve` gives, and of nothing else")))
            }
        }
    }

    fn conda(&self, py: Python<'_>, what: &str) -> PyResult<(&CondaEnvironment, &str, &[String])> {
        match &self.source {
            Source::Conda { environment, subdir, channels } => Ok((environment, subdir, channels)),
            Source::Pypi(_) | Source::Lock => {
                Err(unusable(py, &format!("{what} is of conda packages, and these are Python's own")))
            }
        }
    }
}

/// Resolves Python requirements for a target.
#[pyfunction]
#[pyo3(signature = (
    requirements, *, python, platform="linux/amd64", glibc=None, musl=None, index=None, extra_indexes=None,
    find_links=None, constraints=None, overrides=None, exclude_newer=None, prereleases="if-necessary", no_build=false,
    offline=false, store=None
))]
#[expect(clippy::too_many_arguments, reason = "keywords of Python, each with a default")]
pub(crate) fn resolve(
    py: Python<'_>,
    requirements: Vec<String>,
    python: String,
    platform: &str,
    glibc: Option<&str>,
    musl: Option<&str>,
    index: Option<String>,
    extra_indexes: Option<Vec<String>>,
    find_links: Option<Vec<String>>,
    constraints: Option<Vec<String>>,
    overrides: Option<Vec<String>>,
    exclude_newer: Option<String>,
    prereleases: &str,
    no_build: bool,
    offline: bool,
    store: Option<PathBuf>,
) -> PyResult<Resolution> {
    let target = target(python, platform, glibc, musl)?;
    let request = Request {
        requirements,
        constraints: constraints.unwrap_or_default(),
        overrides: overrides.unwrap_or_default(),
        exclude_newer,
        prereleases: match prereleases {
            "if-necessary" => Prereleases::IfNecessary,
            "allow" => Prereleases::Allow,
            "disallow" => Prereleases::Disallow,
            "explicit" => Prereleases::Explicit,
            _ => return Err(one_of("prereleases", prereleases, "if-necessary, allow, disallow, explicit")),
        },
        no_build,
    };
    let indexes = Indexes {
        index,
        extra: extra_indexes.unwrap_or_default(),
        find_links: find_links.unwrap_or_default(),
        cache: cache(py, store)?,
        offline,
    };
    let resolved = work::ask(py, move || pypi::resolve(&request, Path::new("resolve()"), &target, &indexes))?;
    let resolution = resolved.map_err(|error| of_pypi(py, &error))?;
    let packages: Vec<_> = resolution.artifacts().iter().map(Into::into).collect();
    Resolution::new(py, &packages, Source::Pypi(Box::new(resolution)))
}

/// Solves for conda packages.
#[pyfunction]
#[pyo3(signature = (
    specs, *, channels, platform="linux-64", virtual_packages=None, channel_priority="strict", exclude_newer=None,
    offline=false, store=None
))]
#[expect(clippy::too_many_arguments, reason = "keywords of Python, each with a default")]
pub(crate) fn solve(
    py: Python<'_>,
    specs: Vec<String>,
    channels: Vec<String>,
    platform: &str,
    virtual_packages: Option<BTreeMap<String, String>>,
    channel_priority: &str,
    exclude_newer: Option<String>,
    offline: bool,
    store: Option<PathBuf>,
) -> PyResult<Resolution> {
    let target = CondaTarget {
        subdir: platform.to_owned(),
        virtual_packages: virtual_packages.into_iter().flatten().collect(),
    };
    let names = channels.clone();
    let channels = Channels {
        names: channels,
        priority: priority(channel_priority)?,
        exclude_newer,
        cache: cache(py, store)?.join("conda"),
        offline,
    };
    let subdir = target.subdir.clone();
    let solved = work::ask(py, move || conda::solve(&specs, Path::new("solve()"), &target, &channels))?;
    let environment = solved.map_err(|error| of_conda(py, &error))?;
    let packages = environment.files();
    Resolution::new(py, &packages, Source::Conda { environment, subdir, channels: names })
}

/// Reads a lock and selects what it means for a target.
#[pyfunction]
#[pyo3(signature = (
    path, *, kind=None, python=None, platform="linux/amd64", glibc=None, musl=None, package=None, extras=None,
    groups=None, environment=None, categories=None, channels=None, virtual_packages=None, index=None,
    extra_indexes=None, find_links=None, offline=false, store=None
))]
#[expect(clippy::too_many_arguments, reason = "keywords of Python, each with a default")]
pub(crate) fn read_lock(
    py: Python<'_>,
    path: PathBuf,
    kind: Option<&str>,
    python: Option<String>,
    platform: &str,
    glibc: Option<&str>,
    musl: Option<&str>,
    package: Option<String>,
    extras: Option<Vec<String>>,
    groups: Option<Vec<String>>,
    environment: Option<String>,
    categories: Option<Vec<String>>,
    channels: Option<Vec<String>>,
    virtual_packages: Option<BTreeMap<String, String>>,
    index: Option<String>,
    extra_indexes: Option<Vec<String>>,
    find_links: Option<Vec<String>>,
    offline: bool,
    store: Option<PathBuf>,
) -> PyResult<Resolution> {
    let target = target(python.unwrap_or_default(), platform, glibc, musl)?;
    let subdir = match target.architecture {
        Architecture::Amd64 => "linux-64",
        Architecture::Arm64 => "linux-aarch64",
    };
    let known = || LockKind::ALL.map(|kind| kind.to_string()).join(", ");
    let kind = kind
        .map(|name| LockKind::from_name(name).ok_or_else(|| one_of("kind", name, &known())))
        .transpose()?;
    let cache = cache(py, store)?;
    let channels = channels.unwrap_or_default();
    let query = LockQuery {
        kind,
        selection: Selection {
            package,
            extras: extras.unwrap_or_default(),
            groups: groups.unwrap_or_default(),
            ..Selection::default()
        },
        environment,
        categories: categories.unwrap_or_default(),
        indexes: Indexes {
            index,
            extra: extra_indexes.unwrap_or_default(),
            find_links: find_links.unwrap_or_default(),
            cache: cache.clone(),
            offline,
        },
        channels: Channels {
            names: channels.clone(),
            cache: cache.join("conda"),
            offline,
            ..Channels::default()
        },
        virtual_packages: virtual_packages.into_iter().flatten().collect(),
    };
    let locked = work::ask(py, move || read(&path, &query, &target))?;
    let locked = locked.map_err(|error| of_lock(py, &error))?;
    let packages = locked.files();
    let source = match locked {
        Locked::Wheels(_) => Source::Lock,
        Locked::Conda(environment) => Source::Conda { environment, subdir: subdir.to_owned(), channels },
    };
    Resolution::new(py, &packages, source)
}

fn target(python: String, platform: &str, glibc: Option<&str>, musl: Option<&str>) -> PyResult<Target> {
    let architecture = match platform {
        "linux/amd64" => Architecture::Amd64,
        "linux/arm64" => Architecture::Arm64,
        _ => return Err(one_of("platform", platform, "linux/amd64, linux/arm64")),
    };
    let version = |name: &str, text: &str| {
        let pair =
            text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        pair.ok_or_else(|| PyValueError::new_err(format!("{name}: `{text}` is no version like 2.36")))
    };
    let libc = match (glibc, musl) {
        (Some(_), Some(_)) => return Err(PyValueError::new_err("an image has glibc or musl, and not both")),
        (None, Some(text)) => version("musl", text).map(|(major, minor)| Libc::Musl { major, minor })?,
        // What uv takes for `--python-platform linux`.
        (glibc, None) => {
            version("glibc", glibc.unwrap_or("2.28")).map(|(major, minor)| Libc::Glibc { major, minor })?
        }
    };
    Ok(Target { python, architecture, libc })
}

fn priority(text: &str) -> PyResult<ChannelPriority> {
    match text {
        "strict" => Ok(ChannelPriority::Strict),
        "flexible" => Ok(ChannelPriority::Flexible),
        "disabled" => Ok(ChannelPriority::Disabled),
        _ => Err(one_of("channel_priority", text, "strict, flexible, disabled")),
    }
}

fn one_of(name: &str, text: &str, words: &str) -> PyErr {
    PyValueError::new_err(format!("{name}: `{text}` is none of {words}"))
}

/// The folder in which indexes' and channels' answers are kept: a build looks there too.
fn cache(py: Python<'_>, store: Option<PathBuf>) -> PyResult<PathBuf> {
    let store = session::store(&surroundings(), &Options { store, ..Options::default() });
    Ok(store.map_err(|error| raise(py, &error))?.root().join("indexes"))
}

fn unusable(py: Python<'_>, message: &str) -> PyErr {
    exception(py, ErrorKind::Unusable.as_str(), message, None)
}

fn of_pypi(py: Python<'_>, error: &pypi::Error) -> PyErr {
    exception(py, error.kind().as_str(), &imgforge::story(error), error.hint())
}

fn of_conda(py: Python<'_>, error: &conda::Error) -> PyErr {
    exception(py, error.kind().as_str(), &imgforge::story(error), error.hint())
}

fn of_lock(py: Python<'_>, error: &LockError) -> PyErr {
    exception(py, error.kind().as_str(), &imgforge::story(error), error.hint())
}
