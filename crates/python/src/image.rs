//! Images, their layers, and what is in those.

use imgforge::outcome::Output;
use imgforge::project::Finished;
use imgforge::push::Count;
use imgforge::unit::{LayerSpec, Recipe, Unit};
use imgforge::{conflicts, delivery};
use imgforge_resolver::{self as resolver, Location};
use pyo3::IntoPyObjectExt as _;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::config::Config;

/// An image that was built.
#[pyclass(frozen, get_all, module = "imgforge")]
pub(crate) struct Image {
    /// Its name in images.toml; with the values of the matrix where there are several of one name.
    name: String,
    /// What an output calls it: `NAME:TAG`.
    reference: String,
    /// Of its manifest, or of its index when it is for several platforms: `sha256:…`.
    digest: String,
    /// What it is for: `linux/amd64`.
    platforms: Py<PyTuple>,
    /// Its layers from the bottom, those of the base first; of several platforms one after another, each layer once.
    layers: Py<PyTuple>,
    /// Bytes of its layers.
    size: u64,
    /// Paths that two packages of an environment bring with different content.
    conflicts: Py<PyTuple>,
    /// What it was built of.
    config: Py<Config>,
}

#[pymethods]
impl Image {
    /// Sends the image to a registry, and of it only what the registry lacks.
    #[pyo3(signature = (destination, *, dry_run=false, progress=None))]
    fn push(
        &self,
        py: Python<'_>,
        destination: &str,
        dry_run: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let pushed = self.config.get().deliver(
            py,
            std::slice::from_ref(&self.name),
            destination,
            dry_run,
            false,
            progress,
        )?;
        Ok(pushed.bind(py).get_item(0)?.unbind())
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("Image({:?}, {:?}, {} layers)", self.reference, self.digest, self.layers.bind(py).len())
    }
}

/// A layer of an image.
#[pyclass(frozen, get_all, module = "imgforge")]
pub(crate) struct Layer {
    /// Of the compressed bytes: `sha256:…`.
    digest: String,
    /// Of the uncompressed tar.
    diff_id: String,
    /// Bytes, compressed.
    size: u64,
    /// How it is stored.
    media_type: String,
    /// What is in it, in a line.
    title: String,
    /// The key by which it is found again; none for a layer of the base.
    key: Option<String>,
    /// The packages in it; none are known of a layer of the base.
    packages: Py<PyTuple>,
    /// What became of it: `made`, `reused`, `taken` (from a cache), `base`.
    origin: &'static str,
}

#[pymethods]
impl Layer {
    fn __repr__(&self) -> String {
        format!("Layer({:?}, size={}, {:?})", self.title, self.size, self.digest)
    }
}

/// A package: in a layer, or of a resolution.
#[pyclass(frozen, get_all, module = "imgforge")]
pub(crate) struct Package {
    /// Its name.
    name: String,
    /// Its version.
    version: String,
    /// `wheel`, `sdist`, `conda` or `deb`.
    kind: &'static str,
    /// The build string of a conda package.
    build: Option<String>,
    /// The file's name.
    file: String,
    /// Where the file is, if it is not on this host.
    url: Option<String>,
    /// Where the file is, if it is on this host.
    path: Option<String>,
    /// Of the file, in hexadecimal digits; conda packages of old locks lack it.
    sha256: Option<String>,
    /// Bytes of the file, where they are known.
    size: Option<u64>,
}

#[pymethods]
impl Package {
    fn __repr__(&self) -> String {
        format!("Package({:?}, {:?}, kind={:?})", self.name, self.version, self.kind)
    }
}

impl From<&resolver::Package> for Package {
    fn from(package: &resolver::Package) -> Self {
        let (url, path) = match &package.location {
            Location::Url(url) => (Some(url.clone()), None),
            Location::Path(path) => (None, Some(path.display().to_string())),
        };
        Self {
            name: package.name.clone(),
            version: package.version.clone(),
            kind: package.kind.as_str(),
            build: package.build.clone(),
            file: package.file.clone(),
            url,
            path,
            sha256: package.sha256.clone(),
            size: package.size,
        }
    }
}

/// A path that two packages of an environment bring with different content.
#[pyclass(frozen, get_all, module = "imgforge")]
pub(crate) struct Conflict {
    /// The environment's folder.
    prefix: String,
    /// The path.
    path: String,
    /// The package whose file stands.
    winner: String,
    /// The package whose file is covered.
    loser: String,
}

#[pymethods]
impl Conflict {
    fn __repr__(&self) -> String {
        format!("Conflict({:?}, winner={:?}, loser={:?})", self.path, self.winner, self.loser)
    }
}

