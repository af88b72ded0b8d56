//! Benches of the journal in a file, beside plain SQLite that writes as much with the same promises:
//! `cargo bench --features sqlite --bench journal`. They wait for the disk of the temporary directory.

use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rusqlite::Connection;
use tempfile::TempDir;
use treadle::RunId;
use treadle::journal::sqlite::{self, Options};
use treadle::journal::{
    Batch, Claim, Commit, Filter, Journal, Message, NewRun, OwnerId, Phase, Reply, Request, Status, Ticket,
};

const OWNER: OwnerId = OwnerId([1; 16]);
const RECORD: usize = 120;
const AT_ONCE: u64 = 1000;

struct Desk {
    journal: Box<dyn Journal>,
    told: Mutex<Receiver<Batch>>,
    _directory: TempDir,
}

impl Desk {
    fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (tell, told) = channel();
        let on_batch = Box::new(move |batch| drop(tell.send(batch)));
        let journal = sqlite::open(&directory.path().join("runs.db"), &Options::default(), on_batch).unwrap();
        let desk = Self { journal, told: Mutex::new(told), _directory: directory };
        desk.ask(Request::Enlist { owner: OWNER, lease: Duration::MAX });
        desk
    }

    fn ask_all(&self, requests: Vec<(Ticket, Request)>) -> Vec<Reply> {
        let count = requests.len();
        self.journal.submit(requests).unwrap();
        let told = self.told.lock().unwrap();
        let mut replies = Vec::with_capacity(count);
        while replies.len() < count {
            let batch = told.recv_timeout(Duration::from_secs(60)).unwrap();
            replies.extend(batch.answers.into_iter().map(|(_, answer)| answer.unwrap()));
        }
        replies
    }

    fn ask(&self, request: Request) -> Reply {
        self.ask_all(vec![(0, request)]).pop().unwrap()
    }

    fn create(&self, numbers: std::ops::Range<u64>, owner: Option<OwnerId>, status: Status) {
        let create = |number| Request::Create { run: run(number), owner, commit: Commit { status, ..record() } };
        for start in numbers.clone().step_by(10_000) {
            let end = numbers.end.min(start + 10_000);
            self.ask_all((start..end).map(|number| (number, create(number))).collect());
        }
    }
}

fn id(number: u64) -> RunId {
    RunId::new(number, [7; 10])
}

fn run(number: u64) -> NewRun {
    let (id, workflow) = (id(number), "crawl".to_owned());
    NewRun {
        id,
        workflow,
        key: None,
        input: [1; 32],
        created: number * 1000,
        stream_limit: 65_536,
        parent: None,
        root: None,
        depth: 0,
    }
}

fn record() -> Commit {
    Commit { records: vec![vec![7; RECORD]], ..Commit::default() }
}

const WAITING: Status = Status { phase: Phase::Waiting, due: None };

fn plain(directory: &Path) -> Connection {
    let connection = Connection::open(directory.join("plain.db")).unwrap();
    let set = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (n INTEGER PRIMARY KEY, body BLOB)";
    connection.execute_batch(set).unwrap();
    connection
}

fn plain_commit(connection: &Connection, rows: u64) {
    connection.prepare_cached("BEGIN IMMEDIATE").unwrap().execute([]).unwrap();
    let mut insert = connection.prepare_cached("INSERT INTO t (body) VALUES (?1)").unwrap();
    for _ in 0..rows {
        insert.execute([[7; RECORD].as_slice()]).unwrap();
    }
    connection.prepare_cached("COMMIT").unwrap().execute([]).unwrap();
}

