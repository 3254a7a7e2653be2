//! `imgforge diff`: two images wherever they are, and what it says of those that can't be read.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can not go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use imgforge_oci::docker_archive::{self, Named};
use imgforge_oci::{DiffId, Digest, Image, ImageConfig, Index, Layer, Ref, archive, layout};
use serde_json::Value;
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

/// A path and its text.
type File<'a> = (&'a str, &'a str);

/// Blobs, and places that have images made of them.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        fs::create_dir(place.path("blobs")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.path("blobs").join(digest.hex())
    }

    fn put(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        fs::write(self.blob(&digest), bytes).unwrap();
        digest
    }

    /// A layer, not compressed: 2048 bytes for one small file.
    fn layer(&self, history: &str, files: &[File<'_>]) -> Layer {
        let mut tar = Builder::new(Vec::new());
        for (path, text) in files {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Regular);
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        self.layer_of(history, &tar.into_inner().unwrap())
    }

    fn layer_of(&self, history: &str, tar: &[u8]) -> Layer {
        let digest = self.put(tar);
        Layer {
            digest,
            diff_id: DiffId(digest),
            size: tar.len() as u64,
            media_type: "application/vnd.oci.image.layer.v1.tar".into(),
            history: history.to_owned(),
            annotations: BTreeMap::new(),
        }
    }

    fn image(&self, platform: &str, layers: &[Layer], change: impl FnOnce(&mut ImageConfig)) -> Image {
        let mut config = ImageConfig::new(platform.parse().unwrap());
        change(&mut config);
        let image = Image::assemble(&config, layers, &BTreeMap::new()).unwrap();
        self.put(image.manifest().bytes());
        self.put(image.config().bytes());
        image
    }

    fn layout(&self, dir: &str, images: &[(&str, &Image)]) {
        let refs: Vec<Ref> =
            images.iter().map(|(name, image)| Ref::new(*name, image.descriptor()).unwrap()).collect();
        layout::write(&self.path(dir), &refs, &|digest| self.blob(digest)).unwrap();
    }

    /// `dist`, with two versions of an application and nothing of the host's.
    fn with_two() -> (Self, Image, Image) {
        let place = Self::new();
        let base = place.layer("FROM debian", &[("var/lib/dpkg/status", &status("1.0"))]);
        let app = |version: &str| {
            let metadata = format!("Name: App\nVersion: {version}\n");
            let site = "opt/venv/lib/python3.11/site-packages";
            place.layer(
                "RUN pip install app",
                &[(&format!("{site}/app-{version}.dist-info/METADATA"), &metadata)],
            )
        };
        let update = place.layer("RUN apt-get \u{1b}[2J", &[("var/lib/dpkg/status", &status("1.1"))]);
        let one = place.image("linux/amd64", &[base.clone(), app("1")], |config| {
            config.env = vec![("APP".to_owned(), "1".to_owned())];
        });
        let two = place.image("linux/amd64", &[base, update, app("2")], |config| {
            config.env = vec![("APP".to_owned(), "2".to_owned())];
            config.user = Some("app".to_owned());
        });
        place.layout("dist", &[("app:1", &one), ("app:2", &two), ("other:1", &one)]);
        (place, one, two)
    }

    fn diff(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgforge"));
        command.arg("diff").args(arguments).current_dir(self.0.path()).env_clear();
        command.env("HOME", self.path("home")).env("IMGFORGE_STORE", self.path("store"));
        command
    }

    /// What is printed, with digests cut out.
    #[track_caller]
    fn said(&self, arguments: &[&str]) -> String {
        let output = self.diff(arguments).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}");
        let text = String::from_utf8(output.stdout).unwrap();
        let words = text.split_inclusive([' ', '\n', ',']).map(|word| {
            let digits = word.trim_end().trim_end_matches(',').trim_start_matches("sha256:");
            match digits.len() >= 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                true => word.replace(digits, "#"),
                false => word.to_owned(),
            }
        });
        words.collect()
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.diff(&[&["--json"], arguments].concat()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    #[track_caller]
    fn check_refused(&self, arguments: &[&str], expected: &[&str]) {
        let output = self.diff(arguments).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), [].as_slice()), "{errors}");
        for part in expected {
            assert!(errors.contains(part), "{part:?} is not in:\n{errors}");
        }
    }
}

