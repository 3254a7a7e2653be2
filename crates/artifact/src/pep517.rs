//! Asking a build backend for a wheel, in words that a sandbox can carry: a program, its request, its answer.
//!
//! [`DRIVER`] is a small Python program. It runs in the environment that the build happens in, reads a [`Request`] from a
//! file, calls one hook of PEP 517 or PEP 660, and writes an [`Outcome`] into another file; what the backend prints goes
//! where its output goes. There is no call of `get_requires_for_build_wheel`: what is installed for a build comes from a
//! lock, and a backend that asks for more than that would not get it.
//!
//! [`environment`] has the variables without which the same source gives other bytes on another day.

use std::collections::BTreeMap;

use imgforge_layer::wheel::FileName;
use serde::{Deserialize, Serialize};

use crate::sdist::BuildSystem;

/// The program: Python 3.8 or later, the standard library only. Its one argument is the path of a [`Request`] as JSON.
pub const DRIVER: &str = include_str!("pep517/driver.py");

/// What the program is asked to do. All paths are the sandbox's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Request {
    /// Which hook is called.
    pub hook: Hook,
    /// The project's folder, which hooks run in.
    pub source: String,
    /// The folder for the wheel; it is made when it is not there.
    pub out: String,
    /// The file that the [`Outcome`] is written to.
    pub result: String,
    /// `module` or `module:object`.
    pub backend: String,
    /// Folders to import the backend from, relative to the project's.
    pub backend_path: Vec<String>,
    /// What the project requires for its build; only to say what is lacking when the build fails.
    pub requires: Vec<String>,
    /// Settings for the backend, by name. What they mean is the backend's affair.
    pub config_settings: BTreeMap<String, Setting>,
}

impl Request {
    /// A request to build the project in `source` as its build system says, without settings.
    pub fn new(hook: Hook, build_system: &BuildSystem, source: &str, out: &str, result: &str) -> Self {
        Self {
            hook,
            source: source.to_owned(),
            out: out.to_owned(),
            result: result.to_owned(),
            backend: build_system.backend.clone(),
            backend_path: build_system.backend_path.clone(),
            requires: build_system.requires.clone(),
            config_settings: BTreeMap::new(),
        }
    }
}

/// A backend's function that makes a wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// A wheel that has the project in it (PEP 517).
    BuildWheel,
    /// A wheel that leads to the project's folder (PEP 660).
    BuildEditable,
}

/// A setting's value: once, or several times.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// A single value.
    One(String),
    /// Several, in their order.
    Many(Vec<String>),
}

/// How a build went, by the program's own account.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The file name of the wheel in [`Request::out`].
    Wheel(String),
    /// There is none.
    Failure(Failure),
}

/// Why there is no wheel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{message}{}", what_is_lacking(*.kind, .lacking))]
pub struct Failure {
    /// At which step it failed.
    pub kind: FailureKind,
    /// What Python or the backend says.
    pub message: String,
    /// Those of [`Request::requires`] of which nothing is installed in the environment.
    pub lacking: Vec<String>,
}

/// At which step a build failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureKind {
    /// The backend can't be imported.
    Backend,
    /// The backend has no such hook.
    Hook,
    /// Something that the backend or the project imports is not there.
    Import,
    /// The backend failed.
    Build,
    /// The backend returned something that is no wheel.
    Result,
}

/// Why what stands in the result's file is no outcome.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutcomeError {
    /// Larger than any outcome.
    #[error("the build's result has {len} bytes; at most {limit} are read")]
    TooLarge {
        /// Bytes.
        len: usize,
        /// Bytes.
        limit: usize,
    },
    /// Something else has written there.
    #[error("the build's result does not read")]
    Json(#[source] serde_json::Error),
    /// A name that is not that of a wheel.
    #[error(
        "the build's result names the wheel `{name}`, which is not NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl"
    )]
    Name {
        /// The name, escaped.
        name: String,
    },
}

impl Outcome {
    /// Reads the result's file. A build may have written anything there.
    ///
    /// # Errors
    /// [`OutcomeError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, OutcomeError> {
        const LIMIT: usize = 4 << 20;
        if bytes.len() > LIMIT {
            return Err(OutcomeError::TooLarge { len: bytes.len(), limit: LIMIT });
        }
        let outcome: Self = serde_json::from_slice(bytes).map_err(OutcomeError::Json)?;
        match &outcome {
            // A name with a slash is a path, and one with a line break two lines of a log.
            Self::Wheel(name)
                if name.contains('/')
                    || name.contains(char::is_control)
                    || FileName::parse(name).is_none() =>
            {
                Err(OutcomeError::Name { name: name.escape_debug().to_string() })
            }
            _ => Ok(outcome),
        }
    }
}

