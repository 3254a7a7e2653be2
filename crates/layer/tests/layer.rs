//! Layers as others see them: their digests, what independent readers find in them, and that nothing but the tree, the
//! codec and the epoch reaches a byte.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/wheel.rs"]
#[allow(dead_code, reason = "most of it is for the tests of wheels")]
mod wheel_archive;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use imgforge_layer::wheel::{self, Scheme};
use imgforge_layer::{
    Codec, Content, Entry, File, Kind, Source, Tree, TreePath, WriteError, Written, write_layer,
};
use imgforge_oci::Digest;

use wheel_archive::Wheel;

const CODECS: [Codec; 4] = [Codec::GzipCopy, Codec::Gzip, Codec::Zstd, Codec::None];
const EPOCH: u64 = 1_700_000_000;

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

/// One of everything that a tar header must say.
fn small_tree() -> Tree {
    let mut tree = Tree::new();
    let mut put = |name: &str, entry| tree.insert(path(name), entry).unwrap();
    put("etc/empty", Entry::bytes([], false));
    put("etc/größe 大.txt", Entry::bytes("é".as_bytes(), false));
    put("usr/bin/su", Entry { mode: 0o4755, ..Entry::bytes(*b"su", true) });
    put("usr/bin/su-link", Entry::of(Kind::Hardlink(path("usr/bin/su")), 0o4755));
    put("usr/bin/sh", Entry::symlink("../../bin/dash"));
    put("usr/bin/long", Entry::symlink(format!("../{}/target", "t".repeat(120))));
    let capability = vec![1, 0, 0, 2, 0, 4, 0, 0, 0, 0xff];
    let xattrs = BTreeMap::from([("security.capability".to_owned(), capability)]);
    put("usr/bin/ping", Entry { xattrs, ..Entry::bytes(*b"ping", true) });
    put("tmp/here", Entry::directory(0o755));
    put("home/app", Entry { uid: 65532, gid: 3_000_000, ..Entry::directory(0o700) });
    put(&format!("opt/{}/{}", "p".repeat(120), "n".repeat(90)), Entry::bytes(*b"split", false));
    put(&format!("opt/{}/{}", "p".repeat(200), "n".repeat(200)), Entry::bytes(*b"pax", false));
    put(&format!("opt/{}/l", "p".repeat(200)), Entry::of(Kind::Hardlink(path("etc/empty")), 0o644));
    tree
}

fn source(bytes: &[u8]) -> Arc<Source> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(Source::from_file(file, "demo.whl").unwrap())
}

fn wheel_tree(wheel: Wheel) -> Tree {
    let scheme = Scheme::venv("/opt/venv", (3, 11)).unwrap();
    wheel::plan(&source(&wheel.build()), "demo-1.0-py3-none-any.whl", &scheme).unwrap()
}

fn small_wheel() -> Tree {
    wheel_tree(
        Wheel::new()
            .file("demo/__init__.py", "from .core import main\n".repeat(40))
            .stored("demo/core.so", b"\x7fELF\0\x01")
            .file("demo/empty.py", "")
            .file("demo-1.0.data/scripts/tool", "#!python\nimport demo\n")
            .file("demo-1.0.data/data/share/demo.txt", "data\n")
            .entry_points("[console_scripts]\ndemo = demo:main\n"),
    )
}

fn write(tree: &Tree, codec: Codec) -> (Vec<u8>, Written) {
    let mut bytes = Vec::new();
    let written = write_layer(tree, codec, EPOCH, &mut bytes).unwrap();
    assert_eq!(written.digest, Digest::of(&bytes));
    assert_eq!(written.size, bytes.len() as u64);
    (bytes, written)
}

/// The tar stream, decompressed by the decoder that the media type calls for.
fn plain(bytes: &[u8], codec: Codec) -> Vec<u8> {
    let mut tar = Vec::new();
    match codec {
        Codec::GzipCopy | Codec::Gzip => MultiGzDecoder::new(bytes).read_to_end(&mut tar).unwrap(),
        Codec::Zstd => zstd::Decoder::new(bytes).unwrap().read_to_end(&mut tar).unwrap(),
        Codec::None => return bytes.to_vec(),
    };
    tar
}

