//! A lane goes on: it starts steps, and drives the coroutine of one until that is done or suspends.

use pyo3::prelude::*;
use pyo3::{ffi, intern};

use super::{At, Lane, Next, Stop};
use crate::python::context::Context;
use crate::python::coroutine::{Active, Entered, Resumed, Sent, awaited, current_task, guarded};
use crate::python::gate::{Entry, Gate, yielded};
use crate::python::lifecycle::Happened;
use crate::python::plan::Arguments;
use crate::python::run::Run;
use crate::python::{current, error};
use crate::writer::Occurrence;
use crate::{Phase, Progress, Started};

impl Lane {
    /// Runs steps until one is suspended or there is nothing left to do. The run knows that this step is on the stack.
    pub(super) fn drive(
        lane: &Bound<'_, Self>,
        run: &Bound<'_, Run>,
        mut active: Active,
        mut thrown: Option<PyErr>,
    ) -> PyResult<PyResult<Resumed>> {
        loop {
            let error = thrown.take();
            let was_thrown = error.is_some();
            let sent = guarded(|| match error {
                None => active.send(lane.py()),
                Some(error) => active.throw(lane.py(), error),
            });
            let sent = sent.unwrap_or_else(Sent::Raised);
            if !matches!(sent, Sent::Returned(_)) {
                run.get().state.lock().driving = None;
            }
            let finished = match sent {
                Sent::Yielded(object) => {
                    if was_thrown {
                        active.is_cancel_requested |= Self::note_cancelling(lane)?;
                    }
                    return Self::suspend(lane, run, active, object).map(|object| Ok(Resumed::Yielded(object)));
                }
                Sent::Returned(value) => Self::step_returned(lane, run, active, value.into_bound(lane.py()))?,
                Sent::Raised(error) => Self::step_raised(lane, run, active, error)?,
            };
            let next = match finished {
                Some(next) => next,
                None => Self::next(lane, run, Entry::Step)?,
            };
            match next {
                Next::Step(step) => active = step,
                Next::Yield(future) => return Ok(Ok(Resumed::Yielded(future))),
                Next::Finish(result) => return Ok(result),
            }
        }
    }

    /// The step waits for something: the lane's task is its own from now on.
    fn suspend(lane: &Bound<'_, Self>, run: &Bound<'_, Run>, active: Active, object: Py<PyAny>) -> PyResult<Py<PyAny>> {
        let is_registered = {
            let mut state = lane.get().state.lock();
            state.at = At::InStep(active);
            state.is_registered
        };
        if !is_registered {
            Self::register(lane, run)?;
        }
        let (phase, has_deadline, is_paused, stops_steps) = {
            let state = run.get().state.lock();
            (state.core.phase(), state.core.has_deadline(), state.core.is_held(), state.stops_steps)
        };
        if phase != Phase::Running {
            // The run ended while the step was on the stack, perhaps by the step itself.
            Self::stop(lane, Stop::RunEnding)?;
            return Ok(object);
        }
        if is_paused {
            if stops_steps {
                Self::stop(lane, Stop::Pausing)?;
            }
            Run::check_quiet(run)?;
            Run::rest(run)?;
            return Ok(object);
        }
        if has_deadline {
            Run::arm_timer(run)?;
        }
        Run::flush(run)?;
        let wanted = run.get().lanes_wanted();
        if wanted > 0 {
            Run::spawn_lanes(run, wanted)?;
        }
        Run::observe_waiting(run);
        Run::rest(run)?;
        Ok(object)
    }

    fn register(lane: &Bound<'_, Self>, run: &Bound<'_, Run>) -> PyResult<()> {
        let py = lane.py();
        // A worker knows its task, unless a task factory has begun it at once; no other task has cancelled it.
        let has_task = lane.get().state.lock().task.is_some();
        let task = if has_task { None } else { Some(current_task(py)?) };
        let before = match &task {
            Some(task) if !task.is_none() => task.call_method0(intern!(py, "cancelling"))?.extract()?,
            _ => 0,
        };
        let mut state = lane.get().state.lock();
        state.is_registered = true;
        state.cancelling_before = before;
        if let Some(task) = task {
            state.task = Some(task.unbind());
        }
        drop(state);
        run.get().state.lock().lanes.insert(lane.as_ptr() as usize, lane.clone().unbind());
        Ok(())
    }

