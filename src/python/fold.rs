//! The records of a run folded into its checkpoint, as far as is wanted.

use bytes::Bytes;

use crate::journal::{Loaded, record};
use crate::{EncodedImage, EncodedRecord, Error, Record, RunId, Secrets, snapshot};

/// What is trusted of what is read.
#[derive(Clone, Copy)]
pub enum Trusted<'a> {
    /// What is signed with one of the secrets.
    Signed(&'a Secrets),
    /// Nothing: names, tags and sizes are shown, and no opaque value is read.
    Nothing,
}

impl Trusted<'_> {
    pub fn record(self, run: RunId, seq: u64, bytes: Bytes) -> Result<EncodedRecord, Error> {
        match self {
            Self::Signed(secrets) => record::decode(run, seq, bytes, secrets),
            Self::Nothing => record::decode_unverified(run, seq, bytes),
        }
    }

    pub fn image(self, bytes: Bytes) -> Result<EncodedImage, Error> {
        match self {
            Self::Signed(secrets) => snapshot::open_checkpoint(bytes, secrets),
            Self::Nothing => Ok(snapshot::read_unverified(bytes)?.image),
        }
    }
}

/// The records that no checkpoint has replaced, with their numbers.
pub fn records<'a>(
    loaded: &'a Loaded,
    trusted: Trusted<'a>,
) -> impl Iterator<Item = Result<(u64, EncodedRecord), Error>> + 'a {
    let folded = loaded.checkpoint.as_ref().map_or(0, |(folded, _)| *folded);
    let numbered = (folded + 1..).zip(&loaded.records);
    numbered.map(move |(seq, bytes)| Ok((seq, trusted.record(loaded.run.id, seq, bytes.clone().into())?)))
}

/// The state of a run: its records folded into its checkpoint, up to the one numbered `until`.
pub fn fold(loaded: &Loaded, until: u64, trusted: Trusted<'_>) -> Result<EncodedImage, Error> {
    fold_those(loaded, until, trusted, |_| true)
}

/// The state of a run as if it had not ended: what its steps were to do they still are, and what they set while they
/// were being stopped is set.
pub fn fold_without_end(loaded: &Loaded, trusted: Trusted<'_>) -> Result<EncodedImage, Error> {
    fold_those(loaded, u64::MAX, trusted, |record| !matches!(record, Record::Ended))
}

fn fold_those(
    loaded: &Loaded,
    until: u64,
    trusted: Trusted<'_>,
    counts: impl Fn(&EncodedRecord) -> bool,
) -> Result<EncodedImage, Error> {
    let Some((folded, checkpoint)) = &loaded.checkpoint else {
        return Err(Error::InvalidRecord("a run in a journal begins with a checkpoint"));
    };
    if until < *folded {
        return Err(Error::Folded { first: *folded });
    }
    let mut image = trusted.image(checkpoint.clone().into())?;
    if image.id != loaded.run.id {
        return Err(Error::InvalidImage("the checkpoint is of another run"));
    }
    for record in records(loaded, trusted).take(usize::try_from(until - folded).unwrap_or(usize::MAX)) {
        let (_, record) = record?;
        if counts(&record) {
            image.apply(record)?;
        }
    }
    image.check()?;
    Ok(image)
}

/// The number of the last record before the run's end; all, if it has not ended.
pub fn before_end(loaded: &Loaded, trusted: Trusted<'_>) -> Result<u64, Error> {
    for record in records(loaded, trusted) {
        if let (seq, Record::Ended) = record? {
            return Ok(seq - 1);
        }
    }
    Ok(u64::MAX)
}

/// The number of the last record of what happened in one go with the one of this number: an event is not where it goes
/// without being gone from where it was, and a step is not at its end without what it emitted.
pub fn end_of_operation(loaded: &Loaded, number: u64, trusted: Trusted<'_>) -> Result<u64, Error> {
    if loaded.checkpoint.as_ref().is_some_and(|(folded, _)| *folded == number) {
        // A checkpoint is never in the middle of an operation.
        return Ok(number);
    }
    let mut end = number;
    for record in records(loaded, trusted) {
        let (seq, record) = record?;
        if seq < number {
            continue;
        }
        if is_move(&record) {
            end = seq;
            continue;
        }
        let concludes = seq > number && matches!(record, Record::Finished { .. } | Record::Sent { .. });
        return Ok(if concludes { seq } else { end });
    }
    Ok(end)
}

/// Whether an event has left somewhere or got somewhere.
fn is_move(record: &EncodedRecord) -> bool {
    matches!(
        record,
        Record::Queued { .. }
            | Record::WaitOver { .. }
            | Record::Received { .. }
            | Record::ReceivedKept { .. }
            | Record::Returned { .. }
            | Record::Kept { .. }
            | Record::KeptTaken { .. }
            | Record::Held { .. }
            | Record::HeldAgain { .. }
            | Record::Released { .. }
    )
}
