//! Whatever is not JSON and not binary, as a pickle.

use std::os::raw::c_int;

use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

use super::c_stack::with_stack_for_recursion;
use super::error;

static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

// The protocol of Python 3.8 and later (PEP 574).
const PROTOCOL: c_int = 5;

#[cold]
fn pickle_error(key: &str, value: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let py = value.py();
    // Whatever the value's own methods raise, but what they cannot help.
    let is_about_the_value =
        !error.is_instance_of::<PyKeyboardInterrupt>(py) && !error.is_instance_of::<PyMemoryError>(py);
    if is_about_the_value { error::unstorable_value(py, key, &value.get_type(), &error) } else { error }
}

/// Pickles a value.
///
/// # Errors
/// `UnstorableValue` (a `TypeError`) that names the key and the type, if it does not pickle.
pub fn pickle(key: &str, value: &Bound<'_, PyAny>) -> PyResult<Py<PyBytes>> {
    let dumps = DUMPS.import(value.py(), "_pickle", "dumps")?;
    let pickle = with_stack_for_recursion(value.py(), || dumps.call1((value, PROTOCOL)));
    let pickle = pickle.map_err(|error| pickle_error(key, value, error))?;
    Ok(pickle.cast_into::<PyBytes>()?.unbind())
}

/// Makes the object of a pickle.
///
/// # Errors
/// `UnreadableValue` that names the key, if it does not unpickle.
pub fn unpickle<'py>(py: Python<'py>, key: &str, pickle: &Py<PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    let loads = LOADS.import(py, "_pickle", "loads")?;
    with_stack_for_recursion(py, || loads.call1((pickle,))).map_err(|error| {
        if error.is_instance_of::<PyKeyboardInterrupt>(py) { error } else { error::unreadable_value(py, key, &error) }
    })
}
