#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can not go on has failed")]

use std::io::Write as _;

use imgforge_oci::{DiffId, Digest, Layer};
use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::*;

/// An entry: a path and its text; `path/` is a folder, `-> target` a symbolic link, `=> target` a hard link.
type Entry<'a> = (&'a str, &'a str);

fn tarred(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, text) in entries {
        let mut header = Header::new_gnu();
        let (kind, target, text) = match (text.strip_prefix("-> "), text.strip_prefix("=> ")) {
            (Some(target), _) => (EntryType::Symlink, target, ""),
            (_, Some(target)) => (EntryType::Link, target, ""),
            _ if path.ends_with('/') => (EntryType::Directory, "", ""),
            _ => (EntryType::Regular, "", *text),
        };
        header.set_entry_type(kind);
        header.set_size(text.len() as u64);
        header.set_mode(0o755);
        match target {
            "" => builder.append_data(&mut header, path, text.as_bytes()).unwrap(),
            target => builder.append_link(&mut header, path, target).unwrap(),
        }
    }
    builder.into_inner().unwrap()
}

fn layer(stored: &[u8], tar: &[u8], media_type: &str) -> Layer {
    Layer {
        digest: Digest::of(stored),
        diff_id: DiffId(Digest::of(tar)),
        size: stored.len() as u64,
        media_type: media_type.into(),
        history: "RUN something".to_owned(),
        annotations: BTreeMap::new(),
    }
}

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