/// What one entry of a tar stream says, as one line: kind, mode, owner, size, path, link target, extended attributes and
/// the start of the content's SHA-256.
fn listing(tar: &[u8]) -> String {
    let mut text = String::new();
    for entry in tar::Archive::new(tar).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let xattrs: Vec<_> = entry
            .pax_extensions()
            .unwrap()
            .into_iter()
            .flatten()
            .map(|extension| extension.unwrap())
            .filter_map(|extension| {
                let name = extension.key().unwrap().strip_prefix("SCHILY.xattr.")?;
                Some(format!(" {name}={}", data_encoding::HEXLOWER.encode(extension.value_bytes())))
            })
            .collect();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        assert_eq!(header.mtime().unwrap(), EPOCH);
        assert_eq!(header.username_bytes().unwrap(), b"");
        let kind = match header.entry_type() {
            tar::EntryType::Directory => "d",
            tar::EntryType::Symlink => "l",
            tar::EntryType::Link => "h",
            tar::EntryType::Regular => "-",
            other => panic!("{other:?}"),
        };
        let (uid, gid) = (header.uid().unwrap(), header.gid().unwrap());
        write!(text, "{kind}{:04o} {uid}:{gid} {} {name}", header.mode().unwrap(), entry.size()).unwrap();
        if let Some(target) = entry.link_name_bytes() {
            write!(text, " -> {}", String::from_utf8_lossy(&target)).unwrap();
        }
        text.extend(xattrs);
        if !content.is_empty() {
            write!(text, " {}", &Digest::of(&content).to_string()[7..15]).unwrap();
        }
        text.push('\n');
    }
    text
}

/// Compares diff ID, digests and entries with the recorded ones, so that a changed digest explains itself.
fn check_golden(tree: &Tree, digests: &str, entries: &str) {
    let mut found = String::new();
    for codec in CODECS {
        let (bytes, written) = write(tree, codec);
        if found.is_empty() {
            writeln!(found, "diff ID {} {}", written.diff_id.0, written.tar_size).unwrap();
        }
        let name = serde_json::to_value(codec).unwrap();
        writeln!(found, "{} {} {}", name.as_str().unwrap(), written.digest, written.size).unwrap();
        let tar = plain(&bytes, codec);
        assert_eq!(written.diff_id.0, Digest::of(&tar));
        assert_eq!(written.tar_size, tar.len() as u64);
        // The entries first: when they differ, they say why the digests do.
        let listing = listing(&tar);
        assert!(listing == entries, "{codec:?} has these entries:\n{listing}");
    }
    assert!(found == digests, "the digests are:\n{found}");
}

#[test]
fn golden_tree() {
    check_golden(&small_tree(), TREE_DIGESTS, &small_tree_entries());
}

const TREE_DIGESTS: &str = "\
diff ID sha256:90895313bfe530dbfb2227c23257596b02409af459112074001e83cbf92b9e8e 20992
gzip-copy sha256:03a45fb25eda88372ac86def7ff708f79fc3dbaa5c6b216c195366339895ec44 927
gzip sha256:8ba78bd91debf9540d99e4a40898033bc376ea5df18a9022435b3ac22fbf581f 682
zstd sha256:a294393f5b4fa9d551bd1f8e3c0da117a73ba5c2704d1227498a2e5fe71117d0 680
none sha256:90895313bfe530dbfb2227c23257596b02409af459112074001e83cbf92b9e8e 20992
";

fn small_tree_entries() -> String {
    let (t, p, q, n, m) =
        ("t".repeat(120), "p".repeat(120), "p".repeat(200), "n".repeat(90), "n".repeat(200));
    format!(
        "\
d0755 0:0 0 etc/
-0644 0:0 0 etc/empty
-0644 0:0 2 etc/größe 大.txt 4a99557e
d0755 0:0 0 home/
d0700 65532:3000000 0 home/app/
d0755 0:0 0 opt/
d0755 0:0 0 opt/{p}/
-0644 0:0 5 opt/{p}/{n} ad1a6405
d0755 0:0 0 opt/{q}/
h0644 0:0 0 opt/{q}/l -> etc/empty
-0644 0:0 3 opt/{q}/{m} 327fb97d
d1777 0:0 0 tmp/
d0755 0:0 0 tmp/here/
d0755 0:0 0 usr/
d0755 0:0 0 usr/bin/
l0777 0:0 0 usr/bin/long -> ../{t}/target
-0755 0:0 4 usr/bin/ping security.capability=010000020004000000ff 758d61f2
l0777 0:0 0 usr/bin/sh -> ../../bin/dash
-4755 0:0 2 usr/bin/su 0a64ce10
h4755 0:0 0 usr/bin/su-link -> usr/bin/su
"
    )
}

