//! One run: its state, its events and its deadlines, as a state machine without a clock, a thread or I/O.
//!
//! The host calls a method for everything that happens (an event was emitted, a step finished, time has
//! passed) and does what the answer says. Whatever the run lets go of is given back to the host, never
//! dropped here: a host's value may run foreign code when it is dropped, and must not do so under a lock.
//!
//! - this file: deliveries, from the queue through a step to its end, and the keys and values;
//! - `poll`: what the host does next; `router`: where an event goes; `lookup`: a step asks for an event;
//! - `collect`, `wait`, `memo`: what a step can do in its middle; `pause`: holding a run; `end`: its end;
//! - `setbacks`: failures in a row that other steps deal with;
//! - `restore`: a run from an [`Image`](crate::Image) and back; `settle`: bodies that run again, and have yet to come
//!   to where they waited.

mod collect;
mod end;
mod lookup;
mod memo;
mod pause;
mod poll;
mod references;
mod restore;
mod router;
mod setbacks;
mod settle;
mod wait;

use std::collections::VecDeque;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::event::{Delivery, Routes, StepId};
use crate::queue::Queue;
use crate::rare::Rare;
use crate::record::Record;
use crate::replay::Failure;
use crate::retry::RetryPlan;
use crate::run_id::RunId;
use crate::store::Store;
use crate::stream::Stream;
use crate::timers::{Time, Timers};
use crate::value::Stored;
use crate::{Error, EventKind, Refused};

pub use collect::{Collecting, Gathered, Leftover};
pub use end::Remains;
pub use lookup::Lookup;
pub use memo::{Once, Unkept};
pub use poll::Progress;
pub use restore::HostImage;
pub use router::{Answer, Arrival, Origin, Question, Route, Routed, Routing};
pub use setbacks::{MOST_IN_A_ROW, Setbacks};
pub use wait::{WaitId, WaitOver};

/// The types that a host brings along.
pub trait Host {
    /// An event as the host holds it.
    type Event;
    /// A value as the host holds it.
    type Value: Stored;
    /// A class of events. A copy is one more reference.
    type Class: Clone + Eq + std::hash::Hash;
    /// Somebody who waits for an event: whom to wake, and what the event must match.
    type Waiter;

    /// One more reference to an event.
    fn copy_event(event: &Self::Event) -> Self::Event;
    /// One more reference to a value.
    fn copy_value(value: &Self::Value) -> Self::Value;
    /// The same waiter once more, for a question about it.
    fn copy_waiter(waiter: &Self::Waiter) -> Self::Waiter;
    /// Whether two references are to the same event.
    fn is_same_event(one: &Self::Event, other: &Self::Event) -> bool;
}

/// A delivery as a host's run holds it.
pub type HostDelivery<H> = Delivery<<H as Host>::Event, <H as Host>::Class, <H as Host>::Value>;

/// A record of a host's run.
pub type HostRecord<H> = Record<<H as Host>::Event, <H as Host>::Value, <H as Host>::Class>;

/// What does not change while a workflow runs; shared by all of its runs.
#[derive(Debug, Default)]
pub struct Plan {
    /// The workflow's name.
    pub name: Box<str>,
    /// The steps; a [`StepId`] is an index into them.
    pub steps: Vec<StepPlan>,
    /// Which steps take which kind of event.
    pub routes: Routes,
    /// How long a run may take from its first step on, in microseconds.
    pub timeout: Option<Time>,
    /// How long after it was made a run has to be over, in microseconds.
    pub deadline: Option<Time>,
    /// How many published events are kept.
    pub stream_limit: usize,
}

/// Limits of one run's time that take the place of its workflow's. Times are in microseconds; one that is too long to
/// count is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How long it may take from its first step on.
    pub timeout: Option<Time>,
    /// How long after it was made it has to be over.
    pub deadline: Option<Time>,
}

