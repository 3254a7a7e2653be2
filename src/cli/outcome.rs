//! What comes out of a build, for the commands that build: outputs, and images.lock's part in it.

use std::collections::BTreeMap;
use std::io::Write as _;

use fs_err as fs;
use imgforge::images_lock::ImagesLock;
use imgforge::project::{self, Finished};
use imgforge_oci::{Blob, Digest, Image, Ref};

use super::session::{Failure, Session};

/// An image in an output: for one platform, or an index over several.
pub(crate) struct Output {
    /// Its name in images.toml.
    pub(crate) name: String,
    /// Of its manifest or its index.
    pub(crate) digest: Digest,
    /// What a layout calls it.
    pub(crate) reference: Ref,
    /// Its manifests, and the index last if there is one.
    pub(crate) documents: Vec<Blob>,
}

/// The outputs of selected images, whose documents are put into the store. `images` are names and images.
pub(crate) fn outputs(
    session: &Session,
    selected: &[String],
    images: &[(String, Image)],
) -> Result<Vec<Output>, Failure> {
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
pub(crate) fn check_lock(session: &Session, lock: &ImagesLock) -> Result<(), Failure> {
    let folder = &session.project.folder;
    let text = lock.to_text();
    if fs::read_to_string(folder.join("images.lock")).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let draft = tempfile::Builder::new().prefix(".images.lock.").tempfile_in(folder);
    draft
        .and_then(|mut draft| draft.write_all(text.as_bytes()))
        .map_err(|source| Failure::NoLock { folder: folder.clone(), source })
}

/// Tells of paths that several packages have.
pub(crate) fn report_conflicts(session: &Session, finished: &[Finished]) {
    let mut told: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for conflict in finished.iter().flat_map(|finished| &finished.conflicts) {
        let paths = told.entry((&conflict.winner, &conflict.loser)).or_default();
        if !paths.contains(&conflict.path.as_str()) {
            paths.push(&conflict.path);
        }
    }
    for ((winner, loser), paths) in told {
        let more = match paths.len() {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let first = paths.first().copied().unwrap_or_default();
        session.progress.line(&format!("note: {first}{more}: {winner} covers {loser}"));
    }
}

/// How a lock differs from the one that is there, in a few words.
pub(crate) fn difference(session: &Session, lock: &ImagesLock) -> String {
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
