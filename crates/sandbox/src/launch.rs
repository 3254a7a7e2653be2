//! Starting the processes of a sandbox, and listening to them.

use std::ffi::OsStr;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use imgforge_store::Store;

use crate::Error;
use crate::message::{self, Job, Report};
use crate::supervisor::{self, NAME};

/// Whether this program can be executed anew as a supervisor.
static READY: AtomicBool = AtomicBool::new(false);

/// The program that is executed instead of this one.
static PROGRAM: RwLock<Option<PathBuf>> = RwLock::new(None);

/// Names the program that makes the sandboxes of a process in which [`init_if_asked`] can't be called first thing, such
/// as a Python interpreter: it has to call it.
pub fn launch_with(program: &Path) {
    *PROGRAM.write().unwrap_or_else(PoisonError::into_inner) = Some(program.to_owned());
}

/// Becomes a part of a sandbox if this process was started for that, and else returns at once.
///
/// To be called first thing in `main`, before there are threads: a sandbox is made by processes that are this very
/// program, executed anew under another name.
pub fn init_if_asked() {
    if std::env::args_os().next().is_some_and(|name| name == OsStr::new(NAME)) {
        std::process::exit(supervisor::supervise());
    }
    READY.store(true, Ordering::Release);
}

/// A supervisor at work. Dropped, it is gone before this returns, and the sandbox with it.
pub(crate) struct Supervisor {
    program: PathBuf,
    child: Child,
    control: UnixStream,
    is_waited_for: bool,
}

impl Supervisor {
    /// Starts one; `data` is its standard output: what a layer is read from, or where a log goes.
    pub(crate) fn start(
        program: Option<&Path>,
        store: &Store,
        job: &Job,
        data: OwnedFd,
    ) -> Result<Self, Error> {
        let other = PROGRAM.read().unwrap_or_else(PoisonError::into_inner).clone();
        let program = match program.or(other.as_deref()) {
            Some(program) => program,
            None if READY.load(Ordering::Acquire) => Path::new("/proc/self/exe"),
            None => return Err(Error::NotReady),
        };
        let fail = |source| Error::io(program, source);
        let (control, theirs) = UnixStream::pair().map_err(fail)?;
        let mut command = Command::new(program);
        command.arg0(NAME).env_clear().current_dir(store.root());
        command.stdin(OwnedFd::from(theirs)).stdout(data).stderr(Stdio::null());
        let child = command.spawn().map_err(fail)?;
        // The command holds what is to be the child's alone.
        drop(command);
        let supervisor = Self { program: program.to_owned(), child, control, is_waited_for: false };
        // Fails when it ended at once, of which its silence tells.
        let _ = message::send(&supervisor.control, job);
        Ok(supervisor)
    }

    /// The next thing that it says; none when it will say no more.
    pub(crate) fn next(&self) -> Result<Option<Report>, Error> {
        message::receive(&self.control).map_err(|source| Error::io(&self.program, source))
    }

    /// Where it speaks.
    pub(crate) fn control(&self) -> &UnixStream {
        &self.control
    }

    /// Ends it, and the sandbox with it, if it has not ended.
    pub(crate) fn stop(&self) {
        let _ = self.control.shutdown(Shutdown::Write);
    }

    /// Waits for its end, and says how it came, for one that said nothing.
    pub(crate) fn died(mut self) -> Error {
        self.is_waited_for = true;
        match self.child.wait() {
            Ok(status) => Error::Died { status: status.to_string() },
            Err(source) => Error::io(&self.program, source),
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if !self.is_waited_for {
            self.stop();
            let _ = self.child.wait();
        }
    }
}
