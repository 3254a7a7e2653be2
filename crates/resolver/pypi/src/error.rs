//! What can be wrong with a lock, in words that name the package and the way on.
//!
//! uv's own errors are made for a terminal: coloured, and chained over several sources. They enter here through
//! [`plain`], which leaves one line of text, so that nothing a lock says can write escape sequences to a terminal.

use std::fmt;
use std::path::PathBuf;

use imgforge_resolver_core::ErrorKind;

/// Why a lock yields no artifacts.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not the format that its name says.
    #[error("{} can't be read as {format}: {message}", file.display())]
    Parse {
        /// The lock.
        file: PathBuf,
        /// The format's name: `uv.lock`, `pylock.toml`, `requirements.txt`.
        format: &'static str,
        /// What the reader says, which names line and column where it knows them.
        message: String,
    },
    /// The lock was written in another version of its format.
    #[error("{} has format version {found}, and this imgforge reads version {supported}: {mend}", file.display())]
    FormatVersion {
        /// The lock.
        file: PathBuf,
        /// The version that the file names.
        found: String,
        /// The version that is read.
        supported: &'static str,
        /// What to do.
        mend: &'static str,
    },
    /// What the project depends on has changed since the lock was written.
    #[error(
        "{} is not up to date with the pyproject.toml beside it, whose dependencies have changed since: run `{mend}`",
        file.display()
    )]
    Stale {
        /// The lock.
        file: PathBuf,
        /// The command that writes it again.
        mend: &'static str,
    },
    /// The lock nests deeper than any tool writes.
    #[error(
        "{} nests more than {limit} parentheses, which no tool writes: lock again", file.display()
    )]
    Nesting {
        /// The lock.
        file: PathBuf,
        /// The depth that is accepted.
        limit: usize,
    },
    /// The target can't be expressed: `python` is no CPython version.
    #[error(
        "python = \"{python}\" is no CPython version: write MAJOR.MINOR or MAJOR.MINOR.PATCH, such as 3.11"
    )]
    Python {
        /// The target's version, as given.
        python: String,
    },
    /// The target has no wheel tags.
    #[error("no wheel tags are known for {target}: {message}")]
    Tags {
        /// The target in words.
        target: String,
        /// uv's reason.
        message: String,
    },
    /// The lock was made for other versions of Python.
    #[error(
        "{} is locked for Python {requires}, and the environment has {python}: \
         set `python` to a version that the lock allows (with its patch, if that is what differs), \
         or change `requires-python` and lock again", file.display()
    )]
    RequiresPython {
        /// The lock.
        file: PathBuf,
        /// The lock's specifier.
        requires: String,
        /// The target's full version.
        python: String,
    },
    /// The lock was made for other platforms.
    #[error(
        "{} is locked for environments that {target} is none of: {}; add this one to the lock's environments",
        file.display(), list(environments)
    )]
    Environments {
        /// The lock.
        file: PathBuf,
        /// The target in words.
        target: String,
        /// The lock's environments, as markers.
        environments: Vec<String>,
    },
    /// A workspace member that the lock does not have.
    #[error("{} has no workspace member `{name}`: it has {}", file.display(), list(members))]
    Member {
        /// The lock.
        file: PathBuf,
        /// The name that was asked for.
        name: String,
        /// The members there are.
        members: Vec<String>,
    },
    /// An extra that nothing in the selection has.
    #[error("{} has no extra `{name}`: it has {}", file.display(), list(extras))]
    Extra {
        /// The lock.
        file: PathBuf,
        /// The name that was asked for.
        name: String,
        /// The extras there are.
        extras: Vec<String>,
    },
    /// A dependency group that nothing in the selection has.
    #[error("{} has no dependency group `{name}`: it has {}", file.display(), list(groups))]
    Group {
        /// The lock.
        file: PathBuf,
        /// The name that was asked for.
        name: String,
        /// The groups there are.
        groups: Vec<String>,
    },
    /// What was asked for is declared as conflicting.
    #[error(
        "{} declares {} as conflicting, so one environment can't have them all: \
         make one environment for each", file.display(), list(items)
    )]
    Conflict {
        /// The lock.
        file: PathBuf,
        /// The extras and groups, as `package[extra]` and `package:group`.
        items: Vec<String>,
    },
    /// What was asked for can't be done with this kind of lock.
    #[error("{}: {message}", file.display())]
    Unsupported {
        /// The lock.
        file: PathBuf,
        /// What and which way leads on.
        message: String,
    },
    /// Packages of the selection can't be installed as they are locked.
    #[error("{}", unusable(file, packages))]
    Unusable {
        /// The lock.
        file: PathBuf,
        /// All of them, by name.
        packages: Vec<Unusable>,
    },
    /// The lock contradicts itself, or uv finds nothing that fits.
    #[error("nothing can be selected from {}: {message}", file.display())]
    Select {
        /// The lock.
        file: PathBuf,
        /// uv's reason.
        message: String,
    },
    /// A requirement that can't be meant.
    #[error("{}: `{requirement}`: {message}", file.display())]
    Requirement {
        /// Where the requirements come from.
        file: PathBuf,
        /// The requirement as it is written, without credentials.
        requirement: String,
        /// What is wrong with it.
        message: String,
    },
    /// A date that is none.
    #[error("exclude-newer = \"{text}\": {message}")]
    Date {
        /// As given.
        text: String,
        /// What is expected.
        message: String,
    },
    /// No set of packages fits.
    #[error("{}: no set of packages fits {target}: {explanation}", file.display())]
    Unsatisfiable {
        /// Where the requirements come from.
        file: PathBuf,
        /// What was resolved for, in words.
        target: String,
        /// uv's explanation: one sentence for each step, over several lines.
        explanation: String,
        /// What uv suggests, one sentence each.
        hints: Vec<String>,
    },
    /// A source distribution does not say what it depends on until it is built.
    #[error(
        "{}: {name}{} has only sources for {target}, and what they depend on is known when they are built, which is \
         not done while packages are chosen",
        file.display(), version.as_ref().map(|version| format!(" {version}")).unwrap_or_default()
    )]
    NeedsBuild {
        /// Where the requirements come from.
        file: PathBuf,
        /// The package.
        name: String,
        /// Its version, where that is known.
        version: Option<String>,
        /// What was resolved for, in words.
        target: String,
    },
    /// The index could not be asked.
    #[error("{}: the package index can't be used: {message}", file.display())]
    Index {
        /// The requirements.
        file: PathBuf,
        /// What failed.
        message: String,
    },
    /// The reader failed in a way that it never should.
    #[error("reading {} failed inside imgforge, which is a bug: {message}", file.display())]
    Internal {
        /// The lock.
        file: PathBuf,
        /// What is known.
        message: String,
    },
}

