//! Fetching from a server of our own, which misbehaves by script.

mod server;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::sync::Barrier;
use std::time::Instant;

use tempfile::TempDir;

use super::*;
use server::{Answer, Seen, Server, answer, ok, ranged, redirect, status};

/// A store, and what was said while fetching into it.
struct Bench {
    dir: TempDir,
    store: Store,
    settings: FetchSettings,
    events: Mutex<Vec<String>>,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        let patience = Patience {
            retries: 3,
            first_wait: Duration::from_millis(5),
            longest_wait: Duration::from_millis(1500),
            // Longer than a busy machine takes to answer.
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(10),
        };
        let settings = FetchSettings { patience, ..FetchSettings::default() };
        Self { dir, store, settings, events: Mutex::default() }
    }

    fn fetcher(&self) -> Fetcher {
        // Whatever proxy the developer has is not part of the test.
        Fetcher::with_client(self.settings.clone(), Client::builder().no_proxy()).unwrap()
    }

    fn note(&self, request: &Request, event: Event<'_>) {
        let text = match event {
            Event::Bytes(_) => return,
            Event::Started { have } => format!("started at {have}"),
            Event::Retry { reason, .. } => format!("retry: {reason}"),
            Event::Rejected(attempt) => format!("rejected: {}", attempt.reason),
            event => format!("{event:?}").to_lowercase(),
        };
        self.events.lock().unwrap().push(format!("{} {text}", request.title));
    }

    fn fetch(&self, request: &Request) -> Result<(), FetchError> {
        self.fetcher().fetch(&self.store, request, &|request, event| self.note(request, event))
    }

    fn events(&self) -> String {
        self.events.lock().unwrap().join("\n")
    }

    fn has(&self, body: &[u8]) -> bool {
        let digest = Digest::of(body);
        self.store.contains(&digest).unwrap() && fs::read(self.store.blob_path(&digest)).unwrap() == body
    }

    /// The bytes of an interrupted download that are kept.
    fn kept(&self, digest: &Digest) -> Option<u64> {
        let path = self.store.root().join("tmp").join(format!("{}.part", digest.hex()));
        fs::metadata(path).ok().map(|metadata| metadata.len())
    }
}

