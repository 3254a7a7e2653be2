//! `imgforge._imgforge`: the library, as Python sees it.
//!
//! Nothing is decided here. A call from Python becomes a call of the library, on a thread of its own and without the
//! interpreter's lock, and what comes back becomes plain frozen objects. `python/imgforge` has the exceptions, and the
//! stubs that say how all of it looks from the other side.

mod config;
mod error;
mod image;
mod plan;
mod progress;
mod resolution;
mod work;

use pyo3::prelude::*;

/// The native half of the package `imgforge`.
#[pymodule]
mod _imgforge {
    use super::*;

    #[pymodule_export]
    use config::Config;
    #[pymodule_export]
    use image::{Conflict, Image, Layer, Package, Pushed};
    #[pymodule_export]
    use plan::{Change, Plan, PlannedArtifact, PlannedImage, PlannedLayer, Shipment};
    #[pymodule_export]
    use progress::Progress;
    #[pymodule_export]
    use resolution::{Resolution, read_lock, resolve, solve};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
