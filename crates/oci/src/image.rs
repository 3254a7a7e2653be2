use std::collections::BTreeMap;

use oci_spec::image as spec;
use serde::{Deserialize, Serialize};

use crate::base::{self, BASE_DIGEST, BASE_NAME, BaseImage};
use crate::{Blob, Descriptor, DiffId, Digest, Error, ImageConfig, Kind, MediaType, Platform, json, kind};

/// A layer, described: everything that a manifest and a config say of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The SHA-256 of the stored, compressed bytes.
    pub digest: Digest,
    /// The SHA-256 of the uncompressed tar.
    pub diff_id: DiffId,
    /// Bytes, compressed.
    pub size: u64,
    /// How it is stored.
    pub media_type: MediaType,
    /// What it is, for `history`: the text of `created_by`.
    pub history: String,
    /// Notes in the manifest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Layer {
    /// What the manifest has of it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest,
            size: self.size,
            platform: None,
            annotations: self.annotations.clone(),
        }
    }
}

/// An image for one platform: manifest, config and layers that agree with each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    manifest: Blob,
    config: Blob,
    configuration: spec::ImageConfiguration,
    layers: Vec<Layer>,
    platform: Platform,
}

impl Image {
    /// Makes the manifest and the config of an image whose layers are, from the bottom up, `layers`.
    ///
    /// `annotations` are the manifest's. Every layer has one entry in the history, in the same order.
    ///
    /// # Errors
    /// [`Error::Config`] when a value breaks the specification's grammar, [`Error::MediaType`] when a layer's media
    /// type is no layer's.
    pub fn assemble(
        config: &ImageConfig,
        layers: &[Layer],
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        Self::make(None, config, layers, annotations.clone())
    }

    /// As [`assemble`](Self::assemble), on top of another image.
    ///
    /// The base's layers stay below and its history stays before. Its config is gone on from, by the rules of a
    /// Dockerfile: variables and labels are set by name, ports and volumes are added, the user, the working folder
    /// and the signal stay unless they are given, and an entrypoint that is given takes the base's arguments away.
    /// What the specification has no word for (a health check, triggers) stays. The manifest has [`BASE_NAME`] and
    /// [`BASE_DIGEST`] among its annotations.
    ///
    /// # Errors
    /// As [`assemble`](Self::assemble); [`Error::Inconsistent`] when the base is for another platform,
    /// [`Error::Foreign`] when it has a layer that must not be passed on.
    pub fn assemble_on(
        base: &BaseImage<'_>,
        config: &ImageConfig,
        layers: &[Layer],
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let mut all = BTreeMap::from([(BASE_DIGEST.to_owned(), base.digest.to_string())]);
        all.extend(base.name.map(|name| (BASE_NAME.to_owned(), name.to_owned())));
        all.extend(annotations.clone());
        Self::make(Some(base.image), config, layers, all)
    }

    fn make(
        base: Option<&Self>,
        config: &ImageConfig,
        layers: &[Layer],
        annotations: BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        for layer in layers {
            if !matches!(kind(&layer.media_type), Kind::Layer(_)) {
                return Err(Error::MediaType {
                    what: format!("layer {} ({})", layer.digest, layer.history),
                    expected: "a layer's".to_owned(),
                    found: layer.media_type.to_string(),
                });
            }
        }
        let below = base.map_or_else(|| Ok(Vec::new()), base::layers)?;
        let configuration = base::configuration(base, config, layers)?;
        let config_blob = Blob::of(MediaType::ImageConfig, &configuration)?;

        let descriptors = below.iter().chain(layers).map(Layer::descriptor);
        Self::from_blobs(manifest(config_blob.descriptor(), descriptors, annotations)?, config_blob)
    }

