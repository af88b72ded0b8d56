//! Driving a run: lanes, each of which runs one step at a time inside of one asyncio task.
//!
//! A lane calls a step's function and drives its coroutine right there, so that a step that does not wait
//! costs no task and no pass of the event loop. Once a step is really suspended, the task belongs to that
//! step until it is done, and other steps that are ready get lanes of their own. The first lane of a run is
//! that of its awaiter; without one, it is a task.
//!
//! Cancellation follows `asyncio.timeout`: a lane that the engine stops is cancelled through its task and
//! takes that one request back (`uncancel`) when its step has unwound; any further request is another
//! caller's, and goes on to the awaiter.
//!
//! - this file: a lane, and where it is; `resume`: it goes on from there; `drive`: it starts steps and drives them;
//! - `ended`: what follows when a step has returned or raised; `stop`: cancelling it;
//! - `shared`: the tasks that drive runs with a journal, each one run after another;
//! - `awaitable`: a lane as Python sees it.

mod awaitable;
mod drive;
mod ended;
mod resume;
mod shared;
mod stop;

use parking_lot::Mutex;
use pyo3::exceptions::PyBaseException;
use pyo3::intern;
use pyo3::prelude::*;

use super::coroutine::{Active, Resumed};
use super::current::CurrentRun;
use super::run::Run;
use super::{error, unreferenced};
use crate::Slot;

pub use shared::SharedTask;
pub use stop::Stop;

/// One lane: what an asyncio task, or the awaiter of a run, iterates.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct Lane {
    run: Py<Run>,
    is_awaiter: bool,
    // The run in whose step the awaiter stands: it waits for this lane's run.
    awaiting_run: Option<Py<Run>>,
    state: Mutex<LaneState>,
}

struct LaneState {
    at: At,
    task: Option<Py<PyAny>>,
    // How many requests to cancel its task had that its steps have dealt with, and how many of the present
    // ones are the engine's own.
    cancelling_before: usize,
    own_requests: usize,
    is_registered: bool,
    // Whether it is the awaiter that drives the run.
    drives: bool,
    stop: Option<Stop>,
}

/// Where a lane is.
enum At {
    Fresh,
    // As `Fresh`, and the gate has let it through.
    Admitted,
    OnStack,
    InStep(Active),
    Parked,
    // Waits until what it has to start may start: in the task of an awaiter, who waits in any case.
    HeldBack,
    // Waits for the run to end; the error is raised then.
    WaitingForEnd(Py<PyAny>, Option<Py<PyBaseException>>),
    Finished,
}

enum Next {
    Step(Active),
    Yield(Py<PyAny>),
    Finish(PyResult<Resumed>),
}

impl Lane {
    fn new(run: Py<Run>, is_awaiter: bool, awaiting_run: Option<Py<Run>>) -> Self {
        Self::from(At::Fresh, run, is_awaiter, awaiting_run)
    }

    fn from(at: At, run: Py<Run>, is_awaiter: bool, awaiting_run: Option<Py<Run>>) -> Self {
        let state = LaneState {
            at,
            task: None,
            cancelling_before: 0,
            own_requests: 0,
            is_registered: false,
            drives: false,
            stop: None,
        };
        Self { run, is_awaiter, awaiting_run, state: Mutex::new(state) }
    }

    /// The iterator of an `await` of the run.
    pub fn for_awaiter(run: &Bound<'_, Run>) -> PyResult<Py<Self>> {
        let py = run.py();
        // A step on the stack is what awaits; a task that a step left behind is no concern of the run.
        let awaiting = CurrentRun::get(py)?.filter(|current| current.get().is_on_stack());
        if let Some(awaiting) = &awaiting
            && !run.get().state.lock().is_over
        {
            if run.is(awaiting) || Run::waits_for(run, awaiting) {
                return Err(error::awaits_itself(&run.get().id_text()));
            }
            let mut state = awaiting.get().state.lock();
            state.awaits.make().entry(run.as_ptr() as usize).or_insert_with(|| (run.clone().unbind(), 0)).1 += 1;
        }
        Py::new(py, Self::new(run.clone().unbind(), true, awaiting.map(Bound::unbind)))
    }

    /// A lane with a task of its own.
    pub fn spawn(run: &Bound<'_, Run>) -> PyResult<()> {
        let py = run.py();
        let lane = Bound::new(py, Self::new(run.clone().unbind(), false, None))?;
        let task = run.get().event_loop.bind(py).call_method1(intern!(py, "create_task"), (&lane,))?;
        unreferenced::report_no_task(&task);
        let mut state = lane.get().state.lock();
        if !matches!(state.at, At::Finished) {
            state.task = Some(task.unbind());
        }
        Ok(())
    }

    /// A lane in a task that the gate has let through.
    fn admitted<'py>(run: &Bound<'py, Run>) -> PyResult<Bound<'py, Self>> {
        Bound::new(run.py(), Self::from(At::Admitted, run.clone().unbind(), false, None))
    }

    /// Whether the lane runs this step now.
    pub fn runs(&self, slot: Slot) -> bool {
        matches!(&self.state.lock().at, At::InStep(active) if active.started.slot == slot)
    }
}