    pub(super) fn finish(lane: &Bound<'_, Self>, run: &Bound<'_, Run>) -> PyResult<()> {
        let (at, task, was_registered) = {
            let mut state = lane.get().state.lock();
            let at = std::mem::replace(&mut state.at, At::Finished);
            (at, state.task.take(), std::mem::take(&mut state.is_registered))
        };
        // A step that is dropped in the middle runs its clean-up here.
        drop((at, task));
        if let Some(awaiting) = &lane.get().awaiting_run {
            let address = run.as_ptr() as usize;
            let mut state = awaiting.get().state.lock();
            let is_last = state.awaits.make().get_mut(&address).is_some_and(|(_, count)| {
                *count -= 1;
                *count == 0
            });
            let known = if is_last { state.awaits.make().remove(&address) } else { None };
            drop(state);
            drop(known);
        }
        if was_registered {
            let removed = run.get().state.lock().lanes.remove(&(lane.as_ptr() as usize));
            drop(removed);
        }
        Ok(())
    }

    /// What to do at the boundary between two steps.
    pub(super) fn next(lane: &Bound<'_, Self>, run: &Bound<'_, Run>, mut entry: Entry) -> PyResult<Next> {
        let py = lane.py();
        loop {
            let progress = run.get().state.lock().core.poll(|| run.get().now());
            match progress {
                Progress::Ended => return Self::at_end(lane, run, None),
                Progress::Release => {
                    Run::release_held(run)?;
                    continue;
                }
                Progress::Expired => {
                    Run::expire(run)?;
                    continue;
                }
                Progress::NoPlace => match Self::without_place(lane, run)? {
                    Some(next) => return Ok(next),
                    None => continue,
                },
                Progress::Ready | Progress::Paused | Progress::HeldBack | Progress::Stalled | Progress::Idle => {}
            }
            let event_loop = run.get().event_loop.bind(py);
            let gate = run.get().gate.bind(py);
            if !Gate::may_run(gate, event_loop, entry)? {
                Run::flush_begun(run)?;
                let future = Gate::park(gate, event_loop, entry)?;
                lane.get().state.lock().at = At::Parked;
                return yielded(future).map(Next::Yield);
            }
            entry = Entry::Step;
            if progress != Progress::Ready {
                match Self::idle(lane, run)? {
                    Some(next) => return Ok(next),
                    None => continue,
                }
            }
            let started = {
                let mut state = run.get().state.lock();
                let started = state.core.start_next(|| run.get().now());
                started.and_then(|started| {
                    let event = state.core.event(started.slot)?.clone_ref(py);
                    let context = state.base_context.as_ref()?.clone_ref(py);
                    state.driving = Some(started);
                    Some((started, event, context))
                })
            };
            // Another thread may have paused the run meanwhile.
            let Some((started, event, base)) = started else { continue };
            match Self::call_step(lane, run, started, event.bind(py), base.bind(py))? {
                Some(next) => return Ok(next),
                None => continue,
            }
        }
    }

    /// There is nothing to start: once all is written, a worker is done, and an awaiter goes on waiting. Gives nothing
    /// if there is something to do after all.
    fn idle(lane: &Bound<'_, Self>, run: &Bound<'_, Run>) -> PyResult<Option<Next>> {
        Run::flush(run)?;
        let progress = run.get().state.lock().core.poll(|| run.get().now());
        match progress {
            Progress::Ready | Progress::NoPlace | Progress::Release | Progress::Expired => return Ok(None),
            // Any other lane is done: one is made when the journal has answered.
            Progress::HeldBack if lane.get().is_awaiter => {
                if let Some(future) = Run::wait_for_journal(run)? {
                    lane.get().state.lock().at = At::HeldBack;
                    return yielded(future).map(|future| Some(Next::Yield(future)));
                }
            }
            Progress::Stalled => Run::fail(run, error::run_stalled(run.get()))?,
            Progress::Paused => {
                Run::check_quiet(run)?;
                Run::rest(run)?;
            }
            Progress::Idle => {
                Run::observe_waiting(run);
                Run::rest(run)?;
            }
            Progress::HeldBack | Progress::Ended => {}
        }
        Self::at_end(lane, run, None).map(Some)
    }

