//! An environment as a file that other tools read.

use imgforge_resolver_core::{CondaEnvironment, Location};
use url::Url;

/// An `@EXPLICIT` file of an environment's packages in their order, for `subdir` (`linux-64`).
///
/// Each has its SHA-256, or its MD5 where it has no other. Wheels stand in comments, as conda-lock writes them: conda ignores
/// them, conda-lock installs them. Files of this machine are `file` URLs.
pub fn to_explicit(environment: &CondaEnvironment, subdir: &str) -> String {
    let mut text = format!("# platform: {subdir}\n@EXPLICIT\n");
    for package in &environment.packages {
        text.push_str(&url(&package.location));
        match (&package.sha256, &package.md5) {
            (Some(sha256), _) => text.push_str(&format!("#sha256:{sha256}\n")),
            (None, Some(md5)) => text.push_str(&format!("#{md5}\n")),
            (None, None) => text.push('\n'),
        }
    }
    for wheel in &environment.wheels {
        text.push_str(&format!("# pip {} @ {}#sha256={}\n", wheel.name, url(&wheel.location), wheel.sha256));
    }
    text
}

fn url(location: &Location) -> String {
    match location {
        Location::Url(url) => url.clone(),
        // Fails only for a relative path, which a location never has.
        Location::Path(path) => {
            Url::from_file_path(path).map_or_else(|()| path.display().to_string(), |url| url.to_string())
        }
    }
}
