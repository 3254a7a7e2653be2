//! Layouts and archives: written, read back, validated, broken on purpose.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail so, in its helpers too")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use common::{Store, compress, reference, snapshot, tar_of};
use imgforge_oci::layout::Written;
use imgforge_oci::{
    Blob, Compression, Digest, Error, Image, Kind, Layer, MediaType, Ref, archive, kind, layout, read,
    validate,
};
use serde_json::{Value, json};

/// Two names, one of them for two platforms that share a layer.
fn refs(store: &Store) -> Vec<Ref> {
    let amd64 = store.small("linux/amd64", "amd64");
    let index = store.index(&[store.small("linux/arm64", "arm64"), amd64.clone()]);
    vec![reference("multi", index.descriptor().clone()), reference("app:1", amd64.descriptor())]
}

fn blob_path(dir: &Path, digest: &Digest) -> std::path::PathBuf {
    dir.join("blobs/sha256").join(digest.hex())
}

fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_layout_is_valid_and_shares_its_bytes_with_the_store() {
    let store = Store::new();
    let written = store.write(&refs(&store));
    // An index, two manifests, two configs, one shared layer and one for each platform.
    assert_eq!(written, Written { linked: 8, ..Written::default() });
    let report = validate::layout(&store.path("dist")).unwrap();
    let names: Vec<_> = report
        .images
        .iter()
        .map(|image| format!("{} {} {}", image.name, image.platform, image.layers))
        .collect();
    assert_eq!(names, ["app:1 linux/amd64 2", "multi linux/amd64 2", "multi linux/arm64 2"]);
    assert_eq!(report.blobs, 8);
    assert!(report.extra.is_empty(), "{:?}", report.extra);
    let images =
        read::images(&layout::open(&store.path("dist")).unwrap(), refs(&store)[1].descriptor()).unwrap();
    let digest = images[0].layers()[0].digest;
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&store.path_of(&digest)), inode(&blob_path(&store.path("dist"), &digest)));
}

#[test]
fn writing_again_changes_nothing() {
    let store = Store::new();
    let refs = refs(&store);
    store.write(&refs);
    let index = store.path("dist/index.json");
    let before = (snapshot(&store.path("dist")), fs::metadata(&index).unwrap().ino());
    let reversed: Vec<_> = refs.into_iter().rev().collect();
    assert_eq!(store.write(&reversed), Written { kept: 8, ..Written::default() });
    assert_eq!((snapshot(&store.path("dist")), fs::metadata(&index).unwrap().ino()), before);
}

#[test]
fn a_store_on_another_file_system_is_copied_from() {
    let store = Store::new();
    let refs = refs(&store);
    let shared_memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let write = || layout::write(shared_memory.path(), &refs, &|digest| store.path_of(digest)).unwrap();
    let first = write();
    assert_eq!(first.linked + first.copied, 8);
    assert_eq!(write(), Written { kept: 8, ..Written::default() });
    validate::layout(shared_memory.path()).unwrap();
}

