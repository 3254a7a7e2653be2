//! Artifacts: what is built once, in a sandbox, and used byte for byte wherever it is needed.
//!
//! Each artifact of images.toml is *resolved* first: its source, its recipe and the axes of its key come down to digests,
//! and those to a key, with nothing built. A *receipt* in the store says what came out for a key. Where there is none, the
//! artifact is built ([`build`]), or, where nothing is to be made, stands as pending.
//!
//! What an artifact is built in has a part in its key only as far as its axes say so. By default they say all of it.

mod axis;
mod build;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imgforge_artifact::receipt::{self, BUILDER_FORMAT, Inputs, Output, Receipt, Why};
use imgforge_layer::members::{MemberKind, Members};
use imgforge_layer::wheel::normalise;
use imgforge_layer::{Content, Entry, Kind, Tree, TreePath};
use imgforge_oci::{Digest, Platform, json};
use imgforge_resolver::{Artifact as Package, Location};
use imgforge_store::Store;
use serde_json::json;

use crate::bases::Root;
use crate::config::{Artifact, Config, Folder, Source};
use crate::derived;
use crate::environments::Selected;
use crate::error::Error;
use crate::fetch;
use crate::images_lock::BuiltArtifact;
use crate::links;
use crate::plan::{PRIORITY, Rank};
use crate::project::Tools;
use crate::unit::{Input, LayerSpec, Unit};
use crate::workshop::{Made, Progress};

/// An artifact, come down to digests.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Its names in images.toml: several where the matrix has it at several points, and it is the same at all of them.
    pub names: BTreeSet<String>,
    /// What it is built from.
    pub inputs: Inputs,
    /// What stands for those: 64 hexadecimal digits.
    pub key: String,
    /// What came out; nothing when it is pending.
    pub built: Option<BuiltArtifact>,
    /// What earlier receipts say, where there was none for the key.
    pub why: Option<Why>,
    /// Whether it was built in this run.
    pub is_new: bool,
    /// Whether the cache has it, and the store not.
    pub is_in_cache: bool,
    /// Files that a build of it is made from.
    pub needs: Vec<Input>,
    /// The layers that it was built over in this run.
    pub layers: Vec<(LayerSpec, Made)>,
}

impl Resolved {
    /// The key for a person: `flash-attn 2.8.3 · cu128 · torch 2.9.0 · cp311`.
    pub fn line(&self) -> String {
        receipt::line(&self.inputs)
    }
}

/// What a failed build has left, to look around in.
pub struct Failed<'a> {
    /// The artifact's name.
    pub artifact: &'a str,
    /// Where it was built.
    pub sandbox: &'a imgforge_sandbox::Sandbox,
    /// What the build wrote.
    pub kept: imgforge_sandbox::Kept,
    /// What it saw.
    pub root: &'a imgforge_sandbox::Root,
    /// A shell, with the build's folder, user and environment.
    pub command: imgforge_sandbox::Command,
}

/// What artifacts are resolved among: everything of one platform.
pub(crate) struct Context<'a> {
    /// images.toml.
    pub(crate) config: &'a Config,
    /// Its folder.
    pub(crate) folder: &'a std::path::Path,
    /// What is built for.
    pub(crate) platform: &'a Platform,
    /// Root filesystems by name.
    pub(crate) bases: &'a BTreeMap<String, (Root, Arc<crate::facts::Facts>)>,
    /// The store, the fetcher and so on.
    pub(crate) tools: &'a Tools<'a>,
    /// Debian mirrors.
    pub(crate) mirrors: &'a [String],
    /// The outcome of earlier builds.
    pub(crate) lock: &'a crate::images_lock::ImagesLock,
}

/// The bucket of receipts, by key.
fn bucket() -> String {
    format!("artifacts/{BUILDER_FORMAT}")
}

/// Where the store has the receipt for a key: `artifacts/FORMAT/KEY`.
pub fn record(key: &str) -> String {
    format!("{}/{key}", bucket())
}

/// The bucket of the keys that an artifact ever had, by its name.
const KEYS: &str = "artifact-keys/1";

