//! From a tree to a layer's bytes: the only writer of layers.
//!
//! One walk over the tree gives two streams: the tar stream, which is hashed for the diff ID and never stored as such,
//! and the compressed stream, which is hashed for the digest and written out. Nothing writes either stream a second
//! time, so the two hashes can't disagree about what the layer holds.
//!
//! A large layer is made by three threads: this one reads and inflates, one hashes the tar stream (and each file's own
//! bytes against its RECORD line), one hashes and writes the compressed stream. What waits between them is bounded in
//! bytes, so memory does not grow with a file.

mod queue;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Scope;

use imgforge_oci::{DiffId, Digest, Hasher};
use rayon::prelude::*;

use crate::codec::{Codec, FRAME, GZIP_LEVEL, ZSTD_LEVEL};
use crate::deflate::{GZIP_HEADER, STORED_MAX, gzip_member, gzip_trailer, stored_header};
use crate::inflate::{InflateError, StreamInflater, WHOLE_MAX, WholeInflater};
use crate::pair::PairHasher;
use crate::source::Source;
use crate::tar;
use crate::tree::{Content, File, Kind, Tree, TreeError, TreePath};
use queue::{Held, Sender, queue};

/// What came out of writing a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Of the compressed bytes.
    pub digest: Digest,
    /// Bytes, compressed.
    pub size: u64,
    /// Of the tar stream.
    pub diff_id: DiffId,
    /// Bytes of the tar stream.
    pub tar_size: u64,
}