fn body() -> Vec<u8> {
    (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn request(body: &[u8], sources: &[String]) -> Request {
    Request {
        name: "numpy".to_owned(),
        title: "numpy 2.1.0".to_owned(),
        file: "numpy-2.1.0+local-py3-none-any.whl".to_owned(),
        digest: Digest::of(body),
        size: Some(body.len() as u64),
        locked_in: "uv.lock, package 31".to_owned(),
        relock: Some("uv lock --upgrade-package numpy".to_owned()),
        sources: sources.iter().map(|url| Source::Url(url.clone())).collect(),
    }
}

/// Fetches from a scripted server, expects success after so many requests, and returns those.
fn check_fetched(
    script: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static,
    requests: usize,
) -> Vec<Seen> {
    let (bench, server) = (Bench::new(), Server::new(script));
    let result = bench.fetch(&request(&body(), &[server.url("a.whl")]));
    assert!(result.is_ok(), "{result:?}\n{}", bench.events());
    assert!(bench.has(&body()));
    assert_eq!(server.seen().len(), requests, "{}", bench.events());
    assert_eq!(fs::read_dir(bench.store.root().join("tmp")).unwrap().count(), 0);
    server.seen()
}

/// Fetches from a scripted server, and expects failure after so many requests, for this reason.
fn check_failed(
    script: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static,
    requests: usize,
    reason: &str,
) {
    check_failed_by(Bench::new(), script, requests, reason);
}

fn check_failed_by(
    bench: Bench,
    script: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static,
    requests: usize,
    reason: &str,
) {
    let server = Server::new(script);
    let error = bench.fetch(&request(&body(), &[server.url("a.whl")])).unwrap_err();
    assert!(error.to_string().contains(reason), "{error}");
    assert_eq!(server.seen().len(), requests, "{}", bench.events());
    assert!(bench.store.blobs().unwrap().is_empty());
}

#[test]
fn a_plain_download() {
    let seen = check_fetched(|_, _| ok(&body()), 1);
    assert_eq!(seen[0].path, "/a.whl");
    assert_eq!(seen[0].header("accept-encoding"), Some("identity"));
    assert_eq!((seen[0].header("range"), seen[0].header("authorization")), (None, None));
}

#[test]
fn servers_that_recover() {
    for code in ["503 Service Unavailable", "500 Oops", "408 Request Timeout", "429 Too Many Requests"] {
        check_fetched(move |_, count| if count < 2 { status(code) } else { ok(&body()) }, 3);
    }
}

#[test]
fn servers_that_do_not() {
    check_failed(|_, _| status("503 Service Unavailable"), 4, "503 Service Unavailable");
    check_failed(|_, _| status("404 Not Found"), 1, "404 Not Found");
    check_failed(|_, _| status("403 Forbidden"), 1, "403 Forbidden");
    check_failed(|_, _| Answer { bytes: vec![], is_hanging: false }, 4, "127.0.0.1");
    check_failed(|_, _| Answer { bytes: b"SSH-2.0\r\n\r\n".to_vec(), is_hanging: false }, 4, "127.0.0.1");
}

#[test]
fn retry_after_is_honoured_and_bounded() {
    let busy = |header: &'static str| {
        move |_: &Seen, count: usize| match count {
            0 => answer("429 Too Many Requests", &[header.to_owned()], 0, b""),
            _ => ok(&body()),
        }
    };
    let time = |header| {
        let start = Instant::now();
        check_fetched(busy(header), 2);
        start.elapsed()
    };
    assert!(time("Retry-After: 1") >= Duration::from_secs(1));
    let bounded = time("Retry-After: 100000");
    assert!(bounded >= Duration::from_millis(1500) && bounded < Duration::from_secs(10), "{bounded:?}");
    let dated = "Date: Wed, 21 Oct 2015 07:28:00 GMT\r\nRetry-After: Wed, 21 Oct 2015 07:28:01 GMT";
    assert!(time(dated) >= Duration::from_secs(1));
}

#[test]
fn a_broken_connection_is_resumed() {
    let script = |seen: &Seen, count: usize| match count {
        0 => answer("200 OK", &["ETag: \"v1\"".to_owned()], body().len(), &body()[..1_000_000]),
        1 => {
            let start = seen.start().unwrap();
            let range = format!("Content-Range: bytes {start}-2999999/3000000");
            answer("206 Partial Content", &[range], body().len() - start, &body()[start..2_000_000])
        }
        _ => ranged(seen, &body()),
    };
    let seen = check_fetched(script, 3);
    let starts: Vec<_> = seen.iter().map(Seen::start).collect();
    assert_eq!(starts, [None, Some(1_000_000), Some(2_000_000)]);
    assert_eq!(seen[1].header("if-range"), Some("\"v1\""));
}

#[test]
fn a_weak_tag_is_not_used() {
    let script = |seen: &Seen, count: usize| match count {
        0 => answer("200 OK", &["ETag: W/\"v1\"".to_owned()], body().len(), &body()[..1_000]),
        _ => ranged(seen, &body()),
    };
    assert_eq!(check_fetched(script, 2)[1].header("if-range"), None);
}

#[test]
fn a_download_that_makes_headway_is_not_given_up() {
    // Eight breaks are more than the patience has, but each brings something new only of this size.
    let script = |seen: &Seen, _: usize| {
        let start = seen.start().unwrap_or(0);
        let end = (start + 1_100_000).min(body().len());
        let range = format!("Content-Range: bytes {start}-2999999/3000000");
        let code = if start == 0 { "200 OK" } else { "206 Partial Content" };
        answer(code, &[range], body().len() - start, &body()[start..end])
    };
    check_fetched(script, 3);
    let trickle = |seen: &Seen, _: usize| {
        let start = seen.start().unwrap_or(0);
        let range = format!("Content-Range: bytes {start}-2999999/3000000");
        let code = if start == 0 { "200 OK" } else { "206 Partial Content" };
        answer(code, &[range], body().len() - start, &body()[start..start + 10])
    };
    check_failed(trickle, 4, "127.0.0.1");
}

#[test]
fn a_server_without_ranges_starts_anew() {
    let script = |_: &Seen, count: usize| match count {
        0 => answer("200 OK", &[], body().len(), &body()[..1_000_000]),
        _ => ok(&body()),
    };
    assert_eq!(check_fetched(script, 2)[1].start(), Some(1_000_000));
}

#[test]
fn wrong_answers_to_a_range_start_anew() {
    for bad in ["206 Partial Content", "416 Range Not Satisfiable"] {
        let script = move |_: &Seen, count: usize| match count {
            0 => answer("200 OK", &[], body().len(), &body()[..1_000_000]),
            1 => answer(bad, &["Content-Range: bytes 5-2999999/3000000".to_owned()], 3, b"abc"),
            _ => ok(&body()),
        };
        assert_eq!(check_fetched(script, 3)[2].start(), None);
    }
}

#[test]
fn pieces_of_two_versions_are_thrown_away() {
    let script = |seen: &Seen, count: usize| match count {
        0 => answer("200 OK", &[], body().len(), &[7; 1_000_000]),
        _ => ranged(seen, &body()),
    };
    let starts: Vec<_> = check_fetched(script, 3).iter().map(Seen::start).collect();
    assert_eq!(starts, [None, Some(1_000_000), None]);
}

#[test]
fn another_run_goes_on_where_one_was_killed() {
    let (bench, server) = (Bench::new(), Server::new(|seen, _| ranged(seen, &body())));
    let request = request(&body(), &[server.url("a.whl")]);
    bench.store.partial(&request.digest, || {}).unwrap().unwrap().append(&body()[..2_500_000]).unwrap();
    bench.fetch(&request).unwrap();
    assert!(bench.has(&body()));
    assert_eq!(server.seen()[0].start(), Some(2_500_000));
    assert_eq!(bench.events(), "numpy 2.1.0 started at 2500000\nnumpy 2.1.0 finished");

    let bench = Bench::new();
    bench.store.partial(&request.digest, || {}).unwrap().unwrap().append(&body()).unwrap();
    bench.fetch(&request).unwrap();
    assert!(bench.has(&body()));
    assert_eq!(server.seen().len(), 1, "all was there");
}

#[test]
fn remains_of_something_else_do_no_harm() {
    for remains in [vec![1; 10], vec![1; 3_000_000], vec![1; 4_000_000]] {
        let (bench, server) = (Bench::new(), Server::new(|seen, _| ranged(seen, &body())));
        let request = request(&body(), &[server.url("a.whl")]);
        bench.store.partial(&request.digest, || {}).unwrap().unwrap().append(&remains).unwrap();
        bench.fetch(&request).unwrap();
        assert!(bench.has(&body()));
    }
}

#[test]
fn a_silent_server_times_out() {
    let hang = |bytes: Vec<u8>| move |_: &Seen, _: usize| Answer { bytes: bytes.clone(), is_hanging: true };
    let impatient = || {
        let mut bench = Bench::new();
        bench.settings.patience.silence = Duration::from_millis(300);
        bench
    };
    let start = Instant::now();
    check_failed_by(impatient(), hang(vec![]), 4, "127.0.0.1");
    let part = answer("200 OK", &[], body().len(), b"only this").bytes;
    check_failed_by(impatient(), hang(part), 4, "fell silent");
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn wrong_bytes_are_shown_as_in_the_lock() {
    let (bench, server) = (Bench::new(), Server::new(|_, _| ok(&[0; 3_000_000])));
    let error = bench.fetch(&request(&body(), &[server.url("a.whl?key=secret")])).unwrap_err();
    let expected = format!(
        "digest mismatch for numpy 2.1.0\n  locked:   {} (uv.lock, package 31)\n  received: {} \
         (numpy-2.1.0+local-py3-none-any.whl)\n  from:     http://{}/a.whl?***",
        Digest::of(&body()),
        Digest::of(&[0; 3_000_000]),
        server.address,
    );
    assert_eq!(error.to_string(), expected);
    let hint = "the file changed upstream or a proxy altered it; run `uv lock --upgrade-package numpy`";
    assert_eq!(error.hint().as_deref(), Some(hint));
    assert_eq!(server.seen().len(), 1, "wrong bytes do not become right");
    assert_eq!(bench.kept(&Digest::of(&body())), None);
}

#[test]
fn wrong_lengths() {
    check_failed(|_, _| ok(&vec![0; 4_000_000]), 1, "more than the 3000000 bytes expected");
    // Shorter and complete, as far as the server is concerned.
    check_failed(
        |seen, _| if seen.start().is_some() { status("416 Never") } else { ok(b"short") },
        4,
        "127.0.0.1",
    );
}

#[test]
fn the_next_source_is_tried_and_the_rest_is_kept() {
    let bench = Bench::new();
    let broken = Server::new(|seen, _| match seen.start() {
        None => answer("200 OK", &[], body().len(), &body()[..1_000_000]),
        Some(_) => status("404 Not Found"),
    });
    let wrong = Server::new(|_, _| ok(&[0; 100]));
    let good = Server::new(|seen, _| ranged(seen, &body()));
    let sources = [broken.url("x"), good.url("y")];
    bench.fetch(&request(&body(), &sources)).unwrap();
    assert!(bench.has(&body()));
    assert_eq!(good.seen()[0].start(), Some(1_000_000), "goes on with what the first one sent");

    let bench = Bench::new();
    let mut request = request(&body(), &[wrong.url("x"), good.url("y")]);
    request.size = None;
    bench.fetch(&request).unwrap();
    assert!(
        bench.has(&body()) && bench.events().contains("rejected: received sha256:"),
        "{}",
        bench.events()
    );
}

#[test]
fn all_failures_are_listed() {
    let bench = Bench::new();
    let missing = Server::new(|_, _| status("404 Not Found"));
    let denied = Server::new(|_, _| status("401 Unauthorized"));
    let secret = format!("http://me:pass%40word@{}/b.whl?token=abc", denied.address);
    let mut request = request(&body(), &[missing.url("a.whl"), secret, "ftp://example.org/a".to_owned()]);
    request.sources.push(Source::Path(bench.dir.path().join("absent.whl")));
    let error = bench.fetch(&request).unwrap_err();
    let text = error.to_string();
    for part in
        ["cannot fetch numpy 2.1.0", "404 Not Found", "***@127.0.0.1", "401 Unauthorized", "`ftp`", "absent"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(error.hint().unwrap().contains("IMGFORGE_AUTH_<HOST>"));
    for text in [text, bench.events(), format!("{error:?} {request:?} {:?}", bench.fetcher())] {
        assert!(!text.contains("word") && !text.contains("abc"), "{text}");
    }
}

#[test]
fn vendor_folders_come_first_and_are_not_trusted() {
    let mut bench = Bench::new();
    let server = Server::new(|_, _| ok(&body()));
    let request = request(&body(), &[server.url("a.whl")]);
    let (bad, good) = (bench.dir.path().join("bad"), bench.dir.path().join("good"));
    for (folder, content) in [(&bad, vec![0; 3_000_000]), (&good, body())] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join(&request.file), content).unwrap();
    }
    bench.settings.vendor = vec![bench.dir.path().join("none"), bad.clone(), good];
    bench.settings.offline = true;
    bench.fetch(&request).unwrap();
    assert!(bench.has(&body()) && server.seen().is_empty());
    assert!(bench.events().contains("rejected: received"), "{}", bench.events());

    let mut bench = Bench::new();
    bench.settings.vendor = vec![bad];
    bench.fetch(&request).unwrap();
    assert_eq!(server.seen().len(), 1);
}

/// Puts these bytes into a vendor folder, fetches offline, and returns the hint.
fn vendored_hint(content: Option<&[u8]>, urls: &[String]) -> String {
    let mut bench = Bench::new();
    let (folder, request) = (bench.dir.path().to_owned(), request(&body(), urls));
    if let Some(content) = content {
        fs::write(folder.join(&request.file), content).unwrap();
    }
    bench.settings.vendor = vec![folder.clone()];
    bench.settings.offline = true;
    bench.fetch(&request).unwrap_err().hint().unwrap().replace(folder.to_str().unwrap(), "FOLDER")
}

#[test]
fn hints_name_what_can_be_mended_here() {
    let restore =
        "remove or restore FOLDER/numpy-2.1.0+local-py3-none-any.whl, or run `imgforge vendor`".to_owned();
    let url = ["https://example.org/numpy.whl".to_owned()];
    for content in [&[0; 3_000_000][..], b"", b"torn"] {
        assert_eq!(vendored_hint(Some(content), &[]), restore);
        assert_eq!(vendored_hint(Some(content), &url), restore);
    }
    let missing = vendored_hint(None, &url);
    assert!(missing.contains("`--offline`") && missing.contains("`vendor/`"), "{missing}");
    assert!(vendored_hint(None, &[]).contains("`vendor/`"));
}

#[test]
fn vendor_names_stay_in_their_folder() {
    let mut bench = Bench::new();
    fs::create_dir(bench.dir.path().join("vendor")).unwrap();
    fs::write(bench.dir.path().join("outside"), body()).unwrap();
    bench.settings.vendor = vec![bench.dir.path().join("vendor")];
    for file in ["../outside", "..", ".", ""] {
        let request = Request { file: file.to_owned(), ..request(&body(), &[]) };
        let error = bench.fetch(&request).unwrap_err().to_string();
        assert!(error.contains("no source"), "{error}");
    }
}

#[test]
fn offline_reads_files_and_asks_nobody() {
    let mut bench = Bench::new();
    bench.settings.offline = true;
    let server = Server::new(|_, _| ok(&body()));
    let error = bench.fetch(&request(&body(), &[server.url("a.whl")])).unwrap_err();
    assert!(error.to_string().contains("not tried: offline"), "{error}");
    assert!(error.hint().unwrap().contains("imgforge vendor"));
    assert!(bench.fetcher().get(&server.url("x"), 10).unwrap_err().to_string().contains("offline"));
    let path = bench.dir.path().join("a file+.whl");
    fs::write(&path, body()).unwrap();
    let url = Url::from_file_path(&path).unwrap().to_string();
    bench.fetch(&request(&body(), &[server.url("a.whl"), url.clone()])).unwrap();
    assert!(bench.has(&body()) && server.seen().is_empty());
    assert_eq!(bench.fetcher().get(&url, 3_000_000).unwrap(), body());
}

#[test]
fn mirrors_are_asked_by_digest_or_name() {
    let body: &[u8] = b"small";
    let hex = Digest::of(body).hex();
    let check = |template: &str, path: &str| {
        let (mut bench, server) = (Bench::new(), Server::new(|_, _| ok(b"small")));
        bench.settings.mirrors = vec![Mirror::parse(&server.url(template)).unwrap()];
        bench.fetch(&request(body, &["http://127.0.0.1:1/never".to_owned()])).unwrap();
        assert_eq!(server.seen()[0].path, path);
    };
    check("cas/{sha256}", &format!("/cas/{hex}"));
    check("wheels", "/wheels/numpy-2.1.0%2Blocal-py3-none-any.whl");
    check("wheels/", "/wheels/numpy-2.1.0%2Blocal-py3-none-any.whl");
    check("{name}/{file}?x=1", "/numpy/numpy-2.1.0%2Blocal-py3-none-any.whl?x=1");
}

#[test]
fn a_mirror_may_be_a_folder() {
    let mut bench = Bench::new();
    let folder = bench.dir.path().join("cas");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join(Digest::of(b"small").hex()), "small").unwrap();
    bench.settings.mirrors = vec![Mirror::parse(&format!("{}/{{sha256}}", folder.display())).unwrap()];
    bench.settings.offline = true;
    bench.fetch(&request(b"small", &[])).unwrap();
    assert!(bench.has(b"small"));
}

