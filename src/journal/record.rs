//! A record as bytes. `docs/formats.md` tells it byte by byte.

use bytes::Bytes;

use super::frame::{self, Check, NOTHING, Spot, Whole};
use crate::error::{Error, FormatError};
use crate::event::{EncodedEvent, StepId};
use crate::image::Waiting;
use crate::memo::{Kept, Memo};
use crate::record::{EncodedRecord, Record};
use crate::replay::Failure;
use crate::run_id::RunId;
use crate::secret::{KeyId, Secrets, Signature};
use crate::value::{Tag, Value};
use crate::wire::place::{At, Place};
use crate::wire::read::Reader;
use crate::wire::write::{Writer, room_for_event, room_for_value};

/// The newest version of the format: the one that is written.
pub const VERSION: u8 = frame::VERSION;

/// Makes the bytes of a record that is the `seq`-th one of a run. Its opaque values are signed.
///
/// # Errors
/// [`FormatError::SecretNeeded`] if it has an opaque value and there is no secret, [`FormatError::TooLarge`] for
/// what the format cannot hold.
pub fn encode(run: RunId, seq: u64, record: &EncodedRecord, secrets: &Secrets) -> Result<Bytes, Error> {
    frame::write(&spot(run, seq, Whole::No), secrets, has_opaque(record), room(record), |to| write(to, seq, record))
}

/// Reads the bytes of a record that is the `seq`-th one of a run. Large values are parts of `bytes`, not copies.
///
/// # Errors
/// A [`FormatError`] if the bytes are not what [`encode`] gives for this run and number with one of the secrets.
pub fn decode(run: RunId, seq: u64, bytes: Bytes, secrets: &Secrets) -> Result<EncodedRecord, Error> {
    frame::read(&spot(run, seq, Whole::No), &bytes, Check::Signatures(secrets), |from, _| read(from, seq))
}

/// As [`encode`], and all of it is signed, behind the signature of the record or the checkpoint before it.
///
/// # Errors
/// As [`encode`]; [`FormatError::NothingToSignWith`] if there is no secret.
pub(super) fn encode_behind(
    run: RunId,
    seq: u64,
    record: &EncodedRecord,
    secrets: &Secrets,
    before: Signature,
) -> Result<Bytes, Error> {
    let spot = spot(run, seq, Whole::Must(before));
    frame::write(&spot, secrets, has_opaque(record), room(record), |to| write(to, seq, record))
}

/// Reads what [`encode_behind`] made.
///
/// # Errors
/// As [`decode`]; [`FormatError::NotSignedWhole`] if not all of it is signed, [`FormatError::ValueChanged`] if it was
/// changed, or comes behind something else.
pub(super) fn decode_behind(
    run: RunId,
    seq: u64,
    bytes: Bytes,
    secrets: &Secrets,
    before: Signature,
) -> Result<EncodedRecord, Error> {
    let spot = spot(run, seq, Whole::Must(before));
    frame::read(&spot, &bytes, Check::Signatures(secrets), |from, _| read(from, seq))
}

/// As [`decode`], but no signature is checked: nothing of the record may be trusted, its opaque values must not be
/// read, and nothing of it is to be executed.
///
/// # Errors
/// A [`FormatError`] if the bytes are not a record of this run and number.
pub fn decode_unverified(run: RunId, seq: u64, bytes: Bytes) -> Result<EncodedRecord, Error> {
    frame::read(&spot(run, seq, Whole::May(NOTHING)), &bytes, Check::Nothing, |from, _| read(from, seq))
}

/// Which key a record says that it, or its opaque value, is signed with; it is not checked.
pub fn key_id(bytes: &[u8]) -> Option<KeyId> {
    frame::key_id(bytes)
}

fn spot(run: RunId, seq: u64, whole: Whole) -> Spot<'static> {
    Spot { run, at: At::Record { seq, kind: "whole" }, seeds: (seq, seq), whole }
}

fn has_opaque(record: &EncodedRecord) -> bool {
    let is_opaque = |value: &Value| value.tag == Tag::Opaque;
    match record {
        Record::Set { .. } | Record::Memo { .. } | Record::ChildEnded { .. } => record.value().is_some_and(is_opaque),
        _ => record.event().is_some_and(|event| event.values().any(is_opaque)),
    }
}

