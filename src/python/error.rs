//! Core errors to Python exceptions, and the text of every exception that the binding raises.
//!
//! The classes are defined in `treadle/exceptions.py`; this file alone names them.

use pyo3::exceptions::asyncio::CancelledError;
use pyo3::exceptions::{PyBaseException, PyException, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyInt, PyString, PyTuple, PyType};

use super::plan::Plan;
use super::run::Run;
use super::state::{Class, EventWaiter};
use super::text::type_name;
use crate::error::{Error, FormatError};
use crate::journal::{JournalError, Phase};
use crate::{Failure, RunId, Started, StepId, Time};

/// The exceptions of `treadle.exceptions`.
pub mod classes {
    #![allow(missing_docs)]
    use pyo3::prelude::*;
    use pyo3::type_object::PyTypeInfo;

    macro_rules! classes {
        ($($name:ident),+ $(,)?) => {
            $(pyo3::import_exception!(treadle.exceptions, $name);)+

            /// Imports them all. One that is imported late would panic: at the end of the interpreter nothing can be
            /// imported.
            pub fn load(py: Python<'_>) {
                $($name::type_object(py);)+
            }
        };
    }

    classes!(
        DamagedRun,
        EngineClosed,
        EventLoopError,
        IncompatibleSnapshot,
        InternalError,
        InvalidSignature,
        JournalConflict,
        JournalError,
        OutsideStep,
        RetryFailed,
        RunCancelled,
        RunEnded,
        RunStalled,
        SnapshotError,
        StepCancelled,
        StepTimeout,
        UnknownRun,
        UnreadableValue,
        UnroutedEvent,
        UnsignedValue,
        UnstorableValue,
        WaitTimeout,
        WorkflowTimeout,
    );
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::StepOver => classes::OutsideStep::new_err(text),
            Error::InvalidRunId(_) | Error::NotExpected | Error::Outdated | Error::Folded { .. } => {
                PyValueError::new_err(text)
            }
            Error::InvalidRecord(_) | Error::InvalidImage(_) => classes::SnapshotError::new_err(text),
            Error::Format(failure) => format(&failure, text),
            Error::RunEnded => classes::RunEnded::new_err(text),
        }
    }
}

fn format(failure: &FormatError, text: String) -> PyErr {
    match failure {
        FormatError::SecretNeeded { .. }
        | FormatError::SignedWithoutSecret(_)
        | FormatError::NothingToSignWith { .. } => classes::UnsignedValue::new_err(text),
        FormatError::Changed
        | FormatError::ValueChanged { .. }
        | FormatError::NotSignedWhole { .. }
        | FormatError::Misplaced { .. }
        | FormatError::UnknownSecret(_)
        | FormatError::Unsigned => classes::InvalidSignature::new_err(text),
        FormatError::ShortSecret { .. } => PyValueError::new_err(text),
        // All others say in their own words that the bytes cannot be read, or made.
        _ => classes::SnapshotError::new_err(text),
    }
}

/// An error of a journal.
#[cold]
pub fn journal(failure: &JournalError) -> PyErr {
    let text = failure.to_string();
    match failure {
        JournalError::Conflict(_) | JournalError::LeaseLost(_) | JournalError::RunActive(_) => {
            classes::JournalConflict::new_err(text)
        }
        JournalError::Damaged { .. } => classes::DamagedRun::new_err(text),
        JournalError::UnknownRun(_) => classes::UnknownRun::new_err(text),
        JournalError::RunEnded(run) => of_run(&run.to_string(), classes::RunEnded::new_err(text)),
        JournalError::Panicked(_) => classes::InternalError::new_err(text),
        // All others say that the journal cannot be used, each in its own words.
        _ => classes::JournalError::new_err(text),
    }
}

/// Only what failed or was cancelled goes on from there.
#[cold]
pub fn not_to_be_retried(run: &RunId, phase: Phase) -> PyErr {
    if phase == Phase::Completed {
        let text = format!(
            "retry: run {run} is completed, and its result stands; a fork of it runs once more from a point of its log"
        );
        return of_run(&run.to_string(), classes::RunEnded::new_err(text));
    }
    let status = super::journal::phase_name(phase);
    classes::JournalConflict::new_err(format!("retry: run {run} is not over: it is {status}"))
}

