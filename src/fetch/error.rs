use std::fmt::{self, Write as _};
use std::time::Duration;

use imgforge_oci::Digest;
use imgforge_store::StoreError;
use reqwest::{StatusCode, Url};

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
    #[error(
        "cannot set up connections: {reason}; is there a file of certificates at SSL_CERT_FILE, or in /etc/ssl?"
    )]
    Client {
        /// What the HTTP library says.
        reason: String,
    },
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
    /// Other bytes than those locked.
    #[error("received {received} ({size} bytes)")]
    Mismatch {
        /// Their digest.
        received: Digest,
        /// Their number.
        size: u64,
    },
    /// More bytes than there may be.
    #[error("more than the {expected} bytes expected")]
    TooLong {
        /// How many there may be.
        expected: u64,
    },
    /// A file of another size.
    #[error("{received} bytes instead of {expected}")]
    Size {
        /// The size locked.
        expected: u64,
        /// The file's.
        received: u64,
    },
    /// The pieces of several transfers did not fit together, twice.
    #[error("its pieces do not fit together")]
    Spliced,
    /// The server said no.
    #[error("{0}")]
    Status(StatusCode),
    /// The server said not now, and how long to wait.
    #[error("{status}, asking for {} s of patience", wait.as_secs())]
    Busy {
        /// What it said.
        status: StatusCode,
        /// How long it asked to wait.
        wait: Duration,
    },
    /// No connection, or a broken one.
    #[error("{0}")]
    Connection(String),
    /// The server's certificate is not trusted.
    #[error("{0}")]
    Certificate(String),
    /// Sent somewhere that is not gone to.
    #[error("redirected {0}")]
    Redirect(String),
    /// Not a URL that can be fetched.
    #[error("not a usable URL: {0}")]
    Url(String),
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
        matches!(self, Self::Mismatch { .. } | Self::TooLong { .. } | Self::Size { .. })
    }

    /// Whether the next artifact would fare no better there.
    pub(super) fn is_of_the_host(&self) -> bool {
        match self {
            Self::Connection(_) | Self::Certificate(_) | Self::Busy { .. } => true,
            Self::Status(status) => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            _ => false,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Certificate(_) => "give the certificates of your proxy or mirror in SSL_CERT_FILE",
            Self::Status(
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            ) => "give credentials in ~/.netrc or IMGFORGE_AUTH_<HOST>, as `user:password` or `Bearer TOKEN`",
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
    if let [Attempt { source, reason: Reason::Mismatch { received, .. }, .. }] = attempts {
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

/// A URL as it may be shown: without credentials, and without the values in its query, which may be keys.
pub(super) fn redacted(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else {
        // Nothing is known about what this is, least of all where a password may be in it.
        return match url.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://…"),
            None => "…".to_owned(),
        };
    };
    if url.cannot_be_a_base() {
        return format!("{}:…", url.scheme());
    }
    let has_credentials = !url.username().is_empty() || url.password().is_some();
    // These fail for URLs that can't have credentials, which then have none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let has_query = url.query().is_some();
    url.set_query(None);
    url.set_fragment(None);
    let mut text = url.to_string();
    if has_credentials {
        text = text.replacen("://", "://***@", 1);
    }
    if has_query {
        text.push_str("?***");
    }
    text
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            let _ = fmt::Write::write_fmt(&mut text, format_args!(": {next}"));
        }
        cause = error.source();
    }
    text
}
