//! Building an artifact: a root filesystem of layers, what the build works on, one command, and what came out of it.
//!
//! The builder's packages and the environment's wheels become layers like those of any image, and mostly they are the
//! same ones. The build sees them, its sources in `/build`, and nothing else; it has no network.
//!
//! ```text
//! /build/src/       the source distribution, the project, or where a script begins
//! /build/sources/   a script's files
//! /build/vendor/    crates of a Cargo.lock
//! /build/cargo/     CARGO_HOME: where cargo is told of them
//! /build/out/       the wheel
//! ```

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;

use fs_err as fs;
use imgforge_artifact::cargo;
use imgforge_artifact::pep517::{self, Hook, Outcome, Request, Setting};
use imgforge_artifact::receipt::{Inputs, Output, Receipt};
use imgforge_artifact::sdist::{self, BuildSystem};
use imgforge_artifact::{Distribution, rewheel};
use imgforge_layer::wheel::Scheme;
use imgforge_layer::{Codec, Content, Entry, Source as File, Tree, TreePath, write_layer};
use imgforge_oci::Digest;
use imgforge_sandbox::{Command, Finished, Network, Outputs, Sandbox, User};

use super::{Context, Job, usable};
use crate::bases::{self, Root};
use crate::config::{Base, Source};
use crate::derived::{self, Ground};
use crate::environments::Selected;
use crate::error::Error;
use crate::fetch;
use crate::plan::{self, ImageItems};
use crate::project::codec;
use crate::rootfs::{Stacked, join};
use crate::unit::{Input, LayerSpec, Place, Unit};
use crate::workshop::{Made, Progress, Workshop};
use crate::{conflicts, limits, links};

const SRC: &str = "/build/src";
const SOURCES: &str = "/build/sources";
const VENDOR: &str = "/build/vendor";
const CARGO: &str = "/build/cargo";
const OUT: &str = "/build/out";
const RESULT: &str = "/build/result.json";
const DRIVER: &str = "/build/driver.py";
const REQUEST: &str = "/build/request.json";

/// The build user's number, to whom `/build` belongs.
const BUILD_USER: u32 = 1000;

/// Builds an artifact. What came out is in the store, for as long as its receipt is kept. The layers are those that it was
/// built over.
pub(super) fn build(
    context: &Context<'_>,
    job: &Job<'_>,
    environments: &BTreeMap<String, Selected>,
    inputs: &Inputs,
    project: Option<Tree>,
) -> Result<(Receipt, Vec<(LayerSpec, Made)>), Error> {
    let tools = context.tools;
    let here = Platform::here();
    if context.platform.to_string() != here {
        return Err(job.failed(format!(
            "it is for {}, and this host builds for {here}: build it there, with a cache that both have",
            context.platform
        )));
    }
    let line = imgforge_artifact::receipt::line(inputs);
    (tools.on_progress)(Progress::Building(&line));
    let sandbox = Sandbox::new(tools.store).map_err(|error| job.failed(error))?.until(tools.stop);
    let (mut root, layers) = root(context, job, environments, &sandbox)?;
    let mut work = Work::new(context, job, environments, project)?;
    let written = job.table.limits.over(&context.config.settings.limits);
    work.command.limits = limits::of(&sandbox, &written, limits::BUILD);
    sandbox.add(&mut root, &work.files).map_err(|error| job.failed(error))?;
    let mut on_line = |text: &[u8]| (tools.on_progress)(Progress::BuildLine(job.title(), text));
    let finished = sandbox.run(&root, &work.command, &mut on_line).map_err(|error| job.failed(error))?;
    let outcome = check(&finished, job, context, &work);
    if let (Err(_), Some(shell)) = (&outcome, tools.shell) {
        let command = Command { arguments: vec!["/bin/sh".to_owned()], ..work.command.clone() };
        shell(super::Failed {
            artifact: job.name,
            sandbox: &sandbox,
            kept: finished.kept,
            root: &root,
            command,
        });
        return Err(outcome.err().unwrap_or_else(|| job.failed("the build failed")));
    }
    let (result, report) = outcome?;
    let mut receipt = Receipt::new(inputs.clone(), result).map_err(|error| job.failed(error))?;
    receipt.report = report;
    receipt.log = finished.log;
    receipt.duration = u64::try_from(finished.duration.as_millis()).unwrap_or(u64::MAX);
    receipt.host = BTreeMap::from([("joined".to_owned(), format!("{:?}", finished.joined).to_lowercase())]);
    (tools.on_progress)(Progress::Built(&line, &receipt));
    Ok((receipt, layers))
}