#[test]
fn mirrors_that_can_be_none() {
    for (text, part) in [
        ("ftp://user:secret@example.org", "expected an http"),
        ("wheels", "expected an http"),
        ("https://me:secret@example.org/{hash}", "`{hash}` is none of"),
        ("https://example.org/{file", "is none of"),
    ] {
        let error = Mirror::parse(text).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains("secret"), "{error}");
    }
}

#[test]
fn a_dead_mirror_is_waited_for_once() {
    let (mut bench, dead) = (Bench::new(), Server::new(|_, _| status("502 Bad Gateway")));
    let server = Server::new(|seen, _| ok(seen.path.as_bytes()));
    bench.settings.mirrors = vec![Mirror::parse(&dead.url("")).unwrap()];
    bench.settings.jobs = 1;
    let requests: Vec<_> =
        ["a", "b", "c"].map(|name| request(format!("/{name}").as_bytes(), &[server.url(name)])).to_vec();
    bench.fetcher().fetch_all(&bench.store, &requests, &|request, event| bench.note(request, event)).unwrap();
    assert_eq!((dead.seen().len(), server.seen().len()), (4, 3));
    assert!(bench.events().contains("not tried again"), "{}", bench.events());
}

#[test]
fn credentials_go_to_their_host_only() {
    let other = Server::new(|_, _| ok(&body()));
    let target = other.url("signed?key=1");
    let server = Server::new(move |seen, _| match seen.path.as_str() {
        "/a.whl" => redirect("/b.whl".to_owned()),
        _ => redirect(target.clone()),
    });
    let check = |url: String, credentials: Credentials, expected: Option<&str>| {
        let (from, to) = (server.seen().len(), other.seen().len());
        let mut bench = Bench::new();
        bench.settings.credentials = credentials;
        bench.fetch(&request(&body(), &[url])).unwrap();
        let seen = server.seen();
        assert_eq!(seen[from].header("authorization"), expected);
        assert_eq!(seen[from + 1].header("authorization"), expected, "same origin");
        let last = other.seen()[to].clone();
        assert_eq!(last.path, "/signed?key=1");
        for header in ["authorization", "cookie", "referer"] {
            assert_eq!(last.header(header), None);
        }
    };
    let plain = server.url("a.whl");
    let variable = |value: &str| {
        Credentials::new("", [("IMGFORGE_AUTH_127_0_0_1".to_owned(), value.to_owned())]).unwrap()
    };
    check(plain.replace("://", "://me:s%40crt@"), Credentials::default(), Some("Basic bWU6c0BjcnQ="));
    check(plain.clone(), Credentials::default(), None);
    // The other origin is another port of the same host, reached in the clear.
    let netrc = Credentials::new("machine 127.0.0.1 login me password s@crt", []).unwrap();
    check(plain.clone(), netrc, Some("Basic bWU6c0BjcnQ="));
    check(plain.clone(), variable("Bearer abc"), Some("Bearer abc"));
    check(plain.replace("://", "://me:s%40crt@"), variable("Bearer abc"), Some("Basic bWU6c0BjcnQ="));
}

