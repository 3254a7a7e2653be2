use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Error;

/// What sort of trouble an error is: what decides who can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// images.toml says what can't be, or not enough; also a request for what it does not have.
    Config,
    /// A lock, or images.lock, does not fit what is asked for.
    Lock,
    /// Something could not be fetched.
    Fetch,
    /// A registry, or what it is to be given.
    Registry,
    /// A layer, an artifact or an image can't be made of what is there.
    Build,
    /// The store can't be had.
    Store,
    /// An output, or another file, can't be read or written.
    Output,
    /// Somebody wanted no more of it.
    Interrupted,
}

impl Kind {
    /// One word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Lock => "lock",
            Self::Fetch => "fetch",
            Self::Registry => "registry",
            Self::Build => "build",
            Self::Store => "store",
            Self::Output => "output",
            Self::Interrupted => "interrupted",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Error {
    /// What sort of trouble it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Config { .. }
            | Self::NoProject { .. }
            | Self::EnvironmentUnclear { .. }
            | Self::DebianUnclear { .. }
            | Self::Platform { .. }
            | Self::Platforms { .. }
            | Self::NoImage { .. }
            | Self::NoValue { .. }
            | Self::Against { .. }
            | Self::Files { .. }
            | Self::Tree { .. }
            | Self::Conflict { .. }
            | Self::Twice { .. }
            | Self::LinkScript { .. }
            | Self::Covered { .. }
            | Self::Dangling { .. }
            | Self::BehindLink { .. }
            | Self::CacheName { .. }
            | Self::Mirror(_)
            | Self::Pattern(_)
            | Self::Strips { .. }
            | Self::OverBudget(_) => Kind::Config,
            Self::ImagesLock(_)
            | Self::Environment { .. }
            | Self::Digest(_)
            | Self::Locked { .. }
            | Self::NotRecorded => Kind::Lock,
            Self::Fetch(_)
            | Self::Debian { .. }
            | Self::NotPinned { .. }
            | Self::NoPlatform { .. }
            | Self::Transport(_) => Kind::Fetch,
            Self::Push { .. }
            | Self::Destination(_)
            | Self::OfflinePush
            | Self::Cache { .. }
            | Self::Credentials(_)
            | Self::NotText { .. }
            | Self::Auth(_) => Kind::Registry,
            Self::Unit { .. }
            | Self::Layer { .. }
            | Self::Scripts { .. }
            | Self::Smoke { .. }
            | Self::Artifact { .. }
            | Self::Survey(_)
            | Self::NotReproduced { .. } => Kind::Build,
            Self::Store(_) | Self::NoStore => Kind::Store,
            Self::Io(_) | Self::Oci(_) | Self::NoFolder { .. } | Self::NoLock { .. } => Kind::Output,
            Self::Base { source, .. } | Self::HalfDone { source, .. } => source.kind(),
            Self::Interrupted => Kind::Interrupted,
        }
    }

    /// Fails when somebody has set `stop`.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn unless_stopped(stop: &AtomicBool) -> Result<(), Self> {
        match stop.load(Ordering::Relaxed) {
            true => Err(Self::Interrupted),
            false => Ok(()),
        }
    }
}

/// An error with what caused it, a line and more for each.
pub fn story(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Errors that only pass another on have its text.
        if !text.trim_end().ends_with(&cause_text) {
            text.push_str(&format!("\n  caused by: {}", cause_text.replace('\n', "\n  ")));
        }
        source = cause.source();
    }
    text
}
