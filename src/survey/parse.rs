//! Text of package managers, as far as it tells names and versions. Nothing here fails but the reading: what can't be
//! understood is left out.

use std::io::{self, BufRead, BufReader, Read};

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

use super::layer::{Found, Listed};

/// The installed packages of dpkg's `status`, or the one of a file of `status.d`, which has no `Status` field.
///
/// Source: `deb-control(5)`, `dpkg-query(1)`.
pub(super) fn dpkg(text: &mut dyn Read) -> io::Result<Vec<Listed>> {
    let (mut packages, mut stanza, mut installed) = (Vec::new(), Listed::default(), true);
    for_each_line(text, |line| {
        match line.split_once(':') {
            _ if line.trim().is_empty() => {
                finish(&mut packages, std::mem::take(&mut stanza), installed);
                installed = true;
            }
            // A folded value.
            _ if line.starts_with([' ', '\t']) => {}
            Some((name, value)) => {
                let value = value.trim();
                match name.to_ascii_lowercase().as_str() {
                    "package" => stanza.name = value.to_owned(),
                    "version" => stanza.version = value.to_owned(),
                    "architecture" => stanza.architecture = value.to_owned(),
                    // What was wanted, whether it is in order, and the state. Of `config-files` only those are left.
                    "status" => {
                        installed = !value.ends_with(" config-files") && !value.ends_with(" not-installed");
                    }
                    _ => {}
                }
            }
            None => {}
        }
    })?;
    finish(&mut packages, stanza, installed);
    Ok(packages)
}

/// The packages of apk's `installed`, and the folders of Python distributions that they brought.
///
/// Source: `apk-v2(5)`, the fields `P`, `V`, `A` and `F`.
pub(super) fn apk(text: &mut dyn Read) -> io::Result<(Vec<Listed>, Vec<String>)> {
    let (mut packages, mut distributions, mut package) = (Vec::new(), Vec::new(), Listed::default());
    for_each_line(text, |line| match line.split_once(':') {
        Some(("P", name)) => package.name = name.to_owned(),
        Some(("V", version)) => package.version = version.to_owned(),
        Some(("A", architecture)) => package.architecture = architecture.to_owned(),
        Some(("F", folder)) if is_info_folder(folder) => distributions.push(folder.to_owned()),
        _ if line.is_empty() => finish(&mut packages, std::mem::take(&mut package), true),
        _ => {}
    })?;
    finish(&mut packages, package, true);
    Ok((packages, distributions))
}

fn finish(packages: &mut Vec<Listed>, package: Listed, installed: bool) {
    if installed && is_word(&package.name) && is_word(&package.version) {
        packages.push(package);
    }
}

/// The name and the version in the head of a Python distribution's `METADATA` or `PKG-INFO`.
///
/// Source: the Python packaging specification "Core metadata".
pub(super) fn metadata(text: &mut dyn Read) -> io::Result<Option<Found>> {
    let (mut name, mut version) = (String::new(), String::new());
    let mut text = BufReader::new(text);
    let mut line = Vec::new();
    while text.read_until(b'\n', &mut line)? > 0 {
        let field = String::from_utf8_lossy(&line);
        // What follows is the description.
        if field.trim().is_empty() {
            break;
        }
        match field.split_once(':') {
            Some((field, value)) if field.eq_ignore_ascii_case("name") => name = value.trim().to_owned(),
            Some((field, value)) if field.eq_ignore_ascii_case("version") => {
                version = value.trim().to_owned()
            }
            _ => {}
        }
        line.clear();
    }
    Ok(distribution(&name, &version))
}

/// The distribution that a metadata file's path tells: `…/NAME-VERSION.dist-info/METADATA`, `…/NAME-VERSION-py3.11.egg-info`.
pub(super) fn distribution_of_folder(path: &str) -> Option<Found> {
    let folder = path.split('/').find(|part| is_info_folder(part))?;
    let (title, _) = folder.rsplit_once('.')?;
    let mut parts = title.split('-');
    distribution(parts.next()?, parts.next()?)
}

fn distribution(name: &str, version: &str) -> Option<Found> {
    let name = normalised(name);
    (is_word(&name) && is_word(version)).then(|| Found::Distribution { name, version: version.to_owned() })
}

