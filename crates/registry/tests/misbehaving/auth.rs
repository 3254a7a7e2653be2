//! Who we are, and who would like to know.

use data_encoding::BASE64;
use imgforge_registry::{Error, Repository, Secret};

use crate::mock::Auth::{Basic, Bearer};
use crate::mock::Step::{Any, GetBlob, Token};
use crate::mock::{Answer, Deed, Ending, IDENTITY, Length, PASSWORD, USER, World, check, layer, on, refusal};

/// Reads a config into memory.
fn read(world: &World, repository: &Repository<'_>) -> Result<String, Error> {
    read_some(world, repository, 1)
}

/// Reads five of them.
fn read_five(world: &World, repository: &Repository<'_>) -> Result<String, Error> {
    read_some(world, repository, 5)
}

fn read_some(world: &World, repository: &Repository<'_>, count: usize) -> Result<String, Error> {
    for size in 1000..1000 + count {
        let config = layer(size);
        world.registry.add_blob("team/app", &config);
        assert_eq!(repository.blob(&config.descriptor, 2000)?.bytes(), config.bytes);
    }
    Ok("read".to_owned())
}

fn asks(challenge: &str) -> Answer {
    refusal("401 Unauthorized", "UNAUTHORIZED").with("WWW-Authenticate", challenge)
}

fn token(text: &str) -> Answer {
    Answer::new("200 OK", text).with("Content-Type", "application/json")
}

#[test]
fn good_ones() {
    check(read, Basic, [], Ok("read"));
    let ran = check(read_five, Bearer, [], Ok("read"));
    assert_eq!(ran.count(|seen| seen.head.path() == "/token"), 1, "{}", ran.story());
    // Several ways in: the one that can be gone.
    let several =
        "Negotiate, Bearer realm=\"{home}/token\",service=\"a, \\\"b\\\"\",scope=\"x\", Basic realm=\"y\"";
    check(read, Bearer, [on(GetBlob, 0..1, asks(several))], Ok("read"));
}

#[test]
fn a_realm_that_is_not_the_registrys_own() {
    let at =
        |realm: &str| on(GetBlob, 0..9, asks(&format!("Bearer realm=\"{realm}\",service=\"s\",scope=\"x\"")));
    check(
        read,
        Bearer,
        [at("{other}/token")],
        Err("{other}/token gives no token for {home} to those without credentials (401"),
    );
    check(
        read,
        Bearer,
        [at("{localhost}/token")],
        Err("{localhost}/token gives no token for {home} to those without"),
    );
    check(read, Bearer, [at("{with-user}/token")], Err("gives no token for {home} to those without"));
    check(read, Bearer, [at("file:///etc/passwd")], Err("file:"));
    check(read, Bearer, [at("ftp://a.b/token")], Err("ftp:"));
    World::new(Bearer, [at("{other}/token")]).tls().run(read, Err("to those without credentials (401"));
    // One that gives tokens to everybody is no harm.
    let gives = on(Token, 0..9, token("{\"token\":\"for-anybody\"}"));
    World::new(Bearer, [at("{other}/token")]).other([gives]).run(read, Err("401"));
}

#[test]
fn a_realm_that_we_are_known_at() {
    let at_other = || on(GetBlob, 0..1, asks("Bearer realm=\"{other}/token\",service=\"s\",scope=\"x\""));
    let secret = || Secret::Basic { user: "else".to_owned(), password: "where".to_owned() };
    let world = World::new(Bearer, [at_other()]).other([on(Token, 0..1, token("{\"token\":\"x\"}"))]);
    let ran = world.other_secret(secret()).run(read, Err("does not accept"));
    let says = |value: &str| ran.count(|seen| seen.head.header("authorization") == Some(value));
    assert_eq!((says("Basic ZWxzZTp3aGVyZQ=="), says("Bearer x")), (1, 1), "{}", ran.story());
    assert_eq!(ran.count(|seen| seen.origin == "home" && seen.head.path() == "/token"), 0, "{}", ran.story());
    // What is for another host is not for the registry, whatever it asks.
    let ran =
        World::new(Basic, []).secret(None).other_secret(secret()).run(read, Err("there are none for it"));
    assert_eq!(ran.count(|seen| seen.head.header("authorization").is_some()), 0, "{}", ran.story());
}

#[test]
fn other_kinds_of_secrets() {
    let identity = || Some(Secret::IdentityToken(IDENTITY.to_owned()));
    World::new(Bearer, []).secret(identity()).run(read, Ok("read"));
    World::new(Basic, []).secret(identity()).run(read, Err("wants"));
    for status in ["302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let away = Answer::new(status, "").with("Location", "{other}{target}");
        World::new(Bearer, [on(Token, 0..9, away)]).secret(identity()).run(read, Err("redirect"));
    }
    let at_other = asks("Bearer realm=\"{other}/token\",service=\"s\",scope=\"x\"");
    World::new(Bearer, [on(GetBlob, 0..9, at_other)]).secret(identity()).run(read, Err("gives no token"));
    let token = || Some(Secret::RegistryToken("t0ken-53cret-of-the-registry".to_owned()));
    World::new(Bearer, []).secret(token()).run(read, Err("does not accept"));
    World::new(Bearer, []).secret(None).run(read, Err("gives no token"));
}

