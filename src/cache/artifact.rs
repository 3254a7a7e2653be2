//! Artifacts that another host has built.
//!
//! ```text
//! docker://HOST/NAME:artifact-<key>
//!   config     application/vnd.imgforge.receipt.v1+json     the receipt
//!   layers[0]  application/vnd.imgforge.artifact.v1         the wheel, or the tar of a script's files
//! ```
//!
//! An entry is taken when its receipt's inputs give the very key that was asked for, and the bytes have the receipt's digest.
//! Where images.lock has a result for the key, it must be that one. Beyond this, whoever may write to the repository is
//! trusted to have built what the receipt says, as for layers.

use imgforge_artifact::receipt::Receipt;
use imgforge_oci::{Blob, Descriptor, Digest, MediaType, read};
use imgforge_registry::{FileContent, TagOrDigest};
use imgforge_store::Store;

use super::{Cache, bytes_of, manifest};
use crate::error::Error;

/// Media type of an entry's config.
pub const RECEIPT_TYPE: &str = "application/vnd.imgforge.receipt.v1+json";
/// Media type of what came out.
pub const ARTIFACT_TYPE: &str = "application/vnd.imgforge.artifact.v1";

/// Bytes of a receipt, at most.
const RECEIPT_LIMIT: u64 = 64 << 20;

fn tag(key: &str) -> String {
    format!("artifact-{key}")
}

impl Cache<'_> {
    /// The receipt that there is for a key; nothing when there is nothing. What it is for stays there.
    ///
    /// # Errors
    /// [`Error::Cache`] when the registry can't be spoken to or an entry is not what it should be.
    pub fn receipt(&self, key: &str) -> Result<Option<Receipt>, Error> {
        if self.is_lost() {
            return Ok(None);
        }
        let repository = self.repository();
        let tag = tag(key);
        let manifest =
            repository.manifest(TagOrDigest::Tag(&tag)).map_err(|error| self.failed(&tag, error))?;
        let Some(manifest) = manifest else { return Ok(None) };
        let children = read::children(&manifest)?;
        let [config, result] = children.as_slice() else {
            return Err(self.wrong(&tag, "it does not have a receipt and a result"));
        };
        if config.media_type.as_ref() != RECEIPT_TYPE || result.media_type.as_ref() != ARTIFACT_TYPE {
            return Err(self.wrong(&tag, "its parts have other media types"));
        }
        let config = repository.blob(config, RECEIPT_LIMIT).map_err(|error| self.failed(&tag, error))?;
        let receipt = Receipt::parse(config.bytes()).map_err(|error| self.wrong(&tag, &error.to_string()))?;
        if receipt.key.to_string() != key {
            return Err(self.wrong(&tag, "its receipt is for another key"));
        }
        if (receipt.result.sha256, receipt.result.size) != (result.digest, result.size) {
            return Err(self.wrong(&tag, "its receipt is of another result than its manifest"));
        }
        Ok(Some(receipt))
    }

    /// Puts the bytes of a result into the store, whatever entry has them.
    ///
    /// # Errors
    /// [`Error::Cache`] when they can't be had.
    pub fn fetch_result(
        &self,
        store: &Store,
        digest: Digest,
        size: u64,
        on_event: &(dyn Fn(imgforge_registry::Event<'_>) + Sync),
    ) -> Result<(), Error> {
        let result = Descriptor::new(MediaType::from(ARTIFACT_TYPE), digest, size);
        let fetched = self.repository().fetch_blob(store, &result, on_event);
        fetched.map_err(|error| self.failed(&digest.to_string(), error))
    }

    /// Puts an artifact of the store into the cache, unless there is one for its key. Returns the bytes that were sent.
    ///
    /// # Errors
    /// [`Error::Cache`] when the registry does not take it.
    pub fn offer_artifact(&self, store: &Store, receipt: &Receipt) -> Result<u64, Error> {
        let repository = self.repository();
        let tag = tag(&receipt.key.to_string());
        let there = repository.manifest_digest(TagOrDigest::Tag(&tag));
        if there.map_err(|error| self.failed(&tag, error))?.is_some() {
            return Ok(0);
        }
        let text = receipt.to_json().map_err(|error| self.wrong(&tag, &error.to_string()))?;
        let config = Blob::new(MediaType::from(RECEIPT_TYPE), text);
        let result =
            Descriptor::new(MediaType::from(ARTIFACT_TYPE), receipt.result.sha256, receipt.result.size);
        let content = FileContent::of_store(store, &result.digest)?;
        let uploaded = repository.upload_blob(&result, &content, &[], &|_| {});
        let mut sent = bytes_of(&uploaded.map_err(|error| self.failed(&tag, error))?);
        let uploaded = repository.upload_blob(config.descriptor(), &config, &[], &|_| {});
        sent += bytes_of(&uploaded.map_err(|error| self.failed(&tag, error))?);
        let manifest = manifest(RECEIPT_TYPE, &config, &[&result])?;
        let put = repository.put_manifest(&manifest, TagOrDigest::Tag(&tag));
        put.map_err(|error| self.failed(&tag, error))?;
        Ok(sent)
    }
}