#[test]
fn redirects_end_somewhere() {
    check_failed(|_, _| redirect("/a.whl".to_owned()), 11, "redirected more than 10 times");
    check_failed(|_, _| redirect("file:///etc/passwd".to_owned()), 1, "redirected to file:///etc/passwd");
    check_failed(|_, _| status("302 Found"), 1, "redirected to nowhere");
}

#[test]
fn small_files_are_read_with_the_same_patience() {
    let script = |seen: &Seen, count: usize| match (seen.path.as_str(), count) {
        (_, 0) => status("503 Service Unavailable"),
        (_, 1) => answer("200 OK", &[], 9, b"InRel"),
        ("/none", _) => status("404 Not Found"),
        _ => ok(b"InRelease"),
    };
    let (bench, server) = (Bench::new(), Server::new(script));
    let fetcher = bench.fetcher();
    assert_eq!(fetcher.get(&server.url("dists"), 9).unwrap(), b"InRelease");
    assert_eq!(server.seen().len(), 3);
    let error = fetcher.get(&server.url("dists"), 8).unwrap_err();
    assert!(
        matches!(&error, FetchError::Get { reason: Reason::Http(http::Reason::TooLong { expected: 8 }), .. }),
        "{error}"
    );
    let error = fetcher.get(&server.url("none"), 8).unwrap_err();
    assert!(
        matches!(&error, FetchError::Get { reason: Reason::Http(http::Reason::Status(code)), .. } if *code == 404),
        "{error}"
    );
    let endless = Server::new(|_, _| Answer {
        bytes: [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &[0; 10_000]].concat(),
        is_hanging: true,
    });
    let error = fetcher.get(&endless.url(""), 8).unwrap_err();
    assert!(
        matches!(&error, FetchError::Get { reason: Reason::Http(http::Reason::TooLong { .. }), .. }),
        "{error}"
    );
}

