//! Debian archives: signed indexes, and the closure of a set of packages.
//!
//! Owns: which bytes of an archive are to be believed ([`verify_in_release`], [`IndexFile::decode`]), which packages a
//! few names need ([`closure`]), and what the host's apt is configured for ([`host_sources`], [`host_keyring`]). Owns
//! neither the network nor what is done with a package: functions take bytes and return what to fetch next, by path
//! and SHA-256, so that any mirror, cache or folder can answer. Only the two `host_…` functions open files.
//!
//! The road, for each suite of each mirror:
//!
//! ```text
//! MIRROR/dists/SUITE/InRelease ─verify_in_release→ Release
//! Release::packages(component, architecture) → IndexFile ─fetch, decode→ text ─parse_packages→ Index
//! [Index] + Request ─closure→ [PinnedPackage]  (version, path, SHA-256: what images.lock holds)
//! ```
//!
//! The formats are read here and not with published crates: control files, versions and relations are a few dozen lines
//! each, settled for decades, and what matters (borrowing from 50 MB of text, parsing only what is reached, errors with a
//! line) is what those crates do otherwise. Cryptography is not written here: see [`Keyring`].

mod closure;
mod control;
mod date;
mod error;
mod keyring;
mod packages;
mod relation;
mod release;
mod search;
mod sources;
mod universe;
mod version;

pub use closure::{PinnedPackage, Request, closure, essential};
pub use error::Error;
pub use keyring::{Freshness, Keyring};
pub use packages::{Compression, Index, IndexFile, parse_packages};
pub use release::{Release, verify_in_release};
pub use sources::{
    AptSource, SignedBy, host_keyring, host_sources, parse_sources_deb822, parse_sources_list,
};
pub use version::compare_versions;
