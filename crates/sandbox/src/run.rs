//! From a command to what came of it, as imgforge sees it.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use imgforge_layer::{Content, Entry, Kind, Source, Tree, TreePath};
use imgforge_store::{Folder, HashingWriter};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::command::BUILD_USER;
use crate::launch::Supervisor;
use crate::message::{Failure, Job, Join, Output, OutputKind, Ran, Report, Run, Task};
use crate::sandbox::relative;
use crate::{Command, Error, Exit, Finished, Joined, Limit, Network, Outputs, Root, Sandbox, User};

/// Bytes of a line that are handed on at once.
const LINE: usize = 16 << 10;

/// The folder of a run: what its command wrote.
///
/// ```text
/// tmp/folder-…/
///   upper/    what differs from the layers; all of them when they are copied
///   work/     overlayfs's own
///   root/     empty; the root filesystem is mounted here, and only the sandbox sees it
///   outputs   contents of the files that were collected, one behind the other
/// ```
#[derive(Debug)]
pub struct Kept {
    sandbox: Sandbox,
    folder: Option<Folder>,
    joined: Joined,
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.take() {
            if discard(folder.path()).is_ok() {
                return;
            }
            // What can't be removed now is found by the next sandbox.
            let _ = self.sandbox.remove_folder(&folder);
        }
    }
}

