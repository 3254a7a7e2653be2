use std::io;
use std::path::{Path, PathBuf};

use crate::validate::Problem;
use crate::{Digest, ParseDigestError, Platform};

/// What can go wrong with an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written; the message has its path.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A value has no JSON form, or text is not the JSON that was expected.
    #[error("{what} is not the JSON that is expected of it: {source}")]
    Json {
        /// Which document or type.
        what: String,
        /// Where in the text, and why.
        source: serde_json::Error,
    },
    /// A digest is malformed or of another algorithm.
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
    /// Content is not what its name says.
    #[error("digest mismatch for {what}\n  expected: {expected}\n  found:    {found}")]
    DigestMismatch {
        /// Which blob, and where.
        what: String,
        /// What refers to it says this.
        expected: Digest,
        /// Its bytes say this.
        found: Digest,
    },
    /// Content is longer or shorter than its descriptor says.
    #[error("size mismatch for {what}: its descriptor says {expected} bytes, it has {found}")]
    SizeMismatch {
        /// Which blob, and where.
        what: String,
        /// Bytes by the descriptor.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// A blob is neither in the store nor, whole, in the layout that is written.
    #[error("{digest} is not there whole: neither {store} nor {layout}")]
    NowhereFound {
        /// The blob.
        digest: Digest,
        /// Where the store would have it.
        store: PathBuf,
        /// Where the layout would have it.
        layout: PathBuf,
    },
    /// A document is larger than any honest one.
    #[error("{what} has {size} bytes; at most {limit} are read")]
    TooLarge {
        /// Which document.
        what: String,
        /// Its bytes.
        size: u64,
        /// Bytes at most.
        limit: u64,
    },
    /// A document has another media type than what refers to it claims, or one that is of no use here.
    #[error("{what} has the media type `{found}`; expected {expected}")]
    MediaType {
        /// Which document.
        what: String,
        /// What would do.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A base has a layer that only its vendor may hand out.
    #[error(
        "layer {layer} of the base has the media type `{media_type}`: it comes from its vendor alone, and no image \
         with it can be passed on; choose another base"
    )]
    Foreign {
        /// The layer.
        layer: Digest,
        /// Its media type.
        media_type: String,
    },
    /// A value of the image config is outside the specification's grammar.
    #[error("image config: {field} `{value}` is not valid: {expected}")]
    Config {
        /// The field, by the specification's name.
        field: &'static str,
        /// The value that was given.
        value: String,
        /// What is expected of it.
        expected: &'static str,
    },
    /// Two parts of an image contradict each other.
    #[error("{what} does not agree with itself: {detail}")]
    Inconsistent {
        /// Which image.
        what: String,
        /// Both values.
        detail: String,
    },
    /// A name that `index.json` cannot hold.
    #[error(
        "`{name}` cannot name an image in a layout: expected letters and digits with single `-`, `.`, `_`, `:`, \
         `@`, `+` or `/` between them"
    )]
    RefName {
        /// The name.
        name: String,
    },
    /// A name that `docker load` cannot give an image.
    #[error(
        "`{name}` cannot name an image in a docker archive: expected `NAME:TAG`, with lower-case letters, digits and \
         single separators in the name"
    )]
    DockerName {
        /// The name.
        name: String,
    },
    /// Two things claim one name or platform.
    #[error("{what} is there twice: {first} and {second}")]
    Duplicate {
        /// The name or platform.
        what: String,
        /// One claim.
        first: Digest,
        /// The other.
        second: Digest,
    },
    /// A layout or archive does not have an image by that name.
    #[error("{place} has no image `{name}`; it has: {known}")]
    UnknownRef {
        /// The layout or archive.
        place: PathBuf,
        /// The name asked for; empty when none was given and there is not exactly one.
        name: String,
        /// The names that it has.
        known: String,
    },
    /// An image is not available for a platform.
    #[error("{what} is not there for {wanted}; it is for: {known}")]
    UnknownPlatform {
        /// Which image.
        what: String,
        /// The platform asked for.
        wanted: String,
        /// The platforms that it has.
        known: String,
    },
    /// An index leads to indexes for too long, or to itself.
    #[error("{what} nests indexes more than {limit} deep")]
    TooDeep {
        /// The reference that was followed.
        what: String,
        /// Levels at most.
        limit: usize,
    },
    /// An index leads to more documents than any honest one.
    #[error("{what} leads to more than {limit} manifests")]
    TooMany {
        /// The reference that was followed.
        what: String,
        /// Manifests and indexes at most.
        limit: usize,
    },
    /// What is wrong with one entry of an archive.
    #[error("{}{}: {source}", place.display(), entry.as_ref().map_or_else(String::new, |it| format!(", entry {it}")))]
    Within {
        /// The archive.
        place: PathBuf,
        /// The entry; nothing when it is about the archive as a whole.
        entry: Option<String>,
        /// What is wrong.
        source: Box<Self>,
    },
    /// Something that is no part of this crate was asked for a document and failed: a registry.
    #[error(transparent)]
    Source(Box<dyn std::error::Error + Send + Sync>),
    /// A folder or file that is no layout or archive.
    #[error("{place} is not {expected}: {detail}")]
    NotAnImage {
        /// The path.
        place: PathBuf,
        /// `an image layout`, `an image archive`.
        expected: &'static str,
        /// What is missing or wrong.
        detail: String,
    },
    /// A layer's bytes are not what its media type says.
    #[error("not sound {format} data: {detail}")]
    Compression {
        /// `gzip`, `zstd`.
        format: &'static str,
        /// What its decoder says.
        detail: String,
    },
    /// A tar stream breaks its own format or is hostile.
    #[error("not a sound tar, at byte {offset}: {detail}")]
    Tar {
        /// Byte of the uncompressed stream.
        offset: u64,
        /// What is wrong, with the name.
        detail: String,
    },
    /// Validation found something; every finding is there.
    #[error("{place} is not valid:{}", list(.problems))]
    Invalid {
        /// The layout or archive.
        place: PathBuf,
        /// At least one finding.
        problems: Vec<Problem>,
    },
}

impl Error {
    /// Says where it went wrong.
    pub(crate) fn within(self, place: &Path, entry: Option<&str>) -> Self {
        Self::Within { place: place.to_owned(), entry: entry.map(str::to_owned), source: Box::new(self) }
    }

    pub(crate) fn platform(what: String, wanted: Option<&Platform>, known: &[String]) -> Self {
        let wanted = wanted.map_or_else(|| "just one platform".to_owned(), Platform::to_string);
        Self::UnknownPlatform { what, wanted, known: enumeration(known) }
    }
}

/// The names one after the other, or a word for none.
pub(crate) fn enumeration(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}
