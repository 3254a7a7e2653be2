//! Prints what a lock installs: `cargo run --example select -- LOCK PYTHON amd64|arm64 glibc|musl
//! [EXTRA | group=NAME | default-groups | index=URL]…`

use std::path::Path;

use imgforge_resolver_pypi::{
    Architecture, Defaults, Indexes, Libc, Selection, Target, poetry_lock, pylock, requirements_txt, uv_lock,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || {
        arguments
            .next()
            .ok_or("LOCK PYTHON amd64|arm64 glibc|musl [EXTRA | group=NAME | default-groups | index=URL]…")
    };
    let lock = next()?;
    let python = next()?;
    let architecture = if next()? == "arm64" { Architecture::Arm64 } else { Architecture::Amd64 };
    let libc = match next()?.as_str() {
        "musl" => Libc::Musl { major: 1, minor: 2 },
        _ => Libc::Glibc { major: 2, minor: 36 },
    };
    let target = Target { python, architecture, libc };
    let mut selection = Selection::default();
    let mut indexes = Indexes { cache: std::env::temp_dir().join("imgforge-select"), ..Indexes::default() };
    for argument in arguments {
        match argument.split_once('=') {
            Some(("group", group)) => selection.groups.push(group.to_owned()),
            Some(("index", url)) => indexes.index = Some(url.to_owned()),
            _ if argument == "default-groups" => selection.default_groups = Defaults::With,
            _ => selection.extras.push(argument),
        }
    }

    let file = Path::new(&lock);
    let text = std::fs::read_to_string(file)?;
    let pyproject = std::fs::read_to_string(file.with_file_name("pyproject.toml")).ok();
    let pyproject = pyproject.as_deref();
    let artifacts = match file.extension().and_then(|extension| extension.to_str()) {
        Some("lock") if lock.ends_with("poetry.lock") => {
            let pyproject = pyproject.ok_or("a poetry.lock needs the pyproject.toml beside it")?;
            poetry_lock(&text, file, pyproject, &selection, &target, &indexes, &[])
        }
        Some("lock") => uv_lock(&text, file, pyproject, &selection, &target),
        Some("toml") => pylock(&text, file, &selection, &target),
        _ => requirements_txt(&text, file, &target, &indexes),
    };
    for artifact in artifacts? {
        println!("{}=={} {} {}", artifact.name, artifact.version, artifact.file, artifact.sha256);
    }
    Ok(())
}
