//! The story: from images.toml and images.lock to images.
//!
//! [`Project::prepare`] turns tables into units, with everything pinned; [`Prepared::plan`] groups the units into layers
//! and gives each its key, without touching the network or the store; [`Project::make`] has the layers made and the
//! images assembled. A command is a stretch of that road.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use globset::Glob;
use imgforge_layer::{Codec, Tree, deb};
use imgforge_oci::{Descriptor, Image, Index, Platform};
use imgforge_resolver::debian::PinnedPackage;
use imgforge_resolver::{Architecture, LockKind};
use imgforge_store::Store;

use crate::artifacts::{self, Resolved};
use crate::bases::{self, BaseImage, Root};
use crate::cache::{Cache, Vouched};
use crate::config::{Base, Compression, Config, Debian, Environment, FileSpec, Image as ImageTable, Source};
use crate::conflicts::{self, Conflict};
use crate::debian::{self, Host};
use crate::derived;
use crate::environments::{self, Ground, Selected};
use crate::error::Error;
use crate::facts::Facts;
use crate::fetch::Fetcher;
use crate::hashes::HashBook;
use crate::images_lock::{DebianPins, ImagesLock, Outcome, OutcomeLayer};
use crate::plan::{self, Limits, Rank};
use crate::unit::{LayerSpec, Recipe, Unit};
use crate::workshop::{Made, OnProgress, Workshop};
use crate::{image, plan::ImageItems};

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
    /// Called with what a failed build has left, to look around in it.
    pub shell: Option<OnFailure<'a>>,
    /// Who is told.
    pub on_progress: OnProgress<'a>,
}

