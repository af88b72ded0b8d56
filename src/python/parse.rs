//! JSON text back to Python objects: a parser for the compact text that [`JsonWriter`](crate::JsonWriter) writes.
//!
//! It gives up at anything that the writer would not have written (white space, a `\u` escape of a
//! character that needs none, deeper nesting), and the `jiter` crate parses the text instead. So this file
//! decides about speed alone.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::DefaultHashBuilder;
use parking_lot::Mutex;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyString};
use smallvec::SmallVec;

use crate::value::MAX_DEPTH;

/// Parses a text; gives nothing if it is not as our writer writes it.
///
/// # Errors
/// What the interpreter raises when it cannot make an object (`MemoryError`).
pub fn parse<'py>(py: Python<'py>, text: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mut parser = Parser { py, text, at: 0, keys: KeyCache::take() };
    let parsed = parser.value(0);
    let whole = parser.at == text.len();
    parser.keys.give_back();
    match parsed {
        Ok(value) if whole => Ok(Some(value)),
        Ok(_) | Err(Stop::Unusual) => Ok(None),
        Err(Stop::Raised(error)) => Err(error),
    }
}

/// Why the parser stops.
enum Stop {
    Unusual,
    Raised(PyErr),
}

impl From<PyErr> for Stop {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

struct Parser<'a, 'py> {
    py: Python<'py>,
    text: &'a str,
    at: usize,
    keys: KeyCache,
}

impl<'a, 'py> Parser<'a, 'py> {
    #[inline]
    fn peek(&self) -> Result<u8, Stop> {
        self.text.as_bytes().get(self.at).copied().ok_or(Stop::Unusual)
    }

    fn value(&mut self, depth: usize) -> Result<Bound<'py, PyAny>, Stop> {
        match self.peek()? {
            b'"' => {
                let (content, is_ascii) = self.quoted()?;
                Ok(new_string(self.py, content.as_str(), is_ascii)?)
            }
            b'{' => self.dict(depth + 1),
            b'[' => self.list(depth + 1),
            b't' => self.literal("true", PyBool::new(self.py, true).to_owned().into_any()),
            b'f' => self.literal("false", PyBool::new(self.py, false).to_owned().into_any()),
            b'n' => self.literal("null", self.py.None().into_bound(self.py)),
            _ => self.number(),
        }
    }

