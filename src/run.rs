//! One run: its state, its events and its deadlines, as a state machine without a clock, a thread or I/O.
//!
//! The host calls a method for everything that happens (an event was emitted, a step finished, time has
//! passed) and does what the answer says. Whatever the run lets go of is given back to the host, never
//! dropped here: a host's value may run foreign code when it is dropped, and must not do so under a lock.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};

use crate::event::{Delivery, Routes, StepId};
use crate::queue::{Collected, Queue};
use crate::run_id::RunId;
use crate::store::Store;
use crate::stream::Stream;
use crate::timers::{Time, Timers};
use crate::value::Stored;
use crate::{Error, EventKind, Refused};

/// The types that a host brings along.
pub trait Host {
    /// An event as the host holds it.
    type Event;
    /// A value as the host holds it.
    type Value: Stored;
    /// Names a class of events that are collected.
    type Class: Copy + Eq + std::hash::Hash;
    /// Somebody who waits for an event: whom to wake, and what the event must match.
    type Waiter;
    /// Keeps the classes of a group of collected events alive.
    type Expected;
}

/// What does not change while a workflow runs; shared by all of its runs.
#[derive(Debug, Default)]
pub struct Plan {
    /// The steps; a [`StepId`] is an index into them.
    pub steps: Vec<StepPlan>,
    /// Which steps take which kind of event.
    pub routes: Routes,
    /// How long a run may take, in microseconds.
    pub timeout: Option<Time>,
    /// How many published events are kept.
    pub stream_limit: usize,
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

/// Names one step in flight: a place, and the number of the delivery that has it, since another delivery may
/// have it next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    place: u32,
    seq: u64,
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

/// Names somebody who waits for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitId(u64);

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// The whole run has taken too long.
    Run,
    /// A step in flight has taken too long.
    Step(Slot),
    /// Somebody has waited too long for an event.
    Wait(WaitId),
}

struct Flight<E> {
    delivery: Delivery<E>,
    timer: Option<u64>,
}

enum Place<E> {
    Free(Option<u32>),
    Taken(Flight<E>),
}

struct Wait<W> {
    id: WaitId,
    waiter: W,
    timer: Option<u64>,
}

/// Events that were collected whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Complete<E, X> {
    /// The events, in the order of the expected classes.
    pub events: Vec<E>,
    /// What kept the classes alive, once the group has no events left.
    pub expected: Option<X>,
}

struct Group<H: Host> {
    collected: Collected<H::Class, H::Event>,
    expected: H::Expected,
}

#[derive(PartialEq, Eq, Hash)]
struct GroupKey {
    step: StepId,
    key: Option<Box<str>>,
}

#[derive(Hash)]
struct GroupName<'a> {
    step: StepId,
    key: Option<&'a str>,
}

impl Equivalent<GroupKey> for GroupName<'_> {
    fn equivalent(&self, key: &GroupKey) -> bool {
        self.step == key.step && self.key == key.key.as_deref()
    }
}

// Leaves room below, for events that are kept again ahead of others.
const KEPT_FROM: u64 = 1 << 62;

/// One run.
pub struct Run<H: Host> {
    id: RunId,
    plan: Arc<Plan>,
    phase: Phase,
    store: Store<H::Value>,
    queue: Queue<H::Event>,
    stream: Stream<H::Event>,
    flights: Vec<Place<H::Event>>,
    free: Option<u32>,
    in_flight: u32,
    delivered: u64,
    // Several for one key if they expect different classes.
    groups: HashMap<GroupKey, Vec<Group<H>>>,
    // In the order of their ids.
    waits: VecDeque<Wait<H::Waiter>>,
    waited: u64,
    kept: VecDeque<(u64, H::Event)>,
    kept_ever: u64,
    kept_again: u64,
    timers: Timers<Deadline>,
}

/// What a run held when it ended, for the host to drop where foreign code may run.
pub struct Remains<H: Host> {
    /// Deliveries that never started.
    pub queue: Queue<H::Event>,
    /// Events that were kept for somebody who would ask for them; nobody did.
    pub kept: Vec<H::Event>,
    /// Those who still waited for an event.
    pub waiters: Vec<H::Waiter>,
    _groups: HashMap<GroupKey, Vec<Group<H>>>,
}

