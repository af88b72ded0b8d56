//! The records of a run as plain objects, one for each.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::error;
use super::inspect::{self, Show, seconds};
use super::journal::Journal;
use super::recover::LoadedRun;
use crate::history::History;
use crate::{EncodedEvent, EncodedImage, EncodedRecord, Kept, Memo, Record, StepId, Tag, Value, Wanted};

#[pymethods]
impl LoadedRun {
    /// What happened: a dict for each record behind `after`, with the contents of up to `most` bytes of values that need
    /// no trust. What was pending when the history begins comes first, as if it had been queued then. At most `limit` records
    /// are listed.
    #[pyo3(signature = (journal, after = 0, most = None, limit = None))]
    fn timeline<'py>(
        &self,
        py: Python<'py>,
        journal: &Journal,
        after: u64,
        most: Option<usize>,
        limit: Option<usize>,
    ) -> PyResult<Bound<'py, PyList>> {
        let loaded = &self.0;
        let limit = limit.unwrap_or(usize::MAX);
        let lines = PyList::empty(py);
        let Some((folded, _)) = &loaded.checkpoint else { return Ok(lines) };
        let history = History::new(loaded, journal.for_showing());
        let (image, _) = history.checkpoint()?;
        let mut shown = Lines { py, steps: &image.steps, show: Show { contents: most }, published: image.published };
        if (after == 0 || after < *folded) && folded == self.1.start() {
            pending(&mut shown, *folded, &image, &lines)?;
        }
        for record in history.records() {
            let (seq, record) = record?;
            if lines.len() >= limit {
                break;
            }
            // What comes before has counted the events of the stream.
            shown.published += u64::from(matches!(record, Record::Published { .. }));
            if seq > after {
                let line = shown.line(seq, &record)?;
                let values =
                    record.value().into_iter().chain(record.event().into_iter().flat_map(EncodedEvent::values));
                if values.into_iter().any(|value| value.tag == Tag::Opaque) {
                    line.set_item("signed_with", history.key_id(Some(seq)).map(|id| id.to_string()))?;
                }
                lines.append(line)?;
            }
        }
        Ok(lines)
    }
}

fn pending<'py>(shown: &mut Lines<'py, '_>, seq: u64, image: &EncodedImage, to: &Bound<'py, PyList>) -> PyResult<()> {
    for (delivery, pending) in &image.pending {
        let queued = Record::Queued { seq: *delivery, step: pending.step, event: pending.event.clone() };
        let line = shown.line(seq, &queued)?;
        line.set_item("attempt", pending.attempt)?;
        line.set_item("since", pending.since.map(seconds))?;
        line.set_item("failures", pending.replay.failures.iter().map(|it| &*it.text).collect::<Vec<_>>())?;
        to.append(line)?;
    }
    Ok(())
}

struct Lines<'py, 'a> {
    py: Python<'py>,
    steps: &'a [Box<str>],
    show: Show,
    // The number of the last event of the stream.
    published: u64,
}

type Line<'py> = Bound<'py, PyDict>;

