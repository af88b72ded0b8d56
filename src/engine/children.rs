//! Runs that commits of this process's runs make, to be executed here first.
//!
//! The host keeps such a run in memory until the journal has answered: then it begins, and need not be loaded. One that is
//! not kept, or that may not be there, is loaded. One that any process may execute is claimed, if it has a place here.

use hashbrown::HashMap;

use super::effect::Effect;
use super::{Engine, Now};
use crate::journal::Entry;
use crate::run_id::RunId;
use crate::writer::Made;

/// Children that the host keeps until it is known whether the journal has them.
#[derive(Default)]
pub(super) struct Expected {
    // What was sent to each of them meanwhile: a poll may be answered before the commit.
    entries: HashMap<RunId, Vec<Entry>>,
}

impl Expected {
    /// Keeps an entry for a child. Gives it back if it is for another run.
    pub(super) fn keep_entry(&mut self, entry: Entry) -> Option<Entry> {
        match self.entries.get_mut(&entry.run) {
            Some(entries) => {
                entries.push(entry);
                None
            }
            None => Some(entry),
        }
    }

    /// The children are those of a lease that is over: others may have them.
    pub(super) fn forget(&mut self) {
        self.entries.clear();
    }
}

impl Engine {
    /// A commit is being made that makes this run, and the host keeps the run to begin it afterwards.
    pub fn child_expected(&mut self, run: RunId) {
        if self.may_work() {
            self.expected.entries.insert(run, Vec::new());
        }
    }

    /// The commit was answered that makes a run, to be executed here. Says whether the host begins it, if it keeps it;
    /// otherwise a run that there is, or may be, is loaded, or claimed if any process may execute it.
    pub fn child_made(&mut self, made: Made, is_kept: bool, now: Now) -> bool {
        self.now = now;
        let run = made.run;
        let entries = self.expected.entries.remove(&run);
        // A closing engine hands it back with the others.
        if made.exists == Some(false) || self.executed.contains_key(&run) || !self.is_open() {
            return false;
        }
        if made.is_for_any {
            self.claims.want();
            self.work();
            return false;
        }
        let Some(entries) = entries.filter(|_| is_kept && made.exists.is_some() && self.may_work()) else {
            self.claims.put(run, 1);
            self.work();
            return false;
        };
        self.execute_claimed(run);
        self.effects.extend(entries.into_iter().map(Effect::Deliver));
        true
    }
}
