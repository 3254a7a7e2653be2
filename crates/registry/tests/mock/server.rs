use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Url;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{Auth, Deed, Registry, Rule};

/// Longer than anybody waits.
const LONG: Duration = Duration::from_secs(30);

/// What a request says before its body.
#[derive(Clone, Debug)]
pub struct Head {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        Some(self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?.1.as_str())
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    /// Which bytes of a blob its body is, as far as is said.
    pub fn range(&self) -> Option<Range<usize>> {
        match self.header("content-range") {
            Some(range) => {
                let (start, last) = range.split_once('-')?;
                Some(start.parse().ok()?..last.parse::<usize>().ok()? + 1)
            }
            None => Some(0..self.header("content-length")?.parse().ok()?),
        }
    }

    pub fn query(&self, name: &str) -> Option<String> {
        let url = Url::parse(&format!("http://mock{}", self.target)).unwrap();
        let found = url.query_pairs().find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned())
    }
}

/// A request as a server saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which server.
    pub origin: &'static str,
    pub head: Head,
    /// Its body, as far as it came, unless that is long.
    pub body: Vec<u8>,
    /// Bytes of its body that came.
    pub received: usize,
    /// Bytes of the answer's body that were sent.
    pub sent: usize,
}

/// What a server says. In its headers, `{home}`, `{other}` and the like stand for the servers' URLs, and `{target}`
/// for what was asked for.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Bytes that come before it.
    pub before: &'static str,
    pub status: &'static str,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub length: Length,
    pub ending: Ending,
}

/// What is said of a body's length.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    /// What it is.
    True,
    /// So many bytes.
    Said(usize),
    /// Sent in chunks.
    Chunked,
    /// The connection's end is the body's.
    Unsaid,
}

/// What happens to the connection.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    /// It is there for the next request.
    Open,
    /// It is closed after so many bytes of the body.
    Close(usize),
    /// It is reset after so many bytes of the body.
    Reset(usize),
    /// Nothing comes any more after so many bytes of the body, for longer than anybody waits.
    Hang(usize),
}

impl Answer {
    pub fn new(status: &'static str, body: impl Into<Vec<u8>>) -> Self {
        let (length, ending) = (Length::True, Ending::Open);
        Self { before: "", status, headers: Vec::new(), body: body.into(), length, ending }
    }

    /// Replaces a header, or adds it.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self = self.without(name);
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self
    }
}

/// An origin on loopback, that listens until the test ends.
pub struct Server {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    registry: Arc<Registry>,
    auth: Auth,
    rules: Vec<Rule>,
    tls: Option<Arc<ServerConfig>>,
    /// The servers' URLs, by their names in answers.
    names: Mutex<Vec<(String, String)>>,
    log: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub fn new(
        name: &'static str,
        registry: &Arc<Registry>,
        auth: Auth,
        rules: Vec<Rule>,
        tls: Option<Arc<ServerConfig>>,
        log: &Arc<Mutex<Vec<Seen>>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (registry, log) = (registry.clone(), log.clone());
        let shared = Arc::new(Shared { name, registry, auth, rules, tls, names: Mutex::default(), log });
        let server = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let server = server.clone();
                std::thread::spawn(move || server.accept(stream.unwrap()));
            }
        });
        Self { address, shared }
    }

    /// Its URL, without a slash at the end.
    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Tells it what names in its answers stand for.
    pub fn introduce(&self, names: &[(String, String)]) {
        names.clone_into(&mut self.shared.names.lock().unwrap());
    }
}

trait Connection: Read + Write {
    fn tcp(&self) -> &TcpStream;
}

impl Connection for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Connection for StreamOwned<ServerConnection, TcpStream> {
    fn tcp(&self) -> &TcpStream {
        &self.sock
    }
}

impl Shared {
    fn accept(&self, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        // The client may go at any time, which is its right.
        let _ = match &self.tls {
            Some(config) => {
                let connection = ServerConnection::new(config.clone()).unwrap();
                self.serve(BufReader::new(StreamOwned::new(connection, stream)))
            }
            None => self.serve(BufReader::new(stream)),
        };
    }

