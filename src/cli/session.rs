//! What a command works with: the project, the store, the fetcher, and the reading of the host.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err as fs;
use imgforge::Error;
use imgforge::cache::{self, Cache};
use imgforge::debian::Host;
use imgforge::fetch::{
    Credentials, CredentialsError, FetchError, FetchSettings, Fetcher, Mirror, MirrorError,
};
use imgforge::project::{Project, Tools};
use imgforge_registry::{AuthError, Client, Keychain, Reference, Settings};
use imgforge_store::{Lease, Store, StoreError};

use super::args::Global;
use super::progress::Progress;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The library's reason.
    #[error(transparent)]
    Request(#[from] Error),
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A sandbox's.
    #[error(transparent)]
    Sandbox(#[from] imgforge_sandbox::Error),
    /// An output's.
    #[error(transparent)]
    Oci(#[from] imgforge_oci::Error),
    /// The result could not be printed.
    #[error("can't write to stdout")]
    Output(#[source] io::Error),
    /// A file could not be read or written.
    #[error(transparent)]
    File(io::Error),
    /// netrc or a variable of the environment.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A mirror of images.toml.
    #[error("[settings], mirrors")]
    Mirror(#[from] MirrorError),
    /// Neither HOME nor another place for the store is known.
    #[error("there is no place for the store: neither IMGFORGE_STORE nor XDG_CACHE_HOME nor HOME is set")]
    NoStore,
    /// A variable of the environment that is not text; its value is a secret.
    #[error("the variable {name} is not UTF-8")]
    NotText {
        /// Its name.
        name: String,
    },
    /// There is no images.toml.
    #[error("there is no {}", file.display())]
    NoProject {
        /// Where it was looked for.
        file: PathBuf,
    },
    /// There is no layout or archive.
    #[error("there is no {}: neither a layout nor an archive", path.display())]
    NoImages {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A word that stands for no image.
    #[error(
        "`{text}` is no image of {} (it has {}), and no path",
        output.display(),
        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
    )]
    NoImage {
        /// The word.
        text: String,
        /// The layout or archive that it was looked up in.
        output: PathBuf,
        /// The names there.
        known: Vec<String>,
    },
    /// The folder that an output is to be put into is missing.
    #[error("there is no folder {} for {}", folder.display(), file.display())]
    NoFolder {
        /// The folder.
        folder: PathBuf,
        /// The output.
        file: PathBuf,
    },
    /// images.lock is going to change, and can't.
    #[error("images.lock changes, and can't be written in {}; no output was written", folder.display())]
    NoLock {
        /// The project's folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// One output can't be written, after others were.
    #[error("can't write {what}; already written: {}", written.join(", "))]
    HalfDone {
        /// What failed.
        what: String,
        /// What is there.
        written: Vec<String>,
        /// Why.
        #[source]
        source: Box<Failure>,
    },
    /// Docker's archives have no place for an image for several platforms.
    #[error("{image} is for several platforms, and an archive for `docker load` holds one under a name")]
    Platforms {
        /// The image's name.
        image: String,
    },
    /// `--cache` names no repository.
    #[error("--cache: {problem}")]
    Cache {
        /// What is wrong with it.
        problem: String,
    },
    /// `--against` names nothing that can be compared with.
    #[error("--against {against}: {problem}")]
    Against {
        /// As it is written.
        against: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file with credentials for registries.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// What was to be checked is not as it should be; the report has said why.
    #[error("{0}")]
    Check(String),
}

impl Failure {
    /// What mends it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Request(error) => error.hint(),
            Self::Sandbox(error) => error.hint().map(str::to_owned),
            Self::Against { .. } => Some(
                "give the path of an images.lock, or a commit of this repository that has one, such as HEAD"
                    .to_owned(),
            ),
            Self::NoStore => Some("say where with `--store DIR`".to_owned()),
            Self::NoProject { .. } => {
                Some("run it in the project's folder or give the path of images.toml".to_owned())
            }
            Self::NoImages { .. } => {
                Some("give the path that `imgforge build` wrote to with `--output` or `--archive`".to_owned())
            }
            Self::NoImage { .. } => Some(
                "give one of the names, a path, or a place such as docker://HOST/NAME:TAG or oci:DIR:REF"
                    .to_owned(),
            ),
            Self::Platforms { .. } => {
                Some("name one of the `platforms` in [settings], or write `--archive`".to_owned())
            }
            Self::NoFolder { folder, .. } => Some(format!("make it: `mkdir -p {}`", folder.display())),
            Self::NoLock { .. } => Some(
                "let the folder be written to, or, where images.lock must not change, build with `--locked`"
                    .to_owned(),
            ),
            Self::HalfDone { what, source, .. } => {
                source.hint().or_else(|| Some(format!("let {what} be written, and build again")))
            }
            _ => None,
        }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Request(error.into())
    }
}

/// What a command works with.
pub(crate) struct Session {
    pub(crate) project: Project,
    pub(crate) store: Store,
    pub(crate) fetcher: Fetcher,
    pub(crate) host: Host,
    pub(crate) registries: Client,
    /// The cache of layers; none until [`with_cache`](Self::with_cache).
    cache: Option<Reference>,
    /// Whether the cache was given up.
    cache_is_lost: Arc<AtomicBool>,
    pub(crate) offline: bool,
    /// Images whose artifacts are built.
    pub(crate) building: Vec<String>,
    /// An artifact that is built again, for comparison.
    pub(crate) rebuild: Option<String>,
    /// Whether a failed build ends in a shell.
    pub(crate) has_shell: bool,
    pub(crate) progress: Progress,
    /// Held until the command ends, so that the collector leaves what it uses.
    _lease: Lease,
}

impl Session {
    /// Opens everything for the project at `file`.
    pub(crate) fn open(global: &Global, file: &Path) -> Result<Self, Failure> {
        let project = project(file)?;
        let store = store(global)?;
        Self::with_store(global, project, store)
    }

    /// Opens everything but the store, which is given.
    pub(crate) fn with_store(global: &Global, project: Project, store: Store) -> Result<Self, Failure> {
        threads(global);
        let settings = &project.config.settings;
        let mirrors = settings.mirrors.iter().map(|text| Mirror::parse(text)).collect::<Result<_, _>>()?;
        let fetcher = Fetcher::new(FetchSettings {
            offline: global.offline,
            vendor: vec![project.folder.join(&settings.vendor)],
            mirrors,
            credentials: credentials()?,
            ..FetchSettings::default()
        })?;
        let registries = registries(global, &settings.plain_http)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let lease = store.lease()?;
        Ok(Self {
            project,
            store,
            fetcher,
            host: Host { root: "/".into(), now },
            registries,
            cache: None,
            cache_is_lost: Arc::default(),
            offline: global.offline,
            building: Vec::new(),
            rebuild: None,
            has_shell: false,
            progress: Progress::new(global.quiet),
            _lease: lease,
        })
    }

    /// Uses the cache of layers that the command line or images.toml names.
    pub(crate) fn with_cache(mut self, given: Option<&str>) -> Result<Self, Failure> {
        let text = given.or(self.project.config.settings.cache.as_deref()).filter(|_| !self.offline);
        let parse = |text: &str| cache::repository(text).map_err(|problem| Failure::Cache { problem });
        self.cache = text.map(parse).transpose()?;
        Ok(self)
    }

    /// Runs `work` with the tools that the library wants.
    pub(crate) fn with_tools<T>(
        &self,
        work: impl FnOnce(&Tools<'_>) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        Ok(self.tools(work)?)
    }

    /// The cache of layers.
    pub(crate) fn cache(&self) -> Option<Reference> {
        self.cache.clone()
    }

    /// As [`with_tools`](Self::with_tools), with the library's own error.
    pub(crate) fn tools<T>(&self, work: impl FnOnce(&Tools<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let on_progress = |event: imgforge::workshop::Progress<'_>| self.progress.show(&event);
        let on_failure = |failed: imgforge::artifacts::Failed<'_>| self.shell(failed);
        let cache = self
            .cache
            .clone()
            .map(|reference| Cache::new(&self.registries, reference, Arc::clone(&self.cache_is_lost)));
        let tools = Tools {
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
            shell: self.has_shell.then_some(&on_failure),
            on_progress: &on_progress,
        };
        let result = work(&tools);
        self.progress.clear();
        result
    }
}

impl Session {
    /// A shell where a build failed. That there is none does not hide why the build failed.
    fn shell(&self, failed: imgforge::artifacts::Failed<'_>) {
        use std::io::IsTerminal as _;
        self.progress.clear();
        if !io::stdin().is_terminal() {
            self.progress.line("note: no shell: --shell-on-failure needs a terminal");
            return;
        }
        self.progress
            .line(&format!("{} failed: a shell where it was, in {}", failed.artifact, failed.command.folder));
        if let Err(error) = failed.sandbox.shell(failed.kept, failed.root, &failed.command) {
            self.progress.line(&format!("note: no shell: {error}"));
        }
    }
}

/// Opens a project. The library would say only that a file is not there; here it is known which one that is.
pub(crate) fn project(file: &Path) -> Result<Project, Failure> {
    if !file.exists() {
        return Err(Failure::NoProject { file: file.to_owned() });
    }
    Ok(Project::open(file)?)
}

/// Refuses a layout or an archive that is not there.
pub(crate) fn must_exist(path: &Path) -> Result<(), Failure> {
    match path.exists() {
        true => Ok(()),
        false => Err(Failure::NoImages { path: path.to_owned() }),
    }
}

/// Opens the store: `--store`, `IMGFORGE_STORE`, or a folder of the user's cache.
pub(crate) fn store(global: &Global) -> Result<Store, Failure> {
    let folder = global
        .store
        .clone()
        .or_else(|| variable("IMGFORGE_STORE"))
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("imgforge")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/imgforge")))
        .ok_or(Failure::NoStore)?;
    let folder = std::path::absolute(folder).map_err(Failure::File)?;
    Ok(Store::open(folder)?)
}

/// Sets the number of threads. The second call in a process has no effect, and needs none.
pub(crate) fn threads(global: &Global) {
    let threads = global.jobs.map_or(0, usize::from);
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
}

/// Prepares for talking to registries: opens no connection.
pub(crate) fn registries(global: &Global, plain_http: &[String]) -> Result<Client, Failure> {
    let certificates =
        global.ca_file.iter().map(fs::read).collect::<Result<_, _>>().map_err(Failure::File)?;
    let home = variable("HOME");
    let config = variable("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
    let mut certificate_dirs: Vec<PathBuf> =
        ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from).to_vec();
    certificate_dirs.extend(config.as_ref().map(|config| config.join("containers/certs.d")));
    Ok(Client::new(Settings {
        keychain: keychain(global.authfile.as_deref(), home.as_deref(), config.as_deref())?,
        certificates,
        certificate_dirs,
        plain_http: [plain_http, global.plain_http.as_slice()].concat(),
        ..Settings::default()
    }))
}

/// Reads the files with credentials for registries. Source: containers-auth.json(5), docker's `config.json`.
fn keychain(given: Option<&Path>, home: Option<&Path>, config: Option<&Path>) -> Result<Keychain, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A file that somebody names is the only one, and has to be there.
    if let Some(file) = given.map(Path::to_owned).or_else(|| variable("REGISTRY_AUTH_FILE")) {
        let text = fs::read_to_string(&file).map_err(Failure::File)?;
        return Ok(Keychain::new(vec![(file, text)])?.with_search_path(path));
    }
    let docker = variable("DOCKER_CONFIG").or_else(|| Some(home?.join(".docker")));
    let candidates = [
        variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
        config.map(|folder| folder.join("containers/auth.json")),
        docker.map(|folder| folder.join("config.json")),
    ];
    let mut files = Vec::new();
    for file in candidates.into_iter().flatten() {
        match fs::read_to_string(&file) {
            Ok(text) => files.push((file, text)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(Failure::File(error)),
        }
    }
    Ok(Keychain::new(files)?.with_search_path(path))
}

/// A variable of the environment that is a path.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Reads netrc and the variables that name credentials.
fn credentials() -> Result<Credentials, Failure> {
    let netrc = std::env::var_os("NETRC")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".netrc")));
    let netrc = match netrc.map(fs::read_to_string) {
        Some(Ok(text)) => Some(text),
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(Failure::File(error)),
        _ => None,
    };
    Ok(Credentials::new(netrc.as_deref().unwrap_or_default(), credential_variables(std::env::vars_os())?)?)
}

/// The variables that name credentials. All others may be of any bytes, and are not looked at.
fn credential_variables(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, String>, Failure> {
    variables
        .filter(|(name, _)| name.as_encoded_bytes().starts_with(b"IMGFORGE_AUTH_"))
        .map(|(name, value)| match (name.to_str(), value.into_string()) {
            (Some(name), Ok(value)) => Ok((name.to_owned(), value)),
            _ => Err(Failure::NotText { name: name.to_string_lossy().into_owned() }),
        })
        .collect()
}

/// Prints the result, whole lines at once.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)
}

/// Prints the result as JSON.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
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
            credential_variables(variables.iter().map(|(name, value)| (bytes(name), bytes(value))))
        };
        let found = read(&[(b"PS1", b"\xff"), (b"\xfe", b"x"), (b"IMGFORGE_AUTH_A", b"a:b")]).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("IMGFORGE_AUTH_A".to_owned(), "a:b".to_owned())]);
        let said = read(&[(b"IMGFORGE_AUTH_A", b"secret\xff")]).unwrap_err().to_string();
        assert_eq!(said, "the variable IMGFORGE_AUTH_A is not UTF-8");
    }
}
