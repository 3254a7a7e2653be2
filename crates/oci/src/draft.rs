//! A file that is there whole or not at all.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::Error;
use crate::archive::folder_of;

/// Streams into a file beside `file`, which takes its name when it is whole and on the disk.
///
/// # Errors
/// Those of `write`, and [`Error::Io`]; then there is nothing new, and the old file is as it was.
pub(crate) fn write(
    file: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
) -> Result<(), Error> {
    let at = |error: io::Error| {
        Error::Io(io::Error::new(error.kind(), format!("cannot write {}: {error}", file.display())))
    };
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let draft = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        // As any other file: what it may be is up to the user's mask.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder_of(file))
        .map_err(at)?;
    let mut out = BufWriter::with_capacity(1 << 20, draft);
    write(&mut out)?;
    let draft = out.into_inner().map_err(|error| at(error.into_error()))?;
    draft.as_file().sync_all().map_err(at)?;
    draft.persist(file).map_err(|error| at(error.error))?;
    Ok(())
}