fn status(version: &str) -> String {
    let stanza = |name: &str, version: &str| {
        format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n")
    };
    stanza("libc6", "2.36-9") + &stanza("openssl", version)
}

#[test]
fn two_images_of_the_output() {
    let (place, ..) = Place::with_two();
    let expected = "\
a: oci:dist:app:1 linux/amd64 sha256:#, 4.1 kB in 2 layers
b: oci:dist:app:2 linux/amd64 sha256:#, 6.1 kB in 3 layers
base: 1 layer in common (2.0 kB)
layers: 1 in both (2.0 kB), 1 only in a (2.0 kB), 2 only in b (4.1 kB)
  - #     2.0 kB  RUN pip install app
  + #     2.0 kB  RUN apt-get \\u{1b}[2J
  + #     2.0 kB  RUN pip install app
packages: 0 added, 0 removed, 2 changed
  deb /
    ~ openssl 1.0 → 1.1
  pypi /opt/venv
    ~ app 1 → 2
configuration:
  + user app
  ~ env APP 1 → 2
to ship: 5.4 kB in 4 blobs to a host that has a
";
    let said = place.said(&["app:1", "app:2"]);
    assert_eq!(said, expected, "\n{said}");
    assert!(place.said(&["other", "app:1"]).ends_with("they are the same image\n"));
}

#[test]
fn the_json_is_as_documented() {
    let (place, one, two) = Place::with_two();
    let found = place.json(&["app:1", "app:2"]);
    let keys = |value: &Value| {
        let mut keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys.join(" ")
    };
    assert_eq!(keys(&found), "a b images platforms_only_in_a platforms_only_in_b version");
    assert_eq!((found["version"].as_u64(), found["a"].as_str()), (Some(1), Some("oci:dist:app:1")));
    let image = &found["images"][0];
    assert_eq!(keys(image), "a b base config layers packages runtimes ship");
    assert_eq!(keys(&image["a"]), "layers manifest platform size");
    assert_eq!(image["a"]["manifest"], one.descriptor().digest.to_string());
    assert_eq!(keys(&image["base"]), "a b common_bytes common_layers");
    assert_eq!(keys(&image["layers"]), "common only_a only_b");
    assert_eq!(keys(&image["layers"]["only_a"][0]), "content digest recompressed size");
    let package =
        serde_json::json!({"kind": "deb", "prefix": "/", "name": "openssl", "from": "1.0", "to": "1.1"});
    assert_eq!(image["packages"][0], package);
    let config = serde_json::json!({"setting": "user", "name": null, "from": null, "to": "app"});
    assert_eq!(image["config"][0], config);
    let shipped = two.manifest().descriptor().size + two.config().descriptor().size + 2 * 2048;
    assert_eq!(image["ship"], serde_json::json!({"blobs": 4, "bytes": shipped}));
}

