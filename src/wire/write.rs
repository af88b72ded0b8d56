//! Writing: into one buffer, in one pass.

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use rmp::encode::{self, ByteBuf};

use super::place::{At, Place, Within};
use super::{Unfolded, doubled};
use crate::child::{Child, ChildEnd, OnParentEnd};
use crate::error::FormatError;
use crate::event::{Body, EncodedEvent};
use crate::memo::{Kept, Memo, MemoCall, Turn};
use crate::queue::Collected;
use crate::replay::Wanted;
use crate::run_id::RunId;
use crate::secret::{Key, Signed};
use crate::value::{Tag, Value};

/// The classes that a step collects, in their order.
pub(crate) type Expected = Arc<[Arc<str>]>;

/// A name that is met again is written as its number.
#[derive(Default)]
pub(crate) struct Known<'a> {
    names: HashMap<&'a str, u64>,
    lists: HashMap<Vec<(&'a str, usize)>, u64>,
    // The same lists by their address: most of them are shared, and long ones are compared only once.
    shared: HashMap<usize, u64>,
}

pub(crate) struct Writer<'a> {
    out: ByteBuf,
    run: RunId,
    within: Within,
    key: Option<&'a Key>,
    // What has been written under a number; nothing where everything is written out.
    known: Option<Known<'a>>,
    unfolded: Unfolded,
}

// A value costs no more than this besides its bytes, if it is not opaque; the same for a number or a name.
const MOST_OVERHEAD: usize = 9;

impl<'a> Writer<'a> {
    pub fn new(out: Vec<u8>, run: RunId, within: Within, key: Option<&'a Key>, known: Option<Known<'a>>) -> Self {
        Self { out: ByteBuf::from_vec(out), run, within, key, known, unfolded: Unfolded::default() }
    }

    /// The bytes, of which `more` will follow.
    pub fn finish(self, more: usize) -> Result<Vec<u8>, FormatError> {
        let out = self.out.into_vec();
        if !self.unfolded.is_within(out.len() + more) {
            return Err(FormatError::TooLarge { what: "what steps collect" });
        }
        Ok(out)
    }

    #[inline]
    pub fn uint(&mut self, number: u64) {
        let Ok(_) = encode::write_uint(&mut self.out, number);
    }

    pub fn maybe_uint(&mut self, number: Option<u64>) {
        match number {
            Some(number) => self.uint(number),
            None => self.nil(),
        }
    }

    pub fn index(&mut self, number: usize) {
        self.uint(number as u64);
    }

    pub fn bool(&mut self, value: bool) {
        let Ok(()) = encode::write_bool(&mut self.out, value);
    }

    pub fn nil(&mut self) {
        let Ok(()) = encode::write_nil(&mut self.out);
    }

    #[inline]
    pub fn array(&mut self, count: usize) -> Result<(), FormatError> {
        let Ok(_) = encode::write_array_len(&mut self.out, length(count, "a list")?);
        Ok(())
    }

    pub fn map(&mut self, count: usize) -> Result<(), FormatError> {
        let Ok(_) = encode::write_map_len(&mut self.out, length(count, "a map")?);
        Ok(())
    }

    #[inline]
    pub fn text(&mut self, text: &str) -> Result<(), FormatError> {
        self.text_bytes(text.as_bytes())
    }

    #[inline]
    fn text_bytes(&mut self, text: &[u8]) -> Result<(), FormatError> {
        let Ok(_) = encode::write_str_len(&mut self.out, length(text.len(), "a text")?);
        self.out.as_mut_vec().extend_from_slice(text);
        Ok(())
    }