/// What a project's folder gives to its build: what `inputs` says, or everything but what builds leave there.
pub(super) fn project(
    context: &Context<'_>,
    job: &Job<'_>,
    folder: &std::path::Path,
    inputs: &[String],
) -> Result<Tree, Error> {
    let source = context.folder.join(folder);
    let exclude: Vec<String> = match inputs {
        // Everything is left out, and some of it taken in again.
        [_, ..] => {
            let again = inputs.iter().flat_map(|pattern| {
                let folder = pattern.trim_end_matches('/');
                [format!("!{pattern}"), format!("!{folder}/**")]
            });
            let folders = ["*".to_owned(), "!*/".to_owned()];
            folders.into_iter().chain(again).collect()
        }
        [] => [
            "/images.lock",
            "/target/",
            "/dist/",
            "/build/",
            "__pycache__/",
            "*.egg-info/",
            "/.git/",
            "/.venv/",
        ]
        .map(str::to_owned)
        .to_vec(),
    };
    let mut hashes = imgforge_layer::Hashes::new(imgforge_layer::Remembered::default(), 0);
    let tree =
        imgforge_layer::files(&source, SRC, &exclude, &mut hashes).map_err(|error| job.failed(error))?;
    let mut own = Tree::new();
    for (path, entry) in tree.iter().filter(|(_, entry)| !entry.is_directory()) {
        own.insert(path.clone(), entry.clone()).map_err(|error| job.failed(error))?;
    }
    match own.is_empty() {
        true => Err(job.failed(format!("{} has none of its `inputs`", source.display()))),
        false => Ok(own),
    }
}

struct Platform;

impl Platform {
    fn here() -> String {
        imgforge_oci::Platform::host().to_string()
    }
}

/// Files that a build is made from: the builder's packages, the environments', and its sources. Crates are known of a
/// project's Cargo.lock; one in a source distribution is read when that is built.
pub(super) fn needs(
    context: &Context<'_>,
    job: &Job<'_>,
    environments: &BTreeMap<String, Selected>,
    project: Option<&Tree>,
) -> Result<Vec<Input>, Error> {
    let units = units(context, job, environments)?;
    let mut needs: Vec<Input> = units.iter().flat_map(|unit| unit.inputs()).collect();
    let own = |file: &str, sha256: String, place: Place| Input {
        name: job.name.to_owned(),
        title: format!("{file} of [artifact.{}]", job.title()),
        locked_in: format!("[artifact.{}]", job.title()),
        relock: None,
        file: file.to_owned(),
        sha256,
        size: None,
        place,
    };
    if let Some(project) = project
        && let Some(lock) = text(project, &format!("{SRC}/Cargo.lock"), job)?
    {
        let lock = cargo::Lock::parse(&lock).map_err(|error| job.failed(error))?;
        for each in lock.crates {
            needs.push(own(&each.file_name(), each.sha256.hex(), Place::Url(each.url())));
        }
    }
    match &job.table.source {
        Source::Project { .. } => {}
        Source::Sdist { .. } => needs.extend(job.source.map(|package| {
            let place = match &package.location {
                imgforge_resolver::Location::Url(url) => Place::Url(url.clone()),
                imgforge_resolver::Location::Path(path) => Place::Path(path.clone()),
            };
            Input { size: package.size, ..own(&package.file, package.sha256.clone(), place) }
        })),
        Source::Script { sources, .. } => {
            for source in sources {
                let place = match source.url.contains("://") {
                    true => Place::Url(source.url.clone()),
                    false => Place::Path(context.folder.join(&source.url)),
                };
                needs.push(own(source.file_name(), source.sha256.clone(), place));
            }
        }
    }
    Ok(needs)
}