#[test]
fn errors_that_repeat_a_secret() {
    let says = |text: &str| on(GetBlob, 1..9, refusal("403 Forbidden", text));
    check(read, Bearer, [says("t0ken-53cret-0 is not enough")], Err("403"));
    check(read, Basic, [says(&format!("who is {PASSWORD}?"))], Err("403"));
    let both = BASE64.encode(format!("{USER}:{PASSWORD}").as_bytes());
    check(read, Basic, [says(&format!("Basic {both}?"))], Err("403"));
    check(
        read,
        Bearer,
        [on(Token, 0..9, refusal("403 Forbidden", &format!("{both} {PASSWORD}")))],
        Err("403"),
    );
    // Places that only who was told them knows.
    let signed =
        Answer::new("307 Temporary Redirect", "").with("Location", "{other}/x?sign=53cret-signature");
    check(read, Bearer, [on(GetBlob, 0..9, signed.clone())], Err("404"));
    let breaks = on(Any, 0..9, Deed::Raw(""));
    World::new(Bearer, [on(GetBlob, 0..9, signed)]).other([breaks]).run(read, Err("cannot fetch"));
    let signed =
        Answer::new("307 Temporary Redirect", "").with("Location", "ftp://me:53cret@a.b/x?sign=53cret");
    check(read, Bearer, [on(GetBlob, 0..9, signed)], Err("redirected to ftp:"));
}

#[test]
fn tokens_that_are_none() {
    let given = |answer: Answer| on(Token, 0..99, answer);
    check(read, Bearer, [given(token("{}"))], Err("token"));
    check(read, Bearer, [given(token("no"))], Err("token"));
    check(read, Bearer, [given(token("{\"token\":\"\"}"))], Err("token"));
    check(read, Bearer, [given(token("{\"token\":7}"))], Err("token"));
    check(read, Bearer, [given(token("{\"token\":\"a\\r\\nX-Evil: b\"}"))], Err("token"));
    check(read, Bearer, [given(token("{\"token\":\"ü\"}"))], Err("401"));
    let huge = format!("{{\"token\":\"{}\"}}", "x".repeat(3 << 20));
    check(read, Bearer, [given(token(&huge))], Err("262144 bytes instead of a token"));
    let huge = Answer { length: Length::Chunked, ..token(&huge) };
    check(read, Bearer, [given(huge)], Err("262144 bytes instead of a token"));
    let endless = Answer { ending: Ending::Hang(3), ..token("{\"token\":\"x\"}") };
    let patient = World::new(Bearer, [given(endless)]).retries(1);
    patient.run(read, Err("silent"));
}

#[test]
fn a_token_server_that_is_ill() {
    check(read, Bearer, [on(Token, 0..2, refusal("503 Service Unavailable", "X"))], Ok("read"));
    check(read, Bearer, [on(Token, 0..2, Deed::Raw(""))], Ok("read"));
    check(read, Bearer, [on(Token, 0..99, refusal("503 Service Unavailable", "X"))], Err("503"));
    check(read, Bearer, [on(Token, 0..99, refusal("401 Unauthorized", "DENIED"))], Err("401"));
    check(read, Bearer, [on(Token, 0..99, refusal("403 Forbidden", "DENIED"))], Err("403"));
    let away = Answer::new("307 Temporary Redirect", "").with("Location", "{other}{target}");
    check(read, Bearer, [on(Token, 0..99, away)], Err("does not accept the credentials"));
    let away = Answer::new("302 Found", "").with("Location", "{localhost}/token");
    check(read, Bearer, [on(Token, 0..99, away)], Err("does not accept the credentials"));
}

#[test]
fn a_token_that_ends_midway() {
    let expired =
        || asks("Bearer realm=\"{home}/token\",service=\"mock\",scope=\"x\",error=\"invalid_token\"");
    let ran = check(read_five, Bearer, [on(GetBlob, 3..4, expired())], Ok("read"));
    assert_eq!(ran.count(|seen| seen.head.path() == "/token"), 2, "{}", ran.story());
    check(read_five, Bearer, [on(GetBlob, 2..5, expired())], Err("401"));
}

#[test]
fn a_registry_that_is_never_content() {
    for challenge in
        ["Basic realm=\"x\"", "Bearer realm=\"{home}/token\",service=\"mock\",scope=\"x\"", "Negotiate", ""]
    {
        for auth in [Basic, Bearer] {
            // Nothing is tried again and again.
            let ran = check(read, auth, [on(GetBlob, 0..99, asks(challenge))], Err("401"));
            assert!(ran.log.len() < 12, "{}", ran.story());
        }
    }
    let ran = check(read, Basic, [on(Any, 0..99, refusal("401 Unauthorized", "X"))], Err("401"));
    assert!(ran.log.len() < 12, "{}", ran.story());
    check(read, Basic, [on(GetBlob, 0..9, refusal("403 Forbidden", "DENIED"))], Err("403"));
}
