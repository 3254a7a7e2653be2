//! Whether images are what they claim: every digest, size and diff ID is computed again.
//!
//! Library code, because the command line and every end-to-end test ask it the same question. It goes on after a
//! finding and tells all of them, each with its image, its layer and both values. Documents first (they are small and
//! lead to everything), then the layers, each once however many images share it, in parallel.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use rayon::prelude::*;

use crate::layer::{self, Summary};
use crate::medium::blob_name;
use crate::read::{MAX_CONFIG, MAX_DEPTH, MAX_DOCUMENTS, MAX_MANIFEST, children, entries, is_image};
use crate::{
    Blob, Compression, Descriptor, DiffId, Digest, Error, Image, Kind, Medium, Platform, REF_NAME, archive,
    kind, layout as layout_folder,
};

/// What a valid layout or archive holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The images, in the order of `index.json` and of their platforms.
    pub images: Vec<Found>,
    /// Blobs that were checked.
    pub blobs: usize,
    /// Their bytes, compressed.
    pub bytes: u64,
    /// Files that no image needs, sorted.
    pub extra: Vec<String>,
    /// What is allowed and yet unusual: entries before their folder or on one path, a tar without its end. There is
    /// nothing of it in layers that imgforge made.
    pub remarks: Vec<String>,
}

/// An image that was found valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name; empty when it has none.
    pub name: String,
    /// What it runs on.
    pub platform: Platform,
    /// Its manifest's digest.
    pub digest: Digest,
    /// How many layers it has.
    pub layers: usize,
}

/// Something that is wrong, and where.
#[derive(Debug)]
pub struct Problem {
    /// Image, platform, layer.
    pub place: String,
    /// What is wrong.
    pub error: Box<Error>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.error)
    }
}

/// Checks a layout folder.
///
/// # Errors
/// [`Error::Invalid`] with every finding; [`Error::Io`], [`Error::NotAnImage`], [`Error::Json`] when it cannot be
/// looked at.
pub fn layout(dir: &Path) -> Result<Report, Error> {
    medium(&layout_folder::open(dir)?)
}

/// Checks an archive.
///
/// # Errors
/// As [`layout`], and [`Error::Tar`] when the file is no sound tar.
pub fn archive(file: &Path) -> Result<Report, Error> {
    medium(&archive::open(file)?)
}

/// Checks whatever holds images.
///
/// # Errors
/// As [`layout`].
pub fn medium(medium: &Medium) -> Result<Report, Error> {
    let mut walk = Walk {
        medium,
        name: String::new(),
        report: Report::default(),
        problems: Vec::new(),
        documents: BTreeMap::new(),
        contents: BTreeMap::new(),
        seen: BTreeSet::new(),
    };
    for entry in entries(medium)? {
        let name = entry.annotations.get(REF_NAME).cloned().unwrap_or_default();
        let place = if name.is_empty() { entry.digest.to_string() } else { name.clone() };
        walk.name = name;
        walk.seen.clear();
        walk.descriptor(&place, &entry, 0);
    }
    let Walk { mut report, mut problems, documents, contents, .. } = walk;

    let checked: Vec<_> =
        contents.par_iter().map(|(digest, content)| (content, content.check(medium, digest))).collect();
    for (content, (remarks, errors)) in checked {
        let place = content.places.join("; ");
        report.remarks.extend(remarks.into_iter().map(|remark| format!("{place}: {remark}")));
        problems
            .extend(errors.into_iter().map(|error| Problem { place: place.clone(), error: Box::new(error) }));
    }
    if !problems.is_empty() {
        return Err(Error::Invalid { place: medium.place().to_owned(), problems });
    }

    report.blobs = documents.len() + contents.len();
    report.bytes =
        documents.values().sum::<u64>() + contents.values().map(|content| content.size).sum::<u64>();
    let known: BTreeSet<String> = documents
        .keys()
        .chain(contents.keys())
        .map(blob_name)
        .chain(["oci-layout".to_owned(), "index.json".to_owned()])
        .collect();
    report.extra = medium.files()?.into_iter().filter(|name| !known.contains(name)).collect();
    Ok(report)
}

struct Walk<'a> {
    medium: &'a Medium,
    /// Of the entry of `index.json` that is being followed.
    name: String,
    /// What that entry led to, under which platform. What is named twice is looked at once, so that indexes of
    /// indexes cannot make endless work.
    seen: BTreeSet<(Digest, Option<Platform>)>,
    report: Report,
    problems: Vec<Problem>,
    /// Indexes, manifests and configs that were read and verified, with their bytes.
    documents: BTreeMap<Digest, u64>,
    /// Everything else.
    contents: BTreeMap<Digest, Content>,
}

/// A layer, or something that is only compared with its name.
struct Content {
    size: u64,
    /// How it is stored; nothing for what is no layer.
    compression: Option<Compression>,
    /// Who says that it is there.
    places: Vec<String>,
    /// What configs say of it, with their images.
    diff_ids: Vec<(String, DiffId)>,
}