/// Resolves the artifacts that environments and images use, and has them built where that is wanted. Wheels that come out
/// take the places of the source distributions they were made of, and join the environments that name their project.
///
/// # Errors
/// [`Error::Artifact`], with what can't be resolved or built.
pub(crate) fn settle(
    context: &Context<'_>,
    environments: &mut BTreeMap<String, Selected>,
) -> Result<Vec<Resolved>, Error> {
    let mut done: BTreeMap<String, Resolved> = BTreeMap::new();
    // What an artifact is built against is what locks say: a wheel that another artifact gives has no part in it, or a
    // key would depend on what is built already.
    let locked = environments.clone();
    for name in locked.keys() {
        let users = users(context.config, name);
        if users.is_empty() {
            continue;
        }
        let is_needed = users.iter().any(|image| context.tools.building.contains(*image));
        for (artifact, source) in wanted(context, &locked, name)? {
            let Some(table) = context.config.artifacts.get(&artifact) else { continue };
            let job = Job { name: &artifact, table, source: Some(&source) };
            let key = one(context, &job, &locked, is_needed, &mut done)?;
            if let (Some(resolved), Some(found)) = (done.get(&key), environments.get_mut(name)) {
                let installed = install(context.tools.store, found, &source, resolved);
                let table = context.config.environments.get(name);
                let sources = table.and_then(|table| table.editable.get(job.title()));
                if let (Some(installed), Some(sources)) = (installed, sources) {
                    let sources = TreePath::new(sources).map_err(|error| job.failed(error))?;
                    found.editable.insert(installed, sources);
                }
            }
        }
    }
    for (artifact, table) in &context.config.artifacts {
        if !matches!(table.source, Source::Script { .. }) {
            continue;
        }
        let users: Vec<_> =
            context.config.images.iter().filter(|(_, image)| image.artifacts.contains(artifact)).collect();
        if !users.is_empty() {
            let is_needed = users.iter().any(|(image, _)| context.tools.building.contains(*image));
            let job = Job { name: artifact, table, source: None };
            one(context, &job, &locked, is_needed, &mut done)?;
        }
    }
    let mut all: Vec<Resolved> = done.into_values().collect();
    all.sort_by(|a, b| (&a.inputs.name, &a.key).cmp(&(&b.inputs.name, &b.key)));
    Ok(all)
}

/// An artifact to resolve.
pub(crate) struct Job<'a> {
    pub(crate) name: &'a str,
    pub(crate) table: &'a Artifact,
    /// The source distribution, or what stands for the project.
    pub(crate) source: Option<&'a Package>,
}

impl Job<'_> {
    /// What it is called at every point of the matrix.
    pub(crate) fn title(&self) -> &str {
        self.name.split('[').next().unwrap_or(self.name)
    }

    pub(crate) fn failed(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Artifact { artifact: self.name.to_owned(), source: source.into() }
    }

    /// The environments of its build: what it is built against, and what builds it.
    pub(crate) fn environments(&self) -> impl Iterator<Item = &str> {
        self.table.env.as_deref().into_iter().chain(self.table.requires.as_deref())
    }
}

/// Whether what a lock names is a source distribution.
pub(crate) fn is_sdist(package: &Package) -> bool {
    !package.file.ends_with(".whl")
}

/// The images that have an environment, or another one that goes into it.
fn users<'a>(config: &'a Config, environment: &str) -> Vec<&'a String> {
    let goes_into = |name: &String| {
        let into = config.environments.get(name).and_then(|it| it.into.as_deref());
        name == environment || into == Some(environment)
    };
    let has_it = config.images.iter().filter(|(_, image)| image.environments.iter().any(goes_into));
    has_it.map(|(name, _)| name).collect()
}

/// The artifacts of an environment, with their sources: its lock's source distributions, and projects that it names.
fn wanted(
    context: &Context<'_>,
    environments: &BTreeMap<String, Selected>,
    environment: &str,
) -> Result<Vec<(String, Package)>, Error> {
    let config = context.config;
    let (Some(table), Some(selected)) = (config.environments.get(environment), environments.get(environment))
    else {
        return Ok(Vec::new());
    };
    let mut wanted = Vec::new();
    for source in selected.artifacts.iter().filter(|package| is_sdist(package)) {
        wanted.push((builder_of(context, environments, environment, source)?, source.clone()));
    }
    for name in &table.artifacts {
        let Some(Artifact { source: Source::Project { folder, .. }, .. }) = config.artifacts.get(name) else {
            continue;
        };
        let project = Package {
            name: name.clone(),
            version: String::new(),
            file: String::new(),
            location: Location::Path(context.folder.join(folder)),
            sha256: String::new(),
            size: None,
        };
        let Some(table) = config.artifacts.get(name) else { continue };
        let job = Job { name, table, source: Some(&project) };
        if let Some(difference) = axis::difference(context, &job, environments, environment)? {
            return Err(job.failed(format!("it is built for {difference} in [env.{environment}]")));
        }
        wanted.push((name.clone(), project));
    }
    Ok(wanted)
}

