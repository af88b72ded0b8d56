//! What is written down: snapshots and records, their signatures, and what is made of bytes that are neither.

mod arbitrary;
mod archive;
mod chain;
mod golden;
mod hostile;
mod json;
mod mutants;
mod places;
mod record;
mod signing;
mod snapshot;

use bytes::Bytes;
use treadle::{EncodedImage, Error, FormatError, Secrets, snapshot as format};

/// The bytes around the body of a snapshot.
const HEAD: usize = 28;

fn secrets() -> Secrets {
    Secrets::new(["the secret that signs", "an older secret of the same"]).unwrap()
}

fn no_secrets() -> Secrets {
    Secrets::none()
}

fn sealed(image: &EncodedImage, secrets: &Secrets) -> Bytes {
    format::seal(image, secrets).unwrap().into()
}

/// Why the bytes are not taken.
fn refusal(bytes: impl Into<Bytes>, secrets: &Secrets) -> FormatError {
    match format::open(bytes.into(), secrets) {
        Err(Error::Format(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// The same bytes with another checksum, that matches.
fn with_checksum(mut bytes: Vec<u8>) -> Bytes {
    let end = bytes.len() - 16;
    let checksum = xxhash_rust::xxh3::xxh3_128(&bytes[..end]);
    bytes[end..].copy_from_slice(&checksum.to_be_bytes());
    bytes.into()
}

/// An unsigned snapshot with a body of one's own.
fn unsigned(body: &[u8]) -> Bytes {
    let mut bytes = b"treadle\x1a\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".to_vec();
    bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(&[0; 16]);
    with_checksum(bytes)
}