/// Why a layer could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// An archive or a host file could not be read.
    #[error("{path}: can't be read")]
    Read {
        /// The entry's path in the image.
        path: TreePath,
        /// The system's error, which names the file.
        source: io::Error,
    },
    /// A file's DEFLATE stream is not what the archive's directory says.
    #[error("{path} in {archive}")]
    Inflate {
        /// The entry's path in the image.
        path: TreePath,
        /// The archive's path.
        archive: String,
        /// What is wrong.
        source: InflateError,
    },
    /// A file's CRC-32 is not the archive's.
    #[error("{path} in {archive}: CRC-32 is {actual:08x}, the archive's directory says {expected:08x}")]
    Crc {
        /// The entry's path in the image.
        path: TreePath,
        /// The archive's path.
        archive: String,
        /// The directory's.
        expected: u32,
        /// The bytes'.
        actual: u32,
    },
    /// A file's hash is not what RECORD (or the plan) says.
    #[error("{path}: the content is {actual}, its record says {expected}")]
    Content {
        /// The entry's path in the image.
        path: TreePath,
        /// The record's.
        expected: Digest,
        /// The bytes'.
        actual: Digest,
    },
    /// A host file is not what it was when it was hashed.
    #[error(
        "{file} is not what it was when it was hashed; run the build again, after `touch {file}` if nobody has written to \
         it just now"
    )]
    Changed {
        /// The host file.
        file: String,
    },
    /// The tree can't be a tar stream.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The layer could not be written out.
    #[error("can't write the layer")]
    Output(#[source] io::Error),
    /// A codec's library refused.
    #[error("can't compress the layer")]
    Compress(#[source] io::Error),
}

/// Writes a tree as a layer to `out` and returns both digests.
///
/// `epoch` is the modification time of every entry, in seconds since 1970. The bytes depend on the tree, the codec and
/// the epoch alone.
///
/// # Errors
/// [`WriteError`], by what failed; `out` then holds an unusable beginning.
pub fn write_layer(
    tree: &Tree,
    codec: Codec,
    epoch: u64,
    out: &mut (dyn Write + Send),
) -> Result<Written, WriteError> {
    std::thread::scope(|scope| {
        let threads = tree.content_len() >= THREADS_FROM;
        let _share = Share::take();
        let mut writer = Writer {
            plain: Plain::start(scope, threads),
            blob: Blob::start(scope, out, threads),
            codec,
            pending: Vec::new(),
            whole: None,
        };
        let result = writer.tree(tree, epoch);
        let Writer { plain, blob, .. } = writer;
        // The error of a hashing or writing thread is the cause of the error that the walk then saw.
        let (diff_id, tar_size) = plain.finish()?;
        let (digest, size) = blob.finish()?;
        result?;
        Ok(Written { digest, size, diff_id, tar_size })
    })
}

/// Layers that are being written. They share rayon's threads, and so the memory for frames that wait for one: without
/// this, each layer would take as many frames as there are threads, and there are as many layers.
static WRITERS: AtomicUsize = AtomicUsize::new(0);

struct Share;

impl Share {
    fn take() -> Self {
        WRITERS.fetch_add(1, Ordering::Relaxed);
        Self
    }

    /// Frames that one layer may have waiting. It decides no byte: frames are the same however many wait.
    fn frames() -> usize {
        (rayon::current_num_threads() / WRITERS.load(Ordering::Relaxed).max(1)).max(1)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        WRITERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Below this many bytes of content, starting threads costs more than it gains.
const THREADS_FROM: u64 = 4 << 20;

/// Bytes that are read, inflated and handed on at a time.
const PIECE: usize = 256 << 10;

/// Pieces that wait between two threads; many, because a small file is five of them.
const QUEUE: usize = 256;

/// Bytes that wait between two threads, those that are being hashed included. One of the largest files that are inflated
/// whole has room; the next is inflated meanwhile. A layer so takes at most four times [`WHOLE_MAX`].
const QUEUE_BYTES: usize = WHOLE_MAX as usize;

struct Writer<'scope> {
    plain: Plain<'scope>,
    blob: Blob<'scope>,
    codec: Codec,
    /// Tar stream that is not compressed yet: frames for the codecs that compress anew, glue for [`Codec::GzipCopy`].
    pending: Vec<u8>,
    whole: Option<WholeInflater>,
}

impl Writer<'_> {
    fn tree(&mut self, tree: &Tree, epoch: u64) -> Result<(), WriteError> {
        let mut header = Vec::new();
        for (path, entry) in tree.stream()? {
            header.clear();
            tar::write_header(&mut header, path, &entry, epoch);
            self.glue(&header)?;
            if let Kind::File(file) = &entry.kind {
                self.plain.begin_file(path, file)?;
                self.content(path, &file.content)?;
                self.plain.end_file()?;
                self.glue(&[0; tar::BLOCK][..tar::padding(file.content.len())])?;
            }
        }
        self.glue(&tar::END)?;
        self.flush()
    }

    /// Bytes of the tar stream that imgforge itself makes.
    fn glue(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.plain.send(bytes.into())?;
        self.pending.extend_from_slice(bytes);
        self.compress_full_frames()
    }

    fn content(&mut self, path: &TreePath, content: &Content) -> Result<(), WriteError> {
        match content {
            Content::Bytes(bytes) => {
                for piece in bytes.chunks(PIECE) {
                    self.anew(piece.into())?;
                }
                Ok(())
            }
            Content::Range { source, offset, len, crc32 } => self.range(path, source, *offset, *len, *crc32),
            Content::Deflated { source, offset, compressed_len, len, crc32 } => {
                let zip =
                    Deflated { path, source, offset: *offset, compressed_len: *compressed_len, len: *len };
                self.deflated(&zip, *crc32)
            }
            Content::Spliced(spliced) => spliced.pieces().try_for_each(|piece| {
                self.anew(piece.map_err(|source| WriteError::Read { path: path.clone(), source })?)
            }),
            Content::Host { path: file, len } => {
                let read = |source| WriteError::Read { path: path.clone(), source };
                let source = Source::open(file).map_err(read)?;
                if source.len() != *len {
                    return Err(WriteError::Changed { file: file.display().to_string() });
                }
                self.range(path, &source, 0, *len, None)
            }
        }
    }

    /// Content that is to be compressed by the codec.
    fn anew(&mut self, bytes: Vec<u8>) -> Result<(), WriteError> {
        self.pending.extend_from_slice(&bytes);
        self.plain.send(bytes)?;
        self.compress_full_frames()
    }

    fn range(
        &mut self,
        path: &TreePath,
        source: &Source,
        offset: u64,
        len: u64,
        crc32: Option<u32>,
    ) -> Result<(), WriteError> {
        // A stored zip entry is as compressed as its author wanted it: it is copied as stored blocks.
        let copy = self.codec == Codec::GzipCopy && crc32.is_some() && len > 0;
        if copy {
            self.flush()?;
            self.blob.send(GZIP_HEADER.to_vec())?;
        }
        let mut crc = crc32fast::Hasher::new();
        pieces(path, source, offset, len, |piece, last| {
            crc.update(&piece);
            if !copy {
                return self.anew(piece);
            }
            let blocks = piece.chunks(STORED_MAX);
            let final_block = blocks.len() - 1;
            let mut stored = Vec::with_capacity(piece.len() + 5 * blocks.len());
            for (number, block) in blocks.enumerate() {
                stored.extend_from_slice(&stored_header(block.len() as u16, last && number == final_block));
                stored.extend_from_slice(block);
            }
            self.blob.send(stored)?;
            self.plain.send(piece)
        })?;
        let actual = crc.finalize();
        check_crc(path, source, crc32.unwrap_or(actual), actual)?;
        if copy {
            self.blob.send(gzip_trailer(actual, len).to_vec())?;
        }
        Ok(())
    }

    fn deflated(&mut self, zip: &Deflated<'_>, expected: u32) -> Result<(), WriteError> {
        // A stream that holds nothing would be a member that holds nothing.
        let copy = self.codec == Codec::GzipCopy && zip.len > 0;
        if copy {
            self.flush()?;
            self.blob.send(GZIP_HEADER.to_vec())?;
        }
        let inflate_error = |source| WriteError::Inflate {
            path: zip.path.clone(),
            archive: zip.source.path().display().to_string(),
            source,
        };
        let mut crc = crc32fast::Hasher::new();
        if zip.len <= WHOLE_MAX && zip.compressed_len <= WHOLE_MAX {
            let stream = zip
                .source
                .read(zip.offset, zip.compressed_len as usize)
                .map_err(|source| WriteError::Read { path: zip.path.clone(), source })?;
            let inflater = match &mut self.whole {
                Some(inflater) => inflater,
                none => none.insert(
                    WholeInflater::new()
                        .ok_or_else(|| WriteError::Compress(io::ErrorKind::OutOfMemory.into()))?,
                ),
            };
            let plain = inflater.inflate(&stream, zip.len as usize).map_err(inflate_error)?;
            crc.update(&plain);
            if copy {
                self.blob.send(stream)?;
                self.plain.send(plain)?;
            } else {
                self.anew(plain)?;
            }
        } else {
            let mut inflater = StreamInflater::new(zip.len, PIECE);
            let error = |error| match error {
                Streaming::Inflate(source) => inflate_error(source),
                Streaming::Write(error) => error,
            };
            pieces(zip.path, zip.source, zip.offset, zip.compressed_len, |piece, _| {
                let mut emit = |plain: Vec<u8>| {
                    crc.update(&plain);
                    if copy { self.plain.send(plain) } else { self.anew(plain) }.map_err(Streaming::Write)
                };
                inflater.push(&piece, &mut emit).map_err(error)?;
                if copy { self.blob.send(piece) } else { Ok(()) }
            })?;
            let mut emit = |plain: Vec<u8>| {
                crc.update(&plain);
                if copy { self.plain.send(plain) } else { self.anew(plain) }.map_err(Streaming::Write)
            };
            inflater.finish(&mut emit).map_err(error)?;
        }
        let actual = crc.finalize();
        check_crc(zip.path, zip.source, expected, actual)?;
        if copy {
            self.blob.send(gzip_trailer(actual, zip.len).to_vec())?;
        }
        Ok(())
    }

    /// Compresses all that is pending: whole frames, and what is left as a shorter one.
    fn flush(&mut self) -> Result<(), WriteError> {
        self.compress_frames(FRAME)?;
        if self.pending.is_empty() {
            return Ok(());
        }
        let frame = compress(self.codec, &self.pending).map_err(WriteError::Compress)?;
        self.pending.clear();
        self.blob.send(frame)
    }

    /// Compresses whole frames, as many at a time as there are threads for this layer.
    fn compress_full_frames(&mut self) -> Result<(), WriteError> {
        let batch = match self.codec {
            Codec::Gzip | Codec::Zstd => FRAME * Share::frames(),
            Codec::GzipCopy | Codec::None => FRAME,
        };
        self.compress_frames(batch)
    }

    /// Compresses the whole frames that are pending, if they are as many bytes as this.
    fn compress_frames(&mut self, at_least: usize) -> Result<(), WriteError> {
        if self.pending.len() < at_least {
            return Ok(());
        }
        let whole = self.pending.len() / FRAME * FRAME;
        let frames: Vec<_> = self
            .pending
            .par_chunks(FRAME)
            .take(whole / FRAME)
            .map(|frame| compress(self.codec, frame))
            .collect::<Result<_, _>>()
            .map_err(WriteError::Compress)?;
        self.pending.drain(..whole);
        frames.into_iter().try_for_each(|frame| self.blob.send(frame))
    }
}

struct Deflated<'a> {
    path: &'a TreePath,
    source: &'a Source,
    offset: u64,
    compressed_len: u64,
    len: u64,
}

