use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What an image runs on: `linux/amd64`, `linux/arm/v7`.
///
/// Architectures have Go's names (GOARCH), as in image indexes, not the kernel's. Source: OCI image index,
/// "Platform Variants".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// Takes the three parts as an image config or an index has them.
    ///
    /// # Errors
    /// [`ParsePlatformError`] when a part is empty or holds anything but lower-case letters, digits, `.`, `_` and `-`.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Result<Self, ParsePlatformError> {
        let text = || match variant {
            Some(variant) => format!("{os}/{architecture}/{variant}"),
            None => format!("{os}/{architecture}"),
        };
        let word = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
        };
        if ![Some(os), Some(architecture), variant].into_iter().flatten().all(word) {
            return Err(ParsePlatformError { text: text(), hint: "" });
        }
        Ok(Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        })
    }

    /// What this program runs on itself.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { os: std::env::consts::OS.to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// The operating system: `linux`.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The architecture by its name in Go: `amd64`, `arm64`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The architecture's variant, where it was given: `v7`.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// Whether both name the same machine: a variant that is left out stands for the one that everybody means by it
    /// (`arm64` is `arm64/v8`, `arm` is `arm/v7`, `amd64` is `amd64/v1`).
    pub fn matches(&self, other: &Self) -> bool {
        (&self.os, &self.architecture, self.implied_variant())
            == (&other.os, &other.architecture, other.implied_variant())
    }

    /// Whether a config that says this can be what an index has under `claimed`. Configs often leave the variant out, of
    /// a less usual machine too, which the index tells then.
    pub fn can_be(&self, claimed: &Self) -> bool {
        self.variant.is_none() && (&self.os, &self.architecture) == (&claimed.os, &claimed.architecture)
            || self.matches(claimed)
    }

    fn implied_variant(&self) -> Option<&str> {
        self.variant().or(match self.architecture.as_str() {
            "arm64" => Some("v8"),
            "arm" => Some("v7"),
            "amd64" => Some("v1"),
            _ => None,
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    fn from_str(text: &str) -> Result<Self, ParsePlatformError> {
        let error = |hint| ParsePlatformError { text: text.to_owned(), hint };
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts.as_slice() {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(*variant)),
            _ => return Err(error("")),
        };
        // The kernel's names are valid words, so a typing error would only show when nobody can pull the image.
        match *architecture {
            "x86_64" => Err(error("; images say `amd64` for x86_64")),
            "aarch64" => Err(error("; images say `arm64` for aarch64")),
            _ => Self::new(os, architecture, variant).map_err(|_| error("")),
        }
    }
}

impl Serialize for Platform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Text that names no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a platform: expected `linux/amd64`, `linux/arm64` or `linux/arm/v7`{hint}")]
pub struct ParsePlatformError {
    /// The text as it was read.
    pub text: String,
    /// What was probably meant.
    pub hint: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, valid: bool) {
        match text.parse::<Platform>() {
            Ok(platform) => assert!(valid && platform.to_string() == text, "{text}"),
            Err(error) => assert!(!valid && error.to_string().contains(text), "{text}"),
        }
    }

    #[test]
    fn platforms() {
        for text in ["linux/amd64", "linux/arm64", "linux/arm/v7", "windows/amd64", "linux/ppc64le"] {
            check(text, true);
        }
    }

    #[test]
    fn the_host_is_a_platform() {
        check(&Platform::host().to_string(), true);
    }

    #[test]
    fn no_platforms() {
        for text in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "linux/amd64/",
            "Linux/amd64",
            "linux/amd64/v1/x",
            "linux/x86_64",
        ] {
            check(text, false);
        }
    }

    #[test]
    fn a_missing_variant_means_the_usual_one() {
        let matches = |a: &str, b: &str| a.parse::<Platform>().unwrap().matches(&b.parse().unwrap());
        assert!(matches("linux/arm64", "linux/arm64/v8"));
        assert!(matches("linux/arm/v7", "linux/arm"));
        assert!(!matches("linux/arm/v6", "linux/arm"));
        assert!(!matches("linux/amd64", "linux/arm64"));
        let can_be = |a: &str, b: &str| a.parse::<Platform>().unwrap().can_be(&b.parse().unwrap());
        assert!(can_be("linux/arm", "linux/arm/v6"));
        assert!(can_be("linux/arm/v7", "linux/arm"));
        assert!(!can_be("linux/arm/v7", "linux/arm/v6"));
        assert!(!can_be("linux/arm", "linux/arm64"));
    }
}
