use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::path::Path;

use oci_spec::image as spec;
use rayon::prelude::*;
use serde::Deserialize;

use crate::archive::folder_of;
use crate::image::manifest;
use crate::layout;
use crate::medium::{Source, blob_name};
use crate::read::{MAX_CONFIG, MAX_DOCUMENTS, MAX_MANIFEST};
use crate::tarball::{Extent, MAGIC, Tarball, compression_of, name};
use crate::{
    Blob, Compression, Descriptor, DiffId, Digest, Error, Hasher, Image, MediaType, Medium, REF_NAME, json,
};

const MANIFEST: &str = "manifest.json";

/// One image of manifest.json.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// What has to be known of a config before it can be an image's.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<DiffId>,
}

/// Opens an archive for reading.
///
/// Manifests and configs are read; a layer that lies there as a plain tar is called by the diff ID that the config has
/// for it, without a look at it; a compressed one whose name is not its digest is hashed.
///
/// An archive that is compressed as a whole, with gzip or zstd, is unpacked into a file without a name in the folder
/// that it lies in; up to 64 GiB.
///
/// # Errors
/// [`Error::Tar`] when it is no sound tar; [`Error::NotAnImage`] when manifest.json or what it names is missing;
/// [`Error::Within`] with the entry and what is wrong with it; [`Error::TooLarge`], [`Error::Compression`] when it
/// cannot be unpacked.
pub fn open(file: &Path) -> Result<Medium, Error> {
    open_in(file, folder_of(file))
}

/// As [`open`], unpacking into `scratch` if need be, a folder.
///
/// # Errors
/// As [`open`].
pub fn open_in(file: &Path, scratch: &Path) -> Result<Medium, Error> {
    let archive = Archive { place: file, tarball: Tarball::open(file, scratch)? };
    let items = archive.items()?;
    let digests = archive.digests(&items)?;
    let mut files = BTreeMap::from([("oci-layout".to_owned(), Source::Made(layout::HEADER.into()))]);
    let mut entries = Vec::new();
    for item in &items {
        archive.image(item, &digests, &mut files, &mut entries)?;
    }
    let mut index = spec::ImageIndex::default();
    index.set_media_type(Some(MediaType::ImageIndex));
    index.set_manifests(entries.iter().map(Descriptor::to_spec).collect());
    files.insert("index.json".to_owned(), Source::Made(json::canonical(&index)?.into()));
    Ok(Medium::docker(file, archive.tarball, files))
}

struct Archive<'a> {
    place: &'a Path,
    tarball: Tarball,
}

