//! A poetry.lock, whose wheels are found at an index once and pinned in images.lock.

use std::fs;

use imgforge_oci::Digest;

use crate::project::{Project, failure, repository, success};

/// A lock of Poetry's own, of packages that are in `vendor/`, and an index in a folder that has them.
fn project() -> Project {
    let project = Project::small();
    for file in ["poetry.lock", "pyproject.toml"] {
        fs::copy(repository().join("tests/locks/poetry").join(file), project.path(file)).unwrap();
    }
    for entry in fs::read_dir(repository().join("vendor")).unwrap() {
        let entry = entry.unwrap();
        let file = entry.file_name().into_string().unwrap();
        let Some((name, _)) = file.split_once('-').filter(|_| file.ends_with(".whl")) else { continue };
        let page = project.path(&format!("index/{}/index.html", name.replace('_', "-")));
        let hash = Digest::of(&fs::read(entry.path()).unwrap()).hex();
        fs::create_dir_all(page.parent().unwrap()).unwrap();
        fs::write(page, format!("<a href=\"../../vendor/{file}#sha256={hash}\">{file}</a>")).unwrap();
    }
    project.edit("images.toml", "platforms", "indexes = [\"index\"]\nplatforms");
    project.edit("images.toml", "app/uv.lock", "poetry.lock");
    project
}

/// The files that images.lock pins.
fn pinned(project: &Project) -> String {
    let lock = fs::read_to_string(project.path("images.lock")).unwrap();
    let lock = imgforge::images_lock::ImagesLock::parse(&lock).unwrap();
    let artifacts = lock.environments.values().flat_map(|pins| &pins.artifacts);
    artifacts.map(|wheel| format!("{} {}", wheel.name, wheel.version)).collect::<Vec<_>>().join(", ")
}

const MAIN: &str = "anyio 4.16.0, certifi 2026.10.18, h11 0.16.0, httpcore 1.0.9, httpx 0.28.1, idna 3.20, \
                    typing-extensions 4.16.0";

#[test]
fn a_lock_of_poetry_becomes_an_image() {
    let project = project();
    success(&mut project.imgforge(["lock", "--offline"]));
    assert_eq!(pinned(&project), MAIN);
    let digests = project.build(&[]);

    // What is pinned needs no index, and a change to pyproject.toml that decides nothing changes nothing.
    fs::remove_dir_all(project.path("index")).unwrap();
    project.edit("pyproject.toml", "[tool.poetry]\n", "[tool.ruff]\nline-length = 100\n\n[tool.poetry]\n");
    assert_eq!(project.build(&["--locked"]), digests);
}

#[test]
fn extras_and_groups_are_chosen_by_the_keys_of_other_locks() {
    let check = |keys: &str, others: &[&str]| {
        let project = project();
        project.edit("images.toml", "prefix =", &format!("{keys}\nprefix ="));
        project.build(&[]);
        let mut expected: Vec<&str> = MAIN.split(", ").chain(others.iter().copied()).collect();
        expected.sort_unstable();
        assert_eq!(pinned(&project), expected.join(", "), "{keys}");
    };
    let dev = ["iniconfig 2.3.1", "packaging 26.3", "pluggy 1.7.0", "pygments 2.21.0", "pytest 9.2.0"];
    check("extras = [\"cli\"]", &["click 8.5.1"]);
    check("groups = [\"notes\"]", &["annotated-doc 0.0.7"]);
    check("default-groups = true", &dev);
    check("groups = [\"dev\"]", &dev);
}

#[test]
fn one_package_more_is_all_that_is_asked_for() {
    let project = project();
    project.build(&[]);
    let index = project.path("index");
    for entry in fs::read_dir(&index).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "click" {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    project.edit("images.toml", "prefix =", "extras = [\"cli\"]\nprefix =");
    project.build(&[]);
    assert!(pinned(&project).contains("click 8.5.1"));

    project.edit("images.toml", "extras = [\"cli\"]", "extras = [\"cli\"]\ngroups = [\"notes\"]");
    let said = failure(&mut project.building(&[]));
    assert!(said.contains("annotated-doc 0.0.7"), "{said}");
    assert!(!said.contains("httpx"), "{said}");
}

#[test]
fn a_lock_that_is_not_of_its_pyproject_is_refused() {
    let project = project();
    project.build(&[]);
    project.edit("pyproject.toml", "0.28.1", "^0.28");
    let said = failure(&mut project.building(&[]));
    assert!(said.contains("poetry.lock is not up to date with the pyproject.toml beside it"), "{said}");
    assert!(said.contains("run `poetry lock`"), "{said}");

    fs::remove_file(project.path("pyproject.toml")).unwrap();
    let said = failure(&mut project.building(&[]));
    assert!(said.contains("poetry.lock has no pyproject.toml beside it"), "{said}");
}
