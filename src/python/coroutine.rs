//! Driving one coroutine: what a task does with it, inside of a context of its own.

use std::panic::AssertUnwindSafe;

use pyo3::exceptions::asyncio::CancelledError;
use pyo3::exceptions::{PyStopIteration, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTraceback;
use pyo3::{ffi, intern};

use super::context::Context;
use super::error;
use super::hook;
use crate::Started;

/// A step that has begun.
pub struct Active {
    pub started: Started,
    pub coroutine: Py<PyAny>,
    pub context: Py<PyAny>,
    /// What the step is given of its run, if code below it may ask for that.
    pub given: Option<Py<Context>>,
    /// Whether a cancellation was thrown into it.
    pub interrupted: bool,
    /// Whether a caller other than the engine has asked for one, and the step went on for a while.
    pub is_cancel_requested: bool,
}

/// What a coroutine of ours gives when it is resumed. An error is a failure, whatever its class.
pub enum Resumed {
    Yielded(Py<PyAny>),
    Returned(Py<PyAny>),
}

impl Resumed {
    /// As `__next__` gives it: nothing for the end of a coroutine that returns `None`.
    #[inline]
    pub fn to_next(py: Python<'_>, resumed: PyResult<Self>) -> PyResult<Option<Py<PyAny>>> {
        match resumed {
            Ok(Self::Yielded(object)) => Ok(Some(object)),
            Ok(Self::Returned(result)) if result.is_none(py) => Ok(None),
            Ok(Self::Returned(result)) => Err(returned(result.into_bound(py))),
            Err(error) => Err(hook::not_stop_iteration(py, "what was awaited", error)),
        }
    }

    /// As `send` and `throw` give it.
    pub fn to_sent(py: Python<'_>, resumed: PyResult<Self>) -> PyResult<Py<PyAny>> {
        Self::to_next(py, resumed)?.ok_or_else(|| PyStopIteration::new_err(()))
    }
}

/// What a coroutine of ours raises when it returns something. An `await` takes the value of an exception that was
/// not made yet as it is, and none is ever made; unless the value could be taken for the exception, or its arguments.
#[inline]
fn returned(result: Bound<'_, PyAny>) -> PyErr {
    // SAFETY: only reads the type of a live object.
    let is_ambiguous =
        unsafe { ffi::PyTuple_Check(result.as_ptr()) != 0 || ffi::PyExceptionInstance_Check(result.as_ptr()) != 0 };
    let result = result.unbind();
    if is_ambiguous { PyStopIteration::new_err((result,)) } else { PyStopIteration::new_err(result) }
}

/// What came of driving a coroutine.
pub enum Sent {
    Yielded(Py<PyAny>),
    Returned(Py<PyAny>),
    Raised(PyErr),
}

impl Active {
    #[inline]
    pub fn send(&self, py: Python<'_>) -> Sent {
        let entered = match Entered::new(self.context.bind(py)) {
            Ok(entered) => entered,
            Err(error) => return Sent::Raised(error),
        };
        let mut result = std::ptr::null_mut();
        // SAFETY: coroutine and argument are live; the result is an owned reference unless it is an error,
        // which is fetched.
        let sent = unsafe {
            match ffi::PyIter_Send(self.coroutine.as_ptr(), ffi::Py_None(), &raw mut result) {
                ffi::PySendResult::PYGEN_NEXT => Sent::Yielded(Bound::from_owned_ptr(py, result).unbind()),
                ffi::PySendResult::PYGEN_RETURN => Sent::Returned(Bound::from_owned_ptr(py, result).unbind()),
                ffi::PySendResult::PYGEN_ERROR => Sent::Raised(PyErr::fetch(py)),
            }
        };
        drop(entered);
        sent
    }

    pub fn throw(&mut self, py: Python<'_>, error: PyErr) -> Sent {
        self.interrupted |= error.is_instance_of::<CancelledError>(py);
        let entered = match Entered::new(self.context.bind(py)) {
            Ok(entered) => entered,
            Err(error) => return Sent::Raised(error),
        };
        let thrown = self.coroutine.bind(py).call_method1(intern!(py, "throw"), (error.into_value(py),));
        drop(entered);
        match thrown {
            Ok(object) => Sent::Yielded(object.unbind()),
            Err(error) => match error.value(py).cast::<PyStopIteration>() {
                Ok(stop) => match stop.getattr(intern!(py, "value")) {
                    Ok(value) => Sent::Returned(value.unbind()),
                    Err(error) => Sent::Raised(error),
                },
                Err(_) => Sent::Raised(error),
            },
        }
    }
}

/// Checks what is sent to a coroutine of ours.
pub fn check_sent(value: &Bound<'_, PyAny>) -> PyResult<()> {
    if value.is_none() { Ok(()) } else { Err(PyTypeError::new_err("only None can be sent to a run")) }
}

/// The exception that the arguments of a coroutine's `throw` stand for.
pub fn thrown(
    exception: &Bound<'_, PyAny>,
    value: Option<&Bound<'_, PyAny>>,
    traceback: Option<&Bound<'_, PyAny>>,
) -> PyErr {
    let error = PyErr::from_value(value.filter(|value| !value.is_none()).unwrap_or(exception).clone());
    if let Some(traceback) = traceback.and_then(|traceback| traceback.cast::<PyTraceback>().ok()) {
        error.set_traceback(exception.py(), Some(traceback.clone()));
    }
    error
}

/// A context that is current until it is dropped.
pub struct Entered<'a, 'py>(&'a Bound<'py, PyAny>);

impl<'a, 'py> Entered<'a, 'py> {
    #[inline]
    pub fn new(context: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        // SAFETY: `context` is a live context object; a failure is fetched.
        match unsafe { ffi::PyContext_Enter(context.as_ptr()) } {
            0 => Ok(Self(context)),
            _ => Err(PyErr::fetch(context.py())),
        }
    }
}

impl Drop for Entered<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the context was entered by `new` in this thread and is left once, in reverse order.
        unsafe {
            if ffi::PyContext_Exit(self.0.as_ptr()) != 0 {
                ffi::PyErr_WriteUnraisable(self.0.as_ptr());
            }
        }
    }
}

