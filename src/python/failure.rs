//! What becomes of a step that failed: another attempt, an event for another step, or the end of the run.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use super::clock::random;
use super::error;
use super::hook;
use super::lifecycle::Happened;
use super::plan::{RetryFilter, micros};
use super::run::Run;
use crate::writer::Occurrence;
use crate::{MOST_IN_A_ROW, Started, Time};

// From so many failures in a row on, a warning is logged.
const MANY_IN_A_ROW: u32 = 10;
const CURE: &str = "what deals with its failure sends it the same event again; let it wait before that, or give the \
     step a retry";

/// Deals with the failure of a step in flight. Gives the exception, with notes, if it ends the run; the step is
/// in flight still, then.
pub fn handle(
    run: &Bound<'_, Run>,
    started: Started,
    event: Option<&Py<PyAny>>,
    error: PyErr,
) -> PyResult<Option<PyErr>> {
    let py = run.py();
    let is_ordinary = error.is_instance_of::<PyException>(py);
    if is_ordinary {
        match retry(run, started, &error) {
            Ok(true) => {
                error::record_own_place(error.value(py), run.get(), &started, event)?;
                return Ok(None);
            }
            Ok(false) => {}
            Err(of_filter) => {
                Run::observe(run, Happened::StepFailed(&started, &of_filter));
                error::locate(py, &of_filter, run.get(), &started, event);
                return Ok(Some(of_filter));
            }
        }
        error::record_place(py, &error, run.get(), &started, event);
        Run::observe(run, Happened::StepFailed(&started, &error));
        if hand_on(run, started, event, &error)? {
            return Ok(None);
        }
    }
    if !is_ordinary {
        Run::observe(run, Happened::StepFailed(&started, &error));
    }
    note_attempts(run, started, &error);
    error::locate(py, &error, run.get(), &started, event);
    Ok(Some(error))
}

/// Whether the step is to be tried again; its delivery waits for that by now.
fn retry(run: &Bound<'_, Run>, started: Started, error: &PyErr) -> PyResult<bool> {
    let py = run.py();
    let plan = run.get().plan.get();
    let Some(policy) = &plan.core.steps[started.step.0 as usize].retry else { return Ok(false) };
    let filter = plan.filter(started.step);
    if started.attempt >= policy.attempts || is_final(error, py)? || !is_retried(filter, error, py)? {
        return Ok(false);
    }
    let delay = match filter.and_then(|filter| filter.delay.as_ref()) {
        Some(hook) => delay_of(run, started, hook, error)?,
        None => None,
    };
    let text = error::attempt_text(py, started.attempt, error);
    let now = run.get().now();
    let random = random()?;
    let since = run.get().since(started);
    let due = match delay {
        Some(delay) => policy.next_after(started.attempt, since, now, delay),
        None => policy.next(started.attempt, since, now, random),
    };
    let Some(due) = due else { return Ok(false) };
    run.get().log(py, || {
        let seconds = due.saturating_sub(now) as f64 / 1e6;
        format!("tries step {:?} again in {seconds:.3} s: {text}", plan.step_name(started.step))
    })?;
    let retried = {
        let mut state = run.get().state.lock();
        state.core.stamp(|| now);
        let retried = state.core.retry(started.slot, text.into(), due);
        let raised = error.value(py).clone().unbind();
        let before = if retried.is_ok() { state.last_errors.make().insert(started.seq, raised) } else { Some(raised) };
        (retried, before)
    };
    let is_waiting = retried.0.is_ok();
    drop(retried);
    if is_waiting {
        Run::observe(run, Happened::StepRetried(&started, error, due));
        Run::arm_timer(run)?;
        Run::occurred(run, Occurrence::Retried)?;
    }
    Ok(is_waiting)
}

/// Whether the exception says that no attempt will do, or one in its group does.
pub fn is_final(error: &PyErr, py: Python<'_>) -> PyResult<bool> {
    static IS_FINAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    IS_FINAL.import(py, "treadle.failures", "is_final")?.call1((error.value(py),))?.is_truthy()
}

/// The delay that the user's function gives, in microseconds; nothing if it leaves that to the policy.
fn delay_of(run: &Bound<'_, Run>, started: Started, hook: &Py<PyAny>, error: &PyErr) -> PyResult<Option<Time>> {
    let py = run.py();
    let answer = || seconds_of(&hook.bind(py).call1((error.value(py), started.attempt))?);
    match answer() {
        Ok(seconds) => Ok(seconds.map(micros)),
        Err(raised) if hook::ends_program(py, &raised) => Err(raised),
        Err(raised) => Err(error::retry_failed(run.get(), &started, raised, error)),
    }
}

