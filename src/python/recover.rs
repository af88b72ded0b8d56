//! A run that was loaded from a journal: what it is, and going on with it.

use std::ops::RangeInclusive;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyTuple};

use super::commits;
use super::digest::{digest, is_same_input};
use super::durable::Durable;
use super::error;
use super::inbox::take_entry;
use super::inspect::Show;
use super::journal::Journal;
use super::lifecycle::Happened;
use super::plan::Plan;
use super::run::Run;
use super::run_options::RunOptions;
use super::snapshot::{fit, problems, restore};
use super::state::Outcome;
use super::stored::{ToBytes, ToObjects, lend};
use crate::Translate;
use crate::engine::Submitted;
use crate::history::{self, Continuation, History, HistoryError, Trusted};
use crate::journal::kind::EVENT;
use crate::journal::{Digest, Entry, Loaded, Segment, Signer, Slot, entry};
use crate::snapshot;
use crate::writer::Writer;

/// A run as a journal holds it, or as it did when it had an earlier last record; and the records that the journal has a
/// history of.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct LoadedRun(pub Loaded, pub RangeInclusive<u64>);

impl LoadedRun {
    pub fn new(loaded: Loaded) -> Self {
        let first = loaded.checkpoint.as_ref().map_or(0, |(folded, _)| *folded);
        let last = loaded.run.seq;
        Self(loaded, first..=last)
    }

    pub fn of_segment(segment: Segment) -> Self {
        let known = segment.first..=segment.run.seq;
        Self(segment.into_loaded(), known)
    }
}

#[pymethods]
impl LoadedRun {
    /// The name of the run.
    #[getter]
    fn id(&self) -> String {
        self.0.run.id.to_string()
    }

    /// The name of its workflow.
    #[getter]
    fn workflow(&self) -> &str {
        &self.0.run.workflow
    }

    /// How many of its records were folded into its checkpoint.
    #[getter]
    fn folded(&self) -> u64 {
        self.0.checkpoint.as_ref().map_or(0, |(folded, _)| *folded)
    }

    /// Everything because of which a workflow could not go on with the run.
    fn problems(&self, journal: &Journal, plan: &Plan, classes: &Bound<'_, PyDict>) -> PyResult<Vec<String>> {
        problems(plan, History::new(&self.0, journal.for_showing()).image()?, classes)
    }

