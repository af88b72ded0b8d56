//! What an engine asks of its journal and of its host, and when.

mod children;
mod claims;
mod closing;
mod followers;
mod keyed;
mod lease;
mod places;

use std::collections::BTreeMap;
use std::time::Duration;

use treadle::engine::{Ask, Effect, Engine, Now, Options, Resumed};
use treadle::journal::memory::MemoryStore;
use treadle::journal::{
    Claimed, Commit, Cursor, Entry, JournalError, Loaded, NewRun, News, Next, OwnerId, Polled, Reply, Request, RunRow,
};
use treadle::{RunId, Time};

const OWNER: OwnerId = OwnerId([1; 16]);
const LEASE: Time = 9_000_000;
const LEASE_TIME: Duration = Duration::from_micros(LEASE);

struct Host {
    engine: Engine,
    now: Now,
    asked: Vec<(Ask, Request)>,
    effects: Vec<Effect>,
}

impl Host {
    fn new(concurrency: Option<usize>, keep: Option<Time>) -> Self {
        Self::of(Options {
            owner: OWNER,
            lease: LEASE_TIME,
            workflows: vec!["orders".into()],
            concurrency,
            max_runs: BTreeMap::new(),
            max_recoveries: Some(3),
            keep,
        })
    }

    fn of(options: Options) -> Self {
        let now = Now { steady: 50, wall: 1_000_000_000 };
        Self { engine: Engine::new(options), now, asked: vec![], effects: vec![] }
    }

    /// An engine that is open and has nothing to do.
    fn idle(concurrency: Option<usize>) -> Self {
        Self::new(concurrency, None).opened()
    }

    fn opened(mut self) -> Self {
        let host = &mut self;
        host.call(Engine::open);
        host.answer(Ok(Reply::Done));
        host.answer(Ok(Reply::Polled(Polled::default())));
        host.claimed(&[], false);
        host.answer(Ok(Reply::Next(Next::default())));
        assert!(host.asked.is_empty());
        host.effects.clear();
        self
    }

    fn call(&mut self, call: impl FnOnce(&mut Engine, Now)) {
        call(&mut self.engine, self.now);
        self.take();
    }

    fn take(&mut self) {
        for effect in self.engine.take_effects() {
            match effect {
                Effect::Ask { ask, request } => self.asked.push((ask, *request)),
                effect => self.effects.push(effect),
            }
        }
    }

    /// Answers the oldest request.
    fn answer(&mut self, outcome: Result<Reply, JournalError>) -> Request {
        let (ask, request) = self.asked.remove(0);
        self.call(|engine, now| engine.answer(ask, outcome, now));
        request
    }

    fn claimed(&mut self, runs: &[u8], more: bool) -> Request {
        let runs = runs.iter().map(|&number| row(number)).collect();
        self.answer(Ok(Reply::Claimed(Claimed { runs, stranded: vec![], more })))
    }

    fn loaded(&mut self, numbers: &[u8]) {
        let all = numbers.iter().map(|&number| (id(number), Ok(Box::new(loaded(number))))).collect();
        let request = self.answer(Ok(Reply::Loaded(all)));
        assert_eq!(request, Request::Load { runs: numbers.iter().map(|&number| id(number)).collect() });
    }

    /// Claims a run, and goes on with it.
    fn execute(&mut self, number: u8) {
        self.call(|engine, now| engine.heard(News::ALL, now));
        self.answer(Ok(Reply::Polled(Polled::default())));
        self.claimed(&[number], false);
        self.loaded(&[number]);
        assert!(matches!(self.effects.remove(0), Effect::Resume(_)));
        self.call(|engine, now| engine.resumed(id(number), Resumed::Started, now));
        self.answer(Ok(Reply::Next(Next::default())));
        assert!(self.asked.is_empty() && self.effects.is_empty());
    }

    fn pass(&mut self, time: Time) {
        self.now.steady += time;
        self.now.wall += time;
        self.call(Engine::tick);
    }
}

fn id(number: u8) -> RunId {
    RunId::new(u64::from(number), [number; 10])
}

fn row(number: u8) -> RunRow {
    loaded(number).run
}

/// A run of this process, as a journal has it.
fn loaded(number: u8) -> Loaded {
    let store = MemoryStore::default();
    let run = NewRun {
        id: id(number),
        workflow: "orders".into(),
        key: None,
        input: [0; 32],
        created: 0,
        stream_limit: 1,
        parent: None,
        root: None,
        depth: 0,
    };
    store.carry_out(Request::Enlist { owner: OWNER, lease: LEASE_TIME }).expect("a lease");
    store.carry_out(Request::Create { run, owner: Some(OWNER), commit: Commit::default() }).expect("a run");
    match store.carry_out(Request::Load { runs: vec![id(number)] }) {
        Ok(Reply::Loaded(mut loaded)) => *loaded.remove(0).1.expect("a run"),
        other => panic!("{other:?}"),
    }
}

fn entry(number: u64, run: u8) -> Entry {
    Entry { number, run: id(run), id: [0; 16], kind: 0, at: 0, body: vec![] }
}

fn polled(entries: Vec<Entry>) -> Reply {
    Reply::Polled(Polled { cursor: Cursor::from_bytes(vec![1]), entries, more: false })
}
