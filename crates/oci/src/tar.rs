//! What a tar stream is made of, entry by entry, without its content.
//!
//! A reader of its own because it reads what strangers wrote: nothing is allocated for a size that the stream only
//! claims, every name is checked here, and whatever readers are known to understand differently (a folder with
//! content, sparse files, content behind the end) is refused. Formats: POSIX.1-1988 ustar, POSIX.1-2001 pax, and
//! GNU's long names and base-256 numbers.

use std::collections::HashSet;
use std::io::{self, Read};

use crate::{Digest, Error};

/// Bytes of a header and the unit that content is padded to.
pub(crate) const BLOCK: u64 = 512;
/// Bytes of pax records or of a GNU long name; extended attributes can be large, names cannot.
const MAX_EXTENSION: u64 = 1 << 20;
/// Bytes of an entry's path: no file system takes more at once.
const MAX_PATH: usize = 4096;
/// Entries of one stream: a thousand times what a large image layer has.
const MAX_ENTRIES: usize = 4_000_000;

/// A stream whose position is known and whose bytes can be passed over.
pub(crate) trait Input: Read + Sized {
    /// Passes over `count` bytes.
    fn skip(&mut self, count: u64) -> io::Result<()>;
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative, without `.` and without a trailing slash; empty for the root folder itself.
    pub path: Vec<u8>,
    /// The header's type: `0` a regular file, `1` a hard link, `2` a symbolic link, `5` a folder.
    pub kind: u8,
    /// Where a link leads, as it is written: data, not to be followed. Empty for what is no link.
    pub link: Vec<u8>,
    /// Bytes of content.
    pub size: u64,
    /// Byte of the stream at which the content starts.
    pub offset: u64,
    /// Who it belongs to, and what else an entry says of itself beside what it is.
    pub attributes: Attributes,
}

/// What an entry says of itself beside what it is. A number that cannot be read is 0, as in most readers: nothing is
/// refused for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits with set-uid, set-gid and sticky: `0o7777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Modification time, in whole seconds since 1970.
    pub mtime: u64,
    /// Extended attributes, in the order of the records: `SCHILY.xattr.*`, without that prefix.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What the whole stream told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries, extensions not counted.
    pub entries: usize,
    /// Entries whose parent folder has no entry before them.
    pub without_parent: usize,
    /// Entries on a path that another one was on before; the last one counts.
    pub repeated: usize,
    /// Entries whose path is absolute, which all runtimes take for relative to the root.
    pub absolute: usize,
    /// Whether two blocks of zeros end it.
    pub ended: bool,
}

/// What a stream may do that ours never do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    /// Every path is relative and there once: in an archive of images, where another reader might take another one.
    Strict,
    /// As runtimes take a layer: builders in wide use write absolute paths, and folders more than once.
    OfLayers,
}

/// Reads an archive to its end, calling `visit` for every entry.
///
/// # Errors
/// [`Error::Tar`] for a broken stream, an unsafe name or two entries on one path; [`Error::Io`] from below.
pub(crate) fn scan<R: Input>(input: R, mut visit: impl FnMut(Entry)) -> Result<Summary, Error> {
    read(input, Manners::Strict, &mut |entry, _| {
        visit(entry);
        Ok(())
    })
}

