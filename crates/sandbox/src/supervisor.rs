//! The process between imgforge and a sandbox: outside of it, alone with it, and gone when either is.
//!
//! It is the program itself, executed anew. A fork of a program with many threads may do almost nothing before it executes
//! something; and the first process of a sandbox must not have what the program has in memory and in its environment, since
//! processes in there try to read it. So the supervisor starts with no environment, three descriptors and one thread, makes
//! the namespaces by one `clone`, gives the ids from outside (the only side that may), and waits.
//!
//! Nothing outlives imgforge: the supervisor holds one end of a socket pair, and when the other one is closed, however that
//! came about, it kills the sandbox's first process, with which the kernel ends all others and all mounts. If the
//! supervisor itself is killed, the kernel does the same by the parent-death signal.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions};

use crate::ids::Ids;
use crate::message::{self, During as _, Failure, Job, Report, Task};
use crate::{extract, init};

/// What the supervisor is called, for `ps` and for [`init_if_asked`](crate::init_if_asked).
pub(crate) const NAME: &str = "imgforge-sandbox";

/// Namespaces of a sandbox beside those of users and of the network.
const NAMESPACES: libc::c_int =
    libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;

/// Exit statuses; what went wrong is in the report.
const DONE: i32 = 0;
const FAILED: i32 = 1;

/// What the supervisor does instead of `main`.
pub(crate) fn supervise() -> i32 {
    match serve() {
        Ok(()) => DONE,
        Err(failure) => {
            let _ = report(&Report::Failed(failure));
            FAILED
        }
    }
}

/// Tells imgforge something. Standard input is one end of a socket pair, so it can be written to.
pub(crate) fn report(report: &Report) -> io::Result<()> {
    message::send(File::from(rustix::stdio::stdin().try_clone_to_owned()?), report)
}

fn serve() -> Result<(), Failure> {
    let control = File::from(rustix::stdio::stdin().try_clone_to_owned().during("take standard input")?);
    let job: Option<Job> = message::receive(&control).during("read what is to be done")?;
    let Some(Job { ids, task }) = job else { return Ok(()) };
    // Of its own, so that a terminal's signals are for imgforge alone. An interactive command needs the terminal.
    if !matches!(&task, Task::Run(run) if run.is_interactive) {
        rustix::process::setsid().during("begin a session")?;
    }
    // The kernel's first choice when memory is short. Nobody needs a permission for more of it.
    let _ = fs::write("/proc/self/oom_score_adj", "800");
    let mut descriptors = rustix::process::getrlimit(Resource::Nofile);
    descriptors.current = descriptors.maximum;
    raise(descriptors);
    match task {
        Task::Unpack { folder, compression } => {
            let root = format!("{folder}/root");
            give(&root, &ids)?;
            let body = |link: &mut Link| -> Result<(), Failure> {
                link.wait_for_ids()?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let root =
                    rustix::fs::openat(CWD, &root, flags, Mode::empty()).during(&format!("open {root}"))?;
                let layer = rustix::stdio::stdout().try_clone_to_owned().during("take the layer")?;
                link.become_root(&ids)?;
                let unpacked = extract::extract(root, &ids, File::from(layer), compression)?;
                report(&Report::Unpacked(unpacked)).during("report")
            };
            Sandbox::enter(&ids, 0, body)?.start()?.wait()
        }
        Task::Remove { folder } => {
            let body = |link: &mut Link| {
                // Before becoming somebody who may have no way to it.
                link.wait_for_ids()?;
                let (above, name) = folder.rsplit_once('/').unwrap_or((".", &folder));
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let above =
                    rustix::fs::openat(CWD, above, flags, Mode::empty()).during(&format!("open {above}"))?;
                link.become_root(&ids)?;
                let path = extract::self_path(&above).join(name);
                fs::remove_dir_all(path).during(&format!("remove {folder}"))?;
                report(&Report::Removed).during("report")
            };
            Sandbox::enter(&ids, 0, body)?.start()?.wait()
        }
        Task::Run(run) => {
            let ids = ids.with_single_as(run.uid, run.gid);
            for folder in ["upper", "work", "root", ""] {
                let folder = format!("{}/{folder}", run.scratch);
                own(folder.trim_end_matches('/'), &ids)?;
            }
            let namespaces = NAMESPACES | if run.has_network { 0 } else { libc::CLONE_NEWNET };
            Sandbox::enter(&ids, namespaces, |link| init::run(&run, &ids, link))?.start()?.wait()
        }
    }
}

/// Makes a folder that belongs to the sandbox's root.
fn give(path: &str, ids: &Ids) -> Result<(), Failure> {
    rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o755)).during(&format!("make {path}"))?;
    own(path, ids)
}

