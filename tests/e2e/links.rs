//! `links`: a small layer of their own, errors where they would hide something, and a part of what a build sees.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::project::{Project, failure, success, text};
use crate::sandboxed::with_builder;

const PREFIX: &str = "prefix = \"/opt/venv\"\n";
const LINKS: &str =
    "links = { \"libs\" = \"lib\", \"lib/python3.11/site-packages/any\" = \"anyio/__init__.py\" }\n";

fn with_links(project: &Project, links: &str) {
    project.edit("images.toml", PREFIX, &format!("{PREFIX}{links}"));
}

/// What `tar` says of a layer whose title begins like this: mode and name of each entry.
fn entries(project: &Project, title: &str) -> Vec<String> {
    let layers = project.layers();
    let (digest, _) = layers.values().flatten().find(|(_, own)| own.starts_with(title)).unwrap();
    let blob = project.path("dist/blobs/sha256").join(digest.trim_start_matches("sha256:"));
    let listed = success(Command::new("tar").arg("--zstd").arg("-tvf").arg(blob));
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        [&words[..1], &words[5..]].concat().join(" ")
    };
    text(&listed.stdout).lines().map(line).collect()
}

#[test]
fn links_are_a_layer_of_their_own() {
    let project = Project::small();
    project.build(&[]);
    let before = project.layers();
    with_links(&project, LINKS);
    project.edit(
        "images.toml",
        "[image.small]\n",
        "[image.small]\nlinks = { \"/usr/bin/python\" = \"/opt/venv/bin/python\" }\n",
    );
    project.build(&[]);
    let new: BTreeSet<String> = ["links of /", "links of /opt/venv"].map(str::to_owned).into();
    assert_eq!(project.new_layers(&before), new);
    assert_eq!(
        entries(&project, "links of /opt/venv"),
        [
            "drwxr-xr-x opt/",
            "drwxr-xr-x opt/venv/",
            "drwxr-xr-x opt/venv/lib/",
            "drwxr-xr-x opt/venv/lib/python3.11/",
            "drwxr-xr-x opt/venv/lib/python3.11/site-packages/",
            "lrwxrwxrwx opt/venv/lib/python3.11/site-packages/any -> anyio/__init__.py",
            "lrwxrwxrwx opt/venv/libs -> lib",
        ]
    );
    // The same links in another order, and another one.
    let after = project.layers();
    let turned =
        "links = { \"lib/python3.11/site-packages/any\" = \"anyio/__init__.py\", \"libs\" = \"lib\" }\n";
    project.edit("images.toml", LINKS, turned);
    project.build(&["--locked"]);
    project.edit("images.toml", "\"libs\" = \"lib\"", "\"lib32\" = \"lib\"");
    project.build(&[]);
    assert_eq!(project.new_layers(&after), ["links of /opt/venv".to_owned()].into());
}

#[test]
fn a_link_hides_nothing_and_leads_somewhere() {
    #[track_caller]
    fn check(links: &str, expected: &[&str]) {
        let project = Project::small();
        with_links(&project, &format!("links = {{ {links} }}\n"));
        let said = failure(&mut project.building(&[]));
        assert!(expected.iter().all(|text| said.contains(text)), "{said}");
        assert!(!project.path("dist").exists(), "a build that failed left an output");
    }
    let packages = "lib/python3.11/site-packages";
    check(
        &format!("\"{packages}/anyio\" = \"h11\""),
        &["error: links of /opt/venv: ", "site-packages/anyio is in anyio 4."],
    );
    check(
        &format!("\"{packages}/h11/__init__.py\" = \"../anyio\""),
        &["error: links of /opt/venv: ", "site-packages/h11/__init__.py is in h11 0."],
    );
    check(
        &format!("\"{packages}/h11/__init__.py/x\" = \"../anyio\""),
        &["error: links of /opt/venv: ", "h11/__init__.py is in h11 0."],
    );
    check("\"bin/python\" = \"x\"", &["bin/python is in virtual environment /opt/venv"]);
    check(
        "\"libs\" = \"lob\"",
        &["error: links of /opt/venv: /opt/venv/libs leads to /opt/venv/lob, and nothing is there"],
    );
    check(
        "\"libs\" = \"../../../lib\"",
        &["[env.app]: links: `libs` leads to `../../../lib`: out of the root"],
    );
    // And nothing hides a link.
    let project = Project::small();
    with_links(&project, "links = { \"share\" = \"lib\" }\n");
    fs::create_dir(project.path("own")).unwrap();
    fs::write(project.path("own/a"), "").unwrap();
    project.edit("images.toml", "files = [", "files = [{ src = \"own\", dest = \"/opt/venv/share\" }, ");
    let said = failure(&mut project.building(&[]));
    assert!(said.contains("files /opt/venv/share: /opt/venv/share is in links of /opt/venv"), "{said}");
}

#[test]
fn a_build_sees_links_and_is_another_one_with_others() {
    let project = with_builder();
    let toml = r#"
version = 1
[settings]
platforms = ["linux/amd64"]
[base.builder]
image = "oci:builder:builder:latest"
[env.app]
lock = "app/uv.lock"
prefix = "/opt/venv"
links = { "libs" = "lib" }
[env.other]
lock = "app/uv.lock"
prefix = "/opt/other"
links = { "libs" = "lib" }
[artifact.tool]
script = "readlink /opt/venv/libs > /opt/tool; test -d /opt/venv/libs/python3.11"
outputs = ["/opt/tool"]
env = "app"
builder = "builder"
key = ["builder"]
[image.out]
base = "builder"
envs = ["app", "other"]
artifacts = ["tool"]
smoke = [["grep", "-qx", "lib", "/opt/tool"]]
"#;
    fs::write(project.path("images.toml"), toml).unwrap();
    success(&mut project.imgforge(["test", "--offline"]));
    let plan = |from: &str, to: &str| {
        project.edit("images.toml", from, to);
        text(&success(&mut project.imgforge(["plan", "--offline"])).stdout)
    };
    let other = "prefix = \"/opt/other\"\nlinks = { ";
    let said = plan(other, &format!("{other}\"more\" = \"lib\", "));
    assert!(!said.contains("  build  "), "the links of an environment that it does not see: {said}");
    let own = "prefix = \"/opt/venv\"\nlinks = { ";
    let said = plan(own, &format!("{own}\"more\" = \"lib\", "));
    assert!(said.contains("  build  ") && said.contains("the recipe's links was"), "{said}");
}
