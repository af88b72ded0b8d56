//! The records of a run folded into its checkpoint, as far as is wanted.

use bytes::Bytes;

use crate::journal::{Chain, Loaded, Signer, Slot, entry, record};
use crate::{EncodedEvent, EncodedImage, EncodedRecord, Error, Record, RunId, snapshot};

/// What is trusted of what is read.
#[derive(Clone, Copy)]
pub enum Trusted<'a> {
    /// What is signed as it has to be.
    Signed(&'a Signer),
    /// Nothing: names, tags and sizes are shown, and no opaque value is read.
    Nothing,
}

impl Trusted<'_> {
    /// The checkpoint of a run, and what its first record comes behind.
    pub fn checkpoint(self, loaded: &Loaded) -> Result<(EncodedImage, Chain), Error> {
        match (self, &loaded.checkpoint) {
            (Self::Nothing, Some((_, bytes))) => {
                Ok((snapshot::read_unverified(bytes.clone().into())?.image, Chain::start_of(loaded)))
            }
            (Self::Nothing, None) => Chain::open(loaded, &Signer::default()),
            (Self::Signed(signer), _) => Chain::open(loaded, signer),
        }
    }

    fn record(self, run: RunId, seq: u64, bytes: Bytes, chain: &mut Chain) -> Result<EncodedRecord, Error> {
        match self {
            Self::Signed(signer) => chain.decode(run, seq, bytes, &signer.secrets),
            Self::Nothing => record::decode_unverified(run, seq, bytes),
        }
    }

    /// An event that stands beside the log.
    pub fn event(self, run: RunId, slot: &Slot, bytes: Bytes) -> Result<EncodedEvent, Error> {
        match self {
            Self::Signed(signer) => entry::decode(run, slot, bytes, &signer.secrets, signer.signs_all()),
            Self::Nothing => entry::decode_unverified(run, slot, bytes),
        }
    }
}

/// The records that no checkpoint has replaced, with their numbers.
pub fn records<'a>(
    loaded: &'a Loaded,
    trusted: Trusted<'a>,
) -> impl Iterator<Item = Result<(u64, EncodedRecord), Error>> + 'a {
    records_behind(loaded, trusted, Chain::start_of(loaded))
}

fn records_behind<'a>(
    loaded: &'a Loaded,
    trusted: Trusted<'a>,
    mut chain: Chain,
) -> impl Iterator<Item = Result<(u64, EncodedRecord), Error>> + 'a {
    let folded = loaded.checkpoint.as_ref().map_or(0, |(folded, _)| *folded);
    let numbered = (folded + 1..).zip(&loaded.records);
    numbered.map(move |(seq, bytes)| Ok((seq, trusted.record(loaded.run.id, seq, bytes.clone().into(), &mut chain)?)))
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
    let folded = loaded.checkpoint.as_ref().map_or(0, |(folded, _)| *folded);
    if until < folded {
        return Err(Error::Folded { first: folded });
    }
    let (mut image, chain) = trusted.checkpoint(loaded)?;
    for record in records_behind(loaded, trusted, chain).take(usize::try_from(until - folded).unwrap_or(usize::MAX)) {
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
