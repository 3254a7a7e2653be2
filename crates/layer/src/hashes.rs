//! What files of the host hash to, remembered: a file whose inode looks as it did is not read again.
//!
//! A [`Stamp`] is what an inode looks like: size, times, number and device. What it rests on is the change time. The
//! kernel sets it whenever a file is written, renamed or given another modification time, and no program can set it back,
//! so that neither `touch -d` nor `cp -a` nor a file put in another's place goes unnoticed. A hash is remembered only
//! where that can be relied on:
//!
//! - the file was last changed [`MARGIN`] before the run began, or earlier. A file that is written twice in one tick of
//!   the clock, and hashed in between, looks the same both times; git calls that racily clean;
//! - the stamp is the same after the file was read as before;
//! - the file system is one of [`DATED`]. Others take their times from a server's clock, have no change time of their own
//!   (FAT, and images that are mounted to be read), or leave no trace of what is written through a mapping (tmpfs).
//!   Their files are read each time.
//!
//! # What goes unnoticed
//! A mapping that is written to dates the file when a page becomes dirty, and not again until the page is on the disk,
//! half a minute later. A program that writes twice to one page through a mapping, with a run between the two, has the
//! second write pass for the first. So would a write after the clock was set back to the very tick of the one before, one
//! whose date a power failure took and whose bytes it left, and one beneath the file system.
//!
//! No layer gets bytes that its key does not name even then, since the writer compares each file with its hash; but a
//! layer that is there already is taken for what the file holds now. Whoever has touched the file has it read, and
//! `imgforge verify` reads all of them.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use fs_err as fs;
use imgforge_oci::{Digest, Hasher};
use serde::{Deserialize, Serialize};

/// Seconds that a file must have been left alone for. The coarsest clock of a file system in [`DATED`], that of ext3, ticks
/// once a second.
const MARGIN: u64 = 2;

/// File systems that have the kernel's own clock date each write, one through a mapping included: ext2 to ext4, XFS, Btrfs
/// and F2FS. Source: statfs(2).
const DATED: [u64; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010];

/// Bytes read at a time.
const PIECE: usize = 256 << 10;

/// What the files of one folder hash to, by their paths in it; of a file that stands alone, by the empty path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered(BTreeMap<String, (Stamp, Digest)>);

/// The hashes of one folder's files, or of one file: those that are remembered, and those that were needed in this run.
#[derive(Clone, Debug)]
pub struct Hashes {
    began: u64,
    known: Remembered,
    seen: Remembered,
}

/// What an inode looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Fields", into = "Fields")]
struct Stamp {
    size: u64,
    /// Seconds since 1970 and nanoseconds, as is the next one.
    modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
    device: u64,
}

/// A stamp without the names of its fields, of which there may be a hundred thousand.
type Fields = (u64, i64, i64, i64, i64, u64, u64);

/// A file's hash, and how it is to be remembered.
pub(crate) struct Hashed {
    pub(crate) digest: Digest,
    /// Bytes.
    pub(crate) len: u64,
    /// None where another look at the file could not tell whether it is still the same.
    stamp: Option<Stamp>,
}

impl Hashes {
    /// `known` is what [`changed`](Self::changed) gave in an earlier run, `began` is when this one began, in seconds since
    /// 1970 by the host's clock: before any of the files was looked at.
    pub fn new(known: Remembered, began: u64) -> Self {
        Self { began, known, seen: Remembered::default() }
    }

    /// What is to be remembered from now on, if that is something else than before: files that were not met in this run are
    /// forgotten.
    pub fn changed(self) -> Option<Remembered> {
        (self.seen != self.known).then_some(self.seen)
    }

    /// The hash of a file: of its bytes, or what is remembered. `name` is its path in the folder; `metadata` is the file's
    /// own.
    pub(crate) fn of(&self, name: &str, path: &Path, metadata: &Metadata) -> io::Result<Hashed> {
        let stamp = Stamp::of(metadata);
        // What another image had read in this run was perhaps not known before.
        let mut known = [&self.seen, &self.known].into_iter().filter_map(|remembered| remembered.0.get(name));
        match known.find(|(known, _)| *known == stamp) {
            Some((_, digest)) => Ok(Hashed { digest: *digest, len: stamp.size, stamp: Some(stamp) }),
            None => self.read(path),
        }
    }

    /// Notes a hash that was needed.
    pub(crate) fn saw(&mut self, name: String, hashed: &Hashed) {
        if let Some(stamp) = hashed.stamp {
            self.seen.0.insert(name, (stamp, hashed.digest));
        }
    }

    fn read(&self, path: &Path) -> io::Result<Hashed> {
        let mut file = fs::File::open(path)?;
        let before = Stamp::of(&file.metadata()?);
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; PIECE.min(usize::try_from(before.size).unwrap_or(PIECE).saturating_add(1))];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => hasher.update(buffer.get(..count).unwrap_or(&buffer)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let is_sure =
            before.is_settled(self.began) && Stamp::of(&file.metadata()?) == before && is_dated(file.file())?;
        let len = hasher.len();
        Ok(Hashed { digest: hasher.finish(), len, stamp: is_sure.then_some(before) })
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }

    /// Whether a write after `began` must show.
    fn is_settled(&self, began: u64) -> bool {
        // What is from before 1970 is from a clock that was not set.
        u64::try_from(self.changed.0).is_ok_and(|changed| changed.saturating_add(MARGIN) < began)
    }
}

impl From<Fields> for Stamp {
    fn from(
        (size, modified, modified_nanoseconds, changed, changed_nanoseconds, inode, device): Fields,
    ) -> Self {
        let (modified, changed) = ((modified, modified_nanoseconds), (changed, changed_nanoseconds));
        Self { size, modified, changed, inode, device }
    }
}

impl From<Stamp> for Fields {
    fn from(Stamp { size, modified, changed, inode, device }: Stamp) -> Self {
        (size, modified.0, modified.1, changed.0, changed.1, inode, device)
    }
}

fn is_dated(file: &std::fs::File) -> io::Result<bool> {
    Ok(DATED.contains(&(rustix::fs::fstatfs(file)?.f_type as u64)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    use super::*;

    /// A run that begins long after anything was written.
    const LATER: u64 = u64::MAX;

    fn is_known(hashes: &Hashes, path: &Path) -> bool {
        let hashed = hashes.of("f", path, &fs::metadata(path).unwrap()).unwrap();
        // What is remembered here is no hash of anything.
        hashed.digest == Digest::of(b"remembered")
    }

    /// Remembers a file `old`, edits it, and looks whether it is read again.
    #[track_caller]
    fn check(edit: impl FnOnce(&PathBuf), is_read: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "old").unwrap();
        set_modified(&path, 1_000_000);
        let stamp = Stamp::of(&fs::metadata(&path).unwrap());
        let known = Remembered([("f".to_owned(), (stamp, Digest::of(b"remembered")))].into());
        let hashes = Hashes::new(known, LATER);
        assert!(is_known(&hashes, &path));
        // A file that is written twice in one tick may look the same, which is what the margin is for.
        std::thread::sleep(Duration::from_millis(20));
        edit(&path);
        assert_eq!(is_known(&hashes, &path), !is_read);
    }

    fn set_modified(path: &Path, seconds: u64) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        fs::OpenOptions::new().write(true).open(path).unwrap().file().set_modified(time).unwrap();
    }

    #[test]
    fn edits_are_noticed() {
        check(|path| fs::write(path, "longer").unwrap(), true);
        check(|path| fs::write(path, "new").unwrap(), true);
        check(|path| set_modified(path, 1), true);
        // As `touch -d` leaves it after an edit.
        check(
            |path| {
                fs::write(path, "new").unwrap();
                set_modified(path, 1_000_000);
            },
            true,
        );
        // As `cp -a` and a rename leave it.
        check(
            |path| {
                let other = path.with_extension("other");
                fs::write(&other, "new").unwrap();
                set_modified(&other, 1_000_000);
                fs::rename(&other, path).unwrap();
            },
            true,
        );
        check(|path| fs::set_permissions(path, PermissionsExt::from_mode(0o700)).unwrap(), true);
        check(|path| drop(fs::read(path).unwrap()), false);
    }

    #[test]
    fn what_may_change_unseen_is_not_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "x").unwrap();
        let metadata = fs::metadata(&path).unwrap();
        let changed = u64::try_from(metadata.ctime()).unwrap();
        // On a file system that is not dated it is never remembered: where tests have their files is not ours to say.
        let is_dated = is_dated(fs::File::open(&path).unwrap().file()).unwrap();
        for (began, expected) in [(0, false), (changed, false), (changed + 2, false), (changed + 3, true)] {
            let mut hashes = Hashes::new(Remembered::default(), began);
            let hashed = hashes.of("f", &path, &metadata).unwrap();
            assert_eq!((hashed.digest, hashed.len), (Digest::of(b"x"), 1));
            hashes.saw("f".to_owned(), &hashed);
            assert_eq!(hashes.changed().is_some(), expected && is_dated, "{began} {changed}");
        }
    }

    #[test]
    fn what_is_remembered_survives_its_text() {
        let stamp = Stamp { size: 1, modified: (-2, 3), changed: (4, 5), inode: u64::MAX, device: 6 };
        let remembered = Remembered([("a/b".to_owned(), (stamp, Digest::of(b"")))].into());
        let text = serde_json::to_string(&remembered).unwrap();
        assert_eq!(text, format!(r#"{{"a/b":[[1,-2,3,4,5,{},6],"{}"]}}"#, u64::MAX, Digest::of(b"")));
        assert_eq!(serde_json::from_str::<Remembered>(&text).unwrap(), remembered);
        // Met again, it is no news; not met, it is forgotten.
        let mut hashes = Hashes::new(remembered.clone(), LATER);
        assert_eq!(hashes.clone().changed(), Some(Remembered::default()));
        hashes.saw("a/b".to_owned(), &Hashed { digest: Digest::of(b""), len: 1, stamp: Some(stamp) });
        assert_eq!(hashes.changed(), None);
    }
}
