//! `pixi.lock`: environments for platforms, with conda's records and wheels side by side.

use std::path::Path;

use imgforge_resolver_core::CondaEnvironment;
use rattler_lock::{
    CondaPackageData, Environment, FileFormatVersion, LockFile, LockedPackage, Platform, UrlOrPath,
};
use url::Url;

use crate::error::{Error, Reason, plain, plain_text};
use crate::guard::{guarded, read};
use crate::location::{Place, folder};
use crate::package::{Gathered, Noarch};
use crate::wheel::pypi;

/// The versions that are read.
const SUPPORTED: &str = "5 to 7";

/// What of a `pixi.lock` is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PixiSelection {
    /// The environment's name.
    pub environment: String,
    /// The platform's name, where it is not its subdir: the lock may have several platforms with one subdir.
    pub platform: Option<String>,
    /// Whether packages that are folders (the project itself, other editable and path dependencies, packages that pixi builds)
    /// are left out. Otherwise they are refused: no lock has their bytes.
    pub without_folders: bool,
}

/// The environment `default`, for the platform that is its subdir; folders are refused.
impl Default for PixiSelection {
    fn default() -> Self {
        Self { environment: "default".to_owned(), platform: None, without_folders: false }
    }
}

/// Reads a `pixi.lock` and selects what is to be installed on `subdir` (`linux-64`).
///
/// `file` is the lock's path: messages name it, and paths in the lock are relative to its folder.
///
/// # Errors
///
/// [`Error::FormatVersion`] for what pixi wrote before version 5, [`Error::Parse`] for the text, [`Error::Environment`],
/// [`Error::Platform`] and [`Error::SeveralPlatforms`] for what the lock does not have, and [`Error::Unusable`] with every
/// package that can't be installed.
pub fn pixi_lock(
    text: &str,
    file: &Path,
    selection: &PixiSelection,
    subdir: &str,
) -> Result<CondaEnvironment, Error> {
    guarded(file, || {
        let folder = folder(file).map_err(|message| Error::Unsupported { file: file.to_owned(), message })?;
        let lock = parse(text, file, &folder)?;
        let environment = lock.environment(&selection.environment).ok_or_else(|| {
            let mut environments: Vec<String> =
                lock.environments().map(|(name, _)| plain_text(name)).collect();
            environments.sort();
            Error::Environment {
                file: file.to_owned(),
                name: plain_text(&selection.environment),
                environments,
            }
        })?;
        let platform = platform(environment, file, selection, subdir)?;
        let mut gathered = Gathered::new(
            subdir,
            Noarch::Known,
            "let pixi lock again, from channels and indexes that publish hashes",
        );
        for package in environment.packages(platform).into_iter().flatten() {
            locked(package, &folder, selection.without_folders, &mut gathered);
        }
        gathered.finish(file)
    })
}

/// What becomes of one package of a lock that lies in `folder`.
pub(crate) fn locked(
    package: &LockedPackage,
    folder: &Path,
    without_folders: bool,
    gathered: &mut Gathered<'_>,
) {
    match package {
        LockedPackage::Conda(CondaPackageData::Binary(data)) => {
            let place = match &data.location {
                UrlOrPath::Url(url) => Place::of_url(url),
                UrlOrPath::Path(path) => Place::of_path(path.as_str(), folder),
            };
            let channel = data.channel.as_ref().map(|channel| Url::clone(channel.url()));
            gathered.conda(data.package_record.clone(), place, channel);
        }
        LockedPackage::Conda(CondaPackageData::Source(data)) => {
            if without_folders && matches!(data.location, UrlOrPath::Path(_)) {
                return;
            }
            let version = data.record().map(|record| record.version.as_str().into_owned());
            let origin = match &data.location {
                UrlOrPath::Url(url) => crate::wheel::origin(url),
                UrlOrPath::Path(path) => plain_text(path.as_str()),
            };
            gathered.refuse(data.name().as_normalized(), version, Reason::Source { origin });
        }
        LockedPackage::Pypi(data) => pypi(data, folder, without_folders, gathered),
    }
}

fn parse(text: &str, file: &Path, folder: &Path) -> Result<LockFile, Error> {
    // Told from the text: what a version before the fifth has need not be what this reader expects.
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("version:"))
        .and_then(|version| version.trim().parse::<u64>().ok());
    if let Some(version) = version {
        supported(version, file)?;
    }
    let lock = read(|| LockFile::from_str_with_base_directory(text, Some(folder)), |error| plain(&error))
        .map_err(|message| Error::Parse { file: file.to_owned(), format: "pixi.lock", message })?;
    supported(lock.version() as u64, file)?;
    Ok(lock)
}

fn supported(version: u64, file: &Path) -> Result<(), Error> {
    let mend = if version < FileFormatVersion::V5 as u64 {
        "it is too old; run `pixi lock` with a current pixi"
    } else if version > FileFormatVersion::LATEST as u64 {
        "use a newer imgforge, or lock with an older pixi"
    } else {
        return Ok(());
    };
    Err(Error::FormatVersion {
        file: file.to_owned(),
        found: version.to_string(),
        supported: SUPPORTED,
        mend,
    })
}

/// The platform by its name, or the only one that has the subdir.
fn platform<'lock>(
    environment: Environment<'lock>,
    file: &Path,
    selection: &PixiSelection,
    subdir: &str,
) -> Result<Platform<'lock>, Error> {
    let mut platforms: Vec<Platform<'lock>> = environment.platforms().collect();
    platforms.sort_by(|a, b| a.name().as_str().cmp(b.name().as_str()));
    let wanted = selection.platform.as_deref().unwrap_or(subdir);
    let of_subdir: Vec<&Platform<'lock>> =
        platforms.iter().filter(|platform| platform.subdir().as_str() == subdir).collect();
    if let Some(platform) = of_subdir.iter().find(|platform| platform.name().as_str() == wanted) {
        return Ok(**platform);
    }
    match (of_subdir.as_slice(), &selection.platform) {
        ([only], None) => Ok(**only),
        ([_, _, ..], None) => Err(Error::SeveralPlatforms {
            file: file.to_owned(),
            subdir: subdir.to_owned(),
            platforms: of_subdir.iter().map(|platform| platform.name().to_string()).collect(),
        }),
        _ => Err(Error::Platform {
            file: file.to_owned(),
            environment: Some(plain_text(&selection.environment)),
            platform: plain_text(wanted),
            platforms: platforms.iter().map(|platform| platform.name().to_string()).collect(),
        }),
    }
}