impl Archive<'_> {
    fn wrong(&self, detail: String) -> Error {
        Error::NotAnImage { place: self.place.to_owned(), expected: "a docker archive", detail }
    }

    /// Where something lies that the archive refers to.
    fn find(&self, what: &str) -> Result<Extent, Error> {
        let failed = |reason: &str| self.wrong(format!("{what}: {reason}"));
        let name = name(what.as_bytes()).map_err(failed)?;
        let found = self.tarball.find(&name).map_err(|reason| failed(&reason))?;
        found.ok_or_else(|| self.wrong(format!("{what} is missing")))
    }

    fn read(&self, what: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let extent = self.find(what)?;
        if extent.size > limit {
            let error = Error::TooLarge { what: what.to_owned(), size: extent.size, limit };
            return Err(error.within(self.place, None));
        }
        let mut bytes = Vec::new();
        self.tarball.content(extent).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn items(&self) -> Result<Vec<Item>, Error> {
        let is_there = |name| matches!(self.tarball.find(name), Ok(Some(_)));
        if !is_there(MANIFEST) {
            return Err(self.wrong(if is_there("index.json") {
                "it has no manifest.json; it looks like an oci-archive".to_owned()
            } else if is_there("repositories") {
                "it has no manifest.json; it was written by Docker before 1.10".to_owned()
            } else {
                "it has no manifest.json".to_owned()
            }));
        }
        let bytes = self.read(MANIFEST, MAX_MANIFEST)?;
        let items: Vec<Item> =
            json::parse(MANIFEST, &bytes).map_err(|error| error.within(self.place, None))?;
        if items.len() > MAX_DOCUMENTS {
            let error = Error::TooMany { what: MANIFEST.to_owned(), limit: MAX_DOCUMENTS };
            return Err(error.within(self.place, None));
        }
        Ok(items)
    }

    /// The digests of all layers that are compressed and not called by their digest, in parallel.
    fn digests(&self, items: &[Item]) -> Result<BTreeMap<Extent, Digest>, Error> {
        let mut wanted: BTreeMap<Extent, &str> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for layer in items.iter().flat_map(|item| item.layers.iter().flatten()) {
            if !seen.insert(layer) {
                continue;
            }
            let extent = self.find(layer)?;
            if claimed(layer).is_none() && self.compression(layer, extent)? != Compression::None {
                wanted.insert(extent, layer);
            }
        }
        let hash = |(extent, _): (Extent, &str)| {
            let mut hasher = Hasher::new();
            io::copy(&mut self.tarball.content(extent), &mut hasher)?;
            Ok((extent, hasher.finish()))
        };
        wanted.into_par_iter().map(hash).collect()
    }

    fn compression(&self, layer: &str, extent: Extent) -> Result<Compression, Error> {
        let mut start = Vec::new();
        self.tarball.content(extent).take(MAGIC).read_to_end(&mut start)?;
        compression_of(&start).map_err(|format| {
            let detail = format!("images have no layers that are compressed with {format}");
            Error::Compression { format, detail }.within(self.place, Some(layer))
        })
    }

    /// Makes a manifest for one image, and entries of the index for its names.
    fn image(
        &self,
        item: &Item,
        digests: &BTreeMap<Extent, Digest>,
        files: &mut BTreeMap<String, Source>,
        entries: &mut Vec<Descriptor>,
    ) -> Result<(), Error> {
        let here = |error: Error| error.within(self.place, Some(&item.config));
        let config = Blob::new(MediaType::ImageConfig, self.read(&item.config, MAX_CONFIG)?);
        let found = config.descriptor().digest;
        if let Some(expected) = claimed(&item.config).filter(|expected| *expected != found) {
            let what = "the config".to_owned();
            return Err(here(Error::DigestMismatch { what, expected, found }));
        }
        let parsed: Config = json::parse("the config", config.bytes()).map_err(here)?;
        let diff_ids = parsed.rootfs.diff_ids;
        let layers = item.layers.as_deref().unwrap_or_default();
        if layers.len() != diff_ids.len() {
            return Err(here(Error::Inconsistent {
                what: "the image".to_owned(),
                detail: format!(
                    "manifest.json has {} layers, the config has {} diff IDs",
                    layers.len(),
                    diff_ids.len()
                ),
            }));
        }
        let mut descriptors = Vec::new();
        for (layer, DiffId(diff_id)) in layers.iter().zip(diff_ids) {
            let extent = self.find(layer)?;
            let compression = self.compression(layer, extent)?;
            let digest = match (compression, digests.get(&extent)) {
                (Compression::None, _) => diff_id,
                (_, Some(digest)) => *digest,
                (_, None) => claimed(layer).unwrap_or(diff_id),
            };
            // A layer that lies there twice is one layer, if both can be it.
            match files.insert(blob_name(&digest), Source::Extent(extent)) {
                Some(Source::Extent(old)) if old.size != extent.size => {
                    let what = format!("{digest}, which lies elsewhere too");
                    let error = Error::SizeMismatch { what, expected: old.size, found: extent.size };
                    return Err(error.within(self.place, Some(layer)));
                }
                _ => {}
            }
            descriptors.push(Descriptor::new(compression.media_type(), digest, extent.size));
        }
        let manifest =
            manifest(config.descriptor(), descriptors.into_iter(), BTreeMap::new()).map_err(here)?;
        let image = Image::from_blobs(manifest, config).map_err(here)?;

        for blob in [image.manifest(), image.config()] {
            files.insert(blob_name(&blob.descriptor().digest), Source::Made(blob.bytes().into()));
        }
        let mut entry = image.descriptor();
        let names = item.repo_tags.as_deref().unwrap_or_default();
        if names.is_empty() {
            entries.push(entry.clone());
        }
        for name in names {
            entry.annotations.insert(REF_NAME.to_owned(), name.clone());
            entries.push(entry.clone());
        }
        Ok(())
    }
}

/// The digest that a name stands for: `HEX.json`, `blobs/sha256/HEX`.
fn claimed(name: &str) -> Option<Digest> {
    let hex = name.strip_prefix("blobs/sha256/").or_else(|| name.strip_suffix(".json"))?;
    Digest::from_hex(hex).ok()
}
