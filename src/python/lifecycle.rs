//! Telling observers, and readers of the stream that ask for it, what happens to a run.
//!
//! Nothing of it costs more than one atomic load without an observer. An observer is called where things happen, on
//! the event loop of the run; what it raises is logged.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};

use super::error;
use super::run::Run;
use super::state::Outcome;
use super::wake::call_soon_threadsafe;
use crate::{Started, Time};

/// What happened.
pub enum Happened<'a> {
    RunStarted,
    RunContinued,
    RunTakenOver,
    RunWaiting,
    RunPaused,
    RunResumed,
    /// The run is over here: with its outcome, or released.
    RunOver,
    StepStarted(&'a Started),
    StepFinished(&'a Started),
    /// There will be another attempt at this time.
    StepRetried(&'a Started, &'a PyErr, Time),
    StepFailed(&'a Started, &'a PyErr),
    StepCancelled(&'a Started),
}

/// What a run that is observed knows for its observers.
#[derive(Default)]
pub struct Observed {
    // The attempts in flight, by the number of the delivery.
    begun: HashMap<u64, Begun>,
    feeds: Vec<Weak<Feed>>,
    is_waiting: bool,
    is_announced: bool,
}

struct Begun {
    at: Time,
    // Of the event that the step accepts.
    class: Option<Py<PyType>>,
}

impl Observed {
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.begun.values().try_for_each(|begun| visit.call(&begun.class))
    }
}

/// The lifecycle events for one reader of the stream, each with the number of the last event published before it.
pub struct Feed {
    limit: usize,
    items: Mutex<VecDeque<(u64, Py<PyAny>)>>,
    missed: AtomicU64,
}

impl Feed {
    fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), items: Mutex::default(), missed: AtomicU64::new(0) }
    }

    /// How many events were dropped because the reader was too slow, since this was asked last.
    pub fn take_missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }

    /// The next event, unless something that was published before it is to be read first.
    pub fn take(&self, after: u64) -> Option<Py<PyAny>> {
        let mut items = self.items.lock();
        let is_next = items.front().is_some_and(|(published, _)| *published <= after);
        if is_next { items.pop_front().map(|(_, event)| event) } else { None }
    }

    fn put(&self, published: u64, event: Py<PyAny>) -> Option<Py<PyAny>> {
        let mut items = self.items.lock();
        items.push_back((published, event));
        if items.len() <= self.limit {
            return None;
        }
        self.missed.fetch_add(1, Ordering::Relaxed);
        items.pop_front().map(|(_, dropped)| dropped)
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(items) = self.items.try_lock() else { return Ok(()) };
        items.iter().try_for_each(|(_, event)| visit.call(event))
    }
}

impl Happened<'_> {
    fn step(&self) -> Option<&Started> {
        match self {
            Self::StepStarted(started)
            | Self::StepFinished(started)
            | Self::StepRetried(started, ..)
            | Self::StepFailed(started, _)
            | Self::StepCancelled(started) => Some(started),
            _ => None,
        }
    }

    fn kind(&self, outcome: Option<&Outcome>, is_released: bool) -> &'static str {
        match self {
            Self::RunStarted => "run_started",
            Self::RunContinued => "run_continued",
            Self::RunTakenOver => "run_taken_over",
            Self::RunWaiting => "run_waiting",
            Self::RunPaused => "run_paused",
            Self::RunResumed => "run_resumed",
            Self::RunOver if is_released => "run_released",
            Self::RunOver => match outcome {
                Some(Outcome::Result(_)) => "run_completed",
                Some(Outcome::Failed(..)) => "run_failed",
                Some(Outcome::Cancelled) | None => "run_cancelled",
            },
            Self::StepStarted(_) => "step_started",
            Self::StepFinished(_) => "step_finished",
            Self::StepRetried(..) => "step_retried",
            Self::StepFailed(..) => "step_failed",
            Self::StepCancelled(_) => "step_cancelled",
        }
    }
}