/// The builder's packages and those of the environments that the build is done with.
fn units(
    context: &Context<'_>,
    job: &Job<'_>,
    environments: &BTreeMap<String, Selected>,
) -> Result<Vec<Arc<Unit>>, Error> {
    let mut units: Vec<Arc<Unit>> = Vec::new();
    let root = context.bases.get(&job.table.builder).map(|(root, _)| root);
    if let Some(Root::Debian(packages)) = root {
        units.extend(crate::project::debian_units(packages, context.platform)?.into_iter().map(Arc::new));
    }
    let mut names: Vec<&str> = job.environments().collect();
    // One that goes into another stands on it.
    for name in names.clone() {
        let into = context.config.environments.get(name).and_then(|table| table.into.as_deref());
        names.extend(into);
    }
    names.sort_unstable();
    names.dedup();
    for name in names {
        let Some(selected) = environments.get(name) else { continue };
        let usable = Selected { artifacts: usable(selected), pending: Vec::new(), ..selected.clone() };
        let lock = context.config.environments.get(name).map(|table| table.lock.display().to_string());
        let lock = lock.unwrap_or_default();
        units.extend(crate::project::units_of(&usable, &lock).into_iter().map(Arc::new));
        let table = context.config.environments.get(name);
        let links = table.map(links::of_environment).transpose()?.flatten().map(Arc::new);
        // Two environments at one prefix may have the same ones.
        units.extend(links.filter(|links| units.iter().all(|unit| unit.item != links.item)));
    }
    Ok(units)
}

/// The root filesystem that a build sees, and the layers that it has.
fn root(
    context: &Context<'_>,
    job: &Job<'_>,
    environments: &BTreeMap<String, Selected>,
    sandbox: &Sandbox,
) -> Result<(imgforge_sandbox::Root, Vec<(LayerSpec, Made)>), Error> {
    let tools = context.tools;
    let units = units(context, job, environments)?;
    let root = context.bases.get(&job.table.builder).map(|(root, _)| root);
    let items: Vec<_> = units.iter().map(|unit| unit.item.clone()).collect();
    let image = ImageItems { name: job.name.to_owned(), items: (0..items.len()).collect(), below: 0 };
    let settings = &context.config.settings;
    let limits = plan::Limits { layers: 100, bytes: settings.layer_cap << 20 };
    let planned = plan::plan(&items, &[image], limits)?;
    let specs: Vec<LayerSpec> = planned
        .layers
        .iter()
        .map(|members| {
            let members: Vec<_> = members.iter().filter_map(|&unit| units.get(unit)).cloned().collect();
            let rank = members.first().map_or(plan::Rank::Files, |unit| unit.item.rank);
            LayerSpec::new(members, codec(settings.compression, rank), settings.source_date_epoch)
        })
        .collect();
    let workshop = Workshop {
        store: tools.store,
        fetcher: tools.fetcher,
        mirrors: context.mirrors,
        lock: context.lock,
        cache: tools.cache,
        now: tools.host.now,
        vouched: None,
        stop: tools.stop,
        on_progress: tools.on_progress,
    };
    let made = workshop.make(&specs)?;
    let order = planned.images.first().into_iter().flatten();
    let mut layers: Vec<(LayerSpec, Made)> =
        order.filter_map(|&layer| Some((specs.get(layer)?.clone(), made.get(layer)?.clone()))).collect();
    conflicts::check_files(&workshop, &layers)?;
    if matches!(context.config.bases.get(&job.table.builder), Some(Base::Debian(base)) if base.configure) {
        let ground = Ground { tools, base: None, settings };
        derived::configure(&ground, &workshop, &format!("[base.{}]", job.table.builder), &mut layers)?;
    }
    let mut stack: Vec<Stacked> = Vec::new();
    if let Some(Root::Image(base)) = root {
        bases::fetch_layers(base, tools, &|_| true)?;
        stack.extend(base.image.layers().iter().map(|layer| Stacked {
            diff_id: layer.diff_id,
            digest: layer.digest,
            media_type: layer.media_type.to_string(),
        }));
    }
    stack.extend(layers.iter().map(|(_, made)| Stacked {
        diff_id: made.record.diff_id,
        digest: made.record.digest,
        media_type: made.record.media_type.clone(),
    }));
    let root = join(sandbox, tools.store, stack).map_err(|error| job.failed(error))?;
    Ok((root, layers))
}