/// Removes the folder of a run that wrote nothing, as most do that are only to say yes or no: name by name, which is
/// quicker than to look what is there.
fn discard(folder: &std::path::Path) -> io::Result<()> {
    let work = folder.join("work");
    // overlayfs closes these to everybody, its owner included, and leaves a file in the innermost one.
    let closed = ["work", "work/incompat", "work/incompat/volatile"].map(|name| work.join(name));
    for name in &closed {
        let _ = fs::set_permissions(name, fs::Permissions::from_mode(0o700));
    }
    let _ = fs::remove_file(work.join("work/incompat/volatile/dirty"));
    for name in closed.iter().rev() {
        let _ = fs::remove_dir(name);
    }
    let _ = fs::remove_dir(&work);
    fs::remove_dir(folder.join("upper"))?;
    fs::remove_dir(folder.join("root"))?;
    match fs::remove_file(folder.join("outputs")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::remove_dir(folder)
}

impl Sandbox {
    /// Runs a command, and collects its outputs when all its processes have ended.
    ///
    /// `on_line` gets what it prints, standard output and error in the order of their writing, line by line without
    /// the line's end; a line of more than 16 KiB in pieces.
    ///
    /// # Errors
    /// Whatever keeps the sandbox from being made, [`Error::Command`] for a program that can't be started, and
    /// [`Error::Output`]. A command that fails, or is stopped at a limit, is none.
    pub fn run(
        &self,
        root: &Root,
        command: &Command,
        on_line: &mut dyn FnMut(&[u8]),
    ) -> Result<Finished, Error> {
        let folder = self.store.folder()?;
        for name in ["upper", "work", "root"] {
            let path = folder.path().join(name);
            fs::create_dir(&path).map_err(|source| Error::io(path, source))?;
        }
        let kept = Kept { sandbox: self.clone(), folder: Some(folder), joined: Joined::Overlay };
        self.run_in(kept, root, command, Talk::Log(on_line))
    }

    /// Runs a command interactively, on this process's terminal, where another one has ended: with all that it wrote
    /// outside of `/tmp`. No output is collected.
    ///
    /// # Errors
    /// As for [`run`](Self::run), and [`Error::Io`] when there is no terminal.
    pub fn shell(&self, kept: Kept, root: &Root, command: &Command) -> Result<Finished, Error> {
        let folder = kept.folder.as_ref().map(Folder::path).unwrap_or(self.store.root());
        // overlayfs takes no work folder a second time, since nothing was written to the disk on purpose.
        self.remove_work(folder)?;
        let command = Command { outputs: Outputs::None, ..command.clone() };
        self.run_in(kept, root, &command, Talk::Terminal)
    }

    fn remove_work(&self, folder: &std::path::Path) -> Result<(), Error> {
        let work = folder.join("work");
        self.remove(&relative(&self.store, &work)?)?;
        fs::create_dir(&work).map_err(|source| Error::io(work, source))
    }

    fn run_in(
        &self,
        mut kept: Kept,
        root: &Root,
        command: &Command,
        talk: Talk<'_>,
    ) -> Result<Finished, Error> {
        let began = Instant::now();
        let folder = kept.folder.as_ref().map(Folder::path).unwrap_or(self.store.root()).to_owned();
        let outputs = folder.join("outputs");
        let spool = match &command.outputs {
            Outputs::None => None,
            _ => {
                let spool = File::options().read(true).write(true).create(true).truncate(true).open(&outputs);
                Some(spool.map_err(|source| Error::io(&outputs, source))?)
            }
        };
        let (uid, gid) = match command.user {
            User::Root => (0, 0),
            User::Build => (BUILD_USER, BUILD_USER),
        };
        let is_interactive = matches!(talk, Talk::Terminal);
        let run = Run {
            layers: self.layers(root, command)?,
            scratch: relative(&self.store, &folder)?,
            join: if self.copies { Join::Copy } else { Join::Any },
            is_copied: is_interactive && kept.joined == Joined::Copy,
            arguments: command.arguments.clone(),
            environment: command.whole_environment(),
            folder: clean(&command.folder)?,
            uid,
            gid,
            has_network: command.network == Network::Host,
            is_interactive,
            limits: command.limits.bounds(),
            outputs: command.outputs.wanted(clean_output)?,
        };
        let job = Job { ids: self.ids.clone(), task: Task::Run(Box::new(run)) };
        let mut log = match talk {
            Talk::Log(on_line) => Some(Log::new(self, command.limits.log, on_line)),
            Talk::Terminal => None,
        };
        let (read, write) = match &log {
            Some(_) => {
                let (read, write) = io::pipe().map_err(|source| Error::io("a pipe", source))?;
                (Some(read), OwnedFd::from(write))
            }
            None => {
                let terminal = File::options().read(true).write(true).open("/dev/tty");
                (None, terminal.map_err(|source| Error::io("/dev/tty", source))?.into())
            }
        };
        let supervisor = Supervisor::start(self.program.as_deref(), &self.store, &job, write)?;
        let mut heard = Heard::default();
        let listened = listen(&supervisor, self.stop.as_deref(), read, log.as_mut(), &mut heard);
        if is_interactive {
            take_terminal();
        }
        listened?;
        if let Some(failure) = heard.failure {
            return Err(Error::from_failure(failure, None));
        }
        let ran = match (heard.ran, heard.has_too_much_log) {
            (Some(ran), false) => ran,
            // The supervisor was stopped for it, and with it who would have told more.
            (_, true) => {
                let exit = crate::message::Exited::Signal(libc::SIGKILL);
                Ran { exit, limit: Some(Limit::Log), left_behind: 0, joined: kept.joined }
            }
            (None, false) => return Err(supervisor.died()),
        };
        drop(supervisor);
        kept.joined = ran.joined;
        let outputs = match spool {
            None => Tree::new(),
            Some(spool) => {
                let source = Source::from_file(spool, outputs.clone());
                tree(heard.outputs, &Arc::new(source.map_err(|source| Error::io(&outputs, source))?))?
            }
        };
        let log = log.map(Log::finish).transpose()?.flatten();
        Ok(Finished {
            exit: Exit::from(ran.exit),
            limit: ran.limit,
            duration: began.elapsed(),
            left_behind: ran.left_behind,
            log,
            outputs,
            joined: ran.joined,
            kept,
        })
    }

    /// The layers of a run. With the host's network, its names are needed too.
    fn layers(&self, root: &Root, command: &Command) -> Result<Vec<String>, Error> {
        let mut layers = root.visible();
        if command.network == Network::Host {
            let mut names = Tree::new();
            for path in ["etc/resolv.conf", "etc/hosts"] {
                let full = format!("/{path}");
                let text = fs::read(&full).map_err(|source| Error::io(full, source))?;
                names.insert(TreePath::new(path)?, Entry::bytes(text, false))?;
            }
            layers.push(self.tree_layer(&names)?.path);
        }
        Ok(layers)
    }
}

/// Where a command prints to.
enum Talk<'a> {
    Log(&'a mut dyn FnMut(&[u8])),
    Terminal,
}

/// What the processes of a sandbox said.
#[derive(Default)]
struct Heard {
    outputs: Vec<Output>,
    ran: Option<Ran>,
    failure: Option<Failure>,
    has_too_much_log: bool,
}

impl Heard {
    fn take(&mut self, report: Report) {
        match report {
            Report::Output(output) => self.outputs.push(output),
            Report::Ran(ran) => self.ran = Some(ran),
            // The first one is the reason of those that follow.
            Report::Failed(failure) => _ = self.failure.get_or_insert(failure),
            Report::Unpacked(_) | Report::Removed => {}
        }
    }
}

/// How often it is looked whether the command is still wanted.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Listens to the command and to the sandbox's processes until nobody is left to say anything.
fn listen(
    supervisor: &Supervisor,
    stop: Option<&AtomicBool>,
    mut output: Option<io::PipeReader>,
    mut log: Option<&mut Log<'_>>,
    heard: &mut Heard,
) -> Result<(), Error> {
    let mut is_over = false;
    while !is_over || output.is_some() {
        let mut fds = Vec::with_capacity(2);
        if !is_over {
            fds.push(PollFd::new(supervisor.control(), PollFlags::IN));
        }
        if let Some(output) = &output {
            fds.push(PollFd::new(output, PollFlags::IN));
        }
        if stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            supervisor.stop();
        }
        match poll(&mut fds, stop.map(|_| &TICK)) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result.map_err(|source| Error::io("poll", source.into()))?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let control_is_ready = !is_over && ready.first() == Some(&true);
        let output_is_ready = ready.get(usize::from(!is_over)) == Some(&true);
        if control_is_ready {
            match supervisor.next()? {
                Some(report) => heard.take(report),
                None => is_over = true,
            }
        }
        if let (true, Some(reader), Some(log)) = (output_is_ready, &mut output, &mut log) {
            let mut buffer = [0; 64 << 10];
            match reader.read(&mut buffer) {
                Ok(0) => output = None,
                Ok(count) => {
                    if !log.take(buffer.get(..count).unwrap_or_default())? && !heard.has_too_much_log {
                        heard.has_too_much_log = true;
                        supervisor.stop();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::io("the command's output", source)),
            }
        }
    }
    Ok(())
}

/// Lines of what a command prints, and all of it in a blob.
struct Log<'a> {
    sandbox: &'a Sandbox,
    on_line: &'a mut dyn FnMut(&[u8]),
    line: Vec<u8>,
    writer: Option<HashingWriter>,
    /// How much may still come.
    left: u64,
}

