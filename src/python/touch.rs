//! What has just happened to a run, for whoever looks on: the points at which a run can be put down.

use std::sync::atomic::Ordering;

use pyo3::prelude::*;

use super::run::Run;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    Started,
    Finished,
    Retried,
    Due,
    Stored,
    Sent,
    Waiting,
    Received,
    Collected,
    Published,
    Kept,
    Held,
    Paused,
    Resumed,
}

impl Touch {
    /// Its name, as the onlooker gets it.
    fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Finished => "finished",
            Self::Retried => "retried",
            Self::Due => "due",
            Self::Stored => "stored",
            Self::Sent => "sent",
            Self::Waiting => "waiting",
            Self::Received => "received",
            Self::Collected => "collected",
            Self::Published => "published",
            Self::Kept => "kept",
            Self::Held => "held",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
        }
    }
}

impl Run {
    /// Tells the onlooker, if there is one.
    #[inline]
    pub fn touch(run: &Bound<'_, Self>, what: Touch) -> PyResult<()> {
        if run.get().is_watched.load(Ordering::Relaxed) { Self::tell(run, what) } else { Ok(()) }
    }

    /// Has [`Run::touch`] look for a journal and an onlooker.
    pub fn watch(&self) {
        self.is_watched.store(true, Ordering::Relaxed);
    }

    #[cold]
    fn tell(run: &Bound<'_, Self>, what: Touch) -> PyResult<()> {
        Self::mark(run, what)?;
        let py = run.py();
        let observer = run.get().state.lock().observer.as_ref().map(|observer| observer.clone_ref(py));
        match observer {
            Some(observer) => observer.call1(py, (run, what.name())).map(|_| ()),
            None => Ok(()),
        }
    }
}
