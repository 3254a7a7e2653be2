//! Layers on each other: what is left when upper ones have taken away and put in place.
//!
//! Source: OCI image specification, "Applying Changesets" and "Representing Changes".

use std::collections::{BTreeMap, BTreeSet};

use super::layer::{Found, LayerSurvey, Listed};
use super::{Interpreter, Libc, LibcFamily, Package, PackageKind, Survey, parse};

/// What is in the image so far, by path, with the layer that it is in.
type Root<'a> = BTreeMap<&'a str, (usize, &'a Found)>;

pub(super) fn fold(layers: &[LayerSurvey]) -> Survey {
    let mut root = Root::new();
    let mut packages: BTreeSet<Package> = BTreeSet::new();
    // The layers that the packages of a database came with: each layer that adds one has the whole database.
    let mut listed: BTreeMap<Package, usize> = BTreeMap::new();
    for (number, layer) in layers.iter().enumerate() {
        apply(&mut root, number, layer);
        packages = all_packages(&root)
            .into_iter()
            .map(|package| match package.kind {
                PackageKind::Deb | PackageKind::Apk => {
                    let layer = listed.get(&Package { layer: 0, ..package.clone() }).copied();
                    Package { layer: layer.unwrap_or(number), ..package }
                }
                PackageKind::Conda | PackageKind::Pypi => package,
            })
            .collect();
        listed =
            packages.iter().map(|package| (Package { layer: 0, ..package.clone() }, package.layer)).collect();
    }
    let packages: Vec<Package> = packages.into_iter().collect();
    let links = root.iter().filter_map(|(path, (_, found))| match found {
        Found::Link(target) if !path.contains('/') => Some(((*path).to_owned(), target.clone())),
        _ => None,
    });
    let links: BTreeMap<String, String> = links.collect();
    let text = |path| match root.get(path) {
        Some((_, Found::Text(text))) => Some(text.clone()),
        _ => None,
    };
    Survey {
        interpreters: interpreters(&root, &links, &packages),
        libc: libc(&root, &packages),
        passwd: text("etc/passwd"),
        group: text("etc/group"),
        links,
        packages,
    }
}

fn apply<'a>(root: &mut Root<'a>, number: usize, layer: &'a LayerSurvey) {
    for path in &layer.emptied {
        remove_below(root, path);
    }
    for path in [&layer.removed, &layer.covering_links, &layer.covering_files].into_iter().flatten() {
        root.remove(path.as_str());
        remove_below(root, path);
    }
    // A folder takes the place of a link.
    for folder in &layer.top {
        root.remove(folder.as_str());
    }
    root.extend(layer.found.iter().map(|(path, found)| (path.as_str(), (number, found))));
}

fn remove_below(root: &mut Root<'_>, folder: &str) {
    if folder.is_empty() {
        return root.clear();
    }
    let start = format!("{folder}/");
    let below: Vec<&str> = root
        .range::<str, _>((std::ops::Bound::Included(start.as_str()), std::ops::Bound::Unbounded))
        .map(|(path, _)| *path)
        .take_while(|path| path.starts_with(&start))
        .collect();
    for path in below {
        root.remove(path);
    }
}

fn all_packages(root: &Root<'_>) -> BTreeSet<Package> {
    let mut packages = BTreeSet::new();
    let mut parts: BTreeSet<String> = BTreeSet::new();
    let mut conda_prefixes: BTreeSet<&str> = BTreeSet::new();
    let mut debs: Vec<(usize, &Listed)> = Vec::new();
    let package = |kind, prefix: &str, name: &str, version: &str, layer| Package {
        kind,
        prefix: format!("/{prefix}"),
        name: name.to_owned(),
        version: version.to_owned(),
        is_part: false,
        layer,
    };
    for (path, &(layer, found)) in root {
        match found {
            Found::Debs(listed) => debs.extend(listed.iter().map(|it| (layer, it))),
            Found::Apks { packages: listed, distributions } => {
                let apk = |it: &Listed| package(PackageKind::Apk, "", &it.name, &it.version, layer);
                packages.extend(listed.iter().map(apk));
                parts.extend(distributions.iter().cloned());
            }
            Found::Conda { name, version, distributions } => {
                let prefix = path.split_once("conda-meta/").map_or("", |(prefix, _)| prefix);
                parts.extend(distributions.iter().map(|folder| format!("{prefix}{folder}")));
                let prefix = prefix.trim_end_matches('/');
                conda_prefixes.insert(prefix);
                packages.insert(package(PackageKind::Conda, prefix, name, version, layer));
            }
            _ => {}
        }
    }
    let native = native_architecture(&debs);
    for (layer, Listed { name, version, architecture }) in &debs {
        let name = match architecture.as_str() {
            "all" | "" => name.clone(),
            other if Some(other) == native => name.clone(),
            foreign => format!("{name}:{foreign}"),
        };
        packages.insert(package(PackageKind::Deb, "", &name, version, *layer));
    }
    for (path, &(layer, found)) in root {
        let (Found::Distribution { name, version }, Some((prefix, folder))) = (found, parse::site(path))
        else {
            continue;
        };
        // Packages that conda has unpacked and not removed.
        let is_cache = |conda: &&str| {
            prefix.strip_prefix(*conda).is_some_and(|rest| rest.trim_start_matches('/').starts_with("pkgs/"))
        };
        if conda_prefixes.iter().any(is_cache) {
            continue;
        }
        // Debian's folder for its own packages; pip's and uv's is below `usr/local`. Source: Debian's Python policy.
        let is_debian = !debs.is_empty() && prefix == "usr" && folder.contains("/dist-packages/");
        packages.insert(Package {
            is_part: is_debian || parts.contains(folder),
            ..package(PackageKind::Pypi, prefix, name, version, layer)
        });
    }
    packages
}

