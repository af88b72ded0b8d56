//! JSON text back to Python objects: a parser for the compact text that [`JsonWriter`](crate::JsonWriter) writes.
//!
//! It gives up at anything that the writer would not have written (white space, a `\u` escape of a
//! character that needs none, deeper nesting), and the `jiter` crate parses the text instead. So this file
//! decides about speed alone.

use std::str::from_utf8;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PySet};
use smallvec::SmallVec;

use crate::value::{CHUNK, MAX_DEPTH, any_in_chunk, escape_flags, short_word};

/// Parses a text; gives nothing if it is not as our writer writes it.
///
/// # Errors
/// What the interpreter raises when it cannot make an object (`MemoryError`).
pub fn parse<'py>(py: Python<'py>, text: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    let text = text.as_bytes();
    let paused = (text.len() >= LARGE_TEXT).then(|| PausedCollector::new(py));
    let mut parser = Parser { py, text, at: 0, items: SmallVec::new(), keys: KeyCache::take(), raised: None };
    let value = parser.value(0);
    parser.keys.give_back();
    drop(paused);
    match parser.raised {
        Some(error) => Err(error),
        None => Ok(value.filter(|_| parser.at == text.len())),
    }
}

// A shorter text has too few containers for the collector to matter.
const LARGE_TEXT: usize = 1 << 11;

/// Keeps the garbage collector from running while many containers are made, none of which can be garbage: it
/// would go over all of them again and again. The interpreters before 3.12 run it inside of an allocation.
///
/// No other thread sees that it is paused: a parse runs no Python code, and holds on to the interpreter.
struct PausedCollector<'py> {
    py: Python<'py>,
    was_enabled: bool,
}

impl<'py> PausedCollector<'py> {
    fn new(py: Python<'py>) -> Self {
        // SAFETY: sets one flag of the attached interpreter.
        Self { py, was_enabled: unsafe { ffi::PyGC_Disable() } != 0 }
    }
}

impl Drop for PausedCollector<'_> {
    fn drop(&mut self) {
        if !self.was_enabled {
            return;
        }
        // SAFETY: sets one flag of the attached interpreter.
        unsafe { ffi::PyGC_Enable() };
        // A collection that is due starts with the next container that is not taken from a free list, which
        // a program that does nothing but `get` might never make. A set is one.
        drop(PySet::empty(self.py));
    }
}

