//! A workflow as the binding runs it: the bodies of its steps, and which class of events goes where.

use std::num::NonZeroU32;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit, ffi, intern};

use super::lifecycle::some_observers;
use super::places::PlanPlaces;
use super::run::Run;
use super::run_options::RunOptions;
use crate::{Backoff, EventKind, Plan as CorePlan, RetryPlan, Route, Routes, StepId, StepPlan, Time};

/// What a step's function is called with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Arguments {
    Event,
    ContextEvent,
    EventContext,
}

/// What is run for a step.
pub struct Body {
    pub function: Py<PyAny>,
    pub arguments: Arguments,
    /// Whether the call gives something to await; else it gives the step's result.
    pub awaitable: bool,
    /// Whether a call makes a coroutine and does nothing else.
    pub is_coroutine: bool,
    accepts: Vec<Py<PyType>>,
    filter: Option<RetryFilter>,
    // The step that alone deals with its failures.
    on_error: Option<StepId>,
}

/// Which exceptions of a step are worth another attempt.
pub struct RetryFilter {
    pub on: Py<PyAny>,
    pub unless: Py<PyAny>,
    pub retry_if: Option<Py<PyAny>>,
    /// Gives the delay for an exception and the attempt that raised it.
    pub delay: Option<Py<PyAny>>,
}

/// A compiled workflow. Made by `treadle.Workflow`, which checks the graph first.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct Plan {
    pub name: String,
    pub core: Arc<CorePlan>,
    pub bodies: Vec<Body>,
    accepted: HashMap<usize, (Py<PyType>, EventKind)>,
    pub stop_event: Py<PyType>,
    /// What is told of each run of the workflow; nothing if there is none.
    pub observers: Option<Py<PyTuple>>,
    /// The places of the runs in memory, if only so many execute at once.
    pub places: Option<PlanPlaces>,
    // The steps that deal with failures of any step that names no other.
    failure_takers: Vec<StepId>,
    // The class is held so that its address cannot come to mean another class.
    routes: Mutex<HashMap<usize, (Py<PyType>, Route)>>,
}

// Classes made at run time would fill the memory if each were remembered for good.
const MOST_ROUTES: usize = 4096;

/// One step as `treadle.Workflow` describes it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct StepDescription {
    name: String,
    function: Py<PyAny>,
    arguments: String,
    awaitable: bool,
    accepts: Vec<Py<PyType>>,
    concurrency: Option<NonZeroU32>,
    timeout: Option<f64>,
    external: bool,
    retry: Option<RetryDescription>,
    on_error: Option<u32>,
    takes_failures: bool,
}

/// A `treadle.Retry`, with times in seconds.
#[derive(FromPyObject)]
pub struct RetryDescription {
    attempts: u32,
    backoff: String,
    initial: f64,
    factor: f64,
    max: f64,
    jitter: f64,
    total_timeout: Option<f64>,
    on: Py<PyAny>,
    unless: Py<PyAny>,
    retry_if: Option<Py<PyAny>>,
    delay: Option<Py<PyAny>>,
}

impl RetryDescription {
    pub fn split(self) -> PyResult<(RetryPlan, RetryFilter)> {
        let backoff = match self.backoff.as_str() {
            "constant" => Backoff::Constant,
            "linear" => Backoff::Linear,
            "exponential" => Backoff::Exponential,
            other => return Err(PyValueError::new_err(format!("backoff: {other:?}"))),
        };
        let plan = RetryPlan {
            attempts: self.attempts,
            backoff,
            initial: micros(self.initial),
            factor: self.factor,
            max: micros(self.max),
            jitter: self.jitter,
            total: self.total_timeout.map(micros),
        };
        Ok((plan, RetryFilter { on: self.on, unless: self.unless, retry_if: self.retry_if, delay: self.delay }))
    }
}

