//! A run of the fleet: a short program, its records, and the process that executes it step by step.

use std::collections::VecDeque;

use treadle::journal::{Commit, Entry, EntryNumber, Loaded, Phase, Status};
use treadle::{RunId, Time};

use crate::simulation::random::{Random, mix};

/// One step of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Work,
    Sleep(Time),
    Receive,
    Checkpoint,
}

/// What is written of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    Did(u64),
    Slept(u64),
    Received(u64),
}

/// The fold of a run's records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub next: u64,
    pub until: Option<Time>,
    pub received: Vec<u64>,
}

/// The program of a run: the same wherever it is executed.
pub fn program(run: RunId) -> Vec<Op> {
    let bytes = run.as_bytes();
    let mut random = Random::new(&[mix(&bytes.map(u64::from))]);
    let op = |random: &mut Random| match random.below(6) {
        0 => Op::Sleep(random.between(0, 30_000_000)),
        1 => Op::Receive,
        2 => Op::Checkpoint,
        _ => Op::Work,
    };
    (0..random.between(1, 7)).map(|_| op(&mut random)).collect()
}

impl Record {
    fn encode(self) -> Vec<u8> {
        let (tag, number) = match self {
            Self::Did(number) => (0, number),
            Self::Slept(number) => (1, number),
            Self::Received(number) => (2, number),
        };
        [&[tag][..], &number.to_be_bytes()].concat()
    }

    pub fn decode(bytes: &[u8]) -> Self {
        let number = u64::from_be_bytes(bytes[1..].try_into().expect("nine bytes"));
        match bytes[0] {
            0 => Self::Did(number),
            1 => Self::Slept(number),
            _ => Self::Received(number),
        }
    }
}

impl State {
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Did(number) => {
                assert_eq!(number, self.next, "the steps of a run are done in their order, each once");
                self.next += 1;
                self.until = None;
            }
            Record::Slept(until) => self.until = Some(until),
            Record::Received(message) => self.received.push(message),
        }
    }

    pub fn fold(records: impl IntoIterator<Item = Record>) -> Self {
        let mut state = Self::default();
        records.into_iter().for_each(|record| state.apply(record));
        state
    }

    pub fn encode(&self) -> Vec<u8> {
        let numbers = [self.next, u64::from(self.until.is_some()), self.until.unwrap_or(0)];
        numbers.iter().chain(&self.received).flat_map(|number| number.to_be_bytes()).collect()
    }

    fn decode(bytes: &[u8]) -> Self {
        let mut numbers = bytes.chunks(8).map(|eight| u64::from_be_bytes(eight.try_into().expect("eight bytes")));
        let mut next = || numbers.next().expect("three numbers");
        let (next, has_until, until) = (next(), next(), next());
        Self { next, until: (has_until == 1).then_some(until), received: numbers.collect() }
    }

    pub fn of(loaded: &Loaded) -> Self {
        let mut state = loaded.checkpoint.as_ref().map_or_else(Self::default, |(_, bytes)| Self::decode(bytes));
        loaded.records.iter().for_each(|bytes| state.apply(Record::decode(bytes)));
        state
    }
}

/// A run that is executed by a process.
#[derive(Debug)]
pub struct Script {
    pub epoch: u64,
    pub seq: u64,
    program: Vec<Op>,
    state: State,
    inbox: VecDeque<Entry>,
    last_entry: EntryNumber,
    waiting: Option<Status>,
    /// Commits that are not answered.
    pub unanswered: usize,
    pub is_over: bool,
    pub is_draining: bool,
    pub is_detached: bool,
}

/// A commit and the records that it holds.
pub struct Written {
    pub after: u64,
    pub commit: Commit,
}

impl Script {
    pub fn new(run: RunId) -> Self {
        Self {
            epoch: 1,
            seq: 0,
            program: program(run),
            state: State::default(),
            inbox: VecDeque::new(),
            last_entry: 0,
            waiting: None,
            unanswered: 0,
            is_over: false,
            is_draining: false,
            is_detached: false,
        }
    }

    pub fn load(loaded: &Loaded) -> Self {
        let mut script = Self::new(loaded.run.id);
        (script.epoch, script.seq, script.state) = (loaded.run.epoch, loaded.run.seq, State::of(loaded));
        script.waiting = Some(loaded.run.status);
        loaded.inbox.iter().for_each(|entry| script.take(entry.clone()));
        script
    }

    /// An entry that came before is known by its number.
    pub fn take(&mut self, entry: Entry) {
        if entry.number > self.last_entry {
            self.last_entry = entry.number;
            self.inbox.push_back(entry);
        }
    }

    fn op(&self) -> Option<Op> {
        self.program.get(usize::try_from(self.state.next).expect("short")).copied()
    }

    /// The next commit, if the run can go on; with `release`, a run that waits is left to the journal.
    pub fn step(&mut self, wall: Time, release: bool) -> Option<Written> {
        if self.is_over || self.is_draining || self.is_detached {
            return None;
        }
        let (next, ready) = (self.state.next, Status::default());
        let waiting = |due| Status { phase: Phase::Waiting, due };
        let did = vec![Record::Did(next)];
        match (self.op(), self.state.until) {
            (None, _) => {
                self.is_over = true;
                let status = Status { phase: Phase::Completed, due: None };
                let commit = Commit { outcome: Some(self.state.encode()), ..Commit::default() };
                Some(self.write(vec![], status, commit))
            }
            (Some(Op::Work), _) => Some(self.write(did, ready, Commit::default())),
            (Some(Op::Checkpoint), _) => {
                let mut state = self.state.clone();
                state.apply(did[0]);
                let commit = Commit { checkpoint: Some(state.encode()), ..Commit::default() };
                Some(self.write(did, ready, commit))
            }
            (Some(Op::Sleep(time)), None) => {
                let until = wall + time;
                let commit = Commit { release, ..Commit::default() };
                Some(self.write(vec![Record::Slept(until)], waiting(Some(until)), commit))
            }
            (Some(Op::Sleep(_)), Some(until)) if until <= wall => Some(self.write(did, ready, Commit::default())),
            (Some(Op::Sleep(_)), Some(until)) => self.rest(waiting(Some(until)), release),
            (Some(Op::Receive), _) => match self.inbox.pop_front() {
                Some(entry) => {
                    let commit = Commit { consumed: vec![entry.number], ..Commit::default() };
                    let message = u64::from_be_bytes(entry.body.try_into().expect("eight bytes"));
                    Some(self.write(vec![Record::Received(message), did[0]], ready, commit))
                }
                None => self.rest(waiting(None), release),
            },
        }
    }

    fn rest(&mut self, status: Status, release: bool) -> Option<Written> {
        if self.waiting == Some(status) {
            return None;
        }
        Some(self.write(vec![], status, Commit { release, ..Commit::default() }))
    }

    fn write(&mut self, records: Vec<Record>, status: Status, commit: Commit) -> Written {
        let after = self.seq;
        self.seq += records.len() as u64;
        self.waiting = Some(status);
        self.unanswered += 1;
        self.is_over |= commit.release;
        records.iter().for_each(|&record| self.state.apply(record));
        let records = records.into_iter().map(Record::encode).collect();
        Written { after, commit: Commit { records, status, ..commit } }
    }

    /// When it can go on by itself.
    pub fn due(&self) -> Option<Time> {
        self.state.until.filter(|_| !self.is_over)
    }
}
