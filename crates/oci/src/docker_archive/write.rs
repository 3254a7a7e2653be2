use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read as _, Write};
use std::path::{Path, PathBuf};

use ::tar::EntryType;
use fs_err as fs;
use rayon::prelude::*;
use serde::Serialize;

use super::name;
use crate::archive::{header, pad};
use crate::layer::{BUFFER, MAX_LAYER, plain};
use crate::{Compression, DiffId, Digest, Error, Hasher, Image, Kind, Layer, draft, json, kind};

/// An image with the names that `docker load` gives it.
#[derive(Clone, Debug)]
pub struct Named<'a> {
    /// The image; the platform is not chosen from anything, an archive has one image under one name.
    pub image: &'a Image,
    /// `NAME:TAG`; without one, the image can be loaded and is known by its digest only.
    pub names: Vec<String>,
}

/// An image in manifest.json.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Writes images as one tar stream that `docker load` takes, with every layer once.
///
/// `path_of` tells where a blob lies in the store, and `tar_size` how many bytes a layer has without its compression,
/// where that is known; a layer of which it is not is read twice. Every layer is compared with its diff ID. The same
/// images give the same bytes, whatever order they come in.
///
/// # Errors
/// [`Error::DockerName`], [`Error::Duplicate`] for names; [`Error::DigestMismatch`], [`Error::SizeMismatch`],
/// [`Error::Compression`] when a layer is not what its image says of it; [`Error::Io`] when it cannot be read. The
/// stream is of no use then.
pub fn write(
    out: &mut dyn Write,
    images: &[Named<'_>],
    path_of: &(dyn Fn(&Digest) -> PathBuf + Sync),
    tar_size: &(dyn Fn(&DiffId) -> Option<u64> + Sync),
) -> Result<(), Error> {
    let images = merged(images)?;
    let layers = layers(&images);
    let sizes = sizes(&layers, path_of, tar_size)?;
    let items: Vec<Item> = images
        .iter()
        .map(|(image, names)| Item {
            config: config_name(image),
            repo_tags: names.iter().cloned().collect(),
            layers: image.layers().iter().map(|layer| layer_name(&layer.diff_id)).collect(),
        })
        .collect();

    file(out, "manifest.json", &json::canonical(&items)?)?;
    for (image, _) in &images {
        file(out, &config_name(image), image.config().bytes())?;
    }
    for (layer, size) in layers.iter().zip(sizes) {
        copy(out, layer, size, &path_of(&layer.digest))?;
    }
    out.write_all(&[0; 1024])?;
    out.flush()?;
    Ok(())
}

/// As [`write()`], into a file that is there whole or not at all: it is written under another name beside `path`.
///
/// # Errors
/// As [`write()`]; the old file stays then, if there was one.
pub fn write_file(
    path: &Path,
    images: &[Named<'_>],
    path_of: &(dyn Fn(&Digest) -> PathBuf + Sync),
    tar_size: &(dyn Fn(&DiffId) -> Option<u64> + Sync),
) -> Result<(), Error> {
    draft::write(path, |out| write(out, images, path_of, tar_size))
}

/// Every image once, by its config, with all its names, sorted.
fn merged<'a>(images: &[Named<'a>]) -> Result<Vec<(&'a Image, BTreeSet<String>)>, Error> {
    let mut owners: BTreeMap<String, Digest> = BTreeMap::new();
    let mut merged: BTreeMap<Digest, (&Image, BTreeSet<String>)> = BTreeMap::new();
    for Named { image, names } in images {
        let digest = image.config().descriptor().digest;
        for name in names {
            name::check(name)?;
            // `app:1` and `docker.io/library/app:1` are one name.
            if let Some(first) = owners.insert(name::full_name(name), digest).filter(|it| *it != digest) {
                return Err(Error::Duplicate { what: format!("image `{name}`"), first, second: digest });
            }
        }
        merged.entry(digest).or_insert((image, BTreeSet::new())).1.extend(names.iter().cloned());
    }
    Ok(merged.into_values().collect())
}

/// Every layer once, in the order in which the images have them.
fn layers<'a>(images: &[(&'a Image, BTreeSet<String>)]) -> Vec<&'a Layer> {
    let mut seen = BTreeSet::new();
    let all = images.iter().flat_map(|(image, _)| image.layers());
    all.filter(|layer| seen.insert(layer.diff_id)).collect()
}

/// Bytes of each layer's tar, in the order of `layers`.
fn sizes(
    layers: &[&Layer],
    path_of: &(dyn Fn(&Digest) -> PathBuf + Sync),
    tar_size: &(dyn Fn(&DiffId) -> Option<u64> + Sync),
) -> Result<Vec<u64>, Error> {
    let size = |layer: &&Layer| match (compression(layer), tar_size(&layer.diff_id)) {
        (Compression::None, _) => Ok(layer.size),
        (_, Some(size)) => Ok(size),
        (compression, None) => {
            let tar = open(&path_of(&layer.digest), compression)?;
            let size = io::copy(&mut tar.take(MAX_LAYER + 1), &mut io::sink());
            match size.map_err(|error| broken(layer, &error))? {
                size if size > MAX_LAYER => Err(Error::TooLarge {
                    what: format!("the tar of {}", what(layer)),
                    size,
                    limit: MAX_LAYER,
                }),
                size => Ok(size),
            }
        }
    };
    layers.par_iter().map(size).collect()
}

/// Writes a layer's tar, comparing it with what is said of it.
fn copy(out: &mut dyn Write, layer: &Layer, size: u64, path: &Path) -> Result<(), Error> {
    header(out, &layer_name(&layer.diff_id), EntryType::Regular, size)?;
    let mut tar = open(path, compression(layer))?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match tar.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(layer, &error)),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        hasher.update(bytes);
        if hasher.len() > size {
            break;
        }
        out.write_all(bytes)?;
    }
    let what = || format!("the tar of {}", what(layer));
    if hasher.len() != size {
        return Err(Error::SizeMismatch { what: what(), expected: size, found: hasher.len() });
    }
    let (DiffId(expected), found) = (layer.diff_id, hasher.finish());
    if found != expected {
        return Err(Error::DigestMismatch { what: what(), expected, found });
    }
    pad(out, size)
}

fn file(out: &mut dyn Write, name: &str, bytes: &[u8]) -> Result<(), Error> {
    header(out, name, EntryType::Regular, bytes.len() as u64)?;
    out.write_all(bytes)?;
    pad(out, bytes.len() as u64)
}

fn open(path: &Path, compression: Compression) -> Result<Box<dyn io::Read>, Error> {
    Ok(plain(BufReader::with_capacity(BUFFER, fs::File::open(path)?), compression)?)
}

fn compression(layer: &Layer) -> Compression {
    match kind(&layer.media_type) {
        Kind::Layer(compression) => compression,
        // No image is made with another.
        _ => Compression::None,
    }
}

fn config_name(image: &Image) -> String {
    format!("{}.json", image.config().descriptor().digest.hex())
}

fn layer_name(diff_id: &DiffId) -> String {
    format!("{}.tar", diff_id.0.hex())
}

fn what(layer: &Layer) -> String {
    format!("layer {} ({})", layer.digest, layer.history)
}

fn broken(layer: &Layer, error: &io::Error) -> Error {
    let detail = format!("{}: {error}", what(layer));
    Error::Compression { format: compression(layer).format(), detail }
}
