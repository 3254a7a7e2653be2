//! Nobody gets out, whoever asked for the sandbox.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv6Addr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Child, Command};
use std::time::Duration;

use common::{Tar, Who, World, everyone, is_root, lines, processes_with};
use serde_json::json;

/// Probes for what not every host has: where it is missing, they can't succeed outside of a sandbox either.
const MAY_BE_MISSING: [&str; 12] = [
    "a_kernel_module",
    "another_kernel",
    "calls_of_32_bits",
    "ciphers_of_the_kernel",
    "limits_on_namespaces",
    "more_processes_than_allowed",
    "page_faults",
    "performance_counters",
    "rings",
    "the_hypervisor",
    "the_magic_keys",
    "the_terminal",
];

/// The host's things that probes try to reach.
struct Bait {
    arguments: Vec<String>,
    process: Child,
    _tcp: TcpListener,
    _socket: UnixListener,
    _abstract: UnixListener,
    segment: i32,
}

impl Bait {
    fn new(world: &World) -> Self {
        let (file, socket) = (world.path("secret"), world.path("socket"));
        fs::write(&file, "secret\n").unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
        let name = world.mark();
        let hidden = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        // Of both families, unless the host has but one.
        let tcp = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        let process = Command::new("sleep").arg("600").arg0_marked(&name).spawn().unwrap();
        // SAFETY: a new segment of shared memory, which nothing maps.
        let segment = unsafe { libc::shmget(i32::from(port) + 0x0100_0000, 4096, libc::IPC_CREAT | 0o666) };
        let arguments = [
            file.to_str().unwrap().to_owned(),
            process.id().to_string(),
            port.to_string(),
            // An address of documentation's: nothing is sent, but is there a way?
            "192.0.2.1".to_owned(),
            socket.to_str().unwrap().to_owned(),
            name.clone(),
            (i32::from(port) + 0x0100_0000).to_string(),
            name,
        ];
        Self {
            arguments: arguments.into(),
            process,
            _tcp: tcp,
            _socket: listener,
            _abstract: hidden,
            segment,
        }
    }
}

trait Marked {
    fn arg0_marked(&mut self, mark: &str) -> &mut Self;
}

impl Marked for Command {
    fn arg0_marked(&mut self, mark: &str) -> &mut Self {
        std::os::unix::process::CommandExt::arg0(self, format!("sleep-{mark}"))
    }
}

