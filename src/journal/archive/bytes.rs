//! What an archive is made of: numbers of 8 bytes, and pieces of bytes behind their length.

use crate::error::FormatError;
use crate::run_id::RunId;

type Result<T> = std::result::Result<T, FormatError>;

/// Numbers are below this, as in every journal.
pub(super) const MOST: u64 = i64::MAX as u64;

#[derive(Default)]
pub(super) struct Output(pub(super) Vec<u8>);

impl Output {
    pub(super) fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    pub(super) fn piece(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// What may be missing, behind a byte that says whether it is there.
    pub(super) fn maybe<T>(&mut self, what: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.0.push(u8::from(what.is_some()));
        if let Some(what) = what {
            write(self, what);
        }
    }

    pub(super) fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.number(items.len() as u64);
        items.iter().for_each(|item| write(self, item));
    }
}

pub(super) struct Input<'a> {
    rest: &'a [u8],
    // How many bytes were before those.
    at: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { rest: bytes, at }
    }

    pub(super) fn malformed(&self, why: &'static str) -> FormatError {
        FormatError::Malformed { at: self.at, why }
    }

    pub(super) fn raw<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(|| self.malformed("the body ends too early"))?;
        (self.rest, self.at) = (rest, self.at + N);
        Ok(*bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        Ok(self.raw::<1>()?[0])
    }

    pub(super) fn number(&mut self) -> Result<u64> {
        let number = u64::from_be_bytes(self.raw()?);
        if number <= MOST { Ok(number) } else { Err(self.malformed("a number is too large")) }
    }

    pub(super) fn small(&mut self) -> Result<u32> {
        u32::try_from(self.number()?).map_err(|_| self.malformed("a number is too large"))
    }

    pub(super) fn piece(&mut self) -> Result<Vec<u8>> {
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let (piece, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| self.malformed("a piece is longer than what is left"))?;
        (self.rest, self.at) = (rest, self.at + length);
        Ok(piece.to_vec())
    }

    pub(super) fn text(&mut self) -> Result<String> {
        let piece = self.piece()?;
        String::from_utf8(piece).map_err(|_| self.malformed("a text is not UTF-8"))
    }

    pub(super) fn run(&mut self) -> Result<RunId> {
        Ok(RunId::from_bytes(self.raw()?))
    }

    pub(super) fn maybe<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        match self.byte()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(self.malformed("neither there nor missing")),
        }
    }

    /// A list of things that have at least so many bytes each.
    pub(super) fn list<T>(&mut self, least: usize, mut read: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if count > self.rest.len() / least {
            return Err(self.malformed("a list is longer than what is left"));
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    pub(super) fn finish(&self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed("there is more than the body says")) }
    }
}
