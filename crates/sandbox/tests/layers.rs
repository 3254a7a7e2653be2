//! Layers of strangers become folders, and folders become one tree; what a command changed comes out as a layer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod common;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use common::{Tar, Who, World, everyone, lines};
use serde_json::{Value, json};
use tar::EntryType;

/// A world with these layers on the base, as a request's `layers`.
fn layered(world: &World, layers: Vec<Tar>) -> Value {
    let mut paths = vec![world.path("base.tar")];
    for (number, tar) in layers.into_iter().enumerate() {
        let path = world.path(&format!("layer-{number}.tar"));
        tar.write(&path);
        paths.push(path);
    }
    json!(paths)
}

fn tar(fill: impl FnOnce(&mut Tar)) -> Tar {
    let mut tar = Tar::default();
    fill(&mut tar);
    tar
}

/// The paths below `/t`, of these layers joined in either way, for everybody.
fn check(world: &World, layers: Vec<Tar>, expected: &[&str]) {
    let layers = layered(world, layers);
    for who in everyone() {
        for copies in [false, true] {
            let script =
                "cd /t; find . | sort | while read f; do test -f $f && echo $f $(cat $f) || echo $f; done";
            let (output, answer) = world.script(who, script, json!({ "layers": layers, "copies": copies }));
            assert_eq!(output, expected, "{who:?}");
            assert_eq!(answer["joined"], if copies { "copy" } else { "overlay" });
        }
    }
}

#[test]
fn upper_layers_cover_lower_ones() {
    let world = World::new();
    let lower = || tar(|tar| _ = tar.folder("t", 0o755).file("t/a", 0o644, b"1").file("t/b", 0o644, b"1"));
    let upper = || tar(|tar| _ = tar.folder("t", 0o755).file("t/b", 0o644, b"2").file("t/c", 0o644, b"2"));
    check(&world, vec![lower(), upper()], &[".", "./a 1", "./b 2", "./c 2"]);
    check(&world, vec![upper(), lower()], &[".", "./a 1", "./b 1", "./c 2"]);
    // The same layer twice, as images have the empty one.
    check(&world, vec![lower(), upper(), lower()], &[".", "./a 1", "./b 1", "./c 2"]);
}

#[test]
fn whiteouts_take_away() {
    let world = World::new();
    let lower = || {
        tar(|tar| {
            tar.folder("t", 0o755).file("t/a", 0o644, b"1").folder("t/d", 0o755).file("t/d/x", 0o644, b"1");
            tar.folder("t/e", 0o755).file("t/e/x", 0o644, b"1").file("t/e/y", 0o644, b"1");
        })
    };
    let gone = || tar(|tar| _ = tar.file("t/.wh.a", 0o644, b"").file("t/.wh.d", 0o644, b""));
    check(&world, vec![lower(), gone()], &[".", "./e", "./e/x 1", "./e/y 1"]);
    let opaque = || {
        tar(|tar| {
            _ = tar.folder("t/e", 0o755).file("t/e/.wh..wh..opq", 0o644, b"").file("t/e/z", 0o644, b"2")
        })
    };
    check(&world, vec![lower(), opaque()], &[".", "./a 1", "./d", "./d/x 1", "./e", "./e/z 2"]);
    // In either order, and without an entry for the folder.
    let before =
        || tar(|tar| _ = tar.file("t/.wh.e", 0o644, b"").folder("t/e", 0o755).file("t/e/z", 0o644, b"2"));
    check(&world, vec![lower(), gone(), before()], &[".", "./e", "./e/z 2"]);
    let implied = || tar(|tar| _ = tar.file("t/.wh.e", 0o644, b"").file("t/e/z", 0o644, b"2"));
    check(&world, vec![lower(), gone(), implied()], &[".", "./e", "./e/z 2"]);
    let after = || tar(|tar| _ = tar.file("t/e/z", 0o644, b"2").file("t/.wh.e", 0o644, b""));
    check(&world, vec![lower(), gone(), after()], &[".", "./e", "./e/z 2"]);
    // What is gone can come back.
    check(
        &world,
        vec![lower(), gone(), tar(|tar| _ = tar.file("t/a", 0o644, b"3"))],
        &[".", "./a 3", "./e", "./e/x 1", "./e/y 1"],
    );
    // A file in a folder's place, and the other way round.
    let swapped =
        || tar(|tar| _ = tar.folder("t/a", 0o755).file("t/a/x", 0o644, b"2").file("t/d", 0o644, b"2"));
    check(&world, vec![lower(), swapped()], &[".", "./a", "./a/x 2", "./d 2", "./e", "./e/x 1", "./e/y 1"]);
}

