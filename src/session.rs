//! What a request works with: the project, the store, the fetcher, credentials.
//!
//! All that is known of the host comes in as [`Surroundings`], and all that somebody asks for as [`Options`]: the program
//! fills them from its process and its arguments, the Python module from its process and a call. Which variable means
//! what is decided here, once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fs_err as fs;
use imgforge_registry::{Client, Keychain, Reference, Settings};
use imgforge_store::{Lease, Store};

use crate::cache::{self, Cache};
use crate::debian::Host;
use crate::error::Error;
use crate::fetch::{Credentials, FetchSettings, Fetcher, Mirror};
use crate::project::{OnFailure, Project, Tools};
use crate::workshop::OnProgress;

/// What is known of the host.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The variables of the process. Most are not looked at.
    pub variables: BTreeMap<OsString, OsString>,
    /// Now, in seconds since 1970.
    pub now: u64,
}

/// What somebody asks for beside the project.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The store's folder; else `IMGFORGE_STORE`, or a folder of the user's cache.
    pub store: Option<PathBuf>,
    /// Whether the network is out of bounds.
    pub offline: bool,
    /// The only file with credentials for registries; else the ones that podman and docker have.
    pub authfile: Option<PathBuf>,
    /// More certificates to trust, as PEM files.
    pub ca_files: Vec<PathBuf>,
    /// Hosts of registries that are spoken to without TLS.
    pub plain_http: Vec<String>,
}

/// Who is told what happens, and who may end it.
#[derive(Clone, Copy)]
pub struct Observer<'a> {
    /// Called with each event, from many threads.
    pub on_progress: OnProgress<'a>,
    /// Called with what a failed build of an artifact has left.
    pub shell: Option<OnFailure<'a>>,
    /// Set by somebody who wants no more of it: the work ends soon, with [`Error::Interrupted`].
    pub stop: &'a Arc<AtomicBool>,
}

/// What a request works with.
pub struct Session {
    /// images.toml and images.lock.
    pub project: Project,
    /// Where everything is kept.
    pub store: Store,
    /// Gets what is not there.
    pub fetcher: Fetcher,
    /// What is known of the host.
    pub host: Host,
    /// Talks to registries.
    pub registries: Client,
    /// Whether the network is out of bounds.
    pub offline: bool,
    /// Images whose artifacts are built.
    pub building: Vec<String>,
    /// An artifact that is built again, for comparison.
    pub rebuild: Option<String>,
    /// The cache of layers; none until [`with_cache`](Self::with_cache).
    cache: Option<Reference>,
    /// Whether the cache was given up.
    cache_is_lost: Arc<AtomicBool>,
    /// Held until the request ends, so that the collector leaves what it uses.
    _lease: Lease,
}

impl Session {
    /// Opens everything for the project at `file`.
    ///
    /// # Errors
    /// [`Error::NoProject`], or whatever stands in the way of the project, the store and the credentials.
    pub fn open(surroundings: &Surroundings, options: &Options, file: &Path) -> Result<Self, Error> {
        let project = project(file)?;
        let store = store(surroundings, options)?;
        Self::with_store(surroundings, options, project, store)
    }

    /// Opens everything but the project and the store, which are given.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn with_store(
        surroundings: &Surroundings,
        options: &Options,
        project: Project,
        store: Store,
    ) -> Result<Self, Error> {
        let settings = &project.config.settings;
        let mirrors = settings.mirrors.iter().map(|text| Mirror::parse(text)).collect::<Result<_, _>>()?;
        let fetcher = Fetcher::new(FetchSettings {
            offline: options.offline,
            vendor: vec![project.folder.join(&settings.vendor)],
            mirrors,
            credentials: credentials(surroundings)?,
            ..FetchSettings::default()
        })?;
        let registries = registries(surroundings, options, &settings.plain_http)?;
        let lease = store.lease()?;
        Ok(Self {
            project,
            store,
            fetcher,
            host: Host { root: "/".into(), now: surroundings.now },
            registries,
            offline: options.offline,
            building: Vec::new(),
            rebuild: None,
            cache: None,
            cache_is_lost: Arc::default(),
            _lease: lease,
        })
    }

    /// Uses the cache of layers that is given or that images.toml names; offline, none.
    ///
    /// # Errors
    /// [`Error::CacheName`].
    pub fn with_cache(mut self, given: Option<&str>) -> Result<Self, Error> {
        let text = given.or(self.project.config.settings.cache.as_deref()).filter(|_| !self.offline);
        let parse = |text: &str| cache::repository(text).map_err(|problem| Error::CacheName { problem });
        self.cache = text.map(parse).transpose()?;
        Ok(self)
    }

    /// The cache of layers.
    pub fn cache(&self) -> Option<Reference> {
        self.cache.clone()
    }

    /// Runs `work` with the tools that the rest of the library wants.
    ///
    /// # Errors
    /// Those of `work`; [`Error::Interrupted`] in the place of any, where the observer has ended it.
    pub fn with_tools<T>(
        &self,
        observer: &Observer<'_>,
        work: impl FnOnce(&Tools<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let reference = self.cache.clone();
        let cache =
            reference.map(|cache| Cache::new(&self.registries, cache, Arc::clone(&self.cache_is_lost)));
        let cache = cache.map(|cache| cache.until(observer.stop));
        let result = work(&Tools {
            store: &self.store,
            registries: &self.registries,
            cache: cache.as_ref(),
            vouched: None,
            fetcher: &self.fetcher,
            offline: self.offline,
            host: &self.host,
            building: &self.building,
            rebuild: self.rebuild.as_deref(),
            takes_at_once: false,
            shell: observer.shell,
            stop: observer.stop,
            on_progress: observer.on_progress,
        });
        Error::unless_stopped(observer.stop)?;
        result
    }
}

