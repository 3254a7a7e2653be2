//! `[matrix]`: one file for a family of images.
//!
//! An axis is a name with values: `python = ["3.11", "3.12"]`. `{python}` in a value of a table of `[base]`, `[env]`,
//! `[artifact]` or `[image]` stands for the axis's value, and `when = { python = "3.12" }` says for which values the table
//! is there at all. Each table is repeated for the values of the axes that it uses, itself or through the tables that it
//! names, and not for others: what does not depend on an axis stays one table, with one pin and one name.
//!
//! A repeated table is called `NAME[axis=value,…]`. A list leaves out what is not there for its own values; a `base` that
//! is not there is an error, and an image whose `extends` is not there is not there either.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::check::{ConfigError, table};

/// Values by axis: one point of the matrix.
pub type Values = BTreeMap<String, String>;

/// A file with its matrix multiplied out.
pub(super) struct Expanded {
    /// The file without a matrix.
    pub(super) file: Table,
    /// For each table that was repeated, by `KIND.NAME[…]`: its own name and the values that it stands for.
    pub(super) origins: BTreeMap<String, (String, Values)>,
}

/// A key that names other tables: itself, their kind, and whether it is a list.
type Naming = (&'static str, &'static str, bool);

/// The kinds of tables that are repeated, with the keys that name other tables.
const KINDS: [(&str, &[Naming]); 4] = [
    ("base", &[]),
    ("env", &[("into", "env", false), ("artifacts", "artifact", true)]),
    ("artifact", &[("env", "env", false), ("requires", "env", false), ("builder", "base", false)]),
    (
        "image",
        &[
            ("base", "base", false),
            ("envs", "env", true),
            ("artifacts", "artifact", true),
            ("extends", "image", false),
        ],
    ),
];

/// Multiplies out the matrix of a file, if it has one.
///
/// # Errors
/// [`ConfigError::Table`] for a matrix that can't be meant, or an axis that is nowhere defined.
pub(super) fn expand(mut file: Table) -> Result<Expanded, ConfigError> {
    let Some(matrix) = file.remove("matrix") else {
        return Ok(Expanded { file, origins: BTreeMap::new() });
    };
    let matrix = Matrix::read(matrix.as_table().cloned().unwrap_or_default())?;
    let uses = Uses::of(&file, &matrix)?;
    let mut expanded = file.clone();
    let mut origins = BTreeMap::new();
    for (kind, references) in KINDS {
        let Some(tables) = file.get(kind).and_then(Value::as_table) else { continue };
        let mut repeated = Table::new();
        for (name, written) in tables {
            for values in matrix.points(uses.axes(kind, name)) {
                if !uses.is_there(kind, name, &values) {
                    continue;
                }
                let mut own = written.clone();
                if let Some(own) = own.as_table_mut() {
                    own.remove("when");
                }
                substitute(&mut own, &values);
                for (key, to, _) in references {
                    refer(&mut own, key, to, &uses, &values)?;
                }
                let key = key_of(name, &values);
                if !values.is_empty() {
                    origins.insert(format!("{kind}.{key}"), (name.clone(), values));
                }
                repeated.insert(key, own);
            }
        }
        expanded.insert(kind.to_owned(), Value::Table(repeated));
    }
    Ok(Expanded { file: expanded, origins })
}

fn no_axis<'a>(at: &str, key: &str, axis: &str, known: impl Iterator<Item = &'a String>) -> ConfigError {
    let known: Vec<_> = known.map(String::as_str).collect();
    table(at, format!("{key}: there is no axis `{axis}` in [matrix], which has {}", known.join(", ")))
}

/// `NAME[axis=value,…]`.
fn key_of(name: &str, values: &Values) -> String {
    if values.is_empty() {
        return name.to_owned();
    }
    let values: Vec<_> = values.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
    format!("{name}[{}]", values.join(","))
}

/// The axes, and which of their combinations there are.
struct Matrix {
    axes: BTreeMap<String, Vec<String>>,
    points: Vec<Values>,
}

