//! The bytes around the body of a snapshot: the header tells what follows, the trailer that all of it is whole.

use xxhash_rust::xxh3::xxh3_128;

use crate::error::FormatError;
use crate::secret::{Key, KeyId, SIGNATURE_LEN, Secrets};
use crate::wire::read::Trust;

pub(super) const VERSION: u16 = 1;

// No text file begins so: the last byte ends a text for old programs.
const MAGIC: [u8; 8] = *b"treadle\x1a";

// magic 8, version 2, flags 2, key id 8, length of the body 8
pub(super) const LEN: usize = 28;

const SIGNED: u16 = 1;

const CHECKSUM_LEN: usize = 16;

pub(super) const MOST_TRAILER: usize = SIGNATURE_LEN;

pub(super) struct Head {
    pub key: Option<KeyId>,
    pub body_end: usize,
}

pub(super) fn trailer_len(is_signed: bool) -> usize {
    if is_signed { SIGNATURE_LEN } else { CHECKSUM_LEN }
}

/// Fills in the header and adds the trailer.
pub(super) fn close(mut bytes: Vec<u8>, key: Option<&Key>) -> Vec<u8> {
    let length = (bytes.len() - LEN) as u64;
    let flags = if key.is_some() { SIGNED } else { 0 };
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_be_bytes());
    bytes[10..12].copy_from_slice(&flags.to_be_bytes());
    bytes[12..20].copy_from_slice(&key.map_or([0; 8], |key| key.id.0));
    bytes[20..28].copy_from_slice(&length.to_be_bytes());
    match key {
        Some(key) => bytes.extend_from_slice(&key.sign_snapshot(&bytes)),
        None => bytes.extend_from_slice(&checksum(&bytes)),
    }
    bytes
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    xxh3_128(bytes).to_be_bytes()
}

impl Head {
    /// Reads the header, and checks that the length is right.
    pub fn read(bytes: &[u8]) -> Result<Self, FormatError> {
        let field = Fields(bytes);
        if field.array::<8>(0) != Ok(MAGIC) {
            return Err(FormatError::NotASnapshot);
        }
        let found = u16::from_be_bytes(field.array(8)?);
        if found != VERSION {
            return Err(FormatError::UnknownVersion { found, newest: VERSION });
        }
        let flags = u16::from_be_bytes(field.array(10)?);
        if flags & !SIGNED != 0 {
            return Err(FormatError::UnknownFlags(flags));
        }
        let id = field.array(12)?;
        let key = (flags & SIGNED != 0).then_some(KeyId(id));
        if key.is_none() && id != [0; 8] {
            return Err(FormatError::Malformed { at: 12, why: "a key signs nothing" });
        }
        let length = u64::from_be_bytes(field.array(20)?);
        let room = bytes.len().checked_sub(LEN + trailer_len(key.is_some())).ok_or(FormatError::Truncated)? as u64;
        match length.cmp(&room) {
            std::cmp::Ordering::Greater => Err(FormatError::Truncated),
            std::cmp::Ordering::Less => Err(FormatError::TrailingBytes),
            std::cmp::Ordering::Equal => Ok(Self { key, body_end: bytes.len() - trailer_len(key.is_some()) }),
        }
    }

    /// Checks the trailer, and says what becomes of opaque values.
    pub fn trust<'a>(&self, bytes: &[u8], secrets: &'a Secrets) -> Result<Trust<'a>, FormatError> {
        let (signed, trailer) = bytes.split_at(self.body_end);
        match self.key {
            Some(id) if secrets.is_empty() => Err(FormatError::SignedWithoutSecret(id)),
            Some(id) => {
                let key = secrets.find(id).ok_or(FormatError::UnknownSecret(id))?;
                let is_valid = key.is_of_snapshot(trailer, signed);
                if is_valid { Ok(Trust::Signed(key)) } else { Err(FormatError::Changed) }
            }
            None if !secrets.is_empty() => Err(FormatError::Unsigned),
            None if checksum(signed) == trailer => Ok(Trust::Unsigned),
            None => Err(FormatError::Damaged),
        }
    }

    /// Whether the checksum matches, where there is one.
    pub fn is_intact(&self, bytes: &[u8]) -> Option<bool> {
        let (body, trailer) = bytes.split_at(self.body_end);
        self.key.is_none().then(|| checksum(body) == trailer)
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], FormatError> {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(FormatError::Truncated)
    }
}
