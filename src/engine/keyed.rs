//! Runs with a key: the same key and input name one run, in this process and in all others.
//!
//! A host asks for the run of a key before it makes one. The journal may have a run of that key all the same, which
//! another process made, or an earlier one: then the run that was made here starts nothing. It stands for the other one
//! and ends as that does, or it fails because the inputs differ.

use hashbrown::HashMap;

use super::effect::{Effect, Replacement, RunEnd};
use super::{Engine, Life, Now};
use crate::journal::Digest;
use crate::run_id::RunId;

#[derive(Default)]
pub(super) struct Keyed {
    by_key: HashMap<(String, String), RunId>,
    // By the id that each was made with.
    made: HashMap<RunId, Made>,
    // The runs that stand for another one, by that.
    standing: HashMap<RunId, Vec<RunId>>,
}

struct Made {
    workflow: String,
    key: String,
    input: Digest,
    stands_for: Option<RunId>,
}

/// Which run one that was submitted with a key turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// Itself.
    New(RunId),
    /// The run of its key, which has the same input.
    Known(RunId),
    /// The key belongs to a run with another input.
    OtherInput(RunId),
}

impl Submitted {
    /// What the answer to a submission means. `existing` is the run that the journal has of the key, and its input;
    /// `is_same` says whether that is the input of the submitted one.
    ///
    /// # Errors
    /// That of `is_same`.
    pub fn of<E>(
        run: RunId,
        existing: Option<(RunId, Digest)>,
        is_same: impl FnOnce(&Digest) -> Result<bool, E>,
    ) -> Result<Self, E> {
        Ok(match existing {
            None => Self::New(run),
            Some((known, input)) if is_same(&input)? => Self::Known(known),
            Some((known, _)) => Self::OtherInput(known),
        })
    }
}

impl Keyed {
    /// A run of this process stands for one of the journal.
    pub(super) fn stand(&mut self, run: RunId, other: RunId) {
        self.standing.entry(other).or_default().push(run);
    }

    pub(super) fn stop_standing(&mut self, run: RunId, other: RunId) -> bool {
        let Some(standing) = self.standing.get_mut(&other) else { return false };
        let before = standing.len();
        standing.retain(|&one| one != run);
        let was_standing = standing.len() < before;
        if standing.is_empty() {
            self.standing.remove(&other);
        }
        was_standing
    }

    /// The runs that stand for one that has ended. None of them does any more.
    pub(super) fn take_standing(&mut self, other: RunId) -> Vec<RunId> {
        self.standing.remove(&other).unwrap_or_default()
    }
}

impl Engine {
    /// The run of this process that has the key and the input, by the id that it was made with.
    pub fn run_of_key(&self, workflow: &str, key: &str, input: &Digest) -> Option<RunId> {
        let run = *self.keyed.by_key.get(&(workflow.to_owned(), key.to_owned()))?;
        self.keyed.made.get(&run).filter(|made| made.input == *input).map(|_| run)
    }

    /// A run with a key was started here, and not taken from the journal.
    pub fn keyed_run_started(&mut self, run: RunId, workflow: &str, key: &str, input: Digest) {
        self.run_started(run);
        let (workflow, key) = (workflow.to_owned(), key.to_owned());
        self.keyed.by_key.entry((workflow.clone(), key.clone())).or_insert(run);
        self.keyed.made.insert(run, Made { workflow, key, input, stands_for: None });
    }

    /// The journal has another run of the key of a run that was started here: [`Effect::Replaced`] says what becomes of
    /// that. `input` is the digest of the other one's input, and `is_same` whether the host takes both for the same input.
    pub fn exists(&mut self, run: RunId, other: RunId, (input, is_same): (Digest, bool), is_cancelled: bool, now: Now) {
        self.now = now;
        // One that was over before the answer came needs no other.
        let Some(made) = self.keyed.made.get_mut(&run) else { return };
        // A run that was cancelled takes the run of its key with it, and no other.
        let cancel = is_cancelled && made.input == input;
        let by = if !is_same {
            Replacement::OtherInput(made.key.clone())
        } else if self.life != Life::Open {
            Replacement::Closed(other)
        } else {
            Replacement::StandsFor { run: other, cancel }
        };
        let stands_for = matches!(by, Replacement::StandsFor { .. });
        if stands_for {
            made.stands_for = Some(other);
            self.keyed.stand(run, other);
        }
        self.effects.push(Effect::Replaced { run, by });
        self.leave(run, RunEnd::Over);
        if stands_for {
            self.follow(other, now);
        }
    }

    /// A run is over here: its key is asked of the journal from now on.
    pub(super) fn forget_key(&mut self, run: RunId) {
        let Some(Made { workflow, key, stands_for, .. }) = self.keyed.made.remove(&run) else { return };
        if let hashbrown::hash_map::Entry::Occupied(known) = self.keyed.by_key.entry((workflow, key))
            && *known.get() == run
        {
            known.remove();
        }
        if let Some(other) = stands_for.filter(|&other| self.keyed.stop_standing(run, other)) {
            self.unfollow(other);
        }
    }

    /// The engine is being closed: the ends of other runs are not waited for any more.
    pub(super) fn stop_standing(&mut self) {
        let mut standing: Vec<_> = std::mem::take(&mut self.keyed.standing).into_iter().collect();
        standing.sort_unstable_by_key(|&(other, _)| other);
        for (other, runs) in standing {
            for run in runs {
                self.unfollow(other);
                self.effects.push(Effect::Replaced { run, by: Replacement::Closed(other) });
            }
        }
    }
}
