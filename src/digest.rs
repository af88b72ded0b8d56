//! The digest of a value: by type and content, the same in every process.
//!
//! A host walks a value and tells an [`Encoder`] what it finds. The encoding has one form for one content: parts
//! without an order are sorted by their own encodings, nothing is said of addresses or of which parts are shared,
//! and a part of more than [`LONGEST_INLINE`] bytes is replaced by its hash. So the encoding of a part that was
//! met before can be used again, and a value whose parts are shared costs what its parts cost.
//!
//! The hash of an input is SHA-256. That of a sent event is XXH3: each event that a body sends needs one, and it is
//! compared only with those of the events that the same body sent before.

use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed, xxh3_128};

use crate::journal::Digest;

/// The version of the digests of inputs. They have it in them.
pub const VERSION: u8 = 1;

/// The version of the digests of sent events, with which they are hashed. 1 was SHA-256, as of inputs.
pub const SENT_VERSION: u64 = 2;

/// The most bytes of a part that is not replaced by its hash.
pub const LONGEST_INLINE: usize = 64;

/// The hash of a long part. An XXH3 has zeros in its second half.
pub type PartDigest = [u8; 32];

const DOMAIN: &[u8] = b"treadle digest";
// What stands behind the last part of what has parts. No kind has this number.
const END: u8 = 0;
// What stands before a hash. No kind has this number.
const HASHED: u8 = 255;

/// What a part of a value is. The numbers are part of the format: none is ever given to another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// No value.
    None = 1,
    /// The truth value.
    False = 2,
    /// The truth value.
    True = 3,
    /// The shortest two's complement, the lowest byte first.
    Int = 4,
    /// The eight bytes of an IEEE 754 number, the lowest first.
    Float = 5,
    /// UTF-8; a lone surrogate takes the three bytes that it would have there.
    Text = 6,
    /// Bytes that cannot be changed.
    Bytes = 7,
    /// Bytes that can be changed.
    MutableBytes = 8,
    /// A class, by its name.
    Class = 9,
    /// What is found by name in a module: a function, a single object.
    Global = 10,
    /// A decimal number: sign, digits without zeros at the end, exponent.
    Decimal = 11,
    /// A part that holds the place: so many levels up.
    Above = 12,
    /// What has no content that could be told, by the name of its class.
    Nameless = 13,
    /// In order, and can be changed.
    List = 32,
    /// In order, and cannot be changed.
    Tuple = 33,
    /// Without an order, and can be changed.
    Set = 34,
    /// Without an order, and cannot be changed.
    FrozenSet = 35,
    /// Pairs of a key and a value, without an order.
    Map = 36,
    /// The name of a class, then what its fields hold.
    Object = 37,
    /// The name of a class and of a member of it.
    Member = 38,
    /// How an object is made again: what is called, with which arguments, and the state, items and pairs after that.
    Rebuilt = 39,
}

impl Kind {
    fn is_unordered(self) -> bool {
        matches!(self, Self::Set | Self::FrozenSet | Self::Map)
    }
}

/// The digest of an event that is sent to one step: the same event to another step is another one.
pub fn addressed(sent: u64, step: &str) -> u64 {
    xxh3_64_with_seed(step.as_bytes(), sent)
}

/// How long parts are hashed.
#[derive(Clone, Copy, Debug, Default)]
enum Hashing {
    #[default]
    Sha256,
    Xxh3,
}

impl Hashing {
    /// The hash of a part that is in two pieces.
    fn part(self, head: &[u8], content: &[u8]) -> PartDigest {
        match self {
            Self::Sha256 => Sha256::new().chain_update(head).chain_update(content).finalize().into(),
            Self::Xxh3 if content.is_empty() => widened(xxh3_128(head)),
            Self::Xxh3 => {
                let mut hash = Xxh3::new();
                hash.update(head);
                hash.update(content);
                widened(hash.digest128())
            }
        }
    }
}

fn widened(hash: u128) -> PartDigest {
    let mut digest = [0; 32];
    digest[..16].copy_from_slice(&hash.to_le_bytes());
    digest
}

/// Writes the canonical encoding of a value.
#[derive(Debug, Default)]
pub struct Encoder {
    hashing: Hashing,
    bytes: Vec<u8>,
    open: Vec<Open>,
    // Where the items begin of the open parts that have no order, those of the innermost last.
    items: Vec<usize>,
    sorted: Vec<u8>,
}

#[derive(Debug)]
struct Open {
    kind: Kind,
    start: usize,
    first_item: usize,
}

impl Encoder {
    /// An encoder of one value, whose digest is wanted as that of an input.
    pub fn new() -> Self {
        Self { bytes: Vec::with_capacity(256), open: Vec::with_capacity(8), ..Self::default() }
    }

    /// An encoder of one value, whose digest is wanted as that of a sent event.
    pub fn of_sent() -> Self {
        Self { hashing: Hashing::Xxh3, ..Self::new() }
    }

    /// A part without parts.
    pub fn leaf(&mut self, kind: Kind, content: &[u8]) {
        let start = self.bytes.len();
        self.bytes.push(kind as u8);
        self.length(content.len());
        if self.bytes.len() - start + content.len() <= LONGEST_INLINE {
            self.bytes.extend_from_slice(content);
            return;
        }
        let hash = self.hashing.part(&self.bytes[start..], content);
        self.bytes.truncate(start);
        self.hashed(&hash);
    }

