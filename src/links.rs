//! Links that images.toml asks for, as units: a small layer of their own above the packages.
//!
//! A link that stands where something else is would hide it, so that is an error, and so is a link into an environment
//! that leads to nothing there. Both are found when all layers are known, in `conflicts`.

use imgforge_layer::{Entry, Kind, Tree, TreePath};
use serde_json::json;

use crate::artifacts::Job;
use crate::config::{Config, Environment, Image};
use crate::error::Error;
use crate::unit::Unit;

/// An environment's links, if it has any.
///
/// # Errors
/// [`Error::Tree`] for paths that can't be in one tree.
pub(crate) fn of_environment(environment: &Environment) -> Result<Option<Unit>, Error> {
    let prefix = environment.prefix.trim_end_matches('/');
    // What a link script leaves is in no package's listing.
    let within = match environment.link_scripts {
        Some(crate::config::LinkScripts::Run) => None,
        _ => TreePath::new(prefix).ok(),
    };
    unit(prefix, environment.rooted_links().into_iter(), within)
        .map(|unit| unit.map(|unit| unit.with_priority(environment.cache_priority)))
}

/// An image's links, if it has any.
///
/// # Errors
/// As for [`of_environment`].
pub(crate) fn of_image(image: &Image) -> Result<Option<Unit>, Error> {
    unit("/", image.rooted_links().into_iter(), None)
}

/// What a build sees of links, for its recipe: those of its environments, and nothing where there are none.
pub(crate) fn recipe(config: &Config, job: &Job<'_>) -> Option<String> {
    let names = job.environments();
    let environments = names.filter_map(|name| config.environments.get(name));
    // One that goes into another stands on it.
    let below = |it: &Environment| it.into.as_ref().and_then(|into| config.environments.get(into));
    let mut lines: Vec<String> = environments
        .flat_map(|it| std::iter::once(it).chain(below(it)))
        .flat_map(|it| it.rooted_links())
        .map(|(link, target)| format!("{link} -> {target}"))
        .collect();
    lines.sort();
    lines.dedup();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn unit<'a>(
    place: &str,
    links: impl Iterator<Item = (TreePath, &'a str)>,
    within: Option<TreePath>,
) -> Result<Option<Unit>, Error> {
    let mut tree = Tree::new();
    let mut identity = Vec::new();
    for (link, target) in links {
        identity.push(json!([link.as_str(), target]));
        let entry = Entry { kind: Kind::Symlink(target.to_owned()), mode: 0o777, ..Entry::directory(0o777) };
        let what = || format!("links of {place}");
        tree.insert(link, entry).map_err(|source| Error::Tree { what: what(), source })?;
    }
    Ok((!identity.is_empty()).then(|| Unit::links(place, &json!({ "links": identity }), tree, within)))
}
