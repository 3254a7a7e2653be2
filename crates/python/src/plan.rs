//! What a build would do, before any of it.

use imgforge::against::{self, Comparison, Size};
use imgforge::artifacts::Resolved;
use imgforge::forecast::{Fate, ToFetch};
use imgforge::images_lock::ImagesLock;
use imgforge::project::Prepared;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::image::{packages, tuple};

/// What a build would do.
#[pyclass(frozen, get_all, module = "imgforge")]
pub(crate) struct Plan {
    /// The images, by name and platform.
    images: Py<PyTuple>,
    /// The layers of all of them, each once.
    layers: Py<PyTuple>,
    /// What is built once for them.
    artifacts: Py<PyTuple>,
    /// Files that would come over the network.
    fetch_files: usize,
    /// Bytes of those whose size a lock tells.
    fetch_bytes: u64,
    /// What a registry is sent that has what was there before.
    ships: Py<Shipment>,
}

/// What is shipped that was not there before, each layer once.
#[pyclass(frozen, get_all, module = "imgforge")]
pub(crate) struct Shipment {
    /// Layers that no image had.
    layers: usize,
    /// Configurations of images.
    configs: usize,
    /// Bytes of both, as far as they are known.
    bytes: u64,
    /// Whether they are: layers that are still to be made are estimated by their packages.
    is_exact: bool,
}

#[pymethods]
impl Shipment {
    fn __repr__(&self) -> String {
        let about = if self.is_exact { "" } else { "about " };
        format!("Shipment({} layers, {about}{} bytes)", self.layers, self.bytes)
    }
}

/// A layer that comes or goes.
#[pyclass(frozen, get_all, module = "imgforge")]
pub(crate) struct Change {
    /// What is in it, in a line.
    title: String,
    /// The key by which it is found again.
    key: String,
    /// Of the compressed bytes, where it has been made.
    digest: Option<String>,
    /// Bytes, compressed, where anything is known of them.
    size: Option<u64>,
    /// Whether that is the layer's own size, and not that of its packages.
    is_exact: bool,
}

#[pymethods]
impl Change {
    fn __repr__(&self) -> String {
        format!("Change({:?}, {:?})", self.title, self.size)
    }
}

#[pymethods]
impl Plan {
    fn __repr__(&self, py: Python<'_>) -> String {
        format!(
            "Plan({} images, {} layers, {} files to fetch)",
            self.images.bind(py).len(),
            self.layers.bind(py).len(),
            self.fetch_files
        )
    }
}

/// An image for one platform, as layers.
#[pyclass(frozen, get_all, module = "imgforge")]
pub(crate) struct PlannedImage {
    /// Its name in images.toml.
    name: String,
    /// What it runs on.
    platform: String,
    /// Its own layers from the bottom; those of a base that is an image lie below.
    layers: Py<PyTuple>,
    /// Layers that no image had before.
    new: Py<PyTuple>,
    /// Layers that it had before, and has no more.
    gone: Py<PyTuple>,
}

#[pymethods]
impl PlannedImage {
    fn __repr__(&self, py: Python<'_>) -> String {
        format!("PlannedImage({:?}, {:?}, {} layers)", self.name, self.platform, self.layers.bind(py).len())
    }
}

/// A layer, and what would become of it.
#[pyclass(frozen, get_all, module = "imgforge")]
pub(crate) struct PlannedLayer {
    /// What is in it, in a line.
    title: String,
    /// The key by which it is found again.
    key: String,
    /// `reuse`, `take` (from a cache), `make`, or `fetch and make`.
    fate: &'static str,
    /// Bytes, compressed, where that is known.
    size: Option<u64>,
    /// Of the compressed bytes, where the store or images.lock knows it.
    digest: Option<String>,
    /// The packages in it.
    packages: Py<PyTuple>,
    /// Files that would be fetched for it.
    fetch_files: usize,
    /// Bytes of those whose size a lock tells.
    fetch_bytes: u64,
}

#[pymethods]
impl PlannedLayer {
    fn __repr__(&self) -> String {
        format!("PlannedLayer({:?}, fate={:?})", self.title, self.fate)
    }
}