    #[inline]
    fn literal(&mut self, text: &str, value: Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>, Stop> {
        if self.text[self.at..].starts_with(text) {
            self.at += text.len();
            Ok(value)
        } else {
            Err(Stop::Unusual)
        }
    }

    fn list(&mut self, depth: usize) -> Result<Bound<'py, PyAny>, Stop> {
        self.open(depth)?;
        let mut items: SmallVec<[Bound<'py, PyAny>; 16]> = SmallVec::new();
        if self.peek()? == b']' {
            self.at += 1;
        } else {
            loop {
                items.push(self.value(depth)?);
                if self.ends(b']')? {
                    break;
                }
            }
        }
        Ok(PyList::new(self.py, items)?.into_any())
    }

    fn dict(&mut self, depth: usize) -> Result<Bound<'py, PyAny>, Stop> {
        self.open(depth)?;
        let dict = PyDict::new(self.py);
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(dict.into_any());
        }
        loop {
            if self.peek()? != b'"' {
                return Err(Stop::Unusual);
            }
            let (content, is_ascii) = self.quoted()?;
            let key = self.keys.key(self.py, content.as_str(), is_ascii)?;
            if self.peek()? != b':' {
                return Err(Stop::Unusual);
            }
            self.at += 1;
            let value = self.value(depth)?;
            // SAFETY: the dict is fresh, key and value are live; a failure is fetched. With keys of the
            // exact type `str` the call runs no Python code.
            if unsafe { ffi::PyDict_SetItem(dict.as_ptr(), key.as_ptr(), value.as_ptr()) } != 0 {
                return Err(PyErr::fetch(self.py).into());
            }
            if self.ends(b'}')? {
                return Ok(dict.into_any());
            }
        }
    }

    #[inline]
    fn open(&mut self, depth: usize) -> Result<(), Stop> {
        self.at += 1;
        if depth > MAX_DEPTH { Err(Stop::Unusual) } else { Ok(()) }
    }

    /// After an item: whether the container ends here or goes on.
    #[inline]
    fn ends(&mut self, bracket: u8) -> Result<bool, Stop> {
        let byte = self.peek()?;
        self.at += 1;
        if byte == b',' {
            Ok(false)
        } else if byte == bracket {
            Ok(true)
        } else {
            Err(Stop::Unusual)
        }
    }

    /// A string without escapes, and whether it is ASCII.
    #[inline]
    fn quoted(&mut self) -> Result<(Quoted<'a>, bool), Stop> {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let mut end = start;
        let mut seen = 0;
        // Chunks without a branch per byte, which the compiler turns into vector code.
        while let Some(chunk) = bytes.get(end..end + 16) {
            let (any, all) = chunk.iter().fold((false, 0), |(any, all), &byte| (any | is_special(byte), all | byte));
            if any {
                break;
            }
            seen |= all;
            end += 16;
        }
        loop {
            let byte = *bytes.get(end).ok_or(Stop::Unusual)?;
            if is_special(byte) {
                if byte == b'"' {
                    break;
                }
                return self.escaped(start, end);
            }
            seen |= byte;
            end += 1;
        }
        self.at = end + 1;
        Ok((Quoted::Plain(&self.text[start..end]), seen < 0x80))
    }

    /// A string with escapes, of which the writer makes only those that it needs.
    #[cold]
    fn escaped(&mut self, start: usize, first: usize) -> Result<(Quoted<'a>, bool), Stop> {
        let bytes = self.text.as_bytes();
        let mut content = self.text[start..first].to_owned();
        let mut at = first;
        loop {
            match *bytes.get(at).ok_or(Stop::Unusual)? {
                b'"' => break,
                b'\\' => {
                    let escape = *bytes.get(at + 1).ok_or(Stop::Unusual)?;
                    at += 2;
                    content.push(match escape {
                        b'"' => '"',
                        b'\\' => '\\',
                        b'n' => '\n',
                        b'r' => '\r',
                        b't' => '\t',
                        b'u' => {
                            let digits = self.text.get(at..at + 4).ok_or(Stop::Unusual)?;
                            at += 4;
                            let code = u8::from_str_radix(digits, 16).map_err(|_| Stop::Unusual)?;
                            char::from(code)
                        }
                        _ => return Err(Stop::Unusual),
                    });
                }
                byte if byte < 0x20 => return Err(Stop::Unusual),
                _ => {
                    let rest = &bytes[at..];
                    let length = rest.iter().position(|&byte| is_special(byte)).ok_or(Stop::Unusual)?;
                    content.push_str(&self.text[at..at + length]);
                    at += length;
                }
            }
        }
        self.at = at + 1;
        let is_ascii = content.is_ascii();
        Ok((Quoted::Escaped(content), is_ascii))
    }

    #[inline]
    fn number(&mut self) -> Result<Bound<'py, PyAny>, Stop> {
        let bytes = &self.text.as_bytes()[self.at..];
        let is_negative = bytes.first() == Some(&b'-');
        let digits = usize::from(is_negative);
        let mut length = digits;
        let mut value: i64 = 0;
        while let Some(digit) = bytes.get(length).filter(|byte| byte.is_ascii_digit()) {
            // Wraps around only beyond the 18 digits for which it is used.
            value = value.wrapping_mul(10).wrapping_add(i64::from(digit - b'0'));
            length += 1;
        }
        let has_leading_zero = bytes.get(digits) == Some(&b'0') && length > digits + 1;
        if length == digits || has_leading_zero {
            return Err(Stop::Unusual);
        }
        if matches!(bytes.get(length), Some(b'.' | b'e' | b'E')) {
            return self.float(length);
        }
        let text = &self.text[self.at..self.at + length];
        self.at += length;
        if length - digits > 18 {
            value = text.parse().map_err(|_| Stop::Unusual)?;
        } else if is_negative {
            value = -value;
        }
        // SAFETY: gives an owned reference, or null with an error set.
        let number = unsafe { Bound::from_owned_ptr_or_err(self.py, ffi::PyLong_FromLongLong(value)) };
        Ok(number?)
    }

    fn float(&mut self, integer: usize) -> Result<Bound<'py, PyAny>, Stop> {
        let bytes = &self.text.as_bytes()[self.at..];
        let rest = bytes[integer..].iter();
        let length =
            integer + rest.take_while(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')).count();
        let text = &self.text[self.at..self.at + length];
        // The parser of the standard library takes forms that JSON does not have: a point needs digits.
        if text.ends_with('.') || text.contains(".e") || text.contains(".E") {
            return Err(Stop::Unusual);
        }
        let value: f64 = text.parse().map_err(|_| Stop::Unusual)?;
        if !value.is_finite() {
            return Err(Stop::Unusual);
        }
        self.at += length;
        // SAFETY: gives an owned reference, or null with an error set.
        Ok(unsafe { Bound::from_owned_ptr_or_err(self.py, ffi::PyFloat_FromDouble(value)) }?)
    }
}

