//! Packages that lie, or are made to harm: each ends in an error that says which entry, and nothing is written anywhere.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/package.rs"]
#[allow(dead_code, reason = "some of it is for packages that are right")]
mod package;

use imgforge_layer::{Codec, Source, TreePath, write_layer};
use imgforge_layer_conda::{Installation, Python, plan};
use package::{PLACEHOLDER, Package, REMOVED, bz2, conda, tar, zst};
use serde_json::{Value, json};
use tar::EntryType;

/// Plans a package, and writes its layer if it can be planned: what is wrong, with all causes.
fn problem(file_name: &str, bytes: Vec<u8>, record: Option<&Value>) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let prefix = TreePath::new("/opt/conda").unwrap();
    let python = Python::new((3, 11));
    let source = Source::from_bytes(bytes, file_name);
    let package = imgforge_layer_conda::Package { file_name, record, url: None, sha256: None, md5: None };
    let installation = Installation { prefix: &prefix, python: Some(&python) };
    let error: Box<dyn std::error::Error> = match plan(&source, &package, &installation, folder.path()) {
        Ok(planned) => write_layer(&planned.tree, Codec::None, 0, &mut std::io::sink()).err()?.into(),
        Err(error) => error.into(),
    };
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    Some(text)
}

#[track_caller]
fn check_archive((file_name, bytes): (String, Vec<u8>), expected: &str) {
    let Some(problem) = problem(&file_name, bytes, None) else { panic!("{file_name} is taken as it is") };
    assert!(problem.contains(expected), "{problem}");
}

/// Both formats have the same content, so both must be refused alike.
#[track_caller]
fn check(package: Package, expected: &str) {
    check_archive(package.conda(), expected);
    check_archive(package.tar_bz2(), expected);
}

fn demo() -> Package {
    Package::new("demo")
}

#[test]
fn what_is_right_is_taken() {
    let package = demo().file("a", "x", 0o644).text("b", PLACEHOLDER, 0o644).link("c", "a");
    for (file_name, bytes) in [package.conda(), package.tar_bz2()] {
        assert_eq!(problem(&file_name, bytes, None), None);
    }
}

#[test]
fn names_that_lead_elsewhere() {
    let listed = |path: &str| demo().file(path, "x", 0o644);
    check(listed("../../etc/passwd"), "component `.` or `..`");
    check(listed("a/../../b"), "component `.` or `..`");
    check(listed("a/./b"), "component `.` or `..`");
    check(listed("/etc/passwd"), "/etc/passwd is an absolute name");
    check(listed("a//b"), "empty component");
    check(listed("a\nb"), "control character");
    check(listed("a\u{7f}b"), "control character");
    check(listed(".wh.lib"), "begins with `.wh.`");
    check(listed("lib/.wh..wh..opq"), "begins with `.wh.`");
    check(listed(&"n".repeat(256)), "longer than 255 bytes");
    let member = |name: &[u8]| demo().member(name, EntryType::Regular, "", 0o644, "x");
    check(member(b"\xff"), "not UTF-8");
    check(member(&[b"a\0b".as_slice(), &[b'x'; 200]].concat()), "a name has a NUL");
    check(member(b"."), "is no name of a file");
}

#[test]
fn names_that_are_listed_otherwise_than_they_are() {
    let listed = |path: &str| demo().file("x", "x", 0o644).claim(json!({"_path": path}));
    check(listed("../x"), "component `.` or `..`");
    check(listed("/x"), "empty component");
    check(listed("./x"), "component `.` or `..`");
    check(listed("x/"), "empty component");
    check(listed(""), "empty component");
    check(listed("y"), "y is listed in info/paths.json and is not in the archive");
}

#[test]
fn lists_that_lie() {
    let file = || demo().file("a", "x", 0o644);
    check(file().claim(json!({"size_in_bytes": 2})), "a has 1 bytes, its record in info/paths.json says 2");
    check(file().claim(json!({"sha256": "00".repeat(32)})), "/opt/conda/a: the content is sha256:2d71");
    check(file().claim(json!({"sha256": "xyz"})), "info/paths.json does not read");
    check(
        file().claim(json!({"path_type": "softlink"})),
        "a is a file, its record in info/paths.json says symbolic link",
    );
    check(
        file().claim(json!({"path_type": "directory"})),
        "a is a file, its record in info/paths.json says folder",
    );
    check(file().claim(json!({"path_type": "device"})), "info/paths.json does not read");
    check(demo().link("a", "b").claim(json!({"path_type": "hardlink"})), "a is a symbolic link");
    check(demo().folder("a").claim(json!({"path_type": "hardlink"})), "a is a folder");
    check(
        file().member("b", EntryType::Regular, "", 0o644, "y"),
        "b is in the archive and is not listed in info/paths.json",
    );
    check(file().member("b", EntryType::Symlink, "a", 0o644, ""), "b is in the archive and is not listed");
    let mut twice = file();
    twice.paths.push(twice.paths[0].clone());
    check(twice, "a is listed twice");
    let replaced = demo().text("a", PLACEHOLDER, 0o644);
    check(
        replaced.clone().claim(json!({"sha256": "00".repeat(32)})),
        "its record in info/paths.json says sha256:0000",
    );
    check(replaced.clone().claim(json!({"size_in_bytes": 7})), "its record in info/paths.json says 7");
    check(replaced.claim(json!({"prefix_placeholder": "a\0b"})), "the placeholder has a control character");
    check(
        demo().folder("a").claim(json!({"prefix_placeholder": "/x", "file_mode": "text"})),
        "it is a folder",
    );
    check(file().hard_link("b", "a", &json!({"sha256": "00".repeat(32)})), "b is sha256:2d71");
}

