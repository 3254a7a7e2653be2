//! What a lock without URLs means is found once, at an index, and pinned in images.lock.
//!
//! In images.lock, wheels that lie on this machine are named relative to the folder of images.toml, so that it says the
//! same in every checkout.

use std::path::{Component, Path, PathBuf};

use imgforge_oci::{Digest, json};
use imgforge_resolver::pypi::Indexes;
use imgforge_resolver::{Artifact, Location};
use serde::Serialize;

use super::Context;
use crate::error::Error;
use crate::images_lock::{EnvironmentPins, ImagesLock};

/// The place of an environment's pins in images.lock, and what they have to be made from.
pub(super) struct Pins {
    key: (String, String),
    request: String,
    folder: PathBuf,
}

impl Pins {
    /// `request` is all that decides what is found: pins hold as long as it stays the same.
    pub(super) fn of(request: &impl Serialize, context: &Context<'_>) -> Result<Self, Error> {
        Ok(Self {
            key: (context.name.to_owned(), context.platform()),
            request: Digest::of(&json::canonical(request)?).hex(),
            folder: std::path::absolute(context.folder)?,
        })
    }

    /// The wheels that are pinned, if the pins hold.
    pub(super) fn read(&self, lock: &ImagesLock) -> Option<Vec<Artifact>> {
        let pins = lock.environments.get(&self.key).filter(|pins| pins.request == self.request)?;
        Some(with_paths(&pins.artifacts, |path| plain(&self.folder.join(path))))
    }

    /// Pins wheels, instead of those that were.
    pub(super) fn write(self, artifacts: &[Artifact], lock: &mut ImagesLock) {
        let artifacts = with_paths(artifacts, |path| relative(path, &self.folder));
        let pins = EnvironmentPins { request: self.request, artifacts, ..EnvironmentPins::default() };
        lock.environments.insert(self.key, pins);
    }
}

/// The indexes of `[settings]`, the first of which is asked instead of PyPI.
pub(super) fn indexes(context: &Context<'_>) -> Indexes {
    let (first, others) = match context.settings.indexes.as_slice() {
        [first, others @ ..] => (Some(first.clone()), others.to_vec()),
        [] => (None, Vec::new()),
    };
    Indexes {
        index: first,
        extra: others,
        find_links: Vec::new(),
        cache: context.cache.to_owned(),
        offline: context.offline,
    }
}

fn with_paths(artifacts: &[Artifact], change: impl Fn(&Path) -> PathBuf) -> Vec<Artifact> {
    let mut artifacts = artifacts.to_vec();
    for artifact in &mut artifacts {
        if let Location::Path(path) = &artifact.location {
            artifact.location = Location::Path(change(path));
        }
    }
    artifacts
}

/// `path` as seen from `folder`, by their names alone. Both are absolute.
pub(super) fn relative(path: &Path, folder: &Path) -> PathBuf {
    let (path, folder) = (plain(path), plain(folder));
    let shared = path.components().zip(folder.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(path.components().skip(shared)).collect()
}

/// A path without `.`, and without `..` where a folder stands before it. As [`relative`] goes by names, so must the way
/// back: the system would follow a symbolic link before it goes up.
pub(super) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(plain.components().next_back(), Some(Component::Normal(_))) => {
                plain.pop();
            }
            component => plain.push(component),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_relative(path: &str, folder: &str, expected: &str) {
        let found = relative(Path::new(path), Path::new(folder));
        assert_eq!(found, Path::new(expected));
        assert_eq!(plain(&Path::new(folder).join(found)), plain(Path::new(path)));
    }

    #[test]
    fn paths_and_back() {
        check_relative("/p/wheels/a.whl", "/p", "wheels/a.whl");
        check_relative("/p/./a.whl", "/p/images/", "../a.whl");
        check_relative("/q/a.whl", "/p/images/../x", "../../q/a.whl");
    }
}
