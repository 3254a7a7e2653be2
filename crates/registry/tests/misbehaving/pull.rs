//! Blobs on their way here.

use std::time::Duration;

use imgforge_registry::{Error, Repository};

use crate::mock::Auth::{Basic, Bearer, Open};
use crate::mock::Step::{Any, GetBlob};
use crate::mock::{Answer, Deed, Ending, Layer, Length, World, check, layer, noise, on, refusal};
use crate::{LARGE, SMALL, offsets};

fn small(world: &World, repository: &Repository<'_>) -> Result<String, Error> {
    pull(world, repository, &layer(SMALL))
}

fn large(world: &World, repository: &Repository<'_>) -> Result<String, Error> {
    pull(world, repository, &layer(LARGE))
}

/// Fetches a layer into the store, which has all of it afterwards or nothing.
fn pull(world: &World, repository: &Repository<'_>, layer: &Layer) -> Result<String, Error> {
    world.registry.add_blob("team/app", layer);
    let result = repository.fetch_blob(&world.store, &layer.descriptor, &|_| {});
    let path = world.store.blob_path(&layer.descriptor.digest);
    match &result {
        Ok(()) => assert!(std::fs::read(path).unwrap() == layer.bytes, "other bytes in the store"),
        Err(_) => assert!(!path.exists(), "bytes in the store in spite of the error"),
    }
    result.map(|()| "stored".to_owned())
}

fn change(change: fn(&mut Vec<u8>)) -> impl Fn(Answer) -> Answer + Send + Sync {
    move |mut answer| {
        change(&mut answer.body);
        answer
    }
}

fn ending(ending: Ending) -> impl Fn(Answer) -> Answer + Send + Sync {
    move |answer| Answer { ending, ..answer }
}

fn length(length: Length) -> impl Fn(Answer) -> Answer + Send + Sync {
    move |answer| Answer { length, ..answer }
}

fn header(name: &'static str, value: &'static str) -> impl Fn(Answer) -> Answer + Send + Sync {
    move |answer| answer.with(name, value)
}

fn status(status: &'static str) -> Answer {
    refusal(status, "SOMETHING")
}

fn redirect(to: &str) -> Answer {
    Answer::new("307 Temporary Redirect", "").with("Location", to)
}

#[test]
fn good_ones() {
    check(small, Open, [], Ok("stored"));
    check(small, Basic, [], Ok("stored"));
    check(small, Bearer, [], Ok("stored"));
    World::new(Bearer, []).tls().run(small, Ok("stored"));
    check(small, Open, [on(GetBlob, 0..1, length(Length::Chunked))], Ok("stored"));
    check(small, Open, [on(GetBlob, 0..1, length(Length::Unsaid))], Ok("stored"));
    check(small, Open, [on(GetBlob, 0..1, header("Content-Encoding", "gzip"))], Ok("stored"));
    check(small, Open, [on(GetBlob, 0..1, header("Content-Type", "text/html"))], Ok("stored"));
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    check(small, Open, [on(Any, 0..9, |answer| Answer { before: interim, ..answer })], Ok("stored"));
}

#[test]
fn other_bytes() {
    let wrong = change(|body| body[500] ^= 1);
    check(small, Open, [on(GetBlob, 0..9, wrong)], Err("received sha256:"));
    let short = Answer::new("200 OK", &noise(SMALL)[1..]);
    check(small, Open, [on(GetBlob, 0..9, short)], Err("99999 of 100000 bytes"));
    let short = change(|body| body.truncate(SMALL - 1));
    check(small, Open, [on(GetBlob, 0..1, short)], Ok("stored"));
    let empty = change(Vec::clear);
    check(small, Open, [on(GetBlob, 0..9, empty)], Err("0 of 100000 bytes"));
    let long = change(|body| body.push(0));
    check(small, Open, [on(GetBlob, 0..9, long)], Err("more than the 100000 bytes"));
    let endless = |answer: Answer| Answer {
        body: [answer.body, noise(1 << 20)].concat(),
        length: Length::Chunked,
        ..answer
    };
    check(small, Open, [on(GetBlob, 0..9, endless)], Err("more than the 100000 bytes"));
    check(small, Open, [on(GetBlob, 0..9, Answer::new("204 No Content", ""))], Err("100000"));
}

