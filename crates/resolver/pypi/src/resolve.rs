//! Requirements → the files that an installer would take for a target: uv's resolver, in this process.
//!
//! The target need not be this host, and there is no Python on it: markers and wheel tags are made from its description
//! ([`crate::target`]). A package that has to be built before it says what it depends on is an error that names it.
//!
//! What is written is what uv itself writes: requirements.txt as `uv pip compile --generate-hashes` does, pylock.toml as
//! `uv pip compile --format pylock.toml` does, uv.lock as `uv lock` does for a project ([`crate::project`]). The first two are
//! for the target alone, as their tools mean them.

use std::path::{Path, PathBuf};

use imgforge_resolver_core::{Artifact, Target};
use uv_distribution_types::{HashGeneration, IndexLocations};
use uv_resolver::{
    AnnotationStyle, DisplayResolutionGraph, Options, OptionsBuilder, Preferences, PylockToml,
    PythonRequirement, ResolverEnvironment, ResolverOutput,
};
use uv_types::HashStrategy;

use crate::error::{Error, plain, plain_text, without_credentials};
use crate::guard::guarded;
use crate::indexes::{Indexes, runtime};
use crate::local::Hashes;
use crate::project;
use crate::request::{Parsed, Request};
use crate::solver::{Question, ask};
use crate::target::Environment;
use crate::uv_lock::folder;

/// What a [`Request`] was resolved to: files, and the ways to write them down.
#[derive(Clone, Debug)]
pub struct Resolution {
    asked: Asked,
    artifacts: Vec<Artifact>,
    requirements: String,
    pylock: Result<String, String>,
    hashes: Hashes,
}

/// What was asked, which a uv.lock has to be asked for once more.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) file: PathBuf,
    pub(crate) target: Target,
    pub(crate) indexes: Indexes,
}

/// Resolves requirements for `target` and finds the file of each package.
///
/// `file` is where the requirements come from: messages name it, and relative paths in them and in `indexes` are relative to its
/// folder. Without an index, PyPI is asked.
///
/// # Errors
///
/// [`Error::Python`], [`Error::Requirement`] and [`Error::Date`] for what can't be meant, [`Error::Index`] when an index can't be
/// asked, [`Error::Unsatisfiable`] with uv's explanation when nothing fits, [`Error::NeedsBuild`] for a package that would have
/// to be built before anything is known of it, and [`Error::Unusable`] for files without a hash.
pub fn resolve(
    request: &Request,
    file: &Path,
    target: &Target,
    indexes: &Indexes,
) -> Result<Resolution, Error> {
    let environment = Environment::new(target)?;
    let asked = Asked {
        request: request.clone(),
        file: file.to_owned(),
        target: target.clone(),
        indexes: indexes.clone(),
    };
    guarded(&request.text(), file, || {
        let parsed = request.parse(file)?;
        let output = runtime(file)?.block_on(specific(&parsed, &asked, &environment))?;
        let folder = folder(file)?;
        let pylock =
            PylockToml::from_resolution(&output, &[], &folder, Some(&environment.tags), &parsed.build);
        let requirements = requirements(&output, &environment);
        let mut hashes = Hashes::default();
        let artifacts = hashes.artifacts(output.into(), file, &folder)?;
        let pylock = pylock
            .map_err(|error| plain(&error))
            .and_then(|lock| lock.to_toml().map_err(|error| plain(&error)))
            .and_then(|text| hashes.in_toml(&text))
            .map(|text| without_credentials(&text));
        let requirements = without_credentials(&hashes.in_requirements(&requirements));
        Ok(Resolution { asked, artifacts, requirements, pylock, hashes })
    })
}

impl Resolution {
    /// The files, by the names of their packages. A source distribution is among them only where the request lets it.
    pub fn artifacts(&self) -> &[Artifact] {
        &self.artifacts
    }

    /// A requirements.txt with the hashes of all files of each version, as `uv pip compile --generate-hashes` writes it.
    ///
    /// It has no URLs, and names no index: who reads it asks the same ones.
    pub fn to_requirements(&self) -> String {
        self.requirements.clone()
    }

    /// A pylock.toml (PEP 751) with the wheels of each version that fit the target.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for what the format can't say.
    pub fn to_pylock(&self) -> Result<String, Error> {
        self.pylock.clone().map_err(|message| Error::Unsupported { file: "pylock.toml".into(), message })
    }

    /// The uv.lock of the project that [`Resolution::to_pyproject`] writes.
    ///
    /// A uv.lock is for many environments. So this asks the indexes once more, for all that Linux and CPython of this minor
    /// version and CPU can be (`tool.uv.environments`), and prefers the versions that are already chosen: read back for
    /// the target, it has the same files.
    ///
    /// # Errors
    ///
    /// As [`resolve`], and [`Error::Unsupported`] when no lock has the same files: then what a package requires depends on more
    /// than a uv.lock can be restricted to.
    pub fn to_uv_lock(&self) -> Result<String, Error> {
        project::lock(&self.asked, &self.artifacts, &self.hashes)
    }

    /// The pyproject.toml of a project with these requirements and nothing of its own: what uv needs beside a uv.lock.
    ///
    /// # Errors
    ///
    /// As [`resolve`] for what can't be meant.
    pub fn to_pyproject(&self) -> Result<String, Error> {
        project::pyproject(&self.asked)
    }
}

/// Resolves for the target and nothing else, as `uv pip compile` does.
async fn specific(
    parsed: &Parsed,
    asked: &Asked,
    environment: &Environment,
) -> Result<ResolverOutput, Error> {
    let question = Question {
        manifest: parsed.manifest(None, Preferences::default()),
        options: options(parsed),
        python: PythonRequirement::from_marker_environment(
            &environment.markers,
            environment.requires_python(),
        ),
        environment: ResolverEnvironment::specific(environment.markers.clone()),
        target: environment,
        tags: Some(&environment.tags),
        hasher: &hasher(),
    };
    ask(question, locations(asked)?, &asked.indexes, &asked.file).await
}

pub(crate) fn options(parsed: &Parsed) -> Options {
    OptionsBuilder::new()
        .prerelease(parsed.prerelease.clone())
        .exclude_newer(parsed.exclude_newer.clone())
        .build_options(parsed.build.clone())
        .build()
}

/// Hashes what no index has a hash of because no index has it: files that a requirement names by URL.
pub(crate) fn hasher() -> HashStrategy {
    HashStrategy::Generate(HashGeneration::Url)
}

pub(crate) fn locations(asked: &Asked) -> Result<IndexLocations, Error> {
    let (indexes, links) = asked.indexes.given(&asked.file)?;
    Ok(IndexLocations::new(indexes, links, false))
}

fn requirements(output: &ResolverOutput, environment: &Environment) -> String {
    let environment = ResolverEnvironment::specific(environment.markers.clone());
    let (hashes, extras, markers, annotations, index) = (true, false, false, true, false);
    let text = DisplayResolutionGraph::new(
        output,
        &environment,
        &[],
        hashes,
        extras,
        markers,
        annotations,
        index,
        AnnotationStyle::Split,
    );
    plain_text(&text.to_string()) + "\n"
}
