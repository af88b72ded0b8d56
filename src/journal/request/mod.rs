//! What can be asked of a journal.
//!
//! - this file: the requests, each with what answers it;
//! - `commit`: what one commit writes; `run`: a run as a journal knows it; `message`: what is put into an inbox;
//! - `claim`: which process takes which runs; `filter`: which runs to list; `copying`: runs that move to another journal.

mod claim;
mod commit;
mod copying;
mod filter;
mod message;
mod run;

use std::time::Duration;

use super::op::OpId;
use crate::run_id::RunId;
use crate::timers::Time;

pub use claim::{Claim, Claimant, OwnerId, Refusal};
pub use commit::Commit;
pub use copying::{Arrival, Copying, Seen};
pub use filter::{Filter, KeyFilter};
pub use message::{EntryId, EntryNumber, Message, kind};
pub use run::{NewRun, Phase, Status};

/// Where a journal goes on that was asked before. Only the journal that made it reads it; the default is the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cursor(Vec<u8>);

/// A digest of a run's input. The journal only compares it.
pub type Digest = [u8; 32];

/// A request. What answers it is said with each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A process announces itself: `Done`. One lease stands for all of its runs, so that renewing costs the same
    /// whatever their number.
    ///
    /// A journal on one machine also holds a lock for it, which ends with the process: then its runs are lost at once.
    Enlist {
        /// The process.
        owner: OwnerId,
        /// How long it is taken to live without a word of it, by the journal's clock.
        lease: Duration,
    },
    /// A process goes on: `Done`, or `LeaseLost` once others may have taken its runs.
    Renew {
        /// The process.
        owner: OwnerId,
        /// How long it is taken to live from now on.
        lease: Duration,
    },
    /// A process hands back its lease and all of its runs, in constant time: `Done`.
    Release {
        /// The process.
        owner: OwnerId,
    },
    /// Makes a run: `Created`, also if it was made by this operation before; or `Exists` if there is one of this id or
    /// of this workflow and key.
    Create {
        /// The run.
        run: NewRun,
        /// The process that executes it (with epoch 1); without one, the process that claims it.
        owner: Option<OwnerId>,
        /// What is written first.
        commit: Commit,
    },
    /// Goes on with a run: `Appended`, also if it was the last operation on the run, whichever process owns it; or
    /// `Conflict` unless the run has this epoch, its owner lives, and its last record has this number. If the commit makes a
    /// run for a process that has no lease: `LeaseLost`.
    Append {
        /// The run.
        run: RunId,
        /// The epoch in which it was claimed.
        epoch: u64,
        /// The sequence number of the run's last record.
        after: u64,
        /// What is written.
        commit: Commit,
    },
    /// Makes a run that is over go on: `Reopened`, also if this operation did so before, whatever has become of the run
    /// since, unless another process than the owner it names has it; or `Conflict` if it is not over or has another
    /// last record.
    Reopen {
        /// The run.
        run: RunId,
        /// The sequence number of its last record.
        after: u64,
        /// The process that executes it; without one, the process that claims it.
        owner: Option<OwnerId>,
        /// What is written.
        commit: Commit,
    },
    /// Takes over runs that no process executes and that have something to do (they are ready or due, or their inbox
    /// is not empty), of these workflows: `Claimed`. A run that merely waits is left where it is. Processes whose lease
    /// is over, by the journal's clock, or that have ended lose their runs first.
    Claim(Claim),
    /// When the next claim is worth while: `Next`.
    NextDue {
        /// The asker, whose own lease is left out.
        owner: OwnerId,
        /// The workflows that it knows; without any no claim is worth while.
        workflows: Vec<String>,
    },
    /// Puts a message into the inbox of a run: `Sent`, `UnknownRun` or `RunEnded`. A message is known again by
    /// its id among the undelivered and the last [`DEDUPE_WINDOW`](Self::DEDUPE_WINDOW) delivered ones of its run.
    Send {
        /// The run.
        run: RunId,
        /// The message.
        message: Message,
        /// The time.
        now: Time,
    },
    /// New entries in the inboxes of the runs of this process: `Polled`. An entry may come again, through `Poll` or
    /// `Load`, until a commit has consumed it; none that was sent before the answer is left out for ever, however late it
    /// became visible.
    Poll {
        /// The process.
        owner: OwnerId,
        /// The cursor of the last answer.
        after: Cursor,
        /// At most so many.
        limit: usize,
    },
    /// A process cannot go on with a run of its own: `Refused`, or `Conflict` if it is another's by now.
    Refuse {
        /// The run.
        run: RunId,
        /// The epoch in which it was claimed.
        epoch: u64,
        /// Why.
        refusal: Refusal,
        /// The time.
        now: Time,
    },
    /// The runs that ended, or of which nothing more comes, since others were told: `Ends`.
    Ends {
        /// The cursor of the last answer; nothing: from now on.
        after: Option<Cursor>,
        /// At most so many.
        limit: usize,
    },
    /// The messages of a run that could not be delivered: `DeadLetters`.
    DeadLetters {
        /// The run.
        run: RunId,
    },
    /// Puts the dead letters of a run into its inbox again: `Redelivered` or `RunEnded`.
    Redeliver {
        /// The run.
        run: RunId,
    },
    /// All that is needed to go on with runs: `Loaded`. Costs what their states cost, not their history.
    Load {
        /// The runs.
        runs: Vec<RunId>,
    },
    /// One run and its outcome: `Run`.
    Get {
        /// The run.
        run: RunId,
    },
    /// Runs, newest first (by id): `Listed`. Paging is stable: no run comes twice, none that was there is left out.
    List {
        /// Which.
        filter: Filter,
    },
    /// The part of a run's history that has a record, or else the earliest that is kept: `Segment`. Costs what that part
    /// costs, however long the history is.
    Segment {
        /// The run.
        run: RunId,
        /// The number of the record.
        at: u64,
    },
    /// The records of a run that no checkpoint has replaced: `Records`.
    Records {
        /// The run.
        run: RunId,
        /// Only those behind this one.
        after: u64,
        /// At most so many.
        limit: usize,
    },
    /// The stream of a run: `Stream`.
    ReadStream {
        /// The run.
        run: RunId,
        /// Only the entries behind this one.
        after: u64,
        /// At most so many.
        limit: usize,
    },
    /// Takes over one run, however far it is, unless a living process executes it: `Taken`, also if it was taken by this
    /// operation before; `RunActive`, or `BeingCopied` if it is another journal's by now. It does not count as a recovery.
    Take {
        /// The run.
        run: RunId,
        /// Who takes it.
        owner: OwnerId,
        /// The name of the operation.
        op: OpId,
    },
    /// A run that was taken is another journal's from now on: `Done`, also if it was before; or `Conflict` if it is
    /// another process's by now, or has messages that its copier has not seen.
    Leave {
        /// The run.
        run: RunId,
        /// The epoch in which it was taken.
        epoch: u64,
        /// The messages that were copied.
        seen: Seen,
    },
    /// Forgets a run that has left: `Done`, or `Conflict` if it has not, or has messages that its copier has not seen.
    Remove {
        /// The run.
        run: RunId,
        /// The epoch in which it left.
        epoch: u64,
        /// The messages that were copied.
        seen: Seen,
    },
    /// What is kept of a run beside what `Load`, `Get` and the others give: `Traces`.
    Traces {
        /// The run.
        run: RunId,
    },
    /// Forgets a run: `Done`, `RunActive` while a living process has it, or `BeingCopied` if it has left and the other
    /// journal was not told.
    Delete {
        /// The run.
        run: RunId,
    },
    /// Forgets runs that were over before a time, the oldest first: `Pruned`.
    Prune {
        /// The time.
        finished_before: Time,
        /// At most so many.
        limit: usize,
    },
}

