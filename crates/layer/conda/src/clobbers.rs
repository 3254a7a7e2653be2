//! One path, several packages: who wins.
//!
//! Conda's packages may have paths in common. Rattler sorts an environment's packages topologically; on a path that several
//! have, the last of them wins, whose dependencies the others may be. What the others have there goes to
//! `__clobbers__/PACKAGE/PATH`, and their records say so (rattler's `install/clobber_registry.rs`). A file where another
//! package needs a folder is decided alike: from the last package to the first, each has its files where the packages
//! behind it leave room.
//!
//! Where only files dispute, that is what rattler does in whatever order it links packages. With three packages of which
//! some have a file where others have a folder, its result depends on that order, it may put aside what nothing stands in the
//! way of, and now and then none of its results is this one. And where an emptied folder is in the way of the winner's file,
//! rattler leaves the folder, and the file in `__clobbers__`, against its own records; here the file stands, as the records
//! say.
//!
//! Scripts of commands (entry points) are no files of their package to rattler: whichever package is linked later has the
//! path, and there is no copy of the other. Here, too, later means the topological order. Empty folders dispute nothing.
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
//! What loses, loses to something that stands at, above or below its path. So each case is one of the two, and no whiteout
//! is needed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::path::{Component, Path, PathBuf};

use imgforge_layer::{Entry, Kind, Tree, TreePath};
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
    let Settled { standing, aside } = claims.settle();
    let losers = claims.losers(&standing, &aside);
    if losers.is_empty() {
        return Ok(Clobbers::default());
    }
    let standing: BTreeMap<&str, usize> = standing.into_iter().collect();
    let disputed = claims.disputed(&standing, losers);
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
        aside: aside.into_iter().map(|(package, path)| (package, path.to_owned())).collect(),
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

/// The entries that the layer above has: the files that won, in the place of a folder too, and all that is in a folder
/// that won over a file.
fn needed(standing: &BTreeMap<&str, usize>, disputed: &[Disputed]) -> BTreeMap<String, usize> {
    let mut needed = BTreeMap::new();
    for Disputed { path, .. } in disputed {
        let file = standing.get_key_value(path.as_str()).map(|(path, package)| (*path, *package));
        let entries = file.into_iter().chain(above(standing, path)).chain(below(standing, path));
        needed.extend(entries.map(|(path, package)| (path.to_owned(), package)));
    }
    needed
}

/// What stands where a path has a folder.
fn above<'a>(standing: &BTreeMap<&'a str, usize>, path: &str) -> Option<(&'a str, usize)> {
    let entry = folders(path).find_map(|folder| standing.get_key_value(folder));
    entry.map(|(path, package)| (*path, *package))
}

/// What stands below a path.
fn below<'a>(standing: &BTreeMap<&'a str, usize>, path: &str) -> Vec<(&'a str, usize)> {
    let folder = format!("{path}/");
    let from = standing.range::<str, _>((Bound::Included(folder.as_str()), Bound::Unbounded));
    from.take_while(|(path, _)| path.starts_with(&folder)).map(|(path, package)| (*path, *package)).collect()
}

/// The folders above a path, the nearest first.
fn folders(path: &str) -> impl Iterator<Item = &str> {
    path.rmatch_indices('/').filter_map(|(end, _)| path.get(..end))
}

/// What stands where, and what stands aside, as package and path.
struct Settled<'a> {
    standing: HashMap<&'a str, usize>,
    aside: BTreeSet<(usize, &'a str)>,
}

/// What all packages want to have.
struct Claims<'a> {
    /// Packages by number, in topological order.
    order: Vec<usize>,
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

    fn settle(&self) -> Settled<'a> {
        let mut standing: HashMap<&str, usize> = HashMap::new();
        let mut taken: HashSet<&str> = HashSet::new();
        let mut aside = BTreeSet::new();
        for &package in self.order.iter().rev() {
            for &path in self.files.get(package).into_iter().flatten() {
                let is_taken = standing.contains_key(path)
                    || taken.contains(path)
                    || folders(path).any(|folder| standing.contains_key(folder));
                if is_taken {
                    aside.insert((package, path));
                    continue;
                }
                standing.insert(path, package);
                for folder in folders(path) {
                    if !taken.insert(folder) {
                        break;
                    }
                }
            }
        }
        let rank: HashMap<usize, usize> = self.order.iter().copied().zip(0..).collect();
        for &package in &self.order {
            for &path in self.scripts.get(package).into_iter().flatten() {
                let is_later = |other: &usize| rank.get(other) <= rank.get(&package);
                let has_room =
                    !taken.contains(path) && !folders(path).any(|folder| standing.contains_key(folder));
                if has_room && standing.get(path).is_none_or(is_later) {
                    standing.insert(path, package);
                }
            }
        }
        Settled { standing, aside }
    }

    /// The paths on which packages lose, and which packages.
    fn losers(
        &self,
        standing: &HashMap<&str, usize>,
        aside: &BTreeSet<(usize, &'a str)>,
    ) -> BTreeMap<&'a str, Vec<usize>> {
        let mut losers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (package, path) in aside {
            losers.entry(path).or_default().push(*package);
        }
        for (package, (files, scripts)) in self.files.iter().zip(&self.scripts).enumerate() {
            for path in files.iter().chain(scripts) {
                if standing.get(path) != Some(&package) {
                    let losers = losers.entry(path).or_default();
                    if !losers.contains(&package) {
                        losers.push(package);
                    }
                }
            }
        }
        losers
    }

    fn disputed(
        &self,
        standing: &BTreeMap<&str, usize>,
        losers: BTreeMap<&str, Vec<usize>>,
    ) -> Vec<Disputed> {
        let last = |packages: &BTreeSet<usize>| {
            self.order.iter().rev().find(|package| packages.contains(package)).copied()
        };
        let disputed = losers.into_iter().filter_map(|(path, losers)| {
            let file = standing.get(path).copied();
            let winner = file
                .or_else(|| last(&below(standing, path).into_iter().map(|(_, package)| package).collect()))
                .or_else(|| above(standing, path).map(|(_, package)| package))?;
            Some(Disputed { path: path.to_owned(), winner, losers })
        });
        disputed.collect()
    }
}
