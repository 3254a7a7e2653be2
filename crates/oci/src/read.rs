//! Images as they are read: from a medium by name, from whatever has [`Documents`] by digest, and by platform.
//!
//! Documents have size limits, are verified before they are parsed, and are what their descriptor says: a document
//! that could be taken for a manifest and for an index is refused, because two readers would see two images.

use std::collections::BTreeSet;

use oci_spec::image as spec;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::docker_archive::full_name;
use crate::error::enumeration;
use crate::{
    Blob, Descriptor, Digest, Error, Image, Kind, MediaType, Medium, Platform, REF_NAME, Ref, json, kind,
};

/// Bytes of a manifest or an index, at most: what registries accept.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// Bytes of an image config, at most.
pub const MAX_CONFIG: u64 = 8 << 20;
/// Indexes inside each other, at most.
pub(crate) const MAX_DEPTH: usize = 4;
/// Manifests and indexes below one descriptor, at most; the largest image lists have some forty platforms.
pub(crate) const MAX_DOCUMENTS: usize = 1000;

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

/// Where documents come from: a [`Medium`], or a registry.
///
/// The only thing that reading an image takes, because its layers are not looked at.
pub trait Documents {
    /// Reads and verifies a manifest, an index or a config.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond `limit` bytes, [`Error::SizeMismatch`] and [`Error::DigestMismatch`] when it is not
    /// what the descriptor names; [`Error::Source`] when it cannot be had.
    fn document(&self, descriptor: &Descriptor, limit: u64) -> Result<Blob, Error>;
}

impl Documents for Medium {
    fn document(&self, descriptor: &Descriptor, limit: u64) -> Result<Blob, Error> {
        self.blob(descriptor, limit)
    }
}

/// One image of a medium, by its name and its platform: [`resolve`], then [`image_for`].
///
/// # Errors
/// As these two.
pub fn image(medium: &Medium, name: Option<&str>, platform: Option<&Platform>) -> Result<Image, Error> {
    let descriptor = resolve(medium, name)?;
    let what = match name {
        Some(name) => format!("image `{name}` of {}", medium.place().display()),
        None => format!("the image of {}", medium.place().display()),
    };
    choose(medium, &descriptor, what, platform)
}

/// The image for `platform` that a manifest's or an index's descriptor leads to; without a platform, the only one.
///
/// Of several that match, it is the first one in the index. Manifests that the index has for other platforms are not
/// read. Source: OCI image index, "manifests".
///
/// # Errors
/// [`Error::UnknownPlatform`] with what there is, [`Error::Inconsistent`] when a config contradicts its index; else as
/// [`images`].
pub fn image_for(
    documents: &dyn Documents,
    descriptor: &Descriptor,
    platform: Option<&Platform>,
) -> Result<Image, Error> {
    choose(documents, descriptor, format!("image {}", descriptor.digest), platform)
}

fn choose(
    documents: &dyn Documents,
    descriptor: &Descriptor,
    what: String,
    platform: Option<&Platform>,
) -> Result<Image, Error> {
    let mut walk = Walk { platform, ..Walk::new(documents) };
    walk.follow(descriptor, 0)?;
    let Walk { images, others, .. } = walk;
    let known: Vec<_> = images.iter().map(|image| image.platform().to_string()).chain(others).collect();
    let mut matching = images.into_iter();
    match (matching.next(), matching.next()) {
        (Some(image), None) => Ok(image),
        (Some(image), Some(_)) if platform.is_some() => Ok(image),
        _ => Err(Error::platform(what, platform, &known)),
    }
}

/// Every image that a manifest's or an index's descriptor leads to, in the order of the index.
///
/// Manifests in an index that are no images (attestations, signatures) are left out.
///
/// # Errors
/// Whatever is wrong with the documents on the way; [`Error::TooDeep`] for an index of indexes of indexes,
/// [`Error::TooMany`] for one that has more images than anybody would ship.
pub fn images(documents: &dyn Documents, descriptor: &Descriptor) -> Result<Vec<Image>, Error> {
    let mut walk = Walk::new(documents);
    walk.follow(descriptor, 0)?;
    Ok(walk.images)
}

/// The way down from a descriptor to its images.
struct Walk<'a> {
    documents: &'a dyn Documents,
    /// What is looked for; nothing for all.
    platform: Option<&'a Platform>,
    /// Manifests and indexes that were read: whoever names one of them twice gets it once.
    seen: BTreeSet<Digest>,
    images: Vec<Image>,
    /// The platforms that were passed over.
    others: Vec<String>,
}

