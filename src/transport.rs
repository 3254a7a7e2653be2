//! Where an image is: a registry, a layout, an archive, or Docker's own archive, all by the names that containers-transports(5)
//! has for them.
//!
//! [`Transport`] is what a user writes. [`ImageSource`] is that, opened: it gives documents and layers, whatever is
//! behind it. Bytes of a registry go through the store, where they are verified and where an interrupted transfer is
//! gone on with; bytes of this host are read where they lie.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use imgforge_oci::{
    Blob, Descriptor, Documents, Image, Kind, Layer, Medium, archive, docker_archive, kind, layout, read,
};
use imgforge_registry::{Client, Event, Reference, ReferenceError, Repository, TagOrDigest};
use imgforge_store::{Store, StoreError};

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// `docker://HOST/NAME[:TAG][@DIGEST]`: in a registry.
    Registry(Reference),
    /// `oci:DIR[:REF]`: in a layout.
    Layout {
        /// The folder.
        path: PathBuf,
        /// The name in it, which may hold colons; not needed where there is one image only.
        name: Option<String>,
    },
    /// `oci-archive:FILE[:REF]`: in a layout that is one tar file.
    Archive {
        /// The file.
        path: PathBuf,
        /// As in a layout.
        name: Option<String>,
    },
    /// `docker-archive:FILE[:REF]`: in what `docker save` writes.
    DockerArchive {
        /// The file.
        path: PathBuf,
        /// As Docker has it, `debian:12`.
        name: Option<String>,
    },
}

impl Transport {
    /// Whether `text` begins with the name of a transport. What does not, may be a name or a path, which is for others
    /// to say.
    pub fn is_named_in(text: &str) -> bool {
        text.split_once(':').is_some_and(|(scheme, _)| SCHEMES.contains(&scheme))
    }

    /// The same, with a path that is relative to a folder joined to it.
    #[must_use]
    pub fn below(self, folder: &Path) -> Self {
        match self {
            Self::Registry(reference) => Self::Registry(reference),
            Self::Layout { path, name } => Self::Layout { path: folder.join(path), name },
            Self::Archive { path, name } => Self::Archive { path: folder.join(path), name },
            Self::DockerArchive { path, name } => Self::DockerArchive { path: folder.join(path), name },
        }
    }

    /// The folder or the file; nothing for a registry.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Registry(_) => None,
            Self::Layout { path, .. } | Self::Archive { path, .. } | Self::DockerArchive { path, .. } => {
                Some(path)
            }
        }
    }
}

const SCHEMES: [&str; 4] = ["docker", "oci", "oci-archive", "docker-archive"];

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, path, name) = match self {
            Self::Registry(reference) => return write!(f, "docker://{reference}"),
            Self::Layout { path, name } => ("oci", path, name),
            Self::Archive { path, name } => ("oci-archive", path, name),
            Self::DockerArchive { path, name } => ("docker-archive", path, name),
        };
        write!(f, "{scheme}:{}", path.display())?;
        name.iter().try_for_each(|name| write!(f, ":{name}"))
    }
}

impl FromStr for Transport {
    type Err = TransportError;

    fn from_str(text: &str) -> Result<Self, TransportError> {
        let unknown = || TransportError::Unknown { text: text.to_owned() };
        let (scheme, rest) = text.split_once(':').ok_or_else(unknown)?;
        if scheme == "docker" {
            let reference = rest.strip_prefix("//").ok_or_else(unknown)?;
            return Ok(Self::Registry(reference.parse()?));
        }
        // A path has no colons, since everything behind the first one is a name.
        let (path, name) = match rest.split_once(':') {
            Some((path, name)) => (path, Some(name.to_owned())),
            None => (rest, None),
        };
        if path.is_empty() || name.as_ref().is_some_and(String::is_empty) {
            return Err(unknown());
        }
        let path = PathBuf::from(path);
        match scheme {
            "oci" => Ok(Self::Layout { path, name }),
            "oci-archive" => Ok(Self::Archive { path, name }),
            "docker-archive" => Ok(Self::DockerArchive { path, name }),
            _ => Err(unknown()),
        }
    }
}

