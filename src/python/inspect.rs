//! Runs, events and values as plain objects: nothing is trusted, imported or unpickled.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use super::stored::lend;
use crate::{
    Body, ChildEnd, EncodedEvent, EncodedImage, Grouped, Kept, Pending, Status, Tag, Value, Waiting, snapshot,
};

/// How much of values is shown.
#[derive(Clone, Copy)]
pub struct Show {
    /// The contents of JSON and binary values up to this many bytes; nothing: of none. Those of opaque values never are.
    pub contents: Option<usize>,
}

impl Show {
    /// Tags, classes and sizes.
    pub const NAMES: Self = Self { contents: None };
}

/// What is in a snapshot, as plain objects.
#[pyfunction]
#[pyo3(name = "_inspect")]
pub fn inspect<'py>(bytes: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyDict>> {
    let py = bytes.py();
    let found = snapshot::read_unverified(lend(bytes))?;
    let shown = image(py, &found.image, Show::NAMES)?;
    shown.set_item("version", found.version)?;
    shown.set_item("key", found.key.map(|key| key.to_string()))?;
    shown.set_item("is_intact", found.is_intact)?;
    shown.set_item("size", bytes.as_bytes().len())?;
    Ok(shown)
}

/// A run as plain objects.
pub fn image<'py>(py: Python<'py>, image: &EncodedImage, show: Show) -> PyResult<Bound<'py, PyDict>> {
    let shown = PyDict::new(py);
    shown.set_item("run", image.id.to_string())?;
    shown.set_item("workflow", &*image.workflow)?;
    shown.set_item("steps", image.steps.iter().map(|step| &**step).collect::<Vec<_>>())?;
    shown.set_item("status", status(image.status))?;
    shown.set_item("created", (image.created > 0).then(|| seconds(image.created)))?;
    shown.set_item("deadline", image.deadline.map(seconds))?;
    shown.set_item("published", image.published)?;
    let state = PyList::empty(py);
    for (key, stored) in image.state.iter() {
        let line = value(py, stored, show)?;
        line.set_item("key", key)?;
        state.append(line)?;
    }
    shown.set_item("state", state)?;
    shown.set_item("pending", list(py, &image.pending, |(seq, it)| pending(py, image, *seq, it, show))?)?;
    shown.set_item("waits", list(py, &image.waits, |(_, it)| waiting(py, it))?)?;
    shown.set_item("groups", list(py, &image.groups, |(_, it)| group(py, image, it))?)?;
    shown.set_item("kept", list(py, &image.kept, |(_, kept)| event(py, kept, show))?)?;
    shown.set_item("held", list(py, &image.held, |held| event(py, &held.event, show))?)?;
    Ok(shown)
}

/// Somebody who waits, as plain objects.
pub fn waiting<'py>(py: Python<'py>, waiting: &Waiting<Arc<str>>) -> PyResult<Bound<'py, PyDict>> {
    let line = PyDict::new(py);
    line.set_item("delivery", waiting.seq)?;
    line.set_item("class", waiting.class.as_deref())?;
    line.set_item("due", waiting.due.map(seconds))?;
    Ok(line)
}

/// What a step collects, as plain objects.
pub fn group<'py>(
    py: Python<'py>,
    image: &EncodedImage,
    group: &Grouped<EncodedEvent, Arc<str>>,
) -> PyResult<Bound<'py, PyDict>> {
    let line = PyDict::new(py);
    line.set_item("step", step(image, group.step))?;
    line.set_item("key", group.key.as_deref())?;
    line.set_item("expected", group.collected.expected().len())?;
    line.set_item("collected", group.collected.pending().count())?;
    Ok(line)
}

fn list<'py, T>(
    py: Python<'py>,
    items: impl IntoIterator<Item = T>,
    show: impl Fn(T) -> PyResult<Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyList>> {
    let shown: Vec<_> = items.into_iter().map(show).collect::<PyResult<_>>()?;
    PyList::new(py, shown)
}

