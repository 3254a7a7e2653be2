//! Artifacts become trees, trees become deterministic layers.

mod source;
pub mod zip;

pub use source::Source;
