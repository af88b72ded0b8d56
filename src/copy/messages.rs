//! The messages of a run: those that wait, those that could not be delivered, and the names of those that are known
//! again.

use std::collections::{HashMap, HashSet};

use super::arrive::parts;
use super::{Copier, Desk, Done, End, Member, Trouble, unexpected};
use crate::journal::{
    Arrival, Commit, DeadLetter, Entry, JournalError, Message, Outcome, Reply, Request, Seen, Traces, kind,
};
use crate::run_id::RunId;

const AT_ONCE: usize = 512;

impl<D: Desk> Copier<'_, D> {
    pub(super) fn traces(&mut self, run: RunId) -> Result<Traces, JournalError> {
        match self.ask(End::From, Request::Traces { run }) {
            Ok(Reply::Traces(traces)) => Ok(traces),
            other => Err(unexpected(other)),
        }
    }

    fn dead_letters(&mut self, run: RunId) -> Result<Vec<DeadLetter>, JournalError> {
        match self.ask(End::From, Request::DeadLetters { run }) {
            Ok(Reply::DeadLetters(letters)) => Ok(letters),
            other => Err(unexpected(other)),
        }
    }

    /// Makes the messages of a run that arrives those that it has at the source. What was sent to it at the destination
    /// meanwhile stays.
    pub(super) fn copy_messages(&mut self, member: &mut Member) -> Done {
        let run = member.run;
        let loaded = self.load(End::From, run)?;
        let dead = self.dead_letters(run)?;
        let consumed = self.traces(run)?.consumed;
        // What came between the questions is told by the numbers, when the run is to leave.
        let seen = Seen { inbox: loaded.inbox.len() as u64, dead_letters: dead.len() as u64 };
        self.ask(End::To, Request::Redeliver { run })?;
        let mut requests = Vec::new();
        for &id in &consumed {
            let message = Message { id, kind: kind::EVENT, body: Vec::new() };
            requests.push(Request::Send { run, message, now: 0 });
        }
        for letter in &dead {
            // What was not verified is not signed: it is as unreadable there as it is here.
            let body = self.sign_message(&letter.entry).unwrap_or_else(|_| letter.entry.body.clone());
            requests.push(send(&letter.entry, body));
        }
        for entry in &loaded.inbox {
            let signed = self.sign_message(entry);
            // It has come after the others were verified; a run cannot stay for it any more.
            let body = if member.has_left { signed.unwrap_or_else(|_| entry.body.clone()) } else { signed? };
            requests.push(send(entry, body));
        }
        self.send_all(requests)?;
        self.settle(member, &consumed, &dead)?;
        member.seen = seen;
        Ok(())
    }

    // Takes out of the inbox what was taken out at the source.
    fn settle(&mut self, member: &mut Member, consumed: &[[u8; 16]], dead: &[DeadLetter]) -> Done {
        let loaded = self.load(End::To, member.run)?;
        let is_consumed: HashSet<_> = consumed.iter().collect();
        let why: HashMap<_, _> = dead.iter().map(|letter| (letter.entry.id, &letter.why)).collect();
        let arrival = || Some(Box::new(Arrival { reason: loaded.run.reason.clone(), ..Arrival::default() }));
        let at = loaded.run.updated;
        let taken: Vec<_> =
            loaded.inbox.iter().filter(|entry| is_consumed.contains(&entry.id)).map(|entry| entry.number).collect();
        for part in taken.chunks(AT_ONCE) {
            let commit = Commit { at, consumed: part.to_vec(), arrival: arrival(), ..Commit::default() };
            self.append(member, commit)?;
        }
        let buried: Vec<_> = loaded
            .inbox
            .iter()
            .filter_map(|entry| why.get(&entry.id).map(|why| (entry.number, (*why).clone())))
            .collect();
        for part in parts(buried, self.to.part, |(_, why)| why.len()) {
            let commit = Commit { at, undeliverable: part, arrival: arrival(), ..Commit::default() };
            self.append(member, commit)?;
        }
        Ok(())
    }

    /// Hands on what a run that has left was sent since: the destination has it.
    pub(super) fn forward(&mut self, member: &mut Member) -> Done {
        let run = member.run;
        let loaded = self.load(End::From, run)?;
        let mut requests = Vec::new();
        for entry in &loaded.inbox {
            // One that is not verified becomes a dead letter there, as it would have here.
            let body = self.sign_message(entry).unwrap_or_else(|_| entry.body.clone());
            requests.push(send(entry, body));
        }
        self.send_all(requests)?;
        member.seen = Seen { inbox: loaded.run.inbox, dead_letters: loaded.run.dead_letters };
        Ok(())
    }

    fn send_all(&mut self, requests: Vec<Request>) -> Done {
        let part = self.to.part;
        for part in parts(requests, part, Request::bytes) {
            for chunk in part.chunks(AT_ONCE) {
                let answers = self.ask_all(End::To, chunk.to_vec());
                answers.into_iter().try_for_each(is_sent)?;
                failpoint!("copy.sent");
            }
        }
        Ok(())
    }
}

// A run that is over at the destination has no use for it, as it would have had none here.
fn is_sent(answer: Outcome) -> Result<(), Trouble> {
    match answer {
        Ok(_) | Err(JournalError::RunEnded(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn send(entry: &Entry, body: Vec<u8>) -> Request {
    let message = Message { id: entry.id, kind: entry.kind, body };
    Request::Send { run: entry.run, message, now: entry.at }
}
