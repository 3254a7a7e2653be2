//! Root filesystems of sandboxes, made of layers in the store.

use std::io;

use imgforge_oci::{DiffId, Digest, Kind, MediaType, kind};
use imgforge_sandbox::{Layer, Root, Sandbox};
use imgforge_store::Store;

/// A layer of the store, as a sandbox asks for it.
pub(crate) struct Stacked {
    /// The SHA-256 of the tar.
    pub(crate) diff_id: DiffId,
    /// The SHA-256 of the stored bytes.
    pub(crate) digest: Digest,
    /// How it is stored.
    pub(crate) media_type: String,
}

/// Joins layers, the lowest first. Those that are unpacked already are not read.
///
/// # Errors
/// The sandbox's.
pub(crate) fn join(
    sandbox: &Sandbox,
    store: &Store,
    stack: impl IntoIterator<Item = Stacked>,
) -> Result<Root, imgforge_sandbox::Error> {
    let layers: Vec<Layer<'_>> = stack
        .into_iter()
        .filter_map(|Stacked { diff_id, digest, media_type }| {
            // What is no layer has nothing to unpack; whoever reads an image refuses it before.
            let Kind::Layer(compression) = kind(&MediaType::from(media_type.as_str())) else { return None };
            let open = move || store.open_blob(&digest).map_err(io::Error::other);
            Some(Layer { diff_id, compression, open: Box::new(open) })
        })
        .collect();
    sandbox.root(&layers, &|_| {})
}
