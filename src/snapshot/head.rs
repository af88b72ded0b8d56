//! The bytes around the body of a snapshot: the header tells what follows, the trailer that all of it is whole.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_128;

use super::Standing;
use crate::error::FormatError;
use crate::secret::{Key, KeyId, SIGNATURE_LEN, Secrets};
use crate::wire::place::Within;
use crate::wire::read::Trust;

pub(super) const VERSION: u16 = 4;

pub(super) const FIRST_VERSION: u16 = 1;

// No text file begins so: the last byte ends a text for old programs.
const MAGIC: [u8; 8] = *b"treadle\x1a";

// magic 8, version 2, flags 2, key id 8, length of the body 8; a checkpoint has its sequence number and its epoch,
// 8 bytes each, behind that
const LEN: usize = 28;
const CHECKPOINT_LEN: usize = LEN + 16;

const SIGNED: u16 = 1;
const CHECKPOINT: u16 = 2;
const CHAINED: u16 = 4;

const CHECKSUM_LEN: usize = 16;

pub(super) const MOST_TRAILER: usize = SIGNATURE_LEN;

pub(super) struct Head {
    pub version: u16,
    pub key: Option<KeyId>,
    /// Where a checkpoint stands. Those of the first version are snapshots.
    pub standing: Option<Standing>,
    /// Whether the records behind a checkpoint are chained to it.
    pub is_chained: bool,
    pub body: Range<usize>,
}

pub(super) fn trailer_len(is_signed: bool) -> usize {
    if is_signed { SIGNATURE_LEN } else { CHECKSUM_LEN }
}

/// How many bytes come before the body.
pub(super) fn len(standing: Option<Standing>) -> usize {
    if standing.is_some() { CHECKPOINT_LEN } else { LEN }
}

/// Fills in the header and adds the trailer.
pub(super) fn close(mut bytes: Vec<u8>, key: Option<&Key>, standing: Option<Standing>, is_chained: bool) -> Vec<u8> {
    let length = (bytes.len() - len(standing)) as u64;
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let flags = flag(key.is_some(), SIGNED) | flag(standing.is_some(), CHECKPOINT) | flag(is_chained, CHAINED);
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_be_bytes());
    bytes[10..12].copy_from_slice(&flags.to_be_bytes());
    bytes[12..20].copy_from_slice(&key.map_or([0; 8], |key| key.id.0));
    bytes[20..28].copy_from_slice(&length.to_be_bytes());
    if let Some(Standing { seq, epoch }) = standing {
        bytes[28..36].copy_from_slice(&seq.to_be_bytes());
        bytes[36..44].copy_from_slice(&epoch.to_be_bytes());
    }
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
        let version = u16::from_be_bytes(field.array(8)?);
        if !(FIRST_VERSION..=VERSION).contains(&version) {
            return Err(FormatError::UnknownVersion { found: version, newest: VERSION });
        }
        let flags = u16::from_be_bytes(field.array(10)?);
        let known = if version == FIRST_VERSION { SIGNED } else { SIGNED | CHECKPOINT | CHAINED };
        if flags & !known != 0 {
            return Err(FormatError::UnknownFlags(flags));
        }
        let id = field.array(12)?;
        let key = (flags & SIGNED != 0).then_some(KeyId(id));
        if key.is_none() && id != [0; 8] {
            return Err(FormatError::Malformed { at: 12, why: "a key signs nothing" });
        }
        let is_chained = flags & CHAINED != 0;
        if is_chained && (key.is_none() || flags & CHECKPOINT == 0) {
            return Err(FormatError::Malformed { at: 10, why: "records are chained to nothing that is signed" });
        }
        let length = u64::from_be_bytes(field.array(20)?);
        let standing = match flags & CHECKPOINT {
            0 => None,
            _ => Some(Standing {
                seq: u64::from_be_bytes(field.array(28)?),
                epoch: u64::from_be_bytes(field.array(36)?),
            }),
        };
        let around = len(standing) + trailer_len(key.is_some());
        let room = bytes.len().checked_sub(around).ok_or(FormatError::Truncated)? as u64;
        match length.cmp(&room) {
            std::cmp::Ordering::Greater => Err(FormatError::Truncated),
            std::cmp::Ordering::Less => Err(FormatError::TrailingBytes),
            std::cmp::Ordering::Equal => {
                let body = len(standing)..bytes.len() - trailer_len(key.is_some());
                Ok(Self { version, key, standing, is_chained, body })
            }
        }
    }

    /// What the places of its values are in.
    pub fn within(&self) -> Within {
        match self.standing {
            _ if self.version == FIRST_VERSION => Within::FirstVersion,
            Some(Standing { seq, epoch }) => Within::Checkpoint { seq, epoch },
            None => Within::Snapshot,
        }
    }

    /// Refuses what is no snapshot that a run goes on from elsewhere.
    pub fn check_snapshot(&self) -> Result<(), FormatError> {
        match self.standing {
            None => Ok(()),
            Some(standing) => Err(FormatError::Misplaced { what: standing.to_string(), wanted: "a snapshot".into() }),
        }
    }

    /// Refuses what is no checkpoint, or not the one of this record. It may be of an earlier epoch than the run.
    pub fn check_checkpoint(&self, expected: Standing) -> Result<(), FormatError> {
        if self.version == FIRST_VERSION {
            return Ok(());
        }
        match self.standing {
            Some(standing) if standing.seq == expected.seq && standing.epoch <= expected.epoch => Ok(()),
            Some(other) => Err(FormatError::Misplaced { what: other.to_string(), wanted: expected.to_string() }),
            None => Err(FormatError::Misplaced { what: "a snapshot".into(), wanted: expected.to_string() }),
        }
    }

    /// Checks the trailer, and says what becomes of opaque values.
    pub fn trust<'a>(&self, bytes: &[u8], secrets: &'a Secrets) -> Result<Trust<'a>, FormatError> {
        let (signed, trailer) = bytes.split_at(self.body.end);
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
        let (body, trailer) = bytes.split_at(self.body.end);
        self.key.is_none().then(|| checksum(body) == trailer)
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], FormatError> {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(FormatError::Truncated)
    }
}
