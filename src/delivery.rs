//! Images on their way to a registry, from wherever they are: recorded, in a cache, or not made yet.
//!
//! [`push`](crate::push) knows what a registry is sent, and in which order. Here is decided where the bytes come from, so
//! that what the registry has needs not be on this host.

use std::cell::RefCell;
use std::collections::BTreeSet;

use imgforge_oci::{Descriptor, Digest, Image};
use imgforge_registry::Reference;

use crate::bases;
use crate::build::offer;
use crate::cache::Vouched;
use crate::error::Error;
use crate::images_lock::ImagesLock;
use crate::outcome::{self, Output, check_lock, outputs};
use crate::project::{Finished, Planned, Prepared, Tools};
use crate::push::{self, Asked, Count, Moved, Outgoing};
use crate::session::{Observer, Session};
use crate::unit::LayerSpec;

/// What is to be sent, and where.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Keys of images, as [`Project::select`](crate::project::Project::select) gives them.
    pub images: &'a [String],
    /// As [`push::destinations`] takes it.
    pub to: &'a str,
    /// Send nothing; ask what would be sent.
    pub dry_run: bool,
    /// Fail if images.lock would change.
    pub locked: bool,
    /// Send nothing to the cache.
    pub takes_only: bool,
}

/// An image that was sent.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The image.
    pub output: Output,
    /// Where it is.
    pub to: Reference,
    /// What became of its bytes.
    pub moved: Moved,
}

