//! Lists and dicts as JSON text, in one pass over the objects, with no Python code run on the way.

use std::cell::Cell;
use std::os::raw::c_int;
use std::sync::Arc;

use hashbrown::HashSet;
use pyo3::ffi;
use pyo3::prelude::*;

use super::text::utf8;
use crate::value::{JsonWriter, MAX_DEPTH};

/// The value is not JSON by our table; it is pickled instead.
struct NotJson;

// Beyond this, containers that several others hold are remembered.
const REMEMBER_SHARED_FROM: usize = 1 << 20;
// A value whose text would be larger than this only because its parts are shared is pickled, which
// writes each part once: otherwise a hundred nested `[x, x]` would fill all memory.
const LARGEST_WITH_SHARED: usize = 2 << 20;
// A reference takes 8 bytes: sharing a shorter string cannot make the text much larger than the value.
const SHORT_STRING: ffi::Py_ssize_t = 64;
const KEEP_BUFFER: usize = 1 << 20;

thread_local! {
    static BUFFER: Cell<JsonWriter> = const { Cell::new(JsonWriter::new()) };
}

/// The JSON text of a list or a dict; nothing if its items are not JSON by our table, or do not fit.
#[inline]
pub fn json(value: &Bound<'_, PyAny>) -> Option<Arc<str>> {
    let mut encoder = JsonEncoder { out: BUFFER.take(), shared: HashSet::new(), repeated: false };
    encoder.out.reset(KEEP_BUFFER);
    // SAFETY: `value` is a live list or dict, and the interpreter is attached: nothing that the encoder
    // calls runs Python code or lets another thread in, so nothing changes under it.
    let encoded = unsafe { encoder.container(value.as_ptr(), 1) };
    // Without memory for a copy the value is pickled, which raises a `MemoryError` if it must.
    let text = (encoded.is_ok() && has_memory_for(encoder.out.len())).then(|| {
        // SAFETY: the writer writes UTF-8 alone.
        unsafe { std::str::from_utf8_unchecked(encoder.out.as_bytes()) }.into()
    });
    BUFFER.set(encoder.out);
    text
}

/// An immutable JSON scalar as text.
pub fn scalar_text(object: &Bound<'_, PyAny>) -> JsonWriter {
    let mut encoder = JsonEncoder { out: JsonWriter::new(), shared: HashSet::new(), repeated: false };
    // SAFETY: the object is live, and the encoder runs no Python code. A scalar is always JSON.
    let _ = unsafe { encoder.value(object.as_ptr(), 0) };
    encoder.out
}

/// Whether this much memory can be had. Small amounts are not worth the question.
fn has_memory_for(bytes: usize) -> bool {
    bytes < REMEMBER_SHARED_FROM || Vec::<u8>::new().try_reserve_exact(bytes).is_ok()
}

struct JsonEncoder {
    out: JsonWriter,
    shared: HashSet<usize>,
    repeated: bool,
}

impl JsonEncoder {
    /// # Safety
    /// `object` must be live, and nothing may run Python code until the call returns.
    #[inline(always)]
    unsafe fn value(&mut self, object: *mut ffi::PyObject, depth: usize) -> Result<(), NotJson> {
        // SAFETY: by the caller's contract; each branch calls only what its exact type allows.
        unsafe {
            let class = ffi::Py_TYPE(object);
            if class == &raw mut ffi::PyUnicode_Type {
                let text = self.text(object)?;
                self.out.str(text);
            } else if class == &raw mut ffi::PyLong_Type {
                self.out.int(as_i64(object).ok_or(NotJson)?);
            } else if class == &raw mut ffi::PyDict_Type || class == &raw mut ffi::PyList_Type {
                return self.container(object, depth + 1);
            } else if class == &raw mut ffi::PyFloat_Type {
                let value = ffi::PyFloat_AS_DOUBLE(object);
                if !value.is_finite() {
                    return Err(NotJson);
                }
                self.out.float(value);
            } else if class == &raw mut ffi::PyBool_Type {
                self.out.bool(object == ffi::Py_True());
            } else if object == ffi::Py_None() {
                self.out.null();
            } else {
                return Err(NotJson);
            }
        }
        Ok(())
    }

