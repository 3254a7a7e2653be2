//! Environments that are resolved, from channels that consist of their indexes alone: what is chosen depends on nothing else.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // All of it is test code, helpers too.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use imgforge_resolver_conda::{
    ChannelPriority, Channels, CondaEnvironment, CondaTarget, Error, Location, environment_yml, solve,
};
use serde_json::{Map, Value, json};

/// A folder of channels.
struct World {
    folder: tempfile::TempDir,
}

/// A package of a channel: `NAME-VERSION-BUILD`, what it depends on, and keys that its record has besides.
type Package<'a> = (&'a str, &'a [&'a str], Value);

fn plain<'a>(file: &'a str, depends: &'a [&'a str]) -> Package<'a> {
    (file, depends, json!({}))
}

/// The index of a channel's folder.
fn index(subdir: &str, packages: &[Package<'_>]) -> String {
    let mut records = Map::new();
    for (stem, depends, other) in packages {
        let [build, version, name] = stem.rsplitn(3, '-').collect::<Vec<_>>()[..] else { panic!("{stem}") };
        let number = build.rsplit('_').next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let mut record = json!({
            "name": name, "version": version, "build": build, "build_number": number, "depends": depends,
            "subdir": subdir, "size": 1000, "sha256": "a".repeat(64), "md5": "b".repeat(32),
        });
        if subdir == "noarch" {
            record["noarch"] = "python".into();
        }
        for (key, value) in other.as_object().expect("keys") {
            record[key] = value.clone();
            if value.is_null() {
                record.as_object_mut().expect("a record").remove(key);
            }
        }
        records.insert(format!("{stem}.conda"), record);
    }
    json!({ "info": { "subdir": subdir }, "packages": {}, "packages.conda": records }).to_string()
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn channel(&self, name: &str, linux: &[Package<'_>], noarch: &[Package<'_>]) {
        for (subdir, packages) in [("linux-64", linux), ("noarch", noarch)] {
            let folder = self.path(name).join(subdir);
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(folder.join("repodata.json"), index(subdir, packages)).expect("an index");
        }
    }

    fn channels(&self, names: &[&str]) -> Channels {
        Channels {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            cache: self.path("cache"),
            ..Channels::default()
        }
    }

    fn solve(&self, specs: &[&str], channels: &Channels) -> Result<CondaEnvironment, Error> {
        let specs: Vec<String> = specs.iter().map(|&spec| spec.to_owned()).collect();
        solve(&specs, &self.path("images.toml"), &target(&[("__glibc", "2.36")]), channels)
    }

    #[track_caller]
    fn check(&self, specs: &[&str], channels: &Channels, expect: &[&str]) {
        let found = self.solve(specs, channels).expect("an environment");
        assert_eq!(stems(&found), expect, "{specs:?}");
    }

    #[track_caller]
    fn refused(&self, specs: &[&str], channels: &Channels, expect: &[&str]) {
        refused(self.solve(specs, channels), expect);
    }
}

#[track_caller]
fn refused(result: Result<CondaEnvironment, Error>, expect: &[&str]) {
    let error = result.expect_err("an error");
    assert!(!matches!(error, Error::Internal { .. }), "{error}");
    let error = error.to_string();
    for expect in expect {
        assert!(error.contains(expect), "{error}");
    }
    assert!(!error.contains('\u{1b}'), "{error:?}");
}

fn stems(found: &CondaEnvironment) -> Vec<&str> {
    found.packages.iter().map(|package| package.file.trim_end_matches(".conda")).collect()
}

fn target(virtual_packages: &[(&str, &str)]) -> CondaTarget {
    let owned = |&(name, version): &(&str, &str)| (name.to_owned(), version.to_owned());
    CondaTarget {
        subdir: "linux-64".to_owned(),
        virtual_packages: virtual_packages.iter().map(owned).collect(),
    }
}

/// A channel with two versions of most things.
fn usual(world: &World) {
    world.channel(
        "channel",
        &[
            plain("python-3.11.9-h1_0_cpython", &["libz >=1.3", "__glibc >=2.17,<3.0.a0"]),
            plain("python-3.12.5-h1_0_cpython", &["libz >=1.3", "__glibc >=2.17,<3.0.a0"]),
            plain("libz-1.2.0-h1_0", &[]),
            plain("libz-1.3.1-h1_0", &[]),
            plain("libz-1.3.1-h1_1", &[]),
            plain("numpy-1.26.4-py311h1_0", &["python 3.11.*", "libz"]),
            plain("numpy-1.26.4-py312h1_0", &["python 3.12.*", "libz"]),
            plain("numpy-2.1.0-py312h1_0", &["python 3.12.*", "libz"]),
            plain("old-1.0-h1_0", &["libz <1.3"]),
            plain("torch-2.9.0-cpu_0", &["python"]),
            plain("torch-2.9.0-cuda128_1", &["python", "__cuda >=12.8"]),
        ],
        &[plain("requests-2.0-py_0", &["python >=3.8"])],
    );
}

#[test]
fn the_highest_that_fits_in_the_order_of_their_links() {
    let world = World::new();
    usual(&world);
    let channels = world.channels(&["./channel"]);
    let python = ["libz-1.3.1-h1_1", "python-3.12.5-h1_0_cpython"];
    world.check(&["requests"], &channels, &[python[0], python[1], "requests-2.0-py_0"]);
    world.check(&["numpy"], &channels, &[python[0], python[1], "numpy-2.1.0-py312h1_0"]);
    world.check(
        &["numpy", "python=3.11"],
        &channels,
        &[python[0], "python-3.11.9-h1_0_cpython", "numpy-1.26.4-py311h1_0"],
    );
    world.check(&["numpy <2"], &channels, &[python[0], python[1], "numpy-1.26.4-py312h1_0"]);
}

#[test]
fn build_strings() {
    let world = World::new();
    usual(&world);
    let channels = world.channels(&["./channel"]);
    world.check(&["libz=1.3.1=h1_0"], &channels, &["libz-1.3.1-h1_0"]);
    world.check(
        &["numpy 1.26.* py311*"],
        &channels,
        &["libz-1.3.1-h1_1", "python-3.11.9-h1_0_cpython", "numpy-1.26.4-py311h1_0"],
    );
    world.check(&["libz[build_number=0]"], &channels, &["libz-1.3.1-h1_0"]);
}

#[test]
fn records() {
    let world = World::new();
    usual(&world);
    let found = world.solve(&["requests"], &world.channels(&["./channel"])).expect("an environment");
    let requests = found.packages.last().expect("a package");
    assert_eq!(requests.location, Location::Path(world.path("channel/noarch/requests-2.0-py_0.conda")));
    assert_eq!((requests.subdir.as_str(), requests.size), ("noarch", Some(1000)));
    let record = requests.record.as_ref().expect("a record");
    assert_eq!(record["url"], "file:///channel/noarch/requests-2.0-py_0.conda");
    assert_eq!(record["channel"], "file:///channel/");
    assert_eq!(record["depends"], json!(["python >=3.8"]));
    let place = world.folder.path().to_str().expect("a path");
    for package in &found.packages {
        assert!(!package.record.as_ref().expect("a record").to_string().contains(place));
    }
    let python = found.python.as_ref().expect("a Python");
    assert_eq!(python.site_packages, "lib/python3.12/site-packages");

    // The same channel, written as a URL, keeps it.
    let url = format!("file://{}", world.path("channel").display());
    let found = world.solve(&["libz"], &world.channels(&[&url])).expect("an environment");
    let record = found.packages.first().expect("a package").record.as_ref().expect("a record");
    assert_eq!(record["url"], format!("{url}/linux-64/libz-1.3.1-h1_1.conda"));
}

#[test]
fn virtual_packages() {
    let world = World::new();
    usual(&world);
    let channels = world.channels(&["./channel"]);
    let file = world.path("images.toml");
    let specs = ["torch".to_owned()];
    let torch = |virtual_packages: &[(&str, &str)]| {
        let found = solve(&specs, &file, &target(virtual_packages), &channels);
        stems(&found.expect("an environment")).last().expect("a package").to_string()
    };
    assert_eq!(torch(&[("__glibc", "2.36")]), "torch-2.9.0-cpu_0");
    assert_eq!(torch(&[("__glibc", "2.36"), ("__cuda", "12.8")]), "torch-2.9.0-cuda128_1");
    assert_eq!(torch(&[("__glibc", "2.36"), ("__cuda", "12.4")]), "torch-2.9.0-cpu_0");
    refused(
        solve(&specs, &file, &target(&[]), &channels),
        &["__glibc", "virtual packages: __archspec=1=x86_64, __linux=4.18, __unix=0"],
    );
    let cuda = ["torch=*=cuda*".to_owned()];
    refused(solve(&cuda, &file, &target(&[("__glibc", "2.36")]), &channels), &["torch", "__cuda >=12.8"]);

    let wrong = |name: &str, version: &str| solve(&specs, &file, &target(&[(name, version)]), &channels);
    refused(wrong("glibc", "2.36"), &["virtual package glibc = \"2.36\": names of virtual packages begin"]);
    refused(wrong("__glibc", "2..3"), &["virtual package __glibc = \"2..3\": that is no version"]);
    refused(wrong("__gl ibc", "2"), &["virtual package __gl ibc = \"2\""]);
    let twice = target(&[("__cuda", "12"), ("__cuda", "13")]);
    refused(solve(&specs, &file, &twice, &channels), &["virtual package __cuda = \"12\": it is given twice"]);
}

#[test]
fn priority_of_channels() {
    let world = World::new();
    world.channel("first", &[plain("a-1.0-0", &[])], &[]);
    world.channel("second", &[plain("a-2.0-0", &[]), plain("b-1.0-0", &["a"])], &[]);
    let with = |priority: ChannelPriority| Channels { priority, ..world.channels(&["./first", "./second"]) };
    world.check(&["b"], &with(ChannelPriority::Strict), &["a-1.0-0", "b-1.0-0"]);
    world.check(&["b"], &with(ChannelPriority::Flexible), &["a-1.0-0", "b-1.0-0"]);
    world.check(&["b"], &with(ChannelPriority::Disabled), &["a-2.0-0", "b-1.0-0"]);
    world.refused(&["a >=2"], &with(ChannelPriority::Strict), &["a >=2", "strict channel priority"]);
    world.check(&["a >=2"], &with(ChannelPriority::Flexible), &["a-2.0-0"]);
    // A requirement's own channel decides, also one that is not in the list.
    world.check(&["./second::a"], &with(ChannelPriority::Strict), &["a-2.0-0"]);
    world.check(&["./second::a"], &world.channels(&["./first"]), &["a-2.0-0"]);
    world.refused(&["./first::b"], &with(ChannelPriority::Strict), &["no set of packages fits", "b"]);
}

#[test]
fn no_later_than() {
    let world = World::new();
    let at = |stem: &'static str, timestamp: Value| (stem, &[][..], json!({ "timestamp": timestamp }));
    world.channel(
        "channel",
        &[
            at("a-1.0-0", json!(1_700_000_000_000_u64)),
            at("a-2.0-0", json!(1_750_000_000_000_u64)),
            at("a-3.0-0", Value::Null),
        ],
        &[],
    );
    let until =
        |text: &str| Channels { exclude_newer: Some(text.to_owned()), ..world.channels(&["./channel"]) };
    world.check(&["a"], &world.channels(&["./channel"]), &["a-3.0-0"]);
    world.check(&["a"], &until("2025-01-01T00:00:00Z"), &["a-1.0-0"]);
    world.check(&["a"], &until("2026-01-01T00:00:00+02:00"), &["a-2.0-0"]);
    world.refused(&["a"], &until("2020-01-01T00:00:00Z"), &["uploaded after the cutoff date"]);
    world.refused(&["a"], &until("2025-01-01"), &["exclude-newer = \"2025-01-01\": write a moment"]);
}

#[test]
fn what_does_not_fit_is_explained() {
    let world = World::new();
    usual(&world);
    let channels = world.channels(&["./channel"]);
    world.refused(
        &["old", "python=3.12"],
        &channels,
        &["images.toml: no set of packages fits on linux-64", "old", "libz", ">=1.3", "<1.3"],
    );
    world.refused(&["nothing"], &channels, &["No candidates were found for nothing"]);
    world.refused(&["python >=4"], &channels, &["python >=4"]);
}

#[test]
fn requirements_that_are_none() {
    let world = World::new();
    usual(&world);
    let channels = world.channels(&["./channel"]);
    world.refused(&["python >="], &channels, &["images.toml: `python >=`"]);
    world.refused(&[""], &channels, &["images.toml: ``"]);
    world.refused(&["py*"], &channels, &["images.toml: `py*`"]);
    world.refused(&["./channel::*"], &channels, &["images.toml: `./channel::*`"]);
    world.refused(&["__cuda"], &channels, &["a virtual package is no requirement"]);
    world.refused(&["python[subdir=osx-64]"], &channels, &["a requirement can't have a subdir"]);
    world.refused(&["python[channel=conda-forge]"], &channels, &["write `CHANNEL::NAME`"]);
    world.refused(
        &["https://example.org/linux-64/a-1-0.conda"],
        &channels,
        &["a URL; write the packages' URLs"],
    );
    world.refused(&["\u{1b}[31mred"], &channels, &["images.toml: `[31mred`"]);
    world.refused(&["~/mine::python"], &channels, &["channel `~/mine`: write a name"]);
}

#[test]
fn channels_that_are_none() {
    let world = World::new();
    usual(&world);
    world.refused(&["python"], &world.channels(&[]), &["there are no channels"]);
    world.refused(
        &["python"],
        &world.channels(&["./nowhere"]),
        &["nowhere", "could not find subdir 'noarch'"],
    );
    world.refused(&["python"], &world.channels(&["ftp://example.org/a"]), &["`ftp` channels are not read"]);
    std::fs::write(world.path("channel/noarch/repodata.json"), "[]").expect("a file");
    world.refused(&["python"], &world.channels(&["./channel"]), &["the channels can't be used"]);
    let other = CondaTarget { subdir: "plan9-64".to_owned(), ..CondaTarget::default() };
    let found = solve(&["a".to_owned()], Path::new("x"), &other, &world.channels(&["./channel"]));
    refused(found, &["`plan9-64` is no platform of conda's"]);
}

#[test]
fn indexes_that_nobody_writes() {
    let world = World::new();
    let odd = |stem: &'static str, record: Value| (stem, &[][..], record);
    world.channel(
        "channel",
        &[
            odd("bare-1-0", json!({ "sha256": null, "md5": null })),
            odd("weak-1-0", json!({ "sha256": null })),
            odd("other-1-0", json!({ "version": "2" })),
            odd("foreign-1-0", json!({ "subdir": "osx-64" })),
            odd("../../up-1-0", json!({ "name": "up" })),
            odd("short-1-0", json!({ "sha256": "abc" })),
            odd("python-3.11.2-0", json!({ "python_site_packages_path": "/etc" })),
        ],
        &[],
    );
    let channels = world.channels(&["./channel"]);
    world.refused(
        &["bare"],
        &channels,
        &["bare 1 has no usable hash for bare-1-0.conda: the channel publishes none"],
    );
    let weak = world.solve(&["weak"], &channels).expect("an environment");
    let weak = weak.packages.first().expect("a package");
    assert_eq!((weak.sha256.as_deref(), weak.md5.clone()), (None, Some("b".repeat(32))));
    world.refused(&["other"], &channels, &["which is another package's: other-2-0 was expected"]);
    world.refused(&["foreign"], &channels, &["foreign 1 is made for osx-64"]);
    world.refused(&["up"], &channels, &["up"]);
    world.refused(&["short"], &channels, &["the channels can't be used"]);
    world.refused(&["python"], &channels, &["python 3.11.2 can't be fetched: its folder of modules"]);
}

#[test]
fn files_with_requirements() {
    let world = World::new();
    usual(&world);
    let read = |text: &str, names: &[&str]| {
        let file = world.path("project/environment.yml");
        environment_yml(text, &file, &target(&[("__glibc", "2.36")]), &world.channels(names))
    };
    let text = "name: demo\nchannels:\n- ../channel\n- nodefaults\ndependencies:\n- python=3.11\n- ../channel::requests\n";
    let expect = ["libz-1.3.1-h1_1", "python-3.11.9-h1_0_cpython", "requests-2.0-py_0"];
    assert_eq!(stems(&read(text, &[]).expect("an environment")), expect);
    // What the caller names stands in for the file's own channels.
    world.channel("project/mine", &[plain("requests-9.0-py_0", &[])], &[]);
    let bare = "channels: [../channel]\ndependencies: [requests]\n";
    assert_eq!(stems(&read(bare, &["./mine"]).expect("an environment")), ["requests-9.0-py_0"]);
    refused(read("dependencies: [python]\n", &[]), &["environment.yml: there are no channels"]);
    let deep = format!("dependencies: {}", "[".repeat(100_000));
    refused(read(&deep, &[]), &["environment.yml can't be read as environment.yml"]);
    refused(
        read("channels: [../channel]\ndependencies: ['python >=']\n", &[]),
        &["environment.yml: `python >=`"],
    );
}

/// What is resolved from the index of a real channel, beside what `record.py` wrote.
#[track_caller]
fn check_recorded(name: &str, specs: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/channel");
    let channels = Channels { names: vec![".".to_owned()], ..Channels::default() };
    let specs: Vec<String> = specs.iter().map(|&spec| spec.to_owned()).collect();
    let found = solve(&specs, &folder.join("environment.yml"), &target(&[("__glibc", "2.36")]), &channels);
    let found: Vec<String> = found
        .expect("an environment")
        .packages
        .iter()
        .map(|it| {
            assert!(it.record.as_ref().expect("a record").get("indexed_timestamp").is_none());
            let hash = it.sha256.as_ref().expect("a hash");
            format!("{}/{}-{}-{} {hash}", it.subdir, it.name, it.version, it.build)
        })
        .collect();
    let expect =
        std::fs::read_to_string(folder.join(format!("{name}.expect"))).expect("what rattler makes of it");
    assert_eq!(found, expect.lines().collect::<Vec<_>>());
}

#[test]
fn packages_of_a_real_channel() {
    check_recorded("python", &["python"]);
    check_recorded("all", &["python", "pip", "cowsay", "requests", "numpy", "oddities"]);
}

/// A server with a channel behind a password, and what it was asked.
fn serve(files: Vec<(&'static str, String)>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 8192];
            let read = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            log.lock().expect("the log").push(path.clone());
            // me:secret
            let allowed = request.to_lowercase().contains("authorization: basic bwu6c2vjcmv0");
            let (status, body) = match files.iter().find(|(name, _)| *name == path) {
                _ if !allowed => ("401 Unauthorized", ""),
                Some((_, body)) => ("200 OK", body.as_str()),
                None => ("404 Not Found", ""),
            };
            let head = request.starts_with("HEAD");
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{}",
                body.len(),
                if head { "" } else { body }
            );
        }
    });
    (address, asked)
}

