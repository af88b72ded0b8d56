//! Pausing a run, and going on.

use parking_lot::Mutex;
use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::coroutine::awaitable;
use super::driver::{Lane, Stop};
use super::error;
use super::gate::yielded;
use super::lifecycle::Happened;
use super::run::Run;
use super::wake::{self, Waker, is_closed};
use crate::writer::Occurrence;
use crate::{Origin, Phase};

/// What `Run.pause` gives: awaitable, until nothing of the run moves. The run is paused whether or not a caller
/// waits for that.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct Pause {
    run: Py<Run>,
    future: Mutex<Option<Py<PyAny>>>,
}

impl Pause {
    /// The future to wait for, unless nothing of the run moves by now, or it was resumed.
    fn wait<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let run = self.run.bind(py);
        if run.get().is_on_stack() {
            return Err(error::pauses_itself(&run.get().id_text()));
        }
        let waker = Waker::new(&wake::running_loop(py)?)?;
        let future = waker.future.bind(py).clone();
        let unused = {
            let mut state = run.get().state.lock();
            if state.is_still() || !state.core.is_held() {
                Some(waker)
            } else {
                state.pausers.push(waker);
                None
            }
        };
        let is_still = unused.is_some();
        drop(unused);
        Ok((!is_still).then_some(future))
    }

    #[allow(clippy::unnecessary_wraps)]
    fn give_up(&self, py: Python<'_>) -> PyResult<()> {
        let Some(future) = self.future.lock().take() else { return Ok(()) };
        let mut state = self.run.bind(py).get().state.lock();
        let found = state.pausers.iter().position(|waker| waker.future.is(&future));
        let removed = found.map(|at| state.pausers.swap_remove(at));
        drop(state);
        drop(removed);
        Ok(())
    }
}

awaitable!(Pause);

#[pymethods]
impl Pause {
    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let over = || PyStopIteration::new_err((py.None(),));
        let waited = self.future.lock().take();
        if let Some(future) = waited {
            future.call_method0(py, intern!(py, "result"))?;
            return Err(over());
        }
        let future = self.wait(py)?.ok_or_else(over)?;
        *self.future.lock() = Some(future.clone().unbind());
        yielded(future)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.give_up(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.run)?;
        let Some(future) = self.future.try_lock() else { return Ok(()) };
        visit.call(&*future)
    }
}

impl Run {
    /// Tells those who wait for it that nothing of a paused run moves any more. While a step is on the stack,
    /// something does; its lane asks again when the step is suspended or done.
    pub fn check_quiet(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        let pausers = {
            let mut state = run.get().state.lock();
            if state.pausers.is_empty() || !state.core.is_held() || !state.is_still() {
                return Ok(());
            }
            std::mem::take(&mut state.pausers)
        };
        pausers.iter().try_for_each(|waker| waker.wake(py, py.None()))
    }

    /// Cancels the steps in flight, if they are to run again later.
    fn stop_steps(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        if !run.get().is_on_its_thread() {
            return run.get().call_soon(py, (run.getattr(intern!(py, "_stop_steps"))?,));
        }
        let lanes: Vec<_> = {
            let state = run.get().state.lock();
            let lanes = state.lanes.values().filter(|_| state.stops_steps);
            lanes.map(|lane| lane.clone_ref(py)).collect()
        };
        lanes.iter().try_for_each(|lane| Lane::stop(lane.bind(py), Stop::Pausing))?;
        Self::check_quiet(run)
    }

    /// Goes on: events that came meanwhile are routed, deadlines that have passed are due.
    pub fn resume_now(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        let pausers = {
            let mut state = run.get().state.lock();
            state.stops_steps = false;
            state.core.resume();
            std::mem::take(&mut state.pausers)
        };
        Self::release_held(run)?;
        Self::wake_for_children(run)?;
        pausers.iter().try_for_each(|waker| waker.wake(py, py.None()))?;
        Self::occurred(run, Occurrence::Resumed)
    }

    /// Has the held events go their way, oldest first. What comes meanwhile is held behind them.
    pub fn release_held(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        loop {
            let (number, event, is_from_outside) = {
                let mut state = run.get().state.lock();
                if !state.core.is_release_due() {
                    return Ok(());
                }
                let Some((number, held)) = state.core.next_release() else { return Ok(()) };
                (number, held.event.clone_ref(py), held.is_from_outside)
            };
            let origin = Origin::Deferred { number, is_from_outside };
            if let Err(error) = Self::take_deferred(run, event.bind(py), origin) {
                Self::fail(run, error)?;
            }
        }
    }

