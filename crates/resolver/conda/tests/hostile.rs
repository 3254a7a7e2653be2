//! Locks that nobody's tool writes, and what is said of them. None of it may panic.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // All of it is test code, helpers too.

use std::path::Path;

use imgforge_resolver_conda::{
    CondaEnvironment, CondaLockSelection, CondaNoarch, Error, Location, PixiSelection, conda_lock, explicit,
    pixi_lock, to_explicit,
};

const MD5: &str = "d7c89558ba9fa0495403155b64376d81";
const SHA256: &str = "fe51de6107f9edc7aa4f786a70f4a883943bc9d39b3bb7307c04c41410990726";

#[track_caller]
fn refused(result: Result<CondaEnvironment, Error>, expect: &str) {
    let error = result.expect_err("an error");
    assert!(!matches!(error, Error::Internal { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains(expect), "{error}");
    assert!(!error.chars().any(|char| char.is_control() && char != '\n' && char != '\t'), "{error:?}");
}

fn read(text: &str) -> Result<CondaEnvironment, Error> {
    explicit(text, Path::new("explicit.txt"), "linux-64")
}

/// A file with one line after the tag.
#[track_caller]
fn line(line: &str, expect: &str) {
    refused(read(&format!("@EXPLICIT\n{line}\n")), &format!("explicit.txt, line 2: {expect}"));
}

#[test]
fn explicit_files() {
    let text = format!(
        "# This file may be used to create an environment using:\n# platform: linux-64\n@EXPLICIT\n\n\
         https://me:secret@example.org/forge/linux-64/python-3.13.2-h1_0_cp313t.conda#{MD5}\n\
         file:///srv/channel/noarch/tzdata-2025b-h78e105d_0.conda#sha256:{}\n\
         https://example.org/forge/linux-64/x264-1!164.3095-h166bdaf_2.tar.bz2#{SHA256}\n\
         # pip Flask_SQLAlchemy @ https://example.org/flask_sqlalchemy-3.1.1-py3-none-any.whl#sha256={SHA256}\n",
        SHA256.to_uppercase()
    );
    let found = read(&text).expect("an environment");
    let names: Vec<&str> = found.packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, ["python", "tzdata", "x264"]);
    let [python, tzdata, x264] = found.packages.as_slice() else { panic!() };
    assert_eq!(
        python.location,
        Location::Url("https://example.org/forge/linux-64/python-3.13.2-h1_0_cp313t.conda".to_owned())
    );
    assert_eq!((python.md5.as_deref(), python.sha256.as_deref()), (Some(MD5), None));
    assert_eq!((python.version.as_str(), python.build.as_str()), ("3.13.2", "h1_0_cp313t"));
    assert_eq!(tzdata.location, Location::Path("/srv/channel/noarch/tzdata-2025b-h78e105d_0.conda".into()));
    assert_eq!((tzdata.sha256.as_deref(), tzdata.md5.as_deref()), (Some(SHA256), None));
    assert_eq!((tzdata.noarch, python.noarch), (CondaNoarch::Python, CondaNoarch::No));
    assert_eq!((x264.version.as_str(), x264.sha256.as_deref()), ("1!164.3095", Some(SHA256)));
    assert!(found.packages.iter().all(|package| package.record.is_none()));
    assert_eq!(found.python.as_ref().expect("a Python").site_packages, "lib/python3.13t/site-packages");
    assert_eq!(found.wheels.first().expect("a wheel").name, "flask-sqlalchemy");

    // What is written is read again.
    let written = to_explicit(&found, "linux-64");
    assert!(!written.contains("secret"), "{written}");
    assert_eq!(read(&written).expect("an environment"), found);
}

#[test]
fn explicit_lines_that_are_none() {
    line("https://example.org/linux-64/a-1-0.conda", "a-1-0.conda has no hash");
    line("https://example.org/linux-64/a-1-0.conda#", "a-1-0.conda has no hash");
    line(&format!("https://example.org/linux-64/a-1-0.conda#sha256:{MD5}"), "\"d7c8");
    line("https://example.org/linux-64/a-1-0.conda#d7c89558ba9fa049540315", "\"d7c8");
    line(&format!("https://example.org/linux-64/a-1-0.conda#{}", "g".repeat(32)), "\"gggg");
    line("numpy=1.26", "\"numpy=1.26\" is no URL");
    line(&format!("s3://bucket/linux-64/a-1-0.conda#{MD5}"), "`s3` URLs are not fetched");
    line(&format!("https://example.org/a-1-0.conda#{MD5}"), "a-1-0.conda is in no folder of a platform");
    line(&format!("https://example.org/osx-64/a-1-0.conda#{MD5}"), "a-1-0.conda is made for osx-64");
    line(&format!("https://example.org/linux-64/a-1.conda#{MD5}"), "\"a-1.conda\" is no conda package");
    line(&format!("https://example.org/linux-64/a-1-0.whl#{MD5}"), "\"a-1-0.whl\" is no conda package");
    line(&format!("https://example.org/linux-64/a-1-0.zip#{MD5}"), "\"a-1-0.zip\" is no conda package");
}

#[test]
fn explicit_names_that_lead_elsewhere() {
    line(
        &format!("https://example.org/linux-64/..%2f..%2fa-1-0.conda#{MD5}"),
        "\"..%2f..%2fa-1-0.conda\" is no file's name",
    );
    line(
        &format!("https://example.org/linux-64/%2Fetc%2Fa-1-0.conda#{MD5}"),
        "\"%2Fetc%2Fa-1-0.conda\" is no file's name",
    );
    line(
        &format!("https://example.org/linux-64/a%1b[31m-1-0.conda#{MD5}"),
        "\"a%1b[31m-1-0.conda\" is no file's name",
    );
    line(
        &format!("https://example.org/linux-64/a b-1-0.conda#{MD5}"),
        "\"a%20b-1-0.conda\" is no file's name",
    );
    line(&format!("https://example.org/linux-64/a!-1-0.conda#{MD5}"), "\"a!\" is no name of a package");
    line(&format!("https://example.org/linux-64/-1-0.conda#{MD5}"), "\"\" is no name of a package");
    line(&format!("https://example.org/linux-64/a--0.conda#{MD5}"), "\"\" is no version");
    // Parents in a URL lead nowhere: they are gone before anything looks at it.
    let found = read(&format!("@EXPLICIT\nhttps://example.org/x/../../linux-64/a-1-0.conda#{MD5}\n"));
    assert_eq!(
        found.expect("an environment").packages.first().expect("a package").location,
        Location::Url("https://example.org/linux-64/a-1-0.conda".to_owned())
    );
}

#[test]
fn explicit_files_as_a_whole() {
    refused(read(""), "there is no line `@EXPLICIT`");
    refused(read("# platform: linux-64\n"), "there is no line `@EXPLICIT`");
    refused(read("numpy\n@EXPLICIT\n"), "line 1: it stands before `@EXPLICIT`");
    refused(read("# platform: osx-64\n@EXPLICIT\n"), "is not locked for linux-64: it is for osx-64");
    let twice = format!(
        "@EXPLICIT\nhttps://example.org/linux-64/a-1-0.conda#{MD5}\nhttps://example.org/noarch/a-2-0.conda#{MD5}\n"
    );
    refused(read(&twice), "line 3: a is there twice: it is on line 2 too");
    let wheel = "# pip a @ https://example.org/a-1-py3-none-any.whl";
    refused(read(&format!("@EXPLICIT\n{wheel}\n")), "line 2: a has no usable hash");
    refused(read(&format!("@EXPLICIT\n{wheel}#sha256={MD5}\n")), "is no hash");
    refused(
        read("@EXPLICIT\n# pip a @ git+https://example.org/a\n"),
        "line 2: a: `git+https` URLs are not fetched",
    );
    assert!(read("@EXPLICIT\n").expect("an environment").packages.is_empty());
}

/// A pixi.lock of version 6 with these lines for packages, all of them in the one environment.
fn pixi(packages: &str) -> String {
    let selectors: String = packages
        .lines()
        .filter(|line| line.starts_with("- "))
        .map(|line| format!("      {line}\n"))
        .collect();
    format!(
        "version: 6\nenvironments:\n  default:\n    channels:\n    - url: https://example.org/forge/\n    indexes:\n    - \
         https://pypi.org/simple\n    packages:\n      linux-64:\n{selectors}packages:\n{packages}"
    )
}

fn read_pixi(text: &str) -> Result<CondaEnvironment, Error> {
    pixi_lock(text, Path::new("pixi.lock"), &PixiSelection::default(), "linux-64")
}

#[track_caller]
fn refused_pixi(packages: &str, expect: &str) {
    refused(read_pixi(&pixi(packages)), expect);
}

#[test]
fn versions_of_pixi_locks() {
    refused(read_pixi("version: 4\nenvironments: {}\n"), "format version 4");
    refused(read_pixi("version: 1\n"), "too old; run `pixi lock` with a current pixi");
    refused(
        read_pixi("version: 8\n"),
        "format version 8, and this imgforge reads versions 5 to 7: use a newer imgforge",
    );
    refused(read_pixi("'version': 3\nmetadata: {}\npackage: []\n"), "pixi.lock");
    refused(read_pixi("version: six\n"), "can't be read as pixi.lock");
    refused(read_pixi(""), "can't be read as pixi.lock");
    refused(read_pixi("version: 6\n"), "missing field `environments`");
    refused(read_pixi("\u{1b}[31m"), "can't be read as pixi.lock");
    refused(read_pixi(&"[".repeat(100_000)), "can't be read as pixi.lock");
    refused(read_pixi(&format!("version: 6\na: {}\n", "{a: ".repeat(10_000))), "can't be read as pixi.lock");
}

#[test]
fn what_pixi_locks_do_not_have() {
    let text = pixi("");
    let select = |environment: &str, platform: Option<&str>, subdir: &str| {
        let selection = PixiSelection {
            environment: environment.to_owned(),
            platform: platform.map(str::to_owned),
            ..PixiSelection::default()
        };
        pixi_lock(&text, Path::new("pixi.lock"), &selection, subdir)
    };
    refused(select("gpu", None, "linux-64"), "has no environment `gpu`: it has default");
    refused(
        select("default", None, "linux-aarch64"),
        "is not locked for linux-aarch64 in environment `default`: it is for linux-64; add the platform",
    );
    refused(select("default", Some("cuda"), "linux-64"), "is not locked for cuda in environment `default`");
    assert!(select("default", None, "linux-64").expect("an environment").packages.is_empty());
}

#[test]
fn packages_that_are_sources() {
    let git = "- pypi: git+https://me:secret@example.org/a.git?rev=main#0123\n  name: a\n  version: 1.0.0\n";
    refused_pixi(git, "a 1.0.0 has only sources (git+https://example.org/a.git?rev=main)");
    let sdist = format!(
        "- pypi: https://example.org/a-1.0.tar.gz\n  name: a\n  version: '1.0'\n  sha256: {SHA256}\n"
    );
    refused_pixi(&sdist, "a 1.0 has only sources (a-1.0.tar.gz): build it");
    let folder = "- pypi: ./\n  name: demo\n  version: 0.1.0\n  editable: true\n";
    refused_pixi(folder, "demo is a folder (./): leave folders out");
    let built = "- conda: ./mytool\n  name: mytool\n  version: 1.0.0\n  build: h1_0\n  subdir: linux-64\n  input:\n    hash: \
                 fe51de6107f9edc7aa4f786a70f4a883943bc9d39b3bb7307c04c41410990726\n    globs: []\n";
    refused_pixi(built, "mytool 1.0.0 has only sources (./mytool)");
    let selection = PixiSelection { without_folders: true, ..PixiSelection::default() };
    let found = pixi_lock(&pixi(&format!("{built}{folder}")), Path::new("pixi.lock"), &selection, "linux-64");
    assert!(found.expect("an environment").packages.is_empty());
}

#[test]
fn wheels_that_are_none() {
    let wheel = |file: &str, rest: &str| {
        format!("- pypi: https://example.org/{file}\n  name: a\n  version: '1.0'\n{rest}")
    };
    refused_pixi(&wheel("a-1.0-py3-none-any.whl", ""), "a 1.0 has no usable hash for a-1.0-py3-none-any.whl");
    refused_pixi(&wheel("a-1.0-py3-none-any.whl", &format!("  md5: {MD5}\n")), "a 1.0 has no usable hash");
    let hash = format!("  sha256: {SHA256}\n");
    refused_pixi(&wheel("b-1.0-py3-none-any.whl", &hash), "which is another package's");
    refused_pixi(&wheel("a-1.0-cp311-cp311-win_amd64.whl", &hash), "a 1.0 is made for win_amd64");
    refused_pixi(&wheel("..%2Fa-1.0-py3-none-any.whl", &hash), "is no file's name");
    // A requirement that another crate's parser panics on.
    let dash = wheel("a-1.0-py3-none-any.whl", &format!("{hash}  requires_dist: ['fla- sk']\n"));
    refused_pixi(&dash, "can't be read as pixi.lock");
    let direct = wheel("a-1.0-py3-none-any.whl", &hash).replace("https", "direct+https");
    let found = read_pixi(&pixi(&direct)).expect("an environment");
    assert_eq!(
        found.wheels.first().expect("a wheel").location,
        Location::Url("https://example.org/a-1.0-py3-none-any.whl".to_owned())
    );
}

#[test]
fn packages_that_are_none() {
    let package = |file: &str, rest: &str| format!("- conda: https://example.org/linux-64/{file}\n{rest}");
    let hash = format!("  sha256: {SHA256}\n");
    refused_pixi(&package("a-1-0.conda", ""), "a 1 has no usable hash for a-1-0.conda");
    refused_pixi(&package("a-1-0.conda", "  sha256: abc\n"), "can't be read as pixi.lock");
    refused_pixi(&package("a-1-0.conda", &format!("  sha256: {MD5}\n")), "can't be read as pixi.lock");
    refused_pixi(
        &package("a-1-0.conda", &format!("{hash}  name: b\n")),
        "which is another package's: b-1-0 was expected",
    );
    refused_pixi(&package("a-1-0.conda", &format!("{hash}  version: '2'\n")), "a-2-0 was expected");
    refused_pixi(&package("a-1-0.conda", &format!("{hash}  build: '1'\n")), "a-1-1 was expected");
    refused_pixi(&package("a-1-0.conda", &format!("{hash}  subdir: osx-64\n")), "a 1 is made for osx-64");
    refused_pixi(&package("..%2Fa-1-0.conda", &hash), "is no file's name");
    refused_pixi(
        &package("a-1-0.conda", &format!("{hash}  name: '../../a'\n")),
        "can't be read as pixi.lock",
    );
    let python = "python_site_packages_path: ../../etc\n";
    refused_pixi(&package("python-3.13.2-0.conda", &format!("{hash}  {python}")), "is none below the prefix");
    refused_pixi(&package("python-3-0.conda", &hash), "\"3\" is no version of Python");
    let twice = format!("{}{}", package("a-1-0.conda", &hash), package("a-2-0.conda", &hash));
    refused_pixi(&twice, "a 2 is there twice");
    let escape = package("a-1-0.conda", &format!("{hash}  subdir: \"\\e[31mlinux-64\"\n"));
    refused_pixi(&escape, "a 1 is made for [31mlinux-64");
    let missing = pixi(&package("a-1-0.conda", &hash)).replace("\npackages:\n- conda", "\npackages:\n- pypi");
    refused(read_pixi(&missing), "can't be read as pixi.lock");
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let packages = format!(
        "- conda: https://example.org/linux-64/b-1-0.conda\n- conda: https://example.org/linux-64/a-1-0.conda\n  \
         subdir: osx-64\n  sha256: {SHA256}\n- pypi: ./\n  name: demo\n  version: 0.1.0\n"
    );
    let error = read_pixi(&pixi(&packages)).expect_err("an error").to_string();
    let lines: Vec<&str> = error.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(lines, ["pixi.lock:", "a", "b", "demo"], "{error}");
}

#[test]
fn a_long_chain_of_packages() {
    let chain = |count: usize| -> String {
        let package = |index: usize| {
            let depends =
                if index + 1 < count { format!("  depends: [p{}]\n", index + 1) } else { String::new() };
            format!("- conda: https://example.org/linux-64/p{index}-1-0.conda\n  sha256: {SHA256}\n{depends}")
        };
        (0..count).map(package).collect()
    };
    let found = read_pixi(&pixi(&chain(3000))).expect("an environment");
    assert_eq!(found.packages.first().expect("a package").name, "p2999");
    refused(read_pixi(&pixi(&chain(10_001))), "more than 10000 packages");
}

#[test]
fn circles_of_packages() {
    let packages = format!(
        "- conda: https://example.org/linux-64/python-3.13.2-0.conda\n  sha256: {SHA256}\n  depends: [pip]\n- conda: \
         https://example.org/noarch/pip-25-py_0.conda\n  sha256: {SHA256}\n  depends: [python, python, '']\n"
    );
    let found = read_pixi(&pixi(&packages)).expect("an environment");
    let names: Vec<&str> = found.packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, ["python", "pip"]);
}