    /// Reads an image from its manifest and its config, OCI's or Docker's.
    ///
    /// # Errors
    /// [`Error::Json`] when one of them cannot be read; [`Error::Digest`] when something is named by another algorithm
    /// than SHA-256; [`Error::Inconsistent`] when they do not belong together: the manifest names another config, or
    /// layers and diff IDs differ in number.
    pub fn from_blobs(manifest: Blob, config: Blob) -> Result<Self, Error> {
        let what = || format!("image {}", manifest.descriptor().digest);
        let inconsistent = |detail: String| Error::Inconsistent { what: what(), detail };
        let parsed: spec::ImageManifest = json::parse(&what(), manifest.bytes())?;
        let mut configuration: spec::ImageConfiguration =
            json::parse(&format!("the config of {}", what()), config.bytes())?;

        sort_sets(&mut configuration);
        let named: Digest = parsed.config().digest().as_ref().parse()?;
        let found = config.descriptor().digest;
        if named != found {
            return Err(inconsistent(format!("the manifest names the config {named}, this is {found}")));
        }
        let diff_ids = configuration.rootfs().diff_ids();
        if diff_ids.len() != parsed.layers().len() {
            return Err(inconsistent(format!(
                "the manifest has {} layers, the config has {} diff IDs",
                parsed.layers().len(),
                diff_ids.len()
            )));
        }
        // A history that does not fit tells nothing of a layer; only `validate` minds.
        let history = Some(layer_history(&configuration)).filter(|history| history.len() == diff_ids.len());
        let mut texts = history.unwrap_or_default().into_iter();
        let layers = parsed
            .layers()
            .iter()
            .zip(diff_ids)
            .map(|(layer, diff_id)| {
                let descriptor = Descriptor::from_spec(layer)?;
                Ok(Layer {
                    digest: descriptor.digest,
                    diff_id: DiffId(diff_id.parse()?),
                    size: descriptor.size,
                    media_type: descriptor.media_type,
                    history: texts.next().unwrap_or_default(),
                    annotations: descriptor.annotations,
                })
            })
            .collect::<Result<_, Error>>()?;
        let (os, architecture) = (configuration.os().to_string(), configuration.architecture().to_string());
        let platform = Platform::new(&os, &architecture, configuration.variant().as_deref())
            .map_err(|error| inconsistent(error.to_string()))?;
        // How somebody referred to it is not what it is.
        let bare = |blob: Blob| Blob::new(blob.descriptor().media_type.clone(), blob.into_bytes());
        Ok(Self { manifest: bare(manifest), config: bare(config), configuration, layers, platform })
    }

    /// Compares the config with what an index says of the image.
    pub(crate) fn check_platform(&self, claimed: &Platform) -> Result<(), Error> {
        if self.platform.can_be(claimed) {
            return Ok(());
        }
        Err(Error::Inconsistent {
            what: format!("image {}", self.manifest.descriptor().digest),
            detail: format!("the index says that it is for {claimed}, its config says {}", self.platform),
        })
    }

    /// Compares the history with the layers, where there is one.
    pub(crate) fn check_history(&self) -> Result<(), Error> {
        let told = layer_history(&self.configuration).len();
        if told == 0 || told == self.layers.len() {
            return Ok(());
        }
        Err(Error::Inconsistent {
            what: format!("image {}", self.manifest.descriptor().digest),
            detail: format!(
                "the config has {} diff IDs, its history tells of {told} layers",
                self.layers.len()
            ),
        })
    }

    /// What an index or a ref has of it: the manifest's descriptor with the platform.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor { platform: Some(self.platform.clone()), ..self.manifest.descriptor().clone() }
    }

    /// The manifest's bytes.
    pub const fn manifest(&self) -> &Blob {
        &self.manifest
    }

    /// The config's bytes.
    pub const fn config(&self) -> &Blob {
        &self.config
    }

    /// The config, to be read.
    pub const fn configuration(&self) -> &spec::ImageConfiguration {
        &self.configuration
    }

    /// The layers, from the bottom up.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The value of an environment variable.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let pairs = self.configuration.config().as_ref()?.env().as_ref()?;
        pairs.iter().rev().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// What it runs on.
    pub const fn platform(&self) -> &Platform {
        &self.platform
    }
}

/// A manifest over a config and layers from the bottom up.
pub(crate) fn manifest(
    config: &Descriptor,
    layers: impl Iterator<Item = Descriptor>,
    annotations: BTreeMap<String, String>,
) -> Result<Blob, Error> {
    let mut manifest = spec::ImageManifestBuilder::default()
        .schema_version(spec::SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(config.to_spec())
        .layers(layers.map(|layer| layer.to_spec()).collect::<Vec<_>>())
        .build()
        .map_err(|error| Error::Inconsistent {
            what: "the manifest".to_owned(),
            detail: error.to_string(),
        })?;
    if !annotations.is_empty() {
        manifest.set_annotations(Some(annotations.into_iter().collect()));
    }
    Blob::of(MediaType::ImageManifest, &manifest)
}

/// Ports and volumes are sets that oci-spec reads through a hash map, in another order every time.
fn sort_sets(configuration: &mut spec::ImageConfiguration) {
    let Some(mut config) = configuration.config().clone() else { return };
    let sorted = |list: &Option<Vec<String>>| {
        let mut list = list.clone();
        list.iter_mut().for_each(|list| list.sort());
        list
    };
    config.set_exposed_ports(sorted(config.exposed_ports()));
    config.set_volumes(sorted(config.volumes()));
    configuration.set_config(Some(config));
}

/// The texts of the history's entries that stand for a layer, in order.
fn layer_history(configuration: &spec::ImageConfiguration) -> Vec<String> {
    let entries = configuration.history().as_deref().unwrap_or_default();
    let layers = entries.iter().filter(|entry| entry.empty_layer() != Some(true));
    layers.map(|entry| entry.created_by().clone().unwrap_or_default()).collect()
}
