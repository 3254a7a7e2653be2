//! Builds container images from lock files, without a Docker daemon.
//!
//! The road, and the modules along it:
//!
//! ```text
//! images.toml ─config→ Config ─┐
//! locks ─environments, debian→ units ─plan→ layers, described (unit::LayerSpec), each with its key
//!                              └ images_lock pins what is open
//! LayerSpec ─workshop→ looked up, or fetched (fetch), converted (imgforge-layer) and stored (imgforge-store)
//! layers ─conflicts, image→ images (imgforge-oci), written by the commands
//! ```
//!
//! [`project`] joins them; [`build`] and [`delivery`] are whole requests. The library never talks to the user and reads
//! neither the clock nor the environment: what it needs of the host is given to it as [`session::Surroundings`], or ready
//! for use as [`project::Tools`].

pub mod against;
pub mod artifacts;
pub mod bases;
pub mod build;
pub mod cache;
mod clobbers;
pub mod config;
pub mod conflicts;
pub mod debian;
pub mod delivery;
mod derived;
pub mod diff;
pub mod environments;
mod error;
pub mod facts;
pub mod fetch;
pub mod forecast;
mod hashes;
pub mod image;
pub mod images_lock;
mod limits;
mod links;
pub mod outcome;
pub mod plan;
pub mod project;
pub mod push;
mod rootfs;
pub mod session;
pub mod smoke;
pub mod survey;
pub mod transport;
pub mod unit;
mod users;
pub mod workshop;

pub use error::{Error, Kind, story};
