//! Going on with a run, in the epoch in which it was claimed.

use super::again::ready;
use super::{History, HistoryError, Trusted};
use crate::error::Error;
use crate::image::EncodedImage;
use crate::journal::{Chain, Commit, Loaded, Request, Signer};
use crate::timers::Time;

/// A run that goes on from its last record, and where its next one comes.
#[derive(Debug)]
pub struct Continuation {
    /// The run.
    pub image: EncodedImage,
    /// The epoch in which it was claimed.
    pub epoch: u64,
    /// The number of its last record.
    pub seq: u64,
    /// What the next record comes behind.
    pub chain: Chain,
    /// How many bytes its checkpoint has, and the records behind it.
    pub sizes: Sizes,
}

/// What the next checkpoint is measured by, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Of the last checkpoint.
    pub checkpoint: usize,
    /// Of the records behind it.
    pub records: usize,
}

/// A run that was claimed, as it goes on: verified and folded.
///
/// # Errors
/// As [`History::image`].
pub fn continuation(loaded: &Loaded, signer: &Signer) -> Result<Continuation, Error> {
    let image = History::new(loaded, Trusted::Signed(signer)).image()?;
    let checkpoint = loaded.checkpoint.as_ref().map_or(0, |(_, bytes)| bytes.len());
    let sizes = Sizes { checkpoint, records: loaded.records.iter().map(Vec::len).sum() };
    Ok(Continuation { image, epoch: loaded.run.epoch, seq: loaded.run.seq, chain: Chain::end_of(loaded), sizes })
}

impl Continuation {
    /// Whether a plan with these steps can go on at once. The steps of records are numbers that mean what the
    /// checkpoint before them says: where the plan has others, or others in their places, the run needs a checkpoint
    /// with the steps of the plan ([`renumber`]) before anything more is recorded.
    pub fn has_steps<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> bool {
        self.image.steps.iter().map(|name| &**name).eq(names)
    }
}

/// Writes a checkpoint of a run that was claimed: its image with the steps of another plan. One of more than `limit`
/// bytes cannot be written, and the run cannot go on without it.
///
/// # Errors
/// [`HistoryError::TooLarge`]; as [`Chain::seal`].
pub fn renumber(
    loaded: &Loaded,
    image: &EncodedImage,
    signer: &Signer,
    now: Time,
    limit: usize,
) -> Result<Request, HistoryError> {
    let written = ready(loaded, image, signer, now)?;
    let commit = Commit { status: loaded.run.status, ..written };
    let bytes = commit.bytes();
    if bytes > limit {
        return Err(HistoryError::TooLarge { bytes, limit });
    }
    Ok(Request::Append { run: loaded.run.id, epoch: loaded.run.epoch, after: loaded.run.seq, commit })
}
