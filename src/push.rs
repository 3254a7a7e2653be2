//! Images to a registry, with nothing sent twice.
//!
//! What a registry has is asked for first: the manifest that the tag stands for (then all is there), else each blob. What
//! another repository of the same registry has is mounted. Only the rest has to be on this host, and is made or fetched if it
//! is not: a layer that the registry has needs no bytes here, nor a layer of the base. Blobs go first, several at a time,
//! then the manifests, then the index of several platforms, so that a tag never stands for what is not there.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use imgforge_oci::{Blob, Descriptor, Digest, Image, Kind, kind, read};
use imgforge_registry::{Client, FileContent, Reference, TagOrDigest, Uploaded};
use imgforge_store::Store;

use crate::error::Error;
use crate::transport::{ImageSource, Transport, TransportError};

/// Blobs asked for, and sent, at a time.
const TRANSFERS: usize = 6;

/// An image for a registry: a manifest, or an index with its manifests.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Where it goes, with its tag.
    pub to: Reference,
    /// Manifests, and the index last if there is one.
    pub documents: Vec<Blob>,
    /// Repositories of the same host that may have some of its blobs.
    pub neighbours: Vec<String>,
}

/// What became of the bytes of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Blobs and bytes that went over the network.
    pub sent: Count,
    /// Those that the registry took from another repository of its own.
    pub mounted: Count,
    /// Those that were there.
    pub skipped: Count,
}

/// How many, and how large together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Blobs.
    pub blobs: usize,
    /// Bytes.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.blobs += 1;
        self.bytes += bytes;
    }
}

/// What a push tells as it goes.
#[derive(Debug)]
pub enum Step<'a> {
    /// Part of a blob's way.
    Transfer {
        /// The blob.
        blob: &'a Descriptor,
        /// What happened.
        event: imgforge_registry::Event<'a>,
    },
}

