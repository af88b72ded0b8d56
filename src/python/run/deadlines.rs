//! The timer of a run, and the deadlines that pass.

use pyo3::intern;
use pyo3::prelude::*;

use super::Run;
use crate::python::clock::ManualClock;
use crate::python::driver::{Lane, Stop};
use crate::python::error;
use crate::writer::Occurrence;
use crate::{Deadline, WaitOver};

// Seconds. An event loop that is asked to wait for years may refuse; a timer that fires early is armed again.
const LONGEST_DELAY: f64 = 86_400.0;

impl Run {
    /// Sees to it that the event loop calls when the next deadline passes.
    pub fn arm_timer(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        if !run.get().is_on_its_thread() {
            return run.get().call_soon(py, (run.getattr(intern!(py, "_arm_timer"))?,));
        }
        let (deadline, replaced) = {
            let mut state = run.get().state.lock();
            let Some(deadline) = state.core.next_deadline() else { return Ok(()) };
            if state.timer.as_ref().is_some_and(|(armed, _)| *armed <= deadline) {
                return Ok(());
            }
            (deadline, state.timer.take())
        };
        if let Some((_, handle)) = replaced {
            handle.call_method0(py, intern!(py, "cancel"))?;
        }
        if let Some(clock) = &run.get().clock {
            return ManualClock::register(clock.bind(py), run);
        }
        let delay = (deadline.saturating_sub(run.get().now()) as f64 / 1e6).min(LONGEST_DELAY);
        let on_timer = run.getattr(intern!(py, "_on_timer"))?;
        let handle = run.get().event_loop.bind(py).call_method1(intern!(py, "call_later"), (delay, on_timer))?;
        let lost = run.get().state.lock().timer.replace((deadline, handle.unbind()));
        drop(lost);
        Ok(())
    }

    /// Acts on every deadline that has passed.
    pub fn expire(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        loop {
            let now = run.get().now();
            let passed = run.get().state.lock().core.expire(now);
            match passed {
                None => return Ok(()),
                Some(Deadline::Run) => {
                    let timeout = run.get().state.lock().core.timeout();
                    Self::fail(run, error::workflow_timeout(run.get(), timeout))?;
                }
                Some(Deadline::End) => {
                    let longest = run.get().state.lock().core.longest();
                    Self::fail(run, error::deadline_passed(run.get(), longest))?;
                }
                Some(Deadline::Step(slot)) => {
                    let lanes = run.get().lanes(py);
                    if let Some(lane) = lanes.iter().find(|lane| lane.get().runs(slot)) {
                        Lane::stop(lane.bind(py), Stop::StepTimeout)?;
                    }
                }
                Some(Deadline::Wait(id)) => {
                    let over = run.get().state.lock().core.end_wait(id);
                    let Some(WaitOver { waiter, class, .. }) = over else { continue };
                    match class {
                        Some(class) => {
                            let error = error::wait_timeout(py, &waiter, &class, &run.get().id_text());
                            waiter.waker.fail(py, error)?;
                        }
                        None => waiter.waker.wake(py, py.None())?,
                    }
                    Self::wait_ended(run)?;
                }
                Some(Deadline::Settling) => {
                    Self::release_held(run)?;
                    Self::wake_lanes(run)?;
                }
                Some(Deadline::Retry(_)) => {
                    Self::occurred(run, Occurrence::Due)?;
                    Self::wake_lanes(run)?;
                }
            }
        }
    }
}
