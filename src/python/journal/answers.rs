//! Answers of a journal as Python sees them.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::RunId;
use crate::journal::{Phase, Reply, RunRow};
use crate::python::error;
use crate::python::recover::LoadedRun;
use crate::writer::AT_ONCE;

pub fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Ready => "running",
        Phase::Waiting => "waiting",
        Phase::Paused => "paused",
        Phase::Completed => "completed",
        Phase::Failed => "failed",
        Phase::Cancelled => "cancelled",
        Phase::Stranded => "stranded",
    }
}

pub(super) fn seconds(time: u64) -> f64 {
    time as f64 / 1e6
}

pub fn row<'py>(py: Python<'py>, row: &RunRow) -> PyResult<Bound<'py, PyDict>> {
    let object = PyDict::new(py);
    object.set_item("id", row.id.to_string())?;
    object.set_item("workflow", &row.workflow)?;
    object.set_item("key", &row.key)?;
    object.set_item("status", if row.copying.is_any() { "copying" } else { phase_name(row.phase()) })?;
    object.set_item("created", seconds(row.created))?;
    object.set_item("updated", seconds(row.updated))?;
    object.set_item("finished", row.finished.map(seconds))?;
    object.set_item("due", row.status.due.filter(|&due| due != AT_ONCE).map(seconds))?;
    object.set_item("owner", row.owner.map(|owner| owner.to_string()))?;
    object.set_item("epoch", row.epoch)?;
    object.set_item("seq", row.seq)?;
    object.set_item("inbox", row.inbox)?;
    object.set_item("published", row.published)?;
    object.set_item("is_damaged", row.is_cut_short)?;
    object.set_item("recoveries", row.recoveries)?;
    object.set_item("reason", &row.reason)?;
    object.set_item("dead_letters", row.dead_letters)?;
    object.set_item("parent", row.parent.map(|parent| parent.to_string()))?;
    object.set_item("root", row.root.map(|root| root.to_string()))?;
    Ok(object)
}

fn rows(py: Python<'_>, all: &[RunRow]) -> PyResult<Py<PyAny>> {
    let objects: Vec<_> = all.iter().map(|one| row(py, one)).collect::<PyResult<_>>()?;
    Ok(PyList::new(py, objects)?.into_any().unbind())
}

fn numbered(py: Python<'_>, items: Vec<(u64, Vec<u8>)>) -> PyResult<Bound<'_, PyList>> {
    PyList::new(py, items.into_iter().map(|(number, body)| (number, PyBytes::new(py, &body))))
}

/// An answer as Python sees it; which one belongs to which request is said in the stub.
pub(super) fn as_object(py: Python<'_>, reply: Reply) -> PyResult<Py<PyAny>> {
    let object = match reply {
        Reply::Done => return Ok(py.None()),
        Reply::Created { epoch } => epoch.into_pyobject(py)?.into_any(),
        Reply::Exists { id, input } => (id.to_string(), PyBytes::new(py, &input)).into_pyobject(py)?.into_any(),
        Reply::Appended { seq, .. } => seq.into_pyobject(py)?.into_any(),
        Reply::Reopened { epoch, seq } => (epoch, seq).into_pyobject(py)?.into_any(),
        Reply::Ends(ends) => {
            let runs = PyList::new(py, ends.runs.iter().map(RunId::to_string))?;
            (runs, PyBytes::new(py, ends.cursor.as_bytes()), ends.more, ends.missed).into_pyobject(py)?.into_any()
        }
        Reply::DeadLetters(letters) => {
            let letters = letters.into_iter().map(|letter| {
                let entry = letter.entry;
                (
                    entry.number,
                    PyBytes::new(py, &entry.id),
                    entry.kind,
                    seconds(entry.at),
                    PyBytes::new(py, &entry.body),
                    letter.why,
                )
            });
            PyList::new(py, letters)?.into_any()
        }
        Reply::Redelivered { messages } => messages.into_pyobject(py)?.into_any(),
        Reply::Sent { new } => return Ok(new.into_pyobject(py)?.to_owned().into_any().unbind()),
        // A future asks for one run at a time.
        Reply::Loaded(loaded) => {
            let Some((_, loaded)) = loaded.into_iter().next() else {
                return Err(error::internal(&"no run was loaded"));
            };
            return Ok(Py::new(py, LoadedRun::new(*loaded?))?.into_any());
        }
        Reply::Run { run, outcome } => {
            let outcome = outcome.map(|outcome| PyBytes::new(py, &outcome));
            (row(py, &run)?, outcome).into_pyobject(py)?.into_any()
        }
        Reply::Listed(all) => return rows(py, &all),
        Reply::Segment(segment) => Py::new(py, LoadedRun::of_segment(*segment))?.into_bound(py).into_any(),
        Reply::Records { records, folded } => (numbered(py, records)?, folded).into_pyobject(py)?.into_any(),
        Reply::Stream(read) => {
            let entries = numbered(py, read.entries)?;
            (entries, read.missed, read.published, read.ended).into_pyobject(py)?.into_any()
        }
        // The core's engine asks for these, and no future is told of them.
        reply @ (Reply::Claimed(_)
        | Reply::Next(_)
        | Reply::Refused(_)
        | Reply::Polled(_)
        | Reply::Taken(_)
        | Reply::Traces(_)
        | Reply::Pruned { .. }) => {
            return Err(error::internal(&format!("a future was answered with {reply:?}")));
        }
    };
    Ok(object.unbind())
}
