//! `requirements.txt` with hashes: names, versions and allowed digests, but no URLs.
//!
//! So an index is asked where the files are. uv's resolver does that in its direct mode: it chooses a file for each
//! pinned requirement and walks no dependencies, so what is installed is what the file lists. Requirements that name
//! their wheel by URL or path need no index.

use std::collections::BTreeSet;
use std::path::Path;
use std::str::FromStr as _;

use imgforge_resolver_core::{Artifact, Target};
use uv_client::{BaseClientBuilder, Connectivity};
use uv_configuration::HashCheckingMode;
use uv_distribution_types::{
    BuiltDist, Dist, Index, IndexLocations, IndexUrl, Requirement, RequirementSource, RequiresPython,
    Resolution, ResolvedDist, UnresolvedRequirement, UnresolvedRequirementSpecification,
};
use uv_normalize::PackageName;
use uv_pypi_types::{HashDigest, HashDigests, ParsedUrl};
use uv_requirements_txt::{RequirementsTxt, SourceCache};
use uv_resolver::{DependencyMode, Manifest, OptionsBuilder, PythonRequirement, ResolverEnvironment};
use uv_types::HashStrategy;

use crate::artifact::{Gathered, registry_url, sha256, sha256s, wheel_name};
use crate::error::{Error, Reason, plain, plain_text};
use crate::guard::guarded;
use crate::indexes::{Indexes, runtime};
use crate::solver::{Question, ask};
use crate::target::Environment;
use crate::uv_lock::folder;

/// Reads a `requirements.txt` with hashes and finds what is to be installed for `target`, by name.
///
/// `file` is its path: messages name it, `-r` and `-c` and relative paths in it are relative to its folder. The result
/// is what the file lists, as with `pip install --no-deps --require-hashes`.
///
/// # Errors
///
/// [`Error::Parse`] for the text, [`Error::Index`] when an index can't be asked, [`Error::Select`] when a requirement has
/// no hash or no exact version, or nothing fits, and [`Error::Unusable`] with every package that has no usable wheel.
pub fn requirements_txt(
    text: &str,
    file: &Path,
    target: &Target,
    indexes: &Indexes,
) -> Result<Vec<Artifact>, Error> {
    let environment = Environment::new(target)?;
    guarded(text, file, || runtime(file)?.block_on(find(text, file, &environment, indexes)))
}

async fn find(
    text: &str,
    file: &Path,
    environment: &Environment,
    indexes: &Indexes,
) -> Result<Vec<Artifact>, Error> {
    let txt = parse(text, file).await?;
    if let Some(editable) = txt.editables.first() {
        return Err(Error::Unsupported {
            file: file.to_owned(),
            message: format!(
                "`-e {}` is not installed: copy its code with `files`, or build its wheel and lock that",
                plain_text(&editable.requirement.to_string())
            ),
        });
    }
    let specifications: Vec<UnresolvedRequirementSpecification> =
        txt.requirements.iter().cloned().map(Into::into).collect();
    // Refuses what has no exact version or no hash.
    let hasher = HashStrategy::from_requirements(
        specifications.iter().map(|it| (&it.requirement, it.hashes.as_slice())),
        std::iter::empty(),
        Some(&environment.markers),
        HashCheckingMode::Require,
    )
    .map_err(|error| Error::Select {
        file: file.to_owned(),
        message: format!(
            "{}; write the file with `uv pip compile --generate-hashes` or `uv export`",
            plain(&error)
        ),
    })?;

    let mut gathered = Gathered::new("write the requirements again with `uv pip compile --generate-hashes`");
    let mut from_index = Vec::new();
    for specification in specifications {
        if !specification.requirement.evaluate_markers(Some(&environment.markers), &[]) {
            continue;
        }
        match specification.requirement {
            UnresolvedRequirement::Named(requirement)
                if matches!(requirement.source, RequirementSource::Registry { .. }) =>
            {
                from_index.push(requirement);
            }
            requirement => direct(&requirement, &specification.hashes, environment, &mut gathered),
        }
    }

    if !from_index.is_empty() {
        // A constraint only narrows what is there: as a second requirement of the same name it does just that.
        let names: BTreeSet<PackageName> = from_index.iter().map(|it| it.name.clone()).collect();
        let constraints = txt.constraints.iter().cloned().map(Requirement::from);
        from_index.extend(constraints.filter(|it| names.contains(&it.name)));
        let locations = locations(&txt, file, indexes)?;
        let resolution = resolve(from_index, &hasher, locations, environment, indexes, file).await?;
        choose(&resolution, &hasher, &mut gathered);
        gathered.extend(&sources(resolution), &folder(file)?);
    }
    gathered.finish(file)
}

async fn parse(text: &str, file: &Path) -> Result<RequirementsTxt, Error> {
    let client = BaseClientBuilder::default().connectivity(Connectivity::Offline);
    let mut read = SourceCache::default();
    RequirementsTxt::parse_str(text, file, folder(file)?, &client, &mut read).await.map_err(|error| {
        Error::Parse { file: file.to_owned(), format: "requirements.txt", message: plain(&error) }
    })
}

