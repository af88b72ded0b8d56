//! What a key holds: bytes with a tag beside them, and the JSON text that the `Json` tag stands for.
//!
//! The tag is never part of the bytes, so no user data can be mistaken for a tag.

use std::sync::Arc;

/// How the bytes of a value are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tag {
    /// Raw bytes, given back as they are.
    Binary,
    /// Raw bytes that came from, and go back to, a mutable buffer (`bytearray` in Python).
    MutableBinary,
    /// JSON text (RFC 8259), at most [`MAX_DEPTH`] containers deep.
    Json,
    /// A serialised object that only the host language can read, and only from a trusted source.
    Opaque,
}

/// The deepest nesting of lists and dicts that is kept as JSON.
pub const MAX_DEPTH: usize = 128;

/// A stored value: its tag, and its bytes without any marker of ours in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// How to read `bytes`.
    pub tag: Tag,
    /// The encoded value; shared, never changed.
    pub bytes: Arc<[u8]>,
}

/// What a [`Store`](crate::Store) holds: anything that knows its tag.
///
/// The Python binding stores references to immutable Python objects through this trait, so that
/// `set` and `get` of `bytes` copy nothing.
pub trait Stored {
    /// The tag the value was given when it was set.
    fn tag(&self) -> Tag;
}

impl Stored for Value {
    fn tag(&self) -> Tag {
        self.tag
    }
}

/// Writes JSON text (RFC 8259), compact, in one pass and without an intermediate tree.
///
/// The caller gives well-formed sequences; the writer puts the commas.
///
/// ```
/// use treadle::JsonWriter;
/// let mut json = JsonWriter::default();
/// json.begin_dict();
/// json.key("pages");
/// json.begin_list();
/// json.int(1);
/// json.float(-0.0);
/// json.end_list();
/// json.end_dict();
/// assert_eq!(json.as_str(), r#"{"pages":[1,-0.0]}"#);
/// ```
#[derive(Debug, Default)]
pub struct JsonWriter {
    // The text is the first `len` bytes; the others are room to write into without a check for each byte.
    out: Vec<u8>,
    len: usize,
}

impl JsonWriter {
    /// A writer that has written nothing.
    pub const fn new() -> Self {
        Self { out: Vec::new(), len: 0 }
    }

    /// The text so far. It is whole once every list and dict has been ended.
    ///
    /// # Panics
    /// Never: what is written is UTF-8.
    #[inline]
    pub fn as_str(&self) -> &str {
        let text = &self.out[..self.len];
        std::str::from_utf8(text.strip_suffix(b",").unwrap_or(text)).expect("only UTF-8 is written")
    }

    /// Whether memory can be had for a text, even if every character needs the longest escape.
    pub fn has_room_for(&mut self, text: &str) -> bool {
        let need = text.len().saturating_mul(LONGEST_ESCAPE).saturating_add(8);
        let room = self.out.len() - self.len;
        self.out.try_reserve(need.saturating_sub(room)).is_ok()
    }

    /// Forgets the text and keeps the allocation, unless it is larger than `keep` bytes.
    pub fn reset(&mut self, keep: usize) {
        if self.out.capacity() > keep {
            self.out = Vec::new();
        }
        self.len = 0;
    }

    /// The number of bytes written so far, with the comma behind the last value.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written yet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// `null`
    #[inline]
    pub fn null(&mut self) {
        self.put(b"null,");
    }

    /// `true` or `false`
    #[inline]
    pub fn bool(&mut self, value: bool) {
        if value { self.put(b"true,") } else { self.put(b"false,") }
    }

    /// An integer, in decimal.
    #[inline]
    pub fn int(&mut self, value: i64) {
        self.put_slice(itoa::Buffer::new().format(value).as_bytes());
        self.put(b",");
    }

    /// A finite float, as the shortest text that reads back to the same bits, always with a point
    /// or an exponent so that it reads back as a float.
    #[inline]
    pub fn float(&mut self, value: f64) {
        debug_assert!(value.is_finite());
        self.put_slice(zmij::Buffer::new().format_finite(value).as_bytes());
        self.put(b",");
    }

    /// A string.
    #[inline]
    pub fn str(&mut self, value: &str) {
        self.quoted(value, b',');
    }

    /// The key of the next value in a dict.
    #[inline]
    pub fn key(&mut self, key: &str) {
        self.quoted(key, b':');
    }

    /// Opens a list.
    #[inline]
    pub fn begin_list(&mut self) {
        self.put(b"[");
    }

    /// Closes a list.
    #[inline]
    pub fn end_list(&mut self) {
        self.close(b"],");
    }

    /// Opens a dict.
    #[inline]
    pub fn begin_dict(&mut self) {
        self.put(b"{");
    }

    /// Closes a dict.
    #[inline]
    pub fn end_dict(&mut self) {
        self.close(b"},");
    }

