//! One path, two owners: what becomes of files that two packages of an environment disagree about.

#![allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]

type Layers = Vec<(String, Digest)>;
type Files = Vec<(String, String)>;

/// A package: its name, and its files with their text.
type Package<'a> = (&'a str, &'a [(&'a str, &'a str)]);

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output};

use imgforge_oci::{Digest, layout, read, validate};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

/// A project with one wheel for each package, and an image for each list of packages.
struct Project(TempDir);

impl Project {
    fn new(packages: &[Package<'_>], images: &[(&str, &[&str])], more: &str) -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        let mut toml = format!("version = 1\n[base.none]\nscratch = true\n{more}\n");
        for (image, wanted) in images {
            let mut lock = "lock-version = \"1.0\"\ncreated-by = \"a test\"\n".to_owned();
            for (name, files) in packages.iter().filter(|(name, _)| wanted.contains(name)) {
                let file = format!("{name}-1.0-py3-none-any.whl");
                let bytes = wheel(name, files);
                let sha256 = Digest::of(&bytes).hex();
                fs::write(project.0.path().join(&file), bytes).unwrap();
                lock.push_str(&format!(
                    "[[packages]]\nname = \"{name}\"\nversion = \"1.0\"\n\
                     wheels = [{{ name = \"{file}\", path = \"{file}\", hashes = {{ sha256 = \"{sha256}\" }} }}]\n"
                ));
            }
            fs::write(project.0.path().join(format!("pylock.{image}.toml")), lock).unwrap();
            toml.push_str(&format!(
                "[env.{image}]\nlock = \"pylock.{image}.toml\"\nprefix = \"/v\"\npython = \"3.11\"\n\
                 interpreter = \"/python\"\nglibc = \"2.36\"\non-conflict = \"@\"\n\
                 [image.{image}]\nbase = \"none\"\nenvs = [\"{image}\"]\n@FILES\n"
            ));
        }
        fs::write(project.0.path().join("images.toml"), toml).unwrap();
        project
    }

    fn build(&self, on_conflict: &str, files: &str) -> Output {
        let path = self.0.path().join("images.toml");
        let template = fs::read_to_string(&path).unwrap();
        fs::write(&path, template.replace('@', on_conflict).replace(&format!("{on_conflict}FILES"), files))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgforge"));
        command.current_dir(self.0.path()).env_clear().env("IMGFORGE_STORE", self.0.path().join("store"));
        let output = command.args(["build", "--offline"]).output().unwrap();
        fs::write(&path, template).unwrap();
        output
    }

    /// An image's layers by their history, and all its wheels' files with their text, from the bottom.
    fn image(&self, name: &str) -> (Layers, Files) {
        let dist = self.0.path().join("dist");
        validate::layout(&dist).unwrap();
        let medium = layout::open(&dist).unwrap();
        let image = read::image(&medium, Some(&format!("{name}:latest")), None).unwrap();
        let mut files = Vec::new();
        let mut layers = Vec::new();
        for layer in image.layers() {
            layers.push((layer.history.clone(), layer.digest));
            let blob = fs::File::open(dist.join("blobs/sha256").join(layer.digest.hex())).unwrap();
            if !layer.media_type.to_string().ends_with("gzip") {
                continue;
            }
            let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(blob));
            for entry in archive.entries().unwrap() {
                let mut entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                let text = std::io::read_to_string(&mut entry).unwrap();
                files.push((path, text));
            }
        }
        (layers, files)
    }

    /// What stands at a path in the end: the uppermost layer's.
    fn content(&self, image: &str, path: &str) -> Option<String> {
        self.image(image).1.into_iter().rfind(|(other, _)| other == path).map(|(_, text)| text)
    }
}

