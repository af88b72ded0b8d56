//! The engine of the core on an event loop: its requests go to the journal, its other effects to a host in Python.

use std::collections::{BTreeMap, VecDeque};
use std::sync::OnceLock;
use std::time::Instant;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit, intern};

use super::clock;
use super::error;
use super::journal::{Asker, Journal, duration, id, row};
use super::plan::micros;
use super::recover::LoadedRun;
use crate::engine::{Ask, Effect, Engine, Now, Options, Replacement, Resumed, RunEnd, Trouble};
use crate::journal::{self, Digest, Entry, News};
use crate::writer::Made;
use crate::{RunId, Time};

/// An engine, on the event loop of its journal.
///
/// The host has methods `resume(loaded)`, `stranded(row)`, `deliver(run, number, id, kind, body)`, `lose(run, error)`,
/// `drain(run, stop)`, `give_place(run)`, `let_go(run)`, `end_here(run)`, `stands_for(run, other, cancel)`, `key_taken(run, key)`,
/// `closed_before(run, other)`, `ended(run, standing, row, outcome)`, `not_seen(run, standing, error)`, `opened(error)`,
/// `closed(error)` and `report(what, error)`.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct EngineCore {
    core: Mutex<Engine>,
    journal: Py<Journal>,
    host: Py<PyAny>,
    effects: Mutex<Effects>,
    // When the event loop calls `_tick`, and what cancels that.
    timer: Mutex<Option<(Time, Py<PyAny>)>>,
}

// Effects are carried out in their order, also those that carrying one out brings about.
#[derive(Default)]
struct Effects {
    waiting: VecDeque<Effect>,
    is_performing: bool,
}

fn time() -> Now {
    static START: OnceLock<Instant> = OnceLock::new();
    let steady = START.get_or_init(Instant::now).elapsed().as_micros() as Time;
    Now { steady, wall: clock::now() }
}

impl EngineCore {
    /// The journal has answered a request of the engine.
    pub fn answer(slf: &Bound<'_, Self>, ask: Ask, outcome: journal::Outcome) -> PyResult<()> {
        Self::call(slf, |core, now| core.answer(ask, outcome, now))
    }

    fn call(slf: &Bound<'_, Self>, call: impl FnOnce(&mut Engine, Now)) -> PyResult<()> {
        let effects = {
            let mut core = slf.get().core.lock();
            call(&mut core, time());
            core.take_effects()
        };
        {
            let mut queue = slf.get().effects.lock();
            queue.waiting.extend(effects);
            if std::mem::replace(&mut queue.is_performing, true) {
                return Ok(());
            }
        }
        // One that fails must not keep the others from being carried out.
        let mut performed = Ok(());
        loop {
            let effect = {
                let mut queue = slf.get().effects.lock();
                let effect = queue.waiting.pop_front();
                queue.is_performing = effect.is_some();
                effect
            };
            let Some(effect) = effect else { break };
            performed = performed.and(Self::perform(slf, effect));
        }
        performed.and(Self::arm_timer(slf))
    }

    fn perform(slf: &Bound<'_, Self>, effect: Effect) -> PyResult<()> {
        let py = slf.py();
        let host = slf.get().host.bind(py);
        match effect {
            Effect::Ask { ask, request } => {
                return slf.get().journal.get().submit(*request, Asker::Engine(slf.clone().unbind(), ask));
            }
            Effect::Resume(loaded) => host.call_method1(intern!(py, "resume"), (LoadedRun::new(*loaded),)),
            Effect::Stranded(run) => host.call_method1(intern!(py, "stranded"), (row(py, &run)?,)),
            Effect::Deliver(Entry { run, number, id, kind, body, .. }) => {
                host.call_method1(intern!(py, "deliver"), (run.to_string(), number, id, kind, PyBytes::new(py, &body)))
            }
            Effect::Lose(run) => {
                let lost = journal::JournalError::LeaseLost(slf.get().journal.get().owner);
                host.call_method1(intern!(py, "lose"), (run.to_string(), as_error(py, Err(lost))))
            }
            Effect::Drain { run, stop } => host.call_method1(intern!(py, "drain"), (run.to_string(), stop)),
            Effect::GivePlace(run) => host.call_method1(intern!(py, "give_place"), (run.to_string(),)),
            Effect::LetGo(run) => host.call_method1(intern!(py, "let_go"), (run.to_string(),)),
            Effect::EndHere(run) => host.call_method1(intern!(py, "end_here"), (run.to_string(),)),
            Effect::Replaced { run, by: Replacement::StandsFor { run: other, cancel } } => {
                host.call_method1(intern!(py, "stands_for"), (run.to_string(), other.to_string(), cancel))
            }
            Effect::Replaced { run, by: Replacement::OtherInput(key) } => {
                host.call_method1(intern!(py, "key_taken"), (run.to_string(), key))
            }
            Effect::Replaced { run, by: Replacement::Closed(other) } => {
                host.call_method1(intern!(py, "closed_before"), (run.to_string(), other.to_string()))
            }
            Effect::Ended { run, standing, end } => {
                let standing: Vec<_> = standing.iter().map(RunId::to_string).collect();
                match end {
                    Ok((found, outcome)) => {
                        let outcome = outcome.map(|outcome| PyBytes::new(py, &outcome));
                        let arguments = (run.to_string(), standing, row(py, &found)?, outcome);
                        host.call_method1(intern!(py, "ended"), arguments)
                    }
                    Err(failure) => {
                        let arguments = (run.to_string(), standing, as_error(py, Err(failure)));
                        host.call_method1(intern!(py, "not_seen"), arguments)
                    }
                }
            }
            Effect::Opened(outcome) => host.call_method1(intern!(py, "opened"), (as_error(py, outcome),)),
            Effect::Closed(outcome) => host.call_method1(intern!(py, "closed"), (as_error(py, outcome),)),
            Effect::Report(trouble) => {
                let (what, failure) = match trouble {
                    Trouble::LeaseLost => ("the lease was lost: other processes take the runs over", None),
                    Trouble::NotRenewed(failure) => ("the lease cannot be renewed", Some(failure)),
                    Trouble::Unreadable(failure) => ("the journal cannot be read", Some(failure)),
                    Trouble::Damaged(failure) => ("a run cannot go on", Some(failure)),
                };
                host.call_method1(intern!(py, "report"), (what, as_error(py, failure.map_or(Ok(()), Err))))
            }
        }
        .map(drop)
    }

