//! Bombs end at their limits, and honest work does not.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod common;

use common::{Who, World, everyone, processes_with};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

/// Runs a script with limits, for everybody: it is stopped at the limit named, or ends by itself.
fn check(script: &str, limits: Value, expected: Option<&str>) {
    let world = World::new();
    for who in everyone() {
        let mut request = json!({ "arguments": ["sh", "-c", script], "milliseconds": 120_000 });
        request.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
        let answer = world.ask(who, request);
        assert_eq!(answer["limit"], json!(expected), "{who:?}: {script}: {answer}");
        assert_eq!(answer["exit"] == 0, expected.is_none(), "{who:?}: {script}: {answer}");
        assert_eq!(std::fs::read_dir(world.store(who).join("tmp")).unwrap().count(), 0);
    }
}

#[test]
fn memory_of_one_process() {
    // The shell reads a line of 256 MiB; then the same amount passes through a pipe.
    let bomb = "x=$(head -c 268435456 /dev/zero | tr '\\0' x); echo ${#x}";
    let limits = json!({ "memory": 100 * MIB });
    let world = World::new();
    for who in everyone() {
        let answer = world.ask(who, json!({ "arguments": ["sh", "-c", bomb], "memory": 100 * MIB }));
        assert_ne!(answer["exit"], 0, "{answer}");
    }
    check("head -c 268435456 /dev/zero | tr '\\0' x | wc -c", limits, None);
}

#[test]
fn memory_of_several_processes() {
    // Each stays below the limit. What follows the last program keeps the shell, with its memory, from becoming that.
    let bomb = "for i in 1 2 3 4 5; do (x=$(head -c 30000000 /dev/zero | tr '\\0' x); sleep 100; :) & done; wait; exit 1";
    check(bomb, json!({ "memory": 100 * MIB }), Some("memory"));
}

#[test]
fn memory_in_files() {
    let bomb = "for i in 1 2 3; do head -c 40000000 /dev/zero >/PLACE/$i; done; sleep 100";
    for place in ["tmp", "dev/shm"] {
        check(&bomb.replace("PLACE", place), json!({ "memory": 64 * MIB }), Some("memory"));
    }
    // Where there is no limit for all memory, that of the folder holds.
    check("head -c 40000000 /dev/zero >/tmp/x && exit 1; test -s /tmp/x", json!({ "tmp": 16 * MIB }), None);
}

#[test]
fn processes() {
    let world = World::new();
    for who in everyone() {
        let name = format!("bomb-{}-{who:?}", world.mark());
        let script = format!(": {name}; f() {{ f | f & f; }}; f");
        let request = json!({ "arguments": ["sh", "-c", script], "processes": 40, "milliseconds": 3000 });
        let answer = world.ask(who, request);
        assert!(answer["exit"] != 0 || answer["left_behind"].as_u64() > Some(0), "{answer}");
        assert_eq!(processes_with(&name), [""; 0]);
        let (output, _) = world.script(
            who,
            "for i in $(seq 30); do sleep 0.1 & done; wait; echo ok",
            json!({ "processes": 40 }),
        );
        assert_eq!(output, ["ok"]);
    }
    check("for i in $(seq 48); do sleep 100 & done; wait", json!({ "processes": 40 }), Some("processes"));
}

#[test]
fn space_on_the_disk() {
    let limits = json!({ "disk": 32 * MIB });
    check(
        "i=0; while :; do i=$((i+1)); head -c 4000000 /dev/zero >/$i || exit; done",
        limits.clone(),
        Some("disk"),
    );
    check("head -c 20000000 /dev/zero >/x; rm /x; head -c 20000000 /dev/zero >/x", limits, None);
}

#[test]
fn space_without_names() {
    let bomb = "exec 3>/x; rm /x; while :; do head -c 4000000 /dev/zero >&3 || exit; done";
    check(bomb, json!({ "disk": 32 * MIB }), Some("disk"));
}

#[test]
fn space_of_empty_files() {
    let bomb = "mkdir /d; i=0; while :; do i=$((i+1)); : >/d/$i || exit; done";
    check(bomb, json!({ "disk": 8 * MIB }), Some("disk"));
}

#[test]
fn the_size_of_a_file() {
    for exec in ["exec", ""] {
        let bomb = format!("{exec} head -c 20000000 /dev/zero >/x");
        check(&bomb, json!({ "file_size": 10 * MIB }), Some("file size"));
    }
    check(
        "head -c 9000000 /dev/zero >/x; head -c 9000000 /dev/zero >/y",
        json!({ "file_size": 10 * MIB }),
        None,
    );
}

#[test]
fn a_file_that_is_only_said_to_be_large() {
    let world = World::new();
    let request = json!({
        "arguments": ["dd", "if=/dev/zero", "of=/x", "bs=1", "count=1", "seek=1000000000000"], "outputs": ["/x"],
        "disk": 32 * MIB,
    });
    let answer = world.ask(Who::Me, request);
    assert!(
        answer["error"].as_str().is_some_and(|error| error.contains("the outputs have more than")),
        "{answer}"
    );
}

#[test]
fn time() {
    check("sleep 600", json!({ "milliseconds": 300 }), Some("time"));
    check("trap '' TERM INT HUP; while :; do sleep 1; done", json!({ "milliseconds": 300 }), Some("time"));
    check("sleep 0.1", json!({ "milliseconds": 60_000 }), None);
}

#[test]
fn what_is_printed() {
    check("yes", json!({ "log": MIB }), Some("log"));
    check("yes | head -c 1048576", json!({ "log": MIB }), None);
}