/// Version 7 has platforms with names of their own.
const PLATFORMS: &str = "\
version: 7
platforms:
- name: cuda
  subdir: linux-64
  virtual-packages: [__cuda=12]
- name: plain
  subdir: linux-64
- name: linux-aarch64
environments:
  default:
    channels:
    - url: https://example.org/forge/
    packages:
      cuda:
      - conda: https://example.org/linux-64/a-1-cuda_0.conda
      plain:
      - conda: https://example.org/linux-64/a-1-cpu_0.conda
      - conda_source: 'mytool[0123abcd] @ .'
      linux-aarch64: []
packages:
- conda: https://example.org/linux-64/a-1-cpu_0.conda
  sha256: fe51de6107f9edc7aa4f786a70f4a883943bc9d39b3bb7307c04c41410990726
- conda: https://example.org/linux-64/a-1-cuda_0.conda
  sha256: fe51de6107f9edc7aa4f786a70f4a883943bc9d39b3bb7307c04c41410990726
- conda_source: 'mytool[0123abcd] @ .'
  version: 1.0.0
  subdir: linux-64
";

#[test]
fn platforms_with_names() {
    let read = |platform: Option<&str>, without_folders: bool, subdir: &str| {
        let platform = platform.map(str::to_owned);
        let selection = PixiSelection { platform, without_folders, ..PixiSelection::default() };
        pixi_lock(PLATFORMS, Path::new("pixi.lock"), &selection, subdir)
    };
    let build = |found: Result<CondaEnvironment, Error>| {
        found.expect("an environment").packages.first().expect("a package").build.clone()
    };
    assert_eq!(build(read(Some("cuda"), false, "linux-64")), "cuda_0");
    assert_eq!(build(read(Some("plain"), true, "linux-64")), "cpu_0");
    refused(read(None, true, "linux-64"), "has several platforms for linux-64: cuda, plain");
    refused(read(Some("plain"), false, "linux-64"), "mytool 1.0.0 has only sources (.)");
    refused(read(Some("cuda"), true, "linux-aarch64"), "is not locked for cuda");
    assert!(read(None, true, "linux-aarch64").expect("an environment").packages.is_empty());
}

