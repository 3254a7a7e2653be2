use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use imgforge_store::{Finished, Partial};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE};

use crate::redirect::text;
use crate::{Halt, Patience, Reason, Response, Retries, Trouble, sleep};

/// Bytes between two failures that make a download worth the same patience again.
const HEADWAY: u64 = 1 << 20;

/// What happens to a transfer, for whoever shows it.
#[derive(Debug)]
pub enum Event<'a> {
    /// Somebody else fetches the same blob, and is waited for.
    Waiting,
    /// A transfer begins, with so many bytes there from an earlier one.
    Started {
        /// Those bytes.
        have: u64,
    },
    /// So many bytes more have come, or gone.
    Bytes(u64),
    /// What came or went after this many bytes is void; the transfer goes on from there.
    Restarted {
        /// Those bytes.
        at: u64,
    },
    /// An attempt failed; there will be another one.
    Retry {
        /// After this time.
        wait: Duration,
        /// Why it failed.
        reason: &'a Reason,
    },
}

/// How one blob is fetched.
pub struct Download<'a> {
    /// Bytes of it, where that is known.
    pub size: Option<u64>,
    /// When to give up.
    pub patience: Patience,
    /// Set by somebody who wants no more of it; looked at between two reads.
    pub stop: &'a AtomicBool,
    /// Asks for it with these headers, and returns an answer with success, or one that says that there is no such
    /// range.
    pub ask: &'a dyn Fn(&HeaderMap) -> Result<Response, Trouble>,
    /// Learns what happens.
    pub on_event: &'a dyn Fn(Event<'_>),
}

/// What a download came to.
pub enum Outcome {
    /// The blob is in the store.
    Stored,
    /// It is not, and what came is kept where that makes sense.
    Rejected {
        /// The partial, to be tried with another source.
        partial: Partial,
        /// Why.
        reason: Reason,
    },
}

impl Download<'_> {
    /// Completes a partial, from wherever it stands, and puts it into the store.
    ///
    /// # Errors
    /// [`Halt`] when the store fails or somebody stops it. What is wrong with the source is no error.
    pub fn run(&self, mut partial: Partial) -> Result<Outcome, Halt> {
        // Bytes of two transfers may fail to fit together, which is not the second one's fault: once more, whole.
        for is_last in [false, true] {
            let is_spliced = match self.complete(&mut partial) {
                Ok(is_spliced) => is_spliced,
                Err(Trouble::Halt(halt)) => return Err(halt),
                Err(Trouble::Passing { reason, .. } | Trouble::Final(reason)) => {
                    return Ok(Outcome::Rejected { partial, reason });
                }
            };
            partial = match partial.finish()? {
                Finished::Stored => return Ok(Outcome::Stored),
                Finished::Wrong { partial, received, size } => {
                    (self.on_event)(Event::Restarted { at: 0 });
                    if !is_spliced || is_last {
                        return Ok(Outcome::Rejected {
                            partial,
                            reason: Reason::Mismatch { received, size },
                        });
                    }
                    partial
                }
            };
        }
        Ok(Outcome::Rejected { partial, reason: Reason::Spliced })
    }

    /// The result tells whether bytes of several transfers are in it.
    fn complete(&self, partial: &mut Partial) -> Result<bool, Trouble> {
        let mut transfer = Transfer { download: self, is_spliced: partial.len() > 0, etag: None };
        if self.size.is_some_and(|size| partial.len() > size) {
            transfer.restart(partial)?;
        }
        let mut retries = Retries::new(self.patience);
        // Killed between the last byte and its name: there is nothing left to ask for.
        while self.size != Some(partial.len()) || partial.len() == 0 {
            let before = partial.len();
            let trouble = match transfer.attempt(partial) {
                Ok(()) => break,
                Err(trouble) => trouble,
            };
            if partial.len() >= before + HEADWAY {
                retries.renew();
            }
            let (wait, reason) = retries.after(trouble)?;
            (self.on_event)(Event::Retry { wait, reason: &reason });
            sleep(self.stop, wait)?;
        }
        Ok(transfer.is_spliced)
    }
}

/// One source's way into a partial, over as many connections as it takes.
struct Transfer<'a> {
    download: &'a Download<'a>,
    /// Whether what is there comes from more than one answer.
    is_spliced: bool,
    /// What the server called the bytes last time. Not kept between runs: the digest decides in the end, and other
    /// sources have other names for the same bytes.
    etag: Option<HeaderValue>,
}

impl Transfer<'_> {
    /// One request, for what is missing.
    fn attempt(&mut self, partial: &mut Partial) -> Result<(), Trouble> {
        let have = partial.len();
        let mut headers = HeaderMap::new();
        if have > 0 {
            if let Ok(range) = HeaderValue::from_str(&format!("bytes={have}-")) {
                headers.insert(RANGE, range);
            }
            if let Some(etag) = &self.etag {
                headers.insert(IF_RANGE, etag.clone());
            }
        }
        let response = (self.download.ask)(&headers)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if have > 0 && range_start(response.headers()) == Some(have) => {
                self.is_spliced = true;
            }
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                self.restart(partial)?;
                let reason = Reason::Connection(format!("the server did not send the bytes from {have} on"));
                return Err(Trouble::Passing { reason, wait: Some(Duration::ZERO) });
            }
            _ if have > 0 => self.restart(partial)?,
            _ => {}
        }
        // A weak tag names the meaning of a file, not its bytes.
        self.etag = response.headers().get(ETAG).filter(|etag| etag.as_bytes().starts_with(b"\"")).cloned();
        let end = response.content_length().map(|length| partial.len().saturating_add(length));
        self.receive(response, partial)?;
        match self.download.size.or(end) {
            Some(end) if partial.len() < end => {
                let reason = format!("the connection ended after {} of {end} bytes", partial.len());
                Err(Trouble::passing(Reason::Connection(reason)))
            }
            _ => Ok(()),
        }
    }

    fn receive(&self, mut response: Response, partial: &mut Partial) -> Result<(), Trouble> {
        loop {
            if self.download.stop.load(Ordering::Relaxed) {
                return Err(Halt::Stopped.into());
            }
            let Some(bytes) = response.chunk()? else { return Ok(()) };
            if let Some(expected) = self.download.size
                && partial.len() + bytes.len() as u64 > expected
            {
                self.restart(partial)?;
                return Err(Trouble::Final(Reason::TooLong { expected }));
            }
            partial.append(&bytes)?;
            (self.download.on_event)(Event::Bytes(bytes.len() as u64));
        }
    }

    fn restart(&self, partial: &mut Partial) -> Result<(), Trouble> {
        partial.restart()?;
        (self.download.on_event)(Event::Restarted { at: 0 });
        Ok(())
    }
}

/// Where the bytes of a partial answer begin. Source: RFC 9110, section 14.4.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = text(headers, &CONTENT_RANGE)?.strip_prefix("bytes ")?;
    range.split('-').next()?.trim().parse().ok()
}
