//! Without a network, and without what would have to come over it.

use std::fs;

use crate::project::{Project, failure};

#[test]
fn an_empty_vendor_folder_is_told_with_what_is_missing_and_what_to_do() {
    let project = Project::example();
    fs::remove_file(project.path("vendor")).unwrap();
    fs::create_dir(project.path("vendor")).unwrap();
    let said = failure(&mut project.building(&["--locked"]));
    assert!(said.contains("\nerror: cannot fetch "), "{said}");
    assert!(said.contains("imgforge vendor"), "{said}");
    assert!(said.contains(".whl") || said.contains(".deb"), "{said}");
    assert!(!project.path("dist").exists(), "a build that failed left an output");
}

#[test]
fn a_base_that_is_not_pinned_needs_the_network() {
    let project = Project::example();
    project.edit("images.toml", "    \"less\",\n", "");
    let said = failure(&mut project.building(&[]));
    assert!(said.contains("offline"), "{said}");
}

#[test]
fn a_damaged_file_in_the_vendor_folder_is_found() {
    let project = Project::small();
    fs::remove_file(project.path("vendor")).unwrap();
    fs::create_dir(project.path("vendor")).unwrap();
    for entry in fs::read_dir(crate::project::repository().join("vendor")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let copy = project.path("vendor").join(&name);
        if name.starts_with("h11-") {
            let mut bytes = fs::read(entry.path()).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(copy, bytes).unwrap();
        } else if name.ends_with(".whl") {
            std::os::unix::fs::symlink(entry.path(), copy).unwrap();
        }
    }
    let said = failure(&mut project.building(&[]));
    assert!(said.contains("h11"), "{said}");
    assert!(said.contains("sha256:"), "{said}");
}

#[test]
fn locked_refuses_what_would_change_the_lock() {
    let project = Project::small();
    let said = failure(&mut project.building(&["--locked"]));
    assert!(said.contains("images.lock"), "{said}");
    assert!(!project.path("images.lock").exists());
}
