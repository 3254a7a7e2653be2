//! Python locks and requirements → the wheels to install for a target, with no Python on the host.
//!
//! Owns: reading [`uv_lock`], [`pylock`] and [`requirements_txt`] with uv's own published crates, whose walk over markers,
//! forks, extras, groups and conflicts nobody should write twice; reading [`poetry_lock`] with the same types; and refusing,
//! with names, what an image can't have. And [`resolve`]: uv's resolver on bare requirements, whose result is written as a lock.
//! Owns no download: an [`Artifact`] says where the bytes are and what they hash to.
//!
//! Everything public here is a plain synchronous function. uv is asynchronous and generic; were that visible, each crate
//! above would compile it again. For the same reason no uv type appears in a signature.
//!
//! What is selected, where uv leaves a choice:
//! - The project itself and the other members of its workspace are not installed; their dependencies are.
//! - Nothing is built from source. A package that has only sources is an error that names it.
//! - A wheel without a SHA-256 is an error; weaker hashes count as none.

mod artifact;
mod error;
mod guard;
mod indexes;
mod local;
mod no_build;
mod poetry_lock;
mod project;
mod pylock;
mod request;
mod requirements;
mod resolve;
mod selection;
mod solver;
mod target;
mod uv_lock;

pub use error::{Error, Reason, Unusable};
pub use imgforge_resolver_core::{Architecture, Artifact, ErrorKind, Libc, Location, Target};
pub use indexes::Indexes;
pub use poetry_lock::poetry_lock;
pub use pylock::pylock;
pub use request::{Prereleases, Request};
pub use requirements::requirements_txt;
pub use resolve::{Resolution, resolve};
pub use selection::{Defaults, Selection};
pub use uv_lock::{project_folder, uv_lock};
