//! The story: from images.toml and images.lock to images.
//!
//! [`Project::prepare`] turns tables into units, with everything pinned; [`Prepared::plan`] groups the units into layers
//! and gives each its key, without touching the network or the store; [`Project::make`] has the layers made and the
//! images assembled. A command is a stretch of that road.

mod prepare;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fs_err as fs;
use globset::Glob;
use imgforge_layer::Codec;
use imgforge_oci::{Descriptor, Image, Index, Platform};
use imgforge_resolver::LockKind;
use imgforge_store::Store;

use crate::artifacts;
use crate::bases::{self, BaseImage};
use crate::cache::{Cache, Vouched};
use crate::config::{Base, Compression, Config, Image as ImageTable};
use crate::conflicts::{self, Conflict};
use crate::debian::Host;
use crate::derived;
use crate::error::Error;
use crate::fetch::Fetcher;
use crate::image;
use crate::images_lock::{ImagesLock, Outcome, OutcomeLayer};
use crate::plan::Rank;
use crate::unit::LayerSpec;
use crate::workshop::{Made, OnProgress, Progress, Workshop};

use prepare::architecture;
pub use prepare::{Planned, Prepared, PreparedImage};
pub(crate) use prepare::{debian_units, units_of};

/// An images.toml with its folder and its lock.
#[derive(Clone, Debug)]
pub struct Project {
    /// The path of images.toml.
    pub file: PathBuf,
    /// The folder that paths in it are relative to.
    pub folder: PathBuf,
    /// What it says.
    pub config: Config,
    /// images.lock beside it; empty when there is none.
    pub lock: ImagesLock,
}

/// Everything outside the project that its images are made with.
#[derive(Clone, Copy)]
pub struct Tools<'a> {
    /// Where everything is kept.
    pub store: &'a Store,
    /// Gets what is not there.
    pub fetcher: &'a Fetcher,
    /// Whether the network is out of bounds.
    pub offline: bool,
    /// Talks to registries.
    pub registries: &'a imgforge_registry::Client,
    /// Layers that others have made.
    pub cache: Option<&'a Cache<'a>>,
    /// Whose layers may stay in the cache, where no output needs all of their bytes.
    pub vouched: Option<&'a Vouched>,
    /// What is known of the host.
    pub host: &'a Host,
    /// Images whose artifacts are built where they are not there; those of others are pending.
    pub building: &'a [String],
    /// An artifact that is built again, although it is there, and not kept.
    pub rebuild: Option<&'a str>,
    /// Whether what others have built is taken from the cache when it is asked for, and not when something is made of it.
    pub takes_at_once: bool,
    /// Called with what a failed build has left, to look around in it.
    pub shell: Option<OnFailure<'a>>,
    /// Set by somebody who wants no more of it.
    pub stop: &'a Arc<AtomicBool>,
    /// Who is told.
    pub on_progress: OnProgress<'a>,
}

