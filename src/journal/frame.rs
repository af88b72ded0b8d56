//! The bytes around what a journal holds of a run: a header that says how to read it, and a trailer by which damage
//! or a change is noticed. `docs/formats.md` tells them byte by byte.

use std::ops::Range;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::{Error, FormatError};
use crate::run_id::RunId;
use crate::secret::{Key, KeyId, SIGNATURE_LEN, Secrets, Signature};
use crate::wire::place::{At, Within};
use crate::wire::read::{Reader, Trust};
use crate::wire::write::Writer;

/// The newest version of the format: the one that is written.
pub(super) const VERSION: u8 = 4;

const FIRST_VERSION: u8 = 1;

/// There is an opaque value, which is signed.
const OPAQUE: u8 = 1;
/// The trailer is a signature of everything.
const WHOLE: u8 = 2;

// version 1, flags 1; then, if anything is signed, the key id
const PLAIN_HEAD: usize = 2;
const SIGNED_HEAD: usize = PLAIN_HEAD + 8;

const CHECKSUM_LEN: usize = 8;

/// What a signature covers that comes behind nothing.
pub(super) const NOTHING: Signature = [0; SIGNATURE_LEN];

/// Whether everything is signed, and behind what.
#[derive(Clone, Copy)]
pub(super) enum Whole {
    /// It is not.
    No,
    /// It may be, behind this.
    May(Signature),
    /// It must be, behind this.
    Must(Signature),
}

/// Where something of a run stands in a journal.
#[derive(Clone, Copy)]
pub(super) struct Spot<'a> {
    pub run: RunId,
    pub at: At<'a>,
    /// What the checksum is seeded with, in the first version and in this one: with another one it does not match.
    pub seeds: (u64, u64),
    pub whole: Whole,
}

/// How the bytes are read.
#[derive(Clone, Copy)]
pub(super) enum Check<'a> {
    /// What is signed must be signed with one of these.
    Signatures(&'a Secrets),
    /// Nothing is trusted, and nothing is to be executed.
    Nothing,
}

/// Writes header, body and trailer.
pub(super) fn write<'a>(
    spot: &Spot<'_>,
    secrets: &'a Secrets,
    has_opaque: bool,
    room: usize,
    body: impl FnOnce(&mut Writer<'a>) -> Result<(), FormatError>,
) -> Result<Bytes, Error> {
    let before = match spot.whole {
        Whole::No => None,
        Whole::May(before) | Whole::Must(before) => Some(before),
    };
    let key = if has_opaque || before.is_some() { secrets.signing() } else { None };
    let whole = match (key, before) {
        (Some(key), Some(before)) => Some((key, before)),
        (None, Some(_)) => return Err(FormatError::NothingToSignWith { place: spot.at.to_string() }.into()),
        (_, None) => None,
    };
    let mut bytes = Vec::with_capacity(SIGNED_HEAD + room + SIGNATURE_LEN);
    let opaque = if has_opaque && key.is_some() { OPAQUE } else { 0 };
    bytes.extend_from_slice(&[VERSION, opaque | if whole.is_some() { WHOLE } else { 0 }]);
    if let Some(key) = key {
        bytes.extend_from_slice(&key.id.0);
    }
    let mut to = Writer::new(bytes, spot.run, Within::Journal, key, None);
    body(&mut to)?;
    let trailer = if whole.is_some() { SIGNATURE_LEN } else { CHECKSUM_LEN };
    let mut bytes = to.finish(trailer)?;
    match whole {
        Some((key, before)) => {
            let signature = key.sign_in_journal(spot.run, &spot.at.to_string(), &before, &bytes);
            bytes.extend_from_slice(&signature);
        }
        None => bytes.extend_from_slice(&checksum(spot.run, spot.seeds.1, &bytes)),
    }
    Ok(bytes.into())
}

