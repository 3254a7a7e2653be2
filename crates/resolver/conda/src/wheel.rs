//! Packages from PyPI in a conda lock → [`Artifact`]s.

use std::path::Path;
use std::str::FromStr as _;

use imgforge_resolver_core::Artifact;
use pep440_rs::Version;
use rattler_lock::{PypiDistributionData, PypiPackageData, UrlOrPath};
use url::Url;

use crate::error::{Reason, plain_text};
use crate::location::{Place, without_credentials};
use crate::package::Gathered;

/// What becomes of a PyPI package of a lock that lies in `folder`. `without_folders` says whether sources in folders are left
/// out.
pub(crate) fn pypi(
    data: &PypiPackageData,
    folder: &Path,
    without_folders: bool,
    gathered: &mut Gathered<'_>,
) {
    let name = data.name().to_string();
    match data {
        PypiPackageData::Distribution(data) => match distribution(data, folder, gathered) {
            Ok(wheel) => gathered.wheel(wheel),
            Err(reason) => gathered.refuse(&name, Some(data.version.to_string()), reason),
        },
        PypiPackageData::Source(data) => match data.location.inner() {
            UrlOrPath::Path(_) if without_folders => {}
            UrlOrPath::Path(path) => {
                gathered.refuse(&name, None, Reason::Folder { path: plain_text(path.as_str()) });
            }
            UrlOrPath::Url(url) => gathered.refuse(&name, None, Reason::Source { origin: origin(url) }),
        },
    }
}

fn distribution(
    data: &PypiDistributionData,
    folder: &Path,
    gathered: &Gathered<'_>,
) -> Result<Artifact, Reason> {
    let location = |message: String| Reason::Location { message: plain_text(&message) };
    let place = match data.location.inner() {
        // pixi says so of a URL that the project itself names.
        UrlOrPath::Url(url) if url.scheme().starts_with("direct+") => {
            let plain = url.as_str().trim_start_matches("direct+");
            Place::of_url(&Url::parse(plain).map_err(|error| location(error.to_string()))?)
        }
        UrlOrPath::Url(url) if url.scheme().contains('+') => {
            return Err(Reason::Source { origin: origin(url) });
        }
        UrlOrPath::Url(url) => Place::of_url(url),
        UrlOrPath::Path(path) => Place::of_path(path.as_str(), folder),
    };
    // No lock that this rattler writes has a version of its own for a package that it knows no version of.
    let version = (data.version != *pep440_rs::MIN_VERSION).then(|| data.version.clone());
    wheel(
        data.name.as_ref(),
        version,
        place.map_err(location)?,
        data.hash.as_ref().and_then(|hash| hash.sha256()).map(|hash| hash.as_slice()),
        gathered,
    )
}

/// The wheel at a place, for a package of this name.
pub(crate) fn wheel(
    name: &str,
    version: Option<Version>,
    place: Place,
    sha256: Option<&[u8]>,
    gathered: &Gathered<'_>,
) -> Result<Artifact, Reason> {
    let location = |message: String| Reason::Location { message };
    let Some(stem) = place.file.strip_suffix(".whl") else {
        return Err(Reason::Source { origin: place.file });
    };
    // PEP 427: NAME-VERSION(-BUILD)?-PYTHON-ABI-PLATFORM.
    let parts: Vec<&str> = stem.split('-').collect();
    let (Some(own_name), Some(own_version), Some(platforms), 5..=6) =
        (parts.first(), parts.get(1), parts.last(), parts.len())
    else {
        return Err(location(format!("{:?} is no wheel's name", place.file)));
    };
    let own_version = Version::from_str(&own_version.replace('_', "-"))
        .map_err(|_| location(format!("{:?} has no version in it", place.file)))?;
    if normalised(own_name) != name || version.as_ref().is_some_and(|version| *version != own_version) {
        return Err(location(format!("its file is {}, which is another package's", place.file)));
    }
    if !platforms.split('.').any(|platform| fits(platform, gathered.subdir())) {
        return Err(Reason::Platform {
            found: (*platforms).to_owned(),
            subdir: gathered.subdir().to_owned(),
        });
    }
    let Some(sha256) = sha256 else {
        return Err(Reason::NoHash { file: place.file, mend: gathered.mend() });
    };
    Ok(Artifact {
        name: name.to_owned(),
        version: version.unwrap_or(own_version).to_string(),
        file: place.file,
        location: place.location,
        sha256: sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
        size: None,
    })
}

/// Where sources come from, without credentials and fragment.
pub(crate) fn origin(url: &Url) -> String {
    let mut url = without_credentials(url, 0);
    url.set_fragment(None);
    plain_text(url.as_str())
}