impl Matrix {
    fn read(mut written: Table) -> Result<Self, ConfigError> {
        let exclude = points(written.remove("exclude"), "exclude")?;
        let include = points(written.remove("include"), "include")?;
        let mut axes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (axis, values) in written {
            let is_name =
                axis.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
            if !is_name || axis.is_empty() {
                return Err(table(
                    "matrix",
                    format!("`{axis}`: an axis has lower-case letters, digits, `-` and `_`"),
                ));
            }
            let list = values.as_array().into_iter().flatten();
            let list: Vec<String> = list.filter_map(|value| value.as_str().map(str::to_owned)).collect();
            let distinct: BTreeSet<_> = list.iter().collect();
            if list.is_empty()
                || Some(list.len()) != values.as_array().map(Vec::len)
                || distinct.len() != list.len()
            {
                return Err(table(
                    "matrix",
                    format!("{axis} is a list of different texts, such as [\"3.11\", \"3.12\"]"),
                ));
            }
            if let Some(value) =
                list.iter().find(|value| value.is_empty() || value.contains(['[', ']', ',', '=']))
            {
                return Err(table("matrix", format!("{axis} has `{value}`: a value has none of `[],=`")));
            }
            axes.insert(axis, list);
        }
        for (key, point) in exclude
            .iter()
            .map(|point| ("exclude", point))
            .chain(include.iter().map(|point| ("include", point)))
        {
            if let Some(axis) = point.keys().find(|axis| !axes.contains_key(*axis)) {
                return Err(no_axis("matrix", key, axis, axes.keys()));
            }
        }
        if let Some(point) = include.iter().find(|point| point.len() != axes.len()) {
            let missing = axes.keys().find(|axis| !point.contains_key(*axis)).cloned().unwrap_or_default();
            return Err(table(
                "matrix",
                format!("include: a combination has no `{missing}`; it needs a value for each axis"),
            ));
        }
        let mut points: Vec<Values> = vec![Values::new()];
        for (axis, values) in &axes {
            points = points
                .iter()
                .flat_map(|point| {
                    values.iter().map(|value| {
                        let mut point = point.clone();
                        point.insert(axis.clone(), value.clone());
                        point
                    })
                })
                .collect();
        }
        points.retain(|point| {
            !exclude.iter().any(|pattern| pattern.iter().all(|(axis, value)| point.get(axis) == Some(value)))
        });
        for point in include {
            if !points.contains(&point) {
                points.push(point);
            }
        }
        if points.is_empty() {
            return Err(table("matrix", "`exclude` leaves no combination"));
        }
        Ok(Self { axes, points })
    }

    /// The combinations, as far as these axes tell them apart; in their order.
    fn points(&self, axes: &BTreeSet<String>) -> Vec<Values> {
        let mut seen = BTreeSet::new();
        let project = |point: &Values| -> Values {
            point
                .iter()
                .filter(|(axis, _)| axes.contains(*axis))
                .map(|(axis, value)| (axis.clone(), value.clone()))
                .collect()
        };
        self.points.iter().map(project).filter(|point| seen.insert(point.clone())).collect()
    }
}

fn points(written: Option<Value>, key: &str) -> Result<Vec<Values>, ConfigError> {
    let wrong = || table("matrix", format!("{key} is a list of tables, such as [{{ python = \"3.12\" }}]"));
    let Some(written) = written else { return Ok(Vec::new()) };
    let point = |value: &Value| {
        let values = value.as_table()?.iter();
        values
            .map(|(axis, value)| Some((axis.clone(), value.as_str()?.to_owned())))
            .collect::<Option<Values>>()
    };
    written
        .as_array()
        .ok_or_else(wrong)?
        .iter()
        .map(|value| point(value).filter(|point| !point.is_empty()).ok_or_else(wrong))
        .collect()
}

