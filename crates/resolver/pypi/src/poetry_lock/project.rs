//! The pyproject.toml beside a poetry.lock: which groups there are, what the project wants, and whether the lock is of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use toml::Value;
use uv_normalize::{GroupName, PackageName};
use uv_pep440::Version;

use super::requirement::{Requirement, requirements};
use crate::error::{Error, plain, plain_text};

/// The group of `[tool.poetry.dependencies]` and `[project]`.
pub(super) const MAIN: &str = "main";

/// The keys of `[tool.poetry]` that decide the lock; the first four stood alone before there were groups.
const POETRY_KEYS: [&str; 5] = ["dependencies", "source", "extras", "dev-dependencies", "group"];
const OLD_KEYS: usize = 4;

/// The keys of `[project]` that do.
const PROJECT_KEYS: [&str; 3] = ["requires-python", "dependencies", "optional-dependencies"];

/// A pyproject.toml.
pub(super) struct Project {
    file: PathBuf,
    table: toml::Table,
}

impl Project {
    /// `lock` is the path of the lock, beside which the text was found.
    pub(super) fn parse(text: &str, lock: &Path) -> Result<Self, Error> {
        let file = lock.with_file_name("pyproject.toml");
        match toml::from_str(text) {
            Ok(table) => Ok(Self { file, table }),
            Err(error) => Err(Error::Parse { file, format: "pyproject.toml", message: plain(&error) }),
        }
    }

    /// Whether a lock with this `content-hash` was made of this file, as Poetry decides it. `poetry` is the version that
    /// wrote the lock, where that is known.
    pub(super) fn is_locked_by(&self, content_hash: &str, poetry: Option<&Version>) -> bool {
        // Poetry left `[dependency-groups]` out before 2.3.
        let without_groups = poetry.is_some_and(|version| *version < Version::new([2, 3]));
        self.content_hash(true) == content_hash
            || (without_groups && self.content_hash(false) == content_hash)
    }

    fn content_hash(&self, with_groups: bool) -> String {
        let project = self.table.get("project").and_then(Value::as_table);
        let project: BTreeMap<&str, Json<'_>> =
            PROJECT_KEYS.into_iter().filter_map(|key| Some((key, Json::Toml(project?.get(key)?)))).collect();
        let groups = self.table.get("dependency-groups").filter(|_| with_groups);
        let groups = groups.filter(|groups| groups.as_table().is_none_or(|table| !table.is_empty()));
        // Before `[project]` was read, a missing key counted as null, and nothing stood around the keys.
        let is_old = project.is_empty() && groups.is_none();
        let poetry: BTreeMap<&str, Json<'_>> = POETRY_KEYS
            .into_iter()
            .enumerate()
            .filter_map(|(index, key)| match self.poetry(key) {
                Some(value) => Some((key, Json::Toml(value))),
                None => (is_old && index < OLD_KEYS).then_some((key, Json::Null)),
            })
            .collect();
        let relevant = if is_old {
            Json::Map(poetry)
        } else {
            let mut map = BTreeMap::from([("tool", Json::Map([("poetry", Json::Map(poetry))].into()))]);
            if !project.is_empty() {
                map.insert("project", Json::Map(project));
            }
            map.extend(groups.map(|groups| ("dependency-groups", Json::Toml(groups))));
            Json::Map(map)
        };
        let mut text = String::new();
        relevant.write(&mut text);
        Sha256::digest(text).iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// The dependency groups, each with whether it is optional, which is to say not installed unasked.
    pub(super) fn groups(&self) -> BTreeMap<GroupName, bool> {
        let name = |name: &str| name.parse::<GroupName>().ok();
        let table = |value: Option<&Value>| value.and_then(Value::as_table).cloned().unwrap_or_default();
        let standard = table(self.table.get("dependency-groups"));
        let own = table(self.poetry("group"));
        let mut groups: BTreeMap<GroupName, bool> = BTreeMap::new();
        groups.extend(name(MAIN).map(|name| (name, false)));
        groups.extend(self.poetry("dev-dependencies").and_then(|_| Some((name("dev")?, false))));
        groups.extend(standard.keys().filter_map(|key| Some((name(key)?, false))));
        for (key, value) in &own {
            let is_optional = value.get("optional").and_then(Value::as_bool).unwrap_or(false);
            groups.extend(name(key).map(|name| (name, is_optional)));
        }
        groups
    }

    /// What the groups want, as `[tool.poetry]` says it: all that was known of when locks did not say it themselves.
    pub(super) fn requirements(
        &self,
        groups: &BTreeSet<GroupName>,
    ) -> Result<Vec<(PackageName, Requirement)>, Error> {
        let mut tables = Vec::new();
        for group in groups {
            if group.as_ref() == MAIN {
                tables.extend(self.poetry("dependencies"));
            }
            if group.as_ref() == "dev" {
                tables.extend(self.poetry("dev-dependencies"));
            }
            let own = self.poetry("group").and_then(Value::as_table).into_iter().flatten();
            let of_name = own.filter(|(name, _)| name.parse().as_ref() == Ok(group));
            tables.extend(of_name.filter_map(|(_, group)| group.get("dependencies")));
        }
        let mut found = Vec::new();
        for (name, value) in tables.into_iter().filter_map(Value::as_table).flatten() {
            if name.eq_ignore_ascii_case("python") {
                continue;
            }
            let wrong = |why: String| Error::Parse {
                file: self.file.clone(),
                format: "pyproject.toml",
                message: plain_text(&format!("dependency {name}: {why}")),
            };
            let package: PackageName =
                name.parse().map_err(|_| wrong("that is no name of a package".to_owned()))?;
            let all = requirements(value).map_err(wrong)?;
            found.extend(all.into_iter().map(|requirement| (package.clone(), requirement)));
        }
        Ok(found)
    }

    fn poetry(&self, key: &str) -> Option<&Value> {
        self.table.get("tool")?.get("poetry")?.get(key)
    }
}

/// What is hashed.
enum Json<'a> {
    Null,
    Toml(&'a Value),
    Map(BTreeMap<&'a str, Json<'a>>),
}

impl Json<'_> {
    /// As Python's `json.dumps(…, sort_keys=True)` writes it.
    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Toml(value) => write_toml(value, out),
            Self::Map(map) => write_map(map, out, Json::write),
        }
    }
}

