//! What happens to a run, as a sequence of records: the state of a run is the fold of its records.

use std::sync::Arc;

use crate::child::ChildEnd;
use crate::event::{EncodedEvent, StepId};
use crate::image::Waiting;
use crate::memo::Memo;
use crate::replay::{Failure, Wanted};
use crate::run_id::RunId;
use crate::timers::Time;
use crate::value::Value;

/// A record as bytes: what a journal writes down.
pub type EncodedRecord = Record<EncodedEvent, Value, Arc<str>>;

/// One change of a run. [`Image::apply`](crate::Image::apply) says what each does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<E, V, C> {
    /// A key was set.
    Set {
        /// The key.
        key: Box<str>,
        /// Its value from now on.
        value: V,
    },
    /// A key was removed.
    Delete {
        /// The key.
        key: Box<str>,
    },
    /// An event was queued for a step.
    Queued {
        /// The number of the delivery.
        seq: u64,
        /// The step that is to take it.
        step: StepId,
        /// The event.
        event: E,
    },
    /// A body began to run for a delivery.
    Started {
        /// The delivery.
        seq: u64,
        /// When it began.
        at: Time,
    },
    /// A delivery is done: what its step emitted comes before this record.
    Finished {
        /// The delivery.
        seq: u64,
        /// When it was done; 0 if the clock was not read.
        at: Time,
    },
    /// An attempt failed, and there will be another one.
    Retried {
        /// The delivery.
        seq: u64,
        /// The attempt that failed.
        failure: Failure,
        /// When it did; 0 if the clock was not read.
        at: Time,
        /// When it is to be tried again.
        due: Time,
    },
    /// A delivery that was to be tried again is queued.
    Due {
        /// The delivery.
        seq: u64,
    },
    /// The body of a delivery sent an event; it was queued, or given to a waiter.
    Sent {
        /// The delivery.
        seq: u64,
        /// A digest of the event.
        digest: u64,
    },
    /// The body of a delivery has made a call that is made once, or has started a child.
    Memo {
        /// The delivery.
        seq: u64,
        /// The number of the memo: one more than that of the last one that the delivery has.
        number: u64,
        /// The call, and what it gave.
        memo: Memo<V>,
    },
    /// A child has ended.
    ChildEnded {
        /// The child.
        child: RunId,
        /// What it gave.
        end: ChildEnd<V>,
    },
    /// A memo is void: the body has made another call before it came to that one.
    Forgotten {
        /// The delivery.
        seq: u64,
        /// The number of the memo.
        number: u64,
    },
    /// The body of a delivery asked for a deadline.
    Asked {
        /// The delivery.
        seq: u64,
        /// How many deadlines it has asked for before; any others are void.
        place: u64,
        /// What the deadline is for.
        wanted: Wanted,
        /// The deadline.
        at: Time,
    },
    /// A step waits for an event, or sleeps.
    Waiting {
        /// The number of the wait.
        wait: u64,
        /// Who waits for what.
        waiting: Waiting<C>,
    },
    /// A wait is over, for whatever reason.
    WaitOver {
        /// The number of the wait.
        wait: u64,
    },
    /// A step got an event that it had waited for.
    Received {
        /// The delivery of the step.
        seq: u64,
        /// The event.
        event: E,
    },
    /// A step got an event that had been kept.
    ReceivedKept {
        /// The delivery of the step.
        seq: u64,
        /// The number of the kept event.
        number: u64,
    },
    /// A step went away before it saw an event that it had got.
    Returned {
        /// The delivery of the step.
        seq: u64,
        /// Which of its events it was.
        place: u64,
    },
    /// A group of collected events was begun.
    Grouped {
        /// The number of the group.
        group: u64,
        /// The step that collects.
        step: StepId,
        /// The name of the group.
        key: Option<Box<str>>,
        /// The classes that it expects.
        expected: Arc<[C]>,
    },
    /// A group got an event. If that made it complete, it has given the events.
    Collected {
        /// The delivery whose step collects; 0 if it is a task that a body left behind.
        seq: u64,
        /// The number of the group.
        group: u64,
        /// The class among the expected ones that the event counts for.
        class: C,
        /// The event.
        event: E,
    },
    /// An event that no step has asked for yet is kept.
    Kept {
        /// Its number: those with smaller numbers are found first.
        number: u64,
        /// The event.
        event: E,
    },
    /// A kept event was taken by a waiter that is not a step in flight.
    KeptTaken {
        /// Its number.
        number: u64,
    },
    /// An event is held, behind the others that are.
    Held {
        /// Whether it came from outside of the run.
        is_from_outside: bool,
        /// The event.
        event: E,
    },
    /// An event is held ahead of the others: a waiter that went away has given it back.
    HeldAgain {
        /// The event.
        event: E,
    },
    /// An event is held no longer. The next records say where it went.
    Released {
        /// Its place among the held ones.
        place: u64,
    },
    /// An event was published.
    Published {
        /// The event.
        event: E,
    },
    /// The state was changed from outside: the next so many records of keys say how.
    Changed {
        /// When it was.
        at: Time,
        /// How many keys were set or removed.
        keys: u64,
    },
    /// The run starts no more steps for now.
    Paused,
    /// The run goes on.
    Resumed,
    /// The outcome is known.
    Ended,
}

impl<E, V, C> Record<E, V, C> {
    /// The value that the record holds, if it holds one.
    pub fn value(&self) -> Option<&V> {
        match self {
            Self::Set { value, .. } => Some(value),
            Self::Memo { memo, .. } => memo.kept.value(),
            Self::ChildEnded { end, .. } => Some(end.value()),
            _ => None,
        }
    }

    /// The class that the record holds by itself, if it holds one.
    pub fn class(&self) -> Option<&C> {
        match self {
            Self::Waiting { waiting, .. } => waiting.class.as_ref(),
            Self::Collected { class, .. } => Some(class),
            _ => None,
        }
    }

    /// The list of classes that the record holds, if it holds one.
    pub fn expected(&self) -> Option<&Arc<[C]>> {
        if let Self::Grouped { expected, .. } = self { Some(expected) } else { None }
    }

    /// Whether the run has got further by it, as by a call that is not made again. What else a body does before it is
    /// done does not count: it does that again each time that it runs, also if it ends its process each time, and so it waits and sleeps again.
    pub fn is_progress(&self) -> bool {
        matches!(
            self,
            Self::Finished { .. }
                | Self::Retried { .. }
                | Self::Memo { .. }
                | Self::ChildEnded { .. }
                | Self::Received { .. }
                | Self::ReceivedKept { .. }
                | Self::Changed { .. }
                | Self::Paused
                | Self::Resumed
                | Self::Ended
        )
    }

    /// The event that the record holds, if it holds one.
    pub fn event(&self) -> Option<&E> {
        match self {
            Self::Queued { event, .. }
            | Self::Received { event, .. }
            | Self::Collected { event, .. }
            | Self::Kept { event, .. }
            | Self::Held { event, .. }
            | Self::HeldAgain { event }
            | Self::Published { event } => Some(event),
            _ => None,
        }
    }
}
