//! What a step is given: the run's state, its events and its name.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::MutexGuard;
use pyo3::exceptions::{PyBaseException, PyKeyError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyFloat, PyInt, PyIterator, PyList, PyString};
use pyo3::{PyTraverseError, PyVisit};

use super::between;
use super::convert::{self, PyValue, decode, encode};
use super::digest::{digest, sent_digest};
use super::error;
use super::event;
use super::run::Run;
use super::state::State;
use super::text;
use crate::digest::addressed;
use crate::writer::Occurrence;
use crate::{Error, Origin, Phase, Slot, Started, StepId};

/// The state and the events of a run, as one step sees them. Every call is synchronous.
#[pyclass(frozen, weakref, module = "treadle")]
pub struct Context {
    pub run: Py<Run>,
    pub step: StepId,
    pub slot: Slot,
    attempt: u32,
    // Set once the step was cancelled while it runs in a thread, which cannot be interrupted.
    is_revoked: AtomicBool,
}

impl Context {
    pub fn new(run: &Bound<'_, Run>, started: &Started) -> PyResult<Py<Self>> {
        let context = Self {
            run: run.clone().unbind(),
            step: started.step,
            slot: started.slot,
            attempt: started.attempt,
            is_revoked: AtomicBool::new(false),
        };
        Py::new(run.py(), context)
    }

    #[inline]
    pub fn state(&self) -> PyResult<MutexGuard<'_, State>> {
        if self.is_revoked.load(Ordering::Relaxed) {
            return Err(error::step_cancelled(self.run.get(), self.step));
        }
        Ok(self.run.get().state.lock())
    }

    pub fn step_name(&self) -> &str {
        self.run.get().plan.get().step_name(self.step)
    }

    #[inline]
    fn stored(&self, py: Python<'_>, key: &str) -> PyResult<Option<PyValue>> {
        Ok(self.state()?.core.store().get(key).map(|value| value.clone_ref(py)))
    }

    #[inline]
    fn store(&self, py: Python<'_>, key: &str, value: PyValue) -> PyResult<()> {
        let mut state = self.state()?;
        let replaced = match state.core.set(key, value) {
            Ok(replaced) => replaced,
            Err(refused) => {
                let error = self.ended(state, "set");
                drop(refused);
                return Err(error);
            }
        };
        drop(state);
        drop(replaced);
        self.occurred(py, Occurrence::Stored)
    }

    #[inline]
    fn occurred(&self, py: Python<'_>, what: Occurrence) -> PyResult<()> {
        Run::occurred(self.run.bind(py), what)
    }

    #[cold]
    fn ended(&self, state: MutexGuard<'_, State>, call: &str) -> PyErr {
        drop(state);
        error::run_ended(&self.run.get().id_text(), call)
    }

    /// Sends an event to one step by its name.
    fn send_to(&self, event: &Bound<'_, PyAny>, step: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(name) = step.cast::<PyString>() else {
            let shown = error::shown(step);
            return Err(PyTypeError::new_err(format!("step: the name of a step expected, not {shown}")));
        };
        let name = name.to_string_lossy();
        let run = self.run.bind(event.py());
        let plan = run.get().plan.get();
        let to = plan.step_named(&name).filter(|to| plan.accepts(*to, event));
        let Some(to) = to else { return Err(error::unrouted_to(run.get(), self.step, event, &name)) };
        let digest = addressed(sent_digest(event)?, &name);
        let refused = {
            let mut state = self.state()?;
            if state.core.knows_sends(self.slot) && state.core.sends_again(self.slot, |sent| sent == digest) {
                return Ok(());
            }
            state.core.send_to(self.slot, digest, to, event.clone().unbind()).is_err()
        };
        if refused {
            return Err(error::run_ended(&run.get().id_text(), "send_event"));
        }
        Run::wake_lanes(run)?;
        Run::occurred(run, Occurrence::Sent)
    }

    /// Replaces a key's value by what `change` makes of it, again if another thread was faster.
    fn modify<'py>(
        &self,
        py: Python<'py>,
        key: &str,
        change: impl Fn(Option<PyValue>) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // Any other thread that was faster has made progress; only a function that sets the same key
        // itself can lose this often.
        const MOST_TRIES: usize = 1000;
        for _ in 0..MOST_TRIES {
            let (old, version) = match self.state()?.core.store().get_versioned(key) {
                Some((value, version)) => (Some(value.clone_ref(py)), Some(version)),
                None => (None, None),
            };
            let new = change(old)?;
            let value = encode(key, &new)?;
            let mut state = self.state()?;
            let outcome = state.core.compare_and_set(key, version, value);
            drop(state);
            match outcome {
                Ok(_replaced) => {
                    self.occurred(py, Occurrence::Stored)?;
                    return Ok(new);
                }
                Err(refused) if refused.error == Error::RunEnded => {
                    return Err(error::run_ended(&self.run.get().id_text(), "update"));
                }
                Err(_outdated) => {}
            }
        }
        Err(PyRuntimeError::new_err(format!(
            "{}: it changed during each of {MOST_TRIES} updates; does the function set the key itself?",
            error::shown_key(key)
        )))
    }
}