    /// The run as a snapshot, as it is after the record numbered `at`.
    #[pyo3(signature = (journal, at = None))]
    fn snapshot<'py>(&self, py: Python<'py>, journal: &Journal, at: Option<u64>) -> PyResult<Bound<'py, PyBytes>> {
        let image = History::new(&self.0, Trusted::Signed(&journal.signer)).image_at(at.unwrap_or(u64::MAX))?;
        Ok(PyBytes::new(py, &snapshot::seal(&image, &journal.signer.secrets)?))
    }

    /// Writes a checkpoint that has the steps of the plan, in the epoch in which the run was claimed: asks the journal
    /// for that. One of more than `limit` bytes cannot be written, and the run cannot go on without it.
    fn renumber<'py>(
        &self,
        journal: &Bound<'py, Journal>,
        plan: &Plan,
        classes: &Bound<'_, PyDict>,
        limit: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let signer = &journal.get().signer;
        let mut image = self.continuation(signer)?.image;
        let problems = fit(plan, &mut image, classes)?;
        if !problems.is_empty() {
            return Err(error::incompatible(problems));
        }
        let request = history::renumber(&self.0, &image, signer, super::clock::now(), limit);
        Journal::ask(journal, request.map_err(|error| self.refused(error, None))?)
    }

    /// Goes on with the run, in the epoch in which it was claimed. Gives nothing if the plan has other steps, or
    /// others in their places, than the checkpoint of the run: it is to be renumbered first. `standing` is what was
    /// started here and stood for the run until now: it goes on as that.
    #[pyo3(signature = (journal, plan, classes, standing = None))]
    fn go_on(
        &self,
        journal: &Bound<'_, Journal>,
        plan: &Bound<'_, Plan>,
        classes: &Bound<'_, PyDict>,
        standing: Option<Bound<'_, Run>>,
    ) -> PyResult<Option<Py<Run>>> {
        failpoint!("run.going_on");
        let continuation = self.continuation(&journal.get().signer)?;
        if !continuation.has_steps(plan.get().core.steps.iter().map(|step| &*step.name)) {
            return Ok(None);
        }
        let writer = Writer::of_continuation(&continuation, journal.get().durability);
        let mut core = restore(plan.get(), continuation.image, classes)?;
        core.start_log();
        let durable = Box::new(Durable::new(journal.clone().unbind(), writer));
        let run = match standing {
            Some(standing) => {
                Run::take_up(&standing, core, durable)?;
                standing.unbind()
            }
            None => Run::go_on(plan, core, Some(durable))?,
        };
        let py = plan.py();
        Run::observe(run.bind(py), self.how_it_goes_on());
        for entry in &self.0.inbox {
            // What a hook of the user raises must not keep the run and the other messages from going on.
            if let Err(error) = take_entry(run.bind(py), entry, classes) {
                error::log_error(py, &format!("an event for run {} cannot be delivered", self.0.run.id), &error);
            }
        }
        failpoint!("run.gone_on");
        Ok(Some(run))
    }

    /// Makes a run that is over go on from where it failed: asks the journal for that.
    fn reopen<'py>(&self, journal: &Bound<'py, Journal>) -> PyResult<Bound<'py, PyAny>> {
        let request = history::reopen(&self.0, &journal.get().signer, super::clock::now());
        Journal::ask(journal, request.map_err(|error| self.refused(error, None))?)
    }
}

impl LoadedRun {
    fn continuation(&self, signer: &Signer) -> PyResult<Continuation> {
        history::continuation(&self.0, signer).map_err(|error| self.unreadable(error))
    }

    fn how_it_goes_on(&self) -> Happened<'static> {
        match &self.0.run {
            row if row.recoveries > 0 => Happened::RunTakenOver,
            // Nothing of it was executed before the first claim.
            row if row.epoch == 1 => Happened::RunStarted,
            _ => Happened::RunContinued,
        }
    }

    pub fn unreadable(&self, error: crate::Error) -> PyErr {
        if error.is_damage() { error::damaged_run(&self.0.run.id, &error) } else { error.into() }
    }

    /// Why the run cannot go on, or cannot be forked.
    pub fn refused(&self, refused: HistoryError, at: Option<&Bound<'_, PyInt>>) -> PyErr {
        let run = &self.0.run.id;
        match (refused, at) {
            (HistoryError::Failed(error), _) => self.unreadable(error),
            (HistoryError::NotOver(phase), _) => error::not_to_be_retried(run, phase),
            (HistoryError::NoSuchPoint { last, .. }, Some(at)) => {
                // The first part of a history ends before the run does.
                let last = if last < self.0.run.seq { last } else { self.1.end() - u64::from(self.0.run.is_over()) };
                error::no_such_record(run, at, *self.1.start(), last)
            }
            (other @ (HistoryError::NoSuchPoint { .. } | HistoryError::TooLarge { .. }), _) => {
                error::incompatible(vec![format!("the workflow has other steps, and with these {other}")])
            }
            (edit, _) => error::bad_edit(run, &edit),
        }
    }
}

#[pymethods]
impl Run {
    /// Takes an entry of the run's inbox.
    fn _take_entry(
        slf: &Bound<'_, Self>,
        number: u64,
        id: [u8; 16],
        kind: u8,
        body: Vec<u8>,
        classes: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        let entry = Entry { number, run: slf.get().id, id, kind, at: 0, body };
        take_entry(slf, &entry, classes)
    }

    /// Writes what is to be written, and lets go of the journal: the run goes on elsewhere.
    fn _let_go(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::mark(slf, crate::writer::Occurrence::Finished)?;
        Self::flush(slf)?;
        Self::leave_journal(slf, error::engine_closed(&slf.get().id_text()));
        failpoint!("run.let_go");
        Ok(())
    }

