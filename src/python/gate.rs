//! Fairness on an event loop: all runs of a loop share a slice of time in each of its passes.
//!
//! A lane that finds the slice used up parks here, and the loop gets control. In its next passes the gate
//! lets parked lanes go on in the order in which they came, as many at a time as fitted lately. The gate
//! also keeps the runs that its starter is to start.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::run::Run;
use super::starter::Starter;

// How long the runs of a loop may keep it from its other work.
const SLICE: Duration = Duration::from_millis(4);
const MOST_AT_ONCE: usize = 1024;

/// How a lane comes to its next step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// To the first step of a run that was not started by another run.
    NewRun,
    /// From another step.
    Step,
    /// It was parked and let through.
    LetThrough,
    /// Its task has asked already.
    Admitted,
}

/// The gate of one event loop; an attribute of the loop object, so that it lives as long as the loop.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct Gate {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    // When the first lane of this pass began.
    slice: Option<Instant>,
    // Whether `_tick` is among the callbacks of the loop.
    ticking: bool,
    parked: VecDeque<Py<PyAny>>,
    // How many lanes are let through at once, and how many of the last ones came too late to run.
    at_once: usize,
    late: usize,
    // Doubles until it was too many for the first time, then feels its way.
    was_too_many: bool,
    // How many of those that were let through still have to come: runs that are new wait behind them.
    coming: usize,
    // Whether a lane that was let through has run since: the first of them always may, so that a lane
    // is never parked for good by others that keep using up the slice.
    passed: bool,
    // Runs made since the last pass of the starter, and in the one before it: those that nothing awaits by
    // then get a task. The pass between is for awaiters in tasks that were made at the same time.
    fresh: Vec<Py<Run>>,
    aged: Vec<Py<Run>>,
    // Whether there is a task that starts them.
    is_starting: bool,
    // Runs with a journal, each once for every lane that is wanted of it, and how many tasks take them.
    queued: VecDeque<Py<Run>>,
    takers: usize,
}

// A task that takes no more of the queue has so many others take its place: so a queue of runs with steps that wait is
// worked off in a number of passes that grows with its logarithm.
const SUCCESSORS: usize = 2;

impl Gate {
    /// The gate of an event loop.
    #[inline]
    pub fn of<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let name = intern!(py, "_treadle_gate");
        if let Some(gate) = event_loop.getattr_opt(name)? {
            return Ok(gate.cast_into::<Self>()?);
        }
        let gate = Bound::new(py, Self { state: Mutex::new(State { at_once: 1, ..State::default() }) })?;
        event_loop.setattr(name, &gate)?;
        Ok(gate)
    }

    /// Whether a lane may run its next step now.
    #[inline]
    pub fn may_run(slf: &Bound<'_, Self>, event_loop: &Bound<'_, PyAny>, entry: Entry) -> PyResult<bool> {
        if entry == Entry::Admitted {
            return Ok(true);
        }
        let now = Instant::now();
        let tick = {
            let mut state = slf.get().state.lock();
            let was_parked = entry == Entry::LetThrough;
            state.coming -= usize::from(was_parked && state.coming > 0);
            let first_let_through = was_parked && !std::mem::replace(&mut state.passed, true);
            if entry == Entry::NewRun && (state.coming > 0 || !state.parked.is_empty()) {
                return Ok(false);
            }
            match state.slice {
                Some(_) if first_let_through => return Ok(true),
                Some(since) => {
                    let in_time = now.duration_since(since) < SLICE;
                    state.late += usize::from(was_parked && !in_time);
                    return Ok(in_time);
                }
                None => state.slice = Some(now),
            }
            !std::mem::replace(&mut state.ticking, true)
        };
        if tick { Self::tick_soon(slf, event_loop).map(|()| true) } else { Ok(true) }
    }

    /// A future that is done when the lane may go on. A lane that was let through before waits ahead of others.
    pub fn park<'py>(
        slf: &Bound<'py, Self>,
        event_loop: &Bound<'py, PyAny>,
        entry: Entry,
    ) -> PyResult<Bound<'py, PyAny>> {
        let future = new_future(event_loop)?;
        let tick = {
            let mut state = slf.get().state.lock();
            let parked = future.clone().unbind();
            if entry == Entry::LetThrough {
                state.parked.push_front(parked)
            } else {
                state.parked.push_back(parked)
            }
            !std::mem::replace(&mut state.ticking, true)
        };
        if tick {
            Self::tick_soon(slf, event_loop)?;
        }
        Ok(future)
    }

    /// A run was made; it starts in a task of its own unless it is awaited before the loop has come round.
    #[inline]
    pub fn add_run(slf: &Bound<'_, Self>, event_loop: &Bound<'_, PyAny>, run: Py<Run>) -> PyResult<()> {
        let is_first = {
            let mut state = slf.get().state.lock();
            state.fresh.push(run);
            !std::mem::replace(&mut state.is_starting, true)
        };
        if !is_first {
            return Ok(());
        }
        let spawned = Starter::spawn(slf, event_loop);
        if spawned.is_err() {
            slf.get().state.lock().is_starting = false;
        }
        spawned
    }

    /// Called by the starter in each pass of the loop: the runs to start now, and whether it is needed on.
    pub fn due_runs(&self) -> (Vec<Py<Run>>, bool) {
        let mut state = self.state.lock();
        let fresh = std::mem::take(&mut state.fresh);
        let due = std::mem::replace(&mut state.aged, fresh);
        state.is_starting = !state.aged.is_empty();
        (due, state.is_starting)
    }

    /// There is no starter any more: the runs that it leaves.
    pub fn give_up_runs(&self) -> Vec<Py<Run>> {
        let mut state = self.state.lock();
        state.is_starting = false;
        let mut left = std::mem::take(&mut state.aged);
        left.append(&mut state.fresh);
        left
    }

    /// A lane of the run is wanted. Says whether a task is to be made that takes it.
    pub fn queue_run(&self, run: &Bound<'_, Run>) -> bool {
        let mut state = self.state.lock();
        state.queued.push_back(run.clone().unbind());
        let is_needed = state.takers == 0;
        state.takers += usize::from(is_needed);
        is_needed
    }

    /// A task could not be made that was to take runs of the queue.
    pub fn lose_taker(&self) {
        self.state.lock().takers -= 1;
    }

    /// No lane of the run that was queued last is wanted any more.
    pub fn unqueue_run(&self) {
        let mut state = self.state.lock();
        let unqueued = state.queued.pop_back();
        drop(state);
        drop(unqueued);
    }

    /// The next run of the queue; the task that asks is done if there is none.
    pub fn next_queued(&self) -> Option<Py<Run>> {
        let mut state = self.state.lock();
        let next = state.queued.pop_front();
        state.takers -= usize::from(next.is_none());
        next
    }

    /// The run comes first in the queue again.
    pub fn requeue_run(&self, run: Py<Run>) {
        self.state.lock().queued.push_front(run);
    }

    /// A task takes no more runs of the queue. Says how many are to be made that do.
    pub fn leave_queue(&self) -> usize {
        let mut state = self.state.lock();
        state.takers -= 1;
        let successors = state.queued.len().saturating_sub(state.takers).min(SUCCESSORS);
        state.takers += successors;
        successors
    }

    /// As [`Gate::leave_queue`], but no other task is made: the runs that none takes.
    pub fn give_up_queue(&self) -> VecDeque<Py<Run>> {
        let mut state = self.state.lock();
        state.takers -= 1;
        if state.takers == 0 { std::mem::take(&mut state.queued) } else { VecDeque::new() }
    }

    /// The run was started by its awaiter.
    #[inline]
    pub fn forget_run(&self, run: &Bound<'_, Run>) {
        let mut state = self.state.lock();
        let forgotten = if state.fresh.last().is_some_and(|last| last.is(run)) { state.fresh.pop() } else { None };
        drop(state);
        drop(forgotten);
    }

    fn tick_soon(slf: &Bound<'_, Self>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        event_loop.call_method1(intern!(py, "call_soon"), (slf.getattr(intern!(py, "_tick"))?, event_loop))?;
        Ok(())
    }
}

