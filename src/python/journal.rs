//! A journal on an event loop: requests go out, and answers come back in one call for each batch.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use pyo3::{PyTraverseError, PyVisit, intern};

use super::clock::{self, now};
use super::engine::EngineCore;
use super::error;
use super::gate::new_future;
use super::plan::micros;
use super::run::Run;
use crate::engine::Ask;
use crate::history::Trusted;
use crate::journal::{
    self, Address, Batch, Cursor, Filter, JournalError, KeptSecret, KeyFilter, Limits, Message, News, OpIds,
    OpenOptions, Outbox, OwnerId, Phase, Reply, Request, RunRow, Sign, Signer, Ticket,
};
use crate::writer::{Durability, Written};
use crate::{RunId, Secrets, Time};

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
    // Has methods `heard(inbox, work, ends)`, `exists(run, id, is_same_input, events)`, `forward(id, event)` and `ended(run)`.
    listener: Py<PyAny>,
    pub owner: OwnerId,
    pub signer: Signer,
    /// When the successors of a step may start.
    pub durability: Durability,
    only_looks: bool,
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

// How long a pass of the loop may take while answers wait. Whoever is told of one goes on in the next pass, so the
// number of those who are told has to be limited, not the time that telling them takes.
const PASS: Duration = Duration::from_millis(8);
const LEAST_AT_ONCE: usize = 16;
const MOST_AT_ONCE: usize = 1024;

// How many answers are handed on in one pass of the loop.
struct Pace {
    at_once: usize,
    // When some were handed on in the last pass, and others left for this one.
    handed_on: Option<Instant>,
}

impl Pace {
    /// How many are handed on now, by how long the last pass has taken.
    fn next(&mut self) -> usize {
        if let Some(handed_on) = self.handed_on.take() {
            let at_once = if handed_on.elapsed() > PASS { self.at_once / 2 } else { self.at_once + self.at_once / 8 };
            self.at_once = at_once.clamp(LEAST_AT_ONCE, MOST_AT_ONCE);
        }
        self.at_once
    }
}

// Where the journal's thread puts what it has to say. It never waits for the interpreter.
struct Mailbox {
    batches: Mutex<Vec<Batch>>,
    is_rung: AtomicBool,
    bell: UnixStream,
}

impl Mailbox {
    fn put(&self, batch: Batch) {
        self.batches.lock().push(batch);
        if !self.is_rung.swap(true, Ordering::AcqRel) {
            // A full pipe has rung already; a closed one has nobody who listens.
            let _ = (&self.bell).write(&[1]);
        }
    }