    /// There is something to start, and the run has no place. A lane of a run in memory waits for it, so that the run
    /// ends with its event loop; one with a journal is done, and another is made when the run has a place. Gives nothing
    /// if it has one after all.
    #[cold]
    fn without_place(lane: &Bound<'_, Self>, run: &Bound<'_, Run>) -> PyResult<Option<Next>> {
        Run::flush_begun(run)?;
        let is_done = run.get().state.lock().durable.is_some() && !lane.get().is_awaiter;
        if is_done || run.get().has_parked() {
            let has_place = Run::ask_for_place(run)?;
            return if has_place { Ok(None) } else { Self::at_end(lane, run, None).map(Some) };
        }
        let Some(future) = Run::wait_for_place(run, false)? else { return Ok(None) };
        if run.get().state.lock().core.has_deadline() {
            Run::arm_timer(run)?;
        }
        lane.get().state.lock().at = At::HeldBack;
        yielded(future).map(|future| Some(Next::Yield(future)))
    }

    /// Calls a step's function. Gives nothing if that was all of the step.
    fn call_step(
        lane: &Bound<'_, Self>,
        run: &Bound<'_, Run>,
        started: Started,
        event: &Bound<'_, PyAny>,
        base: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Next>> {
        let py = lane.py();
        let body = &run.get().plan.get().bodies[started.step.0 as usize];
        let function = body.function.bind(py);
        run.get().log(py, || {
            format!("starts step {:?}, attempt {}", run.get().plan.get().step_name(started.step), started.attempt)
        })?;
        Run::observe(run, Happened::StepStarted(&started));
        Run::occurred(run, Occurrence::Started)?;
        // SAFETY: `base` is a context object; a null result is an error that is fetched.
        let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_Copy(base.as_ptr())) }?;
        let is_wanted = current::is_step_wanted();
        let given = match body.arguments {
            Arguments::Event if !is_wanted => None,
            _ => Some(Context::new(run, &started)?.into_bound(py)),
        };
        let called = {
            // Nothing runs when a coroutine is made.
            let entered = if body.is_coroutine && !is_wanted { None } else { Some(Entered::new(&context)?) };
            if is_wanted && let Some(given) = &given {
                current::set_step(given)?;
            }
            let called = guarded(|| match body.arguments {
                Arguments::Event => function.call1((event,)),
                Arguments::ContextEvent => function.call1((&given, event)),
                Arguments::EventContext => function.call1((event, &given)),
            });
            drop(entered);
            called.unwrap_or_else(Err)
        };
        let active = |coroutine| Active {
            started,
            coroutine,
            context: context.clone().unbind(),
            // The context variables refer to it weakly.
            given: given.as_ref().filter(|_| is_wanted).map(|given| given.clone().unbind()),
            interrupted: false,
            is_cancel_requested: false,
        };
        match called {
            Ok(value) if body.awaitable => match awaited(&value) {
                Ok(coroutine) => Ok(Some(Next::Step(active(coroutine.unbind())))),
                Err(error) => {
                    run.get().state.lock().driving = None;
                    Self::step_raised(lane, run, active(value.unbind()), error)
                }
            },
            Ok(value) => Self::step_returned(lane, run, active(py.None()), value),
            Err(error) => {
                run.get().state.lock().driving = None;
                Self::step_raised(lane, run, active(py.None()), error)
            }
        }
    }
}
