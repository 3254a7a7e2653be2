//! Registries that misbehave: the client gets there in spite of it, or says clearly why not, and tells nobody who it is
//! but the registry.
//!
//! Each line has a registry do something wrong; see [`mock`]. That no credential reached another origin or an error is
//! looked at in all of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(missing_docs, reason = "read the tests")]

mod auth;
mod manifests;
#[path = "../mock/mod.rs"]
mod mock;
mod pull;
mod push;

/// Bytes of a layer that is sent in one request.
const SMALL: usize = 100_000;
/// Bytes of one that is not.
const MEDIUM: usize = 5 << 20;
/// Bytes of one whose transfer is long enough to break anywhere.
const LARGE: usize = 24 << 20;

/// Where one of this size breaks: at its first bytes, before its last one, and in between not on the edges of pieces.
fn offsets(size: usize) -> impl Iterator<Item = usize> {
    [0, 1, size - 1].into_iter().chain((1..18).map(move |at| at * size / 18 + 4711 * at))
}