#[test]
fn a_new_image_replaces_its_name_and_leaves_others() {
    let store = Store::new();
    store.write(&[reference("a", store.small("linux/amd64", "1").descriptor())]);
    store.write(&[reference("b", store.small("linux/amd64", "2").descriptor())]);
    // The old manifest, its config and the layer that was its own.
    let written = store.write(&[reference("a", store.small("linux/amd64", "3").descriptor())]);
    assert_eq!((written.removed, written.not_removed), (3, None));
    let report = validate::layout(&store.path("dist")).unwrap();
    assert_eq!(report.images.iter().map(|image| image.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(report.extra.is_empty(), "{:?}", report.extra);
}

/// Adds an entry to `index.json`, as another tool would.
fn add_entry(store: &Store, entry: Value) {
    let path = store.path("dist/index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    index["manifests"].as_array_mut().unwrap().push(entry);
    fs::write(path, index.to_string()).unwrap();
}

#[test]
fn images_of_other_tools_stay_as_they_are() {
    let store = Store::new();
    let own = reference("own", store.small("linux/amd64", "own").descriptor());
    store.write(std::slice::from_ref(&own));
    let blobs = store.path("dist/blobs/sha256");
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        digest
    };
    let layer = put(b"a layer");
    let later = put(b"something that a later version of the format refers to");
    // Docker's types, no sizes, and a part that today's format does not have.
    let manifest = put(json!({
        "schemaVersion": 2,
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": layer}],
        "later": {"digest": later},
    })
    .to_string()
    .as_bytes());
    let garbage = put(b"nobody needs this");
    let entry = json!({
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "digest": manifest,
        "size": 1,
        "platform": {"os": "windows", "architecture": "amd64", "os.version": "10.0"},
        "annotations": {"org.opencontainers.image.ref.name": "theirs"},
        "unheard-of": [1, 2],
    });
    add_entry(&store, entry.clone());

    let written = store.write(std::slice::from_ref(&own));
    assert_eq!((written.removed, written.not_removed), (1, None));
    for (digest, there) in [(layer, true), (later, true), (manifest, true), (garbage, false)] {
        assert_eq!(blobs.join(digest.hex()).exists(), there, "{digest}");
    }
    let index: Value = serde_json::from_slice(&fs::read(store.path("dist/index.json")).unwrap()).unwrap();
    assert!(index["manifests"].as_array().unwrap().contains(&entry), "{index}");
}

#[test]
fn nothing_is_removed_when_a_manifest_cannot_be_read() {
    for content in [None, Some("no JSON")] {
        let store = Store::new();
        let own = reference("own", store.small("linux/amd64", "own").descriptor());
        store.write(std::slice::from_ref(&own));
        let digest = Digest::of(content.unwrap_or_default().as_bytes());
        if let Some(content) = content {
            fs::write(blob_path(&store.path("dist"), &digest), content).unwrap();
        }
        let orphan = blob_path(&store.path("dist"), &store.put(b"orphan"));
        fs::write(&orphan, "orphan").unwrap();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        add_entry(&store, json!({"mediaType": media_type, "digest": digest, "size": 7}));
        let written = store.write(&[own]);
        assert!(written.not_removed.unwrap().contains(&digest.to_string()));
        assert!(orphan.exists());
    }
}

#[test]
fn what_a_killed_writer_left_is_mended() {
    let store = Store::new();
    let refs = refs(&store);
    store.write(&refs);
    let whole = snapshot(&store.path("dist"));
    // Every file missing on its own, and the unfinished one there.
    for name in whole.keys() {
        fs::remove_file(store.path("dist").join(name)).unwrap();
        fs::write(store.path("dist/.imgforge-tmp"), "half").unwrap();
        store.write(&refs);
        assert_eq!(snapshot(&store.path("dist")), whole, "without {}", name.display());
    }
    // A copy that was cut short, and one of the right size that holds something else.
    let digest = refs[1].descriptor().digest;
    for bytes in [vec![1], vec![0; usize::try_from(refs[1].descriptor().size).unwrap()]] {
        let path = blob_path(&store.path("dist"), &digest);
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        assert_eq!(store.write(&refs).linked, 1);
        assert_eq!(snapshot(&store.path("dist")), whole);
    }
}

#[test]
fn a_folder_of_another_version_is_refused() {
    let store = Store::new();
    fs::create_dir(store.path("dist")).unwrap();
    fs::write(store.path("dist/oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    let result = layout::write(&store.path("dist"), &[], &|digest| store.path_of(digest));
    assert!(message(result).contains("imageLayoutVersion is `2.0.0`, expected `1.0.0`"));
}

#[test]
fn a_store_that_lost_or_changed_a_blob_stops_the_writing() {
    let store = Store::new();
    let image = store.small("linux/amd64", "x");
    let refs = [reference("a", image.descriptor())];
    let layer = store.path_of(&image.layers()[0].digest);
    fs::write(&layer, "short").unwrap();
    let write = || layout::write(&store.path("dist"), &refs, &|digest| store.path_of(digest));
    assert!(message(write()).contains("it has 5"));
    let result = archive::write(&mut Vec::new(), &refs, &|digest| store.path_of(digest));
    assert!(message(result).contains("it has 5"));
    fs::remove_file(&layer).unwrap();
    assert!(message(write()).contains(layer.to_str().unwrap()));
    assert!(!store.path("dist/index.json").exists());
}

#[test]
fn one_name_for_two_images_is_refused() {
    let store = Store::new();
    let image = |text| reference("a", store.small("linux/amd64", text).descriptor());
    let result =
        layout::write(&store.path("dist"), &[image("1"), image("2")], &|digest| store.path_of(digest));
    assert!(message(result).starts_with("image `a` is there twice: sha256:"));
}

#[test]
fn an_archive_is_valid_and_always_the_same() {
    let store = Store::new();
    let refs = refs(&store);
    let path = store.write_archive(&refs);
    let bytes = fs::read(&path).unwrap();
    let report = validate::archive(&path).unwrap();
    assert_eq!((report.images.len(), report.blobs, report.extra), (3, 8, Vec::<String>::new()));

    let reversed: Vec<_> = refs.into_iter().rev().collect();
    assert!(fs::read(store.write_archive(&reversed)).unwrap() == bytes);
    let mut archive = tar::Archive::new(bytes.as_slice());
    let names: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(names[..4], ["oci-layout", "index.json", "blobs/", "blobs/sha256/"]);
    assert_eq!(names[4..].iter().collect::<BTreeSet<_>>().len(), 8);
    assert!(names[4..].is_sorted());
}

#[test]
fn images_are_read_back_as_they_were() {
    let store = Store::new();
    let (amd64, arm64) = (store.small("linux/amd64", "x"), store.small("linux/arm64", "y"));
    let index = store.index(&[amd64.clone(), arm64.clone()]);
    let refs = [reference("multi", index.descriptor().clone()), reference("one", arm64.descriptor())];
    store.write(&refs);
    for medium in [layout::open(&store.path("dist")), archive::open(&store.write_archive(&refs))] {
        let medium = medium.unwrap();
        assert_eq!(read::refs(&medium).unwrap(), refs);
        let image = |name, platform: Option<&str>| {
            let platform = platform.map(|platform| platform.parse().unwrap());
            read::image(&medium, name, platform.as_ref())
        };
        assert_eq!(image(Some("multi"), Some("linux/amd64")).unwrap(), amd64);
        assert_eq!(image(Some("multi"), Some("linux/arm64/v8")).unwrap(), arm64);
        assert_eq!(image(Some("one"), None).unwrap(), arm64);
        assert!(
            message(image(Some("one"), Some("linux/amd64")))
                .ends_with("for linux/amd64; it is for: linux/arm64")
        );
        let ambiguous = message(image(Some("multi"), None));
        assert!(
            ambiguous.ends_with("for just one platform; it is for: linux/amd64, linux/arm64"),
            "{ambiguous}"
        );
        assert!(message(image(Some("none"), None)).ends_with("has no image `none`; it has: multi, one"));
        assert!(message(image(None, None)).ends_with("has no image ``; it has: multi, one"));
    }
}

#[test]
fn indexes_are_sorted_and_have_a_platform_once() {
    let store = Store::new();
    let (a, b) = (store.small("linux/amd64", "x"), store.small("linux/arm64", "y"));
    assert_eq!(store.index(&[a.clone(), b.clone()]), store.index(&[b.clone(), a.clone()]));
    let twin = store.small("linux/arm64/v8", "z");
    let result = imgforge_oci::Index::assemble(&[b, twin], &Default::default());
    assert!(message(result).starts_with("linux/arm64 is there twice"));
}

#[test]
fn a_layer_needs_a_layers_media_type() {
    let store = Store::new();
    let layer = Layer { media_type: MediaType::ImageConfig, ..store.layer(Compression::None, &[]) };
    let result = Image::assemble(&common::config("linux/amd64"), &[layer], &Default::default());
    assert!(message(result).contains("expected a layer's"));
    assert_eq!(kind(&"application/vnd.docker.image.rootfs.diff.tar".into()), Kind::Layer(Compression::None));
}

/// Validates an image of one layer whose image was changed by `change`.
fn check_image(change: impl Fn(&mut Layer), expected: &str) {
    let store = Store::new();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut layer = store.layer(compression, &[("a/", ""), ("a/b", "1"), ("a/c", "2")]);
        change(&mut layer);
        check_layers(&store, &[layer], expected);
    }
}

fn check_layers(store: &Store, layers: &[Layer], expected: &str) {
    let refs = [reference("app", store.image("linux/amd64", layers).descriptor())];
    let found = match layout::write(&store.path("dist"), &refs, &|digest| store.path_of(digest))
        .and_then(|_| validate::layout(&store.path("dist")))
    {
        Ok(report) => format!("valid {}", report.remarks.join("; ")),
        Err(error) => error.to_string(),
    };
    assert!(found.contains(expected), "expected {expected}\nfound {found}");
}

#[test]
fn layers_of_many_members_are_valid() {
    check_image(|_| (), "valid ");
}

#[test]
fn wrong_diff_ids_are_found() {
    let wrong = Digest::of(b"something else");
    check_image(
        |layer| layer.diff_id.0 = wrong,
        &format!(
            "digest mismatch for the diff ID of app, layer 1 of 1 (3584 bytes of tar)\n  expected: {wrong}"
        ),
    );
}

#[test]
fn wrong_compressions_are_found() {
    let store = Store::new();
    let mut layer = store.layer(Compression::Zstd, &[("a", "b")]);
    layer.media_type = MediaType::ImageLayerGzip;
    check_layers(&store, &[layer], "app, layer 1 of 1");
}

#[test]
fn damaged_layers_are_found() {
    let store = Store::new();
    let layer = store.layer(Compression::Gzip, &[("a", "b")]);
    let mut bytes = fs::read(store.path_of(&layer.digest)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(store.path_of(&layer.digest), &bytes).unwrap();
    let found = Digest::of(&bytes);
    check_layers(
        &store,
        std::slice::from_ref(&layer),
        &format!("expected: {}\n  found:    {found}", layer.digest),
    );
}

#[test]
fn hostile_layers_are_found() {
    let store = Store::new();
    let check = |tar: &[u8], expected| {
        check_layers(&store, &[store.layer_of(Compression::Gzip, tar, &[])], expected);
    };
    let twice = tar_of(&[("a", "1"), ("b", "2"), ("a", "3")]).0;
    check(
        &twice,
        "valid app, layer 1 of 1 (4096 bytes of tar): 1 of 3 entries are on a path that has one already",
    );
    check(b"no tar", "it ends in the middle");
    check(
        &tar_of(&[("a/b", "1"), ("a/", "")]).0,
        "valid app, layer 1 of 1 (2560 bytes of tar): 1 of 2 entries",
    );
    check(
        &tar_of(&[("a", "1")]).0[..1024],
        "valid app, layer 1 of 1 (1024 bytes of tar): the tar has no end",
    );
    // What follows the compressed stream is not part of it, and would still be part of the digest.
    let tar = tar_of(&[("a", "1")]).0;
    let mut stored = compress(Compression::Gzip, &tar);
    stored.extend(b"more than the ten bytes of a header");
    let layer = store.layer(Compression::Gzip, &[("a", "1")]);
    let layer = Layer { digest: store.put(&stored), size: stored.len() as u64, ..layer };
    check_layers(&store, &[layer], "not sound gzip data: invalid gzip header");
}

/// Validates a layout whose only image has a manifest and a config that were changed.
fn check_documents(change: impl Fn(&mut Value, &mut Value), expected: &str) {
    let store = Store::new();
    let image = store.small("linux/amd64", "x");
    let parse = |blob: &Blob| serde_json::from_slice::<Value>(blob.bytes()).unwrap();
    let (mut manifest, mut config) = (parse(image.manifest()), parse(image.config()));
    change(&mut manifest, &mut config);
    let config = Blob::new(MediaType::ImageConfig, config.to_string().into_bytes());
    manifest["config"]["digest"] = json!(config.descriptor().digest);
    manifest["config"]["size"] = json!(config.descriptor().size);
    let manifest = Blob::new(MediaType::ImageManifest, manifest.to_string().into_bytes());
    store.put_blob(&config);
    store.put_blob(&manifest);
    let mut descriptor = manifest.descriptor().clone();
    descriptor.platform = Some("linux/amd64".parse().unwrap());
    let result = layout::write(&store.path("dist"), &[reference("app", descriptor)], &|d| store.path_of(d))
        .and_then(|_| validate::layout(&store.path("dist")));
    let found = message(result);
    assert!(found.contains(expected), "expected {expected}\nfound {found}");
}

#[test]
fn documents_that_disagree_are_found() {
    check_documents(
        |_, config| drop(config["rootfs"]["diff_ids"].as_array_mut().unwrap().pop()),
        "the manifest has 2 layers, the config has 1 diff IDs",
    );
    check_documents(
        |_, config| drop(config["history"].as_array_mut().unwrap().pop()),
        "the config has 2 diff IDs, its history tells of 1 layers",
    );
    check_documents(
        |_, config| config["history"][0]["empty_layer"] = json!(true),
        "its history tells of 1 layers",
    );
    check_documents(
        |_, config| config["architecture"] = json!("arm64"),
        "the index says that it is for linux/amd64, its config says linux/arm64",
    );
    check_documents(
        |manifest, _| manifest["mediaType"] = json!("application/vnd.oci.image.index.v1+json"),
        "expected `application/vnd.oci.image.manifest.v1+json`, as its descriptor says",
    );
    check_documents(|manifest, _| manifest["manifests"] = json!([]), "it has `manifests` like an index");
    check_documents(|manifest, _| manifest["schemaVersion"] = json!(1), "its schemaVersion is 1, expected 2");
    let sha512 = format!("sha512:{}", "0".repeat(128));
    check_documents(
        |manifest, _| manifest["layers"][0]["digest"] = json!(sha512),
        &format!("`{sha512}` is not a digest: expected `sha256:`"),
    );
}

#[test]
fn every_finding_is_told() {
    let store = Store::new();
    let refs = refs(&store);
    store.write(&refs);
    let images = read::images(&layout::open(&store.path("dist")).unwrap(), refs[0].descriptor()).unwrap();
    for image in &images {
        let path = blob_path(&store.path("dist"), &image.layers()[1].digest);
        fs::remove_file(path).unwrap();
    }
    let Err(Error::Invalid { problems, .. }) = validate::layout(&store.path("dist")) else {
        panic!("not invalid")
    };
    let places: Vec<_> = problems.iter().map(|problem| problem.place.as_str()).collect();
    assert_eq!(places.len(), 2);
    assert!(places.iter().any(|place| place.starts_with("multi (linux/arm64), layer 2 of 2")), "{places:?}");
}

#[test]
fn files_that_nothing_needs_are_told() {
    let store = Store::new();
    store.write(&refs(&store));
    fs::write(store.path("dist/notes.txt"), "").unwrap();
    let orphan = blob_path(&store.path("dist"), &Digest::of(b""));
    fs::write(&orphan, "").unwrap();
    let extra = validate::layout(&store.path("dist")).unwrap().extra;
    assert_eq!(extra, [format!("blobs/sha256/{}", Digest::of(b"").hex()), "notes.txt".to_owned()]);
}

#[test]
fn archives_that_are_none() {
    let store = Store::new();
    let path = store.path("a.tar");
    let check = |bytes: &[u8], expected: &str| {
        fs::write(&path, bytes).unwrap();
        let found = message(validate::archive(&path));
        assert!(found.contains(expected), "expected {expected}\nfound {found}");
    };
    check(b"", "oci-layout is missing");
    check(&tar_of(&[("a", "b")]).0, "oci-layout is missing");
    check(b"text", "it ends in the middle");
    let sound = fs::read(store.write_archive(&refs(&store))).unwrap();
    check(&sound[..2_000], "it ends in the middle");
}

#[test]
fn an_index_that_leads_to_itself_ends() {
    let store = Store::new();
    // A digest cannot be put into its own content, so the longest way down is a chain.
    let mut inner = store.small("linux/amd64", "x").descriptor();
    for _ in 0..6 {
        let bytes = json!({
            "schemaVersion": 2,
            "manifests": [{"mediaType": inner.media_type.to_string(), "digest": inner.digest, "size": inner.size}],
        });
        let blob = Blob::new(MediaType::ImageIndex, bytes.to_string().into_bytes());
        store.put_blob(&blob);
        inner = blob.descriptor().clone();
    }
    let result =
        layout::write(&store.path("dist"), &[reference("deep", inner)], &|digest| store.path_of(digest));
    assert!(message(result).contains("nests indexes more than 4 deep"));
}

/// As `docker buildx build --output type=oci` writes it: folders, names of its own, and notes on the build.
#[test]
fn an_archive_of_buildx() {
    let store = Store::new();
    let image = store.small("linux/arm64", "x");
    let mut blobs: Vec<Blob> = vec![image.manifest().clone(), image.config().clone()];
    let put = |blobs: &mut Vec<Blob>, media_type: &str, value: &Value| {
        let blob = Blob::new(media_type.into(), value.to_string().into_bytes());
        let descriptor = blob.descriptor().clone();
        blobs.push(blob);
        json!({"mediaType": media_type, "digest": descriptor.digest, "size": descriptor.size})
    };
    let statement = json!({"_type": "https://in-toto.io/Statement/v0.1", "subject": []});
    let config_type = "application/vnd.oci.image.config.v1+json";
    let unknown =
        json!({"architecture": "unknown", "os": "unknown", "rootfs": {"type": "layers", "diff_ids": []}});
    let notes = json!({
        "schemaVersion": 2,
        "config": put(&mut blobs, config_type, &unknown),
        "layers": [put(&mut blobs, "application/vnd.in-toto+json", &statement)],
    });
    let mut notes = put(&mut blobs, "application/vnd.oci.image.manifest.v1+json", &notes);
    notes["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    let descriptor = image.manifest().descriptor();
    let entry = json!({
        "mediaType": descriptor.media_type.to_string(), "digest": descriptor.digest, "size": descriptor.size,
        "platform": {"os": "linux", "architecture": "arm64", "os.features": []},
    });
    let index = json!({"schemaVersion": 2, "manifests": [entry, notes]});
    let mut index = put(&mut blobs, "application/vnd.oci.image.index.v1+json", &index);
    index["annotations"] = json!({
        "io.containerd.image.name": "docker.io/library/app:1", "org.opencontainers.image.ref.name": "1",
    });
    let index = json!({"schemaVersion": 2, "manifests": [index]}).to_string();
    let blobs: Vec<(String, String)> = blobs
        .iter()
        .map(|blob| {
            let text = String::from_utf8(blob.bytes().to_vec()).unwrap();
            (format!("blobs/sha256/{}", blob.descriptor().digest.hex()), text)
        })
        .collect();
    let mut files = vec![("blobs/", ""), ("blobs/sha256/", "")];
    files.extend(blobs.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    files.extend([("index.json", index.as_str()), ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)]);
    let mut builder = tar::Builder::new(tar_of(&files).0);
    // Layers are no text; they come last here.
    let end = builder.get_ref().len() - 1024;
    builder.get_mut().truncate(end);
    for layer in image.layers() {
        let bytes = fs::read(store.path_of(&layer.digest)).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        let name = format!("blobs/sha256/{}", layer.digest.hex());
        builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    let path = store.path("buildx.tar");
    fs::write(&path, builder.into_inner().unwrap()).unwrap();

    let report = validate::archive(&path).unwrap();
    assert_eq!((report.images.len(), report.blobs, report.extra), (1, 8, Vec::<String>::new()));
    let medium = archive::open(&path).unwrap();
    for name in [Some("1"), Some("@0"), None] {
        assert_eq!(read::image(&medium, name, None).unwrap(), image);
    }
}
