//! What is trusted of what is read.

use bytes::Bytes;

use crate::error::Error;
use crate::event::EncodedEvent;
use crate::image::EncodedImage;
use crate::journal::{Chain, Loaded, Signer, Slot, entry, record};
use crate::record::EncodedRecord;
use crate::run_id::RunId;
use crate::snapshot;

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
    pub(super) fn checkpoint(self, loaded: &Loaded) -> Result<(EncodedImage, Chain), Error> {
        match (self, &loaded.checkpoint) {
            (Self::Nothing, Some((_, bytes))) => {
                Ok((snapshot::read_unverified(bytes.clone().into())?.image, Chain::start_of(loaded)))
            }
            (Self::Nothing, None) => Chain::open(loaded, &Signer::default()),
            (Self::Signed(signer), _) => Chain::open(loaded, signer),
        }
    }

    pub(super) fn record(self, run: RunId, seq: u64, bytes: Bytes, chain: &mut Chain) -> Result<EncodedRecord, Error> {
        match self {
            Self::Signed(signer) => chain.decode(run, seq, bytes, &signer.secrets),
            Self::Nothing => record::decode_unverified(run, seq, bytes),
        }
    }

    /// An event that stands beside the log.
    ///
    /// # Errors
    /// As [`entry::decode`].
    pub fn event(self, run: RunId, slot: &Slot, bytes: Bytes) -> Result<EncodedEvent, Error> {
        match self {
            Self::Signed(signer) => entry::decode(run, slot, bytes, &signer.secrets, signer.signs_all()),
            Self::Nothing => entry::decode_unverified(run, slot, bytes),
        }
    }
}
