//! The places of the runs of a workflow that has `max_runs`: who has one, and those who wait for one.
//!
//! Runs in memory ask their plan, those with a journal the engine. A run that has no place starts nothing, and a body of
//! it that was woken goes on when the run has one: its lane waits for a future meanwhile.

use std::collections::VecDeque;

use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::exceptions::asyncio::CancelledError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;
use pyo3::{PyTraverseError, PyVisit};

use super::gate::{new_future, set_result_unless_done};
use super::run::Run;
use super::wake::is_closed;
use crate::{Phase, Places};

/// What a run has of its place.
#[derive(Default)]
pub struct RunPlace {
    at: At,
    // Tells runs in memory apart: those that were resumed from one snapshot have one id.
    number: u64,
    // Whether it has had one before.
    has_begun: bool,
    // What its lanes wait for, and whether one is in the middle of a step.
    parked: Vec<(Py<PyAny>, bool)>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum At {
    #[default]
    Nowhere,
    Waiting,
    Placed,
}

impl RunPlace {
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.parked.iter().try_for_each(|(future, _)| visit.call(future))
    }
}

/// The places of the runs in memory of one workflow, whatever their event loops.
pub struct PlanPlaces(Mutex<Known>);

struct Known {
    places: Places<u64>,
    // By their numbers.
    waiting: HashMap<u64, Py<Run>>,
    placed: HashMap<u64, Placed>,
    numbers: u64,
    // Those that were given a place and are to be told.
    given: VecDeque<Py<Run>>,
    is_telling: bool,
}

// A run that has a place. Nothing here keeps it in memory: a run that nothing refers to is stopped, and leaves.
struct Placed {
    run: Py<PyWeakrefReference>,
    event_loop: Py<PyAny>,
}

impl PlanPlaces {
    pub fn new(most: usize) -> Self {
        let (waiting, placed) = (HashMap::new(), HashMap::new());
        Self(Mutex::new(Known {
            places: Places::new(most),
            waiting,
            placed,
            numbers: 0,
            given: VecDeque::new(),
            is_telling: false,
        }))
    }

    fn ask(&self, run: &Bound<'_, Run>, has_begun: bool) -> PyResult<bool> {
        self.forget_closed_loops(run)?;
        let placed = Placed::new(run)?;
        let id = self.number_of(run.get());
        let mut known = self.0.lock();
        let has_place = known.places.ask(id, has_begun);
        let replaced = if has_place {
            (known.placed.insert(id, placed), None)
        } else {
            (Some(placed), known.waiting.insert(id, run.clone().unbind()))
        };
        drop(known);
        drop(replaced);
        Ok(has_place)
    }

    fn insist(&self, run: &Bound<'_, Run>) -> PyResult<()> {
        let placed = Placed::new(run)?;
        let id = self.number_of(run.get());
        let mut known = self.0.lock();
        known.places.insist(id);
        let replaced = (known.placed.insert(id, placed), known.waiting.remove(&id));
        drop(known);
        drop(replaced);
        Ok(())
    }

    fn number_of(&self, run: &Run) -> u64 {
        let mut state = run.state.lock();
        let place = state.place.make();
        if place.number == 0 {
            let mut known = self.0.lock();
            known.numbers += 1;
            place.number = known.numbers;
        }
        place.number
    }

    /// A run leaves its place, or waits for none any more: the next one has it.
    fn leave(&self, py: Python<'_>, id: u64) -> PyResult<()> {
        let (dropped, is_telling) = {
            let mut known = self.0.lock();
            let dropped = (known.placed.remove(&id), known.waiting.remove(&id));
            if let Some(next) = known.places.leave(id)
                && let Some(run) = known.waiting.remove(&next)
            {
                known.given.push_back(run);
            }
            // What is told may make others leave: one after the other is told, and not one inside of the other.
            let is_telling = known.is_telling;
            known.is_telling |= !known.given.is_empty();
            (dropped, is_telling)
        };
        drop(dropped);
        if is_telling { Ok(()) } else { self.tell(py) }
    }

    fn tell(&self, py: Python<'_>) -> PyResult<()> {
        let mut told = Ok(());
        loop {
            let run = {
                let mut known = self.0.lock();
                let run = known.given.pop_front();
                known.is_telling = run.is_some();
                run
            };
            let Some(run) = run else { return told };
            // One that fails must not keep the others from being told.
            told = told.and(self.tell_one(run.bind(py)));
        }
    }

    fn tell_one(&self, run: &Bound<'_, Run>) -> PyResult<()> {
        let placed = Placed::new(run)?;
        let id = self.number_of(run.get());
        let replaced = self.0.lock().placed.insert(id, placed);
        drop(replaced);
        Run::get_place(run)
    }