/// What the state machine knows of a step.
#[derive(Clone, Debug, Default)]
pub struct StepPlan {
    /// The name, unique in its workflow.
    pub name: Box<str>,
    /// How many of its bodies may run at once in one run.
    pub concurrency: Option<NonZeroU32>,
    /// How long one attempt may take, in microseconds.
    pub timeout: Option<Time>,
    /// Whether its events come from outside of the run.
    pub external: bool,
    /// When it is tried again after a failure.
    pub retry: Option<RetryPlan>,
    /// Whether anybody asks when its first body began.
    pub is_timed: bool,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Steps run or wait.
    Running,
    /// The outcome is known; steps still in flight are being stopped.
    Ending,
    /// Over.
    Ended,
}

/// Names one body in flight: a place, the number of the delivery that has it, and that of the start, since
/// another delivery may have the place next, or the same one with another body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    place: u32,
    start: u32,
    seq: u64,
}

impl Slot {
    /// The number of the delivery.
    pub fn seq(self) -> u64 {
        self.seq
    }
}

/// A delivery that has been taken to be run.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    /// Names it until it completes.
    pub slot: Slot,
    /// The step to run.
    pub step: StepId,
    /// The number of its delivery.
    pub seq: u64,
    /// 1 on the first try.
    pub attempt: u32,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// The run has taken too long since its first step began.
    Run,
    /// The run had to be over by now.
    End,
    /// A step in flight has taken too long.
    Step(Slot),
    /// Somebody has waited long enough, for an event or for time to pass.
    Wait(WaitId),
    /// A delivery, by its number, is to be tried again; it is queued by now.
    Retry(u64),
    /// Events were held long enough for those who waited and have not come to that point again.
    Settling,
}

struct Flight<E, C, V> {
    delivery: Delivery<E, C, V>,
    start: u32,
    timer: Option<u64>,
    // How many waits it has begun that are not over.
    waits: u32,
    // Whether its body was stopped, to run again.
    is_stopping: bool,
}

impl<E, C, V> Flight<E, C, V> {
    #[inline]
    fn is_at(&self, slot: Slot) -> bool {
        self.start == slot.start && self.delivery.seq == slot.seq
    }
}

type HostFlight<H> = Flight<<H as Host>::Event, <H as Host>::Class, <H as Host>::Value>;

enum Place<E, C, V> {
    Free(Option<u32>),
    Taken(Flight<E, C, V>),
}

/// One run.
pub struct Run<H: Host> {
    id: RunId,
    plan: Arc<Plan>,
    phase: Phase,
    is_paused: bool,
    is_draining: bool,
    store: Store<H::Value>,
    queue: Queue<H::Event, H::Class, H::Value>,
    stream: Stream<H::Event>,
    flights: Vec<Place<H::Event, H::Class, H::Value>>,
    free: Option<u32>,
    in_flight: u32,
    // How many bodies were started, as far as they can be counted.
    starts: u32,
    // How many of those in flight have a wait that is not over.
    waiting: u32,
    settling: Rare<settle::Settling<H>>,
    // The waits, by number, that nobody comes to again: they are over, which is not recorded yet.
    left_behind: Rare<Vec<u64>>,
    delivered: u64,
    // Deliveries that failed and are to be tried again. They hold no place in their step.
    retries: Rare<HashMap<u64, HostDelivery<H>>>,
    setbacks: Rare<setbacks::AllSetbacks>,
    groups: collect::Groups<H>,
    waits: wait::Waits<H>,
    kept: Rare<VecDeque<(u64, H::Event)>>,
    kept_ever: u64,
    kept_again: u64,
    held: Rare<pause::HeldEvents<H::Event>>,
    // Whether the held events are being looked at, and up to which one they were.
    is_release_due: bool,
    released_up_to: Option<u64>,
    timers: Timers<Deadline>,
    created: Time,
    deadline: Option<Time>,
    // How long it may take from its first step on, if it was given a time of its own.
    timeout: Option<Time>,
    // When the first step began, if that matters.
    begun: Option<Time>,
    // Nobody reads the records of a run without a journal.
    log: Option<Vec<HostRecord<H>>>,
    // How many records there were, and up to which of them deliveries may start.
    recorded: u64,
    acknowledged: u64,
    // The entries of the inbox that the next commit deals with.
    consumed: Rare<Vec<u64>>,
    // The time of what is recorded, as far as the host has told it.
    time: Time,
}

