use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use fs_err as fs;
use serde_json::Value;

use crate::medium::blob_name;
use crate::read::{MAX_DEPTH, MAX_MANIFEST, children};
use crate::{Blob, Descriptor, Digest, Error, Kind, MediaType, Medium, Ref, kind};

/// Every blob that `refs` lead to, with its size in bytes, sorted by digest.
///
/// Manifests and indexes are read from where `path_of` says that they lie, and verified; configs and layers are only
/// named.
///
/// # Errors
/// [`Error::Io`] when a manifest cannot be read; [`Error::DigestMismatch`], [`Error::SizeMismatch`], [`Error::Json`]
/// when it is damaged; [`Error::MediaType`] when a ref stands for something else than a manifest or an index.
pub fn reachable(refs: &[Ref], path_of: &dyn Fn(&Digest) -> PathBuf) -> Result<BTreeMap<Digest, u64>, Error> {
    let mut found = BTreeMap::new();
    for reference in refs {
        let descriptor = reference.descriptor();
        if !matches!(kind(&descriptor.media_type), Kind::Index | Kind::Manifest) {
            return Err(Error::MediaType {
                what: format!("image `{}`", reference.name()),
                expected: "a manifest's or an index's".to_owned(),
                found: descriptor.media_type.to_string(),
            });
        }
        follow(reference.name(), descriptor, path_of, 0, &mut found)?;
    }
    Ok(found)
}

fn follow(
    name: &str,
    descriptor: &Descriptor,
    path_of: &dyn Fn(&Digest) -> PathBuf,
    depth: usize,
    found: &mut BTreeMap<Digest, u64>,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::TooDeep { what: format!("image `{name}`"), limit: MAX_DEPTH });
    }
    let known = found.insert(descriptor.digest, descriptor.size);
    if let Some(expected) = known.filter(|size| *size != descriptor.size) {
        let what = format!("{} in image `{name}`", descriptor.digest);
        return Err(Error::SizeMismatch { what, expected, found: descriptor.size });
    }
    if known.is_some() || !matches!(kind(&descriptor.media_type), Kind::Index | Kind::Manifest) {
        return Ok(());
    }
    let path = path_of(&descriptor.digest);
    let size = fs::metadata(&path)?.len();
    if size > MAX_MANIFEST {
        return Err(Error::TooLarge { what: path.display().to_string(), size, limit: MAX_MANIFEST });
    }
    let blob = Blob::verified(descriptor.clone(), fs::read(path)?)?;
    for child in children(&blob)? {
        follow(name, &child, path_of, depth + 1, found)?;
    }
    Ok(())
}

/// Every blob that the entries of somebody's `index.json` might need; an error tells why that cannot be known.
///
/// Errs on the side of keeping. Whatever has a `digest` anywhere in a manifest is needed, in formats that came later
/// too (`subject`, `blobs`); and where a manifest is missing or cannot be read, all bets are off.
pub(crate) fn needed_by(entries: &[Value], medium: &Medium) -> Result<BTreeSet<Digest>, String> {
    let mut needed = BTreeSet::new();
    let mut waiting: Vec<(Digest, Option<MediaType>)> = Vec::new();
    entries.iter().for_each(|entry| collect(entry, &mut waiting));
    while let Some((digest, media_type)) = waiting.pop() {
        if !needed.insert(digest) {
            continue;
        }
        let kind = media_type.as_ref().map_or(Kind::Other, kind);
        if matches!(kind, Kind::Config | Kind::Layer(_)) {
            continue;
        }
        let bytes = match medium.read(&blob_name(&digest), MAX_MANIFEST) {
            Ok(Some(bytes)) => bytes,
            // What is no manifest by its type may be anything, also something large, or absent on purpose.
            Ok(None) | Err(_) if kind == Kind::Other && media_type.as_ref().is_some_and(is_no_json) => {
                continue;
            }
            Ok(None) => return Err(format!("{digest}, which index.json leads to, is not there")),
            Err(error) => return Err(error.to_string()),
        };
        match serde_json::from_slice::<Value>(&bytes) {
            Ok(value) => collect(&value, &mut waiting),
            Err(_) if kind == Kind::Other => {}
            Err(error) => return Err(format!("{digest} is no manifest: {error}")),
        }
    }
    Ok(needed)
}

fn is_no_json(media_type: &MediaType) -> bool {
    !media_type.as_ref().ends_with("json")
}

fn collect(value: &Value, found: &mut Vec<(Digest, Option<MediaType>)>) {
    match value {
        Value::Object(members) => {
            let media_type = members.get("mediaType").and_then(Value::as_str).map(MediaType::from);
            if let Some(Ok(digest)) = members.get("digest").and_then(Value::as_str).map(str::parse) {
                found.push((digest, media_type));
            }
            members.values().for_each(|member| collect(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}