    fn serve(&self, mut stream: BufReader<impl Connection>) -> io::Result<()> {
        while let Some(head) = read_head(&mut stream)? {
            let at = {
                let mut log = self.log.lock().unwrap();
                let (body, received, sent) = (Vec::new(), 0, 0);
                log.push(Seen { origin: self.name, head: head.clone(), body, received, sent });
                log.len() - 1
            };
            let deed = self.rules.iter().find(|rule| rule.applies(&head)).map(|rule| &rule.deed);
            if let Some(Deed::Early(answer)) = deed {
                self.send(&mut stream, &head, answer.clone(), at)?;
                return Ok(());
            }
            let limit = match deed {
                Some(Deed::Cut { at, .. }) => at.saturating_sub(head.range().unwrap().start),
                Some(Deed::Silence { after }) => *after,
                _ => usize::MAX,
            };
            let body = read_body(&mut stream, &head, limit)?;
            {
                let mut log = self.log.lock().unwrap();
                log[at].received = body.len();
                if body.len() <= 1 << 16 {
                    log[at].body.clone_from(&body);
                }
            }
            let good = |body| self.registry.answer(self.auth, &head, body);
            let answer = match deed {
                None => good(body),
                Some(Deed::But(change)) => change(good(body)),
                Some(Deed::Instead(answer) | Deed::Early(answer)) => answer.clone(),
                Some(Deed::Raw(text)) => {
                    stream.get_mut().write_all(text.as_bytes())?;
                    return Ok(());
                }
                Some(Deed::Silence { .. }) => {
                    std::thread::sleep(LONG);
                    return Ok(());
                }
                Some(Deed::Unsaid) => {
                    good(body);
                    reset(stream.get_ref().tcp());
                    return Ok(());
                }
                Some(Deed::Cut { is_kept, .. }) => {
                    if *is_kept {
                        good(body);
                    }
                    reset(stream.get_ref().tcp());
                    return Ok(());
                }
            };
            if !self.send(&mut stream, &head, answer, at)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Tells whether the connection goes on.
    fn send(
        &self,
        stream: &mut BufReader<impl Connection>,
        head: &Head,
        answer: Answer,
        at: usize,
    ) -> io::Result<bool> {
        let mut text = format!("{}HTTP/1.1 {}\r\n", answer.before, answer.status);
        match answer.length {
            Length::True => text += &format!("Content-Length: {}\r\n", answer.body.len()),
            Length::Said(length) => text += &format!("Content-Length: {length}\r\n"),
            Length::Chunked => text += "Transfer-Encoding: chunked\r\n",
            Length::Unsaid => text += "Connection: close\r\n",
        }
        for (name, value) in &answer.headers {
            let mut value = value.replace("{target}", &head.target);
            for (name, url) in self.names.lock().unwrap().iter() {
                value = value.replace(&format!("{{{name}}}"), url);
            }
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        let stream = stream.get_mut();
        stream.write_all(text.as_bytes())?;
        let body: &[u8] = if head.method == "HEAD" { b"" } else { &answer.body };
        let end = match answer.ending {
            Ending::Open => body.len(),
            Ending::Close(end) | Ending::Reset(end) | Ending::Hang(end) => end.min(body.len()),
        };
        for piece in body[..end].chunks(64 << 10) {
            match answer.length {
                Length::Chunked => {
                    write!(stream, "{:x}\r\n", piece.len())?;
                    stream.write_all(piece)?;
                    stream.write_all(b"\r\n")?;
                }
                _ => stream.write_all(piece)?,
            }
            self.log.lock().unwrap()[at].sent += piece.len();
        }
        if end == body.len() && matches!(answer.length, Length::Chunked) && head.method != "HEAD" {
            stream.write_all(b"0\r\n\r\n")?;
        }
        stream.flush()?;
        match answer.ending {
            Ending::Open => return Ok(!matches!(answer.length, Length::Unsaid)),
            Ending::Close(_) => {}
            Ending::Reset(_) => {
                wait_until_read(stream.tcp());
                reset(stream.tcp());
            }
            Ending::Hang(_) => std::thread::sleep(LONG),
        }
        Ok(false)
    }
}

/// Waits until the client has read all that was sent: a reset takes with it what has not been, however much that is,
/// and then nobody could say how much of it was sent in vain. The client's end is on this machine.
fn wait_until_read(stream: &TcpStream) {
    let port = |address: SocketAddr| format!(":{:04X}", address.port());
    let (server, client) = (port(stream.local_addr().unwrap()), port(stream.peer_addr().unwrap()));
    let end = Instant::now() + LONG;
    // After a number: the end here and the one there, a state, and the bytes to send and to read. Source: proc(5).
    let is_queued = |line: &str| {
        let words: Vec<_> = line.split_whitespace().skip(1).take(4).collect();
        let [here, there, _, bytes] = words[..] else { return false };
        (here.ends_with(&server) && there.ends_with(&client) && !bytes.starts_with("00000000:"))
            || (here.ends_with(&client) && there.ends_with(&server) && !bytes.ends_with(":00000000"))
    };
    while std::fs::read_to_string("/proc/net/tcp").unwrap().lines().any(is_queued) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Has the connection end in a reset, when it is dropped.
fn reset(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
}

/// Nothing at the end of the connection, and for those who greet in TLS where none is spoken.
fn read_head(stream: &mut impl io::BufRead) -> io::Result<Option<Head>> {
    if matches!(stream.fill_buf()?.first(), None | Some(0x16)) {
        return Ok(None);
    }
    let mut lines = stream.lines().take_while(|line| !line.as_ref().is_ok_and(String::is_empty));
    let first = lines.next().unwrap()?;
    let (method, rest) = first.split_once(' ').unwrap();
    let (target, _) = rest.rsplit_once(' ').unwrap();
    let headers = lines.map(|line| {
        let line = line?;
        let (name, value) = line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
        Ok((name.to_owned(), value.to_owned()))
    });
    let headers = headers.collect::<io::Result<_>>()?;
    Ok(Some(Head { method: method.to_owned(), target: target.to_owned(), headers }))
}

/// At most `limit` bytes of the request's body.
fn read_body(stream: &mut impl io::BufRead, head: &Head, limit: usize) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if head.header("transfer-encoding").is_none() {
        let length = head.header("content-length").map_or(0, |length| length.parse().unwrap());
        stream.take(limit.min(length) as u64).read_to_end(&mut body)?;
        return if body.len() < limit.min(length) {
            Err(io::ErrorKind::UnexpectedEof.into())
        } else {
            Ok(body)
        };
    }
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let wanted = length.min(limit - body.len());
        (&mut *stream).take(wanted as u64).read_to_end(&mut body)?;
        if body.len() == limit || length == 0 {
            return Ok(body);
        }
        stream.read_line(&mut line)?;
    }
}
