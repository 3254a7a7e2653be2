//! HTTP, with the credentials that artifacts are fetched with.

use std::sync::atomic::AtomicBool;

use imgforge_http::{
    Download, Event, Halt, Hop, Http, Outcome, Patience, Reason, Request, Response, SetupError, Trouble,
    follow, persist,
};
use imgforge_store::Partial;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RANGE};
use reqwest::{ClientBuilder, Method, StatusCode, Url};

use super::Credentials;
use super::credentials::Secret;

#[derive(Debug)]
pub(super) struct Connections {
    http: Http,
    credentials: Credentials,
}

impl Connections {
    pub(super) fn new(
        client: ClientBuilder,
        credentials: Credentials,
        patience: Patience,
    ) -> Result<Self, SetupError> {
        Ok(Self { http: Http::new(client, patience)?, credentials })
    }

    /// Reads a small file.
    pub(super) fn get(&self, url: &Url, limit: u64) -> Result<Vec<u8>, Reason> {
        let (patience, forever) = (self.http.patience(), AtomicBool::new(false));
        let bytes = persist(patience, &forever, &|_, _| {}, || {
            self.open(url, &HeaderMap::new())?.accepted()?.bytes(limit)
        });
        bytes.map_err(|trouble| match trouble {
            Trouble::Passing { reason, .. } | Trouble::Final(reason) => reason,
            Trouble::Halt(Halt::Store(error)) => Reason::Content(error.to_string()),
            Trouble::Halt(Halt::Stopped) => Reason::Connection("stopped".to_owned()),
        })
    }

    /// Completes a partial, from wherever it stands.
    pub(super) fn download(
        &self,
        stop: &AtomicBool,
        partial: Partial,
        url: &Url,
        size: Option<u64>,
        on_event: &dyn Fn(Event<'_>),
    ) -> Result<Outcome, Halt> {
        let ask = |headers: &HeaderMap| {
            let response = self.open(url, headers)?;
            match response.status() {
                StatusCode::RANGE_NOT_SATISFIABLE if headers.contains_key(RANGE) => Ok(response),
                _ => response.accepted(),
            }
        };
        Download { size, patience: self.http.patience(), stop, ask: &ask, on_event }.run(partial)
    }

    pub(super) fn open(&self, url: &Url, headers: &HeaderMap) -> Result<Response, Trouble> {
        let own = Secret::of_url(url);
        let request = Request { headers: headers.clone(), ..Request::new(Method::GET, url.clone()) };
        // Those in the URL are for its origin alone. Another host gets what is configured for it, unless the one that
        // sent us there has us speak in the clear.
        let carry = |hop: &Hop<'_>, request: Request| {
            let secret = match hop.is_home {
                true => own.as_ref().or_else(|| self.credentials.for_host(hop.url)),
                false if hop.url.scheme() == "https" => self.credentials.for_host(hop.url),
                false => None,
            };
            self.http.send(&match secret {
                Some(secret) => request.header(AUTHORIZATION, secret.header()),
                None => request,
            })
        };
        follow(&request, &carry)
    }
}

impl Secret {
    fn header(&self) -> HeaderValue {
        match self {
            Self::Basic { user, password } => imgforge_http::basic(user, password),
            Self::Bearer(header) => header.clone(),
        }
    }
}
