//! A project in a temporary folder, and the program run on it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use imgforge_oci::validate;
use tempfile::TempDir;

/// A folder with an images.toml and what it names, and beside it a store and outputs.
pub struct Project {
    scratch: TempDir,
}

/// What a build printed: image to manifest digest.
pub type Digests = BTreeMap<String, String>;

impl Project {
    /// The repository's own images.
    pub fn example() -> Self {
        let project = Self::new();
        for file in ["images.toml", "images.lock"] {
            fs::copy(repository().join(file), project.path(file)).unwrap();
        }
        project
    }

    /// One image without a base, of the application's files and its environment without NumPy's size: made in the
    /// blink of an eye, and still of every kind of layer that needs no Debian package.
    pub fn small() -> Self {
        let project = Self::new();
        let lock = fs::read_to_string(repository().join("app/uv.lock")).unwrap();
        fs::write(project.path("app/uv.lock"), without_numpy(&lock)).unwrap();
        fs::write(project.path("images.toml"), SMALL).unwrap();
        project
    }

    fn new() -> Self {
        let project = Self { scratch: tempfile::tempdir().unwrap() };
        fs::create_dir(project.path("")).unwrap();
        symlink(repository().join("vendor"), project.path("vendor")).unwrap();
        copy(&repository().join("app"), &project.path("app"));
        project
    }

    /// A path in the project's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join("project").join(name)
    }

    /// A path beside it: for stores and outputs.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Changes a file of the project.
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file} has no {from:?}");
        fs::write(self.path(file), text.replacen(from, to, 1)).unwrap();
    }

    /// The program, in the project's folder, knowing nothing of who runs the test.
    pub fn imgforge<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgforge"));
        command.args(arguments).current_dir(self.path("")).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("HOME", self.beside("home"));
        command.env("IMGFORGE_STORE", self.beside("store"));
        command
    }

    /// `imgforge build --offline`, with more arguments.
    pub fn building(&self, arguments: &[&str]) -> Command {
        self.imgforge(["build", "--offline"].iter().chain(arguments))
    }

    /// Builds, checks the layout `dist/`, and returns what was printed.
    pub fn build(&self, arguments: &[&str]) -> Digests {
        let digests = digests(&success(&mut self.building(arguments)));
        check_layout(&self.path("dist"), &digests);
        digests
    }

    /// What images.lock says: image to the digests of its layers with their titles, from the bottom.
    pub fn layers(&self) -> BTreeMap<String, Vec<(String, String)>> {
        let lock = fs::read_to_string(self.path("images.lock")).unwrap();
        let lock = imgforge::images_lock::ImagesLock::parse(&lock).unwrap();
        let layers = |outcome: imgforge::images_lock::Outcome| {
            outcome.layers.into_iter().map(|layer| (layer.digest.to_string(), layer.title)).collect()
        };
        lock.images.into_iter().map(|((name, _), outcome)| (name, layers(outcome))).collect()
    }

    /// The titles of all layers that are now in images.lock and not in `before`.
    pub fn new_layers(&self, before: &BTreeMap<String, Vec<(String, String)>>) -> BTreeSet<String> {
        let old: BTreeSet<&String> = before.values().flatten().map(|(digest, _)| digest).collect();
        let now = self.layers();
        now.into_values()
            .flatten()
            .filter(|(digest, _)| !old.contains(digest))
            .map(|(_, title)| title)
            .collect()
    }
}

/// Every digest, size and diff ID of the layout is right, and it has the images that were printed.
pub fn check_layout(dist: &Path, digests: &Digests) {
    let report = validate::layout(dist).unwrap();
    let found: BTreeSet<String> = report.images.iter().map(|image| image.digest.to_string()).collect();
    assert_eq!(found, digests.values().cloned().collect());
    assert_eq!(report.extra, Vec::<String>::new());
    assert_eq!(report.remarks, Vec::<String>::new());
}

/// Runs a command that must succeed.
pub fn success(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, text(&output.stderr));
    output
}

/// Runs a command that must fail as a request (exit 1) with nothing on stdout; returns what it says.
pub fn failure(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{command:?}\n{said}");
    assert_eq!(text(&output.stdout), "", "{command:?}");
    said
}

/// `NAME sha256:…` lines, and nothing else.
pub fn digests(output: &Output) -> Digests {
    let line = |line: &str| {
        let (name, digest) = line.split_once(' ').unwrap_or_else(|| panic!("not NAME DIGEST: {line}"));
        assert!(digest.starts_with("sha256:") && digest.len() == 71, "{line}");
        (name.to_owned(), digest.to_owned())
    };
    text(&output.stdout).lines().map(line).collect()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Copies files as a checkout would make them: names, contents and executable bits.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_name().to_str() {
            Some(".venv" | "__pycache__" | ".pytest_cache") => {}
            _ if entry.file_type().unwrap().is_dir() => copy(&entry.path(), &to.join(entry.file_name())),
            _ => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// The lock of an application that needs no NumPy.
fn without_numpy(lock: &str) -> String {
    let packages: Vec<&str> =
        lock.split("\n[[package]]\n").filter(|package| !package.starts_with("name = \"numpy\"")).collect();
    let lock = packages.join("\n[[package]]\n");
    let names_numpy = |line: &&str| line.contains("name = \"numpy\"");
    lock.lines().filter(|line| !names_numpy(line)).flat_map(|line| [line, "\n"]).collect()
}

const SMALL: &str = r#"
version = 1

[settings]
platforms = ["linux/amd64"]

[base.empty]
scratch = true

[env.app]
lock = "app/uv.lock"
prefix = "/opt/venv"
python = "3.11"
interpreter = "/usr/bin/python3.11"
glibc = "2.36"

[image.small]
base = "empty"
envs = ["app"]
files = [{ src = "app/src", dest = "/app", exclude = ["__pycache__/"] }]
users = [{ name = "app", uid = 65532, home = "/home/app" }]
user = "app"
entrypoint = ["python", "-m", "app"]
"#;