impl Request {
    /// How many delivered messages of a run are known again when they are sent once more.
    pub const DEDUPE_WINDOW: u64 = 4096;

    /// The run that it is about, if it is one alone.
    pub fn run(&self) -> Option<RunId> {
        match self {
            Self::Create { run, .. } => Some(run.id),
            Self::Load { runs } => runs.first().copied().filter(|_| runs.len() == 1),
            Self::Append { run, .. }
            | Self::Reopen { run, .. }
            | Self::Send { run, .. }
            | Self::Refuse { run, .. }
            | Self::DeadLetters { run }
            | Self::Redeliver { run }
            | Self::Get { run }
            | Self::Records { run, .. }
            | Self::Segment { run, .. }
            | Self::ReadStream { run, .. }
            | Self::Take { run, .. }
            | Self::Leave { run, .. }
            | Self::Remove { run, .. }
            | Self::Traces { run }
            | Self::Delete { run } => Some(*run),
            Self::Enlist { .. }
            | Self::Renew { .. }
            | Self::Release { .. }
            | Self::Claim(_)
            | Self::NextDue { .. }
            | Self::Poll { .. }
            | Self::Ends { .. }
            | Self::List { .. }
            | Self::Prune { .. } => None,
        }
    }

    /// What it commits, if it commits something.
    pub fn commit(&self) -> Option<&Commit> {
        match self {
            Self::Create { commit, .. } | Self::Append { commit, .. } | Self::Reopen { commit, .. } => Some(commit),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub(super) fn commit_mut(&mut self) -> Option<&mut Commit> {
        match self {
            Self::Create { commit, .. } | Self::Append { commit, .. } | Self::Reopen { commit, .. } => Some(commit),
            _ => None,
        }
    }

    /// Whether it only reads.
    pub fn only_reads(&self) -> bool {
        matches!(
            self,
            Self::NextDue { .. }
                | Self::Ends { .. }
                | Self::DeadLetters { .. }
                | Self::Poll { .. }
                | Self::Load { .. }
                | Self::Get { .. }
                | Self::List { .. }
                | Self::Records { .. }
                | Self::Segment { .. }
                | Self::ReadStream { .. }
                | Self::Traces { .. }
        )
    }

    /// Whether it belongs to the lease of a process.
    pub fn is_of_lease(&self) -> bool {
        matches!(self, Self::Enlist { .. } | Self::Renew { .. } | Self::Release { .. } | Self::Claim(_))
    }

    /// Where the name of the operation is, if it is one that has a name.
    pub fn op_mut(&mut self) -> Option<&mut OpId> {
        match self {
            Self::Claim(claim) => Some(&mut claim.op),
            Self::Take { op, .. } => Some(op),
            other => other.commit_mut().map(|commit| &mut commit.op),
        }
    }

    /// About how much memory the request takes.
    pub fn bytes(&self) -> usize {
        const FIXED: usize = size_of::<Request>();
        FIXED
            + match self {
                Self::Create { run, commit, .. } => run.bytes() + commit.bytes(),
                Self::Append { commit, .. } | Self::Reopen { commit, .. } => commit.bytes(),
                Self::Send { message, .. } => message.body.len(),
                Self::Load { runs } => size_of_val(runs.as_slice()),
                Self::Claim(Claim { workflows, .. }) | Self::NextDue { workflows, .. } => {
                    workflows.iter().map(String::len).sum()
                }
                _ => 0,
            }
    }
}

impl Cursor {
    /// The cursor that has these bytes.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Behind what has this number, in a journal where numbers become visible in their order.
    pub(super) fn behind(number: u64) -> Self {
        Self(number.to_be_bytes().into())
    }

    /// The number that it is behind; 0 for one of another journal.
    pub(super) fn number(&self) -> u64 {
        self.0.as_slice().try_into().map_or(0, u64::from_be_bytes)
    }
}
