//! Passwords that Python code gives for connections to a server.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::journal::Password;

/// The calls into Python from threads that Python does not know. None begins once the interpreter ends, which waits for
/// those under way: CPython ends a thread that asks for the GIL later in the middle of its frames.
struct Calls {
    state: Mutex<State>,
    all_over: Condvar,
}

struct State {
    are_over: bool,
    under_way: usize,
}

static CALLS: Calls = Calls { state: Mutex::new(State { are_over: false, under_way: 0 }), all_over: Condvar::new() };
static AT_EXIT: Once = Once::new();

struct Call;

impl Calls {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Option<Call> {
        let mut state = self.state();
        if state.are_over {
            return None;
        }
        state.under_way += 1;
        Some(Call)
    }

    fn end(&self) {
        let mut state = self.state();
        state.are_over = true;
        while state.under_way > 0 {
            state = self.all_over.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        CALLS.state().under_way -= 1;
        CALLS.all_over.notify_all();
    }
}

#[pyfunction]
fn end_calls(py: Python<'_>) {
    py.detach(|| CALLS.end());
}

/// What asks a function of Python for passwords, on any thread.
pub fn source(py: Python<'_>, function: Py<PyAny>) -> PyResult<Password> {
    let mut registered = Ok(());
    AT_EXIT.call_once(|| registered = register(py));
    registered?;
    Ok(Password(Arc::new(move || {
        let over = || Err("Python ends".to_owned());
        let Some(_call) = CALLS.begin() else { return over() };
        Python::try_attach(|py| ask(py, &function)).unwrap_or_else(over)
    })))
}

fn register(py: Python<'_>) -> PyResult<()> {
    let end = wrap_pyfunction!(end_calls, py)?;
    py.import("atexit")?.call_method1("register", (end,)).map(drop)
}

// What was returned is not shown: it may be a password of another type.
fn ask(py: Python<'_>, function: &Py<PyAny>) -> Result<String, String> {
    let given = function.bind(py).call0().map_err(|error| format!("{} was raised", described(py, &error)))?;
    match given.cast_exact::<PyString>().map(|text| text.to_str().map(str::to_owned)) {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(_)) => Err("it is no valid text".into()),
        Err(_) => Err(format!("a str is expected, not {}", name_of(&given))),
    }
}

fn described(py: Python<'_>, error: &PyErr) -> String {
    let value = error.value(py);
    match value.str().map(|text| text.to_string_lossy().into_owned()) {
        Ok(text) if !text.is_empty() => format!("{}: {text}", name_of(value)),
        _ => name_of(value),
    }
}

fn name_of(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "an object".into(), |name| name.to_string_lossy().into_owned())
}
