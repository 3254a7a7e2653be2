//! From a few package names to every package that they need, pinned.
//!
//! The choices are apt's, because that is whose images ours are compared with: dependencies are followed depth first in
//! the order in which packages write them, the first alternative that works is taken, and nothing is chosen for a
//! dependency that something chosen already satisfies. Where apt gives up, because an alternative leads into a
//! conflict, this goes back to the last choice and tries the next: what is returned is always a set in which
//! every dependency is satisfied and nothing conflicts.
//!
//! Neither the order of the request nor that of the indexes decides anything, as they may for apt: where an alternative
//! is satisfied or not by the time that it is looked at, the result is apt's for the request sorted by name. There is no dpkg state: nothing is
//! installed yet, and nothing is essential unless it is asked for (see [`essential`]).

use std::collections::BTreeMap;

use crate::Error;
use crate::packages::{Index, Package};
use crate::search::search;
use crate::universe::{Id, Universe};

/// What is to be installed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `name` or `name=version`.
    pub packages: &'a [&'a str],
    /// Debian's word for the CPU: `amd64`, `arm64`.
    pub architecture: &'a str,
    /// Whether `Recommends` are followed too, as far as they can be satisfied.
    pub recommends: bool,
    /// Packages that must not be taken, whatever could be satisfied by them.
    pub exclude: &'a [&'a str],
}

/// A package of a closure: all that is needed to fetch it from any mirror and to know that it is the one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PinnedPackage {
    /// `Package`.
    pub name: String,
    /// `Version`, with epoch and revision.
    pub version: String,
    /// `Architecture`: the request's, or `all`.
    pub architecture: String,
    /// The `source` of the [`Index`] that it comes from.
    pub source: String,
    /// `Filename`: relative to the mirror, `pool/main/…/….deb`. To be percent-encoded in a URL.
    pub path: String,
    /// SHA-256 of the .deb: 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Bytes of the .deb.
    pub size: u64,
}

/// The packages that a request needs, sorted by name.
///
/// # Errors
/// [`Error::UnknownPackage`], [`Error::UnknownVersion`], [`Error::VirtualPackage`], [`Error::BadRequest`] and
/// [`Error::Contradiction`] for the request itself; [`Error::Unsatisfiable`] and [`Error::Conflict`] for the first obstacle
/// if there is no set of packages without one; [`Error::Control`] for a relation that does not read.
pub fn closure(indexes: &[Index<'_>], request: &Request<'_>) -> Result<Vec<PinnedPackage>, Error> {
    let universe = Universe::new(indexes, request.architecture, request.exclude)?;
    let wanted = wanted(&universe, request)?;
    let chosen = search(&universe, &wanted, request.recommends)?;
    let mut packages: Vec<_> = chosen.into_iter().filter_map(|id| universe.package(id)).map(pin).collect();
    packages.sort();
    Ok(packages)
}

/// The packages that Debian calls essential, sorted: packages may need them without saying so (Debian policy 3.8). A
/// base that is to be more than the closure of its packages asks for them too.
///
/// # Errors
/// [`Error::Control`] for a relation that does not read.
pub fn essential(indexes: &[Index<'_>], architecture: &str) -> Result<Vec<String>, Error> {
    let universe = Universe::new(indexes, architecture, &[])?;
    Ok(universe.essential().into_iter().map(str::to_owned).collect())
}

fn pin(package: &Package<'_>) -> PinnedPackage {
    PinnedPackage {
        name: package.name.to_owned(),
        version: package.version.to_owned(),
        architecture: package.architecture.to_owned(),
        source: package.source.to_owned(),
        path: package.path.to_owned(),
        sha256: package.sha256.to_owned(),
        size: package.size,
    }
}

/// The packages that the request names, sorted by name.
fn wanted(universe: &Universe<'_>, request: &Request<'_>) -> Result<Vec<Id>, Error> {
    let mut wanted: BTreeMap<&str, (Id, &str)> = BTreeMap::new();
    let mut requests = request.packages.to_vec();
    // A bare name and a pin of it agree; sorted, the pin comes later and wins.
    requests.sort_unstable();
    for text in requests {
        let (name, version) = match text.split_once('=') {
            Some((name, version)) => (name.trim(), Some(version.trim())),
            None => (text.trim(), None),
        };
        if !crate::relation::is_package_name(name) || version == Some("") {
            return Err(Error::BadRequest { request: text.to_owned() });
        }
        if request.exclude.contains(&name) {
            let (first, second) = (format!("`{text}` in the packages"), "excluded".to_owned());
            return Err(Error::Contradiction { name: name.to_owned(), first, second });
        }
        let versions = match (universe.versions(name), version) {
            // A virtual package that only one package provides stands for that one, as for apt.
            ([], None) => universe.only_provider(name)?,
            (versions, _) => versions,
        };
        let newest = *versions.first().ok_or_else(|| unknown(universe, name))?;
        let name = universe.package(newest).map_or(name, |package| package.name);
        let id = match version {
            None => newest,
            Some(version) => {
                let is_it =
                    |id: &&Id| universe.package(**id).is_some_and(|package| package.version == version);
                *versions.iter().find(is_it).ok_or_else(|| Error::UnknownVersion {
                    name: name.to_owned(),
                    version: version.to_owned(),
                    known: versions
                        .iter()
                        .filter_map(|id| universe.package(*id))
                        .map(|it| it.version.to_owned())
                        .collect(),
                })?
            }
        };
        if let Some((earlier, first)) = wanted.insert(name, (id, text))
            && earlier != id
            && first.contains('=')
        {
            let (first, second) = (first.to_owned(), text.to_owned());
            return Err(Error::Contradiction { name: name.to_owned(), first, second });
        }
    }
    Ok(wanted.into_values().map(|(id, _)| id).collect())
}

fn unknown(universe: &Universe<'_>, name: &str) -> Error {
    let mut providers: Vec<String> = universe
        .providers(name)
        .iter()
        .filter_map(|id| universe.package(*id))
        .map(|it| it.name.to_owned())
        .collect();
    providers.dedup();
    if !providers.is_empty() {
        return Error::VirtualPackage { name: name.to_owned(), providers };
    }
    let limit = (name.len() / 4).clamp(1, 3);
    let distance = |known: &str| strsim::osa_distance(name, known);
    let close = |known: &&str| known.len().abs_diff(name.len()) <= limit && distance(known) <= limit;
    let mut near: Vec<(usize, &str)> =
        universe.names().filter(close).map(|known| (distance(known), known)).collect();
    near.sort_unstable();
    Error::UnknownPackage {
        name: name.to_owned(),
        architecture: universe.architecture.to_owned(),
        near: near.into_iter().take(3).map(|(_, known)| known.to_owned()).collect(),
    }
}
