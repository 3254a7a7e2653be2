//! Package indexes, which say where files are whose URLs a lock does not have.
//!
//! For a requirements.txt, uv's resolver asks and chooses. Where the lock itself has the names of files, as a poetry.lock
//! does, [`places`] asks and an index chooses nothing: only the file with the locked name and hash will do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures::{StreamExt as _, TryStreamExt as _};
use imgforge_resolver_core::Artifact;
use tokio::sync::Semaphore;
use uv_cache::Cache;
use uv_client::{BaseClientBuilder, Connectivity, ErrorKind, MetadataFormat, OwnedArchive};
use uv_client::{RegistryClient, RegistryClientBuilder};
use uv_distribution_filename::DistFilename;
use uv_distribution_types::{
    File, Index, IndexCapabilities, IndexFormat, IndexLocations, IndexMetadataRef, IndexUrl,
};

use crate::artifact::sha256;
use crate::error::{Error, Reason, plain, plain_text};
use crate::uv_lock::folder;

/// Requests to an index at a time.
pub(crate) const REQUESTS: usize = 16;

/// The index of whatever names none.
const PYPI: &str = "https://pypi.org/simple";

/// Where files are looked for whose URLs a lock does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes {
    /// The index (PEP 503 or 691), instead of PyPI and of the file's `--index-url`.
    pub index: Option<String>,
    /// Indexes that are asked first, before the file's own.
    pub extra: Vec<String>,
    /// Folders or pages of links to wheels.
    pub find_links: Vec<String>,
    /// The folder in which answers are kept, in uv's own layout.
    pub cache: PathBuf,
    /// Whether only what is in the cache may be used.
    pub offline: bool,
}

impl Indexes {
    pub(crate) fn connectivity(&self) -> Connectivity {
        if self.offline { Connectivity::Offline } else { Connectivity::Online }
    }

    /// A client for `locations`, whose answers are kept in the cache that comes with it. `file` is the lock.
    pub(crate) async fn client(
        &self,
        locations: &IndexLocations,
        file: &Path,
    ) -> Result<(RegistryClient, Cache), Error> {
        let cache = Cache::from_path(&self.cache).init().await.map_err(|error| index_error(file, &error))?;
        let base = BaseClientBuilder::default().connectivity(self.connectivity()).with_system_certs(true);
        let client = RegistryClientBuilder::new(base, cache.clone())
            .index_locations(locations.clone())
            .build()
            .map_err(|error| index_error(file, &error))?;
        Ok((client, cache))
    }

    /// The given indexes and folders; a relative one is relative to the lock's folder. Those to ask first come first.
    pub(crate) fn given(&self, file: &Path) -> Result<(Vec<Index>, Vec<Index>), Error> {
        let folder = folder(file)?;
        let parse =
            |text: &String| IndexUrl::parse(text, Some(&folder)).map_err(|error| index_error(file, &error));
        let extra = self.extra.iter().map(|url| parse(url).map(Index::from_extra_index_url));
        let index = self.index.iter().map(|url| parse(url).map(Index::from_index_url));
        let links = self.find_links.iter().map(|url| parse(url).map(Index::from_find_links));
        Ok((extra.chain(index).collect::<Result<_, _>>()?, links.collect::<Result<_, _>>()?))
    }
}

/// What the requests run on.
pub(crate) fn runtime(file: &Path) -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Error::Internal { file: file.to_owned(), message: error.to_string() })
}

pub(crate) fn index_error(file: &Path, error: &dyn std::error::Error) -> Error {
    Error::Index { file: file.to_owned(), message: plain(error) }
}

/// A wheel or a source distribution of which everything is known but its place.
pub(crate) struct Wanted {
    pub(crate) filename: DistFilename,
    /// 64 lower-case hexadecimal digits.
    pub(crate) sha256: String,
    /// The URL of the index that the lock names for it; `None` is PyPI, or what is given in its place.
    pub(crate) index: Option<String>,
}

impl Wanted {
    /// Whether it is this file, byte by byte.
    pub(crate) fn is(&self, artifact: &Artifact) -> bool {
        artifact.sha256 == self.sha256
            && DistFilename::try_from_filename(&artifact.file, self.filename.name()).as_ref()
                == Some(&self.filename)
    }

    /// The index to ask after those that are given.
    fn own<'a>(&'a self, indexes: &Indexes) -> Option<&'a str> {
        match (&self.index, &indexes.index) {
            (Some(url), _) => Some(url),
            (None, Some(_)) => None,
            (None, None) => Some(PYPI),
        }
    }
}

/// Where a file is.
pub(crate) struct Place {
    pub(crate) url: Result<String, String>,
    /// Bytes, where the index says so.
    pub(crate) size: Option<u64>,
}