#[test]
fn a_layer_may_hide_all_below_it() {
    let world = World::new();
    let hide = tar(|tar| {
        tar.file(".wh..wh..opq", 0o644, b"").folder("bin", 0o755);
        tar.file("bin/busybox", 0o755, &fs::read("/bin/busybox").unwrap())
            .link("bin/sh", "busybox")
            .link("bin/ls", "busybox");
    });
    let layers = layered(&world, vec![tar(|tar| _ = tar.file("below", 0o644, b"")), hide]);
    for copies in [false, true] {
        let (output, _) = world.script(Who::Me, "ls / /bin", json!({ "layers": layers, "copies": copies }));
        let expected = "/: bin dev etc proc root run sys tmp  /bin: busybox ls sh";
        assert_eq!(output.join(" "), expected);
    }
}

#[test]
fn what_files_are_beside_their_content() {
    let world = World::new();
    let layer = tar(|tar| {
        tar.folder("t", 0o1777).entry(EntryType::Regular, "t/owned", 0o640, 7, "", b"x");
        tar.file("t/suid", 0o6755, b"").folder("t/closed", 0o500).file("t/closed/x", 0o000, b"x");
        tar.hard_link("t/twin", "t/owned").link("t/dangling", "/no/where").entry(
            EntryType::Fifo,
            "t/pipe",
            0o622,
            0,
            "",
            b"",
        );
        tar.entry(EntryType::Char, "t/device", 0o666, 0, "", b"");
        tar.entry(EntryType::Regular, "t/far", 0o644, 70_000, "", b"");
        let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        tar.xattrs(&[
            ("user.colour", b"red"),
            ("security.capability", capability),
            ("user.overlay.redirect", b"/etc"),
        ]);
        tar.file("t/marked", 0o755, b"");
    });
    let layers = layered(&world, vec![layer]);
    for who in everyone() {
        for copies in [false, true] {
            let more = json!({ "layers": layers, "copies": copies, "outputs": ["/t"] });
            let (output, answer) = world.script(
                who,
                "stat -c '%Y' /t/owned; stat -c %h /t/owned; test -p /t/pipe; rm /t/pipe",
                more,
            );
            assert_eq!(output, ["1000000000", "2"]);
            let owner = if world.has_ids(who) { "7:7" } else { "0:0" };
            let expected = [
                "1777 0:0 d /t".to_owned(),
                "0500 0:0 d /t/closed".to_owned(),
                "0000 0:0 f /t/closed/x x".to_owned(),
                "0777 0:0 l /t/dangling /no/where".to_owned(),
                "0644 0:0 f /t/far".to_owned(),
                "0755 0:0 f /t/marked security.capability,user.colour".to_owned(),
                format!("0640 {owner} f /t/owned x"),
                "6755 0:0 f /t/suid".to_owned(),
                format!("0640 {owner} h /t/twin /t/owned"),
            ];
            let outputs: Vec<_> = lines(&answer["outputs"]);
            assert_eq!(outputs, expected, "{who:?}, copies {copies}");
        }
    }
}