#[test]
fn places_of_every_kind() {
    let (place, one, two) = Place::with_two();
    place.layout("one", &[("x", &one)]);
    let path_of = |digest: &Digest| place.blob(digest);
    let reference = Ref::new("app:2", two.descriptor()).unwrap();
    archive::write_file(&place.path("two.tar"), &[reference], &path_of).unwrap();
    let named = Named { image: &two, names: vec!["docker.io/library/app:2".to_owned()] };
    docker_archive::write_file(&place.path("docker.tar"), &[named], &path_of, &|_| None).unwrap();
    let expected = place.json(&["app:1", "app:2"])["images"][0]["packages"].clone();
    for (a, b) in [
        ("one", "two.tar"),
        ("oci:one", "oci-archive:two.tar"),
        ("oci:one:x", "oci-archive:two.tar:app:2"),
        ("./one", "docker.tar"),
        ("app:1", "docker-archive:docker.tar:app:2"),
    ] {
        let found = place.json(&[a, b]);
        assert_eq!(found["images"][0]["packages"], expected, "{a} {b}");
    }
    let found = place.json(&["two.tar", "docker.tar"]);
    assert_eq!(found["images"][0]["base"]["common_layers"], 3);
    assert_eq!(found["images"][0]["packages"], serde_json::json!([]));
    // Another folder and another archive as the place of names.
    assert_eq!(place.json(&["--output", "two.tar", "app", "one"])["a"], "oci-archive:two.tar:app:2");
    fs::rename(place.path("dist"), place.path("away")).unwrap();
    fs::create_dir(place.path("dist")).unwrap();
    assert_eq!(place.json(&["one", "two.tar"])["b"], "oci-archive:two.tar");
}

#[test]
fn platforms() {
    let place = Place::new();
    let image = |platform: &str, version: &str| {
        let layer = place.layer("COPY", &[("var/lib/dpkg/status", &status(version))]);
        place.image(platform, &[layer], |_| {})
    };
    let index = |images: &[Image]| {
        let index = Index::assemble(images, &BTreeMap::new()).unwrap();
        place.put(index.blob().bytes());
        index
    };
    let one = index(&[image("linux/amd64", "1"), image("linux/arm64", "1"), image("linux/s390x", "1")]);
    let two = index(&[image("linux/arm64", "2"), image("linux/amd64", "1")]);
    let refs = [("one", &one), ("two", &two)]
        .map(|(name, index)| Ref::new(name, index.blob().descriptor().clone()).unwrap());
    layout::write(&place.path("dist"), &refs, &|digest| place.blob(digest)).unwrap();
    place.layout("alone", &[("x", &image("linux/s390x", "1"))]);

    let found = place.json(&["one", "two"]);
    let platforms: Vec<_> =
        found["images"].as_array().unwrap().iter().map(|it| it["a"]["platform"].as_str().unwrap()).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    assert_eq!(found["platforms_only_in_a"], serde_json::json!(["linux/s390x"]));
    let said = place.said(&["one", "two", "--platform", "linux/arm64"]);
    assert!(said.contains("~ openssl 1 → 2") && !said.contains("amd64") && !said.contains("s390x"), "{said}");
    place.check_refused(
        &["two", "alone"],
        &["have no platform in common", "linux/amd64, linux/arm64", "s390x"],
    );
    place.check_refused(&["one", "two", "--platform", "linux/s390x"], &["not there for linux/s390x"]);
}

#[test]
fn what_is_not_there_is_named() {
    let (place, ..) = Place::with_two();
    place.check_refused(
        &["app:1", "ap"],
        &["`ap` is no image of dist (it has app:1, app:2, other:1)", "hint: give"],
    );
    place.check_refused(&["app", "other"], &["`app` may be app:1 or app:2 of dist"]);
    place.check_refused(&["app:1", "oci:none"], &["there is no none"]);
    place.check_refused(&["app:1", "oci:dist:x"], &["dist has no image `x`; it has: app:1, app:2, other:1"]);
    place.check_refused(&["app:1", "docker://debian"], &["write HOST/NAME"]);
    let registry = ["--offline", "app:1", "docker://127.0.0.1:1/a:1"];
    place.check_refused(
        &registry,
        &["127.0.0.1:1/a:1 is in a registry, which --offline leaves alone", "hint: "],
    );
}

