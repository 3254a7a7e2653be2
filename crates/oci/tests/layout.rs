//! What stays in a layout folder and what goes, whoever wrote it and however far they came.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail so, in its helpers too")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Store, reference, snapshot};
use imgforge_oci::layout::{self, Written};
use imgforge_oci::{Compression, Descriptor, Digest, Error, Image, MediaType, Ref, reachable, validate};
use proptest::prelude::*;
use serde_json::{Value, json};

fn blob_path(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("blobs/sha256").join(digest.hex())
}

fn blobs(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir.join("blobs/sha256")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn write(store: &Store, refs: &[Ref]) -> Result<Written, Error> {
    layout::write(&store.path("dist"), refs, &|digest| store.path_of(digest))
}

/// Takes everything out of the store that was put into it.
fn empty(store: &Store) {
    for entry in fs::read_dir(store.path("store")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

fn contains(found: &str, expected: &str) {
    assert!(found.contains(expected), "expected {expected}\nfound {found}");
}

/// An image with a layer that is too large to be hashed every time.
fn with_large_layer(store: &Store) -> (Image, Ref) {
    let text = "x".repeat(2 << 20);
    let layers = [
        store.layer(Compression::Gzip, &[("small", "1")]),
        store.layer(Compression::None, &[("large", &text)]),
    ];
    let image = store.image("linux/amd64", &layers);
    let reference = reference("app", image.descriptor());
    (image, reference)
}

#[test]
fn what_the_layout_has_is_not_needed_in_the_store() {
    let store = Store::new();
    let (image, app) = with_large_layer(&store);
    let refs = [app];
    write(&store, &refs).unwrap();
    let before = snapshot(&store.path("dist"));
    // First the layers alone, as for a base that was never fetched; then everything.
    for layer in image.layers() {
        fs::remove_file(store.path_of(&layer.digest)).unwrap();
        assert!(layout::holds(&store.path("dist"), &layer.descriptor()).unwrap());
    }
    assert_eq!(write(&store, &refs).unwrap(), Written { kept: 4, ..Written::default() });
    empty(&store);
    assert_eq!(write(&store, &refs).unwrap(), Written { kept: 4, ..Written::default() });
    assert_eq!(snapshot(&store.path("dist")), before);
    validate::layout(&store.path("dist")).unwrap();
    // Under another name too, and the old one may go: what is needed was counted before anything is removed.
    let other = [reference("other", image.descriptor())];
    assert_eq!(write(&store, &other).unwrap().kept, 4);
    assert_eq!(validate::layout(&store.path("dist")).unwrap().images.len(), 2);
}

#[test]
fn what_the_layout_has_not_whole_is_fetched_again() {
    for (number, change, is_seen) in [
        (0, (|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1)) as fn(&mut Vec<u8>), true),
        (0, |bytes| bytes[20] ^= 1, true),
        (1, |bytes| bytes.truncate(bytes.len() - 1), true),
        // Larger than what is hashed: the layout's own check finds it.
        (1, |bytes| bytes[1 << 20] ^= 1, false),
    ] {
        let store = Store::new();
        let (image, app) = with_large_layer(&store);
        let refs = [app];
        write(&store, &refs).unwrap();
        let layer = &image.layers()[number];
        let path = blob_path(&store.path("dist"), &layer.digest);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        change(&mut bytes);
        // The blob of the store is another file from now on.
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::remove_file(store.path_of(&layer.digest)).unwrap();
        assert_eq!(layout::holds(&store.path("dist"), &layer.descriptor()).unwrap(), !is_seen);
        match write(&store, &refs) {
            Ok(_) => assert!(!is_seen),
            Err(error) => {
                contains(&error.to_string(), &format!("{} is not there whole: neither ", layer.digest));
                contains(&error.to_string(), store.path_of(&layer.digest).to_str().unwrap());
            }
        }
        assert!(validate::layout(&store.path("dist")).is_err());
        store.put(&whole);
        assert_eq!(write(&store, &refs).unwrap(), Written { kept: 3, linked: 1, ..Written::default() });
        validate::layout(&store.path("dist")).unwrap();
    }
}

#[test]
fn links_and_folders_hold_nothing() {
    let store = Store::new();
    let (image, app) = with_large_layer(&store);
    let refs = [app];
    let layer = image.layers()[1].descriptor();
    assert!(!layout::holds(&store.path("dist"), &layer).unwrap());
    fs::write(store.path("dist"), "").unwrap();
    assert!(!layout::holds(&store.path("dist"), &layer).unwrap());
    fs::remove_file(store.path("dist")).unwrap();
    write(&store, &refs).unwrap();
    let path = blob_path(&store.path("dist"), &layer.digest);
    fs::remove_file(&path).unwrap();
    fs::copy(store.path_of(&layer.digest), store.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(store.path("elsewhere"), &path).unwrap();
    assert!(!layout::holds(&store.path("dist"), &layer).unwrap());
    assert_eq!(write(&store, &refs).unwrap().linked, 1);
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
}

/// Documents of another tool, put where it would put them.
struct Theirs<'a>(&'a Store);

impl Theirs<'_> {
    fn put(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        fs::write(blob_path(&self.0.path("dist"), &digest), bytes).unwrap();
        digest
    }

    fn document(&self, media_type: &str, content: &Value) -> Value {
        let bytes = content.to_string().into_bytes();
        json!({"mediaType": media_type, "digest": self.put(&bytes), "size": bytes.len()})
    }

    fn part(&self, media_type: &str, bytes: &[u8]) -> Value {
        json!({"mediaType": media_type, "digest": self.put(bytes), "size": bytes.len()})
    }

    fn add(&self, entry: Value) {
        let path = self.0.path("dist/index.json");
        let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        index["manifests"].as_array_mut().unwrap().push(entry);
        // A link into the store must not be written through.
        fs::remove_file(&path).unwrap();
        fs::write(path, index.to_string()).unwrap();
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A layout with an image of ours, to which `add` adds something of another tool's; what happens to a blob that nobody
/// needs, and whether everything else stays.
fn check(add: impl Fn(&Theirs<'_>), not_removed: Option<&str>) {
    let store = Store::new();
    let own = [reference("own", store.small("linux/amd64", "own").descriptor())];
    write(&store, &own).unwrap();
    let theirs = Theirs(&store);
    add(&theirs);
    let before = snapshot(&store.path("dist"));
    let garbage = blob_path(&store.path("dist"), &theirs.put(b"nobody needs this"));
    let written = write(&store, &own).unwrap();
    match (&written.not_removed, not_removed) {
        (Some(found), Some(expected)) => contains(found, expected),
        (found, expected) => assert_eq!(found.as_deref(), expected),
    }
    assert_eq!(garbage.exists(), not_removed.is_some());
    let _ = fs::remove_file(garbage);
    let mut after = snapshot(&store.path("dist"));
    for (name, bytes) in before {
        let found = after.remove(&name).unwrap_or_else(|| panic!("{} is gone", name.display()));
        assert!(name.ends_with("index.json") || found == bytes);
    }
    assert!(after.is_empty(), "{after:?}");
}

fn image_of(theirs: &Theirs<'_>, text: &str) -> Value {
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": theirs.part(CONFIG, text.as_bytes()),
        "layers": [theirs.part(LAYER, format!("layer {text}").as_bytes())],
    });
    theirs.document(MANIFEST, &manifest)
}

/// As `docker buildx build --output type=oci --provenance --sbom` has it; the list of what is in an image is larger
/// than any manifest.
#[test]
fn attestations_stay() {
    check(
        |theirs| {
            let statement =
                json!({"_type": "https://in-toto.io/Statement/v0.1", "list": "x".repeat(5 << 20)});
            let small = json!({"subject": [{"digest": {"sha256": "0"}}], "digest": "sha256:of-something"});
            let attestation = json!({
                "schemaVersion": 2, "mediaType": MANIFEST, "config": theirs.part(CONFIG, b"{}"),
                "layers": [
                    theirs.document("application/vnd.in-toto+json", &statement),
                    theirs.document("application/vnd.in-toto+json", &small),
                ],
            });
            let mut attestation = theirs.document(MANIFEST, &attestation);
            attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
            let index = json!({
                "schemaVersion": 2, "mediaType": INDEX, "manifests": [image_of(theirs, "x"), attestation],
            });
            theirs.add(theirs.document(INDEX, &index));
        },
        None,
    );
}

/// As `skopeo copy --multi-arch=index-only` and `ctr image export` leave it.
#[test]
fn platforms_that_nobody_copied_are_not_missed() {
    check(
        |theirs| {
            let mut absent = image_of(theirs, "absent");
            absent["digest"] = json!(Digest::of(b"absent"));
            let blobs = ["absent", "layer absent"].map(|text| Digest::of(text.as_bytes()));
            for digest in blobs {
                fs::remove_file(blob_path(&theirs.0.path("dist"), &digest)).unwrap();
            }
            let manifests = json!([image_of(theirs, "x"), absent]);
            theirs.add(theirs.document(INDEX, &json!({"schemaVersion": 2, "manifests": manifests})));
            // What image_of() wrote for the manifest that is to be absent.
            let manifest = json!({
                "schemaVersion": 2, "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG, "digest": blobs[0], "size": 6},
                "layers": [{"mediaType": LAYER, "digest": blobs[1], "size": 12}],
            });
            fs::remove_file(blob_path(&theirs.0.path("dist"), &Digest::of(manifest.to_string().as_bytes())))
                .unwrap();
        },
        None,
    );
}

#[test]
fn artifacts_and_referrers_stay() {
    check(
        |theirs| {
            let subject = image_of(theirs, "subject");
            let empty = theirs.part("application/vnd.oci.empty.v1+json", b"{}");
            let layer = theirs.part("application/vnd.example.signature", b"signature");
            let artifact = json!({
                "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.example",
                "config": empty, "layers": [layer], "subject": subject,
            });
            // Without a name, and with a media type that nobody has heard of.
            let mut entry = theirs.document(MANIFEST, &artifact);
            entry["annotations"] = json!({"vnd.example": "x"});
            theirs.add(entry);
            let unheard = json!({"parts": [{"deep": {"digest": theirs.put(b"a part")}}]});
            theirs.add(theirs.document("application/vnd.example.later+json", &unheard));
        },
        None,
    );
}

#[test]
fn nothing_goes_where_something_cannot_be_followed() {
    let sha512 = format!("sha512:{}", "0".repeat(128));
    check(
        |theirs| theirs.add(json!({"mediaType": MANIFEST, "digest": sha512, "size": 2})),
        Some("which index.json leads to, is no SHA-256"),
    );
    check(
        |theirs| {
            let manifests = json!([{"mediaType": MANIFEST, "digest": sha512, "size": 2}]);
            theirs.add(theirs.document(INDEX, &json!({"schemaVersion": 2, "manifests": manifests})));
        },
        Some("which index.json leads to, is no SHA-256"),
    );
    check(
        |theirs| {
            let manifests = json!([theirs.part(MANIFEST, b"no JSON")]);
            theirs.add(theirs.document(INDEX, &json!({"schemaVersion": 2, "manifests": manifests})));
        },
        Some("is no manifest"),
    );
    check(
        |theirs| theirs.add(theirs.part(MANIFEST, &vec![b' '; (4 << 20) + 1])),
        Some("bytes; at most 4194304 are read"),
    );
    let absent = Digest::of(b"absent");
    check(
        |theirs| theirs.add(json!({"mediaType": MANIFEST, "digest": absent, "size": 2})),
        Some("which index.json names, is not there"),
    );
}

/// What is a layer for one and a manifest for another is followed.
#[test]
fn one_blob_in_two_roles() {
    check(
        |theirs| {
            let inner = image_of(theirs, "x");
            let mut as_layer = inner.clone();
            as_layer["mediaType"] = json!(LAYER);
            let outer = json!({
                "schemaVersion": 2, "mediaType": MANIFEST, "config": theirs.part(CONFIG, b"{}"), "layers": [as_layer],
            });
            theirs.add(theirs.document(MANIFEST, &outer));
            theirs.add(inner);
        },
        None,
    );
}

#[test]
fn what_an_index_says_of_itself_stays() {
    let store = Store::new();
    let own = [reference("own", store.small("linux/amd64", "own").descriptor())];
    write(&store, &own).unwrap();
    let path = store.path("dist/index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    index["annotations"] = json!({"a": "b"});
    index["subject"] = json!({"mediaType": LAYER, "digest": Theirs(&store).put(b"subject"), "size": 7});
    fs::write(&path, index.to_string()).unwrap();
    assert_eq!(write(&store, &own).unwrap().removed, 0);
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap(), index);
}

/// A layout holds what its names lead to and nothing else, whatever was written before.
fn exact(store: &Store, refs: &[Ref]) {
    let dist = store.path("dist");
    let expected = reachable(refs, &|digest| blob_path(&dist, digest)).unwrap();
    assert_eq!(blobs(&dist), expected.keys().map(Digest::hex).collect());
    assert!(validate::layout(&dist).unwrap().extra.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_writes_leaves_anything(
        writes in prop::collection::vec(prop::collection::btree_map(0..4_usize, 0..6_usize, 1..4), 1..6),
        lose in any::<bool>(),
    ) {
        let store = Store::new();
        let mut current: Vec<Option<Ref>> = vec![None; 4];
        for names in writes {
            let refs: Vec<_> = names
                .iter()
                .map(|(name, content)| {
                    // Contents 4 and 5 are an index that shares images with 0 to 3.
                    let small = |number: usize| store.small("linux/amd64", &number.to_string());
                    let descriptor = match content {
                        0..4 => small(*content).descriptor(),
                        _ => store.index(&[small(content - 4), store.small("linux/arm64", "0")]).descriptor().clone(),
                    };
                    reference(&format!("name{name}"), descriptor)
                })
                .collect();
            for (name, reference) in names.keys().zip(&refs) {
                current[*name] = Some(reference.clone());
            }
            let first = write(&store, &refs).unwrap();
            prop_assert_eq!(first.not_removed, None);
            if lose {
                // Whatever is in the layout needs no store.
                empty(&store);
            }
            let again = write(&store, &refs).unwrap();
            prop_assert_eq!((again.linked, again.copied, again.removed), (0, 0, 0));
            let all: Vec<_> = current.iter().flatten().cloned().collect();
            exact(&store, &all);
        }
    }
}

/// Many small images, so that a writer can be caught in the middle.
fn many(store: &Store, text: &str) -> Vec<Ref> {
    let image = |number: u32| store.small("linux/amd64", &format!("{text} {number}")).descriptor();
    let descriptor = |number| -> Descriptor { image(number) };
    (0..40).map(|number| reference(&format!("image{number}"), descriptor(number))).collect()
}

const WRITER: &str = "IMGFORGE_TEST_WRITER";

/// The other process of the next test; does nothing on its own.
#[test]
fn the_writer() {
    let Ok(place) = std::env::var(WRITER) else { return };
    let (store, dist) = place.split_once(' ').unwrap();
    let refs: Vec<Ref> = fs::read_to_string(Path::new(store).join("refs"))
        .unwrap()
        .lines()
        .map(|line| {
            let parts: Vec<_> = line.split(' ').collect();
            let digest = parts[1].parse().unwrap();
            let descriptor = Descriptor::new(MediaType::ImageManifest, digest, parts[2].parse().unwrap());
            reference(parts[0], descriptor)
        })
        .collect();
    layout::write(Path::new(dist), &refs, &|digest| Path::new(store).join(digest.hex())).unwrap();
}

/// A writer that is killed at any point leaves the old images or the new ones, whole, and the next one finishes.
#[test]
fn writers_are_killed() {
    let store = Store::new();
    // On another file system everything is copied and synchronised, which takes its time.
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let generations: Vec<_> = (0..2).map(|number| many(&store, &format!("generation {number}"))).collect();
    let lists: Vec<String> = generations
        .iter()
        .map(|refs| {
            let line =
                |it: &Ref| format!("{} {} {}\n", it.name(), it.descriptor().digest, it.descriptor().size);
            refs.iter().map(line).collect()
        })
        .collect();
    for (number, dist) in [store.path("dist"), memory.path().join("dist")].into_iter().enumerate() {
        let run = |generation: usize, patience: Option<Duration>| {
            fs::write(store.path("store/refs"), &lists[generation]).unwrap();
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "the_writer"])
                .env(WRITER, format!("{} {}", store.path("store").display(), dist.display()))
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            if let Some(patience) = patience {
                std::thread::sleep(patience);
                let _ = child.kill();
            }
            let status = child.wait().unwrap();
            assert!(patience.is_some() || status.success());
            status.success()
        };
        let digests = |refs: &[Ref]| refs.iter().map(|it| it.descriptor().digest).collect::<BTreeSet<_>>();
        run(0, None);
        let started = Instant::now();
        run(1, None);
        let whole = started.elapsed();
        let mut current = 1;
        let (mut old, mut killed) = (0, 0);
        for step in 0..30_u32 {
            let next = 1 - current;
            killed += u32::from(!run(next, Some(whole * step / 25)));
            let report = validate::layout(&dist).unwrap();
            let found: BTreeSet<_> = report.images.iter().map(|image| image.digest).collect();
            if found == digests(&generations[next]) {
                current = next;
            } else {
                assert_eq!(found, digests(&generations[current]), "in place {number}");
                old += 1;
            }
            if step % 5 == 4 {
                run(current, None);
                let report = validate::layout(&dist).unwrap();
                assert_eq!((report.images.len(), report.extra), (40, Vec::new()));
            }
        }
        assert!(killed > 5 && old > 0, "{killed} killed, {old} of them before the new images were there");
    }
}

#[test]
fn writers_wait_for_each_other() {
    let store = Store::new();
    let refs: Vec<_> = (0..8)
        .map(|number| {
            let descriptor = store.small("linux/amd64", &number.to_string()).descriptor();
            [reference(&format!("image{number}"), descriptor)]
        })
        .collect();
    std::thread::scope(|scope| {
        for own in &refs {
            scope.spawn(|| {
                for _ in 0..10 {
                    write(&store, own).unwrap();
                }
            });
        }
    });
    let report = validate::layout(&store.path("dist")).unwrap();
    assert_eq!((report.images.len(), report.extra), (8, Vec::new()));
}
