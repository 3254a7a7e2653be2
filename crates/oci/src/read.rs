//! Images as they are read: from a medium, by name and platform.
//!
//! Documents have size limits, are verified before they are parsed, and are what their descriptor says: a document
//! that could be taken for a manifest and for an index is refused, because two readers would see two images.

use oci_spec::image as spec;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::enumeration;
use crate::{Blob, Descriptor, Error, Image, Kind, MediaType, Medium, Platform, REF_NAME, Ref, json, kind};

/// Bytes of a manifest or an index, at most: what registries accept.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// Bytes of an image config, at most.
pub const MAX_CONFIG: u64 = 8 << 20;
/// Indexes inside each other, at most.
pub(crate) const MAX_DEPTH: usize = 4;

/// The names in a layout or an archive with what they stand for, in the order of `index.json`.
///
/// Entries without a name are left out.
///
/// # Errors
/// [`Error::NotAnImage`], [`Error::Json`] when `index.json` is missing or broken.
pub fn refs(medium: &Medium) -> Result<Vec<Ref>, Error> {
    let named = entries(medium)?.into_iter().filter_map(|mut descriptor| {
        let name = descriptor.annotations.remove(REF_NAME)?;
        // What other tools named is taken as it is; only new names have to follow the grammar.
        Some(Ref::existing(name, descriptor))
    });
    Ok(named.collect())
}

/// One image, by its name and its platform.
///
/// Without a name there must be one entry only; without a platform, one platform only.
///
/// # Errors
/// [`Error::UnknownRef`], [`Error::UnknownPlatform`] with what there is; and whatever is wrong with the image's
/// documents.
pub fn image(medium: &Medium, name: Option<&str>, platform: Option<&Platform>) -> Result<Image, Error> {
    let descriptor = resolve(medium, name)?;
    let what = format!("image `{}` of {}", name.unwrap_or_default(), medium.place().display());
    let images = images(medium, &descriptor)?;
    let known: Vec<_> = images.iter().map(|image| image.platform().to_string()).collect();
    let wanted = |image: &Image| platform.is_none_or(|platform| platform.matches(image.platform()));
    let mut matching = images.into_iter().filter(wanted);
    match (matching.next(), matching.next()) {
        (Some(image), None) => Ok(image),
        _ => Err(Error::platform(what, platform, &known)),
    }
}

/// Every image that a manifest's or an index's descriptor leads to, one for each platform.
///
/// Manifests in an index that are no images (attestations, signatures) are left out.
///
/// # Errors
/// Whatever is wrong with the documents on the way; [`Error::TooDeep`] for an index of indexes of indexes.
pub fn images(medium: &Medium, descriptor: &Descriptor) -> Result<Vec<Image>, Error> {
    let mut images = Vec::new();
    collect(medium, descriptor, 0, &mut images)?;
    Ok(images)
}

fn collect(
    medium: &Medium,
    descriptor: &Descriptor,
    depth: usize,
    images: &mut Vec<Image>,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::TooDeep { what: descriptor.digest.to_string(), limit: MAX_DEPTH });
    }
    let blob = medium.blob(descriptor, MAX_MANIFEST)?;
    let children = children(&blob)?;
    match (kind(&descriptor.media_type), children.as_slice()) {
        (Kind::Index, manifests) => {
            manifests.iter().try_for_each(|manifest| collect(medium, manifest, depth + 1, images))
        }
        (_, [config, layers @ ..]) if is_image(config, layers) => {
            let config = medium.blob(config, MAX_CONFIG)?;
            images.push(Image::from_blobs(blob, config)?);
            Ok(())
        }
        (_, [config, ..]) if depth == 0 => Err(Error::MediaType {
            what: format!("the config of {}", descriptor.digest),
            expected: "an image config's, and layers".to_owned(),
            found: config.media_type.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Whether a manifest is an image's: build tools store their notes as manifests too.
pub(crate) fn is_image(config: &Descriptor, layers: &[Descriptor]) -> bool {
    kind(&config.media_type) == Kind::Config
        && layers.iter().all(|layer| matches!(kind(&layer.media_type), Kind::Layer(_)))
}

/// What a name of `index.json` stands for.
fn resolve(medium: &Medium, name: Option<&str>) -> Result<Descriptor, Error> {
    let mut found: Vec<Descriptor> = entries(medium)?;
    let known: Vec<_> = found.iter().filter_map(|entry| entry.annotations.get(REF_NAME)).cloned().collect();
    if let Some(name) = name {
        found.retain(|entry| entry.annotations.get(REF_NAME).is_some_and(|found| found == name));
    }
    match (found.pop(), found.pop()) {
        (Some(descriptor), None) => Ok(descriptor),
        (Some(second), Some(first)) if name.is_some() => Err(Error::Duplicate {
            what: format!("`{}` in {}", name.unwrap_or_default(), medium.place().display()),
            first: first.digest,
            second: second.digest,
        }),
        _ => Err(Error::UnknownRef {
            place: medium.place().to_owned(),
            name: name.unwrap_or_default().to_owned(),
            known: enumeration(&known),
        }),
    }
}

/// The entries of `index.json`.
pub(crate) fn entries(medium: &Medium) -> Result<Vec<Descriptor>, Error> {
    let bytes = medium.read("index.json", MAX_MANIFEST)?.ok_or_else(|| medium.missing("index.json"))?;
    let what = format!("index.json of {}", medium.place().display());
    let index: spec::ImageIndex = json::parse(&what, &bytes)?;
    index.manifests().iter().map(Descriptor::from_spec).collect()
}

/// The parts of a document that decide what it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: u32,
    media_type: Option<MediaType>,
    manifests: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
}

/// What a manifest (its config, then its layers from the bottom up) or an index (its manifests) refers to.
///
/// # Errors
/// [`Error::Json`] when it cannot be read, [`Error::MediaType`] when it says that it is something else than its
/// descriptor does, [`Error::Inconsistent`] when it could be taken for both.
pub fn children(document: &Blob) -> Result<Vec<Descriptor>, Error> {
    let descriptor = document.descriptor();
    let what = descriptor.digest.to_string();
    let shape: Shape = json::parse(&what, document.bytes())?;
    if let Some(found) = shape.media_type.filter(|found| *found != descriptor.media_type) {
        let expected = format!("`{}`, as its descriptor says", descriptor.media_type);
        return Err(Error::MediaType { what, expected, found: found.to_string() });
    }
    if shape.manifests.is_some() && (shape.config.is_some() || shape.layers.is_some()) {
        let detail = "it has `manifests` like an index, and `config` or `layers` like a manifest".to_owned();
        return Err(Error::Inconsistent { what, detail });
    }
    if shape.schema_version != spec::SCHEMA_VERSION {
        let detail =
            format!("its schemaVersion is {}, expected {}", shape.schema_version, spec::SCHEMA_VERSION);
        return Err(Error::Inconsistent { what, detail });
    }
    match kind(&descriptor.media_type) {
        Kind::Index => {
            let index: spec::ImageIndex = json::parse(&what, document.bytes())?;
            index.manifests().iter().map(Descriptor::from_spec).collect()
        }
        Kind::Manifest => {
            let manifest: spec::ImageManifest = json::parse(&what, document.bytes())?;
            std::iter::once(manifest.config()).chain(manifest.layers()).map(Descriptor::from_spec).collect()
        }
        _ => Err(Error::MediaType {
            what,
            expected: "a manifest's or an index's".to_owned(),
            found: descriptor.media_type.to_string(),
        }),
    }
}
