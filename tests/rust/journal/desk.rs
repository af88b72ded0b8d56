//! Asks a journal and waits for its answers, never for ever.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use treadle::RunId;
use treadle::journal::lease::{BootId, Clock, Moment};
use treadle::journal::memory::{self, MemoryStore};
use treadle::journal::{
    Batch, Claim, Claimed, Commit, Cursor, Filter, Journal, JournalError, Loaded, Message, NewRun, News, OnBatch, OpId,
    Outcome, OwnerId, Phase, Polled, Reply, Request, RunRow, Segment, Status, StreamRead,
};

/// What no answer takes longer than.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const A: OwnerId = OwnerId([0xaa; 16]);
pub const B: OwnerId = OwnerId([0xbb; 16]);

/// How long a lease of the tests lasts, in microseconds.
pub const LEASE: u64 = 1000;

/// A clock of leases that stands still until it is set.
#[derive(Clone, Default)]
pub struct StillClock(Arc<Mutex<(BootId, u64)>>);

impl StillClock {
    pub fn set(&self, micros: u64) {
        self.0.lock().unwrap().1 = micros;
    }

    pub fn boot(&self, boot: BootId, micros: u64) {
        *self.0.lock().unwrap() = (boot, micros);
    }

    pub fn clock(&self) -> Clock {
        let shared = Arc::clone(&self.0);
        Clock::new(move || {
            let (boot, micros) = *shared.lock().unwrap();
            Moment { boot, micros }
        })
    }
}

/// Where journals are.
pub trait Store: Sync {
    fn open_with(&self, on_batch: OnBatch) -> Box<dyn Journal>;

    /// The clock of their leases.
    fn clock(&self) -> &StillClock {
        panic!("who only looks has no lease");
    }

    fn open(&self) -> Desk {
        let (tell, told) = channel();
        let journal = self.open_with(Box::new(move |batch| drop(tell.send(batch))));
        Desk { journal, told: Mutex::new(told), batches: Mutex::default() }
    }

    /// A desk at which the process has a lease from now on.
    fn open_as(&self, owner: OwnerId) -> Desk {
        let desk = self.open();
        desk.done(enlist(owner, LEASE));
        desk
    }
}

pub struct Memory(MemoryStore, StillClock);

impl Default for Memory {
    fn default() -> Self {
        let clock = StillClock::default();
        Self(MemoryStore::with_clock(clock.clock()), clock)
    }
}

impl Store for Memory {
    fn open_with(&self, on_batch: OnBatch) -> Box<dyn Journal> {
        memory::open(&self.0, on_batch).unwrap()
    }

    fn clock(&self) -> &StillClock {
        &self.1
    }
}

#[cfg(feature = "sqlite")]
pub struct File {
    directory: tempfile::TempDir,
    clock: StillClock,
    pub options: treadle::journal::sqlite::Options,
}

#[cfg(feature = "sqlite")]
impl File {
    pub fn new() -> Self {
        let clock = StillClock::default();
        let options = treadle::journal::sqlite::Options { clock: clock.clock(), ..Default::default() };
        Self { directory: tempfile::tempdir().unwrap(), clock, options }
    }

    pub fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("runs.db")
    }
}

#[cfg(feature = "sqlite")]
impl Store for File {
    fn open_with(&self, on_batch: OnBatch) -> Box<dyn Journal> {
        treadle::journal::sqlite::open(&self.path(), &self.options, on_batch).unwrap()
    }

    fn clock(&self) -> &StillClock {
        &self.clock
    }
}

/// The one run that was asked for.
pub fn one_loaded(answer: Outcome) -> Result<Loaded, JournalError> {
    match answer {
        Ok(Reply::Loaded(mut loaded)) if loaded.len() == 1 => loaded.remove(0).1.map(|loaded| *loaded),
        other => panic!("{other:?}"),
    }
}

/// Whether the error says that the place of a journal cannot be used, in these words.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub fn is_unusable(error: &JournalError, words: &str) -> bool {
    matches!(error, JournalError::Unusable { .. }) && error.to_string().contains(words)
}

