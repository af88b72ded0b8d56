//! What a run is given beside its first event: limits of its time, and keys that are set from the beginning.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::convert::{self, PyValue};
use super::plan::micros;
use super::state::Python3;
use super::text;
use crate::{Limits, Run as CoreRun};

/// What a run is given beside its first event, read and encoded before the run is made.
#[derive(Default)]
pub struct RunOptions {
    pub limits: Limits,
    state: Vec<(String, PyValue)>,
}

impl RunOptions {
    /// Reads what Python gives: a timeout and a deadline in seconds, and keys with values; or nothing at all.
    pub fn read(given: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let Some(given) = given else { return Ok(Self::default()) };
        let (timeout, deadline, state): (Option<f64>, Option<f64>, Option<Bound<'_, PyDict>>) = given.extract()?;
        let limits = Limits { timeout: timeout.map(micros), deadline: deadline.map(micros) };
        let mut pairs = Vec::new();
        for (key, value) in state.into_iter().flatten() {
            let key = text::key(&key)?;
            pairs.push((key.to_owned(), convert::encode(key, &value)?));
        }
        Ok(Self { limits, state: pairs })
    }

    /// Puts it into a run that has not begun.
    pub fn put_into(&self, py: Python<'_>, core: &mut CoreRun<Python3>) {
        core.limit(self.limits);
        for (key, value) in &self.state {
            // A dict has no key twice, and the run is new: nothing is replaced or refused.
            drop(core.set(key, value.clone_ref(py)));
        }
    }
}