/// The place of each file, or why it has none: [`Reason::Missing`], [`Reason::OtherHash`]. `mend` is the command that
/// locks again.
pub(crate) async fn places(
    wanted: &[Wanted],
    indexes: &Indexes,
    file: &Path,
    mend: &'static str,
) -> Result<Vec<Result<Place, Reason>>, Error> {
    let (given, links) = indexes.given(file)?;
    let mut own = BTreeMap::new();
    for url in wanted.iter().filter_map(|wanted| wanted.own(indexes)) {
        own.insert(url, IndexUrl::parse(url, None).map_err(|error| index_error(file, &error))?);
    }
    // All of them, so that the client knows whose credentials it may look for.
    let all = given.iter().cloned().chain(own.values().cloned().map(Index::from_extra_index_url));
    let locations = IndexLocations::new(all.collect(), links, false);
    let (client, _) = indexes.client(&locations, file).await?;
    let inquiry = Inquiry {
        client,
        given: given.into_iter().map(|index| index.url).collect(),
        capabilities: IndexCapabilities::default(),
        requests: Semaphore::new(REQUESTS),
        file,
        mend,
        offline: indexes.offline,
    };
    let inquiry = &inquiry;
    futures::stream::iter(wanted)
        .map(|wanted| inquiry.place(wanted, wanted.own(indexes).and_then(|url| own.get(url))))
        .buffered(REQUESTS)
        .try_collect()
        .await
}

struct Inquiry<'a> {
    client: RegistryClient,
    given: Vec<IndexUrl>,
    capabilities: IndexCapabilities,
    requests: Semaphore,
    file: &'a Path,
    mend: &'static str,
    offline: bool,
}

impl Inquiry<'_> {
    async fn place(&self, wanted: &Wanted, own: Option<&IndexUrl>) -> Result<Result<Place, Reason>, Error> {
        let mut other = None;
        let links = self.client.find_links_entries(wanted.filename.name(), &self.requests).await;
        let links = links.map_err(|error| index_error(self.file, &error))?;
        let links = links.into_iter().map(|entry| entry.into_parts()).map(|(name, file, _)| (name, file));
        if let Some(place) = found(wanted, links, &mut other) {
            return Ok(Ok(place));
        }
        let mut asked = Vec::new();
        for index in self.given.iter().chain(own) {
            let files = self.files(wanted, index).await?;
            if let Some(place) = found(wanted, files, &mut other) {
                return Ok(Ok(place));
            }
            let refused = self.capabilities.unauthorized(index) || self.capabilities.forbidden(index);
            let refused = if refused { " (which lets nobody in without credentials)" } else { "" };
            // The URL in this form has no credentials.
            asked.push(plain_text(&format!("{}{refused}", index.url())));
        }
        let file = wanted.filename.to_string();
        Ok(Err(match other {
            Some(index) => {
                Reason::OtherHash { file, index, locked: vec![wanted.sha256.clone()], mend: self.mend }
            }
            None => Reason::Missing { file, asked, offline: self.offline, mend: self.mend },
        }))
    }

    /// What an index has of the package's name; nothing where it does not know it.
    async fn files(&self, wanted: &Wanted, index: &IndexUrl) -> Result<Vec<(DistFilename, File)>, Error> {
        let name = wanted.filename.name();
        let index = IndexMetadataRef { url: index, format: IndexFormat::Simple };
        match self.client.simple_detail(name, Some(index), &self.capabilities, &self.requests).await {
            Ok(answers) => Ok(answers
                .into_iter()
                .flat_map(|(_, answer)| match answer {
                    MetadataFormat::Simple(page) => {
                        let versions = OwnedArchive::deserialize(&page).into_iter();
                        versions
                            .filter(|it| it.version == *wanted.filename.version())
                            .flat_map(|it| it.files.all(name).collect::<Vec<_>>())
                            .collect()
                    }
                    MetadataFormat::Flat(entries) => entries
                        .into_iter()
                        .map(|entry| entry.into_parts())
                        .map(|(filename, file, _)| (filename, file))
                        .collect::<Vec<_>>(),
                })
                .collect()),
            Err(error) => match error.kind() {
                ErrorKind::RemotePackageNotFound(_) | ErrorKind::Offline(_) => Ok(Vec::new()),
                _ => Err(index_error(self.file, &error)),
            },
        }
    }
}

/// The file among others. An index need not publish hashes: what is fetched is compared anyway. `other` is set to the
/// hash of a file that has the name and not the bytes.
fn found(
    wanted: &Wanted,
    files: impl IntoIterator<Item = (DistFilename, File)>,
    other: &mut Option<String>,
) -> Option<Place> {
    for (filename, file) in files {
        if filename != wanted.filename {
            continue;
        }
        match sha256(file.hashes.as_slice()) {
            Some(hash) if hash != wanted.sha256 => *other = Some(hash),
            _ => {
                let url = file.url.to_url().map(|url| url.as_str().to_owned());
                return Some(Place { url: url.map_err(|error| error.to_string()), size: file.size });
            }
        }
    }
    None
}