/// Reads `input` to its end, calling `visit` for every entry, with its content: as much of it as `visit` does not read
/// is passed over.
///
/// # Errors
/// As [`scan`], as far as `manners` go; [`Error::Io`] when `visit` fails.
pub(crate) fn read<R: Input>(
    mut input: R,
    manners: Manners,
    visit: &mut dyn FnMut(Entry, &mut dyn Read) -> io::Result<()>,
) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    // Paths by their hash: those of a hostile stream would fill the memory.
    let mut seen: HashSet<Digest> = HashSet::new();
    let mut extension = Extension::default();
    let mut offset = 0;
    loop {
        let fail = move |detail: String| Error::Tar { offset, detail };
        let Some(block) = read_block(&mut input).map_err(|error| truncated(error, offset))? else {
            if extension != Extension::default() {
                return Err(fail("it ends between an entry's extension and the entry".to_owned()));
            }
            return Ok(summary);
        };
        if block.iter().all(|byte| *byte == 0) {
            summary.ended = end(&mut input, offset)?;
            return Ok(summary);
        }
        let header = Header(&block);
        header.verify().map_err(fail)?;
        let kind = header.kind();
        let mut size = header.size().map_err(fail)?;
        offset += BLOCK;

        if matches!(kind, b'x' | b'g' | b'L' | b'K') {
            if size > MAX_EXTENSION {
                return Err(fail(format!("an extension of {size} bytes; at most {MAX_EXTENSION} are read")));
            }
            let mut body = Vec::new();
            input.by_ref().take(size).read_to_end(&mut body)?;
            if body.len() as u64 != size {
                return Err(fail("it ends inside an extension".to_owned()));
            }
            skip(&mut input, padding(size), offset)?;
            offset += size + padding(size);
            extension.take(kind, &body).map_err(fail)?;
            continue;
        }

        let Extension { path, link, size: long_size, uid, gid, mtime, xattrs } =
            std::mem::take(&mut extension);
        size = long_size.unwrap_or(size);
        let attributes = Attributes {
            mode: u32::try_from(header.number(100, 8) & 0o7777).unwrap_or_default(),
            uid: uid.unwrap_or_else(|| header.number(108, 8)),
            gid: gid.unwrap_or_else(|| header.number(116, 8)),
            mtime: mtime.unwrap_or_else(|| header.number(136, 12)),
            xattrs,
        };
        let raw = path.unwrap_or_else(|| header.path());
        let shown = String::from_utf8_lossy(&raw).into_owned();
        let relative = |raw: &[u8]| match manners {
            Manners::Strict => safe_path(raw),
            Manners::OfLayers => safe_path(without_root(raw)),
        };
        let path = relative(&raw).map_err(|reason| fail(format!("entry `{shown}`: {reason}")))?;
        summary.absolute += usize::from(raw.starts_with(b"/"));
        let link = match kind {
            b'1' | b'2' => link.unwrap_or_else(|| header.link()),
            _ => Vec::new(),
        };
        match kind {
            b'0' | b'7' => {}
            b'1'..=b'6' if size > 0 => {
                return Err(fail(format!("entry `{shown}` has {size} bytes of content, but is no file")));
            }
            b'1' => {
                relative(&link).map_err(|reason| {
                    fail(format!(
                        "entry `{shown}` is a hard link to `{}`: {reason}",
                        String::from_utf8_lossy(&link)
                    ))
                })?;
            }
            b'2'..=b'6' => {}
            _ => return Err(fail(format!("entry `{shown}` has the unknown type `{}`", kind.escape_ascii()))),
        }
        if !seen.insert(Digest::of(&path)) {
            if manners == Manners::Strict {
                return Err(fail(format!("entry `{shown}` is there twice")));
            }
            summary.repeated += 1;
        }
        summary.entries += 1;
        if summary.entries > MAX_ENTRIES {
            return Err(fail(format!("more than {MAX_ENTRIES} entries")));
        }
        if parent(&path).is_some_and(|parent| !seen.contains(&Digest::of(parent))) {
            summary.without_parent += 1;
        }
        let span =
            size.checked_add(padding(size)).ok_or_else(|| fail(format!("entry `{shown}`: {size} bytes")))?;
        let mut content = input.by_ref().take(size);
        visit(Entry { path, kind, link, size, offset, attributes }, &mut content)?;
        let left = content.limit();
        skip(&mut input, left + padding(size), offset)?;
        offset = offset.checked_add(span).ok_or_else(|| fail(format!("entry `{shown}`: {size} bytes")))?;
    }
}

/// Bytes that fill the last block of content.
pub(crate) const fn padding(size: u64) -> u64 {
    (BLOCK - size % BLOCK) % BLOCK
}

fn truncated(error: io::Error, offset: u64) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        Error::Tar { offset, detail: "it ends in the middle".to_owned() }
    } else {
        error.into()
    }
}

