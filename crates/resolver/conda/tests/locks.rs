//! What is selected from locks: of real projects, compared with their text line by line, and of small ones that are made for
//! what those don't have. The order of links is also that of the `.expect` files, which `record.py` writes.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // All of it is test code, helpers too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use imgforge_resolver_conda::{
    CondaEnvironment, CondaLockSelection, CondaNoarch, CondaPackage, Location, PixiSelection, conda_lock,
    pixi_lock, to_pixi_lock,
};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/locks").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).expect("a lock to read")
}

fn pixi(name: &str, environment: &str, subdir: &str) -> CondaEnvironment {
    let selection = PixiSelection {
        environment: environment.to_owned(),
        without_folders: true,
        ..PixiSelection::default()
    };
    pixi_lock(&text(name), &file(name), &selection, subdir).expect("an environment")
}

fn find<'a>(environment: &'a CondaEnvironment, name: &str) -> &'a CondaPackage {
    environment.packages.iter().find(|package| package.name == name).expect("the package")
}

fn url(location: &Location) -> &str {
    match location {
        Location::Url(url) => url,
        Location::Path(path) => panic!("{} is no URL", path.display()),
    }
}

/// What a package is linked after, by the lock's own words.
fn depends(package: &CondaPackage) -> Vec<String> {
    let record = package.record.as_ref().expect("a record");
    let depends = record["depends"].as_array().expect("a list");
    depends.iter().map(|spec| spec.as_str().unwrap().split(' ').next().unwrap().to_owned()).collect()
}

/// What each package depends on comes before it, unless that depends on the package too.
#[track_caller]
fn check_order(environment: &CondaEnvironment) {
    let place: BTreeMap<&str, usize> =
        environment.packages.iter().enumerate().map(|(index, it)| (it.name.as_str(), index)).collect();
    assert_eq!(place.len(), environment.packages.len());
    for package in &environment.packages {
        for name in depends(package) {
            let Some(before) = place.get(name.as_str()) else { continue };
            let after = place[package.name.as_str()];
            assert!(
                *before < after || reaches(environment, &name, &package.name),
                "{} before {name}",
                package.name
            );
        }
    }
}

/// Whether a package depends on another one in the end.
fn reaches(environment: &CondaEnvironment, from: &str, to: &str) -> bool {
    let (mut seen, mut queue) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(name) = queue.pop() {
        let Some(package) = environment.packages.iter().find(|package| package.name == name) else {
            continue;
        };
        if seen.insert(name) {
            queue.extend(depends(package));
        }
    }
    seen.contains(to)
}

/// The values of a block of YAML, by key; lists aside.
fn block<'a>(text: &'a str, head: &str) -> BTreeMap<&'a str, &'a str> {
    let start = text.find(&format!("\n- conda: {head}\n")).expect("a block");
    let lines = text[start..].lines().skip(2).take_while(|line| line.starts_with("  "));
    lines.filter_map(|line| line.trim_start().split_once(": ")).collect()
}

