//! Debian bases: from a table of images.toml to pinned packages, and from those to trees.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use imgforge_layer::{Tree, TreeError, deb};
use imgforge_oci::{Digest, json};
use imgforge_resolver::Architecture;
use imgforge_resolver::debian::{
    self as archive, Freshness, Index, Keyring, PinnedPackage, SignedBy, parse_packages, verify_in_release,
};
use rayon::prelude::*;
use serde_json::json;

use crate::config::Debian;
use crate::error::Error;
use crate::fetch::Fetcher;
use crate::workshop::Workshop;

/// What resolving a base needs to know of the host.
#[derive(Clone, Debug)]
pub struct Host {
    /// The root folder whose `etc/apt` says which mirrors and keys there are: `/`.
    pub root: PathBuf,
    /// Now, in seconds since 1970: indexes and keys must be valid.
    pub now: u64,
}

/// A suite of a mirror.
struct Suite {
    url: String,
    name: String,
    components: Vec<String>,
    keyring: Arc<Keyring>,
}

/// SHA-256 of everything that decides what a base's packages are: a change makes its pins out of date.
///
/// # Errors
/// [`Error::Oci`], which can't happen for plain text.
pub fn request(base: &Debian, architecture: Architecture) -> Result<String, Error> {
    let mut packages = base.packages.clone();
    packages.sort();
    packages.dedup();
    let mut request = json!({
        "suite": base.suite,
        "packages": packages,
        "mirrors": base.mirrors,
        "components": base.components,
        "architecture": architecture,
    });
    if base.configure {
        request["essential"] = json!(true);
    }
    Ok(Digest::of(&json::canonical(&request)?).hex())
}

/// Resolves a base: verified indexes, and the closure of its packages.
///
/// # Errors
/// [`Error::DebianUnclear`] without a mirror or a keyring, [`Error::Debian`] when the archive or the closure fails.
pub fn resolve(
    name: &str,
    base: &Debian,
    architecture: Architecture,
    folder: &Path,
    host: &Host,
    fetcher: &Fetcher,
) -> Result<Vec<PinnedPackage>, Error> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Debian {
        base: name.to_owned(),
        architecture: architecture.as_str(),
        source,
    };
    let freshness = if base.snapshot { Freshness::Snapshot } else { Freshness::At(host.now) };
    let suites = suites(name, base, folder, host)?;
    let fetched: Vec<Vec<(String, Vec<u8>)>> = suites
        .par_iter()
        .map(|suite| {
            let url = format!("{}/dists/{}", suite.url, suite.name);
            let release = fetcher.get(&format!("{url}/InRelease"), RELEASE_LIMIT)?;
            let release = verify_in_release(&release, &suite.keyring, freshness)
                .map_err(|error| failed(error.into()))?;
            let mut texts = Vec::new();
            for component in &suite.components {
                let files = release
                    .packages(component, architecture.as_str())
                    .map_err(|error| failed(error.into()))?;
                for file in files {
                    let bytes = fetcher.get(&format!("{url}/{}", file.path), file.size)?;
                    let text = file.decode(&bytes).map_err(|error| failed(error.into()))?;
                    texts.push((suite.url.clone(), text));
                }
            }
            Ok(texts)
        })
        .collect::<Result<_, Error>>()?;
    let indexes = fetched
        .iter()
        .flatten()
        .map(|(url, text)| parse_packages(text, url))
        .collect::<Result<Vec<Index<'_>>, _>>()
        .map_err(|error| failed(error.into()))?;
    let essential = match base.configure {
        true => archive::essential(&indexes, architecture.as_str()).map_err(|error| failed(error.into()))?,
        false => Vec::new(),
    };
    let packages: Vec<&str> = base.packages.iter().chain(&essential).map(String::as_str).collect();
    // The skeleton has the merged /usr that this package's script would make, with the help of all of perl. What needs
    // it is content with `usr-is-merged`.
    let request = archive::Request {
        packages: &packages,
        architecture: architecture.as_str(),
        recommends: false,
        exclude: if packages.contains(&"usrmerge") { &[] } else { &["usrmerge"] },
    };
    let mut pinned = archive::closure(&indexes, &request).map_err(|error| failed(error.into()))?;
    // Any mirror that yields the hash will do, so where it was found is not kept.
    pinned.iter_mut().for_each(|package| package.source.clear());
    Ok(pinned)
}

/// An InRelease has some hundred kilobytes.
const RELEASE_LIMIT: u64 = 16 << 20;

/// The URLs of the mirrors that a base's packages may be fetched from. A host without any has none: vendored packages
/// need no mirror.
pub fn mirrors(base: &Debian, host: &Host) -> Vec<String> {
    let url =
        |mirror: &String| mirror.split_whitespace().next().map(|url| url.trim_end_matches('/').to_owned());
    if !base.mirrors.is_empty() {
        return base.mirrors.iter().filter_map(url).collect();
    }
    let sources = archive::host_sources(&host.root).unwrap_or_default();
    sources
        .into_iter()
        .filter(|source| source.enabled && source.suites.iter().any(|suite| belongs(suite, &base.suite)))
        .map(|source| source.uri)
        .collect()
}