impl<'py> Lines<'py, '_> {
    fn line(&self, seq: u64, record: &EncodedRecord) -> PyResult<Line<'py>> {
        let line = PyDict::new(self.py);
        line.set_item("seq", seq)?;
        let what = self
            .of_delivery(&line, record)
            .or_else(|| self.of_events(&line, record))
            .unwrap_or_else(|| self.of_run(&line, record))?;
        line.set_item("what", what)?;
        Ok(line)
    }

    fn step(&self, step: StepId) -> Option<&str> {
        self.steps.get(step.0 as usize).map(|name| &**name)
    }

    fn event(&self, line: &Line<'py>, event: &EncodedEvent) -> PyResult<()> {
        let shown = inspect::event(self.py, event, self.show)?;
        shown.del_item("class")?;
        line.set_item("event", &*event.class)?;
        line.update(shown.as_mapping())
    }

    fn value(&self, line: &Line<'py>, value: Option<&Value>) -> PyResult<()> {
        line.set_item("value", value.map(|value| inspect::value(self.py, value, self.show)).transpose()?)
    }

    fn memo(&self, line: &Line<'py>, memo: &Memo<Value>) -> PyResult<&'static str> {
        if let Kept::Child(child) = &memo.kept {
            line.set_item("child", child.id.to_string())?;
            line.set_item("workflow", &*child.workflow)?;
            return Ok("child");
        }
        line.set_item("memo", &*memo.call.name)?;
        line.set_item("is_failure", inspect::is_failure(&memo.kept))?;
        self.value(line, memo.kept.value())?;
        Ok("memo")
    }

    /// What a step did, and what became of it.
    fn of_delivery(&self, line: &Line<'py>, record: &EncodedRecord) -> Option<PyResult<&'static str>> {
        let of = |seq: &u64| line.set_item("delivery", seq);
        let at = |name: &str, at: &u64| line.set_item(name, seconds(*at));
        let shown = || {
            Ok(Some(match record {
                Record::Queued { seq, step, event } => {
                    of(seq)?;
                    line.set_item("step", self.step(*step))?;
                    self.event(line, event)?;
                    "queued"
                }
                Record::Started { seq, at: time } => {
                    of(seq)?;
                    at("at", time)?;
                    "started"
                }
                Record::Finished { seq, at: time } => {
                    of(seq)?;
                    at("at", time)?;
                    "finished"
                }
                Record::Retried { seq, failure, at: time, due } => {
                    of(seq)?;
                    at("at", time)?;
                    line.set_item("failure", &*failure.text)?;
                    at("due", due)?;
                    "retried"
                }
                Record::Due { seq } => {
                    of(seq)?;
                    "due"
                }
                Record::Sent { seq, .. } => {
                    of(seq)?;
                    "sent"
                }
                Record::Memo { seq, number, memo } => {
                    of(seq)?;
                    line.set_item("number", number)?;
                    self.memo(line, memo)?
                }
                Record::Forgotten { seq, number } => {
                    of(seq)?;
                    line.set_item("number", number)?;
                    "forgotten"
                }
                Record::Asked { seq, wanted, at: due, .. } => {
                    of(seq)?;
                    let (what, lasts) = match wanted {
                        Wanted::Sleep(lasts) => ("sleep", lasts),
                        Wanted::Wait(lasts) => ("wait", lasts),
                    };
                    line.set_item("for", what)?;
                    at("seconds", lasts)?;
                    at("due", due)?;
                    "asked"
                }
                Record::Waiting { wait, waiting } => {
                    line.update(inspect::waiting(self.py, waiting)?.as_mapping())?;
                    line.set_item("wait", wait)?;
                    "waiting"
                }
                Record::WaitOver { wait } => {
                    line.set_item("wait", wait)?;
                    "wait over"
                }
                _ => return Ok(None),
            }))
        };
        shown().transpose()
    }

    /// Where events went.
    fn of_events(&self, line: &Line<'py>, record: &EncodedRecord) -> Option<PyResult<&'static str>> {
        let of = |seq: &u64| line.set_item("delivery", Some(*seq).filter(|&seq| seq > 0));
        let shown = || {
            Ok(Some(match record {
                Record::Received { seq, event } => {
                    of(seq)?;
                    self.event(line, event)?;
                    "received"
                }
                Record::ReceivedKept { seq, number } => {
                    of(seq)?;
                    line.set_item("number", number)?;
                    "received kept"
                }
                Record::Returned { seq, place } => {
                    of(seq)?;
                    line.set_item("place", place)?;
                    "returned"
                }
                Record::Grouped { group, step, key, expected } => {
                    line.set_item("group", group)?;
                    line.set_item("step", self.step(*step))?;
                    line.set_item("key", key.as_deref())?;
                    line.set_item("expected", expected.len())?;
                    "grouped"
                }
                Record::Collected { seq, group, class, event } => {
                    of(seq)?;
                    line.set_item("group", group)?;
                    line.set_item("class", &**class)?;
                    self.event(line, event)?;
                    "collected"
                }
                Record::Kept { number, event } => {
                    line.set_item("number", number)?;
                    self.event(line, event)?;
                    "kept"
                }
                Record::KeptTaken { number } => {
                    line.set_item("number", number)?;
                    "kept taken"
                }
                Record::Held { is_from_outside, event } => {
                    line.set_item("is_from_outside", is_from_outside)?;
                    self.event(line, event)?;
                    "held"
                }
                Record::HeldAgain { event } => {
                    self.event(line, event)?;
                    "held again"
                }
                Record::Released { place } => {
                    line.set_item("place", place)?;
                    "released"
                }
                // The event itself is in the stream.
                Record::Published { .. } => {
                    line.set_item("number", self.published)?;
                    "published"
                }
                _ => return Ok(None),
            }))
        };
        shown().transpose()
    }

    /// What became of the run and its state.
    fn of_run(&self, line: &Line<'py>, record: &EncodedRecord) -> PyResult<&'static str> {
        Ok(match record {
            Record::Set { key, value } => {
                line.set_item("key", &**key)?;
                self.value(line, Some(value))?;
                "set"
            }
            Record::Delete { key } => {
                line.set_item("key", &**key)?;
                "deleted"
            }
            Record::ChildEnded { child, end } => {
                line.set_item("child", child.to_string())?;
                line.set_item("is_failure", end.is_failure())?;
                self.value(line, Some(end.value()))?;
                "child ended"
            }
            Record::Changed { at, keys } => {
                line.set_item("at", seconds(*at))?;
                line.set_item("keys", keys)?;
                "changed"
            }
            Record::Paused => "paused",
            Record::Resumed => "resumed",
            Record::Ended => "ended",
            Record::Queued { .. }
            | Record::Started { .. }
            | Record::Finished { .. }
            | Record::Retried { .. }
            | Record::Due { .. }
            | Record::Sent { .. }
            | Record::Memo { .. }
            | Record::Forgotten { .. }
            | Record::Asked { .. }
            | Record::Waiting { .. }
            | Record::WaitOver { .. }
            | Record::Received { .. }
            | Record::ReceivedKept { .. }
            | Record::Returned { .. }
            | Record::Grouped { .. }
            | Record::Collected { .. }
            | Record::Kept { .. }
            | Record::KeptTaken { .. }
            | Record::Held { .. }
            | Record::HeldAgain { .. }
            | Record::Released { .. }
            | Record::Published { .. } => {
                return Err(error::internal(&"a record of a delivery or an event is left over"));
            }
        })
    }
}
