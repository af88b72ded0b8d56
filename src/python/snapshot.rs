//! A run as bytes, and going on from them.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashSet;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyType};

use super::convert::decode;
use super::gate::{new_future, set_result_unless_done};
use super::plan::Plan;
use super::run::Run;
use super::state::Python3;
use super::stored::{ToBytes, ToObjects, lend};
use super::text;
use super::{error, wake};
use crate::{EncodedImage, HostImage, Phase, Route, Run as CoreRun, Secrets, StepId, snapshot};

/// The run at this moment, as bytes, with its children inside.
pub fn take(run: &Bound<'_, Run>, secrets: &Secrets) -> PyResult<Vec<u8>> {
    let py = run.py();
    let mut image = {
        let state = run.get().state.lock();
        if state.core.phase() != Phase::Running {
            drop(state);
            return Err(error::run_ended(&run.get().id_text(), "snapshot"));
        }
        state.core.image()
    };
    let is_durable = run.get().state.lock().durable.is_some();
    if !is_durable {
        take_children(run, &mut image, secrets)?;
    }
    let image = image.translate(&mut ToBytes::new(py))?;
    Ok(snapshot::seal(&image, secrets)?)
}

/// Puts the children that have not ended inside the image of their parent. Those whose step is done are in no snapshot:
/// no body asks for them again.
fn take_children(run: &Bound<'_, Run>, image: &mut HostImage<Python3>, secrets: &Secrets) -> PyResult<()> {
    let mut known = Vec::new();
    for pending in image.pending.values_mut() {
        for (_, child) in pending.replay.memos.open_children_mut() {
            known.push(child.id);
            let live =
                run.get().state.lock().kin.get().and_then(|kin| Some(kin.live.get(&child.id)?.clone_ref(run.py())));
            let live = live.filter(|live| live.get().state.lock().core.phase() == Phase::Running);
            if let Some(live) = live {
                child.inside = Some(take(live.bind(run.py()), secrets)?.into());
            }
        }
    }
    image.children.retain(|id, _| known.contains(id));
    Ok(())
}

#[pymethods]
impl Run {
    /// The run at this moment, as bytes: a future that is done.
    #[pyo3(signature = (*, secret = None))]
    fn snapshot<'py>(slf: &Bound<'py, Self>, secret: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let event_loop = wake::running_loop(py).map_err(|_| error::no_event_loop(&slf.get().plan.get().name))?;
        let bytes = Self::_snapshot(slf, secret)?;
        let future = new_future(&event_loop)?;
        set_result_unless_done(&future, bytes.into_any())?;
        Ok(future)
    }

    /// As `snapshot`, at once.
    #[pyo3(signature = (secret = None))]
    fn _snapshot(slf: &Bound<'_, Self>, secret: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyBytes>> {
        static SECRETS_OF: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let secrets = SECRETS_OF.import(slf.py(), "treadle.signing", "secrets_of")?.call1((secret,))?;
        let bytes = take(slf, &Secrets::new(secrets.extract::<Vec<Vec<u8>>>()?)?)?;
        Ok(PyBytes::new(slf.py(), &bytes).unbind())
    }

    /// The keys and values, also of a run that is over.
    fn _state<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let py = slf.py();
        let pairs: Vec<_> = {
            let state = slf.get().state.lock();
            state.core.store().iter().map(|(key, value)| (key.to_owned(), value.clone_ref(py))).collect()
        };
        let values = PyDict::new(py);
        for (key, value) in pairs {
            values.set_item(&key, decode(py, &key, &value)?)?;
        }
        Ok(values)
    }

    /// The value of a key, also of a run that is over; `default` if there is none.
    fn _value<'py>(
        slf: &Bound<'py, Self>,
        key: &Bound<'py, PyAny>,
        default: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let key = text::key(key)?;
        let value = slf.get().state.lock().core.store().get(key).map(|value| value.clone_ref(py));
        value.map_or(Ok(default), |value| decode(py, key, &value))
    }

    /// The keys, in the order in which they were first set.
    fn _keys(&self) -> Vec<String> {
        self.state.lock().core.store().iter().map(|(key, _)| key.to_owned()).collect()
    }

    /// The keys and values as a mapping that changes nothing.
    #[getter]
    #[pyo3(name = "state")]
    fn mapping(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        static STATE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        Ok(STATE.import(slf.py(), "treadle.context", "RunState")?.call1((slf,))?.unbind())
    }

    /// Has a function called with the run and a word for what has just happened to it, each time.
    fn _probe(slf: &Bound<'_, Self>, probe: Option<Py<PyAny>>) {
        slf.get().watch();
        let replaced = std::mem::replace(&mut slf.get().state.lock().probe, probe);
        drop(replaced);
    }
}