#[test]
fn what_only_an_installer_writes() {
    for path in
        ["conda-meta/history", "conda-meta/other-1.0-0.json", "__clobbers__/other/lib/x", "CACHEDIR.TAG"]
    {
        check(demo().file(path, "x", 0o644), &format!("{path} is the installer's to write"));
    }
    // What users pin is a package's to bring.
    let (file_name, bytes) = demo().file("conda-meta/pinned", "x", 0o644).conda();
    assert_eq!(problem(&file_name, bytes, None), None);
}

#[test]
fn two_things_on_one_path() {
    let file = || demo().file("a", "x", 0o644);
    check(file().member("a", EntryType::Regular, "", 0o644, "y"), "a is in the archive twice");
    check(file().member("./a", EntryType::Regular, "", 0o644, "x"), "a is in the archive twice");
    check(file().member("a", EntryType::Directory, "", 0o755, ""), "a is in the archive twice");
    check(file().file("a/b", "y", 0o644), "/opt/conda/a is not a folder");
    check(demo().link("a", "../../..").file("a/b", "y", 0o644), "/opt/conda/a is not a folder");
    check(
        demo().noarch_python(&[]).file("site-packages/x", "1", 0o644).file(
            "lib/python3.11/site-packages/x",
            "2",
            0o644,
        ),
        "lib/python3.11/site-packages/x is listed twice",
    );
    check(
        demo().noarch_python(&["a = b:c"]).file("bin", "1", 0o644),
        "/opt/conda/bin: a folder in one and not in the other",
    );
    check(
        demo().noarch_python(&["a = b:c"]).file("bin/a/b", "1", 0o644),
        "/opt/conda/bin/a: a folder in one and not in the other",
    );
}

#[test]
fn entries_that_no_package_has() {
    let special = |kind| demo().member("dev/x", kind, "", 0o644, "");
    check(special(EntryType::Char), "dev/x is a device");
    check(special(EntryType::Block), "dev/x is a device");
    check(special(EntryType::Fifo), "dev/x is a pipe");
    check(special(EntryType::GNUSparse), "dev/x is of an unknown type");
    check(special(EntryType::new(b'V')), "dev/x is of an unknown type");
    check(demo().member("a", EntryType::Symlink, "b", 0o777, "content"), "a link or folder has a size");
    check(demo().link("a", ""), "a is a link to nothing");
    check(demo().link("a", &"x".repeat(5000)), "longer than 4,095 bytes");
}

#[test]
fn hard_links() {
    let link = |target: &str| demo().member("b", EntryType::Link, target, 0o644, "");
    check(link("a"), "b is a hard link to a name that no file before it has");
    check(link("../../etc/passwd"), "component `.` or `..`");
    check(link("/etc/passwd"), "/etc/passwd is an absolute name");
    check(link("."), "b is a hard link to the root folder");
    check(demo().link("a", "x").member("b", EntryType::Link, "a", 0o644, ""), "that no file before it has");
}

#[test]
fn links_that_are_copied() {
    let copied = |target: &str| {
        demo().file("a", "x", 0o644).folder("f").listed_link("l", target, &json!({"no_link": true}))
    };
    check(copied("/etc/passwd"), "the link l leads to `/etc/passwd`");
    check(copied("../../etc/passwd"), "that is outside the package");
    check(copied("f"), "and that is a folder");
    check(copied("l"), "too many links on the way");
    check(copied("m/passwd").link("m", "/etc"), "there is an absolute link on the way");
    let replaced = json!({"prefix_placeholder": "/x", "file_mode": "text"});
    check(demo().listed_link("l", "none", &replaced), "there is no such file in the package");
}

