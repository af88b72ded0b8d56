//! What a group of requests does to runs, worked out from their rows before anything is written.

use std::collections::{HashMap, HashSet};

use super::LIMITS;
use super::history::History;
use super::rows::{Stored, check_names, key_digest};
use crate::journal::outgoing::Known;
use crate::journal::{
    Commit, EntryId, EntryNumber, JournalError, Message, NewRun, OpId, Outcome, OwnerId, Refusal, Reply, Request, Seen,
    copying, recovery, rules,
};
use crate::run_id::RunId;
use crate::timers::Time;

/// A run of the group, and what is to be written of it.
pub(super) struct Draft {
    pub(super) stored: Stored,
    /// The version of the row that was read; nothing if the run is new.
    pub(super) before: Option<i64>,
    pub(super) is_changed: bool,
    /// Commits, by the number of their last record.
    pub(super) log: Vec<(u64, Vec<Vec<u8>>)>,
    /// Takes the place of the records before `log`.
    pub(super) checkpoint: Option<(u64, Vec<u8>)>,
    pub(super) history: History,
    pub(super) published: Vec<(u64, Vec<u8>)>,
    pub(super) sent: Vec<Sent>,
    pub(super) consumed: Vec<EntryNumber>,
    pub(super) dead: Vec<(EntryNumber, String)>,
    pub(super) outcome: Option<Vec<u8>>,
    /// The outcome that it had is its no more.
    pub(super) is_reopened: bool,
    /// How often nothing more came of it.
    pub(super) ends: usize,
    /// How many names of consumed messages are forgotten.
    pub(super) too_many_names: u64,
}

/// A message to a run.
pub(super) struct Sent {
    pub(super) message: Message,
    pub(super) at: Time,
    /// Why it is a dead letter at once.
    pub(super) dead: Option<&'static str>,
}

/// The rows that a group of requests is worked out from.
#[derive(Default)]
pub(super) struct Ledger {
    /// Nothing: there is no such run.
    pub(super) drafts: HashMap<RunId, Option<Draft>>,
    pub(super) keys: HashMap<[u8; 32], RunId>,
    /// The numbers of living owners.
    pub(super) owners: HashMap<OwnerId, i64>,
    /// Messages that are known already.
    pub(super) known: HashMap<(RunId, EntryId), Known>,
    /// What is in the inboxes of what is to be taken out; if this is not known, it is taken to be there.
    pub(super) inbox: Option<HashSet<(RunId, EntryNumber)>>,
    // What was taken out by a request of the group.
    taken: HashSet<(RunId, EntryNumber)>,
    /// Owners that must live when it is written.
    pub(super) living: HashSet<i64>,
}

impl Draft {
    pub(super) fn new(stored: Stored, before: Option<i64>) -> Self {
        Self {
            stored,
            before,
            is_changed: before.is_none(),
            log: Vec::new(),
            checkpoint: None,
            history: History::default(),
            published: Vec::new(),
            sent: Vec::new(),
            consumed: Vec::new(),
            dead: Vec::new(),
            outcome: None,
            is_reopened: false,
            ends: 0,
            too_many_names: 0,
        }
    }

    // Writes a commit that was checked.
    fn write(&mut self, commit: Commit) {
        let went_on = self.stored.row.phase().goes_on();
        rules::apply(&mut self.stored.row, &commit);
        self.is_changed = true;
        if self.stored.row.owner.is_none() {
            self.stored.owner = 0;
        }
        let seq = self.stored.row.seq;
        if !commit.records.is_empty() {
            self.log.push((seq, commit.records));
        }
        if let Some(state) = commit.checkpoint {
            let before = self.checkpoint.replace((seq, state));
            self.history.fold(commit.keeps_history, seq, &mut self.log, before);
        }
        self.published.extend(commit.published);
        let known = self.stored.consumed + commit.consumed.len() as u64;
        self.stored.consumed = known.min(Request::DEDUPE_WINDOW);
        self.too_many_names += known - self.stored.consumed;
        self.consumed.extend(commit.consumed);
        self.dead.extend(commit.undeliverable);
        self.outcome = commit.outcome.or(self.outcome.take());
        self.ends += usize::from(went_on && !self.stored.row.phase().goes_on());
    }
}