/// Sends an image, until somebody sets `stop`. `provide` is asked to put blobs into the store that the registry lacks.
///
/// # Errors
/// [`Error::Push`] with what the registry says; an error of `provide`.
pub fn push(
    client: &Client,
    store: &Store,
    image: &Outgoing,
    stop: &AtomicBool,
    provide: &dyn Fn(&[Descriptor]) -> Result<(), Error>,
    on_step: &(dyn Fn(Step<'_>) + Sync),
) -> Result<Moved, Error> {
    let failed =
        |source: imgforge_registry::Error| Error::Push { to: image.to.to_string(), source: Box::new(source) };
    let repository = client.repository(&image.to).until(stop);
    let Asked { mut moved, lacking, is_there } = ask(client, image)?;
    if is_there {
        return Ok(moved);
    }

    // What another repository of the host has needs not be here.
    let (moving, rest) = (Mutex::new(&mut moved), Mutex::new(Vec::new()));
    let mount = |blob: &Descriptor| {
        for neighbour in &image.neighbours {
            if repository.mount_blob(&blob.digest, neighbour)? {
                lock(&moving).mounted.add(blob.size);
                return Ok(());
            }
        }
        lock(&rest).push(blob.clone());
        Ok(())
    };
    in_parallel(&lacking, mount).map_err(failed)?;
    let mut rest = rest.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    rest.sort_by_key(|blob| (std::cmp::Reverse(blob.size), blob.digest));
    provide(&rest)?;

    let send = |blob: &Descriptor| {
        let content = FileContent::of_store(store, &blob.digest)?;
        let on_event = |event: imgforge_registry::Event<'_>| on_step(Step::Transfer { blob, event });
        match repository.upload_blob(blob, &content, &[], &on_event)? {
            Uploaded::Sent { .. } => lock(&moving).sent.add(blob.size),
            Uploaded::Mounted { .. } => lock(&moving).mounted.add(blob.size),
            // Somebody else was faster.
            Uploaded::Skipped => lock(&moving).skipped.add(blob.size),
        }
        Ok(())
    };
    in_parallel(&rest, send).map_err(failed)?;

    if let Some((top, parts)) = image.documents.split_last() {
        for manifest in parts {
            repository
                .put_manifest(manifest, TagOrDigest::Digest(&manifest.descriptor().digest))
                .map_err(failed)?;
        }
        repository.put_manifest(top, TagOrDigest::Tag(image.to.tag_or_latest())).map_err(failed)?;
    }
    Ok(moved)
}

/// What a registry has of an image.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// What was there.
    pub moved: Moved,
    /// Blobs that it lacks.
    pub lacking: Vec<Descriptor>,
    /// Whether the tag stands for the image already.
    pub is_there: bool,
}

/// Asks what a registry has of an image; changes nothing.
///
/// # Errors
/// [`Error::Push`] with what the registry says.
pub fn ask(client: &Client, image: &Outgoing) -> Result<Asked, Error> {
    let failed =
        |source: imgforge_registry::Error| Error::Push { to: image.to.to_string(), source: Box::new(source) };
    let repository = client.repository(&image.to);
    let parts = parts(image)?;
    let tag = TagOrDigest::Tag(image.to.tag_or_latest());
    let there = repository.manifest_digest(tag).map_err(failed)?;
    let top = image.documents.last().map(|top| top.descriptor().digest);
    let mut asked = Asked::default();
    if there.is_some_and(|there| Some(there.digest) == top) {
        parts.iter().for_each(|part| asked.moved.skipped.add(part.size));
        return Ok(Asked { is_there: true, ..asked });
    }
    let shared = Mutex::new(&mut asked);
    let look = |part: &Descriptor| {
        let has = repository.has_blob(&part.digest)?;
        let mut asked = lock(&shared);
        if has {
            asked.moved.skipped.add(part.size)
        } else {
            asked.lacking.push(part.clone())
        }
        Ok(())
    };
    in_parallel(&parts, look).map_err(failed)?;
    asked.lacking.sort_by_key(|blob| (std::cmp::Reverse(blob.size), blob.digest));
    Ok(asked)
}

/// The images that a tag stands for now, one for each platform. None where there is none, or something that can't be read
/// as one.
///
/// # Errors
/// [`Error::Transport`] when the registry can't be asked.
pub fn present(client: &Client, to: &Reference) -> Result<Vec<Image>, Error> {
    let source = ImageSource::open(&Transport::Registry(to.clone()), client, false)?;
    match source.resolve() {
        Ok(top) => Ok(source.images(&top).unwrap_or_default()),
        Err(TransportError::Missing { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Configs and layers, each once.
fn parts(image: &Outgoing) -> Result<Vec<Descriptor>, Error> {
    let mut parts: BTreeMap<Digest, Descriptor> = BTreeMap::new();
    for document in &image.documents {
        if kind(&document.descriptor().media_type) == Kind::Manifest {
            parts.extend(read::children(document)?.into_iter().map(|child| (child.digest, child)));
        }
    }
    Ok(parts.into_values().collect())
}

fn in_parallel<T: Sync>(
    items: &[T],
    work: impl Fn(&T) -> Result<(), imgforge_registry::Error> + Sync,
) -> Result<(), imgforge_registry::Error> {
    imgforge_http::in_parallel(TRANSFERS, &AtomicBool::new(false), items, |_| false, work)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The bucket of what this store has sent where.
const BUCKET: &str = "registries/1";

/// Repositories of a host that are remembered.
const REMEMBERED: usize = 6;

/// Repositories of a host that images were sent to from this store, the last one first.
///
/// # Errors
/// As for any reading of the store.
pub fn neighbours(store: &Store, host: &str) -> Result<Vec<String>, Error> {
    let known: Option<Vec<String>> = store.record(BUCKET, &Digest::of(host.as_bytes()).hex())?;
    Ok(known.unwrap_or_default())
}

/// Remembers that images were sent to a repository.
///
/// # Errors
/// As for any writing to the store.
pub fn remember(store: &Store, to: &Reference) -> Result<(), Error> {
    let mut known = neighbours(store, to.host())?;
    if known.first().is_some_and(|first| first == to.repository()) {
        return Ok(());
    }
    known.retain(|other| other != to.repository());
    known.insert(0, to.repository().to_owned());
    known.truncate(REMEMBERED);
    store.put_record(BUCKET, &Digest::of(to.host().as_bytes()).hex(), &known, &[])?;
    Ok(())
}

/// Why images can't go where they are to go.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// Not a registry's.
    #[error("`{0}` is no place in a registry: write `docker://HOST/NAME`")]
    NoRegistry(String),
    /// It can't be read, with the words put in.
    #[error("`{text}`: {reason}")]
    Reference {
        /// With the words put in.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two images would have one name.
    #[error("{first} and {second} would both be {to}")]
    Same {
        /// One image.
        first: String,
        /// The other.
        second: String,
        /// The name.
        to: String,
    },
}

impl DestinationError {
    /// What mends it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Same { .. } => Some(
                "put `{image}` into the destination, as in `docker://HOST/NAME/{image}`, or give the images tags of their \
                 own in images.toml"
                    .to_owned(),
            ),
            Self::NoRegistry(_) | Self::Reference { .. } => None,
        }
    }
}

/// Where each image goes: `{image}` and `{tag}` in the destination stand for an image's own, and one without a tag gets
/// the image's.
///
/// `images` are names and tags.
///
/// # Errors
/// [`DestinationError`].
pub fn destinations(text: &str, images: &[(String, String)]) -> Result<Vec<Reference>, DestinationError> {
    let Some(rest) = text.strip_prefix("docker://") else {
        return Err(DestinationError::NoRegistry(text.to_owned()));
    };
    let mut taken: BTreeMap<Reference, &str> = BTreeMap::new();
    let mut references = Vec::new();
    for (name, tag) in images {
        let text = rest.replace("{image}", name).replace("{tag}", tag);
        let wrong = |reason: String| DestinationError::Reference { text: text.clone(), reason };
        let mut reference: Reference = text.parse().map_err(|error| wrong(format!("{error}")))?;
        if reference.digest().is_some() {
            return Err(wrong("a digest is what comes out, not where it goes".to_owned()));
        }
        if reference.tag().is_none() {
            reference = reference.with_tag(tag).map_err(|error| wrong(error.to_string()))?;
        }
        if let Some(first) = taken.insert(reference.clone(), name) {
            let (first, second, to) = (first.to_owned(), name.clone(), reference.to_string());
            return Err(DestinationError::Same { first, second, to });
        }
        references.push(reference);
    }
    Ok(references)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where `runtime:1` and `devel:1` go.
    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let images = [("runtime", "1"), ("devel", "1")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        let found: Vec<String> = match destinations(text, &images) {
            Ok(references) => references.iter().map(Reference::to_string).collect(),
            Err(error) => vec![error.to_string()],
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn each_image_has_a_place() {
        check("docker://r.example/a/{image}", &["r.example/a/runtime:1", "r.example/a/devel:1"]);
        check("docker://r.example/a:{image}", &["r.example/a:runtime", "r.example/a:devel"]);
        check("docker://r.example/a:{image}-{tag}", &["r.example/a:runtime-1", "r.example/a:devel-1"]);
        check("docker://r.example/a", &["runtime and devel would both be r.example/a:1"]);
        check("oci:a", &["`oci:a` is no place in a registry: write `docker://HOST/NAME`"]);
    }

    #[test]
    fn one_image_goes_where_it_is_sent() {
        let one = [("runtime".to_owned(), "1".to_owned())];
        let to = |text| destinations(text, &one).unwrap().first().unwrap().to_string();
        assert_eq!(to("docker://r.example/a"), "r.example/a:1");
        assert_eq!(to("docker://r.example:5000/a:b"), "r.example:5000/a:b");
    }
}