/// Every method gives nothing where the parser stops: what it met is unusual, unless `raised` says otherwise.
struct Parser<'a, 'py> {
    py: Python<'py>,
    text: &'a [u8],
    at: usize,
    // The items of the lists that are not ended yet.
    items: SmallVec<[Bound<'py, PyAny>; 16]>,
    keys: KeyCache,
    raised: Option<PyErr>,
}

impl<'py> Parser<'_, 'py> {
    #[inline(always)]
    fn value(&mut self, depth: usize) -> Option<Bound<'py, PyAny>> {
        match *self.text.get(self.at)? {
            b'"' => self.quoted(Self::string),
            b'{' => self.dict(depth + 1),
            b'[' => self.list(depth + 1),
            b't' => self.literal(b"true", PyBool::new(self.py, true).to_owned().into_any()),
            b'f' => self.literal(b"false", PyBool::new(self.py, false).to_owned().into_any()),
            b'n' => self.literal(b"null", self.py.None().into_bound(self.py)),
            _ => self.number(),
        }
    }

    #[inline]
    fn literal(&mut self, text: &[u8], value: Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
        let is_it = self.text[self.at..].starts_with(text);
        self.at += text.len();
        is_it.then_some(value)
    }

    /// What is right or was raised.
    #[inline]
    fn right<T>(&mut self, result: PyResult<T>) -> Option<T> {
        result.map_err(|error| self.raised = Some(error)).ok()
    }

    fn list(&mut self, depth: usize) -> Option<Bound<'py, PyAny>> {
        self.open(depth)?;
        let first = self.items.len();
        if *self.text.get(self.at)? == b']' {
            self.at += 1;
            return self.list_of_items(first);
        }
        loop {
            let item = self.value(depth)?;
            self.items.push(item);
            if self.ends(b']')? {
                return self.list_of_items(first);
            }
        }
    }

    /// Moves the items from `first` on into a list.
    #[inline]
    fn list_of_items(&mut self, first: usize) -> Option<Bound<'py, PyAny>> {
        let count = self.items.len() - first;
        // SAFETY: gives an owned reference, or null with an error set.
        let list = unsafe { Bound::from_owned_ptr_or_err(self.py, ffi::PyList_New(count as ffi::Py_ssize_t)) };
        let list = self.right(list)?;
        for (at, item) in self.items.drain(first..).enumerate() {
            // SAFETY: the list is fresh, has this place, and takes over the reference.
            unsafe { ffi::PyList_SET_ITEM(list.as_ptr(), at as ffi::Py_ssize_t, item.into_ptr()) };
        }
        Some(list)
    }

    fn dict(&mut self, depth: usize) -> Option<Bound<'py, PyAny>> {
        self.open(depth)?;
        let dict = PyDict::new(self.py);
        if *self.text.get(self.at)? == b'}' {
            self.at += 1;
            return Some(dict.into_any());
        }
        loop {
            if *self.text.get(self.at)? != b'"' {
                return None;
            }
            let key = self.quoted(Self::key)?;
            if *self.text.get(self.at)? != b':' {
                return None;
            }
            self.at += 1;
            let value = self.value(depth)?;
            // SAFETY: the dict is fresh, key and value are live; a failure is fetched. With keys of the
            // exact type `str` the call runs no Python code.
            if unsafe { ffi::PyDict_SetItem(dict.as_ptr(), key.as_ptr(), value.as_ptr()) } != 0 {
                self.raised = Some(PyErr::fetch(self.py));
                return None;
            }
            if self.ends(b'}')? {
                return Some(dict.into_any());
            }
        }
    }

    #[inline]
    fn open(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        (depth <= MAX_DEPTH).then_some(())
    }

    /// After an item: whether the container ends here or goes on.
    #[inline]
    fn ends(&mut self, bracket: u8) -> Option<bool> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        if byte == b',' {
            Some(false)
        } else if byte == bracket {
            Some(true)
        } else {
            None
        }
    }

    /// Gives the content of a string to `make`, and whether it is ASCII.
    #[inline]
    fn quoted(
        &mut self,
        make: impl Fn(&mut Self, &[u8], bool) -> Option<Bound<'py, PyAny>>,
    ) -> Option<Bound<'py, PyAny>> {
        let text = self.text;
        let start = self.at + 1;
        let (end, seen) = plain_end(text, start);
        match *text.get(end)? {
            b'"' => {
                self.at = end + 1;
                make(self, &text[start..end], seen & HIGH_BITS == 0)
            }
            b'\\' => {
                let content = self.unescaped(start, end)?;
                make(self, &content, content.is_ascii())
            }
            _ => None,
        }
    }

    /// The content of a string with escapes, of which the writer makes only those that it needs.
    #[cold]
    fn unescaped(&mut self, start: usize, first: usize) -> Option<Vec<u8>> {
        let text = self.text;
        let mut content = text[start..first].to_owned();
        let mut at = first;
        loop {
            match *text.get(at)? {
                b'"' => break,
                b'\\' => {
                    content.push(unescaped(&text[at + 1..])?);
                    at += if text[at + 1] == b'u' { 6 } else { 2 };
                }
                _ => {
                    let (end, _) = plain_end(text, at);
                    if end == at {
                        return None;
                    }
                    content.extend_from_slice(&text[at..end]);
                    at = end;
                }
            }
        }
        self.at = at + 1;
        Some(content)
    }

    #[inline]
    fn string(&mut self, content: &[u8], is_ascii: bool) -> Option<Bound<'py, PyAny>> {
        let string = new_string(self.py, content, is_ascii);
        self.right(string)
    }

    #[inline]
    fn key(&mut self, content: &[u8], is_ascii: bool) -> Option<Bound<'py, PyAny>> {
        let key = self.keys.key(self.py, content, is_ascii);
        self.right(key)
    }

    #[inline]
    fn number(&mut self) -> Option<Bound<'py, PyAny>> {
        let text = &self.text[self.at..];
        let is_negative = text.first() == Some(&b'-');
        let digits = usize::from(is_negative);
        let mut length = digits;
        let mut value: i64 = 0;
        while let Some(digit) = text.get(length).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit < 10) {
            // Wraps around only beyond the 18 digits for which it is used.
            value = value.wrapping_mul(10).wrapping_add(i64::from(digit));
            length += 1;
        }
        let has_leading_zero = length > digits + 1 && text[digits] == b'0';
        if length == digits || has_leading_zero {
            return None;
        }
        if matches!(text.get(length), Some(b'.' | b'e' | b'E')) {
            return self.float(length);
        }
        self.at += length;
        if length - digits > 18 {
            value = from_utf8(&text[..length]).ok()?.parse().ok()?;
        } else if is_negative {
            value = -value;
        }
        // SAFETY: gives an owned reference, or null with an error set.
        let number = unsafe { Bound::from_owned_ptr_or_err(self.py, ffi::PyLong_FromLongLong(value)) };
        self.right(number)
    }

    /// `integer` is the length of the digits that have been read, with their sign.
    fn float(&mut self, integer: usize) -> Option<Bound<'py, PyAny>> {
        let text = &self.text[self.at..];
        let is_digit = |at: &usize| text.get(*at).is_some_and(u8::is_ascii_digit);
        let digits_end = |from: usize| (from..).find(|at| !is_digit(at)).filter(|&end| end > from);
        let mut length = integer;
        // The parser of the standard library takes forms that JSON does not have: a point needs digits.
        if text[length] == b'.' {
            length = digits_end(length + 1)?;
        }
        if let Some(b'e' | b'E') = text.get(length) {
            let has_sign = matches!(text.get(length + 1), Some(b'+' | b'-'));
            length = digits_end(length + 1 + usize::from(has_sign))?;
        }
        let value: f64 = from_utf8(&text[..length]).ok()?.parse().ok().filter(|value: &f64| value.is_finite())?;
        self.at += length;
        // SAFETY: gives an owned reference, or null with an error set.
        let float = unsafe { Bound::from_owned_ptr_or_err(self.py, ffi::PyFloat_FromDouble(value)) };
        self.right(float)
    }
}

