//! A build as a whole: images made, outputs written, images.lock last.
//!
//! What is refused is refused before anything is made, and an output is begun when all that it consists of is in the
//! store. So whoever ends a build finds either the outputs of before or new ones, whole.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use imgforge_oci::{Descriptor, DiffId, Digest, Image, Ref, archive, docker_archive, layout};

use crate::artifacts::{self, Resolved};
use crate::error::Error;
use crate::outcome::{self, Output, check_lock, outputs};
use crate::project::{Finished, Prepared};
use crate::session::{Observer, Session};

/// What is to be built, and where it goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// Keys of images, as [`Project::select`](crate::project::Project::select) gives them.
    pub images: &'a [String],
    /// Fail if images.lock would change.
    pub locked: bool,
    /// Leave images.lock as it is: the outcome of other settings than the file's is not its outcome.
    pub keeps_lock: bool,
    /// Send nothing to the cache.
    pub takes_only: bool,
    /// A layout folder.
    pub layout: Option<&'a Path>,
    /// An archive of a layout.
    pub archive: Option<&'a Path>,
    /// An archive for `docker load`.
    pub docker_archive: Option<&'a Path>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Built {
    /// As outputs have them.
    pub outputs: Vec<Output>,
    /// Each for one platform.
    pub finished: Vec<Finished>,
    /// What was built for them.
    pub artifacts: Vec<Resolved>,
}

