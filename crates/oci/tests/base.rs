//! Images that start from others: what is taken over, word by word.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail so, in its helpers too")]

mod common;

use std::collections::BTreeMap;

use common::{Store, reference};
use imgforge_oci::{BaseImage, Compression, Digest, Error, Image, ImageConfig, Layer, MediaType, validate};
use proptest::prelude::*;
use serde_json::{Value, json};

/// What Docker has of an image that was built by hand and committed, with all that it writes.
fn docker_config() -> Value {
    json!({
        "architecture": "arm64",
        "variant": "v8",
        "os": "linux",
        "os.version": "6.1",
        "os.features": ["x"],
        "author": "somebody",
        "created": "2024-05-01T01:02:03.456789Z",
        "docker_version": "20.10.24",
        "container": "5f3c",
        "container_config": {"Hostname": "5f3c", "Cmd": ["/bin/sh"]},
        "moby.buildkit.cache.v0": "bm90IG91cnM=",
        "config": {
            "Hostname": "",
            "AttachStdin": false,
            "User": "www",
            "ExposedPorts": {"80/tcp": {}},
            "Env": ["PATH=/usr/bin", "LANG=C", "EMPTY="],
            "Cmd": ["serve", "--all"],
            "ArgsEscaped": true,
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30_000_000_000_u64},
            "Image": "sha256:0",
            "Volumes": null,
            "WorkingDir": "/srv",
            "Entrypoint": ["/init"],
            "OnBuild": ["COPY . /srv"],
            "Labels": {"maintainer": "somebody", "version": "1"},
            "Shell": ["/bin/bash", "-c"],
            "StopSignal": "SIGQUIT",
        },
        "history": [
            {"created": "2024-05-01T01:00:00Z", "created_by": "ADD rootfs.tar /"},
            {"created": "2024-05-01T01:00:01Z", "created_by": "ENV LANG=C", "empty_layer": true},
            {"created": "2024-05-01T01:00:02Z", "created_by": "RUN true", "comment": "buildkit.dockerfile.v0"},
        ],
    })
}

fn base_layers(store: &Store) -> [Layer; 2] {
    [
        store.layer(Compression::Gzip, &[("etc/", ""), ("etc/os", "x")]),
        store.layer(Compression::None, &[("b", "2")]),
    ]
}

fn own() -> ImageConfig {
    ImageConfig { created: 1_700_000_000, ..ImageConfig::new("linux/arm64".parse().unwrap()) }
}

fn on(base: &Image, config: &ImageConfig, layers: &[Layer]) -> Result<Image, Error> {
    let digest = base.manifest().descriptor().digest;
    let base = BaseImage { image: base, name: Some("docker.io/library/base:1"), digest };
    Image::assemble_on(&base, config, layers, &BTreeMap::new())
}

fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn nothing_but_a_layer_more() {
    let store = Store::new();
    let layers = base_layers(&store);
    let base = store.docker_image(docker_config(), &layers);
    let top = store.layer(Compression::Zstd, &[("c", "3")]);
    let image = on(&base, &own(), std::slice::from_ref(&top)).unwrap();

    let expected = json!({
        "architecture": "arm64",
        "variant": "v8",
        "os": "linux",
        "os.version": "6.1",
        "os.features": ["x"],
        "author": "somebody",
        "created": "2023-11-14T22:13:20Z",
        "config": {
            "Hostname": "",
            "AttachStdin": false,
            "User": "www",
            "ExposedPorts": {"80/tcp": {}},
            "Env": ["PATH=/usr/bin", "LANG=C", "EMPTY="],
            "Cmd": ["serve", "--all"],
            "ArgsEscaped": true,
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30_000_000_000_u64},
            "Image": "sha256:0",
            "WorkingDir": "/srv",
            "Entrypoint": ["/init"],
            "OnBuild": ["COPY . /srv"],
            "Labels": {"maintainer": "somebody", "version": "1"},
            "Shell": ["/bin/bash", "-c"],
            "StopSignal": "SIGQUIT",
        },
        "history": [
            {"created": "2024-05-01T01:00:00Z", "created_by": "ADD rootfs.tar /"},
            {"created": "2024-05-01T01:00:01Z", "created_by": "ENV LANG=C", "empty_layer": true},
            {"created": "2024-05-01T01:00:02Z", "created_by": "RUN true", "comment": "buildkit.dockerfile.v0"},
            {"created": "2023-11-14T22:13:20Z", "created_by": top.history},
        ],
        "rootfs": {
            "type": "layers",
            "diff_ids": [layers[0].diff_id, layers[1].diff_id, top.diff_id],
        },
    });
    assert_eq!(parse(image.config().bytes()), expected);
    assert_eq!(image.config().bytes(), imgforge_oci::json::canonical(&expected).unwrap());
    let manifest = parse(image.manifest().bytes());
    let media_types: Vec<_> =
        manifest["layers"].as_array().unwrap().iter().map(|it| &it["mediaType"]).collect();
    assert_eq!(
        media_types,
        [
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+zstd",
        ]
    );
    let expected: Vec<_> = layers.iter().chain([&top]).map(|layer| (layer.digest, layer.size)).collect();
    assert_eq!(image.layers().iter().map(|layer| (layer.digest, layer.size)).collect::<Vec<_>>(), expected);
    assert_eq!(
        manifest["annotations"],
        json!({
            "org.opencontainers.image.base.digest": base.manifest().descriptor().digest,
            "org.opencontainers.image.base.name": "docker.io/library/base:1",
        })
    );
    assert_eq!(image.platform().to_string(), "linux/arm64/v8");
    assert_eq!(image.variable("LANG"), Some("C"));
    assert_eq!(image.variable("LAN"), None);

    store.put_blob(image.manifest());
    store.put_blob(image.config());
    store.write(&[reference("app", image.descriptor())]);
    assert_eq!(validate::layout(&store.path("dist")).unwrap().images[0].layers, 3);
    assert_eq!(on(&base, &own(), &[top]).unwrap(), image);
}

/// The execution parameters of an image on a base with `config`, those named by `expected` only.
fn check(base: Value, change: impl Fn(&mut ImageConfig), expected: Value) {
    let store = Store::new();
    let mut whole = docker_config();
    whole["config"] = base;
    let base = store.docker_image(whole, &base_layers(&store));
    let mut config = own();
    change(&mut config);
    let image = on(&base, &config, &[]).unwrap();
    let found = &parse(image.config().bytes())["config"];
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(found.get(name).unwrap_or(&Value::Null), value, "{name} of {found}");
    }
}

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

#[test]
fn commands() {
    let both = || json!({"Entrypoint": ["/init"], "Cmd": ["serve"], "ArgsEscaped": true});
    check(both(), |_| (), both());
    check(
        both(),
        |c| c.cmd = words(&["other"]),
        json!({"Entrypoint": ["/init"], "Cmd": ["other"], "ArgsEscaped": null}),
    );
    check(
        both(),
        |c| c.entrypoint = words(&["/app"]),
        json!({"Entrypoint": ["/app"], "Cmd": null, "ArgsEscaped": null}),
    );
    check(both(), |c| c.entrypoint = words(&[]), json!({"Entrypoint": null, "Cmd": null}));
    check(both(), |c| c.cmd = words(&[]), json!({"Entrypoint": ["/init"], "Cmd": null}));
    check(
        both(),
        |c| (c.entrypoint, c.cmd) = (words(&["/app"]), words(&["x"])),
        json!({"Entrypoint": ["/app"], "Cmd": ["x"]}),
    );
    check(
        both(),
        |c| (c.entrypoint, c.cmd) = (words(&[]), words(&["x"])),
        json!({"Entrypoint": null, "Cmd": ["x"]}),
    );
}

