//! A lane as Python sees it: an iterator and a coroutine.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};

use super::{At, Lane};
use crate::python::coroutine::coroutine_of;
use crate::python::error;
use crate::python::lifecycle::Happened;
use crate::python::run::Run;
use crate::python::state::Outcome;

coroutine_of!(Lane);

#[pymethods]
impl Lane {
    #[getter]
    fn __name__(&self) -> String {
        format!("run of {}", self.run.get().plan.get().name)
    }

    #[getter]
    fn __qualname__(&self) -> String {
        self.__name__()
    }

    /// As of a coroutine: the step is closed and the run is cancelled.
    pub(super) fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let at = {
            let mut state = slf.get().state.lock();
            match state.at {
                At::OnStack => return Err(PyValueError::new_err("the run is being awaited already")),
                _ => std::mem::replace(&mut state.at, At::Finished),
            }
        };
        let run = slf.get().run.bind(py).clone();
        Self::finish(slf, &run)?;
        Self::leave(slf, &run);
        match at {
            At::InStep(active) => {
                let closed = active.coroutine.call_method0(py, intern!(py, "close"));
                Run::observe(&run, Happened::StepCancelled(&active.started));
                Run::end(&run, Outcome::Cancelled)?;
                let finished = run.get().state.lock().core.finish_step(active.started.slot);
                drop(finished);
                Run::try_finish(&run)?;
                closed.map(|_| ())
            }
            At::Parked | At::HeldBack => Run::end(&run, Outcome::Cancelled),
            At::WaitingForEnd(future, _) => {
                run.get().remove_waiter(&future);
                Ok(())
            }
            At::Fresh | At::Admitted | At::OnStack | At::Finished => Ok(()),
        }
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<lane of {}>", error::shown(self.run.bind(py)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.run)?;
        visit.call(&self.awaiting_run)?;
        let Some(state) = self.state.try_lock() else { return Ok(()) };
        visit.call(&state.task)?;
        match &state.at {
            At::InStep(active) => {
                visit.call(&active.coroutine)?;
                visit.call(&active.given)?;
                visit.call(&active.context)
            }
            At::WaitingForEnd(future, error) => {
                visit.call(future)?;
                visit.call(error)
            }
            At::Fresh | At::Admitted | At::OnStack | At::Parked | At::HeldBack | At::Finished => Ok(()),
        }
    }

    fn __clear__(&self) {
        let mut state = self.state.lock();
        let cleared = (std::mem::replace(&mut state.at, At::Finished), state.task.take());
        drop(state);
        drop(cleared);
    }
}