    // Every value ends with a comma; the one before a closing bracket goes.
    #[inline]
    fn close(&mut self, bracket: &[u8; 2]) {
        if self.out[..self.len].ends_with(b",") {
            self.len -= 1;
        }
        self.put(bracket);
    }

    /// The next `count` bytes to write into.
    #[inline]
    fn room(&mut self, count: usize) -> &mut [u8] {
        if self.out.len() - self.len < count {
            self.grow(count);
        }
        &mut self.out[self.len..][..count]
    }

    #[cold]
    fn grow(&mut self, count: usize) {
        const LEAST: usize = 256;
        let need = self.len + count;
        // What `has_room_for` has got is used before more is asked for.
        let size = if self.out.capacity() >= need { self.out.capacity() } else { need.max(self.out.len() * 2) };
        self.out.resize(size.max(LEAST), 0);
    }

    #[inline]
    fn put<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.room(N).copy_from_slice(bytes);
        self.len += N;
    }

    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.len += bytes.len();
    }

    #[inline]
    fn quoted(&mut self, text: &str, end: u8) {
        let count = text.len() + 3;
        let room = self.room(count);
        if !copy_unescaped(text.as_bytes(), &mut room[1..count - 2]) {
            return self.escaped(text, end);
        }
        room[0] = b'"';
        room[count - 2] = b'"';
        room[count - 1] = end;
        self.len += count;
    }

    #[cold]
    fn escaped(&mut self, text: &str, end: u8) {
        self.put(b"\"");
        let mut rest = text.as_bytes();
        while let Some(at) = rest.iter().position(|&byte| needs_escape(byte)) {
            self.put_slice(&rest[..at]);
            self.escape(rest[at]);
            rest = &rest[at + 1..];
        }
        self.put_slice(rest);
        self.put(&[b'"', end]);
    }

    fn escape(&mut self, byte: u8) {
        match byte {
            b'"' => self.put(b"\\\""),
            b'\\' => self.put(b"\\\\"),
            b'\n' => self.put(b"\\n"),
            b'\r' => self.put(b"\\r"),
            b'\t' => self.put(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                self.put(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
}

const LONGEST_ESCAPE: usize = 6;

#[inline]
fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Copies a text, and says whether no byte of it needs an escape; else what was copied is void.
///
/// Whole chunks are tested without a branch per byte: sixteen bytes by vector code, eight as one word. The
/// last chunk overlaps the one before it.
#[inline]
fn copy_unescaped(text: &[u8], to: &mut [u8]) -> bool {
    let length = text.len();
    if length >= 16 {
        let mut at = 0;
        loop {
            if !copy_chunk::<16>(text, to, at, |chunk| chunk.iter().fold(false, |any, &b| any | needs_escape(b))) {
                return false;
            }
            if at + 16 == length {
                return true;
            }
            at = (at + 16).min(length - 16);
        }
    }
    if length >= 8 {
        let any_escape = |chunk: &[u8; 8]| any_needs_escape(u64::from_le_bytes(*chunk));
        return copy_chunk(text, to, 0, any_escape) && copy_chunk(text, to, length - 8, any_escape);
    }
    if length >= 4 {
        let any_escape = |chunk: &[u8; 4]| any_needs_escape(PLAIN << 32 | u64::from(u32::from_le_bytes(*chunk)));
        return copy_chunk(text, to, 0, any_escape) && copy_chunk(text, to, length - 4, any_escape);
    }
    let (Some(&first), Some(&middle), Some(&last)) = (text.first(), text.get(length / 2), text.last()) else {
        return true;
    };
    to[0] = first;
    to[length / 2] = middle;
    to[length - 1] = last;
    !any_needs_escape(PLAIN << 24 | u64::from_le_bytes([first, middle, last, 0, 0, 0, 0, 0]))
}

// Bytes that need no escape, to fill up a word.
const PLAIN: u64 = u64::from_ne_bytes([b'-'; 8]);

#[inline]
fn copy_chunk<const N: usize>(text: &[u8], to: &mut [u8], at: usize, any_escape: impl Fn(&[u8; N]) -> bool) -> bool {
    let (Some(from), Some(to)) = (text[at..].first_chunk::<N>(), to[at..].first_chunk_mut::<N>()) else {
        return false;
    };
    *to = *from;
    !any_escape(from)
}

// Tests all bytes of a word at once ("Determine if a word has a byte less than n", Sean Eron Anderson,
// Bit Twiddling Hacks).
#[inline]
fn any_needs_escape(word: u64) -> bool {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let has_less = |word: u64, than: u64| word.wrapping_sub(ONES * than) & !word & HIGH;
    let quote = has_less(word ^ (ONES * u64::from(b'"')), 1);
    let backslash = has_less(word ^ (ONES * u64::from(b'\\')), 1);
    has_less(word, 0x20) | quote | backslash != 0
}
