//! uv's distributions → [`Artifact`]s.
//!
//! All that can't be installed is gathered before anything is refused, so that one run tells everything there is to mend.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr as _;

use imgforge_resolver_core::{Artifact, Location};
use uv_distribution_filename::WheelFilename;
use uv_distribution_types::{
    BuiltDist, Dist, Name as _, Node, RegistryBuiltWheel, Resolution, ResolvedDist, SourceDist,
};
use uv_normalize::PackageName;
use uv_pypi_types::{HashAlgorithm, HashDigest, HashDigests};

use crate::error::{Error, Reason, Unusable, plain_text};

/// The artifacts of a selection, and what is wrong with it.
pub(crate) struct Gathered {
    artifacts: BTreeMap<String, Artifact>,
    unusable: Vec<Unusable>,
    /// Packages of which a source distribution will do.
    built: Vec<PackageName>,
    /// The command that adds missing hashes.
    mend: &'static str,
}

impl Gathered {
    pub(crate) fn new(mend: &'static str) -> Self {
        Self { artifacts: BTreeMap::new(), unusable: Vec::new(), built: Vec::new(), mend }
    }

    /// Takes source distributions of these packages for what they are.
    pub(crate) fn building(mut self, names: Vec<PackageName>) -> Self {
        self.built = names;
        self
    }

    pub(crate) fn refuse(&mut self, name: &str, version: Option<String>, reason: Reason) {
        let unusable = Unusable { name: name.to_owned(), version, reason };
        if !self.unusable.contains(&unusable) {
            self.unusable.push(unusable);
        }
    }

    pub(crate) fn insert(&mut self, artifact: Artifact) {
        let name = artifact.name.clone();
        let version = artifact.version.clone();
        if let Some(other) = self.artifacts.insert(name.clone(), artifact.clone())
            && other != artifact
        {
            self.refuse(&name, Some(version), Reason::Twice);
        }
    }

    /// Whether anything of it can't be installed.
    pub(crate) fn is_refused(&self) -> bool {
        !self.unusable.is_empty()
    }

    /// Every installable node of a resolution.
    ///
    /// `project` is the folder of the lock: a source tree there is the project itself, which is not installed.
    pub(crate) fn extend(&mut self, resolution: &Resolution, project: &Path) {
        for node in resolution.graph().node_weights() {
            let Node::Dist { dist, hashes, install: true } = node else { continue };
            let ResolvedDist::Installable { dist, version } = dist else { continue };
            let version = version.as_ref().map(ToString::to_string);
            match dist.as_ref() {
                Dist::Built(wheel) => self.wheel(wheel, version, hashes),
                Dist::Source(source) if self.built.contains(source.name()) => {
                    self.sdist(source, version, hashes);
                }
                Dist::Source(source) => self.source(source, version, project),
            }
        }
    }

    fn wheel(&mut self, dist: &BuiltDist, version: Option<String>, node: &HashDigests) {
        let (filename, hashes, url, size) = match dist {
            BuiltDist::Registry(dist) => {
                let wheel = dist.best_wheel();
                // The node's hashes are of every file of the version; only the wheel's own will do.
                (&wheel.filename, &wheel.file.hashes, registry_url(wheel), wheel.file.size)
            }
            BuiltDist::DirectUrl(dist) => {
                (&dist.filename, node, Ok(dist.location.as_str().to_owned()), dist.size)
            }
            BuiltDist::Path(dist) => (&dist.filename, node, Ok(dist.url.as_str().to_owned()), None),
            BuiltDist::GitPath(dist) => {
                let origin = format!("git {}", dist.git.url());
                return self.refuse(dist.filename.name.as_ref(), version, Reason::Source { origin });
            }
        };
        self.file(filename, version, sha256(hashes.as_slice()), url, size);
    }

    /// One wheel, whose hash may be missing and whose URL may be none.
    pub(crate) fn file(
        &mut self,
        filename: &WheelFilename,
        version: Option<String>,
        sha256: Option<String>,
        url: Result<String, String>,
        size: Option<u64>,
    ) {
        let name = filename.name.to_string();
        let version = version.unwrap_or_else(|| filename.version.to_string());
        let Some(sha256) = sha256 else {
            let reason = Reason::NoHash { file: filename.to_string(), mend: self.mend };
            return self.refuse(&name, Some(version), reason);
        };
        let place = url.and_then(|url| {
            let location = location(&url)?;
            let file = file_name(filename, &location)?;
            Ok((location, file))
        });
        match place {
            Ok((location, file)) => self.insert(Artifact { name, version, file, location, sha256, size }),
            Err(message) => {
                self.refuse(&name, Some(version), Reason::Location { message: plain_text(&message) })
            }
        }
    }

