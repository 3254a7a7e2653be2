//! Taking outputs out of a root filesystem, when nobody is left who could change it.
//!
//! Names are opened one below the other, and no link is followed, on the way or at the end: a link that leads out of an
//! output is an output itself, and a link on the way to one is refused. Contents go into one file, and what else is to be
//! known into messages, so that nothing which the command has made is a name on the host: no set-uid file, no device, no
//! path of its choosing.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use imgforge_oci::Hasher;
use rustix::fs::{FileType, OFlags, Stat};

use crate::attributes::{self, Identity};
use crate::extract::split;
use crate::message::{Failure, FailureKind, Output, OutputKind};
use crate::union::{entries, join, open_below, open_folder, stat_below};

/// Entries of all outputs at most; the largest package has a tenth of it.
const MAX_ENTRIES: usize = 1_000_000;

/// Bytes that are read and hashed at a time.
const BUFFER: usize = 256 << 10;

/// Hands outputs on, one by one.
pub(crate) struct Collector<'a> {
    pub(crate) spool: File,
    /// Bytes of contents at most.
    pub(crate) limit: u64,
    pub(crate) report: &'a mut dyn FnMut(Output) -> io::Result<()>,
    offset: u64,
    entries: usize,
    /// The path under which a file with several names was reported.
    names: HashMap<Identity, String>,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(spool: File, limit: u64, report: &'a mut dyn FnMut(Output) -> io::Result<()>) -> Self {
        Self { spool, limit, report, offset: 0, entries: 0, names: HashMap::new() }
    }

    /// Takes these paths below a folder, and all that is in those that are folders.
    pub(crate) fn paths(&mut self, root: &OwnedFd, paths: &[String]) -> Result<(), Failure> {
        for path in paths {
            let path = path.as_bytes();
            let stat = stat_below(root, path).map_err(|error| failure(path, &error))?;
            let Some(stat) = stat else {
                return Err(failure(
                    path,
                    &io::Error::other("it isn't there, or a link or a file is on the way to it"),
                ));
            };
            self.tree(root, path, &stat)?;
        }
        Ok(())
    }

    /// Takes a path with what is below.
    pub(crate) fn tree(&mut self, root: &OwnedFd, path: &[u8], stat: &Stat) -> Result<(), Failure> {
        self.one(root, path, stat).map_err(|error| failure(path, &error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(());
        }
        let mut folders = vec![path.to_vec()];
        while let Some(folder) = folders.pop() {
            let names = open_folder(root, &folder).and_then(|fd| entries(&fd));
            let mut names = names.map_err(|error| failure(&folder, &error))?;
            names.sort_unstable();
            for name in names {
                let path = join(&folder, &name);
                let taken = stat_below(root, &path)
                    .and_then(|stat| stat.ok_or_else(|| io::ErrorKind::NotFound.into()))
                    .and_then(|stat| self.one(root, &path, &stat).map(|()| stat));
                let stat = taken.map_err(|error| failure(&path, &error))?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    folders.push(path);
                }
            }
        }
        Ok(())
    }

    /// Takes what is at a path, without what is below.
    pub(crate) fn one(&mut self, root: impl AsFd, path: &[u8], stat: &Stat) -> io::Result<()> {
        let name = text(path)?;
        let (kind, xattrs) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => (OutputKind::Folder, attributes::xattrs(open_folder(&root, path)?)?),
            FileType::Symlink => {
                let (folder, link) = split(path);
                let folder = open_below(&root, folder, OFlags::PATH | OFlags::DIRECTORY)?;
                let target = rustix::fs::readlinkat(folder, link, Vec::new())?;
                (OutputKind::Link(text(target.as_bytes())?), BTreeMap::new())
            }
            FileType::RegularFile => {
                let identity = attributes::shared(stat);
                match identity.and_then(|identity| self.names.get(&identity)) {
                    Some(first) => (OutputKind::Same(first.clone()), BTreeMap::new()),
                    None => {
                        if let Some(identity) = identity {
                            self.names.insert(identity, name.clone());
                        }
                        let mut file =
                            File::from(open_below(&root, path, OFlags::RDONLY | OFlags::NONBLOCK)?);
                        (self.content(&mut file)?, attributes::xattrs(&file)?)
                    }
                }
            }
            kind => {
                let kind = match kind {
                    FileType::Fifo => "a pipe",
                    FileType::Socket => "a socket",
                    _ => "a device",
                };
                return Err(io::Error::other(format!("it is {kind}, which no layer of ours can have")));
            }
        };
        let xattrs =
            xattrs.into_iter().filter_map(|(name, value)| Some((String::from_utf8(name).ok()?, value)));
        let (mode, uid, gid) = (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
        self.emit(Output { path: name, kind, mode, uid, gid, xattrs: xattrs.collect() })
    }

    /// Notes that something of the layers is gone.
    pub(crate) fn removed(&mut self, path: &[u8]) -> io::Result<()> {
        let xattrs = BTreeMap::new();
        self.emit(Output { path: text(path)?, kind: OutputKind::Removed, mode: 0, uid: 0, gid: 0, xattrs })
    }

    fn emit(&mut self, output: Output) -> io::Result<()> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(io::Error::other(format!("there are more than {MAX_ENTRIES} files in the outputs")));
        }
        (self.report)(output)
    }

    /// Copies a file's content to the end of the spool.
    fn content(&mut self, file: &mut File) -> io::Result<OutputKind> {
        let offset = self.offset;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = match file.read(&mut buffer) {
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                count => count?,
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            self.offset += count as u64;
            if self.offset > self.limit {
                return Err(io::Error::other(format!(
                    "the outputs have more than {} bytes, which is the limit on the disk",
                    self.limit
                )));
            }
            hasher.update(bytes);
            self.spool.write_all(bytes)?;
        }
        Ok(OutputKind::File { offset, len: hasher.len(), sha256: hasher.finish() })
    }
}

pub(crate) fn failure(path: &[u8], error: &io::Error) -> Failure {
    Failure::new(FailureKind::Output, format!("/{}", String::from_utf8_lossy(path)), error)
}

fn text(bytes: &[u8]) -> io::Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| io::Error::other("a name in it is not UTF-8"))
}
