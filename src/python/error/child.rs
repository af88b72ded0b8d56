//! Errors about runs that steps start.

use pyo3::prelude::*;

use super::classes;
use crate::python::context::Context;
use crate::python::run::Run;

fn place(context: &Context) -> String {
    format!("step {:?} of run {}", context.step_name(), context.run.get().id_text())
}

#[cold]
pub fn child_off_loop(step: &str, workflow: &str) -> PyErr {
    classes::EventLoopError::new_err(format!(
        "step {step:?}: a run of workflow {workflow:?} is started on the event loop of its parent, in an `async def`"
    ))
}

#[cold]
pub fn children_too_deep(context: &Context, workflow: &str, depth: u32) -> PyErr {
    classes::FamilyTooDeep::new_err(format!(
        "{}: a run of workflow {workflow:?} would have {depth} runs above it: children start children without end, or \
         max_depth is too small",
        place(context)
    ))
}

#[cold]
pub fn child_key_conflict(context: &Context, workflow: &str, key: Option<&str>) -> PyErr {
    let key = key.unwrap_or_default();
    classes::KeyConflict::new_err(format!(
        "{}: it has started a run of workflow {workflow:?} with the key {key:?} and another input",
        place(context)
    ))
}

#[cold]
pub fn child_outside_step(child: &str, parent: &str) -> PyErr {
    classes::OutsideStep::new_err(format!(
        "run {child}: the step of run {parent} that has started it is over, and awaits it no longer"
    ))
}

#[cold]
pub fn child_stream_gone(child: &str, workflow: &str) -> PyErr {
    let text = format!("stream_events: run {child} of workflow {workflow:?} has ended, and its stream is not kept");
    super::of_run(child, classes::RunEnded::new_err(text))
}

/// Notes where in its family a child has failed.
pub fn note_child(py: Python<'_>, error: &PyErr, parent: &str, child: &Run) {
    let note = format!("in run {} of workflow {:?}, a child of run {parent}", child.id_text(), child.plan.get().name,);
    super::add_note(py, error, note);
}
