//! What code below a step finds through the context variables: the run, the step's context, and the strand of its
//! calls that are made once.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::context::Context;
use super::coroutine::current_task;
use super::error;
use super::run::Run;
use crate::{Slot, Strand};

/// A context variable of this module.
struct Variable {
    name: &'static CStr,
    object: PyOnceLock<Py<PyAny>>,
}

static RUN: Variable = Variable::new(c"treadle_run");
static STEP: Variable = Variable::new(c"treadle_step");
static STRAND: Variable = Variable::new(c"treadle_strand");

impl Variable {
    const fn new(name: &'static CStr) -> Self {
        Self { name, object: PyOnceLock::new() }
    }

    fn object(&self, py: Python<'_>) -> PyResult<&Py<PyAny>> {
        self.object.get_or_try_init(py, || {
            // SAFETY: the name is a C string and no default is given; a failure is fetched.
            unsafe {
                let variable = ffi::PyContextVar_New(self.name.as_ptr(), std::ptr::null_mut());
                Bound::from_owned_ptr_or_err(py, variable).map(Bound::unbind)
            }
        })
    }

    #[inline]
    fn get<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let variable = self.object(py)?;
        let mut value = std::ptr::null_mut();
        // SAFETY: `variable` is a context variable; the value is an owned reference or null.
        unsafe {
            if ffi::PyContextVar_Get(variable.as_ptr(), std::ptr::null_mut(), &raw mut value) != 0 {
                return Err(PyErr::fetch(py));
            }
            Ok(Bound::from_owned_ptr_or_opt(py, value))
        }
    }

    /// Sets it in the context that is current.
    fn set(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = value.py();
        let variable = self.object(py)?;
        // SAFETY: `variable` is a context variable and the value is live; the token is owned, or a failure is fetched.
        unsafe {
            let token = ffi::PyContextVar_Set(variable.as_ptr(), value.as_ptr());
            Bound::from_owned_ptr_or_err(py, token).map(|_| ())
        }
    }
}

/// What a weak reference is to, if it is still there.
fn upgraded<'py>(value: Option<Bound<'py, PyAny>>) -> Option<Bound<'py, PyAny>> {
    value?.cast_into::<PyWeakrefReference>().ok()?.upgrade()
}

/// The run in whose step the code runs.
pub struct CurrentRun;

impl CurrentRun {
    /// The run, if the caller is inside of a step of one.
    #[inline]
    pub fn get(py: Python<'_>) -> PyResult<Option<Bound<'_, Run>>> {
        Ok(upgraded(RUN.get(py)?).and_then(|run| run.cast_into::<Run>().ok()))
    }

    /// A copy of the caller's context in which this run is the current one.
    #[inline]
    pub fn new_context(run: &Bound<'_, Run>) -> PyResult<Py<PyAny>> {
        let py = run.py();
        // Timers and tasks that steps leave behind hold copies of the context, which must not hold the run.
        let reference = PyWeakrefReference::new(run)?;
        // SAFETY: a fresh copy is entered and left here; every result is checked and owned.
        unsafe {
            let context = Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())?;
            if ffi::PyContext_Enter(context.as_ptr()) != 0 {
                return Err(PyErr::fetch(py));
            }
            let set = RUN.set(&reference);
            if ffi::PyContext_Exit(context.as_ptr()) != 0 {
                return Err(PyErr::fetch(py));
            }
            set.map(|()| context.unbind())
        }
    }
}

// Whether anything has asked for the current step: until then no step tells which it is, since that takes time.
static IS_WANTED: AtomicBool = AtomicBool::new(false);

/// Whether steps have to tell which they are.
#[inline]
pub fn is_step_wanted() -> bool {
    IS_WANTED.load(Ordering::Relaxed)
}

/// From now on steps tell which they are.
#[pyfunction]
#[pyo3(name = "_want_current_step")]
pub fn want_current_step() {
    IS_WANTED.store(true, Ordering::Relaxed);
}

/// Tells in the current context, and in those that are copied from it, which step runs there.
pub fn set_step(context: &Bound<'_, Context>) -> PyResult<()> {
    // What a step leaves behind must not hold its run.
    STEP.set(PyWeakrefReference::new(context)?.as_any())
}

/// The context of the step below which the caller runs, in any task or thread that has the step's context variables.
///
/// # Errors
/// `OutsideStep` if there is none.
#[pyfunction]
pub fn current_context(py: Python<'_>) -> PyResult<Bound<'_, Context>> {
    if let Some(found) = upgraded(STEP.get(py)?)
        && let Ok(context) = found.cast_into::<Context>()
    {
        return Ok(context);
    }
    want_current_step();
    // A step that began before anything had asked: it is the one on the stack, or the only one in flight.
    let Some(run) = CurrentRun::get(py)? else { return Err(error::outside_step()) };
    let started = {
        let state = run.get().state.lock();
        let on_stack = if run.get().is_on_its_thread() { state.driving } else { None };
        on_stack.or_else(|| state.core.only_in_flight())
    };
    let started = started.ok_or_else(error::outside_step)?;
    Ok(Context::new(&run, &started)?.into_bound(py))
}

/// In which strand of which body code runs, for the context that has the mark and those that are copied from it.
#[pyclass(frozen, module = "treadle._treadle")]
struct StrandMark {
    slot: Slot,
    // The address of the task, or of something of the thread: a copy in another one is in another strand.
    owner: usize,
    strand: Strand,
}

thread_local! {
    static HERE: u8 = const { 0 };
}

fn thread() -> usize {
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// A thread runs the whole of a step's body.
pub fn enter_thread(context: &Bound<'_, Context>) -> PyResult<()> {
    set_step(context)?;
    mark(context, thread(), Strand::BODY)
}

fn mark(context: &Bound<'_, Context>, owner: usize, strand: Strand) -> PyResult<()> {
    let mark = StrandMark { slot: context.get().slot, owner, strand };
    STRAND.set(Bound::new(context.py(), mark)?.as_any())
}

/// The strand of a step's body in which the caller runs.
pub fn strand(context: &Bound<'_, Context>) -> PyResult<Strand> {
    let py = context.py();
    let (run, slot) = (context.get().run.get(), context.get().slot);
    let owner = if run.is_on_its_thread() {
        if context.get().state()?.is_on_stack(slot) {
            return Ok(Strand::BODY);
        }
        current_task(py)?.as_ptr() as usize
    } else {
        thread()
    };
    let known = STRAND.get(py)?.and_then(|known| known.cast_into::<StrandMark>().ok());
    let known = known.filter(|known| known.get().slot == slot);
    if let Some(known) = &known
        && known.get().owner == owner
    {
        return Ok(known.get().strand);
    }
    let starter = known.map(|known| known.get().strand);
    let begun = context.get().state()?.core.new_strand(slot, starter);
    let strand = begun.map_err(|error| super::memo::refused(context, &error))?;
    mark(context, owner, strand)?;
    Ok(strand)
}
