//! What units are made from: files, each with its digest and the places where it may be.

use std::path::PathBuf;

use imgforge_resolver::debian::PinnedPackage;
use imgforge_resolver::{Artifact, Location};

use super::{Built, CondaUnit, digest};
use crate::{Error, fetch};

/// A file that a unit is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The package's name, as mirrors are asked for it: `numpy`.
    pub name: String,
    /// What messages call it: `numpy 2.1.0`.
    pub title: String,
    /// The file that says what its digest is: `uv.lock`.
    pub locked_in: String,
    /// The command that locks it anew.
    pub relock: Option<String>,
    /// The file's name, by which `vendor/` has it.
    pub file: String,
    /// SHA-256, 64 hexadecimal digits.
    pub sha256: String,
    /// Bytes, where the lock says so.
    pub size: Option<u64>,
    /// Where it is.
    pub place: Place,
}

/// Where an input is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At a URL.
    Url(String),
    /// In a file of the host.
    Path(PathBuf),
    /// Below any of the Debian mirrors, at this path.
    Mirror(String),
    /// Nowhere but in the store, or in the cache of who has built it.
    Built,
}

impl Input {
    pub(super) fn of_package(package: &PinnedPackage) -> Self {
        Self {
            name: package.name.clone(),
            title: format!("{} {}", package.name, package.version),
            locked_in: "images.lock".to_owned(),
            relock: Some("imgforge lock --upgrade".to_owned()),
            file: package.path.rsplit('/').next().unwrap_or_default().to_owned(),
            sha256: package.sha256.clone(),
            size: Some(package.size),
            place: Place::Mirror(package.path.clone()),
        }
    }

    /// What a build has made: `init.tar`.
    pub(super) fn of_built(title: &str, built: &Built) -> Self {
        Self {
            name: built.file.clone(),
            title: title.to_owned(),
            locked_in: "images.lock".to_owned(),
            relock: None,
            file: built.file.clone(),
            sha256: built.digest.hex(),
            size: Some(built.size),
            place: Place::Built,
        }
    }

    pub(super) fn of_conda(unit: &CondaUnit) -> Self {
        let package = &unit.package;
        Self {
            name: package.name.clone(),
            title: unit.title(),
            locked_in: unit.lock.clone(),
            relock: unit.lock.ends_with("pixi.lock").then(|| format!("pixi update {}", package.name)),
            file: package.file.clone(),
            sha256: package.sha256.clone().unwrap_or_default(),
            size: package.size,
            place: match &package.location {
                Location::Url(url) => Place::Url(url.clone()),
                Location::Path(path) => Place::Path(path.clone()),
            },
        }
    }

    pub(super) fn of_artifact(artifact: &Artifact, lock: &str) -> Self {
        let name = &artifact.name;
        Self {
            name: name.clone(),
            title: format!("{name} {}", artifact.version),
            locked_in: lock.to_owned(),
            relock: lock.ends_with("uv.lock").then(|| format!("uv lock --upgrade-package {name}")),
            file: artifact.file.clone(),
            sha256: artifact.sha256.clone(),
            size: artifact.size,
            place: match &artifact.location {
                Location::Url(url) => Place::Url(url.clone()),
                Location::Path(path) => Place::Path(path.clone()),
            },
        }
    }

    /// As the fetching module wants it. `mirrors` are the Debian mirrors' URLs.
    ///
    /// # Errors
    /// [`Error::Digest`].
    pub fn request(&self, mirrors: &[String]) -> Result<fetch::Request, Error> {
        let sources = match &self.place {
            Place::Url(url) => vec![fetch::Source::Url(url.clone())],
            Place::Path(path) => vec![fetch::Source::Path(path.clone())],
            Place::Built => Vec::new(),
            Place::Mirror(path) => nearest_first(mirrors, path)
                .into_iter()
                .map(|mirror| fetch::Source::Url(format!("{}/{path}", mirror.trim_end_matches('/'))))
                .collect(),
        };
        Ok(fetch::Request {
            name: self.name.clone(),
            title: self.title.clone(),
            file: self.file.clone(),
            digest: digest(&self.sha256)?,
            size: self.size,
            locked_in: self.locked_in.clone(),
            relock: self.relock.clone(),
            sources,
        })
    }
}

/// The mirrors, those of the security archive first for its own paths: asking the other ones is in vain.
fn nearest_first<'m>(mirrors: &'m [String], path: &str) -> Vec<&'m String> {
    let mut mirrors: Vec<&String> = mirrors.iter().collect();
    let security = |mirror: &String| mirror.trim_end_matches('/').ends_with("-security");
    mirrors.sort_by_key(|mirror| security(mirror) != path.starts_with("pool/updates/"));
    mirrors
}
