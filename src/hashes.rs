//! What application files hash to, kept in the store from run to run: [`imgforge_layer::Hashes`] says when it holds.
//!
//! There is a record for each folder or file that a `files` names, by its absolute path, with a line for each file in it:
//! one to read and, if anything has changed, one to write, however many files there are.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use imgforge_layer::{Hashes, Remembered};
use imgforge_oci::Digest;
use imgforge_store::{Store, StoreError};

use crate::error::Error;

/// The bucket of what is remembered.
const BUCKET: &str = "hashes/1";

/// The hashes of all folders and files that were asked for in a run.
pub(crate) struct HashBook<'a> {
    store: &'a Store,
    began: u64,
    pages: BTreeMap<PathBuf, Hashes>,
}

impl<'a> HashBook<'a> {
    /// `began` is when the run began, in seconds since 1970.
    pub(crate) fn new(store: &'a Store, began: u64) -> Self {
        Self { store, began, pages: BTreeMap::new() }
    }

    /// The hashes of what is at a path.
    pub(crate) fn page(&mut self, source: &Path) -> Result<&mut Hashes, Error> {
        match self.pages.entry(std::path::absolute(source)?) {
            Entry::Occupied(page) => Ok(page.into_mut()),
            Entry::Vacant(place) => {
                let known: Option<Remembered> = self.store.record(BUCKET, &key(place.key()))?;
                Ok(place.insert(Hashes::new(known.unwrap_or_default(), self.began)))
            }
        }
    }

    /// Writes down what has changed.
    pub(crate) fn keep(self) -> Result<(), Error> {
        for (path, page) in self.pages {
            let Some(remembered) = page.changed() else { continue };
            match self.store.put_record(BUCKET, &key(&path), &remembered, &[]) {
                // What is not remembered is read again.
                Ok(()) | Err(StoreError::Full { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn key(path: &Path) -> String {
    Digest::of(path.as_os_str().as_encoded_bytes()).hex()
}
