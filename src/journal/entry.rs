//! What a journal holds of a run beside its log, as bytes: entries of the stream, messages, and how the run ended.
//!
//! Each kind of place has a name and a number of its own, which its signatures cover: what was signed for one place
//! is taken at no other.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::frame::{self, Check, NOTHING, Spot, Whole};
use super::record::{kind, room_for_names};
use super::request::{Digest, EntryId, Phase};
use crate::error::{Error, FormatError};
use crate::event::EncodedEvent;
use crate::run_id::RunId;
use crate::secret::Secrets;
use crate::value::Tag;
use crate::wire::place::{At, Within};
use crate::wire::read::Reader;
use crate::wire::write::room_for_event;

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// In the stream, under this number.
    Stream {
        /// The number.
        number: u64,
    },
    /// In the inbox.
    Inbox {
        /// The name that the sender gave it.
        id: EntryId,
        /// What it is.
        kind: u8,
    },
    /// Beside the log: what a transaction gave.
    Transaction {
        /// What the transaction is known by.
        call: Digest,
    },
    /// At the end of the run.
    Outcome {
        /// The number of the run's last record.
        seq: u64,
        /// How the run ended.
        phase: Phase,
    },
}

/// Makes the bytes of an event. Its opaque values are signed, or, with `is_whole`, all of it.
///
/// # Errors
/// [`FormatError::SecretNeeded`] and [`FormatError::NothingToSignWith`] if there is something to sign and no secret,
/// [`FormatError::TooLarge`] and [`FormatError::Doubled`] for what the format cannot hold.
pub fn encode(
    run: RunId,
    slot: &Slot,
    event: &EncodedEvent,
    secrets: &Secrets,
    is_whole: bool,
) -> Result<Bytes, Error> {
    const NUMBERS: usize = 32;
    let spot = slot.spot(run, if is_whole { Whole::Must(NOTHING) } else { Whole::No });
    let has_opaque = event.values().any(|value| value.tag == Tag::Opaque);
    let room = NUMBERS + room_for_event(event) + room_for_names(event);
    frame::write(&spot, secrets, has_opaque, room, |to| {
        to.record(kind::PUBLISHED, &[], 1)?;
        to.event(event, spot.at)
    })
}

/// Reads the bytes of an event. Large values are parts of `bytes`, not copies. All of it must be signed if
/// `is_whole`; if it is, that is checked in any case.
///
/// # Errors
/// A [`FormatError`] if the bytes are not what [`encode`] gives for this run and place with one of the secrets.
pub fn decode(run: RunId, slot: &Slot, bytes: Bytes, secrets: &Secrets, is_whole: bool) -> Result<EncodedEvent, Error> {
    let whole = if is_whole { Whole::Must(NOTHING) } else { Whole::May(NOTHING) };
    let spot = slot.spot(run, whole);
    frame::read(&spot, &bytes, Check::Signatures(secrets), |from, within| event(from, within, &spot))
}

/// As [`decode`], but no signature is checked: nothing of the event may be trusted, its opaque values must not be
/// read, and nothing of it is to be executed.
///
/// # Errors
/// A [`FormatError`] if the bytes are not an event of this run and place.
pub fn decode_unverified(run: RunId, slot: &Slot, bytes: Bytes) -> Result<EncodedEvent, Error> {
    let spot = slot.spot(run, Whole::May(NOTHING));
    frame::read(&spot, &bytes, Check::Nothing, |from, within| event(from, within, &spot))
}

/// Makes the bytes of a message that is no event: a wish, of which the place says everything. All of it is signed.
///
/// # Errors
/// [`FormatError::NothingToSignWith`] if there is no secret.
pub fn encode_wish(run: RunId, slot: &Slot, secrets: &Secrets) -> Result<Bytes, Error> {
    frame::write(&slot.spot(run, Whole::Must(NOTHING)), secrets, false, 0, |to| to.array(0))
}

/// Checks a message that is no event. One of an earlier version has no bytes; it is taken unless everything has to be
/// signed.
///
/// # Errors
/// A [`FormatError`] if the bytes are not what [`encode_wish`] gives for this run and place with one of the secrets.
pub fn check_wish(run: RunId, slot: &Slot, bytes: Bytes, secrets: &Secrets, is_whole: bool) -> Result<(), Error> {
    let spot = slot.spot(run, Whole::Must(NOTHING));
    if bytes.is_empty() {
        let refused = FormatError::NotSignedWhole { place: spot.at.to_string() };
        return if is_whole { Err(refused.into()) } else { Ok(()) };
    }
    frame::read(&spot, &bytes, Check::Signatures(secrets), |from, _| from.array_of(0))
}

fn event(from: &mut Reader<'_>, within: Within, spot: &Spot<'_>) -> Result<EncodedEvent, FormatError> {
    from.array_of(2)?;
    if from.uint()? != kind::PUBLISHED {
        return Err(from.malformed("this is no event"));
    }
    // The first version had one name for all of these places, and no number.
    let first = At::Record { seq: 0, kind: "published" };
    from.event(if within == Within::FirstVersion { first } else { spot.at })
}

impl Slot {
    fn spot(&self, run: RunId, whole: Whole) -> Spot<'_> {
        let at = match self {
            Self::Stream { number } => At::Stream { number: *number },
            Self::Inbox { id, kind } => At::Inbox { id, kind: *kind },
            Self::Transaction { call } => At::Transaction { call },
            Self::Outcome { seq, phase } => At::Outcome { seq: *seq, phase: phase_name(*phase) },
        };
        Spot { run, at, seeds: (0, xxh3_64(at.to_string().as_bytes())), whole }
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Completed => "completed",
        Phase::Failed => "failed",
        Phase::Cancelled => "cancelled",
        // A run that is not over has no outcome.
        _ => "not over",
    }
}
