//! What is run, and what came of it.

use std::collections::BTreeMap;
use std::time::Duration;

use imgforge_layer::Tree;
use imgforge_oci::Digest;
use serde::{Deserialize, Serialize};

use crate::message::{Bounds, Exited, Wanted};
use crate::run::Kept;

/// The number of the build user and its group.
pub(crate) const BUILD_USER: u32 = 1000;

/// A command with all that it can see of the world.
#[derive(Clone, Debug)]
pub struct Command {
    /// The program and its arguments. A name without a slash is looked up in PATH, the command's own.
    pub arguments: Vec<String>,
    /// Variables, added to those that every command has: HOME, LANG and LC_ALL (`C.UTF-8`), PATH, TZ (`UTC`).
    pub environment: BTreeMap<String, String>,
    /// Where it starts, absolute. Made if it is not there, and then the user's.
    pub folder: String,
    /// Who runs it.
    pub user: User,
    /// What it can reach.
    pub network: Network,
    /// Where it is stopped.
    pub limits: Limits,
    /// What is taken from it in the end, if it succeeds.
    pub outputs: Outputs,
}

impl Command {
    /// A command of root's in `/`, without network.
    pub fn new<T: Into<String>>(arguments: impl IntoIterator<Item = T>) -> Self {
        Self {
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: BTreeMap::new(),
            folder: "/".to_owned(),
            user: User::Root,
            network: Network::None,
            limits: Limits::default(),
            outputs: Outputs::None,
        }
    }

    /// All variables of the command.
    pub(crate) fn whole_environment(&self) -> BTreeMap<String, String> {
        let home = match self.user {
            User::Root => "/root",
            User::Build => "/build",
        };
        let defaults = [
            ("HOME", home),
            ("LANG", "C.UTF-8"),
            ("LC_ALL", "C.UTF-8"),
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("TZ", "UTC"),
        ];
        let defaults = defaults.map(|(name, value)| (name.to_owned(), value.to_owned()));
        defaults.into_iter().chain(self.environment.clone()).collect()
    }
}

/// Who a command is in the sandbox. On the host it is nobody but the user who runs imgforge, or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// User 0, with the capabilities that installing packages takes.
    Root,
    /// User and group 1000, without capabilities. Where the sandbox has but one id, files of the layers are this user's.
    Build,
}

/// What a command can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Itself, by the loopback interface.
    None,
    /// Whatever the host can, its own services and abstract sockets included.
    Host,
}

/// Where a command is stopped. All numbers are bytes, but for processes and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory of all processes together, files in `/tmp` and `/dev/shm` included. Measured forty times a second; no single
    /// process gets more than a quarter beyond it at any time.
    pub memory: Option<u64>,
    /// Processes and threads. Measured likewise; no user gets more than a quarter beyond it, and eight, at any time.
    pub processes: u32,
    /// Each file.
    pub file_size: Option<u64>,
    /// All files that it writes outside of `/tmp` and `/dev/shm`, and its outputs. Measured.
    pub disk: Option<u64>,
    /// Files in `/tmp`, which are in memory.
    pub tmp: u64,
    /// Files in `/dev/shm`, likewise.
    pub shm: u64,
    /// What it prints.
    pub log: u64,
    /// How long it takes, by the clock.
    pub time: Option<Duration>,
}

impl Default for Limits {
    /// What no honest build comes near to, where a build can be told from a bomb without knowing it.
    fn default() -> Self {
        Self {
            memory: None,
            processes: 8192,
            file_size: None,
            disk: None,
            tmp: 8 << 30,
            shm: 1 << 30,
            log: 256 << 20,
            time: None,
        }
    }
}

impl Limits {
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            memory: self.memory,
            processes: self.processes,
            file_size: self.file_size,
            disk: self.disk,
            tmp: self.tmp,
            shm: self.shm,
            time: self.time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// What is taken from a command that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// Nothing.
    None,
    /// These, absolute, with all that is in those that are folders. Each has to be there. No link is followed: one that is
    /// an output is a link in the result, and one on the way to an output is an error.
    Paths(Vec<String>),
    /// What differs from the layers, as a layer on top of them would say it: with the folders above, and an empty
    /// file `.wh.NAME` for what was removed. Times don't count; sockets and pipes are left out.
    Difference,
}

impl Outputs {
    /// The same for the sandbox's processes; `clean` checks a path.
    pub(crate) fn wanted(
        &self,
        clean: impl Fn(&str) -> Result<String, crate::Error>,
    ) -> Result<Wanted, crate::Error> {
        Ok(match self {
            Self::None => Wanted::Nothing,
            Self::Paths(paths) => {
                Wanted::Paths(paths.iter().map(|path| clean(path)).collect::<Result<_, _>>()?)
            }
            Self::Difference => Wanted::Difference,
        })
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Finished {
    /// How its first process ended.
    pub exit: Exit,
    /// The limit at which it was stopped.
    pub limit: Option<Limit>,
    /// From its start to the end of the last process, the sandbox's own beginning and end included.
    pub duration: Duration,
    /// Processes that were still there when the first one had ended, and were killed.
    pub left_behind: u32,
    /// All that it printed, a blob of the store; none when that was nothing.
    pub log: Option<Digest>,
    /// What was taken from it, below the root: with owners, modes and extended attributes as they were in the sandbox.
    /// Empty when it failed.
    pub outputs: Tree,
    /// How its layers were joined.
    pub joined: Joined,
    /// What it wrote, for [`Sandbox::shell`](crate::Sandbox::shell). Removed when dropped.
    pub kept: Kept,
}

impl Finished {
    /// Whether the command succeeded, within its limits.
    pub fn is_success(&self) -> bool {
        self.exit == Exit::Code(0) && self.limit.is_none()
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl From<Exited> for Exit {
    fn from(exited: Exited) -> Self {
        match exited {
            Exited::Code(code) => Self::Code(code),
            Exited::Signal(signal) => Self::Signal(signal),
        }
    }
}

/// A limit, one of [`Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// [`Limits::memory`]
    Memory,
    /// [`Limits::processes`]
    Processes,
    /// [`Limits::file_size`]
    FileSize,
    /// [`Limits::disk`]
    Disk,
    /// [`Limits::log`]
    Log,
    /// [`Limits::time`]
    Time,
}

/// How layers became one root filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Joined {
    /// By overlayfs.
    Overlay,
    /// By copying them.
    Copy,
}
