//! Keys and values that cannot be stored or read.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

use super::classes;
use super::text::{shown, text_of};
use crate::python::text::type_name;

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

#[cold]
pub fn unreadable_text() -> PyErr {
    classes::UnreadableValue::new_err("a stored JSON text is not valid Unicode")
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
    pub(super) const MOST: usize = 80;
    match key.char_indices().nth(MOST) {
        None => format!("key {key:?}"),
        Some((at, _)) => format!("key {:?}… ({} bytes)", &key[..at], key.len()),
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
