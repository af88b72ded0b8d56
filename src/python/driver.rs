//! Driving a run: lanes, each of which runs one step at a time inside of one asyncio task.
//!
//! A lane calls a step's function and drives its coroutine right there, so that a step that does not wait
//! costs no task and no pass of the event loop. Once a step is really suspended, the task belongs to that
//! step until it is done, and other steps that are ready get lanes of their own. The first lane of a run is
//! that of whoever awaits it; if nobody does, it is a task.
//!
//! Cancellation follows `asyncio.timeout`: a lane that the engine stops is cancelled through its task and
//! takes that one request back (`uncancel`) when its step has unwound; any further request is somebody
//! else's, and goes on to whoever awaits.

use parking_lot::Mutex;
use pyo3::exceptions::asyncio::CancelledError;
use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyList;
use pyo3::{PyTraverseError, PyVisit, ffi, intern};

use super::context::Context;
use super::coroutine::{Active, Entered, Resumed, Sent, awaited, check_sent, current_task, guarded, thrown};
use super::current::{self, CurrentRun};
use super::error;
use super::failure;
use super::gate::{Entry, Gate, yielded};
use super::hook;
use super::plan::Arguments;
use super::run::Run;
use super::state::Outcome;
use super::unreferenced;
use super::wake::{self, Waker, is_closed};
use crate::writer::Occurrence;
use crate::{Origin, Phase, Progress, Route, Slot, Started};

/// Why the engine cancels the step of a lane.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    RunEnding,
    StepTimeout,
    /// The run is paused and the step is to run again later.
    Pausing,
}

/// One lane: what an asyncio task, or whoever awaits a run, iterates.
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
    OnStack,
    InStep(Active),
    Parked,
    // Waits until what it has to start may start.
    HeldBack,
    // Waits for the run to end; the error is raised then.
    WaitingForEnd(Py<PyAny>, Option<Py<PyBaseException>>),
    Finished,
}

/// What came of the cancellation of a lane's step.
#[derive(Default)]
struct Settled {
    // Why the engine cancelled it, if it did.
    stop: Option<Stop>,
    // Whether somebody else has asked for the same meanwhile.
    is_external: bool,
    // Whether anybody but the engine has asked for it.
    is_requested: bool,
}

enum Next {
    Step(Active),
    Yield(Py<PyAny>),
    Finish(PyResult<Resumed>),
}