#[cold]
pub fn no_such_record(run: &RunId, at: &Bound<'_, PyInt>, first: u64, last: u64) -> PyErr {
    let at = shown(at.as_any());
    let known = match first {
        0 => format!("those before its end are numbered from 0, its creation, to {last}"),
        _ => format!("those before its end are numbered from {first} to {last}, since earlier ones were folded"),
    };
    PyValueError::new_err(format!("at: run {run} has no record {at}: {known}"))
}

#[cold]
pub fn engine_closed(run: &str) -> PyErr {
    classes::EngineClosed::new_err(format!(
        "run {run}: its engine was closed before it ended; it goes on when an engine is opened on the same journal"
    ))
}

#[cold]
pub fn forked(process: u32) -> PyErr {
    classes::JournalError::new_err(format!(
        "the journal was opened by process {process}, and this one was forked from it: open an engine of its own here"
    ))
}

/// Logs something that nobody else will see.
#[cold]
pub fn log_error(py: Python<'_>, text: &str, error: &PyErr) {
    log(py, text, error.value(py));
}

/// A panic, as an exception.
#[cold]
pub fn internal(payload: &(dyn std::any::Any + Send)) -> PyErr {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message");
    classes::InternalError::new_err(format!("the engine failed, please report it: {text}"))
}

/// Panics. For the tests of what a panic becomes.
#[pyfunction]
#[pyo3(name = "_panic")]
pub fn panic(message: String) {
    panic!("{message}");
}

#[cold]
pub fn run_ended(run: &str, call: &str) -> PyErr {
    of_run(run, classes::RunEnded::new_err(format!("{call}: run {run} has ended")))
}

/// Gives an error the attribute that says which run it is about.
fn of_run(run: &str, error: PyErr) -> PyErr {
    Python::attach(|py| {
        let error = made(py, error);
        match error.value(py).setattr(intern!(py, "run_id"), run) {
            Ok(()) => error,
            Err(failure) => failure,
        }
    })
}

/// The error with its exception object. pyo3 makes that when it is first asked for, in a way that panics at the end
/// of the interpreter; the interpreter does not.
#[cold]
pub fn made(py: Python<'_>, error: PyErr) -> PyErr {
    error.restore(py);
    PyErr::fetch(py)
}

/// Whether an error says that this run is over, or that its step was cancelled: the step that raises it has learnt
/// of the end of its own run. That another run is over is a failure of the step.
pub fn is_end_of(py: Python<'_>, error: &PyErr, run: &Run) -> bool {
    if !error.is_instance_of::<classes::RunEnded>(py) && !error.is_instance_of::<classes::StepCancelled>(py) {
        return false;
    }
    let of = error.value(py).getattr(intern!(py, "run_id"));
    of.and_then(|of| of.eq(run.id_text())).unwrap_or(false)
}

#[cold]
pub fn no_event_loop(workflow: &str) -> PyErr {
    classes::EventLoopError::new_err(format!(
        "workflow {workflow:?}: no event loop is running here; call run() inside of an `async def` that \
         asyncio.run() drives"
    ))
}

#[cold]
pub fn loop_closed(run: &str) -> PyErr {
    classes::EventLoopError::new_err(format!("run {run}: its event loop was closed before it ended"))
}

#[cold]
pub fn awaits_itself(run: &str) -> PyErr {
    classes::RunStalled::new_err(format!("run {run}: one of its own steps awaits it, so neither could ever go on"))
}

/// For those that are cancelled with a run, or besides it.
#[cold]
pub fn cancelled(run: &str) -> PyErr {
    CancelledError::new_err(format!("run {run} was cancelled"))
}

/// For awaiters of a cancelled run that were not cancelled themselves.
#[cold]
pub fn run_cancelled(run: &str) -> PyErr {
    classes::RunCancelled::new_err(format!("run {run} was cancelled"))
}

#[cold]
pub fn unrouted_start(plan: &Plan, event: &Bound<'_, PyAny>) -> PyErr {
    classes::UnroutedEvent::new_err(format!(
        "workflow {:?} cannot start with {}: no step accepts it; accepted: {}",
        plan.name,
        shown(event),
        plan.accepted_names(event.py())
    ))
}