impl Ledger {
    /// Carries out requests on the rows, in their order.
    pub(super) fn carry_out_all(&mut self, requests: &[&Request], was_lost: bool) -> Vec<Outcome> {
        // Of several commits of a run that were written together, and whose answers were lost, the row knows the last.
        let written = if was_lost { self.written(requests) } else { HashMap::new() };
        let answers = requests.iter().enumerate().map(|(at, &request)| match request {
            Request::Append { run, after, commit, .. } if written.get(run).is_some_and(|&last| at < last) => {
                Ok(Reply::Appended { seq: after + commit.records.len() as u64, undelivered: self.undelivered(commit) })
            }
            request => self.carry_out(request),
        });
        answers.collect()
    }

    fn written(&self, requests: &[&Request]) -> HashMap<RunId, usize> {
        let mut written = HashMap::new();
        for (at, request) in requests.iter().enumerate() {
            if let Request::Append { run, commit, .. } = request
                && let Some(Some(draft)) = self.drafts.get(run)
                && rules::is_written(&draft.stored.row, commit)
            {
                written.insert(*run, at);
            }
        }
        written
    }

    fn carry_out(&mut self, request: &Request) -> Outcome {
        match request {
            Request::Create { run, owner, commit } => self.create(run, *owner, commit),
            Request::Append { run, epoch, after, commit } => self.append(*run, *epoch, *after, commit),
            Request::Reopen { run, after, owner, commit } => self.reopen(*run, *after, *owner, commit),
            Request::Send { run, message, now } => self.send(*run, message, *now),
            Request::Refuse { run, epoch, refusal, now } => self.refuse(*run, *epoch, refusal, *now),
            Request::Take { run, owner, op } => self.take(*run, *owner, *op),
            Request::Leave { run, epoch, seen } => self.leave(*run, *epoch, *seen),
            other => Err(JournalError::Panicked(format!("{other:?} is no request of a group"))),
        }
    }

    pub(super) fn owner(&self, owner: Option<OwnerId>) -> Result<i64, JournalError> {
        let Some(owner) = owner else { return Ok(0) };
        self.owners.get(&owner).copied().ok_or(JournalError::LeaseLost(owner))
    }

    pub(super) fn draft(&mut self, id: RunId) -> Result<&mut Draft, JournalError> {
        self.drafts.get_mut(&id).and_then(Option::as_mut).ok_or(JournalError::UnknownRun(id))
    }

    fn create(&mut self, new: &NewRun, owner: Option<OwnerId>, commit: &Commit) -> Outcome {
        let digest = key_digest(&new.workflow, new.key.as_deref());
        let of_key = digest.and_then(|digest| self.keys.get(&digest).copied());
        let there = [Some(new.id), of_key].into_iter().flatten().find(|&id| self.draft(id).is_ok());
        if let Some(there) = there {
            let row = &self.draft(there)?.stored.row;
            if rules::is_made(row, commit) {
                return Ok(rules::created_again(owner));
            }
            return Ok(Reply::Exists { id: there, input: row.input });
        }
        let number = self.owner(owner)?;
        check_names(new)?;
        rules::check_first(new, commit, LIMITS)?;
        self.keys.extend(digest.map(|digest| (digest, new.id)));
        Ok(Reply::Created { epoch: self.insert(new, owner, number, commit.clone()) })
    }

    /// Adds a run that is not there, with a first commit that was checked; gives its epoch.
    pub(super) fn insert(&mut self, new: &NewRun, owner: Option<OwnerId>, number: i64, commit: Commit) -> u64 {
        let mut row = rules::new_row(new.clone(), &commit);
        rules::give(&mut row, owner);
        let epoch = row.epoch;
        let mut draft = Draft::new(Stored { row, version: 1, owner: number, consumed: 0 }, None);
        draft.write(commit);
        self.living.extend(owner.map(|_| number));
        self.drafts.insert(new.id, Some(draft));
        epoch
    }

    fn append(&mut self, id: RunId, epoch: u64, after: u64, commit: &Commit) -> Outcome {
        let draft = self.draft(id)?;
        let row = &draft.stored.row;
        if rules::is_written(row, commit) {
            let seq = row.seq;
            return Ok(Reply::Appended { seq, undelivered: self.undelivered(commit) });
        }
        rules::check_turn(row, epoch, after)?;
        let owner = draft.stored.owner;
        self.check(id, commit)?;
        self.check_outgoing(commit)?;
        self.living.insert(owner);
        self.write(id, commit)?;
        let seq = self.draft(id)?.stored.row.seq;
        Ok(Reply::Appended { seq, undelivered: self.send_out(commit)? })
    }

