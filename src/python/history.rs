//! The history of a run: what it was like at a record, what differs between two, why it waits, and forks of it.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList};

use super::convert;
use super::error;
use super::inspect::{self, Show, seconds};
use super::journal::Journal;
use super::plan::micros;
use super::recover::LoadedRun;
use super::stored::{ToBytes, ToObjects, lend};
use super::text;
use crate::history::{self, Difference, Edits, EventEdit, Fork, History, Reason, Trusted};
use crate::journal::{Archive, DeadLetter, Entry, JournalError, Loaded, Phase, RunRow};
use crate::{Changes, EncodedImage};

/// The edits of a fork: keys that are set and removed, and by the number of a delivery an event, or a dict of fields.
type GivenEdits<'py> = (Bound<'py, PyDict>, Vec<Bound<'py, PyAny>>, Bound<'py, PyDict>);

/// A dead letter: number, name, kind, time in seconds, body and why.
type Letter<'py> = (u64, [u8; 16], u8, f64, Bound<'py, PyBytes>, String);

/// The bytes of an archive: the parts of a run's history, of which the last one is the run as it was loaded, and what is
/// beside them.
#[pyfunction]
pub fn archive<'py>(
    py: Python<'py>,
    parts: Vec<Bound<'py, LoadedRun>>,
    outcome: Option<Vec<u8>>,
    stream: Vec<(u64, Vec<u8>)>,
    dead_letters: Vec<Letter<'py>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let Some(last) = parts.last() else { return Err(error::internal(&"an archive of nothing")) };
    last.get().check_is_here()?;
    let Loaded { run, inbox, .. } = &last.get().0;
    let letters = dead_letters.into_iter().map(|(number, id, kind, at, body, why)| {
        let body = body.as_bytes().to_vec();
        DeadLetter { entry: Entry { number, run: run.id, id, kind, at: micros(at), body }, why }
    });
    let dead_letters: Vec<_> = letters.collect();
    let published = run.published;
    let archive = Archive {
        run: RunRow { dead_letters: dead_letters.len() as u64, inbox: inbox.len() as u64, ..run.clone() },
        outcome,
        parts: parts.iter().map(|part| (part.get().0.checkpoint.clone(), part.get().0.records.clone())).collect(),
        // What came later than the run was loaded is left out.
        stream: stream.into_iter().filter(|&(number, _)| number <= published).collect(),
        inbox: inbox.clone(),
        dead_letters,
    };
    Ok(PyBytes::new(py, &archive.encode().map_err(crate::Error::from)?))
}

#[pymethods]
impl LoadedRun {
    /// The number of the first record after which the run is known.
    #[getter]
    fn first(&self) -> u64 {
        *self.1.start()
    }

    /// The number of the run's last record.
    #[getter]
    fn last(&self) -> u64 {
        *self.1.end()
    }

    /// The number of the last record that is here.
    #[getter]
    fn end(&self) -> u64 {
        self.0.run.seq
    }

