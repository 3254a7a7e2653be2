//! Which Python an environment has, and where that looks for modules.

use std::path::{Component, Path};
use std::str::FromStr as _;

use imgforge_resolver_core::CondaPython;
use rattler_conda_types::Version;

use crate::location::is_clean;

/// The Python of a package named `python`.
///
/// `site_packages` is what its record says (CEP 17). Without, it is CPython's own folder; a free-threaded build, whose build
/// string ends in `_cp313t`, has a `t` in it.
///
/// # Errors
/// A sentence: the version is none, or the folder is none below the prefix.
pub(crate) fn python(version: &str, build: &str, site_packages: Option<&str>) -> Result<CondaPython, String> {
    let wrong = || format!("{version:?} is no version of Python");
    let parsed = Version::from_str(version).map_err(|_| wrong())?;
    let (major, minor) = parsed.as_major_minor().ok_or_else(wrong)?;
    let site_packages = match site_packages.filter(|path| !path.is_empty()) {
        Some(path) => {
            let below = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
            if !below || !path.chars().all(|char| char == '/' || is_clean(char)) {
                return Err(format!("its folder of modules, {path:?}, is none below the prefix"));
            }
            path.trim_end_matches('/').to_owned()
        }
        None => {
            let threads = format!("_cp{major}{minor}t");
            let suffix = if build.contains(&threads) { "t" } else { "" };
            format!("lib/python{major}.{minor}{suffix}/site-packages")
        }
    };
    Ok(CondaPython { version: version.to_owned(), site_packages })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: &str, build: &str, site_packages: Option<&str>, expect: Result<&str, &str>) {
        let found = python(version, build, site_packages).map(|python| python.site_packages);
        assert_eq!(found.as_deref().map_err(String::as_str), expect, "{version} {build}");
    }

    #[test]
    fn modules() {
        check("3.11.2", "h0debsrc_1_cpython", None, Ok("lib/python3.11/site-packages"));
        check("3.13.9", "h2b335a9_101_cp313", None, Ok("lib/python3.13/site-packages"));
        check("3.13.9", "h4724d56_1_cp313t", None, Ok("lib/python3.13t/site-packages"));
        check("3.13.9", "h4724d56_1_cp313t", Some(""), Ok("lib/python3.13t/site-packages"));
        check(
            "3.14.0",
            "h0_0_cp314t",
            Some("lib/python3.14t/site-packages/"),
            Ok("lib/python3.14t/site-packages"),
        );
        check("3.13.0rc3", "h0_0_cp313", None, Ok("lib/python3.13/site-packages"));
    }

    #[test]
    fn what_is_none() {
        let outside = "is none below the prefix";
        for path in ["/usr/lib", "../lib", "lib/../../x", ".", "lib\\x", "lib/a b", "lib/\u{1b}"] {
            let error = python("3.11.2", "0", Some(path)).expect_err("an error");
            assert!(error.ends_with(outside), "{error}");
        }
        check("3", "0", None, Err("\"3\" is no version of Python"));
        check("three", "0", None, Err("\"three\" is no version of Python"));
    }
}
