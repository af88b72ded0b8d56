//! Objects and exceptions as text.

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;

use crate::python::text::type_name;

/// The class and the text of an exception, for people.
#[cold]
pub fn in_one_line(py: Python<'_>, error: &PyErr) -> String {
    format!("{}: {}", type_name(&error.get_type(py)), text_of(error.value(py)))
}

/// The text of an exception; its type alone if `str` fails.
pub(super) fn text_of(exception: &Bound<'_, PyBaseException>) -> String {
    match exception.str() {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => format!("<{}>", type_name(&exception.get_type())),
    }
}

/// An object as errors show it: its `repr`, cut if it is long; the type alone if `repr` fails.
pub fn shown(object: &Bound<'_, PyAny>) -> String {
    pub(super) const MOST: usize = 200;
    let Ok(repr) = object.repr() else { return format!("<{}>", type_name(&object.get_type())) };
    let text = repr.to_string_lossy();
    match text.char_indices().nth(MOST) {
        None => text.into_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}
