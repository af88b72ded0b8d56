//! Workflows of which only so many runs execute here at once.
//!
//! A run asks for a place before it executes anything, and leaves it when it only waits or is over. Of such a workflow no
//! more runs are claimed than there are places: others stay in the journal, where any process may take them. For the same
//! reason a run that is started here and gets no place is written for any process; here it stands for itself until it is
//! claimed.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;

use super::effect::{Effect, Replacement, RunEnd};
use super::{Engine, Life, Now};
use crate::places::Places;
use crate::run_id::RunId;

#[derive(Default)]
pub(super) struct RunPlaces {
    limited: BTreeMap<String, Places<RunId>>,
    // Of each run that has a place or waits for one.
    workflows: HashMap<RunId, String>,
    // Of which there are runs in the journal that wait for a place, as far as this process knows: one that is started now
    // comes behind them.
    behind: BTreeSet<String>,
}

impl RunPlaces {
    pub(super) fn new(limits: &BTreeMap<String, usize>) -> Self {
        let limited = limits.iter().map(|(name, &most)| (name.clone(), Places::new(most))).collect();
        Self { limited, ..Self::default() }
    }

    /// How many more runs of a workflow may execute here; nothing if there is no limit.
    pub(super) fn free(&self, workflow: &str) -> Option<usize> {
        self.limited.get(workflow).map(Places::free)
    }

    /// The journal has runs of a workflow that wait for a place, or has none.
    pub(super) fn note_waiting(&mut self, workflow: &str, are_waiting: bool) {
        if !are_waiting {
            self.behind.remove(workflow);
        } else if self.limited.contains_key(workflow) {
            self.behind.insert(workflow.to_owned());
        }
    }

    pub(super) fn ask(&mut self, run: RunId, workflow: &str, has_begun: bool) -> bool {
        let Some(places) = self.limited.get_mut(workflow) else { return true };
        self.workflows.entry(run).or_insert_with(|| workflow.to_owned());
        places.ask(run, has_begun)
    }

    /// Gives the run that has the place now.
    fn leave(&mut self, run: RunId) -> Option<RunId> {
        let workflow = self.workflows.remove(&run)?;
        self.limited.get_mut(&workflow)?.leave(run)
    }

    /// Nobody has a place or waits for one.
    pub(super) fn clear(&mut self) {
        self.limited.values_mut().for_each(Places::clear);
        self.workflows.clear();
        self.behind.clear();
    }
}

impl Engine {
    /// A run that is executed here asks for a place; `has_begun` says whether it had one before. Says whether it has one
    /// now; if not, [`Effect::GivePlace`] tells when.
    pub fn ask_for_place(&mut self, run: RunId, workflow: &str, has_begun: bool) -> bool {
        self.places.ask(run, workflow, has_begun)
    }

    /// A run that is executed here executes something whether or not there is a place.
    pub fn insist_on_place(&mut self, run: RunId, workflow: &str) {
        if let Some(places) = self.places.limited.get_mut(workflow) {
            places.insist(run);
            self.places.workflows.entry(run).or_insert_with(|| workflow.to_owned());
        }
    }

    /// A run has no place any more and waits for none.
    pub fn leave_place(&mut self, run: RunId, now: Now) {
        self.now = now;
        self.free_place(run);
        self.work();
    }

    pub(super) fn free_place(&mut self, run: RunId) {
        if let Some(next) = self.places.leave(run) {
            self.effects.push(Effect::GivePlace(next));
        }
    }

    /// A run is to be started here: whether it has a place. If not, it is written for any process, and
    /// [`run_written`](Self::run_written) says when.
    pub fn begin_in_place(&mut self, run: RunId, workflow: &str) -> bool {
        if self.places.free(workflow).is_none_or(|free| free > 0) && !self.places.behind.contains(workflow) {
            return self.places.ask(run, workflow, false);
        }
        self.places.note_waiting(workflow, true);
        false
    }

    /// A run that got no place is in the journal: what was started here stands for that until this process claims it.
    pub fn run_written(&mut self, run: RunId, workflow: &str, is_cancelled: bool, now: Now) {
        self.now = now;
        self.leave(run, RunEnd::Over);
        if self.life != Life::Open {
            return self.effects.push(Effect::Replaced { run, by: Replacement::Closed(run) });
        }
        self.keyed.stand(run, run);
        self.effects.push(Effect::Replaced { run, by: Replacement::StandsFor { run, cancel: is_cancelled } });
        self.follow(run, now);
        self.places.note_waiting(workflow, true);
        self.claims.want();
        self.work();
    }

    /// A run that stood for itself is executed here, or is over.
    pub(super) fn stand_no_more(&mut self, run: RunId) {
        if self.keyed.stop_standing(run, run) {
            self.unfollow(run);
        }
    }
}
