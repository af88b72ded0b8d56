//! What a journal answers.

use std::time::Duration;

use super::error::JournalError;
use super::op::OpId;
use super::outgoing::Undelivered;
use super::request::{Copying, Cursor, Digest, EntryId, EntryNumber, OwnerId, Phase, Status};
use crate::run_id::RunId;
use crate::timers::Time;

/// What a journal knows of a run without reading its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// Its name.
    pub id: RunId,
    /// The name of its workflow.
    pub workflow: String,
    /// Its second name, unique in its workflow.
    pub key: Option<String>,
    /// What it started with.
    pub input: Digest,
    /// When it was made.
    pub created: Time,
    /// When it was written last.
    pub updated: Time,
    /// When it was over, if it is.
    pub finished: Option<Time>,
    /// How far it is.
    pub status: Status,
    /// Who executes it. A process that lost its lease does not.
    pub owner: Option<OwnerId>,
    /// How many times it was claimed.
    pub epoch: u64,
    /// The sequence number of its last record.
    pub seq: u64,
    /// The last commit, or the claim if that was later.
    pub op: OpId,
    /// The operation that made it.
    pub made_by: OpId,
    /// The operation that made it go on after its end, the last one if there were several.
    pub reopened_by: OpId,
    /// How many entries its inbox has.
    pub inbox: u64,
    /// The number of the last entry of its stream; 0 before the first.
    pub published: u64,
    /// How many entries of its stream are kept.
    pub stream_limit: u64,
    /// Whether the end of its log is missing. `Get` and `List` look at that; `Load` refuses whatever is incomplete.
    pub is_cut_short: bool,
    /// How often it lost its owner since it got further.
    pub recoveries: u32,
    /// When it is taken over at the earliest.
    pub not_before: Option<Time>,
    /// Why it is stranded, or why a process could not go on with it.
    pub reason: Option<String>,
    /// How many messages to it could not be delivered.
    pub dead_letters: u64,
    /// The run that started it.
    pub parent: Option<RunId>,
    /// The first of the runs that led to it.
    pub root: Option<RunId>,
    /// How many runs led to it.
    pub depth: u32,
    /// Whether it is on its way from one journal to another.
    pub copying: Copying,
}

/// A message that could not be delivered. It is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message.
    pub entry: Entry,
    /// Why.
    pub why: String,
}

/// Runs that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The runs, in the order of their ends.
    pub runs: Vec<RunId>,
    /// Where the next answer goes on.
    pub cursor: Cursor,
    /// Whether the limit was reached: there may be more.
    pub more: bool,
    /// Whether ends behind the asker's cursor are no longer known: it must ask for each run that it waits for.
    pub missed: bool,
}

/// An entry of a run's inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The number by which a commit consumes it.
    pub number: EntryNumber,
    /// The run.
    pub run: RunId,
    /// The name that the sender gave it.
    pub id: EntryId,
    /// What it is.
    pub kind: u8,
    /// When it was sent.
    pub at: Time,
    /// What it says.
    pub body: Vec<u8>,
}

/// All that is needed to go on with a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The run.
    pub run: RunRow,
    /// The last checkpoint, and the sequence number of the last record that it stands for.
    pub checkpoint: Option<(u64, Vec<u8>)>,
    /// The records behind it, in order, up to `run.seq`.
    pub records: Vec<Vec<u8>>,
    /// The inbox, in order.
    pub inbox: Vec<Entry>,
}

/// A part of a run's history: a checkpoint, and the records behind it up to the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The run.
    pub run: RunRow,
    /// The checkpoint, and the sequence number of the last record that it stands for.
    pub checkpoint: Option<(u64, Vec<u8>)>,
    /// The records behind it, in order.
    pub records: Vec<Vec<u8>>,
    /// The number of the record that the earliest checkpoint stands for that is kept.
    pub first: u64,
}

impl Segment {
    /// The number of its last record.
    pub fn end(&self) -> u64 {
        let folded = self.checkpoint.as_ref().map_or(0, |&(folded, _)| folded);
        folded.saturating_add(self.records.len() as u64)
    }

    /// The run as if it had been loaded when it had this last record. Its row is that of now.
    pub fn into_loaded(self) -> Loaded {
        let run = RunRow { seq: self.end(), ..self.run };
        Loaded { run, checkpoint: self.checkpoint, records: self.records, inbox: Vec::new() }
    }
}

