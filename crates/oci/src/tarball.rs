//! A tar file that images lie in, with where each member's content begins.
//!
//! Listed once, then read at any place and by several threads. `docker save | gzip` is how archives travel, so a file
//! that is compressed as a whole is unpacked into a file without a name first: what is at the end of a stream decides
//! what is read at its beginning.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use fs_err as fs;

use crate::layer::{BUFFER, plain};
use crate::tar::{self, Input, safe_path};
use crate::{Compression, Error};

/// Bytes of a compressed archive, unpacked, at most: a bomb ends here.
const MAX_UNPACKED: u64 = 64 << 30;
/// Links that lead to each other, at most.
const MAX_LINKS: usize = 16;

/// The file and its members.
#[derive(Debug)]
pub(crate) struct Tarball {
    file: Arc<std::fs::File>,
    members: BTreeMap<String, Member>,
}

/// Bytes of the file, from the first to before the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Extent {
    offset: u64,
    pub(crate) size: u64,
}

#[derive(Debug)]
enum Member {
    File(Extent),
    /// The name of another member, or why it is none.
    Link(Result<String, &'static str>),
}

impl Tarball {
    /// Lists the members of an archive; a compressed one is unpacked into `scratch`, a folder.
    pub(crate) fn open(path: &Path, scratch: &Path) -> Result<Self, Error> {
        let not_a_file = || Error::NotAnImage {
            place: path.to_owned(),
            expected: "an image archive",
            detail: "it is no regular file".to_owned(),
        };
        // Looked at before it is opened, because to open a pipe waits for its writer.
        if !fs::metadata(path)?.is_file() {
            return Err(not_a_file());
        }
        let mut file = fs::File::open(path)?;
        let mut start = Vec::new();
        (&mut file).take(MAGIC).read_to_end(&mut start)?;
        file.rewind()?;
        let file = match compression_of(&start) {
            Ok(Compression::None) => file.into_parts().0,
            Ok(compression) => unpack(file, compression, scratch, MAX_UNPACKED)?,
            Err(format) => {
                return Err(Error::NotAnImage {
                    place: path.to_owned(),
                    expected: "an image archive",
                    detail: format!("it is compressed with {format}; unpack it first"),
                });
            }
        };
        let length = file.metadata()?.len();
        let mut members = BTreeMap::new();
        tar::scan(Seekable { file: BufReader::new(&file), position: 0, length }, |entry| {
            // A name that is no UTF-8 is none of an archive's; it cannot be asked for, and is reported by nobody.
            let Ok(path) = String::from_utf8(entry.path) else { return };
            let member = match entry.kind {
                b'0' | b'7' => Member::File(Extent { offset: entry.offset, size: entry.size }),
                b'1' => Member::Link(name(&entry.link)),
                b'2' => Member::Link(target(&path, &entry.link)),
                _ => return,
            };
            members.insert(path, member);
        })?;
        Ok(Self { file: Arc::new(file), members })
    }

    /// Where a file lies, or the file that a link leads to; nothing when there is neither.
    ///
    /// # Errors
    /// The reason why a link leads to no member, in words.
    pub(crate) fn find(&self, name: &str) -> Result<Option<Extent>, String> {
        let mut at = name;
        for _ in 0..MAX_LINKS {
            match self.members.get(at) {
                None if at == name => return Ok(None),
                None => return Err(format!("it is a link to `{at}`, which is missing")),
                Some(Member::File(extent)) => return Ok(Some(*extent)),
                Some(Member::Link(Ok(target))) => at = target,
                Some(Member::Link(Err(reason))) => return Err(format!("it is a link: {reason}")),
            }
        }
        Err("it is a link that leads to itself".to_owned())
    }

    /// The content of a member.
    pub(crate) fn content(&self, extent: Extent) -> Window {
        Window { file: Arc::clone(&self.file), position: extent.offset, end: extent.offset + extent.size }
    }

    /// The names of all files, and of the links that lead to one, sorted.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str).filter(|name| matches!(self.find(name), Ok(Some(_))))
    }
}