// What the state of a run gives for an event.
struct Facts {
    kind: &'static str,
    published: u64,
    elapsed: Option<Time>,
    due: Option<Time>,
    class: Option<Py<PyType>>,
    error: Option<Py<PyBaseException>>,
    feeds: Vec<Arc<Feed>>,
}

impl Run {
    /// Something has happened: the observers are told, if there are any.
    #[inline]
    pub fn observe(run: &Bound<'_, Self>, happened: Happened<'_>) {
        if run.get().is_observed.load(Ordering::Relaxed) {
            Self::tell_observers(run, &happened);
        }
    }

    /// The run is told apart from one without an observer from now on.
    pub fn be_observed(&self) {
        self.is_observed.store(true, Ordering::Relaxed);
    }

    /// A run with a key is started once it is known that no other run has the key.
    pub fn observe_start(run: &Bound<'_, Self>) {
        if run.get().is_observed.load(Ordering::Relaxed) {
            let was_announced = std::mem::replace(&mut run.get().state.lock().observed.make().is_announced, true);
            if !was_announced {
                Self::tell_observers(run, &Happened::RunStarted);
            }
        }
    }

    /// The run is over here. One that represents another run has none of its own.
    #[inline]
    pub fn observe_end(run: &Bound<'_, Self>) {
        if run.get().is_observed.load(Ordering::Relaxed) && run.get().stands_for().is_none() {
            Self::tell_observers(run, &Happened::RunOver);
        }
    }

    /// Tells the observers that the run waits, if it does and they were not told.
    #[inline]
    pub fn observe_waiting(run: &Bound<'_, Self>) {
        if run.get().is_observed.load(Ordering::Relaxed) {
            Self::tell_waiting(run);
        }
    }

    /// A step of the run goes on: it does not wait any more.
    #[inline]
    pub fn observe_going_on(&self) {
        if self.is_observed.load(Ordering::Relaxed) {
            self.state.lock().observed.make().is_waiting = false;
        }
    }

    #[cold]
    fn tell_waiting(run: &Bound<'_, Self>) {
        let is_new = {
            let mut state = run.get().state.lock();
            let is_waiting = state.core.only_waits();
            let was_waiting = std::mem::replace(&mut state.observed.make().is_waiting, is_waiting);
            is_waiting && !was_waiting
        };
        if is_new {
            Self::tell_observers(run, &Happened::RunWaiting);
        }
    }

    #[cold]
    fn tell_observers(run: &Bound<'_, Self>, happened: &Happened<'_>) {
        let py = run.py();
        if let Err(error) = Self::notify(run, happened) {
            error::log_error(py, &format!("the observers of run {} were not told", run.get().id_text()), &error);
        }
    }

