//! Bytes as hexadecimal digits, two for each byte: how names are shown.

use std::fmt;

/// Shows bytes as digits.
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The bytes that digits show; nothing if the text is no such digits.
#[cfg(any(test, feature = "python"))]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some((digit(pair[0])? * 16 + digit(*pair.get(1)?)?) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_show_the_bytes_that_they_are_read_as() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&Hex(&bytes).to_string()), Some(bytes));
        assert_eq!(Hex(&[0, 0x0a, 0xff]).to_string(), "000aff");
    }

    #[test]
    fn what_is_no_pairs_of_digits_shows_nothing() {
        for text in ["a", "0g", "é", "0x00", "00 "] {
            assert_eq!(from_hex(text), None, "{text:?}");
        }
    }
}
