//! What sort of trouble an error is.

use std::fmt;

/// What sort of trouble an error is, for callers that react to it rather than show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// What was asked for can't be meant: a requirement, a target, a channel, a date.
    Input,
    /// A lock can't be read, or does not have what was asked for.
    Lock,
    /// No set of packages fits all that was asked for.
    Unsatisfiable,
    /// An index or a channel could not be asked.
    Index,
    /// Packages were found that can't be installed as they are: without a wheel, without a hash.
    Unusable,
    /// A bug of ours.
    Internal,
}

impl ErrorKind {
    /// One word for it: `input`, `lock`, `unsatisfiable`, `index`, `unusable`, `internal`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Lock => "lock",
            Self::Unsatisfiable => "unsatisfiable",
            Self::Index => "index",
            Self::Unusable => "unusable",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
