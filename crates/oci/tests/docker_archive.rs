//! Docker's archive: written, read back, and read as other tools and other years have written it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail so, in its helpers too")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;

use common::{Store, compress, tar_of};
use imgforge_oci::docker_archive::{self, Named};
use imgforge_oci::{
    Compression, DiffId, Digest, Error, Image, Layer, Medium, Platform, archive, read, validate,
};
use serde_json::{Value, json};

fn named<'a>(image: &'a Image, names: &[&str]) -> Named<'a> {
    Named { image, names: names.iter().map(|name| (*name).to_owned()).collect() }
}

fn write(store: &Store, images: &[Named<'_>]) -> Result<Vec<u8>, Error> {
    write_knowing(store, images, &|_| None)
}

fn write_knowing(
    store: &Store,
    images: &[Named<'_>],
    tar_size: &(dyn Fn(&DiffId) -> Option<u64> + Sync),
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let folder = store.path("store");
    docker_archive::write(&mut bytes, images, &|digest| folder.join(digest.hex()), tar_size)?;
    Ok(bytes)
}

fn put(store: &Store, bytes: &[u8]) -> PathBuf {
    let path = store.path("docker.tar");
    fs::write(&path, bytes).unwrap();
    path
}

fn open(store: &Store, bytes: &[u8]) -> Result<Medium, Error> {
    docker_archive::open(&put(store, bytes))
}

fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

fn contains(found: &str, expected: &str) {
    assert!(found.contains(expected), "expected {expected}\nfound {found}");
}

/// The names of the members of a tar.
fn members(bytes: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(bytes);
    let names = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
    names.collect()
}

fn three_layers(store: &Store) -> [Layer; 3] {
    [
        store.layer(Compression::Gzip, &[("a/", ""), ("a/1", "1")]),
        store.layer(Compression::Zstd, &[("b", "2")]),
        store.layer(Compression::None, &[("c", "3")]),
    ]
}

fn diff_ids(image: &Image) -> Vec<DiffId> {
    image.layers().iter().map(|layer| layer.diff_id).collect()
}

#[test]
fn written_and_read_back() {
    let store = Store::new();
    let layers = three_layers(&store);
    let (first, second) = (
        store.image("linux/amd64", &layers),
        store.image("linux/arm64", &[layers[2].clone(), layers[0].clone()]),
    );
    let images = [named(&first, &["app:1", "example.org/app:x"]), named(&second, &["other:1"])];
    let bytes = write(&store, &images).unwrap();

    let reversed: Vec<_> = images.iter().rev().cloned().collect();
    assert!(write(&store, &reversed).unwrap() == bytes);
    let sizes: BTreeMap<_, _> = layers
        .iter()
        .map(|layer| (layer.diff_id, layer.history.split(' ').next().unwrap().parse().unwrap()))
        .collect();
    assert!(write_knowing(&store, &images, &|diff_id| sizes.get(diff_id).copied()).unwrap() == bytes);
    // manifest.json, two configs, and each layer once.
    let names = members(&bytes);
    assert_eq!((names[0].as_str(), names.len()), ("manifest.json", 6));

    let medium = open(&store, &bytes).unwrap();
    let report = validate::medium(&medium).unwrap();
    assert_eq!((report.images.len(), report.extra.len(), report.remarks.len()), (3, 0, 0));
    let read = |name: &str| read::image(&medium, Some(name), None).unwrap();
    for name in ["app:1", "docker.io/library/app:1", "example.org/app:x"] {
        assert_eq!((read(name).config(), diff_ids(&read(name))), (first.config(), diff_ids(&first)));
    }
    assert_eq!(read("other:1").config(), second.config());
    assert_eq!(read("other:1").layers()[0].size, layers[2].size);
    let names: Vec<_> = read::refs(&medium).unwrap().iter().map(|it| it.name().to_owned()).collect();
    assert_eq!(names.len(), 3);
    contains(&message(read::image(&medium, None, None)), "has no image ``; it has: ");
    contains(&message(read::image(&medium, Some("app:2"), None)), "has no image `app:2`");
    let numbered: Vec<_> = ["@0", "@1"].map(|name| read(name).config().descriptor().digest).into();
    assert_eq!(numbered.len(), 2);
    assert!(numbered.contains(&first.config().descriptor().digest));
    assert!(numbered.contains(&second.config().descriptor().digest));
    contains(&message(read::image(&medium, Some("@2"), None)), "has no image `@2`");
    let wanted: Platform = "linux/s390x".parse().unwrap();
    contains(&message(read::image(&medium, Some("app:1"), Some(&wanted))), "it is for: linux/amd64");

    let mut layer = Vec::new();
    medium.blob_reader(&layers[0].diff_id.0).unwrap().read_to_end(&mut layer).unwrap();
    assert_eq!(layer, tar_of(&[("a/", ""), ("a/1", "1")]).0);
}

#[test]
fn one_image_needs_no_name() {
    let store = Store::new();
    let image = store.small("linux/amd64", "x");
    for names in [&[][..], &["a:1"], &["a:1", "b:2"]] {
        let medium = open(&store, &write(&store, &[named(&image, names)]).unwrap()).unwrap();
        assert_eq!(read::image(&medium, None, None).unwrap().config(), image.config());
        assert_eq!(read::image(&medium, Some("@0"), None).unwrap().config(), image.config());
        assert_eq!(read::refs(&medium).unwrap().len(), names.len());
    }
}

#[test]
fn names_are_checked_before_anything_is_written() {
    let store = Store::new();
    let (a, b) = (store.small("linux/amd64", "a"), store.small("linux/amd64", "b"));
    contains(
        &message(write(&store, &[named(&a, &["App:1"])])),
        "`App:1` cannot name an image in a docker archive",
    );
    contains(
        &message(write(&store, &[named(&a, &["app:1"]), named(&b, &["docker.io/library/app:1"])])),
        "image `docker.io/library/app:1` is there twice: sha256:",
    );
    write(&store, &[named(&a, &["app:1"]), named(&a, &["app:1", "app:2"])]).unwrap();
}

#[test]
fn what_a_layer_is_not_stops_the_writing() {
    let store = Store::new();
    let layer = store.layer(Compression::Gzip, &[("a", "1")]);
    let check = |layer: &Layer, tar_size: Option<u64>, expected: &str| {
        let image = store.image("linux/amd64", std::slice::from_ref(layer));
        let path = put(&store, b"the old one");
        let folder = store.path("store");
        let result =
            docker_archive::write_file(&path, &[named(&image, &[])], &|it| folder.join(it.hex()), &|_| {
                tar_size
            });
        contains(&message(result), expected);
        assert_eq!(fs::read(&path).unwrap(), b"the old one");
        let left: Vec<_> =
            fs::read_dir(store.dir.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    };
    let (other, id) = (Digest::of(b"other"), layer.digest);
    check(&Layer { diff_id: DiffId(other), ..layer.clone() }, None, &format!("expected: {other}"));
    check(&layer, Some(2_047), &format!("size mismatch for the tar of layer {id}"));
    check(&layer, Some(2_049), "its descriptor says 2049 bytes, it has 2048");
    let wrong = Layer { media_type: Compression::Zstd.media_type(), ..layer.clone() };
    check(&wrong, None, &format!("not sound zstd data: layer {id}"));
    fs::write(store.path_of(&id), "").unwrap();
    check(&layer, None, &format!("not sound gzip data: layer {id}"));
    fs::remove_file(store.path_of(&id)).unwrap();
    check(&layer, Some(2_048), store.path_of(&id).to_str().unwrap());
}

#[test]
fn a_file_appears_when_it_is_whole() {
    use std::os::unix::fs::MetadataExt as _;
    let store = Store::new();
    let image = store.small("linux/amd64", "x");
    let (path, folder) = (store.path("new.tar"), store.path("store"));
    let path_of = |digest: &Digest| folder.join(digest.hex());
    docker_archive::write_file(&path, &[named(&image, &["a:1"])], &path_of, &|_| None).unwrap();
    assert!(fs::read(&path).unwrap() == write(&store, &[named(&image, &["a:1"])]).unwrap());
    // As anybody's file, not as a temporary one.
    fs::write(store.path("usual"), "").unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().mode();
    assert_eq!(mode(path), mode(store.path("usual")));
    let refs = [common::reference("a", image.descriptor())];
    archive::write_file(&store.path("oci.tar"), &refs, &path_of).unwrap();
    assert!(fs::read(store.path("oci.tar")).unwrap() == fs::read(store.write_archive(&refs)).unwrap());
}

/// Members of an archive: files, and links where a name ends with `@`.
fn tar_with(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, body) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        match path.strip_suffix('@') {
            Some(path) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, path, std::str::from_utf8(body).unwrap()).unwrap();
            }
            None => {
                header.set_size(body.len() as u64);
                builder.append_data(&mut header, path, *body).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

/// A config for layers of these tars.
fn config_of(tars: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<_> = tars.iter().map(|tar| Digest::of(tar)).collect();
    json!({
        "architecture": "amd64", "os": "linux", "docker_version": "17.03", "created": "2017-01-01T00:00:00Z",
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "config": {"Cmd": ["sh"], "Volumes": null},
    })
    .to_string()
    .into_bytes()
}

fn manifest_json(config: &str, names: &[&str], layers: &[&str]) -> Vec<u8> {
    json!([{"Config": config, "RepoTags": names, "Layers": layers}]).to_string().into_bytes()
}

fn tars() -> [Vec<u8>; 2] {
    [tar_of(&[("a", "1")]).0, tar_of(&[("b", "2")]).0]
}

/// The old form: a folder for each layer, and links where two are the same.
#[test]
fn an_archive_of_old_docker() {
    let store = Store::new();
    let [a, b] = tars();
    let config = config_of(&[&a, &b, &a]);
    let config_name = format!("{}.json", Digest::of(&config).hex());
    let layers = ["1/layer.tar", "2/layer.tar", "3/layer.tar"];
    let bytes = tar_with(&[
        ("1/VERSION", b"1.0"),
        ("1/json", b"{}"),
        ("1/layer.tar", &a),
        ("2/layer.tar", &b),
        ("3/layer.tar@", b"../1/layer.tar"),
        (&config_name, &config),
        ("manifest.json", &manifest_json(&config_name, &["old:1"], &layers)),
        ("repositories", br#"{"old":{"1":"3"}}"#),
    ]);
    let medium = open(&store, &bytes).unwrap();
    assert_eq!(validate::medium(&medium).unwrap().images[0].layers, 3);
    let image = read::image(&medium, Some("old:1"), None).unwrap();
    assert_eq!(image.config().bytes(), config);
    let sizes: Vec<_> = image.layers().iter().map(|layer| layer.size).collect();
    assert_eq!(sizes, [a.len(), b.len(), a.len()].map(|size| size as u64));
}

/// The form since Docker 25: a layout with manifest.json beside it, and layers that may be compressed.
#[test]
fn an_archive_of_new_docker() {
    let store = Store::new();
    let image = store.image("linux/amd64", &three_layers(&store));
    let digests: Vec<_> = image.layers().iter().map(|layer| layer.digest).collect();
    let name = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let layers: Vec<_> = digests.iter().map(name).collect();
    let layers: Vec<_> = layers.iter().map(String::as_str).collect();
    let config = name(&image.config().descriptor().digest);
    let blobs: Vec<_> = digests.iter().map(|digest| fs::read(store.path_of(digest)).unwrap()).collect();
    let manifest = manifest_json(&config, &["new:1"], &layers);
    let mut entries = vec![(config.as_str(), image.config().bytes()), ("manifest.json", &manifest)];
    entries.extend(layers.iter().copied().zip(blobs.iter().map(Vec::as_slice)));
    entries.extend([("index.json", &b"{}"[..]), ("oci-layout", b"{}")]);
    let medium = open(&store, &tar_with(&entries)).unwrap();
    validate::medium(&medium).unwrap();
    assert_eq!(read::image(&medium, Some("new:1"), None).unwrap().layers(), image.layers());
}

/// As some builders write it: layers that are compressed, under names that say nothing.
#[test]
fn layers_that_have_to_be_hashed() {
    let store = Store::new();
    let [a, b] = tars();
    let (packed, config) = (compress(Compression::Gzip, &a), config_of(&[&a, &b]));
    let bytes = tar_with(&[
        ("config.json", &config),
        ("0.tar.gz", &packed),
        ("1.tar.zst", &compress(Compression::Zstd, &b)),
        ("manifest.json", &manifest_json("config.json", &[], &["0.tar.gz", "./1.tar.zst"])),
    ]);
    let medium = open(&store, &bytes).unwrap();
    validate::medium(&medium).unwrap();
    let image = read::image(&medium, None, None).unwrap();
    assert_eq!(image.layers()[0].digest, Digest::of(&packed));
    let stored: Vec<_> = image.layers().iter().map(|layer| layer.media_type.clone()).collect();
    assert_eq!(stored, [Compression::Gzip.media_type(), Compression::Zstd.media_type()]);
}

#[test]
fn an_archive_that_is_compressed_as_a_whole() {
    let store = Store::new();
    let image = store.small("linux/amd64", "x");
    let plain = write(&store, &[named(&image, &["a:1"])]).unwrap();
    let oci = fs::read(store.write_archive(&[common::reference("a", image.descriptor())])).unwrap();
    let scratch = store.path("scratch");
    fs::create_dir(&scratch).unwrap();
    for compression in [Compression::Gzip, Compression::Zstd] {
        let medium = open(&store, &compress(compression, &plain)).unwrap();
        // Whatever happens to the file: what was opened is read.
        fs::remove_file(store.path("docker.tar")).unwrap();
        validate::medium(&medium).unwrap();
        put(&store, &compress(compression, &oci));
        validate::archive(&store.path("docker.tar")).unwrap();
        archive::open_in(&store.path("docker.tar"), &scratch).unwrap();
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
        let mut cut = compress(compression, &plain);
        cut.truncate(cut.len() - 20);
        contains(
            &message(open(&store, &cut)),
            &format!(
                "docker.tar: not sound {} data",
                match compression {
                    Compression::Gzip => "gzip",
                    _ => "zstd",
                }
            ),
        );
    }
    contains(&message(open(&store, b"\xfd7zXZ\0...")), "it is compressed with xz; unpack it first");
    put(&store, &compress(Compression::Gzip, &plain));
    let result = docker_archive::open_in(&store.path("docker.tar"), &store.path("nowhere"));
    contains(&message(result), "docker.tar, in ");
}

/// What is wrong with an archive of one image with two layers, of which something was changed.
fn check(change: impl Fn(&mut BTreeMap<String, Vec<u8>>, &mut Value), expected: &str) {
    let store = Store::new();
    let [a, b] = tars();
    let config = config_of(&[&a, &b]);
    let name = format!("{}.json", Digest::of(&config).hex());
    let mut manifest = json!([{"Config": name, "RepoTags": ["app:1"], "Layers": ["a.tar", "b.tar"]}]);
    let mut files = BTreeMap::from([("a.tar".to_owned(), a), ("b.tar".to_owned(), b), (name, config)]);
    change(&mut files, &mut manifest);
    files.entry("manifest.json".to_owned()).or_insert_with(|| manifest.to_string().into_bytes());
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let found = match open(&store, &tar_with(&files)).and_then(|medium| validate::medium(&medium)) {
        Ok(report) => format!("valid, {} images", report.images.len()),
        Err(error) => error.to_string(),
    };
    contains(&found, expected);
}

fn with(files: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
    files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect()
}

#[test]
fn archives_that_do_not_hold_what_they_say() {
    check(|_, _| (), "valid, 1 images");
    check(|files, _| drop(files.remove("b.tar")), "docker.tar is not a docker archive: b.tar is missing");
    check(|_, manifest| manifest[0]["Config"] = json!("c.json"), "c.json is missing");
    check(
        |_, manifest| manifest[0]["Layers"] = json!(["a.tar"]),
        ".json: the image does not agree with itself: manifest.json has 1 layers, the config has 2 diff IDs",
    );
    check(|_, manifest| manifest[0]["Layers"] = json!(null), "manifest.json has 0 layers");
    check(|_, manifest| manifest[0]["Layers"] = json!(["b.tar", "a.tar"]), "digest mismatch for");
    check(
        |_, manifest| drop(manifest[0].as_object_mut().unwrap().remove("Config")),
        "docker.tar: manifest.json is not the JSON that is expected of it: missing field `Config`",
    );
    check(|_, manifest| *manifest = json!([]), "valid, 0 images");
    check(
        |_, manifest| *manifest = json!(vec![manifest[0].clone(); 1001]),
        "manifest.json leads to more than 1000 manifests",
    );
    check(|files, _| files.extend(with(&[("manifest.json", b"[")])), "manifest.json is not the JSON");
    check(
        |files, manifest| {
            let name = manifest[0]["Config"].as_str().unwrap().to_owned();
            files.get_mut(&name).unwrap().push(b' ');
        },
        "digest mismatch for the config\n  expected: sha256:",
    );
    check(
        |files, manifest| {
            files.extend(with(&[("c", br#"{"rootfs":{"type":"layers","diff_ids":["sha512:0","x"]}}"#)]));
            manifest[0]["Config"] = json!("c");
        },
        "entry c: the config is not the JSON that is expected of it: `sha512:0` is not a digest",
    );
    check(
        |files, manifest| {
            let diff_ids = [Digest::of(&files["a.tar"]), Digest::of(&files["b.tar"])];
            let config =
                json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}).to_string();
            files.extend(with(&[("c", config.as_bytes())]));
            manifest[0]["Config"] = json!("c");
        },
        "entry c: the config of image sha256:",
    );
    check(
        |files, _| files.extend(with(&[("a.tar", b"BZh9...")])),
        "entry a.tar: not sound bzip2 data: images have no layers",
    );
    check(
        |files, _| files.extend(with(&[("a.tar", &compress(Compression::Gzip, b"no tar"))])),
        "digest mismatch for",
    );
    check(
        |files, manifest| {
            let two = manifest[0].clone();
            manifest.as_array_mut().unwrap().push(two);
            manifest[1]["Layers"][0] = json!("c.tar");
            files.extend(with(&[("c.tar", &[0; 1024])]));
        },
        "entry c.tar: size mismatch for sha256:",
    );
}

#[test]
fn links_lead_to_members_only() {
    let link = |target: &'static str, expected: &str| {
        check(
            move |files, _| {
                let a = files.remove("a.tar").unwrap();
                files.extend(with(&[("a.tar@", target.as_bytes()), ("x/real.tar", &a)]));
            },
            expected,
        );
    };
    link("x/real.tar", "valid, 1 images");
    link("./x/../x/real.tar", "valid, 1 images");
    link("/etc/passwd", "a.tar: it is a link: its target is an absolute path");
    link("../../etc/passwd", "a.tar: it is a link: its target is outside of the archive");
    link("a.tar", "a.tar: it is a link that leads to itself");
    link("x", "a.tar: it is a link to `x`, which is missing");
    check(
        |_, manifest| manifest[0]["Layers"][0] = json!("../a.tar"),
        "../a.tar: a path that leaves its root",
    );
    check(|_, manifest| manifest[0]["Layers"][0] = json!("/a.tar"), "/a.tar: an absolute path");
}

#[test]
fn no_docker_archives() {
    let store = Store::new();
    let image = store.small("linux/amd64", "x");
    let oci = store.write_archive(&[common::reference("a", image.descriptor())]);
    contains(&message(docker_archive::open(&oci)), "it has no manifest.json; it looks like an oci-archive");
    let old = tar_with(&[("1/json", b"{}"), ("repositories", b"{}")]);
    contains(&message(open(&store, &old)), "it was written by Docker before 1.10");
    contains(
        &message(open(&store, &tar_of(&[]).0)),
        "docker.tar is not a docker archive: it has no manifest.json",
    );
    contains(&message(open(&store, b"text")), "it ends in the middle");
    contains(&message(docker_archive::open(store.dir.path())), "it is no regular file");
    contains(&message(docker_archive::open(&store.path("nothing"))), "nothing");
    let twice = tar_with(&[("manifest.json", b"[]"), ("manifest.json", b"[{}]")]);
    contains(&message(open(&store, &twice)), "entry `manifest.json` is there twice");
}
