//! Runs, owners and inboxes in memory, and the sets that find them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::super::archive::Archive;
use super::super::error::JournalError;
use super::super::lease::{Clock, Lease};
use super::super::op::OpId;
use super::super::outgoing::{self as rules_of_outgoing, Known};
use super::super::reply::{Claimed, Next, Polled, Reply, RunRow};
use super::super::request::{Claim, Commit, Cursor, EntryNumber, Message, NewRun, OwnerId, Refusal, Request};
use super::super::{Outcome, copying as rules_of_copying, recovery, rules};
use super::LIMITS;
use crate::run_id::RunId;
use crate::timers::Time;

mod copying;
mod ends;
mod outgoing;
mod read;
mod run;

use ends::EndLog;
use run::{Run, entry};

/// How much has happened to a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) changes: u64,
    pub(super) entries: u64,
    pub(super) ends: u64,
}

impl std::ops::Sub for Counts {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            changes: self.changes - other.changes,
            entries: self.entries - other.entries,
            ends: self.ends - other.ends,
        }
    }
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            changes: self.changes + other.changes,
            entries: self.entries + other.entries,
            ends: self.ends + other.ends,
        }
    }
}

type Work = BTreeSet<(Option<OwnerId>, String, Time, RunId)>;

pub(super) struct State {
    clock: Clock,
    runs: BTreeMap<RunId, Run>,
    keys: HashMap<(String, String), RunId>,
    // Those that live. A run whose owner is not here has none: `lose` sees to that.
    leases: HashMap<OwnerId, Lease>,
    // The last claim of each that took runs.
    claims: HashMap<OwnerId, OpId>,
    owned: BTreeSet<(OwnerId, RunId)>,
    // Runs that have something to do, by the time from which they have.
    work: Work,
    finished: BTreeSet<(Time, RunId)>,
    inboxes: BTreeMap<EntryNumber, RunId>,
    last_entry: EntryNumber,
    ends: EndLog,
    changes: u64,
}

