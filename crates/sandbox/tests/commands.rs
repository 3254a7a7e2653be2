//! What a command finds, what it may do, and what is told of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod common;

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use common::{Who, World, everyone, lines};
use serde_json::{Value, json};

/// What a script prints for everybody.
fn check(script: &str, more: Value, expected: &[&str]) {
    let world = World::new();
    for who in everyone() {
        let (output, _) = world.script(who, script, more.clone());
        assert_eq!(output, expected, "{who:?}: {script}");
    }
}

#[test]
fn a_command_finds_the_same_everywhere() {
    let expected = [
        "HOME=/root",
        "LANG=C.UTF-8",
        "LC_ALL=C.UTF-8",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "TZ=UTC",
    ];
    check("env | grep -v -e ^SHLVL -e ^PWD -e ^_= | sort", json!({}), &expected);
    check(
        "umask; pwd; id; hostname; ls -A /tmp /dev/shm /root /run /sys",
        json!({}),
        &[
            "0022",
            "/",
            "uid=0(root) gid=0(root)",
            "build",
            "/dev/shm:",
            "",
            "/root:",
            "",
            "/run:",
            "",
            "/sys:",
            "",
            "/tmp:",
        ],
    );
    check("readlink /proc/self/fd/0; ls /proc | grep -c '^[0-9]'", json!({}), &["/dev/null", "4"]);
    check("ulimit -c; ulimit -n; ulimit -s; ulimit -l", json!({}), &["0", "1024", "8192", "64"]);
}

#[test]
fn the_build_user_has_a_folder_and_no_power() {
    let more = json!({ "as_build_user": true, "folder": "/build/src", "environment": {"A": "b c"} });
    check(
        "id -u; id -g; pwd; echo $HOME $A; touch x; stat -c '%u %g %a' . ..; grep CapEff /proc/self/status",
        more,
        &[
            "1000",
            "1000",
            "/build/src",
            "/build b c",
            "1000 1000 755",
            "1000 1000 755",
            "CapEff:\t0000000000000000",
        ],
    );
}

#[test]
fn root_can_do_what_installing_packages_takes() {
    let world = World::new();
    for who in
        everyone().into_iter().filter(|who| *who == Who::UserWithIds || common::is_root() && *who == Who::Me)
    {
        let script = "touch /f; chown 5:7 /f; chmod 4750 /f; stat -c '%u %g %a' /f; mkdir /d; chmod 0 /d; touch /d/x; \
                      echo ok";
        let (output, _) = world.script(who, script, json!({}));
        assert_eq!(output, ["5 7 4750", "ok"]);
    }
}

#[test]
fn with_one_id_a_change_of_owner_does_nothing() {
    let world = World::new();
    let script = "touch /f; chown 5:7 /f; chown -h 5 /f; stat -c '%u %g' /f; echo ok";
    let (output, _) = world.script(Who::User, script, json!({}));
    assert_eq!(output, ["0 0", "ok"]);
}

#[test]
fn the_loopback_interface_is_up_and_alone() {
    // The server's input stays open: at its end `nc` says that nothing more comes, and the client may leave unheard.
    let script = "({ echo hello; sleep 3; } | nc -l -p 8000 >/tmp/got) & for i in 1 2 3 4 5 6 7 8 9; do sleep 0.2; \
                  echo hi | nc localhost 8000 && break; done; wait; cat /tmp/got; \
                  tail -n +3 /proc/net/dev | tr -d ' ' | sed s/:.*//";
    check(script, json!({}), &["hello", "hi", "lo"]);
}

#[test]
fn the_hosts_network_is_there_when_asked_for() {
    let world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Nobody answers: whoever is connected waits until its time is over.
    let script = format!("timeout 1 nc 127.0.0.1 {port} 2>&1 | grep -q 'connect' && echo no || echo yes");
    for who in everyone() {
        let (with, _) = world.script(who, &script, json!({ "has_network": true }));
        let (without, _) = world.script(who, &script, json!({}));
        assert_eq!((with.last().unwrap(), without.last().unwrap()), (&"yes".to_owned(), &"no".to_owned()));
        let (names, _) = world.script(who, "cat /etc/hosts", json!({ "has_network": true }));
        assert_eq!(names.join("\n"), fs::read_to_string("/etc/hosts").unwrap().trim_end());
    }
}

fn ask(request: Value) -> Value {
    World::new().ask(Who::Me, request)
}

#[test]
fn how_a_command_ended() {
    assert_eq!(ask(json!({ "arguments": ["true"] }))["exit"], 0);
    assert_eq!(ask(json!({ "arguments": ["sh", "-c", "exit 7"] }))["exit"], 7);
    assert_eq!(ask(json!({ "arguments": ["sh", "-c", "kill -9 $$"] }))["exit"], -9);
    assert_eq!(ask(json!({ "arguments": ["sh", "-c", "kill -15 $$; sleep 9"] }))["exit"], -15);
    // Output of a command that failed is none.
    let failed = ask(json!({ "arguments": ["sh", "-c", "echo x >/x; exit 1"], "outputs": ["/x"] }));
    assert_eq!((&failed["exit"], &failed["outputs"]), (&json!(1), &json!([])));
}

