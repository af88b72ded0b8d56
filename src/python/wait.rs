//! Waiting for an event, and collecting several.

use std::cell::Cell;

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};

use super::context::Context;
use super::coroutine::{Resumed, awaitable};
use super::error;
use super::gate::yielded;
use super::number;
use super::plan::micros;
use super::run::{Run, is_match};
use super::state::{Class, EventWaiter, LastExpected, State};
use super::text::type_name;
use super::unreferenced;
use super::wake;
use crate::writer::Occurrence;
use crate::{Collecting, Error, Gathered, Lookup, Refused, Slot, Time, WaitId, Wanted};

/// What `Context.wait_for_event` and `Context.sleep` give: awaitable once, for the event or for nothing.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct EventWait {
    run: Py<Run>,
    slot: Slot,
    call: &'static str,
    at: Mutex<At>,
}

enum At {
    /// The event was there already.
    Ready(Py<PyAny>),
    /// The time has passed already.
    Slept,
    /// No time is to pass, but everybody else has a turn first.
    Yielding,
    Waiting(WaitId, Py<PyAny>),
    Sleeping(WaitId, Py<PyAny>),
    Finished,
}

const WAIT: &str = "wait_for_event";
const SLEEP: &str = "sleep";

impl EventWait {
    fn new(context: &Bound<'_, Context>, call: &'static str, at: At) -> PyResult<Py<Self>> {
        let py = context.py();
        let (run, slot) = (context.get().run.clone_ref(py), context.get().slot);
        Py::new(py, Self { run, slot, call, at: Mutex::new(at) })
    }