#[test]
fn not_now() {
    let busy = || status("429 Too Many Requests").with("Retry-After", "1");
    let ran = check(small, Open, [on(GetBlob, 0..1, busy())], Ok("stored"));
    assert!(ran.elapsed >= Duration::from_secs(1), "{:?}", ran.elapsed);
    let by_date = status("503 Service Unavailable")
        .with("Date", "Wed, 21 Oct 2015 07:28:00 GMT")
        .with("Retry-After", "Wed, 21 Oct 2015 07:28:01 GMT");
    let ran = check(small, Open, [on(GetBlob, 0..1, by_date)], Ok("stored"));
    assert!(ran.elapsed >= Duration::from_secs(1), "{:?}", ran.elapsed);
    check(small, Open, [on(GetBlob, 0..4, status("503 Service Unavailable"))], Ok("stored"));
    check(small, Open, [on(GetBlob, 0..4, status("408 Request Timeout"))], Ok("stored"));
    check(
        small,
        Open,
        [on(GetBlob, 0..9, status("503 Service Unavailable"))],
        Err("503 Service Unavailable"),
    );
    check(small, Open, [on(Any, 0..4, status("502 Bad Gateway"))], Ok("stored"));
}

#[test]
fn no() {
    let ran = check(small, Open, [on(GetBlob, 0..1, status("404 Not Found"))], Err("404 Not Found"));
    assert_eq!(ran.count(|seen| seen.head.path().contains("/blobs/")), 1, "{}", ran.story());
    check(small, Open, [on(GetBlob, 0..1, status("403 Forbidden"))], Err("403 Forbidden"));
    check(small, Open, [on(GetBlob, 0..1, status("451 Unavailable For Legal Reasons"))], Err("451"));
    check(small, Open, [on(GetBlob, 0..1, Answer::new("300 Multiple Choices", ""))], Err("300"));
}

#[test]
fn broken_connections() {
    check(small, Open, [on(GetBlob, 0..2, Deed::Raw(""))], Ok("stored"));
    check(small, Open, [on(GetBlob, 0..9, Deed::Raw(""))], Err("{home}"));
    check(small, Open, [on(Any, 0..2, Deed::Raw(""))], Ok("stored"));
    check(small, Open, [on(GetBlob, 0..2, Deed::Raw("SSH-2.0-OpenSSH_9.2\r\n"))], Ok("stored"));
    check(small, Open, [on(GetBlob, 0..9, Deed::Raw("HTTP/1.1 banana\r\n\r\n"))], Err("{home}"));
    check(small, Open, [on(GetBlob, 0..2, Deed::Raw("HTTP/1.1 200 OK\r\nContent-Le"))], Ok("stored"));
    check(small, Open, [on(GetBlob, 0..2, ending(Ending::Close(0)))], Ok("stored"));
    check(small, Open, [on(GetBlob, 0..2, ending(Ending::Close(50_000)))], Ok("stored"));
    check(small, Open, [on(GetBlob, 0..9, ending(Ending::Close(10)))], Err("{home}"));
    let long = |answer: Answer| answer.with("X-Long", "x".repeat(1 << 20));
    check(small, Open, [on(GetBlob, 0..9, long)], Err("{home}"));
    check(small, Open, [on(GetBlob, 0..9, header("Content-Length", "5"))], Err("{home}"));
    // Closed after each answer, without a word.
    check(small, Bearer, [on(Any, 0..99, ending(Ending::Close(usize::MAX)))], Ok("stored"));
    let broken_chunks = |answer| Answer { length: Length::Chunked, ending: Ending::Close(70_000), ..answer };
    check(small, Open, [on(GetBlob, 0..1, broken_chunks)], Ok("stored"));
    let no_length = |answer| Answer { length: Length::Unsaid, ending: Ending::Close(70_000), ..answer };
    check(small, Open, [on(GetBlob, 0..1, no_length)], Ok("stored"));
}

#[test]
fn silence() {
    let check = |rule, expected| World::new(Open, [rule]).retries(1).run(small, expected);
    check(on(GetBlob, 0..1, ending(Ending::Hang(0))), Ok("stored"));
    check(on(GetBlob, 0..1, ending(Ending::Hang(50_000))), Ok("stored"));
    check(on(GetBlob, 0..1, Deed::Silence { after: 0 }), Ok("stored"));
    check(on(GetBlob, 0..9, ending(Ending::Hang(10))), Err("silent"));
    check(on(GetBlob, 0..9, Deed::Silence { after: 0 }), Err("silent"));
}

#[test]
fn resets_at_any_offset() {
    for offset in offsets(LARGE) {
        let ran = check(large, Open, [on(GetBlob, 0..1, ending(Ending::Reset(offset)))], Ok("stored"));
        assert!(
            ran.moved() <= LARGE + LARGE / 10,
            "reset at {offset}: {} bytes\n{}",
            ran.moved(),
            ran.story()
        );
    }
}

