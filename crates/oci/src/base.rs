//! What an image takes over from the image that it starts from.
//!
//! The layers stay below, with their digests and their history. The config is gone on from as JSON and not as a value
//! of oci-spec, because bases come from Docker, whose configs hold more than the specification names: a health check, a
//! shell, triggers. What imgforge has no word for stays as it is. The rules are those of a Dockerfile that begins with
//! `FROM`, so that a base behaves as its users know it.

use serde_json::{Map, Number, Value, json};

use crate::{
    Compression, Digest, Error, Image, ImageConfig, Kind, Layer, MediaType, json as canonical, kind,
    timestamp,
};

/// The annotation of a manifest that names the base.
pub const BASE_NAME: &str = "org.opencontainers.image.base.name";
/// The annotation of a manifest that tells which base that name stood for.
pub const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// The image that another one starts from.
#[derive(Clone, Copy, Debug)]
pub struct BaseImage<'a> {
    /// The image for the platform that is made.
    pub image: &'a Image,
    /// How a registry calls it, for [`BASE_NAME`].
    pub name: Option<&'a str>,
    /// What that name stood for, an index or a manifest, for [`BASE_DIGEST`].
    pub digest: Digest,
}

/// Properties of Docker's configs that tell how the base was built, which is not how this image was: the container that
/// it was committed from, its parent, the builder's own cache and notes.
const OF_THE_BUILD: [&str; 6] = ["container", "container_config", "docker_version", "id", "parent", "Size"];
const OF_BUILDKIT: &str = "moby.buildkit.";

/// The layers of a base as a manifest of OCI's has them, from the bottom up.
///
/// Docker's media types become OCI's of the same compression; the bytes are the same.
///
/// # Errors
/// [`Error::Foreign`] for a layer that only its vendor may hand out.
pub(crate) fn layers(base: &Image) -> Result<Vec<Layer>, Error> {
    let layer = |layer: &Layer| Ok(Layer { media_type: of_oci(layer)?, ..layer.clone() });
    base.layers().iter().map(layer).collect()
}

fn of_oci(layer: &Layer) -> Result<MediaType, Error> {
    let name = layer.media_type.as_ref();
    if name.contains("nondistributable") || name.contains(".foreign.") {
        return Err(Error::Foreign { layer: layer.digest, media_type: name.to_owned() });
    }
    match kind(&layer.media_type) {
        Kind::Layer(compression) => Ok(Compression::media_type(compression)),
        _ => Err(Error::MediaType {
            what: format!("layer {} of the base", layer.digest),
            expected: "a layer's".to_owned(),
            found: name.to_owned(),
        }),
    }
}

/// The config of an image with `layers` on top of `base`.
///
/// # Errors
/// [`Error::Config`] when a value breaks the specification's grammar; [`Error::Inconsistent`] when the base is for
/// another platform.
pub(crate) fn configuration(
    base: Option<&Image>,
    config: &ImageConfig,
    layers: &[Layer],
) -> Result<Value, Error> {
    let created = timestamp(config.created)?;
    let mut whole = match base {
        Some(base) => parsed(base)?,
        None => Map::new(),
    };
    whole.retain(|name, value| {
        !(value.is_null() || OF_THE_BUILD.contains(&name.as_str()) || name.starts_with(OF_BUILDKIT))
    });
    if let Some(base) = base.filter(|base| !base.platform().can_be(&config.platform)) {
        return Err(Error::Inconsistent {
            what: format!("an image for {}", config.platform),
            detail: format!("its base {} is for {}", base.descriptor().digest, base.platform()),
        });
    }

    // The base's own words for the platform stay; only a variant that it leaves out is added.
    let platform = &config.platform;
    let words = [
        ("os", Some(platform.os())),
        ("architecture", Some(platform.architecture())),
        ("variant", platform.variant()),
    ];
    for (name, word) in words {
        if let Some(word) = word {
            whole.entry(name).or_insert_with(|| word.into());
        }
    }

    let own = serde_json::to_value(config.to_spec()?)
        .map_err(|source| Error::Json { what: "an image config".to_owned(), source })?;
    let mut execution = object(whole.remove("config"));
    continue_with(&mut execution, object(Some(own)), config);

    let below = base.map_or(&[][..], Image::layers);
    let mut history = match whole.remove("history") {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    };
    let is_no_layer = |entry: &Value| entry.get("empty_layer") == Some(&Value::Bool(true));
    if history.iter().filter(|entry| !is_no_layer(entry)).count() != below.len() {
        // There are entries for all layers or for none.
        history.retain(is_no_layer);
        history.extend(below.iter().map(|_| json!({"comment": "a layer of the base"})));
    }
    history.extend(layers.iter().map(|layer| json!({"created": created, "created_by": layer.history})));
    let diff_ids: Vec<_> = below.iter().chain(layers).map(|layer| json!(layer.diff_id)).collect();

    whole.insert("created".to_owned(), created.into());
    whole.insert("config".to_owned(), execution.into());
    whole.insert("rootfs".to_owned(), json!({"type": "layers", "diff_ids": diff_ids}));
    whole.insert("history".to_owned(), history.into());
    Ok(whole.into())
}

