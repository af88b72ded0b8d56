//! Those who wait for the end of a run, and what they get.

use pyo3::intern;
use pyo3::prelude::*;

use super::Run;
use crate::python::state::Outcome;
use crate::python::wake::Waker;
use crate::python::{error, hook};

impl Run {
    /// Why the run failed, if that ends the program and nothing awaits the run: the first call that is asked raises it.
    #[cold]
    pub fn take_interrupt(&self, py: Python<'_>) -> PyResult<Option<PyErr>> {
        let failure = {
            let state = self.state.lock();
            match &state.outcome {
                Some(Outcome::Failed(exception, _)) if state.unretrieved.is_some() && state.waiters.is_empty() => {
                    PyErr::from_value(exception.bind(py).clone().into_any())
                }
                _ => return Ok(None),
            }
        };
        if !hook::ends_program(py, &failure) {
            return Ok(None);
        }
        self.note_retrieved(py)?;
        Ok(Some(failure))
    }

    /// An awaiter was given why the run failed: it need not be reported.
    pub fn note_retrieved(&self, py: Python<'_>) -> PyResult<()> {
        let unretrieved = self.state.lock().unretrieved.take();
        unretrieved.map_or(Ok(()), |unretrieved| unretrieved.setattr(py, intern!(py, "error"), py.None()))
    }

    /// What awaiting the run gives, once it is over.
    pub fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (exception, traceback) = {
            let state = self.state.lock();
            match &state.outcome {
                Some(Outcome::Result(result)) => return Ok(result.clone_ref(py)),
                Some(Outcome::Failed(exception, traceback)) => {
                    (exception.clone_ref(py), traceback.as_ref().map(|tb| tb.clone_ref(py)))
                }
                Some(Outcome::Cancelled) | None => return Err(error::run_cancelled(&self.id_text())),
            }
        };
        self.note_retrieved(py)?;
        let error = PyErr::from_value(exception.into_bound(py).into_any());
        error.set_traceback(py, traceback.map(|tb| tb.into_bound(py)));
        Err(error)
    }

    /// Whether the run is cancelled with one of its awaiters: it is bound to the last one that is left.
    pub fn is_bound_to(run: &Bound<'_, Self>, drives: bool) -> PyResult<bool> {
        let py = run.py();
        let others: Vec<_> = {
            let state = run.get().state.lock();
            if state.detached || (state.driven_by_awaiter && !drives) {
                return Ok(false);
            }
            state.waiters.iter().map(|waker| waker.clone_ref(py)).collect()
        };
        for other in others {
            // One that was cancelled in the same pass of the loop has a future that is done.
            if !other.is_gone(py)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds a waiter for the end.
    pub fn add_waiter(&self, waker: Waker) {
        self.state.lock().waiters.push(waker);
    }

    /// Removes a waiter for the end.
    pub fn remove_waiter(&self, future: &Py<PyAny>) {
        let mut state = self.state.lock();
        let found = state.waiters.iter().position(|waker| waker.future.is(future));
        let removed = found.map(|at| state.waiters.swap_remove(at));
        drop(state);
        drop(removed);
    }

    /// Whether steps of a run await another, or await one that does, and so on.
    pub fn waits_for(run: &Bound<'_, Self>, other: &Bound<'_, Self>) -> bool {
        let py = run.py();
        let mut asked = vec![run.clone()];
        let mut at = 0;
        while let Some(next) = asked.get(at).cloned() {
            let awaited: Vec<_> =
                next.get().state.lock().awaits.make().values().map(|(run, _)| run.clone_ref(py)).collect();
            for run in awaited {
                let run = run.into_bound(py);
                if run.is(other) {
                    return true;
                }
                if !asked.iter().any(|known| known.is(&run)) {
                    asked.push(run);
                }
            }
            at += 1;
        }
        false
    }
}
