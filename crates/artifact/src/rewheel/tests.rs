//! Wheels made for the purpose, made anew: what comes out, and that nothing else does.

use std::sync::Arc;

use imgforge_layer::wheel::{Scheme, plan};
use proptest::prelude::*;

use super::*;

#[path = "../../../layer/tests/common/wheel.rs"]
#[allow(dead_code, reason = "not every kind of wheel is needed here")]
mod archive;
use archive::Wheel as Made;

const NAME: &str = "demo-1.0-py3-none-any.whl";

struct Out {
    bytes: Vec<u8>,
    made: Rewheeled,
}

fn again(name: &str, bytes: &[u8], expected: Option<&Distribution>) -> Result<Out, String> {
    let source = Source::from_bytes(bytes.to_vec(), name);
    let scratch = std::env::temp_dir();
    let options = Options { expected, build_paths: &["/build/src", "/build/env"], scratch: &scratch };
    let mut bytes = Vec::new();
    let made = rewheel(&source, name, options, &mut bytes).map_err(|error| {
        assert_eq!(error.wheel, name);
        let mut text = error.problem.to_string();
        let mut cause = std::error::Error::source(&error.problem);
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        text
    })?;
    assert_eq!((made.sha256, made.size), (Digest::of(&bytes), bytes.len() as u64));
    Ok(Out { bytes, made })
}

/// Makes a wheel anew, and asserts what holds of every one: it installs, twice is as good as once, and it differs from the
/// first in RECORD and WHEEL alone.
fn made_anew(name: &str, bytes: &[u8]) -> Out {
    let out = again(name, bytes, None).unwrap();
    let source = Arc::new(Source::from_bytes(out.bytes.clone(), &out.made.file_name));
    plan(&source, &out.made.file_name, &Scheme::venv("/venv", (3, 11)).unwrap()).unwrap();
    let twice = again(&out.made.file_name, &out.bytes, None).unwrap();
    assert!(twice.bytes == out.bytes, "made anew twice");
    assert_eq!(twice.made.file_name, out.made.file_name);
    for difference in crate::compare(&Source::from_bytes(bytes.to_vec(), name), &source).unwrap() {
        let Some((_, file)) = difference.name.rsplit_once(".dist-info/") else {
            assert!(difference.name.contains("__pycache__/"), "{difference}");
            continue;
        };
        assert!(["RECORD", "WHEEL", "RECORD.jws", "RECORD.p7s"].contains(&file), "{difference}");
    }
    out
}

fn entries(bytes: &[u8]) -> Vec<zip::Entry> {
    zip::read_directory(&Source::from_bytes(bytes.to_vec(), "x"), &Limits::default()).unwrap()
}

fn content(bytes: &[u8], name: &str) -> String {
    text(&Source::from_bytes(bytes.to_vec(), "x"), &entries(bytes), &format!("demo-1.0.dist-info/{name}"))
        .unwrap()
}

/// The entries of the wheel that comes out, in their order: `*` for an executable one, `=` for one that is stored. Those of
/// every wheel are not in the list.
fn check(wheel: Made, expected: &[&str]) {
    let out = made_anew(NAME, &wheel.build());
    assert_eq!(out.made.file_name, NAME);
    let always = ["METADATA", "WHEEL", "RECORD"].map(|name| format!("demo-1.0.dist-info/{name}"));
    let mut found = Vec::new();
    for entry in entries(&out.bytes) {
        assert!(matches!(entry.mode, Some(0o644 | 0o755)), "{entry:?}");
        if !always.contains(&entry.name) {
            let executable = if entry.mode == Some(0o755) && entry.kind == Kind::File { "*" } else { "" };
            let stored = if entry.method == zip::Method::Stored && entry.size > 0 { "=" } else { "" };
            found.push(format!("{}{executable}{stored}", entry.name));
        }
    }
    assert_eq!(found, expected);
    assert!(entries(&out.bytes).last().unwrap().name.ends_with("/RECORD"));
}

fn refuse(name: &str, wheel: Made, message: &str) {
    let found = again(name, &wheel.build(), None).map(|out| out.made).unwrap_err();
    assert!(found.contains(message), "{found}");
}

/// Bytes that don't deflate.
pub(super) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Text that deflates well.
fn long() -> String {
    "import os\n".repeat(100)
}

#[test]
fn order_and_modes() {
    check(
        Made::new()
            .executable("demo/run", long())
            .file("demo/b.py", long())
            .file("demo/B.py", long())
            .file("a.py", ""),
        &["a.py", "demo/B.py", "demo/b.py", "demo/run*"],
    );
    check(
        Made::new().file("demo-1.0.dist-info/entry_points.txt", long()).file("zzz.py", long()),
        &["zzz.py", "demo-1.0.dist-info/entry_points.txt"],
    );
    check(Made::new().file("ünïcode näme.py", long()).streamed(), &["ünïcode näme.py"]);
}

