//! Cancelling the step of a lane, and telling the engine's requests from those of others.

use pyo3::intern;
use pyo3::prelude::*;

use super::{At, Lane, Next};
use crate::Started;

use crate::python::error;
use crate::python::lifecycle::Happened;
use crate::python::run::Run;
use crate::python::state::Outcome;

/// Why the engine cancels the step of a lane.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    RunEnding,
    StepTimeout,
    /// The run is paused and the step is to run again later.
    Pausing,
}

/// What came of the cancellation of a lane's step.
#[derive(Default)]
pub(super) struct Settled {
    // Why the engine cancelled it, if it did.
    pub(super) stop: Option<Stop>,
    // Whether another caller has asked for the same meanwhile.
    pub(super) is_external: bool,
    // Whether a caller other than the engine has asked for it.
    pub(super) is_requested: bool,
}

impl Lane {
    /// Cancels the step of a suspended lane, once for each reason. A lane on the stack sees by itself, when
    /// its step is suspended, that its run is ending.
    pub fn stop(lane: &Bound<'_, Self>, why: Stop) -> PyResult<()> {
        let is_new = match lane.get().state.lock().stop {
            None => true,
            // A step that went on after a pause, or after its time was over, is stopped for the next reason.
            Some(Stop::Pausing) => why != Stop::Pausing,
            Some(Stop::StepTimeout) => why == Stop::RunEnding,
            Some(Stop::RunEnding) => false,
        };
        if is_new { Self::stop_again(lane, why) } else { Ok(()) }
    }

    /// As [`Lane::stop`], even if the step was cancelled for the same reason before.
    pub fn stop_again(lane: &Bound<'_, Self>, why: Stop) -> PyResult<()> {
        let py = lane.py();
        let (slot, task) = {
            let mut state = lane.get().state.lock();
            let At::InStep(active) = &state.at else { return Ok(()) };
            let slot = active.started.slot;
            state.stop = Some(why);
            (slot, state.task.as_ref().map(|task| task.clone_ref(py)))
        };
        if why == Stop::Pausing {
            lane.get().run.get().state.lock().core.stop(slot);
        }
        if let Some(task) = task.filter(|task| !task.is_none(py))
            && !Self::is_stopped_around(lane, &task)
        {
            lane.get().state.lock().own_requests += 1;
            task.call_method0(py, intern!(py, "cancel"))?;
        }
        Ok(())
    }

    /// Whether the step that awaits this lane's run, in the same task, is cancelled already because its own run ends:
    /// that reaches this lane, and is not the request of this lane.
    fn is_stopped_around(lane: &Bound<'_, Self>, task: &Py<PyAny>) -> bool {
        let Some(awaiting) = &lane.get().awaiting_run else { return false };
        let lanes = awaiting.get().lanes(lane.py());
        lanes.iter().any(|lane| {
            let state = lane.get().state.lock();
            state.stop == Some(Stop::RunEnding) && state.task.as_ref().is_some_and(|known| known.is(task))
        })
    }

    /// How many requests to cancel a task come from lanes of the runs that a step of this run awaits in that task.
    fn nested_requests(run: &Bound<'_, Run>, task: &Py<PyAny>) -> usize {
        let py = run.py();
        let awaited: Vec<_> = {
            let state = run.get().state.lock();
            state.awaits.get().into_iter().flat_map(|runs| runs.values()).map(|(run, _)| run.clone_ref(py)).collect()
        };
        let of_run = |run: &Py<Run>| {
            let lanes = run.get().lanes(py);
            let own = lanes.iter().map(|lane| {
                let state = lane.get().state.lock();
                if state.task.as_ref().is_some_and(|known| known.is(task)) { state.own_requests } else { 0 }
            });
            own.sum::<usize>() + Self::nested_requests(run.bind(py), task)
        };
        awaited.iter().map(of_run).sum()
    }

    /// Takes back the engine's own request to cancel the task, if there is one.
    pub(super) fn settle_cancellation(lane: &Bound<'_, Self>) -> PyResult<Settled> {
        let py = lane.py();
        let (stop, own, task, before) = {
            let mut state = lane.get().state.lock();
            let task = state.task.as_ref().map(|task| task.clone_ref(py));
            (state.stop.take(), std::mem::take(&mut state.own_requests), task, state.cancelling_before)
        };
        // Without a task, the code that drives the coroutine by hand has thrown the cancellation in.
        let Some(task) = task.filter(|task| !task.is_none(py)) else {
            return Ok(Settled { stop, is_external: false, is_requested: stop.is_none() });
        };
        for _ in 0..own {
            task.call_method0(py, intern!(py, "uncancel"))?;
        }
        let requests: usize = task.call_method0(py, intern!(py, "cancelling"))?.extract(py)?;
        let is_requested = requests > before;
        Ok(Settled { stop, is_external: stop.is_some() && is_requested, is_requested })
    }

    /// The step goes on although it was cancelled: it has dealt with the requests so far. Says whether there were
    /// any but the engine's.
    pub(super) fn note_cancelling(lane: &Bound<'_, Self>) -> PyResult<bool> {
        let py = lane.py();
        let task = lane.get().state.lock().task.as_ref().map(|task| task.clone_ref(py));
        let Some(task) = task.filter(|task| !task.is_none(py)) else { return Ok(false) };
        let requests: usize = task.call_method0(py, intern!(py, "cancelling"))?.extract(py)?;
        let nested = Self::nested_requests(lane.get().run.bind(py), &task);
        let mut state = lane.get().state.lock();
        let others = requests.saturating_sub(state.own_requests + nested);
        Ok(others > std::mem::replace(&mut state.cancelling_before, others))
    }

    /// Closes the step of a suspended lane of which the task is gone.
    pub fn close_step(lane: &Bound<'_, Self>) -> PyResult<()> {
        let py = lane.py();
        let run = lane.get().run.bind(py).clone();
        let at = std::mem::replace(&mut lane.get().state.lock().at, At::Finished);
        Self::finish(lane, &run)?;
        let At::InStep(active) = at else { return Ok(()) };
        let closed = active.coroutine.call_method0(py, intern!(py, "close"));
        Run::observe(&run, Happened::StepCancelled(&active.started));
        let finished = run.get().state.lock().core.finish_step(active.started.slot);
        drop(finished);
        closed.map(|_| ())
    }

    /// The step is to run again. Says whether it can: not if the run has ended meanwhile.
    pub(super) fn put_back(run: &Bound<'_, Run>, started: Started) -> PyResult<bool> {
        let put_back = run.get().state.lock().core.put_back(started.slot);
        let is_queued = put_back.is_ok();
        drop(put_back);
        if !is_queued {
            Run::try_finish(run)?;
        }
        Ok(is_queued)
    }

    /// A step failed in spite of a cancellation by another caller, which stands.
    pub(super) fn cancelled_besides(
        lane: &Bound<'_, Self>,
        run: &Bound<'_, Run>,
        failed: Option<Next>,
    ) -> PyResult<Option<Next>> {
        if matches!(failed, Some(Next::Finish(_))) {
            return Ok(failed);
        }
        Run::end(run, Outcome::Cancelled)?;
        Run::try_finish(run)?;
        Self::at_end(lane, run, Some(error::cancelled(&run.get().id_text()))).map(Some)
    }
}
