use std::collections::BTreeMap;

use oci_spec::image as spec;

use crate::{Blob, Descriptor, Error, Image, MediaType, Platform};

/// One image for several platforms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    blob: Blob,
    manifests: Vec<Descriptor>,
}

impl Index {
    /// Makes an index over `images`, in the order of their platforms, whatever order they come in.
    ///
    /// # Errors
    /// [`Error::Duplicate`] when two images are for one platform.
    pub fn assemble<'a>(
        images: impl IntoIterator<Item = &'a Image>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let mut manifests: BTreeMap<Platform, Descriptor> = BTreeMap::new();
        for image in images {
            let descriptor = image.descriptor();
            if let Some((platform, first)) =
                manifests.iter().find(|(platform, _)| platform.matches(image.platform()))
            {
                return Err(Error::Duplicate {
                    what: platform.to_string(),
                    first: first.digest,
                    second: descriptor.digest,
                });
            }
            manifests.insert(image.platform().clone(), descriptor);
        }
        let manifests: Vec<_> = manifests.into_values().collect();
        let mut index = spec::ImageIndex::default();
        index.set_media_type(Some(MediaType::ImageIndex));
        index.set_manifests(manifests.iter().map(Descriptor::to_spec).collect());
        if !annotations.is_empty() {
            index.set_annotations(Some(annotations.clone().into_iter().collect()));
        }
        Ok(Self { blob: Blob::of(MediaType::ImageIndex, &index)?, manifests })
    }

    /// What a ref has of it.
    pub const fn descriptor(&self) -> &Descriptor {
        self.blob.descriptor()
    }

    /// Its bytes.
    pub const fn blob(&self) -> &Blob {
        &self.blob
    }

    /// The images' manifests with their platforms, in order.
    pub fn manifests(&self) -> &[Descriptor] {
        &self.manifests
    }
}
