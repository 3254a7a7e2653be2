//! Prints what a conda lock installs: `cargo run --example environment -- LOCK SUBDIR [ENVIRONMENT|CATEGORY…]`.
//!
//! What is no lock is resolved, for a glibc of 2.36.

use std::path::Path;

use imgforge_resolver_conda::{
    Channels, CondaLockSelection, CondaTarget, Location, PixiSelection, conda_lock, environment_yml,
    explicit, pixi_lock,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("LOCK SUBDIR [ENVIRONMENT|CATEGORY…]");
    let lock = next()?;
    let subdir = next()?;
    let names: Vec<String> = arguments.collect();

    let file = Path::new(&lock);
    let text = std::fs::read_to_string(file)?;
    let environment = match lock.as_str() {
        lock if lock.ends_with("pixi.lock") => {
            let environment = names.first().cloned().unwrap_or_else(|| "default".to_owned());
            pixi_lock(&text, file, &PixiSelection { environment, ..PixiSelection::default() }, &subdir)
        }
        lock if lock.ends_with("conda-lock.yml") => {
            conda_lock(&text, file, &CondaLockSelection { categories: names }, &subdir)
        }
        lock if lock.ends_with(".txt") || lock.ends_with(".lock") => explicit(&text, file, &subdir),
        _ => {
            let virtual_packages = vec![("__glibc".to_owned(), "2.36".to_owned())];
            let cache = std::env::temp_dir().join("imgforge-environment");
            let channels = Channels { cache, ..Channels::default() };
            environment_yml(&text, file, &CondaTarget { subdir, virtual_packages }, &channels)
        }
    }?;
    for package in &environment.packages {
        let place = match &package.location {
            Location::Url(url) => url.clone(),
            Location::Path(path) => path.display().to_string(),
        };
        let hash = package.sha256.as_ref().or(package.md5.as_ref()).map_or("", String::as_str);
        println!("{}/{} {hash} {place}", package.subdir, package.file);
    }
    for wheel in &environment.wheels {
        println!("{}=={} {} {}", wheel.name, wheel.version, wheel.file, wheel.sha256);
    }
    if let Some(python) = &environment.python {
        println!("python {} {}", python.version, python.site_packages);
    }
    Ok(())
}
