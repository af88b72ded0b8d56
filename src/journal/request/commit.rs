//! What one commit writes.

use super::{Arrival, EntryNumber, Status};
use crate::journal::op::OpId;
use crate::journal::outgoing::Outgoing;
use crate::timers::Time;

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
    /// Whether what the checkpoint stands for stays in the journal, as the run's history. Otherwise what was kept before is
    /// dropped as well: a history has no gap.
    pub keeps_history: bool,
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
    /// What is written to other runs. Only an `Append` has any.
    pub outgoing: Vec<Outgoing>,
    /// If the run is written as it is in another journal: what else is said of it.
    pub arrival: Option<Box<Arrival>>,
}

impl Commit {
    /// The most that one commit writes to other runs.
    pub const MOST_OUTGOING: usize = 30_000;

    /// Whether the next commit of the run can be written with this one as one.
    pub fn takes(&self, next: &Self) -> bool {
        let arrives = self.arrival.is_some() || next.arrival.is_some();
        let ends_here = self.release || self.status.phase.is_over() || arrives;
        let has_room = self.outgoing.len() + next.outgoing.len() <= Self::MOST_OUTGOING;
        // A checkpoint in the middle would stand for records that come behind it.
        !ends_here && has_room && (self.checkpoint.is_none() || next.checkpoint.is_some())
    }

    /// Adds the next commit of the run, under the name of that.
    pub fn merge(&mut self, next: Self) {
        self.op = next.op;
        self.at = next.at;
        self.records.extend(next.records);
        self.published.extend(next.published);
        self.consumed.extend(next.consumed);
        self.checkpoint = next.checkpoint;
        self.keeps_history = next.keeps_history;
        self.status = next.status;
        self.outcome = next.outcome;
        self.release = next.release;
        self.progress |= next.progress;
        self.undeliverable.extend(next.undeliverable);
        self.outgoing.extend(next.outgoing);
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
            + self.outgoing.iter().map(Outgoing::bytes).sum::<usize>()
            + self.checkpoint.as_ref().map_or(0, Vec::len)
            + self.outcome.as_ref().map_or(0, Vec::len)
    }
}
