#![allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Mutex;

use imgforge_oci::{DiffId, Digest, ImageConfig, Layer};

use super::*;
use crate::image::CONTENT_ANNOTATION;
use crate::survey::{Found, LayerSurvey, Listed};

/// A layer whose content is called `name`, and whose stored bytes are called `stored`.
fn layer(name: &str, stored: &str) -> Layer {
    Layer {
        digest: Digest::of(stored.as_bytes()),
        diff_id: DiffId(Digest::of(name.as_bytes())),
        size: 100,
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
        history: format!("RUN {name}"),
        annotations: BTreeMap::new(),
    }
}

fn image_with(layers: &[Layer], change: impl FnOnce(&mut ImageConfig)) -> Image {
    let mut config = ImageConfig::new("linux/amd64".parse().unwrap());
    change(&mut config);
    Image::assemble(&config, layers, &BTreeMap::new()).unwrap()
}

fn image(names: &str) -> Image {
    let layers: Vec<Layer> = names.split_whitespace().map(|name| layer(name, name)).collect();
    image_with(&layers, |_| {})
}

/// What is in a layer, by its name: `db:a=1,b=2` is dpkg's database, `py:a=1` a distribution, `wh:PATH` a whiteout,
/// `link:PATH` a link, `file:PATH` a file; any other name stands for nothing of interest.
fn contents(name: &str) -> LayerSurvey {
    let mut survey = LayerSurvey {
        diff_id: DiffId(Digest::of(name.as_bytes())),
        removed: BTreeSet::new(),
        emptied: BTreeSet::new(),
        covering_links: BTreeSet::new(),
        covering_files: BTreeSet::new(),
        top: BTreeSet::new(),
        found: BTreeMap::new(),
    };
    let packages = |list: &str| -> Vec<(String, String)> {
        let pairs = list.split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, version)| (name.to_owned(), version.to_owned())).collect()
    };
    match name.split_once(':') {
        Some(("db", list)) => {
            let listed = |(name, version)| Listed { name, version, architecture: "all".to_owned() };
            let debs = Found::Debs(packages(list).into_iter().map(listed).collect());
            survey.found.insert("var/lib/dpkg/status".to_owned(), debs);
        }
        Some(("py", list)) => {
            for (name, version) in packages(list) {
                let path =
                    format!("opt/venv/lib/python3.11/site-packages/{name}-{version}.dist-info/METADATA");
                survey.found.insert(path, Found::Distribution { name, version });
            }
        }
        Some(("wh", path)) => drop(survey.removed.insert(path.to_owned())),
        Some(("link", path)) => drop(survey.covering_links.insert(path.to_owned())),
        Some(("file", path)) => drop(survey.covering_files.insert(path.to_owned())),
        _ => {}
    }
    survey
}

/// The packages that differ, and the layers that had to be read for that, sorted.
#[track_caller]
fn check_packages(a: &str, b: &str, expected: &[&str], read: &str) {
    let names: BTreeMap<DiffId, &str> = a
        .split_whitespace()
        .chain(b.split_whitespace())
        .map(|name| (DiffId(Digest::of(name.as_bytes())), name))
        .collect();
    let seen = Mutex::new(Vec::new());
    let survey = |_: Which, layer: &Layer| {
        let name = names[&layer.diff_id];
        seen.lock().unwrap().push(name);
        Ok::<_, Infallible>(contents(name))
    };
    let (a, b) = (image(a), image(b));
    let (survey_a, survey_b) = surveys(&a, &b, &survey).unwrap();
    let found: Vec<_> = difference((&a, &survey_a), (&b, &survey_b))
        .packages
        .into_iter()
        .map(|PackageChange { kind, prefix, name, from, to }| {
            format!("{kind} {prefix} {name} {}>{}", from.unwrap_or_default(), to.unwrap_or_default())
        })
        .collect();
    assert_eq!(found, expected);
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    assert_eq!(seen.join(" "), read);
}