/// The artifact that makes a wheel of a source distribution, as an environment needs it.
fn builder_of(
    context: &Context<'_>,
    environments: &BTreeMap<String, Selected>,
    environment: &str,
    source: &Package,
) -> Result<String, Error> {
    let artifacts = &context.config.artifacts;
    let makes = |artifact: &Artifact| matches!(&artifact.source, Source::Sdist { package } if normalise(package) == normalise(&source.name));
    let named = context.config.environments.get(environment).map_or(&[][..], |table| &table.artifacts);
    let is_own = |(name, artifact): &(&String, &Artifact)| {
        named.contains(name) || artifact.env.as_deref() == Some(environment)
    };
    let mut others: Vec<_> = artifacts.iter().filter(|(_, artifact)| makes(artifact)).collect();
    others.sort_by_key(|it| !is_own(it));
    let mut different = Vec::new();
    for (name, table) in &others {
        let job = Job { name, table, source: Some(source) };
        match axis::difference(context, &job, environments, environment)? {
            None => return Ok((*name).clone()),
            Some(difference) => different.push(format!("[artifact.{name}] is for {difference}")),
        }
    }
    let problem =
        format!("{} of [env.{environment}] is a source distribution: {}", source.file, different.join("; "));
    Err(Error::Artifact { artifact: source.name.clone(), source: problem.into() })
}

/// Resolves one artifact, once for each key, and builds it where it is needed now. Returns the key.
fn one(
    context: &Context<'_>,
    job: &Job<'_>,
    environments: &BTreeMap<String, Selected>,
    is_needed: bool,
    done: &mut BTreeMap<String, Resolved>,
) -> Result<String, Error> {
    let (inputs, files) = inputs(context, job, environments)?;
    let key = receipt::key(&inputs).map_err(|error| job.failed(error))?.to_string();
    let mut names = BTreeSet::from([job.name.to_owned()]);
    if let Some(known) = done.get_mut(&key) {
        known.names.append(&mut names);
        if known.built.is_some() || !is_needed {
            return Ok(key);
        }
        names.append(&mut known.names);
    }
    let needs = build::needs(context, job, environments, files.as_ref())?;
    let store = context.tools.store;
    let locked = context.lock.artifacts.get(&key);
    let is_again = context.tools.rebuild.is_some_and(|name| name == job.name || name == job.title());
    let mut receipt = if is_again { None } else { known(store, &key)? };
    let (mut why, mut is_new, mut layers) = (None, false, Vec::new());
    // What another host has built is known by its receipt; its bytes are fetched when something is made of them.
    let promised = match &receipt {
        None if !is_again => promised(context, job, &key, locked)?,
        _ => None,
    };
    if receipt.is_none() && promised.is_none() {
        why = Some(receipt::why(&inputs, &earlier(store, job.title())?));
        if is_needed {
            // Two processes build it once.
            let _lock = store.work_lock(&format!("artifact {key}"), |_| {})?;
            receipt = match known(store, &key)? {
                _ if is_again => None,
                Some(receipt) => Some(receipt),
                None => vendored(context, job, &inputs, locked)?,
            };
            if receipt.is_none() {
                let built;
                (built, layers) = build::build(context, job, environments, &inputs, files)?;
                if !is_again {
                    keep(store, job.title(), &built)?;
                    store.sync()?;
                }
                receipt = Some(built);
                is_new = true;
            }
        }
    }
    // An artifact comes out as images.lock says, whether it was just built or long ago.
    if let (Some(locked), Some(receipt)) = (locked, &receipt)
        && locked.sha256 != receipt.result.sha256.hex()
        && is_needed
        && !is_again
    {
        return Err(job.failed(format!(
            "it came out otherwise than before: images.lock has sha256:{}, this is {}; `imgforge verify --rebuild {}` says \
             what differs, and without its [[artifact]] in images.lock this one is taken",
            locked.sha256,
            receipt.result.sha256,
            job.title()
        )));
    }
    let is_in_cache = promised.is_some();
    let built = receipt.or(promised).map(|receipt| BuiltArtifact {
        name: job.title().to_owned(),
        title: receipt::line(&inputs),
        key: key.clone(),
        file: receipt.result.file.clone(),
        sha256: receipt.result.sha256.hex(),
        size: receipt.result.size,
    });
    let built = built.or_else(|| locked.cloned());
    let resolved =
        Resolved { names, inputs, key: key.clone(), built, why, is_new, is_in_cache, needs, layers };
    done.insert(key.clone(), resolved);
    Ok(key)
}

