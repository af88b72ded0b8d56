//! The runs that commits make, for this process to execute first.

use std::collections::VecDeque;

use super::Writer;
use crate::journal::{JournalError, Outcome, Outgoing};
use crate::rare::Rare;
use crate::run_id::RunId;

/// Runs whose creation the journal has not answered yet. A run's commits are answered in their order.
#[derive(Debug, Default)]
pub(super) struct Making {
    // How many commits were handed over, and how many of them were answered.
    handed_over: u64,
    answered: u64,
    // The runs, with the number of the commit that makes each.
    awaited: Rare<VecDeque<(u64, RunId)>>,
    // Those that are there, or may be.
    made: Vec<RunId>,
}

impl Making {
    /// A commit is handed over that writes this to other runs.
    pub(super) fn hand_over(&mut self, outgoing: &[Outgoing]) {
        self.handed_over += 1;
        let made = outgoing.iter().filter_map(|one| match one {
            Outgoing::Create { run, .. } => Some(run.id),
            Outgoing::Send { .. } => None,
        });
        for run in made {
            self.awaited.make().push_back((self.handed_over, run));
        }
    }

    /// The next commit is answered.
    pub(super) fn answer(&mut self, outcome: &Outcome) {
        self.answered += 1;
        let Some(awaited) = self.awaited.get_mut() else { return };
        let count = awaited.partition_point(|(commit, _)| *commit <= self.answered);
        let runs = awaited.drain(..count).map(|(_, run)| run);
        // A commit that was given up may be on disk: then this process has the runs that it makes, and nobody else
        // executes them as long as it lives.
        if outcome.as_ref().err().is_none_or(JournalError::is_transient) {
            self.made.extend(runs);
        }
    }
}

impl Writer {
    /// The runs that the answered commits have made, each once: the host tells its engine, which loads those that are
    /// there, and this process's.
    pub fn take_made(&mut self) -> Vec<RunId> {
        std::mem::take(&mut self.making.made)
    }
}
