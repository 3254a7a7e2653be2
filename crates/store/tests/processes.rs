//! Several processes and one store: killed at any point, and at work at the same time.
//!
//! The tests run themselves again as child processes: [`child`] does nothing unless the environment says what.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use imgforge_oci::Digest;
use imgforge_store::{GcPolicy, Store, StoreError};
use tempfile::TempDir;

const STORE: &str = "IMGFORGE_TEST_STORE";
const TASK: &str = "IMGFORGE_TEST_TASK";

#[test]
fn child() {
    let (Some(store), Ok(task)) = (std::env::var_os(STORE), std::env::var(TASK)) else { return };
    match task.as_str() {
        "work" => work(&Store::open(store).unwrap()),
        "share" => share(Path::new(&store)),
        "hold" => hold(&Store::open(store).unwrap()),
        "fill" => fill(Path::new(&store)),
        "read-only" => read_only(Path::new(&store)),
        _ => panic!("{task}"),
    }
}

/// A command that runs [`child`] behind a wrapper, `strace` for one.
fn command(wrapper: &[&str], store: &Path, task: &str) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(this),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(this);
            command
        }
    };
    command.args(["--exact", "child", "--nocapture"]).env(STORE, store).env(TASK, task);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A bit of everything that writes: open, insert, writer, partial, record, replacement of a damaged blob, collection.
fn work(store: &Store) {
    let lease = store.lease().unwrap();
    let _lock = store.work_lock("work", |_| {}).unwrap();
    let one = store.insert(b"one").unwrap();
    let mut writer = store.hashing_writer().unwrap();
    for piece in pieces() {
        writer.write_all(&piece).unwrap();
    }
    let two = writer.commit().unwrap();
    if let Some(mut partial) = store.partial(&Digest::of(b"three"), || {}).unwrap() {
        let rest = b"three".get(usize::try_from(partial.len()).unwrap()..).unwrap();
        let (first, second) = rest.split_at(rest.len() / 2);
        partial.append(first).unwrap();
        partial.append(second).unwrap();
        partial.finish().unwrap();
    }
    store.put_record("layers/1", "key", &"value", &[one, two, Digest::of(b"three")]).unwrap();
    let damaged = store.insert(b"damaged").unwrap();
    fs::write(store.root().join("stamps").join(damaged.hex()), "").unwrap();
    assert!(store.contains(&damaged).unwrap());
    let old = store.insert(b"old").unwrap();
    drop(lease);
    let keep = store.blobs().unwrap().into_keys().filter(|digest| *digest != old).collect();
    let policy = GcPolicy { max_size: Some(0), keep, ..GcPolicy::default() };
    store.gc(&policy, SystemTime::now()).unwrap();
}

fn pieces() -> impl Iterator<Item = Vec<u8>> {
    (0..20_u8).map(|piece| vec![piece; 10_000])
}

/// Expects that whatever happened before, what is there is whole, and the work can be done, without any repair.
fn check_usable(dir: &Path, when: &str) {
    let store = Store::open(dir).unwrap_or_else(|error| panic!("{when}: {error}"));
    for digest in store.blobs().unwrap().into_keys() {
        let bytes = fs::read(store.blob_path(&digest)).unwrap();
        assert_eq!(Digest::of(&bytes), digest, "{when}: half a blob");
    }
    work(&store);
    assert_eq!(store.record::<String>("layers/1", "key").unwrap().as_deref(), Some("value"), "{when}");
    assert_eq!(store.verify(&|_| {}).unwrap(), [], "{when}");
    assert_eq!(store.blobs().unwrap().len(), 4, "{when}");
    store.gc(&GcPolicy::default(), SystemTime::now()).unwrap();
    for (folder, expected) in [("tmp", 0), ("locks", 1), ("stamps", 4)] {
        assert_eq!(fs::read_dir(dir.join(folder)).unwrap().count(), expected, "{when}: {folder}");
    }
}

/// Kills the work at each call of one system call in turn, until it has none left.
fn check_killed_at(call: &str) {
    let mut killed = 0;
    for count in 1.. {
        let dir = TempDir::new().unwrap();
        let store = dir.path().join("store");
        let inject = format!("inject={call}:signal=KILL:when={count}");
        let trace = format!("trace={call}");
        let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        let status =
            command(&strace, &store, "work").status().expect("this needs strace: apt-get install strace");
        if status.signal().is_none() {
            assert!(status.success(), "{call} {count}: {status}");
            break;
        }
        killed += 1;
        check_usable(&store, &format!("killed at {call} {count}"));
    }
    assert!(killed > 0, "{call} is not used");
    println!("{call}: {killed} points");
}

#[test]
fn killed_at_rename() {
    check_killed_at("rename");
}

#[test]
fn killed_at_fsync() {
    check_killed_at("fsync");
}

#[test]
fn killed_at_unlink() {
    check_killed_at("unlink");
}

#[test]
fn killed_at_flock() {
    check_killed_at("flock");
}