#[test]
fn many_are_fetched_at_a_time() {
    // Nobody is answered until four have asked.
    let barrier = Barrier::new(4);
    let server = Server::new(move |seen, _| {
        barrier.wait();
        ok(seen.path.as_bytes())
    });
    let mut bench = Bench::new();
    bench.settings.jobs = 4;
    let requests: Vec<_> =
        (0..40).map(|n| request(format!("/{n}").as_bytes(), &[server.url(&n.to_string())])).collect();
    bench.fetcher().fetch_all(&bench.store, &requests, &|_, _| {}).unwrap();
    assert!(requests.iter().all(|request| bench.store.contains(&request.digest).unwrap()));
    bench.fetcher().fetch_all(&bench.store, &requests, &|_, _| {}).unwrap();
    assert_eq!(server.seen().len(), 40, "what is in the store is not asked for");
    bench.fetcher().fetch_all(&bench.store, &[], &|_, _| {}).unwrap();
}

#[test]
fn a_failure_stops_the_others() {
    let server = Server::new(|seen, _| match seen.path.as_str() {
        "/1" => status("404 Not Found"),
        _ => Answer { bytes: answer("200 OK", &[], 9_000_000, &[0; 100]).bytes, is_hanging: true },
    });
    let mut bench = Bench::new();
    bench.settings.jobs = 2;
    bench.settings.patience.silence = Duration::from_millis(500);
    let sized =
        |n: u32| Request { size: None, title: n.to_string(), ..request(&[], &[server.url(&n.to_string())]) };
    let mut requests: Vec<_> = (0..10).map(sized).collect();
    for (n, request) in (0_u8..).zip(&mut requests) {
        request.digest = Digest::of(&[n]);
    }
    let start = Instant::now();
    let error = bench.fetcher().fetch_all(&bench.store, &requests, &|_, _| {}).unwrap_err();
    assert!(error.to_string().starts_with("cannot fetch 1\n"), "{error}");
    assert!(server.seen().len() <= 3 && start.elapsed() < Duration::from_secs(9));
}

