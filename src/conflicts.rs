//! One path, two owners: what happens when packages of an environment disagree about a file.
//!
//! Installers of wheels have no rule: whoever is unpacked last wins. Here the package with the later name wins, always,
//! and its file stands again in a small layer above the environment's packages. So a package's own layer stays what it
//! is in every image, whatever else is in that image, and the order of layers does not decide.
//!
//! Which paths are disputed is known from the layers' listings. It is found out once for a set of packages and kept in
//! the store beside the layer index.

use std::collections::BTreeMap;
use std::sync::Arc;

use imgforge_layer::{Kind, Tree, TreePath};
use imgforge_oci::Digest;
use serde::{Deserialize, Serialize};

use crate::clobbers;
use crate::config::{Config, Image, OnConflict, resolve};
use crate::derived::Ground;
use crate::error::Error;
use crate::plan::Rank;
use crate::project::codec;
use crate::unit::{LayerSpec, Recipe, Unit};
use crate::workshop::{Listed, Made, What, Workshop};

/// A path that two packages of an environment bring with different content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The environment's prefix.
    pub prefix: String,
    /// The path.
    pub path: String,
    /// The package whose file is covered.
    pub loser: String,
    /// The package whose file stands.
    pub winner: String,
}

/// Settles the disputes of an image's environments, and puts the layers that do so above those of the packages. `units`
/// are the image's, in the order in which they were selected.
///
/// # Errors
/// [`Error::Conflict`] for a dispute that images.toml does not allow, and for a path that is a folder in one package and
/// a file in another; or whatever stands in the way of a layer.
pub(crate) fn settle(
    config: &Config,
    table: &Image,
    units: &[&Arc<Unit>],
    workshop: &Workshop<'_>,
    ground: &Ground<'_>,
    layers: &mut Vec<(LayerSpec, Made)>,
) -> Result<Vec<Conflict>, Error> {
    let mut conflicts = Vec::new();
    for name in &table.environments {
        let Some(environment) = config.environments.get(name) else { continue };
        // What goes into another environment is settled with that one.
        if environment.into.is_some() {
            continue;
        }
        let strip = table.strip_of(Some(environment))?;
        let own = clobbers::Own { name, environment, strip };
        let linked = clobbers::settle(own, config, units, workshop, ground, layers)?;
        conflicts.extend(linked);
        let wheels = wheels_at(layers, &environment.prefix);
        let key = key(layers, &environment.prefix);
        let found = match workshop.store.record(&bucket(), &key)? {
            Some(found) => found,
            None => find(name, &key, workshop, layers, &wheels)?,
        };
        if let (OnConflict::Error, Some(first)) = (environment.on_conflict, found.first()) {
            return Err(Error::Conflict {
                environment: name.clone(),
                path: tree_path(&first.path)?,
                first: first.loser.clone(),
                second: first.winner.clone(),
            });
        }
        if !found.is_empty() {
            let unit = Arc::new(winners(&wheels, &found));
            let codec = codec(config.settings.compression, Rank::Packages);
            let spec = LayerSpec::new(vec![unit], codec, config.settings.source_date_epoch);
            let made = workshop.make(std::slice::from_ref(&spec))?;
            let above =
                layers.iter().rposition(|(spec, _)| spec.rank() <= Rank::Packages).map_or(0, |at| at + 1);
            layers.splice(above..above, made.into_iter().map(|made| (spec.clone(), made)));
        }
        conflicts.extend(found);
    }
    Ok(conflicts)
}

/// The bucket of what was found out.
fn bucket() -> String {
    format!("conflicts/{}", imgforge_layer::LAYER_FORMAT)
}

/// The wheels of an environment, by name.
fn wheels_at(layers: &[(LayerSpec, Made)], prefix: &str) -> Vec<Arc<Unit>> {
    let mut wheels: Vec<_> = layers
        .iter()
        .flat_map(|(spec, _)| &spec.units)
        .map(Unit::whole)
        .filter(|unit| is_at(unit, prefix))
        .map(Arc::clone)
        .collect();
    wheels.sort_by(|a, b| (&a.item.name, &a.item.identity).cmp(&(&b.item.name, &b.item.identity)));
    wheels.dedup_by(|a, b| a.item == b.item);
    wheels
}

