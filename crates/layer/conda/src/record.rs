//! What `conda-meta` has of a package.

use imgforge_layer::TreePath;
use imgforge_oci::Digest;
use rattler_conda_types::package::IndexJson;
use rattler_conda_types::prefix_record::PathsEntry;
use rattler_conda_types::{PackageRecord, PrefixRecord, RepoDataRecord};
use url::Url;

use crate::metadata::check_identity;
use crate::{Package, Problem};

/// The record of an installed package: `conda-meta/NAME-VERSION-BUILD.json`.
///
/// It is what rattler's installer writes, less what tells of the host that it ran on: the folder that the package was
/// unpacked in (`extracted_package_dir`, `link`). Of a package from a folder, `url` and `channel` don't say which folder;
/// credentials in a URL are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record(pub(crate) PrefixRecord);

/// A text that is no record of an installed package.
#[derive(Debug, thiserror::Error)]
#[error("this is no record of an installed package: {reason}")]
pub struct RecordError {
    /// What is wrong.
    pub reason: String,
}

impl Record {
    /// Reads a record back.
    ///
    /// # Errors
    /// [`RecordError`] for anything but the JSON of a record.
    pub fn parse(json: &str) -> Result<Self, RecordError> {
        serde_json::from_str(json).map(Self).map_err(|error| RecordError { reason: error.to_string() })
    }

    /// The file's text: JSON, indented, without a line break behind it, as rattler writes it.
    ///
    /// # Errors
    /// [`RecordError`] for a path that is not UTF-8, which no package has.
    pub fn json(&self) -> Result<String, RecordError> {
        serde_json::to_string_pretty(&self.0).map_err(|error| RecordError { reason: error.to_string() })
    }

    /// The package's name, normalised.
    pub fn name(&self) -> &str {
        self.0.name().as_normalized()
    }

    /// The file's name in `conda-meta`.
    pub fn file_name(&self) -> String {
        self.0.file_name()
    }

    pub(crate) fn new(record: RepoDataRecord, mut paths: Vec<PathsEntry>) -> Self {
        paths.sort_by(|a, b| a.relative_path.cmp(&b.relative_path));
        Self(PrefixRecord::from_repodata_record(record, paths))
    }

    /// Where the file is, for an environment at a prefix.
    pub(crate) fn path(&self, prefix: &TreePath) -> Result<TreePath, imgforge_layer::TreeError> {
        prefix.join(&format!("conda-meta/{}", self.file_name()))
    }
}

/// The package's entry in its channel's index: the lock's, or as far as the package itself knows it.
pub(crate) fn repodata(
    package: &Package<'_>,
    index: IndexJson,
    size: u64,
) -> Result<RepoDataRecord, Problem> {
    let error = |reason: String| Problem::Record { reason };
    if let Some(value) = package.record {
        let mut record: RepoDataRecord =
            serde_json::from_value(value.clone()).map_err(|source| error(source.to_string()))?;
        let PackageRecord { name, version, build, subdir, .. } = &record.package_record;
        let expected = [name.as_source(), &version.as_str(), build.as_str()];
        check_identity(&index, expected, "the lock")?;
        let (local_url, local_channel) = local_channel(subdir, package.file_name)?;
        record.url = public(&record.url).unwrap_or(local_url);
        record.channel = record.channel.map(|channel| public_channel(&channel).unwrap_or(local_channel));
        return Ok(record);
    }
    let identifier =
        package.file_name.parse().map_err(|_| error(format!("`{}` is no file name", package.file_name)))?;
    let sha256 = package.sha256.map(|digest| (*digest.as_bytes()).into());
    let md5 = package.md5.map(md5_bytes).transpose()?.map(Into::into);
    let package_record = PackageRecord::from_index_json(index, Some(size), sha256, md5)
        .map_err(|source| error(source.to_string()))?;
    let url = match package.url {
        Some(url) => public(&Url::parse(url).map_err(|source| error(format!("its URL: {source}")))?),
        None => None,
    };
    let (url, channel) = match url {
        Some(url) => {
            let folder = format!("/{}/{}", package_record.subdir, package.file_name);
            let channel = url.as_str().strip_suffix(&folder).map(str::to_owned);
            (url, channel)
        }
        None => {
            let (url, channel) = local_channel(&package_record.subdir, package.file_name)?;
            (url, Some(channel))
        }
    };
    Ok(RepoDataRecord { package_record, identifier, url, channel })
}

