//! A layer becomes a folder that overlayfs takes for one.
//!
//! Runs inside the user namespace of a sandbox, where all that it could do wrong is done to files of the user who asked.
//! Every path is opened below the folder by `openat2` with `RESOLVE_IN_ROOT`: links of the same layer are followed, as
//! runtimes do, and lead nowhere but into the folder. The last component is never followed.
//!
//! What OCI's whiteouts say is said in overlayfs's words: a removed name is a character device 0/0, which needs no
//! privilege to make since Linux 5.8, and a folder that hides those below it has `user.overlay.opaque`. Source: OCI image
//! specification, "Whiteouts"; Linux, Documentation/filesystems/overlayfs.rst.
//!
//! Device nodes of the layer are left out: nobody may make them in a user namespace, and the sandbox has a `/dev` of its
//! own. An owner that the sandbox has no id for stays the sandbox's root. Both hold wherever the layer is unpacked so, for
//! comparisons as for runs.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use imgforge_oci::layer::{self, Attributes, Entry};
use imgforge_oci::{Compression, DiffId};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid,
    XattrFlags,
};
use rustix::io::Errno;

use crate::ids::Ids;
use crate::message::{During as _, Failure, FailureKind, Tree, Unpacked};

/// What a name says that is taken away, and what a folder has that hides those below it.
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Names that aufs left in layers of old, and that mean nothing else.
const AUFS: &[u8] = b".wh..wh.";

/// overlayfs's own attributes, which no layer may bring.
pub(crate) const OVERLAY_XATTRS: &[u8] = b"user.overlay.";
pub(crate) const OPAQUE_XATTR: &str = "user.overlay.opaque";

/// Bytes of content that are written at a time.
const BUFFER: usize = 256 << 10;

/// Bytes that an entry takes on a disk beside its content, about.
const ENTRY: u64 = 4096;

/// Unpacks a layer into an empty folder, and has it on the disk before it returns.
pub(crate) fn extract(
    root: OwnedFd,
    ids: &Ids,
    content: impl Read,
    compression: Compression,
) -> Result<Unpacked, Failure> {
    let broken = |detail: String| Failure {
        kind: FailureKind::Layer,
        step: "unpack it".to_owned(),
        errno: None,
        detail,
    };
    let mut extraction = Extraction {
        root,
        ids,
        parent: None,
        times: Vec::new(),
        tree: Tree::default(),
        size: 0,
        buffer: vec![0; BUFFER],
    };
    let mut failure = None;
    let read = layer::read(content, Some(compression), &mut |entry, content| {
        extraction.entry(&entry, content).inspect_err(|error| {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            failure = Some(Failure::new(FailureKind::Layer, format!("unpack its /{path}"), error));
        })
    });
    if let Some(failure) = failure {
        return Err(failure);
    }
    let tar = read
        .map_err(|error| broken(error.to_string()))?
        .layer
        .ok_or_else(|| broken("it is no layer".to_owned()))?;
    let diff_id = tar.diff_id.map_err(|error| broken(error.to_string()))?;
    tar.summary.map_err(|error| broken(error.to_string()))?;
    extraction.finish().during("write the layer to the disk")?;
    Ok(Unpacked { diff_id: DiffId(diff_id), tree: extraction.tree, size: extraction.size })
}

struct Extraction<'a> {
    root: OwnedFd,
    ids: &'a Ids,
    /// The folder that the last entry was in: the next one is usually there too.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// When folders were modified, which is set when nothing modifies them any more.
    times: Vec<(Vec<u8>, u64)>,
    tree: Tree,
    size: u64,
    buffer: Vec<u8>,
}

