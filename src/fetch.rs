//! Fetching: from a digest and the places where its bytes may be, to a verified blob in the store.
//!
//! One of two that open a connection; the other is the registry's client, `imgforge-registry`. It trusts nobody:
//! whatever a vendor folder, a mirror, a proxy or the original host sends is compared with the locked digest before it
//! gets its name in the store. That is why any number of sources can be tried, the nearest first, and why a download may
//! go on from one source where another broke off:
//!
//! 1. the store itself,
//! 2. vendor folders, by file name,
//! 3. paths and `file://` URLs of the request,
//! 4. mirrors, by digest or file name,
//! 5. URLs of the request.
//!
//! Interrupted downloads stay in the store ([`imgforge_store::Partial`]) and are resumed by range requests, within a
//! run and between runs. Two processes that want the same blob fetch it once: the second waits for the partial.
//!
//! Whoever shares a flag with [`Fetcher::fetch_all_until`]`(&self, stop: &AtomicBool, store, requests, on_event)` can
//! stop it: when layers are made beside the transfers and one fails, no more bytes are waited for. It stops between two
//! reads and keeps what came. What is not cut short is the wait for a silent host, which its patience ends, and the
//! wait for another process's download.
//!
//! Connections are blocking, on a small pool of threads: the parallelism needed is a dozen transfers, which are bound
//! by the network. The reading of the environment is left to the caller (credentials are given as values), except for what
//! the TLS and HTTP libraries read themselves: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, and
//! `SSL_CERT_FILE` and `SSL_CERT_DIR`, which replace the system's certificates.

mod credentials;
mod error;
mod md5;
mod mirror;
mod transfer;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use imgforge_http as http;
use imgforge_http::{Halt, redacted};
use imgforge_oci::Digest;
use imgforge_store::{Finished, Partial, Store};
use reqwest::{Client, ClientBuilder, Url};

pub use credentials::{Credentials, CredentialsError};
pub use error::{Attempt, FetchError, Reason};
pub use imgforge_http::Patience;
pub use mirror::{Mirror, MirrorError};

use transfer::Connections;

/// One artifact to fetch.
#[derive(Clone, Debug)]
pub struct Request {
    /// The package's name, as mirrors are asked for it: `numpy`.
    pub name: String,
    /// What people call it: `numpy 2.1.0`.
    pub title: String,
    /// The file name, as vendor folders and mirrors have it.
    pub file: String,
    /// The SHA-256 of its bytes.
    pub digest: Digest,
    /// Their number, where the lock says it.
    pub size: Option<u64>,
    /// Where the digest was read: `uv.lock, package 31`.
    pub locked_in: String,
    /// The command that locks this package anew, for the hint: `uv lock --upgrade-package numpy`.
    pub relock: Option<String>,
    /// Where the bytes are said to be, best first.
    pub sources: Vec<Source>,
}

/// A place where an artifact may be.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// An `http`, `https` or `file` URL; it may contain credentials.
    Url(String),
    /// A file.
    Path(PathBuf),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => write!(f, "Url({})", redacted(url)),
            Self::Path(path) => write!(f, "Path({})", path.display()),
        }
    }
}

/// How to fetch.
#[derive(Clone, Debug, Default)]
pub struct FetchSettings {
    /// Whether hosts are left alone: only the store, vendor folders, paths and `file://` are used.
    pub offline: bool,
    /// Transfers at a time; zero stands for twelve.
    pub jobs: usize,
    /// Folders that hold artifacts by file name.
    pub vendor: Vec<PathBuf>,
    /// Mirrors, best first.
    pub mirrors: Vec<Mirror>,
    /// For hosts that want to know who asks.
    pub credentials: Credentials,
    /// When to give up.
    pub patience: Patience,
}