    /// A child that the journal has begins.
    fn _begin(slf: &Bound<'_, Self>) -> PyResult<()> {
        let journal = slf.get().state.lock().durable.as_ref().map(|durable| durable.journal.clone_ref(slf.py()));
        journal.map_or(Ok(()), |journal| Self::begin_child(slf, journal.get()))
    }

    /// After `_let_go`: the run ends here. Its steps are cancelled.
    fn _end_here(slf: &Bound<'_, Self>) -> PyResult<()> {
        let error = error::engine_closed(&slf.get().id_text());
        Self::end(slf, Outcome::failed(slf.py(), error))
    }

    /// The id that the run was made with: another one than `id` if the journal has a run of its key.
    #[getter]
    fn _made_as(&self) -> String {
        self.id_text()
    }

    /// The epoch in which this process has the run.
    #[getter]
    fn _epoch(&self) -> u64 {
        self.state.lock().durable.as_ref().map_or(0, |durable| durable.writer.epoch())
    }

    /// Whether the journal took nothing more of the run before it was over.
    #[getter]
    fn _is_lost(&self) -> bool {
        self.is_lost()
    }

    /// Whether the journal was too busy for the run, and nothing else: it can go on from what is written.
    #[getter]
    fn _may_go_on(&self) -> bool {
        self.may_go_on_here()
    }

    /// Another process has the run: it stops here.
    fn _lose(slf: &Bound<'_, Self>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::lose_journal(slf, PyErr::from_value(error.clone()))
    }

    /// The run that the journal has in the place of this one has ended, or cannot be followed.
    fn _settle(slf: &Bound<'_, Self>, status: &str, value: Py<PyAny>) -> PyResult<()> {
        let py = slf.py();
        match status {
            "completed" => Self::end(slf, Outcome::Result(value)),
            "failed" => Self::fail(slf, PyErr::from_value(value.into_bound(py))),
            _ => Self::end(slf, Outcome::Cancelled),
        }
    }
}

#[pymethods]
impl Journal {
    /// Starts a run and writes it.
    #[pyo3(signature = (plan, event, key, given = None, *, is_bound))]
    fn start(
        slf: &Bound<'_, Self>,
        plan: &Bound<'_, Plan>,
        event: &Bound<'_, PyAny>,
        key: Option<String>,
        given: Option<&Bound<'_, PyAny>>,
        is_bound: bool,
    ) -> PyResult<Py<Run>> {
        Run::start_durable(slf, plan, event, key, RunOptions::read(given)?, is_bound)
    }

    /// Writes a run that any process may execute: its id, and a future of the answer.
    #[pyo3(signature = (plan, event, key, given = None))]
    fn submit_run<'py>(
        slf: &Bound<'py, Self>,
        plan: &Bound<'py, Plan>,
        event: &Bound<'py, PyAny>,
        key: Option<String>,
        given: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(String, Bound<'py, PyAny>)> {
        let (core, creation) = commits::begin(slf, plan, event, key, RunOptions::read(given)?)?;
        Ok((core.id().to_string(), Self::ask(slf, creation.for_any_process())?))
    }

