//! HTTP: one URL, tried until it works or will not.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io::{self, Read as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use imgforge_store::{Partial, StoreError};
use reqwest::blocking::{Client, ClientBuilder, Response};
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_RANGE,
    LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};

use super::credentials::Secret;
use super::error::{chain, redacted};
use super::{Credentials, Event, FetchError, OnEvent, Patience, Reason, Request};

/// How often a request may be sent on.
const REDIRECTS: usize = 10;

/// Bytes between two failures that make a download worth the same patience again.
const HEADWAY: u64 = 1 << 20;

/// Why an attempt ended.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may go better next time, after what the server asked for.
    Passing { reason: Reason, wait: Option<Duration> },
    /// It will not.
    Final(Reason),
    /// The bytes could not be put down.
    Store(StoreError),
    /// Somebody else's failure ended it.
    Stopped,
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Trouble {
    fn passing(reason: Reason) -> Self {
        Self::Passing { reason, wait: None }
    }
}

#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    credentials: Credentials,
    patience: Patience,
}

impl Http {
    pub(super) fn new(
        client: ClientBuilder,
        credentials: Credentials,
        patience: Patience,
    ) -> Result<Self, FetchError> {
        // Redirects are followed here, because who gets which credentials is not left to a library. The library's
        // timeout is for the head of the answer and then for each piece of the body, not for the whole.
        let client = client
            .user_agent(concat!("imgforge/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(patience.connect)
            .timeout(patience.silence)
            .build()
            .map_err(|error| FetchError::Client { reason: chain(&error) })?;
        Ok(Self { client, credentials, patience })
    }

    /// Reads a small file.
    pub(super) fn get(&self, url: &Url, limit: u64) -> Result<Vec<u8>, Reason> {
        let mut retries = Retries::new(self.patience);
        loop {
            let trouble = match self.get_once(url, limit) {
                Ok(bytes) => return Ok(bytes),
                Err(trouble) => trouble,
            };
            match retries.after(trouble) {
                Ok((wait, _)) => std::thread::sleep(wait),
                Err(Trouble::Passing { reason, .. } | Trouble::Final(reason)) => return Err(reason),
                Err(Trouble::Store(error)) => return Err(Reason::File(error.to_string())),
                Err(Trouble::Stopped) => return Err(Reason::Connection("stopped".to_owned())),
            }
        }
    }

    fn get_once(&self, url: &Url, limit: u64) -> Result<Vec<u8>, Trouble> {
        let response = self.open(url, &HeaderMap::new())?;
        let too_long = Trouble::Final(Reason::TooLong { expected: limit });
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(too_long);
        }
        let mut bytes = Vec::new();
        response.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(broken)?;
        if bytes.len() as u64 > limit { Err(too_long) } else { Ok(bytes) }
    }

    /// Completes a partial, from wherever it stands. The result tells whether bytes of several transfers are in it.
    pub(super) fn download(
        &self,
        stop: &AtomicBool,
        partial: &mut Partial,
        url: &Url,
        request: &Request,
        on_event: OnEvent<'_>,
    ) -> Result<bool, Trouble> {
        let mut transfer =
            Transfer { http: self, stop, url, request, on_event, is_spliced: partial.len() > 0, etag: None };
        if request.size.is_some_and(|size| partial.len() > size) {
            transfer.restart(partial)?;
        }
        let mut retries = Retries::new(self.patience);
        // Killed between the last byte and its name: there is nothing left to ask for.
        while request.size != Some(partial.len()) || partial.len() == 0 {
            let before = partial.len();
            let trouble = match transfer.attempt(partial) {
                Ok(()) => break,
                Err(trouble) => trouble,
            };
            if partial.len() >= before + HEADWAY {
                retries = Retries::new(self.patience);
            }
            let (wait, reason) = retries.after(trouble)?;
            on_event(request, Event::Retry { wait, reason: &reason });
            transfer.sleep(wait)?;
        }
        Ok(transfer.is_spliced)
    }

    /// Sends a request, and on to where it is redirected.
    fn open(&self, url: &Url, headers: &HeaderMap) -> Result<Response, Trouble> {
        let home = url.origin();
        let own = Secret::of_url(url);
        let mut url = bare(url);
        for _ in 0..=REDIRECTS {
            let mut request = self.client.get(url.clone()).headers(headers.clone());
            // A compressed transfer would not have the digest.
            request = request.header(ACCEPT_ENCODING, "identity");
            // Those in the URL are for its origin alone. Another host gets what is configured for it, unless the
            // one that sent us there has us speak in the clear.
            let secret = match url.origin() == home {
                true => own.as_ref().or_else(|| self.credentials.for_host(&url)),
                false if url.scheme() == "https" => self.credentials.for_host(&url),
                false => None,
            };
            request = match secret {
                Some(Secret::Basic { user, password }) => request.basic_auth(user, Some(password)),
                Some(Secret::Bearer(token)) => request.header(AUTHORIZATION, token),
                None => request,
            };
            let response = request.send().map_err(unsent)?;
            let status = response.status();
            if status.is_success()
                || (status == StatusCode::RANGE_NOT_SATISFIABLE && headers.contains_key(RANGE))
            {
                return Ok(response);
            }
            if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                url = next(&url, response.headers())?;
                continue;
            }
            let is_passing = status.is_server_error()
                || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
            return Err(match retry_after(response.headers()) {
                Some(wait) if is_passing => {
                    Trouble::Passing { reason: Reason::Busy { status, wait }, wait: Some(wait) }
                }
                None if is_passing => Trouble::passing(Reason::Status(status)),
                _ => Trouble::Final(Reason::Status(status)),
            });
        }
        Err(Trouble::Final(Reason::Redirect(format!("more than {REDIRECTS} times"))))
    }
}