/// What can go wrong in the middle of a stream: the stream, or the layer that it goes into.
enum Streaming {
    Inflate(InflateError),
    Write(WriteError),
}

impl From<InflateError> for Streaming {
    fn from(error: InflateError) -> Self {
        Self::Inflate(error)
    }
}

fn check_crc(path: &TreePath, source: &Source, expected: u32, actual: u32) -> Result<(), WriteError> {
    if expected == actual {
        return Ok(());
    }
    let archive = source.path().display().to_string();
    Err(WriteError::Crc { path: path.clone(), archive, expected, actual })
}

/// Reads a range in pieces; the flag says whether a piece is the last.
fn pieces(
    path: &TreePath,
    source: &Source,
    offset: u64,
    len: u64,
    mut each: impl FnMut(Vec<u8>, bool) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let mut at = 0;
    while at < len {
        let piece = source
            .read(offset + at, (len - at).min(PIECE as u64) as usize)
            .map_err(|source| WriteError::Read { path: path.clone(), source })?;
        at += piece.len() as u64;
        each(piece, at == len)?;
    }
    Ok(())
}

/// Compresses one frame by itself.
fn compress(codec: Codec, frame: &[u8]) -> io::Result<Vec<u8>> {
    match codec {
        Codec::GzipCopy => {
            let mut member = Vec::new();
            gzip_member(frame, &mut member);
            Ok(member)
        }
        Codec::Gzip => {
            let mut encoder = flate2::GzBuilder::new()
                .mtime(0)
                .operating_system(255)
                .write(Vec::new(), flate2::Compression::new(GZIP_LEVEL));
            encoder.write_all(frame)?;
            encoder.finish()
        }
        Codec::Zstd => {
            let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
            compressor.include_checksum(true)?;
            compressor.compress(frame)
        }
        Codec::None => Ok(frame.to_vec()),
    }
}

