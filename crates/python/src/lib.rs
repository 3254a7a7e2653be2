//! `imgforge._imgforge`: the library, as Python sees it.
//!
//! Nothing is decided here. A call from Python becomes a call of the library, and what comes back becomes plain frozen
//! objects. `python/imgforge` has the stubs that say how it looks from the other side.

use pyo3::prelude::*;

/// The native half of the package `imgforge`.
#[pymodule]
mod _imgforge {
    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
