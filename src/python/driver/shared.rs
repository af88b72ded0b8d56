//! The tasks that drive runs with a journal, each one run after another.
//!
//! Such a run waits for its journal after every step, and has no lane while it does. When it may go on it is queued at
//! the gate of its event loop, and one task gives a lane to each run of the queue in turn. Once a lane is suspended its
//! task is that lane's alone: a step never shares its task with the steps of another run. Others take what is queued
//! then.

use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};

use super::Lane;
use crate::python::coroutine::{Resumed, coroutine_of};
use crate::python::gate::{Entry, Gate, yielded};
use crate::python::run::Run;
use crate::python::unreferenced;

/// The coroutine of such a task.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct SharedTask {
    gate: Py<Gate>,
    event_loop: Py<PyAny>,
    at: Mutex<At>,
}

enum At {
    Fresh,
    OnStack,
    // Waits for its turn on the event loop.
    Parked,
    // The lane is suspended.
    InLane(Py<Lane>),
    Finished,
}

impl SharedTask {
    /// Gives a run one more lane, in its turn.
    pub fn queue(run: &Bound<'_, Run>) -> PyResult<()> {
        let py = run.py();
        let gate = run.get().gate.bind(py);
        if !gate.get().queue_run(run) {
            return Ok(());
        }
        let spawned = Self::spawn(gate, run.get().event_loop.bind(py));
        if spawned.is_err() {
            gate.get().unqueue_run();
        }
        spawned
    }

    /// Makes a task that the gate counts already.
    fn spawn(gate: &Bound<'_, Gate>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = gate.py();
        let shared =
            Self { gate: gate.clone().unbind(), event_loop: event_loop.clone().unbind(), at: Mutex::new(At::Fresh) };
        let made = Bound::new(py, shared);
        let task = made.and_then(|shared| event_loop.call_method1(intern!(py, "create_task"), (shared,)));
        match &task {
            Ok(task) => unreferenced::report_no_task(task),
            Err(_) => gate.get().lose_taker(),
        }
        task.map(drop)
    }

    fn resume(slf: &Bound<'_, Self>, thrown: Option<PyErr>) -> PyResult<Resumed> {
        let (task, py) = (slf.get(), slf.py());
        let at = {
            let mut at = task.at.lock();
            if matches!(*at, At::OnStack) {
                return Err(PyValueError::new_err("the task is being driven already"));
            }
            std::mem::replace(&mut *at, At::OnStack)
        };
        let (resumed, at) = match (at, thrown) {
            (At::InLane(lane), thrown) => match Lane::resume(lane.bind(py), thrown) {
                Ok(Resumed::Yielded(object)) => (Ok(Resumed::Yielded(object)), At::InLane(lane)),
                over => (over, At::Finished),
            },
            (At::Fresh | At::Parked, Some(error)) => (task.give_up(py).and(Err(error)), At::Finished),
            (At::Fresh, None) => task.drive_queued(py, Entry::Step),
            (At::Parked, None) => task.drive_queued(py, Entry::LetThrough),
            (At::Finished | At::OnStack, _) => (Ok(Resumed::Returned(py.None())), At::Finished),
        };
        *task.at.lock() = at;
        resumed
    }

    /// Drives the runs of the queue, until a lane is suspended or none is left.
    fn drive_queued(&self, py: Python<'_>, mut entry: Entry) -> (PyResult<Resumed>, At) {
        let gate = self.gate.bind(py);
        loop {
            let Some(run) = gate.get().next_queued() else { return (Ok(Resumed::Returned(py.None())), At::Finished) };
            let run = run.into_bound(py);
            match self.park(gate, entry) {
                Ok(None) => {}
                Ok(Some(future)) => {
                    gate.get().requeue_run(run.unbind());
                    return (Ok(Resumed::Yielded(future)), At::Parked);
                }
                Err(error) => {
                    let crashed = Run::crash(&run, error.clone_ref(py));
                    return (self.leave(gate).and(crashed).and(Err(error)), At::Finished);
                }
            }
            entry = Entry::Step;
            let driven = Lane::admitted(&run).and_then(|lane| Ok((Lane::resume(&lane, None)?, lane)));
            let (resumed, at) = match driven {
                Ok((Resumed::Returned(_), _)) => continue,
                Ok((yielded, lane)) => (Ok(yielded), At::InLane(lane.unbind())),
                Err(error) => (Err(error), At::Finished),
            };
            return match self.leave(gate) {
                Ok(()) => (resumed, at),
                Err(error) => (Err(error), at),
            };
        }
    }

    /// What the task waits for if the runs of the loop have used up their time in this pass.
    fn park(&self, gate: &Bound<'_, Gate>, entry: Entry) -> PyResult<Option<Py<PyAny>>> {
        let event_loop = self.event_loop.bind(gate.py());
        if Gate::may_run(gate, event_loop, entry)? {
            return Ok(None);
        }
        Gate::park(gate, event_loop, entry).and_then(yielded).map(Some)
    }

    /// This task takes no more of the queue: others do.
    fn leave(&self, gate: &Bound<'_, Gate>) -> PyResult<()> {
        let others = gate.get().leave_queue();
        (0..others).try_for_each(|_| Self::spawn(gate, self.event_loop.bind(gate.py())))
    }

    /// The task is cancelled before it has a lane: so are the runs of the queue, if no other task takes them.
    fn give_up(&self, py: Python<'_>) -> PyResult<()> {
        let mut told = Ok(());
        for run in self.gate.get().give_up_queue() {
            let run = run.bind(py);
            told = told.and(Lane::give_up_queued(run));
        }
        told
    }
}

coroutine_of!(SharedTask);

#[pymethods]
impl SharedTask {
    #[getter]
    fn __name__(&self) -> &'static str {
        "runs with a journal"
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        "runs with a journal"
    }

    /// As of a coroutine: the lane is closed, and its run cancelled.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let at = {
            let mut at = self.at.lock();
            match *at {
                At::OnStack => return Err(PyValueError::new_err("the task is being driven already")),
                _ => std::mem::replace(&mut *at, At::Finished),
            }
        };
        match at {
            At::InLane(lane) => Lane::close(lane.bind(py)),
            At::Fresh | At::Parked => self.give_up(py),
            At::OnStack | At::Finished => Ok(()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.gate)?;
        visit.call(&self.event_loop)?;
        let Some(at) = self.at.try_lock() else { return Ok(()) };
        match &*at {
            At::InLane(lane) => visit.call(lane),
            At::Fresh | At::OnStack | At::Parked | At::Finished => Ok(()),
        }
    }

    fn __clear__(&self) {
        let cleared = std::mem::replace(&mut *self.at.lock(), At::Finished);
        drop(cleared);
    }
}