/// The tar stream's end: hashed as a whole and file by file.
enum Plain<'scope> {
    Here(PlainState),
    There {
        sender: Sender<PlainMessage>,
        thread: std::thread::ScopedJoinHandle<'scope, Result<PlainState, WriteError>>,
    },
}

enum PlainMessage {
    Bytes(Vec<u8>),
    BeginFile(Arc<Expected>),
    EndFile,
}

/// What a file must hash to.
struct Expected {
    path: TreePath,
    sha256: Digest,
    /// Its path on the host, if it comes from there.
    host: Option<String>,
}

#[derive(Default)]
struct PlainState {
    hasher: PairHasher,
    file: Option<Arc<Expected>>,
}

impl PlainState {
    fn take(&mut self, message: PlainMessage) -> Result<(), WriteError> {
        match message {
            PlainMessage::Bytes(bytes) => self.hasher.update(&bytes),
            PlainMessage::BeginFile(file) => {
                self.hasher.begin();
                self.file = Some(file);
            }
            PlainMessage::EndFile => {
                if let (Some(file), Some(actual)) = (self.file.take(), self.hasher.end()) {
                    let Expected { path, sha256: expected, host } = &*file;
                    if actual != *expected {
                        return Err(match host {
                            Some(file) => WriteError::Changed { file: file.clone() },
                            None => WriteError::Content { path: path.clone(), expected: *expected, actual },
                        });
                    }
                }
            }
        }
        Ok(())
    }
}

