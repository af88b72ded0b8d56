//! What happens to a run, for its journal and its observer.

use std::sync::atomic::Ordering;

use pyo3::prelude::*;

use super::run::Run;
use crate::writer::Occurrence;

/// The name of an occurrence, as an observer gets it.
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
    /// Something has happened: the journal and the observer are told, if the run has them.
    #[inline]
    pub fn occurred(run: &Bound<'_, Self>, what: Occurrence) -> PyResult<()> {
        if run.get().is_watched.load(Ordering::Relaxed) { Self::tell(run, what) } else { Ok(()) }
    }

    /// Has [`Run::occurred`] look for a journal and an observer.
    pub fn watch(&self) {
        self.is_watched.store(true, Ordering::Relaxed);
    }

    #[cold]
    fn tell(run: &Bound<'_, Self>, what: Occurrence) -> PyResult<()> {
        Self::mark(run, what)?;
        let py = run.py();
        let observer = run.get().state.lock().observer.as_ref().map(|observer| observer.clone_ref(py));
        match observer {
            Some(observer) => observer.call1(py, (run, name(what))).map(|_| ()),
            None => Ok(()),
        }
    }
}
