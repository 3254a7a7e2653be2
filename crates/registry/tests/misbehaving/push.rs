//! Blobs and manifests on their way there.

use imgforge_oci::{Blob, Digest, MediaType};
use imgforge_registry::{Error, Repository, TagOrDigest, Uploaded};

use crate::mock::Auth::{Basic, Bearer, Open};
use crate::mock::Step::{
    Any, FinishUpload, HeadBlob, Mount, Patch, PatchChunk, PutManifest, StartUpload, UploadStatus,
};
use crate::mock::{Answer, Deed, Ending, Layer, Seen, World, check, layer, on, refusal};
use crate::{LARGE, MEDIUM, SMALL, offsets};

fn small(world: &World, repository: &Repository<'_>) -> Result<String, Error> {
    push(world, repository, &layer(SMALL), &[])
}

fn medium(world: &World, repository: &Repository<'_>) -> Result<String, Error> {
    push(world, repository, &layer(MEDIUM), &[])
}

fn large(world: &World, repository: &Repository<'_>) -> Result<String, Error> {
    push(world, repository, &layer(LARGE), &[])
}

/// Sends a layer that another repository has.
fn mount(world: &World, repository: &Repository<'_>) -> Result<String, Error> {
    world.registry.add_blob("team/base", &layer(SMALL));
    push(world, repository, &layer(SMALL), &["team/base".to_owned()])
}

/// Sends a layer that other repositories are wrongly said to have.
fn mount_from_nowhere(world: &World, repository: &Repository<'_>) -> Result<String, Error> {
    push(world, repository, &layer(SMALL), &["team/none".to_owned(), "team/neither".to_owned()])
}

/// Sends a layer that is there.
fn again(world: &World, repository: &Repository<'_>) -> Result<String, Error> {
    world.registry.add_blob("team/app", &layer(SMALL));
    push(world, repository, &layer(SMALL), &[])
}

/// Sends a layer, which the registry has when that is said to have worked.
fn push(world: &World, repository: &Repository<'_>, layer: &Layer, from: &[String]) -> Result<String, Error> {
    let Layer { bytes, descriptor } = layer;
    let uploaded = repository.upload_blob(descriptor, &bytes.as_slice(), from, &|_| {})?;
    assert!(world.registry.has_blob("team/app", layer), "the registry has not got it");
    Ok(match uploaded {
        Uploaded::Skipped => "skipped".to_owned(),
        Uploaded::Mounted { from } => format!("mounted from {from}"),
        Uploaded::Sent { bytes: sent } => {
            assert!(sent >= descriptor.size);
            "sent".to_owned()
        }
    })
}

fn status(status: &'static str) -> Answer {
    refusal(status, "SOMETHING")
}

/// The good answer with another `Location`.
fn location(to: &'static str) -> impl Fn(Answer) -> Answer + Send + Sync {
    move |answer| answer.with("Location", to)
}

#[test]
fn good_ones() {
    for auth in [Open, Basic, Bearer] {
        check(small, auth, [], Ok("sent"));
        let ran = check(again, auth, [], Ok("skipped"));
        assert_eq!(
            ran.count(|seen| seen.head.method != "GET" && seen.head.method != "HEAD"),
            0,
            "{}",
            ran.story()
        );
        let ran = check(mount, auth, [], Ok("mounted from team/base"));
        assert_eq!(ran.count(|seen| seen.received > 0), 0, "{}", ran.story());
    }
    World::new(Bearer, []).tls().run(large, Ok("sent"));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    check(small, Open, [on(Any, 0..99, |answer| Answer { before: interim, ..answer })], Ok("sent"));
}

#[test]
fn a_look_that_says_little() {
    check(
        again,
        Open,
        [on(HeadBlob, 0..9, |answer: Answer| answer.without("Docker-Content-Digest"))],
        Ok("skipped"),
    );
    check(again, Open, [on(HeadBlob, 0..9, status("405 Method Not Allowed"))], Err("405"));
    check(again, Open, [on(HeadBlob, 0..2, status("503 Service Unavailable"))], Ok("skipped"));
    check(small, Open, [on(HeadBlob, 0..9, status("403 Forbidden"))], Err("403"));
}