/// What is kept of a run beside its state, its records, its stream and its messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// The names of the consumed messages that are known again, in the order of their delivery.
    pub consumed: Vec<EntryId>,
    /// How many results of transactions there are.
    pub transactions: u64,
}

/// What a claim took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The runs, in their new epochs.
    pub runs: Vec<RunRow>,
    /// Runs that were not taken over again, and are stranded now.
    pub stranded: Vec<RunRow>,
    /// Whether the limit was reached: there may be more.
    pub more: bool,
}

/// When a claim is worth while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// When the next run that no process executes is due; a time that has passed if one can be claimed at once.
    pub due: Option<Time>,
    /// In how long the next lease of another process is over, unless it is renewed. Nothing if it has ended.
    pub lapse: Option<Duration>,
}

/// What a poll found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    /// The entries, those of each run in order.
    pub entries: Vec<Entry>,
    /// Where the next poll goes on.
    pub cursor: Cursor,
    /// Whether the limit was reached: there may be more.
    pub more: bool,
}

/// A piece of a run's stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamRead {
    /// The entries and their numbers, in order.
    pub entries: Vec<(u64, Vec<u8>)>,
    /// How many entries, from the one that was asked for, are no longer kept.
    pub missed: u64,
    /// The number of the last entry that was published.
    pub published: u64,
    /// Whether the run is over or stranded: nothing comes behind `published`.
    pub ended: bool,
}

/// An answer; which one belongs to which request is said there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Done,
    /// The run is made.
    Created {
        /// 1 if it was made for an owner, else 0.
        epoch: u64,
    },
    /// There is such a run. Whether it is the same is seen by the input.
    Exists {
        /// The run.
        id: RunId,
        /// What it started with.
        input: Digest,
    },
    /// The commit is written.
    Appended {
        /// The sequence number of the run's last record.
        seq: u64,
        /// The messages of the commit that were not delivered, in their order.
        undelivered: Vec<Undelivered>,
    },
    /// The run goes on.
    Reopened {
        /// Its epoch.
        epoch: u64,
        /// The sequence number of its last record.
        seq: u64,
    },
    /// What a claim took.
    Claimed(Claimed),
    /// When the next claim is worth while.
    Next(Next),
    /// The run is handed back, or stranded.
    Refused(Box<RunRow>),
    /// Runs that ended.
    Ends(Ends),
    /// Messages that could not be delivered.
    DeadLetters(Vec<DeadLetter>),
    /// So many messages are in the inbox again.
    Redelivered {
        /// How many.
        messages: usize,
    },
    /// The message is in the inbox.
    Sent {
        /// False if it had been sent before.
        new: bool,
    },
    /// What a poll found.
    Polled(Polled),
    /// All that is needed to go on, of each run that was asked for, in that order.
    Loaded(Vec<(RunId, Result<Box<Loaded>, JournalError>)>),
    /// One run.
    Run {
        /// The run.
        run: Box<RunRow>,
        /// Its result or error, if it is over.
        outcome: Option<Vec<u8>>,
    },
    /// A page of runs.
    Listed(Vec<RunRow>),
    /// Records and their sequence numbers.
    Records {
        /// The records, in order.
        records: Vec<(u64, Vec<u8>)>,
        /// The number of the last record that a checkpoint has replaced; 0 if none was.
        folded: u64,
    },
    /// A part of a history.
    Segment(Box<Segment>),
    /// A piece of a stream.
    Stream(StreamRead),
    /// The run is taken, in a new epoch.
    Taken(Box<RunRow>),
    /// What else is kept of a run.
    Traces(Traces),
    /// So many runs were forgotten.
    Pruned {
        /// How many.
        runs: usize,
    },
}

impl Reply {
    /// The answer to a commit of which everything was delivered.
    pub fn appended(seq: u64) -> Self {
        Self::Appended { seq, undelivered: Vec::new() }
    }
}

impl RunRow {
    /// Whether the run is over.
    pub fn is_over(&self) -> bool {
        self.status.phase.is_over()
    }

    /// Whether it goes on by itself, here.
    pub fn goes_on(&self) -> bool {
        self.phase().goes_on() && !self.copying.is_any()
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        self.status.phase
    }
}
