use std::time::Instant;

use imgforge::cache::Vouched;
use imgforge::images_lock::ImagesLock;
use imgforge::project::{Finished, Planned, Prepared, Tools};
use imgforge::push::{self, Asked, Count, Moved, Outgoing, Step};
use imgforge::unit::LayerSpec;
use imgforge::{Error, bases};
use imgforge_oci::{Descriptor, Digest, Image};
use imgforge_registry::Reference;
use serde_json::json;

use super::args::{Global, Push};
use super::build::offer;
use super::format;
use super::outcome::{Output, check_lock, difference, outputs, report_conflicts};
use super::session::{Failure, Session, print, print_json};

pub(crate) fn run(global: &Global, args: Push) -> Result<(), Failure> {
    let start = Instant::now();
    let session = Session::open(global, &args.images.file())?;
    let mut session = session.with_cache(args.cache.repository.as_deref())?;
    if global.offline {
        return Err(Failure::Check("--offline leaves no way to a registry".to_owned()));
    }
    let selected = session.project.select(&args.images.patterns(), args.images.values())?;
    let named: Vec<(String, String)> = selected
        .iter()
        .map(|key| (session.project.name(key).to_owned(), session.project.tag(key).to_owned()))
        .collect();
    let destinations = push::destinations(&args.dest, &named).map_err(Error::from)?;

    if !args.dry_run {
        session.building.clone_from(&selected);
    }
    let mut lock = session.project.lock.clone();
    let prepared = session.with_tools(|tools| session.project.prepare(tools, &mut lock))?;
    if args.locked && !lock.has_same_pins(&session.project.lock) {
        return Err(Error::Locked { difference: difference(&session, &lock) }.into());
    }
    let planned = prepared.plan(&session.project.config)?;
    let mut source = Source {
        session: &session,
        prepared: &prepared,
        planned: &planned,
        selected: &selected,
        vouched: Vouched::by_lock(&session.project.lock),
    };
    let images = match source.recorded(&lock)? {
        Some(images) => {
            // Pins that were out of date are kept, so that they are not looked up each time.
            if !args.dry_run && !args.locked && lock != session.project.lock {
                session.project.write_lock(&lock)?;
            }
            images
        }
        None if args.dry_run => return Err(Failure::Check(
            "images.lock does not say what would come out: run `imgforge build` first, and push what it made"
                .to_owned(),
        )),
        None => source.make(&mut lock, &args, &destinations)?,
    };
    let outputs = outputs(&session, &selected, &images)?;
    for (_, image) in &images {
        session.store.insert(image.manifest().bytes())?;
        session.store.insert(image.config().bytes())?;
    }

    // What was sent is there, and told, also when a later image fails.
    let mut sent = Vec::new();
    let mut outcome = Ok(());
    for (output, to) in outputs.iter().zip(destinations) {
        let (outgoing, moved) = match source.deliver(output, to, &mut lock, args.dry_run) {
            Ok(delivered) => delivered,
            Err(failure) => {
                outcome = Err(failure);
                break;
            }
        };
        session.progress.clear();
        session.progress.line(&format!("{}: {}", outgoing.to, text(&moved, args.dry_run)));
        if !global.json {
            print(&format!("{} {}@{}\n", output.name, outgoing.to, output.digest))?;
        }
        sent.push((output, outgoing, moved));
    }
    if outcome.is_ok() {
        session.progress.line(&format!("done in {}", format::duration(start.elapsed())));
    }
    if global.json && (outcome.is_ok() || !sent.is_empty()) {
        print_json(&as_json(&sent, args.dry_run))?;
    }
    outcome
}

/// Where the bytes of images come from.
struct Source<'a> {
    session: &'a Session,
    prepared: &'a Prepared,
    planned: &'a Planned,
    selected: &'a [String],
    /// Whose layers may stay in the cache.
    vouched: Vouched,
}

