//! The zip reader, field by field: what it takes, and what it refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod archive;
mod properties;

use std::os::unix::fs::FileExt;

use archive::{Entry, archive, end, end64, extra, extra64, source};
use imgforge_layer::Source;
use imgforge_layer::zip::{Error, Kind, Limits, Method, read_directory, verify};

/// The names in an archive whose content is right, or why there are none.
fn names(bytes: &[u8]) -> Result<Vec<String>, Error> {
    let source = source(bytes);
    let entries = read_directory(&source, &Limits::default())?;
    for entry in &entries {
        verify(&source, entry)?;
    }
    Ok(entries.into_iter().map(|entry| entry.name).collect())
}

fn accept(bytes: &[u8], expected: &[&str]) {
    assert_eq!(names(bytes).unwrap(), expected);
}

fn refuse(bytes: &[u8], message: &str) {
    let found = names(bytes).unwrap_err().to_string();
    assert!(found.contains(message), "{found}");
}

/// An archive of one entry, made of `a` by changing it.
fn one(change: impl FnOnce(&mut Entry)) -> Vec<u8> {
    let mut entry = Entry::file("a", b"content");
    change(&mut entry);
    archive(&[entry])
}

/// A plain archive with something else at its end: `change` is given the entries' bytes, and the directory's size and
/// offset.
fn ended(change: impl FnOnce(&mut Vec<u8>, u32, u32)) -> Vec<u8> {
    let mut bytes = one(|_| ());
    bytes.truncate(bytes.len() - 22);
    let offset = 30 + 1 + 7;
    let size = bytes.len() as u32 - offset;
    change(&mut bytes, size, offset);
    bytes
}

#[test]
fn plain() {
    accept(&archive(&[]), &[]);
    accept(&one(|_| ()), &["a"]);
    accept(&one(|entry| entry.comment = b"a comment".to_vec()), &["a"]);
    accept(&archive(&[Entry::file("b", b"1"), Entry::file("a/é", b"")]), &["b", "a/é"]);
    refuse(b"", "no end record");
    refuse(b"PK\x05\x06", "cut off");
    refuse(&[0; 70_000], "no end record");
}

#[test]
fn entries_are_described() {
    let source = source(&archive(&[
        Entry::file("bin/", b"").with_mode(0o040_755),
        Entry::streamed("bin/a", b"content", true, false).with_mode(0o100_755),
        Entry::file("bin/b", b"a").with_mode(0o120_777),
        Entry { made_by: 0x0014, ..Entry::file("c", b"a") }.with_mode(0o100_755),
    ]));
    let entries = read_directory(&source, &Limits::default()).unwrap();
    let described: Vec<_> = entries
        .iter()
        .map(|entry| (entry.name.as_str(), entry.kind, entry.method, entry.size, entry.mode))
        .collect();
    assert_eq!(
        described,
        [
            ("bin/", Kind::Directory, Method::Stored, 0, Some(0o755)),
            ("bin/a", Kind::File, Method::Deflated, 7, Some(0o755)),
            ("bin/b", Kind::Symlink, Method::Stored, 1, Some(0o777)),
            ("c", Kind::File, Method::Stored, 1, Some(0o755)),
        ]
    );
    assert_eq!(entries[0].data_offset, 34);
    assert_eq!(entries[1].data_offset, 34 + 35);
}

#[test]
fn end_records() {
    accept(&ended(|bytes, size, offset| bytes.extend(end(1, size, offset, b"hello"))), &["a"]);
    refuse(&ended(|bytes, size, offset| bytes.extend(end(1, size, offset - 1, b""))), "should end at byte");
    refuse(&ended(|bytes, size, offset| bytes.extend(end(1, size - 1, offset + 1, b""))), "begins with");
    refuse(&ended(|bytes, size, offset| bytes.extend(end(0, size, offset, b""))), "more bytes after the 0");
    refuse(&ended(|bytes, size, offset| bytes.extend(end(2, size, offset, b""))), "is cut off");
    refuse(&ended(|bytes, size, _| bytes.extend(end(1, size, u32::MAX, b""))), "refers to a Zip64 value");
    refuse(&ended(|bytes, _, offset| bytes.extend(end(1, u32::MAX, offset, b""))), "refers to a Zip64 value");
    refuse(&ended(|bytes, size, offset| bytes.extend(end(u16::MAX, size, offset, b""))), "refers to a Zip64");
    refuse(&ended(|bytes, size, offset| bytes.extend(end(1, size, offset, b"PK\x05\x06"))), "cut off");
    let disk = |index: usize| {
        ended(|bytes, size, offset| {
            let mut end = end(1, size, offset, b"");
            end[index] = 2;
            bytes.extend(end);
        })
    };
    refuse(&disk(4), "number of this disk of the end record is 2, expected 0");
    refuse(&disk(6), "disk of the central directory of the end record is 2, expected 0");
    refuse(&disk(8), "number of entries on this disk of the end record is 2, expected 1");
    refuse(&[one(|_| ()), b"\n".to_vec()].concat(), "should end with its comment at byte");
}

