//! `uv.lock`: the lock of a uv project or workspace.
//!
//! The walk over the lock's graph (markers, forks, extras, groups, conflicts) is uv's own, through
//! [`uv_resolver::Installable`]. Here stands what uv keeps in its binary: which packages are the roots, and whether what
//! was asked for exists and may be had together.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use imgforge_resolver_core::{Artifact, Target};
use uv_configuration::{
    BuildOptions, DependencyGroups, DependencyGroupsWithDefaults, ExtrasSpecification,
    ExtrasSpecificationWithDefaults, InstallOptions, NoBinary, NoBuild,
};
use uv_distribution_types::{BuiltDist, Dist, Node, ResolvedDist};
use uv_normalize::{DEV_DEPENDENCIES, DefaultExtras, DefaultGroups, ExtraName, GroupName, PackageName};
use uv_platform_tags::Tags;
use uv_pypi_types::{ConflictKind, ResolverMarkerEnvironment};
use uv_resolver::{Installable, Lock, LockError, LockParseError, Package};

use crate::artifact::Gathered;
use crate::error::{Error, OTHER_TOOL, Reason, Unusable, plain, plain_text};
use crate::guard::guarded;
use crate::selection::{self, Defaults, Selection};
use crate::target::Environment;

/// Reads a `uv.lock` and selects what is to be installed for `target`, by name.
///
/// `file` is the lock's path: messages name it, and paths in the lock are relative to its folder. `pyproject` is the text
/// of the `pyproject.toml` of the selected project ([`project_folder`]), which says what its default groups are; it
/// matters only with [`Defaults::With`].
///
/// # Errors
///
/// [`Error::Parse`] and [`Error::FormatVersion`] for the text; [`Error::RequiresPython`] and [`Error::Environments`] when
/// the lock was not made for `target`; [`Error::Member`], [`Error::Extra`], [`Error::Group`] and [`Error::Conflict`] when
/// the selection asks for what is not there; [`Error::Unusable`] with every package that has no wheel or no hash.
pub fn uv_lock(
    text: &str,
    file: &Path,
    pyproject: Option<&str>,
    selection: &Selection,
    target: &Target,
) -> Result<Vec<Artifact>, Error> {
    let environment = Environment::new(target)?;
    guarded(text, file, || {
        let lock = parse(text, file)?;
        check_environment(&lock, file, &environment)?;
        if selection.install_project {
            return Err(Error::Unsupported {
                file: file.to_owned(),
                message: "a lock has no wheel of the project itself, so it can't be installed from there: \
                          copy its code with `files`, or build its wheel and lock that"
                    .to_owned(),
            });
        }
        let roots = roots(&lock, file, selection.package.as_deref())?;
        let folder = folder(file)?;
        let (built, buildable) = selection.built_names();
        let project = Project {
            folder: &folder,
            lock: &lock,
            single: selection.package.is_some() || lock.root().is_some(),
            roots,
            target: &environment.words,
            foreign: RefCell::new(Vec::new()),
            buildable: built.iter().cloned().chain(buildable).collect(),
            built,
        };
        let (extras, groups) = project.asked(text, file, pyproject, selection)?;
        project.check_conflicts(file, &extras, &groups)?;
        project.artifacts(file, &environment, &extras, &groups)
    })
}

/// The folder of the project that [`Selection::package`] names, relative to the lock's own: a member of a workspace has a
/// `pyproject.toml` of its own, with default groups of its own.
///
/// The lock's folder (an empty path) without a package, and for one that the lock does not have: [`uv_lock`] says so.
pub fn project_folder(text: &str, package: Option<&str>) -> PathBuf {
    let Some(package) = package.and_then(|name| PackageName::from_str(name).ok()) else {
        return PathBuf::new();
    };
    let lock = toml::from_str::<toml::Table>(text).unwrap_or_default();
    let packages = lock.get("package").and_then(toml::Value::as_array);
    packages
        .into_iter()
        .flatten()
        .filter(|entry| entry.get("name").and_then(toml::Value::as_str) == Some(package.as_str()))
        .filter_map(|entry| entry.get("source"))
        .find_map(|source| ["editable", "virtual", "directory"].iter().find_map(|kind| source.get(kind)))
        .and_then(toml::Value::as_str)
        .map(PathBuf::from)
        .unwrap_or_default()
}

