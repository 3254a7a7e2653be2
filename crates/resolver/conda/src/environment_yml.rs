//! conda's `environment.yml`: channels and requirements. It is no lock, so it is resolved.

use std::path::Path;

use imgforge_resolver_core::CondaEnvironment;
use serde::Deserialize;

use crate::error::{Error, plain_text};
use crate::guard::guarded;
use crate::solve::{Channels, CondaTarget, solve};

/// A whole file has some dozens of requirements.
const LIMIT: usize = 10_000;

/// Resolves an `environment.yml` for `target`.
///
/// `file` is its path: messages name it, and relative paths of channels in it are relative to its folder. The file's own
/// channels are asked, unless `channels` names others. Its `name` and `prefix` mean nothing for an image.
///
/// # Errors
///
/// [`Error::Parse`] for the text, [`Error::Line`] for a selector, [`Error::Unsupported`] for what an environment of an image
/// can't have (packages from PyPI, variables) and for a file without channels, [`Error::Platform`] where the file says that it
/// is for other platforms, and all of [`solve`]'s.
pub fn environment_yml(
    text: &str,
    file: &Path,
    target: &CondaTarget,
    channels: &Channels,
) -> Result<CondaEnvironment, Error> {
    let request = guarded(file, || parse(text, file, &target.subdir))?;
    let channels = match channels.names.as_slice() {
        [] => Channels { names: request.channels, ..channels.clone() },
        _ => channels.clone(),
    };
    solve(&request.specs, file, target, &channels)
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    channels: Vec<String>,
    specs: Vec<String>,
}

/// The keys of the file. Those that conda-lock adds are known, so that one file serves both.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(rename = "prefix")]
    _prefix: Option<String>,
    #[serde(rename = "category")]
    _category: Option<String>,
    #[serde(default)]
    channels: Option<Vec<String>>,
    #[serde(default)]
    dependencies: Option<Vec<Dependency>>,
    #[serde(default)]
    platforms: Option<Vec<String>>,
    #[serde(default)]
    variables: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Dependency {
    Spec(String),
    Section(serde_json::Map<String, serde_json::Value>),
}

fn parse(text: &str, file: &Path, subdir: &str) -> Result<Request, Error> {
    let unsupported =
        |message: &str| Err(Error::Unsupported { file: file.to_owned(), message: message.to_owned() });
    let options = serde_saphyr::options! { with_snippet: false };
    let table: Table = serde_saphyr::from_str_with_options(text, options).map_err(|error| Error::Parse {
        file: file.to_owned(),
        format: "environment.yml",
        message: plain_text(&error.to_string()),
    })?;
    if let Some(line) = selector(text) {
        return Err(Error::Line {
            file: file.to_owned(),
            line,
            message: "selectors are conda-lock's and mean nothing to conda: write a file for each platform, or lock with \
                      conda-lock"
                .to_owned(),
        });
    }
    if table.variables.is_some_and(|variables| !variables.is_empty()) {
        return unsupported(
            "`variables` are set when an environment is activated: set the image's `env` instead",
        );
    }
    if let Some(platforms) = table.platforms.filter(|platforms| !platforms.iter().any(|it| it == subdir)) {
        return Err(Error::Platform {
            file: file.to_owned(),
            environment: None,
            platform: plain_text(subdir),
            platforms: platforms.iter().map(|platform| plain_text(platform)).collect(),
        });
    }
    let mut specs = Vec::new();
    for dependency in table.dependencies.unwrap_or_default() {
        match dependency {
            Dependency::Spec(spec) => specs.push(spec),
            Dependency::Section(section) if section.keys().all(|key| key == "pip") => {
                return unsupported(
                    "packages from PyPI (`pip:`) are not resolved here: lock them with pixi, whose lock has both, or with uv \
                     as an environment of their own",
                );
            }
            Dependency::Section(section) => {
                let keys: Vec<&str> = section.keys().map(String::as_str).collect();
                let message = format!(
                    "`{}` among the dependencies is neither a requirement nor `pip`; quote a requirement with a colon",
                    plain_text(&keys.join("`, `"))
                );
                return Err(Error::Unsupported { file: file.to_owned(), message });
            }
        }
    }
    if specs.is_empty() {
        return unsupported("it has no `dependencies`");
    }
    if specs.len() > LIMIT {
        return unsupported("it has more dependencies than any environment");
    }
    // The marker that conda's own configuration is not to be asked, which it never is here.
    let mut channels = table.channels.unwrap_or_default();
    channels.retain(|channel| channel != "nodefaults");
    Ok(Request { channels, specs })
}

/// The line of the first selector: a comment such as `# [linux]` after a requirement. A YAML parser does not see it, and
/// installing what it excludes would be wrong.
fn selector(text: &str) -> Option<usize> {
    let is_selector = |line: &str| {
        let (before, comment) = line.split_once(" #")?;
        let inner = comment.trim().strip_prefix('[')?.strip_suffix(']')?;
        (before.trim_start().starts_with('-') && !inner.is_empty()).then_some(())
    };
    text.lines().position(|line| is_selector(line).is_some()).map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, channels: &[&str], specs: &[&str]) {
        let request = parse(text, Path::new("environment.yml"), "linux-64").unwrap();
        assert_eq!(request.channels, channels);
        assert_eq!(request.specs, specs);
    }

    #[track_caller]
    fn refused(text: &str, expect: &str) {
        let error = parse(text, Path::new("environment.yml"), "linux-64").expect_err("an error").to_string();
        assert!(error.starts_with("environment.yml"), "{error}");
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn files() {
        check(
            "name: demo\nchannels:\n  - conda-forge\n  - nodefaults\ndependencies:\n  - python=3.11 # as the app needs\n  - \
             conda-forge::numpy >=1.26\nprefix: /home/me/envs/demo\n",
            &["conda-forge"],
            &["python=3.11", "conda-forge::numpy >=1.26"],
        );
        check("dependencies: [python]\nplatforms: [linux-64, osx-64]\ncategory: dev\n", &[], &["python"]);
        check("channels:\nvariables: {}\ndependencies: ['a']\n", &[], &["a"]);
    }

    #[test]
    fn what_an_image_cannot_have() {
        refused("dependencies:\n  - python\n  - pip:\n    - requests\n", "`pip:`");
        refused("dependencies: [a]\nvariables:\n  A: b\n", "the image's `env`");
        refused("dependencies: [a]\nplatforms: [osx-64]\n", "not locked for linux-64: it is for osx-64");
        refused("dependencies:\n  - python\n  - pywin32  # [win]\n", "line 3: selectors");
        refused("dependencies:\n  - sel(linux): foo\n", "`sel(linux)` among the dependencies");
    }

    #[test]
    fn what_is_none() {
        refused("", "no `dependencies`");
        refused("name: a\n", "no `dependencies`");
        refused("dependencies: []\n", "no `dependencies`");
        refused("dependencies: python\n", "line 1");
        refused("dependencies:\n - a\nchanels: [conda-forge]\n", "chanels");
        refused("dependencies: [[a]]\n", "can't be read");
        refused("a: &a [x]\nb: [*a, *a]\ndependencies: [", "can't be read");
    }
}
