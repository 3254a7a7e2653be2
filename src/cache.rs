//! Layers that another host has made: the layer index and its blobs, in a repository of a registry.
//!
//! An entry is a manifest whose tag is the layer's key. Its config is the layer's [`LayerRecord`], its layers are the layer
//! and the listing of what is in it: a registry keeps all of them for as long as it keeps the tag, and any tool that
//! copies images copies the cache. Artifacts that were built are there too ([`artifact`]), and what packages' own scripts have
//! left ([`derived`]).
//!
//! ```text
//! docker://HOST/NAME:<key>
//!   config     application/vnd.imgforge.layer.v1+json       digest, size, diff ID, tar size, media type, listing
//!   layers[0]  the layer, as it is in images
//!   layers[1]  application/vnd.imgforge.listing.v1          what is in it
//! ```
//!
//! Entries are verified, not trusted: manifest, record and blobs must be what their digests say, the layer must inflate to
//! its diff ID and hold what the listing says, and where images.lock has a record for the key it must be the same layer. An entry that fails is passed
//! over, and the layer is made. Who may write to the repository is trusted to have made a layer from what its key names,
//! where images.lock has no record to compare with: give write access to those who may push images.
//!
//! # Without the bytes
//! A push needs a layer's bytes only where its destination lacks them. Without them can be known that manifest, record and
//! listing are what their digests say, and that they agree with each other and with the plan. Not that there is a blob of
//! that digest, that it inflates to the diff ID, or that the listing is what is in it. So an entry is used without its
//! bytes only where somebody else says the same of the layer ([`Vouched`]); the bytes of all others are fetched and
//! verified at once. What is left is verified when the bytes are fetched after all. When they never are, the registry has
//! them under their digest, and only the listing is believed: it decides which of two packages has a path that both bring,
//! and whether application files lie where a package has its own. What was found out by it is not kept.

mod artifact;
mod derived;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use imgforge_oci::json::canonical;
use imgforge_oci::{Blob, Descriptor, DiffId, Digest, Image, Kind, MediaType, kind, layer, read};
use imgforge_registry::{Client, FileContent, Reason, Reference, Repository, TagOrDigest, Uploaded};
use imgforge_store::Store;
use serde_json::json;

use crate::error::Error;
use crate::image::KEY_ANNOTATION;
use crate::images_lock::ImagesLock;
use crate::unit::LayerSpec;
use crate::workshop::{LayerRecord, Listed, Listing, What};

/// Media type of an entry's config.
pub const RECORD_TYPE: &str = "application/vnd.imgforge.layer.v1+json";
/// Media type of a listing.
pub const LISTING_TYPE: &str = "application/vnd.imgforge.listing.v1";

/// Bytes of a record, at most.
const RECORD_LIMIT: u64 = 64 << 10;

/// Entries looked up, and blobs sent, at a time.
pub(crate) const TRANSFERS: usize = 8;

/// A repository with layers.
#[derive(Debug)]
pub struct Cache<'a> {
    client: &'a Client,
    reference: Reference,
    /// Set when the registry did not do what it was asked for: a build does not wait for that once a layer.
    is_lost: Arc<AtomicBool>,
    /// Set by somebody who wants no more of it.
    stop: Option<&'a AtomicBool>,
}

/// What the cache has for a key.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it says of the layer.
    pub record: LayerRecord,
}

/// What others than the cache say of layers: digest, diff ID and size, by the layer's key.
#[derive(Clone, Debug, Default)]
pub struct Vouched(BTreeMap<String, (Digest, DiffId, u64)>);

impl Vouched {
    /// By images.lock, which is reviewed.
    pub fn by_lock(lock: &ImagesLock) -> Self {
        let layers = lock.images.values().flat_map(|outcome| &outcome.layers);
        Self(layers.map(|layer| (layer.key.clone(), (layer.digest, layer.diff_id, layer.size))).collect())
    }

    /// Likewise by an image that is where the next one is to go: whoever pulls it compares the layers with it. What is
    /// known already stands.
    pub fn and_image(&mut self, image: &Image) {
        for layer in image.layers() {
            if let Some(key) = layer.annotations.get(KEY_ANNOTATION) {
                self.0.entry(key.clone()).or_insert((layer.digest, layer.diff_id, layer.size));
            }
        }
    }

    fn says(&self, key: &str, record: &LayerRecord) -> bool {
        self.0.get(key) == Some(&(record.digest, record.diff_id, record.size))
    }
}