#[test]
fn killed_at_write() {
    check_killed_at("write");
}

#[test]
fn killed_at_chmod() {
    check_killed_at("fchmod");
}

#[test]
fn killed_at_utimensat() {
    check_killed_at("utimensat");
}

#[test]
fn killed_at_mkdir() {
    check_killed_at("mkdir");
}

#[test]
fn killed_at_ftruncate() {
    check_killed_at("ftruncate");
}

#[test]
fn killed_at_openat() {
    check_killed_at("openat");
}

/// No system call, but the time decides; the same store again and again.
#[test]
fn killed_at_some_time() {
    let dir = TempDir::new().unwrap();
    let store = dir.path().join("store");
    for step in 0..60 {
        let mut child = command(&[], &store, "work").spawn().unwrap();
        std::thread::sleep(Duration::from_micros(700 * step));
        child.kill().unwrap();
        child.wait().unwrap();
        let Ok(store) = Store::open(&store) else { panic!("after {step} steps") };
        for digest in store.blobs().unwrap().into_keys() {
            assert_eq!(Digest::of(&fs::read(store.blob_path(&digest)).unwrap()), digest);
        }
    }
    check_usable(&store, "after sixty kills");
}

const ITEMS: usize = 20;

/// Three threads that all want the same twenty records, and note beside the store whenever they have to make one.
fn share(dir: &Path) {
    let store = Store::open(dir).unwrap();
    let made = dir.with_extension("made");
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (store, made) = (&store, &made);
            scope.spawn(move || {
                let _lease = store.lease().unwrap();
                for item in 0..ITEMS {
                    let item = (item + thread * 7) % ITEMS;
                    let key = format!("item-{item}");
                    let _lock = store.work_lock(&key, |_| {}).unwrap();
                    if let Some(found) = store.record::<usize>("layers/1", &key).unwrap() {
                        assert_eq!(found, item);
                        continue;
                    }
                    let bytes = vec![u8::try_from(item).unwrap(); 50_000];
                    let digest = Digest::of(&bytes);
                    let mut partial = store.partial(&digest, || {}).unwrap().unwrap();
                    assert_eq!(partial.len(), 0);
                    partial.append(&bytes).unwrap();
                    partial.finish().unwrap();
                    store.put_record("layers/1", &key, &item, &[digest]).unwrap();
                    let mut log = File::options().append(true).create(true).open(made).unwrap();
                    log.write_all(format!("{key}\n").as_bytes()).unwrap();
                }
            });
        }
    });
}

fn succeeds(mut child: Child) {
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
}

/// Makes the items in four processes, while `beside` happens, and returns how often each was made.
fn made_by_four(store: &Path, beside: impl FnOnce()) -> BTreeMap<String, usize> {
    let children: Vec<_> = (0..4).map(|_| command(&[], store, "share").spawn().unwrap()).collect();
    beside();
    children.into_iter().for_each(succeeds);
    let mut made = BTreeMap::new();
    for line in fs::read_to_string(store.with_extension("made")).unwrap().lines() {
        *made.entry(line.to_owned()).or_insert(0) += 1;
    }
    made
}

#[test]
fn each_piece_of_work_is_done_once() {
    let dir = TempDir::new().unwrap();
    let made = made_by_four(&dir.path().join("store"), || {});
    assert_eq!(made.len(), ITEMS);
    assert!(made.values().all(|count| *count == 1), "{made:?}");
}

#[test]
fn a_collector_does_not_disturb_running_builds() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store");
    let collector = Store::open(&path).unwrap();
    // This lease is older than all that is made, so everything must stay, however greedy the collector is.
    let lease = collector.lease().unwrap();
    let greedy = GcPolicy { max_age: Some(Duration::ZERO), max_size: Some(0), ..GcPolicy::default() };
    let made = made_by_four(&path, || {
        for _ in 0..200 {
            let report = collector.gc(&greedy, SystemTime::now() + Duration::from_secs(9)).unwrap();
            assert_eq!((report.removed, report.records), (vec![], 0));
        }
    });
    assert!(made.len() == ITEMS && made.values().all(|count| *count == 1), "{made:?}");
    drop(lease);
    assert_eq!(
        collector.gc(&greedy, SystemTime::now() + Duration::from_secs(9)).unwrap().removed.len(),
        ITEMS
    );
}