/// `from` says who emitted the event.
#[cold]
pub fn unrouted(plan: &Plan, event: &Bound<'_, PyAny>, from: &str) -> PyErr {
    let hint = if event.is_instance_of::<PyTuple>() {
        " (several events are returned as a list)"
    } else if event.is_instance_of::<PyType>() {
        " (it is a class: return an instance of it)"
    } else {
        ""
    };
    classes::UnroutedEvent::new_err(format!(
        "{from} {}, which no step of workflow {:?} accepts{hint}; accepted: {}",
        shown(event),
        plan.name,
        plan.accepted_names(event.py())
    ))
}

/// An event was sent to one step by its name, which there is not, or which does not accept it.
#[cold]
pub fn unrouted_to(run: &Run, from: StepId, event: &Bound<'_, PyAny>, to: &str) -> PyErr {
    let plan = run.plan.get();
    let why = match plan.step_named(to) {
        Some(step) => format!("which does not accept it; it accepts: {}", plan.accepted_by(event.py(), step)),
        None => {
            let names: Vec<_> = plan.core.steps.iter().map(|step| &*step.name).collect();
            format!("which workflow {:?} does not have; its steps: {}", plan.name, names.join(", "))
        }
    };
    classes::UnroutedEvent::new_err(format!(
        "step {:?} of run {} sent {} to step {to:?}, {why}",
        plan.step_name(from),
        run.id_text(),
        shown(event)
    ))
}

#[cold]
pub fn run_stalled(run: &Run) -> PyErr {
    let plan = run.plan.get();
    classes::RunStalled::new_err(format!(
        "run {} of workflow {:?} can go nowhere: no event is queued, no step runs, nobody waits for an event, \
         and no step returned a StopEvent",
        run.id_text(),
        plan.name
    ))
}

#[cold]
pub fn workflow_timeout(run: &Run, timeout: Option<Time>) -> PyErr {
    let plan = run.plan.get();
    let seconds = timeout.unwrap_or_default() as f64 / 1e6;
    classes::WorkflowTimeout::new_err(format!(
        "run {} of workflow {:?} took longer than {seconds} s",
        run.id_text(),
        plan.name
    ))
}

#[cold]
pub fn deadline_passed(run: &Run, longest: Option<Time>) -> PyErr {
    let seconds = longest.unwrap_or_default() as f64 / 1e6;
    classes::WorkflowTimeout::new_err(format!(
        "run {} of workflow {:?} was not over by its deadline, {seconds} s after it was made",
        run.id_text(),
        run.plan.get().name
    ))
}

#[cold]
pub fn step_timeout(run: &Run, started: &Started) -> PyErr {
    let plan = run.plan.get();
    let seconds = plan.core.steps[started.step.0 as usize].timeout.unwrap_or_default() as f64 / 1e6;
    classes::StepTimeout::new_err(format!(
        "step {:?} took longer than {seconds} s (attempt {}, run {} of workflow {:?})",
        plan.step_name(started.step),
        started.attempt,
        run.id_text(),
        plan.name
    ))
}

#[cold]
pub fn outside_step() -> PyErr {
    classes::OutsideStep::new_err(
        "no step runs here: this is called from a step, or from a task or a thread that has the step's context variables \
         (asyncio.to_thread gives them on, loop.run_in_executor does not)",
    )
}

#[cold]
pub fn step_over(run: &Run, step: StepId) -> PyErr {
    classes::OutsideStep::new_err(format!(
        "once: the body of step {:?} of run {} is over; a task that it has left behind keeps nothing",
        run.plan.get().step_name(step),
        run.id_text()
    ))
}

/// A memo whose value cannot be encoded. `memo` names it, its step and its run.
#[cold]
pub fn unstorable_memo(py: Python<'_>, memo: &str, class: &Bound<'_, PyType>, cause: PyErr) -> PyErr {
    if !cause.is_instance_of::<classes::UnstorableValue>(py) {
        return cause;
    }
    let why = cause.cause(py).map_or_else(|| text_of(cause.value(py)), |why| text_of(why.value(py)));
    let name = type_name(class);
    let error = classes::UnstorableValue::new_err(format!(
        "{memo}: a result of type {name} cannot be stored, because it cannot be pickled ({why}); return what is needed \
         of it"
    ));
    error.set_cause(py, cause.cause(py));
    error
}

