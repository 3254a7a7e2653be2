//! Source distributions made for the purpose: what is read from them, and what is refused.

use std::io::{Cursor, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;
use imgforge_layer::Entry;
use zip::write::SimpleFileOptions;

use super::*;

/// An entry of a tar, with a name that nobody checks.
struct Member<'a> {
    name: &'a str,
    kind: u8,
    mode: u32,
    link: &'a str,
    content: &'a [u8],
}

fn file<'a>(name: &'a str, content: &'a str) -> Member<'a> {
    Member { name, kind: b'0', mode: 0o664, link: "", content: content.as_bytes() }
}

fn link<'a>(kind: u8, name: &'a str, link: &'a str) -> Member<'a> {
    Member { name, kind, mode: 0o777, link, content: b"" }
}

fn folder(name: &str) -> Member<'_> {
    Member { name, kind: b'5', mode: 0o2775, link: "", content: b"" }
}

fn tar(members: &[Member<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for member in members {
        let mut header = tar::Header::new_ustar();
        let fields = header.as_old_mut();
        fields.name[..member.name.len()].copy_from_slice(member.name.as_bytes());
        fields.linkname[..member.link.len()].copy_from_slice(member.link.as_bytes());
        fields.linkflag = [member.kind];
        header.set_mode(member.mode);
        header.set_size(member.content.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(member.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zip(files: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, mode, content) in files {
        let options = SimpleFileOptions::default().unix_permissions(mode & 0o777);
        match mode & 0o170_000 {
            0o120_000 => archive.add_symlink(*name, *content, options).unwrap(),
            _ => {
                archive.start_file(*name, options).unwrap();
                archive.write_all(content.as_bytes()).unwrap();
            }
        }
    }
    archive.finish().unwrap().into_inner()
}

fn open(file_name: &str, bytes: Vec<u8>) -> Result<Sdist, String> {
    let source = Arc::new(Source::from_bytes(bytes, file_name));
    let expected = Distribution { name: "Demo.Project".to_owned(), version: "1.0".to_owned() };
    let below = TreePath::new("/build/src").unwrap();
    read(&source, file_name, &expected, &below, &std::env::temp_dir()).map_err(|error| {
        assert_eq!(error.sdist, file_name);
        let mut text = String::new();
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            text += &format!("{error}: ");
            cause = error.source();
        }
        text
    })
}

fn listing(sdist: &Sdist) -> Vec<String> {
    let root = format!("{}/", sdist.root.as_str());
    let entries =
        sdist.tree.iter().filter_map(|(path, entry)| Some((path.as_str().strip_prefix(&root)?, entry)));
    let text = |(name, entry): (&str, &Entry)| {
        let content = archive::read_file(&sdist.tree, &sdist.root.join(name).unwrap(), 1 << 20).unwrap();
        let content =
            content.map(|bytes| format!(" {}", String::from_utf8(bytes).unwrap())).unwrap_or_default();
        format!("{:o} {name}{content}", entry.mode)
    };
    entries.map(text).collect()
}

fn check(members: &[Member<'_>], expected: &[&str]) -> Sdist {
    let sdist = open("demo-1.0.tar.gz", gzip(&tar(members))).unwrap();
    assert_eq!(listing(&sdist), expected);
    sdist
}

fn refuse(members: &[Member<'_>], message: &str) {
    let found = open("demo-1.0.tar.gz", gzip(&tar(members))).unwrap_err();
    assert!(found.contains(message), "{found}");
}

const SETUP: Member<'_> =
    Member { name: "demo-1.0/setup.py", kind: b'0', mode: 0o600, link: "", content: b"s" };

#[test]
fn files_as_they_will_be() {
    let sdist = check(
        &[
            folder("demo-1.0/"),
            SETUP,
            Member { mode: 0o711, ..file("./demo-1.0/a/run", "r") },
            folder("demo-1.0/empty"),
        ],
        &["755 a", "755 a/run r", "755 empty", "644 setup.py s"],
    );
    assert_eq!(sdist.root.to_string(), "/build/src/demo-1.0");
    assert_eq!(sdist.build_system, BuildSystem::default());
}

#[test]
fn the_build_system_is_the_projects() {
    let text = "[build-system]\nrequires = ['flit_core']\nbuild-backend = 'flit_core.buildapi'";
    let sdist = check(&[file("d/pyproject.toml", text)], &[&format!("644 pyproject.toml {text}")]);
    assert_eq!(sdist.build_system.backend, "flit_core.buildapi");
    refuse(&[file("d/pyproject.toml", "[")], "pyproject.toml does not read");
    refuse(&[file("d/README", "")], "d has neither pyproject.toml nor setup.py");
    refuse(&[Member { content: b"\xff", ..file("d/pyproject.toml", "") }], "d/pyproject.toml is not UTF-8");
    // What is below another folder is not the project's.
    refuse(&[file("d/x/pyproject.toml", text)], "d has neither");
}

fn info(text: &str) -> [Member<'_>; 2] {
    [SETUP, file("demo-1.0/PKG-INFO", text)]
}

fn metadata(name: &str, version: &str) -> String {
    format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: text\n")
}

#[test]
fn metadata_are_the_expected_ones() {
    let accept = |name, version| {
        let text = metadata(name, version);
        check(&info(&text), &[&format!("644 PKG-INFO {text}"), "644 setup.py s"]);
    };
    accept("demo-project", "1.0");
    accept("Demo_Project", "1");
    accept("demo.project", "1.0.0+cu128");
    refuse(&info(&metadata("demo", "1.0")), "PKG-INFO is of demo 1.0, expected Demo.Project 1.0");
    refuse(&info(&metadata("demo-project", "1.1")), "PKG-INFO is of demo-project 1.1");
    refuse(&info(""), "PKG-INFO is of  , expected");
}

#[test]
fn links_that_stay_and_links_that_do_not() {
    check(
        &[SETUP, link(b'2', "demo-1.0/a", "setup.py"), link(b'2', "demo-1.0/b/c", "../a")],
        &["777 a", "755 b", "777 b/c", "644 setup.py s"],
    );
    // A hard link is a file of its own.
    check(&[SETUP, link(b'1', "demo-1.0/a", "./demo-1.0/setup.py")], &["644 a s", "644 setup.py s"]);
    refuse(&[SETUP, link(b'2', "demo-1.0/a", "/etc/passwd")], "a target is a relative path");
    refuse(&[SETUP, link(b'2', "demo-1.0/a", "../../x")], "outside of the archive's folder");
    refuse(&[SETUP, link(b'1', "demo-1.0/a", "demo-1.0/none")], "no file of the archive has that name");
    refuse(&[SETUP, link(b'1', "demo-1.0/a", "../x")], "`..`");
    refuse(&[SETUP, link(b'1', "demo-1.0/a", "/etc/passwd")], "is absolute");
    refuse(&[SETUP, link(b'2', "demo-1.0/a", "b"), file("demo-1.0/a/x", "")], "is not a folder");
    refuse(&[link(b'2', "demo-1.0", "x"), SETUP], "one folder that an archive of sources has");
}

#[test]
fn names_that_no_archive_has() {
    for name in ["demo-1.0/../x", "demo-1.0//x", "demo-1.0/a\nb", "demo-1.0/./x"] {
        refuse(&[SETUP, file(name, "")], "path `");
    }
    refuse(&[SETUP, file("/etc/x", "")], "is absolute");
    refuse(&[SETUP, file("../x", "")], "is not in the one folder");
    refuse(&[SETUP, file("other/x", "")], "`other/x` is not in the one folder");
    refuse(&[SETUP, file("loose", "")], "`loose` is not in the one folder");
    refuse(&[SETUP, SETUP], "two entries with different content");
    refuse(&[SETUP, Member { kind: b'3', ..file("demo-1.0/dev", "") }], "is a device");
    refuse(&[], "nothing is in it");
}

#[test]
fn zip_archives() {
    let sdist = open("demo-1.0.zip", zip(&[("d/setup.py", 0o600, "s"), ("d/a/b", 0o755, "")])).unwrap();
    assert_eq!(listing(&sdist), ["755 a", "755 a/b ", "644 setup.py s"]);
    let refuse = |files: &[(&str, u32, &str)], message: &str| {
        let found = open("demo-1.0.zip", zip(files)).unwrap_err();
        assert!(found.contains(message), "{found}");
    };
    refuse(&[("d/setup.py", 0o600, "s"), ("d/a", 0o120_777, "setup.py")], "links are not expected");
    refuse(&[("d/setup.py", 0o600, "s"), ("e/x", 0o600, "")], "`e/x` is not in the one folder");
    refuse(&[("../setup.py", 0o600, "s")], "relative component");
    refuse(&[], "nothing is in it");
}

#[test]
fn other_archives() {
    for name in ["demo-1.0.tar.bz2", "demo-1.0.tar", "demo-1.0.whl", ""] {
        assert!(open(name, gzip(&tar(&[SETUP]))).unwrap_err().contains("neither `.tar.gz`"), "{name}");
    }
    let whole = gzip(&tar(&[SETUP]));
    for (bytes, message) in [
        (Vec::new(), "does not decompress"),
        (gzip(b""), "cut off"),
        (b"no gzip".to_vec(), "does not decompress"),
        (whole[..whole.len() - 5].to_vec(), "does not decompress"),
        ([&whole[..], b"x"].concat(), "does not decompress"),
        (gzip(&tar(&[SETUP])[..700]), "cut off"),
        (gzip(&[tar(&[SETUP]), tar(&[SETUP])].concat()), "more behind the archive's end"),
    ] {
        let found = open("demo-1.0.tgz", bytes).unwrap_err();
        assert!(found.contains(message), "{message}: {found}");
    }
}

#[test]
fn bombs() {
    let inflate = |bytes: &[u8], limit| {
        let source = Source::from_bytes(bytes.to_vec(), "bomb");
        let folder = std::env::temp_dir();
        archive::Scratch::new(&folder).unwrap().inflate(&source, limit)
    };
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..80 {
        bomb.write_all(&zeros).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    assert!(80 << 20 > bomb.len() * 1_000, "DEFLATE's best is 1,030 bytes for one");
    assert!(matches!(inflate(&bomb, u64::MAX), Err(ArchiveError::TooLarge { .. })));
    assert!(matches!(inflate(&bomb, 1 << 20), Err(ArchiveError::TooLarge { limit }) if limit == 1 << 20));
    // Where a bomb is small, and in what is not one, zeros do no harm.
    assert_eq!(inflate(&gzip(&zeros), u64::MAX).unwrap(), 0..1 << 20);
    let padded = open("demo-1.0.tar.gz", gzip(&[tar(&[SETUP]), zeros].concat())).unwrap();
    assert_eq!(listing(&padded), ["644 setup.py s"]);
}

proptest::proptest! {
    #[test]
    fn bytes_that_anybody_may_send(at in 0..3_000_usize, value: u8, is_zip: bool) {
        let (name, mut bytes) = match is_zip {
            true => ("demo-1.0.zip", zip(&[("d/setup.py", 0o600, "s"), ("d/a/b", 0o755, "x")])),
            false => ("demo-1.0.tar.gz", tar(&[folder("demo-1.0"), SETUP, link(b'2', "demo-1.0/a", "setup.py")])),
        };
        let at = at % bytes.len();
        bytes[at] = value;
        let bytes = if is_zip { bytes } else { gzip(&bytes) };
        if let Ok(sdist) = open(name, bytes) {
            for (path, _) in sdist.tree.iter() {
                proptest::prop_assert!(path.as_str().starts_with("build"));
            }
        }
    }
}
