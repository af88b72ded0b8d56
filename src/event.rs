//! Events as the core sees them: a kind, which decides the route, and a payload that only the host reads.

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
pub struct Delivery<E> {
    /// The place of this delivery among all of the run, counted from 1; the same for every attempt.
    pub seq: u64,
    /// The step that is to take the event.
    pub step: StepId,
    /// 1 on the first try, then 2, …
    pub attempt: u32,
    /// The event.
    pub event: E,
}