impl Error {
    /// What sort of trouble it is.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Python { .. } | Self::Tags { .. } | Self::Requirement { .. } | Self::Date { .. } => {
                ErrorKind::Input
            }
            Self::Parse { .. }
            | Self::FormatVersion { .. }
            | Self::Stale { .. }
            | Self::Nesting { .. }
            | Self::RequiresPython { .. }
            | Self::Environments { .. }
            | Self::Member { .. }
            | Self::Extra { .. }
            | Self::Group { .. }
            | Self::Conflict { .. }
            | Self::Unsupported { .. }
            | Self::Select { .. } => ErrorKind::Lock,
            Self::Unsatisfiable { .. } => ErrorKind::Unsatisfiable,
            Self::Unusable { .. } | Self::NeedsBuild { .. } => ErrorKind::Unusable,
            Self::Index { .. } => ErrorKind::Index,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// What mends it, where that is not part of the message.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unsatisfiable { hints, .. } if !hints.is_empty() => Some(hints.join("\n")),
            Self::NeedsBuild { name, .. } => Some(format!(
                "pass over versions without wheels (`no_build`), or build a wheel of {name} and name its folder in \
                 `find_links`"
            )),
            _ => None,
        }
    }
}

/// A package that is selected and can't be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The name, normalised.
    pub name: String,
    /// The version, where the lock has one.
    pub version: Option<String>,
    /// Why.
    pub reason: Reason,
}

/// Why a package can't be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There are only sources, and nothing is compiled while an image is put together.
    Source {
        /// Where they come from: `git https://…`, or a source archive's name.
        origin: String,
    },
    /// A folder beside the lock: a path dependency that is no workspace member.
    Directory {
        /// The folder.
        path: PathBuf,
    },
    /// There are wheels, for other targets.
    NoWheel {
        /// Their file names.
        wheels: Vec<String>,
        /// What is accepted, in words.
        target: String,
    },
    /// The wheel has no SHA-256.
    NoHash {
        /// The wheel's file name.
        file: String,
        /// The command that mends it.
        mend: &'static str,
    },
    /// The index offers another file than the lock's hashes allow.
    OtherHash {
        /// The wheel's file name.
        file: String,
        /// What the index says.
        index: String,
        /// What the lock allows.
        locked: Vec<String>,
        /// The command that locks again.
        mend: &'static str,
    },
    /// No index has the file that is locked.
    Missing {
        /// The wheel's file name.
        file: String,
        /// The indexes that were asked.
        asked: Vec<String>,
        /// Whether the network was not to be used, so that only answers of before count.
        offline: bool,
        /// The command that locks again.
        mend: &'static str,
    },
    /// Two active entries for one name.
    Twice,
    /// The location is no `http`, `https` or `file` URL, or the file's name is none.
    Location {
        /// What is there instead.
        message: String,
    },
}

