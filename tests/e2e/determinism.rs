//! The same digests, whoever builds, wherever, however. Another user is `engines.sh`'s business: that takes root.

use std::process::Command;

use crate::project::{Digests, Project, digests, success};

/// Builds in a folder and a store of its own, with a changed command, and expects images.lock's digests.
fn check(change: impl FnOnce(&mut Command) -> &mut Command) {
    check_built(|project| {
        let mut command = project.building(&["--locked"]);
        change(&mut command);
        digests(&success(&mut command))
    });
}

/// The repository's images.lock has the digests of a build like any other, on another machine; `--locked` compares.
fn check_built(build: impl FnOnce(&Project) -> Digests) {
    let project = Project::example();
    assert_eq!(build(&project).len(), 2);
}

#[test]
fn in_another_time_zone() {
    check(|command| command.env("TZ", "Pacific/Kiritimati"));
}

#[test]
fn in_another_locale() {
    check(|command| command.envs([("LC_ALL", "tr_TR.UTF-8"), ("LANG", "tr_TR.UTF-8"), ("LANGUAGE", "tr")]));
}

#[test]
fn in_another_home() {
    check(|command| command.env("HOME", "/nonexistent").env("USER", "somebody"));
}

#[test]
fn with_one_thread() {
    check(|command| command.args(["--jobs", "1"]));
}

#[test]
fn with_many_threads() {
    check(|command| command.args(["--jobs", "7"]));
}

#[test]
fn with_another_output_folder() {
    check_built(|project| {
        let dist = project.beside("somewhere else");
        let dist = dist.to_str().unwrap();
        let built = digests(&success(&mut project.building(&["--locked", "--output", dist])));
        crate::project::check_layout(dist.as_ref(), &built);
        built
    });
}

#[test]
fn with_another_store() {
    check_built(|project| {
        let store = project.beside("a store, with a comma");
        digests(&success(&mut project.building(&["--locked", "--store", store.to_str().unwrap()])))
    });
}

/// Both the program's own files and the application's: the checkout's modes come from the umask, too.
#[test]
fn with_another_umask() {
    check_built(|project| {
        let mut shell = Command::new("/bin/sh");
        let script = "umask 077 && chmod -R go= app && exec \"$@\"";
        shell.args(["-c", script, "sh", env!("CARGO_BIN_EXE_imgforge"), "build", "--offline", "--locked"]);
        shell.current_dir(project.path("")).env_clear().env("PATH", "/usr/bin:/bin");
        shell.env("IMGFORGE_STORE", project.beside("store"));
        digests(&success(&mut shell))
    });
}

#[test]
fn from_another_working_folder() {
    check_built(|project| {
        let file = project.path("images.toml");
        let dist = project.beside("dist");
        let arguments = [file.to_str().unwrap(), "--locked", "--output", dist.to_str().unwrap()];
        let mut command = project.building(&arguments);
        digests(&success(command.current_dir("/")))
    });
}

/// The order of tables and of lists in images.toml.
#[test]
fn with_images_toml_in_another_order() {
    check_built(|project| {
        let text = std::fs::read_to_string(project.path("images.toml")).unwrap();
        let (head, tables) = text.split_once("\n[base.runtime]").unwrap();
        let tables = format!("\n[base.runtime]{tables}");
        let mut tables: Vec<&str> = tables.split("\n\n").collect();
        tables.reverse();
        let text = format!("{head}\n\n{}\n", tables.join("\n\n"));
        let text = text.replacen(
            "    \"base-files\",\n    \"base-passwd\",\n",
            "    \"base-passwd\",\n    \"base-files\",\n",
            1,
        );
        std::fs::write(project.path("images.toml"), text).unwrap();
        project.build(&["--locked"])
    });
}