#[test]
fn hostile_layers_stay_in_their_folder() {
    let world = World::new();
    let outside = world.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "kept").unwrap();
    let target = outside.to_str().unwrap();
    let check = |layer: Tar, expected: &str| {
        let layers = layered(&world, vec![layer]);
        let answer = world.ask(Who::Me, json!({ "layers": layers, "arguments": ["ls", "-R", "/t"] }));
        assert!(answer.to_string().contains(expected), "expected {expected}: {answer}");
        let found: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(found, ["kept"]);
        assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "kept");
    };
    let base = |tar: &mut Tar| _ = tar.folder("t", 0o755);
    // Through links, absolute and relative: they would lead to the same path in the folder, where there is nothing, and a
    // folder takes their place.
    check(
        tar(|tar| {
            base(tar);
            tar.link("t/a", target).file("t/a/x", 0o644, b"");
        }),
        "/t/a:\",\"x",
    );
    check(
        tar(|tar| {
            base(tar);
            tar.link("t/a", &format!("../../../../../../../..{target}")).file("t/a/x", 0o644, b"");
        }),
        "/t/a:\",\"x",
    );
    // A link within the layer is followed within it, as runtimes do.
    check(
        tar(|tar| {
            base(tar);
            tar.folder("t/real", 0o755).link("t/a", "/t/real").file("t/a/x", 0o644, b"");
        }),
        "/t/real:\",\"x",
    );
    // Through the last component.
    check(
        tar(|tar| {
            base(tar);
            tar.link("t/kept", &format!("{target}/kept")).file("t/kept", 0o644, b"changed");
        }),
        "\"kept\"",
    );
    check(
        tar(|tar| {
            base(tar);
            tar.hard_link("t/kept", &format!("..{target}/kept"));
        }),
        "a path that leaves its root",
    );
    check(
        tar(|tar| {
            base(tar);
            tar.link("t/a", target).hard_link("t/kept", "t/a/kept");
        }),
        "unpack its /t/kept",
    );
    check(tar(|tar| _ = tar.file("../outside/x", 0o644, b"")), "a path that leaves its root");
    check(tar(|tar| _ = tar.file(&format!("{target}/x"), 0o644, b"")), "/t: No such file");
    // A folder's attributes are not set through a link that took its place.
    check(
        tar(|tar| {
            base(tar);
            tar.folder("t/a", 0o755).link("t/a", target);
        }),
        "\"a\"",
    );
    check(
        tar(|tar| {
            base(tar);
            tar.link("t/a", target).file("t/a/.wh.kept", 0o644, b"");
        }),
        "\"/t/a:\"",
    );
    check(tar(|tar| _ = tar.file("t/.wh...", 0o644, b"")), "unpack its /t/.wh...");
    assert_eq!(fs::metadata(&outside).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn a_layer_is_what_its_diff_id_says() {
    let world = World::new();
    let layer = world.path("layer.tar.gz");
    let bytes = {
        let path = world.path("plain.tar");
        tar(|tar| _ = tar.folder("t", 0o755).file("t/a", 0o644, b"1")).write(&path);
        fs::read(path).unwrap()
    };
    let compress = |program: &str| {
        let mut child = std::process::Command::new(program)
            .args(["-c"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(&bytes).unwrap();
        drop(input);
        child.wait_with_output().unwrap().stdout
    };
    fs::write(&layer, compress("gzip")).unwrap();
    let diff_id = imgforge_oci::Digest::of(&bytes).to_string();
    let ask = |diff_id: &str| {
        fs::write(layer.with_extension("diffid"), diff_id).unwrap();
        let layers = json!([world.path("base.tar"), layer]);
        world.ask(Who::Me, json!({ "layers": layers, "arguments": ["cat", "/t/a"] })).to_string()
    };
    let other = format!("sha256:{}", "0".repeat(64));
    assert!(ask(&other).contains("not what its diff ID says"), "{}", ask(&other));
    assert!(ask(&diff_id).contains("\"lines\":[\"1\"]"), "{}", ask(&diff_id));
    // Nothing of what failed stays.
    let store = world.store(Who::Me);
    assert_eq!(fs::read_dir(store.join("tmp")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(unpacked(&store)).unwrap().count(), 3);
    fs::write(&layer, &fs::read(&layer).unwrap()[..60]).unwrap();
    fs::write(layer.with_extension("diffid"), &other).unwrap();
    assert!(ask(&other).contains("can't unpack it"), "{}", ask(&other));
}

/// The one folder of unpacked layers.
fn unpacked(store: &Path) -> std::path::PathBuf {
    let format = store.join("rootfs/1");
    fs::read_dir(format).unwrap().next().unwrap().unwrap().path()
}

/// What scripts changed of a root that has `/t`: the same in both ways of joining, and for everybody.
fn check_differences(changes: &[(&str, &[&str])]) {
    let world = World::new();
    let layer = tar(|tar| {
        tar.folder("t", 0o1777).file("t/a", 0o644, b"1").file("t/b", 0o644, b"1").link("t/l", "a");
        tar.folder("t/d", 0o700)
            .file("t/d/x", 0o644, b"1")
            .file("t/d/y", 0o644, b"1")
            .hard_link("t/h", "t/a");
    });
    let layers = layered(&world, vec![layer]);
    for (script, expected) in changes {
        for (who, copies) in everyone().into_iter().flat_map(|who| [(who, false), (who, true)]) {
            let more = json!({ "layers": layers, "copies": copies, "difference": true });
            let (_, answer) = world.script(who, &format!("cd /t; {script}"), more);
            assert_eq!(&lines(&answer["outputs"]), expected, "{who:?}, copies {copies}: {script}");
        }
    }
}

#[test]
fn differences_are_what_a_layer_says() {
    check_differences(&[
        ("true", &[]),
        ("echo 2 >a2", &["1777 0:0 d /t", "0644 0:0 f /t/a2 2"]),
        ("printf 2 >b", &["1777 0:0 d /t", "0644 0:0 f /t/b 2"]),
        ("rm b", &["1777 0:0 d /t", "0644 0:0 f /t/.wh.b"]),
        ("rm -r d", &["1777 0:0 d /t", "0644 0:0 f /t/.wh.d"]),
        ("rm d/x", &["1777 0:0 d /t", "0700 0:0 d /t/d", "0644 0:0 f /t/d/.wh.x"]),
        ("chmod 600 b", &["1777 0:0 d /t", "0600 0:0 f /t/b 1"]),
        ("chmod 711 d", &["1777 0:0 d /t", "0711 0:0 d /t/d"]),
        ("ln -sf b l", &["1777 0:0 d /t", "0777 0:0 l /t/l b"]),
        (
            "mkdir n n/m; echo 1 >n/m/f; ln n/m/f n/g; mkfifo n/pipe; probes socket /t/n/socket",
            &[
                "1777 0:0 d /t",
                "0755 0:0 d /t/n",
                "0644 0:0 f /t/n/g 1",
                "0755 0:0 d /t/n/m",
                "0644 0:0 h /t/n/m/f /t/n/g",
            ],
        ),
        ("rm b; mkdir b; touch b/x", &["1777 0:0 d /t", "0755 0:0 d /t/b", "0644 0:0 f /t/b/x"]),
        ("rm -r d; echo 2 >d", &["1777 0:0 d /t", "0644 0:0 f /t/d 2"]),
    ]);
}

#[test]
fn what_comes_to_the_same_is_no_difference() {
    check_differences(&[
        ("touch a b d; chmod 644 b; echo -n >>b", &[]),
        ("cp b b2; mv b2 b", &[]),
        ("rm l; ln -s a l", &[]),
        ("rm -r d; mkdir -m 700 d; printf 1 >d/x; printf 1 >d/y; echo 1 >/tmp/x; touch /dev/shm/y", &[]),
        (
            "rm -r d; mkdir -m 700 d; printf 1 >d/x",
            &["1777 0:0 d /t", "0700 0:0 d /t/d", "0644 0:0 f /t/d/.wh.y"],
        ),
    ]);
}

#[test]
fn owners_are_differences_where_there_are_owners() {
    let world = World::new();
    for who in everyone().into_iter().filter(|who| world.has_ids(*who)) {
        for copies in [false, true] {
            let more = json!({ "copies": copies, "difference": true });
            let (_, answer) =
                world.script(who, "mkdir /n; chown 33:34 /n; touch /n/x; chown 65534 /n/x", more);
            assert_eq!(lines(&answer["outputs"]), ["0755 33:34 d /n", "0644 65534:0 f /n/x"]);
        }
    }
}

#[test]
fn a_difference_is_a_layer() {
    let world = World::new();
    let first = world.path("first.tar");
    let script = "mkdir /n; echo 1 >/n/f; rm -r /bin/probes; chmod 700 /etc";
    world.script(Who::Me, script, json!({ "difference": true, "tar": first }));
    let layers = json!([world.path("base.tar"), first]);
    let (output, _) = world.script(
        Who::Me,
        "cat /n/f; ls /bin | grep -c probes || stat -c %a /etc",
        json!({ "layers": layers }),
    );
    assert_eq!(output, ["1", "0", "700"]);
    // Two runs, one digest.
    let public = world.path("public");
    fs::create_dir(&public).unwrap();
    fs::set_permissions(&public, fs::Permissions::from_mode(0o777)).unwrap();
    let second = public.join("second.tar");
    world.script(
        *everyone().last().unwrap(),
        script,
        json!({ "difference": true, "tar": second, "copies": true }),
    );
    assert_eq!(fs::read(first).unwrap(), fs::read(second).unwrap());
}

#[test]
fn as_many_layers_as_images_have_and_more() {
    let world = World::new();
    let layers = |count: usize| {
        let layers =
            (0..count).map(|number| tar(|tar| _ = tar.file(&format!("t/{number}"), 0o644, b"x"))).collect();
        layered(&world, layers)
    };
    for (count, joined) in [(130, "overlay"), (510, "copy")] {
        let more = json!({ "layers": layers(count) });
        let (output, answer) = world.script(Who::Me, "ls /t | wc -l; stat -c %a /t", more);
        assert_eq!(output, [count.to_string(), "755".to_owned()]);
        assert_eq!(answer["joined"], joined);
    }
}

#[test]
fn layers_are_unpacked_once() {
    let world = World::new();
    let many = (0..6).map(|number| tar(|tar| _ = tar.file(&format!("t/{number}"), 0o644, &[7; 300_000])));
    let layers = layered(&world, many.collect());
    for who in everyone() {
        let request = json!({ "layers": layers, "arguments": ["ls", "/t"] });
        let children: Vec<_> = (0..3).map(|_| world.start(who, &[], request.clone())).collect();
        for child in children {
            assert_eq!(lines(&world.finish(child)["lines"]), ["0", "1", "2", "3", "4", "5"]);
        }
        let dates = || {
            let folders = fs::read_dir(unpacked(&world.store(who))).unwrap();
            let mut dates: Vec<_> = folders
                .map(|folder| {
                    let metadata = folder.unwrap().metadata().unwrap();
                    (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
                })
                .collect();
            dates.sort_unstable();
            dates
        };
        let before = dates();
        assert_eq!(before.len(), 8);
        world.ask(who, request);
        assert_eq!(dates(), before);
    }
}

#[test]
fn the_collector_frees_what_nobody_used() {
    let world = World::new();
    for who in everyone() {
        // With files and folders that only the sandbox's own users could remove.
        let layer = tar(|tar| {
            tar.folder("t", 0o700).folder("t/d", 0o000).entry(EntryType::Directory, "t/e", 0o500, 7, "", b"");
            tar.entry(EntryType::Regular, "t/e/x", 0o000, 8, "", b"x");
        });
        let layers = layered(&world, vec![layer]);
        let request = json!({ "layers": layers, "arguments": ["true"] });
        assert_eq!(world.ask(who, request.clone())["exit"], 0);
        let store = world.store(who);
        let count = || fs::read_dir(unpacked(&store)).unwrap().count();
        assert_eq!(count(), 3);
        // Of a run that was killed.
        let left = store.join("tmp/folder-1-1");
        fs::create_dir_all(left.join("upper/x")).unwrap();
        let owner = fs::metadata(&store).unwrap();
        for folder in [&left, &left.join("upper"), &left.join("upper/x")] {
            std::os::unix::fs::chown(folder, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        let kept = world.ask(who, json!({ "collect": 3600 }));
        assert_eq!((&kept["records"], &kept["bytes"]), (&json!(0), &json!(0)), "{kept}");
        assert!(!left.exists());
        assert_eq!(count(), 3);
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let freed = world.ask(who, json!({ "collect": 1 }));
        assert_eq!((&freed["records"], &freed["removed"]), (&json!(3), &json!(3)), "{freed}");
        assert!(freed["bytes"].as_u64().unwrap() > 1_000_000, "{freed}");
        assert_eq!(count(), 0);
        assert_eq!(world.ask(who, request)["exit"], 0);
        // A folder that lost its record, and a record that lost its folder, are no layers.
        let folder = fs::read_dir(unpacked(&store)).unwrap().next().unwrap().unwrap().path();
        let ids = unpacked(&store).file_name().unwrap().to_owned();
        fs::remove_file(store.join("unpacked/1").join(ids).join(folder.file_name().unwrap())).unwrap();
        assert_eq!(world.ask(who, json!({ "collect": 3600 }))["removed"], 1);
        assert_eq!(count(), 2);
    }
}
