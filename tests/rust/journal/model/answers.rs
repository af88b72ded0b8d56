//! What the model answers.

use std::collections::{BTreeMap, HashMap};

use treadle::RunId;
use treadle::journal::{Claim, Commit, Entry, JournalError, Message, NewRun, OpId, OwnerId, Refusal, Reply, Request};

use super::Outcome;
use super::run::Run;
use crate::journal::desk::*;

#[derive(Default)]
pub(super) struct Model {
    pub(super) leases: HashMap<OwnerId, u64>,
    pub(super) time: u64,
    pub(super) runs: BTreeMap<RunId, Run>,
    pub(super) entries: u64,
    pub(super) ends: Vec<RunId>,
    pub(super) claims: HashMap<OwnerId, OpId>,
}

impl Model {
    /// What the journal must answer; `claimed` is what it did claim, where it had a choice.
    pub(super) fn answer(&mut self, request: &Request, given: &Outcome) -> Outcome {
        match request {
            Request::Enlist { owner, lease } => {
                self.leases.insert(*owner, self.time + lease.as_micros() as u64);
                Ok(Reply::Done)
            }
            Request::Renew { owner, lease } => {
                self.lives(Some(*owner))?;
                self.leases.insert(*owner, self.time + lease.as_micros() as u64);
                Ok(Reply::Done)
            }
            Request::Release { owner } => {
                self.lose(*owner, 0);
                Ok(Reply::Done)
            }
            Request::Create { run, owner, commit } => self.create(run, *owner, commit),
            Request::Append { run, epoch, after, commit } => self.append(*run, *epoch, *after, commit),
            Request::Reopen { run, after, owner, commit } => self.reopen(*run, *after, *owner, commit),
            Request::Claim(claim) => self.claim(claim, given),
            Request::Refuse { run, epoch, refusal, .. } => self.refuse(*run, *epoch, refusal, given),
            Request::Redeliver { run } => self.redeliver(*run),
            Request::Send { run, message, now } => self.send(*run, message, *now),
            Request::Delete { run } => match self.run(*run)?.owner {
                Some(_) => Err(JournalError::RunActive(*run)),
                None => {
                    let removed = self.runs.remove(run);
                    self.ends.extend(removed.filter(|run| run.status.phase.goes_on()).map(|run| run.new.id));
                    Ok(Reply::Done)
                }
            },
            // These are asked after each batch.
            other => panic!("{other:?}"),
        }
    }

    // Numbers grow, and need not follow one another: they are taken over from the journal.
    pub(super) fn learn_numbers(&mut self, desk: &Desk) {
        for (&id, run) in &mut self.runs {
            let Ok(Reply::DeadLetters(dead)) = desk.ask(Request::DeadLetters { run: id }) else { panic!("{id}") };
            let inbox = desk.load(id).inbox;
            let given: HashMap<_, _> = inbox
                .iter()
                .chain(dead.iter().map(|letter| &letter.entry))
                .map(|entry| (entry.id, entry.number))
                .collect();
            let letters = run.dead.iter_mut().map(|letter| &mut letter.entry);
            for entry in run.sent.iter_mut().map(|(entry, _)| entry).chain(letters) {
                entry.number = given.get(&entry.id).copied().unwrap_or(entry.number);
            }
            let new: Vec<_> = run.inbox().iter().map(|entry| entry.number).collect();
            assert!(new.is_sorted(), "{new:?}");
            self.entries = new.into_iter().fold(self.entries, u64::max);
        }
    }

    pub(super) fn run(&mut self, id: RunId) -> Result<&mut Run, JournalError> {
        self.runs.get_mut(&id).ok_or(JournalError::UnknownRun(id))
    }

    pub(super) fn lives(&self, owner: Option<OwnerId>) -> Result<(), JournalError> {
        match owner {
            Some(owner) if !self.leases.contains_key(&owner) => Err(JournalError::LeaseLost(owner)),
            _ => Ok(()),
        }
    }

