//! What can be asked of a journal.

use std::fmt;
use std::time::Duration;

use super::op::OpId;
use crate::run_id::RunId;
use crate::timers::Time;

/// Names a process that executes runs: random, made once in its life.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(pub [u8; 16]);

/// Names a message; the same name is delivered once.
pub type EntryId = [u8; 16];

/// The number by which a commit consumes an entry of its run's inbox. Those of one run grow in the order of their
/// delivery; nothing more is known of them.
pub type EntryNumber = u64;

/// Where a journal goes on that was asked before. Only the journal that made it reads it; the default is the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cursor(Vec<u8>);

/// A digest of a run's input. The journal only compares it.
pub type Digest = [u8; 32];

/// How far a run is, as far as the journal must know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Phase {
    /// It can go on at once.
    #[default]
    Ready = 0,
    /// It can go on when it is due, or when something is sent to it.
    Waiting = 1,
    /// Somebody holds it; like waiting.
    Paused = 2,
    /// Over, with a result.
    Completed = 3,
    /// Over, with an error.
    Failed = 4,
    /// Over, since somebody asked for it.
    Cancelled = 5,
    /// Nobody goes on with it until it is reopened: it was taken over too often, or cannot be read. It is not over.
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

/// What one commit writes: all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Its name: the journal knows the last commit of a run again.
    pub op: OpId,
    /// The time of the commit.
    pub at: Time,
    /// The new records. They take the sequence numbers behind the run's last.
    pub records: Vec<Vec<u8>>,
    /// New entries of the stream: numbers that grow, all of them above those of earlier commits.
    pub published: Vec<(u64, Vec<u8>)>,
    /// Entries of the inbox that are dealt with by this commit.
    pub consumed: Vec<EntryNumber>,
    /// The state after this commit. It takes the place of every record up to and including this commit's.
    pub checkpoint: Option<Vec<u8>>,
    /// How far the run is now.
    pub status: Status,
    /// The result or the error of a run that is over.
    pub outcome: Option<Vec<u8>>,
    /// Whether the run is handed back: any process may claim it.
    pub release: bool,
    /// Whether the run has got further by it, so that its earlier take-overs count no more.
    pub progress: bool,
    /// Entries of the inbox that cannot be delivered, and why: they become dead letters.
    pub undeliverable: Vec<(EntryNumber, String)>,
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
}

/// What is put into a run's inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its name.
    pub id: EntryId,
    /// What it is (an event, a wish to cancel, …); the journal hands it on.
    pub kind: u8,
    /// What it says.
    pub body: Vec<u8>,
}

/// How much patience a process has with runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claimant {
    /// How often a run is taken over without having got further before it is stranded; nothing: always.
    pub max_recoveries: Option<u32>,
}

impl Claimant {
    /// Whether a run that was lost so many times without progress is not taken over again.
    pub fn is_too_many(&self, losses: u32) -> bool {
        self.max_recoveries.is_some_and(|most| losses > most)
    }
}

/// Which runs a process takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Its name. The last claim of a process that took runs is known again: it is answered with those of them that
    /// have not got further since.
    pub op: OpId,
    /// Who takes them.
    pub owner: OwnerId,
    /// The workflows that it knows.
    pub workflows: Vec<String>,
    /// How often it takes over a run that gets no further.
    pub claimant: Claimant,
    /// The time by which runs are due.
    pub now: Time,
    /// At most so many.
    pub limit: usize,
}

/// Why a process cannot go on with a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong, for people.
    pub why: String,
    /// Whether what is stored of the run is damaged, so that no process can. Otherwise one with other code or other
    /// secrets may be able to.
    pub is_damaged: bool,
    /// How much patience there is.
    pub claimant: Claimant,
}

/// Which runs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those of this workflow.
    pub workflow: Option<String>,
    /// Only those that are this far.
    pub phase: Option<Phase>,
    /// Only those that were made at this time or later, by the time in their id (milliseconds).
    pub since: Option<Time>,
    /// Only those behind this one: the last of the page before.
    pub after: Option<RunId>,
    /// Only those whose key is this one, or begins so.
    pub key: Option<KeyFilter>,
    /// Only those that ended at this time or later.
    pub finished_since: Option<Time>,
    /// Only those that ended before this time.
    pub finished_before: Option<Time>,
    /// At most so many.
    pub limit: usize,
}

