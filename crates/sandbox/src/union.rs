//! Unpacked layers as one tree, without overlayfs: for where that can't be had, and to tell what a command changed.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::extract::{self, OPAQUE_XATTR};

/// Folders of which upper ones cover lower ones, as overlayfs does it.
pub(crate) struct Union {
    /// The uppermost first.
    layers: Vec<OwnedFd>,
}

/// Something in a [`Union`].
pub(crate) struct Found {
    /// The layer that has it; of a folder, the uppermost that does.
    pub(crate) layer: usize,
    pub(crate) stat: Stat,
}

impl Found {
    pub(crate) fn is_folder(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }
}

/// What is in a folder, by name.
pub(crate) type Listing = BTreeMap<Vec<u8>, Found>;

impl Union {
    pub(crate) fn new(layers: Vec<OwnedFd>) -> Self {
        Self { layers }
    }

    /// The layer of a [`Found`].
    pub(crate) fn layer(&self, number: usize) -> io::Result<BorrowedFd<'_>> {
        self.layers.get(number).map(AsFd::as_fd).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// What is in the folder at a path, which is one.
    pub(crate) fn list(&self, path: &[u8]) -> io::Result<Listing> {
        let layers = self.folders(path)?;
        let mut names = BTreeMap::new();
        for layer in &layers {
            for name in entries(&open_folder(self.layer(*layer)?, path)?)? {
                names.insert(name, ());
            }
        }
        let mut listing = Listing::new();
        for name in names.into_keys() {
            let full = join(path, &name);
            if let Some((found, _)) = self.at(&layers, &full)? {
                listing.insert(name, found);
            }
        }
        Ok(listing)
    }

    /// The layers whose folder at this path can be seen.
    fn folders(&self, path: &[u8]) -> io::Result<Vec<usize>> {
        let mut layers: Vec<usize> = (0..self.layers.len()).collect();
        if path.is_empty() {
            return Ok(layers);
        }
        for end in
            path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([path.len()])
        {
            let prefix = path.get(..end).unwrap_or_default();
            layers = match self.at(&layers, prefix)? {
                Some((found, below)) if found.is_folder() => below,
                _ => return Ok(Vec::new()),
            };
        }
        Ok(layers)
    }

    /// What these layers have at a path whose folder they all have; and, of a folder, those that take part in it.
    fn at(&self, layers: &[usize], path: &[u8]) -> io::Result<Option<(Found, Vec<usize>)>> {
        let mut seen: Option<(Found, Vec<usize>)> = None;
        for layer in layers {
            let root = self.layer(*layer)?;
            let Some(stat) = stat_below(root, path)? else { continue };
            if extract::is_whiteout(&stat) {
                break;
            }
            let found = Found { layer: *layer, stat };
            let is_folder = found.is_folder();
            match &mut seen {
                // What a folder covers that is none can't be seen, and ends it.
                Some(_) if !is_folder => break,
                Some((_, below)) => below.push(*layer),
                None => seen = Some((found, vec![*layer])),
            }
            if !is_folder || is_opaque(&open_folder(root, path)?)? {
                break;
            }
        }
        Ok(seen)
    }
}

/// A folder below another one; no link is followed.
pub(crate) fn open_folder(root: impl AsFd, path: &[u8]) -> io::Result<OwnedFd> {
    open_below(root, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// A path below a folder; no link is followed, on the way or at its end.
pub(crate) fn open_below(root: impl AsFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        match rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            result => return Ok(result?),
        }
    }
}

/// What is at a path below a folder; none when nothing is, or when a link or a file is on the way.
pub(crate) fn stat_below(root: impl AsFd, path: &[u8]) -> io::Result<Option<Stat>> {
    let (folder, name) = extract::split(path);
    if name.is_empty() {
        return Ok(Some(rustix::fs::fstat(root)?));
    }
    match open_below(root, folder, OFlags::PATH | OFlags::DIRECTORY) {
        Ok(folder) => extract::stat(folder, name),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Names in a folder, in no order.
pub(crate) fn entries(folder: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Whether a folder hides those below it.
pub(crate) fn is_opaque(folder: &OwnedFd) -> io::Result<bool> {
    let mut value = [0; 1];
    match rustix::fs::fgetxattr(folder, OPAQUE_XATTR, &mut value) {
        Ok(count) => Ok(count == 1 && value == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A path and a name in it.
pub(crate) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}
