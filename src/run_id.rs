//! The name of a run: a UUID of version 7.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A UUID version 7 (RFC 9562, section 5.7): sorts by the time it was made, to the millisecond.
///
/// ```
/// use treadle::RunId;
/// let id = RunId::new(1_700_000_000_000, [7; 10]);
/// assert_eq!(id.to_string().parse(), Ok(id));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId([u8; 16]);

/// The length of the text form.
pub const TEXT_LEN: usize = 36;

impl RunId {
    /// Makes an id from a time, in milliseconds since the Unix epoch (its low 48 bits), and 74 of the given
    /// random bits.
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&random);
        bytes[6] = 0x70 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        Self(bytes)
    }

    /// The id that has these bytes, most significant first.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// When it was made, in milliseconds since the Unix epoch.
    pub fn unix_ms(&self) -> u64 {
        self.0[..6].iter().fold(0, |time, byte| time << 8 | u64::from(*byte))
    }

    /// The sixteen bytes, most significant first.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The text form (`0198c0de-…`), written into an array.
    pub fn text(&self) -> [u8; TEXT_LEN] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; TEXT_LEN];
        let mut at = 0;
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                at += 1;
            }
            text[at] = HEX[usize::from(byte >> 4)];
            text[at + 1] = HEX[usize::from(byte & 15)];
            at += 2;
        }
        text
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).expect("hexadecimal digits and dashes"))
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunId({self})")
    }
}

impl FromStr for RunId {
    type Err = Error;

    /// Reads the text form of any UUID, upper or lower case.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::InvalidRunId(text.chars().take(64).collect());
        let digits: Vec<u8> = match text.len() {
            TEXT_LEN => text.bytes().enumerate().filter(|&(at, _)| !is_dash(at)).map(|(_, b)| b).collect(),
            _ => return Err(invalid()),
        };
        if text.bytes().enumerate().any(|(at, byte)| is_dash(at) != (byte == b'-')) {
            return Err(invalid());
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16).ok_or_else(invalid)?;
            let low = char::from(pair[1]).to_digit(16).ok_or_else(invalid)?;
            *byte = (high * 16 + low) as u8;
        }
        Ok(Self(bytes))
    }
}

fn is_dash(at: usize) -> bool {
    matches!(at, 8 | 13 | 18 | 23)
}
