//! Reading: manifests and blobs.

use std::time::Duration;

use imgforge_http::{Download, Event, Outcome, Reason, Request, Response, Trouble, persist};
use imgforge_oci::{Blob, Descriptor, Digest, MediaType, read};
use imgforge_store::Store;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RANGE};
use reqwest::{Method, StatusCode, Url};

use crate::document;
use crate::scope::Scope;
use crate::{Error, ManifestProblem, OnEvent, Reference, Repository};

/// The digest of what is sent or was received, by whoever answers.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What a manifest is asked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagOrDigest<'a> {
    /// What the registry has under this name now.
    Tag(&'a str),
    /// These bytes.
    Digest(&'a Digest),
}

impl std::fmt::Display for TagOrDigest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// The digest, where there is one; else the tag, which is `latest` unless another one is written.
impl<'a> From<&'a Reference> for TagOrDigest<'a> {
    fn from(reference: &'a Reference) -> Self {
        match reference.digest() {
            Some(digest) => Self::Digest(digest),
            None => Self::Tag(reference.tag_or_latest()),
        }
    }
}

impl Repository<'_> {
    /// Reads a manifest or an index; none when the registry has none of this name.
    ///
    /// By digest, the bytes are compared with it. By tag, they are compared with what the registry says of them.
    ///
    /// # Errors
    /// [`Error::Failed`]; [`Error::Document`] for other bytes than asked for; [`Error::Manifest`] for what is neither
    /// manifest nor index.
    pub fn manifest(&self, name: TagOrDigest<'_>) -> Result<Option<Blob>, Error> {
        let what = || format!("fetch the manifest {}", self.at(name));
        let response = self.persist(what, &|_| {}, || {
            let request = self.manifest_request(Method::GET, name)?;
            let response = self.send(&request, &Scope::pull(&self.name))?;
            if response.status() == StatusCode::NOT_FOUND {
                return Ok(None);
            }
            let response = self.accepted(response)?;
            let headers = response.headers().clone();
            Ok(Some((headers, response.bytes(read::MAX_MANIFEST)?)))
        })?;
        let Some((headers, bytes)) = response else { return Ok(None) };
        let received = Digest::of(&bytes);
        let claimed = text(&headers, &CONTENT_DIGEST).and_then(|text| text.parse::<Digest>().ok());
        match name {
            TagOrDigest::Digest(expected) if *expected != received => {
                let source = imgforge_oci::Error::DigestMismatch {
                    what: "the manifest".to_owned(),
                    expected: *expected,
                    found: received,
                };
                return Err(Error::Document { what: what(), source });
            }
            // What a proxy cut off or altered would be taken for what the tag stands for.
            TagOrDigest::Tag(_) if claimed.is_some_and(|claimed| claimed != received) => {
                let claimed = claimed.unwrap_or(received).to_string();
                let problem = ManifestProblem::Digest { claimed, received: received.to_string() };
                return Err(Error::Manifest { what: what(), problem });
            }
            _ => {}
        }
        let sent = text(&headers, &CONTENT_TYPE).unwrap_or_default();
        let media_type = document::media_type(sent, &bytes)
            .map_err(|problem| Error::Manifest { what: what(), problem })?;
        Ok(Some(Blob::new(media_type, bytes)))
    }

    /// What names a manifest or an index, without fetching it where the registry says enough; none when it has none of
    /// this name.
    ///
    /// # Errors
    /// As for [`manifest`](Self::manifest).
    pub fn manifest_digest(&self, name: TagOrDigest<'_>) -> Result<Option<Descriptor>, Error> {
        let what = || format!("ask for the manifest {}", self.at(name));
        let response = self.persist(what, &|_| {}, || {
            let request = self.manifest_request(Method::HEAD, name)?;
            let response = self.send(&request, &Scope::pull(&self.name))?;
            match response.status() {
                StatusCode::NOT_FOUND => Ok(None),
                status if status.is_success() => Ok(Some(described(response.headers()))),
                // Whoever does not know the question is asked another way; whoever is busy will be again.
                status if status.is_client_error() && !is_passing(status) => Ok(Some(None)),
                _ => Err(self.refusal(response)),
            }
        })?;
        let found = match response {
            None => return Ok(None),
            Some(Some(descriptor)) => descriptor,
            Some(None) => match self.manifest(name)? {
                Some(blob) => blob.descriptor().clone(),
                None => return Ok(None),
            },
        };
        match name {
            TagOrDigest::Digest(expected) if *expected != found.digest => {
                let (claimed, received) = (found.digest.to_string(), expected.to_string());
                let problem = ManifestProblem::Digest { claimed, received };
                Err(Error::Manifest { what: what(), problem })
            }
            _ => Ok(Some(found)),
        }
    }

    /// Reads a small blob into memory, and compares it with its descriptor.
    ///
    /// # Errors
    /// [`Error::Failed`], with [`Reason::TooLong`] for one above `limit` bytes; [`Error::Document`].
    pub fn blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Blob, Error> {
        let what = || format!("fetch {} from {self}", descriptor.digest);
        if descriptor.size > limit {
            return Err(Error::Failed { what: what(), reason: Reason::TooLong { expected: limit } });
        }
        let bytes = self.persist(what, &|_| {}, || {
            let request = Request::new(Method::GET, self.url(&format!("blobs/{}", descriptor.digest))?);
            let response = self.send(&request, &Scope::pull(&self.name))?;
            let bytes = self.accepted(response)?.bytes(descriptor.size)?;
            match bytes.len() as u64 {
                length if length < descriptor.size => {
                    let reason = format!("the connection ended after {length} of {} bytes", descriptor.size);
                    Err(Trouble::passing(Reason::Connection(reason)))
                }
                _ => Ok(bytes),
            }
        })?;
        Blob::verified(descriptor.clone(), bytes).map_err(|source| Error::Document { what: what(), source })
    }

    /// Whether the repository has a blob.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let what = || format!("ask {self} for {digest}");
        self.persist(what, &|_| {}, || self.has_blob_once(digest, &Scope::pull(&self.name)))
    }

    pub(crate) fn has_blob_once(&self, digest: &Digest, scope: &Scope) -> Result<bool, Trouble> {
        let request = Request::new(Method::HEAD, self.url(&format!("blobs/{digest}"))?);
        let response = self.send(&request, scope)?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            _ => Err(self.refusal(response)),
        }
    }

    /// Fetches a blob of any size into the store, which compares it with its digest. What an interrupted transfer left
    /// is gone on with. [`Store::sync`] is left to the caller.
    ///
    /// # Errors
    /// [`Error::Failed`], [`Error::Store`], [`Error::Stopped`].
    pub fn fetch_blob(
        &self,
        store: &Store,
        descriptor: &Descriptor,
        on_event: OnEvent<'_>,
    ) -> Result<(), Error> {
        let what = || format!("fetch {} from {self}", descriptor.digest);
        let Some(partial) = store.partial(&descriptor.digest, || on_event(Event::Waiting))? else {
            return Ok(());
        };
        on_event(Event::Started { have: partial.len() });
        let ask = |headers: &HeaderMap| {
            let url = self.url(&format!("blobs/{}", descriptor.digest))?;
            let request = Request { headers: headers.clone(), ..Request::new(Method::GET, url) };
            let response = self.send(&request, &Scope::pull(&self.name))?;
            match response.status() {
                StatusCode::RANGE_NOT_SATISFIABLE if headers.contains_key(RANGE) => Ok(response),
                _ => self.accepted(response),
            }
        };
        let patience = self.client.patience();
        let size = Some(descriptor.size);
        match (Download { size, patience, stop: self.stop, ask: &ask, on_event }).run(partial)? {
            Outcome::Stored => Ok(()),
            Outcome::Rejected { reason, .. } => Err(Error::Failed { what: what(), reason }),
        }
    }

    /// Tries until it works or will not.
    pub(crate) fn persist<T>(
        &self,
        what: impl Fn() -> String,
        on_event: &dyn Fn(Event<'_>),
        attempt: impl FnMut() -> Result<T, Trouble>,
    ) -> Result<T, Error> {
        let on_retry = |wait: Duration, reason: &Reason| on_event(Event::Retry { wait, reason });
        persist(self.client.patience(), self.stop, &on_retry, attempt)
            .map_err(|trouble| Error::of(what(), trouble))
    }

    pub(crate) fn accepted(&self, response: Response) -> Result<Response, Trouble> {
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response)) }
    }

    /// `HOST/NAME:TAG` or `HOST/NAME@DIGEST`.
    pub(crate) fn at(&self, name: TagOrDigest<'_>) -> String {
        match name {
            TagOrDigest::Tag(tag) => format!("{self}:{tag}"),
            TagOrDigest::Digest(digest) => format!("{self}@{digest}"),
        }
    }

    /// `https://HOST/v2/NAME/PATH`.
    pub(crate) fn url(&self, path: &str) -> Result<Url, Trouble> {
        let mut url = self.client.base(&self.host)?;
        url.set_path(&format!("v2/{}/{path}", self.name));
        Ok(url)
    }

    fn manifest_request(&self, method: Method, name: TagOrDigest<'_>) -> Result<Request, Trouble> {
        let request = Request::new(method, self.url(&format!("manifests/{name}"))?);
        Ok(request.header(ACCEPT, HeaderValue::from_static(document::ACCEPTED)))
    }
}

/// What the head of an answer says of a manifest, if it says all.
fn described(headers: &HeaderMap) -> Option<Descriptor> {
    let digest = text(headers, &CONTENT_DIGEST)?.parse().ok()?;
    let size = text(headers, &CONTENT_LENGTH)?
        .parse()
        .ok()
        .filter(|size| (1..=read::MAX_MANIFEST).contains(size))?;
    let media_type = document::essence(text(headers, &CONTENT_TYPE)?);
    document::is_known(media_type).then(|| Descriptor::new(MediaType::from(media_type), digest, size))
}

fn is_passing(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