fn appends(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    let append = |number, after| Request::Append { run: id(number), epoch: 1, after, commit: record() };

    let directory = tempfile::tempdir().unwrap();
    let connection = plain(directory.path());
    group.throughput(Throughput::Elements(1));
    group.bench_function("one/plain SQLite", |b| b.iter(|| plain_commit(&connection, 1)));
    let desk = Desk::open();
    desk.create(0..1, Some(OWNER), Status::default());
    let mut after = 0;
    group.bench_function("one/journal", |b| {
        b.iter(|| {
            after += 1;
            desk.ask(append(0, after))
        })
    });

    group.throughput(Throughput::Elements(AT_ONCE));
    group.bench_function("1000 at once/plain SQLite", |b| b.iter(|| plain_commit(&connection, AT_ONCE)));
    let desk = Desk::open();
    desk.create(0..AT_ONCE, Some(OWNER), Status::default());
    let mut after = 0;
    group.bench_function("1000 at once/journal", |b| {
        b.iter(|| {
            after += 1;
            desk.ask_all((0..AT_ONCE).map(|number| (number, append(number, after))).collect())
        })
    });
    group.finish();
}

/// Three-step runs, 1,000 at a time: made, appended to twice, ended.
fn lives(c: &mut Criterion) {
    let mut group = c.benchmark_group("lives");
    group.sample_size(10).measurement_time(Duration::from_secs(5)).throughput(Throughput::Elements(AT_ONCE));
    let desk = Desk::open();
    let mut first = 0;
    group.bench_function("1000 at once", |b| {
        b.iter(|| {
            desk.create(first..first + AT_ONCE, Some(OWNER), Status::default());
            for after in 1..4 {
                let phase = if after == 3 { Phase::Completed } else { Phase::Ready };
                let outcome = (after == 3).then(|| vec![1; 20]);
                let commit = Commit { status: Status { phase, due: None }, outcome, ..record() };
                let append =
                    |number| (number, Request::Append { run: id(number), epoch: 1, after, commit: commit.clone() });
                desk.ask_all((first..first + AT_ONCE).map(append).collect());
            }
            first += AT_ONCE;
        })
    });
    group.finish();
}

fn loads(c: &mut Criterion) {
    let desk = Desk::open();
    desk.create(0..2, Some(OWNER), Status::default());
    for after in 1..5000 {
        let checkpoint = (after == 4980).then(|| vec![9; 10_000]);
        let commit = Commit { checkpoint, ..record() };
        desk.journal.submit(vec![(after, Request::Append { run: id(0), epoch: 1, after, commit })]).unwrap();
    }
    for after in 1..20 {
        desk.journal.submit(vec![(after, Request::Append { run: id(1), epoch: 1, after, commit: record() })]).unwrap();
    }
    let mut left = 4999 + 19;
    while left > 0 {
        left -= desk.told.lock().unwrap().recv_timeout(Duration::from_secs(60)).unwrap().answers.len();
    }
    let mut group = c.benchmark_group("load");
    group.bench_function("20 records", |b| b.iter(|| desk.ask(Request::Load { runs: vec![id(1)] })));
    group.bench_function("10 kB and 20 records after 5000", |b| {
        b.iter(|| desk.ask(Request::Load { runs: vec![id(0)] }))
    });
    group.finish();
}

fn claims(c: &mut Criterion) {
    let desk = Desk::open();
    desk.create(0..100_000, None, WAITING);
    let workflows = vec!["crawl".to_owned()];
    let claim = || {
        let workflows = workflows.clone();
        Request::Claim(Claim { owner: OWNER, workflows, now: 1, limit: 100, ..Claim::default() })
    };
    let mut group = c.benchmark_group("100,000 waiting runs");
    group.sample_size(20);
    group.bench_function("claim nothing", |b| b.iter(|| desk.ask(claim())));
    let mut name = 0_u128;
    group.bench_function("wake one, claim it", |b| {
        b.iter(|| {
            name += 1;
            let message = Message { id: name.to_le_bytes(), kind: 0, body: vec![] };
            let run = id(name as u64 % 100_000);
            desk.ask_all(vec![(0, Request::Send { run, message, now: 0 }), (1, claim())])
        })
    });
    group.bench_function("next due", |b| {
        b.iter(|| desk.ask(Request::NextDue { owner: OWNER, workflows: workflows.clone() }))
    });
    let newest = Filter { limit: 50, ..Filter::default() };
    group.bench_function("list 50", |b| b.iter(|| desk.ask(Request::List { filter: newest.clone() })));
    group.finish();
}

criterion_group!(benches, appends, lives, loads, claims);
criterion_main!(benches);