impl Extraction<'_> {
    fn entry(&mut self, entry: &Entry, content: &mut dyn Read) -> io::Result<()> {
        self.size += entry.size.next_multiple_of(ENTRY) + ENTRY;
        if entry.path.is_empty() {
            return self.root_entry(entry);
        }
        let (folder, name) = split(&entry.path);
        if name == OPAQUE {
            return self.opaque(folder);
        }
        if name.starts_with(AUFS) {
            return Ok(());
        }
        let parent = self.parent(folder)?;
        let parent = parent.as_fd();
        if let Some(name) = name.strip_prefix(WHITEOUT) {
            return match name {
                b"" | b"." | b".." => Err(io::Error::other("it removes something that has no name")),
                name => remove_below(parent, name),
            };
        }
        let is_folder = entry.kind == b'5';
        let hides = self.make_room(parent, name, is_folder)?;
        match entry.kind {
            b'0' | b'7' => self.file(parent, name, &entry.attributes, content)?,
            b'1' => self.hard_link(parent, name, &entry.link)?,
            b'2' => {
                rustix::fs::symlinkat(entry.link.as_slice(), parent, name)?;
                self.own(parent, name, &entry.attributes)?;
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::utimensat(parent, name, &times(entry.attributes.mtime), flags)?;
            }
            b'5' => {
                let fd = self.folder(parent, name)?;
                self.attributes(parent, name, &fd, &entry.attributes)?;
                if hides {
                    set_opaque(&fd)?;
                }
                self.times.push((entry.path.clone(), entry.attributes.mtime));
            }
            b'6' => {
                let mode = Mode::from_raw_mode(entry.attributes.mode);
                rustix::fs::mknodat(parent, name, FileType::Fifo, mode, 0)?;
                self.own(parent, name, &entry.attributes)?;
                rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
            }
            _ => {}
        }
        Ok(())
    }

    fn root_entry(&mut self, entry: &Entry) -> io::Result<()> {
        if entry.kind != b'5' {
            return Err(io::Error::other("the root is no folder"));
        }
        let Attributes { uid, gid, mode, mtime, .. } = &entry.attributes;
        if let Some((uid, gid)) = self.owner(*uid, *gid) {
            rustix::fs::fchown(&self.root, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(&self.root, Mode::from_raw_mode(*mode))?;
        self.times.push((Vec::new(), *mtime));
        Ok(())
    }

    fn opaque(&mut self, folder: &[u8]) -> io::Result<()> {
        if folder.is_empty() {
            // overlayfs does not ask its layers' roots.
            self.tree.is_opaque = true;
            return Ok(());
        }
        self.parent(folder)?;
        set_opaque(&open(&self.root, folder, OFlags::RDONLY | OFlags::DIRECTORY)?)
    }

    fn file(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        attributes: &Attributes,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
        loop {
            let count = content.read(&mut self.buffer)?;
            if count == 0 {
                break;
            }
            file.write_all(self.buffer.get(..count).unwrap_or_default())?;
        }
        self.attributes(parent, name, file.as_fd(), attributes)?;
        rustix::fs::futimens(&file, &times(attributes.mtime))?;
        Ok(())
    }

    /// Links to a file of this layer: the target's folder is resolved as any other, itself it is not followed.
    fn hard_link(&self, parent: BorrowedFd<'_>, name: &[u8], target: &[u8]) -> io::Result<()> {
        let relative = target.iter().position(|byte| *byte != b'/').and_then(|start| target.get(start..));
        let (folder, target) = split(relative.unwrap_or_default());
        let folder = open(&self.root, folder, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(rustix::fs::linkat(folder, target, parent, name, AtFlags::empty())?)
    }

    /// Makes a folder unless it is there, and opens it.
    fn folder(&self, parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
            Err(error) if error != Errno::EXIST => return Err(error.into()),
            _ => {}
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
    }

    /// The folder at a path, made where it is not there.
    fn parent(&mut self, path: &[u8]) -> io::Result<OwnedFd> {
        if let Some((known, fd)) = &self.parent
            && known == path
        {
            return fd.try_clone();
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let fd = match open(&self.root, path, flags) {
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::NOTDIR)) => {
                let (above, name) = split(path);
                let parent = self.parent(above)?;
                if self.make_room(parent.as_fd(), name, true)? {
                    set_opaque(&self.folder(parent.as_fd(), name)?)?;
                }
                self.folder(parent.as_fd(), name)?;
                open(&self.root, path, flags)?
            }
            result => result?,
        };
        self.parent = Some((path.to_owned(), fd.try_clone()?));
        Ok(fd)
    }

    /// Removes what is at a name, but for a folder where a folder is to be. Says whether that was a whiteout: then a new
    /// folder hides the one below.
    fn make_room(&mut self, parent: BorrowedFd<'_>, name: &[u8], is_folder: bool) -> io::Result<bool> {
        let Some(stat) = stat(parent, name)? else { return Ok(false) };
        let is_whiteout = is_whiteout(&stat);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if is_folder => {}
            FileType::Directory => {
                self.parent = None;
                std::fs::remove_dir_all(self_path(&parent).join(OsStr::from_bytes(name)))?;
            }
            _ => rustix::fs::unlinkat(parent, name, AtFlags::empty())?,
        }
        Ok(is_whiteout)
    }

    fn attributes(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        fd: impl AsFd,
        attributes: &Attributes,
    ) -> io::Result<()> {
        // In this order: a new owner takes set-uid bits and capabilities away.
        self.own(parent, name, attributes)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(attributes.mode))?;
        for (name, value) in &attributes.xattrs {
            if !is_kept(name) {
                continue;
            }
            match rustix::fs::fsetxattr(&fd, name.as_slice(), value, XattrFlags::empty()) {
                // The file system has none, or none of this kind.
                Err(Errno::OPNOTSUPP | Errno::PERM) => {}
                result => result?,
            }
        }
        Ok(())
    }

    fn own(&self, parent: BorrowedFd<'_>, name: &[u8], attributes: &Attributes) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner(attributes.uid, attributes.gid) {
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    /// Whom something is to be given to; nobody when it is whose it should be, or can't be.
    fn owner(&self, uid: u64, gid: u64) -> Option<(Uid, Gid)> {
        if (uid, gid) == (0, 0) || !self.ids.have(uid, gid) {
            return None;
        }
        Some((Uid::from_raw(u32::try_from(uid).ok()?), Gid::from_raw(u32::try_from(gid).ok()?)))
    }

    fn finish(&mut self) -> io::Result<()> {
        // An entry that replaced a folder since is none of those times.
        for (path, mtime) in &self.times {
            match open(&self.root, path, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(folder) => rustix::fs::futimens(folder, &times(*mtime))?,
                Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::NOTDIR)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(rustix::fs::syncfs(&self.root)?)
    }
}

/// Whether an extended attribute is taken over: those that programs see, but no other file system's private ones.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(OVERLAY_XATTRS))
}

