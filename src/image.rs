//! From an image's table and its layers to the image's config and manifest.

use std::collections::BTreeMap;

use imgforge_oci::{Image, ImageConfig, Layer, Platform};

use crate::config::{Config, Image as ImageTable};
use crate::error::Error;
use crate::unit::LayerSpec;
use crate::workshop::LayerRecord;

/// Annotation of a layer's descriptor: the key that the layer was made under.
pub const KEY_ANNOTATION: &str = "dev.imgforge.key";

/// Annotation of a layer's descriptor: what is in it, one `NAME VERSION` after the other, separated by `, `.
pub const CONTENT_ANNOTATION: &str = "dev.imgforge.content";

/// The search path of a distribution, after the environments' own folders.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Assembles an image of layers that are in the store, from the bottom.
///
/// # Errors
/// [`Error::Oci`] for a value that an image config can't hold.
pub fn assemble(
    config: &Config,
    table: &ImageTable,
    platform: &Platform,
    layers: &[(&LayerSpec, &LayerRecord)],
) -> Result<Image, Error> {
    let layers: Vec<Layer> = layers.iter().map(|(spec, record)| layer(spec, record)).collect();
    Ok(Image::assemble(&image_config(config, table, platform), &layers, &BTreeMap::new())?)
}

fn layer(spec: &LayerSpec, record: &LayerRecord) -> Layer {
    let content: Vec<_> = spec.units.iter().map(|unit| unit.title.as_str()).collect();
    Layer {
        digest: record.digest,
        diff_id: record.diff_id,
        size: record.size,
        media_type: record.media_type.as_str().into(),
        history: format!("imgforge: {}", spec.title()),
        annotations: BTreeMap::from([
            (KEY_ANNOTATION.to_owned(), spec.key.clone()),
            (CONTENT_ANNOTATION.to_owned(), content.join(", ")),
        ]),
    }
}

fn image_config(config: &Config, table: &ImageTable, platform: &Platform) -> ImageConfig {
    let mut env: Vec<(String, String)> = Vec::new();
    if !table.env.contains_key("PATH") {
        let mut folders: Vec<String> = table
            .environments
            .iter()
            .filter_map(|name| config.environments.get(name))
            .map(|environment| format!("{}/bin", environment.prefix.trim_end_matches('/')))
            .collect();
        folders.push(SYSTEM_PATH.to_owned());
        env.push(("PATH".to_owned(), folders.join(":")));
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