#[pymethods]
impl Gate {
    /// Called once in a pass of the loop: ends the slice, and lets the next parked lanes through.
    fn _tick(slf: &Bound<'_, Self>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let (let_through, again) = {
            let mut state = slf.get().state.lock();
            state.slice = None;
            state.passed = false;
            state.at_once = match std::mem::take(&mut state.late) {
                0 if state.was_too_many => (state.at_once + state.at_once / 8 + 1).min(MOST_AT_ONCE),
                0 => (state.at_once * 2).min(MOST_AT_ONCE),
                late => {
                    state.was_too_many = true;
                    state.at_once.saturating_sub(late).max(1)
                }
            };
            let count = state.at_once.min(state.parked.len());
            let let_through: Vec<_> = state.parked.drain(..count).collect();
            state.coming = let_through.len();
            state.ticking = state.coming > 0 || !state.parked.is_empty();
            (let_through, state.ticking)
        };
        for future in let_through {
            set_result_unless_done(future.bind(py), py.None())?;
        }
        if again {
            Self::tick_soon(slf, event_loop)?;
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(state) = self.state.try_lock() else { return Ok(()) };
        state.parked.iter().try_for_each(|future| visit.call(future))?;
        state.fresh.iter().chain(&state.aged).chain(&state.queued).try_for_each(|run| visit.call(run))
    }

    fn __clear__(&self) {
        let state = std::mem::take(&mut *self.state.lock());
        drop(state);
    }
}

/// A future of an event loop.
pub fn new_future<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    event_loop.call_method0(intern!(event_loop.py(), "create_future"))
}

/// Resolves a future, unless it has been resolved or cancelled already.
#[pyfunction]
#[pyo3(name = "_set_result_unless_done")]
pub fn set_result_unless_done(future: &Bound<'_, PyAny>, result: Py<PyAny>) -> PyResult<()> {
    let py = future.py();
    if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
        future.call_method1(intern!(py, "set_result"), (result,))?;
    }
    Ok(())
}

/// What a coroutine gives to its task so that the task waits for the future.
pub fn yielded(future: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    future.setattr(intern!(future.py(), "_asyncio_future_blocking"), true)?;
    Ok(future.unbind())
}