#[test]
fn zip64_end_records() {
    let zip64 = |entries: u16, narrow: [Option<u32>; 2], at: usize, value: u8| {
        ended(|bytes, size, offset| {
            let mut end64 = end64(1, size.into(), offset.into());
            end64[at] = value;
            bytes.extend(end64);
            bytes.extend(end(entries, narrow[0].unwrap_or(size), narrow[1].unwrap_or(offset), b""));
        })
    };
    let all_ones = [Some(u32::MAX); 2];
    accept(&zip64(1, [None; 2], 0, b'P'), &["a"]);
    accept(&zip64(u16::MAX, all_ones, 0, b'P'), &["a"]);
    refuse(&zip64(2, all_ones, 0, b'P'), "number of entries on this disk of the end record is 2, expected 1");
    refuse(&zip64(1, [Some(7), None], 0, b'P'), "size of the central directory of the end record is 7");
    refuse(&zip64(1, [None, Some(7)], 0, b'P'), "offset of the central directory of the end record is 7");
    refuse(&zip64(1, all_ones, 0, b'Q'), "no Zip64 end record");
    refuse(&zip64(1, all_ones, 4, 45), "size of the Zip64 end record is 45, expected 44");
    refuse(&zip64(1, all_ones, 16, 1), "number of this disk of the Zip64 end record is 1");
    refuse(&zip64(1, all_ones, 20, 1), "disk of the central directory of the Zip64 end record is 1");
    refuse(&zip64(1, all_ones, 24, 2), "number of entries on this disk of the Zip64 end record is 2");
    refuse(&zip64(u16::MAX, all_ones, 40, 9), "the central directory should end");
    refuse(&zip64(1, all_ones, 56 + 4, 1), "disk of the end record of the Zip64 locator is 1");
    refuse(&zip64(1, all_ones, 56 + 8, 1), "offset of the Zip64 end record of the Zip64 locator is 1");
    refuse(&zip64(1, all_ones, 56 + 16, 2), "number of disks of the Zip64 locator is 2");
    refuse(&zip64(1, all_ones, 56, b'Q'), "refers to a Zip64 value");
}

#[test]
fn headers_agree() {
    refuse(&one(|entry| entry.local_name = Some(b"b".to_vec())), "is named \"b\" in its local header");
    refuse(&one(|entry| entry.local_name = Some(b"ab".to_vec())), "is named \"ab\" in its local header");
    refuse(&one(|entry| entry.local_flags = Some(0x0800)), "flags of \"a\" is 0x800");
    refuse(
        &one(|entry| (entry.flags, entry.local_flags) = (8, Some(0))),
        "flags of \"a\" is 0x0 in its local",
    );
    refuse(&one(|entry| entry.local_values = Some([0, 7, 7])), "CRC-32 of \"a\" is 0x0");
    refuse(&one(|entry| entry.local_values = Some([entry.crc32, 0, 7])), "compressed size of \"a\" is 0x0");
    refuse(&one(|entry| entry.local_values = Some([entry.crc32, 7, 8])), "size of \"a\" is 0x8");
}