/// Version 5, which names everything twice.
const FIFTH: &str = "\
version: 5
environments:
  default:
    channels:
    - url: https://example.org/forge/
    packages:
      linux-64:
      - conda: https://example.org/forge/noarch/tzdata-2024a-h0c530f3_0.conda
      - pypi: https://files.example.org/numpy-1.26.4-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl
packages:
- kind: conda
  name: tzdata
  version: 2024a
  build: h0c530f3_0
  subdir: noarch
  noarch: generic
  url: https://example.org/forge/noarch/tzdata-2024a-h0c530f3_0.conda
  sha256: fe51de6107f9edc7aa4f786a70f4a883943bc9d39b3bb7307c04c41410990726
  size: 119815
- kind: pypi
  name: numpy
  version: 1.26.4
  url: https://files.example.org/numpy-1.26.4-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl
  sha256: fe51de6107f9edc7aa4f786a70f4a883943bc9d39b3bb7307c04c41410990726
";

#[test]
fn version_five() {
    let found = read_pixi(FIFTH).expect("an environment");
    let tzdata = found.packages.first().expect("a package");
    assert_eq!((tzdata.noarch, tzdata.size), (CondaNoarch::Generic, Some(119_815)));
    assert_eq!(found.wheels.first().expect("a wheel").version, "1.26.4");
    let other = FIFTH.replace("/tzdata-2024a-h0c530f3_0.conda", "/zlib-2024a-h0c530f3_0.conda");
    refused(read_pixi(&other), "which is another package's: tzdata-2024a-h0c530f3_0 was expected");
}

