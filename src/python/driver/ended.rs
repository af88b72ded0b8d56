//! What follows when a step has returned or raised.

use pyo3::exceptions::asyncio::CancelledError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::stop::Settled;
use super::{Lane, Next, Stop};
use crate::python::coroutine::Active;
use crate::python::gate::Entry;
use crate::python::lifecycle::Happened;
use crate::python::run::Run;
use crate::python::state::Outcome;
use crate::python::{error, failure, hook};
use crate::writer::Occurrence;
use crate::{Origin, Phase, Route, Started};

impl Lane {
    /// A step gave its result: what it emits is routed. It is on the stack of its lane until now.
    pub(super) fn step_returned(
        lane: &Bound<'_, Self>,
        run: &Bound<'_, Run>,
        active: Active,
        mut value: Bound<'_, PyAny>,
    ) -> PyResult<Option<Next>> {
        if run.get().has_sent() {
            match Run::ask_for_targets(run, active.started.slot, &value) {
                Ok(None) => {}
                Ok(Some(asking)) => return Ok(Some(Next::Step(Active { coroutine: asking, ..active }))),
                Err(error) => {
                    run.get().state.lock().driving = None;
                    return Self::step_raised(lane, run, active, error);
                }
            }
        }
        if active.interrupted {
            // A step that finishes in spite of a cancellation has decided so, as a coroutine may in a task.
            Self::settle_cancellation(lane)?;
        }
        let started = active.started;
        drop(active);
        Run::observe(run, Happened::StepFinished(&started));
        let route = if value.is_none() || value.get_type_ptr() == (&raw mut ffi::PyList_Type) {
            None
        } else {
            Some(run.get().plan.get().route(&value))
        };
        let py = value.py();
        // The usual case under one lock: one event for the steps, and nothing that could keep it from them.
        if let Some(Route::Steps(kind)) = route {
            let origin = Origin::Returned(started.slot);
            let (routed, error) = {
                let mut state = run.get().state.lock();
                state.driving = None;
                let routed = state.core.route_directly(origin, kind, value.unbind(), || run.get().now());
                let error = if routed.is_ok() { state.forget_error(started.slot.seq()) } else { None };
                (routed, error)
            };
            match routed {
                Ok(finished) => {
                    drop((finished, error));
                    Run::occurred(run, Occurrence::Finished)?;
                    Run::deliver_sent(run)?;
                    return Ok(None);
                }
                Err(event) => value = event.into_bound(py),
            }
        } else {
            run.get().state.lock().driving = None;
        }
        // First: a step because of which the run failed is not done, and runs again if the run is retried.
        if let Err(error) = Self::emit_returned(run, started, value) {
            let event = run.get().state.lock().core.event(started.slot).map(|event| event.clone_ref(lane.py()));
            error::record_place(lane.py(), &error, run.get(), &started, event.as_ref());
            Run::fail(run, error)?;
        }
        // Unless it is done with what it returned.
        let (finished, phase) = {
            let mut state = run.get().state.lock();
            state.core.stamp(|| run.get().now());
            let error = state.forget_error(started.slot.seq());
            ((state.core.finish_step(started.slot), error), state.core.phase())
        };
        drop(finished);
        Run::occurred(run, Occurrence::Finished)?;
        Run::deliver_sent(run)?;
        if phase == Phase::Ending {
            Run::try_finish(run)?;
        }
        Ok(None)
    }

    fn emit_returned(run: &Bound<'_, Run>, started: Started, value: Bound<'_, PyAny>) -> PyResult<()> {
        if value.is_none() {
            return Ok(());
        }
        let events = match value.cast_into_exact::<PyList>() {
            Ok(list) => list.iter().filter(|event| !event.is_none()).collect(),
            Err(error) => vec![error.into_inner()],
        };
        let from = || format!("step {:?} returned", run.get().plan.get().step_name(started.step));
        Run::emit_all(run, started.slot, events, &from)
    }

