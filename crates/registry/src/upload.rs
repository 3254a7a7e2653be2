//! One blob's way into a repository, over as many requests as that takes.
//!
//! A large blob goes in chunks of a tenth of it at most: many registries forget all that came by a request that broke,
//! and then no more than that is sent again. Nor is a request ever so long that a proxy would cut it off each time.
//! After a break the registry is asked how far it got, and the rest follows from there; if it has forgotten the upload
//! (docker's own registry does, when a request breaks in the middle), it begins anew. A registry that takes no chunks
//! gets the blob as one stream, which every one takes, and so all others after it.
//!
//! Source: OCI distribution specification, "Pushing blobs".

use std::sync::atomic::Ordering;
use std::time::Duration;

use imgforge_http::{Event, Halt, Reason, Request, Response, Trouble, bare, redacted};
use imgforge_oci::{Descriptor, Digest};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, StatusCode, Url};

use crate::client::is_loopback;
use crate::pull::{CONTENT_DIGEST, text};
use crate::scope::Scope;
use crate::{Content, OnEvent, Repository};

/// Bytes of a blob that goes in one request, body and digest together.
const SMALL: u64 = 4 << 20;

/// Chunks of a blob, at least: what is sent again after a break is no more than one of them.
const CHUNKS: u64 = 10;

/// Bytes of a chunk, at most.
const LARGE_CHUNK: u64 = 64 << 20;

/// Bytes of a chunk, at least, where others are too large for a proxy.
const SMALL_CHUNK: u64 = 64 << 10;

/// Bytes that the registry has more than it ever had, after which it is worth the same patience again.
const HEADWAY: u64 = 1 << 20;

/// Bytes per second at which a registry may look through a blob before it says that it has it, at least.
const LOOKING_THROUGH: u64 = 10 << 20;

/// The least that a registry takes for a chunk which is not the last.
const CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// Where an upload is continued.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) url: Url,
    /// Bytes of a chunk, at least.
    least: u64,
}

/// How a blob is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// With its digest, from memory.
    Whole,
    /// So many bytes at a time.
    Chunks(u64),
    /// All that is missing in one request.
    Stream,
}

/// An upload under way.
pub(crate) struct Upload<'a> {
    repository: &'a Repository<'a>,
    digest: Digest,
    size: u64,
    content: &'a dyn Content,
    scope: Scope,
    on_event: OnEvent<'a>,
    way: Way,
    session: Option<Session>,
    /// Bytes that the registry has, as far as is known.
    offset: u64,
    /// Whether it has to be asked, because a request broke.
    is_unsure: bool,
    /// Whether the end was reached: the blob may be there without our having heard of it.
    is_finishing: bool,
    /// Requests of this session that brought bytes: those of several might not fit together.
    pieces: u32,
    /// Where the registry would not have it go on.
    out_of_range: Option<u64>,
    /// Bytes that went over, in all.
    sent: u64,
    /// Bytes that whoever shows it believes to have gone.
    shown: u64,
    /// The most that the registry ever had, and what that was at the last look.
    best: u64,
    seen: u64,
}

impl<'a> Upload<'a> {
    pub(crate) fn new(
        repository: &'a Repository<'a>,
        descriptor: &Descriptor,
        content: &'a dyn Content,
        scope: Scope,
        session: Option<Session>,
        on_event: OnEvent<'a>,
    ) -> Self {
        let way = match descriptor.size {
            ..=SMALL => Way::Whole,
            _ if repository.host.takes_no_chunks.load(Ordering::Relaxed) => Way::Stream,
            size => Way::Chunks((size / CHUNKS).min(LARGE_CHUNK)),
        };
        Self {
            repository,
            digest: descriptor.digest,
            size: descriptor.size,
            content,
            scope,
            on_event,
            way,
            session,
            offset: 0,
            is_unsure: false,
            is_finishing: false,
            pieces: 0,
            out_of_range: None,
            sent: 0,
            shown: 0,
            best: 0,
            seen: 0,
        }
    }

