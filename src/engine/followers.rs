//! Waiting for the ends of runs, whichever processes execute them.
//!
//! The journal is asked which runs have ended since it was asked before, once for each news of ends and not once for each
//! run. A run is looked at when it is followed, when it is among those that ended, and when it is over here: so waiting
//! costs what ends.

use hashbrown::HashMap;

use super::effect::{Due, Effect, Purpose, Trouble};
use super::{AFTER_AN_ERROR, Engine, Now};
use crate::journal::{Cursor, Ends, JournalError, Outcome, Reply, Request};
use crate::run_id::RunId;

/// The most ends of one answer.
const ENDS_AT_ONCE: usize = 1024;

#[derive(Default)]
pub(super) struct Followers {
    runs: HashMap<RunId, Followed>,
    // Behind which end the journal is asked for more; nothing while no run is followed.
    cursor: Option<Cursor>,
    is_asking: bool,
    // There was news since the journal was asked.
    again: bool,
    // After an error.
    next: Due,
    looks: u64,
}

struct Followed {
    followers: usize,
    sight: Sight,
}

/// What is known of a run that is followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// It is looked at once the cursor is known: its end must not come between.
    Unseen,
    /// The journal was asked for it; with `again`, it has ended since.
    Looking { number: u64, again: bool },
    /// It goes on, here or elsewhere: its end is told.
    GoesOn,
}

impl Followers {
    pub(super) fn next(&self) -> Due {
        self.next
    }

    /// Nothing is followed any more.
    pub(super) fn clear(&mut self) {
        *self = Self { looks: self.looks, ..Self::default() };
    }

    // In an order that is the same in every history.
    fn which(&self, is_wanted: impl Fn(Sight) -> bool) -> Vec<RunId> {
        let mut runs: Vec<_> =
            self.runs.iter().filter(|(_, followed)| is_wanted(followed.sight)).map(|(&run, _)| run).collect();
        runs.sort_unstable();
        runs
    }
}

impl Engine {
    /// The end of a run is waited for: [`Effect::Ended`] tells it, once for all who follow the run then.
    pub fn follow(&mut self, run: RunId, now: Now) {
        self.now = now;
        let followed = self.followers.runs.entry(run).or_insert(Followed { followers: 0, sight: Sight::Unseen });
        followed.followers += 1;
        if followed.followers > 1 {
            return;
        }
        match self.executed.contains_key(&run) {
            true => followed.sight = Sight::GoesOn,
            false => self.look_at(run),
        }
    }

    /// One of those who follow a run waits no more.
    pub fn unfollow(&mut self, run: RunId) {
        let Some(followed) = self.followers.runs.get_mut(&run) else { return };
        followed.followers -= 1;
        if followed.followers == 0 {
            self.followers.runs.remove(&run);
        }
    }

    /// Something has happened to a run that is perhaps followed: it was deleted, or is over here.
    pub fn look_at(&mut self, run: RunId) {
        let Some(followed) = self.followers.runs.get_mut(&run) else { return };
        if let Sight::Looking { again, .. } = &mut followed.sight {
            *again = true;
            return;
        }
        if self.followers.cursor.is_none() {
            followed.sight = Sight::Unseen;
            return self.ask_for_ends();
        }
        self.followers.looks += 1;
        let number = self.followers.looks;
        followed.sight = Sight::Looking { number, again: false };
        self.ask(Purpose::Look(run, number), Request::Get { run });
    }

    /// The journal says what it has of a run that was looked at.
    pub(super) fn looked(&mut self, run: RunId, number: u64, outcome: Outcome) {
        let Some(followed) = self.followers.runs.get_mut(&run) else { return };
        let Sight::Looking { number: asked, again } = followed.sight else { return };
        if asked != number {
            // One who followed it before has asked.
            return;
        }
        let end = match outcome {
            Ok(Reply::Run { run: row, .. }) if row.phase().goes_on() => {
                followed.sight = Sight::GoesOn;
                if again {
                    self.look_at(run);
                }
                return;
            }
            Ok(Reply::Run { run, outcome }) => Ok((run, outcome)),
            Ok(reply) => Err(JournalError::Panicked(format!("a run was asked for, and the answer is {reply:?}"))),
            Err(error) => Err(error),
        };
        self.followers.runs.remove(&run);
        let standing = self.keyed.take_standing(run);
        self.effects.push(Effect::Ended { run, standing, end });
    }

    /// Runs may have ended.
    pub(super) fn hear_of_ends(&mut self) {
        if self.followers.runs.is_empty() {
            // What ends until a run is followed again is seen by looking at that.
            self.followers.cursor = None;
        } else {
            self.ask_for_ends();
        }
    }

    pub(super) fn tick_followers(&mut self) {
        if self.followers.next.is_some_and(|at| at <= self.now.steady) {
            self.followers.next = None;
            self.ask_for_ends();
        }
    }

    fn ask_for_ends(&mut self) {
        if std::mem::replace(&mut self.followers.is_asking, true) {
            self.followers.again = true;
            return;
        }
        self.followers.again = false;
        let after = self.followers.cursor.clone();
        let limit = if after.is_some() { ENDS_AT_ONCE } else { 0 };
        self.ask(Purpose::Ends, Request::Ends { after, limit });
    }

    pub(super) fn ends_told(&mut self, ends: Ends) {
        self.followers.is_asking = false;
        if self.followers.runs.is_empty() {
            self.followers.cursor = None;
            return;
        }
        let has_begun = self.followers.cursor.replace(ends.cursor).is_none();
        for run in self.followers.which(|sight| sight == Sight::Unseen || ends.missed) {
            self.look_at(run);
        }
        ends.runs.into_iter().for_each(|run| self.look_at(run));
        if ends.more && !has_begun || self.followers.again {
            self.ask_for_ends();
        }
    }

    pub(super) fn ends_failed(&mut self, error: JournalError) {
        self.followers.is_asking = false;
        self.followers.next = Some(self.now.steady.saturating_add(AFTER_AN_ERROR));
        self.report(Trouble::Unreadable(error));
    }
}