    /// The keys and values of the run: those after a record, or else as they are now, with the changes that are
    /// acknowledged and not made yet.
    #[pyo3(signature = (journal, at = None))]
    fn state<'py>(
        &self,
        py: Python<'py>,
        journal: &Journal,
        at: Option<&Bound<'py, PyInt>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let history = History::new(&self.0, Trusted::Signed(&journal.signer));
        let image = match at {
            Some(at) => self.image_at(&history, at)?,
            None => history.image_with_changes()?,
        };
        let none = PyDict::new(py);
        let objects = ToObjects::new(&none);
        let state = PyDict::new(py);
        for (key, value) in image.state.iter() {
            state.set_item(key, convert::decode(py, key, &objects.stored_value(value.clone())?)?)?;
        }
        Ok(state)
    }

    /// The run as plain objects, after a record or as it is now, with the contents of up to `most` bytes of values that
    /// need no trust. That of a run that is over has nothing pending: what it was like before says more.
    #[pyo3(signature = (journal, at = None, most = None))]
    fn inspect<'py>(
        &self,
        py: Python<'py>,
        journal: &Journal,
        at: Option<&Bound<'py, PyInt>>,
        most: Option<usize>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let history = History::new(&self.0, journal.for_showing());
        let image = match at {
            Some(at) => self.image_at(&history, at)?,
            None => history.image_without_end()?,
        };
        let shown = inspect::image(py, &image, Show { contents: most })?;
        let number = at.map_or(self.0.run.seq, |at| at.extract().unwrap_or(u64::MAX));
        let setters = history.setters(number)?;
        for (line, (key, value)) in shown.as_any().get_item("state")?.try_iter()?.zip(image.state.iter()) {
            let (line, setter) = (line?, setters.get(key).copied());
            line.set_item("record", setter)?;
            if value.tag == crate::Tag::Opaque {
                line.set_item("signed_with", history.key_id(setter).map(|id| id.to_string()))?;
            }
        }
        Ok(shown)
    }

    /// What differs between the run after a record of `before` and after a record of this part of its history.
    #[pyo3(signature = (journal, at, before, before_at, most = None))]
    fn diff<'py>(
        &self,
        py: Python<'py>,
        journal: &Journal,
        at: &Bound<'py, PyInt>,
        before: &Bound<'py, Self>,
        before_at: &Bound<'py, PyInt>,
        most: Option<usize>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let before = before.get();
        let was = before.image_at(&History::new(&before.0, journal.for_showing()), before_at)?;
        let is = self.image_at(&History::new(&self.0, journal.for_showing()), at)?;
        let shown = shown_diff(py, &was, &is, Show { contents: most })?;
        shown.set_item("from", before_at)?;
        shown.set_item("to", at)?;
        Ok(shown)
    }

    /// Why the run waits: a dict for each reason, the broadest first.
    fn why<'py>(&self, py: Python<'py>, journal: &Journal) -> PyResult<Bound<'py, PyList>> {
        let run = &self.0.run;
        let image = if run.is_over() { None } else { Some(History::new(&self.0, journal.for_showing()).image()?) };
        let reasons = PyList::empty(py);
        for reason in history::why(run, image.as_ref()) {
            reasons.append(shown_reason(py, &reason, journal)?)?;
        }
        Ok(reasons)
    }

    /// The events that are pending at a point where a fork can begin, by the numbers of their deliveries: the step, the
    /// class and the names of the fields, nothing for an event that is stored as a whole.
    #[pyo3(signature = (journal, at = None))]
    fn pending_at<'py>(
        &self,
        py: Python<'py>,
        journal: &Journal,
        at: Option<&Bound<'py, PyInt>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let history = History::new(&self.0, Trusted::Signed(&journal.signer));
        let number = at.map(|at| at.extract().unwrap_or(u64::MAX));
        let image = history::image_of_point(&history, number).map_err(|error| self.refused(error, at))?;
        let pending = PyDict::new(py);
        for (delivery, it) in &image.pending {
            let fields = match &it.event.body {
                crate::Body::Fields(_) => Some(it.event.field_names().collect::<Vec<_>>()),
                crate::Body::Whole(_) => None,
            };
            pending.set_item(delivery, (inspect::step(&image, it.step), &*it.event.class, fields))?;
        }
        Ok(pending)
    }

    /// Makes a new run that goes on from where this one was after the record numbered `at`. It has what was published
    /// by then: `stream` is what is kept of that and what came later, with its numbers.
    #[pyo3(signature = (journal, stream, at = None, edits = None))]
    fn fork<'py>(
        &self,
        journal: &Bound<'py, Journal>,
        stream: Vec<(u64, Bound<'py, PyBytes>)>,
        at: Option<&Bound<'py, PyInt>>,
        edits: Option<GivenEdits<'py>>,
    ) -> PyResult<(String, Bound<'py, PyAny>)> {
        self.check_is_here()?;
        let id = super::clock::new_run_id()?;
        let stream: Vec<_> = stream.iter().map(|(number, body)| (*number, lend(body))).collect();
        // No run has as many records: a number that does not fit is refused like one that is too large.
        let number = at.map(|at| at.extract().unwrap_or(u64::MAX));
        let edits = edits.map_or_else(|| Ok(Edits::default()), |given| read_edits(journal.py(), given))?;
        let fork = Fork { id, at: number, stream: &stream, edits };
        let request = history::fork(&self.0, fork, &journal.get().signer, super::clock::now());
        Ok((id.to_string(), Journal::ask(journal, request.map_err(|error| self.refused(error, at))?)?))
    }
}