#[cold]
pub fn unsigned_memo(memo: &str) -> PyErr {
    classes::UnsignedValue::new_err(format!(
        "{memo}: its result is an opaque value, which is pickled and has to be signed, and the journal has no secret: \
         give Engine(secret=...)"
    ))
}

#[cold]
pub fn step_cancelled(run: &Run, step: StepId) -> PyErr {
    let text = format!(
        "step {:?} of run {} was cancelled while its thread went on; nothing that it does counts any more",
        run.plan.get().step_name(step),
        run.id_text()
    );
    of_run(&run.id_text(), classes::StepCancelled::new_err(text))
}

#[cold]
pub fn wait_timeout(py: Python<'_>, waiter: &EventWaiter, class: &Class, run: &str) -> PyErr {
    let class = type_name(class.0.bind(py));
    let seconds = waiter.timeout.unwrap_or_default();
    classes::WaitTimeout::new_err(format!("run {run}: no event {class} came within {seconds} s"))
}

/// What is remembered of an attempt that failed.
#[cold]
pub fn attempt_text(py: Python<'_>, attempt: u32, error: &PyErr) -> String {
    const MOST: usize = 1000;
    let class = type_name(&error.get_type(py));
    let text = text_of(error.value(py));
    let text = text.char_indices().nth(MOST).map_or(&*text, |(at, _)| &text[..at]);
    Failure::text_of(attempt, &class, text)
}

/// A function of the user was to say when a step is tried again, and did not.
#[cold]
pub fn retry_failed(run: &Run, started: &Started, raised: PyErr, failure: &PyErr) -> PyErr {
    Python::attach(|py| {
        let plan = run.plan.get();
        let raised = made(py, raised);
        let text = format!(
            "step {:?}: Retry(delay=...) gave no delay after attempt {} ({}; run {} of workflow {:?})",
            plan.step_name(started.step),
            started.attempt,
            in_one_line(py, &raised),
            run.id_text(),
            plan.name
        );
        if raised.cause(py).is_none() && !raised.value(py).is(failure.value(py)) {
            raised.set_cause(py, Some(failure.clone_ref(py)));
        }
        let error = classes::RetryFailed::new_err(text);
        error.set_cause(py, Some(raised));
        error
    })
}

#[cold]
pub fn pauses_itself(run: &str) -> PyErr {
    classes::RunStalled::new_err(format!(
        "run {run}: one of its own steps waits for it to be paused, and the run for that step; use \
         pause(wait=False), or pause it from outside"
    ))
}

/// Adds to an exception where it was raised: as a record, for programs, and as a note, for people.
#[cold]
pub fn locate(py: Python<'_>, error: &PyErr, run: &Run, started: &Started, event: Option<&Py<PyAny>>) {
    record_place(py, error, run, started, event);
    let plan = run.plan.get();
    let note = format!(
        "in step {:?} for event {}, attempt {}, run {} of workflow {:?}",
        plan.step_name(started.step),
        event_name(py, event),
        started.attempt,
        run.id_text(),
        plan.name
    );
    add_note(py, error, note);
}

fn event_name(py: Python<'_>, event: Option<&Py<PyAny>>) -> String {
    event.map_or_else(|| "?".to_owned(), |event| type_name(&event.bind(py).get_type()))
}

/// Records where an exception was raised, as `treadle.failure_of` tells it.
#[cold]
pub fn record_place(py: Python<'_>, error: &PyErr, run: &Run, started: &Started, event: Option<&Py<PyAny>>) {
    let place = (started.step, started.attempt);
    if let Err(failure) = set_place(error.value(py), run, place, event, "set_record") {
        failure.write_unraisable(py, None);
    }
}

/// As [`record_place`], of an attempt behind which there is another one: the members of a group may be raised again.
#[cold]
pub fn record_own_place(
    error: &Bound<'_, PyBaseException>,
    run: &Run,
    started: &Started,
    event: Option<&Py<PyAny>>,
) -> PyResult<()> {
    set_place(error, run, (started.step, started.attempt), event, "set_own_record")
}

