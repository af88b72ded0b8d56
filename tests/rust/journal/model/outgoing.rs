//! What commits of the model write to other runs.

use treadle::RunId;
use treadle::journal::{Commit, DeadLetter, Entry, IfOver, JournalError, Message, Missing, Outgoing, Undelivered};

use super::answers::Model;
use super::run::Run;

impl Model {
    pub(super) fn owners_live(&self, commit: &Commit) -> Result<(), JournalError> {
        commit.outgoing.iter().try_for_each(|outgoing| match outgoing {
            Outgoing::Create { owner, .. } => self.lives(*owner),
            Outgoing::Send { .. } => Ok(()),
        })
    }

    pub(super) fn send_out(&mut self, commit: &Commit) -> Vec<Undelivered> {
        let mut undelivered = Vec::new();
        for outgoing in &commit.outgoing {
            match outgoing {
                Outgoing::Create { run, owner, commit: first } => {
                    if !self.runs.contains_key(&run.id) {
                        let first = Commit { op: commit.op, ..(**first).clone() };
                        self.insert(Run::new(run, *owner, commit.op), &first);
                    }
                }
                Outgoing::Send { to, message, if_over } => {
                    let Some(why) = self.why_undelivered(*to, message) else {
                        let _ = self.send(*to, message, commit.at);
                        continue;
                    };
                    undelivered.push(Undelivered { to: *to, message: message.id, why, if_over: *if_over });
                    if (why, *if_over) == (Missing::Ended, IfOver::Bury) {
                        self.bury(*to, message, commit.at);
                    }
                }
            }
        }
        undelivered
    }

    pub(super) fn undelivered(&self, commit: &Commit) -> Vec<Undelivered> {
        let why = |outgoing: &Outgoing| {
            let Outgoing::Send { to, message, if_over } = outgoing else { return None };
            let why = self.why_undelivered(*to, message)?;
            Some(Undelivered { to: *to, message: message.id, why, if_over: *if_over })
        };
        commit.outgoing.iter().filter_map(why).collect()
    }

    // A message that is a dead letter of a run that is over was not delivered.
    fn why_undelivered(&self, to: RunId, message: &Message) -> Option<Missing> {
        let Some(run) = self.runs.get(&to) else { return Some(Missing::Unknown) };
        let is_known = run.sent.iter().any(|(entry, _)| entry.id == message.id);
        let is_dead = run.dead.iter().any(|letter| letter.entry.id == message.id);
        (run.status.phase.is_over() && (!is_known || is_dead)).then_some(Missing::Ended)
    }

    fn bury(&mut self, to: RunId, message: &Message, at: u64) {
        let number = self.entries + 1;
        let Some(run) = self.runs.get_mut(&to) else { return };
        if run.sent.iter().any(|(entry, _)| entry.id == message.id) {
            return;
        }
        let entry = Entry { number, run: to, id: message.id, kind: message.kind, at, body: message.body.clone() };
        run.sent.push((entry.clone(), false));
        run.dead.push(DeadLetter { entry, why: "the run was over when it was sent".into() });
        self.entries = number;
    }
}
