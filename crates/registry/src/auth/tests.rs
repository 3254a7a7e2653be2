#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use data_encoding::BASE64;

use super::helper::Helper;
use super::*;

fn show(secret: Option<Secret>) -> String {
    match secret {
        Some(Secret::Basic { user, password }) => format!("{user}:{password}"),
        Some(Secret::IdentityToken(token)) => format!("identity {token}"),
        Some(Secret::RegistryToken(token)) => format!("registry {token}"),
        None => "none".to_owned(),
    }
}

fn keychain(texts: &[&str]) -> Keychain {
    let path = |at| PathBuf::from(format!("/auth/{at}.json"));
    Keychain::new(texts.iter().enumerate().map(|(at, text)| (path(at), (*text).to_owned())).collect())
        .unwrap()
}

fn found(keychain: &Keychain, place: &str) -> String {
    let (host, repository) = place.split_once('/').unwrap_or((place, ""));
    keychain.lookup(host, repository).map_or_else(|error| error.to_string(), show)
}

/// `auths` has `KEY=USER:PASSWORD` words.
fn check(auths: &str, place: &str, expected: &str) {
    let entry = |word: &str| {
        let (key, secret) = word.split_once('=').unwrap();
        format!("\"{key}\":{{\"auth\":\"{}\"}}", BASE64.encode(secret.as_bytes()))
    };
    let entries: Vec<_> = auths.split_whitespace().map(entry).collect();
    let text = format!("{{\"auths\":{{{}}}}}", entries.join(","));
    assert_eq!(found(&keychain(&[&text]), place), expected, "{auths} {place}");
}

/// The whole text of one file.
fn check_file(text: &str, place: &str, expected: &str) {
    assert_eq!(found(&keychain(&[text]), place), expected, "{text} {place}");
}

#[test]
fn entries_by_host() {
    check("quay.io=me:p", "quay.io/a/b", "me:p");
    check("quay.io=me:p", "quay.io", "me:p");
    check("quay.io=me:p:with:colons", "quay.io/a", "me:p:with:colons");
    check("quay.io=me:p", "QUAY.io/a", "me:p");
    check("Quay.IO=me:p", "quay.io/a", "me:p");
    check("quay.io=me:p", "ghcr.io/a", "none");
    check("quay.io=me:p", "quay.io:443/a", "none");
    check("127.0.0.1:5000=me:p", "127.0.0.1:5000/a", "me:p");
    check("127.0.0.1=me:p", "127.0.0.1:5000/a", "none");
    check("[::1]:5000=me:p", "[::1]:5000/a", "me:p");
    check("io=me:p", "quay.io/a", "none");
    check("", "quay.io/a", "none");
}

#[test]
fn entries_by_namespace() {
    let all = "q.io=host:1 q.io/a=ns:2 q.io/a/b=repo:3 q.io/ab=other:4";
    check(all, "q.io/a/b", "repo:3");
    check(all, "q.io/a/b/c", "repo:3");
    check(all, "q.io/a/c", "ns:2");
    check(all, "q.io/ab/c", "other:4");
    check(all, "q.io/abc", "host:1");
    check(all, "q.io", "host:1");
    check("q.io/a=ns:2", "q.io/b", "none");
    check("q.io/a=ns:2", "q.io", "none");
}

#[test]
fn keys_as_docker_wrote_them() {
    check("https://index.docker.io/v1/=me:p", "docker.io/library/debian", "me:p");
    check("docker.io=me:p", "docker.io/library/debian", "me:p");
    check("index.docker.io=me:p", "registry-1.docker.io/library/debian", "me:p");
    check("docker.io/me=ns:1 https://index.docker.io/v1/=all:2", "docker.io/me/x", "ns:1");
    check("docker.io/me=ns:1 https://index.docker.io/v1/=all:2", "docker.io/you/x", "all:2");
    check("https://index.docker.io/v1/=old:1 docker.io=new:2", "docker.io/a", "new:2");
    check("https://q.io=me:p", "q.io/a", "me:p");
    check("http://q.io:5000/v2/=me:p", "q.io:5000/a", "me:p");
    check("https://q.io/v1/=me:p", "q.io/a", "me:p");
    check("q.io/v2/=me:p", "q.io/a", "me:p");
    check("q.io/=me:p", "q.io/a", "me:p");
    // A name that ends like docker's URLs is a name.
    check("q.io/a/v1=me:p", "q.io/a/v2", "none");
    check("q.io/a/v1=me:p", "q.io/a/v1", "me:p");
}

