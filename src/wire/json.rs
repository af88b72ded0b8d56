//! Whether bytes are JSON text as a value may hold it: RFC 8259, and nothing that would be read as another value
//! or not at all.

use std::ops::ControlFlow::{Break, Continue};

use crate::value::{MAX_DEPTH, any_needs_escape};

type Check = Result<(), &'static str>;

/// Checks that the bytes are one JSON value in UTF-8, at most [`MAX_DEPTH`] containers deep, with integers of 64
/// bits, finite floats and whole characters.
pub(crate) fn check(text: &[u8]) -> Check {
    let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8")?;
    Checker { text, at: 0, open: 0, depth: 0 }.check()
}

struct Checker<'a> {
    text: &'a str,
    at: usize,
    // The containers that are open, the innermost in the lowest bit: 1 is a dict, 0 a list.
    open: u128,
    depth: usize,
}

const _: () = assert!(MAX_DEPTH <= u128::BITS as usize);

impl Checker<'_> {
    fn check(mut self) -> Check {
        loop {
            self.skip_space();
            if self.value()?.is_break() {
                self.skip_space();
                return if self.at == self.text.len() { Ok(()) } else { Err("something follows the value") };
            }
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// One value, or the beginning of one: goes on where the next value stands, and breaks where none does.
    fn value(&mut self) -> Result<std::ops::ControlFlow<()>, &'static str> {
        match self.peek() {
            Some(b'"') => self.string()?,
            Some(b'{') => return self.begin(true, b'}'),
            Some(b'[') => return self.begin(false, b']'),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.literal("true")?,
            Some(b'f') => self.literal("false")?,
            Some(b'n') => self.literal("null")?,
            _ => return Err("a value is missing"),
        }
        self.after()
    }

    fn begin(&mut self, is_dict: bool, end: u8) -> Result<std::ops::ControlFlow<()>, &'static str> {
        if self.depth == MAX_DEPTH {
            return Err("it is nested too deep");
        }
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(end) {
            self.at += 1;
            return self.after();
        }
        self.depth += 1;
        self.open = self.open << 1 | u128::from(is_dict);
        if is_dict {
            self.key()?;
        }
        Ok(Continue(()))
    }

    /// What follows a value.
    fn after(&mut self) -> Result<std::ops::ControlFlow<()>, &'static str> {
        while self.depth > 0 {
            self.skip_space();
            let is_dict = self.open & 1 == 1;
            let next = self.peek();
            self.at += 1;
            match next {
                Some(b',') => {
                    if is_dict {
                        self.skip_space();
                        self.key()?;
                    }
                    return Ok(Continue(()));
                }
                Some(b'}') if is_dict => {}
                Some(b']') if !is_dict => {}
                _ => return Err("a list or a dict does not end"),
            }
            self.depth -= 1;
            self.open >>= 1;
        }
        Ok(Break(()))
    }

    fn key(&mut self) -> Check {
        if self.peek() != Some(b'"') {
            return Err("a key is missing");
        }
        self.string()?;
        self.skip_space();
        self.expect(b':', "a key has no value")
    }

    fn expect(&mut self, byte: u8, otherwise: &'static str) -> Check {
        let is_there = self.peek() == Some(byte);
        self.at += 1;
        if is_there { Ok(()) } else { Err(otherwise) }
    }

    fn literal(&mut self, literal: &str) -> Check {
        let is_there = self.text.as_bytes()[self.at..].starts_with(literal.as_bytes());
        self.at += literal.len();
        if is_there { Ok(()) } else { Err("a value is missing") }
    }

    fn string(&mut self) -> Check {
        self.at += 1;
        loop {
            self.skip_plain();
            let next = self.peek();
            self.at += 1;
            match next {
                Some(b'"') => return Ok(()),
                Some(b'\\') => self.escape()?,
                Some(byte) if byte < 0x20 => return Err("a control character has no escape"),
                Some(_) => {}
                None => return Err("a text does not end"),
            }
        }
    }

    #[inline]
    fn skip_plain(&mut self) {
        let rest = &self.text.as_bytes()[self.at.min(self.text.len())..];
        let words = rest.as_chunks::<8>().0;
        self.at += 8 * words.iter().take_while(|word| !any_needs_escape(u64::from_le_bytes(**word))).count();
    }

    fn escape(&mut self) -> Check {
        let next = self.peek();
        self.at += 1;
        match next {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => self.code_unit(),
            _ => Err("there is no such escape"),
        }
    }

    fn code_unit(&mut self) -> Check {
        const NO_PAIR: &str = "half of a character is missing";
        match self.hex()? {
            0xd800..=0xdbff => {
                self.expect(b'\\', NO_PAIR)?;
                self.expect(b'u', NO_PAIR)?;
                if matches!(self.hex()?, 0xdc00..=0xdfff) { Ok(()) } else { Err(NO_PAIR) }
            }
            0xdc00..=0xdfff => Err(NO_PAIR),
            _ => Ok(()),
        }
    }

    fn hex(&mut self) -> Result<u32, &'static str> {
        const NO_HEX: &str = "an escape has no four digits";
        let digits = self.text.as_bytes().get(self.at..).and_then(|rest| rest.first_chunk::<4>()).ok_or(NO_HEX)?;
        self.at += 4;
        digits.iter().try_fold(0, |number, &digit| Some(number << 4 | char::from(digit).to_digit(16)?)).ok_or(NO_HEX)
    }

    fn number(&mut self) -> Check {
        // An integer of fewer digits fits 64 bits, and a float without exponent is finite.
        const MANY_DIGITS: usize = 19;
        const TOO_LARGE: &str = "a number is too large";
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let first = self.peek();
        let digits = self.digits()?;
        if digits > 1 && first == Some(b'0') {
            return Err("a number begins with a zero");
        }
        let is_float = self.fraction()?;
        let has_exponent = self.exponent()?;
        if digits < MANY_DIGITS && !has_exponent {
            return Ok(());
        }
        let number = &self.text[start..self.at];
        let fits = match is_float || has_exponent {
            true => number.parse::<f64>().is_ok_and(f64::is_finite),
            false => number.parse::<i64>().is_ok(),
        };
        if fits { Ok(()) } else { Err(TOO_LARGE) }
    }

    fn fraction(&mut self) -> Result<bool, &'static str> {
        let is_there = self.peek() == Some(b'.');
        if is_there {
            self.at += 1;
            self.digits()?;
        }
        Ok(is_there)
    }

    fn exponent(&mut self) -> Result<bool, &'static str> {
        let is_there = matches!(self.peek(), Some(b'e' | b'E'));
        if is_there {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(is_there)
    }

    fn digits(&mut self) -> Result<usize, &'static str> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > start { Ok(self.at - start) } else { Err("a digit is missing") }
    }
}
