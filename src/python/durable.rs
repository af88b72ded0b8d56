//! A run with a journal: what happens to it is written, and acknowledged, before anybody relies on it.
//!
//! A run is marked when something has happened that is worth a commit, and written when its lane has nothing
//! more to start, at the latest in the next pass of the loop. So what happens in one go is one commit.

use pyo3::exceptions::{PyBaseException, PyException};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::digest::{digest, is_same_input};
use super::error;
use super::gate::new_future;
use super::journal::{Asker, Journal};
use super::outcome;
use super::plan::Plan;
use super::run::Run;
use super::state::{Outcome, Python3, State};
use super::stored::ToBytes;
use super::touch::Touch;
use super::wake;
use crate::journal::{
    Chain, Commit, Digest, JournalError, MAX_BYTES, NewRun, Phase as JournalPhase, Reply, Request, Signer, Slot,
    Status, entry,
};
use crate::snapshot::Standing;
use crate::{Body, EncodedEvent, EncodedRecord, Phase, Record, Route, Run as CoreRun, RunId, Time};

/// What a run with a journal knows of it.
pub struct Durable {
    pub journal: Py<Journal>,
    pub epoch: u64,
    // The number of the last record that was handed over.
    pub seq: u64,
    // What the next record comes behind.
    pub chain: Chain,
    // What makes the run in the journal, until it is handed over with the first commit, and how many records the
    // run had by then.
    creation: Option<(Request, u64)>,
    // The digest of the input, if the run has a key.
    input: Digest,
    // Those that become dead letters by the next commit, and why.
    pub undeliverable: Vec<(u64, String)>,
    // The last entry of the inbox that was taken.
    pub last_entry: u64,
    is_marked: bool,
    // A commit is being made. What pickles it may record more, which is for the next one: commits are handed over in
    // the order of their records.
    is_writing: bool,
    // What a lane waits for that has something to start, which waits for the journal.
    held_lane: Option<Py<PyAny>>,
    // What it wrote last of how far it is.
    status: Option<Status>,
    // Bytes of records since the last checkpoint, and of that.
    record_bytes: usize,
    checkpoint_bytes: usize,
    // How many events of the stream were written.
    pub published: u64,
    // Records were dropped that could not be written: of what comes behind them only the end counts.
    has_gap: bool,
    /// Nothing is written any more: the journal failed, somebody else has the run, or it goes on elsewhere.
    pub is_detached: bool,
    // Why, for whoever awaits the run: what is not on disk is no result. The exception itself, as the collector visits
    // it.
    lost: Option<Py<PyBaseException>>,
    // The journal was busy and nothing is broken: the run can go on from what is written.
    may_go_on: bool,
    // The run that the journal has in the place of this one.
    stands_for: Option<RunId>,
}

// A checkpoint is due once the records are as large as it: so its cost is in proportion to what was written, and
// loading a run costs what its state costs.
const LEAST_FOR_CHECKPOINT: usize = 64 << 10;
// How far a run is that can go on at once.
const READY: Status = Status { phase: JournalPhase::Ready, due: None };
// Records of what a step does before it is done.
const MOST_UNWRITTEN: usize = 1024;

impl Durable {
    pub fn new(journal: Py<Journal>, epoch: u64, seq: u64, chain: Chain) -> Self {
        Self {
            journal,
            epoch,
            seq,
            chain,
            creation: None,
            input: Digest::default(),
            undeliverable: Vec::new(),
            last_entry: 0,
            is_marked: false,
            is_writing: false,
            held_lane: None,
            status: None,
            record_bytes: 0,
            checkpoint_bytes: 0,
            published: 0,
            has_gap: false,
            is_detached: false,
            lost: None,
            may_go_on: false,
            stands_for: None,
        }
    }

    /// Nothing is written from now on. Gives the reason back if it was so before.
    fn detach(&mut self, why: Py<PyBaseException>) -> Option<Py<PyBaseException>> {
        if std::mem::replace(&mut self.is_detached, true) { Some(why) } else { self.lost.replace(why) }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.lost)?;
        visit.call(&self.held_lane)?;
        visit.call(&self.journal)
    }
}

