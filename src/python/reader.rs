//! Reading what a run publishes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pyo3::exceptions::{PyStopAsyncIteration, PyStopIteration};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit, intern};

use super::coroutine::awaitable;
use super::error;
use super::gate::yielded;
use super::lifecycle::Feed;
use super::run::Run;
use super::wake::{self, Waker, is_closed};
use crate::Read;

/// An asynchronous iterator over the published events of a run.
#[pyclass(frozen, module = "treadle")]
pub struct StreamReader {
    run: Py<Run>,
    // The number of the last event that was read or missed.
    after: AtomicU64,
    // The lifecycle events, if it reads those as well.
    feed: Option<Arc<Feed>>,
}

enum Item {
    Event(Py<PyAny>),
    Missed(u64),
    Nothing,
    End,
}

impl Item {
    /// What the feed has for a reader that was given the published events so far.
    fn of_feed(feed: &Feed, after: u64) -> Option<Self> {
        match feed.take_missed() {
            0 => feed.take(after).map(Self::Event),
            missed => Some(Self::Missed(missed)),
        }
    }
}

impl StreamReader {
    pub fn new(run: Py<Run>, after: u64, feed: Option<Arc<Feed>>) -> Self {
        Self { run, after: AtomicU64::new(after), feed }
    }

    /// Takes the next item; registers the waker instead, if there is one and nothing to take.
    fn take(&self, py: Python<'_>, waker: Option<Waker>) -> (Item, Option<Waker>) {
        let mut state = self.run.get().state.lock();
        let after = self.after.load(Ordering::Relaxed);
        if let Some(item) = self.feed.as_deref().and_then(|feed| Item::of_feed(feed, after)) {
            return (item, waker);
        }
        let (item, read) = match state.core.stream().read(after) {
            Read::Event(event) => (Item::Event(event.clone_ref(py)), 1),
            Read::Lagged(missed) => (Item::Missed(missed), missed),
            Read::Pending if state.is_over => (Item::End, 0),
            Read::Pending => (Item::Nothing, 0),
        };
        self.after.store(after + read, Ordering::Relaxed);
        match (&item, waker) {
            (Item::Nothing, Some(waker)) => {
                state.readers.push(waker);
                (item, None)
            }
            (_, waker) => (item, waker),
        }
    }
}

#[pymethods]
impl StreamReader {
    /// The number of the last event that this reader was given; give it as `after` to go on from there.
    #[getter]
    fn position(&self) -> u64 {
        self.after.load(Ordering::Relaxed)
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(slf: Py<Self>) -> StreamRead {
        StreamRead { reader: slf, waiting: Mutex::new(None) }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.run)?;
        self.feed.as_ref().map_or(Ok(()), |feed| feed.traverse(&visit))
    }
}

/// One read of the next event: awaitable.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct StreamRead {
    reader: Py<StreamReader>,
    waiting: Mutex<Option<Py<PyAny>>>,
}

impl StreamRead {
    fn finish(&self, py: Python<'_>, item: Item) -> PyResult<Option<PyErr>> {
        static LAGGED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        Ok(Some(match item {
            Item::Event(event) => PyStopIteration::new_err((event,)),
            Item::Missed(missed) => {
                let keywords = PyDict::new(py);
                keywords.set_item(intern!(py, "missed"), missed)?;
                let lagged = LAGGED.import(py, "treadle.events", "Lagged")?.call((), Some(&keywords))?;
                PyStopIteration::new_err((lagged.unbind(),))
            }
            Item::End => PyStopAsyncIteration::new_err(()),
            Item::Nothing => return Ok(None),
        }))
    }

    #[allow(clippy::unnecessary_wraps)]
    fn give_up(&self, _py: Python<'_>) -> PyResult<()> {
        let waiting = self.waiting.lock().take();
        let Some(future) = waiting else { return Ok(()) };
        let mut state = self.reader.get().run.get().state.lock();
        let found = state.readers.iter().position(|waker| waker.future.is(&future));
        let removed = found.map(|at| state.readers.swap_remove(at));
        drop(state);
        drop(removed);
        Ok(())
    }
}

awaitable!(StreamRead);

#[pymethods]
impl StreamRead {
    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let reader = self.reader.get();
        let (item, _) = reader.take(py, None);
        if let Some(finished) = self.finish(py, item)? {
            return Err(finished);
        }
        if is_closed(reader.run.get().event_loop.bind(py))? {
            return Err(error::loop_closed(&reader.run.get().id_text()));
        }
        let waker = Waker::new(&wake::running_loop(py)?)?;
        let future = waker.future.bind(py).clone();
        // Another thread may have published something meanwhile.
        let (item, unused) = reader.take(py, Some(waker));
        drop(unused);
        if let Some(finished) = self.finish(py, item)? {
            return Err(finished);
        }
        let replaced = self.waiting.lock().replace(future.clone().unbind());
        drop(replaced);
        yielded(future)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.give_up(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.reader)?;
        let Some(waiting) = self.waiting.try_lock() else { return Ok(()) };
        visit.call(&*waiting)
    }
}
