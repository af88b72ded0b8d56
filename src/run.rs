//! One run: its state, its events and its deadlines, as a state machine without a clock, a thread or I/O.
//!
//! The host calls a method for everything that happens (an event was emitted, a step finished, time has
//! passed) and does what the answer says. Whatever the run lets go of is given back to the host, never
//! dropped here: a host's value may run foreign code when it is dropped, and must not do so under a lock.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::{Delivery, Routes, StepId};
use crate::queue::{Collected, Queue};
use crate::run_id::RunId;
use crate::store::Store;
use crate::stream::Stream;
use crate::timers::{Time, Timers};
use crate::value::Stored;
use crate::{Error, EventKind, Result};

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
    pub concurrency: Option<u32>,
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

/// Names one step in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(u32);

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
    waiter: W,
    timer: Option<u64>,
}

struct Group<H: Host> {
    step: StepId,
    key: Option<Box<str>>,
    collected: Collected<H::Class, H::Event>,
}

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
    groups: Vec<Group<H>>,
    waits: BTreeMap<WaitId, Wait<H::Waiter>>,
    waited: u64,
    kept: BTreeMap<u64, H::Event>,
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
    _groups: Vec<Group<H>>,
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
            groups: Vec::new(),
            waits: BTreeMap::new(),
            waited: 0,
            kept: BTreeMap::new(),
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
    pub fn store_mut(&mut self) -> Result<&mut Store<H::Value>> {
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
    pub fn publish(&mut self, event: H::Event) -> Result<Option<H::Event>> {
        if self.phase == Phase::Ended { Err(Error::RunEnded) } else { Ok(self.stream.publish(event)) }
    }

    /// Routes an event: one delivery for each step that takes its kind. `copy` makes one more reference
    /// to the event.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    #[inline]
    pub fn deliver(&mut self, kind: EventKind, event: H::Event, copy: impl Fn(&H::Event) -> H::Event) -> Result<()> {
        if self.phase != Phase::Running {
            return Err(Error::RunEnded);
        }
        let steps = self.plan.routes.steps(kind);
        let Some((&last, others)) = steps.split_last() else { return Ok(()) };
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
        let collected = self.groups.iter().flat_map(|group| group.collected.pending());
        in_flight.chain(queued).chain(collected).chain(self.kept.values())
    }

    /// The event of a step in flight.
    #[inline]
    pub fn event(&self, slot: Slot) -> Option<&H::Event> {
        match self.flights.get(slot.0 as usize) {
            Some(Place::Taken(flight)) => Some(&flight.delivery.event),
            _ => None,
        }
    }

    /// A step in flight has finished, one way or another. Gives back its delivery.
    #[inline]
    pub fn finish_step(&mut self, slot: Slot) -> Option<Delivery<H::Event>> {
        let place = self.flights.get_mut(slot.0 as usize)?;
        if matches!(place, Place::Free(_)) {
            return None;
        }
        let Place::Taken(flight) = std::mem::replace(place, Place::Free(self.free)) else { return None };
        self.free = Some(slot.0);
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

    /// Puts the delivery of a stopped step back, to be run again by somebody else.
    pub fn requeue(&mut self, delivery: Delivery<H::Event>) {
        self.queue.push(delivery);
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
    pub fn collect(
        &mut self,
        (step, key): (StepId, Option<&str>),
        event: H::Event,
        same: impl Fn(&[H::Class]) -> bool,
        class_of: impl Fn(&dyn Fn(H::Class) -> bool) -> Option<H::Class>,
        expected: impl FnOnce() -> Box<[H::Class]>,
    ) -> Result<Option<Vec<H::Event>>> {
        if self.phase != Phase::Running {
            return Err(Error::RunEnded);
        }
        let found = self
            .groups
            .iter()
            .position(|group| group.step == step && group.key.as_deref() == key && same(group.collected.expected()));
        let at = found.unwrap_or_else(|| {
            let collected = Collected::new(expected());
            self.groups.push(Group { step, key: key.map(Into::into), collected });
            self.groups.len() - 1
        });
        let collected = &mut self.groups[at].collected;
        let class = class_of(&|class| collected.expects(class)).ok_or(Error::NotExpected)?;
        collected.add(class, event)
    }

    /// Somebody waits for an event, at most until `deadline`.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    pub fn wait(&mut self, waiter: H::Waiter, deadline: Option<Time>) -> Result<WaitId> {
        if self.phase != Phase::Running {
            return Err(Error::RunEnded);
        }
        self.waited += 1;
        let id = WaitId(self.waited);
        let timer = deadline.map(|at| self.timers.add(at, Deadline::Wait(id)));
        self.waits.insert(id, Wait { waiter, timer });
        Ok(id)
    }

    /// Those who wait for an event, in the order in which they came.
    pub fn waiters(&self) -> impl ExactSizeIterator<Item = (WaitId, &H::Waiter)> {
        self.waits.iter().map(|(&id, wait)| (id, &wait.waiter))
    }

    /// Ends a wait: its event is there, its time is over, or it was given up.
    pub fn end_wait(&mut self, id: WaitId) -> Option<H::Waiter> {
        let wait = self.waits.remove(&id)?;
        if let Some(timer) = wait.timer {
            self.timers.cancel(timer);
        }
        Some(wait.waiter)
    }

    /// Keeps an event from outside that nobody asks for yet.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    pub fn keep(&mut self, event: H::Event) -> Result<()> {
        if self.phase != Phase::Running {
            return Err(Error::RunEnded);
        }
        self.delivered += 1;
        self.kept.insert(self.delivered, event);
        Ok(())
    }

    /// The events kept for somebody who will ask for them, oldest first, each with its number.
    pub fn kept(&self) -> impl ExactSizeIterator<Item = (u64, &H::Event)> {
        self.kept.iter().map(|(&number, event)| (number, event))
    }

    /// Takes out a kept event.
    pub fn take_kept(&mut self, number: u64) -> Option<H::Event> {
        self.kept.remove(&number)
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
        let none: [Option<u32>; 0] = [];
        Some(Remains {
            queue: std::mem::replace(&mut self.queue, Queue::new(none.into_iter())),
            kept: std::mem::take(&mut self.kept).into_values().collect(),
            waiters: std::mem::take(&mut self.waits).into_values().map(|wait| wait.waiter).collect(),
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

    #[inline]
    fn occupy(&mut self, flight: Flight<H::Event>) -> Slot {
        self.in_flight += 1;
        let Some(at) = self.free else {
            let at = u32::try_from(self.flights.len()).expect("fewer than 2^32 steps in flight");
            self.flights.push(Place::Taken(flight));
            return Slot(at);
        };
        if let Place::Free(next) = std::mem::replace(&mut self.flights[at as usize], Place::Taken(flight)) {
            self.free = next;
        }
        Slot(at)
    }

    fn flight_mut(&mut self, slot: Slot) -> Option<&mut Flight<H::Event>> {
        match self.flights.get_mut(slot.0 as usize) {
            Some(Place::Taken(flight)) => Some(flight),
            _ => None,
        }
    }
}
