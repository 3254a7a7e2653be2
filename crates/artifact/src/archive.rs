//! The archives that sources come in: one folder at the top, and everything else below it.
//!
//! A compressed tar is inflated once, into a file without a name, and the tree's files are ranges of it; a zip archive
//! stays as it is. Nothing is unpacked under its name. Links are data here as everywhere, but a source archive has no
//! good reason to lead out of itself, so one that does is refused.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use imgforge_layer::members::{MemberKind, Members, MembersError};
use imgforge_layer::{Content, Entry, Source, Tree, TreeError, TreePath, zip};

/// Why an archive of sources can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The file can't be read.
    #[error("it can't be read")]
    Read(#[source] io::Error),
    /// The scratch file can't be made or written.
    #[error("no scratch file in {}", folder.display())]
    Scratch {
        /// The folder.
        folder: PathBuf,
        /// The system's message.
        source: io::Error,
    },
    /// It is no gzip file, or a damaged one.
    #[error("it does not decompress")]
    Decompress(#[source] io::Error),
    /// It is larger than any real one, or compressed better than any.
    #[error("it has more than {limit} bytes of content, or is compressed more than a thousandfold")]
    TooLarge {
        /// Bytes.
        limit: u64,
    },
    /// It has more entries than any real one.
    #[error("it has more than {limit} entries")]
    TooMany {
        /// How many it may have.
        limit: usize,
    },
    /// Its tar is not well-formed, or has entries that sources don't.
    #[error(transparent)]
    Tar(#[from] MembersError),
    /// Its zip archive is not well-formed.
    #[error(transparent)]
    Zip(#[from] zip::Error),
    /// A name in it that no path can have, or two entries on one path.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// An absolute name.
    #[error("the name `{name}` is absolute")]
    Absolute {
        /// The name in the archive, escaped.
        name: String,
    },
    /// Something beside the one folder, or no folder.
    #[error("`{name}` is not in the one folder that an archive of sources has at its top")]
    Top {
        /// The name in the archive, escaped.
        name: String,
    },
    /// Nothing is in it.
    #[error("nothing is in it")]
    Empty,
    /// A link that leads out of the archive, or to nothing.
    #[error("the link `{path}` leads to `{target}`: {reason}")]
    Link {
        /// Its name in the archive.
        path: String,
        /// Its target, escaped.
        target: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// An archive as a tree.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// The name of the one folder at the top.
    pub(crate) top: String,
    /// The files, with that folder.
    pub(crate) tree: Tree,
}

/// What to make of symbolic and hard links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// Those that stay within the archive's folder are kept.
    Within,
    /// All are refused.
    Refused,
}

/// The largest of the sources on PyPI has some 50,000 files.
const MAX_ENTRIES: usize = 500_000;
/// No limit to the ratio below this, where a bomb would harm nobody.
const FREE: u64 = 64 << 20;
/// DEFLATE itself can't do much better.
const MAX_RATIO: u64 = 1_000;

/// Several compressed tars, inflated one behind the other into a file without a name.
pub(crate) struct Scratch<'a> {
    file: File,
    folder: &'a Path,
    len: u64,
}

impl<'a> Scratch<'a> {
    /// An empty scratch file in `folder`.
    pub(crate) fn new(folder: &'a Path) -> Result<Self, ArchiveError> {
        let file = tempfile::tempfile_in(folder)
            .map_err(|source| ArchiveError::Scratch { folder: folder.to_owned(), source })?;
        Ok(Self { file, folder, len: 0 })
    }

    /// Inflates a `.tar.gz` of at most `limit` bytes behind what is there; returns where it is.
    pub(crate) fn inflate(&mut self, source: &Source, limit: u64) -> Result<Range<u64>, ArchiveError> {
        let limit = limit.min(FREE.max(source.len().saturating_mul(MAX_RATIO)));
        let compressed = io::BufReader::with_capacity(256 << 10, source.range(0, source.len()));
        let mut inflater = flate2::bufread::MultiGzDecoder::new(compressed);
        let mut buffer = vec![0; 256 << 10];
        let start = self.len;
        loop {
            let read = match inflater.read(&mut buffer) {
                Ok(0) => return Ok(start..self.len),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(ArchiveError::Decompress)?,
            };
            self.len += read as u64;
            if self.len - start > limit {
                return Err(ArchiveError::TooLarge { limit });
            }
            let error = |source| ArchiveError::Scratch { folder: self.folder.to_owned(), source };
            self.file.write_all(buffer.get(..read).unwrap_or_default()).map_err(error)?;
        }
    }

    /// The file, to be read at any offset; `path` is for messages.
    pub(crate) fn into_source(self, path: &Path) -> Result<Arc<Source>, ArchiveError> {
        Source::from_file(self.file, path)
            .map(Arc::new)
            .map_err(|source| ArchiveError::Scratch { folder: self.folder.to_owned(), source })
    }
}

/// Reads the tar in a range of a file into a tree below `below`.
pub(crate) fn read_tar(
    source: &Arc<Source>,
    range: Range<u64>,
    below: &TreePath,
    links: Links,
) -> Result<Unpacked, ArchiveError> {
    let mut reader = Reader::new(below, links);
    let mut members = Members::new(source, range.start, range.end);
    while let Some(member) = members.next()? {
        let Some(name) = relative(&member.name)? else { continue };
        match &member.kind {
            MemberKind::Directory => reader.add(name, Entry::directory(0o755))?,
            MemberKind::Symlink(target) => reader.symlink(name, target)?,
            MemberKind::Hardlink(target) => reader.hardlink(name, target)?,
            MemberKind::File => {
                let (offset, len) = (member.offset, member.len);
                let content = Content::Range { source: Arc::clone(source), offset, len, crc32: None };
                reader.add(name, Entry::file(content, None, member.mode & 0o111 != 0))?;
            }
        }
    }
    members.finish()?;
    reader.finish()
}

/// Reads a zip archive into a tree below `below`. Links are refused: few writers can make them, and fewer readers do.
pub(crate) fn read_zip(source: &Arc<Source>, below: &TreePath) -> Result<Unpacked, ArchiveError> {
    let mut reader = Reader::new(below, Links::Refused);
    for entry in zip::read_directory(source, &zip::Limits::default())? {
        let Some(name) = relative(&entry.name)? else { continue };
        match entry.kind {
            zip::Kind::Directory => reader.add(name, Entry::directory(0o755))?,
            zip::Kind::Symlink => return Err(refused_link(name, "")),
            zip::Kind::File => {
                let executable = entry.mode.is_some_and(|mode| mode & 0o111 != 0);
                reader.add(name, Entry::file(content(source, &entry), None, executable))?;
            }
        }
    }
    reader.finish()
}

/// Reads a file of an unpacked archive into memory; nothing when there is no such file.
pub(crate) fn read_file(tree: &Tree, path: &TreePath, limit: u64) -> Result<Option<Vec<u8>>, ArchiveError> {
    let Some(content) = tree.get(path).and_then(Entry::content) else { return Ok(None) };
    if content.len() > limit {
        return Err(ArchiveError::TooLarge { limit });
    }
    match content {
        Content::Range { source, offset, len, .. } => {
            let mut bytes = vec![0; usize::try_from(*len).unwrap_or_default()];
            source.read_exact_at(&mut bytes, *offset).map_err(ArchiveError::Read)?;
            Ok(Some(bytes))
        }
        Content::Deflated { source, offset, compressed_len, len, crc32 } => {
            let entry = zip::Entry {
                name: path.to_string(),
                kind: zip::Kind::File,
                method: zip::Method::Deflated,
                crc32: *crc32,
                compressed_size: *compressed_len,
                size: *len,
                data_offset: *offset,
                mode: None,
            };
            let mut bytes = Vec::new();
            zip::read(source, &entry, &mut |piece| {
                bytes.extend_from_slice(piece);
                Ok::<_, zip::Error>(())
            })?;
            Ok(Some(bytes))
        }
        // No archive has other contents.
        Content::Bytes(_) | Content::Spliced(_) | Content::Host { .. } => Ok(None),
    }
}

/// Takes entries, all of them from one folder.
struct Reader<'a> {
    below: &'a TreePath,
    links: Links,
    top: Option<String>,
    tree: Tree,
    entries: usize,
}

impl<'a> Reader<'a> {
    fn new(below: &'a TreePath, links: Links) -> Self {
        Self { below, links, top: None, tree: Tree::new(), entries: 0 }
    }

    fn add(&mut self, name: &str, entry: Entry) -> Result<(), ArchiveError> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(ArchiveError::TooMany { limit: MAX_ENTRIES });
        }
        let (top, rest) = name.split_once('/').unwrap_or((name, ""));
        let first = self.top.get_or_insert_with(|| top.to_owned());
        if first != top || (rest.is_empty() && !entry.is_directory()) {
            return Err(ArchiveError::Top { name: name.escape_debug().to_string() });
        }
        Ok(self.tree.insert(self.below.join(name)?, entry)?)
    }

    fn symlink(&mut self, name: &str, target: &str) -> Result<(), ArchiveError> {
        if self.links == Links::Refused {
            return Err(refused_link(name, target));
        }
        stays_within(name, target).map_err(|reason| link(name, target, reason))?;
        self.add(name, Entry::symlink(target))
    }

    /// A hard link becomes a second file with the same content: a build that writes to one means that one.
    fn hardlink(&mut self, name: &str, target: &str) -> Result<(), ArchiveError> {
        if self.links == Links::Refused {
            return Err(refused_link(name, target));
        }
        let nothing = || link(name, target, "no file of the archive has that name before it");
        let file = self.below.join(relative(target)?.ok_or_else(nothing)?)?;
        let entry = self.tree.get(&file).filter(|entry| entry.content().is_some()).cloned();
        self.add(name, entry.ok_or_else(nothing)?)
    }

    fn finish(self) -> Result<Unpacked, ArchiveError> {
        let top = self.top.ok_or(ArchiveError::Empty)?;
        Ok(Unpacked { top, tree: self.tree })
    }
}