/// Reads where a cache is: `docker://HOST/NAME`.
///
/// # Errors
/// What is wrong with the text.
pub fn repository(text: &str) -> Result<Reference, String> {
    let Some(rest) = text.strip_prefix("docker://") else {
        return Err(format!("`{text}` is no repository: write `docker://HOST/NAME`"));
    };
    let reference: Reference = rest.parse().map_err(|error| format!("{error}"))?;
    match (reference.tag(), reference.digest()) {
        (None, None) => Ok(reference),
        _ => Err(format!("`{text}` has a tag or a digest: the tags are the layers' keys")),
    }
}

impl<'a> Cache<'a> {
    /// The cache in a repository. `is_lost` is shared by all values that stand for the same one in a run.
    pub fn new(client: &'a Client, reference: Reference, is_lost: Arc<AtomicBool>) -> Self {
        Self { client, reference, is_lost, stop: None }
    }

    /// The same, until somebody sets the flag.
    #[must_use]
    pub fn until(self, stop: &'a AtomicBool) -> Self {
        Self { stop: Some(stop), ..self }
    }

    /// Where it is.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Whether it was given up in this run.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    fn repository(&self) -> Repository<'a> {
        let repository = self.client.repository(&self.reference);
        match self.stop {
            Some(stop) => repository.until(stop),
            None => repository,
        }
    }

    /// What there is for a key, and the listing in the store; nothing when there is nothing, or nothing that can be used.
    ///
    /// # Errors
    /// [`Error::Cache`] when the registry can't be spoken to or an entry is not what it should be; as for any writing to
    /// the store. The cache is then given up for this run if it was the registry's fault.
    pub fn look_up(&self, store: &Store, key: &str) -> Result<Option<Entry>, Error> {
        if self.is_lost() {
            return Ok(None);
        }
        let repository = self.repository();
        let manifest = match repository.manifest(TagOrDigest::Tag(key)) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Ok(None),
            Err(error) => return Err(self.failed(key, error)),
        };
        let children = read::children(&manifest)?;
        let [config, layer, listing] = children.as_slice() else {
            return Err(self.wrong(key, "it does not have a record, a layer and a listing"));
        };
        if config.media_type.as_ref() != RECORD_TYPE || listing.media_type.as_ref() != LISTING_TYPE {
            return Err(self.wrong(key, "its parts have other media types"));
        }
        let config = repository.blob(config, RECORD_LIMIT).map_err(|error| self.failed(key, error))?;
        let record: LayerRecord = serde_json::from_slice(config.bytes())
            .map_err(|error| self.wrong(key, &format!("its record can't be read: {error}")))?;
        let agrees = record.digest == layer.digest
            && record.size == layer.size
            && record.media_type == layer.media_type.as_ref()
            && record.listing == listing.digest;
        if !agrees {
            return Err(self.wrong(key, "its record is of another layer than its manifest"));
        }
        repository.fetch_blob(store, listing, &|_| {}).map_err(|error| self.failed(key, error))?;
        Ok(Some(Entry { record }))
    }

    /// Bytes of the layer that there is for a key, by the entry's own word: for whoever only wants to know.
    ///
    /// # Errors
    /// [`Error::Cache`], as for [`look_up`](Self::look_up).
    pub fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        if self.is_lost() {
            return Ok(None);
        }
        let manifest = self.repository().manifest(TagOrDigest::Tag(key));
        let Some(manifest) = manifest.map_err(|error| self.failed(key, error))? else { return Ok(None) };
        Ok(read::children(&manifest)?.get(1).map(|layer| layer.size))
    }

    /// Whether an entry can be used without its bytes: somebody vouches for it, and its listing is of the units that the
    /// layer has.
    ///
    /// # Errors
    /// As for any reading of the store.
    pub fn is_vouched_for(
        &self,
        store: &Store,
        spec: &LayerSpec,
        entry: &Entry,
        vouched: &Vouched,
    ) -> Result<bool, Error> {
        if !vouched.says(&spec.key, &entry.record) {
            return Ok(false);
        }
        let listing = self.listing(store, &spec.key, &entry.record)?;
        let listed = listing.units.iter().map(|(title, _)| title);
        Ok(listed.eq(spec.units.iter().map(|unit| &unit.title)))
    }

    fn listing(&self, store: &Store, key: &str, record: &LayerRecord) -> Result<Listing, Error> {
        let listing = std::io::read_to_string(store.open_blob(&record.listing)?)
            .map_err(|error| self.wrong(key, &format!("its listing can't be read: {error}")))?;
        Listing::parse(&listing).map_err(|_| self.wrong(key, "its listing can't be read"))
    }

    /// Puts the layer of an entry into the store, after it was verified: the digest and the diff ID.
    ///
    /// # Errors
    /// [`Error::Cache`] when it can't be had or is not what the entry says.
    pub fn fetch(
        &self,
        store: &Store,
        key: &str,
        entry: &Entry,
        on_event: &(dyn Fn(imgforge_registry::Event<'_>) + Sync),
    ) -> Result<(), Error> {
        let record = &entry.record;
        let descriptor =
            Descriptor::new(MediaType::from(record.media_type.as_str()), record.digest, record.size);
        self.repository()
            .fetch_blob(store, &descriptor, on_event)
            .map_err(|error| self.failed(key, error))?;
        let file = store.open_blob(&record.digest)?;
        let Kind::Layer(compression) = kind(&descriptor.media_type) else {
            return Err(self.wrong(key, "it has a media type that is no layer's"));
        };
        let listing = self.listing(store, key, record)?;
        let mut listed: BTreeMap<&[u8], &Listed> = BTreeMap::new();
        for entry in listing.units.iter().flat_map(|(_, entries)| entries) {
            listed.insert(entry.path.as_str().as_bytes(), entry);
        }
        let (mut differs, mut seen) = (false, BTreeSet::new());
        let mut visit = |entry: layer::Entry, _: &mut dyn Read| {
            let says = listed.get(entry.path.as_slice()).map(|listed| &listed.what);
            // Folders that lead to an entry are in the layer, and in the listing only where a unit has them.
            differs |= match (entry.kind, says) {
                (b'5', Some(What::Folder) | None) => false,
                (b'0', Some(What::File { size, .. })) => *size != entry.size,
                (b'1' | b'2', Some(What::Link(_))) => false,
                _ => true,
            };
            seen.insert(entry.path);
            Ok(())
        };
        let contents = layer::read(file, Some(compression), &mut visit)?;
        if differs || listed.keys().any(|path| !seen.contains(*path)) {
            return Err(self.wrong(key, "its listing is of another layer"));
        }
        if contents.size != record.size {
            return Err(self.wrong(key, "its record has another size than the layer"));
        }
        let found = contents.layer.map(|tar| tar.diff_id).transpose()?;
        if found != Some(record.diff_id.0) {
            let found = found.map_or_else(|| "none".to_owned(), |found| found.to_string());
            let problem = format!("its record says that the diff ID is {}, it is {found}", record.diff_id);
            return Err(self.wrong(key, &problem));
        }
        Ok(())
    }

    /// Puts a layer of the store into the cache, unless it is there.
    ///
    /// # Errors
    /// [`Error::Cache`] when the registry does not take it.
    pub fn offer(&self, store: &Store, key: &str, record: &LayerRecord) -> Result<u64, Error> {
        let repository = self.repository();
        let there =
            repository.manifest_digest(TagOrDigest::Tag(key)).map_err(|error| self.failed(key, error))?;
        let text = serde_json::to_vec(record).map_err(|error| self.wrong(key, &error.to_string()))?;
        let config = Blob::new(MediaType::from(RECORD_TYPE), text);
        let layer = Descriptor::new(MediaType::from(record.media_type.as_str()), record.digest, record.size);
        let listing_path = store.blob_path(&record.listing);
        let listing_size = fs_err::metadata(&listing_path)?.len();
        let listing = Descriptor::new(MediaType::from(LISTING_TYPE), record.listing, listing_size);
        let manifest = manifest(RECORD_TYPE, &config, &[&layer, &listing])?;
        if there.is_some_and(|there| there.digest == manifest.descriptor().digest) {
            return Ok(0);
        }
        let mut sent = 0;
        for part in [&layer, &listing] {
            let content = FileContent::of_store(store, &part.digest)?;
            let uploaded = repository
                .upload_blob(part, &content, &[], &|_| {})
                .map_err(|error| self.failed(key, error))?;
            sent += bytes_of(&uploaded);
        }
        let uploaded = repository
            .upload_blob(config.descriptor(), &config, &[], &|_| {})
            .map_err(|error| self.failed(key, error))?;
        sent += bytes_of(&uploaded);
        repository.put_manifest(&manifest, TagOrDigest::Tag(key)).map_err(|error| self.failed(key, error))?;
        Ok(sent)
    }

    /// The error for an entry that images.lock contradicts.
    pub(crate) fn disagrees(&self, key: &str, locked: Digest, cached: Digest) -> Error {
        self.wrong(key, &format!("images.lock has {locked} for it, the cache {cached}"))
    }

    /// The error for a registry that failed. It is given up when the next layer would fare no better.
    fn failed(&self, key: &str, source: imgforge_registry::Error) -> Error {
        if let imgforge_registry::Error::Failed { reason, .. } = &source {
            let refuses = reason
                .status()
                .is_some_and(|status| status.is_server_error() || matches!(status.as_u16(), 401 | 403 | 429));
            let is_lost = refuses || reason.is_of_the_host() || matches!(reason, Reason::Credentials(_));
            self.is_lost.fetch_or(is_lost, Ordering::Relaxed);
        }
        Error::Cache { cache: self.reference.to_string(), key: key.to_owned(), source: Box::new(source) }
    }

    /// The error for an entry that can't be used.
    pub(crate) fn wrong(&self, key: &str, problem: &str) -> Error {
        let source = std::io::Error::other(problem.to_owned());
        Error::Cache { cache: self.reference.to_string(), key: key.to_owned(), source: Box::new(source) }
    }
}

/// An artifact's manifest. Source: OCI image specification, "Guidelines for Artifact Usage".
fn manifest(kind: &str, config: &Blob, layers: &[&Descriptor]) -> Result<Blob, Error> {
    let descriptor = |descriptor: &Descriptor| {
        json!({
            "mediaType": descriptor.media_type.as_ref(),
            "digest": descriptor.digest,
            "size": descriptor.size,
        })
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::ImageManifest.as_ref(),
        "artifactType": kind,
        "config": descriptor(config.descriptor()),
        "layers": layers.iter().map(|layer| descriptor(layer)).collect::<Vec<_>>(),
    });
    Ok(Blob::new(MediaType::ImageManifest, canonical(&manifest)?))
}

