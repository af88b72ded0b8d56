//! The runs that commits make, for this process to execute first or for any that claims them.

use std::collections::VecDeque;

use super::Writer;
use crate::journal::{Outcome, Outgoing};
use crate::rare::Rare;
use crate::run_id::RunId;

/// What came of the commit that makes a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// The run.
    pub run: RunId,
    /// Whether the journal has the run; nothing if the commit was given up, and may be on disk all the same.
    pub exists: Option<bool>,
    /// Whether any process may execute it. Else it is this process's.
    pub is_for_any: bool,
}

/// Runs whose creation the journal has not answered yet. A run's commits are answered in their order.
#[derive(Debug, Default)]
pub(super) struct Making {
    // How many commits were handed over, and how many of them were answered.
    handed_over: u64,
    answered: u64,
    // The runs, with the number of the commit that makes each.
    awaited: Rare<VecDeque<(u64, Made)>>,
    made: Vec<Made>,
}

impl Making {
    /// A commit is handed over that writes this to other runs.
    pub(super) fn hand_over(&mut self, outgoing: &[Outgoing]) {
        self.handed_over += 1;
        let made = outgoing.iter().filter_map(|one| match one {
            Outgoing::Create { run, owner, .. } => {
                Some(Made { run: run.id, exists: None, is_for_any: owner.is_none() })
            }
            Outgoing::Send { .. } => None,
        });
        for made in made {
            self.awaited.make().push_back((self.handed_over, made));
        }
    }

    /// The next commit is answered.
    pub(super) fn answer(&mut self, outcome: &Outcome) {
        self.answered += 1;
        let Some(awaited) = self.awaited.get_mut() else { return };
        let count = awaited.partition_point(|(commit, _)| *commit <= self.answered);
        let runs = awaited.drain(..count).map(|(_, made)| made);
        let exists = match outcome {
            Ok(_) => Some(true),
            // If it is on disk, this process has the runs that it makes, and no other executes them as long as it lives.
            Err(error) if error.is_transient() => None,
            Err(_) => Some(false),
        };
        self.made.extend(runs.map(|made| Made { exists, ..made }));
    }
}

impl Writer {
    /// The runs that the answered commits were to make, each once: the host tells its engine.
    pub fn take_made(&mut self) -> Vec<Made> {
        std::mem::take(&mut self.making.made)
    }
}
