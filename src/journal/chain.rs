//! Which parts of a run in a journal are signed, and how its records are chained.
//!
//! Where only opaque values are signed, an attacker who can write to the journal can change everything else. Where
//! everything is signed, each record covers the signature of the one before it, and the first one behind a checkpoint
//! that of the checkpoint: none can be changed, left out or put elsewhere.

use bytes::Bytes;

use super::frame::{self, NOTHING};
use super::record;
use super::reply::Loaded;
use crate::error::{Error, FormatError};
use crate::image::EncodedImage;
use crate::record::EncodedRecord;
use crate::run_id::RunId;
use crate::secret::{Secrets, Signature};
use crate::snapshot::{self, Standing};

/// What of a journal is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sign {
    /// Opaque values, and all of each message.
    #[default]
    Opaque,
    /// Everything, and what is not is refused.
    All,
}

/// What signs and verifies what a journal holds.
#[derive(Clone, Debug, Default)]
pub struct Signer {
    /// The secrets.
    pub secrets: Secrets,
    /// What is signed, at the least.
    pub sign: Sign,
}

impl Signer {
    /// Whether everything must be signed.
    pub fn signs_all(&self) -> bool {
        self.sign == Sign::All
    }
}

/// What the next record of a run comes behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    // The last signature; nothing where records are not chained.
    before: Option<Signature>,
    // Whether the next one may be of the first version of the format.
    is_first_version: bool,
}

impl Chain {
    /// The chain of a new run, which begins with a checkpoint.
    pub fn begin(sign: Sign) -> Self {
        Self { before: (sign == Sign::All).then_some(NOTHING), is_first_version: false }
    }

    /// The chain of a run that is loaded, behind its last record. It says what the bytes
    /// say: [`open`](Self::open) and [`decode`](Self::decode) verify them.
    pub fn end_of(loaded: &Loaded) -> Self {
        let start = Self::start_of(loaded);
        let last = loaded.records.last();
        match (start.before, last) {
            (Some(_), Some(last)) => Self { before: Some(frame::signature(last).unwrap_or(NOTHING)), ..start },
            _ => start,
        }
    }

    /// The chain of a run that is loaded, in front of its first record; not verified either.
    pub fn start_of(loaded: &Loaded) -> Self {
        Self::behind(loaded.checkpoint.as_ref().map_or(&[][..], |(_, bytes)| bytes))
    }

    fn behind(checkpoint: &[u8]) -> Self {
        Self { before: snapshot::chain_signature(checkpoint), is_first_version: snapshot::is_first_version(checkpoint) }
    }

    /// Whether all of the run is signed.
    pub fn signs_all(&self) -> bool {
        self.before.is_some()
    }

    /// The last signature; zeros where records are not chained.
    pub fn head(&self) -> Signature {
        self.before.unwrap_or(NOTHING)
    }

    /// Makes the bytes of the next record.
    ///
    /// # Errors
    /// As [`record::encode`]; [`FormatError::NothingToSignWith`] if records are chained and there is no secret.
    pub fn encode(&mut self, run: RunId, seq: u64, next: &EncodedRecord, secrets: &Secrets) -> Result<Bytes, Error> {
        let Some(before) = &mut self.before else { return record::encode(run, seq, next, secrets) };
        let bytes = record::encode_behind(run, seq, next, secrets, *before)?;
        *before = frame::signature(&bytes).unwrap_or(NOTHING);
        Ok(bytes)
    }

    /// Makes the bytes of a checkpoint, behind which the next record comes.
    ///
    /// # Errors
    /// As [`snapshot::seal_checkpoint`]; [`FormatError::NothingToSignWith`] if records are chained and there is no
    /// secret.
    pub fn seal(&mut self, image: &EncodedImage, standing: Standing, secrets: &Secrets) -> Result<Vec<u8>, Error> {
        if !self.signs_all() {
            return snapshot::seal_checkpoint(image, standing, secrets);
        }
        let bytes = snapshot::seal_chained_checkpoint(image, standing, secrets)?;
        self.before = snapshot::chain_signature(&bytes);
        Ok(bytes)
    }

    /// Reads the checkpoint of a run, and begins with the records behind it.
    ///
    /// # Errors
    /// As [`snapshot::open_checkpoint`]; [`FormatError::NotSignedWhole`] if everything must be signed and is not.
    pub fn open(run: &Loaded, signer: &Signer) -> Result<(EncodedImage, Self), Error> {
        let Some((seq, checkpoint)) = &run.checkpoint else {
            return Err(Error::InvalidRecord("a run in a journal begins with a checkpoint"));
        };
        let standing = Standing { seq: *seq, epoch: run.run.epoch };
        let chain = Self::behind(checkpoint);
        if signer.signs_all() && !chain.signs_all() {
            return Err(FormatError::NotSignedWhole { place: standing.to_string() }.into());
        }
        let image = snapshot::open_checkpoint(checkpoint.clone().into(), standing, &signer.secrets)?;
        if image.id != run.run.id {
            return Err(Error::InvalidImage("the checkpoint is of another run"));
        }
        Ok((image, chain))
    }

    /// Reads the next record.
    ///
    /// # Errors
    /// As [`record::decode`]; where records are chained, a [`FormatError`] unless it is the one that was written
    /// behind the last one.
    pub fn decode(&mut self, run: RunId, seq: u64, bytes: Bytes, secrets: &Secrets) -> Result<EncodedRecord, Error> {
        self.is_first_version &= frame::is_first_version(&bytes);
        if frame::is_first_version(&bytes) && !self.is_first_version {
            let what = "a record of an earlier version of the format".into();
            return Err(FormatError::Misplaced { what, wanted: format!("record {seq}, behind newer ones") }.into());
        }
        let Some(before) = &mut self.before else { return record::decode(run, seq, bytes, secrets) };
        let decoded = record::decode_behind(run, seq, bytes.clone(), secrets, *before)?;
        *before = frame::signature(&bytes).unwrap_or(NOTHING);
        Ok(decoded)
    }
}