/// Holds a lease, a lock and a partial until it is killed.
fn hold(store: &Store) {
    let _lease = store.lease().unwrap();
    let _lock = store.work_lock("held", |_| {}).unwrap();
    let mut partial = store.partial(&Digest::of(b"held"), || {}).unwrap().unwrap();
    partial.append(b"he").unwrap();
    store.insert(b"signal").unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_dead_process_holds_nothing() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut child = command(&[], dir.path(), "hold").spawn().unwrap();
    while !store.contains(&Digest::of(b"signal")).unwrap() {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(store.try_work_lock("held").unwrap().is_none());
    let greedy = GcPolicy { max_age: Some(Duration::ZERO), ..GcPolicy::default() };
    let later = SystemTime::now() + Duration::from_secs(9);
    assert_eq!(store.gc(&greedy, later).unwrap().removed, []);
    let waiter = {
        let (store, pid) = (store.clone(), child.id());
        std::thread::spawn(move || {
            drop(store.work_lock("held", |holder| assert_eq!(holder, Some(pid))).unwrap())
        })
    };
    std::thread::sleep(Duration::from_millis(50));
    assert!(!waiter.is_finished());
    child.kill().unwrap();
    child.wait().unwrap();
    waiter.join().unwrap();
    assert_eq!(store.partial(&Digest::of(b"held"), || {}).unwrap().unwrap().len(), 2);
    assert_eq!(store.gc(&greedy, later).unwrap().removed, [Digest::of(b"signal")]);
}

/// Runs a task of [`child`] in a mount namespace of its own, on a tmpfs of this size.
fn check_on_tmpfs(size: &str, task: &str) {
    let dir = TempDir::new().unwrap();
    let mount = format!("mount -t tmpfs -o size={size} tmpfs '{}' && exec \"$@\"", dir.path().display());
    let user: &[&str] =
        if rustix::process::getuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    let wrapper = [&["unshare", "--mount"], user, &["sh", "-c", &mount, "sh"]].concat();
    let output = command(&wrapper, dir.path(), task).stderr(Stdio::piped()).output();
    let output = output.expect("this needs unshare: apt-get install util-linux");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}\n(as root, or with user namespaces)", output.status);
}

#[test]
fn a_full_disk_leaves_no_half_blob() {
    check_on_tmpfs("2m", "fill");
}

fn fill(dir: &Path) {
    let store = Store::open(dir.join("store")).unwrap();
    let small = store.insert(&vec![1; 500_000]).unwrap();
    let error = store.insert(&vec![2; 3_000_000]).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(error.to_string().contains("imgforge gc"), "{error}");
    let mut writer = store.hashing_writer().unwrap();
    // Blocks are written while the next ones are taken, so that their error comes with a later one.
    let error = writer.write_all(&vec![3; 20_000_000]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    drop(writer);
    assert_eq!(fs::read_dir(dir.join("store/tmp")).unwrap().count(), 0);

    // A download keeps what fitted, and its hash is of just that.
    let large = vec![4; 1_800_000];
    let mut partial = store.partial(&Digest::of(&large), || {}).unwrap().unwrap();
    assert!(matches!(partial.append(&large), Err(StoreError::Full { .. })));
    let fitted = usize::try_from(partial.len()).unwrap();
    assert!(fitted > 0 && fitted < large.len());
    let error = store.put_record("layers/1", "key", &"x".repeat(10_000), &[small]).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert_eq!(store.blobs().unwrap().len(), 1);
    assert!(store.contains(&small).unwrap());

    // Nothing but space is missing.
    let policy = GcPolicy { max_size: Some(0), ..GcPolicy::default() };
    assert_eq!(store.gc(&policy, SystemTime::now()).unwrap().removed, [small]);
    partial.append(large.get(fitted..).unwrap()).unwrap();
    partial.finish().unwrap();
    assert!(store.contains(&Digest::of(&large)).unwrap());
    assert_eq!(store.verify(&|_| {}).unwrap(), []);
}

#[test]
fn a_read_only_file_system_is_named() {
    check_on_tmpfs("2m", "read-only");
}

fn read_only(dir: &Path) {
    let existing = dir.join("store");
    Store::open(&existing).unwrap();
    let status = Command::new("mount").args(["-o", "remount,ro"]).arg(dir).status().unwrap();
    assert!(status.success());
    for store in [existing, dir.join("new")] {
        let error = Store::open(&store).unwrap_err();
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
        assert!(error.to_string().contains("read-only") && error.to_string().contains("--store"), "{error}");
    }
}

#[test]
fn a_folder_of_somebody_else_is_named() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store");
    Store::open(&path).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
    for folder in ["store", "store/locks"] {
        fs::set_permissions(dir.path().join(folder), fs::Permissions::from_mode(0o555)).unwrap();
    }
    let check = || {
        if rustix::process::getuid().is_root() {
            // The kernel keeps these by thread, and so does this one, which ends with the test.
            let nobody = rustix::fs::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
        for store in [path.clone(), dir.path().join("new")] {
            let error = Store::open(&store).and_then(|store| store.lease()).unwrap_err();
            assert!(matches!(error, StoreError::Denied { .. }), "{error}");
            assert!(error.to_string().contains("no permission for"), "{error}");
        }
    };
    std::thread::scope(|scope| scope.spawn(check).join().unwrap());
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for folder in ["store", "store/locks"] {
        fs::set_permissions(dir.path().join(folder), fs::Permissions::from_mode(0o755)).unwrap();
    }
}
