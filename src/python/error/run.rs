//! What goes wrong with a run as a whole.

use pyo3::exceptions::PyValueError;
use pyo3::exceptions::asyncio::CancelledError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyInt;

use super::text::shown;
use super::{classes, of_run};
use crate::error::Error;
use crate::history::HistoryError;
use crate::journal::Phase;
use crate::python::journal::phase_name;
use crate::python::run::Run;
use crate::python::state::{Class, EventWaiter};
use crate::python::text::type_name;
use crate::{RunId, Time};

#[cold]
pub fn run_ended(run: &str, call: &str) -> PyErr {
    of_run(run, classes::RunEnded::new_err(format!("{call}: run {run} has ended")))
}

#[cold]
pub fn no_event_loop(workflow: &str) -> PyErr {
    classes::EventLoopError::new_err(format!(
        "workflow {workflow:?}: no event loop is running here; call run() inside of an `async def` that \
         asyncio.run() drives"
    ))
}

#[cold]
pub fn loop_closed(run: &str) -> PyErr {
    classes::EventLoopError::new_err(format!("run {run}: its event loop was closed before it ended"))
}

#[cold]
pub fn awaits_itself(run: &str) -> PyErr {
    classes::RunStalled::new_err(format!("run {run}: one of its own steps awaits it, so neither could ever go on"))
}

#[cold]
pub fn pauses_itself(run: &str) -> PyErr {
    classes::RunStalled::new_err(format!(
        "run {run}: one of its own steps waits for it to be paused, and the run for that step; use \
         pause(wait=False), or pause it from outside"
    ))
}

/// For those that are cancelled with a run, or besides it.
#[cold]
pub fn cancelled(run: &str) -> PyErr {
    CancelledError::new_err(format!("run {run} was cancelled"))
}

/// For awaiters of a cancelled run that were not cancelled themselves.
#[cold]
pub fn run_cancelled(run: &str) -> PyErr {
    classes::RunCancelled::new_err(format!("run {run} was cancelled"))
}

#[cold]
pub fn run_stalled(run: &Run) -> PyErr {
    let plan = run.plan.get();
    classes::RunStalled::new_err(format!(
        "run {} of workflow {:?} can go nowhere: no event is queued, no step runs, no step waits for an event, \
         and no step returned a StopEvent",
        run.id_text(),
        plan.name
    ))
}

#[cold]
pub fn workflow_timeout(run: &Run, timeout: Option<Time>) -> PyErr {
    let plan = run.plan.get();
    let seconds = timeout.unwrap_or_default() as f64 / 1e6;
    classes::WorkflowTimeout::new_err(format!(
        "run {} of workflow {:?} took longer than {seconds} s",
        run.id_text(),
        plan.name
    ))
}

#[cold]
pub fn deadline_passed(run: &Run, longest: Option<Time>) -> PyErr {
    let seconds = longest.unwrap_or_default() as f64 / 1e6;
    classes::WorkflowTimeout::new_err(format!(
        "run {} of workflow {:?} was not over by its deadline, {seconds} s after it was made",
        run.id_text(),
        run.plan.get().name
    ))
}

#[cold]
pub fn wait_timeout(py: Python<'_>, waiter: &EventWaiter, class: &Class, run: &str) -> PyErr {
    let class = type_name(class.0.bind(py));
    let seconds = waiter.timeout.unwrap_or_default();
    classes::WaitTimeout::new_err(format!("run {run}: no event {class} came within {seconds} s"))
}

/// Whether an error says that this run is over, or that its step was cancelled: the step that raises it has learnt
/// of the end of its own run. That another run is over is a failure of the step.
pub fn is_end_of(py: Python<'_>, error: &PyErr, run: &Run) -> bool {
    if !error.is_instance_of::<classes::RunEnded>(py) && !error.is_instance_of::<classes::StepCancelled>(py) {
        return false;
    }
    let of = error.value(py).getattr(intern!(py, "run_id"));
    of.and_then(|of| of.eq(run.id_text())).unwrap_or(false)
}

#[cold]
pub fn engine_closed(run: &str) -> PyErr {
    classes::EngineClosed::new_err(format!(
        "run {run}: its engine was closed before it ended; it goes on when an engine is opened on the same journal"
    ))
}

/// Only what failed or was cancelled goes on from there.
#[cold]
pub fn not_to_be_retried(run: &RunId, phase: Phase) -> PyErr {
    if phase == Phase::Completed {
        let text = format!(
            "retry: run {run} is completed, and its result stands; a fork of it runs once more from a point of its log"
        );
        return of_run(&run.to_string(), classes::RunEnded::new_err(text));
    }
    let status = phase_name(phase);
    classes::JournalConflict::new_err(format!("retry: run {run} is not over: it is {status}"))
}

/// What a fork was to change cannot be.
#[cold]
pub fn bad_edit(run: &RunId, edit: &HistoryError) -> PyErr {
    PyValueError::new_err(format!("fork of run {run}: events: {edit}"))
}

/// The history of the run does not have the record.
#[cold]
pub fn not_in_history(run: &RunId, at: &Bound<'_, PyInt>, first: u64, last: u64) -> PyErr {
    let at = shown(at.as_any());
    let known = match first {
        0 => format!("its records are numbered from 0, its creation, to {last}"),
        _ => format!("those that are kept are numbered from {first} to {last}, since earlier ones were folded"),
    };
    PyValueError::new_err(format!("at: run {run} has no record {at}: {known}"))
}

#[cold]
pub fn no_such_record(run: &RunId, at: &Bound<'_, PyInt>, first: u64, last: u64) -> PyErr {
    let at = shown(at.as_any());
    let known = match first {
        0 => format!("those before its end are numbered from 0, its creation, to {last}"),
        _ => format!("those before its end are numbered from {first} to {last}, since earlier ones were folded"),
    };
    PyValueError::new_err(format!("at: run {run} has no record {at}: {known}"))
}

/// Whether what is stored is damaged, so that no process can read it. Other errors may be due to the code or to the
/// secrets of this process.
#[cold]
pub fn is_damage(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<classes::DamagedRun>(py)
}

#[cold]
pub fn damaged_run(run: &RunId, error: &Error) -> PyErr {
    classes::DamagedRun::new_err(format!("run {run} is damaged in the journal: {error}"))
}

#[cold]
pub fn incompatible(problems: Vec<String>) -> PyErr {
    classes::IncompatibleSnapshot::new_err((problems,))
}
