//! A run as plain data: what a snapshot holds, and what folding the records of a run gives.
//!
//! An image has no clock, no waker and no route: only what must be known to go on. It is generic over what an
//! event, a value and a class are, so that the same fold serves the objects of a live host and stored bytes.

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::child::{ChildEnd, Family, OpenChild};
use crate::error::Error;
use crate::event::{EncodedEvent, StepId};
use crate::memo::{Kept, Memo};
use crate::queue::Collected;
use crate::record::Record;
use crate::replay::{Collection, Failure, MOST_FAILURES, Replay, Wanted};
use crate::run_id::RunId;
use crate::store::Store;
use crate::timers::Time;
use crate::value::{Tag, Value};

/// An image whose events and values are bytes: what a snapshot holds.
pub type EncodedImage = Image<EncodedEvent, Value, Arc<str>>;

// A run counts on from the numbers of its image, and no run ever gets this far.
const LAST_NUMBER: u64 = 1 << 61;

// Kept events are numbered up and down from 2^62: there must be room on both sides.
const KEPT_NUMBERS: RangeInclusive<u64> = 1 << 61..=3 << 61;

/// How far the run of an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It goes on.
    Running,
    /// It goes on once it is resumed.
    Paused,
    /// It is over.
    Ended,
}

/// A run as plain data.
#[derive(Debug)]
pub struct Image<E, V, C> {
    /// The run's name.
    pub id: RunId,
    /// The workflow's name.
    pub workflow: Box<str>,
    /// The names of the workflow's steps; a [`StepId`] is an index into them.
    pub steps: Vec<Box<str>>,
    /// When the run began.
    pub created: Time,
    /// When the run has to be over, if it has a deadline.
    pub deadline: Option<Time>,
    /// How long it may take from its first step on, in microseconds, if it was given a time of its own.
    pub timeout: Option<Time>,
    /// When its first step began, if that is known.
    pub begun: Option<Time>,
    /// How far it is.
    pub status: Status,
    /// How many deliveries there were.
    pub delivered: u64,
    /// How many waits there were.
    pub waited: u64,
    /// How many groups of collected events there were.
    pub grouped: u64,
    /// How many events were published.
    pub published: u64,
    /// The keys and values.
    pub state: Store<V>,
    /// The deliveries that are not done, by number: queued, in flight, or to be tried again.
    pub pending: BTreeMap<u64, Pending<E, C, V>>,
    /// Who waits for an event, or sleeps, by number.
    pub waits: BTreeMap<u64, Waiting<C>>,
    /// The events that steps collect, by the number of the group.
    pub groups: BTreeMap<u64, Grouped<E, C>>,
    /// Events from outside that no step has asked for yet, by number.
    pub kept: BTreeMap<u64, E>,
    /// Events that are held, oldest first.
    pub held: VecDeque<Held<E>>,
    /// Where it stands among the runs that have started it; nothing if none has.
    pub family: Option<Family>,
    /// The children that have not ended.
    pub children: BTreeMap<RunId, OpenChild>,
}

/// A delivery that is not done.
#[derive(Debug, PartialEq)]
pub struct Pending<E, C, V = Value> {
    /// The step that is to take the event.
    pub step: StepId,
    /// 1 on the first try, then 2, …
    pub attempt: u32,
    /// When it is to be tried again; nothing if it is queued or in flight.
    pub due: Option<Time>,
    /// When the first body began, if the clock was read.
    pub since: Option<Time>,
    /// The event.
    pub event: E,
    /// What it has done so far.
    pub replay: Replay<E, C, V>,
}

/// A waiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting<C> {
    /// The delivery whose step waits.
    pub seq: u64,
    /// The class of events that it waits for; nothing if it sleeps.
    pub class: Option<C>,
    /// When the wait is over.
    pub due: Option<Time>,
}

/// A group of events that a step collects.
#[derive(Debug)]
pub struct Grouped<E, C> {
    /// The step.
    pub step: StepId,
    /// The name of the group, if it has one.
    pub key: Option<Box<str>>,
    /// The events so far.
    pub collected: Collected<C, E>,
}

/// An event that came while the run was paused, or before the waiter for its class was there again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<E> {
    /// Whether it came from outside of the run.
    pub is_from_outside: bool,
    /// The event.
    pub event: E,
}

impl<E: PartialEq, C: Eq + Hash> PartialEq for Grouped<E, C> {
    fn eq(&self, other: &Self) -> bool {
        self.step == other.step && self.key == other.key && self.collected == other.collected
    }
}