#[pymethods]
impl Plan {
    #[new]
    #[pyo3(signature = (name, steps, *, stop_event, timeout, deadline, stream_limit, observers = None, max_runs = None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        name: String,
        steps: Vec<StepDescription>,
        stop_event: Py<PyType>,
        timeout: Option<f64>,
        deadline: Option<f64>,
        stream_limit: usize,
        observers: Option<Bound<'_, PyTuple>>,
        max_runs: Option<usize>,
    ) -> PyResult<Self> {
        let mut takers: Vec<(Py<PyType>, Vec<StepId>)> = Vec::new();
        let mut plan = CorePlan {
            name: name.as_str().into(),
            timeout: timeout.map(micros),
            deadline: deadline.map(micros),
            stream_limit,
            ..CorePlan::default()
        };
        let mut failure_takers = Vec::new();
        let mut bodies = Vec::with_capacity(steps.len());
        for (step, id) in steps.into_iter().zip((0..).map(StepId)) {
            for class in &step.accepts {
                match takers.iter_mut().find(|(known, _)| known.is(class)) {
                    Some((_, steps)) => steps.push(id),
                    None => takers.push((class.clone_ref(py), vec![id])),
                }
            }
            let arguments = match step.arguments.as_str() {
                "event" => Arguments::Event,
                "context, event" => Arguments::ContextEvent,
                "event, context" => Arguments::EventContext,
                other => return Err(PyValueError::new_err(format!("arguments: {other:?}"))),
            };
            let (retry, filter) = step.retry.map(RetryDescription::split).transpose()?.unzip();
            let on_error = step.on_error.map(StepId);
            let (function, awaitable, accepts) = (step.function, step.awaitable, step.accepts);
            let is_coroutine = awaitable && makes_coroutine(function.bind(py))?;
            bodies.push(Body { function, arguments, awaitable, is_coroutine, accepts, filter, on_error });
            if step.takes_failures {
                failure_takers.push(id);
            }
            plan.steps.push(StepPlan {
                name: step.name.into(),
                concurrency: step.concurrency,
                timeout: step.timeout.map(micros),
                external: step.external,
                is_timed: retry.is_some() || on_error.is_some(),
                retry,
            });
        }
        if !failure_takers.is_empty() {
            plan.steps.iter_mut().for_each(|step| step.is_timed = true);
        }
        let mut routes = Routes::default();
        let accepted =
            takers.into_iter().map(|(class, steps)| (class.as_ptr() as usize, (class, routes.add(steps)))).collect();
        plan.routes = routes;
        let observers = some_observers(observers);
        let (core, routes, places) = (Arc::new(plan), Mutex::default(), max_runs.map(PlanPlaces::new));
        Ok(Self { name, core, bodies, accepted, stop_event, observers, places, failure_takers, routes })
    }

    /// Starts a run with its first event, on the running event loop.
    #[pyo3(signature = (event, given = None))]
    fn start(slf: &Bound<'_, Self>, event: Bound<'_, PyAny>, given: Option<&Bound<'_, PyAny>>) -> PyResult<Py<Run>> {
        Run::start(slf, event, RunOptions::read(given)?)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for body in &self.bodies {
            visit.call(&body.function)?;
            body.accepts.iter().try_for_each(|class| visit.call(class))?;
            if let Some(filter) = &body.filter {
                visit.call(&filter.on)?;
                visit.call(&filter.unless)?;
                visit.call(&filter.retry_if)?;
                visit.call(&filter.delay)?;
            }
        }
        visit.call(&self.stop_event)?;
        visit.call(&self.observers)?;
        self.places.as_ref().map_or(Ok(()), |places| places.traverse(&visit))?;
        self.accepted.values().try_for_each(|(class, _)| visit.call(class))?;
        let Some(routes) = self.routes.try_lock() else { return Ok(()) };
        routes.values().try_for_each(|(class, _)| visit.call(class))
    }
}

impl Plan {
    /// Where an event goes: to the steps that accept the most specific class of it.
    #[inline]
    pub fn route(&self, event: &Bound<'_, PyAny>) -> Route {
        let class = event.get_type_ptr() as usize;
        if let Some((_, route)) = self.routes.lock().get(&class) {
            return *route;
        }
        self.route_of(&event.get_type())
    }

    #[cold]
    pub fn route_of(&self, class: &Bound<'_, PyType>) -> Route {
        let mut route = Route::Nowhere;
        for base in class.mro().iter() {
            if base.is(&self.stop_event) {
                route = Route::Stop;
                break;
            }
            if let Some((_, kind)) = self.accepted.get(&(base.as_ptr() as usize)) {
                route = Route::Steps(*kind);
                break;
            }
        }
        let mut routes = self.routes.lock();
        let forgotten = if routes.len() >= MOST_ROUTES { std::mem::take(&mut *routes) } else { HashMap::new() };
        routes.insert(class.as_ptr() as usize, (class.clone().unbind(), route));
        drop(routes);
        drop(forgotten);
        route
    }

    /// Which failures of a step are worth another attempt; all, if it does not say.
    pub fn filter(&self, step: StepId) -> Option<&RetryFilter> {
        self.bodies[step.0 as usize].filter.as_ref()
    }

    /// The step of a name.
    pub fn step_named(&self, name: &str) -> Option<StepId> {
        let at = self.core.steps.iter().position(|step| *step.name == *name)?;
        u32::try_from(at).ok().map(StepId)
    }

    /// Whether a step accepts an event, also one that goes to others unless it is sent to this one by name.
    pub fn accepts(&self, step: StepId, event: &Bound<'_, PyAny>) -> bool {
        let accepted = &self.bodies[step.0 as usize].accepts;
        event.get_type().mro().iter().any(|base| accepted.iter().any(|class| base.is(class)))
    }

    /// The names of the classes that a step accepts, for errors.
    pub fn accepted_by(&self, py: Python<'_>, step: StepId) -> String {
        let accepted = self.bodies[step.0 as usize].accepts.iter();
        accepted.map(|class| super::text::type_name(class.bind(py))).collect::<Vec<_>>().join(", ")
    }

    /// The steps that deal with a failure of this one.
    pub fn failure_takers(&self, step: StepId) -> &[StepId] {
        match &self.bodies[step.0 as usize].on_error {
            Some(taker) => std::slice::from_ref(taker),
            None => &self.failure_takers,
        }
    }

    /// The name of a step.
    pub fn step_name(&self, step: StepId) -> &str {
        &self.core.steps[step.0 as usize].name
    }

    /// The names of the classes that some step accepts, for errors.
    pub fn accepted_names(&self, py: Python<'_>) -> String {
        let mut names: Vec<String> =
            self.accepted.values().map(|(class, _)| super::text::type_name(class.bind(py))).collect();
        names.sort();
        names.join(", ")
    }
}

/// Seconds to microseconds; what is too large to count is as good as forever.
pub fn micros(seconds: f64) -> Time {
    (seconds.max(0.0) * 1e6) as Time
}

/// Whether a call of a function makes a coroutine and does nothing else.
fn makes_coroutine(function: &Bound<'_, PyAny>) -> PyResult<bool> {
    const CO_COROUTINE: u32 = 0x80;
    let py = function.py();
    // SAFETY: only reads the type of a live object.
    if unsafe { ffi::PyFunction_Check(function.as_ptr()) } == 0 {
        return Ok(false);
    }
    let flags: u32 = function.getattr(intern!(py, "__code__"))?.getattr(intern!(py, "co_flags"))?.extract()?;
    Ok(flags & CO_COROUTINE != 0)
}
