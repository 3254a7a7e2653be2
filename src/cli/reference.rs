//! The reference page, made from the help texts.

use clap::CommandFactory as _;

use super::args::Args;

/// All commands' long help, as one page.
fn page() -> String {
    let mut page = "# Command line\n\nThis page is the programs' own help; a test keeps it so.\n".to_owned();
    let mut command = Args::command().term_width(100);
    command.build();
    let name = command.get_name().to_owned();
    section(&mut page, &name, &mut command);
    page
}

fn section(page: &mut String, name: &str, command: &mut clap::Command) {
    let help = command.render_long_help().to_string();
    let help: Vec<_> = help.lines().map(str::trim_end).collect();
    page.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
    for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
        let name = format!("{name} {}", sub.get_name());
        let mut sub = sub.clone().term_width(100);
        section(page, &name, &mut sub);
    }
}

/// `IMGFORGE_WRITE_REFERENCE=1 cargo test reference` writes the page.
#[test]
fn the_page_is_what_the_program_says() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    if std::env::var_os("IMGFORGE_WRITE_REFERENCE").is_some() {
        fs_err::write(&path, page()).unwrap();
    }
    let written = fs_err::read_to_string(&path).unwrap();
    assert!(
        written == page(),
        "docs/cli.md is out of date: run IMGFORGE_WRITE_REFERENCE=1 cargo test reference"
    );
}

#[test]
fn every_command_has_an_example() {
    for sub in Args::command().get_subcommands() {
        let help = sub.get_long_about().or(sub.get_about()).map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Example:"), "{}", sub.get_name());
        let first = sub.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(!first.ends_with('.'), "{}: {first}", sub.get_name());
    }
}
