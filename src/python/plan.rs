//! A workflow as the binding runs it: the bodies of its steps, and which class of events goes where.

use std::num::NonZeroU32;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, PyVisit};

use super::run::Run;
use crate::{EventKind, Plan as CorePlan, Routes, StepId, StepPlan, Time};

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
}

/// Where an event of some class goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Steps(EventKind),
    Stop,
    Nowhere,
}

/// A compiled workflow. Made by `treadle.Workflow`, which checks the graph first.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct Plan {
    pub name: String,
    pub core: Arc<CorePlan>,
    pub bodies: Vec<Body>,
    accepted: HashMap<usize, (Py<PyType>, EventKind)>,
    pub stop_event: Py<PyType>,
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
}

#[pymethods]
impl Plan {
    #[new]
    #[pyo3(signature = (name, steps, *, stop_event, timeout, stream_limit))]
    fn new(
        py: Python<'_>,
        name: String,
        steps: Vec<StepDescription>,
        stop_event: Py<PyType>,
        timeout: Option<f64>,
        stream_limit: usize,
    ) -> PyResult<Self> {
        let mut takers: Vec<(Py<PyType>, Vec<StepId>)> = Vec::new();
        let mut plan = CorePlan { timeout: timeout.map(micros), stream_limit, ..CorePlan::default() };
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
            bodies.push(Body { function: step.function, arguments, awaitable: step.awaitable });
            plan.steps.push(StepPlan {
                name: step.name.into(),
                concurrency: step.concurrency,
                timeout: step.timeout.map(micros),
                external: step.external,
            });
        }
        let mut routes = Routes::default();
        let accepted =
            takers.into_iter().map(|(class, steps)| (class.as_ptr() as usize, (class, routes.add(steps)))).collect();
        plan.routes = routes;
        Ok(Self { name, core: Arc::new(plan), bodies, accepted, stop_event, routes: Mutex::default() })
    }

    /// Starts a run with its first event, on the running event loop.
    fn start(slf: &Bound<'_, Self>, event: Bound<'_, PyAny>) -> PyResult<Py<Run>> {
        Run::start(slf, event)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for body in &self.bodies {
            visit.call(&body.function)?;
        }
        visit.call(&self.stop_event)?;
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
        self.find_route(&event.get_type())
    }

    #[cold]
    fn find_route(&self, class: &Bound<'_, PyType>) -> Route {
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

    /// The name of a step.
    pub fn step_name(&self, step: StepId) -> &str {
        &self.core.steps[step.0 as usize].name
    }

    /// The names of the classes that some step accepts, for errors.
    pub fn accepted_names(&self, py: Python<'_>) -> String {
        let mut names: Vec<String> =
            self.accepted.values().map(|(class, _)| super::convert::type_name(class.bind(py))).collect();
        names.sort();
        names.join(", ")
    }
}

/// Seconds to microseconds; what is too large to count is as good as forever.
pub fn micros(seconds: f64) -> Time {
    (seconds.max(0.0) * 1e6) as Time
}
