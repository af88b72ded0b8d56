//! A run as bytes: a snapshot, with a header, a body and a trailer. `docs/formats.md` tells it byte by byte.
//!
//! - this file: what can be done with snapshots;
//! - `head`: the bytes before and behind the body; `seal`, `open`: the body, there and back.

mod head;
mod open;
mod seal;

use bytes::Bytes;

use crate::error::{Error, FormatError};
use crate::image::EncodedImage;
use crate::secret::{KeyId, Secrets};
use crate::wire::read::Trust;
use head::Head;

/// The newest version of the format: the one that is written.
pub const VERSION: u16 = head::VERSION;

/// Makes the snapshot of a run. It is signed if there is a secret.
///
/// JSON values must hold JSON text: a snapshot that has others is not taken by [`open`].
///
/// # Errors
/// [`FormatError::SecretNeeded`] if there is an opaque value and no secret, [`Error::InvalidImage`] if no run has
/// such an image, [`FormatError::TooLarge`] and [`FormatError::Doubled`] for what the format cannot hold.
pub fn seal(image: &EncodedImage, secrets: &Secrets) -> Result<Vec<u8>, Error> {
    image.check()?;
    let key = secrets.signing();
    let mut bytes = Vec::with_capacity(head::LEN + seal::room(image) + head::MOST_TRAILER);
    bytes.resize(head::LEN, 0);
    let bytes = seal::body(image, key, bytes)?;
    Ok(head::close(bytes, key))
}

/// Makes the checkpoint of a run: a snapshot that is signed only if it holds an opaque value. Who can write to a
/// journal can change its JSON and binary values anyway.
///
/// # Errors
/// As [`seal`].
pub fn seal_checkpoint(image: &EncodedImage, secrets: &Secrets) -> Result<Vec<u8>, Error> {
    if image.has_opaque() { seal(image, secrets) } else { seal(image, &Secrets::none()) }
}

/// Reads a snapshot that may be trusted. Large values are parts of `bytes`, not copies.
///
/// # Errors
/// A [`FormatError`] if the bytes are not exactly what [`seal`] gave with one of the secrets (or, where there is
/// none, what it can give), [`Error::InvalidImage`] if no run has such an image.
pub fn open(bytes: Bytes, secrets: &Secrets) -> Result<EncodedImage, Error> {
    let head = Head::read(&bytes)?;
    let trust = head.trust(&bytes, secrets)?;
    read(&bytes, &head, trust)
}

/// Reads the checkpoint of a run, as [`seal_checkpoint`] made it.
///
/// # Errors
/// As [`open`]; one that is not signed must not hold an opaque value.
pub fn open_checkpoint(bytes: Bytes, secrets: &Secrets) -> Result<EncodedImage, Error> {
    match Head::read(&bytes)?.key {
        Some(_) => open(bytes, secrets),
        None => open(bytes, &Secrets::none()),
    }
}

/// What is in a snapshot, whoever made it.
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
    Ok(Inspection { version: VERSION, key: head.key, is_intact: head.is_intact(&bytes), image })
}

fn read(bytes: &Bytes, head: &Head, trust: Trust<'_>) -> Result<EncodedImage, Error> {
    let image = open::body(bytes, head::LEN..head.body_end, trust).map_err(|error| match error {
        // The header tells where the body ends, and there are that many bytes.
        FormatError::Truncated => FormatError::Malformed { at: head.body_end, why: "the body ends too early" },
        error => error,
    })?;
    image.check()?;
    Ok(image)
}