/// The folder that a lock's paths are relative to.
pub(crate) fn folder(file: &Path) -> Result<PathBuf, Error> {
    let path = std::path::absolute(file).map_err(|error| Error::Select {
        file: file.to_owned(),
        message: format!("its folder is unknown: {error}"),
    })?;
    Ok(path.parent().unwrap_or(&path).to_owned())
}

fn parse(text: &str, file: &Path) -> Result<Lock, Error> {
    Lock::from_toml(text).map_err(|error| match error {
        LockParseError::UnsupportedVersion { version, .. }
        | LockParseError::UnparsableVersion { version, .. } => Error::FormatVersion {
            file: file.to_owned(),
            found: version.to_string(),
            supported: "1",
            mend: OTHER_TOOL,
        },
        LockParseError::Toml(error) => Error::Parse {
            file: file.to_owned(),
            format: "uv.lock",
            message: format!("{}; `uv lock` writes it again", plain(&error)),
        },
    })
}

fn check_environment(lock: &Lock, file: &Path, environment: &Environment) -> Result<(), Error> {
    if !lock.requires_python().contains(environment.python()) {
        return Err(Error::RequiresPython {
            file: file.to_owned(),
            requires: lock.requires_python().to_string(),
            python: environment.python().to_string(),
        });
    }
    let supported = lock.supported_environments();
    if !supported.is_empty() && !supported.iter().any(|marker| marker.evaluate(&environment.markers, &[])) {
        return Err(Error::Environments {
            file: file.to_owned(),
            target: environment.words.clone(),
            environments: lock
                .simplified_supported_environments()
                .into_iter()
                .map(|marker| marker.try_to_string().unwrap_or_else(|| "any".to_owned()))
                .collect(),
        });
    }
    Ok(())
}

/// The packages whose dependencies are wanted.
fn roots(lock: &Lock, file: &Path, package: Option<&str>) -> Result<Vec<PackageName>, Error> {
    // uv leaves the list of members out when the project is all there is.
    let members: BTreeSet<&PackageName> =
        lock.members().iter().chain(lock.root().map(Package::name)).collect();
    match package {
        Some(name) => PackageName::from_str(name)
            .ok()
            .filter(|name| members.contains(name))
            .map(|name| vec![name])
            .ok_or_else(|| Error::Member {
                file: file.to_owned(),
                name: plain_text(name),
                members: members.into_iter().map(ToString::to_string).collect(),
            }),
        None => Ok(match lock.root() {
            Some(root) => vec![root.name().clone()],
            None => members.into_iter().cloned().collect(),
        }),
    }
}

/// A lock and where to start in it: what uv's unpublished `InstallTarget` is.
struct Project<'lock> {
    folder: &'lock Path,
    lock: &'lock Lock,
    roots: Vec<PackageName>,
    /// Whether the one root is a project, rather than a workspace without one.
    single: bool,
    /// The target in words.
    target: &'lock str,
    /// The packages whose wheels are all for other targets.
    foreign: RefCell<Vec<Unusable>>,
    /// Packages of which the source distribution is wanted.
    built: Vec<PackageName>,
    /// Those, and packages of which it will do.
    buildable: Vec<PackageName>,
}

impl<'lock> Project<'lock> {
    fn packages(&self) -> impl Iterator<Item = &'lock Package> + '_ {
        let roots: BTreeSet<&PackageName> = self.roots.iter().collect();
        self.lock.packages().iter().filter(move |package| roots.contains(package.name()))
    }

