//! A root filesystem of busybox and a program of probes, and sandboxes of it for root and for others.

#![allow(dead_code, reason = "each test program uses a part of this")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

/// The program that makes the sandboxes.
const ASKER: &str = env!("CARGO_BIN_EXE_imgforge-sandbox-asker");

/// Programs of busybox that tests use by their names.
const PROGRAMS: &[&str] = &[
    "basename",
    "cat",
    "chmod",
    "chown",
    "cp",
    "date",
    "dd",
    "dirname",
    "echo",
    "env",
    "false",
    "find",
    "grep",
    "head",
    "hostname",
    "id",
    "ip",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "mkfifo",
    "mv",
    "nc",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "setsid",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "tail",
    "test",
    "timeout",
    "touch",
    "tr",
    "true",
    "wc",
    "yes",
];

/// Who asks for a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever runs the tests.
    Me,
    /// A user who has one id.
    User,
    /// A user who has lines in `/etc/subuid` and `/etc/subgid`.
    UserWithIds,
}

/// All that can be tried: as root, others too.
pub fn everyone() -> Vec<Who> {
    if is_root() { vec![Who::Me, Who::User, Who::UserWithIds] } else { vec![Who::Me] }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A folder with what sandboxes of a test need; everybody can read it.
pub struct World {
    folder: TempDir,
    user: (u32, u32, String),
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("imgforge-sandbox-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let world = Self { folder, user: somebody() };
        // The build's own folder may be closed to others.
        fs::copy(ASKER, world.path("asker")).unwrap();
        fs::copy(base(), world.path("base.tar")).unwrap();
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where it is.
    pub fn folder(&self) -> std::path::Display<'_> {
        self.folder.path().display()
    }

    /// A text that is in all paths of this world.
    pub fn mark(&self) -> String {
        self.folder.path().file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// The store of somebody, who owns it.
    pub fn store(&self, who: Who) -> PathBuf {
        let store = self.path(&format!("store-{who:?}"));
        if !store.exists() {
            fs::create_dir(&store).unwrap();
            if who != Who::Me {
                chown(&store, Some(self.user.0), Some(self.user.1)).unwrap();
            }
        }
        store
    }

    /// The beginning of a command that runs the rest as somebody.
    pub fn become_somebody(&self, who: Who) -> Vec<String> {
        let (uid, gid, name) = &self.user;
        let set = format!("setpriv --reuid={uid} --regid={gid} --clear-groups");
        let line = match who {
            Who::Me => return Vec::new(),
            Who::User => format!("exec {set} \"$@\""),
            Who::UserWithIds => {
                let lines = self.path("subids");
                fs::write(&lines, format!("{name}:1000000:65536\n")).unwrap();
                let lines = lines.display();
                let bind = |file| format!("mount --bind {lines} {file} && ");
                let (users, groups) = (bind("/etc/subuid"), bind("/etc/subgid"));
                for file in ["/etc/subuid", "/etc/subgid"] {
                    assert!(Path::new(file).exists(), "{file} is missing: apt-get install uidmap");
                }
                return [
                    "unshare",
                    "--mount",
                    "sh",
                    "-c",
                    &format!("{users}{groups}exec {set} \"$@\""),
                    "sh",
                ]
                .map(str::to_owned)
                .into();
            }
        };
        ["sh", "-c", &line, "sh"].map(str::to_owned).into()
    }

    /// Starts the asker with a request; what it lacks is filled in.
    pub fn start(&self, who: Who, before: &[&str], request: Value) -> Child {
        let mut request = request;
        let fields = request.as_object_mut().unwrap();
        fields.entry("store").or_insert_with(|| json!(self.store(who)));
        fields.entry("layers").or_insert_with(|| json!([self.path("base.tar")]));
        let mut line: Vec<String> = before.iter().map(|word| (*word).to_owned()).collect();
        line.extend(self.become_somebody(who));
        line.push(self.path("asker").to_str().unwrap().to_owned());
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).env("MARK", self.mark()).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{line:?}: {error}"));
        child.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
        child
    }

    pub fn finish(&self, child: Child) -> Value {
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{errors}", String::from_utf8_lossy(&output.stdout)))
    }

    /// What came of a request.
    pub fn ask(&self, who: Who, request: Value) -> Value {
        self.finish(self.start(who, &[], request))
    }

    /// Whether somebody's sandboxes have users beside root.
    pub fn has_ids(&self, who: Who) -> bool {
        let (output, _) = self.script(who, "touch /x; chown 7:7 /x; stat -c %u:%g /x", json!({}));
        output.last().unwrap() == "7:7"
    }

    /// What a shell script printed, which has to succeed; `more` is added to the request.
    pub fn script(&self, who: Who, script: &str, more: Value) -> (Vec<String>, Value) {
        let mut request = json!({ "arguments": ["sh", "-ec", script] });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.ask(who, request);
        assert_eq!(answer["exit"], 0, "{who:?}: {answer}");
        (lines(&answer["lines"]), answer)
    }
}

/// The texts of an array.
pub fn lines(array: &Value) -> Vec<String> {
    let lines = array.as_array().unwrap_or_else(|| panic!("no lines: {array}"));
    lines.iter().map(|line| line.as_str().unwrap().to_owned()).collect()
}

/// A user that every system has, and that is not root.
fn somebody() -> (u32, u32, String) {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with("daemon:")).expect("no user `daemon`");
    let fields: Vec<&str> = line.split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap(), fields[0].to_owned())
}

