//! Runs that steps start: `Context.run`, and what it gives.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTraverseError, PyVisit};

use super::clock::{self, ManualClock, new_run_id};
use super::commits::begin_as;
use super::context::Context;
use super::convert::{PyValue, decode, encode};
use super::coroutine::{Resumed, check_sent, current_task, thrown};
use super::current;
use super::digest::digest;
use super::error;
use super::gate::yielded;
use super::journal::Journal;
use super::lifecycle::Happened;
use super::memo;
use super::number;
use super::plan::Plan;
use super::reader::StreamReader;
use super::run::Run;
use super::run_options::RunOptions;
use super::snapshot;
use super::state::{Outcome, State};
use super::stored::ToBytes;
use super::unreferenced;
use super::wake::{self, Waker};
use crate::journal::{Outgoing, Signer};
use crate::writer::Occurrence;
use crate::{
    Child, ChildBegun, ChildCall, ChildEnd, Error, Family, MemoCall, OnParentEnd, Phase, Route, Run as CoreRun, RunId,
    Secrets, Slot, Strand, family,
};

/// The children of a run, as far as this process has something of them.
#[derive(Default)]
pub struct Kin {
    /// Those of a run in memory that have not ended.
    pub live: HashMap<RunId, Py<Run>>,
    /// Those of a run in memory that have ended, and have published something.
    pub read: HashMap<RunId, Py<Run>>,
    /// Those who wait for the end of a child.
    pub waiters: HashMap<RunId, Vec<Waker>>,
    /// Those whose creation the journal has not acknowledged, with the number of records that have to be on disk.
    pub unwritten: Vec<(u64, RunId)>,
    /// What verifies the children in the snapshot that the run was resumed from.
    pub secrets: Option<Arc<Secrets>>,
}

impl Kin {
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.live.values().chain(self.read.values()).try_for_each(|run| visit.call(run))?;
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

/// What a step asks for.
struct Asked<'a, 'py> {
    context: &'a Bound<'py, Context>,
    workflow: &'a Bound<'py, PyAny>,
    plan: Bound<'py, Plan>,
    event: &'a Bound<'py, PyAny>,
    options: RunOptions,
    on_parent_end: OnParentEnd,
}

/// Whether there is a child already.
enum Found {
    Before { number: u64, id: RunId, is_over: bool },
    New(MemoCall, Family),
}

#[pymethods]
impl Context {
    /// Starts a child: `treadle.children.run_in`, bound to this context.
    #[getter]
    #[pyo3(name = "run")]
    fn run_child<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static RUN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        RUN.import(slf.py(), "treadle.children", "run_in")?.call_method1(intern!(slf.py(), "__get__"), (slf,))
    }

    /// The id of the run that has started this one; nothing if none has.
    #[getter]
    fn parent(&self) -> PyResult<Option<String>> {
        Ok(self.state()?.core.family().map(|family| family.parent.to_string()))
    }

    /// Starts a child, or finds the one that an earlier body has started by the same call.
    #[pyo3(signature = (workflow, event, key, detaches, max_depth, given = None))]
    fn _run_child(
        slf: &Bound<'_, Self>,
        workflow: &Bound<'_, PyAny>,
        event: &Bound<'_, PyAny>,
        key: Option<&str>,
        detaches: bool,
        max_depth: u32,
        given: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<ChildRun>> {
        let on_parent_end = if detaches { OnParentEnd::Detach } else { OnParentEnd::Cancel };
        let plan = workflow.getattr(intern!(slf.py(), "_plan"))?.cast_into::<Plan>()?;
        let asked = Asked { context: slf, workflow, plan, event, options: RunOptions::read(given)?, on_parent_end };
        asked.child(key, max_depth)
    }
}

impl Asked<'_, '_> {
    fn parent(&self) -> &Bound<'_, Run> {
        self.context.get().run.bind(self.context.py())
    }

