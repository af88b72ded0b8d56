//! A run with a journal: what the journal answers, and losing it. What is written, and when, is decided by the
//! [`Writer`].

use pyo3::exceptions::PyBaseException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::digest::is_same_input;
use super::error;
use super::gate::new_future;
use super::journal::Journal;
use super::run::Run;
use super::state::{Outcome, Python3, State};
use crate::journal::{self, Digest};
use crate::writer::{Answered, Made, Writer, Written};
use crate::{HostImage, RunId};

/// What a run with a journal has of it.
pub struct Durable {
    pub journal: Py<Journal>,
    pub writer: Writer,
    // What a lane waits for that has something to start, which waits for the journal.
    held_lane: Option<Py<PyAny>>,
    // Whether the engine takes the run for one that only waits.
    told_to_wait: bool,
    // Why the journal takes nothing more, for those who await the run: what is not on disk is no result. The exception
    // itself, as the collector visits it.
    pub lost: Option<Py<PyBaseException>>,
}

impl Durable {
    pub fn new(journal: Py<Journal>, writer: Writer) -> Self {
        Self { journal, writer, held_lane: None, told_to_wait: false, lost: None }
    }

    /// Nothing is written from now on. Gives the reason back if it was so before.
    fn detach(&mut self, why: Py<PyBaseException>) -> Option<Py<PyBaseException>> {
        if self.writer.detach() { self.lost.replace(why) } else { Some(why) }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.lost)?;
        visit.call(&self.held_lane)?;
        visit.call(&self.journal)
    }
}

impl Run {
    /// The journal has answered what the run's writer asked for.
    pub fn answered(run: &Bound<'_, Self>, written: Written, answer: journal::Outcome) -> PyResult<()> {
        match written {
            Written::Creation { .. } => {
                failpoint!("run.made");
            }
            Written::Commit { .. } => {
                failpoint!("run.commit_told");
            }
            Written::End => {
                failpoint!("run.end_told");
            }
        }
        let is_creation = matches!(written, Written::Creation { .. });
        Self::log_undelivered(run, &answer)?;
        let (answered, on_disk, made) = {
            let mut state = run.get().state.lock();
            let State { core, durable, .. } = &mut *state;
            let Some(durable) = durable else { return Ok(()) };
            let Durable { writer, journal, .. } = &mut **durable;
            let answered = writer.answer(core, written, answer, || journal.get().has_room());
            (answered, writer.written(), writer.take_made())
        };
        Self::memos_written(run, on_disk)?;
        Self::children_made(run, made)?;
        if is_creation && !matches!(answered, Answered::Replaced { .. } | Answered::Written) {
            Self::observe_start(run);
        }
        match answered {
            Answered::Nothing => Ok(()),
            Answered::MayStart => Self::let_start(run),
            Answered::Replaced { id, input, given } => Self::replaced(run, id, &input, &given),
            Answered::Written => Self::written_for_any(run),
            Answered::Lost(error) => Self::lose_journal(run, error.into()),
            Answered::EndLost(error) => {
                Self::end_lost(run, error.into());
                Self::finish(run)
            }
            Answered::Over => Self::finish(run),
        }
    }

    /// The commits were answered that make these children, executed here first or by any process.
    fn children_made(run: &Bound<'_, Self>, made: Vec<Made>) -> PyResult<()> {
        let py = run.py();
        for made in made {
            failpoint!("run.child_made");
            let (child, journal) = {
                let mut state = run.get().state.lock();
                let Some(durable) = &state.durable else { return Ok(()) };
                let journal = durable.journal.clone_ref(py);
                (state.kin.get_mut().and_then(|kin| kin.expected.remove(&made.run)), journal)
            };
            journal.get().child_made(py, made, child)?;
        }
        Ok(())
    }

    /// The journal has the run, for this process: it begins.
    pub fn begin_child(run: &Bound<'_, Self>, journal: &Journal) -> PyResult<()> {
        run.get().watch();
        if journal.observers.is_some() {
            run.get().be_observed();
        }
        Self::enter(run, run.get().event_loop.bind(run.py()))?;
        Self::arm_timer(run)?;
        run.get().log(run.py(), || "was started".to_owned())?;
        Self::observe_start(run);
        failpoint!("run.child_begun");
        Ok(())
    }

    /// The engine is told whether the run only waits, as its last commit says, if that has changed.
    pub fn tell_whether_it_waits(run: &Bound<'_, Self>, journal: &Journal) -> PyResult<()> {
        let waits = {
            let mut state = run.get().state.lock();
            let Some(durable) = &mut state.durable else { return Ok(()) };
            let waits = durable.writer.is_waiting();
            if std::mem::replace(&mut durable.told_to_wait, waits) == waits {
                return Ok(());
            }
            waits
        };
        journal.run_waits(run.py(), run.get().id, waits)
    }

    /// The journal has another run in the place of this one, which hands on what was sent to it.
    fn replaced(run: &Bound<'_, Self>, id: RunId, input: &Digest, given: &Digest) -> PyResult<()> {
        let py = run.py();
        let (journal, image, is_cancelled) = {
            let state = run.get().state.lock();
            let Some(durable) = &state.durable else { return Ok(()) };
            let is_cancelled = matches!(state.outcome, Some(Outcome::Cancelled));
            (durable.journal.clone_ref(py), state.core.image(), is_cancelled)
        };
        let mut events = events_from_outside(image).into_iter();
        // A run that was cancelled meanwhile has none; its end stands whatever the other one's input is.
        let is_same_input = match events.next() {
            Some(first) => is_same_input(first.bind(py), given, input)?,
            None => true,
        };
        journal.get().exists(run, id, (input, is_same_input), events.collect(), is_cancelled)
    }

