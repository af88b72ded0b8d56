//! Changes of a run's state from outside: each is made once, with the commit that consumes it.

use std::collections::BTreeMap;

use treadle::history::{self, Trusted};
use treadle::journal::{Commit, Entry, EntryNumber, Loaded, Reply, Slot, entry, kind};
use treadle::writer::Occurrence;
use treadle::{Changes, EncodedRecord, Record, RunId, Tag, Time, Value};

use super::bugs::Bug;
use super::children::signer;
use super::execution::Execution;

/// The key that is changed. No step of a workflow has a part in it.
pub const KEY: &str = "from outside";

/// The bytes of a message that changes the state of a run: the so-manieth of all.
pub fn message(run: RunId, id: [u8; 16], number: u64) -> Vec<u8> {
    let value = Value::new(Tag::Binary, number.to_be_bytes().to_vec());
    // Every third one removes what is not there as well.
    let removed = if number.is_multiple_of(3) { vec!["not there".into()] } else { Vec::new() };
    let event = Changes { set: vec![(KEY.into(), value)], removed }.into_event();
    let slot = Slot::Inbox { id, kind: kind::STATE };
    entry::encode(run, &slot, &event, &signer().secrets, true).expect("there is a secret").into()
}

fn number_of(value: &Value) -> u64 {
    u64::from_be_bytes((*value.bytes).try_into().expect("eight bytes"))
}

impl Execution {
    /// An entry of the inbox changes the state.
    pub(super) fn change(&mut self, entry: &Entry, now: Time) {
        let read = || history::changes(Trusted::Signed(signer()), entry.run, entry).expect("it is what was written");
        if self.has(Bug::ChangeConsumedAlone) {
            self.run.consume(entry.number);
            self.mark(Occurrence::Received, now);
            self.flush(now);
            self.run.set(KEY, read().set.remove(0).1).expect("it runs");
            return self.mark(Occurrence::Received, now);
        }
        assert!(self.run.change(entry.number, read(), now).is_ok(), "it runs");
        if self.has(Bug::ChangeMadeTwice) {
            self.run.set(KEY, read().set.remove(0).1).expect("it runs");
        }
        self.mark(Occurrence::Received, now);
    }
}

/// The changes that were sent.
#[derive(Default)]
pub struct Sent {
    /// The entries that are changes, and the run of each with what it sets.
    entries: BTreeMap<EntryNumber, (RunId, u64)>,
}

impl Sent {
    /// The journal has handed out entries of inboxes.
    pub fn note(&mut self, reply: &Reply) {
        match reply {
            Reply::Polled(polled) => self.note_entries(&polled.entries),
            Reply::Loaded(loaded) => {
                let loaded = loaded.iter().filter_map(|(_, loaded)| loaded.as_deref().ok());
                loaded.for_each(|loaded: &Loaded| self.note_entries(&loaded.inbox));
            }
            _ => {}
        }
    }

    fn note_entries(&mut self, entries: &[Entry]) {
        for entry in entries.iter().filter(|entry| entry.kind == kind::STATE) {
            let changes = history::changes(Trusted::Signed(signer()), entry.run, entry);
            let changes = changes.expect("it is what was written");
            self.entries.insert(entry.number, (entry.run, number_of(&changes.set[0].1)));
        }
    }

    /// A commit makes the changes that it consumes, and no others, each once and in their order.
    pub fn check(&self, run: RunId, commit: &Commit, made: &Made) {
        let mut consumed: Vec<_> = commit.consumed.iter().filter_map(|number| self.entries.get(number)).collect();
        consumed.sort_unstable();
        let expected = made.set.iter().map(|number| (run, *number));
        assert!(
            consumed.iter().map(|one| **one).eq(expected),
            "run {run} makes the changes that it consumes: {made:?}"
        );
        assert_eq!(made.told, made.set.len(), "the history of run {run} says that it was changed from outside");
    }
}

/// What the records of a commit say of changes.
#[derive(Debug, Default)]
pub struct Made {
    set: Vec<u64>,
    told: usize,
}

impl Made {
    /// The next record.
    pub fn see(&mut self, record: &EncodedRecord) {
        match record {
            Record::Set { key, value } if **key == *KEY => self.set.push(number_of(value)),
            Record::Changed { .. } => self.told += 1,
            _ => {}
        }
    }
}
