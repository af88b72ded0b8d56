//! What changes while a run runs, and the types that Python brings to the core.

use std::hash::{Hash, Hasher};

use hashbrown::HashMap;
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTraceback, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::children::Kin;
use super::convert::PyValue;
use super::driver::Lane;
use super::durable::Durable;
use super::hook;
use super::lifecycle::Observed;
use super::memo::MemoWaiters;
use super::places::RunPlace;
use super::run::Run;
use super::wake::Waker;
use crate::{Host, Phase, Rare, Run as CoreRun, RunId, Slot, Started, Time};

/// The types that Python brings to the core.
pub struct Python3;

impl Host for Python3 {
    type Event = Py<PyAny>;
    type Value = PyValue;
    type Class = Class;
    type Waiter = EventWaiter;

    #[inline]
    fn copy_event(event: &Py<PyAny>) -> Py<PyAny> {
        event.clone_ref(attached())
    }

    #[inline]
    fn copy_value(value: &PyValue) -> PyValue {
        value.clone_ref(attached())
    }

    fn copy_waiter(waiter: &EventWaiter) -> EventWaiter {
        waiter.clone_ref(attached())
    }

    #[inline]
    fn is_same_event(one: &Py<PyAny>, other: &Py<PyAny>) -> bool {
        one.is(other)
    }
}

/// The interpreter that calls the core.
#[inline]
fn attached<'py>() -> Python<'py> {
    // SAFETY: a core run of Python objects is reached through `Run::state` alone, by threads that are attached
    // to the interpreter, and the token is used while the call into the core lasts.
    unsafe { Python::assume_attached() }
}

/// A class of events, compared by identity.
#[derive(Debug)]
pub struct Class(pub Py<PyType>);

impl Clone for Class {
    fn clone(&self) -> Self {
        Self(self.0.clone_ref(attached()))
    }
}

impl PartialEq for Class {
    fn eq(&self, other: &Self) -> bool {
        self.0.is(&other.0)
    }
}

impl Eq for Class {}

impl Hash for Class {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0.as_ptr() as usize).hash(state);
    }
}

/// A waiter for an event, or a sleeper.
pub struct EventWaiter {
    pub matcher: Option<Py<PyAny>>,
    pub waker: Waker,
    pub timeout: Option<f64>,
}

impl EventWaiter {
    pub fn new(matcher: Option<Py<PyAny>>, event_loop: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<Self> {
        Ok(Self { matcher, waker: Waker::new(event_loop)?, timeout })
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        let matcher = self.matcher.as_ref().map(|matcher| matcher.clone_ref(py));
        Self { matcher, waker: self.waker.clone_ref(py), timeout: self.timeout }
    }
}

/// The list of classes that a step collected by last: the same list needs no check and no comparison.
pub struct LastExpected {
    list: Py<PyList>,
    length: usize,
    // The address of its group's classes.
    group: usize,
}

impl LastExpected {
    pub fn new(list: &Bound<'_, PyList>, group: usize) -> Self {
        Self { list: list.clone().unbind(), length: list.len(), group }
    }

