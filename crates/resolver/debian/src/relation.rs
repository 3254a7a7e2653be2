//! Relations between packages: `Depends`, `Conflicts`, `Provides` and their kin.
//!
//! A field is a list of groups divided by commas; a group is a list of alternatives divided by `|`; an alternative is
//! `name[:architecture] [(operator version)]`. Borrowed from the index and parsed only for packages that a closure
//! reaches. Source: Debian policy 7.1, `deb-control(5)`.

use std::fmt;

use crate::version::{compare_versions, is_version};

/// One alternative: a package name, real or virtual, with what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relation<'a> {
    pub(crate) name: &'a str,
    /// `any`, `native` or an architecture's name.
    pub(crate) qualifier: Option<&'a str>,
    pub(crate) version: Option<(Operator, &'a str)>,
}

/// How a relation's version compares with a package's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Earlier,
    EarlierOrEqual,
    Equal,
    LaterOrEqual,
    Later,
}

impl Operator {
    /// Whether `version` is what `version operator wanted` asks for.
    pub(crate) fn accepts(self, version: &str, wanted: &str) -> bool {
        let order = compare_versions(version, wanted);
        match self {
            Self::Earlier => order.is_lt(),
            Self::EarlierOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::LaterOrEqual => order.is_ge(),
            Self::Later => order.is_gt(),
        }
    }
}

impl<'a> Relation<'a> {
    /// Reads one alternative.
    pub(crate) fn parse(text: &'a str) -> Result<Self, String> {
        let text = text.trim();
        let (target, version) = match text.split_once('(') {
            None => (text, None),
            Some((target, constraint)) => {
                let constraint = constraint.strip_suffix(')').ok_or_else(|| wrong(text, "`)` is missing"))?;
                (target.trim_end(), Some(parse_constraint(text, constraint.trim())?))
            }
        };
        let (name, qualifier) = match target.split_once(':') {
            Some((name, qualifier)) => (name, Some(qualifier)),
            None => (target, None),
        };
        if !is_package_name(name) {
            return Err(wrong(text, "that is no package name"));
        }
        if qualifier.is_some_and(|qualifier| !is_architecture(qualifier)) {
            return Err(wrong(text, "that is no architecture"));
        }
        Ok(Self { name, qualifier, version })
    }
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if let Some(qualifier) = self.qualifier {
            write!(f, ":{qualifier}")?;
        }
        if let Some((operator, version)) = self.version {
            let operator = match operator {
                Operator::Earlier => "<<",
                Operator::EarlierOrEqual => "<=",
                Operator::Equal => "=",
                Operator::LaterOrEqual => ">=",
                Operator::Later => ">>",
            };
            write!(f, " ({operator} {version})")?;
        }
        Ok(())
    }
}

/// Reads a field into its groups of alternatives; an empty group (a trailing comma) counts for nothing.
pub(crate) fn parse_groups(field: &str) -> Result<Vec<Vec<Relation<'_>>>, String> {
    let groups = field.split(',').filter(|group| !group.trim().is_empty());
    groups.map(|group| group.split('|').map(Relation::parse).collect()).collect()
}

/// Reads a field without alternatives (`Provides`, `Conflicts`, `Breaks`).
pub(crate) fn parse_list(field: &str) -> Result<Vec<Relation<'_>>, String> {
    field.split(',').filter(|relation| !relation.trim().is_empty()).map(Relation::parse).collect()
}

/// Debian policy 5.6.1, a little wider: archives of vendors use upper case and underscores.
pub(crate) fn is_package_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte))
}

pub(crate) fn is_architecture(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn parse_constraint<'a>(text: &str, constraint: &'a str) -> Result<(Operator, &'a str), String> {
    // `<` and `>` alone are long deprecated spellings of `<=` and `>=`, which dpkg still reads so.
    const OPERATORS: [(&str, Operator); 7] = [
        ("<<", Operator::Earlier),
        ("<=", Operator::EarlierOrEqual),
        (">=", Operator::LaterOrEqual),
        (">>", Operator::Later),
        ("=", Operator::Equal),
        ("<", Operator::EarlierOrEqual),
        (">", Operator::LaterOrEqual),
    ];
    let found =
        OPERATORS.iter().find_map(|(sign, operator)| Some((*operator, constraint.strip_prefix(sign)?)));
    let (operator, version) = found.ok_or_else(|| wrong(text, "the version has no operator"))?;
    let version = version.trim();
    if is_version(version) { Ok((operator, version)) } else { Err(wrong(text, "that is no version")) }
}

fn wrong(text: &str, reason: &str) -> String {
    format!("relation `{text}`: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(field: &str, expected: Result<&str, &str>) {
        let shown = parse_groups(field).map(|groups| {
            let group = |group: &Vec<Relation<'_>>| {
                group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
            };
            groups.iter().map(group).collect::<Vec<_>>().join(", ")
        });
        match (shown, expected) {
            (Ok(shown), Ok(expected)) => assert_eq!(shown, expected),
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (shown, _) => panic!("{field:?} gave {shown:?}"),
        }
    }

    #[test]
    fn reads_relations() {
        check("", Ok(""));
        check("libc6", Ok("libc6"));
        check("libc6 (>= 2.34), zlib1g(>=1:1.1.4)", Ok("libc6 (>= 2.34), zlib1g (>= 1:1.1.4)"));
        check("debconf (>= 0.5) | debconf-2.0", Ok("debconf (>= 0.5) | debconf-2.0"));
        check("python3:any, perl:native (<< 5),", Ok("python3:any, perl:native (<< 5)"));
        check("a,\n b |\n\tc ( = 1 )", Ok("a, b | c (= 1)"));
        check("a (< 1), b (> 1)", Ok("a (<= 1), b (>= 1)"));
    }

    #[test]
    fn refuses_what_is_no_relation() {
        check("a (>= 1", Err("`)` is missing"));
        check("a (1)", Err("no operator"));
        check("a (>= )", Err("no version"));
        check("a | | b", Err("no package name"));
        check("a b", Err("no package name"));
        check("a [amd64]", Err("no package name"));
        check("a: (= 1)", Err("no architecture"));
    }
}