    fn take(&self, mut ears: &UnixStream) -> Vec<Batch> {
        let mut heard = [0; 64];
        let _ = ears.read(&mut heard);
        // Put back before the batches are taken, so that what comes in between rings again.
        self.is_rung.store(false, Ordering::Release);
        std::mem::take(&mut *self.batches.lock())
    }
}

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

    /// Tells the engine that a run is over.
    pub fn ended(&self, run: &Bound<'_, Run>) -> PyResult<()> {
        self.listener.call_method1(run.py(), intern!(run.py(), "ended"), (run,)).map(|_| ())
    }

    /// Tells the engine that the journal has another run in the place of this one.
    pub fn exists(
        &self,
        run: &Bound<'_, Run>,
        id: RunId,
        is_same_input: bool,
        events: Vec<Py<PyAny>>,
        is_cancelled: bool,
    ) -> PyResult<()> {
        let py = run.py();
        let arguments = (run, id.to_string(), is_same_input, events, is_cancelled);
        self.listener.call_method1(py, intern!(py, "exists"), arguments).map(|_| ())
    }

    /// Hands an event on to the run that the journal has in the place of the one that it was sent to.
    pub fn forward(&self, id: RunId, event: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event.py();
        self.listener.call_method1(py, intern!(py, "forward"), (id.to_string(), event)).map(|_| ())
    }

    /// Has the run cancelled that the journal has in the place of another one.
    pub fn forward_cancel(&self, py: Python<'_>, id: RunId) -> PyResult<()> {
        self.listener.call_method1(py, intern!(py, "forward_cancel"), (id.to_string(),)).map(|_| ())
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
    /// Opens a journal by its URL, for a host: who listens to it, and the event loop. With `only_looks` nothing is made or changed. `signing` says which
    /// secrets there are, and whether all is signed. What a journal that is away has not taken for `patience` is given up. It blocks while another process has a file locked, so it is for a
    /// thread of its own.
    #[new]
    #[pyo3(signature = (url, signing, *, patience, is_pipelined, only_looks, host))]
    fn new(
        py: Python<'_>,
        url: &str,
        signing: (Vec<Vec<u8>>, bool),
        patience: f64,
        is_pipelined: bool,
        only_looks: bool,
        host: (Py<PyAny>, Py<PyAny>),
    ) -> PyResult<Self> {
        let (mut secrets, signs_all) = signing;
        let (listener, event_loop) = host;
        let address = address(url)?;
        let (bell, ears) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ears.set_nonblocking(true)?;
        let mailbox = Arc::new(Mailbox { batches: Mutex::default(), is_rung: AtomicBool::new(false), bell });
        let post = Arc::clone(&mailbox);
        let on_batch: journal::OnBatch = Box::new(move |batch| post.put(batch));
        let options = OpenOptions { only_looks, has_secret: !secrets.is_empty() };
        let opened = py.detach(|| address.open(options, on_batch))?;
        match opened.secret {
            KeptSecret::Secret(secret) => secrets.push(secret.into()),
            KeptSecret::Anything if secrets.is_empty() => secrets.push(random::<32>()?.into()),
            KeptSecret::Nothing if secrets.is_empty() && !only_looks => {
                py.detach(|| opened.journal.close());
                return Err(error::secret_needed(address.shown()));
            }
            KeptSecret::Anything | KeptSecret::Nothing => {}
        }
        let owner = random::<16>()?;
        let [a, b, c, d, e, f, g, h, ..] = owner;
        Ok(Self {
            backend: ManuallyDrop::new(opened.journal),
            mailbox,
            ears,
            event_loop,
            asked: Mutex::default(),
            outbox: Mutex::new(Outbox::new(super::plan::micros(patience), OpIds::new([a, b, c, d, e, f, g, h]))),
            timer: Mutex::default(),
            answers: Mutex::default(),
            pace: Mutex::new(Pace { at_once: 4 * LEAST_AT_ONCE, handed_on: None }),
            tickets: AtomicU64::new(1),
            watched: Mutex::default(),
            listener,
            owner: OwnerId(owner),
            signer: Signer { secrets: Secrets::new(secrets)?, sign: if signs_all { Sign::All } else { Sign::Opaque } },
            durability: if is_pipelined { Durability::Pipelined } else { Durability::Step },
            only_looks,
            forks: clock::forks(),
            process: std::process::id(),
        })
    }

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

    /// The runs that ended since `after`, an earlier cursor, or from now on.
    #[pyo3(signature = (after, limit))]
    fn ends<'py>(slf: &Bound<'py, Self>, after: Option<Vec<u8>>, limit: usize) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, Request::Ends { after: after.map(Cursor::from_bytes), limit })
    }

    fn dead_letters<'py>(slf: &Bound<'py, Self>, run: &str) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, Request::DeadLetters { run: id(run)? })
    }

    fn redeliver<'py>(slf: &Bound<'py, Self>, run: &str) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, Request::Redeliver { run: id(run)? })
    }

    fn load<'py>(slf: &Bound<'py, Self>, run: &str) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, Request::Load { runs: vec![id(run)?] })
    }

    fn send<'py>(
        slf: &Bound<'py, Self>,
        run: &str,
        message: [u8; 16],
        kind: u8,
        body: Vec<u8>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, Request::Send { run: id(run)?, message: Message { id: message, kind, body }, now: now() })
    }

    fn get<'py>(slf: &Bound<'py, Self>, run: &str) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, Request::Get { run: id(run)? })
    }

    #[pyo3(signature = (*, workflow, status, since, after, limit, key = None, key_prefix = None, finished = (None, None)))]
    #[allow(clippy::too_many_arguments)]
    fn list_runs<'py>(
        slf: &Bound<'py, Self>,
        workflow: Option<String>,
        status: Option<&str>,
        since: Option<f64>,
        after: Option<&str>,
        limit: usize,
        key: Option<String>,
        key_prefix: Option<String>,
        finished: (Option<f64>, Option<f64>),
    ) -> PyResult<Bound<'py, PyAny>> {
        let key = key.map(KeyFilter::Is).or(key_prefix.map(KeyFilter::StartsWith));
        let (finished_since, finished_before) = (finished.0.map(micros), finished.1.map(micros));
        let phase = status.map(phase).transpose()?;
        let since = since.map(micros);
        let after = after.map(id).transpose()?;
        let filter = Filter { workflow, phase, since, after, key, finished_since, finished_before, limit };
        Self::ask(slf, Request::List { filter })
    }

    fn records<'py>(slf: &Bound<'py, Self>, run: &str, after: u64, limit: usize) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, Request::Records { run: id(run)?, after, limit })
    }

    fn read_stream<'py>(slf: &Bound<'py, Self>, run: &str, after: u64, limit: usize) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, Request::ReadStream { run: id(run)?, after, limit })
    }

    fn delete<'py>(slf: &Bound<'py, Self>, run: &str) -> PyResult<Bound<'py, PyAny>> {
        Self::ask(slf, Request::Delete { run: id(run)? })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.listener)?;
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