    /// The group, if this is the list and it has not grown or shrunk.
    pub fn group_of(&self, list: &Bound<'_, PyList>) -> Option<usize> {
        (self.list.is(list) && self.length == list.len()).then_some(self.group)
    }
}

/// How a run ended.
pub enum Outcome {
    Result(Py<PyAny>),
    // The traceback is kept apart: each `raise` of the same exception would make it longer.
    Failed(Py<PyBaseException>, Option<Py<PyTraceback>>),
    Cancelled,
}

impl Outcome {
    /// A failure, which the awaiter of the run is given: so it is neither a result nor a cancellation there.
    pub fn failed(py: Python<'_>, error: PyErr) -> Self {
        let error = hook::as_failure(py, "a hook", error);
        let traceback = error.traceback(py).map(Bound::unbind);
        Self::Failed(error.into_value(py), traceback)
    }
}

/// What changes while a run runs.
pub struct State {
    pub core: CoreRun<Python3>,
    /// Whether the run is driven: by its first awaiter, or a task of its own.
    pub started: bool,
    /// Whether no awaiter and no other run cancels the run by its own end.
    pub detached: bool,
    /// Whether an awaiter drives the run: its steps run in the awaiter's task.
    pub driven_by_awaiter: bool,
    /// Stops a run in memory that nothing refers to any more; made with the first task of its own.
    pub guard: Option<Py<PyAny>>,
    /// The last wait for an event whose body was closed in the middle.
    pub closed_wait: Option<Box<str>>,
    /// The step of the lane that is on the stack of the event loop's thread, if one is.
    pub driving: Option<Started>,
    /// How many lanes were made that have not begun.
    pub scheduled: usize,
    /// The lanes of tasks that were made of the run itself, as of a coroutine, by the task's address.
    pub task_lanes: Rare<HashMap<usize, Py<Lane>>>,
    /// The runs that steps of this run await, and how many times each.
    pub awaits: Rare<HashMap<usize, (Py<Run>, usize)>>,
    /// Lanes that were suspended inside of a step.
    pub lanes: HashMap<usize, Py<Lane>>,
    pub outcome: Option<Outcome>,
    /// Reports the failure when it is dropped, unless an awaiter was given it.
    pub unretrieved: Option<Py<PyAny>>,
    /// The context in which the run was made; every step gets a copy.
    pub base_context: Option<Py<PyAny>>,
    pub waiters: Vec<Waker>,
    /// Those who wait until nothing of the paused run moves.
    pub pausers: Vec<Waker>,
    /// Whether steps are put back wherever they stand, while the run is paused.
    pub stops_steps: bool,
    /// What it has of its place, if its workflow has `max_runs`.
    pub place: Rare<RunPlace>,
    /// The run's journal, if it has one.
    pub durable: Option<Box<Durable>>,
    /// Whether those who wait for the end of the run were told: then its outcome is safe.
    pub is_over: bool,
    /// Called with the run and what has just happened to it.
    pub probe: Option<Py<PyAny>>,
    pub readers: Vec<Waker>,
    /// Those who wait until a memo is on disk, in the order of their records.
    pub memo_waiters: Rare<MemoWaiters>,
    pub children: Rare<HashMap<usize, Py<Run>>>,
    /// The runs that its steps started by `Context.run`.
    pub kin: Rare<Kin>,
    pub parent: Option<Py<Run>>,
    pub session: Option<Py<PyDict>>,
    /// Keeps the resources of the run, if a step asked for one: they are closed before the run is over.
    pub keeper: Option<Py<PyAny>>,
    pub timer: Option<(Time, Py<PyAny>)>,
    pub last_expected: Option<LastExpected>,
    /// What its observers have to know, once it has any.
    pub observed: Rare<Observed>,
    /// What the last attempt of a delivery raised that is to be tried again, by the delivery's number.
    pub last_errors: Rare<HashMap<u64, Py<PyBaseException>>>,
}

impl State {
    pub fn new(core: CoreRun<Python3>) -> Self {
        Self {
            core,
            started: false,
            detached: false,
            driven_by_awaiter: false,
            guard: None,
            closed_wait: None,
            driving: None,
            scheduled: 0,
            task_lanes: Rare::default(),
            awaits: Rare::default(),
            lanes: HashMap::new(),
            outcome: None,
            unretrieved: None,
            base_context: None,
            waiters: Vec::new(),
            pausers: Vec::new(),
            stops_steps: false,
            place: Rare::default(),
            durable: None,
            is_over: false,
            probe: None,
            readers: Vec::new(),
            memo_waiters: Rare::default(),
            children: Rare::default(),
            kin: Rare::default(),
            parent: None,
            session: None,
            keeper: None,
            timer: None,
            last_expected: None,
            observed: Rare::default(),
            last_errors: Rare::default(),
        }
    }

    /// The runs that steps of this run started.
    pub fn children(&self, py: Python<'_>) -> Vec<Py<Run>> {
        let children = self.children.get().into_iter().flat_map(HashMap::values);
        children.map(|child| child.clone_ref(py)).collect()
    }

    /// What the last attempt of a delivery raised is of no use any more: gives it back.
    #[inline]
    pub fn forget_error(&mut self, seq: u64) -> Option<Py<PyBaseException>> {
        self.last_errors.get_mut()?.remove(&seq)
    }

    /// Whether the body of this step is on the stack, and not a task that it has started.
    pub fn is_on_stack(&self, slot: Slot) -> bool {
        self.driving.is_some_and(|started| started.slot == slot)
    }

