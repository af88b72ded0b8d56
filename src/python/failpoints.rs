//! The failpoints, for the tests that make a process die at them.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::failpoint;

/// Reads where to die, and adds what this room has.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    failpoint::arm().map_err(|error| PyValueError::new_err(error.to_string()))?;
    module.add_function(wrap_pyfunction!(failpoints, module)?)
}

/// How often each failpoint was passed in this process, by name.
#[pyfunction]
fn failpoints(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let passed = PyDict::new(py);
    for (name, times) in failpoint::passed() {
        passed.set_item(name, times)?;
    }
    Ok(passed)
}
