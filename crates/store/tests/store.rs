//! One process and its store: lookups, damage, records, collection and errors.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use imgforge_oci::Digest;
use imgforge_store::{BlobState, Damaged, Finished, GcPolicy, GcReport, Store, StoreError};
use tempfile::TempDir;

const HOUR: Duration = Duration::from_secs(3600);

fn store() -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    (dir, store)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Dates the last use of a blob.
fn used(store: &Store, digest: &Digest, ago: Duration) {
    let stamp = fs::File::options().write(true).open(store.root().join("stamps").join(digest.hex())).unwrap();
    stamp.set_modified(SystemTime::now() - ago).unwrap();
}

fn writable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn what_goes_in_comes_out() {
    let (_dir, store) = store();
    let digest = store.insert(b"hello").unwrap();
    assert_eq!(digest, Digest::of(b"hello"));
    assert_eq!(std::io::read_to_string(store.open_blob(&digest).unwrap()).unwrap(), "hello");
    let metadata = fs::metadata(store.blob_path(&digest)).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o444);
    assert_eq!(metadata.modified().unwrap(), SystemTime::UNIX_EPOCH);
    assert_eq!(names(&store.root().join("tmp")), [""; 0]);
    let again = Store::open(store.root()).unwrap();
    assert!(again.contains(&digest).unwrap());
    assert_eq!(again.check(&Digest::of(b"other")).unwrap(), BlobState::Missing);
    assert!(matches!(again.open_blob(&Digest::of(b"other")), Err(StoreError::Missing { .. })));
}

#[test]
fn a_writer_hashes_or_trusts_its_user() {
    let (_dir, store) = store();
    let mut writer = store.hashing_writer().unwrap();
    writer.write_all(b"abc").unwrap();
    assert_eq!(writer.commit().unwrap(), Digest::of(b"abc"));

    let mut writer = store.hashing_writer().unwrap();
    writer.write_all(b"abd").unwrap();
    let result = writer.commit_expecting(&Digest::of(b"abe"));
    assert!(matches!(result, Err(StoreError::Mismatch { size: 3, .. })), "{result:?}");

    let mut writer = store.writer().unwrap();
    writer.write_all(b"abf").unwrap();
    let result = writer.commit(Digest::of(b"abf"), 4);
    assert!(matches!(result, Err(StoreError::Size { written: 3, expected: 4, .. })), "{result:?}");

    let mut writer = store.writer().unwrap();
    writer.write_all(b"abf").unwrap();
    writer.commit(Digest::of(b"abf"), 3).unwrap();
    drop(store.writer().unwrap());
    assert_eq!(store.blobs().unwrap().len(), 2);
    assert_eq!(names(&store.root().join("tmp")), [""; 0]);
}

#[test]
fn a_large_blob_is_written_behind() {
    let (_dir, store) = store();
    let mut writer = store.hashing_writer().unwrap();
    for piece in 0..40_u8 {
        writer.write_all(&vec![piece; 1 << 20]).unwrap();
    }
    let digest = writer.commit().unwrap();
    assert_eq!(store.blobs().unwrap().get(&digest), Some(&(40 << 20)));
    assert_eq!(store.verify(&|_| {}).unwrap(), []);
}

/// Damages a blob, and expects that no lookup returns it, that its bytes are set aside, and that it can be made anew.
fn check_damage(damage: impl FnOnce(&Path)) {
    check_damage_leaves(1, damage);
}

/// [`check_damage`] of a kind that leaves so many files to set aside.
fn check_damage_leaves(aside: usize, damage: impl FnOnce(&Path)) {
    let (_dir, store) = store();
    let bytes = vec![7; 10_000];
    let digest = store.insert(&bytes).unwrap();
    store.put_record("layers/1", "key", &"value", &[digest]).unwrap();
    let path = store.blob_path(&digest);
    damage(&path);
    assert_eq!(store.record::<String>("layers/1", "key").unwrap(), None);
    assert!(!path.exists() && !path.is_symlink());
    assert_eq!(store.check(&digest).unwrap(), BlobState::Missing);
    assert_eq!(names(&store.root().join("tmp")).len(), aside);
    store.insert(&bytes).unwrap();
    assert_eq!(store.record::<String>("layers/1", "key").unwrap().as_deref(), Some("value"));
    assert_eq!(store.gc(&GcPolicy::default(), SystemTime::now()).unwrap().remains, aside);
    assert_eq!(names(&store.root().join("tmp")), [""; 0]);
}

