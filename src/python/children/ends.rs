//! What a parent and a child tell each other: the end of the child, and that the parent is over.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::journal::{Outgoing, Signer};
use crate::python::convert::{PyValue, decode, encode};
use crate::python::error;
use crate::python::run::Run;
use crate::python::state::{Outcome, State};
use crate::python::stored::ToBytes;
use crate::python::wake::Waker;
use crate::writer::Occurrence;
use crate::{ChildEnd, RunId, family};

impl Run {
    /// A child that is in memory has ended: its parent keeps what it gave, and those who wait for it go on.
    pub fn child_gave(parent: &Bound<'_, Self>, child: &Bound<'_, Self>) -> PyResult<()> {
        let id = child.get().id;
        if !parent.get().state.lock().core.has_open_child(id) {
            return Ok(());
        }
        let end = end_of(&parent.get().id_text(), child)?;
        Self::child_ended_with(parent, id, end)?;
        let has_published = child.get().state.lock().core.stream().published() > 0;
        let mut state = parent.get().state.lock();
        let removed = state.kin.make().live.remove(&id);
        if has_published && !state.is_over {
            state.kin.make().read.insert(id, child.clone().unbind());
        }
        drop(state);
        drop(removed);
        Ok(())
    }

    /// A child has ended.
    pub fn child_ended_with(parent: &Bound<'_, Self>, id: RunId, end: ChildEnd<PyValue>) -> PyResult<()> {
        // In one step: what the core takes for awake is awake, also if another thread pauses the run.
        let (unkept, waiters) = {
            let mut state = parent.get().state.lock();
            let unkept = state.core.end_child(id, end);
            let waiters = if unkept.is_ok() { state.take_child_waiters(id) } else { Vec::new() };
            (unkept, waiters)
        };
        let is_kept = unkept.is_ok();
        drop(unkept);
        if !is_kept {
            return Ok(());
        }
        Self::wake_each(parent.py(), waiters)?;
        Self::occurred(parent, Occurrence::ChildEnded)
    }

    fn wake_each(py: Python<'_>, waiters: Vec<Waker>) -> PyResult<()> {
        waiters.into_iter().try_for_each(|waker| waker.wake(py, py.None()))
    }

    /// The run goes on after a pause: so do those who wait for children that have ended meanwhile.
    pub fn wake_for_children(run: &Bound<'_, Self>) -> PyResult<()> {
        let waiters: Vec<_> = {
            let mut state = run.get().state.lock();
            let waited = state.kin.get().into_iter().flat_map(|kin| kin.waiters.keys());
            let ended: Vec<_> = waited.filter(|id| !state.core.has_open_child(**id)).copied().collect();
            ended.into_iter().flat_map(|id| state.take_child_waiters(id)).collect()
        };
        Self::wake_each(run.py(), waiters)
    }

    /// No body awaits these children any more.
    pub fn cancel_void_children(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        let (void, is_cancelled) = {
            let mut state = run.get().state.lock();
            let State { core, durable, .. } = &mut *state;
            match durable {
                Some(durable) => (Vec::new(), family::cancel_void(core, &durable.journal.bind(py).get().signer)?),
                None => (core.take_void_children(), false),
            }
        };
        if is_cancelled {
            Self::occurred(run, Occurrence::Child)?;
        }
        void.into_iter().try_for_each(|id| Self::cancel_child_of(run, id).map(drop))
    }

    /// Cancels a child. Says whether it was still going on, as far as its parent knows.
    pub fn cancel_child_of(parent: &Bound<'_, Self>, id: RunId) -> PyResult<bool> {
        let py = parent.py();
        let (live, is_cancelled) = {
            let mut state = parent.get().state.lock();
            let State { core, durable, kin, .. } = &mut *state;
            let live = kin.get().and_then(|kin| kin.live.get(&id)).map(|live| live.clone_ref(py));
            match durable {
                Some(durable) => (None, family::cancel_child(core, id, &durable.journal.bind(py).get().signer)?),
                None if core.has_open_child(id) => (live, false),
                None => (None, false),
            }
        };
        if let Some(live) = live {
            return Self::cancel_child(live.bind(py));
        }
        if is_cancelled {
            Self::occurred(parent, Occurrence::Child)?;
        }
        Ok(is_cancelled)
    }
}

/// What a run with a journal writes to its family with its last commit.
pub fn last_words(run: &Bound<'_, Run>, signer: &Signer) -> PyResult<Vec<Outgoing>> {
    let py = run.py();
    let parent = run.get().state.lock().core.family().map(|family| family.parent);
    let gave = match parent {
        Some(parent) => Some(end_of(&parent.to_string(), run)?.try_map(|value| ToBytes::new(py).value(&value))?),
        None => None,
    };
    Ok(family::last_words(&run.get().state.lock().core, gave.as_ref(), signer)?)
}

/// What a child gave, as its parent keeps it. What cannot be stored is a failure.
fn end_of(parent: &str, child: &Bound<'_, Run>) -> PyResult<ChildEnd<PyValue>> {
    let py = child.py();
    let (result, failure) = match &child.get().state.lock().outcome {
        Some(Outcome::Result(result)) => (Some(result.clone_ref(py)), None),
        Some(Outcome::Failed(exception, _)) => (None, Some(exception.clone_ref(py))),
        Some(Outcome::Cancelled) | None => (None, None),
    };
    let failure = match (result, failure) {
        (Some(result), _) => match encode("result", result.bind(py)) {
            Ok(value) => return Ok(ChildEnd::Result(value)),
            Err(error) if error.is_instance_of::<PyException>(py) => {
                let name = format!("run {} of workflow {:?}", child.get().id_text(), child.get().plan.get().name);
                error::unstorable_memo(py, &name, &result.bind(py).get_type(), error)
            }
            Err(error) => return Err(error),
        },
        (None, Some(exception)) => PyErr::from_value(exception.into_bound(py).into_any()),
        (None, None) => error::run_cancelled(&child.get().id_text()),
    };
    error::note_child(py, &failure, parent, child.get());
    failed(py, &failure).map(ChildEnd::Failure)
}

/// A failure as a value.
fn failed(py: Python<'_>, failure: &PyErr) -> PyResult<PyValue> {
    static FIELDS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let fields = FIELDS.import(py, "treadle.children", "fields_of_failure")?.call1((failure.value(py),))?;
    encode("failure", &fields)
}

/// What a failure was that is kept as a value.
pub(super) fn raised(py: Python<'_>, value: &PyValue) -> PyResult<PyErr> {
    static FAILURE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let fields = decode(py, "failure", value)?;
    Ok(PyErr::from_value(FAILURE.import(py, "treadle.children", "failure_from_fields")?.call1((fields,))?))
}
