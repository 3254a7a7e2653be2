//! Conda locks → the packages to link into an environment, with no conda on the host.
//!
//! Owns: reading [`pixi_lock`], [`conda_lock`] and [`explicit`] locks with rattler's own published crates; resolving an
//! [`environment_yml`], or bare specs ([`solve`]), with its repodata gateway and resolvo; and refusing, with names, what an
//! image can't have. Owns no download of packages: a [`CondaPackage`] says where the bytes are and what they hash to.
//!
//! Everything public here is a plain synchronous function. rattler is asynchronous and generic; were that visible, each crate
//! above would compile it again. For the same reason no rattler type appears in a signature.
//!
//! What holds for all of them:
//! - An environment's packages are in the order in which rattler links them, where the lock says what depends on what.
//! - Nothing is built from source. Sources, folders and git repositories are errors that name the package.
//! - A package has a SHA-256 or, in old locks, an MD5 alone; what has neither is an error. A wheel has a SHA-256.
//! - Credentials in URLs are used for asking a channel and are in nothing that is returned.
//! - What a record says of its origin does not depend on where the project lies: a path that is relative to the lock is written
//!   as though the lock's folder were the root of the file system.

mod channel;
mod conda_lock;
mod environment_yml;
mod error;
mod explicit;
mod guard;
mod location;
mod package;
mod pixi_lock;
mod python;
mod solve;
mod wheel;
mod write;

pub use conda_lock::{CondaLockSelection, conda_lock};
pub use environment_yml::environment_yml;
pub use error::{Error, Reason, Unusable};
pub use explicit::explicit;
pub use imgforge_resolver_core::{
    Artifact, CondaEnvironment, CondaNoarch, CondaPackage, CondaPython, ErrorKind, Location,
};
pub use pixi_lock::{PixiSelection, pixi_lock};
pub use solve::{ChannelPriority, Channels, CondaTarget, solve};
pub use write::{to_explicit, to_pixi_lock};