// What a commit takes out of a run, under its lock.
struct Taken {
    creation: Option<(Request, u64)>,
    records: Vec<crate::HostRecord<Python3>>,
    recorded: u64,
    first: u64,
    epoch: u64,
    consumed: Vec<u64>,
    undeliverable: Vec<(u64, String)>,
    status: Status,
    is_status_known: bool,
    image: Option<crate::HostImage<Python3>>,
}

impl Touch {
    /// Whether it is worth a commit.
    fn is_committed(self) -> bool {
        match self {
            Self::Finished
            | Self::Retried
            | Self::Sent
            | Self::Waiting
            | Self::Received
            | Self::Kept
            | Self::Held
            | Self::Paused
            | Self::Resumed => true,
            Self::Started | Self::Due | Self::Stored | Self::Collected | Self::Published => false,
        }
    }
}

impl Run {
    /// Starts a run and writes it to a journal.
    pub fn start_durable(
        journal: &Bound<'_, Journal>,
        plan: &Bound<'_, Plan>,
        event: &Bound<'_, PyAny>,
        key: Option<String>,
        is_bound: bool,
    ) -> PyResult<Py<Self>> {
        let py = plan.py();
        let event_loop = wake::running_loop(py).map_err(|_| error::no_event_loop(&plan.get().name))?;
        let Begun { core, run: new_run, commit, chain } = begin(journal, plan, event, key)?;
        let recorded = core.recorded();
        let has_key = new_run.key.is_some();
        let run = Self::make(plan, &event_loop, core, None)?;
        let input = new_run.input;
        run.get().state.lock().detached = !is_bound;
        let request = Request::Create { run: new_run, owner: Some(journal.get().owner), commit };
        let mut durable = Box::new(Durable::new(journal.clone().unbind(), 1, 0, chain));
        durable.status = Some(READY);
        durable.input = input;
        if has_key {
            // Nothing may start before it is known that no other run has the key.
            run.get().state.lock().durable = Some(durable);
            journal.get().submit(request, Asker::Made(run.clone().unbind(), recorded))?;
        } else {
            // Nobody was told yet that there is a run: it is made with its first commit.
            durable.creation = Some((request, recorded));
            let mut state = run.get().state.lock();
            state.core.acknowledge(journal.get().ahead_of(recorded));
            state.durable = Some(durable);
        }
        run.get().watch();
        Self::enter(&run, &event_loop)?;
        run.get().log(py, || "was started".to_owned())?;
        Ok(run.unbind())
    }

    /// The journal has answered that the run is made, or that there is such a run.
    pub fn made(run: &Bound<'_, Self>, recorded: u64, answer: crate::journal::Outcome) -> PyResult<()> {
        failpoint!("run.made");
        let py = run.py();
        match answer {
            Ok(Reply::Exists { id, input }) => {
                let (journal, image, given, is_cancelled) = {
                    let mut state = run.get().state.lock();
                    let State { core, durable, outcome, .. } = &mut *state;
                    let Some(durable) = durable else { return Ok(()) };
                    durable.is_detached = true;
                    durable.stands_for = Some(id);
                    let is_cancelled = matches!(outcome, Some(Outcome::Cancelled));
                    (durable.journal.clone_ref(py), core.image(), durable.input, is_cancelled)
                };
                let mut events = events_from_outside(image).into_iter();
                // A run that was cancelled meanwhile has none; its end stands whatever the other one's input is.
                let is_same_input = match events.next() {
                    Some(first) => is_same_input(first.bind(py), &given, &input)?,
                    None => true,
                };
                // It takes the run of its key with it, and no other.
                let is_cancelled = is_cancelled && given[..] == input[..];
                journal.get().exists(run, id, is_same_input, events.collect(), is_cancelled)
            }
            other => Self::wrote(run, recorded, other),
        }
    }

    /// The journal has answered that a commit is written, or why it is not.
    pub fn wrote(run: &Bound<'_, Self>, recorded: u64, answer: crate::journal::Outcome) -> PyResult<()> {
        failpoint!("run.commit_told");
        match answer {
            Ok(_) => {
                let may_start = {
                    let mut state = run.get().state.lock();
                    let recorded = match &state.durable {
                        Some(durable) => durable.journal.get().ahead_of(recorded),
                        None => recorded,
                    };
                    state.core.acknowledge(recorded)
                };
                if may_start { Self::let_start(run) } else { Ok(()) }
            }
            Err(failure) => Self::lose_to(run, failure),
        }
    }