const CONDA_LOCK: &str = "\
version: 1
metadata:
  content_hash:
    linux-64: dc3b8acd2e43b67d9f0f4e899e2cf5c9236c5f8ba0d3f13afd0664baaa029b81
  channels: [{ url: conda-forge, used_env_vars: [] }]
  platforms: [linux-64]
  sources: [environment.yml]
package:
- name: a
  version: '1.0'
  manager: conda
  platform: linux-64
  dependencies: {}
  url: https://example.org/linux-64/a-1.0-0.conda
  hash:
    sha256: fe51de6107f9edc7aa4f786a70f4a883943bc9d39b3bb7307c04c41410990726
  category: main
  optional: false
";

#[track_caller]
fn refused_conda_lock(from: &str, to: &str, expect: &str) {
    assert!(CONDA_LOCK.contains(from), "{from}");
    let selection = CondaLockSelection { categories: vec!["main".to_owned()] };
    let text = CONDA_LOCK.replace(from, to);
    refused(conda_lock(&text, Path::new("conda-lock.yml"), &selection, "linux-64"), expect);
}

#[test]
fn conda_locks_that_are_none() {
    refused_conda_lock(CONDA_LOCK, "", "conda-lock.yml can't be read");
    refused_conda_lock("version: 1\n", "version: 2\n", "line 1: version: unsupported lock-file version");
    refused_conda_lock("sha256: fe51", "sha256: xe51", "line 16: package[0].hash.sha256");
    refused_conda_lock("sha256: fe51", "sha256: 51", "line 16: package[0].hash.sha256");
    refused_conda_lock("platform: linux-64", "platform: osx-64", "line 12");
    refused_conda_lock("a-1.0-0.conda", "b-1.0-0.conda", "a 1.0 can't be fetched: its file is b-1.0-0.conda");
    refused_conda_lock("a-1.0-0.conda", "..%2Fa-1.0-0.conda", "\"..%2Fa-1.0-0.conda\" is no file's name");
    refused_conda_lock("/linux-64/a", "/osx-64/a", "line 14: url of package a: artifact subdir disagrees");
    refused_conda_lock("https://example.org", "s3://bucket", "`s3` URLs are not fetched");
    refused_conda_lock("https://example.org/linux-64/", "../", "line 14");
    refused_conda_lock("name: a\n", "name: '../a'\n", "line 9");
    refused_conda_lock("category: main", "colour: main", "colour");
    refused_conda_lock(
        "dependencies: {}",
        &format!("dependencies: {}", "{a: ".repeat(10_000)),
        "can't be read",
    );
    let selection = CondaLockSelection { categories: vec!["dev".to_owned()] };
    let dev = conda_lock(CONDA_LOCK, Path::new("conda-lock.yml"), &selection, "linux-64");
    refused(dev, "has no category `dev`: it has main");
    let other = conda_lock(CONDA_LOCK, Path::new("conda-lock.yml"), &CondaLockSelection::default(), "osx-64");
    refused(other, "is not locked for osx-64: it is for linux-64");
    let hashless = CONDA_LOCK
        .replace("    sha256: fe51de6107f9edc7aa4f786a70f4a883943bc9d39b3bb7307c04c41410990726\n", "");
    let hashless = hashless.replace("\n  hash:\n", "\n  hash: {}\n");
    let found =
        conda_lock(&hashless, Path::new("conda-lock.yml"), &CondaLockSelection::default(), "linux-64");
    refused(found, "a 1.0 has no usable hash for a-1.0-0.conda: run `conda-lock lock` again");
}

