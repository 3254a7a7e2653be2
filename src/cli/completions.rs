use clap::CommandFactory as _;

use super::args::{Args, Completions};
use super::session::{Failure, print};

pub(crate) fn run(args: Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "imgforge", &mut script);
    print(&String::from_utf8_lossy(&script))
}