/// A requirement that names its file.
fn direct(
    requirement: &UnresolvedRequirement,
    hashes: &[String],
    environment: &Environment,
    gathered: &mut Gathered,
) {
    let words = plain_text(&requirement.to_string());
    let url = match requirement {
        UnresolvedRequirement::Named(requirement) => match &requirement.source {
            RequirementSource::Url { location, .. } => Some(location.as_str()),
            RequirementSource::Path { url, .. } => Some(url.as_str()),
            _ => None,
        },
        UnresolvedRequirement::Unnamed(requirement) => match &requirement.url.parsed_url {
            ParsedUrl::Archive(archive) => Some(archive.url.as_str()),
            ParsedUrl::Path(path) => Some(path.url.as_str()),
            _ => None,
        },
    };
    let named = match requirement {
        UnresolvedRequirement::Named(requirement) => Some(&requirement.name),
        UnresolvedRequirement::Unnamed(_) => None,
    };
    let wheel = url.and_then(wheel_name);
    let (Some(url), Some(filename)) = (url, wheel) else {
        let name = named.map_or_else(|| words.clone(), ToString::to_string);
        return gathered.refuse(&name, None, Reason::Source { origin: words });
    };
    if named.is_some_and(|name| *name != filename.name) {
        let message = format!("{filename} is a wheel of {}", filename.name);
        return gathered.refuse(&words, None, Reason::Location { message });
    }
    if !filename.is_compatible(&environment.tags) {
        let reason =
            Reason::NoWheel { wheels: vec![filename.to_string()], target: environment.words.clone() };
        return gathered.refuse(filename.name.as_ref(), Some(filename.version.to_string()), reason);
    }
    let mut digests: Vec<HashDigest> =
        hashes.iter().filter_map(|hash| HashDigest::from_str(hash).ok()).collect();
    digests.extend(requirement.hashes().map(HashDigests::from).iter().flat_map(HashDigests::iter).cloned());
    gathered.file(&filename, None, sha256(&digests), Ok(url.to_owned()), None);
}

/// The options' indexes first, then the file's own, as uv does with its command line.
fn locations(txt: &RequirementsTxt, file: &Path, indexes: &Indexes) -> Result<IndexLocations, Error> {
    let (mut simple, mut flat) = indexes.given(file)?;
    simple.extend(txt.extra_index_urls.iter().cloned().map(IndexUrl::from).map(Index::from_extra_index_url));
    simple.extend(txt.index_url.iter().cloned().map(IndexUrl::from).map(Index::from_index_url));
    flat.extend(txt.find_links.iter().cloned().map(IndexUrl::from).map(Index::from_find_links));
    Ok(IndexLocations::new(simple, flat, txt.no_index))
}

async fn resolve(
    requirements: Vec<Requirement>,
    hasher: &HashStrategy,
    locations: IndexLocations,
    environment: &Environment,
    indexes: &Indexes,
    file: &Path,
) -> Result<Resolution, Error> {
    let question = Question {
        manifest: Manifest::simple(requirements),
        options: OptionsBuilder::new().dependency_mode(DependencyMode::Direct).build(),
        python: PythonRequirement::from_marker_environment(
            &environment.markers,
            RequiresPython::greater_than_equal_version(environment.python()),
        ),
        environment: ResolverEnvironment::specific(environment.markers.clone()),
        target: environment,
        tags: Some(&environment.tags),
        hasher,
    };
    let output = ask(question, locations, indexes, file).await.map_err(|error| match error {
        // A list of pins that does not hold is a lock that can't be used.
        Error::Unsatisfiable { file, explanation, hints, .. } => {
            Error::Select { file, message: [vec![explanation], hints].concat().join(" ") }
        }
        error => error,
    })?;
    Ok(output.into())
}

/// Takes the wheels that the resolver chose, if the requirement's hashes allow them.
fn choose(resolution: &Resolution, hasher: &HashStrategy, gathered: &mut Gathered) {
    for dist in resolution.distributions() {
        let ResolvedDist::Installable { dist, .. } = dist else { continue };
        let Dist::Built(BuiltDist::Registry(registry)) = dist.as_ref() else { continue };
        let wheel = registry.best_wheel();
        let version = wheel.filename.version.to_string();
        let mut locked = sha256s(hasher.get(dist.as_ref()).digests());
        locked.dedup();
        let hash = match sha256(wheel.file.hashes.as_slice()) {
            Some(index) if !locked.contains(&index) => {
                let mend = "run `uv pip compile --generate-hashes` again";
                let reason = Reason::OtherHash { file: wheel.filename.to_string(), index, locked, mend };
                gathered.refuse(wheel.filename.name.as_ref(), Some(version), reason);
                continue;
            }
            Some(index) => Some(index),
            // An index need not publish hashes. If the requirement allows a single one, that is the file's.
            None if locked.len() == 1 => locked.pop(),
            None => None,
        };
        gathered.file(&wheel.filename, Some(version), hash, registry_url(wheel), wheel.file.size);
    }
}

/// The part of a resolution that is not wheels of an index, all of which is refused.
fn sources(resolution: Resolution) -> Resolution {
    resolution.filter(|dist| {
        !matches!(dist, ResolvedDist::Installable { dist, .. }
            if matches!(dist.as_ref(), Dist::Built(BuiltDist::Registry(_))))
    })
}
