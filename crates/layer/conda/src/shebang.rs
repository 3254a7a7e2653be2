//! The first line of a script, which the kernel reads: it must be short and without blanks in the program's path.
//!
//! As rattler does it (`install/prefix_replacement/text.rs` and `install/python.rs`). The line becomes long when the
//! environment's prefix is; a Python script then begins with a line that is valid in sh and in Python, any other names its
//! program and lets `env` find it.

/// What Linux reads of the line, without the line break.
const MAX_LEN: usize = 127;

/// The first line of a file with the image's prefix, its line break included.
pub(crate) fn replace(line: &[u8], placeholder: &str, prefix: &str) -> Vec<u8> {
    let (line, end) = match line.strip_suffix(b"\n") {
        Some(line) => (line, "\n"),
        None => (line, ""),
    };
    let line = String::from_utf8_lossy(line);
    let replaced = if prefix.contains(' ') {
        if line.contains(placeholder) {
            // Converted first: the pattern of a program's path ends at a blank.
            convert(&line).unwrap_or_else(|| line.clone().into_owned()).replace(placeholder, prefix)
        } else {
            line.into_owned()
        }
    } else {
        let replaced = line.replace(placeholder, prefix);
        if replaced.len() <= MAX_LEN { replaced } else { convert(&replaced).unwrap_or(replaced) }
    };
    (replaced + end).into_bytes()
}

/// The line that starts a script with the environment's Python.
pub(crate) fn python(interpreter: &str) -> String {
    if interpreter.len() > MAX_LEN - "#!".len() || interpreter.contains(' ') {
        format!("#!/bin/sh\n'''exec' \"{interpreter}\" \"$0\" \"$@\" #'''")
    } else {
        format!("#!{interpreter}")
    }
}

/// The line with a program that `sh` or `env` starts; nothing if the line names no absolute path.
fn convert(line: &str) -> Option<String> {
    let program = line.strip_prefix("#!")?.trim_start_matches(' ');
    if !program.starts_with('/') {
        return None;
    }
    // The path ends at white space that no backslash stands before.
    let mut end = program.len();
    let mut characters = program.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => {
                characters.next_if(|(_, next)| *next == ' ');
            }
            ' ' | '\n' | '\r' | '\t' => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    let (path, options) = program.split_at(end);
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    Some(if is_python(name) {
        format!("#!/bin/sh\n'''exec' \"{path}\"{options} \"$0\" \"$@\" #'''")
    } else {
        format!("#!/usr/bin/env {name}{options}")
    })
}

/// `python`, `python3`, `python3.11`.
fn is_python(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match name.strip_prefix("python") {
        Some("") => true,
        Some(version) => match version.split_once('.') {
            Some((major, minor)) => is_number(major) && is_number(minor),
            None => is_number(version),
        },
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, prefix: &str, expected: &str) {
        let replaced = replace(line.as_bytes(), "/PLACEHOLDER", prefix);
        assert_eq!(String::from_utf8(replaced).unwrap(), expected);
    }

    #[test]
    fn first_lines() {
        let long = format!("/{}", "long".repeat(40));
        check("#!/PLACEHOLDER/bin/python\n", "/opt", "#!/opt/bin/python\n");
        check("#!/PLACEHOLDER/bin/python", "/opt", "#!/opt/bin/python");
        check("#!/PLACEHOLDER/bin/perl -w\n", &long, "#!/usr/bin/env perl -w\n");
        check(
            "#!/PLACEHOLDER/bin/python3.11 -I\n",
            &long,
            &format!("#!/bin/sh\n'''exec' \"{long}/bin/python3.11\" -I \"$0\" \"$@\" #'''\n"),
        );
        check("#! /PLACEHOLDER/bin/pythonw\n", &long, "#!/usr/bin/env pythonw\n");
        check("#!/PLACEHOLDER/bin/python3.11.2\n", &long, "#!/usr/bin/env python3.11.2\n");
        check("#!/PLACEHOLDER/bin/perl\n", "/my opt", "#!/usr/bin/env perl\n");
        check(
            "#!/PLACEHOLDER/bin/python\n",
            "/my opt",
            "#!/bin/sh\n'''exec' \"/my opt/bin/python\" \"$0\" \"$@\" #'''\n",
        );
        check("#!/bin/sh\n", "/my opt", "#!/bin/sh\n");
        check("#!perl /PLACEHOLDER\n", "/my opt", "#!perl /my opt\n");
        check(r"#!/PLACEHOLDER/a\ b/c d", "/my opt", "#!/usr/bin/env c d");
    }

    #[test]
    fn the_longest_line_that_stays() {
        // `#!` and `/bin/sh` are 9 bytes.
        for (len, expected) in [(118, true), (119, false)] {
            let prefix = format!("/{}", "x".repeat(len - 1));
            let replaced = replace(b"#!/PLACEHOLDER/bin/sh\n", "/PLACEHOLDER", &prefix);
            assert_eq!(replaced.starts_with(b"#!/xx"), expected, "{len}");
        }
        assert!(python(&"x".repeat(125)).starts_with("#!xx"));
        assert!(python(&"x".repeat(126)).starts_with("#!/bin/sh"));
    }
}
