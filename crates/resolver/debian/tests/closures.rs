//! Closures, judged by what apt chose (`record.sh`) and by small archives that show one rule each.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests may panic, as tests do.

use std::fmt::Write as _;

use imgforge_resolver_debian::{Error, Request, closure, essential, parse_packages};

fn read(path: &str) -> String {
    fs_err::read_to_string(format!("{}/tests/closures/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The closure over the recorded extracts, against apt's; in two orders of everything that must not matter.
fn check_apt(name: &str) {
    let texts = ["bookworm", "bookworm-updates", "bookworm-security"]
        .map(|suite| (suite, read(&format!("{suite}.packages"))));
    let mut indexes: Vec<_> =
        texts.iter().map(|(suite, text)| parse_packages(text.as_bytes(), suite).unwrap()).collect();
    let recorded = read(&format!("{name}.closure"));
    let (packages, expected) = recorded.split_once('\n').unwrap();
    let mut packages: Vec<&str> = packages.split_whitespace().collect();
    let request = |packages: &[&str], indexes: &[_]| {
        let request = Request { packages, architecture: "amd64", recommends: false, exclude: &[] };
        closure(indexes, &request).unwrap()
    };
    let forwards = request(&packages, &indexes);
    packages.reverse();
    indexes.reverse();
    assert_eq!(forwards, request(&packages, &indexes));
    let mut shown: Vec<String> = forwards.iter().map(|it| format!("{}={}", it.name, it.version)).collect();
    shown.sort();
    assert_eq!(shown.join("\n"), expected.trim_end());
    assert!(
        forwards.iter().all(|it| it.path.starts_with("pool/") && it.path.ends_with(".deb") && it.size > 0)
    );
}

#[test]
fn as_apt_python() {
    check_apt("python");
}

#[test]
fn as_apt_base() {
    check_apt("base");
}

#[test]
fn as_apt_devel() {
    check_apt("devel");
}

#[test]
fn as_apt_mail() {
    check_apt("mail");
}

#[test]
fn as_apt_java() {
    check_apt("java");
}

#[test]
fn as_apt_web() {
    check_apt("web");
}

#[test]
fn as_apt_older_versions() {
    check_apt("older");
}

/// `name version; Field: value; …` lines as a Packages file.
fn archive(lines: &str) -> String {
    let mut text = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut fields = line.split(';').map(str::trim);
        let (name, version) = fields.next().unwrap().split_once(' ').unwrap();
        let fields: Vec<&str> = fields.collect();
        if !fields.iter().any(|field| field.starts_with("Architecture:")) {
            text.push_str("Architecture: amd64\n");
        }
        let _ = write!(text, "Package: {name}\nVersion: {version}\nFilename: pool/{name}_{version}.deb\n");
        let _ = write!(text, "Size: 1\nSHA256: {:064x}\n{}\n\n", version.len(), fields.join("\n"));
    }
    text
}

/// The closure of `packages` (`-name` excludes, `+recommends` follows recommendations) over one small archive.
fn check(lines: &str, packages: &str, expected: Result<&str, &str>) {
    let text = archive(lines);
    let index = parse_packages(text.as_bytes(), "archive").unwrap();
    let words: Vec<&str> = packages.split_whitespace().collect();
    let exclude: Vec<&str> = words.iter().filter_map(|word| word.strip_prefix('-')).collect();
    let request = Request {
        packages: &words.iter().copied().filter(|word| !word.starts_with(['-', '+'])).collect::<Vec<_>>(),
        architecture: "amd64",
        recommends: words.contains(&"+recommends"),
        exclude: &exclude,
    };
    let shown = closure(&[index], &request).map(|found| {
        found.iter().map(|it| format!("{}={}", it.name, it.version)).collect::<Vec<_>>().join(" ")
    });
    match (shown, expected) {
        (Ok(shown), Ok(expected)) => assert_eq!(shown, expected),
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
        (result, expected) => panic!("expected {expected:?}, not {result:?}"),
    }
}

#[test]
fn dependencies_are_followed() {
    check("a 1", "", Ok(""));
    check("a 1; Depends: b, c\n b 1; Pre-Depends: d\n c 1\n d 1\n e 1", "a", Ok("a=1 b=1 c=1 d=1"));
    check("a 1; Depends: b\n b 1; Depends: a", "b", Ok("a=1 b=1"));
    check("a 1; Depends: b (>= 2)\n b 1\n b 2\n b 3", "a", Ok("a=1 b=3"));
    check("a 1; Recommends: b; Suggests: c\n b 1\n c 1", "a", Ok("a=1"));
    check("a 1; Recommends: b, x\n b 1\n c 1", "a +recommends", Ok("a=1 b=1"));
    check("a 1; Recommends: b\n b 1; Depends: x", "a +recommends", Ok("a=1"));
}

#[test]
fn alternatives_are_taken_in_order() {
    check("a 1; Depends: b | c\n b 1\n c 1", "a", Ok("a=1 b=1"));
    check("a 1; Depends: b | c\n b 1\n c 1", "a c", Ok("a=1 c=1"));
    check("a 1; Depends: b (>= 2) | c\n b 1\n c 1", "a", Ok("a=1 c=1"));
    check("a 1; Depends: x | c\n c 1", "a", Ok("a=1 c=1"));
    check("a 1; Depends: b | c\n b 1; Conflicts: a\n c 1", "a", Ok("a=1 c=1"));
    check("a 1; Depends: b | c\n b 1; Depends: x\n c 1", "a", Ok("a=1 c=1"));
    check("a 1; Depends: b | c, d\n b 1\n c 1\n d 1; Breaks: b", "a", Ok("a=1 c=1 d=1"));
}

#[test]
fn virtual_packages_are_provided() {
    let archive =
        "a 1; Depends: v\n m 1; Provides: v; Priority: optional\n n 1; Provides: v; Priority: required";
    check(archive, "a", Ok("a=1 n=1"));
    check(archive, "a m", Ok("a=1 m=1"));
    check(archive, "a -n", Ok("a=1 m=1"));
    check(archive, "v", Err("name one of those that provide it: m, n"));
    check("m 1; Provides: v\n n 1; Provides: v\n n 2", "v", Ok("m=1"));
    check("m 1; Provides: v", "v=1", Err("name one of those that provide it: m"));
    check("a 1; Depends: v (>= 2)\n m 1; Provides: v\n n 1; Provides: v (= 2)", "a", Ok("a=1 n=1"));
    check("a 1; Depends: v (>= 3)\n n 1; Provides: v (= 2)", "a", Err("v (>= 3) cannot be satisfied"));
    check("a 1; Depends: v\n v 1\n n 1; Provides: v; Priority: required", "a", Ok("a=1 v=1"));
    check(
        "a 1; Depends: v\n m 1; Provides: v\n n 1; Provides: v\n o 1; Provides: v\n o 2",
        "a",
        Ok("a=1 n=1"),
    );
}

#[test]
fn architectures_are_kept_apart() {
    check("a 1\n a 2; Architecture: arm64", "a", Ok("a=1"));
    check("a 1; Depends: b\n b 1; Architecture: all", "a", Ok("a=1 b=1"));
    check("a 1; Depends: b:any\n b 1; Multi-Arch: allowed", "a", Ok("a=1 b=1"));
    check("a 1; Depends: b:any\n b 1", "a", Err("b:any cannot be satisfied"));
    check("a 1; Depends: b:native, c:amd64\n b 1\n c 1", "a", Ok("a=1 b=1 c=1"));
    check("a 1; Depends: b:arm64 | c\n b 1\n c 1", "a", Ok("a=1 c=1"));
}

#[test]
fn versions_are_pinned() {
    let archive = "a 1; Depends: b (= 1)\n a 2; Depends: b (= 2)\n b 1\n b 2\n c 1; Depends: a";
    check(archive, "a", Ok("a=2 b=2"));
    check(archive, "a=1", Ok("a=1 b=1"));
    check(archive, "c a=1", Ok("a=1 b=1 c=1"));
    check(archive, "a a=1", Ok("a=1 b=1"));
    check(archive, "a=1 b=2", Err("b 2 is requested"));
    check(archive, "a=1 a=2", Err("contradicting requests for a: a=1 and a=2"));
    check(archive, "a=3", Err("there is: 2, 1"));
    check(archive, "a -a", Err("contradicting requests"));
    check(archive, "a:arm64", Err("write `name` or `name=version`"));
    check(archive, "a=", Err("write `name` or `name=version`"));
}

#[test]
fn conflicts_are_refused() {
    check("a 1; Conflicts: b\n b 1", "a b", Err("a 1 conflicts with b\n"));
    check("a 1; Breaks: b (<< 2)\n b 1", "a b", Err("a 1 breaks b (<< 2)\n"));
    check("a 1; Breaks: b (<< 2)\n b 2", "a b", Ok("a=1 b=2"));
    check("a 1; Conflicts: v; Provides: v\n b 1", "a b", Ok("a=1 b=1"));
    check("a 1; Conflicts: v; Provides: v\n b 1; Provides: v", "a b", Err("a 1 conflicts with v\n"));
    check("a 1; Conflicts: v (<< 3)\n b 1; Provides: v", "a b", Ok("a=1 b=1"));
    check(
        "a 1; Depends: b\n b 1; Depends: c\n c 1; Conflicts: d\n d 1",
        "a d",
        Err("  c 1\n  needed by b 1\n  needed by a 1, which is requested\n  d 1 is requested"),
    );
}

#[test]
fn obstacles_are_explained() {
    check(
        "a 1; Depends: b\n b 2; Depends: c (>= 5) | x\n c 4",
        "a",
        Err("c (>= 5) | x cannot be satisfied\n  b 2\n  needed by a 1, which is requested\n  \
             c (>= 5): there is only c 4\n  x: no index has it, or it is excluded"),
    );
    check("python3-minimal 1\n perl 1", "python3-minmal", Err("did you mean python3-minimal?"));
    check("python3-minimal 1\n perl 1", "emacs", Err("there is no package `emacs` for amd64"));
    check("a 1; Depends: b [amd64]\n b 1", "a", Err("archive:"));
}

/// Depth and breadth that no stack and no search must suffer from.
#[test]
fn large_archives_end() {
    let mut lines = String::new();
    for at in 0..20_000 {
        let _ = writeln!(lines, "p{at} 1; Depends: p{}", at + 1);
    }
    lines.push_str("p20000 1");
    let text = archive(&lines);
    let index = parse_packages(text.as_bytes(), "archive").unwrap();
    let request = Request { packages: &["p18000"], architecture: "amd64", recommends: false, exclude: &[] };
    assert_eq!(closure(&[index], &request).unwrap().len(), 2001);
    // Forty choices that have nothing to do with the obstacle behind them: 2^40 sets, none of which works.
    let mut lines = String::from("a 1; Depends: ");
    (0..40).for_each(|at| {
        let _ = write!(lines, "x{at} | y{at}, ");
    });
    lines.push_str("missing\n");
    (0..40).for_each(|at| {
        let _ = write!(lines, "x{at} 1\ny{at} 1\n");
    });
    check(&lines, "a", Err("missing cannot be satisfied"));
}

#[test]
fn the_newest_of_all_indexes_wins() {
    let texts = [archive("a 1.0"), archive("a 1.0-1+deb12u2"), archive("a 1.0-1")];
    let indexes = [("x", &texts[0]), ("y", &texts[1]), ("z", &texts[2])]
        .map(|(source, text)| parse_packages(text.as_bytes(), source).unwrap());
    let request = Request { packages: &["a"], architecture: "amd64", recommends: false, exclude: &[] };
    let [found] = closure(&indexes, &request).unwrap().try_into().unwrap();
    assert_eq!((found.version.as_str(), found.source.as_str()), ("1.0-1+deb12u2", "y"));
}

#[test]
fn essential_packages_are_listed() {
    let text = archive("b 1; Essential: yes\n a 1\n b 2; Essential: yes\n c 1; Essential: yes\n c 2");
    let index = parse_packages(text.as_bytes(), "archive").unwrap();
    assert_eq!(essential(&[index], "amd64").unwrap(), ["b"]);
}

#[test]
fn hostile_indexes_are_refused() {
    let check = |from: &str, to: &str, part: &str| {
        let text = archive("a 1").replace(from, to);
        let error = parse_packages(text.as_bytes(), "archive").unwrap_err();
        assert!(matches!(error, Error::Control { .. }));
        assert!(error.to_string().starts_with("archive:1: "), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    check("pool/", "../pool/", "Filename");
    check("pool/", "/pool/", "Filename");
    check("pool/", "pool//", "Filename");
    check("pool/", "https://example.org/x?/", "Filename");
    check("Package: a", "Package: ../a", "Package");
    check("Version: 1", "Version: 1/..", "Version");
    check("SHA256: 0", "SHA256: X", "SHA256");
    check("Size: 1", "Size: -1", "Size");
    check("Size: 1\n", "", "no `Size` field");
    assert!(
        parse_packages(b"Package: \xff\n", "archive").unwrap_err().to_string().starts_with("archive:1: ")
    );
}