fn set_place(
    error: &Bound<'_, PyBaseException>,
    run: &Run,
    (step, attempt): (StepId, u32),
    event: Option<&Py<PyAny>>,
    set: &str,
) -> PyResult<()> {
    let py = error.py();
    let plan = run.plan.get();
    let record = PyDict::new(py);
    record.set_item("run_id", run.id_text())?;
    record.set_item("workflow", &plan.name)?;
    record.set_item("step", plan.step_name(step))?;
    record.set_item("attempt", attempt)?;
    record.set_item("event", event_name(py, event))?;
    py.import(intern!(py, "treadle.failures"))?.call_method1(set, (error, record)).map(drop)
}

/// A failure of which its text is known alone, as an exception.
#[cold]
pub fn stored_failure<'py>(
    py: Python<'py>,
    run: &Run,
    step: StepId,
    failure: &Failure,
    event: Option<&Py<PyAny>>,
) -> PyResult<Bound<'py, PyBaseException>> {
    static STORED_ERROR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let (class, text) = failure.parts().unwrap_or(("Exception", &failure.text));
    let error = STORED_ERROR.import(py, "treadle.exceptions", "StoredError")?.call1((class, text))?;
    let error = error.cast_into::<PyBaseException>()?;
    set_place(&error, run, (step, failure.attempt), event, "set_own_record")?;
    Ok(error)
}

/// Adds a note to an exception. One whose `__notes__` are no list, or whose class has another `add_note`, may refuse
/// it: that is no reason to report another failure than this one.
#[cold]
pub fn add_note(py: Python<'_>, error: &PyErr, note: String) {
    if let Err(refused) = error.value(py).call_method1(intern!(py, "add_note"), (note,))
        && !refused.is_instance_of::<PyException>(py)
    {
        refused.write_unraisable(py, None);
    }
}

/// A step raised while the run was ending for another reason: that reason stands, this one is logged.
#[cold]
pub fn log_while_ending(py: Python<'_>, run: &Run, started: &Started, error: &PyErr) {
    let text = format!(
        "step {:?} raised while run {} of workflow {:?} was ending",
        run.plan.get().step_name(started.step),
        run.id_text(),
        run.plan.get().name
    );
    log(py, &text, error.value(py));
}

/// Something that reports the failure of a run when it is dropped: nobody else will ever know.
#[cold]
pub fn unretrieved(py: Python<'_>, run: &Run, error: &PyErr) -> PyResult<Py<PyAny>> {
    static UNRETRIEVED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let text = format!("run {} of workflow {:?} failed and was never awaited", run.id_text(), run.plan.get().name);
    let class = UNRETRIEVED.import(py, "treadle.log", "Unretrieved")?;
    Ok(class.call1((text, error.value(py), run.event_loop.bind(py)))?.unbind())
}

/// Whether somebody listens to what happens to runs: the logger `treadle` at the level DEBUG.
pub fn is_debug_logged(py: Python<'_>) -> PyResult<bool> {
    static IS_DEBUG_LOGGED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let is_enabled_for =
        IS_DEBUG_LOGGED.get_or_try_init(py, || logger(py)?.getattr(intern!(py, "isEnabledFor")).map(Bound::unbind))?;
    const DEBUG: u8 = 10;
    is_enabled_for.bind(py).call1((DEBUG,))?.is_truthy()
}

/// Logs what happens to a run, at the level DEBUG.
#[cold]
pub fn log_debug(py: Python<'_>, run: &Run, what: &str) -> PyResult<()> {
    let text = format!("run {} of workflow {:?} {what}", run.id_text(), run.plan.get().name);
    logger(py)?.call_method1(intern!(py, "debug"), ("%s", text)).map(|_| ())
}

/// Logs what somebody should look after.
#[cold]
pub fn log_warning(py: Python<'_>, text: &str) -> PyResult<()> {
    logger(py)?.call_method1(intern!(py, "warning"), ("%s", text)).map(|_| ())
}

fn logger(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import(intern!(py, "treadle.log"))?.call_method0(intern!(py, "logger"))
}

