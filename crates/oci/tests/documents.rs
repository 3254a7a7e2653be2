//! Images as they are read from something that has documents and no files, as a registry does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail so, in its helpers too")]

mod common;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Read as _;

use common::{Store, reference};
use imgforge_oci::{Blob, Descriptor, Digest, Documents, Error, MediaType, Platform, archive, layout, read};
use serde_json::{Value, json};

/// Documents in memory, which counts how often one of them is read.
#[derive(Default)]
struct Shelf {
    blobs: BTreeMap<Digest, Vec<u8>>,
    asked: Cell<usize>,
}

#[derive(Debug, thiserror::Error)]
#[error("the shelf has no such thing")]
struct NotHere;

impl Documents for Shelf {
    fn document(&self, descriptor: &Descriptor, _: u64) -> Result<Blob, Error> {
        self.asked.set(self.asked.get() + 1);
        let bytes = self.blobs.get(&descriptor.digest).ok_or_else(|| Error::Source(Box::new(NotHere)))?;
        Blob::verified(descriptor.clone(), bytes.clone())
    }
}

impl Shelf {
    /// Puts a small image there; its manifest, as an entry of an index.
    fn image(&mut self, platform: &str, text: &str) -> Value {
        let store = Store::new();
        let image = store.small(platform, text);
        for blob in [image.manifest(), image.config()] {
            self.blobs.insert(blob.descriptor().digest, blob.bytes().to_vec());
        }
        let mut entry = entry(image.manifest().descriptor());
        entry["platform"] = as_json(image.platform());
        entry
    }

    fn index(&mut self, manifests: &[Value]) -> Descriptor {
        let bytes = json!({"schemaVersion": 2, "manifests": manifests}).to_string().into_bytes();
        let blob = Blob::new(MediaType::ImageIndex, bytes);
        self.blobs.insert(blob.descriptor().digest, blob.bytes().to_vec());
        blob.descriptor().clone()
    }

    /// The image for a platform, and how many documents were read for it.
    fn check(&self, descriptor: &Descriptor, platform: Option<&str>, expected: &str) {
        self.asked.set(0);
        let platform: Option<Platform> = platform.map(|platform| platform.parse().unwrap());
        let found = match read::image_for(self, descriptor, platform.as_ref()) {
            Ok(image) => {
                let layer = image.layers()[1].digest;
                format!("{} {layer} after {}", image.platform(), self.asked.get())
            }
            Err(error) => error.to_string(),
        };
        assert!(found.contains(expected), "expected {expected}\nfound {found}");
    }
}

fn entry(descriptor: &Descriptor) -> Value {
    json!({
        "mediaType": descriptor.media_type.to_string(),
        "digest": descriptor.digest,
        "size": descriptor.size,
    })
}

fn as_json(platform: &Platform) -> Value {
    json!({
        "os": platform.os(),
        "architecture": platform.architecture(),
        "variant": platform.variant(),
    })
}