impl<'scope> Plain<'scope> {
    fn start(scope: &'scope Scope<'scope, '_>, threads: bool) -> Self {
        if !threads {
            return Self::Here(PlainState::default());
        }
        let (sender, receiver) = queue(QUEUE, QUEUE_BYTES);
        let thread = scope.spawn(move || {
            let mut state = PlainState::default();
            for Held { message, permit } in receiver {
                state.take(message)?;
                drop(permit);
            }
            Ok(state)
        });
        Self::There { sender, thread }
    }

    fn message(&mut self, message: PlainMessage) -> Result<(), WriteError> {
        match self {
            Self::Here(state) => state.take(message),
            Self::There { sender, .. } => {
                let len = match &message {
                    PlainMessage::Bytes(bytes) => bytes.len(),
                    PlainMessage::BeginFile(_) | PlainMessage::EndFile => 0,
                };
                sender.send(message, len).map_err(stopped)
            }
        }
    }

    fn send(&mut self, bytes: Vec<u8>) -> Result<(), WriteError> {
        self.message(PlainMessage::Bytes(bytes))
    }

    fn begin_file(&mut self, path: &TreePath, file: &File) -> Result<(), WriteError> {
        let Some(sha256) = file.sha256 else { return Ok(()) };
        let host = match &file.content {
            Content::Host { path, .. } => Some(path.display().to_string()),
            _ => None,
        };
        self.message(PlainMessage::BeginFile(Arc::new(Expected { path: path.clone(), sha256, host })))
    }

    fn end_file(&mut self) -> Result<(), WriteError> {
        self.message(PlainMessage::EndFile)
    }

    fn finish(self) -> Result<(DiffId, u64), WriteError> {
        let state = match self {
            Self::Here(state) => state,
            Self::There { sender, thread } => {
                drop(sender);
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?
            }
        };
        let (digest, len) = state.hasher.finish();
        Ok((DiffId(digest), len))
    }
}

/// The compressed stream's end: hashed and written out.
enum Blob<'scope> {
    Here(BlobState<'scope>),
    There {
        sender: Sender<Vec<u8>>,
        thread: std::thread::ScopedJoinHandle<'scope, Result<BlobState<'scope>, WriteError>>,
    },
}

struct BlobState<'scope> {
    hasher: Hasher,
    out: &'scope mut (dyn Write + Send),
}

impl BlobState<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.hasher.update(bytes);
        self.out.write_all(bytes).map_err(WriteError::Output)
    }
}

impl<'scope> Blob<'scope> {
    fn start(scope: &'scope Scope<'scope, '_>, out: &'scope mut (dyn Write + Send), threads: bool) -> Self {
        let mut state = BlobState { hasher: Hasher::new(), out };
        if !threads {
            return Self::Here(state);
        }
        let (sender, receiver) = queue::<Vec<u8>>(QUEUE, QUEUE_BYTES);
        let thread = scope.spawn(move || {
            for Held { message, permit } in receiver {
                state.take(&message)?;
                drop((message, permit));
            }
            Ok(state)
        });
        Self::There { sender, thread }
    }

    fn send(&mut self, bytes: Vec<u8>) -> Result<(), WriteError> {
        match self {
            Self::Here(state) => state.take(&bytes),
            Self::There { sender, .. } => {
                let len = bytes.len();
                sender.send(bytes, len).map_err(stopped)
            }
        }
    }

    fn finish(self) -> Result<(Digest, u64), WriteError> {
        let state = match self {
            Self::Here(state) => state,
            Self::There { sender, thread } => {
                drop(sender);
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?
            }
        };
        state.out.flush().map_err(WriteError::Output)?;
        let size = state.hasher.len();
        Ok((state.hasher.finish(), size))
    }
}

/// The other thread has stopped; its own error is reported in this one's place.
fn stopped(_: queue::Gone) -> WriteError {
    WriteError::Output(io::ErrorKind::BrokenPipe.into())
}