const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Where from `start` on the first byte is that a string has only as an escape, a quote or a backslash or below
/// a space, or the end of the text; and all bytes before it, one over the other.
#[inline]
fn plain_end(text: &[u8], start: usize) -> (usize, u64) {
    let (mut end, mut seen) = (start, 0);
    loop {
        let word = word_at(text, end);
        let flags = escape_flags(word);
        if flags != 0 {
            let bits = flags.trailing_zeros() & !7;
            return (end + bits as usize / 8, seen | (word & ((1 << bits) - 1)));
        }
        seen |= word;
        end += size_of::<u64>();
        while let Some(chunk) = text.get(end..).and_then(|rest| rest.first_chunk::<CHUNK>())
            && !any_in_chunk(chunk)
        {
            seen |= chunk.iter().fold(0, |all, &byte| all | u64::from(byte));
            end += CHUNK;
        }
    }
}

/// The eight bytes from `at` on, the first one lowest; zeros are behind the end of the text.
#[inline]
fn word_at(text: &[u8], at: usize) -> u64 {
    let rest = text.get(at..).unwrap_or_default();
    rest.first_chunk().map_or_else(|| short_word(rest), |word| u64::from_le_bytes(*word))
}

/// The character, below U+0080, that an escape stands for; `text` begins behind its backslash.
fn unescaped(text: &[u8]) -> Option<u8> {
    match *text.first()? {
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        byte @ (b'"' | b'\\') => Some(byte),
        b'u' => match text.get(1..5)? {
            [b'0', b'0', digits @ ..] if digits.iter().all(u8::is_ascii_hexdigit) => {
                u8::from_str_radix(from_utf8(digits).ok()?, 16).ok().filter(u8::is_ascii)
            }
            _ => None,
        },
        _ => None,
    }
}

#[inline]
fn new_string<'py>(py: Python<'py>, text: &[u8], is_ascii: bool) -> PyResult<Bound<'py, PyAny>> {
    // The empty string and those of one character may be shared objects.
    if text.len() <= 1 || !is_ascii {
        return new_other_string(py, text);
    }
    // SAFETY: an ASCII string object of this length is fresh, and its data is filled before it is visible.
    // Null is an error that is fetched.
    unsafe {
        let string = Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_New(text.len() as ffi::Py_ssize_t, 127))?;
        std::ptr::copy_nonoverlapping(text.as_ptr(), ffi::PyUnicode_DATA(string.as_ptr()).cast(), text.len());
        Ok(string)
    }
}