fn wheel(name: &str, files: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let info = format!("{name}-1.0.dist-info");
    let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n");
    let wheel = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    let own = [(format!("{info}/METADATA"), metadata.as_str()), (format!("{info}/WHEEL"), wheel)];
    let mut record = format!("{info}/RECORD,,\n");
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), *text));
    for (path, text) in files.chain(own) {
        zip.start_file(&path, SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
        record.push_str(&format!("{path},,\n"));
    }
    zip.start_file(format!("{info}/RECORD"), SimpleFileOptions::default()).unwrap();
    zip.write_all(record.as_bytes()).unwrap();
    zip.finish().unwrap().into_inner()
}

const SHARED: &str = "v/lib/python3.11/site-packages/ns/__init__.py";

#[test]
fn the_later_name_wins_and_the_packages_layers_stay_what_they_are() {
    let packages: [Package<'_>; 3] = [
        ("aa", &[("ns/__init__.py", "a"), ("ns/same.py", "x")]),
        ("bb", &[("ns/__init__.py", "b"), ("ns/same.py", "x")]),
        ("cc", &[("ns/__init__.py", "b")]),
    ];
    let images: [(&str, &[&str]); 3] =
        [("both", &["aa", "bb", "cc"]), ("one", &["aa"]), ("two", &["bb", "cc"])];
    let project = Project::new(&packages, &images, "");
    let output = project.build("later", "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("note: /v/lib/python3.11/site-packages/ns/__init__.py: bb 1.0 covers aa 1.0"),
        "{said}"
    );
    assert_eq!(project.content("both", SHARED).as_deref(), Some("b"));
    assert_eq!(project.content("one", SHARED).as_deref(), Some("a"));

    let layer = |image: &str, title: &str| {
        let history = format!("imgforge: {title}");
        project.image(image).0.into_iter().find(|(other, _)| *other == history).map(|(_, digest)| digest)
    };
    assert!(layer("both", "aa 1.0").is_some());
    assert_eq!(layer("both", "aa 1.0"), layer("one", "aa 1.0"));
    assert!(layer("both", "1 disputed files").is_some());
    assert!(layer("two", "1 disputed files").is_none(), "cc and bb agree");
}

#[test]
fn a_second_build_knows_the_dispute() {
    let packages: [Package<'_>; 2] = [("aa", &[("x.py", "a")]), ("bb", &[("x.py", "b")])];
    let project = Project::new(&packages, &[("both", &["aa", "bb"])], "");
    let first = project.build("later", "");
    let second = project.build("later", "");
    assert_eq!(first.stdout, second.stdout);
    assert!(!String::from_utf8_lossy(&second.stderr).contains("made x"));
}

#[track_caller]
fn check_refused(packages: &[Package<'_>], on_conflict: &str, files: &str, expected: &str) {
    let names: Vec<&str> = packages.iter().map(|(name, _)| *name).collect();
    let project = Project::new(packages, &[("both", &names)], "");
    fs::write(project.0.path().join("other"), "other").unwrap();
    let output = project.build(on_conflict, files);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(expected), "{said}");
    assert!(output.stdout.is_empty());
    assert!(!project.0.path().join("dist").exists() && !project.0.path().join("images.lock").exists());
}

#[test]
fn a_dispute_can_be_an_error() {
    check_refused(
        &[("aa", &[("x.py", "a")]), ("bb", &[("x.py", "b")])],
        "error",
        "",
        "[env.both]: /v/lib/python3.11/site-packages/x.py is in aa 1.0 and, with other content, in bb 1.0",
    );
}

#[test]
fn a_folder_in_one_and_a_file_in_the_other() {
    check_refused(
        &[("aa", &[("x", "a")]), ("bb", &[("x/y.py", "b")])],
        "later",
        "",
        "/v/lib/python3.11/site-packages/x",
    );
}

#[test]
fn application_files_do_not_lie_on_a_packages() {
    check_refused(
        &[("aa", &[("x.py", "a")])],
        "later",
        "files = [{ src = \"other\", dest = \"/v/lib/python3.11/site-packages/x.py\" }]",
        "x.py is in aa 1.0",
    );
}