    /// The journal has the run for any process: what was sent to this one is handed on.
    fn written_for_any(run: &Bound<'_, Self>) -> PyResult<()> {
        let (journal, image, is_cancelled) = {
            let state = run.get().state.lock();
            let Some(durable) = &state.durable else { return Ok(()) };
            let is_cancelled = matches!(state.outcome, Some(Outcome::Cancelled));
            (durable.journal.clone_ref(run.py()), state.core.image(), is_cancelled)
        };
        let events = events_from_outside(image).into_iter().skip(1).collect();
        journal.get().run_written(run, events, is_cancelled)
    }

    /// The journal, if the run is written for any process, and was not claimed here.
    pub fn journal_for_any(&self, py: Python<'_>) -> Option<Py<Journal>> {
        let state = self.state.lock();
        let durable = state.durable.as_ref().filter(|durable| durable.writer.is_for_any())?;
        Some(durable.journal.clone_ref(py))
    }

    /// Whether the run is written for any process, and was not claimed here.
    pub fn is_for_any(&self) -> bool {
        self.state.lock().durable.as_ref().is_some_and(|durable| durable.writer.is_for_any())
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

    /// The end could not be written: those who await the run are told that, and not a result that may be lost.
    pub fn end_lost(run: &Bound<'_, Self>, failure: PyErr) {
        let outcome = Outcome::failed(run.py(), failure);
        let replaced = {
            let mut state = run.get().state.lock();
            if let Some(durable) = &mut state.durable {
                durable.writer.detach();
            }
            state.outcome.replace(outcome)
        };
        drop(replaced);
    }

    /// Whether the journal was too busy for the run, and nothing else: it can go on from what is written.
    pub fn may_go_on_here(&self) -> bool {
        self.state.lock().durable.as_ref().is_some_and(|durable| durable.writer.may_go_on())
    }

    /// Whether the journal took nothing more of the run before it was over.
    pub fn is_lost(&self) -> bool {
        self.state.lock().durable.as_ref().is_some_and(|durable| durable.writer.is_lost())
    }

    /// The run that the journal has in the place of this one.
    pub fn stands_for(&self) -> Option<RunId> {
        self.state.lock().durable.as_ref().and_then(|durable| durable.writer.stands_for())
    }

    /// As [`Run::stands_for`], with the journal.
    fn replacement(&self, py: Python<'_>) -> Option<(Py<Journal>, RunId)> {
        let state = self.state.lock();
        let durable = state.durable.as_ref()?;
        Some((durable.journal.clone_ref(py), durable.writer.stands_for()?))
    }

    /// Hands an event on to the run that the journal has in the place of this one.
    pub fn forward(run: &Bound<'_, Self>, event: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = run.py();
        if !run.get().is_on_its_thread() {
            return run.get().call_soon(py, (run.getattr(intern!(py, "_forward"))?, event));
        }
        run.get().replacement(py).map_or(Ok(()), |(journal, id)| journal.get().forward(id, event))
    }

    /// Has the run cancelled that the journal has in the place of this one, from any thread. Says whether there is
    /// one.
    pub fn forward_cancel(run: &Bound<'_, Self>) -> PyResult<bool> {
        let py = run.py();
        let Some((journal, id)) = run.get().replacement(py) else { return Ok(false) };
        if run.get().is_on_its_thread() {
            journal.get().forward_cancel(py, id)?;
        } else {
            run.get().call_soon(py, (run.getattr(intern!(py, "_forward_cancel"))?,))?;
        }
        Ok(true)
    }

    /// Has the run paused, or resumed, that the journal has in the place of this one. Says whether there is one.
    pub fn forward_pause(run: &Bound<'_, Self>, is_paused: bool) -> PyResult<bool> {
        let py = run.py();
        let Some((journal, id)) = run.get().replacement(py) else { return Ok(false) };
        if run.get().is_on_its_thread() {
            journal.get().forward_pause(py, id, is_paused)?;
        } else {
            run.get().call_soon(py, (run.getattr(intern!(py, "_forward_pause"))?, is_paused))?;
        }
        Ok(true)
    }

    /// An event loop that ends cancels every task. That is no end of a run, which goes on elsewhere.
    pub fn leave_ending_loop(run: &Bound<'_, Self>) -> PyResult<()> {
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
}

/// The events that were sent into a run which has not begun, each once; first that which starts it.
fn events_from_outside(image: HostImage<Python3>) -> Vec<Py<PyAny>> {
    let mut pending = image.pending.into_values().map(|pending| pending.event);
    let Some(first) = pending.next() else { return Vec::new() };
    let later = pending.chain(image.kept.into_values()).chain(image.held.into_iter().map(|held| held.event));
    let later = later.filter(|event| !event.is(&first)).collect::<Vec<_>>();
    let mut events: Vec<Py<PyAny>> = std::iter::once(first).chain(later).collect();
    // One that several steps take is there once for each of them.
    events.dedup_by(|one, other| one.is(other));
    events
}

#[pymethods]
impl Run {
    #[pyo3(name = "_forward")]
    fn forward_from_elsewhere(slf: &Bound<'_, Self>, event: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::forward(slf, event)
    }

    fn _forward_pause(slf: &Bound<'_, Self>, is_paused: bool) -> PyResult<()> {
        Self::forward_pause(slf, is_paused).map(drop)
    }

    fn _forward_cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::forward_cancel(slf).map(|_| ())
    }
}
