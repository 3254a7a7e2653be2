//! A change makes the layers new that it must, and no others.

use std::collections::BTreeSet;

use crate::project::{Project, repository};

/// Builds, changes the project, builds again, and compares the titles of the layers that are new.
fn check(project: Project, change: impl FnOnce(&Project), expected: &[&str]) {
    project.build(&[]);
    let before = project.layers();
    change(&project);
    project.build(&[]);
    let titles = project.new_layers(&before);
    let expected: BTreeSet<String> = expected.iter().map(|&title| title.to_owned()).collect();
    assert_eq!(titles, expected);
}

#[test]
fn an_application_file() {
    let change = |project: &Project| project.edit("app/src/app/catalogue.json", "0.9", "0.8");
    check(Project::small(), change, &["files /app"]);
}

#[test]
fn another_prefix_moves_the_environment_only() {
    let project = Project::small();
    project.build(&[]);
    let before = project.layers();
    project.edit("images.toml", "/opt/venv", "/srv/venv");
    project.build(&[]);
    let titles = project.new_layers(&before);
    assert!(titles.contains("virtual environment /srv/venv"), "{titles:?}");
    assert!(
        !titles.iter().any(|title| title.starts_with("files") || title.starts_with("users")),
        "{titles:?}"
    );
}

#[test]
fn a_label_makes_no_layer() {
    let change = |project: &Project| {
        project.edit("images.toml", "user = \"app\"", "user = \"app\"\nlabels = { a = \"b\" }")
    };
    check(Project::small(), change, &[]);
}

/// Another image that splits no group.
#[test]
fn an_image_more() {
    let change = |project: &Project| {
        project.edit(
            "images.toml",
            "[image.small]",
            "[image.twin]\nextends = \"small\"\ncmd = [\"--help\"]\n\n[image.small]",
        )
    };
    check(Project::small(), change, &[]);
}

/// NumPy, which the small project's lock lacks.
#[test]
fn a_package_more() {
    let change = |project: &Project| {
        let lock = std::fs::read_to_string(repository().join("app/uv.lock")).unwrap();
        std::fs::write(project.path("app/uv.lock"), lock).unwrap();
    };
    check(Project::small(), change, &["numpy 2.4.6"]);
}

/// The development image on the runtime image's base: no package of an environment and no file of the application moves.
#[test]
fn another_base() {
    let project = Project::example();
    project.build(&[]);
    let before = project.layers();
    project.edit("images.toml", "base = \"devel\"\n", "base = \"runtime\"\n");
    project.build(&[]);
    // What both images have is in other groups now; all of it is the system's.
    let old: BTreeSet<&String> = before.values().flatten().map(|(_, title)| title).collect();
    let above =
        |title: &String| ["numpy", "fastapi", "files", "virtual"].iter().any(|word| title.starts_with(word));
    let titles = project.new_layers(&before);
    assert!(old.iter().any(|title| above(title)) && !titles.iter().any(above), "{titles:?}");
}
