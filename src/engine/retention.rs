//! Runs that are forgotten some time after their end.

use super::effect::{Due, Purpose};
use super::{Engine, Life};
use crate::journal::Request;
use crate::timers::Time;

/// How often old runs are looked for: as often as they are kept, within these bounds.
const MOST_OFTEN: Time = 1_000_000;
const LEAST_OFTEN: Time = 60_000_000;
/// The most runs that are forgotten by one request: others wait meanwhile.
const FORGOTTEN_AT_ONCE: usize = 256;

#[derive(Default)]
pub(super) struct Retention {
    is_pruning: bool,
    next: Due,
}

impl Retention {
    pub(super) fn next(&self) -> Due {
        self.next.filter(|_| !self.is_pruning)
    }

    pub(super) fn failed(&mut self) {
        self.is_pruning = false;
    }
}

impl Engine {
    /// Forgets old runs, if it is time.
    pub(super) fn prune(&mut self) {
        let Some(keep) = self.options.keep else { return };
        if !self.may_work() || self.retention.is_pruning || self.retention.next.is_some_and(|at| at > self.now.steady) {
            return;
        }
        self.retention.next = Some(self.now.steady.saturating_add(keep.clamp(MOST_OFTEN, LEAST_OFTEN)));
        self.ask_to_prune(keep);
    }

    fn ask_to_prune(&mut self, keep: Time) {
        self.retention.is_pruning = true;
        let finished_before = self.now.wall.saturating_sub(keep);
        self.ask(Purpose::Prune, Request::Prune { finished_before, limit: FORGOTTEN_AT_ONCE });
    }

    pub(super) fn pruned(&mut self, runs: usize) {
        self.retention.is_pruning = false;
        if let Some(keep) = self.options.keep
            && runs == FORGOTTEN_AT_ONCE
            && self.life == Life::Open
        {
            self.ask_to_prune(keep);
        }
    }
}