impl<'a> Log<'a> {
    fn new(sandbox: &'a Sandbox, limit: u64, on_line: &'a mut dyn FnMut(&[u8])) -> Self {
        Self { sandbox, on_line, line: Vec::new(), writer: None, left: limit }
    }

    /// Takes the next bytes; says whether that was not too much.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, Error> {
        let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.left -= taken as u64;
        let (bytes, rest) = bytes.split_at(taken);
        let store = &self.sandbox.store;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(store.hashing_writer()?),
        };
        writer.write_all(bytes).map_err(|source| Error::io(store.root().join("tmp"), source))?;
        for mut piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            while !piece.is_empty() {
                let (taken, left) = piece.split_at(piece.len().min(LINE - self.line.len()));
                self.line.extend_from_slice(taken);
                piece = left;
                if self.line.ends_with(b"\n") || self.line.len() >= LINE {
                    self.hand_on();
                }
            }
        }
        Ok(rest.is_empty())
    }

    fn hand_on(&mut self) {
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        (self.on_line)(line);
        self.line.clear();
    }

    fn finish(mut self) -> Result<Option<imgforge_oci::Digest>, Error> {
        if !self.line.is_empty() {
            self.hand_on();
        }
        Ok(self.writer.map(HashingWriter::commit).transpose()?)
    }
}

/// Has this process's group in the terminal's foreground again, where an interactive shell was. Fails where there is
/// no terminal any more.
fn take_terminal() {
    let Ok(terminal) = File::open("/dev/tty") else { return };
    let group = rustix::process::getpgrp();
    // Whoever is in the background and does this is stopped, unless the signal is blocked.
    let mut signals = nix::sys::signal::SigSet::empty();
    signals.add(nix::sys::signal::Signal::SIGTTOU);
    let Ok(before) = signals.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK) else { return };
    let _ = rustix::termios::tcsetpgrp(terminal.as_fd(), group);
    let _ = before.thread_set_mask();
}

/// An absolute path without its slash; the root is empty.
fn clean(path: &str) -> Result<String, Error> {
    let error = || Error::Path { path: path.to_owned() };
    let relative = path.strip_prefix('/').ok_or_else(error)?.trim_end_matches('/');
    match relative {
        "" => Ok(String::new()),
        relative => TreePath::new(relative).map(|path| path.as_str().to_owned()).map_err(|_| error()),
    }
}

/// A path as above, but not the root: that has the kernel's own files in it.
fn clean_output(path: &str) -> Result<String, Error> {
    clean(path).and_then(|clean| match clean.is_empty() {
        true => Err(Error::Path { path: path.to_owned() }),
        false => Ok(clean),
    })
}

/// What was collected, as what a layer can be made of.
fn tree(outputs: Vec<Output>, spool: &Arc<Source>) -> Result<Tree, Error> {
    let mut tree = Tree::new();
    for Output { path, kind, mode, uid, gid, xattrs } in outputs {
        let path = TreePath::new(&path)?;
        let kind = match kind {
            OutputKind::Removed => {
                tree.insert(path.whiteout()?, Entry::bytes([], false))?;
                continue;
            }
            OutputKind::Folder => Kind::Directory,
            OutputKind::Link(target) => Kind::Symlink(target),
            OutputKind::Same(first) => Kind::Hardlink(TreePath::new(&first)?),
            OutputKind::File { offset, len, sha256 } => {
                let content = Content::Range { source: Arc::clone(spool), offset, len, crc32: None };
                Kind::File(imgforge_layer::File { content, sha256: Some(sha256) })
            }
        };
        let mode = if matches!(kind, Kind::Symlink(_)) { 0o777 } else { mode };
        tree.insert(path, Entry { kind, mode, uid, gid, xattrs })?;
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Option<&str>) {
        assert_eq!(clean(path).ok().as_deref(), expected, "{path}");
    }

    #[test]
    fn paths_are_absolute_and_lead_nowhere_else() {
        check("/", Some(""));
        check("/build", Some("build"));
        check("/build/x/", Some("build/x"));
        for path in ["", "build", "/a/../b", "/./a", "/a//b", "/a\0", "//"] {
            check(path, if path == "//" { Some("") } else { None });
        }
        assert!(clean_output("/").is_err() && clean_output("/x").is_ok());
    }
}
