//! A journal on an event loop: requests go out, and answers come back in one call for each batch.
//!
//! - this file: requests on their way, and who is told of the answer; `mailbox`: the answers on their way back;
//! - `opening`: the journal of a URL; `calls`: what Python asks; `answers`: what it is answered.

mod answers;
mod calls;
mod mailbox;
mod opening;

use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use pyo3::{PyTraverseError, PyVisit, intern};

use super::clock::{self, now};
use super::engine::EngineCore;
use super::error;
use super::gate::new_future;
use super::run::Run;
use crate::engine::Ask;
use crate::history::Trusted;
use crate::journal::{
    self, Batch, Digest, JournalError, Limits, News, Outbox, OwnerId, Request, Signer, Ticket, Transactions,
};
use crate::writer::{Durability, Made, Written};
use crate::{RunId, Time};
use answers::as_object;
use mailbox::{Mailbox, Pace};

pub use answers::{phase_name, row};
pub use calls::{duration, id, phase};
pub use opening::{journal_path, journal_shown, journal_takes_password, postgres_statements, random};

/// A journal, on the event loop that opened it.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct Journal {
    backend: ManuallyDrop<Box<dyn journal::Journal>>,
    mailbox: Arc<Mailbox>,
    ears: UnixStream,
    event_loop: Py<PyAny>,
    asked: Mutex<HashMap<Ticket, Asker>>,
    outbox: Mutex<Outbox>,
    // When the event loop calls `_tick`.
    timer: Mutex<Option<Time>>,
    // Those that were not handed on yet, in their order.
    answers: Mutex<VecDeque<(Ticket, journal::Outcome)>>,
    pace: Mutex<Pace>,
    tickets: AtomicU64,
    // A task of the engine that nothing but the end of the event loop cancels.
    watched: Mutex<Option<Py<PyAny>>>,
    // Has methods `heard(inbox, work, ends)`, `exists(run, id, input, is_same, events, is_cancelled)`, `forward(id, event)` and `ended(run)`.
    listener: Py<PyAny>,
    pub owner: OwnerId,
    pub signer: Signer,
    /// When the successors of a step may start.
    pub durability: Durability,
    only_looks: bool,
    // Whether the engine limits its runs, and is told which only wait.
    tells_waits: AtomicBool,
    /// The observers of each run of the engine; nothing if there are none.
    pub observers: Option<Py<PyTuple>>,
    // A fork copies neither the journal's thread nor its locks.
    forks: usize,
    process: u32,
}

/// Who is told of an answer.
pub enum Asker {
    /// A future, that gets the answer as an object.
    Future(Py<PyAny>),
    /// A run, with what its writer asked for.
    Run(Py<Run>, Written),
    /// The engine, with the name of its request.
    Engine(Py<EngineCore>, Ask),
}

// With more than this under way, steps wait for what was written before.
const MOST_QUEUED: usize = 64 << 20;

impl Journal {
    pub fn submit(&self, request: Request, asker: Asker) -> PyResult<()> {
        self.submit_all(vec![(request, asker)])
    }

    pub fn submit_all(&self, requests: Vec<(Request, Asker)>) -> PyResult<()> {
        self.check_process()?;
        let mut tickets = Vec::with_capacity(requests.len());
        let mut asked = self.asked.lock();
        let mut outbox = self.outbox.lock();
        for (request, asker) in requests {
            let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
            asked.insert(ticket, asker);
            outbox.put(ticket, request);
            tickets.push(ticket);
        }
        let ready = outbox.take();
        let next = outbox.next_tick();
        drop((asked, outbox));
        if next.is_some() && self.timer.lock().is_none() {
            // The event loop sets the timer.
            self.mailbox.put(Batch::default());
        }
        self.backend.submit(ready).map_err(|error| {
            let mut asked = self.asked.lock();
            let forgotten: Vec<_> = tickets.iter().filter_map(|ticket| asked.remove(ticket)).collect();
            drop(asked);
            drop(forgotten);
            error.into()
        })
    }

    // What the journal has said goes through the outbox: it answers those who asked, and sends what may go now.
    fn exchange(&self, batches: Vec<Batch>) {
        let now = now();
        let mut outbox = self.outbox.lock();
        for batch in batches {
            batch.answers.into_iter().for_each(|(ticket, outcome)| outbox.answered(ticket, outcome));
            for (ticket, request, error) in batch.returned {
                outbox.returned(ticket, request, error, now);
            }
        }
        loop {
            let ready = outbox.take();
            let tickets: Vec<_> = ready.iter().map(|(ticket, _)| *ticket).collect();
            let Err(error) = self.backend.submit(ready) else { break };
            tickets.into_iter().for_each(|ticket| outbox.answered(ticket, Err(error.clone())));
        }
        let answers = outbox.answers();
        drop(outbox);
        self.answers.lock().extend(answers);
    }