#[test]
fn what_an_entry_may_have() {
    check_file(r#"{"auths":{"q.io":{}}}"#, "q.io", "none");
    check_file(r#"{"auths":{"q.io":null}}"#, "q.io", "none");
    check_file(r#"{"auths":{"q.io":{"auth":""}}}"#, "q.io", "none");
    check_file(r#"{"auths":{"q.io":{"auth":"Og=="}}}"#, "q.io", "none");
    check_file(r#"{"auths":{"q.io/a":{},"q.io":{"auth":"bWU6cA=="}}}"#, "q.io/a", "me:p");
    check_file(r#"{"auths":{"q.io":{"auth":"bWU6cA"}}}"#, "q.io", "me:p");
    check_file(r#"{"auths":{"q.io":{"auth":"bWU6cAAA"}}}"#, "q.io", "me:p");
    check_file(r#"{"auths":{"q.io":{"username":"me","password":"p"}}}"#, "q.io", "me:p");
    check_file(r#"{"auths":{"q.io":{"auth":"bWU6","identitytoken":"t"}}}"#, "q.io", "identity t");
    check_file(r#"{"auths":{"q.io":{"auth":"bWU6cA==","registrytoken":"t"}}}"#, "q.io", "registry t");
    check_file(r#"{"auths":{"q.io":{"auth":"bWU6cA==","email":"x"}},"HttpHeaders":{}}"#, "q.io", "me:p");
    check_file(r#"{"auths":null,"credHelpers":null,"credsStore":""}"#, "q.io", "none");
    check_file("{}", "q.io", "none");
    check_file(" \n", "q.io", "none");
}

#[test]
fn entries_that_cannot_be_read_show_no_secret() {
    let error = "/auth/0.json: `auth` of q.io is not the base64 of USER:PASSWORD; run `podman login q.io` or `docker \
                 login q.io`";
    for auth in ["s3cret", "czNjcmV0", "s3cret!", "/w=="] {
        let text = format!(r#"{{"auths":{{"q.io":{{"auth":"{auth}"}}}}}}"#);
        check_file(&text, "q.io/a", error);
        check_file(&text, "other.io/a", "none");
    }
    for text in
        [r#"{"auths":"s3cret"}"#, r#"{"auths":{"q.io":"s3cret"}}"#, "s3cret", "{\"auths\":\n  [\"s3cret\"]}"]
    {
        let error = Keychain::new(vec![("/auth".into(), text.to_owned())]).unwrap_err();
        let (shown, debug) = (error.to_string(), format!("{error:?}"));
        assert!(shown.starts_with("/auth, line ") && !shown.contains("s3cret"), "{shown}");
        assert!(!debug.contains("s3cret"), "{debug}");
    }
}

#[test]
fn several_files_and_explicit_ones() {
    let first = r#"{"auths":{"q.io":{"auth":"MTox"},"empty.io":{}}}"#;
    let second = r#"{"auths":{"q.io/a":{"auth":"Mjoy"},"empty.io":{"auth":"Mjoy"},"r.io":{"auth":"Mjoy"}}}"#;
    let keychain = keychain(&[first, second]);
    assert_eq!(found(&keychain, "q.io/a"), "1:1");
    assert_eq!(found(&keychain, "empty.io/a"), "2:2");
    assert_eq!(found(&keychain, "r.io/a"), "2:2");
    let keychain = keychain.with("Q.io", Secret::RegistryToken("t".to_owned()));
    assert_eq!(found(&keychain, "q.io/a"), "registry t");
    let keychain = keychain.with("index.docker.io", Secret::IdentityToken("hub".to_owned()));
    assert_eq!(found(&keychain, "docker.io/a"), "identity hub");
}

#[test]
fn printing_shows_nothing() {
    let keychain = keychain(&[r#"{"auths":{"q.io":{"auth":"bWU6czNjcmV0"}}}"#])
        .with("r.io", Secret::Basic { user: "me".to_owned(), password: "s3cret".to_owned() });
    let shown = format!("{keychain:?} {:?} {:?}", keychain.lookup("q.io", ""), keychain.lookup("r.io", ""));
    assert!(!shown.contains("s3cret") && !shown.contains("bWU6"), "{shown}");
    assert!(shown.contains("***") && shown.contains("/auth/0.json") && shown.contains("r.io"), "{shown}");
}

/// A folder with helpers, each a line of shell; `$server` is what they were asked for.
fn helpers(programs: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, line) in programs {
        let path = folder.path().join(format!("docker-credential-{name}"));
        let log = folder.path().join("log");
        let text = format!(
            "#!/bin/sh\nserver=$(/bin/cat)\necho \"{name} $1 $server\" >>{}\n{line}\n",
            log.display()
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default()
}

const KNOWS: &str = r#"echo "{\"ServerURL\":\"$server\",\"Username\":\"u\",\"Secret\":\"of $server\"}""#;
const KNOWS_NOT: &str = "echo credentials not found in native keychain; exit 1";

/// `log` is what the helpers were asked.
fn check_helpers(programs: &[(&str, &str)], text: &str, place: &str, expected: &str, asked: &str) {
    let folder = helpers(programs);
    let keychain = keychain(&[text]).with_search_path(folder.path());
    assert_eq!(found(&keychain, place), expected, "{text} {place}");
    // The second time nobody is asked.
    assert_eq!(found(&keychain, place), expected, "{text} {place}");
    assert_eq!(log(folder.path()), asked, "{text} {place}");
}

#[test]
fn helpers_are_asked_once() {
    let store = r#"{"auths":{"q.io":{}},"credsStore":"s"}"#;
    check_helpers(&[("s", KNOWS)], store, "q.io/a", "u:of q.io", "s get q.io\n");
    check_helpers(&[("s", KNOWS)], store, "other.io/a", "u:of other.io", "s get other.io\n");
    check_helpers(&[("s", KNOWS_NOT)], store, "q.io/a", "none", "s get q.io\n");
    let hub = "u:of https://index.docker.io/v1/";
    check_helpers(&[("s", KNOWS)], store, "docker.io/a", hub, "s get https://index.docker.io/v1/\n");
    let both = "s get https://index.docker.io/v1/\ns get docker.io\n";
    check_helpers(&[("s", KNOWS_NOT)], store, "docker.io/a", "none", both);
    let token = r#"echo '{"Username":"<token>","Secret":"t"}'"#;
    check_helpers(&[("s", token)], store, "q.io/a", "identity t", "s get q.io\n");
    let nothing = r#"echo '{"Username":"","Secret":""}'"#;
    check_helpers(&[("s", nothing)], store, "q.io/a", "none", "s get q.io\n");
}

#[test]
fn which_helper() {
    let both = &[("h", KNOWS), ("s", KNOWS)];
    let text = r#"{"auths":{"q.io":{"auth":"bWU6cA=="},"own.io":{"auth":"bWU6cA=="}},
        "credHelpers":{"q.io":"h","q.io/a":"s","plain.io":"","https://gcr.io":"h"},"credsStore":"s"}"#;
    check_helpers(both, text, "q.io/b", "u:of q.io", "h get q.io\n");
    check_helpers(both, text, "q.io/a/b", "u:of q.io/a", "s get q.io/a\n");
    check_helpers(both, text, "gcr.io/a", "u:of gcr.io", "h get gcr.io\n");
    check_helpers(both, text, "own.io/a", "me:p", "");
    check_helpers(both, text, "plain.io/a", "none", "");
    check_helpers(both, text, "else.io/a", "u:of else.io", "s get else.io\n");
}

/// `expected` follows the words that name file, helper and server.
fn check_failure(name: &str, line: &str, expected: &str) {
    let folder = helpers(&[(name.rsplit('/').next().unwrap(), line)]);
    let text = format!(r#"{{"credsStore":"{name}"}}"#);
    let keychain = keychain(&[&text]).with_search_path(folder.path());
    let error = keychain.lookup("q.io", "a").unwrap_err();
    let (shown, debug) = (error.to_string(), format!("{error:?}"));
    assert_eq!(shown, format!("/auth/0.json: docker-credential-{name}, for q.io, {expected}"));
    assert!(!shown.contains("s3cret") && !debug.contains("s3cret"), "{debug}");
}

#[test]
fn helpers_that_fail_show_no_secret() {
    let failed = "failed (exit status: 3); to see why, run `printf q.io | docker-credential-s get`";
    check_failure("s", "echo s3cret; echo s3cret >&2; exit 3", failed);
    let killed = "failed (signal: 9 (SIGKILL)); to see why, run `printf q.io | docker-credential-s get`";
    check_failure("s", "kill -9 $$", killed);
    let other = "answered with something else than a JSON object with `Username` and `Secret`";
    check_failure("s", "echo s3cret", other);
    check_failure("s", r#"echo '{"Username":"s3cret"}'"#, other);
    check_failure("s", "true", other);
    check_failure("s", "while :; do echo s3cret s3cret s3cret s3cret s3cret s3cret; done", other);
    let name = "is not the name of a program: letters, digits, `.`, `_` and `-`";
    check_failure("../s", KNOWS, name);
    check_failure("s;x", KNOWS, name);
    let keychain = keychain(&[r#"{"credsStore":"none"}"#]).with_search_path("/nonexistent");
    let missing = "/auth/0.json: docker-credential-none, for q.io, is not installed, or not in PATH; install it, or \
                   remove its name from this file";
    assert_eq!(found(&keychain, "q.io/a"), missing);
}

#[test]
fn helpers_have_a_time_limit() {
    for line in ["exec sleep 60", "sleep 60", "exec >&-; exec sleep 60"] {
        let folder = helpers(&[("s", line)]);
        let mut path = folder.path().as_os_str().to_owned();
        path.push(":/usr/bin:/bin");
        let patience = Duration::from_millis(300);
        let helper = Helper { name: "s", search_path: Some(&path), patience };
        let before = Instant::now();
        let problem = helper.get("q.io").unwrap_err();
        assert!(matches!(problem, HelperProblem::Slow { .. }), "{line}: {problem}");
        assert!(before.elapsed() < Duration::from_secs(5), "{line}");
    }
}

#[test]
fn a_helper_need_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker-credential-s");
    std::fs::write(&path, "#!/bin/sh\necho '{\"Username\":\"u\",\"Secret\":\"p\"}'\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let keychain = keychain(&[r#"{"credHelpers":{"q.io":"s"}}"#]).with_search_path(folder.path());
    assert_eq!(found(&keychain, "q.io/a"), "u:p");
}