fn room(record: &EncodedRecord) -> usize {
    const NUMBERS: usize = 32;
    const MEMO: usize = 2 * NUMBERS;
    NUMBERS
        + match record {
            Record::Set { key, value } => key.len() + room_for_value(value),
            Record::Delete { key } => key.len(),
            Record::Memo { memo, .. } => MEMO + room_for_memo(memo),
            Record::ChildEnded { end, .. } => room_for_value(end.value()),
            Record::Retried { failure, .. } => failure.text.len(),
            _ => record.event().map_or(0, |event| room_for_event(event) + room_for_names(event)),
        }
}

fn room_for_memo(memo: &Memo<Value>) -> usize {
    memo.call.name.len() + memo.kept.value().map_or(0, room_for_value)
}

pub(super) fn room_for_names(event: &EncodedEvent) -> usize {
    let classes = event.values().filter_map(|value| value.class.as_deref()).map(str::len).sum::<usize>();
    event.class.len() + classes + event.field_names().map(str::len).sum::<usize>()
}

/// The kinds of records, by their numbers.
pub(super) mod kind {
    pub const SET: u64 = 1;
    pub const DELETE: u64 = 2;
    pub const QUEUED: u64 = 3;
    pub const STARTED: u64 = 4;
    pub const FINISHED: u64 = 5;
    pub const RETRIED: u64 = 6;
    pub const DUE: u64 = 7;
    pub const SENT: u64 = 8;
    pub const ASKED: u64 = 9;
    pub const WAITING: u64 = 10;
    pub const WAIT_OVER: u64 = 11;
    pub const RECEIVED: u64 = 12;
    pub const RECEIVED_KEPT: u64 = 13;
    pub const RETURNED: u64 = 14;
    pub const GROUPED: u64 = 15;
    pub const COLLECTED: u64 = 16;
    pub const KEPT: u64 = 17;
    pub const KEPT_TAKEN: u64 = 18;
    pub const HELD: u64 = 19;
    pub const RELEASED: u64 = 20;
    pub const PUBLISHED: u64 = 21;
    pub const PAUSED: u64 = 22;
    pub const RESUMED: u64 = 23;
    pub const ENDED: u64 = 24;
    pub const HELD_AGAIN: u64 = 25;
    pub const MEMO: u64 = 26;
    pub const FORGOTTEN: u64 = 27;
    pub const CHILD: u64 = 28;
    pub const CHILD_ENDED: u64 = 29;
    pub const CHANGED: u64 = 30;
}

fn key_place(seq: u64, key: &str) -> Place<'_> {
    Place { at: At::Record { seq, kind: "state" }, owner: "", name: Some(key) }
}

const MEMO_PLACE: &str = "memo";
const CHILD_PLACE: &str = "child";

/// The kind of a call's record, and the place of its value.
fn memo_kind(memo: &Memo<Value>) -> (u64, &'static str) {
    match memo.kept {
        Kept::Child(_) => (kind::CHILD, CHILD_PLACE),
        Kept::Result(_) | Kept::Failure(_) => (kind::MEMO, MEMO_PLACE),
    }
}

