//! Where a lock says that a file is, checked once.
//!
//! A name that comes out of here has no separators, so that it can be joined to a folder; a URL that comes out of here has no
//! credentials, so that it can be written into images.lock and `conda-meta`.

use std::path::{Component, Path, PathBuf};

use imgforge_resolver_core::Location;
use percent_encoding::percent_decode_str;
use url::Url;

/// A file that a lock names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where its bytes are.
    pub location: Location,
    /// Where a record says that they are: the same on every machine that has the same lock.
    pub origin: Url,
    /// The file's name.
    pub file: String,
    /// The name of the folder that it is in, which in a channel is the subdir.
    pub folder: String,
}

impl Place {
    /// A file by its URL.
    ///
    /// # Errors
    /// A sentence: the URL is of no scheme that is fetched, or its last part is no name of a file.
    pub(crate) fn of_url(url: &Url) -> Result<Self, String> {
        let mut origin = url.clone();
        origin.set_fragment(None);
        let location = match url.scheme() {
            "file" => {
                let path = url
                    .to_file_path()
                    .map_err(|()| "the file URL names no path of this machine".to_owned())?;
                Location::Path(path)
            }
            "http" | "https" => {
                origin = without_credentials(&origin, 2);
                Location::Url(origin.to_string())
            }
            scheme => return Err(format!("`{scheme}` URLs are not fetched")),
        };
        let mut parts = url.path_segments().into_iter().flatten().rev();
        let file = file_name(parts.next().unwrap_or_default())?;
        let folder = parts.next().unwrap_or_default().to_owned();
        Ok(Self { location, origin, file, folder })
    }

    /// A file by its path, which is relative to `base` unless it is absolute.
    ///
    /// # Errors
    /// A sentence: there is no name of a file at the end.
    pub(crate) fn of_path(path: &str, base: &Path) -> Result<Self, String> {
        let mut parts = path.rsplit('/');
        let file = file_name(parts.next().unwrap_or_default())?;
        let folder = parts.next().unwrap_or_default().to_owned();
        let origin = portable(Path::new(path)).ok_or_else(|| format!("{path:?} is no path"))?;
        // Without `.`; what `..` leads to is known to the file system alone.
        let location = Location::Path(base.join(path).components().collect());
        Ok(Self { location, origin, file, folder })
    }
}

/// A path as a `file` URL that does not say where the project lies: of a relative one, what is below the root is taken.
pub(crate) fn portable(path: &Path) -> Option<Url> {
    let mut absolute = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(part) => absolute.push(part),
            // Of a relative path, the beginning: `../channel` is `/channel`.
            Component::ParentDir => {
                absolute.pop();
            }
            _ => {}
        }
    }
    Url::from_file_path(absolute).ok()
}

/// A URL without user, password and token (`/t/TOKEN/` at the beginning, as conda servers have it).
///
/// `beyond` is how many parts there are after the channel's: 2 for a package, 0 for the channel itself. Without that, a channel
/// that is called `t` would look like a token.
pub(crate) fn without_credentials(url: &Url, beyond: usize) -> Url {
    let mut url = url.clone();
    // Both fail only for URLs without a host, which have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let parts: Vec<&str> = url.path_segments().into_iter().flatten().collect();
    let count = parts.iter().filter(|part| !part.is_empty()).count();
    if parts.first() == Some(&"t") && count >= 3 + beyond {
        let path = parts.iter().skip(2).copied().collect::<Vec<_>>().join("/");
        url.set_path(&path);
    }
    url
}

/// The folder that a file is in, made absolute.
pub(crate) fn folder(file: &Path) -> Result<PathBuf, String> {
    let path = std::path::absolute(file).map_err(|error| format!("the file's folder is unknown: {error}"))?;
    Ok(path.parent().unwrap_or(&path).to_owned())
}

/// The last part of a URL or path, which may be percent-encoded.
fn file_name(part: &str) -> Result<String, String> {
    let name = percent_decode_str(part).decode_utf8().unwrap_or_default();
    if !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.chars().all(is_clean) {
        Ok(name.into_owned())
    } else {
        Err(format!("{part:?} is no file's name"))
    }
}