    fn lose_to(run: &Bound<'_, Self>, failure: JournalError) -> PyResult<()> {
        let is_busy = matches!(failure, JournalError::Locked { .. });
        if let Some(durable) = &mut run.get().state.lock().durable {
            durable.may_go_on |= is_busy && !durable.is_detached;
        }
        Self::lose_journal(run, failure.into())
    }

    /// A future that is done when the next delivery may start, if all that it waits for is the journal.
    pub fn wait_for_journal<'py>(run: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let is_alone = {
            let state = run.get().state.lock();
            state.durable.as_ref().is_some_and(|durable| durable.held_lane.is_none()) && state.core.is_held_back()
        };
        if !is_alone || !run.get().is_on_its_thread() {
            return Ok(None);
        }
        let future = new_future(run.get().event_loop.bind(run.py()))?;
        if let Some(durable) = &mut run.get().state.lock().durable {
            durable.held_lane = Some(future.clone().unbind());
        }
        Ok(Some(future))
    }

    /// Deliveries may start that waited for the journal, or the run has ended: the lane that waits for them goes
    /// on, or else others are made.
    pub fn let_start(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        let held = run.get().state.lock().durable.as_mut().and_then(|durable| durable.held_lane.take());
        if let Some(held) = held {
            let held = held.bind(py);
            if !held.call_method0(intern!(py, "done"))?.is_truthy()? {
                return held.call_method1(intern!(py, "set_result"), (py.None(),)).map(|_| ());
            }
        }
        Self::wake_lanes(run)
    }

    /// Nothing can be written any more: the run stops, and says why.
    pub fn lose_journal(run: &Bound<'_, Self>, failure: PyErr) -> PyResult<()> {
        if Self::leave_journal(run, failure.clone_ref(run.py())) { Self::fail(run, failure) } else { Ok(()) }
    }

    /// Nothing of the run is written from now on. Says whether something was until now.
    pub fn leave_journal(run: &Bound<'_, Self>, why: PyErr) -> bool {
        // An exception may run Python code when it is made, or let go of.
        let why = why.into_value(run.py());
        let left = match &mut run.get().state.lock().durable {
            Some(durable) => durable.detach(why),
            None => Some(why),
        };
        left.is_none()
    }

    /// Whether the journal was too busy for the run, and nothing else: it can go on from what is written.
    pub fn may_go_on_here(&self) -> bool {
        self.state.lock().durable.as_ref().is_some_and(|durable| durable.may_go_on)
    }

    /// Whether the journal took nothing more of the run before it was over.
    pub fn is_lost(&self) -> bool {
        let state = self.state.lock();
        state.durable.as_ref().is_some_and(|durable| durable.is_detached && durable.stands_for.is_none())
    }

    /// Hands an event on to the run that the journal has in the place of this one.
    pub fn forward(run: &Bound<'_, Self>, event: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = run.py();
        if !run.get().is_on_its_thread() {
            return run.get().call_soon(py, (run.getattr(intern!(py, "_forward"))?, event));
        }
        let found = run
            .get()
            .state
            .lock()
            .durable
            .as_ref()
            .and_then(|durable| durable.stands_for.map(|id| (durable.journal.clone_ref(py), id)));
        found.map_or(Ok(()), |(journal, id)| journal.get().forward(id, event))
    }

    /// Has the run cancelled that the journal has in the place of this one, from any thread. Says whether there is
    /// one.
    pub fn forward_cancel(run: &Bound<'_, Self>) -> PyResult<bool> {
        let py = run.py();
        let found = {
            let state = run.get().state.lock();
            let durable = state.durable.as_ref();
            durable.and_then(|durable| Some((durable.journal.clone_ref(py), durable.stands_for?)))
        };
        let Some((journal, id)) = found else { return Ok(false) };
        if run.get().is_on_its_thread() {
            journal.get().forward_cancel(py, id)?;
        } else {
            run.get().call_soon(py, (run.getattr(intern!(py, "_forward_cancel"))?,))?;
        }
        Ok(true)
    }

    /// The run that the journal has in the place of this one.
    pub fn stands_for(&self) -> Option<RunId> {
        self.state.lock().durable.as_ref().and_then(|durable| durable.stands_for)
    }

    /// Something has happened that is to be written soon.
    pub fn mark(run: &Bound<'_, Self>, what: Touch) -> PyResult<()> {
        let py = run.py();
        if !what.is_committed() {
            // A body that sets a million keys before it waits must not hold a million records.
            let is_full = run.get().state.lock().core.unwritten() >= MOST_UNWRITTEN;
            if !is_full {
                return Ok(());
            }
            if run.get().is_on_its_thread() {
                if let Some(durable) = &mut run.get().state.lock().durable {
                    durable.is_marked = true;
                }
                return Self::flush(run);
            }
        }
        let is_first = match &mut run.get().state.lock().durable {
            Some(durable) => !std::mem::replace(&mut durable.is_marked, true),
            None => return Ok(()),
        };
        // A lane whose step is done writes by itself, before it parks, waits or ends.
        if !is_first || matches!(what, Touch::Finished | Touch::Retried) {
            return Ok(());
        }
        let flush = run.getattr(intern!(py, "_flush"))?;
        run.get().call_in_next_pass(flush)
    }

    /// Writes what has happened, unless nothing has: a run that waits for its first step is made with its first
    /// commit.
    pub fn flush_begun(run: &Bound<'_, Self>) -> PyResult<()> {
        let is_new = {
            let state = run.get().state.lock();
            state.durable.as_ref().is_some_and(|durable| durable.creation.is_some()) && state.core.unwritten() == 0
        };
        if is_new { Ok(()) } else { Self::flush(run) }
    }

    /// Writes what has happened.
    pub fn flush(run: &Bound<'_, Self>) -> PyResult<()> {
        let Some((taken, journal)) = take(run) else { return Ok(()) };
        let written = Self::write(run, taken, &journal);
        let has_more = match &mut run.get().state.lock().durable {
            Some(durable) => {
                durable.is_writing = false;
                durable.is_marked && !durable.is_detached
            }
            None => false,
        };
        written?;
        if has_more {
            let flush = run.getattr(intern!(run.py(), "_flush"))?;
            run.get().call_in_next_pass(flush)?;
        }
        Ok(())
    }

    fn write(run: &Bound<'_, Self>, taken: Taken, journal: &Bound<'_, Journal>) -> PyResult<()> {
        failpoint!("run.before_flush");
        let mut requests = Vec::with_capacity(2);
        if let Some((request, recorded)) = taken.creation {
            requests.push((request, Asker::Made(run.clone().unbind(), recorded)));
        }
        let has_entries = !(taken.consumed.is_empty() && taken.undeliverable.is_empty());
        if has_entries || !taken.records.is_empty() || !taken.is_status_known {
            let recorded = taken.recorded;
            let commit = match commit(run, journal, taken.records, taken.first, taken.image) {
                Ok(commit) => Commit {
                    progress: commit.progress || has_entries,
                    consumed: taken.consumed,
                    undeliverable: taken.undeliverable,
                    status: taken.status,
                    ..commit
                },
                Err(error) if error.is_instance_of::<PyException>(run.py()) => {
                    return Self::leave_gap(run, journal, taken.first, requests, error);
                }
                Err(error) => {
                    // The program ends. What was taken is not written: the run goes on elsewhere from before that.
                    Self::lose_journal(run, error.clone_ref(run.py()))?;
                    return Err(error);
                }
            };
            let request = Request::Append { run: run.get().id, epoch: taken.epoch, after: taken.first, commit };
            requests.push((request, Asker::Wrote(run.clone().unbind(), recorded)));
        }
        if let Err(error) = journal.get().submit_all(requests) {
            return Self::lose_journal(run, error);
        }
        failpoint!("run.flushed");
        if journal.get().is_pipelined && !journal.get().has_room() {
            run.get().state.lock().core.hold_back();
        }
        Ok(())
    }

    /// What happened cannot be written, so the run cannot go on from there: it fails, and that is written.
    fn leave_gap(
        run: &Bound<'_, Self>,
        journal: &Bound<'_, Journal>,
        first: u64,
        requests: Vec<(Request, Asker)>,
        error: PyErr,
    ) -> PyResult<()> {
        failpoint!("run.gap_left");
        if let Some(durable) = &mut run.get().state.lock().durable {
            durable.has_gap = true;
            durable.seq = first;
        }
        if let Err(error) = journal.get().submit_all(requests) {
            return Self::lose_journal(run, error);
        }
        Self::fail(run, error)
    }

    /// An event loop that ends cancels every task. That is no end of a run, which goes on elsewhere.
    fn leave_ending_loop(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        let journal = {
            let state = run.get().state.lock();
            if !matches!(state.outcome, Some(Outcome::Cancelled | Outcome::Failed(..))) {
                return Ok(());
            }
            state.durable.as_ref().map(|durable| durable.journal.clone_ref(py))
        };
        if let Some(journal) = journal
            && journal.get().is_loop_ending(py)?
        {
            Self::leave_journal(run, error::engine_closed(&run.get().id_text()));
        }
        Ok(())
    }

    /// The last step has stopped: writes the end. Says whether it did; the run is over once that is on disk.
    pub fn write_end(run: &Bound<'_, Self>) -> PyResult<bool> {
        let py = run.py();
        Self::leave_ending_loop(run)?;
        let mut gap = Vec::new();
        let (journal, first, epoch, creation, consumed, undeliverable, records, signs_all) = {
            let mut state = run.get().state.lock();
            let State { core, durable, .. } = &mut *state;
            let mut records = core.take_log();
            let Some(durable) = durable else { return Ok(false) };
            if durable.is_detached {
                let lost = durable.lost.take();
                drop(state);
                drop(records);
                let lost = lost.map(|why| PyErr::from_value(why.into_bound(py).into_any()));
                return lost.map_or(Ok(()), |why| Self::end_lost(run, why)).map(|()| false);
            }
            let first = durable.seq;
            if durable.has_gap {
                // Kept until the lock is gone.
                gap = std::mem::take(&mut records);
            }
            durable.seq += records.len() as u64;
            let undeliverable = std::mem::take(&mut durable.undeliverable);
            let creation = durable.creation.take();
            let signs_all = durable.chain.signs_all();
            let consumed = core.take_consumed();
            (durable.journal.clone_ref(py), first, durable.epoch, creation, consumed, undeliverable, records, signs_all)
        };
        drop(gap);
        let journal = journal.bind(py);
        let written = match commit(run, journal, records, first, None) {
            Ok(commit) => commit,
            // The end is written without what cannot be, and so it is no good one.
            Err(error) if error.is_instance_of::<PyException>(py) => {
                Self::spoil(run, error);
                Commit { at: run.get().now(), ..Commit::default() }
            }
            Err(error) => return Self::end_lost(run, error).map(|()| false),
        };
        let signer = &journal.get().signer;
        let end = outcome::End { seq: first + written.records.len() as u64, secrets: &signer.secrets, signs_all };
        let (phase, ending) = match outcome::encode(run, &end) {
            Ok(ending) => ending,
            Err(error) => return Self::end_lost(run, error).map(|()| false),
        };
        let status = Status { phase, due: None };
        let commit = Commit { consumed, undeliverable, status, outcome: Some(ending), ..written };
        let request = Request::Append { run: run.get().id, epoch, after: first, commit };
        let creation = creation.map(|(request, recorded)| (request, Asker::Made(run.clone().unbind(), recorded)));
        let ending = (request, Asker::Ended(run.clone().unbind()));
        failpoint!("run.before_end");
        match journal.get().submit_all(creation.into_iter().chain([ending]).collect()) {
            Ok(()) => {
                failpoint!("run.end_handed_over");
                Ok(true)
            }
            Err(error) => Self::end_lost(run, error).map(|()| false),
        }
    }

    /// The journal has answered that the end is written, or why it is not.
    pub fn end_written(run: &Bound<'_, Self>, answer: crate::journal::Outcome) -> PyResult<()> {
        failpoint!("run.end_told");
        if let Err(failure) = answer
            && run.get().stands_for().is_none()
        {
            if let Some(durable) = &mut run.get().state.lock().durable {
                durable.may_go_on |= matches!(failure, JournalError::Locked { .. });
            }
            Self::end_lost(run, failure.into())?;
        }
        Self::finish(run)
    }

    /// A run that has a result has failed after all.
    fn spoil(run: &Bound<'_, Self>, error: PyErr) {
        let failed = Outcome::failed(run.py(), error);
        let mut state = run.get().state.lock();
        let dropped = match &mut state.outcome {
            Some(result @ Outcome::Result(_)) => std::mem::replace(result, failed),
            _ => failed,
        };
        drop(state);
        drop(dropped);
    }

    /// The end could not be written: whoever awaits the run is told that, and not a result that may be lost.
    fn end_lost(run: &Bound<'_, Self>, failure: PyErr) -> PyResult<()> {
        let outcome = Outcome::failed(run.py(), failure);
        let replaced = {
            let mut state = run.get().state.lock();
            if let Some(durable) = &mut state.durable {
                durable.is_detached = true;
            }
            state.outcome.replace(outcome)
        };
        drop(replaced);
        Ok(())
    }
}

