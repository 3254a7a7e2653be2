//! A `poetry.lock` has the names of files and their hashes, and no URLs: where the wheels are is found once and pinned in
//! images.lock.
//!
//! Which wheels they are, the lock says on every run, compared with the pyproject.toml beside it. So a pin is only a
//! place: it holds for its file and hash, as long as lock and indexes stay as they were.

use std::io::ErrorKind;
use std::path::Path;

use fs_err as fs;
use imgforge_resolver::pypi::{self, Selection};
use imgforge_resolver::{Artifact, Target};
use serde_json::json;

use super::Context;
use super::pins::{self, Pins};
use crate::error::Error;
use crate::images_lock::ImagesLock;

/// The wheels of the lock's text, at the places that are pinned where that is up to date.
pub(super) fn artifacts(
    text: &str,
    path: &Path,
    selection: &Selection,
    context: &Context<'_>,
    target: &Target,
    lock: &mut ImagesLock,
) -> Result<Vec<Artifact>, Error> {
    let pyproject = match fs::read_to_string(path.with_file_name("pyproject.toml")) {
        Ok(pyproject) => pyproject,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(context.unclear(
                format!("{} has no pyproject.toml beside it", path.display()),
                "keep the project's pyproject.toml in the folder of its poetry.lock: it says which groups there are, \
                 and whether the lock is up to date"
                    .to_owned(),
            ));
        }
        Err(error) => return Err(error.into()),
    };
    let pins = Pins::of(&json!({"text": text, "indexes": context.settings.indexes}), context)?;
    let pinned = pins.read(lock).unwrap_or_default();
    let indexes = pins::indexes(context);
    let artifacts = pypi::poetry_lock(text, path, &pyproject, selection, target, &indexes, &pinned)
        .map_err(|error| context.failed(error))?;
    pins.write(&artifacts, lock);
    Ok(artifacts)
}