fn write<'a>(to: &mut Writer<'a>, number: u64, record: &'a EncodedRecord) -> Result<(), FormatError> {
    let at = |kind| At::Record { seq: number, kind };
    match record {
        Record::Set { key, value } => {
            to.record(kind::SET, &[], 2)?;
            to.text(key)?;
            to.value(value, &key_place(number, key))
        }
        Record::Delete { key } => {
            to.record(kind::DELETE, &[], 1)?;
            to.text(key)
        }
        Record::Queued { seq, step, event } => {
            to.record(kind::QUEUED, &[*seq, step.0.into()], 1)?;
            to.event(event, at("queued"))
        }
        Record::Started { seq, at } => to.record(kind::STARTED, &[*seq, *at], 0),
        Record::Finished { seq, at } => to.record(kind::FINISHED, &[*seq, *at], 0),
        Record::Retried { seq, failure, at, due } => {
            to.record(kind::RETRIED, &[*seq, failure.attempt.into(), *due], 1 + usize::from(*at > 0))?;
            to.text(&failure.text)?;
            if *at > 0 {
                to.uint(*at);
            }
            Ok(())
        }
        Record::Due { seq } => to.record(kind::DUE, &[*seq], 0),
        Record::Sent { seq, digest } => to.record(kind::SENT, &[*seq, *digest], 0),
        Record::Memo { seq, number: memo_number, memo } => {
            let (kind, place) = memo_kind(memo);
            to.record(kind, &[*seq, *memo_number], 1)?;
            to.memo(memo, at(place))
        }
        Record::ChildEnded { child, end } => {
            to.record(kind::CHILD_ENDED, &[], 2)?;
            to.bytes(child.as_bytes())?;
            to.child_end(end, *child, at("child ended"))
        }
        Record::Forgotten { seq, number } => to.record(kind::FORGOTTEN, &[*seq, *number], 0),
        Record::Asked { seq, place, wanted, at } => {
            to.record(kind::ASKED, &[*seq, *place, *at], 2)?;
            to.wanted(*wanted);
            Ok(())
        }
        Record::Waiting { wait, waiting } => {
            to.record(kind::WAITING, &[*wait, waiting.seq], 2)?;
            to.maybe_name(waiting.class.as_ref())?;
            to.maybe_uint(waiting.due);
            Ok(())
        }
        Record::WaitOver { wait } => to.record(kind::WAIT_OVER, &[*wait], 0),
        Record::Received { seq, event } => {
            to.record(kind::RECEIVED, &[*seq], 1)?;
            to.event(event, at("received"))
        }
        Record::ReceivedKept { seq, number } => to.record(kind::RECEIVED_KEPT, &[*seq, *number], 0),
        Record::Returned { seq, place } => to.record(kind::RETURNED, &[*seq, *place], 0),
        Record::Grouped { group, step, key, expected } => {
            to.record(kind::GROUPED, &[*group, step.0.into()], 2)?;
            to.maybe_text(key.as_deref())?;
            to.expected(expected)
        }
        Record::Collected { seq, group, class, event } => {
            to.record(kind::COLLECTED, &[*seq, *group], 2)?;
            to.name(class)?;
            to.event(event, at("collected"))
        }
        Record::Kept { number, event } => {
            to.record(kind::KEPT, &[*number], 1)?;
            to.event(event, at("kept"))
        }
        Record::KeptTaken { number } => to.record(kind::KEPT_TAKEN, &[*number], 0),
        Record::Held { is_from_outside, event } => {
            to.record(kind::HELD, &[], 2)?;
            to.bool(*is_from_outside);
            to.event(event, at("held"))
        }
        Record::HeldAgain { event } => {
            to.record(kind::HELD_AGAIN, &[], 1)?;
            to.event(event, at("held"))
        }
        Record::Released { place } => to.record(kind::RELEASED, &[*place], 0),
        Record::Published { event } => {
            to.record(kind::PUBLISHED, &[], 1)?;
            to.event(event, at("published"))
        }
        Record::Changed { at, keys } => to.record(kind::CHANGED, &[*at, *keys], 0),
        Record::Paused => to.record(kind::PAUSED, &[], 0),
        Record::Resumed => to.record(kind::RESUMED, &[], 0),
        Record::Ended => to.record(kind::ENDED, &[], 0),
    }
}