/// A Python name in the one spelling that stands for all. Source: PEP 503.
fn normalised(name: &str) -> String {
    let words = name.split(['-', '_', '.']).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

/// Whether a path, or a part of one, is a folder with a distribution's metadata; of an old one it may be a file.
fn is_info_folder(path: &str) -> bool {
    path.ends_with(".dist-info") || path.ends_with(".egg-info")
}

/// The environment and the distribution's own folder that a path of a distribution's metadata leads through: nothing
/// for those that no interpreter sees (caches, copies inside of another package).
pub(super) fn site(path: &str) -> Option<(&str, &str)> {
    let mut folder = path;
    while !is_info_folder(folder) {
        (folder, _) = folder.rsplit_once('/')?;
    }
    let (packages, _) = folder.rsplit_once('/')?;
    let (library, name) = packages.rsplit_once('/').unwrap_or(("", packages));
    if !matches!(name, "site-packages" | "dist-packages") {
        return None;
    }
    let (library, python) = library.rsplit_once('/').unwrap_or(("", library));
    let (prefix, library) = library.rsplit_once('/').unwrap_or(("", library));
    let is_python = python.starts_with("python") || python.starts_with("pypy");
    let prefix = if is_python && matches!(library, "lib" | "lib64") { prefix } else { packages };
    Some((prefix, folder))
}

/// What is read of a file of `conda-meta`.
#[derive(Debug, Deserialize)]
pub(super) struct CondaMeta {
    pub(super) name: String,
    pub(super) version: String,
    #[serde(default)]
    pub(super) build: String,
    /// Of its files, the folders of Python distributions.
    #[serde(default, rename = "files", deserialize_with = "distribution_folders")]
    pub(super) distributions: Vec<String>,
}

/// Reads a file of `conda-meta` as a stream: its list of files may be long.
pub(super) fn conda(text: &mut dyn Read) -> io::Result<Option<CondaMeta>> {
    match serde_json::from_reader::<_, CondaMeta>(BufReader::new(text)) {
        Ok(meta) if [&meta.name, &meta.version].into_iter().all(|word| is_word(word)) => {
            Ok((meta.build.is_empty() || is_word(&meta.build)).then_some(meta))
        }
        Err(error) if error.is_io() => Err(error.into()),
        _ => Ok(None),
    }
}

fn distribution_folders<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<String>, D::Error> {
    struct Folders;
    impl<'de> Visitor<'de> for Folders {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of files")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut folders: Vec<String> = Vec::new();
            while let Some(path) = list.next_element::<String>()? {
                let folder = site(&path).map(|(_, folder)| folder);
                if let Some(folder) = folder.filter(|folder| folders.iter().all(|known| known != folder)) {
                    folders.push(folder.to_owned());
                }
            }
            Ok(folders)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(Vec::new())
        }
    }
    list.deserialize_any(Folders)
}

/// The version that a program's name tells: `3.11` of `python3.11`, `3` of `python3`.
pub(super) fn interpreter_version(file: &str) -> Option<&str> {
    let version = file.strip_prefix("python")?;
    let rest = version.strip_prefix('3')?;
    let minor = rest.strip_prefix('.').unwrap_or(rest);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // `python3.13t` has no global lock.
    (rest.is_empty() || (rest != minor && is_number(minor.strip_suffix('t').unwrap_or(minor))))
        .then_some(version)
}

/// `PY_VERSION` of CPython's `patchlevel.h`.
pub(super) fn patch_level(text: &mut dyn Read) -> io::Result<Option<String>> {
    let mut found = None;
    for_each_line(text, |line| {
        if let Some(value) = line.strip_prefix("#define PY_VERSION ") {
            // A plus stands for changes since.
            let value = value.trim().trim_matches('"').trim_end_matches('+');
            found = is_word(value).then(|| value.to_owned());
        }
    })?;
    Ok(found)
}

/// The version that a glibc tells of itself, as in `GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.`
pub(super) fn glibc(library: &mut dyn Read) -> io::Result<Option<String>> {
    const BEFORE: &[u8] = b" release version ";
    const AFTER: usize = 16;
    let mut window: Vec<u8> = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = library.read(&mut buffer)?;
        window.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let found = window.windows(BEFORE.len()).position(|bytes| bytes == BEFORE);
        let rest = found.and_then(|start| window.get(start + BEFORE.len()..));
        match rest {
            Some(rest) if rest.len() >= AFTER || count == 0 => {
                let version = rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.');
                let version: String = version.map(|byte| char::from(*byte)).collect();
                let version = version.trim_end_matches('.');
                return Ok((!version.is_empty()).then(|| version.to_owned()));
            }
            // It may begin at the end of what was read.
            None => {
                let keep = window.len().saturating_sub(BEFORE.len());
                window.drain(..keep);
            }
            Some(_) => {}
        }
        if count == 0 {
            return Ok(None);
        }
    }
}

/// The version that a Debian or an Alpine package has from those who wrote the program: `3.11.2` of `3.11.2-6+deb12u6`.
pub(super) fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, version)| version);
    let version = version.rsplit_once('-').map_or(version, |(version, _)| version);
    version.split(['+', '~']).next().unwrap_or(version)
}

/// Whether a name or a version is one that can be shown: others come from nobody's package manager.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && text.chars().all(|c| !c.is_whitespace() && !c.is_control())
}

fn for_each_line(text: &mut dyn Read, mut visit: impl FnMut(&str)) -> io::Result<()> {
    let mut text = BufReader::new(text);
    let mut line = Vec::new();
    while text.read_until(b'\n', &mut line)? > 0 {
        visit(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        line.clear();
    }
    Ok(())
}
