//! What of a lock is wanted.

use std::path::Path;
use std::str::FromStr as _;

use uv_normalize::{DefaultGroups, ExtraName, GroupName, PackageName};

use crate::error::{Error, plain, plain_text};

/// What of a lock is wanted: which project's dependencies, with which extras and dependency groups.
///
/// The default is what an image wants: the dependencies of the project, without the project itself, without extras and
/// without development groups. Nothing is built from source here: a package without a wheel is an error, unless somebody is said to build it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The workspace member whose dependencies are wanted. Without: the project at the workspace's root, or every
    /// member where there is none.
    pub package: Option<String>,
    /// Extras of the project.
    pub extras: Vec<String>,
    /// Every extra of the project.
    pub all_extras: bool,
    /// Dependency groups (PEP 735), in addition to the project's own dependencies.
    pub groups: Vec<String>,
    /// Every dependency group.
    pub all_groups: bool,
    /// What becomes of the groups that are meant to be installed unasked.
    pub default_groups: Defaults,
    /// The groups that are named alone, without the project's own dependencies; of a `uv.lock` or `poetry.lock`.
    pub only_groups: bool,
    /// Packages of which the source distribution is wanted, for somebody to build; of a `uv.lock` or `poetry.lock`.
    pub build: Vec<String>,
    /// Packages of which it will do where there is no wheel; likewise.
    pub buildable: Vec<String>,
    /// Whether the project and the workspace's members are wanted too. No lock has wheels of them, so this is refused
    /// with a word on what to do instead.
    pub install_project: bool,
}

/// What becomes of a project's default groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Defaults {
    /// As the format means them. In `uv.lock` they are for developers (`dev`, unless `tool.uv.default-groups` says
    /// otherwise): out. In `pylock.toml` they are what is installed unless other groups are asked for (PEP 751), and
    /// may hold the project's own dependencies: in.
    #[default]
    Format,
    /// Always in.
    With,
    /// Always out.
    Without,
}

impl Selection {
    pub(crate) fn extra_names(&self, file: &Path) -> Result<Vec<ExtraName>, Error> {
        let wrong =
            |name: &str| Error::Extra { file: file.to_owned(), name: plain_text(name), extras: Vec::new() };
        self.extras.iter().map(|name| ExtraName::from_str(name).map_err(|_| wrong(name))).collect()
    }

    /// Packages that somebody builds, as uv names them: those that are built, then those that may be.
    pub(crate) fn built_names(&self) -> (Vec<PackageName>, Vec<PackageName>) {
        let names =
            |names: &[String]| names.iter().filter_map(|name| PackageName::from_str(name).ok()).collect();
        (names(&self.build), names(&self.buildable))
    }

    pub(crate) fn group_names(&self, file: &Path) -> Result<Vec<GroupName>, Error> {
        let wrong =
            |name: &str| Error::Group { file: file.to_owned(), name: plain_text(name), groups: Vec::new() };
        self.groups.iter().map(|name| GroupName::from_str(name).map_err(|_| wrong(name))).collect()
    }
}

/// `tool.uv.default-groups` of a pyproject.toml, if it says anything.
pub(crate) fn default_groups(pyproject: &str, file: &Path) -> Result<Option<DefaultGroups>, Error> {
    let parse = |error: toml::de::Error| Error::Parse {
        file: file.with_file_name("pyproject.toml"),
        format: "pyproject.toml",
        message: plain(&error),
    };
    let table: toml::Table = toml::from_str(pyproject).map_err(parse)?;
    let found = table.get("tool").and_then(|tool| tool.get("uv")).and_then(|uv| uv.get("default-groups"));
    found.map(|value| value.clone().try_into::<DefaultGroups>()).transpose().map_err(parse)
}
