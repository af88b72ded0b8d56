//! The commits of a run with a journal, carried out: objects become bytes, and requests are submitted.

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;

use super::children;
use super::clock;
use super::digest::digest;
use super::durable::Durable;
use super::error;
use super::journal::{Asker, Journal};
use super::outcome;
use super::plan::Plan;
use super::run::Run;
use super::run_options::RunOptions;
use super::state::{Outcome, Python3, State};
use super::stored::ToBytes;
use super::wake;
use crate::journal::{Digest, NewRun};
use crate::writer::{self, Creation, Draft, EndTaken, Flush, Next, Occurrence, Requests, Taken, Writer};
use crate::{Family, Route, Run as CoreRun, RunId, family};

impl Run {
    /// Starts a run and writes it to a journal.
    pub fn start_durable(
        journal: &Bound<'_, Journal>,
        plan: &Bound<'_, Plan>,
        event: &Bound<'_, PyAny>,
        key: Option<String>,
        options: RunOptions,
        is_bound: bool,
    ) -> PyResult<Py<Self>> {
        let py = plan.py();
        let event_loop = wake::running_loop(py).map_err(|_| error::no_event_loop(&plan.get().name))?;
        let has_key = key.is_some();
        let (mut core, creation) = begin(journal, plan, event, key, options)?;
        let (owner, durability) = (journal.get().owner, journal.get().durability);
        let has_room = || journal.get().has_room();
        let is_limited = plan.get().places.is_some();
        let has_place = !is_limited || journal.get().begin_in_place(py, core.id(), &plan.get().name)?;
        let (writer, requests) = match has_place {
            true => Writer::of_new(creation, &mut core, owner, durability, has_room),
            false => Writer::of_new_for_any(creation, &core, durability),
        };
        let run = Self::make(plan, &event_loop, core, None)?;
        if is_limited {
            run.get().begin_in_place(has_place);
        }
        {
            let mut state = run.get().state.lock();
            state.detached = !is_bound;
            state.durable = Some(Box::new(Durable::new(journal.clone().unbind(), writer)));
        }
        let begun = submit(&run, journal, requests).and_then(|()| {
            run.get().watch();
            if journal.get().observers.is_some() {
                run.get().be_observed();
            }
            Self::enter(&run, &event_loop)
        });
        if begun.is_err() && is_limited {
            Self::leave_place(&run)?;
        }
        begun?;
        run.get().log(py, || "was started".to_owned())?;
        if !has_key && has_place {
            Self::observe_start(&run);
        }
        Ok(run.unbind())
    }

    /// Something has happened that may be worth a commit.
    pub fn mark(run: &Bound<'_, Self>, what: Occurrence) -> PyResult<()> {
        let flush = {
            let mut state = run.get().state.lock();
            let State { core, durable, .. } = &mut *state;
            let Some(durable) = durable else { return Ok(()) };
            durable.writer.mark(what, core, run.get().is_on_its_thread())
        };
        match flush {
            Flush::AsItGoes => Ok(()),
            Flush::Soon => Self::flush_soon(run),
            Flush::Now => Self::flush(run),
        }
    }

    fn flush_soon(run: &Bound<'_, Self>) -> PyResult<()> {
        let flush = run.getattr(intern!(run.py(), "_flush"))?;
        run.get().call_in_next_pass(flush)
    }

    /// Writes what has happened, unless nothing has.
    pub fn flush_begun(run: &Bound<'_, Self>) -> PyResult<()> {
        let is_unbegun = {
            let state = run.get().state.lock();
            state.durable.as_ref().is_some_and(|durable| durable.writer.is_unbegun(&state.core))
        };
        if is_unbegun { Ok(()) } else { Self::flush(run) }
    }

