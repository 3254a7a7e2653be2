//! One path, two conda packages: what linking them in order leaves.
//!
//! Conda has a rule for that, and rattler's form of it is followed: of the packages that have a path, one wins it, and
//! the others' files are kept in `__clobbers__/PACKAGE/PATH`, where their records in `conda-meta` then say they are. Each
//! package's own layer stays what it is everywhere, with all of its files at their own paths. A further layer above those
//! of the packages has what the dispute changes: the winner's file once more, the others' copies, and the records.
//!
//! Wheels are installed after conda packages: a wheel's file covers a conda package's, as it does when an installer of
//! wheels runs in a conda environment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imgforge_layer::{Strip, Tree, TreePath};
use imgforge_layer_conda as conda;
use imgforge_oci::Digest;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Environment, LinkScripts, OnConflict};
use crate::conflicts::{self, Conflict};
use crate::derived::{self, Ground};
use crate::error::Error;
use crate::plan::Rank;
use crate::project::codec;
use crate::unit::{Clobbers, CondaUnit, LayerSpec, Recipe, Unit};
use crate::workshop::{Listed, Made, What, Workshop};

/// What was found out about the conda packages of an environment, and the wheels in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Findings {
    /// Paths that several conda packages have, once for each package whose file does not stand.
    clobbered: Vec<Conflict>,
    /// Paths of conda packages that wheels cover.
    covered: Vec<Conflict>,
    /// Packages, as positions, whose files the layer that settles it has.
    concerned: BTreeSet<usize>,
    /// Link scripts that would be run at installation: the package's title and the script's path.
    scripts: Vec<(String, String)>,
}

/// The bucket of what was found out.
const FOUND: &str = "clobbers/1";

/// A conda environment in an image.
pub(crate) struct Own<'a> {
    /// Its name in images.toml.
    pub(crate) name: &'a str,
    /// Its table.
    pub(crate) environment: &'a Environment,
    /// What the image leaves out of its packages.
    pub(crate) strip: Strip,
}

