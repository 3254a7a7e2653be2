use std::path::PathBuf;

use imgforge_http::{Halt, Reason, SetupError, Trouble};
use imgforge_store::StoreError;
use reqwest::StatusCode;

/// What can go wrong with a registry. Credentials, tokens and query strings are not in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry, or what lies between, did not do what was asked for.
    #[error("cannot {what}: {reason}")]
    Failed {
        /// What was asked for: `fetch the manifest registry.example.org/team/app:1`.
        what: String,
        /// Why it did not.
        reason: Reason,
    },
    /// A manifest or a blob is not what it should be.
    #[error("cannot {what}: {source}")]
    Document {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        source: imgforge_oci::Error,
    },
    /// A document of another kind than images are made of.
    #[error("cannot {what}: {problem}")]
    Manifest {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        problem: ManifestProblem,
    },
    /// The content to be sent has another size than its descriptor says.
    #[error("cannot {what}: its descriptor says {expected} bytes, there are {found}")]
    ContentSize {
        /// What was asked for.
        what: String,
        /// The descriptor's size.
        expected: u64,
        /// The content's.
        found: u64,
    },
    /// Certificates that can't be read.
    #[error("{}: {reason}", path.display())]
    Certificates {
        /// The file or folder; for those given as values, which one.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection can be made at all.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The store could not take or give the bytes.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something else failed first.
    #[error("it was broken off, because something else failed")]
    Stopped,
}

/// Why a registry's answer is no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestProblem {
    /// Of the time before layers were named by digest in it.
    #[error("it is a manifest of Docker's schema 1, which no current tool writes")]
    Schema1,
    /// Not JSON.
    #[error("it is no JSON object: {reason}")]
    Json {
        /// The parser's words.
        reason: String,
    },
    /// Something else.
    #[error("it was sent as `{media_type}` and does not say itself that it is a manifest or an index")]
    Unknown {
        /// What the registry calls it.
        media_type: String,
    },
    /// Two readers would see two things.
    #[error("it was sent as `{sent}` and calls itself `{own}`")]
    Ambiguous {
        /// What the registry calls it.
        sent: String,
        /// What it calls itself.
        own: String,
    },
    /// The registry's own digest of it is another one.
    #[error("the registry calls it {claimed}, its bytes are {received}")]
    Digest {
        /// What the header says.
        claimed: String,
        /// What was received or sent.
        received: String,
    },
}

impl Error {
    /// Puts a name to what an attempt came to.
    pub(crate) fn of(what: String, trouble: Trouble) -> Self {
        match trouble {
            Trouble::Passing { reason, .. } | Trouble::Final(reason) => Self::Failed { what, reason },
            Trouble::Halt(halt) => halt.into(),
        }
    }

    /// Whether it merely followed from another failure.
    pub fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped)
    }

    /// What the user may do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Failed { reason: Reason::Certificate(_), .. } => {
                "give the certificate of the registry's authority, in a file of the folder \
                 /etc/containers/certs.d/HOST:PORT/ that ends in `.crt`, or in SSL_CERT_FILE"
            }
            Self::Failed { reason, .. } => match reason.status() {
                Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                    "log in with `podman login HOST` or `docker login HOST`; the account may lack the right to do this"
                }
                Some(StatusCode::PAYLOAD_TOO_LARGE) => {
                    "the registry, or a proxy before it, limits the size of blobs"
                }
                _ => return None,
            },
            Self::Manifest { problem: ManifestProblem::Schema1, .. } => {
                "pull it and push it again with a current tool, or take another image"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

impl From<Halt> for Error {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Store(error) => Self::Store(error),
            Halt::Stopped => Self::Stopped,
        }
    }
}
