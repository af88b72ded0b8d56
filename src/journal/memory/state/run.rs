//! One run in memory.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::super::super::archive::Archive;
use super::super::super::error::JournalError;
use super::super::super::outgoing::{BURIED, Known};
use super::super::super::reply::{DeadLetter, Entry, RunRow};
use super::super::super::request::{Commit, EntryId, EntryNumber, Message, Request};
use super::super::super::rules;
use super::super::LIMITS;
use crate::run_id::RunId;
use crate::timers::Time;

pub(super) fn entry(number: EntryNumber, run: RunId, message: Message, at: Time) -> Entry {
    Entry { number, run, id: message.id, kind: message.kind, at, body: message.body }
}

pub(super) struct Run {
    pub(super) row: RunRow,
    pub(super) records: VecDeque<(u64, Vec<u8>)>,
    pub(super) checkpoint: Option<(u64, Vec<u8>)>,
    /// The checkpoints before it and the records that they and it stand for, if the history is kept.
    pub(super) keyframes: BTreeMap<u64, Vec<u8>>,
    pub(super) folded: VecDeque<(u64, Vec<u8>)>,
    pub(super) stream: VecDeque<(u64, Vec<u8>)>,
    pub(super) inbox: BTreeMap<EntryNumber, Entry>,
    pub(super) outcome: Option<Vec<u8>>,
    pub(super) dead_letters: Vec<DeadLetter>,
    // The names of the messages in the inbox and of the last ones that were consumed, those in order.
    known: HashSet<EntryId>,
    consumed: VecDeque<EntryId>,
}

impl Run {
    pub(super) fn new(row: RunRow) -> Self {
        Self {
            row,
            records: VecDeque::new(),
            checkpoint: None,
            keyframes: BTreeMap::new(),
            folded: VecDeque::new(),
            stream: VecDeque::new(),
            inbox: BTreeMap::new(),
            outcome: None,
            dead_letters: Vec::new(),
            known: HashSet::new(),
            consumed: VecDeque::new(),
        }
    }

    /// The run of an archive, which nothing is sent to.
    pub(super) fn of_archive(archive: Archive) -> Self {
        let mut run = Self::new(archive.run);
        for (checkpoint, records) in archive.parts {
            run.folded.append(&mut run.records);
            let start = checkpoint.as_ref().map_or(0, |&(seq, _)| seq);
            run.keyframes.extend(run.checkpoint.take());
            run.checkpoint = checkpoint;
            run.records.extend((start + 1..).zip(records));
        }
        run.stream = archive.stream.into();
        run.inbox = archive.inbox.into_iter().map(|entry| (entry.number, entry)).collect();
        (run.outcome, run.dead_letters) = (archive.outcome, archive.dead_letters);
        run
    }

    /// The names of the messages that were consumed and are known again, in their order.
    pub(super) fn consumed(&self) -> impl Iterator<Item = EntryId> {
        self.consumed.iter().copied()
    }

    pub(super) fn known(&self, id: &EntryId) -> Known {
        match self.known.contains(id) {
            false => Known::No,
            true if self.dead_letters.iter().any(|letter| letter.entry.id == *id) => Known::Dead,
            true => Known::Delivered,
        }
    }

    pub(super) fn check(&self, commit: &Commit) -> Result<(), JournalError> {
        rules::check(&self.row, commit, LIMITS)?;
        match rules::taken_out(commit).iter().all(|number| self.inbox.contains_key(number)) {
            true => Ok(()),
            false => Err(rules::not_in_inbox(self.row.id)),
        }
    }

    pub(super) fn receive(&mut self, entry: Entry) {
        self.known.insert(entry.id);
        self.inbox.insert(entry.number, entry);
        self.row.inbox += 1;
    }

    /// Keeps a message that came after the end.
    pub(super) fn bury(&mut self, entry: Entry) {
        self.known.insert(entry.id);
        self.dead_letters.push(DeadLetter { entry, why: BURIED.into() });
        self.row.dead_letters += 1;
    }

    /// Puts the dead letters into the inbox again, with numbers from this one on.
    pub(super) fn redeliver(&mut self, first: EntryNumber) {
        let letters = std::mem::take(&mut self.dead_letters);
        self.row.dead_letters = 0;
        for (number, letter) in (first..).zip(letters) {
            self.receive(Entry { number, ..letter.entry });
        }
    }

    /// Writes a commit that was checked.
    pub(super) fn write(&mut self, commit: Commit) {
        let first = self.row.seq + 1;
        rules::apply(&mut self.row, &commit);
        self.records.extend((first..).zip(commit.records));
        if let Some(state) = commit.checkpoint {
            self.fold(state, commit.keeps_history);
        }
        self.stream.extend(commit.published);
        let forgotten = rules::forgotten(&self.row);
        while self.stream.front().is_some_and(|&(number, _)| number <= forgotten) {
            self.stream.pop_front();
        }
        commit.consumed.into_iter().for_each(|number| self.consume(number));
        for (number, why) in commit.undeliverable {
            self.dead_letters.extend(self.inbox.remove(&number).map(|entry| DeadLetter { entry, why }));
        }
        self.outcome = commit.outcome;
    }

    fn fold(&mut self, state: Vec<u8>, keeps_history: bool) {
        let before = self.checkpoint.replace((self.row.seq, state));
        if keeps_history {
            self.folded.append(&mut self.records);
            // One at the same record has no records behind it, and says nothing more.
            self.keyframes.extend(before.filter(|&(seq, _)| seq < self.row.seq));
        } else {
            self.records.clear();
            self.folded.clear();
            self.keyframes.clear();
        }
    }

    fn consume(&mut self, number: EntryNumber) {
        self.consumed.extend(self.inbox.remove(&number).map(|entry| entry.id));
        if self.consumed.len() as u64 > Request::DEDUPE_WINDOW
            && let Some(id) = self.consumed.pop_front()
        {
            self.known.remove(&id);
        }
    }
}