/// Which axes each table depends on, and for which values it is there.
struct Uses {
    axes: BTreeMap<(&'static str, String), BTreeSet<String>>,
    when: BTreeMap<(&'static str, String), BTreeMap<String, Vec<String>>>,
    /// Tables that a table can't be without.
    needs: BTreeMap<(&'static str, String), Vec<(&'static str, String)>>,
}

impl Uses {
    fn of(file: &Table, matrix: &Matrix) -> Result<Self, ConfigError> {
        let mut uses = Self { axes: BTreeMap::new(), when: BTreeMap::new(), needs: BTreeMap::new() };
        let mut named: BTreeMap<(&'static str, String), Vec<(&'static str, String)>> = BTreeMap::new();
        for (kind, references) in KINDS {
            for (name, written) in file.get(kind).and_then(Value::as_table).into_iter().flatten() {
                let key = (kind, name.clone());
                let mut axes = BTreeSet::new();
                let mut own = written.clone();
                let when = own.as_table_mut().and_then(|own| own.remove("when"));
                let when = conditions(when, &format!("{kind}.{name}"), matrix)?;
                axes.extend(when.keys().cloned());
                mentioned(&own, matrix, &mut axes);
                for (field, to, is_list) in references {
                    let value = own.get(*field);
                    let texts = value.and_then(Value::as_str).into_iter().chain(
                        value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str),
                    );
                    for text in texts {
                        // With an axis in it, it is the name of a table for each of the axis's values.
                        let mut names: Vec<_> =
                            matrix.points.iter().map(|point| put_in(text, point)).collect();
                        names.sort();
                        names.dedup();
                        named
                            .entry(key.clone())
                            .or_default()
                            .extend(names.into_iter().map(|name| (*to, name)));
                        if !is_list && !["base", "builder"].contains(field) {
                            uses.needs.entry(key.clone()).or_default().push((to, text.to_owned()));
                        }
                    }
                }
                uses.axes.insert(key.clone(), axes);
                uses.when.insert(key, when);
            }
        }
        // What a named table depends on, the one that names it does too.
        loop {
            let mut grown = false;
            for (key, others) in &named {
                let more: BTreeSet<String> =
                    others.iter().filter_map(|other| uses.axes.get(other)).flatten().cloned().collect();
                if let Some(own) = uses.axes.get_mut(key) {
                    let before = own.len();
                    own.extend(more);
                    grown |= own.len() > before;
                }
            }
            if !grown {
                return Ok(uses);
            }
        }
    }

    fn axes(&self, kind: &'static str, name: &str) -> &BTreeSet<String> {
        const NONE: &BTreeSet<String> = &BTreeSet::new();
        self.axes.get(&(kind, name.to_owned())).unwrap_or(NONE)
    }

    /// Whether a table is there for these values. A name that is nowhere defined counts as there, to be refused later.
    fn is_there(&self, kind: &'static str, name: &str, values: &Values) -> bool {
        self.is_there_below(kind, name, values, 0)
    }

    fn is_there_below(&self, kind: &'static str, name: &str, values: &Values, depth: usize) -> bool {
        let key = (kind, name.to_owned());
        let own = self.when.get(&key).is_none_or(|when| {
            when.iter().all(|(axis, wanted)| values.get(axis).is_some_and(|value| wanted.contains(value)))
        });
        // Tables that need each other in a circle are refused elsewhere.
        let needs = self.needs.get(&key).into_iter().flatten();
        own && (depth > self.when.len()
            || needs.into_iter().all(|(kind, name)| self.is_there_below(kind, name, values, depth + 1)))
    }

    /// What a table is called for these values.
    fn name(&self, kind: &'static str, name: &str, values: &Values) -> String {
        let axes = self.axes(kind, name);
        key_of(
            name,
            &values
                .iter()
                .filter(|(axis, _)| axes.contains(*axis))
                .map(|(a, v)| (a.clone(), v.clone()))
                .collect(),
        )
    }
}

/// `when = { cuda = "13.0", python = ["3.11", "3.12"] }`.
fn conditions(
    written: Option<Value>,
    at: &str,
    matrix: &Matrix,
) -> Result<BTreeMap<String, Vec<String>>, ConfigError> {
    let mut conditions = BTreeMap::new();
    let Some(written) = written else { return Ok(conditions) };
    for (axis, value) in written.as_table().into_iter().flatten() {
        let Some(known) = matrix.axes.get(axis) else {
            return Err(no_axis(at, "when", axis, matrix.axes.keys()));
        };
        let wanted: Vec<String> = match value {
            Value::String(text) => vec![text.clone()],
            Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let is_value = |value: &&String| {
            known.contains(value) || matrix.points.iter().any(|point| point.get(axis) == Some(value))
        };
        match wanted.iter().find(|value| !is_value(value)) {
            Some(other) => {
                return Err(table(
                    at,
                    format!(
                        "when: {axis} = \"{other}\" is none of the matrix's values: {}",
                        known.join(", ")
                    ),
                ));
            }
            None if wanted.is_empty() => {
                return Err(table(at, format!("when: {axis} is a text or a list of texts")));
            }
            None => conditions.insert(axis.clone(), wanted),
        };
    }
    Ok(conditions)
}

/// Adds the axes that a value mentions.
fn mentioned(value: &Value, matrix: &Matrix, axes: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            axes.extend(matrix.axes.keys().filter(|axis| text.contains(&format!("{{{axis}}}"))).cloned());
        }
        Value::Array(list) => list.iter().for_each(|value| mentioned(value, matrix, axes)),
        Value::Table(inner) => inner.iter().for_each(|(key, value)| {
            mentioned(&Value::String(key.clone()), matrix, axes);
            mentioned(value, matrix, axes);
        }),
        _ => {}
    }
}