#[test]
fn no_gaps() {
    let entry = Entry::file("b", b"1");
    let gap = Entry { gap: b"?".to_vec(), ..entry.clone() };
    refuse(&archive(std::slice::from_ref(&gap)), "1 bytes from byte 0 on belong to nothing");
    refuse(
        &archive(&[entry, Entry { name: b"c".to_vec(), ..gap }]),
        "1 bytes from byte 32 on belong to nothing",
    );
    refuse(&one(|entry| entry.descriptor = vec![0; 16]), "16 bytes from byte 38 on");
    refuse(&one(|entry| entry.data = b"short".to_vec()), "what follows begins already at byte 36");
}

#[test]
fn data_descriptors() {
    for (signature, wide) in [(false, false), (true, false), (false, true), (true, true)] {
        let entry = Entry::streamed("a", b"content", signature, wide);
        let next = Entry::file("b", b"");
        accept(&archive(&[entry.clone(), next]), &["a", "b"]);
        let both_flags = Entry { flags: 8, ..entry.clone() };
        accept(&archive(&[both_flags]), &["a"]);
        let local_values = Some([entry.crc32, entry.compressed_size, entry.size]);
        accept(&archive(&[Entry { local_values, ..entry.clone() }]), &["a"]);
        let local_values = Some([entry.crc32, entry.compressed_size, 1]);
        refuse(&archive(&[Entry { local_values, ..entry.clone() }]), "size of \"a\" is 0x1");

        let mut missing = entry.clone();
        missing.descriptor.clear();
        refuse(&archive(&[missing]), "number of bytes of \"a\" is 0x0");
        let mut longer = entry.clone();
        longer.descriptor.push(0);
        refuse(&archive(&[longer]), "number of bytes of \"a\"");
        let mut wrong = entry.clone();
        *wrong.descriptor.last_mut().unwrap() = 1;
        refuse(&archive(&[wrong]), "size of \"a\"");
        let mut narrow = entry;
        narrow.local_extra = if wide { Vec::new() } else { extra(1, &[]) };
        refuse(&archive(&[narrow]), "of \"a\"");
    }
    // What is stored may have a descriptor if the local header has its length all the same.
    let descriptor = |entry: &Entry| {
        let values = [entry.crc32, entry.compressed_size, entry.size];
        [b"PK\x07\x08".to_vec(), values.map(u32::to_le_bytes).concat()].concat()
    };
    let stored = |local_values| {
        one(|entry| {
            entry.flags = 8;
            entry.descriptor = descriptor(entry);
            entry.local_values = local_values;
        })
    };
    accept(&stored(None), &["a"]);
    refuse(&stored(Some([0; 3])), "would be a guess");
}

#[test]
fn flags_methods_and_disks() {
    accept(&one(|entry| entry.flags = 0x0806), &["a"]);
    refuse(&one(|entry| entry.flags = 0x0001), "of these, 0x0001 are not supported");
    refuse(&one(|entry| entry.flags = 0x2041), "of these, 0x2041 are not supported");
    refuse(&one(|entry| entry.method = 12), "compressed by method 12");
    refuse(&one(|entry| entry.disk = 1), "begins on disk 1");
}

#[test]
fn sizes_are_possible() {
    refuse(&one(|entry| entry.size = 8), "8 bytes stored in 7 bytes, which can't be");
    refuse(
        &one(|entry| (entry.method, entry.size) = (8, 9000)),
        "9000 bytes deflated to 7 bytes, which can't be",
    );
    refuse(&one(|entry| (entry.method, entry.compressed_size) = (8, 1)), "deflated to 1 bytes");
    refuse(&one(|entry| entry.name = b"a/".to_vec()), "7 bytes of content");
}

#[test]
fn content_is_verified() {
    let streamed = || Entry::streamed("a", b"content", true, false);
    let deflated = || {
        let entry = streamed();
        Entry { local_flags: None, local_values: None, descriptor: Vec::new(), ..entry }
    };
    accept(&archive(&[deflated()]), &["a"]);
    refuse(&one(|entry| entry.crc32 = 1), "00000001 was declared");
    refuse(&archive(&[Entry { crc32: 1, ..deflated() }]), "00000001 was declared");
    refuse(&archive(&[Entry { size: 6, ..deflated() }]), "more than 6 bytes of content, 6 were declared");
    refuse(&archive(&[Entry { size: 8, ..deflated() }]), "7 bytes of content, 8 were declared");
    let mut longer = deflated();
    longer.data.push(0);
    longer.compressed_size += 1;
    refuse(&archive(&[longer]), "ends after 9 bytes, the entry has 10");
    let mut shorter = deflated();
    shorter.data.pop();
    shorter.compressed_size -= 1;
    refuse(&archive(&[shorter]), "is damaged after 7 bytes");
    let mut damaged = deflated();
    damaged.data[0] = 0xff;
    refuse(&archive(&[damaged]), "is damaged after 0 bytes");
}

