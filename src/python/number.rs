//! Numbers that users give. `treadle.checks` says which are good, and how an error names them.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyFloat};

use super::plan::micros;
use crate::Time;

static DURATION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static WHOLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A time that is more than 0, in seconds.
pub fn duration(name: &str, given: &Bound<'_, PyAny>) -> PyResult<f64> {
    checked_duration(name, given, false)
}

/// A time that may be 0, to be counted.
pub fn delay(name: &str, given: &Bound<'_, PyAny>) -> PyResult<Time> {
    checked_duration(name, given, true).map(micros)
}

/// A number of an event or a record: 0 or more.
pub fn position(name: &str, given: &Bound<'_, PyAny>) -> PyResult<u64> {
    let py = given.py();
    let keywords = PyDict::new(py);
    keywords.set_item("least", 0)?;
    WHOLE.import(py, "treadle.checks", "whole")?.call((name, given), Some(&keywords))?.extract()
}

fn checked_duration(name: &str, given: &Bound<'_, PyAny>, zero: bool) -> PyResult<f64> {
    // Steps ask as they go: what is plainly good is not asked about.
    if let Ok(number) = given.cast_exact::<PyFloat>()
        && number.value() > 0.0
    {
        return Ok(number.value());
    }
    let py = given.py();
    let keywords = PyDict::new(py);
    keywords.set_item("zero", zero)?;
    DURATION.import(py, "treadle.checks", "duration")?.call((name, given), Some(&keywords))?.extract()
}
