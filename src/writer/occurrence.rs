//! What happens to a run: the points at which it can be observed, and put down.

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occurrence {
    /// A body began.
    Started,
    /// A step is done.
    Finished,
    /// A step failed, and is to be tried again.
    Retried,
    /// A deadline has passed.
    Due,
    /// A key was set or removed.
    Stored,
    /// A step sent an event.
    Sent,
    /// A step made a call that is made once.
    Memo,
    /// A step started a child.
    Child,
    /// A child has ended.
    ChildEnded,
    /// A step waits.
    Waiting,
    /// A waiter, or the run, received something.
    Received,
    /// A step collected an event.
    Collected,
    /// An event was published.
    Published,
    /// An event was kept for a step that will ask for it.
    Kept,
    /// An event was deferred.
    Deferred,
    /// The run was paused.
    Paused,
    /// The run goes on.
    Resumed,
}

impl Occurrence {
    /// Every one.
    pub const ALL: [Self; 17] = [
        Self::Started,
        Self::Finished,
        Self::Retried,
        Self::Due,
        Self::Stored,
        Self::Sent,
        Self::Memo,
        Self::Child,
        Self::ChildEnded,
        Self::Waiting,
        Self::Received,
        Self::Collected,
        Self::Published,
        Self::Kept,
        Self::Deferred,
        Self::Paused,
        Self::Resumed,
    ];

    /// Whether it is worth a commit. What a body merely does before it is done or waits goes with the next one: it does
    /// that again when it runs again.
    pub fn is_committed(self) -> bool {
        match self {
            Self::Finished
            | Self::Retried
            | Self::Sent
            | Self::Memo
            | Self::Child
            | Self::ChildEnded
            | Self::Waiting
            | Self::Received
            | Self::Kept
            | Self::Deferred
            | Self::Paused
            | Self::Resumed => true,
            Self::Started | Self::Due | Self::Stored | Self::Collected | Self::Published => false,
        }
    }

    /// Whether a body is done with it, so that its host looks for what comes next.
    pub fn ends_step(self) -> bool {
        matches!(self, Self::Finished | Self::Retried)
    }
}
