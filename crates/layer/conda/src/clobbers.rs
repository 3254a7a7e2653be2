//! One path, several packages: who wins.
//!
//! Conda's packages may have paths in common. Rattler sorts an environment's packages topologically; on a path that several
//! have, the last of them wins, whose dependencies the others may be. What the others have there goes to
//! `__clobbers__/PACKAGE/PATH`, and their records say so. Which package wins is asked of rattler's own `path_resolver`, in
//! the steps of `install/clobber_registry.rs`, so that a file where another package needs a folder is decided like there.
//!
//! In an image, the packages' own layers stay what they are everywhere, whatever else is in the image, and in whatever order
//! they lie. What rattler would move stands in a layer above them ([`Clobbers::glue`]): the winners' files at their paths
//! once more, the losers' copies, the records that changed. No file has to be removed for that:
//!
//! - where the winner has a file, the layer above has that file, also in the place of a folder: whoever applies layers
//!   replaces a folder by a file together with all that is in it;
//! - where a folder wins over a file, the layer above has that folder with everything that the environment has in it.
//!   Whatever lies below, in whatever order, it is then hidden by the same paths or has gone with the file.
//!
//! Every path that a package loses is one of these two, so no whiteout is needed.
//!
//! Scripts of commands (entry points) are not settled by rattler: in its installer, whichever package is linked later has
//! the path, and there is no copy of the other. Here the order is the topological one, always. Empty folders dispute
//! nothing. Where an emptied folder is in the way of the winner's file, rattler leaves the folder, and the file in
//! `__clobbers__`, against its own records; here the file stands, as the records say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use imgforge_layer::{Entry, Kind, Tree, TreePath};
use path_resolver::{PackageName, PathResolver};
use rattler_conda_types::PackageRecord;
use rattler_conda_types::prefix_record::PathType;

use crate::{ClobberError, Record};

/// What becomes of the paths that packages of an environment have in common.
#[derive(Clone, Debug, Default)]
pub struct Clobbers {
    /// What is disputed, by path.
    pub disputed: Vec<Disputed>,
    /// The records that change, by the package's number in the list that was given.
    pub records: BTreeMap<usize, Record>,
    /// Names of all packages, by number.
    names: Vec<String>,
    /// Paths below the prefix, and the package whose entry stands there.
    standing: BTreeMap<String, usize>,
    /// What stands aside: package and path below the prefix.
    aside: BTreeSet<(usize, String)>,
}

/// A path that more than one package has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disputed {
    /// Below the prefix.
    pub path: String,
    /// The package whose file stands, by its number in the list that was given. For a file in the place of which others
    /// need a folder: the last of those.
    pub winner: usize,
    /// The packages whose file does not stand, by number.
    pub losers: Vec<usize>,
}

/// Settles what the packages of an environment dispute.
///
/// `records` are those of all its packages, as [`plan`](crate::plan) has made them. Their order does not matter.
///
/// # Errors
/// [`ClobberError::Duplicate`] for two packages with one name, [`ClobberError::Path`] for a record that is none of ours.
pub fn clobbers(records: &[&Record]) -> Result<Clobbers, ClobberError> {
    let mut names = BTreeSet::new();
    for record in records {
        if !names.insert(record.name()) {
            return Err(ClobberError::Duplicate { name: record.name().to_owned() });
        }
    }
    let claims = Claims::read(records)?;
    let (standing, aside) = claims.settle();
    let disputed = claims.disputed(&standing, &aside);
    if disputed.is_empty() {
        return Ok(Clobbers::default());
    }
    let mut changed: BTreeMap<usize, Record> = BTreeMap::new();
    for (package, path) in &aside {
        let Some(record) = records.get(*package) else { continue };
        move_aside(changed.entry(*package).or_insert_with(|| (*record).clone()), path);
    }
    for record in changed.values_mut() {
        record.0.paths_data.paths.sort_by(|a, b| a.relative_path.cmp(&b.relative_path));
        record.0.files = record.0.paths_data.paths.iter().map(|entry| entry.relative_path.clone()).collect();
    }
    Ok(Clobbers {
        standing: needed(&standing, &disputed),
        disputed,
        records: changed,
        names: records.iter().map(|record| record.name().to_owned()).collect(),
        aside,
    })
}

impl Clobbers {
    /// The packages that [`glue`](Self::glue) needs the trees of, by number.
    pub fn packages(&self) -> BTreeSet<usize> {
        self.standing.values().copied().chain(self.aside.iter().map(|(package, _)| *package)).collect()
    }