fn read(from: &mut Reader<'_>, number: u64) -> Result<EncodedRecord, FormatError> {
    let at = |kind| At::Record { seq: number, kind };
    let length = from.array()?;
    let kind = from.uint()?;
    let parts = parts(kind).ok_or_else(|| from.malformed("there is no such record"))?;
    let has_time = kind == kind::RETRIED && length == 2 + parts;
    if length != 1 + parts && !has_time {
        return Err(from.malformed("a record has the wrong length"));
    }
    Ok(match kind {
        kind::SET => {
            let key = from.text()?;
            Record::Set { key: key.into(), value: from.value(&key_place(number, key))? }
        }
        kind::DELETE => Record::Delete { key: from.text()?.into() },
        kind::QUEUED => {
            Record::Queued { seq: from.uint()?, step: StepId(from.small_uint()?), event: from.event(at("queued"))? }
        }
        kind::STARTED => Record::Started { seq: from.uint()?, at: from.uint()? },
        kind::FINISHED => Record::Finished { seq: from.uint()?, at: from.uint()? },
        kind::RETRIED => {
            let (seq, attempt, due) = (from.uint()?, from.small_uint()?, from.uint()?);
            let failure = Failure { attempt, text: from.text()?.into() };
            let at = if has_time { from.uint()? } else { 0 };
            if has_time && at == 0 {
                return Err(from.malformed("an unknown time is given"));
            }
            Record::Retried { seq, failure, at, due }
        }
        kind::DUE => Record::Due { seq: from.uint()? },
        kind::SENT => Record::Sent { seq: from.uint()?, digest: from.uint()? },
        kind::MEMO | kind::CHILD => {
            let place = if kind == kind::CHILD { CHILD_PLACE } else { MEMO_PLACE };
            let (seq, memo_number) = (from.uint()?, from.uint()?);
            let memo = from.memo(at(place))?;
            if memo_kind(&memo).0 != kind {
                return Err(from.malformed("a call is of another kind than its record"));
            }
            Record::Memo { seq, number: memo_number, memo }
        }
        kind::CHILD_ENDED => {
            let child = RunId::from_bytes(from.bytes()?);
            Record::ChildEnded { child, end: from.child_end(child, at("child ended"))? }
        }
        kind::FORGOTTEN => Record::Forgotten { seq: from.uint()?, number: from.uint()? },
        kind::ASKED => {
            let (seq, place, at) = (from.uint()?, from.uint()?, from.uint()?);
            Record::Asked { seq, place, wanted: from.wanted()?, at }
        }
        kind::WAITING => {
            let (wait, seq) = (from.uint()?, from.uint()?);
            let (class, due) = (from.maybe(Reader::name)?, from.maybe(Reader::uint)?);
            Record::Waiting { wait, waiting: Waiting { seq, class, due } }
        }
        kind::WAIT_OVER => Record::WaitOver { wait: from.uint()? },
        kind::RECEIVED => Record::Received { seq: from.uint()?, event: from.event(at("received"))? },
        kind::RECEIVED_KEPT => Record::ReceivedKept { seq: from.uint()?, number: from.uint()? },
        kind::RETURNED => Record::Returned { seq: from.uint()?, place: from.uint()? },
        kind::GROUPED => Record::Grouped {
            group: from.uint()?,
            step: StepId(from.small_uint()?),
            key: from.maybe(|from| Ok(from.text()?.into()))?,
            expected: from.expected()?,
        },
        kind::COLLECTED => Record::Collected {
            seq: from.uint()?,
            group: from.uint()?,
            class: from.name()?,
            event: from.event(at("collected"))?,
        },
        kind::KEPT => Record::Kept { number: from.uint()?, event: from.event(at("kept"))? },
        kind::KEPT_TAKEN => Record::KeptTaken { number: from.uint()? },
        kind::HELD => Record::Held { is_from_outside: from.bool()?, event: from.event(at("held"))? },
        kind::HELD_AGAIN => Record::HeldAgain { event: from.event(at("held"))? },
        kind::RELEASED => Record::Released { place: from.uint()? },
        kind::PUBLISHED => Record::Published { event: from.event(at("published"))? },
        kind::CHANGED => Record::Changed { at: from.uint()?, keys: from.uint()? },
        kind::PAUSED => Record::Paused,
        kind::RESUMED => Record::Resumed,
        kind::ENDED => Record::Ended,
        _ => return Err(from.malformed("there is no such record")),
    })
}

/// Of how many parts a kind of record consists, without a time that need not be there.
fn parts(kind: u64) -> Option<usize> {
    Some(match kind {
        kind::PAUSED | kind::RESUMED | kind::ENDED => 0,
        kind::DELETE | kind::DUE | kind::WAIT_OVER | kind::KEPT_TAKEN | kind::PUBLISHED => 1,
        kind::HELD_AGAIN | kind::RELEASED => 1,
        kind::SET | kind::STARTED | kind::FINISHED | kind::SENT | kind::RECEIVED | kind::RECEIVED_KEPT => 2,
        kind::RETURNED | kind::KEPT | kind::HELD | kind::FORGOTTEN | kind::CHILD_ENDED | kind::CHANGED => 2,
        kind::QUEUED | kind::MEMO | kind::CHILD => 3,
        kind::RETRIED | kind::WAITING | kind::GROUPED | kind::COLLECTED => 4,
        kind::ASKED => 5,
        _ => return None,
    })
}
