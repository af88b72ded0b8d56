//! What the journal's answers mean for a run, and losing the journal.

use super::{Durability, Link, Writer, Written};
use crate::journal::{Digest, JournalError, Outcome, Reply};
use crate::run::{Host, Run};
use crate::run_id::RunId;

/// What an answer means for a run.
#[derive(Debug)]
pub enum Answered {
    /// Nothing that the host has to do anything for.
    Nothing,
    /// Deliveries may start that could not.
    MayStart,
    /// The journal has another run of the key: this one starts nothing, and stands for the other.
    Replaced {
        /// The run.
        id: RunId,
        /// The digest of the input of that run.
        input: Digest,
        /// The digest of the input of this one.
        given: Digest,
    },
    /// The journal has the run for any process: this one stands for it until it is claimed here.
    Written,
    /// Nothing can be written any more: the host [detaches](Writer::detach) the run, and fails it with this error.
    Lost(JournalError),
    /// The end could not be written: the host tells those who wait for the run that, and no result that may be lost.
    EndLost(JournalError),
    /// The run is over.
    Over,
}

impl Writer {
    /// The journal has answered. `has_room` as in [`Writer::handed_over`].
    pub fn answer<H: Host>(
        &mut self,
        run: &mut Run<H>,
        written: Written,
        answer: Outcome,
        has_room: impl FnOnce() -> bool,
    ) -> Answered {
        if !matches!(written, Written::Creation { .. }) {
            self.making.answer(&answer);
        }
        match (written, answer) {
            (Written::Creation { .. }, Ok(Reply::Exists { id, input })) => {
                self.link = Link::Replaced(id);
                Answered::Replaced { id, input, given: self.input }
            }
            (Written::Creation { .. }, Ok(_)) if self.is_for_any => {
                self.link = Link::Replaced(self.run);
                Answered::Written
            }
            (Written::Creation { recorded } | Written::Commit { recorded }, Ok(_)) => {
                self.written = self.written.max(recorded);
                let may_start = run.acknowledge(self.ahead_of(recorded, has_room));
                if may_start { Answered::MayStart } else { Answered::Nothing }
            }
            (Written::Creation { .. } | Written::Commit { .. }, Err(error)) => {
                self.note_failure(&error);
                if self.link == Link::Attached { Answered::Lost(error) } else { Answered::Nothing }
            }
            // The end of a run that another one takes the place of is no end in the journal.
            (Written::End, Err(error)) if !self.is_replaced() => {
                self.note_failure(&error);
                self.detach();
                Answered::EndLost(error)
            }
            (Written::End, _) => Answered::Over,
        }
    }

    fn note_failure(&mut self, error: &JournalError) {
        self.may_go_on |= error.is_transient() && self.link == Link::Attached;
    }

    /// Up to which record deliveries may start, if the first so many are written: any, if steps do not wait.
    pub(super) fn ahead_of(&self, recorded: u64, has_room: impl FnOnce() -> bool) -> u64 {
        if self.durability == Durability::Pipelined && has_room() { u64::MAX } else { recorded }
    }

    /// Whether this process writes the run. One that is made for any process is written by the one that claims it.
    pub(super) fn may_write(&self) -> bool {
        self.link == Link::Attached && !self.is_for_any
    }

    /// How many records are on disk. Where steps do not wait for them, memos still do.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Nothing of the run is written from now on. Says whether something was until now.
    pub fn detach(&mut self) -> bool {
        let was_attached = self.link == Link::Attached;
        if was_attached {
            self.link = Link::Lost;
        }
        was_attached
    }

    /// Whether the journal takes nothing more of the run, and has no other in its place.
    pub fn is_lost(&self) -> bool {
        self.link == Link::Lost
    }

    /// Whether the journal was too busy for the run, and nothing else: it can go on from what is written.
    pub fn may_go_on(&self) -> bool {
        self.may_go_on
    }

    /// The run that the journal has in the place of this one.
    pub fn stands_for(&self) -> Option<RunId> {
        if let Link::Replaced(id) = self.link { Some(id) } else { None }
    }

    fn is_replaced(&self) -> bool {
        self.stands_for().is_some()
    }
}