#[test]
fn variables() {
    let set = |pairs: &'static [(&str, &str)]| {
        move |c: &mut ImageConfig| {
            c.env = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        }
    };
    let base = || json!({"Env": ["A=1", "B=2", "A=3", "BARE"]});
    check(base(), set(&[]), base());
    check(base(), set(&[("C", "x=y")]), json!({"Env": ["A=1", "B=2", "A=3", "BARE", "C=x=y"]}));
    check(base(), set(&[("A", "")]), json!({"Env": ["A=", "B=2", "BARE"]}));
    check(base(), set(&[("BARE", "1"), ("B", "5")]), json!({"Env": ["A=1", "B=5", "A=3", "BARE=1"]}));
    check(json!({"Env": null}), set(&[("C", "1")]), json!({"Env": ["C=1"]}));
    check(Value::Null, set(&[("C", "1")]), json!({"Env": ["C=1"]}));
}

#[test]
fn everything_else() {
    let base = || {
        json!({
            "User": "www", "WorkingDir": "/srv", "StopSignal": "SIGINT", "Labels": {"a": "1", "b": "2"},
            "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}, "Unheard": {"of": [1]},
        })
    };
    check(base(), |_| (), base());
    check(
        base(),
        |c| {
            c.user = Some("0".to_owned());
            c.workdir = Some("/".to_owned());
            c.stop_signal = Some("9".to_owned());
            c.labels = BTreeMap::from([("b".to_owned(), "3".to_owned()), ("c".to_owned(), "4".to_owned())]);
            c.exposed_ports = ["80".to_owned(), "443".to_owned()].into();
            c.volumes = ["/x".to_owned()].into();
        },
        json!({
            "User": "0", "WorkingDir": "/", "StopSignal": "9", "Labels": {"a": "1", "b": "3", "c": "4"},
            "ExposedPorts": {"80/tcp": {}, "443/tcp": {}}, "Volumes": {"/data": {}, "/x": {}},
            "Unheard": {"of": [1]},
        }),
    );
    check(json!({"Labels": null}), |_| (), json!({"Labels": null}));
    check(
        json!({"Labels": null}),
        |c| c.labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]),
        json!({"Labels": {"a": "1"}}),
    );
}

#[test]
fn a_base_without_a_history_that_fits() {
    let store = Store::new();
    let other = json!({"created_by": "ENV A=1", "empty_layer": true});
    let layer = json!({"created_by": "one of two"});
    for (history, other) in
        [(json!(null), 0), (json!([]), 0), (json!([other]), 1), (json!([layer, other]), 1)]
    {
        let mut config = docker_config();
        config["history"] = history;
        let base = store.docker_image(config, &base_layers(&store));
        let image = on(&base, &own(), &[store.layer(Compression::Gzip, &[("c", "3")])]).unwrap();
        let history = image.configuration().history().clone().unwrap();
        assert_eq!(history.len(), other + 3);
        assert_eq!(history[other].comment().as_deref(), Some("a layer of the base"));
    }
}

