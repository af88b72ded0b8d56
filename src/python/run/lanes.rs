//! The lanes of a run: how many there are, and who makes them.

use pyo3::intern;
use pyo3::prelude::*;

use super::Run;
use crate::Phase;
use crate::python::coroutine::{Resumed, current_task};
use crate::python::driver::{Lane, SharedTask};
use crate::python::wake::is_closed;
use crate::python::{error, unreferenced};

impl Run {
    /// Makes lanes, each with a task of its own; those of a run with a journal begin in a task that is shared.
    pub fn spawn_lanes(run: &Bound<'_, Self>, count: usize) -> PyResult<()> {
        if count > 0 {
            unreferenced::guard(run)?;
        }
        for _ in 0..count {
            let has_journal = {
                let mut state = run.get().state.lock();
                state.scheduled += 1;
                state.durable.is_some()
            };
            let made = if has_journal { SharedTask::queue(run) } else { Lane::spawn(run) };
            if let Err(error) = made {
                run.get().state.lock().scheduled -= 1;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Makes lanes for deliveries that are ready: called after anything but a lane of this run on the
    /// stack made them so. A lane on the stack looks for itself when its step is suspended or done.
    pub fn wake_lanes(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        if !run.get().is_on_its_thread() {
            return run.get().call_soon(py, (run.getattr(intern!(py, "_wake_lanes"))?,));
        }
        if run.get().has_limit() && run.get().state.lock().core.needs_place() && !Self::ask_for_place(run)? {
            return Ok(());
        }
        let count = run.get().lanes_wanted();
        Self::spawn_lanes(run, count)
    }

    /// How many more lanes there should be: as many again as are suspended, so that a fan-out of workers
    /// that wait gets its lanes in a few passes of the loop, and one of workers that do not gets none.
    pub fn lanes_wanted(&self) -> usize {
        let state = self.state.lock();
        if state.driving.is_some() || !state.started || state.core.phase() != Phase::Running {
            return 0;
        }
        let most = (state.core.in_flight() as usize).max(1);
        state.core.ready().min(most).saturating_sub(state.scheduled)
    }

    /// The lanes that were suspended inside of a step.
    pub fn lanes(&self, py: Python<'_>) -> Vec<Py<Lane>> {
        self.state.lock().lanes.values().map(|lane| lane.clone_ref(py)).collect()
    }

    /// Fails the run if nothing can ever happen any more.
    pub fn check_stalled(run: &Bound<'_, Self>) -> PyResult<()> {
        let is_stalled = {
            let state = run.get().state.lock();
            state.started && state.driving.is_none() && state.scheduled == 0 && state.core.is_stalled()
        };
        if is_stalled { Self::fail(run, error::run_stalled(run.get())) } else { Ok(()) }
    }

    /// A wait has ended. If no step is in flight, it was the wait of a task that a step left behind, which
    /// may do something in the next pass of the loop; if it does not, the run can go nowhere.
    pub fn wait_ended(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        let may_be_stalled = run.get().state.lock().core.is_stalled();
        if !may_be_stalled || is_closed(run.get().event_loop.bind(py))? {
            return Ok(());
        }
        run.get().call_soon(py, (run.getattr(intern!(py, "_check_stalled"))?,))
    }

    /// Goes on with the lane of the current task, of which the run is the coroutine.
    pub(super) fn resume_task(run: &Bound<'_, Self>, thrown: Option<PyErr>) -> PyResult<Resumed> {
        let py = run.py();
        let task = current_task(py)?.as_ptr() as usize;
        let known = run.get().state.lock().task_lanes.get().and_then(|lanes| Some(lanes.get(&task)?.clone_ref(py)));
        let lane = match known {
            Some(lane) => lane,
            None => Lane::for_awaiter(run)?,
        };
        let result = Lane::resume(lane.bind(py), thrown);
        let mut state = run.get().state.lock();
        let replaced = if matches!(result, Ok(Resumed::Yielded(_))) {
            state.task_lanes.make().insert(task, lane)
        } else {
            state.task_lanes.make().remove(&task)
        };
        drop(state);
        drop(replaced);
        result
    }

    /// Whether a lane of the run is on the stack of this thread.
    pub fn is_on_stack(&self) -> bool {
        self.is_on_its_thread() && self.state.lock().driving.is_some()
    }
}