#[inline]
fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// The content of a string: a part of the text, or put together where there were escapes.
enum Quoted<'a> {
    Plain(&'a str),
    Escaped(String),
}

impl Quoted<'_> {
    #[inline]
    fn as_str(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Escaped(text) => text,
        }
    }
}

#[inline]
fn new_string<'py>(py: Python<'py>, text: &str, is_ascii: bool) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the text is valid UTF-8; an ASCII string object of this length is fresh, and its data is
    // filled before anybody sees it. Null is an error that is fetched.
    unsafe {
        if !is_ascii {
            let string = ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), text.len() as ffi::Py_ssize_t);
            return Bound::from_owned_ptr_or_err(py, string);
        }
        let string = Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_New(text.len() as ffi::Py_ssize_t, 127))?;
        // The empty string and those of one character may be shared objects, with the same content.
        if text.len() > 1 {
            std::ptr::copy_nonoverlapping(text.as_ptr(), ffi::PyUnicode_DATA(string.as_ptr()).cast(), text.len());
            return Ok(string);
        }
        let string = ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), text.len() as ffi::Py_ssize_t);
        Bound::from_owned_ptr_or_err(py, string)
    }
}

const KEYS: usize = 2048;
const LONGEST_KEY: usize = 64;

/// Keys of dicts that were met lately: most texts repeat the same few.
///
/// It is taken for the time of one parse and not locked: making an object can start the garbage collector,
/// which can run any code, which may parse. Such an inner parse goes without a cache.
struct KeyCache(Option<Box<Keys>>);

struct Keys {
    slots: Vec<Option<Py<PyString>>>,
    hasher: DefaultHashBuilder,
}

static CACHE: Mutex<Option<Box<Keys>>> = Mutex::new(None);
static IS_MADE: AtomicBool = AtomicBool::new(false);

impl KeyCache {
    fn take() -> Self {
        let cache = CACHE.lock().take();
        if cache.is_none() && !IS_MADE.swap(true, Ordering::Relaxed) {
            let slots = (0..KEYS).map(|_| None).collect();
            return Self(Some(Box::new(Keys { slots, hasher: DefaultHashBuilder::default() })));
        }
        Self(cache)
    }

    fn give_back(self) {
        if self.0.is_some() {
            *CACHE.lock() = self.0;
        }
    }

    #[inline]
    fn key<'py>(&mut self, py: Python<'py>, text: &str, is_ascii: bool) -> PyResult<Bound<'py, PyAny>> {
        let Some(keys) = self.0.as_mut().filter(|_| is_ascii && text.len() <= LONGEST_KEY) else {
            return new_string(py, text, is_ascii);
        };
        let slot = &mut keys.slots[keys.hasher.hash_one(text) as usize % KEYS];
        if let Some(known) = slot
            && known.bind(py).to_str().is_ok_and(|known| known == text)
        {
            return Ok(known.bind(py).clone().into_any());
        }
        let key = new_string(py, text, is_ascii)?;
        let replaced = slot.replace(key.cast::<PyString>()?.clone().unbind());
        drop(replaced);
        Ok(key)
    }
}