/// A delivery that is not done, as plain objects.
pub fn pending<'py>(
    py: Python<'py>,
    image: &EncodedImage,
    seq: u64,
    pending: &Pending<EncodedEvent, Arc<str>>,
    show: Show,
) -> PyResult<Bound<'py, PyDict>> {
    let line = event(py, &pending.event, show)?;
    line.set_item("delivery", seq)?;
    line.set_item("step", step(image, pending.step))?;
    line.set_item("attempt", pending.attempt)?;
    line.set_item("due", pending.due.map(seconds))?;
    let failures: Vec<_> = pending.replay.failures.iter().map(|failure| &*failure.text).collect();
    line.set_item("failures", failures)?;
    line.set_item("received", list(py, &pending.replay.received, |received| event(py, received, show))?)?;
    line.set_item("sent", pending.replay.sent.len())?;
    let memos = list(py, pending.replay.memos.iter(), |(_, memo)| {
        let line = memo.kept.value().map_or_else(|| Ok(PyDict::new(py)), |kept| value(py, kept, show))?;
        line.set_item("name", &*memo.call.name)?;
        if let Kept::Child(child) = &memo.kept {
            line.set_item("child", child.id.to_string())?;
            line.set_item("is_over", child.end.is_some())?;
        }
        line.set_item("is_failure", is_failure(&memo.kept))?;
        Ok(line)
    })?;
    line.set_item("memos", memos)?;
    Ok(line)
}

/// Whether it is an exception that was kept.
pub fn is_failure(kept: &Kept<Value>) -> bool {
    match kept {
        Kept::Result(_) => false,
        Kept::Failure(_) => true,
        Kept::Child(child) => child.end.as_ref().is_some_and(ChildEnd::is_failure),
    }
}

/// An event as plain objects.
pub fn event<'py>(py: Python<'py>, event: &EncodedEvent, show: Show) -> PyResult<Bound<'py, PyDict>> {
    let line = PyDict::new(py);
    line.set_item("class", &*event.class)?;
    match &event.body {
        Body::Whole(whole) => line.set_item("whole", value(py, whole, show)?)?,
        Body::Fields(fields) => {
            let shown = PyDict::new(py);
            for (name, stored) in fields {
                shown.set_item(&**name, value(py, stored, show)?)?;
            }
            line.set_item("fields", shown)?;
        }
    }
    Ok(line)
}

/// A value as plain objects: what needs no trust is shown.
pub fn value<'py>(py: Python<'py>, value: &Value, show: Show) -> PyResult<Bound<'py, PyDict>> {
    let line = PyDict::new(py);
    let tag = match value.tag {
        Tag::Binary => "binary",
        Tag::MutableBinary => "mutable binary",
        Tag::Json => "json",
        Tag::Opaque => "opaque",
    };
    line.set_item("tag", tag)?;
    line.set_item("type", value.class.as_deref())?;
    line.set_item("size", value.bytes.len())?;
    if show.contents.is_some_and(|most| value.bytes.len() <= most) {
        match value.tag {
            Tag::Json => line.set_item("json", std::str::from_utf8(&value.bytes).unwrap_or_default())?,
            Tag::Binary | Tag::MutableBinary => line.set_item("binary", PyBytes::new(py, &value.bytes))?,
            Tag::Opaque => {}
        }
    }
    Ok(line)
}

/// The name of a step.
pub fn step(image: &EncodedImage, step: crate::StepId) -> Option<&str> {
    image.steps.get(step.0 as usize).map(|name| &**name)
}

/// How far a run is, as text.
pub fn status(status: Status) -> &'static str {
    match status {
        Status::Running => "running",
        Status::Paused => "paused",
        Status::Ended => "ended",
    }
}

/// A time in seconds.
pub fn seconds(time: u64) -> f64 {
    time as f64 / 1e6
}