    /// Writes what has happened.
    pub fn flush(run: &Bound<'_, Self>) -> PyResult<()> {
        let (taken, journal) = {
            let mut state = run.get().state.lock();
            let State { core, durable, .. } = &mut *state;
            let Some(durable) = durable else { return Ok(()) };
            let Some(taken) = durable.writer.take(core) else { return Ok(()) };
            (taken, durable.journal.bind(run.py()).clone())
        };
        let mut written = Self::write(run, taken, &journal);
        if journal.get().tells_waits() {
            written = written.and_then(|()| Self::tell_whether_it_waits(run, journal.get()));
        }
        let next = {
            let mut state = run.get().state.lock();
            let State { core, durable, .. } = &mut *state;
            let has_room = || journal.get().has_room();
            durable.as_mut().map_or(Next::Nothing, |durable| durable.writer.handed_over(core, has_room))
        };
        written.and(match next {
            Next::Nothing => Ok(()),
            Next::Flush => Self::flush_soon(run),
            Next::End => Self::finish_written(run),
        })
    }

    fn write(run: &Bound<'_, Self>, taken: Taken<Python3>, journal: &Bound<'_, Journal>) -> PyResult<()> {
        failpoint!("run.before_flush");
        let py = run.py();
        let (draft, encoded) = taken.translate(&mut ToBytes::new(py));
        let sealed = encoded.and_then(|encoded| {
            Ok(draft.seal(encoded, run.get().now(), &journal.get().signer, journal.get().limits())?)
        });
        let requests = match sealed {
            Ok(sealed) => with_writer(run, |writer| writer.hand_over(draft, sealed)),
            Err(error) if error.is_instance_of::<PyException>(py) => {
                return Self::leave_gap(run, journal, draft, error);
            }
            Err(error) => {
                // The program ends. What was taken is not written: the run goes on elsewhere from before that.
                Self::lose_journal(run, error.clone_ref(py))?;
                return Err(error);
            }
        };
        if let Err(error) = submit(run, journal, requests) {
            return Self::lose_journal(run, error);
        }
        failpoint!("run.flushed");
        Ok(())
    }

    /// What happened cannot be written, so the run cannot go on from there: it fails, and that is written.
    fn leave_gap(run: &Bound<'_, Self>, journal: &Bound<'_, Journal>, draft: Draft, error: PyErr) -> PyResult<()> {
        failpoint!("run.gap_left");
        let requests = with_writer(run, |writer| writer.leave_gap(draft));
        match submit(run, journal, requests) {
            Ok(()) => Self::fail(run, error),
            Err(error) => Self::lose_journal(run, error),
        }
    }

    /// The last step has stopped: the run is over once its end is on disk.
    pub fn finish_written(run: &Bound<'_, Self>) -> PyResult<()> {
        if Self::write_end(run)? { Ok(()) } else { Self::finish(run) }
    }

    /// Writes the end. Says whether the journal is to tell when that is on disk, or there is something to be written
    /// first.
    fn write_end(run: &Bound<'_, Self>) -> PyResult<bool> {
        let py = run.py();
        Self::leave_ending_loop(run)?;
        let (taken, journal) = {
            let mut state = run.get().state.lock();
            let State { core, durable, .. } = &mut *state;
            let Some(durable) = durable else { return Ok(false) };
            match durable.writer.take_end(core) {
                EndTaken::Write(taken) => (*taken, durable.journal.bind(py).clone()),
                EndTaken::Later => return Ok(true),
                EndTaken::Detached(records) => {
                    drop(state);
                    drop(records);
                    Self::end_detached(run);
                    return Ok(false);
                }
            }
        };
        match Self::end_commit(run, taken, &journal) {
            Ok(requests) if requests.is_empty() => {
                Self::end_detached(run);
                Ok(false)
            }
            Ok(requests) => {
                failpoint!("run.before_end");
                match submit(run, &journal, requests) {
                    Ok(()) => {
                        failpoint!("run.end_handed_over");
                        Ok(true)
                    }
                    Err(error) => {
                        Self::end_lost(run, error);
                        Ok(false)
                    }
                }
            }
            Err(error) => {
                Self::end_lost(run, error);
                Ok(false)
            }
        }
    }