fn survey_layer(entries: &[Entry<'_>]) -> LayerSurvey {
    let tar = tarred(entries);
    LayerSurvey::read(&layer(&tar, &tar, TAR), tar.as_slice()).unwrap()
}

fn survey(layers: &[&[Entry<'_>]]) -> Survey {
    Survey::of(&layers.iter().map(|entries| survey_layer(entries)).collect::<Vec<_>>())
}

/// Compares the packages: kind, prefix, name, version, layer, and an asterisk for what is part of another package.
#[track_caller]
fn check(layers: &[&[Entry<'_>]], expected: &[&str]) {
    let found: Vec<_> = survey(layers)
        .packages
        .into_iter()
        .map(|Package { kind, prefix, name, version, is_part, layer }| {
            format!("{kind} {prefix} {name} {version} {layer}{}", if is_part { "*" } else { "" })
        })
        .collect();
    assert_eq!(found, expected);
}

const NUMPY: Entry<'_> =
    ("opt/venv/lib/python3.11/site-packages/numpy-2.1.0.dist-info/METADATA", "Name: NumPy\nVersion: 2.1.0\n");
const NUMPY_2_1: &str = "pypi /opt/venv numpy 2.1.0 0";
const STATUS: &str = "\
Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 2.36-9+deb12u10
Description: GNU C Library
 Version: 9
 .

Package: libc6
Status: install ok installed
Architecture: i386
Version: 2.36-9+deb12u10

Package: tzdata
Status: deinstall ok config-files
Architecture: all
Version: 2024a-0

package: bash
status: hold ok installed
architecture: amd64
version: 5.2.15-2
";

#[test]
fn databases_of_systems() {
    let debs =
        ["deb / bash 5.2.15-2 0", "deb / libc6 2.36-9+deb12u10 0", "deb / libc6:i386 2.36-9+deb12u10 0"];
    check(&[&[("var/lib/dpkg/status", STATUS)]], &debs);
    let stanza = "Package: base-files\nVersion: 12.4\nArchitecture: amd64\n";
    let folder: &[Entry<'_>] = &[
        ("var/lib/dpkg/status.d/base", stanza),
        ("var/lib/dpkg/status.d/base.md5sums", "Package: x\nVersion: 1\n"),
    ];
    check(&[folder], &["deb / base-files 12.4 0"]);
    let installed =
        "C:Q1\nP:musl\nV:1.2.5-r9\nA:x86_64\nF:lib\nR:ld-musl-x86_64.so.1\n\nP:zlib\nV:1.3.1-r2\n";
    check(&[&[("lib/apk/db/installed", installed)]], &["apk / musl 1.2.5-r9 0", "apk / zlib 1.3.1-r2 0"]);
    // What the terminal would take for something else is no name.
    check(&[&[("lib/apk/db/installed", "P:a\x1b[2J\nV:1\n\nP:b\nV:1 2\n\n\nV:1\n\nP:c\n")]], &[]);
}

#[test]
fn distributions_that_an_interpreter_sees() {
    check(&[&[NUMPY]], &[NUMPY_2_1]);
    let site = "usr/local/lib/python3.12/site-packages";
    let at = |path: &str| format!("{site}/{path}");
    // The folder tells what the file does not.
    check(
        &[&[(&at("a_b-1.0.dist-info/METADATA"), "Metadata-Version: 2.1\n\nName: x\nVersion: 2\n")]],
        &["pypi /usr/local a-b 1.0 0"],
    );
    check(
        &[&[(&at("old-1.0-py3.12.egg-info"), "Name: old\nVersion: 1.0.1\n")]],
        &["pypi /usr/local old 1.0.1 0"],
    );
    check(&[&[(&at("dev.egg-info/PKG-INFO"), "Name: dev\nVersion: 3\n")]], &["pypi /usr/local dev 3 0"]);
    let own = "srv/site-packages/a-1.dist-info/METADATA";
    check(&[&[(own, "Name: a\nVersion: 1\n")]], &["pypi /srv/site-packages a 1 0"]);
    for unseen in [
        "root/.cache/uv/archive-v0/x/a-1.dist-info/METADATA",
        "opt/app/a-1.dist-info/METADATA",
        &at("setuptools/_vendor/a-1.dist-info/METADATA"),
        &at("a-1.dist-info/licenses/b-2.dist-info/METADATA"),
        &at("a-1.dist-info/RECORD"),
        &at("METADATA"),
    ] {
        check(&[&[(unseen, "Name: a\nVersion: 1\n")]], &[]);
    }
}

#[test]
fn links_into_the_installers_cache() {
    let cache = "root/.cache/uv/archive-v0/x/numpy-2.1.0.dist-info/METADATA";
    let linked = (NUMPY.0, &*format!("=> {cache}"));
    check(&[&[(cache, NUMPY.1), linked]], &[NUMPY_2_1]);
    let elsewhere = (NUMPY.0, "=> root/abc");
    check(&[&[elsewhere]], &[NUMPY_2_1]);
    check(&[&[(NUMPY.0, "-> /root/abc")]], &[NUMPY_2_1]);
    check(&[&[(cache, NUMPY.1), (NUMPY.0, &format!("=> /./{cache}"))]], &[NUMPY_2_1]);
}

const CONDA: Entry<'_> = (
    "opt/conda/conda-meta/numpy-1.26.4-py311h0_0.json",
    r#"{"build": "py311h0_0", "depends": [{"a": null}], "files": ["bin/f2py",
        "lib/python3.11/site-packages/numpy-1.26.4.dist-info/METADATA",
        "lib/python3.11/site-packages/numpy-1.26.4.dist-info/RECORD"], "name": "numpy", "version": "1.26.4"}"#,
);

#[test]
fn conda_environments() {
    let own: Entry<'_> = (
        "opt/conda/lib/python3.11/site-packages/numpy-1.26.4.dist-info/METADATA",
        "Name: numpy\nVersion: 1.26.4\n",
    );
    let pips = ("opt/conda/lib/python3.11/site-packages/six-1.dist-info/METADATA", "Name: six\nVersion: 1\n");
    let unpacked =
        ("opt/conda/pkgs/numpy-1.26.4/lib/python3.11/site-packages/numpy-1.26.4.dist-info/METADATA", own.1);
    check(
        &[&[CONDA, own, pips, unpacked]],
        &[
            "conda /opt/conda numpy 1.26.4=py311h0_0 0",
            "pypi /opt/conda numpy 1.26.4 0*",
            "pypi /opt/conda six 1 0",
        ],
    );
    for broken in
        ["", "{", r#"{"name": "a"}"#, r#"{"name": "a", "version": "1", "files": [1]}"#, "[]", "\"\""]
    {
        check(&[&[(CONDA.0, broken)]], &[]);
    }
    check(
        &[&[(CONDA.0, r#"{"name": "a", "version": "1", "build": "0", "files": null}"#)]],
        &["conda /opt/conda a 1=0 0"],
    );
}

#[test]
fn distributions_of_the_system() {
    let debian =
        ("usr/lib/python3/dist-packages/six-1.16.0.dist-info/METADATA", "Name: six\nVersion: 1.16.0\n");
    check(&[&[debian]], &["pypi /usr six 1.16.0 0"]);
    let status = ("var/lib/dpkg/status", "Package: python3-six\nVersion: 1.16.0-4\nArchitecture: all\n");
    check(&[&[debian, status]], &["deb / python3-six 1.16.0-4 0", "pypi /usr six 1.16.0 0*"]);
    let pips = (
        "usr/local/lib/python3.11/dist-packages/six-1.17.0.dist-info/METADATA",
        "Name: six\nVersion: 1.17.0\n",
    );
    check(&[&[pips, status]], &["deb / python3-six 1.16.0-4 0", "pypi /usr/local six 1.17.0 0"]);
    let site = "usr/lib/python3.12/site-packages/six-1.dist-info";
    let apk = format!("P:py3-six\nV:1-r0\nF:{site}\nR:METADATA\nF:{site}/licenses\n\n");
    let apk: &[Entry<'_>] =
        &[("lib/apk/db/installed", &apk), (&format!("{site}/METADATA"), "Name: six\nVersion: 1\n")];
    check(&[apk], &["apk / py3-six 1-r0 0", "pypi /usr six 1 0*"]);
}

#[test]
fn upper_layers_take_away() {
    let rest = ("opt/venv/lib/python3.11/site-packages/six-1.dist-info/METADATA", "Name: six\nVersion: 1\n");
    let base: &[Entry<'_>] = &[NUMPY, rest];
    let six = "pypi /opt/venv six 1 0";
    check(&[base, &[("opt/venv/lib/python3.11/site-packages/.wh.numpy-2.1.0.dist-info", "")]], &[six]);
    check(
        &[base, &[("opt/venv/lib/python3.11/site-packages/numpy-2.1.0.dist-info/.wh.METADATA", "")]],
        &[six],
    );
    check(
        &[base, &[("opt/venv/lib/python3.11/site-packages/numpy-2.1.0.dist-info/.wh..wh..opq", "")]],
        &[six],
    );
    check(&[base, &[("opt/venv/lib/python3.11/site-packages/numpy-2.1.0.dist-info", "")]], &[six]);
    for all in [
        ".wh..wh..opq",
        ".wh.opt",
        "opt/.wh.venv",
        "opt/.wh..wh..opq",
        "opt/venv/lib/.wh.python3.11",
        "opt",
        "opt/venv",
        "opt/venv/lib",
        "opt/venv/lib/python3.11",
        "opt/venv/lib/python3.11/site-packages",
    ] {
        check(&[base, &[(all, "")]], &[]);
        check(&[base, &[(all, "-> elsewhere")]], &[]);
    }
    for nothing in ["opt/.wh.ven", "opt/ven", "opt/.wh..wh.plnk", "opt/venv/", ".wh.op"] {
        check(&[base, &[(nothing, "")]], &[NUMPY_2_1, six]);
    }
    // A whiteout is for the layers below, wherever it stands in its own.
    let again = "pypi /opt/venv numpy 2.1.0 1";
    check(&[base, &[("opt/.wh.venv", ""), NUMPY]], &[again]);
    check(&[base, &[NUMPY, ("opt/.wh.venv", "")]], &[again]);
    check(&[&[("var/lib/dpkg/status", STATUS)], &[("var/lib/dpkg/status", "")]], &[]);
    check(&[&[("var/lib/dpkg/status", STATUS)], &[("var/lib/dpkg/status/", "")]], &[]);
    // Builders in wide use write a path twice.
    check(&[&[("var/lib/dpkg/status", STATUS), ("var/lib/dpkg/status", "")]], &[]);
    check(&[&[("var/lib/dpkg/status/", ""), NUMPY, NUMPY]], &[NUMPY_2_1]);
}

#[test]
fn layers_that_packages_came_with() {
    let stanza =
        |name: &str, version: &str| format!("Package: {name}\nVersion: {version}\nArchitecture: all\n\n");
    let first = stanza("a", "1") + &stanza("b", "1");
    let second = stanza("a", "1") + &stanza("b", "2") + &stanza("c", "1");
    let layers: &[&[Entry<'_>]] = &[
        &[("var/lib/dpkg/status", &first)],
        &[NUMPY],
        &[("var/lib/dpkg/status", &second)],
        &[("var/lib/dpkg/status", &second), NUMPY],
    ];
    check(layers, &["deb / a 1 0", "deb / b 2 2", "deb / c 1 2", "pypi /opt/venv numpy 2.1.0 3"]);
    assert_eq!(survey(&[]), Survey::default());
}

#[track_caller]
fn check_interpreters(layers: &[&[Entry<'_>]], expected: &[&str]) {
    let found: Vec<_> = survey(layers)
        .interpreters
        .into_iter()
        .map(|Interpreter { path, version, links }| format!("{path} {version} {}", links.join(",")))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn interpreters_and_what_leads_to_them() {
    let debian: &[Entry<'_>] = &[
        ("bin", "-> usr/bin"),
        ("usr/bin/python3", "-> python3.11"),
        ("usr/bin/python3.11", "ELF"),
        ("usr/bin/python3-config", "#!"),
        ("opt/venv/bin/python3", "-> /bin/python3"),
        ("opt/other/bin/python3", "-> /usr/bin/python3.9"),
    ];
    let links = "/opt/venv/bin/python3,/usr/bin/python3";
    check_interpreters(&[debian], &[&format!("/usr/bin/python3.11 3.11 {links}")]);
    let package = (
        "var/lib/dpkg/status",
        "Package: python3.11-minimal\nVersion: 3.11.2-6+deb12u6\nArchitecture: amd64\n",
    );
    check_interpreters(&[debian, &[package]], &[&format!("/usr/bin/python3.11 3.11.2 {links}")]);
    let header = (
        "usr/include/python3.11/patchlevel.h",
        "#define PY_VERSION_HEX 1\n#define PY_VERSION      \"3.11.2+\"\n",
    );
    check_interpreters(&[debian, &[header]], &[&format!("/usr/bin/python3.11 3.11.2 {links}")]);
    check_interpreters(&[debian, &[("usr/bin/.wh.python3.11", "")]], &[]);
    check_interpreters(
        &[&[("usr/bin/python3", "ELF"), ("usr/bin/python3.13t", "=> usr/bin/python3")]],
        &["/usr/bin/python3 3.13t /usr/bin/python3.13t"],
    );
    let conda =
        ("opt/conda/conda-meta/python.json", r#"{"name": "python", "version": "3.12.1", "build": "0"}"#);
    check_interpreters(
        &[&[conda, ("opt/conda/bin/python3.12", "ELF")]],
        &["/opt/conda/bin/python3.12 3.12.1 "],
    );
    // In circles, and out of the image.
    check_interpreters(&[&[("bin/python3", "-> python3.1"), ("bin/python3.1", "-> ../../bin/python3")]], &[]);
    check_interpreters(
        &[&[("usr/bin/python3.9", ""), ("usr/bin/python2", "ELF"), ("usr/lib/python3", "")]],
        &[],
    );
}

#[track_caller]
fn check_libc(entries: &[Entry<'_>], expected: &str) {
    let found = survey(&[entries]).libc.map(|Libc { family, version }| {
        format!("{family:?} {}", version.unwrap_or_default()).trim_end().to_owned()
    });
    assert_eq!(found.unwrap_or_default(), expected);
}

#[test]
fn c_libraries() {
    check_libc(&[("var/lib/dpkg/status", STATUS)], "Glibc 2.36");
    check_libc(&[("lib/x86_64-linux-gnu/libc.so.6", "-> libc-2.31.so")], "Glibc 2.31");
    let text = "x".repeat((64 << 10) - 20) + "GNU C Library (GNU libc) stable release version 2.34.\nC";
    check_libc(&[("usr/lib64/libc.so.6", &text)], "Glibc 2.34");
    check_libc(&[("usr/lib64/libc.so.6", "development release version 2.9")], "Glibc 2.9");
    check_libc(&[("usr/lib64/libc.so.6", "release version ")], "Glibc");
    check_libc(&[("lib/ld-musl-x86_64.so.1", "ELF")], "Musl");
    let apk = ("lib/apk/db/installed", "P:musl\nV:1.2.5-r9\n");
    check_libc(&[apk, ("lib/libc.so.6", "-> libc.musl-x86_64.so.1")], "Musl 1.2.5");
    check_libc(&[("opt/conda/x86_64-conda-linux-gnu/sysroot/lib64/libc.so.6", &text)], "");
}

#[test]
fn links_and_users() {
    let base: &[Entry<'_>] =
        &[("bin", "-> usr/bin"), ("lib", "-> usr/lib"), ("usr/x", "-> y"), ("etc/passwd", "root:x\n")];
    let found = survey(&[base, &[("etc/group", "-> passwd"), ("./etc/passwd", "app:x\n"), ("lib/a", "")]]);
    assert_eq!(found.links.into_iter().collect::<Vec<_>>(), [("bin".to_owned(), "usr/bin".to_owned())]);
    assert_eq!((found.passwd.as_deref(), found.group), (Some("app:x\n"), None));
}

#[test]
fn compressions_and_what_they_hold() {
    let tar = tarred(&[NUMPY]);
    let (start, end) = tar.split_at(700);
    let mut gzip = Vec::new();
    for part in [start, end] {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(part).unwrap();
        gzip.extend(encoder.finish().unwrap());
    }
    let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    for media_type in ["application/vnd.oci.image.layer.v1.tar+gzip", docker] {
        let survey = LayerSurvey::read(&layer(&gzip, &tar, media_type), gzip.as_slice()).unwrap();
        assert_eq!(survey.found.len(), 1);
    }
}

/// A layer that can't be surveyed says which it is, and why.
#[track_caller]
fn check_refused(layer: &Layer, stored: &[u8], expected: &str) {
    let error = LayerSurvey::read(layer, stored).unwrap_err();
    let mut said = error.to_string();
    if let Some(source) = std::error::Error::source(&error) {
        said += &format!(": {source}");
    }
    assert!(said.starts_with(&format!("layer {} (RUN something)", layer.digest)), "{said}");
    assert!(said.contains(expected), "{expected}\n{said}");
}

#[test]
fn layers_that_are_not_what_they_should_be() {
    let tar = tarred(&[NUMPY, ("bin", "-> usr/bin")]);
    let good = layer(&tar, &tar, TAR);
    let refused = |change: &dyn Fn(&mut Layer), stored: &[u8], expected: &str| {
        let mut layer = good.clone();
        change(&mut layer);
        check_refused(&layer, stored, expected);
    };
    refused(&|_| {}, &tar[..tar.len() - 512], "its descriptor says");
    let mut bent = tar.clone();
    bent[600] ^= 1;
    refused(&|_| {}, &bent, "digest mismatch for its stored bytes");
    refused(&|layer| layer.size += 1, &tar, "size mismatch");
    refused(&|layer| layer.diff_id = DiffId(Digest::of(b"")), &tar, "digest mismatch for its diff ID");
    refused(&|layer| layer.media_type = "text/plain".into(), &tar, "media type");
    refused(
        &|layer| layer.media_type = "application/vnd.oci.image.layer.v1.tar+gzip".into(),
        &tar,
        "not sound gzip",
    );
    refused(
        &|layer| layer.media_type = "application/vnd.oci.image.layer.v1.tar+zstd".into(),
        &tar,
        "not sound zstd",
    );
    let cut = &tar[..tar.len() - 1500];
    check_refused(&layer(cut, cut, TAR), cut, "it ends in the middle");
}

#[test]
fn limits() {
    let refused = |entries: &[Entry<'_>], expected: &str| {
        let tar = tarred(entries);
        check_refused(&layer(&tar, &tar, TAR), &tar, expected);
    };
    let large = "x".repeat((16 << 20) + 1);
    refused(&[("var/lib/dpkg/status", &large)], "var/lib/dpkg/status has more than 16777216 bytes");
    refused(&[("etc/passwd", &large)], "etc/passwd has more than 1048576 bytes");
    // Whiteouts, each of which has to be remembered.
    let long = format!("{}/", "d".repeat(250)).repeat(16);
    let mut builder = Builder::new(Vec::new());
    for number in 0..17_000 {
        let mut header = Header::new_gnu();
        header.set_size(0);
        header.set_entry_type(EntryType::Regular);
        builder.append_data(&mut header, format!("{long}.wh.{number}"), [].as_slice()).unwrap();
    }
    let tar = builder.into_inner().unwrap();
    check_refused(&layer(&tar, &tar, TAR), &tar, "can be kept of a layer");
    // A long head ends where it has to; what the folder says counts then.
    let head = "x: y\n".repeat(300_000) + "Name: other\n";
    check(&[&[(NUMPY.0, &head)]], &[NUMPY_2_1]);
}

#[test]
fn surveys_are_read_back_as_they_were() {
    let base: &[Entry<'_>] = &[
        NUMPY,
        CONDA,
        ("var/lib/dpkg/status", STATUS),
        ("bin", "-> usr/bin"),
        ("opt/.wh.x", ""),
        ("etc/passwd", "a"),
        ("usr/bin/python3", "ELF"),
        ("usr/include/python3.9/patchlevel.h", "#define PY_VERSION \"3.9.1\"\n"),
        ("lib/apk/db/installed", "P:a\nV:1\nF:usr/lib/python3.9/site-packages/a.dist-info\n"),
        ("x/.wh..wh..opq", ""),
    ];
    let layer = survey_layer(base);
    assert_eq!(serde_json::from_str::<LayerSurvey>(&serde_json::to_string(&layer).unwrap()).unwrap(), layer);
    let survey = Survey::of(&[layer]);
    assert_eq!(serde_json::from_str::<Survey>(&serde_json::to_string(&survey).unwrap()).unwrap(), survey);
}

#[test]
fn a_layer_is_opened_once() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let tar = tarred(&[NUMPY]);
    let mut layer = layer(&tar, &tar, TAR);
    let open: &Open<'_, SurveyError> = &|_| Ok(Box::new(std::io::Cursor::new(tarred(&[NUMPY]))));
    let first = of_layer(&layer, &store, open).unwrap();
    let never: &Open<'_, SurveyError> = &|_| panic!("the layer is known");
    assert_eq!(of_layer(&layer, &store, never).unwrap(), first);
    layer.diff_id = DiffId(Digest::of(b""));
    let error = of_layer(&layer, &store, never).unwrap_err();
    assert!(format!("{error:?}").contains("its diff ID"), "{error:?}");
}

#[test]
fn images_are_surveyed_from_the_bottom_up() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let tars = [tarred(&[NUMPY, ("bin", "-> usr/bin")]), tarred(&[("opt/.wh.venv", "")]), tarred(&[NUMPY])];
    let layers = tars.each_ref().map(|tar| layer(tar, tar, TAR));
    let config = imgforge_oci::ImageConfig::new("linux/amd64".parse().unwrap());
    let open: &Open<'_, SurveyError> = &|layer| {
        let tar = tars.iter().find(|tar| Digest::of(tar) == layer.digest).unwrap();
        Ok(Box::new(std::io::Cursor::new(tar.clone())))
    };
    let survey = |layers: &[Layer]| {
        let image = Image::assemble(&config, layers, &BTreeMap::new()).unwrap();
        of_image(&image, &store, open)
    };
    assert_eq!(survey(&layers[..2]).unwrap().packages, []);
    assert_eq!(survey(&layers).unwrap().packages[0].layer, 2);
    let mut wrong = layers.clone();
    wrong[1].diff_id = wrong[0].diff_id;
    wrong[2].diff_id = wrong[0].diff_id;
    let error = survey(&wrong).unwrap_err().to_string();
    assert!(error.contains(&layers[1].digest.to_string()), "{error}");
}

proptest! {
    /// Whatever bytes come, the answer is a survey or an error.
    #[test]
    fn nothing_breaks_it(at in 0_usize..6000, byte in any::<u8>(), cut in 0_usize..6000) {
        let mut tar = tarred(&[
            NUMPY, ("var/lib/dpkg/status", STATUS), ("lib/apk/db/installed", "P:a\nV:1\n"), ("bin", "-> usr/bin"), CONDA,
        ]);
        if let Some(place) = tar.get_mut(at) {
            *place = byte;
        }
        tar.truncate(tar.len() - cut.min(tar.len()));
        let described = layer(&tar, &tar, TAR);
        if let Ok(survey) = LayerSurvey::read(&described, tar.as_slice()) {
            Survey::of(&[survey.clone(), survey]);
        }
    }

    /// Text that is nobody's database gives no packages that could not be shown.
    #[test]
    fn any_text_is_survived(text in "(Package|Version|P|V|Name|:|\n| |\\{|\"name\"|\"|[a-z\u{0}-\u{1f}])*") {
        let paths = ["var/lib/dpkg/status", "lib/apk/db/installed", NUMPY.0, CONDA.0, "usr/lib64/libc.so.6"];
        for path in paths {
            for package in survey(&[&[(path, &text)]]).packages {
                let shown = package.name + &package.version;
                prop_assert!(!shown.chars().any(|c| c.is_control() || c.is_whitespace()), "{shown:?}");
            }
        }
    }
}