/// An image that was sent to a registry.
#[pyclass(frozen, get_all, module = "imgforge")]
pub(crate) struct Pushed {
    /// The image's name in images.toml.
    name: String,
    /// Where it is: `HOST/NAME:TAG`.
    reference: String,
    /// Of its manifest or its index.
    digest: String,
    /// Blobs and bytes that went over the network; with `dry_run`, that would.
    sent: (usize, u64),
    /// Those that the registry took from another repository of its own.
    mounted: (usize, u64),
    /// Those that were there.
    skipped: (usize, u64),
}

#[pymethods]
impl Pushed {
    fn __repr__(&self) -> String {
        format!("Pushed({:?}, {:?}, sent={:?})", self.reference, self.digest, self.sent)
    }
}

impl Pushed {
    pub(crate) fn new(delivered: &delivery::Delivered) -> Self {
        let count = |Count { blobs, bytes }: Count| (blobs, bytes);
        Self {
            name: delivered.output.name.clone(),
            reference: delivered.to.to_string(),
            digest: delivered.output.digest.to_string(),
            sent: count(delivered.moved.sent),
            mounted: count(delivered.moved.mounted),
            skipped: count(delivered.moved.skipped),
        }
    }
}

/// An output, with the images for its platforms.
pub(crate) fn image(
    py: Python<'_>,
    config: &Py<Config>,
    output: &Output,
    finished: &[Finished],
) -> PyResult<Image> {
    let own: Vec<&Finished> = finished.iter().filter(|finished| finished.name == output.name).collect();
    let mut layers: Vec<Layer> = Vec::new();
    let mut conflicts = Vec::new();
    for image in &own {
        for layer in of(py, image)? {
            if !layers.iter().any(|known| known.digest == layer.digest) {
                layers.push(layer);
            }
        }
        conflicts.extend(image.conflicts.iter().map(conflict));
    }
    Ok(Image {
        name: output.name.clone(),
        reference: output.reference.name().to_owned(),
        digest: output.digest.to_string(),
        platforms: tuple(py, own.iter().map(|image| image.platform.to_string()))?,
        size: layers.iter().map(|layer| layer.size).sum(),
        layers: tuple(py, layers)?,
        conflicts: tuple(py, conflicts)?,
        config: config.clone_ref(py),
    })
}

/// The layers of an image from the bottom.
fn of(py: Python<'_>, image: &Finished) -> PyResult<Vec<Layer>> {
    let all = image.image.layers();
    let below = all.len().saturating_sub(image.layers.len());
    let mut layers = Vec::new();
    for layer in all.iter().take(below) {
        layers.push(Layer {
            digest: layer.digest.to_string(),
            diff_id: layer.diff_id.to_string(),
            size: layer.size,
            media_type: layer.media_type.to_string(),
            title: layer.history.clone(),
            key: None,
            packages: tuple(py, Vec::<Package>::new())?,
            origin: "base",
        });
    }
    for (spec, made) in &image.layers {
        layers.push(Layer {
            digest: made.record.digest.to_string(),
            diff_id: made.record.diff_id.to_string(),
            size: made.record.size,
            media_type: made.record.media_type.clone(),
            title: spec.title(),
            key: Some(spec.key.clone()),
            packages: packages(py, spec)?,
            origin: match (made.is_taken, made.made_in) {
                (true, _) => "taken",
                (false, Some(_)) => "made",
                (false, None) => "reused",
            },
        });
    }
    Ok(layers)
}

/// The packages that a layer is made of.
pub(crate) fn packages(py: Python<'_>, spec: &LayerSpec) -> PyResult<Py<PyTuple>> {
    tuple(py, spec.units.iter().filter_map(|unit| package(unit.whole())))
}

fn package(unit: &Unit) -> Option<Package> {
    match &unit.recipe {
        Recipe::Wheel { artifact, .. } => Some(Package::from(&resolver::Package::from(artifact))),
        Recipe::Conda(unit) => Some(Package::from(&resolver::Package::from(&unit.package))),
        // Any mirror is as good: there is no one place that it is at.
        Recipe::Debian(package) => Some(Package {
            name: package.name.clone(),
            version: package.version.clone(),
            kind: "deb",
            build: None,
            file: package.path.rsplit('/').next().unwrap_or_default().to_owned(),
            url: None,
            path: None,
            sha256: Some(package.sha256.clone()),
            size: Some(package.size),
        }),
        _ => None,
    }
}

fn conflict(conflict: &conflicts::Conflict) -> Conflict {
    Conflict {
        prefix: conflict.prefix.clone(),
        path: conflict.path.clone(),
        winner: conflict.winner.clone(),
        loser: conflict.loser.clone(),
    }
}

/// A tuple of whatever Python can hold.
pub(crate) fn tuple<'py, T: IntoPyObject<'py>>(
    py: Python<'py>,
    items: impl IntoIterator<Item = T>,
) -> PyResult<Py<PyTuple>> {
    let items = items.into_iter().map(|item| item.into_py_any(py)).collect::<PyResult<Vec<_>>>()?;
    Ok(PyTuple::new(py, items)?.unbind())
}