#[pymethods]
impl Plan {
    /// Goes on with a run from its snapshot, on the running event loop.
    fn resume(
        slf: &Bound<'_, Self>,
        bytes: &Bound<'_, PyBytes>,
        secrets: Vec<Vec<u8>>,
        classes: &Bound<'_, PyDict>,
    ) -> PyResult<Py<Run>> {
        let run = go_on_from(slf, lend(bytes), Arc::new(Secrets::new(secrets)?), classes)?;
        Ok(run)
    }

    /// Everything because of which a snapshot could not go on. Nothing is unpickled.
    fn problems(
        &self,
        bytes: &Bound<'_, PyBytes>,
        secrets: Vec<Vec<u8>>,
        classes: &Bound<'_, PyDict>,
    ) -> PyResult<Vec<String>> {
        let image = snapshot::open(lend(bytes), &Secrets::new(secrets)?)?;
        problems(self, image, classes)
    }
}

/// Goes on with a run from its snapshot.
pub fn go_on_from(
    plan: &Bound<'_, Plan>,
    bytes: Bytes,
    secrets: Arc<Secrets>,
    classes: &Bound<'_, PyDict>,
) -> PyResult<Py<Run>> {
    let image = snapshot::open(bytes, &secrets)?;
    let core = restore(plan.get(), image, classes)?;
    let has_children = core.open_children().next().is_some();
    let run = Run::go_on(plan, core, None)?;
    // Others may know its id from before.
    Run::remember(run.bind(plan.py()), &run.get().id_text())?;
    if has_children {
        run.get().state.lock().kin.make().secrets = Some(secrets);
    }
    Ok(run)
}

/// Everything because of which a plan could not go on with an image.
pub fn problems(plan: &Plan, mut image: EncodedImage, classes: &Bound<'_, PyDict>) -> PyResult<Vec<String>> {
    fit(plan, &mut image, classes)
}

/// The run of an image that was stored.
pub fn restore(plan: &Plan, mut image: EncodedImage, classes: &Bound<'_, PyDict>) -> PyResult<CoreRun<Python3>> {
    let problems = fit(plan, &mut image, classes)?;
    if !problems.is_empty() {
        return Err(error::incompatible(problems));
    }
    let image = image.translate(&mut ToObjects::new(classes))?;
    Ok(CoreRun::restore(image, Arc::clone(&plan.core)))
}