    /// A step raised.
    pub(super) fn step_raised(
        lane: &Bound<'_, Self>,
        run: &Bound<'_, Run>,
        active: Active,
        error: PyErr,
    ) -> PyResult<Option<Next>> {
        let py = lane.py();
        let error = hook::of_step(py, "a step", error);
        let Settled { stop, is_external, is_requested } =
            if active.interrupted { Self::settle_cancellation(lane)? } else { Settled::default() };
        let is_requested = is_requested || active.is_cancel_requested;
        let started = active.started;
        drop(active);
        let is_cancellation = error.is_instance_of::<CancelledError>(py);
        if is_cancellation && stop == Some(Stop::StepTimeout) && !is_external {
            let timeout = error::step_timeout(run.get(), &started);
            return Self::step_failed(lane, run, started, timeout);
        }
        if !is_cancellation {
            let failed = Self::step_failed(lane, run, started, error)?;
            return if is_external { Self::cancelled_besides(lane, run, failed) } else { Ok(failed) };
        }
        Run::observe(run, Happened::StepCancelled(&started));
        let is_awaiter_cancelled = stop.is_none() && lane.get().is_awaiter && is_requested;
        if is_awaiter_cancelled && !Self::is_bound(lane, run)? {
            // The run is not bound to this awaiter: the step runs again elsewhere.
            Self::leave(lane, run);
            if Self::put_back(run, started)? {
                Run::spawn_lanes(run, 1)?;
            }
            return Ok(Some(Next::Finish(Err(error))));
        }
        if stop == Some(Stop::Pausing) && !is_external {
            Self::put_back(run, started)?;
            return Self::next(lane, run, Entry::Step).map(Some);
        }
        let mut raised_here = None;
        if stop != Some(Stop::RunEnding) {
            Run::end(run, Outcome::Cancelled)?;
            // A step that raises it of its own accord cancels the run, and not its awaiter.
            raised_here = Some(if is_awaiter_cancelled || !lane.get().is_awaiter {
                error
            } else {
                let cancelled = error::run_cancelled(&run.get().id_text());
                cancelled.set_cause(py, Some(error));
                cancelled
            });
        } else if is_requested {
            raised_here = Some(error::cancelled(&run.get().id_text()));
        }
        // Behind the end of the run: the step is not done, and runs again if the run is retried.
        let finished = run.get().state.lock().core.finish_step(started.slot);
        drop(finished);
        Run::try_finish(run)?;
        Self::at_end(lane, run, raised_here).map(Some)
    }

    /// A step failed: it is tried again, or another step deals with it, or the run has failed. Gives nothing if
    /// the run goes on.
    fn step_failed(
        lane: &Bound<'_, Self>,
        run: &Bound<'_, Run>,
        started: Started,
        error: PyErr,
    ) -> PyResult<Option<Next>> {
        let py = lane.py();
        let mut raised_here = None;
        let (phase, event) = {
            let state = run.get().state.lock();
            (state.core.phase(), state.core.event(started.slot).map(|event| event.clone_ref(py)))
        };
        if phase != Phase::Running && error::is_end_of(py, &error, run.get()) {
            // The step went on after it had ended its own run, and stops there.
            Run::observe(run, Happened::StepCancelled(&started));
        } else if phase != Phase::Running {
            Run::observe(run, Happened::StepFailed(&started, &error));
            error::log_while_ending(py, run.get(), &started, &error);
        } else {
            match failure::handle(run, started, event.as_ref(), error)? {
                None => {
                    // What decided on it may have ended the run.
                    if run.get().state.lock().core.phase() != Phase::Running {
                        Run::try_finish(run)?;
                    }
                    return Ok(None);
                }
                Some(error) => {
                    let must_propagate = hook::ends_program(py, &error);
                    let propagated = (must_propagate && !lane.get().is_awaiter).then(|| error.clone_ref(py));
                    Run::fail(run, error)?;
                    if propagated.is_some() {
                        run.get().note_retrieved(py)?;
                    }
                    raised_here = propagated;
                }
            }
        }
        drop(event);
        let finished = run.get().state.lock().core.finish_step(started.slot);
        drop(finished);
        Run::try_finish(run)?;
        Self::at_end(lane, run, raised_here).map(Some)
    }
}
