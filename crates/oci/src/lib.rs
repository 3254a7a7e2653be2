//! OCI images as values and as files.
//!
//! Owns: [`Digest`] and [`DiffId`], descriptors, the image config, manifests and indexes (as canonical JSON), the
//! layout folder and the archive, and [`validate`], which recomputes what they claim. Knows nothing of wheels, conda
//! or Debian packages: a layer is a descriptor with a diff ID.

mod digest;

pub use digest::{DiffId, Digest, Hasher, ParseDigestError};
