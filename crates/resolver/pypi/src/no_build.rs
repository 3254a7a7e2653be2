//! The part of uv's resolver that builds source distributions, which here never does.
//!
//! uv's resolver wants a [`BuildContext`] with an interpreter. None is ever asked for here: the database of distributions gets
//! a context in which building is forbidden, which uv looks at before it looks for an interpreter.

use std::fmt;
use std::path::{Path, PathBuf};

use uv_cache::Cache;
use uv_configuration::{BuildKind, BuildOptions, BuildOutput, NoSources};
use uv_distribution_filename::DistFilename;
use uv_distribution_types::{
    CachedDist, ConfigSettings, DependencyMetadata, ExtraBuildRequires, ExtraBuildVariables,
    IndexCapabilities, IndexLocations, IsBuildBackendError, PackageConfigSettings, Requirement, SourceDist,
};
use uv_types::{
    AnyErrorBuild, BuildArena, BuildContext, BuildIsolation, BuildStack, ResolvedRequirements,
    SourceBuildTrait,
};

/// Says no to every build.
pub(crate) struct NoBuild {
    pub(crate) cache: Cache,
    pub(crate) locations: IndexLocations,
    pub(crate) options: BuildOptions,
    git: uv_git::GitResolver,
    arena: BuildArena<Never>,
    capabilities: IndexCapabilities,
    metadata: DependencyMetadata,
    settings: ConfigSettings,
    package_settings: PackageConfigSettings,
    sources: NoSources,
    workspace: uv_workspace::WorkspaceCache,
    requires: ExtraBuildRequires,
    variables: ExtraBuildVariables,
}

impl NoBuild {
    pub(crate) fn new(cache: Cache, locations: IndexLocations, options: BuildOptions) -> Self {
        Self {
            cache,
            locations,
            options,
            git: uv_git::GitResolver::default(),
            arena: BuildArena::default(),
            capabilities: IndexCapabilities::default(),
            metadata: DependencyMetadata::default(),
            settings: ConfigSettings::default(),
            package_settings: PackageConfigSettings::default(),
            sources: NoSources::All,
            workspace: uv_workspace::WorkspaceCache::default(),
            requires: ExtraBuildRequires::default(),
            variables: ExtraBuildVariables::default(),
        }
    }
}

/// The error of a build that was asked for.
#[derive(Debug)]
pub(crate) struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("source distributions are not built while packages are chosen")
    }
}

impl std::error::Error for Refused {}
impl uv_errors::Hint for Refused {}
impl IsBuildBackendError for Refused {
    fn is_build_backend_error(&self) -> bool {
        false
    }
}

pub(crate) struct Never;

impl SourceBuildTrait for Never {
    async fn metadata(&mut self) -> Result<Option<PathBuf>, AnyErrorBuild> {
        Err(Refused.into())
    }

    async fn wheel<'a>(&'a self, _: &'a Path) -> Result<String, AnyErrorBuild> {
        Err(Refused.into())
    }
}

#[allow(refining_impl_trait, clippy::too_many_arguments)]
impl BuildContext for NoBuild {
    type SourceDistBuilder = Never;

    /// Only building asks for it, and [`crate::guard`] makes an error of it, should that ever change.
    async fn interpreter(&self) -> &uv_python::Interpreter {
        unreachable!("an interpreter was asked for without building")
    }

    fn cache(&self) -> &Cache {
        &self.cache
    }

    fn git(&self) -> &uv_git::GitResolver {
        &self.git
    }

    fn build_arena(&self) -> &BuildArena<Never> {
        &self.arena
    }

    fn capabilities(&self) -> &IndexCapabilities {
        &self.capabilities
    }

    fn dependency_metadata(&self) -> &DependencyMetadata {
        &self.metadata
    }

    fn build_options(&self) -> &BuildOptions {
        &self.options
    }

    fn build_isolation(&self) -> BuildIsolation<'_> {
        BuildIsolation::Isolated
    }

    fn config_settings(&self) -> &ConfigSettings {
        &self.settings
    }

    fn config_settings_package(&self) -> &PackageConfigSettings {
        &self.package_settings
    }

    fn sources(&self) -> &NoSources {
        &self.sources
    }

    fn locations(&self) -> &IndexLocations {
        &self.locations
    }

    fn workspace_cache(&self) -> &uv_workspace::WorkspaceCache {
        &self.workspace
    }

    fn extra_build_requires(&self) -> &ExtraBuildRequires {
        &self.requires
    }

    fn extra_build_variables(&self) -> &ExtraBuildVariables {
        &self.variables
    }

    async fn resolve<'a>(
        &'a self,
        _: &'a [Requirement],
        _: &'a BuildStack,
    ) -> Result<ResolvedRequirements, Refused> {
        Err(Refused)
    }

    async fn install<'a>(
        &'a self,
        _: &'a ResolvedRequirements,
        _: &'a uv_python::PythonEnvironment,
        _: &'a BuildStack,
    ) -> Result<Vec<CachedDist>, Refused> {
        Err(Refused)
    }

    async fn setup_build<'a>(
        &'a self,
        _: &'a Path,
        _: Option<&'a Path>,
        _: &'a Path,
        _: Option<&'a Path>,
        _: Option<&'a str>,
        _: Option<&'a SourceDist>,
        _: &'a NoSources,
        _: BuildKind,
        _: BuildOutput,
        _: BuildStack,
    ) -> Result<Never, Refused> {
        Err(Refused)
    }

    async fn direct_build<'a>(
        &'a self,
        _: &'a Path,
        _: Option<&'a Path>,
        _: &'a Path,
        _: NoSources,
        _: BuildKind,
        _: Option<&'a str>,
    ) -> Result<Option<DistFilename>, Refused> {
        Ok(None)
    }
}
