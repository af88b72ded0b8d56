//! Core errors to Python exceptions, and the text of every exception that the binding raises.
//!
//! The classes are defined in `treadle/exceptions.py`; this file alone names them.
//!
//! - this file: the errors of the core and of a journal; `classes`: the exceptions;
//! - `run`, `step`, `child`, `routing`, `value`: the texts, by what they are about;
//! - `place`: where an exception was raised; `log`: what is logged; `text`: objects as text.

mod child;
pub mod classes;
mod log;
mod place;
mod routing;
mod run;
mod step;
mod text;
mod value;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::error::{Error, FormatError};
use crate::journal::JournalError;

pub use child::*;
pub use log::*;
pub use place::*;
pub use routing::*;
pub use run::*;
pub use step::*;
pub use text::*;
pub use value::*;

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::StepOver => classes::OutsideStep::new_err(text),
            Error::InvalidRunId(_)
            | Error::NotExpected
            | Error::Outdated
            | Error::Folded { .. }
            | Error::TooManySent => PyValueError::new_err(text),
            Error::InvalidRecord(_) | Error::InvalidImage(_) => classes::SnapshotError::new_err(text),
            Error::Format(failure) => format(&failure, text),
            Error::RunEnded => classes::RunEnded::new_err(text),
            Error::TooDeep { .. } => classes::FamilyTooDeep::new_err(text),
            Error::OtherInput => classes::KeyConflict::new_err(text),
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
        JournalError::Conflict(_)
        | JournalError::LeaseLost(_)
        | JournalError::RunActive(_)
        | JournalError::BeingCopied(_) => classes::JournalConflict::new_err(text),
        JournalError::Damaged { .. } => classes::DamagedRun::new_err(text),
        JournalError::UnknownRun(_) => classes::UnknownRun::new_err(text),
        JournalError::RunEnded(run) => of_run(&run.to_string(), classes::RunEnded::new_err(text)),
        JournalError::Panicked(_) => classes::InternalError::new_err(text),
        // All others say that the journal cannot be used, each in its own words.
        _ => classes::JournalError::new_err(text),
    }
}

#[cold]
pub fn forked(process: u32) -> PyErr {
    classes::JournalError::new_err(format!(
        "the journal was opened by process {process}, and this one was forked from it: open an engine of its own here"
    ))
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