impl<E: PartialEq, V: PartialEq, C: Eq + Hash> PartialEq for Image<E, V, C> {
    fn eq(&self, other: &Self) -> bool {
        let head = |image: &Self| (image.id, image.created, image.deadline, image.timeout, image.begun, image.status);
        let counts = |image: &Self| (image.delivered, image.waited, image.grouped, image.published);
        head(self) == head(other)
            && counts(self) == counts(other)
            && self.workflow == other.workflow
            && self.steps == other.steps
            && self.state == other.state
            && self.pending == other.pending
            && self.waits == other.waits
            && self.groups == other.groups
            && self.kept == other.kept
            && self.held == other.held
            && self.family == other.family
            && self.children == other.children
    }
}

impl EncodedImage {
    /// Whether any value is one that only the host can read.
    pub fn has_opaque(&self) -> bool {
        let pending = self.pending.values().flat_map(|it| std::iter::once(&it.event).chain(it.replay.events()));
        let collected = self.groups.values().flat_map(|it| it.collected.pending());
        let held = self.held.iter().map(|it| &it.event);
        let events = pending.chain(collected).chain(self.kept.values()).chain(held);
        let memos =
            self.pending.values().flat_map(|it| it.replay.memos.iter()).filter_map(|(_, memo)| memo.kept.value());
        let state = self.state.iter().map(|(_, value)| value).chain(memos);
        state.chain(events.flat_map(EncodedEvent::values)).any(|value| value.tag == Tag::Opaque)
    }
}

impl<E, V, C> Image<E, V, C> {
    /// Checks all that a run that goes on from the image takes for granted.
    ///
    /// # Errors
    /// [`Error::InvalidImage`] if no run can have such an image.
    pub fn check(&self) -> Result<(), Error> {
        let numbers = [self.delivered, self.waited, self.grouped, self.published];
        ensure(numbers.into_iter().all(|number| number <= LAST_NUMBER), "a number is too large")?;
        let mut names: Vec<_> = self.steps.iter().collect();
        names.sort_unstable();
        ensure(names.windows(2).all(|pair| pair[0] != pair[1]), "two steps have one name")?;
        self.pending.iter().try_for_each(|(seq, pending)| self.check_pending(*seq, pending))?;
        for (number, waiting) in &self.waits {
            ensure((1..=self.waited).contains(number), "a wait has a number that was not given")?;
            ensure((1..=self.delivered).contains(&waiting.seq), "a wait belongs to no delivery")?;
        }
        for (number, group) in &self.groups {
            ensure((1..=self.grouped).contains(number), "a group has a number that was not given")?;
            ensure(self.has_step(group.step), "a group belongs to a step that the workflow does not have")?;
        }
        ensure(self.kept.keys().all(|number| KEPT_NUMBERS.contains(number)), "a kept event has no valid number")?;
        let is_idle = self.pending.is_empty() && self.waits.is_empty() && self.groups.is_empty();
        let numbers = self.children.values().all(|child| (1..=self.delivered).contains(&child.seq));
        ensure(numbers, "a child belongs to no delivery")?;
        let is_done = is_idle && self.kept.is_empty() && self.held.is_empty() && self.children.is_empty();
        ensure(self.status != Status::Ended || is_done, "the run has ended, but not all of it")
    }

    fn check_pending(&self, seq: u64, pending: &Pending<E, C, V>) -> Result<(), Error> {
        ensure((1..=self.delivered).contains(&seq), "a delivery has a number that was not given")?;
        ensure(self.has_step(pending.step), "an event goes to a step that the workflow does not have")?;
        ensure(pending.attempt > 0, "there is no attempt before the first")?;
        ensure(pending.replay.failures.len() <= MOST_FAILURES, "a delivery remembers too many failures")?;
        ensure(pending.replay.memos.next_number() <= LAST_NUMBER, "a number is too large")?;
        ensure(self.knows_children(seq, pending), "a child that has not ended is not known to its parent")?;
        let is_whole = |call: &Collection<E, C>| match &call.events {
            Some(events) => events.len() == call.expected.len(),
            None => true,
        };
        ensure(pending.replay.collected.iter().all(is_whole), "a call collected more or fewer events than it expected")
    }

    fn knows_children(&self, seq: u64, pending: &Pending<E, C, V>) -> bool {
        pending.replay.memos.iter().all(|(number, memo)| match &memo.kept {
            Kept::Child(child) if child.end.is_none() => {
                let known = OpenChild { seq, number, on_parent_end: child.on_parent_end };
                self.children.get(&child.id) == Some(&known)
            }
            _ => true,
        })
    }

    fn has_step(&self, step: StepId) -> bool {
        (step.0 as usize) < self.steps.len()
    }
}

fn ensure(holds: bool, otherwise: &'static str) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::InvalidImage(otherwise)) }
}

