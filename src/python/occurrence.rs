//! What happens to a run, for its journal and the probe of a test.

use std::sync::atomic::Ordering;

use pyo3::prelude::*;

use super::run::Run;
use crate::writer::Occurrence;

/// The name of an occurrence, as a probe is called with.
fn name(what: Occurrence) -> &'static str {
    match what {
        Occurrence::Started => "started",
        Occurrence::Finished => "finished",
        Occurrence::Retried => "retried",
        Occurrence::Due => "due",
        Occurrence::Stored => "stored",
        Occurrence::Sent => "sent",
        Occurrence::Memo => "memo",
        Occurrence::Child => "child",
        Occurrence::ChildEnded => "child ended",
        Occurrence::Waiting => "waiting",
        Occurrence::Received => "received",
        Occurrence::Collected => "collected",
        Occurrence::Published => "published",
        Occurrence::Kept => "kept",
        Occurrence::Deferred => "held",
        Occurrence::Paused => "paused",
        Occurrence::Resumed => "resumed",
    }
}

impl Run {
    /// Something has happened: the journal and the probe are told, if the run has them.
    #[inline]
    pub fn occurred(run: &Bound<'_, Self>, what: Occurrence) -> PyResult<()> {
        if run.get().is_watched.load(Ordering::Relaxed) { Self::tell(run, what) } else { Ok(()) }
    }

    /// Has [`Run::occurred`] look for a journal and a probe.
    pub fn watch(&self) {
        self.is_watched.store(true, Ordering::Relaxed);
    }

    #[cold]
    fn tell(run: &Bound<'_, Self>, what: Occurrence) -> PyResult<()> {
        Self::mark(run, what)?;
        let py = run.py();
        let probe = run.get().state.lock().probe.as_ref().map(|probe| probe.clone_ref(py));
        match probe {
            Some(probe) => probe.call1(py, (run, name(what))).map(|_| ()),
            None => Ok(()),
        }
    }
}