#[test]
fn layers_that_are_wrong_are_named() {
    let (place, one, two) = Place::with_two();
    let last = two.layers().last().unwrap();
    // A copy, because the file in the layout shares its bytes with others.
    let blob = place.path("dist/blobs/sha256").join(last.digest.hex());
    let mut bytes = fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, &bytes).unwrap();
    let layer = format!("layer {} (RUN pip install app)", last.digest);
    place.check_refused(&["app:1", "app:2"], &[&layer, "digest mismatch for its stored bytes"]);
    fs::write(&blob, &bytes[..20]).unwrap();
    place.check_refused(&["app:1", "app:2"], &[&layer, "size mismatch"]);
    fs::remove_file(&blob).unwrap();
    place.check_refused(&["app:1", "app:2"], &[&last.digest.hex(), "is missing"]);

    let mut tar = Builder::new(Vec::new());
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..7].copy_from_slice(b"../evil");
    header.set_size(0);
    header.set_cksum();
    tar.append(&header, [].as_slice()).unwrap();
    let hostile = place.layer_of("COPY evil", &tar.into_inner().unwrap());
    place.layout("hostile", &[("x", &place.image("linux/amd64", &[hostile], |_| {}))]);
    place.check_refused(
        &["app:1", "hostile"],
        &["(COPY evil)", "entry `../evil`: a path that leaves its root"],
    );

    // Another image says something else of a layer that was read before.
    let mut claimed = one.layers()[1].clone();
    claimed.diff_id = DiffId(Digest::of(b"else"));
    place.said(&["app:1", "one"].map(|_| "app:1"));
    place.layout("liar", &[("x", &place.image("linux/amd64", &[claimed], |_| {}))]);
    place.check_refused(&["app:1", "liar"], &["digest mismatch for its diff ID"]);
}

/// Docker's registry, as Debian has it, until the test ends.
struct Registry(Child, String);

impl Registry {
    fn start(place: &Place) -> Self {
        // Somebody else might take the port before the registry does, which only this test would notice.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \
             '{address}'}}\n",
            place.path("registry").display()
        );
        fs::write(place.path("registry.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", place.path("registry.yml").to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let registry = Self(child.unwrap_or_else(|error| missing("docker-registry", &error)), address);
        let start = Instant::now();
        while TcpStream::connect(&registry.1).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "docker-registry does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn missing(program: &str, error: &std::io::Error) -> ! {
    panic!("{program}: {error}; run: apt-get install {program}")
}

#[test]
fn images_of_a_registry() {
    let (place, ..) = Place::with_two();
    let registry = Registry::start(&place);
    for tag in ["1", "2"] {
        let status = Command::new("skopeo")
            .args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"])
            .arg(format!("oci:{}:app:{tag}", place.path("dist").display()))
            .arg(format!("docker://{}/team/app:{tag}", registry.1))
            .status();
        assert!(status.unwrap_or_else(|error| missing("skopeo", &error)).success());
    }
    let at = |tag: &str| format!("docker://{}/team/app:{tag}", registry.1);
    let expected = place.json(&["app:1", "app:2"])["images"][0]["packages"].clone();
    fs::remove_dir_all(place.path("store")).unwrap();
    assert_eq!(place.json(&[&at("1"), &at("2")])["images"][0]["packages"], expected);
    // What was found in the layers is known from now on.
    fs::remove_dir_all(place.path("store/blobs")).unwrap();
    let said = place.diff(&[&at("1"), &at("2")]).output().unwrap();
    assert_eq!(String::from_utf8(said.stderr).unwrap(), "");
    // Compressed on the way there, the layers are others to a host and the same to whoever looks at their content.
    fs::remove_dir_all(place.path("store")).unwrap();
    let found = &place.json(&["app:1", &at("1")])["images"][0];
    assert_eq!((&found["base"]["common_layers"], &found["packages"]), (&2.into(), &serde_json::json!([])));
    assert_eq!(found["layers"]["only_b"][0]["recompressed"], true);
    assert_eq!(found["ship"]["blobs"], 3);
    assert!(fs::read_dir(place.path("store/blobs/sha256")).unwrap().next().is_none(), "nothing was fetched");
    place.check_refused(&["app:1", &at("3")], &["the registry has no", "team/app:3"]);
}
