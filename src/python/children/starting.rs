//! `Context.run`: from the call to the child.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::ChildRun;
use crate::journal::Outgoing;
use crate::python::clock::new_run_id;
use crate::python::commits::begin_as;
use crate::python::context::Context;
use crate::python::current;
use crate::python::digest::digest;
use crate::python::durable::Durable;
use crate::python::error;
use crate::python::journal::Journal;
use crate::python::lifecycle::Happened;
use crate::python::memo;
use crate::python::plan::Plan;
use crate::python::run::Run;
use crate::python::run_options::RunOptions;
use crate::python::snapshot;
use crate::python::unreferenced;
use crate::python::wake;
use crate::writer::{Occurrence, Writer};
use crate::{
    Child, ChildBegun, ChildCall, Error, Family, MemoCall, OnParentEnd, Route, RunId, Secrets, Strand, family,
};

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
        if let Some(journal) = self.journal() {
            self.make_again(&journal, number, id)?;
            return self.handle(number, id, None);
        }
        let (run, secrets) = {
            let state = self.context.get().state()?;
            let kin = state.kin.get();
            let run = kin.and_then(|kin| kin.live.get(&id).or_else(|| kin.read.get(&id)));
            (run.map(|run| run.clone_ref(py)), kin.and_then(|kin| kin.secrets.clone()))
        };
        if run.is_some() || is_over {
            return self.handle(number, id, run);
        }
        let inside = self.context.get().state()?.core.take_inside(self.context.get().slot, number);
        let child = match inside {
            Some(bytes) if !bytes.is_empty() => self.resumed(bytes, secrets)?,
            // It was not in the snapshot, as one that was being stopped: it begins anew under its name.
            Some(_) | None => self.made(id, self.family())?,
        };
        self.adopt(&child)?;
        Run::queue_up(&child)?;
        Run::start_in_task(&child)?;
        self.handle(number, id, Some(child.unbind()))
    }

    /// In a run that was retried, or in a fork, a child that had not ended begins anew. What keeps it from being made
    /// leaves it to be made by the next call.
    fn make_again(&self, journal: &Bound<'_, Journal>, number: u64, id: RunId) -> PyResult<()> {
        let slot = self.context.get().slot;
        if !self.context.get().state()?.core.is_to_be_made(slot, number) {
            return Ok(());
        }
        let (made, child) = self.made_in(journal, id, self.family())?;
        if !self.context.get().state()?.core.make_again(slot, number, made) {
            return Ok(());
        }
        self.expect(journal, child)?;
        Run::occurred(self.parent(), Occurrence::Child)
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
        let id = new_run_id()?;
        if let Some(journal) = self.journal() {
            // Made by the commit that records it.
            let (made, child) = self.made_in(&journal, id, family)?;
            let number = self.record(id, strand, call, Some(made))?;
            self.expect(&journal, child)?;
            Run::cancel_void_children(self.parent())?;
            Run::occurred(self.parent(), Occurrence::Child)?;
            return self.handle(number, id, None);
        }
        let child = self.made(id, family)?;
        let number = self.record(id, strand, call, None)?;
        self.adopt(&child)?;
        Run::cancel_void_children(self.parent())?;
        Run::observe(&child, Happened::RunStarted);
        Run::queue_up(&child)?;
        Run::start_in_task(&child)?;
        Run::occurred(self.parent(), Occurrence::Child)?;
        self.handle(number, id, Some(child.unbind()))
    }

    /// Records a child, and, in the same step, what makes it in the journal. Gives the number of its memo.
    fn record(&self, id: RunId, strand: Strand, call: MemoCall, made: Option<Outgoing>) -> PyResult<u64> {
        let workflow = self.plan.get().name.as_str().into();
        let child = Child { id, workflow, on_parent_end: self.on_parent_end, end: None, inside: None };
        let begun = {
            let mut state = self.context.get().state()?;
            let begun = state.core.start_child(self.context.get().slot, strand, call, child);
            if let (Ok(_), Some(made)) = (&begun, made) {
                state.core.write_to_child(made);
            }
            begun
        };
        let (number, unkept) = begun.map_err(|error| memo::refused(self.context, &error))?;
        drop(unkept);
        Ok(number)
    }

    fn journal(&self) -> Option<Bound<'_, Journal>> {
        let state = self.parent().get().state.lock();
        state.durable.as_ref().map(|durable| durable.journal.bind(self.context.py()).clone())
    }

    /// What makes a child in the journal, and the child, which begins when that is written. That of a workflow that has
    /// places is for any process that has one.
    fn made_in(
        &self,
        journal: &Bound<'_, Journal>,
        id: RunId,
        family: Family,
    ) -> PyResult<(Outgoing, Option<Bound<'_, Run>>)> {
        journal.get().check_workflow(self.workflow)?;
        let is_for_any = self.plan.get().places.is_some();
        let (mut core, creation) = begin_as(id, Some(family), journal, &self.plan, self.event, None, &self.options)?;
        if is_for_any {
            drop(core);
            return Ok((family::make(creation, None), None));
        }
        let writer = Writer::of_child(&creation, &mut core, journal.get().durability);
        let child = Run::make(&self.plan, self.parent().get().event_loop.bind(self.context.py()), core, None)?;
        {
            let mut state = child.get().state.lock();
            state.detached = true;
            state.durable = Some(Box::new(Durable::new(journal.clone().unbind(), writer)));
        }
        Ok((family::make(creation, Some(journal.get().owner)), Some(child)))
    }

    /// The next commit makes the child.
    fn expect(&self, journal: &Bound<'_, Journal>, child: Option<Bound<'_, Run>>) -> PyResult<()> {
        let Some(child) = child else { return Ok(()) };
        let id = child.get().id;
        let replaced = self.parent().get().state.lock().kin.make().expected.insert(id, child.unbind());
        drop(replaced);
        journal.get().child_expected(self.context.py(), id)
    }

    fn made(&self, id: RunId, family: Family) -> PyResult<Bound<'_, Run>> {
        let event_loop = self.parent().get().event_loop.bind(self.context.py());
        Run::begin(&self.plan, event_loop, id, Some(family), self.event.clone(), &self.options)
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