    fn child(self, key: Option<&str>, max_depth: u32) -> PyResult<Py<ChildRun>> {
        let py = self.context.py();
        let workflow = &self.plan.get().name;
        let is_here = wake::running_loop(py).is_ok_and(|running| running.is(&self.parent().get().event_loop));
        if !is_here {
            return Err(error::child_off_loop(self.context.get().step_name(), workflow));
        }
        if !matches!(self.plan.get().route(self.event), Route::Steps(_)) {
            return Err(error::unrouted_start(self.plan.get(), self.event));
        }
        let input = digest(self.event)?.of_input();
        let strand = current::strand(self.context)?;
        // Both are quoted: no two calls have one name.
        let named = key.map(|key| format!("{key:?} of {workflow:?}"));
        let call = ChildCall {
            name: named.as_deref().unwrap_or(workflow),
            is_named: named.is_some(),
            input: &input,
            max_depth,
        };
        let found = {
            let mut state = self.context.get().state()?;
            match state.core.begin_child(self.context.get().slot, strand, &call) {
                Ok(ChildBegun::Before(number, child)) => {
                    Ok(Found::Before { number, id: child.id, is_over: child.end.is_some() })
                }
                Ok(ChildBegun::New(call, family)) => Ok(Found::New(call, family)),
                Err(error) => Err(error),
            }
        };
        match found {
            Ok(Found::Before { number, id, is_over }) => self.known(number, id, is_over),
            Ok(Found::New(call, family)) => self.started(strand, call, family),
            Err(Error::TooDeep { depth }) => Err(error::children_too_deep(self.context.get(), workflow, depth)),
            Err(Error::OtherInput) => Err(error::child_key_conflict(self.context.get(), workflow, key)),
            Err(error) => Err(memo::refused(self.context, &error)),
        }
    }

    fn handle(&self, number: u64, id: RunId, run: Option<Py<Run>>) -> PyResult<Py<ChildRun>> {
        let context = self.context.get();
        let (parent, workflow) = (context.run.clone_ref(self.context.py()), self.plan.get().name.clone());
        Py::new(
            self.context.py(),
            ChildRun { parent, slot: context.slot, number, id, workflow, run, tasks: Mutex::default() },
        )
    }

    /// A child that an earlier body has started: it may be one of a snapshot, which goes on now.
    fn known(self, number: u64, id: RunId, is_over: bool) -> PyResult<Py<ChildRun>> {
        let py = self.context.py();
        let (run, inside, secrets) = {
            let mut state = self.context.get().state()?;
            let kin = state.kin.get();
            let run = kin.and_then(|kin| kin.live.get(&id).or_else(|| kin.read.get(&id)));
            let run = run.map(|run| run.clone_ref(py));
            let secrets = kin.and_then(|kin| kin.secrets.clone());
            let is_lost = run.is_none() && !is_over;
            let inside = if is_lost { state.core.take_inside(self.context.get().slot, number) } else { None };
            (run, inside, secrets)
        };
        if run.is_some() || is_over {
            return self.handle(number, id, run);
        }
        if let Some(journal) = self.journal() {
            // In a run that was retried, or in a fork, a child that had not ended begins anew.
            if inside.is_some() {
                let made = self.made_in(&journal, id, self.family())?;
                self.hand_over(&mut *self.context.get().state()?, id, made);
                Run::occurred(self.parent(), Occurrence::Child)?;
            }
            return self.handle(number, id, None);
        }
        let child = match inside {
            Some(bytes) if !bytes.is_empty() => self.resumed(bytes, secrets)?,
            // It was not in the snapshot, as one that was being stopped: it begins anew under its name.
            Some(_) | None => self.made(id, self.family())?,
        };
        self.adopt(&child)?;
        Run::start_in_task(&child)?;
        self.handle(number, id, Some(child.unbind()))
    }

    fn family(&self) -> Family {
        self.parent().get().state.lock().core.family_of_child()
    }

