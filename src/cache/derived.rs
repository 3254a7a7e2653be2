//! What packages' own scripts have left on another host.
//!
//! ```text
//! docker://HOST/NAME:derived-<key>
//!   config     application/vnd.imgforge.derived.v1+json     the tar's digest and size
//!   layers[0]  application/vnd.imgforge.artifact.v1         the tar
//! ```
//!
//! The key is of the scripts and of all layers below. Who may write to the repository is trusted to have run the ones over
//! the others, as with artifacts.

use imgforge_oci::{Blob, Descriptor, Digest, MediaType, read};
use imgforge_registry::{FileContent, TagOrDigest};
use imgforge_store::Store;
use serde_json::json;

use super::artifact::ARTIFACT_TYPE;
use super::{Cache, RECORD_LIMIT, bytes_of, manifest};
use crate::error::Error;

/// Media type of an entry's config.
pub const DERIVED_TYPE: &str = "application/vnd.imgforge.derived.v1+json";

fn tag(key: &str) -> String {
    format!("derived-{key}")
}

impl Cache<'_> {
    /// What scripts have left: the tar's digest, and its bytes. Nothing when there is no entry.
    ///
    /// # Errors
    /// [`Error::Cache`] when the registry can't be spoken to or an entry is not what it should be.
    pub fn derived(&self, key: &str) -> Result<Option<(Digest, u64)>, Error> {
        if self.is_lost() {
            return Ok(None);
        }
        let repository = self.repository();
        let tag = tag(key);
        let manifest = repository.manifest(TagOrDigest::Tag(&tag));
        let Some(manifest) = manifest.map_err(|error| self.failed(&tag, error))? else { return Ok(None) };
        let children = read::children(&manifest)?;
        let [config, tar] = children.as_slice() else {
            return Err(self.wrong(&tag, "it does not have a record and a tar"));
        };
        if config.media_type.as_ref() != DERIVED_TYPE || tar.media_type.as_ref() != ARTIFACT_TYPE {
            return Err(self.wrong(&tag, "its parts have other media types"));
        }
        let config = repository.blob(config, RECORD_LIMIT).map_err(|error| self.failed(&tag, error))?;
        let record: (String, Digest, u64) = serde_json::from_slice(config.bytes())
            .map_err(|error| self.wrong(&tag, &format!("its record can't be read: {error}")))?;
        if record != (key.to_owned(), tar.digest, tar.size) {
            return Err(
                self.wrong(&tag, "its record is for another key, or of another tar than its manifest")
            );
        }
        Ok(Some((tar.digest, tar.size)))
    }

    /// Puts what scripts have left into the cache, unless there is something for the key. Returns the bytes that were sent.
    ///
    /// # Errors
    /// [`Error::Cache`] when the registry does not take it.
    pub fn offer_derived(&self, store: &Store, key: &str, digest: Digest, size: u64) -> Result<u64, Error> {
        let repository = self.repository();
        let tag = tag(key);
        let there = repository.manifest_digest(TagOrDigest::Tag(&tag));
        if there.map_err(|error| self.failed(&tag, error))?.is_some() {
            return Ok(0);
        }
        let text = json!([key, digest, size]).to_string().into_bytes();
        let config = Blob::new(MediaType::from(DERIVED_TYPE), text);
        let tar = Descriptor::new(MediaType::from(ARTIFACT_TYPE), digest, size);
        let content = FileContent::of_store(store, &digest)?;
        let uploaded = repository.upload_blob(&tar, &content, &[], &|_| {});
        let mut sent = bytes_of(&uploaded.map_err(|error| self.failed(&tag, error))?);
        let uploaded = repository.upload_blob(config.descriptor(), &config, &[], &|_| {});
        sent += bytes_of(&uploaded.map_err(|error| self.failed(&tag, error))?);
        let manifest = manifest(DERIVED_TYPE, &config, &[&tar])?;
        let put = repository.put_manifest(&manifest, TagOrDigest::Tag(&tag));
        put.map_err(|error| self.failed(&tag, error))?;
        Ok(sent)
    }
}
