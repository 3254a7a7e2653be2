//! What comes out of a build: outputs, and images.lock's part in it.

use std::io::Write as _;

use fs_err as fs;
use imgforge_oci::{Blob, Digest, Image, Ref};

use crate::error::Error;
use crate::images_lock::ImagesLock;
use crate::project;
use crate::session::Session;

/// An image in an output: for one platform, or an index over several.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its key in images.toml.
    pub name: String,
    /// Of its manifest or its index.
    pub digest: Digest,
    /// What a layout calls it.
    pub reference: Ref,
    /// Its manifests, and the index last if there is one.
    pub documents: Vec<Blob>,
}

/// The outputs of selected images, whose documents are put into the store. `images` are names and images.
///
/// # Errors
/// As for any writing to the store; [`Error::Oci`] for an index or a name that can't be.
pub fn outputs(
    session: &Session,
    selected: &[String],
    images: &[(String, Image)],
) -> Result<Vec<Output>, Error> {
    let mut outputs = Vec::new();
    for name in selected {
        let images: Vec<&Image> =
            images.iter().filter(|(other, _)| other == name).map(|(_, image)| image).collect();
        let mut documents: Vec<Blob> = images.iter().map(|image| image.manifest().clone()).collect();
        let descriptor = match images.as_slice() {
            [] => continue,
            [only] => only.descriptor(),
            several => {
                let index = project::index(several)?;
                session.store.insert(index.blob().bytes())?;
                documents.push(index.blob().clone());
                index.descriptor().clone()
            }
        };
        let digest = descriptor.digest;
        let reference = Ref::new(session.project.reference(name), descriptor)?;
        outputs.push(Output { name: name.clone(), digest, reference, documents });
    }
    Ok(outputs)
}

/// Writes a draft of images.lock and throws it away, if the lock is going to change: outputs that no lock describes
/// are worse than none.
///
/// # Errors
/// [`Error::NoLock`].
pub fn check_lock(session: &Session, lock: &ImagesLock) -> Result<(), Error> {
    let folder = &session.project.folder;
    let text = lock.to_text();
    if fs::read_to_string(folder.join("images.lock")).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let draft = tempfile::Builder::new().prefix(".images.lock.").tempfile_in(folder);
    draft
        .and_then(|mut draft| draft.write_all(text.as_bytes()))
        .map_err(|source| Error::NoLock { folder: folder.clone(), source })
}

/// Refuses a lock that differs from the one that is there, for whoever wants it to stay.
///
/// # Errors
/// [`Error::Locked`].
pub fn same_lock(session: &Session, lock: &ImagesLock) -> Result<(), Error> {
    match *lock == session.project.lock {
        true => Ok(()),
        false => Err(Error::Locked { difference: difference(session, lock) }),
    }
}

/// As [`same_lock`], of what a lock pins and not of what came out.
///
/// # Errors
/// [`Error::Locked`].
pub fn same_pins(session: &Session, lock: &ImagesLock) -> Result<(), Error> {
    match lock.has_same_pins(&session.project.lock) {
        true => Ok(()),
        false => Err(Error::Locked { difference: difference(session, lock) }),
    }
}

/// How a lock differs from the one that is there, in a few words.
pub fn difference(session: &Session, lock: &ImagesLock) -> String {
    let old = &session.project.lock;
    if lock.bases != old.bases {
        return "the image of a base would be pinned anew".to_owned();
    }
    if lock.debian != old.debian {
        return "Debian packages would be pinned anew".to_owned();
    }
    if lock.environments != old.environments {
        return "an environment's wheels would be pinned anew".to_owned();
    }
    if lock.artifacts != old.artifacts {
        return "artifacts would be recorded anew".to_owned();
    }
    let changed: Vec<String> = lock
        .images
        .iter()
        .filter(|(key, outcome)| old.images.get(*key) != Some(outcome))
        .map(|((name, platform), _)| format!("{name} ({platform})"))
        .collect();
    match changed.is_empty() {
        true => "it has images that images.toml has not".to_owned(),
        false => format!("another outcome for {}", changed.join(", ")),
    }
}