#[test]
fn platforms_have_to_agree() {
    let store = Store::new();
    let check = |base: (&str, Option<&str>), wanted: &str, expected: &str| {
        let mut config = docker_config();
        config["architecture"] = json!(base.0);
        config["variant"] = json!(base.1);
        let base = store.docker_image(config, &base_layers(&store));
        let config = ImageConfig { platform: wanted.parse().unwrap(), ..own() };
        let found = match on(&base, &config, &[]) {
            Ok(image) => image.platform().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(found.contains(expected), "expected {expected}\nfound {found}");
    };
    check(("arm64", None), "linux/arm64", "linux/arm64");
    check(("arm64", Some("v8")), "linux/arm64", "linux/arm64/v8");
    check(("arm", None), "linux/arm/v6", "linux/arm/v6");
    check(("arm", Some("v6")), "linux/arm/v7", "is for linux/arm/v6");
    check(
        ("amd64", None),
        "linux/arm64",
        "an image for linux/arm64 does not agree with itself: its base sha256:",
    );
    check(("arm64", None), "windows/arm64", "is for linux/arm64");
}

#[test]
fn numbers_that_would_be_rounded() {
    let exact = json!({"Healthcheck": {"Interval": [1_u64 << 53, -(1_i64 << 53), 1.5]}});
    check(exact.clone(), |_| (), exact);
    for number in [json!((1_u64 << 53) + 1), json!(i64::MIN), json!(u64::MAX)] {
        let store = Store::new();
        let mut config = docker_config();
        config["config"]["Healthcheck"]["Interval"] = number.clone();
        let base = store.docker_image(config, &base_layers(&store));
        let message = on(&base, &own(), &[]).unwrap_err().to_string();
        assert!(message.contains(&format!("it has the number {number}, which")), "{message}");
    }
}

#[test]
fn layers_of_vendors_are_refused() {
    let store = Store::new();
    for media_type in [
        MediaType::ImageLayerNonDistributableGzip,
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into(),
    ] {
        let layer = Layer { media_type, ..store.layer(Compression::Gzip, &[("a", "1")]) };
        let base =
            store.docker_image(json!({"os": "linux", "architecture": "arm64"}), std::slice::from_ref(&layer));
        // docker_image() gives gzip layers Docker's usual type.
        let mut manifest = parse(base.manifest().bytes());
        manifest["layers"][0]["mediaType"] = json!(layer.media_type.to_string());
        let manifest = imgforge_oci::Blob::new(
            base.manifest().descriptor().media_type.clone(),
            manifest.to_string().into(),
        );
        let base = Image::from_blobs(manifest, base.config().clone()).unwrap();
        let message = on(&base, &own(), &[]).unwrap_err().to_string();
        assert!(message.contains("it comes from its vendor alone"), "{message}");
        assert!(message.contains(&layer.digest.to_string()), "{message}");
    }
}

#[test]
fn a_base_of_ours_is_a_base_too() {
    let store = Store::new();
    let base = store.small("linux/arm64", "x");
    let image = on(&base, &own(), &[]).unwrap();
    assert_eq!(image.layers(), base.layers());
    let mut expected = parse(base.config().bytes());
    expected["created"] = json!("2023-11-14T22:13:20Z");
    assert_eq!(parse(image.config().bytes()), expected);
}

#[test]
fn annotations_of_the_caller_win() {
    let store = Store::new();
    let image = store.small("linux/arm64", "x");
    let base = BaseImage { image: &image, name: None, digest: Digest::of(b"index") };
    let annotations = |more: &[(&str, &str)]| {
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let image = Image::assemble_on(&base, &own(), &[], &more).unwrap();
        parse(image.manifest().bytes())["annotations"].clone()
    };
    let digest = Digest::of(b"index");
    assert_eq!(annotations(&[]), json!({"org.opencontainers.image.base.digest": digest}));
    assert_eq!(
        annotations(&[("a", "b"), ("org.opencontainers.image.base.digest", "x")]),
        json!({"a": "b", "org.opencontainers.image.base.digest": "x"})
    );
}

/// What a runtime gives a process that gets these pairs, one after the other.
fn environment(pairs: &Value) -> BTreeMap<String, String> {
    let pairs = pairs.as_array().into_iter().flatten().map(|pair| pair.as_str().unwrap());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(a, b)| (a.into(), b.into())).collect()
}

fn names(pairs: &Value) -> Vec<String> {
    let pairs = pairs.as_array().into_iter().flatten().map(|pair| pair.as_str().unwrap());
    pairs.map(|pair| pair.split('=').next().unwrap().to_owned()).collect()
}

fn any_base() -> impl Strategy<Value = Value> {
    let map = |value: Value| {
        prop::collection::btree_map("[a-z]{1,2}", Just(value), 0..4).prop_map(|map| json!(map))
    };
    let maybe = |values: BoxedStrategy<Value>| prop_oneof![Just(Value::Null), values];
    (
        maybe(prop::collection::vec("[AB]{1,2}(=[xy=]{0,3})?", 0..6).prop_map(|it| json!(it)).boxed()),
        maybe(prop::collection::vec("[a-z]{1,3}", 0..3).prop_map(|it| json!(it)).boxed()),
        maybe(prop::collection::vec("[a-z]{1,3}", 0..3).prop_map(|it| json!(it)).boxed()),
        maybe(map(json!("1")).boxed()),
        maybe(map(json!({})).boxed()),
        maybe("[a-z]{0,3}".prop_map(|it| json!(it)).boxed()),
        prop::collection::btree_map("X[a-z]{1,3}", "[^\\x00]{0,8}", 0..3),
    )
        .prop_map(|(env, entrypoint, cmd, labels, volumes, user, more)| {
            let mut all = json!({
                "Env": env, "Entrypoint": entrypoint, "Cmd": cmd, "Labels": labels, "Volumes": volumes, "User": user,
            });
            all.as_object_mut().unwrap().extend(more.into_iter().map(|(name, value)| (name, json!(value))));
            all
        })
}

