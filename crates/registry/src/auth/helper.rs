use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Secret;

/// How long a helper may take. Some wait for a person; a build should not, for ever.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that a helper may answer with.
const MAX_ANSWER: u64 = 1 << 20;

/// A program that has credentials: `docker-credential-NAME`.
///
/// It is started with `get`, reads a server from its standard input and writes a JSON object. What it writes is shown
/// to nobody: it may be a password even where it should be an excuse. Source:
/// github.com/docker/docker-credential-helpers.
pub(super) struct Helper<'a> {
    pub(super) name: &'a str,
    pub(super) search_path: Option<&'a OsStr>,
    pub(super) patience: Duration,
}

/// What was wrong with a credential helper.
#[derive(Debug, thiserror::Error)]
pub enum HelperProblem {
    /// Its name has a slash or another character that a program's name would not have.
    #[error("is not the name of a program: letters, digits, `.`, `_` and `-`")]
    Name,
    /// It is not there.
    #[error("is not installed, or not in PATH; install it, or remove its name from this file")]
    Missing,
    /// It can't be run.
    #[error("cannot be run: {0}")]
    Run(#[source] io::Error),
    /// It took too long.
    #[error("did not answer within {} s; if it waits for a password, unlock it first", patience.as_secs())]
    Slow {
        /// How long it had.
        patience: Duration,
    },
    /// It said that it failed.
    #[error("failed ({status}); to see why, run `{command}`")]
    Failed {
        /// What asks it again.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// It said something else than credentials.
    #[error("answered with something else than a JSON object with `Username` and `Secret`")]
    Answer,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    secret: String,
}

impl Helper<'_> {
    /// The program's name.
    pub(super) fn program(&self) -> String {
        format!("docker-credential-{}", self.name)
    }

    /// What the helper has for a server, if anything.
    pub(super) fn get(&self, server: &str) -> Result<Option<Secret>, HelperProblem> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !self.name.bytes().all(is_name) {
            return Err(HelperProblem::Name);
        }
        let mut command = Command::new(self.program());
        command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(folders) = self.search_path {
            command.env("PATH", folders);
        }
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => HelperProblem::Missing,
            _ => HelperProblem::Run(error),
        })?;
        let result = self.talk(&mut child, server);
        if result.is_err() {
            // It may be gone already, and then needs no more.
            let _ = child.kill();
        }
        let _ = child.wait();
        let (output, status) = result?;
        if !status.success() {
            // Not an exit status of its own, but these words, in all of them.
            let is_unknown =
                String::from_utf8_lossy(&output).to_ascii_lowercase().contains("credentials not found");
            let command = format!("printf {server} | {} get", self.program());
            return if is_unknown { Ok(None) } else { Err(HelperProblem::Failed { command, status }) };
        }
        let answer: Answer = serde_json::from_slice(&output).map_err(|_| HelperProblem::Answer)?;
        let Answer { username: user, secret } = answer;
        Ok(match user.as_str() {
            _ if secret.is_empty() => None,
            "<token>" => Some(Secret::IdentityToken(secret)),
            _ => Some(Secret::Basic { user, password: secret }),
        })
    }

    /// Writes and reads, with an eye on the clock. What reads and writes are threads, which end with the pipes.
    fn talk(&self, child: &mut Child, server: &str) -> Result<(Vec<u8>, ExitStatus), HelperProblem> {
        let end = Instant::now() + self.patience;
        let slow = || HelperProblem::Slow { patience: self.patience };
        if let (Some(mut input), server) = (child.stdin.take(), server.to_owned()) {
            // One that does not read it knows what to say without.
            std::thread::spawn(move || _ = input.write_all(server.as_bytes()));
        }
        let (sender, receiver) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let result = output.take(MAX_ANSWER + 1).read_to_end(&mut bytes).map(|_| bytes);
                // Nobody listens any more when it was too slow.
                let _ = sender.send(result);
            });
        }
        let output = receiver.recv_timeout(self.patience).map_err(|_| slow())?.map_err(HelperProblem::Run)?;
        if output.len() as u64 > MAX_ANSWER {
            return Err(HelperProblem::Answer);
        }
        // It has closed its output; most are gone by now.
        let mut nap = Duration::from_millis(1);
        loop {
            if let Some(status) = child.try_wait().map_err(HelperProblem::Run)? {
                return Ok((output, status));
            }
            if Instant::now() >= end {
                return Err(slow());
            }
            std::thread::sleep(nap);
            nap = (nap * 2).min(Duration::from_millis(50));
        }
    }
}