    fn resumed(&self, bytes: Bytes, secrets: Option<Arc<Secrets>>) -> PyResult<Bound<'_, Run>> {
        let py = self.context.py();
        let secrets = secrets.unwrap_or_else(|| Arc::new(Secrets::none()));
        let classes = self.workflow.call_method0(intern!(py, "_classes"))?.cast_into()?;
        let run = snapshot::go_on_from(&self.plan, bytes, secrets, &classes)?;
        Ok(run.into_bound(py))
    }

    /// A child that is new.
    fn started(self, strand: Strand, call: MemoCall, family: Family) -> PyResult<Py<ChildRun>> {
        let slot = self.context.get().slot;
        if let Some(journal) = self.journal() {
            return self.started_in(&journal, strand, call, family);
        }
        let child = self.made(new_run_id()?, family)?;
        let id = child.get().id;
        let begun = {
            let mut state = self.context.get().state()?;
            let workflow = self.plan.get().name.as_str().into();
            let made = Child { id, workflow, on_parent_end: self.on_parent_end, end: None, inside: None };
            state.core.start_child(slot, strand, call, made)
        };
        let number = match begun {
            Ok((number, unkept)) => {
                drop(unkept);
                number
            }
            Err(error) => return Err(memo::refused(self.context, &error)),
        };
        self.adopt(&child)?;
        let parent = self.parent();
        Run::cancel_void_children(parent)?;
        Run::observe(&child, Happened::RunStarted);
        Run::start_in_task(&child)?;
        Run::occurred(parent, Occurrence::Child)?;
        self.handle(number, id, Some(child.unbind()))
    }

    fn journal(&self) -> Option<Bound<'_, Journal>> {
        let state = self.parent().get().state.lock();
        state.durable.as_ref().map(|durable| durable.journal.bind(self.context.py()).clone())
    }

    /// A child that is new, made by the commit that records it.
    fn started_in(
        &self,
        journal: &Bound<'_, Journal>,
        strand: Strand,
        call: MemoCall,
        family: Family,
    ) -> PyResult<Py<ChildRun>> {
        let id = new_run_id()?;
        let made = self.made_in(journal, id, family)?;
        let slot = self.context.get().slot;
        let begun = {
            let mut state = self.context.get().state()?;
            let workflow = self.plan.get().name.as_str().into();
            let child = Child { id, workflow, on_parent_end: self.on_parent_end, end: None, inside: None };
            let begun = state.core.start_child(slot, strand, call, child);
            if begun.is_ok() {
                self.hand_over(&mut state, id, made);
            }
            begun
        };
        let number = match begun {
            Ok((number, unkept)) => {
                drop(unkept);
                number
            }
            Err(error) => return Err(memo::refused(self.context, &error)),
        };
        let parent = self.parent();
        Run::cancel_void_children(parent)?;
        Run::occurred(parent, Occurrence::Child)?;
        self.handle(number, id, None)
    }

    fn made_in(&self, journal: &Bound<'_, Journal>, id: RunId, family: Family) -> PyResult<Outgoing> {
        journal.get().check_workflow(self.workflow)?;
        let begun = begin_as(id, Some(family), journal, &self.plan, self.event, None, &self.options)?;
        let (core, creation) = begun;
        drop(core);
        Ok(family::make(creation, journal.get().owner))
    }

    /// The next commit makes the child; what has been recorded by now has to be on disk before it starts here.
    fn hand_over(&self, state: &mut State, id: RunId, made: Outgoing) {
        state.core.write_to_child(made);
        let recorded = state.core.recorded();
        state.kin.make().unwritten.push((recorded, id));
    }

    fn made(&self, id: RunId, family: Family) -> PyResult<Bound<'_, Run>> {
        let py = self.context.py();
        let plan = self.plan.get();
        let Route::Steps(kind) = plan.route(self.event) else {
            return Err(error::unrouted_start(plan, self.event));
        };
        let clock = ManualClock::current(py)?;
        let has_deadline = plan.core.deadline.is_some() || self.options.limits.deadline.is_some();
        let created = if has_deadline { clock::now_by(clock.as_ref()) } else { 0 };
        let mut core = CoreRun::new(id, plan.core.clone(), created);
        self.options.put_copy_into(py, &mut core);
        core.belong(family);
        let run = Run::make(&self.plan, self.parent().get().event_loop.bind(py), core, clock)?;
        let delivered = run.get().state.lock().core.deliver(kind, self.event.clone().unbind());
        drop(delivered);
        Ok(run)
    }

    /// The run ends with its parent, and tells it of its own end.
    fn adopt(&self, child: &Bound<'_, Run>) -> PyResult<()> {
        {
            let mut state = child.get().state.lock();
            state.detached = true;
            state.parent = Some(self.parent().clone().unbind());
        }
        let mut state = self.parent().get().state.lock();
        let replaced = state.kin.make().live.insert(child.get().id, child.clone().unbind());
        let address = child.as_ptr() as usize;
        let other = match self.on_parent_end {
            OnParentEnd::Cancel => state.children.make().insert(address, child.clone().unbind()),
            OnParentEnd::Detach => state.children.make().remove(&address),
        };
        drop(state);
        drop((replaced, other));
        if self.on_parent_end == OnParentEnd::Detach {
            // Its parent has a guard for the others.
            unreferenced::guard_child(child)?;
        }
        child.get().log(child.py(), || "was started".to_owned())
    }
}

