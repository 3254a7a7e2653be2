//! What images start from, pinned: nothing, Debian packages, or another image.
//!
//! Of an image only the manifest and the config are read, by the digests that images.lock pins; its layers stay where
//! they are until an output needs their bytes. What has to be known of its layers (which Python, which C library, which
//! users) is read from them when the base is pinned, if anything asks for it, and pinned with it.
//!
//! A tag that has moved is never followed by a build: the pin names the image by digest. [`moved`] tells of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use imgforge_oci::{Blob, Descriptor, Digest, Image, Kind, MediaType, Platform, kind, read};
use imgforge_resolver::debian::PinnedPackage;
use imgforge_store::Store;

use crate::config::Config;
use crate::error::Error;
use crate::facts::{Facts, Interpreter, Libc};
use crate::images_lock::{BasePins, ImagesLock, PinnedManifest};
use crate::project::Tools;
use crate::survey::{self, LibcFamily, Survey};
use crate::transport::{ImageSource, Transport, TransportError};
use crate::workshop::Progress;

/// What an image starts from.
#[derive(Clone, Debug, Default)]
pub enum Root {
    /// Nothing.
    #[default]
    Empty,
    /// Debian packages, by name.
    Debian(Arc<[PinnedPackage]>),
    /// Another image.
    Image(Arc<BaseImage>),
}

/// Another image that images start from.
#[derive(Clone, Debug)]
pub struct BaseImage {
    /// The base's name in images.toml.
    pub base: String,
    /// Where it comes from, with a path that can be opened.
    pub transport: Transport,
    /// What that stood for when it was pinned: an index or a manifest.
    pub digest: Digest,
    /// Its manifest and config; its layers may be anywhere.
    pub image: Image,
}

impl Root {
    /// The image, if it is one.
    pub fn image(&self) -> Option<&Arc<BaseImage>> {
        match self {
            Self::Image(base) => Some(base),
            Self::Empty | Self::Debian(_) => None,
        }
    }
}

impl BaseImage {
    /// The name that a registry has for it, for the manifest's annotations.
    pub fn name(&self) -> Option<String> {
        self.reference().map(|reference| reference.to_string())
    }

    /// Its place in a registry.
    pub fn reference(&self) -> Option<imgforge_registry::Reference> {
        match &self.transport {
            Transport::Registry(reference) => Some(reference.clone()),
            _ => None,
        }
    }

    /// The layers as the images above have them: the media types are OCI's, the bytes are the same.
    pub fn layers(&self) -> impl Iterator<Item = Descriptor> + '_ {
        self.image.layers().iter().map(imgforge_oci::Layer::descriptor)
    }
}

/// Finds the image of a base by its pin in `lock`, or pins it.
///
/// # Errors
/// [`Error::Base`], with what stands in the way.
pub fn prepare(
    config: &Config,
    base: &str,
    transport: &Transport,
    platform: &Platform,
    folder: &Path,
    tools: &Tools<'_>,
    lock: &mut ImagesLock,
) -> Result<(Arc<BaseImage>, Facts), Error> {
    let failed = |source: Error| Error::Base {
        base: base.to_owned(),
        platform: platform.to_string(),
        source: Box::new(source),
    };
    let written = transport.to_string();
    let transport = transport.clone().below(folder);
    let key = (base.to_owned(), platform.to_string());
    let known = lock.bases.get(&key).filter(|pins| pins.image == written).cloned();
    let (mut pins, image) = match known {
        Some(pins) => {
            let image = pinned(&transport, &pins, tools).map_err(failed)?;
            (pins, image)
        }
        None => resolve(&transport, written, platform, tools, lock).map_err(failed)?,
    };
    let root = Arc::new(BaseImage { base: base.to_owned(), transport, digest: pins.digest, image });
    match asks_for_facts(config, base) {
        true if pins.facts.is_none() => pins.facts = Some(facts(&root, tools).map_err(failed)?),
        true => {}
        // What nothing asks for decides nothing, now or when it is asked for again.
        false => pins.facts = None,
    }
    let facts = pins.facts.clone().unwrap_or_default();
    lock.bases.insert(key, pins);
    Ok((root, facts))
}

/// The digest that the base's name stands for now, where it is another one than the pinned.
///
/// # Errors
/// [`Error::Transport`] when that can't be found out.
pub fn moved(base: &BaseImage, tools: &Tools<'_>) -> Result<Option<Digest>, Error> {
    let source = ImageSource::open(&base.transport, tools.registries, tools.offline)?;
    let now = source.resolve()?.digest;
    Ok((now != base.digest).then_some(now))
}

