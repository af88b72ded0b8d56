//! Python values to stored values and back: exact, or an error.
//!
//! The tag is chosen by the exact type. What stays immutable (`bytes`, `str`, `int`, `float`, `bool`,
//! `None`) is kept by reference; lists and dicts become JSON text in one pass over the objects, with no
//! Python code run on the way; everything else is pickled whole.

use std::sync::Arc;

use bytes::Bytes;
use jiter::PythonParse;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyString};
use pyo3::{PyTraverseError, PyVisit, ffi, intern};

use super::error;
use super::parse::parse;
use super::pickle::{pickle, unpickle};
use super::stored::lend;
use super::text::is_valid_unicode;
use super::to_json::{as_i64, json, scalar_text};
use crate::value::{Stored, Tag};

/// A value as a run of this process holds it.
pub enum PyValue {
    /// An immutable JSON scalar, by reference.
    Scalar(Py<PyAny>),
    /// `bytes`, by reference.
    Bytes(Py<PyBytes>),
    /// What was in a `bytearray`.
    ByteArray(Arc<[u8]>),
    /// JSON text of a list or a dict.
    Json(Arc<str>),
    /// A pickle, and the class that it is of: the class itself or, in a run that was restored, its name.
    Opaque(Py<PyBytes>, Py<PyAny>),
}

impl Stored for PyValue {
    fn tag(&self) -> Tag {
        match self {
            Self::Scalar(_) | Self::Json(_) => Tag::Json,
            Self::Bytes(_) => Tag::Binary,
            Self::ByteArray(_) => Tag::MutableBinary,
            Self::Opaque(..) => Tag::Opaque,
        }
    }
}

impl PyValue {
    /// One more reference to the value; nothing is copied.
    #[inline]
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Scalar(object) => Self::Scalar(object.clone_ref(py)),
            Self::Bytes(bytes) => Self::Bytes(bytes.clone_ref(py)),
            Self::ByteArray(bytes) => Self::ByteArray(Arc::clone(bytes)),
            Self::Json(text) => Self::Json(Arc::clone(text)),
            Self::Opaque(pickle, class) => Self::Opaque(pickle.clone_ref(py), class.clone_ref(py)),
        }
    }

    pub fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Scalar(object) => visit.call(object),
            Self::Bytes(bytes) => visit.call(bytes),
            Self::Opaque(pickle, class) => {
                visit.call(pickle)?;
                visit.call(class)
            }
            Self::ByteArray(_) | Self::Json(_) => Ok(()),
        }
    }
}

impl PyValue {
    /// Calls a function with the tag and the bytes by which the value is stored.
    pub fn with_bytes<T>(&self, py: Python<'_>, call: impl FnOnce(Tag, &[u8]) -> T) -> PyResult<T> {
        Ok(match self {
            Self::Scalar(object) => {
                let text = scalar_text(object.bind(py));
                call(Tag::Json, text.as_str().as_bytes())
            }
            Self::Bytes(bytes) => call(Tag::Binary, bytes.as_bytes(py)),
            Self::ByteArray(bytes) => call(Tag::MutableBinary, bytes),
            Self::Json(text) => call(Tag::Json, text.as_bytes()),
            Self::Opaque(pickle, _) => call(Tag::Opaque, pickle.as_bytes(py)),
        })
    }
}

impl PyValue {
    /// The tag and the bytes by which the value is stored. Nothing large is copied.
    pub fn lend(&self, py: Python<'_>) -> (Tag, Bytes) {
        match self {
            Self::Scalar(object) => {
                let text = scalar_text(object.bind(py));
                (Tag::Json, Bytes::copy_from_slice(text.as_str().as_bytes()))
            }
            Self::Bytes(bytes) => (Tag::Binary, lend(bytes.bind(py))),
            Self::ByteArray(bytes) => (Tag::MutableBinary, Bytes::from_owner(Arc::clone(bytes))),
            Self::Json(text) => (Tag::Json, Bytes::from_owner(SharedText(Arc::clone(text)))),
            Self::Opaque(pickle, _) => (Tag::Opaque, lend(pickle.bind(py))),
        }
    }

    /// The value that is stored by a tag and bytes. `class` is the name of the class of an opaque value.
    ///
    /// # Errors
    /// `UnreadableValue` for text that is not JSON.
    pub fn from_stored(py: Python<'_>, tag: Tag, bytes: &[u8], class: &str) -> PyResult<Self> {
        let text = || std::str::from_utf8(bytes).map_err(|_| error::unreadable_text());
        Ok(match tag {
            Tag::Binary => Self::Bytes(PyBytes::new(py, bytes).unbind()),
            Tag::MutableBinary => Self::ByteArray(bytes.into()),
            Tag::Json if bytes.first().is_some_and(|first| matches!(first, b'{' | b'[')) => Self::Json(text()?.into()),
            Tag::Json => Self::Scalar(parse_json(py, "", text()?)?.unbind()),
            Tag::Opaque => Self::Opaque(PyBytes::new(py, bytes).unbind(), PyString::new(py, class).into_any().unbind()),
        })
    }
}

