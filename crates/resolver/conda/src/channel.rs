//! Channels as they are written → what rattler's gateway asks.
//!
//! Not rattler's own reading: that resolves paths against the current folder and `~` against HOME, neither of which may decide
//! what is installed.

use std::path::Path;

use rattler_conda_types::{Channel, ChannelUrl};
use rattler_repodata_gateway::{MultiSource, Source};
use url::Url;

use crate::location::{portable, without_credentials};

/// Where channels are that are written as names.
const ALIAS: &str = "https://conda.anaconda.org/";

/// Conda's own group of channels, on Linux.
const DEFAULTS: &str = "defaults";
const DEFAULT_CHANNELS: [&str; 2] =
    ["https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r"];

/// A channel, or a group of them under one name.
#[derive(Clone)]
pub(crate) struct Asked {
    /// What the gateway asks.
    pub source: Source,
    /// What a requirement on the channel is compared with.
    pub channel: Channel,
    /// How records are named in what is returned: with another beginning than in what is asked.
    pub renamed: Vec<(Url, Url)>,
    /// Whether the network is needed.
    pub remote: bool,
}

/// A channel by its name, URL or path. A relative path begins with `./` or `../` and is relative to `base`.
///
/// # Errors
/// A sentence that says what channels are.
pub(crate) fn channel(text: &str, base: &Path) -> Result<Asked, String> {
    if text == DEFAULTS {
        let members = DEFAULT_CHANNELS.map(|url| Ok(Source::Channel(one(&parse(url)?))));
        let members = members.into_iter().collect::<Result<Vec<_>, String>>()?;
        let group = MultiSource::new(DEFAULTS, members).map_err(|error| error.to_string())?;
        let channel = Channel { name: Some(DEFAULTS.to_owned()), ..one(&parse(ALIAS)?) };
        return Ok(Asked { source: Source::Multi(group), channel, renamed: Vec::new(), remote: true });
    }
    let (url, origin) = if text.contains("://") {
        let url = parse(text)?;
        match url.scheme() {
            "http" | "https" => {}
            "file" if url.to_file_path().is_ok() => {}
            "file" => return Err("the file URL names no path of this machine".to_owned()),
            scheme => return Err(format!("`{scheme}` channels are not read: use `https` or `file`")),
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("the URL of a channel is that of a folder".to_owned());
        }
        let origin = without_credentials(&url, 0);
        (url, origin)
    } else if text.starts_with('/') || text == "." || text.starts_with("./") || text.starts_with("../") {
        let path = base.join(text);
        let url = Url::from_directory_path(&path).map_err(|()| "it is no path".to_owned())?;
        // Once more, for what `..` takes away: that is what the records of the channel begin with.
        let url = parse(url.as_str())?;
        let origin = portable(Path::new(text)).ok_or("it is no path")?;
        (url, origin)
    } else {
        let clean = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
        let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(clean);
        if !text.split('/').all(part) {
            return Err(
                "write a name (`conda-forge`), a URL, or a path that begins with `./` or `/`".to_owned()
            );
        }
        let url = parse(&format!("{ALIAS}{text}"))?;
        (url.clone(), url)
    };
    let remote = url.scheme() != "file";
    let channel = one(&url);
    let (url, origin) = (folder(channel.base_url.url()), folder(&origin));
    let renamed = if url == origin { Vec::new() } else { vec![(url, origin)] };
    Ok(Asked { source: Source::Channel(channel.clone()), channel, renamed, remote })
}

/// A channel as a message may show it.
pub(crate) fn shown(text: &str) -> String {
    let shown = match Url::parse(text) {
        Ok(url) if text.contains("://") => without_credentials(&url, 0).to_string(),
        _ => text.to_owned(),
    };
    crate::error::plain_text(&shown)
}

/// A URL of a record, with the beginning that it has in what is returned.
pub(crate) fn rename(url: &Url, renamed: &[(Url, Url)]) -> Url {
    let found = renamed.iter().find_map(|(asked, origin)| {
        let rest = url.as_str().strip_prefix(asked.as_str())?;
        Url::parse(&format!("{origin}{rest}")).ok()
    });
    found.unwrap_or_else(|| url.clone())
}

fn one(url: &Url) -> Channel {
    Channel::from_url(ChannelUrl::from(url.clone()))
}

/// With a slash at the end.
fn folder(url: &Url) -> Url {
    let mut url = url.clone();
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    url
}

fn parse(text: &str) -> Result<Url, String> {
    Url::parse(text).map_err(|error| format!("it is no URL: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is asked and what a record of the channel says.
    #[track_caller]
    fn check(text: &str, asked: &str, record: &str) {
        let found = channel(text, Path::new("/home/me/project")).unwrap();
        assert_eq!(found.channel.base_url.as_str(), asked);
        let file = found.channel.base_url.url().join("linux-64/a-1-0.conda").unwrap();
        assert_eq!(rename(&file, &found.renamed).as_str(), format!("{record}linux-64/a-1-0.conda"));
    }

    #[track_caller]
    fn refused(text: &str, expect: &str) {
        let error = channel(text, Path::new("/home/me/project")).err().expect("an error");
        assert!(error.contains(expect), "{text}: {error}");
    }

    #[test]
    fn names() {
        let forge = "https://conda.anaconda.org/conda-forge/";
        check("conda-forge", forge, forge);
        let cuda = "https://conda.anaconda.org/nvidia/label/cuda-12.8.0/";
        check("nvidia/label/cuda-12.8.0", cuda, cuda);
        let defaults = channel("defaults", Path::new("/")).unwrap();
        assert!(matches!(defaults.source, Source::Multi(_)));
    }

    #[test]
    fn urls_without_their_credentials() {
        check("https://example.org/a", "https://example.org/a/", "https://example.org/a/");
        check(
            "https://me:secret@example.org/a",
            "https://me:secret@example.org/a/",
            "https://example.org/a/",
        );
        check("https://example.org/t/to-ken/a/", "https://example.org/t/to-ken/a/", "https://example.org/a/");
        assert_eq!(shown("https://me:secret@example.org/a"), "https://example.org/a");
    }

    #[test]
    fn paths_that_do_not_say_where_the_project_lies() {
        check("file:///srv/channel", "file:///srv/channel/", "file:///srv/channel/");
        check("/srv/channel", "file:///srv/channel/", "file:///srv/channel/");
        check("./my channel", "file:///home/me/project/my%20channel/", "file:///my%20channel/");
        check("../channel", "file:///home/me/channel/", "file:///channel/");
    }

    #[test]
    fn what_is_none() {
        refused("", "write a name");
        refused("~/channel", "write a name");
        refused("conda-forge/../other", "write a name");
        refused("conda-forge[linux-64]", "write a name");
        refused("$CHANNEL", "write a name");
        refused("s3://bucket/channel", "`s3` channels are not read");
        refused("file://host/channel", "names no path");
        refused("https://example.org/a?b", "that of a folder");
        refused("https://", "no URL");
    }
}
