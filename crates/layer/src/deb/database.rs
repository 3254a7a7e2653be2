//! What a base has beside its packages: the folders that every system has, dpkg's database of all packages, and the few
//! files that maintainer scripts would have made and without which a base is not usable.
//!
//! The latter are copies of what packages bring for the purpose, and nothing else of the scripts is imitated:
//!
//! | file | from | made by the script of |
//! | --- | --- | --- |
//! | `etc/passwd`, `etc/group` | `usr/share/base-passwd/*.master` | base-passwd |
//! | `etc/profile`, `etc/motd`, `root/.profile`, `root/.bashrc` | `usr/share/base-files` | base-files |
//! | `etc/nsswitch.conf` | `usr/share/libc-bin/nsswitch.conf` | libc-bin |
//! | `etc/ssl/certs` | `usr/share/ca-certificates` | ca-certificates |
//!
//! There is no `etc/shadow` (it has dates, and `*` in `etc/passwd` locks an account as well), no `etc/ld.so.cache` (the
//! loader searches Debian's folders without it), no alternatives and no PAM profiles.

use std::collections::BTreeMap;

use super::MERGED;
use super::certificates::{self, CertificateError};
use super::control::Control;
use crate::tree::{Entry, Tree, TreeError, TreePath};

/// Why a base's database can't be made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// A package twice, in two versions or in one.
    #[error("package {name} is there twice: {first} and {second}")]
    Twice {
        /// The package, with its architecture where that is part of its name in the database.
        name: String,
        /// One version.
        first: String,
        /// The other.
        second: String,
    },
    /// A certificate of `ca-certificates` does not read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A path can't be added.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// The folders and links that lie beneath all packages: merged `/usr`, and the folders that programs count on.
