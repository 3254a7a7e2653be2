//! Unpacks what imgforge would put into layers, for a comparison with another installer.
//!
//! `unpack_wheels PREFIX PYTHON_MINOR INTERPRETER OUT [WHEEL…]` writes each wheel's layer and unpacks it with the `tar`
//! crate below `OUT/FILE_NAME`; the environment's own files go below `OUT/environment`. `tests/uv/compare.sh` compares
//! them with what uv leaves.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use imgforge_layer::wheel::{self, Scheme};
use imgforge_layer::{Codec, Source, Tree, environment, write_layer};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [prefix, minor, interpreter, out, wheels @ ..] = arguments.as_slice() else {
        return Err("usage: unpack_wheels PREFIX PYTHON_MINOR INTERPRETER OUT [WHEEL…]".into());
    };
    let scheme = Scheme::venv(prefix, (3, minor.parse()?))?;
    let out = Path::new(out);
    unpack(&environment(&scheme, interpreter, &format!("3.{minor}"))?, &out.join("environment"))?;
    for wheel in wheels {
        let file_name = Path::new(wheel).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let source = Arc::new(Source::open(wheel)?);
        let tree = wheel::plan(&source, file_name, &scheme)
            .map_err(|error| format!("{file_name}: {}", error.problem))?;
        unpack(&tree, &out.join(file_name))?;
    }
    Ok(())
}

fn unpack(tree: &Tree, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut layer = tempfile::NamedTempFile::new()?;
    write_layer(tree, Codec::GzipCopy, 0, &mut layer)?;
    let mut archive = tar::Archive::new(MultiGzDecoder::new(layer.reopen()?));
    archive.set_preserve_permissions(true);
    archive.unpack(out)?;
    Ok(())
}