impl Run {
    /// A child that is in memory has ended: its parent keeps what it gave, and those who wait for it go on.
    pub fn child_gave(parent: &Bound<'_, Self>, child: &Bound<'_, Self>) -> PyResult<()> {
        let id = child.get().id;
        if !parent.get().state.lock().core.has_open_child(id) {
            return Ok(());
        }
        let end = end_of(&parent.get().id_text(), child)?;
        Self::child_ended_with(parent, id, end)?;
        let has_published = child.get().state.lock().core.stream().published() > 0;
        let mut state = parent.get().state.lock();
        let removed = state.kin.make().live.remove(&id);
        if has_published && !state.is_over {
            state.kin.make().read.insert(id, child.clone().unbind());
        }
        drop(state);
        drop(removed);
        Ok(())
    }

    /// A child has ended.
    pub fn child_ended_with(parent: &Bound<'_, Self>, id: RunId, end: ChildEnd<PyValue>) -> PyResult<()> {
        let unkept = parent.get().state.lock().core.end_child(id, end);
        let is_kept = unkept.is_ok();
        drop(unkept);
        if !is_kept {
            return Ok(());
        }
        Self::wake_for_child(parent, id)?;
        Self::occurred(parent, Occurrence::ChildEnded)
    }

    /// Those who wait for a child go on, unless the run is paused.
    fn wake_for_child(parent: &Bound<'_, Self>, id: RunId) -> PyResult<()> {
        let py = parent.py();
        let waiters = {
            let mut state = parent.get().state.lock();
            if state.core.is_paused() {
                return Ok(());
            }
            state.kin.get_mut().and_then(|kin| kin.waiters.remove(&id))
        };
        waiters.into_iter().flatten().try_for_each(|waker| waker.wake(py, py.None()))
    }

    /// The run goes on after a pause: so do those who wait for children that have ended meanwhile.
    pub fn wake_for_children(run: &Bound<'_, Self>) -> PyResult<()> {
        let ended: Vec<_> = {
            let state = run.get().state.lock();
            let waited = state.kin.get().into_iter().flat_map(|kin| kin.waiters.keys());
            waited.filter(|id| !state.core.has_open_child(**id)).copied().collect()
        };
        ended.into_iter().try_for_each(|id| Self::wake_for_child(run, id))
    }

    /// No body awaits these children any more.
    pub fn cancel_void_children(run: &Bound<'_, Self>) -> PyResult<()> {
        let void = run.get().state.lock().core.take_void_children();
        void.into_iter().try_for_each(|id| Self::cancel_child_of(run, id).map(drop))
    }

    /// Cancels a child. Says whether it was still going on, as far as its parent knows.
    pub fn cancel_child_of(parent: &Bound<'_, Self>, id: RunId) -> PyResult<bool> {
        let py = parent.py();
        let (live, journal) = {
            let state = parent.get().state.lock();
            if !state.core.has_open_child(id) {
                return Ok(false);
            }
            let live = state.kin.get().and_then(|kin| Some(kin.live.get(&id)?.clone_ref(py)));
            (live, state.durable.as_ref().map(|durable| durable.journal.clone_ref(py)))
        };
        if let Some(live) = live {
            return Self::cancel_child(live.bind(py));
        }
        let Some(journal) = journal else { return Ok(false) };
        let cancelled = family::cancel(parent.get().id, id, &journal.get().signer)?;
        {
            let mut state = parent.get().state.lock();
            if state.core.phase() != Phase::Running {
                return Ok(false);
            }
            state.core.write_to_child(cancelled);
        }
        Self::occurred(parent, Occurrence::Child)?;
        Ok(true)
    }

    /// So many records are on disk: the children that they made start here.
    pub fn children_written(run: &Bound<'_, Self>, recorded: u64) -> PyResult<()> {
        let py = run.py();
        let (made, journal) = {
            let mut state = run.get().state.lock();
            let Some(kin) = state.kin.get_mut() else { return Ok(()) };
            let written = kin.unwritten.partition_point(|(needed, _)| *needed <= recorded);
            let made: Vec<_> = kin.unwritten.drain(..written).map(|(_, id)| id).collect();
            let Some(durable) = &state.durable else { return Ok(()) };
            (made, durable.journal.clone_ref(py))
        };
        made.into_iter().try_for_each(|id| journal.get().child_made(py, id))
    }

