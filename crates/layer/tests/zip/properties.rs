//! What holds for any archive: another writer's are read as they were meant, a changed byte changes no meaning, and
//! nothing makes the reader panic.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::os::unix::fs::FileExt;

use imgforge_layer::Source;
use imgforge_layer::zip::{Entry, Kind, Limits, Method, read_directory, verify};
use proptest::prelude::*;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

use crate::archive;

/// A file to write with the `zip` crate.
#[derive(Debug, Clone)]
struct File {
    content: Vec<u8>,
    deflated: bool,
    large: bool,
    mode: u32,
}

fn files() -> impl Strategy<Value = BTreeMap<String, File>> {
    let content = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        (0_usize..200_000, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ];
    let file = (content, any::<bool>(), any::<bool>(), 0_u32..0o1000)
        .prop_map(|(content, deflated, large, mode)| File { content, deflated, large, mode });
    // A file's path has an extension and a folder's has none, so that none is both.
    proptest::collection::btree_map("([a-zé]{1,3}/){0,3}[a-z ü]{1,8}\\.[a-z]", file, 0..12)
}

/// Written to a seekable file, with a folder, a symlink and a comment.
fn write_seekable(files: &BTreeMap<String, File>) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.add_directory("a folder/", SimpleFileOptions::default()).unwrap();
    for (name, file) in files {
        let method = if file.deflated { CompressionMethod::Deflated } else { CompressionMethod::Stored };
        let options = SimpleFileOptions::default()
            .compression_method(method)
            .large_file(file.large)
            .unix_permissions(file.mode);
        writer.start_file(name.as_str(), options).unwrap();
        writer.write_all(&file.content).unwrap();
    }
    writer.add_symlink("a link", "target", SimpleFileOptions::default()).unwrap();
    writer.set_comment("a comment").unwrap();
    writer.finish().unwrap().into_inner()
}

