//! What a key holds: bytes with a tag beside them, and the JSON text that the `Json` tag stands for.
//!
//! The tag is never part of the bytes, so no user data can be mistaken for a tag.

use std::sync::Arc;

use bytes::Bytes;

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
    /// The name of the class of an opaque value; no other value has one.
    pub class: Option<Arc<str>>,
    /// The encoded value; shared, never changed. A buffer of the host is used as it is through
    /// [`Bytes::from_owner`].
    pub bytes: Bytes,
}

impl Value {
    /// A value that is no object of a class.
    pub fn new(tag: Tag, bytes: impl Into<Bytes>) -> Self {
        Self { tag, class: None, bytes: bytes.into() }
    }

    /// An opaque value of a class.
    pub fn opaque(class: impl Into<Arc<str>>, bytes: impl Into<Bytes>) -> Self {
        Self { tag: Tag::Opaque, class: Some(class.into()), bytes: bytes.into() }
    }
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
        std::str::from_utf8(self.as_bytes()).expect("only UTF-8 is written")
    }

    /// The bytes of [`as_str`](Self::as_str), without the time that it takes to see that they are UTF-8.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        let text = &self.out[..self.len];
        text.strip_suffix(b",").unwrap_or(text)
    }

    /// Whether memory can be had for a text, even if every character needs the longest escape.
    pub fn has_room_for(&mut self, text: &str) -> bool {
        let need = text.len().saturating_mul(LONGEST_ESCAPE).saturating_add(LARGEST_ROOM);
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
        match value {
            0..10 => self.put(&[b'0' + value as u8, b',']),
            10..EIGHT_DIGITS => self.short_int(value as u64),
            _ => self.long_int(value),
        }
    }

    #[inline(never)]
    fn short_int(&mut self, value: u64) {
        let (digits, count) = up_to_eight_digits(value);
        let room = self.room::<9>();
        room[..8].copy_from_slice(&digits.to_le_bytes());
        room[count] = b',';
        self.len += count + 1;
    }

    #[inline(never)]
    fn long_int(&mut self, value: i64) {
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
    fn room_of(&mut self, count: usize) -> &mut [u8] {
        if self.out.len() - self.len < count {
            self.grow(count);
        }
        &mut self.out[self.len..][..count]
    }

    /// The next `N` bytes to write into; those that are not kept are written again by what comes next.
    #[inline(always)]
    fn room<const N: usize>(&mut self) -> &mut [u8; N] {
        // The minimum is `len`; with it the compiler needs no second check.
        let at = self.len.min(self.out.len());
        if self.out.len() - at < N {
            return self.more_room();
        }
        self.out[at..].first_chunk_mut().expect("it is there")
    }

    #[cold]
    #[inline(never)]
    fn more_room<const N: usize>(&mut self) -> &mut [u8; N] {
        self.grow(N);
        self.out[self.len..].first_chunk_mut().expect("it has grown")
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
        *self.room() = *bytes;
        self.len += N;
    }

    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) {
        self.room_of(bytes.len()).copy_from_slice(bytes);
        self.len += bytes.len();
    }

    #[inline]
    fn quoted(&mut self, text: &str, end: u8) {
        let text = text.as_bytes();
        if text.len() < 8 && self.quoted_word(text, end) {
            self.len += text.len() + 3;
        } else {
            self.quoted_any(text, end);
        }
    }

    #[inline(never)]
    fn quoted_any(&mut self, text: &[u8], end: u8) {
        let is_written = match text.len() {
            0..8 => false,
            8..=16 => self.quoted_words(text, end),
            _ => self.quoted_chunks(text, end),
        };
        if is_written {
            self.len += text.len() + 3;
        } else {
            self.escaped(text, end);
        }
    }

    /// Writes a text of less than eight bytes, unless a byte of it needs an escape.
    #[inline(always)]
    fn quoted_word(&mut self, text: &[u8], end: u8) -> bool {
        let length = text.len() % 8;
        let word = short_word(text);
        let room = self.room::<16>();
        room[0] = b'"';
        room[1..9].copy_from_slice(&word.to_le_bytes());
        room[length + 1] = b'"';
        room[length + 2] = end;
        !any_needs_escape(word | (PLAIN << (8 * length)))
    }

    /// Writes a text of eight to sixteen bytes, unless a byte of it needs an escape. The two words overlap.
    #[inline(always)]
    fn quoted_words(&mut self, text: &[u8], end: u8) -> bool {
        let (Some(first), Some(last)) = (text.first_chunk::<8>(), text.last_chunk::<8>()) else {
            return false;
        };
        let length = text.len();
        let room = self.room::<LARGEST_ROOM>();
        room[0] = b'"';
        room[1..9].copy_from_slice(first);
        room[length - 7..=length].copy_from_slice(last);
        room[length + 1] = b'"';
        room[length + 2] = end;
        !any_needs_escape(u64::from_le_bytes(*first)) && !any_needs_escape(u64::from_le_bytes(*last))
    }

    /// Writes a text of more than sixteen bytes, unless a byte of it needs an escape.
    fn quoted_chunks(&mut self, text: &[u8], end: u8) -> bool {
        let count = text.len() + 3;
        let room = self.room_of(count);
        room[0] = b'"';
        room[count - 2] = b'"';
        room[count - 1] = end;
        copy_unescaped(text, &mut room[1..count - 2])
    }

    #[cold]
    fn escaped(&mut self, text: &[u8], end: u8) {
        self.put(b"\"");
        let mut rest = text;
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
// What may be asked for beyond the text itself.
const LARGEST_ROOM: usize = 32;

#[inline]
fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Copies a text of at least sixteen bytes, and says whether no byte of it needs an escape; else what was
/// copied is void.
///
/// The last chunk overlaps the one before it.
fn copy_unescaped(text: &[u8], to: &mut [u8]) -> bool {
    let last = text.len() - CHUNK;
    let mut at = 0;
    loop {
        let (Some(from), Some(to)) = (text[at..].first_chunk::<CHUNK>(), to[at..].first_chunk_mut()) else {
            return false;
        };
        *to = *from;
        if any_in_chunk(from) {
            return false;
        }
        if at == last {
            return true;
        }
        at = (at + CHUNK).min(last);
    }
}

pub(crate) const CHUNK: usize = 16;

/// A text of less than eight bytes as a word, the first byte lowest, with zeros behind the text.
#[inline]
pub(crate) fn short_word(text: &[u8]) -> u64 {
    let length = text.len();
    if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        // Where the two overlap they have the same bytes.
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return u64::from(first) | (u64::from(last) << (8 * (length - 4)));
    }
    let (Some(&first), Some(&middle), Some(&last)) = (text.first(), text.get(length / 2), text.last()) else {
        return 0;
    };
    u64::from(first) | (u64::from(middle) << (8 * (length / 2))) | (u64::from(last) << (8 * (length - 1)))
}

