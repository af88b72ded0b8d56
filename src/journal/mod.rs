//! Where runs are written down, so that they survive the process that executes them.
//!
//! A journal takes requests and answers them later, each under its ticket. It knows bytes: what a record says
//! is no concern of it. Nothing here assumes one machine or one writer: who may append to a run is decided by
//! the run's epoch and last sequence number, in the same transaction as the write.
//!
//! - [`address`]: journals by their URLs, and the table of backends.
//! - [`request`], [`reply`], [`error`]: what is asked, what comes back, what can go wrong.
//! - [`op`]: the names by which operations are known again.
//! - [`record`], [`entry`]: what is written of a run, in its log and beside it, as bytes; `frame`: what is around them.
//! - [`outgoing`]: what a commit writes to other runs.
//! - [`chain`]: what of it is signed, and how records are chained.
//! - [`lease`]: how long a process is taken to live, and the clock of that.
//! - [`outbox`]: requests on their way to a journal, their order, and sending them again.
//! - [`transaction`]: what a journal writes together with rows of the user.
//! - `rules`: what a commit does to a run's row; the same for every backend.
//! - `recovery`: runs that are taken over again and again; `copying`: runs that move to another journal.
//! - `worker`: the queue and the thread of an embedded backend.
//! - [`memory`]: a journal that lives as long as its process.
//! - `sqlite` (feature `sqlite`): a journal in a file, shared by any number of processes of one machine.
//! - `postgres` (feature `postgres`): a journal in PostgreSQL, shared by any number of machines.
//! - [`archive`]: a file of one run, to be looked into.
//! - `packed`: the records of a commit as one piece of bytes.

#![forbid(unsafe_code)]

pub mod address;
pub mod archive;
pub mod chain;
mod copying;
pub mod entry;
pub mod error;
mod frame;
pub mod lease;
pub mod memory;
pub mod op;
pub mod outbox;
pub mod outgoing;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod packed;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod phases;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod record;
mod recovery;
pub mod reply;
pub mod request;
mod rules;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod transaction;
mod worker;

pub use address::{Address, AddressError, KeptSecret, OpenOptions, Opened, Password};
pub use archive::Archive;
pub use chain::{Chain, Sign, Signer};
pub use entry::Slot;
pub use error::JournalError;
pub use op::{OpId, OpIds};
pub use outbox::Outbox;
pub use outgoing::{IfOver, Missing, Outgoing, Undelivered};
pub use reply::{Claimed, DeadLetter, Ends, Entry, Loaded, Next, Polled, Reply, RunRow, Segment, StreamRead, Traces};
pub use request::{
    Arrival, Claim, Claimant, Commit, Copying, Cursor, Digest, EntryId, EntryNumber, Filter, KeyFilter, Message,
    NewRun, OwnerId, Phase, Refusal, Request, Seen, Status, kind,
};
pub use transaction::Transactions;

/// Names a request until it is answered; chosen by the caller that submits it.
pub type Ticket = u64;

/// An answer.
pub type Outcome = Result<Reply, JournalError>;

/// What a journal tells at one time.
#[derive(Debug, Default)]
pub struct Batch {
    /// Requests that are answered now. What is written is as safe as the backend makes it.
    pub answers: Vec<(Ticket, Outcome)>,
    /// Requests that are given back, since the journal is away: whether they were carried out is not known. With one of
    /// a run, all come back that were submitted together with it for the same run and are not answered.
    pub returned: Vec<(Ticket, Request, JournalError)>,
    /// What others have done to the journal. What was submitted here is not news, except for what commits have written to
    /// other runs.
    pub news: News,
}

/// What another process, or another handle, has done to a journal since the last news, as far as the journal knows. Each
/// is asked for once, whatever the number of runs that it concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Something may have been sent to runs of this process: `Poll`.
    pub inbox: bool,
    /// There may be runs to claim: `Claim`.
    pub work: bool,
    /// Runs may have ended: `Ends`.
    pub ends: bool,
    /// Anything else may have changed, such as the stream of a run.
    pub other: bool,
}

impl News {
    /// All of it.
    pub const ALL: Self = Self { inbox: true, work: true, ends: true, other: true };

    /// What there is to ask for when the request is carried out: it may have written to other runs of this process.
    pub fn of(request: &Request) -> Self {
        let mut news = Self::default();
        for outgoing in request.commit().map_or(&[][..], |commit| &commit.outgoing) {
            match outgoing {
                Outgoing::Send { .. } => news.inbox = true,
                Outgoing::Create { owner, .. } => news.work |= owner.is_none(),
            }
        }
        news
    }

    /// Whether there is any.
    pub fn is_any(self) -> bool {
        self != Self::default()
    }
}

impl std::ops::BitOrAssign for News {
    fn bitor_assign(&mut self, other: Self) {
        self.inbox |= other.inbox;
        self.work |= other.work;
        self.ends |= other.ends;
        self.other |= other.other;
    }
}

/// How large what a journal stores may be. What is larger is answered with `TooLarge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of one commit, as [`Commit::bytes`] counts them, or of one message.
    pub commit: usize,
}

/// Told of every batch, once a batch, by a thread of the journal. It should return soon: nothing is written
/// while it runs. It may submit, but not wait for the answer.
pub type OnBatch = Box<dyn Fn(Batch) + Send + Sync>;

/// A journal that is open.
pub trait Journal: Send + Sync {
    /// Hands requests over. Never waits for I/O. Those that are about the same run ([`Request::run`]) are carried out in
    /// the order of their submission, and each sees what those before it have done; so are those that belong to the lease
    /// ([`Request::is_of_lease`]). All others may overtake each other: what was answered is seen by all that is submitted
    /// afterwards, through any handle, and more is not promised.
    ///
    /// Every ticket is answered exactly once, or given back once, unless the journal is closed: then nothing is taken.
    fn submit(&self, requests: Vec<(Ticket, Request)>) -> Result<(), JournalError>;

    /// The bytes of the requests that are not answered yet. `submit` takes whatever it is given, so a caller that
    /// calls it holds back while this is beyond what its memory allows.
    fn queued_bytes(&self) -> usize;

    /// How large what it stores may be.
    fn limits(&self) -> Limits;

    /// How transactions of steps are carried out, if the journal is in a database that users write to.
    fn transactions(&self) -> Option<&Transactions> {
        None
    }

    /// Answers everything that was submitted, then ends the journal's thread and lets go of its files. Leases
    /// are not handed back by it. It waits for [`OnBatch`], so the caller holds no lock that this takes. Called by
    /// the journal's own thread it returns at once.
    fn close(&self);
}