    /// The extras and groups of the selection, which the roots must have.
    fn asked(
        &self,
        text: &str,
        file: &Path,
        pyproject: Option<&str>,
        selection: &Selection,
    ) -> Result<(ExtrasSpecificationWithDefaults, DependencyGroupsWithDefaults), Error> {
        let known: BTreeSet<&ExtraName> = self
            .packages()
            .flat_map(|package| {
                package.provides_extras().iter().chain(package.optional_dependencies().keys())
            })
            .collect();
        let extras = selection.extra_names(file)?;
        if let Some(name) = extras.iter().find(|name| !known.contains(name)) {
            return Err(Error::Extra {
                file: file.to_owned(),
                name: name.to_string(),
                extras: known.into_iter().map(ToString::to_string).collect(),
            });
        }

        let mut known: BTreeSet<GroupName> = self
            .packages()
            .flat_map(|package| {
                package.dependency_groups().keys().chain(package.resolved_dependency_groups().keys())
            })
            .cloned()
            .collect();
        let groups = selection.group_names(file)?;
        let (no_defaults, defaults) = match selection.default_groups {
            Defaults::Format | Defaults::Without => (true, DefaultGroups::List(Vec::new())),
            Defaults::With => {
                let defaults =
                    pyproject.map(|text| selection::default_groups(text, file)).transpose()?.flatten();
                (false, defaults.unwrap_or_else(|| DefaultGroups::List(dev())))
            }
        };
        // The default that nobody wrote down, `dev`, need not exist.
        let named = match &defaults {
            DefaultGroups::List(names) if *names != dev() => names.as_slice(),
            _ => &[],
        };
        if groups.iter().chain(named).any(|name| !known.contains(name)) {
            known.extend(workspace_groups(text));
        }
        if let Some(name) = groups.iter().chain(named).find(|name| !known.contains(name)) {
            return Err(Error::Group {
                file: file.to_owned(),
                name: name.to_string(),
                groups: known.iter().map(ToString::to_string).collect(),
            });
        }

        let extras = if selection.all_extras {
            ExtrasSpecification::from_all_extras()
        } else {
            ExtrasSpecification::from_extra(extras)
        };
        let (groups, alone) = match selection.only_groups {
            true => (Vec::new(), groups),
            false => (groups, Vec::new()),
        };
        let groups =
            DependencyGroups::from_args(None, groups, Vec::new(), no_defaults, alone, selection.all_groups);
        Ok((extras.with_defaults(DefaultExtras::default()), groups.with_defaults(defaults)))
    }

    /// Refuses extras and groups that the lock says can't be had together.
    ///
    /// Without this, the lock's forks would all be active and yield two versions of one package.
    fn check_conflicts(
        &self,
        file: &Path,
        extras: &ExtrasSpecificationWithDefaults,
        groups: &DependencyGroupsWithDefaults,
    ) -> Result<(), Error> {
        if self.lock.conflicts().is_empty() {
            return Ok(());
        }
        let reachable = self.reachable_members(extras, groups);
        for set in self.lock.conflicts().iter() {
            let items: Vec<String> = set
                .iter()
                .filter(|item| reachable.contains(item.package()))
                .filter_map(|item| {
                    let package = item.package();
                    match item.kind() {
                        ConflictKind::Extra(extra) => {
                            extras.contains(extra).then(|| format!("{package}[{extra}]"))
                        }
                        ConflictKind::Group(group) => {
                            groups.contains(group).then(|| format!("{package}:{group}"))
                        }
                        ConflictKind::Project => groups.prod().then(|| package.to_string()),
                    }
                })
                .collect();
            if items.len() > 1 {
                return Err(Error::Conflict { file: file.to_owned(), items });
            }
        }
        Ok(())
    }