fn bytes_of(uploaded: &Uploaded) -> u64 {
    match uploaded {
        Uploaded::Sent { bytes } => *bytes,
        Uploaded::Skipped | Uploaded::Mounted { .. } => 0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]
mod tests {
    use imgforge_oci::{ImageConfig, Layer};

    use super::*;
    use crate::images_lock::{Outcome, OutcomeLayer};

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    /// Whether the cache is believed that the layer under a key has these digests.
    #[track_caller]
    fn check(key: &str, (blob, tar): (&str, &str), expected: bool) {
        let (title, size) = ("a layer".to_owned(), 1);
        let locked = OutcomeLayer {
            title: title.clone(),
            key: "locked".to_owned(),
            digest: digest("a"),
            diff_id: DiffId(digest("A")),
            size,
            media_type: None,
        };
        let outcome = Outcome { manifest: digest(""), layers: vec![locked] };
        let lock = ImagesLock {
            images: [(("app".to_owned(), "linux/amd64".to_owned()), outcome)].into(),
            ..ImagesLock::default()
        };
        let layer = |key: Option<&str>, blob: &str, tar: &str| Layer {
            digest: digest(blob),
            diff_id: DiffId(digest(tar)),
            size,
            media_type: MediaType::ImageLayerGzip,
            history: title.clone(),
            annotations: key.map(|key| (KEY_ANNOTATION.to_owned(), key.to_owned())).into_iter().collect(),
        };
        let config = ImageConfig::new("linux/amd64".parse().unwrap());
        let layers = [layer(Some("there"), "b", "B"), layer(Some("locked"), "c", "C"), layer(None, "d", "D")];
        let image = Image::assemble(&config, &layers, &BTreeMap::new()).unwrap();
        let mut vouched = Vouched::by_lock(&lock);
        vouched.and_image(&image);
        let record = LayerRecord {
            digest: digest(blob),
            size,
            diff_id: DiffId(digest(tar)),
            tar_size: 2,
            media_type: String::new(),
            listing: digest("listing"),
        };
        assert_eq!(vouched.says(key, &record), expected);
    }

    #[test]
    fn others_have_to_say_the_same() {
        check("locked", ("a", "A"), true);
        check("there", ("b", "B"), true);
        for (blob, tar) in [("a", "B"), ("b", "A"), ("c", "C")] {
            check("locked", (blob, tar), false);
        }
        check("there", ("b", "A"), false);
        check("there", ("a", "A"), false);
        check("unknown", ("d", "D"), false);
    }
}
