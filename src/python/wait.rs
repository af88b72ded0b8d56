//! Waiting for an event, and collecting several.

use std::cell::Cell;

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};

use super::clock::now;
use super::context::Context;
use super::convert::type_name;
use super::coroutine::thrown;
use super::error;
use super::gate::yielded;
use super::plan::micros;
use super::run::{Run, is_match};
use super::state::EventWaiter;
use super::wake::{self, Waker};
use crate::{Error, WaitId};

/// What `Context.wait_for_event` gives: awaitable once, for the event.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct EventWait {
    run: Py<Run>,
    at: Mutex<At>,
}

enum At {
    /// The event was there already.
    Ready(Py<PyAny>),
    Waiting(WaitId, Py<PyAny>),
    Finished,
}

impl EventWait {
    /// Takes a kept event that matches, or registers for the next one.
    pub fn start(
        context: &Bound<'_, Context>,
        class: &Bound<'_, PyAny>,
        matcher: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Self>> {
        let py = context.py();
        let Ok(class) = class.cast::<PyType>() else {
            let text = format!("wait_for_event: a class of events expected, not {}", error::shown(class));
            return Err(PyTypeError::new_err(text));
        };
        let timeout = timeout.filter(|timeout| !timeout.is_none()).map(seconds).transpose()?;
        let run = context.get().run.bind(py);
        let event_loop = wake::running_loop(py).map_err(|_| {
            error::classes::EventLoopError::new_err(format!(
                "step {:?}: wait_for_event needs an `async def` step",
                context.get().step_name()
            ))
        })?;
        let matcher = matcher.map(predicate).transpose()?;
        let at = match take_kept(run, class, matcher.as_ref())? {
            Some(event) => At::Ready(event),
            None => Self::register(context, &event_loop, class, matcher, timeout)?,
        };
        Py::new(py, Self { run: run.clone().unbind(), at: Mutex::new(at) })
    }

    fn register(
        context: &Bound<'_, Context>,
        event_loop: &Bound<'_, PyAny>,
        class: &Bound<'_, PyType>,
        matcher: Option<Py<PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<At> {
        let py = context.py();
        let run = context.get().run.bind(py);
        let waker = Waker::new(event_loop)?;
        let future = waker.future.clone_ref(py);
        let asked = matcher.as_ref().map(|matcher| matcher.clone_ref(py));
        let waiter = EventWaiter { class: class.clone().unbind().into_any(), matcher, waker, timeout };
        let deadline = timeout.map(|timeout| now().saturating_add(micros(timeout)));
        let id = context.get().state()?.core.wait(waiter, deadline);
        let id = id.map_err(|_refused| error::run_ended(&run.get().id_text(), "wait_for_event"))?;
        if deadline.is_some() {
            Run::arm_timer(run)?;
        }
        // Another thread may have sent an event between the first look and the registration.
        if let Some(event) = take_kept(run, class, asked.as_ref())? {
            let waiter = run.get().state.lock().core.end_wait(id);
            if waiter.is_some() {
                return Ok(At::Ready(event));
            }
            let kept = run.get().state.lock().core.keep_again(event);
            drop(kept);
        }
        Ok(At::Waiting(id, future))
    }

    fn resume(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let at = std::mem::replace(&mut *self.at.lock(), At::Finished);
        match at {
            At::Ready(event) => Err(PyStopIteration::new_err((event,))),
            At::Waiting(id, future) => {
                let bound = future.bind(py).clone();
                if bound.call_method0(intern!(py, "done"))?.is_truthy()? {
                    // Raises the timeout, or the cancellation.
                    let event = bound.call_method0(intern!(py, "result"))?;
                    return Err(PyStopIteration::new_err((event.unbind(),)));
                }
                *self.at.lock() = At::Waiting(id, future);
                yielded(bound)
            }
            At::Finished => Err(PyRuntimeError::new_err("wait_for_event: cannot be awaited twice")),
        }
    }

    /// Whoever asked went away. An event that was there for it goes to somebody else, or is kept.
    fn give_up(&self, py: Python<'_>) -> PyResult<()> {
        let at = std::mem::replace(&mut *self.at.lock(), At::Finished);
        let run = self.run.bind(py);
        let event = match at {
            At::Finished => return Ok(()),
            At::Ready(event) => event,
            At::Waiting(id, future) => {
                let waiter = run.get().state.lock().core.end_wait(id);
                if waiter.is_some() {
                    return Run::wait_ended(run);
                }
                let future = future.bind(py);
                let has_event = future.call_method0(intern!(py, "done"))?.is_truthy()?
                    && !future.call_method0(intern!(py, "cancelled"))?.is_truthy()?
                    && future.call_method0(intern!(py, "exception"))?.is_none();
                if !has_event {
                    return Ok(());
                }
                future.call_method0(intern!(py, "result"))?.unbind()
            }
        };
        Run::give_back(run, event.bind(py))
    }
}

#[pymethods]
impl EventWait {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.resume(py)
    }

    #[pyo3(signature = (exception, value = None, traceback = None))]
    fn throw(
        &self,
        exception: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.give_up(exception.py())?;
        Err(thrown(exception, value, traceback))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.give_up(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.run)?;
        let Some(at) = self.at.try_lock() else { return Ok(()) };
        match &*at {
            At::Ready(object) | At::Waiting(_, object) => visit.call(object),
            At::Finished => Ok(()),
        }
    }
}

impl Drop for EventWait {
    fn drop(&mut self) {
        if matches!(self.at.get_mut(), At::Finished) {
            return;
        }
        // After the interpreter has gone there is nobody left to give the event to.
        let _ = Python::try_attach(|py| {
            if let Err(error) = self.give_up(py) {
                error.write_unraisable(py, None);
            }
        });
    }
}

/// A matcher: a function of the event, or a mapping of the fields that it must have.
fn predicate(matcher: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let py = matcher.py();
    if let Ok(fields) = matcher.cast::<PyDict>() {
        let has_fields = py.import(intern!(py, "treadle.events"))?.getattr(intern!(py, "has_fields"))?;
        return Ok(has_fields.call1((fields.copy()?,))?.unbind());
    }
    if matcher.is_callable() {
        return Ok(matcher.clone().unbind());
    }
    let name = type_name(&matcher.get_type());
    Err(PyTypeError::new_err(format!("match: a function of the event or a dict of fields expected, not {name}")))
}

fn take_kept(
    run: &Bound<'_, Run>,
    class: &Bound<'_, PyType>,
    matcher: Option<&Py<PyAny>>,
) -> PyResult<Option<Py<PyAny>>> {
    let py = run.py();
    let kept: Vec<_> = {
        let state = run.get().state.lock();
        if state.core.kept().len() == 0 {
            return Ok(None);
        }
        state.core.kept().map(|(number, event)| (number, event.clone_ref(py))).collect()
    };
    for (number, event) in kept {
        if is_match(event.bind(py), class, matcher)? {
            let taken = run.get().state.lock().core.take_kept(number);
            if taken.is_some() {
                return Ok(taken);
            }
        }
    }
    Ok(None)
}

/// A number of seconds, more than 0.
fn seconds(timeout: &Bound<'_, PyAny>) -> PyResult<f64> {
    let py = timeout.py();
    let check = py.import(intern!(py, "treadle.steps"))?.getattr(intern!(py, "check_seconds"))?;
    check.call1((intern!(py, "timeout"), timeout))?;
    timeout.extract()
}

/// `Context.collect_events`.
pub fn collect(
    context: &Context,
    event: &Bound<'_, PyAny>,
    expected: &Bound<'_, PyAny>,
    key: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<Vec<Py<PyAny>>>> {
    let list = expected_list(expected)?;
    let key = key.map(super::convert::key).transpose()?;
    let mut state = context.state()?;
    let state_ref = &mut *state;
    let known = state_ref.last_expected.as_ref().filter(|(last, _)| last.is(&list)).map(|(_, group)| *group);
    let group = Cell::new(0);
    let same = |classes: &[usize]| {
        let address = classes.as_ptr() as usize;
        let same = classes.len() == list.len()
            && (known == Some(address)
                || list.iter().zip(classes).all(|(item, &class)| item.as_ptr() as usize == class));
        if same {
            group.set(address);
        }
        same
    };
    let class_of = |expects: &dyn Fn(usize) -> bool| {
        let class = event.get_type();
        let exact = class.as_ptr() as usize;
        if expects(exact) {
            return Some(exact);
        }
        class.mro().iter().map(|base| base.as_ptr() as usize).find(|&base| expects(base))
    };
    let make = || {
        // No Python object is made here, under the lock: that could start the garbage collector.
        let classes: Box<[usize]> = list.iter().map(|class| class.as_ptr() as usize).collect();
        (classes, list.iter().map(Bound::unbind).collect())
    };
    let collected = state_ref.core.collect((context.step, key), event.clone().unbind(), same, class_of, make);
    let replaced = match &collected {
        // A group that is complete may be gone, and another may come to lie at its address.
        Ok(Some(_)) => state_ref.last_expected.take(),
        _ if group.get() != 0 && known != Some(group.get()) => {
            state_ref.last_expected.replace((list.clone().unbind(), group.get()))
        }
        _ => None,
    };
    drop(state);
    drop(replaced);
    match collected {
        Ok(complete) => Ok(complete.map(|complete| complete.events)),
        Err(refused) if refused.error == Error::NotExpected => Err(PyValueError::new_err(format!(
            "collect_events: {} is not among the expected classes",
            error::shown(event)
        ))),
        Err(_refused) => Err(error::run_ended(&context.run.get().id_text(), "collect_events")),
    }
}

/// The expected classes: the very list that was given, since it is known again by identity.
fn expected_list<'py>(expected: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    let list = match (expected.cast_exact::<PyList>(), expected.cast::<PyTuple>()) {
        (Ok(list), _) => list.clone(),
        (_, Ok(tuple)) => tuple.to_list(),
        _ => {
            let text = format!("collect_events: a list of classes expected, not {}", error::shown(expected));
            return Err(PyTypeError::new_err(text));
        }
    };
    if list.is_empty() {
        return Err(PyValueError::new_err("collect_events: nothing is expected"));
    }
    match list.get_item(0)? {
        first if first.is_instance_of::<PyType>() => Ok(list),
        first => {
            let text = format!("collect_events: a list of classes expected, not one of {}", error::shown(&first));
            Err(PyTypeError::new_err(text))
        }
    }
}