/// Every package of a platform, as the text of a pixi.lock with one environment has it.
#[track_caller]
fn check_whole(name: &str, subdir: &str, count: usize) {
    let text = text(name);
    let environment = pixi(name, "default", subdir);
    let platform = text.split(&format!("\n      {subdir}:\n")).nth(1).expect("the platform");
    let listed: BTreeSet<&str> =
        platform.lines().map_while(|line| line.strip_prefix("      - conda: ")).collect();
    let found: BTreeSet<&str> = environment.packages.iter().map(|package| url(&package.location)).collect();
    assert_eq!(found, listed);
    assert_eq!(environment.packages.len(), count);
    for package in &environment.packages {
        let url = url(&package.location);
        let block = block(&text, url);
        assert_eq!(package.sha256.as_deref(), block.get("sha256").copied(), "{url}");
        assert_eq!(package.md5.as_deref(), block.get("md5").copied(), "{url}");
        assert_eq!(package.size.map(|size| size.to_string()).as_deref(), block.get("size").copied(), "{url}");
        assert!(url.ends_with(&format!("/{}/{}", package.subdir, package.file)), "{url}");
        let stem = format!("{}-{}-{}", package.name, package.version, package.build);
        assert!(package.file.starts_with(&stem), "{url}");
        let noarch = match block.get("noarch").copied() {
            Some("python") => CondaNoarch::Python,
            Some("generic") => CondaNoarch::Generic,
            // pixi leaves it out where the build string tells it.
            None if package.subdir != "noarch" => CondaNoarch::No,
            None if package.build.contains("py") => CondaNoarch::Python,
            None => CondaNoarch::Generic,
            Some(other) => panic!("{other}"),
        };
        assert_eq!(package.noarch, noarch, "{url}");
    }
    check_order(&environment);
    let found: Vec<String> = environment
        .packages
        .iter()
        .map(|it| {
            let hash = it.sha256.as_ref().or(it.md5.as_ref()).expect("a hash");
            format!("{}/{}-{}-{} {hash}", it.subdir, it.name, it.version, it.build)
        })
        .collect();
    let expect = Path::new(name).with_file_name(format!("{subdir}.expect"));
    let expect = std::fs::read_to_string(file(expect.to_str().unwrap())).expect("what rattler makes of it");
    assert_eq!(found, expect.lines().collect::<Vec<_>>());
}

#[test]
fn a_gpu_project_on_each_of_its_platforms() {
    let lock = "pytorch-gpu/pixi.lock";
    check_whole(lock, "linux-64", 100);
    check_whole(lock, "osx-arm64", 60);
    check_whole(lock, "win-64", 71);
}

#[test]
fn packages_of_the_gpu_project() {
    let environment = pixi("pytorch-gpu/pixi.lock", "default", "linux-64");
    let python = environment.python.as_ref().expect("a Python");
    assert_eq!(
        (python.version.as_str(), python.site_packages.as_str()),
        ("3.13.9", "lib/python3.13/site-packages")
    );
    let pytorch = find(&environment, "pytorch");
    assert_eq!(pytorch.file, "pytorch-2.8.0-cuda129_mkl_py313_h7947483_302.conda");
    assert_eq!(
        pytorch.sha256.as_deref(),
        Some("079a049266603ea51a4d8c669707df94b8b274ef8f2dce758c7415c2d8fde292")
    );
    assert_eq!(pytorch.noarch, CondaNoarch::No);
    assert_eq!(find(&environment, "jinja2").noarch, CondaNoarch::Python);
    assert_eq!(find(&environment, "cuda-version").noarch, CondaNoarch::Generic);
    let record = find(&environment, "python").record.as_ref().expect("a record");
    assert_eq!(record["fn"], "python-3.13.9-hc97d973_101_cp313.conda");
    assert_eq!(record["build_number"], 101);
    assert_eq!(record["channel"], "https://conda.anaconda.org/conda-forge/");
    assert_eq!(record["timestamp"], 1761178179147_u64);
    let keys: Vec<&String> = record.as_object().expect("a record").keys().collect();
    assert!(keys.is_sorted(), "{keys:?}");
}

#[test]
fn records_are_those_that_a_newer_reading_takes_back() {
    for package in pixi("pytorch-gpu/pixi.lock", "default", "linux-64").packages {
        let record = package.record.expect("a record");
        let read: rattler_conda_types::RepoDataRecord =
            serde_json::from_value(record.clone()).expect("rattler's own record");
        assert_eq!(serde_json::to_value(&read).expect("JSON"), record);
    }
}

