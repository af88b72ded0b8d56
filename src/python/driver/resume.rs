//! A lane is resumed by its task or its awaiter, from where it was.

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use super::{At, Lane, Next};
use crate::python::coroutine::{Resumed, guarded};
use crate::python::gate::{Entry, yielded};
use crate::python::run::Run;
use crate::python::state::Outcome;
use crate::python::wake::{self, Waker, is_closed};
use crate::python::{error, hook};

impl Lane {
    pub fn resume(lane: &Bound<'_, Self>, thrown: Option<PyErr>) -> PyResult<Resumed> {
        let at = {
            let mut state = lane.get().state.lock();
            match state.at {
                At::OnStack => return Err(PyValueError::new_err("the run is being awaited already")),
                // The task of a lane that was closed may be woken still.
                At::Finished if !lane.get().is_awaiter => {
                    return thrown.map_or_else(|| Ok(Resumed::Returned(lane.py().None())), Err);
                }
                At::Finished => return Err(PyRuntimeError::new_err("this await of the run is over")),
                _ => std::mem::replace(&mut state.at, At::OnStack),
            }
        };
        let run = lane.get().run.bind(lane.py()).clone();
        let result = match guarded(|| Self::go_on(lane, &run, at, thrown)) {
            Ok(Ok(result)) => result,
            Ok(Err(error)) | Err(error) => {
                let error = hook::as_failure(lane.py(), "a hook", error);
                run.get().state.lock().driving = None;
                // First, so that the lane's own task is not cancelled with those of the others.
                Self::finish(lane, &run)?;
                Run::crash(&run, error.clone_ref(lane.py()))?;
                Err(error)
            }
        };
        if !matches!(result, Ok(Resumed::Yielded(_))) {
            Self::finish(lane, &run)?;
        }
        result
    }

    /// Goes on from where the lane was. The outer error is one of the engine or the event loop; the inner
    /// result is for the awaiter.
    fn go_on(
        lane: &Bound<'_, Self>,
        run: &Bound<'_, Run>,
        at: At,
        thrown: Option<PyErr>,
    ) -> PyResult<PyResult<Resumed>> {
        let mut entry = Entry::Step;
        let mut next = match at {
            At::InStep(active) => {
                if run.get().has_limit()
                    && let Some(future) = Run::go_on_in_step(run, thrown.as_ref())?
                {
                    lane.get().state.lock().at = At::InStep(active);
                    return Ok(Ok(Resumed::Yielded(yielded(future)?)));
                }
                run.get().observe_going_on();
                run.get().state.lock().driving = Some(active.started);
                return Self::drive(lane, run, active, thrown);
            }
            at @ (At::Fresh | At::Admitted) => {
                let begun = Self::begin(lane, run, thrown)?;
                if matches!(at, At::Admitted) {
                    entry = Entry::Admitted;
                } else if begun.is_none() && run.get().is_new() {
                    entry = Entry::NewRun;
                }
                begun
            }
            at @ (At::Parked | At::HeldBack) => {
                if matches!(at, At::Parked) {
                    entry = Entry::LetThrough;
                }
                match thrown {
                    Some(error) => Some(Self::interrupted(lane, run, error)?),
                    None => None,
                }
            }
            At::WaitingForEnd(future, pending) => match thrown {
                Some(error) => {
                    run.get().remove_waiter(&future);
                    Some(Self::interrupted(lane, run, error)?)
                }
                None => {
                    let pending = pending.map(|error| PyErr::from_value(error.into_bound(lane.py()).into_any()));
                    Some(Self::at_end(lane, run, pending)?)
                }
            },
            At::OnStack | At::Finished => None,
        };
        if next.is_none() {
            next = Some(Self::next(lane, run, entry)?);
        }
        match next {
            Some(next) => Self::perform(lane, run, next),
            None => Ok(Ok(Resumed::Returned(lane.py().None()))),
        }
    }

    fn perform(lane: &Bound<'_, Self>, run: &Bound<'_, Run>, next: Next) -> PyResult<PyResult<Resumed>> {
        match next {
            Next::Step(active) => Self::drive(lane, run, active, None),
            Next::Yield(future) => Ok(Ok(Resumed::Yielded(future))),
            Next::Finish(result) => Ok(result),
        }
    }