/// What is run, and what it works on.
struct Work {
    files: Tree,
    command: Command,
    /// What the wheel must be of, as far as it is known.
    expected: Option<Distribution>,
    /// Paths that a script leaves.
    outputs: Option<Vec<String>>,
}

impl Work {
    fn new(
        context: &Context<'_>,
        job: &Job<'_>,
        environments: &BTreeMap<String, Selected>,
        project: Option<Tree>,
    ) -> Result<Self, Error> {
        let epoch = context.config.settings.source_date_epoch;
        let (mut files, build) = match &job.table.source {
            Source::Script { script, sources, .. } => {
                let mut files = script_files(context, job, script, sources)?;
                files.merge(project.unwrap_or_default()).map_err(|error| job.failed(error))?;
                (files, None)
            }
            Source::Project { .. } => {
                let files = project.unwrap_or_default();
                let pyproject = text(&files, &format!("{SRC}/pyproject.toml"), job)?.unwrap_or_default();
                let system = BuildSystem::parse(&pyproject).map_err(|error| job.failed(error))?;
                (files, Some((SRC.to_owned(), system, None)))
            }
            Source::Sdist { .. } => {
                let Some(package) = job.source else {
                    return Err(job.failed("there is no source distribution"));
                };
                let source = fetched(context, job, package)?;
                let expected = Distribution { name: package.name.clone(), version: package.version.clone() };
                let below = TreePath::new(SRC).map_err(|error| job.failed(error))?;
                let read = sdist::read(&source, &package.file, &expected, &below, &scratch(context))
                    .map_err(|error| job.failed(error))?;
                (read.tree, Some((read.root.to_string(), read.build_system, Some(expected))))
            }
        };
        let mut put = |path: &str, entry: Entry| -> Result<(), Error> {
            let path = TreePath::new(path).map_err(|error| job.failed(error))?;
            files.insert(path, entry).map_err(|error| job.failed(error))
        };
        put(OUT, Entry::directory(0o755))?;
        put(CARGO, Entry::directory(0o755))?;
        let mut environment = pep517::environment(epoch, "/build/home", Some(CARGO));
        let (arguments, expected, folder, outputs) = match build {
            Some((folder, system, expected)) => {
                let mut request = Request::new(Hook::BuildWheel, &system, &folder, OUT, RESULT);
                for (key, values) in &job.table.config_settings {
                    let setting = match values.as_slice() {
                        [one] => Setting::One(one.clone()),
                        many => Setting::Many(many.to_vec()),
                    };
                    request.config_settings.insert(key.clone(), setting);
                }
                let request = serde_json::to_vec(&request).map_err(|error| job.failed(error))?;
                put(DRIVER, Entry::bytes(pep517::DRIVER.as_bytes(), false))?;
                put(REQUEST, Entry::bytes(request, false))?;
                let schemes = schemes(job, environments);
                let scheme = schemes.first().ok_or_else(|| job.failed("its environments have no Python"))?;
                if let Some(other) = schemes.iter().find(|other| other.python() != scheme.python()) {
                    let ((a, b), (c, d)) = (scheme.python(), other.python());
                    return Err(job.failed(format!("`env` has Python {a}.{b}, and `requires` {c}.{d}")));
                }
                let python = scheme.executable();
                let bins = schemes.iter().map(|scheme| format!("{}/bin", scheme.prefix()));
                let path: Vec<_> = bins.chain([SYSTEM_PATH.to_owned()]).collect();
                environment.insert("PATH".to_owned(), path.join(":"));
                environment.insert("VIRTUAL_ENV".to_owned(), scheme.prefix().to_string());
                // What only the build needs is seen beside what it is built against.
                let needs = schemes.iter().skip(1);
                let needs: Vec<_> =
                    needs.map(|scheme| format!("{}/{}", scheme.prefix(), scheme.site_packages())).collect();
                if !needs.is_empty() {
                    environment.insert("PYTHONPATH".to_owned(), needs.join(":"));
                }
                (vec![python, DRIVER.to_owned(), REQUEST.to_owned()], expected, folder, None)
            }
            None => {
                let outputs = match &job.table.source {
                    Source::Script { outputs, .. } => outputs.clone(),
                    _ => Vec::new(),
                };
                let arguments = ["/bin/sh", "-e", "-u", "/build/script"].map(str::to_owned).to_vec();
                (arguments, None, SRC.to_owned(), Some(outputs))
            }
        };
        vendored(context, job, &mut files, &folder)?;
        environment.extend(job.table.build_env.clone());
        // A script installs into the root filesystem, a build of a wheel into its own folder.
        let user = if outputs.is_some() { User::Root } else { User::Build };
        let wanted = match &outputs {
            Some(outputs) => outputs.clone(),
            None => vec![OUT.to_owned(), RESULT.to_owned()],
        };
        let command = Command {
            environment,
            folder,
            user,
            network: Network::None,
            outputs: Outputs::Paths(wanted),
            ..Command::new(arguments)
        };
        Ok(Self { files: owned(&files, job)?, command, expected, outputs })
    }
}

