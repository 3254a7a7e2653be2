//! The `imgforge` program: arguments in, a report out.
//!
//! All work is the library's. What stands here and nowhere else: the clock, the environment, HOME, the terminal.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // A sandbox is made by processes that are this program.
    imgforge_sandbox::init_if_asked();
    cli::main()
}
