//! `extends` of `[base]` and `[env]`: one table on top of another of its kind.
//!
//! Done on the tables as they are written, before the matrix: what is taken over may name axes. Lists come after the other
//! table's, tables are joined, and single values replace the other's. `when` is a table's own. Images have an `extends` of
//! their own, which knows what their keys mean.

use toml::{Table, Value};

use super::check::{ConfigError, table, unknown};

/// The kinds of tables that this is for.
const KINDS: [&str; 2] = ["base", "env"];

/// Puts what tables extend into them.
///
/// # Errors
/// [`ConfigError::Unknown`] for a table that is not there, [`ConfigError::Table`] for one that extends itself.
pub(super) fn extend(file: &mut Table) -> Result<(), ConfigError> {
    for kind in KINDS {
        let Some(Value::Table(written)) = file.get(kind) else { continue };
        let mut whole = Table::new();
        for name in written.keys() {
            whole.insert(name.clone(), Value::Table(of(kind, name, written, &mut Vec::new())?));
        }
        file.insert(kind.to_owned(), Value::Table(whole));
    }
    Ok(())
}

/// A table with everything that it extends.
fn of(
    kind: &'static str,
    name: &str,
    tables: &Table,
    under_way: &mut Vec<String>,
) -> Result<Table, ConfigError> {
    let mut own = tables.get(name).and_then(Value::as_table).cloned().unwrap_or_default();
    let Some(other) = own.remove("extends") else { return Ok(own) };
    let at = format!("{kind}.{name}");
    let Some(other) = other.as_str().map(str::to_owned) else { return Ok(own) };
    if !tables.contains_key(&other) {
        return Err(unknown(&at, kind, &other, tables.keys()));
    }
    under_way.push(name.to_owned());
    if under_way.contains(&other) {
        return Err(table(&at, format!("extends: {} → {other} goes in a circle", under_way.join(" → "))));
    }
    let mut below = of(kind, &other, tables, under_way)?;
    under_way.pop();
    below.remove("when");
    for (key, value) in own {
        let joined = match (below.remove(&key), value) {
            (Some(Value::Array(mut before)), Value::Array(after)) => {
                before.extend(after);
                Value::Array(before)
            }
            (Some(Value::Table(mut before)), Value::Table(after)) => {
                before.extend(after);
                Value::Table(before)
            }
            (_, value) => value,
        };
        below.insert(key, joined);
    }
    Ok(below)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use super::*;

    fn extended(text: &str) -> Result<Value, String> {
        let mut file: Table = toml::from_str(text).unwrap();
        extend(&mut file).map_err(|error| error.to_string())?;
        Ok(file.get("env").unwrap().get("b").unwrap().clone())
    }

    /// What `[env.b]` comes to.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let expected: Table = toml::from_str(expected).unwrap();
        assert_eq!(extended(text), Ok(Value::Table(expected)));
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        assert_eq!(extended(text), Err(expected.to_owned()));
    }

    #[test]
    fn one_on_another() {
        check(
            "[env.a]\nlock = \"l\"\ngroups = [\"x\"]\nwhen = { c = \"1\" }\n[env.b]\nextends = \"a\"\ngroups = [\"y\"]\n",
            "lock = \"l\"\ngroups = [\"x\", \"y\"]",
        );
        check(
            "[env.a]\nlock = \"l\"\n[env.c]\nextends = \"a\"\nprefix = \"/p\"\n[env.b]\nextends = \"c\"\nlock = \"m\"\n",
            "lock = \"m\"\nprefix = \"/p\"",
        );
    }

    #[test]
    fn what_can_not_be_extended() {
        refused("[env.b]\nextends = \"c\"\n", "[env.b]: there is no [env.c]");
        refused(
            "[env.a]\nextends = \"b\"\n[env.b]\nextends = \"a\"\n",
            "[env.b]: extends: a → b → a goes in a circle",
        );
        refused("[env.b]\nextends = \"b\"\n", "[env.b]: extends: b → b goes in a circle");
    }
}
