//! OCI images as values and as files.
//!
//! Owns: [`Digest`] and [`DiffId`], descriptors, the image config, manifests and indexes (as canonical JSON), the
//! layout folder and the archive, and [`validate`], which recomputes what they claim. Knows nothing of wheels, conda
//! or Debian packages: a layer is a descriptor with a diff ID.
//!
//! Values are small and immutable and are made without input or output: [`ImageConfig`] and [`Layer`]s become an
//! [`Image`], images of several platforms become an [`Index`], and each of them ends as a [`Blob`], bytes with their
//! descriptor. A module that touches files is a medium ([`layout`], [`archive`], [`docker_archive`]) or a verb ([`validate`], [`read`]).
//! What media have in common when read is [`Medium`]; a further medium (a registry, another tool's archive) is a
//! further module.
//!
//! Images come from other people as well, so whatever is read has a size limit, its digest is checked before it is
//! parsed, and no name or number in it is trusted.

pub mod archive;
mod base;
mod config;
mod descriptor;
mod digest;
pub mod docker_archive;
mod draft;
mod error;
mod image;
mod index;
pub mod json;
pub mod layer;
pub mod layout;
mod media_type;
mod medium;
mod platform;
mod reach;
pub mod read;
mod reference;
mod tar;
mod tarball;
pub mod validate;

pub use base::{BASE_DIGEST, BASE_NAME, BaseImage};
pub use config::{ImageConfig, timestamp};
pub use descriptor::{Blob, Descriptor};
pub use digest::{DiffId, Digest, Hasher, ParseDigestError};
pub use error::Error;
pub use image::{Image, Layer};
pub use index::Index;
pub use media_type::{Compression, Kind, MediaType, kind};
pub use medium::Medium;
pub use platform::{ParsePlatformError, Platform};
pub use reach::reachable;
pub use read::Documents;
pub use reference::{REF_NAME, Ref};
