//! What goes wrong in a step.

use pyo3::exceptions::{PyBaseException, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::place::set_place;
use super::text::{in_one_line, text_of};
use super::{classes, made, of_run};
use crate::python::run::Run;
use crate::python::text::type_name;
use crate::{Failure, MOST_SENT, Started, StepId};

#[cold]
pub fn step_timeout(run: &Run, started: &Started) -> PyErr {
    let plan = run.plan.get();
    let seconds = plan.core.steps[started.step.0 as usize].timeout.unwrap_or_default() as f64 / 1e6;
    classes::StepTimeout::new_err(format!(
        "step {:?} took longer than {seconds} s (attempt {}, run {} of workflow {:?})",
        plan.step_name(started.step),
        started.attempt,
        run.id_text(),
        plan.name
    ))
}

#[cold]
pub fn outside_step() -> PyErr {
    classes::OutsideStep::new_err(
        "no step runs here: this is called from a step, or from a task or a thread that has the step's context variables \
         (asyncio.to_thread gives them on, loop.run_in_executor does not)",
    )
}

#[cold]
pub fn step_over(run: &Run, step: StepId, call: &str) -> PyErr {
    classes::OutsideStep::new_err(format!(
        "{call}: the body of step {:?} of run {} is over; a task that it has left behind keeps and sends nothing",
        run.plan.get().step_name(step),
        run.id_text()
    ))
}

#[cold]
pub fn too_many_sent(run: &Run, step: &str) -> PyErr {
    PyValueError::new_err(format!(
        "send_event: step {step:?} of run {} sends more than {MOST_SENT} events to other runs, which one commit cannot hold; \
         let further steps send the others",
        run.id_text()
    ))
}

#[cold]
pub fn step_cancelled(run: &Run, step: StepId) -> PyErr {
    let text = format!(
        "step {:?} of run {} was cancelled while its thread went on; nothing that it does counts any more",
        run.plan.get().step_name(step),
        run.id_text()
    );
    of_run(&run.id_text(), classes::StepCancelled::new_err(text))
}

/// A function of the user was to say when a step is tried again, and did not.
#[cold]
pub fn retry_failed(run: &Run, started: &Started, raised: PyErr, failure: &PyErr) -> PyErr {
    Python::attach(|py| {
        let plan = run.plan.get();
        let raised = made(py, raised);
        let text = format!(
            "step {:?}: Retry(delay=...) gave no delay after attempt {} ({}; run {} of workflow {:?})",
            plan.step_name(started.step),
            started.attempt,
            in_one_line(py, &raised),
            run.id_text(),
            plan.name
        );
        if raised.cause(py).is_none() && !raised.value(py).is(failure.value(py)) {
            raised.set_cause(py, Some(failure.clone_ref(py)));
        }
        let error = classes::RetryFailed::new_err(text);
        error.set_cause(py, Some(raised));
        error
    })
}

/// What is remembered of an attempt that failed.
#[cold]
pub fn attempt_text(py: Python<'_>, attempt: u32, error: &PyErr) -> String {
    pub(super) const MOST: usize = 1000;
    let class = type_name(&error.get_type(py));
    let text = text_of(error.value(py));
    let text = text.char_indices().nth(MOST).map_or(&*text, |(at, _)| &text[..at]);
    Failure::text_of(attempt, &class, text)
}

/// A failure of which its text is known alone, as an exception.
#[cold]
pub fn stored_failure<'py>(
    py: Python<'py>,
    run: &Run,
    step: StepId,
    failure: &Failure,
    event: Option<&Py<PyAny>>,
) -> PyResult<Bound<'py, PyBaseException>> {
    static STORED_ERROR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let (class, text) = failure.parts().unwrap_or(("Exception", &failure.text));
    let error = STORED_ERROR.import(py, "treadle.exceptions", "StoredError")?.call1((class, text))?;
    let error = error.cast_into::<PyBaseException>()?;
    set_place(&error, run, (step, failure.attempt), event, "set_own_record")?;
    Ok(error)
}

/// A memo whose value cannot be encoded. `memo` names it, its step and its run.
#[cold]
pub fn unstorable_memo(py: Python<'_>, memo: &str, class: &Bound<'_, PyType>, cause: PyErr) -> PyErr {
    if !cause.is_instance_of::<classes::UnstorableValue>(py) {
        return cause;
    }
    let why = cause.cause(py).map_or_else(|| text_of(cause.value(py)), |why| text_of(why.value(py)));
    let name = type_name(class);
    let error = classes::UnstorableValue::new_err(format!(
        "{memo}: a result of type {name} cannot be stored, because it cannot be pickled ({why}); return what is needed \
         of it"
    ));
    error.set_cause(py, cause.cause(py));
    error
}

#[cold]
pub fn unsigned_memo(memo: &str) -> PyErr {
    classes::UnsignedValue::new_err(format!(
        "{memo}: its result is an opaque value, which is pickled and has to be signed, and the journal has no secret: \
         give Engine(secret=...)"
    ))
}