    /// The run is over: its children have no parent any more.
    pub fn leave_children(run: &Bound<'_, Self>) {
        let kin = run.get().state.lock().kin.take();
        for child in kin.live.values() {
            let parent = child.get().state.lock().parent.take();
            drop(parent);
        }
    }
}

/// What a run with a journal writes to its family with its last commit: its children that are not to outlive it are
/// cancelled, and its parent is told what it gave.
pub fn last_words(run: &Bound<'_, Run>, signer: &Signer) -> PyResult<Vec<Outgoing>> {
    let py = run.py();
    let (mut last, parent) = {
        let state = run.get().state.lock();
        let last = family::last_words(run.get().id, state.core.open_children(), signer)?;
        (last, state.core.family().map(|family| family.parent))
    };
    if let Some(parent) = parent {
        let end = end_of(&parent.to_string(), run)?.try_map(|value| ToBytes::new(py).value(&value))?;
        last.push(family::tell(parent, run.get().id, &end, signer)?);
    }
    Ok(last)
}

/// What a child gave, as its parent keeps it. What cannot be stored is a failure.
fn end_of(parent: &str, child: &Bound<'_, Run>) -> PyResult<ChildEnd<PyValue>> {
    let py = child.py();
    let (result, failure) = match &child.get().state.lock().outcome {
        Some(Outcome::Result(result)) => (Some(result.clone_ref(py)), None),
        Some(Outcome::Failed(exception, _)) => (None, Some(exception.clone_ref(py))),
        Some(Outcome::Cancelled) | None => (None, None),
    };
    let failure = match (result, failure) {
        (Some(result), _) => match encode("result", result.bind(py)) {
            Ok(value) => return Ok(ChildEnd::Result(value)),
            Err(error) if error.is_instance_of::<PyException>(py) => {
                let name = format!("run {} of workflow {:?}", child.get().id_text(), child.get().plan.get().name);
                error::unstorable_memo(py, &name, &result.bind(py).get_type(), error)
            }
            Err(error) => return Err(error),
        },
        (None, Some(exception)) => PyErr::from_value(exception.into_bound(py).into_any()),
        (None, None) => error::run_cancelled(&child.get().id_text()),
    };
    error::note_child(py, &failure, parent, child.get());
    failed(py, &failure).map(ChildEnd::Failure)
}

/// A failure as a value.
fn failed(py: Python<'_>, failure: &PyErr) -> PyResult<PyValue> {
    static FIELDS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let fields = FIELDS.import(py, "treadle.children", "fields_of_failure")?.call1((failure.value(py),))?;
    encode("failure", &fields)
}

/// What a failure was that is kept as a value.
fn raised(py: Python<'_>, value: &PyValue) -> PyResult<PyErr> {
    static FAILURE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let fields = decode(py, "failure", value)?;
    Ok(PyErr::from_value(FAILURE.import(py, "treadle.children", "failure_from_fields")?.call1((fields,))?))
}

impl ChildRun {
    /// What the child gave, if it has ended.
    fn given(&self, py: Python<'_>) -> PyResult<Option<PyResult<Py<PyAny>>>> {
        let (end, is_stale) = {
            let state = self.parent.get().state.lock();
            let end = state.core.child_end(self.slot, self.number).map(|end| end.copied(|value| value.clone_ref(py)));
            (end, state.core.delivery(self.slot).is_none())
        };
        let live = self.run.as_ref().filter(|run| run.get().state.lock().is_over);
        let has_result = live.is_some_and(|run| matches!(run.get().state.lock().outcome, Some(Outcome::Result(_))));
        match (end, live) {
            // The object itself, as long as it is there.
            (Some(ChildEnd::Result(_)), Some(run)) if has_result => Ok(Some(run.get().result(py))),
            (Some(ChildEnd::Failure(_)), Some(run)) if !has_result => Ok(Some(run.get().result(py))),
            (None, Some(run)) if is_stale => Ok(Some(run.get().result(py))),
            (Some(ChildEnd::Result(value)), _) => Ok(Some(decode(py, "result", &value).map(Bound::unbind))),
            (Some(ChildEnd::Failure(value)), _) => Ok(Some(Err(raised(py, &value)?))),
            (None, _) => Ok(None),
        }
    }

