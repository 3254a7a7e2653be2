//! `strip`: what is left out of one image is a layer of the other, and what both have is one layer in both.

use std::collections::{BTreeMap, BTreeSet};

use crate::project::Project;

/// A small image, and one without some of its packages' files.
fn project(strip: &str) -> Project {
    let project = Project::small();
    let slim = format!("[image.slim]\nextends = \"small\"\nstrip = {strip}\n\n[image.small]");
    project.edit("images.toml", "[image.small]", &slim);
    project
}

/// The files of an image, by its layers' listings.
fn files(project: &Project, image: &str) -> BTreeSet<String> {
    let lock = std::fs::read_to_string(project.path("images.lock")).unwrap();
    let lock = imgforge::images_lock::ImagesLock::parse(&lock).unwrap();
    let outcome = lock.images.into_iter().find(|((name, _), _)| name == image).unwrap().1;
    let mut files = BTreeSet::new();
    for layer in outcome.layers {
        let blob = project.path("dist/blobs/sha256").join(layer.digest.hex());
        let bytes = std::fs::read(blob).unwrap();
        let reader: Box<dyn std::io::Read> = match bytes.starts_with(&[0x1f, 0x8b]) {
            true => Box::new(flate2::read::MultiGzDecoder::new(bytes.as_slice())),
            false => Box::new(bytes.as_slice()),
        };
        for entry in tar::Archive::new(reader).entries().unwrap() {
            let entry = entry.unwrap();
            if !entry.header().entry_type().is_dir() {
                let path = entry.path().unwrap().to_string_lossy().into_owned();
                assert!(files.insert(path.clone()), "{path} is in two layers");
            }
        }
    }
    files
}

#[test]
fn what_one_image_leaves_out_is_a_layer_of_the_other() {
    // No zstd, so that the layers can be read here.
    let whole = Project::small();
    whole.edit("images.toml", "[settings]", "[settings]\ncompression = \"gzip\"");
    whole.build(&[]);
    let expected = files(&whole, "small");

    let project =
        project(r#"["testclient.py", "/opt/venv/lib/python3.11/site-packages/starlette/middleware"]"#);
    project.edit("images.toml", "[settings]", "[settings]\ncompression = \"gzip\"");
    project.build(&[]);
    let is_left_out = |path: &&String| {
        path.ends_with("/testclient.py") || path.contains("/site-packages/starlette/middleware/")
    };
    let (out, kept): (BTreeSet<_>, BTreeSet<_>) =
        expected.iter().cloned().partition(|path| is_left_out(&path));
    assert!(out.len() > 5, "{out:?}");
    assert_eq!(files(&project, "small"), expected);
    assert_eq!(files(&project, "slim"), kept);

    // Whatever the slim image has, the other has too, as the same layers; and the rest is small.
    let layers: BTreeMap<_, BTreeSet<_>> =
        project.layers().into_iter().map(|(name, layers)| (name, layers.into_iter().collect())).collect();
    assert!(layers["slim"].is_subset(&layers["small"]), "{layers:#?}");
    let rest: Vec<_> = layers["small"].difference(&layers["slim"]).map(|(_, title)| title).collect();
    assert!(!rest.is_empty() && rest.iter().all(|title| title.contains(", rest")), "{rest:?}");
}

/// An environment that is stripped wherever it is has no second part.
#[test]
fn what_no_image_has_is_in_no_layer() {
    let project = Project::small();
    project.edit("images.toml", "[env.app]", "[env.app]\nstrip = [\"testclient.py\"]");
    project.build(&[]);
    let titles: Vec<_> = project.layers().into_values().flatten().map(|(_, title)| title).collect();
    assert!(titles.iter().any(|title| title.contains(", stripped")), "{titles:?}");
    assert!(!titles.iter().any(|title| title.contains(", rest")), "{titles:?}");
}

/// Application files stay, whatever the patterns say.
#[test]
fn application_files_stay() {
    let project = project(r#"["*"]"#);
    project.edit("images.toml", "[settings]", "[settings]\ncompression = \"gzip\"");
    project.build(&[]);
    let slim = files(&project, "slim");
    assert!(slim.contains("app/app/__main__.py"), "{slim:?}");
    assert!(!slim.iter().any(|path| path.contains("/site-packages/starlette/")), "{slim:?}");
}