    fn lose(&mut self, owner: OwnerId, losses: u32) {
        self.leases.remove(&owner);
        self.claims.remove(&owner);
        for run in self.runs.values_mut().filter(|run| run.owner == Some(owner)) {
            run.owner = None;
            run.losses += losses;
        }
    }

    fn refuse(&mut self, id: RunId, epoch: u64, refusal: &Refusal, given: &Outcome) -> Outcome {
        let run = self.run(id)?;
        if run.owner.is_none() || run.epoch != epoch {
            return Err(JournalError::Conflict(id));
        }
        run.losses += 1;
        run.owner = None;
        run.is_delayed = true;
        if refusal.is_damaged || refusal.claimant.is_too_many(run.losses) {
            run.strand();
            self.ends.push(id);
        }
        given.clone()
    }

    fn redeliver(&mut self, id: RunId) -> Outcome {
        let last = self.entries;
        let run = self.run(id)?;
        if run.status.phase.is_over() {
            return Err(JournalError::RunEnded(id));
        }
        let letters = std::mem::take(&mut run.dead);
        let messages = letters.len();
        for (number, letter) in (last + 1..).zip(letters) {
            run.sent.retain(|(entry, _)| entry.number != letter.entry.number);
            run.sent.push((Entry { number, ..letter.entry }, true));
        }
        self.entries = last + messages as u64;
        Ok(Reply::Redelivered { messages })
    }

    fn create(&mut self, new: &NewRun, owner: Option<OwnerId>, commit: &Commit) -> Outcome {
        let same = |run: &&Run| run.new.id == new.id || (new.key.is_some() && run.new.key == new.key);
        let by_id = self.runs.get(&new.id);
        if let Some(there) = by_id.or_else(|| self.runs.values().find(same)) {
            if there.made_by == commit.op {
                return Ok(Reply::Created { epoch: u64::from(owner.is_some()) });
            }
            return Ok(Reply::Exists { id: there.new.id, input: there.new.input });
        }
        self.lives(owner)?;
        let run = Run::new(new, owner, commit.op);
        if !run.takes(commit) || !commit.outgoing.is_empty() {
            return invalid(new.id);
        }
        Ok(Reply::Created { epoch: self.insert(run, commit) })
    }

    pub(super) fn insert(&mut self, mut run: Run, commit: &Commit) -> u64 {
        let id = run.new.id;
        run.write(commit);
        let epoch = run.epoch;
        self.ends.extend(run.status.phase.is_over().then_some(id));
        self.runs.insert(id, run);
        epoch
    }

    fn append(&mut self, id: RunId, epoch: u64, after: u64, commit: &Commit) -> Outcome {
        let run = self.run(id)?;
        if run.op == commit.op {
            let seq = run.seq();
            return Ok(Reply::Appended { seq, undelivered: self.undelivered(commit) });
        }
        if run.owner.is_none() || run.epoch != epoch || run.seq() != after {
            return Err(JournalError::Conflict(id));
        }
        if !run.takes(commit) {
            return invalid(id);
        }
        self.owners_live(commit)?;
        let run = self.run(id)?;
        run.write(commit);
        let (seq, is_over) = (run.seq(), run.status.phase.is_over());
        self.ends.extend(is_over.then_some(id));
        Ok(Reply::Appended { seq, undelivered: self.send_out(commit) })
    }

