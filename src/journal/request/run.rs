//! A run as a journal knows it.

use super::Digest;
use crate::run_id::RunId;
use crate::timers::Time;

/// How far a run is, as far as the journal must know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Phase {
    /// It can go on at once.
    #[default]
    Ready = 0,
    /// It can go on when it is due, or when something is sent to it.
    Waiting = 1,
    /// It is held; like waiting.
    Paused = 2,
    /// Over, with a result.
    Completed = 3,
    /// Over, with an error.
    Failed = 4,
    /// Over, on request.
    Cancelled = 5,
    /// No process goes on with it until it is reopened: it was taken over too often, or cannot be read. It is not over.
    Stranded = 6,
}

impl Phase {
    /// Every phase, in the order of its number.
    pub const ALL: [Self; 7] =
        [Self::Ready, Self::Waiting, Self::Paused, Self::Completed, Self::Failed, Self::Cancelled, Self::Stranded];

    /// Whether the run is over.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Whether the run goes on by itself.
    pub fn goes_on(self) -> bool {
        self < Self::Completed
    }
}

/// How far a run is after a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// How far.
    pub phase: Phase,
    /// When it goes on at the latest; of no meaning when it is over.
    pub due: Option<Time>,
}

/// A run that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRun {
    /// Its name. Lists are ordered by it.
    pub id: RunId,
    /// The name of its workflow.
    pub workflow: String,
    /// A second name, unique in its workflow.
    pub key: Option<String>,
    /// What it starts with.
    pub input: Digest,
    /// When it was made.
    pub created: Time,
    /// How many entries of its stream are kept; at least one.
    pub stream_limit: u64,
    /// The run that started it, unless it was started from outside.
    pub parent: Option<RunId>,
    /// The first of the runs that led to it: the root of its parent, or its parent if that has none.
    pub root: Option<RunId>,
    /// How many runs led to it.
    pub depth: u32,
}

impl NewRun {
    /// About how much memory its parts take.
    pub(crate) fn bytes(&self) -> usize {
        self.workflow.len() + self.key.as_ref().map_or(0, String::len)
    }
}
