//! Reading: nothing is believed, and nothing is allocated that the bytes at hand could not fill.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashSet;
use rmp::Marker;

use super::place::{At, Place, Within};
use super::write::{CHILD_PARTS, Expected, NAMED, OCCURRENCE, ORDERED, child_owner, memo_owner};
use super::{Unfolded, doubled, json};
use crate::child::{Child, ChildEnd, OnParentEnd};
use crate::error::FormatError;
use crate::event::{Body, EncodedEvent};
use crate::memo::{Kept, Memo, MemoCall, Turn};
use crate::queue::Collected;
use crate::replay::Wanted;
use crate::run_id::RunId;
use crate::secret::{Key, SIGNATURE_LEN, Signed};
use crate::value::{Tag, Value};

/// What becomes of opaque values.
#[derive(Clone, Copy)]
pub(crate) enum Trust<'a> {
    /// Each must be signed with this key.
    Signed(&'a Key),
    /// There must be none.
    Unsigned,
    /// They are taken as they are, to be looked at and never to be read.
    Unverified,
}

/// What has been read under a number.
#[derive(Default)]
pub(crate) struct Known {
    names: Vec<Arc<str>>,
    lists: Vec<Expected>,
    is_name: HashSet<Arc<str>>,
    is_list: HashSet<Vec<(Arc<str>, usize)>>,
}

pub(crate) struct Reader<'a> {
    whole: &'a Bytes,
    at: usize,
    end: usize,
    run: RunId,
    within: Within,
    trust: Trust<'a>,
    // Nothing where everything is written out.
    known: Option<Known>,
    unfolded: Unfolded,
    has_opaque: bool,
}

// A smaller value is copied, so that it does not keep all of the bytes in memory.
const SMALLEST_SLICE: usize = 4096;

type Result<T> = std::result::Result<T, FormatError>;

impl<'a> Reader<'a> {
    /// A reader of a part of `whole`.
    pub fn new(whole: &'a Bytes, part: Range<usize>, within: Within, trust: Trust<'a>, known: Option<Known>) -> Self {
        // No run is known yet, and no value was signed for this one.
        let run = RunId::from_bytes([0; 16]);
        let (at, end) = (part.start, part.end.min(whole.len()));
        Self { whole, at, end, run, within, trust, known, unfolded: Unfolded::default(), has_opaque: false }
    }

    /// Of which run the values are that follow.
    pub fn set_run(&mut self, run: RunId) {
        self.run = run;
    }

    /// Whether an opaque value was read.
    pub fn has_opaque(&self) -> bool {
        self.has_opaque
    }

    /// Nothing may follow.
    pub fn finish(&self) -> Result<()> {
        if self.at == self.end { Ok(()) } else { Err(self.malformed("something follows that does not belong here")) }
    }

    #[cold]
    pub fn malformed(&self, why: &'static str) -> FormatError {
        FormatError::Malformed { at: self.at, why }
    }

    fn rest(&self) -> usize {
        self.end - self.at
    }

