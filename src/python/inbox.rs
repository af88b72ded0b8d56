//! What was sent to a run through the journal.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::fold::Trusted;
use super::run::Run;
use super::stored::ToObjects;
use crate::journal::{Entry, Signer, Slot, entry};
use crate::{Origin, Phase, Translate};

// What an entry is.
pub const EVENT: u8 = 0;
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
    let signer = &journal.get().signer;
    let slot = Slot::Inbox { id: entry.id, kind: entry.kind };
    let event = match entry.kind {
        CANCEL | PAUSE | RESUME => {
            let body = entry.body.clone().into();
            entry::check_wish(entry.run, &slot, body, &signer.secrets, signer.signs_all())?;
            None
        }
        _ => Some(event_of(entry, &slot, signer, classes)?),
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

fn event_of(entry: &Entry, slot: &Slot, signer: &Signer, classes: &Bound<'_, PyDict>) -> PyResult<Py<PyAny>> {
    let event = Trusted::Signed(signer).event(entry.run, slot, entry.body.clone().into())?;
    Translate::event(&mut ToObjects::new(classes), event)
}