    /// The roots and the workspace members that they depend on, markers aside.
    fn reachable_members(
        &self,
        extras: &ExtrasSpecificationWithDefaults,
        groups: &DependencyGroupsWithDefaults,
    ) -> BTreeSet<&'lock PackageName> {
        let by_name: BTreeMap<&PackageName, &Package> =
            self.lock.packages().iter().map(|package| (package.name(), package)).collect();
        let mut reached = BTreeSet::new();
        let mut queue: Vec<&PackageName> = self.packages().map(Package::name).collect();
        while let Some(name) = queue.pop() {
            if !reached.insert(name) {
                continue;
            }
            let Some(package) = by_name.get(name) else { continue };
            let optional = package.optional_dependencies().iter();
            let grouped = package.resolved_dependency_groups().iter();
            let dependencies = package
                .dependencies()
                .iter()
                .chain(optional.filter(|(extra, _)| extras.contains(extra)).flat_map(|(_, list)| list))
                .chain(grouped.filter(|(group, _)| groups.contains(group)).flat_map(|(_, list)| list));
            queue.extend(
                dependencies
                    .map(|dependency| dependency.package_name())
                    .filter(|name| self.lock.members().contains(name)),
            );
        }
        reached
    }

    fn artifacts(
        &self,
        file: &Path,
        environment: &Environment,
        extras: &ExtrasSpecificationWithDefaults,
        groups: &DependencyGroupsWithDefaults,
    ) -> Result<Vec<Artifact>, Error> {
        // `--no-install-workspace`: neither the project nor other members.
        let install = InstallOptions::new(false, false, true, false, false, false, Vec::new(), Vec::new());
        let resolution = self
            .to_resolution(
                &environment.markers,
                &environment.tags,
                extras,
                groups,
                &BuildOptions::new(NoBinary::Packages(self.built.clone()), NoBuild::None),
                &install,
            )
            .map_err(|error| Error::Select { file: file.to_owned(), message: plain(&error) })?;

        let mut gathered = Gathered::new("run `uv lock`, and see that the index publishes SHA-256 hashes")
            .building(self.buildable.clone());
        for Unusable { name, version, reason } in self.foreign.borrow_mut().drain(..) {
            gathered.refuse(&name, version, reason);
        }
        gathered.extend(&resolution, self.folder);
        gathered.finish(file)
    }
}

impl<'lock> Installable<'lock> for Project<'lock> {
    fn install_path(&self) -> &'lock Path {
        self.folder
    }

    fn lock(&self) -> &'lock Lock {
        self.lock
    }

    fn roots(&self) -> impl Iterator<Item = &PackageName> {
        self.roots.iter()
    }

    fn project_name(&self) -> Option<&PackageName> {
        if self.single { self.roots.first() } else { None }
    }

    /// As uv's own, but a package without a wheel for the target is noted and the walk goes on.
    fn installable_node(
        &self,
        package: &Package,
        tags: &Tags,
        markers: &ResolverMarkerEnvironment,
        build: &BuildOptions,
    ) -> Result<Node, LockError> {
        let node = Walk(self).installable_node(package, tags, markers, build);
        let wheel = match &node {
            Ok(Node::Dist { dist: ResolvedDist::Installable { dist, .. }, .. }) => {
                matches!(dist.as_ref(), Dist::Built(_))
            }
            _ => false,
        };
        if wheel || self.buildable.contains(package.name()) {
            return node;
        }
        // What uv would take on some other target, if there is any.
        let Ok(other) = self.non_installable_node(package, tags, markers) else { return node };
        let wheels = match &other {
            Node::Dist { dist: ResolvedDist::Installable { dist, .. }, .. } => wheel_names(dist),
            _ => Vec::new(),
        };
        if wheels.is_empty() {
            return node;
        }
        let version = package.version().map(ToString::to_string);
        let reason = Reason::NoWheel { wheels, target: self.target.to_owned() };
        self.foreign.borrow_mut().push(Unusable { name: package.name().to_string(), version, reason });
        Ok(other)
    }
}

/// [`Project`] with uv's own way of choosing a distribution.
struct Walk<'project, 'lock>(&'project Project<'lock>);

impl<'lock> Installable<'lock> for Walk<'_, 'lock> {
    fn install_path(&self) -> &'lock Path {
        self.0.folder
    }

    fn lock(&self) -> &'lock Lock {
        self.0.lock
    }

    fn roots(&self) -> impl Iterator<Item = &PackageName> {
        self.0.roots.iter()
    }

    fn project_name(&self) -> Option<&PackageName> {
        self.0.project_name()
    }
}

