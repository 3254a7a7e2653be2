//! What a file is beside its content.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::fs::{Dev, FileType, Stat};
use rustix::io::Errno;

use crate::extract;

/// Extended attributes, those that count.
pub(crate) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// The extended attributes of an open file or folder that are the file's own: not overlayfs's, and none that is
/// the host's business.
pub(crate) fn xattrs(fd: impl AsFd) -> io::Result<Xattrs> {
    let names = grown(|buffer| rustix::fs::flistxattr(&fd, spare_capacity(buffer)))?;
    let mut xattrs = Xattrs::new();
    for name in names.split(|byte| *byte == 0).filter(|name| extract::is_kept(name)) {
        let value = grown(|buffer| rustix::fs::fgetxattr(&fd, name, spare_capacity(buffer)))?;
        xattrs.insert(name.to_vec(), value);
    }
    Ok(xattrs)
}

/// Calls until the buffer is large enough. A file system without attributes has none.
fn grown(mut call: impl FnMut(&mut Vec<u8>) -> Result<usize, Errno>) -> io::Result<Vec<u8>> {
    // The kernel's limit for one value and for a list of names is 64 KiB.
    for capacity in [256, 64 << 10] {
        let mut buffer = Vec::with_capacity(capacity);
        match call(&mut buffer) {
            Ok(_) => return Ok(buffer),
            Err(Errno::RANGE) => {}
            Err(Errno::OPNOTSUPP | Errno::NODATA) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::RANGE.into())
}

/// What is left of a file's status when links, times and the place on the disk are not asked for.
#[derive(PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) kind: FileType,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Of a regular file.
    pub(crate) size: u64,
}

impl Look {
    pub(crate) fn of(stat: &Stat) -> Self {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let size = if kind == FileType::RegularFile { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        // A link's own bits say nothing, and are not the same everywhere.
        let mode = if kind == FileType::Symlink { 0o777 } else { stat.st_mode & 0o7777 };
        Self { kind, mode, uid: stat.st_uid, gid: stat.st_gid, size }
    }
}

/// Which file it is, for those that have several names.
pub(crate) type Identity = (Dev, u64);

/// None for a file with one name.
pub(crate) fn shared(stat: &Stat) -> Option<Identity> {
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    (is_file && stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino))
}
