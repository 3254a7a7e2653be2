//! The text of images.lock: sorted tables, each package and each layer one line.

use std::collections::BTreeMap;

use serde::Serialize;

use super::BasePins;

pub(super) fn table(
    text: &mut String,
    name: &str,
    head: &[(&str, &str)],
    name_of_list: &str,
    lines: impl Iterator<Item = String>,
) {
    text.push_str(&head_of(name, head));
    list(text, name_of_list, lines);
}

pub(super) fn head_of(name: &str, head: &[(&str, &str)]) -> String {
    let keys = head.iter().map(|(key, value)| format!("{key} = {}\n", toml::Value::from(*value)));
    format!("\n[[{name}]]\n{}", keys.collect::<String>())
}

pub(super) fn list(text: &mut String, name: &str, lines: impl Iterator<Item = String>) {
    text.push_str(&format!("{name} = [\n"));
    for line in lines {
        text.push_str(&format!("    {line},\n"));
    }
    text.push_str("]\n");
}

pub(super) fn base_table(text: &mut String, name: &str, platform: &str, pins: &BasePins) {
    text.push_str("\n[[base]]\n");
    let digest = pins.digest.to_string();
    for (key, value) in [("name", name), ("platform", platform), ("image", &pins.image), ("digest", &digest)]
    {
        text.push_str(&format!("{key} = {}\n", toml::Value::from(value)));
    }
    text.push_str(&format!("manifest = {}\n", line(&pins.manifest)));
    let Some(facts) = &pins.facts else { return };
    text.push_str("\n[base.facts]\n");
    let facts = serde_json::to_value(facts).unwrap_or_default();
    let facts: BTreeMap<_, _> = facts.as_object().into_iter().flatten().collect();
    for (key, value) in facts {
        text.push_str(&format!("{key} = {}\n", inline(value)));
    }
}

/// A value as an inline table on one line.
pub(super) fn line<T: Serialize>(value: &T) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    inline(&value)
}

pub(super) fn inline(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            // What a reader looks for comes first.
            let first = |key: &str| !["title", "name", "version", "file"].contains(&key);
            let mut fields: Vec<_> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
            // By name then: a map's own order depends on how serde_json was compiled.
            fields.sort_by_key(|(key, _)| (first(key), key.as_str() == "version", key.as_str()));
            let fields: Vec<_> =
                fields.into_iter().map(|(key, value)| format!("{} = {}", bare(key), inline(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(values) => {
            format!("[{}]", values.iter().map(inline).collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => toml::Value::from(text.as_str()).to_string(),
        other => other.to_string(),
    }
}

/// A key, quoted where TOML wants that.
pub(super) fn bare(key: &str) -> String {
    let is_bare = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
    if !key.is_empty() && key.chars().all(is_bare) {
        key.to_owned()
    } else {
        toml::Value::from(key).to_string()
    }
}