    #[inline]
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.end).ok_or(FormatError::Truncated)?;
        let taken = &self.whole[self.at..end];
        self.at = end;
        Ok(taken)
    }

    #[inline]
    fn marker(&mut self) -> Result<Marker> {
        Ok(Marker::from_u8(self.take(1)?[0]))
    }

    fn peek(&self) -> Result<Marker> {
        let rest = &self.whole[self.at..self.end];
        rest.first().map(|&byte| Marker::from_u8(byte)).ok_or(FormatError::Truncated)
    }

    /// A number of `size` bytes that would not fit into fewer.
    #[inline]
    fn number(&mut self, size: usize, least: u64) -> Result<u64> {
        let number = self.take(size)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        if number < least { Err(self.malformed("a number is longer than it needs to be")) } else { Ok(number) }
    }

    #[inline]
    pub fn uint(&mut self) -> Result<u64> {
        match self.marker()? {
            Marker::FixPos(number) => Ok(u64::from(number)),
            Marker::U8 => self.number(1, 1 << 7),
            Marker::U16 => self.number(2, 1 << 8),
            Marker::U32 => self.number(4, 1 << 16),
            Marker::U64 => self.number(8, 1 << 32),
            _ => Err(self.malformed("a number is missing")),
        }
    }

    pub fn small_uint(&mut self) -> Result<u32> {
        u32::try_from(self.uint()?).map_err(|_| self.malformed("a number is too large"))
    }

    pub fn index(&mut self) -> Result<usize> {
        usize::try_from(self.uint()?).map_err(|_| self.malformed("a number is too large"))
    }

    fn is_nil(&mut self) -> Result<bool> {
        let is_nil = self.peek()? == Marker::Null;
        self.at += usize::from(is_nil);
        Ok(is_nil)
    }

    /// What `read` reads, or nothing.
    pub fn maybe<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.is_nil()? { Ok(None) } else { read(self).map(Some) }
    }

    pub fn bool(&mut self) -> Result<bool> {
        match self.marker()? {
            Marker::False => Ok(false),
            Marker::True => Ok(true),
            _ => Err(self.malformed("yes or no is missing")),
        }
    }

    /// How many things follow; each of them takes a byte at least.
    fn count(&mut self, count: u64) -> Result<usize> {
        usize::try_from(count).ok().filter(|&count| count <= self.rest()).ok_or(FormatError::Truncated)
    }

    pub fn array(&mut self) -> Result<usize> {
        let count = match self.marker()? {
            Marker::FixArray(count) => u64::from(count),
            Marker::Array16 => self.number(2, 1 << 4)?,
            Marker::Array32 => self.number(4, 1 << 16)?,
            _ => return Err(self.malformed("a list is missing")),
        };
        self.count(count)
    }

    /// A list of a length that is known.
    pub fn array_of(&mut self, count: usize) -> Result<()> {
        if self.array()? == count { Ok(()) } else { Err(self.malformed("a list has the wrong length")) }
    }

    pub fn map(&mut self) -> Result<usize> {
        let count = match self.marker()? {
            Marker::FixMap(count) => u64::from(count),
            Marker::Map16 => self.number(2, 1 << 4)?,
            Marker::Map32 => self.number(4, 1 << 16)?,
            _ => return Err(self.malformed("a map is missing")),
        };
        self.count(count)
    }

    /// A list of things that take `least` bytes each or more.
    pub fn list<T>(&mut self, least: usize, mut read: impl FnMut(&mut Self, usize) -> Result<T>) -> Result<Vec<T>> {
        let count = self.array()?;
        let mut list = Vec::with_capacity(count.min(self.rest() / least));
        for index in 0..count {
            list.push(read(self, index)?);
        }
        Ok(list)
    }

    #[inline]
    fn text_bytes(&mut self) -> Result<Range<usize>> {
        let length = match self.marker()? {
            Marker::FixStr(length) => u64::from(length),
            Marker::Str8 => self.number(1, 1 << 5)?,
            Marker::Str16 => self.number(2, 1 << 8)?,
            Marker::Str32 => self.number(4, 1 << 16)?,
            _ => return Err(self.malformed("a text is missing")),
        };
        self.span(length)
    }

    #[inline]
    fn span(&mut self, length: u64) -> Result<Range<usize>> {
        let length = self.count(length)?;
        self.take(length)?;
        Ok(self.at - length..self.at)
    }

    #[inline]
    pub fn text(&mut self) -> Result<&'a str> {
        let span = self.text_bytes()?;
        std::str::from_utf8(&self.whole[span]).map_err(|_| self.malformed("a text is not UTF-8"))
    }

    #[inline]
    fn binary(&mut self) -> Result<Range<usize>> {
        let length = match self.marker()? {
            Marker::Bin8 => self.number(1, 0)?,
            Marker::Bin16 => self.number(2, 1 << 8)?,
            Marker::Bin32 => self.number(4, 1 << 16)?,
            _ => return Err(self.malformed("a binary value is missing")),
        };
        self.span(length)
    }

    /// Bytes of a length that is known.
    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let span = self.binary()?;
        self.whole[span].try_into().map_err(|_| self.malformed("a binary value has the wrong length"))
    }

    /// A call that is made once, and what it gave.
    pub fn memo(&mut self, at: At<'_>) -> Result<Memo<Value>> {
        match self.array()? {
            6 => {}
            CHILD_PARTS => return self.child(at),
            _ => return Err(self.malformed("a list has the wrong length")),
        }
        let (name, arguments) = (self.text()?.into(), self.bytes()?);
        let is_ordered = self.bool()?;
        let turn = if is_ordered { Turn::Ordered(self.uint()?) } else { Turn::Occurrence(self.uint()?) };
        let call = MemoCall { name, arguments, turn };
        let is_failure = self.bool()?;
        let owner = memo_owner(&call, is_failure);
        let value = self.value(&Place { at, owner: &owner, name: Some(&call.name) })?;
        Ok(Memo { kept: if is_failure { Kept::Failure(value) } else { Kept::Result(value) }, call })
    }

    fn child(&mut self, at: At<'_>) -> Result<Memo<Value>> {
        let (name, arguments) = (self.text()?.into(), self.bytes()?);
        let turn = match (self.uint()?, self.uint()?) {
            (OCCURRENCE, occurrence) => Turn::Occurrence(occurrence),
            (ORDERED, begun) => Turn::Ordered(begun),
            (NAMED, 0) => Turn::Named,
            _ => return Err(self.malformed("a call has no such order")),
        };
        let (id, workflow) = (RunId::from_bytes(self.bytes()?), self.text()?.into());
        let on_parent_end = if self.bool()? { OnParentEnd::Detach } else { OnParentEnd::Cancel };
        let end = self.maybe(|from| from.child_end(id, at))?;
        let inside = self.maybe(|from| {
            let span = from.binary()?;
            Ok(from.slice(span))
        })?;
        let child = Child { id, workflow, on_parent_end, end, inside };
        Ok(Memo { call: MemoCall { name, arguments, turn }, kept: Kept::Child(Box::new(child)) })
    }

    /// What a child gave.
    pub fn child_end(&mut self, child: RunId, at: At<'_>) -> Result<ChildEnd<Value>> {
        self.array_of(2)?;
        let is_failure = self.bool()?;
        let owner = child_owner(child, is_failure);
        let value = self.value(&Place { at, owner: &owner, name: None })?;
        Ok(if is_failure { ChildEnd::Failure(value) } else { ChildEnd::Result(value) })
    }

    /// What a deadline is for.
    pub fn wanted(&mut self) -> Result<Wanted> {
        match self.uint()? {
            0 => Ok(Wanted::Sleep(self.uint()?)),
            1 => Ok(Wanted::Wait(self.uint()?)),
            _ => Err(self.malformed("a deadline has no such purpose")),
        }
    }

    pub fn name(&mut self) -> Result<Arc<str>> {
        if let (Some(_), Marker::FixPos(_) | Marker::U8 | Marker::U16 | Marker::U32) = (&self.known, self.peek()?) {
            let number = self.index()?;
            let name = self.known.as_ref().and_then(|known| known.names.get(number));
            return name.cloned().ok_or_else(|| self.malformed("a name has no such number"));
        }
        let name = Arc::<str>::from(self.text()?);
        if let Some(known) = &mut self.known {
            if !known.is_name.insert(name.clone()) {
                return Err(self.malformed("a name has two numbers"));
            }
            known.names.push(name.clone());
        }
        Ok(name)
    }

    pub fn expected(&mut self) -> Result<Expected> {
        if let (Some(_), Marker::FixPos(_) | Marker::U8 | Marker::U16 | Marker::U32) = (&self.known, self.peek()?) {
            let number = self.index()?;
            let list = self.known.as_ref().and_then(|known| known.lists.get(number));
            return list.cloned().ok_or_else(|| self.malformed("a list of classes has no such number"));
        }
        let runs = self.runs()?;
        let list = unfold(&runs);
        if let Some(known) = &mut self.known {
            if !known.is_list.insert(runs) {
                return Err(self.malformed("a list of classes has two numbers"));
            }
            known.lists.push(list.clone());
        }
        Ok(list)
    }

    fn runs(&mut self) -> Result<Vec<(Arc<str>, usize)>> {
        let mut runs: Vec<(Arc<str>, usize)> = Vec::new();
        for _ in 0..self.array()? {
            self.array_of(2)?;
            let class = self.name()?;
            let count = self.index()?;
            if count == 0 || runs.last().is_some_and(|(last, _)| *last == class) {
                return Err(self.malformed("classes in a row are not counted together"));
            }
            self.unfolded.expect(count);
            self.check_unfolded()?;
            runs.push((class, count));
        }
        Ok(runs)
    }

    /// A group that has nothing yet.
    pub fn group(&mut self) -> Result<Collected<Arc<str>, EncodedEvent>> {
        let expected = self.expected()?;
        self.unfolded.group(expected.len(), 0);
        self.check_unfolded()?;
        let collected = Collected::new(expected);
        self.unfolded.group(0, collected.distinct());
        self.check_unfolded()?;
        Ok(collected)
    }

    fn check_unfolded(&self) -> Result<()> {
        let is_within = self.unfolded.is_within(self.whole.len());
        if is_within { Ok(()) } else { Err(FormatError::TooLarge { what: "what steps collect" }) }
    }

    pub fn event(&mut self, at: At<'_>) -> Result<EncodedEvent> {
        self.array_of(2)?;
        let class = self.name()?;
        let body = match self.peek()? {
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => Body::Fields(self.fields(at, &class)?),
            _ => Body::Whole(self.value(&Place { at, owner: &class, name: None })?),
        };
        Ok(EncodedEvent { class, body })
    }

    pub fn events(&mut self, at: impl Fn(usize) -> At<'static>) -> Result<Vec<EncodedEvent>> {
        const LEAST: usize = 3;
        self.list(LEAST, |reader, index| reader.event(at(index)))
    }

    fn fields(&mut self, at: At<'_>, owner: &str) -> Result<Vec<(Arc<str>, Value)>> {
        const LEAST: usize = 3;
        let count = self.map()?;
        let mut fields: Vec<(Arc<str>, Value)> = Vec::with_capacity(count.min(self.rest() / LEAST));
        for _ in 0..count {
            let name = self.name()?;
            let value = self.value(&Place { at, owner, name: Some(&name) })?;
            fields.push((name, value));
        }
        match doubled(&fields) {
            None => Ok(fields),
            Some(name) => Err(FormatError::Doubled { place: Place { at, owner, name: Some(name) }.to_string() }),
        }
    }

    #[inline]
    pub fn value(&mut self, place: &Place<'_>) -> Result<Value> {
        match self.peek()? {
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                let span = self.text_bytes()?;
                json::check(&self.whole[span.clone()])
                    .map_err(|why| FormatError::NotJson { place: place.to_string(), why })?;
                Ok(Value::new(Tag::Json, self.slice(span)))
            }
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
                let span = self.binary()?;
                Ok(Value::new(Tag::Binary, self.slice(span)))
            }
            Marker::FixArray(1) => {
                self.array()?;
                let span = self.binary()?;
                Ok(Value::new(Tag::MutableBinary, self.slice(span)))
            }
            Marker::FixArray(3) => self.opaque(place),
            _ => Err(self.malformed("a value is missing")),
        }
    }

    fn opaque(&mut self, place: &Place<'_>) -> Result<Value> {
        self.array()?;
        let class = self.maybe(Self::name)?;
        let signature = self.bytes::<SIGNATURE_LEN>()?;
        let span = self.binary()?;
        let body = &self.whole[span.clone()];
        self.has_opaque = true;
        match self.trust {
            Trust::Unverified => {}
            Trust::Unsigned => {
                let class = class.as_deref().unwrap_or("object").to_owned();
                return Err(FormatError::SecretNeeded { place: place.to_string(), class });
            }
            Trust::Signed(key) => {
                let signed = Signed {
                    version: self.within.signature_version(),
                    place: &self.within.name(place.at),
                    owner: place.owner,
                    name: place.name,
                    class: class.as_deref(),
                    body,
                };
                if !key.is_of_value(&signature, self.run, &signed) {
                    return Err(FormatError::ValueChanged { place: place.to_string() });
                }
            }
        }
        Ok(Value { tag: Tag::Opaque, class, bytes: self.slice(span) })
    }

    fn slice(&self, span: Range<usize>) -> Bytes {
        if span.len() < SMALLEST_SLICE { Bytes::copy_from_slice(&self.whole[span]) } else { self.whole.slice(span) }
    }
}

/// A list from its runs, made in place: from an iterator of another length it would be made twice.
fn unfold(runs: &[(Arc<str>, usize)]) -> Expected {
    let mut classes = runs.iter().flat_map(|(class, count)| std::iter::repeat_n(class, *count));
    let count = runs.iter().map(|(_, count)| count).sum();
    (0..count).map(|_| classes.next().cloned().unwrap_or_default()).collect()
}