impl Lane {
    fn new(run: Py<Run>, is_awaiter: bool, awaiting_run: Option<Py<Run>>) -> Self {
        let state = LaneState {
            at: At::Fresh,
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
        // A step on the stack is what awaits; a task that a step left behind is nobody's concern.
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

    /// Whether the lane runs this step now.
    pub fn runs(&self, slot: Slot) -> bool {
        matches!(&self.state.lock().at, At::InStep(active) if active.started.slot == slot)
    }

    /// Cancels the step of a suspended lane, once for each reason. A lane on the stack sees by itself, when
    /// its step is suspended, that its run is ending.
    pub fn stop(lane: &Bound<'_, Self>, why: Stop) -> PyResult<()> {
        let is_new = match lane.get().state.lock().stop {
            None => true,
            // A step that went on after a pause, or after its time was over, is stopped for the next reason.
            Some(Stop::Pausing) => why != Stop::Pausing,
            Some(Stop::StepTimeout) => why == Stop::RunEnding,
            Some(Stop::RunEnding) => false,
        };
        if is_new { Self::stop_again(lane, why) } else { Ok(()) }
    }

    /// As [`Lane::stop`], even if the step was cancelled for the same reason before.
    pub fn stop_again(lane: &Bound<'_, Self>, why: Stop) -> PyResult<()> {
        let py = lane.py();
        let (slot, task) = {
            let mut state = lane.get().state.lock();
            let At::InStep(active) = &state.at else { return Ok(()) };
            let slot = active.started.slot;
            state.stop = Some(why);
            (slot, state.task.as_ref().map(|task| task.clone_ref(py)))
        };
        if why == Stop::Pausing {
            lane.get().run.get().state.lock().core.stop(slot);
        }
        if let Some(task) = task.filter(|task| !task.is_none(py))
            && !Self::is_stopped_around(lane, &task)
        {
            lane.get().state.lock().own_requests += 1;
            task.call_method0(py, intern!(py, "cancel"))?;
        }
        Ok(())
    }

    /// Whether the step that awaits this lane's run, in the same task, is cancelled already because its own run ends:
    /// that reaches this lane, and is not the request of this lane.
    fn is_stopped_around(lane: &Bound<'_, Self>, task: &Py<PyAny>) -> bool {
        let Some(awaiting) = &lane.get().awaiting_run else { return false };
        let lanes = awaiting.get().lanes(lane.py());
        lanes.iter().any(|lane| {
            let state = lane.get().state.lock();
            state.stop == Some(Stop::RunEnding) && state.task.as_ref().is_some_and(|known| known.is(task))
        })
    }

    /// How many requests to cancel a task come from lanes of the runs that a step of this run awaits in that task.
    fn nested_requests(run: &Bound<'_, Run>, task: &Py<PyAny>) -> usize {
        let py = run.py();
        let awaited: Vec<_> = {
            let state = run.get().state.lock();
            state.awaits.get().into_iter().flat_map(|runs| runs.values()).map(|(run, _)| run.clone_ref(py)).collect()
        };
        let of_run = |run: &Py<Run>| {
            let lanes = run.get().lanes(py);
            let own = lanes.iter().map(|lane| {
                let state = lane.get().state.lock();
                if state.task.as_ref().is_some_and(|known| known.is(task)) { state.own_requests } else { 0 }
            });
            own.sum::<usize>() + Self::nested_requests(run.bind(py), task)
        };
        awaited.iter().map(of_run).sum()
    }

    pub fn resume(lane: &Bound<'_, Self>, thrown: Option<PyErr>) -> PyResult<Resumed> {
        let at = {
            let mut state = lane.get().state.lock();
            match state.at {
                At::OnStack => return Err(PyValueError::new_err("the run is being awaited already")),
                // The task of a lane that was closed may be woken still.
                At::Finished if !lane.get().is_awaiter => {
                    return thrown.map_or_else(|| Ok(Resumed::Returned(lane.py().None())), Err);
                }
                At::Finished => return Err(PyRuntimeError::new_err("this await of the run is over")),
                _ => std::mem::replace(&mut state.at, At::OnStack),
            }
        };
        let run = lane.get().run.bind(lane.py()).clone();
        let result = match guarded(|| Self::go_on(lane, &run, at, thrown)) {
            Ok(Ok(result)) => result,
            Ok(Err(error)) | Err(error) => {
                let error = hook::as_failure(lane.py(), "a hook", error);
                // First, so that the lane's own task is not cancelled with those of the others.
                Self::finish(lane, &run)?;
                Run::crash(&run, error.clone_ref(lane.py()))?;
                Err(error)
            }
        };
        if !matches!(result, Ok(Resumed::Yielded(_))) {
            Self::finish(lane, &run)?;
        }
        result
    }

    /// Goes on from where the lane was. The outer error is one of the engine or the event loop; the inner
    /// result is for whoever awaits.
    fn go_on(
        lane: &Bound<'_, Self>,
        run: &Bound<'_, Run>,
        at: At,
        thrown: Option<PyErr>,
    ) -> PyResult<PyResult<Resumed>> {
        let mut entry = Entry::Step;
        let mut next = match at {
            At::InStep(active) => return Self::drive(lane, run, active, thrown),
            At::Fresh => {
                let begun = Self::begin(lane, run, thrown)?;
                if begun.is_none() && run.get().is_new() {
                    entry = Entry::NewRun;
                }
                begun
            }
            at @ (At::Parked | At::HeldBack) => {
                if matches!(at, At::Parked) {
                    entry = Entry::LetThrough;
                }
                match thrown {
                    Some(error) => Some(Self::interrupted(lane, run, error)?),
                    None => None,
                }
            }
            At::WaitingForEnd(future, pending) => match thrown {
                Some(error) => {
                    run.get().remove_waiter(&future);
                    Some(Self::interrupted(lane, run, error)?)
                }
                None => {
                    let pending = pending.map(|error| PyErr::from_value(error.into_bound(lane.py()).into_any()));
                    Some(Self::at_end(lane, run, pending)?)
                }
            },
            At::OnStack | At::Finished => None,
        };
        if next.is_none() {
            next = Some(Self::next(lane, run, entry)?);
        }
        match next {
            Some(next) => Self::perform(lane, run, next),
            None => Ok(Ok(Resumed::Returned(lane.py().None()))),
        }
    }

    fn perform(lane: &Bound<'_, Self>, run: &Bound<'_, Run>, next: Next) -> PyResult<PyResult<Resumed>> {
        match next {
            Next::Step(active) => Self::drive(lane, run, active, None),
            Next::Yield(future) => Ok(Ok(Resumed::Yielded(future))),
            Next::Finish(result) => Ok(result),
        }
    }

    /// The lane's first resumption. Gives nothing if it is to run steps.
    fn begin(lane: &Bound<'_, Self>, run: &Bound<'_, Run>, thrown: Option<PyErr>) -> PyResult<Option<Next>> {
        let py = lane.py();
        if !lane.get().is_awaiter {
            let mut state = run.get().state.lock();
            state.scheduled = state.scheduled.saturating_sub(1);
            drop(state);
            return thrown.map(|error| Self::interrupted(lane, run, error)).transpose();
        }
        if let Some(error) = thrown {
            return Self::interrupted(lane, run, error).map(Some);
        }
        let (is_over, is_fresh, is_detached) = {
            let state = run.get().state.lock();
            (state.is_over, !state.started && run.get().is_on_its_thread(), state.detached)
        };
        if is_over {
            return Ok(Some(Next::Finish(Self::give_result(run))));
        }
        let event_loop = wake::running_loop(py)?;
        let is_its_loop = event_loop.is(&run.get().event_loop);
        if is_fresh && is_its_loop {
            run.get().gate.get().forget_run(run);
            if !is_detached {
                let mut state = run.get().state.lock();
                (state.started, state.driven_by_awaiter) = (true, true);
                drop(state);
                lane.get().state.lock().drives = true;
                return Ok(None);
            }
            // The end of the awaiter must not touch a step.
            Run::start_in_task(run)?;
        }
        if !is_its_loop && is_closed(run.get().event_loop.bind(py))? {
            return Ok(Some(Next::Finish(Err(error::loop_closed(&run.get().id_text())))));
        }
        Self::at_end(lane, run, None).map(Some)
    }

    /// Runs steps until one is suspended or there is nothing left to do.
    fn drive(
        lane: &Bound<'_, Self>,
        run: &Bound<'_, Run>,
        mut active: Active,
        mut thrown: Option<PyErr>,
    ) -> PyResult<PyResult<Resumed>> {
        loop {
            run.get().state.lock().driving = Some(active.started);
            let error = thrown.take();
            let was_thrown = error.is_some();
            let sent = guarded(|| match error {
                None => active.send(lane.py()),
                Some(error) => active.throw(lane.py(), error),
            });
            let sent = sent.unwrap_or_else(Sent::Raised);
            run.get().state.lock().driving = None;
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
        Ok(object)
    }

    fn register(lane: &Bound<'_, Self>, run: &Bound<'_, Run>) -> PyResult<()> {
        let py = lane.py();
        // A worker knows its task, unless a task factory has begun it at once; nobody else has cancelled it.
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

    fn finish(lane: &Bound<'_, Self>, run: &Bound<'_, Run>) -> PyResult<()> {
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
    fn next(lane: &Bound<'_, Self>, run: &Bound<'_, Run>, mut entry: Entry) -> PyResult<Next> {
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
            Progress::Ready | Progress::Release | Progress::Expired => return Ok(None),
            Progress::HeldBack => {
                if let Some(future) = Run::wait_for_journal(run)? {
                    lane.get().state.lock().at = At::HeldBack;
                    return yielded(future).map(|future| Some(Next::Yield(future)));
                }
            }
            Progress::Stalled => Run::fail(run, error::run_stalled(run.get()))?,
            Progress::Paused => Run::check_quiet(run)?,
            Progress::Ended | Progress::Idle => {}
        }
        Self::at_end(lane, run, None).map(Some)
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
        Run::occurred(run, Occurrence::Started)?;
        // SAFETY: `base` is a context object; a null result is an error that is fetched.
        let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_Copy(base.as_ptr())) }?;
        let is_wanted = current::is_step_wanted();
        let given = match body.arguments {
            Arguments::Event if !is_wanted => None,
            _ => Some(Context::new(run, &started)?.into_bound(py)),
        };
        let called = {
            let entered = Entered::new(&context)?;
            if is_wanted && let Some(given) = &given {
                current::set_step(given)?;
            }
            if !body.awaitable {
                run.get().state.lock().driving = Some(started);
            }
            let called = guarded(|| match body.arguments {
                Arguments::Event => function.call1((event,)),
                Arguments::ContextEvent => function.call1((&given, event)),
                Arguments::EventContext => function.call1((event, &given)),
            });
            let called = called.unwrap_or_else(Err);
            if !body.awaitable {
                run.get().state.lock().driving = None;
            }
            drop(entered);
            called
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
                Err(error) => Self::step_raised(lane, run, active(value.unbind()), error),
            },
            Ok(value) => Self::step_returned(lane, run, active(py.None()), value),
            Err(error) => Self::step_raised(lane, run, active(py.None()), error),
        }
    }

    /// A step gave its result: what it emits is routed.
    fn step_returned(
        lane: &Bound<'_, Self>,
        run: &Bound<'_, Run>,
        active: Active,
        mut value: Bound<'_, PyAny>,
    ) -> PyResult<Option<Next>> {
        if active.interrupted {
            // A step that finishes in spite of a cancellation has decided so, as a coroutine may in a task.
            Self::settle_cancellation(lane)?;
        }
        let started = active.started;
        drop(active);
        let route = if value.is_none() || value.get_type_ptr() == (&raw mut ffi::PyList_Type) {
            None
        } else {
            Some(run.get().plan.get().route(&value))
        };
        let py = value.py();
        // The usual case under one lock: one event for the steps, and nothing that could keep it from them.
        if let Some(Route::Steps(kind)) = route {
            let origin = Origin::Returned(started.slot);
            let (routed, error) = {
                let mut state = run.get().state.lock();
                let routed = state.core.route_directly(origin, kind, value.unbind(), || run.get().now());
                let error = if routed.is_ok() { state.forget_error(started.slot.seq()) } else { None };
                (routed, error)
            };
            match routed {
                Ok(finished) => {
                    drop((finished, error));
                    Run::occurred(run, Occurrence::Finished)?;
                    return Ok(None);
                }
                Err(event) => value = event.into_bound(py),
            }
        }
        // First: a step because of which the run failed is not done, and runs again if the run is retried.
        if let Err(error) = Self::emit_returned(run, started, value) {
            let event = run.get().state.lock().core.event(started.slot).map(|event| event.clone_ref(lane.py()));
            error::record_place(lane.py(), &error, run.get(), &started, event.as_ref());
            Run::fail(run, error)?;
        }
        // Unless it is done with what it returned.
        let (finished, phase) = {
            let mut state = run.get().state.lock();
            state.core.stamp(|| run.get().now());
            let error = state.forget_error(started.slot.seq());
            ((state.core.finish_step(started.slot), error), state.core.phase())
        };
        drop(finished);
        Run::occurred(run, Occurrence::Finished)?;
        if phase == Phase::Ending {
            Run::try_finish(run)?;
        }
        Ok(None)
    }

    fn emit_returned(run: &Bound<'_, Run>, started: Started, value: Bound<'_, PyAny>) -> PyResult<()> {
        if value.is_none() {
            return Ok(());
        }
        let events = match value.cast_into_exact::<PyList>() {
            Ok(list) => list.iter().filter(|event| !event.is_none()).collect(),
            Err(error) => vec![error.into_inner()],
        };
        let from = || format!("step {:?} returned", run.get().plan.get().step_name(started.step));
        Run::emit_all(run, started.slot, events, &from)
    }

    /// A step raised.
    fn step_raised(
        lane: &Bound<'_, Self>,
        run: &Bound<'_, Run>,
        active: Active,
        error: PyErr,
    ) -> PyResult<Option<Next>> {
        let py = lane.py();
        let error = hook::of_step(py, "a step", error);
        let Settled { stop, is_external, is_requested } =
            if active.interrupted { Self::settle_cancellation(lane)? } else { Settled::default() };
        let is_requested = is_requested || active.is_cancel_requested;
        let started = active.started;
        drop(active);
        let is_cancellation = error.is_instance_of::<CancelledError>(py);
        if is_cancellation && stop == Some(Stop::StepTimeout) && !is_external {
            let timeout = error::step_timeout(run.get(), &started);
            return Self::step_failed(lane, run, started, timeout);
        }
        if !is_cancellation {
            let failed = Self::step_failed(lane, run, started, error)?;
            return if is_external { Self::cancelled_besides(lane, run, failed) } else { Ok(failed) };
        }
        let is_awaiter_cancelled = stop.is_none() && lane.get().is_awaiter && is_requested;
        if is_awaiter_cancelled && !Self::is_bound(lane, run)? {
            // The run is not bound to this awaiter: the step runs again elsewhere.
            Self::leave(lane, run);
            if Self::put_back(run, started)? {
                Run::spawn_lanes(run, 1)?;
            }
            return Ok(Some(Next::Finish(Err(error))));
        }
        if stop == Some(Stop::Pausing) && !is_external {
            Self::put_back(run, started)?;
            return Self::next(lane, run, Entry::Step).map(Some);
        }
        let mut raised_here = None;
        if stop != Some(Stop::RunEnding) {
            Run::end(run, Outcome::Cancelled)?;
            // A step that raises it of its own accord cancels the run, and not its awaiter.
            raised_here = Some(if is_awaiter_cancelled || !lane.get().is_awaiter {
                error
            } else {
                let cancelled = error::run_cancelled(&run.get().id_text());
                cancelled.set_cause(py, Some(error));
                cancelled
            });
        } else if is_requested {
            raised_here = Some(error::cancelled(&run.get().id_text()));
        }
        // Behind the end of the run: the step is not done, and runs again if the run is retried.
        let finished = run.get().state.lock().core.finish_step(started.slot);
        drop(finished);
        Run::try_finish(run)?;
        Self::at_end(lane, run, raised_here).map(Some)
    }

    /// A step failed in spite of a cancellation by somebody else, which stands.
    fn cancelled_besides(lane: &Bound<'_, Self>, run: &Bound<'_, Run>, failed: Option<Next>) -> PyResult<Option<Next>> {
        if matches!(failed, Some(Next::Finish(_))) {
            return Ok(failed);
        }
        Run::end(run, Outcome::Cancelled)?;
        Run::try_finish(run)?;
        Self::at_end(lane, run, Some(error::cancelled(&run.get().id_text()))).map(Some)
    }

    /// The step is to run again. Says whether it can: not if the run has ended meanwhile.
    fn put_back(run: &Bound<'_, Run>, started: Started) -> PyResult<bool> {
        let put_back = run.get().state.lock().core.put_back(started.slot);
        let is_queued = put_back.is_ok();
        drop(put_back);
        if !is_queued {
            Run::try_finish(run)?;
        }
        Ok(is_queued)
    }

    /// A step failed: it is tried again, or another step deals with it, or the run has failed. Gives nothing if
    /// the run goes on.
    fn step_failed(
        lane: &Bound<'_, Self>,
        run: &Bound<'_, Run>,
        started: Started,
        error: PyErr,
    ) -> PyResult<Option<Next>> {
        let py = lane.py();
        let mut raised_here = None;
        let (phase, event) = {
            let state = run.get().state.lock();
            (state.core.phase(), state.core.event(started.slot).map(|event| event.clone_ref(py)))
        };
        if phase != Phase::Running && error::is_end_of(py, &error, run.get()) {
            // The step went on after it had ended its own run, and stops there.
        } else if phase != Phase::Running {
            error::log_while_ending(py, run.get(), &started, &error);
        } else {
            match failure::handle(run, started, event.as_ref(), error)? {
                None => {
                    // What decided on it may have ended the run.
                    if run.get().state.lock().core.phase() != Phase::Running {
                        Run::try_finish(run)?;
                    }
                    return Ok(None);
                }
                Some(error) => {
                    let must_propagate = hook::ends_program(py, &error);
                    let propagated = (must_propagate && !lane.get().is_awaiter).then(|| error.clone_ref(py));
                    Run::fail(run, error)?;
                    if propagated.is_some() {
                        run.get().note_retrieved(py)?;
                    }
                    raised_here = propagated;
                }
            }
        }
        drop(event);
        let finished = run.get().state.lock().core.finish_step(started.slot);
        drop(finished);
        Run::try_finish(run)?;
        Self::at_end(lane, run, raised_here).map(Some)
    }

    /// Takes back the engine's own request to cancel the task, if there is one.
    fn settle_cancellation(lane: &Bound<'_, Self>) -> PyResult<Settled> {
        let py = lane.py();
        let (stop, own, task, before) = {
            let mut state = lane.get().state.lock();
            let task = state.task.as_ref().map(|task| task.clone_ref(py));
            (state.stop.take(), std::mem::take(&mut state.own_requests), task, state.cancelling_before)
        };
        // Without a task, whoever drives the coroutine by hand has thrown the cancellation in.
        let Some(task) = task.filter(|task| !task.is_none(py)) else {
            return Ok(Settled { stop, is_external: false, is_requested: stop.is_none() });
        };
        for _ in 0..own {
            task.call_method0(py, intern!(py, "uncancel"))?;
        }
        let requests: usize = task.call_method0(py, intern!(py, "cancelling"))?.extract(py)?;
        let is_requested = requests > before;
        Ok(Settled { stop, is_external: stop.is_some() && is_requested, is_requested })
    }

    /// Whether the end of this lane's awaiter ends the run.
    fn is_bound(lane: &Bound<'_, Self>, run: &Bound<'_, Run>) -> PyResult<bool> {
        let drives = lane.get().state.lock().drives;
        Ok(!lane.get().is_awaiter || Run::is_bound_to(run, drives)?)
    }

    /// Closes the step of a suspended lane of which the task is gone.
    pub fn close_step(lane: &Bound<'_, Self>) -> PyResult<()> {
        let py = lane.py();
        let run = lane.get().run.bind(py).clone();
        let at = std::mem::replace(&mut lane.get().state.lock().at, At::Finished);
        Self::finish(lane, &run)?;
        let At::InStep(active) = at else { return Ok(()) };
        let closed = active.coroutine.call_method0(py, intern!(py, "close"));
        let finished = run.get().state.lock().core.finish_step(active.started.slot);
        drop(finished);
        closed.map(|_| ())
    }

    /// The awaiter goes away, and the run goes on without it.
    fn leave(lane: &Bound<'_, Self>, run: &Bound<'_, Run>) {
        if std::mem::take(&mut lane.get().state.lock().drives) {
            run.get().state.lock().driven_by_awaiter = false;
        }
    }

    /// The step goes on although it was cancelled: it has dealt with the requests so far. Says whether there were
    /// any but the engine's.
    fn note_cancelling(lane: &Bound<'_, Self>) -> PyResult<bool> {
        let py = lane.py();
        let task = lane.get().state.lock().task.as_ref().map(|task| task.clone_ref(py));
        let Some(task) = task.filter(|task| !task.is_none(py)) else { return Ok(false) };
        let requests: usize = task.call_method0(py, intern!(py, "cancelling"))?.extract(py)?;
        let nested = Self::nested_requests(lane.get().run.bind(py), &task);
        let mut state = lane.get().state.lock();
        let others = requests.saturating_sub(state.own_requests + nested);
        Ok(others > std::mem::replace(&mut state.cancelling_before, others))
    }

    /// Something was thrown into a lane that runs no step.
    fn interrupted(lane: &Bound<'_, Self>, run: &Bound<'_, Run>, error: PyErr) -> PyResult<Next> {
        if Self::is_bound(lane, run)? {
            Run::forward_cancel(run)?;
            Run::end(run, Outcome::Cancelled)?;
            return Self::at_end(lane, run, Some(error));
        }
        Self::leave(lane, run);
        if run.get().state.lock().core.ready() > 0 {
            Run::wake_lanes(run)?;
        }
        Ok(Next::Finish(Err(error)))
    }

    /// Whoever awaits waits until the run is over; any other lane is done.
    fn at_end(lane: &Bound<'_, Self>, run: &Bound<'_, Run>, pending: Option<PyErr>) -> PyResult<Next> {
        let py = lane.py();
        let (is_over, has_deadline) = {
            let state = run.get().state.lock();
            (state.is_over, state.core.has_deadline())
        };
        if has_deadline {
            Run::arm_timer(run)?;
        }
        if !lane.get().is_awaiter {
            let pending = match pending {
                None if is_over => run.get().take_interrupt(py)?,
                pending => pending,
            };
            return Ok(Next::Finish(pending.map_or_else(|| Ok(Resumed::Returned(py.None())), Err)));
        }
        if is_over {
            return Ok(Next::Finish(pending.map_or_else(|| Self::give_result(run), Err)));
        }
        let waker = Waker::new(&wake::running_loop(py)?)?;
        let future = waker.future.bind(py).clone();
        run.get().add_waiter(waker);
        let pending = pending.map(|error| error.into_value(py));
        lane.get().state.lock().at = At::WaitingForEnd(future.clone().unbind(), pending);
        yielded(future).map(Next::Yield)
    }

    fn give_result(run: &Bound<'_, Run>) -> PyResult<Resumed> {
        run.get().result(run.py()).map(Resumed::Returned)
    }
}

#[pymethods]
impl Lane {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[getter]
    fn __name__(&self) -> String {
        format!("run of {}", self.run.get().plan.get().name)
    }

