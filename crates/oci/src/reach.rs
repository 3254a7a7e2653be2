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

/// Every blob that somebody's `index.json` might need; an error tells why that cannot be known.
///
/// Errs on the side of keeping. Whatever has a `digest` anywhere in a document is needed, in formats that came later too
/// (`subject`, `blobs`). Where a manifest cannot be read, or one is missing that `index.json` itself names, all bets are
/// off. An index may name manifests that are not there, of platforms that nobody copied; nothing hangs on those.
pub(crate) fn needed_by(index: &Value, medium: &Medium) -> Result<BTreeSet<Digest>, String> {
    let mut needed = BTreeSet::new();
    let mut followed = BTreeSet::new();
    let mut waiting = Vec::new();
    collect(index, true, &mut waiting);
    while let Some(Mention { digest, media_type, is_entry }) = waiting.pop() {
        let kind = media_type.as_ref().map_or(Kind::Other, kind);
        if matches!(kind, Kind::Config | Kind::Layer(_)) {
            needed.extend(digest.parse::<Digest>());
            continue;
        }
        let is_document = matches!(kind, Kind::Index | Kind::Manifest);
        let digest: Digest = match digest.parse() {
            Ok(digest) => digest,
            Err(_) if is_document || is_entry => {
                return Err(format!("`{digest}`, which index.json leads to, is no SHA-256"));
            }
            // Text of somebody's.
            Err(_) => continue,
        };
        needed.insert(digest);
        if !followed.insert(digest) {
            continue;
        }
        let may_be_anything = !is_document && media_type.as_ref().is_some_and(is_no_json);
        let bytes = match medium.read(&blob_name(&digest), MAX_MANIFEST) {
            Ok(Some(bytes)) => bytes,
            Ok(None) if !is_entry || may_be_anything => continue,
            Ok(None) => return Err(format!("{digest}, which index.json names, is not there")),
            // A list of what is in an image can be large; it leads nowhere.
            Err(Error::TooLarge { .. }) if !is_document => continue,
            Err(_) if may_be_anything => continue,
            Err(error) => return Err(error.to_string()),
        };
        match serde_json::from_slice::<Value>(&bytes) {
            Ok(value) => collect(&value, false, &mut waiting),
            Err(_) if !is_document => {}
            Err(error) => return Err(format!("{digest} is no manifest: {error}")),
        }
    }
    Ok(needed)
}

/// A digest that a document has somewhere, with the media type beside it.
struct Mention {
    digest: String,
    media_type: Option<MediaType>,
    /// Whether the document is `index.json`.
    is_entry: bool,
}

fn is_no_json(media_type: &MediaType) -> bool {
    !media_type.as_ref().ends_with("json")
}

fn collect(value: &Value, is_entry: bool, found: &mut Vec<Mention>) {
    match value {
        Value::Object(members) => {
            if let Some(digest) = members.get("digest").and_then(Value::as_str) {
                let media_type = members.get("mediaType").and_then(Value::as_str).map(MediaType::from);
                found.push(Mention { digest: digest.to_owned(), media_type, is_entry });
            }
            members.values().for_each(|member| collect(member, is_entry, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, is_entry, found)),
        _ => {}
    }
}
