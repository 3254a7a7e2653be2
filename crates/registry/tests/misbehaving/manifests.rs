//! Manifests and indexes on their way here.

use imgforge_oci::{Blob, Digest, read};
use imgforge_registry::{Error, Repository, TagOrDigest};

use crate::mock::Auth::{Bearer, Open};
use crate::mock::Step::{GetManifest, HeadManifest};
use crate::mock::{Answer, Ending, Length, World, check, on, refusal};

const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OTHER: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A manifest that nothing is wrong with.
fn manifest() -> String {
    let config = "application/vnd.oci.image.config.v1+json";
    format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{TYPE}\",\"config\":{{\"mediaType\":\"{config}\",\"digest\":\"{OTHER}\",\
         \"size\":0}},\"layers\":[]}}"
    )
}

fn by_tag(world: &World, repository: &Repository<'_>) -> Result<String, Error> {
    world.registry.add_manifest("team/app", "1", TYPE, manifest().as_bytes());
    Ok(described(repository.manifest(TagOrDigest::Tag("1"))?))
}

fn by_digest(world: &World, repository: &Repository<'_>) -> Result<String, Error> {
    world.registry.add_manifest("team/app", "1", TYPE, manifest().as_bytes());
    Ok(described(repository.manifest(TagOrDigest::Digest(&Digest::of(manifest().as_bytes())))?))
}

fn described(manifest: Option<Blob>) -> String {
    match manifest {
        None => "none".to_owned(),
        Some(blob) => blob.descriptor().media_type.to_string(),
    }
}

/// What a tag stands for, without its content.
fn look(world: &World, repository: &Repository<'_>) -> Result<String, Error> {
    world.registry.add_manifest("team/app", "1", TYPE, manifest().as_bytes());
    let Some(descriptor) = repository.manifest_digest(TagOrDigest::Tag("1"))? else {
        return Ok("none".to_owned());
    };
    assert_eq!(
        (descriptor.digest, descriptor.size),
        (Digest::of(manifest().as_bytes()), manifest().len() as u64)
    );
    Ok(descriptor.media_type.to_string())
}

fn status(status: &'static str) -> Answer {
    refusal(status, "SOMETHING")
}

fn body(text: &'static str) -> impl Fn(Answer) -> Answer + Send + Sync {
    move |answer| Answer { body: text.into(), ..answer }
}

fn header(name: &'static str, value: &'static str) -> impl Fn(Answer) -> Answer + Send + Sync {
    move |answer| answer.with(name, value)
}

#[test]
fn good_ones() {
    for task in [by_tag, by_digest, look] {
        check(task, Bearer, [], Ok(TYPE));
        check(
            task,
            Open,
            [
                on(HeadManifest, 0..4, status("503 Service Unavailable")),
                on(GetManifest, 0..4, status("503 Service Unavailable")),
            ],
            Ok(TYPE),
        );
        check(
            task,
            Open,
            [on(HeadManifest, 0..9, status("404 Not Found")), on(GetManifest, 0..9, status("404 Not Found"))],
            Ok("none"),
        );
        check(
            task,
            Open,
            [on(HeadManifest, 0..9, status("403 Forbidden")), on(GetManifest, 0..9, status("403 Forbidden"))],
            Err("403"),
        );
    }
}

#[test]
fn looks_that_say_little() {
    let without = |name: &'static str| on(HeadManifest, 0..9, move |answer: Answer| answer.without(name));
    check(look, Open, [without("Docker-Content-Digest")], Ok(TYPE));
    check(look, Open, [without("Content-Type")], Ok(TYPE));
    check(
        look,
        Open,
        [on(HeadManifest, 0..9, |answer| Answer { length: Length::Chunked, ..answer })],
        Ok(TYPE),
    );
    check(look, Open, [on(HeadManifest, 0..9, Answer::new("200 OK", ""))], Ok(TYPE));
    check(look, Open, [on(HeadManifest, 0..9, header("Docker-Content-Digest", "banana"))], Ok(TYPE));
    check(look, Open, [on(HeadManifest, 0..9, header("Docker-Content-Digest", "sha512:00"))], Ok(TYPE));
    check(look, Open, [on(HeadManifest, 0..9, status("405 Method Not Allowed"))], Ok(TYPE));
}

