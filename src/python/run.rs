//! One run in Python: the core's state machine with the event loop, the lanes and those who wait for it.
//!
//! The lock on [`State`] is never held across a call into Python, and nothing of Python is dropped under
//! it: both can run any code, and that code may use the same run.

use std::num::NonZeroU64;
use std::sync::atomic::AtomicBool;
use std::thread::{self, ThreadId};

use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::clock::{self, ManualClock, new_run_id};
use super::coroutine::{Resumed, check_sent, current_task, thrown};
use super::current::CurrentRun;
use super::driver::{Lane, Stop};
use super::durable::Durable;
use super::error;
use super::gate::Gate;
use super::hook;
use super::number;
use super::plan::Plan;
use super::reader::StreamReader;
use super::run_options::RunOptions;
use super::state::{Outcome, Python3, State};
use super::unreferenced;
use super::wake::{self, Waker, call_soon_threadsafe, is_closed};
use crate::writer::Occurrence;
use crate::{Deadline, Origin, Phase, Route, Run as CoreRun, RunId, Slot, Started, Time, WaitOver};

// Seconds. An event loop that is asked to wait for years may refuse; a timer that fires early is armed again.
const LONGEST_DELAY: f64 = 86_400.0;

/// A run of a workflow: awaitable, any number of times, for its result.
#[pyclass(frozen, weakref, module = "treadle")]
pub struct Run {
    pub plan: Py<Plan>,
    pub id: RunId,
    pub event_loop: Py<PyAny>,
    pub gate: Py<Gate>,
    thread: Mutex<ThreadId>,
    is_debug_logged: bool,
    // A clock that tests turn by hand.
    pub clock: Option<Py<ManualClock>>,
    pub is_watched: AtomicBool,
    pub state: Mutex<State>,
}

impl Run {
    /// Starts a run on the running event loop.
    pub fn start(plan: &Bound<'_, Plan>, event: Bound<'_, PyAny>, given: RunOptions) -> PyResult<Py<Self>> {
        let py = plan.py();
        let event_loop = wake::running_loop(py).map_err(|_| error::no_event_loop(&plan.get().name))?;
        let Route::Steps(kind) = plan.get().route(&event) else {
            return Err(error::unrouted_start(plan.get(), &event));
        };
        let clock = ManualClock::current(py)?;
        let has_deadline = plan.get().core.deadline.is_some() || given.limits.deadline.is_some();
        let created = if has_deadline { clock::now_by(clock.as_ref()) } else { 0 };
        let mut core = CoreRun::new(new_run_id()?, plan.get().core.clone(), created);
        given.put_into(&mut core);
        let run = Self::make(plan, &event_loop, core, clock)?;
        let delivered = run.get().state.lock().core.deliver(kind, event.unbind());
        drop(delivered);
        Self::enter(&run, &event_loop)?;
        run.get().log(py, || "was started".to_owned())?;
        Ok(run.unbind())
    }

    /// Goes on with a run of which the core was restored.
    pub fn go_on(plan: &Bound<'_, Plan>, core: CoreRun<Python3>, durable: Option<Box<Durable>>) -> PyResult<Py<Self>> {
        let py = plan.py();
        let event_loop = wake::running_loop(py).map_err(|_| error::no_event_loop(&plan.get().name))?;
        let core_is_paused = core.is_paused();
        let run = Self::make(plan, &event_loop, core, ManualClock::current(py)?)?;
        // Whoever resumes a snapshot wants it to run. A journal is asked by nobody: what was paused stays so.
        let stays_paused = durable.is_some() && core_is_paused;
        if durable.is_some() {
            let mut state = run.get().state.lock();
            state.durable = durable;
            state.detached = true;
            drop(state);
            run.get().watch();
        }
        if !stays_paused {
            Self::resume_now(&run)?;
        }
        Self::enter(&run, &event_loop)?;
        Self::arm_timer(&run)?;
        run.get().log(py, || "goes on".to_owned())?;
        Ok(run.unbind())
    }

