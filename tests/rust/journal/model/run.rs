//! A run in the model.

use std::collections::BTreeMap;

use treadle::journal::{Commit, DeadLetter, Entry, NewRun, OpId, OwnerId, Phase, Status};

/// A checkpoint, the records behind it, and the earliest checkpoint that is kept.
pub(super) type Part = (Option<(u64, Vec<u8>)>, Vec<Vec<u8>>, u64);

pub(super) struct Run {
    pub(super) new: NewRun,
    pub(super) owner: Option<OwnerId>,
    pub(super) epoch: u64,
    pub(super) status: Status,
    pub(super) finished: Option<u64>,
    pub(super) outcome: Option<Vec<u8>>,
    pub(super) log: Vec<Vec<u8>>,
    pub(super) checkpoint: Option<(u64, Vec<u8>)>,
    // The checkpoints that are kept, the last one included.
    pub(super) keyframes: BTreeMap<u64, Vec<u8>>,
    pub(super) published: Vec<(u64, Vec<u8>)>,
    pub(super) sent: Vec<(Entry, bool)>,
    pub(super) dead: Vec<DeadLetter>,
    // How often it lost its owner without progress, and whether it is taken over again only after a time that is
    // longer than any here.
    pub(super) losses: u32,
    pub(super) is_delayed: bool,
    pub(super) op: OpId,
    pub(super) made_by: OpId,
    pub(super) reopened_by: OpId,
}

impl Run {
    pub(super) fn new(new: &NewRun, owner: Option<OwnerId>, op: OpId) -> Self {
        Self {
            new: new.clone(),
            owner,
            epoch: u64::from(owner.is_some()),
            status: Status::default(),
            finished: None,
            outcome: None,
            log: vec![],
            checkpoint: None,
            keyframes: BTreeMap::new(),
            published: vec![],
            sent: vec![],
            dead: vec![],
            losses: 0,
            is_delayed: false,
            op,
            made_by: op,
            reopened_by: OpId::NONE,
        }
    }

    pub(super) fn seq(&self) -> u64 {
        self.log.len() as u64
    }

    pub(super) fn folded(&self) -> u64 {
        self.checkpoint.as_ref().map_or(0, |&(seq, _)| seq)
    }

    /// The checkpoint, the records and the earliest checkpoint of the part of the history that has a record.
    pub(super) fn segment(&self, at: u64) -> Part {
        let first = self.keyframes.keys().next().copied().unwrap_or(0);
        let start = self.keyframes.range(..=at).next_back().map_or(first, |(&seq, _)| seq);
        let end = self.keyframes.range(start + 1..).next().map_or(self.seq(), |(&seq, _)| seq);
        let end = if self.keyframes.is_empty() { self.seq() } else { end };
        let checkpoint = self.keyframes.get(&start).map(|state| (start, state.clone()));
        (checkpoint, self.log[start as usize..end as usize].to_vec(), first)
    }

    pub(super) fn inbox(&self) -> Vec<Entry> {
        self.sent.iter().filter(|(_, is_new)| *is_new).map(|(entry, _)| entry.clone()).collect()
    }

    pub(super) fn wake(&self) -> Option<u64> {
        match self.status.phase {
            _ if self.is_delayed => None,
            phase if !phase.goes_on() => None,
            Phase::Ready => Some(0),
            _ if !self.inbox().is_empty() => Some(0),
            _ => self.status.due,
        }
    }

    pub(super) fn last_published(&self) -> u64 {
        self.published.last().map_or(0, |&(number, _)| number)
    }

    pub(super) fn takes(&self, commit: &Commit) -> bool {
        let numbers: Vec<_> = commit.published.iter().map(|&(number, _)| number).collect();
        let inbox: Vec<_> = self.inbox().iter().map(|entry| entry.number).collect();
        let mut consumed = taken_out(commit);
        let count = consumed.len();
        consumed.sort_unstable();
        consumed.dedup();
        numbers.iter().all(|&number| number > self.last_published())
            && numbers.windows(2).all(|pair| pair[0] < pair[1])
            && consumed.len() == count
            && consumed.iter().all(|number| inbox.contains(number))
            && (commit.outcome.is_none() || commit.status.phase.is_over())
    }

    pub(super) fn write(&mut self, commit: &Commit) {
        self.op = commit.op;
        let is_over = commit.status.phase.is_over();
        self.log.extend(commit.records.iter().cloned());
        self.published.extend(commit.published.iter().cloned());
        self.checkpoint = commit.checkpoint.clone().map(|state| (self.seq(), state)).or(self.checkpoint.take());
        if let Some(state) = &commit.checkpoint {
            if !commit.keeps_history {
                self.keyframes.clear();
            }
            self.keyframes.insert(self.seq(), state.clone());
        }
        for (entry, is_new) in &mut self.sent {
            let why = commit.undeliverable.iter().find(|(number, _)| *number == entry.number);
            self.dead.extend(why.map(|(_, why)| DeadLetter { entry: entry.clone(), why: why.clone() }));
            *is_new &= !taken_out(commit).contains(&entry.number);
        }
        self.dead.sort_by_key(|letter| letter.entry.number);
        if commit.progress || is_over {
            self.forget_losses();
        }
        self.status = Status { due: commit.status.due.filter(|_| !is_over), ..commit.status };
        self.finished = is_over.then_some(commit.at);
        self.outcome = commit.outcome.clone();
        if is_over || commit.release {
            self.owner = None;
        }
    }
}

impl Run {
    pub(super) fn forget_losses(&mut self) {
        (self.losses, self.is_delayed) = (0, false);
    }

    pub(super) fn strand(&mut self) {
        self.status = Status { phase: Phase::Stranded, due: None };
        self.owner = None;
        self.is_delayed = false;
    }
}

fn taken_out(commit: &Commit) -> Vec<u64> {
    commit.consumed.iter().copied().chain(commit.undeliverable.iter().map(|&(number, _)| number)).collect()
}