    /// Bytes that went over, those that went twice counted twice.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether the registry has got on since the last time.
    pub(crate) fn has_made_headway(&mut self) -> bool {
        let has = self.best >= self.seen + HEADWAY;
        if has {
            self.seen = self.best;
        }
        has
    }

    /// Goes on from wherever it stands, to the end or to the next trouble.
    pub(crate) fn attempt(&mut self) -> Result<(), Trouble> {
        let result = self.go_on();
        if let Err(Trouble::Passing { .. }) = result {
            self.is_unsure = true;
        }
        result
    }

    fn go_on(&mut self) -> Result<(), Trouble> {
        if self.is_finishing && self.repository.has_blob_once(&self.digest, &self.scope)? {
            return Ok(());
        }
        match self.way {
            // What is there of it would stand before the whole.
            Way::Whole if self.is_unsure => self.forget(),
            _ if self.is_unsure => self.ask()?,
            _ => {}
        }
        self.is_unsure = false;
        self.is_finishing = false;
        if self.session.is_none() {
            self.session = Some(self.repository.start_upload(&self.scope)?);
            self.pieces = 0;
            self.stands_at(0);
        }
        if self.way == Way::Whole {
            return self.finish();
        }
        while self.offset < self.size {
            self.send_piece()?;
        }
        self.finish()
    }

    /// Sends what is missing, or a chunk of it.
    fn send_piece(&mut self) -> Result<(), Trouble> {
        let Some(Session { url, least }) = self.session.clone() else { return Err(lost()) };
        let left = self.size - self.offset;
        let length = match self.way {
            Way::Chunks(size) => left.min(size.max(least)),
            Way::Whole | Way::Stream => left,
        };
        let mut request = Request::new(Method::PATCH, url)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        // A stream from the beginning has none, and there are registries that take it for a mistake.
        if length < self.size
            && let Ok(range) = HeaderValue::from_str(&format!("{}-{}", self.offset, self.offset + length - 1))
        {
            request = request.header(CONTENT_RANGE, range);
        }
        let content = self.content.open_at(self.offset);
        let mut content = content.map_err(|error| Trouble::Final(Reason::Content(error.to_string())))?;
        let (stop, on_event) = (self.repository.stop, self.on_event);
        let mut gone = 0;
        let mut on_sent = |count| {
            gone += count;
            on_event(Event::Bytes(count));
            match stop.load(Ordering::Relaxed) {
                true => Err(Halt::Stopped),
                false => Ok(()),
            }
        };
        self.pieces += 1;
        let answer = self.repository.send_content(&request, &self.scope, &mut content, length, &mut on_sent);
        self.sent += gone;
        self.shown += gone;
        let response = answer?;
        let status = response.status();
        match status {
            _ if status.is_success() => {
                let end = self.offset + length;
                let has = range_end(&response).unwrap_or(end);
                self.moved(&response)?;
                // More than was sent is not to be had, and less has to be sent again.
                self.stands_at(has.min(end));
                if has < end {
                    let reason = format!("the registry took {has} of {end} bytes");
                    return Err(Trouble::passing(Reason::Protocol(reason)));
                }
                Ok(())
            }
            StatusCode::NOT_FOUND => {
                self.forget();
                Err(lost())
            }
            // The second time, it is not the place that it has something against.
            StatusCode::RANGE_NOT_SATISFIABLE
                if self.out_of_range.replace(self.offset) != Some(self.offset) =>
            {
                Err(at_once(Reason::Status(status)))
            }
            // A proxy may take in parts what it doesn't take whole.
            StatusCode::PAYLOAD_TOO_LARGE if length / 2 >= SMALL_CHUNK.max(least) => {
                self.way = Way::Chunks(length / 2);
                Err(at_once(Reason::Status(status)))
            }
            _ => match self.repository.refusal(response) {
                Trouble::Final(reason) if self.way != Way::Stream && is_about_chunks(&reason) => {
                    self.repository.host.takes_no_chunks.store(true, Ordering::Relaxed);
                    self.way = Way::Stream;
                    self.forget();
                    Err(at_once(reason))
                }
                trouble => Err(trouble),
            },
        }
    }