    fn reopen(&mut self, id: RunId, after: u64, owner: Option<OwnerId>, commit: &Commit) -> Outcome {
        let number = self.owner(owner)?;
        let draft = self.draft(id)?;
        if rules::is_reopened(&draft.stored.row, commit) {
            return rules::reopened_again(&draft.stored.row, owner);
        }
        let mut row = draft.stored.row.clone();
        rules::reopen(&mut row, after, owner, commit.op)?;
        rules::check_silent(id, commit)?;
        self.check(id, commit)?;
        self.living.extend(owner.map(|_| number));
        let draft = self.draft(id)?;
        (draft.stored.row, draft.stored.owner) = (row, number);
        (draft.is_reopened, draft.outcome) = (true, None);
        self.write(id, commit)?;
        let row = &self.draft(id)?.stored.row;
        Ok(Reply::Reopened { epoch: row.epoch, seq: row.seq })
    }

    fn check(&mut self, id: RunId, commit: &Commit) -> Result<(), JournalError> {
        rules::check(&self.draft(id)?.stored.row, commit, LIMITS)?;
        let taken_out = rules::taken_out(commit);
        let is_there = |number: &EntryNumber| {
            let entry = (id, *number);
            !self.taken.contains(&entry) && self.inbox.as_ref().is_none_or(|inbox| inbox.contains(&entry))
        };
        match taken_out.iter().all(is_there) {
            true => Ok(()),
            false => Err(rules::not_in_inbox(id)),
        }
    }

    fn write(&mut self, id: RunId, commit: &Commit) -> Result<(), JournalError> {
        self.taken.extend(rules::taken_out(commit).into_iter().map(|number| (id, number)));
        self.draft(id)?.write(commit.clone());
        Ok(())
    }

    fn send(&mut self, id: RunId, message: &Message, now: Time) -> Outcome {
        rules::check_message(id, message, LIMITS)?;
        let is_known = self.known.contains_key(&(id, message.id));
        let draft = self.draft(id)?;
        if is_known {
            return Ok(Reply::Sent { new: false });
        }
        if draft.stored.row.is_over() {
            return Err(JournalError::RunEnded(id));
        }
        self.deliver(id, message, now)?;
        Ok(Reply::Sent { new: true })
    }

    /// Puts a message that is new into the inbox of a run that goes on.
    pub(super) fn deliver(&mut self, id: RunId, message: &Message, at: Time) -> Result<(), JournalError> {
        let draft = self.draft(id)?;
        draft.sent.push(Sent { message: message.clone(), at, dead: None });
        draft.stored.row.inbox += 1;
        draft.is_changed = true;
        self.known.insert((id, message.id), Known::Delivered);
        Ok(())
    }

    fn take(&mut self, id: RunId, owner: OwnerId, op: OpId) -> Outcome {
        let number = self.owner(Some(owner))?;
        let draft = self.draft(id)?;
        copying::take(&mut draft.stored.row, owner, op)?;
        draft.stored.owner = number;
        draft.is_changed = true;
        let row = draft.stored.row.clone();
        self.living.insert(number);
        Ok(Reply::Taken(Box::new(row)))
    }

    fn leave(&mut self, id: RunId, epoch: u64, seen: Seen) -> Outcome {
        let draft = self.draft(id)?;
        copying::leave(&mut draft.stored.row, epoch, seen)?;
        draft.stored.owner = 0;
        draft.is_changed = true;
        Ok(Reply::Done)
    }

    fn refuse(&mut self, id: RunId, epoch: u64, refusal: &Refusal, now: Time) -> Outcome {
        let draft = self.draft(id)?;
        rules::check_epoch(&draft.stored.row, epoch)?;
        recovery::refuse(&mut draft.stored.row, refusal, now);
        draft.stored.owner = 0;
        draft.is_changed = true;
        draft.ends += usize::from(!draft.stored.row.phase().goes_on());
        Ok(Reply::Refused(Box::new(draft.stored.row.clone())))
    }
}