/// A name without a `./` before it and a slash behind it; nothing for the folder that all is in.
fn relative(name: &str) -> Result<Option<&str>, ArchiveError> {
    if name.starts_with('/') {
        return Err(ArchiveError::Absolute { name: name.escape_debug().to_string() });
    }
    let name = name.strip_prefix("./").unwrap_or(name);
    let name = name.strip_suffix('/').unwrap_or(name);
    Ok((!name.is_empty() && name != ".").then_some(name))
}

/// Whether a link's target, by its text alone, is in the archive's folder.
///
/// What a chain of links leads to is not worked out. Whoever follows one does so in the sandbox, which holds whatever is
/// followed there; and no entry of the archive can lie below a link.
fn stays_within(name: &str, target: &str) -> Result<(), &'static str> {
    if target.is_empty() || target.len() > 4095 {
        return Err("a target has 1 to 4,095 bytes");
    }
    if target.starts_with('/') || target.contains(char::is_control) {
        return Err("a target is a relative path");
    }
    // How many folders lie between the archive's folder and the link.
    let mut depth = name.matches('/').count();
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." if depth <= 1 => return Err("that is outside of the archive's folder"),
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    Ok(())
}

fn refused_link(name: &str, target: &str) -> ArchiveError {
    link(name, target, "links are not expected in such an archive")
}