fn is_at(unit: &Unit, prefix: &str) -> bool {
    match &unit.recipe {
        Recipe::Wheel { scheme, .. } => scheme.prefix().to_string() == prefix.trim_end_matches('/'),
        _ => false,
    }
}

/// What was found out is known by: the parts of the environment's wheels that are there.
fn key(layers: &[(LayerSpec, Made)], prefix: &str) -> String {
    let units = layers.iter().flat_map(|(spec, _)| &spec.units);
    let mut identities: Vec<_> = units
        .filter(|unit| is_at(unit.whole(), prefix))
        .map(|unit| (unit.item.name.as_str(), unit.item.identity.as_str()))
        .collect();
    identities.sort_unstable();
    identities.dedup();
    let identities: Vec<_> = identities.into_iter().map(|(_, identity)| identity).collect();
    Digest::of(identities.join("\n").as_bytes()).hex()
}

fn find(
    environment: &str,
    key: &str,
    workshop: &Workshop<'_>,
    layers: &[(LayerSpec, Made)],
    wheels: &[Arc<Unit>],
) -> Result<Vec<Conflict>, Error> {
    // Each package's entries, by its identity.
    let mut listed: BTreeMap<&str, Vec<Listed>> = BTreeMap::new();
    for (spec, made) in layers {
        if !spec.units.iter().any(|unit| wheels.iter().any(|wheel| wheel.item == unit.whole().item)) {
            continue;
        }
        let listing = workshop.listing(&made.record)?;
        for (unit, (_, entries)) in spec.units.iter().zip(listing.units) {
            listed.entry(&unit.whole().item.identity).or_default().extend(entries);
        }
    }
    let mut owners: BTreeMap<&TreePath, (&Unit, &Listed)> = BTreeMap::new();
    let mut conflicts: BTreeMap<&TreePath, Conflict> = BTreeMap::new();
    for wheel in wheels {
        for entry in listed.get(wheel.item.identity.as_str()).into_iter().flatten() {
            let Some((owner, before)) = owners.insert(&entry.path, (wheel, entry)) else { continue };
            match (&before.what, &entry.what) {
                (What::Folder, What::Folder) => continue,
                (a, b) if a == b && before.mode == entry.mode => continue,
                (What::Folder, _) | (_, What::Folder) => {
                    return Err(Error::Conflict {
                        environment: environment.to_owned(),
                        path: entry.path.clone(),
                        first: owner.title.clone(),
                        second: wheel.title.clone(),
                    });
                }
                _ => {}
            }
            let prefix = match &wheel.recipe {
                Recipe::Wheel { scheme, .. } => scheme.prefix().to_string(),
                _ => String::new(),
            };
            let conflict = Conflict {
                prefix,
                path: entry.path.to_string(),
                loser: owner.title.clone(),
                winner: wheel.title.clone(),
            };
            conflicts.insert(&entry.path, conflict);
        }
    }
    let conflicts: Vec<Conflict> = conflicts.into_values().collect();
    if are_here(layers) {
        workshop.store.put_record(&bucket(), key, &conflicts, &[])?;
    }
    Ok(conflicts)
}

/// The winning files, as a unit of their own.
fn winners(wheels: &[Arc<Unit>], conflicts: &[Conflict]) -> Unit {
    let mut winners: Vec<(Arc<Unit>, Vec<String>)> = Vec::new();
    for wheel in wheels {
        let paths: Vec<_> = conflicts
            .iter()
            .filter(|conflict| conflict.winner == wheel.title)
            .map(|conflict| conflict.path.clone())
            .collect();
        if !paths.is_empty() {
            winners.push((Arc::clone(wheel), paths));
        }
    }
    Unit::winners(winners)
}