#[inline(never)]
fn new_other_string<'py>(py: Python<'py>, text: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // For a longer one the interpreter's decoder, which takes ASCII a word at a time, is worth its setting up.
    // Up to four bytes may be one character.
    if let 5..=40 = text.len()
        && let Ok(text) = from_utf8(text)
    {
        return new_short_string(py, text);
    }
    let (start, length) = (text.as_ptr().cast(), text.len() as ffi::Py_ssize_t);
    // SAFETY: the text has this length; null is an error that is fetched.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_FromStringAndSize(start, length)) }
}

/// A string of more than one character, in the narrowest form that holds them all, as the interpreter expects.
fn new_short_string<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    let (length, widest) =
        text.chars().fold((0, 0), |(length, widest), char| (length + 1, u32::from(char).max(widest)));
    // SAFETY: the string object is fresh, with room for `length` units of the size that the widest character
    // needs, and filled before it is visible. Null is an error that is fetched.
    unsafe {
        let string = Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_New(length, widest))?;
        let data = ffi::PyUnicode_DATA(string.as_ptr());
        let chars = text.chars().map(u32::from).enumerate();
        match widest {
            0..=0xff => chars.for_each(|(at, char)| data.cast::<u8>().add(at).write(char as u8)),
            0x100..=0xffff => chars.for_each(|(at, char)| data.cast::<u16>().add(at).write(char as u16)),
            _ => chars.for_each(|(at, char)| data.cast::<u32>().add(at).write(char)),
        }
        Ok(string)
    }
}

const KEYS: usize = 2048;
const LONGEST_KEY: usize = 64;

/// Keys of dicts that were met lately: most texts repeat the same few.
///
/// It is taken for the time of one parse and not locked: making an object can start the garbage collector,
/// which can run any code, which may parse. Such an inner parse goes without a cache.
struct KeyCache(Option<Box<[KnownKey]>>);

/// An ASCII string, with its first eight bytes, or zeros behind a shorter one, as a word.
#[derive(Default)]
struct KnownKey {
    head: u64,
    length: usize,
    key: Option<Py<PyAny>>,
}

static CACHE: Mutex<Option<Box<[KnownKey]>>> = Mutex::new(None);
static IS_MADE: AtomicBool = AtomicBool::new(false);

impl KeyCache {
    fn take() -> Self {
        let cache = CACHE.lock().take();
        if cache.is_none() && !IS_MADE.swap(true, Ordering::Relaxed) {
            return Self(Some((0..KEYS).map(|_| KnownKey::default()).collect()));
        }
        Self(cache)
    }

    fn give_back(self) {
        if self.0.is_some() {
            *CACHE.lock() = self.0;
        }
    }

    #[inline]
    fn key<'py>(&mut self, py: Python<'py>, text: &[u8], is_ascii: bool) -> PyResult<Bound<'py, PyAny>> {
        let Some(keys) = self.0.as_mut().filter(|_| is_ascii && text.len() <= LONGEST_KEY) else {
            return new_string(py, text, is_ascii);
        };
        let (head, tail) = match (text.first_chunk(), text.last_chunk()) {
            (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
            _ => (short_word(text), text.len() as u64),
        };
        let known = &mut keys[slot(head, tail)];
        if let Some(key) = known.key.as_ref()
            && (known.head, known.length) == (head, text.len())
            // SAFETY: what is kept is an ASCII string of this length.
            && (text.len() <= 8 || unsafe { ascii(key.as_ptr(), text.len()) } == text)
        {
            return Ok(key.bind(py).clone());
        }
        let key = new_string(py, text, is_ascii)?;
        let replaced = std::mem::replace(known, KnownKey { head, length: text.len(), key: Some(key.clone().unbind()) });
        drop(replaced);
        Ok(key)
    }
}

/// The place of a key. Keys that share one only take turns: no choice of keys makes it slower than no cache.
#[inline]
fn slot(head: u64, tail: u64) -> usize {
    const ODD: u128 = 0x9e37_79b9_7f4a_7c15;
    // Each bit of the two words reaches the lower or the upper half of the product.
    let product = u128::from(head ^ tail.rotate_left(29)) * ODD;
    (product as u64 ^ (product >> 64) as u64) as usize % KEYS
}

/// # Safety
/// `string` must be a live ASCII string of this length that outlives the result.
#[inline]
unsafe fn ascii<'a>(string: *mut ffi::PyObject, length: usize) -> &'a [u8] {
    // SAFETY: by the caller's contract.
    unsafe { std::slice::from_raw_parts(ffi::PyUnicode_DATA(string).cast(), length) }
}
