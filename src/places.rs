//! The places of the runs of one workflow, of which only so many execute at once.
//!
//! A run asks for a place before it executes anything, and leaves it when it only waits, is paused or is over. A run that
//! gets none is told when one is free: first those that have executed something before, so that what was begun is
//! finished; then new ones; each in the order in which they asked.

use std::collections::BTreeMap;
use std::hash::Hash;

use hashbrown::{HashMap, HashSet};

/// Which runs of a workflow execute, and which wait for a place. `R` tells runs apart.
#[derive(Debug)]
pub struct Places<R> {
    most: usize,
    held: HashSet<R>,
    waiting: BTreeMap<Turn, R>,
    turns: HashMap<R, Turn>,
    asked: u64,
}

// Begun runs come before new ones.
type Turn = (bool, u64);

impl<R: Copy + Eq + Hash> Places<R> {
    /// Places for so many runs.
    pub fn new(most: usize) -> Self {
        Self { most, held: HashSet::new(), waiting: BTreeMap::new(), turns: HashMap::new(), asked: 0 }
    }

    /// How many places nobody has or waits for.
    pub fn free(&self) -> usize {
        self.most.saturating_sub(self.held.len() + self.turns.len())
    }

    /// Whether a run has a place.
    pub fn has(&self, run: R) -> bool {
        self.held.contains(&run)
    }

    /// A run asks for a place; `has_begun` says whether it has executed something before. Says whether it has one now;
    /// if not, [`leave`](Self::leave) gives it when it has.
    pub fn ask(&mut self, run: R, has_begun: bool) -> bool {
        if self.has(run) {
            return true;
        }
        if self.turns.contains_key(&run) {
            return false;
        }
        if self.free() > 0 {
            return self.held.insert(run);
        }
        let turn = (!has_begun, self.asked);
        self.asked += 1;
        self.waiting.insert(turn, run);
        self.turns.insert(run, turn);
        false
    }

    /// A run executes something whether or not there is a place.
    pub fn insist(&mut self, run: R) {
        if let Some(turn) = self.turns.remove(&run) {
            self.waiting.remove(&turn);
        }
        self.held.insert(run);
    }

    /// A run leaves its place, or waits for none any more. Gives the run that has its place now.
    pub fn leave(&mut self, run: R) -> Option<R> {
        if let Some(turn) = self.turns.remove(&run) {
            self.waiting.remove(&turn);
            return None;
        }
        if !self.held.remove(&run) || self.held.len() >= self.most {
            return None;
        }
        let (_, next) = self.waiting.pop_first()?;
        self.turns.remove(&next);
        self.held.insert(next);
        Some(next)
    }

    /// Nobody has a place or waits for one.
    pub fn clear(&mut self) {
        self.held.clear();
        self.waiting.clear();
        self.turns.clear();
    }
}