const EIGHT_DIGITS: i64 = 100_000_000;

/// The decimal digits of a number below [`EIGHT_DIGITS`], the first one in the lowest byte, and
/// their count.
///
/// All are made at once: a number below 10^8 is split into two below 10^4, these into four below 100, these
/// into eight digits. A division by 100 or 10 is a multiplication and a shift, exact for numbers that small.
#[inline]
fn up_to_eight_digits(number: u64) -> (u64, usize) {
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((fours * 5243) >> 19) & 0x0000_007f_0000_007f;
    let twos = hundreds | ((fours - hundreds * 100) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    let ones = tens | ((twos - tens * 10) << 8);
    // A branch that is foreseen, where counting the zeros would have the next store wait for all of this.
    let count = match number {
        0..10 => 1,
        10..100 => 2,
        100..1_000 => 3,
        1_000..10_000 => 4,
        10_000..100_000 => 5,
        100_000..1_000_000 => 6,
        1_000_000..10_000_000 => 7,
        _ => 8,
    };
    let digits = (ones | u64::from_ne_bytes([b'0'; 8])) >> (8 * (8 - count));
    (digits, count)
}

// Bytes that need no escape, to fill up a word.
const PLAIN: u64 = u64::from_ne_bytes([b'-'; 8]);

#[inline]
pub(crate) fn any_needs_escape(word: u64) -> bool {
    escape_flags(word) != 0
}

/// A word whose lowest bit that is set lies in the lowest byte of `word` that needs an escape; 0 if none does.
///
/// All bytes are tested at once ("Determine if a word has a byte less than n", Sean Eron Anderson, Bit
/// Twiddling Hacks). A borrow can set bits above the lowest one, never below.
#[inline]
pub(crate) fn escape_flags(word: u64) -> u64 {
    const fn all(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let below_space = word.wrapping_sub(all(0x20));
    let quote = (word ^ all(b'"')).wrapping_sub(all(1));
    let backslash = (word ^ all(b'\\')).wrapping_sub(all(1));
    (below_space | quote | backslash) & !word & all(0x80)
}

/// Whether a byte of a chunk needs an escape, without a branch per byte: the compiler makes vector code of it.
#[inline]
pub(crate) fn any_in_chunk(chunk: &[u8; CHUNK]) -> bool {
    let any = |test: fn(u8) -> bool| chunk.iter().fold(false, |any, &byte| any | test(byte));
    any(|byte| byte < 0x20) | any(|byte| byte == b'"') | any(|byte| byte == b'\\')
}