#[test]
fn what_deflates_is_deflated() {
    check(Made::new().stored("a", long()).file("b", "ab").zip64("c", long()), &["a", "b=", "c"]);
}

#[test]
fn folders_stay_where_nothing_is_in_them() {
    check(
        Made::new().folder("demo/").file("demo/a/b", "").folder("demo/a/").folder("e/"),
        &["demo/a/b", "e/"],
    );
    check(Made::new().folder("demo-1.0.dist-info/").folder("a/b/c/").folder("a/b/"), &["a/b/c/"]);
}

#[test]
fn what_has_the_builds_time_is_left_out() {
    check(
        Made::new()
            .file("demo/__pycache__/a.cpython-311.pyc", "x")
            .folder("demo/__pycache__/")
            .file("demo/a.py", ""),
        &["demo/a.py"],
    );
    check(
        Made::new().file("demo-1.0.dist-info/RECORD.jws", "x").file("demo-1.0.dist-info/RECORD.p7s", "x"),
        &[],
    );
}

#[test]
fn record_is_true() {
    let wheel =
        Made::new().file("a.py", "x").line("a.py", "a.py,sha256=wrong,7").unlisted("b").file("b", "y");
    let out = made_anew(NAME, &wheel.more_lines("gone,,\n").build());
    let record = content(&out.bytes, "RECORD");
    let names: Vec<_> = record.lines().map(|line| line.split(',').next().unwrap()).collect();
    let expected =
        ["a.py", "b", "demo-1.0.dist-info/METADATA", "demo-1.0.dist-info/WHEEL", "demo-1.0.dist-info/RECORD"];
    assert_eq!(names, expected);
    assert!(record.starts_with(&archive::line("a.py", "x")), "{record}");
    assert!(record.ends_with("/RECORD,,\n"), "{record}");
}

#[test]
fn tags_are_those_of_the_file_name() {
    let check = |name: &str, wheel: &str, expected_name: &str, expected: &str| {
        let made = Made::new().file("demo-1.0.dist-info/WHEEL", wheel).build();
        let out = made_anew(name, &made);
        assert_eq!(
            (out.made.file_name.as_str(), content(&out.bytes, "WHEEL").as_str()),
            (expected_name, expected)
        );
    };
    let wheel = "Wheel-Version: 1.0\nTag: x\nGenerator: g\nTag: y\n\nafter\n";
    check(NAME, wheel, NAME, "Wheel-Version: 1.0\nTag: py3-none-any\nGenerator: g\n");
    check(NAME, "Wheel-Version: 1.0\r\n", NAME, "Wheel-Version: 1.0\nTag: py3-none-any\n");
    check(
        "demo-1.0-2-cp310.cp311-abi3-linux_x86_64.whl",
        "Wheel-Version: 1.0\n",
        "demo-1.0-2-cp310.cp311-abi3-manylinux_2_5_x86_64.whl",
        "Wheel-Version: 1.0\nTag: cp310-abi3-manylinux_2_5_x86_64\nTag: cp311-abi3-manylinux_2_5_x86_64\n",
    );
}

#[test]
fn what_is_refused() {
    refuse("demo.whl", Made::new(), "the file name is not NAME-VERSION");
    refuse("demo-1.1-py3-none-any.whl", Made::new(), "it is of demo 1.0, expected demo 1.1");
    refuse("other-1.0-py3-none-any.whl", Made::new(), "it is of demo 1.0, expected other 1.0");
    refuse(NAME, Made::new().symlink("a", "/etc/passwd"), "a is a symbolic link");
    refuse(NAME, Made::new().without("demo-1.0.dist-info/WHEEL"), "demo-1.0.dist-info/WHEEL is missing");
    refuse(
        NAME,
        Made::new().without("demo-1.0.dist-info/METADATA"),
        "demo-1.0.dist-info/METADATA is missing",
    );
    refuse(NAME, Made::new().file("x-1.dist-info/METADATA", ""), "2 folders end in `.dist-info`");
    refuse(NAME, Made::new().file("demo-1.0.dist-info/WHEEL", b"\xff"), "WHEEL is not UTF-8");
    refuse(NAME, Made::new().file("demo-1.0.dist-info/WHEEL", vec![b'x'; 17 << 20]), "has 17825792 bytes");
    assert!(again(NAME, b"PK", None).is_err_and(|text| text.contains("not a zip archive")));
    let mut damaged = Made::new().stored("a", "stored content").build();
    let at = memchr::memmem::find(&damaged, b"stored content").unwrap();
    damaged[at] ^= 1;
    assert!(again(NAME, &damaged, None).is_err_and(|text| text.contains("has the CRC-32")));
}

