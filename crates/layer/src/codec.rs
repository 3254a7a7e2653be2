use serde::{Deserialize, Serialize};

/// How a layer's tar stream is stored, decided before the layer is made; its name is part of the layer's key.
///
/// Each codec is pinned: its level, the size of its independent frames and, where a library compresses, that library's
/// version. Two versions of imgforge give the same bytes under the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Codec {
    /// gzip, where the DEFLATE streams of wheels are copied as they are, and the little between them is compressed by
    /// imgforge's own encoder. No library's release can change these bytes.
    GzipCopy,
    /// gzip in independent members of [`FRAME`] bytes of tar stream each, compressed by zlib-rs at level 6: for readers
    /// that know no zstd (docker 20.10, umoci).
    Gzip,
    /// zstd in independent frames of [`FRAME`] bytes of tar stream each, at level 3.
    Zstd,
    /// The tar stream itself.
    None,
}

/// Bytes of tar stream in each independent frame or member; fixed, so that the number of threads does not show.
pub const FRAME: usize = 4 << 20;

/// zlib's level for [`Codec::Gzip`].
pub(crate) const GZIP_LEVEL: u32 = 6;

/// zstd's level for [`Codec::Zstd`].
pub(crate) const ZSTD_LEVEL: i32 = 3;

impl Codec {
    /// The name for keys: codec, library version, level, frame.
    pub const fn pinned(self) -> &'static str {
        match self {
            Self::GzipCopy => "gzip-copy 1",
            Self::Gzip => "gzip zlib-rs 0.6.8 level 6 frame 4M",
            Self::Zstd => "zstd 1.5.7 level 3 frame 4M",
            Self::None => "none",
        }
    }

    /// The layer's media type (OCI image specification, "Media Types").
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::GzipCopy | Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::None => "application/vnd.oci.image.layer.v1.tar",
        }
    }
}

#[cfg(test)]
mod tests {
    /// The names in the keys are those of the libraries that are linked.
    #[test]
    fn pinned_names_are_true() {
        assert_eq!(zstd::zstd_safe::version_string(), "1.5.7");
        let lock = include_str!("../../../Cargo.lock");
        assert!(lock.contains("name = \"zlib-rs\"\nversion = \"0.6.8\"\n"));
    }
}