#[test]
fn commands_that_are_more_than_commands() {
    let command = |text: &str| demo().noarch_python(&[text]);
    check(command("../evil = a:b"), "info/link.json does not read");
    check(command("a/b = a:b"), "info/link.json does not read");
    check(command(".hidden = a:b"), "info/link.json does not read");
    check(command("a\nb = a:b"), "control character");
    check(command("a = b:c(); import os; os.system('x')"), "info/link.json does not read");
    check(command("a = b\nimport os:c"), "info/link.json does not read");
    check(command("a = os; x:c"), "info/link.json does not read");
    check(command("a = b"), "info/link.json does not read");
    check(command(&format!("{} = a:b", "n".repeat(256))), "longer than 255 bytes");
    let generic = json!({"noarch": {"type": "generic"}, "package_metadata_version": 1}).to_string();
    check(demo().noarch_python(&[]).with_info("info/link.json", generic), "info/link.json");
}

#[test]
fn packages_that_are_others() {
    let with = |key: &str, value: &str| {
        let mut package = demo();
        package.index[key] = json!(value);
        package
    };
    check(with("name", "other"), "its name is `other` by info/index.json and `demo` by the file name");
    check(with("version", "2.0"), "its version is `2.0`");
    check(with("build", "h1_1"), "its build is `h1_1`");
    check(with("name", "../demo"), "info/index.json");
    let record = |version: &str| {
        json!({
            "name": "demo", "version": version, "build": "h0_0", "build_number": 0, "depends": [], "subdir": "linux-64",
            "fn": "demo-1.0-h0_0.conda", "url": "https://example.org/linux-64/demo-1.0-h0_0.conda", "channel": null,
        })
    };
    let (file_name, bytes) = demo().conda();
    assert_eq!(problem(&file_name, bytes.clone(), Some(&record("1.0"))), None);
    let other = problem(&file_name, bytes.clone(), Some(&record("1.1"))).unwrap();
    assert!(other.contains("its version is `1.0` by info/index.json and `1.1` by the lock"), "{other}");
    let wrong = problem(&file_name, bytes, Some(&json!({"name": "demo"}))).unwrap();
    assert!(wrong.contains("its record in the lock does not read"), "{wrong}");
    for file_name in
        ["demo.conda", "demo-1.0.conda", "demo-1.0-h0_0.zip", "-1.0-h0_0.conda", "a/b-1.0-h0_0.conda", ""]
    {
        assert!(
            problem(file_name, Vec::new(), None).unwrap().contains("the file name is not"),
            "{file_name}"
        );
    }
}

#[test]
fn metadata_that_is_missing_or_none() {
    check(demo().with_info("info/index.json", REMOVED), "info/index.json is missing");
    check(demo().with_info("info/paths.json", REMOVED), "info/paths.json is missing");
    check(demo().with_info("info/index.json", "{"), "info/index.json does not read");
    check(demo().with_info("info/index.json", "\u{1b}[31m"), "info/index.json does not read");
    check(demo().with_info("info/index.json", *b"\xff"), "it is not UTF-8");
    check(demo().with_info("info/paths.json", "[".repeat(100_000)), "info/paths.json does not read");
    let twice = demo().with_info("info/index.json", "{}").with_info("info/index.json", "{}");
    check(twice, "info/index.json is in the archive twice");
    let old = |files: &str| {
        demo().file("a", "x", 0o644).with_info("info/paths.json", REMOVED).with_info("info/files", files)
    };
    check(old("a\nb\n"), "b is listed in info/files and is not in the archive");
    check(old(""), "a is in the archive and is not listed in info/files");
    check(old("a\n\n"), "empty component");
    check(old("a\n").with_info("info/has_prefix", "a b c d"), "info/has_prefix does not read");
}