/// An artifact that another host has built: its receipt. What is wrong with the cache is told, and the artifact is built
/// here. Where the store has the bytes already, the receipt is kept with them.
fn promised(
    context: &Context<'_>,
    job: &Job<'_>,
    key: &str,
    locked: Option<&BuiltArtifact>,
) -> Result<Option<Receipt>, Error> {
    let tools = context.tools;
    let Some(cache) = tools.cache else { return Ok(None) };
    let found = cache.receipt(key).and_then(|receipt| match (receipt, locked) {
        (Some(receipt), Some(locked)) if receipt.result.sha256.hex() != locked.sha256 => {
            let problem = format!(
                "images.lock has sha256:{} for it, the cache {}",
                locked.sha256, receipt.result.sha256
            );
            Err(cache.wrong(key, &problem))
        }
        (receipt, _) => Ok(receipt),
    });
    let receipt = match found {
        Ok(Some(receipt)) => receipt,
        Ok(None) => return Ok(None),
        Err(error @ Error::Cache { .. }) => {
            (tools.on_progress)(Progress::CacheTrouble(&error));
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let result = &receipt.result;
    if tools.takes_at_once {
        let on_event = |event: imgforge_registry::Event<'_>| {
            let (digest, size) = (result.sha256, result.size);
            (tools.on_progress)(Progress::Transfer { title: &receipt.line, digest, size, event });
        };
        match cache.fetch_result(tools.store, result.sha256, result.size, &on_event) {
            Ok(()) => (tools.on_progress)(Progress::TakenArtifact(&receipt)),
            Err(error @ Error::Cache { .. }) => {
                (tools.on_progress)(Progress::CacheTrouble(&error));
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
    if tools.store.contains(&result.sha256)? {
        keep(tools.store, job.title(), &receipt)?;
        tools.store.sync()?;
    }
    Ok(Some(receipt))
}

/// What images.lock says came out of these very inputs, where a vendor folder or a mirror has it.
fn vendored(
    context: &Context<'_>,
    job: &Job<'_>,
    inputs: &Inputs,
    locked: Option<&BuiltArtifact>,
) -> Result<Option<Receipt>, Error> {
    let Some(locked) = locked else { return Ok(None) };
    let tools = context.tools;
    let sha256 = crate::unit::digest(&locked.sha256)?;
    let request = fetch::Request {
        name: job.name.to_owned(),
        title: locked.file.clone(),
        file: locked.file.clone(),
        digest: sha256,
        size: Some(locked.size),
        locked_in: "images.lock".to_owned(),
        relock: None,
        sources: Vec::new(),
    };
    // It is nowhere, mostly.
    if tools.fetcher.fetch(tools.store, &request, &|_, _| {}).is_err() {
        return Ok(None);
    }
    let output = Output { file: locked.file.clone(), sha256, size: locked.size };
    let receipt = Receipt::new(inputs.clone(), output).map_err(|error| job.failed(error))?;
    keep(tools.store, job.title(), &receipt)?;
    tools.store.sync()?;
    Ok(Some(receipt))
}

/// Puts the artifacts of images into the cache, where they are in the store. Nothing depends on it: what fails is told as
/// [`Progress::CacheTrouble`]. Returns the bytes that were sent.
///
/// # Errors
/// As for any reading of the store.
pub fn offer(tools: &Tools<'_>, resolved: &[Resolved]) -> Result<u64, Error> {
    let Some(cache) = tools.cache else { return Ok(0) };
    let mut sent = 0;
    for artifact in resolved {
        let Some(receipt) = known(tools.store, &artifact.key)? else { continue };
        if cache.is_lost() {
            break;
        }
        match cache.offer_artifact(tools.store, &receipt) {
            Ok(bytes) => sent += bytes,
            Err(error) => (tools.on_progress)(Progress::CacheTrouble(&error)),
        }
    }
    Ok(sent)
}

/// The receipt for a key, if what it is for is there too.
fn known(store: &Store, key: &str) -> Result<Option<Receipt>, Error> {
    let text: Option<String> = store.record(&bucket(), key)?;
    let Some(receipt) = text.and_then(|text| Receipt::parse(text.as_bytes()).ok()) else { return Ok(None) };
    Ok(store.contains(&receipt.result.sha256)?.then_some(receipt))
}

/// Receipts of an artifact under other keys.
fn earlier(store: &Store, name: &str) -> Result<Vec<Receipt>, Error> {
    let keys: Option<BTreeSet<String>> = store.record(KEYS, &Digest::of(name.as_bytes()).hex())?;
    let mut receipts = Vec::new();
    for key in keys.unwrap_or_default() {
        let text: Option<String> = store.record(&bucket(), &key)?;
        receipts.extend(text.and_then(|text| Receipt::parse(text.as_bytes()).ok()));
    }
    Ok(receipts)
}

/// Keeps a receipt with what it is for.
pub(crate) fn keep(store: &Store, name: &str, receipt: &Receipt) -> Result<(), Error> {
    let key = receipt.key.to_string();
    let text = receipt
        .to_json()
        .map_err(|error| Error::Artifact { artifact: name.to_owned(), source: error.into() })?;
    let text = String::from_utf8_lossy(&text).into_owned();
    // Of an artifact from elsewhere, the log is there.
    let log = receipt.log.filter(|log| store.contains(log).unwrap_or(false));
    let blobs: Vec<Digest> = std::iter::once(receipt.result.sha256).chain(log).collect();
    store.put_record(&bucket(), &key, &text, &blobs)?;
    let at = Digest::of(name.as_bytes()).hex();
    // Two processes that keep two keys of one artifact: the second one reads what the first one has written.
    let _lock = store.work_lock(&format!("artifact keys {at}"), |_| {})?;
    let mut keys: BTreeSet<String> = store.record(KEYS, &at)?.unwrap_or_default();
    keys.insert(key);
    Ok(store.put_record(KEYS, &at, &keys, &[])?)
}

/// Puts a wheel into the place of its source, or removes the source where the wheel is pending. Returns the wheel's name.
fn install(store: &Store, selected: &mut Selected, source: &Package, resolved: &Resolved) -> Option<String> {
    // A project has no file, and stands for nothing that the lock has.
    let is_project = source.file.is_empty();
    selected.artifacts.retain(|package| is_project || package.name != source.name);
    let Some(built) = &resolved.built else {
        selected.pending.push((resolved.line(), resolved.key.clone()));
        return None;
    };
    let mut parts = built.file.split('-');
    let (name, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    selected.artifacts.retain(|package| normalise(&package.name) != normalise(name));
    let path = Digest::from_hex(&built.sha256).map(|digest| store.blob_path(&digest)).unwrap_or_default();
    selected.artifacts.push(Package {
        name: normalise(name),
        version: version.to_owned(),
        file: built.file.clone(),
        location: Location::Path(path),
        sha256: built.sha256.clone(),
        size: Some(built.size),
    });
    selected.artifacts.sort_by(|a, b| a.name.cmp(&b.name));
    Some(normalise(name))
}

/// Everything that an artifact is made from, and a project's files.
fn inputs(
    context: &Context<'_>,
    job: &Job<'_>,
    environments: &BTreeMap<String, Selected>,
) -> Result<(Inputs, Option<Tree>), Error> {
    let table = job.table;
    if let Some(name) = &table.requires
        && let Some(other) = context.config.environments.get(name).and_then(|table| table.artifacts.first())
    {
        return Err(job.failed(format!(
            "`requires`: [env.{name}] has [artifact.{other}]: what builds an artifact is locked as wheels, and not built"
        )));
    }
    let mut sources = BTreeMap::new();
    let mut recipe = BTreeMap::new();
    let mut version = None;
    let mut files = None;
    match &table.source {
        Source::Sdist { .. } => {
            recipe.insert("build".to_owned(), "build_wheel".to_owned());
            if let Some(sdist) = job.source {
                version = Some(sdist.version.clone());
                sources.insert(sdist.file.clone(), crate::unit::digest(&sdist.sha256)?);
            }
        }
        Source::Project { folder, inputs } => {
            recipe.insert("build".to_owned(), "build_wheel".to_owned());
            let tree = build::project(context, job, folder, inputs)?;
            sources.insert("project".to_owned(), digest_of(&tree)?);
            files = Some(tree);
        }
        Source::Script { script, project, sources: given, outputs } => {
            recipe.insert("script".to_owned(), script.clone());
            if let Some(Folder { folder, inputs }) = project {
                let tree = build::project(context, job, folder, inputs)?;
                sources.insert("project".to_owned(), digest_of(&tree)?);
                files = Some(tree);
            }
            recipe.insert("outputs".to_owned(), outputs.join("\n"));
            for file in given {
                sources.insert(file.file_name().to_owned(), crate::unit::digest(&file.sha256)?);
            }
        }
    }
    recipe.insert("source-date-epoch".to_owned(), context.config.settings.source_date_epoch.to_string());
    // They are no package's, so that no axis has them.
    recipe.extend(links::recipe(context.config, job).map(|links| ("links".to_owned(), links)));
    if !table.config_settings.is_empty() {
        let settings = json::canonical(&json!(table.config_settings))?;
        recipe.insert("config-settings".to_owned(), String::from_utf8_lossy(&settings).into_owned());
    }
    let mut axes = Vec::new();
    for name in &table.key {
        axes.push(axis::resolve(context, job, environments, name)?);
    }
    let inputs = Inputs {
        format: BUILDER_FORMAT,
        name: job.title().to_owned(),
        version,
        platform: context.platform.to_string(),
        sources,
        recipe,
        axes,
        build_env: table.build_env.clone(),
    };
    Ok((inputs, files))
}

/// A digest of a tree's names, modes and contents.
fn digest_of(tree: &Tree) -> Result<Digest, Error> {
    let listing: Vec<_> = tree
        .iter()
        .map(|(path, entry)| {
            let what = match &entry.kind {
                Kind::Directory => String::new(),
                Kind::File(file) => file.sha256.map(|digest| digest.hex()).unwrap_or_default(),
                Kind::Symlink(target) => format!("-> {target}"),
                Kind::Hardlink(target) => format!("= {target}"),
            };
            json!([path.as_str(), entry.mode, what])
        })
        .collect();
    Ok(Digest::of(&json::canonical(&json!(listing))?))
}

/// What artifacts' files are as units: those of scripts, at their own paths.
///
/// # Errors
/// [`Error::Digest`] for a digest in images.lock that is none.
pub(crate) fn units(config: &Config, resolved: &[Resolved], names: &[String]) -> Result<Vec<Unit>, Error> {
    let priority = |name: &str| config.artifacts.get(name).map_or(PRIORITY, |table| table.cache_priority);
    names
        .iter()
        .map(|name| {
            let found = resolved.iter().find(|it| it.names.contains(name));
            let it = found.ok_or_else(|| Error::Artifact {
                artifact: name.clone(),
                source: "an image names it, and nothing came of it".into(),
            })?;
            let unit = match &it.built {
                Some(built) => {
                    let digest = crate::unit::digest(&built.sha256)?;
                    Unit::built(&built.name, &it.line(), digest, built.size)
                }
                None => Unit::pending(Rank::Artifacts, &it.line(), &it.key),
            };
            Ok(unit.with_priority(priority(name)))
        })
        .collect()
}

/// The parts of an environment that a build can use: not what is still to be built.
pub(crate) fn usable(selected: &Selected) -> Vec<Package> {
    selected.artifacts.iter().filter(|package| !is_sdist(package)).cloned().collect()
}

/// What images.lock says of artifacts.
pub(crate) fn outcome(resolved: &[Resolved]) -> BTreeMap<String, BuiltArtifact> {
    resolved.iter().filter_map(|it| Some((it.key.clone(), it.built.clone()?))).collect()
}

/// The files that a script left, from the tar that they are kept in.
pub(crate) fn tree(
    source: &Arc<imgforge_layer::Source>,
) -> Result<Tree, Box<dyn std::error::Error + Send + Sync>> {
    let mut tree = Tree::new();
    let mut members = Members::new(source, 0, source.len());
    while let Some(member) = members.next()? {
        let name = member.name.trim_end_matches('/');
        let path = match derived::removed(name) {
            Some(removed) => TreePath::new(&removed)?.whiteout()?,
            None => TreePath::new(name)?,
        };
        let kind = match member.kind {
            MemberKind::Directory => Kind::Directory,
            MemberKind::File => Kind::File(imgforge_layer::File {
                content: Content::Range {
                    source: Arc::clone(source),
                    offset: member.offset,
                    len: member.len,
                    crc32: None,
                },
                sha256: None,
            }),
            MemberKind::Symlink(target) => Kind::Symlink(target),
            MemberKind::Hardlink(target) => Kind::Hardlink(TreePath::new(&target)?),
        };
        let mode = if matches!(kind, Kind::Symlink(_)) { 0o777 } else { member.mode };
        tree.insert(path, Entry { kind, mode, uid: member.uid, gid: member.gid, xattrs: member.xattrs })?;
    }
    members.finish()?;
    Ok(tree)
}