/// The events that were sent into a run which has not begun, each once; first that which starts it.
fn events_from_outside(image: crate::HostImage<Python3>) -> Vec<Py<PyAny>> {
    let mut pending = image.pending.into_values().map(|pending| pending.event);
    let Some(first) = pending.next() else { return Vec::new() };
    let later = pending.chain(image.kept.into_values()).chain(image.held.into_iter().map(|held| held.event));
    let later = later.filter(|event| !event.is(&first)).collect::<Vec<_>>();
    let mut events: Vec<Py<PyAny>> = std::iter::once(first).chain(later).collect();
    // One that several steps take is there once for each of them.
    events.dedup_by(|one, other| one.is(other));
    events
}

/// Whether the run has anything to write, and what.
fn take<'py>(run: &Bound<'py, Run>) -> Option<(Taken, Bound<'py, Journal>)> {
    let mut state = run.get().state.lock();
    let State { core, durable, .. } = &mut *state;
    let durable = durable.as_mut()?;
    if durable.is_writing {
        return None;
    }
    let is_due = std::mem::take(&mut durable.is_marked) || durable.creation.is_some();
    if !is_due || durable.is_detached || core.phase() != Phase::Running {
        return None;
    }
    let status = status_of(core);
    let records = core.take_log();
    let is_status_known = durable.status == Some(status);
    let creation = durable.creation.take();
    let has_entries = core.has_consumed() || !durable.undeliverable.is_empty();
    if creation.is_none() && records.is_empty() && !has_entries && is_status_known {
        return None;
    }
    durable.status = Some(status);
    durable.is_writing = true;
    let first = durable.seq;
    durable.seq += records.len() as u64;
    let is_due = durable.record_bytes > LEAST_FOR_CHECKPOINT.max(durable.checkpoint_bytes);
    let taken = Taken {
        creation,
        records,
        is_status_known,
        recorded: core.recorded(),
        first,
        epoch: durable.epoch,
        consumed: core.take_consumed(),
        undeliverable: std::mem::take(&mut durable.undeliverable),
        status,
        image: is_due.then(|| core.image()),
    };
    Some((taken, durable.journal.bind(run.py()).clone()))
}

