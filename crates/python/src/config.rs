//! images.toml, and what can be done with it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use imgforge::against::{self, Before};
use imgforge::build::{self, Built};
use imgforge::delivery::{self, Delivered};
use imgforge::project::Project;
use imgforge::session::{self, Observer, Options, Session, Surroundings};
use imgforge::{Error, config, forecast, push, workshop};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::error::raise;
use crate::image::{self, Pushed, tuple};
use crate::plan::{self, Plan};
use crate::progress::Progress;
use crate::work::{self, Teller};

/// An images.toml, read and checked.
#[pyclass(frozen, module = "imgforge")]
pub(crate) struct Config {
    file: PathBuf,
    config: config::Config,
    options: Options,
    cache: Option<String>,
    jobs: Option<usize>,
}

#[pymethods]
impl Config {
    /// Reads an images.toml.
    #[staticmethod]
    #[pyo3(signature = (
        path=PathBuf::from("images.toml"), *, store=None, offline=false, jobs=None, cache=None, authfile=None, ca_files=None,
        plain_http=None
    ), text_signature = "(path='images.toml', *, store=None, offline=False, jobs=None, cache=None, authfile=None, \
        ca_files=None, plain_http=None)")]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python, each with a default")]
    fn load(
        py: Python<'_>,
        path: PathBuf,
        store: Option<PathBuf>,
        offline: bool,
        jobs: Option<usize>,
        cache: Option<String>,
        authfile: Option<PathBuf>,
        ca_files: Option<Vec<PathBuf>>,
        plain_http: Option<Vec<String>>,
    ) -> PyResult<Self> {
        let project = session::project(&path).map_err(|error| raise(py, &error))?;
        let options = Options {
            store,
            offline,
            authfile,
            ca_files: ca_files.unwrap_or_default(),
            plain_http: plain_http.unwrap_or_default(),
        };
        Ok(Self { file: path, config: project.config, options, cache, jobs })
    }

    /// Its path, as it was given.
    #[getter]
    fn path(&self) -> &OsStr {
        self.file.as_os_str()
    }

    /// The names of all images, sorted.
    #[getter]
    fn images(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        tuple(py, self.config.images.keys().map(String::as_str))
    }

    /// Says what a build would do.
    #[pyo3(signature = (images=None, *, values=None, against=None))]
    fn plan(
        &self,
        py: Python<'_>,
        images: Option<Vec<String>>,
        values: Option<BTreeMap<String, String>>,
        against: Option<String>,
    ) -> PyResult<Plan> {
        let images = images.unwrap_or_default();
        let (prepared, planned, selected, session) = work::run(py, None, self.jobs, |teller, stop| {
            let session = self.session()?;
            let selected = session.project.select(&images, &pairs(values.as_ref()))?;
            let mut lock = session.project.lock.clone();
            let prepared = observed(teller, stop, |observer| {
                session.with_tools(observer, |tools| session.project.prepare(tools, &mut lock))
            })?;
            let planned = prepared.plan(&session.project.config)?;
            Ok((prepared, planned, selected, session))
        })?;
        let (fates, comparisons) = work::run(py, None, self.jobs, |teller, stop| {
            let project = &session.project;
            let earlier = match &against {
                Some(against) => against::read(against, &project.folder)?,
                None => project.lock.clone(),
            };
            let fates = observed(teller, stop, |observer| {
                forecast::forecast(&session, observer, &prepared, &planned)
            })?;
            let before = Before::new(&earlier);
            let comparisons = prepared
                .images
                .iter()
                .zip(&planned.images)
                .filter(|(image, _)| selected.contains(&image.name))
                .map(|(image, layers)| {
                    let own: Vec<_> = layers.iter().filter_map(|&layer| fates.get(layer)).collect();
                    before.planned(project, image, &own)
                })
                .collect::<Result<Vec<_>, _>>()?;
            Ok((fates, comparisons))
        })?;
        plan::plan(py, &prepared, &planned.images, &fates, &session.project.lock, &selected, &comparisons)
    }

    /// Makes images and writes them.
    #[pyo3(signature = (
        images=None, *, values=None, output=None, archive=None, docker_archive=None, locked=false, progress=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python, each with a default")]
    fn build(
        slf: &Bound<'_, Self>,
        images: Option<Vec<String>>,
        values: Option<BTreeMap<String, String>>,
        output: Option<PathBuf>,
        archive: Option<PathBuf>,
        docker_archive: Option<PathBuf>,
        locked: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyTuple>> {
        let (py, this) = (slf.py(), slf.get());
        name_program(py)?;
        let images = images.unwrap_or_default();
        let is_elsewhere = archive.is_some() || docker_archive.is_some();
        let output = output.or_else(|| (!is_elsewhere).then(|| PathBuf::from("dist")));
        let Built { outputs, finished, .. } = work::run(py, progress, this.jobs, |teller, stop| {
            let mut session = this.session()?;
            let selected = session.project.select(&images, &pairs(values.as_ref()))?;
            session.building.clone_from(&selected);
            let request = build::Request {
                images: &selected,
                locked,
                layout: output.as_deref(),
                archive: archive.as_deref(),
                docker_archive: docker_archive.as_deref(),
                ..build::Request::default()
            };
            observed(teller, stop, |observer| build::build(&session, observer, &request, &|_| {}))
        })?;
        let config = slf.clone().unbind();
        let images = outputs
            .iter()
            .map(|output| image::image(py, &config, output, &finished))
            .collect::<PyResult<Vec<_>>>();
        tuple(py, images?)
    }

    /// Sends images to a registry, and of them only what it lacks; what is missing is made first.
    #[pyo3(signature = (destination, images=None, *, values=None, dry_run=false, locked=false, progress=None))]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python, each with a default")]
    fn push(
        &self,
        py: Python<'_>,
        destination: &str,
        images: Option<Vec<String>>,
        values: Option<BTreeMap<String, String>>,
        dry_run: bool,
        locked: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyTuple>> {
        let images = images.unwrap_or_default();
        let project = self.project().map_err(|error| raise(py, &error))?;
        let selected = project.select(&images, &pairs(values.as_ref())).map_err(|error| raise(py, &error))?;
        self.deliver(py, &selected, destination, dry_run, locked, progress)
    }

    fn __repr__(&self) -> String {
        let images: Vec<&str> = self.config.images.keys().map(String::as_str).collect();
        format!("Config({:?}, images=[{}])", self.file.display().to_string(), images.join(", "))
    }
}

impl Config {
    /// Sends these images.
    pub(crate) fn deliver(
        &self,
        py: Python<'_>,
        images: &[String],
        to: &str,
        dry_run: bool,
        locked: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyTuple>> {
        name_program(py)?;
        let sent = work::run(py, progress, self.jobs, |teller, stop| {
            let mut session = self.session()?;
            if !dry_run {
                session.building = images.to_vec();
            }
            let request = delivery::Request { images, to, dry_run, locked, takes_only: false };
            let sent: Mutex<Vec<Delivered>> = Mutex::default();
            let on_step = |step: delivery::Step<'_>| match step {
                delivery::Step::Transfer(push::Step::Transfer { blob, event }) => {
                    let title = blob.digest.to_string();
                    teller.tell(|| Progress::of_transfer("sending", &title, blob.size, &event));
                }
                delivery::Step::Delivered(delivered) => {
                    sent.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(delivered.clone());
                    teller.tell(|| Some(Progress::new("sent", delivered.to.to_string())));
                }
                delivery::Step::Finished(_) | delivery::Step::Offered(_) => {}
            };
            observed(teller, stop, |observer| delivery::deliver(&session, observer, &request, &on_step))?;
            Ok(sent.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
        })?;
        tuple(py, sent.iter().map(Pushed::new))
    }

    /// The project as it was loaded, with images.lock as it is now.
    fn project(&self) -> Result<Project, Error> {
        Ok(Project { config: self.config.clone(), ..session::project(&self.file)? })
    }

    fn session(&self) -> Result<Session, Error> {
        let surroundings = surroundings();
        let store = session::store(&surroundings, &self.options)?;
        let session = Session::with_store(&surroundings, &self.options, self.project()?, store)?;
        session.with_cache(self.cache.as_deref())
    }
}

/// What this process knows of the host.
pub(crate) fn surroundings() -> Surroundings {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Surroundings { variables: std::env::vars_os().collect(), now }
}

/// Does something whose progress is told.
fn observed<T>(
    teller: &Teller,
    stop: &Arc<AtomicBool>,
    work: impl FnOnce(&Observer<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let on_progress = |event: workshop::Progress<'_>| teller.tell(|| Progress::of(&event));
    work(&Observer { on_progress: &on_progress, shell: None, stop })
}

fn pairs(values: Option<&BTreeMap<String, String>>) -> Vec<(String, String)> {
    values.into_iter().flatten().map(|(axis, value)| (axis.clone(), value.clone())).collect()
}

/// A sandbox is made by processes that are the program `imgforge`: the interpreter can't be executed as one. Where the
/// program is missing, what needs no sandbox still works.
fn name_program(py: Python<'_>) -> PyResult<()> {
    let found: Option<PathBuf> = py.import("imgforge._program")?.call_method0("find")?.extract()?;
    if let Some(program) = found {
        imgforge_sandbox::launch_with(&program);
    }
    Ok(())
}