fn any_own() -> impl Strategy<Value = ImageConfig> {
    (
        prop::collection::btree_map("[ABC]{1,2}", "[xy=]{0,3}", 0..4),
        prop::option::of(prop::collection::vec("[a-z]{1,3}", 0..3)),
        prop::option::of(prop::collection::vec("[a-z]{1,3}", 0..3)),
        prop::collection::btree_map("[a-z]{1,2}", "[0-9]", 0..4),
        prop::collection::btree_set("/[a-z]{1,2}", 0..3),
        prop::option::of("[a-z]{1,3}"),
    )
        .prop_map(|(env, entrypoint, cmd, labels, volumes, user)| ImageConfig {
            env: env.into_iter().collect(),
            entrypoint,
            cmd,
            labels,
            volumes,
            user,
            ..own()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merging_keeps_what_nobody_replaced(base in any_base(), config in any_own()) {
        let store = Store::new();
        let mut whole = docker_config();
        whole["config"] = base.clone();
        let below = store.docker_image(whole, &base_layers(&store));
        let image = on(&below, &config, &[]).unwrap();
        let found = &parse(image.config().bytes())["config"];

        // Every name once more than the base has it at most, in the base's order, then ours.
        let mut expected = environment(&base["Env"]);
        expected.extend(config.env.iter().cloned());
        prop_assert_eq!(environment(&found["Env"]), expected);
        let ours = |name: &String| config.env.iter().any(|(own, _)| own == name);
        let kept = |pairs: &Value| names(pairs).into_iter().filter(|name| !ours(name)).collect::<Vec<_>>();
        prop_assert_eq!(kept(&found["Env"]), kept(&base["Env"]));
        for (name, _) in &config.env {
            prop_assert_eq!(names(&found["Env"]).iter().filter(|it| *it == name).count(), 1);
        }
        // Labels and volumes are a union in which ours win.
        let mut labels = base["Labels"].as_object().cloned().unwrap_or_default();
        labels.extend(config.labels.iter().map(|(name, value)| (name.clone(), json!(value))));
        prop_assert_eq!(found["Labels"].as_object().cloned().unwrap_or_default(), labels);
        for volume in &config.volumes {
            prop_assert_eq!(&found["Volumes"][volume], &json!({}));
        }
        // A command is ours, or the base's when nobody gave another program.
        let list = |value: Option<&Vec<String>>| json!(value.filter(|list| !list.is_empty()));
        let expected = match (&config.entrypoint, &config.cmd) {
            (None, None) => (base["Entrypoint"].clone(), base["Cmd"].clone()),
            (None, cmd) => (base["Entrypoint"].clone(), list(cmd.as_ref())),
            (entrypoint, cmd) => (list(entrypoint.as_ref()), list(cmd.as_ref())),
        };
        prop_assert_eq!((found["Entrypoint"].clone(), found["Cmd"].clone()), expected);
        let user = config.user.as_ref().map_or(base["User"].clone(), |user| json!(user));
        prop_assert_eq!(&found["User"], &user);
        for (name, value) in base.as_object().unwrap().iter().filter(|(name, _)| name.starts_with('X')) {
            prop_assert_eq!(&found[name], value);
        }
        // The same again changes nothing; the order of maps never shows.
        let again = on(&image, &config, &[]).unwrap();
        prop_assert_eq!(again.config().bytes(), image.config().bytes());
        let canonical = imgforge_oci::json::canonical(&parse(image.config().bytes())).unwrap();
        prop_assert_eq!(image.config().bytes(), canonical);
    }
}