#[test]
fn packages_that_differ() {
    let all = "db:a=1,b=1 db:a=2,c=1";
    check_packages("db:a=1,b=1", "db:a=2,c=1", &["deb / a 1>2", "deb / b 1>", "deb / c >1"], all);
    check_packages("py:a=1", "py:b=1", &["pypi /opt/venv a 1>", "pypi /opt/venv b >1"], "py:a=1 py:b=1");
    // Two versions at one place: an environment that was changed without its installer.
    check_packages("py:a=1", "py:a=1 py:a=2", &["pypi /opt/venv a 1>1, 2"], "py:a=1 py:a=2");
}

#[test]
fn layers_that_both_have_are_read_where_they_matter() {
    check_packages("db:a=1 x", "db:a=1 x", &[], "");
    check_packages("db:a=1 x", "db:a=1 y", &[], "x y");
    check_packages("db:a=1 file:srv/x", "db:a=1", &[], "file:srv/x");
    check_packages("db:a=1", "db:a=1 db:a=1,b=1", &["deb / b >1"], "db:a=1 db:a=1,b=1");
    let python = "opt/venv/lib/python3.11";
    check_packages(
        "py:a=1",
        &format!("py:a=1 wh:{python}"),
        &["pypi /opt/venv a 1>"],
        &format!("py:a=1 wh:{python}"),
    );
    check_packages("py:a=1", "py:a=1 link:opt/venv", &["pypi /opt/venv a 1>"], "link:opt/venv py:a=1");
    // The same layers in another order.
    let (db, wh) = ("db:a=1", "wh:var/lib/dpkg");
    check_packages(&format!("{wh} {db}"), &format!("{db} {wh}"), &["deb / a 1>"], &format!("{db} {wh}"));
}

#[test]
fn base_layers_and_what_is_to_be_shipped() {
    let none = Survey::default();
    let compare = |a: &Image, b: &Image| difference((a, &none), (b, &none));
    let found = compare(&image("a b c"), &image("a b d c"));
    assert_eq!((found.base.common_layers, found.base.common_bytes), (2, 200));
    let digests =
        |lines: &[LayerLine]| lines.iter().map(|line| line.content.clone()).collect::<Vec<_>>().join(" ");
    assert_eq!(digests(&found.layers.common), "RUN a RUN b RUN c");
    assert_eq!(
        (digests(&found.layers.only_a), digests(&found.layers.only_b)),
        (String::new(), "RUN d".to_owned())
    );
    let documents = |image: &Image| image.config().descriptor().size + image.manifest().descriptor().size;
    assert_eq!(found.ship, Ship { blobs: 3, bytes: 100 + documents(&image("a b d c")) });
    assert!(compare(&image("a"), &image("a")).is_none() && !found.is_none());
    assert_eq!(compare(&image("a"), &image("a")).ship, Ship::default());
    // A layer that is there twice is sent once.
    assert_eq!(compare(&image("a"), &image("a b b")).ship.bytes, 100 + documents(&image("a b b")));

    let other = image_with(&[layer("a", "a.zst"), layer("b", "b")], |_| {});
    let found = compare(&image("a b"), &other);
    assert_eq!(found.base.common_layers, 2);
    assert!(found.layers.only_b[0].recompressed && found.layers.only_a[0].recompressed);
    assert_eq!(found.ship.blobs, 2, "the layer and the manifest, which names it; the config is the same");
}

