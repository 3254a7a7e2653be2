//! Two builds at once in one store.

use std::process::Stdio;

use crate::project::{Project, check_layout, digests, success};

#[test]
fn two_builds_in_one_store_agree() {
    let project = Project::small();
    let outputs = ["first", "second"].map(|name| project.path(name));
    let builds = outputs.clone().map(|output| {
        let mut command = project.building(&["--output", output.to_str().unwrap()]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    let [first, second] = builds.map(|build| {
        let output = build.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        digests(&output)
    });
    assert_eq!(first, second);
    outputs.iter().for_each(|output| check_layout(output, &first));
    success(&mut project.imgforge(["verify", "--store-blobs"]));
}
