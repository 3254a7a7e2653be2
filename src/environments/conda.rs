//! Conda locks: the packages that they mean, each with the SHA-256 that it is kept by.
//!
//! Two things are pinned in images.lock, for as long as what they were made from: what an `environment.yml` was resolved
//! to, and the SHA-256 of packages that a lock has only the MD5 of.

use std::collections::BTreeMap;
use std::path::Path;

use fs_err as fs;
use globset::Glob;
use imgforge_layer::TreePath;
use imgforge_layer::wheel::Scheme;
use imgforge_oci::{Digest, json};
use imgforge_resolver::{Architecture, CondaEnvironment, CondaPackage, Libc, Location, LockKind, conda};
use serde_json::json;

use super::{Conda, Context, Ground, Selected, is_left_out, kind, libc, major_minor, normalized};
use crate::config::Environment;
use crate::error::Error;
use crate::fetch::Source;
use crate::images_lock::{EnvironmentPins, ImagesLock};

/// Selects an environment's conda packages, and the wheels that the same lock has.
pub(super) fn select(
    environment: &Environment,
    context: &Context<'_>,
    lock: &mut ImagesLock,
) -> Result<Selected, Error> {
    let path = context.folder.join(&environment.lock);
    let text = fs::read_to_string(&path).map_err(|error| context.failed(error))?;
    let mut found = read(environment, &text, &path, context, lock)?;
    found.packages.retain(|package| !is_left_out(environment, &package.name));
    found.packages.iter_mut().for_each(forget_host_path);
    pin(environment, &mut found.packages, context, lock)?;
    let prefix = TreePath::new(&environment.prefix)
        .map_err(|source| Error::Tree { what: format!("[env.{}], prefix", context.name), source })?;
    let conda = Conda { prefix, python: found.python, packages: found.packages };
    let scheme = scheme(&conda, context)?;
    Ok(Selected {
        ground: Ground::Conda(conda),
        scheme,
        artifacts: found.wheels,
        pending: Vec::new(),
        editable: BTreeMap::new(),
    })
}

/// Takes the path of a channel on this machine out of a record: `conda-meta` says the same on every host.
fn forget_host_path(package: &mut CondaPackage) {
    let Some(record) = package.record.as_mut().and_then(|record| record.as_object_mut()) else { return };
    let is_file = |value: Option<&serde_json::Value>| {
        value
            .and_then(|value| value.as_str())
            .is_some_and(|text| text.starts_with("file:") || text.starts_with('/'))
    };
    if is_file(record.get("channel")) {
        record.insert("channel".to_owned(), "local".into());
    }
    if is_file(record.get("url")) {
        let url = format!("file:///local/{}/{}", package.subdir, package.file);
        record.insert("url".to_owned(), url.into());
    }
}

/// Where wheels go in a conda environment; nowhere when it has no Python.
pub(super) fn scheme(conda: &Conda, context: &Context<'_>) -> Result<Option<Scheme>, Error> {
    let Some(python) = &conda.python else { return Ok(None) };
    let version = major_minor(&python.version, context)?;
    Scheme::conda(&conda.prefix.to_string(), version, &python.site_packages)
        .map(Some)
        .map_err(|source| Error::Tree { what: format!("site-packages of [env.{}]", context.name), source })
}

/// The conda package that has the Python distribution of this name.
///
/// Repodata says which distributions a package is (`purls`). Where it does not, a package of the same name is taken for it.
pub(super) fn provider<'c>(conda: &'c Conda, name: &str) -> Option<&'c CondaPackage> {
    conda.packages.iter().find(|package| {
        let purls = package.record.as_ref().and_then(|record| record.get("purls")?.as_array());
        match purls {
            Some(purls) if !purls.is_empty() => purls.iter().filter_map(|purl| purl.as_str()).any(|purl| {
                let of_pypi = purl.strip_prefix("pkg:pypi/").unwrap_or_default();
                normalized(of_pypi.split(['@', '?']).next().unwrap_or_default()) == normalized(name)
            }),
            _ => normalized(&package.name) == normalized(name),
        }
    })
}

/// The folder of a channel for a CPU.
const fn subdir(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "linux-64",
        Architecture::Arm64 => "linux-aarch64",
    }
}

fn read(
    environment: &Environment,
    text: &str,
    path: &Path,
    context: &Context<'_>,
    lock: &mut ImagesLock,
) -> Result<CondaEnvironment, Error> {
    let subdir = subdir(context.architecture);
    match kind(environment, context)? {
        LockKind::Pixi => {
            let selection = conda::PixiSelection {
                environment: environment.environment.clone().unwrap_or_else(|| "default".to_owned()),
                platform: None,
                without_folders: !environment.no_install_package.is_empty(),
            };
            conda::pixi_lock(text, path, &selection, subdir)
        }
        LockKind::CondaLock => {
            let categories = [environment.groups.clone(), environment.extras.clone()].concat();
            conda::conda_lock(text, path, &conda::CondaLockSelection { categories }, subdir)
        }
        LockKind::EnvironmentYml => return resolved(environment, text, path, context, lock),
        _ => conda::explicit(text, path, subdir),
    }
    .map_err(|error| context.failed(error))
}