    #[getter]
    fn __qualname__(&self) -> String {
        self.__name__()
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        Resumed::to_next(slf.py(), Self::resume(slf, None))
    }

    /// As of a coroutine.
    fn send(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        check_sent(value)?;
        Resumed::to_sent(slf.py(), Self::resume(slf, None))
    }

    /// As of a coroutine.
    #[pyo3(signature = (exception, value = None, traceback = None))]
    fn throw(
        slf: &Bound<'_, Self>,
        exception: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let thrown = thrown(exception, value, traceback);
        Resumed::to_sent(slf.py(), Self::resume(slf, Some(thrown)))
    }

    /// As of a coroutine: the step is closed and the run is cancelled.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let at = {
            let mut state = slf.get().state.lock();
            match state.at {
                At::OnStack => return Err(PyValueError::new_err("the run is being awaited already")),
                _ => std::mem::replace(&mut state.at, At::Finished),
            }
        };
        let run = slf.get().run.bind(py).clone();
        Self::finish(slf, &run)?;
        Self::leave(slf, &run);
        match at {
            At::InStep(active) => {
                let closed = active.coroutine.call_method0(py, intern!(py, "close"));
                Run::end(&run, Outcome::Cancelled)?;
                let finished = run.get().state.lock().core.finish_step(active.started.slot);
                drop(finished);
                Run::try_finish(&run)?;
                closed.map(|_| ())
            }
            At::Parked | At::HeldBack => Run::end(&run, Outcome::Cancelled),
            At::WaitingForEnd(future, _) => {
                run.get().remove_waiter(&future);
                Ok(())
            }
            At::Fresh | At::OnStack | At::Finished => Ok(()),
        }
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<lane of {}>", error::shown(self.run.bind(py)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.run)?;
        visit.call(&self.awaiting_run)?;
        let Some(state) = self.state.try_lock() else { return Ok(()) };
        visit.call(&state.task)?;
        match &state.at {
            At::InStep(active) => {
                visit.call(&active.coroutine)?;
                visit.call(&active.given)?;
                visit.call(&active.context)
            }
            At::WaitingForEnd(future, error) => {
                visit.call(future)?;
                visit.call(error)
            }
            At::Fresh | At::OnStack | At::Parked | At::HeldBack | At::Finished => Ok(()),
        }
    }

    fn __clear__(&self) {
        let mut state = self.state.lock();
        let cleared = (std::mem::replace(&mut state.at, At::Finished), state.task.take());
        drop(state);
        drop(cleared);
    }
}
