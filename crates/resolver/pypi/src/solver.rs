//! uv's resolver, called: everything that it wants to have and that is the same for every question.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Semaphore;
use uv_client::FlatIndexClient;
use uv_configuration::{BuildOptions, NoBinary, NoBuild as NoBuilds};
use uv_distribution::DistributionDatabase;
use uv_distribution_types::{Index, IndexLocations, Name as _};
use uv_errors::Hint as _;
use uv_platform_tags::Tags;
use uv_pypi_types::Conflicts;
use uv_resolver::{
    FlatIndex, InMemoryIndex, Manifest, Options, PythonRequirement, ResolveError, Resolver,
    ResolverEnvironment, ResolverOutput,
};
use uv_types::{EmptyInstalledPackages, HashStrategy};

use crate::error::{Error, plain_text};
use crate::indexes::{Indexes, REQUESTS, index_error};
use crate::no_build::NoBuild;
use crate::target::Environment;

/// What uv's resolver is asked.
pub(crate) struct Question<'a> {
    pub(crate) manifest: Manifest,
    pub(crate) options: Options,
    pub(crate) python: PythonRequirement,
    pub(crate) environment: ResolverEnvironment,
    /// The target; what is asked need not be about it alone.
    pub(crate) target: &'a Environment,
    /// What a wheel has to fit, if anything.
    pub(crate) tags: Option<&'a Tags>,
    pub(crate) hasher: &'a HashStrategy,
}

/// Asks it. `file` is where the requirements come from.
///
/// # Errors
///
/// [`Error::Unsatisfiable`], [`Error::NeedsBuild`] and [`Error::Index`].
pub(crate) async fn ask(
    question: Question<'_>,
    locations: IndexLocations,
    indexes: &Indexes,
    file: &Path,
) -> Result<ResolverOutput, Error> {
    let index_error = |error: &dyn std::error::Error| index_error(file, error);
    // Of the whole process, and none of uv's previews are on. Unless this was said, uv panics where it looks whether one is; that
    // it was said before is no harm.
    let _ = uv_preview::set(uv_preview::Preview::default());
    let (client, cache) = indexes.client(&locations, file).await?;
    let build = question.options.build_options.clone();
    let links = FlatIndexClient::new(client.cached_client(), indexes.connectivity(), &cache)
        .fetch_all(locations.flat_indexes().map(Index::url))
        .await
        .map_err(|error| index_error(&error))?;
    let flat = FlatIndex::from_entries(links, question.tags, question.hasher, &build);

    // Which files count is one thing, and whether anything is built in order to know what it depends on another: never.
    let context = NoBuild::new(cache.clone(), locations.clone(), build);
    let forbidden = BuildOptions::new(NoBinary::None, NoBuilds::All);
    let never = NoBuild::new(cache, locations, forbidden);
    let database = DistributionDatabase::new(&client, &never, Arc::new(Semaphore::new(REQUESTS)));
    let index = InMemoryIndex::default();
    let resolver = Resolver::new(
        question.manifest,
        question.options,
        &question.python,
        question.environment,
        &question.target.markers,
        Conflicts::empty(),
        question.tags,
        &flat,
        &index,
        question.hasher,
        &context,
        EmptyInstalledPackages,
        database,
    )
    .map_err(|error| index_error(&error))?;
    resolver.resolve().await.map_err(|error| match error {
        ResolveError::NoSolution(error) => {
            let mut hints: Vec<String> = error.hints().into_iter().map(|hint| plain_text(&hint)).collect();
            if indexes.offline {
                hints.push("the network was not to be used: run once without --offline".to_owned());
            }
            let target = question.target.words.clone();
            let explanation = plain_text(error.report());
            Error::Unsatisfiable { file: file.to_owned(), target, explanation, hints }
        }
        ResolveError::Dist(_, dist, _, error) if is_build(&error) => Error::NeedsBuild {
            file: file.to_owned(),
            name: dist.name().to_string(),
            version: dist.version().map(ToString::to_string),
            target: question.target.words.clone(),
        },
        error => index_error(&error),
    })
}

/// Whether uv stopped short of building something.
fn is_build(error: &uv_distribution::Error) -> bool {
    use uv_distribution::Error::{Build, NoBuild, NoBuildPackage};
    matches!(error, NoBuild | NoBuildPackage(_) | Build(_))
}
