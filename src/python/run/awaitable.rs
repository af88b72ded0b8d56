//! A run as Python sees it.

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};

use super::Run;
use crate::python::coroutine::{Resumed, check_sent, thrown};
use crate::python::driver::Lane;
use crate::python::reader::StreamReader;
use crate::python::state::Outcome;
use crate::python::wake::is_closed;
use crate::python::{error, number};
use crate::{Origin, Phase, Slot};

/// For which step in flight an event is under way to another thread.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct Given(Mutex<Option<Slot>>);

impl Given {
    pub fn new(slot: Slot) -> Self {
        Self(Mutex::new(Some(slot)))
    }
}

#[pymethods]
impl Run {
    /// The run's UUID (version 7) as a string.
    #[getter]
    fn id(slf: &Bound<'_, Self>) -> PyResult<String> {
        let id = slf.get().stands_for().map_or_else(|| slf.get().id_text(), |id| id.to_string());
        Self::remember(slf, &id)?;
        Ok(id)
    }

    /// The name of the run's workflow.
    #[getter]
    fn workflow(&self) -> &str {
        &self.plan.get().name
    }

    /// "running", "waiting", "paused", "completed", "failed" or "cancelled".
    #[getter]
    pub(super) fn status(&self) -> &'static str {
        let state = self.state.lock();
        match (state.core.phase(), &state.outcome) {
            (Phase::Running, _) if state.core.is_paused() => "paused",
            (Phase::Running, _) if state.driving.is_none() && state.core.only_waits() => "waiting",
            (Phase::Running, _) if state.core.lacks_place() => "waiting",
            _ if !state.is_over => "running",
            (Phase::Running | Phase::Ending, _) => "running",
            (Phase::Ended, Some(Outcome::Result(_))) => "completed",
            (Phase::Ended, Some(Outcome::Failed(..))) => "failed",
            (Phase::Ended, Some(Outcome::Cancelled) | None) => "cancelled",
        }
    }

    #[getter]
    fn __name__(&self) -> String {
        format!("run of {}", self.plan.get().name)
    }

    #[getter]
    fn __qualname__(&self) -> String {
        self.__name__()
    }

    fn __await__(slf: &Bound<'_, Self>) -> PyResult<Py<Lane>> {
        Lane::for_awaiter(slf)
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        Resumed::to_next(slf.py(), Self::resume_task(slf, None))
    }

    /// As of a coroutine, so that a task can be made of the run.
    fn send(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        check_sent(value)?;
        Resumed::to_sent(slf.py(), Self::resume_task(slf, None))
    }

    /// As of a coroutine.
    #[pyo3(signature = (exception, value = None, traceback = None))]
    fn throw(
        slf: &Bound<'_, Self>,
        exception: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let thrown = thrown(exception, value, traceback);
        Resumed::to_sent(slf.py(), Self::resume_task(slf, Some(thrown)))
    }

    /// As of a coroutine: cancels the run.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::cancel(slf).map(|_| ())
    }

    /// The events that the run publishes, from behind the one numbered `after`, or else all that were published
    /// since this object was made.
    #[pyo3(signature = (after = None, *, lifecycle = false))]
    fn stream_events(slf: &Bound<'_, Self>, after: Option<&Bound<'_, PyAny>>, lifecycle: bool) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let after = match after {
            Some(after) => number::position("after", after)?,
            None => slf.get().state.lock().core.stream().elsewhere(),
        };
        if !lifecycle && let Some(journal) = slf.get().journal_for_any(py) {
            return journal.get().stream_in_journal(py, slf.get().id, after);
        }
        let feed = lifecycle.then(|| slf.get().lifecycle_feed(slf.get().plan.get().core.stream_limit));
        Ok(Py::new(py, StreamReader::new(slf.clone().unbind(), after, feed))?.into_any())
    }

    /// Sends an event into the run.
    fn send_event(slf: &Bound<'_, Self>, event: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        if slf.get().state.lock().core.phase() != Phase::Running {
            return Err(error::run_ended(&slf.get().id_text(), "send_event"));
        }
        if is_closed(slf.get().event_loop.bind(py))? {
            return Err(error::loop_closed(&slf.get().id_text()));
        }
        if slf.get().stands_for().is_some() {
            return Self::forward(slf, event);
        }
        Self::take_in(slf, event, Origin::Outside)?;
        Self::wake_lanes(slf)
    }

    /// Cancels the run: its steps get `CancelledError` and are awaited. Says whether it was still going on.
    pub(super) fn cancel(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let phase = slf.get().state.lock().core.phase();
        if phase == Phase::Ended {
            return Ok(false);
        }
        // One that no process has begun, as far as this one knows, is over here at once.
        if Self::forward_cancel(slf)? && !slf.get().is_for_any() {
            return Ok(true);
        }
        if is_closed(slf.get().event_loop.bind(py))? {
            let abandoned = slf.get().state.lock().abandon();
            drop(abandoned);
            Self::finish(slf)?;
        } else if slf.get().is_on_its_thread() {
            Self::cancel_now(slf)?;
        } else {
            slf.get().call_soon(py, (slf.getattr(intern!(py, "_cancel_now"))?,))?;
        }
        Ok(phase == Phase::Running)
    }

    /// Unbinds the run from its awaiter and from the run that started it: neither's end cancels it.
    fn detach(slf: &Bound<'_, Self>) -> PyResult<Py<Self>> {
        let py = slf.py();
        let parent = {
            let mut state = slf.get().state.lock();
            state.detached = true;
            state.parent.take()
        };
        if let Some(parent) = parent {
            Self::child_ended(parent.bind(py), slf)?;
        }
        Ok(slf.clone().unbind())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        let run = slf.get();
        format!("<Run {} of workflow {:?}: {}>", run.id_text(), run.plan.get().name, run.status())
    }

    fn _wake_lanes(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::wake_lanes(slf)
    }

    fn _stop(slf: &Bound<'_, Self>, event: &Bound<'_, PyAny>, entry: Option<u64>) -> PyResult<()> {
        Self::stop(slf, event, entry)
    }

    fn _give(
        slf: &Bound<'_, Self>,
        future: &Bound<'_, PyAny>,
        event: &Bound<'_, PyAny>,
        given: &Bound<'_, Given>,
    ) -> PyResult<()> {
        let py = slf.py();
        if future.call_method0(intern!(py, "done"))?.is_truthy()? {
            return match given.get().0.lock().take() {
                Some(slot) => Self::give_back(slf, slot, event),
                None => Ok(()),
            };
        }
        future.call_method1(intern!(py, "set_result"), (event,))?;
        Self::wait_ended(slf)
    }

    fn _try_finish(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::try_finish(slf)
    }

    fn _check_stalled(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::check_stalled(slf)
    }

    fn _arm_timer(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::arm_timer(slf)
    }

    fn _cancel_now(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::cancel_now(slf)
    }

    fn _on_timer(slf: &Bound<'_, Self>) -> PyResult<()> {
        let fired = slf.get().state.lock().timer.take();
        drop(fired);
        Self::expire(slf)?;
        Self::arm_timer(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.plan)?;
        visit.call(&self.event_loop)?;
        visit.call(&self.gate)?;
        // The collector may come while the lock is held; then the run is in use and nothing is lost.
        let Some(state) = self.state.try_lock() else { return Ok(()) };
        state.traverse(visit)
    }

    fn __clear__(&self) {
        let cleared = self.state.lock().clear();
        drop(cleared);
    }
}