/// Puts layers of a base into the store that are not there: those that `wanted` says.
///
/// # Errors
/// [`Error::Base`] when one can't be had.
pub fn fetch_layers(
    base: &BaseImage,
    tools: &Tools<'_>,
    wanted: &(dyn Fn(&Descriptor) -> bool + Sync),
) -> Result<(), Error> {
    let failed = |source: Error| Error::Base {
        base: base.base.clone(),
        platform: base.image.platform().to_string(),
        source: Box::new(source),
    };
    let mut missing = Vec::new();
    for layer in base.layers() {
        if wanted(&layer) && !tools.store.contains(&layer.digest)? {
            missing.push(layer);
        }
    }
    missing.sort_by_key(|layer| (std::cmp::Reverse(layer.size), layer.digest));
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let opened = ImageSource::open(&base.pinned_transport(), tools.registries, tools.offline);
    let source = opened.map_err(|error| failed(error.into()))?;
    let fetch = |layer: &Descriptor| -> Result<(), Error> {
        Error::unless_stopped(tools.stop)?;
        let title = base.title(&layer.digest);
        let on_event = |event: imgforge_registry::Event<'_>| {
            (tools.on_progress)(Progress::Transfer {
                title: &title,
                digest: layer.digest,
                size: layer.size,
                event,
            });
        };
        Ok(source.fetch_blob(tools.store, layer, &on_event)?)
    };
    imgforge_http::in_parallel(FETCHES, &AtomicBool::new(false), &missing, |_| false, fetch)
        .map_err(failed)?;
    tools.store.sync()?;
    Ok(())
}

/// Layers fetched at a time.
const FETCHES: usize = 6;

impl BaseImage {
    /// What progress calls a layer.
    fn title(&self, layer: &Digest) -> String {
        let short: String = layer.hex().chars().take(12).collect();
        format!("layer {short} of [base.{}]", self.base)
    }

    /// Where the pinned image is, whatever the name stands for by now.
    fn pinned_transport(&self) -> Transport {
        match &self.transport {
            Transport::Registry(reference) => Transport::Registry(reference.clone().with_digest(self.digest)),
            other => other.clone(),
        }
    }
}

/// The image that a pin names: from the store, or from where it was.
fn pinned(transport: &Transport, pins: &BasePins, tools: &Tools<'_>) -> Result<Image, Error> {
    let manifest = descriptor(&pins.manifest);
    if let Some(image) = stored(&manifest, tools.store)? {
        return Ok(image);
    }
    let transport = match transport {
        Transport::Registry(reference) => Transport::Registry(reference.clone().with_digest(pins.digest)),
        other => other.clone(),
    };
    let source = ImageSource::open(&transport, tools.registries, tools.offline)?;
    let gone = || Error::NotPinned { transport: transport.to_string(), digest: pins.digest };
    let image = match read::image_for(&source, &manifest, None) {
        Ok(image) => image,
        // What is not there any more is told as that; trouble on the way there is not.
        Err(imgforge_oci::Error::NotAnImage { .. }) => return Err(gone()),
        Err(imgforge_oci::Error::Source(error)) if error.is::<TransportError>() => return Err(gone()),
        Err(error) => return Err(error.into()),
    };
    keep(&image, tools)?;
    Ok(image)
}

/// What a name stands for now.
fn resolve(
    transport: &Transport,
    written: String,
    platform: &Platform,
    tools: &Tools<'_>,
    lock: &ImagesLock,
) -> Result<(BasePins, Image), Error> {
    // What another platform, or another table, has pinned under this name is what the name means here too.
    let known = lock.bases.values().find(|pins| pins.image == written).map(|pins| pins.digest);
    let transport = match (transport, known) {
        (Transport::Registry(reference), Some(digest)) => Transport::Registry(reference.with_digest(digest)),
        (other, _) => other.clone(),
    };
    let source = ImageSource::open(&transport, tools.registries, tools.offline)?;
    let top = source.resolve()?;
    if let Some(digest) = known.filter(|digest| *digest != top.digest) {
        return Err(Error::NotPinned { transport: written, digest });
    }
    let image = match read::image_for(&source, &top, Some(platform)) {
        Ok(image) => image,
        Err(imgforge_oci::Error::UnknownPlatform { known, .. }) => {
            return Err(Error::NoPlatform { image: written, there: known });
        }
        Err(error) => return Err(error.into()),
    };
    keep(&image, tools)?;
    let manifest = image.manifest().descriptor();
    let pins = BasePins {
        image: written,
        digest: top.digest,
        manifest: PinnedManifest {
            digest: manifest.digest,
            media_type: manifest.media_type.to_string(),
            size: manifest.size,
        },
        facts: None,
    };
    Ok((pins, image))
}

