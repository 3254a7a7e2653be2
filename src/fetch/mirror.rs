use std::fmt;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Place, Request};

/// Another place that has artifacts: a URL or a folder, with the places of digest and name in it.
///
/// `{sha256}` stands for the digest's hexadecimal digits, `{file}` for the file name, `{name}` for the package's name.
/// Without any of them, the file name is appended: `https://mirror.example.org/wheels`.
#[derive(Clone, PartialEq, Eq)]
pub struct Mirror {
    template: String,
}

/// A mirror that can't be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// Neither a URL of a known kind nor an absolute path.
    #[error("mirror {mirror}: expected an http, https or file URL, or an absolute path")]
    Kind {
        /// The mirror, as it may be shown.
        mirror: String,
    },
    /// A placeholder that means nothing.
    #[error("mirror {mirror}: `{{{placeholder}}}` is none of `{{sha256}}`, `{{file}}` and `{{name}}`")]
    Placeholder {
        /// The mirror, as it may be shown.
        mirror: String,
        /// The text between the braces.
        placeholder: String,
    },
}

/// Everything but what RFC 3986, section 2.3, calls unreserved. A `+` too, which some servers read as a space.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Mirror {
    /// Reads a mirror.
    ///
    /// # Errors
    /// [`MirrorError`] for anything that can't be asked for an artifact.
    pub fn parse(text: &str) -> Result<Self, MirrorError> {
        let shown = || imgforge_http::redacted(text);
        if !["https://", "http://", "file:///", "/"].iter().any(|start| text.starts_with(start)) {
            return Err(MirrorError::Kind { mirror: shown() });
        }
        for piece in text.split('{').skip(1) {
            let placeholder = piece.split('}').next().unwrap_or(piece);
            if !["sha256", "file", "name"].contains(&placeholder) || !piece.contains('}') {
                let placeholder = placeholder.to_owned();
                return Err(MirrorError::Placeholder { mirror: shown(), placeholder });
            }
        }
        let mut template = text.to_owned();
        if !template.contains('{') {
            template.push_str(if template.ends_with('/') { "{file}" } else { "/{file}" });
        }
        Ok(Self { template })
    }

    /// Where the mirror has the artifact, if it has it.
    pub(super) fn place(&self, request: &Request) -> Place {
        let is_path = self.template.starts_with('/');
        let fill = |value: &str| match is_path {
            // A name is one segment, in a path as in a URL.
            true => value.replace('/', "%2F"),
            false => utf8_percent_encode(value, RESERVED).to_string(),
        };
        let mut text = String::new();
        let mut rest = self.template.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            text.push_str(before);
            let (placeholder, after) = after.split_once('}').unwrap_or((after, ""));
            text.push_str(&match placeholder {
                "sha256" => request.digest.hex(),
                "file" => fill(&request.file),
                _ => fill(&request.name),
            });
            rest = after;
        }
        text.push_str(rest);
        match is_path {
            true => Place::Path(Path::new(&text).to_owned()),
            false => Place::parse(&text),
        }
    }
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mirror({})", imgforge_http::redacted(&self.template))
    }
}