    /// The lane's first resumption. Gives nothing if it is to run steps.
    fn begin(lane: &Bound<'_, Self>, run: &Bound<'_, Run>, thrown: Option<PyErr>) -> PyResult<Option<Next>> {
        let py = lane.py();
        if !lane.get().is_awaiter {
            let mut state = run.get().state.lock();
            state.scheduled = state.scheduled.saturating_sub(1);
            drop(state);
            return thrown.map(|error| Self::interrupted(lane, run, error)).transpose();
        }
        if let Some(error) = thrown {
            return Self::interrupted(lane, run, error).map(Some);
        }
        let (is_over, is_fresh, is_detached) = {
            let state = run.get().state.lock();
            (state.is_over, !state.started && run.get().is_on_its_thread(), state.detached)
        };
        if is_over {
            return Ok(Some(Next::Finish(Self::give_result(run))));
        }
        let event_loop = wake::running_loop(py)?;
        let is_its_loop = event_loop.is(&run.get().event_loop);
        if is_fresh && is_its_loop {
            run.get().gate.get().forget_run(run);
            if !is_detached {
                let mut state = run.get().state.lock();
                (state.started, state.driven_by_awaiter) = (true, true);
                drop(state);
                lane.get().state.lock().drives = true;
                return Ok(None);
            }
            // The end of the awaiter must not touch a step.
            Run::start_in_task(run)?;
        }
        if !is_its_loop && is_closed(run.get().event_loop.bind(py))? {
            return Ok(Some(Next::Finish(Err(error::loop_closed(&run.get().id_text())))));
        }
        Self::at_end(lane, run, None).map(Some)
    }

    /// Something was thrown into a lane that runs no step.
    pub(super) fn interrupted(lane: &Bound<'_, Self>, run: &Bound<'_, Run>, error: PyErr) -> PyResult<Next> {
        if Self::is_bound(lane, run)? {
            Run::forward_cancel(run)?;
            Run::end(run, Outcome::Cancelled)?;
            return Self::at_end(lane, run, Some(error));
        }
        Self::leave(lane, run);
        if run.get().state.lock().core.ready() > 0 {
            Run::wake_lanes(run)?;
        }
        Ok(Next::Finish(Err(error)))
    }

    /// The task is cancelled that was to make a lane of a run.
    pub(super) fn give_up_queued(run: &Bound<'_, Run>) -> PyResult<()> {
        {
            let mut state = run.get().state.lock();
            state.scheduled = state.scheduled.saturating_sub(1);
        }
        Run::forward_cancel(run)?;
        Run::end(run, Outcome::Cancelled)
    }

    /// The lane of an awaiter waits until the run is over; any other lane is done.
    pub(super) fn at_end(lane: &Bound<'_, Self>, run: &Bound<'_, Run>, pending: Option<PyErr>) -> PyResult<Next> {
        let py = lane.py();
        let (is_over, has_deadline) = {
            let state = run.get().state.lock();
            (state.is_over, state.core.has_deadline())
        };
        if has_deadline {
            Run::arm_timer(run)?;
        }
        if !lane.get().is_awaiter {
            let pending = match pending {
                None if is_over => run.get().take_interrupt(py)?,
                pending => pending,
            };
            return Ok(Next::Finish(pending.map_or_else(|| Ok(Resumed::Returned(py.None())), Err)));
        }
        if is_over {
            return Ok(Next::Finish(pending.map_or_else(|| Self::give_result(run), Err)));
        }
        let waker = Waker::new(&wake::running_loop(py)?)?;
        let future = waker.future.bind(py).clone();
        run.get().add_waiter(waker);
        let pending = pending.map(|error| error.into_value(py));
        lane.get().state.lock().at = At::WaitingForEnd(future.clone().unbind(), pending);
        yielded(future).map(Next::Yield)
    }

    fn give_result(run: &Bound<'_, Run>) -> PyResult<Resumed> {
        run.get().result(run.py()).map(Resumed::Returned)
    }

    /// Whether the end of this lane's awaiter ends the run.
    pub(super) fn is_bound(lane: &Bound<'_, Self>, run: &Bound<'_, Run>) -> PyResult<bool> {
        let drives = lane.get().state.lock().drives;
        Ok(!lane.get().is_awaiter || Run::is_bound_to(run, drives)?)
    }

    /// The awaiter goes away, and the run goes on without it.
    pub(super) fn leave(lane: &Bound<'_, Self>, run: &Bound<'_, Run>) {
        if std::mem::take(&mut lane.get().state.lock().drives) {
            run.get().state.lock().driven_by_awaiter = false;
        }
    }
}
