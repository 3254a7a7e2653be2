use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use data_encoding::BASE64;
use imgforge_oci::Digest;

use super::{Answer, Head, Layer};

/// Who may use the registry. Nothing else that a test has looks like these, so that they can be searched for.
pub const USER: &str = "uSer-53cret";
pub const PASSWORD: &str = "pa55-53cret";
/// What the token server takes instead of them.
pub const IDENTITY: &str = "1dentity-53cret";

/// How a server wants to be told who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    Open,
    Basic,
    /// With a token, which each server gives out at `/token`.
    Bearer,
}

/// What a registry has, and how it should answer.
///
/// Source: OCI distribution specification 1.1; Docker's token authentication specification.
#[derive(Default)]
pub struct Registry {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By repository and digest.
    blobs: BTreeMap<(String, String), Vec<u8>>,
    /// Media type and bytes, by repository and tag or digest.
    manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    uploads: BTreeMap<usize, Upload>,
    started: usize,
    tokens: BTreeSet<String>,
    /// What chunks of uploads may not go below, but for the last one.
    least_chunk: usize,
}

#[derive(Default)]
struct Upload {
    bytes: Vec<u8>,
    /// Bytes of the chunk that came last.
    chunk: Option<usize>,
}

impl Registry {
    pub fn add_blob(&self, repository: &str, layer: &Layer) {
        let key = (repository.to_owned(), layer.descriptor.digest.to_string());
        self.state.lock().unwrap().blobs.insert(key, layer.bytes.clone());
    }

    pub fn add_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) {
        for name in [tag.to_owned(), Digest::of(bytes).to_string()] {
            let manifest = (media_type.to_owned(), bytes.to_vec());
            self.state.lock().unwrap().manifests.insert((repository.to_owned(), name), manifest);
        }
    }

    pub fn has_blob(&self, repository: &str, layer: &Layer) -> bool {
        let key = (repository.to_owned(), layer.descriptor.digest.to_string());
        self.state.lock().unwrap().blobs.get(&key).is_some_and(|found| *found == layer.bytes)
    }

    pub fn manifest(&self, repository: &str, name: &str) -> Option<Vec<u8>> {
        let key = (repository.to_owned(), name.to_owned());
        self.state.lock().unwrap().manifests.get(&key).map(|(_, bytes)| bytes.clone())
    }

    pub fn set_least_chunk(&self, bytes: usize) {
        self.state.lock().unwrap().least_chunk = bytes;
    }

    /// Every token that was given out.
    pub fn tokens(&self) -> Vec<String> {
        self.state.lock().unwrap().tokens.iter().cloned().collect()
    }

    pub fn answer(&self, auth: Auth, head: &Head, body: Vec<u8>) -> Answer {
        let mut state = self.state.lock().unwrap();
        if head.path() == "/token" {
            return state.token(head, &body);
        }
        let proof = head.header("authorization").unwrap_or_default();
        let is_known = match auth {
            Auth::Open => true,
            Auth::Basic => proof == basic(),
            Auth::Bearer => proof.strip_prefix("Bearer ").is_some_and(|token| state.tokens.contains(token)),
        };
        if !is_known {
            return unauthorized(auth, head);
        }
        let path = head.path().to_owned();
        let Some(path) = path.strip_prefix("/v2/") else { return refusal("404 Not Found", "NAME_UNKNOWN") };
        if path.is_empty() {
            return Answer::new("200 OK", "{}");
        }
        if let Some((repository, id)) = path.split_once("/blobs/uploads/") {
            return state.upload(repository, id, head, body);
        }
        if let Some((repository, digest)) = path.split_once("/blobs/") {
            return match state.blobs.get(&(repository.to_owned(), digest.to_owned())) {
                Some(bytes) => ranged(head, bytes).with("Docker-Content-Digest", digest),
                None => refusal("404 Not Found", "BLOB_UNKNOWN"),
            };
        }
        match path.split_once("/manifests/") {
            Some((repository, name)) => state.manifest(repository, name, head, body),
            None => refusal("404 Not Found", "NAME_UNKNOWN"),
        }
    }
}

impl State {
    fn token(&mut self, head: &Head, body: &[u8]) -> Answer {
        let is_known = match head.method.as_str() {
            "POST" => String::from_utf8_lossy(body).contains(&format!("refresh_token={IDENTITY}&")),
            _ => head.header("authorization") == Some(&basic()),
        };
        if !is_known {
            return refusal("401 Unauthorized", "DENIED");
        }
        let token = format!("t0ken-53cret-{}", self.tokens.len());
        let answer = format!("{{\"token\":\"{token}\",\"expires_in\":300}}");
        self.tokens.insert(token);
        Answer::new("200 OK", answer).with("Content-Type", "application/json")
    }

