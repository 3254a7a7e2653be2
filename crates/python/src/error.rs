//! Errors as exceptions: the class by the kind, with the message and the hint that the program prints.

use pyo3::prelude::*;

/// The library's error as an exception.
pub(crate) fn raise(py: Python<'_>, error: &imgforge::Error) -> PyErr {
    exception(py, error.kind().as_str(), &imgforge::story(error), error.hint())
}

/// An exception of the class that goes with a kind.
pub(crate) fn exception(py: Python<'_>, kind: &str, message: &str, hint: Option<String>) -> PyErr {
    let make = || -> PyResult<PyErr> {
        let class = py.import("imgforge._errors")?.getattr("CLASSES")?.get_item(kind)?;
        Ok(PyErr::from_value(class.call1((message, kind, hint))?))
    };
    // What keeps an exception from being made is one itself.
    make().unwrap_or_else(|error| error)
}
