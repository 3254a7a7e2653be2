//! A dependency as pyproject.toml and the packages of a lock declare it: `"^1.2"`, a table, or a list of either.

use serde::Deserialize;
use uv_normalize::ExtraName;
use uv_pep508::MarkerTree;

use super::constraint::Constraint;
use super::lock::{Entry, Source};
use crate::error::plain;
use crate::target::Environment;

/// One declaration.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Spelling")]
pub(super) struct Requirement {
    constraint: Constraint,
    /// The extras of the package that are wanted with it.
    pub(super) extras: Vec<ExtraName>,
    /// Whether only an extra brings it.
    pub(super) is_optional: bool,
    markers: MarkerTree,
    python: Constraint,
    /// As the `platform` key has it: `linux`, `!=win32`, alternatives.
    platform: Option<String>,
    origin: Origin,
}

/// Which entries of a name may be meant.
#[derive(Clone, Debug)]
enum Origin {
    Any,
    /// Those of the index with this name, in lower case.
    Index(String),
    Url,
    Path,
    Git,
}

/// The declarations that stand behind a name.
pub(super) fn requirements(value: &toml::Value) -> Result<Vec<Requirement>, String> {
    let parse = |value: &toml::Value| {
        Requirement::deserialize(value.clone()).map_err(|error| plain(&error).trim().to_owned())
    };
    match value {
        toml::Value::Array(several) => several.iter().map(parse).collect(),
        one => Ok(vec![parse(one)?]),
    }
}

/// Markers as Poetry writes them, which has words for always and never.
pub(super) fn markers(text: &str) -> Result<MarkerTree, String> {
    match text.trim() {
        "" | "*" => Ok(MarkerTree::TRUE),
        "<empty>" => Ok(MarkerTree::FALSE),
        text => text.parse().map_err(|error: uv_pep508::Pep508Error| plain(&error)),
    }
}

impl Requirement {
    /// Whether the target needs it, with `extras` of what declares it.
    pub(super) fn is_active(&self, environment: &Environment, extras: &[ExtraName]) -> bool {
        self.markers.evaluate(environment.markers.markers(), extras)
            && self.python.allows_python(environment.python())
            && self.platform.as_deref().is_none_or(is_linux)
    }

    /// Whether an entry of this name will do.
    pub(super) fn allows(&self, entry: &Entry) -> bool {
        match (&self.origin, &entry.source) {
            (Origin::Any, _) => self.constraint.allows(&entry.version),
            (Origin::Index(name), Source::Index { reference, .. }) => {
                *name == reference.to_lowercase() && self.constraint.allows(&entry.version)
            }
            (Origin::Index(name), Source::Pypi) => name == "pypi" && self.constraint.allows(&entry.version),
            (Origin::Url, Source::Url(_))
            | (Origin::Path, Source::File(_) | Source::Directory(_))
            | (Origin::Git, Source::Git(_)) => true,
            _ => false,
        }
    }
}

/// Whether `sys_platform` is allowed to be `linux`.
fn is_linux(platform: &str) -> bool {
    let term = |term: &str| {
        let term = term.trim();
        match term.strip_prefix("!=") {
            Some(other) => other.trim() != "linux",
            None => matches!(term.trim_start_matches('=').trim(), "linux" | "*"),
        }
    };
    platform.replace("||", "|").split('|').any(|all| all.split(',').all(term))
}

/// A declaration as it is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum Spelling {
    Version(String),
    Table(Table),
}

#[derive(Default, Deserialize)]
struct Table {
    version: Option<String>,
    #[serde(default)]
    extras: Vec<String>,
    #[serde(default)]
    optional: bool,
    markers: Option<String>,
    python: Option<String>,
    platform: Option<String>,
    source: Option<String>,
    url: Option<String>,
    path: Option<String>,
    file: Option<String>,
    git: Option<String>,
}

impl TryFrom<Spelling> for Requirement {
    type Error = String;

    fn try_from(spelling: Spelling) -> Result<Self, String> {
        let table = match spelling {
            Spelling::Version(version) => Table { version: Some(version), ..Table::default() },
            Spelling::Table(table) => table,
        };
        let constraint = |text: Option<&str>| {
            text.map_or_else(|| Ok(Constraint::any()), |text| text.parse::<Constraint>())
        };
        let origin = if table.git.is_some() {
            Origin::Git
        } else if table.url.is_some() {
            Origin::Url
        } else if table.path.is_some() || table.file.is_some() {
            Origin::Path
        } else {
            table.source.map_or(Origin::Any, |name| Origin::Index(name.to_lowercase()))
        };
        let extra = |name: &String| name.parse().map_err(|_| format!("{name:?} is no name of an extra"));
        Ok(Self {
            constraint: constraint(table.version.as_deref())?,
            extras: table.extras.iter().map(extra).collect::<Result<_, String>>()?,
            is_optional: table.optional,
            markers: markers(table.markers.as_deref().unwrap_or_default())?,
            python: constraint(table.python.as_deref())?,
            platform: table.platform,
            origin,
        })
    }
}

#[cfg(test)]
mod tests {
    use imgforge_resolver_core::{Architecture, Libc, Target};

    use super::*;

    fn check(declaration: &str, expect: bool) {
        let target = Target {
            python: "3.11.2".to_owned(),
            architecture: Architecture::Amd64,
            libc: Libc::Glibc { major: 2, minor: 36 },
        };
        let environment = Environment::new(&target).expect("an environment");
        let table: toml::Table = toml::from_str(&format!("a = {declaration}")).expect(declaration);
        let found = requirements(&table["a"]).expect(declaration);
        let active = found.iter().any(|it| it.is_active(&environment, &["gpu".parse().expect("an extra")]));
        assert_eq!(active, expect, "{declaration}");
    }

    #[test]
    fn what_the_target_needs() {
        check("\"^1.0\"", true);
        check("{ version = \"*\", python = \"<3.11\" }", false);
        check("{ version = \"*\", python = \"3.11\" }", true);
        check("{ version = \"*\", markers = \"sys_platform == 'win32'\" }", false);
        check("{ version = \"*\", markers = \"extra == 'gpu'\" }", true);
        check("{ version = \"*\", markers = \"extra == 'cpu'\" }", false);
        check("{ version = \"*\", markers = \"<empty>\" }", false);
        check("{ version = \"*\", platform = \"linux\" }", true);
        check("{ version = \"*\", platform = \"darwin || linux\" }", true);
        check("{ version = \"*\", platform = \"!=linux\" }", false);
        check("{ version = \"*\", platform = \"!=win32,!=darwin\" }", true);
        check("[{ version = \"1\", python = \"<3\" }, \"2\"]", true);
    }

    #[track_caller]
    fn refused(declaration: &str, expect: &str) {
        let table: toml::Table = toml::from_str(&format!("a = {declaration}")).expect(declaration);
        let error = requirements(&table["a"]).expect_err("an error");
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn what_is_wrong_is_told() {
        refused("\"^one\"", "\"^one\"");
        refused("{ version = \"1\", markers = \"python >> 3\" }", "python >> 3");
        refused("{ version = \"1\", extras = [\"a b\"] }", "\"a b\" is no name of an extra");
        refused("3", "");
    }
}