/// The tar of the root filesystem, made once for each state of the probes.
fn base() -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/probes.c");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let busybox = fs::read("/bin/busybox").expect("no static busybox: apt-get install busybox-static");
    let mut hasher = imgforge_oci::Hasher::new();
    for bytes in [&fs::read(source).unwrap(), &busybox, PROGRAMS.join(" ").as_bytes()] {
        hasher.update(bytes);
    }
    let base = folder.join(format!("base-{}.tar", hasher.finish().hex()));
    if base.exists() {
        return base;
    }
    // Somebody else may be at it too: the last one wins, and all are alike.
    let draft = tempfile::tempdir_in(folder).unwrap();
    let probes = draft.path().join("probes");
    let compiled = Command::new("cc").args(["-static", "-O1", "-o"]).arg(&probes).arg(source).status();
    assert!(compiled.expect("no `cc`: apt-get install build-essential").success(), "cc failed");
    let mut tar = Tar::default();
    tar.folder("bin", 0o755).file("bin/busybox", 0o755, &busybox);
    for program in PROGRAMS {
        tar.link(&format!("bin/{program}"), "busybox");
    }
    tar.file("bin/probes", 0o755, &fs::read(&probes).unwrap());
    tar.write(&draft.path().join("base.tar"));
    fs::rename(draft.path().join("base.tar"), &base).unwrap();
    base
}

/// A tar, as hostile as a test wants it.
pub struct Tar(Builder<Vec<u8>>);

impl Default for Tar {
    fn default() -> Self {
        Self(Builder::new(Vec::new()))
    }
}

impl Tar {
    /// Any entry; a path of more than 100 bytes doesn't fit.
    pub fn entry(
        &mut self,
        kind: EntryType,
        path: &str,
        mode: u32,
        owner: u64,
        link: &str,
        content: &[u8],
    ) -> &mut Self {
        let mut header = Header::new_ustar();
        let fields = header.as_old_mut();
        fields.name[..path.len()].copy_from_slice(path.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    pub fn folder(&mut self, path: &str, mode: u32) -> &mut Self {
        self.entry(EntryType::Directory, &format!("{path}/"), mode, 0, "", b"")
    }

    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> &mut Self {
        self.entry(EntryType::Regular, path, mode, 0, "", content)
    }

    pub fn link(&mut self, path: &str, target: &str) -> &mut Self {
        self.entry(EntryType::Symlink, path, 0o777, 0, target, b"")
    }

    pub fn hard_link(&mut self, path: &str, target: &str) -> &mut Self {
        self.entry(EntryType::Link, path, 0o644, 0, target, b"")
    }

    /// Extended attributes of the next entry.
    pub fn xattrs(&mut self, xattrs: &[(&str, &[u8])]) -> &mut Self {
        let records: Vec<_> =
            xattrs.iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), *value)).collect();
        self.0.append_pax_extensions(records.iter().map(|(name, value)| (name.as_str(), *value))).unwrap();
        self
    }

    pub fn write(self, path: &Path) {
        File::create(path).unwrap().write_all(&self.0.into_inner().unwrap()).unwrap();
    }
}

/// Processes of the host with this text in their command line or environment, by their command lines.
pub fn processes_with(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        if entry.file_name().to_str().is_none_or(|name| name.parse::<u32>().is_err()) {
            continue;
        }
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(text) {
            found.push(command);
        }
    }
    found
}
