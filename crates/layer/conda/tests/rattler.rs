//! Generated packages, as rattler's installer leaves them and as imgforge plans them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/package.rs"]
#[allow(dead_code, reason = "some of it is for hostile packages")]
mod package;
#[path = "common/rattler.rs"]
mod reference;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use imgforge_layer::{Tree, TreePath};
use imgforge_layer_conda::Planned;
use package::{PLACEHOLDER, Package, REMOVED};
use proptest::prelude::*;
use rattler_conda_types::{PackageRecord, RepoDataRecord};
use reference::{Listing, What, apply, differences, install, plan_all, records, stack, write_packages};
use serde_json::json;

const PREFIX: &str = "/opt/conda";

/// Packages in a folder, in the order in which rattler links them.
struct Packages {
    folder: tempfile::TempDir,
    paths: Vec<PathBuf>,
    records: Vec<RepoDataRecord>,
}

impl Packages {
    fn write(archives: &[(String, Vec<u8>)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = write_packages(archives, folder.path());
        let records = PackageRecord::sort_topologically(block_on(records(&paths)));
        let paths = records.iter().map(|record| folder.path().join(record.identifier.to_string())).collect();
        Self { folder, paths, records }
    }

    fn rattler(&self, prefix: &str) -> Result<Listing, String> {
        block_on(install(&self.records, prefix, self.folder.path()))
    }

    fn plan(&self, prefix: &str) -> Result<Vec<Planned>, String> {
        plan_all(&self.paths, &self.records, &TreePath::new(prefix).unwrap(), self.folder.path())
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

/// What is seen of an environment whose packages' layers lie in some orders. It must be the same for all.
#[track_caller]
fn ours(planned: &[Planned], prefix: &str) -> Listing {
    let prefix = TreePath::new(prefix).unwrap();
    let trees = stack(planned, &prefix);
    let packages = planned.len();
    let mut orders = vec![(0..packages).collect::<Vec<_>>(), (0..packages).rev().collect()];
    orders.extend((1..packages).map(|first| (first..packages).chain(0..first).collect()));
    let see = |order: &Vec<usize>| {
        let packages: Vec<&Tree> = order.iter().map(|package| &trees[package + 1]).collect();
        apply([&trees[0]].into_iter().chain(packages).chain(trees.last()), &prefix)
    };
    let first = see(&orders[0]);
    for order in &orders[1..] {
        let differences = differences(&first, &see(order));
        assert!(differences.is_empty(), "layers {order:?} give something else: {differences:#?}");
    }
    first
}

#[track_caller]
fn same_at(packages: &[Package], prefix: &str) -> Listing {
    let mut listing = Listing::new();
    for format in [Package::conda, Package::tar_bz2] {
        let packages = Packages::write(&packages.iter().map(format).collect::<Vec<_>>());
        let expected = packages.rattler(prefix).unwrap();
        listing = ours(&packages.plan(prefix).unwrap(), prefix);
        let differences = differences(&expected, &listing);
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
    listing
}

#[track_caller]
fn same(packages: &[Package]) -> Listing {
    same_at(packages, PREFIX)
}

fn demo() -> Package {
    Package::new("demo")
}

fn python() -> Package {
    let mut python = Package::new("python").file("bin/python3.11", "ELF", 0o755);
    python.version = "3.11.2".to_owned();
    python.index["version"] = json!("3.11.2");
    python
}

fn text() -> String {
    format!("#!{PLACEHOLDER}/bin/python -I\nprefix={PLACEHOLDER}\n{PLACEHOLDER}{PLACEHOLDER}:{PLACEHOLDER}")
}

fn binary() -> Vec<u8> {
    format!("\x7fELF\0{PLACEHOLDER}/lib:{PLACEHOLDER}/lib64\0\0after\0{PLACEHOLDER}\0{PLACEHOLDER}/end")
        .into_bytes()
}

#[test]
fn nothing() {
    assert_eq!(same(&[demo()]).len(), 4);
}

#[test]
fn files_and_modes() {
    let modes = [0o644, 0o755, 0o664, 0o775, 0o600, 0o444, 0o4755, 0o2711, 0o1777];
    let package = modes.iter().fold(demo(), |package, mode| {
        package.file(&format!("share/{mode:o}"), format!("{mode}"), *mode).text(
            &format!("share/text-{mode:o}"),
            text(),
            *mode,
        )
    });
    let listing = same(&[package]);
    assert!(matches!(listing["share/4755"], What::File { mode: 0o755, .. }));
}

#[test]
fn compiled_python_is_kept() {
    let listing = same(&[demo().file("lib/__pycache__/a.cpython-311.pyc", [0x6f, 0x0d, 0, 0], 0o644)]);
    assert!(listing.contains_key("lib/__pycache__/a.cpython-311.pyc"));
}

#[test]
fn long_names() {
    let folder = "folder/".repeat(30);
    let name = format!("{folder}{}", "n".repeat(200));
    same(&[demo().file(&name, "x", 0o644).link("link", &name).link("other", &"../x/".repeat(60))]);
}

#[test]
fn links() {
    same(&[demo()
        .file("lib/a.so.1", "a", 0o755)
        .link("lib/a.so", "a.so.1")
        .link("lib/none", "nothing/there")
        .link("lib/absolute", "/etc/passwd")
        .link("lib/outside", "../../../../etc/passwd")
        .link("lib/folder", "../lib")
        .link("lib/placeholder", &format!("{PLACEHOLDER}/lib"))]);
}

#[test]
fn links_that_are_copied() {
    let no_link = json!({"no_link": true});
    let placeholder = json!({"file_mode": "text", "prefix_placeholder": PLACEHOLDER});
    let listing = same(&[demo()
        .text("share/text", text(), 0o755)
        .file("share/folder/file", "content", 0o600)
        .link("share/way", "folder/../folder")
        .listed_link("share/copy", "./folder/file", &no_link)
        .listed_link("share/by-a-way", "way/file", &no_link)
        .listed_link("share/of-a-text", "text", &no_link)
        .listed_link("share/nothing", "not/there", &no_link)
        .listed_link("share/replaced", "text", &placeholder)]);
    assert!(matches!(listing["share/copy"], What::File { len: 7, mode: 0o600, .. }));
    assert!(!listing.contains_key("share/nothing"));
}

#[test]
fn hard_links() {
    let package = demo()
        .file("bin/git", "git", 0o755)
        .hard_link("bin/git-add", "bin/git", &json!({}))
        .hard_link("bin/a", "bin/git", &json!({}))
        .hard_link("bin/copy", "bin/git", &json!({"no_link": true}))
        .binary("lib/b", binary(), 0o644)
        .hard_link("lib/a", "lib/b", &json!({}))
        .hard_link("lib/c", "lib/b", &json!({"file_mode": null, "prefix_placeholder": null}));
    same(std::slice::from_ref(&package));
    let packages = Packages::write(&[package.conda()]);
    let tree = &packages.plan(PREFIX).unwrap()[0].tree;
    let links = tree.iter().filter(|(_, entry)| matches!(entry.kind, imgforge_layer::Kind::Hardlink(_)));
    assert_eq!(links.count(), 2);
}

#[test]
fn no_hash_and_no_size() {
    let nothing = json!({"sha256": null, "size_in_bytes": null});
    same(&[demo()
        .file("a", "content", 0o644)
        .claim(nothing.clone())
        .text("b", text(), 0o644)
        .claim(nothing.clone())
        .binary("c", binary(), 0o644)
        .claim(nothing.clone())
        .link("d", "a")
        .claim(nothing)]);
}

#[test]
fn packages_from_before_paths_json() {
    let has_prefix = format!("lib/old\n{PLACEHOLDER} text bin/new\n\"{PLACEHOLDER}\" binary \"lib/a b\"\n");
    let package = demo()
        .file("bin/new", text(), 0o755)
        .file("lib/a b", binary(), 0o644)
        .file("lib/old", "see /opt/anaconda1anaconda2anaconda3/lib", 0o644)
        .file("share/copy", "x", 0o644)
        .link("share/link", "copy")
        .link("share/no-softlink", "copy")
        .with_info("info/paths.json", REMOVED)
        .with_info("info/files", "bin/new\nlib/a b\nlib/old\nshare/copy\nshare/link\nshare/no-softlink\n")
        .with_info("info/has_prefix", has_prefix)
        .with_info("info/no_link", "share/copy\n")
        .with_info("info/no_softlink", "share/no-softlink\n");
    same(&[package]);
}

#[test]
fn prefixes() {
    let package = demo()
        .text("bin/python-script", text(), 0o755)
        .text("bin/perl-script", format!("#!{PLACEHOLDER}/bin/perl -w\nuse lib '{PLACEHOLDER}';\n"), 0o755)
        .text("bin/sh-script", format!("#!/bin/sh\necho {PLACEHOLDER}\n"), 0o755)
        .text("bin/one-line", format!("#!{PLACEHOLDER}/bin/python"), 0o755)
        .text("bin/no-placeholder", "#!/bin/sh\n", 0o755)
        .text("bin/not-utf8", [b"#!/bin/sh \xff\xfe ", PLACEHOLDER.as_bytes(), b"\n\xff"].concat(), 0o755)
        .text("bin/empty", "", 0o644)
        .binary("lib/a.so", binary(), 0o644)
        .binary("lib/none", "nothing", 0o644)
        .binary("lib/empty", "", 0o644);
    for prefix in
        [PREFIX, "/c", "/opt/my conda", &format!("/opt/{}", "long/".repeat(30)), &PLACEHOLDER[..150]]
    {
        same_at(std::slice::from_ref(&package), prefix.trim_end_matches('/'));
    }
}

#[test]
fn a_prefix_that_is_too_long_is_refused_by_both() {
    let prefix = format!("/{}", "x".repeat(250)).repeat(2);
    let packages = Packages::write(&[demo().binary("lib/a.so", binary(), 0o644).conda()]);
    let rattler = packages.rattler(&prefix).unwrap_err();
    assert!(rattler.contains("target prefix cannot be longer"), "{rattler}");
    let ours = packages.plan(&prefix).unwrap_err();
    assert!(ours.contains("lib/a.so") && ours.contains("choose a shorter prefix"), "{ours}");
    // A text takes any prefix.
    same_at(&[demo().text("share/text", text(), 0o644)], &prefix);
}

#[test]
fn wide_characters() {
    for encode in [u16::to_le_bytes, u16::to_be_bytes] {
        let wide = |text: &str| text.encode_utf16().flat_map(encode).collect::<Vec<u8>>();
        let string = [wide(&format!("{PLACEHOLDER}/lib\0")), wide("next\0")].concat();
        for shift in 0..3 {
            let bytes = [vec![1; shift], string.clone(), string.clone(), wide(PLACEHOLDER)].concat();
            same(&[demo().binary("lib/wide", bytes.clone(), 0o644).text("share/wide", bytes, 0o644)]);
        }
    }
}

#[test]
fn placeholders_at_the_borders_of_pieces() {
    const PIECE: usize = 256 << 10;
    let len = PLACEHOLDER.len();
    let places = [PIECE - len, 2 * PIECE - len - 1, 3 * PIECE - 1, 4 * PIECE, 5 * PIECE + 1, 6 * PIECE - 7];
    let file = |filler: u8| {
        let mut bytes = vec![filler; 6 * PIECE + 1000];
        for place in places {
            bytes[place..place + len].copy_from_slice(PLACEHOLDER.as_bytes());
        }
        bytes
    };
    same(&[demo().text("share/text", file(b'.'), 0o644).binary("lib/apart", file(0), 0o644).binary(
        "lib/one-string",
        file(b'.'),
        0o644,
    )]);
}

#[test]
fn modules() {
    let package = Package::new("modules")
        .noarch_python(&["tool = modules.cli:main", "other=modules:Group.run", "script = modules:replaces"])
        .file("site-packages/modules/__init__.py", "", 0o644)
        .text("site-packages/modules/prefix.py", format!("PREFIX = '{PLACEHOLDER}'\n"), 0o644)
        .text("python-scripts/script", text(), 0o755)
        .file("etc/modules.cfg", "x", 0o644)
        .file("site-packages-not/x", "x", 0o644);
    let listing = same(&[python(), package.clone()]);
    assert!(matches!(listing["bin/tool"], What::File { mode: 0o775, .. }));
    assert!(listing.contains_key("lib/python3.11/site-packages/modules/__init__.py"));
    same_at(&[python(), package.clone()], "/opt/my conda");
    same_at(&[python(), package], &format!("/opt/{}", "x".repeat(120)));
}

#[test]
fn data_for_any_platform() {
    same(&[demo().noarch_generic().file("site-packages/x", "x", 0o644)]);
}

#[test]
fn modules_without_python_are_refused_by_both() {
    let packages =
        Packages::write(&[demo().noarch_python(&[]).file("site-packages/a.py", "", 0o644).conda()]);
    assert!(packages.rattler(PREFIX).unwrap_err().contains("no python version specified"));
    assert!(packages.plan(PREFIX).unwrap_err().contains("no python among the environment's packages"));
}

#[test]
fn empty_folders_are_made() {
    let packages = Packages::write(&[demo()
        .folder("var/empty")
        .file("var/lib/x", "x", 0o644)
        .folder("var/lib")
        .conda()]);
    // Should rattler learn it one day, this is to be compared.
    assert!(packages.rattler(PREFIX).unwrap_err().contains("failed to link 'var/"));
    let listing = ours(&packages.plan(PREFIX).unwrap(), PREFIX);
    assert_eq!(listing["var/empty"], What::Folder);
}

/// Packages that only have paths: each path's content is the package's name.
fn having(packages: &[(&str, &[&str], &[&str])]) -> Vec<Package> {
    let package = |(name, depends, paths): &(&str, &[&str], &[&str])| {
        let package = Package::new(name).depends(depends);
        paths.iter().fold(package, |package, path| package.file(path, *name, 0o644))
    };
    packages.iter().map(package).collect()
}

#[test]
fn one_path_two_packages() {
    let listing = same(&having(&[("a", &[], &["x", "own"]), ("b", &[], &["x"])]));
    assert!(listing.contains_key("__clobbers__/b/x"));
}

#[test]
fn what_depends_on_another_wins() {
    let listing = same(&having(&[("a", &[], &["lib/x", "lib/y"]), ("b", &["a"], &["lib/x"])]));
    assert!(listing.contains_key("__clobbers__/a/lib/x"));
    same(&having(&[("b", &[], &["lib/x"]), ("a", &["b"], &["lib/x"])]));
}

#[test]
fn one_path_three_packages() {
    same(&having(&[("a", &[], &["x", "y"]), ("b", &["a"], &["x", "z"]), ("c", &["a"], &["x", "y", "z"])]));
    same(&having(&[("c", &["b"], &["x"]), ("b", &["a"], &["x"]), ("a", &[], &["x"])]));
}

#[test]
fn the_same_content_is_disputed_too() {
    let a = Package::new("a").file("x", "same", 0o644);
    let b = Package::new("b").file("x", "same", 0o644);
    same(&[a, b]);
}

#[test]
fn links_are_disputed() {
    let a = Package::new("a").link("lib/x.so", "x.so.1").file("lib/x.so.1", "a", 0o755);
    let b = Package::new("b").depends(&["a"]).link("lib/x.so", "x.so.2").text("lib/x.so.1", text(), 0o644);
    same(&[a, b]);
}

#[test]
fn one_name_of_a_file_with_several_is_disputed() {
    let a = Package::new("a").file("bin/x", "a", 0o755).hard_link("bin/y", "bin/x", &json!({}));
    let b = Package::new("b").file("bin/x", "b", 0o755);
    same(&[a.clone(), b.clone()]);
    same(&[a.depends(&["b"]), b]);
}

#[test]
fn modules_are_disputed() {
    let modules = |name: &str| {
        Package::new(name).depends(&["python"]).noarch_python(&[]).file(
            "site-packages/tests/__init__.py",
            name,
            0o644,
        )
    };
    same(&[python(), modules("a"), modules("b")]);
}

#[test]
fn a_folder_in_the_place_of_a_file() {
    same(&having(&[("a", &[], &["x"]), ("b", &["a"], &["x/y"])]));
    same(&having(&[("b", &["a"], &["x/y", "x/z"]), ("a", &[], &["x"])]));
}

#[test]
fn what_nothing_stands_in_the_way_of_stands() {
    // Rattler puts one or the other file aside, or none, by the order in which it links the packages.
    let packages = Packages::write(
        &having(&[("a", &[], &["x"]), ("b", &["a"], &["x/y"]), ("c", &["a"], &["x/z"])])
            .iter()
            .map(Package::conda)
            .collect::<Vec<_>>(),
    );
    let listing = ours(&packages.plan(PREFIX).unwrap(), PREFIX);
    for path in ["x/y", "x/z", "__clobbers__/a/x"] {
        assert!(matches!(listing[path], What::File { .. }), "{path}");
    }
}

#[test]
fn a_file_in_the_place_of_a_folder() {
    let packages = Packages::write(&[
        having(&[("a", &[], &["x/y"])])[0].conda(),
        having(&[("b", &["a"], &["x"])])[0].conda(),
    ]);
    // Documented: if rattler happens to link `a` first, it leaves the emptied folder in the way of the file, which its
    // record says is there.
    let rattler = packages.rattler(PREFIX).unwrap();
    assert_eq!(rattler["x"] == What::Folder, rattler.contains_key("__clobbers__/b/x"));
    let listing = ours(&packages.plan(PREFIX).unwrap(), PREFIX);
    assert!(matches!(listing["x"], What::File { .. }));
    assert!(matches!(listing["__clobbers__/a/x/y"], What::File { .. }));
    assert_eq!(rattler["conda-meta/b-1.0-h0_0.json"], listing["conda-meta/b-1.0-h0_0.json"]);
}

#[test]
fn a_command_over_a_file() {
    // Rattler links in whatever order packages come; here the later one has the path.
    let command =
        |depends: &[&str]| Package::new("modules").depends(depends).noarch_python(&["tool = modules:main"]);
    let tool = |depends: &[&str]| Package::new("tool").depends(depends).file("bin/tool", "tool", 0o755);
    for (packages, mode) in [
        ([python(), tool(&["python"]), command(&["tool"])], 0o775),
        ([python(), command(&["python"]), tool(&["modules"])], 0o755),
    ] {
        let packages = Packages::write(&packages.each_ref().map(Package::conda));
        let listing = ours(&packages.plan(PREFIX).unwrap(), PREFIX);
        assert!(matches!(listing["bin/tool"], What::File { mode: found, .. } if found == mode));
        assert!(!listing.keys().any(|path| path.starts_with("__clobbers__")));
    }
}

#[test]
fn records_of_packages_that_no_lock_describes() {
    let (name, bytes) = demo().file("a", "x", 0o644).conda();
    let packages = Packages::write(&[(name.clone(), bytes)]);
    let prefix = TreePath::new(PREFIX).unwrap();
    let record = &packages.records[0].package_record;
    let package = imgforge_layer_conda::Package {
        file_name: &name,
        record: None,
        url: Some("https://user:password@example.org/channel/linux-64/demo-1.0-h0_0.conda#hash"),
        sha256: Some(imgforge_oci::Digest::from_bytes(record.sha256.unwrap().into())),
        md5: None,
    };
    let source = imgforge_layer::Source::open(&packages.paths[0]).unwrap();
    let installation = imgforge_layer_conda::Installation { prefix: &prefix, python: None };
    let planned =
        imgforge_layer_conda::plan(&source, &package, &installation, packages.folder.path()).unwrap();
    let json: serde_json::Value = serde_json::from_str(&planned.record.json().unwrap()).unwrap();
    assert_eq!(json["url"], "https://example.org/channel/linux-64/demo-1.0-h0_0.conda");
    assert_eq!(json["channel"], "https://example.org/channel");
    assert_eq!(json["fn"], name);
    assert_eq!(json["sha256"], serde_json::to_value(record).unwrap()["sha256"]);
    assert_eq!(json["size"], record.size.unwrap());
    assert_eq!(imgforge_layer_conda::Record::parse(&planned.record.json().unwrap()).unwrap(), planned.record);
    // And a lock's record of the same package gives the same, but for where it is from.
    let other = packages.plan(PREFIX).unwrap().remove(0);
    let mut other: serde_json::Value = serde_json::from_str(&other.record.json().unwrap()).unwrap();
    assert_eq!(other["url"], "file:///linux-64/demo-1.0-h0_0.conda");
    assert_eq!(other["channel"], json!(null));
    other["url"] = json["url"].clone();
    other["channel"] = json["channel"].clone();
    assert_eq!(other, json);
}

#[test]
fn link_scripts_are_reported() {
    let package = demo()
        .file("bin/.demo-post-link.sh", "#!/bin/sh\n", 0o755)
        .file("bin/.demo-pre-unlink.sh", "#!/bin/sh\n", 0o755)
        .file("bin/.other-post-link.sh", "#!/bin/sh\n", 0o755);
    same(std::slice::from_ref(&package));
    let planned = Packages::write(&[package.conda()]).plan(PREFIX).unwrap().remove(0);
    let scripts: Vec<_> =
        planned.link_scripts.iter().map(|script| (script.when.as_str(), script.path.as_str())).collect();
    assert_eq!(
        scripts,
        [
            ("post-link", "opt/conda/bin/.demo-post-link.sh"),
            ("pre-unlink", "opt/conda/bin/.demo-pre-unlink.sh")
        ]
    );
}

/// Where rattler puts the files of packages that it links in this order: each path and the packages that have it, the
/// winner last. The steps are those of its `clobber_registry.rs`.
fn resolved(packages: &[(&str, BTreeSet<String>)], order: &[usize]) -> BTreeSet<(usize, String)> {
    let mut resolver = path_resolver::PathResolver::new();
    let mut aside = BTreeSet::new();
    for &package in order {
        let (name, paths) = &packages[package];
        let paths: Vec<_> = paths.iter().collect();
        let taken = resolver.insert_package((*name).into(), &paths);
        aside.extend(taken.into_iter().map(|path| (package, path.to_str().unwrap().to_owned())));
    }
    let (removed, added) =
        resolver.reprioritize_packages(packages.iter().map(|(name, _)| (*name).into()).collect());
    let number = |name: &str| packages.iter().position(|(other, _)| *other == name).unwrap();
    let moves = |moves: path_resolver::ToClobbers| -> BTreeSet<_> {
        moves.into_iter().map(|(path, name)| (number(&name), path.to_str().unwrap().to_owned())).collect()
    };
    let (removed, added) = (moves(removed), moves(added));
    aside.extend(removed.difference(&added).cloned());
    aside.retain(|claim| !added.contains(claim) || removed.contains(claim));
    aside
}

fn orders(of: usize) -> Vec<Vec<usize>> {
    if of == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(of - 1);
    let insert = |order: &Vec<usize>| {
        (0..of).map(|at| [&order[..at], &[of - 1], &order[at..]].concat()).collect::<Vec<_>>()
    };
    shorter.iter().flat_map(insert).collect()
}

/// Few packages with few paths: files, and files where others have folders.
fn paths_of_packages() -> impl Strategy<Value = Vec<BTreeSet<String>>> {
    let without_folders = |paths: BTreeSet<String>| -> BTreeSet<String> {
        let is_folder = |path: &&String| paths.iter().any(|other| other.starts_with(&format!("{path}/")));
        paths.iter().filter(|path| !is_folder(path)).cloned().collect()
    };
    let paths = prop::collection::btree_set("[ab](/[ab]){0,2}", 1..4).prop_map(without_folders);
    prop::collection::vec(paths, 2..5)
}

/// Packages in a row, each of which depends on the one before it.
fn in_a_row(paths: &[BTreeSet<String>]) -> Vec<Package> {
    let names = ["q", "p", "s", "r"];
    let package = |(number, paths): (usize, &BTreeSet<String>)| {
        let depends = number.checked_sub(1).map(|before| names[before]);
        let package = Package::new(names[number]).depends(depends.as_slice());
        paths.iter().fold(package, |package, path| package.file(path, names[number], 0o644))
    };
    paths.iter().enumerate().map(package).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever packages have in common, layers in any order give the same; and where only files dispute, what stands aside
    /// is what rattler puts aside.
    #[test]
    fn disputes(paths in paths_of_packages()) {
        let built = in_a_row(&paths);
        let packages = Packages::write(&built.iter().map(Package::tar_bz2).collect::<Vec<_>>());
        let planned = packages.plan(PREFIX).unwrap();
        let listing = ours(&planned, PREFIX);
        let named: Vec<_> = built.iter().map(|package| package.name.as_str()).zip(paths.iter().cloned()).collect();
        let all: BTreeSet<_> = orders(paths.len()).iter().map(|order| resolved(&named, order)).collect();
        let aside: BTreeSet<_> = named.iter().enumerate().flat_map(|(number, (name, paths))| {
            let is_aside = |path: &&String| listing.contains_key(&format!("__clobbers__/{name}/{path}"));
            paths.iter().filter(is_aside).map(move |path| (number, path.clone())).collect::<Vec<_>>()
        }).collect();
        let every: BTreeSet<&String> = paths.iter().flatten().collect();
        let is_folder = |path: &&&String| every.iter().any(|other| other.starts_with(&format!("{path}/")));
        let files_alone = every.iter().find(is_folder).is_none();
        prop_assert!(!files_alone || all.contains(&aside), "{aside:?} is none of {all:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// The same with files only, by rattler's installer itself.
    #[test]
    fn disputed_files(paths in prop::collection::vec(prop::collection::btree_set("[ab]", 1..3), 2..5)) {
        same(&in_a_row(&paths));
    }
}

#[test]
fn scratch_files_are_left_nowhere() {
    let big = demo().file("lib/big", vec![7; 3 << 20], 0o644);
    let packages = Packages::write(&[big.conda()]);
    let before = names(packages.folder.path());
    let planned = packages.plan(PREFIX).unwrap();
    assert_eq!(names(packages.folder.path()), before);
    assert!(matches!(ours(&planned, PREFIX)["lib/big"], What::File { len: 0x30_0000, .. }));
}

fn names(folder: &Path) -> BTreeSet<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}
