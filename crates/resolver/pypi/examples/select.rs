//! Prints what a lock installs: `cargo run --example select -- LOCK PYTHON amd64|arm64 glibc|musl [EXTRA…]`.

use std::path::Path;

use imgforge_resolver_pypi::{
    Architecture, Indexes, Libc, Selection, Target, pylock, requirements_txt, uv_lock,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("LOCK PYTHON amd64|arm64 glibc|musl [EXTRA…]");
    let lock = next()?;
    let python = next()?;
    let architecture = if next()? == "arm64" { Architecture::Arm64 } else { Architecture::Amd64 };
    let libc = match next()?.as_str() {
        "musl" => Libc::Musl { major: 1, minor: 2 },
        _ => Libc::Glibc { major: 2, minor: 36 },
    };
    let target = Target { python, architecture, libc };
    let selection = Selection { extras: arguments.collect(), ..Selection::default() };

    let file = Path::new(&lock);
    let text = std::fs::read_to_string(file)?;
    let artifacts = match file.extension().and_then(|extension| extension.to_str()) {
        Some("lock") => uv_lock(&text, file, None, &selection, &target),
        Some("toml") => pylock(&text, file, &selection, &target),
        _ => {
            let cache = std::env::temp_dir().join("imgforge-select");
            requirements_txt(&text, file, &target, &Indexes { cache, ..Indexes::default() })
        }
    };
    for artifact in artifacts? {
        println!("{}=={} {} {}", artifact.name, artifact.version, artifact.file, artifact.sha256);
    }
    Ok(())
}
