//! Lock files become the artifacts to install for a target.
//!
//! A facade: the words ([`Target`], [`Artifact`], …) come from `imgforge-resolver-core`, and each half is a crate of its
//! own behind it, [`pypi`] for Python locks, [`conda`] for conda's and [`debian`] for Debian archives. What stands here is what
//! belongs to none of them: which format a file is in, and [`read_lock`], which reads any of them.

mod kind;
mod lock;

pub use imgforge_resolver_conda as conda;
pub use imgforge_resolver_core::*;
pub use imgforge_resolver_debian as debian;
pub use imgforge_resolver_pypi as pypi;
pub use kind::{KindError, LockKind};
pub use lock::{LockError, LockQuery, Locked, read_lock};
