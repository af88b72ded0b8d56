//! Events between runs: held by the core until their step is done, after it was asked whether their runs are there.

use std::sync::atomic::Ordering;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use super::context::Context;
use super::error;
use super::journal;
use super::run::Run;
use super::stored::ToBytes;
use crate::journal::{IfOver, Missing, Outcome, Reply, Undelivered};
use crate::{Error, RunId, Slot};

/// Takes an event for another run, which gets it once the step is done.
pub fn send_out(
    context: &Context,
    event: &Bound<'_, PyAny>,
    to: &Bound<'_, PyAny>,
    missing: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = event.py();
    let if_over = if_over(missing)?;
    let target = target(to)?;
    let run = context.run.bind(py);
    // What cannot be stored fails the call, and not the commit that the event is for.
    let is_durable = context.state()?.durable.is_some();
    if is_durable {
        ToBytes::new(py).event(event)?;
    } else {
        Run::remember_kin(run, target)?;
    }
    let sent = context.state()?.core.send_out(context.slot, target, event.clone().unbind(), if_over);
    run.get().has_sent.store(true, Ordering::Relaxed);
    sent.map_err(|refused| match refused.error {
        Error::StepOver => error::step_over(run.get(), context.step, "send_event"),
        Error::TooManySent => error::too_many_sent(run.get(), context.step_name()),
        _ => error::run_ended(&run.get().id_text(), "send_event"),
    })
}

/// Refuses a step beside another run: which step takes the event is for that run to say.
pub fn check_alone(step: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    match step {
        None => Ok(()),
        Some(_) => {
            Err(PyTypeError::new_err("send_event: `step` names a step of this run, and `to` another run; give one"))
        }
    }
}

/// Refuses `missing` without a run.
pub fn check_target(missing: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    match missing {
        None => Ok(()),
        Some(_) => Err(PyTypeError::new_err(
            "send_event: `missing` says what to do without the run that `to` names; give `to`",
        )),
    }
}

fn if_over(missing: Option<&Bound<'_, PyAny>>) -> PyResult<IfOver> {
    let Some(missing) = missing else { return Ok(IfOver::Bury) };
    let text = missing.cast::<PyString>().ok().map(|text| text.to_string_lossy().into_owned());
    match text.as_deref() {
        Some("error") => Ok(IfOver::Bury),
        Some("ignore") => Ok(IfOver::Drop),
        _ => {
            let shown = error::shown(missing);
            Err(PyValueError::new_err(format!("missing: \"error\" or \"ignore\" expected, not {shown}")))
        }
    }
}

/// The run that is meant by an id, a run, or a handle of one.
fn target(to: &Bound<'_, PyAny>) -> PyResult<RunId> {
    let expected = || {
        let shown = error::shown(to);
        PyTypeError::new_err(format!("to: the id of a run, a run, or a handle of one expected, not {shown}"))
    };
    if let Ok(text) = to.cast::<PyString>() {
        let text = text.to_string_lossy();
        return text.parse().map_err(|_| PyValueError::new_err(format!("to: {text:?} is no id of a run")));
    }
    let id = to.getattr_opt(intern!(to.py(), "id"))?.ok_or_else(expected)?;
    journal::id(id.extract::<&str>().map_err(|_| expected())?)
}

impl Run {
    /// Whether a step has ever sent to another run.
    #[inline]
    pub fn has_sent(&self) -> bool {
        self.has_sent.load(Ordering::Relaxed)
    }

    /// A step has returned: gives what asks the journal whether the runs are there that it has sent to, and returns
    /// `value` then; nothing if that is known.
    ///
    /// # Errors
    /// `UnknownRun` or `RunEnded` of a run in memory.
    pub fn ask_for_targets(run: &Bound<'_, Self>, slot: Slot, value: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        let py = run.py();
        let (targets, journal) = {
            let mut state = run.get().state.lock();
            let targets = state.core.take_unchecked(slot);
            (targets, state.durable.as_ref().map(|durable| durable.journal.clone_ref(py)))
        };
        if targets.is_empty() {
            return Ok(None);
        }
        let targets: Vec<_> = targets.iter().map(RunId::to_string).collect();
        let sender = run.get().id_text();
        match journal {
            Some(journal) => journal.get().ask_for_targets(py, targets, &sender, value).map(Some),
            None => in_memory(py, "check")?.call1((targets, sender)).map(|_| None),
        }
    }

    /// A step is done: what it has sent goes. With a journal the next commit takes it along.
    #[inline]
    pub fn deliver_sent(run: &Bound<'_, Self>) -> PyResult<()> {
        if run.get().has_sent() { Self::deliver_in_memory(run) } else { Ok(()) }
    }

    #[cold]
    fn deliver_in_memory(run: &Bound<'_, Self>) -> PyResult<()> {
        let py = run.py();
        let (outbound, withdrawn) = {
            let mut state = run.get().state.lock();
            let outbound = if state.durable.is_none() { state.core.take_outbound() } else { Vec::new() };
            (outbound, state.core.take_withdrawn())
        };
        drop(withdrawn);
        if outbound.is_empty() {
            return Ok(());
        }
        let events: Vec<_> =
            outbound.into_iter().map(|one| (one.to.to_string(), one.event, one.if_over == IfOver::Bury)).collect();
        in_memory(py, "deliver")?.call1((events, run.get().id_text())).map(drop)
    }

    /// Logs what the journal could not deliver of a commit: its run ended, or was deleted, after it was asked for.
    pub fn log_undelivered(run: &Bound<'_, Self>, answer: &Outcome) -> PyResult<()> {
        let Ok(Reply::Appended { undelivered, .. }) = answer else { return Ok(()) };
        undelivered.iter().filter(|one| one.if_over == IfOver::Bury).try_for_each(|one| {
            let Undelivered { to, why, .. } = one;
            let why = match why {
                Missing::Unknown => "there is no such run any more",
                Missing::Ended => "it has ended, and keeps it as a dead letter",
            };
            let sender = run.get().id_text();
            error::log_warning(run.py(), &format!("an event of run {sender} for run {to} was not delivered: {why}"))
        })
    }

    /// Notes the parent or a child of a run in memory, if it is that which an id means.
    fn remember_kin(run: &Bound<'_, Self>, id: RunId) -> PyResult<()> {
        let py = run.py();
        let kin = {
            let state = run.get().state.lock();
            let child = state.kin.get().and_then(|kin| kin.live.get(&id)).map(|child| child.clone_ref(py));
            child.or_else(|| state.parent.as_ref().filter(|parent| parent.get().id == id).map(|it| it.clone_ref(py)))
        };
        kin.map_or(Ok(()), |kin| Self::remember(kin.bind(py), &id.to_string()))
    }

    /// Notes a run in memory whose id is asked for: only its id tells others of it.
    pub fn remember(run: &Bound<'_, Self>, id: &str) -> PyResult<()> {
        let is_durable = run.get().state.lock().durable.is_some();
        if is_durable {
            return Ok(());
        }
        in_memory(run.py(), "remember")?.call1((run, id)).map(drop)
    }
}

fn in_memory<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || py.import("treadle.between").map(Bound::unbind))?;
    module.bind(py).getattr(name)
}
