//! What is loaded of a run, as the run that goes on from it.
//!
//! A journal gives a checkpoint and the records behind it. Here they are verified and folded, and here is decided what
//! a run that goes on, a fork and a run that is tried again begin with. Nothing here knows a journal's backend, a clock
//! or a host: the caller gives the time and new ids, and submits the request that it gets.
//!
//! - this file: a [`History`], verified and folded up to any of its records;
//! - [`trusted`]: what is trusted of what is read; [`points`]: the records at which a run can be cut;
//! - [`state`]: what a reader sees of its keys;
//! - [`course`]: the attempts of its steps;
//! - [`diff`]: what differs between two records; [`why`]: why a run waits;
//! - [`edits`]: what a fork changes;
//! - [`resume`]: going on in the epoch in which the run was claimed; [`again`]: forks, and runs that are tried again.

#![forbid(unsafe_code)]

pub mod again;
pub mod course;
pub mod diff;
pub mod edits;
pub mod error;
pub mod points;
pub mod resume;
pub mod state;
pub mod trusted;
pub mod why;

use std::collections::HashMap;

use crate::error::Error;
use crate::image::EncodedImage;
use crate::journal::{Chain, Loaded, record};
use crate::record::{EncodedRecord, Record};
use crate::secret::KeyId;
use crate::snapshot;

pub use again::{Fork, begin_again, fork, image_of_point, reopen};
pub use course::{Attempt, AttemptEnd, Course};
pub use diff::{Diff, Difference, diff};
pub use edits::{Edits, EventEdit};
pub use error::HistoryError;
pub use resume::{Continuation, Sizes, continuation, renumber};
pub use state::changes;
pub use trusted::Trusted;
pub use why::{Reason, why};

/// What a journal has of a run, and what is trusted of it.
#[derive(Clone, Copy)]
pub struct History<'a> {
    loaded: &'a Loaded,
    trusted: Trusted<'a>,
}

impl<'a> History<'a> {
    /// The history of a run that was loaded.
    pub fn new(loaded: &'a Loaded, trusted: Trusted<'a>) -> Self {
        Self { loaded, trusted }
    }

    /// The number of the last record that the checkpoint stands for.
    pub fn folded(&self) -> u64 {
        self.loaded.checkpoint.as_ref().map_or(0, |(folded, _)| *folded)
    }

    /// The checkpoint, and what its first record comes behind.
    ///
    /// # Errors
    /// As [`Chain::open`]; [`Error::InvalidRecord`] if there are more or fewer records behind it than the run has.
    pub fn checkpoint(&self) -> Result<(EncodedImage, Chain), Error> {
        if self.folded().saturating_add(self.loaded.records.len() as u64) != self.loaded.run.seq {
            return Err(Error::InvalidRecord("the log does not end where the journal says"));
        }
        self.trusted.checkpoint(self.loaded)
    }

    /// The records that no checkpoint has replaced, with their numbers. Each is verified as it is read.
    pub fn records(&self) -> impl Iterator<Item = Result<(u64, EncodedRecord), Error>> + use<'a> {
        self.records_behind(Chain::start_of(self.loaded))
    }

    fn records_behind(&self, mut chain: Chain) -> impl Iterator<Item = Result<(u64, EncodedRecord), Error>> + use<'a> {
        let Self { loaded, trusted } = *self;
        let numbered = (self.folded() + 1..).zip(&loaded.records);
        numbered
            .map(move |(seq, bytes)| Ok((seq, trusted.record(loaded.run.id, seq, bytes.clone().into(), &mut chain)?)))
    }

    /// The run as its last record leaves it.
    ///
    /// # Errors
    /// As [`checkpoint`](Self::checkpoint); [`Error::InvalidRecord`] or a [`FormatError`](crate::FormatError) if the
    /// records are not those that were written behind it.
    pub fn image(&self) -> Result<EncodedImage, Error> {
        self.fold(u64::MAX, |_| true)
    }

    /// The run as the record of this number leaves it.
    ///
    /// # Errors
    /// As [`image`](Self::image); [`Error::Folded`] if the checkpoint stands for later records as well.
    pub fn image_at(&self, number: u64) -> Result<EncodedImage, Error> {
        self.fold(number, |_| true)
    }

    /// The run as if it had not ended: what its steps were to do they still are, and what they set while they were
    /// being stopped is set.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    pub fn image_without_end(&self) -> Result<EncodedImage, Error> {
        self.fold(u64::MAX, |record| !matches!(record, Record::Ended))
    }

    /// Which record has set each key last, of those up to the one of this number; nothing of the keys that only the
    /// checkpoint has.
    ///
    /// # Errors
    /// As [`records`](Self::records).
    pub fn setters(&self, number: u64) -> Result<HashMap<Box<str>, u64>, Error> {
        let mut setters = HashMap::new();
        for record in self.records() {
            let (seq, record) = record?;
            match record {
                _ if seq > number => break,
                Record::Set { key, .. } => drop(setters.insert(key, seq)),
                Record::Delete { key } => drop(setters.remove(&key)),
                _ => {}
            }
        }
        Ok(setters)
    }

    /// Which key the record of this number says that its opaque value is signed with; without a number, or of one that is
    /// not here, the same of the checkpoint. It is not checked.
    pub fn key_id(&self, number: Option<u64>) -> Option<KeyId> {
        let place = number.and_then(|number| number.checked_sub(self.folded() + 1));
        match place.and_then(|place| self.loaded.records.get(usize::try_from(place).ok()?)) {
            Some(record) => record::key_id(record),
            None => self.loaded.checkpoint.as_ref().and_then(|(_, bytes)| snapshot::key_id(bytes)),
        }
    }

    fn fold(&self, until: u64, counts: impl Fn(&EncodedRecord) -> bool) -> Result<EncodedImage, Error> {
        let folded = self.folded();
        let Some(count) = until.checked_sub(folded) else { return Err(Error::Folded { first: folded }) };
        let (mut image, chain) = self.checkpoint()?;
        for record in self.records_behind(chain).take(usize::try_from(count).unwrap_or(usize::MAX)) {
            let (_, record) = record?;
            if counts(&record) {
                image.apply(record)?;
            }
        }
        image.check()?;
        Ok(image)
    }
}
