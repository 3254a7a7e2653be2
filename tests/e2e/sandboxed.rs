//! What images.toml says of the sandbox: an artifact's script and smoke commands, and the limits at which they are stopped.
//!
//! The builder is an image of Debian's packages in `vendor/`, made first, whose `sh` is bash.

use std::fs;
use std::os::unix::fs::symlink;

use crate::project::{Project, failure, success, text};

/// A project whose `[base.builder]` has a shell and GNU's tools.
pub fn with_builder() -> Project {
    let project = Project::example();
    fs::create_dir(project.path("sh")).unwrap();
    symlink("bash", project.path("sh/sh")).unwrap();
    let before = fs::read_to_string(project.path("images.toml")).unwrap();
    let image = "[image.builder]\nbase = \"devel\"\nfiles = [{ src = \"sh\", dest = \"/usr/bin\" }]\n";
    fs::write(project.path("images.toml"), format!("{before}\n{image}")).unwrap();
    success(&mut project.building(&["--output", "builder", "images.toml", "builder"]));
    fs::remove_file(project.path("images.lock")).unwrap();
    project
}

/// An images.toml with a script, whose tables of settings, artifact and image have these lines too.
fn images(script: &str, settings: &str, artifact: &str, image: &str) -> String {
    format!(
        r#"
version = 1
[settings]
platforms = ["linux/amd64"]
{settings}
[base.builder]
image = "oci:builder:builder:latest"
[artifact.tool]
script = "{script}"
outputs = ["/opt/tool"]
builder = "builder"
{artifact}
[image.out]
base = "builder"
artifacts = ["tool"]
{image}
"#
    )
}

#[test]
fn a_build_is_stopped_at_its_limits() {
    let project = with_builder();
    #[track_caller]
    fn check(project: &Project, script: &str, limit: &str, expected: &str) {
        let limit = format!("limits = {{ {limit} }}");
        for (settings, artifact) in [("", limit.as_str()), (limit.as_str(), "")] {
            let toml =
                images(&format!("{script}\ntouch /opt/tool").replace('\n', "\\n"), settings, artifact, "");
            fs::write(project.path("images.toml"), toml).unwrap();
            let said = failure(&mut project.building(&[]));
            assert!(said.contains("error: [artifact.tool]"), "{said}");
            let key = limit.split([' ', '=']).nth(4).unwrap_or_default();
            let place =
                format!("`limits.{key}` in [artifact.tool] or `limits.{key}` in [settings] raises it");
            assert!(
                said.contains(&format!("the build was stopped at its limit of {expected}; {place}")),
                "{said}"
            );
            assert!(!project.path("dist").exists(), "a build that failed left an output");
        }
    }
    let zeros = "head -c 300000000 /dev/zero";
    check(&project, &format!("{zeros} > /tmp/x; sleep 60"), "memory = \"64 MiB\"", "memory, 64 MiB");
    check(&project, &format!("{zeros} > /opt/x; sleep 60"), "disk = \"64 MiB\"", "the disk, 64 MiB");
    check(&project, &format!("{zeros} > /opt/x"), "file-size = \"64 MiB\"", "a file's size, 64 MiB");
    check(&project, "for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; wait", "processes = 4", "processes, 4");
    check(&project, "while :; do echo y; done", "log = \"1 MiB\"", "what it may print, 1 MiB");
    check(&project, "sleep 60", "time = \"1 s\"", "time, 1 s");
}

#[test]
fn limits_are_no_part_of_a_key() {
    let project = with_builder();
    let script = "head -c 30000000 /dev/zero > /tmp/x\\nhead -c 1000 /dev/zero > /opt/tool";
    let write = |settings: &str, artifact: &str| {
        fs::write(project.path("images.toml"), images(script, settings, artifact, "")).unwrap();
    };
    // The nearer table counts.
    write(
        "limits = { memory = \"16 MiB\", tmp = \"none\" }",
        "limits = { memory = \"none\", disk = \"1 GiB\" }",
    );
    let before = project.build(&[]);
    let lock = fs::read_to_string(project.path("images.lock")).unwrap();
    write("", "limits = { memory = \"16 MiB\", time = \"1 s\" }");
    let plan = text(&success(&mut project.imgforge(["plan", "--offline"])).stdout);
    assert!(!plan.contains("  build  ") && plan.contains("  reuse  "), "{plan}");
    assert_eq!(project.build(&["--locked"]), before);
    assert_eq!(fs::read_to_string(project.path("images.lock")).unwrap(), lock);
}

#[test]
fn a_smoke_command_is_stopped_at_its_limits() {
    let project = with_builder();
    let image = "smoke = [[\"true\"], [\"sleep\", \"60\"]]\nsmoke-limits = { time = \"1 s\" }";
    fs::write(project.path("images.toml"), images("touch /opt/tool", "", "", image)).unwrap();
    let output = project.imgforge(["test", "--offline"]).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let expected = "it was stopped at its limit of time, 1 s; `smoke-limits.time` in [image.out] or `limits.time` in [settings]";
    assert!(said.contains(expected) && said.contains("1 passed, 1 failed"), "{said}");
}
