//! Crates for a build without a network: from Cargo.lock to what to fetch, from that to a vendor folder.
//!
//! A project with Rust in it is built by `cargo build --offline --locked` in the sandbox. cargo takes crates from a
//! *directory source* then: a folder for each crate and version, with a file of checksums that cargo compares with
//! Cargo.lock. So the crates are fetched beforehand by the checksums of Cargo.lock, [`vendor`] makes that folder of them,
//! and [`config`] tells cargo to look there.
//!
//! What Cargo.lock can't pin by a checksum (git repositories) or what comes from elsewhere (other registries, folders
//! outside of the project) is refused, by name: a build that lacks a crate would say so much later, and in other words.
//!
//! Source: The Cargo Book, "Source Replacement", "Directory Sources".

mod lock;
mod vendor;

pub use lock::{Crate, Local, Lock, LockError};
pub use vendor::{VendorError, config, vendor};