impl Filter {
    /// Whether it selects by a key, or by the end of runs.
    pub fn is_narrow(&self) -> bool {
        self.key.is_some() || self.finished_since.is_some() || self.finished_before.is_some()
    }
}

/// Which keys of runs are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFilter {
    /// This one.
    Is(String),
    /// All that begin so.
    StartsWith(String),
}

impl KeyFilter {
    /// Whether a run of this key is meant.
    pub fn takes(&self, key: Option<&str>) -> bool {
        match self {
            Self::Is(wanted) => key == Some(wanted),
            Self::StartsWith(prefix) => key.is_some_and(|key| key.starts_with(prefix.as_str())),
        }
    }
}

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
        /// Who executes it (with epoch 1); nobody: whoever claims it.
        owner: Option<OwnerId>,
        /// What is written first.
        commit: Commit,
    },
    /// Goes on with a run: `Appended`, also if it was the last operation on the run, whoever owns that by now; or
    /// `Conflict` unless the run has this epoch, its owner lives, and its last record has this number.
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
    /// Makes a run that is over go on: `Reopened`, also if it was the last operation on the run and that has this owner;
    /// or `Conflict` if it is not over or has another last record.
    Reopen {
        /// The run.
        run: RunId,
        /// The sequence number of its last record.
        after: u64,
        /// Who executes it; nobody: whoever claims it.
        owner: Option<OwnerId>,
        /// What is written.
        commit: Commit,
    },
    /// Takes over runs that nobody executes and that have something to do (they are ready or due, or their inbox
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
    /// Forgets a run: `Done`, or `RunActive` while a living process has it.
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
            | Self::ReadStream { run, .. }
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

    /// Whether it belongs to the lease of a process.
    pub fn is_of_lease(&self) -> bool {
        matches!(self, Self::Enlist { .. } | Self::Renew { .. } | Self::Release { .. } | Self::Claim(_))
    }

    /// Where the name of the operation is, if it is one that has a name.
    pub fn op_mut(&mut self) -> Option<&mut OpId> {
        match self {
            Self::Create { commit, .. } | Self::Append { commit, .. } | Self::Reopen { commit, .. } => {
                Some(&mut commit.op)
            }
            Self::Claim(claim) => Some(&mut claim.op),
            _ => None,
        }
    }

    /// About how much memory the request takes.
    pub fn bytes(&self) -> usize {
        const FIXED: usize = size_of::<Request>();
        FIXED
            + match self {
                Self::Create { run, commit, .. } => {
                    run.workflow.len() + run.key.as_ref().map_or(0, String::len) + commit.bytes()
                }
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

impl Commit {
    /// Whether the next commit of the run can be written with this one as one.
    pub fn takes(&self, next: &Self) -> bool {
        let ends_here = self.release || self.status.phase.is_over();
        // A checkpoint in the middle would stand for records that come behind it.
        !ends_here && (self.checkpoint.is_none() || next.checkpoint.is_some())
    }

    /// Adds the next commit of the run, under the name of that.
    pub fn merge(&mut self, next: Self) {
        self.op = next.op;
        self.at = next.at;
        self.records.extend(next.records);
        self.published.extend(next.published);
        self.consumed.extend(next.consumed);
        self.checkpoint = next.checkpoint;
        self.status = next.status;
        self.outcome = next.outcome;
        self.release = next.release;
        self.progress |= next.progress;
        self.undeliverable.extend(next.undeliverable);
    }

    /// Adds a checkpoint if the commit has room for it within so many bytes. A run goes on without one: its records
    /// say the same.
    pub fn add_checkpoint(&mut self, checkpoint: Vec<u8>, limit: usize) {
        if self.bytes().saturating_add(checkpoint.len()) <= limit {
            self.checkpoint = Some(checkpoint);
        }
    }

    /// About how much memory its parts take.
    pub fn bytes(&self) -> usize {
        const EACH: usize = size_of::<(u64, Vec<u8>)>();
        self.records.iter().map(|record| record.len() + EACH).sum::<usize>()
            + self.published.iter().map(|(_, body)| body.len() + EACH).sum::<usize>()
            + self.consumed.len() * size_of::<EntryNumber>()
            + self.undeliverable.iter().map(|(_, why)| why.len() + EACH).sum::<usize>()
            + self.checkpoint.as_ref().map_or(0, Vec::len)
            + self.outcome.as_ref().map_or(0, Vec::len)
    }
}

impl fmt::Debug for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerId({self})")
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