/// A part of a file, read without moving anybody else's place in it.
pub(crate) struct Window {
    file: Arc<std::fs::File>,
    position: u64,
    end: u64,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(buffer.get_mut(..left).unwrap_or_default(), self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// Bytes that tell how something is compressed.
pub(crate) const MAGIC: u64 = 6;

/// How something that starts so is stored; a format that images do not know is an error with its name.
pub(crate) fn compression_of(start: &[u8]) -> Result<Compression, &'static str> {
    match start {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Err("bzip2"),
        _ => Ok(Compression::None),
    }
}

fn unpack(
    file: fs::File,
    compression: Compression,
    scratch: &Path,
    limit: u64,
) -> Result<std::fs::File, Error> {
    let place = file.path().to_owned();
    let failed = |doing: &str, error: io::Error| {
        let text = format!("cannot {doing} {}, in {}: {error}", place.display(), scratch.display());
        Error::Io(io::Error::new(error.kind(), text))
    };
    let mut target = tempfile::tempfile_in(scratch).map_err(|error| failed("unpack", error))?;
    let mut plain = plain(BufReader::with_capacity(BUFFER, file), compression)?;
    let mut buffer = vec![0; BUFFER];
    let mut size = 0;
    loop {
        let count = match plain.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let source = Error::Compression { format: compression.format(), detail: error.to_string() };
                return Err(source.within(&place, None));
            }
        };
        size += count as u64;
        if size > limit {
            let what = format!("{}, unpacked,", place.display());
            return Err(Error::TooLarge { what, size, limit });
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        target.write_all(bytes).map_err(|error| failed("unpack", error))?;
    }
    target.rewind()?;
    Ok(target)
}

/// A member's name as it is listed.
pub(crate) fn name(raw: &[u8]) -> Result<String, &'static str> {
    String::from_utf8(safe_path(raw)?).map_err(|_| "its name is no UTF-8")
}

/// What a symbolic link at `path` leads to, without a look at what lies there.
fn target(path: &str, link: &[u8]) -> Result<String, &'static str> {
    let Ok(link) = std::str::from_utf8(link) else { return Err("its target is no UTF-8") };
    if link.starts_with('/') {
        return Err("its target is an absolute path");
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or("its target is outside of the archive")?),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// A file that is passed over by seeking, which must not lead beyond its end.
struct Seekable<'a> {
    file: BufReader<&'a std::fs::File>,
    position: u64,
    length: u64,
}

impl Read for Seekable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Input for Seekable<'_> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let distance = i64::try_from(count).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        if count > self.length.saturating_sub(self.position) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.seek_relative(distance)?;
        self.position += count;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_links() {
        let check = |path: &str, link: &str, expected: Result<&str, &'static str>| {
            assert_eq!(target(path, link.as_bytes()), expected.map(str::to_owned), "{path} -> {link}");
        };
        check("a/layer.tar", "../b/layer.tar", Ok("b/layer.tar"));
        check("a/layer.tar", "../x.tar", Ok("x.tar"));
        check("a", "./b//c/.", Ok("b/c"));
        check("a/b", "../../c", Err("its target is outside of the archive"));
        check("a", "/etc/passwd", Err("its target is an absolute path"));
    }

    #[test]
    fn compressions() {
        let check = |start: &[u8], expected| assert_eq!(compression_of(start), expected);
        check(b"", Ok(Compression::None));
        check(b"\x1f\x8b\x08", Ok(Compression::Gzip));
        check(&zstd::encode_all(&b"x"[..], 1).unwrap(), Ok(Compression::Zstd));
        check(b"\xfd7zXZ\0", Err("xz"));
        check(b"BZh9", Err("bzip2"));
        check(b"BZhang.txt", Ok(Compression::None));
    }

    #[test]
    fn bombs_end_at_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gz");
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
        std::fs::write(&path, encoder.finish().unwrap()).unwrap();
        let unpack = |limit| unpack(fs::File::open(&path).unwrap(), Compression::Gzip, dir.path(), limit);
        assert_eq!(unpack(1 << 20).unwrap().metadata().unwrap().len(), 1 << 20);
        let message = unpack((1 << 20) - 1).unwrap_err().to_string();
        assert!(message.ends_with("bytes; at most 1048575 are read"), "{message}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left there");
    }
}