#[test]
fn others_can_stop_it() {
    let hanging = Answer { bytes: answer("200 OK", &[], 9_000_000, &[7; 100_000]).bytes, is_hanging: true };
    let server = Server::new(move |_, _| Answer { bytes: hanging.bytes.clone(), is_hanging: true });
    let mut bench = Bench::new();
    bench.settings.patience.silence = Duration::from_secs(60);
    let request = Request { size: None, ..request(&body(), &[server.url("a")]) };
    let stop = AtomicBool::new(false);
    let on_event = |_: &Request, event: Event<'_>| {
        if matches!(event, Event::Bytes(_)) {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let all =
        || bench.fetcher().fetch_all_until(&stop, &bench.store, std::slice::from_ref(&request), &on_event);
    let start = Instant::now();
    assert!(matches!(all(), Err(FetchError::Stopped { .. })));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(bench.kept(&request.digest).unwrap() > 0);
    let seen = server.seen().len();
    assert!(matches!(all(), Err(FetchError::Stopped { .. })));
    assert_eq!(server.seen().len(), seen);
}

#[test]
fn the_same_blob_is_fetched_once() {
    let server = Server::new(|_, _| {
        std::thread::sleep(Duration::from_millis(100));
        ok(&body())
    });
    let mut bench = Bench::new();
    bench.settings.jobs = 6;
    let requests = vec![request(&body(), &[server.url("a.whl")]); 6];
    let other = Store::open(bench.store.root()).unwrap();
    let note = |request: &Request, event: Event<'_>| bench.note(request, event);
    std::thread::scope(|scope| {
        for store in [&bench.store, &other] {
            scope.spawn(|| bench.fetcher().fetch_all(store, &requests, &note).unwrap());
        }
    });
    assert_eq!(server.seen().len(), 1);
    assert!(bench.events().contains("waiting"), "{}", bench.events());
}

/// What the TLS and HTTP libraries read from the environment can be tried only by another process: this is it.
#[test]
fn child() {
    let Ok(url) = std::env::var("IMGFORGE_TEST_URL") else { return };
    let patience = Patience { retries: 0, ..Patience::default() };
    let fetcher = Fetcher::new(FetchSettings { patience, ..FetchSettings::default() }).unwrap();
    match fetcher.get(&url, 1000) {
        Ok(bytes) => println!("got {}", String::from_utf8_lossy(&bytes)),
        Err(error) => println!("failed: {error}; {:?}", error.hint()),
    }
}

/// Gets a URL in a process with just this environment, and expects this in its output.
fn check_child(url: &str, environment: &[(&str, &str)], expected: &str) {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "fetch::tests::child", "--nocapture"]).env_clear().env("IMGFORGE_TEST_URL", url);
    let output = command.envs(environment.iter().copied()).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains(expected), "{expected} in {stdout}");
}