const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The files as the build user's, who may write beside them.
fn owned(files: &Tree, job: &Job<'_>) -> Result<Tree, Error> {
    let mut own = Tree::new();
    for (path, entry) in files.iter() {
        let entry = Entry { uid: BUILD_USER, gid: BUILD_USER, ..entry.clone() };
        own.insert(path.clone(), entry).map_err(|error| job.failed(error))?;
    }
    Ok(own)
}

/// Where the build's environments lie: the one that it is built against, whose Python runs the build backend, and the one
/// with what only the build needs.
fn schemes<'a>(job: &Job<'_>, environments: &'a BTreeMap<String, Selected>) -> Vec<&'a Scheme> {
    let mut schemes: Vec<&Scheme> =
        job.environments().filter_map(|name| environments.get(name)?.scheme.as_ref()).collect();
    schemes.dedup_by(|a, b| a.prefix() == b.prefix());
    schemes
}

/// Checks how the build ended, and keeps what came out.
fn check(
    finished: &Finished,
    job: &Job<'_>,
    context: &Context<'_>,
    work: &Work,
) -> Result<(Output, Option<rewheel::Report>), Error> {
    let store = context.tools.store;
    if !finished.is_success() {
        let own = format!("[artifact.{}]", job.title());
        let how = limits::failure(store, finished, &work.command.limits, Some(("limits", &own)));
        return Err(job.failed(format!("the build {how}")));
    }
    if work.outputs.is_some() {
        let mut writer = store.hashing_writer()?;
        let epoch = context.config.settings.source_date_epoch;
        let plain = as_installed(&finished.outputs, job)?;
        let written =
            write_layer(&plain, Codec::None, epoch, &mut writer).map_err(|error| job.failed(error))?;
        let sha256 = writer.commit()?;
        return Ok((Output { file: format!("{}.tar", job.title()), sha256, size: written.size }, None));
    }
    let result = bytes(&finished.outputs, RESULT, job)?;
    let file = match Outcome::parse(&result).map_err(|error| job.failed(error))? {
        Outcome::Wheel(file) => file,
        Outcome::Failure(failure) => return Err(job.failed(failure.to_string())),
    };
    // The backend's wheel, by itself in a file, to be read at random.
    let entry = entry(&finished.outputs, &format!("{OUT}/{file}"), job)?;
    let mut raw = tempfile::tempfile_in(scratch(context))?;
    copy(entry, &mut raw, job)?;
    let raw = File::from_file(raw, &file)?;
    let options = rewheel::Options {
        expected: work.expected.as_ref(),
        build_paths: &[SRC, "/build/home", CARGO],
        scratch: &scratch(context),
    };
    let mut writer = store.writer()?;
    let made = rewheel(&raw, &file, options, &mut writer).map_err(|error| job.failed(error))?;
    writer.commit(made.sha256, made.size)?;
    Ok((Output { file: made.file_name, sha256: made.sha256, size: made.size }, Some(made.report)))
}