#[test]
fn commands_that_are_none() {
    let check = |arguments: Value, expected: &str| {
        let answer = ask(
            json!({ "arguments": arguments, "files": { "opt/text": "no program", "opt/script": "#!/no/shell\n" } }),
        );
        let error = answer["error"].as_str().unwrap_or_else(|| panic!("{answer}"));
        let hint = answer["hint"].as_str().unwrap_or_default();
        assert!(error.contains(expected) || hint.contains(expected), "{error}\n{hint}");
    };
    check(json!(["nothing"]), "can't run nothing: No such file");
    check(json!(["/opt/script"]), "it is not in the root filesystem, or what its first line");
    check(json!(["/opt/text"]), "can't run /opt/text: Exec format error");
    check(json!(["/etc/hosts"]), "can't run /etc/hosts: Permission denied");
    check(json!([]), "can't run");
    let answer = ask(json!({ "arguments": ["true"], "folder": "relative" }));
    assert!(answer["error"].as_str().unwrap().contains("`relative` is no path"), "{answer}");
    let answer = ask(json!({ "arguments": ["true"], "folder": "/etc/hosts/x" }));
    assert!(answer["error"].as_str().unwrap().contains("make /etc/hosts/x"), "{answer}");
}

#[test]
fn what_is_printed_is_handed_on_and_kept() {
    let world = World::new();
    let script = "echo one; echo two >&2; printf 'a\\0b\\xff'; head -c 40000 /dev/zero | tr '\\0' x; echo; printf last";
    let (output, answer) = world.script(Who::Me, script, json!({}));
    assert_eq!(output[..2], ["one", "two"]);
    assert!(output[2].starts_with("a\0b"));
    // A long line comes in pieces, of which none is large.
    assert!(output.len() > 4 && output.iter().all(|line| line.len() <= 17_000), "{}", output.len());
    assert_eq!(output.last().unwrap(), "last");
    let digest = answer["log"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    let log = fs::read(world.store(Who::Me).join("blobs/sha256").join(digest)).unwrap();
    assert_eq!(log.len(), 4 + 4 + 4 + 40_000 + 1 + 4);
    assert!(log.starts_with(b"one\ntwo\na\0b\xff") && log.ends_with(b"x\nlast"));
    let (_, silent) = world.script(Who::Me, "true", json!({}));
    assert_eq!(silent["log"], Value::Null);
}

#[test]
fn inputs_lie_on_top_and_are_the_commands_to_change() {
    let files = json!({ "etc/hosts": "mine\n", "src/run": "#!/bin/sh\necho ran\n" });
    check(
        "cat /etc/hosts; /src/run; echo more >>/src/run; cat /src/run | tail -1",
        json!({ "files": files }),
        &["mine", "ran", "more"],
    );
}

#[test]
fn several_run_at_a_time() {
    let world = World::new();
    for who in everyone() {
        world.ask(who, json!({ "arguments": ["true"] }));
        let start = |number: usize| {
            let script = format!("echo {number} >/x; sleep 0.3; cat /x; ps | grep -c imgforge-sandbo[x]");
            world.start(who, &[], json!({ "arguments": ["sh", "-c", script] }))
        };
        let children: Vec<_> = (0..6).map(start).collect();
        for (number, child) in children.into_iter().enumerate() {
            assert_eq!(lines(&world.finish(child)["lines"]), [number.to_string(), "1".to_owned()]);
        }
        assert_eq!(fs::read_dir(world.store(who).join("tmp")).unwrap().count(), 0);
    }
}

/// Under `script`, which gives it a terminal and types `typed`, maybe before it is asked: what the terminal shows.
fn on_a_terminal(world: &World, who: Who, request: &Value, typed: &str) -> String {
    let file = world.path("request.json");
    fs::write(&file, request.to_string()).unwrap();
    let mut line = world.become_somebody(who);
    line.extend([world.path("asker").display().to_string(), file.display().to_string()]);
    let quoted: Vec<_> = line.iter().map(|word| format!("'{word}'")).collect();
    let shown = world.path("shown");
    let mut child = Command::new("script")
        .args(["-q", "-e", "-c", &quoted.join(" ")])
        .arg(&shown)
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(typed.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    fs::read_to_string(&shown).unwrap()
}

#[test]
fn a_shell_finds_what_a_failed_command_left() {
    let world = World::new();
    for who in everyone() {
        for copies in [false, true] {
            let request = json!({
                "store": world.store(who), "layers": [world.path("base.tar")], "copies": copies,
                "arguments": ["sh", "-c", "echo left >/left; rm /bin/probes; chmod 700 /root; exit 3"],
                "shell": ["sh", "-c", "echo ready; read x; cat /left; ls /bin | grep -c probes; echo $((x + 1)); exit 4"],
            });
            let shown = on_a_terminal(&world, who, &request, "41\n");
            let shown = shown.replace('\r', "");
            assert!(shown.contains("left\n0\n42\n"), "{who:?}: {shown}");
            assert!(shown.contains("\"shell\":4"), "{who:?}: {shown}");
            assert_eq!(fs::read_dir(world.store(who).join("tmp")).unwrap().count(), 0);
        }
    }
}