    /// A source distribution that somebody builds.
    fn sdist(&mut self, dist: &SourceDist, version: Option<String>, node: &HashDigests) {
        let name = dist.name().to_string();
        let (url, hashes, size) = match dist {
            SourceDist::Registry(dist) => {
                let url = dist.file.url.to_url().map(|url| url.as_str().to_owned());
                (url.map_err(|error| error.to_string()), dist.file.hashes.as_slice(), dist.file.size)
            }
            SourceDist::DirectUrl(dist) => (Ok(dist.location.as_str().to_owned()), node.as_slice(), None),
            SourceDist::Path(dist) => (Ok(dist.url.as_str().to_owned()), node.as_slice(), None),
            _ => {
                let origin = dist.to_string();
                return self.refuse(&name, version, Reason::Source { origin });
            }
        };
        self.sdist_file(&name, version, sha256(hashes), url, size);
    }

    /// One source distribution, whose hash may be missing and whose URL may be none.
    pub(crate) fn sdist_file(
        &mut self,
        name: &str,
        version: Option<String>,
        sha256: Option<String>,
        url: Result<String, String>,
        size: Option<u64>,
    ) {
        let name = name.to_owned();
        let Some(sha256) = sha256 else {
            let reason = Reason::NoHash { file: name.clone(), mend: self.mend };
            return self.refuse(&name, version, reason);
        };
        let place = url.and_then(|url| {
            let location = location(&url)?;
            let end = match &location {
                Location::Path(path) => path.to_string_lossy().into_owned(),
                Location::Url(url) => url.split('?').next().unwrap_or_default().to_owned(),
            };
            let file = end.rsplit('/').next().unwrap_or_default();
            let file =
                percent_encoding::percent_decode_str(file).decode_utf8().unwrap_or_default().into_owned();
            let clean = |char: char| char.is_ascii_alphanumeric() || "-_.+!".contains(char);
            match file.chars().all(clean) && !file.is_empty() && !file.starts_with('.') {
                true => Ok((location, file)),
                false => Err(format!("{file:?} is no file name of a source distribution")),
            }
        });
        let version = version.unwrap_or_default();
        match place {
            Ok((location, file)) => self.insert(Artifact { name, version, file, location, sha256, size }),
            Err(message) => {
                self.refuse(&name, Some(version), Reason::Location { message: plain_text(&message) });
            }
        }
    }

    fn source(&mut self, dist: &SourceDist, version: Option<String>, project: &Path) {
        let origin = match dist {
            SourceDist::Registry(dist) => dist.file.filename.to_string(),
            SourceDist::DirectUrl(dist) => dist.location.to_string(),
            SourceDist::Path(dist) => dist.install_path.display().to_string(),
            SourceDist::GitPath(dist) => format!("git {}", dist.git.url()),
            SourceDist::GitDirectory(dist) => format!("git {}", dist.git.url()),
            // A virtual project has nothing to install, only dependencies.
            SourceDist::Directory(dist) if dist.r#virtual == Some(true) => return,
            SourceDist::Directory(dist) if dist.install_path.as_ref() == project => return,
            SourceDist::Directory(dist) => {
                let path = dist.install_path.to_path_buf();
                return self.refuse(dist.name.as_ref(), version, Reason::Directory { path });
            }
        };
        self.refuse(dist.name().as_ref(), version, Reason::Source { origin });
    }

    /// The artifacts by name.
    pub(crate) fn finish(mut self, file: &Path) -> Result<Vec<Artifact>, Error> {
        if self.unusable.is_empty() {
            return Ok(self.artifacts.into_values().collect());
        }
        self.unusable.sort_by(|a, b| a.name.cmp(&b.name));
        Err(Error::Unusable { file: file.to_owned(), packages: self.unusable })
    }
}

/// Where an index says that a wheel is.
pub(crate) fn registry_url(wheel: &RegistryBuiltWheel) -> Result<String, String> {
    wheel.file.url.to_url().map(|url| url.as_str().to_owned()).map_err(|error| error.to_string())
}

