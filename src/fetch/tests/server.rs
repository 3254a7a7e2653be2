//! A server that does what a script says, one connection at a time per request.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    headers: Vec<String>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let of =
            |line: &'_ String| line.split_once(": ").is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
        Some(self.headers.iter().find(|line| of(line))?.split_once(": ")?.1)
    }

    /// Where its range begins.
    pub fn start(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What the server does: sends these bytes, and closes the connection, or keeps it and says no more.
pub struct Answer {
    pub bytes: Vec<u8>,
    pub is_hanging: bool,
}

/// An answer with a body that may be shorter than it says.
pub fn answer(status: &str, headers: &[String], length: usize, body: &[u8]) -> Answer {
    let mut bytes =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n").into_bytes();
    for header in headers {
        bytes.extend_from_slice(format!("{header}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    Answer { bytes, is_hanging: false }
}

/// A whole body.
pub fn ok(body: &[u8]) -> Answer {
    answer("200 OK", &[], body.len(), body)
}

/// No body.
pub fn status(status: &str) -> Answer {
    answer(status, &[], 0, b"")
}

/// Somewhere else.
pub fn redirect(to: String) -> Answer {
    answer("302 Found", &[format!("Location: {to}")], 0, b"")
}

/// A server that supports ranges as it should.
pub fn ranged(seen: &Seen, body: &[u8]) -> Answer {
    match seen.start() {
        Some(start) => {
            let rest = &body[start..];
            let range = format!("Content-Range: bytes {start}-{}/{}", body.len() - 1, body.len());
            answer("206 Partial Content", &[range], rest.len(), rest)
        }
        None => ok(body),
    }
}

/// Listens until the test ends.
pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// The script is given each request and how many there were before it.
    pub fn new(script: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let script = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, script) = (log.clone(), script.clone());
                std::thread::spawn(move || serve(&stream.unwrap(), &log, &*script));
            }
        });
        Self { address, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(mut stream: &TcpStream, log: &Mutex<Vec<Seen>>, script: &dyn Fn(&Seen, usize) -> Answer) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let Some(first) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let seen = Seen { path, headers: lines.collect() };
    let count = {
        let mut log = log.lock().unwrap();
        log.push(seen.clone());
        log.len() - 1
    };
    let answer = script(&seen, count);
    // The client may have gone, which is its right.
    let _ = stream.write_all(&answer.bytes);
    if answer.is_hanging {
        std::thread::sleep(Duration::from_secs(20));
    }
}
