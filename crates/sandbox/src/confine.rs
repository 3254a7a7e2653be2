//! The last steps of a process on its way to the command: what it gives up.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigprocmask};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::message::{Bounds, During as _, Failure, FailureKind, Run};
use crate::seccomp::{self, Filters};

/// What installing packages takes, and nothing of what acts on the system: no mounts, no network, no tracing.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::NET_BIND_SERVICE);

/// Limits that are the same on every host, as far as the host has as much: (resource, soft, hard). A core of one byte is
/// none, also where the kernel hands cores to a program of the host, which it does whatever the size but this one.
const LIMITS: [(Resource, u64, u64); 7] = [
    (Resource::Core, 1, 1),
    (Resource::Stack, 8 << 20, u64::MAX),
    (Resource::Nofile, 1024, 1 << 20),
    (Resource::Memlock, 64 << 10, 64 << 10),
    (Resource::Msgqueue, 800 << 10, 800 << 10),
    (Resource::Rtprio, 0, 0),
    (Resource::Sigpending, 16 << 10, 16 << 10),
];

/// What the command's process needs, made beforehand.
pub(crate) struct Start<'a> {
    pub(crate) run: &'a Run,
    pub(crate) filters: Filters,
    /// Standard output and error; of an interactive command standard input too.
    pub(crate) output: OwnedFd,
}

impl Start<'_> {
    /// Becomes the command, in a process that was made for it. Only comes back with an error.
    pub(crate) fn become_command(&self) -> Failure {
        let confined = self.confine();
        match confined {
            Ok(()) => self.execute(),
            Err(failure) => failure,
        }
    }

    fn confine(&self) -> Result<(), Failure> {
        let run = self.run;
        match run.is_interactive {
            true => take_terminal(&self.output).during("take the terminal")?,
            false => _ = rustix::process::setsid().during("begin a session")?,
        }
        let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let null = null.during("open /dev/null")?;
        let input = if run.is_interactive { self.output.as_fd() } else { null.as_fd() };
        rustix::stdio::dup2_stdin(input).during("set standard input")?;
        rustix::stdio::dup2_stdout(&self.output).during("set standard output")?;
        rustix::stdio::dup2_stderr(&self.output).during("set standard error")?;
        default_signals().during("reset signals")?;
        limits(&run.limits).during("set limits")?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        close_others().during("close descriptors")?;
        become_user(run.uid, run.gid)?;
        rustix::thread::set_no_new_privs(true).during("forbid new privileges")?;
        rustix::process::chdir(format!("/{}", run.folder)).during(&format!("go to /{}", run.folder))?;
        seccomp::apply(&self.filters).allowed("filter system calls")
    }

    fn execute(&self) -> Failure {
        let c_string = |text: &String| CString::new(text.as_str());
        let arguments: Result<Vec<_>, _> = self.run.arguments.iter().map(c_string).collect();
        let environment: Result<Vec<_>, _> = self
            .run
            .environment
            .iter()
            .map(|(name, value)| CString::new(format!("{name}={value}")))
            .collect();
        let program = self.run.arguments.first().map_or("", String::as_str);
        let fail = |error: io::Error| Failure::new(FailureKind::Command, format!("run {program}"), &error);
        let (Ok(arguments), Ok(environment)) = (arguments, environment) else {
            return fail(io::Error::other("an argument or a variable has a NUL"));
        };
        let path = self.run.environment.get("PATH").map_or("", String::as_str);
        let candidates: Vec<String> = match program.contains('/') {
            true => vec![program.to_owned()],
            false => path.split(':').map(|folder| format!("{folder}/{program}")).collect(),
        };
        let mut last = io::Error::from_raw_os_error(libc::ENOENT);
        for candidate in candidates {
            let Ok(candidate) = CString::new(candidate) else { continue };
            let Err(error) = nix::unistd::execve(&candidate, &arguments, &environment);
            match error {
                // As a shell goes on to the next folder.
                nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR => {}
                error => last = error.into(),
            }
        }
        fail(last)
    }
}

/// Becomes the terminal's foreground, as what a shell starts does: what is typed to stop it is for this process group,
/// and not for imgforge and the sandbox's own processes.
fn take_terminal(terminal: &OwnedFd) -> io::Result<()> {
    // Whoever does this from the background is stopped, unless it blocks the signal.
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::from(Signal::SIGTTOU)), None)?;
    rustix::process::setpgid(None, None)?;
    Ok(rustix::termios::tcsetpgrp(terminal, rustix::process::getpgrp())?)
}

/// Signals as a program expects them: none blocked, none ignored. Rust ignores SIGPIPE; a user's shell may ignore more.
fn default_signals() -> io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: no handler is installed, so none can do what a handler may not.
        unsafe { nix::sys::signal::sigaction(signal, &default) }?;
    }
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}

fn limits(bounds: &Bounds) -> io::Result<()> {
    let mut limits = LIMITS.to_vec();
    let of = |bytes: Option<u64>| bytes.unwrap_or(u64::MAX);
    // What is measured is somewhat below what the kernel refuses: at the one it can be said which limit was passed, while
    // a program that is refused something says whatever it likes, or nothing. The other one is for who is quicker.
    let (processes, memory) = (bounds.processes, bounds.memory.map(|bytes| bytes.saturating_add(bytes / 4)));
    let processes = u64::from(processes) + u64::from(processes / 4) + 8;
    limits.push((Resource::Nproc, processes, processes));
    limits.push((Resource::Fsize, of(bounds.file_size), of(bounds.file_size)));
    limits.push((Resource::Data, of(memory), of(memory)));
    for (resource, soft, hard) in limits {
        // More than this process has takes a capability on the host.
        let maximum = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX).min(hard);
        let finite = |value| if value == u64::MAX { None } else { Some(value) };
        let limit = Rlimit { current: finite(soft.min(maximum)), maximum: finite(maximum) };
        rustix::process::setrlimit(resource, limit)?;
    }
    Ok(())
}

/// Has every descriptor but the three standard ones closed when the command begins. Until then one is needed, to tell why
/// it did not.
fn close_others() -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: the call takes numbers only, and closes nothing now.
    let result = unsafe {
        libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn become_user(uid: u32, gid: u32) -> Result<(), Failure> {
    for capability in (0..64).map(|number| CapabilitySet::from_bits_retain(1 << number)) {
        if CAPABILITIES.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // There is none of this number, and so none of a greater one.
            Err(rustix::io::Errno::INVAL) => break,
            result => result.during("bound capabilities")?,
        }
    }
    rustix::thread::clear_ambient_capability_set().during("clear capabilities")?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).during("become the user")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).during("become the user")?;
    let held = if uid.is_root() { CAPABILITIES } else { CapabilitySet::empty() };
    let sets = CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).during("drop capabilities")
}
