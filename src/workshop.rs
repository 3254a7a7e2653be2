//! Making layers: look up, fetch, convert, store.
//!
//! Each layer is looked up by its key first. For those that are not there, inputs are fetched on the connections'
//! threads, the ones of large layers first, and a layer is made on rayon's as soon as its inputs are there. Layers whose
//! inputs are there already are made largest first, so that no thread is left alone with a large one at the end. A piece of
//! work is done once, also by two processes: who finds it under way elsewhere turns to the next layer and waits for the
//! others' at the end, holding nothing. `exchange.rs` has what passes between the workshop and the cache.

mod exchange;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use imgforge_layer::{Kind, LAYER_FORMAT, Source, Tree, TreePath, write_layer};
use imgforge_oci::{DiffId, Digest};
use imgforge_store::Store;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::cache::{Cache, Vouched};
use crate::error::Error;
use crate::fetch::{Event, Fetcher, Request};
use crate::images_lock::ImagesLock;
use crate::unit::{self, Input, LayerSpec, Unit};

/// What the store knows of a layer, by its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Of the compressed bytes.
    pub digest: Digest,
    /// Bytes, compressed.
    pub size: u64,
    /// Of the tar stream.
    pub diff_id: DiffId,
    /// Bytes of the tar stream.
    pub tar_size: u64,
    /// Its media type.
    pub media_type: String,
    /// The blob with its [`Listing`].
    pub listing: Digest,
}

/// A layer that is in the store, or that is known without its bytes.
#[derive(Clone, Debug)]
pub struct Made {
    /// What it is.
    pub record: LayerRecord,
    /// How long it took to make; `None` when it was there.
    pub made_in: Option<Duration>,
    /// Whether it came from the cache just now.
    pub is_taken: bool,
    /// Whether its bytes are in the store. They are not where [`Workshop::vouched`] made them unnecessary; its listing is.
    pub is_here: bool,
}

impl Made {
    /// A layer that was there.
    pub const fn known(record: LayerRecord) -> Self {
        Self { record, made_in: None, is_taken: false, is_here: true }
    }
}