#[test]
fn golden_wheel() {
    check_golden(&small_wheel(), WHEEL_DIGESTS, WHEEL_ENTRIES);
}

const WHEEL_DIGESTS: &str = "\
diff ID sha256:0fea6c4f2ad99e3dc045928db44ac811bbcc70b8f4a9d942a3b892e34167a789 17920
gzip-copy sha256:0091e68bdcfc2d70825f004b9c48f8e7aec91c72f198eebb8fccd5ecaaf97889 2365
gzip sha256:ee8480df3316d6012fea0d132c9e29fb9bcbcbf612a79d34f430dfe82c0c09cb 1314
zstd sha256:6384e95f0d54b6d981d24b5ca303e3bb81db6a2668d4ae0e1adcb59d47039d89 1339
none sha256:0fea6c4f2ad99e3dc045928db44ac811bbcc70b8f4a9d942a3b892e34167a789 17920
";

const WHEEL_ENTRIES: &str = "\
d0755 0:0 0 opt/
d0755 0:0 0 opt/venv/
d0755 0:0 0 opt/venv/bin/
-0755 0:0 290 opt/venv/bin/demo a05d054f
-0755 0:0 35 opt/venv/bin/tool b546fbfe
d0755 0:0 0 opt/venv/lib/
d0755 0:0 0 opt/venv/lib/python3.11/
d0755 0:0 0 opt/venv/lib/python3.11/site-packages/
d0755 0:0 0 opt/venv/lib/python3.11/site-packages/demo/
d0755 0:0 0 opt/venv/lib/python3.11/site-packages/demo-1.0.dist-info/
-0644 0:0 8 opt/venv/lib/python3.11/site-packages/demo-1.0.dist-info/INSTALLER a84c5305
-0644 0:0 58 opt/venv/lib/python3.11/site-packages/demo-1.0.dist-info/METADATA 070a9aea
-0644 0:0 870 opt/venv/lib/python3.11/site-packages/demo-1.0.dist-info/RECORD a2480c72
-0644 0:0 0 opt/venv/lib/python3.11/site-packages/demo-1.0.dist-info/REQUESTED
-0644 0:0 59 opt/venv/lib/python3.11/site-packages/demo-1.0.dist-info/WHEEL 242557f7
-0644 0:0 35 opt/venv/lib/python3.11/site-packages/demo-1.0.dist-info/entry_points.txt 701f7f29
-0644 0:0 920 opt/venv/lib/python3.11/site-packages/demo/__init__.py 42648562
-0644 0:0 6 opt/venv/lib/python3.11/site-packages/demo/core.so 7ab58c49
-0644 0:0 0 opt/venv/lib/python3.11/site-packages/demo/empty.py
d0755 0:0 0 opt/venv/share/
-0644 0:0 5 opt/venv/share/demo.txt 6667b2d1
";

/// A change of the epoch changes the layer.
#[test]
fn epoch_is_the_time_of_every_entry() {
    let written = write_layer(&small_tree(), Codec::None, 0, &mut std::io::sink()).unwrap();
    assert_ne!(written, write(&small_tree(), Codec::None).1);
}