/// Settles what conda packages of an environment disagree about, and puts the layer that does so above theirs.
pub(crate) fn settle(
    own: Own<'_>,
    config: &Config,
    units: &[&Arc<Unit>],
    workshop: &Workshop<'_>,
    ground: &Ground<'_>,
    layers: &mut Vec<(LayerSpec, Made)>,
) -> Result<Vec<Conflict>, Error> {
    let Own { name, environment, strip } = own;
    let prefix = environment.prefix.trim_end_matches('/');
    let mut wholes: Vec<&Arc<Unit>> = units.iter().map(|unit| unit.whole()).collect();
    // Parts of one follow each other.
    wholes.dedup_by(|a, b| a.item == b.item);
    // In the order in which they were selected, which is that of linking.
    let packages: Vec<(&Arc<Unit>, &Arc<CondaUnit>)> = wholes
        .iter()
        .filter_map(|unit| match &unit.recipe {
            Recipe::Conda(package) if package.prefix.to_string() == prefix => Some((*unit, package)),
            _ => None,
        })
        .collect();
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    let wheels: Vec<&Arc<Unit>> = wholes
        .iter()
        .filter(|unit| match &unit.recipe {
            Recipe::Wheel { scheme, .. } => scheme.prefix().to_string() == prefix,
            _ => false,
        })
        .copied()
        .collect();
    let of_environment = packages.iter().map(|(unit, _)| *unit).chain(wheels.iter().copied());
    let of_environment: BTreeSet<_> = of_environment.map(|unit| unit.item.identity.as_str()).collect();
    let identities: Vec<_> = units
        .iter()
        .filter(|unit| of_environment.contains(unit.whole().item.identity.as_str()))
        .map(|unit| unit.item.identity.as_str())
        .collect();
    let key = Digest::of(identities.join("\n").as_bytes()).hex();
    let found: Findings = match workshop.store.record(FOUND, &key)? {
        Some(found) => found,
        None => {
            let found = find(name, &packages, &wheels, workshop, layers)?;
            if conflicts::are_here(layers) {
                workshop.store.put_record(FOUND, &key, &found, &[])?;
            }
            found
        }
    };
    if let (None, Some((package, script))) = (environment.link_scripts, found.scripts.first()) {
        return Err(Error::LinkScript {
            environment: name.to_owned(),
            package: package.clone(),
            script: tree_path(script)?,
        });
    }
    // What is left out is in no dispute, whoever would have won it.
    let keeps = strip.keeps()?;
    let mut clobbered = Vec::new();
    for clobber in found.clobbered {
        if keeps(&tree_path(&clobber.path)?, false) {
            clobbered.push(clobber);
        }
    }
    let conflicts = [clobbered.clone(), found.covered].concat();
    if let (OnConflict::Error, Some(first)) = (environment.on_conflict, conflicts.first()) {
        return Err(Error::Conflict {
            environment: name.to_owned(),
            path: tree_path(&first.path)?,
            first: first.loser.clone(),
            second: first.winner.clone(),
        });
    }
    if !clobbered.is_empty() {
        let lines = clobbered.iter();
        let mut disputed: Vec<String> =
            lines.map(|clobber| format!("{} {} {}", clobber.path, clobber.winner, clobber.loser)).collect();
        disputed.sort();
        let clobbers = Clobbers {
            packages: packages.iter().map(|(_, package)| Arc::clone(package)).collect(),
            concerned: found.concerned,
            strip,
        };
        let unit = Arc::new(Unit::clobbers(clobbers, &disputed));
        let codec = codec(config.settings.compression, Rank::CondaPackages);
        let spec = LayerSpec::new(vec![unit], codec, config.settings.source_date_epoch);
        let made = workshop.make(std::slice::from_ref(&spec))?;
        let above =
            layers.iter().rposition(|(spec, _)| spec.rank() <= Rank::CondaPackages).map_or(0, |at| at + 1);
        layers.splice(above..above, made.into_iter().map(|made| (spec.clone(), made)));
    }
    if environment.link_scripts == Some(LinkScripts::Run) {
        let has_script = |package: &CondaUnit| {
            let script = format!("{prefix}/bin/.{}-post-link.sh", package.package.name);
            found.scripts.iter().any(|(_, path)| *path == script)
        };
        let own: Vec<&CondaUnit> = packages
            .iter()
            .map(|(_, package)| package.as_ref())
            .filter(|package| has_script(package))
            .collect();
        derived::link_scripts(ground, workshop, name, &own, layers)?;
    }
    Ok(conflicts)
}

fn find(
    environment: &str,
    packages: &[(&Arc<Unit>, &Arc<CondaUnit>)],
    wheels: &[&Arc<Unit>],
    workshop: &Workshop<'_>,
    layers: &[(LayerSpec, Made)],
) -> Result<Findings, Error> {
    // Each package's entries, by its identity.
    let mut listed: BTreeMap<&str, Vec<Listed>> = BTreeMap::new();
    for (spec, made) in layers {
        if matches!(spec.rank(), Rank::CondaPackages | Rank::Packages) {
            let listing = workshop.listing(&made.record)?;
            for (unit, (_, entries)) in spec.units.iter().zip(listing.units) {
                listed.entry(&unit.whole().item.identity).or_default().extend(entries);
            }
        }
    }
    let entries = |unit: &Unit| listed.get(unit.item.identity.as_str()).map_or(&[][..], Vec::as_slice);
    let mut found = Findings::default();
    let mut paths: BTreeMap<&TreePath, usize> = BTreeMap::new();
    let mut is_disputed = false;
    for (at, (unit, package)) in packages.iter().enumerate() {
        let bin = format!("{}/bin/", package.prefix.as_str());
        let scripts =
            ["pre-link", "post-link"].map(|when| format!("{bin}.{}-{when}.sh", package.package.name));
        for entry in entries(unit).iter().filter(|entry| entry.what != What::Folder) {
            if scripts.iter().any(|script| script == entry.path.as_str()) {
                found.scripts.push((unit.title.clone(), entry.path.to_string()));
            }
            is_disputed |= paths.insert(&entry.path, at).is_some();
        }
    }
    // A file where others need a folder.
    is_disputed |= paths.keys().any(|path| path.ancestors().any(|above| paths.contains_key(&above)));
    if is_disputed {
        let records = records(workshop, packages.iter().map(|(_, package)| *package))?;
        let clobbers = settled(&records)?;
        let prefix = packages.first().map(|(_, package)| package.prefix.to_string()).unwrap_or_default();
        let title = |at: usize| packages.get(at).map(|(unit, _)| unit.title.clone()).unwrap_or_default();
        for disputed in &clobbers.disputed {
            found.clobbered.extend(disputed.losers.iter().map(|&loser| Conflict {
                prefix: prefix.clone(),
                path: format!("{prefix}/{}", disputed.path),
                loser: title(loser),
                winner: title(disputed.winner),
            }));
        }
        found.concerned = clobbers.packages();
    }
    found.covered = covered(environment, packages, wheels, &entries)?;
    Ok(found)
}

