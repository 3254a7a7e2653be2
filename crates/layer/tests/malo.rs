//! The reader against malo, a public corpus of archives in which readers see different files.
//!
//! The corpus has four folders: `accept`, which every reader should take; `reject` and `malicious`, which none should;
//! and `iffy`, where it depends. Of these the table says one by one why.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use imgforge_layer::Source;
use imgforge_layer::zip::{Limits, read_directory, verify};

/// What is expected of an archive.
enum Verdict {
    /// Accepted, with these names.
    Accept(&'static [&'static str]),
    /// Refused, with a message that contains this.
    Refuse(&'static str),
}
use Verdict::{Accept, Refuse};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpora/malo/zip")
}

/// Reads an archive as a layer does: the directory, then every entry's content.
fn names(path: &Path) -> Result<Vec<String>, String> {
    let source = Source::open(path).unwrap();
    let entries = read_directory(&source, &Limits::default()).map_err(|error| error.to_string())?;
    for entry in &entries {
        verify(&source, entry).map_err(|error| error.to_string())?;
    }
    Ok(entries.into_iter().map(|entry| entry.name).collect())
}

/// Compares each archive of a folder with its verdict; every archive has one.
fn check(folder: &str, verdicts: &[(&str, Verdict)]) {
    let folder = corpus().join(folder);
    let present: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let judged: BTreeSet<String> = verdicts.iter().map(|(name, _)| format!("{name}.zip")).collect();
    assert_eq!(present, judged);

    let mut wrong = Vec::new();
    for (name, verdict) in verdicts {
        let outcome = names(&folder.join(format!("{name}.zip")));
        let right = match (verdict, &outcome) {
            (Accept(expected), Ok(names)) => names == expected,
            (Refuse(expected), Err(message)) => message.contains(expected),
            _ => false,
        };
        if !right {
            wrong.push(format!("{name}: {outcome:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn accept() {
    check(
        "accept",
        &[
            ("comment", Accept(&["foo"])),
            ("data_descriptor", Accept(&["fixme"])),
            ("data_descriptor_zip64", Accept(&["fixme"])),
            ("deflate", Accept(&["foo"])),
            ("normal_deflate", Accept(&["fixme"])),
            ("normal_deflate_zip64_extra", Accept(&["fixme"])),
            ("store", Accept(&["foo"])),
            ("subdir", Accept(&["foo/", "foo/bar"])),
            ("zip64_eocd", Accept(&["fixme"])),
        ],
    );
}

#[test]
fn iffy() {
    check(
        "iffy",
        &[
            // A comment that holds the signature of an end record is what the reader's first rule is about.
            ("8bitcomment", Refuse("end with its comment at byte 134, but the file has 221")),
            // Three bytes are no extra field. No tool that makes wheels pads like this.
            ("extra3byte", Refuse("3 bytes are too few for a field")),
            // An encoding to be guessed, and a second name that overrides it. The wheel specification asks for UTF-8.
            ("non_ascii_original_name", Refuse("not ASCII, and not marked as UTF-8")),
            // A file without an entry for its folder: nearly every wheel is like this.
            ("nosubdir", Accept(&["foo/bar"])),
            // Bytes before the archive, which offsets do or do not count.
            ("prefix", Refuse("should end at byte 93, but the end records begin at byte 97")),
            // Bytes behind the archive, in which another archive could be.
            ("suffix_not_comment", Refuse("end with its comment at byte 112, but the file has 116")),
            // Room for anything between the records, of which readers differ in whether they skip it.
            (
                "zip64_eocd_extensible_data",
                Refuse("offset of the Zip64 end record of the Zip64 locator is 93, expected 113"),
            ),
            // A Zip64 field with a value that the header does not refer to: which of both counts, readers differ in.
            ("zip64_extra_too_long", Refuse("it has 16 bytes, the header refers to 8")),
            // A header refers to a Zip64 value that is not there.
            ("zip64_extra_too_short", Refuse("it has 8 bytes, the header refers to 16")),
        ],
    );
}

#[test]
fn malicious() {
    check(
        "malicious",
        &[
            ("second_unicode_extra", Refuse("0x7075 of \"original\" in its central header: it occurs twice")),
            ("short_usize", Refuse("more than 9 bytes of content, 9 were declared")),
            ("short_usize_zip64", Refuse("it has 16 bytes, the header refers to 0")),
            ("unicode_extra_chain", Refuse("0x7075 of \"original\" in its central header: it occurs twice")),
            ("zip64_eocd_confusion", Refuse("two end records fit the end of the file")),
            ("zipinzip", Refuse("two end records fit the end of the file")),
        ],
    );
}

#[test]
fn reject() {
    check(
        "reject",
        &[
            ("cd_extra_entry", Refuse("ends at byte 42, but what follows begins already at byte 0")),
            ("cd_missing_entry", Refuse("40 bytes from byte 42 on belong to nothing")),
            (
                "data_descriptor_bad_crc",
                Refuse("CRC-32 of \"fixme\" is 0x1 in its data descriptor, expected 0x3610a686"),
            ),
            ("data_descriptor_bad_crc_0", Refuse("no data descriptor at byte 40")),
            (
                "data_descriptor_bad_csize",
                Refuse("compressed size of \"fixme\" is 0x8 in its data descriptor, expected 0x7"),
            ),
            (
                "data_descriptor_bad_usize",
                Refuse("size of \"fixme\" is 0x6 in its data descriptor, expected 0x5"),
            ),
            (
                "data_descriptor_bad_usize_no_sig",
                Refuse("size of \"fixme\" is 0x6 in its data descriptor, expected 0x5"),
            ),
            (
                "data_descriptor_zip64_csize",
                Refuse("compressed size of \"fixme\" is 0x8 in its data descriptor, expected 0x7"),
            ),
            (
                "data_descriptor_zip64_usize",
                Refuse("size of \"fixme\" is 0x6 in its data descriptor, expected 0x5"),
            ),
            ("dupe_eocd", Refuse("22 more bytes after the 1 entries")),
            ("shortextra", Refuse("it should have 9 bytes, 8 are left")),
            ("zip64_extra_csize", Refuse("ends at byte 55, but what follows begins already at byte 54")),
            ("zip64_extra_usize", Refuse("has 5 bytes of content, 6 were declared")),
        ],
    );
}
