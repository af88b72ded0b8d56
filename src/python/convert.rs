//! Python values to stored values and back: exact, or an error.
//!
//! The tag is chosen by the exact type. What stays immutable (`bytes`, `str`, `int`, `float`, `bool`,
//! `None`) is kept by reference; lists and dicts become JSON text in one pass over the objects, with no
//! Python code run on the way; everything else is pickled whole.

use std::cell::Cell;
use std::os::raw::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashSet;
use jiter::PythonParse;
use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError, PyRecursionError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyString, PyType};
use pyo3::{PyTraverseError, PyVisit, ffi};

use super::error;
use super::parse::parse;
use super::stored::lend;
use crate::value::{JsonWriter, MAX_DEPTH, Stored, Tag};

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

/// An immutable JSON scalar as text.
fn scalar_text(object: &Bound<'_, PyAny>) -> JsonWriter {
    let mut encoder = JsonEncoder { out: JsonWriter::new(), shared: HashSet::new(), repeated: false };
    // SAFETY: the object is live, and the encoder runs no Python code. A scalar is always JSON.
    let _ = unsafe { encoder.value(object.as_ptr(), 0) };
    encoder.out
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
    text.map_or_else(|| pickle(key, value), |text| Ok(PyValue::Json(text)))
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

/// # Safety
/// `object` must be a live `int`.
#[inline]
unsafe fn as_i64(object: *mut ffi::PyObject) -> Option<i64> {
    let mut overflow: c_int = 0;
    // SAFETY: by the caller's contract; with an exact `int` the call runs no Python code and cannot fail.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(object, &raw mut overflow) };
    (overflow == 0).then_some(value)
}

/// Whether a `str` has no lone surrogate.
///
/// # Safety
/// `object` must be a live `str`.
#[inline]
unsafe fn is_valid_unicode(object: *mut ffi::PyObject) -> bool {
    // SAFETY: by the caller's contract; the data is `length` units of the size that the kind says.
    unsafe {
        if ffi::PyUnicode_IS_COMPACT_ASCII(object) != 0 {
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

#[inline]
fn json(value: &Bound<'_, PyAny>) -> Option<Arc<str>> {
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

/// The text of a `str`, unless it has a lone surrogate or memory is short.
///
/// # Safety
/// `object` must be a live `str` that outlives the result.
#[inline(always)]
unsafe fn utf8<'a>(object: *mut ffi::PyObject) -> Option<&'a str> {
    // SAFETY: by the caller's contract; the bytes of a compact ASCII string follow its header.
    unsafe {
        if ffi::PyUnicode_IS_COMPACT_ASCII(object) == 0 {
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

static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

// The protocol of Python 3.8 and later (PEP 574).
const PROTOCOL: c_int = 5;

#[cold]
fn pickle_error(key: &str, value: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let py = value.py();
    // Whatever the value's own methods raise, but what they cannot help.
    let is_about_the_value =
        !error.is_instance_of::<PyKeyboardInterrupt>(py) && !error.is_instance_of::<PyMemoryError>(py);
    if is_about_the_value { error::unstorable_value(py, key, &value.get_type(), &error) } else { error }
}

fn pickle(key: &str, value: &Bound<'_, PyAny>) -> PyResult<PyValue> {
    let dumps = DUMPS.import(value.py(), "_pickle", "dumps")?;
    let pickle = with_stack_for_recursion(value.py(), || dumps.call1((value, PROTOCOL)));
    let pickle = pickle.map_err(|error| pickle_error(key, value, error))?;
    Ok(PyValue::Opaque(pickle.cast_into::<PyBytes>()?.unbind(), value.get_type().into_any().unbind()))
}

fn unpickle<'py>(py: Python<'py>, key: &str, pickle: &Py<PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    let loads = LOADS.import(py, "_pickle", "loads")?;
    with_stack_for_recursion(py, || loads.call1((pickle,))).map_err(|error| {
        if error.is_instance_of::<PyKeyboardInterrupt>(py) { error } else { error::unreadable_value(py, key, &error) }
    })
}

/// Runs `call` with as much stack as the pickler can use before the interpreter stops it: the pickler recurses in C,
/// and a thread may have a stack of a few hundred KiB.
#[inline]
fn with_stack_for_recursion<T>(py: Python<'_>, call: impl Fn() -> PyResult<T>) -> PyResult<T> {
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
