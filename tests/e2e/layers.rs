//! A change makes the layers new that it must, and no others.

use std::collections::BTreeSet;

use crate::project::Project;

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
    assert!(!titles.iter().any(|title| title.starts_with("files") || title.starts_with("users")), "{titles:?}");
}

#[test]
fn a_label_makes_no_layer() {
    let change = |project: &Project| project.edit("images.toml", "user = \"app\"", "user = \"app\"\nlabels = { a = \"b\" }");
    check(Project::small(), change, &[]);
}

/// Another image that splits no group.
#[test]
fn an_image_more() {
    let change = |project: &Project| project.edit("images.toml", "[image.small]", "[image.twin]\nextends = \"small\"\ncmd = [\"--help\"]\n\n[image.small]");
    check(Project::small(), change, &[]);
}
