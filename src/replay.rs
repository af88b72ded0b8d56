//! What one delivery has done so far, for a body that runs again: in another attempt, or in another process.
//!
//! A body that is run again starts at its first line. What it had received, collected and sent stays as it is:
//! it gets the same events once more, what it sends once more is not delivered twice, and the calls that it makes once are
//! not made again.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::memo::Memos;
use crate::timers::Time;
use crate::value::Value;

/// How many earlier attempts a delivery remembers; of those before, only the number.
pub const MOST_FAILURES: usize = 100;

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which attempt it was.
    pub attempt: u32,
    /// What it raised, as text.
    pub text: Box<str>,
}

impl Failure {
    /// The text of a failure: the attempt, the class of what was raised, and what that says.
    pub fn text_of(attempt: u32, class: &str, text: &str) -> String {
        format!("{}{class}: {text}", Self::prefix(attempt))
    }

    /// The class of what was raised, and what that says; nothing if the text has another form.
    pub fn parts(&self) -> Option<(&str, &str)> {
        self.text.strip_prefix(&Self::prefix(self.attempt))?.split_once(": ")
    }

    fn prefix(attempt: u32) -> String {
        format!("attempt {attempt}: ")
    }
}

/// What a deadline is for that a body has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// To sleep this many microseconds.
    Sleep(Time),
    /// To wait for an event for at most this many microseconds.
    Wait(Time),
}

/// A call of `collect` and what it gave: nothing, or all the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection<E, C> {
    /// The name of the group.
    pub key: Option<Box<str>>,
    /// The classes that were expected.
    pub expected: Arc<[C]>,
    /// The events, if the call completed the group.
    pub events: Option<Vec<E>>,
}

/// What a delivery remembers of the bodies that ran for it.
#[derive(Debug)]
pub struct Replay<E, C, V = Value> {
    /// The attempts that failed, the last ones of them.
    pub failures: Vec<Failure>,
    /// The events that it waited for and got, in that order.
    pub received: Vec<E>,
    /// Its calls of `collect`, in that order.
    pub collected: Vec<Collection<E, C>>,
    /// A digest of each event that it sent, in that order.
    pub sent: Vec<u64>,
    /// The deadlines that this attempt asked for, in that order.
    pub deadlines: Vec<(Wanted, Time)>,
    /// The calls that it made once, and what they gave.
    pub memos: Memos<V>,
    seen: Seen,
}

impl<E, C, V> Replay<E, C, V> {
    /// The events that it remembers.
    pub fn events(&self) -> impl Iterator<Item = &E> {
        self.received.iter().chain(self.collected.iter().flat_map(|call| call.events.iter().flatten()))
    }
}

// How much of what is remembered the body that runs now has come to again.
#[derive(Debug, Default)]
struct Seen {
    received: Claims,
    collected: Claims,
    sent: usize,
    has_strayed: bool,
    deadlines: usize,
}

// Which places of a list were claimed: all below `up_to`, and a few beyond. A body asks in the order in which an
// earlier one did, so that there are few of those however long the list is.
#[derive(Debug, Default)]
struct Claims {
    up_to: usize,
    beyond: BTreeSet<usize>,
}

impl Claims {
    fn has(&self, at: usize) -> bool {
        at < self.up_to || self.beyond.contains(&at)
    }

    /// Says whether the place was free.
    fn claim(&mut self, at: usize) -> bool {
        match at.cmp(&self.up_to) {
            Ordering::Less => false,
            Ordering::Greater => self.beyond.insert(at),
            Ordering::Equal => {
                self.up_to += 1;
                self.close_up();
                true
            }
        }
    }

    fn close_up(&mut self) {
        while self.beyond.remove(&self.up_to) {
            self.up_to += 1;
        }
    }

    /// A place is gone: those behind it move up.
    fn remove(&mut self, at: usize) {
        self.up_to -= usize::from(at < self.up_to);
        let beyond = std::mem::take(&mut self.beyond).into_iter().filter(|&place| place != at);
        self.beyond = beyond.map(|place| place - usize::from(place > at)).collect();
        self.close_up();
    }
}

impl<E: PartialEq, C: PartialEq, V: PartialEq> PartialEq for Replay<E, C, V> {
    /// Whether the same is remembered; how much of it the running body has come to does not count.
    fn eq(&self, other: &Self) -> bool {
        self.failures == other.failures
            && self.received == other.received
            && self.collected == other.collected
            && self.sent == other.sent
            && self.deadlines == other.deadlines
            && self.memos == other.memos
    }
}

