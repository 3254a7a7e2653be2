//! What happens, as objects for a callback.

use std::error::Error as _;

use imgforge::fetch;
use imgforge::workshop::{self, LayerRecord};
use imgforge_registry::Event;
use pyo3::prelude::*;

/// Something that happened during a build or a push.
#[pyclass(frozen, get_all, module = "imgforge")]
pub(crate) struct Progress {
    /// What: one of the words of `imgforge.ProgressKind`.
    kind: &'static str,
    /// Whom it happened to: a layer, a file, an artifact.
    title: String,
    /// Bytes, of this step: that have just come, or that the whole has.
    bytes: Option<u64>,
    /// More of it, for a reader.
    message: Option<String>,
}

#[pymethods]
impl Progress {
    fn __repr__(&self) -> String {
        let mut text = format!("Progress({:?}, {:?}", self.kind, self.title);
        if let Some(bytes) = self.bytes {
            text.push_str(&format!(", bytes={bytes}"));
        }
        if let Some(message) = &self.message {
            text.push_str(&format!(", message={message:?}"));
        }
        text + ")"
    }
}

impl Progress {
    pub(crate) fn new(kind: &'static str, title: impl Into<String>) -> Self {
        Self { kind, title: title.into(), bytes: None, message: None }
    }

    fn bytes(self, bytes: Option<u64>) -> Self {
        Self { bytes, ..self }
    }

    fn message(self, message: String) -> Self {
        Self { message: Some(message), ..self }
    }

    /// An event of the workshop.
    pub(crate) fn of(event: &workshop::Progress<'_>) -> Option<Self> {
        use workshop::Progress as Happened;
        let layer = |kind, title, record: &LayerRecord| Self::new(kind, title).bytes(Some(record.size));
        Some(match event {
            // How far they have come is for a screen; what becomes of each layer is told anyway.
            Happened::Images(_) | Happened::Known(..) | Happened::Written(..) => return None,
            Happened::Planned { layers, bytes } => {
                Self::new("planned", format!("{layers} layers")).bytes(Some(*bytes))
            }
            Happened::Fetch(request, event) => return Self::of_fetch(&request.title, request.size, event),
            Happened::Making(spec) => Self::new("making", spec.title()),
            Happened::Made(spec, record) => layer("made", spec.title(), record),
            Happened::Waiting(spec, _) => Self::new("waiting", spec.title()),
            Happened::Transfer { title, size, event, .. } => {
                return Self::of_transfer("fetching", title, *size, event);
            }
            Happened::Taking(spec, record, event) => {
                return Self::of_transfer("fetching", &spec.title(), record.size, event);
            }
            Happened::Taken(spec, record) => layer("taken", spec.title(), record),
            Happened::Found(spec, record) => layer("found", spec.title(), record),
            Happened::Building(line) => Self::new("building", *line),
            Happened::BuildLine(artifact, line) => {
                Self::new("line", *artifact).message(String::from_utf8_lossy(line).into_owned())
            }
            Happened::Built(line, receipt) => Self::new("built", *line).bytes(Some(receipt.result.size)),
            Happened::TakenArtifact(receipt) => {
                Self::new("taken", receipt.line.as_str()).bytes(Some(receipt.result.size))
            }
            Happened::CacheTrouble(error) => {
                let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                Self::new("note", "cache").message(format!("{error}{cause}"))
            }
        })
    }

    fn of_fetch(title: &str, size: Option<u64>, event: &fetch::Event<'_>) -> Option<Self> {
        Some(match event {
            fetch::Event::Started { .. } => Self::new("fetching", title).bytes(size),
            fetch::Event::Bytes(count) => Self::new("bytes", title).bytes(Some(*count)),
            fetch::Event::Finished => Self::new("fetched", title).bytes(size),
            fetch::Event::Waiting => Self::new("waiting", title),
            fetch::Event::Retry { reason, .. } => Self::new("retry", title).message(reason.to_string()),
            fetch::Event::Rejected(attempt) => {
                Self::new("retry", title).message(format!("{}: {}", attempt.source, attempt.reason))
            }
            fetch::Event::Restarted => return None,
        })
    }

    /// An event of a transfer with a registry.
    pub(crate) fn of_transfer(
        begun: &'static str,
        title: &str,
        size: u64,
        event: &Event<'_>,
    ) -> Option<Self> {
        Some(match event {
            Event::Started { .. } => Self::new(begun, title).bytes(Some(size)),
            Event::Bytes(count) => Self::new("bytes", title).bytes(Some(*count)),
            Event::Waiting => Self::new("waiting", title),
            Event::Retry { reason, .. } => Self::new("retry", title).message(reason.to_string()),
            Event::Restarted { .. } => return None,
        })
    }
}
