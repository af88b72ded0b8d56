//! Connections that break: nothing that was acknowledged is lost, and nothing is written twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use treadle::RunId;
use treadle::journal::postgres::{self, Broken, Options, Place};
use treadle::journal::{Commit, JournalError, OpId, OpIds, OwnerId, Phase, Reply, Request};

use super::Schema;
use super::proxy::{Fault, Proxy};
use crate::journal::desk::*;

const RUNS: u64 = 4;
const ROUNDS: u64 = 25;

/// A journal that is reached through a proxy.
struct Away<'a> {
    schema: &'a Schema,
    place: Place,
}

impl Store for Away<'_> {
    fn open_with(&self, on_batch: treadle::journal::OnBatch) -> Box<dyn treadle::journal::Journal> {
        postgres::open(&self.place, &self.schema.options, on_batch).unwrap()
    }

    fn clock(&self) -> &StillClock {
        self.schema.clock()
    }
}

fn away<'a>(schema: &'a Schema, seed: u64) -> (Proxy, Away<'a>) {
    let server = schema.host_and_port();
    let proxy = Proxy::to(&server, seed);
    let url = schema.url().replace(&server, &format!("127.0.0.1:{}", proxy.port()));
    let place = Place::parse(&format!("{url}&patience=0.4")).unwrap();
    (proxy, Away { schema, place })
}

/// Has processes write through a proxy that breaks connections; gives how many requests were refused.
fn refused(schema: &Schema, seed: u64, has_names: bool) -> (usize, usize) {
    let (proxy, store) = away(schema, seed);
    let refused = Arc::new(AtomicUsize::new(0));
    let desks: Vec<_> = (1..=3_u8).map(|number| (number, store.open_as(OwnerId([number; 16])))).collect();
    proxy.set_rate(200);
    thread::scope(|scope| {
        for (number, desk) in &desks {
            scope.spawn(|| refused.fetch_add(write(desk, *number, has_names), Ordering::Relaxed));
        }
    });
    proxy.set_rate(0);
    let faults = proxy.faults();
    assert!([Fault::CutBefore, Fault::CutAfter, Fault::Swallow].iter().all(|fault| faults.contains(fault)));
    (refused.load(Ordering::Relaxed), faults.len())
}

fn run_of(number: u8, run: u64) -> RunId {
    id(1000 * u64::from(number) + run)
}

fn write(desk: &Desk, number: u8, has_names: bool) -> usize {
    let mut ops = OpIds::new([number; 8]);
    let mut draw = || if has_names { ops.draw() } else { OpId::NONE };
    let owner = Some(OwnerId([number; 16]));
    let mut refused = 0;
    for round in 0..=ROUNDS {
        // Several commits of a run in one batch as well.
        let requests: Vec<_> = (0..RUNS)
            .flat_map(|run| {
                let text = [format!("{round}a"), format!("{round}b")];
                let at = 2 * round;
                let [first, second] = text.map(|text| Commit { op: draw(), ..commit(&[&text]) });
                let id = run_of(number, run);
                let first = match round {
                    0 => Request::Create { run: run_made(id), owner, commit: first },
                    _ => Request::Append { run: id, epoch: 1, after: at, commit: first },
                };
                [first, Request::Append { run: id, epoch: 1, after: at + 1, commit: second }]
            })
            .collect();
        let send = Request::Send {
            run: run_of(number, 0),
            message: treadle::journal::Message { id: [round as u8; 16], kind: 1, body: vec![] },
            now: 5,
        };
        let answers = desk.ask_all(requests.into_iter().chain([send]).collect());
        refused += answers
            .iter()
            .filter(|answer| !matches!(answer, Ok(Reply::Created { .. } | Reply::Appended { .. } | Reply::Sent { .. })))
            .count();
    }
    refused
}

fn run_made(id: RunId) -> treadle::journal::NewRun {
    treadle::journal::NewRun { id, ..run(1) }
}