/// Whatever a text has become, it is read or refused, and never the cause of a panic.
#[test]
fn texts_that_something_happened_to() {
    let explicit_file = format!(
        "# platform: linux-64\n@EXPLICIT\nhttps://example.org/linux-64/a-1-0.conda#{MD5}\n# pip b @ \
         https://example.org/b-1-py3-none-any.whl#sha256={SHA256}\n"
    );
    let small =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/locks/small/pixi.lock"));
    let texts = [
        small.expect("a lock"),
        PLATFORMS.to_owned(),
        FIFTH.to_owned(),
        CONDA_LOCK.to_owned(),
        explicit_file,
    ];
    let mut state = 42_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % below.max(1)
    };
    for round in 0..300 {
        let mut text = texts[round % texts.len()].clone();
        for _ in 0..=random(3) {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let (one, other) = (random(lines.len()), random(lines.len()));
            match random(6) {
                0 => drop(lines.remove(one)),
                1 => lines.insert(one, lines[other].clone()),
                2 => lines.swap(one, other),
                3 => lines.truncate(one),
                // A value that is another line's.
                4 => {
                    let value = lines[other].split_once(": ").map_or("", |(_, value)| value).to_owned();
                    let key = lines[one].split_once(": ").map_or("", |(key, _)| key).to_owned();
                    lines[one] = format!("{key}: {value}");
                }
                _ => {
                    let odd = [
                        "\u{0}",
                        "%00",
                        "..",
                        "/",
                        "\u{202e}",
                        "'",
                        "{",
                        "- ",
                        "!!binary ",
                        "&a ",
                        "*a",
                        "é",
                    ];
                    let line = &mut lines[one];
                    let at = random(line.len() + 1);
                    if line.is_char_boundary(at) {
                        line.insert_str(at, odd[random(odd.len())]);
                    }
                }
            }
            text = lines.join("\n");
            if text.is_empty() {
                break;
            }
        }
        let selection = PixiSelection { without_folders: round % 2 == 0, ..PixiSelection::default() };
        let results = [
            pixi_lock(&text, Path::new("pixi.lock"), &selection, "linux-64"),
            conda_lock(&text, Path::new("conda-lock.yml"), &CondaLockSelection::default(), "linux-64"),
            read(&text),
        ];
        for result in results {
            match result {
                Err(error) => assert!(!matches!(error, Error::Internal { .. }), "{error}\n{text}"),
                Ok(found) => {
                    for package in &found.packages {
                        assert!(
                            !package.file.contains('/') && package.file.starts_with(&package.name),
                            "{text}"
                        );
                    }
                }
            }
        }
    }
}
