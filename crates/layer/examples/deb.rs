//! Writes the root filesystem that Debian packages make, as one uncompressed layer on stdout:
//! `deb ARCHITECTURE PACKAGE.deb… > root.tar`. `tests/debian/compare.sh` holds it against what dpkg leaves.

use std::io::{BufWriter, stdout};

use imgforge_layer::{Codec, Source, deb, write_layer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let architecture = arguments.next().ok_or("usage: deb ARCHITECTURE PACKAGE.deb…")?;
    let mut tree = deb::skeleton(&architecture)?;
    let mut controls = Vec::new();
    for path in arguments {
        let source = Source::open(&path)?;
        let package = deb::plan(&source, &path, &std::env::temp_dir())
            .map_err(|error| format!("{error}: {}", error.problem))?;
        for differing in tree.merge(package.tree)? {
            eprintln!("{path}: {differing} is another package's too");
        }
        controls.push(package.control);
    }
    tree.merge(deb::database(&controls.iter().collect::<Vec<_>>())?)?;
    write_layer(&tree, Codec::None, 0, &mut BufWriter::new(stdout()))?;
    Ok(())
}
