use std::io;
use std::path::PathBuf;

use imgforge_layer::{TreeError, WriteError};
use imgforge_oci::DiffId;
use imgforge_store::StoreError;

use crate::hint;
use crate::message::{Failure, FailureKind};

/// Why there is no sandbox, or nothing came out of it. That a command failed is no error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program did not call [`init_if_asked`](crate::init_if_asked), so it cannot be executed anew as a sandbox.
    #[error("`imgforge_sandbox::init_if_asked` was not called when the program began")]
    NotReady,
    /// The host does not allow a part of the sandbox. Nothing was run.
    #[error("no sandbox can be had here: can't {step}")]
    Denied {
        /// What was being done, as it fits behind "can't".
        step: String,
        /// What the system says.
        source: io::Error,
        /// What to enable: see [`Error::hint`].
        hint: String,
    },
    /// The sandbox could not be made for another reason. Nothing was run.
    #[error("no sandbox could be made: can't {step}")]
    Setup {
        /// What was being done, as it fits behind "can't".
        step: String,
        /// What the system says.
        source: io::Error,
    },
    /// The sandbox's own processes ended without a word: somebody killed them, or the kernel did for want of memory.
    #[error(
        "the sandbox was killed from outside ({status}); if memory was short, set a limit below what the host has"
    )]
    Died {
        /// How its supervisor ended.
        status: String,
    },
    /// The command could not be started.
    #[error("can't {step}")]
    Command {
        /// What was being done, as it fits behind "can't".
        step: String,
        /// What the system says.
        source: io::Error,
    },
    /// A layer can't be unpacked.
    #[error("layer {diff_id}: can't {step}")]
    Layer {
        /// The layer.
        diff_id: DiffId,
        /// What was being done, as it fits behind "can't".
        step: String,
        /// What is wrong.
        source: io::Error,
    },
    /// A layer is another one than it should be.
    #[error("a layer's content is not what its diff ID says\n  expected: {expected}\n  received: {received}")]
    DiffId {
        /// The one that was asked for.
        expected: DiffId,
        /// That of the bytes.
        received: DiffId,
    },
    /// An output can't be taken.
    #[error("the output {path} can't be taken")]
    Output {
        /// Where it is in the root filesystem.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// An output has a name that nothing in a layer can have.
    #[error("an output can't be taken")]
    Name(#[from] TreeError),
    /// A path in a [`Command`](crate::Command) that is none: it has to be absolute, without `.` and `..`.
    #[error("`{path}` is no path in a root filesystem: expected an absolute one without `.` and `..`")]
    Path {
        /// As it was given.
        path: String,
    },
    /// Files could not be made a layer.
    #[error("files for the sandbox can't be read")]
    Files(#[from] WriteError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of the host or a process of ours failed.
    #[error("{}", path.display())]
    Io {
        /// The file or program.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Error {
    /// What mends it; several things in lines of their own, each behind `hint: ` but the first.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Denied { hint, .. } => Some(hint),
            Self::Died { .. } => Some("if memory was short, limit the command's to less than the host has"),
            Self::Command { source, .. } if source.kind() == io::ErrorKind::NotFound => Some(
                "it is not in the root filesystem, or what its first line or its ELF header names is not",
            ),
            _ => None,
        }
    }

    pub(crate) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// What a process of the sandbox said; `diff_id` is the layer that it worked on.
    pub(crate) fn from_failure(failure: Failure, diff_id: Option<DiffId>) -> Self {
        let source = failure.source();
        let Failure { kind, step, .. } = failure;
        match (kind, diff_id) {
            (FailureKind::Denied, _) => Self::Denied { hint: hint::hint(&step, &source), step, source },
            (FailureKind::Command, _) => Self::Command { step, source },
            (FailureKind::Layer, Some(diff_id)) => Self::Layer { diff_id, step, source },
            (FailureKind::Output, _) => Self::Output { path: step, source },
            _ => Self::Setup { step, source },
        }
    }
}