    /// Takes an event that is there, or registers for the next one.
    pub fn start(
        context: &Bound<'_, Context>,
        class: &Bound<'_, PyAny>,
        matcher: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Self>> {
        let Ok(class) = class.cast::<PyType>() else {
            let text = format!("wait_for_event: a class of events expected, not {}", error::shown(class));
            return Err(PyTypeError::new_err(text));
        };
        let timeout =
            timeout.filter(|timeout| !timeout.is_none()).map(|given| number::duration("timeout", given)).transpose()?;
        let event_loop = running_loop(context, WAIT)?;
        let matcher = matcher.map(predicate).transpose()?;
        let run = context.get().run.bind(context.py());
        let deadline = match timeout {
            Some(timeout) => {
                let wanted = Wanted::Wait(micros(timeout));
                Some(context.get().state()?.core.ask_deadline(context.get().slot, wanted, || run.get().now()))
            }
            None => None,
        };
        let wanted = Awaited { class, matcher, timeout, deadline };
        let at = Self::look_or_wait(context, &wanted, &event_loop)?;
        Run::occurred(run, Occurrence::Waiting)?;
        Run::rest(run)?;
        Run::release_soon(run)?;
        Self::new(context, WAIT, at)
    }

    /// Registers for the end of a time.
    pub fn sleep(context: &Bound<'_, Context>, time: &Bound<'_, PyAny>) -> PyResult<Py<Self>> {
        let event_loop = running_loop(context, SLEEP)?;
        let run = context.get().run.bind(context.py());
        let slot = context.get().slot;
        let wanted = Wanted::Sleep(number::delay("seconds", time)?);
        let deadline = context.get().state()?.core.ask_deadline(slot, wanted, || run.get().now());
        if wanted == Wanted::Sleep(0) {
            return Self::new(context, SLEEP, At::Yielding);
        }
        if deadline <= run.get().now() {
            return Self::new(context, SLEEP, At::Slept);
        }
        let waiter = EventWaiter::new(None, &event_loop, None)?;
        let future = waiter.waker.future.clone_ref(context.py());
        let waiting = context.get().state()?.core.wait(slot, waiter, None, Some(deadline));
        let id = waiting.map_err(|_refused| error::run_ended(&run.get().id_text(), SLEEP))?;
        Run::arm_timer(run)?;
        Run::check_quiet(run)?;
        Run::occurred(run, Occurrence::Waiting)?;
        Run::rest(run)?;
        Run::release_soon(run)?;
        Self::new(context, SLEEP, At::Sleeping(id, future))
    }

    /// Takes an event that is there, or registers in the same step in which it is seen that there is none.
    fn look_or_wait(
        context: &Bound<'_, Context>,
        wanted: &Awaited<'_, '_>,
        event_loop: &Bound<'_, PyAny>,
    ) -> PyResult<At> {
        let py = context.py();
        let run = context.get().run.bind(py);
        let slot = context.get().slot;
        let mut lookup = Lookup::new(slot);
        let mut waiter = None;
        loop {
            let looked = {
                let mut state = context.get().state()?;
                match (lookup.next(&state.core), waiter.take()) {
                    (Some(event), unused) => Looked::At(event.clone_ref(py), unused),
                    (None, None) => Looked::Nothing,
                    (None, Some(waiter)) => {
                        let future = waiter.waker.future.clone_ref(py);
                        let class = Class(wanted.class.clone().unbind());
                        Looked::Waits(state.core.wait(slot, waiter, Some(class), wanted.deadline), future)
                    }
                }
            };
            match looked {
                Looked::At(event, unused) => {
                    if is_match(event.bind(py), wanted.class, wanted.matcher.as_ref())? {
                        let received = lookup.receive(&mut run.get().state.lock().core);
                        if let Some(received) = received {
                            return Ok(At::Ready(received));
                        }
                    }
                    waiter = unused;
                }
                Looked::Nothing => waiter = Some(wanted.waiter(event_loop)?),
                Looked::Waits(waiting, future) => {
                    let id = waiting.map_err(|_refused| error::run_ended(&run.get().id_text(), WAIT))?;
                    if wanted.deadline.is_some() {
                        Run::arm_timer(run)?;
                    }
                    Run::check_quiet(run)?;
                    return Ok(At::Waiting(id, future));
                }
            }
        }
    }

    fn resume(&self, py: Python<'_>) -> PyResult<Resumed> {
        let at = std::mem::replace(&mut *self.at.lock(), At::Finished);
        let (id, future, is_sleep) = match at {
            At::Ready(event) => return Ok(Resumed::Returned(event)),
            At::Slept => return Ok(Resumed::Returned(py.None())),
            At::Yielding => {
                *self.at.lock() = At::Slept;
                return Ok(Resumed::Yielded(py.None()));
            }
            At::Finished => {
                return Err(PyRuntimeError::new_err(format!("{}: cannot be awaited twice", self.call)));
            }
            At::Waiting(id, future) => (id, future, false),
            At::Sleeping(id, future) => (id, future, true),
        };
        let bound = future.bind(py).clone();
        if bound.call_method0(intern!(py, "done"))?.is_truthy()? {
            // Raises the timeout, or the cancellation.
            let event = bound.call_method0(intern!(py, "result"))?;
            return Ok(Resumed::Returned(event.unbind()));
        }
        {
            let mut state = self.run.get().state.lock();
            if state.is_on_stack(self.slot) {
                state.core.body_awaits(id);
            }
        }
        *self.at.lock() = if is_sleep { At::Sleeping(id, future) } else { At::Waiting(id, future) };
        yielded(bound).map(Resumed::Yielded)
    }

    /// The waiter went away. An event that was there for it goes to another waiter or step, or is kept.
    fn give_up(&self, py: Python<'_>) -> PyResult<()> {
        let at = std::mem::replace(&mut *self.at.lock(), At::Finished);
        let run = self.run.bind(py);
        let event = match at {
            At::Finished | At::Slept | At::Yielding => return Ok(()),
            At::Ready(event) => event,
            At::Sleeping(id, _) => {
                let over = run.get().state.lock().core.give_up(id);
                return if over.is_some() { Run::wait_ended(run) } else { Ok(()) };
            }
            At::Waiting(id, future) => {
                let over = run.get().state.lock().core.give_up(id);
                if over.is_some() {
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
        Run::give_back(run, self.slot, event.bind(py))
    }
}

fn running_loop<'py>(context: &Bound<'py, Context>, call: &str) -> PyResult<Bound<'py, PyAny>> {
    wake::running_loop(context.py()).map_err(|_| {
        let step = context.get().step_name();
        error::classes::EventLoopError::new_err(format!("step {step:?}: {call} needs an `async def` step"))
    })
}

/// What a step waits for.
struct Awaited<'a, 'py> {
    class: &'a Bound<'py, PyType>,
    matcher: Option<Py<PyAny>>,
    timeout: Option<f64>,
    deadline: Option<Time>,
}

impl Awaited<'_, '_> {
    fn waiter(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<EventWaiter> {
        let matcher = self.matcher.as_ref().map(|matcher| matcher.clone_ref(event_loop.py()));
        EventWaiter::new(matcher, event_loop, self.timeout)
    }
}

/// What a look at the events that are there has shown.
enum Looked {
    /// One that may be wanted, and the waiter that was made for the case that none is.
    At(Py<PyAny>, Option<EventWaiter>),
    Nothing,
    Waits(Result<WaitId, Refused<(EventWaiter, Option<Class>)>>, Py<PyAny>),
}

awaitable!(EventWait);

#[pymethods]
impl EventWait {
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Resumed::to_next(py, self.resume(py))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let waiting = match &*self.at.lock() {
            At::Waiting(id, _) => Some(*id),
            _ => None,
        };
        if let Some(id) = waiting {
            unreferenced::note_closed_wait(self.run.bind(py), id);
        }
        self.give_up(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.run)?;
        let Some(at) = self.at.try_lock() else { return Ok(()) };
        match &*at {
            At::Ready(object) | At::Waiting(_, object) | At::Sleeping(_, object) => visit.call(object),
            At::Slept | At::Yielding | At::Finished => Ok(()),
        }
    }
}

impl Drop for EventWait {
    fn drop(&mut self) {
        if matches!(self.at.get_mut(), At::Finished) {
            return;
        }
        // After the interpreter has gone there is no run left to give the event to.
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

/// `Context.collect_events`.
pub fn collect(
    context: &Context,
    event: &Bound<'_, PyAny>,
    expected: &Bound<'_, PyAny>,
    key: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<Vec<Py<PyAny>>>> {
    let list = expected_list(expected)?;
    let key = key.map(super::text::key).transpose()?;
    let run = context.run.bind(event.py());
    let group_of = |state: &State| state.last_expected.as_ref().and_then(|last| last.group_of(&list));
    let mut state = context.state()?;
    if group_of(&state).is_none() {
        drop(state);
        check_classes(&list)?;
        state = context.state()?;
    }
    let known = group_of(&state);
    let state_ref = &mut *state;
    let group = Cell::new(0);
    let same = |classes: &[Class]| {
        let address = classes.as_ptr() as usize;
        let same = classes.len() == list.len()
            && (known == Some(address) || list.iter().zip(classes).all(|(item, class)| item.is(&class.0)));
        if same {
            group.set(address);
        }
        same
    };
    let class_of = |expects: &dyn Fn(&Class) -> bool| {
        let class = event.get_type();
        let bases = class.mro();
        let exact = Class(class.unbind());
        if expects(&exact) {
            return Some(exact);
        }
        bases.iter().filter_map(|base| Some(Class(base.cast_into().ok()?.unbind()))).find(|base| expects(base))
    };
    // No Python object is made here, under the lock: that could start the garbage collector.
    let make = || list.iter().filter_map(|class| Some(Class(class.cast_into().ok()?.unbind()))).collect();
    let call = Collecting { slot: context.slot, step: context.step, key, event: event.clone().unbind() };
    let collected = state_ref.core.collect(call, same, class_of, make);
    let replaced = match &collected {
        // A group that is complete may be gone, and another may come to lie at its address.
        Ok(Gathered { events: Some(_), .. }) => state_ref.last_expected.take(),
        _ if group.get() != 0 && known != Some(group.get()) => {
            state_ref.last_expected.replace(LastExpected::new(&list, group.get()))
        }
        _ => None,
    };
    drop(state);
    drop(replaced);
    match collected {
        Ok(gathered) => {
            Run::occurred(run, Occurrence::Collected)?;
            Ok(gathered.events)
        }
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
    Ok(list)
}

fn check_classes(list: &Bound<'_, PyList>) -> PyResult<()> {
    let Some((at, wrong)) = list.iter().enumerate().find(|(_, item)| !item.is_instance_of::<PyType>()) else {
        return Ok(());
    };
    let count = list.len();
    let wrong = error::shown(&wrong);
    let text = format!("collect_events: a list of classes expected; number {} of {count} is {wrong}", at + 1);
    Err(PyTypeError::new_err(text))
}
