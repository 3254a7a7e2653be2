//! Counts what people take for letters: extended grapheme clusters.

use pyo3::prelude::*;
use unicode_segmentation::UnicodeSegmentation;

/// How many there are in a text.
#[pyfunction]
fn count(text: &str) -> usize {
    text.graphemes(true).count()
}

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("PROFILE", if cfg!(debug_assertions) { "dev" } else { "release" })?;
    module.add_function(wrap_pyfunction!(count, module)?)
}