impl<H: Host> Run<H> {
    /// A run that has not begun: the host delivers its first event.
    pub fn new(id: RunId, plan: Arc<Plan>, now: Time) -> Self {
        let queue = Queue::new(plan.steps.iter().map(|step| step.concurrency));
        let stream = Stream::new(plan.stream_limit);
        let mut timers = Timers::default();
        if let Some(timeout) = plan.timeout {
            timers.add(now.saturating_add(timeout), Deadline::Run);
        }
        Self {
            id,
            plan,
            phase: Phase::Running,
            store: Store::default(),
            queue,
            stream,
            flights: Vec::new(),
            free: None,
            in_flight: 0,
            delivered: 0,
            groups: HashMap::new(),
            waits: VecDeque::new(),
            waited: 0,
            kept: VecDeque::new(),
            kept_ever: KEPT_FROM,
            kept_again: 0,
            timers,
        }
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

    /// The keys and values.
    #[inline]
    pub fn store(&self) -> &Store<H::Value> {
        &self.store
    }

    /// The keys and values, to be changed.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the run is over.
    #[inline]
    pub fn store_mut(&mut self) -> Result<&mut Store<H::Value>, Error> {
        if self.phase == Phase::Ended { Err(Error::RunEnded) } else { Ok(&mut self.store) }
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
            Err(Refused::new(Error::RunEnded, event))
        } else {
            Ok(self.stream.publish(event))
        }
    }

    /// Routes an event: one delivery for each step that takes its kind. `copy` makes one more reference
    /// to the event.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    #[inline]
    pub fn deliver(
        &mut self,
        kind: EventKind,
        event: H::Event,
        copy: impl Fn(&H::Event) -> H::Event,
    ) -> Result<(), Refused<H::Event>> {
        if self.phase != Phase::Running {
            return Err(Refused::new(Error::RunEnded, event));
        }
        let steps = self.plan.routes.steps(kind);
        let (&last, others) = steps.split_last().expect("routes have at least one step");
        for &step in others {
            let event = copy(&event);
            self.delivered += 1;
            self.queue.push(Delivery { seq: self.delivered, step, attempt: 1, event });
        }
        self.delivered += 1;
        self.queue.push(Delivery { seq: self.delivered, step: last, attempt: 1, event });
        Ok(())
    }

    /// How many deliveries could start now.
    #[inline]
    pub fn ready(&self) -> usize {
        self.queue.ready()
    }

    /// Takes the next ready delivery to be run; the host reads its event with [`Run::event`].
    #[inline]
    pub fn start_next(&mut self, now: impl FnOnce() -> Time) -> Option<Started> {
        if self.phase != Phase::Running {
            return None;
        }
        let delivery = self.queue.pop()?;
        let (step, seq, attempt) = (delivery.step, delivery.seq, delivery.attempt);
        let slot = self.occupy(Flight { delivery, timer: None });
        if let Some(timeout) = self.plan.steps[step.0 as usize].timeout {
            let timer = self.timers.add(now().saturating_add(timeout), Deadline::Step(slot));
            if let Some(flight) = self.flight_mut(slot) {
                flight.timer = Some(timer);
            }
        }
        Some(Started { slot, step, seq, attempt })
    }

    /// Every event that the run holds but does not publish, for a host that has to visit them.
    pub fn events(&self) -> impl Iterator<Item = &H::Event> {
        let in_flight = self.flights.iter().filter_map(|place| match place {
            Place::Taken(flight) => Some(&flight.delivery.event),
            Place::Free(_) => None,
        });
        let queued = self.queue.waiting().map(|delivery| &delivery.event);
        let collected = self.groups.values().flatten().flat_map(|group| group.collected.pending());
        in_flight.chain(queued).chain(collected).chain(self.kept.iter().map(|(_, event)| event))
    }

    /// The event of a step in flight.
    #[inline]
    pub fn event(&self, slot: Slot) -> Option<&H::Event> {
        match self.flights.get(slot.place as usize) {
            Some(Place::Taken(flight)) if flight.delivery.seq == slot.seq => Some(&flight.delivery.event),
            _ => None,
        }
    }

    /// A step in flight has finished, one way or another. Gives back its delivery.
    #[inline]
    pub fn finish_step(&mut self, slot: Slot) -> Option<Delivery<H::Event>> {
        let place = self.flights.get_mut(slot.place as usize)?;
        if !matches!(place, Place::Taken(flight) if flight.delivery.seq == slot.seq) {
            return None;
        }
        let Place::Taken(flight) = std::mem::replace(place, Place::Free(self.free)) else { return None };
        self.free = Some(slot.place);
        self.in_flight -= 1;
        if let Some(timer) = flight.timer {
            self.timers.cancel(timer);
        }
        self.queue.release(flight.delivery.step);
        Some(flight.delivery)
    }