    /// Asks how far it got.
    fn ask(&mut self) -> Result<(), Trouble> {
        let Some(Session { url, .. }) = self.session.clone() else { return Ok(()) };
        let response = self.repository.send(&Request::new(Method::GET, url), &self.scope)?;
        let status = response.status();
        if status.is_success() {
            let has = range_end(&response).unwrap_or(0);
            self.moved(&response)?;
            // Of one byte it says the same as of none.
            if has > self.size || has <= 1 {
                self.forget();
            } else {
                self.stands_at(has);
            }
        } else if let trouble @ Trouble::Passing { .. } = self.repository.refusal(response) {
            return Err(trouble);
        } else {
            self.forget();
        }
        Ok(())
    }

    /// Names what was sent.
    fn finish(&mut self) -> Result<(), Trouble> {
        let Some(Session { mut url, .. }) = self.session.clone() else { return Err(lost()) };
        url.query_pairs_mut().append_pair("digest", &self.digest.to_string());
        let mut request = Request::new(Method::PUT, url)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let looking_through = Duration::from_secs(self.size / LOOKING_THROUGH);
        request.answer_within = Some(self.repository.client.patience().silence + looking_through);
        if self.way == Way::Whole {
            request.body = self.read_whole()?.into();
            self.sent += self.size;
            self.shown += self.size;
        }
        self.is_finishing = true;
        let response = self.repository.send(&request, &self.scope)?;
        let status = response.status();
        if status.is_success() {
            return self.check(&response);
        }
        self.is_finishing = false;
        match self.repository.refusal(response) {
            trouble @ Trouble::Passing { .. } => Err(trouble),
            // A session that is gone, or pieces that do not fit together, is no fault of the blob.
            Trouble::Final(reason)
                if status == StatusCode::NOT_FOUND || (self.pieces > 1 && is_about_chunks(&reason)) =>
            {
                if status != StatusCode::NOT_FOUND {
                    self.way = Way::Stream;
                }
                self.forget();
                Err(Trouble::passing(reason))
            }
            trouble => Err(trouble),
        }
    }

    fn read_whole(&self) -> Result<Vec<u8>, Trouble> {
        let wrong = |text: String| Trouble::Final(Reason::Content(text));
        let mut bytes = Vec::new();
        let reader = self.content.open_at(0).map_err(|error| wrong(error.to_string()))?;
        let mut reader = std::io::Read::take(reader, self.size);
        std::io::Read::read_to_end(&mut reader, &mut bytes).map_err(|error| wrong(error.to_string()))?;
        match bytes.len() as u64 {
            length if length < self.size => Err(wrong(format!("it ends {} bytes early", self.size - length))),
            length => {
                (self.on_event)(Event::Bytes(length));
                Ok(bytes)
            }
        }
    }

    /// Compares what the registry says that it has.
    fn check(&self, response: &Response) -> Result<(), Trouble> {
        let claimed = text(response.headers(), &CONTENT_DIGEST).and_then(|text| text.parse::<Digest>().ok());
        match claimed {
            Some(claimed) if claimed != self.digest => {
                Err(Trouble::Final(Reason::Protocol(format!("the registry calls it {claimed}"))))
            }
            _ => Ok(()),
        }
    }

    /// Goes where an answer says; the upload stays where it is when that says nothing.
    fn moved(&mut self, response: &Response) -> Result<(), Trouble> {
        if text(response.headers(), &LOCATION).is_some() {
            let least = self.session.as_ref().map_or(0, |session| session.least);
            let session = place_of(self.repository, response)?;
            // Nor has it taken back the least length.
            self.session = Some(Session { least: session.least.max(least), ..session });
        }
        Ok(())
    }

