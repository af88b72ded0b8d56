//! A journal in memory: it lives as long as its store. Several handles on one store behave like several
//! processes on one file.

mod state;

use std::sync::{Arc, Mutex, PoisonError};

use super::archive::Archive;
use super::error::JournalError;
use super::lease::Clock;
use super::request::Request;
use super::worker::{Away, Backend, Worker};
use super::{Journal, KeptSecret, Limits, News, OnBatch, Opened, Outcome, address};
use state::{Counts, State};

/// As many bytes as a file takes, so that a workflow which is tried in memory fits a file.
pub(super) const LIMITS: Limits = Limits { commit: 900_000_000 };

pub(super) const BACKEND: address::Backend = address::Backend {
    scheme: "memory:",
    form: "\"memory:\"",
    parameters: &[],
    is_file: false,
    read: None,
    has_password: None,
    open: |_, _, on_batch| {
        let journal = open(&MemoryStore::default(), on_batch)?;
        Ok(Opened { journal, secret: KeptSecret::Anything })
    },
};

/// What a journal in memory holds.
#[derive(Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

impl MemoryStore {
    /// A store whose leases are measured on this clock.
    pub fn with_clock(clock: Clock) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(clock))) }
    }

    /// A store with the run of an archive.
    pub(super) fn of_archive(archive: Archive) -> Self {
        let store = Self::default();
        store.state.lock().unwrap_or_else(PoisonError::into_inner).put_archive(archive);
        store
    }

    /// Carries out one request at once, in the thread of the caller.
    pub fn carry_out(&self, request: Request) -> Outcome {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).carry_out(request)
    }

    /// How many changes were made to it.
    pub fn changes(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).counts().changes
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::with_clock(Clock::of_this_process())
    }
}

/// Opens a journal on a store.
pub fn open(store: &MemoryStore, on_batch: OnBatch) -> Result<Box<dyn Journal>, JournalError> {
    let memory = Memory { store: store.clone(), own: Counts::default(), seen: Counts::default() };
    let worker = Worker::start(memory, on_batch);
    Ok(Box::new(worker.map_err(|error| JournalError::Unusable {
        place: "memory:".into(),
        why: format!("cannot be used: no thread could be started: {error}"),
        remedy: "raise the limit of threads".into(),
    })?))
}

struct Memory {
    store: MemoryStore,
    // What was done through this handle, and what by others when that was last asked.
    own: Counts,
    seen: Counts,
}

impl Backend for Memory {
    fn carry_out(&mut self, requests: Vec<Request>) -> Result<Vec<Outcome>, Away> {
        let mut state = self.store.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.counts();
        let answers = requests.into_iter().map(|request| state.carry_out(request)).collect();
        self.own = self.own + (state.counts() - before);
        Ok(answers)
    }

    fn limits() -> Limits {
        LIMITS
    }

    fn news(&mut self) -> News {
        let state = self.store.state.lock().unwrap_or_else(PoisonError::into_inner);
        let others = state.counts() - self.own;
        let seen = std::mem::replace(&mut self.seen, others);
        let has_changed = others.changes != seen.changes;
        News {
            inbox: others.entries != seen.entries,
            ends: others.ends != seen.ends,
            work: has_changed,
            other: has_changed,
        }
    }
}
