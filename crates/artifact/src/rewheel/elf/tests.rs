//! ELF files that a compiler makes, judged by `readelf`; and files that no compiler makes.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

fn run(command: &mut Command) -> String {
    let output = command.env("LC_ALL", "C").output();
    let output =
        output.unwrap_or_else(|error| panic!("{command:?}: {error}; apt-get install build-essential"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn compile(folder: &Path, name: &str, text: &str, arguments: &[&str]) -> PathBuf {
    let (source, made) = (folder.join("x.c"), folder.join(name));
    std::fs::write(&source, text).unwrap();
    run(Command::new("cc").arg(&source).arg("-o").arg(&made).args(arguments));
    made
}

fn read_file(path: &Path) -> Option<Needs> {
    read(std::fs::File::open(path).unwrap()).unwrap()
}

/// What `readelf` says of a file.
fn judge(path: &Path) {
    let needs = read_file(path).unwrap();
    let dynamic = run(Command::new("readelf").arg("-dW").arg(path));
    let named = |tag: &str| -> Vec<String> {
        let lines = dynamic.lines().filter(|line| line.contains(tag));
        lines.filter_map(|line| Some(line.split_once('[')?.1.trim_end_matches(']').to_owned())).collect()
    };
    assert_eq!(needs.libraries, named("(NEEDED)"));
    assert_eq!(needs.name.iter().cloned().collect::<Vec<_>>(), named("(SONAME)"));
    let versions = run(Command::new("readelf").arg("-VW").arg(path));
    let versions = versions.split("Version needs section").nth(1).unwrap_or_default().to_owned();
    let names: Vec<_> =
        versions.lines().filter_map(|line| line.split("Name: ").nth(1)?.split(' ').next()).collect();
    assert_eq!(needs.versions.iter().map(|(_, version)| version.as_str()).collect::<Vec<_>>(), names);
}

#[test]
fn what_a_linker_writes() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        "#include <math.h>\n#include <stdio.h>\ndouble f(double x) { printf(\"%f\", x); return exp(x); }\n";
    let arguments = [
        "-shared",
        "-fPIC",
        "-lm",
        "-Wl,-soname,libx.so.1,-rpath,/build/lib:$ORIGIN/../y",
        "-Wl,--no-as-needed",
        "-lpthread",
    ];
    let library = compile(folder.path(), "libx.so", text, &arguments);
    judge(&library);
    let needs = read_file(&library).unwrap();
    assert_eq!(needs.name.as_deref(), Some("libx.so.1"));
    assert_eq!(needs.run_paths, ["/build/lib", "$ORIGIN/../y"]);
    assert!(needs.libraries.contains(&"libm.so.6".to_owned()), "{needs:?}");
    assert!(
        needs.versions.iter().any(|(library, version)| library == "libm.so.6" && version == "GLIBC_2.29"),
        "{needs:?}"
    );
    assert_eq!(needs.machine, Some(std::env::consts::ARCH));

    // Sections are for debuggers: without them the file is the same to the loader, and to this reader.
    let mut bytes = std::fs::read(&library).unwrap();
    bytes[0x28..0x30].fill(0);
    bytes[0x3c..0x40].fill(0);
    assert_eq!(read(Cursor::new(bytes)), Ok(Some(needs)));
}

#[test]
fn this_program_and_the_compiler() {
    judge(&std::env::current_exe().unwrap());
    judge(Path::new("/bin/sh"));
}

#[test]
fn what_asks_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let object = compile(folder.path(), "x.o", "int f(void) { return 1; }", &["-c"]);
    assert_eq!(read_file(&object), None);
    let alone = compile(folder.path(), "x", "void _start(void) {}", &["-nostdlib", "-static"]);
    let needs = Needs { machine: Some(std::env::consts::ARCH), ..Needs::default() };
    assert_eq!(read_file(&alone), Some(needs));
}

/// A little library, as bytes.
fn library() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let text = "#include <stdio.h>\nvoid f(void) { puts(\"\"); }\n";
    std::fs::read(compile(folder.path(), "x.so", text, &["-shared", "-fPIC", "-Wl,-rpath,/x"])).unwrap()
}

#[test]
fn what_is_cut_off() {
    let bytes = library();
    for len in (0..bytes.len()).step_by(37) {
        // Not all of a file is needed; what is there is read, and the rest is an error.
        if let Ok(Some(needs)) = read(Cursor::new(&bytes[..len])) {
            assert!(needs.libraries.len() <= 1);
        }
    }
    assert!(read(Cursor::new(&bytes[..64])).is_err());
    assert!(read(Cursor::new(b"\x7fELF")).is_err());
    assert!(
        read(Cursor::new(b"\x7fELF\x07plus some more bytes than sixteen"))
            .unwrap_err()
            .contains("neither 32 nor 64")
    );
}

/// Lists that go round in a circle, or that a number of four bytes makes long.
#[test]
fn lists_without_end() {
    let bytes = library();
    let needs = read(Cursor::new(&bytes)).unwrap().unwrap();
    assert_eq!(needs.libraries, ["libc.so.6"]);
    // `vn_version` 1 and `vn_cnt` 1 begin the one entry there is; only it has `vn_aux` 16 and nothing behind it.
    let entry = [1_u16.to_le_bytes(), 1_u16.to_le_bytes()].concat();
    let at = memchr::memmem::find_iter(&bytes, &entry)
        .find(|at| bytes[at + 8..at + 16] == [16, 0, 0, 0, 0, 0, 0, 0])
        .unwrap();
    let with = |at: usize, value: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        read(Cursor::new(bytes))
    };
    // A count that is not there: versions of distance 0 are one and the same, over and over.
    assert!(with(at + 2, &u16::MAX.to_le_bytes()).unwrap_err().contains("more than 4096 versions"));
    // Many libraries, each at the same place but one behind the other, run out of the file.
    assert!(with(at + 12, &u32::MAX.to_le_bytes()).unwrap_err().contains("cut off"));
    assert!(with(at + 4, &u32::MAX.to_le_bytes()).unwrap_err().contains("has no end"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2_000))]
    /// Any byte changed, where it matters: the headers, or anywhere.
    #[test]
    fn bytes_that_anybody_may_send(changes in proptest::collection::vec((0..1_usize << 20, proptest::num::u8::ANY, proptest::bool::ANY), 1..6)) {
        static LIBRARY: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let mut bytes = LIBRARY.get_or_init(library).clone();
        for (at, value, is_header) in changes {
            let at = at % if is_header { 0x400 } else { bytes.len() };
            bytes[at] = value;
        }
        if let Ok(Some(needs)) = read(Cursor::new(bytes)) {
            proptest::prop_assert!(needs.versions.len() <= MAX_VERSIONS);
        }
    }
}
