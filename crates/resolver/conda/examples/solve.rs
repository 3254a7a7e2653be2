//! Resolves what each line of standard input asks for: `cargo run --example solve -- FOLDER < requests.jsonl`.
//!
//! A request is an object with `specs`, `channels` (names, URLs, paths), `subdir` and maybe `virtual_packages` (version by name),
//! `priority` (`strict`, `flexible`, `disabled`) and `exclude_newer`. The answer, on a line of its own, is an object with
//! `packages`, or with `kind`, `message` and `hint` of an error. What is found is also written to FOLDER as `explicit.txt` and
//! `pixi.lock`, and read again from there, which has to yield the same.

use std::io::BufRead as _;
use std::path::Path;

use imgforge_resolver_conda::{
    ChannelPriority, Channels, CondaEnvironment, CondaTarget, Error, PixiSelection, explicit, pixi_lock,
    solve, to_explicit, to_pixi_lock,
};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("FOLDER")?;
    for line in std::io::stdin().lock().lines() {
        let asked: Value = serde_json::from_str(&line?)?;
        let answer = match answer(&asked, Path::new(&folder)) {
            Ok(found) => json!({ "packages": found.packages }),
            Err(error) => {
                json!({ "kind": error.kind().as_str(), "message": error.to_string(), "hint": error.hint() })
            }
        };
        println!("{answer}");
    }
    Ok(())
}

fn answer(asked: &Value, folder: &Path) -> Result<CondaEnvironment, Error> {
    let text = |key: &str| asked.get(key).and_then(Value::as_str);
    let texts = |key: &str| -> Vec<String> {
        let values = asked.get(key).and_then(Value::as_array).into_iter().flatten();
        values.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let virtual_packages = asked.get("virtual_packages").and_then(Value::as_object);
    let virtual_packages = virtual_packages
        .into_iter()
        .flatten()
        .filter_map(|(name, version)| Some((name.clone(), version.as_str()?.to_owned())));
    let subdir = text("subdir").unwrap_or("linux-64");
    let target = CondaTarget { subdir: subdir.to_owned(), virtual_packages: virtual_packages.collect() };
    let channels = Channels {
        names: texts("channels"),
        priority: match text("priority") {
            Some("flexible") => ChannelPriority::Flexible,
            Some("disabled") => ChannelPriority::Disabled,
            _ => ChannelPriority::Strict,
        },
        exclude_newer: text("exclude_newer").map(str::to_owned),
        cache: folder.join("cache"),
        offline: false,
    };
    let found = solve(&texts("specs"), &folder.join("request"), &target, &channels)?;

    let file = folder.join("pixi.lock");
    let lock = to_pixi_lock(&[(subdir, &found)], &channels.names)?;
    save(&file, &lock)?;
    same(&found, &pixi_lock(&lock, &file, &PixiSelection::default(), subdir)?, &file)?;
    let file = folder.join("explicit.txt");
    let lock = to_explicit(&found, subdir);
    save(&file, &lock)?;
    let read = explicit(&lock, &file, subdir)?;
    // The format has no word for what a package depends on, what it weighs and of which kind it is.
    let short = |it: &CondaEnvironment| -> Vec<(String, Option<String>)> {
        it.packages.iter().map(|package| (package.file.clone(), package.sha256.clone())).collect()
    };
    if short(&found) != short(&read) {
        return Err(different(&file, "a package"));
    }
    Ok(found)
}

fn save(file: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(file, text)
        .map_err(|error| Error::Internal { file: file.to_owned(), message: error.to_string() })
}

fn same(found: &CondaEnvironment, read: &CondaEnvironment, file: &Path) -> Result<(), Error> {
    let other = found.packages.iter().zip(&read.packages).find(|(found, read)| found != read);
    match other {
        None if found == read => Ok(()),
        Some((found, read)) => Err(different(file, &format!("{found:?} as {read:?}"))),
        None => Err(different(file, "something")),
    }
}

fn different(file: &Path, what: &str) -> Error {
    Error::Internal { file: file.to_owned(), message: format!("{what} is read as something else") }
}