impl<'a> Walk<'a> {
    const fn new(documents: &'a dyn Documents) -> Self {
        Self { documents, platform: None, seen: BTreeSet::new(), images: Vec::new(), others: Vec::new() }
    }

    fn follow(&mut self, descriptor: &Descriptor, depth: usize) -> Result<(), Error> {
        let what = || descriptor.digest.to_string();
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep { what: what(), limit: MAX_DEPTH });
        }
        if !self.seen.insert(descriptor.digest) {
            return Ok(());
        }
        if self.seen.len() > MAX_DOCUMENTS {
            return Err(Error::TooMany { what: what(), limit: MAX_DOCUMENTS });
        }
        let blob = self.documents.document(descriptor, MAX_MANIFEST)?;
        let children = children(&blob)?;
        match (kind(&descriptor.media_type), children.as_slice()) {
            (Kind::Index, manifests) => {
                for manifest in manifests {
                    match (self.platform, &manifest.platform) {
                        (Some(wanted), Some(other)) if !wanted.matches(other) => {
                            // Build tools give their notes a platform too.
                            if other.os() != "unknown" {
                                self.others.push(other.to_string());
                            }
                        }
                        _ => self.follow(manifest, depth + 1)?,
                    }
                }
                Ok(())
            }
            (_, [config, layers @ ..]) if is_image(config, layers) => {
                let config = self.documents.document(config, MAX_CONFIG)?;
                self.found(descriptor, Image::from_blobs(blob, config)?)
            }
            (_, [config, ..]) if depth == 0 => Err(Error::MediaType {
                what: format!("the config of {}", descriptor.digest),
                expected: "an image config's, and layers".to_owned(),
                found: config.media_type.to_string(),
            }),
            _ => Ok(()),
        }
    }

    fn found(&mut self, descriptor: &Descriptor, image: Image) -> Result<(), Error> {
        let claimed = descriptor.platform.as_ref();
        match self.platform {
            Some(wanted) if !wanted.matches(claimed.unwrap_or(image.platform())) => {
                self.others.push(image.platform().to_string());
            }
            Some(_) => {
                claimed.map_or(Ok(()), |claimed| image.check_platform(claimed))?;
                self.images.push(image);
            }
            None => self.images.push(image),
        }
        Ok(())
    }
}

/// Whether a manifest is an image's: build tools store their notes as manifests too.
pub(crate) fn is_image(config: &Descriptor, layers: &[Descriptor]) -> bool {
    kind(&config.media_type) == Kind::Config
        && layers.iter().all(|layer| matches!(kind(&layer.media_type), Kind::Layer(_)))
}

/// What a name of `index.json` stands for; without a name, there must be one image only. `@0` is the first image
/// whatever its name is, `@1` the second, as for skopeo. In a docker archive `debian` is
/// `docker.io/library/debian:latest`.
///
/// # Errors
/// [`Error::UnknownRef`] with the names that there are, [`Error::Duplicate`] when two images have one name.
pub fn resolve(medium: &Medium, name: Option<&str>) -> Result<Descriptor, Error> {
    let mut found: Vec<Descriptor> = entries(medium)?;
    let known: Vec<_> = found.iter().filter_map(|entry| entry.annotations.get(REF_NAME)).cloned().collect();
    if let Some(number) = name.and_then(|name| name.strip_prefix('@')?.parse::<usize>().ok()) {
        if medium.has_docker_names() {
            // An image with two names is one there, and one without a name counts too.
            let mut seen = BTreeSet::new();
            found.retain(|entry| seen.insert(entry.digest));
        }
        found = found.into_iter().skip(number).take(1).collect();
    } else if let Some(name) = name {
        let is_meant = |found: &String| match medium.has_docker_names() {
            true => full_name(found) == full_name(name),
            false => found == name,
        };
        found.retain(|entry| entry.annotations.get(REF_NAME).is_some_and(is_meant));
    }
    // Two names of one image are one image.
    let mut seen = BTreeSet::new();
    found.retain(|entry| seen.insert(entry.digest));
    match (found.pop(), found.pop()) {
        (Some(mut descriptor), None) => {
            descriptor.annotations.remove(REF_NAME);
            Ok(descriptor)
        }
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
