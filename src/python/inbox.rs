//! What was sent to a run through the journal.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::changes;
use super::convert::PyValue;
use super::error;
use super::run::Run;
use super::state::State;
use super::stored::ToObjects;
use crate::history::Trusted;
use crate::journal::kind::{CANCEL, CHILD_ENDED, PAUSE, RESUME, STATE};
use crate::journal::{Entry, Signer, Slot, entry};
use crate::{ChildEnd, Origin, RunId, Translate, family};

/// Takes an entry of the inbox, once.
pub fn take_entry(run: &Bound<'_, Run>, entry: &Entry, classes: &Bound<'_, PyDict>) -> PyResult<()> {
    let journal = {
        let mut state = run.get().state.lock();
        let State { core, durable, .. } = &mut *state;
        let Some(durable) = durable else { return Ok(()) };
        if !durable.writer.takes_entry(entry.number, core) {
            return Ok(());
        }
        durable.journal.clone_ref(run.py())
    };
    let signer = &journal.get().signer;
    if entry.kind == CHILD_ENDED {
        return take_child_end(run, entry, signer);
    }
    let slot = Slot::Inbox { id: entry.id, kind: entry.kind };
    let event = match entry.kind {
        CANCEL | PAUSE | RESUME => {
            let body = entry.body.clone().into();
            match entry::check_wish(entry.run, &slot, body, &signer.secrets, signer.signs_all()) {
                Ok(()) => None,
                Err(error) => return keep_undeliverable(run, entry, &error.into()),
            }
        }
        STATE => {
            let changes = match changes::read(entry, signer, classes) {
                Ok(changes) => changes,
                Err(error) => return keep_undeliverable(run, entry, &error),
            };
            failpoint!("run.entry_taken");
            changes::make(run, entry, changes)?;
            return Run::mark(run, crate::writer::Occurrence::Received);
        }
        _ => match event_of(entry, &slot, signer, classes) {
            Ok(event) => Some(event),
            Err(error) => return keep_undeliverable(run, entry, &error),
        },
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
    Run::mark(run, crate::writer::Occurrence::Received)?;
    Run::wake_lanes(run)
}

/// A child has ended: what it gave is kept, by the commit that consumes the entry.
fn take_child_end(run: &Bound<'_, Run>, entry: &Entry, signer: &Signer) -> PyResult<()> {
    let read = || -> PyResult<ChildEnd<PyValue>> {
        let classes = PyDict::new(run.py());
        let to = ToObjects::new(&classes);
        family::end_told(entry, signer)?.try_map(|value| to.stored_value(value))
    };
    let end = match read() {
        Ok(end) => end,
        Err(error) => return keep_undeliverable(run, entry, &error),
    };
    run.get().state.lock().core.consume(entry.number);
    failpoint!("run.entry_taken");
    Run::child_ended_with(run, RunId::from_bytes(entry.id), end)?;
    failpoint!("run.child_ended");
    Run::mark(run, crate::writer::Occurrence::ChildEnded)
}

/// An event that cannot be read, whatever its unpickling raises, becomes a dead letter: it is kept, and must not keep
/// the run and the other messages from going on.
fn keep_undeliverable(run: &Bound<'_, Run>, entry: &Entry, error: &PyErr) -> PyResult<()> {
    let py = run.py();
    let why = error::in_one_line(py, error);
    let text = format!("an event for run {} cannot be delivered, and is kept as a dead letter", entry.run);
    error::log_error(py, &text, error);
    if let Some(durable) = &mut run.get().state.lock().durable {
        durable.writer.refuse_entry(entry.number, why);
    }
    Run::mark(run, crate::writer::Occurrence::Received)
}

fn event_of(entry: &Entry, slot: &Slot, signer: &Signer, classes: &Bound<'_, PyDict>) -> PyResult<Py<PyAny>> {
    let event = Trusted::Signed(signer).event(entry.run, slot, entry.body.clone().into())?;
    Translate::event(&mut ToObjects::new(classes), event)
}