    /// Those who wait for a child, unless the run is paused.
    pub fn take_child_waiters(&mut self, child: RunId) -> Vec<Waker> {
        if self.core.is_paused() {
            return Vec::new();
        }
        self.kin.get_mut().and_then(|kin| kin.waiters.remove(&child)).unwrap_or_default()
    }

    /// Whether nothing of the run moves while it is paused.
    pub fn is_still(&self) -> bool {
        let rests = if self.stops_steps { self.core.in_flight() == 0 } else { self.core.is_quiet() };
        rests && self.driving.is_none() || self.core.phase() == Phase::Ended
    }

    pub fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.core.values().try_for_each(|value| value.traverse(visit))?;
        self.core.events().chain(self.core.stream().kept()).try_for_each(|event| visit.call(event))?;
        self.core.classes().try_for_each(|class| visit.call(&class.0))?;
        self.core
            .expected_classes()
            .into_iter()
            .flat_map(|list| list.iter())
            .try_for_each(|class| visit.call(&class.0))?;
        for (_, waiter) in self.core.waiters() {
            visit.call(&waiter.matcher)?;
            waiter.waker.traverse(visit)?;
        }
        self.task_lanes.get().into_iter().flat_map(HashMap::values).try_for_each(|lane| visit.call(lane))?;
        self.awaits.get().into_iter().flat_map(HashMap::values).try_for_each(|(run, _)| visit.call(run))?;
        visit.call(&self.unretrieved)?;
        self.lanes.values().try_for_each(|lane| visit.call(lane))?;
        match &self.outcome {
            Some(Outcome::Result(result)) => visit.call(result)?,
            Some(Outcome::Failed(exception, traceback)) => {
                visit.call(exception)?;
                visit.call(traceback)?;
            }
            Some(Outcome::Cancelled) | None => {}
        }
        self.last_errors.get().into_iter().flat_map(HashMap::values).try_for_each(|error| visit.call(error))?;
        visit.call(&self.base_context)?;
        visit.call(&self.guard)?;
        visit.call(&self.probe)?;
        self.place.get().map_or(Ok(()), |place| place.traverse(&visit))?;
        self.durable.as_ref().map_or(Ok(()), |durable| durable.traverse(&visit))?;
        self.waiters.iter().chain(&self.pausers).chain(&self.readers).try_for_each(|waker| waker.traverse(visit))?;
        self.memo_waiters.get().into_iter().flatten().try_for_each(|(_, waiter)| waiter.traverse(visit))?;
        self.children.get().into_iter().flat_map(HashMap::values).try_for_each(|child| visit.call(child))?;
        self.kin.get().map_or(Ok(()), |kin| kin.traverse(&visit))?;
        visit.call(&self.parent)?;
        visit.call(&self.session)?;
        visit.call(&self.keeper)?;
        self.observed.get().map_or(Ok(()), |observed| observed.traverse(&visit))?;
        self.last_expected.as_ref().map_or(Ok(()), |expected| visit.call(&expected.list))?;
        self.timer.as_ref().map_or(Ok(()), |(_, handle)| visit.call(handle))
    }

    // A run whose loop was closed: nothing of it can ever go on.
    pub fn abandon(&mut self) -> impl Sized + use<> {
        let remains = self.core.begin_end();
        let deliveries = self.core.abandon();
        let outcome = self.outcome.replace(Outcome::Cancelled);
        let errors = self.last_errors.take();
        let lanes = std::mem::take(&mut self.lanes);
        (remains, deliveries, outcome, errors, lanes, self.base_context.take(), self.timer.take())
    }

    // Breaks the cycles of a run that is not reachable any more, or that cannot go on.
    pub fn clear(&mut self) -> impl Sized + use<> {
        (
            self.outcome.take(),
            self.unretrieved.take(),
            (self.last_expected.take(), self.observed.take()),
            self.last_errors.take(),
            self.core.clear(),
            std::mem::take(&mut self.lanes),
            self.task_lanes.take(),
            self.awaits.take(),
            self.base_context.take(),
            self.guard.take(),
            self.probe.take(),
            (self.durable.take(), self.place.take()),
            std::mem::take(&mut self.waiters),
            std::mem::take(&mut self.pausers),
            std::mem::take(&mut self.readers),
            (self.memo_waiters.take(), self.children.take(), self.kin.take()),
            self.parent.take(),
            self.session.take(),
            self.keeper.take(),
            self.timer.take(),
            self.core.begin_end(),
        )
    }
}
