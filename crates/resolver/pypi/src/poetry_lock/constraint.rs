//! Version constraints as Poetry writes them: PEP 440's, and `^1.2`, `~1.2`, bare versions and alternatives.

use std::str::FromStr;

use uv_pep440::{Operator, Version, VersionSpecifier};

/// Which versions are allowed: those that satisfy every specifier of one alternative.
#[derive(Clone, Debug)]
pub(super) struct Constraint {
    alternatives: Vec<Vec<VersionSpecifier>>,
}

impl Constraint {
    /// `*`
    pub(super) fn any() -> Self {
        Self { alternatives: vec![Vec::new()] }
    }

    pub(super) fn allows(&self, version: &Version) -> bool {
        self.alternatives.iter().any(|all| all.iter().all(|it| it.contains(version)))
    }

    /// As a `python` key of a dependency means it: `3.11` is every patch of it, while `<=3.11` is as PEP 440 has it.
    pub(super) fn allows_python(&self, full: &Version) -> bool {
        let short = Version::new(full.release().iter().take(2).copied());
        let contains = |it: &VersionSpecifier| match it.operator() {
            Operator::Equal if it.version().release().len() < 3 => it.contains(&short),
            _ => it.contains(full),
        };
        self.alternatives.iter().any(|all| all.iter().all(contains))
    }
}

impl FromStr for Constraint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let alternative = |part: &str| {
            let terms = terms(part);
            if terms.is_empty() {
                return Err(format!("{text:?} is no version constraint"));
            }
            let mut all = Vec::new();
            for (operator, version) in terms {
                all.extend(specifiers(operator, version).map_err(|why| format!("{text:?}: {why}"))?);
            }
            Ok(all)
        };
        let alternatives = text.replace("||", "|").split('|').map(alternative).collect::<Result<_, _>>()?;
        Ok(Self { alternatives })
    }
}

/// The terms of one alternative, which commas or spaces separate: operator and version.
fn terms(text: &str) -> Vec<(&str, &str)> {
    let mut terms = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if rest.is_empty() {
            return terms;
        }
        let start = rest.find(|char| !"~=<>!^".contains(char)).unwrap_or(rest.len());
        let (operator, after) = rest.split_at(start);
        let after = after.trim_start();
        let (version, after) = after.split_at(after.find([',', ' ']).unwrap_or(after.len()));
        terms.push((operator, version));
        rest = after;
    }
}

fn specifiers(operator: &str, version: &str) -> Result<Vec<VersionSpecifier>, String> {
    let is_equal = matches!(operator, "" | "=" | "==");
    let wild = !version.is_empty() && version.chars().all(|char| ".*xX".contains(char));
    if is_equal && wild {
        return Ok(Vec::new());
    }
    let plain = version.trim_end_matches(".*");
    let is_star = plain != version;
    let version = Version::from_str(plain).map_err(|error| error.to_string())?;
    let below = |high: Vec<u64>| {
        let high: Vec<String> = high.iter().map(u64::to_string).collect();
        let high = Version::from_str(&format!("{}!{}", version.epoch(), high.join(".")));
        let high = high.map_err(|error| error.to_string())?;
        let low = VersionSpecifier::greater_than_equal_version(version.clone());
        Ok(vec![low, VersionSpecifier::less_than_version(high)])
    };
    Ok(match operator {
        "^" => return below(next_breaking(&version.release())),
        "~" => return below(next(&version.release(), 2)),
        "~=" => return below(next(&version.release(), version.release().len().saturating_sub(1).max(1))),
        ">" => vec![VersionSpecifier::greater_than_version(version)],
        ">=" => vec![VersionSpecifier::greater_than_equal_version(version)],
        "<" => vec![VersionSpecifier::less_than_version(version)],
        "<=" => vec![VersionSpecifier::less_than_equal_version(version)],
        "!=" if is_star => vec![VersionSpecifier::not_equals_star_version(version)],
        "!=" => vec![VersionSpecifier::not_equals_version(version)],
        _ if is_equal && is_star => vec![VersionSpecifier::equals_star_version(version)],
        _ if is_equal => vec![VersionSpecifier::equals_version(version)],
        _ => return Err(format!("{operator:?} is no operator")),
    })
}

/// The first `count` numbers of a release, the last of them raised.
fn next(release: &[u64], count: usize) -> Vec<u64> {
    let mut next: Vec<u64> = release.iter().copied().take(count).collect();
    if let Some(last) = next.last_mut() {
        *last = last.saturating_add(1);
    }
    next
}