    pub fn make<'py>(
        plan: &Bound<'py, Plan>,
        event_loop: &Bound<'py, PyAny>,
        core: CoreRun<Python3>,
        clock: Option<Py<ManualClock>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = plan.py();
        let run = Self {
            plan: plan.clone().unbind(),
            id: core.id(),
            event_loop: event_loop.clone().unbind(),
            gate: Gate::of(event_loop)?.unbind(),
            thread: Mutex::new(thread::current().id()),
            is_debug_logged: error::is_debug_logged(py)?,
            clock,
            is_watched: AtomicBool::new(false),
            state: Mutex::new(State::new(core)),
        };
        let run = Bound::new(py, run)?;
        let base = CurrentRun::new_context(&run)?;
        run.get().state.lock().base_context = Some(base);
        Ok(run)
    }

    /// The run belongs to the step that started it, if one did, and waits for its turn on the event loop.
    pub fn enter(run: &Bound<'_, Self>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Some(parent) = CurrentRun::get(run.py())?
            && !run.get().state.lock().detached
        {
            Self::adopt(&parent, run);
        }
        Gate::add_run(run.get().gate.bind(run.py()), event_loop, run.clone().unbind())
    }

    /// The time now, in microseconds since the Unix epoch.
    #[inline]
    pub fn now(&self) -> Time {
        clock::now_by(self.clock.as_ref())
    }

    /// When the first body of a delivery in flight began, if anybody looked at the clock.
    pub fn since(&self, started: Started) -> Option<Time> {
        let state = self.state.lock();
        state.core.delivery(started.slot).and_then(|delivery| delivery.since).map(NonZeroU64::get)
    }

    /// Registers a child, which is cancelled with its parent.
    fn adopt(parent: &Bound<'_, Self>, child: &Bound<'_, Self>) {
        let mut state = parent.get().state.lock();
        if state.core.phase() == Phase::Running {
            state.children.make().insert(child.as_ptr() as usize, child.clone().unbind());
            drop(state);
            child.get().state.lock().parent = Some(parent.clone().unbind());
        }
    }

    /// Gives the run a task of its own, unless somebody drives it already.
    pub fn start_in_task(run: &Bound<'_, Self>) -> PyResult<()> {
        let started = std::mem::replace(&mut run.get().state.lock().started, true);
        if started { Ok(()) } else { Self::spawn_lanes(run, 1) }
    }

    /// Makes lanes, each with a task of its own.
    pub fn spawn_lanes(run: &Bound<'_, Self>, count: usize) -> PyResult<()> {
        if count > 0 {
            unreferenced::guard(run)?;
        }
        for _ in 0..count {
            run.get().state.lock().scheduled += 1;
            if let Err(error) = Lane::spawn(run) {
                run.get().state.lock().scheduled -= 1;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Has somebody take up deliveries that are ready: called after anything but a lane of this run on the
    /// stack made them so. A lane on the stack looks for itself when its step is suspended or done.
    pub fn wake_lanes(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        if !run.get().is_on_its_thread() {
            return run.get().call_soon(py, (run.getattr(intern!(py, "_wake_lanes"))?,));
        }
        let count = run.get().lanes_wanted();
        Self::spawn_lanes(run, count)
    }

    /// Fails the run if nothing can ever happen any more.
    pub fn check_stalled(run: &Bound<'_, Self>) -> PyResult<()> {
        let is_stalled = {
            let state = run.get().state.lock();
            state.started && state.driving.is_none() && state.scheduled == 0 && state.core.is_stalled()
        };
        if is_stalled { Self::fail(run, error::run_stalled(run.get())) } else { Ok(()) }
    }

    /// A wait has ended. If no step is in flight, it was the wait of a task that a step left behind, which
    /// may do something in the next pass of the loop; if it does not, the run can go nowhere.
    pub fn wait_ended(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        let may_be_stalled = run.get().state.lock().core.is_stalled();
        if !may_be_stalled || is_closed(run.get().event_loop.bind(py))? {
            return Ok(());
        }
        run.get().call_soon(py, (run.getattr(intern!(py, "_check_stalled"))?,))
    }

    /// How many more lanes there should be: as many again as are suspended, so that a fan-out of workers
    /// that wait gets its lanes in a few passes of the loop, and one of workers that do not gets none.
    pub fn lanes_wanted(&self) -> usize {
        let state = self.state.lock();
        if state.driving.is_some() || !state.started || state.core.phase() != Phase::Running {
            return 0;
        }
        let most = (state.core.in_flight() as usize).max(1);
        state.core.ready().min(most).saturating_sub(state.scheduled)
    }

    /// The lanes that were suspended inside of a step.
    pub fn lanes(&self, py: Python<'_>) -> Vec<Py<Lane>> {
        self.state.lock().lanes.values().map(|lane| lane.clone_ref(py)).collect()
    }

    /// Whether the run is at its beginning, and was not started by a step of another run.
    pub fn is_new(&self) -> bool {
        let state = self.state.lock();
        state.parent.is_none() && state.core.in_flight() == 0
    }

    /// Logs what happens, if somebody listens.
    #[inline]
    pub fn log(&self, py: Python<'_>, what: impl FnOnce() -> String) -> PyResult<()> {
        if self.is_debug_logged { error::log_debug(py, self, &what()) } else { Ok(()) }
    }

    /// Whether the run's event loop is that of this thread.
    #[inline]
    pub fn is_on_its_thread(&self) -> bool {
        thread::current().id() == *self.thread.lock() || self.has_moved_here()
    }

    /// A loop that does not run at the moment may go on in another thread.
    #[cold]
    fn has_moved_here(&self) -> bool {
        let is_here = Python::try_attach(|py| wake::running_loop(py).is_ok_and(|running| running.is(&self.event_loop)));
        if is_here == Some(true) {
            *self.thread.lock() = thread::current().id();
        }
        is_here == Some(true)
    }

    pub fn id_text(&self) -> String {
        self.id.to_string()
    }

    /// The first `StopEvent` ends the run, and with that the entry of the inbox is dealt with that it was.
    pub fn stop(run: &Bound<'_, Self>, event: &Bound<'_, PyAny>, entry: Option<u64>) -> PyResult<()> {
        let py = run.py();
        if !run.get().is_on_its_thread() {
            return run.get().call_soon(py, (run.getattr(intern!(py, "_stop"))?, event, entry));
        }
        let is_plain = event.get_type_ptr() == run.get().plan.get().stop_event.as_ptr().cast();
        let result = if is_plain { event.getattr(intern!(py, "result"))? } else { event.clone() };
        Self::end_by(run, Outcome::Result(result.unbind()), entry)
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

    /// Ends the run with a failure.
    pub fn fail(run: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let py = run.py();
        let error = error::made(py, error);
        let error = hook::as_failure(py, "a hook", error);
        if run.get().state.lock().core.phase() == Phase::Running {
            let unretrieved = error::unretrieved(py, run.get(), &error)?;
            let replaced = run.get().state.lock().unretrieved.replace(unretrieved);
            drop(replaced);
        }
        Self::end(run, Outcome::failed(py, error))
    }

    /// The engine or the event loop failed in the middle of something: the run is over at once. Steps that
    /// are suspended are cancelled, but not waited for.
    pub fn crash(run: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        Self::fail(run, error)?;
        if run.get().state.lock().core.phase() == Phase::Ended {
            return Ok(());
        }
        let deliveries = run.get().state.lock().core.abandon();
        drop(deliveries);
        Self::finish(run)
    }

    /// The outcome is known: what waits is dropped, what runs is cancelled. A second outcome is ignored.
    pub fn end(run: &Bound<'_, Self>, outcome: Outcome) -> PyResult<()> {
        Self::end_by(run, outcome, None)
    }

    /// As [`Run::end`], by an entry of the inbox.
    fn end_by(run: &Bound<'_, Self>, outcome: Outcome, entry: Option<u64>) -> PyResult<()> {
        let py = run.py();
        let (remains, lanes, children, waiting) = {
            let mut state = run.get().state.lock();
            if let Some(entry) = entry {
                state.core.consume(entry);
            }
            let Some(remains) = state.core.begin_end() else {
                drop(state);
                drop(outcome);
                return Ok(());
            };
            state.outcome = Some(outcome);
            let lanes: Vec<_> = state.lanes.values().map(|lane| lane.clone_ref(py)).collect();
            let children: Vec<_> = state.children(py);
            (remains, lanes, children, state.memo_waiters.take())
        };
        // One that fails must not keep the others from being told.
        let has_journal = run.get().state.lock().durable.is_some();
        let mut told = if has_journal { Self::let_start(run) } else { Ok(()) };
        for waiter in &remains.waiters {
            told = told.and(waiter.waker.cancel(py));
        }
        drop(remains);
        for lane in lanes {
            told = told.and(Lane::stop(lane.bind(py), Stop::RunEnding));
        }
        for child in children {
            told = told.and(Self::cancel(child.bind(py)).map(|_| ()));
        }
        told = told.and(Self::memos_lost(run, waiting));
        told.and(Self::try_finish(run))
    }

    /// Once the last step and the last child have stopped, the run is over.
    pub fn try_finish(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        if !run.get().is_on_its_thread() {
            return run.get().call_soon(py, (run.getattr(intern!(py, "_try_finish"))?,));
        }
        if !Self::close_resources(run)? {
            return Ok(());
        }
        {
            let mut state = run.get().state.lock();
            if state.children.get().is_some_and(|children| !children.is_empty()) || !state.core.try_end() {
                return Ok(());
            }
        }
        Self::finish_written(run)
    }

    /// Closes the run's resources once nothing can use them any more. Says whether all are closed; if not,
    /// the keeper calls `_try_finish` when they are. A completed run fails with an error of closing.
    fn close_resources(run: &Bound<'_, Self>) -> PyResult<bool> {
        let py = run.py();
        let (keeper, failure) = {
            let state = run.get().state.lock();
            let Some(keeper) = &state.keeper else { return Ok(true) };
            if state.core.phase() != Phase::Ending
                || state.core.in_flight() > 0
                || state.children.get().is_some_and(|children| !children.is_empty())
            {
                return Ok(false);
            }
            let failure = match &state.outcome {
                Some(Outcome::Result(_)) => None,
                Some(Outcome::Failed(exception, _)) => Some(exception.clone_ref(py)),
                Some(Outcome::Cancelled) | None => Some(error::cancelled(&run.get().id_text()).into_value(py)),
            };
            (keeper.clone_ref(py), failure)
        };
        match keeper.call_method1(py, intern!(py, "close"), (failure,)) {
            Ok(is_closed) if !is_closed.is_truthy(py)? => return Ok(false),
            Ok(_) => {}
            Err(error) => {
                let error = hook::as_failure(py, "closing a resource", error);
                let unretrieved = error::unretrieved(py, run.get(), &error)?;
                let outcome = Outcome::failed(py, error);
                let mut state = run.get().state.lock();
                let replaced = (state.outcome.replace(outcome), state.unretrieved.replace(unretrieved));
                drop(state);
                drop(replaced);
            }
        }
        let closed = run.get().state.lock().keeper.take();
        drop((closed, keeper));
        Ok(true)
    }

    /// The run is over: those who wait for that are told.
    pub fn finish(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        let (guard, waiters, pausers, readers, parent, timer, base, keeper, errors) = {
            let mut state = run.get().state.lock();
            let state = &mut *state;
            state.is_over = true;
            (
                state.guard.take(),
                std::mem::take(&mut state.waiters),
                std::mem::take(&mut state.pausers),
                std::mem::take(&mut state.readers),
                state.parent.take(),
                state.timer.take(),
                state.base_context.take(),
                state.keeper.take(),
                state.last_errors.take(),
            )
        };
        drop((base, errors));
        if let Some(guard) = guard {
            unreferenced::disarm(&guard.into_bound(py))?;
        }
        run.get().log(py, || run.get().status().to_owned())?;
        if let Some((_, handle)) = timer {
            handle.call_method0(py, intern!(py, "cancel"))?;
        }
        // It is still there if the run was over at once: its resources are closed, but not waited for.
        let mut told = keeper.map_or(Ok(()), |keeper| keeper.call_method0(py, intern!(py, "abandon")).map(|_| ()));
        let journal = run.get().state.lock().durable.as_ref().map(|durable| durable.journal.clone_ref(py));
        if let Some(journal) = journal {
            told = told.and(journal.get().ended(run));
        }
        for waker in waiters.iter().chain(&pausers).chain(&readers) {
            told = told.and(waker.wake(py, py.None()));
        }
        match parent {
            Some(parent) => told.and(Self::child_ended(parent.bind(py), run)),
            None => told,
        }
    }

    /// Cancels the children that run in other threads.
    pub fn cancel_children_elsewhere(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        let children: Vec<_> = run.get().state.lock().children(py);
        let elsewhere = children.iter().filter(|child| !child.get().is_on_its_thread());
        elsewhere.map(|child| child.bind(py)).try_for_each(|child| Self::cancel(child).map(|_| ()))
    }

    fn child_ended(parent: &Bound<'_, Self>, child: &Bound<'_, Self>) -> PyResult<()> {
        let removed = parent.get().state.lock().children.make().remove(&(child.as_ptr() as usize));
        drop(removed);
        Self::try_finish(parent)
    }

    /// Why the run failed, if that ends the program and nobody awaits the run: whoever is asked first raises it.
    #[cold]
    pub fn take_interrupt(&self, py: Python<'_>) -> PyResult<Option<PyErr>> {
        let failure = {
            let state = self.state.lock();
            match &state.outcome {
                Some(Outcome::Failed(exception, _)) if state.unretrieved.is_some() && state.waiters.is_empty() => {
                    PyErr::from_value(exception.bind(py).clone().into_any())
                }
                _ => return Ok(None),
            }
        };
        if !hook::ends_program(py, &failure) {
            return Ok(None);
        }
        self.note_retrieved(py)?;
        Ok(Some(failure))
    }

    /// Somebody was given why the run failed: nobody else needs to be told.
    pub fn note_retrieved(&self, py: Python<'_>) -> PyResult<()> {
        let unretrieved = self.state.lock().unretrieved.take();
        unretrieved.map_or(Ok(()), |unretrieved| unretrieved.setattr(py, intern!(py, "error"), py.None()))
    }

    /// What awaiting the run gives, once it is over.
    pub fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (exception, traceback) = {
            let state = self.state.lock();
            match &state.outcome {
                Some(Outcome::Result(result)) => return Ok(result.clone_ref(py)),
                Some(Outcome::Failed(exception, traceback)) => {
                    (exception.clone_ref(py), traceback.as_ref().map(|tb| tb.clone_ref(py)))
                }
                Some(Outcome::Cancelled) | None => return Err(error::run_cancelled(&self.id_text())),
            }
        };
        self.note_retrieved(py)?;
        let error = PyErr::from_value(exception.into_bound(py).into_any());
        error.set_traceback(py, traceback.map(|tb| tb.into_bound(py)));
        Err(error)
    }

    /// Whether the run is cancelled with one of its awaiters: it is bound to the last one that is left.
    pub fn is_bound_to(run: &Bound<'_, Self>, drives: bool) -> PyResult<bool> {
        let py = run.py();
        let others: Vec<_> = {
            let state = run.get().state.lock();
            if state.detached || (state.driven_by_awaiter && !drives) {
                return Ok(false);
            }
            state.waiters.iter().map(|waker| waker.clone_ref(py)).collect()
        };
        for other in others {
            // One that was cancelled in the same pass of the loop has a future that is done.
            if !other.is_gone(py)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds somebody who waits for the end.
    pub fn add_waiter(&self, waker: Waker) {
        self.state.lock().waiters.push(waker);
    }

    /// Forgets somebody who waited for the end.
    pub fn remove_waiter(&self, future: &Py<PyAny>) {
        let mut state = self.state.lock();
        let found = state.waiters.iter().position(|waker| waker.future.is(future));
        let removed = found.map(|at| state.waiters.swap_remove(at));
        drop(state);
        drop(removed);
    }

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

    /// Goes on with the lane of the current task, of which the run is the coroutine.
    fn resume_task(run: &Bound<'_, Self>, thrown: Option<PyErr>) -> PyResult<Resumed> {
        let py = run.py();
        let task = current_task(py)?.as_ptr() as usize;
        let known = run.get().state.lock().task_lanes.get().and_then(|lanes| Some(lanes.get(&task)?.clone_ref(py)));
        let lane = match known {
            Some(lane) => lane,
            None => Lane::for_awaiter(run)?,
        };
        let result = Lane::resume(lane.bind(py), thrown);
        let mut state = run.get().state.lock();
        let replaced = if matches!(result, Ok(Resumed::Yielded(_))) {
            state.task_lanes.make().insert(task, lane)
        } else {
            state.task_lanes.make().remove(&task)
        };
        drop(state);
        drop(replaced);
        result
    }

    /// Whether a lane of the run is on the stack of this thread.
    pub fn is_on_stack(&self) -> bool {
        self.is_on_its_thread() && self.state.lock().driving.is_some()
    }

    /// Whether steps of a run await another, or await one that does, and so on.
    pub fn waits_for(run: &Bound<'_, Self>, other: &Bound<'_, Self>) -> bool {
        let py = run.py();
        let mut asked = vec![run.clone()];
        let mut at = 0;
        while let Some(next) = asked.get(at).cloned() {
            let awaited: Vec<_> =
                next.get().state.lock().awaits.make().values().map(|(run, _)| run.clone_ref(py)).collect();
            for run in awaited {
                let run = run.into_bound(py);
                if run.is(other) {
                    return true;
                }
                if !asked.iter().any(|known| known.is(&run)) {
                    asked.push(run);
                }
            }
            at += 1;
        }
        false
    }

    /// Cancels the run, on its own thread.
    pub fn cancel_here(run: &Bound<'_, Self>) -> PyResult<()> {
        Self::cancel_now(run)
    }

    fn cancel_now(run: &Bound<'_, Self>) -> PyResult<()> {
        if run.get().state.lock().core.phase() == Phase::Ending {
            // Asked again: a step may have caught the first cancellation.
            let py = run.py();
            let lanes = run.get().lanes(py);
            return lanes.iter().try_for_each(|lane| Lane::stop_again(lane.bind(py), Stop::RunEnding));
        }
        let unstarted = !std::mem::replace(&mut run.get().state.lock().started, true);
        if unstarted {
            run.get().gate.get().forget_run(run);
        }
        Self::end(run, Outcome::Cancelled)
    }
}

/// For which step in flight an event is under way to another thread.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct Given(Mutex<Option<Slot>>);

impl Given {
    pub fn new(slot: Slot) -> Self {
        Self(Mutex::new(Some(slot)))
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

#[pymethods]
impl Run {
    /// The run's UUID (version 7) as a string.
    #[getter]
    fn id(&self) -> String {
        self.stands_for().map_or_else(|| self.id_text(), |id| id.to_string())
    }

    /// The name of the run's workflow.
    #[getter]
    fn workflow(&self) -> &str {
        &self.plan.get().name
    }

    /// "running", "paused", "completed", "failed" or "cancelled".
    #[getter]
    fn status(&self) -> &'static str {
        let state = self.state.lock();
        match (state.core.phase(), &state.outcome) {
            (Phase::Running, _) if state.core.is_paused() => "paused",
            _ if !state.is_over => "running",
            (Phase::Running | Phase::Ending, _) => "running",
            (Phase::Ended, Some(Outcome::Result(_))) => "completed",
            (Phase::Ended, Some(Outcome::Failed(..))) => "failed",
            (Phase::Ended, Some(Outcome::Cancelled) | None) => "cancelled",
        }
    }

    #[getter]
    fn __name__(&self) -> String {
        format!("run of {}", self.plan.get().name)
    }

    #[getter]
    fn __qualname__(&self) -> String {
        self.__name__()
    }

    fn __await__(slf: &Bound<'_, Self>) -> PyResult<Py<Lane>> {
        Lane::for_awaiter(slf)
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        Resumed::to_next(slf.py(), Self::resume_task(slf, None))
    }

    /// As of a coroutine, so that a task can be made of the run.
    fn send(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        check_sent(value)?;
        Resumed::to_sent(slf.py(), Self::resume_task(slf, None))
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
        Resumed::to_sent(slf.py(), Self::resume_task(slf, Some(thrown)))
    }

    /// As of a coroutine: cancels the run.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::cancel(slf).map(|_| ())
    }

    /// The events that the run publishes, from behind the one numbered `after`, or else all that were published
    /// since this object was made.
    #[pyo3(signature = (after = None))]
    fn stream_events(slf: &Bound<'_, Self>, after: Option<&Bound<'_, PyAny>>) -> PyResult<StreamReader> {
        let after = match after {
            Some(after) => number::position("after", after)?,
            None => slf.get().state.lock().core.stream().elsewhere(),
        };
        Ok(StreamReader::new(slf.clone().unbind(), after))
    }

    /// Sends an event into the run.
    fn send_event(slf: &Bound<'_, Self>, event: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        if slf.get().state.lock().core.phase() != Phase::Running {
            return Err(error::run_ended(&slf.get().id_text(), "send_event"));
        }
        if is_closed(slf.get().event_loop.bind(py))? {
            return Err(error::loop_closed(&slf.get().id_text()));
        }
        if slf.get().stands_for().is_some() {
            return Self::forward(slf, event);
        }
        Self::take_in(slf, event, Origin::Outside)?;
        Self::wake_lanes(slf)
    }

    /// Cancels the run: its steps get `CancelledError` and are awaited. Says whether it was still going on.
    fn cancel(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let phase = slf.get().state.lock().core.phase();
        if phase == Phase::Ended {
            return Ok(false);
        }
        if Self::forward_cancel(slf)? {
            return Ok(true);
        }
        if is_closed(slf.get().event_loop.bind(py))? {
            let abandoned = slf.get().state.lock().abandon();
            drop(abandoned);
            Self::finish(slf)?;
        } else if slf.get().is_on_its_thread() {
            Self::cancel_now(slf)?;
        } else {
            slf.get().call_soon(py, (slf.getattr(intern!(py, "_cancel_now"))?,))?;
        }
        Ok(phase == Phase::Running)
    }

    /// Unbinds the run from whoever awaits it and from the run that started it: neither's end cancels it.
    fn detach(slf: &Bound<'_, Self>) -> PyResult<Py<Self>> {
        let py = slf.py();
        let parent = {
            let mut state = slf.get().state.lock();
            state.detached = true;
            state.parent.take()
        };
        if let Some(parent) = parent {
            Self::child_ended(parent.bind(py), slf)?;
        }
        Ok(slf.clone().unbind())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        let run = slf.get();
        format!("<Run {} of workflow {:?}: {}>", run.id_text(), run.plan.get().name, run.status())
    }

    fn _wake_lanes(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::wake_lanes(slf)
    }

    fn _stop(slf: &Bound<'_, Self>, event: &Bound<'_, PyAny>, entry: Option<u64>) -> PyResult<()> {
        Self::stop(slf, event, entry)
    }

    fn _give(
        slf: &Bound<'_, Self>,
        future: &Bound<'_, PyAny>,
        event: &Bound<'_, PyAny>,
        given: &Bound<'_, Given>,
    ) -> PyResult<()> {
        let py = slf.py();
        if future.call_method0(intern!(py, "done"))?.is_truthy()? {
            return match given.get().0.lock().take() {
                Some(slot) => Self::give_back(slf, slot, event),
                None => Ok(()),
            };
        }
        future.call_method1(intern!(py, "set_result"), (event,))?;
        Self::wait_ended(slf)
    }

    fn _try_finish(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::try_finish(slf)
    }

    fn _check_stalled(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::check_stalled(slf)
    }

    fn _arm_timer(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::arm_timer(slf)
    }

    fn _cancel_now(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::cancel_now(slf)
    }

    fn _on_timer(slf: &Bound<'_, Self>) -> PyResult<()> {
        let fired = slf.get().state.lock().timer.take();
        drop(fired);
        Self::expire(slf)?;
        Self::arm_timer(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.plan)?;
        visit.call(&self.event_loop)?;
        visit.call(&self.gate)?;
        // The collector may come while the lock is held; then the run is in use and nothing is lost.
        let Some(state) = self.state.try_lock() else { return Ok(()) };
        state.traverse(visit)
    }

    fn __clear__(&self) {
        let cleared = self.state.lock().clear();
        drop(cleared);
    }
}
