//! How a journal learns of the end of a run.

use super::taken::{Draft, Sealed, Taken};
use super::{Link, READY, Requests, Writer, Written};
use crate::error::Error;
use crate::event::EncodedEvent;
use crate::journal::{Commit, Outgoing, Phase, Request, Signer, Slot, Status, entry};
use crate::run::{Host, HostRecord, Run};
use crate::run_id::RunId;
use crate::timers::Time;

/// What there is to write of a run whose last step has stopped.
pub enum EndTaken<H: Host> {
    /// The last commit.
    Write(Box<Taken<H>>),
    /// Nothing: a commit is being made, and [`Writer::handed_over`] says when the end may be taken.
    Later,
    /// Nothing: the run has no journal any more. The records are for the host to drop.
    Detached(Vec<HostRecord<H>>),
}

/// The place of the end of a run.
pub struct Ending<'a> {
    run: RunId,
    // The number of the run's last record.
    seq: u64,
    signer: &'a Signer,
    signs_all: bool,
}

impl Ending<'_> {
    /// Makes the bytes of how the run ended: its result or its error.
    ///
    /// # Errors
    /// As [`entry::encode`].
    pub fn seal(&self, phase: Phase, outcome: &EncodedEvent) -> Result<Vec<u8>, Error> {
        let slot = Slot::Outcome { seq: self.seq, phase };
        Ok(entry::encode(self.run, &slot, outcome, &self.signer.secrets, self.signs_all)?.into())
    }
}

impl Draft {
    /// The end is written without the records that cannot be. Their messages stay in the inbox, as what became of them
    /// is lost.
    pub fn without_records(&mut self, at: Time) -> Sealed {
        self.consumed.clear();
        self.outgoing.clear();
        self.empty(at)
    }

    /// Where the run ends by this commit.
    pub fn ending<'a>(&self, sealed: &Sealed, signer: &'a Signer) -> Ending<'a> {
        let seq = self.after + sealed.commit.records.len() as u64;
        Ending { run: self.run, seq, signer, signs_all: self.chain.signs_all() }
    }
}

impl Writer {
    /// Takes what the last commit of a run holds.
    pub fn take_end<H: Host>(&mut self, run: &mut Run<H>) -> EndTaken<H> {
        if !self.may_write() {
            return EndTaken::Detached(run.take_log());
        }
        if self.is_writing {
            self.is_end_due = true;
            return EndTaken::Later;
        }
        let mut taken = self.take_all(run, Status::default());
        if self.has_gap {
            taken.left_out = std::mem::take(&mut taken.records);
            taken.unsent = std::mem::take(&mut taken.outbound);
            taken.draft.consumed.clear();
            taken.draft.outgoing.clear();
        }
        EndTaken::Write(Box::new(taken))
    }

    /// The end is written: gives the requests, none if the journal was lost meanwhile. `outcome` is the bytes of
    /// [`Ending::seal`], `last` what the run writes to its family with its end.
    pub fn hand_over_end(
        &mut self,
        draft: Draft,
        sealed: Sealed,
        (phase, outcome): (Phase, Vec<u8>),
        mut last: Vec<Outgoing>,
    ) -> Requests {
        self.is_writing = false;
        if self.link != Link::Attached {
            return Requests::new();
        }
        let mut written = self.keep_up_with(sealed);
        written.outgoing.splice(..0, draft.outgoing);
        let room = Commit::MOST_OUTGOING.saturating_sub(written.outgoing.len());
        let others = last.split_off(last.len().saturating_sub(room));
        let earlier = self.hand_over_before_end(&last, draft.after, written.at);
        written.outgoing.extend(others);
        let (consumed, undeliverable) = (draft.consumed, draft.undeliverable);
        let status = Status { phase, due: None };
        let commit = Commit { consumed, undeliverable, status, outcome: Some(outcome), ..written };
        self.making.hand_over(&commit.outgoing);
        let request = Request::Append { run: self.run, epoch: self.epoch, after: draft.after, commit };
        let creation = draft.creation.map(|pending| pending.into_request());
        creation.into_iter().chain(earlier).chain([(Written::End, request)]).collect()
    }

    /// The commits that come before the end of a run which cancels more children than its last commit has room for. A crash
    /// in between leaves a run that goes on, with some of its children cancelled.
    fn hand_over_before_end(&mut self, cancels: &[Outgoing], after: u64, at: Time) -> Requests {
        let commits = cancels.chunks(Commit::MOST_OUTGOING).map(|outgoing| {
            self.making.hand_over(outgoing);
            let status = self.status.unwrap_or(READY);
            let commit = Commit { at, outgoing: outgoing.to_vec(), status, ..Commit::default() };
            let request = Request::Append { run: self.run, epoch: self.epoch, after, commit };
            (Written::Commit { recorded: self.written }, request)
        });
        commits.collect()
    }
}