#[test]
fn kinds() {
    let with_mode = |name: &str, mode| archive(&[Entry::file(name, b"").with_mode(mode)]);
    accept(&with_mode("a/", 0), &["a/"]);
    accept(&with_mode("a", 0o644), &["a"]);
    refuse(&with_mode("a", 0o010_644), "neither a file nor a symlink");
    refuse(&with_mode("a", 0o020_644), "neither a file nor a symlink");
    refuse(&with_mode("a", 0o060_644), "neither a file nor a symlink");
    refuse(&with_mode("a", 0o140_644), "neither a file nor a symlink");
    refuse(&with_mode("a", 0o040_755), "nor a directory whose name ends in a slash");
    refuse(&with_mode("a/", 0o100_644), "nor a directory whose name ends in a slash");
    refuse(&with_mode("a/", 0o120_777), "nor a directory whose name ends in a slash");
    refuse(&one(|entry| (entry.made_by, entry.attributes) = (0x14, 0x10)), "external attributes 0x00000010");
}

#[test]
fn paths() {
    let named = |names: &[&str]| {
        let entries: Vec<_> = names.iter().map(|name| Entry::file(name, b"")).collect();
        archive(&entries)
    };
    accept(&named(&["a/b", "a/", "a.b", "a-b", "ab"]), &["a/b", "a/", "a.b", "a-b", "ab"]);
    refuse(&named(&["a", "b", "a"]), "two entries for one path: \"a\" and \"a\"");
    refuse(&named(&["a/", "b", "a"]), "two entries for one path");
    refuse(&named(&["a/", "a/"]), "two entries for one path");
    refuse(&named(&["a/b", "a.b", "a-b", "a"]), "\"a\" is not a directory, but \"a/b\" is below it");
    refuse(&named(&["a", "a!", "a/b/c/d"]), "\"a\" is not a directory, but \"a/b/c/d\" is below it");
    refuse(&named(&["../a"]), "has a relative component");
    refuse(&named(&["/a"]), "is absolute");
    refuse(&one(|entry| entry.name = b"\xc3\xa9".to_vec()), "not marked as UTF-8");
}

#[test]
fn extra_fields() {
    let both = |bytes: Vec<u8>| {
        one(|entry| {
            entry.local_extra = bytes.clone();
            entry.central_extra = bytes;
        })
    };
    let unicode = |path: &[u8]| extra(0x7075, &[&[1, 0, 0, 0, 0], path].concat());
    accept(&both(extra(0x5455, b"12345")), &["a"]);
    accept(&both(unicode(b"a")), &["a"]);
    accept(&one(|entry| entry.local_extra = extra(0x5455, b"12345")), &["a"]);
    refuse(&both(unicode(b"b")), "another name \"b\" in its Unicode path field");
    refuse(&one(|entry| entry.local_extra = unicode(b"b")), "another name \"b\" in its Unicode path field");
    refuse(&both(extra(0x7075, &[])), "another name \"\"");
    refuse(
        &both([unicode(b"a"), unicode(b"a")].concat()),
        "0x7075 of \"a\" in its central header: it occurs twice",
    );
    refuse(&one(|entry| entry.local_extra = vec![0; 3]), "in its local header: 3 bytes are too few");
    refuse(
        &one(|entry| entry.central_extra = extra(9, b"1")[..4].to_vec()),
        "it should have 1 bytes, 0 are left",
    );
    refuse(
        &both(extra64(&[7])),
        "0x0001 of \"a\" in its central header: it has 8 bytes, the header refers to 0",
    );
    refuse(&one(|entry| entry.size = u32::MAX), "size of \"a\" is all ones");
}