fn skip(input: &mut impl Input, count: u64, offset: u64) -> Result<(), Error> {
    input.skip(count).map_err(|error| truncated(error, offset))
}

fn read_block(input: &mut impl Read) -> io::Result<Option<[u8; BLOCK as usize]>> {
    let mut bytes = Vec::with_capacity(BLOCK as usize);
    input.by_ref().take(BLOCK).read_to_end(&mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    bytes.try_into().map(Some).map_err(|_| io::ErrorKind::UnexpectedEof.into())
}

/// Behind one block of zeros: another one, and then nothing but zeros, because readers disagree on what more means.
fn end(input: &mut impl Read, offset: u64) -> Result<bool, Error> {
    let mut buffer = vec![0; 64 << 10];
    let mut count = BLOCK;
    loop {
        let read = input.read(&mut buffer)?;
        if read == 0 {
            return Ok(count >= 2 * BLOCK && count.is_multiple_of(BLOCK));
        }
        if buffer.iter().take(read).any(|byte| *byte != 0) {
            return Err(Error::Tar { offset, detail: "there is content behind its end".to_owned() });
        }
        count += read as u64;
    }
}

/// What the next entry has from the extensions before it.
#[derive(Default, PartialEq, Eq)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<u64>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Extension {
    fn take(&mut self, kind: u8, body: &[u8]) -> Result<(), String> {
        let name = || body.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        match kind {
            b'L' => self.path = Some(name()),
            b'K' => self.link = Some(name()),
            _ => {
                for (key, value) in pax_records(body)? {
                    match key {
                        // A global record would rename every entry that follows.
                        b"path" | b"linkpath" | b"size" if kind == b'g' => {
                            return Err("a global extension sets a path or a size".to_owned());
                        }
                        b"path" => self.path = Some(value.to_vec()),
                        b"linkpath" => self.link = Some(value.to_vec()),
                        b"size" => {
                            let size = std::str::from_utf8(value).ok().and_then(|text| digits(text, 10));
                            self.size = Some(size.ok_or("an extension has a size that is no number")?);
                        }
                        key if key.starts_with(b"GNU.sparse.") => {
                            return Err("it has a sparse file".to_owned());
                        }
                        // What a global record says of owners and times holds for nobody here: no writer of layers
                        // has one.
                        _ if kind == b'g' => {}
                        b"uid" => self.uid = whole(value),
                        b"gid" => self.gid = whole(value),
                        b"mtime" => self.mtime = whole(value),
                        _ => {
                            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                                self.xattrs.push((name.to_vec(), value.to_vec()));
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// The digits before a point: times have fractions.
fn whole(value: &[u8]) -> Option<u64> {
    let digits_of = value.split(|byte| *byte == b'.').next().unwrap_or_default();
    std::str::from_utf8(digits_of).ok().and_then(|text| digits(text, 10))
}

type Record<'a> = (&'a [u8], &'a [u8]);

/// Records of the form `LENGTH KEY=VALUE\n`, where LENGTH counts the whole record.
fn pax_records(mut body: &[u8]) -> Result<Vec<Record<'_>>, String> {
    let mut records = Vec::new();
    while !body.is_empty() {
        let record = (|| {
            let space = body.iter().take(20).position(|byte| *byte == b' ')?;
            let length: usize = std::str::from_utf8(body.get(..space)?).ok()?.parse().ok()?;
            let (record, rest) = body.split_at_checked(length)?;
            let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            body = rest;
            Some((record.get(..equals)?, record.get(equals + 1..)?))
        })();
        records.push(record.ok_or("a broken pax record")?);
    }
    Ok(records)
}

struct Header<'a>(&'a [u8; BLOCK as usize]);

impl Header<'_> {
    fn field(&self, start: usize, length: usize) -> &[u8] {
        self.0.get(start..start + length).unwrap_or_default()
    }

    fn text(&self, start: usize, length: usize) -> &[u8] {
        self.field(start, length).split(|byte| *byte == 0).next().unwrap_or_default()
    }

    fn verify(&self) -> Result<(), String> {
        let sum = |range: &[u8]| range.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        let found = sum(self.field(0, 148)) + 8 * u64::from(b' ') + sum(self.field(156, 356));
        let expected = number(self.field(148, 8)).ok_or("a header's checksum is no number")?;
        if found == expected {
            Ok(())
        } else {
            Err(format!("a header's checksum says {expected}, it is {found}"))
        }
    }

    fn number(&self, start: usize, length: usize) -> u64 {
        number(self.field(start, length)).unwrap_or_default()
    }

    fn size(&self) -> Result<u64, String> {
        number(self.field(124, 12)).ok_or_else(|| "a header's size is no number".to_owned())
    }

    /// The type; the oldest writers left a zero for a file, or a name with a slash for a folder.
    fn kind(&self) -> u8 {
        match self.field(156, 1) {
            [0] if self.text(0, 100).ends_with(b"/") => b'5',
            [0] => b'0',
            [kind] => *kind,
            _ => 0,
        }
    }

    fn path(&self) -> Vec<u8> {
        let (prefix, name) = (self.text(345, 155), self.text(0, 100));
        // GNU's own format has times where ustar has the prefix.
        if prefix.is_empty() || self.field(257, 6) != b"ustar\0" {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    fn link(&self) -> Vec<u8> {
        self.text(157, 100).to_vec()
    }
}

/// An octal number, or a big-endian one behind a byte with its high bit set.
fn number(field: &[u8]) -> Option<u64> {
    if let [first @ 0x80..=0xbf, rest @ ..] = field {
        return rest.iter().try_fold(u64::from(first & 0x3f), |value, byte| {
            value.checked_mul(256).map(|value| value | u64::from(*byte))
        });
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() { Some(0) } else { digits(text, 8) }
}

/// Digits alone: the standard library would take a sign as well.
fn digits(text: &str, radix: u32) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    u64::from_str_radix(text, radix).ok().filter(|_| plain)
}

/// A path as it is below the root, which is `.` itself then.
fn without_root(raw: &[u8]) -> &[u8] {
    let slashes = raw.iter().take_while(|byte| **byte == b'/').count();
    match raw.get(slashes..) {
        Some([]) if slashes > 0 => b".",
        rest => rest.unwrap_or_default(),
    }
}

/// Takes an entry's name apart and puts it together again without what changes nothing.
pub(crate) fn safe_path(raw: &[u8]) -> Result<Vec<u8>, &'static str> {
    if raw.is_empty() {
        return Err("it has no name");
    }
    if raw.len() > MAX_PATH {
        return Err("a path of more than 4096 bytes");
    }
    if raw.starts_with(b"/") {
        return Err("an absolute path");
    }
    if raw.contains(&0) {
        return Err("a NUL in the path");
    }
    let mut parts =
        raw.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").peekable();
    let mut path = Vec::with_capacity(raw.len());
    while let Some(part) = parts.next() {
        if part == b".." {
            return Err("a path that leaves its root");
        }
        path.extend_from_slice(part);
        if parts.peek().is_some() {
            path.push(b'/');
        }
    }
    Ok(path)
}

fn parent(path: &[u8]) -> Option<&[u8]> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    path.get(..slash)
}

#[cfg(test)]
mod tests {
    use tar::{Builder, EntryType, Header as Made};

    use super::*;

    impl Input for &[u8] {
        fn skip(&mut self, count: u64) -> io::Result<()> {
            let rest = usize::try_from(count).ok().and_then(|count| self.get(count..));
            *self = rest.ok_or(io::ErrorKind::UnexpectedEof)?;
            Ok(())
        }
    }

    fn entry(builder: &mut Builder<Vec<u8>>, path: &str, kind: EntryType, body: &[u8]) {
        let mut header = Made::new_ustar();
        // Unsafe names are what some of these tests are about; the builder would refuse them.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(body.len() as u64);
        header.set_cksum();
        builder.append(&header, body).unwrap();
    }

    fn stream(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (path, kind, body) in entries {
            entry(&mut builder, path, *kind, body);
        }
        builder.into_inner().unwrap()
    }

    /// The paths, or the error.
    fn check(bytes: &[u8], expected: &str) {
        let mut paths = Vec::new();
        let found = match scan(bytes, |entry| paths.push(String::from_utf8(entry.path).unwrap())) {
            Ok(summary) => {
                assert_eq!(summary.entries, paths.len());
                format!("{} {}", paths.join(" "), if summary.ended { "end" } else { "open" })
            }
            Err(error) => error.to_string(),
        };
        assert!(found.contains(expected), "expected {expected}\nfound {found}");
    }

    const FILE: EntryType = EntryType::Regular;
    const DIR: EntryType = EntryType::Directory;

    #[test]
    fn sound_streams() {
        check(&stream(&[]), " end");
        check(&stream(&[("./a/", DIR, b""), ("a/b", FILE, b"12345")]), "a a/b end");
        check(&stream(&[("a", FILE, &[7; 1024])])[..512 + 1024], "a open");
    }

    #[test]
    fn content_and_links_can_be_read() {
        let mut builder = Builder::new(Vec::new());
        entry(&mut builder, "a", FILE, &[7; 700]);
        let mut header = Made::new_ustar();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "b", "../a").unwrap();
        entry(&mut builder, "c", FILE, b"12345");
        let bytes = builder.into_inner().unwrap();
        for limit in [0, 3, 700, 9999] {
            let mut found = Vec::new();
            let visit = &mut |entry: Entry, content: &mut dyn Read| {
                let mut start = Vec::new();
                content.take(limit).read_to_end(&mut start)?;
                found.push((String::from_utf8(entry.link).unwrap(), start.len() as u64));
                Ok(())
            };
            read(bytes.as_slice(), Manners::Strict, visit).unwrap();
            let expected = [("", 700.min(limit)), ("../a", 0), ("", 5.min(limit))];
            assert_eq!(found, expected.map(|(link, read)| (link.to_owned(), read)));
        }
        let visit = &mut |_: Entry, content: &mut dyn Read| io::copy(content, &mut io::sink()).map(drop);
        let error = read(&bytes[..600], Manners::Strict, visit).unwrap_err();
        assert!(error.to_string().contains("it ends in the middle"), "{error}");
    }

    #[test]
    fn attributes_come_from_the_header_and_its_records() {
        let mut builder = Builder::new(Vec::new());
        let mut header = Made::new_ustar();
        header.set_path("a").unwrap();
        header.set_mode(0o104_755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(9);
        header.set_size(0);
        header.set_cksum();
        builder.append(&header, io::empty()).unwrap();
        let records: [(&str, &[u8]); 4] = [
            ("uid", b"3000000"),
            ("mtime", b"12.5"),
            ("SCHILY.xattr.user.b", b"2\0"),
            ("SCHILY.xattr.user.a", b"1"),
        ];
        builder.append_pax_extensions(records).unwrap();
        header.set_path("b").unwrap();
        header.set_cksum();
        builder.append(&header, io::empty()).unwrap();
        let mut found = Vec::new();
        scan(builder.into_inner().unwrap().as_slice(), |entry| found.push(entry.attributes)).unwrap();
        let plain = Attributes { mode: 0o4755, uid: 7, gid: 8, mtime: 9, xattrs: Vec::new() };
        let xattrs = vec![(b"user.b".to_vec(), b"2\0".to_vec()), (b"user.a".to_vec(), b"1".to_vec())];
        assert_eq!(found, [plain.clone(), Attributes { uid: 3_000_000, mtime: 12, xattrs, ..plain }]);
    }

    #[test]
    fn long_names() {
        let long = "d/".repeat(120) + "x";
        let mut gnu = Builder::new(Vec::new());
        let mut header = Made::new_gnu();
        header.set_size(0);
        gnu.append_data(&mut header, &long, io::empty()).unwrap();
        check(&gnu.into_inner().unwrap(), &format!("{long} end"));
        let mut pax = Builder::new(Vec::new());
        pax.append_pax_extensions([("path", long.as_bytes())]).unwrap();
        entry(&mut pax, "short", FILE, b"");
        check(&pax.into_inner().unwrap(), &format!("{long} end"));
    }

    #[test]
    fn unsafe_names() {
        check(&stream(&[("/a", FILE, b"")]), "entry `/a`: an absolute path");
        check(&stream(&[("a/../../b", FILE, b"")]), "a path that leaves its root");
        check(&stream(&[("", FILE, b"")]), "it has no name");
        let mut pax = Builder::new(Vec::new());
        pax.append_pax_extensions([("path", "d/".repeat(2049).as_bytes())]).unwrap();
        entry(&mut pax, "short", DIR, b"");
        check(&pax.into_inner().unwrap(), "a path of more than 4096 bytes");
        check(&stream(&[("a", FILE, b""), ("./a", FILE, b"")]), "entry `./a` is there twice");
    }

    #[test]
    fn broken_streams() {
        let sound = stream(&[("a", FILE, b"12345"), ("b", FILE, b"")]);
        check(&sound[..512 + 3], "it ends in the middle");
        check(&sound[..100], "it ends in the middle");
        let mut bent = sound.clone();
        bent[0] = b'c';
        check(&bent, "a header's checksum says");
        let mut tail = sound;
        *tail.last_mut().unwrap() = 1;
        check(&tail, "there is content behind its end");
        check(&stream(&[("a", DIR, b"12345")]), "has 5 bytes of content, but is no file");
        check(&stream(&[("a", EntryType::GNUSparse, b"")]), "unknown type `S`");
    }

    #[test]
    fn extensions_lie() {
        let mut pax = Builder::new(Vec::new());
        pax.append_pax_extensions([("size", b"99999999999999999999".as_slice())]).unwrap();
        entry(&mut pax, "a", FILE, b"");
        check(&pax.into_inner().unwrap(), "a size that is no number");
        let mut pax = Builder::new(Vec::new());
        pax.append_pax_extensions([("size", u64::MAX.to_string().as_bytes())]).unwrap();
        entry(&mut pax, "a", FILE, b"");
        check(&pax.into_inner().unwrap(), "18446744073709551615 bytes");
        check(&stream(&[("x", EntryType::XHeader, b"999 path=b\n")]), "a broken pax record");
        check(&stream(&[("x", EntryType::XGlobalHeader, b"11 path=abc\n")]), "a broken pax record");
        check(
            &stream(&[("x", EntryType::XGlobalHeader, b"12 path=abc\n")]),
            "a global extension sets a path",
        );
    }

    #[test]
    fn parents_are_counted() {
        let bytes = stream(&[("a/b", FILE, b""), ("a/", DIR, b""), ("a/c", FILE, b"")]);
        assert_eq!(
            scan(bytes.as_slice(), |_| {}).unwrap(),
            Summary { entries: 3, without_parent: 1, ended: true, ..Summary::default() }
        );
    }

    #[test]
    fn manners_of_layers() {
        let check = |entries: &[(&str, EntryType, &[u8])], expected: Result<Summary, &str>| {
            let bytes = stream(entries);
            let found = read(bytes.as_slice(), Manners::OfLayers, &mut |_, _| Ok(()));
            match expected {
                Ok(expected) => assert_eq!(found.unwrap(), expected),
                Err(expected) => assert!(found.unwrap_err().to_string().contains(expected)),
            }
        };
        check(
            &[("/", DIR, b""), ("//a", FILE, b"1"), ("a", FILE, b"22"), ("./a", FILE, b"")],
            Ok(Summary { entries: 4, without_parent: 0, repeated: 2, absolute: 2, ended: true }),
        );
        check(&[("/../a", FILE, b"")], Err("a path that leaves its root"));
        check(&[("", FILE, b"")], Err("it has no name"));
    }

    #[test]
    fn numbers() {
        let check = |field: &[u8], expected| assert_eq!(number(field), expected);
        check(b"00000000017\0", Some(15));
        check(b"      17 \0", Some(15));
        check(b"\x80\0\0\0\0\0\0\x02\0\0\0\0", Some(2 << 32));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xff", None);
        check(b"99", None);
        check(b"+7", None);
    }
}
