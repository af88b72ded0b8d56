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
    out: String,
}

impl JsonWriter {
    /// The text so far. It is whole once every list and dict has been ended.
    #[inline]
    pub fn as_str(&self) -> &str {
        self.out.strip_suffix(',').unwrap_or(&self.out)
    }

    /// A writer that has written nothing.
    pub const fn new() -> Self {
        Self { out: String::new() }
    }

    /// Whether memory can be had for a text, even if every character needs the longest escape.
    pub fn has_room_for(&mut self, text: &str) -> bool {
        const LONGEST_ESCAPE: usize = 6;
        self.out.try_reserve(text.len().saturating_mul(LONGEST_ESCAPE).saturating_add(8)).is_ok()
    }

    /// Forgets the text and keeps the allocation, unless it is larger than `keep` bytes.
    pub fn reset(&mut self, keep: usize) {
        if self.out.capacity() > keep {
            self.out = String::new();
        } else {
            self.out.clear();
        }
    }

    /// The number of bytes written so far, with the comma behind the last value.
    #[inline]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written yet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// `null`
    #[inline]
    pub fn null(&mut self) {
        self.out.push_str("null,");
    }

    /// `true` or `false`
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.out.push_str(if value { "true," } else { "false," });
    }

    /// An integer, in decimal.
    #[inline]
    pub fn int(&mut self, value: i64) {
        self.out.push_str(itoa::Buffer::new().format(value));
        self.out.push(',');
    }

    /// A finite float, as the shortest text that reads back to the same bits, always with a point
    /// or an exponent so that it reads back as a float.
    #[inline]
    pub fn float(&mut self, value: f64) {
        debug_assert!(value.is_finite());
        self.out.push_str(zmij::Buffer::new().format_finite(value));
        self.out.push(',');
    }

    /// A string.
    #[inline]
    pub fn str(&mut self, value: &str) {
        self.quoted(value, "\",");
    }

    /// The key of the next value in a dict.
    #[inline]
    pub fn key(&mut self, key: &str) {
        self.quoted(key, "\":");
    }

    /// Opens a list.
    #[inline]
    pub fn begin_list(&mut self) {
        self.out.push('[');
    }

    /// Closes a list.
    #[inline]
    pub fn end_list(&mut self) {
        self.close("],");
    }

    /// Opens a dict.
    #[inline]
    pub fn begin_dict(&mut self) {
        self.out.push('{');
    }

    /// Closes a dict.
    #[inline]
    pub fn end_dict(&mut self) {
        self.close("},");
    }

    // Every value ends with a comma; the one before a closing bracket goes.
    #[inline]
    fn close(&mut self, bracket: &str) {
        if self.out.ends_with(',') {
            self.out.pop();
        }
        self.out.push_str(bracket);
    }

    #[inline]
    fn quoted(&mut self, text: &str, end: &str) {
        self.out.reserve(text.len() + 3);
        self.out.push('"');
        let mut rest = text;
        while let Some(at) = first_escaped(rest.as_bytes()) {
            self.out.push_str(&rest[..at]);
            self.escape(rest.as_bytes()[at]);
            rest = &rest[at + 1..];
        }
        self.out.push_str(rest);
        self.out.push_str(end);
    }

    #[cold]
    fn escape(&mut self, byte: u8) {
        self.out.push_str(match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                self.out.push_str("\\u00");
                self.out.push(char::from(HEX[usize::from(byte >> 4)]));
                self.out.push(char::from(HEX[usize::from(byte & 15)]));
                return;
            }
        });
    }
}

#[inline]
fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

// Whole chunks are tested without a branch per byte: sixteen bytes by vector code, eight as one word.
#[inline]
fn first_escaped(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..at + 16) {
        if chunk.iter().fold(false, |any, &b| any | needs_escape(b)) {
            break;
        }
        at += 16;
    }
    if let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>())
        && !any_needs_escape(u64::from_le_bytes(*chunk))
    {
        at += 8;
    }
    bytes[at..].iter().position(|&b| needs_escape(b)).map(|found| at + found)
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
