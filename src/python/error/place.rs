//! Where an exception was raised: the notes that say step, event, attempt and run.

use pyo3::exceptions::{PyBaseException, PyException};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::python::run::Run;
use crate::python::text::type_name;
use crate::{Started, StepId};

/// Adds to an exception where it was raised: as a record, for programs, and as a note, for people.
#[cold]
pub fn locate(py: Python<'_>, error: &PyErr, run: &Run, started: &Started, event: Option<&Py<PyAny>>) {
    record_place(py, error, run, started, event);
    let plan = run.plan.get();
    let note = format!(
        "in step {:?} for event {}, attempt {}, run {} of workflow {:?}",
        plan.step_name(started.step),
        event_name(py, event),
        started.attempt,
        run.id_text(),
        plan.name
    );
    add_note(py, error, note);
}

fn event_name(py: Python<'_>, event: Option<&Py<PyAny>>) -> String {
    event.map_or_else(|| "?".to_owned(), |event| type_name(&event.bind(py).get_type()))
}

/// Records where an exception was raised, as `treadle.failure_of` tells it.
#[cold]
pub fn record_place(py: Python<'_>, error: &PyErr, run: &Run, started: &Started, event: Option<&Py<PyAny>>) {
    let place = (started.step, started.attempt);
    if let Err(failure) = set_place(error.value(py), run, place, event, "set_record") {
        failure.write_unraisable(py, None);
    }
}

/// As [`record_place`], of an attempt behind which there is another one: the members of a group may be raised again.
#[cold]
pub fn record_own_place(
    error: &Bound<'_, PyBaseException>,
    run: &Run,
    started: &Started,
    event: Option<&Py<PyAny>>,
) -> PyResult<()> {
    set_place(error, run, (started.step, started.attempt), event, "set_own_record")
}

pub(super) fn set_place(
    error: &Bound<'_, PyBaseException>,
    run: &Run,
    (step, attempt): (StepId, u32),
    event: Option<&Py<PyAny>>,
    set: &str,
) -> PyResult<()> {
    let py = error.py();
    let plan = run.plan.get();
    let record = PyDict::new(py);
    record.set_item("run_id", run.id_text())?;
    record.set_item("workflow", &plan.name)?;
    record.set_item("step", plan.step_name(step))?;
    record.set_item("attempt", attempt)?;
    record.set_item("event", event_name(py, event))?;
    py.import(intern!(py, "treadle.failures"))?.call_method1(set, (error, record)).map(drop)
}

/// Adds a note to an exception. One whose `__notes__` are no list, or whose class has another `add_note`, may refuse
/// it: that is no reason to report another failure than this one.
#[cold]
pub fn add_note(py: Python<'_>, error: &PyErr, note: String) {
    if let Err(refused) = error.value(py).call_method1(intern!(py, "add_note"), (note,))
        && !refused.is_instance_of::<PyException>(py)
    {
        refused.write_unraisable(py, None);
    }
}