impl Walk<'_> {
    fn problem(&mut self, place: &str, error: Error) {
        self.problems.push(Problem { place: place.to_owned(), error: Box::new(error) });
    }

    /// A manifest or an index, and everything below it.
    fn descriptor(&mut self, place: &str, descriptor: &Descriptor, depth: usize) {
        if depth > MAX_DEPTH {
            return self
                .problem(place, Error::TooDeep { what: descriptor.digest.to_string(), limit: MAX_DEPTH });
        }
        if !self.seen.insert((descriptor.digest, descriptor.platform.clone())) {
            return;
        }
        if self.seen.len() > MAX_DOCUMENTS {
            // Said once.
            if self.seen.len() == MAX_DOCUMENTS + 1 {
                self.problem(place, Error::TooMany { what: self.name.clone(), limit: MAX_DOCUMENTS });
            }
            return;
        }
        let read = self.document(descriptor, MAX_MANIFEST).and_then(|blob| Ok((children(&blob)?, blob)));
        let (children, blob) = match read {
            Ok(read) => read,
            Err(error) => return self.problem(place, error),
        };
        match (kind(&descriptor.media_type), children.as_slice()) {
            (Kind::Manifest, [config, layers @ ..]) if is_image(config, layers) => {
                if let Err(error) = self.image(place, descriptor, blob, config) {
                    self.problem(place, error);
                }
            }
            // Notes of build tools: their parts are what they are named, no more can be said.
            (Kind::Manifest, parts) => {
                for part in parts {
                    self.content(place.to_owned(), part, None);
                }
            }
            (_, manifests) => {
                for manifest in manifests {
                    let platform =
                        manifest.platform.as_ref().map_or_else(String::new, |it| format!(" ({it})"));
                    self.descriptor(&format!("{place}{platform}"), manifest, depth + 1);
                }
            }
        }
    }

    fn document(&mut self, descriptor: &Descriptor, limit: u64) -> Result<Blob, Error> {
        let blob = self.medium.blob(descriptor, limit)?;
        self.documents.insert(descriptor.digest, descriptor.size);
        Ok(blob)
    }

    fn image(
        &mut self,
        place: &str,
        descriptor: &Descriptor,
        manifest: Blob,
        config: &Descriptor,
    ) -> Result<(), Error> {
        let config = self.document(config, MAX_CONFIG)?;
        let image = Image::from_blobs(manifest, config)?;
        let platform = image.platform();
        image.check_history()?;
        descriptor.platform.iter().try_for_each(|claimed| image.check_platform(claimed))?;
        let count = image.layers().len();
        for (number, layer) in image.layers().iter().enumerate() {
            let place = format!("{place}, layer {} of {count} ({})", number + 1, layer.history);
            self.content(place, &layer.descriptor(), Some(layer.diff_id));
        }
        self.report.images.push(Found {
            name: self.name.clone(),
            platform: platform.clone(),
            digest: descriptor.digest,
            layers: count,
        });
        Ok(())
    }

    fn content(&mut self, place: String, descriptor: &Descriptor, diff_id: Option<DiffId>) {
        let compression = match kind(&descriptor.media_type) {
            Kind::Layer(compression) => Some(compression),
            _ => None,
        };
        let content = self.contents.entry(descriptor.digest).or_insert_with(|| Content {
            size: descriptor.size,
            compression,
            places: Vec::new(),
            diff_ids: Vec::new(),
        });
        content.places.push(place.clone());
        content.diff_ids.extend(diff_id.map(|diff_id| (place.clone(), diff_id)));
        let what = format!("{} and {}", content.places.first().unwrap_or(&place), place);
        let (size, stored) = (content.size, content.compression);
        if size != descriptor.size {
            self.problem(&place, Error::SizeMismatch { what, expected: size, found: descriptor.size });
        } else if stored != compression {
            let detail = format!("one says that it is stored as {stored:?}, the other as {compression:?}");
            self.problem(&place, Error::Inconsistent { what, detail });
        }
    }
}

impl Content {
    /// Reads it whole; remarks and errors.
    fn check(&self, medium: &Medium, digest: &Digest) -> (Vec<String>, Vec<Error>) {
        let name = blob_name(digest);
        let (content, found) = match medium.open(&name).and_then(|it| it.ok_or_else(|| medium.missing(&name)))
        {
            Ok(opened) => opened,
            Err(error) => return (Vec::new(), vec![error]),
        };
        if found != self.size {
            return (
                Vec::new(),
                vec![Error::SizeMismatch { what: digest.to_string(), expected: self.size, found }],
            );
        }
        let read = match layer::read(content, self.compression, &mut |_, _| Ok(())) {
            Ok(read) => read,
            Err(error) => return (Vec::new(), vec![error]),
        };
        let (mut remarks, mut errors) = (Vec::new(), Vec::new());
        if read.digest != *digest {
            errors.push(Error::DigestMismatch { what: name, expected: *digest, found: read.digest });
        }
        let Some(tar) = read.layer else { return (remarks, errors) };
        match tar.diff_id {
            Ok(found) => {
                for (place, DiffId(expected)) in
                    self.diff_ids.iter().filter(|(_, DiffId(diff_id))| *diff_id != found)
                {
                    let what = format!("the diff ID of {place}");
                    errors.push(Error::DigestMismatch { what, expected: *expected, found });
                }
            }
            Err(error) => errors.push(error),
        }
        match tar.summary {
            Ok(Summary { entries, without_parent, repeated, absolute, ended }) => {
                let counts = [
                    (without_parent, "do not follow their folder's"),
                    (repeated, "are on a path that has one already"),
                    (absolute, "have an absolute path"),
                ];
                let told = counts.into_iter().filter(|(count, _)| *count > 0);
                remarks.extend(told.map(|(count, what)| format!("{count} of {entries} entries {what}")));
                if !ended {
                    remarks.push("the tar has no end blocks".to_owned());
                }
            }
            Err(error) => errors.push(error),
        }
        (remarks, errors)
    }
}