pub struct Desk {
    pub journal: Box<dyn Journal>,
    told: Mutex<Receiver<Batch>>,
    /// How many answers each batch had, and whether it said that others have changed the journal.
    pub batches: Mutex<Vec<(usize, News)>>,
}

impl Desk {
    pub fn ask_all(&self, requests: Vec<Request>) -> Vec<Result<Reply, JournalError>> {
        let count = requests.len();
        self.journal.submit((0..).zip(requests).collect()).unwrap();
        let mut answers = HashMap::new();
        while answers.len() < count {
            let batch = self.next(PATIENCE).expect("an answer");
            let returned = batch.returned.into_iter().map(|(ticket, _, error)| (ticket, Err(error)));
            for (ticket, answer) in batch.answers.into_iter().chain(returned) {
                assert!(answers.insert(ticket, answer).is_none(), "a ticket was answered twice");
            }
        }
        (0..count as u64).map(|ticket| answers.remove(&ticket).expect("an answer to each ticket")).collect()
    }

    /// The next batch, if there is one in time.
    pub fn next(&self, patience: Duration) -> Option<Batch> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match told.recv_timeout(patience) {
            Ok(batch) => {
                self.batches.lock().unwrap().push((batch.answers.len(), batch.news));
                Some(batch)
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the journal is closed"),
        }
    }

    /// Whether the journal says in time that others have changed it.
    pub fn is_told_of_a_change(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        while let Some(batch) = self.next(end.saturating_duration_since(Instant::now())) {
            if batch.news.is_any() {
                return true;
            }
        }
        false
    }

    pub fn ask(&self, request: Request) -> Result<Reply, JournalError> {
        self.ask_all(vec![request]).pop().unwrap()
    }

    pub fn done(&self, request: Request) {
        assert_eq!(self.ask(request), Ok(Reply::Done));
    }

    pub fn create(&self, run: NewRun, owner: Option<OwnerId>, commit: Commit) -> u64 {
        match self.ask(Request::Create { run, owner, commit }) {
            Ok(Reply::Created { epoch }) => epoch,
            other => panic!("{other:?}"),
        }
    }

    /// Makes runs of one record each.
    pub fn create_each(&self, numbers: std::ops::RangeInclusive<u64>, owner: Option<OwnerId>) {
        for number in numbers {
            self.create(run(number), owner, commit(&["a"]));
        }
    }

    /// An append of which not everything need be delivered.
    pub fn append_any(&self, run: RunId, epoch: u64, after: u64, commit: Commit) {
        assert!(matches!(self.try_append(run, epoch, after, commit), Ok(Reply::Appended { .. })));
    }

    pub fn append(&self, run: RunId, epoch: u64, after: u64, commit: Commit) -> u64 {
        match self.try_append(run, epoch, after, commit) {
            Ok(Reply::Appended { seq, undelivered }) if undelivered.is_empty() => seq,
            other => panic!("{other:?}"),
        }
    }

    pub fn try_append(&self, run: RunId, epoch: u64, after: u64, commit: Commit) -> Result<Reply, JournalError> {
        self.ask(Request::Append { run, epoch, after, commit })
    }

    pub fn try_load(&self, run: RunId) -> Result<Loaded, JournalError> {
        one_loaded(self.ask(Request::Load { runs: vec![run] }))
    }

    pub fn load(&self, run: RunId) -> Loaded {
        self.try_load(run).unwrap()
    }

    pub fn get(&self, run: RunId) -> (RunRow, Option<Vec<u8>>) {
        match self.ask(Request::Get { run }) {
            Ok(Reply::Run { run, outcome }) => (*run, outcome),
            other => panic!("{other:?}"),
        }
    }

    pub fn claim(&self, owner: OwnerId, now: u64) -> Vec<RunRow> {
        self.claim_up_to(owner, now, 1000).runs
    }

