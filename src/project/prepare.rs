//! From tables to units: everything pinned, nothing made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use fs_err as fs;
use imgforge_layer::{Strip, Tree, deb};
use imgforge_oci::Platform;
use imgforge_resolver::Architecture;
use imgforge_resolver::debian::PinnedPackage;

use super::{Project, Tools, codec};
use crate::artifacts::{self, Resolved};
use crate::bases::{self, BaseImage, Root};
use crate::config::{Base, Config, Debian, Environment, FileSpec, Image as ImageTable, Source};
use crate::debian;
use crate::environments::{self, Ground, Selected};
use crate::error::Error;
use crate::facts::Facts;
use crate::hashes::HashBook;
use crate::images_lock::{DebianPins, ImagesLock};
use crate::links;
use crate::plan::{self, ImageItems, Limits, Rank};
use crate::unit::{EditableUnit, LayerSpec, Recipe, Unit, sift};

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

impl Project {
    /// Pins what images.toml leaves open and turns all images into units. New pins go into `lock`.
    ///
    /// All images are prepared, also when only some are to be built: which layers there are depends on all of them.
    ///
    /// # Errors
    /// Whatever stands in the way of a base, a lock or application files.
    pub fn prepare(&self, tools: &Tools<'_>, lock: &mut ImagesLock) -> Result<Prepared, Error> {
        let mut units = Units::default();
        let mut images = Vec::new();
        let mut used: Vec<Vec<Use>> = Vec::new();
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
                let mut own: Vec<Use> = Vec::new();
                if let Root::Debian(packages) = root {
                    let strip = table.strip_of(None)?;
                    let packages = debian_units(packages, &platform)?.into_iter();
                    own.extend(packages.map(|unit| units.add_for(unit, &strip)));
                }
                for (environment, selected) in
                    table.environments.iter().filter_map(|name| Some((name, environments.get(name)?)))
                {
                    let Some(environment) = self.config.environments.get(environment) else { continue };
                    let strip = table.strip_of(Some(environment))?;
                    let lock = environment.lock.display().to_string();
                    let packages = units_of(selected, &lock).into_iter();
                    let packages = packages.map(|unit| unit.with_priority(environment.cache_priority));
                    own.extend(packages.map(|unit| units.add_for(unit, &strip)));
                    let links = links::of_environment(environment)?;
                    own.extend(links.map(|unit| units.add_for(unit, &Strip::default())));
                }
                own.extend(links::of_image(table)?.map(|unit| units.add_for(unit, &Strip::default())));
                check_twice(name, own.iter().filter_map(|(unit, _)| units.all.get(*unit)))?;
                own.extend(
                    artifacts::units(&self.config, &resolved, &table.artifacts)?
                        .into_iter()
                        .map(|unit| units.add_for(unit, &Strip::default())),
                );
                if !table.users.is_empty() {
                    let users = table.users.clone();
                    let users = match root {
                        Root::Empty => Unit::users(Arc::default(), users),
                        Root::Debian(packages) => Unit::users(Arc::clone(packages), users),
                        Root::Image(_) => Unit::users_over(Arc::clone(facts), users),
                    };
                    own.push(units.add_for(users, &Strip::default()));
                }
                for (number, spec) in table.files.iter().enumerate() {
                    let tree = self.files(name, spec, merged, &mut hashes)?;
                    own.push(units.add_for(Unit::files(number, &spec.dest, tree), &Strip::default()));
                }
                images.push(PreparedImage {
                    name: name.clone(),
                    platform: platform.clone(),
                    base: root.image().cloned(),
                    units: Vec::new(),
                });
                used.push(own);
            }
            artifacts.extend(resolved);
        }
        hashes.keep()?;
        let (units, used) = units.divide(&used, self.config.settings.layer_cap << 20)?;
        for (image, units) in images.iter_mut().zip(used) {
            image.units = units;
        }
        images.sort_by(|a, b| (&a.name, &a.platform).cmp(&(&b.name, &b.platform)));
        self.drop_unused_pins(lock)?;
        lock.artifacts = artifacts::outcome(&artifacts);
        Ok(Prepared { units: units.all, images, mirrors, artifacts })
    }

    /// Application files as a tree.
    fn files(
        &self,
        image: &str,
        spec: &FileSpec,
        merged: bool,
        hashes: &mut HashBook<'_>,
    ) -> Result<Tree, Error> {
        let source = self.folder.join(&spec.src);
        let exclude = [self.own_files(&source), spec.exclude.clone()].concat();
        let page = hashes.page(&source)?;
        let tree = imgforge_layer::files(&source, &spec.dest, &exclude, page);
        let tree = tree.map_err(|source| Error::Files {
            image: image.to_owned(),
            src: spec.src.clone(),
            source: Box::new(source),
        })?;
        if merged { merge_usr(image, spec, &tree) } else { Ok(tree) }
    }

    /// Refuses prefixes and homes whose layers would put a folder in the place of a link of the root filesystem.
    fn check_links(&self, name: &str, table: &ImageTable) -> Result<(), Error> {
        let prefixes = table.environments.iter().filter_map(|name| self.config.environments.get(name));
        let homes = table.users.iter().filter_map(|user| user.home.as_ref());
        let prefixes =
            prefixes.flat_map(|table| std::iter::once(&table.prefix).chain(table.editable.values()));
        for path in prefixes.chain(homes).chain(table.links.keys()) {
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
        units.extend(selected.artifacts.iter().map(|wheel| match selected.editable.get(&wheel.name) {
            Some(sources) => Unit::editable(EditableUnit {
                artifact: wheel.clone(),
                scheme: scheme.clone(),
                sources: sources.clone(),
                lock: lock.to_owned(),
            }),
            None => Unit::wheel(wheel.clone(), scheme.clone(), lock),
        }));
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

/// Application files as a Debian root filesystem has room for them: `/bin` and its like are links there.
fn merge_usr(image: &str, spec: &FileSpec, tree: &Tree) -> Result<Tree, Error> {
    deb::merge_usr(tree).map_err(|source| Error::Files {
        image: image.to_owned(),
        src: spec.src.clone(),
        source: Box::new(source.into()),
    })
}

/// The resolver's word for a platform's CPU.
pub(super) fn architecture(platform: &Platform) -> Result<Architecture, Error> {
    match (platform.os(), platform.architecture()) {
        ("linux", "amd64") => Ok(Architecture::Amd64),
        ("linux", "arm64") => Ok(Architecture::Arm64),
        _ => Err(Error::Platform { platform: platform.to_string() }),
    }
}

/// A unit in an image, and what the image leaves out of it.
type Use = (usize, Strip);

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

    fn add_for(&mut self, unit: Unit, strip: &Strip) -> Use {
        let strip = if unit.is_package() { strip.clone() } else { Strip::default() };
        (self.add(unit), strip)
    }

    /// Divides packages that images leave something out of, and those that are too large for a layer; what each image has of
    /// all that, in the same order.
    fn divide(self, images: &[Vec<Use>], cap: u64) -> Result<(Self, Vec<Vec<usize>>), Error> {
        let mut strips: BTreeMap<usize, BTreeSet<&Strip>> = BTreeMap::new();
        for (unit, strip) in images.iter().flatten() {
            strips.entry(*unit).or_default().insert(strip);
        }
        let mut divided = Self::default();
        let mut parts: BTreeMap<(usize, u8), Vec<usize>> = BTreeMap::new();
        let mut ways = BTreeMap::new();
        for (at, unit) in self.all.iter().enumerate() {
            let own = sift::ways(unit, strips.get(&at).into_iter().flatten().copied())?;
            ways.insert(at, own);
        }
        let mut of_images = Vec::new();
        for image in images {
            let mut own: BTreeMap<usize, BTreeSet<Strip>> = BTreeMap::new();
            for (unit, strip) in image {
                own.entry(*unit).or_default().insert(strip.clone());
            }
            let mut all = Vec::new();
            for (at, _) in image {
                // Once, also where two environments have it.
                let Some(own) = own.remove(at) else { continue };
                let (Some(unit), Some(ways)) = (self.all.get(*at), ways.get(at)) else { continue };
                for by in sift::parts(ways, &own) {
                    let of = parts.entry((*at, by)).or_insert_with(|| {
                        let units = match ways.is_empty() {
                            true if unit.is_package() => Unit::clone(unit).split(cap),
                            true => vec![Unit::clone(unit)],
                            false => unit.sift(ways, by, cap),
                        };
                        units.into_iter().map(|unit| divided.add(unit)).collect()
                    });
                    all.extend(of.iter().copied());
                }
            }
            of_images.push(all);
        }
        Ok((divided, of_images))
    }
}
