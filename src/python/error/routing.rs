//! Events that nothing accepts.

use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use super::classes;
use super::text::shown;
use crate::StepId;
use crate::python::plan::Plan;
use crate::python::run::Run;

#[cold]
pub fn unrouted_start(plan: &Plan, event: &Bound<'_, PyAny>) -> PyErr {
    classes::UnroutedEvent::new_err(format!(
        "workflow {:?} cannot start with {}: no step accepts it; accepted: {}",
        plan.name,
        shown(event),
        plan.accepted_names(event.py())
    ))
}

/// `from` says who emitted the event.
#[cold]
pub fn unrouted(plan: &Plan, event: &Bound<'_, PyAny>, from: &str) -> PyErr {
    let hint = if event.is_instance_of::<PyTuple>() {
        " (several events are returned as a list)"
    } else if event.is_instance_of::<PyType>() {
        " (it is a class: return an instance of it)"
    } else {
        ""
    };
    classes::UnroutedEvent::new_err(format!(
        "{from} {}, which no step of workflow {:?} accepts{hint}; accepted: {}",
        shown(event),
        plan.name,
        plan.accepted_names(event.py())
    ))
}

/// An event was sent to one step by its name, which there is not, or which does not accept it.
#[cold]
pub fn unrouted_to(run: &Run, from: StepId, event: &Bound<'_, PyAny>, to: &str) -> PyErr {
    let plan = run.plan.get();
    let why = match plan.step_named(to) {
        Some(step) => format!("which does not accept it; it accepts: {}", plan.accepted_by(event.py(), step)),
        None => {
            let names: Vec<_> = plan.core.steps.iter().map(|step| &*step.name).collect();
            format!("which workflow {:?} does not have; its steps: {}", plan.name, names.join(", "))
        }
    };
    classes::UnroutedEvent::new_err(format!(
        "step {:?} of run {} sent {} to step {to:?}, {why}",
        plan.step_name(from),
        run.id_text(),
        shown(event)
    ))
}