    /// The requests that write the end: none if the journal was lost.
    fn end_commit(run: &Bound<'_, Self>, taken: Taken<Python3>, journal: &Bound<'_, Journal>) -> PyResult<Requests> {
        let py = run.py();
        let (signer, now) = (&journal.get().signer, run.get().now());
        let (mut draft, encoded) = taken.translate(&mut ToBytes::new(py));
        let sealed = encoded.and_then(|encoded| Ok(draft.seal(encoded, now, signer, journal.get().limits())?));
        let sealed = match sealed {
            Ok(sealed) => sealed,
            // The end is written without what cannot be, and so it is no good one.
            Err(error) if error.is_instance_of::<PyException>(py) => {
                Self::spoil(run, error);
                draft.without_records(now)
            }
            Err(error) => return Err(error),
        };
        let outcome = outcome::encode(run, &draft.ending(&sealed, signer))?;
        let last = children::last_words(run, signer)?;
        Ok(with_writer(run, |writer| writer.hand_over_end(draft, sealed, outcome, last)))
    }

    /// The run has ended without its journal: those who await it are told why, if that is known.
    fn end_detached(run: &Bound<'_, Self>) {
        let lost = run.get().state.lock().durable.as_mut().and_then(|durable| durable.lost.take());
        if let Some(why) = lost {
            Self::end_lost(run, PyErr::from_value(why.into_bound(run.py()).into_any()));
        }
    }

    /// A run that has a result has failed after all.
    fn spoil(run: &Bound<'_, Self>, error: PyErr) {
        let failed = Outcome::failed(run.py(), error);
        let mut state = run.get().state.lock();
        let dropped = match &mut state.outcome {
            Some(result @ Outcome::Result(_)) => std::mem::replace(result, failed),
            _ => failed,
        };
        drop(state);
        drop(dropped);
    }
}

/// Gives the requests that the run's writer makes.
fn with_writer(run: &Bound<'_, Run>, make: impl FnOnce(&mut Writer) -> Requests) -> Requests {
    run.get().state.lock().durable.as_mut().map_or_else(Requests::new, |durable| make(&mut durable.writer))
}

fn submit(run: &Bound<'_, Run>, journal: &Bound<'_, Journal>, requests: Requests) -> PyResult<()> {
    if requests.is_empty() {
        return Ok(());
    }
    let asked = requests.into_iter().map(|(written, request)| (request, Asker::Run(run.clone().unbind(), written)));
    journal.get().submit_all(asked.collect())
}

/// A new run, and what makes it in a journal.
pub fn begin(
    journal: &Bound<'_, Journal>,
    plan: &Bound<'_, Plan>,
    event: &Bound<'_, PyAny>,
    key: Option<String>,
    options: RunOptions,
) -> PyResult<(CoreRun<Python3>, Creation)> {
    begin_as(clock::new_run_id()?, None, journal, plan, event, key, &options)
}

/// As [`begin`], under this name, and as a child of another run if it has a family.
pub fn begin_as(
    id: RunId,
    family: Option<Family>,
    journal: &Bound<'_, Journal>,
    plan: &Bound<'_, Plan>,
    event: &Bound<'_, PyAny>,
    key: Option<String>,
    options: &RunOptions,
) -> PyResult<(CoreRun<Python3>, Creation)> {
    let Route::Steps(kind) = plan.get().route(event) else {
        return Err(error::unrouted_start(plan.get(), event));
    };
    let now = clock::now();
    let mut core = CoreRun::new(id, plan.get().core.clone(), now);
    options.put_into(plan.py(), &mut core);
    if let Some(family) = family {
        core.belong(family);
    }
    let begun = writer::begin(&mut core, kind, event.clone().unbind());
    let (image, _records) = begun.map_err(|refused| PyErr::from(refused.error))?;
    let image = image.translate(&mut ToBytes::new(plan.py()))?;
    let mut run = NewRun {
        id: core.id(),
        workflow: plan.get().name.clone(),
        input: if key.is_some() { digest(event)?.of_input() } else { Digest::default() },
        key,
        created: now,
        stream_limit: plan.get().core.stream_limit as u64,
        parent: None,
        root: None,
        depth: 0,
    };
    if let Some(family) = family {
        family::join(&mut run, family);
    }
    Ok((core, Creation::new(&image, run, &journal.get().signer, now)?))
}

#[pymethods]
impl Run {
    /// Called by the event loop.
    fn _flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::flush(slf)
    }
}