#[test]
fn zip64_sizes() {
    let wide = |local: [u64; 2], central: [u64; 2]| {
        one(|entry| {
            (entry.size, entry.compressed_size) = (u32::MAX, u32::MAX);
            entry.local_extra = extra64(&local);
            entry.central_extra = extra64(&central);
        })
    };
    accept(&wide([7, 7], [7, 7]), &["a"]);
    refuse(&wide([7, 8], [7, 7]), "compressed size of \"a\" is 0x8 in its local header and 0x7");
    // Bazel's writer repeats in a Zip64 field what the local header's own fields have room for.
    let repeated = |values: &[u64]| one(|entry| entry.local_extra = extra64(values));
    accept(&repeated(&[7, 7]), &["a"]);
    for other in [&[7, 8], &[8, 7], &[7, 7, 0][..], &[7]] {
        refuse(&repeated(other), "bytes, the header refers to 0");
    }
    refuse(&wide([7, u64::MAX], [u64::MAX, u64::MAX]), "is 0x7 in its local header");
    refuse(&wide([u64::MAX, u64::MAX], [u64::MAX, u64::MAX]), "what follows begins already at byte 58");
}

/// Beyond 4 GiB: a large hole of stored zeros, behind it a small file, and Zip64 values for all that needs them.
#[test]
fn zip64_archive_larger_than_32_bits() {
    let hole = 5_u64 << 30;
    let mut large = Entry::file("large", b"");
    (large.size, large.compressed_size) = (u32::MAX, u32::MAX);
    large.local_extra = extra64(&[hole, hole]);
    large.central_extra = extra64(&[hole, hole]);
    let mut small = Entry::streamed("small", b"content", true, false);
    let header = large.local_header();
    let small_offset = header.len() as u64 + hole;
    small.central_extra = extra64(&[small_offset]);

    let tail = [small.local_header(), small.data.clone(), small.descriptor.clone()].concat();
    let directory = [large.central_header(0), small.central_header(u32::MAX)].concat();
    let directory_offset = small_offset + tail.len() as u64;
    let end64 = end64(2, directory.len() as u64, directory_offset);
    let end = end(2, directory.len() as u32, u32::MAX, b"");

    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&header, 0).unwrap();
    file.write_all_at(&[tail, directory, end64, end].concat(), small_offset).unwrap();
    let source = Source::from_file(file, "large.zip").unwrap();
    let limits = Limits::default();
    let entries = read_directory(&source, &limits).unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!((entries[0].size, entries[0].data_offset), (hole, 30 + 5 + 20));
    assert_eq!((entries[1].size, entries[1].data_offset), (7, small_offset + 35));
    verify(&source, &entries[1]).unwrap();
}

#[test]
fn limits() {
    let bytes = archive(&[Entry::file("a/b", b"content"), Entry::file("c", b"content")]);
    let check = |limits: Limits, expected: &str| {
        let error = read_directory(&source(&bytes), &limits).unwrap_err().to_string();
        assert_eq!(error, expected);
    };
    let plenty = Limits::default();
    check(Limits { entries: 1, ..plenty.clone() }, "the archive has 2 entries, the limit is 1");
    check(
        Limits { directory: 9, ..plenty.clone() },
        "the archive has 96 bytes of central directory, the limit is 9",
    );
    check(Limits { name: 2, ..plenty.clone() }, "the entry \"a/b\" has 3 bytes of name, the limit is 2");
    check(
        Limits { depth: 1, ..plenty.clone() },
        "the entry \"a/b\" has 2 components of name, the limit is 1",
    );
    check(Limits { entry_size: 6, ..plenty.clone() }, "\"a/b\" has 7 bytes of content, the limit is 6");
    check(Limits { total_size: 13, ..plenty }, "the archive has 14 bytes of content, the limit is 13");
}

#[test]
fn ratio() {
    let ratio = |size: u32| {
        one(|entry| {
            entry.method = 8;
            entry.data = vec![0; 100_000];
            (entry.compressed_size, entry.size) = (100_000, size);
        })
    };
    let read = |size| read_directory(&source(&ratio(size)), &Limits::default());
    assert!(read(1 << 20).is_ok());
    assert!(read((64 << 20) - 1).is_ok());
    assert!(matches!(read(64 << 20), Err(Error::Limit { value: 670, limit: 200, .. })));
}