    pub fn maybe_text(&mut self, text: Option<&str>) -> Result<(), FormatError> {
        match text {
            Some(text) => self.text(text),
            None => {
                self.nil();
                Ok(())
            }
        }
    }

    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let Ok(_) = encode::write_bin_len(&mut self.out, length(bytes.len(), "a binary value")?);
        self.out.as_mut_vec().extend_from_slice(bytes);
        Ok(())
    }

    /// A name that may come again.
    pub fn name(&mut self, name: &'a str) -> Result<(), FormatError> {
        if let Some(known) = &mut self.known {
            let next = known.names.len() as u64;
            match known.names.entry(name) {
                Entry::Occupied(number) => {
                    let number = *number.get();
                    self.uint(number);
                    return Ok(());
                }
                Entry::Vacant(place) => {
                    place.insert(next);
                }
            }
        }
        self.text(name)
    }

    pub fn maybe_name(&mut self, name: Option<&'a Arc<str>>) -> Result<(), FormatError> {
        match name {
            Some(name) => self.name(name),
            None => {
                self.nil();
                Ok(())
            }
        }
    }

    /// A list of classes that may come again: each class with how often it stands there in a row.
    pub fn expected(&mut self, expected: &'a Expected) -> Result<(), FormatError> {
        if let Some(number) = self.list_number(expected) {
            self.uint(number);
            return Ok(());
        }
        self.unfolded.expect(expected.len());
        self.array(runs(expected).count())?;
        for (class, count) in runs(expected) {
            self.array(2)?;
            self.name(class)?;
            self.index(count);
        }
        Ok(())
    }

    fn list_number(&mut self, expected: &'a Expected) -> Option<u64> {
        let known = self.known.as_mut()?;
        let address = expected.as_ptr().addr();
        // An empty list has no address of its own.
        if let Some(&number) = known.shared.get(&address).filter(|_| !expected.is_empty()) {
            return Some(number);
        }
        let next = known.lists.len() as u64;
        let number = *known.lists.entry(runs(expected).collect()).or_insert(next);
        known.shared.insert(address, number);
        (number != next).then_some(number)
    }

    /// Counts what a group takes that is not in its bytes.
    pub fn grouped(&mut self, collected: &Collected<Arc<str>, EncodedEvent>) {
        self.unfolded.group(collected.expected().len(), collected.distinct());
    }

    pub fn event(&mut self, event: &'a EncodedEvent, at: At<'_>) -> Result<(), FormatError> {
        self.array(2)?;
        self.name(&event.class)?;
        let place = |name| Place { at, owner: &event.class, name };
        match &event.body {
            Body::Whole(value) => self.value(value, &place(None)),
            Body::Fields(fields) => {
                self.map(fields.len())?;
                if let Some(name) = doubled(fields) {
                    return Err(FormatError::Doubled { place: place(Some(name)).to_string() });
                }
                for (name, value) in fields {
                    self.name(name)?;
                    self.value(value, &place(Some(name)))?;
                }
                Ok(())
            }
        }
    }

    /// What a deadline is for, as two numbers.
    pub fn wanted(&mut self, wanted: Wanted) {
        let (kind, micros) = match wanted {
            Wanted::Sleep(micros) => (0, micros),
            Wanted::Wait(micros) => (1, micros),
        };
        self.uint(kind);
        self.uint(micros);
    }

    /// The beginning of a record: its kind and its numbers, which `more` parts follow.
    pub fn record(&mut self, kind: u64, numbers: &[u64], more: usize) -> Result<(), FormatError> {
        self.array(1 + numbers.len() + more)?;
        self.uint(kind);
        numbers.iter().for_each(|&number| self.uint(number));
        Ok(())
    }

    pub fn events(&mut self, events: &'a [EncodedEvent], at: impl Fn(usize) -> At<'static>) -> Result<(), FormatError> {
        self.array(events.len())?;
        events.iter().enumerate().try_for_each(|(index, event)| self.event(event, at(index)))
    }

    /// A call that is made once, and what it gave.
    pub fn memo(&mut self, memo: &'a Memo<Value>, at: At<'_>) -> Result<(), FormatError> {
        let (is_failure, value) = match &memo.kept {
            Kept::Result(value) => (false, value),
            Kept::Failure(value) => (true, value),
            Kept::Child(child) => return self.child(&memo.call, child, at),
        };
        let (order, turn) = turn_parts(memo.call.turn);
        self.array(6)?;
        self.text(&memo.call.name)?;
        self.bytes(&memo.call.arguments)?;
        self.bool(order == ORDERED);
        self.uint(turn);
        self.bool(is_failure);
        let owner = memo_owner(&memo.call, is_failure);
        self.value(value, &Place { at, owner: &owner, name: Some(&memo.call.name) })
    }

    /// A call that has started a child.
    fn child(&mut self, call: &'a MemoCall, child: &'a Child<Value>, at: At<'_>) -> Result<(), FormatError> {
        let (order, turn) = turn_parts(call.turn);
        self.array(CHILD_PARTS)?;
        self.text(&call.name)?;
        self.bytes(&call.arguments)?;
        self.uint(order);
        self.uint(turn);
        self.bytes(child.id.as_bytes())?;
        self.text(&child.workflow)?;
        self.bool(child.on_parent_end == OnParentEnd::Detach);
        match &child.end {
            Some(end) => self.child_end(end, child.id, at)?,
            None => self.nil(),
        }
        match &child.inside {
            Some(inside) => self.bytes(inside),
            None => {
                self.nil();
                Ok(())
            }
        }
    }

    /// What a child gave.
    pub fn child_end(&mut self, end: &'a ChildEnd<Value>, child: RunId, at: At<'_>) -> Result<(), FormatError> {
        self.array(2)?;
        self.bool(end.is_failure());
        let owner = child_owner(child, end.is_failure());
        self.value(end.value(), &Place { at, owner: &owner, name: None })
    }

    #[inline]
    pub fn value(&mut self, value: &'a Value, place: &Place<'_>) -> Result<(), FormatError> {
        match value.tag {
            Tag::Json => self.text_bytes(&value.bytes),
            Tag::Binary => self.bytes(&value.bytes),
            Tag::MutableBinary => {
                self.array(1)?;
                self.bytes(&value.bytes)
            }
            Tag::Opaque => self.opaque(value, place),
        }
    }

    fn opaque(&mut self, value: &'a Value, place: &Place<'_>) -> Result<(), FormatError> {
        let class = value.class.as_ref();
        let Some(key) = self.key else {
            let class = class.map_or("object", |class| class).to_owned();
            return Err(FormatError::SecretNeeded { place: place.to_string(), class });
        };
        let signed = Signed {
            version: self.within.signature_version(),
            place: &self.within.name(place.at),
            owner: place.owner,
            name: place.name,
            class: class.map(|class| &**class),
            body: &value.bytes,
        };
        let signature = key.sign_value(self.run, &signed);
        self.array(3)?;
        self.maybe_name(class)?;
        self.bytes(&signature)?;
        self.bytes(&value.bytes)
    }
}