impl LoadedRun {
    // Of a run that arrives from another journal, only a part may be here.
    fn check_is_here(&self) -> PyResult<()> {
        let run = &self.0.run;
        if run.copying.is_any() { Err(JournalError::BeingCopied(run.id).into()) } else { Ok(()) }
    }

    fn image_at(&self, history: &History<'_>, at: &Bound<'_, PyInt>) -> PyResult<EncodedImage> {
        let number = at.extract().unwrap_or(u64::MAX);
        if !self.1.contains(&number) {
            return Err(error::not_in_history(&self.0.run.id, at, *self.1.start(), *self.1.end()));
        }
        history.image_at(number).map_err(|error| self.unreadable(error))
    }
}

fn read_edits(py: Python<'_>, (set, removed, events): GivenEdits<'_>) -> PyResult<Edits> {
    let mut to = ToBytes::new(py);
    let mut state = Changes::default();
    for (key, value) in set {
        let key = text::key(&key)?;
        state.set.push((key.into(), to.value(&convert::encode(key, &value)?)?));
    }
    state.removed = removed.iter().map(|key| Ok(text::key(key)?.into())).collect::<PyResult<_>>()?;
    let mut edits = Edits { state, events: Vec::new() };
    for (delivery, given) in events {
        let edit = match given.cast::<PyDict>() {
            Ok(fields) => {
                let mut pairs = Vec::with_capacity(fields.len());
                for (name, value) in fields {
                    let name = text::key(&name)?;
                    pairs.push((name.into(), to.value(&convert::encode(name, &value)?)?));
                }
                EventEdit::Fields(pairs)
            }
            Err(_) => EventEdit::Event(to.event(&given)?),
        };
        edits.events.push((delivery.extract()?, edit));
    }
    Ok(edits)
}

fn shown_diff<'py>(py: Python<'py>, was: &EncodedImage, is: &EncodedImage, show: Show) -> PyResult<Bound<'py, PyDict>> {
    let diff = history::diff(was, is);
    let shown = PyDict::new(py);
    shown.set_item("status", diff.status.map(|(was, is)| (inspect::status(was), inspect::status(is))))?;
    shown.set_item("published", diff.published)?;
    shown.set_item("state", list(py, "key", &diff.state, |_, _, value| inspect::value(py, value, show))?)?;
    let image = |is_later| if is_later { is } else { was };
    let pending = list(py, "delivery", &diff.pending, |is_later, delivery, it| {
        inspect::pending(py, image(is_later), delivery, it, show)
    })?;
    shown.set_item("pending", pending)?;
    shown.set_item("waits", list(py, "wait", &diff.waits, |_, _, it| inspect::waiting(py, it))?)?;
    shown.set_item("groups", list(py, "group", &diff.groups, |later, _, it| inspect::group(py, image(later), it))?)?;
    shown.set_item("kept", list(py, "number", &diff.kept, |_, _, it| inspect::event(py, it, show))?)?;
    let held = list(py, "number", &diff.held, |_, (), it| inspect::event(py, &it.event, show))?;
    held.try_iter()?.try_for_each(|line| line?.del_item("number"))?;
    shown.set_item("held", held)?;
    let children = PyList::empty(py);
    for child in &diff.children {
        let line = PyDict::new(py);
        line.set_item("child", child.name.to_string())?;
        line.set_item("before", child.before)?;
        line.set_item("after", child.after)?;
        children.append(line)?;
    }
    shown.set_item("children", children)?;
    Ok(shown)
}

