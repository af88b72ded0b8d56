//! What was sent to a run through the journal.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::error;
use super::run::Run;
use super::stored::ToObjects;
use crate::journal::{Entry, record};
use crate::{Origin, Phase, Record, Secrets, Translate};

// What an entry is; an event is 0.
const CANCEL: u8 = 1;
const PAUSE: u8 = 2;
const RESUME: u8 = 3;

/// Takes an entry of the inbox, once.
pub fn take_entry(run: &Bound<'_, Run>, entry: &Entry, classes: &Bound<'_, PyDict>) -> PyResult<()> {
    let journal = {
        let mut state = run.get().state.lock();
        let is_running = state.core.phase() == Phase::Running;
        match &mut state.durable {
            Some(durable) if entry.number > durable.last_entry && is_running => {
                durable.last_entry = entry.number;
                durable.journal.clone_ref(run.py())
            }
            _ => return Ok(()),
        }
    };
    let event = match entry.kind {
        CANCEL | PAUSE | RESUME => None,
        _ => Some(event_of(entry, &journal.get().secrets, classes)?),
    };
    // Only what was understood is consumed, by the commit that writes what became of it.
    if event.is_none() {
        run.get().state.lock().core.consume(entry.number);
    }
    failpoint!("run.entry_taken");
    match (event, entry.kind) {
        (Some(event), _) => Run::take_in(run, event.bind(run.py()), Origin::Inbox(entry.number))?,
        (None, CANCEL) => return Run::cancel_here(run),
        (None, PAUSE) => Run::pause_here(run)?,
        (None, _) => Run::go_on_here(run)?,
    }
    Run::mark(run, super::touch::Touch::Received)?;
    Run::wake_lanes(run)
}

fn event_of(entry: &Entry, secrets: &Secrets, classes: &Bound<'_, PyDict>) -> PyResult<Py<PyAny>> {
    let decoded = record::decode(entry.run, 0, entry.body.clone().into(), secrets)?;
    let Record::Published { event } = decoded else { return Err(error::unreadable_text()) };
    Translate::event(&mut ToObjects::new(classes), event)
}
