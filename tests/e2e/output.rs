//! What a build leaves: a layout or an archive, valid, with the images that were asked for.

use std::collections::BTreeSet;
use std::fs;

use imgforge_oci::validate;

use crate::project::{Project, digests, success};

#[test]
fn the_repositorys_images_are_built_as_locked() {
    let project = Project::example();
    let before = fs::read_to_string(project.path("images.lock")).unwrap();
    let built = project.build(&["--locked"]);
    assert_eq!(built.len(), 2);
    assert_eq!(fs::read_to_string(project.path("images.lock")).unwrap(), before);
}

#[test]
fn what_two_images_have_in_common_is_the_same_layer() {
    let layers = {
        let project = Project::example();
        project.layers()
    };
    let [runtime, devel] = ["runtime", "devel"].map(|image| layers[image].iter().collect::<BTreeSet<_>>());
    let numpy =
        |layers: &BTreeSet<&(String, String)>| layers.iter().any(|(_, title)| title.contains("numpy"));
    let common: BTreeSet<_> = runtime.intersection(&devel).copied().collect();
    assert!(numpy(&common), "{common:?}");
    assert!(common.iter().any(|(_, title)| title.contains("python3.11-minimal") || title.contains(" more")));
}

#[test]
fn an_archive_has_all_images_and_each_blob_once() {
    let project = Project::example();
    let file = project.beside("images.tar");
    let built = digests(&success(&mut project.building(&["--archive", file.to_str().unwrap()])));
    let report = validate::archive(&file).unwrap();
    let found: BTreeSet<String> = report.images.iter().map(|image| image.digest.to_string()).collect();
    assert_eq!(found, built.into_values().collect());
    assert_eq!((report.extra, report.remarks), (vec![], vec![]));
}

#[test]
fn one_image_of_two_is_the_same_alone() {
    let project = Project::example();
    let both = project.build(&[]);
    let other = Project::example();
    let alone = other.build(&["images.toml", "runtime"]);
    assert_eq!(
        alone.into_iter().collect::<Vec<_>>(),
        both.into_iter().filter(|(name, _)| name.contains("runtime")).collect::<Vec<_>>()
    );
}

#[test]
fn gzip_all_through_is_valid() {
    Project::example().build(&["--compression", "gzip"]);
}

#[test]
fn a_second_build_makes_nothing_and_says_the_same() {
    let project = Project::small();
    let first = project.build(&[]);
    let lock = fs::read_to_string(project.path("images.lock")).unwrap();
    assert_eq!(project.build(&["--locked"]), first);
    assert_eq!(fs::read_to_string(project.path("images.lock")).unwrap(), lock);
}