fn address(url: &str) -> PyResult<Address> {
    Address::parse(url).map_err(|error| PyValueError::new_err(format!("url: {error}")))
}

/// Checks the URL of a journal: the path of the file that it is in, if it is in one.
#[pyfunction]
pub fn journal_path(url: &str) -> PyResult<Option<PathBuf>> {
    Ok(address(url)?.path())
}

/// Checks the URL of a journal: how it is shown, without user and password.
#[pyfunction]
pub fn journal_shown(url: &str) -> PyResult<String> {
    Ok(address(url)?.shown().to_owned())
}

/// The statements that lead from a version of the tables in PostgreSQL, 0 for none, to the newest one.
#[pyfunction]
pub fn postgres_statements(schema: &str, since: i64) -> String {
    journal::postgres::statements(schema, since)
}

fn random<const N: usize>() -> PyResult<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| PyOSError::new_err(error.to_string()))?;
    Ok(bytes)
}

pub fn id(text: &str) -> PyResult<RunId> {
    Ok(text.parse::<RunId>()?)
}

pub fn phase(status: &str) -> PyResult<Phase> {
    let known = Phase::ALL.into_iter().find(|phase| phase_name(*phase) == status);
    known.ok_or_else(|| {
        let names: Vec<_> = Phase::ALL.into_iter().map(phase_name).collect();
        PyValueError::new_err(format!("status: one of {} expected, not {status:?}", names.join(", ")))
    })
}

pub fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Ready => "ready",
        Phase::Waiting => "waiting",
        Phase::Paused => "paused",
        Phase::Completed => "completed",
        Phase::Failed => "failed",
        Phase::Cancelled => "cancelled",
        Phase::Stranded => "stranded",
    }
}

// One that is too long to count never ends.
pub fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

fn seconds(time: u64) -> f64 {
    time as f64 / 1e6
}