/// Whether this is overlayfs's sign for a name that was removed.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// What is at a name; none when nothing is. A link is not followed.
pub(crate) fn stat(parent: impl AsFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a path below a folder, which no link leads out of.
fn open(root: &OwnedFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Something was renamed somewhere on the host meanwhile, so that the kernel can't tell.
            Err(Errno::AGAIN) => {}
            result => return Ok(result?),
        }
    }
}

/// The path of an open file, for what takes no descriptor, for as long as it is open.
pub(crate) fn self_path(fd: &impl AsFd) -> std::path::PathBuf {
    Path::new("/proc/self/fd").join(fd.as_fd().as_raw_fd().to_string())
}

/// Notes that a name is not to be seen from below. What this very layer has there stays.
fn remove_below(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match stat(parent, name)? {
        Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            set_opaque(&rustix::fs::openat(parent, name, flags, Mode::empty())?)
        }
        Some(_) => Ok(()),
        None => Ok(rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)?),
    }
}

fn set_opaque(folder: &OwnedFd) -> io::Result<()> {
    rustix::fs::fsetxattr(folder, OPAQUE_XATTR, b"y", XattrFlags::empty()).map_err(|error| match error {
        Errno::OPNOTSUPP => io::Error::other(
            "the store's file system has no extended attributes of users (`user.*`), without which a folder can't hide \
             those below it; give `--store` a folder on ext4, xfs or btrfs",
        ),
        error => error.into(),
    })
}

fn times(mtime: u64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: i64::try_from(mtime).unwrap_or_default(), tv_nsec: 0 },
    }
}

/// The folder of a path and its last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}
