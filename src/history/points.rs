//! The records at which a run can be cut, so that another goes on from there.

use std::ops::RangeInclusive;

use super::History;
use crate::error::Error;
use crate::record::{EncodedRecord, Record};

impl History<'_> {
    /// The records after which a fork can begin: from the one that the checkpoint stands for to the last one before
    /// the run's end.
    ///
    /// # Errors
    /// As [`records`](Self::records).
    pub fn points(&self) -> Result<RangeInclusive<u64>, Error> {
        for record in self.records() {
            if let (seq, Record::Ended) = record? {
                return Ok(self.folded()..=seq - 1);
            }
        }
        Ok(self.folded()..=self.loaded.run.seq)
    }

    /// The number of the last record of the operation that the record of this number belongs to: an event is not where
    /// it goes without being gone from where it was, and a step is not done without what it emitted.
    ///
    /// # Errors
    /// As [`records`](Self::records).
    pub fn end_of_operation(&self, number: u64) -> Result<u64, Error> {
        if self.folded() == number {
            // A checkpoint is never in the middle of an operation.
            return Ok(number);
        }
        let mut end = number;
        for record in self.records() {
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
}

/// Whether an event has left a place or reached one.
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