    fn arm_timer(slf: &Bound<'_, Self>) -> PyResult<()> {
        let Some(next) = slf.get().outbox.lock().next_tick() else { return Ok(()) };
        // One that comes too early finds nothing to do, and the next one is set then.
        {
            let mut timer = slf.get().timer.lock();
            if timer.is_some_and(|at| at <= next) {
                return Ok(());
            }
            *timer = Some(next);
        }
        let seconds = next.saturating_sub(now()) as f64 / 1e6;
        let tick = slf.getattr(intern!(slf.py(), "_tick"))?;
        slf.get().event_loop(slf.py()).call_method1(intern!(slf.py(), "call_later"), (seconds, tick)).map(drop)
    }

    pub fn ask<'py>(slf: &Bound<'py, Self>, request: Request) -> PyResult<Bound<'py, PyAny>> {
        let future = new_future(slf.get().event_loop.bind(slf.py()))?;
        slf.get().submit(request, Asker::Future(future.clone().unbind()))?;
        Ok(future)
    }

    /// Whether the event loop is being ended: `asyncio.run` cancels every task then, that of the engine with them.
    pub fn is_loop_ending(&self, py: Python<'_>) -> PyResult<bool> {
        let task = self.watched.lock().as_ref().map(|task| task.clone_ref(py));
        task.map_or(Ok(false), |task| task.call_method0(py, intern!(py, "cancelling"))?.is_truthy(py))
    }

    /// How transactions of steps are carried out, if the journal is in a database that users write to.
    pub fn transactions(&self) -> Option<&Transactions> {
        self.backend.transactions()
    }

    /// How large what the journal stores may be.
    pub fn limits(&self) -> Limits {
        self.backend.limits()
    }

    pub fn event_loop<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.event_loop.bind(py)
    }

    fn is_forked(&self) -> bool {
        clock::forks() != self.forks
    }

    fn tell(&self, py: Python<'_>, asker: Asker, outcome: journal::Outcome) -> PyResult<()> {
        match asker {
            Asker::Future(future) => {
                let future = future.bind(py);
                if future.call_method0(intern!(py, "done"))?.is_truthy()? {
                    return Ok(());
                }
                match outcome.map_err(PyErr::from).and_then(|reply| as_object(py, reply)) {
                    Ok(object) => future.call_method1(intern!(py, "set_result"), (object,))?,
                    Err(error) => future.call_method1(intern!(py, "set_exception"), (error.into_value(py),))?,
                };
                Ok(())
            }
            Asker::Run(run, written) => Run::answered(run.bind(py), written, outcome),
            Asker::Engine(core, ask) => EngineCore::answer(core.bind(py), ask, outcome),
        }
    }

    /// What asks whether runs are there and not over, and gives `value` then.
    pub fn ask_for_targets(
        &self,
        py: Python<'_>,
        targets: Vec<String>,
        sender: &str,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        self.listener.call_method1(py, intern!(py, "ask_for_targets"), (targets, sender, value))
    }

    /// Asks the engine for a place of a run. Says whether it has one now; if not, its `_get_place` is called later.
    pub fn ask_for_place(&self, run: &Bound<'_, Run>, has_begun: bool) -> PyResult<bool> {
        let arguments = (run.get().id_text(), &run.get().plan.get().name, has_begun);
        self.listener.call_method1(run.py(), intern!(run.py(), "ask_for_place"), arguments)?.is_truthy(run.py())
    }

    /// Whether there is a place for a run that is to be started.
    pub fn begin_in_place(&self, py: Python<'_>, id: RunId, workflow: &str) -> PyResult<bool> {
        self.listener.call_method1(py, intern!(py, "begin_in_place"), (id.to_string(), workflow))?.is_truthy(py)
    }

    /// Tells the engine that a run without a place is written for any process.
    pub fn run_written(&self, run: &Bound<'_, Run>, events: Vec<Py<PyAny>>, is_cancelled: bool) -> PyResult<()> {
        let arguments = (run, events, is_cancelled);
        self.listener.call_method1(run.py(), intern!(run.py(), "run_written"), arguments).map(drop)
    }

    /// Tells the engine that a run executes something whether or not there is a place.
    pub fn insist_on_place(&self, run: &Bound<'_, Run>) -> PyResult<()> {
        let arguments = (run.get().id_text(), &run.get().plan.get().name);
        self.listener.call_method1(run.py(), intern!(run.py(), "insist_on_place"), arguments).map(drop)
    }

    /// Tells the engine that a run has and wants no place.
    pub fn leave_place(&self, run: &Bound<'_, Run>) -> PyResult<()> {
        self.listener.call_method1(run.py(), intern!(run.py(), "leave_place"), (run.get().id_text(),)).map(drop)
    }

    /// Tells the engine that a run is over.
    pub fn ended(&self, run: &Bound<'_, Run>) -> PyResult<()> {
        self.listener.call_method1(run.py(), intern!(run.py(), "ended"), (run,)).map(|_| ())
    }

    /// Tells the engine that the journal has another run in the place of this one.
    pub fn exists(
        &self,
        run: &Bound<'_, Run>,
        id: RunId,
        (input, is_same): (&Digest, bool),
        events: Vec<Py<PyAny>>,
        is_cancelled: bool,
    ) -> PyResult<()> {
        let py = run.py();
        let arguments = (run, id.to_string(), PyBytes::new(py, input), is_same, events, is_cancelled);
        self.listener.call_method1(py, intern!(py, "exists"), arguments).map(|_| ())
    }

    /// Hands an event on to the run that the journal has in the place of the one that it was sent to.
    pub fn forward(&self, id: RunId, event: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event.py();
        self.listener.call_method1(py, intern!(py, "forward"), (id.to_string(), event)).map(|_| ())
    }

    /// Has a run paused that the journal has in the place of another one, or resumed.
    pub fn forward_pause(&self, py: Python<'_>, id: RunId, is_paused: bool) -> PyResult<()> {
        self.listener.call_method1(py, intern!(py, "forward_pause"), (id.to_string(), is_paused)).map(drop)
    }

    /// Has the run cancelled that the journal has in the place of another one.
    pub fn forward_cancel(&self, py: Python<'_>, id: RunId) -> PyResult<()> {
        self.listener.call_method1(py, intern!(py, "forward_cancel"), (id.to_string(),)).map(|_| ())
    }

    /// Refuses a workflow of which this process executes no runs.
    pub fn check_workflow(&self, workflow: &Bound<'_, PyAny>) -> PyResult<()> {
        self.listener.call_method1(workflow.py(), intern!(workflow.py(), "check_workflow"), (workflow,)).map(drop)
    }

    /// Tells the engine that a commit is being made that makes a child, to be executed here.
    pub fn child_expected(&self, py: Python<'_>, id: RunId) -> PyResult<()> {
        self.listener.call_method1(py, intern!(py, "child_expected"), (id.to_string(),)).map(drop)
    }

    /// Tells the engine whether a commit has made a child, if that is known: the run itself, if it is kept.
    pub fn child_made(&self, py: Python<'_>, made: Made, child: Option<Py<Run>>) -> PyResult<()> {
        let arguments = (made.run.to_string(), child, made.exists, made.is_for_any);
        self.listener.call_method1(py, intern!(py, "child_made"), arguments).map(drop)
    }

    /// Whether the engine is told which of its runs only wait.
    pub fn tells_waits(&self) -> bool {
        self.tells_waits.load(Ordering::Relaxed)
    }

    pub fn run_waits(&self, py: Python<'_>, id: RunId, waits: bool) -> PyResult<()> {
        self.listener.call_method1(py, intern!(py, "run_waits"), (id.to_string(), waits)).map(drop)
    }

    /// The stream of a child, from behind a number.
    pub fn stream_of_child(&self, py: Python<'_>, id: RunId, after: u64) -> PyResult<Py<PyAny>> {
        self.listener.call_method1(py, intern!(py, "stream_of_child"), (id.to_string(), after))
    }

    /// A reader of the stream of a run, whichever process executes it.
    pub fn stream_in_journal(&self, py: Python<'_>, id: RunId, after: u64) -> PyResult<Py<PyAny>> {
        self.listener.call_method1(py, intern!(py, "stream_in_journal"), (id.to_string(), after))
    }

    /// How what is only shown is read.
    pub fn for_showing(&self) -> Trusted<'_> {
        if self.only_looks && self.signer.secrets.is_empty() { Trusted::Nothing } else { Trusted::Signed(&self.signer) }
    }

    fn queued(&self) -> usize {
        self.backend.queued_bytes() + self.outbox.lock().held_bytes()
    }

    /// Whether more may be under way.
    pub fn has_room(&self) -> bool {
        self.queued() < MOST_QUEUED
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // In a child process there is no thread to wait for, and the files are those of the parent.
        if !self.is_forked() {
            // SAFETY: the backend is dropped here alone, and nothing uses it afterwards.
            unsafe { ManuallyDrop::drop(&mut self.backend) };
        }
    }
}