    /// Registers somebody who waits for the end, in the same step in which it is seen that there is none.
    fn wait(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let waker = Waker::new(&wake::running_loop(py)?)?;
        let future = waker.future.clone_ref(py);
        let refused = {
            let mut state = self.parent.get().state.lock();
            if state.core.child_end(self.slot, self.number).is_some() {
                drop(state);
                return Ok(None);
            }
            let is_known = state.core.delivery(self.slot).is_some();
            match (state.core.phase(), &self.run) {
                (Phase::Running, _) if is_known => {
                    state.core.await_child(self.slot);
                    state.kin.make().waiters.entry(self.id).or_default().push(waker);
                    None
                }
                // The handle was handed out of its step.
                (_, Some(run)) => {
                    drop(state);
                    if run.get().state.lock().is_over {
                        return Ok(None);
                    }
                    run.get().add_waiter(waker);
                    return Ok(Some(future));
                }
                (Phase::Running, None) => Some((waker, Error::StepOver)),
                _ => Some((waker, Error::RunEnded)),
            }
        };
        if let Some((waker, why)) = refused {
            drop(waker);
            return Err(self.refused(py, &why));
        }
        let parent = self.parent.bind(py);
        Run::check_quiet(parent)?;
        Run::occurred(parent, Occurrence::Waiting)?;
        Ok(Some(future))
    }

    fn refused(&self, py: Python<'_>, why: &Error) -> PyErr {
        let parent = self.parent.bind(py).get();
        match why {
            Error::StepOver => error::child_outside_step(&self.id.to_string(), &parent.id_text()),
            _ => error::run_ended(&parent.id_text(), "run"),
        }
    }

    /// Goes on with one `await`, which has waited for a future if it was not the first time.
    fn resume(&self, py: Python<'_>, waited: Option<Py<PyAny>>) -> PyResult<(Resumed, Option<Py<PyAny>>)> {
        if let Some(future) = waited {
            self.awaited(py, &future);
            // Raises the cancellation of a run that has ended meanwhile.
            future.call_method0(py, intern!(py, "result"))?;
        }
        loop {
            if let Some(given) = self.given(py)? {
                return given.map(|given| (Resumed::Returned(given), None));
            }
            if let Some(future) = self.wait(py)? {
                let yielded = yielded(future.bind(py).clone())?;
                return Ok((Resumed::Yielded(yielded), Some(future)));
            }
        }
    }

    fn resume_task(&self, py: Python<'_>) -> PyResult<Resumed> {
        let task = current_task(py)?.as_ptr() as usize;
        let (resumed, future) = self.resume(py, self.take_task(task))?;
        if let Some(future) = future {
            self.tasks.lock().push((task, future));
        }
        Ok(resumed)
    }

    fn take_task(&self, task: usize) -> Option<Py<PyAny>> {
        let mut tasks = self.tasks.lock();
        let at = tasks.iter().position(|(known, _)| *known == task)?;
        Some(tasks.swap_remove(at).1)
    }

    /// Somebody waits no longer.
    fn awaited(&self, py: Python<'_>, future: &Py<PyAny>) {
        let removed = {
            let mut state = self.parent.get().state.lock();
            state.core.child_awaited(self.slot);
            let Some(kin) = state.kin.get_mut() else { return };
            let Some(waiters) = kin.waiters.get_mut(&self.id) else { return };
            let found = waiters.iter().position(|waker| waker.future.is(future));
            let removed = found.map(|at| waiters.swap_remove(at));
            if waiters.is_empty() {
                kin.waiters.remove(&self.id);
            }
            removed
        };
        drop(removed);
        if let Some(run) = &self.run {
            run.bind(py).get().remove_waiter(future);
        }
    }
}

#[pymethods]
impl ChildRun {
    /// The run's UUID (version 7) as a string.
    #[getter]
    fn id(&self) -> String {
        self.id.to_string()
    }

    /// The same as `id`.
    #[getter]
    fn run_id(&self) -> String {
        self.id.to_string()
    }

    /// The name of the run's workflow.
    #[getter]
    fn workflow(&self) -> &str {
        &self.workflow
    }

    /// Whether the run is over, as far as its parent knows.
    fn done(&self, py: Python<'_>) -> bool {
        let state = self.parent.bind(py).get().state.lock();
        !state.core.has_open_child(self.id)
    }