/// Files that a script left, as a package would have them: root's, with the permissions that everybody has who can have
/// them at all.
fn as_installed(outputs: &Tree, job: &Job<'_>) -> Result<Tree, Error> {
    let mut own = Tree::new();
    for (path, entry) in outputs.iter() {
        let (is_executable, is_folder) = (entry.mode & 0o100 != 0, entry.is_directory());
        let mode = if is_folder || is_executable { 0o755 } else { 0o644 };
        let mode = if matches!(entry.kind, imgforge_layer::Kind::Symlink(_)) { 0o777 } else { mode };
        let entry = Entry { mode, uid: 0, gid: 0, ..entry.clone() };
        own.insert(path.clone(), entry).map_err(|error| job.failed(error))?;
    }
    Ok(own)
}

/// A script with its sources.
fn script_files(
    context: &Context<'_>,
    job: &Job<'_>,
    script: &str,
    sources: &[crate::config::SourceFile],
) -> Result<Tree, Error> {
    let mut files = Tree::new();
    let mut put = |path: String, entry: Entry| -> Result<(), Error> {
        let path = TreePath::new(&path).map_err(|error| job.failed(error))?;
        files.insert(path, entry).map_err(|error| job.failed(error))
    };
    put("/build/script".to_owned(), Entry::bytes(script.as_bytes(), true))?;
    put(SRC.to_owned(), Entry::directory(0o755))?;
    put(SOURCES.to_owned(), Entry::directory(0o755))?;
    for source in sources {
        let digest = crate::unit::digest(&source.sha256)?;
        let place = match source.url.contains("://") {
            true => fetch::Source::Url(source.url.clone()),
            false => fetch::Source::Path(context.folder.join(&source.url)),
        };
        fetch_one(context, job, source.file_name(), digest, place, None)?;
        let len = fs::metadata(context.tools.store.blob_path(&digest))?.len();
        let path = context.tools.store.blob_path(&digest);
        let content = Content::Host { path, len };
        put(format!("{SOURCES}/{}", source.file_name()), Entry::file(content, Some(digest), false))?;
    }
    Ok(files)
}

/// Crates of a Cargo.lock beside the project, in a vendor folder that cargo is told of.
fn vendored(context: &Context<'_>, job: &Job<'_>, files: &mut Tree, folder: &str) -> Result<(), Error> {
    let Some(lock) = text(files, &format!("{folder}/Cargo.lock"), job)? else { return Ok(()) };
    let lock = cargo::Lock::parse(&lock).map_err(|error| job.failed(error))?;
    for each in &lock.crates {
        let source = fetch::Source::Url(each.url());
        fetch_one(context, job, &each.file_name(), each.sha256, source, None)?;
    }
    let store = context.tools.store;
    let mut open = |each: &cargo::Crate| {
        let file = store.open_blob(&each.sha256).map_err(std::io::Error::other)?;
        File::from_file(file, store.blob_path(&each.sha256))
    };
    let below = TreePath::new(VENDOR).map_err(|error| job.failed(error))?;
    let tree = cargo::vendor(&lock.crates, &mut open, &below, &scratch(context))
        .map_err(|error| job.failed(error))?;
    files.merge(tree).map_err(|error| job.failed(error))?;
    let config = TreePath::new(&format!("{CARGO}/config.toml")).map_err(|error| job.failed(error))?;
    files
        .insert(config, Entry::bytes(cargo::config(VENDOR).into_bytes(), false))
        .map_err(|error| job.failed(error))
}

