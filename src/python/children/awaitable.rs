//! What `Context.run` gives: awaitable for the result of the child.

use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::{ChildRun, ends};
use crate::python::convert::decode;
use crate::python::coroutine::{Resumed, awaitable, check_sent, current_task, thrown};
use crate::python::error;
use crate::python::gate::yielded;
use crate::python::number;
use crate::python::reader::StreamReader;
use crate::python::run::Run;
use crate::python::state::Outcome;
use crate::python::wake::{self, Waker};
use crate::writer::Occurrence;
use crate::{ChildEnd, Error, Phase};

impl ChildRun {
    /// What the child gave, if it has ended.
    fn given(&self, py: Python<'_>) -> PyResult<Option<PyResult<Py<PyAny>>>> {
        let (end, is_stale) = {
            let state = self.parent.get().state.lock();
            let end = state.core.child_end(self.slot, self.number).map(|end| end.copied(|value| value.clone_ref(py)));
            (end, state.core.delivery(self.slot).is_none())
        };
        let live = self.run.as_ref().filter(|run| run.get().state.lock().is_over);
        let has_result = live.is_some_and(|run| matches!(run.get().state.lock().outcome, Some(Outcome::Result(_))));
        match (end, live) {
            // The object itself, as long as it is there.
            (Some(ChildEnd::Result(_)), Some(run)) if has_result => Ok(Some(run.get().result(py))),
            (Some(ChildEnd::Failure(_)), Some(run)) if !has_result => Ok(Some(run.get().result(py))),
            (None, Some(run)) if is_stale => Ok(Some(run.get().result(py))),
            (Some(ChildEnd::Result(value)), _) => Ok(Some(decode(py, "result", &value).map(Bound::unbind))),
            (Some(ChildEnd::Failure(value)), _) => Ok(Some(Err(ends::raised(py, &value)?))),
            (None, _) => Ok(None),
        }
    }

    /// Registers a waiter for the end, in the same step in which it is seen that there is none.
    fn wait(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let waker = Waker::new(&wake::running_loop(py)?)?;
        let future = waker.future.clone_ref(py);
        let refused = {
            let mut state = self.parent.get().state.lock();
            if state.core.child_end(self.slot, self.number).is_some() {
                drop(state);
                return Ok(None);
            }
            let is_known = state.core.delivery(self.slot).is_some();
            match (state.core.phase(), &self.run) {
                (Phase::Running, _) if is_known => {
                    let is_of_body = state.is_on_stack(self.slot);
                    state.core.await_child(self.slot, self.id, is_of_body);
                    state.kin.make().waiters.entry(self.id).or_default().push(waker);
                    None
                }
                // The handle was handed out of its step.
                (_, Some(run)) => {
                    drop(state);
                    if run.get().state.lock().is_over {
                        return Ok(None);
                    }
                    run.get().add_waiter(waker);
                    return Ok(Some(future));
                }
                (Phase::Running, None) => Some((waker, Error::StepOver)),
                _ => Some((waker, Error::RunEnded)),
            }
        };
        if let Some((waker, why)) = refused {
            drop(waker);
            return Err(self.refused(py, &why));
        }
        let parent = self.parent.bind(py);
        Run::check_quiet(parent)?;
        Run::occurred(parent, Occurrence::Waiting)?;
        Run::rest(parent)?;
        Ok(Some(future))
    }

    fn refused(&self, py: Python<'_>, why: &Error) -> PyErr {
        let parent = self.parent.bind(py).get();
        match why {
            Error::StepOver => error::child_outside_step(&self.id.to_string(), &parent.id_text()),
            _ => error::run_ended(&parent.id_text(), "run"),
        }
    }

    /// Goes on with one `await`, which has waited for a future if it was not the first time.
    fn resume(&self, py: Python<'_>, waited: Option<Py<PyAny>>) -> PyResult<(Resumed, Option<Py<PyAny>>)> {
        if let Some(future) = waited {
            self.awaited(py, &future);
            // Raises the cancellation of a run that has ended meanwhile.
            future.call_method0(py, intern!(py, "result"))?;
        }
        loop {
            if let Some(given) = self.given(py)? {
                return given.map(|given| (Resumed::Returned(given), None));
            }
            if let Some(future) = self.wait(py)? {
                let yielded = yielded(future.bind(py).clone())?;
                return Ok((Resumed::Yielded(yielded), Some(future)));
            }
        }
    }

    fn resume_task(&self, py: Python<'_>) -> PyResult<Resumed> {
        let task = current_task(py)?.as_ptr() as usize;
        let (resumed, future) = self.resume(py, self.take_task(task))?;
        if let Some(future) = future {
            self.tasks.lock().push((task, future));
        }
        Ok(resumed)
    }

    fn take_task(&self, task: usize) -> Option<Py<PyAny>> {
        let mut tasks = self.tasks.lock();
        let at = tasks.iter().position(|(known, _)| *known == task)?;
        Some(tasks.swap_remove(at).1)
    }