impl<E, V, C: Clone + Eq + Hash> Image<E, V, C> {
    /// A run of which nothing is recorded yet.
    pub fn new(id: RunId, workflow: &str, steps: Vec<Box<str>>, created: Time, deadline: Option<Time>) -> Self {
        Self {
            id,
            workflow: workflow.into(),
            steps,
            created,
            deadline,
            timeout: None,
            begun: None,
            status: Status::Running,
            delivered: 0,
            waited: 0,
            grouped: 0,
            published: 0,
            state: Store::default(),
            pending: BTreeMap::new(),
            waits: BTreeMap::new(),
            groups: BTreeMap::new(),
            kept: BTreeMap::new(),
            held: VecDeque::new(),
            family: None,
            children: BTreeMap::new(),
        }
    }

    /// Folds one more record into the image.
    ///
    /// # Errors
    /// [`Error::InvalidRecord`] if the record cannot come behind those before it; the image is not to be used then.
    pub fn apply(&mut self, record: Record<E, V, C>) -> Result<(), Error> {
        let outlives = matches!(record, Record::Set { .. } | Record::Delete { .. } | Record::Published { .. });
        must(outlives || self.status != Status::Ended, "the run has ended")?;
        match record {
            Record::Set { key, value } => {
                self.state.set(&key, value);
            }
            Record::Delete { key } => {
                self.state.delete(&key).ok_or(Error::InvalidRecord("a key is deleted that is not there"))?;
            }
            Record::Queued { seq, step, event } => self.queue(seq, step, event)?,
            Record::Started { seq, at } => {
                let since = &mut self.in_flight(seq)?.since;
                *since = since.or(Some(at));
                self.begun = self.begun.or(Some(at));
            }
            Record::Finished { seq, at: _ } => {
                self.in_flight(seq)?;
                self.pending.remove(&seq);
            }
            Record::Retried { seq, failure, at: _, due } => self.retry(seq, failure, due)?,
            Record::Due { seq } => {
                let pending = self.pending.get_mut(&seq).ok_or(UNKNOWN_DELIVERY)?;
                pending.due.take().ok_or(Error::InvalidRecord("a delivery is due that does not wait for that"))?;
            }
            Record::Sent { seq, digest } => self.in_flight(seq)?.replay.sent.push(digest),
            Record::Memo { seq, number, memo } => {
                self.keep_memo(seq, number, memo)?;
            }
            Record::ChildEnded { child, end } => self.end_child(child, end)?,
            Record::Forgotten { seq, number } => {
                let forgotten = self.in_flight(seq)?.replay.memos.forget(number);
                forgotten.ok_or(Error::InvalidRecord("no such memo is there"))?;
            }
            Record::Asked { seq, place, wanted, at } => self.ask(seq, place, wanted, at)?,
            Record::Waiting { wait, waiting } => {
                begin(&mut self.waited, wait)?;
                must((1..=self.delivered).contains(&waiting.seq), "a wait belongs to no delivery")?;
                self.waits.insert(wait, waiting);
            }
            Record::WaitOver { wait } => {
                self.waits.remove(&wait).ok_or(Error::InvalidRecord("a wait ends that did not begin"))?;
            }
            Record::Received { seq, event } => self.in_flight(seq)?.replay.received.push(event),
            Record::ReceivedKept { seq, number } => {
                let event = self.kept.remove(&number).ok_or(UNKNOWN_KEPT)?;
                self.in_flight(seq)?.replay.received.push(event);
            }
            Record::Returned { seq, place } => {
                let place = usize::try_from(place).unwrap_or(usize::MAX);
                let taken = self.in_flight(seq)?.replay.take_back(place);
                taken.ok_or(Error::InvalidRecord("no such event was received"))?;
            }
            Record::Grouped { group, step, key, expected } => {
                must(self.has_step(step), "a group belongs to a step that the workflow does not have")?;
                begin(&mut self.grouped, group)?;
                self.groups.insert(group, Grouped { step, key, collected: Collected::new(expected) });
            }
            Record::Collected { seq, group, class, event } => self.collect(seq, group, class, event)?,
            Record::Kept { number, event } => {
                must(KEPT_NUMBERS.contains(&number), "a kept event has no valid number")?;
                let other = self.kept.insert(number, event);
                must(other.is_none(), "two kept events have one number")?;
            }
            Record::KeptTaken { number } => {
                self.kept.remove(&number).ok_or(UNKNOWN_KEPT)?;
            }
            Record::Held { is_from_outside, event } => self.held.push_back(Held { is_from_outside, event }),
            Record::HeldAgain { event } => self.held.push_front(Held { is_from_outside: true, event }),
            Record::Released { place } => {
                let place = usize::try_from(place).unwrap_or(usize::MAX);
                self.held.remove(place).ok_or(Error::InvalidRecord("no such event is held"))?;
            }
            Record::Published { event: _ } => self.published = self.published.saturating_add(1),
            // What became of the keys is said by the records behind it.
            Record::Changed { .. } => {}
            Record::Paused => self.turn(Status::Running, Status::Paused)?,
            Record::Resumed => self.turn(Status::Paused, Status::Running)?,
            Record::Ended => self.end(),
        }
        Ok(())
    }

