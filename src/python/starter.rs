//! The task that starts the runs of an event loop which nothing awaits.
//!
//! It is a task, and is there from the moment in which such a run is made, so that all that ends a program finds
//! it among the tasks of the loop and cancels it: then the runs that have not begun are cancelled.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::coroutine::{Resumed, coroutine_of};
use super::gate::Gate;
use super::run::Run;
use super::state::Outcome;
use super::unreferenced;

/// The coroutine of the task.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct Starter {
    gate: Py<Gate>,
}

impl Starter {
    /// Makes the task of a gate.
    pub fn spawn(gate: &Bound<'_, Gate>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = gate.py();
        let starter = Bound::new(py, Self { gate: gate.clone().unbind() })?;
        let task = event_loop.call_method1(intern!(py, "create_task"), (starter,))?;
        unreferenced::report_no_task(&task);
        Ok(())
    }

    /// Starts the runs that nothing has awaited for two passes of the loop. Says whether there are others.
    fn pass(&self, py: Python<'_>) -> PyResult<bool> {
        let (due, is_needed) = self.gate.get().due_runs();
        for run in due {
            let run = run.bind(py);
            if let Err(error) = Run::start_in_task(run) {
                Run::fail(run, error)?;
            }
        }
        Ok(is_needed)
    }

    fn resume(slf: &Bound<'_, Self>, thrown: Option<PyErr>) -> PyResult<Resumed> {
        let py = slf.py();
        if let Some(thrown) = thrown {
            slf.get().give_up(py)?;
            return Err(thrown);
        }
        let is_needed = slf.get().pass(py)?;
        Ok(if is_needed { Resumed::Yielded(py.None()) } else { Resumed::Returned(py.None()) })
    }

    /// Nothing starts the runs any more.
    fn give_up(&self, py: Python<'_>) -> PyResult<()> {
        let mut told = Ok(());
        for run in self.gate.get().give_up_runs() {
            let is_cancelled = {
                let mut state = run.get().state.lock();
                // One that is paused starts when it is resumed.
                !state.core.is_paused() && !std::mem::replace(&mut state.started, true)
            };
            if is_cancelled {
                told = told.and(Run::end(run.bind(py), Outcome::Cancelled));
            }
        }
        told
    }
}

coroutine_of!(Starter);

#[pymethods]
impl Starter {
    #[getter]
    fn __name__(&self) -> &'static str {
        "start of runs"
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        "start of runs"
    }

    /// As of a coroutine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.give_up(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.gate)
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        // The loop was closed before the task was done. After the interpreter has gone there are no runs left.
        let _ = Python::try_attach(|py| {
            if let Err(error) = self.give_up(py) {
                error.write_unraisable(py, None);
            }
        });
    }
}
