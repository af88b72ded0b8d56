//! How a run ends: stopped, failed, cancelled, and closed behind its last step.

use pyo3::intern;
use pyo3::prelude::*;

use super::Run;
use crate::Phase;
use crate::python::driver::{Lane, Stop};
use crate::python::state::Outcome;

use crate::python::{error, hook, unreferenced};

impl Run {
    /// The first `StopEvent` ends the run, and with that the entry of the inbox is dealt with that it was.
    pub fn stop(run: &Bound<'_, Self>, event: &Bound<'_, PyAny>, entry: Option<u64>) -> PyResult<()> {
        let py = run.py();
        if !run.get().is_on_its_thread() {
            return run.get().call_soon(py, (run.getattr(intern!(py, "_stop"))?, event, entry));
        }
        let is_plain = event.get_type_ptr() == run.get().plan.get().stop_event.as_ptr().cast();
        let result = if is_plain { event.getattr(intern!(py, "result"))? } else { event.clone() };
        Self::end_by(run, Outcome::Result(result.unbind()), entry)
    }

    /// Ends the run with a failure.
    pub fn fail(run: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let py = run.py();
        let error = error::made(py, error);
        let error = hook::as_failure(py, "a hook", error);
        if run.get().state.lock().core.phase() == Phase::Running {
            let unretrieved = run.get().unretrieved(py, &error)?;
            let replaced = std::mem::replace(&mut run.get().state.lock().unretrieved, unretrieved);
            drop(replaced);
        }
        Self::end(run, Outcome::failed(py, error))
    }

    /// The engine or the event loop failed in the middle of something: the run is over at once. Steps that
    /// are suspended are cancelled, but not waited for.
    pub fn crash(run: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        Self::fail(run, error)?;
        if run.get().state.lock().core.phase() == Phase::Ended {
            return Ok(());
        }
        let deliveries = run.get().state.lock().core.abandon();
        drop(deliveries);
        Self::finish(run)
    }

    /// The outcome is known: what waits is dropped, what runs is cancelled. A second outcome is ignored.
    pub fn end(run: &Bound<'_, Self>, outcome: Outcome) -> PyResult<()> {
        Self::end_by(run, outcome, None)
    }

    /// As [`Run::end`], by an entry of the inbox.
    fn end_by(run: &Bound<'_, Self>, outcome: Outcome, entry: Option<u64>) -> PyResult<()> {
        let py = run.py();
        let (remains, lanes, children, waiting) = {
            let mut state = run.get().state.lock();
            if let Some(entry) = entry {
                state.core.consume(entry);
            }
            let Some(remains) = state.core.begin_end() else {
                drop(state);
                drop(outcome);
                return Ok(());
            };
            state.outcome = Some(outcome);
            let lanes: Vec<_> = state.lanes.values().map(|lane| lane.clone_ref(py)).collect();
            let children: Vec<_> = state.children(py);
            (remains, lanes, children, state.memo_waiters.take())
        };
        // One that fails must not keep the others from being told.
        let has_journal = run.get().state.lock().durable.is_some();
        let mut told = if has_journal { Self::let_start(run) } else { Ok(()) };
        if run.get().has_limit() {
            told = told.and(Self::wake_parked(run).map(drop));
        }
        for waiter in &remains.waiters {
            told = told.and(waiter.waker.cancel(py));
        }
        drop(remains);
        for lane in lanes {
            told = told.and(Lane::stop(lane.bind(py), Stop::RunEnding));
        }
        for child in children {
            told = told.and(Self::cancel(child.bind(py)).map(|_| ()));
        }
        told = told.and(Self::memos_lost(run, waiting));
        told.and(Self::try_finish(run))
    }

    /// Once the last step and the last child have stopped, the run is over.
    pub fn try_finish(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        if !run.get().is_on_its_thread() {
            return run.get().call_soon(py, (run.getattr(intern!(py, "_try_finish"))?,));
        }
        if !Self::close_resources(run)? {
            return Ok(());
        }
        {
            let mut state = run.get().state.lock();
            if state.children.get().is_some_and(|children| !children.is_empty()) || !state.core.try_end() {
                return Ok(());
            }
        }
        Self::finish_written(run)
    }