/// Why an image can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// Text that names no place.
    #[error(
        "`{text}` says not where an image is: expected docker://HOST/NAME:TAG, oci:DIR[:REF], oci-archive:FILE[:REF] \
         or docker-archive:FILE[:REF]"
    )]
    Unknown {
        /// The text.
        text: String,
    },
    /// Text that names nothing in a registry.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A registry is needed, and the network is not to be used.
    #[error("{reference} is in a registry, which --offline leaves alone")]
    Offline {
        /// The image.
        reference: Box<Reference>,
    },
    /// A registry has no such image.
    #[error("the registry has no {reference}")]
    Missing {
        /// The image.
        reference: Box<Reference>,
    },
    /// There is no such folder or file.
    #[error("there is no {}", path.display())]
    NoPath {
        /// The folder or file.
        path: PathBuf,
    },
    /// A registry failed, or could not be reached.
    #[error(transparent)]
    Registry(Box<imgforge_registry::Error>),
    /// The image's documents are wrong, or there is none of that name.
    #[error(transparent)]
    Oci(#[from] imgforge_oci::Error),
    /// The store failed, or what was to be put into it is not what its digest says.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TransportError {
    /// What mends it, where that can be said.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Offline { .. } => Some(
                "leave `--offline` out, or copy the image into a layout: `skopeo copy … oci:DIR:REF`"
                    .to_owned(),
            ),
            Self::Registry(error) => error.hint(),
            _ => None,
        }
    }
}

impl From<imgforge_registry::Error> for TransportError {
    fn from(error: imgforge_registry::Error) -> Self {
        Self::Registry(Box::new(error))
    }
}

/// An image's place, opened.
pub struct ImageSource<'a> {
    form: Form<'a>,
}

enum Form<'a> {
    Registry(Reference, Repository<'a>),
    Medium(Medium, Option<String>),
}

impl<'a> ImageSource<'a> {
    /// Opens a folder or a file. A registry is not asked yet.
    ///
    /// # Errors
    /// [`TransportError::Offline`], [`TransportError::NoPath`]; [`TransportError::Oci`] when it is no layout or archive.
    pub fn open(transport: &Transport, client: &'a Client, offline: bool) -> Result<Self, TransportError> {
        if let Some(path) = transport.path().filter(|path| !path.exists()) {
            return Err(TransportError::NoPath { path: path.to_owned() });
        }
        let form = match transport {
            Transport::Registry(reference) if offline => {
                return Err(TransportError::Offline { reference: Box::new(reference.clone()) });
            }
            Transport::Registry(reference) => Form::Registry(reference.clone(), client.repository(reference)),
            Transport::Layout { path, name } => Form::Medium(layout::open(path)?, name.clone()),
            Transport::Archive { path, name } => Form::Medium(archive::open(path)?, name.clone()),
            Transport::DockerArchive { path, name } => {
                Form::Medium(docker_archive::open(path)?, name.clone())
            }
        };
        Ok(Self { form })
    }

    /// What the name stands for now: a manifest or an index.
    ///
    /// # Errors
    /// [`TransportError::Missing`], [`TransportError::Registry`]; [`TransportError::Oci`] with the names that there are.
    pub fn resolve(&self) -> Result<Descriptor, TransportError> {
        match &self.form {
            Form::Registry(reference, repository) => repository
                .manifest_digest(TagOrDigest::from(reference))?
                .ok_or_else(|| TransportError::Missing { reference: Box::new(reference.clone()) }),
            Form::Medium(medium, name) => Ok(read::resolve(medium, name.as_deref())?),
        }
    }