#[test]
fn places_credentials_and_wheels() {
    let environment = pixi("small/pixi.lock", "default", "linux-64");
    let names: Vec<&str> = environment.packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, ["x264", "tzdata", "python", "pip", "mytool"]);
    check_order(&environment);

    let x264 = find(&environment, "x264");
    assert_eq!(x264.version, "1!164.3095");
    assert_eq!(x264.file, "x264-1!164.3095-h166bdaf_2.tar.bz2");
    let place = "https://packages.example.org/private/linux-64/x264-1%21164.3095-h166bdaf_2.tar.bz2";
    assert_eq!(url(&x264.location), place);
    let record = x264.record.as_ref().expect("a record");
    assert_eq!(record["url"], place);
    assert_eq!(record["channel"], "https://packages.example.org/private/");

    let mytool = find(&environment, "mytool");
    let path = file("small/channel/linux-64/mytool-1.0-h4616a5c_0.conda");
    assert_eq!(mytool.location, Location::Path(path));
    assert_eq!(
        mytool.record.as_ref().expect("a record")["url"],
        "file:///channel/linux-64/mytool-1.0-h4616a5c_0.conda"
    );

    let whole = serde_json::to_string(&environment.packages.iter().map(|it| &it.record).collect::<Vec<_>>());
    let whole = whole.expect("JSON");
    assert!(!whole.contains("secret") && !whole.contains("to-ken"), "{whole}");
    assert!(!whole.contains(env!("CARGO_MANIFEST_DIR")), "{whole}");

    let wheels: Vec<(&str, &str, &str)> = environment
        .wheels
        .iter()
        .map(|it| (it.name.as_str(), it.version.as_str(), it.file.as_str()))
        .collect();
    assert_eq!(
        wheels,
        [
            ("flask-sqlalchemy", "3.1.1", "Flask_SQLAlchemy-3.1.1-py3-none-any.whl"),
            ("native", "2.0", "native-2.0-cp313-cp313-manylinux_2_28_x86_64.whl"),
        ]
    );
    let native = environment.wheels.last().expect("a wheel");
    assert_eq!(native.sha256, "e".repeat(64));
    assert_eq!(native.location, Location::Path(file(&format!("small/wheels/{}", native.file))));
}

#[test]
fn environments_and_platforms_by_name() {
    let old = pixi("small/pixi.lock", "old", "linux-64");
    let mutex = find(&old, "_libgcc_mutex");
    assert_eq!(
        (mutex.sha256.as_deref(), mutex.md5.as_deref()),
        (None, Some("d7c89558ba9fa0495403155b64376d81"))
    );
    assert!(old.python.is_none() && old.wheels.is_empty());
    assert_eq!(pixi("small/pixi.lock", "old", "linux-aarch64").packages.len(), 1);
}

/// A lock that is written from what was read says the same.
#[test]
fn locks_that_are_written() {
    let lock = "pytorch-gpu/pixi.lock";
    let platforms = ["linux-64", "osx-arm64"];
    let found = platforms.map(|subdir| pixi(lock, "default", subdir));
    let pairs: Vec<(&str, &CondaEnvironment)> = platforms.into_iter().zip(&found).collect();
    let written = to_pixi_lock(&pairs, &["https://conda.anaconda.org/conda-forge/".to_owned()]);
    let written = written.expect("a lock");
    for (subdir, found) in pairs {
        let again = pixi_lock(&written, &file("written.lock"), &PixiSelection::default(), subdir);
        assert_eq!(&again.expect("an environment"), found);
    }

    let small = pixi("small/pixi.lock", "default", "linux-64");
    let written = to_pixi_lock(&[("linux-64", &small)], &[]).expect("a lock");
    let again = pixi_lock(&written, &file("written.lock"), &PixiSelection::default(), "linux-64");
    let again = again.expect("an environment");
    assert_eq!(again.wheels, small.wheels);
    let places = |it: &CondaEnvironment| -> Vec<Location> {
        it.packages.iter().map(|package| package.location.clone()).collect()
    };
    assert_eq!(places(&again), places(&small));
    let nowhere = to_pixi_lock(&[("plan9-64", &small)], &[]).expect_err("an error").to_string();
    assert!(nowhere.contains("`plan9-64` is no platform of conda's"), "{nowhere}");
}

fn select(categories: &[&str]) -> CondaLockSelection {
    CondaLockSelection { categories: categories.iter().map(|&name| name.to_owned()).collect() }
}

/// A conda-lock.yml without the package of this name.
fn without(text: &str, name: &str) -> String {
    let (before, rest) = text.split_once(&format!("- name: {name}\n")).expect("the package");
    let after = rest.split_once("\n- name: ").map_or("", |(_, after)| after);
    format!("{before}- name: {after}")
}