#[test]
fn a_flipped_byte_is_seen() {
    check_damage(|path| {
        writable(path);
        let mut file = fs::File::options().write(true).open(path).unwrap();
        file.write_all(&[8]).unwrap();
    });
}

#[test]
fn a_truncated_blob_is_seen() {
    check_damage(|path| {
        writable(path);
        fs::File::options().write(true).open(path).unwrap().set_len(9_999).unwrap();
    });
}

#[test]
fn a_replaced_blob_is_seen() {
    check_damage(|path| {
        let other = path.with_extension("other");
        fs::write(&other, vec![8; 10_000]).unwrap();
        fs::rename(other, path).unwrap();
    });
}

#[test]
fn a_replaced_blob_with_the_right_date_is_seen() {
    check_damage(|path| {
        let other = path.with_extension("other");
        fs::write(&other, vec![8; 10_000]).unwrap();
        fs::File::options().write(true).open(&other).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        fs::rename(other, path).unwrap();
    });
}

#[test]
fn a_link_is_no_blob() {
    check_damage_leaves(0, |path| {
        let other = path.with_extension("other");
        fs::rename(path, &other).unwrap();
        std::os::unix::fs::symlink(&other, path).unwrap();
    });
}

#[test]
fn a_folder_is_no_blob() {
    let (_dir, store) = store();
    let digest = Digest::of(b"x");
    fs::create_dir(store.blob_path(&digest)).unwrap();
    assert!(matches!(store.check(&digest).unwrap(), BlobState::Damaged { received: None, .. }));
    assert_eq!(store.insert(b"x").unwrap(), digest);
}

#[test]
fn a_touched_or_copied_blob_is_hashed_and_trusted_again() {
    let (_dir, store) = store();
    let digest = store.insert(b"bytes").unwrap();
    let path = store.blob_path(&digest);
    writable(&path);
    fs::File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now()).unwrap();
    assert_eq!(store.check(&digest).unwrap(), BlobState::Intact);
    fs::write(path.with_extension("copy"), b"bytes").unwrap();
    fs::rename(path.with_extension("copy"), &path).unwrap();
    assert_eq!(store.check(&digest).unwrap(), BlobState::Intact);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
    fs::write(store.root().join("stamps").join(digest.hex()), "5 0").unwrap();
    assert_eq!(store.check(&digest).unwrap(), BlobState::Intact);
    fs::remove_dir_all(store.root().join("stamps")).unwrap();
    let store = Store::open(store.root()).unwrap();
    assert_eq!(store.check(&digest).unwrap(), BlobState::Intact);
}

#[test]
fn hard_links_are_no_damage() {
    let (dir, store) = store();
    let digest = store.insert(b"bytes").unwrap();
    let stamp = fs::read(store.root().join("stamps").join(digest.hex())).unwrap();
    fs::hard_link(store.blob_path(&digest), dir.path().join("link")).unwrap();
    assert!(store.contains(&digest).unwrap());
    assert_eq!(fs::read(store.root().join("stamps").join(digest.hex())).unwrap(), stamp);
}

#[test]
fn a_hundred_lookups_are_cheap() {
    let (_dir, store) = store();
    let digests: Vec<_> = (0..100_u32).map(|n| store.insert(&n.to_le_bytes()).unwrap()).collect();
    let best = (0..5)
        .map(|_| {
            let start = std::time::Instant::now();
            assert!(digests.iter().all(|digest| store.contains(digest).unwrap()));
            start.elapsed()
        })
        .min()
        .unwrap();
    println!("100 lookups: {best:?}");
    // Meant to be below 5 ms; a busy machine gets some more.
    assert!(best < Duration::from_millis(20), "{best:?}");
}

