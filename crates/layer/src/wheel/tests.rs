//! The rules of installing a wheel, one by one, on wheels made for the purpose.
//!
//! What is installed is read back from the layer, not from the tree: so each test also covers the writer's check of
//! every hash. Whether the rules are uv's is for `tests/uv/compare.sh` to say, with real wheels.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha384, Sha512};

use super::record::relative;
use super::*;
use crate::{Codec, WriteError, write_layer};

#[path = "../../tests/common/wheel.rs"]
pub(super) mod archive;
use archive::{Wheel, line};

const FILE_NAME: &str = "demo-1.0-py3-none-any.whl";
const SITE: &str = "lib/python3.11/site-packages";
const SHEBANG: &str = "#!/opt/venv/bin/python\n";

/// What is below the prefix: executable bit and content by path; of a folder the content is `None`.
type Installed = BTreeMap<String, (bool, Option<Vec<u8>>)>;

fn install(wheel: Wheel) -> Result<Installed, String> {
    install_at("/opt/venv", FILE_NAME, &wheel.build())
}

fn install_at(prefix: &str, file_name: &str, wheel: &[u8]) -> Result<Installed, String> {
    let scheme = Scheme::venv(prefix, (3, 11)).unwrap();
    let tree = plan(&source(wheel), file_name, &scheme).map_err(|error| {
        assert_eq!(error.wheel, file_name);
        chain(error.problem)
    })?;
    let layer = layer(&tree, Codec::None)?;
    let mut copied = Vec::new();
    flate2::read::MultiGzDecoder::new(self::layer(&tree, Codec::GzipCopy)?.as_slice())
        .read_to_end(&mut copied)
        .unwrap();
    assert!(layer == copied, "copied DEFLATE streams give another tar stream");

    let mut installed = Installed::new();
    for entry in tar::Archive::new(layer.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = format!("/{}", entry.path().unwrap().display());
        let Some(path) = path.strip_prefix(prefix).and_then(|path| path.strip_prefix('/')) else { continue };
        let executable = entry.header().mode().unwrap() & 0o111 != 0;
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let content = entry.header().entry_type().is_file().then_some(content);
        installed.insert(path.trim_end_matches('/').to_owned(), (executable, content));
    }
    check_record(&installed);
    Ok(installed)
}

/// RECORD lists every file once, in order, and says the truth.
fn check_record(installed: &Installed) {
    let record = format!("{SITE}/demo-1.0.dist-info/RECORD");
    let (_, text) = &installed[&record];
    let mut rows = BTreeMap::new();
    let mut last = String::new();
    for row in csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_deref().unwrap()).records() {
        let row = row.unwrap();
        assert!(last.as_str() < &row[0], "{last} before {}", &row[0]);
        last = row[0].to_owned();
        rows.insert(last.clone(), (row[1].to_owned(), row[2].to_owned()));
    }
    for (path, (_, content)) in installed {
        let Some(content) = content else { continue };
        if path.ends_with("/RECORD.jws") {
            continue;
        }
        let (hash, size) = rows.remove(&relative(path, SITE)).unwrap_or_else(|| panic!("no row for {path}"));
        if *path == record {
            assert_eq!((hash.as_str(), size.as_str()), ("", ""));
        } else {
            assert_eq!(size, content.len().to_string(), "{path}");
            let sha256 = format!("sha256={}", BASE64URL_NOPAD.encode(Digest::of(content).as_bytes()));
            assert!(hash == sha256 || path.ends_with("/sha"), "{path}");
        }
    }
    assert!(rows.is_empty(), "{rows:?}");
}

fn source(bytes: &[u8]) -> Arc<Source> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(Source::from_file(file, FILE_NAME).unwrap())
}

fn layer(tree: &Tree, codec: Codec) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    write_layer(tree, codec, 0, &mut bytes).map_err(chain)?;
    Ok(bytes)
}