    pub fn claim_up_to(&self, owner: OwnerId, now: u64, limit: usize) -> Claimed {
        match self.ask(Request::Claim(claim_of(owner, now, limit))) {
            Ok(Reply::Claimed(claimed)) => claimed,
            other => panic!("{other:?}"),
        }
    }

    pub fn send(&self, run: RunId, id: u8, body: &str) -> bool {
        match self.ask(send(run, id, body)) {
            Ok(Reply::Sent { new }) => new,
            other => panic!("{other:?}"),
        }
    }

    pub fn poll(&self, owner: OwnerId, after: &Cursor) -> Polled {
        match self.ask(Request::Poll { owner, after: after.clone(), limit: 100 }) {
            Ok(Reply::Polled(polled)) => polled,
            other => panic!("{other:?}"),
        }
    }

    pub fn list(&self, filter: Filter) -> Vec<RunId> {
        match self.ask(Request::List { filter }) {
            Ok(Reply::Listed(rows)) => rows.into_iter().map(|row| row.id).collect(),
            other => panic!("{other:?}"),
        }
    }

    pub fn stream(&self, run: RunId, after: u64, limit: usize) -> StreamRead {
        match self.ask(Request::ReadStream { run, after, limit }) {
            Ok(Reply::Stream(read)) => read,
            other => panic!("{other:?}"),
        }
    }

    pub fn segment(&self, run: RunId, at: u64) -> Segment {
        match self.ask(Request::Segment { run, at }) {
            Ok(Reply::Segment(segment)) => *segment,
            other => panic!("{other:?}"),
        }
    }

    pub fn records(&self, run: RunId, after: u64, limit: usize) -> (Vec<(u64, Vec<u8>)>, u64) {
        match self.ask(Request::Records { run, after, limit }) {
            Ok(Reply::Records { records, folded }) => (records, folded),
            other => panic!("{other:?}"),
        }
    }
}

/// A name that sorts by its number; the run was made that many milliseconds after the epoch.
pub fn id(number: u64) -> RunId {
    RunId::new(number, [7; 10])
}

pub fn run(number: u64) -> NewRun {
    let created = number * 1000;
    NewRun {
        id: id(number),
        workflow: "w".into(),
        key: None,
        input: [1; 32],
        created,
        stream_limit: 4,
        parent: None,
        root: None,
        depth: 0,
    }
}

pub fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// A commit of these records, after which the run is ready.
pub fn commit(records: &[&str]) -> Commit {
    Commit { at: 5, records: texts(records), ..Commit::default() }
}

/// A commit of one record, after which the run waits.
pub fn waiting(due: Option<u64>) -> Commit {
    Commit { status: Status { phase: Phase::Waiting, due }, ..commit(&["waits"]) }
}

/// A commit of one record that ends the run.
pub fn ending(phase: Phase, outcome: &str) -> Commit {
    Commit { status: Status { phase, due: None }, outcome: Some(outcome.into()), ..commit(&["ends"]) }
}

/// Hands the run back with this commit.
pub fn released(commit: Commit) -> Commit {
    Commit { release: true, ..commit }
}

/// A claim without a name.
pub fn claim_of(owner: OwnerId, now: u64, limit: usize) -> Claim {
    Claim { owner, workflows: vec!["w".into()], now, limit, ..Claim::default() }
}

/// A commit of this name.
pub fn named(name: u8, commit: Commit) -> Commit {
    Commit { op: OpId([name; 16]), ..commit }
}

pub fn enlist(owner: OwnerId, micros: u64) -> Request {
    Request::Enlist { owner, lease: Duration::from_micros(micros) }
}

pub fn renew(owner: OwnerId, micros: u64) -> Request {
    Request::Renew { owner, lease: Duration::from_micros(micros) }
}

pub fn next_due(owner: OwnerId, workflows: &[&str]) -> Request {
    Request::NextDue { owner, workflows: workflows.iter().map(|&name| name.to_owned()).collect() }
}

pub fn send(run: RunId, id: u8, body: &str) -> Request {
    Request::Send { run, message: Message { id: [id; 16], kind: 1, body: body.into() }, now: 6 }
}
