//! The layout: images as a folder. Source: OCI image specification, "Image Layout".
//!
//! ```text
//! dist/
//!   oci-layout               {"imageLayoutVersion":"1.0.0"}
//!   index.json               name → manifest or index; replaced as a whole, last
//!   blobs/sha256/<hex>       hard links into the store where the file system allows, else copies
//!   .imgforge-tmp            one unfinished file; only while somebody writes
//! ```
//!
//! The folder is shared: `skopeo copy` puts images beside ours, and what it put there stays. `index.json` is the one
//! file that decides, and it is renamed into place when all blobs are there and before any goes, so a writer that is
//! killed leaves the old images or the new ones, and at worst blobs that nobody needs, which the next run removes.
//! Two writers wait for each other on a lock of the folder itself, which leaves no file behind.
//!
//! A blob that the folder [holds] does not have to be in the store: the layers of a base that was never fetched stay
//! where they are.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use oci_spec::image::SCHEMA_VERSION;
use serde_json::Value;

use crate::medium::blob_name;
use crate::read::MAX_MANIFEST;
use crate::reference::index_entries;
use crate::{Descriptor, Digest, Error, MediaType, Medium, REF_NAME, Ref, json, reach, reachable};

pub(crate) const HEADER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const UNFINISHED: &str = ".imgforge-tmp";
/// Bytes of a blob that is hashed before it is taken for what its name says; a larger one is taken by its size.
const CHEAP: u64 = 1 << 20;

/// What [`write()`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Blobs that were there.
    pub kept: usize,
    /// Blobs that share their bytes with the store now.
    pub linked: usize,
    /// Blobs that were copied, because the store is on another file system.
    pub copied: usize,
    /// Blobs that no ref reached any more.
    pub removed: usize,
    /// Why nothing could be removed: a manifest of somebody else that cannot be read.
    pub not_removed: Option<String>,
}

/// Opens a layout for reading.
///
/// # Errors
/// [`Error::NotAnImage`] when the folder has no `oci-layout` file, or one of another version.
pub fn open(dir: &Path) -> Result<Medium, Error> {
    let medium = Medium::folder(dir);
    check_header(&medium)?;
    Ok(medium)
}

/// Writes `refs` and every blob that they lead to into a layout folder, which may exist.
///
/// Refs of the same names are replaced, others are kept. `path_of` tells where a blob lies in the store; what the
/// layout [holds] already does not have to be there.
///
/// # Errors
/// As [`reachable`]; [`Error::SizeMismatch`] when a blob of the store is not as long as its descriptor says;
/// [`Error::NowhereFound`] when one is in neither place; [`Error::Duplicate`] when two refs have one name;
/// [`Error::NotAnImage`] when the folder is of another version.
pub fn write(dir: &Path, refs: &[Ref], path_of: &dyn Fn(&Digest) -> PathBuf) -> Result<Written, Error> {
    let entries = index_entries(refs)?;
    let in_layout = |digest: &Digest| dir.join(blob_name(digest));
    let blobs = reachable(refs, &|digest| {
        let path = path_of(digest);
        if path.exists() { path } else { Some(in_layout(digest)).filter(|own| own.exists()).unwrap_or(path) }
    })?;

    fs::create_dir_all(dir)?;
    let folder = fs::File::open(dir)?;
    folder.lock()?;
    let unfinished = dir.join(UNFINISHED);
    remove_if_there(&unfinished)?;
    let medium = Medium::folder(dir);
    if medium.open("oci-layout")?.is_none() {
        replace(&unfinished, &dir.join("oci-layout"), HEADER)?;
    }
    check_header(&medium)?;
    fs::create_dir_all(dir.join("blobs/sha256"))?;

    let mut written = Written::default();
    for (digest, size) in &blobs {
        match place(&path_of(digest), &in_layout(digest), digest, *size, &unfinished)? {
            Placed::Kept => written.kept += 1,
            Placed::Linked => written.linked += 1,
            Placed::Copied => written.copied += 1,
        }
    }

    let old = medium.read("index.json", MAX_MANIFEST)?;
    let index = merge(&medium, old.as_deref(), refs, serde_json_values(&entries)?)?;
    let new = json::canonical(&index)?;
    if old.as_deref() != Some(&new) {
        replace(&unfinished, &dir.join("index.json"), &new)?;
        folder.sync_all()?;
    }

    match reach::needed_by(&index, &medium) {
        Ok(needed) => written.removed = sweep(dir, &|digest| needed.contains(digest))?,
        Err(reason) => written.not_removed = Some(reason),
    }
    Ok(written)
}

pub(crate) fn check_header(medium: &Medium) -> Result<(), Error> {
    let bytes = medium.read("oci-layout", MAX_MANIFEST)?.ok_or_else(|| medium.missing("oci-layout"))?;
    let header: Value = json::parse("oci-layout", &bytes)?;
    match header.get("imageLayoutVersion").and_then(Value::as_str) {
        Some("1.0.0") => Ok(()),
        found => Err(Error::NotAnImage {
            place: medium.place().to_owned(),
            expected: medium.noun(),
            detail: format!("its imageLayoutVersion is `{}`, expected `1.0.0`", found.unwrap_or_default()),
        }),
    }
}

