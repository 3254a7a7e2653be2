//! Resolves what standard input asks for, and writes it down: `cargo run --example resolve -- FOLDER CACHE < request.json`.
//!
//! The request is an object with `requirements`, `python`, `architecture` (`amd64`, `arm64`), `glibc` or `musl` (`2.36`), and
//! maybe `constraints`, `overrides`, `exclude_newer`, `prereleases`, `no_build`, `index`, `find_links`. FOLDER gets
//! requirements.txt, pylock.toml, and the pyproject.toml and uv.lock of a project. The answer is an object with `artifacts`,
//! or with `kind`, `message` and `hint` of an error. With `locks`, each of the files is read again, which has to yield the same.

use std::path::Path;

use imgforge_resolver_pypi::{
    Architecture, Artifact, Error, Indexes, Libc, Prereleases, Request, Resolution, Selection, Target,
    pylock, requirements_txt, resolve, uv_lock,
};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("FOLDER CACHE");
    let (folder, cache) = (next()?, next()?);
    let asked: Value = serde_json::from_reader(std::io::stdin())?;

    let text = |key: &str| asked.get(key).and_then(Value::as_str).map(str::to_owned);
    let texts = |key: &str| -> Vec<String> {
        let values = asked.get(key).and_then(Value::as_array).into_iter().flatten();
        values.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let is = |key: &str| asked.get(key).and_then(Value::as_bool).unwrap_or(false);
    let version = |key: &str| {
        let text = text(key)?;
        let (major, minor) = text.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let target = Target {
        python: text("python").ok_or("python")?,
        architecture: match text("architecture").as_deref() {
            Some("arm64") => Architecture::Arm64,
            _ => Architecture::Amd64,
        },
        libc: match (version("glibc"), version("musl")) {
            (Some((major, minor)), _) => Libc::Glibc { major, minor },
            (None, Some((major, minor))) => Libc::Musl { major, minor },
            (None, None) => return Err("glibc or musl".into()),
        },
    };
    let request = Request {
        requirements: texts("requirements"),
        constraints: texts("constraints"),
        overrides: texts("overrides"),
        exclude_newer: text("exclude_newer"),
        prereleases: match text("prereleases").as_deref() {
            Some("allow") => Prereleases::Allow,
            Some("disallow") => Prereleases::Disallow,
            Some("explicit") => Prereleases::Explicit,
            _ => Prereleases::IfNecessary,
        },
        no_build: is("no_build"),
    };
    let indexes = Indexes {
        index: text("index"),
        extra: Vec::new(),
        find_links: texts("find_links"),
        cache: cache.into(),
        offline: is("offline"),
    };
    let folder = Path::new(&folder);
    let found = resolve(&request, &folder.join("requirements.in"), &target, &indexes).and_then(|found| {
        if is("locks") {
            write(&found, folder, &target, &indexes)?;
        }
        Ok(found)
    });
    let answer = match found {
        Ok(found) => json!({ "artifacts": found.artifacts() }),
        Err(error) => {
            json!({ "kind": error.kind().as_str(), "message": error.to_string(), "hint": error.hint() })
        }
    };
    println!("{answer}");
    Ok(())
}

/// Writes each lock and reads it again.
fn write(found: &Resolution, folder: &Path, target: &Target, indexes: &Indexes) -> Result<(), Error> {
    let save = |name: &str, text: &str| {
        let file = folder.join(name);
        std::fs::write(&file, text)
            .map(|()| file.clone())
            .map_err(|error| Error::Internal { file, message: error.to_string() })
    };
    let text = found.to_requirements();
    let file = save("requirements.txt", &text)?;
    let sdists = found.artifacts().iter().filter(|artifact| !artifact.file.ends_with(".whl"));
    let sdists: Vec<String> = sdists.map(|artifact| artifact.name.clone()).collect();
    // Neither of the two has a word for source distributions that somebody builds.
    if sdists.is_empty() {
        same(found, requirements_txt(&text, &file, target, indexes)?, &file)?;
        let text = found.to_pylock()?;
        let file = save("pylock.toml", &text)?;
        same(found, pylock(&text, &file, &Selection::default(), target)?, &file)?;
    }
    save("pyproject.toml", &found.to_pyproject()?)?;
    let text = found.to_uv_lock()?;
    let file = save("uv.lock", &text)?;
    let selection = Selection { buildable: sdists, ..Selection::default() };
    same(found, uv_lock(&text, &file, None, &selection, target)?, &file)
}

fn same(found: &Resolution, read: Vec<Artifact>, file: &Path) -> Result<(), Error> {
    let names = |artifacts: &[Artifact]| -> Vec<String> {
        artifacts.iter().map(|it| format!("{} {}", it.file, it.sha256)).collect()
    };
    let (wanted, read) = (names(found.artifacts()), names(&read));
    if wanted == read {
        return Ok(());
    }
    let only = |of: &[String], other: &[String]| -> Vec<String> {
        of.iter().filter(|it| !other.contains(it)).cloned().collect()
    };
    let message = format!("lacks {:?} and has {:?}", only(&wanted, &read), only(&read, &wanted));
    Err(Error::Internal { file: file.to_owned(), message })
}