#[test]
fn mounts_that_are_none() {
    let accepted = |answer: Answer| Answer { status: "202 Accepted", ..answer };
    let to =
        |location: &'static str| on(Mount, 0..9, Answer::new("201 Created", "").with("Location", location));
    // It answers to a mount as to the start of an upload, as it may.
    check(mount_from_nowhere, Open, [], Ok("sent"));
    check(mount, Open, [on(Mount, 0..9, status("404 Not Found"))], Ok("sent"));
    check(mount, Open, [on(Mount, 0..9, status("403 Forbidden"))], Ok("sent"));
    check(mount, Open, [on(Mount, 0..9, status("405 Method Not Allowed"))], Ok("sent"));
    check(mount, Open, [on(Mount, 0..9, accepted)], Ok("sent"));
    // It says that it did it and did not.
    check(mount, Open, [to("{home}/v2/team/app/blobs/sha256:00")], Ok("sent"));
    check(mount, Open, [to("{other}/v2/team/app/blobs/sha256:00")], Ok("sent"));
    check(mount, Bearer, [to("/v2/team/app/blobs/uploads/77")], Ok("sent"));
}

#[test]
fn resets_at_any_offset() {
    type Sends = fn(&World, &Repository<'_>) -> Result<String, Error>;
    for (sends, size) in [(medium as Sends, MEDIUM), (large, LARGE)] {
        for is_kept in [true, false] {
            for at in offsets(size) {
                let ran = check(sends, Open, [on(Patch, 0..1, Deed::Cut { at, is_kept })], Ok("sent"));
                let (moved, story) = (ran.moved(), ran.story());
                assert!(moved <= size + size / 10, "{size} bytes, reset at {at}: {moved} bytes\n{story}");
            }
        }
    }
}

#[test]
fn one_reset_after_the_other() {
    // More of them than there is patience, but each time some megabytes arrive.
    let cut = |mebibytes: usize| on(Patch, 0..1, Deed::Cut { at: (mebibytes << 20) + 1, is_kept: true });
    let ran = check(large, Bearer, [2, 4, 7, 11, 12, 14, 15, 18, 21].map(cut), Ok("sent"));
    assert!(ran.moved() <= LARGE + LARGE / 10, "{}", ran.story());
}

#[test]
fn not_now() {
    let busy = || status("429 Too Many Requests").with("Retry-After", "0");
    for step in [HeadBlob, StartUpload, Patch, FinishUpload, Any] {
        check(medium, Bearer, [on(step, 0..2, busy())], Ok("sent"));
        check(medium, Bearer, [on(step, 0..2, status("503 Service Unavailable"))], Ok("sent"));
        check(medium, Bearer, [on(step, 0..2, status("408 Request Timeout"))], Ok("sent"));
        check(medium, Bearer, [on(step, 0..2, Deed::Raw(""))], Ok("sent"));
        check(medium, Bearer, [on(step, 0..99, status("500 Internal Server Error"))], Err("500"));
    }
    check(large, Open, [on(Patch, 0..1, Deed::Early(busy()))], Ok("sent"));
}

#[test]
fn no() {
    for step in [StartUpload, Patch, FinishUpload] {
        check(medium, Open, [on(step, 0..1, status("403 Forbidden"))], Err("403"));
        check(
            medium,
            Open,
            [on(step, 0..1, refusal("400 Bad Request", "NAME_INVALID"))],
            Err("NAME_INVALID"),
        );
    }
    // A proxy may take in parts what it does not take whole, but not always.
    check(medium, Open, [on(Patch, 0..1, status("413 Payload Too Large"))], Ok("sent"));
    check(small, Open, [on(FinishUpload, 0..1, status("413 Payload Too Large"))], Err("413"));
    check(large, Open, [on(Patch, 0..9, Deed::Early(status("413 Payload Too Large")))], Err("413"));
    check(
        small,
        Open,
        [on(FinishUpload, 0..9, refusal("400 Bad Request", "DIGEST_INVALID"))],
        Err("DIGEST_INVALID"),
    );
}

#[test]
fn done_but_not_said() {
    // The connection is closed after each answer, without a word.
    let closed = |answer| Answer { ending: Ending::Close(usize::MAX), ..answer };
    check(medium, Bearer, [on(Any, 0..99, closed)], Ok("sent"));
    check(small, Open, [on(StartUpload, 0..1, Deed::Unsaid)], Ok("sent"));
    check(medium, Open, [on(Patch, 0..1, Deed::Unsaid)], Ok("sent"));
    check(small, Open, [on(FinishUpload, 0..1, Deed::Unsaid)], Ok("sent"));
    check(mount, Open, [on(Mount, 0..1, Deed::Unsaid)], Ok("mounted from team/base"));
}

#[test]
fn silence() {
    let check = |rule, expected| World::new(Open, [rule]).retries(1).run(medium, expected);
    check(on(Patch, 0..1, Deed::Silence { after: 50_000 }), Ok("sent"));
    check(on(FinishUpload, 0..1, Deed::Silence { after: 0 }), Ok("sent"));
    check(on(Patch, 0..9, Deed::Silence { after: 50_000 }), Err("silent"));
}

#[test]
fn where_to_upload() {
    // A good registry's own answers, in another form.
    let whole = |answer: Answer| {
        let to = answer.headers.iter().find(|(name, _)| name == "Location").unwrap().1.clone();
        answer.with("Location", format!("{{home}}{to}"))
    };
    check(medium, Bearer, [on(StartUpload, 0..1, whole), on(Patch, 0..9, whole)], Ok("sent"));
    let bare = |answer: Answer| {
        let to = answer.headers.iter().find(|(name, _)| name == "Location").unwrap().1.clone();
        answer.with("Location", to.split('?').next().unwrap())
    };
    check(medium, Bearer, [on(StartUpload, 0..1, bare), on(Patch, 0..9, bare)], Ok("sent"));
    check(small, Bearer, [on(StartUpload, 0..1, location("1?a=b&c=%2F"))], Ok("sent"));
    // It may leave out where to go on, which is then where it was.
    check(medium, Open, [on(Patch, 0..9, |answer: Answer| answer.without("Location"))], Ok("sent"));
    check(
        small,
        Open,
        [on(StartUpload, 0..9, |answer: Answer| answer.without("Location"))],
        Err("without saying where to go on"),
    );
    for to in ["file:///etc/passwd", "http://[", "data:,x"] {
        check(
            small,
            Bearer,
            [on(StartUpload, 0..9, move |answer: Answer| answer.with("Location", to))],
            Err(""),
        );
    }
}

#[test]
fn registries_that_take_no_chunks() {
    for refusal in
        ["400 Bad Request", "405 Method Not Allowed", "411 Length Required", "415 Unsupported Media Type"]
    {
        let ran = check(medium, Open, [on(PatchChunk, 0..99, status(refusal))], Ok("sent"));
        assert_eq!(ran.count(|seen| seen.head.method == "PATCH"), 2, "{}", ran.story());
    }
    check(medium, Open, [on(PatchChunk, 0..99, status("416 Range Not Satisfiable"))], Ok("sent"));
    // It takes them, and makes nothing of them in the end.
    let invalid = refusal("400 Bad Request", "DIGEST_INVALID");
    check(medium, Open, [on(FinishUpload, 0..1, invalid)], Ok("sent"));
}

#[test]
fn places_that_only_who_was_told_them_knows() {
    for to in
        ["{other}/x?sign=53cret-signature", "/v2/x?sign=53cret-signature", "ftp://me:53cret@a.b/?sign=53cret"]
    {
        let signed = || move |answer: Answer| answer.with("Location", to);
        check(small, Bearer, [on(StartUpload, 0..9, signed())], Err("cannot upload"));
        check(medium, Bearer, [on(StartUpload, 0..9, signed())], Err("cannot upload"));
        check(
            medium,
            Bearer,
            [on(StartUpload, 0..9, signed()), on(Any, 3..99, Deed::Raw(""))],
            Err("cannot upload"),
        );
    }
}

#[test]
fn uploads_sent_to_another_origin() {
    for auth in [Open, Basic, Bearer] {
        for to in [
            "{other}/v2/team/app/blobs/uploads/1",
            "{localhost}/v2/team/app/blobs/uploads/1",
            "{with-user}/v2/team/app/blobs/uploads/1",
        ] {
            let answer = move |answer: Answer| answer.with("Location", to);
            check(small, auth, [on(StartUpload, 0..9, answer)], Ok("sent"));
            check(medium, auth, [on(StartUpload, 0..9, answer)], Ok("sent"));
            check(medium, auth, [on(Patch, 0..9, answer)], Ok("sent"));
            check(medium, auth, [on(UploadStatus, 0..9, answer)], Ok("sent"));
            let away = || Answer::new("307 Temporary Redirect", "").with("Location", to);
            for step in [StartUpload, Patch, FinishUpload] {
                check(medium, auth, [on(step, 0..9, away())], Err("redirect"));
            }
        }
    }
}

#[test]
fn how_far_it_is() {
    let cut = || on(Patch, 0..1, Deed::Cut { at: 3 << 20, is_kept: true });
    let says =
        |range: &'static str| on(UploadStatus, 0..9, move |answer: Answer| answer.with("Range", range));
    // It has less than it took; it has all; it has more than there is; it does not say.
    check(medium, Open, [cut(), says("0-0")], Ok("sent"));
    check(medium, Open, [cut(), says("0-99999999")], Ok("sent"));
    check(medium, Open, [cut(), says("bytes=0-3145727")], Ok("sent"));
    check(medium, Open, [cut(), says("3145727-0")], Ok("sent"));
    check(medium, Open, [cut(), says("banana")], Ok("sent"));
    check(
        medium,
        Open,
        [cut(), on(UploadStatus, 0..9, |answer: Answer| answer.without("Range"))],
        Ok("sent"),
    );
    check(medium, Open, [cut(), on(UploadStatus, 0..9, status("404 Not Found"))], Ok("sent"));
    check(medium, Open, [cut(), on(UploadStatus, 0..9, status("405 Method Not Allowed"))], Ok("sent"));
    check(medium, Open, [cut(), on(UploadStatus, 0..2, status("503 Service Unavailable"))], Ok("sent"));
    let backwards = |answer: Answer| answer.with("Range", "0-4999");
    check(medium, Open, [on(Patch, 0..1, backwards)], Ok("sent"));
    check(medium, Open, [on(Patch, 0..1, |answer: Answer| answer.without("Range"))], Ok("sent"));
    check(medium, Open, [on(Patch, 0..1, status("416 Range Not Satisfiable"))], Ok("sent"));
}

#[test]
fn lost_sessions() {
    let lost = || refusal("404 Not Found", "BLOB_UPLOAD_UNKNOWN");
    check(medium, Open, [on(Patch, 0..1, lost())], Ok("sent"));
    check(small, Open, [on(FinishUpload, 0..1, lost())], Ok("sent"));
    check(medium, Open, [on(Patch, 0..99, lost())], Err("lost the upload"));
    check(small, Open, [on(FinishUpload, 0..99, lost())], Err("404"));
    check(large, Bearer, [on(Patch, 1..2, lost())], Ok("sent"));
}

#[test]
fn tokens_that_end_midway() {
    let expired = || {
        let challenge = "Bearer realm=\"{home}/token\",service=\"mock\",scope=\"x\"";
        status("401 Unauthorized").with("WWW-Authenticate", challenge)
    };
    for step in [HeadBlob, StartUpload, Patch, FinishUpload] {
        check(medium, Bearer, [on(step, 0..1, expired())], Ok("sent"));
        check(medium, Bearer, [on(step, 0..99, expired())], Err("401"));
    }
    check(large, Bearer, [on(Patch, 0..1, Deed::Early(expired()))], Ok("sent"));
}

#[test]
fn least_chunks() {
    fn at_least_8_mib(world: &World, repository: &Repository<'_>) -> Result<String, Error> {
        world.registry.set_least_chunk(8 << 20);
        large(world, repository)
    }
    let ran = check(at_least_8_mib, Open, [], Ok("sent"));
    let is_small = |seen: &Seen| seen.head.method == "PATCH" && seen.received < 8 << 20;
    assert_eq!(ran.count(is_small), 0, "{}", ran.story());
    check(at_least_8_mib, Open, [on(Patch, 0..1, Deed::Cut { at: 9 << 20, is_kept: false })], Ok("sent"));
    let says = |value: &'static str| {
        on(StartUpload, 0..9, move |answer: Answer| answer.with("OCI-Chunk-Min-Length", value))
    };
    check(large, Open, [says("18446744073709551616")], Ok("sent"));
    check(large, Open, [says("-1")], Ok("sent"));
    check(large, Open, [says("99999999999")], Ok("sent"));
}