/// Opens a project, and says of one that is not there which file that is.
///
/// # Errors
/// [`Error::NoProject`], and those of [`Project::open`].
pub fn project(file: &Path) -> Result<Project, Error> {
    match file.exists() {
        true => Project::open(file),
        false => Err(Error::NoProject { file: file.to_owned() }),
    }
}

/// Opens the store: the one that is asked for, `IMGFORGE_STORE`, or a folder of the user's cache.
///
/// # Errors
/// [`Error::NoStore`], and those of [`Store::open`].
pub fn store(surroundings: &Surroundings, options: &Options) -> Result<Store, Error> {
    let folder = options
        .store
        .clone()
        .or_else(|| surroundings.path("IMGFORGE_STORE"))
        .or_else(|| Some(surroundings.path("XDG_CACHE_HOME")?.join("imgforge")))
        .or_else(|| Some(surroundings.path("HOME")?.join(".cache/imgforge")))
        .ok_or(Error::NoStore)?;
    Ok(Store::open(std::path::absolute(folder)?)?)
}

/// Prepares for talking to registries: opens no connection.
///
/// # Errors
/// [`Error::Io`] for a file that is named and can't be read, [`Error::Auth`] for one that says nothing.
pub fn registries(
    surroundings: &Surroundings,
    options: &Options,
    plain_http: &[String],
) -> Result<Client, Error> {
    let certificates = options.ca_files.iter().map(fs::read).collect::<Result<_, _>>()?;
    let config = surroundings.path("XDG_CONFIG_HOME").or_else(|| Some(surroundings.home()?.join(".config")));
    let mut certificate_dirs: Vec<PathBuf> =
        ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from).to_vec();
    certificate_dirs.extend(config.as_ref().map(|config| config.join("containers/certs.d")));
    Ok(Client::new(Settings {
        keychain: keychain(surroundings, options.authfile.as_deref(), config.as_deref())?,
        certificates,
        certificate_dirs,
        plain_http: [plain_http, options.plain_http.as_slice()].concat(),
        ..Settings::default()
    }))
}

/// Reads the files with credentials for registries. Source: containers-auth.json(5), docker's `config.json`.
fn keychain(
    surroundings: &Surroundings,
    given: Option<&Path>,
    config: Option<&Path>,
) -> Result<Keychain, Error> {
    let path = surroundings.get("PATH").cloned().unwrap_or_default();
    // A file that somebody names is the only one, and has to be there.
    if let Some(file) = given.map(Path::to_owned).or_else(|| surroundings.path("REGISTRY_AUTH_FILE")) {
        let text = fs::read_to_string(&file)?;
        return Ok(Keychain::new(vec![(file, text)])?.with_search_path(path));
    }
    let docker = surroundings.path("DOCKER_CONFIG").or_else(|| Some(surroundings.home()?.join(".docker")));
    let candidates = [
        surroundings.path("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
        config.map(|folder| folder.join("containers/auth.json")),
        docker.map(|folder| folder.join("config.json")),
    ];
    let mut files = Vec::new();
    for file in candidates.into_iter().flatten() {
        match fs::read_to_string(&file) {
            Ok(text) => files.push((file, text)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Keychain::new(files)?.with_search_path(path))
}

/// Reads netrc and the variables that name credentials.
fn credentials(surroundings: &Surroundings) -> Result<Credentials, Error> {
    let netrc = surroundings.path("NETRC").or_else(|| Some(surroundings.home()?.join(".netrc")));
    let netrc = match netrc.map(fs::read_to_string) {
        Some(Ok(text)) => Some(text),
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => None,
    };
    let variables = surroundings.credential_variables()?;
    Ok(Credentials::new(netrc.as_deref().unwrap_or_default(), variables)?)
}

impl Surroundings {
    fn get(&self, name: &str) -> Option<&OsString> {
        self.variables.get(std::ffi::OsStr::new(name)).filter(|value| !value.is_empty())
    }

    /// A variable that is a path.
    fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    fn home(&self) -> Option<PathBuf> {
        self.path("HOME")
    }

    /// The variables that name credentials. All others may be of any bytes.
    fn credential_variables(&self) -> Result<BTreeMap<String, String>, Error> {
        self.variables
            .iter()
            .filter(|(name, _)| name.as_encoded_bytes().starts_with(b"IMGFORGE_AUTH_"))
            .map(|(name, value)| match (name.to_str(), value.to_str()) {
                (Some(name), Some(value)) => Ok((name.to_owned(), value.to_owned())),
                _ => Err(Error::NotText { name: name.to_string_lossy().into_owned() }),
            })
            .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn only_credentials_need_be_text() {
        let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let read = |variables: &[(&[u8], &[u8])]| {
            let variables = variables.iter().map(|(name, value)| (bytes(name), bytes(value))).collect();
            Surroundings { variables, now: 0 }.credential_variables()
        };
        let found = read(&[(b"PS1", b"\xff"), (b"\xfe", b"x"), (b"IMGFORGE_AUTH_A", b"a:b")]).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("IMGFORGE_AUTH_A".to_owned(), "a:b".to_owned())]);
        let said = read(&[(b"IMGFORGE_AUTH_A", b"secret\xff")]).unwrap_err().to_string();
        assert_eq!(said, "the variable IMGFORGE_AUTH_A is not UTF-8");
    }
}
