//! Axes: what a name in `key` comes down to.
//!
//! "The same CUDA, torch and Python" is decided by what is there: by the digests of packages and wheels, and not by labels
//! that somebody keeps up to date, or not.

use std::collections::{BTreeMap, BTreeSet};

use imgforge_artifact::receipt::{Axis, Resolved};
use imgforge_layer::wheel::normalise;
use imgforge_oci::Digest;
use imgforge_resolver::Artifact as Package;

use super::{Context, Job};
use crate::bases::Root;
use crate::environments::{Ground, Selected};
use crate::error::Error;

/// Wheels with a CUDA compiler, its headers and its runtime.
const CUDA_WHEELS: [&str; 5] =
    ["nvidia-cuda-nvcc", "nvidia-cuda-crt", "nvidia-cuda-cccl", "nvidia-cuda-runtime", "nvidia-nvvm"];

/// Finds what an axis stands for.
pub(super) fn resolve(
    context: &Context<'_>,
    job: &Job<'_>,
    environments: &BTreeMap<String, Selected>,
    name: &str,
) -> Result<Axis, Error> {
    resolve_in(&Seen::new(context, job, environments), job, name)
}

/// In which axis an environment differs from the one that an artifact is built against; its Python is one in any case.
/// `builder` says what it is built in, and nothing of where it is used.
pub(super) fn difference(
    context: &Context<'_>,
    job: &Job<'_>,
    environments: &BTreeMap<String, Selected>,
    environment: &str,
) -> Result<Option<String>, Error> {
    if job.table.env.as_deref() == Some(environment) {
        return Ok(None);
    }
    let seen = |name: Option<&'_ str>| -> Seen<'_> {
        let all = Seen::new(context, job, environments);
        let into = name.and_then(|name| context.config.environments.get(name)?.into.as_deref());
        let found = name.into_iter().chain(into).filter_map(|name| environments.get_key_value(name));
        Seen { environments: found.map(|(name, selected)| (name.as_str(), selected)).collect(), ..all }
    };
    // What only the build has is no matter of where the outcome is used.
    let (own, other) = (seen(job.table.env.as_deref()), seen(Some(environment)));
    let python = "python".to_owned();
    let named = job.table.key.iter().filter(|name| !matches!(name.as_str(), "builder" | "python"));
    for name in std::iter::once(&python).chain(named) {
        let Ok(wanted) = resolve_in(&own, job, name) else { continue };
        let found = resolve_in(&other, job, name).ok();
        if found.as_ref().map(|axis| &axis.parts) != Some(&wanted.parts) {
            if name == "env" {
                let whole = "everything in its environment (name in `key` what matters, such as torch)";
                return Ok(Some(whole.to_owned()));
            }
            let label = found.map_or_else(|| format!("no {name}"), |axis| axis.label);
            return Ok(Some(format!("{}, and here is {label}", wanted.label)));
        }
    }
    Ok(None)
}

fn resolve_in(seen: &Seen<'_>, job: &Job<'_>, name: &str) -> Result<Axis, Error> {
    let (label, parts) = match name {
        "builder" => (job.table.builder.clone(), seen.builder(&|_| true)?),
        "env" => {
            let parts = seen.everything(&|_| true, &|_| true)?;
            (seen.environments.first().map(|(name, _)| (*name).to_owned()).unwrap_or_default(), parts)
        }
        "python" => seen.python()?,
        "cuda" => seen.cuda()?,
        name => {
            let is_meant = |other: &str| normalise(other) == normalise(name);
            let mut parts = seen.wheels(&is_meant)?;
            if parts.is_empty() {
                parts = seen.conda(&is_meant)?;
            }
            if parts.is_empty() {
                parts = seen.builder_packages(&is_meant)?;
            }
            (parts.iter().map(|part| part.title.clone()).collect::<Vec<_>>().join(" "), parts)
        }
    };
    if parts.is_empty() && name != "env" {
        let places: Vec<_> = std::iter::once(format!("[base.{}]", job.table.builder))
            .chain(seen.environments.iter().map(|(name, _)| format!("[env.{name}]")))
            .collect();
        return Err(job.failed(format!("key: there is no `{name}` in {}", places.join(" or "))));
    }
    Ok(Axis { name: name.to_owned(), label, parts })
}

/// Where an axis is looked for.
struct Seen<'a> {
    /// The environment that wants the artifact, then the one with the build's requirements.
    environments: Vec<(&'a str, &'a Selected)>,
    root: Option<&'a Root>,
}

