//! What of a run is written to its journal, and when: the commits of a run.
//!
//! A run is marked when something has happened that is worth a commit, and written when its host has nothing more to
//! start, at the latest in the next pass of its event loop. So what happens in one go is one commit. Each commit has
//! every record since the last one, in their order, and all that became of the run with them.
//!
//! The host makes a commit in four steps, of which the second and the third need no lock:
//!
//! 1. [`Writer::take`], with the run: what there is to write.
//! 2. [`Taken::translate`]: the host's events and values become bytes, which may run foreign code.
//! 3. [`Draft::seal`]: the records become bytes, signed and chained.
//! 4. [`Writer::hand_over`]: the requests for the journal. Once they are submitted: [`Writer::handed_over`].
//!
//! - this file: what is worth a commit, and when; `taken`: what a commit takes out of its run, and its bytes;
//! - `creation`: how a journal learns of a run; `end`: how it learns of its end;
//! - `answer`: what becomes of the run when the journal has answered, and losing the journal;
//! - `making`: the runs that commits make;
//! - `outbound`: events to other runs, as messages;
//! - `occurrence`: what happens to a run.

mod answer;
mod creation;
mod end;
mod making;
mod occurrence;
mod outbound;
mod taken;

use crate::history::Continuation;
use crate::journal::{Chain, Digest, EntryNumber, Phase as JournalPhase, Request, Status};
use crate::run::{Host, Phase, Run};
use crate::run_id::RunId;
use crate::timers::Time;

pub use answer::Answered;
pub use creation::{Creation, begin};
pub use end::{EndTaken, Ending};
pub use making::Made;
pub use occurrence::Occurrence;
pub use taken::{Draft, Encoded, Sealed, Taken};

/// When the successors of a step may start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Once the commit that queued them is on disk.
    #[default]
    Step,
    /// At once, while the journal has room. Only the end of the run waits for the disk.
    Pipelined,
}

/// When the host makes the next commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// It need not do anything for that: it was told before, or it does when the present step is done.
    AsItGoes,
    /// In the next pass of its event loop.
    Soon,
    /// Now.
    Now,
}

/// What a request of a writer writes. The host hands it back with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// That there is the run.
    Creation {
        /// How many records the run had by then.
        recorded: u64,
    },
    /// What has happened to it.
    Commit {
        /// How many records the run had by then.
        recorded: u64,
    },
    /// Its end.
    End,
}

/// Requests for the journal, in their order.
pub type Requests = Vec<(Written, Request)>;

/// What the host does once it has handed over the requests of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// The next commit, in the next pass of its event loop.
    Flush,
    /// It writes the end of the run, which came meanwhile.
    End,
}

/// When a run is due that waits, and of which more may move than the core sees: it goes on in another process as soon as
/// this one is lost.
pub const AT_ONCE: Time = 0;

/// How far a run is that can go on at once.
pub const READY: Status = Status { phase: JournalPhase::Ready, due: None };

// A checkpoint is due once the records are as large as it: so its cost is in proportion to what was written, and
// loading a run costs what its state costs.
const LEAST_FOR_CHECKPOINT: usize = 64 << 10;
// Records of what a step does before it is done.
const MOST_UNWRITTEN: usize = 1024;

/// Writes one run, in the epoch in which its process has it.
#[derive(Debug)]
pub struct Writer {
    run: RunId,
    epoch: u64,
    durability: Durability,
    // What was handed over: the number of the last record and what the next one comes behind, that of the last event
    // of the stream, how far the run is.
    seq: u64,
    chain: Chain,
    published: u64,
    status: Option<Status>,
    // Bytes of records since the last checkpoint, and of that.
    record_bytes: usize,
    checkpoint_bytes: usize,
    least_for_checkpoint: usize,
    // What makes the run in the journal, until it is handed over with the first commit.
    creation: Option<Box<Pending>>,
    input: Digest,
    // Entries of the inbox that become dead letters by the next commit, and why.
    undeliverable: Vec<(EntryNumber, String)>,
    last_entry: EntryNumber,
    is_marked: bool,
    // A commit is being made. What makes its bytes may record more, which is for the next one: commits are handed over
    // in the order of their records.
    is_writing: bool,
    // The run ended meanwhile.
    is_end_due: bool,
    // Records were dropped that could not be written: of what comes behind them only the end counts.
    has_gap: bool,
    // The run is made for any process: this one executes it only if it claims it.
    is_for_any: bool,
    link: Link,
    // The journal was busy and nothing is broken: the run can go on from what is written.
    may_go_on: bool,
    // How many records are on disk.
    written: u64,
    making: making::Making,
}