fn chain(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// The wheel's files end up here; an executable one is written with a `*`. METADATA, WHEEL, RECORD, INSTALLER and
/// REQUESTED are there every time and not in the list. `~` is site-packages.
fn check(wheel: Wheel, expected: &[&str]) {
    let always = ["METADATA", "WHEEL", "RECORD", "INSTALLER", "REQUESTED"];
    let mut installed = install(wheel).unwrap();
    for name in always {
        assert!(installed.remove(&format!("{SITE}/demo-1.0.dist-info/{name}")).is_some(), "no {name}");
    }
    let found: Vec<_> = installed
        .into_iter()
        .filter(|(_, (_, content))| content.is_some())
        .map(|(path, (executable, _))| path.replace(SITE, "~") + if executable { "*" } else { "" })
        .collect();
    assert_eq!(found, expected);
}

/// A file of the installed wheel has this content.
fn content(wheel: Wheel, path: &str, expected: impl AsRef<[u8]>) {
    let installed = install(wheel).unwrap();
    let (_, content) = &installed[&path.replace('~', SITE)];
    let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(show(content.as_deref().unwrap()), show(expected.as_ref()));
}

/// A script of `.data/scripts` comes out like this.
fn script(before: &str, after: &str) {
    content(Wheel::new().file("demo-1.0.data/scripts/tool", before), "bin/tool", after);
}

/// The wheel is refused, with a message that contains this.
fn refuse(wheel: Wheel, message: &str) {
    refuse_named(FILE_NAME, wheel, message);
}

fn refuse_named(file_name: &str, wheel: Wheel, message: &str) {
    let found = install_at("/opt/venv", file_name, &wheel.build()).unwrap_err();
    assert!(found.contains(message), "{found}");
}

fn metadata(name: &str, version: &str) -> Wheel {
    Wheel::new().file(
        "demo-1.0.dist-info/METADATA",
        format!("Metadata-Version: 2.1\r\nName: {name}\r\nVersion: {version}\r\n"),
    )
}

fn wheel_version(text: &str) -> Wheel {
    Wheel::new().file("demo-1.0.dist-info/WHEEL", text)
}

#[test]
fn files_of_the_root_go_to_site_packages() {
    check(
        Wheel::new().file("demo/__init__.py", "").file("demo.pth", "x").executable("demo/tool", "x"),
        &["~/demo.pth", "~/demo/__init__.py", "~/demo/tool*"],
    );
    check(Wheel::new().file("demo/ünïcode näme.txt", "x"), &["~/demo/ünïcode näme.txt"]);
    check(Wheel::new().file("demo-1.0.database/x", ""), &["~/demo-1.0.database/x"]);
}

#[test]
fn data_goes_by_scheme() {
    check(Wheel::new().file("demo-1.0.data/purelib/demo/a.py", "x"), &["~/demo/a.py"]);
    check(Wheel::new().file("demo-1.0.data/platlib/demo/a.so", "x"), &["~/demo/a.so"]);
    check(Wheel::new().file("demo-1.0.data/headers/a/b.h", "x"), &["include/site/python3.11/demo/a/b.h"]);
    check(Wheel::new().file("demo-1.0.data/scripts/tool", "x"), &["bin/tool*"]);
    check(Wheel::new().file("demo-1.0.data/data/share/x", "x"), &["share/x"]);
    check(Wheel::new().file("demo-1.0.data/data/bin/plain", "x"), &["bin/plain"]);
    check(Wheel::new().executable("demo-1.0.data/data/etc/run", "x"), &["etc/run*"]);
    refuse(Wheel::new().file("demo-1.0.data/doc/x", ""), "`doc` is none of purelib");
    refuse(Wheel::new().file("demo-1.0.data/x", ""), "`x` is none of purelib");
    refuse(Wheel::new().file("demo-1.0.data/scripts/a/b", ""), "scripts lie directly");
    refuse(Wheel::new().folder("demo-1.0.data/scripts/a/"), "scripts lie directly");
}

/// A folder `lib64` in a layer would replace the environment's link of that name.
#[test]
fn lib64_is_lib() {
    check(Wheel::new().file("demo-1.0.data/data/lib64/pkgconfig/x.pc", ""), &["lib/pkgconfig/x.pc"]);
    let site = "demo-1.0.data/data/lib64/python3.11/site-packages/x.py";
    check(Wheel::new().folder("demo-1.0.data/data/lib64/").file(site, ""), &["~/x.py"]);
    check(Wheel::new().file("demo-1.0.data/data/lib64ish", ""), &["lib64ish"]);
}

#[test]
fn folders_are_kept_and_are_not_in_record() {
    let installed =
        install(Wheel::new().folder("demo/empty/").folder("demo-1.0.data/").folder("demo-1.0.data/data/"));
    assert_eq!(installed.unwrap().get(&format!("{SITE}/demo/empty")), Some(&(true, None)));
}

#[test]
fn kinds_of_entries() {
    content(Wheel::new().stored("a", "stored"), "~/a", "stored");
    content(Wheel::new().stored("a", ""), "~/a", "");
    content(Wheel::new().file("a", ""), "~/a", "");
    content(Wheel::new().zip64("a", "with a Zip64 field"), "~/a", "with a Zip64 field");
    content(Wheel::new().file("a", "descriptor").streamed(), "~/a", "descriptor");
    let large: Vec<u8> = (0..9_000_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
    content(Wheel::new().file("a", &large).stored("b", &large), "~/a", &large);
    refuse(Wheel::new().symlink("demo/link", "/etc/passwd"), "demo/link is a symbolic link");
}

#[test]
fn first_lines_of_scripts() {
    script("#!python\nx\n", &format!("{SHEBANG}x\n"));
    script("#!pythonw\nx", &format!("{SHEBANG}x"));
    script("#!python3 -u\nx", &format!("{SHEBANG}x"));
    // uv ends the first line at the carriage return, and leaves the newline.
    script("#!python\r\nx\r\n", &format!("{SHEBANG}\nx\r\n"));
    script("#!python", SHEBANG);
    script("#!python\n", SHEBANG);
    for other in ["", "#!pytho", "#!/usr/bin/python\nx", "#! python\nx", " #!python\nx", "\u{7f}ELF"] {
        script(other, other);
    }
}

#[test]
fn scripts_are_executable_whatever_the_archive_says() {
    check(
        Wheel::new()
            .file("demo-1.0.data/scripts/a", "#!python\n")
            .executable("demo-1.0.data/scripts/b", "#!python\n")
            .stored("demo-1.0.data/scripts/c", "binary")
            .executable("demo-1.0.data/scripts/d", "binary"),
        &["bin/a*", "bin/b*", "bin/c*", "bin/d*"],
    );
}

#[test]
fn interpreters_that_the_kernel_can_not_run_go_through_sh() {
    let wheel = Wheel::new().file("demo-1.0.data/scripts/a", "#!python\nx").build();
    let installed = install_at("/opt/my env", FILE_NAME, &wheel).unwrap();
    let expected = b"#!/bin/sh\n'''exec' '/opt/my env/bin/python' \"$0\" \"$@\"\n' '''\nx".to_vec();
    assert_eq!(installed["bin/a"], (true, Some(expected)));
}

/// What uv writes.
fn launcher(module: &str, import: &str, function: &str) -> String {
    format!(
        "\
#!/opt/venv/bin/python
# -*- coding: utf-8 -*-
import sys
from {module} import {import}
if __name__ == \"__main__\":
    if sys.argv[0].endswith(\"-script.pyw\"):
        sys.argv[0] = sys.argv[0][:-11]
    elif sys.argv[0].endswith(\".exe\"):
        sys.argv[0] = sys.argv[0][:-4]
    sys.exit({function}())
"
    )
}

#[test]
fn launchers() {
    let expected = &launcher("demo.cli", "App", "App.run");
    for section in ["console_scripts", "gui_scripts"] {
        let text = format!("[{section}]\nTool = demo.cli : App.run [extra]\n");
        content(Wheel::new().entry_points(&text), "bin/Tool", expected);
    }
    // Both sections have the name: uv writes the second one's last.
    let both = "[gui_scripts]\nTool = demo.cli:App.run\n[console_scripts]\nTool = other:main\n";
    content(Wheel::new().entry_points(both), "bin/Tool", expected);
    check(
        Wheel::new().entry_points("[console_scripts]\na=a:b\nA=a:b\n[other]\nx = [}\n"),
        &["bin/A*", "bin/a*", "~/demo-1.0.dist-info/entry_points.txt"],
    );
}

#[test]
fn launchers_of_pip_are_named_by_this_version() {
    check(
        Wheel::new().entry_points("[console_scripts]\npip=p:m\npip3=p:m\npip3.9=p:m\n"),
        &["bin/pip*", "bin/pip3*", "bin/pip3.11*", "~/demo-1.0.dist-info/entry_points.txt"],
    );
}

#[test]
fn launchers_replace_wrappers() {
    let mut wheel = Wheel::new().entry_points("[console_scripts]\ntool=demo:main\n");
    for old in ["tool", "tool.exe", "tool-script.py", "tool.pya", "tool.sh"] {
        wheel = wheel.file(&format!("demo-1.0.data/scripts/{old}"), old);
    }
    check(wheel, &["bin/tool*", "bin/tool.sh*", "~/demo-1.0.dist-info/entry_points.txt"]);
}

#[test]
fn entry_points_are_names_and_no_code() {
    let points = |line: &str| Wheel::new().entry_points(&format!("[console_scripts]\n{line}\n"));
    refuse(points("x = a:b\\nimport os"), "is not of the form");
    refuse(points("x = a:b()"), "is not of the form");
    // To an INI file this is a comment.
    content(points("x = a:b;import os"), "bin/x", launcher("a", "b", "b"));
    refuse(points("x = a b:c"), "is not of the form");
    refuse(points("x = a"), "is not of the form");
    refuse(points("x"), "is not of the form");
    refuse(points("../x = a:b"), "would replace");
    refuse(points("a/b = a:b"), "would replace");
    refuse(points(".. = a:b"), "`.` or `..`");
    refuse(Wheel::new().entry_points("[console_scripts\n"), "no INI file");
    refuse(Wheel::new().file("demo-1.0.dist-info/entry_points.txt", b"\xff"), "is not UTF-8");
}

#[test]
fn the_interpreter_can_not_be_replaced() {
    for name in
        ["python", "Python3", "python3.11", "python3.13t", "pythonw", "python.exe", "pypy3", "graalpy"]
    {
        for scheme in ["scripts", "data/bin"] {
            refuse(Wheel::new().file(&format!("demo-1.0.data/{scheme}/{name}"), ""), "would replace");
        }
        refuse(Wheel::new().entry_points(&format!("[gui_scripts]\n{name} = a:b\n")), "would replace");
    }
    check(
        Wheel::new().entry_points("[console_scripts]\npython-x=a:b\npython3-config=a:b\npypyr=a:b\n"),
        &["bin/pypyr*", "bin/python-x*", "bin/python3-config*", "~/demo-1.0.dist-info/entry_points.txt"],
    );
}

#[test]
fn what_is_the_installers_own_is_not_taken() {
    let mut wheel = Wheel::new();
    for name in ["INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"] {
        wheel = wheel.file(&format!("demo-1.0.dist-info/{name}"), "of the build host");
    }
    check(wheel, &[]);
    content(Wheel::new(), "~/demo-1.0.dist-info/INSTALLER", "imgforge");
    content(Wheel::new(), "~/demo-1.0.dist-info/REQUESTED", "");
    check(Wheel::new().file("demo/__pycache__/a.pyc", "").file("__pycache__/b.pyc", ""), &[]);
}

#[test]
fn record_is_rewritten() {
    let long = Digest::of(b"x");
    let hash = |digest: Digest| BASE64URL_NOPAD.encode(digest.as_bytes());
    let wheel = Wheel::new()
        .file("b,\"c\"", "x")
        .file("a", "x")
        .file("demo-1.0.data/data/share/s", "x")
        .file("demo-1.0.data/data/lib/python3.11/t", "x")
        .unlisted("demo-1.0.dist-info/METADATA")
        .unlisted("demo-1.0.dist-info/WHEEL");
    let installed = install(wheel).unwrap();
    let (_, Some(record)) = &installed[&format!("{SITE}/demo-1.0.dist-info/RECORD")] else { unreachable!() };
    let x = format!("sha256={},1", hash(long));
    let record = String::from_utf8(record.clone()).unwrap();
    let of_wheel =
        |line: &&str| !line.starts_with("demo-1.0.dist-info/METADATA,") && !line.contains("/WHEEL,");
    assert_eq!(
        record.lines().filter(of_wheel).collect::<Vec<_>>(),
        [
            &format!("../../../share/s,{x}"),
            &format!("../t,{x}"),
            &format!("a,{x}"),
            &format!("\"b,\"\"c\"\"\",{x}"),
            &format!("demo-1.0.dist-info/INSTALLER,sha256={},8", hash(Digest::of(b"imgforge"))),
            "demo-1.0.dist-info/RECORD,,",
            &format!("demo-1.0.dist-info/REQUESTED,sha256={},0", hash(Digest::of(b""))),
        ]
    );
}

#[test]
fn record_is_healed() {
    // Each is checked against the content by `check_record`.
    let file = || Wheel::new().file("a", "content");
    check(file().unlisted("a"), &["~/a"]);
    check(
        file().line("a", &format!("a,{},7", Digest::of(b"content").to_string().replace(':', "="))),
        &["~/a"],
    );
    check(file().line("a", "a,,"), &["~/a"]);
    check(file().line("a", &line("a", "content").replace(",7", ",8")), &["~/a"]);
    check(file().line("a", &line("./a", "content")), &["~/a"]);
    check(file().line("a", &line("/a", "content")), &["~/a"]);
    check(file().line("a", &line("a", "content").replace(",7", "=,")), &["~/a"]);
    check(file().more_lines(&format!("{}\n", line("a", "content"))), &["~/a"]);
    check(
        file().more_lines(
            "../../../bin/stale,,\nstale.py,sha256=AAAA,1\n".replace("AAAA", &"A".repeat(43)).as_str(),
        ),
        &["~/a"],
    );
    check(file().file("demo-1.0.dist-info/RECORD.jws", "{}"), &["~/a", "~/demo-1.0.dist-info/RECORD.jws"]);
}

#[test]
fn record_with_other_hashes() {
    let line = |hash: &str, bytes: &[u8]| format!("sha,{hash}={},1", BASE64URL_NOPAD.encode(bytes));
    let x = || Wheel::new().file("sha", "x");
    for (hash, digest) in
        [("sha384", Sha384::digest(b"x").to_vec()), ("sha512", Sha512::digest(b"x").to_vec())]
    {
        let installed = install(x().line("sha", &line(hash, &digest))).unwrap();
        let (_, record) = &installed[&format!("{SITE}/demo-1.0.dist-info/RECORD")];
        let record = String::from_utf8(record.clone().unwrap()).unwrap();
        assert!(record.lines().any(|kept| kept == line(hash, &digest)), "{record}");
        refuse(x().line("sha", &line(hash, &vec![0; digest.len()])), "sha: the content is sha");
    }
    refuse(x().line("sha", &line("md5", &[0; 16])), "sha256, sha384 and sha512 can be verified");
    refuse(x().line("sha", &line("sha1", &[0; 20])), "sha256, sha384 and sha512 can be verified");
    refuse(x().line("sha", &line("sha256", &[0; 31])), "sha256, sha384 and sha512 can be verified");
    refuse(x().line("sha", "sha"), "RECORD, line 3: expected `PATH,HASH,SIZE`");
    refuse(x().more_lines(&(line("sha256", &[0; 32]) + "\n")), "RECORD has sha twice");
}

/// RECORD's hash is compared when the layer is written; a script whose first line changes is compared when it is read.
#[test]
fn content_is_what_record_says() {
    let wrong = |name: &str| line(name, "other");
    refuse(Wheel::new().file("a", "x").line("a", &wrong("a")), "site-packages/a: the content is sha256:");
    refuse(Wheel::new().stored("a", "x").line("a", &wrong("a")), "site-packages/a: the content is sha256:");
    for (text, message) in
        [("#!python\n", "demo-1.0.data/scripts/a: the content"), ("x", "/bin/a: the content")]
    {
        let name = "demo-1.0.data/scripts/a";
        refuse(Wheel::new().file(name, text).line(name, &wrong(name)), message);
    }
    let large = vec![7; 5 << 20];
    refuse(Wheel::new().file("a", &large).line("a", &wrong("a")), "site-packages/a: the content is sha256:");
}

#[test]
fn a_refused_layer_is_no_layer() {
    let wheel = Wheel::new().file("a", "x").line("a", &line("a", "other")).build();
    let tree = plan(&source(&wheel), FILE_NAME, &Scheme::venv("/opt/venv", (3, 11)).unwrap()).unwrap();
    for codec in [Codec::GzipCopy, Codec::Gzip, Codec::Zstd, Codec::None] {
        let mut out = Vec::new();
        let error = write_layer(&tree, codec, 0, &mut out).unwrap_err();
        let WriteError::Content { path, expected, actual } = error else { panic!("{error}") };
        assert_eq!(path.to_string(), format!("/opt/venv/{SITE}/a"));
        assert_eq!((expected, actual), (Digest::of(b"other"), Digest::of(b"x")));
        assert!(!out.ends_with(&[0; 1024]), "{codec:?} was written to its end");
    }
}

#[test]
fn damaged_content_is_found() {
    let damage = |wheel: Wheel, from: &[u8], to: &[u8]| {
        let mut bytes = wheel.build();
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
        install_at("/opt/venv", FILE_NAME, &bytes).unwrap_err()
    };
    assert!(damage(Wheel::new().stored("a", "content"), b"content", b"tampere").contains("CRC-32 is"));
    let unlisted = Wheel::new().stored("a", "content").unlisted("a");
    assert!(damage(unlisted, b"content", b"tampere").contains("a has CRC-32"));
}

#[test]
fn names_and_versions_agree() {
    for (name, version, file_name) in [
        ("Demo", "1.0.0", FILE_NAME),
        ("demo", "1", "Demo-1.0-1build-py3-none-any.whl"),
        ("De.mo__x", "1.0+cu118", "de_mo_x-1.0+cu118-py3-none-any.whl"),
        ("demo", "1.0", "demo-1.0+cu118-py3-none-any.whl"),
        ("demo", "1.0+ubuntu.1", "demo-1.0+ubuntu_1-py3-none-any.whl"),
        ("demo", "1.0+abc", "demo-1.0_abc-py3-none-any.whl"),
    ] {
        install_at("/opt/venv", file_name, &metadata(name, version).build()).unwrap();
    }
    refuse(metadata("other", "1.0"), "METADATA is of other 1.0");
    refuse(metadata("demo", "1.1"), "METADATA is of demo 1.1");
    refuse(metadata("demo", "1.0+local"), "METADATA is of demo 1.0+local");
    refuse(metadata("demo", "one"), "METADATA is of demo one");
    refuse(
        Wheel::new().file("demo-1.0.dist-info/METADATA", "\nName: demo\nVersion: 1.0\n"),
        "METADATA is of",
    );
    for file_name in ["demo-1.0.zip", "demo.whl", "demo-1.0-py3-none.whl", "demo-1-2-3-py3-none-any.whl", ""]
    {
        refuse_named(file_name, Wheel::new(), "the file name is not NAME-VERSION");
    }
}

#[test]
fn wheel_versions() {
    check(wheel_version("Wheel-Version: 1.9\n"), &[]);
    check(wheel_version("wheel-version: 0.1\r\n"), &[]);
    // Real wheels have had two; the first counts.
    check(wheel_version("Wheel-Version: 1.0\nWheel-Version: 2.0\n"), &[]);
    refuse(wheel_version("Wheel-Version: 2.0\n"), "Wheel-Version `2.0`");
    refuse(wheel_version("Wheel-Version: 1\n"), "Wheel-Version `1`");
    refuse(wheel_version("Generator: x\n"), "Wheel-Version ``");
}

#[test]
fn metadata_files_are_there_and_sane() {
    for name in ["METADATA", "WHEEL"] {
        let name = format!("demo-1.0.dist-info/{name}");
        refuse(Wheel::new().without(&name), &format!("{name} is missing"));
        refuse(Wheel::new().file(&name, b"\xff"), &format!("{name} is not UTF-8"));
    }
    refuse(Wheel::new().unlisted("demo-1.0.dist-info/RECORD"), "demo-1.0.dist-info/RECORD is missing");
    let mut noise = vec![b' '; (16 << 20) + 1];
    noise
        .iter_mut()
        .step_by(50)
        .enumerate()
        .for_each(|(number, byte)| *byte = b'a' + (number * number % 23) as u8);
    refuse(
        Wheel::new().stored("demo-1.0.dist-info/METADATA", noise),
        "more than the 16777216 that such a file",
    );
    refuse(Wheel::new().file("other-1.0.dist-info/METADATA", ""), "2 folders end in `.dist-info`");
    let none = Wheel::new().without("demo-1.0.dist-info/METADATA").without("demo-1.0.dist-info/WHEEL");
    refuse(none.unlisted("demo-1.0.dist-info/RECORD"), "0 folders end in `.dist-info`");
    let no_zip = install_at("/opt/venv", FILE_NAME, b"text").unwrap_err();
    assert!(no_zip.contains("end record"), "{no_zip}");
}

#[test]
fn one_path_has_one_content() {
    let twice =
        |content: &str| Wheel::new().file("demo/a.py", "x").file("demo-1.0.data/platlib/demo/a.py", content);
    check(twice("x"), &["~/demo/a.py"]);
    refuse(twice("y"), "/demo/a.py: two entries with different content");
    refuse(
        Wheel::new().file("demo-1.0.data/data/bin", "").file("demo-1.0.data/scripts/x", ""),
        "/bin is not a folder",
    );
    let launcher =
        Wheel::new().entry_points("[console_scripts]\ntool=a:b\n").file("demo-1.0.data/data/bin/tool", "");
    refuse(launcher, "/bin/tool: two entries with different content");
}