/// Turns a panic, of ours or of one that a `PanicException` carried through Python code, into an error.
#[inline]
pub fn guarded<T>(call: impl FnOnce() -> T) -> PyResult<T> {
    std::panic::catch_unwind(AssertUnwindSafe(call)).map_err(|payload| error::internal(&*payload))
}

/// What to send to for an awaitable: a coroutine itself, else the iterator of its `__await__`.
#[inline]
pub fn awaited<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: only reads the type of a live object.
    if unsafe { ffi::PyCoro_CheckExact(value.as_ptr()) } != 0 {
        return Ok(value.clone());
    }
    value.call_method0(intern!(value.py(), "__await__"))
}

static CURRENT_TASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The asyncio task that runs now; `None` in Python if there is none.
pub fn current_task(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    CURRENT_TASK.import(py, "asyncio", "current_task")?.call0()
}

/// `__await__` and `__iter__` of a class that is its own iterator.
macro_rules! own_iterator {
    ($class:ty) => {
        #[pyo3::pymethods]
        impl $class {
            fn __await__(slf: pyo3::Py<Self>) -> pyo3::Py<Self> {
                slf
            }

            fn __iter__(slf: pyo3::Py<Self>) -> pyo3::Py<Self> {
                slf
            }
        }
    };
}

/// What is awaited once, beside its `__next__` and `close`. The class has `give_up(&self, Python) -> PyResult<()>`, for an
/// `await` that an exception ends before what is awaited.
macro_rules! awaitable {
    ($class:ty) => {
        $crate::python::coroutine::own_iterator!($class);

        #[pyo3::pymethods]
        impl $class {
            #[pyo3(signature = (exception, value = None, traceback = None))]
            fn throw(
                &self,
                exception: &pyo3::Bound<'_, pyo3::PyAny>,
                value: Option<&pyo3::Bound<'_, pyo3::PyAny>>,
                traceback: Option<&pyo3::Bound<'_, pyo3::PyAny>>,
            ) -> pyo3::PyResult<pyo3::Py<pyo3::PyAny>> {
                self.give_up(exception.py())?;
                Err($crate::python::coroutine::thrown(exception, value, traceback))
            }
        }
    };
}

/// What a task is made of, beside its `close`. The class has `resume(&Bound<Self>, Option<PyErr>) -> PyResult<Resumed>`,
/// which goes on with what was thrown, if anything was.
macro_rules! coroutine_of {
    ($class:ty) => {
        $crate::python::coroutine::own_iterator!($class);

        #[pyo3::pymethods]
        impl $class {
            fn __next__(slf: &pyo3::Bound<'_, Self>) -> pyo3::PyResult<Option<pyo3::Py<pyo3::PyAny>>> {
                $crate::python::coroutine::Resumed::to_next(slf.py(), Self::resume(slf, None))
            }

            fn send(
                slf: &pyo3::Bound<'_, Self>,
                value: &pyo3::Bound<'_, pyo3::PyAny>,
            ) -> pyo3::PyResult<pyo3::Py<pyo3::PyAny>> {
                $crate::python::coroutine::check_sent(value)?;
                $crate::python::coroutine::Resumed::to_sent(slf.py(), Self::resume(slf, None))
            }

            #[pyo3(signature = (exception, value = None, traceback = None))]
            fn throw(
                slf: &pyo3::Bound<'_, Self>,
                exception: &pyo3::Bound<'_, pyo3::PyAny>,
                value: Option<&pyo3::Bound<'_, pyo3::PyAny>>,
                traceback: Option<&pyo3::Bound<'_, pyo3::PyAny>>,
            ) -> pyo3::PyResult<pyo3::Py<pyo3::PyAny>> {
                let thrown = $crate::python::coroutine::thrown(exception, value, traceback);
                $crate::python::coroutine::Resumed::to_sent(slf.py(), Self::resume(slf, Some(thrown)))
            }
        }
    };
}

pub(crate) use {awaitable, coroutine_of, own_iterator};
