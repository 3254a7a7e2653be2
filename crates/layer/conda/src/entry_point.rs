//! Commands that a noarch package of Python modules has: scripts that the installer writes.

use rattler_conda_types::package::EntryPoint;

use crate::{Python, shebang};

/// Read and written by owner and group, run by all: what rattler gives to scripts that it writes.
pub(crate) const MODE: u32 = 0o775;

/// The script of a command, as rattler writes it (`install/entry_point.rs`).
///
/// Its parser has checked that module and function are dotted names of ASCII, so nothing else gets into the text.
pub(crate) fn script(entry_point: &EntryPoint, prefix: &str, python: &Python) -> String {
    let EntryPoint { module, function, .. } = entry_point;
    let import = function.split('.').next().unwrap_or(function);
    let (major, minor) = python.version;
    let shebang = shebang::python(&format!("{prefix}/bin/python{major}.{minor}"));
    format!(
        "{shebang}\n\
         # -*- coding: utf-8 -*-\n\
         import re\n\
         import sys\n\
         \n\
         from {module} import {import}\n\
         \n\
         if __name__ == '__main__':\n\
         \tsys.argv[0] = re.sub(r'(-script\\.pyw?|\\.exe)?$', '', sys.argv[0])\n\
         \tsys.exit({function}())\n"
    )
}
