//! Killed at any point, imgforge leaves no process, no mount, and a store that the next run uses.
//!
//! This program adopts whatever loses its parent, so that "no process" is what the kernel says: there is nobody left to
//! wait for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod common;

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Tar, Who, World, everyone};
use rustix::process::{Pid, Signal, WaitOptions, kill_process};
use serde_json::{Value, json};

/// How often imgforge itself is killed, for each of who may ask. `IMGFORGE_KILL_POINTS=50`, as `ci/test --large` has it,
/// takes some minutes.
fn points() -> u32 {
    std::env::var("IMGFORGE_KILL_POINTS").map_or(10, |text| text.parse().unwrap())
}

/// Several processes, some of them in the background, that write all the time.
const SCRIPT: &str = "(while :; do echo x >>/log; done) & setsid sh -c 'while :; do date >/tmp/x; done' & \
                      sleep 0.3; mkdir /out; cp /bin/busybox /out/a; sha256sum /t/* | sha256sum >/out/b";

struct Killing {
    world: World,
    layers: Value,
    who: Who,
}

impl Killing {
    fn new(who: Who) -> Self {
        let world = World::new();
        let mut paths = vec![world.path("base.tar")];
        for number in 0..3_u8 {
            let mut tar = Tar::default();
            tar.folder("t", 0o755).file(&format!("t/{number}"), 0o644, &vec![number; 4 << 20]);
            tar.folder("t/closed", 0o000);
            paths.push(world.path(&format!("layer-{number}.tar")));
            tar.write(paths.last().unwrap());
        }
        Self { world, layers: json!(paths), who }
    }

    fn request(&self, store: &str) -> Value {
        let path = self.world.store(self.who).join(store);
        json!({
            "store": path, "layers": self.layers, "arguments": ["sh", "-ec", SCRIPT], "outputs": ["/out"],
            "milliseconds": 60_000,
        })
    }

    /// Runs with a new store, and kills somebody of it after a while; says whether that was in time.
    fn kill(&self, store: &str, after: Duration, whom: &dyn Fn(i32) -> Option<i32>) -> bool {
        let mut child = self.world.start(self.who, &[], self.request(store));
        std::thread::sleep(after);
        let pid = i32::try_from(child.id()).unwrap();
        let is_in_time = child.try_wait().unwrap().is_none();
        if let Some(victim) = whom(pid).and_then(Pid::from_raw) {
            let _ = kill_process(victim, Signal::KILL);
        }
        child.wait().unwrap();
        is_in_time
    }

    /// After a kill: nobody is left, nothing is mounted, and the store is good for a run whose outputs are right.
    fn check(&self, store: &str, expected: &Value) {
        nobody_is_left();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(&self.world.mark()), "{mounts}");
        let answer = self.world.ask(self.who, self.request(store));
        assert_eq!(&answer["outputs"], expected, "{answer}");
        let path = self.world.store(self.who).join(store);
        let mut request = json!({ "store": path, "collect": 3600 });
        let swept = self.world.ask(self.who, request.clone());
        assert!(swept["error"].is_null(), "{swept}");
        let left: Vec<_> =
            fs::read_dir(path.join("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
        // All that is unpacked has a record: nothing more is removed than is recorded.
        std::thread::sleep(Duration::from_millis(1100));
        request["collect"] = json!(1);
        let swept = self.world.ask(self.who, request);
        assert_eq!(swept["records"], swept["removed"], "{swept}");
        fs::remove_dir_all(path).unwrap();
    }
}

/// Waits for all that this process has adopted to end, which takes them no time.
fn nobody_is_left() {
    let began = Instant::now();
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Err(rustix::io::Errno::CHILD) => return,
            Ok(Some(_)) => {}
            Ok(None) if began.elapsed() > Duration::from_secs(20) => {
                let own = std::process::id().to_string();
                let children =
                    Command::new("ps").args(["-o", "pid,stat,args", "--ppid", &own]).output().unwrap();
                panic!("somebody is left:\n{}", String::from_utf8_lossy(&children.stdout));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            Err(error) => panic!("{error}"),
        }
    }
}

/// The child of a process, if it has one.
fn child_of(parent: i32) -> Option<i32> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        (fields.nth(1)?.parse() == Ok(parent)).then(|| entry.file_name().to_str()?.parse().ok())?
    })
}

/// One test, since all children of this process are looked at.
#[test]
fn nothing_outlives_imgforge() {
    let points = points();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    for who in everyone() {
        let killing = Killing::new(who);
        let began = Instant::now();
        let answer = killing.world.ask(who, killing.request("first"));
        let duration = began.elapsed();
        assert_eq!(answer["exit"], 0, "{answer}");
        let expected = &answer["outputs"];
        let mut late = 0;
        for point in 0..points {
            let store = format!("imgforge-{point}");
            let in_time = killing.kill(&store, duration * point / points, &Some);
            late += u32::from(!in_time);
            killing.check(&store, expected);
        }
        assert!(late < points / 2, "{late} of {points} ended before they were killed");
        // And the processes between imgforge and the command.
        let fewer = points / 5;
        for point in 1..=fewer {
            let after = duration * point / (fewer + 1);
            let store = format!("supervisor-{point}");
            killing.kill(&store, after, &child_of);
            killing.check(&store, expected);
            let store = format!("first-{point}");
            killing.kill(&store, after, &|asker| child_of(child_of(asker)?));
            killing.check(&store, expected);
        }
        let _ = writeln!(std::io::stderr(), "{who:?}: {late} of {points} too late");
    }
}