const OTHER: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn tag(world: &World, repository: &Repository<'_>) -> Result<String, Error> {
    put(world, repository, TagOrDigest::Tag("1"))
}

fn by_digest(world: &World, repository: &Repository<'_>) -> Result<String, Error> {
    put(world, repository, TagOrDigest::Digest(&Digest::of(b"{}")))
}

fn put(world: &World, repository: &Repository<'_>, name: TagOrDigest<'_>) -> Result<String, Error> {
    let blob = Blob::new(MediaType::ImageManifest, b"{}".to_vec());
    repository.put_manifest(&blob, name)?;
    assert_eq!(world.registry.manifest("team/app", &Digest::of(b"{}").to_string()), Some(b"{}".to_vec()));
    Ok("put".to_owned())
}

#[test]
fn manifests() {
    for task in [tag, by_digest] {
        check(task, Bearer, [], Ok("put"));
        check(task, Open, [on(PutManifest, 0..3, status("503 Service Unavailable"))], Ok("put"));
        check(
            task,
            Open,
            [on(PutManifest, 0..2, status("429 Too Many Requests").with("Retry-After", "0"))],
            Ok("put"),
        );
        check(task, Open, [on(PutManifest, 0..1, Deed::Raw(""))], Ok("put"));
        check(task, Open, [on(PutManifest, 0..1, Deed::Unsaid)], Ok("put"));
        check(
            task,
            Open,
            [on(PutManifest, 0..9, |answer: Answer| answer.without("Docker-Content-Digest"))],
            Ok("put"),
        );
        check(
            task,
            Open,
            [on(PutManifest, 0..9, |answer: Answer| answer.with("Docker-Content-Digest", OTHER))],
            Err(OTHER),
        );
        check(
            task,
            Open,
            [on(PutManifest, 0..9, refusal("400 Bad Request", "MANIFEST_BLOB_UNKNOWN"))],
            Err("MANIFEST_BLOB_UNKNOWN"),
        );
        check(
            task,
            Open,
            [on(PutManifest, 0..9, refusal("404 Not Found", "NAME_UNKNOWN"))],
            Err("NAME_UNKNOWN"),
        );
        check(task, Open, [on(PutManifest, 0..9, Answer::new("201 Created", ""))], Err("does not have it"));
        for auth in [Basic, Bearer] {
            let away = Answer::new("307 Temporary Redirect", "").with("Location", "{other}{target}");
            check(task, auth, [on(PutManifest, 0..9, away)], Err("redirect"));
        }
    }
}
