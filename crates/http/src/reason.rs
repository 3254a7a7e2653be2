use std::fmt;
use std::time::Duration;

use imgforge_oci::Digest;
use reqwest::{StatusCode, Url};

use crate::SetupError;

/// Why something did not come or go. Credentials and query strings of URLs are not in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Other bytes than those asked for.
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
    /// The pieces of several transfers did not fit together, twice.
    #[error("its pieces do not fit together")]
    Spliced,
    /// The server said no.
    #[error("{0}")]
    Status(StatusCode),
    /// The server said no, and why.
    #[error("{status}: {said}")]
    Refused {
        /// What it said.
        status: StatusCode,
        /// Its words, fit to be shown.
        said: String,
    },
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
    /// Not a URL that can be asked.
    #[error("not a usable URL: {0}")]
    Url(String),
    /// No proof of who we are, or none that is accepted.
    #[error("{0}")]
    Credentials(String),
    /// What was to be sent can't be read.
    #[error("cannot read what is to be sent: {0}")]
    Content(String),
    /// No connection can be made at all.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// An answer that the protocol does not have.
    #[error("{0}")]
    Protocol(String),
}

impl Reason {
    /// Whether the next request would fare no better there.
    pub fn is_of_the_host(&self) -> bool {
        match self {
            Self::Connection(_) | Self::Certificate(_) | Self::Busy { .. } => true,
            Self::Status(status) => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            _ => false,
        }
    }

    /// What the server said, if it said anything.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status(status) | Self::Refused { status, .. } | Self::Busy { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Sorts an error of the library that came before there was an answer.
    pub(crate) fn of(error: reqwest::Error) -> Self {
        // The library's own text has the URL in it.
        let error = error.without_url();
        let text = chain(&error);
        if text.to_ascii_lowercase().contains("certificate") {
            return Self::Certificate(text);
        }
        if error.is_builder() {
            return Self::Url(text);
        }
        Self::Connection(text)
    }

    /// Sorts an error in the middle of an answer.
    pub(crate) fn of_body(error: &reqwest::Error) -> Self {
        // The library's own words are about decoding; its causes are about the connection.
        Self::Connection(match std::error::Error::source(error) {
            Some(cause) => format!("the connection broke: {}", chain(cause)),
            None => "the connection broke".to_owned(),
        })
    }
}

/// A URL as it may be shown: without credentials, and without the values in its query, which may be keys.
pub fn redacted(url: &str) -> String {
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
pub fn chain(error: &dyn std::error::Error) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_urls_have_no_secrets() {
        for (url, shown) in [
            ("https://example.org/a.whl", "https://example.org/a.whl"),
            (
                "https://me:secret@example.org/a.whl?X-Signature=secret#secret",
                "https://***@example.org/a.whl?***",
            ),
            ("https://secret@example.org/", "https://***@example.org/"),
            ("https://me:secret@/a b", "https://…"),
            ("me:secret", "me:…"),
            ("secret", "…"),
        ] {
            assert_eq!(redacted(url), shown);
        }
    }
}