    /// A step may have come again to where it waited: in the next pass of the loop what was held for it goes its
    /// way. By then its other tasks wait as well.
    pub fn release_soon(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        if !run.get().state.lock().core.is_release_due() {
            return Ok(());
        }
        let release = run.getattr(intern!(py, "_release_held"))?;
        run.get().call_in_next_pass(release)
    }

    /// As [`Run::resume_now`], and starts what is ready and due.
    pub fn go_on_here(run: &Bound<'_, Self>) -> PyResult<()> {
        {
            let state = run.get().state.lock();
            if state.core.phase() != Phase::Running || !state.core.is_paused() {
                return Ok(());
            }
        }
        Self::observe(run, Happened::RunResumed);
        Self::resume_now(run)?;
        Self::expire(run)?;
        Self::arm_timer(run)?;
        Self::wake_lanes(run)?;
        Self::check_stalled(run)
    }

    /// Starts no more steps, on the run's own thread; those in flight may finish.
    pub fn pause_here(run: &Bound<'_, Self>) -> PyResult<()> {
        let is_paused = run.get().state.lock().core.pause().is_ok();
        if !is_paused {
            return Ok(());
        }
        Self::observe(run, Happened::RunPaused);
        Self::occurred(run, Occurrence::Paused)
    }

    /// That the run is over, or its event loop closed, as an error.
    fn check_goes_on(run: &Bound<'_, Self>, call: &str) -> PyResult<()> {
        if run.get().state.lock().core.phase() != Phase::Running {
            return Err(error::run_ended(&run.get().id_text(), call));
        }
        if is_closed(run.get().event_loop.bind(run.py()))? {
            return Err(error::loop_closed(&run.get().id_text()));
        }
        Ok(())
    }
}

#[pymethods]
impl Run {
    /// Starts no more steps. Await what it gives for the moment when those in flight have finished, or wait.
    #[pyo3(signature = (*, wait = true))]
    fn pause(slf: &Bound<'_, Self>, wait: bool) -> PyResult<Pause> {
        Self::check_goes_on(slf, "pause")?;
        if Self::forward_pause(slf, true)? {
            return Ok(Pause { run: slf.clone().unbind(), future: Mutex::default() });
        }
        {
            let mut state = slf.get().state.lock();
            if state.core.pause().is_err() {
                drop(state);
                return Err(error::run_ended(&slf.get().id_text(), "pause"));
            }
            state.stops_steps |= !wait;
        }
        Self::observe(slf, Happened::RunPaused);
        Self::occurred(slf, Occurrence::Paused)?;
        if !wait {
            Self::stop_steps(slf)?;
        }
        Ok(Pause { run: slf.clone().unbind(), future: Mutex::default() })
    }

    /// Starts no more steps, so that the run can go on in another process; await what it gives as of `pause`.
    /// With `stop`, steps in flight are cancelled, to run again there.
    #[pyo3(signature = (*, stop))]
    fn _drain(slf: &Bound<'_, Self>, stop: bool) -> PyResult<Pause> {
        {
            let mut state = slf.get().state.lock();
            state.core.drain();
            state.stops_steps |= stop;
        }
        Self::stop_steps(slf)?;
        Ok(Pause { run: slf.clone().unbind(), future: Mutex::default() })
    }

    /// Goes on after a pause.
    fn resume(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        Self::check_goes_on(slf, "resume")?;
        if Self::forward_pause(slf, false)? {
            return Ok(());
        }
        if slf.get().is_on_its_thread() {
            return Self::go_on_here(slf);
        }
        slf.get().call_soon(py, (slf.getattr(intern!(py, "_go_on_here"))?,))
    }

    #[pyo3(name = "_go_on_here")]
    fn go_on_from_elsewhere(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::go_on_here(slf)
    }

    /// Called by the event loop.
    fn _release_held(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::release_held(slf)?;
        Self::wake_lanes(slf)?;
        Self::check_stalled(slf)
    }

    #[pyo3(name = "_stop_steps")]
    fn stop_steps_from_elsewhere(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::stop_steps(slf)
    }
}