    /// How many steps are in flight.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Puts the delivery of a stopped step back, to be run again before all others.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    pub fn requeue(&mut self, delivery: Delivery<H::Event>) -> Result<(), Refused<Delivery<H::Event>>> {
        if self.phase != Phase::Running {
            return Err(Refused::new(Error::RunEnded, delivery));
        }
        self.queue.put_back(delivery);
        Ok(())
    }

    /// Whether nothing can ever happen any more: nothing is queued, running or waited for.
    #[inline]
    pub fn is_stalled(&self) -> bool {
        self.phase == Phase::Running
            && self.queue.ready() == 0
            && self.in_flight == 0
            && self.waits.is_empty()
            && !self.plan.steps.iter().any(|step| step.external)
    }

    /// Gathers an event for a step (see [`Collected`]); groups are told apart by step, `key` and what is
    /// expected. `same` says whether a group expects what the caller does, `class_of` gives the class
    /// among the expected ones that the event counts for, and `expected` the list, for a new group.
    ///
    /// # Errors
    /// [`Error::NotExpected`] for an event of another class, [`Error::RunEnded`] once the outcome is known.
    #[allow(clippy::type_complexity)]
    pub fn collect(
        &mut self,
        (step, key): (StepId, Option<&str>),
        event: H::Event,
        same: impl Fn(&[H::Class]) -> bool,
        class_of: impl Fn(&dyn Fn(H::Class) -> bool) -> Option<H::Class>,
        expected: impl FnOnce() -> (Box<[H::Class]>, H::Expected),
    ) -> Result<Option<Complete<H::Event, H::Expected>>, Refused<(H::Event, Option<H::Expected>)>> {
        if self.phase != Phase::Running {
            return Err(Refused::new(Error::RunEnded, (event, None)));
        }
        let known = self.groups.get(&GroupName { step, key });
        let known = known.and_then(|groups| groups.iter().position(|group| same(group.collected.expected())));
        let Some(at) = known else {
            let (classes, expected) = expected();
            let mut collected = Collected::new(classes);
            let Some(class) = class_of(&|class| collected.expects(class)) else {
                return Err(Refused::new(Error::NotExpected, (event, Some(expected))));
            };
            return match collected.add(class, event) {
                Ok(Some(events)) => Ok(Some(Complete { events, expected: Some(expected) })),
                Ok(None) => {
                    let groups = self.groups.entry(GroupKey { step, key: key.map(Into::into) }).or_default();
                    groups.push(Group { collected, expected });
                    Ok(None)
                }
                Err(refused) => Err(Refused::new(refused.error, (refused.value, Some(expected)))),
            };
        };
        let groups = self.groups.get_mut(&GroupName { step, key }).expect("the group was found in it");
        let collected = &mut groups[at].collected;
        let Some(class) = class_of(&|class| collected.expects(class)) else {
            return Err(Refused::new(Error::NotExpected, (event, None)));
        };
        let added = collected.add(class, event);
        let events = match added {
            Ok(Some(events)) => events,
            Ok(None) => return Ok(None),
            Err(refused) => return Err(Refused::new(refused.error, (refused.value, None))),
        };
        // A key that is used once must not be remembered for good.
        let mut expected = None;
        if collected.pending().next().is_none() {
            expected = Some(groups.swap_remove(at).expected);
            if groups.is_empty() {
                self.groups.remove(&GroupName { step, key });
            }
        }
        Ok(Some(Complete { events, expected }))
    }

    /// Somebody waits for an event, at most until `deadline`.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    pub fn wait(&mut self, waiter: H::Waiter, deadline: Option<Time>) -> Result<WaitId, Refused<H::Waiter>> {
        if self.phase != Phase::Running {
            return Err(Refused::new(Error::RunEnded, waiter));
        }
        self.waited += 1;
        let id = WaitId(self.waited);
        let timer = deadline.map(|at| self.timers.add(at, Deadline::Wait(id)));
        if self.waits.is_empty() {
            self.waits.reserve_exact(1);
        }
        self.waits.push_back(Wait { id, waiter, timer });
        Ok(id)
    }

    /// Those who wait for an event, in the order in which they came.
    pub fn waiters(&self) -> impl ExactSizeIterator<Item = (WaitId, &H::Waiter)> {
        self.waits.iter().map(|wait| (wait.id, &wait.waiter))
    }

    /// The next one who waits for an event behind `after`; the first for `None`.
    pub fn next_waiter(&self, after: Option<WaitId>) -> Option<(WaitId, &H::Waiter)> {
        let at = after.map_or(0, |after| self.waits.partition_point(|wait| wait.id <= after));
        self.waits.get(at).map(|wait| (wait.id, &wait.waiter))
    }

    /// Ends a wait: its event is there, its time is over, or it was given up.
    pub fn end_wait(&mut self, id: WaitId) -> Option<H::Waiter> {
        let at = self.waits.binary_search_by_key(&id, |wait| wait.id).ok()?;
        let wait = self.waits.remove(at)?;
        if let Some(timer) = wait.timer {
            self.timers.cancel(timer);
        }
        Some(wait.waiter)
    }

    /// Keeps an event from outside that nobody asks for yet.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    pub fn keep(&mut self, event: H::Event) -> Result<(), Refused<H::Event>> {
        if self.phase != Phase::Running {
            return Err(Refused::new(Error::RunEnded, event));
        }
        self.kept_ever += 1;
        self.kept.push_back((self.kept_ever, event));
        Ok(())
    }

    /// The events kept for somebody who will ask for them, oldest first, each with its number.
    pub fn kept(&self) -> impl ExactSizeIterator<Item = (u64, &H::Event)> {
        self.kept.iter().map(|(number, event)| (*number, event))
    }

    /// Takes out a kept event.
    pub fn take_kept(&mut self, number: u64) -> Option<H::Event> {
        let at = self.kept.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.kept.remove(at).map(|(_, event)| event)
    }

    /// The next deadline.
    pub fn next_deadline(&mut self) -> Option<Time> {
        self.timers.next_deadline()
    }

    /// Whether the run has any deadline.
    #[inline]
    pub fn has_deadline(&self) -> bool {
        !self.timers.is_empty()
    }

    /// The earliest deadline that has passed, taken out.
    pub fn expire(&mut self, now: Time) -> Option<Deadline> {
        self.timers.expire(now)
    }

    /// The outcome is known: nothing starts any more. Gives back what was waiting, once.
    pub fn begin_end(&mut self) -> Option<Remains<H>> {
        if self.phase != Phase::Running {
            return None;
        }
        self.phase = Phase::Ending;
        self.timers.clear();
        let none: [Option<NonZeroU32>; 0] = [];
        Some(Remains {
            queue: std::mem::replace(&mut self.queue, Queue::new(none.into_iter())),
            kept: std::mem::take(&mut self.kept).into_iter().map(|(_, event)| event).collect(),
            waiters: std::mem::take(&mut self.waits).into_iter().map(|wait| wait.waiter).collect(),
            _groups: std::mem::take(&mut self.groups),
        })
    }

    /// The last step in flight has stopped: the run is over. Says whether it was so now.
    pub fn try_end(&mut self) -> bool {
        let now = self.phase == Phase::Ending && self.in_flight == 0;
        if now {
            self.phase = Phase::Ended;
            self.flights = Vec::new();
            self.free = None;
        }
        now
    }

    /// Ends a run whose outcome is known although steps are in flight: nothing can drive them any more.
    /// Gives back their deliveries; nothing happens before the outcome is known.
    pub fn abandon(&mut self) -> Vec<Delivery<H::Event>> {
        if self.phase == Phase::Running {
            return Vec::new();
        }
        let flights = std::mem::take(&mut self.flights).into_iter();
        let deliveries = flights.filter_map(|place| match place {
            Place::Taken(flight) => Some(flight.delivery),
            Place::Free(_) => None,
        });
        let deliveries = deliveries.collect();
        self.in_flight = 0;
        self.try_end();
        deliveries
    }

    /// Gives back all values and published events: nobody can reach the run any more.
    pub fn clear(&mut self) -> (Store<H::Value>, Stream<H::Event>) {
        let stream = Stream::new(self.plan.stream_limit);
        (std::mem::take(&mut self.store), std::mem::replace(&mut self.stream, stream))
    }

    /// Keeps an event ahead of the others: it was taken out, but whoever asked for it went away.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    pub fn keep_again(&mut self, event: H::Event) -> Result<(), Refused<H::Event>> {
        if self.phase != Phase::Running {
            return Err(Refused::new(Error::RunEnded, event));
        }
        self.kept_again += 1;
        self.kept.push_front((KEPT_FROM - self.kept_again, event));
        Ok(())
    }

    #[inline]
    fn occupy(&mut self, flight: Flight<H::Event>) -> Slot {
        let seq = flight.delivery.seq;
        self.in_flight += 1;
        let Some(place) = self.free else {
            let place = u32::try_from(self.flights.len()).expect("fewer than 2^32 steps in flight");
            if place == 0 {
                // Most runs never have more than one step in flight.
                self.flights.reserve_exact(1);
            }
            self.flights.push(Place::Taken(flight));
            return Slot { place, seq };
        };
        if let Place::Free(next) = std::mem::replace(&mut self.flights[place as usize], Place::Taken(flight)) {
            self.free = next;
        }
        Slot { place, seq }
    }

    fn flight_mut(&mut self, slot: Slot) -> Option<&mut Flight<H::Event>> {
        match self.flights.get_mut(slot.place as usize) {
            Some(Place::Taken(flight)) => Some(flight),
            _ => None,
        }
    }
}
