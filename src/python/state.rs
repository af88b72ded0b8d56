//! What changes while a run runs, and the types that Python brings to the core.

use hashbrown::HashMap;
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTraceback};
use pyo3::{PyTraverseError, PyVisit};

use super::clock::now;
use super::convert::PyValue;
use super::driver::Lane;
use super::plan::Plan;
use super::run::Run;
use super::wake::Waker;
use crate::{Host, Run as CoreRun, RunId, Time};

/// The types that Python brings to the core.
pub struct Python3;

impl Host for Python3 {
    type Event = Py<PyAny>;
    type Value = PyValue;
    type Class = usize;
    type Waiter = EventWaiter;
    type Expected = Vec<Py<PyAny>>;
}

/// Somebody who waits for an event.
pub struct EventWaiter {
    pub class: Py<PyAny>,
    pub matcher: Option<Py<PyAny>>,
    pub waker: Waker,
    pub timeout: Option<f64>,
}

/// How a run ended.
pub enum Outcome {
    Result(Py<PyAny>),
    // The traceback is kept apart: each `raise` of the same exception would make it longer.
    Failed(Py<PyBaseException>, Option<Py<PyTraceback>>),
    Cancelled,
}

/// What changes while a run runs.
pub struct State {
    pub core: CoreRun<Python3>,
    /// Whether somebody drives the run: whoever awaited it first, or a task of its own.
    pub started: bool,
    pub detached: bool,
    /// Whether one of the run's lanes is on the stack of its event loop's thread.
    pub driving: bool,
    /// How many lanes were made that have not begun.
    pub scheduled: usize,
    /// The lanes of tasks that were made of the run itself, as of a coroutine, by the task's address.
    pub task_lanes: HashMap<usize, Py<Lane>>,
    /// The runs that steps of this run await, and how many times each.
    pub awaits: HashMap<usize, (Py<Run>, usize)>,
    /// Lanes that were suspended inside of a step.
    pub lanes: HashMap<usize, Py<Lane>>,
    pub outcome: Option<Outcome>,
    /// Reports the failure when it is dropped, unless somebody was given it.
    pub unretrieved: Option<Py<PyAny>>,
    /// The context in which the run was made; every step gets a copy.
    pub base_context: Option<Py<PyAny>>,
    pub waiters: Vec<Waker>,
    pub readers: Vec<Waker>,
    pub children: HashMap<usize, Py<Run>>,
    pub parent: Option<Py<Run>>,
    pub session: Option<Py<PyDict>>,
    pub timer: Option<(Time, Py<PyAny>)>,
    /// The list that a step collected by last, and the address of its group's classes: the same list needs
    /// no comparison.
    pub last_expected: Option<(Py<PyList>, usize)>,
}

impl State {
    pub fn new(plan: &Plan, id: RunId) -> Self {
        let created = if plan.core.timeout.is_some() { now() } else { 0 };
        Self {
            core: CoreRun::new(id, plan.core.clone(), created),
            started: false,
            detached: false,
            driving: false,
            scheduled: 0,
            task_lanes: HashMap::new(),
            awaits: HashMap::new(),
            lanes: HashMap::new(),
            outcome: None,
            unretrieved: None,
            base_context: None,
            waiters: Vec::new(),
            readers: Vec::new(),
            children: HashMap::new(),
            parent: None,
            session: None,
            timer: None,
            last_expected: None,
        }
    }

    pub fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.core.store().iter().try_for_each(|(_, value)| value.traverse(visit))?;
        self.core.events().chain(self.core.stream().kept()).try_for_each(|event| visit.call(event))?;
        for (_, waiter) in self.core.waiters() {
            visit.call(&waiter.class)?;
            visit.call(&waiter.matcher)?;
            waiter.waker.traverse(visit)?;
        }
        self.task_lanes.values().try_for_each(|lane| visit.call(lane))?;
        self.awaits.values().try_for_each(|(run, _)| visit.call(run))?;
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
        visit.call(&self.base_context)?;
        self.waiters.iter().chain(&self.readers).try_for_each(|waker| waker.traverse(visit))?;
        self.children.values().try_for_each(|child| visit.call(child))?;
        visit.call(&self.parent)?;
        visit.call(&self.session)?;
        self.last_expected.as_ref().map_or(Ok(()), |(list, _)| visit.call(list))?;
        self.timer.as_ref().map_or(Ok(()), |(_, handle)| visit.call(handle))
    }

    // A run whose loop was closed: nothing of it can ever go on.
    pub fn abandon(&mut self) -> impl Sized + use<> {
        let remains = self.core.begin_end();
        let deliveries = self.core.abandon();
        let outcome = self.outcome.replace(Outcome::Cancelled);
        (remains, deliveries, outcome, std::mem::take(&mut self.lanes), self.base_context.take(), self.timer.take())
    }

    // Breaks the cycles of a run that nobody can reach any more, or that cannot go on.
    pub fn clear(&mut self) -> impl Sized + use<> {
        (
            self.outcome.take(),
            self.unretrieved.take(),
            self.last_expected.take(),
            self.core.clear(),
            std::mem::take(&mut self.lanes),
            std::mem::take(&mut self.task_lanes),
            std::mem::take(&mut self.awaits),
            self.base_context.take(),
            std::mem::take(&mut self.waiters),
            std::mem::take(&mut self.readers),
            std::mem::take(&mut self.children),
            self.parent.take(),
            self.session.take(),
            self.timer.take(),
            self.core.begin_end(),
        )
    }
}
