//! A run as bytes: a snapshot, with a header, a body and a trailer. `docs/formats.md` tells it byte by byte.
//!
//! - this file: what can be done with snapshots;
//! - `head`: the bytes before and behind the body; `seal`, `open`: the body, there and back.

mod head;
mod open;
mod seal;

use std::fmt;

use bytes::Bytes;

use crate::error::{Error, FormatError};
use crate::image::EncodedImage;
use crate::secret::{Key, KeyId, Secrets, Signature};
use crate::wire::place::Within;
use crate::wire::read::Trust;
use head::Head;

/// The newest version of the format: the one that is written.
pub const VERSION: u16 = head::VERSION;

/// Where a checkpoint stands in the journal of its run. It is part of what is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The number of the last record that the checkpoint stands for.
    pub seq: u64,
    /// The epoch of the run in which it was written.
    pub epoch: u64,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the checkpoint at record {} in epoch {}", self.seq, self.epoch)
    }
}

/// Makes the snapshot of a run. It is signed if there is a secret.
///
/// JSON values must hold JSON text: a snapshot that has others is not taken by [`open`].
///
/// # Errors
/// [`FormatError::SecretNeeded`] if there is an opaque value and no secret, [`Error::InvalidImage`] if no run has
/// such an image, [`FormatError::TooLarge`] and [`FormatError::Doubled`] for what the format cannot hold.
pub fn seal(image: &EncodedImage, secrets: &Secrets) -> Result<Vec<u8>, Error> {
    seal_as(image, secrets.signing(), None, false)
}

/// Makes the checkpoint of a run: signed only if it holds an opaque value. Who can write to a journal can change its
/// JSON and binary values anyway.
///
/// # Errors
/// As [`seal`].
pub fn seal_checkpoint(image: &EncodedImage, standing: Standing, secrets: &Secrets) -> Result<Vec<u8>, Error> {
    let key = if image.has_opaque() { secrets.signing() } else { None };
    seal_as(image, key, Some(standing), false)
}

/// Makes the checkpoint of a run whose records are chained: always signed, and the first record behind it covers its
/// signature.
///
/// # Errors
/// As [`seal`]; [`FormatError::NothingToSignWith`] if there is no secret.
pub fn seal_chained_checkpoint(image: &EncodedImage, standing: Standing, secrets: &Secrets) -> Result<Vec<u8>, Error> {
    match secrets.signing() {
        Some(key) => seal_as(image, Some(key), Some(standing), true),
        None => Err(FormatError::NothingToSignWith { place: standing.to_string() }.into()),
    }
}

fn seal_as(
    image: &EncodedImage,
    key: Option<&Key>,
    standing: Option<Standing>,
    is_chained: bool,
) -> Result<Vec<u8>, Error> {
    image.check()?;
    let head = head::len(standing);
    let mut bytes = Vec::with_capacity(head + seal::room(image) + head::MOST_TRAILER);
    bytes.resize(head, 0);
    let within = match standing {
        Some(Standing { seq, epoch }) => Within::Checkpoint { seq, epoch },
        None => Within::Snapshot,
    };
    let bytes = seal::body(image, within, key, bytes)?;
    Ok(head::close(bytes, key, standing, is_chained))
}

/// Reads a snapshot that may be trusted. Large values are parts of `bytes`, not copies.
///
/// # Errors
/// A [`FormatError`] if the bytes are not exactly what [`seal`] gave with one of the secrets (or, where there is
/// none, what it can give), [`Error::InvalidImage`] if no run has such an image.
pub fn open(bytes: Bytes, secrets: &Secrets) -> Result<EncodedImage, Error> {
    let head = Head::read(&bytes)?;
    head.check_snapshot()?;
    let trust = head.trust(&bytes, secrets)?;
    read(&bytes, &head, trust)
}

/// Reads the checkpoint of a run that stands here, as [`seal_checkpoint`] or [`seal_chained_checkpoint`] made it, in
/// this epoch or an earlier one. One of the first version of the format does not say where it stands.
///
/// # Errors
/// As [`open`]; [`FormatError::Misplaced`] if it was made for another place. One that is not signed must not hold an
/// opaque value.
pub fn open_checkpoint(bytes: Bytes, standing: Standing, secrets: &Secrets) -> Result<EncodedImage, Error> {
    let head = Head::read(&bytes)?;
    let nothing = Secrets::none();
    // The signature comes first: what is not signed as it should be says nothing of where it stands.
    let trust = head.trust(&bytes, if head.key.is_some() { secrets } else { &nothing })?;
    head.check_checkpoint(standing)?;
    read(&bytes, &head, trust)
}

/// The signature of a checkpoint that records are chained to, if it is one. It is not checked.
pub(crate) fn chain_signature(bytes: &[u8]) -> Option<Signature> {
    let head = Head::read(bytes).ok()?;
    bytes.last_chunk().copied().filter(|_| head.is_chained)
}

/// Which key a snapshot or a checkpoint says that it is signed with; it is not checked.
pub(crate) fn key_id(bytes: &[u8]) -> Option<KeyId> {
    Head::read(bytes).ok()?.key
}

/// Whether it is of the first version of the format.
pub(crate) fn is_first_version(bytes: &[u8]) -> bool {
    Head::read(bytes).is_ok_and(|head| head.version == head::FIRST_VERSION)
}

/// The contents of a snapshot, trusted or not.
#[derive(Debug, PartialEq)]
pub struct Inspection {
    /// The version of the format.
    pub version: u16,
    /// Which key it says that it is signed with; nothing if it is not signed.
    pub key: Option<KeyId>,
    /// Whether the checksum of an unsigned snapshot matches. A signed one has none.
    pub is_intact: Option<bool>,
    /// The run. Nothing of it may be trusted: its opaque values must not be read.
    pub image: EncodedImage,
}

/// Reads a snapshot to look at it: nothing of it is trusted, and nothing of it is to be executed.
///
/// # Errors
/// A [`FormatError`] if the bytes are not a snapshot, [`Error::InvalidImage`] if no run has such an image.
pub fn read_unverified(bytes: Bytes) -> Result<Inspection, Error> {
    let head = Head::read(&bytes)?;
    let image = read(&bytes, &head, Trust::Unverified)?;
    Ok(Inspection { version: head.version, key: head.key, is_intact: head.is_intact(&bytes), image })
}

fn read(bytes: &Bytes, head: &Head, trust: Trust<'_>) -> Result<EncodedImage, Error> {
    let image = open::body(bytes, head.body.clone(), head.within(), trust).map_err(|error| match error {
        // The header tells where the body ends, and there are that many bytes.
        FormatError::Truncated => FormatError::Malformed { at: head.body.end, why: "the body ends too early" },
        error => error,
    })?;
    image.check()?;
    Ok(image)
}
