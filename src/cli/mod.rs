//! One file for each command, and what they share.

mod against;
mod args;
mod build;
mod completions;
mod diff;
mod format;
mod gc;
mod inspect;
mod lock;
mod outcome;
mod plan;
mod progress;
mod push;
#[cfg(test)]
mod reference;
mod report;
mod schema;
mod session;
mod test;
mod vendor;
mod verify;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};
use session::Failure;

/// Reads the arguments, runs the command, and says how it went: 0 done, 1 failed, 2 usage.
pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure);
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), Failure> {
    let global = args.global;
    match args.command {
        Command::Build(args) => build::run(&global, args),
        Command::Lock(args) => lock::run(&global, args),
        Command::Plan(args) => plan::run(&global, args),
        Command::Push(args) => push::run(&global, args),
        Command::Inspect(args) => inspect::run(&global, args),
        Command::Diff(args) => diff::run(&global, args),
        Command::Test(args) => test::run(&global, args),
        Command::Vendor(args) => vendor::run(&global, args),
        Command::Gc(args) => gc::run(&global, args),
        Command::Verify(args) => verify::run(&global, args),
        Command::Schema => schema::run(),
        Command::Completions(args) => completions::run(args),
    }
}

/// The error, what caused it, and what mends it. An error is told even with `--quiet`: it is not progress.
fn report(failure: &Failure) {
    let mut text = format!("error: {}\n", imgforge::story(failure));
    if let Some(hint) = failure.hint() {
        text.push_str(&format!("hint: {hint}\n"));
    }
    // Nobody is left to be told that stderr is closed.
    let _ = io::stderr().write_all(format::plain(&text).as_bytes());
}