fn list<'py, K: Copy + IntoPyObject<'py>, T>(
    py: Python<'py>,
    name: &str,
    differences: &[Difference<K, &T>],
    show: impl Fn(bool, K, &T) -> PyResult<Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyList>> {
    let lines = PyList::empty(py);
    for it in differences {
        let line = PyDict::new(py);
        line.set_item(name, it.name)?;
        line.set_item("before", it.before.map(|was| show(false, it.name, was)).transpose()?)?;
        line.set_item("after", it.after.map(|is| show(true, it.name, is)).transpose()?)?;
        lines.append(line)?;
    }
    Ok(lines)
}

fn shown_reason<'py>(py: Python<'py>, reason: &Reason<'_>, journal: &Journal) -> PyResult<Bound<'py, PyDict>> {
    let line = PyDict::new(py);
    let step = |delivery: &u64, step: &Option<&str>| {
        line.set_item("delivery", delivery)?;
        line.set_item("step", step)
    };
    let events = |events: &[(&std::sync::Arc<str>, usize)]| {
        let counted = PyDict::new(py);
        events.iter().try_for_each(|(class, count)| counted.set_item(&***class, count))?;
        line.set_item("events", counted)
    };
    let kind = match reason {
        Reason::Over(phase) => {
            line.set_item("status", super::journal::phase_name(*phase))?;
            debug_assert!(*phase != Phase::Stranded);
            "over"
        }
        Reason::Stranded { why } => {
            line.set_item("reason", why)?;
            "stranded"
        }
        Reason::Paused => "paused",
        Reason::Executed { by } => {
            line.set_item("process", by.to_string())?;
            line.set_item("is_here", *by == journal.owner)?;
            "executed"
        }
        Reason::NotTaken { not_before, refused } => {
            line.set_item("not_before", not_before.map(seconds))?;
            line.set_item("refused", refused)?;
            "not taken"
        }
        Reason::Inbox { messages } => {
            line.set_item("messages", messages)?;
            "inbox"
        }
        Reason::Event { delivery, step: name, class, due } => {
            step(delivery, name)?;
            line.set_item("class", &***class)?;
            line.set_item("due", due.map(seconds))?;
            "event"
        }
        Reason::Sleep { delivery, step: name, due } => {
            step(delivery, name)?;
            line.set_item("due", due.map(seconds))?;
            "sleep"
        }
        Reason::Retry { delivery, step: name, attempt, due, failure } => {
            step(delivery, name)?;
            line.set_item("attempt", attempt)?;
            line.set_item("due", seconds(*due))?;
            line.set_item("failure", failure)?;
            "retry"
        }
        Reason::Child { delivery, step: name, child, workflow } => {
            step(delivery, name)?;
            line.set_item("child", child.to_string())?;
            line.set_item("workflow", workflow)?;
            "child"
        }
        Reason::Running { delivery, step: name, attempt, since } => {
            step(delivery, name)?;
            line.set_item("attempt", attempt)?;
            line.set_item("since", seconds(*since))?;
            "running"
        }
        Reason::Queued { delivery, step: name, class } => {
            step(delivery, name)?;
            line.set_item("class", &***class)?;
            "queued"
        }
        Reason::Collecting { step, key, missing, collected } => {
            line.set_item("step", step)?;
            line.set_item("key", key)?;
            events(missing)?;
            line.set_item("collected", collected)?;
            "collecting"
        }
        Reason::Deferred { events: deferred } => {
            events(deferred)?;
            "deferred"
        }
        Reason::KeptEvents { events: kept } => {
            events(kept)?;
            "kept"
        }
        Reason::Deadline { at } => {
            line.set_item("at", seconds(*at))?;
            "deadline"
        }
    };
    line.set_item("kind", kind)?;
    Ok(line)
}