fn write_toml(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => write_string(text, out),
        Value::Table(table) => {
            let sorted = table.iter().map(|(key, value)| (key.as_str(), value)).collect();
            write_map(&sorted, out, |value, out| write_toml(value, out));
        }
        Value::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write_toml(value, out);
            }
            out.push(']');
        }
        // What is left are booleans and integers; Poetry knows no key for a float or a date.
        other => out.push_str(&other.to_string()),
    }
}

fn write_map<T>(map: &BTreeMap<&str, T>, out: &mut String, write: impl Fn(&T, &mut String)) {
    out.push('{');
    for (index, (key, value)) in map.iter().enumerate() {
        out.push_str(if index == 0 { "" } else { ", " });
        write_string(key, out);
        out.push_str(": ");
        write(value, out);
    }
    out.push('}');
}

/// In ASCII, as Python does by default.
fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(char),
            char => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROJECT: &str = r#"
[project]
requires-python = ">=3.10"
dependencies = ["a>=1 ; python_version < '4'", "b"]
[project.optional-dependencies]
"Ünï" = ["c[d] @ https://example.org/c.whl"]
"#;
    const GROUPS: &str = r#"
[dependency-groups]
z = [{ include-group = "y" }, "e"]
y = []
"#;
    const POETRY: &str = r#"
[tool.poetry]
packages = [{ include = "x" }]
[tool.poetry.dependencies]
a = [{ version = "1", optional = true }, { path = "..\\a\t\"b\"", develop = false }]
[tool.poetry.group.z]
optional = true
[[tool.poetry.source]]
name = "😀\u007f\u0001"
"#;

    /// The hashes are Poetry's: `Locker._get_content_hash`.
    #[track_caller]
    fn check(text: &str, with_groups: bool, expected: &str) {
        let project = Project::parse(text, Path::new("poetry.lock")).expect("a project");
        assert_eq!(project.content_hash(with_groups), expected);
    }

    #[test]
    fn what_poetry_hashes() {
        const WITHOUT_GROUPS: &str = "61054b3a733bc353f306342112d172c15d8d428b1e9c5092e878c8bf9854a925";
        let all = format!("{PROJECT}{GROUPS}{POETRY}");
        check(&all, true, "5c4de03ec96616497d32e2e633daf42e99f7e90b26fc47a196835f27417f9f07");
        check(&all, false, WITHOUT_GROUPS);
        check(&format!("{PROJECT}{POETRY}"), true, WITHOUT_GROUPS);
        check(&format!("{PROJECT}[dependency-groups]\n{POETRY}"), true, WITHOUT_GROUPS);
        check(POETRY, true, "87f75066a1d5fae5262ddc8b206b3747f71e874b9acdabedb7f52e31c3b7c24e");
        check("", true, "115cf985d932e9bf5f540555bbdd75decbb62cac81e399375fc19f6277f8c1d8");
    }

    #[test]
    fn groups_of_before_2_3() {
        let project = Project::parse(&format!("{PROJECT}{GROUPS}{POETRY}"), Path::new("poetry.lock"));
        let project = project.expect("a project");
        let old = project.content_hash(false);
        assert!(project.is_locked_by(&old, Some(&Version::new([2, 2, 1]))));
        assert!(!project.is_locked_by(&old, Some(&Version::new([2, 3]))));
        assert!(!project.is_locked_by(&old, None));
        assert!(project.is_locked_by(&project.content_hash(true), Some(&Version::new([2, 2, 1]))));
    }
}