#[test]
fn records_come_back_while_their_blobs_do() {
    let (_dir, store) = store();
    let (a, b) = (store.insert(b"a").unwrap(), store.insert(b"b").unwrap());
    store.put_record("layers/1", "key", &("text", 7), &[a, b]).unwrap();
    store.put_record("artifacts", "key", &[1, 2], &[]).unwrap();
    let value = |store: &Store| store.record::<(String, u32)>("layers/1", "key").unwrap();
    assert_eq!(value(&store), Some(("text".to_owned(), 7)));
    assert_eq!(store.record::<Vec<u8>>("artifacts", "key").unwrap(), Some(vec![1, 2]));
    assert_eq!(store.record::<Vec<u8>>("artifacts", "other").unwrap(), None);
    assert_eq!(store.record::<bool>("layers/1", "key").unwrap(), None, "another type");
    store.put_record("layers/1", "key", &("new", 8), &[a, b]).unwrap();
    assert_eq!(value(&store), Some(("new".to_owned(), 8)));
    fs::remove_file(store.blob_path(&b)).unwrap();
    assert_eq!(value(&store), None);
    store.insert(b"b").unwrap();
    assert_eq!(value(&store), Some(("new".to_owned(), 8)));
}

#[test]
fn a_damaged_record_is_none() {
    let (_dir, store) = store();
    store.put_record("layers/1", "key", &"value", &[]).unwrap();
    let path = store.root().join("layers/1/key");
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() - 1 {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        let found = store.record::<String>("layers/1", "key").unwrap();
        assert_eq!(found, None, "{}", String::from_utf8_lossy(&bad));
        fs::write(&path, &good[..at]).unwrap();
        assert_eq!(store.record::<String>("layers/1", "key").unwrap(), None);
    }
    assert_eq!(store.verify(&|_| {}).unwrap(), [Damaged::Record { name: "layers/1/key".to_owned() }]);
    assert!(!path.exists());
}

#[test]
fn names_stay_inside() {
    let (_dir, store) = store();
    for (bucket, key) in [
        ("..", "a"),
        ("layers", ".."),
        ("layers/..", "a"),
        ("", "a"),
        ("layers", "a/b"),
        ("layers", ".a"),
        ("tmp", "a"),
    ] {
        let result = store.put_record(bucket, key, &1, &[]);
        assert!(matches!(result, Err(StoreError::Name { .. })), "{bucket} {key}: {result:?}");
    }
}

#[test]
fn a_partial_is_resumed_and_finished() {
    let (_dir, store) = store();
    let digest = Digest::of(b"0123456789");
    let partial = |store: &Store| store.partial(&digest, || {}).unwrap();
    partial(&store).unwrap().append(b"01234").unwrap();
    let mut rest = partial(&Store::open(store.root()).unwrap()).unwrap();
    assert_eq!(rest.len(), 5);
    rest.append(b"56789").unwrap();
    rest.finish().unwrap();
    assert!(partial(&store).is_none());
    assert_eq!(fs::read(store.blob_path(&digest)).unwrap(), b"0123456789");
    assert_eq!(names(&store.root().join("tmp")), [""; 0]);
}

#[test]
fn a_wrong_partial_is_thrown_away() {
    let (_dir, store) = store();
    let digest = Digest::of(b"0123456789");
    let partial = || store.partial(&digest, || {}).unwrap().unwrap();
    let mut wrong = partial();
    wrong.append(b"012345678!").unwrap();
    let Finished::Wrong { partial: mut again, received, size } = wrong.finish().unwrap() else { panic!() };
    assert_eq!((received, size, again.len()), (Digest::of(b"012345678!"), 10, 0));
    again.append(b"nonsense").unwrap();
    again.restart().unwrap();
    again.append(b"0123456789").unwrap();
    assert!(matches!(again.finish().unwrap(), Finished::Stored));
    assert!(store.contains(&digest).unwrap());
}