/// Checks the trailer, and reads the body.
pub(super) fn read<T>(
    spot: &Spot<'_>,
    bytes: &Bytes,
    check: Check<'_>,
    body: impl FnOnce(&mut Reader<'_>, Within) -> Result<T, FormatError>,
) -> Result<T, Error> {
    let frame = Frame::of(bytes)?;
    let key = frame.verify(spot, bytes, check)?;
    let trust = match check {
        _ if !frame.has_opaque => Trust::Unsigned,
        Check::Nothing => Trust::Unverified,
        Check::Signatures(_) => key.map_or(Trust::Unsigned, Trust::Signed),
    };
    let within = if frame.version == FIRST_VERSION { Within::FirstVersion } else { Within::Journal };
    let mut from = Reader::new(bytes, frame.body, within, trust, None);
    from.set_run(spot.run);
    let read = body(&mut from, within)?;
    from.finish()?;
    if from.has_opaque() != frame.has_opaque {
        return Err(from.malformed("a key signs nothing").into());
    }
    Ok(read)
}

/// Whether they are of the first version of the format.
pub(super) fn is_first_version(bytes: &[u8]) -> bool {
    bytes.first() == Some(&FIRST_VERSION)
}

/// The signature of everything, if there is one; it is not checked.
pub(super) fn signature(bytes: &[u8]) -> Option<Signature> {
    let is_whole = bytes.get(1).is_some_and(|flags| flags & WHOLE != 0);
    bytes.last_chunk().copied().filter(|_| is_whole)
}

/// Which key it says that what is signed is signed with; it is not checked.
pub(super) fn key_id(bytes: &[u8]) -> Option<KeyId> {
    Frame::of(bytes).ok()?.key
}

struct Frame {
    version: u8,
    has_opaque: bool,
    key: Option<KeyId>,
    is_whole: bool,
    body: Range<usize>,
}

impl Frame {
    fn of(bytes: &[u8]) -> Result<Self, FormatError> {
        let &[version, flags, ..] = bytes else { return Err(FormatError::Truncated) };
        if !(FIRST_VERSION..=VERSION).contains(&version) {
            return Err(FormatError::UnknownVersion { found: version.into(), newest: VERSION.into() });
        }
        let known = if version == FIRST_VERSION { OPAQUE } else { OPAQUE | WHOLE };
        if flags & !known != 0 {
            return Err(FormatError::UnknownFlags(flags.into()));
        }
        let is_whole = flags & WHOLE != 0;
        let start = if flags == 0 { PLAIN_HEAD } else { SIGNED_HEAD };
        let trailer = if is_whole { SIGNATURE_LEN } else { CHECKSUM_LEN };
        let end = bytes.len().checked_sub(trailer).filter(|&end| end >= start).ok_or(FormatError::Truncated)?;
        let key = bytes[PLAIN_HEAD..].first_chunk().copied().map(KeyId).filter(|_| flags != 0);
        Ok(Self { version, has_opaque: flags & OPAQUE != 0, key, is_whole, body: start..end })
    }

    /// Checks the trailer before anything of the body is read, and finds the key.
    fn verify<'a>(&self, spot: &Spot<'_>, bytes: &[u8], check: Check<'a>) -> Result<Option<&'a Key>, FormatError> {
        let (signed, trailer) = bytes.split_at(self.body.end);
        let place = || spot.at.to_string();
        let before = match (self.is_whole, spot.whole) {
            (false, Whole::Must(_)) => return Err(FormatError::NotSignedWhole { place: place() }),
            (true, Whole::No) => return Err(FormatError::ValueChanged { place: place() }),
            (false, _) => {
                let seed = if self.version == FIRST_VERSION { spot.seeds.0 } else { spot.seeds.1 };
                if trailer != checksum(spot.run, seed, signed) {
                    return Err(FormatError::Damaged);
                }
                None
            }
            (true, Whole::May(before) | Whole::Must(before)) => Some(before),
        };
        let (Check::Signatures(secrets), Some(id)) = (check, self.key) else { return Ok(None) };
        if secrets.is_empty() {
            return Err(FormatError::SignedWithoutSecret(id));
        }
        let key = secrets.find(id).ok_or(FormatError::UnknownSecret(id))?;
        match before {
            Some(before) if !key.is_of_journal(trailer, spot.run, &place(), &before, signed) => {
                Err(FormatError::ValueChanged { place: place() })
            }
            _ => Ok(Some(key)),
        }
    }
}

// What was moved to another place or another run does not match.
fn checksum(run: RunId, seed: u64, bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    let run = u128::from_be_bytes(*run.as_bytes());
    xxh3_64_with_seed(bytes, seed ^ (run >> 64) as u64 ^ run as u64).to_be_bytes()
}