#[pymethods]
impl Context {
    /// Stores a snapshot of a value under a key.
    fn set(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let key = text::key(key)?;
        self.store(value.py(), key, encode(key, value)?)
    }

    /// The value of a key, or `default` if there is none.
    #[pyo3(signature = (key, default = None))]
    fn get<'py>(&self, key: &Bound<'py, PyAny>, default: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        let key = text::key(key)?;
        match self.stored(py, key)? {
            Some(value) => decode(py, key, &value),
            None => Ok(default.unwrap_or_else(|| py.None().into_bound(py))),
        }
    }

    /// As `set`, for `bytes`, `bytearray` and `memoryview` alone.
    fn set_bytes(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let key = text::key(key)?;
        match convert::binary(value)? {
            Some(binary) => self.store(value.py(), key, binary),
            None => Err(error::not_binary(key, &text::type_name(&value.get_type()))),
        }
    }

    /// As `get`, for a value that was stored as binary.
    #[pyo3(signature = (key, default = None))]
    fn get_bytes<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        let key = text::key(key)?;
        match self.stored(py, key)? {
            Some(value @ (PyValue::Bytes(_) | PyValue::ByteArray(_))) => decode(py, key, &value),
            Some(PyValue::Opaque(..)) => Err(error::not_binary(key, "an opaque value")),
            Some(value) => Err(error::not_binary(key, &text::type_name(&decode(py, key, &value)?.get_type()))),
            None => Ok(default.unwrap_or_else(|| py.None().into_bound(py))),
        }
    }

    /// Removes a key. Says whether it was there.
    fn delete(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = key.py();
        let text = text::key(key)?;
        let mut state = self.state()?;
        let removed = match state.core.delete(text) {
            Ok(removed) => removed,
            Err(_) => return Err(self.ended(state, "delete")),
        };
        drop(state);
        self.occurred(py, Occurrence::Stored)?;
        Ok(removed.is_some())
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let key = text::key(key)?;
        Ok(self.state()?.core.store().contains(key))
    }

    /// A context is there whether or not the run holds a key.
    fn __bool__(&self) -> bool {
        true
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(self.state()?.core.store().len())
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        PyList::new(py, self.keys()?)?.try_iter()
    }

    /// The keys, in the order in which they were first set.
    fn keys(&self) -> PyResult<Vec<String>> {
        Ok(self.state()?.core.store().iter().map(|(key, _)| key.to_owned()).collect())
    }

    /// The same store as a mutable mapping.
    #[getter]
    #[pyo3(name = "state")]
    fn mapping(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        static STATE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        Ok(STATE.import(slf.py(), "treadle.context", "State")?.call1((slf,))?.unbind())
    }

    /// Atomically replaces a key's value by `function(value)`, and returns the new value.
    #[pyo3(signature = (key, function, *default, **keywords))]
    fn update<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        function: &Bound<'py, PyAny>,
        default: &Bound<'py, pyo3::types::PyTuple>,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        let default = update_default(default, keywords)?;
        let text = text::key(key)?;
        self.modify(py, text, |old| {
            let old = match (old, &default) {
                (Some(old), _) => decode(py, text, &old)?,
                (None, Some(default)) => default.clone(),
                (None, None) => return Err(PyKeyError::new_err((key.clone().unbind(),))),
            };
            function.call1((old,))
        })
    }

    /// Atomically adds to a number, which is 0 if the key is missing, and returns the sum.
    #[pyo3(signature = (key, by = None))]
    fn increment<'py>(&self, key: &Bound<'py, PyAny>, by: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        let key = text::key(key)?;
        let one = PyInt::new(py, 1).into_any();
        let by = by.unwrap_or(&one);
        check_number(key, "increment by", by)?;
        self.modify(py, key, |old| {
            let old = match old {
                Some(old) => decode(py, key, &old)?,
                None => PyInt::new(py, 0).into_any(),
            };
            check_number(key, "increment", &old)?;
            old.add(by)
        })
    }

    /// Live objects of this process: kept by identity for the time of the run, never stored.
    #[getter]
    fn session(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        let fresh = PyDict::new(py).unbind();
        Ok(self.state()?.session.get_or_insert(fresh).clone_ref(py))
    }

    /// The run's UUID (version 7) as a string.
    fn run_id(&self, py: Python<'_>) -> PyResult<String> {
        let id = self.run.get().id_text();
        Run::remember(self.run.bind(py), &id)?;
        Ok(id)
    }

    /// 1 on the first try of this step for this event, then 2, …
    #[getter]
    fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What the attempt before this one raised; as a `StoredError` after a restart.
    #[getter]
    fn last_error(&self, py: Python<'_>) -> PyResult<Option<Py<PyBaseException>>> {
        let (failure, event) = {
            let state = self.state()?;
            if let Some(error) = state.last_errors.get().and_then(|errors| errors.get(&self.slot.seq())) {
                return Ok(Some(error.clone_ref(py)));
            }
            let Some(delivery) = state.core.delivery(self.slot) else { return Ok(None) };
            let failures = delivery.replay.as_deref().map_or(&[][..], |replay| &replay.failures);
            let Some(failure) = failures.last().cloned() else { return Ok(None) };
            (failure, delivery.event.clone_ref(py))
        };
        error::stored_failure(py, self.run.get(), self.step, &failure, Some(&event)).map(|error| Some(error.unbind()))
    }

    /// Seconds since the first body of this delivery began, if the clock was read.
    #[getter]
    fn elapsed(&self) -> PyResult<Option<f64>> {
        let now = self.run.get().now();
        let state = self.state()?;
        let since = state.core.delivery(self.slot).and_then(|delivery| delivery.since);
        Ok(since.map(|since| now.saturating_sub(since.get()) as f64 / 1e6))
    }

    /// Names this step for this event in this run, the same in every attempt.
    #[getter]
    fn idempotency_key(&self) -> String {
        format!("{}:{}", self.run.get().id_text(), self.slot.seq())
    }

    /// Routes an event now; to one step, if that is named; to another run once the step is done.
    #[pyo3(signature = (event, *, step = None, to = None, missing = None))]
    fn send_event(
        &self,
        event: &Bound<'_, PyAny>,
        step: Option<&Bound<'_, PyAny>>,
        to: Option<&Bound<'_, PyAny>>,
        missing: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        if let Some(to) = to {
            between::check_alone(step)?;
            return between::send_out(self, event, to, missing);
        }
        between::check_target(missing)?;
        if let Some(step) = step {
            return self.send_to(event, step);
        }
        drop(self.state()?);
        let run = self.run.bind(event.py());
        let sent_digest = sent_digest(event)?;
        let knows_sends = self.state()?.core.knows_sends(self.slot);
        if knows_sends {
            // The earlier body may have run in a process with an earlier version of digests.
            let first = digest(event)?.of_sent();
            let unversioned = event::digest_without_version(event)?.map(|older| older as u64);
            let is_same = |sent| sent == sent_digest || sent == first || Some(sent) == unversioned;
            if self.state()?.core.sends_again(self.slot, is_same) {
                return Ok(());
            }
        }
        // In one step with that: what could not be sent, another attempt has to try again.
        Run::emit(run, event, Origin::Sent { slot: self.slot, digest: sent_digest }, &|| {
            format!("step {:?} sent", self.step_name())
        })?;
        Run::wake_lanes(run)?;
        Run::occurred(run, Occurrence::Sent)
    }

    /// Sleeps for this many seconds. The time is part of the run: a snapshot keeps when it is over.
    fn sleep<'py>(slf: &Bound<'py, Self>, seconds: &Bound<'py, PyAny>) -> PyResult<Py<super::wait::EventWait>> {
        super::wait::EventWait::sleep(slf, seconds)
    }

    /// Publishes an event outside of the run.
    fn write_event_to_stream(&self, event: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event.py();
        let mut state = self.state()?;
        let forgotten = match state.core.publish(event.clone().unbind()) {
            Ok(forgotten) => forgotten,
            Err(_refused) => return Err(self.ended(state, "write_event_to_stream")),
        };
        let readers = std::mem::take(&mut state.readers);
        drop(state);
        drop(forgotten);
        readers.iter().try_for_each(|reader| reader.wake(py, py.None()))?;
        self.occurred(py, Occurrence::Published)
    }

    fn __repr__(&self) -> String {
        let run = self.run.get();
        format!("<Context of step {:?} in run {}>", self.step_name(), run.id_text())
    }

    /// The step was cancelled, but goes on in its thread: nothing that it does from now on counts.
    fn _revoke(&self, py: Python<'_>) -> PyResult<()> {
        self.is_revoked.store(true, Ordering::Relaxed);
        // The thread may be waiting for a run that it started on an event loop of its own.
        Run::cancel_children_elsewhere(self.run.bind(py))
    }

    /// What keeps the resources of the run: `make(run)`, the first time.
    fn _keeper(&self, py: Python<'_>, make: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let state = self.state()?;
        if let Some(keeper) = &state.keeper {
            return Ok(keeper.clone_ref(py));
        }
        if state.core.phase() == Phase::Ended {
            return Err(self.ended(state, "a resource"));
        }
        drop(state);
        let keeper = make.call1((&self.run,))?.unbind();
        Ok(self.state()?.keeper.get_or_insert(keeper).clone_ref(py))
    }

    /// Waits for an event of a class that matches; it may have been sent already.
    #[pyo3(signature = (event_type, *, r#match = None, timeout = None))]
    fn wait_for_event<'py>(
        slf: &Bound<'py, Self>,
        event_type: &Bound<'py, PyAny>,
        r#match: Option<&Bound<'py, PyAny>>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Py<super::wait::EventWait>> {
        super::wait::EventWait::start(slf, event_type, r#match, timeout)
    }

    /// Gathers events: the list of them, in the order of `expected`, once all are there; else `None`.
    #[pyo3(signature = (event, expected, *, key = None))]
    fn collect_events<'py>(
        &self,
        event: &Bound<'py, PyAny>,
        expected: &Bound<'py, PyAny>,
        key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Vec<Py<PyAny>>>> {
        super::wait::collect(self, event, expected, key)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.run)
    }
}

fn update_default<'py>(
    positional: &Bound<'py, pyo3::types::PyTuple>,
    keywords: Option<&Bound<'py, PyDict>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    use pyo3::types::{PyAnyMethods as _, PyDictMethods as _, PyTupleMethods as _};
    let named = match keywords {
        Some(keywords) => {
            if let Some(other) = keywords.keys().iter().find(|name| !name.eq("default").unwrap_or(false)) {
                return Err(PyTypeError::new_err(format!("update() got an unexpected keyword argument {other}")));
            }
            keywords.get_item("default")?
        }
        None => None,
    };
    match (positional.len(), named) {
        (0, named) => Ok(named),
        (1, None) => positional.get_item(0).map(Some),
        _ => Err(PyTypeError::new_err("update() takes a key, a function and at most one default")),
    }
}

fn check_number(key: &str, call: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    if value.is_exact_instance_of::<PyInt>() || value.is_exact_instance_of::<PyFloat>() {
        return Ok(());
    }
    let name = text::type_name(&value.get_type());
    Err(PyTypeError::new_err(format!("{}: {call}: an int or a float expected, not {name}", error::shown_key(key))))
}