// What makes a run in the journal, and how many records the run had by then.
#[derive(Debug)]
struct Pending {
    request: Request,
    recorded: u64,
}

/// What ties a run to its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Attached,
    /// Nothing is written any more: the journal failed, another process has the run, or it goes on elsewhere.
    Lost,
    /// Nothing is written any more: the journal has another run in the place of this one.
    Replaced(RunId),
}

impl Writer {
    /// The writer of a run that goes on in the epoch in which it was claimed.
    pub fn of_continuation(of: &Continuation, durability: Durability) -> Self {
        let writer = Self::new(of.image.id, of.epoch, of.chain.clone(), durability);
        let (record_bytes, checkpoint_bytes) = (of.sizes.records, of.sizes.checkpoint);
        Self { seq: of.seq, published: of.image.published, record_bytes, checkpoint_bytes, ..writer }
    }

    fn new(run: RunId, epoch: u64, chain: Chain, durability: Durability) -> Self {
        Self {
            run,
            epoch,
            durability,
            seq: 0,
            chain,
            published: 0,
            status: None,
            record_bytes: 0,
            checkpoint_bytes: 0,
            least_for_checkpoint: LEAST_FOR_CHECKPOINT,
            creation: None,
            input: Digest::default(),
            undeliverable: Vec::new(),
            last_entry: 0,
            is_marked: false,
            is_writing: false,
            is_end_due: false,
            has_gap: false,
            is_for_any: false,
            link: Link::Attached,
            may_go_on: false,
            written: 0,
            making: making::Making::default(),
        }
    }

    /// Whether the run only waits, as the last commit says that was handed over.
    pub fn is_waiting(&self) -> bool {
        self.status.is_some_and(|status| status.phase == JournalPhase::Waiting)
    }

    /// Has checkpoints made after fewer, or more, bytes of records than usual.
    pub fn with_checkpoints_after(self, least_for_checkpoint: usize) -> Self {
        Self { least_for_checkpoint, ..self }
    }

    /// The epoch in which this process has the run.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The number of the last record that was handed over.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Something has happened to the run. `is_on_loop` says whether the host makes commits where this is called.
    pub fn mark<H: Host>(&mut self, what: Occurrence, run: &Run<H>, is_on_loop: bool) -> Flush {
        // A body that sets a million keys before it waits must not hold a million records.
        let may_be_many = !what.is_committed() || what == Occurrence::Child;
        let is_full = may_be_many && run.unwritten() >= MOST_UNWRITTEN || run.has_many_outbound();
        if !what.is_committed() && !is_full {
            return Flush::AsItGoes;
        }
        let is_first = !std::mem::replace(&mut self.is_marked, true);
        match () {
            () if is_full && is_on_loop => Flush::Now,
            // A host whose step is done writes by itself, before it parks, waits or ends.
            () if is_first && !what.ends_step() => Flush::Soon,
            () => Flush::AsItGoes,
        }
    }

    /// Whether nothing has happened yet: a run that waits for its first step is made with its first commit.
    pub fn is_unbegun<H: Host>(&self, run: &Run<H>) -> bool {
        self.creation.is_some() && run.unwritten() == 0
    }

    /// Takes what there is to write out of the run, unless there is nothing, or a commit is being made.
    pub fn take<H: Host>(&mut self, run: &mut Run<H>) -> Option<Taken<H>> {
        if self.is_writing {
            return None;
        }
        let is_due = std::mem::take(&mut self.is_marked) || self.creation.is_some();
        if !is_due || !self.may_write() || run.phase() != Phase::Running {
            return None;
        }
        let status = status_of(run);
        let writes_to_others = run.writes_to_children() || run.has_outbound();
        let has_entries = run.has_consumed() || writes_to_others || !self.undeliverable.is_empty();
        let has_commit = has_entries || run.unwritten() > 0 || self.status != Some(status);
        if !has_commit && self.creation.is_none() {
            return None;
        }
        let mut taken = self.take_all(run, status);
        taken.draft.has_commit = has_commit;
        if self.record_bytes > self.least_for_checkpoint.max(self.checkpoint_bytes) {
            taken.image = Some(Box::new(run.image()));
        }
        Some(taken)
    }