#[test]
fn what_was_to_be_built() {
    let check = |name: &str, version: &str, expected: Option<&str>| {
        let distribution = Distribution { name: name.to_owned(), version: version.to_owned() };
        let found = again(NAME, &Made::new().build(), Some(&distribution)).map(|_| ());
        assert_eq!(found.err().as_deref(), expected);
    };
    check("Demo", "1", None);
    check("demo", "1.1", Some("it is of demo 1.0, expected demo 1.1"));
    check("other", "1.0", Some("it is of demo 1.0, expected other 1.0"));
}

#[test]
fn folders_of_the_build_are_found() {
    let split = [vec![b'x'; PIECE - 4], b"/build/env/y".to_vec()].concat();
    let wheel = Made::new().file("a.py", "x = '/build/src/a'").file("b.py", "/build/srd").stored("c", split);
    let report = made_anew(NAME, &wheel.build()).made.report;
    let expected = [("/build/env", "c"), ("/build/src", "a.py")];
    let expected = expected.map(|(path, file)| (path.to_owned(), BTreeSet::from([file.to_owned()])));
    assert_eq!(report, Report { build_paths: expected.into_iter().collect(), ..Report::new("any") });
}

#[test]
fn more_than_memory_keeps() {
    // More than a batch of pieces, more than is kept of a stream or of an ELF file, and not a multiple of anything.
    let library = [&elf::MAGIC[..], &noise(17_000_003)].concat();
    check(Made::new().stored("a", library).stored("b", vec![0; 20_000_000]), &["a=", "b"]);
}

/// The bytes of these entries are the same in every release with this format: whoever changes them raises `BUILDER_FORMAT`.
#[test]
fn the_bytes_stand() {
    let text: String = (0..200_000).map(|number| format!("line {}\n", number * 7 % 1_000)).collect();
    let wheel = Made::new().executable("demo/run", &text).file("demo/a.py", "x").folder("e/").file("ä", "");
    let out = made_anew(NAME, &wheel.build());
    assert_eq!(
        (out.made.size, out.made.sha256.to_string().as_str()),
        (78_236, "sha256:a360945ca3a2f6394398d3e66019bd07c15c2111b5ce6e63d1fc3a90aaf37e92")
    );
}

/// Files that differ in what does not matter: their order, their times, how they are compressed, how the archive is written.
fn shuffled(files: &[(String, Vec<u8>, bool)], order: &[usize], stored: &[bool], streamed: bool) -> Vec<u8> {
    let mut wheel = Made::new();
    for &number in order {
        let (name, content, executable) = &files[number];
        wheel = match (executable, stored[number]) {
            (true, _) => wheel.executable(name, content),
            // Stored data whose length follows it would be refused.
            (false, true) if !streamed => wheel.stored(name, content),
            (false, _) => wheel.file(name, content),
        };
    }
    if streamed { wheel.streamed().build() } else { wheel.build() }
}

fn some_files() -> impl Strategy<Value = Vec<(String, Vec<u8>, bool)>> {
    let file = ("[a-c]{1,2}(/[a-cé]{1,3}\\.py){1}", prop::collection::vec(0..4_u8, 0..3_000), any::<bool>());
    prop::collection::vec(file, 0..8).prop_map(|mut files| {
        files.sort();
        files.dedup_by(|a, b| a.0 == b.0);
        files
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn files_alone_decide(
        (files, order) in some_files().prop_flat_map(|files| {
            let order = (0..files.len()).collect::<Vec<_>>();
            (Just(files), Just(order).prop_shuffle())
        }),
        stored in prop::collection::vec(any::<bool>(), 8),
        streamed: bool,
    ) {
        let straight: Vec<usize> = (0..files.len()).collect();
        let one = made_anew(NAME, &shuffled(&files, &straight, &[false; 8], false));
        let two = made_anew(NAME, &shuffled(&files, &order, &stored, streamed));
        prop_assert!(one.bytes == two.bytes);
        prop_assert_eq!(one.made.sha256, two.made.sha256);
    }

    #[test]
    fn bytes_that_anybody_may_send(at in 0..10_000_usize, value: u8) {
        let mut bytes = Made::new().file("a.py", long()).stored("b", "\x7fELF").build();
        let at = at % bytes.len();
        bytes[at] = value;
        let _ = again(NAME, &bytes, None);
    }
}

/// A writer that is full.
#[test]
fn what_can_not_be_written() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let source = Source::from_bytes(Made::new().build(), NAME);
    let scratch = std::env::temp_dir();
    let options = Options { expected: None, build_paths: &[], scratch: &scratch };
    let error = rewheel(&source, NAME, options, &mut Full).unwrap_err();
    assert!(matches!(error.problem, Problem::Write(_)), "{error:?}");
    // The largest entries don't fit into memory.
    let source = Source::from_bytes(Made::new().stored("a", noise(17_000_000)).build(), NAME);
    let nowhere = Options { scratch: Path::new("/nonexistent"), ..options };
    let error = rewheel(&source, NAME, nowhere, &mut io::sink()).unwrap_err();
    assert!(matches!(error.problem, Problem::Write(_)), "{error:?}");
}