fn status_of(core: &mut CoreRun<Python3>) -> Status {
    if core.is_paused() {
        return Status { phase: JournalPhase::Paused, due: None };
    }
    if core.is_idle() {
        return Status { phase: JournalPhase::Waiting, due: core.next_deadline() };
    }
    READY
}

/// A commit of these records, the first of which comes behind the one numbered `after`.
fn commit(
    run: &Bound<'_, Run>,
    journal: &Bound<'_, Journal>,
    records: Vec<crate::HostRecord<Python3>>,
    after: u64,
    image: Option<crate::HostImage<Python3>>,
) -> PyResult<Commit> {
    let mut to = ToBytes::new(run.py());
    let first_published = first_published(run, &records);
    // Objects become bytes first: pickling may run code of theirs, and none may come between a record and the next
    // one, which is chained to it.
    let encoded: Vec<EncodedRecord> =
        records.into_iter().map(|record| record.translate(&mut to)).collect::<PyResult<_>>()?;
    let image = image.map(|image| image.translate(&mut to)).transpose()?;
    let mut state = run.get().state.lock();
    let Some(durable) = &mut state.durable else { return Ok(Commit::default()) };
    let signer = &journal.get().signer;
    let mut chain = durable.chain.clone();
    let mut commit = Commit { at: run.get().now(), ..Commit::default() };
    let written = Written { run: run.get().id, after, first_published };
    let bytes = encode(&mut commit, &written, encoded, &mut chain, signer)?;
    durable.record_bytes += bytes;
    if let Some(image) = image {
        let standing = Standing { seq: after + commit.records.len() as u64, epoch: durable.epoch };
        let mut behind = chain.clone();
        let sealed = behind.seal(&image, standing, &signer.secrets)?;
        durable.record_bytes = 0;
        durable.checkpoint_bytes = sealed.len();
        commit.add_checkpoint(sealed, MAX_BYTES);
        // Without it the next record comes behind the last one.
        if commit.checkpoint.is_some() {
            chain = behind;
        }
    }
    durable.chain = chain;
    Ok(commit)
}

