use std::fmt;
use std::future::Future;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Body, Client, ClientBuilder, Method, StatusCode, Url};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::{Halt, Patience, Reason, Trouble, chain};

/// Bytes of a streamed body that are handed over at a time.
const PIECE: usize = 512 << 10;

/// Pieces that are read before the connection wants them.
const AHEAD: usize = 2;

/// Bytes that the system takes off our hands before they are on the line, at most.
const BUFFERED: usize = 8 << 20;

/// Bytes that even a slow line moves while a server may be silent: 140 kB/s, by the usual patience.
const SLOW: f64 = (4 << 20) as f64;

/// Threads that drive connections, at most: what encrypts is busy, what waits is not.
const THREADS: usize = 4;

/// One pool of connections, with one set of certificates that are trusted. Clones share it.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
    driver: Arc<Driver>,
    patience: Patience,
}

/// No connection can be made at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The library or the system has something against it.
    #[error(
        "cannot set up connections: {reason}; is there a file of certificates at SSL_CERT_FILE, or in /etc/ssl?"
    )]
    Library {
        /// Its words.
        reason: String,
    },
    /// Certificates or keys that can't be read.
    #[error("{place}: {reason}")]
    Certificates {
        /// The file or folder, or what it was given as.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A request whose body is in memory, so that it can be sent again.
#[derive(Clone)]
pub struct Request {
    /// What is to be done.
    pub method: Method,
    /// With what.
    pub url: Url,
    /// What is said beside it.
    pub headers: HeaderMap,
    /// What is sent along.
    pub body: Bytes,
    /// How long the answer may take to begin, where that is not [`Patience::silence`].
    pub answer_within: Option<Duration>,
}

/// The head of an answer, and what comes after it.
#[derive(Debug)]
pub struct Response {
    inner: reqwest::Response,
    driver: Arc<Driver>,
    silence: Duration,
}

impl Http {
    /// Prepares the connections; opens none.
    ///
    /// The builder says which certificates are trusted and which proxies are used. Redirects, compression of
    /// transfers and time limits are taken from its hands.
    ///
    /// # Errors
    /// [`SetupError::Library`] when the TLS library finds no certificates to trust.
    pub fn new(builder: ClientBuilder, patience: Patience) -> Result<Self, SetupError> {
        let driver = Driver::new().map_err(|error| SetupError::Library { reason: error.to_string() })?;
        let driver = Arc::new(driver);
        // What is unpacked on its way would not have its digest, and another crate may have turned that on.
        let client = builder
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            .user_agent(concat!("imgforge/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(patience.connect)
            .build()
            .map_err(|error| SetupError::Library { reason: chain(&error) })?;
        Ok(Self { client, driver, patience })
    }

    /// When it gives up.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// Sends one request and waits for the head of the answer, whatever it says.
    ///
    /// # Errors
    /// [`Trouble`] when there is none.
    pub fn send(&self, request: &Request) -> Result<Response, Trouble> {
        let within = self.answer_within(request, request.body.len());
        let sent = self.prepare(request, Body::from(request.body.clone()))?;
        let answer =
            self.driver.wait(async { tokio::time::timeout(within, self.client.execute(sent)).await });
        Ok(self.response(answer.map_err(|_| silent())?.map_err(unanswered)?))
    }

    /// Sends `length` bytes from a reader, in place of the request's body, and waits for the head of the answer.
    /// `on_sent` learns of each piece when the connection has taken it, and may stop it there.
    ///
    /// The server may be silent for as long as [`Patience::silence`] says before it takes the next piece, and again
    /// before it answers. An answer that comes before the end ends it.
    ///
    /// Reading and sending go on beside each other, in pieces of half a megabyte: on loopback, three times as fast as
    /// in those of 8 KiB that `reqwest::blocking` makes.
    ///
    /// # Errors
    /// [`Trouble`] when there is no answer; [`Reason::Content`] when the reader fails or ends early.
    pub fn upload(
        &self,
        request: &Request,
        content: &mut dyn Read,
        length: u64,
        on_sent: &mut dyn FnMut(u64) -> Result<(), Halt>,
    ) -> Result<Response, Trouble> {
        let on_the_way = usize::try_from(length).unwrap_or(BUFFERED).min(BUFFERED);
        let within = self.answer_within(request, on_the_way);
        let (pieces, receiver) = mpsc::channel(AHEAD);
        let sent = self.prepare(request, Body::wrap(Pieces { receiver, left: length }))?;
        let client = self.client.clone();
        let task = self.driver.handle.spawn(async move { client.execute(sent).await });
        let mut answer = Answer { task, answered: None };
        let mut left = length;
        while left > 0 {
            let piece = read_piece(content, left)?;
            let count = piece.len() as u64;
            let is_taken = self.driver.wait(async {
                tokio::select! {
                    biased;
                    () = answer.finished() => Ok(false),
                    sent = tokio::time::timeout(self.patience.silence, pieces.send(piece)) => {
                        // The connection may let go of the body just before it says why.
                        sent.map(|taken| taken.is_ok()).map_err(|_| silent())
                    }
                }
            })?;
            if !is_taken {
                break;
            }
            left -= count;
            on_sent(count)?;
        }
        let answer = self.driver.wait(async { tokio::time::timeout(within, answer.get()).await });
        Ok(self.response(answer.map_err(|_| silent())??))
    }

    /// How long to wait for an answer: a server can't give it before so many bytes have come to it.
    fn answer_within(&self, request: &Request, on_the_way: usize) -> Duration {
        let silence = self.patience.silence;
        let more = silence.as_secs_f64() * on_the_way as f64 / SLOW;
        let more = Duration::try_from_secs_f64(more).unwrap_or(Duration::MAX);
        request.answer_within.unwrap_or(silence).saturating_add(more)
    }

    fn prepare(&self, request: &Request, body: Body) -> Result<reqwest::Request, Trouble> {
        let mut builder = self.client.request(request.method.clone(), request.url.clone());
        // A compressed transfer would not have the digest.
        builder = builder.header(ACCEPT_ENCODING, "identity").headers(request.headers.clone());
        // What never has a body is sent without a length of none.
        if !matches!(request.method, Method::GET | Method::HEAD) {
            builder = builder.body(body);
        }
        builder.build().map_err(|error| Trouble::Final(Reason::of(error)))
    }

    fn response(&self, inner: reqwest::Response) -> Response {
        Response { inner, driver: self.driver.clone(), silence: self.patience.silence }
    }
}

impl Request {
    /// A request that says nothing but this.
    pub fn new(method: Method, url: Url) -> Self {
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        Self { method, url, headers, body, answer_within: None }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.method, crate::redacted(self.url.as_str()))?;
        f.debug_list().entries(self.headers.keys().filter(|name| **name != AUTHORIZATION)).finish()?;
        write!(f, " and {} bytes", self.body.len())
    }
}

impl Response {
    /// Whether it worked.
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// What is said beside it.
    pub fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// Who answers.
    pub fn url(&self) -> &Url {
        self.inner.url()
    }

    /// Bytes that will come, if that is said.
    pub fn content_length(&self) -> Option<u64> {
        self.inner.content_length()
    }

    /// Waits for the next bytes; none at the end.
    ///
    /// # Errors
    /// [`Reason::Connection`] when it breaks, or nothing comes for too long.
    pub fn chunk(&mut self) -> Result<Option<Bytes>, Trouble> {
        let inner = &mut self.inner;
        let chunk = self.driver.wait(async { tokio::time::timeout(self.silence, inner.chunk()).await });
        match chunk {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(Trouble::passing(Reason::of_body(&error))),
            Err(_) => Err(silent()),
        }
    }

    /// The whole of a small answer.
    ///
    /// # Errors
    /// [`Reason::TooLong`] for more than `limit` bytes, and as for [`chunk`](Self::chunk).
    pub fn bytes(mut self, limit: u64) -> Result<Vec<u8>, Trouble> {
        let too_long = || Trouble::Final(Reason::TooLong { expected: limit });
        if self.content_length().is_some_and(|length| length > limit) {
            return Err(too_long());
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk()? {
            if (bytes.len() + chunk.len()) as u64 > limit {
                return Err(too_long());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

fn unanswered(error: reqwest::Error) -> Trouble {
    match Reason::of(error) {
        reason @ Reason::Connection(_) => Trouble::passing(reason),
        reason => Trouble::Final(reason),
    }
}

fn silent() -> Trouble {
    Trouble::passing(Reason::Connection("the server fell silent".to_owned()))
}

/// Reads a piece of what is left.
fn read_piece(content: &mut dyn Read, left: u64) -> Result<Bytes, Trouble> {
    let limit = left.min(PIECE as u64);
    let mut piece = Vec::with_capacity(PIECE);
    content
        .take(limit)
        .read_to_end(&mut piece)
        .map_err(|error| Trouble::Final(Reason::Content(chain(&error))))?;
    if piece.is_empty() {
        let reason = format!("it ends {left} bytes early");
        return Err(Trouble::Final(Reason::Content(reason)));
    }
    Ok(piece.into())
}

/// What moves the bytes of all connections.
#[derive(Debug)]
struct Driver {
    handle: tokio::runtime::Handle,
    /// There until this is dropped.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Driver {
    fn new() -> io::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(THREADS));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("imgforge-http")
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Waits on this thread.
    fn wait<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A name that is being looked up would be waited for.
            runtime.shutdown_background();
        }
    }
}

type Answered = Result<reqwest::Response, Trouble>;

/// The answer to a request whose body is still being sent. Dropped, it breaks the request off.
struct Answer {
    task: JoinHandle<Result<reqwest::Response, reqwest::Error>>,
    answered: Option<Answered>,
}

impl Answer {
    /// Returns when it is there, which may be never.
    async fn finished(&mut self) {
        if self.answered.is_none() {
            self.answered = Some(match (&mut self.task).await {
                Ok(answer) => answer.map_err(unanswered),
                Err(error) => Err(Trouble::passing(Reason::Connection(error.to_string()))),
            });
        }
    }

    async fn get(mut self) -> Answered {
        self.finished().await;
        self.answered.take().unwrap_or_else(|| Err(silent()))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The body of a request, as it is handed over.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    left: u64,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(match ready!(self.receiver.poll_recv(context)) {
            Some(piece) => {
                self.left = self.left.saturating_sub(piece.len() as u64);
                Ok(Frame::data(piece))
            }
            // The connection must not take this for the end.
            None => Err(io::Error::other("the upload was broken off")),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use reqwest::header::CONTENT_LENGTH;

    use super::*;

    /// Uploads so many bytes to a server that does this with the connection after the head of the request.
    fn upload(
        count: u64,
        server: impl FnOnce(BufReader<TcpStream>) + Send + 'static,
        on_sent: &mut dyn FnMut(u64) -> Result<(), Halt>,
    ) -> Result<StatusCode, Trouble> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut reader = BufReader::new(listener.accept().unwrap().0);
            let mut length = false;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                length |= line.to_lowercase() == format!("{CONTENT_LENGTH}: {count}\r\n");
                if line == "\r\n" {
                    break;
                }
            }
            assert!(length, "the length was not sent");
            server(reader);
        });
        let patience = Patience { silence: Duration::from_millis(500), ..Patience::default() };
        let http = Http::new(ClientBuilder::new().no_proxy(), patience).unwrap();
        let request = Request::new(Method::PATCH, Url::parse(&url).unwrap());
        let mut content = std::io::repeat(7).take(count);
        http.upload(&request, &mut content, count, on_sent).map(|response| response.status())
    }

    fn answer(reader: BufReader<TcpStream>, status: &str) {
        let text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        reader.into_inner().write_all(text.as_bytes()).unwrap();
    }

    fn reason(result: Result<StatusCode, Trouble>) -> String {
        match result {
            Err(Trouble::Passing { reason, .. }) => format!("passing: {reason}"),
            Err(Trouble::Final(reason)) => format!("final: {reason}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_is_sent_and_counted() {
        for count in [1, PIECE as u64, 5_000_000] {
            let read = move |mut reader: BufReader<TcpStream>| {
                let mut bytes = vec![0; count as usize];
                reader.read_exact(&mut bytes).unwrap();
                assert!(bytes.iter().all(|byte| *byte == 7));
                answer(reader, "202 Accepted");
            };
            let mut sent = 0;
            let mut on_sent = |count| {
                sent += count;
                Ok(())
            };
            assert_eq!(upload(count, read, &mut on_sent).unwrap(), StatusCode::ACCEPTED);
            assert_eq!(sent, count);
        }
    }

    #[test]
    fn an_early_answer_ends_it() {
        let start = Instant::now();
        let refuse = |reader: BufReader<TcpStream>| {
            let stream = reader.get_ref().try_clone().unwrap();
            answer(reader, "401 Unauthorized");
            std::thread::sleep(Duration::from_secs(2));
            drop(stream);
        };
        assert_eq!(upload(1 << 30, refuse, &mut |_| Ok(())).unwrap(), StatusCode::UNAUTHORIZED);
        assert!(start.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn a_server_that_falls_silent() {
        let hang = |reader: BufReader<TcpStream>| {
            std::thread::sleep(Duration::from_secs(5));
            drop(reader);
        };
        let start = Instant::now();
        assert_eq!(reason(upload(1 << 30, hang, &mut |_| Ok(()))), "passing: the server fell silent");
        assert_eq!(reason(upload(10, hang, &mut |_| Ok(()))), "passing: the server fell silent");
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_slow_server_is_not_silent() {
        // Longer in all than it may be silent.
        let slow = |mut reader: BufReader<TcpStream>| {
            let mut bytes = vec![0; 4 << 20];
            for _ in 0..8 {
                reader.read_exact(&mut bytes).unwrap();
                std::thread::sleep(Duration::from_millis(150));
            }
            answer(reader, "201 Created");
        };
        assert_eq!(upload(32 << 20, slow, &mut |_| Ok(())).unwrap(), StatusCode::CREATED);
    }

    #[test]
    fn a_broken_line_and_somebody_who_stops_it() {
        let cut = |mut reader: BufReader<TcpStream>| reader.read_exact(&mut [0; 100_000]).unwrap();
        let result = reason(upload(1 << 30, cut, &mut |_| Ok(())));
        assert!(result.starts_with("passing: error sending request"), "{result}");
        let read = |reader: BufReader<TcpStream>| {
            let count = std::io::copy(&mut reader.take(1 << 30), &mut std::io::sink());
            assert!(count.is_err() || count.unwrap() < 1 << 30, "it was taken for complete");
        };
        let stopped = upload(1 << 30, read, &mut |_| Err(Halt::Stopped));
        assert!(matches!(stopped, Err(Trouble::Halt(Halt::Stopped))), "{stopped:?}");
    }

    #[test]
    fn content_that_ends_early() {
        let piece = read_piece(&mut b"abc".as_slice(), 5).unwrap();
        assert_eq!(piece, b"abc".as_slice());
        let trouble = read_piece(&mut b"".as_slice(), 2).unwrap_err();
        assert_eq!(reason(Err(trouble)), "final: cannot read what is to be sent: it ends 2 bytes early");
    }

    #[test]
    fn requests_show_no_credentials() {
        let url = Url::parse("https://me:s3cret@example.org/?token=s3cret").unwrap();
        let request =
            Request::new(Method::GET, url).header(AUTHORIZATION, HeaderValue::from_static("s3cret"));
        assert_eq!(format!("{request:?}"), "GET https://***@example.org/?*** [] and 0 bytes");
    }
}