/// Python's own reader finds what the `tar` crate finds, in every compression that it knows.
#[test]
fn python_reads_it() {
    const PROGRAM: &str = r#"
import hashlib, sys, tarfile
kinds = {tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l", tarfile.LNKTYPE: "h", tarfile.REGTYPE: "-"}
with tarfile.open(sys.argv[1], "r:*", encoding="utf-8") as archive:
    for entry in archive:
        line = f"{kinds[entry.type]}{entry.mode:04o} {entry.uid}:{entry.gid} {entry.size} {entry.name}"
        line += "/" if entry.isdir() else ""
        line += f" -> {entry.linkname}" if entry.linkname else ""
        for key, value in entry.pax_headers.items():
            if key.startswith("SCHILY.xattr."):
                line += f" {key[13:]}={value.encode('utf-8', 'surrogateescape').hex()}"
        if entry.isreg() and entry.size:
            line += " " + hashlib.sha256(archive.extractfile(entry).read()).hexdigest()[:8]
        sys.stdout.buffer.write((line + "\n").encode())
"#;
    for tree in [small_tree(), small_wheel()] {
        for codec in [Codec::GzipCopy, Codec::Gzip, Codec::None] {
            let (bytes, _) = write(&tree, codec);
            assert_eq!(run("python3", &["-c", PROGRAM], &bytes), listing(&plain(&bytes, codec)), "{codec:?}");
        }
    }
}

/// Whatever path the content was found at, the first in order has it: GNU tar links only to what it has extracted.
#[test]
fn hard_links_follow_their_file() {
    let mut tree = Tree::new();
    for name in ["a/link", "m", "z/link"] {
        tree.insert(path(name), Entry::of(Kind::Hardlink(path("b/file")), 0o644)).unwrap();
    }
    tree.insert(path("b/file"), Entry { uid: 7, ..Entry::bytes(*b"content", true) }).unwrap();
    let (bytes, _) = write(&tree, Codec::GzipCopy);
    assert_eq!(
        listing(&plain(&bytes, Codec::GzipCopy)),
        "d0755 0:0 0 a/\n-0755 7:0 7 a/link ed7002b4\nd0755 0:0 0 b/\nh0755 7:0 0 b/file -> a/link\n\
         h0755 7:0 0 m -> a/link\nd0755 0:0 0 z/\nh0755 7:0 0 z/link -> a/link\n"
    );
    let out = tempfile::tempdir().unwrap();
    run("tar", &["--extract", "--directory", out.path().to_str().unwrap(), "--file"], &bytes);
    assert_eq!(std::fs::read(out.path().join("z/link")).unwrap(), b"content");

    for target in ["none", "a"] {
        tree.insert(path("c"), Entry::of(Kind::Hardlink(path(target)), 0o644)).unwrap();
        let error = write_layer(&tree, Codec::None, 0, &mut std::io::sink()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("/c: a hard link to /{target}, which is no file of the same tree")
        );
        tree = tree.iter().filter(|(name, _)| name.as_str() != "c").fold(
            Tree::new(),
            |mut tree, (path, entry)| {
                tree.insert(path.clone(), entry.clone()).unwrap();
                tree
            },
        );
    }
}

/// An attribute's value is any bytes, a newline among them: pax records have their length in front.
#[test]
fn attributes_hold_any_bytes() {
    const PROGRAM: &str = r#"
import sys, tarfile
with tarfile.open(sys.argv[1], encoding="utf-8") as archive:
    for entry in archive:
        print(entry.name, {key: value.encode("utf-8", "surrogateescape").hex() for key, value in entry.pax_headers.items()})
"#;
    let mut tree = Tree::new();
    let xattrs =
        BTreeMap::from([("user.x".to_owned(), b"\n=\0\xff".to_vec()), ("user.y".to_owned(), Vec::new())]);
    tree.insert(path("a"), Entry { xattrs, ..Entry::bytes([], false) }).unwrap();
    tree.insert(path("b"), Entry::bytes([], false)).unwrap();
    assert_eq!(
        run("python3", &["-c", PROGRAM], &write(&tree, Codec::None).0),
        "a {'SCHILY.xattr.user.x': '0a3d00ff', 'SCHILY.xattr.user.y': ''}\nb {}\n"
    );
}

/// GNU tar finds what the `tar` crate finds, as far as it tells.
#[test]
fn gnu_tar_reads_it() {
    for tree in [small_tree(), small_wheel()] {
        for codec in [Codec::GzipCopy, Codec::Gzip, Codec::None] {
            let (bytes, _) = write(&tree, codec);
            let options = ["--list", "--verbose", "--numeric-owner", "--quoting-style=literal", "--file"];
            let told: String = run("tar", &options, &bytes).lines().map(of_gnu_tar).collect();
            let expected: String = listing(&plain(&bytes, codec)).lines().map(without_content).collect();
            assert_eq!(told, expected, "{codec:?}");
        }
    }
}

/// GNU tar's line in the form of [`listing`]; it prints neither attributes nor content.
fn of_gnu_tar(line: &str) -> String {
    let mut fields = line.split_ascii_whitespace();
    let mut next = || fields.next().unwrap();
    let (permissions, owner, size) = (next(), next(), next());
    let mut mode = 0;
    for (at, letter) in permissions.chars().skip(1).enumerate() {
        if !matches!(letter, '-' | 'S' | 'T') {
            mode |= 0o400 >> at;
        }
        if matches!(letter, 's' | 'S' | 't' | 'T') {
            mode |= 0o4000 >> (at / 3);
        }
    }
    let name = line.split_once(" 2023-11-14 22:13 ").unwrap().1.replace(" link to ", " -> ");
    format!("{}{mode:04o} {} {size} {name}\n", &permissions[..1], owner.replace('/', ":"))
}

/// A line of [`listing`] without what GNU tar does not print.
fn without_content(line: &str) -> String {
    let (rest, last) = line.rsplit_once(' ').unwrap();
    let hash = last.len() == 8 && last.bytes().all(|byte| byte.is_ascii_hexdigit());
    let rest = if hash { rest } else { line };
    rest.split(" security.capability=").next().unwrap().to_owned() + "\n"
}

/// The standard output of a program that gets the bytes as a file, its last argument.
fn run(program: &str, arguments: &[&str], bytes: &[u8]) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let output = Command::new(program)
        .args(arguments)
        .arg(file.path())
        .env("TZ", "UTC")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; run: apt-get install python3 tar gzip"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Only the header of such a file is looked at: the source ends early, and the writer says so.
#[test]
fn files_of_eight_gibibytes_have_their_size_in_a_record() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(9 << 20).unwrap();
    let source = Arc::new(Source::from_file(file, "sparse").unwrap());
    for (len, records) in [((1 << 33) - 1, 0), (1 << 33, 1), (1 << 40, 1)] {
        let content = Content::Range { source: Arc::clone(&source), offset: 0, len, crc32: None };
        let mut tree = Tree::new();
        let kind = Kind::File(File { content, sha256: None });
        tree.insert(path("large"), Entry::of(kind, 0o644)).unwrap();
        let mut start = Vec::new();
        let error = write_layer(&tree, Codec::None, EPOCH, &mut start).unwrap_err();
        assert!(matches!(error, WriteError::Read { .. }), "{error}");
        let mut archive = tar::Archive::new(start.as_slice());
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.size(), len);
        assert_eq!(entry.pax_extensions().unwrap().map_or(0, Iterator::count), records);
    }
}

