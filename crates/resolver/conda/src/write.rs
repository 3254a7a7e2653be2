//! An environment as a file that other tools read.

use std::path::Path;
use std::str::FromStr as _;

use imgforge_resolver_core::{Artifact, CondaEnvironment, CondaPackage, Location};
use rattler_conda_types::{RepoDataRecord, Subdir};
use rattler_lock::{
    CondaBinaryData, CondaPackageData, LockFile, LockFileBuilder, PackageHashes, PlatformData, PlatformName,
    PypiDistributionData, PypiPackageData, UrlOrPath, Verbatim,
};
use serde_json::json;
use url::Url;

use crate::error::{Error, plain, plain_text};
use crate::guard::guarded;

/// What messages call a file that there is not yet.
const PIXI: &str = "pixi.lock";

/// The one environment of what is written.
const ENVIRONMENT: &str = "default";

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

/// A `pixi.lock` with one environment, `default`, for each platform (`linux-64`) that is given with its packages.
///
/// `channels` are what pixi is told that the packages come from, by priority: names or URLs. Files of this machine are absolute
/// paths.
///
/// # Errors
///
/// [`Error::Unsupported`] for packages without records, which an `@EXPLICIT` file's are, and for what is no package of pixi's;
/// [`Error::Subdir`] for a platform that there is not.
pub fn to_pixi_lock(
    environments: &[(&str, &CondaEnvironment)],
    channels: &[String],
) -> Result<String, Error> {
    guarded(Path::new(PIXI), || {
        let mut platforms = Vec::new();
        for (subdir, _) in environments {
            let wrong = || Error::Subdir { subdir: plain_text(subdir) };
            platforms.push(PlatformData {
                name: PlatformName::try_from(*subdir).map_err(|_| wrong())?,
                subdir: Subdir::from_str(subdir).map_err(|_| wrong())?,
                virtual_packages: Vec::new(),
            });
        }
        let mut builder = LockFile::builder()
            .with_platforms(platforms)
            .map_err(|error| unsupported(plain(&error)))?
            .with_channels(ENVIRONMENT, channels.iter().cloned());
        for (subdir, environment) in environments {
            fill(&mut builder, subdir, environment)?;
        }
        builder.finish().render_to_string().map_err(|error| unsupported(plain(&error)))
    })
}

fn fill(builder: &mut LockFileBuilder, subdir: &str, environment: &CondaEnvironment) -> Result<(), Error> {
    let failed = |error: &dyn std::error::Error| unsupported(plain(error));
    builder.add_environment_platform(ENVIRONMENT, subdir).map_err(|error| failed(&error))?;
    for package in &environment.packages {
        let data = CondaPackageData::from(conda(package)?);
        builder.add_conda_package(ENVIRONMENT, subdir, data).map_err(|error| failed(&error))?;
    }
    for wheel in &environment.wheels {
        let data = PypiPackageData::from(pypi(wheel)?);
        builder.add_pypi_package(ENVIRONMENT, subdir, data).map_err(|error| failed(&error))?;
    }
    Ok(())
}

fn conda(package: &CondaPackage) -> Result<CondaBinaryData, Error> {
    let Some(record) = &package.record else {
        let message =
            format!("there is no record of {}, as a pixi.lock has it: lock with pixi", package.name);
        return Err(unsupported(message));
    };
    let record: RepoDataRecord = serde_json::from_value(record.clone())
        .map_err(|error| unsupported(format!("the record of {}: {error}", package.name)))?;
    Ok(CondaBinaryData {
        package_record: record.package_record,
        location: place(&package.location)?,
        file_name: record.identifier,
        channel: record.channel.as_deref().and_then(|channel| Url::parse(channel).ok()).map(Into::into),
    })
}

fn pypi(wheel: &Artifact) -> Result<PypiDistributionData, Error> {
    let wrong = |what: &str, why: &dyn std::error::Error| unsupported(format!("{what}: {}", plain(why)));
    let hash: PackageHashes = serde_json::from_value(json!({ "sha256": wheel.sha256 }))
        .map_err(|error| wrong(&wheel.name, &error))?;
    Ok(PypiDistributionData {
        name: wheel.name.parse().map_err(|error| wrong(&wheel.name, &error))?,
        version: wheel.version.parse().map_err(|error| wrong(&wheel.name, &error))?,
        location: Verbatim::new(place(&wheel.location)?),
        index_url: None,
        hash: Some(hash),
        requires_dist: Vec::new(),
        requires_python: None,
    })
}

fn place(location: &Location) -> Result<UrlOrPath, Error> {
    let text = match location {
        Location::Url(url) => url.clone(),
        Location::Path(path) => path.display().to_string(),
    };
    UrlOrPath::from_str(&text).map_err(|error| unsupported(format!("{text}: {error}")))
}

fn unsupported(message: String) -> Error {
    Error::Unsupported { file: PIXI.into(), message: plain_text(&message) }
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