/// Whether names, versions and build strings of packages have such a character.
pub(crate) fn is_clean(char: char) -> bool {
    char.is_ascii_alphanumeric() || "-_.+!~".contains(char)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `location | origin | file | folder`.
    fn show(place: Result<Place, String>) -> String {
        place.map_or_else(
            |error| error,
            |place| {
                let location = match place.location {
                    Location::Url(url) => url,
                    Location::Path(path) => path.display().to_string(),
                };
                format!("{location} | {} | {} | {}", place.origin, place.file, place.folder)
            },
        )
    }

    fn url(text: &str, expect: &str) {
        assert_eq!(show(Place::of_url(&Url::parse(text).unwrap())), expect, "{text}");
    }

    fn path(text: &str, expect: &str) {
        assert_eq!(show(Place::of_path(text, Path::new("/home/me/project"))), expect, "{text}");
    }

    #[test]
    fn files_by_url() {
        url(
            "https://example.org/forge/linux-64/a-1.0-0.conda#0123",
            "https://example.org/forge/linux-64/a-1.0-0.conda | https://example.org/forge/linux-64/a-1.0-0.conda | \
             a-1.0-0.conda | linux-64",
        );
        url(
            "https://example.org/linux-64/x264-1%21164.3095-h1_2.tar.bz2",
            "https://example.org/linux-64/x264-1%21164.3095-h1_2.tar.bz2 | \
             https://example.org/linux-64/x264-1%21164.3095-h1_2.tar.bz2 | x264-1!164.3095-h1_2.tar.bz2 | linux-64",
        );
        url(
            "file:///srv/my%20channel/noarch/a-1-0.conda",
            "/srv/my channel/noarch/a-1-0.conda | file:///srv/my%20channel/noarch/a-1-0.conda | a-1-0.conda | noarch",
        );
    }

    #[test]
    fn files_by_path() {
        path(
            "./channel/linux-64/a-1-0.conda",
            "/home/me/project/channel/linux-64/a-1-0.conda | file:///channel/linux-64/a-1-0.conda | a-1-0.conda | \
             linux-64",
        );
        path(
            "../../channel/noarch/a-1-0.conda",
            "/home/me/project/../../channel/noarch/a-1-0.conda | file:///channel/noarch/a-1-0.conda | a-1-0.conda | noarch",
        );
        path(
            "/srv/channel/noarch/a-1-0.conda",
            "/srv/channel/noarch/a-1-0.conda | file:///srv/channel/noarch/a-1-0.conda | a-1-0.conda | noarch",
        );
    }

    #[test]
    fn names_that_are_none() {
        url("https://example.org/linux-64/", "\"\" is no file's name");
        url(
            "https://example.org/linux-64/%2e%2e%2fa-1-0.conda",
            "\"%2e%2e%2fa-1-0.conda\" is no file's name",
        );
        url("https://example.org/linux-64/a%00-1-0.conda", "\"a%00-1-0.conda\" is no file's name");
        url("https://example.org/a/linux-64/..", "\"\" is no file's name");
        url("https://example.org/linux-64/.a-1-0.conda", "\".a-1-0.conda\" is no file's name");
        path("..", "\"..\" is no file's name");
        path("C:\\channel\\a-1-0.conda", "\"C:\\\\channel\\\\a-1-0.conda\" is no file's name");
        path("a/b c-1-0.conda", "\"b c-1-0.conda\" is no file's name");
    }

    #[test]
    fn parents_in_urls_lead_nowhere_else() {
        url(
            "https://example.org/../../linux-64/a-1-0.conda",
            "https://example.org/linux-64/a-1-0.conda | https://example.org/linux-64/a-1-0.conda | a-1-0.conda | linux-64",
        );
    }

    #[test]
    fn schemes() {
        url("s3://bucket/linux-64/a-1-0.conda", "`s3` URLs are not fetched");
        url("oci://ghcr.io/linux-64/a-1-0.conda", "`oci` URLs are not fetched");
        url("file://host/linux-64/a-1-0.conda", "the file URL names no path of this machine");
    }

    #[test]
    fn credentials_go() {
        let check = |text: &str, beyond: usize, expect: &str| {
            assert_eq!(without_credentials(&Url::parse(text).unwrap(), beyond).as_str(), expect, "{text}");
        };
        check("https://me:secret@example.org/a/linux-64/x", 2, "https://example.org/a/linux-64/x");
        check("https://example.org/t/to-ken/a/linux-64/x", 2, "https://example.org/a/linux-64/x");
        check("https://example.org/t/linux-64/x", 2, "https://example.org/t/linux-64/x");
        check("https://example.org/t/to-ken/a/", 0, "https://example.org/a/");
        check("https://example.org/t/a/", 0, "https://example.org/t/a/");
    }
}