    /// A whole number that fits 64 bits.
    pub fn int(&mut self, number: i64) {
        let bytes = number.to_le_bytes();
        self.leaf(Kind::Int, shortest(&bytes));
    }

    /// A whole number as two's complement of any length, the lowest byte first.
    pub fn large_int(&mut self, bytes: &[u8]) {
        self.leaf(Kind::Int, shortest(bytes));
    }

    /// A float. What is equal has one encoding: `-0.0` and `0.0`, and all that are no number.
    pub fn float(&mut self, number: f64) {
        let number = if number.is_nan() { f64::from_bits(0x7ff8 << 48) } else { number + 0.0 };
        self.leaf(Kind::Float, &number.to_le_bytes());
    }

    /// A part that holds the place where it stands.
    pub fn above(&mut self, levels: usize) {
        let start = self.bytes.len();
        self.bytes.push(Kind::Above as u8);
        self.length(levels);
        debug_assert!(self.bytes.len() - start <= LONGEST_INLINE);
    }

    /// A part that was encoded before, as [`Encoder::end`] gave it.
    pub fn hashed(&mut self, digest: &PartDigest) {
        self.bytes.push(HASHED);
        self.bytes.extend_from_slice(digest);
    }

    /// The parts follow of a part that has some.
    pub fn begin(&mut self, kind: Kind) {
        self.open.push(Open { kind, start: self.bytes.len(), first_item: self.items.len() });
        self.bytes.push(kind as u8);
    }

    /// The next item follows: to be said before each item of a set, and before each pair of a map.
    pub fn item(&mut self) {
        self.items.push(self.bytes.len());
    }

    /// That was the last part. Gives the digest by which a long part is replaced.
    pub fn end(&mut self) -> Option<PartDigest> {
        let open = self.open.pop()?;
        if open.kind.is_unordered() {
            self.sort_items(&open);
        }
        self.items.truncate(open.first_item);
        self.bytes.push(END);
        let part = &self.bytes[open.start..];
        if part.len() <= LONGEST_INLINE {
            return None;
        }
        let digest = self.hashing.part(part, &[]);
        self.bytes.truncate(open.start);
        self.hashed(&digest);
        Some(digest)
    }

    /// The digest of the value as a sent event. The encoder is as good as a new one of sent events then.
    pub fn finish_sent(&mut self) -> u64 {
        debug_assert!(self.open.is_empty() && matches!(self.hashing, Hashing::Xxh3));
        let digest = xxh3_64_with_seed(&self.bytes, SENT_VERSION);
        self.clear();
        digest
    }

    /// As [`Encoder::finish`]. The encoder is as good as a new one then.
    pub fn finish_again(&mut self) -> ContentDigest {
        debug_assert!(self.open.is_empty() && matches!(self.hashing, Hashing::Sha256));
        let digest = content_digest(&self.bytes);
        self.clear();
        digest
    }

    /// Forgets what was encoded.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.open.clear();
        self.items.clear();
    }

    /// The digest of the value as an input.
    pub fn finish(self) -> ContentDigest {
        debug_assert!(self.open.is_empty() && matches!(self.hashing, Hashing::Sha256));
        content_digest(&self.bytes)
    }

    fn length(&mut self, mut length: usize) {
        while length >= 0x80 {
            self.bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        self.bytes.push(length as u8);
    }

    fn sort_items(&mut self, open: &Open) {
        let starts = &self.items[open.first_item..];
        let ends = starts.iter().skip(1).copied().chain([self.bytes.len()]);
        let items = starts.iter().zip(ends).map(|(&start, end)| &self.bytes[start..end]);
        if items.clone().is_sorted() {
            return;
        }
        let mut items: Vec<&[u8]> = items.collect();
        items.sort_unstable();
        self.sorted.clear();
        items.iter().for_each(|item| self.sorted.extend_from_slice(item));
        self.bytes.truncate(open.start + 1);
        self.bytes.append(&mut self.sorted);
    }
}

fn content_digest(encoding: &[u8]) -> ContentDigest {
    let hash = Sha256::new().chain_update(DOMAIN).chain_update([VERSION]).chain_update(encoding);
    ContentDigest(hash.finalize().into())
}

/// Without the bytes at the end that only repeat the sign.
fn shortest(mut bytes: &[u8]) -> &[u8] {
    while let [.., before, last] = bytes
        && ((*last == 0 && *before < 0x80) || (*last == 0xff && *before >= 0x80))
    {
        bytes = &bytes[..bytes.len() - 1];
    }
    bytes
}

/// The digest of a whole value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// As the digest of a run's input: 31 bytes of it, then the version.
    pub fn of_input(&self) -> Digest {
        let mut input = self.0;
        input[31] = VERSION;
        input
    }

    /// As the digest of an event that was sent, in the first version of those.
    pub fn of_sent(&self) -> u64 {
        u64::from_le_bytes(*self.0.first_chunk().unwrap_or(&[0; 8]))
    }
}

/// The version of a stored digest of an input. Before there were versions, 0 stood in its place.
pub fn version_of_input(input: &Digest) -> u8 {
    input[31]
}
