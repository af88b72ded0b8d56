//! The course of a run, as a line for each record that tells of it.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::journal::Journal;
use super::recover::LoadedRun;
use crate::history::History;
use crate::{EncodedRecord, Kept, Record};

#[pymethods]
impl LoadedRun {
    /// What happened: a word and some facts for each record that no checkpoint has replaced.
    fn timeline<'py>(&self, py: Python<'py>, journal: &Journal) -> PyResult<Bound<'py, PyList>> {
        let loaded = &self.0;
        let Some((folded, _)) = &loaded.checkpoint else { return Ok(PyList::empty(py)) };
        let history = History::new(loaded, journal.for_showing());
        let (image, _) = history.checkpoint()?;
        let steps = &image.steps;
        let lines = PyList::empty(py);
        for (delivery, pending) in &image.pending {
            let queued = Record::Queued { seq: *delivery, step: pending.step, event: pending.event.clone() };
            let Some(line) = line(py, *folded, &queued, steps)? else { continue };
            line.set_item("attempt", pending.attempt)?;
            line.set_item("since", pending.since.map(|since| since as f64 / 1e6))?;
            line.set_item("failures", pending.replay.failures.iter().map(|it| &*it.text).collect::<Vec<_>>())?;
            lines.append(line)?;
        }
        for record in history.records() {
            let (seq, record) = record?;
            if let Some(line) = line(py, seq, &record, steps)? {
                lines.append(line)?;
            }
        }
        Ok(lines)
    }
}

fn line<'py>(
    py: Python<'py>,
    seq: u64,
    record: &EncodedRecord,
    steps: &[Box<str>],
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let line = PyDict::new(py);
    line.set_item("seq", seq)?;
    let what = match record {
        Record::Queued { seq, step, event } => {
            line.set_item("delivery", seq)?;
            line.set_item("step", steps.get(step.0 as usize).map(|name| &**name))?;
            line.set_item("event", &*event.class)?;
            "queued"
        }
        Record::Started { seq, at } => {
            line.set_item("delivery", seq)?;
            line.set_item("at", *at as f64 / 1e6)?;
            "started"
        }
        Record::Finished { seq, at } => {
            line.set_item("delivery", seq)?;
            line.set_item("at", *at as f64 / 1e6)?;
            "finished"
        }
        Record::Retried { seq, failure, at, due } => {
            line.set_item("delivery", seq)?;
            line.set_item("at", *at as f64 / 1e6)?;
            line.set_item("failure", &*failure.text)?;
            line.set_item("due", *due as f64 / 1e6)?;
            "retried"
        }
        Record::Memo { seq, memo, .. } if matches!(memo.kept, Kept::Child(_)) => {
            line.set_item("delivery", seq)?;
            let Kept::Child(child) = &memo.kept else { return Ok(None) };
            line.set_item("child", child.id.to_string())?;
            line.set_item("workflow", &*child.workflow)?;
            "child"
        }
        Record::ChildEnded { child, end } => {
            line.set_item("child", child.to_string())?;
            line.set_item("is_failure", end.is_failure())?;
            "child ended"
        }
        Record::Memo { seq, memo, .. } => {
            line.set_item("delivery", seq)?;
            line.set_item("memo", &*memo.call.name)?;
            line.set_item("is_failure", matches!(memo.kept, Kept::Failure(_)))?;
            "memo"
        }
        Record::Received { seq, event } => {
            line.set_item("delivery", seq)?;
            line.set_item("event", &*event.class)?;
            "received"
        }
        Record::Changed { at, keys } => {
            line.set_item("at", *at as f64 / 1e6)?;
            line.set_item("keys", keys)?;
            "changed"
        }
        Record::Paused => "paused",
        Record::Resumed => "resumed",
        Record::Ended => "ended",
        // The rest is what steps did with their state and their events, and not about their course.
        _ => return Ok(None),
    };
    line.set_item("what", what)?;
    Ok(Some(line))
}