impl<H: Host> Run<H> {
    /// A run that has not begun: the host delivers its first event. `now` is read if the run has a deadline.
    pub fn new(id: RunId, plan: Arc<Plan>, now: Time) -> Self {
        let queue = Queue::new(plan.steps.iter().map(|step| step.concurrency));
        let stream = Stream::new(plan.stream_limit);
        let deadline = plan.deadline.map(|deadline| now.saturating_add(deadline));
        let mut timers = Timers::default();
        if let Some(deadline) = deadline {
            timers.add(deadline, Deadline::End);
        }
        Self {
            id,
            plan,
            phase: Phase::Running,
            is_paused: false,
            is_draining: false,
            store: Store::default(),
            queue,
            stream,
            flights: Vec::new(),
            free: None,
            in_flight: 0,
            starts: 0,
            waiting: 0,
            settling: Rare::default(),
            left_behind: Rare::default(),
            delivered: 0,
            retries: Rare::default(),
            setbacks: Rare::default(),
            groups: collect::Groups::default(),
            waits: wait::Waits::default(),
            kept: Rare::default(),
            kept_ever: wait::KEPT_FROM,
            kept_again: 0,
            held: Rare::default(),
            is_release_due: false,
            released_up_to: None,
            timers,
            created: now,
            deadline,
            timeout: None,
            begun: None,
            log: None,
            recorded: 0,
            acknowledged: 0,
            consumed: Rare::default(),
            time: 0,
        }
    }

    /// Gives a run that has not begun limits of its own, which take the place of the workflow's.
    pub fn limit(&mut self, limits: Limits) {
        self.timeout = limits.timeout.or(self.timeout);
        if let Some(after) = limits.deadline {
            self.timers.clear();
            self.deadline = (after < Time::MAX).then(|| self.created.saturating_add(after));
            if let Some(deadline) = self.deadline {
                self.timers.add(deadline, Deadline::End);
            }
        }
    }

    /// How long the run may take from its first step on, in microseconds.
    #[inline]
    pub fn timeout(&self) -> Option<Time> {
        self.timeout.or(self.plan.timeout).filter(|&timeout| timeout < Time::MAX)
    }

    /// The run's name.
    pub fn id(&self) -> RunId {
        self.id
    }

    /// How far the run is.
    #[inline]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The workflow's plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// From now on, everything that happens is recorded. The records come behind those that the run was restored
    /// from.
    pub fn start_log(&mut self) {
        self.log.get_or_insert_default();
        for wait in self.left_behind.take() {
            self.record(|| Record::WaitOver { wait });
        }
    }

    /// The time of what is recorded from now on. A run without a log does not ask for it.
    #[inline]
    pub fn stamp(&mut self, now: impl FnOnce() -> Time) {
        if self.log.is_some() {
            self.time = now();
        }
    }

    /// How many records there were since the log was begun.
    pub fn recorded(&self) -> u64 {
        self.recorded
    }

    /// The first so many records are safe: what they queued may start. Says whether anything may that could not.
    pub fn acknowledge(&mut self, recorded: u64) -> bool {
        let was_held = self.is_held_back();
        self.acknowledged = self.acknowledged.max(recorded);
        was_held && !self.is_held_back()
    }

    /// What is queued from now on waits until its record is acknowledged.
    pub fn hold_back(&mut self) {
        self.acknowledged = self.acknowledged.min(self.recorded);
    }

    /// Whether the next delivery waits for its record to be safe.
    #[inline]
    pub fn is_held_back(&self) -> bool {
        self.queue.peek().is_some_and(|delivery| delivery.recorded > self.acknowledged)
    }

    /// How many records were not taken yet.
    pub fn unwritten(&self) -> usize {
        self.log.as_ref().map_or(0, Vec::len)
    }

