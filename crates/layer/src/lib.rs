//! Artifacts become trees, trees become deterministic layers.
//!
//! Owns: [`Tree`] (what a layer holds, before a byte is written), [`write_layer`] (**the only tar writer of layers**),
//! the codecs and their pinned versions, and the conversion of each kind of artifact into a tree: [`wheel`], Debian
//! packages, application files, the virtual environment's own files. Knows nothing of lock files, images or the network.
//!
//! A layer is a pure function of its tree, the codec and the epoch. No clock, host name, umask, locale, thread count or
//! folder order reaches a byte.

mod codec;
pub mod deb;
mod deflate;
mod environment;
mod files;
mod hashes;
mod inflate;
pub mod members;
mod pair;
mod source;
mod splice;
mod strip;
mod tar;
mod tree;
pub mod wheel;
mod write;
pub mod zip;

pub use codec::{Codec, FRAME};
pub use environment::environment;
pub use files::{FilesError, files};
pub use hashes::{Hashes, Remembered};
pub use inflate::InflateError;
pub use source::{Range, Source};
pub use splice::{Insert, Pieces, Splice, SpliceError, Spliced};
pub use strip::{PatternError, SiftError, Strip, sift};
pub use tree::{Content, Entry, File, Kind, Tree, TreeError, TreePath};
pub use write::{WriteError, Written, write_layer};

/// The format of layer bytes; part of every key. Whoever changes what any tree's layer looks like raises it.
pub const LAYER_FORMAT: u32 = 1;
