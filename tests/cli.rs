//! The program's wiring: what it refuses, what it says then, and what is left on the disk.

#![allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const IMAGES: &str = r#"
version = 1

[settings]
platforms = ["linux/amd64"]

[base.empty]
scratch = true

[image.hello]
base = "empty"
files = [{ src = "hello.txt", dest = "/hello.txt" }]
"#;

/// One image of one file, which is made in no time.
struct Project(TempDir);

impl Project {
    fn new() -> Self {
        let project = Self(TempDir::new().unwrap());
        fs::create_dir(project.path("")).unwrap();
        fs::write(project.path("images.toml"), IMAGES).unwrap();
        fs::write(project.path("hello.txt"), "hello\n").unwrap();
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("project").join(name)
    }

    fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    fn imgforge(&self, arguments: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_imgforge").as_ref(), arguments)
    }

    fn program(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("--offline").args(arguments).current_dir(self.path("")).env_clear();
        command.env("HOME", self.0.path().join("home")).env("IMGFORGE_STORE", self.0.path().join("store"));
        command
    }

    /// The command fails as a request and says each of these things.
    #[track_caller]
    fn check_refused(&self, arguments: &[&str], expected: &[&str]) {
        refused(&mut self.imgforge(arguments), expected);
    }
}

#[track_caller]
fn refused(command: &mut Command, expected: &[&str]) {
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(text(&output.stdout), "");
    for part in expected {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}

#[track_caller]
fn done(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn without_images_toml_the_place_to_run_it_is_told() {
    let project = Project::new();
    fs::remove_file(project.path("images.toml")).unwrap();
    let hint = "hint: run it in the project's folder or give the path of images.toml";
    for command in ["build", "lock", "plan", "vendor", "verify"] {
        project.check_refused(&[command], &["error: there is no images.toml", hint]);
    }
    project.check_refused(&["gc", "other/images.toml"], &["there is no other/images.toml", hint]);
    done(&mut project.imgforge(&["gc"]));
}

#[test]
fn missing_inputs_and_folders_are_named() {
    let project = Project::new();
    let output = "hint: give the path that `imgforge build` wrote to";
    project.check_refused(&["inspect"], &["there is no dist", output]);
    project.check_refused(&["verify", "--layout", "no"], &["there is no no", output]);
    project.check_refused(&["verify", "--archive", "no.tar"], &["there is no no.tar", output]);
    let folder = ["there is no folder no for no/x.tar", "hint: make it: `mkdir -p no`"];
    project.check_refused(&["build", "--archive", "no/x.tar"], &folder);
    assert!(!project.has("images.lock") && !project.has("dist"));
    done(&mut project.imgforge(&["build", "--archive", "x.tar"]));
    done(&mut project.imgforge(&["verify", "--archive", "x.tar"]));
}

#[test]
fn outputs_without_a_lock_are_not_begun() {
    let project = Project::new();
    // Another user may not reach the folder that the program was built in.
    let program = project.0.path().join("imgforge");
    fs::copy(env!("CARGO_BIN_EXE_imgforge"), &program).unwrap();
    let mut build = project.program(&program, &["build", "--output", "../store/dist"]);
    done(&mut project.imgforge(&["build", "--output", "../store/dist", "--compression", "gzip"]));
    fs::remove_dir_all(project.0.path().join("store")).unwrap();
    fs::create_dir(project.0.path().join("store")).unwrap();
    fs::set_permissions(project.0.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(project.0.path().join("store"), Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(project.path(""), Permissions::from_mode(0o555)).unwrap();
    // To root a folder is never read-only: the program runs as nobody then.
    if fs::metadata(project.path("")).unwrap().uid() == 0 {
        build.uid(65534).gid(65534);
    }
    refused(&mut build, &["images.lock changes, and can't be written in .", "no output was written"]);
    assert!(!project.0.path().join("store/dist").exists());
    fs::set_permissions(project.path(""), Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn what_was_written_before_a_failure_is_told() {
    let project = Project::new();
    // The layout takes the place of images.lock, which can then not be written.
    let both = ["build", "--archive", "x.tar", "--output", "images.lock"];
    project.check_refused(&both, &["can't write images.lock; already written: x.tar, images.lock", "hint: "]);
    assert!(project.has("x.tar"));
    fs::remove_dir_all(project.path("images.lock")).unwrap();
    let file = ["build", "--archive", "x.tar", "--output", "hello.txt"];
    project.check_refused(&file, &["can't write hello.txt; already written: x.tar"]);
    assert!(!project.has("images.lock"));
}

#[test]
fn the_environment_may_be_of_any_bytes() {
    let project = Project::new();
    let bytes = || OsString::from_vec(b"\xff".to_vec());
    done(project.imgforge(&["build"]).env(bytes(), "x").env("PS1", bytes()));
    let name: &OsStr = "IMGFORGE_AUTH_EXAMPLE_ORG".as_ref();
    refused(project.imgforge(&["build"]).env(name, bytes()), &["IMGFORGE_AUTH_EXAMPLE_ORG is not UTF-8"]);
}

#[test]
fn pruning_takes_files_and_dead_drafts() {
    let project = Project::new();
    fs::create_dir_all(project.path("vendor/mine")).unwrap();
    // No process has so high a number.
    let living = format!(".a.whl.{}.part", std::process::id());
    for file in ["old.whl", ".gitignore", ".a.whl.4294967295.part", &living, "mine/notes"] {
        fs::write(project.path("vendor").join(file), "").unwrap();
    }
    let said = text(&done(&mut project.imgforge(&["vendor"])).stderr);
    assert!(said.contains("in no lock (--prune removes them): .a.whl.4294967295.part, old.whl"), "{said}");
    let said = text(&done(&mut project.imgforge(&["vendor", "--prune"])).stderr);
    assert!(said.contains("removed: .a.whl.4294967295.part, old.whl\n"), "{said}");
    assert!(said.contains("folders, left alone: mine\n"), "{said}");
    let left = fs::read_dir(project.path("vendor")).unwrap();
    let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, [living.as_str(), ".gitignore", "mine"]);
}

#[test]
fn an_edit_is_noticed_whatever_its_times_say() {
    let project = Project::new();
    let build = || text(&done(&mut project.imgforge(&["build"])).stdout);
    let old = fs::metadata(project.path("hello.txt")).unwrap().modified().unwrap();
    let first = build();
    // From now on the file is one that was left alone for long enough to be remembered.
    std::thread::sleep(std::time::Duration::from_millis(3100));
    assert_eq!((build(), build()), (first.clone(), first.clone()));
    fs::write(project.path("hello.txt"), "hallo\n").unwrap();
    fs::File::options().write(true).open(project.path("hello.txt")).unwrap().set_modified(old).unwrap();
    let second = build();
    assert_ne!(second, first);
    fs::write(project.path("hello.txt"), "hello\n").unwrap();
    assert_eq!(build(), first);
}

#[test]
fn a_page_is_written_whole_and_the_same_again() {
    let project = Project::new();
    done(&mut project.imgforge(&["build"]));
    let page = || fs::read_to_string(project.path("page.html")).unwrap();
    let output = done(&mut project.imgforge(&["inspect", "--html", "page.html"]));
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), ("", "page.html written\n"));
    let first = page();
    assert!(first.ends_with("</html>\n") && first.contains("files /hello.txt"), "{first}");
    let output =
        done(&mut project.imgforge(&["inspect", "hello", "--html", "page.html", "--json", "--quiet"]));
    assert!(text(&output.stdout).contains("\"reference\": \"hello:latest\"") && output.stderr.is_empty());
    assert_eq!(page(), first);
    // What a file is called is text there, whatever it looks like.
    let hostile = IMAGES.replace("/hello.txt\"", "/<script>alert(1)</script>\"");
    fs::write(project.path("images.toml"), hostile).unwrap();
    done(&mut project.imgforge(&["build"]));
    done(&mut project.imgforge(&["inspect", "--html", "page.html"]));
    assert_eq!(page().matches("<script>").count(), 1);
    assert!(page().contains("files /&lt;script&gt;alert(1)&lt;/script&gt;"), "{}", page());
    // A page that can't be put there leaves nothing.
    let folder = ["there is no folder no for no/page.html", "hint: make it: `mkdir -p no`"];
    project.check_refused(&["inspect", "--html", "no/page.html"], &folder);
    project.check_refused(&["inspect", "other", "--html", "other.html"], &["has no such image"]);
    assert!(!project.has("other.html"));
}

#[test]
fn a_build_says_what_it_came_to() {
    let project = Project::new();
    let output = done(&mut project.imgforge(&["build", "--json"]));
    let said = text(&output.stderr);
    assert!(said.contains("image") && said.contains("hello:latest") && said.contains("done in"), "{said}");
    let figures = |output: &Output| {
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let image = &value["images"][0]["platforms"][0]["figures"];
        assert_eq!(image["size"], value["totals"]["size"]);
        (image["new"]["layers"].as_u64().unwrap(), image["reused"]["layers"].as_u64().unwrap())
    };
    assert_eq!(figures(&output), (1, 0));
    assert_eq!(figures(&done(&mut project.imgforge(&["build", "--json"]))), (0, 1));
    assert_eq!(text(&done(&mut project.imgforge(&["build", "--quiet"])).stderr), "");
}
