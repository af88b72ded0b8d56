//! What the host carries out for an engine, and how it reports back.

use crate::journal::{Entry, JournalError, Loaded, Request, RunRow};
use crate::run_id::RunId;
use crate::timers::Time;

/// Names a request of the engine until it is answered. The host hands it back with the answer as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// How many leases the engine had lost when it asked.
    pub(super) tenure: u64,
    /// What it asked for.
    pub(super) purpose: Purpose,
}

/// What a request of the engine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The process announces itself.
    Enlist,
    /// The lease goes on.
    Renew,
    /// What may be left of a lease that was lost is handed back, before the next one.
    Release,
    /// The lease and all runs are handed back, since the engine is closed.
    HandBack,
    /// Runs that no process executes are taken.
    Claim,
    /// What is needed to go on with runs that were claimed.
    Load,
    /// A run is handed back that cannot go on here.
    Refuse(RunId, u64),
    /// When the next claim is worth while.
    NextDue,
    /// What was sent to the runs of this process.
    Poll,
    /// Runs are forgotten.
    Prune,
    /// Which runs have ended.
    Ends,
    /// How far a run is that is followed; which look at it it is.
    Look(RunId, u64),
}

impl Purpose {
    /// Whether the answer is of no meaning once the lease was lost.
    pub(super) fn is_of_a_lease(self) -> bool {
        !matches!(self, Self::HandBack | Self::Ends | Self::Look(..))
    }
}

/// What the host carries out.
#[derive(Debug)]
pub enum Effect {
    /// A request goes to the journal; its answer comes back by [`Engine::answer`](super::Engine::answer).
    /// Requests that belong to the lease (`Enlist`, `Renew`, `Release`, `Claim`) are carried out in their order.
    Ask {
        /// Names it.
        ask: Ask,
        /// The request.
        request: Box<Request>,
    },
    /// A run goes on from what was loaded; the host says by [`Engine::resumed`](super::Engine::resumed) what came of it.
    Resume(Box<Loaded>),
    /// An entry of the inbox of a run that is executed here.
    Deliver(Entry),
    /// No process goes on with the run, until it is reopened. Its row says why.
    Stranded(Box<RunRow>),
    /// Other processes may have the run: it stops here. Its end is reported as that of any run.
    Lose(RunId),
    /// The run starts no more steps; those in flight may finish, then [`Engine::drained`](super::Engine::drained). With
    /// `stop`, they are cancelled.
    Drain {
        /// The run.
        run: RunId,
        /// Whether the steps in flight are cancelled.
        stop: bool,
    },
    /// What the run has done is written, and nothing after it.
    LetGo(RunId),
    /// The run ends here, since it goes on elsewhere. Its end is reported as that of any run.
    EndHere(RunId),
    /// A run that is executed here has the place that it has asked for.
    GivePlace(RunId),
    /// The journal has another run of the key of a run that was started here, or has that for any process.
    Replaced {
        /// The run, by the id that it was made with.
        run: RunId,
        /// What becomes of it.
        by: Replacement,
    },
    /// Nothing more comes of a run that is followed, or it cannot be looked at: for all who follow it now.
    Ended {
        /// The run.
        run: RunId,
        /// The runs of this process that stand for it: they end as it does.
        standing: Vec<RunId>,
        /// The run and its outcome.
        end: Result<(Box<RunRow>, Option<Vec<u8>>), JournalError>,
    },
    /// The engine is open, or cannot be opened: then it is closed.
    Opened(Result<(), JournalError>),
    /// The engine is closed: everything was handed back, or could not be.
    Closed(Result<(), JournalError>),
    /// Something for the log.
    Report(Trouble),
}

/// What becomes of a run for whose key the journal has another run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// It stands for the other one: what was sent to it is handed on, and [`Effect::Ended`] tells how it ends.
    StandsFor {
        /// The other run.
        run: RunId,
        /// Whether that one is cancelled, since this one was.
        cancel: bool,
    },
    /// The other one has another input: it fails, because of this key.
    OtherInput(String),
    /// It fails, because the engine was closed before the end of the other one, which goes on.
    Closed(RunId),
}

/// What an operator should know.
#[derive(Debug)]
pub enum Trouble {
    /// The lease was lost: other processes take the runs over.
    LeaseLost,
    /// The lease could not be renewed. Nothing is lost yet.
    NotRenewed(JournalError),
    /// The journal could not be read; it is asked again.
    Unreadable(JournalError),
    /// What the journal has of a run is damaged.
    Damaged(JournalError),
}

/// What came of going on with a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// It is executed here.
    Started,
    /// Something was written for it first: it is to be loaded again.
    LoadAgain,
    /// It cannot be executed by this process: others may try, or it is stranded.
    Refused {
        /// What is wrong, for people.
        why: String,
        /// Whether what is stored of the run is damaged, so that no process can execute it.
        is_damaged: bool,
    },
}

/// How a run came to be over here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// Its end is written, or it never was in the journal.
    Over,
    /// The journal took nothing more of it.
    Lost,
    /// The journal was too busy for it, and nothing else: it can go on from what is written.
    Busy {
        /// The epoch in which it was claimed.
        epoch: u64,
    },
}

/// A time at which something is due, if anything is.
pub(super) type Due = Option<Time>;