#[test]
fn channels_on_the_network() {
    let world = World::new();
    let (address, asked) = serve(vec![
        ("/forge/linux-64/repodata.json", index("linux-64", &[plain("a-1.0-0", &["b"])])),
        ("/forge/noarch/repodata.json", index("noarch", &[plain("b-1.0-py_0", &[])])),
    ]);
    let url = format!("http://me:secret@{address}/forge");
    let channels = world.channels(&[&url]);
    let offline = Channels { offline: true, ..channels.clone() };
    world.refused(&["a"], &offline, &["the channels can't be used", "run once without --offline"]);
    assert!(asked.lock().expect("the log").is_empty());

    let found = world.solve(&["a"], &channels).expect("an environment");
    assert_eq!(stems(&found), ["b-1.0-py_0", "a-1.0-0"]);
    let a = found.packages.last().expect("a package");
    let place = format!("http://{address}/forge/linux-64/a-1.0-0.conda");
    assert_eq!(a.location, Location::Url(place.clone()));
    let record = a.record.as_ref().expect("a record");
    assert_eq!(
        (&record["url"], &record["channel"]),
        (&json!(place), &json!(format!("http://{address}/forge/")))
    );

    // What was learned is enough for the next time.
    let before = asked.lock().expect("the log").len();
    assert_eq!(world.solve(&["a"], &offline).expect("an environment"), found);
    assert_eq!(asked.lock().expect("the log").len(), before);

    let wrong = world.channels(&[&format!("http://me:other@{address}/forge")]);
    let error = world.solve(&["a"], &wrong).expect_err("an error").to_string();
    assert!(error.contains("401") && !error.contains("other@"), "{error}");
    let unsolvable = world.solve(&["a >=2"], &channels).expect_err("an error").to_string();
    assert!(!unsolvable.contains("secret"), "{unsolvable}");
}

#[test]
fn a_server_does_not_lead_to_files_of_this_machine() {
    let world = World::new();
    let mut linux: Value = serde_json::from_str(&index("linux-64", &[plain("a-1.0-0", &[])])).expect("JSON");
    linux["info"]["base_url"] = json!("file:///etc/");
    let (address, _) = serve(vec![
        ("/forge/linux-64/repodata.json", linux.to_string()),
        ("/forge/noarch/repodata.json", index("noarch", &[])),
    ]);
    let channels = world.channels(&[&format!("http://me:secret@{address}/forge")]);
    world.refused(
        &["a"],
        &channels,
        &["a 1.0 can't be fetched: its channel says that it is a file of this machine"],
    );
}