// Where the records of a commit come.
struct Written {
    run: RunId,
    after: u64,
    first_published: u64,
}

/// Puts records, and what they publish, into a commit. Returns how many bytes the records take.
fn encode(
    commit: &mut Commit,
    written: &Written,
    records: Vec<EncodedRecord>,
    chain: &mut Chain,
    signer: &Signer,
) -> Result<usize, crate::Error> {
    let (run, secrets) = (written.run, &signer.secrets);
    let mut number = written.first_published;
    let mut bytes = 0;
    for (seq, record) in (written.after + 1..).zip(records) {
        commit.progress |= record.is_progress();
        let record = match record {
            Record::Published { event } => {
                let body = entry::encode(run, &Slot::Stream { number }, &event, secrets, chain.signs_all())?;
                commit.published.push((number, body.into()));
                number += 1;
                Record::Published { event: EncodedEvent { class: "".into(), body: Body::Fields(Vec::new()) } }
            }
            other => other,
        };
        let body = chain.encode(run, seq, &record, secrets)?;
        bytes += body.len();
        commit.records.push(body.into());
    }
    Ok(bytes)
}

/// The number of the first event that these records, the last ones of the run, publish.
fn first_published(run: &Bound<'_, Run>, records: &[crate::HostRecord<Python3>]) -> u64 {
    let count = records.iter().filter(|record| matches!(record, Record::Published { .. })).count() as u64;
    if count == 0 {
        return 0;
    }
    match &mut run.get().state.lock().durable {
        Some(durable) => {
            durable.published += count;
            durable.published - count + 1
        }
        None => 0,
    }
}

