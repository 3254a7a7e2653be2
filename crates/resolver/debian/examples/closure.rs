//! Prints the closure of packages over decompressed `Packages` files, as `name=version` lines:
//! `closure ARCHITECTURE PACKAGES_FILE… -- PACKAGE…`. Several requests may follow, divided by `--`; their results are
//! divided by empty lines. `tests/record.sh --compare` holds it against apt over whole suites.

use imgforge_resolver_debian::{Request, closure, parse_packages};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut parts = arguments.split(|argument| argument == "--");
    let [architecture, files @ ..] = parts.next().unwrap_or_default() else {
        return Err("usage: closure ARCHITECTURE PACKAGES_FILE… -- PACKAGE…".into());
    };
    let mut texts = Vec::new();
    for file in files {
        texts.push((file, fs_err::read(file)?));
    }
    let indexes =
        texts.iter().map(|(file, text)| parse_packages(text, file)).collect::<Result<Vec<_>, _>>()?;
    for packages in parts {
        let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
        let request = Request { packages: &packages, architecture, recommends: false, exclude: &[] };
        match closure(&indexes, &request) {
            Ok(closure) => {
                closure.iter().for_each(|package| println!("{}={}", package.name, package.version))
            }
            Err(error) => println!("error: {error}"),
        }
        println!();
    }
    Ok(())
}