fn with_members(change: impl Fn(&mut Vec<(String, Vec<u8>)>)) -> (String, Vec<u8>) {
    let package = demo().file("a", "x", 0o644);
    let stem = package.stem();
    let mut members = vec![
        ("metadata.json".to_owned(), br#"{"conda_pkg_format_version": 2}"#.to_vec()),
        (format!("info-{stem}.tar.zst"), zst(&tar(&package.info_members()))),
        (format!("pkg-{stem}.tar.zst"), zst(&tar(&package.members))),
    ];
    change(&mut members);
    let members: Vec<_> = members.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    (format!("{stem}.conda"), conda(&members))
}

#[test]
fn members_of_the_zip() {
    let changed = |change: fn(&mut Vec<(String, Vec<u8>)>)| with_members(change);
    check_archive(changed(|members| drop(members.remove(0))), "metadata.json is missing");
    check_archive(changed(|members| drop(members.remove(1))), "info-demo-1.0-h0_0.tar.zst is missing");
    check_archive(changed(|members| drop(members.remove(2))), "pkg-demo-1.0-h0_0.tar.zst is missing");
    check_archive(changed(|members| members[0].1 = b"{}".to_vec()), "no conda_pkg_format_version");
    check_archive(
        changed(|members| members[0].1 = br#"{"conda_pkg_format_version": 3}"#.to_vec()),
        "has format version 3",
    );
    check_archive(
        changed(|members| members.push(("pkg-other-1.0-0.tar.zst".to_owned(), Vec::new()))),
        "its member pkg-other-1.0-0.tar.zst is none of",
    );
    check_archive(
        changed(|members| members[2].1.truncate(20)),
        "pkg-demo-1.0-h0_0.tar.zst does not decompress",
    );
    check_archive(
        changed(|members| members[2].1.extend(b"more")),
        "pkg-demo-1.0-h0_0.tar.zst does not decompress",
    );
    check_archive(changed(|members| members[2].1.clear()), "pkg-demo-1.0-h0_0.tar.zst does not decompress");
    check_archive(
        changed(|members| members[2].1 = zst(b"")),
        "pkg-demo-1.0-h0_0.tar.zst: at 0 bytes of its tar: the archive is cut off",
    );
    check_archive(
        changed(|members| members[2].1 = members[1].1.clone()),
        "info/index.json is in the tar of content",
    );
    check_archive(
        changed(|members| members[1].1 = members[2].1.clone()),
        "a is not below info/, in a tar for what is",
    );
    let signed = changed(|members| members.push(("signature.sig".to_owned(), vec![1, 2, 3])));
    assert_eq!(problem(&signed.0, signed.1, None), None);
    check_archive(("demo-1.0-h0_0.conda".to_owned(), b"no zip".to_vec()), "not a zip archive");
}

#[test]
fn what_lies_behind_an_end() {
    let (file_name, mut bytes) = demo().tar_bz2();
    bytes.extend(b"more");
    check_archive((file_name.clone(), bytes), "does not decompress");
    let members: Vec<_> = demo().info_members();
    let more = [tar(&members), tar(&members)].concat();
    check_archive((file_name.clone(), bz2(&more)), "there is more behind the archive's end");
    // One tar in two streams is one tar.
    let (front, back) = more.split_at(700);
    let streams = [bz2(front), bz2(&back[..tar(&members).len() - 700])].concat();
    assert_eq!(problem(&file_name, streams, None), None);
    let (stem, frames) = ("demo-1.0-h0_0", [zst(front), zst(&back[..tar(&members).len() - 700])].concat());
    let in_frames = with_members(|members| {
        members[1].1 = frames.clone();
        members[2].1 = zst(&tar(&[]));
    });
    assert_eq!(in_frames.0, format!("{stem}.conda"));
    assert_eq!(problem(&in_frames.0, in_frames.1, None), None);
}

#[test]
fn tars_that_are_cut_off_or_lie_about_sizes() {
    let package = demo().file("a", vec![7; 5000], 0o644);
    let whole = tar(&package.info_members().into_iter().chain(package.members.clone()).collect::<Vec<_>>());
    let (file_name, _) = package.tar_bz2();
    let end = whole.len() - 1024;
    check_archive((file_name.clone(), bz2(&whole[..end])), "the archive is cut off");
    check_archive((file_name.clone(), bz2(&whole[..end - 4000])), "the archive is cut off");
    // The size of the last file, and its header's checksum.
    let header = end - 5120 - 512;
    for (size, expected) in [
        ("77777777777", "the archive is cut off"),
        ("00000000000", "a number does not read"),
        ("9", "a number does not read"),
    ] {
        let mut lying = whole.clone();
        let mut field = [0; 12];
        field[..size.len()].copy_from_slice(size.as_bytes());
        lying[header + 124..header + 136].copy_from_slice(&field);
        let mut fixed = ::tar::Header::from_byte_slice(&lying[header..header + 512]).clone();
        fixed.set_cksum();
        lying[header..header + 512].copy_from_slice(fixed.as_bytes());
        check_archive((file_name.clone(), bz2(&lying)), expected);
    }
    let mut damaged = whole;
    damaged[header] ^= 1;
    check_archive((file_name, bz2(&damaged)), "a header's checksum is wrong");
}

#[test]
fn bombs() {
    let zeros = vec![0; 128 << 20];
    let file_name = "demo-1.0-h0_0.tar.bz2".to_owned();
    check_archive((file_name, bz2(&zeros)), "or is compressed more than a thousandfold");
    let bomb = with_members(|members| members[2].1 = zst(&zeros));
    check_archive(
        bomb,
        "pkg-demo-1.0-h0_0.tar.zst holds more than 67108864 bytes, or is compressed more than",
    );
}

#[test]
fn windows_larger_than_zstd_allows_itself() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    std::io::Write::write_all(&mut encoder, &tar(&[])).unwrap();
    let frame = encoder.finish().unwrap();
    let wide = with_members(|members| members[2].1 = frame.clone());
    check_archive(wide, "pkg-demo-1.0-h0_0.tar.zst does not decompress");
}