/// Checks that application files and artifacts' files neither cover a package's files, or each other's, nor stand where a
/// folder is needed.
///
/// A file of the base may be covered: that is how a configuration is changed. What was found good is remembered by the
/// layers' keys, so that a rebuild reads no listing.
pub(crate) fn check_files(workshop: &Workshop<'_>, layers: &[(LayerSpec, Made)]) -> Result<(), Error> {
    let is_checked = |rank| matches!(rank, Rank::Files | Rank::Artifacts | Rank::Links);
    if !layers.iter().any(|(spec, _)| is_checked(spec.rank())) {
        return Ok(());
    }
    let keys: Vec<_> = layers.iter().map(|(spec, _)| spec.key.as_str()).collect();
    let key = Digest::of(keys.join("\n").as_bytes()).hex();
    if workshop.store.record::<bool>(GOOD_FILES, &key)? == Some(true) {
        return Ok(());
    }
    let mut below = Below::default();
    for (spec, made) in layers.iter().filter(|(spec, _)| spec.rank() <= Rank::Artifacts) {
        for (title, entries) in workshop.listing(&made.record)?.units {
            for entry in &entries {
                match spec.rank() {
                    Rank::Links => below.allows_link(&entry.path, &entry.what, &title)?,
                    Rank::Artifacts => below.allows(&entry.path, entry.what == What::Folder, &title)?,
                    _ => {}
                }
            }
            below.add(spec.rank(), &title, entries);
        }
    }
    for unit in layers.iter().flat_map(|(spec, _)| &spec.units) {
        match &unit.recipe {
            Recipe::Files(tree) => {
                for (path, entry) in tree.iter() {
                    below.allows(path, entry.is_directory(), &unit.title)?;
                }
            }
            Recipe::Links { tree, within: Some(within) } => below.has_targets(tree, within, &unit.title)?,
            _ => {}
        }
    }
    if are_here(layers) {
        workshop.store.put_record(GOOD_FILES, &key, &true, &[])?;
    }
    Ok(())
}

/// What there is already, by path: its rank, whose it is, and what it is.
#[derive(Default)]
struct Below(BTreeMap<TreePath, (Rank, String, What)>);

impl Below {
    fn add(&mut self, rank: Rank, title: &str, entries: Vec<Listed>) {
        for entry in entries {
            self.0.insert(entry.path, (rank, title.to_owned(), entry.what));
        }
    }

    /// Refuses a path that covers what it must not.
    fn allows(&self, path: &TreePath, is_folder: bool, title: &str) -> Result<(), Error> {
        let covered = |below: &TreePath| {
            let (_, first, _) = self.0.get(below)?;
            Some(Error::Covered { path: path.clone(), first: first.clone(), second: title.to_owned() })
        };
        let error = match self.0.get(path) {
            Some((_, _, what)) if (*what == What::Folder) != is_folder => covered(path),
            Some((
                Rank::Packages | Rank::CondaPackages | Rank::Environment | Rank::Artifacts | Rank::Links,
                _,
                _,
            )) if !is_folder => covered(path),
            _ => None,
        };
        match error.or_else(|| covered(&self.stump(path)?)) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Refuses a link that covers anything but its like, or a folder above it that can't be one.
    fn allows_link(&self, path: &TreePath, what: &What, title: &str) -> Result<(), Error> {
        match self.0.get(path) {
            Some((_, _, below)) if below == what => Ok(()),
            Some((_, first, _)) => {
                Err(Error::Covered { path: path.clone(), first: first.clone(), second: title.to_owned() })
            }
            None => self.allows(path, *what == What::Folder, title),
        }
    }

    /// Refuses links to what is not there, as far as they stay where all is known. What lies behind another link is not
    /// looked for.
    fn has_targets(&self, links: &Tree, within: &TreePath, title: &str) -> Result<(), Error> {
        for (link, entry) in links.iter() {
            let Kind::Symlink(target) = &entry.kind else { continue };
            let target = resolve(link, target).and_then(|target| TreePath::new(&target).ok());
            let Some(target) = target.filter(|target| target.ancestors().any(|above| above == *within))
            else {
                continue;
            };
            if !self.0.contains_key(&target) && self.stump(&target).is_none() {
                return Err(Error::Dangling { owner: title.to_owned(), link: link.clone(), target });
            }
        }
        Ok(())
    }

    /// What is no folder on the way to a path.
    fn stump(&self, path: &TreePath) -> Option<TreePath> {
        path.ancestors().find(|above| self.0.get(above).is_some_and(|(_, _, what)| *what != What::Folder))
    }
}

/// Whether all listings were compared with what they list. What follows from others is not remembered.
pub(crate) fn are_here(layers: &[(LayerSpec, Made)]) -> bool {
    layers.iter().all(|(_, made)| made.is_here)
}

/// The bucket of layers whose application files and artifacts were found good.
const GOOD_FILES: &str = "files/3";

fn tree_path(path: &str) -> Result<TreePath, Error> {
    TreePath::new(path).map_err(|source| Error::Tree { what: "a disputed path".to_owned(), source })
}