/// The way on from a format of later.
pub(crate) const OTHER_TOOL: &str = "use a newer imgforge, or write the lock again with an older tool";

/// The way on from sources.
const BUILD: &str = "build a wheel of it (`uv build --wheel`, `pip wheel`) and lock that by its path or with \
                     `find-links`; a source distribution can be built by an [artifact] of images.toml";

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if let Some(version) = &self.version {
            write!(f, " {version}")?;
        }
        match &self.reason {
            Reason::Source { origin } => write!(f, " has only sources ({origin}): {BUILD}"),
            Reason::Directory { path } => write!(
                f,
                " is a folder ({}): build a wheel of it and lock that, or copy it with `files`",
                path.display()
            ),
            Reason::NoWheel { wheels, target } => write!(
                f,
                " has no wheel for {target}: the lock has {}; lock for this target too, or {BUILD}",
                list(wheels)
            ),
            Reason::NoHash { file, mend } => write!(f, " has no SHA-256 for {file}: {mend}"),
            Reason::OtherHash { file, index, locked, mend } => write!(
                f,
                ": the index has {file} with sha256:{index}, and the lock allows {}: the file changed there, \
                 or its hash was never locked; {mend}",
                list(locked)
            ),
            Reason::Missing { file, asked, offline: true, .. } => write!(
                f,
                ": where {file} is was never asked of {}, and the network was not to be used: \
                 run once without --offline",
                list(asked)
            ),
            Reason::Missing { file, asked, mend, .. } => write!(
                f,
                ": {file} is at none of {}: name an index that has it in `indexes`, or {mend}",
                list(asked)
            ),
            Reason::Twice => write!(
                f,
                " is named twice for this target: keep one, or give them markers that exclude each other"
            ),
            Reason::Location { message } => write!(f, " can't be fetched: {message}"),
        }
    }
}

fn unusable(file: &std::path::Path, packages: &[Unusable]) -> String {
    let file = file.display();
    match packages {
        [one] => format!("{file}: {one}"),
        many => {
            let lines: String = many.iter().map(|package| format!("\n  {package}")).collect();
            format!("{file}: {} packages can't be installed:{lines}", many.len())
        }
    }
}

/// Names as a sentence has them, and `none` where there are none. Long lists are cut: nobody reads the 40th tag.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 12;
    match names {
        [] => "none".to_owned(),
        names if names.len() > SHOWN => {
            let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
            format!("{shown} and {} more", names.len() - SHOWN)
        }
        names => names.join(", "),
    }
}

/// An error of uv's and all that caused it, without colour and control characters.
pub(crate) fn plain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        // A transparent error repeats its cause's text.
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    plain_text(&text)
}

/// Text whose URLs have no credentials.
pub(crate) fn without_credentials(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let end = after.find(|char: char| "/?#\"'".contains(char) || char.is_whitespace());
        let (authority, path) = after.split_at(end.unwrap_or(after.len()));
        let host = authority.rsplit('@').next().unwrap_or(authority);
        out.push_str(before);
        out.push_str("://");
        out.push_str(host);
        rest = path;
    }
    out.push_str(rest);
    out
}

/// Text without ANSI escape sequences and control characters; lines stay.
pub(crate) fn plain_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            // ESC [ parameters final: the only kind of sequence that colour needs.
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                while chars.next().is_some_and(|char| !('@'..='~').contains(&char)) {}
            }
            '\n' | '\t' => out.push(char),
            char if char.is_control() => {}
            char => out.push(char),
        }
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        assert_eq!(plain_text(text), expect);
    }

    #[test]
    fn colour_goes() {
        check("\u{1b}[36mtorch\u{1b}[39m==2.9", "torch==2.9");
        check("a\u{1b}[1;38;5;9mb", "ab");
    }

    #[test]
    fn what_moves_the_cursor_goes() {
        check("a\rb\u{7}\u{1b}]0;title\u{7}c", "ab]0;titlec");
        check("open\u{1b}[", "open");
    }

    #[test]
    fn credentials_go() {
        let check = |text: &str, expect: &str| assert_eq!(without_credentials(text), expect);
        check("a @ https://me:secret@example.org/a.whl ; b", "a @ https://example.org/a.whl ; b");
        check("x = \"git+ssh://git@example.org\", y = \"a@b\"", "x = \"git+ssh://example.org\", y = \"a@b\"");
        check("https://example.org/@scope https://t@h?x@y", "https://example.org/@scope https://h?x@y");
        check("me@example.org ://", "me@example.org ://");
    }

    #[test]
    fn lines_stay() {
        check("a\n\tb\n", "a\n\tb");
    }
}