/// The packages' records, in their order.
fn records<'p>(
    workshop: &Workshop<'_>,
    packages: impl Iterator<Item = &'p Arc<CondaUnit>>,
) -> Result<Vec<conda::Record>, Error> {
    let packages: Vec<_> = packages.collect();
    packages.par_iter().map(|package| package.record(workshop)).collect()
}

fn settled(records: &[conda::Record]) -> Result<conda::Clobbers, Error> {
    let records: Vec<_> = records.iter().collect();
    conda::clobbers(&records).map_err(|error| Error::Unit {
        unit: "paths of several conda packages".to_owned(),
        source: error.into(),
    })
}

/// Paths of conda packages that wheels cover with other content.
fn covered<'l>(
    environment: &str,
    packages: &[(&Arc<Unit>, &Arc<CondaUnit>)],
    wheels: &[&Arc<Unit>],
    entries: &dyn Fn(&Unit) -> &'l [Listed],
) -> Result<Vec<Conflict>, Error> {
    let mut owners: BTreeMap<&TreePath, (&Unit, &CondaUnit, &Listed)> = BTreeMap::new();
    for (unit, package) in packages {
        for entry in entries(unit) {
            owners.insert(&entry.path, (unit, package, entry));
        }
    }
    let mut conflicts = Vec::new();
    for wheel in wheels {
        for entry in entries(wheel) {
            let Some((owner, package, before)) = owners.get(&entry.path) else { continue };
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
                _ => conflicts.push(Conflict {
                    prefix: package.prefix.to_string(),
                    path: entry.path.to_string(),
                    loser: owner.title.clone(),
                    winner: wheel.title.clone(),
                }),
            }
        }
    }
    Ok(conflicts)
}

/// What disputes change, from the archives of the packages that have part in them.
///
/// # Errors
/// [`Error::Unit`] for a package that can't be read.
pub(crate) fn tree(workshop: &Workshop<'_>, clobbers: &Clobbers) -> Result<Tree, Error> {
    let Some(first) = clobbers.packages.first() else { return Ok(Tree::new()) };
    let settled = settled(&records(workshop, clobbers.packages.iter())?)?;
    let mut trees: BTreeMap<usize, Tree> = BTreeMap::new();
    for at in settled.packages() {
        if let Some(package) = clobbers.packages.get(at) {
            trees.insert(at, package.plan(workshop)?.tree);
        }
    }
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| Error::Unit {
        unit: "paths of several conda packages".to_owned(),
        source: error,
    };
    let tree = settled.glue(&first.prefix, &|at| trees.get(&at)).map_err(|error| failed(error.into()))?;
    match clobbers.strip.is_empty() {
        true => Ok(tree),
        false => clobbers.strip.apply(&tree).map_err(|error| failed(error.into())),
    }
}

fn tree_path(path: &str) -> Result<TreePath, Error> {
    TreePath::new(path).map_err(|source| Error::Tree { what: "a disputed path".to_owned(), source })
}