/// Whether a wheel's platform tag is one of a subdir's. Which C library it asks for is left to who locked.
fn fits(platform: &str, subdir: &str) -> bool {
    let architecture = match subdir {
        "linux-64" => "_x86_64",
        "linux-aarch64" => "_aarch64",
        _ => return true,
    };
    let linux = ["linux_", "manylinux", "musllinux"].iter().any(|start| platform.starts_with(start));
    platform == "any" || (linux && platform.ends_with(architecture))
}

/// PEP 503.
pub(crate) fn normalised(name: &str) -> String {
    let mut normalised = String::with_capacity(name.len());
    for char in name.chars() {
        if !matches!(char, '-' | '_' | '.') {
            normalised.push(char.to_ascii_lowercase());
        } else if !normalised.ends_with('-') {
            normalised.push('-');
        }
    }
    normalised
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::Noarch;

    const HASH: [u8; 32] = [0xab; 32];

    #[track_caller]
    fn check(name: &str, version: &str, url: &str, subdir: &str, expect: &str) {
        let gathered = Gathered::new(subdir, Noarch::Known, "lock again");
        let place = Place::of_url(&Url::parse(url).unwrap()).unwrap();
        let version = (!version.is_empty()).then(|| Version::from_str(version).unwrap());
        let found = match wheel(name, version, place, Some(&HASH), &gathered) {
            Ok(artifact) => format!("{} {}", artifact.version, artifact.file),
            Err(Reason::Source { origin }) => format!("sources {origin}"),
            Err(Reason::Platform { found, .. }) => format!("for {found}"),
            Err(Reason::Location { message }) => message,
            Err(reason) => format!("{reason:?}"),
        };
        assert_eq!(found, expect);
    }

    #[test]
    fn wheels() {
        let any = "https://example.org/a_b-1.0-py3-none-any.whl";
        check("a-b", "1.0", any, "linux-64", "1.0 a_b-1.0-py3-none-any.whl");
        check("a-b", "1", any, "linux-64", "1 a_b-1.0-py3-none-any.whl");
        check("a-b", "", any, "linux-64", "1.0 a_b-1.0-py3-none-any.whl");
        let local = "https://example.org/torch-2.9.0%2Bcu128-1-cp311-cp311-manylinux_2_28_x86_64.whl";
        let file = "torch-2.9.0+cu128-1-cp311-cp311-manylinux_2_28_x86_64.whl";
        check("torch", "2.9.0+cu128", local, "linux-64", &format!("2.9.0+cu128 {file}"));
        let both = "https://example.org/a-1-cp3-abi3-manylinux_2_5_i686.manylinux2014_x86_64.whl";
        check("a", "1", both, "linux-64", "1 a-1-cp3-abi3-manylinux_2_5_i686.manylinux2014_x86_64.whl");
    }

    #[test]
    fn other_platforms() {
        let mac = "https://example.org/a-1-cp311-cp311-macosx_11_0_arm64.whl";
        check("a", "1", mac, "linux-aarch64", "for macosx_11_0_arm64");
        let arm = "https://example.org/a-1-cp311-cp311-manylinux_2_28_aarch64.whl";
        check("a", "1", arm, "linux-64", "for manylinux_2_28_aarch64");
        check("a", "1", arm, "linux-aarch64", "1 a-1-cp311-cp311-manylinux_2_28_aarch64.whl");
    }

    #[test]
    fn what_is_no_wheel_of_the_package() {
        check("a", "1", "https://example.org/a-1.tar.gz", "linux-64", "sources a-1.tar.gz");
        check("a", "1", "https://example.org/a-1-py3.whl", "linux-64", "\"a-1-py3.whl\" is no wheel's name");
        let b = "its file is b-1-py3-none-any.whl, which is another package's";
        check("a", "1", "https://example.org/b-1-py3-none-any.whl", "linux-64", b);
        let two = "its file is a-2-py3-none-any.whl, which is another package's";
        check("a", "1", "https://example.org/a-2-py3-none-any.whl", "linux-64", two);
        let none = "\"a-x-py3-none-any.whl\" has no version in it";
        check("a", "1", "https://example.org/a-x-py3-none-any.whl", "linux-64", none);
    }

    #[test]
    fn names() {
        let check = |name: &str, expect: &str| assert_eq!(normalised(name), expect);
        check("Flask_SQLAlchemy", "flask-sqlalchemy");
        check("zope.interface", "zope-interface");
        check("a-_.b", "a-b");
    }
}
