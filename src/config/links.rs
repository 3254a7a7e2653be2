//! `links`: symbolic links beside what packages bring, such as a `lib64` that a compiler looks for.
//!
//! What a link leads to is data: it is compared with the root filesystem's names, and never followed on the host.

use std::collections::BTreeMap;

use imgforge_layer::TreePath;

use super::check::{ConfigError, table};
use super::{Config, Environment, Image};

/// What links lead to, as they have it, by their own paths.
pub type Links = BTreeMap<String, String>;

/// Where a link leads, by its text alone: the path from the root, without a slash before it. `None` for a text that leads
/// out of the root, nowhere, or to the link itself.
pub fn resolve(link: &TreePath, target: &str) -> Option<String> {
    let is_absolute = target.starts_with('/');
    let folder = if is_absolute { None } else { link.as_str().rsplit_once('/').map(|(folder, _)| folder) };
    let mut path: Vec<&str> = folder.into_iter().flat_map(|folder| folder.split('/')).collect();
    for name in target.strip_prefix('/').unwrap_or(target).split('/') {
        match name {
            "" => return None,
            "." => {}
            ".." => _ = path.pop()?,
            name => path.push(name),
        }
    }
    let resolved = path.join("/");
    (!resolved.is_empty() && resolved != link.as_str() && !target.contains(char::is_control))
        .then_some(resolved)
}

impl Environment {
    /// Its links, by their paths from the root.
    pub fn rooted_links(&self) -> BTreeMap<TreePath, &str> {
        rooted(&self.prefix, &self.links)
    }
}

impl Image {
    /// Its links, by their paths from the root.
    pub fn rooted_links(&self) -> BTreeMap<TreePath, &str> {
        rooted("", &self.links)
    }
}

/// Links below a folder. Those whose names can't be are refused by [`check_links`].
fn rooted<'a>(folder: &str, links: &'a Links) -> BTreeMap<TreePath, &'a str> {
    let full = |link: &str| TreePath::new(&format!("{folder}/{}", link.trim_start_matches('/'))).ok();
    links.iter().filter_map(|(link, target)| Some((full(link)?, target.as_str()))).collect()
}

/// Checks the links of environments, which are relative to the prefix, and of images, which are absolute.
pub(super) fn check_links(config: &Config) -> Result<(), ConfigError> {
    for (name, environment) in &config.environments {
        check(&format!("env.{name}"), &environment.prefix, &environment.links)?;
    }
    for (name, image) in &config.images {
        check(&format!("image.{name}"), "", &image.links)?;
    }
    Ok(())
}

fn check(at: &str, folder: &str, links: &Links) -> Result<(), ConfigError> {
    let wrong = |problem: String| Err(table(at, format!("links: {problem}")));
    let mut paths: Vec<TreePath> = Vec::new();
    for (link, target) in links {
        let (is_relative, full) = (!folder.is_empty(), format!("{folder}/{}", link.trim_start_matches('/')));
        if link.starts_with('/') == is_relative {
            let kind = if is_relative { "is relative to the prefix" } else { "is absolute" };
            return wrong(format!("`{link}`: a link's own path {kind}"));
        }
        let Ok(path) = TreePath::new(&full) else {
            return wrong(format!("`{}` is no path without `.` or `..`", link.escape_debug()));
        };
        if resolve(&path, target).is_none() {
            return wrong(format!(
                "`{link}` leads to `{}`: out of the root, to itself, or nowhere",
                target.escape_debug()
            ));
        }
        paths.push(path);
    }
    let below = |path: &TreePath| paths.iter().find(|other| path.ancestors().any(|above| above == **other));
    match paths.iter().find_map(|path| Some((path, below(path)?))) {
        Some((path, above)) => wrong(format!("{path} is behind {above}, which is a link too")),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use super::super::check::tests::{GOOD, check};
    use super::*;

    #[track_caller]
    fn leads(link: &str, target: &str, expected: Option<&str>) {
        assert_eq!(resolve(&TreePath::new(link).unwrap(), target).as_deref(), expected, "{link} -> {target}");
    }

    #[test]
    fn where_links_lead() {
        leads("/v/lib64", "lib", Some("v/lib"));
        leads("/v/lib/a.so", "a.so.1", Some("v/lib/a.so.1"));
        leads("/v/cuda", "./lib/x/../cu13", Some("v/lib/cu13"));
        leads("/v/bin/python", "/usr/bin/python3", Some("usr/bin/python3"));
        leads("/v/a", "../../b", None);
        leads("/v/a", "..", None);
        leads("/v/a", "a", None);
        leads("/v/a", "/", None);
        leads("/v/a", "", None);
        leads("/v/a", "b//c", None);
        leads("/v/a", "b\n", None);
    }

    #[track_caller]
    fn check_env(links: &str, expected: &str) {
        let table = format!("[env.e]\nlock = \"uv.lock\"\nprefix = \"/v\"\nlinks = {{ {links} }}\n");
        check(&format!("{GOOD}{table}"), expected);
    }

    #[test]
    fn links_of_environments() {
        check_env("\"lib64\" = \"lib\", \"lib/a.so\" = \"a.so.1\"", "");
        check_env(
            "\"/lib64\" = \"lib\"",
            "[env.e]: links: `/lib64`: a link's own path is relative to the prefix",
        );
        check_env("\"../lib64\" = \"lib\"", "[env.e]: links: `../lib64` is no path without `.` or `..`");
        check_env(
            "\"lib64\" = \"../../lib\"",
            "[env.e]: links: `lib64` leads to `../../lib`: out of the root, to itself, or nowhere",
        );
        check_env(
            "\"a\" = \"lib\", \"a/b\" = \"c\"",
            "[env.e]: links: /v/a/b is behind /v/a, which is a link too",
        );
    }

    #[test]
    fn links_of_images() {
        check(&format!("{GOOD}links = {{ \"/usr/bin/python\" = \"python3.11\" }}\n"), "");
        check(
            &format!("{GOOD}links = {{ \"usr/bin/python\" = \"python3.11\" }}\n"),
            "[image.i]: links: `usr/bin/python`: a link's own path is absolute",
        );
    }

    #[test]
    fn values_of_the_matrix() {
        let toml = "version = 1\n[matrix]\ncuda = [\"12\", \"13\"]\n[base.b]\nscratch = true\n[env.e]\nlock = \"uv.lock\"\n\
            prefix = \"/v\"\nlinks = { \"cu{cuda}/lib64\" = \"../lib{cuda}\" }\n[image.i]\ntag = \"{cuda}\"\nbase = \"b\"\nenvs = [\"e\"]\n";
        let config = Config::parse(toml).unwrap();
        let links: Vec<_> = config
            .environments
            .values()
            .flat_map(Environment::rooted_links)
            .map(|(l, t)| format!("{l} {t}"))
            .collect();
        assert_eq!(links, ["/v/cu12/lib64 ../lib12", "/v/cu13/lib64 ../lib13"]);
    }
}
