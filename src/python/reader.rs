//! Reading what a run publishes.

use parking_lot::Mutex;
use pyo3::exceptions::{PyStopAsyncIteration, PyStopIteration};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTraverseError, PyVisit};

use super::driver::thrown;
use super::gate::yielded;
use super::run::Run;
use super::wake::{self, Waker};
use crate::{Phase, Read};

/// An asynchronous iterator over the published events of a run.
#[pyclass(frozen, module = "treadle")]
pub struct StreamReader {
    run: Py<Run>,
    position: Mutex<Position>,
}

struct Position {
    // The number of the last event that was read or missed.
    after: u64,
    waiting: Option<Py<PyAny>>,
}

impl StreamReader {
    pub fn new(run: Py<Run>, after: u64) -> Self {
        Self { run, position: Mutex::new(Position { after, waiting: None }) }
    }

    fn forget_waiting(&self) {
        let waiting = self.position.lock().waiting.take();
        let Some(future) = waiting else { return };
        let mut state = self.run.get().state.lock();
        let found = state.readers.iter().position(|waker| waker.future.is(&future));
        let removed = found.map(|at| state.readers.swap_remove(at));
        drop(state);
        drop(removed);
    }
}

#[pymethods]
impl StreamReader {
    /// The number of the last event that this reader was given; give it as `after` to go on from there.
    #[getter]
    fn position(&self) -> u64 {
        self.position.lock().after
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        static LAGGED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let (event, missed, ended) = {
            let mut position = self.position.lock();
            let state = self.run.get().state.lock();
            match state.core.stream().read(position.after) {
                Read::Event(event) => {
                    position.after += 1;
                    (Some(event.clone_ref(py)), 0, false)
                }
                Read::Lagged(missed) => {
                    position.after += missed;
                    (None, missed, false)
                }
                Read::Pending => (None, 0, state.core.phase() == Phase::Ended),
            }
        };
        if let Some(event) = event {
            return Err(PyStopIteration::new_err((event,)));
        }
        if missed > 0 {
            let class = LAGGED.import(py, "treadle.events", "Lagged")?;
            let keywords = pyo3::types::PyDict::new(py);
            keywords.set_item("missed", missed)?;
            return Err(PyStopIteration::new_err((class.call((), Some(&keywords))?.unbind(),)));
        }
        if ended {
            return Err(PyStopAsyncIteration::new_err(()));
        }
        self.forget_waiting();
        let waker = Waker::new(&wake::running_loop(py)?)?;
        let future = waker.future.bind(py).clone();
        let (replaced, after) = {
            let mut position = self.position.lock();
            (position.waiting.replace(future.clone().unbind()), position.after)
        };
        drop(replaced);
        let mut state = self.run.get().state.lock();
        if state.core.phase() == Phase::Ended || !matches!(state.core.stream().read(after), Read::Pending) {
            // Another thread was faster than the registration.
            drop(state);
            waker.wake(py, py.None())?;
        } else {
            state.readers.push(waker);
        }
        yielded(future)
    }

    #[pyo3(signature = (exception, value = None, traceback = None))]
    fn throw(
        &self,
        exception: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.forget_waiting();
        Err(thrown(exception, value, traceback))
    }

    fn close(&self) {
        self.forget_waiting();
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.run)?;
        let Some(position) = self.position.try_lock() else { return Ok(()) };
        visit.call(&position.waiting)
    }
}
