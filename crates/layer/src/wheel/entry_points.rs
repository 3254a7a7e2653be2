//! `entry_points.txt` and the launchers that installers make of it (PyPA, "Entry points specification").

use std::collections::BTreeMap;

use configparser::ini::{Ini, IniDefault};

/// Why an `entry_points.txt` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum EntryPointError {
    /// It is no INI file.
    #[error("entry_points.txt is no INI file: {problem}")]
    Syntax {
        /// The parser's words.
        problem: String,
    },
    /// A value that names no object.
    #[error("entry_points.txt: `{name} = {value}` is not of the form `module:object`")]
    Reference {
        /// The script.
        name: String,
        /// As it is written.
        value: String,
    },
}

/// A console or GUI script; the two differ on Windows alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Script {
    pub(super) name: String,
    module: String,
    function: String,
}

impl Script {
    /// The launcher: what uv and pip write, to the byte.
    pub(super) fn launcher(&self, executable: &str) -> String {
        let Self { module, function, .. } = self;
        let import = function.split('.').next().unwrap_or_default();
        [
            shebang(executable).as_str(),
            "# -*- coding: utf-8 -*-",
            "import sys",
            &format!("from {module} import {import}"),
            "if __name__ == \"__main__\":",
            "    if sys.argv[0].endswith(\"-script.pyw\"):",
            "        sys.argv[0] = sys.argv[0][:-11]",
            "    elif sys.argv[0].endswith(\".exe\"):",
            "        sys.argv[0] = sys.argv[0][:-4]",
            &format!("    sys.exit({function}())"),
            "",
        ]
        .join("\n")
    }

    /// Whether the launcher stands in place of a file of `.data/scripts`, such as an old wrapper for Windows.
    pub(super) fn replaces(&self, path: &str) -> bool {
        let name = path.strip_prefix("bin/").unwrap_or(path);
        let stem =
            [".exe", "-script.py", ".pya"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        stem == self.name
    }
}

/// The scripts of both sections, by name.
pub(super) fn parse(text: &str) -> Result<Vec<Script>, EntryPointError> {
    let mut options = IniDefault::default();
    options.case_sensitive = true;
    options.delimiters = vec!['='];
    let sections = Ini::new_from_defaults(options)
        .read(text.to_owned())
        .map_err(|problem| EntryPointError::Syntax { problem })?;
    // One name in both sections: the second section's, which uv writes last.
    let mut scripts = BTreeMap::new();
    for (name, value) in
        ["console_scripts", "gui_scripts"].iter().filter_map(|section| sections.get(*section)).flatten()
    {
        let value = value.as_deref().unwrap_or_default();
        let (module, function) = reference(value)
            .ok_or_else(|| EntryPointError::Reference { name: name.clone(), value: value.to_owned() })?;
        scripts.insert(name.clone(), Script { name: name.clone(), module, function });
    }
    Ok(scripts.into_values().collect())
}

/// pip's wheel may name launchers of the Python that built it: installers replace them by this Python's.
pub(super) fn with_versioned_pip(mut scripts: Vec<Script>, minor: u8) -> Vec<Script> {
    scripts.retain(|script| script.name.strip_prefix("pip3.").is_none_or(|rest| rest.parse::<u8>().is_err()));
    if let Some(pip) = scripts.iter().find(|script| script.name == "pip3").cloned() {
        scripts.push(Script { name: format!("pip3.{minor}"), ..pip });
    }
    scripts
}

/// The first line of a script: the interpreter itself, or, where the kernel could not run that, a detour through
/// `/bin/sh` (a path with a space, or a line of more than 127 bytes).
pub(super) fn shebang(executable: &str) -> String {
    if executable.len() + 3 <= 127 && !executable.contains(' ') {
        return format!("#!{executable}");
    }
    let quoted = executable.replace('\'', r"'\''");
    format!("#!/bin/sh\n'''exec' '{quoted}' \"$0\" \"$@\"\n' '''")
}

/// Splits `module:object [extras]`; the extras are accepted and ignored, as the specification says.
fn reference(value: &str) -> Option<(String, String)> {
    let (module, rest) = value.split_once(':')?;
    let function = match rest.split_once('[') {
        Some((function, extras)) => {
            let inside = extras.trim_end().strip_suffix(']')?;
            (!inside.trim().is_empty() && !inside.contains(['[', ']'])).then_some(function)?
        }
        None => rest,
    };
    // These go into Python source: nothing but names and dots.
    let name = |text: &str| {
        let text = text.trim();
        let good = !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_.-".contains(c));
        good.then(|| text.to_owned())
    };
    Some((name(module)?, name(function)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: Option<(&str, &str)>) {
        let found = reference(value);
        assert_eq!(found.as_ref().map(|(a, b)| (a.as_str(), b.as_str())), expected, "{value}");
    }

    #[test]
    fn references() {
        check("foomod:main", Some(("foomod", "main")));
        check("a.b : C.run [x, y]", Some(("a.b", "C.run")));
        check("a:b[cli]", Some(("a", "b")));
        for bad in [
            "",
            "a",
            ":b",
            "a:",
            "a:b [c",
            "a:b [ ]",
            "a:b c",
            "a;import os:b",
            "a:b()",
            "a:b\"",
            "a:b [x] y",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn scripts_of_both_sections() {
        let text = "[console_scripts]\nTool = a:b\n[gui_scripts]\nwin = c:d.e\n[other]\nx = nothing\n";
        let names: Vec<_> = parse(text).unwrap().into_iter().map(|script| script.name).collect();
        assert_eq!(names, ["Tool", "win"]);
    }

    #[test]
    fn pip_gets_this_version() {
        let text = "[console_scripts]\npip3 = pip:main\npip3.9 = pip:main\npip = pip:main";
        let names: Vec<_> =
            with_versioned_pip(parse(text).unwrap(), 11).into_iter().map(|script| script.name).collect();
        assert_eq!(names, ["pip", "pip3", "pip3.11"]);
    }

    #[test]
    fn long_interpreters_go_through_sh() {
        assert_eq!(shebang("/opt/venv/bin/python"), "#!/opt/venv/bin/python");
        assert!(
            shebang("/opt/my env/bin/python").starts_with("#!/bin/sh\n'''exec' '/opt/my env/bin/python'")
        );
        assert!(shebang(&format!("/{}", "x".repeat(124))).starts_with("#!/bin/sh"));
        assert!(shebang(&format!("/{}", "x".repeat(123))).starts_with("#!/xxx"));
    }
}
