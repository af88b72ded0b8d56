//! What Python asks of a journal.

use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyInt;

use super::{Journal, phase_name};
use crate::RunId;
use crate::journal::{Cursor, Filter, KeyFilter, Message, Phase, Request};
use crate::python::clock::now;
use crate::python::plan::micros;

#[pymethods]
impl Journal {
    /// The runs that ended since `after`, an earlier cursor, or from now on.
    #[pyo3(signature = (after, limit))]
    fn ends<'py>(slf: &Bound<'py, Self>, after: Option<Vec<u8>>, limit: usize) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, Request::Ends { after: after.map(Cursor::from_bytes), limit })
    }

    fn dead_letters<'py>(slf: &Bound<'py, Self>, run: &str) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, Request::DeadLetters { run: id(run)? })
    }

    fn redeliver<'py>(slf: &Bound<'py, Self>, run: &str) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, Request::Redeliver { run: id(run)? })
    }

    fn load<'py>(slf: &Bound<'py, Self>, run: &str) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, Request::Load { runs: vec![id(run)?] })
    }

    fn send<'py>(
        slf: &Bound<'py, Self>,
        run: &str,
        message: [u8; 16],
        kind: u8,
        body: Vec<u8>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, Request::Send { run: id(run)?, message: Message { id: message, kind, body }, now: now() })
    }

    fn get<'py>(slf: &Bound<'py, Self>, run: &str) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, Request::Get { run: id(run)? })
    }

    #[pyo3(signature = (*, workflow, status, since, after, limit, key = None, key_prefix = None, finished = (None, None), family = (None, None)))]
    #[allow(clippy::too_many_arguments)]
    fn list_runs<'py>(
        slf: &Bound<'py, Self>,
        workflow: Option<String>,
        status: Option<&str>,
        since: Option<f64>,
        after: Option<&str>,
        limit: usize,
        key: Option<String>,
        key_prefix: Option<String>,
        finished: (Option<f64>, Option<f64>),
        family: (Option<&str>, Option<&str>),
    ) -> PyResult<Bound<'py, PyAny>> {
        let key = key.map(KeyFilter::Is).or(key_prefix.map(KeyFilter::StartsWith));
        let (finished_since, finished_before) = (finished.0.map(micros), finished.1.map(micros));
        let phase = status.map(phase).transpose()?;
        let since = since.map(micros);
        let after = after.map(id).transpose()?;
        let (parent, root) = (family.0.map(id).transpose()?, family.1.map(id).transpose()?);
        let filter =
            Filter { workflow, phase, since, after, key, finished_since, finished_before, parent, root, limit };
        Self::ask(slf, Request::List { filter })
    }

    fn records<'py>(slf: &Bound<'py, Self>, run: &str, after: u64, limit: usize) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, Request::Records { run: id(run)?, after, limit })
    }

    /// The part of a run's history that has a record.
    fn segment<'py>(slf: &Bound<'py, Self>, run: &str, at: &Bound<'py, PyInt>) -> PyResult<Bound<'py, PyAny>> {
        // No run has as many records: a number that does not fit is one that is too large.
        Self::ask(slf, Request::Segment { run: id(run)?, at: at.extract().unwrap_or(u64::MAX) })
    }

    fn read_stream<'py>(slf: &Bound<'py, Self>, run: &str, after: u64, limit: usize) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, Request::ReadStream { run: id(run)?, after, limit })
    }

    fn delete<'py>(slf: &Bound<'py, Self>, run: &str) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, Request::Delete { run: id(run)? })
    }
}

pub fn id(text: &str) -> PyResult<RunId> {
    Ok(text.parse::<RunId>()?)
}

pub fn phase(status: &str) -> PyResult<Phase> {
    let known = Phase::ALL.into_iter().find(|phase| phase_name(*phase) == status);
    known.ok_or_else(|| {
        let names: Vec<_> = Phase::ALL.into_iter().map(phase_name).collect();
        PyValueError::new_err(format!("status: one of {} expected, not {status:?}", names.join(", ")))
    })
}

// One that is too long to count never ends.
pub fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