#[test]
fn verify_reads_what_the_stamp_hides() {
    let (_dir, store) = store();
    let (good, bad) = (store.insert(b"good").unwrap(), store.insert(b"same").unwrap());
    let path = store.blob_path(&bad);
    writable(&path);
    fs::write(&path, b"SAME").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert!(store.contains(&bad).unwrap(), "damage that moves no date is what verify is for");
    let damaged = store.verify(&|progress| assert!(progress.done <= progress.total)).unwrap();
    let [Damaged::Blob { digest, received, moved_to }] = damaged.as_slice() else { panic!("{damaged:?}") };
    assert_eq!((*digest, *received), (bad, Some(Digest::of(b"SAME"))));
    assert_eq!(fs::read(moved_to).unwrap(), b"SAME");
    assert!(!store.contains(&bad).unwrap() && store.contains(&good).unwrap());
    assert_eq!(store.verify(&|_| {}).unwrap(), []);
}

/// Five blobs of 100 bytes, last used 1 to 5 hours ago; the blob of hour 2 has a record.
fn aged() -> (TempDir, Store, Vec<Digest>) {
    let (dir, store) = store();
    let digests: Vec<_> = (1..=5_u8).map(|n| store.insert(&[n; 100]).unwrap()).collect();
    store.put_record("layers/1", "two", &2, &digests[1..2]).unwrap();
    for (hours, digest) in (1..).zip(&digests) {
        used(&store, digest, HOUR * hours);
    }
    (dir, store, digests)
}

/// Collects from [`aged`] and expects the blobs of these hours to go, in this order.
fn check_gc(policy: impl FnOnce(&[Digest]) -> GcPolicy, removed: &[usize]) -> GcReport {
    let (_dir, store, digests) = aged();
    let policy = policy(&digests);
    let planned = store.plan_gc(&policy, SystemTime::now()).unwrap();
    assert_eq!(store.blobs().unwrap().len(), 5);
    let report = store.gc(&policy, SystemTime::now()).unwrap();
    assert_eq!(planned, report);
    let expected: Vec<_> = removed.iter().map(|hours| digests[hours - 1]).collect();
    assert_eq!(report.removed, expected);
    assert_eq!(report.bytes, removed.len() as u64 * 100);
    assert_eq!((report.kept, report.kept_bytes), (5 - removed.len(), 500 - report.bytes));
    for digest in &digests {
        assert_eq!(
            store.contains(digest).unwrap(),
            !removed.contains(&(digests.iter().position(|d| d == digest).unwrap() + 1))
        );
    }
    let record = store.record::<u8>("layers/1", "two").unwrap();
    assert_eq!(record, (!removed.contains(&2)).then_some(2));
    assert_eq!(store.root().join("layers/1/two").exists(), record.is_some());
    assert_eq!(names(&store.root().join("stamps")).len(), report.kept);
    assert_eq!(names(&store.root().join("tmp")), [""; 0]);
    report
}

#[test]
fn verification_is_no_use() {
    let (_dir, store, digests) = aged();
    assert_eq!(store.verify(&|_| {}).unwrap(), []);
    let policy = GcPolicy { max_age: Some(HOUR * 9 / 2), ..GcPolicy::default() };
    assert_eq!(store.gc(&policy, SystemTime::now()).unwrap().removed, digests[4..]);
}

#[test]
fn gc_without_limits_removes_nothing() {
    check_gc(|_| GcPolicy::default(), &[]);
}

#[test]
fn gc_by_age() {
    check_gc(|_| GcPolicy { max_age: Some(HOUR * 7 / 2), ..GcPolicy::default() }, &[5, 4]);
}

#[test]
fn gc_by_size_takes_the_least_recently_used() {
    check_gc(|_| GcPolicy { max_size: Some(250), ..GcPolicy::default() }, &[5, 4, 3]);
}

#[test]
fn gc_by_age_and_size() {
    let policy = GcPolicy { max_age: Some(HOUR * 9 / 2), max_size: Some(399), ..GcPolicy::default() };
    check_gc(|_| policy, &[5, 4]);
}

#[test]
fn gc_keeps_what_it_is_told_to() {
    let policy = |digests: &[Digest]| GcPolicy {
        max_size: Some(0),
        keep: HashSet::from([digests[4]]),
        keep_records: HashSet::from(["layers/1/two".to_owned()]),
        ..GcPolicy::default()
    };
    check_gc(policy, &[4, 3, 1]);
}

