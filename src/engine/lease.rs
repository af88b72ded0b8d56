//! The lease: one for all runs of a process, so that renewing it costs the same whatever their number.

use super::effect::{Due, Effect, Purpose, Trouble};
use super::{AFTER_AN_ERROR, Engine, Life, micros};
use crate::journal::{JournalError, Outcome, Request};

/// How often a lease is renewed in its length.
pub(super) const RENEWALS: u32 = 3;

#[derive(Default)]
pub(super) struct Lease {
    // Counts the leases that were lost, so that answers of an older one are known.
    tenure: u64,
    state: State,
    next: Due,
    // A lease was lost, and what may be left of it was not handed back yet.
    is_stale: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    None,
    Releasing,
    Enlisting,
    Held,
    Renewing {
        // A run was lost meanwhile: the answer may be older than that.
        again: bool,
    },
}

impl Lease {
    pub(super) fn tenure(&self) -> u64 {
        self.tenure
    }

    pub(super) fn next(&self) -> Due {
        self.next
    }

    /// What is still to be answered is of no meaning any more.
    pub(super) fn end(&mut self) {
        *self = Self { tenure: self.tenure + 1, ..Self::default() };
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.state, State::Held | State::Renewing { .. })
    }
}

impl Engine {
    pub(super) fn enlist(&mut self) {
        self.lease.state = State::Enlisting;
        self.lease.next = None;
        let (owner, lease) = (self.options.owner, self.options.lease);
        self.ask(Purpose::Enlist, Request::Enlist { owner, lease });
    }

    pub(super) fn enlisted(&mut self, outcome: Outcome) {
        if self.life == Life::Closing {
            // It is handed back already.
            return;
        }
        match outcome {
            Ok(_) => {
                self.hold();
                if self.life == Life::Opening {
                    self.life = Life::Open;
                    self.effects.push(Effect::Opened(Ok(())));
                }
                self.claims.want();
                self.poll();
                self.prune();
            }
            Err(error) if self.life == Life::Opening => {
                self.lease.end();
                self.life = Life::Closed;
                self.effects.push(Effect::Opened(Err(error)));
            }
            Err(error) => {
                self.lease.state = State::None;
                self.lease.next = Some(self.now.steady.saturating_add(AFTER_AN_ERROR));
                self.report(Trouble::NotRenewed(error));
            }
        }
    }

    fn hold(&mut self) {
        self.lease.state = State::Held;
        self.lease.next = Some(self.now.steady.saturating_add(micros(self.options.lease / RENEWALS)));
    }

    pub(super) fn tick_lease(&mut self) {
        if self.lease.next.is_none_or(|at| at > self.now.steady) {
            return;
        }
        match self.lease.state {
            State::None if self.lease.is_stale => self.release(),
            State::None => self.enlist(),
            State::Held => self.renew(),
            State::Releasing | State::Enlisting | State::Renewing { .. } => {}
        }
    }

    fn renew(&mut self) {
        self.lease.state = State::Renewing { again: false };
        self.lease.next = None;
        let (owner, lease) = (self.options.owner, self.options.lease);
        self.ask(Purpose::Renew, Request::Renew { owner, lease });
    }

    /// Renews the lease now: there is reason to think that it was lost.
    pub(super) fn renew_soon(&mut self) {
        match self.lease.state {
            State::Held => self.renew(),
            State::Renewing { .. } => self.lease.state = State::Renewing { again: true },
            State::None | State::Releasing | State::Enlisting => {}
        }
    }

    pub(super) fn renewed(&mut self, outcome: Outcome) {
        let again = self.lease.state == (State::Renewing { again: true });
        match outcome {
            Ok(_) => {
                self.hold();
                if again {
                    self.renew();
                }
            }
            Err(JournalError::LeaseLost(_)) => self.lose_lease(),
            Err(error) => {
                // As long as no process takes the runs over, a later time will do.
                self.hold();
                self.report(Trouble::NotRenewed(error));
            }
        }
    }

    // Whatever was claimed is no longer this process's. `Release` comes before the new lease, so that no run stays with
    // this process by a claim whose answer is ignored.
    fn lose_lease(&mut self) {
        self.report(Trouble::LeaseLost);
        self.lease.tenure += 1;
        for run in self.claims.taken() {
            if !self.executed.contains_key(&run) {
                self.free_place(run);
            }
        }
        self.claims.forget();
        self.expected.forget();
        self.inbox.forget();
        self.retention.failed();
        let mut lost: Vec<_> = self.executed.keys().copied().collect();
        lost.sort_unstable();
        self.effects.extend(lost.into_iter().map(Effect::Lose));
        if self.life == Life::Closing {
            // What is left is handed back at the end.
            self.lease.state = State::None;
            self.lease.next = None;
            return;
        }
        self.lease.is_stale = true;
        self.release();
    }

    fn release(&mut self) {
        self.lease.state = State::Releasing;
        self.lease.next = None;
        let owner = self.options.owner;
        self.ask(Purpose::Release, Request::Release { owner });
    }

    /// Ends the lease. Nothing is renewed any more.
    pub(super) fn hand_back(&mut self) {
        self.lease.state = State::None;
        self.lease.next = None;
        let owner = self.options.owner;
        self.ask(Purpose::HandBack, Request::Release { owner });
    }

    pub(super) fn released(&mut self, outcome: Outcome) {
        if self.life == Life::Closing {
            // It is handed back once more at the end.
            return;
        }
        match outcome {
            Ok(_) => {
                self.lease.is_stale = false;
                self.enlist();
            }
            Err(error) => {
                self.lease.state = State::None;
                self.lease.next = Some(self.now.steady.saturating_add(AFTER_AN_ERROR));
                self.report(Trouble::NotRenewed(error));
            }
        }
    }
}
