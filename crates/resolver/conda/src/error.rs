//! What can be wrong with a lock or a resolution, in words that name the package and the way on.
//!
//! rattler's own errors are chained over several sources, and quote what they read. They enter here through [`plain`], which
//! leaves text without control characters, so that nothing a lock says can write escape sequences to a terminal.

use std::fmt;
use std::path::{Path, PathBuf};

use imgforge_resolver_core::ErrorKind;

/// Why there is no environment.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not the format that its name says.
    #[error("{} can't be read as {format}: {message}", file.display())]
    Parse {
        /// The lock.
        file: PathBuf,
        /// The format's name: `pixi.lock`, `conda-lock.yml`, `environment.yml`.
        format: &'static str,
        /// What the reader says, which names the place where it knows it.
        message: String,
    },
    /// A line that can't be meant.
    #[error("{}, line {line}: {message}", file.display())]
    Line {
        /// The lock.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it, and what mends it.
        message: String,
    },
    /// The lock has another version of its format than those that are read.
    #[error(
        "{} has format version {found}, and this imgforge reads versions {supported}: {mend}", file.display()
    )]
    FormatVersion {
        /// The lock.
        file: PathBuf,
        /// The version that the file names.
        found: String,
        /// The versions that are read.
        supported: &'static str,
        /// What leads to one of them.
        mend: &'static str,
    },
    /// An environment that the lock does not have.
    #[error("{} has no environment `{name}`: it has {}", file.display(), list(environments))]
    Environment {
        /// The lock.
        file: PathBuf,
        /// The name that was asked for.
        name: String,
        /// The environments there are.
        environments: Vec<String>,
    },
    /// A platform that the lock does not have.
    #[error(
        "{} is not locked for {platform}{}: it is for {}; add the platform and lock again", file.display(),
        environment.as_ref().map(|name| format!(" in environment `{name}`")).unwrap_or_default(), list(platforms)
    )]
    Platform {
        /// The lock.
        file: PathBuf,
        /// The environment, where the format has several.
        environment: Option<String>,
        /// The platform that was asked for.
        platform: String,
        /// The platforms there are.
        platforms: Vec<String>,
    },
    /// Several platforms of the lock have the subdir that was asked for.
    #[error(
        "{} has several platforms for {subdir}: {}; choose one by its name", file.display(), list(platforms)
    )]
    SeveralPlatforms {
        /// The lock.
        file: PathBuf,
        /// The subdir that was asked for.
        subdir: String,
        /// The platforms' names.
        platforms: Vec<String>,
    },
    /// A category that the lock does not have.
    #[error("{} has no category `{name}`: it has {}", file.display(), list(categories))]
    Category {
        /// The lock.
        file: PathBuf,
        /// The name that was asked for.
        name: String,
        /// The categories there are.
        categories: Vec<String>,
    },
    /// Packages of the selection can't be installed as they are locked.
    #[error("{}", unusable(file, packages))]
    Unusable {
        /// The lock.
        file: PathBuf,
        /// All of them, by name.
        packages: Vec<Unusable>,
    },
    /// What was asked for can't be done with this lock.
    #[error("{}: {message}", file.display())]
    Unsupported {
        /// The lock.
        file: PathBuf,
        /// What, and which way leads on.
        message: String,
    },
    /// The target is none that packages are made for.
    #[error("`{subdir}` is no platform of conda's: write linux-64 or linux-aarch64")]
    Subdir {
        /// The target's subdir, as given.
        subdir: String,
    },
    /// A virtual package that is none.
    #[error("virtual package {name} = \"{version}\": {message}")]
    VirtualPackage {
        /// Its name, as given.
        name: String,
        /// Its version, as given.
        version: String,
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
    /// A channel that can't be asked.
    #[error("{}: channel `{channel}`: {message}", file.display())]
    Channel {
        /// The file that names it.
        file: PathBuf,
        /// The channel as it is written, without credentials.
        channel: String,
        /// What is wrong with it.
        message: String,
    },
    /// A requirement that can't be meant.
    #[error("{}: `{spec}`: {message}", file.display())]
    Spec {
        /// The file that names it.
        file: PathBuf,
        /// The requirement as it is written.
        spec: String,
        /// What is wrong with it.
        message: String,
    },
    /// The channels could not be asked.
    #[error("{}: the channels can't be used: {message}", file.display())]
    Repodata {
        /// The file that names them.
        file: PathBuf,
        /// What failed.
        message: String,
    },
    /// No set of packages fits.
    #[error(
        "{}: no set of packages fits on {subdir}: {explanation}\nvirtual packages: {}",
        file.display(), list(virtual_packages)
    )]
    Unsolvable {
        /// The file with the requirements.
        file: PathBuf,
        /// What was resolved for.
        subdir: String,
        /// resolvo's reasons, over several lines.
        explanation: String,
        /// What was said to be there, as `NAME=VERSION`.
        virtual_packages: Vec<String>,
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
            Self::Subdir { .. }
            | Self::VirtualPackage { .. }
            | Self::Date { .. }
            | Self::Channel { .. }
            | Self::Spec { .. } => ErrorKind::Input,
            Self::Parse { .. }
            | Self::Line { .. }
            | Self::FormatVersion { .. }
            | Self::Environment { .. }
            | Self::Platform { .. }
            | Self::SeveralPlatforms { .. }
            | Self::Category { .. }
            | Self::Unsupported { .. } => ErrorKind::Lock,
            Self::Unsolvable { .. } => ErrorKind::Unsatisfiable,
            Self::Unusable { .. } => ErrorKind::Unusable,
            Self::Repodata { .. } => ErrorKind::Index,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// What mends it, where that is not part of the message.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unsolvable { explanation, virtual_packages, .. } => {
                // What the system is said to have is the caller's word, so that may be all that is missing.
                let given =
                    |name: &str| virtual_packages.iter().any(|it| it.starts_with(&format!("{name}=")));
                let missing: Vec<&str> = ["__glibc", "__cuda"]
                    .into_iter()
                    .filter(|name| explanation.contains(name) && !given(name))
                    .collect();
                match missing.as_slice() {
                    [] => None,
                    names => Some(format!(
                        "say what the system has of {}, such as __glibc = \"2.36\" or __cuda = \"12.8\"",
                        names.join(" and ")
                    )),
                }
            }
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
    /// A conda package that is locked as sources, or a PyPI package with sources alone: nothing is compiled while an image is
    /// put together.
    Source {
        /// Where they come from.
        origin: String,
    },
    /// A folder: the project itself, or another path dependency.
    Folder {
        /// The folder as the lock has it.
        path: String,
    },
    /// There is no usable hash.
    NoHash {
        /// The file's name.
        file: String,
        /// What mends it.
        mend: &'static str,
    },
    /// It is made for another platform.
    Platform {
        /// What it is made for.
        found: String,
        /// What is asked for.
        subdir: String,
    },
    /// Two entries for one name.
    Twice,
    /// The location is none that can be fetched, or the file is none that can be there.
    Location {
        /// What is there instead.
        message: String,
    },
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if let Some(version) = &self.version {
            write!(f, " {version}")?;
        }
        match &self.reason {
            Reason::Source { origin } => write!(
                f,
                " has only sources ({origin}): build it, put the package into a channel or the wheel beside the lock, and \
                 lock that"
            ),
            Reason::Folder { path } => write!(
                f,
                " is a folder ({path}): leave folders out and copy their code with `files`, or build a wheel of it and lock \
                 that"
            ),
            Reason::NoHash { file, mend } => write!(f, " has no usable hash for {file}: {mend}"),
            Reason::Platform { found, subdir } => {
                write!(f, " is made for {found}, and the environment is for {subdir}: lock again")
            }
            Reason::Twice => write!(f, " is there twice: lock again"),
            Reason::Location { message } => write!(f, " can't be fetched: {message}"),
        }
    }
}

fn unusable(file: &Path, packages: &[Unusable]) -> String {
    let file = file.display();
    match packages {
        [one] => format!("{file}: {one}"),
        many => {
            let lines: String = many.iter().map(|package| format!("\n  {package}")).collect();
            format!("{file}: {} packages can't be installed:{lines}", many.len())
        }
    }
}

/// Names as a sentence has them, and `none` where there are none. Long lists are cut.
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

/// An error and all that caused it, without control characters.
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

/// Text without control characters; lines stay. rattler colours nothing, so no escape sequence is there to be understood.
pub(crate) fn plain_text(text: &str) -> String {
    let kept: String =
        text.chars().filter(|char| matches!(char, '\n' | '\t') || !char.is_control()).collect();
    kept.trim_end().to_owned()
}

/// The line, counted from 1, that a byte of a text is on.
pub(crate) fn line_of(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|byte| *byte == b'\n').count() + 1
}