fn link(name: &str, target: &str, reason: &'static str) -> ArchiveError {
    ArchiveError::Link {
        path: name.escape_debug().to_string(),
        target: target.escape_debug().to_string(),
        reason,
    }
}

/// A zip entry's content as a reference into the archive.
fn content(source: &Arc<Source>, entry: &zip::Entry) -> Content {
    let (source, offset, crc32) = (Arc::clone(source), entry.data_offset, entry.crc32);
    match entry.method {
        zip::Method::Stored => Content::Range { source, offset, len: entry.size, crc32: Some(crc32) },
        zip::Method::Deflated => Content::Deflated {
            source,
            offset,
            compressed_len: entry.compressed_size,
            len: entry.size,
            crc32,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, target: &str, expected: bool) {
        assert_eq!(stays_within(name, target).is_ok(), expected, "{name} -> {target}");
    }

    #[test]
    fn links_stay_within() {
        check("top/a", "b", true);
        check("top/a", "./b//c/", true);
        check("top/sub/a", "../b", true);
        check("top/sub/a", "x/../../b", true);
        check("top/sub/a", "..", true);
        check("top/a", "..", false);
        check("top/a", "../top/b", false);
        check("top/sub/a", "../../other", false);
        check("top/sub/a", "../x/../../y", false);
        check("top/a", "/etc/passwd", false);
        check("top/a", "", false);
        check("top/a", "a\nb", false);
        check("top/a", &"x/".repeat(2_100), false);
    }
}