/// Content that compresses neither well nor badly, over several frames.
fn words(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut text = Vec::with_capacity(len + 16);
    while text.len() < len {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        write!(text, "{} ", state >> 12).unwrap();
    }
    text.truncate(len);
    text
}

#[test]
fn threads_do_not_show() {
    let text = words(6 << 20);
    let wheel = Wheel::new().file("large.txt", &text).stored("stored.bin", &text[..4 << 20]);
    let mut tree = wheel_tree(wheel.file("small.txt", "small").file("z.txt", &text[..2 << 20]));
    tree.merge(small_tree()).unwrap();
    for codec in CODECS {
        let [one, eight] = [1, 8].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| write(&tree, codec))
        });
        assert!(one == eight, "{codec:?}: {:?} with 1 thread, {:?} with 8", one.1, eight.1);
        assert_eq!(Digest::of(&plain(&one.0, codec)), one.1.diff_id.0, "{codec:?}");
    }
}

#[test]
fn order_of_insertion_does_not_show() {
    let tree = small_tree();
    let mut backwards = Tree::new();
    let entries: Vec<_> = tree.iter().collect();
    for (path, entry) in entries.into_iter().rev() {
        backwards.insert(path.clone(), entry.clone()).unwrap();
    }
    assert_eq!(write(&tree, Codec::GzipCopy), write(&backwards, Codec::GzipCopy));
}

/// The order of a wheel's entries, and how they are compressed, do not reach the tar stream.
#[test]
fn order_in_the_wheel_does_not_show_in_the_tar_stream() {
    let files = [("demo/a.py", "a"), ("demo/b.py", "b"), ("demo-1.0.data/data/x", "x")];
    let one = files.iter().fold(Wheel::new(), |wheel, (name, text)| wheel.file(name, text));
    let other = files.iter().rev().fold(Wheel::new(), |wheel, (name, text)| wheel.stored(name, text));
    let [one, other] = [one, other].map(|wheel| write(&wheel_tree(wheel), Codec::GzipCopy).1);
    assert_eq!(one.diff_id, other.diff_id);
}

#[test]
fn an_empty_tree_is_a_layer() {
    for codec in CODECS {
        let (bytes, written) = write(&Tree::new(), codec);
        assert_eq!(written.tar_size, 1024);
        assert_eq!(plain(&bytes, codec), [0; 1024]);
    }
}
