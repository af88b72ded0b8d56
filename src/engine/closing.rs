//! The orderly end of an engine. Its lease is renewed until everything that the steps did is written.
//!
//! The runs drain: they start nothing more, and steps in flight have the grace to finish. Then the steps that still run
//! are cancelled. Then each run is let go of and ends here, and the lease is handed back with all of them.

use super::effect::{Due, Effect};
use super::{Engine, Life, Now};
use crate::journal::JournalError;
use crate::run_id::RunId;
use crate::timers::Time;

/// How long cancelled steps may unwind at least.
const LEAST_TO_UNWIND: Time = 1_000_000;

#[derive(Default)]
pub(super) struct Closing {
    stage: Stage,
    grace: Time,
    // How many of the runs that are executed here still move.
    moving: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    None,
    /// Until then steps in flight may finish.
    Draining(Time),
    /// Steps are being cancelled; one that does not end even so keeps the engine open no longer than this.
    Stopping(Time),
    /// Until then cancelled steps may unwind.
    Ending(Time),
    HandingBack,
}

impl Closing {
    pub(super) fn count(&mut self, runs: usize) {
        self.moving += runs;
    }

    /// A run is executed here no more.
    pub(super) fn forget(&mut self, was_drained: bool) {
        self.moving -= usize::from(!was_drained);
    }

    pub(super) fn next(&self) -> Due {
        match self.stage {
            Stage::Draining(until) | Stage::Stopping(until) | Stage::Ending(until) => Some(until),
            Stage::None | Stage::HandingBack => None,
        }
    }
}

impl Engine {
    /// Opens the engine: `Opened` says when it is, or why it cannot be.
    pub fn open(&mut self, now: Now) {
        debug_assert!(self.life == Life::Closed);
        self.now = now;
        self.life = Life::Opening;
        self.enlist();
    }

    /// Begins the orderly end; `Closed` says when it is over. A second call with less grace hastens it.
    pub fn close(&mut self, grace: Time, now: Now) {
        self.now = now;
        match self.life {
            Life::Open => {}
            Life::Closing => return self.hasten(grace),
            Life::Opening => {
                // Whether it is enlisted is not known: what there is is handed back all the same.
                self.life = Life::Closing;
                return self.begin_to_hand_back();
            }
            Life::Closed => return self.effects.push(Effect::Closed(Ok(()))),
        }
        self.life = Life::Closing;
        self.closing.stage = Stage::Draining(now.steady.saturating_add(grace));
        self.closing.grace = grace;
        self.stop_standing();
        for run in self.in_order() {
            self.effects.push(Effect::Drain { run, stop: false });
        }
        self.step_closing();
    }

    fn hasten(&mut self, grace: Time) {
        self.closing.grace = self.closing.grace.min(grace);
        let soonest = self.now.steady.saturating_add(grace);
        if let Stage::Draining(until) = &mut self.closing.stage {
            *until = soonest.min(*until);
        }
        let soonest = self.now.steady.saturating_add(self.unwinding());
        if let Stage::Stopping(until) | Stage::Ending(until) = &mut self.closing.stage {
            *until = soonest.min(*until);
        }
        self.tick_closing();
    }

    // How long cancelled steps may unwind.
    fn unwinding(&self) -> Time {
        self.closing.grace.max(LEAST_TO_UNWIND)
    }

    /// Nothing of the run moves any more.
    pub fn drained(&mut self, run: RunId, now: Now) {
        self.now = now;
        if let Some(executed) = self.executed.get_mut(&run)
            && !std::mem::replace(&mut executed.is_drained, true)
        {
            self.closing.moving -= 1;
        }
        self.step_closing();
    }

    pub(super) fn tick_closing(&mut self) {
        match self.closing.stage {
            Stage::Draining(until) if until <= self.now.steady => {
                self.closing.stage = Stage::Stopping(self.now.steady.saturating_add(self.unwinding()));
                for run in self.in_order() {
                    if !self.executed[&run].is_drained {
                        self.effects.push(Effect::Drain { run, stop: true });
                    }
                }
                self.step_closing();
            }
            Stage::Stopping(until) if until <= self.now.steady => self.end_all(),
            Stage::Ending(until) if until <= self.now.steady => self.begin_to_hand_back(),
            _ => {}
        }
    }

    pub(super) fn step_closing(&mut self) {
        match self.closing.stage {
            Stage::Draining(_) | Stage::Stopping(_) if self.closing.moving == 0 => {
                self.end_all();
            }
            Stage::Ending(_) if self.executed.is_empty() => self.begin_to_hand_back(),
            _ => {}
        }
    }

    // All are let go of before one ends: the end of one must not be written as the end of those that it started.
    fn end_all(&mut self) {
        let runs = self.in_order();
        self.effects.extend(runs.iter().map(|&run| Effect::LetGo(run)));
        self.effects.extend(runs.iter().map(|&run| Effect::EndHere(run)));
        self.closing.stage = Stage::Ending(self.now.steady.saturating_add(self.unwinding()));
        self.step_closing();
    }

    fn begin_to_hand_back(&mut self) {
        self.closing.stage = Stage::HandingBack;
        self.hand_back();
    }

    pub(super) fn closed(&mut self, outcome: Result<(), JournalError>) {
        self.life = Life::Closed;
        self.lease.end();
        self.closing = Closing::default();
        self.executed.clear();
        self.claimed = 0;
        self.claims.forget();
        self.expected.forget();
        self.inbox.forget();
        self.places.clear();
        self.followers.clear();
        self.effects.push(Effect::Closed(outcome));
    }

    fn in_order(&self) -> Vec<RunId> {
        let mut runs: Vec<_> = self.executed.keys().copied().collect();
        runs.sort_unstable();
        runs
    }
}