fn parsed(base: &Image) -> Result<Map<String, Value>, Error> {
    let what = format!("the config of image {}", base.manifest().descriptor().digest);
    let whole: Map<String, Value> = canonical::parse(&what, base.config().bytes())?;
    match whole.values().find_map(too_large) {
        Some(number) => {
            let detail = format!("it has the number {number}, which canonical JSON would round");
            Err(Error::Inconsistent { what, detail })
        }
        None => Ok(whole),
    }
}

/// Canonical JSON has the numbers of JavaScript, where an integer is exact up to 2^53.
fn too_large(value: &Value) -> Option<&Number> {
    match value {
        Value::Number(number) => {
            let size = number.as_i64().map(i64::unsigned_abs).or_else(|| number.as_u64())?;
            (size > 1 << 53).then_some(number)
        }
        Value::Array(items) => items.iter().find_map(too_large),
        Value::Object(members) => members.values().find_map(too_large),
        _ => None,
    }
}

fn object(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

/// Puts `own` execution parameters over those of a base.
fn continue_with(base: &mut Map<String, Value>, own: Map<String, Value>, config: &ImageConfig) {
    // Go writes null where it means nothing.
    base.retain(|_, value| !value.is_null());
    // Arguments are those of a program; another program has others.
    if config.entrypoint.is_some() {
        base.remove("Entrypoint");
    }
    if config.entrypoint.is_some() || config.cmd.is_some() {
        base.remove("Cmd");
        // Whether the words of the base's command are escaped says nothing of ours.
        base.remove("ArgsEscaped");
    }
    for (name, value) in own {
        match (base.get_mut(&name), value) {
            (Some(Value::Array(variables)), Value::Array(ours)) if name == "Env" => {
                ours.into_iter().for_each(|variable| set(variables, variable));
            }
            // Labels, ports and volumes.
            (Some(Value::Object(members)), Value::Object(ours)) => members.extend(ours),
            (_, value) => drop(base.insert(name, value)),
        }
    }
}

/// Sets a variable where the base has it, or else behind all others.
fn set(variables: &mut Vec<Value>, variable: Value) {
    let name = |pair: &Value| pair.as_str().map(|pair| pair.split('=').next().unwrap_or_default().to_owned());
    let wanted = name(&variable);
    let Some(at) = variables.iter().position(|pair| name(pair) == wanted) else {
        return variables.push(variable);
    };
    // Runtimes differ in which of two wins, so only one stays.
    let mut behind = variables.split_off(at + 1);
    behind.retain(|pair| name(pair) != wanted);
    variables.pop();
    variables.push(variable);
    variables.append(&mut behind);
}