/// Requirements that are lacking explain a module that is not found, and hardly ever a compiler that fails.
fn what_is_lacking(kind: FailureKind, lacking: &[String]) -> String {
    match kind {
        FailureKind::Backend | FailureKind::Import if !lacking.is_empty() => {
            format!("; the build requires {}, which the environment does not have", lacking.join(", "))
        }
        _ => String::new(),
    }
}

/// The first moment that a zip archive can express, 1980-01-01, in seconds since 1970.
pub const ZIP_EPOCH: u64 = 315_532_800;

/// The variables that make builds repeat themselves, and keep them from asking the network.
///
/// `epoch` is in seconds since 1970, and raised to [`ZIP_EPOCH`], before which a wheel can't have been made. `home` is
/// the build's own HOME. `cargo_home` is where [`crate::cargo::config`] lies as `config.toml`, if anywhere. PATH and what
/// a recipe adds are the caller's; a recipe's own values come later and win.
pub fn environment(epoch: u64, home: &str, cargo_home: Option<&str>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from(
        [
            ("CARGO_INCREMENTAL", "0"),
            ("CARGO_NET_OFFLINE", "true"),
            ("CARGO_TERM_COLOR", "never"),
            ("HOME", home),
            ("LC_ALL", "C.UTF-8"),
            ("NO_COLOR", "1"),
            ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
            ("PIP_NO_INDEX", "1"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("PYTHONHASHSEED", "0"),
            ("PYTHONNOUSERSITE", "1"),
            // Otherwise what Python prints and what a compiler prints reach the log in any order.
            ("PYTHONUNBUFFERED", "1"),
            ("TZ", "UTC"),
            ("UV_OFFLINE", "1"),
            ("ZERO_AR_DATE", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    variables.insert("SOURCE_DATE_EPOCH".to_owned(), epoch.max(ZIP_EPOCH).to_string());
    if let Some(folder) = cargo_home {
        variables.insert("CARGO_HOME".to_owned(), folder.to_owned());
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let found = match Outcome::parse(text.as_bytes()) {
            Ok(Outcome::Wheel(name)) => Ok(name),
            Ok(Outcome::Failure(failure)) => Err(failure.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match expected {
            Ok(name) => assert_eq!(found.as_deref(), Ok(name)),
            Err(message) => assert!(found.as_ref().is_err_and(|text| text.contains(message)), "{found:?}"),
        }
    }

    #[test]
    fn outcomes() {
        check(r#"{"wheel": "demo-1.0-py3-none-any.whl"}"#, Ok("demo-1.0-py3-none-any.whl"));
        check(r#"{"wheel": "../demo-1.0-py3-none-any.whl"}"#, Err("which is not NAME"));
        check(r#"{"wheel": "demo-1.0\n-py3-none-any.whl"}"#, Err(r"demo-1.0\n-py3"));
        check(r#"{"wheel": "demo.whl"}"#, Err("which is not NAME"));
        check(r#"{"wheel": 1}"#, Err("does not read"));
        check("", Err("does not read"));
        check(&"[".repeat(100_000), Err("does not read"));
        check(&" ".repeat(5 << 20), Err("at most"));
        check(
            r#"{"failure": {"kind": "backend", "message": "no module `x`", "lacking": ["x>=1", "y"]}}"#,
            Err("no module `x`; the build requires x>=1, y, which the environment does not have"),
        );
        check(
            r#"{"failure": {"kind": "build", "message": "gcc failed", "lacking": ["y"]}}"#,
            Err("gcc failed"),
        );
    }

    #[test]
    fn no_wheel_is_older_than_zip() {
        let epoch = |epoch| environment(epoch, "/build", None).remove("SOURCE_DATE_EPOCH").unwrap();
        assert_eq!(epoch(0), "315532800");
        assert_eq!(epoch(1_700_000_000), "1700000000");
    }

    #[test]
    fn cargo_has_a_home_only_where_one_is_given() {
        assert_eq!(environment(0, "/build", None).get("CARGO_HOME"), None);
        let home = environment(0, "/build", Some("/build/cargo")).remove("CARGO_HOME");
        assert_eq!(home.as_deref(), Some("/build/cargo"));
    }
}
