//! How a run begins, or goes on.

use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::Run;
use crate::python::clock::{self, ManualClock, new_run_id};
use crate::python::current::CurrentRun;
use crate::python::durable::Durable;
use crate::python::gate::Gate;
use crate::python::lifecycle::Happened;
use crate::python::plan::Plan;
use crate::python::run_options::RunOptions;
use crate::python::state::{Python3, State};
use crate::python::{error, thread_number, wake};
use crate::{Family, Phase, Route, Run as CoreRun, RunId};

impl Run {
    /// Starts a run on the running event loop.
    pub fn start(plan: &Bound<'_, Plan>, event: Bound<'_, PyAny>, given: RunOptions) -> PyResult<Py<Self>> {
        let py = plan.py();
        let event_loop = wake::running_loop(py).map_err(|_| error::no_event_loop(&plan.get().name))?;
        let run = Self::begin(plan, &event_loop, new_run_id()?, None, event, &given)?;
        Self::enter(&run, &event_loop)?;
        Self::queue_up(&run)?;
        run.get().log(py, || "was started".to_owned())?;
        Self::observe(&run, Happened::RunStarted);
        Ok(run.unbind())
    }

    /// Makes a run in memory with its first event queued, as a child of another run if it has a family.
    pub fn begin<'py>(
        plan: &Bound<'py, Plan>,
        event_loop: &Bound<'py, PyAny>,
        id: RunId,
        family: Option<Family>,
        event: Bound<'py, PyAny>,
        given: &RunOptions,
    ) -> PyResult<Bound<'py, Self>> {
        let py = plan.py();
        let Route::Steps(kind) = plan.get().route(&event) else {
            return Err(error::unrouted_start(plan.get(), &event));
        };
        let clock = ManualClock::current(py)?;
        let has_deadline = plan.get().core.deadline.is_some() || given.limits.deadline.is_some();
        let created = if has_deadline { clock::now_by(clock.as_ref()) } else { 0 };
        let mut core = CoreRun::new(id, plan.get().core.clone(), created);
        given.put_into(py, &mut core);
        if let Some(family) = family {
            core.belong(family);
        }
        let run = Self::make(plan, event_loop, core, clock)?;
        let delivered = run.get().state.lock().core.deliver(kind, event.unbind());
        drop(delivered);
        Ok(run)
    }

    /// Goes on with a run of which the core was restored.
    pub fn go_on(plan: &Bound<'_, Plan>, core: CoreRun<Python3>, durable: Option<Box<Durable>>) -> PyResult<Py<Self>> {
        let py = plan.py();
        let event_loop = wake::running_loop(py).map_err(|_| error::no_event_loop(&plan.get().name))?;
        let core_is_paused = core.is_paused();
        let run = Self::make(plan, &event_loop, core, ManualClock::current(py)?)?;
        // A snapshot is resumed so that it runs. From a journal, what was paused stays so.
        let stays_paused = durable.is_some() && core_is_paused;
        let is_in_memory = durable.is_none();
        if durable.as_ref().is_some_and(|durable| durable.journal.get().observers.is_some()) {
            run.get().be_observed();
        }
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
        Self::queue_up(&run)?;
        Self::arm_timer(&run)?;
        run.get().log(py, || "goes on".to_owned())?;
        if is_in_memory {
            Self::observe(&run, Happened::RunContinued);
        }
        Ok(run.unbind())
    }

    /// A run that was written for any process goes on in this one, with the core that was restored.
    pub fn take_up(run: &Bound<'_, Self>, core: CoreRun<Python3>, durable: Box<Durable>) -> PyResult<()> {
        let stays_paused = core.is_paused();
        let replaced = {
            let mut state = run.get().state.lock();
            (std::mem::replace(&mut state.core, core), state.durable.replace(durable))
        };
        drop(replaced);
        if !stays_paused {
            Self::resume_now(run)?;
        }
        Self::take_up_place(run)?;
        Self::arm_timer(run)?;
        run.get().log(run.py(), || "goes on".to_owned())?;
        Self::wake_lanes(run)
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
            thread: AtomicU64::new(thread_number::current()),
            is_debug_logged: error::is_debug_logged(py)?,
            clock,
            is_watched: AtomicBool::new(false),
            is_observed: AtomicBool::new(plan.get().observers.is_some()),
            has_sent: AtomicBool::new(false),
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

    /// Registers a child, which is cancelled with its parent.
    fn adopt(parent: &Bound<'_, Self>, child: &Bound<'_, Self>) {
        let mut state = parent.get().state.lock();
        if state.core.phase() == Phase::Running {
            state.children.make().insert(child.as_ptr() as usize, child.clone().unbind());
            drop(state);
            child.get().state.lock().parent = Some(parent.clone().unbind());
        }
    }

    /// A run of a workflow that has places asks for one, before it executes anything.
    #[inline]
    pub fn queue_up(run: &Bound<'_, Self>) -> PyResult<()> {
        if run.get().has_limit() { Self::ask_for_place(run).map(drop) } else { Ok(()) }
    }

    /// Gives the run a task of its own, unless it is driven already.
    pub fn start_in_task(run: &Bound<'_, Self>) -> PyResult<()> {
        let started = std::mem::replace(&mut run.get().state.lock().started, true);
        if started { Ok(()) } else { Self::spawn_lanes(run, 1) }
    }
}