#[test]
fn what_layers_and_images_say_of_themselves() {
    let none = Survey::default();
    let mut noted = layer("a", "a");
    noted.annotations.insert(CONTENT_ANNOTATION.to_owned(), "numpy 2.1.0".to_owned());
    let labelled = image_with(&[noted], |config| {
        let label =
            |key: &str, value: &str| (format!("org.opencontainers.image.base.{key}"), value.to_owned());
        config.labels = [label("name", "debian:12"), label("digest", "")].into();
    });
    let annotations = [("org.opencontainers.image.base.name".to_owned(), "debian:13".to_owned())].into();
    let config = ImageConfig::new("linux/amd64".parse().unwrap());
    let annotated = Image::assemble(&config, &[], &annotations).unwrap();
    let found = difference((&labelled, &none), (&annotated, &none));
    assert_eq!(found.layers.only_a[0].content, "numpy 2.1.0");
    let name = |base: Option<BaseName>| (base.as_ref().unwrap().name.clone().unwrap(), base.unwrap().digest);
    assert_eq!(name(found.base.a), ("debian:12".to_owned(), None));
    assert_eq!(name(found.base.b), ("debian:13".to_owned(), None));
}

/// The changes of the configuration as JSON, one to a line.
#[track_caller]
fn check_config(a: impl FnOnce(&mut ImageConfig), b: impl FnOnce(&mut ImageConfig), expected: &[&str]) {
    let none = Survey::default();
    let (a, b) = (image_with(&[], a), image_with(&[], b));
    let changes = difference((&a, &none), (&b, &none)).config;
    let found: Vec<_> = changes.iter().map(|change| serde_json::to_string(change).unwrap()).collect();
    assert_eq!(found, expected);
}

#[test]
fn configurations() {
    let texts = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    check_config(|_| {}, |_| {}, &[]);
    check_config(
        |config| {
            config.entrypoint = Some(texts(&["python"]));
            config.env = vec![("PATH".to_owned(), "/bin".to_owned()), ("A".to_owned(), "x=y".to_owned())];
            config.exposed_ports = set(&["80/tcp", "53/udp"]);
            config.user = Some("app".to_owned());
        },
        |config| {
            config.cmd = Some(texts(&["-m", "app"]));
            config.env = vec![("A".to_owned(), "x=y".to_owned()), ("PATH".to_owned(), "/usr/bin".to_owned())];
            config.exposed_ports = set(&["80/tcp"]);
            config.volumes = set(&["/data"]);
            config.user = Some("root".to_owned());
            config.labels = [("k".to_owned(), "v".to_owned())].into();
            config.stop_signal = Some("SIGINT".to_owned());
            config.workdir = Some("/srv".to_owned());
        },
        &[
            r#"{"setting":"entrypoint","name":null,"from":["python"],"to":null}"#,
            r#"{"setting":"cmd","name":null,"from":null,"to":["-m","app"]}"#,
            r#"{"setting":"user","name":null,"from":"app","to":"root"}"#,
            r#"{"setting":"workdir","name":null,"from":null,"to":"/srv"}"#,
            r#"{"setting":"stop-signal","name":null,"from":null,"to":"SIGINT"}"#,
            r#"{"setting":"env","name":"PATH","from":"/bin","to":"/usr/bin"}"#,
            r#"{"setting":"label","name":"k","from":null,"to":"v"}"#,
            r#"{"setting":"port","name":"53/udp","from":true,"to":null}"#,
            r#"{"setting":"volume","name":"/data","from":null,"to":true}"#,
        ],
    );
}

#[test]
fn runtimes() {
    let a: Survey = serde_json::from_value(serde_json::json!({
        "packages": [], "links": {}, "passwd": null, "group": null,
        "interpreters": [{"path": "/usr/bin/python3.11", "version": "3.11.2", "links": []}],
        "libc": {"family": "glibc", "version": "2.36"},
    }))
    .unwrap();
    let mut b = a.clone();
    b.interpreters[0].links.push("/usr/bin/python3".to_owned());
    assert_eq!(packages::runtimes(&a, &b), []);
    b.interpreters[0].version = "3.11.4".to_owned();
    b.libc = None;
    let found = packages::runtimes(&a, &b);
    let found: Vec<_> =
        found.iter().map(|it| (it.name.as_str(), it.from.as_deref(), it.to.as_deref())).collect();
    assert_eq!(
        found,
        [("/usr/bin/python3.11", Some("3.11.2"), Some("3.11.4")), ("libc", Some("glibc 2.36"), None),]
    );
}