#[test]
fn what_is_acknowledged_over_connections_that_break_is_written_once() {
    let schema = Schema::new();
    let (refused, faults) = refused(&schema, 7, true);
    assert_eq!(refused, 0, "after {faults} faults");
    let desk = schema.open();
    let expected: Vec<_> = (0..=ROUNDS).flat_map(|round| [format!("{round}a"), format!("{round}b")]).collect();
    for number in 1..=3 {
        for run in 0..RUNS {
            let loaded = desk.load(run_of(number, run));
            let texts: Vec<_> =
                loaded.records.iter().map(|record| String::from_utf8_lossy(record).into_owned()).collect();
            assert_eq!(texts, expected, "after {faults} faults");
        }
        let inbox = desk.load(run_of(number, 0)).inbox;
        assert_eq!(inbox.iter().map(|entry| entry.id[0]).collect::<Vec<_>>(), (0..=ROUNDS as u8).collect::<Vec<_>>());
    }
}

#[test]
fn without_names_of_operations_a_lost_answer_is_taken_for_a_conflict() {
    // Shows that the test above can fail.
    let found = (0..5).any(|seed| refused(&Schema::new(), 100 + seed, false).0 > 0);
    assert!(found);
}

#[test]
fn a_process_that_lost_its_runs_writes_them_if_nothing_is_fenced() {
    // Shows that the suite of all backends can fail.
    let mut schema = Schema::new();
    let desk = schema.open_as(A);
    schema.options = Options { broken: Broken::Fence, ..schema.options.clone() };
    let zombie = schema.open_as(B);
    zombie.create(run(1), Some(B), commit(&["a"]));
    desk.done(renew(A, 5000));
    schema.clock().set(LEASE + 1);
    assert_eq!(desk.claim(A, 10).len(), 1);
    desk.append(id(1), 2, 1, waiting(None));
    let end = Commit { records: vec![], ..ending(Phase::Completed, "x") };
    assert_eq!(zombie.try_append(id(1), 1, 1, end), Ok(Reply::appended(1)));
    assert!(desk.get(id(1)).0.is_over(), "it has ended the run of another");
}

#[test]
fn a_journal_whose_server_is_away_takes_requests_and_answers_them_when_it_is_back() {
    let schema = Schema::new();
    let (proxy, store) = away(&schema, 1);
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    proxy.set_rate(1000);
    proxy.cut();
    let append = Request::Append { run: id(1), epoch: 1, after: 1, commit: commit(&["b"]) };
    desk.journal.submit(vec![(1, append)]).unwrap();
    assert!(desk.next(std::time::Duration::from_millis(300)).is_none_or(|batch| batch.answers.is_empty()));
    proxy.set_rate(0);
    loop {
        if let Some((1, answer)) = desk.next(PATIENCE).expect("an answer").answers.pop() {
            assert_eq!(answer, Ok(Reply::appended(2)));
            break;
        }
    }
}

#[test]
fn a_journal_that_is_closed_while_its_server_is_away_gives_requests_back() {
    let schema = Schema::new();
    let (proxy, store) = away(&schema, 1);
    let desk = store.open_as(A);
    proxy.set_rate(1000);
    proxy.cut();
    desk.journal.submit(vec![(1, Request::Get { run: id(1) })]).unwrap();
    desk.journal.close();
    loop {
        if let Some((1, _, error)) = desk.next(PATIENCE).expect("a batch").returned.pop() {
            assert!(matches!(error, JournalError::Unavailable { .. }), "{error:?}");
            break;
        }
    }
}

#[test]
fn who_was_cut_off_renews_first_and_declares_nobody_lost_for_a_lease() {
    const LONG: u64 = 600_000_000;
    let mut schema = Schema::new();
    // The server's clock.
    schema.options.clock = None;
    let (proxy, store) = away(&schema, 1);
    let (cut_off, other, dead) = (store.open(), schema.open(), schema.open());
    cut_off.done(enlist(A, LONG));
    other.done(enlist(B, LONG));
    dead.done(enlist(OwnerId([3; 16]), 1000));
    dead.create(run(1), Some(OwnerId([3; 16])), commit(&["a"]));
    proxy.cut();
    thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(cut_off.claim(A, 10), vec![], "its lease is over, and perhaps since the server was away for all");
    assert_eq!(other.claim(B, 10).len(), 1, "who was not cut off takes it over");
}
