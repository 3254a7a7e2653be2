//! Which format a lock is in, told by its name as its tool spells it.

use std::fmt;

/// A lock format that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// `uv.lock`, or a script's `NAME.py.lock`.
    Uv,
    /// `pylock.toml` or `pylock.NAME.toml` (PEP 751).
    Pylock,
    /// `requirements.txt`, `requirements-NAME.txt` and the like, with hashes.
    Requirements,
}

/// A file name that no format which is read goes by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KindError {
    /// A lock of another tool, known and not read.
    #[error("{file} is a lock of {tool}, which is not supported yet: {instead}")]
    NotSupported {
        /// The file's name.
        file: String,
        /// The tool that writes it.
        tool: &'static str,
        /// What can be given instead.
        instead: &'static str,
    },
    /// No lock that is known.
    #[error(
        "{file} has no name of a lock: expected uv.lock, pylock.toml, pylock.NAME.toml or requirements.txt, \
         or a `kind` beside it"
    )]
    Unknown {
        /// The file's name.
        file: String,
    },
}

impl LockKind {
    /// The kind of a lock with this file name, without folders.
    ///
    /// # Errors
    ///
    /// [`KindError::NotSupported`] for a name that another tool's locks have, else [`KindError::Unknown`].
    pub fn from_file_name(name: &str) -> Result<Self, KindError> {
        match name {
            "uv.lock" => return Ok(Self::Uv),
            "pylock.toml" => return Ok(Self::Pylock),
            _ if name.len() > ".py.lock".len() && name.ends_with(".py.lock") => return Ok(Self::Uv),
            _ => {}
        }
        // PEP 751 allows one name between the two, without dots.
        let middle = name.strip_prefix("pylock.").and_then(|rest| rest.strip_suffix(".toml"));
        if middle.is_some_and(|middle| !middle.is_empty() && !middle.contains('.')) {
            return Ok(Self::Pylock);
        }
        if name.starts_with("requirements") && name.ends_with(".txt") {
            return Ok(Self::Requirements);
        }

        let conda = "export the environment's wheels as pylock.toml or requirements.txt with hashes";
        let not_supported = |tool, instead| KindError::NotSupported { file: name.to_owned(), tool, instead };
        Err(match name {
            "poetry.lock" => not_supported(
                "Poetry",
                "`poetry export --format requirements.txt` writes requirements.txt with hashes",
            ),
            "pdm.lock" => not_supported("PDM", "`pdm export --format pylock` writes pylock.toml"),
            "Pipfile.lock" => not_supported("Pipenv", "`pipenv requirements --hash` writes requirements.txt"),
            "pixi.lock" => not_supported("pixi", conda),
            "conda-lock.yml" | "conda-lock.yaml" => not_supported("conda-lock", conda),
            _ if name.ends_with(".conda-lock.yml") => not_supported("conda-lock", conda),
            "environment.yml" | "environment.yaml" => not_supported("conda", conda),
            _ => KindError::Unknown { file: name.to_owned() },
        })
    }

    /// The kind with this name, as a `kind` key has it.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Uv, Self::Pylock, Self::Requirements].into_iter().find(|kind| kind.to_string() == name)
    }
}

/// As a `kind` key has it: `uv`, `pylock`, `requirements`.
impl fmt::Display for LockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uv => "uv",
            Self::Pylock => "pylock",
            Self::Requirements => "requirements",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expect: LockKind) {
        assert_eq!(LockKind::from_file_name(name), Ok(expect), "{name}");
    }

    fn refused(name: &str, expect: &str) {
        let error = LockKind::from_file_name(name).expect_err("no kind that is read").to_string();
        assert!(error.contains(expect), "{name}: {error}");
    }

    #[test]
    fn names_that_are_read() {
        check("uv.lock", LockKind::Uv);
        check("tool.py.lock", LockKind::Uv);
        check("pylock.toml", LockKind::Pylock);
        check("pylock.serve.toml", LockKind::Pylock);
        check("requirements.txt", LockKind::Requirements);
        check("requirements-dev.txt", LockKind::Requirements);
    }

    #[test]
    fn names_of_other_tools() {
        refused("poetry.lock", "a lock of Poetry, which is not supported yet");
        refused("pixi.lock", "a lock of pixi");
        refused("conda-lock.yml", "a lock of conda-lock");
        refused("Pipfile.lock", "pipenv requirements --hash");
    }

    #[test]
    fn other_names() {
        for name in
            ["", "uv.toml", "pylock..toml", "pylock.a.b.toml", ".py.lock", "requirements.in", "Cargo.lock"]
        {
            refused(name, "no name of a lock");
        }
    }

    #[test]
    fn kinds_by_name() {
        for kind in [LockKind::Uv, LockKind::Pylock, LockKind::Requirements] {
            assert_eq!(LockKind::from_name(&kind.to_string()), Some(kind));
        }
        assert_eq!(LockKind::from_name("poetry"), None);
    }
}
