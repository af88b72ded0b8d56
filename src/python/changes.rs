//! The state of a run from outside: what changes it, and what is read of it.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::convert::{self, PyValue};
use super::error;
use super::journal::{Journal, id};
use super::run::Run;
use super::stored::{ToBytes, ToObjects};
use super::text;
use crate::Changes;
use crate::history::{self, Trusted};
use crate::journal::{Entry, Signer, Slot, entry, kind};

#[pymethods]
impl Journal {
    /// Changes of keys as a message of this name for a run.
    fn changes_message<'py>(
        &self,
        run: &str,
        name: [u8; 16],
        set: &Bound<'py, PyDict>,
        removed: Vec<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let py = set.py();
        let mut to = ToBytes::new(py);
        let mut pairs = Vec::with_capacity(set.len());
        for (key, value) in set {
            let key = text::key(&key)?;
            pairs.push((key.into(), to.value(&convert::encode(key, &value)?)?));
        }
        let removed = removed.iter().map(|key| Ok(text::key(key)?.into())).collect::<PyResult<_>>()?;
        let event = Changes { set: pairs, removed }.into_event();
        let slot = Slot::Inbox { id: name, kind: kind::STATE };
        // All of it is signed, since a message makes its run do something.
        let bytes = entry::encode(id(run)?, &slot, &event, &self.signer.secrets, true)?;
        Ok(PyBytes::new(py, &bytes))
    }
}

/// What a message changes.
pub fn read(entry: &Entry, signer: &Signer, classes: &Bound<'_, PyDict>) -> PyResult<Changes<PyValue>> {
    let objects = ToObjects::new(classes);
    history::changes(Trusted::Signed(signer), entry.run, entry)?.try_map(|value| objects.stored_value(value))
}

/// Changes the state of a run, by an entry of its inbox.
pub fn make(run: &Bound<'_, Run>, entry: &Entry, changes: Changes<PyValue>) -> PyResult<()> {
    let now = run.get().now();
    let changed = run.get().state.lock().core.change(entry.number, changes, now);
    match changed {
        Ok(replaced) => {
            drop(replaced);
            Ok(())
        }
        Err(refused) => {
            let error = error::run_ended(&run.get().id_text(), "update_state");
            drop(refused);
            Err(error)
        }
    }
}
