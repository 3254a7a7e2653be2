//! `[build-system]` of pyproject.toml.

use serde::Deserialize;

/// What a project says about how it is built. The default is that of a project which says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildSystem {
    /// Requirements of the build, as they are written (PEP 508). What is installed for it comes from a lock: these serve
    /// to say what is lacking there.
    pub requires: Vec<String>,
    /// The backend: `module`, or `module:object`.
    pub backend: String,
    /// Folders of the project from which the backend is imported; relative paths, none of which leads out of it.
    pub backend_path: Vec<String>,
}

impl Default for BuildSystem {
    /// PEP 517: "If the pyproject.toml file is absent, or the build-backend key is missing, the source tree is not using
    /// this specification, and tools should revert to the legacy behaviour of running setup.py".
    fn default() -> Self {
        Self {
            requires: vec!["setuptools".to_owned(), "wheel".to_owned()],
            backend: LEGACY.to_owned(),
            backend_path: Vec::new(),
        }
    }
}

/// The backend of projects that name none: setuptools, with the project's folder among the places to import from.
const LEGACY: &str = "setuptools.build_meta:__legacy__";

/// Why a `[build-system]` can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildSystemError {
    /// It is no TOML, or a value is of another type than PEP 518 says.
    #[error("pyproject.toml does not read")]
    Toml(#[source] Box<toml::de::Error>),
    /// The table is there without its one mandatory key.
    #[error("pyproject.toml has [build-system] without `requires`, which PEP 518 demands")]
    NoRequires,
    /// A backend that is no reference to an object.
    #[error("pyproject.toml has build-backend `{backend}`, which is not MODULE or MODULE:OBJECT")]
    Backend {
        /// As it is written, escaped.
        backend: String,
    },
    /// A folder for the backend that is not in the project.
    #[error("pyproject.toml has `{path}` in backend-path, which is no folder below the project's")]
    BackendPath {
        /// As it is written, escaped.
        path: String,
    },
    /// A folder for a backend that is not named.
    #[error("pyproject.toml has backend-path without build-backend")]
    PathAlone,
}

impl BuildSystem {
    /// Reads the table from the text of a pyproject.toml; one without the table is like none at all.
    ///
    /// # Errors
    /// [`BuildSystemError`].
    pub fn parse(text: &str) -> Result<Self, BuildSystemError> {
        let file: File = toml::from_str(text).map_err(|error| BuildSystemError::Toml(Box::new(error)))?;
        let Some(table) = file.build_system else { return Ok(Self::default()) };
        let requires = table.requires.ok_or(BuildSystemError::NoRequires)?;
        let backend_path = table.backend_path.unwrap_or_default();
        let Some(backend) = table.build_backend else {
            return match backend_path.is_empty() {
                true => Ok(Self { requires, ..Self::default() }),
                false => Err(BuildSystemError::PathAlone),
            };
        };
        if !is_reference(&backend) {
            return Err(BuildSystemError::Backend { backend: backend.escape_debug().to_string() });
        }
        if let Some(path) = backend_path.iter().find(|path| !is_within(path)) {
            return Err(BuildSystemError::BackendPath { path: path.escape_debug().to_string() });
        }
        Ok(Self { requires, backend, backend_path })
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "build-system")]
    build_system: Option<Table>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Table {
    requires: Option<Vec<String>>,
    build_backend: Option<String>,
    backend_path: Option<Vec<String>>,
}

/// `module.module:object.object`, each a Python identifier.
fn is_reference(text: &str) -> bool {
    let identifier = |part: &str| {
        !part.is_empty()
            && !part.starts_with(|c: char| c.is_ascii_digit())
            && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    let (module, object) = text.split_once(':').unwrap_or((text, "_"));
    module.split('.').all(identifier) && object.split('.').all(identifier)
}

/// A relative path that never leaves the folder it is relative to.
fn is_within(path: &str) -> bool {
    let steps = path.split('/').try_fold(0_u32, |depth, component| match component {
        "" | "." => Some(depth),
        ".." => depth.checked_sub(1),
        _ => Some(depth + 1),
    });
    !path.is_empty() && !path.starts_with('/') && !path.contains(char::is_control) && steps.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, requires: &[&str], backend: &str, backend_path: &[&str]) {
        let found = BuildSystem::parse(text).unwrap();
        assert_eq!(found.requires, requires);
        assert_eq!(found.backend, backend);
        assert_eq!(found.backend_path, backend_path);
    }

    fn refuse(text: &str, message: &str) {
        let found = BuildSystem::parse(text).unwrap_err().to_string();
        assert!(found.contains(message), "{found}");
    }

    #[test]
    fn what_projects_say() {
        check("", &["setuptools", "wheel"], LEGACY, &[]);
        check("[project]\nname = 'x'\n[tool.x]\ny = 1", &["setuptools", "wheel"], LEGACY, &[]);
        check("[build-system]\nrequires = ['a>=1', 'b']", &["a>=1", "b"], LEGACY, &[]);
        check(
            "[build-system]\nrequires = []\nbuild-backend = 'flit_core.buildapi'",
            &[],
            "flit_core.buildapi",
            &[],
        );
        check(
            "[build-system]\nrequires = []\nbuild-backend = 'own:a.b'\nbackend-path = ['.', 'tools/x/..']\nmore = 1",
            &[],
            "own:a.b",
            &[".", "tools/x/.."],
        );
    }

    #[test]
    fn what_is_refused() {
        refuse("[build-system", "does not read");
        refuse("build-system = 1", "does not read");
        refuse("[build-system]\nrequires = 'x'", "does not read");
        refuse("[build-system]\nbuild-backend = 'x'", "without `requires`");
        refuse("[build-system]\nrequires = []\nbackend-path = ['x']", "without build-backend");
        for backend in ["", "a:", ":a", "a b", "a;import os", "a..b", "1a", "a:b:c", "../a", "a\\nb"] {
            refuse(&format!("[build-system]\nrequires = []\nbuild-backend = \"{backend}\""), "is not MODULE");
        }
        for path in ["", "/x", "..", "a/../../b", "a\\nb"] {
            let text =
                format!("[build-system]\nrequires = []\nbuild-backend = 'x'\nbackend-path = [\"{path}\"]");
            refuse(&text, "no folder below the project's");
        }
    }

    #[test]
    fn nested_without_end() {
        refuse(&format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000)), "does not read");
        refuse(&format!("a = {}1{}", "{a=".repeat(100_000), "}".repeat(100_000)), "does not read");
    }
}