fn log(py: Python<'_>, text: &str, error: &Bound<'_, PyBaseException>) {
    static LOG: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let logged = LOG.import(py, "treadle.log", "log_exception").and_then(|log| log.call1((text, error)));
    if let Err(failure) = logged {
        failure.write_unraisable(py, None);
    }
}

#[cold]
pub fn unstorable_value(py: Python<'_>, key: &str, class: &Bound<'_, PyType>, cause: &PyErr) -> PyErr {
    let error = classes::UnstorableValue::new_err(format!(
        "{}: a value of type {} cannot be stored, because it cannot be pickled ({}); the key keeps its old value. \
         An object that lives in this process only (a connection, a model) belongs into ctx.session",
        shown_key(key),
        type_name(class),
        text_of(cause.value(py)),
    ));
    error.set_cause(py, Some(cause.clone_ref(py)));
    error
}

#[cold]
pub fn unreadable_value(py: Python<'_>, key: &str, cause: &PyErr) -> PyErr {
    let error = classes::UnreadableValue::new_err(format!(
        "{}: the stored value cannot be read back ({}: {})",
        shown_key(key),
        type_name(&cause.get_type(py)),
        text_of(cause.value(py)),
    ));
    error.set_cause(py, Some(cause.clone_ref(py)));
    error
}

/// The class and the text of an exception, for people.
#[cold]
pub fn in_one_line(py: Python<'_>, error: &PyErr) -> String {
    format!("{}: {}", type_name(&error.get_type(py)), text_of(error.value(py)))
}

/// Whether what is stored is damaged, so that no process can read it. Other errors may be due to the code or to the
/// secrets of this process.
#[cold]
pub fn is_damage(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<classes::DamagedRun>(py)
}

#[cold]
pub fn damaged_run(run: &RunId, error: &Error) -> PyErr {
    classes::DamagedRun::new_err(format!("run {run} is damaged in the journal: {error}"))
}

#[cold]
pub fn unreadable_text() -> PyErr {
    classes::UnreadableValue::new_err("a stored JSON text is not valid Unicode")
}

#[cold]
pub fn incompatible(problems: Vec<String>) -> PyErr {
    classes::IncompatibleSnapshot::new_err((problems,))
}

#[cold]
pub fn invalid_key(key: &Bound<'_, PyAny>) -> PyErr {
    if key.is_instance_of::<PyString>() {
        PyValueError::new_err(format!("key {} has a lone surrogate; a key is valid Unicode", shown(key)))
    } else {
        PyTypeError::new_err(format!("key {} is of type {}; a key is a str", shown(key), type_name(&key.get_type())))
    }
}

/// `what` was given, or is stored.
#[cold]
pub fn not_binary(key: &str, what: &str) -> PyErr {
    PyTypeError::new_err(format!("{}: bytes, bytearray or memoryview expected, not {what}", shown_key(key)))
}

/// A key as errors show it: cut, if it is long.
pub fn shown_key(key: &str) -> String {
    const MOST: usize = 80;
    match key.char_indices().nth(MOST) {
        None => format!("key {key:?}"),
        Some((at, _)) => format!("key {:?}… ({} bytes)", &key[..at], key.len()),
    }
}

/// The text of an exception; its type alone if `str` fails.
fn text_of(exception: &Bound<'_, PyBaseException>) -> String {
    match exception.str() {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => format!("<{}>", type_name(&exception.get_type())),
    }
}

/// An object as errors show it: its `repr`, cut if it is long; the type alone if `repr` fails.
pub fn shown(object: &Bound<'_, PyAny>) -> String {
    const MOST: usize = 200;
    let Ok(repr) = object.repr() else { return format!("<{}>", type_name(&object.get_type())) };
    let text = repr.to_string_lossy();
    match text.char_indices().nth(MOST) {
        None => text.into_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

#[cold]
pub fn secret_needed(place: &str) -> PyErr {
    classes::UnsignedValue::new_err(format!(
        "{place}: messages and opaque values are signed, and there is no secret: give Engine(secret=...), or set \
         TREADLE_SECRET, the same for all processes; `python -c 'import secrets; print(secrets.token_hex())'` makes a \
         good one"
    ))
}
