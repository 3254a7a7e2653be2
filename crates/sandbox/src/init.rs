//! The first process of a sandbox: furnishes it, starts the command, sees to its end, collects what it made.
//!
//! It has the sandbox's capabilities, which the command has not, and nobody in there can look at it or stop it: it is not
//! dumpable, and the first process of a PID namespace takes no signal from inside. What is the command's is decided in the
//! one process that becomes it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::ForkResult;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::collect::Collector;
use crate::confine::Start;
use crate::difference::{self, Changed};
use crate::ids::Ids;
use crate::message::{self, During as _, Exited, Failure, Ran, Report, Run, Wanted};
use crate::root::{self, Places, Root};
use crate::seccomp;
use crate::supervisor::{Link, report};
use crate::watch::Watch;
use crate::{Joined, Limit};

/// Runs a command from beginning to end.
pub(crate) fn run(run: &Run, ids: &Ids, link: &mut Link) -> Result<(), Failure> {
    link.wait_for_ids()?;
    let places = Places::open(run)?;
    link.become_root(ids)?;
    rustix::process::umask(Mode::empty());
    let root = Root::join(&places, run)?;
    root.furnish(run)?;
    root::identify(run)?;
    root.enter()?;
    root::make_folder(&root.fd, &run.folder, run.uid, run.gid)?;
    let output = rustix::stdio::stdout().try_clone_to_owned().during("take the log")?;
    let filters = seccomp::filters(ids.is_single()).during("compile the system call filter")?;
    let start = Start { run, filters, output };
    let (exit, limit, left_behind) = command(&start, places.upper())?;
    // Nobody else is there from here on.
    if exit == Exited::Code(0) && limit.is_none() {
        collect(run, places, &root)?;
    }
    report(&Report::Ran(Ran { exit, limit, left_behind, joined: root.joined })).during("report")
}

/// Starts the command and waits for its end, and for that of all that it started.
fn command(start: &Start<'_>, upper: &OwnedFd) -> Result<(Exited, Option<Limit>, u32), Failure> {
    // Blocked, so that they wait in the descriptor. The command's process unblocks them.
    let signals = SigSet::from(NixSignal::SIGCHLD);
    signals.thread_block().during("block signals")?;
    let children = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
    let children = children.during("watch processes")?;
    let (theirs, ours) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).during("make a pipe")?;
    // SAFETY: this process has one thread, so the new one may do whatever it could.
    let command = match unsafe { nix::unistd::fork() }.during("start a process")? {
        ForkResult::Child => {
            drop(theirs);
            let failure = start.become_command();
            let _ = message::send(File::from(ours), &failure);
            std::process::exit(127)
        }
        ForkResult::Parent { child } => Pid::from_raw(child.as_raw()),
    };
    drop(ours);
    forget_output().during("leave the log to the command")?;
    let mut watch = Watch::new(&start.run.limits, upper);
    let mut limit = None;
    let exit = loop {
        let ended = reap(WaitOptions::NOHANG).during("wait for processes")?;
        if let Reaped::One(pid, status) = ended {
            if Some(pid) == command {
                break exited(status);
            }
            continue;
        }
        limit = limit.or_else(|| watch.check());
        if limit.is_some() {
            kill_all();
        }
        wait_for(&children, watch.pause()).during("wait for processes")?;
    };
    // Closed by the command's beginning, or by the end of what could not become it.
    if let Some(failure) = message::receive::<Failure>(File::from(theirs)).during("hear of the command")? {
        return Err(failure);
    }
    let mut left_behind = 0;
    // Once is enough: no process can fork while it is being killed. But who is there to say that.
    loop {
        kill_all();
        match reap(WaitOptions::empty()).during("end processes")? {
            Reaped::One(_, status) => left_behind += u32::from(status.terminating_signal() == Some(9)),
            Reaped::Nobody => break,
            Reaped::NotYet => {}
        }
    }
    // Or a shell's word for the end of what it ran.
    let of_file_size = [Exited::Signal(libc::SIGXFSZ), Exited::Code(128 + libc::SIGXFSZ)];
    if start.run.limits.file_size.is_some() && of_file_size.contains(&exit) {
        limit = limit.or(Some(Limit::FileSize));
    }
    Ok((exit, limit, left_behind))
}

/// Lets standard output lead nowhere in this process, so that the log ends with the command.
fn forget_output() -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::stdio::dup2_stdout(null)?)
}

enum Reaped {
    One(Pid, WaitStatus),
    NotYet,
    Nobody,
}

fn reap(options: WaitOptions) -> io::Result<Reaped> {
    loop {
        match rustix::process::wait(options) {
            Ok(Some((pid, status))) => return Ok(Reaped::One(pid, status)),
            Ok(None) => return Ok(Reaped::NotYet),
            Err(rustix::io::Errno::CHILD) => return Ok(Reaped::Nobody),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn exited(status: WaitStatus) -> Exited {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exited::Code(code),
        (None, Some(signal)) => Exited::Signal(signal),
        (None, None) => Exited::Signal(0),
    }
}

/// Kills every process of the sandbox but this one.
fn kill_all() {
    // Fails when there is none.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), NixSignal::SIGKILL);
}

/// Waits until a process has ended, or for so long.
fn wait_for(children: &SignalFd, pause: Duration) -> io::Result<()> {
    let mut fds = [PollFd::new(children, PollFlags::IN)];
    let timeout = Timespec {
        tv_sec: i64::try_from(pause.as_secs()).unwrap_or(i64::MAX),
        // Rounded up, since too early is for nothing.
        tv_nsec: (pause.subsec_nanos() + 1_000).min(999_999_999).into(),
    };
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    while children.read_signal()?.is_some() {}
    Ok(())
}

fn collect(run: &Run, places: Places, root: &Root) -> Result<(), Failure> {
    let before = places.before().during("read the layers")?;
    let upper = places.upper().try_clone().during("read the outputs")?;
    let mut hand_on = |output| report(&Report::Output(output));
    let limit = run.limits.disk.unwrap_or(u64::MAX);
    let Some(spool) = places.spool else { return Ok(()) };
    let mut collector = Collector::new(spool, limit, &mut hand_on);
    match &run.outputs {
        Wanted::Nothing => Ok(()),
        Wanted::Paths(paths) => collector.paths(&root.fd, paths),
        Wanted::Difference => {
            let after = match root.joined {
                Joined::Overlay => Changed::Upper(&upper),
                Joined::Copy => Changed::Copy(&upper),
            };
            difference::collect(&before, after, &mut collector)
        }
    }
}
