//! What a change ships: an image's layers, against those that an images.lock records.
//!
//! A layer that was there before, in this image or in another, is at the registries already that the images went to, since
//! its digest follows from its key. So what a pull request costs is known from two texts, before anything is sent, and as far as
//! sizes go before anything is made.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use fs_err as fs;
use imgforge_oci::{Descriptor, Digest, Platform};

use crate::error::Error;
use crate::forecast::Fate;
use crate::images_lock::{ImagesLock, Outcome, OutcomeLayer};
use crate::project::{PreparedImage, Project};
use crate::unit::LayerSpec;

/// Reads what is compared with: an images.lock, or what git has of the project's as of a commit.
///
/// # Errors
/// [`Error::Against`].
pub fn read(against: &str, folder: &Path) -> Result<ImagesLock, Error> {
    let failed = |problem: String| Error::Against { against: against.to_owned(), problem };
    let text = match Path::new(against).is_file() {
        true => fs::read_to_string(against).map_err(|error| failed(error.to_string()))?,
        false => of_commit(against, folder).map_err(failed)?,
    };
    ImagesLock::parse(&text).map_err(|error| failed(error.to_string()))
}

/// `git show REV:./images.lock`, in the project's folder; or what stands in the way.
fn of_commit(revision: &str, folder: &Path) -> Result<String, String> {
    // A commit is no option, whatever it is called.
    if revision.starts_with('-') || revision.is_empty() {
        return Err("there is no such file, and no commit is called so".to_owned());
    }
    let object = format!("{revision}:./images.lock");
    let output =
        Command::new("git").args(["show", "--no-textconv", &object]).current_dir(folder).output().map_err(
            |error| format!("there is no such file, and git can't be asked for a commit: {error}"),
        )?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or_default().trim_start_matches("fatal: ");
        let plain: String = said.chars().filter(|char| !char.is_control()).collect();
        return Err(format!("there is no such file, and git says: {plain}"));
    }
    String::from_utf8(output.stdout).map_err(|_| "its images.lock is no text".to_owned())
}

/// A layer that an image is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What is in it, for readers.
    pub title: String,
    /// Its key.
    pub key: String,
    /// Of its compressed bytes, where it has been made.
    pub digest: Option<Digest>,
    /// Bytes, compressed.
    pub size: Size,
}

/// How large a layer is, compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Bytes, of the layer itself.
    Known(u64),
    /// Bytes of the packages that it is made of, as their locks have them.
    About(u64),
    /// No lock says anything.
    Unknown,
}

impl Size {
    /// What is known of a layer before it is made.
    pub fn of_inputs(spec: &LayerSpec) -> Self {
        let sizes: Option<Vec<u64>> = spec.units.iter().map(|unit| unit.item.size).collect();
        sizes.map_or(Self::Unknown, |sizes| Self::About(sizes.into_iter().sum()))
    }

    /// Bytes, 0 where none are known.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Known(bytes) | Self::About(bytes) => bytes,
            Self::Unknown => 0,
        }
    }
}

impl Layer {
    /// A layer as images.lock records it.
    pub fn recorded(layer: &OutcomeLayer) -> Self {
        let OutcomeLayer { title, key, digest, size, .. } = layer;
        Self { title: title.clone(), key: key.clone(), digest: Some(*digest), size: Size::Known(*size) }
    }
}

/// An image against what it was before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Layers that no image had.
    pub new: Vec<Layer>,
    /// Layers that this image had not, but another one had.
    pub elsewhere: Vec<Layer>,
    /// Layers that it had.
    pub same: Vec<Layer>,
    /// Layers that it had and has no more.
    pub gone: Vec<Layer>,
    /// The image's configuration, if that is known and no image had it.
    pub config: Option<Descriptor>,
}

/// The layers of the images that an images.lock records, to compare with.
#[derive(Clone, Debug)]
pub struct Before<'l> {
    lock: &'l ImagesLock,
    keys: BTreeSet<&'l str>,
    digests: BTreeSet<Digest>,
}

impl<'l> Before<'l> {
    /// All images of a lock.
    pub fn new(lock: &'l ImagesLock) -> Self {
        let layers = || lock.images.values().flat_map(|outcome| &outcome.layers);
        Self {
            lock,
            keys: layers().map(|layer| layer.key.as_str()).collect(),
            digests: layers().map(|layer| layer.digest).collect(),
        }
    }

