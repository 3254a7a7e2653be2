//! What other tools make of layouts and archives: skopeo, umoci and podman.
//!
//! A missing program fails its test and says how to install it, because a test that skips itself proves nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail so, in its helpers too")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Store, reference, snapshot};
use imgforge_oci::docker_archive::{self, Named};
use imgforge_oci::{
    BaseImage, Blob, Compression, Image, ImageConfig, Medium, Ref, archive, layout, read, validate,
};
use serde_json::Value;

/// Runs a program in a clean place of its own and returns what it prints.
fn run(store: &Store, program: &str, arguments: &[&str]) -> String {
    let home = store.path("home");
    fs::create_dir_all(&home).unwrap();
    let output = Command::new(program)
        .args(arguments)
        .env("HOME", &home)
        .env("XDG_RUNTIME_DIR", &home)
        .env("TMPDIR", &home)
        .current_dir(&home)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; install it: apt install {program}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{program} {}\n{}{}",
        arguments.join(" "),
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn dist(store: &Store, name: &str) -> String {
    format!("oci:{}:{name}", store.path("dist").display())
}

/// An image with a layer of every compression, or of gzip only for tools that know no other.
fn image(store: &Store, platform: &str, compressions: &[Compression]) -> Image {
    let layers: Vec<_> = compressions
        .iter()
        .zip(1..)
        .map(|(compression, number)| {
            let (folder, file) = (format!("srv{number}/"), format!("srv{number}/file"));
            store.layer(*compression, &[(&folder, ""), (&file, &format!("{platform} {number}\n"))])
        })
        .collect();
    store.image(platform, &layers)
}

/// What skopeo copies as it is; plain layers it compresses on the way.
const COMPRESSED: &[Compression] = &[Compression::Gzip, Compression::Zstd];
const ALL: &[Compression] = &[Compression::Gzip, Compression::Zstd, Compression::None];
const GZIP: &[Compression] = &[Compression::Gzip, Compression::Gzip];

fn single(store: &Store) -> (Image, Vec<Ref>) {
    let image = image(store, "linux/amd64", COMPRESSED);
    let refs = vec![reference("app:1.0", image.descriptor())];
    (image, refs)
}

/// Whether skopeo's view of an image is ours.
fn check_inspect(store: &Store, source: &str, image: &Image) {
    let found: Value = serde_json::from_str(&run(store, "skopeo", &["inspect", source])).unwrap();
    assert_eq!(found["Digest"], image.manifest().descriptor().digest.to_string());
    assert_eq!(found["Architecture"], image.platform().architecture());
    assert_eq!(found["Created"], "1970-01-01T00:00:00Z");
    let layers: Vec<_> = image.layers().iter().map(|layer| Value::from(layer.digest.to_string())).collect();
    assert_eq!(found["Layers"], Value::from(layers));
    let config: Value =
        serde_json::from_str(&run(store, "skopeo", &["inspect", "--config", source])).unwrap();
    assert_eq!(config["config"]["ExposedPorts"]["8080/tcp"], serde_json::json!({}));
    assert_eq!(config["config"]["User"], "65532:65532");
}

#[test]
fn skopeo_inspects_and_copies_a_layout() {
    let store = Store::new();
    let (image, refs) = single(&store);
    store.write(&refs);
    check_inspect(&store, &dist(&store, "app:1.0"), &image);
    let copy = store.path("copy");
    run(&store, "skopeo", &["copy", &dist(&store, "app:1.0"), &format!("oci:{}:x", copy.display())]);
    let copied = validate::layout(&copy).unwrap();
    assert_eq!(copied.images[0].digest, image.manifest().descriptor().digest);
}

#[test]
fn skopeo_inspects_an_archive() {
    let store = Store::new();
    let (image, refs) = single(&store);
    let archive = store.write_archive(&refs);
    check_inspect(&store, &format!("oci-archive:{}:app:1.0", archive.display()), &image);
}

/// `docker load` takes Docker's own archive, whose layers cannot be zstd.
#[test]
fn skopeo_makes_an_archive_for_docker() {
    let store = Store::new();
    let image = image(&store, "linux/amd64", GZIP);
    let archive = store.write_archive(&[reference("app:1.0", image.descriptor())]);
    let source = format!("oci-archive:{}:app:1.0", archive.display());
    let docker = format!("docker-archive:{}:app:1.0", store.path("docker.tar").display());
    run(&store, "skopeo", &["copy", &source, &docker]);
    let found: Value =
        serde_json::from_str(&run(&store, "skopeo", &["inspect", "--config", &docker])).unwrap();
    let diff_ids: Vec<_> =
        image.layers().iter().map(|layer| Value::from(layer.diff_id.to_string())).collect();
    assert_eq!(found["rootfs"]["diff_ids"], Value::from(diff_ids));
}

#[test]
fn an_archive_of_skopeo_is_read() {
    let store = Store::new();
    let (image, refs) = single(&store);
    store.write(&refs);
    let archive = store.path("theirs.tar");
    let target = format!("oci-archive:{}:theirs", archive.display());
    run(&store, "skopeo", &["copy", &dist(&store, "app:1.0"), &target]);
    let report = validate::archive(&archive).unwrap();
    assert_eq!(
        (report.images[0].name.as_str(), report.images[0].digest),
        ("theirs", image.descriptor().digest)
    );
}

#[test]
fn skopeo_chooses_a_platform_and_copies_all() {
    let store = Store::new();
    let images = ["linux/amd64", "linux/arm64"].map(|platform| image(&store, platform, GZIP));
    let index = store.index(&images);
    store.write(&[reference("multi", index.descriptor().clone())]);
    for image in &images {
        let architecture = image.platform().architecture();
        let raw = run(
            &store,
            "skopeo",
            &["--override-arch", architecture, "inspect", "--config", &dist(&store, "multi")],
        );
        assert_eq!(serde_json::from_str::<Value>(&raw).unwrap()["architecture"], architecture);
    }
    let copy = store.path("copy");
    let target = format!("oci:{}:multi", copy.display());
    run(&store, "skopeo", &["copy", "--all", &dist(&store, "multi"), &target]);
    assert_eq!(validate::layout(&copy).unwrap().images.len(), 2);
}

#[test]
fn skopeo_and_imgforge_share_a_layout() {
    let store = Store::new();
    let (_, refs) = single(&store);
    store.write(&refs);
    run(&store, "skopeo", &["copy", &dist(&store, "app:1.0"), &dist(&store, "theirs")]);
    let other = image(&store, "linux/arm64", GZIP);
    store.write(&[reference("app:1.0", other.descriptor())]);
    let names = |refs: Vec<Ref>| refs.iter().map(|it| it.name().to_owned()).collect::<Vec<_>>();
    let medium = layout::open(&store.path("dist")).unwrap();
    assert_eq!(names(read::refs(&medium).unwrap()), ["app:1.0", "theirs"]);
    let report = validate::layout(&store.path("dist")).unwrap();
    assert_eq!((report.images.len(), report.extra), (2, Vec::<String>::new()));
    // Docker's media types come into a layout by this road.
    let docker = store.path("docker-dir");
    let (dir, target) = (format!("dir:{}", docker.display()), dist(&store, "docker"));
    run(&store, "skopeo", &["copy", "--format", "v2s2", &dist(&store, "app:1.0"), &dir]);
    run(&store, "skopeo", &["copy", &dir, &target]);
    store.write(&[reference("app:1.0", other.descriptor())]);
    assert_eq!(validate::layout(&store.path("dist")).unwrap().images.len(), 3);
}

#[test]
fn umoci_unpacks_a_gzip_image() {
    let store = Store::new();
    let image = image(&store, "linux/amd64", GZIP);
    store.write(&[reference("app", image.descriptor())]);
    let (source, bundle) = (format!("{}:app", store.path("dist").display()), store.path("bundle"));
    run(&store, "umoci", &["unpack", "--rootless", "--image", &source, bundle.to_str().unwrap()]);
    let files = snapshot(&bundle.join("rootfs"));
    assert_eq!(files[Path::new("srv1/file")], b"linux/amd64 1\n");
    assert_eq!(files[Path::new("srv2/file")], b"linux/amd64 2\n");
}

/// Podman in a storage of its own, plain files, so that the host's images and drivers do not matter.
fn podman(store: &Store, arguments: &[&str]) -> String {
    let host = ["--cgroup-manager", "cgroupfs", "--events-backend", "file"];
    in_storage(store, "podman", &[&host[..], arguments].concat())
}

/// Buildah, in the same storage.
fn buildah(store: &Store, arguments: &[&str]) -> String {
    in_storage(store, "buildah", arguments)
}

fn in_storage(store: &Store, program: &str, arguments: &[&str]) -> String {
    let (root, run_root) = (store.path("podman"), store.path("podman-run"));
    let (root, run_root) = (root.to_str().unwrap(), run_root.to_str().unwrap());
    let place = ["--root", root, "--runroot", run_root, "--storage-driver", "vfs"];
    run(store, program, &[&place[..], arguments].concat())
}

/// A base of Docker's that podman made, an image on it, and what skopeo, umoci and podman make of that.
#[test]
fn an_image_on_a_base_of_another_tool() {
    let store = Store::new();
    let ground = image(&store, "linux/amd64", GZIP);
    store.write(&[reference("ground", ground.descriptor())]);
    // With a health check, which only Docker's format has.
    let theirs = store.path("theirs");
    let dir = format!("dir:{}", theirs.display());
    let pull = |name: &str, image: &Image| {
        let archive = store.write_archive(&[reference(name, image.descriptor())]);
        podman(&store, &["pull", "--quiet", &format!("oci-archive:{}:{name}", archive.display())])
    };
    let id = pull("ground", &ground);
    let file = store.path("Containerfile");
    let text = format!(
        "FROM {}\nENV BASE=1\nHEALTHCHECK CMD /bin/true\nONBUILD RUN x\nCOPY Containerfile /theirs\n",
        id.trim()
    );
    fs::write(&file, text).unwrap();
    let build = ["build", "--quiet", "--format", "docker", "--tag", "base", "--isolation", "chroot"];
    podman(
        &store,
        &[&build[..], &["-f", file.to_str().unwrap(), store.dir.path().to_str().unwrap()]].concat(),
    );
    podman(&store, &["push", "--quiet", "--format", "v2s2", "localhost/base", &dir]);

    // Copied into a layout, it would be another image, without the health check.
    let blob =
        |name: &str, media_type: &str| Blob::new(media_type.into(), fs::read(theirs.join(name)).unwrap());
    let manifest = blob("manifest.json", "application/vnd.docker.distribution.manifest.v2+json");
    let config = read::children(&manifest).unwrap().remove(0);
    let config = blob(&config.digest.hex(), config.media_type.as_ref());
    let base = Image::from_blobs(manifest, config).unwrap();
    let digest = base.manifest().descriptor().digest;
    for layer in base.layers() {
        assert_eq!(store.put(&fs::read(theirs.join(layer.digest.hex())).unwrap()), layer.digest);
    }
    let top = store.layer(Compression::Gzip, &[("ours", "ours\n")]);
    let config = ImageConfig {
        env: vec![("OURS".to_owned(), "2".to_owned())],
        cmd: Some(vec!["/ours".to_owned()]),
        ..ImageConfig::new("linux/amd64".parse().unwrap())
    };
    let on = BaseImage { image: &base, name: Some("localhost/base"), digest };
    let image = Image::assemble_on(&on, &config, &[top], &BTreeMap::new()).unwrap();
    store.put_blob(image.manifest());
    store.put_blob(image.config());
    store.write(&[reference("app", image.descriptor())]);
    assert_eq!(validate::layout(&store.path("dist")).unwrap().images.len(), 2);

    let inspect = |what: &[&str]| -> Value {
        let source = dist(&store, "app");
        serde_json::from_str(&run(&store, "skopeo", &[what, &[source.as_str()]].concat())).unwrap()
    };
    let layers = inspect(&["inspect"])["Layers"].clone();
    let expected: Vec<_> = image.layers().iter().map(|layer| layer.digest.to_string()).collect();
    assert_eq!(layers, Value::from(expected));
    let config = inspect(&["inspect", "--config", "--raw"]);
    assert_eq!(config["config"]["Healthcheck"]["Test"], serde_json::json!(["CMD-SHELL", "/bin/true"]));
    assert_eq!(config["config"]["OnBuild"], serde_json::json!(["RUN x"]));
    let env: Vec<_> =
        config["config"]["Env"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert_eq!(env, ["PATH=/usr/bin:/bin", "A=1", "BASE=1", "OURS=2"]);
    assert_eq!(pull("app", &image).trim(), image.config().descriptor().digest.hex());
    let (source, bundle) = (format!("{}:app", store.path("dist").display()), store.path("bundle"));
    run(&store, "umoci", &["unpack", "--rootless", "--image", &source, bundle.to_str().unwrap()]);
    let files = snapshot(&bundle.join("rootfs"));
    assert_eq!(files[Path::new("ours")], b"ours\n");
    assert!(files.contains_key(Path::new("theirs")) && files.contains_key(Path::new("srv1/file")));
}

fn podman_id(store: &Store, name: &str) -> String {
    podman(store, &["image", "inspect", "--format", "{{.Id}}", name]).trim().to_owned()
}

#[test]
fn podman_loads_an_archive() {
    let store = Store::new();
    let image = image(&store, "linux/amd64", ALL);
    let archive = store.write_archive(&[reference("example.org/app:1", image.descriptor())]);
    podman(&store, &["load", "-i", archive.to_str().unwrap()]);
    assert_eq!(podman_id(&store, "example.org/app:1"), image.config().descriptor().digest.hex());
}

/// `podman load` wants one image in an archive; of several, `podman pull` takes the one that is named.
#[test]
fn podman_pulls_one_of_several_images() {
    let store = Store::new();
    let (first, second) = (image(&store, "linux/amd64", ALL), image(&store, "linux/amd64", GZIP));
    let archive = store.write_archive(&[
        reference("example.org/first:1", first.descriptor()),
        reference("example.org/second:1", second.descriptor()),
    ]);
    for (name, image) in [("example.org/first:1", &first), ("example.org/second:1", &second)] {
        let id = podman(&store, &["pull", &format!("oci-archive:{}:{name}", archive.display())]);
        assert_eq!(id.trim(), image.config().descriptor().digest.hex());
    }
}

fn config_ids(images: &[&Image]) -> Vec<String> {
    images.iter().map(|image| image.config().descriptor().digest.hex()).collect()
}

fn write_docker_archive(store: &Store, images: &[Named<'_>]) -> String {
    let (path, folder) = (store.path("docker.tar"), store.path("store"));
    docker_archive::write_file(&path, images, &|digest| folder.join(digest.hex()), &|_| None).unwrap();
    path.display().to_string()
}

/// What `docker load` reads, as podman and skopeo see it.
#[test]
fn podman_and_skopeo_read_a_docker_archive() {
    let store = Store::new();
    let (first, second) = (image(&store, "linux/amd64", ALL), image(&store, "linux/amd64", COMPRESSED));
    let named = |image, name: &str| Named { image, names: vec![name.to_owned()] };
    let images = [named(&first, "example.org/first:1"), named(&second, "second:1")];
    let archive = write_docker_archive(&store, &images);
    podman(&store, &["load", "--quiet", "-i", &archive]);
    let found = ["example.org/first:1", "second:1"].map(|name| podman_id(&store, name));
    assert_eq!(found.as_slice(), config_ids(&[&first, &second]));
    for (name, image) in [("example.org/first:1", &first), ("second:1", &second)] {
        let source = format!("docker-archive:{archive}:{name}");
        let raw = run(&store, "skopeo", &["inspect", "--config", "--raw", &source]);
        assert_eq!(raw.as_bytes(), image.config().bytes());
        let copy = store.path(name.split(['/', ':']).next().unwrap());
        run(&store, "skopeo", &["copy", &source, &format!("oci:{}:x", copy.display())]);
        assert_eq!(validate::layout(&copy).unwrap().images[0].layers, image.layers().len());
    }
}

/// Archives in Docker's format and in OCI's, by everybody who writes them.
#[test]
fn archives_of_other_tools_are_read() {
    let store = Store::new();
    let (first, second) = (image(&store, "linux/amd64", GZIP), image(&store, "linux/amd64", &GZIP[..1]));
    let refs = [reference("first:1", first.descriptor()), reference("second:1", second.descriptor())];
    store.write(&refs);
    for name in ["first:1", "second:1"] {
        let archive = store.write_archive(&refs);
        let id = podman(&store, &["pull", "--quiet", &format!("oci-archive:{}:{name}", archive.display())]);
        podman(&store, &["tag", id.trim(), name]);
    }
    let file = |name: &str| store.path(name).with_extension("tar").display().to_string();
    let save = ["save", "--quiet", "--format"];
    let both = ["docker-archive", "-m", "-o", &file("podman"), "first:1", "second:1"];
    podman(&store, &[&save[..], &both].concat());
    podman(&store, &[&save[..], &["oci-archive", "-o", &file("podman-oci"), "first:1"]].concat());
    let (docker, oci) = (
        format!("docker-archive:{}:first:1", file("skopeo")),
        format!("oci-archive:{}:first:1", file("skopeo-oci")),
    );
    for target in [&docker, &oci] {
        run(&store, "skopeo", &["copy", &dist(&store, "first:1"), target]);
    }
    buildah(&store, &["pull", "--quiet", &format!("oci-archive:{}", file("skopeo-oci"))]);
    let id = first.config().descriptor().digest.hex();
    let (docker, oci) = (
        format!("docker-archive:{}:first:1", file("buildah")),
        format!("oci-archive:{}:first:1", file("buildah-oci")),
    );
    for target in [&docker, &oci] {
        buildah(&store, &["push", "--quiet", &id, target]);
    }

    let layers = |image: &Image| image.layers().iter().map(|layer| layer.diff_id).collect::<Vec<_>>();
    let check = |name: &str, medium: &Medium, of: Option<&str>, expected: &Image| {
        validate::medium(medium).unwrap();
        let found = read::image(medium, of, None).unwrap();
        assert_eq!(layers(&found), layers(expected), "{name}");
        assert_eq!(found.platform(), expected.platform(), "{name}");
    };
    let tools = [("skopeo", "first:1"), ("buildah", "docker.io/first:1"), ("podman", "localhost/first:1")];
    for (name, tag) in tools {
        let medium = docker_archive::open(Path::new(&file(name))).unwrap();
        check(name, &medium, Some(tag), &first);
        // As it travels.
        run(&store, "gzip", &["--keep", &file(name)]);
        let medium = docker_archive::open(Path::new(&format!("{}.gz", file(name)))).unwrap();
        check(name, &medium, Some(tag), &first);
        let medium = archive::open(Path::new(&file(&format!("{name}-oci")))).unwrap();
        check(name, &medium, None, &first);
    }
    let medium = docker_archive::open(Path::new(&file("podman"))).unwrap();
    check("podman", &medium, Some("localhost/second:1"), &second);
}
