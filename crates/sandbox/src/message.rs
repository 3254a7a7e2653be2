//! What imgforge and the processes of a sandbox tell each other: one JSON value per frame, behind its length.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use imgforge_oci::{Compression, DiffId, Digest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ids::Ids;
use crate::{Joined, Limit};

/// Bytes of a frame at most. The largest names a few hundred layers.
const MAX_FRAME: u32 = 16 << 20;

/// What a supervisor is started for. Paths are relative to the store, which is its working folder.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) ids: Ids,
    pub(crate) task: Task,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Unpacks the layer that comes on descriptor 1 into `folder`/root.
    Unpack { folder: String, compression: Compression },
    /// Removes a folder with all that is in it.
    Remove { folder: String },
    /// Runs a command.
    Run(Box<Run>),
}

/// One command in one root filesystem.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Unpacked layers, the lowest first.
    pub(crate) layers: Vec<String>,
    /// The folder with `upper`, `work` and `root`.
    pub(crate) scratch: String,
    pub(crate) join: Join,
    /// Whether `upper` has a copy of the layers already.
    pub(crate) is_copied: bool,
    pub(crate) arguments: Vec<String>,
    /// The whole of it.
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) folder: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) has_network: bool,
    /// Whether descriptor 1 is a terminal, for all three of the command's.
    pub(crate) is_interactive: bool,
    pub(crate) limits: Bounds,
    pub(crate) outputs: Wanted,
}

/// How layers are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Join {
    /// With overlayfs where that can be had.
    Any,
    /// By copying, whatever can be had.
    Copy,
}

/// [`Limits`](crate::Limits) in plain numbers: bytes and milliseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Bounds {
    pub(crate) memory: Option<u64>,
    pub(crate) processes: u32,
    pub(crate) file_size: Option<u64>,
    pub(crate) disk: Option<u64>,
    pub(crate) tmp: u64,
    pub(crate) shm: u64,
    pub(crate) time: Option<u64>,
}

/// What is to be collected in the end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Wanted {
    Nothing,
    /// These, without a leading slash.
    Paths(Vec<String>),
    Difference,
}

/// What comes back. A supervisor that is gone without a word died.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Failed(Failure),
    Unpacked(Unpacked),
    Removed,
    /// One of the outputs; these come before [`Report::Ran`].
    Output(Output),
    Ran(Ran),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Unpacked {
    /// Of what was read; an error's text when it was no sound tar.
    pub(crate) diff_id: DiffId,
    pub(crate) tree: Tree,
    /// Bytes on the disk, about.
    pub(crate) size: u64,
}

/// What the store's record of an unpacked layer says.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tree {
    /// Whether it hides all layers below it.
    pub(crate) is_opaque: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ran {
    pub(crate) exit: Exited,
    pub(crate) limit: Option<Limit>,
    /// Processes that were still there when the command had ended.
    pub(crate) left_behind: u32,
    pub(crate) joined: Joined,
}

/// One entry of the outputs. Contents are in the scratch folder's `outputs`, one behind the other.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Output {
    /// Without a leading slash.
    pub(crate) path: String,
    pub(crate) kind: OutputKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum OutputKind {
    Folder,
    File {
        offset: u64,
        len: u64,
        sha256: Digest,
    },
    /// To this target, whatever that is.
    Link(String),
    /// Another name of a file that was reported before.
    Same(String),
    /// Something of the layers is gone.
    Removed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Exited {
    Code(i32),
    Signal(i32),
}

/// Why something could not be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// What was being done, as it fits behind "can't".
    pub(crate) step: String,
    /// The system's error number.
    pub(crate) errno: Option<i32>,
    /// What the error says, where there is no number.
    pub(crate) detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FailureKind {
    /// The host does not let us have a part of the sandbox.
    Denied,
    /// Anything else of making a sandbox.
    Setup,
    /// The command is not there, or is none.
    Command,
    /// A layer is not what it should be.
    Layer,
    /// An output can't be taken.
    Output,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, step: impl Into<String>, error: &io::Error) -> Self {
        Self { kind, step: step.into(), errno: error.raw_os_error(), detail: error.to_string() }
    }

    /// The system's error.
    pub(crate) fn source(&self) -> io::Error {
        match self.errno {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::other(self.detail.clone()),
        }
    }
}

/// Says what was being done when something failed.
pub(crate) trait During<T> {
    /// For what may fail on any host.
    fn during(self, step: &str) -> Result<T, Failure>;
    /// For what hosts may not allow.
    fn allowed(self, step: &str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, step: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(FailureKind::Setup, step, &error.into()))
    }

    fn allowed(self, step: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(FailureKind::Denied, step, &error.into()))
    }
}

/// Writes one frame.
pub(crate) fn send(mut to: impl Write, value: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(value)?;
    let len = u32::try_from(body.len()).ok().filter(|len| *len <= MAX_FRAME);
    let len = len.ok_or_else(|| io::Error::other("a message of more than 16 MiB"))?;
    to.write_all(&[&len.to_le_bytes(), body.as_slice()].concat())
}

/// Reads one frame; none at the end of the stream.
pub(crate) fn receive<T: DeserializeOwned>(mut from: impl Read) -> io::Result<Option<T>> {
    let mut len = Vec::with_capacity(4);
    from.by_ref().take(4).read_to_end(&mut len)?;
    let len = match <[u8; 4]>::try_from(len.as_slice()) {
        Ok(len) => u32::from_le_bytes(len),
        Err(_) if len.is_empty() => return Ok(None),
        Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
    };
    if len > MAX_FRAME {
        return Err(io::Error::other("a message of more than 16 MiB"));
    }
    let mut body = Vec::new();
    from.take(len.into()).read_to_end(&mut body)?;
    if body.len() as u64 != u64::from(len) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(serde_json::from_slice(&body)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut bytes = Vec::new();
        send(&mut bytes, &"one").unwrap();
        send(&mut bytes, &"").unwrap();
        let mut reader = bytes.as_slice();
        assert_eq!(receive(&mut reader).unwrap(), Some("one".to_owned()));
        assert_eq!(receive(&mut reader).unwrap(), Some(String::new()));
        assert_eq!(receive::<String>(&mut reader).unwrap(), None);
    }

    #[test]
    fn torn_frames_are_errors() {
        let mut bytes = Vec::new();
        send(&mut bytes, &"one").unwrap();
        for len in 1..bytes.len() {
            assert!(receive::<String>(&bytes[..len]).is_err(), "{len}");
        }
        assert!(receive::<String>(&[0xff; 8][..]).is_err());
        assert!(receive::<u8>(bytes.as_slice()).is_err());
    }
}
