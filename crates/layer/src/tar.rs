//! The headers of a layer's tar stream.
//!
//! POSIX ustar, with a pax record only where a field does not fit: a longer path or link target, a file of 8 GiB and
//! more, an owner beyond 2,097,151, an extended attribute. Owners are numbers without names, and every entry has the
//! same modification time.

use tar::EntryType;

use crate::tree::{Entry, Kind, TreePath};

/// Bytes of a tar record: headers and contents are padded to a multiple of it.
pub(crate) const BLOCK: usize = 512;

/// Two blocks of zeros end the stream.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Zeros that follow a content of `len` bytes.
pub(crate) const fn padding(len: u64) -> usize {
    (BLOCK - (len % BLOCK as u64) as usize) % BLOCK
}

/// Appends an entry's header, and before it the pax header where one is needed.
pub(crate) fn write_header(out: &mut Vec<u8>, path: &TreePath, entry: &Entry, mtime: u64) {
    let mut pax = Pax::default();
    let mut header = tar::Header::new_ustar();
    let (kind, link, len) = match &entry.kind {
        Kind::Directory => (EntryType::Directory, None, 0),
        Kind::File(file) => (EntryType::Regular, None, file.content.len()),
        Kind::Symlink(target) => (EntryType::Symlink, Some(target.as_str()), 0),
        Kind::Hardlink(target) => (EntryType::Link, Some(target.as_str()), 0),
    };
    header.set_entry_type(kind);
    header.set_mode(entry.mode);
    header.set_mtime(mtime);

    let mut name = path.as_str().to_owned();
    if entry.is_directory() {
        name.push('/');
    }
    set_path(&mut header, &name, &mut pax);
    if let Some(target) = link
        && !set_field(linkname(&mut header), target.as_bytes())
    {
        pax.record("linkpath", target.as_bytes());
    }
    // Eleven octal digits, seven for owners.
    let set_number = |value: u64, limit: u64, key: &str, pax: &mut Pax| {
        if value >= limit {
            pax.record(key, value.to_string().as_bytes());
            0
        } else {
            value
        }
    };
    header.set_size(set_number(len, 1 << 33, "size", &mut pax));
    header.set_uid(set_number(entry.uid.into(), 1 << 21, "uid", &mut pax));
    header.set_gid(set_number(entry.gid.into(), 1 << 21, "gid", &mut pax));
    for (name, value) in &entry.xattrs {
        pax.record(&format!("SCHILY.xattr.{name}"), value);
    }
    header.set_cksum();

    pax.write(out, mtime);
    out.extend_from_slice(header.as_bytes());
}

/// Sets `name` and `prefix`; a path that fits neither way goes into a pax record, cut off in the header.
fn set_path(header: &mut tar::Header, name: &str, pax: &mut Pax) {
    let Some(fields) = header.as_ustar_mut() else { return };
    if set_field(&mut fields.name, name.as_bytes()) {
        return;
    }
    // The split is at a slash that leaves at most 155 bytes before it and at most 100 after it; the first that does.
    let split = name
        .match_indices('/')
        .map(|(at, _)| (&name[..at], &name[at + 1..]))
        .find(|(prefix, rest)| prefix.len() <= 155 && rest.len() <= 100 && !rest.is_empty());
    if let Some((prefix, rest)) = split {
        set_field(&mut fields.prefix, prefix.as_bytes());
        set_field(&mut fields.name, rest.as_bytes());
    } else {
        pax.record("path", name.as_bytes());
        let end = (0..=fields.name.len()).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
        set_field(&mut fields.name, &name.as_bytes()[..end]);
    }
}

fn linkname(header: &mut tar::Header) -> &mut [u8] {
    &mut header.as_old_mut().linkname
}

/// Copies `value` into a field of zeros if it fits; a value that fills the field has no terminator (POSIX allows it).
fn set_field(field: &mut [u8], value: &[u8]) -> bool {
    match field.get_mut(..value.len()) {
        Some(start) => {
            start.copy_from_slice(value);
            true
        }
        None => false,
    }
}

/// Records of a pax extended header, in the order in which they were added.
#[derive(Default)]
struct Pax {
    records: Vec<u8>,
}

impl Pax {
    /// Adds `LENGTH KEY=VALUE\n`, where the length counts its own digits.
    fn record(&mut self, key: &str, value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut len = rest + 1;
        while rest + len.to_string().len() != len {
            len = rest + len.to_string().len();
        }
        self.records.extend_from_slice(format!("{len} {key}=").as_bytes());
        self.records.extend_from_slice(value);
        self.records.push(b'\n');
    }

    fn write(&self, out: &mut Vec<u8>, mtime: u64) {
        if self.records.is_empty() {
            return;
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        if let Some(fields) = header.as_ustar_mut() {
            set_field(&mut fields.name, b"././@PaxHeader");
        }
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(mtime);
        header.set_size(self.records.len() as u64);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(&self.records);
        out.resize(out.len() + padding(self.records.len() as u64), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Writes one header, reads it back with the `tar` crate, and returns path, link target, uid and records before it.
    fn check(path: &str, entry: Entry) -> (String, Option<String>, u64, usize) {
        let path = TreePath::new(path).unwrap();
        let mut bytes = Vec::new();
        write_header(&mut bytes, &path, &entry, 7);
        let blocks = bytes.len() / BLOCK;
        bytes.extend_from_slice(&END);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut read = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(read.header().mtime().unwrap(), 7);
        read.read_to_end(&mut Vec::new()).unwrap();
        let link = read.link_name_bytes().map(|name| String::from_utf8(name.into_owned()).unwrap());
        (
            String::from_utf8(read.path_bytes().into_owned()).unwrap(),
            link,
            read.header().uid().unwrap(),
            blocks,
        )
    }

    fn file() -> Entry {
        Entry::bytes([], false)
    }

    #[test]
    fn short_names_take_one_block() {
        assert_eq!(check("a/b", file()), ("a/b".into(), None, 0, 1));
        assert_eq!(check("a/b", Entry::directory(0o755)), ("a/b/".into(), None, 0, 1));
        assert_eq!(check("l", Entry::symlink("../t")), ("l".into(), Some("../t".into()), 0, 1));
    }

    #[test]
    fn names_are_split_at_a_slash() {
        let name = format!("{}/{}", "p".repeat(150), "n".repeat(100));
        assert_eq!(check(&name, file()), (name, None, 0, 1));
    }

    #[test]
    fn what_does_not_fit_goes_into_pax() {
        let name = format!("{}/é{}", "p".repeat(150), "n".repeat(101));
        assert_eq!(check(&name, file()), (name, None, 0, 3));
        let target = "t".repeat(101);
        assert_eq!(check("l", Entry::symlink(&target)), ("l".into(), Some(target), 0, 3));
    }

    #[test]
    fn pax_lengths_count_themselves() {
        for len in 1..1200 {
            let mut pax = Pax::default();
            pax.record("path", &vec![b'x'; len]);
            let text = String::from_utf8(pax.records).unwrap();
            let (count, _) = text.split_once(' ').unwrap();
            assert_eq!(count.parse::<usize>().unwrap(), text.len());
        }
    }
}