#[test]
fn one_reset_after_the_other() {
    // More of them than there is patience, but each time some megabytes came.
    let ran = check(large, Open, [on(GetBlob, 0..8, ending(Ending::Reset(2 << 20)))], Ok("stored"));
    assert!(ran.moved() <= LARGE + LARGE / 10, "{}", ran.story());
}

#[test]
fn ranges() {
    let cut = || on(GetBlob, 0..1, ending(Ending::Close(60_000)));
    let whole = |answer: Answer| {
        let (body, status) = (noise(SMALL), "200 OK");
        Answer { body, status, ..answer }.without("Content-Range")
    };
    check(small, Open, [cut(), on(GetBlob, 0..9, whole)], Ok("stored"));
    let elsewhere = header("Content-Range", "bytes 50000-99999/100000");
    check(small, Open, [cut(), on(GetBlob, 0..1, elsewhere)], Ok("stored"));
    let nowhere = |answer: Answer| answer.without("Content-Range");
    check(small, Open, [cut(), on(GetBlob, 0..1, nowhere)], Ok("stored"));
    let nonsense = header("Content-Range", "bytes */x");
    check(small, Open, [cut(), on(GetBlob, 0..1, nonsense)], Ok("stored"));
    check(small, Open, [cut(), on(GetBlob, 0..1, status("416 Range Not Satisfiable"))], Ok("stored"));
    check(small, Open, [cut(), on(GetBlob, 0..9, status("416 Range Not Satisfiable"))], Err("416"));
    // The rest is the rest of something else: once more from the start.
    let spliced = change(|body| body[7] ^= 1);
    check(small, Open, [cut(), on(GetBlob, 0..1, spliced)], Ok("stored"));
}

#[test]
fn redirects_to_another_origin() {
    // The first request goes without credentials; those who want some are asked again.
    for (auth, first) in [(Open, 0), (Basic, 1), (Bearer, 1)] {
        let ran = check(small, auth, [on(GetBlob, first..9, redirect("{other}{target}"))], Ok("stored"));
        assert_eq!(ran.count(|seen| seen.origin == "other"), 1, "{}", ran.story());
        check(small, auth, [on(GetBlob, first..9, redirect("{localhost}{target}"))], Ok("stored"));
        check(small, auth, [on(GetBlob, first..9, redirect("{with-user}{target}"))], Ok("stored"));
    }
    let cut = on(GetBlob, 0..1, ending(Ending::Close(60_000)));
    let away = || on(GetBlob, 1..9, redirect("{other}{target}"));
    World::new(Bearer, [away()]).other([cut]).run(small, Ok("stored"));
    let back = on(GetBlob, 0..1, redirect("{home}{target}"));
    World::new(Bearer, [on(GetBlob, 1..2, redirect("{other}{target}"))])
        .other([back])
        .run(small, Ok("stored"));
}

#[test]
fn redirects_to_one_who_asks_who_we_are() {
    let away = |first| on(GetBlob, first..9, redirect("{other}{target}"));
    for challenge in [
        "Basic realm=\"x\"",
        "Bearer realm=\"{other}/token\",service=\"x\"",
        "Bearer realm=\"{home}/token\",service=\"mock\"",
    ] {
        let asks = || on(GetBlob, 0..9, status("401 Unauthorized").with("WWW-Authenticate", challenge));
        World::new(Open, [away(0)]).other([asks()]).run(small, Err("those for {home} are not for it"));
        World::new(Bearer, [away(1)]).other([asks()]).run(small, Err("where the registry sends us"));
    }
}

#[test]
fn redirects_that_lead_nowhere() {
    check(
        small,
        Open,
        [on(GetBlob, 0..99, redirect("{home}{target}"))],
        Err("redirected more than 10 times"),
    );
    check(small, Open, [on(GetBlob, 0..99, redirect("{target}"))], Err("redirected more than 10 times"));
    let ping = on(GetBlob, 1..99, redirect("{other}{target}"));
    let pong = on(GetBlob, 0..99, redirect("{home}{target}"));
    World::new(Basic, [ping]).other([pong]).run(small, Err("redirected more than 10 times"));
    check(small, Open, [on(GetBlob, 0..9, Answer::new("302 Found", ""))], Err("redirected to nowhere"));
    check(small, Open, [on(GetBlob, 0..9, redirect("file:///etc/passwd"))], Err("redirected to file:"));
    check(small, Open, [on(GetBlob, 0..9, redirect("http://["))], Err("redirected to what is no URL"));
}

#[test]
fn redirects_out_of_tls() {
    for (auth, first) in [(Open, 0), (Basic, 1), (Bearer, 1)] {
        World::new(auth, [on(GetBlob, first..9, redirect("{other}{target}"))]).tls().run(small, Ok("stored"));
    }
}