/// A new run that no journal has yet.
pub struct Begun {
    pub core: CoreRun<Python3>,
    pub run: NewRun,
    pub commit: Commit,
    pub chain: Chain,
}

/// A new run, and how a journal learns of it: by a checkpoint that has the first event queued.
pub fn begin(
    journal: &Bound<'_, Journal>,
    plan: &Bound<'_, Plan>,
    event: &Bound<'_, PyAny>,
    key: Option<String>,
) -> PyResult<Begun> {
    let py = plan.py();
    let Route::Steps(kind) = plan.get().route(event) else {
        return Err(error::unrouted_start(plan.get(), event));
    };
    let now: Time = super::clock::now();
    let mut core = CoreRun::new(super::clock::new_run_id()?, plan.get().core.clone(), now);
    core.start_log();
    let delivered = core.deliver(kind, event.clone().unbind());
    drop(delivered);
    let queued = core.take_log();
    drop(queued);
    let image = core.image().translate(&mut ToBytes::new(py))?;
    let signer = &journal.get().signer;
    let mut chain = Chain::begin(signer.sign);
    let checkpoint = Some(chain.seal(&image, Standing { seq: 0, epoch: 0 }, &signer.secrets)?);
    let run = NewRun {
        id: core.id(),
        workflow: plan.get().name.clone(),
        input: if key.is_some() { digest(event)?.of_input() } else { Digest::default() },
        key,
        created: now,
        stream_limit: plan.get().core.stream_limit as u64,
    };
    let commit = Commit { at: now, checkpoint, status: READY, ..Commit::default() };
    Ok(Begun { core, run, commit, chain })
}

#[pymethods]
impl Run {
    #[pyo3(name = "_forward")]
    fn forward_from_elsewhere(slf: &Bound<'_, Self>, event: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::forward(slf, event)
    }

    fn _forward_cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::forward_cancel(slf).map(|_| ())
    }

    /// Called by the event loop.
    fn _flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::flush(slf)
    }
}
