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
    /// `poetry.lock`, beside its pyproject.toml.
    Poetry,
    /// `pixi.lock`.
    Pixi,
    /// `conda-lock.yml`, or `NAME.conda-lock.yml` (CEP 37).
    CondaLock,
    /// A list of URLs after `@EXPLICIT`: `explicit.txt`, or `conda-PLATFORM.lock` as conda-lock names it.
    Explicit,
    /// `environment.yml`, which is no lock: it is resolved.
    EnvironmentYml,
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
        "{file} has no name of a lock: expected uv.lock, pylock.toml, pylock.NAME.toml, requirements.txt, poetry.lock, \
         pixi.lock, conda-lock.yml, explicit.txt, conda-PLATFORM.lock or environment.yml, or a `kind` beside it"
    )]
    Unknown {
        /// The file's name.
        file: String,
    },
}

impl LockKind {
    /// All of them, those of Python's own tools first.
    pub const ALL: [Self; 8] = [
        Self::Uv,
        Self::Pylock,
        Self::Requirements,
        Self::Poetry,
        Self::Pixi,
        Self::CondaLock,
        Self::Explicit,
        Self::EnvironmentYml,
    ];

    /// The kind of a lock with this file name, without folders.
    ///
    /// # Errors
    ///
    /// [`KindError::NotSupported`] for a name that another tool's locks have, else [`KindError::Unknown`].
    pub fn from_file_name(name: &str) -> Result<Self, KindError> {
        match name {
            "uv.lock" => return Ok(Self::Uv),
            "pylock.toml" => return Ok(Self::Pylock),
            "poetry.lock" => return Ok(Self::Poetry),
            "pixi.lock" => return Ok(Self::Pixi),
            "conda-lock.yml" | "conda-lock.yaml" => return Ok(Self::CondaLock),
            "explicit.txt" => return Ok(Self::Explicit),
            "environment.yml" | "environment.yaml" => return Ok(Self::EnvironmentYml),
            _ if name.len() > ".py.lock".len() && name.ends_with(".py.lock") => return Ok(Self::Uv),
            _ => {}
        }
        // What stands in the place of NAME, if anything does.
        let middle = |start: &str, end: &str| {
            name.strip_prefix(start)
                .and_then(|rest| rest.strip_suffix(end))
                .filter(|middle| !middle.is_empty())
        };
        // PEP 751 allows one name between the two, without dots.
        if middle("pylock.", ".toml").is_some_and(|middle| !middle.contains('.')) {
            return Ok(Self::Pylock);
        }
        if name.starts_with("requirements") && name.ends_with(".txt") {
            return Ok(Self::Requirements);
        }
        if middle("", ".conda-lock.yml").is_some() {
            return Ok(Self::CondaLock);
        }
        if middle("conda-", ".lock").is_some() {
            return Ok(Self::Explicit);
        }

        let not_supported = |tool, instead| KindError::NotSupported { file: name.to_owned(), tool, instead };
        Err(match name {
            "pdm.lock" => not_supported("PDM", "`pdm export --format pylock` writes pylock.toml"),
            "Pipfile.lock" => not_supported("Pipenv", "`pipenv requirements --hash` writes requirements.txt"),
            _ => KindError::Unknown { file: name.to_owned() },
        })
    }

    /// The kind with this name, as a `kind` key has it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.to_string() == name)
    }

    /// Whether it means conda packages (and maybe wheels beside them), rather than wheels alone.
    pub const fn is_conda(self) -> bool {
        match self {
            Self::Uv | Self::Pylock | Self::Requirements | Self::Poetry => false,
            Self::Pixi | Self::CondaLock | Self::Explicit | Self::EnvironmentYml => true,
        }
    }
}

/// As a `kind` key has it: `uv`, `pylock`, `requirements`, `poetry`, `pixi`, `conda-lock`, `explicit`, `environment-yml`.
impl fmt::Display for LockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uv => "uv",
            Self::Pylock => "pylock",
            Self::Requirements => "requirements",
            Self::Poetry => "poetry",
            Self::Pixi => "pixi",
            Self::CondaLock => "conda-lock",
            Self::Explicit => "explicit",
            Self::EnvironmentYml => "environment-yml",
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
        check("poetry.lock", LockKind::Poetry);
    }

    #[test]
    fn names_of_conda_s_tools() {
        check("pixi.lock", LockKind::Pixi);
        check("conda-lock.yml", LockKind::CondaLock);
        check("gpu.conda-lock.yml", LockKind::CondaLock);
        check("explicit.txt", LockKind::Explicit);
        check("conda-linux-64.lock", LockKind::Explicit);
        check("conda-linux-aarch64.lock", LockKind::Explicit);
        check("environment.yml", LockKind::EnvironmentYml);
        check("environment.yaml", LockKind::EnvironmentYml);
        for kind in LockKind::ALL {
            let of_python =
                [LockKind::Uv, LockKind::Pylock, LockKind::Requirements, LockKind::Poetry].contains(&kind);
            assert_eq!(kind.is_conda(), !of_python, "{kind}");
        }
    }

    #[test]
    fn names_of_other_tools() {
        refused("pdm.lock", "a lock of PDM, which is not supported yet");
        refused("Pipfile.lock", "pipenv requirements --hash");
    }

    #[test]
    fn other_names() {
        for name in [
            "",
            "uv.toml",
            "pylock..toml",
            "pylock.a.b.toml",
            ".py.lock",
            "requirements.in",
            "Cargo.lock",
            ".conda-lock.yml",
            "conda-.lock",
            "pixi.toml",
        ] {
            refused(name, "no name of a lock");
        }
    }

    #[test]
    fn kinds_by_name() {
        for kind in LockKind::ALL {
            assert_eq!(LockKind::from_name(&kind.to_string()), Some(kind));
        }
        assert_eq!(LockKind::from_name("pdm"), None);
    }
}