/// What happens to a request, for whoever shows it.
#[derive(Debug)]
pub enum Event<'a> {
    /// Somebody else fetches the same blob, and is waited for.
    Waiting,
    /// A transfer begins, with so many bytes there from an earlier one.
    Started {
        /// Those bytes.
        have: u64,
    },
    /// So many bytes more have come.
    Bytes(u64),
    /// All that came is void; the transfer begins at zero.
    Restarted,
    /// An attempt failed; there will be another one.
    Retry {
        /// After this time.
        wait: Duration,
        /// Why it failed.
        reason: &'a imgforge_http::Reason,
    },
    /// A source was given up; the next one is tried.
    Rejected(&'a Attempt),
    /// The blob is in the store.
    Finished,
}

/// Called with each event, from many threads.
pub type OnEvent<'a> = &'a (dyn Fn(&Request, Event<'_>) + Sync);

/// Fetches, with one pool of connections.
#[derive(Debug)]
pub struct Fetcher {
    connections: Connections,
    settings: FetchSettings,
    /// Mirrors, by position, that could not be reached: they are not waited for once per artifact.
    dead_mirrors: Mutex<HashSet<usize>>,
}

/// Transfers at a time unless somebody says otherwise.
const JOBS: usize = 12;

impl Fetcher {
    /// Prepares the connections; opens none.
    ///
    /// # Errors
    /// [`FetchError::Client`] when the TLS library finds no certificates to trust.
    pub fn new(settings: FetchSettings) -> Result<Self, FetchError> {
        Self::with_client(settings, Client::builder())
    }

    fn with_client(settings: FetchSettings, client: ClientBuilder) -> Result<Self, FetchError> {
        let connections = Connections::new(client, settings.credentials.clone(), settings.patience)?;
        Ok(Self { connections, settings, dead_mirrors: Mutex::default() })
    }

    /// Fetches many artifacts at a time, in about the order given. After a failure no more are begun, and those
    /// under way stop where they are, to be resumed another time.
    ///
    /// # Errors
    /// The failure of the first request, in their order, that failed.
    pub fn fetch_all(
        &self,
        store: &Store,
        requests: &[Request],
        on_event: OnEvent<'_>,
    ) -> Result<(), FetchError> {
        self.fetch_all_until(&AtomicBool::new(false), store, requests, on_event)
    }

    /// Fetches as [`fetch_all`](Self::fetch_all) does, until all is there or somebody sets `stop`. A failure sets it
    /// too, for whoever else looks at it.
    ///
    /// # Errors
    /// The failure of the first request, in their order, that failed; [`FetchError::Stopped`] when none did, and some
    /// were left.
    pub fn fetch_all_until(
        &self,
        stop: &AtomicBool,
        store: &Store,
        requests: &[Request],
        on_event: OnEvent<'_>,
    ) -> Result<(), FetchError> {
        let jobs = if self.settings.jobs == 0 { JOBS } else { self.settings.jobs };
        let is_stopped = |error: &FetchError| matches!(error, FetchError::Stopped { .. });
        imgforge_http::in_parallel(jobs, stop, requests, is_stopped, |request| {
            self.fetch_unless(stop, store, request, on_event)
        })?;
        store.sync()?;
        Ok(())
    }

    /// Fetches one artifact, on this thread. [`Store::sync`] is left to the caller.
    ///
    /// # Errors
    /// [`FetchError::Failed`] with the reason of each source, or [`FetchError::Store`].
    pub fn fetch(&self, store: &Store, request: &Request, on_event: OnEvent<'_>) -> Result<(), FetchError> {
        self.fetch_unless(&AtomicBool::new(false), store, request, on_event)
    }

    /// Reads a small file at a URL into memory: an index of packages, a signature.
    ///
    /// # Errors
    /// [`FetchError::Get`] with the reason; [`Reason::TooLong`] for more than `limit` bytes.
    pub fn get(&self, url: &str, limit: u64) -> Result<Vec<u8>, FetchError> {
        let failed = |reason| FetchError::Get { url: redacted(url), reason };
        let parsed = Url::parse(url).map_err(|error| failed(http::Reason::Url(error.to_string()).into()))?;
        if parsed.scheme() == "file" {
            let path = parsed
                .to_file_path()
                .map_err(|()| failed(http::Reason::Url("not a path".to_owned()).into()))?;
            return read_file(&path, limit).map_err(failed);
        }
        if self.settings.offline {
            return Err(failed(Reason::Offline));
        }
        self.connections.get(&parsed, limit).map_err(|reason| failed(reason.into()))
    }

    fn fetch_unless(
        &self,
        stop: &AtomicBool,
        store: &Store,
        request: &Request,
        on_event: OnEvent<'_>,
    ) -> Result<(), FetchError> {
        let stopped = || Err(FetchError::Stopped { title: request.title.clone() });
        if stop.load(Ordering::Relaxed) {
            return stopped();
        }
        let partial = store.partial(&request.digest, || on_event(request, Event::Waiting))?;
        let Some(mut partial) = partial else {
            on_event(request, Event::Finished);
            return Ok(());
        };
        on_event(request, Event::Started { have: partial.len() });
        let mut attempts = Vec::new();
        for place in self.places(request) {
            if stop.load(Ordering::Relaxed) {
                return stopped();
            }
            let is_file = matches!(place, Place::Path(_));
            let (source, outcome) = match place {
                Place::Path(path) => {
                    (path.display().to_string(), self.copy(stop, partial, &path, request, on_event)?)
                }
                Place::Url { url, mirror } => {
                    let outcome = self.download(stop, partial, &url, mirror, request, on_event)?;
                    (redacted(url.as_str()), outcome)
                }
                Place::Broken { text, reason } => (text, Outcome::Rejected { partial, reason }),
            };
            match outcome {
                Outcome::Stored => {
                    on_event(request, Event::Finished);
                    return Ok(());
                }
                Outcome::Rejected { partial: rest, reason } => {
                    partial = rest;
                    let attempt = Attempt { source, is_file, reason };
                    on_event(request, Event::Rejected(&attempt));
                    attempts.push(attempt);
                }
            }
        }
        Err(FetchError::Failed { request: Box::new(request.clone()), attempts })
    }

    /// Where to look, in order.
    fn places(&self, request: &Request) -> Vec<Place> {
        let mut near = Vec::new();
        let mut far = Vec::new();
        // A name with a folder in it would leave the vendor folder.
        let is_plain = !matches!(request.file.as_str(), "" | "." | "..") && !request.file.contains('/');
        for folder in self.settings.vendor.iter().filter(|_| is_plain) {
            let path = folder.join(&request.file);
            // Most artifacts are in none of them; that needs no mention.
            if path.exists() {
                near.push(Place::Path(path));
            }
        }
        for (index, mirror) in self.settings.mirrors.iter().enumerate() {
            match mirror.place(request) {
                Place::Url { url, .. } => far.push(Place::Url { url, mirror: Some(index) }),
                Place::Path(path) if !path.exists() => {}
                place => near.push(place),
            }
        }
        for source in &request.sources {
            match source {
                Source::Path(path) => near.push(Place::Path(path.clone())),
                Source::Url(text) => match Place::parse(text) {
                    place @ Place::Path(_) => near.push(place),
                    place => far.push(place),
                },
            }
        }
        near.extend(far);
        near
    }

    fn copy(
        &self,
        stop: &AtomicBool,
        mut partial: Partial,
        path: &Path,
        request: &Request,
        on_event: OnEvent<'_>,
    ) -> Result<Outcome, FetchError> {
        let mut file = match File::open(path).and_then(|file| Ok((file.metadata()?, file))) {
            Ok((metadata, file)) if metadata.is_file() => {
                if let Some(expected) = request.size.filter(|size| *size != metadata.len()) {
                    let reason = Reason::Size { expected, received: metadata.len() };
                    return Ok(Outcome::Rejected { partial, reason });
                }
                file
            }
            Ok(_) => return Ok(Outcome::Rejected { partial, reason: Reason::NotAFile }),
            Err(error) => return Ok(Outcome::Rejected { partial, reason: Reason::File(error.to_string()) }),
        };
        if partial.len() > 0 {
            partial.restart()?;
            on_event(request, Event::Restarted);
        }
        let mut buffer = vec![0; 1 << 20];
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(FetchError::Stopped { title: request.title.clone() });
            }
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    partial.append(buffer.get(..count).unwrap_or(&buffer))?;
                    on_event(request, Event::Bytes(count as u64));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let reason = Reason::File(error.to_string());
                    return Ok(Outcome::Rejected { partial, reason });
                }
            }
        }
        finish(partial, request, on_event)
    }

    fn download(
        &self,
        stop: &AtomicBool,
        partial: Partial,
        url: &Url,
        mirror: Option<usize>,
        request: &Request,
        on_event: OnEvent<'_>,
    ) -> Result<Outcome, FetchError> {
        if self.settings.offline {
            return Ok(Outcome::Rejected { partial, reason: Reason::Offline });
        }
        let dead = || self.dead_mirrors.lock().unwrap_or_else(|error| error.into_inner());
        if mirror.is_some_and(|index| dead().contains(&index)) {
            return Ok(Outcome::Rejected { partial, reason: Reason::Dead });
        }
        let on_step = |event: http::Event<'_>| on_event(request, event.into());
        match self.connections.download(stop, partial, url, request.size, &on_step) {
            Ok(http::Outcome::Stored) => Ok(Outcome::Stored),
            Ok(http::Outcome::Rejected { partial, reason }) => {
                if let (Some(index), true) = (mirror, reason.is_of_the_host()) {
                    dead().insert(index);
                }
                Ok(Outcome::Rejected { partial, reason: reason.into() })
            }
            Err(Halt::Store(error)) => Err(error.into()),
            Err(Halt::Stopped) => Err(FetchError::Stopped { title: request.title.clone() }),
        }
    }
}