    /// The images that a manifest or an index leads to, one for each platform.
    ///
    /// # Errors
    /// [`TransportError::Oci`], as [`read::images`].
    pub fn images(&self, descriptor: &Descriptor) -> Result<Vec<Image>, TransportError> {
        Ok(read::images(self, descriptor)?)
    }

    /// Puts a blob into the store, unless it is there.
    ///
    /// # Errors
    /// [`TransportError::Registry`]; [`TransportError::Store`] when it is not what its digest says.
    pub fn fetch_blob(
        &self,
        store: &Store,
        descriptor: &Descriptor,
        on_event: &dyn Fn(Event<'_>),
    ) -> Result<(), TransportError> {
        match &self.form {
            Form::Registry(_, repository) => Ok(repository.fetch_blob(store, descriptor, on_event)?),
            Form::Medium(medium, _) => {
                if store.contains(&descriptor.digest)? {
                    return Ok(());
                }
                on_event(Event::Started { have: 0 });
                // No more than is wanted: a longer one is a wrong one, whatever it goes on with.
                let mut content =
                    medium.blob_reader(&descriptor.digest)?.take(descriptor.size.saturating_add(1));
                let mut writer = store.hashing_writer()?;
                std::io::copy(&mut content, &mut writer).map_err(imgforge_oci::Error::from)?;
                on_event(Event::Bytes(descriptor.size));
                Ok(writer.commit_expecting(&descriptor.digest)?)
            }
        }
    }

    /// Opens a layer's stored bytes: in the store where they are there or come from a registry, else where they lie.
    /// Whoever reads them verifies them.
    ///
    /// # Errors
    /// As [`fetch_blob`](Self::fetch_blob).
    pub fn open_layer(
        &self,
        store: &Store,
        layer: &Layer,
        on_event: &dyn Fn(Event<'_>),
    ) -> Result<Box<dyn Read + Send>, TransportError> {
        if let Form::Medium(medium, _) = &self.form
            && !store.contains(&layer.digest)?
        {
            return Ok(medium.blob_reader(&layer.digest)?);
        }
        self.fetch_blob(store, &layer.descriptor(), on_event)?;
        Ok(Box::new(store.open_blob(&layer.digest)?))
    }
}

impl Documents for ImageSource<'_> {
    fn document(&self, descriptor: &Descriptor, limit: u64) -> Result<Blob, imgforge_oci::Error> {
        let (reference, repository) = match &self.form {
            Form::Medium(medium, _) => return medium.document(descriptor, limit),
            Form::Registry(reference, repository) => (reference, repository),
        };
        let failed = |error: imgforge_registry::Error| imgforge_oci::Error::Source(Box::new(error));
        if !matches!(kind(&descriptor.media_type), Kind::Index | Kind::Manifest) {
            return repository.blob(descriptor, limit).map_err(failed);
        }
        if descriptor.size > limit {
            let what = format!("{} of {reference}", descriptor.digest);
            return Err(imgforge_oci::Error::TooLarge { what, size: descriptor.size, limit });
        }
        let missing =
            || TransportError::Missing { reference: Box::new(reference.with_digest(descriptor.digest)) };
        let blob = repository
            .manifest(TagOrDigest::Digest(&descriptor.digest))
            .map_err(failed)?
            .ok_or_else(|| imgforge_oci::Error::Source(Box::new(missing())))?;
        // What names it says what it is; that it is so is checked by whoever reads it.
        Blob::verified(descriptor.clone(), blob.into_bytes())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test that can not go on has failed")]
mod tests {
    use std::collections::BTreeMap;

    use imgforge_oci::{DiffId, Digest, ImageConfig, Ref};

    use super::*;

    /// The debug form of what is read, and the same text again; or the error.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        match text.parse::<Transport>() {
            Ok(transport) => {
                assert_eq!(transport.to_string(), text);
                assert_eq!(format!("{transport:?}"), expected);
                assert!(Transport::is_named_in(text));
            }
            Err(error) => assert!(error.to_string().contains(expected), "{error}"),
        }
    }

    #[test]
    fn places_of_images() {
        check("oci:dist", r#"Layout { path: "dist", name: None }"#);
        check("oci:dist:runtime:latest", r#"Layout { path: "dist", name: Some("runtime:latest") }"#);
        check("oci:../a b/dist:x", r#"Layout { path: "../a b/dist", name: Some("x") }"#);
        check("oci-archive:/tmp/a.tar:a@b", r#"Archive { path: "/tmp/a.tar", name: Some("a@b") }"#);
        let name = "localhost:5000/team/app:1";
        let expected = format!(r#"DockerArchive {{ path: "a.tar", name: Some("{name}") }}"#);
        check(&format!("docker-archive:a.tar:{name}"), &expected);
        let reference = "docker://registry.example.org:5000/team/app:1".parse().unwrap();
        let Transport::Registry(reference) = reference else { panic!("{reference:?}") };
        assert_eq!((reference.host(), reference.tag()), ("registry.example.org:5000", Some("1")));
    }

    #[test]
    fn blobs_of_a_layout_are_verified_on_their_way_into_the_store() {
        let folder = tempfile::TempDir::new().unwrap();
        let (blobs, dir) = (folder.path().join("blobs"), folder.path().join("dist"));
        std::fs::create_dir(&blobs).unwrap();
        let put = |bytes: &[u8]| std::fs::write(blobs.join(Digest::of(bytes).hex()), bytes).unwrap();
        let tar = [0; 1024];
        put(&tar);
        let layer = Layer {
            digest: Digest::of(&tar),
            diff_id: DiffId(Digest::of(&tar)),
            size: 1024,
            media_type: "application/vnd.oci.image.layer.v1.tar".into(),
            history: String::new(),
            annotations: BTreeMap::new(),
        };
        let config = ImageConfig::new("linux/amd64".parse().unwrap());
        let image = Image::assemble(&config, std::slice::from_ref(&layer), &BTreeMap::new()).unwrap();
        put(image.manifest().bytes());
        put(image.config().bytes());
        let name = Ref::new("app:1", image.descriptor()).unwrap();
        layout::write(&dir, &[name], &|digest| blobs.join(digest.hex())).unwrap();

        let client = Client::new(imgforge_registry::Settings::default());
        let store = Store::open(folder.path().join("store")).unwrap();
        let transport: Transport = format!("oci:{}:app:1", dir.display()).parse().unwrap();
        let source = ImageSource::open(&transport, &client, true).unwrap();
        assert_eq!(source.images(&source.resolve().unwrap()).unwrap(), [image]);
        let fetch = || source.fetch_blob(&store, &layer.descriptor(), &|_| {});
        let blob = dir.join("blobs/sha256").join(layer.digest.hex());
        std::fs::remove_file(&blob).unwrap();
        for wrong in [[1; 1024].as_slice(), &[0; 1023], &[0; 2000]] {
            std::fs::write(&blob, wrong).unwrap();
            assert!(
                matches!(fetch(), Err(TransportError::Store(StoreError::Mismatch { .. }))),
                "{}",
                wrong.len()
            );
            assert!(!store.contains(&layer.digest).unwrap());
        }
        std::fs::write(&blob, tar).unwrap();
        fetch().unwrap();
        // From now on the store has it.
        std::fs::remove_file(&blob).unwrap();
        fetch().unwrap();
        let mut bytes = Vec::new();
        source.open_layer(&store, &layer, &|_| {}).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, tar);
    }

    #[test]
    fn no_places_of_images() {
        for text in
            ["", "dist", "runtime:latest", "oci", "oci:", "oci::x", "oci:dist:", "dir:x", "docker:debian"]
        {
            check(text, &format!("`{text}` says not where an image is"));
        }
        check("docker://debian", "names no registry");
        assert!(!Transport::is_named_in("runtime:latest") && !Transport::is_named_in("oci"));
    }
}