    fn __await__(slf: Py<Self>) -> ChildWait {
        ChildWait { child: slf, at: Mutex::new(At::Begin) }
    }

    /// As of a coroutine, so that a task can be made of it: the task awaits the child.
    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        check_sent(value)?;
        Resumed::to_sent(value.py(), self.resume_task(value.py()))
    }

    /// As of a coroutine.
    #[pyo3(signature = (exception, value = None, traceback = None))]
    fn throw(
        &self,
        exception: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let py = exception.py();
        if let Some(future) = self.take_task(current_task(py)?.as_ptr() as usize) {
            self.awaited(py, &future);
        }
        Err(thrown(exception, value, traceback))
    }

    /// As of a coroutine: nobody awaits the child any more in a task that was made of it.
    fn close(&self, py: Python<'_>) {
        let waited = std::mem::take(&mut *self.tasks.lock());
        waited.iter().for_each(|(_, future)| self.awaited(py, future));
    }

    #[getter]
    fn __name__(&self) -> String {
        format!("child run of {}", self.workflow)
    }

    #[getter]
    fn __qualname__(&self) -> String {
        self.__name__()
    }

    /// The events that the run publishes, from behind the one numbered `after`, or else from the first one on.
    #[pyo3(signature = (after = None))]
    fn stream_events(&self, py: Python<'_>, after: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let after = after.map_or(Ok(0), |after| number::position("after", after))?;
        if let Some(run) = &self.run {
            return Ok(Py::new(py, StreamReader::new(run.clone_ref(py), after, None))?.into_any());
        }
        let journal = {
            let state = self.parent.bind(py).get().state.lock();
            state.durable.as_ref().map(|durable| durable.journal.clone_ref(py))
        };
        match journal {
            Some(journal) => journal.get().stream_of_child(py, self.id, after),
            None => Err(error::child_stream_gone(&self.id.to_string(), &self.workflow)),
        }
    }

    /// Cancels the run. Says whether it was still going on.
    fn cancel(&self, py: Python<'_>) -> PyResult<bool> {
        match &self.run {
            Some(run) => Run::cancel_child(run.bind(py)),
            None => Run::cancel_child_of(self.parent.bind(py), self.id),
        }
    }

    fn __repr__(&self) -> String {
        format!("<ChildRun {} of workflow {:?}>", self.id, self.workflow)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.parent)?;
        visit.call(&self.run)?;
        let Some(tasks) = self.tasks.try_lock() else { return Ok(()) };
        tasks.iter().try_for_each(|(_, future)| visit.call(future))
    }
}

/// One `await` of a child.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct ChildWait {
    child: Py<ChildRun>,
    at: Mutex<At>,
}

enum At {
    Begin,
    Waiting(Py<PyAny>),
    Finished,
}

impl ChildWait {
    fn resume(&self, py: Python<'_>) -> PyResult<Resumed> {
        let waited = match std::mem::replace(&mut *self.at.lock(), At::Finished) {
            At::Waiting(future) => Some(future),
            At::Begin | At::Finished => None,
        };
        let (resumed, future) = self.child.bind(py).get().resume(py, waited)?;
        if let Some(future) = future {
            *self.at.lock() = At::Waiting(future);
        }
        Ok(resumed)
    }

    fn give_up(&self, py: Python<'_>) {
        let at = std::mem::replace(&mut *self.at.lock(), At::Finished);
        if let At::Waiting(future) = at {
            self.child.bind(py).get().awaited(py, &future);
        }
    }
}

#[pymethods]
impl ChildWait {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Resumed::to_next(py, self.resume(py))
    }

    #[pyo3(signature = (exception, value = None, traceback = None))]
    fn throw(
        &self,
        exception: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.give_up(exception.py());
        Err(thrown(exception, value, traceback))
    }

    fn close(&self, py: Python<'_>) {
        self.give_up(py);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.child)?;
        let Some(at) = self.at.try_lock() else { return Ok(()) };
        match &*at {
            At::Waiting(future) => visit.call(future),
            At::Begin | At::Finished => Ok(()),
        }
    }
}

impl Drop for ChildWait {
    fn drop(&mut self) {
        if matches!(self.at.get_mut(), At::Waiting(_)) {
            // After the interpreter has gone there is nobody left who waits.
            let _ = Python::try_attach(|py| self.give_up(py));
        }
    }
}