/// Something that is built once.
#[pyclass(frozen, get_all, module = "imgforge")]
pub(crate) struct PlannedArtifact {
    /// Its name in images.toml, or the package's.
    name: String,
    /// The name, with what makes it another one than its like.
    title: String,
    /// The key by which it is found again.
    key: String,
    /// Whether it is there.
    is_built: bool,
}

#[pymethods]
impl PlannedArtifact {
    fn __repr__(&self) -> String {
        let fate = if self.is_built { "reuse" } else { "build" };
        format!("PlannedArtifact({:?}, fate={fate:?})", self.title)
    }
}

/// The plan for the selected images. `indices` are those of each prepared image's layers, `comparisons` what changes in each
/// selected one.
pub(crate) fn plan(
    py: Python<'_>,
    prepared: &Prepared,
    indices: &[Vec<usize>],
    fates: &[Fate<'_>],
    lock: &ImagesLock,
    selected: &[String],
    comparisons: &[Comparison],
) -> PyResult<Plan> {
    let mut layers: Vec<Option<Py<PlannedLayer>>> = fates.iter().map(|_| None).collect();
    let mut images = Vec::new();
    let mut fetch = Vec::new();
    let chosen = prepared.images.iter().zip(indices).filter(|(image, _)| selected.contains(&image.name));
    for ((image, own), comparison) in chosen.zip(comparisons) {
        let mut mine = Vec::new();
        for &index in own {
            let (Some(place), Some(fate)) = (layers.get_mut(index), fates.get(index)) else { continue };
            let layer = match place {
                Some(layer) => layer,
                None => {
                    fetch.push(fate.fetch);
                    place.insert(Py::new(py, layer(py, fate, lock)?)?)
                }
            };
            mine.push(layer.clone_ref(py));
        }
        images.push(PlannedImage {
            name: image.name.clone(),
            platform: image.platform.to_string(),
            layers: tuple(py, mine)?,
            new: tuple(py, comparison.new.iter().map(change))?,
            gone: tuple(py, comparison.gone.iter().map(change))?,
        });
    }
    let fetch = ToFetch::sum(fetch.into_iter());
    Ok(Plan {
        images: tuple(py, images)?,
        layers: tuple(py, layers.into_iter().flatten())?,
        artifacts: tuple(py, prepared.artifacts.iter().map(artifact))?,
        fetch_files: fetch.files,
        fetch_bytes: fetch.bytes,
        ships: Py::new(py, shipment(&against::Shipment::of(comparisons)))?,
    })
}

fn shipment(all: &against::Shipment) -> Shipment {
    Shipment {
        layers: all.layers,
        configs: all.configs,
        bytes: all.bytes(),
        is_exact: all.about == 0 && all.unknown == 0,
    }
}

fn change(layer: &against::Layer) -> Change {
    let (size, is_exact) = match layer.size {
        Size::Known(bytes) => (Some(bytes), true),
        Size::About(bytes) => (Some(bytes), false),
        Size::Unknown => (None, false),
    };
    Change {
        title: layer.title.clone(),
        key: layer.key.clone(),
        digest: layer.digest.map(|digest| digest.to_string()),
        size,
        is_exact,
    }
}

fn layer(py: Python<'_>, fate: &Fate<'_>, lock: &ImagesLock) -> PyResult<PlannedLayer> {
    let stored = fate.record.as_ref().map(|record| record.digest);
    let locked = lock.layer(&fate.spec.key).map(|layer| layer.digest);
    Ok(PlannedLayer {
        title: fate.spec.title(),
        key: fate.spec.key.clone(),
        fate: fate.word(),
        size: fate.size,
        digest: stored.or(locked).map(|digest| digest.to_string()),
        packages: packages(py, fate.spec)?,
        fetch_files: fate.fetch.files,
        fetch_bytes: fate.fetch.bytes,
    })
}

fn artifact(artifact: &Resolved) -> PlannedArtifact {
    PlannedArtifact {
        name: artifact.inputs.name.clone(),
        title: artifact.line(),
        key: artifact.key.to_string(),
        is_built: artifact.why.is_none(),
    }
}
