//! What does not change while a workflow runs, and the limits of one run.

use std::num::NonZeroU32;

use crate::event::Routes;
use crate::retry::RetryPlan;
use crate::timers::Time;

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
    /// Whether it is asked when its first body began.
    pub is_timed: bool,
}