impl Source<'_> {
    /// The images as images.lock records them, if it does so for all: then none of their layers has to be here.
    fn recorded(&self, lock: &ImagesLock) -> Result<Option<Vec<(String, Image)>>, Failure> {
        let mut images = Vec::new();
        for (image, layers) in self.prepared.images.iter().zip(&self.planned.images) {
            if !self.selected.contains(&image.name) {
                continue;
            }
            let specs: Vec<&LayerSpec> =
                layers.iter().filter_map(|&layer| self.planned.specs.get(layer)).collect();
            // Where the store knows a layer, images.lock must say the same of it.
            self.session.tools(|tools| {
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
        args: &Push,
        destinations: &[Reference],
    ) -> Result<Vec<(String, Image)>, Failure> {
        if self.session.cache().is_some() {
            for to in destinations {
                let present = push::present(&self.session.registries, to)?;
                present.iter().for_each(|image| self.vouched.and_image(image));
            }
        }
        let finished = self.session.with_tools(|tools| self.finish(tools, lock))?;
        report_conflicts(self.session, &finished);
        if args.locked && *lock != self.session.project.lock {
            return Err(Error::Locked { difference: difference(self.session, lock) }.into());
        }
        check_lock(self.session, lock)?;
        self.session.project.write_lock(lock)?;
        if !args.cache.read_only {
            offer(self.session, self.prepared, &finished)?;
        }
        Ok(finished.into_iter().map(|finished| (finished.name, finished.image)).collect())
    }

    fn finish(&self, tools: &Tools<'_>, lock: &mut ImagesLock) -> Result<Vec<Finished>, Error> {
        let tools = Tools { vouched: Some(&self.vouched), ..*tools };
        self.session.project.make_prepared(&tools, self.prepared, lock, self.selected)
    }

    /// Repositories of the same host that may have what the image consists of: the base's, the cache's, and those that
    /// images went to before.
    fn neighbours(&self, image: &str, host: &str, own: &str) -> Result<Vec<String>, Failure> {
        let images = self.prepared.images.iter().filter(|prepared| prepared.name == image);
        let bases = images.filter_map(|prepared| prepared.base.as_ref()?.reference());
        let mut all: Vec<String> = bases
            .chain(self.session.cache())
            .filter(|reference| reference.host() == host)
            .map(|reference| reference.repository().to_owned())
            .collect();
        all.extend(push::neighbours(&self.session.store, host)?);
        let mut seen = std::collections::BTreeSet::from([own.to_owned()]);
        all.retain(|repository| seen.insert(repository.clone()));
        Ok(all)
    }

    /// Sends an image, or asks what would be sent of it.
    fn deliver(
        &self,
        output: &Output,
        to: Reference,
        lock: &mut ImagesLock,
        dry_run: bool,
    ) -> Result<(Outgoing, Moved), Failure> {
        let outgoing = Outgoing {
            neighbours: self.neighbours(&output.name, to.host(), to.repository())?,
            documents: output.documents.clone(),
            to,
        };
        let moved = match dry_run {
            true => dry(push::ask(&self.session.registries, &outgoing)?),
            false => self.send(&outgoing, lock)?,
        };
        Ok((outgoing, moved))
    }

    fn send(&self, outgoing: &Outgoing, lock: &mut ImagesLock) -> Result<Moved, Failure> {
        let session = self.session;
        let on_step = |Step::Transfer { blob, event }: Step<'_>| {
            let title = format!("sending {}", blob.digest);
            session.progress.sending(&title, blob.size, &event);
        };
        let lock = std::cell::RefCell::new(lock);
        let provide = |lacking: &[Descriptor]| self.provide(lacking, &mut lock.borrow_mut());
        let moved = push::push(&session.registries, &session.store, outgoing, &provide, &on_step)?;
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
        session.tools(|tools| {
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

fn text(moved: &Moved, dry_run: bool) -> String {
    let part = |Count { blobs, bytes }: Count| format!("{blobs} blobs ({})", format::bytes(bytes));
    match dry_run {
        true => format!("{} to send or to mount, {} there", part(moved.sent), part(moved.skipped)),
        false => format!(
            "{} sent, {} mounted, {} there",
            part(moved.sent),
            part(moved.mounted),
            part(moved.skipped)
        ),
    }
}

fn as_json(sent: &[(&Output, Outgoing, Moved)], dry_run: bool) -> serde_json::Value {
    let count = |Count { blobs, bytes }: Count| json!({"blobs": blobs, "bytes": bytes});
    let images: Vec<_> = sent
        .iter()
        .map(|(output, outgoing, moved)| {
            json!({
                "name": output.name,
                "reference": outgoing.to.to_string(),
                "digest": output.digest,
                "sent": count(moved.sent),
                "mounted": count(moved.mounted),
                "skipped": count(moved.skipped),
            })
        })
        .collect();
    json!({"version": 1, "dry_run": dry_run, "images": images})
}