impl<'a> From<http::Event<'a>> for Event<'a> {
    fn from(event: http::Event<'a>) -> Self {
        match event {
            http::Event::Waiting => Self::Waiting,
            http::Event::Started { have } => Self::Started { have },
            http::Event::Bytes(count) => Self::Bytes(count),
            http::Event::Restarted { .. } => Self::Restarted,
            http::Event::Retry { wait, reason } => Self::Retry { wait, reason },
        }
    }
}

/// What a source came to.
enum Outcome {
    Stored,
    Rejected { partial: Partial, reason: Reason },
}

/// A source, understood.
enum Place {
    Path(PathBuf),
    Url { url: Url, mirror: Option<usize> },
    Broken { text: String, reason: Reason },
}

impl Place {
    fn parse(text: &str) -> Self {
        let broken =
            |reason: String| Self::Broken { text: redacted(text), reason: http::Reason::Url(reason).into() };
        match Url::parse(text) {
            Ok(url) if url.scheme() == "file" => match url.to_file_path() {
                Ok(path) => Self::Path(path),
                Err(()) => broken("not a path".to_owned()),
            },
            Ok(url) if matches!(url.scheme(), "http" | "https") => Self::Url { url, mirror: None },
            Ok(url) => broken(format!("can't fetch by `{}`", url.scheme())),
            Err(error) => broken(error.to_string()),
        }
    }
}

fn finish(partial: Partial, request: &Request, on_event: OnEvent<'_>) -> Result<Outcome, FetchError> {
    match partial.finish()? {
        Finished::Stored => Ok(Outcome::Stored),
        Finished::Wrong { partial, received, size } => {
            on_event(request, Event::Restarted);
            Ok(Outcome::Rejected { partial, reason: http::Reason::Mismatch { received, size }.into() })
        }
    }
}

fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, Reason> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| Reason::File(error.to_string()))?;
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| Reason::File(error.to_string()))?;
    if bytes.len() as u64 > limit {
        return Err(http::Reason::TooLong { expected: limit }.into());
    }
    Ok(bytes)
}
