//! Docker's own archive, as `docker save` and `podman save` write it and `docker load` reads it.
//!
//! ```text
//! manifest.json            [{"Config": …, "RepoTags": […], "Layers": […]}, …]; layers from the bottom up
//! <config digest>.json     the image config
//! <diff ID>.tar            a layer, uncompressed
//! ```
//!
//! That is how it is [written](write()). Others name the same things differently: old ones have `<id>/layer.tar`, links
//! where images share a layer, and files for Docker before 1.10; since Docker 25 all of it lies in `blobs/sha256`, and
//! the archive is a layout as well. Only what manifest.json says counts.
//!
//! There are no manifests and no compressed layers in it. [Opened](open), it is a [`Medium`] like any other: a manifest
//! is made for each image, over the layers as they lie there.

mod name;
mod read;
mod write;

pub(crate) use name::full_name;
pub use read::{open, open_in};
pub use write::{Named, write, write_file};

#[cfg(doc)]
use crate::Medium;
