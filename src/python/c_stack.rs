//! Stack for code in C that recurses, until the interpreter stops it.

use std::os::raw::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PyMemoryError, PyRecursionError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// Runs `call` with as much stack as the pickler can use before the interpreter stops it: the pickler recurses in C,
/// and a thread may have a stack of a few hundred KiB.
#[inline]
pub fn with_stack_for_recursion<T>(py: Python<'_>, call: impl Fn() -> PyResult<T>) -> PyResult<T> {
    match RecursionOfC::of(py) {
        RecursionOfC::Limited => with_stack_for_recursion_limit(py, call),
        RecursionOfC::Counted => with_stack(MOST_LEVELS_COUNTED * BYTES_PER_LEVEL_COUNTED, call),
        RecursionOfC::Measured => call(),
    }
}

/// How an interpreter keeps code in C from recursing through the end of the stack.
#[derive(Clone, Copy)]
enum RecursionOfC {
    /// CPython 3.11: it counts as recursion in Python does, up to `sys.getrecursionlimit()`.
    Limited,
    /// CPython 3.12 and 3.13: it has a count of its own, up to a number that is built in.
    Counted,
    /// CPython 3.14 and later: the interpreter looks how much of the thread's own stack is left. It would take
    /// another stack for the end of that one.
    Measured,
}

// The largest such number of any release; debug builds have smaller ones. A level of the pickler takes about 300
// bytes, measured on 3.13.
const MOST_LEVELS_COUNTED: usize = 10_000;
const BYTES_PER_LEVEL_COUNTED: usize = 512;

impl RecursionOfC {
    #[inline]
    fn of(py: Python<'_>) -> Self {
        static KNOWN: PyOnceLock<RecursionOfC> = PyOnceLock::new();
        *KNOWN.get_or_init(py, || match py.version_info() {
            version if version < (3, 12) => Self::Limited,
            version if version < (3, 14) => Self::Counted,
            _ => Self::Measured,
        })
    }
}

fn with_stack_for_recursion_limit<T>(py: Python<'_>, call: impl Fn() -> PyResult<T>) -> PyResult<T> {
    // A raised recursion limit costs a large stack only if a value is that deep.
    const USUALLY: c_int = 1 << 16;
    const DEEPEST: c_int = 1 << 19;
    // SAFETY: reads one number of the attached interpreter.
    let limit = unsafe { ffi::Py_GetRecursionLimit() };
    let result = with_recursion_limit(limit.min(USUALLY), limit, &call);
    match result {
        Err(error) if limit > USUALLY && error.is_instance_of::<PyRecursionError>(py) => {
            with_recursion_limit(limit.min(DEEPEST), limit, &call)
        }
        result => result,
    }
}

fn with_recursion_limit<T>(levels: c_int, limit: c_int, call: impl Fn() -> PyResult<T>) -> PyResult<T> {
    const BYTES_PER_LEVEL: usize = 2048;
    let lowered = (levels < limit).then(|| LoweredRecursionLimit::new(limit, levels));
    let result = with_stack(usize::try_from(levels).unwrap_or(0) * BYTES_PER_LEVEL, call);
    drop(lowered);
    result
}

fn with_stack<T>(need: usize, call: impl Fn() -> PyResult<T>) -> PyResult<T> {
    // A panic says that there is no memory for the stack.
    let called = catch_unwind(AssertUnwindSafe(|| stacker::maybe_grow(need, need + (64 << 10), call)));
    called.unwrap_or_else(|_| Err(PyMemoryError::new_err("no memory for a stack as deep as the recursion limit")))
}

/// A recursion limit that a stack can bear, until it is dropped.
struct LoweredRecursionLimit {
    before: c_int,
    lowered: c_int,
}

impl LoweredRecursionLimit {
    fn new(before: c_int, lowered: c_int) -> Self {
        // SAFETY: sets one number of the attached interpreter.
        unsafe { ffi::Py_SetRecursionLimit(lowered) };
        Self { before, lowered }
    }
}

impl Drop for LoweredRecursionLimit {
    fn drop(&mut self) {
        // SAFETY: as above. What the called code has set itself stays.
        unsafe {
            if ffi::Py_GetRecursionLimit() == self.lowered {
                ffi::Py_SetRecursionLimit(self.before);
            }
        }
    }
}