impl<'a> Seen<'a> {
    fn new(context: &'a Context<'_>, job: &'a Job<'_>, environments: &'a BTreeMap<String, Selected>) -> Self {
        let mut names: Vec<&str> = job.environments().collect();
        // One that goes into another stands on it.
        let into = |name: &&str| context.config.environments.get(*name)?.into.as_deref();
        names.extend(names.clone().iter().filter_map(into));
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(*name));
        Self {
            environments: names
                .into_iter()
                .filter_map(|name| Some((name, environments.get(name)?)))
                .collect(),
            root: context.bases.get(&job.table.builder).map(|(root, _)| root),
        }
    }

    /// Wheels of the first environment that has any which is meant.
    fn wheels(&self, is_meant: &dyn Fn(&str) -> bool) -> Result<Vec<Resolved>, Error> {
        for (_, selected) in &self.environments {
            let found: Vec<&Package> = selected
                .artifacts
                .iter()
                .filter(|package| !super::is_sdist(package) && is_meant(&package.name))
                .collect();
            if !found.is_empty() {
                return found
                    .into_iter()
                    .map(|package| part(&format!("{} {}", package.name, package.version), &package.sha256))
                    .collect();
            }
        }
        Ok(Vec::new())
    }

    fn conda(&self, is_meant: &dyn Fn(&str) -> bool) -> Result<Vec<Resolved>, Error> {
        for (_, selected) in &self.environments {
            let Ground::Conda(conda) = &selected.ground else { continue };
            let found: Vec<_> = conda.packages.iter().filter(|package| is_meant(&package.name)).collect();
            if !found.is_empty() {
                return found
                    .into_iter()
                    .map(|package| {
                        let sha256 = package.sha256.as_deref().unwrap_or_default();
                        part(&format!("{} {}", package.name, package.version), sha256)
                    })
                    .collect();
            }
        }
        Ok(Vec::new())
    }

    /// The builder's packages that are meant; all of an image, of which nobody knows what is in it.
    fn builder(&self, is_meant: &dyn Fn(&str) -> bool) -> Result<Vec<Resolved>, Error> {
        match self.root {
            Some(Root::Image(base)) => Ok(vec![Resolved {
                title: base.transport.to_string(),
                digest: base.image.manifest().descriptor().digest,
            }]),
            _ => self.builder_packages(is_meant),
        }
    }

    fn builder_packages(&self, is_meant: &dyn Fn(&str) -> bool) -> Result<Vec<Resolved>, Error> {
        let Some(Root::Debian(packages)) = self.root else { return Ok(Vec::new()) };
        packages
            .iter()
            .filter(|package| is_meant(&package.name))
            .map(|package| part(&format!("{} {}", package.name, package.version), &package.sha256))
            .collect()
    }

    /// The interpreter: the conda environment's, or the builder's.
    fn python(&self) -> Result<(String, Vec<Resolved>), Error> {
        let scheme = self.environments.iter().find_map(|(_, selected)| selected.scheme.as_ref());
        let Some((major, minor)) = scheme.map(|scheme| scheme.python()) else {
            return Ok((String::new(), Vec::new()));
        };
        let mut parts = self.conda(&|name| name == "python")?;
        let is_of_conda = !parts.is_empty();
        if !is_of_conda {
            let (program, library) = (format!("python{major}.{minor}"), format!("libpython{major}.{minor}"));
            parts = self.builder(&|name| name.starts_with(&program) || name.starts_with(&library))?;
        }
        // Of an image, it is not known which of its Pythons is meant.
        let title = format!("cp{major}{minor}");
        parts.push(Resolved { digest: Digest::of(title.as_bytes()), title: title.clone() });
        Ok((title, parts))
    }

    /// All wheels and conda packages that are meant, of all environments.
    fn everything(
        &self,
        is_wheel: &dyn Fn(&str) -> bool,
        is_conda: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<Resolved>, Error> {
        let mut parts = Vec::new();
        for each in &self.environments {
            let alone = Seen { environments: vec![*each], root: self.root };
            parts.extend(alone.wheels(is_wheel)?);
            parts.extend(alone.conda(is_conda)?);
        }
        parts.sort();
        parts.dedup();
        Ok(parts)
    }

    /// The toolkit: wheels and conda packages of all environments, since torch brings a runtime and what compiles may be
    /// elsewhere; the builder's packages, or its image, where no environment has a compiler.
    fn cuda(&self) -> Result<(String, Vec<Resolved>), Error> {
        let mut parts = self
            .everything(&|name| CUDA_WHEELS.iter().any(|wheel| name.starts_with(wheel)), &|name| {
                name.starts_with("cuda-nvcc") || name == "cuda-version"
            })?;
        let is_compiler = |part: &&Resolved| part.title.contains("cuda-nvcc");
        if !parts.iter().any(|part| is_compiler(&part)) {
            parts.extend(self.builder(&|name| name.starts_with("cuda-"))?);
        }
        let first = parts.iter().find(is_compiler).or(parts.first());
        let version = first.and_then(|part| part.title.split_once(' ')).map(|(_, version)| version);
        let numbers = version.unwrap_or_default().split('.').take(2);
        let digits: String = numbers.flat_map(str::chars).filter(char::is_ascii_digit).collect();
        Ok((format!("cu{digits}"), parts))
    }
}

fn part(title: &str, sha256: &str) -> Result<Resolved, Error> {
    Ok(Resolved { title: title.to_owned(), digest: crate::unit::digest(sha256)? })
}