    fn notify(run: &Bound<'_, Self>, happened: &Happened<'_>) -> PyResult<()> {
        static LIFECYCLE_EVENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        static NOTIFY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = run.py();
        let now = run.get().now();
        let facts = run.get().facts(py, happened, now);
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "kind"), facts.kind)?;
        keywords.set_item(intern!(py, "run_id"), run.get().id_text())?;
        keywords.set_item(intern!(py, "workflow"), &run.get().plan.get().name)?;
        keywords.set_item(intern!(py, "at"), seconds(now))?;
        keywords.set_item(intern!(py, "elapsed"), facts.elapsed.map(seconds))?;
        keywords.set_item(intern!(py, "due"), facts.due.map(seconds))?;
        keywords.set_item(intern!(py, "error"), facts.error)?;
        if let Some(started) = happened.step() {
            keywords.set_item(intern!(py, "step"), run.get().plan.get().step_name(started.step))?;
            keywords.set_item(intern!(py, "delivery"), started.seq)?;
            keywords.set_item(intern!(py, "attempt"), started.attempt)?;
        }
        if let Some(class) = facts.class {
            keywords.set_item(intern!(py, "event_class"), super::text::type_name(class.bind(py)))?;
        }
        let journal = run.get().state.lock().durable.as_ref().map(|durable| durable.journal.clone_ref(py));
        if let Some(journal) = &journal {
            keywords.set_item(intern!(py, "worker"), journal.get().owner.to_string())?;
        }
        let class = LIFECYCLE_EVENT.import(py, "treadle.lifecycle", "LifecycleEvent")?;
        let event = class.call((), Some(&keywords))?;
        for feed in &facts.feeds {
            let dropped = feed.put(facts.published, event.clone().unbind());
            drop(dropped);
        }
        if !facts.feeds.is_empty() {
            let readers = std::mem::take(&mut run.get().state.lock().readers);
            readers.iter().try_for_each(|waker| waker.wake(py, py.None()))?;
        }
        let notify = NOTIFY.import(py, "treadle.lifecycle", "notify")?;
        let event_loop = run.get().event_loop.bind(py);
        let of_engine = journal.as_ref().and_then(|journal| journal.get().observers.as_ref());
        for observers in [run.get().plan.get().observers.as_ref(), of_engine].into_iter().flatten() {
            let observers = observers.bind(py);
            if run.get().is_on_its_thread() {
                notify.call1((observers, &event, event_loop))?;
            } else {
                call_soon_threadsafe(event_loop, (notify, observers, &event, event_loop))?;
            }
        }
        Ok(())
    }

    fn facts(&self, py: Python<'_>, happened: &Happened<'_>, now: Time) -> Facts {
        let mut state = self.state.lock();
        let is_released = state.durable.as_ref().is_some_and(|durable| durable.writer.is_lost());
        let kind = happened.kind(state.outcome.as_ref(), is_released);
        let error = match (happened, &state.outcome) {
            (Happened::StepRetried(_, error, _) | Happened::StepFailed(_, error), _) => {
                Some(error.value(py).clone().unbind())
            }
            (Happened::RunOver, Some(Outcome::Failed(exception, _))) => Some(exception.clone_ref(py)),
            _ => None,
        };
        let due = match happened {
            Happened::StepRetried(_, _, due) => Some(*due),
            Happened::RunWaiting => state.core.next_deadline(),
            _ => None,
        };
        let published = state.core.stream().published();
        let class = match happened {
            Happened::StepStarted(started) => {
                state.core.event(started.slot).map(|event| event.bind(py).get_type().unbind())
            }
            _ => None,
        };
        let observed = state.observed.make();
        let begun = match (happened, happened.step()) {
            (Happened::StepStarted(started), _) => {
                let class = class.as_ref().map(|class| class.clone_ref(py));
                observed.begun.insert(started.seq, Begun { at: now, class });
                None
            }
            (_, Some(started)) => observed.begun.remove(&started.seq),
            (Happened::RunOver, _) if !is_released => {
                Some(Begun { at: self.id.unix_ms().saturating_mul(1000), class: None })
            }
            _ => None,
        };
        let elapsed = begun.as_ref().map(|begun| now.saturating_sub(begun.at));
        let class = class.or_else(|| begun.and_then(|begun| begun.class));
        observed.feeds.retain(|feed| feed.strong_count() > 0);
        let feeds = observed.feeds.iter().filter_map(Weak::upgrade).collect();
        Facts { kind, published, elapsed, due, class, error, feeds }
    }

    /// The lifecycle events from now on, for one reader of the stream.
    pub fn lifecycle_feed(&self, limit: usize) -> Arc<Feed> {
        let feed = Arc::new(Feed::new(limit));
        self.state.lock().observed.make().feeds.push(Arc::downgrade(&feed));
        self.be_observed();
        feed
    }
}

/// The observers of a plan or an engine; nothing if there are none.
pub fn some_observers(observers: Option<Bound<'_, PyTuple>>) -> Option<Py<PyTuple>> {
    observers.filter(|observers| !observers.is_empty()).map(Bound::unbind)
}

fn seconds(micros: Time) -> f64 {
    micros as f64 / 1e6
}