    /// A waiter waits no longer.
    fn awaited(&self, py: Python<'_>, future: &Py<PyAny>) {
        let removed = {
            let mut state = self.parent.get().state.lock();
            state.core.child_awaited(self.slot, self.id);
            let Some(kin) = state.kin.get_mut() else { return };
            let Some(waiters) = kin.waiters.get_mut(&self.id) else { return };
            let found = waiters.iter().position(|waker| waker.future.is(future));
            let removed = found.map(|at| waiters.swap_remove(at));
            if waiters.is_empty() {
                kin.waiters.remove(&self.id);
            }
            removed
        };
        drop(removed);
        if let Some(run) = &self.run {
            run.bind(py).get().remove_waiter(future);
        }
    }
}

#[pymethods]
impl ChildRun {
    /// The run's UUID (version 7) as a string.
    #[getter]
    fn id(&self) -> String {
        self.id.to_string()
    }

    /// The same as `id`.
    #[getter]
    fn run_id(&self) -> String {
        self.id.to_string()
    }

    /// The name of the run's workflow.
    #[getter]
    fn workflow(&self) -> &str {
        &self.workflow
    }

    /// Whether the run is over, as far as its parent knows.
    fn done(&self, py: Python<'_>) -> bool {
        let state = self.parent.bind(py).get().state.lock();
        !state.core.has_open_child(self.id)
    }

    fn __await__(slf: Py<Self>) -> ChildWait {
        ChildWait { child: slf, at: Mutex::new(At::Begin) }
    }

    /// As of a coroutine, so that a task can be made of it: the task awaits the child.
    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        check_sent(value)?;
        Resumed::to_sent(value.py(), self.resume_task(value.py()))
    }

    /// As of a coroutine.
    #[pyo3(signature = (exception, value = None, traceback = None))]
    fn throw(
        &self,
        exception: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let py = exception.py();
        if let Some(future) = self.take_task(current_task(py)?.as_ptr() as usize) {
            self.awaited(py, &future);
        }
        Err(thrown(exception, value, traceback))
    }

    /// As of a coroutine: the child is not awaited any more in a task that was made of it.
    fn close(&self, py: Python<'_>) {
        let waited = std::mem::take(&mut *self.tasks.lock());
        waited.iter().for_each(|(_, future)| self.awaited(py, future));
    }

    #[getter]
    fn __name__(&self) -> String {
        format!("child run of {}", self.workflow)
    }

    #[getter]
    fn __qualname__(&self) -> String {
        self.__name__()
    }

    /// The events that the run publishes, from behind the one numbered `after`, or else from the first one on.
    #[pyo3(signature = (after = None))]
    fn stream_events(&self, py: Python<'_>, after: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let after = after.map_or(Ok(0), |after| number::position("after", after))?;
        if let Some(run) = &self.run {
            return Ok(Py::new(py, StreamReader::new(run.clone_ref(py), after, None))?.into_any());
        }
        let journal = {
            let state = self.parent.bind(py).get().state.lock();
            state.durable.as_ref().map(|durable| durable.journal.clone_ref(py))
        };
        match journal {
            Some(journal) => journal.get().stream_of_child(py, self.id, after),
            None => Err(error::child_stream_gone(&self.id.to_string(), &self.workflow)),
        }
    }

    /// Cancels the run. Says whether it was still going on.
    fn cancel(&self, py: Python<'_>) -> PyResult<bool> {
        match &self.run {
            Some(run) => Run::cancel_child(run.bind(py)),
            None => Run::cancel_child_of(self.parent.bind(py), self.id),
        }
    }

    fn __repr__(&self) -> String {
        format!("<ChildRun {} of workflow {:?}>", self.id, self.workflow)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.parent)?;
        visit.call(&self.run)?;
        let Some(tasks) = self.tasks.try_lock() else { return Ok(()) };
        tasks.iter().try_for_each(|(_, future)| visit.call(future))
    }
}

/// One `await` of a child.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct ChildWait {
    child: Py<ChildRun>,
    at: Mutex<At>,
}

enum At {
    Begin,
    Waiting(Py<PyAny>),
    Finished,
}

impl ChildWait {
    fn resume(&self, py: Python<'_>) -> PyResult<Resumed> {
        let waited = match std::mem::replace(&mut *self.at.lock(), At::Finished) {
            At::Waiting(future) => Some(future),
            At::Begin | At::Finished => None,
        };
        let (resumed, future) = self.child.bind(py).get().resume(py, waited)?;
        if let Some(future) = future {
            *self.at.lock() = At::Waiting(future);
        }
        Ok(resumed)
    }

    #[allow(clippy::unnecessary_wraps)]
    fn give_up(&self, py: Python<'_>) -> PyResult<()> {
        let at = std::mem::replace(&mut *self.at.lock(), At::Finished);
        if let At::Waiting(future) = at {
            self.child.bind(py).get().awaited(py, &future);
        }
        Ok(())
    }
}

awaitable!(ChildWait);

#[pymethods]
impl ChildWait {
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Resumed::to_next(py, self.resume(py))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.give_up(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.child)?;
        let Some(at) = self.at.try_lock() else { return Ok(()) };
        match &*at {
            At::Waiting(future) => visit.call(future),
            At::Begin | At::Finished => Ok(()),
        }
    }
}

impl Drop for ChildWait {
    fn drop(&mut self) {
        if matches!(self.at.get_mut(), At::Waiting(_)) {
            // After the interpreter has gone there is no waiter left.
            let _ = Python::try_attach(|py| self.give_up(py));
        }
    }
}
