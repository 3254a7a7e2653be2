//! What passes between the workshop and the cache: layers that others have made, and layers for them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use imgforge_oci::Digest;
use serde::{Deserialize, Serialize};

use super::{LayerRecord, Made, Progress, Workshop, bucket, lock};
use crate::cache::{Cache, TRANSFERS};
use crate::error::Error;
use crate::unit::{self, Input, LayerSpec, Place, Recipe};

impl Workshop<'_> {
    /// Takes from the cache what it has of layers that are missing.
    pub(super) fn take(
        &self,
        cache: &Cache<'_>,
        specs: &[LayerSpec],
        missing: &[usize],
    ) -> Result<Vec<(usize, Made)>, Error> {
        let taken = Mutex::new(Vec::new());
        let work = |index: &usize| -> Result<(), Error> {
            let Some(spec) = specs.get(*index) else { return Ok(()) };
            match self.take_one(cache, spec) {
                Ok(Some(made)) => {
                    (self.on_progress)(match made.is_here {
                        true => Progress::Taken(spec, &made.record),
                        false => Progress::Found(spec, &made.record),
                    });
                    lock(&taken).push((*index, made));
                    Ok(())
                }
                Ok(None) => Ok(()),
                // What the cache can't give is made, as if there were none.
                Err(error @ (Error::Cache { .. } | Error::Oci(_))) => {
                    (self.on_progress)(Progress::CacheTrouble(&error));
                    Ok(())
                }
                Err(error) => Err(error),
            }
        };
        imgforge_http::in_parallel(TRANSFERS, &AtomicBool::new(false), missing, |_| false, work)?;
        Ok(taken.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    fn take_one(&self, cache: &Cache<'_>, spec: &LayerSpec) -> Result<Option<Made>, Error> {
        let Some(entry) = cache.look_up(self.store, &spec.key)? else { return Ok(None) };
        if entry.record.media_type != spec.codec.media_type() {
            return Err(cache.wrong(&spec.key, "its layer is stored in another way than planned"));
        }
        if let Some(before) = self.lock.layer(&spec.key) {
            let (cached, locked) = (entry.record.digest, before.digest);
            let same = (before.diff_id, before.size) == (entry.record.diff_id, entry.record.size);
            if cached != locked || !same {
                return Err(cache.disagrees(&spec.key, locked, cached));
            }
        }
        let made = |record, is_here| Made { record, made_in: None, is_taken: true, is_here };
        if let Some(vouched) = self.vouched
            && !self.store.contains(&entry.record.digest)?
            && cache.is_vouched_for(self.store, spec, &entry, vouched)?
        {
            return Ok(Some(made(entry.record, false)));
        }
        let on_event = |event: imgforge_registry::Event<'_>| {
            (self.on_progress)(Progress::Taking(spec, &entry.record, event));
        };
        cache.fetch(self.store, &spec.key, &entry, &on_event)?;
        let record = entry.record;
        self.store.put_record(&bucket(), &spec.key, &record, &[record.digest, record.listing])?;
        Ok(Some(made(record, true)))
    }

    /// Fetches from the cache what builds of other hosts have made, of inputs that are not in the store.
    pub(super) fn fetch_built(&self, inputs: &[Input]) -> Result<(), Error> {
        let Some(cache) = self.cache else { return Ok(()) };
        let mut absent: BTreeMap<Digest, &Input> = BTreeMap::new();
        for input in inputs {
            let digest = unit::digest(&input.sha256)?;
            // A wheel that was built is in the store, or will be.
            let is_built = match &input.place {
                Place::Built => true,
                Place::Path(path) => *path == self.store.blob_path(&digest),
                Place::Url(_) | Place::Mirror(_) => false,
            };
            if is_built && !self.store.contains(&digest)? {
                absent.insert(digest, input);
            }
        }
        let absent: Vec<(Digest, &Input)> = absent.into_iter().collect();
        let work = |(digest, input): &(Digest, &Input)| -> Result<(), Error> {
            let size = input.size.unwrap_or(0);
            let on_event = |event: imgforge_registry::Event<'_>| {
                let (title, digest) = (&input.title, *digest);
                (self.on_progress)(Progress::Transfer { title, digest, size, event });
            };
            cache.fetch_result(self.store, *digest, size, &on_event)
        };
        imgforge_http::in_parallel(TRANSFERS, &AtomicBool::new(false), &absent, |_| false, work)
    }

    /// Puts layers into the cache that it lacks. A layer that it had within the last day is not asked for. Nothing depends
    /// on it: what fails is told as [`Progress::CacheTrouble`]. The bytes that were sent are returned.
    ///
    /// # Errors
    /// As for any reading and writing in the store.
    pub fn offer(&self, made: &[(LayerSpec, Made)]) -> Result<u64, Error> {
        let Some(cache) = self.cache else { return Ok(0) };
        let bucket = format!("cached/{}", Digest::of(cache.reference().to_string().as_bytes()).hex());
        let mut offered = Vec::new();
        for (spec, made) in made {
            if made.is_taken || offered.iter().any(|(other, _): &(&LayerSpec, _)| other.key == spec.key) {
                continue;
            }
            let known: Option<Cached> = self.store.record(&bucket, &spec.key)?;
            if !known.is_some_and(|known| known.holds(made.record.digest, self.now)) {
                offered.push((spec, &made.record));
            }
        }
        offered.sort_by_key(|(spec, record)| (std::cmp::Reverse(record.size), spec.key.clone()));
        let sent = AtomicU64::new(0);
        let work = |(spec, record): &(&LayerSpec, &LayerRecord)| -> Result<(), Error> {
            if cache.is_lost() {
                return Ok(());
            }
            match cache.offer(self.store, &spec.key, record) {
                Ok(bytes) => {
                    sent.fetch_add(bytes, Ordering::Relaxed);
                    let cached = Cached { digest: record.digest, seen: self.now };
                    Ok(self.store.put_record(&bucket, &spec.key, &cached, &[])?)
                }
                // Nothing depends on it, and the images are there.
                Err(error) => {
                    (self.on_progress)(Progress::CacheTrouble(&error));
                    Ok(())
                }
            }
        };
        imgforge_http::in_parallel(TRANSFERS, &AtomicBool::new(false), &offered, |_| false, work)?;
        // And what scripts came to, so that others need not run them to know which layer it is.
        for unit in offered.iter().flat_map(|(spec, _)| &spec.units) {
            let Recipe::Built(built) = &unit.recipe else { continue };
            let Some(key) = &built.derived else { continue };
            if cache.is_lost() || !self.store.contains(&built.digest)? {
                continue;
            }
            match cache.offer_derived(self.store, key, built.digest, built.size) {
                Ok(bytes) => _ = sent.fetch_add(bytes, Ordering::Relaxed),
                Err(error) => (self.on_progress)(Progress::CacheTrouble(&error)),
            }
        }
        Ok(sent.into_inner())
    }

    /// What the cache has of some layers: bytes by key.
    ///
    /// # Errors
    /// As for any reading of the store. What is wrong with the cache is told as [`Progress::CacheTrouble`].
    pub fn in_cache(&self, specs: &[&LayerSpec]) -> Result<BTreeMap<String, u64>, Error> {
        let Some(cache) = self.cache else { return Ok(BTreeMap::new()) };
        let found = Mutex::new(BTreeMap::new());
        let work = |spec: &&LayerSpec| -> Result<(), Error> {
            match cache.size(&spec.key) {
                Ok(size) => lock(&found).extend(size.map(|size| (spec.key.clone(), size))),
                Err(error @ (Error::Cache { .. } | Error::Oci(_))) => {
                    (self.on_progress)(Progress::CacheTrouble(&error));
                }
                Err(error) => return Err(error),
            }
            Ok(())
        };
        imgforge_http::in_parallel(TRANSFERS, &AtomicBool::new(false), specs, |_| false, work)?;
        Ok(found.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

/// What the store knows of a layer in the cache.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Cached {
    digest: Digest,
    /// When it was there, in seconds since 1970.
    seen: u64,
}

impl Cached {
    /// Whether it is taken to be there still. Its owner may empty a cache at any time; so each layer is asked for again
    /// after a day.
    fn holds(&self, digest: Digest, now: u64) -> bool {
        self.digest == digest && (self.seen..self.seen.saturating_add(24 * 60 * 60)).contains(&now)
    }
}
