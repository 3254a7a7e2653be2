//! `pylock.toml` (PEP 751): the lock that every tool writes.
//!
//! uv's reader selects; what it leaves to its caller or ignores is checked here: the lock's `environments`, its minor
//! version, and whether extras and groups exist.

use std::path::Path;

use imgforge_resolver_core::{Artifact, Target};
use uv_configuration::BuildOptions;
use uv_distribution_types::{Dist, Resolution, ResolvedDist};
use uv_errors::Hint as _;
use uv_normalize::GroupName;
use uv_pep508::MarkerTree;
use uv_resolver::{PylockToml, PylockTomlError};

use crate::artifact::Gathered;
use crate::error::{Error, OTHER_TOOL, Reason, plain, plain_text};
use crate::guard::guarded;
use crate::selection::{Defaults, Selection};
use crate::target::Environment;
use crate::uv_lock::folder;

/// Reads a `pylock.toml` and selects what is to be installed for `target`, by name.
///
/// `file` is the lock's path: messages name it, and paths in the lock are relative to its folder.
///
/// # Errors
///
/// As [`crate::uv_lock`]; a selection of a workspace member is [`Error::Unsupported`], since the format has none.
pub fn pylock(
    text: &str,
    file: &Path,
    selection: &Selection,
    target: &Target,
) -> Result<Vec<Artifact>, Error> {
    let environment = Environment::new(target)?;
    guarded(text, file, || {
        let unsupported =
            |message: &str| Err(Error::Unsupported { file: file.to_owned(), message: message.to_owned() });
        if selection.package.is_some() {
            return unsupported(
                "a pylock.toml has no workspace members: leave `package` out, or use uv.lock",
            );
        }
        if selection.install_project {
            return unsupported(
                "the project itself can't be installed from a lock: copy its code with `files`",
            );
        }
        let lock = parse(text, file)?;
        let extras = selection.extra_names(file)?;
        if let Some(name) = extras.iter().find(|name| !lock.extras.contains(name)) {
            return Err(Error::Extra {
                file: file.to_owned(),
                name: name.to_string(),
                extras: lock.extras.iter().map(ToString::to_string).collect(),
            });
        }
        let extras = if selection.all_extras { lock.extras.clone() } else { extras };
        let groups = groups(&lock, file, selection)?;
        check_environment(&lock, text, file, &environment)?;

        let folder = folder(file)?;
        let mut gathered = Gathered::new("write the lock again with a tool that records SHA-256 hashes");
        // One package at a time, so that what is wrong with one has a name and does not hide the next.
        let wheels = wheel_names(text);
        for (index, package) in lock.packages.into_iter().enumerate() {
            let name = package.name.to_string();
            let version = package.version.as_ref().map(ToString::to_string);
            let mut alone = parse(EMPTY, file)?;
            alone.packages.push(package);
            let resolution = alone.to_resolution(
                &folder,
                environment.markers.markers(),
                &extras,
                &groups,
                &environment.tags,
                &BuildOptions::default(),
            );
            let wheels = wheels.get(index).filter(|wheels| !wheels.is_empty());
            match (resolution, wheels) {
                (Ok(resolution), Some(wheels)) if has_source(&resolution) => {
                    let reason =
                        Reason::NoWheel { wheels: wheels.clone(), target: environment.words.clone() };
                    gathered.refuse(&name, version, reason);
                }
                (Ok(resolution), _) => gathered.extend(&resolution, &folder),
                (Err(error), Some(wheels)) if is_tag_mismatch(&error) => {
                    let reason =
                        Reason::NoWheel { wheels: wheels.clone(), target: environment.words.clone() };
                    gathered.refuse(&name, version, reason);
                }
                (Err(error), _) => {
                    return Err(Error::Select { file: file.to_owned(), message: plain(&error) });
                }
            }
        }
        gathered.finish(file)
    })
}

/// The least that is a lock.
const EMPTY: &str = "lock-version = '1.0'\ncreated-by = 'imgforge'\npackages = []";