    fn stands_at(&mut self, offset: u64) {
        self.offset = offset;
        self.best = self.best.max(offset);
        if self.shown > offset {
            self.shown = offset;
            (self.on_event)(Event::Restarted { at: offset });
        }
    }

    /// The registry knows nothing of it any more.
    fn forget(&mut self) {
        self.session = None;
        self.stands_at(0);
    }
}

/// Where an answer says that an upload goes on: anywhere, but not out of TLS. Credentials in it are not ours.
pub(crate) fn place_of(repository: &Repository<'_>, response: &Response) -> Result<Session, Trouble> {
    let wrong = |text: String| Trouble::Final(Reason::Protocol(text));
    let host = &repository.host.name;
    let location = text(response.headers(), &LOCATION).ok_or_else(|| {
        wrong(format!("{host} answers {} without saying where to go on", response.status()))
    })?;
    let url = response.url().join(location);
    let url = url.map_err(|error| wrong(format!("{host} sends us to what is no URL: {error}")))?;
    let url = bare(&url);
    let shown = redacted(url.as_str());
    match url.scheme() {
        "https" => {}
        "http" if response.url().scheme() == "http" || is_loopback(&url) => {}
        "http" => {
            return Err(wrong(format!(
                "{host} is spoken to by TLS and sends us to {shown}; a proxy before it has to pass on \
                 `X-Forwarded-Proto: https`"
            )));
        }
        _ => return Err(wrong(format!("{host} sends us to {shown}"))),
    }
    let least = text(response.headers(), &CHUNK_MIN_LENGTH).and_then(|text| text.trim().parse().ok());
    Ok(Session { url, least: least.unwrap_or(0) })
}

/// Bytes that the registry has, by its header `Range: 0-N`, whose end is inclusive.
fn range_end(response: &Response) -> Option<u64> {
    parse_range(text(response.headers(), &RANGE)?)
}

fn parse_range(range: &str) -> Option<u64> {
    let range = range.trim();
    let (start, end) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    match (start.parse::<u64>().ok()?, end.parse::<u64>().ok()?) {
        (0, end) => end.checked_add(1),
        _ => None,
    }
}

/// Whether a registry may have refused a chunk for being one. There is no code for that.
fn is_about_chunks(reason: &Reason) -> bool {
    let is_status =
        matches!(reason.status().map(|status| status.as_u16()), Some(400 | 405 | 411 | 415 | 416));
    is_status && !matches!(reason, Reason::Refused { said, .. } if said.contains("NAME_"))
}

/// What is to be tried again another way.
fn at_once(reason: Reason) -> Trouble {
    Trouble::Passing { reason, wait: Some(Duration::ZERO) }
}

fn lost() -> Trouble {
    Trouble::passing(Reason::Protocol("the registry has lost the upload".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is() {
        for (range, expected) in [
            ("0-99", Some(100)),
            (" bytes=0-99", Some(100)),
            // Of none, too.
            ("0-0", Some(1)),
            ("1-99", None),
            ("99", None),
            ("0--1", None),
            ("-", None),
            ("", None),
            ("0-18446744073709551615", None),
            ("0-99999999999999999999999", None),
        ] {
            assert_eq!(parse_range(range), expected, "{range}");
        }
    }

    #[test]
    fn what_may_be_about_chunks() {
        let said = |status: u16, said: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            is_about_chunks(&Reason::Refused { status, said: said.to_owned() })
        };
        assert!(said(400, "BLOB_UPLOAD_INVALID: chunks") && said(405, "UNSUPPORTED") && said(400, "unknown"));
        assert!(is_about_chunks(&Reason::Status(StatusCode::RANGE_NOT_SATISFIABLE)));
        assert!(
            !said(400, "NAME_INVALID: team") && !said(403, "DENIED") && !said(404, "BLOB_UPLOAD_UNKNOWN")
        );
    }
}