#[test]
fn other_platforms_are_not_read() {
    let mut shelf = Shelf::default();
    let mut manifests = vec![shelf.image("linux/amd64", "a"), shelf.image("linux/arm/v6", "b")];
    // Not even there: a registry may have fewer manifests than an index names.
    let mut absent = manifests[0].clone();
    absent["digest"] = json!(Digest::of(b"absent"));
    absent["platform"] = json!({"os": "linux", "architecture": "s390x"});
    manifests.push(absent.clone());
    absent["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    manifests.push(absent);
    let index = shelf.index(&manifests);
    shelf.check(&index, Some("linux/amd64"), "linux/amd64 sha256:");
    shelf.check(&index, Some("linux/amd64"), " after 3");
    shelf.check(&index, Some("linux/arm/v6"), "linux/arm/v6 sha256:");
    shelf.check(&index, Some("linux/s390x"), "the shelf has no such thing");
    shelf.check(
        &index,
        Some("linux/arm64"),
        "for linux/arm64; it is for: linux/amd64, linux/arm/v6, linux/s390x",
    );
    shelf.check(&index, None, "the shelf has no such thing");
    let Err(Error::Source(error)) = read::images(&shelf, &index) else { panic!("read") };
    assert!(error.is::<NotHere>());
}

#[test]
fn the_first_of_several_is_taken() {
    let mut shelf = Shelf::default();
    let (first, second) = (shelf.image("linux/arm64", "1"), shelf.image("linux/arm64/v8", "2"));
    let index = shelf.index(&[first.clone(), second.clone()]);
    shelf.check(&index, Some("linux/arm64/v8"), "linux/arm64 sha256:");
    let index = shelf.index(&[second, first]);
    shelf.check(&index, Some("linux/arm64"), "linux/arm64/v8 sha256:");
    shelf.check(&index, None, "for just one platform; it is for: linux/arm64/v8, linux/arm64");
}

#[test]
fn an_index_tells_what_a_config_leaves_out() {
    let mut shelf = Shelf::default();
    let mut manifest = shelf.image("linux/arm", "a");
    manifest["platform"] = json!({"os": "linux", "architecture": "arm", "variant": "v6"});
    let index = shelf.index(&[manifest.clone()]);
    shelf.check(&index, Some("linux/arm/v6"), "linux/arm sha256:");
    shelf.check(&index, Some("linux/arm"), "for linux/arm; it is for: linux/arm/v6");
    manifest["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let index = shelf.index(&[manifest.clone()]);
    shelf.check(
        &index,
        Some("linux/amd64"),
        "the index says that it is for linux/amd64, its config says linux/arm",
    );
    // Without a claim, the config decides.
    manifest.as_object_mut().unwrap().remove("platform");
    let index = shelf.index(&[manifest]);
    shelf.check(&index, Some("linux/arm/v7"), "linux/arm sha256:");
    shelf.check(&index, Some("linux/arm/v6"), "for linux/arm/v6; it is for: linux/arm");
}

/// Without a limit this would be a hundred million documents.
#[test]
fn indexes_that_name_each_other_again_and_again_end() {
    let mut shelf = Shelf::default();
    let mut inner = shelf.image("linux/amd64", "a");
    for _ in 0..4 {
        let index = shelf.index(&vec![inner; 100]);
        inner = entry(&index);
    }
    let top: Descriptor = {
        let digest: Digest = inner["digest"].as_str().unwrap().parse().unwrap();
        Descriptor::new(MediaType::ImageIndex, digest, inner["size"].as_u64().unwrap())
    };
    assert_eq!(read::images(&shelf, &top).unwrap().len(), 1);
    assert_eq!(shelf.asked.get(), 6);

    let store = Store::new();
    for bytes in shelf.blobs.values() {
        store.put(bytes);
    }
    let refs = [reference("a", store.small("linux/amd64", "a").descriptor())];
    store.write(&refs);
    for (digest, bytes) in &shelf.blobs {
        std::fs::write(store.path("dist/blobs/sha256").join(digest.hex()), bytes).unwrap();
    }
    let index = json!({"schemaVersion": 2, "manifests": [inner]}).to_string();
    std::fs::write(store.path("dist/index.json"), index).unwrap();
    assert_eq!(imgforge_oci::validate::layout(&store.path("dist")).unwrap().images.len(), 1);
    // One level more.
    let deeper = shelf.index(&[inner]);
    let message = read::images(&shelf, &deeper).unwrap_err().to_string();
    assert!(message.contains("nests indexes more than 4 deep"), "{message}");
}

#[test]
fn an_index_of_more_images_than_anybody_ships_is_refused() {
    let mut shelf = Shelf::default();
    let manifests: Vec<_> = (0..1000).map(|number| shelf.image("linux/amd64", &number.to_string())).collect();
    let index = shelf.index(&manifests[..999]);
    assert_eq!(read::images(&shelf, &index).unwrap().len(), 999);
    let index = shelf.index(&manifests);
    let message = read::images(&shelf, &index).unwrap_err().to_string();
    assert!(message.contains("leads to more than 1000 manifests"), "{message}");
}

#[test]
fn blobs_are_opened_for_copying() {
    let store = Store::new();
    let image = store.small("linux/amd64", "a");
    let refs = [reference("a", image.descriptor())];
    store.write(&refs);
    let archive = store.write_archive(&refs);
    for medium in [layout::open(&store.path("dist")).unwrap(), archive::open(&archive).unwrap()] {
        let digest = image.layers()[0].digest;
        let mut bytes = Vec::new();
        medium.blob_reader(&digest).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(Digest::of(&bytes), digest);
        let message = medium.blob_reader(&Digest::of(b"")).err().unwrap().to_string();
        assert!(message.contains("is missing"), "{message}");
    }
}
