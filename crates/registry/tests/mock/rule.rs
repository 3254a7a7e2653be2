use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Answer, Head};

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Ping,
    HeadManifest,
    GetManifest,
    PutManifest,
    HeadBlob,
    GetBlob,
    StartUpload,
    Mount,
    Patch,
    /// A patch that says which bytes of the blob it has.
    PatchChunk,
    UploadStatus,
    FinishUpload,
    Token,
    Any,
}

impl Step {
    pub fn is(self, head: &Head) -> bool {
        let path = head.path();
        let (is_upload, is_blob) = (path.contains("/blobs/uploads/"), path.contains("/blobs/"));
        let is_manifest = path.contains("/manifests/");
        let found = match head.method.as_str() {
            _ if path == "/token" => Self::Token,
            "POST" if head.query("mount").is_some() => Self::Mount,
            "POST" if is_upload => Self::StartUpload,
            "PATCH" => Self::Patch,
            "PUT" if is_upload => Self::FinishUpload,
            "PUT" if is_manifest => Self::PutManifest,
            "GET" if is_upload => Self::UploadStatus,
            "GET" if is_blob => Self::GetBlob,
            "HEAD" if is_blob => Self::HeadBlob,
            "GET" if is_manifest => Self::GetManifest,
            "HEAD" if is_manifest => Self::HeadManifest,
            _ if path == "/v2/" => Self::Ping,
            _ => Self::Any,
        };
        let is_chunk =
            self == Self::PatchChunk && found == Self::Patch && head.header("content-range").is_some();
        self == Self::Any || self == found || is_chunk
    }
}

/// Something that a server does wrong.
pub struct Rule {
    step: Step,
    /// Which of the requests for this step.
    times: Range<usize>,
    pub deed: Deed,
    count: AtomicUsize,
}

pub enum Deed {
    /// Takes the request's body and gives this answer.
    Instead(Answer),
    /// Gives this answer at once, and closes the connection without a look at the body.
    Early(Answer),
    /// The good answer, changed.
    But(Box<dyn Fn(Answer) -> Answer + Send + Sync>),
    /// These bytes instead of an answer, and then the end of the connection.
    Raw(&'static str),
    /// Nothing, after so many bytes of the request's body, for longer than anybody waits.
    Silence { after: usize },
    /// Resets the connection where this byte of the blob would come, and keeps what came of the request or does not.
    Cut { at: usize, is_kept: bool },
    /// Does what it should, and resets the connection instead of saying so.
    Unsaid,
}

/// Says what a server does wrong at a step, and which of the requests for it (from 0) get to see that.
pub fn on(step: Step, times: Range<usize>, deed: impl Into<Deed>) -> Rule {
    Rule { step, times, deed: deed.into(), count: AtomicUsize::new(0) }
}

impl Rule {
    /// Whether it is this request's turn.
    pub fn applies(&self, head: &Head) -> bool {
        let is_there = match self.deed {
            Deed::Cut { at, .. } => head.range().is_some_and(|range| range.contains(&at)),
            _ => true,
        };
        self.step.is(head) && is_there && self.times.contains(&self.count.fetch_add(1, Ordering::SeqCst))
    }
}

impl From<Answer> for Deed {
    fn from(answer: Answer) -> Self {
        Self::Instead(answer)
    }
}

impl<F: Fn(Answer) -> Answer + Send + Sync + 'static> From<F> for Deed {
    fn from(change: F) -> Self {
        Self::But(Box::new(change))
    }
}