    /// What stands above the packages' own layers, for an environment at `prefix`: empty when nothing is disputed.
    ///
    /// `tree` gives the tree of a package by its number, as [`plan`](crate::plan) has made it for the same prefix.
    ///
    /// # Errors
    /// [`ClobberError::Missing`] when a tree is not that of the package's record.
    pub fn glue<'a>(
        &self,
        prefix: &TreePath,
        tree: &dyn Fn(usize) -> Option<&'a Tree>,
    ) -> Result<Tree, ClobberError> {
        let mut glue = Tree::new();
        let copies = self.standing.iter().map(|(path, package)| (*package, path, path.clone()));
        let aside =
            self.aside.iter().map(|(package, path)| (*package, path, self.aside_path(*package, path)));
        for (package, from, to) in copies.chain(aside) {
            let from = prefix.join(from)?;
            let entry = tree(package).and_then(|tree| content(tree, &from));
            let missing = || ClobberError::Missing { package: self.name(package), path: from.clone() };
            glue.insert(prefix.join(&to)?, entry.ok_or_else(missing)?)?;
        }
        for (package, record) in &self.records {
            let error = |reason| ClobberError::Record { package: self.name(*package), reason };
            let json = record.json().map_err(|source| error(source.reason))?;
            glue.insert(record.path(prefix)?, Entry::bytes(json.into_bytes(), false))?;
        }
        Ok(glue)
    }

    fn name(&self, package: usize) -> String {
        self.names.get(package).cloned().unwrap_or_default()
    }

    fn aside_path(&self, package: usize, path: &str) -> String {
        aside_path(&self.name(package), path)
    }
}

/// Where a path that a package loses goes.
fn aside_path(name: &str, path: &str) -> String {
    format!("__clobbers__/{name}/{path}")
}

/// An entry of a tree that can stand alone: a file, where the tree has another name of it.
fn content(tree: &Tree, path: &TreePath) -> Option<Entry> {
    let entry = tree.get(path)?;
    match &entry.kind {
        Kind::Hardlink(target) => tree.get(target).cloned(),
        _ => Some(entry.clone()),
    }
}

fn move_aside(record: &mut Record, path: &str) {
    let to: PathBuf = aside_path(record.name(), path).into();
    for entry in &mut record.0.paths_data.paths {
        if entry.relative_path == Path::new(path) && entry.path_type != PathType::UnixPythonEntryPoint {
            entry.original_path = Some(entry.relative_path.clone());
            entry.relative_path.clone_from(&to);
        }
    }
}

/// The entries that the layer above has: those that were disputed, and all that is in a folder that won over a file.
fn needed(standing: &BTreeMap<String, usize>, disputed: &[Disputed]) -> BTreeMap<String, usize> {
    let mut needed = BTreeMap::new();
    for Disputed { path, .. } in disputed {
        if let Some(package) = standing.get(path) {
            needed.insert(path.clone(), *package);
        }
        needed.extend(below(standing, path).map(|(path, package)| (path.clone(), *package)));
    }
    needed
}

/// What stands below a path.
fn below<'a>(
    standing: &'a BTreeMap<String, usize>,
    path: &str,
) -> impl Iterator<Item = (&'a String, &'a usize)> + use<'a> {
    let folder = format!("{path}/");
    standing.range(folder.clone()..).take_while(move |(path, _)| path.starts_with(&folder))
}

/// What all packages want to have.
struct Claims<'a> {
    /// Packages by number, in topological order.
    order: Vec<usize>,
    names: Vec<&'a str>,
    /// Of each package by number: its files and links.
    files: Vec<Vec<&'a str>>,
    /// Of each package by number: scripts of its commands.
    scripts: Vec<Vec<&'a str>>,
}

/// A record and its number, for rattler's function that sorts records.
#[derive(Clone)]
struct Numbered<'a> {
    number: usize,
    record: &'a PackageRecord,
}

impl AsRef<PackageRecord> for Numbered<'_> {
    fn as_ref(&self) -> &PackageRecord {
        self.record
    }
}