/// What a build tells beside its progress.
pub enum Step<'a> {
    /// Images are made, and not written yet.
    Finished(&'a [Finished]),
    /// An output is being written.
    Writing(&'a Path),
    /// It is there, or has failed.
    Written(&'a Path),
    /// Blobs that nothing refers to were left in a layout, for this reason.
    NotRemoved(&'a Path, String),
    /// So many bytes were sent to the cache.
    Offered(u64),
}

/// Makes images and writes them. [`Session::building`] says whose artifacts are built for that.
///
/// # Errors
/// Whatever stands in the way of a layer, an image or an output. [`Error::HalfDone`] when some outputs are there already.
pub fn build(
    session: &Session,
    observer: &Observer<'_>,
    request: &Request<'_>,
    on_step: &dyn Fn(Step<'_>),
) -> Result<Built, Error> {
    for file in request.archive.iter().chain(&request.docker_archive) {
        check_target(file)?;
    }
    let selected = request.images;
    if let (Some(_), [_, _, ..], Some(image)) =
        (request.docker_archive, session.project.platforms().as_slice(), selected.first())
    {
        return Err(Error::Platforms { image: image.clone() });
    }
    let mut lock = session.project.lock.clone();
    let prepared = session.with_tools(observer, |tools| session.project.prepare(tools, &mut lock))?;
    // Pins that are out of date are told before anything is made of them.
    if request.locked {
        outcome::same_pins(session, &lock)?;
    }
    let finished = session
        .with_tools(observer, |tools| session.project.make_prepared(tools, &prepared, &mut lock, selected))?;
    on_step(Step::Finished(&finished));

    let images: Vec<(String, Image)> =
        finished.iter().map(|finished| (finished.name.clone(), finished.image.clone())).collect();
    let outputs = outputs(session, selected, &images)?;
    if request.locked {
        outcome::same_lock(session, &lock)?;
    }
    if !request.keeps_lock {
        check_lock(session, &lock)?;
    }
    fetch_bases(session, observer, &finished, request)?;
    write(session, request, &outputs, &finished, on_step, || match request.keeps_lock {
        true => Ok(false),
        false => session.project.write_lock(&lock),
    })?;
    if !request.takes_only {
        on_step(Step::Offered(offer(session, observer, &prepared, &finished)?));
    }
    Ok(Built { outputs, finished, artifacts: prepared.artifacts })
}

/// Puts what was made into the cache, if there is one. The result is the bytes that were sent.
///
/// # Errors
/// As for any reading of the store. What the cache does wrong is no error.
pub fn offer(
    session: &Session,
    observer: &Observer<'_>,
    prepared: &Prepared,
    finished: &[Finished],
) -> Result<u64, Error> {
    let built = prepared.artifacts.iter().flat_map(|artifact| &artifact.layers);
    let layers = finished.iter().flat_map(|finished| &finished.layers).chain(built);
    let layers: Vec<_> = layers.cloned().collect();
    session.with_tools(observer, |tools| {
        let artifacts = artifacts::offer(tools, &prepared.artifacts)?;
        Ok(artifacts + session.project.workshop(tools, prepared).offer(&layers)?)
    })
}

/// Writes the outputs, and images.lock last, because it says what outputs there are.
fn write(
    session: &Session,
    request: &Request<'_>,
    outputs: &[Output],
    finished: &[Finished],
    on_step: &dyn Fn(Step<'_>),
    write_lock: impl FnOnce() -> Result<bool, Error>,
) -> Result<(), Error> {
    let refs: Vec<Ref> = outputs.iter().map(|output| output.reference.clone()).collect();
    let path_of = |digest: &Digest| session.store.blob_path(digest);
    let mut written = Vec::new();
    if let Some(file) = request.archive {
        told(file, on_step, || archive::write_file(file, &refs, &path_of))?;
        written.push(file.display().to_string());
    }
    if let Some(file) = request.docker_archive {
        let result = told(file, on_step, || write_docker_archive(file, outputs, finished, &path_of));
        after(&written, &file.display().to_string(), result)?;
        written.push(file.display().to_string());
    }
    if let Some(folder) = request.layout {
        let name = folder.display().to_string();
        let result = told(folder, on_step, || layout::write(folder, &refs, &path_of)).map(|done| {
            if let Some(reason) = done.not_removed {
                on_step(Step::NotRemoved(folder, reason.to_string()));
            }
        });
        after(&written, &name, result)?;
        written.push(name);
    }
    after(&written, "images.lock", write_lock().map(drop))
}

/// Writes an output, and tells of it.
fn told<T>(path: &Path, on_step: &dyn Fn(Step<'_>), write: impl FnOnce() -> T) -> T {
    on_step(Step::Writing(path));
    let result = write();
    on_step(Step::Written(path));
    result
}

/// Writes the archive that `docker load` takes, where an image is for one platform.
fn write_docker_archive(
    file: &Path,
    outputs: &[Output],
    finished: &[Finished],
    path_of: &(dyn Fn(&Digest) -> PathBuf + Sync),
) -> Result<(), Error> {
    let mut images = Vec::new();
    for output in outputs {
        let platforms: Vec<&Finished> =
            finished.iter().filter(|finished| finished.name == output.name).collect();
        let [only] = platforms.as_slice() else {
            return Err(Error::Platforms { image: output.name.clone() });
        };
        images.push(docker_archive::Named {
            image: &only.image,
            names: vec![output.reference.name().to_owned()],
        });
    }
    let records = || finished.iter().flat_map(|finished| &finished.layers).map(|(_, made)| &made.record);
    let tar_size =
        |diff_id: &DiffId| records().find(|record| record.diff_id == *diff_id).map(|record| record.tar_size);
    Ok(docker_archive::write_file(file, &images, path_of, &tar_size)?)
}

/// Fetches those layers of bases that an output lacks: an archive has all of them, a layout may have some from before.
fn fetch_bases(
    session: &Session,
    observer: &Observer<'_>,
    finished: &[Finished],
    request: &Request<'_>,
) -> Result<(), Error> {
    let has_archive = request.archive.is_some() || request.docker_archive.is_some();
    let holds = |layer: &Descriptor| match request.layout {
        Some(layout) if !has_archive => layout::holds(layout, layer),
        _ => Ok(false),
    };
    let mut lacking = BTreeSet::new();
    for base in finished.iter().filter_map(|finished| finished.base.as_ref()) {
        for layer in base.layers() {
            // Looked at in any case: what the store has would be taken before what the layout has.
            let is_here = session.store.contains(&layer.digest)?;
            if !is_here && !holds(&layer)? {
                lacking.insert(layer.digest);
            }
        }
    }
    let lacks = |layer: &Descriptor| lacking.contains(&layer.digest);
    session.with_tools(observer, |tools| session.project.fetch_base_layers(tools, finished, &lacks))
}

/// Refuses an archive that can't be put where it is to be, before hours are spent on what is in it.
fn check_target(file: &Path) -> Result<(), Error> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match folder.is_dir() {
        true => Ok(()),
        false => Err(Error::NoFolder { folder: folder.to_owned(), file: file.to_owned() }),
    }
}

/// Passes the outcome of writing `what` on; its failure says which outputs are there already.
fn after<E: Into<Error>>(written: &[String], what: &str, outcome: Result<(), E>) -> Result<(), Error> {
    outcome.map_err(Into::into).map_err(|source| match written {
        [] => source,
        written => {
            Error::HalfDone { what: what.to_owned(), written: written.to_vec(), source: Box::new(source) }
        }
    })
}