    /// A delivery that is queued or in flight: nothing tells the two apart.
    fn in_flight(&mut self, seq: u64) -> Result<&mut Pending<E, C, V>, Error> {
        let pending = self.pending.get_mut(&seq).ok_or(UNKNOWN_DELIVERY)?;
        must(pending.due.is_none(), "a delivery does something before it is tried again")?;
        Ok(pending)
    }

    fn keep_memo(&mut self, seq: u64, number: u64, memo: Memo<V>) -> Result<(), Error> {
        let child = match &memo.kept {
            Kept::Child(child) if child.end.is_none() => Some((child.id, child.on_parent_end)),
            _ => None,
        };
        let is_next = self.in_flight(seq)?.replay.memos.put(number, memo);
        must(is_next && number <= LAST_NUMBER, "a memo has another number than the next one")?;
        let Some((id, on_parent_end)) = child else { return Ok(()) };
        let other = self.children.insert(id, OpenChild { seq, number, on_parent_end });
        must(other.is_none(), "a child is started twice")
    }

    fn end_child(&mut self, id: RunId, end: ChildEnd<V>) -> Result<(), Error> {
        let open = self.children.remove(&id).ok_or(Error::InvalidRecord("a child ends that was not started"))?;
        // Its step may be done, or have made another call in its place.
        if let Some(pending) = self.pending.get_mut(&open.seq) {
            let _ = pending.replay.memos.end_child(open.number, id, end);
        }
        Ok(())
    }

    fn turn(&mut self, from: Status, to: Status) -> Result<(), Error> {
        must(self.status == from, "a run is paused or resumed twice")?;
        self.status = to;
        Ok(())
    }

    fn queue(&mut self, seq: u64, step: StepId, event: E) -> Result<(), Error> {
        must(self.has_step(step), "an event goes to a step that the workflow does not have")?;
        begin(&mut self.delivered, seq)?;
        self.pending
            .insert(seq, Pending { step, attempt: 1, due: None, since: None, event, replay: Replay::default() });
        Ok(())
    }

    fn retry(&mut self, seq: u64, failure: Failure, due: Time) -> Result<(), Error> {
        let pending = self.in_flight(seq)?;
        must(pending.attempt == failure.attempt, "another attempt failed than the one that ran")?;
        pending.attempt = failure.attempt.saturating_add(1);
        pending.due = Some(due);
        pending.replay.fail(failure);
        Ok(())
    }

    fn ask(&mut self, seq: u64, place: u64, wanted: Wanted, at: Time) -> Result<(), Error> {
        let replay = &mut self.in_flight(seq)?.replay;
        let place = usize::try_from(place).ok().filter(|&place| place <= replay.deadlines.len());
        replay.put_deadline(place.ok_or(Error::InvalidRecord("a deadline has no place"))?, wanted, at);
        Ok(())
    }

    fn collect(&mut self, seq: u64, group: u64, class: C, event: E) -> Result<(), Error> {
        const NO_GROUP: Error = Error::InvalidRecord("an event is collected by a group that is not there");
        const NOT_EXPECTED: Error = Error::InvalidRecord("an event is collected by a group that does not expect it");
        let Grouped { key, collected, .. } = self.groups.get_mut(&group).ok_or(NO_GROUP)?;
        let (key, expected) = (key.clone(), collected.expected().clone());
        let events = collected.add(class, event).map_err(|_| NOT_EXPECTED)?;
        if events.is_some() && collected.is_empty() {
            self.groups.remove(&group);
        }
        // What a task collects that a body left behind is not recorded.
        if seq > 0 {
            self.in_flight(seq)?.replay.collected.push(Collection { key, expected, events });
        }
        Ok(())
    }

    fn end(&mut self) {
        self.status = Status::Ended;
        self.pending.clear();
        self.waits.clear();
        self.groups.clear();
        self.kept.clear();
        self.held.clear();
        self.children.clear();
    }
}

fn must(is_possible: bool, why: &'static str) -> Result<(), Error> {
    if is_possible { Ok(()) } else { Err(Error::InvalidRecord(why)) }
}

/// Numbers grow: none is used twice.
fn begin(newest: &mut u64, number: u64) -> Result<(), Error> {
    must(number > *newest, "a number is used twice")?;
    must(number <= LAST_NUMBER, "a number is too large")?;
    *newest = number;
    Ok(())
}

const UNKNOWN_DELIVERY: Error = Error::InvalidRecord("no such delivery is pending");
const UNKNOWN_KEPT: Error = Error::InvalidRecord("no such event is kept");