impl<'a> Claims<'a> {
    fn read(records: &[&'a Record]) -> Result<Self, ClobberError> {
        let numbered = |(number, record): (usize, &&'a Record)| Numbered {
            number,
            record: &record.0.repodata_record.package_record,
        };
        let sorted = PackageRecord::sort_topologically(records.iter().enumerate().map(numbered).collect());
        let mut claims = Self {
            order: sorted.into_iter().map(|numbered| numbered.number).collect(),
            names: records.iter().map(|record| record.name()).collect(),
            files: Vec::new(),
            scripts: Vec::new(),
        };
        for record in records {
            let (mut files, mut scripts) = (Vec::new(), Vec::new());
            for entry in &record.0.paths_data.paths {
                let path = entry.path();
                let is_plain = path.components().all(|component| matches!(component, Component::Normal(_)));
                let path = path.to_str().filter(|_| is_plain).ok_or_else(|| ClobberError::Path {
                    package: record.name().to_owned(),
                    path: path.display().to_string().escape_debug().to_string(),
                })?;
                match entry.path_type {
                    PathType::UnixPythonEntryPoint => scripts.push(path),
                    PathType::Directory => {}
                    _ => files.push(path),
                }
            }
            claims.files.push(files);
            claims.scripts.push(scripts);
        }
        Ok(claims)
    }

    /// What stands where, and what stands aside.
    fn settle(&self) -> (BTreeMap<String, usize>, BTreeSet<(usize, String)>) {
        let numbers: BTreeMap<&str, usize> = self.names.iter().copied().zip(0..).collect();
        let number = |(path, package): (PathBuf, PackageName)| {
            Some((*numbers.get(package.as_str())?, path.to_str()?.to_owned()))
        };
        // As packages are linked: a path that is taken is put aside at once.
        let mut resolver = PathResolver::new();
        let mut aside = BTreeSet::new();
        for &package in &self.order {
            let (Some(name), Some(files)) = (self.names.get(package), self.files.get(package)) else {
                continue;
            };
            let taken = resolver.insert_package((*name).into(), files);
            aside.extend(taken.into_iter().filter_map(|path| Some((package, path.to_str()?.to_owned()))));
        }
        // Behind the last one, the later packages get what is theirs.
        let order =
            self.order.iter().filter_map(|package| Some((*self.names.get(*package)?).into())).collect();
        let (removed, added) = resolver.reprioritize_packages(order);
        let removed: BTreeSet<_> = removed.into_iter().filter_map(number).collect();
        let added: BTreeSet<_> = added.into_iter().filter_map(number).collect();
        aside.extend(removed.difference(&added).cloned());
        aside.retain(|claim| !added.contains(claim) || removed.contains(claim));

        let mut standing: BTreeMap<String, usize> = BTreeMap::new();
        for &package in &self.order {
            for path in self.files.get(package).into_iter().flatten() {
                if !aside.contains(&(package, (*path).to_owned())) {
                    standing.insert((*path).to_owned(), package);
                }
            }
        }
        let rank: BTreeMap<usize, usize> = self.order.iter().copied().zip(0..).collect();
        for &package in &self.order {
            for path in self.scripts.get(package).into_iter().flatten() {
                let is_later = |other: &usize| rank.get(other) <= rank.get(&package);
                if standing.get(*path).is_none_or(is_later) {
                    standing.insert((*path).to_owned(), package);
                }
            }
        }
        (standing, aside)
    }

    /// The paths that more than one package has, or that one has as a file and another as a folder.
    fn disputed(
        &self,
        standing: &BTreeMap<String, usize>,
        aside: &BTreeSet<(usize, String)>,
    ) -> Vec<Disputed> {
        let mut losers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (package, path) in aside {
            losers.entry(path).or_default().push(*package);
        }
        for (package, (files, scripts)) in self.files.iter().zip(&self.scripts).enumerate() {
            for path in files.iter().chain(scripts) {
                let stands = standing.get(*path).is_none_or(|winner| *winner == package);
                let losers = losers.entry(path).or_default();
                if !stands && !losers.contains(&package) {
                    losers.push(package);
                }
            }
        }
        losers.retain(|_, losers| !losers.is_empty());
        let last = |packages: &mut dyn Iterator<Item = usize>| {
            let packages: BTreeSet<usize> = packages.collect();
            self.order.iter().rev().find(|package| packages.contains(package)).copied()
        };
        let above = |path: &str| {
            path.rmatch_indices('/').find_map(|(end, _)| standing.get(path.get(..end)?)).copied()
        };
        losers
            .into_iter()
            .filter_map(|(path, losers)| {
                let winner = standing.get(path).copied();
                let winner = winner
                    .or_else(|| last(&mut below(standing, path).map(|(_, package)| *package)))
                    .or_else(|| above(path))?;
                Some(Disputed { path: path.to_owned(), winner, losers })
            })
            .collect()
    }
}