/// What a delivery tells beside its progress.
pub enum Step<'a> {
    /// Images had to be made first.
    Finished(&'a [Finished]),
    /// So many bytes were sent to the cache.
    Offered(u64),
    /// Part of a blob's way to the registry.
    Transfer(push::Step<'a>),
    /// An image is there, also if a later one fails.
    Delivered(&'a Delivered),
}

/// Called with each step, of transfers from many threads.
pub type OnStep<'a> = &'a (dyn Fn(Step<'_>) + Sync);

/// Sends images, and makes what of them is nowhere. [`Session::building`] says whose artifacts are built for that.
///
/// # Errors
/// [`Error::Destination`], [`Error::NotRecorded`], whatever stands in the way of making an image, and what a registry says.
pub fn deliver(
    session: &Session,
    observer: &Observer<'_>,
    request: &Request<'_>,
    on_step: OnStep<'_>,
) -> Result<(), Error> {
    if session.offline {
        return Err(Error::OfflinePush);
    }
    let named: Vec<(String, String)> = request
        .images
        .iter()
        .map(|key| (session.project.name(key).to_owned(), session.project.tag(key).to_owned()))
        .collect();
    let destinations = push::destinations(request.to, &named)?;
    let mut lock = session.project.lock.clone();
    let prepared = session.with_tools(observer, |tools| session.project.prepare(tools, &mut lock))?;
    if request.locked {
        outcome::same_pins(session, &lock)?;
    }
    let planned = prepared.plan(&session.project.config)?;
    let mut source = Source {
        session,
        observer,
        request,
        on_step,
        prepared: &prepared,
        planned: &planned,
        vouched: Vouched::by_lock(&session.project.lock),
    };
    let images = match source.recorded(&lock)? {
        Some(images) => {
            // Pins that were out of date are kept, so that they are not looked up each time.
            if !request.dry_run && !request.locked && lock != session.project.lock {
                session.project.write_lock(&lock)?;
            }
            images
        }
        None if request.dry_run => return Err(Error::NotRecorded),
        None => source.make(&mut lock, &destinations)?,
    };
    let outputs = outputs(session, request.images, &images)?;
    for (_, image) in &images {
        session.store.insert(image.manifest().bytes())?;
        session.store.insert(image.config().bytes())?;
    }
    for (output, to) in outputs.into_iter().zip(destinations) {
        let delivered = source.deliver(output, to, &mut lock)?;
        on_step(Step::Delivered(&delivered));
    }
    Ok(())
}

/// Where the bytes of images come from.
struct Source<'a> {
    session: &'a Session,
    observer: &'a Observer<'a>,
    request: &'a Request<'a>,
    on_step: OnStep<'a>,
    prepared: &'a Prepared,
    planned: &'a Planned,
    /// Whose layers may stay in the cache.
    vouched: Vouched,
}

impl Source<'_> {
    /// The images as images.lock records them, if it does so for all: then none of their layers has to be here.
    fn recorded(&self, lock: &ImagesLock) -> Result<Option<Vec<(String, Image)>>, Error> {
        let mut images = Vec::new();
        for (image, layers) in self.prepared.images.iter().zip(&self.planned.images) {
            if !self.request.images.contains(&image.name) {
                continue;
            }
            let specs: Vec<&LayerSpec> =
                layers.iter().filter_map(|&layer| self.planned.specs.get(layer)).collect();
            // Where the store knows a layer, images.lock must say the same of it.
            self.session.with_tools(self.observer, |tools| {
                let workshop = self.session.project.workshop(tools, self.prepared);
                let owned: Vec<LayerSpec> = specs.iter().copied().cloned().collect();
                workshop.look_up(&owned)
            })?;
            match self.session.project.recorded(image, &specs, lock)? {
                Some(described) => images.push((image.name.clone(), described)),
                None => return Ok(None),
            }
        }
        Ok(Some(images))
    }

    /// Makes the images, and writes down what came out. Layers that the cache has, and that somebody vouches for, stay
    /// there.
    fn make(
        &mut self,
        lock: &mut ImagesLock,
        destinations: &[Reference],
    ) -> Result<Vec<(String, Image)>, Error> {
        if self.session.cache().is_some() {
            for to in destinations {
                let present = push::present(&self.session.registries, to)?;
                present.iter().for_each(|image| self.vouched.and_image(image));
            }
        }
        let finished = self.session.with_tools(self.observer, |tools| self.finish(tools, lock))?;
        (self.on_step)(Step::Finished(&finished));
        if self.request.locked {
            outcome::same_lock(self.session, lock)?;
        }
        check_lock(self.session, lock)?;
        self.session.project.write_lock(lock)?;
        if !self.request.takes_only {
            let sent = offer(self.session, self.observer, self.prepared, &finished)?;
            (self.on_step)(Step::Offered(sent));
        }
        Ok(finished.into_iter().map(|finished| (finished.name, finished.image)).collect())
    }

    fn finish(&self, tools: &Tools<'_>, lock: &mut ImagesLock) -> Result<Vec<Finished>, Error> {
        let tools = Tools { vouched: Some(&self.vouched), ..*tools };
        self.session.project.make_prepared(&tools, self.prepared, lock, self.request.images)
    }

    /// Repositories of the same host that may have what the image consists of: the base's, the cache's, and those that
    /// images went to before.
    fn neighbours(&self, image: &str, host: &str, own: &str) -> Result<Vec<String>, Error> {
        let images = self.prepared.images.iter().filter(|prepared| prepared.name == image);
        let bases = images.filter_map(|prepared| prepared.base.as_ref()?.reference());
        let mut all: Vec<String> = bases
            .chain(self.session.cache())
            .filter(|reference| reference.host() == host)
            .map(|reference| reference.repository().to_owned())
            .collect();
        all.extend(push::neighbours(&self.session.store, host)?);
        let mut seen = BTreeSet::from([own.to_owned()]);
        all.retain(|repository| seen.insert(repository.clone()));
        Ok(all)
    }

    /// Sends an image, or asks what would be sent of it.
    fn deliver(&self, output: Output, to: Reference, lock: &mut ImagesLock) -> Result<Delivered, Error> {
        let outgoing = Outgoing {
            neighbours: self.neighbours(&output.name, to.host(), to.repository())?,
            documents: output.documents.clone(),
            to,
        };
        let moved = match self.request.dry_run {
            true => dry(push::ask(&self.session.registries, &outgoing)?),
            false => self.send(&outgoing, lock)?,
        };
        Ok(Delivered { output, to: outgoing.to, moved })
    }

    fn send(&self, outgoing: &Outgoing, lock: &mut ImagesLock) -> Result<Moved, Error> {
        let session = self.session;
        let lock = RefCell::new(lock);
        let provide = |lacking: &[Descriptor]| self.provide(lacking, &mut lock.borrow_mut());
        let on_step = |step: push::Step<'_>| (self.on_step)(Step::Transfer(step));
        let moved =
            push::push(&session.registries, &session.store, outgoing, self.observer.stop, &provide, &on_step);
        Error::unless_stopped(self.observer.stop)?;
        let moved = moved?;
        push::remember(&session.store, &outgoing.to)?;
        Ok(moved)
    }

    /// Sees to it that blobs are in the store: layers of bases are fetched, our own are made.
    fn provide(&self, lacking: &[Descriptor], lock: &mut ImagesLock) -> Result<(), Error> {
        let missing = |digest: &Digest| -> Result<bool, Error> {
            Ok(lacking.iter().any(|blob| blob.digest == *digest) && !self.session.store.contains(digest)?)
        };
        let any_missing = || -> Result<bool, Error> {
            lacking.iter().try_fold(false, |any, blob| Ok(any || missing(&blob.digest)?))
        };
        if !any_missing()? {
            return Ok(());
        }
        let session = self.session;
        session.with_tools(self.observer, |tools| {
            for base in self.prepared.images.iter().filter_map(|image| image.base.as_ref()) {
                let wanted = |layer: &Descriptor| lacking.iter().any(|blob| blob.digest == layer.digest);
                bases::fetch_layers(base, tools, &wanted)?;
            }
            let mut specs = Vec::new();
            for spec in &self.planned.specs {
                if let Some(before) = lock.layer(&spec.key)
                    && missing(&before.digest)?
                {
                    specs.push(spec.clone());
                }
            }
            let workshop = session.project.workshop(tools, self.prepared);
            workshop.make(&specs)?;
            // What settles disputes is not planned: which layers do, follows from all the others.
            if any_missing()? {
                let mut specs = Vec::new();
                for (spec, made) in self.finish(tools, lock)?.into_iter().flat_map(|image| image.layers) {
                    if missing(&made.record.digest)? {
                        specs.push(spec);
                    }
                }
                workshop.make(&specs)?;
            }
            Ok(())
        })
    }
}

/// What would be moved.
fn dry(asked: Asked) -> Moved {
    let Asked { mut moved, lacking, .. } = asked;
    moved.sent = Count { blobs: lacking.len(), bytes: lacking.iter().map(|blob| blob.size).sum() };
    moved
}
