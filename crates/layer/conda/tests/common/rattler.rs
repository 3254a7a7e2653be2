//! What rattler's own installer leaves of packages, and what imgforge makes of them, in one form.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use imgforge_layer::{Codec, Source, Tree, TreePath, write_layer};
use imgforge_layer_conda::{Installation, Package, Planned, Python, Record, clobbers, environment, plan};
use imgforge_oci::Digest;
use rattler::install::{Installer, LinkOptions};
use rattler::package_cache::PackageCache;
use rattler_conda_types::{RepoDataRecord, Subdir};
use rattler_package_streaming::fs::repodata_record_from_package_archive;
use serde_json::Value;

/// A path below a prefix.
#[derive(Clone, PartialEq, Eq)]
pub enum What {
    Folder,
    Link(String),
    File { mode: u32, len: usize, sha256: Digest, json: Option<Value> },
}

impl fmt::Debug for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder => write!(f, "folder"),
            Self::Link(target) => write!(f, "-> {target}"),
            Self::File { mode, json: Some(json), .. } => write!(f, "{mode:o} {json:#}"),
            Self::File { mode, len, sha256, json: None } => write!(f, "{mode:o} {len} bytes {sha256}"),
        }
    }
}

pub type Listing = BTreeMap<String, What>;

fn file(path: &str, mode: u32, bytes: &[u8]) -> What {
    let json = path.strip_prefix("conda-meta/").filter(|name| name.ends_with(".json")).map(|_| {
        let mut json: Value = serde_json::from_slice(bytes).unwrap();
        // Documented: folders of the host that installs.
        let object = json.as_object_mut().unwrap();
        for host in ["extracted_package_dir", "link", "url", "channel"] {
            object.remove(host);
        }
        json
    });
    // Documented: rattler's records are readable for their owner alone, because they begin as temporary files.
    let mode = if json.is_some() && mode == 0o600 { 0o644 } else { mode };
    let (len, sha256) = match json {
        Some(_) => (0, Digest::of(b"")),
        None => (bytes.len(), Digest::of(bytes)),
    };
    What::File { mode, len, sha256, json }
}

/// The records that rattler makes for packages that lie in a folder.
pub async fn records(packages: &[PathBuf]) -> Vec<RepoDataRecord> {
    let mut records = Vec::new();
    for package in packages {
        records.push(repodata_record_from_package_archive(package).await.unwrap());
    }
    records
}

/// Installs packages with rattler for `prefix`, in a folder of its own.
pub async fn install(records: &[RepoDataRecord], prefix: &str, folder: &Path) -> Result<Listing, String> {
    let root = folder.join("root");
    let installed = Installer::new()
        .with_alternative_target_prefix(prefix)
        .with_package_cache(PackageCache::new(folder.join("cache")))
        .with_target_platform(Subdir::Linux64)
        // Links would be the same, but an entry point over a file would be written into the cache.
        .with_link_options(LinkOptions {
            allow_symbolic_links: Some(true),
            allow_hard_links: Some(false),
            allow_ref_links: Some(false),
        })
        .install(&root, records.to_vec())
        .await;
    if let Err(error) = installed {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            text += &format!(": {error}");
            source = error.source();
        }
        return Err(text);
    }
    let mut listing = Listing::new();
    walk(&root, &root, &mut listing);
    // Documented: what was put aside and then won leaves its folders behind, in an order that is never the same.
    while let Some(empty) = listing.keys().find(|path| is_emptied(&listing, path)).cloned() {
        listing.remove(&empty);
    }
    sort_records(&mut listing);
    Ok(listing)
}

/// Documented: records whose paths were moved keep the order that they had before, which is never the same.
fn sort_records(listing: &mut Listing) {
    if !listing.contains_key("__clobbers__") {
        return;
    }
    for what in listing.values_mut() {
        if let What::File { json: Some(json), .. } = what {
            json["files"].as_array_mut().unwrap().sort_by_key(Value::to_string);
            let paths = json["paths_data"]["paths"].as_array_mut().unwrap();
            paths.sort_by_key(|path| path["_path"].to_string());
        }
    }
}

fn is_emptied(listing: &Listing, path: &str) -> bool {
    let below = format!("{path}/");
    path.starts_with("__clobbers__")
        && listing[path] == What::Folder
        && !listing.keys().any(|other| other.starts_with(&below))
}