impl State {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            runs: BTreeMap::new(),
            keys: HashMap::new(),
            leases: HashMap::new(),
            claims: HashMap::new(),
            owned: BTreeSet::new(),
            work: Work::new(),
            finished: BTreeSet::new(),
            inboxes: BTreeMap::new(),
            last_entry: 0,
            ends: EndLog::default(),
            changes: 0,
        }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts { changes: self.changes, entries: self.last_entry, ends: self.ends.last() }
    }

    pub(super) fn carry_out(&mut self, request: Request) -> Outcome {
        match request {
            Request::Enlist { owner, lease } => self.enlist(owner, lease),
            Request::Renew { owner, lease } => self.renew(owner, lease),
            Request::Release { owner } => self.lose(owner, |row| row.owner = None),
            Request::Create { run, owner, commit } => self.create(run, owner, commit),
            Request::Append { run, epoch, after, commit } => self.append(run, epoch, after, commit),
            Request::Reopen { run, after, owner, commit } => self.reopen(run, after, owner, commit),
            Request::Claim(claim) => self.claim(&claim),
            Request::Refuse { run, epoch, refusal, now } => self.refuse(run, epoch, &refusal, now),
            Request::Ends { after, limit } => {
                Ok(Reply::Ends(self.ends.after(after.map(|after| after.number()), limit)))
            }
            Request::DeadLetters { run } => self.dead_letters(run),
            Request::Redeliver { run } => self.redeliver(run),
            Request::NextDue { owner, workflows } => Ok(Reply::Next(self.next_due(owner, &workflows))),
            Request::Send { run, message, now } => self.send(run, message, now),
            Request::Poll { owner, after, limit } => Ok(Reply::Polled(self.poll(owner, after.number(), limit))),
            Request::Load { runs } => Ok(Reply::Loaded(runs.into_iter().map(|run| (run, self.load(run))).collect())),
            Request::Get { run } => self.get(run),
            Request::List { filter } => Ok(Reply::Listed(self.list(&filter))),
            Request::Records { run, after, limit } => self.records(run, after, limit),
            Request::Segment { run, at } => self.segment(run, at),
            Request::ReadStream { run, after, limit } => self.read_stream(run, after, limit),
            Request::Take { run, owner, op } => self.take(run, owner, op),
            Request::Leave { run, epoch, seen } => self.leave(run, epoch, seen),
            Request::Remove { run, epoch, seen } => self.remove(run, epoch, seen),
            Request::Traces { run } => self.traces(run),
            Request::Delete { run } => self.delete(run),
            Request::Prune { finished_before, limit } => self.prune(finished_before, limit),
        }
    }

    /// Adds the run of an archive. Nobody executes it, whoever had it when it was exported.
    pub(super) fn put_archive(&mut self, archive: Archive) {
        let run = Run::of_archive(archive);
        self.index(&run.row);
        self.runs.insert(run.row.id, run);
    }

    fn enlist(&mut self, owner: OwnerId, lasts: Duration) -> Outcome {
        self.changes += 1;
        self.leases.insert(owner, Lease::new(self.clock.now(), lasts));
        Ok(Reply::Done)
    }

    fn renew(&mut self, owner: OwnerId, lasts: Duration) -> Outcome {
        *self.leases.get_mut(&owner).ok_or(JournalError::LeaseLost(owner))? = Lease::new(self.clock.now(), lasts);
        self.changes += 1;
        Ok(Reply::Done)
    }

    fn lose(&mut self, owner: OwnerId, lose: fn(&mut RunRow)) -> Outcome {
        self.changes += u64::from(self.leases.remove(&owner).is_some());
        self.claims.remove(&owner);
        let lost: Vec<_> = self.owned_by(owner).collect();
        for id in lost {
            self.change(id, |run| lose(&mut run.row));
        }
        Ok(Reply::Done)
    }

    fn check_owner(&self, owner: Option<OwnerId>) -> Result<(), JournalError> {
        match owner {
            Some(owner) if !self.leases.contains_key(&owner) => Err(JournalError::LeaseLost(owner)),
            _ => Ok(()),
        }
    }

    fn create(&mut self, new: NewRun, owner: Option<OwnerId>, commit: Commit) -> Outcome {
        let key = new.key.clone().map(|key| (new.workflow.clone(), key));
        let of_key = key.as_ref().and_then(|key| self.keys.get(key).copied());
        let there = self.runs.get(&new.id).or_else(|| self.runs.get(&of_key?));
        if let Some(run) = there {
            if rules::is_made(&run.row, &commit) {
                return Ok(rules::created_again(owner));
            }
            return Ok(Reply::Exists { id: run.row.id, input: run.row.input });
        }
        self.check_owner(owner)?;
        rules::check_first(&new, &commit, LIMITS)?;
        self.keys.extend(key.map(|key| (key, new.id)));
        Ok(Reply::Created { epoch: self.insert(new, owner, commit) })
    }

    // Adds a run that is not there, with a first commit that was checked; gives its epoch.
    fn insert(&mut self, new: NewRun, owner: Option<OwnerId>, commit: Commit) -> u64 {
        let id = new.id;
        let mut run = Run::new(rules::new_row(new, &commit));
        rules::give(&mut run.row, owner);
        let epoch = run.row.epoch;
        self.runs.insert(id, run);
        self.write(id, commit);
        epoch
    }

    fn append(&mut self, id: RunId, epoch: u64, after: u64, mut commit: Commit) -> Outcome {
        let run = self.run(id)?;
        if rules::is_written(&run.row, &commit) {
            return Ok(Reply::Appended { seq: run.row.seq, undelivered: self.undelivered(&commit) });
        }
        rules::check_turn(&run.row, epoch, after)?;
        run.check(&commit)?;
        rules_of_outgoing::owners(&commit).try_for_each(|owner| self.check_owner(Some(owner)))?;
        let (op, at, outgoing) = (commit.op, commit.at, std::mem::take(&mut commit.outgoing));
        self.write(id, commit);
        let seq = self.run(id)?.row.seq;
        Ok(Reply::Appended { seq, undelivered: self.send_out(op, at, outgoing) })
    }

    fn reopen(&mut self, id: RunId, after: u64, owner: Option<OwnerId>, commit: Commit) -> Outcome {
        self.check_owner(owner)?;
        let run = self.run(id)?;
        if rules::is_reopened(&run.row, &commit) {
            return rules::reopened_again(&run.row, owner);
        }
        let mut row = run.row.clone();
        rules::reopen(&mut row, after, owner, commit.op)?;
        rules::check_silent(id, &commit)?;
        run.check(&commit)?;
        self.change(id, |run| run.row = row);
        self.write(id, commit);
        let row = &self.run(id)?.row;
        Ok(Reply::Reopened { epoch: row.epoch, seq: row.seq })
    }

    fn write(&mut self, id: RunId, commit: Commit) {
        for number in rules::taken_out(&commit) {
            self.inboxes.remove(&number);
        }
        self.change(id, |run| run.write(commit));
    }

    fn claim(&mut self, claim: &Claim) -> Outcome {
        let &Claim { op, owner, now, limit, .. } = claim;
        self.check_owner(Some(owner))?;
        if self.claims.get(&owner).is_some_and(|&last| op.is_same(last)) {
            return Ok(Reply::Claimed(Claimed { runs: self.claimed_by(claim), more: true, ..Claimed::default() }));
        }
        let moment = self.clock.now();
        let lapsed: Vec<_> = self
            .leases
            .iter()
            .filter(|&(&other, lease)| other != owner && lease.left(moment).is_none())
            .map(|(&other, _)| other)
            .collect();
        lapsed.into_iter().try_for_each(|other| self.lose(other, recovery::lose).map(drop))?;
        let ready = rules::distinct(&claim.workflows)
            .flat_map(|name| claimable(&self.work, name).take_while(|&(at, _)| at <= now));
        let ids: Vec<_> = ready.take(limit).map(|(_, run)| run).collect();
        let mut claimed = Claimed { more: ids.len() == limit, ..Claimed::default() };
        for id in ids {
            let mut turn = recovery::Turn::Given;
            self.change(id, |run| turn = recovery::take(&mut run.row, claim));
            let row = self.run(id)?.row.clone();
            match turn {
                recovery::Turn::Given => claimed.runs.push(row),
                recovery::Turn::Stranded => claimed.stranded.push(row),
            }
        }
        if !claimed.runs.is_empty() {
            self.claims.insert(owner, op);
        }
        Ok(Reply::Claimed(claimed))
    }

    // The runs that the claim took and that have not got further since.
    fn claimed_by(&self, claim: &Claim) -> Vec<RunRow> {
        let owned = self.owned_by(claim.owner).filter_map(|id| self.runs.get(&id));
        owned.filter(|run| run.row.op == claim.op).map(|run| run.row.clone()).collect()
    }

    fn owned_by(&self, owner: OwnerId) -> impl Iterator<Item = RunId> {
        let (first, last) = (RunId::from_bytes([0; 16]), RunId::from_bytes([255; 16]));
        self.owned.range((owner, first)..=(owner, last)).map(|&(_, run)| run)
    }

    fn refuse(&mut self, id: RunId, epoch: u64, refusal: &Refusal, now: Time) -> Outcome {
        rules::check_epoch(&self.run(id)?.row, epoch)?;
        self.change(id, |run| recovery::refuse(&mut run.row, refusal, now));
        Ok(Reply::Refused(Box::new(self.run(id)?.row.clone())))
    }

    fn dead_letters(&self, id: RunId) -> Outcome {
        Ok(Reply::DeadLetters(self.run(id)?.dead_letters.clone()))
    }

    fn redeliver(&mut self, id: RunId) -> Outcome {
        let run = self.run(id)?;
        if run.row.is_over() {
            return Err(JournalError::RunEnded(id));
        }
        let messages = run.dead_letters.len();
        let first = self.last_entry + 1;
        self.last_entry += messages as u64;
        self.inboxes.extend((first..=self.last_entry).map(|number| (number, id)));
        self.change(id, |run| run.redeliver(first));
        Ok(Reply::Redelivered { messages })
    }

    fn next_due(&self, owner: OwnerId, workflows: &[String]) -> Next {
        if workflows.is_empty() {
            return Next::default();
        }
        let due = workflows.iter().filter_map(|name| claimable(&self.work, name).next()).map(|(at, _)| at).min();
        let moment = self.clock.now();
        let others = self.leases.iter().filter(|&(&other, _)| other != owner);
        Next { due, lapse: others.map(|(_, lease)| lease.left(moment).unwrap_or_default()).min() }
    }

    fn send(&mut self, id: RunId, message: Message, now: Time) -> Outcome {
        rules::check_message(id, &message, LIMITS)?;
        let run = self.run(id)?;
        if run.known(&message.id) != Known::No {
            return Ok(Reply::Sent { new: false });
        }
        if run.row.is_over() {
            return Err(JournalError::RunEnded(id));
        }
        self.deliver(id, message, now);
        Ok(Reply::Sent { new: true })
    }

    // Puts a message that is new into the inbox of a run that goes on.
    fn deliver(&mut self, id: RunId, message: Message, at: Time) {
        self.last_entry += 1;
        let number = self.last_entry;
        self.inboxes.insert(number, id);
        self.change(id, |run| run.receive(entry(number, id, message, at)));
    }

    fn poll(&self, owner: OwnerId, after: EntryNumber, limit: usize) -> Polled {
        let mut polled = Polled { cursor: Cursor::behind(after.max(self.last_entry)), ..Polled::default() };
        let newer = self.inboxes.range(after.saturating_add(1)..).filter_map(|(number, id)| {
            let run = self.runs.get(id)?;
            (run.row.owner == Some(owner)).then(|| run.inbox.get(number)).flatten()
        });
        polled.entries.extend(newer.take(limit).cloned());
        polled.more = polled.entries.len() == limit;
        if polled.more {
            polled.cursor = Cursor::behind(polled.entries.last().map_or(after, |entry| entry.number));
        }
        polled
    }

    fn delete(&mut self, id: RunId) -> Outcome {
        rules_of_copying::check_delete(&self.run(id)?.row)?;
        self.forget(id);
        Ok(Reply::Done)
    }

    fn prune(&mut self, finished_before: Time, limit: usize) -> Outcome {
        let old = self.finished.iter().take_while(|&&(at, _)| at < finished_before);
        let old = old.filter(|(_, id)| !self.runs[id].row.copying.is_any()).take(limit);
        let ids: Vec<_> = old.map(|&(_, id)| id).collect();
        ids.iter().for_each(|&id| self.forget(id));
        Ok(Reply::Pruned { runs: ids.len() })
    }

    fn forget(&mut self, id: RunId) {
        let Some(run) = self.runs.remove(&id) else { return };
        self.changes += 1;
        self.unindex(&run.row);
        if run.row.phase().goes_on() {
            self.ends.push(id);
        }
        for number in run.inbox.keys() {
            self.inboxes.remove(number);
        }
        if let Some(key) = run.row.key {
            self.keys.remove(&(run.row.workflow, key));
        }
    }

    fn run(&self, id: RunId) -> Result<&Run, JournalError> {
        self.runs.get(&id).ok_or(JournalError::UnknownRun(id))
    }

    // The only way to change a run: the sets follow its row.
    fn change(&mut self, id: RunId, change: impl FnOnce(&mut Run)) {
        let Some(mut run) = self.runs.remove(&id) else { return };
        self.changes += 1;
        self.unindex(&run.row);
        let went_on = run.row.phase().goes_on();
        change(&mut run);
        self.index(&run.row);
        if went_on && !run.row.phase().goes_on() {
            self.ends.push(id);
        }
        self.runs.insert(id, run);
    }

    fn index(&mut self, row: &RunRow) {
        self.work.extend(work_of(row));
        self.owned.extend(row.owner.map(|owner| (owner, row.id)));
        self.finished.extend(row.finished.map(|at| (at, row.id)));
    }

    fn unindex(&mut self, row: &RunRow) {
        if let Some(work) = work_of(row) {
            self.work.remove(&work);
        }
        if let Some(owner) = row.owner {
            self.owned.remove(&(owner, row.id));
        }
        if let Some(at) = row.finished {
            self.finished.remove(&(at, row.id));
        }
    }
}

fn work_of(row: &RunRow) -> Option<(Option<OwnerId>, String, Time, RunId)> {
    Some((row.owner, row.workflow.clone(), rules::wake(row)?, row.id))
}

// The runs of a workflow that no process executes, in the order in which they have something to do.
fn claimable<'a>(work: &'a Work, workflow: &'a str) -> impl Iterator<Item = (Time, RunId)> + 'a {
    let from = (None, workflow.to_owned(), 0, RunId::from_bytes([0; 16]));
    let found = work.range(from..).take_while(move |(owner, name, ..)| owner.is_none() && name == workflow);
    found.map(|&(_, _, at, id)| (at, id))
}
