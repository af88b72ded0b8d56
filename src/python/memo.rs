//! Calls that a step makes once: `Context.once`, and what its results wait for.

use parking_lot::Mutex;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::clock::random;
use super::context::Context;
use super::convert::{PyValue, decode, encode};
use super::current;
use super::digest::arguments_digest;
use super::error;
use super::failure::{is_final, is_retried, seconds_of};
use super::gate::set_result_unless_done;
use super::plan::{RetryDescription, micros};
use super::run::Run;
use super::text::type_name;
use super::wake::{self, Waker};
use crate::value::{Stored, Tag};
use crate::writer::Occurrence;
use crate::{ArgumentsDigest, Error, Kept, Memo, MemoCall, Once, Phase, Strand};

/// A call that is to be made: what it gives is kept by `keep`.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct MemoBegun {
    pub context: Py<Context>,
    strand: Strand,
    // Until something is kept.
    call: Mutex<Option<MemoCall>>,
}

/// Who waits until a memo is on disk.
pub enum MemoWaiter {
    /// A future of an event loop.
    Loop(Waker),
    /// A future of a thread.
    Thread(Py<PyAny>),
}

/// Those who wait for memos, each with the number of records that have to be on disk.
pub type MemoWaiters = Vec<(u64, MemoWaiter)>;

impl MemoWaiter {
    fn is_written(&self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Loop(waker) => waker.wake(py, py.None()),
            Self::Thread(future) => set_result_unless_done(future.bind(py), py.None()),
        }
    }

    fn is_lost(&self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        match self {
            Self::Loop(waker) => waker.fail(py, error),
            Self::Thread(future) => wake::set_exception_unless_done(future.bind(py), error.into_value(py).into_any()),
        }
    }

    pub fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Loop(waker) => waker.traverse(visit),
            Self::Thread(future) => visit.call(future),
        }
    }
}

impl Run {
    /// So many records are on disk: those go on whose memos are among them.
    pub fn memos_written(run: &Bound<'_, Self>, recorded: u64) -> PyResult<()> {
        let written = {
            let mut state = run.get().state.lock();
            let Some(waiting) = state.memo_waiters.get_mut() else { return Ok(()) };
            let written = waiting.partition_point(|(needed, _)| *needed <= recorded);
            waiting.drain(..written).collect::<MemoWaiters>()
        };
        for (_, waiter) in &written {
            failpoint!("run.memo_told");
            waiter.is_written(run.py())?;
        }
        Ok(())
    }

    /// The run is over: no caller is told of a memo any more.
    pub fn memos_lost(run: &Bound<'_, Self>, waiting: MemoWaiters) -> PyResult<()> {
        let error = || error::run_ended(&run.get().id_text(), "once");
        waiting.iter().try_for_each(|(_, waiter)| waiter.is_lost(run.py(), error()))
    }
}

/// Why no call is made once.
pub fn refused(context: &Bound<'_, Context>, refused: &Error) -> PyErr {
    let run = context.get().run.get();
    match refused {
        Error::StepOver => error::step_over(run, context.get().step, "once"),
        _ => error::run_ended(&run.id_text(), "once"),
    }
}

#[pymethods]
impl Context {
    /// Makes a call once: `treadle.memos.once_in`, bound to this context.
    #[getter]
    fn once<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static ONCE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        ONCE.import(slf.py(), "treadle.memos", "once_in")?.call_method1(intern!(slf.py(), "__get__"), (slf,))
    }

    /// As `once`, for a thread: `treadle.memos.once_sync_in`, bound to this context.
    #[getter]
    fn once_sync<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static ONCE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        ONCE.import(slf.py(), "treadle.memos", "once_sync_in")?.call_method1(intern!(slf.py(), "__get__"), (slf,))
    }

    /// The caller is a thread that runs the whole of the step's body.
    fn _enter_thread(slf: &Bound<'_, Self>) -> PyResult<()> {
        current::enter_thread(slf)
    }

    /// Begins a call: gives a `MemoBegun` if it is to be made, else whether it gave a result, and that.
    fn _begin_memo<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        keywords: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Ok(name) = name.cast::<PyString>() else { return Err(not_a_name("once", name)) };
        begin(slf, name.to_str()?, &arguments_digest(args, keywords)?)
    }
}

/// Begins a call, as `Context._begin_memo`.
pub fn begin<'py>(slf: &Bound<'py, Context>, name: &str, arguments: &ArgumentsDigest) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let strand = current::strand(slf)?;
    let (is_result, value) = {
        let mut state = slf.get().state()?;
        let once = match state.core.once(slf.get().slot, strand, name, arguments) {
            Ok(Once::New(call)) => Ok(call),
            Ok(Once::Before(Kept::Result(value))) => Err(Ok((true, value.clone_ref(py)))),
            Ok(Once::Before(Kept::Failure(value))) => Err(Ok((false, value.clone_ref(py)))),
            Ok(Once::Before(Kept::Child(_))) => Err(Err(Error::OtherInput)),
            Err(error) => Err(Err(error)),
        };
        drop(state);
        match once {
            Ok(call) => {
                let begun = MemoBegun { context: slf.clone().unbind(), strand, call: Mutex::new(Some(call)) };
                return Ok(Bound::new(py, begun)?.into_any());
            }
            Err(found) => found.map_err(|error| refused(slf, &error))?,
        }
    };
    let value = decode(py, &named(slf.get(), name), &value)?;
    Ok((is_result, value).into_pyobject(py)?.into_any())
}

