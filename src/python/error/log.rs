//! What is logged.

use pyo3::exceptions::PyBaseException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict};

use crate::Started;
use crate::python::run::Run;

/// Logs something that is reported nowhere else.
#[cold]
pub fn log_error(py: Python<'_>, text: &str, error: &PyErr) {
    log(py, text, error.value(py));
}

/// A step raised while the run was ending for another reason: that reason stands, this one is logged.
#[cold]
pub fn log_while_ending(py: Python<'_>, run: &Run, started: &Started, error: &PyErr) {
    let text = format!(
        "step {:?} raised while run {} of workflow {:?} was ending",
        run.plan.get().step_name(started.step),
        run.id_text(),
        run.plan.get().name
    );
    log(py, &text, error.value(py));
}

/// Something that reports the failure of a run when it is dropped: it is reported nowhere else.
#[cold]
pub fn unretrieved(py: Python<'_>, run: &Run, error: &PyErr) -> PyResult<Py<PyAny>> {
    static UNRETRIEVED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let text = format!("run {} of workflow {:?} failed and was never awaited", run.id_text(), run.plan.get().name);
    let class = UNRETRIEVED.import(py, "treadle.log", "Unretrieved")?;
    Ok(class.call1((text, error.value(py), run.event_loop.bind(py)))?.unbind())
}

/// Whether what happens to runs is logged: the logger `treadle` at the level DEBUG.
pub fn is_debug_logged(py: Python<'_>) -> PyResult<bool> {
    static IS_ENABLED_FOR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static KNOWN: PyOnceLock<Option<Py<PyDict>>> = PyOnceLock::new();
    const DEBUG: u8 = 10;
    // Every run asks. A logger remembers its answers until one of them may have changed.
    let known = KNOWN.get_or_try_init(py, || known_levels(&logger(py)?))?;
    if let Some(known) = known
        && let Some(answer) = known.bind(py).get_item(DEBUG)?
        && answer.is(PyBool::new(py, false))
    {
        return Ok(false);
    }
    let is_enabled_for =
        IS_ENABLED_FOR.get_or_try_init(py, || logger(py)?.getattr(intern!(py, "isEnabledFor")).map(Bound::unbind))?;
    is_enabled_for.bind(py).call1((DEBUG,))?.is_truthy()
}

/// What a logger has answered, by level; nothing if its class is not that of the standard library.
fn known_levels(logger: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyDict>>> {
    let py = logger.py();
    let standard = py.import(intern!(py, "logging"))?.getattr(intern!(py, "Logger"))?;
    if !logger.get_type().is(&standard) {
        return Ok(None);
    }
    let known = logger.getattr_opt(intern!(py, "_cache"))?;
    Ok(known.and_then(|known| known.cast_into::<PyDict>().ok()).map(Bound::unbind))
}

/// Logs what happens to a run, at the level DEBUG.
#[cold]
pub fn log_debug(py: Python<'_>, run: &Run, what: &str) -> PyResult<()> {
    let text = format!("run {} of workflow {:?} {what}", run.id_text(), run.plan.get().name);
    logger(py)?.call_method1(intern!(py, "debug"), ("%s", text)).map(|_| ())
}

/// Logs a warning.
#[cold]
pub fn log_warning(py: Python<'_>, text: &str) -> PyResult<()> {
    logger(py)?.call_method1(intern!(py, "warning"), ("%s", text)).map(|_| ())
}

fn logger(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import(intern!(py, "treadle.log"))?.call_method0(intern!(py, "logger"))
}

pub(super) fn log(py: Python<'_>, text: &str, error: &Bound<'_, PyBaseException>) {
    static LOG: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let logged = LOG.import(py, "treadle.log", "log_exception").and_then(|log| log.call1((text, error)));
    if let Err(failure) = logged {
        failure.write_unraisable(py, None);
    }
}
