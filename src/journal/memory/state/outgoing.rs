//! What a commit writes to other runs.

use super::super::super::op::OpId;
use super::super::super::outgoing::{IfOver, Known, Missing, Outgoing, Undelivered, Way, first_commit, messages, way};
use super::super::super::request::{Commit, Message};
use super::State;
use super::run::entry;
use crate::run_id::RunId;
use crate::timers::Time;

impl State {
    /// Writes to other runs what was checked; gives what was not delivered.
    pub(super) fn send_out(&mut self, op: OpId, at: Time, outgoing: Vec<Outgoing>) -> Vec<Undelivered> {
        let mut undelivered = Vec::new();
        for outgoing in outgoing {
            match outgoing {
                Outgoing::Create { run, owner, commit } if !self.runs.contains_key(&run.id) => {
                    self.insert(run, owner, first_commit(&commit, op));
                }
                Outgoing::Create { .. } => {}
                Outgoing::Send { to, message, if_over } => {
                    let name = message.id;
                    let why = self.send_one(to, message, if_over, at);
                    undelivered.extend(why.map(|why| Undelivered { to, message: name, why, if_over }));
                }
            }
        }
        undelivered
    }

    fn send_one(&mut self, to: RunId, message: Message, if_over: IfOver, at: Time) -> Option<Missing> {
        let (way, why) = self.way(to, &message, if_over);
        match way {
            Way::Inbox => self.deliver(to, message, at),
            Way::DeadLetters => {
                self.last_entry += 1;
                let number = self.last_entry;
                self.change(to, |run| run.bury(entry(number, to, message, at)));
            }
            Way::Nowhere => {}
        }
        why
    }

    /// What of a commit that was written was not delivered.
    pub(super) fn undelivered(&self, commit: &Commit) -> Vec<Undelivered> {
        let why = |(to, message, if_over): (RunId, &Message, IfOver)| {
            let why = self.way(to, message, if_over).1?;
            Some(Undelivered { to, message: message.id, why, if_over })
        };
        messages(commit).filter_map(why).collect()
    }

    fn way(&self, to: RunId, message: &Message, if_over: IfOver) -> (Way, Option<Missing>) {
        let run = self.runs.get(&to);
        way(run.map(|run| &run.row), run.map_or(Known::No, |run| run.known(&message.id)), if_over)
    }
}