/// What an `environment.yml` was resolved to, or is now.
fn resolved(
    environment: &Environment,
    text: &str,
    path: &Path,
    context: &Context<'_>,
    lock: &mut ImagesLock,
) -> Result<CondaEnvironment, Error> {
    let virtual_packages = virtual_packages(environment, context)?;
    let request = json::canonical(&json!({
        "text": text,
        "subdir": subdir(context.architecture),
        "virtual": virtual_packages,
    }))?;
    let request = Digest::of(&request).hex();
    let key = (context.name.to_owned(), context.platform());
    let folder = std::path::absolute(context.folder)?;
    if let Some(pins) = lock.environments.get(&key).filter(|pins| pins.request == request) {
        let packages = with_paths(&pins.packages, |path| super::pins::plain(&folder.join(path)));
        return Ok(CondaEnvironment { packages, wheels: Vec::new(), python: pins.python.clone() });
    }
    let target = conda::CondaTarget {
        subdir: subdir(context.architecture).to_owned(),
        virtual_packages: virtual_packages.into_iter().collect(),
    };
    let channels = conda::Channels {
        cache: context.cache.join("conda"),
        offline: context.offline,
        ..conda::Channels::default()
    };
    let mut found =
        conda::environment_yml(text, path, &target, &channels).map_err(|error| context.failed(error))?;
    pin(environment, &mut found.packages, context, lock)?;
    for package in &mut found.packages {
        // Pinned without it, so that the next build, which has the pins, makes the same of it.
        package.record = None;
    }
    let pins = EnvironmentPins {
        request,
        python: found.python.clone(),
        artifacts: Vec::new(),
        packages: with_paths(&found.packages, |path| super::pins::relative(path, &folder)),
    };
    lock.environments.insert(key, pins);
    Ok(found)
}

/// What an image is said to have that no package brings.
fn virtual_packages(
    environment: &Environment,
    context: &Context<'_>,
) -> Result<BTreeMap<String, String>, Error> {
    let mut packages = environment.virtual_packages.clone();
    if !packages.contains_key("__glibc")
        && let Libc::Glibc { major, minor } = libc(environment, context)?
    {
        packages.insert("__glibc".to_owned(), format!("{major}.{minor}"));
    }
    Ok(packages)
}

/// Gives each package its SHA-256: those that a lock has only the MD5 of are looked up in images.lock, or fetched.
fn pin(
    environment: &Environment,
    packages: &mut [CondaPackage],
    context: &Context<'_>,
    lock: &mut ImagesLock,
) -> Result<(), Error> {
    let key = (context.name.to_owned(), context.platform());
    let mut pinned = Vec::new();
    for package in packages.iter_mut().filter(|package| package.sha256.is_none()) {
        let Some(md5) = package.md5.clone() else {
            return Err(context.unclear(
                format!("{} has neither a SHA-256 nor an MD5", package.file),
                format!("write {} anew with hashes", environment.lock.display()),
            ));
        };
        let is_allowed = environment.allow_md5.iter().any(|pattern| {
            Glob::new(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(&package.name))
        });
        if !is_allowed {
            return Err(context.unclear(
                format!("{} has only an MD5, which keeps no attacker out", package.file),
                format!(
                    "write {} with SHA-256 (`conda list --explicit --sha256`), or set `allow-md5 = [\"{}\"]` to have \
                     what is found pinned in images.lock",
                    environment.lock.display(),
                    package.name
                ),
            ));
        }
        let before = lock.environments.get(&key).into_iter().flat_map(|pins| &pins.packages);
        let mut before = before.filter(|pin| pin.file == package.file && pin.md5.as_ref() == Some(&md5));
        let sha256 = match before.next().and_then(|pin| pin.sha256.clone()) {
            Some(sha256) => sha256,
            None => {
                let source = match &package.location {
                    Location::Url(url) => Source::Url(url.clone()),
                    Location::Path(path) => Source::Path(path.clone()),
                };
                context.fetcher.identify(context.store, &package.file, &source, &md5)?.hex()
            }
        };
        package.sha256 = Some(sha256);
        pinned.push(CondaPackage { record: None, ..package.clone() });
    }
    if !pinned.is_empty() && kind(environment, context)? != LockKind::EnvironmentYml {
        let folder = std::path::absolute(context.folder)?;
        let packages = with_paths(&pinned, |path| super::pins::relative(path, &folder));
        lock.environments.insert(key, EnvironmentPins { packages, ..EnvironmentPins::default() });
    }
    Ok(())
}

fn with_paths(packages: &[CondaPackage], change: impl Fn(&Path) -> std::path::PathBuf) -> Vec<CondaPackage> {
    let mut packages = packages.to_vec();
    for package in &mut packages {
        if let Location::Path(path) = &package.location {
            package.location = Location::Path(change(path));
        }
    }
    packages
}