    /// What tells the input of a run from that of another.
    #[staticmethod]
    fn input<'py>(event: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(event.py(), &digest(event)?.of_input()))
    }

    /// Which run a submitted one turned out to be, by the answer to `submit_run`; nothing if its key belongs to a run
    /// with another input.
    #[staticmethod]
    fn submitted(run: &str, event: &Bound<'_, PyAny>, answer: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
        // The answer is an epoch if the run is new.
        let existing = match answer.cast::<PyTuple>() {
            Ok(existing) => {
                let (known, input): (String, Digest) = existing.extract()?;
                Some((super::journal::id(&known)?, input))
            }
            Err(_) => None,
        };
        let is_same = |stored: &Digest| is_same_input(event, &digest(event)?.of_input(), stored);
        Ok(match Submitted::of(super::journal::id(run)?, existing, is_same)? {
            Submitted::New(run) | Submitted::Known(run) => Some(run.to_string()),
            Submitted::OtherInput(_) => None,
        })
    }

    /// An event as a message of this name for a run.
    fn message<'py>(&self, run: &str, id: [u8; 16], event: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let py = event.py();
        let event = ToBytes::new(py).event(event)?;
        let slot = Slot::Inbox { id, kind: EVENT };
        // All of it is signed, since a message makes its run do something.
        let bytes = entry::encode(super::journal::id(run)?, &slot, &event, &self.signer.secrets, true)?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// A wish as a message of this name for a run.
    fn wish<'py>(&self, py: Python<'py>, run: &str, id: [u8; 16], kind: u8) -> PyResult<Bound<'py, PyBytes>> {
        let slot = Slot::Inbox { id, kind };
        Ok(PyBytes::new(py, &entry::encode_wish(super::journal::id(run)?, &slot, &self.signer.secrets)?))
    }

    /// How a run ended at a record.
    fn outcome<'py>(
        &self,
        status: &str,
        run: &str,
        seq: u64,
        bytes: &Bound<'py, PyBytes>,
        classes: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let slot = Slot::Outcome { seq, phase: super::journal::phase(status)? };
        super::outcome::decode(super::journal::id(run)?, &slot, bytes, Trusted::Signed(&self.signer), classes)
    }

    /// What is known of a failure without unpickling it: the name of its class, its text and its notes.
    fn failure<'py>(&self, run: &str, seq: u64, bytes: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyDict>> {
        super::outcome::failure_texts(super::journal::id(run)?, seq, bytes, self.for_showing())
    }

    /// How a run ended, as plain objects, with contents up to `most` bytes.
    #[pyo3(signature = (status, run, seq, bytes, most = None))]
    fn peek_outcome<'py>(
        &self,
        status: &str,
        run: &str,
        seq: u64,
        bytes: &Bound<'py, PyBytes>,
        most: Option<usize>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let slot = Slot::Outcome { seq, phase: super::journal::phase(status)? };
        self.peek(run, &slot, bytes, Show { contents: most })
    }

    /// An event of a stream as plain objects, with contents up to `most` bytes.
    #[pyo3(signature = (run, number, bytes, most = None))]
    fn peek_published<'py>(
        &self,
        run: &str,
        number: u64,
        bytes: &Bound<'py, PyBytes>,
        most: Option<usize>,
    ) -> PyResult<Bound<'py, PyDict>> {
        self.peek(run, &Slot::Stream { number }, bytes, Show { contents: most })
    }

    /// A message to a run as plain objects, with contents up to `most` bytes.
    #[pyo3(signature = (run, id, kind, bytes, most = None))]
    fn peek_message<'py>(
        &self,
        run: &str,
        id: [u8; 16],
        kind: u8,
        bytes: &Bound<'py, PyBytes>,
        most: Option<usize>,
    ) -> PyResult<Bound<'py, PyDict>> {
        self.peek(run, &Slot::Inbox { id, kind }, bytes, Show { contents: most })
    }

    /// An event of a stream.
    fn published(
        &self,
        run: &str,
        number: u64,
        bytes: &Bound<'_, PyBytes>,
        classes: &Bound<'_, PyDict>,
    ) -> PyResult<Py<PyAny>> {
        let slot = Slot::Stream { number };
        let event = Trusted::Signed(&self.signer).event(super::journal::id(run)?, &slot, lend(bytes))?;
        Translate::event(&mut ToObjects::new(classes), event)
    }
}

impl Journal {
    fn peek<'py>(
        &self,
        run: &str,
        slot: &Slot,
        bytes: &Bound<'py, PyBytes>,
        show: Show,
    ) -> PyResult<Bound<'py, PyDict>> {
        let event = self.for_showing().event(super::journal::id(run)?, slot, lend(bytes))?;
        super::inspect::event(bytes.py(), &event, show)
    }
}