/// What happens in the workshop, for whoever shows it.
#[derive(Debug)]
pub enum Progress<'a> {
    /// These images are going to be made, each of layers; by the names that outputs have for them.
    Images(&'a [(String, Vec<&'a LayerSpec>)]),
    /// A layer is in the store already, or was made by another process.
    Known(&'a LayerSpec, &'a LayerRecord),
    /// So many layers are to be made, from so many bytes of inputs.
    Planned {
        /// Layers that are not in the store.
        layers: usize,
        /// Bytes of their inputs, as far as they are known.
        bytes: u64,
    },
    /// Something happens to a download.
    Fetch(&'a Request, Event<'a>),
    /// A layer is being made.
    Making(&'a LayerSpec),
    /// So many bytes more of a layer are written, compressed.
    Written(&'a LayerSpec, u64),
    /// A layer is in the store.
    Made(&'a LayerSpec, &'a LayerRecord),
    /// Another process makes a layer, and is waited for.
    Waiting(&'a LayerSpec, Option<u32>),
    /// Something happens to a layer of a base that is on its way here.
    Transfer {
        /// What it is called.
        title: &'a str,
        /// Of its bytes.
        digest: Digest,
        /// Its bytes.
        size: u64,
        /// What happens to it.
        event: imgforge_registry::Event<'a>,
    },
    /// Something happens to a layer that is on its way here from the cache.
    Taking(&'a LayerSpec, &'a LayerRecord, imgforge_registry::Event<'a>),
    /// A layer came from the cache.
    Taken(&'a LayerSpec, &'a LayerRecord),
    /// A layer is in the cache, and stays there until its bytes are needed.
    Found(&'a LayerSpec, &'a LayerRecord),
    /// An artifact is being built; its key for a person.
    Building(&'a str),
    /// A build has printed a line: the artifact's name, and the line.
    BuildLine(&'a str, &'a [u8]),
    /// An artifact was built.
    Built(&'a str, &'a imgforge_artifact::receipt::Receipt),
    /// An artifact came from the cache.
    TakenArtifact(&'a imgforge_artifact::receipt::Receipt),
    /// Something about the cache failed, and is done without it.
    CacheTrouble(&'a Error),
}

/// Called with each event, from many threads.
pub type OnProgress<'a> = &'a (dyn Fn(Progress<'_>) + Sync);

/// Makes layers.
pub struct Workshop<'a> {
    /// Where everything is kept.
    pub store: &'a Store,
    /// Gets what is not there.
    pub fetcher: &'a Fetcher,
    /// URLs of the Debian mirrors.
    pub mirrors: &'a [String],
    /// The outcome of earlier builds, which this one must repeat.
    pub lock: &'a ImagesLock,
    /// Layers that others have made.
    pub cache: Option<&'a Cache<'a>>,
    /// Now, in seconds since 1970.
    pub now: u64,
    /// Whose layers may stay in the cache. Without it, all layers are to be in the store.
    pub vouched: Option<&'a Vouched>,
    /// Set by somebody who wants no more of it: no layer is begun any more, and those under way are left.
    pub stop: &'a AtomicBool,
    /// Who is told.
    pub on_progress: OnProgress<'a>,
}

impl Workshop<'_> {
    /// Sees to it that all layers are in the store, or known where [`vouched`](Self::vouched) is enough, and returns what
    /// they are, in the same order.
    ///
    /// # Errors
    /// The first failure, in the order of the layers; those that are under way are finished before.
    pub fn make(&self, specs: &[LayerSpec]) -> Result<Vec<Made>, Error> {
        let found = self.look_up(specs)?;
        for (spec, record) in specs.iter().zip(&found) {
            if let Some(record) = record {
                (self.on_progress)(Progress::Known(spec, record));
            }
        }
        let mut missing: Vec<usize> =
            found.iter().enumerate().filter(|(_, found)| found.is_none()).map(|(index, _)| index).collect();
        let mut made: Vec<Option<Made>> = found.into_iter().map(|record| record.map(Made::known)).collect();
        if let Some(cache) = self.cache.filter(|_| !missing.is_empty()) {
            for (index, taken) in self.take(cache, specs, &missing)? {
                missing.retain(|other| *other != index);
                if let Some(place) = made.get_mut(index) {
                    *place = Some(taken);
                }
            }
        }
        if !missing.is_empty() {
            let weights: BTreeMap<usize, u64> =
                missing.iter().filter_map(|&index| Some((index, self.weight(specs.get(index)?)))).collect();
            missing.sort_by_key(|index| std::cmp::Reverse(weights.get(index)));
            let bytes = weights.values().sum();
            (self.on_progress)(Progress::Planned { layers: missing.len(), bytes });
            for (index, result) in self.make_missing(specs, &missing)? {
                if let Some(place) = made.get_mut(index) {
                    *place = Some(result);
                }
            }
        }
        Ok(made.into_iter().flatten().collect())
    }

    /// The records of those layers that are in the store.
    ///
    /// # Errors
    /// As for any reading of the store.
    pub fn look_up(&self, specs: &[LayerSpec]) -> Result<Vec<Option<LayerRecord>>, Error> {
        specs.par_iter().map(|spec| self.record(spec)).collect()
    }

    /// Fetches what units are made from.
    ///
    /// # Errors
    /// [`Error::Fetch`].
    pub fn fetch(&self, units: &[Arc<Unit>]) -> Result<(), Error> {
        let inputs: Vec<Input> = units.iter().flat_map(|unit| unit.inputs()).collect();
        self.fetch_inputs(&inputs)
    }

    /// Fetches files that units are made from.
    ///
    /// # Errors
    /// [`Error::Fetch`].
    pub fn fetch_inputs(&self, inputs: &[Input]) -> Result<(), Error> {
        self.fetch_built(inputs)?;
        let requests = self.requests(inputs.iter().cloned())?;
        // Its own, since a failure sets it.
        let stop = AtomicBool::new(false);
        let on_event = |request: &Request, event: Event<'_>| {
            stop.fetch_or(self.stop.load(Ordering::Relaxed), Ordering::Relaxed);
            (self.on_progress)(Progress::Fetch(request, event));
        };
        Ok(self.fetcher.fetch_all_until(&stop, self.store, &requests, &on_event)?)
    }

    /// What is in a layer, unit by unit.
    ///
    /// # Errors
    /// As for any reading of the store, or when the listing is not one.
    pub fn listing(&self, record: &LayerRecord) -> Result<Listing, Error> {
        let text = io::read_to_string(self.store.open_blob(&record.listing)?)?;
        Listing::parse(&text)
    }

    /// Opens an input that is in the store.
    ///
    /// # Errors
    /// As for any reading of the store.
    pub fn open(&self, digest: Digest) -> Result<Arc<Source>, Error> {
        let file = self.store.open_blob(&digest)?;
        Ok(Arc::new(Source::from_file(file, self.store.blob_path(&digest))?))
    }

    /// Where unlinked scratch files are made.
    pub fn scratch(&self) -> PathBuf {
        self.store.root().join("tmp")
    }

    /// Writes a tree as a layer into the store.
    ///
    /// # Errors
    /// [`Error::Layer`], or as for any writing to the store.
    pub fn write(&self, spec: &LayerSpec, tree: &Tree, listing: &Listing) -> Result<LayerRecord, Error> {
        let mut writer = self.store.writer()?;
        let tell = |bytes| (self.on_progress)(Progress::Written(spec, bytes));
        let mut watched = Watched { out: &mut writer, stop: self.stop, untold: 0, tell: &tell };
        let written = write_layer(tree, spec.codec, spec.epoch, &mut watched)
            .map_err(|source| Error::Layer { layer: spec.title(), source })?;
        self.check_against_lock(spec, written.digest)?;
        writer.commit(written.digest, written.size)?;
        let record = LayerRecord {
            digest: written.digest,
            size: written.size,
            diff_id: written.diff_id,
            tar_size: written.tar_size,
            media_type: spec.codec.media_type().to_owned(),
            listing: self.store.insert(listing.to_text().as_bytes())?,
        };
        self.store.put_record(&bucket(), &spec.key, &record, &[record.digest, record.listing])?;
        Ok(record)
    }

    /// What the store knows of a layer by its key alone.
    ///
    /// # Errors
    /// As for any reading of the store.
    pub fn known(&self, key: &str) -> Result<Option<LayerRecord>, Error> {
        Ok(self.store.record(&bucket(), key)?)
    }

    fn record(&self, spec: &LayerSpec) -> Result<Option<LayerRecord>, Error> {
        let record: Option<LayerRecord> = self.store.record(&bucket(), &spec.key)?;
        if let Some(record) = &record {
            self.check_against_lock(spec, record.digest)?;
        }
        Ok(record)
    }

    /// A layer must be what images.lock says, whether it was just made or made long ago.
    fn check_against_lock(&self, spec: &LayerSpec, made: Digest) -> Result<(), Error> {
        match self.lock.layer(&spec.key) {
            Some(before) if before.digest != made => {
                Err(Error::NotReproduced { layer: spec.title(), locked: before.digest, made })
            }
            _ => Ok(()),
        }
    }

    /// Bytes of a layer's inputs, as far as the lock or the store knows them: the estimate by which layers are ordered
    /// for work.
    fn weight(&self, spec: &LayerSpec) -> u64 {
        let stored = |input: &Input| {
            let digest = unit::digest(&input.sha256).ok()?;
            std::fs::metadata(self.store.blob_path(&digest)).ok().map(|metadata| metadata.len())
        };
        let inputs = |unit: &Arc<Unit>| unit.inputs().iter().filter_map(stored).sum();
        spec.units.iter().map(|unit| unit.item.size.unwrap_or_else(|| inputs(unit))).sum()
    }

    /// What has to be fetched: inputs that are not in the store.
    fn requests(&self, inputs: impl Iterator<Item = Input>) -> Result<Vec<Request>, Error> {
        let mut seen = BTreeSet::new();
        let mut requests = Vec::new();
        for input in inputs {
            if seen.insert(input.sha256.clone()) {
                requests.push(input.request(self.mirrors)?);
            }
        }
        let missing: Vec<bool> = requests
            .par_iter()
            .map(|request| Ok(!self.store.contains(&request.digest)?))
            .collect::<Result<_, Error>>()?;
        let mut missing = missing.into_iter();
        requests.retain(|_| missing.next() == Some(true));
        Ok(requests)
    }

    fn make_missing(&self, specs: &[LayerSpec], missing: &[usize]) -> Result<Vec<(usize, Made)>, Error> {
        let wanted: Vec<(usize, &LayerSpec)> =
            missing.iter().filter_map(|&index| Some((index, specs.get(index)?))).collect();
        let units = wanted.iter().flat_map(|(_, spec)| &spec.units);
        let inputs: Vec<Input> = units.flat_map(|unit| unit.inputs()).collect();
        self.fetch_built(&inputs)?;
        let requests = self.requests(inputs.into_iter())?;
        let mut gate = InputGate::new(&wanted, &requests)?;
        let results = Mutex::new(Vec::new());
        let deferred = Mutex::new(Vec::new());
        let stop = AtomicBool::new(false);
        let work = |index: usize, spec: &LayerSpec| {
            if stop.load(Ordering::Relaxed) || self.stop.load(Ordering::Relaxed) {
                return;
            }
            match self.make_unless_busy(spec) {
                Ok(Some(made)) => lock(&results).push((index, Ok(made))),
                Ok(None) => lock(&deferred).push((index, spec.clone())),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    lock(&results).push((index, Err(error)));
                }
            }
        };
        let (sender, receiver) = channel();
        let fetched = std::thread::scope(|threads| {
            let fetching = threads.spawn(|| {
                let sender = sender;
                let on_event = |request: &Request, event: Event<'_>| {
                    let finished = matches!(event, Event::Finished);
                    (self.on_progress)(Progress::Fetch(request, event));
                    if finished {
                        // Nobody listens any more when the work has failed, and then nothing is lost.
                        let _ = sender.send(request.digest);
                    }
                };
                self.fetcher.fetch_all_until(&stop, self.store, &requests, &on_event)
            });
            rayon::in_place_scope(|scope| {
                let work = &work;
                let start = |ready: Vec<(usize, &LayerSpec)>| {
                    for (index, spec) in ready {
                        let spec = spec.clone();
                        scope.spawn(move |_| work(index, &spec));
                    }
                };
                start(gate.ready());
                loop {
                    match receiver.recv_timeout(TICK) {
                        Ok(digest) => start(gate.arrived(&digest)),
                        // Somebody has to look, while nothing arrives, whether anything is still wanted.
                        Err(RecvTimeoutError::Timeout) if self.stop.load(Ordering::Relaxed) => {
                            stop.store(true, Ordering::Relaxed);
                        }
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
            });
            fetching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let mut results = results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        // What failed is told before what could not be fetched: it came first.
        if !results.iter().any(|(_, result)| result.is_err()) {
            fetched?;
            Error::unless_stopped(self.stop)?;
            for (index, spec) in deferred.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
                results.push((index, self.make_or_wait(&spec)));
            }
        }
        results.sort_by_key(|(index, _)| *index);
        results.into_iter().map(|(index, result)| Ok((index, result?))).collect()
    }

    /// Makes a layer, unless another process is at it.
    fn make_unless_busy(&self, spec: &LayerSpec) -> Result<Option<Made>, Error> {
        match self.store.try_work_lock(&work_name(spec))? {
            Some(_lock) => self.make_locked(spec).map(Some),
            None => Ok(None),
        }
    }

    fn make_or_wait(&self, spec: &LayerSpec) -> Result<Made, Error> {
        let on_wait = |pid| (self.on_progress)(Progress::Waiting(spec, pid));
        let _lock = self.store.work_lock(&work_name(spec), on_wait)?;
        self.make_locked(spec)
    }

    fn make_locked(&self, spec: &LayerSpec) -> Result<Made, Error> {
        if let Some(record) = self.record(spec)? {
            (self.on_progress)(Progress::Known(spec, &record));
            return Ok(Made::known(record));
        }
        let start = Instant::now();
        (self.on_progress)(Progress::Making(spec));
        let mut tree = Tree::new();
        let mut listing = Listing::default();
        for unit in &spec.units {
            let own = unit.tree(self)?;
            listing.add(unit, &own);
            tree.merge(own)
                .map_err(|source| Error::Tree { what: format!("layer of {}", spec.title()), source })?;
        }
        let record = self.write(spec, &tree, &listing)?;
        (self.on_progress)(Progress::Made(spec, &record));
        Ok(Made { record, made_in: Some(start.elapsed()), is_taken: false, is_here: true })
    }
}

/// What is in a layer, by its key, as far as the store knows it. Nothing when the store knows another layer of that key.
///
/// # Errors
/// As for any reading of the store, or when the listing is not one.
pub fn listing_of(store: &Store, key: &str, digest: Digest) -> Result<Option<Listing>, Error> {
    let record: Option<LayerRecord> = store.record(&bucket(), key)?;
    let Some(record) = record.filter(|record| record.digest == digest) else { return Ok(None) };
    let text = io::read_to_string(store.open_blob(&record.listing)?)?;
    Listing::parse(&text).map(Some)
}

/// How often it is looked whether anything is still wanted.
const TICK: Duration = Duration::from_millis(100);

/// Tells how many bytes go through it, a megabyte at a time, and fails when somebody wants no more of them.
struct Watched<'a, W> {
    out: &'a mut W,
    stop: &'a AtomicBool,
    untold: u64,
    tell: &'a (dyn Fn(u64) + Sync),
}

impl<W: Write> Write for Watched<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("not wanted any more"));
        }
        let written = self.out.write(bytes)?;
        self.untold += written as u64;
        if self.untold >= 1 << 20 {
            (self.tell)(std::mem::take(&mut self.untold));
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The bucket of the layer index.
pub(crate) fn bucket() -> String {
    format!("layers/{LAYER_FORMAT}")
}

fn work_name(spec: &LayerSpec) -> String {
    format!("layer {}", spec.key)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Which layers wait for which inputs.
struct InputGate<'a> {
    waiting: HashMap<Digest, Vec<usize>>,
    layers: BTreeMap<usize, (usize, &'a LayerSpec)>,
    /// Inputs that each layer lacks.
    lacking: HashMap<usize, usize>,
}

impl<'a> InputGate<'a> {
    fn new(wanted: &[(usize, &'a LayerSpec)], requests: &[Request]) -> Result<Self, Error> {
        let mut gate = Self { waiting: HashMap::new(), layers: BTreeMap::new(), lacking: HashMap::new() };
        let requested: BTreeSet<Digest> = requests.iter().map(|request| request.digest).collect();
        for (order, &(index, spec)) in wanted.iter().enumerate() {
            let mut inputs = BTreeSet::new();
            for input in spec.units.iter().flat_map(|unit| unit.inputs()) {
                inputs.insert(unit::digest(&input.sha256)?);
            }
            inputs.retain(|digest| requested.contains(digest));
            gate.lacking.insert(order, inputs.len());
            gate.layers.insert(order, (index, spec));
            for digest in inputs {
                gate.waiting.entry(digest).or_default().push(order);
            }
        }
        Ok(gate)
    }

    /// The layers that lack nothing and were not given out yet.
    fn ready(&mut self) -> Vec<(usize, &'a LayerSpec)> {
        let ready: Vec<usize> =
            self.layers.keys().copied().filter(|order| self.lacking.get(order) == Some(&0)).collect();
        ready.into_iter().filter_map(|order| self.layers.remove(&order)).collect()
    }

    fn arrived(&mut self, digest: &Digest) -> Vec<(usize, &'a LayerSpec)> {
        for order in self.waiting.remove(digest).unwrap_or_default() {
            if let Some(lacking) = self.lacking.get_mut(&order) {
                *lacking = lacking.saturating_sub(1);
            }
        }
        self.ready()
    }
}

/// What is in a layer, unit by unit: kept beside it, so that a question about it needs neither the layer nor its inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Each unit's title and entries.
    pub units: Vec<(String, Vec<Listed>)>,
}

/// An entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path.
    pub path: TreePath,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub what: What,
}

/// What an entry of a layer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A folder.
    Folder,
    /// A file.
    File {
        /// Bytes.
        size: u64,
        /// Of its content, where it is known without reading it.
        sha256: Option<Digest>,
    },
    /// A symbolic or hard link.
    Link(String),
}

impl Listing {
    /// Adds a unit's entries.
    pub fn add(&mut self, unit: &Unit, tree: &Tree) {
        let entries = tree.iter().map(|(path, entry)| Listed {
            path: path.clone(),
            mode: entry.mode,
            what: match &entry.kind {
                Kind::Directory => What::Folder,
                Kind::File(file) => What::File { size: file.content.len(), sha256: file.sha256 },
                Kind::Symlink(target) => What::Link(target.clone()),
                Kind::Hardlink(target) => What::Link(target.to_string()),
            },
        });
        self.units.push((unit.title.clone(), entries.collect()));
    }

    /// Each unit's title, and the bytes of its files.
    pub fn sizes(&self) -> Vec<(String, u64)> {
        let size = |listed: &Listed| match listed.what {
            What::File { size, .. } => size,
            What::Folder | What::Link(_) => 0,
        };
        self.units.iter().map(|(title, entries)| (title.clone(), entries.iter().map(size).sum())).collect()
    }

    /// One line for each unit, then one for each of its entries, the path last.
    fn to_text(&self) -> String {
        let mut text = String::new();
        for (title, entries) in &self.units {
            text.push_str(&format!("unit\t{title}\n"));
            for Listed { path, mode, what } in entries {
                let path = path.as_str();
                text.push_str(&match what {
                    What::Folder => format!("d\t{mode:o}\t{path}\n"),
                    What::File { size, sha256 } => {
                        let sha256 = sha256.map_or_else(|| "-".to_owned(), |digest| digest.hex());
                        format!("f\t{mode:o}\t{size}\t{sha256}\t{path}\n")
                    }
                    What::Link(target) => format!("l\t{mode:o}\t{}\t{path}\n", target.escape_default()),
                });
            }
        }
        text
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let mut listing = Self::default();
        for line in text.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let listed = |mode: &str, path: &str, what| {
                Some(Listed {
                    path: TreePath::new(path).ok()?,
                    mode: u32::from_str_radix(mode, 8).ok()?,
                    what,
                })
            };
            let entry = match fields.as_slice() {
                ["unit", title] => {
                    listing.units.push(((*title).to_owned(), Vec::new()));
                    continue;
                }
                ["d", mode, path] => listed(mode, path, What::Folder),
                ["f", mode, size, sha256, path] => size.parse().ok().and_then(|size| {
                    let sha256 = Digest::from_hex(sha256).ok();
                    listed(mode, path, What::File { size, sha256 })
                }),
                ["l", mode, target, path] => listed(mode, path, What::Link((*target).to_owned())),
                _ => None,
            };
            // The store has verified the blob: what can't be read was written by another version.
            let entry = entry.ok_or_else(|| io::Error::other("the listing of a layer can't be read"))?;
            if let Some((_, entries)) = listing.units.last_mut() {
                entries.push(entry);
            }
        }
        Ok(listing)
    }
}
