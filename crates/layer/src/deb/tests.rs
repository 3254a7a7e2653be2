//! Packages made here, byte by byte, because the interesting ones are those that `dpkg-deb` would not make. What
//! real packages become is held against dpkg by `tests/debian/compare.sh`.

use std::io::Write;

use super::*;

/// A tar header and its content, padded.
fn entry(kind: u8, name: &str, link: &str, mode: u32, content: &[u8]) -> Vec<u8> {
    let mut block = [0; 512];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000\u{0}0000062\u{0}");
    put(124, &format!("{:011o}", content.len()));
    put(136, "14000000000\u{0}        ");
    put(157, link);
    put(257, "ustar  ");
    block[156] = kind;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\u{0} ").as_bytes());
    let mut bytes = block.to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &str) -> Vec<u8> {
    entry(b'0', name, "", 0o644, content.as_bytes())
}

fn folder(name: &str, mode: u32) -> Vec<u8> {
    entry(b'5', name, "", mode, b"")
}

fn link(name: &str, target: &str) -> Vec<u8> {
    entry(b'2', name, target, 0o777, b"")
}

fn hard_link(name: &str, target: &str) -> Vec<u8> {
    entry(b'1', name, target, 0o644, b"")
}

fn tar(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.extend([0; 1024]);
    bytes
}

fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len());
        bytes.extend(header.as_bytes());
        bytes.extend(*content);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    }
    bytes
}

const CONTROL: &str = "Package: x\nVersion: 1:2.0-3\nArchitecture: amd64\nMaintainer: A <a@example.org>\n\
                       Multi-Arch: same\nDepends: y\nX-Own: z\nDescription: A thing\n It does.\n .\n More.\n";

fn control(files: &[Vec<u8>]) -> Vec<u8> {
    tar(&[[folder("./", 0o755), file("./control", CONTROL)].concat(), files.concat()])
}

fn package(control: &[u8], data: &[u8]) -> Vec<u8> {
    ar(&[("debian-binary", b"2.0\n"), ("control.tar", control), ("data.tar", data)])
}

fn read(bytes: &[u8]) -> Result<Package, Problem> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.deb");
    fs_err::write(&path, bytes).unwrap();
    let source = Source::open(path).unwrap();
    let package = plan(&source, "x.deb", folder.path()).map_err(|error| error.problem);
    assert_eq!(
        fs_err::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing but the package is in the folder"
    );
    package
}