/// Written to a pipe: what is not known before the data follows it. All is deflated, as the length of stored data would
/// be a guess, and small, as this writer leaves a Zip64 field in the local header to which nothing refers.
fn write_streaming(files: &BTreeMap<String, File>) -> Vec<u8> {
    let mut writer = ZipWriter::new_stream(Vec::new());
    for (name, file) in files {
        let options = SimpleFileOptions::default().unix_permissions(file.mode);
        writer.start_file(name.as_str(), options).unwrap();
        writer.write_all(&file.content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn check_entries(bytes: &[u8], files: &BTreeMap<String, File>) {
    let source = archive::source(bytes);
    let entries = read_directory(&source, &Limits::default()).unwrap();
    let mut found = 0;
    for entry in &entries {
        verify(&source, entry).unwrap();
        let Some(file) = files.get(&entry.name) else { continue };
        found += 1;
        assert_eq!(entry.kind, Kind::File);
        assert_eq!(entry.size, file.content.len() as u64);
        assert_eq!(entry.crc32, crc32fast::hash(&file.content));
        assert_eq!(entry.mode, Some(file.mode));
    }
    assert_eq!(found, files.len());
    let kind = |name: &str| entries.iter().find(|entry| entry.name == name).map(|entry| entry.kind);
    if entries.len() > files.len() {
        assert_eq!(kind("a folder/"), Some(Kind::Directory));
        assert_eq!(kind("a link"), Some(Kind::Symlink));
        assert_eq!(entries.len(), files.len() + 2);
    }
}

/// What must not change under a changed byte. Permissions, times and versions are written once only, and the content
/// is judged by its CRC-32.
fn meaning(entries: &[Entry]) -> Vec<(&str, Method, u32, u64, u64, u64)> {
    entries
        .iter()
        .map(|entry| {
            let Entry { name, method, crc32, compressed_size, size, data_offset, .. } = entry;
            (name.as_str(), *method, *crc32, *compressed_size, *size, *data_offset)
        })
        .collect()
}

/// Every other value of every byte, one at a time.
fn check_mutations(bytes: &[u8]) {
    let limits = Limits::default();
    let original = read_directory(&archive::source(bytes), &limits).unwrap();
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    let source = Source::from_file(file.try_clone().unwrap(), "mutated.zip").unwrap();
    let mut refused = 0;
    for (offset, byte) in bytes.iter().enumerate() {
        for change in 1..=u8::MAX {
            file.write_all_at(&[byte ^ change], offset as u64).unwrap();
            match read_directory(&source, &limits) {
                Err(_) => refused += 1,
                Ok(entries) => {
                    assert_eq!(
                        meaning(&entries),
                        meaning(&original),
                        "{:#x} at byte {offset}",
                        byte ^ change
                    );
                }
            }
        }
        file.write_all_at(&[*byte], offset as u64).unwrap();
    }
    assert!(refused > bytes.len() * 255 / 2, "{refused}");
}

#[test]
fn mutations_of_stored() {
    check_mutations(&archive::archive(&[archive::Entry::file("a/", b""), archive::Entry::file("a/b", b"b")]));
}

#[test]
fn mutations_of_streamed() {
    check_mutations(&archive::archive(&[archive::Entry::streamed("a", b"content", true, false)]));
    check_mutations(&archive::archive(&[archive::Entry::streamed("a", b"content", false, true)]));
}

#[test]
fn mutations_of_zip64() {
    let mut entry = archive::Entry::file("a", b"content");
    (entry.size, entry.compressed_size) = (u32::MAX, u32::MAX);
    entry.local_extra = archive::extra64(&[7, 7]);
    entry.central_extra = archive::extra64(&[7, 7]);
    let mut bytes = [entry.local_header(), entry.data.clone()].concat();
    let (offset, directory) = (bytes.len() as u64, entry.central_header(0));
    bytes.extend(&directory);
    bytes.extend(archive::end64(1, directory.len() as u64, offset));
    bytes.extend(archive::end(u16::MAX, u32::MAX, u32::MAX, b"zip64"));
    check_mutations(&bytes);
}

/// Reads whatever it is, to the end.
fn read(bytes: &[u8]) {
    let source = archive::source(bytes);
    if let Ok(entries) = read_directory(&source, &Limits::default()) {
        for entry in entries {
            let _ = verify(&source, &entry);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn seekable_archives_are_read(files in files()) {
        check_entries(&write_seekable(&files), &files);
    }

    #[test]
    fn streamed_archives_are_read(files in files()) {
        check_entries(&write_streaming(&files), &files);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn random_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        read(&bytes);
    }

    /// Random bytes as entries and directory, under end records that point right at them.
    #[test]
    fn random_directories_do_not_panic(
        data in proptest::collection::vec(any::<u8>(), 0..100),
        directory in proptest::collection::vec(any::<u8>(), 0..300),
        entries in any::<u16>(),
        zip64 in any::<bool>(),
    ) {
        let (offset, size) = (data.len(), directory.len());
        let mut bytes = [data, b"PK\x01\x02".to_vec(), directory].concat();
        if zip64 {
            bytes.extend(archive::end64(entries.into(), size as u64 + 4, offset as u64));
        }
        bytes.extend(archive::end(entries, size as u32 + 4, offset as u32, b""));
        read(&bytes);
    }

    /// Several changes at once, of the kind that get far: fields set to other fields' values and to extremes.
    #[test]
    fn spliced_archives_do_not_panic(
        splices in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1_usize..9), 1..6),
    ) {
        let mut bytes = archive::archive(&[
            archive::Entry::file("a/", b""),
            archive::Entry::streamed("a/b", b"content", true, true),
            archive::Entry::file("c", &[0xff; 16]),
        ]);
        for (from, to, len) in splices {
            let (from, to) = (from.index(bytes.len() - len), to.index(bytes.len() - len));
            bytes.copy_within(from..from + len, to);
        }
        read(&bytes);
    }
}
