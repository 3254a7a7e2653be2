use std::fmt::Write as _;

use imgforge_http as http;
use imgforge_http::SetupError;
use imgforge_store::StoreError;
use reqwest::StatusCode;

use super::Request;

/// Why something could not be fetched. Credentials and query strings of URLs are not in it.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No source had the bytes.
    #[error("{}", failed(request, attempts))]
    Failed {
        /// What was wanted.
        request: Box<Request>,
        /// What each source came to, in the order tried.
        attempts: Vec<Attempt>,
    },
    /// A small file could not be read.
    #[error("cannot fetch {url}: {reason}")]
    Get {
        /// Where it should be.
        url: String,
        /// Why not.
        reason: Reason,
    },
    /// Something else failed first, another request or what was made beside them, and this one was broken off.
    #[error("{title} was not fetched, because something else failed")]
    Stopped {
        /// What was wanted.
        title: String,
    },
    /// The store could not take the bytes.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No connection can be made at all.
    #[error(transparent)]
    Client(#[from] SetupError),
}

impl FetchError {
    /// What the user may do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Failed { request, attempts } => {
                let Request { file, relock, .. } = &**request;
                let other = |attempt: &&Attempt| attempt.reason.is_other_content();
                if attempts.iter().filter(other).any(|attempt| !attempt.is_file) {
                    let relock =
                        relock.as_ref().map_or_else(String::new, |command| format!("; run `{command}`"));
                    return Some(format!("the file changed upstream or a proxy altered it{relock}"));
                }
                // All hosts failed or were not asked: the file at hand is what can be mended.
                if let Some(Attempt { source, .. }) = attempts.iter().find(other) {
                    return Some(format!("remove or restore {source}, or run `imgforge vendor`"));
                }
                let is_offline = |attempt: &Attempt| matches!(attempt.reason, Reason::Offline);
                if attempts.iter().any(is_offline) {
                    return Some(format!(
                        "leave out `--offline`, or put {file} into the vendor folder (`vendor/`, unless images.toml \
                         names another), as `imgforge vendor` does where there is a network"
                    ));
                }
                if attempts.is_empty() {
                    return Some(format!(
                        "put {file} into the vendor folder (`vendor/`, unless images.toml names another)"
                    ));
                }
                attempts.iter().find_map(|attempt| attempt.reason.hint())
            }
            Self::Get { reason, .. } => reason.hint(),
            _ => None,
        }
    }
}

/// One source, and what was wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// A path, or a URL without credentials and query.
    pub source: String,
    /// Whether it is a file at hand, in a vendor folder or elsewhere, and no host's.
    pub is_file: bool,
    /// Why it was given up.
    pub reason: Reason,
}

/// Why one source did not yield the bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// What came over the network, or what did not.
    #[error(transparent)]
    Http(#[from] http::Reason),
    /// A file of another size.
    #[error("{received} bytes instead of {expected}")]
    Size {
        /// The size locked.
        expected: u64,
        /// The file's.
        received: u64,
    },
    /// Another file than the one that a lock has the MD5 of.
    #[error("the MD5 is {received}, the lock says {expected}")]
    Md5 {
        /// The lock's.
        expected: String,
        /// The file's.
        received: String,
    },
    /// A file that can't be read.
    #[error("{0}")]
    File(String),
    /// A folder, or something else that is not a file.
    #[error("not a file")]
    NotAFile,
    /// A host, while offline.
    #[error("not tried: offline")]
    Offline,
    /// A mirror that could not be reached before.
    #[error("not tried again: it could not be reached before")]
    Dead,
}

impl Reason {
    /// Whether the source has the artifact, but not as it was locked.
    fn is_other_content(&self) -> bool {
        matches!(
            self,
            Self::Size { .. } | Self::Http(http::Reason::Mismatch { .. } | http::Reason::TooLong { .. })
        )
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Http(http::Reason::Certificate(_)) => {
                "give the certificates of your proxy or mirror in SSL_CERT_FILE"
            }
            Self::Http(http::Reason::Status(
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            )) => {
                "give credentials in ~/.netrc or IMGFORGE_AUTH_<HOST>, as `user:password` or `Bearer TOKEN`"
            }
            Self::Offline => "it needs a network; leave out `--offline`",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// The message for people: a mismatch is shown as such when that is all there was.
fn failed(request: &Request, attempts: &[Attempt]) -> String {
    let Request { title, digest, locked_in, file, .. } = request;
    let mut text = String::new();
    if let [Attempt { source, reason: Reason::Http(http::Reason::Mismatch { received, .. }), .. }] = attempts
    {
        let _ = write!(
            text,
            "digest mismatch for {title}\n  locked:   {digest} ({locked_in})\n  received: {received} ({file})\n  \
             from:     {source}"
        );
        return text;
    }
    let _ = write!(text, "cannot fetch {title}\n  locked: {digest} ({locked_in})");
    for Attempt { source, reason, .. } in attempts {
        let _ = write!(text, "\n  {source}: {reason}");
    }
    if attempts.is_empty() {
        text.push_str("\n  no source: the lock names none, and no vendor folder has ");
        text.push_str(file);
    }
    text
}