fn wheel_names(dist: &Dist) -> Vec<String> {
    match dist {
        Dist::Built(BuiltDist::Registry(dist)) => {
            dist.wheels.iter().map(|wheel| wheel.filename.to_string()).collect()
        }
        Dist::Built(BuiltDist::DirectUrl(dist)) => vec![dist.filename.to_string()],
        Dist::Built(BuiltDist::Path(dist)) => vec![dist.filename.to_string()],
        Dist::Built(BuiltDist::GitPath(dist)) => vec![dist.filename.to_string()],
        Dist::Source(_) => Vec::new(),
    }
}

/// The default groups of a project that says nothing about them. `DefaultGroups::default()` is empty.
fn dev() -> Vec<GroupName> {
    vec![DEV_DEPENDENCIES.clone()]
}

/// The groups of a workspace root that is no project, which uv's `Lock` keeps to itself.
fn workspace_groups(text: &str) -> Vec<GroupName> {
    let table = toml::from_str::<toml::Table>(text).unwrap_or_default();
    let groups = table
        .get("manifest")
        .and_then(|manifest| manifest.get("dependency-groups"))
        .and_then(toml::Value::as_table);
    groups
        .into_iter()
        .flat_map(|groups| groups.keys())
        .filter_map(|name| GroupName::from_str(name).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use imgforge_resolver_core::{Architecture, Libc};

    use super::*;

    fn check(source: &str, package: Option<&str>, expect: &str) {
        let lock = format!("version = 1\n[[package]]\nname = \"the-api\"\nsource = {source}\n");
        assert_eq!(project_folder(&lock, package), Path::new(expect), "{source} {package:?}");
    }

    #[test]
    fn a_member_has_its_own_folder() {
        check("{ editable = \"packages/api\" }", Some("the-api"), "packages/api");
        check("{ virtual = \"packages/api\" }", Some("The_API"), "packages/api");
        check("{ directory = \"packages/api\" }", Some("the-api"), "packages/api");
        check("{ editable = \".\" }", Some("the-api"), ".");
        check("{ editable = \"packages/api\" }", None, "");
        check("{ editable = \"packages/api\" }", Some("other"), "");
        check("{ registry = \"https://example.org/simple\" }", Some("the-api"), "");
        check("", Some("the-api"), "");
    }

    const GROUPED: &str = r#"
version = 1
requires-python = ">=3.11"

[[package]]
name = "app"
version = "1.0.0"
source = { virtual = "." }

[package.dev-dependencies]
dev = [{ name = "iniconfig" }]

[[package]]
name = "iniconfig"
version = "2.3.1"
source = { registry = "https://example.org/simple" }
wheels = [{ url = "https://files.example.org/iniconfig-2.3.1-py3-none-any.whl", hash = "sha256:9121e2c1fdb355232495be3194c8dfe87ccc2d5dee45947b78e68f499790d7a7" }]
"#;

    fn check_defaults(pyproject: Option<&str>, default_groups: Defaults, expect: &[&str]) {
        let target = Target {
            python: "3.11".to_owned(),
            architecture: Architecture::Amd64,
            libc: Libc::Glibc { major: 2, minor: 36 },
        };
        let selection = Selection { default_groups, ..Selection::default() };
        let artifacts = uv_lock(GROUPED, Path::new("uv.lock"), pyproject, &selection, &target).unwrap();
        let names: Vec<&str> = artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
        assert_eq!(names, expect, "{pyproject:?} {default_groups:?}");
    }

    #[test]
    fn dev_is_a_default_group_unless_the_project_says_otherwise() {
        check_defaults(None, Defaults::With, &["iniconfig"]);
        check_defaults(Some("[project]\nname = \"app\"\n"), Defaults::With, &["iniconfig"]);
        check_defaults(Some("[tool.uv]\ndefault-groups = []\n"), Defaults::With, &[]);
        check_defaults(Some("[tool.uv]\ndefault-groups = \"all\"\n"), Defaults::With, &["iniconfig"]);
        check_defaults(None, Defaults::Format, &[]);
        check_defaults(None, Defaults::Without, &[]);
    }
}