/// What is signed of a call beside its name, so that no value can be given to another call.
pub(crate) fn memo_owner(call: &MemoCall, is_failure: bool) -> String {
    let arguments = call.arguments.iter().map(|byte| format!("{byte:02x}"));
    let kind = if is_failure { "failure" } else { "result" };
    let (order, turn) = turn_parts(call.turn);
    let order = if order == ORDERED { "call" } else { "occurrence" };
    format!("{kind}/{order}/{turn}/{}", arguments.collect::<String>())
}

/// What is signed of what a child gave, so that no value can be given to another child.
pub(crate) fn child_owner(child: RunId, is_failure: bool) -> String {
    format!("{}/child/{child}", if is_failure { "failure" } else { "result" })
}

/// Of how many parts a call consists that has started a child.
pub(crate) const CHILD_PARTS: usize = 9;

pub(crate) const OCCURRENCE: u64 = 0;
pub(crate) const ORDERED: u64 = 1;
pub(crate) const NAMED: u64 = 2;

fn turn_parts(turn: Turn) -> (u64, u64) {
    match turn {
        Turn::Ordered(begun) => (ORDERED, begun),
        Turn::Occurrence(occurrence) => (OCCURRENCE, occurrence),
        Turn::Named => (NAMED, 0),
    }
}

/// Each class with how often it stands there in a row.
fn runs(expected: &Expected) -> impl Iterator<Item = (&str, usize)> {
    expected.chunk_by(|one, next| one == next).map(|run| (&*run[0], run.len()))
}

fn length(length: usize, what: &'static str) -> Result<u32, FormatError> {
    u32::try_from(length).map_err(|_| FormatError::TooLarge { what })
}

/// About how many bytes a value takes, never many too few.
pub(crate) fn room_for_value(value: &Value) -> usize {
    const SIGNATURE: usize = crate::secret::SIGNATURE_LEN + 8;
    value.bytes.len() + if value.tag == Tag::Opaque { MOST_OVERHEAD + SIGNATURE } else { MOST_OVERHEAD }
}

/// The same for an event.
pub(crate) fn room_for_event(event: &EncodedEvent) -> usize {
    event.values().map(|value| MOST_OVERHEAD + room_for_value(value)).sum::<usize>() + MOST_OVERHEAD
}
