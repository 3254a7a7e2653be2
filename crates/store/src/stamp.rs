//! Stamps: how damage is noticed without reading a blob.
//!
//! A commit sets the blob's mtime to a constant in the past and notes size, mtime and inode beside it. Whatever writes
//! to the file afterwards gives it today's mtime, and whatever replaces it another inode; even within one tick of the
//! file system's clock, which an honest mtime would not show. The change time is left out, because hard links move
//! it. Bits that rot beneath the file system move nothing: those are found by [`Store::verify`](crate::Store::verify),
//! and by every reader of the image.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use imgforge_oci::Digest;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use crate::error::{At as _, StoreError};
use crate::{Store, lock};

/// What a blob's inode looked like when its bytes were known to be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    size: u64,
    seconds: i64,
    nanoseconds: i64,
    inode: u64,
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
            inode: metadata.ino(),
        }
    }

    /// Makes the file what a blob is on the disk: read-only, with the constant mtime.
    pub(crate) fn seal(file: &File) -> io::Result<Self> {
        file.set_permissions(Permissions::from_mode(0o444))?;
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let constant = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::fs::futimens(file, &Timestamps { last_access: omit, last_modification: constant })?;
        Ok(Self::of(&file.metadata()?))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.strip_suffix('\n')?.split(' ');
        let stamp = Self {
            size: fields.next()?.parse().ok()?,
            seconds: fields.next()?.parse().ok()?,
            nanoseconds: fields.next()?.parse().ok()?,
            inode: fields.next()?.parse().ok()?,
        };
        fields.next().is_none().then_some(stamp)
    }
}

impl Store {
    /// The blob's stamp, unless there is none that can be read.
    pub(crate) fn stamp(&self, digest: &Digest) -> Option<Stamp> {
        Stamp::parse(&fs::read_to_string(self.stamp_path(digest)).ok()?)
    }

    /// Notes that the blob's bytes are good. Renamed into place, so that nobody reads half a stamp.
    pub(crate) fn put_stamp(&self, digest: &Digest, stamp: Stamp) -> Result<(), StoreError> {
        let path = self.stamp_path(digest);
        let (mut file, draft) = lock::create_locked(|| self.tmp().join(self.unique_name("stamp")))?;
        let Stamp { size, seconds, nanoseconds, inode } = stamp;
        let written = file
            .write_all(format!("{size} {seconds} {nanoseconds} {inode}\n").as_bytes())
            .and_then(|()| fs::rename(&draft, &path));
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        written.at(&path)
    }
}

/// Sets a file's mtime to now, by the file system's own clock. The file may be gone.
pub(crate) fn touch(path: &Path) -> Result<(), StoreError> {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: omit, last_modification: now };
    match rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error).at(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(u64, i64, i64, u64)>) {
        let stamp =
            Stamp::parse(text).map(|stamp| (stamp.size, stamp.seconds, stamp.nanoseconds, stamp.inode));
        assert_eq!(stamp, expected, "{text:?}");
    }

    #[test]
    fn reads_whole_stamps_only() {
        check("3 0 0 77\n", Some((3, 0, 0, 77)));
        check("3 -1 5 77\n", Some((3, -1, 5, 77)));
        for torn in ["", "\n", "3 0 0 7", "3 0 0\n", "3 0 0 77 1\n", "a 0 0 1\n", "3  0 0 1\n"] {
            check(torn, None);
        }
    }
}