fn walk(root: &Path, folder: &Path, listing: &mut Listing) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let metadata = path.symlink_metadata().unwrap();
        let what = if metadata.is_dir() {
            walk(root, &path, listing);
            What::Folder
        } else if metadata.is_symlink() {
            What::Link(path.read_link().unwrap().to_str().unwrap().to_owned())
        } else {
            file(&name, metadata.permissions().mode() & 0o7777, &std::fs::read(&path).unwrap())
        };
        listing.insert(name, what);
    }
}

/// Plans packages as rattler's installer is told to install them.
pub fn plan_all(
    packages: &[PathBuf],
    records: &[RepoDataRecord],
    prefix: &TreePath,
    scratch: &Path,
) -> Result<Vec<Planned>, String> {
    let python = records.iter().find(|record| record.package_record.name.as_normalized() == "python");
    let python = python.map(|record| {
        let (major, minor) = record.package_record.version.as_major_minor().unwrap();
        Python::new((major as u8, minor as u8))
    });
    let installation = Installation { prefix, python: python.as_ref() };
    let mut planned = Vec::new();
    for (path, record) in packages.iter().zip(records) {
        let record = serde_json::to_value(record).unwrap();
        let file_name = path.file_name().unwrap().to_str().unwrap();
        let package = Package { file_name, record: Some(&record), url: None, sha256: None, md5: None };
        let source = Source::open(path).map_err(|error| error.to_string())?;
        planned.push(
            plan(&source, &package, &installation, scratch)
                .map_err(|error| format!("{error}: {}", error.problem))?,
        );
    }
    Ok(planned)
}

/// The trees of an environment from below: its own files, its packages, what settles disputes.
pub fn stack(planned: &[Planned], prefix: &TreePath) -> Vec<Tree> {
    let records: Vec<&Record> = planned.iter().map(|planned| &planned.record).collect();
    let clobbers = clobbers(&records).unwrap();
    let glue = clobbers.glue(prefix, &|package| planned.get(package).map(|planned| &planned.tree)).unwrap();
    let mut trees = vec![environment(prefix).unwrap()];
    trees.extend(planned.iter().map(|planned| planned.tree.clone()));
    trees.push(glue);
    trees
}

/// What a container sees of layers that lie over each other, below the prefix: each is written, and what is in its tar
/// stream replaces what was there.
pub fn apply<'a>(trees: impl IntoIterator<Item = &'a Tree>, prefix: &TreePath) -> Listing {
    let mut listing = Listing::new();
    for tree in trees {
        let mut layer = Vec::new();
        write_layer(tree, Codec::None, 0, &mut layer).unwrap();
        let mut archive = ::tar::Archive::new(layer.as_slice());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().trim_end_matches('/').to_owned();
            let below = format!("{}/", prefix.as_str());
            let Some(name) = path.strip_prefix(&below).map(str::to_owned) else { continue };
            let link = entry.link_name().unwrap().map(|link| link.to_str().unwrap().to_owned());
            let what = match entry.header().entry_type() {
                ::tar::EntryType::Directory => What::Folder,
                ::tar::EntryType::Symlink => What::Link(link.unwrap()),
                ::tar::EntryType::Link => listing[link.unwrap().strip_prefix(&below).unwrap()].clone(),
                _ => {
                    let mut bytes = Vec::new();
                    std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
                    file(&name, entry.header().mode().unwrap(), &bytes)
                }
            };
            if what != What::Folder {
                let folder = format!("{name}/");
                listing.retain(|path, _| !path.starts_with(&folder));
            }
            listing.insert(name, what);
        }
    }
    sort_records(&mut listing);
    listing
}

/// Says where two listings differ, one line for each path.
pub fn differences(rattler: &Listing, ours: &Listing) -> Vec<String> {
    let paths: std::collections::BTreeSet<&String> = rattler.keys().chain(ours.keys()).collect();
    let differing = paths.into_iter().filter(|path| rattler.get(*path) != ours.get(*path));
    differing
        .map(|path| format!("{path}:\n  rattler {:?}\n  ours    {:?}", rattler.get(path), ours.get(path)))
        .collect()
}

/// Writes packages into a folder, and says where each is.
#[allow(dead_code, reason = "packages may lie in a folder already")]
pub fn write_packages(packages: &[(String, Vec<u8>)], folder: &Path) -> Vec<PathBuf> {
    let write = |(name, bytes): &(String, Vec<u8>)| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    packages.iter().map(write).collect()
}

#[allow(dead_code, reason = "not every test reads from a file")]
pub fn source(bytes: Vec<u8>) -> Arc<Source> {
    Arc::new(Source::from_bytes(bytes, "test"))
}
