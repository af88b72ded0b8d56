//! Waking a waiter on an event loop, from any thread.

use pyo3::exceptions::asyncio::CancelledError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::type_object::PyTypeInfo;
use pyo3::{PyTraverseError, PyVisit};

use super::gate::{new_future, set_result_unless_done};
use super::{hook, thread_number};

static GET_RUNNING_LOOP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The event loop that runs in this thread.
///
/// # Errors
/// `RuntimeError`, as asyncio raises it, if there is none.
#[inline]
pub fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let get = GET_RUNNING_LOOP.get_or_try_init(py, || {
        // With it, since importing it at the end of the interpreter would panic.
        CancelledError::type_object(py);
        py.import("asyncio")?.getattr("get_running_loop").map(Bound::unbind)
    });
    get?.bind(py).call0()
}

/// A waiter: a future, and the loop and thread where it lives.
pub struct Waker {
    event_loop: Py<PyAny>,
    thread: u64,
    pub future: Py<PyAny>,
}

impl Waker {
    /// A waker for the event loop that runs in this thread.
    pub fn new(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let future = new_future(event_loop)?.unbind();
        Ok(Self { event_loop: event_loop.clone().unbind(), thread: thread_number::current(), future })
    }

    /// One more reference to the same future.
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        Self { event_loop: self.event_loop.clone_ref(py), thread: self.thread, future: self.future.clone_ref(py) }
    }

    /// Whether the future lives on the event loop of this thread.
    pub fn is_here(&self) -> bool {
        thread_number::current() == self.thread
    }

    /// Whether there is no waiter any more: the future is resolved or cancelled, or its loop was closed.
    pub fn is_gone(&self, py: Python<'_>) -> PyResult<bool> {
        let is_done = self.future.call_method0(py, intern!(py, "done"))?.is_truthy(py)?;
        Ok(is_done || is_closed(self.event_loop.bind(py))?)
    }

    /// Has the loop of the future call something.
    pub fn call_soon<'py>(&self, py: Python<'py>, call: impl pyo3::call::PyCallArgs<'py>) -> PyResult<()> {
        call_soon_threadsafe(self.event_loop.bind(py), call)
    }

    /// Resolves the future. A loop that is closed by now has no waiter left to wake.
    pub fn wake(&self, py: Python<'_>, result: Py<PyAny>) -> PyResult<()> {
        let event_loop = self.event_loop.bind(py);
        if is_closed(event_loop)? {
            return Ok(());
        }
        if self.is_here() {
            return set_result_unless_done(self.future.bind(py), result);
        }
        let function = py.import(intern!(py, "treadle._treadle"))?.getattr(intern!(py, "_set_result_unless_done"))?;
        call_soon_threadsafe(event_loop, (function, &self.future, result))
    }

    /// Has the future raise.
    pub fn fail(&self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        let event_loop = self.event_loop.bind(py);
        if is_closed(event_loop)? {
            return Ok(());
        }
        if self.is_here() {
            return set_exception_unless_done(self.future.bind(py), error.into_value(py).into_any());
        }
        let function =
            py.import(intern!(py, "treadle._treadle"))?.getattr(intern!(py, "_set_exception_unless_done"))?;
        call_soon_threadsafe(event_loop, (function, &self.future, error.into_value(py)))
    }

    /// Cancels the future.
    pub fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        let event_loop = self.event_loop.bind(py);
        let cancel = self.future.bind(py).getattr(intern!(py, "cancel"))?;
        if self.is_here() {
            cancel.call0()?;
        } else if !is_closed(event_loop)? {
            call_soon_threadsafe(event_loop, (cancel,))?;
        }
        Ok(())
    }

    pub fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.future)
    }
}

/// Has a future raise, unless it has been resolved or cancelled already.
#[pyfunction]
#[pyo3(name = "_set_exception_unless_done")]
pub fn set_exception_unless_done(future: &Bound<'_, PyAny>, exception: Py<PyAny>) -> PyResult<()> {
    let py = future.py();
    if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
        // A future holds no `StopIteration`.
        let error = hook::not_stop_iteration(py, "what was awaited", PyErr::from_value(exception.into_bound(py)));
        future.call_method1(intern!(py, "set_exception"), (error.into_value(py),))?;
    }
    Ok(())
}

/// Whether an event loop has been closed.
pub fn is_closed(event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    event_loop.call_method0(intern!(event_loop.py(), "is_closed"))?.is_truthy()
}

/// Has an event loop of another thread call something.
pub fn call_soon_threadsafe<'py>(
    event_loop: &Bound<'py, PyAny>,
    call: impl pyo3::call::PyCallArgs<'py>,
) -> PyResult<()> {
    event_loop.call_method1(intern!(event_loop.py(), "call_soon_threadsafe"), call)?;
    Ok(())
}
