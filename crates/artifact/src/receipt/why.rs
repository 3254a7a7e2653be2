//! Why there is no artifact for a key: which input is another than in the nearest receipt.

use std::collections::BTreeMap;
use std::fmt;

use imgforge_oci::Digest;
use serde::Serialize;

use super::{ArtifactKey, Axis, Inputs, Receipt, Resolved};

/// Compares inputs with those of earlier receipts. Of several that are equally near, the last is taken.
///
/// Receipts are those of the same artifact, in any order; one with another name is another artifact's and is not looked at.
pub fn why(inputs: &Inputs, earlier: &[Receipt]) -> Why {
    let same_name = earlier.iter().filter(|receipt| receipt.inputs.name == inputs.name);
    let compared = same_name.map(|receipt| (receipt, differences(&receipt.inputs, inputs)));
    // `min_by_key` takes the first of several.
    let nearest = compared.rev().min_by_key(|(_, differences)| differences.len());
    match nearest {
        None => Why::First,
        Some((receipt, differences)) if differences.is_empty() => Why::Same { key: receipt.key },
        Some((receipt, differences)) => {
            Why::Differs { from: receipt.key, line: receipt.line.clone(), differences }
        }
    }
}

/// What earlier receipts say about inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "reason")]
pub enum Why {
    /// There is none of this artifact.
    First,
    /// The inputs are the same as those of one, whose result should be there.
    Same {
        /// The receipt's key.
        key: ArtifactKey,
    },
    /// They differ from all.
    Differs {
        /// The key of the nearest receipt.
        from: ArtifactKey,
        /// Its key for a person.
        line: String,
        /// What is another, at least one.
        differences: Vec<Difference>,
    },
}

/// An input that is another than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Difference {
    /// Which part of the inputs.
    pub part: Part,
    /// What it was, in words; nothing when it was not there.
    pub before: Option<String>,
    /// What it is, in words; nothing when it is not there.
    pub now: Option<String>,
}

/// A part of the inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "name")]
pub enum Part {
    /// This program's own.
    Format,
    /// What it is built for.
    Platform,
    /// A source, by name.
    Source(String),
    /// A part of the recipe, by name.
    Recipe(String),
    /// An axis, by name.
    Axis(String),
    /// A variable, by name.
    Variable(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str("the builder's format"),
            Self::Platform => f.write_str("the platform"),
            Self::Source(name) => write!(f, "the source {name}"),
            Self::Recipe(name) => write!(f, "the recipe's {name}"),
            Self::Axis(name) => write!(f, "the axis {name}"),
            Self::Variable(name) => write!(f, "the variable {name}"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, before, now } = self;
        match (before, now) {
            (Some(before), Some(now)) => write!(f, "{part} was {before} and is {now}"),
            (None, Some(now)) => write!(f, "{part} is new: {now}"),
            (Some(before), None) => write!(f, "{part} is gone; it was {before}"),
            (None, None) => write!(f, "{part}"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("it was never built"),
            Self::Same { .. } => {
                f.write_str("it was built from the same inputs, and its result is no longer there")
            }
            Self::Differs { line, differences, .. } => {
                write!(f, "unlike {line}: ")?;
                for (number, difference) in differences.iter().enumerate() {
                    write!(f, "{}{difference}", if number == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
        }
    }
}

fn differences(before: &Inputs, now: &Inputs) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |part: Part, before: Option<String>, now: Option<String>| {
        if before != now {
            found.push(Difference { part, before, now });
        }
    };
    compare(Part::Format, Some(before.format.to_string()), Some(now.format.to_string()));
    compare(Part::Platform, Some(before.platform.clone()), Some(now.platform.clone()));
    for (name, before, now) in both(&before.sources, &now.sources) {
        compare(Part::Source(name.clone()), before.map(short), now.map(short));
    }
    for (name, before, now) in both(&before.recipe, &now.recipe) {
        compare_texts(&mut compare, Part::Recipe(name.clone()), before, now);
    }
    for (name, before, now) in both(&by_name(&before.axes), &by_name(&now.axes)) {
        let (lost, new) = (without(before, now), without(now, before));
        if before.is_none() || now.is_none() || !lost.is_empty() || !new.is_empty() {
            let words = |axis: Option<&&Axis>, parts| axis.map(|axis| in_words(axis, parts));
            compare(Part::Axis((*name).to_owned()), words(before, lost), words(now, new));
        }
    }
    for (name, before, now) in both(&before.build_env, &now.build_env) {
        compare_texts(&mut compare, Part::Variable(name.clone()), before, now);
    }
    found
}

fn compare_texts(
    compare: &mut impl FnMut(Part, Option<String>, Option<String>),
    part: Part,
    before: Option<&String>,
    now: Option<&String>,
) {
    if before != now {
        compare(part, before.map(|text| quoted(text)), now.map(|text| quoted(text)));
    }
}

/// The names of both, each with what it is in one and in the other.
fn both<'a, K: Ord, V>(
    before: &'a BTreeMap<K, V>,
    now: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
    let mut names: Vec<_> = before.keys().chain(now.keys()).collect();
    names.sort();
    names.dedup();
    names.into_iter().map(|name| (name, before.get(name), now.get(name)))
}

fn by_name(axes: &[Axis]) -> BTreeMap<&str, &Axis> {
    axes.iter().map(|axis| (axis.name.as_str(), axis)).collect()
}

/// The parts of one axis whose digests the other does not have.
fn without<'a>(one: Option<&&'a Axis>, other: Option<&&Axis>) -> Vec<&'a Resolved> {
    let known: Vec<_> = other.iter().flat_map(|axis| &axis.parts).map(|part| part.digest).collect();
    let mut parts: Vec<_> =
        one.iter().flat_map(|axis| &axis.parts).filter(|part| !known.contains(&part.digest)).collect();
    parts.sort();
    parts
}

/// An axis by its label and those of its parts that matter, of many the first ones.
fn in_words(axis: &Axis, parts: Vec<&Resolved>) -> String {
    const SHOWN: usize = 6;
    let more = parts.len().saturating_sub(SHOWN);
    let mut words: Vec<_> =
        parts.into_iter().take(SHOWN).map(|part| format!("{} {}", part.title, short(&part.digest))).collect();
    if more > 0 {
        words.push(format!("{more} more"));
    }
    match words.is_empty() {
        true => axis.label.clone(),
        false => format!("{} ({})", axis.label, words.join(", ")),
    }
}

/// A digest by its first twelve digits, which tell any two apart that somebody will compare.
fn short(digest: &Digest) -> String {
    digest.to_string().chars().take("sha256:".len() + 12).collect()
}

/// A text in quotes; a long one by its beginning and its digest.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => {
            format!("{:?}… ({})", text.get(..end).unwrap_or_default(), short(&Digest::of(text.as_bytes())))
        }
        None => format!("{text:?}"),
    }
}