    /// Runs of event loops that were closed execute nothing any more.
    fn forget_closed_loops(&self, asker: &Bound<'_, Run>) -> PyResult<()> {
        let py = asker.py();
        let mut others: Vec<Py<PyAny>> = Vec::new();
        {
            let known = self.0.lock();
            if known.places.free() > 0 {
                return Ok(());
            }
            for placed in known.placed.values() {
                let is_known = |other: &Py<PyAny>| other.is(&placed.event_loop);
                if !is_known(&asker.get().event_loop) && !others.iter().any(is_known) {
                    others.push(placed.event_loop.clone_ref(py));
                }
            }
        }
        for event_loop in others {
            if is_closed(event_loop.bind(py))? {
                self.forget_closed(py, &event_loop)?;
            }
        }
        Ok(())
    }

    fn forget_closed(&self, py: Python<'_>, event_loop: &Py<PyAny>) -> PyResult<()> {
        let left: Vec<_> = {
            let known = self.0.lock();
            let left = known.placed.iter().filter(|(_, placed)| placed.event_loop.is(event_loop));
            left.map(|(&id, placed)| (id, placed.run.clone_ref(py))).collect()
        };
        for (id, run) in left {
            match run.bind(py).call0()?.cast_into::<Run>() {
                Ok(run) => Run::abandon_closed(&run)?,
                Err(_) => self.leave(py, id)?,
            }
        }
        Ok(())
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The collector may come while the lock is held; then the workflow is in use and nothing is lost.
        let Some(known) = self.0.try_lock() else { return Ok(()) };
        known.waiting.values().chain(&known.given).try_for_each(|run| visit.call(run))?;
        known.placed.values().try_for_each(|placed| {
            visit.call(&placed.run)?;
            visit.call(&placed.event_loop)
        })
    }
}

impl Placed {
    fn new(run: &Bound<'_, Run>) -> PyResult<Self> {
        let event_loop = run.get().event_loop.clone_ref(run.py());
        Ok(Self { run: PyWeakrefReference::new(run)?.unbind(), event_loop })
    }
}

impl Run {
    /// Whether the runs of the workflow have places.
    #[inline]
    pub fn has_limit(&self) -> bool {
        self.plan.get().places.is_some()
    }

    /// Asks for a place, unless the run has one. Says whether it has one now.
    pub fn ask_for_place(run: &Bound<'_, Self>) -> PyResult<bool> {
        let has_begun = {
            let mut state = run.get().state.lock();
            let place = state.place.make();
            match place.at {
                At::Placed => return Ok(true),
                At::Waiting => return Ok(false),
                At::Nowhere => place.at = At::Waiting,
            }
            let has_begun = place.has_begun;
            state.core.leave_place();
            has_begun
        };
        let journal = run.get().journal_of_place(run.py());
        let has_place = match (journal, &run.get().plan.get().places) {
            (Some(journal), _) => journal.get().ask_for_place(run, has_begun)?,
            (None, Some(places)) => places.ask(run, has_begun)?,
            (None, None) => true,
        };
        if has_place {
            Self::go_on_in_place(run)?;
        }
        Ok(has_place)
    }

    /// The run executes something whether or not there is a place for it.
    fn insist_on_place(run: &Bound<'_, Self>) -> PyResult<()> {
        if run.get().state.lock().place.make().at == At::Placed {
            return Ok(());
        }
        let journal = run.get().journal_of_place(run.py());
        match (journal, &run.get().plan.get().places) {
            (Some(journal), _) => journal.get().insist_on_place(run)?,
            (None, Some(places)) => places.insist(run)?,
            (None, None) => {}
        }
        Self::go_on_in_place(run).map(drop)
    }

    /// The run waits for no place and has none: the next one has it.
    pub fn leave_place(run: &Bound<'_, Self>) -> PyResult<()> {
        let was_anywhere = {
            let mut state = run.get().state.lock();
            let was_at = std::mem::take(&mut state.place.make().at);
            state.core.leave_place();
            was_at != At::Nowhere
        };
        if !was_anywhere {
            return Ok(());
        }
        let journal = run.get().journal_of_place(run.py());
        match (journal, &run.get().plan.get().places) {
            (Some(journal), _) => journal.get().leave_place(run),
            (None, Some(places)) => places.leave(run.py(), places.number_of(run.get())),
            (None, None) => Ok(()),
        }
    }

    /// A new run has a place; or it has none and asks for none, since it is written for any process.
    pub fn begin_in_place(&self, has_place: bool) {
        let mut state = self.state.lock();
        let place = state.place.make();
        (place.at, place.has_begun) = (if has_place { At::Placed } else { At::Waiting }, has_place);
        if !has_place {
            state.core.leave_place();
        }
    }

    /// A run that was written for any process is executed here after all.
    pub fn take_up_place(run: &Bound<'_, Self>) -> PyResult<()> {
        run.get().state.lock().place.make().at = At::Nowhere;
        Self::queue_up(run)
    }

    fn journal_of_place(&self, py: Python<'_>) -> Option<Py<super::journal::Journal>> {
        self.state.lock().durable.as_ref().map(|durable| durable.journal.clone_ref(py))
    }