/// Called with what a failed build has left.
pub type OnFailure<'a> = &'a (dyn Fn(artifacts::Failed<'_>) + Sync);

/// An image for one platform, as units.
#[derive(Clone, Debug)]
pub struct PreparedImage {
    /// Its name in images.toml.
    pub name: String,
    /// What it runs on.
    pub platform: Platform,
    /// The image that it starts from, if it is one.
    pub base: Option<Arc<BaseImage>>,
    /// Indices into [`Prepared::units`].
    pub units: Vec<usize>,
}

/// All images as units, with everything pinned.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Each unit once.
    pub units: Vec<Arc<Unit>>,
    /// By name, then platform.
    pub images: Vec<PreparedImage>,
    /// URLs of the Debian mirrors.
    pub mirrors: Vec<String>,
    /// The artifacts that images use.
    pub artifacts: Vec<Resolved>,
}

/// The layers of all images, described.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Each layer once.
    pub specs: Vec<LayerSpec>,
    /// For each prepared image, its layers from the bottom, as indices into `specs`.
    pub images: Vec<Vec<usize>>,
}

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
    /// [`Error::NoImage`] for a pattern that matches none, and for values that leave none.
    pub fn select(&self, patterns: &[String], values: &[(String, String)]) -> Result<Vec<String>, Error> {
        let none = |pattern: &str| {
            let images = self.config.images.keys().cloned().collect::<Vec<_>>().join(", ");
            Error::NoImage { pattern: pattern.to_owned(), images }
        };
        let has_values = |image: &ImageTable| {
            values.iter().all(|(axis, value)| image.values.get(axis).is_none_or(|own| own == value))
        };
        for (axis, value) in values {
            if !self.config.images.values().any(|image| image.values.get(axis) == Some(value)) {
                return Err(none(&format!("{axis}={value}")));
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

    /// Pins what images.toml leaves open and turns all images into units. New pins go into `lock`.
    ///
    /// All images are prepared, also when only some are to be built: which layers there are depends on all of them.
    ///
    /// # Errors
    /// Whatever stands in the way of a base, a lock or application files.
    pub fn prepare(&self, tools: &Tools<'_>, lock: &mut ImagesLock) -> Result<Prepared, Error> {
        let mut units = Units::default();
        let mut images = Vec::new();
        let mut hashes = HashBook::new(tools.store, tools.host.now);
        let mut mirrors: Vec<String> = self
            .config
            .bases
            .values()
            .flat_map(|base| match base {
                Base::Debian(debian) => debian::mirrors(debian, tools.host),
                Base::Scratch | Base::Image(_) => Vec::new(),
            })
            .collect();
        mirrors.sort();
        mirrors.dedup();
        let mut artifacts = Vec::new();
        for platform in self.platforms() {
            let architecture = architecture(&platform)?;
            let bases = self.bases(tools, &platform, lock)?;
            let mut environments = self.environments(tools, architecture, &bases, lock)?;
            let context = artifacts::Context {
                config: &self.config,
                folder: &self.folder,
                platform: &platform,
                bases: &bases,
                tools,
                mirrors: &mirrors,
                lock: &self.lock,
            };
            let resolved = artifacts::settle(&context, &mut environments)?;
            for (name, table) in &self.config.images {
                let Some((root, facts)) = bases.get(&table.base) else { continue };
                let merged = match root {
                    Root::Empty => false,
                    Root::Debian(_) => true,
                    // The links that Debian and others have for the merged /usr: one stands for all.
                    Root::Image(_) => facts
                        .links
                        .get("bin")
                        .is_some_and(|target| target.trim_start_matches('/') == "usr/bin"),
                };
                if merged {
                    self.check_links(name, table)?;
                }
                let mut own = Vec::new();
                if let Root::Debian(packages) = root {
                    own.extend(debian_units(packages, &platform)?.into_iter().map(|unit| units.add(unit)));
                }
                for (environment, selected) in
                    table.environments.iter().filter_map(|name| Some((name, environments.get(name)?)))
                {
                    let lock = self.config.environments.get(environment).map(|table| table.lock.display());
                    let lock = lock.map(|path| path.to_string()).unwrap_or_default();
                    let cap = self.config.settings.layer_cap << 20;
                    let priority =
                        self.config.environments.get(environment).map(|table| table.cache_priority);
                    let parts = units_of(selected, &lock)
                        .into_iter()
                        .flat_map(|unit| unit.split(cap))
                        .map(|unit| unit.with_priority(priority.unwrap_or(plan::PRIORITY)));
                    own.extend(parts.map(|unit| units.add(unit)));
                }
                check_twice(name, own.iter().filter_map(|&unit| units.all.get(unit)))?;
                own.extend(
                    artifacts::units(&self.config, &resolved, &table.artifacts)?
                        .into_iter()
                        .map(|unit| units.add(unit)),
                );
                if !table.users.is_empty() {
                    let users = table.users.clone();
                    own.push(units.add(match root {
                        Root::Empty => Unit::users(Arc::default(), users),
                        Root::Debian(packages) => Unit::users(Arc::clone(packages), users),
                        Root::Image(_) => Unit::users_over(Arc::clone(facts), users),
                    }));
                }
                for (number, spec) in table.files.iter().enumerate() {
                    let source = self.folder.join(&spec.src);
                    let exclude = [self.own_files(&source), spec.exclude.clone()].concat();
                    let page = hashes.page(&source)?;
                    let tree = imgforge_layer::files(&source, &spec.dest, &exclude, page);
                    let tree = tree.map_err(|source| Error::Files {
                        image: name.clone(),
                        src: spec.src.clone(),
                        source: Box::new(source),
                    })?;
                    let tree = if merged { merge_usr(name, spec, &tree)? } else { tree };
                    own.push(units.add(Unit::files(number, &spec.dest, tree)));
                }
                images.push(PreparedImage {
                    name: name.clone(),
                    platform: platform.clone(),
                    base: root.image().cloned(),
                    units: own,
                });
            }
            artifacts.extend(resolved);
        }
        hashes.keep()?;
        images.sort_by(|a, b| (&a.name, &a.platform).cmp(&(&b.name, &b.platform)));
        self.drop_unused_pins(lock)?;
        lock.artifacts = artifacts::outcome(&artifacts);
        Ok(Prepared { units: units.all, images, mirrors, artifacts })
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

    /// Refuses prefixes and homes whose layers would put a folder in the place of a link of the root filesystem.
    fn check_links(&self, name: &str, table: &ImageTable) -> Result<(), Error> {
        let prefixes = table.environments.iter().filter_map(|name| self.config.environments.get(name));
        let homes = table.users.iter().filter_map(|user| user.home.as_ref());
        for path in prefixes.map(|environment| &environment.prefix).chain(homes) {
            if let Some(behind) = deb::behind_link(path) {
                return Err(Error::BehindLink { image: name.to_owned(), path: path.clone(), behind });
            }
        }
        Ok(())
    }

    /// What `files` never takes: images.lock and the default output, which a build writes itself.
    fn own_files(&self, source: &Path) -> Vec<String> {
        let same = fs::canonicalize(source).ok().zip(fs::canonicalize(&self.folder).ok());
        match same {
            Some((source, folder)) if source == folder => vec!["/images.lock".to_owned(), "/dist".to_owned()],
            _ => Vec::new(),
        }
    }

    /// What each base is, pinned where it was not or the pins are out of date, and what is known of it.
    fn bases(
        &self,
        tools: &Tools<'_>,
        platform: &Platform,
        lock: &mut ImagesLock,
    ) -> Result<BTreeMap<String, (Root, Arc<Facts>)>, Error> {
        let mut bases = BTreeMap::new();
        for (name, base) in &self.config.bases {
            let (root, facts) = match base {
                Base::Scratch => (Root::Empty, Facts::default()),
                Base::Debian(debian) => {
                    let packages = self.debian(tools, name, debian, platform, lock)?;
                    let facts = Facts::of_debian(&packages);
                    (Root::Debian(packages), facts)
                }
                Base::Image(transport) => {
                    // One that nothing uses is not asked for.
                    let is_base = self.config.images.values().any(|image| image.base == *name);
                    let is_builder = self.config.artifacts.values().any(|artifact| artifact.builder == *name);
                    if !is_base && !is_builder {
                        continue;
                    }
                    let (image, facts) =
                        bases::prepare(&self.config, name, transport, platform, &self.folder, tools, lock)?;
                    (Root::Image(image), facts)
                }
            };
            bases.insert(name.clone(), (root, Arc::new(facts)));
        }
        Ok(bases)
    }

    /// The packages of a Debian base.
    fn debian(
        &self,
        tools: &Tools<'_>,
        name: &str,
        debian: &Debian,
        platform: &Platform,
        lock: &mut ImagesLock,
    ) -> Result<Arc<[PinnedPackage]>, Error> {
        let architecture = architecture(platform)?;
        let request = debian::request(debian, architecture)?;
        let key = (name.to_owned(), architecture);
        if let Some(pins) = lock.debian.get(&key).filter(|pins| pins.request == request) {
            return Ok(pins.packages.clone().into());
        }
        let packages = debian::resolve(name, debian, architecture, &self.folder, tools.host, tools.fetcher)?;
        lock.debian.insert(key, DebianPins { request, packages: packages.clone() });
        Ok(packages.into())
    }

    /// The packages that an environment has built of their source distributions, and those that it may have built where
    /// there is no wheel.
    fn built(&self, name: &str, environment: &Environment) -> (Vec<String>, Vec<String>) {
        let (mut built, mut buildable) = (Vec::new(), Vec::new());
        for (artifact, table) in &self.config.artifacts {
            let Source::Sdist { package } = &table.source else { continue };
            let is_own = table.env.as_deref() == Some(name) || environment.artifacts.contains(artifact);
            if is_own { &mut built } else { &mut buildable }.push(package.clone());
        }
        (built, buildable)
    }

    /// The environments that images and builds use, each selected for the bases that it is used on.
    fn environments(
        &self,
        tools: &Tools<'_>,
        architecture: Architecture,
        bases: &BTreeMap<String, (Root, Arc<Facts>)>,
        lock: &mut ImagesLock,
    ) -> Result<BTreeMap<String, Selected>, Error> {
        let cache = tools.store.root().join("indexes");
        let mut selected: BTreeMap<String, Selected> = BTreeMap::new();
        let (own, into): (Vec<_>, Vec<_>) =
            self.config.environments.iter().partition(|(_, environment)| environment.into.is_none());
        // Those that others go into come first.
        for (name, environment) in own.into_iter().chain(into) {
            let users = self.config.images.values().filter(|image| image.environments.contains(name));
            let mut used: Vec<&str> = users.map(|image| image.base.as_str()).collect();
            let builds = self.config.artifacts.values().filter(|artifact| {
                [&artifact.env, &artifact.requires].into_iter().flatten().any(|env| env == name)
            });
            used.extend(builds.map(|artifact| artifact.builder.as_str()));
            used.sort_unstable();
            used.dedup();
            if used.is_empty() {
                continue;
            }
            let used: Vec<(&str, &Facts)> =
                used.into_iter().filter_map(|base| Some((base, bases.get(base)?.1.as_ref()))).collect();
            let (built, buildable) = self.built(name, environment);
            let context = environments::Context {
                folder: &self.folder,
                settings: &self.config.settings,
                name,
                architecture,
                bases: &used,
                cache: &cache,
                store: tools.store,
                fetcher: tools.fetcher,
                built: &built,
                buildable: &buildable,
                offline: tools.offline,
            };
            let host = environment.into.as_ref().and_then(|into| match &selected.get(into)?.ground {
                Ground::Conda(conda) => Some(conda.clone()),
                _ => None,
            });
            let found = environments::select(environment, host.as_ref(), &context, lock)?;
            selected.insert(name.clone(), found);
        }
        Ok(selected)
    }
}

/// What a Debian root filesystem is made of.
pub(crate) fn debian_units(packages: &Arc<[PinnedPackage]>, platform: &Platform) -> Result<Vec<Unit>, Error> {
    let skeleton = Unit::skeleton(architecture(platform)?);
    let own = packages.iter().map(|package| Unit::debian(package.clone()));
    Ok(std::iter::once(skeleton).chain(own).chain([Unit::debian_glue(Arc::clone(packages))]).collect())
}

/// What an environment is made of.
pub(crate) fn units_of(selected: &Selected, lock: &str) -> Vec<Unit> {
    let mut units = Vec::new();
    match (&selected.ground, &selected.scheme) {
        (Ground::Venv { interpreter, version }, Some(scheme)) => {
            units.push(Unit::environment(scheme.clone(), interpreter.clone(), version.clone()));
        }
        (Ground::Conda(conda), _) => {
            units.push(Unit::conda_environment(&conda.prefix));
            units.extend(
                conda
                    .packages
                    .iter()
                    .map(|package| Unit::conda(package.clone(), &conda.prefix, conda.python.as_ref(), lock)),
            );
        }
        (Ground::Venv { .. } | Ground::Other, _) => {}
    }
    if let Some(scheme) = &selected.scheme {
        units.extend(selected.artifacts.iter().map(|wheel| Unit::wheel(wheel.clone(), scheme.clone(), lock)));
    }
    units.extend(selected.pending.iter().map(|(line, key)| Unit::pending(Rank::Packages, line, key)));
    units
}

/// Refuses two versions of a distribution in one place, which several locks that go into one environment can bring.
fn check_twice<'u>(image: &str, units: impl Iterator<Item = &'u Arc<Unit>>) -> Result<(), Error> {
    let mut seen: BTreeMap<(String, &str), &Unit> = BTreeMap::new();
    for unit in units {
        let unit = unit.whole();
        let Recipe::Wheel { scheme, artifact, .. } = &unit.recipe else { continue };
        let before = seen.insert((scheme.prefix().to_string(), &artifact.name), unit);
        if let Some(before) = before.filter(|before| before.item != unit.item) {
            return Err(Error::Twice {
                image: image.to_owned(),
                prefix: scheme.prefix().to_string(),
                first: before.title.clone(),
                second: unit.title.clone(),
            });
        }
    }
    Ok(())
}

impl Prepared {
    /// Groups the units of all images into layers.
    ///
    /// # Errors
    /// [`Error::OverBudget`].
    pub fn plan(&self, config: &Config) -> Result<Planned, Error> {
        let items: Vec<_> = self.units.iter().map(|unit| unit.item.clone()).collect();
        let images: Vec<ImageItems> = self
            .images
            .iter()
            .map(|image| ImageItems {
                name: format!("{} {}", image.name, image.platform),
                items: image.units.clone(),
                below: image.base.as_ref().map_or(0, |base| base.image.layers().len()),
            })
            .collect();
        // An environment whose packages disagree about a path has one layer more.
        let environments = config.images.values().map(|image| image.environments.len()).max().unwrap_or(0);
        let limits = Limits {
            layers: config.settings.layer_budget.saturating_sub(environments),
            bytes: config.settings.layer_cap << 20,
        };
        let plan = plan::plan(&items, &images, limits)?;
        let specs = plan
            .layers
            .iter()
            .map(|members| {
                let units: Vec<_> =
                    members.iter().filter_map(|&unit| self.units.get(unit)).cloned().collect();
                let rank = units.first().map_or(Rank::Files, |unit| unit.item.rank);
                let codec = codec(config.settings.compression, rank);
                LayerSpec::new(units, codec, config.settings.source_date_epoch)
            })
            .collect();
        Ok(Planned { specs, images: plan.images })
    }
}

/// An index over the platforms of each image, for outputs; an image for one platform needs none.
///
/// # Errors
/// [`Error::Oci`].
pub fn index(images: &[&Image]) -> Result<Index, Error> {
    Ok(Index::assemble(images.iter().copied(), &BTreeMap::new())?)
}

/// Application files as a Debian root filesystem has room for them: `/bin` and its like are links there.
fn merge_usr(image: &str, spec: &FileSpec, tree: &Tree) -> Result<Tree, Error> {
    deb::merge_usr(tree).map_err(|source| Error::Files {
        image: image.to_owned(),
        src: spec.src.clone(),
        source: Box::new(source.into()),
    })
}

/// The resolver's word for a platform's CPU.
fn architecture(platform: &Platform) -> Result<Architecture, Error> {
    match (platform.os(), platform.architecture()) {
        ("linux", "amd64") => Ok(Architecture::Amd64),
        ("linux", "arm64") => Ok(Architecture::Arm64),
        _ => Err(Error::Platform { platform: platform.to_string() }),
    }
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

/// Each unit once, by identity.
#[derive(Default)]
struct Units {
    all: Vec<Arc<Unit>>,
    by_identity: BTreeMap<(Rank, String), usize>,
}

impl Units {
    fn add(&mut self, unit: Unit) -> usize {
        let key = (unit.item.rank, unit.item.identity.clone());
        let priority = unit.item.priority;
        let place = *self.by_identity.entry(key).or_insert_with(|| {
            self.all.push(Arc::new(unit));
            self.all.len() - 1
        });
        // Where two tables say different things of one unit, the higher priority is meant.
        if let Some(known) = self.all.get_mut(place)
            && known.item.priority < priority
        {
            Arc::make_mut(known).item.priority = priority;
        }
        place
    }
}
