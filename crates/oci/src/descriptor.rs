use std::collections::BTreeMap;

use oci_spec::image as spec;
use serde::Serialize;

use crate::{Digest, Error, MediaType, Platform, json};

/// Names content by its digest, with its type and its size in bytes, as stored.
///
/// A value of our own beside oci-spec's: the digest is a checked SHA-256 that can be compared, copied and used as a
/// key, and the annotations are sorted. [`to_spec`](Self::to_spec) and [`from_spec`](Self::from_spec) go between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// What the content is.
    pub media_type: MediaType,
    /// The SHA-256 of the content.
    pub digest: Digest,
    /// Bytes of the content.
    pub size: u64,
    /// What an image runs on; only manifests have one.
    pub platform: Option<Platform>,
    /// Notes that travel with the reference, not with the content.
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// A descriptor with nothing but the three required properties.
    pub const fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self { media_type, digest, size, platform: None, annotations: BTreeMap::new() }
    }

    /// The same as oci-spec's value, for its manifests and indexes.
    pub fn to_spec(&self) -> spec::Descriptor {
        let mut descriptor =
            spec::Descriptor::new(self.media_type.clone(), self.size, digest_to_spec(&self.digest));
        if !self.annotations.is_empty() {
            descriptor.set_annotations(Some(self.annotations.clone().into_iter().collect()));
        }
        if let Some(platform) = &self.platform {
            let mut value = spec::Platform::default();
            value.set_os(platform.os().into());
            value.set_architecture(platform.architecture().into());
            value.set_variant(platform.variant().map(str::to_owned));
            descriptor.set_platform(Some(value));
        }
        descriptor
    }

    /// Takes what imgforge knows from oci-spec's value.
    ///
    /// A platform that is no platform (`unknown/unknown` is one, an empty word is none) is left out, since it only
    /// ever helps to choose.
    ///
    /// # Errors
    /// [`Error::Digest`] when the content is named by another algorithm than SHA-256.
    pub fn from_spec(descriptor: &spec::Descriptor) -> Result<Self, Error> {
        let platform = descriptor.platform().as_ref().and_then(|platform| {
            let (os, architecture) = (platform.os().to_string(), platform.architecture().to_string());
            Platform::new(&os, &architecture, platform.variant().as_deref()).ok()
        });
        Ok(Self {
            media_type: descriptor.media_type().clone(),
            digest: descriptor.digest().as_ref().parse()?,
            size: descriptor.size(),
            platform,
            annotations: descriptor.annotations().clone().unwrap_or_default().into_iter().collect(),
        })
    }
}

fn digest_to_spec(digest: &Digest) -> spec::Digest {
    match digest.hex().parse::<spec::Sha256Digest>() {
        Ok(digest) => digest.into(),
        Err(_) => unreachable!("64 lower-case hexadecimal digits are a SHA-256 digest"),
    }
}

/// Small content in memory, with what names it: a config, a manifest, an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    descriptor: Descriptor,
    bytes: Vec<u8>,
}

impl Blob {
    /// Names `bytes`.
    pub fn new(media_type: MediaType, bytes: Vec<u8>) -> Self {
        let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
        Self { descriptor, bytes }
    }

    /// Takes content that somebody named before, and checks it.
    ///
    /// # Errors
    /// [`Error::SizeMismatch`], [`Error::DigestMismatch`] when the bytes are not what the descriptor says.
    pub fn verified(descriptor: Descriptor, bytes: Vec<u8>) -> Result<Self, Error> {
        let what = || format!("{} {}", descriptor.media_type, descriptor.digest);
        if bytes.len() as u64 != descriptor.size {
            return Err(Error::SizeMismatch {
                what: what(),
                expected: descriptor.size,
                found: bytes.len() as u64,
            });
        }
        let found = Digest::of(&bytes);
        if found != descriptor.digest {
            return Err(Error::DigestMismatch { what: what(), expected: descriptor.digest, found });
        }
        Ok(Self { descriptor, bytes })
    }

    /// Serialises a value canonically and names the result.
    pub(crate) fn of<T: Serialize>(media_type: MediaType, value: &T) -> Result<Self, Error> {
        Ok(Self::new(media_type, json::canonical(value)?))
    }

    /// What names the content.
    pub const fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The content.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The content alone.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
