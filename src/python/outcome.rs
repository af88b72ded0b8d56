//! The end of a run as a journal keeps it: an event of the class "result", or one with what is known of a failure.

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::convert;
use super::event::class_name;
use super::run::Run;
use super::state::Outcome;
use super::stored::{ToBytes, ToObjects, lend};
use crate::history::Trusted;
use crate::journal::{Phase, Slot};
use crate::writer::Ending;
use crate::{Body, EncodedEvent, Tag};

const RESULT: &str = "result";
const CANCELLED: &str = "cancelled";

/// How a run ended at a record, and the bytes of that. A result that cannot be stored is a failure instead.
pub fn encode(run: &Bound<'_, Run>, ending: &Ending<'_>) -> PyResult<(Phase, Vec<u8>)> {
    let py = run.py();
    let result = match &run.get().state.lock().outcome {
        Some(Outcome::Result(result)) => Some(result.clone_ref(py)),
        _ => None,
    };
    if let Some(result) = result {
        match store_result(run, result.bind(py), ending) {
            Ok(bytes) => return Ok((Phase::Completed, bytes)),
            Err(error) if error.is_instance_of::<PyException>(py) => {
                let failed = Outcome::failed(py, error);
                let replaced = run.get().state.lock().outcome.replace(failed);
                drop(replaced);
            }
            Err(error) => return Err(error),
        }
    }
    let failure = match &run.get().state.lock().outcome {
        Some(Outcome::Failed(exception, _)) => Some(exception.clone_ref(py)),
        _ => None,
    };
    match failure {
        Some(exception) => Ok((Phase::Failed, store_failure(run, exception.bind(py).as_any(), ending)?)),
        None => {
            let event = EncodedEvent { class: CANCELLED.into(), body: Body::Fields(Vec::new()) };
            Ok((Phase::Cancelled, ending.seal(Phase::Cancelled, &event)?))
        }
    }
}

fn store_result(run: &Bound<'_, Run>, result: &Bound<'_, PyAny>, ending: &Ending<'_>) -> PyResult<Vec<u8>> {
    let mut to = ToBytes::new(run.py());
    // The event that ended the run, if it is one, is stored as an event is.
    let body = match to.event(result)? {
        EncodedEvent { body: Body::Whole(value), .. } => Body::Whole(value),
        event => return Ok(ending.seal(Phase::Completed, &event)?),
    };
    Ok(ending.seal(Phase::Completed, &EncodedEvent { class: RESULT.into(), body })?)
}

fn store_failure(run: &Bound<'_, Run>, exception: &Bound<'_, PyAny>, ending: &Ending<'_>) -> PyResult<Vec<u8>> {
    let py = run.py();
    let fields =
        py.import(intern!(py, "treadle.stored_errors"))?.call_method1(intern!(py, "fields_of"), (exception,))?;
    let mut to = ToBytes::new(py);
    let mut stored = Vec::new();
    for (name, value) in fields.cast_into::<PyDict>()? {
        let name: String = name.extract()?;
        match convert::encode(&name, &value) {
            Ok(value) => stored.push((name.into(), to.value(&value)?)),
            // It pickled a moment ago. Its text is stored all the same: the run must end.
            Err(error) if error.is_instance_of::<PyException>(py) => {}
            Err(error) => return Err(error),
        }
    }
    let class = class_name(&exception.get_type());
    Ok(ending.seal(Phase::Failed, &EncodedEvent { class, body: Body::Fields(stored) })?)
}

/// What is known of a failure without unpickling it.
pub fn failure_texts<'py>(
    run: crate::RunId,
    seq: u64,
    bytes: &Bound<'py, PyBytes>,
    trusted: Trusted<'_>,
) -> PyResult<Bound<'py, PyDict>> {
    let py = bytes.py();
    let event = trusted.event(run, &Slot::Outcome { seq, phase: Phase::Failed }, lend(bytes))?;
    let texts = PyDict::new(py);
    texts.set_item("class", &*event.class)?;
    let none = PyDict::new(py);
    let to = ToObjects::new(&none);
    let Body::Fields(stored) = event.body else { return Ok(texts) };
    for (name, value) in stored {
        if matches!(&*name, "text" | "notes") && value.tag == Tag::Json {
            texts.set_item(&*name, convert::decode(py, &name, &to.stored_value(value)?)?)?;
        }
    }
    Ok(texts)
}

/// How a run ended: "completed" with its result, "failed" with the exception, or "cancelled" with nothing.
pub fn decode<'py>(
    run: crate::RunId,
    slot: &Slot,
    bytes: &Bound<'py, PyBytes>,
    trusted: Trusted<'_>,
    classes: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = bytes.py();
    let event = trusted.event(run, slot, lend(bytes))?;
    let mut to = ToObjects::new(classes);
    if !matches!(slot, Slot::Outcome { phase: Phase::Failed, .. }) {
        return match event.body {
            Body::Whole(value) => convert::decode(py, "result", &to.stored_value(value)?),
            Body::Fields(_) if *event.class == *CANCELLED => Ok(py.None().into_bound(py)),
            Body::Fields(_) => Ok(crate::Translate::event(&mut to, event)?.into_bound(py)),
        };
    }
    let fields = PyDict::new(py);
    if let Body::Fields(stored) = event.body {
        for (name, value) in stored {
            match convert::decode(py, &name, &to.stored_value(value)?) {
                Ok(value) => fields.set_item(&*name, value)?,
                // Its class is gone, or it does not unpickle: its text says what it was.
                Err(error) if error.is_instance_of::<PyException>(py) => {
                    fields.set_item(intern!(py, "unreadable"), error.into_value(py))?;
                }
                Err(error) => return Err(error),
            }
        }
    }
    let failures = py.import(intern!(py, "treadle.stored_errors"))?;
    failures.call_method1(intern!(py, "from_fields"), (&*event.class, fields))
}