    fn arm_timer(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let Some(next) = slf.get().core.lock().next_tick() else { return Ok(()) };
        // One that comes too early finds nothing to do, and the next one is set then.
        if slf.get().timer.lock().as_ref().is_some_and(|(at, _)| *at <= next) {
            return Ok(());
        }
        let seconds = next.saturating_sub(time().steady) as f64 / 1e6;
        let event_loop = slf.get().journal.get().event_loop(py);
        let tick = slf.getattr(intern!(py, "_tick"))?;
        let handle = event_loop.call_method1(intern!(py, "call_later"), (seconds, tick))?.unbind();
        let old = slf.get().timer.lock().replace((next, handle));
        old.map_or(Ok(()), |(_, handle)| handle.call_method0(py, intern!(py, "cancel")).map(drop))
    }
}

fn as_error(py: Python<'_>, outcome: Result<(), journal::JournalError>) -> Option<Py<PyAny>> {
    outcome.err().map(|failure| error::journal(&failure).into_value(py).into_any())
}

#[pymethods]
impl EngineCore {
    /// An engine that is not open. Times are in seconds.
    #[new]
    #[pyo3(signature = (journal, host, *, lease, workflows, concurrency, max_recoveries, keep, max_runs = None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        journal: Bound<'_, Journal>,
        host: Py<PyAny>,
        lease: f64,
        workflows: Vec<String>,
        concurrency: Option<usize>,
        max_recoveries: Option<u32>,
        keep: Option<f64>,
        max_runs: Option<BTreeMap<String, usize>>,
    ) -> Self {
        let (owner, lease, keep) = (journal.get().owner, duration(lease), keep.map(micros));
        let max_runs = max_runs.unwrap_or_default();
        let options = Options { owner, lease, workflows, concurrency, max_runs, max_recoveries, keep };
        Self {
            core: Mutex::new(Engine::new(options)),
            journal: journal.unbind(),
            host,
            effects: Mutex::default(),
            timer: Mutex::default(),
        }
    }

    /// Opens the engine; the host is told by `opened`.
    fn open(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::call(slf, Engine::open)
    }

    /// Begins the orderly end; the host is told by `closed`. A second call changes nothing.
    fn close(slf: &Bound<'_, Self>, grace: f64) -> PyResult<()> {
        Self::call(slf, |core, now| core.close(micros(grace), now))
    }

    /// How many requests it has made of the journal.
    #[getter]
    fn requests(&self) -> u64 {
        self.core.lock().requests()
    }

    /// Acts no more.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        let timer = self.timer.lock().take();
        timer.map_or(Ok(()), |(_, handle)| handle.call_method0(py, intern!(py, "cancel")).map(drop))
    }

    /// Something may be in the inboxes, there may be runs to claim, or runs may have ended: by another process, or by
    /// this one.
    fn heard(slf: &Bound<'_, Self>, inbox: bool, work: bool, ends: bool) -> PyResult<()> {
        Self::call(slf, |core, now| core.heard(News { inbox, work, ends, ..News::default() }, now))
    }

    /// Waits for the end of a run: the host is told by `ended` or `not_seen`, once for all who wait then.
    fn follow(slf: &Bound<'_, Self>, run: &str) -> PyResult<()> {
        let run = id(run)?;
        Self::call(slf, |core, now| core.follow(run, now))
    }

    /// One of those who wait for a run waits no more.
    fn unfollow(&self, run: &str) -> PyResult<()> {
        self.core.lock().unfollow(id(run)?);
        Ok(())
    }

    /// A run was deleted here.
    fn look_at(slf: &Bound<'_, Self>, run: &str) -> PyResult<()> {
        let run = id(run)?;
        Self::call(slf, |core, _| core.look_at(run))
    }

    /// A run was started here, and not taken from the journal.
    fn run_started(&self, run: &str) -> PyResult<()> {
        self.core.lock().run_started(id(run)?);
        Ok(())
    }

    /// As `run_started`, of a run with a key.
    fn keyed_run_started(&self, run: &str, workflow: &str, key: &str, input: Digest) -> PyResult<()> {
        self.core.lock().keyed_run_started(id(run)?, workflow, key, input);
        Ok(())
    }

    /// The run of this process that has the key and the input, by the id that it was made with.
    fn run_of_key(&self, workflow: &str, key: &str, input: Digest) -> Option<String> {
        self.core.lock().run_of_key(workflow, key, &input).map(|run| run.to_string())
    }

    /// The journal has another run of the key of one that was started here: the host is told what becomes of it.
    fn exists(
        slf: &Bound<'_, Self>,
        run: &str,
        other: &str,
        input: Digest,
        is_same: bool,
        is_cancelled: bool,
    ) -> PyResult<()> {
        let (run, other) = (id(run)?, id(other)?);
        Self::call(slf, |core, now| core.exists(run, other, (input, is_same), is_cancelled, now))
    }

    /// A commit is being made that makes this run, and the host keeps the run to begin it afterwards.
    fn child_expected(&self, run: &str) -> PyResult<()> {
        self.core.lock().child_expected(id(run)?);
        Ok(())
    }

    /// The commit was answered that makes a run, to be executed here or by any process; whether it `exists` may be unknown. Says whether the
    /// run begins, if it is kept.
    fn child_made(
        slf: &Bound<'_, Self>,
        run: &str,
        exists: Option<bool>,
        is_kept: bool,
        for_any: bool,
    ) -> PyResult<bool> {
        let made = Made { run: id(run)?, exists, is_for_any: for_any };
        let mut begins = false;
        Self::call(slf, |core, now| begins = core.child_made(made, is_kept, now))?;
        Ok(begins)
    }

    /// A run asks for a place. Says whether it has one now; if not, the host is told by `give_place`.
    fn ask_for_place(&self, run: &str, workflow: &str, has_begun: bool) -> PyResult<bool> {
        Ok(self.core.lock().ask_for_place(id(run)?, workflow, has_begun))
    }

    /// A run executes something whether or not there is a place.
    fn insist_on_place(&self, run: &str, workflow: &str) -> PyResult<()> {
        self.core.lock().insist_on_place(id(run)?, workflow);
        Ok(())
    }

    /// A run has no place any more and waits for none.
    fn leave_place(slf: &Bound<'_, Self>, run: &str) -> PyResult<()> {
        let run = id(run)?;
        Self::call(slf, |core, now| core.leave_place(run, now))
    }

    /// Whether there is a place for a run that is to be started. If not, it is written for any process.
    fn begin_in_place(&self, run: &str, workflow: &str) -> PyResult<bool> {
        Ok(self.core.lock().begin_in_place(id(run)?, workflow))
    }

    /// A run without a place is written for any process.
    fn run_written(slf: &Bound<'_, Self>, run: &str, workflow: &str, is_cancelled: bool) -> PyResult<()> {
        let run = id(run)?;
        Self::call(slf, |core, now| core.run_written(run, workflow, is_cancelled, now))
    }

    fn run_waits(slf: &Bound<'_, Self>, run: &str, waits: bool) -> PyResult<()> {
        let run = id(run)?;
        Self::call(slf, |core, now| core.run_waits(run, waits, now))
    }

    /// A run is over here: `"over"`, `"lost"` (the journal took nothing more of it) or `"busy"` (it can go on from what
    /// is written).
    fn run_ended(slf: &Bound<'_, Self>, run: &str, end: &str, epoch: u64) -> PyResult<()> {
        let run = id(run)?;
        let end = match end {
            "lost" => RunEnd::Lost,
            "busy" => RunEnd::Busy { epoch },
            _ => RunEnd::Over,
        };
        Self::call(slf, |core, now| core.run_ended(run, end, now))
    }

    /// What came of `resume`: `"started"`, `"load again"` or `"refused"`, with the error of that.
    fn resumed(slf: &Bound<'_, Self>, run: &str, resumed: &str, error: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let (py, run) = (slf.py(), id(run)?);
        let resumed = match (resumed, error.map(PyErr::from_value)) {
            ("started", _) => Resumed::Started,
            (_, None) => Resumed::LoadAgain,
            (_, Some(error)) => {
                Resumed::Refused { why: error::in_one_line(py, &error), is_damaged: error::is_damage(py, &error) }
            }
        };
        Self::call(slf, |core, now| core.resumed(run, resumed, now))
    }

    /// Nothing of a run moves any more, after `drain`.
    fn drained(slf: &Bound<'_, Self>, run: &str) -> PyResult<()> {
        let run = id(run)?;
        Self::call(slf, |core, now| core.drained(run, now))
    }

    fn _tick(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().timer.lock().take();
        Self::call(slf, |core, now| core.tick(now))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.journal)?;
        visit.call(&self.host)?;
        let Some(timer) = self.timer.try_lock() else { return Ok(()) };
        timer.iter().try_for_each(|(_, handle)| visit.call(handle))
    }
}