    /// The run leaves its place if nothing of it executes.
    #[inline]
    pub fn rest(run: &Bound<'_, Self>) -> PyResult<()> {
        if run.get().has_limit() { Self::rest_now(run) } else { Ok(()) }
    }

    #[cold]
    fn rest_now(run: &Bound<'_, Self>) -> PyResult<()> {
        let rests = {
            let state = run.get().state.lock();
            let is_placed = state.place.get().is_some_and(|place| place.at == At::Placed);
            // A body that awaits another run may wait for the place of its own.
            let awaits: usize = state.awaits.get().into_iter().flat_map(HashMap::values).map(|(_, times)| times).sum();
            let rests = || state.core.rests() || state.core.rests_but_for(awaits.try_into().unwrap_or(u32::MAX));
            is_placed && state.driving.is_none() && rests()
        };
        if rests { Self::leave_place(run) } else { Ok(()) }
    }

    /// The run was given the place that it waits for.
    pub fn get_place(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        if is_closed(run.get().event_loop.bind(py))? {
            return Self::abandon_closed(run);
        }
        if !run.get().is_on_its_thread() {
            return run.get().call_soon(py, (run.getattr(intern!(py, "_get_place"))?,));
        }
        let is_of_use = {
            let mut state = run.get().state.lock();
            let place = state.place.make();
            place.at = At::Placed;
            let is_in_step = place.parked.iter().any(|&(_, is_in_step)| is_in_step);
            // One that is paused asks again when it is resumed.
            state.core.phase() == Phase::Running && (is_in_step || !state.core.rests())
        };
        if !is_of_use {
            return Self::leave_place(run);
        }
        if Self::go_on_in_place(run)? { Ok(()) } else { Self::wake_lanes(run) }
    }

    /// The run has a place. Says whether lanes have waited for that.
    fn go_on_in_place(run: &Bound<'_, Self>) -> PyResult<bool> {
        {
            let mut state = run.get().state.lock();
            let place = state.place.make();
            (place.at, place.has_begun) = (At::Placed, true);
            state.core.take_place();
        }
        Self::wake_parked(run)
    }

    /// The lanes that wait for a place go on: the run has one, or is ending. Says whether there were any.
    pub fn wake_parked(run: &Bound<'_, Self>) -> PyResult<bool> {
        let py = run.py();
        let parked = run.get().state.lock().place.get_mut().map(|place| std::mem::take(&mut place.parked));
        let mut were_there = false;
        for (future, _) in parked.into_iter().flatten() {
            were_there |= !future.call_method0(py, intern!(py, "done"))?.is_truthy(py)?;
            set_result_unless_done(future.bind(py), py.None())?;
        }
        Ok(were_there)
    }

    /// What a lane waits for in the middle of a step; nothing if the body may go on. One that is cancelled unwinds at once.
    /// Any other exception that is thrown is that of the future which the body awaits: it raises it later as well.
    #[cold]
    pub fn go_on_in_step<'py>(run: &Bound<'py, Self>, thrown: Option<&PyErr>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let is_free = {
            let state = run.get().state.lock();
            // The lane of a body that awaits another run may be what drives that.
            state.core.phase() != Phase::Running || state.awaits.get().is_some_and(|runs| !runs.is_empty())
        };
        if is_free {
            return Ok(None);
        }
        if thrown.is_some_and(|error| error.is_instance_of::<CancelledError>(run.py())) {
            return Self::insist_on_place(run).map(|()| None);
        }
        Self::wait_for_place(run, true)
    }

    /// What a lane waits for before it executes anything; nothing if the run has a place.
    pub fn wait_for_place<'py>(run: &Bound<'py, Self>, is_in_step: bool) -> PyResult<Option<Bound<'py, PyAny>>> {
        if Self::ask_for_place(run)? {
            return Ok(None);
        }
        let future = new_future(run.get().event_loop.bind(run.py()))?;
        let mut state = run.get().state.lock();
        let place = state.place.make();
        // Another thread may have left a place meanwhile.
        let is_placed = place.at == At::Placed;
        if !is_placed {
            place.parked.push((future.clone().unbind(), is_in_step));
        }
        drop(state);
        Ok((!is_placed).then_some(future))
    }

    /// Whether a lane waits for a place already.
    pub fn has_parked(&self) -> bool {
        self.state.lock().place.get().is_some_and(|place| !place.parked.is_empty())
    }

    /// The event loop of the run was closed: nothing of it can go on.
    fn abandon_closed(run: &Bound<'_, Self>) -> PyResult<()> {
        if run.get().state.lock().is_over {
            return Self::leave_place(run);
        }
        let abandoned = run.get().state.lock().abandon();
        drop(abandoned);
        Self::finish(run)
    }
}

#[pymethods]
impl Run {
    /// The run has the place now that it has waited for.
    fn _get_place(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::get_place(slf)
    }
}
