//! Runs that steps start.
//!
//! - `starting`: `Context.run`, from the call to the child.
//! - `ends`: what a parent and a child tell each other.
//! - `awaitable`: what `Context.run` gives.

mod awaitable;
mod ends;
mod starting;

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::run::Run;
use super::wake::Waker;
use crate::{RunId, Secrets, Slot};

pub use awaitable::ChildWait;
pub use ends::last_words;

/// The children of a run, as far as this process has something of them.
#[derive(Default)]
pub struct Kin {
    /// Those of a run in memory that have not ended.
    pub live: HashMap<RunId, Py<Run>>,
    /// Those of a run with a journal that begin as soon as the journal has them.
    pub expected: HashMap<RunId, Py<Run>>,
    /// Those of a run in memory that have ended, and have published something.
    pub read: HashMap<RunId, Py<Run>>,
    /// Those who wait for the end of a child.
    pub waiters: HashMap<RunId, Vec<Waker>>,
    /// What verifies the children in the snapshot that the run was resumed from.
    pub secrets: Option<Arc<Secrets>>,
}

impl Kin {
    /// The children that go on have no parent any more.
    pub fn part(self) {
        for child in self.live.values() {
            let parent = child.get().state.lock().parent.take();
            drop(parent);
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.live
            .values()
            .chain(self.expected.values())
            .chain(self.read.values())
            .try_for_each(|run| visit.call(run))?;
        self.waiters.values().flatten().try_for_each(|waker| waker.traverse(*visit))
    }
}

/// A run that a step has started: awaitable, any number of times, for its result.
#[pyclass(frozen, weakref, module = "treadle")]
pub struct ChildRun {
    parent: Py<Run>,
    // The body that has asked for it, and the number of its memo.
    slot: Slot,
    number: u64,
    id: RunId,
    workflow: String,
    // The run itself, if it is in memory.
    run: Option<Py<Run>>,
    // Where the tasks are that were made of it, as of a coroutine, by the address of the task.
    tasks: Mutex<Vec<(usize, Py<PyAny>)>>,
}