/// What `^` stops before: the first number that is not 0 raised, or the last of three.
fn next_breaking(release: &[u64]) -> Vec<u64> {
    let first = release.iter().take(3).position(|&number| number > 0);
    next(release, first.map_or(release.len().min(3), |first| first + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(constraint: &str, yes: &[&str], no: &[&str]) {
        let parsed: Constraint = constraint.parse().expect(constraint);
        let allows = |text: &&&str| parsed.allows(&text.parse().expect(text));
        assert!(yes.iter().all(|it| allows(&it)), "{constraint} allows {yes:?}");
        assert!(!no.iter().any(|it| allows(&it)), "{constraint} does not allow {no:?}");
    }

    #[test]
    fn carets() {
        check("^1.2.3", &["1.2.3", "1.9"], &["1.2.2", "2.0", "2.0.0a1", "2.0.dev0"]);
        check("^1", &["1.0", "1.9"], &["2"]);
        check("^0.2.3", &["0.2.3", "0.2.9"], &["0.3.0", "1"]);
        check("^0.0.3", &["0.0.3"], &["0.0.4"]);
        check("^0.0", &["0.0.3"], &["0.1"]);
        check("^0", &["0.9"], &["1.0"]);
        check("^0.0.0", &["0.0.0"], &["0.0.1"]);
        check("^1!2.0", &["1!2.5"], &["1!3.0", "2.5"]);
        check("^2.0rc1", &["2.0rc1", "2.5"], &["2.0b9", "3.0a1"]);
    }

    #[test]
    fn tildes() {
        check("~1.2.3", &["1.2.3", "1.2.9"], &["1.3"]);
        check("~1.2", &["1.2", "1.2.9"], &["1.3"]);
        check("~1", &["1.9"], &["2.0"]);
        check("~=1.4.5", &["1.4.5", "1.4.9"], &["1.5", "1.4.4"]);
        check("~=2.2", &["2.9"], &["3.0"]);
        check("~=1", &["1.9"], &["2.0"]);
    }

    #[test]
    fn equality() {
        check("1.2.3", &["1.2.3", "1.2.3+cpu", "1.2.3.0"], &["1.2.4"]);
        check("=1.2.3", &["1.2.3"], &["1.2.4"]);
        check("==2.0+cu118", &["2.0+cu118"], &["2.0", "2.0+cpu"]);
        check("1.2.*", &["1.2", "1.2.9"], &["1.3"]);
        check("==1.*", &["1.2"], &["2.0"]);
        check("!=3.0.*", &["3.1"], &["3.0.5"]);
        check("!=1.5", &["1.4"], &["1.5"]);
        check("*", &["0", "1.0a1"], &[]);
        check("x.x", &["5"], &[]);
    }

    #[test]
    fn conjunctions_and_alternatives() {
        check(">=3.7,<3.11", &["3.7", "3.10.9"], &["3.11", "3.6"]);
        check(">=3.7 <4", &["3.7"], &["4"]);
        check("> 1.10, < 3", &["2"], &["1.10", "3"]);
        check(">=2.7, !=3.0.*, !=3.1.*,", &["3.2", "2.7"], &["3.1.4"]);
        check("<1.5 || ^2.0", &["1.4", "2.1"], &["1.6", "3.0"]);
        check(">=1,<2|>=3", &["1.5", "4"], &["2.5"]);
    }

    #[test]
    fn what_is_none() {
        for wrong in ["", " ", "||", ">=", "^x", "<>1.0", "1.0 - 2.0", "===1", "^1.0 ||", "one"] {
            assert!(wrong.parse::<Constraint>().is_err(), "{wrong}");
        }
    }

    fn check_python(constraint: &str, python: &str, expect: bool) {
        let parsed: Constraint = constraint.parse().expect(constraint);
        assert_eq!(parsed.allows_python(&python.parse().expect(python)), expect, "{constraint} {python}");
    }

    #[test]
    fn versions_of_python() {
        check_python("3.11", "3.11.2", true);
        check_python("==3.11", "3.12.0", false);
        check_python("3.11.4", "3.11.2", false);
        check_python("~3.11", "3.11.2", true);
        check_python("<=3.11", "3.11.2", false);
        check_python(">=3.8,<3.11 || 3.12", "3.12.1", true);
    }
}
