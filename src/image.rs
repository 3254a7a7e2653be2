//! From an image's table and its layers to the image's config and manifest.

use std::collections::BTreeMap;

use imgforge_oci::{self as oci, Image, ImageConfig, Layer, Platform};
use imgforge_resolver::LockKind;

use crate::bases::BaseImage;
use crate::config::{Config, Image as ImageTable};
use crate::error::Error;
use crate::images_lock::OutcomeLayer;
use crate::plan::Rank;
use crate::project::codec;
use crate::survey::{Distribution, PACKAGES_ANNOTATION, claim};
use crate::unit::{LayerSpec, Recipe, Unit};
use crate::workshop::LayerRecord;

/// Annotation of a layer's descriptor: the key that the layer was made under.
pub const KEY_ANNOTATION: &str = "dev.imgforge.key";

/// Annotation of a layer's descriptor: what is in it, one `NAME VERSION` after the other, separated by `, `.
pub const CONTENT_ANNOTATION: &str = "dev.imgforge.content";

/// The search path of a distribution, after the environments' own folders.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Assembles an image from a base, if it starts from one, and layers of our own, from the bottom.
///
/// # Errors
/// [`Error::Oci`] for a value that an image config can't hold, or a layer of the base that must not be passed on.
pub fn assemble(
    config: &Config,
    table: &ImageTable,
    platform: &Platform,
    base: Option<&BaseImage>,
    layers: &[(&LayerSpec, &LayerRecord)],
) -> Result<Image, Error> {
    let layers: Vec<Layer> = layers.iter().map(|(spec, record)| layer(spec, record)).collect();
    put_together(config, table, platform, base, &layers)
}

/// Assembles an image of layers that an earlier build had: `specs` are those that are planned, which must be among them in
/// the same order. Nothing when they are not.
///
/// What is beside them settles disputes between packages, and follows from them.
///
/// # Errors
/// As for [`assemble`].
pub fn recorded(
    config: &Config,
    table: &ImageTable,
    platform: &Platform,
    base: Option<&BaseImage>,
    specs: &[&LayerSpec],
    outcome: &[OutcomeLayer],
) -> Result<Option<Image>, Error> {
    let mut planned = specs.iter().peekable();
    let layers: Vec<Layer> = outcome
        .iter()
        .map(|layer| {
            let spec = planned.next_if(|spec| spec.key == layer.key);
            let media_type = match (spec, &layer.media_type) {
                (Some(spec), _) => spec.codec.media_type(),
                (None, Some(media_type)) => media_type,
                (None, None) => codec(config.settings.compression, Rank::Packages).media_type(),
            };
            let notes = match spec {
                Some(spec) => annotations(spec),
                None => basic_annotations(&layer.key, layer.title.clone()),
            };
            Layer {
                digest: layer.digest,
                diff_id: layer.diff_id,
                size: layer.size,
                media_type: media_type.into(),
                history: history(&layer.title),
                annotations: notes,
            }
        })
        .collect();
    match planned.next() {
        Some(_) => Ok(None),
        None => put_together(config, table, platform, base, &layers).map(Some),
    }
}

fn put_together(
    config: &Config,
    table: &ImageTable,
    platform: &Platform,
    base: Option<&BaseImage>,
    layers: &[Layer],
) -> Result<Image, Error> {
    let annotations = BTreeMap::new();
    let Some(base) = base else {
        let own = image_config(config, table, platform, Some(SYSTEM_PATH));
        return Ok(Image::assemble(&own, layers, &annotations)?);
    };
    // Without environments the base's own search path stands.
    let path = (!table.environments.is_empty()).then(|| base.image.variable("PATH").unwrap_or(SYSTEM_PATH));
    let own = image_config(config, table, platform, path);
    let name = base.name();
    let base = oci::BaseImage { image: &base.image, name: name.as_deref(), digest: base.digest };
    Ok(Image::assemble_on(&base, &own, layers, &annotations)?)
}

fn layer(spec: &LayerSpec, record: &LayerRecord) -> Layer {
    Layer {
        digest: record.digest,
        diff_id: record.diff_id,
        size: record.size,
        media_type: record.media_type.as_str().into(),
        history: history(&spec.title()),
        annotations: annotations(spec),
    }
}

fn history(title: &str) -> String {
    format!("imgforge: {title}")
}

fn annotations(spec: &LayerSpec) -> BTreeMap<String, String> {
    let content = spec.units.iter().map(|unit| unit.title.as_str()).collect::<Vec<_>>().join(", ");
    let mut annotations = basic_annotations(&spec.key, content);
    // Where a layer has anything but wheels, what is in it has to be looked for.
    let distributions: Option<Vec<_>> = spec.units.iter().map(|unit| distribution(unit)).collect();
    if let Some(distributions) = distributions.filter(|all| !all.is_empty()) {
        annotations.insert(PACKAGES_ANNOTATION.to_owned(), claim(&distributions));
    }
    annotations
}

fn basic_annotations(key: &str, content: String) -> BTreeMap<String, String> {
    BTreeMap::from([(KEY_ANNOTATION.to_owned(), key.to_owned()), (CONTENT_ANNOTATION.to_owned(), content)])
}

/// The Python distribution that a unit is. Source: binary distribution format, "File name convention".
fn distribution(unit: &Unit) -> Option<Distribution<'_>> {
    let Recipe::Wheel { artifact, scheme, .. } = &unit.recipe else { return None };
    let mut parts = artifact.file.split('-');
    let (name, version) = (parts.next()?, parts.next()?);
    let prefix = scheme.prefix().to_string();
    let (prefix, site_packages) = (prefix.trim_matches('/'), scheme.site_packages());
    Some(Distribution {
        name: &artifact.name,
        version: &artifact.version,
        folder: format!("{prefix}/{site_packages}/{name}-{version}.dist-info"),
    })
}

/// The image's own part of the config. `path` is the search path after the environments' folders; without one, none is
/// set.
fn image_config(config: &Config, table: &ImageTable, platform: &Platform, path: Option<&str>) -> ImageConfig {
    let mut env: Vec<(String, String)> = Vec::new();
    if let (false, Some(path)) = (table.env.contains_key("PATH"), path) {
        let mut folders: Vec<String> = table
            .environments
            .iter()
            .filter_map(|name| config.environments.get(name))
            .filter(|environment| environment.into.is_none())
            .map(|environment| format!("{}/bin", environment.prefix.trim_end_matches('/')))
            .collect();
        folders.push(path.to_owned());
        env.push(("PATH".to_owned(), folders.join(":")));
    }
    // Build tools and packages find their environment by it, as in an activated shell.
    let conda = table
        .environments
        .iter()
        .filter_map(|name| config.environments.get(name))
        .find(|environment| environment.lock_kind().is_some_and(LockKind::is_conda));
    if let Some(environment) = conda.filter(|_| !table.env.contains_key("CONDA_PREFIX")) {
        env.push(("CONDA_PREFIX".to_owned(), environment.prefix.trim_end_matches('/').to_owned()));
    }
    env.extend(table.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    ImageConfig {
        created: config.settings.source_date_epoch,
        env,
        entrypoint: table.entrypoint.clone(),
        cmd: table.cmd.clone(),
        user: table.user.clone(),
        workdir: table.workdir.clone(),
        labels: table.labels.clone(),
        exposed_ports: table.expose.iter().cloned().collect(),
        volumes: table.volumes.iter().cloned().collect(),
        stop_signal: table.stop_signal.clone(),
        ..ImageConfig::new(platform.clone())
    }
}
