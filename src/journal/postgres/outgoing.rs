//! What a commit writes to other runs, worked out from their rows.

use super::ledger::{Ledger, Sent};
use super::rows::check_names;
use crate::journal::outgoing::{self, BURIED, IfOver, Known, Missing, Way};
use crate::journal::{Commit, JournalError, Message, Outgoing, Undelivered};
use crate::run_id::RunId;
use crate::timers::Time;

impl Ledger {
    /// Refuses what the database cannot write to other runs.
    pub(super) fn check_outgoing(&self, commit: &Commit) -> Result<(), JournalError> {
        for outgoing in &commit.outgoing {
            if let Outgoing::Create { run, owner, .. } = outgoing {
                self.owner(*owner)?;
                check_names(run)?;
            }
        }
        Ok(())
    }

    /// Writes to other runs what was checked; gives what is not delivered.
    pub(super) fn send_out(&mut self, commit: &Commit) -> Result<Vec<Undelivered>, JournalError> {
        let mut undelivered = Vec::new();
        for outgoing in &commit.outgoing {
            match outgoing {
                Outgoing::Create { run, owner, commit: first } => {
                    if self.draft(run.id).is_err() {
                        let number = self.owner(*owner)?;
                        self.insert(run, *owner, number, outgoing::first_commit(first, commit.op));
                    }
                }
                Outgoing::Send { to, message, if_over } => {
                    let why = self.send_one(*to, message, *if_over, commit.at)?;
                    undelivered.extend(why.map(|why| Undelivered {
                        to: *to,
                        message: message.id,
                        why,
                        if_over: *if_over,
                    }));
                }
            }
        }
        Ok(undelivered)
    }

    /// What of a commit that was written was not delivered.
    pub(super) fn undelivered(&self, commit: &Commit) -> Vec<Undelivered> {
        let why = |(to, message, if_over): (RunId, &Message, IfOver)| {
            let why = self.way(to, message, if_over).1?;
            Some(Undelivered { to, message: message.id, why, if_over })
        };
        outgoing::messages(commit).filter_map(why).collect()
    }

    fn send_one(
        &mut self,
        to: RunId,
        message: &Message,
        if_over: IfOver,
        at: Time,
    ) -> Result<Option<Missing>, JournalError> {
        let (way, why) = self.way(to, message, if_over);
        match way {
            Way::Inbox => self.deliver(to, message, at)?,
            Way::DeadLetters => {
                let draft = self.draft(to)?;
                draft.sent.push(Sent { message: message.clone(), at, dead: Some(BURIED) });
                draft.stored.row.dead_letters += 1;
                draft.is_changed = true;
                self.known.insert((to, message.id), Known::Dead);
            }
            Way::Nowhere => {}
        }
        Ok(why)
    }

    fn way(&self, to: RunId, message: &Message, if_over: IfOver) -> (Way, Option<Missing>) {
        let run = self.drafts.get(&to).and_then(Option::as_ref);
        let known = self.known.get(&(to, message.id)).copied().unwrap_or(Known::No);
        outgoing::way(run.map(|draft| &draft.stored.row), known, if_over)
    }
}
