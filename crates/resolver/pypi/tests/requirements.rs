//! `requirements.txt` with hashes against an index on this machine, made of pages and never of wheels: what is chosen
//! depends on names and hashes alone.

#![allow(clippy::expect_used, clippy::panic)] // All of it is test code, helpers too.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use imgforge_resolver_pypi::{
    Architecture, Artifact, Error, Indexes, Libc, Location, Target, requirements_txt,
};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const C: &str = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

/// What the index has: files, each with the hash that its page tells, if any.
const FILES: &[(&str, Option<&str>)] = &[
    ("native-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", Some(A)),
    ("native-1.0-cp311-cp311-musllinux_1_2_x86_64.whl", Some(B)),
    ("native-1.0-cp311-cp311-manylinux_2_17_aarch64.whl", Some(C)),
    ("native-1.0.tar.gz", Some(C)),
    ("native-2.0-cp311-cp311-manylinux_2_17_x86_64.whl", Some(B)),
    ("pure-1.0-py3-none-any.whl", Some(A)),
    ("silent-1.0-py3-none-any.whl", None),
    ("sourced-1.0.tar.gz", Some(A)),
];

/// A folder of requirements and an index beside it.
struct World {
    folder: tempfile::TempDir,
    index: String,
}

impl World {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let index = format!("http://{}/simple", listener.local_addr().expect("an address"));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = [0; 4096];
                let read = stream.read(&mut request).unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let name = request.split('/').nth(2).unwrap_or_default().to_owned();
                let mut page = String::from("<!DOCTYPE html><html><body>");
                for (file, hash) in FILES.iter().filter(|(file, _)| file.split('-').next() == Some(&name)) {
                    let hash = hash.map(|hash| format!("#sha256={hash}")).unwrap_or_default();
                    page.push_str(&format!("<a href=\"../../files/{file}{hash}\">{file}</a>\n"));
                }
                let status = if page.contains("href") { "200 OK" } else { "404 Not Found" };
                let length = page.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{page}"
                );
            }
        });
        Self { folder: tempfile::tempdir().expect("a folder"), index }
    }

    fn indexes(&self) -> Indexes {
        Indexes { index: Some(self.index.clone()), cache: self.path("cache"), ..Indexes::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, text: &str, target: &Target, indexes: &Indexes) -> Result<Vec<Artifact>, Error> {
        let text =
            text.replace("sha256:A", &format!("sha256:{A}")).replace("sha256:B", &format!("sha256:{B}"));
        let text = text.replace("sha256:C", &format!("sha256:{C}"));
        requirements_txt(&text, &self.path("requirements.txt"), target, indexes)
    }

    /// `file hash location` of each artifact, with the index's address left out.
    #[track_caller]
    fn check(&self, text: &str, target: &Target, expect: &[&str]) {
        let found: Vec<String> = self
            .read(text, target, &self.indexes())
            .expect("a selection")
            .into_iter()
            .map(|it| {
                let place = match &it.location {
                    Location::Url(url) => url.replace(self.index.trim_end_matches("/simple"), ""),
                    Location::Path(path) => path.display().to_string(),
                };
                format!("{} {} {} {place}", it.name, it.version, &it.sha256[..1])
            })
            .collect();
        assert_eq!(found, expect);
    }

    #[track_caller]
    fn refused(&self, text: &str, expect: &str) {
        let error = self.read(text, &amd64(), &self.indexes()).expect_err("an error");
        assert!(!matches!(error, Error::Internal { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains(expect), "{error}");
        assert!(!error.contains('\u{1b}'), "{error:?}");
    }
}

fn amd64() -> Target {
    Target {
        python: "3.11".to_owned(),
        architecture: Architecture::Amd64,
        libc: Libc::Glibc { major: 2, minor: 36 },
    }
}

fn musl() -> Target {
    Target { libc: Libc::Musl { major: 1, minor: 2 }, ..amd64() }
}

fn arm64() -> Target {
    Target { architecture: Architecture::Arm64, ..amd64() }
}

#[test]
fn the_wheel_of_the_target_with_its_own_hash() {
    let world = World::new();
    let text = "native==1.0 --hash=sha256:A --hash=sha256:B --hash=sha256:C\npure==1.0 --hash=sha256:A\n";
    let pure = "pure 1.0 a /files/pure-1.0-py3-none-any.whl";
    world.check(
        text,
        &amd64(),
        &["native 1.0 a /files/native-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", pure],
    );
    world.check(
        text,
        &musl(),
        &["native 1.0 b /files/native-1.0-cp311-cp311-musllinux_1_2_x86_64.whl", pure],
    );
    world.check(
        text,
        &arm64(),
        &["native 1.0 c /files/native-1.0-cp311-cp311-manylinux_2_17_aarch64.whl", pure],
    );
}

#[test]
fn markers_and_comments() {
    let world = World::new();
    let text = "# made by hand\npure==1.0 ; sys_platform == 'win32' --hash=sha256:A\n\
                native==1.0 ; platform_machine == 'aarch64' \\\n    --hash=sha256:C # via app\n";
    world.check(text, &amd64(), &[]);
    world.check(text, &arm64(), &["native 1.0 c /files/native-1.0-cp311-cp311-manylinux_2_17_aarch64.whl"]);
}

#[test]
fn an_index_without_hashes() {
    let world = World::new();
    world.check(
        "silent==1.0 --hash=sha256:B",
        &amd64(),
        &["silent 1.0 b /files/silent-1.0-py3-none-any.whl"],
    );
    world.refused("silent==1.0 --hash=sha256:B --hash=sha256:C", "silent 1.0 has no SHA-256");
}

#[test]
fn urls_and_paths_need_no_index() {
    let world = World::new();
    let folder = world.folder.path().display();
    let text = "dep @ https://me:secret@example.org/dep-1.0-py3-none-any.whl --hash=sha256:A\n\
                https://example.org/bare-1.0-py3-none-any.whl --hash=sha256:B\n\
                ./wheels/local-1.0-py3-none-any.whl --hash=sha256:C\n"
        .replace("./", &format!("{folder}/"));
    world.check(
        &text,
        &amd64(),
        &[
            "bare 1.0 b https://example.org/bare-1.0-py3-none-any.whl",
            "dep 1.0 a https://example.org/dep-1.0-py3-none-any.whl",
            &format!("local 1.0 c {folder}/wheels/local-1.0-py3-none-any.whl"),
        ],
    );
    world.refused(
        "https://example.org/dep-1.0-cp39-cp39-win32.whl --hash=sha256:A",
        "dep 1.0 has no wheel for cp311",
    );
    world.refused("dep @ https://example.org/dep-1.0.tar.gz --hash=sha256:A", "dep has only sources");
    world
        .refused("dep @ https://example.org/dep-1.0-py3-none-any.whl --hash=sha256:A --hash=sha256:B", "dep");
    world.refused(
        "dep @ git+https://example.org/dep@0123456789012345678901234567890123456789 --hash=sha256:A",
        "dep has only sources",
    );
}

#[test]
fn files_that_include_others() {
    let world = World::new();
    std::fs::write(world.path("base.txt"), format!("pure==1.0 --hash=sha256:{A}\n")).expect("a file");
    std::fs::write(world.path("limits.txt"), "pure<2\nnative<1\n").expect("a file");
    world.check("-r base.txt\n", &amd64(), &["pure 1.0 a /files/pure-1.0-py3-none-any.whl"]);
    world.check("-r base.txt\n-c limits.txt\n", &amd64(), &["pure 1.0 a /files/pure-1.0-py3-none-any.whl"]);
    world.refused("native==1.0 --hash=sha256:A\n-c limits.txt\n", "native");
    world.refused("-r gone.txt\n", "gone.txt");
}

#[test]
fn find_links_and_more_indexes() {
    let world = World::new();
    let links = world.path("links");
    std::fs::create_dir(&links).expect("a folder");
    std::fs::write(links.join("linked-1.0-py3-none-any.whl"), "").expect("a file");
    let place = links.join("linked-1.0-py3-none-any.whl");
    let expect = format!("linked 1.0 a {}", place.display());
    world.check("--no-index\n--find-links ./links\nlinked==1.0 --hash=sha256:A\n", &amd64(), &[&expect]);
    world.check("--find-links ./links\nlinked==1.0 --hash=sha256:A\n", &amd64(), &[&expect]);

    // The file's own indexes, without any option.
    let text = format!("--index-url {}\npure==1.0 --hash=sha256:A\n", world.index);
    let own = Indexes { index: None, ..world.indexes() };
    assert_eq!(world.read(&text, &amd64(), &own).expect("a selection").len(), 1);
}

#[test]
fn what_is_refused() {
    let world = World::new();
    world.refused("pure==1.0\n", "pure==1.0");
    world.refused("pure==1.0\n", "uv pip compile --generate-hashes");
    world.refused("pure>=1.0 --hash=sha256:A\n", "pinned");
    world.refused("pure==1.0 --hash=md5:0123456789abcdef0123456789abcdef\n", "md5");
    world.refused("pure==1.0 --hash=sha256:B\n", "pure");
    world.refused(
        "sourced==1.0 --hash=sha256:A\n",
        "sourced 1.0 has only sources (sourced-1.0.tar.gz): build a wheel of it",
    );
    world.refused("absent==1.0 --hash=sha256:A\n", "absent");
    world.refused("native==3.0 --hash=sha256:A\n", "native==3.0");
    world.refused("-e ./app\n", "copy its code with `files`");
    world.refused("pure==1.0 --hash=sha256:A\npure==1.0 --hash\n", "can't be read as requirements.txt");
}

#[test]
fn offline_uses_what_was_seen() {
    let world = World::new();
    let text = "pure==1.0 --hash=sha256:A\n";
    let offline = Indexes { offline: true, ..world.indexes() };
    let error = world.read(text, &amd64(), &offline).expect_err("nothing is cached").to_string();
    assert!(error.contains("network"), "{error}");
    world.check(text, &amd64(), &["pure 1.0 a /files/pure-1.0-py3-none-any.whl"]);
    assert_eq!(world.read(text, &amd64(), &offline).expect("a selection").len(), 1);
}

#[test]
fn relative_paths_are_those_of_the_file() {
    let world = World::new();
    let file = Path::new("locks/requirements.txt");
    let text = format!("./dep-1.0-py3-none-any.whl --hash=sha256:{A}\n");
    let found = requirements_txt(&text, file, &amd64(), &world.indexes()).expect("a selection");
    let expect = std::path::absolute("locks/dep-1.0-py3-none-any.whl").expect("a path");
    assert_eq!(found.first().map(|it| &it.location), Some(&Location::Path(expect)));
}
