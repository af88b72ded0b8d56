//! What a parent and a child tell each other: the end of the child, and that the parent is over.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::journal::{Outgoing, Signer};
use crate::python::convert::{PyValue, decode, encode};
use crate::python::error;
use crate::python::run::Run;
use crate::python::state::Outcome;
use crate::python::stored::ToBytes;
use crate::writer::Occurrence;
use crate::{ChildEnd, Phase, RunId, family};

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
        let unkept = parent.get().state.lock().core.end_child(id, end);
        let is_kept = unkept.is_ok();
        drop(unkept);
        if !is_kept {
            return Ok(());
        }
        Self::wake_for_child(parent, id)?;
        Self::occurred(parent, Occurrence::ChildEnded)
    }

    /// Those who wait for a child go on, unless the run is paused.
    fn wake_for_child(parent: &Bound<'_, Self>, id: RunId) -> PyResult<()> {
        let py = parent.py();
        let waiters = {
            let mut state = parent.get().state.lock();
            if state.core.is_paused() {
                return Ok(());
            }
            state.kin.get_mut().and_then(|kin| kin.waiters.remove(&id))
        };
        waiters.into_iter().flatten().try_for_each(|waker| waker.wake(py, py.None()))
    }

    /// The run goes on after a pause: so do those who wait for children that have ended meanwhile.
    pub fn wake_for_children(run: &Bound<'_, Self>) -> PyResult<()> {
        let ended: Vec<_> = {
            let state = run.get().state.lock();
            let waited = state.kin.get().into_iter().flat_map(|kin| kin.waiters.keys());
            waited.filter(|id| !state.core.has_open_child(**id)).copied().collect()
        };
        ended.into_iter().try_for_each(|id| Self::wake_for_child(run, id))
    }

    /// No body awaits these children any more.
    pub fn cancel_void_children(run: &Bound<'_, Self>) -> PyResult<()> {
        let void = run.get().state.lock().core.take_void_children();
        void.into_iter().try_for_each(|id| Self::cancel_child_of(run, id).map(drop))
    }

    /// Cancels a child. Says whether it was still going on, as far as its parent knows.
    pub fn cancel_child_of(parent: &Bound<'_, Self>, id: RunId) -> PyResult<bool> {
        let py = parent.py();
        let (live, journal) = {
            let state = parent.get().state.lock();
            if !state.core.has_open_child(id) {
                return Ok(false);
            }
            let live = state.kin.get().and_then(|kin| Some(kin.live.get(&id)?.clone_ref(py)));
            (live, state.durable.as_ref().map(|durable| durable.journal.clone_ref(py)))
        };
        if let Some(live) = live {
            return Self::cancel_child(live.bind(py));
        }
        let Some(journal) = journal else { return Ok(false) };
        let cancelled = family::cancel(parent.get().id, id, &journal.get().signer)?;
        {
            let mut state = parent.get().state.lock();
            if state.core.phase() != Phase::Running {
                return Ok(false);
            }
            state.core.write_to_child(cancelled);
        }
        Self::occurred(parent, Occurrence::Child)?;
        Ok(true)
    }

    /// So many records are on disk: the children that they made start here.
    pub fn children_written(run: &Bound<'_, Self>, recorded: u64) -> PyResult<()> {
        let py = run.py();
        let (made, journal) = {
            let mut state = run.get().state.lock();
            let Some(kin) = state.kin.get_mut() else { return Ok(()) };
            let written = kin.unwritten.partition_point(|(needed, _)| *needed <= recorded);
            let made: Vec<_> = kin.unwritten.drain(..written).map(|(_, id)| id).collect();
            let Some(durable) = &state.durable else { return Ok(()) };
            (made, durable.journal.clone_ref(py))
        };
        made.into_iter().try_for_each(|id| journal.get().child_made(py, id))
    }
}

/// What a run with a journal writes to its family with its last commit: its children that are not to outlive it are
/// cancelled, and its parent is told what it gave.
pub fn last_words(run: &Bound<'_, Run>, signer: &Signer) -> PyResult<Vec<Outgoing>> {
    let py = run.py();
    let (mut last, parent) = {
        let state = run.get().state.lock();
        let last = family::last_words(run.get().id, state.core.open_children(), signer)?;
        (last, state.core.family().map(|family| family.parent))
    };
    if let Some(parent) = parent {
        let end = end_of(&parent.to_string(), run)?.try_map(|value| ToBytes::new(py).value(&value))?;
        last.push(family::tell(parent, run.get().id, &end, signer)?);
    }
    Ok(last)
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