/// A text with values in the place of `{axis}`.
fn put_in(text: &str, values: &Values) -> String {
    values.iter().fold(text.to_owned(), |text, (axis, value)| text.replace(&format!("{{{axis}}}"), value))
}

/// Puts values in the place of `{axis}`.
fn substitute(value: &mut Value, values: &Values) {
    let replace = |text: &str| put_in(text, values);
    match value {
        Value::String(text) => *text = replace(text),
        Value::Array(list) => list.iter_mut().for_each(|value| substitute(value, values)),
        Value::Table(inner) => {
            let old = std::mem::take(inner);
            for (key, mut value) in old {
                substitute(&mut value, values);
                inner.insert(replace(&key), value);
            }
        }
        _ => {}
    }
}

/// Has a table name the tables that stand for its own values.
fn refer(
    own: &mut Value,
    key: &str,
    kind: &'static str,
    uses: &Uses,
    values: &Values,
) -> Result<(), ConfigError> {
    match own.get_mut(key) {
        Some(Value::String(name)) => *name = uses.name(kind, name, values),
        Some(Value::Array(names)) => {
            names.retain(|name| name.as_str().is_none_or(|name| uses.is_there(kind, name, values)));
            for name in names {
                if let Value::String(name) = name {
                    *name = uses.name(kind, name, values);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    const FAMILY: &str = r#"
version = 1
[matrix]
python = ["3.11", "3.12"]
cuda = ["12.8", "13.0"]
exclude = [{ python = "3.12", cuda = "12.8" }]
[base.b]
scratch = true
[base.cuda]
image = "docker://example.org/cuda:{cuda}"
[env.serve]
lock = "uv.lock"
prefix = "/v"
python = "{python}"
[env.new]
lock = "new.lock"
kind = "uv"
prefix = "/n"
python = "{python}"
when = { python = ["3.12"] }
[image.tools]
base = "b"
[image.runtime]
base = "b"
envs = ["serve", "new"]
tag = "py{python}"
[image.devel]
extends = "runtime"
base = "cuda"
tag = "cu{cuda}-py{python}"
env = { CUDA = "{cuda}", "OTHER_{cuda}" = "{other}" }
"#;

    /// The images of a family: `KEY tag base envs`.
    #[track_caller]
    fn check(change: &[(&str, &str)], expected: &[&str]) {
        let text = change.iter().fold(FAMILY.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        let found: Vec<String> = match Config::parse(&text) {
            Ok(config) => config
                .images
                .iter()
                .map(|(key, image)| {
                    let tag = image.tag.as_deref().unwrap_or("-");
                    format!("{key} {tag} {} {}", image.base, image.environments.join("+"))
                })
                .collect(),
            Err(error) => vec![error.to_string()],
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn each_table_for_what_it_uses() {
        check(
            &[],
            &[
                "devel[cuda=12.8,python=3.11] cu12.8-py3.11 cuda[cuda=12.8] serve[python=3.11]",
                "devel[cuda=13.0,python=3.11] cu13.0-py3.11 cuda[cuda=13.0] serve[python=3.11]",
                "devel[cuda=13.0,python=3.12] cu13.0-py3.12 cuda[cuda=13.0] serve[python=3.12]+new[python=3.12]",
                "runtime[python=3.11] py3.11 b serve[python=3.11]",
                "runtime[python=3.12] py3.12 b serve[python=3.12]+new[python=3.12]",
                "tools - b ",
            ],
        );
    }

    #[test]
    fn values_are_put_in() {
        let config = Config::parse(FAMILY).unwrap();
        let devel = &config.images["devel[cuda=12.8,python=3.11]"];
        assert_eq!((devel.name.as_str(), devel.values.len()), ("devel", 2));
        assert_eq!(devel.env["CUDA"], "12.8");
        // What is no axis stays as it is.
        assert_eq!(devel.env["OTHER_12.8"], "{other}");
        assert_eq!(config.environments["serve[python=3.12]"].python.as_deref(), Some("3.12"));
    }

    #[test]
    fn conditions_take_away() {
        check(
            &[
                ("[image.tools]\n", "[image.tools]\nwhen = { cuda = \"13.0\" }\ntag = \"{cuda}\"\n"),
                ("[image.runtime]\n", "[image.runtime]\nwhen = { python = \"3.12\" }\n"),
            ],
            &[
                "devel[cuda=13.0,python=3.12] cu13.0-py3.12 cuda[cuda=13.0] serve[python=3.12]+new[python=3.12]",
                "runtime[python=3.12] py3.12 b serve[python=3.12]+new[python=3.12]",
                "tools[cuda=13.0] 13.0 b ",
            ],
        );
    }

    #[test]
    fn more_combinations() {
        let include = "exclude = []\ninclude = [{ python = \"3.13\", cuda = \"13.0\" }]\n";
        let text = FAMILY.replace("exclude = [{ python = \"3.12\", cuda = \"12.8\" }]\n", include);
        let config = Config::parse(&text).unwrap();
        let devel = config.images.keys().filter(|key| key.starts_with("devel")).count();
        assert_eq!((devel, config.images.contains_key("runtime[python=3.13]")), (5, true));
    }

    #[test]
    fn refused() {
        check(
            &[("{ python = \"3.12\", cuda", "{ pyhton = \"3.12\", cuda")],
            &["[matrix]: exclude: there is no axis `pyhton` in [matrix], which has cuda, python"],
        );
        check(
            &[("[\"12.8\", \"13.0\"]", "[\"12.8\", \"12.8\"]")],
            &["[matrix]: cuda is a list of different texts, such as [\"3.11\", \"3.12\"]"],
        );
        check(
            &[("when = { python = [\"3.12\"]", "when = { python = [\"3.1\"]")],
            &["[env.new]: when: python = \"3.1\" is none of the matrix's values: 3.11, 3.12"],
        );
        check(
            &[("tag = \"py{python}\"", "tag = \"py\"")],
            &[
                "[image.runtime[python=3.12]]: another image is called runtime:py too: put `{python}` into its `tag`",
            ],
        );
        check(
            &[("[base.cuda]\n", "[base.cuda]\nwhen = { cuda = \"13.0\" }\n")],
            &["[image.devel[cuda=12.8,python=3.11]]: there is no [base.cuda[cuda=12.8]]"],
        );
    }
}