/// Whether a suite of the host is the base's or one of its updates.
fn belongs(suite: &str, base: &str) -> bool {
    suite == base || suite.strip_prefix(base).is_some_and(|rest| matches!(rest, "-updates" | "-security"))
}

fn suites(name: &str, base: &Debian, folder: &Path, host: &Host) -> Result<Vec<Suite>, Error> {
    let unclear =
        |problem: String, hint: String| Error::DebianUnclear { base: name.to_owned(), problem, hint };
    let failed =
        |error: archive::Error| unclear(error.to_string(), format!("set `keyring` in [base.{name}]"));
    let own = match &base.keyring {
        Some(path) => Some(Arc::new(Keyring::parse(&fs::read(folder.join(path))?).map_err(failed)?)),
        None => None,
    };
    let of_host = archive::host_sources(&host.root).map_err(|error| {
        unclear(
            error.to_string(),
            format!("mend the host's apt configuration, or set `mirror` in [base.{name}]"),
        )
    })?;
    let of_host: Vec<_> = of_host
        .into_iter()
        .filter(|source| source.enabled && source.suites.iter().any(|suite| belongs(suite, &base.suite)))
        .collect();
    let keyring = |signed_by: &SignedBy| match &own {
        Some(keyring) => Ok(Arc::clone(keyring)),
        None => archive::host_keyring(&host.root, signed_by).map(Arc::new).map_err(failed),
    };
    let mut suites = Vec::new();
    if base.mirrors.is_empty() {
        for source in &of_host {
            let keyring = keyring(&source.signed_by)?;
            for suite in source.suites.iter().filter(|suite| belongs(suite, &base.suite)) {
                let components: Vec<String> = base
                    .components
                    .iter()
                    .filter(|component| source.components.contains(component))
                    .cloned()
                    .collect();
                suites.push(Suite {
                    url: source.uri.clone(),
                    name: suite.clone(),
                    components,
                    keyring: Arc::clone(&keyring),
                });
            }
        }
        if !suites.iter().any(|suite| suite.name == base.suite) {
            return Err(unclear(
                format!("no mirror of {} is set, and the host's apt has none", base.suite),
                format!("set `mirror = \"URL\"` in [base.{name}], and `keyring` to the archive's public key"),
            ));
        }
        return Ok(suites);
    }
    // The key that the host trusts for this suite, if it has one, else the ones that it trusts for everything.
    let signed_by = of_host.first().map(|source| source.signed_by.clone()).unwrap_or_default();
    let keyring = keyring(&signed_by)?;
    for mirror in &base.mirrors {
        let mut words = mirror.split_whitespace();
        let url = words.next().unwrap_or_default().trim_end_matches('/').to_owned();
        let mut names: Vec<&str> = words.collect();
        if names.is_empty() {
            names.push(&base.suite);
        }
        for name in names {
            suites.push(Suite {
                url: url.clone(),
                name: name.to_owned(),
                components: base.components.clone(),
                keyring: Arc::clone(&keyring),
            });
        }
    }
    Ok(suites)
}

/// The folders and links that lie beneath all packages.
///
/// # Errors
/// None in fact: the type is that of every insertion into a tree.
pub(crate) fn skeleton(architecture: Architecture) -> Result<Tree, TreeError> {
    deb::skeleton(architecture.as_str())
}

/// A package's files and its part of dpkg's database.
///
/// # Errors
/// [`Error::Unit`], with what is wrong with the package.
pub(crate) fn tree(workshop: &Workshop<'_>, package: &PinnedPackage) -> Result<Tree, Error> {
    Ok(plan(workshop, package)?.tree)
}

/// What belongs to all packages of a base at once: dpkg's status, users, trusted certificates.
///
/// # Errors
/// [`Error::Unit`] for a package that can't be read, or when the packages don't fit together.
pub(crate) fn glue(workshop: &Workshop<'_>, packages: &[PinnedPackage]) -> Result<Tree, Error> {
    let controls: Vec<deb::Control> = packages
        .par_iter()
        .map(|package| match workshop.store.record(CONTROLS, &package.sha256)? {
            Some(control) => Ok(control),
            None => Ok(plan(workshop, package)?.control),
        })
        .collect::<Result<_, Error>>()?;
    let controls: Vec<&deb::Control> = controls.iter().collect();
    deb::database(&controls)
        .map_err(|error| Error::Unit { unit: "dpkg database".to_owned(), source: error.into() })
}

/// The bucket of what bases' databases are made from, by the package's SHA-256: a base of layers that are there already
/// needs no package.
const CONTROLS: &str = "debian/1";

fn plan(workshop: &Workshop<'_>, package: &PinnedPackage) -> Result<deb::Package, Error> {
    let source = workshop.open(crate::unit::digest(&package.sha256)?)?;
    let planned = deb::plan(&source, file_name(package), &workshop.scratch()).map_err(|error| {
        Error::Unit { unit: format!("{} {}", package.name, package.version), source: error.into() }
    })?;
    workshop.store.put_record(CONTROLS, &package.sha256, &planned.control, &[])?;
    Ok(planned)
}

fn file_name(package: &PinnedPackage) -> &str {
    package.path.rsplit('/').next().unwrap_or_default()
}