impl Drop for Bait {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // SAFETY: removes the segment that was made above.
        unsafe { libc::shmctl(self.segment, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

/// The probes that had no success, of all.
fn contained(output: &[String]) -> (BTreeSet<String>, usize) {
    let names = output.iter().filter_map(|line| line.strip_suffix(" contained"));
    (names.map(str::to_owned).collect(), output.len())
}

#[test]
fn no_probe_succeeds_in_a_sandbox() {
    let world = World::new();
    let bait = Bait::new(&world);
    let mut arguments = vec!["probes".to_owned()];
    arguments.extend(bait.arguments.clone());
    // With a descriptor that the program did not close.
    let before = ["sh", "-c", "exec \"$@\" 9</etc/passwd", "sh"];
    for who in everyone() {
        for (as_build_user, copies) in [(false, false), (true, false), (false, true)] {
            let request = json!({ "arguments": arguments, "as_build_user": as_build_user, "copies": copies });
            let answer = world.finish(world.start(who, &before, request));
            let mut output = lines(&answer["lines"]);
            if copies {
                // Where a folder is mounted that lies in another one, Linux tells where it lies.
                output.retain(|line| !line.starts_with("mounts_of_the_host"));
            }
            let (contained, count) = contained(&output);
            let escaped: Vec<_> = output.iter().filter(|line| !line.ends_with(" contained")).collect();
            assert!(escaped.is_empty(), "{who:?}, build user {as_build_user}: {escaped:#?}");
            assert!(contained.len() == count && count > 70, "{count} probes");
        }
    }
}

#[test]
fn every_probe_succeeds_outside_of_one() {
    if !is_root() {
        // Most of them take root anyway.
        return;
    }
    let world = World::new();
    let bait = Bait::new(&world);
    let folder = world.path("mounted");
    fs::create_dir(&folder).unwrap();
    let base = tempfile::tempdir().unwrap();
    let tar = world.path("base.tar");
    assert!(Command::new("tar").arg("-xf").arg(tar).arg("-C").arg(base.path()).status().unwrap().success());
    let probes = base.path().join("bin/probes");
    // In mount namespaces of their own, since they mount; once among the host's processes, and once where the first
    // process is one of theirs, because that of the host may be shielded.
    let mount = "mount --bind \"$0\" \"$0\"; \"$@\" 9</etc/passwd; exit $?";
    let run = |namespaces: &[&str]| {
        let mut command = Command::new("unshare");
        command.arg("--mount").args(namespaces).args(["sh", "-c", mount]).arg(&folder).arg(&probes);
        let output = command.args(&bait.arguments).env("MARK", world.mark()).output().unwrap();
        contained(&String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
    };
    let (host, count) = run(&[]);
    let (own, _) = run(&["--pid", "--fork", "--mount-proc"]);
    let failed: Vec<_> =
        host.intersection(&own).filter(|name| !MAY_BE_MISSING.contains(&name.as_str())).collect();
    assert!(failed.is_empty(), "can't succeed anywhere: {failed:?}");
    assert!(count > 70, "{count} probes");
}

#[test]
fn what_is_left_behind_ends_with_the_command() {
    let world = World::new();
    for who in everyone() {
        let name = format!("left-{}-{who:?}", world.mark());
        // One in the background, one in a session of its own, one that ignores signals.
        let wait = format!("sleep 600; : {name}");
        let script = format!(
            "sh -c '{wait}' & setsid sh -c '{wait}' & sh -c 'trap \"\" TERM HUP INT; {wait}' & sleep 0.3; echo done"
        );
        let (output, answer) = world.script(who, &script, json!({}));
        assert_eq!(output, ["done"]);
        assert!(answer["left_behind"].as_u64().unwrap() >= 3, "{answer}");
        assert_eq!(processes_with(&name), [""; 0]);
    }
}

#[test]
fn a_set_uid_file_is_nobodys_to_run() {
    let world = World::new();
    for who in everyone() {
        let script = "cp /bin/busybox /x; chmod 4755 /x; sleep 3";
        let request = json!({ "arguments": ["sh", "-ec", script], "outputs": ["/x"] });
        let child = world.start(who, &[], request);
        let tmp = world.store(who).join("tmp");
        let mut found = None;
        for _ in 0..300 {
            std::thread::sleep(Duration::from_millis(10));
            let Ok(folders) = fs::read_dir(&tmp) else { continue };
            let file = folders.flatten().map(|folder| folder.path().join("upper/x"));
            found = file.into_iter().find(|file| {
                fs::symlink_metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o4000 != 0)
            });
            if found.is_some() {
                break;
            }
        }
        if is_root() {
            let file = found.unwrap_or_else(|| panic!("{who:?}: no set-uid file was seen"));
            // By a shell, since setpriv itself keeps root's capabilities up to its end.
            let other = ["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", "exec \"$0\" true"];
            let output = Command::new("setpriv").args(other).arg(&file).output().unwrap();
            assert!(!output.status.success(), "{} can be run", file.display());
            assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied"), "{output:?}");
        }
        let answer = world.finish(child);
        let outputs = lines(&answer["outputs"]);
        assert!(outputs.len() == 1 && outputs[0].starts_with("4755 0:0 f /x"), "told as it is: {outputs:?}");
        let left: Vec<_> = fs::read_dir(&tmp).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn set_uid_programs_give_nothing() {
    let world = World::new();
    let mut tar = Tar::default();
    tar.file("suid/id", 0o4755, &fs::read("/bin/busybox").unwrap());
    tar.write(&world.path("suid.tar"));
    let layers = json!([world.path("base.tar"), world.path("suid.tar")]);
    for who in everyone() {
        let more = json!({ "layers": layers, "as_build_user": true });
        let (output, _) = world.script(who, "id -u; /suid/id -u; grep NoNewPrivs /proc/self/status", more);
        assert_eq!(output, ["1000", "1000", "NoNewPrivs:\t1"]);
    }
}

#[test]
fn links_in_outputs_are_not_followed() {
    let world = World::new();
    let secret = world.path("secret");
    fs::write(&secret, "secret\n").unwrap();
    let secret = secret.to_str().unwrap();
    for who in everyone() {
        let script = format!(
            "mkdir /out /real; echo a >/real/a; ln -s {secret} /out/file; ln -s / /out/root; ln -s /real /out/folder; \
             ln -s /real /way; ln /real/a /out/again"
        );
        let (_, answer) = world.script(who, &script, json!({ "outputs": ["/out"] }));
        let expected = [
            "0755 0:0 d /out".to_owned(),
            "0644 0:0 f /out/again a".to_owned(),
            format!("0777 0:0 l /out/file {secret}"),
            "0777 0:0 l /out/folder /real".to_owned(),
            "0777 0:0 l /out/root /".to_owned(),
        ];
        assert_eq!(lines(&answer["outputs"]), expected);
        let ask = |path: &str| {
            let request = json!({ "arguments": ["sh", "-ec", script], "outputs": [path] });
            world.ask(who, request)["error"].as_str().unwrap_or("no error").to_owned()
        };
        assert!(
            ask("/way/a").contains("/way/a can't be taken: it isn't there, or a link"),
            "{}",
            ask("/way/a")
        );
        assert!(ask("/missing").contains("/missing can't be taken"), "{}", ask("/missing"));
    }
}

#[test]
fn what_is_neither_file_nor_folder_is_no_output() {
    let world = World::new();
    let script = "mkdir /out; mkfifo /out/pipe; probes socket /out/socket; rm /out/$REMOVE";
    for (remove, expected) in
        [("pipe", "/out/socket can't be taken: it is a socket"), ("socket", "it is a pipe")]
    {
        let arguments = ["sh", "-c", script];
        let request =
            json!({ "arguments": arguments, "environment": {"REMOVE": remove}, "outputs": ["/out"] });
        let answer = world.ask(Who::Me, request);
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(expected)), "{answer}");
    }
}

#[test]
fn outputs_that_change_under_the_collector_do_not() {
    let world = World::new();
    let secret = world.path("secret");
    fs::write(&secret, "secret\n").unwrap();
    // Somebody swaps a folder for a link to the host's all the time, also when the command has ended.
    let script = format!(
        "mkdir /out /out/a; echo inside >/out/a/secret; ln -s {} /out/b; \
         (while :; do mv /out/a /out/c; mv /out/b /out/a; mv /out/a /out/b; mv /out/c /out/a; done) 2>/dev/null & sleep 0.2",
        world.folder()
    );
    for _ in 0..10 {
        let answer = world.ask(Who::Me, json!({ "arguments": ["sh", "-c", script], "outputs": ["/out"] }));
        let outputs = answer["outputs"].to_string();
        assert!(outputs.contains("inside") && !outputs.contains("secret\\n"), "{answer}");
        assert_eq!(outputs.matches("/secret").count(), 1, "{answer}");
    }
}

#[test]
fn layers_stay_as_they_are() {
    let world = World::new();
    for who in everyone() {
        for copies in [false, true] {
            let more = json!({ "copies": copies });
            let script = "echo x >/bin/probes; rm /bin/cat; chmod 0 /bin; ls -l /bin/probes >/dev/null";
            world.script(who, script, more.clone());
            let (output, _) =
                world.script(who, "test -s /bin/probes; cat /etc/hosts | head -1; stat -c %a /bin", more);
            assert_eq!(output, ["127.0.0.1 localhost build", "755"]);
        }
    }
}

#[test]
fn a_root_that_is_made_to_mislead_misleads_nobody() {
    let world = World::new();
    let check = |path: &str, target: &str, expected: &str| {
        let mut tar = Tar::default();
        tar.link(path, target);
        tar.write(&world.path("links.tar"));
        let layers = json!([world.path("base.tar"), world.path("links.tar")]);
        let answer = world.ask(Who::Me, json!({ "layers": layers, "arguments": ["echo", "ran"] }));
        let text = answer.to_string();
        assert!(text.contains(expected) && !text.contains("ran"), "{path}: {text}");
    };
    check("proc", "/etc", "take /proc of the image for a folder");
    check("dev", "../../../../../dev", "take /dev of the image for a folder");
    check("tmp", "/", "take /tmp of the image for a folder");
    // Nothing was mounted on the host for it.
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&world.mark()), "{mounts}");
}

#[test]
fn it_says_what_to_enable_and_runs_nothing() {
    let world = World::new();
    // In a user namespace where there may be no further one, and in one where /proc is covered, as in a container.
    let namespaces = "echo 0 >/proc/sys/user/max_user_namespaces; exec \"$@\"";
    let proc = "mount -t tmpfs none /proc/sys; exec \"$@\"";
    for (line, step, hint) in [
        (namespaces, "can't make the sandbox's namespaces", "sysctl -w user.max_user_namespaces="),
        (proc, "can't mount /proc", "systempaths=unconfined"),
    ] {
        let before = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", line, "sh"];
        let request = json!({ "arguments": ["true"], "store": world.path(&format!("store-{}", hint.len())) });
        let answer = world.finish(world.start(Who::Me, &before, request));
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        assert!(text("error").contains(step) && text("hint").contains(hint), "{answer}");
        assert!(answer.get("exit").is_none(), "{answer}");
    }
    // Without those, it works there.
    let before = ["unshare", "--user", "--map-root-user", "--mount"];
    let request = json!({ "arguments": ["id", "-u"], "store": world.path("store-nested") });
    let answer = world.finish(world.start(Who::Me, &before, request));
    assert_eq!(answer["lines"], json!(["0"]), "{answer}");
}
