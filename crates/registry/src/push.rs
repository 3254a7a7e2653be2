//! Writing: blobs are mounted or uploaded, manifests follow.

use imgforge_http::{Event, Reason, Request, Retries, Trouble, sleep};
use imgforge_oci::{Blob, Descriptor, Digest};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode, Url};

use crate::pull::{CONTENT_DIGEST, text};
use crate::scope::Scope;
use crate::upload::{Session, Upload, place_of};
use crate::{Content, Error, ManifestProblem, OnEvent, Repository, TagOrDigest};

/// What an upload came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uploaded {
    /// The repository had the blob.
    Skipped,
    /// Another repository of the registry had it.
    Mounted {
        /// That repository.
        from: String,
    },
    /// It was sent.
    Sent {
        /// Bytes that went over, those that went twice counted twice.
        bytes: u64,
    },
}

impl Repository<'_> {
    /// Makes the repository have a blob: looks whether it has it, tries to mount it from each of the other
    /// repositories of the same registry, sends it. An upload that breaks is gone on with, as far as the registry
    /// remembers it.
    ///
    /// # Errors
    /// [`Error::Failed`], [`Error::ContentSize`], [`Error::Stopped`].
    pub fn upload_blob(
        &self,
        descriptor: &Descriptor,
        content: &dyn Content,
        mount_from: &[String],
        on_event: OnEvent<'_>,
    ) -> Result<Uploaded, Error> {
        let Descriptor { digest, size, .. } = descriptor;
        let what = || format!("upload {digest} to {self}");
        if content.len() != *size {
            let (expected, found) = (*size, content.len());
            return Err(Error::ContentSize { what: what(), expected, found });
        }
        let others = || mount_from.iter().filter(|from| **from != self.name);
        let scope = others().fold(Scope::push(&self.name), |scope, from| scope.and(&Scope::pull(from)));
        if self.persist(what, on_event, || self.has_blob_once(digest, &scope))? {
            return Ok(Uploaded::Skipped);
        }
        let mut session = None;
        for from in others() {
            match self.persist(what, on_event, || self.mount(digest, from, &scope))? {
                Mount::Done => return Ok(Uploaded::Mounted { from: from.clone() }),
                Mount::Started(started) => session = Some(started),
                Mount::Refused => {}
            }
        }
        on_event(Event::Started { have: 0 });
        let mut upload = Upload::new(self, descriptor, content, scope, session, on_event);
        let mut retries = Retries::new(self.client.patience());
        loop {
            let trouble = match upload.attempt() {
                Ok(()) => return Ok(Uploaded::Sent { bytes: upload.sent() }),
                Err(trouble) => trouble,
            };
            if upload.has_made_headway() {
                retries.renew();
            }
            let failed = |trouble| Error::of(what(), trouble);
            let (wait, reason) = retries.after(trouble).map_err(failed)?;
            on_event(Event::Retry { wait, reason: &reason });
            sleep(self.stop, wait)?;
        }
    }

    /// Has the registry take a blob from another one of its repositories, and tells whether it did: where it did not, the
    /// blob has to be sent.
    ///
    /// # Errors
    /// [`Error::Stopped`]. That the registry can't or won't is none: the blob can still be sent.
    pub fn mount_blob(&self, digest: &Digest, from: &str) -> Result<bool, Error> {
        let what = || format!("mount {digest} from {from} in {self}");
        let scope = Scope::push(&self.name).and(&Scope::pull(from));
        match self.persist(what, &|_| {}, || self.mount(digest, from, &scope)) {
            Ok(Mount::Done) => Ok(true),
            Ok(Mount::Refused) => Ok(false),
            // It can still be sent.
            Err(Error::Failed { .. }) => Ok(false),
            Err(error) => Err(error),
            Ok(Mount::Started(session)) => {
                // The registry has opened an upload instead, which nobody is going to use. It forgets it by itself, too.
                let _ = self.send(&Request::new(Method::DELETE, session.url), &scope);
                Ok(false)
            }
        }
    }

    /// Puts a manifest or an index, after all that it refers to. Its name is a tag, or its own digest.
    ///
    /// # Errors
    /// [`Error::Failed`]; [`Error::Manifest`] when the registry takes it for something else.
    pub fn put_manifest(&self, manifest: &Blob, name: TagOrDigest<'_>) -> Result<(), Error> {
        let what = || format!("push the manifest {}", self.at(name));
        let descriptor = manifest.descriptor();
        let differs = |claimed: String| {
            let problem = ManifestProblem::Digest { claimed, received: descriptor.digest.to_string() };
            Err(Error::Manifest { what: what(), problem })
        };
        if let TagOrDigest::Digest(digest) = name
            && *digest != descriptor.digest
        {
            return differs(digest.to_string());
        }
        let claimed = self.persist(what, &|_| {}, || {
            let url = self.url(&format!("manifests/{name}"))?;
            let content_type = HeaderValue::from_str(descriptor.media_type.as_ref())
                .map_err(|error| Trouble::Final(Reason::Protocol(error.to_string())))?;
            let body = manifest.bytes().to_vec().into();
            let request =
                Request { body, ..Request::new(Method::PUT, url) }.header(CONTENT_TYPE, content_type);
            let response = self.accepted(self.send(&request, &Scope::push(&self.name))?)?;
            let place = text(response.headers(), &LOCATION).and_then(digest_at_end);
            Ok(text(response.headers(), &CONTENT_DIGEST).map(str::to_owned).or(place))
        })?;
        let claimed = match claimed {
            Some(claimed) => Some(claimed),
            // Nothing was said, so it is asked for.
            None => self.manifest_digest(name)?.map(|found| found.digest.to_string()),
        };
        match claimed {
            Some(claimed) if claimed == descriptor.digest.to_string() => Ok(()),
            // Another algorithm's is not ours to compare.
            Some(claimed) if !claimed.starts_with("sha256:") => Ok(()),
            Some(claimed) => differs(claimed),
            None => {
                let reason = Reason::Protocol("the registry took it, and does not have it".to_owned());
                Err(Error::Failed { what: what(), reason })
            }
        }
    }

    /// Asks the registry to take a blob from another repository.
    fn mount(&self, digest: &Digest, from: &str, scope: &Scope) -> Result<Mount, Trouble> {
        let mut url = self.url("blobs/uploads/")?;
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
        let response = match self.send(&empty_post(url), scope) {
            Ok(response) => response,
            // Reading from there is not allowed, which says nothing about sending the blob.
            Err(Trouble::Final(Reason::Credentials(_) | Reason::Refused { .. } | Reason::Status(_))) => {
                return Ok(Mount::Refused);
            }
            Err(trouble) => return Err(trouble),
        };
        match response.status() {
            StatusCode::CREATED => {
                // One that names something else may not have done it.
                let place = text(response.headers(), &LOCATION).and_then(digest_at_end);
                let is_there = place == Some(digest.to_string()) || self.has_blob_once(digest, scope)?;
                Ok(if is_there { Mount::Done } else { Mount::Refused })
            }
            StatusCode::ACCEPTED => Ok(Mount::Started(place_of(self, &response)?)),
            _ => match self.refusal(response) {
                trouble @ Trouble::Passing { .. } => Err(trouble),
                _ => Ok(Mount::Refused),
            },
        }
    }

    /// Begins an upload.
    pub(crate) fn start_upload(&self, scope: &Scope) -> Result<Session, Trouble> {
        let response = self.send(&empty_post(self.url("blobs/uploads/")?), scope)?;
        let response = self.accepted(response)?;
        place_of(self, &response)
    }
}

/// What came of asking for a mount.
enum Mount {
    Done,
    /// The registry would rather have it sent.
    Started(Session),
    Refused,
}

fn empty_post(url: Url) -> Request {
    Request::new(Method::POST, url).header(CONTENT_LENGTH, HeaderValue::from_static("0"))
}

/// The digest that the place of a manifest or a blob ends with, if it does.
fn digest_at_end(location: &str) -> Option<String> {
    let (_, last) = location.rsplit_once('/')?;
    last.parse::<Digest>().ok().map(|digest| digest.to_string())
}