enum Placed {
    Kept,
    Linked,
    Copied,
}

/// Brings one blob of the store to its place.
fn place(from: &Path, to: &Path, digest: &Digest, size: u64, unfinished: &Path) -> Result<Placed, Error> {
    let check = |what: &Path, found: u64| {
        let what = what.display().to_string();
        if found == size { Ok(()) } else { Err(Error::SizeMismatch { what, expected: size, found }) }
    };
    let source = match fs::metadata(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if is_whole(to, digest, size)? {
                Ok(Placed::Kept)
            } else {
                Err(Error::NowhereFound { digest: *digest, store: from.to_owned(), layout: to.to_owned() })
            };
        }
        metadata => metadata?,
    };
    check(from, source.len())?;
    let present = metadata(to)?;
    if present.as_ref().is_some_and(|present| (present.dev(), present.ino()) == (source.dev(), source.ino()))
    {
        return Ok(Placed::Kept);
    }
    // Another file of the right size may be a damaged one; where a link is possible, it costs nothing to be sure.
    let target = if present.is_some() { unfinished } else { to };
    if fs::hard_link(from, target).is_ok() {
        if present.is_some() {
            fs::rename(unfinished, to)?;
        }
        return Ok(Placed::Linked);
    }
    if is_whole(to, digest, size)? {
        return Ok(Placed::Kept);
    }
    check(from, fs::copy(from, unfinished)?)?;
    // A copy is trusted by its size next time, so its bytes must not arrive after its name.
    fs::File::open(unfinished)?.sync_all()?;
    fs::rename(unfinished, to)?;
    Ok(Placed::Copied)
}

/// Whether a layout has a blob, so that [`write()`] does without the store's: a file of the right size, and up to 1 MiB of
/// the right digest. A larger one is not read; [`validate`](crate::validate) does that.
///
/// # Errors
/// [`Error::Io`] when it cannot be looked at; no layout holds nothing.
pub fn holds(dir: &Path, blob: &Descriptor) -> Result<bool, Error> {
    is_whole(&dir.join(blob_name(&blob.digest)), &blob.digest, blob.size)
}

fn is_whole(path: &Path, digest: &Digest, size: u64) -> Result<bool, Error> {
    let is_file = metadata(path)?.is_some_and(|found| found.is_file() && found.len() == size);
    Ok(is_file && (size > CHEAP || Digest::of(&fs::read(path)?) == *digest))
}

/// What lies there itself, not what it links to.
fn metadata(path: &Path) -> Result<Option<Metadata>, Error> {
    match fs::symlink_metadata(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        metadata => Ok(Some(metadata?)),
    }
}

/// The new `index.json`: the entries of other names as they are, with all that imgforge has not heard of.
fn merge(medium: &Medium, old: Option<&[u8]>, refs: &[Ref], new: Vec<Value>) -> Result<Value, Error> {
    let what = format!("index.json of {}", medium.place().display());
    let mut index: BTreeMap<String, Value> =
        old.map_or_else(|| Ok(BTreeMap::new()), |old| json::parse(&what, old))?;
    let mut entries = match index.remove("manifests") {
        None => Vec::new(),
        Some(Value::Array(entries)) => entries,
        Some(_) => {
            let detail = "the `manifests` of its index.json are no list".to_owned();
            return Err(Error::NotAnImage {
                place: medium.place().to_owned(),
                expected: medium.noun(),
                detail,
            });
        }
    };
    let name = |entry: &Value| Some(entry.get("annotations")?.get(REF_NAME)?.as_str()?.to_owned());
    entries
        .retain(|entry| name(entry).is_none_or(|name| refs.iter().all(|reference| reference.name() != name)));
    entries.extend(new);
    // The order must not tell who came first.
    entries.sort_by_cached_key(|entry| (name(entry), entry.get("digest").map(Value::to_string)));
    index.insert("manifests".to_owned(), entries.into());
    index.insert("mediaType".to_owned(), MediaType::ImageIndex.as_ref().into());
    index.insert("schemaVersion".to_owned(), SCHEMA_VERSION.into());
    Ok(index.into_iter().collect())
}

fn serde_json_values(entries: &[oci_spec::image::Descriptor]) -> Result<Vec<Value>, Error> {
    let value = |entry| {
        serde_json::to_value(entry)
            .map_err(|source| Error::Json { what: "an entry of index.json".to_owned(), source })
    };
    entries.iter().map(value).collect()
}

/// Removes the blobs that are not needed; whatever else lies there is not imgforge's to judge.
fn sweep(dir: &Path, is_needed: &dyn Fn(&Digest) -> bool) -> Result<usize, Error> {
    let mut removed = 0;
    for entry in fs::read_dir(dir.join("blobs/sha256"))? {
        let entry = entry?;
        let digest = entry.file_name().to_str().and_then(|name| Digest::from_hex(name).ok());
        if digest.is_some_and(|digest| !is_needed(&digest)) {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Writes a small file so that it is there whole or not at all.
fn replace(unfinished: &Path, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = fs::File::create(unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(unfinished, path)?;
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => Ok(result?),
    }
}