    /// The records since the last call, oldest first.
    pub fn take_log(&mut self) -> Vec<HostRecord<H>> {
        self.log.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Records what happens as long as the outcome is not known: nothing of it matters to a run that is over.
    #[inline]
    fn record(&mut self, record: impl FnOnce() -> HostRecord<H>) {
        if self.phase == Phase::Running {
            self.record_to_the_end(record);
        }
    }

    /// Records what is still seen of a run when it is over.
    #[inline]
    fn record_to_the_end(&mut self, record: impl FnOnce() -> HostRecord<H>) {
        if let Some(log) = &mut self.log {
            log.push(record());
            self.recorded += 1;
        }
    }

    /// The keys and values.
    #[inline]
    pub fn store(&self) -> &Store<H::Value> {
        &self.store
    }

    /// Sets a key and gives back the value that it held.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the run is over.
    #[inline]
    pub fn set(&mut self, key: &str, value: H::Value) -> Result<Option<H::Value>, Refused<H::Value>> {
        if self.phase == Phase::Ended {
            return Err(Refused::new(Error::RunEnded, value));
        }
        self.record_set(key, &value);
        Ok(self.store.set(key, value))
    }

    /// Sets a key only if nobody wrote it since it had `version` (`None`: only if it is missing).
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the run is over, [`Error::Outdated`] if somebody wrote the key in between.
    pub fn compare_and_set(
        &mut self,
        key: &str,
        version: Option<u64>,
        value: H::Value,
    ) -> Result<Option<H::Value>, Refused<H::Value>> {
        if self.phase == Phase::Ended {
            return Err(Refused::new(Error::RunEnded, value));
        }
        let current = self.store.get_versioned(key).map(|(_, version)| version);
        if current != version {
            return Err(Refused::new(Error::Outdated, value));
        }
        self.record_set(key, &value);
        Ok(self.store.set(key, value))
    }

    #[inline]
    fn record_set(&mut self, key: &str, value: &H::Value) {
        self.record_to_the_end(|| Record::Set { key: key.into(), value: H::copy_value(value) });
    }

    /// Removes a key and gives back its value.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the run is over.
    pub fn delete(&mut self, key: &str) -> Result<Option<H::Value>, Error> {
        if self.phase == Phase::Ended {
            return Err(Error::RunEnded);
        }
        let deleted = self.store.delete(key);
        if deleted.is_some() {
            self.record_to_the_end(|| Record::Delete { key: key.into() });
        }
        Ok(deleted)
    }

    /// What was published.
    #[inline]
    pub fn stream(&self) -> &Stream<H::Event> {
        &self.stream
    }

    /// Publishes an event; gives back one that is no longer kept because of it.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the run is over.
    pub fn publish(&mut self, event: H::Event) -> Result<Option<H::Event>, Refused<H::Event>> {
        if self.phase == Phase::Ended {
            return Err(Refused::new(Error::RunEnded, event));
        }
        self.record_to_the_end(|| Record::Published { event: H::copy_event(&event) });
        Ok(self.stream.publish(event))
    }

    /// Routes an event: one delivery for each step that takes its kind.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    #[inline]
    pub fn deliver(&mut self, kind: EventKind, event: H::Event) -> Result<(), Refused<H::Event>> {
        if self.phase != Phase::Running {
            return Err(Refused::new(Error::RunEnded, event));
        }
        // Routes have at least one step.
        let last = self.plan.routes.steps(kind).len() - 1;
        for at in 0..last {
            let step = self.plan.routes.steps(kind)[at];
            self.enqueue(step, H::copy_event(&event));
        }
        self.enqueue(self.plan.routes.steps(kind)[last], event);
        Ok(())
    }

    /// Delivers an event to one step, whatever its kind.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    pub fn deliver_to(&mut self, step: StepId, event: H::Event) -> Result<(), Refused<H::Event>> {
        if self.phase != Phase::Running {
            return Err(Refused::new(Error::RunEnded, event));
        }
        self.enqueue(step, event);
        Ok(())
    }

