//! All packages of all indexes for one architecture, by name and by what they provide.

use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::HashMap;

use crate::Error;
use crate::packages::{Index, Package};
use crate::relation::{Relation, parse_groups, parse_list};
use crate::version::compare_versions;

/// A package's place in [`Universe::packages`].
pub(crate) type Id = usize;

pub(crate) struct Universe<'a> {
    pub(crate) architecture: &'a str,
    packages: Vec<&'a Package<'a>>,
    relations: Vec<OnceCell<Relations<'a>>>,
    by_name: HashMap<&'a str, Vec<Id>>,
    providers: HashMap<&'a str, Vec<Id>>,
}

/// A package's relations, parsed.
pub(crate) struct Relations<'a> {
    /// `Pre-Depends`, then `Depends`: groups of alternatives.
    pub(crate) depends: Vec<Vec<Relation<'a>>>,
    pub(crate) recommends: Vec<Vec<Relation<'a>>>,
    pub(crate) conflicts: Vec<Relation<'a>>,
    pub(crate) breaks: Vec<Relation<'a>>,
    pub(crate) provides: Vec<Relation<'a>>,
}

impl<'a> Universe<'a> {
    /// Joins the indexes. The order in which they are given decides nothing: of a version that two mirrors have, the one
    /// whose source and path sort first is taken.
    pub(crate) fn new(
        indexes: &'a [Index<'a>],
        architecture: &'a str,
        exclude: &[&str],
    ) -> Result<Self, Error> {
        let fits = |package: &&Package<'a>| {
            (package.architecture == architecture || package.architecture == "all")
                && !exclude.contains(&package.name)
        };
        let mut packages: Vec<&Package<'a>> =
            indexes.iter().flat_map(|index| &index.packages).filter(fits).collect();
        packages.sort_by(|left, right| {
            (left.name.cmp(right.name))
                .then_with(|| compare_versions(right.version, left.version))
                .then_with(|| (left.architecture == "all").cmp(&(right.architecture == "all")))
                .then_with(|| {
                    (left.source, left.path, left.sha256).cmp(&(right.source, right.path, right.sha256))
                })
        });
        packages.dedup_by(|later, earlier| {
            later.name == earlier.name && compare_versions(later.version, earlier.version).is_eq()
        });
        let (mut by_name, mut providers) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (id, package) in packages.iter().enumerate() {
            by_name.entry(package.name).or_default().push(id);
            // Names alone suffice to find providers; whether they fit is asked of the parsed relation.
            let names = package.provides.split(',').filter_map(|provided| {
                provided.split(['(', ':']).next().map(str::trim).filter(|name| !name.is_empty())
            });
            for name in names {
                providers.entry(name).or_default().push(id);
            }
        }
        let relations = packages.iter().map(|_| OnceCell::new()).collect();
        Ok(Self { architecture, packages, relations, by_name, providers })
    }

    pub(crate) fn package(&self, id: Id) -> Option<&'a Package<'a>> {
        self.packages.get(id).copied()
    }

    /// `name version`, for messages.
    pub(crate) fn label(&self, id: Id) -> String {
        self.package(id).map(|package| format!("{} {}", package.name, package.version)).unwrap_or_default()
    }

    /// The versions of a package, newest first.
    pub(crate) fn versions(&self, name: &str) -> &[Id] {
        self.by_name.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether this is the newest version of its package, the only one that apt would take.
    pub(crate) fn is_newest(&self, id: Id) -> bool {
        self.package(id).is_some_and(|package| self.versions(package.name).first() == Some(&id))
    }

    /// The packages that say that they provide a name, in any version, in the order of names, newest first.
    pub(crate) fn providers(&self, name: &str) -> &[Id] {
        self.providers.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The versions of the one package whose newest version provides a name; none if there are several.
    pub(crate) fn only_provider(&self, name: &str) -> Result<&[Id], Error> {
        let relation = Relation { name, qualifier: None, version: None };
        let mut providers = Vec::new();
        for id in self.providers(name).iter().filter(|id| self.is_newest(**id)) {
            if self.matches(&relation, *id)? {
                providers.extend(self.package(*id));
            }
        }
        Ok(if let [only] = providers.as_slice() { self.versions(only.name) } else { &[] })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.by_name.keys().copied()
    }

    /// The packages marked `Essential: yes` in their newest version, sorted.
    pub(crate) fn essential(&self) -> Vec<&'a str> {
        let essential =
            |id: &Id| self.package(*id).filter(|package| package.essential && self.is_newest(*id));
        (0..self.packages.len()).filter_map(|id| essential(&id)).map(|package| package.name).collect()
    }

    /// A package's relations.
    pub(crate) fn relations(&self, id: Id) -> Result<&Relations<'a>, Error> {
        let unknown = || Error::control("Packages", 0, format!("there is no package {id}"));
        let (cell, package) = self.relations.get(id).zip(self.package(id)).ok_or_else(unknown)?;
        if let Some(relations) = cell.get() {
            return Ok(relations);
        }
        let wrong = |reason: String| {
            Error::control(
                package.source,
                package.line,
                format!("{} {}: {reason}", package.name, package.version),
            )
        };
        let mut depends = parse_groups(package.pre_depends).map_err(wrong)?;
        depends.extend(parse_groups(package.depends).map_err(wrong)?);
        let relations = Relations {
            depends,
            recommends: parse_groups(package.recommends).map_err(wrong)?,
            conflicts: parse_list(package.conflicts).map_err(wrong)?,
            breaks: parse_list(package.breaks).map_err(wrong)?,
            provides: parse_list(package.provides).map_err(wrong)?,
        };
        Ok(cell.get_or_init(|| relations))
    }

    /// Whether a package is what a relation speaks of, by its own name or by one that it provides.
    pub(crate) fn matches(&self, relation: &Relation<'_>, id: Id) -> Result<bool, Error> {
        let Some(package) = self.package(id) else { return Ok(false) };
        // `name:any` speaks only of packages that allow it; every other qualifier must mean this architecture.
        let qualified = match relation.qualifier {
            None | Some("native") => true,
            Some("any") => package.multi_arch == "allowed",
            Some(other) => other == self.architecture,
        };
        if !qualified {
            return Ok(false);
        }
        if package.name == relation.name {
            let accepts = |(operator, wanted): (crate::relation::Operator, &str)| {
                operator.accepts(package.version, wanted)
            };
            return Ok(relation.version.is_none_or(accepts) || self.provides(relation, id)?);
        }
        self.provides(relation, id)
    }

    /// Whether a package provides what a relation speaks of. A versioned relation needs a versioned provision.
    fn provides(&self, relation: &Relation<'_>, id: Id) -> Result<bool, Error> {
        if self.package(id).is_none_or(|package| package.provides.is_empty()) {
            return Ok(false);
        }
        let fits = |provided: &Relation<'a>| {
            provided.name == relation.name
                && match (relation.version, provided.version) {
                    (None, _) => true,
                    (Some((operator, wanted)), Some((_, version))) => operator.accepts(version, wanted),
                    (Some(_), None) => false,
                }
        };
        Ok(self.relations(id)?.provides.iter().any(fits))
    }

    /// The packages that satisfy a group of alternatives, in the order in which apt would try them: alternative by
    /// alternative, the package of that name before its providers, providers by priority. Of providers that are equal
    /// in that, apt takes the one that came into its cache last, which depends on the order of its sources; here it is the
    /// last by name, which mostly is the same one. Versions that are not the newest follow at the end: apt would not
    /// take them, but a request for `name=version` is often possible only with its neighbours of the same age.
    pub(crate) fn candidates(&self, group: &[Relation<'a>]) -> Result<Vec<Id>, Error> {
        let mut found: Vec<Id> = Vec::new();
        for relation in group {
            let mut fitting = Vec::new();
            for id in self.versions(relation.name).iter().chain(self.providers(relation.name)) {
                if !found.contains(id) && !fitting.contains(id) && self.matches(relation, *id)? {
                    fitting.push(*id);
                }
            }
            fitting.sort_by_key(|id| {
                let package = self.package(*id);
                let is_named = package.is_some_and(|package| package.name == relation.name);
                let essential = package.is_some_and(|package| package.essential);
                let priority = package.map(|package| rank(package.priority));
                let name = package.map(|package| package.name);
                // Of one name, ids are in the order of versions, newest first.
                (Reverse(is_named), Reverse(essential), priority, Reverse(name), *id)
            });
            found.extend(fitting);
        }
        let (newest, older): (Vec<Id>, Vec<Id>) = found.into_iter().partition(|id| self.is_newest(*id));
        Ok(newest.into_iter().chain(older).collect())
    }
}

/// Debian policy 2.5, most important first.
fn rank(priority: &str) -> u8 {
    match priority {
        "required" => 0,
        "important" => 1,
        "standard" => 2,
        "optional" => 3,
        _ => 4,
    }
}
