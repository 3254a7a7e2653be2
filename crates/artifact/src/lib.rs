//! Sources become wheels: what is read before a build, and what is made of its result.
//!
//! Compiling flash-attn takes longer than everything else that an image needs, so its result is an *artifact*: made once
//! for one key, kept, and used byte for byte in every image that needs it. This crate owns the parts of that which need
//! no processor time of a compiler:
//!
//! - before: [`sdist`] reads a source distribution into a tree, [`cargo`] turns a Cargo.lock into crates to fetch and
//!   those into a vendor folder, [`pep517`] has the program that asks a build backend for a wheel;
//! - after: [`rewheel()`] makes one wheel, always the same bytes, of whatever way a backend has zipped it up, and says
//!   what its libraries need; [`compare()`] tells two wheels apart;
//! - around: [`receipt`] has what a result depends on, the key that follows from it, and the reasons of a miss.
//!
//! Nothing is run here, and neither the network nor the clock nor the environment is read. Commands are for the sandbox;
//! trees are written by the one writer of layers, so that what a source archive holds never becomes a path of the host.
//! All that comes in is hostile: archives by their nature, and a build's result because it was made by what was in one.

mod archive;
pub mod cargo;
pub mod compare;
pub mod pep517;
pub mod receipt;
pub mod rewheel;
pub mod sdist;

pub use archive::ArchiveError;
pub use compare::compare;
pub use rewheel::rewheel;

/// Which version of which distribution something is, or should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Its name, normalised or not: names are compared as PEP 503 says.
    pub name: String,
    /// Its version: compared as PEP 440 says, where it is one of those.
    pub version: String,
}

impl Distribution {
    /// Whether a file's metadata are those of this distribution.
    ///
    /// A version that was built may be more than was asked for by a local part: `2.8.3+cu128` is a build of `2.8.3`.
    fn is_described_by(&self, name: &str, version: &str) -> bool {
        use imgforge_layer::wheel::normalise;
        use pep440_rs::Version;
        let same_version = match (self.version.parse::<Version>(), version.parse::<Version>()) {
            (Ok(expected), Ok(found)) => expected == found || expected == found.without_local(),
            _ => self.version == version,
        };
        same_version && normalise(&self.name) == normalise(name)
    }
}

impl std::fmt::Display for Distribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}
