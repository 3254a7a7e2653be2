//! Records: small JSON values by key, each with the blobs that it is about.
//!
//! A file is `{"sha256": …, "record": {"blobs": […], "value": …}}`, where the digest is that of the text of `record`.
//! So a record that was torn by a power failure, or changed by hand, is seen to be none; and because of that it needs
//! no sync of its own.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use imgforge_oci::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{At as _, StoreError};
use crate::stamp::touch;
use crate::{RESERVED, Store};

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    sha256: Cow<'a, str>,
    #[serde(borrow)]
    record: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
struct Record<V> {
    blobs: Vec<Digest>,
    #[serde(default, skip_serializing_if = "is_zero")]
    size: u64,
    value: V,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
const fn is_zero(size: &u64) -> bool {
    *size == 0
}

/// What the collector has to know of a record.
pub(crate) struct Needs {
    /// Without which it is of no use.
    pub(crate) blobs: Vec<Digest>,
    /// Bytes of what it stands for beside the blobs.
    pub(crate) size: u64,
}

impl Store {
    /// Looks a record up: a value of `bucket` (`layers/1`, `artifacts`) under `key`. Counts as a use of the record and
    /// of its blobs.
    ///
    /// None when there is no record, when it is damaged or is no `T`, and when one of its blobs is missing or damaged:
    /// in all these cases the work is to be done again.
    ///
    /// # Errors
    /// [`StoreError::Name`] for a name that can't be one, or as for any reading of the store.
    pub fn record<T: DeserializeOwned>(&self, bucket: &str, key: &str) -> Result<Option<T>, StoreError> {
        let path = self.record_path(bucket, key)?;
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io(&path, error)),
        };
        let Some(record) = open_envelope::<T>(&text) else { return Ok(None) };
        for digest in &record.blobs {
            if !self.contains(digest)? {
                return Ok(None);
            }
        }
        // Under the gate, so that it is either gone by now or stays for as long as the caller has a lease.
        let _gate = self.gate_shared()?;
        if !path.exists() {
            return Ok(None);
        }
        touch(&path)?;
        Ok(Some(record.value))
    }

    /// Writes a record over whatever is under that key, and makes the names of all committed blobs permanent.
    ///
    /// `blobs` are those without which the value is of no use: lookups check them, and the collector keeps them with
    /// the record.
    ///
    /// # Errors
    /// [`StoreError::Name`], [`StoreError::Record`], or as for any writing to the store.
    pub fn put_record<T: Serialize>(
        &self,
        bucket: &str,
        key: &str,
        value: &T,
        blobs: &[Digest],
    ) -> Result<(), StoreError> {
        self.write_record(bucket, key, &Record { blobs: blobs.to_vec(), size: 0, value })
    }

    /// Writes a record of something that is no blob and takes `size` bytes, more than none: the collector counts them,
    /// and lets the record go as it does with blobs. Whoever keeps the thing removes it when its record is gone.
    ///
    /// # Errors
    /// As for [`put_record`](Self::put_record).
    pub fn put_record_of_size<T: Serialize>(
        &self,
        bucket: &str,
        key: &str,
        value: &T,
        size: u64,
    ) -> Result<(), StoreError> {
        self.write_record(bucket, key, &Record { blobs: Vec::new(), size: size.max(1), value })
    }

    fn write_record<T: Serialize>(
        &self,
        bucket: &str,
        key: &str,
        record: &Record<T>,
    ) -> Result<(), StoreError> {
        let path = self.record_path(bucket, key)?;
        let json = |source| StoreError::Record { bucket: bucket.to_owned(), key: key.to_owned(), source };
        let record = serde_json::value::to_raw_value(record).map_err(json)?;
        let sha256 = Digest::of(record.get().as_bytes()).hex().into();
        let mut text = serde_json::to_vec(&Envelope { sha256, record: &record }).map_err(json)?;
        text.push(b'\n');
        self.sync()?;
        let (mut file, draft) = self.create_tmp()?;
        let written = file.write_all(&text).at(&draft).and_then(|()| self.place_record(&draft, &path));
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        written
    }

    fn place_record(&self, draft: &Path, path: &Path) -> Result<(), StoreError> {
        match fs::rename(draft, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = path.parent().unwrap_or(self.root());
                fs::create_dir_all(folder).at(folder)?;
                fs::rename(draft, path).at(path)
            }
            result => result.at(path),
        }
    }

    fn record_path(&self, bucket: &str, key: &str) -> Result<PathBuf, StoreError> {
        let mut path = self.root().to_owned();
        for name in bucket.split('/').chain([key]) {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if name.is_empty() || name.starts_with('.') || !name.bytes().all(is_plain) {
                return Err(StoreError::Name { name: name.to_owned() });
            }
            path.push(name);
        }
        match bucket.split('/').next() {
            Some(first) if RESERVED.contains(&first) => Err(StoreError::Name { name: bucket.to_owned() }),
            _ => Ok(path),
        }
    }

    /// The files of all records, with their `bucket/key`, in no order.
    pub(crate) fn record_files(&self) -> Result<Vec<(String, PathBuf)>, StoreError> {
        let mut files = Vec::new();
        let mut folders = vec![(String::new(), self.root().to_owned())];
        while let Some((prefix, folder)) = folders.pop() {
            for entry in fs::read_dir(&folder).at(&folder)? {
                let entry = entry.at(&folder)?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                if prefix.is_empty() && RESERVED.contains(&name.as_str()) {
                    continue;
                }
                let kind = entry.file_type().at(&folder)?;
                if kind.is_dir() {
                    folders.push((format!("{prefix}{name}/"), entry.path()));
                } else if kind.is_file() && !prefix.is_empty() {
                    files.push((format!("{prefix}{name}"), entry.path()));
                }
            }
        }
        Ok(files)
    }
}

/// What a record's file names; none when it is damaged or gone.
pub(crate) fn record_needs(path: &Path) -> Option<Needs> {
    let Record { blobs, size, .. } = open_envelope::<serde::de::IgnoredAny>(&fs::read(path).ok()?)?;
    Some(Needs { blobs, size })
}

fn open_envelope<T: DeserializeOwned>(text: &[u8]) -> Option<Record<T>> {
    let envelope: Envelope<'_> = serde_json::from_slice(text).ok()?;
    let record = envelope.record.get();
    if Digest::of(record.as_bytes()).hex() != *envelope.sha256 {
        return None;
    }
    serde_json::from_str(record).ok()
}