#[test]
fn wrong_types() {
    // The type in the document counts where the server's says nothing.
    for task in [by_tag, by_digest] {
        check(task, Open, [on(GetManifest, 0..9, header("Content-Type", "text/html"))], Ok(TYPE));
        check(task, Open, [on(GetManifest, 0..9, header("Content-Type", INDEX))], Err("calls itself"));
        check(task, Open, [on(GetManifest, 0..9, |answer: Answer| answer.without("Content-Type"))], Ok(TYPE));
        check(
            task,
            Open,
            [on(
                GetManifest,
                0..9,
                header("Content-Type", "application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
            )],
            Ok(TYPE),
        );
    }
}

#[test]
fn other_bytes() {
    check(
        by_digest,
        Open,
        [on(GetManifest, 0..9, body("{\"schemaVersion\":2}"))],
        Err("digest mismatch for the manifest"),
    );
    check(by_digest, Open, [on(GetManifest, 0..9, header("Docker-Content-Digest", OTHER))], Ok(TYPE));
    check(by_tag, Open, [on(GetManifest, 0..9, header("Docker-Content-Digest", OTHER))], Err(OTHER));
    check(by_tag, Open, [on(GetManifest, 0..9, body(""))], Err(""));
    check(by_tag, Open, [on(GetManifest, 0..9, body("<html>"))], Err(""));
    let cut = |answer| Answer { ending: Ending::Close(20), ..answer };
    check(by_tag, Open, [on(GetManifest, 0..1, cut)], Ok(TYPE));
    check(by_tag, Open, [on(GetManifest, 0..9, cut)], Err("{home}"));
}

#[test]
fn huge_ones() {
    let huge = |answer: Answer| Answer { body: vec![b' '; 5 << 20], ..answer };
    check(by_tag, Open, [on(GetManifest, 0..9, huge)], Err("4194304"));
    let chunked = move |answer: Answer| Answer { length: Length::Chunked, ..huge(answer) };
    check(by_tag, Open, [on(GetManifest, 0..9, chunked)], Err("4194304"));
    let said = |answer: Answer| Answer { length: Length::Said(1 << 40), ..answer };
    check(by_tag, Open, [on(GetManifest, 0..9, said)], Err("4194304"));
    check(by_digest, Open, [on(GetManifest, 0..9, said)], Err("4194304"));
    let patient =
        World::new(Open, [on(GetManifest, 0..9, |answer| Answer { ending: Ending::Hang(20), ..answer })]);
    patient.retries(1).run(by_tag, Err("silent"));
}

/// Follows an index to its images.
fn images(world: &World, repository: &Repository<'_>) -> Result<String, Error> {
    let mut document = manifest();
    let mut media_type = TYPE;
    for depth in 0..9 {
        world.registry.add_manifest("team/app", &format!("depth-{depth}"), media_type, document.as_bytes());
        let (digest, size) = (Digest::of(document.as_bytes()), document.len());
        document = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{INDEX}\",\"manifests\":[{{\"mediaType\":\"{media_type}\",\
             \"digest\":\"{digest}\",\"size\":{size}}}]}}"
        );
        media_type = INDEX;
    }
    let top = repository.manifest(TagOrDigest::Tag("depth-8"))?.unwrap();
    Ok(read::images(&Documents(repository), top.descriptor()).unwrap_err().to_string())
}

/// What reading an image takes.
struct Documents<'a>(&'a Repository<'a>);

impl read::Documents for Documents<'_> {
    fn document(&self, descriptor: &imgforge_oci::Descriptor, _: u64) -> Result<Blob, imgforge_oci::Error> {
        Ok(self.0.manifest(TagOrDigest::Digest(&descriptor.digest)).unwrap().unwrap())
    }
}

#[test]
fn an_index_of_an_index_of_an_index() {
    let deep = "sha256:341f5dcd26b356623593a46af233758b9fc944709de4fff7c3f45128b98ea45d nests indexes more than 4 deep";
    check(images, Open, [], Ok(deep));
}