#[test]
fn conda_lock_of_a_real_project() {
    let lock = "yi/conda-lock.yml";
    let error = conda_lock(&text(lock), &file(lock), &select(&[]), "linux-64").expect_err("an error");
    assert!(
        error.to_string().contains("flash-attn 2.3.6 has only sources (flash_attn-2.3.6.tar.gz)"),
        "{error}"
    );

    let text = without(&text(lock), "flash-attn");
    let environment = conda_lock(&text, &file(lock), &select(&[]), "linux-64").expect("an environment");
    assert_eq!(environment.packages.len(), text.matches("manager: conda\n").count());
    check_order(&environment);
    for package in &environment.packages {
        let url = url(&package.location);
        let block = text.split(&format!("  url: {url}\n")).nth(1).expect("the package's lines");
        let hashes: Vec<&str> = block.lines().skip(1).take(2).map(str::trim_start).collect();
        assert_eq!(hashes[0], format!("md5: {}", package.md5.as_deref().unwrap()), "{url}");
        assert_eq!(hashes[1], format!("sha256: {}", package.sha256.as_deref().unwrap()), "{url}");
    }
    let ninja: Vec<&str> = environment.wheels.iter().map(|wheel| wheel.file.as_str()).collect();
    assert_eq!(ninja, ["ninja-1.11.1.1-py2.py3-none-manylinux1_x86_64.manylinux_2_5_x86_64.whl"]);
    assert_eq!(environment.python.expect("a Python").site_packages, "lib/python3.10/site-packages");
    // The format does not say it, so nothing else is assumed.
    for package in environment.packages.iter().filter(|package| package.subdir == "noarch") {
        assert_eq!(package.noarch, CondaNoarch::Python, "{}", package.name);
    }
}

const CATEGORIES: &str = "\
version: 1
metadata:
  content_hash:
    linux-64: dc3b8acd2e43b67d9f0f4e899e2cf5c9236c5f8ba0d3f13afd0664baaa029b81
    osx-64: dc3b8acd2e43b67d9f0f4e899e2cf5c9236c5f8ba0d3f13afd0664baaa029b81
  channels: [{ url: conda-forge, used_env_vars: [] }]
  platforms: [linux-64, osx-64]
  sources: [environment.yml]
package:
";

/// `name category platform url`, each with a hash.
fn packages(lines: &[&str]) -> String {
    let mut text = CATEGORIES.to_owned();
    for line in lines {
        let parts: Vec<&str> = line.split(' ').collect();
        let [name, category, platform, url] = parts.as_slice() else { panic!("{line}") };
        let manager = if url.contains("conda") { "conda" } else { "pip" };
        text.push_str(&format!(
            "- {{ name: {name}, version: '1.0', manager: {manager}, platform: {platform}, dependencies: {{}}, url: '{url}', \
             hash: {{ sha256: {} }}, category: {category}, optional: false }}\n",
            "a".repeat(64)
        ));
    }
    text
}

#[track_caller]
fn check_categories(categories: &[&str], expect: &[&str]) {
    let text = packages(&[
        "a main linux-64 https://example.org/conda/linux-64/a-1.0-0.conda",
        "a main osx-64 https://example.org/conda/osx-64/a-1.0-0.conda",
        "b dev linux-64 https://example.org/conda/noarch/b-1.0-0.conda",
        "c docs linux-64 https://example.org/c-1.0-py3-none-any.whl",
        // What is wrong with another platform, and with what nobody wants, is nobody's trouble.
        "d dev osx-64 git+https://example.org/d",
        "e test linux-64 git+https://example.org/e",
    ]);
    let found = conda_lock(&text, Path::new("conda-lock.yml"), &select(categories), "linux-64");
    let found = found.expect("an environment");
    let conda = found.packages.iter().map(|package| package.name.as_str());
    let mut names: Vec<&str> = conda.chain(found.wheels.iter().map(|wheel| wheel.name.as_str())).collect();
    names.sort_unstable();
    assert_eq!(names, expect, "{categories:?}");
}

#[test]
fn categories_are_installed_when_they_are_asked_for() {
    check_categories(&[], &["a"]);
    check_categories(&["main"], &["a"]);
    check_categories(&["dev"], &["a", "b"]);
    check_categories(&["docs", "dev"], &["a", "b", "c"]);
}
