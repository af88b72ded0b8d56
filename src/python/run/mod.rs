//! One run in Python: the core's state machine with the event loop, the lanes and those who wait for it.
//!
//! The lock on [`State`] is never held across a call into Python, and nothing of Python is dropped under
//! it: both can run any code, and that code may use the same run.
//!
//! - this file: what a run has besides its state; `starting`, `ending`: how it begins and ends; `lanes`: who drives it;
//! - `result`: those who wait for its end; `deadlines`: its timer; `awaitable`: a run as Python sees it.

mod awaitable;
mod deadlines;
mod ending;
mod lanes;
mod result;
mod starting;

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;

use super::clock::{self, ManualClock};
use super::gate::Gate;
use super::plan::Plan;
use super::state::State;
use super::wake::{self, call_soon_threadsafe, is_closed};
use super::{error, hook, thread_number};
use crate::{RunId, Started, Time};

pub use awaitable::Given;

/// A run of a workflow: awaitable, any number of times, for its result.
#[pyclass(frozen, weakref, module = "treadle")]
pub struct Run {
    pub plan: Py<Plan>,
    pub id: RunId,
    pub event_loop: Py<PyAny>,
    pub gate: Py<Gate>,
    thread: AtomicU64,
    is_debug_logged: bool,
    // A clock that tests turn by hand.
    pub clock: Option<Py<ManualClock>>,
    pub is_watched: AtomicBool,
    pub is_observed: AtomicBool,
    // Whether a step has ever sent to another run.
    pub has_sent: AtomicBool,
    pub state: Mutex<State>,
}

impl Run {
    /// The time now, in microseconds since the Unix epoch.
    #[inline]
    pub fn now(&self) -> Time {
        clock::now_by(self.clock.as_ref())
    }

    /// When the first body of a delivery in flight began, if the clock was read.
    pub fn since(&self, started: Started) -> Option<Time> {
        let state = self.state.lock();
        state.core.delivery(started.slot).and_then(|delivery| delivery.since).map(NonZeroU64::get)
    }

    /// Whether the run is at its beginning, and was not started by a step of another run.
    pub fn is_new(&self) -> bool {
        let state = self.state.lock();
        state.parent.is_none() && state.core.in_flight() == 0
    }

    /// Logs what happens, if that is logged at all.
    #[inline]
    pub fn log(&self, py: Python<'_>, what: impl FnOnce() -> String) -> PyResult<()> {
        if self.is_debug_logged { error::log_debug(py, self, &what()) } else { Ok(()) }
    }

    /// Whether the run's event loop is that of this thread.
    #[inline]
    pub fn is_on_its_thread(&self) -> bool {
        thread_number::current() == self.thread.load(Ordering::Relaxed) || self.has_moved_here()
    }

    /// A loop that does not run at the moment may go on in another thread.
    #[cold]
    fn has_moved_here(&self) -> bool {
        let is_here = Python::try_attach(|py| wake::running_loop(py).is_ok_and(|running| running.is(&self.event_loop)));
        if is_here == Some(true) {
            self.thread.store(thread_number::current(), Ordering::Relaxed);
        }
        is_here == Some(true)
    }

    pub fn id_text(&self) -> String {
        self.id.to_string()
    }

    /// Has the run's event loop call something, from another thread.
    pub fn call_soon<'py>(&self, py: Python<'py>, call: impl pyo3::call::PyCallArgs<'py>) -> PyResult<()> {
        let event_loop = self.event_loop.bind(py);
        if is_closed(event_loop)? {
            return Err(error::loop_closed(&self.id_text()));
        }
        call_soon_threadsafe(event_loop, call)
    }

    /// Has the run's event loop call something in its next pass, from whatever thread.
    pub fn call_in_next_pass(&self, call: Bound<'_, PyAny>) -> PyResult<()> {
        let py = call.py();
        if !self.is_on_its_thread() {
            return self.call_soon(py, (call,));
        }
        self.event_loop.bind(py).call_method1(intern!(py, "call_soon"), (call,)).map(|_| ())
    }
}

/// Whether an event is of a class and, if there is a matcher, matches.
pub fn is_match(event: &Bound<'_, PyAny>, class: &Bound<'_, PyAny>, matcher: Option<&Py<PyAny>>) -> PyResult<bool> {
    let py = event.py();
    hook::call(py, "match", || match matcher {
        _ if !event.is_instance(class)? => Ok(false),
        None => Ok(true),
        Some(matcher) => matcher.bind(py).call1((event,))?.is_truthy(),
    })
}