#[test]
fn proxies_of_the_environment_are_used() {
    let proxy = Server::new(|seen, _| ok(format!("{} by proxy", seen.path).as_bytes()));
    let direct = Server::new(|_, _| ok(b"directly"));
    let address = proxy.url("");
    let far = "http://example.org/a";
    check_child(far, &[("http_proxy", &address)], "got http://example.org/a by proxy");
    check_child(far, &[("ALL_PROXY", &address)], "got http://example.org/a by proxy");
    let near = [("http_proxy", address.as_str()), ("NO_PROXY", "127.0.0.1")];
    check_child(&direct.url(""), &near, "got directly");
    check_child(&direct.url(""), &[], "got directly");
}

#[test]
fn certificates_of_the_environment_are_trusted() {
    let dir = TempDir::new().unwrap();
    let openssl = |arguments: &str| {
        let mut command = std::process::Command::new("openssl");
        command.args(arguments.split(' ')).current_dir(dir.path()).stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null()).stdin(std::process::Stdio::null());
        command.spawn().expect("this needs openssl: apt-get install openssl")
    };
    let certificate = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
                       -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE";
    assert!(openssl(certificate).wait().unwrap().success());
    fs::write(dir.path().join("file.txt"), "over TLS").unwrap();
    // Somebody else might take the port before openssl does, which only this test would notice.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server =
        openssl(&format!("s_server -accept 127.0.0.1:{port} -cert cert.pem -key key.pem -WWW -quiet"));
    let up = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    assert!(up);
    let file = dir.path().join("cert.pem");
    let url = format!("https://127.0.0.1:{port}/file.txt");
    let result = std::panic::catch_unwind(|| {
        check_child(&url, &[("SSL_CERT_FILE", file.to_str().unwrap())], "got over TLS");
        check_child(&url, &[], "SSL_CERT_FILE");
    });
    server.kill().unwrap();
    server.wait().unwrap();
    result.unwrap();
}
