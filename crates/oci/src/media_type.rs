pub use oci_spec::image::MediaType;
use serde::{Deserialize, Serialize};

/// How a layer's tar is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// The plain tar.
    None,
    /// One or more gzip members.
    Gzip,
    /// One or more zstd frames.
    Zstd,
}

impl Compression {
    /// The media type of a layer that is stored so.
    pub const fn media_type(self) -> MediaType {
        match self {
            Self::None => MediaType::ImageLayer,
            Self::Gzip => MediaType::ImageLayerGzip,
            Self::Zstd => MediaType::ImageLayerZstd,
        }
    }

    /// The format's name, for messages.
    pub(crate) const fn format(self) -> &'static str {
        match self {
            Self::None => "tar",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// What a descriptor's media type says of its content, OCI's names and Docker's alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Manifests of several platforms.
    Index,
    /// One image's config and layers.
    Manifest,
    /// An image config.
    Config,
    /// A layer, stored in this way.
    Layer(Compression),
    /// Something that is no part of an image, or that nobody had heard of when this was written.
    Other,
}

/// Tells what `media_type` stands for.
///
/// Docker's types are those of its image manifest, version 2, schema 2; bases and layouts filled by other tools have
/// them.
pub fn kind(media_type: &MediaType) -> Kind {
    match media_type {
        MediaType::ImageIndex => Kind::Index,
        MediaType::ImageManifest => Kind::Manifest,
        MediaType::ImageConfig => Kind::Config,
        MediaType::ImageLayer | MediaType::ImageLayerNonDistributable => Kind::Layer(Compression::None),
        MediaType::ImageLayerGzip | MediaType::ImageLayerNonDistributableGzip => {
            Kind::Layer(Compression::Gzip)
        }
        MediaType::ImageLayerZstd | MediaType::ImageLayerNonDistributableZstd => {
            Kind::Layer(Compression::Zstd)
        }
        MediaType::Other(name) => match name.as_str() {
            "application/vnd.docker.distribution.manifest.list.v2+json" => Kind::Index,
            "application/vnd.docker.distribution.manifest.v2+json" => Kind::Manifest,
            "application/vnd.docker.container.image.v1+json" => Kind::Config,
            "application/vnd.docker.image.rootfs.diff.tar" => Kind::Layer(Compression::None),
            "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Kind::Layer(Compression::Gzip),
            "application/vnd.docker.image.rootfs.diff.tar.zstd" => Kind::Layer(Compression::Zstd),
            _ => Kind::Other,
        },
        _ => Kind::Other,
    }
}