    fn take_all<H: Host>(&mut self, run: &mut Run<H>, status: Status) -> Taken<H> {
        self.is_writing = true;
        let draft = Draft {
            run: self.run,
            epoch: self.epoch,
            after: self.seq,
            recorded: run.recorded(),
            chain: self.chain.clone(),
            published: self.published,
            creation: self.creation.take(),
            consumed: run.take_consumed(),
            outgoing: run.take_outgoing(),
            undeliverable: std::mem::take(&mut self.undeliverable),
            status,
            has_commit: true,
        };
        let (records, outbound) = (run.take_log(), run.take_outbound());
        Taken { records, left_out: Vec::new(), unsent: Vec::new(), outbound, image: None, draft }
    }

    /// What was taken is written: gives the requests, none if the journal was lost meanwhile.
    pub fn hand_over(&mut self, draft: Draft, sealed: Sealed) -> Requests {
        if self.link != Link::Attached {
            return Requests::new();
        }
        let mut requests = Requests::with_capacity(2);
        requests.extend(draft.creation.map(|pending| pending.into_request()));
        if draft.has_commit {
            let (recorded, status) = (draft.recorded, draft.status);
            let has_entries = !(draft.consumed.is_empty() && draft.undeliverable.is_empty());
            let (consumed, undeliverable) = (draft.consumed, draft.undeliverable);
            let mut commit = self.keep_up_with(sealed);
            commit.progress |= has_entries;
            // A run may be sent to by the commit that makes it.
            commit.outgoing.splice(..0, draft.outgoing);
            let commit = crate::journal::Commit { consumed, undeliverable, status, ..commit };
            self.status = Some(status);
            self.making.hand_over(&commit.outgoing);
            let request = Request::Append { run: self.run, epoch: self.epoch, after: draft.after, commit };
            requests.push((Written::Commit { recorded }, request));
        }
        requests
    }

    // What comes next comes behind this.
    fn keep_up_with(&mut self, sealed: Sealed) -> crate::journal::Commit {
        self.seq += sealed.commit.records.len() as u64;
        (self.chain, self.published) = (sealed.chain, sealed.published);
        match sealed.checkpoint_bytes {
            Some(bytes) => (self.record_bytes, self.checkpoint_bytes) = (0, bytes),
            None => self.record_bytes += sealed.record_bytes,
        }
        sealed.commit
    }

    /// What was taken cannot be written, so the run cannot go on from there: the host fails it, and that is written.
    /// Gives what makes the run in the journal, if nothing did before.
    ///
    /// What the inbox had for the run stays there, as what became of it is lost.
    pub fn leave_gap(&mut self, draft: Draft) -> Requests {
        self.has_gap = true;
        let later = std::mem::replace(&mut self.undeliverable, draft.undeliverable);
        self.undeliverable.extend(later);
        let requests = draft.creation.map(|pending| pending.into_request());
        requests.into_iter().filter(|_| self.link == Link::Attached).collect()
    }

    /// What was taken is handed over, or cannot be: more may be taken. `has_room` says whether the journal takes more
    /// before it has written what it has, and is called only if that matters.
    pub fn handed_over<H: Host>(&mut self, run: &mut Run<H>, has_room: impl FnOnce() -> bool) -> Next {
        self.is_writing = false;
        if self.durability == Durability::Pipelined && !has_room() {
            run.hold_back();
        }
        match () {
            () if std::mem::take(&mut self.is_end_due) => Next::End,
            () if self.is_marked && self.link == Link::Attached => Next::Flush,
            () => Next::Nothing,
        }
    }

    /// Whether an entry of the inbox is new: each is taken once, as long as the run takes any.
    pub fn takes_entry<H: Host>(&mut self, number: EntryNumber, run: &Run<H>) -> bool {
        let is_new = number > self.last_entry && run.phase() == Phase::Running;
        if is_new {
            self.last_entry = number;
        }
        is_new
    }

    /// An entry of the inbox cannot be delivered: the next commit makes it a dead letter.
    pub fn refuse_entry(&mut self, number: EntryNumber, why: String) {
        self.undeliverable.push((number, why));
    }
}

impl Pending {
    fn into_request(self) -> (Written, Request) {
        (Written::Creation { recorded: self.recorded }, self.request)
    }
}

fn status_of<H: Host>(run: &mut Run<H>) -> Status {
    if run.is_paused() {
        return Status { phase: JournalPhase::Paused, due: None };
    }
    // A run that can only end must be ended: by the process that takes it over, if this one does not come to that.
    if !run.only_waits() {
        return READY;
    }
    let due = if run.may_move_while_waiting() { Some(AT_ONCE) } else { run.next_deadline() };
    Status { phase: JournalPhase::Waiting, due }
}