/// The SHA-256 among hashes: 64 lower-case hexadecimal digits. Two different ones are as good as none.
pub(crate) fn sha256(hashes: &[HashDigest]) -> Option<String> {
    let mut found = sha256s(hashes);
    found.dedup();
    if found.len() == 1 { found.pop() } else { None }
}

/// Every well-formed SHA-256 among hashes, sorted.
pub(crate) fn sha256s(hashes: &[HashDigest]) -> Vec<String> {
    let mut found: Vec<String> = hashes
        .iter()
        .filter(|hash| hash.algorithm() == HashAlgorithm::Sha256)
        .map(|hash| hash.digest.to_ascii_lowercase())
        .filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .collect();
    found.sort_unstable();
    found
}

/// A URL without credentials and fragment; a `file` URL is a path.
fn location(url: &str) -> Result<Location, String> {
    let mut url = url::Url::parse(url).map_err(|error| format!("no URL: {error}"))?;
    url.set_fragment(None);
    match url.scheme() {
        "file" => url
            .to_file_path()
            .map(Location::Path)
            .map_err(|()| format!("{url} names no path of this machine")),
        "http" | "https" => {
            // Both fail only for URLs without a host, which these schemes don't have.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            Ok(Location::Url(url.into()))
        }
        scheme => Err(format!("`{scheme}` URLs are not fetched")),
    }
}

/// The wheel that a URL ends in.
pub(crate) fn wheel_name(url: &str) -> Option<WheelFilename> {
    let url = url::Url::parse(url).ok()?;
    let last = url.path_segments()?.next_back()?;
    let name = percent_encoding::percent_decode_str(last).decode_utf8().ok()?;
    WheelFilename::from_str(&name).ok()
}

/// The wheel's file name: as it is at its location where that is a wheel's, else normalised.
fn file_name(filename: &WheelFilename, location: &Location) -> Result<String, String> {
    let given = match location {
        Location::Path(path) => path.file_name().and_then(|name| name.to_str()).map(str::to_owned),
        Location::Url(url) => url::Url::parse(url).ok().and_then(|url| {
            let last = url.path_segments()?.next_back()?;
            percent_encoding::percent_decode_str(last).decode_utf8().ok().map(|name| name.into_owned())
        }),
    };
    let name = given
        .filter(|given| WheelFilename::from_str(given).is_ok_and(|given| given == *filename))
        .unwrap_or_else(|| filename.to_string());
    let clean = |char: char| char.is_ascii_alphanumeric() || "-_.+!".contains(char);
    if name.chars().all(clean) && !name.starts_with('.') {
        Ok(name)
    } else {
        Err(format!("{name:?} is no wheel's file name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expect: Result<&str, &str>) {
        let found = location(url).map(|location| match location {
            Location::Url(url) => url,
            Location::Path(path) => path.display().to_string(),
        });
        assert_eq!(found.as_deref().map_err(String::as_str), expect, "{url}");
    }

    #[test]
    fn credentials_and_fragments_go() {
        check("https://me:secret@example.org/a.whl?x=1#sha256=00", Ok("https://example.org/a.whl?x=1"));
        check("https://token@example.org/a.whl", Ok("https://example.org/a.whl"));
    }

    #[test]
    fn files_are_paths() {
        check("file:///srv/my%20wheels/a.whl", Ok("/srv/my wheels/a.whl"));
    }

    #[test]
    fn other_schemes_are_refused() {
        check("ftp://example.org/a.whl", Err("`ftp` URLs are not fetched"));
    }

    #[test]
    fn file_names() {
        let name = |text: &str| WheelFilename::from_str(text).expect("a wheel's name");
        let check = |wheel: &str, url: &str, expect: &str| {
            let location = location(url).expect("a location");
            assert_eq!(file_name(&name(wheel), &location).as_deref(), Ok(expect));
        };
        let torch = "torch-2.9.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl";
        check(torch, "https://example.org/torch-2.9.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl", torch);
        check("a-1.0-py3-none-any.whl", "https://example.org/download/17", "a-1.0-py3-none-any.whl");
        check(
            "a-1.0-py3-none-any.whl",
            "https://example.org/A-1.0-py3-none-any.whl",
            "A-1.0-py3-none-any.whl",
        );
    }
}