/// A source distribution, from the store.
fn fetched(
    context: &Context<'_>,
    job: &Job<'_>,
    package: &imgforge_resolver::Artifact,
) -> Result<Arc<File>, Error> {
    let digest = crate::unit::digest(&package.sha256)?;
    let source = match &package.location {
        imgforge_resolver::Location::Url(url) => fetch::Source::Url(url.clone()),
        imgforge_resolver::Location::Path(path) => fetch::Source::Path(path.clone()),
    };
    fetch_one(context, job, &package.file, digest, source, package.size)?;
    let store = context.tools.store;
    Ok(Arc::new(File::from_file(store.open_blob(&digest)?, store.blob_path(&digest))?))
}

fn fetch_one(
    context: &Context<'_>,
    job: &Job<'_>,
    file: &str,
    digest: Digest,
    source: fetch::Source,
    size: Option<u64>,
) -> Result<(), Error> {
    let tools = context.tools;
    if tools.store.contains(&digest)? {
        return Ok(());
    }
    let request = fetch::Request {
        name: job.name.to_owned(),
        title: file.to_owned(),
        file: file.to_owned(),
        digest,
        size,
        locked_in: format!("[artifact.{}]", job.name),
        relock: None,
        sources: vec![source],
    };
    let on_event = |request: &fetch::Request, event: fetch::Event<'_>| {
        (tools.on_progress)(Progress::Fetch(request, event))
    };
    tools.fetcher.fetch(tools.store, &request, &on_event)?;
    Ok(())
}

fn scratch(context: &Context<'_>) -> std::path::PathBuf {
    context.tools.store.root().join("tmp")
}

fn entry<'t>(tree: &'t Tree, path: &str, job: &Job<'_>) -> Result<&'t Entry, Error> {
    let name = TreePath::new(path).map_err(|error| job.failed(error))?;
    tree.get(&name).ok_or_else(|| job.failed(format!("the build left no {path}")))
}

/// A text file of a tree, if it is there.
fn text(tree: &Tree, path: &str, job: &Job<'_>) -> Result<Option<String>, Error> {
    let name = TreePath::new(path).map_err(|error| job.failed(error))?;
    if tree.get(&name).is_none() {
        return Ok(None);
    }
    let bytes = bytes(tree, path, job)?;
    String::from_utf8(bytes).map(Some).map_err(|_| job.failed(format!("{path} is not UTF-8")))
}

/// A small file of a tree.
fn bytes(tree: &Tree, path: &str, job: &Job<'_>) -> Result<Vec<u8>, Error> {
    const LIMIT: u64 = 64 << 20;
    let entry = entry(tree, path, job)?;
    if entry.content().is_none_or(|content| content.len() > LIMIT) {
        return Err(job.failed(format!("{path} is no file of less than {LIMIT} bytes")));
    }
    let mut bytes = Vec::new();
    copy(entry, &mut bytes, job)?;
    Ok(bytes)
}

/// Copies a file's content.
fn copy(entry: &Entry, out: &mut dyn std::io::Write, job: &Job<'_>) -> Result<(), Error> {
    match entry.content() {
        Some(Content::Bytes(bytes)) => out.write_all(bytes)?,
        Some(Content::Range { source, offset, len, .. }) => {
            const PIECE: u64 = 1 << 20;
            let mut at = 0;
            while at < *len {
                let count = PIECE.min(len - at);
                out.write_all(&source.read(offset + at, usize::try_from(count).unwrap_or(0))?)?;
                at += count;
            }
        }
        Some(Content::Host { path, len }) => {
            let mut file = fs::File::open(path)?.take(*len);
            std::io::copy(&mut file, out)?;
        }
        _ => return Err(job.failed("a file of the build can't be read")),
    }
    Ok(())
}