    fn reopen(&mut self, id: RunId, after: u64, owner: Option<OwnerId>, commit: &Commit) -> Outcome {
        self.lives(owner)?;
        let run = self.run(id)?;
        if run.reopened_by == commit.op {
            let is_taken = owner.is_some() && run.owner != owner;
            let again = Reply::Reopened { epoch: run.epoch, seq: run.seq() };
            return if is_taken { Err(JournalError::Conflict(id)) } else { Ok(again) };
        }
        if run.status.phase.goes_on() || run.seq() != after {
            return Err(JournalError::Conflict(id));
        }
        if !run.takes(commit) || !commit.outgoing.is_empty() {
            return invalid(id);
        }
        run.owner = owner;
        run.epoch += u64::from(owner.is_some());
        run.forget_losses();
        run.reopened_by = commit.op;
        run.write(commit);
        let reopened = Reply::Reopened { epoch: run.epoch, seq: run.seq() };
        let is_over = run.status.phase.is_over();
        self.ends.extend(is_over.then_some(id));
        Ok(reopened)
    }

    fn claim(&mut self, claim: &Claim, given: &Outcome) -> Outcome {
        let &Claim { owner, claimant, now, limit, .. } = claim;
        self.lives(Some(owner))?;
        let Ok(Reply::Claimed(claimed)) = given else { panic!("{given:?}") };
        if self.claims.get(&owner) == Some(&claim.op) {
            let taken = self.runs.values().filter(|run| run.owner == Some(owner) && run.op == claim.op);
            let mut answered: Vec<_> = claimed.runs.iter().map(|row| row.id).collect();
            answered.sort_unstable();
            assert_eq!(answered, taken.map(|run| run.new.id).collect::<Vec<_>>());
            assert!(claimed.stranded.is_empty() && claimed.more);
            return given.clone();
        }
        let lapsed = self.leases.iter().filter(|&(&other, &until)| other != owner && until < self.time);
        let lapsed: Vec<_> = lapsed.map(|(&other, _)| other).collect();
        lapsed.into_iter().for_each(|other| self.lose(other, 1));
        let fits = |run: &&Run| run.owner.is_none() && run.wake().is_some_and(|at| at <= now);
        let due: Vec<_> = self.runs.values().filter(fits).map(|run| run.new.id).collect();
        assert_eq!(claimed.runs.len() + claimed.stranded.len(), due.len().min(limit));
        for row in &claimed.stranded {
            assert!(due.contains(&row.id), "{row:?} had nothing to do");
            let run = self.run(row.id)?;
            assert!(claimant.is_too_many(run.losses), "{row:?} was taken over {} times", run.losses);
            run.strand();
            self.ends.push(row.id);
        }
        for row in &claimed.runs {
            assert!(due.contains(&row.id), "{row:?} had nothing to do");
            let run = self.run(row.id)?;
            assert!(!claimant.is_too_many(run.losses), "{row:?} was taken over {} times", run.losses);
            run.owner = Some(owner);
            run.epoch += 1;
            run.op = claim.op;
            run.is_delayed = run.losses > 0;
            assert_eq!(row.recoveries, run.losses);
            assert_eq!((row.owner, row.epoch), (run.owner, run.epoch));
        }
        if !claimed.runs.is_empty() {
            self.claims.insert(owner, claim.op);
        }
        given.clone()
    }

    pub(super) fn send(&mut self, id: RunId, message: &Message, now: u64) -> Outcome {
        let number = self.entries + 1;
        let run = self.run(id)?;
        if run.sent.iter().any(|(entry, _)| entry.id == message.id) {
            return Ok(Reply::Sent { new: false });
        }
        if run.status.phase.is_over() {
            return Err(JournalError::RunEnded(id));
        }
        let entry = Entry { number, run: id, id: message.id, kind: message.kind, at: now, body: message.body.clone() };
        run.sent.push((entry, true));
        self.entries = number;
        Ok(Reply::Sent { new: true })
    }

    pub(super) fn polled(&self, owner: OwnerId, after: u64) -> Vec<Entry> {
        let own = self.runs.values().filter(|run| run.owner == Some(owner));
        let mut entries: Vec<_> = own.flat_map(Run::inbox).filter(|entry| entry.number > after).collect();
        entries.sort_by_key(|entry| entry.number);
        entries
    }
}

fn invalid(run: RunId) -> Outcome {
    Err(JournalError::Invalid { run, why: "" })
}
