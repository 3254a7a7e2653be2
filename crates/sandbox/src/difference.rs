//! What a command changed of the layers that it ran on, as a further layer would say it.
//!
//! Compared is what a layer holds: kinds, contents, owners, modes and extended attributes. So a file that was only opened
//! for writing, or written anew with the same bytes, is no change, and neither are times. What overlayfs and what a plain
//! copy of the layers leave behind comes to the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags, Stat};

use crate::attributes::{Look, xattrs};
use crate::collect::{Collector, failure};
use crate::extract::{is_whiteout, split};
use crate::message::Failure;
use crate::union::{Found, Listing, Union, entries, is_opaque, join, open_below, open_folder, stat_below};

/// Where the changed tree is.
#[derive(Clone, Copy)]
pub(crate) enum Changed<'a> {
    /// In overlayfs's upper folder: what is not there is as it was.
    Upper(&'a OwnedFd),
    /// In a copy: what is not there is gone.
    Copy(&'a OwnedFd),
}

impl<'a> Changed<'a> {
    const fn root(self) -> &'a OwnedFd {
        match self {
            Self::Upper(root) | Self::Copy(root) => root,
        }
    }
}

/// Collects what differs, folders before what is in them.
pub(crate) fn collect(
    before: &Union,
    after: Changed<'_>,
    collector: &mut Collector<'_>,
) -> Result<(), Failure> {
    let mut difference = Difference { before, after, collector, named: BTreeSet::new() };
    // Folders that both have.
    let mut folders = vec![Vec::new()];
    while let Some(folder) = folders.pop() {
        difference.folder(&folder, &mut folders)?;
    }
    Ok(())
}

struct Difference<'a, 'b> {
    before: &'a Union,
    after: Changed<'a>,
    collector: &'a mut Collector<'b>,
    /// Folders that were handed on already.
    named: BTreeSet<Vec<u8>>,
}

