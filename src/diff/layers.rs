use std::collections::{BTreeMap, BTreeSet};

use imgforge_oci::{Descriptor, DiffId, Digest, Image, Layer};
use serde::{Deserialize, Serialize};

use super::Ship;
use crate::image::CONTENT_ANNOTATION;

/// Source: OCI image specification, "Pre-Defined Annotation Keys".
const BASE_NAME: &str = "org.opencontainers.image.base.name";
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// What two images are built on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Base {
    /// How many layers have the same content, however it is compressed, counted from the bottom to the first that has
    /// not.
    pub common_layers: usize,
    /// Bytes of these in *b*, compressed.
    pub common_bytes: u64,
    /// What *a* says that it is built on.
    pub a: Option<BaseName>,
    /// What *b* says.
    pub b: Option<BaseName>,
}

/// A base, as an image's annotations or labels have it. Nobody has checked it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BaseName {
    /// `docker.io/library/debian:12`.
    pub name: Option<String>,
    /// The digest of its manifest or index.
    pub digest: Option<String>,
}

/// Which layers two images have, each list from the bottom up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Layers {
    /// In both, in the order of *b*.
    pub common: Vec<LayerLine>,
    /// In *a* alone.
    pub only_a: Vec<LayerLine>,
    /// In *b* alone.
    pub only_b: Vec<LayerLine>,
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerLine {
    /// Of the stored bytes.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
    /// What is in it: what imgforge noted, else what the history says.
    pub content: String,
    /// Whether the other image has the same content, compressed otherwise.
    pub recompressed: bool,
}

pub(super) fn base(a: &Image, b: &Image) -> Base {
    let common = a.layers().iter().zip(b.layers()).take_while(|(a, b)| a.diff_id == b.diff_id);
    let sizes: Vec<u64> = common.map(|(_, layer)| layer.size).collect();
    Base { common_layers: sizes.len(), common_bytes: sizes.iter().sum(), a: base_name(a), b: base_name(b) }
}

/// In the manifest's annotations, or where builders that write no annotations put them, in the config's labels.
fn base_name(image: &Image) -> Option<BaseName> {
    #[derive(Default, Deserialize)]
    struct Manifest {
        annotations: Option<BTreeMap<String, String>>,
    }
    let manifest: Manifest = serde_json::from_slice(image.manifest().bytes()).unwrap_or_default();
    let annotations = manifest.annotations.unwrap_or_default();
    let labels = image.configuration().config().as_ref().and_then(|config| config.labels().as_ref());
    let value = |key: &str| {
        annotations
            .get(key)
            .or_else(|| labels.and_then(|labels| labels.get(key)))
            .filter(|it| !it.is_empty())
            .cloned()
    };
    let (name, digest) = (value(BASE_NAME), value(BASE_DIGEST));
    (name.is_some() || digest.is_some()).then_some(BaseName { name, digest })
}

pub(super) fn compare(a: &Image, b: &Image) -> Layers {
    let digests = |image: &Image| image.layers().iter().map(|layer| layer.digest).collect::<BTreeSet<_>>();
    let diff_ids = |image: &Image| image.layers().iter().map(|layer| layer.diff_id).collect::<BTreeSet<_>>();
    let (of_a, of_b) = (digests(a), digests(b));
    let only = |image: &Image, other: &BTreeSet<Digest>, contents: &BTreeSet<DiffId>| {
        let layers = image.layers().iter().filter(|layer| !other.contains(&layer.digest));
        layers.map(|layer| line(layer, contents.contains(&layer.diff_id))).collect()
    };
    Layers {
        common: b
            .layers()
            .iter()
            .filter(|layer| of_a.contains(&layer.digest))
            .map(|it| line(it, false))
            .collect(),
        only_a: only(a, &of_b, &diff_ids(b)),
        only_b: only(b, &of_a, &diff_ids(a)),
    }
}

fn line(layer: &Layer, recompressed: bool) -> LayerLine {
    let content = layer.annotations.get(CONTENT_ANNOTATION).unwrap_or(&layer.history);
    LayerLine { digest: layer.digest, size: layer.size, content: content.clone(), recompressed }
}

pub(super) fn ship(a: &Image, b: &Image) -> Ship {
    let blobs = |image: &Image| {
        let documents = [image.manifest(), image.config()].map(|blob| blob.descriptor().clone());
        let layers = image.layers().iter().map(Layer::descriptor);
        layers
            .chain(documents)
            .map(|Descriptor { digest, size, .. }| (digest, size))
            .collect::<BTreeMap<_, _>>()
    };
    let known = blobs(a);
    let missing = blobs(b).into_iter().filter(|(digest, _)| !known.contains_key(digest));
    missing.fold(Ship::default(), |ship, (_, size)| Ship { blobs: ship.blobs + 1, bytes: ship.bytes + size })
}