pub fn row<'py>(py: Python<'py>, row: &RunRow) -> PyResult<Bound<'py, PyDict>> {
    let object = PyDict::new(py);
    object.set_item("id", row.id.to_string())?;
    object.set_item("workflow", &row.workflow)?;
    object.set_item("key", &row.key)?;
    object.set_item("status", phase_name(row.phase()))?;
    object.set_item("created", seconds(row.created))?;
    object.set_item("updated", seconds(row.updated))?;
    object.set_item("finished", row.finished.map(seconds))?;
    object.set_item("due", row.status.due.map(seconds))?;
    object.set_item("owner", row.owner.map(|owner| owner.to_string()))?;
    object.set_item("epoch", row.epoch)?;
    object.set_item("seq", row.seq)?;
    object.set_item("inbox", row.inbox)?;
    object.set_item("published", row.published)?;
    object.set_item("is_damaged", row.is_cut_short)?;
    object.set_item("recoveries", row.recoveries)?;
    object.set_item("reason", &row.reason)?;
    object.set_item("dead_letters", row.dead_letters)?;
    Ok(object)
}

fn rows(py: Python<'_>, all: &[RunRow]) -> PyResult<Py<PyAny>> {
    let objects: Vec<_> = all.iter().map(|one| row(py, one)).collect::<PyResult<_>>()?;
    Ok(PyList::new(py, objects)?.into_any().unbind())
}

fn numbered(py: Python<'_>, items: Vec<(u64, Vec<u8>)>) -> PyResult<Bound<'_, PyList>> {
    PyList::new(py, items.into_iter().map(|(number, body)| (number, PyBytes::new(py, &body))))
}

/// An answer as Python sees it; which one belongs to which request is said in the stub.
fn as_object(py: Python<'_>, reply: Reply) -> PyResult<Py<PyAny>> {
    let object = match reply {
        Reply::Done => return Ok(py.None()),
        Reply::Created { epoch } => epoch.into_pyobject(py)?.into_any(),
        Reply::Exists { id, input } => (id.to_string(), PyBytes::new(py, &input)).into_pyobject(py)?.into_any(),
        Reply::Appended { seq } => seq.into_pyobject(py)?.into_any(),
        Reply::Reopened { epoch, seq } => (epoch, seq).into_pyobject(py)?.into_any(),
        Reply::Ends(ends) => {
            let runs = PyList::new(py, ends.runs.iter().map(RunId::to_string))?;
            (runs, PyBytes::new(py, ends.cursor.as_bytes()), ends.more, ends.missed).into_pyobject(py)?.into_any()
        }
        Reply::DeadLetters(letters) => {
            let letters = letters.into_iter().map(|letter| {
                let entry = letter.entry;
                (
                    entry.number,
                    PyBytes::new(py, &entry.id),
                    entry.kind,
                    seconds(entry.at),
                    PyBytes::new(py, &entry.body),
                    letter.why,
                )
            });
            PyList::new(py, letters)?.into_any()
        }
        Reply::Redelivered { messages } => messages.into_pyobject(py)?.into_any(),
        Reply::Sent { new } => return Ok(new.into_pyobject(py)?.to_owned().into_any().unbind()),
        // A future asks for one run at a time.
        Reply::Loaded(loaded) => {
            let Some((_, loaded)) = loaded.into_iter().next() else {
                return Err(error::internal(&"no run was loaded"));
            };
            return Ok(Py::new(py, super::recover::LoadedRun::new(*loaded?))?.into_any());
        }
        Reply::Run { run, outcome } => {
            let outcome = outcome.map(|outcome| PyBytes::new(py, &outcome));
            (row(py, &run)?, outcome).into_pyobject(py)?.into_any()
        }
        Reply::Listed(all) => return rows(py, &all),
        Reply::Records { records, folded } => (numbered(py, records)?, folded).into_pyobject(py)?.into_any(),
        Reply::Stream(read) => {
            let entries = numbered(py, read.entries)?;
            (entries, read.missed, read.published, read.ended).into_pyobject(py)?.into_any()
        }
        // The core's engine asks for these, and no future is told of them.
        reply @ (Reply::Claimed(_) | Reply::Next(_) | Reply::Refused(_) | Reply::Polled(_) | Reply::Pruned { .. }) => {
            return Err(error::internal(&format!("a future was answered with {reply:?}")));
        }
    };
    Ok(object.unbind())
}

impl From<JournalError> for PyErr {
    fn from(failure: JournalError) -> Self {
        error::journal(&failure)
    }
}