/// What the store has of a pinned base: its documents and layers.
pub fn blobs(store: &Store, pins: &BasePins) -> Vec<Digest> {
    let manifest = descriptor(&pins.manifest);
    let image = stored(&manifest, store).ok().flatten();
    let parts = image.iter().flat_map(|image| {
        let layers = image.layers().iter().map(|layer| layer.digest);
        layers.chain([image.config().descriptor().digest])
    });
    [manifest.digest].into_iter().chain(parts).collect()
}

fn descriptor(pinned: &PinnedManifest) -> Descriptor {
    Descriptor::new(MediaType::from(pinned.media_type.as_str()), pinned.digest, pinned.size)
}

/// Puts the documents of an image into the store.
fn keep(image: &Image, tools: &Tools<'_>) -> Result<(), Error> {
    tools.store.insert(image.manifest().bytes())?;
    tools.store.insert(image.config().bytes())?;
    Ok(())
}

/// An image whose documents are in the store.
fn stored(manifest: &Descriptor, store: &Store) -> Result<Option<Image>, Error> {
    let Some(manifest) = document(manifest, read::MAX_MANIFEST, store)? else { return Ok(None) };
    let config = read::children(&manifest)?.into_iter().find(|child| kind(&child.media_type) == Kind::Config);
    let Some(config) = config else { return Ok(None) };
    let Some(config) = document(&config, read::MAX_CONFIG, store)? else { return Ok(None) };
    Ok(Some(Image::from_blobs(manifest, config)?))
}

fn document(descriptor: &Descriptor, limit: u64, store: &Store) -> Result<Option<Blob>, Error> {
    if descriptor.size > limit || !store.contains(&descriptor.digest)? {
        return Ok(None);
    }
    let bytes = fs_err::read(store.blob_path(&descriptor.digest))?;
    Ok(Some(Blob::verified(descriptor.clone(), bytes)?))
}

/// Whether anything in images.toml depends on what is in a base's layers.
fn asks_for_facts(config: &Config, base: &str) -> bool {
    let mut images = config.images.values().filter(|image| image.base == base);
    // Files and environments are put where they are said to be, unless a link of the base leads elsewhere.
    images.any(|image| !image.users.is_empty() || !image.files.is_empty() || !image.environments.is_empty())
}

/// Reads the layers of a base, those that no survey is known of.
fn facts(base: &BaseImage, tools: &Tools<'_>) -> Result<Facts, Error> {
    let survey = survey::of_image(&base.image, tools.store, &|layer| -> Result<_, Error> {
        let source = ImageSource::open(&base.pinned_transport(), tools.registries, tools.offline)?;
        let title = base.title(&layer.digest);
        let on_event = |event: imgforge_registry::Event<'_>| {
            (tools.on_progress)(Progress::Transfer {
                title: &title,
                digest: layer.digest,
                size: layer.size,
                event,
            });
        };
        Ok(source.open_layer(tools.store, layer, &on_event)?)
    })?;
    Ok(of_survey(survey, base.image.variable("PATH").unwrap_or_default()))
}

fn of_survey(survey: Survey, path: &str) -> Facts {
    let folders: Vec<&str> = path.split(':').collect();
    let in_path = |program: &str| {
        let (folder, _) = program.rsplit_once('/')?;
        folders.iter().position(|other| *other == folder)
    };
    let mut interpreters: Vec<_> = survey.interpreters.into_iter().collect();
    // The one that `python3` finds comes first, then those in the search path, in its order.
    interpreters.sort_by_key(|interpreter| {
        let found = |name: &str| {
            let links = interpreter.links.iter().map(String::as_str).chain([interpreter.path.as_str()]);
            links.filter(|link| link.rsplit('/').next() == Some(name)).filter_map(in_path).min()
        };
        let place = |place: Option<usize>| place.unwrap_or(usize::MAX);
        (place(found("python3")), place(in_path(&interpreter.path)), interpreter.path.clone())
    });
    let libc = survey.libc.and_then(|libc| {
        let version = libc.version?;
        Some(match libc.family {
            LibcFamily::Glibc => Libc::Glibc(version),
            LibcFamily::Musl => Libc::Musl(version),
        })
    });
    Facts {
        interpreters: interpreters
            .into_iter()
            .map(|found| Interpreter { path: found.path, version: found.version })
            .collect(),
        libc,
        links: survey.links,
        passwd: survey.passwd,
        group: survey.group,
    }
}