/// Gives a folder to the sandbox's root, where that is not this user anyway.
fn own(path: &str, ids: &Ids) -> Result<(), Failure> {
    let (uid, gid) = ids.root();
    if uid == rustix::process::geteuid().as_raw() && gid == rustix::process::getegid().as_raw() {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .during(&format!("give {path} to the sandbox"))
}

/// Sets a limit that is allowed already.
fn raise(limit: Rlimit) {
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
}

/// A sandbox's first process, as its supervisor sees it.
struct Sandbox {
    pid: Pid,
    pidfd: OwnedFd,
    link: OwnedFd,
}

/// The first process's end of what connects it with its supervisor.
pub(crate) struct Link(OwnedFd);

impl Sandbox {
    /// Makes a process in new namespaces, which does `body` and no more. It has no ids before [`start`](Self::start).
    fn enter(
        ids: &Ids,
        namespaces: libc::c_int,
        body: impl FnOnce(&mut Link) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair.during("make a socket pair")?;
        match clone(libc::CLONE_NEWUSER | namespaces).allowed("make the sandbox's namespaces")? {
            None => {
                drop(ours);
                // A panic must not go on into what the other process does.
                let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| body(&mut Link(theirs))));
                let code = match outcome {
                    Ok(Ok(())) => DONE,
                    Ok(Err(failure)) => {
                        let _ = report(&Report::Failed(failure));
                        FAILED
                    }
                    Err(_) => FAILED,
                };
                std::process::exit(code)
            }
            Some(pid) => {
                let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty());
                let sandbox = Self { pid, pidfd: pidfd.during("watch the sandbox")?, link: ours };
                sandbox.give_ids(ids)?;
                Ok(sandbox)
            }
        }
    }

    /// Says who its users are. Source: user_namespaces(7), "User and group ID mappings".
    fn give_ids(&self, ids: &Ids) -> Result<(), Failure> {
        let pid = self.pid.as_raw_nonzero().to_string();
        let Some(programs) = &ids.programs else {
            let proc = Path::new("/proc").join(&pid);
            let write = |file: &str, text: &str| {
                fs::write(proc.join(file), text).allowed(&format!("set the sandbox's {file}"))
            };
            if rustix::process::geteuid().as_raw() != 0 {
                // Who gives up a group could otherwise do what only its members may not.
                write("setgroups", "deny")?;
            }
            write("uid_map", &Ids::lines(&ids.uids))?;
            return write("gid_map", &Ids::lines(&ids.gids));
        };
        let mut running = Vec::new();
        for (program, extents) in [("newuidmap", &ids.uids), ("newgidmap", &ids.gids)] {
            let step = format!("run {program}");
            let lines = Ids::lines(extents);
            let mut command = Command::new(programs.join(program));
            command.arg(&pid).args(lines.split_whitespace()).stdin(std::process::Stdio::null());
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
            running.push((step.clone(), command.spawn().allowed(&step)?));
        }
        for (step, child) in running {
            let output = child.wait_with_output().during(&step)?;
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(io::Error::other(text)).allowed(&step);
            }
        }
        Ok(())
    }

    /// Lets it begin.
    fn start(self) -> Result<Self, Failure> {
        rustix::io::write(&self.link, b"1").during("start the sandbox")?;
        Ok(self)
    }

    /// Waits until it has ended, or imgforge has; then this one is no more either.
    fn wait(self) -> Result<(), Failure> {
        let control = rustix::stdio::stdin();
        let mut fds = [
            PollFd::new(&self.pidfd, PollFlags::IN),
            PollFd::new(&control, PollFlags::IN | PollFlags::RDHUP),
        ];
        loop {
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                result => result.during("watch the sandbox")?,
            };
            let [ended, left] = &fds;
            if !ended.revents().is_empty() {
                break;
            }
            if !left.revents().is_empty() {
                // Fails when it has ended just now.
                let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
                break;
            }
        }
        rustix::process::waitpid(Some(self.pid), WaitOptions::empty()).during("wait for the sandbox")?;
        Ok(())
    }
}

impl Link {
    /// Waits until the namespace has ids. Then this process can open both what is the host user's, whom it still is to
    /// the file system, and what belongs to the sandbox.
    pub(crate) fn wait_for_ids(&mut self) -> Result<(), Failure> {
        let mut go = [0; 1];
        let count = loop {
            match rustix::io::read(&self.0, &mut go) {
                Err(rustix::io::Errno::INTR) => {}
                count => break count.during("wait for ids")?,
            }
        };
        if count == 0 {
            return Err(io::Error::other("the supervisor is gone")).during("begin");
        }
        Ok(())
    }

    /// Becomes root of the new namespaces, and ends with the supervisor from now on.
    pub(crate) fn become_root(&mut self, ids: &Ids) -> Result<(), Failure> {
        let (uid, gid) = match (ids.uids.first(), ids.gids.first()) {
            (Some(uids), Some(gids)) => (uids.inside, gids.inside),
            _ => (0, 0),
        };
        if !ids.is_single() {
            rustix::thread::set_thread_groups(&[]).during("leave all groups")?;
        }
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::thread::set_thread_res_gid(gid, gid, gid).during("become the sandbox's root")?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).during("become the sandbox's root")?;
        // Nobody in the sandbox may look at this process: not at its memory, its descriptors, its program or its root.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .during("hide the first process")?;
        // After all changes of ids, which take this back.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .during("end with the supervisor")?;
        // It may have died before that; then there is nobody at the other end.
        let mut fds = [PollFd::new(&self.0, PollFlags::RDHUP)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).during("look for the supervisor")?;
        let [link] = &fds;
        if link.revents().intersects(PollFlags::HUP | PollFlags::RDHUP) {
            return Err(io::Error::other("the supervisor is gone")).during("begin");
        }
        Ok(())
    }
}

/// Forks into new namespaces. None in the new process.
fn clone(flags: libc::c_int) -> io::Result<Option<Pid>> {
    let flags = libc::c_long::from(flags | libc::SIGCHLD);
    // SAFETY: without CLONE_VM this is a fork: both processes go on here, each with its own memory. This one has a
    // single thread, so that nothing of the C library is locked by one that is missing in the other.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone,
            flags,
            0 as libc::c_long,
            0 as libc::c_long,
            0 as libc::c_long,
            0 as libc::c_long,
        )
    };
    match i32::try_from(result) {
        Ok(pid) if pid >= 0 => Ok(Pid::from_raw(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}