/// The seconds that a user's function has given for a delay; nothing if it leaves that to the policy.
pub fn seconds_of(answer: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    static SECONDS_OF: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    SECONDS_OF.import(answer.py(), "treadle.retry", "delay_of")?.call1((answer,))?.extract()
}

pub fn is_retried(filter: Option<&RetryFilter>, error: &PyErr, py: Python<'_>) -> PyResult<bool> {
    let Some(filter) = filter else { return Ok(true) };
    let value = error.value(py);
    hook::call(py, "retry_if", || {
        let answer = || {
            if !value.is_instance(filter.on.bind(py))? || value.is_instance(filter.unless.bind(py))? {
                return Ok(false);
            }
            match &filter.retry_if {
                Some(retry_if) => retry_if.bind(py).call1((value,))?.is_truthy(),
                None => Ok(true),
            }
        };
        answer().inspect_err(|raised: &PyErr| {
            if raised.cause(py).is_none() && !raised.value(py).is(value) {
                raised.set_cause(py, Some(error.clone_ref(py)));
            }
        })
    })
}

/// Gives the failure to the steps that deal with it, as an event. Says whether there are any.
fn hand_on(run: &Bound<'_, Run>, started: Started, event: Option<&Py<PyAny>>, error: &PyErr) -> PyResult<bool> {
    static STEP_FAILED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = run.py();
    let plan = run.get().plan.get();
    let takers = plan.failure_takers(started.step);
    let class = STEP_FAILED.import(py, "treadle.events", "StepFailed")?;
    let is_failure = event.is_some_and(|event| event.bind(py).is_instance(class).unwrap_or(false));
    // The failure of a step that deals with failures ends the run: else it could go round for good.
    if takers.is_empty() || is_failure {
        return Ok(false);
    }
    let now = run.get().now();
    let setbacks = run.get().state.lock().core.setbacks(started.slot, now);
    let Some(setbacks) = setbacks else { return Ok(false) };
    if setbacks.are_too_many() {
        error::add_note(py, error, format!("{}: {CURE}", in_a_row(run, started, MOST_IN_A_ROW + 1)));
        return Ok(false);
    }
    if setbacks.in_a_row == MANY_IN_A_ROW {
        error::log_warning(py, &format!("{}: {CURE}", in_a_row(run, started, MANY_IN_A_ROW)))?;
    }
    let fields = PyDict::new(py);
    fields.set_item("step", plan.step_name(started.step))?;
    fields.set_item("event", event)?;
    fields.set_item("error", error.value(py))?;
    fields.set_item("attempts", started.attempt)?;
    fields.set_item("started_at", run.get().since(started).map(|since| since as f64 / 1e6))?;
    fields.set_item("failed_at", now as f64 / 1e6)?;
    let failed = class.call((), Some(&fields))?;
    let failed = failed.unbind();
    let finished = {
        let mut state = run.get().state.lock();
        state.core.stamp(|| now);
        (state.core.hand_on(started.slot, takers, &failed, setbacks), state.forget_error(started.seq))
    };
    drop((finished, failed));
    Run::occurred(run, Occurrence::Finished)?;
    Ok(true)
}

/// Says that a step fails again and again.
fn in_a_row(run: &Bound<'_, Run>, started: Started, times: u32) -> String {
    let plan = run.get().plan.get();
    format!(
        "step {:?} of run {} of workflow {:?} has failed {times} times in a row, without a second between",
        plan.step_name(started.step),
        run.get().id_text(),
        plan.name
    )
}

/// Adds a note for each earlier attempt.
fn note_attempts(run: &Bound<'_, Run>, started: Started, error: &PyErr) {
    let py = run.py();
    let failures: Vec<_> = {
        let state = run.get().state.lock();
        let replay = state.core.delivery(started.slot).and_then(|delivery| delivery.replay.as_deref());
        replay.map(|replay| replay.failures.clone()).unwrap_or_default()
    };
    let unknown = failures.first().map_or(0, |first| first.attempt.saturating_sub(1));
    let more = (unknown > 0).then(|| format!("{unknown} earlier attempts failed as well"));
    let notes = more.into_iter().chain(failures.into_iter().map(|failure| failure.text.into_string()));
    for note in notes {
        error::add_note(py, error, note);
    }
}