impl Difference<'_, '_> {
    /// Compares a folder that both have; those in it that both have are left for later.
    fn folder(&mut self, path: &[u8], later: &mut Vec<Vec<u8>>) -> Result<(), Failure> {
        let fail = |error: io::Error| failure(path, &error);
        let root = self.after.root();
        let folder = open_folder(root, path).map_err(fail)?;
        let before = self.before.list(path).map_err(fail)?;
        let mut after: BTreeMap<Vec<u8>, Stat> = BTreeMap::new();
        let mut gone: BTreeSet<&[u8]> = match self.after {
            Changed::Upper(_) if !is_opaque(&folder).map_err(fail)? => BTreeSet::new(),
            _ => before.keys().map(Vec::as_slice).collect(),
        };
        for name in entries(&folder).map_err(fail)? {
            let path = join(path, &name);
            let stat = stat_below(root, &path).map_err(|error| failure(&path, &error))?;
            let Some(stat) = stat else { continue };
            if is_whiteout(&stat) {
                gone.extend(before.get_key_value(&name).map(|(name, _)| name.as_slice()));
            } else {
                gone.remove(name.as_slice());
                after.insert(name, stat);
            }
        }
        for name in gone {
            let path = join(path, name);
            self.parents(&path)?;
            self.collector.removed(&path).map_err(|error| failure(&path, &error))?;
        }
        for (name, stat) in after {
            self.entry(&join(path, &name), &stat, &before, &name, later)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        path: &[u8],
        stat: &Stat,
        before: &Listing,
        name: &[u8],
        later: &mut Vec<Vec<u8>>,
    ) -> Result<(), Failure> {
        let fail = |error: io::Error| failure(path, &error);
        let kind = FileType::from_raw_mode(stat.st_mode);
        // Nobody is at their other end any more.
        if matches!(kind, FileType::Socket | FileType::Fifo) {
            return Ok(());
        }
        let before = before.get(name);
        let is_same = match before {
            Some(found) => self.is_same(path, stat, found).map_err(fail)?,
            None => false,
        };
        let is_folder = kind == FileType::Directory;
        if is_folder && before.is_some_and(Found::is_folder) {
            if !is_same {
                self.parents(path)?;
                self.name(path, stat)?;
            }
            later.push(path.to_vec());
        } else if !is_same {
            self.parents(path)?;
            if is_folder {
                self.whole(path, stat)?;
            } else {
                self.collector.one(self.after.root(), path, stat).map_err(fail)?;
            }
        }
        Ok(())
    }

    /// Hands on a new folder with what is in it, less what nobody would miss.
    fn whole(&mut self, path: &[u8], stat: &Stat) -> Result<(), Failure> {
        let root = self.after.root();
        let mut stack = vec![(path.to_vec(), *stat)];
        while let Some((path, stat)) = stack.pop() {
            let fail = |error: io::Error| failure(&path, &error);
            let kind = FileType::from_raw_mode(stat.st_mode);
            if matches!(kind, FileType::Socket | FileType::Fifo) || is_whiteout(&stat) {
                continue;
            }
            if kind != FileType::Directory {
                self.collector.one(root, &path, &stat).map_err(fail)?;
                continue;
            }
            self.name(&path, &stat)?;
            let mut names = open_folder(root, &path).and_then(|folder| entries(&folder)).map_err(fail)?;
            // The stack turns them round.
            names.sort_unstable_by(|a, b| b.cmp(a));
            for name in names {
                let path = join(&path, &name);
                let stat = stat_below(root, &path).map_err(|error| failure(&path, &error))?;
                stack.extend(stat.map(|stat| (path, stat)));
            }
        }
        Ok(())
    }

    /// Hands on the folders above a path as they are: a layer that leaves them out would set their modes anew.
    fn parents(&mut self, path: &[u8]) -> Result<(), Failure> {
        let ends: Vec<usize> =
            path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).collect();
        for end in ends {
            let parent = path.get(..end).unwrap_or_default();
            if self.named.contains(parent) {
                continue;
            }
            let stat = stat_below(self.after.root(), parent).map_err(|error| failure(parent, &error))?;
            if let Some(stat) = stat {
                self.name(parent, &stat)?;
            }
        }
        Ok(())
    }

    fn name(&mut self, path: &[u8], stat: &Stat) -> Result<(), Failure> {
        if self.named.insert(path.to_vec()) {
            self.collector.one(self.after.root(), path, stat).map_err(|error| failure(path, &error))?;
        }
        Ok(())
    }

    /// Whether what is at a path is what was there before; of folders, without what is in them.
    fn is_same(&self, path: &[u8], stat: &Stat, found: &Found) -> io::Result<bool> {
        let look = Look::of(stat);
        if look != Look::of(&found.stat) {
            return Ok(false);
        }
        let (after, before) = (self.after.root(), self.before.layer(found.layer)?);
        match look.kind {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK;
                let mut after = File::from(open_below(after, path, flags)?);
                let mut before = File::from(open_below(before, path, flags)?);
                Ok(xattrs(&after)? == xattrs(&before)? && same_bytes(&mut after, &mut before)?)
            }
            FileType::Directory => {
                Ok(xattrs(open_folder(after, path)?)? == xattrs(open_folder(before, path)?)?)
            }
            FileType::Symlink => {
                let (folder, name) = split(path);
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                let after = rustix::fs::readlinkat(open_below(after, folder, flags)?, name, Vec::new())?;
                let before = rustix::fs::readlinkat(open_below(before, folder, flags)?, name, Vec::new())?;
                Ok(after == before)
            }
            _ => Ok(true),
        }
    }
}

fn same_bytes(a: &mut File, b: &mut File) -> io::Result<bool> {
    let (mut one, mut other) = (Vec::new(), Vec::new());
    loop {
        one.clear();
        other.clear();
        a.by_ref().take(128 << 10).read_to_end(&mut one)?;
        b.by_ref().take(128 << 10).read_to_end(&mut other)?;
        if one != other {
            return Ok(false);
        }
        if one.is_empty() {
            return Ok(true);
        }
    }
}