impl<E, C, V> Default for Replay<E, C, V> {
    fn default() -> Self {
        Self {
            failures: Vec::new(),
            received: Vec::new(),
            collected: Vec::new(),
            sent: Vec::new(),
            deadlines: Vec::new(),
            memos: Memos::default(),
            seen: Seen::default(),
        }
    }
}

impl<E, C, V> Replay<E, C, V> {
    /// Whether there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        self.failures.is_empty()
            && self.received.is_empty()
            && self.collected.is_empty()
            && self.sent.is_empty()
            && self.deadlines.is_empty()
            && self.memos.is_empty()
    }

    /// A body begins: it has come to nothing yet.
    pub fn rewind(&mut self) {
        self.seen = Seen::default();
        self.memos.rewind();
    }

    /// An attempt failed; the next one asks for deadlines of its own.
    pub fn fail(&mut self, failure: Failure) {
        if self.failures.len() == MOST_FAILURES {
            self.failures.remove(0);
        }
        self.failures.push(failure);
        self.deadlines.clear();
    }

    /// Remembers an event that the running body has got.
    pub fn receive(&mut self, event: E) {
        self.seen.received.claim(self.received.len());
        self.received.push(event);
    }

    /// The events that an earlier body got, and the running one has not come to yet, from a place on.
    pub fn unclaimed(&self, from: usize) -> impl Iterator<Item = (usize, &E)> {
        let claims = &self.seen.received;
        let from = from.max(claims.up_to).min(self.received.len());
        let places = (from..).zip(&self.received[from..]);
        places.filter(move |(at, _)| !claims.has(*at))
    }

    /// The running body gets this event again. Says whether it had not yet.
    pub fn claim(&mut self, at: usize) -> bool {
        at < self.received.len() && self.seen.received.claim(at)
    }

    /// Forgets an event that was got, but never seen by the body.
    pub fn take_back(&mut self, at: usize) -> Option<E> {
        if at >= self.received.len() {
            return None;
        }
        self.seen.received.remove(at);
        Some(self.received.remove(at))
    }

    /// Remembers a call of `collect` by the running body.
    pub fn collect(&mut self, collection: Collection<E, C>) {
        self.seen.collected.claim(self.collected.len());
        if self.collected.is_empty() {
            // Most bodies collect once.
            self.collected.reserve_exact(1);
        }
        self.collected.push(collection);
    }

    /// The first such call of `collect` that an earlier body made and the running one has not.
    pub fn collected_before(&mut self, key: Option<&str>, same: impl Fn(&[C]) -> bool) -> Option<&Collection<E, C>> {
        let claims = &mut self.seen.collected;
        let is_same = |call: &Collection<E, C>| call.key.as_deref() == key && same(&call.expected);
        let at = (claims.up_to..self.collected.len()).find(|at| !claims.has(*at) && is_same(&self.collected[*at]))?;
        claims.claim(at);
        self.collected.get(at)
    }

    /// Whether an earlier body has sent what the running one has not come to yet.
    pub fn knows_sends(&self) -> bool {
        !self.seen.has_strayed && self.seen.sent < self.sent.len()
    }

    /// Whether an earlier body has sent already what the running one sends now, whose digest is the `same`. Once a
    /// body sends something else than the earlier one, all that it sends is new.
    pub fn sends_again(&mut self, same: impl Fn(u64) -> bool) -> bool {
        if !self.knows_sends() {
            return false;
        }
        let before = &self.sent[self.seen.sent..];
        let found = before.iter().position(|&sent| same(sent));
        match found {
            Some(at) => self.seen.sent += at + 1,
            None => self.seen.has_strayed = true,
        }
        found.is_some()
    }

    /// Remembers an event that the running body has sent.
    pub fn send(&mut self, digest: u64) {
        self.sent.push(digest);
        self.seen.sent = self.sent.len();
    }

    /// The deadline that an earlier body of this attempt had for the same, if it did.
    pub fn deadline_before(&mut self, wanted: Wanted) -> Option<Time> {
        let (before, at) = *self.deadlines.get(self.seen.deadlines)?;
        (before == wanted).then(|| {
            self.seen.deadlines += 1;
            at
        })
    }

    /// Remembers a deadline; those that an earlier body had from here on are void.
    pub fn set_deadline(&mut self, wanted: Wanted, at: Time) -> usize {
        let keep = self.seen.deadlines;
        self.put_deadline(keep, wanted, at);
        self.seen.deadlines += 1;
        keep
    }

    /// As [`Replay::set_deadline`], at a given place.
    pub fn put_deadline(&mut self, place: usize, wanted: Wanted, at: Time) {
        self.deadlines.truncate(place);
        self.deadlines.push((wanted, at));
    }
}