    /// An image as it was.
    pub fn image(&self, name: &str, platform: &Platform) -> Option<&'l Outcome> {
        self.lock.images.get(&(name.to_owned(), platform.to_string()))
    }

    /// Compares a planned image, whose layers' fates are known, with itself.
    ///
    /// Where images.lock is up to date, its record counts: it has what settles disputes between packages, too, which is not
    /// planned.
    ///
    /// # Errors
    /// [`Error::Oci`] for a value that an image config can't hold.
    pub fn planned(
        &self,
        project: &Project,
        image: &PreparedImage,
        fates: &[&Fate<'_>],
    ) -> Result<Comparison, Error> {
        let specs: Vec<&LayerSpec> = fates.iter().map(|fate| fate.spec).collect();
        let recorded = project.recorded(image, &specs, &project.lock)?;
        let key = (image.name.clone(), image.platform.to_string());
        let layers = match recorded.as_ref().and_then(|_| project.lock.images.get(&key)) {
            Some(outcome) => outcome.layers.iter().map(Layer::recorded).collect::<Vec<_>>(),
            None => fates.iter().map(|fate| fate.layer()).collect(),
        };
        let described =
            recorded.map(|image| (image.manifest().descriptor().digest, image.config().descriptor().clone()));
        Ok(self.compare(self.image(&image.name, &image.platform), &layers, described))
    }

    /// Compares an image with itself. `described` are the digest of its manifest and what its configuration is, as far as they are
    /// known.
    pub fn compare(
        &self,
        before: Option<&Outcome>,
        layers: &[Layer],
        described: Option<(Digest, Descriptor)>,
    ) -> Comparison {
        let own: &[OutcomeLayer] = before.map_or(&[], |outcome| &outcome.layers);
        let is = |old: &OutcomeLayer, layer: &Layer| old.key == layer.key || Some(old.digest) == layer.digest;
        let mut comparison = Comparison::default();
        for layer in layers {
            let is_known = self.keys.contains(layer.key.as_str())
                || layer.digest.is_some_and(|digest| self.digests.contains(&digest));
            let kind = match () {
                () if own.iter().any(|old| is(old, layer)) => &mut comparison.same,
                () if is_known => &mut comparison.elsewhere,
                () => &mut comparison.new,
            };
            kind.push(layer.clone());
        }
        let gone = own.iter().filter(|old| !layers.iter().any(|layer| is(old, layer)));
        comparison.gone = gone.map(Layer::recorded).collect();
        comparison.config = described
            .filter(|(manifest, _)| !self.lock.images.values().any(|outcome| outcome.manifest == *manifest))
            .map(|(_, config)| config);
        comparison
    }
}

/// What several images ship together, each layer once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shipment {
    /// Layers that no image had.
    pub layers: usize,
    /// Their bytes, as far as they are known.
    pub layer_bytes: u64,
    /// Configurations of images.
    pub configs: usize,
    /// Their bytes.
    pub config_bytes: u64,
    /// Layers whose size was taken from their packages.
    pub about: usize,
    /// Layers whose size nobody knows before they are made.
    pub unknown: usize,
}

impl Shipment {
    /// Adds up.
    pub fn of<'c>(comparisons: impl IntoIterator<Item = &'c Comparison>) -> Self {
        let (mut layers, mut configs) = (BTreeSet::new(), BTreeSet::new());
        let mut all = Self::default();
        for comparison in comparisons {
            for layer in &comparison.new {
                if layers.insert(&layer.key) {
                    all.layers += 1;
                    all.layer_bytes += layer.size.bytes();
                    all.about += usize::from(matches!(layer.size, Size::About(_)));
                    all.unknown += usize::from(layer.size == Size::Unknown);
                }
            }
            if let Some(config) = &comparison.config
                && configs.insert(config.digest)
            {
                all.configs += 1;
                all.config_bytes += config.size;
            }
        }
        all
    }

    /// Bytes that a registry is sent which has what was there before.
    pub fn bytes(&self) -> u64 {
        self.layer_bytes + self.config_bytes
    }
}

#[cfg(test)]
mod tests {
    use imgforge_oci::DiffId;

    use super::*;

    fn outcome(keys: &str) -> Outcome {
        let layer = |key: &str| OutcomeLayer {
            title: key.to_owned(),
            key: key.to_owned(),
            digest: Digest::of(key.as_bytes()),
            diff_id: DiffId(Digest::of(key.as_bytes())),
            size: 10,
            media_type: None,
        };
        Outcome { manifest: Digest::of(keys.as_bytes()), layers: keys.split(' ').map(layer).collect() }
    }

    /// Two images, `i` and `j`, as they were, and `i` as it is: each layer is a word, `=x` one with another key and the digest of `x`.
    #[track_caller]
    fn check(i: &str, j: &str, now: &str, expected: [&str; 4]) {
        let key = |name: &str| (name.to_owned(), "linux/amd64".to_owned());
        let lock = ImagesLock {
            images: [(key("i"), outcome(i)), (key("j"), outcome(j))].into(),
            ..ImagesLock::default()
        };
        let before = Before::new(&lock);
        let layer = |word: &str| Layer {
            title: word.to_owned(),
            key: word.to_owned(),
            digest: word.strip_prefix('=').map(|name| Digest::of(name.as_bytes())),
            size: Size::About(3),
        };
        let layers: Vec<_> = now.split(' ').map(layer).collect();
        let platform: Platform = "linux/amd64".parse().unwrap();
        let Comparison { new, elsewhere, same, gone, config } =
            before.compare(before.image("i", &platform), &layers, None);
        let words =
            |layers: Vec<Layer>| layers.into_iter().map(|layer| layer.key).collect::<Vec<_>>().join(" ");
        assert_eq!([new, elsewhere, same, gone].map(words), expected);
        assert_eq!(config, None);
    }

    #[test]
    fn layers_by_key_and_digest() {
        check("a b", "c", "a b", ["", "", "a b", ""]);
        check("a b", "c", "a d", ["d", "", "a", "b"]);
        check("a b", "c", "b c", ["", "c", "b", "a"]);
        check("a b", "c", "=a =c e", ["e", "=c", "=a", "b"]);
    }

    #[test]
    fn each_layer_is_shipped_once() {
        let layer = |key: &str, size| Layer { title: String::new(), key: key.to_owned(), digest: None, size };
        let one = Comparison {
            new: vec![layer("a", Size::Known(5)), layer("b", Size::About(7))],
            ..Comparison::default()
        };
        let two = Comparison {
            new: vec![layer("a", Size::Known(5)), layer("c", Size::Unknown)],
            ..Comparison::default()
        };
        let expected = Shipment { layers: 3, layer_bytes: 12, about: 1, unknown: 1, ..Shipment::default() };
        assert_eq!(Shipment::of([&one, &two]), expected);
    }
}