/// Gives the image the steps of a plan; says everything because of which that cannot be.
pub fn fit(plan: &Plan, image: &mut EncodedImage, classes: &Bound<'_, PyDict>) -> PyResult<Vec<String>> {
    let mut fitting = Fitting::new(plan, image, classes);
    if *image.workflow != *plan.core.name {
        let (theirs, ours) = (&image.workflow, &plan.core.name);
        fitting.problems.push(format!("it is of a run of workflow {theirs:?}, not of {ours:?}"));
        return Ok(fitting.problems);
    }
    for (seq, pending) in &mut image.pending {
        let class = &pending.event.class;
        if let Some(step) = fitting.step_for(*seq, pending.step, class)? {
            pending.step = step;
        }
        for event in pending.replay.received.iter() {
            fitting.check_class(&event.class, &format!("an event that delivery {seq} has received"))?;
        }
        for call in &pending.replay.collected {
            for class in call.expected.iter() {
                fitting.check_class(class, &format!("an event that delivery {seq} has collected"))?;
            }
            for event in call.events.iter().flatten() {
                fitting.check_class(&event.class, &format!("an event that delivery {seq} has collected"))?;
            }
        }
    }
    for group in image.groups.values_mut() {
        let name = fitting.old_steps[group.step.0 as usize].clone();
        match fitting.plan_step(&name) {
            Some(step) => group.step = step,
            None => fitting.problems.push(format!("step {name:?} collects events, and the workflow has no such step")),
        }
        for class in group.collected.expected().iter() {
            fitting.check_class(class, &format!("an event that step {name:?} collects"))?;
        }
        for event in group.collected.pending() {
            fitting.check_class(&event.class, &format!("an event that step {name:?} has collected"))?;
        }
    }
    for event in image.kept.values().chain(image.held.iter().map(|held| &held.event)) {
        fitting.check_class(&event.class, "an event that was sent in")?;
    }
    for waiting in image.waits.values_mut() {
        // The step will wait again when its body runs, for whatever it waits for now.
        if let Some(class) = &waiting.class
            && fitting.objects.find(class)?.is_none()
        {
            waiting.class = None;
        }
    }
    image.steps = plan.core.steps.iter().map(|step| step.name.clone()).collect();
    fitting.problems.dedup();
    Ok(fitting.problems)
}

struct Fitting<'a, 'py> {
    plan: &'a Plan,
    objects: ToObjects<'a, 'py>,
    old_steps: Vec<Box<str>>,
    // The steps that the workflow has got since.
    new_steps: HashSet<StepId>,
    problems: Vec<String>,
}

impl<'a, 'py> Fitting<'a, 'py> {
    fn new(plan: &'a Plan, image: &EncodedImage, classes: &'a Bound<'py, PyDict>) -> Self {
        let ids = (0..).map(StepId).zip(&plan.core.steps);
        let is_new = |name: &str| !image.steps.iter().any(|old| **old == *name);
        let new_steps = ids.filter(|(_, step)| is_new(&step.name)).map(|(id, _)| id).collect();
        Self { plan, objects: ToObjects::new(classes), old_steps: image.steps.clone(), new_steps, problems: Vec::new() }
    }

    fn plan_step(&self, name: &str) -> Option<StepId> {
        let at = self.plan.core.steps.iter().position(|step| *step.name == *name)?;
        u32::try_from(at).ok().map(StepId)
    }

    /// The step of the plan that takes a pending event: the one of the same name, or the only one that has come
    /// since and accepts the event, which must be the same under another name.
    fn step_for(&mut self, seq: u64, step: StepId, class_name: &str) -> PyResult<Option<StepId>> {
        let name = self.old_steps[step.0 as usize].clone();
        let what = format!("event {class_name} for step {name:?} (delivery {seq})");
        let Some(class) = self.objects.find(class_name)? else {
            self.problems.push(format!("{what}: no step names a class of that name"));
            return Ok(None);
        };
        let takers = self.takers(&class);
        match self.plan_step(&name) {
            Some(same) if takers.contains(&same) => return Ok(Some(same)),
            Some(_) => self.problems.push(format!("{what}: that step does not accept it")),
            None => match takers.iter().filter(|taker| self.new_steps.contains(*taker)).collect::<Vec<_>>()[..] {
                [only] => return Ok(Some(*only)),
                [] => self.problems.push(format!("{what}: there is no such step, and no new one accepts it")),
                _ => self.problems.push(format!("{what}: there is no such step, and several new ones accept it")),
            },
        }
        Ok(None)
    }

    fn takers(&self, class: &Bound<'py, PyType>) -> Vec<StepId> {
        match self.plan.route_of(class) {
            Route::Steps(kind) => self.plan.core.routes.steps(kind).to_vec(),
            Route::Stop | Route::Nowhere => Vec::new(),
        }
    }

    fn check_class(&mut self, class: &str, what: &str) -> PyResult<()> {
        if self.objects.find(class)?.is_none() {
            self.problems.push(format!("{what}: {class}: no step names a class of that name"));
        }
        Ok(())
    }
}
