//! What the fuzz targets have in common: bytes that get past the checksum, so that what is behind it is tried too.

use bytes::Bytes;
use treadle::{RunId, Secrets};

/// The secrets that the seeds are signed with.
pub fn secrets() -> Secrets {
    Secrets::new(["the secret that signs", "an older secret of the same"]).unwrap()
}

/// The run of the seeds.
pub fn run() -> RunId {
    RunId::new(1_700_000_000_000, [7; 10])
}

/// The same snapshot, told to be unsigned and of the present version, with the right length and the right checksum.
pub fn unsigned(data: &[u8]) -> Option<Bytes> {
    let body = data.get(28..)?;
    let mut bytes = b"treadle\x1a\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".to_vec();
    bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
    bytes.extend_from_slice(body);
    let checksum = xxhash_rust::xxh3::xxh3_128(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    Some(bytes.into())
}

/// The same record with the right checksum.
pub fn checked(run: RunId, seq: u64, data: &[u8]) -> Bytes {
    let halves = u128::from_be_bytes(*run.as_bytes());
    let seed = seq ^ (halves >> 64) as u64 ^ halves as u64;
    let checksum = xxhash_rust::xxh3::xxh3_64_with_seed(data, seed);
    [data, &checksum.to_be_bytes()].concat().into()
}

/// The body of an archive with the right header and the right checksum.
pub fn archived(body: &[u8]) -> Vec<u8> {
    let mut bytes = b"trdlrun\x1a\x00\x01\x00\x00".to_vec();
    bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
    bytes.extend_from_slice(body);
    let checksum = xxhash_rust::xxh3::xxh3_128(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    bytes
}