fn parse(text: &str, file: &Path) -> Result<PylockToml, Error> {
    let parse = |error: toml::de::Error| Error::Parse {
        file: file.to_owned(),
        format: "pylock.toml",
        message: plain(&error),
    };
    // A later minor version may add a key that decides what is installed, so it is no less foreign than a major one.
    let table: toml::Table = toml::from_str(text).map_err(parse)?;
    match table.get("lock-version").and_then(toml::Value::as_str) {
        Some("1.0") | None => toml::from_str(text).map_err(parse),
        Some(version) => Err(Error::FormatVersion {
            file: file.to_owned(),
            found: plain_text(version),
            supported: "1.0",
            mend: OTHER_TOOL,
        }),
    }
}

fn groups(lock: &PylockToml, file: &Path, selection: &Selection) -> Result<Vec<GroupName>, Error> {
    let mut groups = selection.group_names(file)?;
    if let Some(name) = groups.iter().find(|name| !lock.dependency_groups.contains(name)) {
        return Err(Error::Group {
            file: file.to_owned(),
            name: name.to_string(),
            groups: lock.dependency_groups.iter().map(ToString::to_string).collect(),
        });
    }
    if selection.all_groups {
        groups = lock.dependency_groups.clone();
    }
    let defaults = match selection.default_groups {
        Defaults::Format => groups.is_empty(),
        Defaults::With => true,
        Defaults::Without => false,
    };
    if defaults {
        groups.extend(lock.default_groups.iter().cloned());
    }
    Ok(groups)
}

fn check_environment(
    lock: &PylockToml,
    text: &str,
    file: &Path,
    environment: &Environment,
) -> Result<(), Error> {
    if let Some(requires) = lock.requires_python.as_ref().filter(|it| !it.contains(environment.python())) {
        return Err(Error::RequiresPython {
            file: file.to_owned(),
            requires: requires.to_string(),
            python: environment.python().to_string(),
        });
    }
    let table: toml::Table = toml::from_str(text).unwrap_or_default();
    let Some(value) = table.get("environments") else { return Ok(()) };
    let environments: Vec<MarkerTree> =
        value.clone().try_into().map_err(|error: toml::de::Error| Error::Parse {
            file: file.to_owned(),
            format: "pylock.toml",
            message: format!("environments: {}", plain(&error)),
        })?;
    if environments.iter().any(|marker| marker.evaluate(&environment.markers, &[])) {
        return Ok(());
    }
    Err(Error::Environments {
        file: file.to_owned(),
        target: environment.words.clone(),
        environments: environments
            .into_iter()
            .map(|marker| marker.try_to_string().unwrap_or_else(|| "any".to_owned()))
            .collect(),
    })
}

/// The file names of each package's wheels, in the lock's order; uv's type keeps them to itself.
fn wheel_names(text: &str) -> Vec<Vec<String>> {
    let table: toml::Table = toml::from_str(text).unwrap_or_default();
    let packages = table.get("packages").and_then(toml::Value::as_array);
    let names = |package: &toml::Value| -> Vec<String> {
        let wheels = package.get("wheels").and_then(toml::Value::as_array);
        let name = |wheel: &toml::Value| {
            let text = ["name", "path", "url"].into_iter().find_map(|key| wheel.get(key)?.as_str())?;
            Some(plain_text(text.rsplit('/').next().unwrap_or(text)))
        };
        wheels.into_iter().flatten().filter_map(name).collect()
    };
    packages.into_iter().flatten().map(names).collect()
}

fn has_source(resolution: &Resolution) -> bool {
    resolution.distributions().any(|dist| {
        matches!(dist, ResolvedDist::Installable { dist, .. } if matches!(dist.as_ref(), Dist::Source(_)))
    })
}

/// Whether the package's wheels fit another target: uv hints at tags then, and only then.
fn is_tag_mismatch(error: &PylockTomlError) -> bool {
    !error.hints().is_empty() || error.to_string().contains("wheel for the current platform")
}