#[test]
fn gc_takes_records_with_their_blobs() {
    let report = check_gc(|_| GcPolicy { max_size: Some(100), ..GcPolicy::default() }, &[5, 4, 3, 2]);
    assert_eq!(report.records, 1);
}

#[test]
fn gc_under_a_lease_keeps_what_was_used_since() {
    let (_dir, store, digests) = aged();
    let lease = store.lease().unwrap();
    let new = store.insert(b"made by the build").unwrap();
    assert_eq!(store.record::<u8>("layers/1", "two").unwrap(), Some(2));
    assert!(store.contains(&digests[4]).unwrap());
    let all = GcPolicy { max_age: Some(Duration::ZERO), max_size: Some(0), ..GcPolicy::default() };
    let later = SystemTime::now() + HOUR;
    let report = Store::open(store.root()).unwrap().gc(&all, later).unwrap();
    assert_eq!(report.removed, [digests[3], digests[2], digests[0]]);
    assert_eq!(store.record::<u8>("layers/1", "two").unwrap(), Some(2));
    assert!(store.contains(&new).unwrap() && store.contains(&digests[4]).unwrap());
    drop(lease);
    let report = store.gc(&all, later).unwrap();
    assert_eq!((report.removed.len(), report.kept, report.records), (3, 0, 1));
}

/// Two records of 1,000 bytes each, used 1 and 3 hours ago, among the blobs of [`aged`]: which of the two stay?
fn check_gc_of_sized_records(policy: GcPolicy, expected: [bool; 2]) -> GcReport {
    let (_dir, store, _) = aged();
    for (key, hours) in [("young", 1), ("old", 3)] {
        store.put_record_of_size("unpacked/1", key, &key, 1000).unwrap();
        let file = fs::File::options().write(true).open(store.root().join("unpacked/1").join(key)).unwrap();
        file.set_modified(SystemTime::now() - HOUR * hours).unwrap();
    }
    let planned = store.plan_gc(&policy, SystemTime::now()).unwrap();
    let report = store.gc(&policy, SystemTime::now()).unwrap();
    assert_eq!(planned, report);
    let stay = ["young", "old"].map(|key| store.record::<String>("unpacked/1", key).unwrap().is_some());
    assert_eq!(stay, expected);
    assert_eq!(report.record_bytes + report.kept_record_bytes, 2000);
    assert_eq!(report.kept_record_bytes, 1000 * stay.iter().filter(|stays| **stays).count() as u64);
    report
}

#[test]
fn gc_counts_what_records_stand_for() {
    check_gc_of_sized_records(GcPolicy::default(), [true, true]);
    check_gc_of_sized_records(GcPolicy { max_age: Some(HOUR * 2), ..GcPolicy::default() }, [true, false]);
    // Of 2,500 bytes: the blobs of hours 5, 4 and 3, and the record of hour 3.
    let policy = GcPolicy { max_size: Some(1300), ..GcPolicy::default() };
    assert_eq!(check_gc_of_sized_records(policy, [true, false]).removed.len(), 3);
    let keep_records = HashSet::from(["unpacked/1/old".to_owned()]);
    let policy = GcPolicy { max_size: Some(0), keep_records, ..GcPolicy::default() };
    check_gc_of_sized_records(policy, [false, true]);
}

#[test]
fn folders_are_their_makers_until_they_die() {
    let (_dir, store) = store();
    let (held, left) = (store.folder().unwrap(), store.folder().unwrap());
    assert_ne!(held.path(), left.path());
    fs::write(left.path().join("file"), "x").unwrap();
    let path = left.path().to_owned();
    drop(left);
    let found = store.abandoned_folders().unwrap();
    assert!(found.len() == 1 && found[0].path() == path);
    assert!(store.abandoned_folders().unwrap().is_empty(), "they are locked by whoever got them");
    assert_eq!(store.gc(&GcPolicy::default(), SystemTime::now()).unwrap().remains, 0);
    held.persist(&store.root().join("rootfs/1/x")).unwrap();
    assert!(path.join("file").exists() && store.root().join("rootfs/1/x").is_dir());
    assert!(store.folder().unwrap().persist(&path).is_err());
}