    /// Closes the run's resources once nothing can use them any more. Says whether all are closed; if not,
    /// the keeper calls `_try_finish` when they are. A completed run fails with an error of closing.
    fn close_resources(run: &Bound<'_, Self>) -> PyResult<bool> {
        let py = run.py();
        let (keeper, failure) = {
            let state = run.get().state.lock();
            let Some(keeper) = &state.keeper else { return Ok(true) };
            if state.core.phase() != Phase::Ending
                || state.core.in_flight() > 0
                || state.children.get().is_some_and(|children| !children.is_empty())
            {
                return Ok(false);
            }
            let failure = match &state.outcome {
                Some(Outcome::Result(_)) => None,
                Some(Outcome::Failed(exception, _)) => Some(exception.clone_ref(py)),
                Some(Outcome::Cancelled) | None => Some(error::cancelled(&run.get().id_text()).into_value(py)),
            };
            (keeper.clone_ref(py), failure)
        };
        match keeper.call_method1(py, intern!(py, "close"), (failure,)) {
            Ok(is_closed) if !is_closed.is_truthy(py)? => return Ok(false),
            Ok(_) => {}
            Err(error) => {
                let error = hook::as_failure(py, "closing a resource", error);
                let unretrieved = run.get().unretrieved(py, &error)?;
                let outcome = Outcome::failed(py, error);
                let mut state = run.get().state.lock();
                let replaced = (state.outcome.replace(outcome), std::mem::replace(&mut state.unretrieved, unretrieved));
                drop(state);
                drop(replaced);
            }
        }
        let closed = run.get().state.lock().keeper.take();
        drop((closed, keeper));
        Ok(true)
    }

    /// What reports a failure that is not awaited. That of a child in a journal is told to its parent.
    fn unretrieved(&self, py: Python<'_>, failure: &PyErr) -> PyResult<Option<Py<PyAny>>> {
        let is_told = {
            let state = self.state.lock();
            state.durable.is_some() && state.core.family().is_some()
        };
        match is_told && !hook::ends_program(py, failure) {
            true => Ok(None),
            false => error::unretrieved(py, self, failure).map(Some),
        }
    }

    /// The run is over: those who wait for that are told.
    pub fn finish(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        Self::observe_end(run);
        let (guard, waiters, pausers, readers, parent, timer, base, keeper, errors, kin) = {
            let mut state = run.get().state.lock();
            let state = &mut *state;
            state.is_over = true;
            (
                state.guard.take(),
                std::mem::take(&mut state.waiters),
                std::mem::take(&mut state.pausers),
                std::mem::take(&mut state.readers),
                state.parent.take(),
                state.timer.take(),
                state.base_context.take(),
                state.keeper.take(),
                state.last_errors.take(),
                state.kin.take(),
            )
        };
        drop((base, errors));
        kin.part();
        if let Some(guard) = guard {
            unreferenced::disarm(&guard.into_bound(py))?;
        }
        run.get().log(py, || run.get().status().to_owned())?;
        if let Some((_, handle)) = timer {
            handle.call_method0(py, intern!(py, "cancel"))?;
        }
        // It is still there if the run was over at once: its resources are closed, but not waited for.
        let mut told = keeper.map_or(Ok(()), |keeper| keeper.call_method0(py, intern!(py, "abandon")).map(|_| ()));
        let journal = run.get().state.lock().durable.as_ref().map(|durable| durable.journal.clone_ref(py));
        if let Some(journal) = journal {
            told = told.and(journal.get().ended(run));
        }
        for waker in waiters.iter().chain(&pausers).chain(&readers) {
            told = told.and(waker.wake(py, py.None()));
        }
        if run.get().has_limit() {
            told = told.and(Self::leave_place(run));
        }
        match parent {
            Some(parent) => told.and(Self::child_ended(parent.bind(py), run)),
            None => told,
        }
    }

    /// Cancels a child. Says whether it was still going on.
    pub fn cancel_child(child: &Bound<'_, Self>) -> PyResult<bool> {
        Self::cancel(child)
    }

    /// Cancels the children that run in other threads.
    pub fn cancel_children_elsewhere(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        let children: Vec<_> = run.get().state.lock().children(py);
        let elsewhere = children.iter().filter(|child| !child.get().is_on_its_thread());
        elsewhere.map(|child| child.bind(py)).try_for_each(|child| Self::cancel(child).map(|_| ()))
    }

    pub(super) fn child_ended(parent: &Bound<'_, Self>, child: &Bound<'_, Self>) -> PyResult<()> {
        Self::child_gave(parent, child)?;
        let removed = parent.get().state.lock().children.make().remove(&(child.as_ptr() as usize));
        drop(removed);
        Self::try_finish(parent)
    }

    /// Cancels the run, on its own thread.
    pub fn cancel_here(run: &Bound<'_, Self>) -> PyResult<()> {
        Self::cancel_now(run)
    }

    pub(super) fn cancel_now(run: &Bound<'_, Self>) -> PyResult<()> {
        if run.get().state.lock().core.phase() == Phase::Ending {
            // Asked again: a step may have caught the first cancellation.
            let py = run.py();
            let lanes = run.get().lanes(py);
            return lanes.iter().try_for_each(|lane| Lane::stop_again(lane.bind(py), Stop::RunEnding));
        }
        let unstarted = !std::mem::replace(&mut run.get().state.lock().started, true);
        if unstarted {
            run.get().gate.get().forget_run(run);
        }
        Self::end(run, Outcome::Cancelled)
    }
}
