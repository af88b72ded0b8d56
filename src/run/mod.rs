//! One run: its state, its events and its deadlines, as a state machine without a clock, a thread or I/O.
//!
//! The host calls a method for everything that happens (an event was emitted, a step finished, time has
//! passed) and does what the answer says. Whatever the run lets go of is given back to the host, never
//! dropped here: a host's value may run foreign code when it is dropped, and must not do so under a lock.
//!
//! - this file: the types that a host brings along, and the run itself; `plan`: what all runs of a workflow share;
//! - `delivery`: deliveries, from the queue through a step to its end; `flight`: the places of those in flight;
//! - `state`: the keys and values, and what is published; `log`: the records; `deadlines`: the limits of time;
//! - `poll`: what the host does next; `router`: where an event goes; `arrival`: it leaves one place and arrives at
//!   another; `lookup`: a step asks for an event;
//! - `place`: a run that waits for a place among the runs of its workflow;
//! - `collect`, `wait`, `memo`, `children`: what a step can do in its middle; `pause`: holding a run; `end`: its end;
//! - `references`: what a garbage collector has to visit;
//! - `sending`: events to other runs;
//! - `setbacks`: failures in a row that other steps deal with;
//! - `restore`: a run from an [`Image`](crate::Image) and back; `settle`: bodies that run again, and have yet to come
//!   to where they waited.

mod arrival;
mod children;
mod collect;
mod deadlines;
mod delivery;
mod end;
mod flight;
mod log;
mod lookup;
mod memo;
mod pause;
mod place;
mod plan;
mod poll;
mod references;
mod restore;
mod router;
mod sending;
mod setbacks;
mod settle;
mod state;
mod wait;

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::child::Family;
use crate::event::Delivery;
use crate::queue::Queue;
use crate::rare::Rare;
use crate::record::Record;
use crate::run_id::RunId;
use crate::store::Store;
use crate::stream::Stream;
use crate::timers::{Time, Timers};
use crate::value::Stored;
use flight::Place;

pub use arrival::Arrival;
pub use children::{ChildBegun, ChildCall, MAX_FAMILY_DEPTH};
pub use collect::{Collecting, Gathered, Leftover};
pub use deadlines::Deadline;
pub use end::Remains;
pub use flight::{Slot, Started};
pub use lookup::Lookup;
pub use memo::{Once, Unkept};
pub use plan::{Limits, Plan, StepPlan};
pub use poll::Progress;
pub use restore::HostImage;
pub use router::{Answer, Origin, Question, Route, Routed, Routing};
pub use sending::{MOST_SENT, Outbound, message_id};
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
    /// A waiter for an event: what to wake, and what the event must match.
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

/// One run.
pub struct Run<H: Host> {
    id: RunId,
    plan: Arc<Plan>,
    phase: Phase,
    is_paused: bool,
    is_draining: bool,
    // Whether it executes nothing until it has a place among the runs of its workflow.
    lacks_place: bool,
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
    // The waits, by number, that no body comes to again: they are over, which is not recorded yet.
    left_behind: Rare<Vec<u64>>,
    delivered: u64,
    // Deliveries that failed and are to be tried again. They hold no place in their step.
    retries: Rare<HashMap<u64, HostDelivery<H>>>,
    setbacks: Rare<setbacks::AllSetbacks>,
    groups: collect::Groups<H>,
    // Where it stands among the runs that have started it.
    family: Option<Box<Family>>,
    children: Rare<children::Children>,
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
    // The records of a run without a journal are not read.
    log: Option<Vec<HostRecord<H>>>,
    // How many records there were, and up to which of them deliveries may start.
    recorded: u64,
    acknowledged: u64,
    // The entries of the inbox that the next commit deals with.
    consumed: Rare<Vec<u64>>,
    // Events to other runs.
    sending: Rare<sending::Sending<H::Event>>,
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
            lacks_place: false,
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
            family: None,
            children: Rare::default(),
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
            sending: Rare::default(),
            time: 0,
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
}