#[test]
fn gc_removes_remains_that_nobody_holds() {
    let (_dir, store) = store();
    let writer = store.writer().unwrap();
    let mut partial = store.partial(&Digest::of(b"held"), || {}).unwrap().unwrap();
    partial.append(b"he").unwrap();
    store.partial(&Digest::of(b"left"), || {}).unwrap().unwrap().append(b"le").unwrap();
    let lock = store.work_lock("work", |_| {}).unwrap();
    for name in ["tmp/new-1-1", "locks/lease-1-1", "locks/work-00"] {
        fs::write(store.root().join(name), b"123").unwrap();
    }
    let report = store.gc(&GcPolicy::default(), SystemTime::now()).unwrap();
    assert_eq!((report.remains, report.remains_bytes), (1, 3));
    assert_eq!(names(&store.root().join("tmp")).len(), 3);
    assert_eq!(names(&store.root().join("locks")).len(), 2);
    let old = GcPolicy { max_age: Some(HOUR), ..GcPolicy::default() };
    assert_eq!(store.gc(&old, SystemTime::now() + HOUR * 2).unwrap().remains, 1, "the old download");
    assert_eq!(names(&store.root().join("tmp")).len(), 2);
    drop((writer, partial, lock));
}

#[test]
fn gc_dates_blobs_without_a_stamp() {
    let (_dir, store) = store();
    let digest = store.insert(b"unstamped").unwrap();
    fs::remove_file(store.root().join("stamps").join(digest.hex())).unwrap();
    let policy = GcPolicy { max_age: Some(HOUR), ..GcPolicy::default() };
    assert_eq!(store.gc(&policy, SystemTime::now()).unwrap().removed, []);
    assert_eq!(store.gc(&policy, SystemTime::now() + HOUR * 2).unwrap().removed, [digest]);
}

#[test]
fn a_lock_says_who_waits_for_whom() {
    let (_dir, store) = store();
    let lock = store.work_lock("layer numpy 2.1.0", |_| panic!("nobody has it")).unwrap();
    assert!(store.try_work_lock("layer numpy 2.1.0").unwrap().is_none());
    assert!(store.try_work_lock("layer pandas 2.3.0").unwrap().is_some());
    let (send, receive) = std::sync::mpsc::channel();
    let waiter = {
        let store = store.clone();
        std::thread::spawn(move || {
            store.work_lock("layer numpy 2.1.0", |pid| send.send(pid).unwrap()).map(drop)
        })
    };
    assert_eq!(receive.recv().unwrap(), Some(std::process::id()));
    drop(lock);
    waiter.join().unwrap().unwrap();
    assert_eq!(names(&store.root().join("locks")), ["gate"]);
}

#[test]
fn refuses_what_is_no_store_of_ours() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("thesis.tex"), "").unwrap();
    let error = Store::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("`thesis.tex`") && error.contains("--store"), "{error}");
    assert_eq!(names(dir.path()), ["thesis.tex"]);

    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("version"), "2\n").unwrap();
    let error = Store::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("layout version `2`") && error.contains("uses `1`"), "{error}");

    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(Store::open(file.path()), Err(StoreError::Io { .. })));
    assert!(matches!(Store::open("/proc/imgforge"), Err(StoreError::Io { .. } | StoreError::Denied { .. })));
}

#[test]
fn the_resolvers_indexes_are_no_records() {
    let (_dir, store) = store();
    let index = store.root().join("indexes/debian/Packages");
    fs::create_dir_all(index.parent().unwrap()).unwrap();
    fs::write(&index, "Package: less\n").unwrap();
    assert_eq!(store.verify(&|_| {}).unwrap(), []);
    let policy = GcPolicy { max_age: Some(Duration::ZERO), max_size: Some(0), ..GcPolicy::default() };
    assert_eq!(store.gc(&policy, SystemTime::now() + HOUR).unwrap(), GcReport::default());
    assert_eq!(fs::read_to_string(&index).unwrap(), "Package: less\n");
    assert!(matches!(store.put_record("indexes", "a", &1, &[]), Err(StoreError::Name { .. })));
}