    /// # Safety
    /// As for [`JsonEncoder::value`]; `object` must be a `str` that outlives the result.
    #[inline(always)]
    unsafe fn text<'t>(&mut self, object: *mut ffi::PyObject) -> Result<&'t str, NotJson> {
        // SAFETY: by the caller's contract.
        unsafe {
            let text = utf8(object).ok_or(NotJson)?;
            if self.out.len() + text.len() > REMEMBER_SHARED_FROM {
                self.bound_text(object, text)?;
            }
            Ok(text)
        }
    }

    /// # Safety
    /// As for [`JsonEncoder::value`]; `object` must be a `str`.
    #[cold]
    unsafe fn bound_text(&mut self, object: *mut ffi::PyObject, text: &str) -> Result<(), NotJson> {
        if !self.out.has_room_for(text) {
            return Err(NotJson);
        }
        // SAFETY: by the caller's contract.
        unsafe { if ffi::PyUnicode_GET_LENGTH(object) > SHORT_STRING { self.bound_shared(object) } else { Ok(()) } }
    }

    /// # Safety
    /// As for [`JsonEncoder::value`]; `object` must be an exact `list` or `dict`.
    unsafe fn container(&mut self, object: *mut ffi::PyObject, depth: usize) -> Result<(), NotJson> {
        if depth > MAX_DEPTH {
            return Err(NotJson);
        }
        // SAFETY: by the caller's contract.
        unsafe {
            if self.out.len() > REMEMBER_SHARED_FROM {
                self.bound_shared(object)?;
            }
            if ffi::Py_TYPE(object) == &raw mut ffi::PyList_Type {
                self.list(object, depth)
            } else {
                self.dict(object, depth)
            }
        }
    }

    /// # Safety
    /// As for [`JsonEncoder::value`].
    #[cold]
    unsafe fn bound_shared(&mut self, object: *mut ffi::PyObject) -> Result<(), NotJson> {
        // SAFETY: by the caller's contract.
        if unsafe { ffi::Py_REFCNT(object) } > 1 && !self.shared.insert(object as usize) {
            self.repeated = true;
        }
        if self.repeated && self.out.len() > LARGEST_WITH_SHARED { Err(NotJson) } else { Ok(()) }
    }

    /// # Safety
    /// As for [`JsonEncoder::value`]; `object` must be an exact `list`.
    unsafe fn list(&mut self, object: *mut ffi::PyObject, depth: usize) -> Result<(), NotJson> {
        self.out.begin_list();
        // SAFETY: by the caller's contract the list cannot change; the items are borrowed from it.
        unsafe {
            for at in 0..ffi::PyList_GET_SIZE(object) {
                self.value(ffi::PyList_GET_ITEM(object, at), depth)?;
            }
        }
        self.out.end_list();
        Ok(())
    }

    /// # Safety
    /// As for [`JsonEncoder::value`]; `object` must be an exact `dict`.
    unsafe fn dict(&mut self, object: *mut ffi::PyObject, depth: usize) -> Result<(), NotJson> {
        self.out.begin_dict();
        let (mut at, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: by the caller's contract the dict cannot change; key and value are borrowed from it.
        unsafe {
            while ffi::PyDict_Next(object, &raw mut at, &raw mut key, &raw mut value) != 0 {
                if ffi::Py_TYPE(key) != &raw mut ffi::PyUnicode_Type {
                    return Err(NotJson);
                }
                let text = self.text(key)?;
                self.out.key(text);
                self.value(value, depth)?;
            }
        }
        self.out.end_dict();
        Ok(())
    }
}

/// The value of an `int`, if it has at most 64 bits.
///
/// # Safety
/// `object` must be a live `int`.
#[inline]
pub unsafe fn as_i64(object: *mut ffi::PyObject) -> Option<i64> {
    let mut overflow: c_int = 0;
    // SAFETY: by the caller's contract; with an exact `int` the call runs no Python code and cannot fail.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(object, &raw mut overflow) };
    (overflow == 0).then_some(value)
}
