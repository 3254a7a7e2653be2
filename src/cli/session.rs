//! What a command works with: a session of the library, shown on a terminal, and the reading of the host.

use std::io::{self, Write as _};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use imgforge::Error;
use imgforge::fetch::FetchError;
use imgforge::project::{Project, Tools};
use imgforge::session::{self, Observer, Options, Surroundings};
use imgforge_registry::Client;
use imgforge_store::{Store, StoreError};

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
            Self::NoImages { .. } => {
                Some("give the path that `imgforge build` wrote to with `--output` or `--archive`".to_owned())
            }
            Self::NoImage { .. } => Some(
                "give one of the names, a path, or a place such as docker://HOST/NAME:TAG or oci:DIR:REF"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Request(error.into())
    }
}

/// The library's session, and whom it is shown to. It is used as that session nearly everywhere, hence `Deref`.
pub(crate) struct Session {
    inner: session::Session,
    /// Whether a failed build ends in a shell.
    pub(crate) has_shell: bool,
    pub(crate) progress: Progress,
    /// Never set: what ends this program ends its work.
    stop: Arc<AtomicBool>,
}

impl Deref for Session {
    type Target = session::Session;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.inner
    }
}

impl Session {
    /// Opens everything for the project at `file`.
    pub(crate) fn open(global: &Global, file: &Path) -> Result<Self, Failure> {
        threads(global);
        Ok(Self::new(global, session::Session::open(&surroundings(), &options(global), file)?))
    }

    /// Opens everything but the store, which is given.
    pub(crate) fn with_store(global: &Global, project: Project, store: Store) -> Result<Self, Failure> {
        threads(global);
        let inner = session::Session::with_store(&surroundings(), &options(global), project, store)?;
        Ok(Self::new(global, inner))
    }

    fn new(global: &Global, inner: session::Session) -> Self {
        Self { inner, has_shell: false, progress: Progress::new(global.quiet), stop: Arc::default() }
    }

    /// Uses the cache of layers that the command line or images.toml names.
    pub(crate) fn with_cache(self, given: Option<&str>) -> Result<Self, Failure> {
        Ok(Self { inner: self.inner.with_cache(given)?, ..self })
    }

    /// Runs `work` with the tools that the library wants.
    pub(crate) fn with_tools<T>(
        &self,
        work: impl FnOnce(&Tools<'_>) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        Ok(self.observed(|session, observer| session.with_tools(observer, work))?)
    }

    /// Runs `work` while its progress is shown.
    pub(crate) fn observed<T>(
        &self,
        work: impl FnOnce(&session::Session, &Observer<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let on_progress = |event: imgforge::workshop::Progress<'_>| self.progress.show(&event);
        let on_failure = |failed: imgforge::artifacts::Failed<'_>| self.shell(failed);
        let result = work(
            &self.inner,
            &Observer {
                on_progress: &on_progress,
                shell: self.has_shell.then_some(&on_failure),
                stop: &self.stop,
            },
        );
        self.progress.clear();
        result
    }

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

/// What this process knows of the host: the library looks at no variable and no clock by itself.
fn surroundings() -> Surroundings {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Surroundings { variables: std::env::vars_os().collect(), now }
}

fn options(global: &Global) -> Options {
    Options {
        store: global.store.clone(),
        offline: global.offline,
        authfile: global.authfile.clone(),
        ca_files: global.ca_file.clone(),
        plain_http: global.plain_http.clone(),
    }
}

/// Opens a project.
pub(crate) fn project(file: &Path) -> Result<Project, Failure> {
    Ok(session::project(file)?)
}

/// Refuses a layout or an archive that is not there.
pub(crate) fn must_exist(path: &Path) -> Result<(), Failure> {
    match path.exists() {
        true => Ok(()),
        false => Err(Failure::NoImages { path: path.to_owned() }),
    }
}

/// Opens the store.
pub(crate) fn store(global: &Global) -> Result<Store, Failure> {
    Ok(session::store(&surroundings(), &options(global))?)
}

/// Prepares for talking to registries: opens no connection.
pub(crate) fn registries(global: &Global, plain_http: &[String]) -> Result<Client, Failure> {
    Ok(session::registries(&surroundings(), &options(global), plain_http)?)
}

/// Sets the number of threads. The second call in a process has no effect, and needs none.
pub(crate) fn threads(global: &Global) {
    let threads = global.jobs.map_or(0, usize::from);
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
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
