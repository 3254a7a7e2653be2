//! The entries of a tar stream that lies in a file.
//!
//! A reader of its own, because what is needed is where contents lie, not their bytes, and because it must hold against
//! archives made to harm: a long name is limited before memory is taken for it, every header's checksum is verified, and
//! what is not known is refused. It reads what writers of packages produce: ustar, GNU long names and pax records.

use std::collections::BTreeMap;
use std::io;

use crate::Source;

const BLOCK: u64 = 512;
/// A path has 4,095 bytes at most; ten times that is not a name.
const MAX_NAME: u64 = 64 << 10;
const MAX_PAX: u64 = 1 << 20;

/// One entry, its name as the archive has it.
#[derive(Debug)]
pub struct Member {
    /// Not checked but for being UTF-8 without NUL.
    pub name: String,
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits with set-uid, set-gid and sticky: `0o7777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes that an image may have: `security.capability`.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Where its content begins in the file.
    pub offset: u64,
    /// Bytes of its content.
    pub len: u64,
}

/// What an entry is. Devices, pipes, sparse files and what else a tar may hold are refused.
#[derive(Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link and its target.
    Symlink(String),
    /// Another name of the entry with this name.
    Hardlink(String),
}

/// Why a tar stream is refused.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// It is not well-formed.
    #[error("at {offset} bytes of its tar: {reason}")]
    Tar {
        /// Bytes from the start of the file that the stream lies in.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A device or another entry that no image gets from a package.
    #[error("{name} is {kind}")]
    Special {
        /// Its name in the archive, escaped.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// The file can't be read.
    #[error("can't be read")]
    Read(#[source] io::Error),
}

/// The entries of the tar stream in a range of a file.
#[derive(Debug)]
pub struct Members<'a> {
    source: &'a Source,
    at: u64,
    end: u64,
}

/// What the entries before an entry say about it.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    xattrs: BTreeMap<String, Vec<u8>>,
}

impl<'a> Members<'a> {
    /// The entries of the stream from `start` to `end`, both in bytes from the start of the file.
    pub const fn new(source: &'a Source, start: u64, end: u64) -> Self {
        Self { source, at: start, end }
    }

    /// The next entry; nothing behind the last.
    ///
    /// # Errors
    /// [`MembersError`], after which nothing sensible follows.
    #[allow(
        clippy::should_implement_trait,
        reason = "an iterator of results invites to go on behind an error"
    )]
    pub fn next(&mut self) -> Result<Option<Member>, MembersError> {
        let mut extension = Extension::default();
        let mut is_extended = false;
        loop {
            let start = self.at;
            let block = self.block()?;
            if block.iter().all(|byte| *byte == 0) {
                return if is_extended {
                    Err(tar(start, "a long name belongs to no entry"))
                } else {
                    Ok(None)
                };
            }
            let header = Header { block: &block, at: start };
            header.check_sum()?;
            let size = header.number(124..136)?;
            let kind = block.get(156).copied().unwrap_or_default();
            is_extended |= matches!(kind, b'L' | b'K' | b'x');
            match kind {
                b'L' => extension.name = Some(terminated(self.content(size, MAX_NAME)?)),
                b'K' => extension.link = Some(terminated(self.content(size, MAX_NAME)?)),
                b'x' => extension.read_pax(&self.content(size, MAX_PAX)?, start)?,
                // Global records say things about all entries that follow; packages have comments at most.
                b'g' => {
                    let mut global = Extension::default();
                    global.read_pax(&self.content(size, MAX_PAX)?, start)?;
                    if !global.is_empty() {
                        return Err(tar(start, "a global pax record changes entries"));
                    }
                }
                _ => return self.member(&header, kind, size, extension).map(Some),
            }
        }
    }

    fn member(
        &mut self,
        header: &Header<'_>,
        kind: u8,
        size: u64,
        extension: Extension,
    ) -> Result<Member, MembersError> {
        let at = header.at;
        let text = |bytes: Vec<u8>| match String::from_utf8(bytes) {
            Ok(name) if name.contains('\0') => Err(tar(at, "a name has a NUL")),
            name => name.map_err(|_| tar(at, "a name is not UTF-8")),
        };
        let name = text(extension.name.unwrap_or_else(|| header.name()))?;
        let link = text(extension.link.unwrap_or_else(|| until_nul(header.bytes(157..257))))?;
        let size = extension.size.unwrap_or(size);
        let owner = |number: Option<u64>, range| {
            let number = number.map_or_else(|| header.number(range), Ok)?;
            u32::try_from(number).map_err(|_| tar(at, "an owner is no 32-bit number"))
        };
        let (uid, gid) = (owner(extension.uid, 108..116)?, owner(extension.gid, 116..124)?);
        let kind = match kind {
            // Before ustar there was no type for folders.
            0 | b'0' | b'7' if name.ends_with('/') => MemberKind::Directory,
            0 | b'0' | b'7' => MemberKind::File,
            b'1' => MemberKind::Hardlink(link),
            b'2' => MemberKind::Symlink(link),
            b'5' => MemberKind::Directory,
            b'3' | b'4' => return Err(special(&name, "a device")),
            b'6' => return Err(special(&name, "a pipe")),
            _ => return Err(special(&name, "of an unknown type")),
        };
        let offset = self.at;
        // Readers disagree about whether a link or a folder with a size has content; so it must have none.
        if kind != MemberKind::File && size != 0 {
            return Err(tar(at, "a link or folder has a size"));
        }
        self.skip(size)?;
        let mode = u32::try_from(header.number(100..108)? & 0o7777).unwrap_or_default();
        Ok(Member { name, kind, mode, uid, gid, xattrs: extension.xattrs, offset, len: size })
    }

    /// Checks that there are only zeros behind the last entry, so that no other reader finds more there.
    ///
    /// # Errors
    /// [`MembersError`].
    pub fn finish(self) -> Result<(), MembersError> {
        let mut at = self.at;
        while at < self.end {
            let len = usize::try_from(self.end - at).unwrap_or(usize::MAX).min(64 << 10);
            let piece = self.source.read(at, len).map_err(MembersError::Read)?;
            if piece.iter().any(|byte| *byte != 0) {
                return Err(tar(at, "there is more behind the archive's end"));
            }
            at += len as u64;
        }
        Ok(())
    }

    fn block(&mut self) -> Result<[u8; BLOCK as usize], MembersError> {
        let mut block = [0; BLOCK as usize];
        let start = self.at;
        self.skip(BLOCK)?;
        self.source.read_exact_at(&mut block, start).map_err(MembersError::Read)?;
        Ok(block)
    }

    fn content(&mut self, size: u64, limit: u64) -> Result<Vec<u8>, MembersError> {
        let start = self.at;
        if size > limit {
            return Err(tar(start, "a long name or pax record is too large"));
        }
        self.skip(size)?;
        let mut content = vec![0; usize::try_from(size).unwrap_or_default()];
        self.source.read_exact_at(&mut content, start).map_err(MembersError::Read)?;
        Ok(content)
    }

    /// Goes behind a content and its padding, both of which must be there.
    fn skip(&mut self, len: u64) -> Result<(), MembersError> {
        let padded = len.checked_next_multiple_of(BLOCK).and_then(|padded| self.at.checked_add(padded));
        self.at =
            padded.filter(|at| *at <= self.end).ok_or_else(|| tar(self.at, "the archive is cut off"))?;
        Ok(())
    }
}

impl Extension {
    fn is_empty(&self) -> bool {
        let Self { name, link, size, uid, gid, xattrs } = self;
        name.is_none()
            && link.is_none()
            && size.is_none()
            && uid.is_none()
            && gid.is_none()
            && xattrs.is_empty()
    }

    /// Reads `LENGTH KEY=VALUE\n` records (POSIX pax).
    fn read_pax(&mut self, mut records: &[u8], at: u64) -> Result<(), MembersError> {
        let wrong = || tar(at, "a pax record does not read");
        while !records.is_empty() {
            let space = records.iter().position(|byte| *byte == b' ').ok_or_else(wrong)?;
            let digits = records.get(..space).and_then(|digits| std::str::from_utf8(digits).ok());
            let len: usize = digits.and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
            let (record, rest) = records.split_at_checked(len).ok_or_else(wrong)?;
            records = rest;
            let record =
                record.get(space + 1..).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(wrong)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
            let (key, value) = record.split_at(equals);
            let (key, value) =
                (std::str::from_utf8(key).map_err(|_| wrong())?, value.get(1..).unwrap_or_default());
            let number = || {
                std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok()).ok_or_else(wrong)
            };
            match key {
                "path" => self.name = Some(value.to_vec()),
                "linkpath" => self.link = Some(value.to_vec()),
                "size" => self.size = Some(number()?),
                "uid" => self.uid = Some(number()?),
                "gid" => self.gid = Some(number()?),
                "SCHILY.xattr.security.capability" => {
                    self.xattrs.insert("security.capability".to_owned(), value.to_vec());
                }
                _ if key.starts_with("GNU.sparse.") => return Err(tar(at, "a file is sparse")),
                // Times, names of owners, comments: nothing of it reaches an image.
                _ => {}
            }
        }
        Ok(())
    }
}

/// A field of fixed length, up to its terminator.
fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// A GNU long name, without its terminator.
fn terminated(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

/// A header block; its fields are at fixed places (POSIX ustar).
struct Header<'a> {
    block: &'a [u8; BLOCK as usize],
    at: u64,
}

impl Header<'_> {
    fn bytes(&self, range: std::ops::Range<usize>) -> &[u8] {
        self.block.get(range).unwrap_or_default()
    }

    /// The name, behind the prefix that ustar has for it (and GNU's format does not).
    fn name(&self) -> Vec<u8> {
        let name = until_nul(self.bytes(0..100));
        let prefix = until_nul(self.bytes(345..500));
        if self.bytes(257..265) == b"ustar\x0000" && !prefix.is_empty() {
            [prefix, name].join(&b'/')
        } else {
            name
        }
    }

    /// Octal digits, or GNU's binary numbers with the first bit set.
    fn number(&self, range: std::ops::Range<usize>) -> Result<u64, MembersError> {
        let wrong = || tar(self.at, "a number does not read");
        let field = self.bytes(range);
        if let Some((first, rest)) = field.split_first()
            && first & 0x80 != 0
        {
            let join = |number: u64, byte: &u8| Some(number.checked_mul(256)? | u64::from(*byte));
            return rest.iter().try_fold(u64::from(first & 0x7f), join).ok_or_else(wrong);
        }
        let text = std::str::from_utf8(field).map_err(|_| wrong())?;
        let digits = text.trim_matches([' ', '\0']);
        if digits.is_empty() { Ok(0) } else { u64::from_str_radix(digits, 8).map_err(|_| wrong()) }
    }

    /// The sum of all bytes, its own field counted as blanks.
    fn check_sum(&self) -> Result<(), MembersError> {
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        let actual = sum(self.block) - sum(self.bytes(148..156)) + 8 * u64::from(b' ');
        if self.number(148..156)? == actual {
            Ok(())
        } else {
            Err(tar(self.at, "a header's checksum is wrong"))
        }
    }
}

fn special(name: &str, kind: &'static str) -> MembersError {
    MembersError::Special { name: name.escape_debug().to_string(), kind }
}

fn tar(offset: u64, reason: &'static str) -> MembersError {
    MembersError::Tar { offset, reason }
}