/// Called with what a failed build has left.
pub type OnFailure<'a> = &'a (dyn Fn(artifacts::Failed<'_>) + Sync);

/// An image that is made, with what it was made of.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its name in images.toml.
    pub name: String,
    /// What it runs on.
    pub platform: Platform,
    /// Manifest and config; both are in the store.
    pub image: Image,
    /// The image that it starts from, whose layers are below.
    pub base: Option<Arc<BaseImage>>,
    /// Its own layers from the bottom.
    pub layers: Vec<(LayerSpec, Made)>,
    /// Paths that two packages of an environment bring with different content.
    pub conflicts: Vec<Conflict>,
}

impl Project {
    /// Reads an images.toml and the images.lock beside it.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::ImagesLock`], or [`Error::Io`] when a file can't be read.
    pub fn open(file: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(file)?;
        let config =
            Config::parse(&text).map_err(|source| Error::Config { file: file.to_owned(), source })?;
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let lock = match fs::read_to_string(folder.join("images.lock")) {
            Ok(text) => ImagesLock::parse(&text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => ImagesLock::default(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { file: file.to_owned(), folder, config, lock })
    }

    /// Writes images.lock, if its text changes. Atomic: whoever reads it sees the old text or the new one.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_lock(&self, lock: &ImagesLock) -> Result<bool, Error> {
        let path = self.folder.join("images.lock");
        let text = lock.to_text();
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(false);
        }
        let draft = self.folder.join(format!(".images.lock.{}", std::process::id()));
        let write = || {
            let mut file = fs::File::create(&draft)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        };
        let written = write();
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        written?;
        Ok(true)
    }

    /// The keys of the images whose name or key matches any of the patterns (`runtime*`; all for none) and that have all of
    /// these values of the matrix.
    ///
    /// # Errors
    /// [`Error::NoImage`] for a pattern that matches none, [`Error::NoValue`] for a value that no image has.
    pub fn select(&self, patterns: &[String], values: &[(String, String)]) -> Result<Vec<String>, Error> {
        let none = |pattern: &str| {
            let images = self.config.images.keys().cloned().collect::<Vec<_>>().join(", ");
            Error::NoImage { pattern: pattern.to_owned(), images }
        };
        let has_values = |image: &ImageTable| {
            values.iter().all(|(axis, value)| image.values.get(axis).is_none_or(|own| own == value))
        };
        for (axis, value) in values {
            let known: BTreeSet<&String> =
                self.config.images.values().filter_map(|image| image.values.get(axis)).collect();
            if !known.contains(value) {
                let known = known.into_iter().cloned().collect();
                return Err(Error::NoValue { axis: axis.clone(), value: value.clone(), known });
            }
        }
        let mut selected: Vec<String> = Vec::new();
        let all = ["*".to_owned()];
        for pattern in if patterns.is_empty() { &all } else { patterns } {
            let glob = Glob::new(pattern).map(|glob| glob.compile_matcher());
            let matches = |key: &str, image: &ImageTable| {
                let is_meant =
                    |name: &str| name == pattern || glob.as_ref().is_ok_and(|glob| glob.is_match(name));
                is_meant(key) || is_meant(&image.name)
            };
            let found =
                self.config.images.iter().filter(|(key, image)| matches(key, image) && has_values(image));
            let before = selected.len();
            selected.extend(found.map(|(key, _)| key.clone()));
            if selected.len() == before {
                return Err(none(pattern));
            }
        }
        selected.sort();
        selected.dedup();
        Ok(selected)
    }

    /// The platforms to build for.
    pub fn platforms(&self) -> Vec<Platform> {
        match self.config.settings.platforms.as_slice() {
            [] => vec![Platform::host()],
            given => given.to_vec(),
        }
    }

    /// Where the layers of prepared images are looked up and made.
    pub fn workshop<'a>(&'a self, tools: &Tools<'a>, prepared: &'a Prepared) -> Workshop<'a> {
        Workshop {
            store: tools.store,
            fetcher: tools.fetcher,
            mirrors: &prepared.mirrors,
            lock: &self.lock,
            cache: tools.cache,
            now: tools.host.now,
            vouched: tools.vouched,
            stop: tools.stop,
            on_progress: tools.on_progress,
        }
    }

    /// Makes the layers of the selected images, in the plan of all of them, and assembles the images.
    ///
    /// # Errors
    /// Whatever stands in the way of a layer or of an image.
    pub fn make(
        &self,
        tools: &Tools<'_>,
        lock: &mut ImagesLock,
        selected: &[String],
    ) -> Result<Vec<Finished>, Error> {
        let prepared = self.prepare(tools, lock)?;
        self.make_prepared(tools, &prepared, lock, selected)
    }

    /// What [`make`](Self::make) does after [`prepare`](Self::prepare).
    ///
    /// # Errors
    /// As for [`make`](Self::make).
    pub fn make_prepared(
        &self,
        tools: &Tools<'_>,
        prepared: &Prepared,
        lock: &mut ImagesLock,
        selected: &[String],
    ) -> Result<Vec<Finished>, Error> {
        match self.make_once(tools, prepared, lock, selected) {
            // An artifact that the cache has by its receipt, and not by its bytes, is built: it was not asked for them yet.
            Err(error @ Error::Cache { .. }) if !tools.takes_at_once => {
                (tools.on_progress)(Progress::CacheTrouble(&error));
                let tools = Tools { takes_at_once: true, ..*tools };
                let prepared = self.prepare(&tools, lock)?;
                self.make_once(&tools, &prepared, lock, selected)
            }
            outcome => outcome,
        }
    }

    fn make_once(
        &self,
        tools: &Tools<'_>,
        prepared: &Prepared,
        lock: &mut ImagesLock,
        selected: &[String],
    ) -> Result<Vec<Finished>, Error> {
        let planned = prepared.plan(&self.config)?;
        let workshop = self.workshop(tools, prepared);
        let wanted: Vec<usize> = prepared
            .images
            .iter()
            .enumerate()
            .filter(|(_, image)| selected.contains(&image.name))
            .map(|(index, _)| index)
            .collect();
        let mut needed: Vec<usize> =
            wanted.iter().filter_map(|&image| planned.images.get(image)).flatten().copied().collect();
        needed.sort_unstable();
        needed.dedup();
        let specs: Vec<LayerSpec> =
            needed.iter().filter_map(|&layer| planned.specs.get(layer)).cloned().collect();
        let has_platforms = self.platforms().len() > 1;
        let family: Vec<(String, Vec<&LayerSpec>)> = wanted
            .iter()
            .filter_map(|&index| Some((prepared.images.get(index)?, planned.images.get(index)?)))
            .map(|(image, layers)| {
                let platform = if has_platforms { format!(" {}", image.platform) } else { String::new() };
                let name = format!("{}{platform}", self.reference(&image.name));
                (name, layers.iter().filter_map(|&layer| planned.specs.get(layer)).collect())
            })
            .collect();
        (tools.on_progress)(Progress::Images(&family));
        let made = workshop.make(&specs)?;
        let made: BTreeMap<usize, (LayerSpec, Made)> =
            needed.into_iter().zip(specs.into_iter().zip(made)).collect();

        let mut finished = Vec::new();
        for index in wanted {
            let (Some(prepared_image), Some(layers)) =
                (prepared.images.get(index), planned.images.get(index))
            else {
                continue;
            };
            let mut layers: Vec<(LayerSpec, Made)> =
                layers.iter().filter_map(|layer| made.get(layer).cloned()).collect();
            let Some(table) = self.config.images.get(&prepared_image.name) else { continue };
            conflicts::check_files(&workshop, &layers)?;
            let units: Vec<_> =
                prepared_image.units.iter().filter_map(|&unit| prepared.units.get(unit)).collect();
            let settings = &self.config.settings;
            let ground = derived::Ground { tools, base: prepared_image.base.as_deref(), settings };
            if matches!(self.config.bases.get(&table.base), Some(Base::Debian(base)) if base.configure) {
                derived::configure(&ground, &workshop, &format!("[base.{}]", table.base), &mut layers)?;
            }
            let conflicts = conflicts::settle(&self.config, table, &units, &workshop, &ground, &mut layers)?;
            let described: Vec<_> = layers.iter().map(|(spec, made)| (spec, &made.record)).collect();
            let base = prepared_image.base.as_deref();
            let image = image::assemble(&self.config, table, &prepared_image.platform, base, &described)?;
            tools.store.insert(image.config().bytes())?;
            tools.store.insert(image.manifest().bytes())?;
            let outcome = Outcome {
                manifest: image.manifest().descriptor().digest,
                layers: layers
                    .iter()
                    .map(|(spec, made)| {
                        outcome_layer(spec, made, planned.specs.iter().any(|it| it.key == spec.key))
                    })
                    .collect(),
            };
            let key = (prepared_image.name.clone(), prepared_image.platform.to_string());
            lock.images.insert(key, outcome);
            finished.push(Finished {
                name: prepared_image.name.clone(),
                platform: prepared_image.platform.clone(),
                image,
                base: prepared_image.base.clone(),
                layers,
                conflicts,
            });
        }
        Ok(finished)
    }

    /// The image as images.lock records it, if it is still the one that would come out: described without any of its
    /// layers at hand.
    ///
    /// # Errors
    /// [`Error::Oci`] for a value that an image config can't hold.
    pub fn recorded(
        &self,
        prepared: &PreparedImage,
        specs: &[&LayerSpec],
        lock: &ImagesLock,
    ) -> Result<Option<Image>, Error> {
        let key = (prepared.name.clone(), prepared.platform.to_string());
        let (Some(outcome), Some(table)) = (lock.images.get(&key), self.config.images.get(&prepared.name))
        else {
            return Ok(None);
        };
        let image = image::recorded(
            &self.config,
            table,
            &prepared.platform,
            prepared.base.as_deref(),
            specs,
            &outcome.layers,
        )?;
        let Some(image) = image else { return Ok(None) };
        Ok((image.manifest().descriptor().digest == outcome.manifest).then_some(image))
    }

    /// Puts the layers of bases into the store that `wanted` says and that are not there: an output needs their bytes.
    ///
    /// # Errors
    /// [`Error::Base`].
    pub fn fetch_base_layers(
        &self,
        tools: &Tools<'_>,
        finished: &[Finished],
        wanted: &(dyn Fn(&Descriptor) -> bool + Sync),
    ) -> Result<(), Error> {
        let mut done = BTreeSet::new();
        for base in finished.iter().filter_map(|finished| finished.base.as_ref()) {
            if done.insert(base.image.manifest().descriptor().digest) {
                bases::fetch_layers(base, tools, wanted)?;
            }
        }
        Ok(())
    }

    /// The name that an image has in an output: `NAME:TAG`.
    pub fn reference(&self, image: &str) -> String {
        format!("{}:{}", self.name(image), self.tag(image))
    }

    /// The name of an image, by its key: they differ where the matrix has several images of one name.
    pub fn name<'p>(&'p self, image: &'p str) -> &'p str {
        self.config.images.get(image).map_or(image, |image| &image.name)
    }

    /// The tag of an image.
    pub fn tag(&self, image: &str) -> &str {
        self.config.images.get(image).and_then(|image| image.tag.as_deref()).unwrap_or("latest")
    }

    /// Takes out of a lock what this images.toml has no use for.
    fn drop_unused_pins(&self, lock: &mut ImagesLock) -> Result<(), Error> {
        let platforms = self.platforms();
        let architectures = platforms.iter().map(architecture).collect::<Result<Vec<_>, _>>()?;
        let platforms: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        let pinned = |name: &String| match self.config.environments.get(name) {
            Some(environment) => match environment.lock_kind() {
                Some(LockKind::Requirements | LockKind::Poetry | LockKind::EnvironmentYml) => true,
                _ => !environment.allow_md5.is_empty(),
            },
            None => false,
        };
        lock.bases.retain(|(base, platform), _| {
            matches!(self.config.bases.get(base), Some(Base::Image(_))) && platforms.contains(platform)
        });
        lock.debian.retain(|(base, architecture), _| {
            let debian = matches!(self.config.bases.get(base), Some(Base::Debian(_)));
            debian && architectures.contains(architecture)
        });
        lock.environments.retain(|(name, platform), _| pinned(name) && platforms.contains(platform));
        lock.images.retain(|(name, platform), _| {
            self.config.images.contains_key(name) && platforms.contains(platform)
        });
        Ok(())
    }
}

/// An index over the platforms of each image, for outputs; an image for one platform needs none.
///
/// # Errors
/// [`Error::Oci`].
pub fn index(images: &[&Image]) -> Result<Index, Error> {
    Ok(Index::assemble(images.iter().copied(), &BTreeMap::new())?)
}

/// How a layer of these things is stored.
pub(crate) fn codec(compression: Compression, rank: Rank) -> Codec {
    match (compression, rank) {
        // Wheels alone are DEFLATE streams already.
        (Compression::Auto | Compression::Gzip, Rank::Packages) => Codec::GzipCopy,
        (Compression::Gzip, _) => Codec::Gzip,
        (Compression::Auto | Compression::Zstd, _) => Codec::Zstd,
        (Compression::None, _) => Codec::None,
    }
}

fn outcome_layer(spec: &LayerSpec, made: &Made, is_planned: bool) -> OutcomeLayer {
    OutcomeLayer {
        media_type: (!is_planned).then(|| made.record.media_type.clone()),
        title: spec.title(),
        key: spec.key.clone(),
        digest: made.record.digest,
        diff_id: made.record.diff_id,
        size: made.record.size,
    }
}