#[pymethods]
impl Journal {
    /// What becomes readable when there are answers; `_drain` takes them.
    fn fileno(&self) -> i32 {
        self.ears.as_raw_fd()
    }

    /// Hands on some of the answers that have come; the rest in the next passes of the loop.
    fn _drain(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let batches = slf.get().mailbox.take(&slf.get().ears);
        let mut news = News::default();
        batches.iter().for_each(|batch| news |= batch.news);
        slf.get().exchange(batches);
        Self::arm_timer(slf)?;
        failpoint!("loop.answers_taken");
        // One that fails must not keep the others from being told.
        let mut told = Ok(());
        let at_once = slf.get().pace.lock().next();
        for _ in 0..at_once {
            let Some((ticket, outcome)) = slf.get().answers.lock().pop_front() else { break };
            let asker = slf.get().asked.lock().remove(&ticket);
            if let Some(asker) = asker {
                told = told.and(slf.get().tell(py, asker, outcome));
            }
        }
        if news.is_any() {
            let arguments = (news.inbox, news.work, news.ends);
            told = told.and(slf.get().listener.call_method1(py, intern!(py, "heard"), arguments).map(|_| ()));
        }
        if !slf.get().answers.lock().is_empty() {
            slf.get().pace.lock().handed_on = Some(Instant::now());
            let event_loop = slf.get().event_loop.bind(py);
            event_loop.call_method1(intern!(py, "call_soon"), (slf.getattr(intern!(py, "_drain"))?,))?;
        }
        told
    }

