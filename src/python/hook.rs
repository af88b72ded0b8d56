//! Calls of the user's hooks, and what they may raise.
//!
//! Three exceptions are no failure to a coroutine or a future that they pass through: `StopIteration` is a result,
//! `GeneratorExit` closes it, `CancelledError` cancels it. A hook has nothing to return, close or cancel that way, so
//! that each becomes the cause of a `RuntimeError`, as PEP 479 has it for generators. All others pass as they are.

use pyo3::exceptions::asyncio::CancelledError;
use pyo3::exceptions::{PyGeneratorExit, PyKeyboardInterrupt, PyRuntimeError, PyStopIteration, PySystemExit};
use pyo3::prelude::*;

use super::error;

/// Calls a hook; `name` is what the user knows it by.
#[inline]
pub fn call<T>(py: Python<'_>, name: &str, hook: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    hook().map_err(|error| as_failure(py, name, error))
}

/// What a hook raised, as the failure of whatever it was called for.
#[cold]
pub fn as_failure(py: Python<'_>, name: &str, error: PyErr) -> PyErr {
    let error = error::made(py, error);
    if error.is_instance_of::<CancelledError>(py) { replaced(py, name, error) } else { of_step(py, name, error) }
}

/// What a step raised: a `CancelledError` of a step is its cancellation, as that of a task is.
#[cold]
pub fn of_step(py: Python<'_>, name: &str, error: PyErr) -> PyErr {
    let error = error::made(py, error);
    if error.is_instance_of::<PyGeneratorExit>(py) {
        return replaced(py, name, error);
    }
    not_stop_iteration(py, name, error)
}

/// What is raised by a coroutine of ours, or by a future.
#[cold]
pub fn not_stop_iteration(py: Python<'_>, name: &str, error: PyErr) -> PyErr {
    let error = error::made(py, error);
    if error.is_instance_of::<PyStopIteration>(py) { replaced(py, name, error) } else { error }
}

fn replaced(py: Python<'_>, name: &str, error: PyErr) -> PyErr {
    let instead = PyRuntimeError::new_err(format!("{name} raised {}", error::shown(error.value(py))));
    let instead = error::made(py, instead);
    instead.set_cause(py, Some(error));
    instead
}

/// Whether an exception ends the program, and not only what it is raised in.
pub fn ends_program(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyKeyboardInterrupt>(py) || error.is_instance_of::<PySystemExit>(py)
}