/// One URL's way into a partial, over as many connections as it takes.
struct Transfer<'a> {
    http: &'a Http,
    stop: &'a AtomicBool,
    url: &'a Url,
    request: &'a Request,
    on_event: OnEvent<'a>,
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
        let response = self.http.open(self.url, &headers)?;
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
        let end = response.content_length().map(|length| partial.len() + length);
        self.receive(response, partial)?;
        match self.request.size.or(end) {
            Some(end) if partial.len() < end => {
                let reason = format!("the connection ended after {} of {end} bytes", partial.len());
                Err(Trouble::passing(Reason::Connection(reason)))
            }
            _ => Ok(()),
        }
    }

    fn receive(&self, mut response: Response, partial: &mut Partial) -> Result<(), Trouble> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Trouble::Stopped);
            }
            let count = match response.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(error)),
            };
            if let Some(expected) = self.request.size
                && partial.len() + count as u64 > expected
            {
                self.restart(partial)?;
                return Err(Trouble::Final(Reason::TooLong { expected }));
            }
            partial.append(buffer.get(..count).unwrap_or(&buffer))?;
            (self.on_event)(self.request, Event::Bytes(count as u64));
        }
    }

    fn restart(&self, partial: &mut Partial) -> Result<(), Trouble> {
        partial.restart()?;
        (self.on_event)(self.request, Event::Restarted);
        Ok(())
    }

    /// Sleeps in short naps, so that somebody else's failure does not wait for this one's patience.
    fn sleep(&self, wait: Duration) -> Result<(), Trouble> {
        let nap = Duration::from_millis(100);
        let mut rest = wait;
        while !rest.is_zero() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Trouble::Stopped);
            }
            std::thread::sleep(rest.min(nap));
            rest = rest.saturating_sub(nap);
        }
        Ok(())
    }
}

/// How much patience is left.
struct Retries {
    patience: Patience,
    count: u32,
}

impl Retries {
    fn new(patience: Patience) -> Self {
        Self { patience, count: 0 }
    }

    /// How long to wait before the next attempt, and why the last one failed; or the trouble, when it was one too
    /// many or will not pass.
    fn after(&mut self, trouble: Trouble) -> Result<(Duration, Reason), Trouble> {
        let Trouble::Passing { reason, wait } = trouble else { return Err(trouble) };
        if self.count == self.patience.retries {
            return Err(Trouble::Passing { reason, wait });
        }
        let doubled = self.patience.first_wait.saturating_mul(2_u32.saturating_pow(self.count));
        self.count += 1;
        let wait = wait.unwrap_or_else(|| doubled.mul_f64(0.5 + random())).min(self.patience.longest_wait);
        Ok((wait, reason))
    }
}

/// A number in `0..1`, other in each process and at each call: enough to keep clients from coming back all at once.
fn random() -> f64 {
    let bits = RandomState::new().hash_one(0_u8);
    f64::from(u32::try_from(bits >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

/// What the request asks for is in its headers; the library would make some of a user in the URL by itself.
fn bare(url: &Url) -> Url {
    let mut url = url.clone();
    // These fail for URLs that can't have credentials, which then have none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// Where a redirect leads. Credentials in it are not ours, and are dropped.
fn next(url: &Url, headers: &HeaderMap) -> Result<Url, Trouble> {
    let wrong = |text: String| Trouble::Final(Reason::Redirect(text));
    let location = headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let location = location.ok_or_else(|| wrong("to nowhere".to_owned()))?;
    let next = url.join(location).map_err(|error| wrong(format!("to what is no URL: {error}")))?;
    match next.scheme() {
        "http" | "https" => Ok(bare(&next)),
        _ => Err(wrong(format!("to {}", redacted(next.as_str())))),
    }
}

/// Where the bytes of a partial answer begin. Source: RFC 9110, section 14.4.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = text(headers, &CONTENT_RANGE)?.strip_prefix("bytes ")?;
    range.split('-').next()?.trim().parse().ok()
}

/// How long the server asks to wait. A date counts from the server's own clock. Source: RFC 9110, section 10.2.3.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = text(headers, &RETRY_AFTER)?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = httpdate::parse_http_date(text(headers, &DATE)?).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// An error before there was an answer.
fn unsent(error: reqwest::Error) -> Trouble {
    // The library's own text has the URL in it.
    let error = error.without_url();
    let reason = chain(&error);
    if reason.contains("certificate") {
        return Trouble::Final(Reason::Certificate(reason));
    }
    if error.is_builder() {
        return Trouble::Final(Reason::Url(reason));
    }
    Trouble::passing(Reason::Connection(reason))
}

/// An error in the middle of an answer.
fn broken(error: io::Error) -> Trouble {
    let reason = match error.get_ref().and_then(|inner| inner.downcast_ref::<reqwest::Error>()) {
        Some(inner) => inner_text(inner),
        None => chain(&error),
    };
    Trouble::passing(Reason::Connection(reason))
}

/// [`chain`] of a borrowed error, whose own text may have the URL in it: its causes, and what it is.
fn inner_text(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() { "the server fell silent" } else { "the connection broke" };
    match std::error::Error::source(error) {
        Some(cause) if !error.is_timeout() => format!("{what}: {}", chain(cause)),
        _ => what.to_owned(),
    }
}