fn content(entry: &Entry) -> String {
    match entry.content() {
        Some(Content::Bytes(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
        _ => String::from_utf8(read_whole(entry, u64::MAX).unwrap()).unwrap(),
    }
}

/// Every entry outside of dpkg's database, as `path mode content`, in the tree's order.
fn show(tree: &Tree) -> String {
    let line = |(path, entry): (&TreePath, &Entry)| {
        let kind = match &entry.kind {
            Kind::Directory => "/".to_owned(),
            Kind::Symlink(target) => format!(" -> {target}"),
            Kind::Hardlink(target) => format!(" = {target}"),
            Kind::File(_) => format!(" {:o} {}", entry.mode, content(entry)),
        };
        format!("{path}{kind}")
    };
    let shown = tree.iter().filter(|(path, _)| !path.as_str().starts_with("var"));
    shown.map(line).collect::<Vec<_>>().join("\n")
}

/// A package of these entries, as [`show`] has it, or a part of the error.
fn check(entries: &[Vec<u8>], expected: Result<&str, &str>) {
    match (read(&package(&control(&[]), &tar(entries))), expected) {
        (Ok(package), Ok(expected)) => assert_eq!(show(&package.tree), expected),
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
        (result, expected) => panic!("expected {expected:?}, not {result:?}"),
    }
}

fn check_bytes(bytes: &[u8], expected: Result<(), &str>) {
    match (read(bytes), expected) {
        (Ok(_), Ok(())) => {}
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
        (result, expected) => panic!("expected {expected:?}, not {result:?}"),
    }
}

#[test]
fn files_folders_and_links() {
    check(&[folder("./", 0o755)], Ok(""));
    check(
        &[folder("./", 0o755), folder("./etc/", 0o750), file("./etc/a", "1"), link("./etc/b", "../x")],
        Ok("/etc/\n/etc/a 644 1\n/etc/b -> ../x"),
    );
    check(&[entry(b'0', "./usr/bin/su", "", 0o4755, b"")], Ok("/usr/\n/usr/bin/\n/usr/bin/su 4755 "));
    check(&[entry(0, "./a", "", 0o100_644, b"old")], Ok("/a 644 old"));
}

#[test]
fn modes_and_owners_are_the_packages_own() {
    let package = read(&package(&control(&[]), &tar(&[folder("./srv/", 0o2775)]))).unwrap();
    let entry = package.tree.get(&TreePath::new("srv").unwrap()).unwrap();
    assert_eq!((entry.mode, entry.uid, entry.gid), (0o2775, 0, 0o62));
}

#[test]
fn usr_is_merged() {
    check(
        &[
            folder("./bin/", 0o755),
            file("./bin/a", ""),
            file("./lib/x86_64-linux-gnu/b", ""),
            link("./lib64/c", "/lib/c"),
            file("./library", ""),
        ],
        Ok("/library 644 \n/usr/\n/usr/bin/\n/usr/bin/a 644 \n/usr/lib/\n/usr/lib/x86_64-linux-gnu/\n\
            /usr/lib/x86_64-linux-gnu/b 644 \n/usr/lib64/\n/usr/lib64/c -> /lib/c"),
    );
    check(&[file("./bin/a", "1"), file("./usr/bin/a", "2")], Err("two entries"));
    check(&[folder("./var/run/", 0o755), file("./var/run/a", "")], Ok("/run/\n/run/a 644 "));
    check(&[file("./bin", "")], Ok("/usr/\n/usr/bin 644 "));
    let merges = [link("./bin", "usr/bin"), link("./var/run", "/run"), link("./var/lock", "../run/lock")];
    check(&merges, Ok(""));
    check(&[link("./bin", "usr/sbin")], Ok("/usr/\n/usr/bin -> usr/sbin"));
}

#[test]
fn application_files_leave_the_links_alone() {
    let mut tree = Tree::new();
    for path in ["bin/tool", "lib64/x", "opt/bin/y"] {
        tree.insert(TreePath::new(path).unwrap(), Entry::bytes(*b"", true)).unwrap();
    }
    let paths: Vec<_> = merge_usr(&tree).unwrap().iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(
        paths,
        ["/opt", "/opt/bin", "/opt/bin/y", "/usr", "/usr/bin", "/usr/bin/tool", "/usr/lib64", "/usr/lib64/x"]
    );
}

#[test]
fn the_first_of_hard_links_is_the_file() {
    check(&[file("./b", "1"), hard_link("./c", "./b")], Ok("/b 644 1\n/c = /b"));
    check(&[file("./b", "1"), hard_link("./a", "./b")], Ok("/a 644 1\n/b = /a"));
    check(
        &[file("./b", "1"), hard_link("./c", "b"), hard_link("./a", "b")],
        Ok("/a 644 1\n/b = /a\n/c = /a"),
    );
    check(
        &[file("./bin/b", "1"), hard_link("./usr/bin/a", "./bin/b")],
        Ok("/usr/\n/usr/bin/\n/usr/bin/a 644 1\n/usr/bin/b = /usr/bin/a"),
    );
    check(&[hard_link("./a", "./b"), file("./b", "1")], Err("no file of the package has that name"));
    check(&[hard_link("./a", "../etc/shadow")], Err("has a component `.` or `..`"));
    check(&[hard_link("./a", "/etc/shadow")], Err("is absolute"));
    check(&[link("./b", "c"), hard_link("./a", "./b")], Err("no file of the package"));
    check(&[file("./b", ""), hard_link("./b", "./b")], Err("two entries"));
    check(&[file("./b", ""), link("./a", "x"), hard_link("./a", "./b")], Err("two entries"));
}

#[test]
fn long_names_are_read() {
    let long = format!("./{}/{}", "d".repeat(120), "f".repeat(120));
    let shown = format!("/{0}/\n/{0}/{1} 644 1", "d".repeat(120), "f".repeat(120));
    let gnu = entry(b'L', "././@LongLink", "", 0, format!("{long}\u{0}").as_bytes());
    check(&[gnu.clone(), file("./cut", "1")], Ok(&shown));
    let record = |key: &str, value: &str| {
        let rest = format!(" {key}={value}\n");
        let len =
            (1..6).map(|digits| rest.len() + digits).find(|len| len.to_string().len() + rest.len() == *len);
        format!("{}{rest}", len.unwrap())
    };
    let pax = |text: String| entry(b'x', "./PaxHeaders/x", "", 0, text.as_bytes());
    check(&[pax(record("path", &long)), file("./cut", "1")], Ok(&shown));
    check(&[pax(record("mtime", "1.5")), file("./a", "1")], Ok("/a 644 1"));
    check(&[pax(record("linkpath", "/x")), link("./a", "cut")], Ok("/a -> /x"));
    check(&[pax(record("size", "1")), entry(b'0', "./a", "", 0o644, b"1")], Ok("/a 644 1"));
    check(&[pax(record("size", "99999999")), file("./a", "1")], Err("cut off"));
    check(&[pax(record("GNU.sparse.major", "1")), file("./a", "1")], Err("sparse"));
    check(&[pax("7 a=b".to_owned()), file("./a", "")], Err("pax record does not read"));
    check(&[pax("x".to_owned()), file("./a", "")], Err("pax record does not read"));
    check(&[entry(b'g', "g", "", 0, record("comment", "x").as_bytes()), file("./a", "1")], Ok("/a 644 1"));
    check(&[entry(b'g', "g", "", 0, record("path", "x").as_bytes()), file("./a", "")], Err("global pax"));
    check(&[gnu], Err("belongs to no entry"));
    check(&[entry(b'L', "", "", 0, &[b'x'; 100 << 10]), file("./a", "")], Err("too large"));
}

#[test]
fn hostile_entries_are_refused() {
    check(&[file("/etc/a", "")], Err("is absolute"));
    check(&[file("./../a", "")], Err("`.` or `..`"));
    check(&[file("./a/../../b", "")], Err("`.` or `..`"));
    check(&[file("./a//b", "")], Err("empty component"));
    check(&[file("././a", "")], Err("`.` or `..`"));
    check(&[file("./a\nb", "")], Err("control character"));
    check(&[file("./a", "1"), file("./a", "1")], Err("two entries"));
    check(&[file("./a", "1"), folder("./a/", 0o755)], Err("two entries"));
    check(&[link("./a", "/etc"), file("./a/passwd", "")], Err("is not a folder"));
    check(&[link("./a", "")], Err("target is empty"));
    check(&[entry(b'3', "./dev/null", "", 0o666, b"")], Err("./dev/null is a device"));
    check(&[entry(b'6', "./pipe", "", 0o666, b"")], Err("./pipe is a pipe"));
    check(&[entry(b'S', "./sparse", "", 0o666, b"")], Err("of an unknown type"));
    check(&[entry(b'2', "./a", "b", 0o777, b"content")], Err("a link or folder has a size"));
    check(&[file("./var/lib/dpkg/info/x:amd64.list", "")], Err("two entries"));
}

#[test]
fn damaged_archives_are_refused() {
    let (control, data) = (control(&[]), tar(&[file("./a", "1")]));
    check_bytes(&package(&control, &data), Ok(()));
    let mut sum = data.clone();
    sum[0] ^= 1;
    check_bytes(&package(&control, &sum), Err("checksum"));
    check_bytes(&package(&control, &data[..512]), Err("cut off"));
    check_bytes(&package(&control, &data[..700]), Err("cut off"));
    check_bytes(&package(&control, b""), Err("cut off"));
    check_bytes(b"", Err("can't be read"));
    check_bytes(b"PK\x03\x04....", Err("does not begin with"));
    let members: [(&str, &[u8]); 3] =
        [("debian-binary", b"2.0\n"), ("control.tar", &control), ("data.tar", &data)];
    let [binary, first, second] = members;
    check_bytes(&ar(&[binary, first, ("_sig", b"x"), second, ("_gpgorigin", b"y")]), Ok(()));
    check_bytes(&ar(&[("debian-binary", b"2.1\n"), first, second]), Ok(()));
    check_bytes(&ar(&[("debian-binary", b"3.0\n"), first, second]), Err("its format is `3.0`"));
    check_bytes(&ar(&[first, second]), Err("its members are control.tar, data.tar"));
    check_bytes(&ar(&[binary, second, first]), Err("member `data.tar` is not read"));
    check_bytes(&ar(&[binary, first, second, second]), Err("its members are"));
    check_bytes(&ar(&[binary, first, ("data.tar.bz2", &data)]), Err("member `data.tar.bz2` is not read"));
    check_bytes(&[package(&control, &data), b"!".to_vec()].concat(), Err("is cut off"));
    let whole = package(&control, &data);
    check_bytes(&whole[..whole.len() - 600], Err("ends behind the file"));
}

#[test]
fn every_compression_is_read() {
    let data = tar(&[file("./a", "1")]);
    let xz = |bytes: &[u8]| {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).unwrap();
    let with = |extension: &str, compress: &dyn Fn(&[u8]) -> Vec<u8>| {
        let (control, data) = (compress(&control(&[])), compress(&data));
        let [first, second] = ["control.tar", "data.tar"].map(|name| format!("{name}{extension}"));
        ar(&[("debian-binary", b"2.0\n"), (&first, &control), (&second, &data)])
    };
    let plain = show(&read(&package(&control(&[]), &data)).unwrap().tree);
    for (extension, compress) in [(".xz", &xz as &dyn Fn(&[u8]) -> Vec<u8>), (".gz", &gzip), (".zst", &zstd)]
    {
        assert_eq!(show(&read(&with(extension, compress)).unwrap().tree), plain, "{extension}");
        let damaged = |bytes: &[u8]| {
            let mut bytes = compress(bytes);
            let last = bytes.len().saturating_sub(9);
            bytes.truncate(last);
            bytes
        };
        check_bytes(&with(extension, &damaged), Err("control.tar does not decompress"));
    }
    let bomb = vec![0; 80 << 20];
    let members =
        [("debian-binary", b"2.0\n".to_vec()), ("control.tar", control(&[])), ("data.tar.zst", zstd(&bomb))];
    check_bytes(
        &ar(&members.each_ref().map(|(name, bytes)| (*name, bytes.as_slice()))),
        Err("data.tar is larger"),
    );
}

/// What lies in dpkg's folder: names and contents.
fn database_files(tree: &Tree) -> BTreeMap<String, String> {
    let name = |path: &TreePath| path.as_str().strip_prefix("var/lib/dpkg/").map(str::to_owned);
    let files = tree.iter().filter(|(_, entry)| entry.content().is_some());
    files.filter_map(|(path, entry)| Some((name(path)?, content(entry)))).collect()
}

#[test]
fn the_database_is_as_dpkg_writes_it() {
    let control = control(&[
        file("./conffiles", "/etc/a\n/etc/gone\n"),
        file("./triggers", "interest-noawait /usr/share/x\ninterest reload-x\nactivate y\n"),
        entry(b'0', "./postinst", "", 0o755, b"#!/bin/sh\n"),
    ]);
    let data =
        tar(&[folder("./", 0o755), folder("./etc/", 0o755), file("./etc/a", "1"), file("./bin/b", "2")]);
    let package = read(&package(&control, &data)).unwrap();
    let files = database_files(&package.tree);
    assert_eq!(files["info/x:amd64.list"], "/.\n/etc\n/etc/a\n/bin/b\n");
    assert_eq!(files["info/x:amd64.md5sums"], "c81e728d9d4c2f636f067f89cc14862c  bin/b\n");
    assert_eq!(files["info/x:amd64.postinst"], "#!/bin/sh\n");
    assert!(!files.contains_key("info/x:amd64.control"));

    let stored = serde_json::to_string(&package.control).unwrap();
    let restored: Control = serde_json::from_str(&stored).unwrap();
    let files = database_files(&database(&[&restored]).unwrap());
    assert_eq!(
        files["status"],
        "Package: x\nStatus: install ok unpacked\nMaintainer: A <a@example.org>\nArchitecture: amd64\n\
         Multi-Arch: same\nVersion: 1:2.0-3\nDepends: y\nConffiles:\n /etc/a c4ca4238a0b923820dcc509a6f75849b\n\
         Description: A thing\n It does.\n .\n More.\nX-Own: z\n\n"
    );
    assert_eq!(files["triggers/File"], "/usr/share/x x:amd64/noawait\n");
    assert_eq!(files["triggers/reload-x"], "x:amd64\n");
    assert_eq!((files["info/format"].as_str(), files["diversions"].as_str()), ("1\n", ""));
}

/// The control information of a package with these fields and files.
fn with(fields: &str, data: &[Vec<u8>]) -> Control {
    let control = tar(&[file("./control", fields)]);
    read(&package(&control, &tar(data))).unwrap().control
}

#[test]
fn a_base_does_not_depend_on_order() {
    let a = with("Package: a\nVersion: 1\nArchitecture: all\n", &[]);
    let b = with("Package: b\nVersion: 1\nArchitecture: amd64\nEssential: no\nMulti-Arch: no\n", &[]);
    let status = |packages: &[&Control]| database_files(&database(packages).unwrap())["status"].clone();
    let expected = "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n\
                    Package: b\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n";
    assert_eq!(status(&[&a, &b]), expected);
    assert_eq!(status(&[&b, &a]), expected);
    let twice = database(&[&a, &b, &a]).unwrap_err();
    assert_eq!(twice.to_string(), "package a is there twice: 1 and 1");
}

#[test]
fn a_base_has_users_and_certificates() {
    const PEM: &str = include_str!("testdata/certificate.pem");
    let fields = "Package: a\nVersion: 1\nArchitecture: all\n";
    let plain = with(fields, &[]);
    let shown = show(&database(&[&plain]).unwrap());
    assert!(shown.contains("/etc/group 644 root:*:0:\n"), "{shown}");
    assert!(!shown.contains("nsswitch"), "{shown}");
    let full = with(
        fields,
        &[
            file("./usr/share/base-passwd/passwd.master", "root:*:0:0::/root:/bin/bash\n"),
            file("./usr/share/libc-bin/nsswitch.conf", "hosts: files dns\n"),
            file("./usr/share/ca-certificates/mozilla/A, B (1).crt", PEM.trim_end()),
            file("./usr/share/ca-certificates/mozilla/C.crt", PEM),
        ],
    );
    let shown = show(&database(&[&full]).unwrap());
    for part in [
        "/etc/passwd 644 root:*:0:0::/root:/bin/bash\n",
        "/etc/nsswitch.conf 644 hosts: files dns\n",
        "/etc/ssl/certs/6c79209b.0 -> A__B_=1=.pem",
        "/etc/ssl/certs/6c79209b.1 -> C.pem",
        "/etc/ssl/certs/A__B_=1=.pem -> /usr/share/ca-certificates/mozilla/A, B (1).crt",
        &format!("/etc/ssl/certs/ca-certificates.crt 644 {PEM}{PEM}"),
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    let broken = with(fields, &[file("./usr/share/ca-certificates/x.crt", "no")]);
    let error = database(&[&broken]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/usr/share/ca-certificates/x.crt is no certificate: there is no PEM block"
    );
}

#[test]
fn control_information_is_checked() {
    let check = |files: &[Vec<u8>], part: &str| check_bytes(&package(&tar(files), &tar(&[])), Err(part));
    let fields = |fields: &str| [file("./control", fields)];
    check(&[], "there is no `control`");
    check(&fields("Package: ../x\nVersion: 1\nArchitecture: all\n"), "`Package: ../x` is not allowed");
    check(&fields("Package: x\nVersion: 1\n 2\nArchitecture: all\n"), "`Version: 1\\n 2` is not allowed");
    check(&fields("Package: x\nVersion: 1\n"), "`Architecture: ` is not allowed");
    check(&fields("Package: x\n\nPackage: y\n"), "`` is no field");
    check(&fields("Package: x\nPackage: y\n"), "`Package: y` is no field");
    check(&[file("./control", CONTROL), file("./control", CONTROL)], "two files `control`");
    check(&[file("./control", CONTROL), file("./list", "/etc/shadow\n")], "`./list` is no control file");
    check(&[file("./control", CONTROL), file("./../x", "")], "is no control file");
    check(&[file("./control", CONTROL), link("./postinst", "/bin/sh")], "is no control file");
}

#[test]
fn the_skeleton_is_the_architectures() {
    let shown = |architecture: &str| show(&skeleton(architecture).unwrap());
    assert!(shown("amd64").contains("/bin -> usr/bin\n"));
    assert!(shown("amd64").contains("/lib64 -> usr/lib64\n"));
    assert!(shown("arm64").contains("/lib -> usr/lib\n"));
    assert!(!shown("arm64").contains("/lib64"));
    let tree = skeleton("amd64").unwrap();
    let run = tree.get(&TreePath::new("var/run").unwrap()).unwrap();
    assert_eq!(run.kind, Kind::Symlink("/run".to_owned()));
}