    fn manifest(&mut self, repository: &str, name: &str, head: &Head, body: Vec<u8>) -> Answer {
        let key = |name: &str| (repository.to_owned(), name.to_owned());
        if head.method != "PUT" {
            return match self.manifests.get(&key(name)) {
                Some((media_type, bytes)) => Answer::new("200 OK", bytes.clone())
                    .with("Content-Type", media_type)
                    .with("Docker-Content-Digest", Digest::of(bytes).to_string()),
                None => refusal("404 Not Found", "MANIFEST_UNKNOWN"),
            };
        }
        let digest = Digest::of(&body).to_string();
        if name.contains(':') && name != digest {
            return refusal("400 Bad Request", "DIGEST_INVALID");
        }
        let media_type = head.header("content-type").unwrap_or_default().to_owned();
        for name in [name, &digest] {
            self.manifests.insert(key(name), (media_type.clone(), body.clone()));
        }
        Answer::new("201 Created", "")
            .with("Location", format!("/v2/{repository}/manifests/{digest}"))
            .with("Docker-Content-Digest", digest)
    }

    fn upload(&mut self, repository: &str, id: &str, head: &Head, body: Vec<u8>) -> Answer {
        let stored = |digest: &str| {
            Answer::new("201 Created", "")
                .with("Location", format!("/v2/{repository}/blobs/{digest}"))
                .with("Docker-Content-Digest", digest)
        };
        if head.method == "POST" {
            let from = head.query("mount").zip(head.query("from"));
            if let Some((digest, from)) = from
                && let Some(bytes) = self.blobs.get(&(from, digest.clone())).cloned()
            {
                self.blobs.insert((repository.to_owned(), digest.clone()), bytes);
                return stored(&digest);
            }
            self.started += 1;
            self.uploads.insert(self.started, Upload::default());
            let answer = progress("202 Accepted", repository, self.started, 0);
            return match self.least_chunk {
                0 => answer,
                least => answer.with("OCI-Chunk-Min-Length", least.to_string()),
            };
        }
        let id: usize = id.parse().unwrap_or(0);
        let Some(Upload { bytes, chunk }) = self.uploads.get_mut(&id) else {
            return refusal("404 Not Found", "BLOB_UPLOAD_UNKNOWN");
        };
        let start = head.header("content-range").and_then(|range| range.split('-').next()?.parse().ok());
        match head.method.as_str() {
            "GET" => return progress("204 No Content", repository, id, bytes.len()),
            "PATCH" | "PUT" if start.is_some_and(|start: usize| start != bytes.len()) => {
                return progress("416 Range Not Satisfiable", repository, id, bytes.len());
            }
            // Only the last one may be too small.
            "PATCH" if chunk.is_some_and(|chunk| chunk < self.least_chunk) => {
                return refusal("400 Bad Request", "SIZE_INVALID");
            }
            "PATCH" => {
                *chunk = Some(body.len());
                bytes.extend_from_slice(&body);
                return progress("202 Accepted", repository, id, bytes.len());
            }
            "PUT" => bytes.extend_from_slice(&body),
            "DELETE" => {
                self.uploads.remove(&id);
                return Answer::new("204 No Content", "");
            }
            _ => return refusal("405 Method Not Allowed", "UNSUPPORTED"),
        }
        let Upload { bytes, .. } = self.uploads.remove(&id).unwrap();
        let digest = Digest::of(&bytes).to_string();
        if head.query("digest").as_ref() != Some(&digest) {
            return refusal("400 Bad Request", "DIGEST_INVALID");
        }
        self.blobs.insert((repository.to_owned(), digest.clone()), bytes);
        stored(&digest)
    }
}

/// The errors of the specification have bodies like this one.
pub fn refusal(status: &'static str, code: &str) -> Answer {
    let text = format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"said the mock\"}}]}}");
    Answer::new(status, text).with("Content-Type", "application/json")
}

fn unauthorized(auth: Auth, head: &Head) -> Answer {
    let repository = head.path().strip_prefix("/v2/").and_then(|path| path.split("/blobs/").next());
    let repository = repository.and_then(|path| path.split("/manifests/").next()).unwrap_or_default();
    let actions = if matches!(head.method.as_str(), "GET" | "HEAD") { "pull" } else { "pull,push" };
    let challenge = match auth {
        Auth::Bearer => format!(
            "Bearer realm=\"{{home}}/token\",service=\"mock\",scope=\"repository:{repository}:{actions}\""
        ),
        _ => "Basic realm=\"mock\"".to_owned(),
    };
    refusal("401 Unauthorized", "UNAUTHORIZED").with("WWW-Authenticate", challenge)
}

/// Where an upload stands.
fn progress(status: &'static str, repository: &str, id: usize, length: usize) -> Answer {
    Answer::new(status, "")
        .with("Location", format!("/v2/{repository}/blobs/uploads/{id}?state={length}"))
        .with("Range", format!("0-{}", length.saturating_sub(1)))
}

fn ranged(head: &Head, bytes: &[u8]) -> Answer {
    let start = head.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    match start.map(|start| start.parse::<usize>().unwrap()) {
        Some(start) if start < bytes.len() => Answer::new("206 Partial Content", &bytes[start..])
            .with("Content-Range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len())),
        Some(_) => refusal("416 Range Not Satisfiable", "SIZE_INVALID"),
        None => Answer::new("200 OK", bytes),
    }
}

/// What proves to the registry who asks.
fn basic() -> String {
    format!("Basic {}", BASE64.encode(format!("{USER}:{PASSWORD}").as_bytes()))
}