/// Text that is used as bytes.
struct SharedText(Arc<str>);

impl AsRef<[u8]> for SharedText {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Takes a snapshot of a value.
///
/// # Errors
/// `UnstorableValue` (a `TypeError`) that names the key and the type, if it does not pickle.
#[inline(always)]
pub fn encode(key: &str, value: &Bound<'_, PyAny>) -> PyResult<PyValue> {
    match kind_of(value) {
        Kind::Scalar => Ok(PyValue::Scalar(value.clone().unbind())),
        // SAFETY: `kind_of` says `Bytes` for the exact type `bytes` alone.
        Kind::Bytes => Ok(PyValue::Bytes(unsafe { value.cast_unchecked::<PyBytes>() }.clone().unbind())),
        kind => encode_mutable(key, value, kind),
    }
}

/// As [`encode`], for a value that is named by something that costs something to make.
pub fn encode_named(value: &Bound<'_, PyAny>, name: impl FnOnce() -> String) -> PyResult<PyValue> {
    match kind_of(value) {
        Kind::Scalar => Ok(PyValue::Scalar(value.clone().unbind())),
        _ => encode(&name(), value),
    }
}

/// Takes a snapshot of what cannot be kept by reference.
#[inline(never)]
fn encode_mutable(key: &str, value: &Bound<'_, PyAny>, kind: Kind) -> PyResult<PyValue> {
    let text = match kind {
        Kind::Container => json(value),
        _ => match binary(value)? {
            Some(binary) => return Ok(binary),
            None => None,
        },
    };
    match text {
        Some(text) => Ok(PyValue::Json(text)),
        None => Ok(PyValue::Opaque(pickle(key, value)?, value.get_type().into_any().unbind())),
    }
}

/// Takes a snapshot of `bytes`, a `bytearray` or a `memoryview`; gives nothing for any other type.
pub fn binary(value: &Bound<'_, PyAny>) -> PyResult<Option<PyValue>> {
    let py = value.py();
    if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        return Ok(Some(PyValue::Bytes(bytes.clone().unbind())));
    }
    if let Ok(bytes) = value.cast_exact::<PyByteArray>() {
        return Ok(Some(PyValue::ByteArray(bytes.to_vec().into())));
    }
    if value.cast_exact::<PyMemoryView>().is_ok() {
        let bytes = value.call_method0(intern!(py, "tobytes"))?;
        return Ok(Some(PyValue::Bytes(bytes.cast_into::<PyBytes>()?.unbind())));
    }
    Ok(None)
}

/// Makes a fresh Python object of a stored value; immutable ones are shared.
///
/// # Errors
/// `UnreadableValue` that names the key, if an opaque value does not unpickle.
#[inline]
pub fn decode<'py>(py: Python<'py>, key: &str, value: &PyValue) -> PyResult<Bound<'py, PyAny>> {
    match value {
        PyValue::Scalar(object) => Ok(object.bind(py).clone()),
        PyValue::Bytes(bytes) => Ok(bytes.bind(py).clone().into_any()),
        PyValue::ByteArray(bytes) => Ok(PyByteArray::new(py, bytes).into_any()),
        PyValue::Json(text) => parse_json(py, key, text),
        PyValue::Opaque(pickle, _) => unpickle(py, key, pickle),
    }
}

fn parse_json<'py>(py: Python<'py>, key: &str, text: &str) -> PyResult<Bound<'py, PyAny>> {
    if let Some(value) = parse(py, text)? {
        return Ok(value);
    }
    let json = text.as_bytes();
    let parsed = PythonParse::default().python_parse(py, json);
    parsed.map_err(|e| error::unreadable_value(py, key, &jiter::map_json_error(json, &e)))
}

enum Kind {
    Scalar,
    Bytes,
    Container,
    Other,
}

#[inline]
fn kind_of(value: &Bound<'_, PyAny>) -> Kind {
    let object = value.as_ptr();
    // SAFETY: `object` is a live reference for the whole call; the type addresses are those of the
    // interpreter's static types, and each branch calls only what its exact type allows.
    unsafe {
        let class = ffi::Py_TYPE(object);
        if class == &raw mut ffi::PyUnicode_Type {
            if is_valid_unicode(object) { Kind::Scalar } else { Kind::Other }
        } else if class == &raw mut ffi::PyLong_Type {
            if as_i64(object).is_some() { Kind::Scalar } else { Kind::Other }
        } else if class == &raw mut ffi::PyBytes_Type {
            Kind::Bytes
        } else if class == &raw mut ffi::PyDict_Type || class == &raw mut ffi::PyList_Type {
            Kind::Container
        } else if class == &raw mut ffi::PyFloat_Type {
            if ffi::PyFloat_AS_DOUBLE(object).is_finite() { Kind::Scalar } else { Kind::Other }
        } else if class == &raw mut ffi::PyBool_Type || object == ffi::Py_None() {
            Kind::Scalar
        } else {
            Kind::Other
        }
    }
}