    /// The body of a step in flight sends an event to one step, past whoever waits for its class. It is queued at once,
    /// also while the run is paused.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    pub fn send_to(&mut self, slot: Slot, digest: u64, step: StepId, event: H::Event) -> Result<(), Refused<H::Event>> {
        let before = self.delivered;
        self.deliver_to(step, event)?;
        // Nothing is finished by it.
        self.conclude(Origin::Sent { slot, digest }, before, || 0);
        Ok(())
    }

    #[inline]
    fn enqueue(&mut self, step: StepId, event: H::Event) {
        self.delivered += 1;
        let seq = self.delivered;
        self.record(|| Record::Queued { seq, step, event: H::copy_event(&event) });
        self.queue.push(Delivery { recorded: self.recorded, ..Delivery::new(seq, step, event) });
    }

    /// How many deliveries could start now.
    #[inline]
    pub fn ready(&self) -> usize {
        if self.is_held() || self.is_held_back() { 0 } else { self.queue.ready() }
    }

    /// Takes the next ready delivery to be run; the host reads its event with [`Run::event`]. `now` is called
    /// only if somebody needs to know the time.
    #[inline]
    pub fn start_next(&mut self, now: impl FnOnce() -> Time) -> Option<Started> {
        if self.phase != Phase::Running || self.is_held() || self.is_held_back() {
            return None;
        }
        let delivery = self.queue.pop()?;
        let (step, seq, attempt) = (delivery.step, delivery.seq, delivery.attempt);
        let plan = &self.plan.steps[step.0 as usize];
        let timeout = plan.timeout;
        let has_total = || plan.retry.as_ref().is_some_and(|retry| retry.total.is_some());
        let is_timed = plan.is_timed || timeout.is_some() || has_total();
        self.starts = self.starts.wrapping_add(1);
        let slot = self.occupy(Flight { delivery, start: self.starts, timer: None, waits: 0, is_stopping: false });
        if is_timed || self.log.is_some() || self.timeout().is_some() {
            self.note_start(slot, timeout, now());
        }
        Some(Started { slot, step, seq, attempt })
    }

    fn note_start(&mut self, slot: Slot, timeout: Option<Time>, now: Time) {
        let since = NonZeroU64::new(now).unwrap_or(NonZeroU64::MIN);
        if self.begun.is_none() && (self.log.is_some() || self.timeout().is_some()) {
            self.begin(since.get());
        }
        let timer = timeout.map(|timeout| self.timers.add(now.saturating_add(timeout), Deadline::Step(slot)));
        if let Some(flight) = self.flight_mut(slot) {
            flight.timer = timer;
            flight.delivery.since = flight.delivery.since.or(Some(since));
        }
        self.record(|| Record::Started { seq: slot.seq, at: since.get() });
    }

    /// The first step has begun: the time limit counts from then on.
    fn begin(&mut self, at: Time) {
        self.begun = Some(at);
        if let Some(timeout) = self.timeout() {
            self.timers.add(at.saturating_add(timeout), Deadline::Run);
        }
    }

    /// How long after it was made the run has to be over, in microseconds.
    pub fn longest(&self) -> Option<Time> {
        self.deadline.map(|deadline| deadline.saturating_sub(self.created))
    }

    /// Every event that the run holds but does not publish, for a host that has to visit them.
    pub fn events(&self) -> impl Iterator<Item = &H::Event> {
        let collected = self.groups.iter().flat_map(|group| group.collected.pending());
        let held = self.held.get().into_iter().flat_map(pause::HeldEvents::iter).map(|held| &held.event);
        let kept = self.kept.get().into_iter().flatten().map(|(_, event)| event);
        let recorded = self.log.iter().flatten().filter_map(Record::event);
        self.deliveries().flat_map(events_of).chain(collected).chain(kept).chain(held).chain(recorded)
    }

    /// Every delivery that is not done.
    fn deliveries(&self) -> impl Iterator<Item = &HostDelivery<H>> {
        let in_flight = self.flights.iter().filter_map(|place| match place {
            Place::Taken(flight) => Some(&flight.delivery),
            Place::Free(_) => None,
        });
        in_flight.chain(self.queue.waiting()).chain(self.retries.get().into_iter().flat_map(HashMap::values))
    }

    /// The event of a step in flight.
    #[inline]
    pub fn event(&self, slot: Slot) -> Option<&H::Event> {
        self.delivery(slot).map(|delivery| &delivery.event)
    }

    /// The delivery of a step in flight.
    #[inline]
    pub fn delivery(&self, slot: Slot) -> Option<&HostDelivery<H>> {
        self.flight(slot).map(|flight| &flight.delivery)
    }

    #[inline]
    fn flight(&self, slot: Slot) -> Option<&HostFlight<H>> {
        match self.flights.get(slot.place as usize) {
            Some(Place::Taken(flight)) if flight.is_at(slot) => Some(flight),
            _ => None,
        }
    }

    /// A step in flight has finished, one way or another. Gives back its delivery.
    #[inline]
    pub fn finish_step(&mut self, slot: Slot) -> Option<HostDelivery<H>> {
        let mut delivery = self.leave(slot)?;
        self.settle(&mut delivery);
        self.forget_setbacks(slot.seq);
        let at = self.time;
        self.record(|| Record::Finished { seq: slot.seq, at });
        Some(delivery)
    }

    /// The body of a step in flight has failed, and the delivery is to be tried again when it is `due`. Until
    /// then it holds no place in its step.
    ///
    /// # Errors
    /// The delivery, for the caller to drop, with [`Error::RunEnded`] once the outcome is known; nothing if the
    /// slot is free.
    pub fn retry(&mut self, slot: Slot, text: Box<str>, due: Time) -> Result<(), Option<Refused<HostDelivery<H>>>> {
        let Some(mut delivery) = self.leave(slot) else { return Err(None) };
        self.settle(&mut delivery);
        if self.phase != Phase::Running {
            return Err(Some(Refused::new(Error::RunEnded, delivery)));
        }
        let failure = Failure { attempt: delivery.attempt, text };
        let at = self.time;
        self.record(|| Record::Retried { seq: slot.seq, failure: failure.clone(), at, due });
        delivery.attempt = delivery.attempt.saturating_add(1);
        let replay = delivery.replay_mut();
        replay.fail(failure);
        replay.rewind();
        self.timers.add(due, Deadline::Retry(slot.seq));
        self.retries.make().insert(slot.seq, delivery);
        Ok(())
    }

    /// Puts the delivery of a stopped step back, to be run again before all others.
    ///
    /// # Errors
    /// As [`Run::retry`].
    pub fn put_back(&mut self, slot: Slot) -> Result<(), Option<Refused<HostDelivery<H>>>> {
        let Some(mut delivery) = self.leave(slot) else { return Err(None) };
        if self.phase != Phase::Running {
            return Err(Some(Refused::new(Error::RunEnded, delivery)));
        }
        if let Some(replay) = &mut delivery.replay {
            replay.rewind();
        }
        self.queue.put_back(delivery);
        Ok(())
    }

    /// Takes the delivery out of its slot.
    #[inline]
    fn leave(&mut self, slot: Slot) -> Option<HostDelivery<H>> {
        let place = self.flights.get_mut(slot.place as usize)?;
        if !matches!(place, Place::Taken(flight) if flight.is_at(slot)) {
            return None;
        }
        let Place::Taken(flight) = std::mem::replace(place, Place::Free(self.free)) else { return None };
        self.free = Some(slot.place);
        self.in_flight -= 1;
        self.waiting -= u32::from(flight.waits > 0);
        if let Some(timer) = flight.timer {
            self.timers.cancel(timer);
        }
        self.queue.release(flight.delivery.step);
        Some(flight.delivery)
    }

    /// Whether an earlier body of a step in flight has sent what the running one has not come to yet.
    pub fn knows_sends(&mut self, slot: Slot) -> bool {
        let replay = self.flight_mut(slot).and_then(|flight| flight.delivery.replay.as_ref());
        replay.is_some_and(|replay| replay.knows_sends())
    }

    /// The body of a step in flight sends an event, whose digest is the `same` as one that an earlier body may have
    /// sent. Says whether that has sent it already: then it is not to be delivered.
    pub fn sends_again(&mut self, slot: Slot, same: impl Fn(u64) -> bool) -> bool {
        let replay = self.flight_mut(slot).and_then(|flight| flight.delivery.replay.as_mut());
        replay.is_some_and(|replay| replay.sends_again(same))
    }

    /// An event that the body of a step in flight has sent is on its way.
    pub fn note_sent(&mut self, slot: Slot, digest: u64) {
        let Some(flight) = self.flight_mut(slot) else { return };
        flight.delivery.replay_mut().send(digest);
        self.record(|| Record::Sent { seq: slot.seq, digest });
    }

    /// How many steps are in flight.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// The step in flight, if there is one and no other.
    pub fn only_in_flight(&self) -> Option<Started> {
        let taken = |(place, taken): (usize, &Place<_, _, _>)| match taken {
            Place::Taken(flight) => Some(started::<H>(place, flight)),
            Place::Free(_) => None,
        };
        let mut flights = self.flights.iter().enumerate().filter_map(taken);
        flights.next().filter(|_| self.in_flight == 1)
    }

    /// The steps in flight, one for each body.
    pub fn steps_in_flight(&self) -> impl Iterator<Item = StepId> {
        self.flights.iter().filter_map(|place| match place {
            Place::Taken(flight) => Some(flight.delivery.step),
            Place::Free(_) => None,
        })
    }

    /// Whether nothing can ever happen any more: nothing is queued, running or waited for.
    #[inline]
    pub fn is_stalled(&self) -> bool {
        self.phase == Phase::Running && !self.is_held() && self.is_exhausted()
    }

    /// Whether nothing is queued, running or waited for: the run can only end, wherever it goes on.
    pub fn is_exhausted(&self) -> bool {
        self.queue.ready() == 0
            && self.in_flight == 0
            && self.waits.is_empty()
            && !self.has_held()
            && self.retries.get().is_none_or(HashMap::is_empty)
            && !self.plan.steps.iter().any(|step| step.external)
    }

    /// Whether nothing can happen before an event comes from outside or a deadline passes.
    pub fn is_idle(&self) -> bool {
        self.queue.ready() == 0 && self.is_quiet() && (self.is_paused || !self.has_held())
    }

    /// The next deadline. A run that is paused has none.
    pub fn next_deadline(&mut self) -> Option<Time> {
        if self.is_paused { None } else { self.timers.next_deadline() }
    }

    /// Whether the run has any deadline.
    #[inline]
    pub fn has_deadline(&self) -> bool {
        !self.is_paused && !self.timers.is_empty()
    }

    /// The earliest deadline that has passed, taken out. While the run is paused, none passes.
    pub fn expire(&mut self, now: Time) -> Option<Deadline> {
        if self.is_paused {
            return None;
        }
        let passed = self.timers.expire(now)?;
        if passed == Deadline::Settling {
            self.delay_no_longer();
        }
        if let Deadline::Retry(seq) = passed
            && let Some(delivery) = self.retries.make().remove(&seq)
        {
            self.record(|| Record::Due { seq });
            self.queue.push(delivery);
        }
        Some(passed)
    }

    #[inline]
    fn occupy(&mut self, flight: HostFlight<H>) -> Slot {
        let (seq, start) = (flight.delivery.seq, flight.start);
        self.in_flight += 1;
        let Some(place) = self.free else {
            let place = u32::try_from(self.flights.len()).expect("fewer than 2^32 steps in flight");
            if place == 0 {
                // Most runs never have more than one step in flight.
                self.flights.reserve_exact(1);
            }
            self.flights.push(Place::Taken(flight));
            return Slot { place, start, seq };
        };
        if let Place::Free(next) = std::mem::replace(&mut self.flights[place as usize], Place::Taken(flight)) {
            self.free = next;
        }
        Slot { place, start, seq }
    }

    fn flight_mut(&mut self, slot: Slot) -> Option<&mut HostFlight<H>> {
        match self.flights.get_mut(slot.place as usize) {
            Some(Place::Taken(flight)) if flight.is_at(slot) => Some(flight),
            _ => None,
        }
    }
}

fn started<H: Host>(place: usize, flight: &HostFlight<H>) -> Started {
    let HostDelivery::<H> { seq, step, attempt, .. } = flight.delivery;
    Started { slot: Slot { place: place as u32, start: flight.start, seq }, step, seq, attempt }
}

fn events_of<E, C, V>(delivery: &Delivery<E, C, V>) -> impl Iterator<Item = &E> {
    std::iter::once(&delivery.event).chain(delivery.replay.iter().flat_map(|replay| replay.events()))
}