    /// Hands on all the answers that have come, once the journal is closed.
    fn _drain_all(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().outbox.lock().close(JournalError::Closed);
        Self::_drain(slf)?;
        while !slf.get().answers.lock().is_empty() {
            Self::_drain(slf)?;
        }
        Ok(())
    }

    /// Called by the event loop: what the journal could not take is sent again.
    fn _tick(slf: &Bound<'_, Self>) -> PyResult<()> {
        *slf.get().timer.lock() = None;
        slf.get().outbox.lock().tick(now());
        Self::_drain(slf)
    }

    /// A task that nothing but the end of the event loop cancels: then the ends of runs are not written.
    fn watch(&self, task: Py<PyAny>) {
        let before = self.watched.lock().replace(task);
        drop(before);
    }

    /// From now on the engine is told which of its runs only wait.
    fn tell_waits(&self) {
        self.tells_waits.store(true, Ordering::Relaxed);
    }

    /// Refuses a process that was forked from the one that opened the journal.
    fn check_process(&self) -> PyResult<()> {
        if self.is_forked() { Err(error::forked(self.process)) } else { Ok(()) }
    }

    /// The most bytes of one commit.
    #[getter]
    fn most_commit_bytes(&self) -> usize {
        self.backend.limits().commit
    }

    /// The bytes that wait to be written.
    fn queued_bytes(&self) -> usize {
        self.queued()
    }

    /// Writes what waits and lets go of the files. Blocks.
    fn close(&self, py: Python<'_>) {
        if !self.is_forked() {
            py.detach(|| self.backend.close());
        }
    }

    /// Whether signatures are checked of what is shown.
    #[getter]
    fn verifies(&self) -> bool {
        matches!(self.for_showing(), Trusted::Signed(_))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.listener)?;
        visit.call(&self.observers)?;
        if let Some(watched) = self.watched.try_lock() {
            watched.iter().try_for_each(|task| visit.call(task))?;
        }
        let Some(asked) = self.asked.try_lock() else { return Ok(()) };
        asked.values().try_for_each(|asker| match asker {
            Asker::Future(future) => visit.call(future),
            Asker::Run(run, _) => visit.call(run),
            Asker::Engine(core, _) => visit.call(core),
        })
    }
}

impl From<JournalError> for PyErr {
    fn from(failure: JournalError) -> Self {
        error::journal(&failure)
    }
}
