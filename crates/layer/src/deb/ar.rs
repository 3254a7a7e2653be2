//! The outer archive of a .deb: `debian-binary`, `control.tar`, `data.tar`.
//!
//! Read strictly: the members in this order, nothing between or behind them but members whose names begin with `_`, which
//! `deb(5)` reserves for additions that readers ignore (signatures), and an end that is the file's end.

use super::Problem;
use crate::Source;

/// How a member is compressed, by the ending of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Xz,
    Zstd,
}

/// A compressed tar in the .deb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) compression: Compression,
}

const MAGIC: [u8; 8] = *b"!<arch>\n";
const HEADER: usize = 60;
/// No package has more than a signature or two beside its three members.
const MAX_MEMBERS: usize = 16;

/// Finds `control.tar` and `data.tar`.
pub(super) fn members(source: &Source) -> Result<(Member, Member), Problem> {
    let mut magic = [0; MAGIC.len()];
    source.read_exact_at(&mut magic, 0).map_err(Problem::Read)?;
    if magic != MAGIC {
        return Err(Problem::Ar { reason: "it does not begin with `!<arch>`".to_owned() });
    }
    let mut at = MAGIC.len() as u64;
    let mut found = Vec::new();
    for _ in 0..MAX_MEMBERS {
        if at == source.len() {
            break;
        }
        let (name, offset, len) = header(source, at)?;
        let end = offset.checked_add(len).filter(|end| *end <= source.len());
        let end = end.ok_or_else(|| ar(format!("member `{name}` ends behind the file")))?;
        // Members begin at even offsets; a writer may leave the padding away behind the last one.
        at = (end + end % 2).min(source.len());
        if !name.starts_with('_') {
            found.push((name, offset, len));
        }
    }
    if at != source.len() {
        return Err(ar(format!("there are more than {MAX_MEMBERS} members")));
    }
    let names = || found.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>().join(", ");
    let [(first, offset, len), (second, ..), (third, ..)] = found.as_slice() else {
        return Err(ar(format!(
            "its members are {}; a package has debian-binary, control.tar and data.tar",
            names()
        )));
    };
    if first != "debian-binary" {
        return Err(ar(format!("its first member is `{first}`, not `debian-binary`")));
    }
    check_format(source, *offset, *len)?;
    let member = |index: usize, prefix: &str, name: &str| {
        let (_, offset, len) = found.get(index)?;
        let compression = match name.strip_prefix(prefix)? {
            "" => Compression::None,
            ".gz" => Compression::Gzip,
            ".xz" => Compression::Xz,
            ".zst" => Compression::Zstd,
            _ => return None,
        };
        Some(Member { offset: *offset, len: *len, compression })
    };
    let wrong = |name: &str| {
        ar(format!("member `{name}` is not read: expected control.tar and data.tar, plain, .gz, .xz or .zst"))
    };
    Ok((
        member(1, "control.tar", second).ok_or_else(|| wrong(second))?,
        member(2, "data.tar", third).ok_or_else(|| wrong(third))?,
    ))
}

/// A member's name, and offset and length of its content.
fn header(source: &Source, at: u64) -> Result<(String, u64, u64), Problem> {
    let mut header = [0; HEADER];
    source.read_exact_at(&mut header, at).map_err(|_| ar(format!("the header at {at} is cut off")))?;
    let text = std::str::from_utf8(&header).ok().filter(|text| text.is_ascii());
    let field = |range: std::ops::Range<usize>| text.and_then(|text| text.get(range)).map(str::trim_end);
    // 16 bytes of name, time, owner, group and mode, 10 bytes of size, 2 bytes that end the header.
    let (Some(name), Some(size), Some(end)) =
        (field(0..16), field(48..58), text.and_then(|text| text.get(58..)))
    else {
        return Err(ar(format!("the header at {at} is not ASCII")));
    };
    if end != "`\n" || size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ar(format!("there is no member header at {at}")));
    }
    let len = size.parse().map_err(|_| ar(format!("the size at {at} is no number")))?;
    // GNU's ar ends names with a slash.
    Ok((name.strip_suffix('/').unwrap_or(name).to_owned(), at + HEADER as u64, len))
}

/// `2.0`, or a later minor version, which must be compatible.
fn check_format(source: &Source, offset: u64, len: u64) -> Result<(), Problem> {
    let mut text = vec![0; usize::try_from(len.min(64)).unwrap_or(64)];
    source.read_exact_at(&mut text, offset).map_err(Problem::Read)?;
    let format = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match format.strip_prefix(b"2.") {
        Some(minor) if !minor.is_empty() && minor.iter().all(u8::is_ascii_digit) && text.contains(&b'\n') => {
            Ok(())
        }
        _ => Err(ar(format!("its format is `{}`, not 2.0", format.escape_ascii()))),
    }
}

fn ar(reason: String) -> Problem {
    Problem::Ar { reason }
}
