//! What a build would do, before any of it: which layers would be made, reused, taken and fetched.

use std::collections::BTreeSet;

use imgforge_oci::Digest;

use crate::against::{Layer, Size};
use crate::error::Error;
use crate::project::{Planned, Prepared};
use crate::session::{Observer, Session};
use crate::unit::{LayerSpec, Place};
use crate::workshop::LayerRecord;

/// What becomes of a layer.
#[derive(Clone, Debug)]
pub struct Fate<'a> {
    /// The layer.
    pub spec: &'a LayerSpec,
    /// What the store knows of it.
    pub record: Option<LayerRecord>,
    /// Whether it would come from the cache.
    pub is_taken: bool,
    /// The size that is known, in bytes: of the layer itself, from the cache, or from an earlier build that images.lock
    /// tells of.
    pub size: Option<u64>,
    /// Inputs that are neither in the store nor on this host.
    pub fetch: ToFetch,
}

/// What would come over the network.
#[derive(Clone, Copy, Debug, Default)]
pub struct ToFetch {
    /// Files.
    pub files: usize,
    /// Bytes of those whose size is known.
    pub bytes: u64,
    /// Files whose size no lock tells.
    pub unsized_files: usize,
}

impl ToFetch {
    /// All of it.
    pub fn sum(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::default(), |a, b| Self {
            files: a.files + b.files,
            bytes: a.bytes + b.bytes,
            unsized_files: a.unsized_files + b.unsized_files,
        })
    }
}

impl Fate<'_> {
    /// The layer, for a comparison.
    pub fn layer(&self) -> Layer {
        Layer {
            title: self.spec.title(),
            key: self.spec.key.clone(),
            digest: self.record.as_ref().map(|record| record.digest),
            size: self.size.map_or_else(|| Size::of_inputs(self.spec), Size::Known),
        }
    }

    /// In one or three words.
    pub fn word(&self) -> &'static str {
        match (&self.record, self.fetch.files) {
            (Some(_), _) => "reuse",
            (None, _) if self.is_taken => "take",
            (None, 0) => "make",
            (None, _) => "fetch and make",
        }
    }
}

/// What becomes of each planned layer, in their order.
///
/// # Errors
/// As for any reading of the store, and [`Error::NotReproduced`] for a layer that is another one than images.lock says.
pub fn forecast<'a>(
    session: &Session,
    observer: &Observer<'_>,
    prepared: &Prepared,
    planned: &'a Planned,
) -> Result<Vec<Fate<'a>>, Error> {
    let (records, cached) = session.with_tools(observer, |tools| {
        let workshop = session.project.workshop(tools, prepared);
        let records = workshop.look_up(&planned.specs)?;
        let missing: Vec<_> =
            planned.specs.iter().zip(&records).filter(|(_, record)| record.is_none()).collect();
        let cached = workshop.in_cache(&missing.into_iter().map(|(spec, _)| spec).collect::<Vec<_>>())?;
        Ok((records, cached))
    })?;
    planned
        .specs
        .iter()
        .zip(records)
        .map(|(spec, record)| {
            let locked = session.project.lock.layer(&spec.key).map(|layer| layer.size);
            let taken = cached.get(&spec.key).copied();
            let size = record.as_ref().map(|record| record.size).or(taken).or(locked);
            let fetch = match (&record, taken) {
                (None, None) => to_fetch(session, spec, &mut BTreeSet::new())?,
                _ => ToFetch::default(),
            };
            Ok(Fate { spec, record, is_taken: taken.is_some(), size, fetch })
        })
        .collect()
}

/// The inputs of a layer that would come over the network, but for those that were seen.
///
/// # Errors
/// As for any reading of the store, and [`Error::Digest`].
pub fn to_fetch(session: &Session, spec: &LayerSpec, seen: &mut BTreeSet<Digest>) -> Result<ToFetch, Error> {
    let vendor = session.project.folder.join(&session.project.config.settings.vendor);
    let mut fetch = ToFetch::default();
    for input in spec.units.iter().flat_map(|unit| unit.inputs()) {
        let digest = Digest::from_hex(&input.sha256).map_err(Error::Digest)?;
        let here = !seen.insert(digest)
            || vendor.join(&input.file).is_file()
            || matches!(&input.place, Place::Path(path) if path.is_file())
            || session.store.contains(&digest)?;
        if !here {
            fetch.files += 1;
            fetch.bytes += input.size.unwrap_or(0);
            fetch.unsized_files += usize::from(input.size.is_none());
        }
    }
    Ok(fetch)
}