pub fn not_a_name(call: &str, name: &Bound<'_, PyAny>) -> PyErr {
    let next = if call == "once" { "function" } else { "connection" };
    PyTypeError::new_err(format!(
        "{call}: the first argument is the name of the memo, a str, not {}; the second one is the {next}",
        type_name(&name.get_type())
    ))
}

/// A memo with the step and the run that it belongs to.
fn named(context: &Context, name: &str) -> String {
    described(context, "memo", name)
}

/// A call of a step by its kind and its name, with the step and the run that it belongs to.
pub fn described(context: &Context, kind: &str, name: &str) -> String {
    format!("{kind} {name:?} of step {:?} in run {}", context.step_name(), context.run.get().id_text())
}

#[pymethods]
impl MemoBegun {
    /// Keeps what the call gave. Gives a future that is done when it is on disk, or nothing if it need not be, or unless
    /// the caller waits. Of a thread it is `thread_future`.
    #[pyo3(signature = (value, is_failure = false, thread_future = None, *, waits = true))]
    fn keep<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        is_failure: bool,
        thread_future: Option<&Bound<'py, PyAny>>,
        waits: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = value.py();
        let context = self.context.bind(py);
        let run = context.get().run.bind(py);
        let Some(call) = self.call.lock().take() else {
            return Err(PyTypeError::new_err("a memo is kept once"));
        };
        let stored = encode(&call.name, value).map_err(|cause| {
            let name = named(context.get(), &call.name);
            error::unstorable_memo(py, &name, &value.get_type(), cause)
        })?;
        self.check_signable(context.get(), &call, &stored)?;
        let waiter = self.waiter(context, thread_future)?.filter(|_| waits);
        let future = waiter.as_ref().map(|waiter| match waiter {
            MemoWaiter::Loop(waker) => waker.future.bind(py).clone(),
            MemoWaiter::Thread(future) => future.bind(py).clone(),
        });
        let kept = if is_failure { Kept::Failure(stored) } else { Kept::Result(stored) };
        let forgotten = {
            let mut state = context.get().state()?;
            let kept = state.core.keep_memo(context.get().slot, self.strand, Memo { call, kept });
            if let (Ok(_), Some(waiter)) = (&kept, waiter) {
                let recorded = state.core.recorded();
                state.memo_waiters.make().push((recorded, waiter));
            }
            kept
        };
        match forgotten {
            Ok(forgotten) => drop(forgotten),
            Err((why, memo)) => {
                drop(memo);
                return Err(refused(context, &why));
            }
        }
        Run::cancel_void_children(run)?;
        Run::occurred(run, Occurrence::Memo)?;
        Ok(future)
    }

    /// Raises if the run is over: then nothing tells that a memo is on disk.
    fn check_running(&self, py: Python<'_>) -> PyResult<()> {
        let context = self.context.bind(py);
        let phase = context.get().state()?.core.phase();
        if phase == Phase::Running { Ok(()) } else { Err(refused(context, &Error::RunEnded)) }
    }

    /// In how many seconds another attempt follows one that failed; nothing if there is none. `elapsed` are the seconds
    /// since the first one began.
    #[staticmethod]
    fn delay(retry: &Bound<'_, PyAny>, attempt: u32, elapsed: f64, raised: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
        let py = retry.py();
        let (policy, filter) = retry.extract::<RetryDescription>()?.split()?;
        let error = PyErr::from_value(raised.clone());
        if attempt >= policy.attempts || is_final(&error, py)? || !is_retried(Some(&filter), &error, py)? {
            return Ok(None);
        }
        let now = micros(elapsed);
        let delay = match &filter.delay {
            Some(hook) => seconds_of(&hook.bind(py).call1((raised, attempt))?)?,
            None => None,
        };
        let due = match delay {
            Some(delay) => policy.next_after(attempt, Some(0), now, micros(delay)),
            None => policy.next(attempt, Some(0), now, random()?),
        };
        Ok(due.map(|due| due.saturating_sub(now) as f64 / 1e6))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.context)
    }
}

impl MemoBegun {
    /// Who waits for the journal, if the run has one.
    pub fn waiter(
        &self,
        context: &Bound<'_, Context>,
        thread_future: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<MemoWaiter>> {
        let is_durable = match &context.get().state()?.durable {
            None => false,
            Some(durable) if durable.writer.is_lost() || durable.writer.stands_for().is_some() => {
                return Err(refused(context, &Error::RunEnded));
            }
            Some(_) => true,
        };
        if !is_durable {
            return Ok(None);
        }
        Ok(Some(match thread_future {
            Some(future) => MemoWaiter::Thread(future.clone().unbind()),
            None => MemoWaiter::Loop(Waker::new(&wake::running_loop(context.py())?)?),
        }))
    }

    /// A value that no journal takes is refused before the body relies on it.
    fn check_signable(&self, context: &Context, call: &MemoCall, value: &PyValue) -> PyResult<()> {
        let is_unsigned = value.tag() == Tag::Opaque
            && context.state()?.durable.as_ref().is_some_and(|durable| durable.journal.get().signer.secrets.is_empty());
        if is_unsigned { Err(error::unsigned_memo(&named(context, &call.name))) } else { Ok(()) }
    }
}