/// URL and channel of a package from some folder of some host.
fn local_channel(subdir: &str, file_name: &str) -> Result<(Url, String), Problem> {
    const ROOT: &str = "file:///";
    let mut url = Url::parse(ROOT).map_err(|error| Problem::Record { reason: error.to_string() })?;
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.clear().push(subdir).push(file_name);
    }
    Ok((url, ROOT.to_owned()))
}

/// A URL without what is not for everybody's eyes: credentials, tokens, queries; nothing for one of this host.
fn public(url: &Url) -> Option<Url> {
    if url.scheme() == "file" {
        return None;
    }
    let mut url = url.clone();
    // Both fail only for URLs that can have no credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    // anaconda.org's private channels: `/t/TOKEN/CHANNEL/…`.
    if let Some(token) = url.path().strip_prefix("/t/").map(str::to_owned) {
        let path = token.split_once('/').map_or("", |(_, path)| path);
        url.set_path(path);
    }
    Some(url)
}

/// A channel without what is not for everybody's eyes; nothing for a folder of this host. A name stays a name.
fn public_channel(channel: &str) -> Option<String> {
    match Url::parse(channel) {
        Ok(url) if url.has_host() || url.scheme() == "file" => public(&url).map(String::from),
        _ if channel.starts_with(['/', '.', '~']) => None,
        _ => Some(channel.to_owned()),
    }
}

fn md5_bytes(hex: &str) -> Result<[u8; 16], Problem> {
    // SHA-256 is twice as long and as strict about its digits.
    let digest = Digest::from_hex(&hex.repeat(2))
        .map_err(|_| Problem::Record { reason: format!("`{hex}` is no MD5") })?;
    let mut md5 = [0; 16];
    md5.copy_from_slice(digest.as_bytes().split_at(16).0);
    Ok(md5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_url(url: &str, expected: Option<&str>) {
        let url = Url::parse(url).unwrap();
        assert_eq!(public(&url).as_ref().map(Url::as_str), expected);
    }

    #[test]
    fn urls() {
        check_url("https://conda.anaconda.org/a/b.conda", Some("https://conda.anaconda.org/a/b.conda"));
        check_url("https://user:secret@example.org/a/b.conda", Some("https://example.org/a/b.conda"));
        check_url("https://example.org/t/token-1/a/b.conda", Some("https://example.org/a/b.conda"));
        check_url("https://example.org/a/b.conda?key=secret#sha", Some("https://example.org/a/b.conda"));
        check_url("file:///home/me/channel/noarch/b.conda", None);
    }

    #[test]
    fn channels() {
        for (channel, expected) in [
            ("conda-forge", Some("conda-forge")),
            ("https://me:secret@example.org/c", Some("https://example.org/c")),
            ("https://example.org/t/token/c/", Some("https://example.org/c/")),
            ("file:///home/me/c", None),
            ("/home/me/c", None),
            ("./c", None),
            ("~/c", None),
        ] {
            assert_eq!(public_channel(channel).as_deref(), expected, "{channel}");
        }
    }

    #[test]
    fn md5() {
        assert_eq!(md5_bytes("00112233445566778899aabbccddeeff").unwrap()[..3], [0, 0x11, 0x22]);
        for wrong in ["", "0", "00112233445566778899AABBCCDDEEFF", "zz112233445566778899aabbccddeeff"] {
            assert!(md5_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
