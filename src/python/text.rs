//! The text of Python's strings: keys, and the names of classes.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

use super::error;

/// A key: a `str` without lone surrogates.
///
/// # Errors
/// `TypeError` or `ValueError` that names what was given.
#[inline]
pub fn key<'a>(key: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    // SAFETY: the check of the type comes first, and the text is borrowed for as long as `key` is.
    unsafe {
        if ffi::PyUnicode_Check(key.as_ptr()) != 0
            && let Some(text) = utf8(key.as_ptr())
        {
            return Ok(text);
        }
    }
    Err(error::invalid_key(key))
}

/// The name that errors give to a type.
pub fn type_name(class: &Bound<'_, PyType>) -> String {
    let name = class.fully_qualified_name();
    name.map_or_else(|_| "?".to_owned(), |name: Bound<'_, PyString>| name.to_string_lossy().into_owned())
}

/// Whether the bytes of the text follow the header of a `str`: then they are ASCII.
///
/// # Safety
/// `object` must be a live `str`.
#[cfg(not(Py_3_14))]
#[inline(always)]
unsafe fn is_compact_ascii(object: *mut ffi::PyObject) -> bool {
    // SAFETY: by the caller's contract.
    unsafe { ffi::PyUnicode_IS_COMPACT_ASCII(object) != 0 }
}

/// The bit that tells is private from CPython 3.14 on, and Python is asked for the text instead.
///
/// # Safety
/// None is needed; as the function of other versions.
#[cfg(Py_3_14)]
#[inline(always)]
unsafe fn is_compact_ascii(_: *mut ffi::PyObject) -> bool {
    false
}

/// Whether a `str` has no lone surrogate.
///
/// # Safety
/// `object` must be a live `str`.
#[inline]
pub unsafe fn is_valid_unicode(object: *mut ffi::PyObject) -> bool {
    // SAFETY: by the caller's contract; the data is `length` units of the size that the kind says.
    unsafe {
        if is_compact_ascii(object) {
            return true;
        }
        let length = ffi::PyUnicode_GET_LENGTH(object) as usize;
        let data = ffi::PyUnicode_DATA(object);
        match ffi::PyUnicode_KIND(object) {
            ffi::PyUnicode_1BYTE_KIND => true,
            ffi::PyUnicode_2BYTE_KIND => {
                !std::slice::from_raw_parts(data.cast::<u16>(), length).iter().any(|unit| unit & 0xf800 == 0xd800)
            }
            _ => !std::slice::from_raw_parts(data.cast::<u32>(), length).iter().any(|unit| unit & !0x7ff == 0xd800),
        }
    }
}

/// The text of a `str`, unless it has a lone surrogate or memory is short.
///
/// # Safety
/// `object` must be a live `str` that outlives the result.
#[inline(always)]
pub unsafe fn utf8<'a>(object: *mut ffi::PyObject) -> Option<&'a str> {
    // SAFETY: by the caller's contract; the bytes of a compact ASCII string follow its header.
    unsafe {
        if !is_compact_ascii(object) {
            return utf8_of_other(object);
        }
        let length = ffi::PyUnicode_GET_LENGTH(object) as usize;
        let data = ffi::PyUnicode_DATA(object).cast();
        Some(std::str::from_utf8_unchecked(std::slice::from_raw_parts(data, length)))
    }
}

/// # Safety
/// As for [`utf8`].
#[inline(never)]
unsafe fn utf8_of_other<'a>(object: *mut ffi::PyObject) -> Option<&'a str> {
    // SAFETY: by the caller's contract; the bytes live as long as the `str` does. The check comes first
    // because a failure makes an exception, and with it perhaps a collection of garbage.
    unsafe {
        if !is_valid_unicode(object) {
            return None;
        }
        let mut size = 0;
        let data = ffi::PyUnicode_AsUTF8AndSize(object, &raw mut size);
        if data.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        Some(std::str::from_utf8_unchecked(std::slice::from_raw_parts(data.cast(), size as usize)))
    }
}