/// The architecture of most of dpkg's packages; others have to be told apart by theirs.
fn native_architecture<'a>(packages: &[(usize, &'a Listed)]) -> Option<&'a str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let architectures = packages.iter().map(|(_, package)| package.architecture.as_str());
    for architecture in architectures.filter(|architecture| !matches!(*architecture, "" | "all")) {
        *counts.entry(architecture).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(architecture, _)| architecture)
}

fn interpreters(root: &Root<'_>, links: &BTreeMap<String, String>, packages: &[Package]) -> Vec<Interpreter> {
    let mut programs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, (_, found)) in root {
        let is_program =
            path.rsplit_once("bin/").is_some_and(|(_, file)| parse::interpreter_version(file).is_some());
        match found {
            Found::File if is_program => {
                programs.entry(path).or_default();
            }
            Found::Link(_) if is_program => {
                if let Some(program) = resolve(root, links, path) {
                    programs.entry(program).or_default().push(path);
                }
            }
            _ => {}
        }
    }
    let program = |(path, links): (&str, Vec<&str>)| {
        let names = links.iter().copied().chain([path]).filter_map(|path| path.rsplit_once('/'));
        let versions = names.filter_map(|(folder, file)| {
            let version = parse::interpreter_version(file)?;
            Some(full_version(root, packages, folder, version).unwrap_or_else(|| version.to_owned()))
        });
        Interpreter {
            path: format!("/{path}"),
            version: versions.max_by_key(String::len).unwrap_or_default(),
            links: links.into_iter().map(|link| format!("/{link}")).collect(),
        }
    };
    programs.into_iter().map(program).collect()
}

/// The program that a link leads to in the end, if it is in the image.
fn resolve<'a>(root: &Root<'a>, links: &BTreeMap<String, String>, path: &str) -> Option<&'a str> {
    let mut path = path.to_owned();
    // As many links as Linux follows.
    for _ in 0..40 {
        let (&known, (_, found)) = root.get_key_value(path.as_str())?;
        let Found::Link(target) = found else { return matches!(found, Found::File).then_some(known) };
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let joined = match target.strip_prefix('/') {
            Some(absolute) => absolute.to_owned(),
            None => format!("{folder}/{target}"),
        };
        let mut parts: Vec<&str> = Vec::new();
        for part in joined.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        // `bin` may itself be a link to `usr/bin`.
        let top = parts.first().and_then(|top| links.get(*top)).filter(|_| parts.len() > 1);
        path = match top {
            Some(top) => {
                let rest = parts.get(1..).unwrap_or_default().join("/");
                format!("{}/{rest}", top.trim_start_matches("./").trim_matches('/'))
            }
            None => parts.join("/"),
        };
    }
    None
}

/// The whole version of the `3.11` in a folder of programs.
fn full_version(root: &Root<'_>, packages: &[Package], folder: &str, version: &str) -> Option<String> {
    let prefix = folder.strip_suffix("bin")?.trim_end_matches('/');
    let header =
        format!("{prefix}{}include/python{version}/patchlevel.h", if prefix.is_empty() { "" } else { "/" });
    if let Some((_, Found::Version(version))) = root.get(header.as_str()) {
        return Some(version.clone());
    }
    let debian = format!("python{version}-minimal");
    let found = packages.iter().find(|package| match package.kind {
        PackageKind::Deb => matches!(prefix, "usr" | "") && package.name == debian,
        PackageKind::Apk => matches!(prefix, "usr" | "") && package.name == "python3",
        PackageKind::Conda => package.prefix.get(1..) == Some(prefix) && package.name == "python",
        PackageKind::Pypi => false,
    })?;
    let full = match found.kind {
        PackageKind::Conda => found.version.split('=').next()?,
        _ => parse::upstream(&found.version),
    };
    // Of another version than the program is, it tells nothing about it.
    full.strip_prefix(version.trim_end_matches('t'))?.starts_with('.').then(|| full.to_owned())
}

fn libc(root: &Root<'_>, packages: &[Package]) -> Option<Libc> {
    let system = |names: &[&str], kind| {
        let found = packages.iter().find(|it| it.kind == kind && names.contains(&it.name.as_str()))?;
        Some(parse::upstream(&found.version).to_owned())
    };
    let some = |family, version| Some(Libc { family, version });
    if let Some(version) = system(&["musl"], PackageKind::Apk) {
        return some(LibcFamily::Musl, Some(version));
    }
    if let Some(version) = system(&["libc6", "libc6.1", "libc0.1", "libc0.3"], PackageKind::Deb) {
        return some(LibcFamily::Glibc, Some(version));
    }
    let objects = root.iter().filter(|(path, _)| path.ends_with("/libc.so.6"));
    let versions: Vec<Option<String>> = objects
        .filter_map(|(_, (_, found))| match found {
            Found::Version(version) => Some(Some(version.clone())),
            Found::File => Some(None),
            // `libc-2.31.so`; musl's has its own name.
            Found::Link(target) => {
                let (_, file) = target.rsplit_once('/').unwrap_or(("", target));
                let version = file.strip_prefix("libc-")?.strip_suffix(".so")?;
                Some(Some(version.to_owned()))
            }
            _ => None,
        })
        .collect();
    if !versions.is_empty() {
        return some(LibcFamily::Glibc, versions.into_iter().flatten().next());
    }
    let has_musl =
        root.keys().any(|path| path.rsplit('/').next().is_some_and(|file| file.starts_with("ld-musl-")));
    has_musl.then(|| some(LibcFamily::Musl, None)).flatten()
}
