//! A run in memory that waits, and that nothing refers to any more: it is stopped, and a warning says so.
//!
//! asyncio holds tasks weakly, so such a run is garbage together with its tasks and with whatever they wait for.
//! The collector calls finalizers while everything is whole; that of the run's guard stops the run.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::driver::Lane;
use super::run::Run;
use super::state::{Outcome, State};
use super::text::type_name;
use super::wake::is_closed;
use crate::{Phase, WaitId};

/// Has the run stopped once nothing refers to it any more. The engine refers to those that have a journal.
pub fn guard(run: &Bound<'_, Run>) -> PyResult<()> {
    let is_needed = {
        let state = run.get().state.lock();
        // A child is stopped with its parent.
        state.guard.is_none()
            && state.durable.is_none()
            && state.core.phase() == Phase::Running
            && state.core.family().is_none()
    };
    if is_needed { set_guard(run) } else { Ok(()) }
}

/// The same for a child that outlives its parent.
pub fn guard_child(child: &Bound<'_, Run>) -> PyResult<()> {
    let has_guard = child.get().state.lock().guard.is_some();
    if has_guard { Ok(()) } else { set_guard(child) }
}

fn set_guard(run: &Bound<'_, Run>) -> PyResult<()> {
    static GUARD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let guard = GUARD.import(run.py(), "treadle.unreferenced", "Guard")?.call1((run, &run.get().event_loop))?;
    let replaced = run.get().state.lock().guard.replace(guard.unbind());
    drop(replaced);
    Ok(())
}

/// The run is over: its guard has nothing left to do.
pub fn disarm(guard: &Bound<'_, PyAny>) -> PyResult<()> {
    guard.setattr(intern!(guard.py(), "run"), guard.py().None())
}

/// The guard of its run reports a lane that is destroyed while it is pending, and not asyncio for its task.
pub fn report_no_task(task: &Bound<'_, PyAny>) {
    // A task factory may make tasks that have no such attribute, and then nothing to report.
    let _ = task.setattr(intern!(task.py(), "_log_destroy_pending"), false);
}

/// The body of a step was closed while it waited: perhaps by the collector, before it comes to the guard.
pub fn note_closed_wait(run: &Bound<'_, Run>, id: WaitId) {
    let mut state = run.get().state.lock();
    if state.guard.is_some() {
        let waits = waits(run, &state, |wait| wait == id);
        state.closed_wait = waits.into_iter().next().map(String::into_boxed_str);
    }
}

/// What the steps of a run wait for.
fn waits(run: &Bound<'_, Run>, state: &State, is_asked: impl Fn(WaitId) -> bool) -> Vec<String> {
    let plan = run.get().plan.get();
    let described = state.core.open_waits().filter(|(id, ..)| is_asked(*id)).filter_map(|(_, slot, class)| {
        let step = plan.step_name(state.core.delivery(slot)?.step);
        Some(match class {
            Some(class) => format!("step {step:?} waited for {}", type_name(class.0.bind(run.py()))),
            None => format!("step {step:?} slept"),
        })
    });
    described.collect()
}

fn described(run: &Bound<'_, Run>, state: &State) -> String {
    let mut what = waits(run, state, |_| true);
    what.extend(state.closed_wait.as_deref().map(str::to_owned));
    if what.is_empty() {
        let plan = run.get().plan.get();
        let suspended = state.core.steps_in_flight().map(|step| format!("step {:?} waited", plan.step_name(step)));
        what.extend(suspended);
    }
    if what.is_empty() {
        what.push("it waited for an event from outside".to_owned());
    }
    format!(
        "run {} of workflow {:?} was stopped, because nothing refers to it any more: {}; keep what run() returned, \
         or await it",
        run.get().id_text(),
        run.get().plan.get().name,
        what.join(", ")
    )
}

#[pymethods]
impl Run {
    /// Called by the guard: closes the steps, and cancels the run. Returns what is to be reported: nothing of a
    /// run that is over or paused.
    fn _stop_unreferenced(slf: &Bound<'_, Self>) -> PyResult<Option<String>> {
        let py = slf.py();
        let (text, lanes) = {
            let mut state = slf.get().state.lock();
            if state.is_over {
                return Ok(None);
            }
            let text = (!state.core.is_paused()).then(|| described(slf, &state));
            let lanes: Vec<_> = std::mem::take(&mut state.lanes).into_values().collect();
            (text, lanes)
        };
        for lane in &lanes {
            // One that fails must not keep the others from being closed.
            if let Err(error) = Lane::close_step(lane.bind(py)) {
                error.write_unraisable(py, Some(slf.as_any()));
            }
        }
        // Its loop cannot be asked to finish it, from whatever thread the collector came.
        if is_closed(slf.get().event_loop.bind(py))? {
            let abandoned = slf.get().state.lock().abandon();
            drop(abandoned);
            return Self::finish(slf).map(|()| text);
        }
        Self::end(slf, Outcome::Cancelled)?;
        if !slf.get().state.lock().is_over {
            let abandoned = slf.get().state.lock().core.abandon();
            drop(abandoned);
            Self::finish(slf)?;
        }
        Ok(text)
    }
}
