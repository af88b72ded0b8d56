//! Bugs that are put into a fleet, to show that the simulation finds them.

/// One mistake between an engine and its journal, or in one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A claim gives no new epoch: an owner of before appends on.
    ClaimWithoutFence,
    /// The journal says that the lease goes on when it was lost.
    RenewAfterLoss,
    /// The cursor of the inboxes moves past an entry.
    CursorSkips,
    /// One commit is written twice.
    CommitTwice,
    /// A commit is acknowledged and not written.
    AcknowledgedTooEarly,
    /// Runs of a living process are taken.
    ClaimOfTheLiving,
    /// What is loaded lacks the inbox.
    LoadWithoutInbox,
    /// One run of a claim is forgotten.
    ClaimForgetsOne,
    /// An entry is dropped on its way to the run.
    DeliveryDropped,
    /// An entry is delivered, and not consumed by the commit.
    NotConsumed,
    /// The lease is not renewed.
    NoRenewal,
    /// A run that is lost is not stopped, and its end is not told.
    LossIgnored,
    /// A closed engine hands nothing back and keeps its lease.
    NothingHandedBack,
    /// More runs are claimed than the process has room for.
    NoLimit,
    /// A run executes before it has a place.
    PlaceNotAwaited,
    /// A checkpoint lacks the last record of its commit.
    OldCheckpoint,
    /// The engine does not hear of changes of the journal by others, and never looks by itself.
    DeafAndIdle,
    /// A commit that is sent again after a lost answer is taken for another one.
    NamelessCommit,
    /// A claim that is sent again after a lost answer takes other runs.
    NamelessClaim,
    /// Those who wait for a run are not told of its end.
    EndNotTold,
    /// A run that stands for another one is not told of its end.
    EndOfAnotherNotTold,
    /// A memo is given to another call.
    MemoOfAnotherCall,
    /// A body goes on with a memo that is not written.
    MemoNotAwaited,
    /// A run stands for one that has another input.
    OtherInputTaken,
    /// A request with a key makes a second run of that key.
    KeyForgotten,
    /// What a body has sent is not noted with its delivery.
    SentNotNoted,
    /// A step is done in a commit before that of the events that it returned.
    FinishedBeforeItsEvents,
    /// One of several events does not arrive.
    LostOnArrival,
    /// An event arrives twice.
    ArrivesTwice,
    /// A waiter that accepts an event is passed over.
    WaiterNotAsked,
    /// A message is consumed in a commit before that of its event.
    ConsumedAlone,
    /// A record is left out of a commit.
    RecordLeftOut,
    /// The number of an event of the stream is used twice.
    NumberUsedTwice,
    /// A commit says how far the run was before it.
    StaleStatus,
    /// A step starts before the commit is written that queued its event.
    StartedTooEarly,
    /// A step sends an event to another run once it is done: it goes with no commit.
    PostedTooLate,
    /// A step sends an event to another run twice.
    PostedTwice,
    /// A commit is written without what it sends to other runs.
    PostLeftOut,
    /// A body that runs again in another process starts its children once more.
    ChildStartedTwice,
    /// A process does not start the children that its commits have made.
    ChildNotStarted,
    /// A run that ends does not cancel its children.
    OrphanLeft,
    /// A child does not tell its parent how it has ended.
    ChildEndLost,
    /// A change from outside is consumed in a commit before that which makes it.
    ChangeConsumedAlone,
    /// A change from outside is made twice.
    ChangeMadeTwice,
}

impl Bug {
    pub const ALL: [Self; 44] = [
        Self::ClaimWithoutFence,
        Self::RenewAfterLoss,
        Self::CursorSkips,
        Self::CommitTwice,
        Self::AcknowledgedTooEarly,
        Self::ClaimOfTheLiving,
        Self::LoadWithoutInbox,
        Self::ClaimForgetsOne,
        Self::DeliveryDropped,
        Self::NotConsumed,
        Self::NoRenewal,
        Self::LossIgnored,
        Self::NothingHandedBack,
        Self::NoLimit,
        Self::PlaceNotAwaited,
        Self::OldCheckpoint,
        Self::DeafAndIdle,
        Self::NamelessCommit,
        Self::NamelessClaim,
        Self::EndNotTold,
        Self::EndOfAnotherNotTold,
        Self::MemoOfAnotherCall,
        Self::MemoNotAwaited,
        Self::OtherInputTaken,
        Self::KeyForgotten,
        Self::SentNotNoted,
        Self::FinishedBeforeItsEvents,
        Self::LostOnArrival,
        Self::ArrivesTwice,
        Self::WaiterNotAsked,
        Self::ConsumedAlone,
        Self::RecordLeftOut,
        Self::NumberUsedTwice,
        Self::StaleStatus,
        Self::StartedTooEarly,
        Self::PostedTooLate,
        Self::PostedTwice,
        Self::PostLeftOut,
        Self::ChildStartedTwice,
        Self::ChildNotStarted,
        Self::OrphanLeft,
        Self::ChildEndLost,
        Self::ChangeConsumedAlone,
        Self::ChangeMadeTwice,
    ];
}