///
/// `architecture` is Debian's word; it decides which `/lib…` links there are, as in debootstrap.
///
/// # Errors
/// None in fact; the type is that of every insertion into a tree.
pub fn skeleton(architecture: &str) -> Result<Tree, TreeError> {
    const FOLDERS: [(&str, u32); 24] = [
        ("boot", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("home", 0o755),
        ("media", 0o755),
        ("mnt", 0o755),
        ("opt", 0o755),
        ("proc", 0o755),
        ("root", 0o700),
        ("run", 0o755),
        ("run/lock", 0o1777),
        ("srv", 0o755),
        ("sys", 0o755),
        ("tmp", 0o1777),
        ("usr/local/bin", 0o755),
        ("usr/local/lib", 0o755),
        ("usr/local/sbin", 0o755),
        ("usr/local/share", 0o755),
        ("usr/share", 0o755),
        ("var/cache", 0o755),
        ("var/lib", 0o755),
        ("var/log", 0o755),
        ("var/spool", 0o755),
        ("var/tmp", 0o1777),
    ];
    let libraries: &[&str] = match architecture {
        "amd64" | "x32" => &["lib32", "lib64", "libx32"],
        "i386" => &["lib64", "libx32"],
        "ppc64el" | "loong64" => &["lib64"],
        "s390x" => &["lib32"],
        "mips64el" => &["lib32", "lib64", "libo32"],
        _ => &[],
    };
    let mut tree = Tree::new();
    for (path, mode) in FOLDERS {
        tree.insert(TreePath::new(path)?, Entry::directory(mode))?;
    }
    for (link, target) in MERGED {
        match link {
            "var/run" | "var/lock" => {
                tree.insert(TreePath::new(link)?, Entry::symlink(format!("/{target}")))?;
            }
            "bin" | "sbin" | "lib" => {
                tree.insert(TreePath::new(target)?, Entry::directory(0o755))?;
                tree.insert(TreePath::new(link)?, Entry::symlink(target))?;
            }
            _ if libraries.contains(&link) => {
                tree.insert(TreePath::new(target)?, Entry::directory(0o755))?;
                tree.insert(TreePath::new(link)?, Entry::symlink(target))?;
            }
            _ => {}
        }
    }
    Ok(tree)
}

/// What belongs to all packages of a base at once; the order in which they are given decides nothing.
///
/// # Errors
/// [`DatabaseError`].
pub fn database(packages: &[&Control]) -> Result<Tree, DatabaseError> {
    let mut by_name: BTreeMap<(&str, &str), &Control> = BTreeMap::new();
    for package in packages {
        // Two architectures of a package are two packages only if it says so.
        let apart = match package.field("Multi-Arch") {
            Some("same") => package.architecture.as_str(),
            _ => "",
        };
        if let Some(other) = by_name.insert((&package.name, apart), package) {
            let (first, second) = (other.version.clone(), package.version.clone());
            return Err(DatabaseError::Twice { name: package.database_name(), first, second });
        }
    }
    let mut tree = Tree::new();
    let mut insert = |path: &str, entry| tree.insert(TreePath::new(path)?, entry);
    let mut status = String::new();
    by_name.values().for_each(|package| write_stanza(&mut status, package));
    insert("var/lib/dpkg/status", Entry::bytes(status.into_bytes(), false))?;
    // Empty where nothing was diverted, overridden or offered; dpkg and its tools complain if they are missing.
    for empty in ["available", "diversions", "statoverride"] {
        insert(&format!("var/lib/dpkg/{empty}"), Entry::bytes([], false))?;
    }
    for folder in ["alternatives", "triggers", "updates"] {
        insert(&format!("var/lib/dpkg/{folder}"), Entry::directory(0o755))?;
    }
    insert("var/lib/dpkg/info/format", Entry::bytes(*b"1\n", false))?;
    for (name, text) in triggers(by_name.values().copied()) {
        insert(&format!("var/lib/dpkg/triggers/{name}"), Entry::bytes(text.into_bytes(), false))?;
    }
    let seeds: BTreeMap<&str, &str> = packages
        .iter()
        .flat_map(|package| &package.seeds)
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    add_defaults(&mut tree, &seeds)?;
    let certificates = seeds.iter().filter(|(path, _)| path.starts_with("usr/share/ca-certificates/"));
    certificates::add(&mut tree, certificates.map(|(path, text)| (*path, *text)))?;
    Ok(tree)
}

/// dpkg's order of fields (`fieldinfos` in its `parse.c`); others follow in the package's own order.
const FIELDS: [&str; 23] = [
    "Package",
    "Essential",
    "Protected",
    "Status",
    "Priority",
    "Section",
    "Installed-Size",
    "Origin",
    "Maintainer",
    "Bugs",
    "Architecture",
    "Multi-Arch",
    "Source",
    "Version",
    "Replaces",
    "Provides",
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Breaks",
    "Conflicts",
    "Enhances",
];

/// Writes a package's stanza as dpkg does.
fn write_stanza(status: &mut String, package: &Control) {
    let mut field = |name: &str, value: &str| {
        // A folded value begins on the next line.
        let blank = if value.starts_with('\n') || value.is_empty() { "" } else { " " };
        status.push_str(&format!("{name}:{blank}{value}\n"));
    };
    for name in FIELDS {
        match (name, package.field(name)) {
            ("Status", _) => {
                let state = if package.has_scripts { "unpacked" } else { "installed" };
                field(name, &format!("install ok {state}"));
            }
            // `no` is what a package is without the field, and dpkg leaves it away.
            ("Essential" | "Protected" | "Multi-Arch", Some("no")) | (_, None) => {}
            (_, Some(value)) => field(name, value),
        }
    }
    if !package.conffiles.is_empty() {
        let lines = package.conffiles.iter().map(|(path, md5)| format!("\n {path} {md5}"));
        field("Conffiles", &lines.collect::<String>());
    }
    if let Some(description) = package.field("Description") {
        field("Description", description);
    }
    let is_known = |name: &str| {
        FIELDS.iter().chain(&["Description", "Conffiles"]).any(|known| known.eq_ignore_ascii_case(name))
    };
    for (name, value) in package.fields.iter().filter(|(name, _)| !is_known(name)) {
        field(name, value);
    }
    status.push('\n');
}

/// dpkg's `triggers` folder: `File` with the paths that packages wait for, and a file for each named trigger. Without it
/// no package installed later would bring `ldconfig` to run.
fn triggers<'a>(packages: impl Iterator<Item = &'a Control>) -> BTreeMap<String, String> {
    // The marks of a database that awaits nothing.
    let mut files =
        BTreeMap::from([("File".to_owned(), String::new()), ("Unincorp".to_owned(), String::new())]);
    for package in packages {
        for (trigger, noawait) in &package.interests {
            let name = package.database_name();
            let option = if *noawait { "/noawait" } else { "" };
            if trigger.starts_with('/') {
                files.entry("File".to_owned()).or_default().push_str(&format!("{trigger} {name}{option}\n"));
            } else {
                files.entry(trigger.clone()).or_default().push_str(&format!("{name}{option}\n"));
            }
        }
    }
    files
}

/// Adds what maintainer scripts copy from the packages' own defaults.
fn add_defaults(tree: &mut Tree, seeds: &BTreeMap<&str, &str>) -> Result<(), TreeError> {
    // A base without base-passwd still needs names for the two users that every system has.
    const PASSWD: &str =
        "root:*:0:0:root:/root:/bin/sh\nnobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
    const GROUP: &str = "root:*:0:\nnogroup:*:65534:\n";
    const COPIES: [(&str, &str, Option<&str>); 7] = [
        ("usr/share/base-passwd/passwd.master", "etc/passwd", Some(PASSWD)),
        ("usr/share/base-passwd/group.master", "etc/group", Some(GROUP)),
        ("usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf", None),
        ("usr/share/base-files/profile", "etc/profile", None),
        ("usr/share/base-files/motd", "etc/motd", None),
        ("usr/share/base-files/dot.profile", "root/.profile", None),
        ("usr/share/base-files/dot.bashrc", "root/.bashrc", None),
    ];
    for (from, to, default) in COPIES {
        if let Some(text) = seeds.get(from).copied().or(default) {
            tree.insert(TreePath::new(to)?, Entry::bytes(text.as_bytes(), false))?;
        }
    }
    Ok(())
}
