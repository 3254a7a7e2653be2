//! What Python packages are called, and what says so: METADATA and the name of the file.

use std::fmt;
use std::str::FromStr;

/// The name of a wheel's file, taken apart: `NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl`.
///
/// Parts are as they are written. Each of the last three may be several tags, joined by dots. Source: PyPA, "Binary
/// distribution format".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName {
    /// The distribution, with `_` for what a name may not have here.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The build number, which most wheels don't have.
    pub build: Option<String>,
    /// Such as `cp311`.
    pub python: String,
    /// Such as `abi3`.
    pub abi: String,
    /// Such as `manylinux_2_28_x86_64`.
    pub platform: String,
}

impl FileName {
    /// Takes a file name apart; `None` when it is not that of a wheel.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<_> = text.strip_suffix(".whl")?.split('-').map(str::to_owned).collect();
        let (name, version, build, python, abi, platform) = match <[String; 6]>::try_from(parts) {
            Ok([name, version, build, python, abi, platform]) => {
                (name, version, Some(build), python, abi, platform)
            }
            Err(parts) => {
                let [name, version, python, abi, platform] = <[String; 5]>::try_from(parts).ok()?;
                (name, version, None, python, abi, platform)
            }
        };
        Some(Self { name, version, build, python, abi, platform })
    }

    /// The version as a value; `None` when it is none.
    pub fn version(&self) -> Option<pep440_rs::Version> {
        // Old versions of `wheel` wrote the plus of a local version as an underscore.
        pep440_rs::Version::from_str(&self.version)
            .or_else(|_| pep440_rs::Version::from_str(&self.version.replacen('_', "+", 1)))
            .ok()
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.name, self.version)?;
        if let Some(build) = &self.build {
            write!(f, "-{build}")?;
        }
        write!(f, "-{}-{}-{}.whl", self.python, self.abi, self.platform)
    }
}

/// A distribution's name as PEP 503 normalises it: lower case, with a single `-` for each run of `-`, `_` and `.`.
pub fn normalise(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            other => normal.extend(other.to_lowercase()),
        }
    }
    normal
}

/// The first value of a header in an email-like file: METADATA, PKG-INFO, WHEEL.
pub fn header<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines().take_while(|line| !line.is_empty()).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(key).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_and_back() {
        for name in ["demo-1.0-py3-none-any.whl", "a_b-1.0+cu12-2-cp311.cp312-abi3-manylinux_2_28_x86_64.whl"]
        {
            assert_eq!(FileName::parse(name).unwrap().to_string(), name);
        }
        for name in ["demo-1.0-py3-none-any.zip", "demo-1.0-py3-none.whl", "a-b-c-d-e-f-g.whl", ".whl", ""] {
            assert_eq!(FileName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn names_are_normalised() {
        assert_eq!(normalise("Ruamel.Yaml__x-._y"), "ruamel-yaml-x-y");
    }
}
