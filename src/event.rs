//! Events as the core sees them: a kind, which decides the route, and a payload that only the host reads.

use std::num::NonZeroU64;
use std::sync::Arc;

use crate::replay::Replay;
use crate::value::Value;

/// A step of a workflow: its index in the [`Plan`](crate::Plan).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub u32);

/// A class of events that some step accepts: its index in the [`Routes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKind(pub u32);

/// The table of which steps take which kind of event, made once for a workflow.
#[derive(Clone, Debug, Default)]
pub struct Routes(Vec<Box<[StepId]>>);

impl Routes {
    /// Adds a kind with the steps that take it, in the order in which they are to get it.
    ///
    /// # Panics
    /// If there is no step.
    pub fn add(&mut self, steps: impl Into<Box<[StepId]>>) -> EventKind {
        let steps = steps.into();
        assert!(!steps.is_empty(), "a kind of events that no step takes has no route");
        let kind = EventKind(u32::try_from(self.0.len()).expect("fewer than 2^32 kinds of events"));
        self.0.push(steps);
        kind
    }

    /// The steps that take a kind of event.
    #[inline]
    pub fn steps(&self, kind: EventKind) -> &[StepId] {
        &self.0[kind.0 as usize]
    }
}

/// One event on its way to one step.
#[derive(Debug)]
pub struct Delivery<E, C = (), V = Value> {
    /// The place of this delivery among all of the run, counted from 1; the same for every attempt.
    pub seq: u64,
    /// The step that is to take the event.
    pub step: StepId,
    /// 1 on the first try, then 2, …
    pub attempt: u32,
    /// The event.
    pub event: E,
    /// How many records of the run there were with the one that queued it: it starts once they are safe.
    pub recorded: u64,
    /// When its first body began, if the clock was read.
    pub since: Option<NonZeroU64>,
    /// What it has done so far, if there is anything to remember.
    pub replay: Option<Box<Replay<E, C, V>>>,
    /// Whether it waited for an event when the run was put down, and has not come to that point again.
    pub is_settling: bool,
}

impl<E, C, V> Delivery<E, C, V> {
    /// A delivery that has done nothing yet.
    #[inline]
    pub fn new(seq: u64, step: StepId, event: E) -> Self {
        Self { seq, step, attempt: 1, event, recorded: 0, since: None, replay: None, is_settling: false }
    }

    /// What it has done so far, to be added to.
    pub fn replay_mut(&mut self) -> &mut Replay<E, C, V> {
        self.replay.get_or_insert_default()
    }
}

/// An event as bytes, for a journal or a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedEvent {
    /// The name of its class.
    pub class: Arc<str>,
    /// What it holds.
    pub body: Body,
}

/// What an event holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Its fields, one by one; no two have the same name.
    Fields(Vec<(Arc<str>, Value)>),
    /// The event as one value.
    Whole(Value),
}

impl EncodedEvent {
    /// The names of its fields.
    pub fn field_names(&self) -> impl Iterator<Item = &str> {
        let fields = if let Body::Fields(fields) = &self.body { &fields[..] } else { &[] };
        fields.iter().map(|(name, _)| &**name)
    }

    /// The values that it holds.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        let (fields, whole) = match &self.body {
            Body::Fields(fields) => (&fields[..], None),
            Body::Whole(value) => (&[][..], Some(value)),
        };
        fields.iter().map(|(_, value)| value).chain(whole)
    }
}
