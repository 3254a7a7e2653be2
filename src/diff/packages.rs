use std::collections::{BTreeMap, BTreeSet};

use imgforge_oci::{DiffId, Image, Layer};
use rayon::prelude::*;
use serde::Serialize;

use super::Which;
use crate::survey::{LayerSurvey, Libc, LibcFamily, PackageKind, Survey};

/// A package that two images don't both have in the same version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PackageChange {
    /// Who installs it: `deb`, `apk`, `conda`, `pypi`.
    pub kind: PackageKind,
    /// Where: `/`, `/opt/venv`.
    pub prefix: String,
    /// Its name.
    pub name: String,
    /// *a*'s version; nothing when it is not there. Where there are several, all of them, separated by `, `.
    pub from: Option<String>,
    /// *b*'s.
    pub to: Option<String>,
}

/// Something that programs of an image run on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Runtime {
    /// The path of an interpreter, or `libc`.
    pub name: String,
    /// *a*'s version: `3.11.2`, `glibc 2.36`.
    pub from: Option<String>,
    /// *b*'s.
    pub to: Option<String>,
}

/// Surveys two images as far as it takes to compare them, with `survey` for a layer of the one that it is told.
///
/// Content that both have is left out of both surveys where it can make no difference: when its layers lie in the same
/// order and no other layer of the images has packages or takes anything away.
///
/// # Errors
/// Those of `survey`.
pub fn surveys<E: Send>(
    a: &Image,
    b: &Image,
    survey: &(dyn Fn(Which, &Layer) -> Result<LayerSurvey, E> + Sync),
) -> Result<(Survey, Survey), E> {
    let contents = |image: &Image| image.layers().iter().map(|layer| layer.diff_id).collect::<Vec<_>>();
    let (of_a, of_b) = (contents(a), contents(b));
    let set: BTreeSet<DiffId> = of_a.iter().copied().collect();
    let common: BTreeSet<DiffId> = of_b.iter().copied().filter(|content| set.contains(content)).collect();
    let in_both =
        |contents: &[DiffId]| contents.iter().copied().filter(|it| common.contains(it)).collect::<Vec<_>>();

    let mut known: BTreeMap<DiffId, LayerSurvey> = BTreeMap::new();
    let mut read = |wanted: &dyn Fn(&Layer) -> bool| {
        let images = [(Which::A, a), (Which::B, b)].into_iter();
        let layers = images.flat_map(|(which, image)| image.layers().iter().map(move |layer| (which, layer)));
        let mut seen: BTreeSet<DiffId> = BTreeSet::new();
        let layers: Vec<_> =
            layers.filter(|(_, layer)| wanted(layer) && seen.insert(layer.diff_id)).collect();
        let surveys = layers.par_iter().map(|(which, layer)| Ok((layer.diff_id, survey(*which, layer)?)));
        // Collected before the first error is looked for, so that the same one is told each time.
        for survey in surveys.collect::<Vec<Result<_, E>>>() {
            let (content, survey) = survey?;
            known.insert(content, survey);
        }
        Ok(known.values().all(LayerSurvey::leaves_packages_alone))
    };
    let is_of_no_matter =
        read(&|layer| !common.contains(&layer.diff_id))? && in_both(&of_a) == in_both(&of_b);
    if !is_of_no_matter {
        read(&|layer| common.contains(&layer.diff_id))?;
    }
    let survey = |contents: &[DiffId]| {
        let layers: Vec<_> = contents.iter().filter_map(|content| known.get(content).cloned()).collect();
        Survey::of(&layers)
    };
    Ok((survey(&of_a), survey(&of_b)))
}

pub(super) fn compare(a: &Survey, b: &Survey) -> Vec<PackageChange> {
    type Key<'a> = (PackageKind, &'a str, &'a str);
    fn versions(survey: &Survey) -> BTreeMap<Key<'_>, BTreeSet<&str>> {
        let mut versions: BTreeMap<Key<'_>, BTreeSet<&str>> = BTreeMap::new();
        for package in survey.packages.iter().filter(|package| !package.is_part) {
            let key = (package.kind, package.prefix.as_str(), package.name.as_str());
            versions.entry(key).or_default().insert(&package.version);
        }
        versions
    }
    let text = |versions: &BTreeSet<&str>| versions.iter().copied().collect::<Vec<_>>().join(", ");
    let changes = changes(&versions(a), &versions(b), text).into_iter();
    changes
        .map(|((kind, prefix, name), from, to)| PackageChange {
            kind,
            prefix: prefix.to_owned(),
            name: name.to_owned(),
            from,
            to,
        })
        .collect()
}

pub(super) fn runtimes(a: &Survey, b: &Survey) -> Vec<Runtime> {
    let versions = |survey: &Survey| {
        let interpreters = survey.interpreters.iter().map(|it| (it.path.clone(), it.version.clone()));
        let libc = survey.libc.iter().map(|libc| ("libc".to_owned(), libc_text(libc)));
        interpreters.chain(libc).collect::<BTreeMap<_, _>>()
    };
    let changes = changes(&versions(a), &versions(b), String::clone).into_iter();
    changes.map(|(name, from, to)| Runtime { name, from, to }).collect()
}

fn libc_text(libc: &Libc) -> String {
    let family = match libc.family {
        LibcFamily::Glibc => "glibc",
        LibcFamily::Musl => "musl",
    };
    libc.version.as_ref().map_or_else(|| family.to_owned(), |version| format!("{family} {version}"))
}

/// What two maps don't both have under the same key, sorted by that.
pub(super) fn changes<K: Ord + Clone, V: PartialEq, T>(
    a: &BTreeMap<K, V>,
    b: &BTreeMap<K, V>,
    show: impl Fn(&V) -> T,
) -> Vec<(K, Option<T>, Option<T>)> {
    let keys: BTreeSet<&K> = a.keys().chain(b.keys()).collect();
    keys.into_iter()
        .filter(|key| a.get(key) != b.get(key))
        .map(|key| (key.clone(), a.get(key).map(&show), b.get(key).map(&show)))
        .collect()
}
