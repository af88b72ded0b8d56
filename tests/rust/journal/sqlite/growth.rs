//! What waits or is over costs nothing.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use treadle::journal::{Commit, Filter, Phase, Request};

use super::super::desk::*;

/// Fills a file with copies of a run; their ids grow.
fn fill(file: &File, copies: u64) {
    let connection = Connection::open(file.path()).unwrap();
    let columns = "workflow, key, input, created, stream_limit, updated, finished, phase, due, wake, owner, epoch, seq, \
         inbox, consumed, published, outcome";
    let sql = format!(
        "WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {copies}) \
         INSERT INTO runs (id, {columns}) SELECT CAST(printf('%016d', i) AS BLOB), {columns} FROM c, runs WHERE n = 1"
    );
    connection.execute_batch("PRAGMA synchronous = OFF").unwrap();
    assert_eq!(connection.execute(&sql, []).unwrap() as u64, copies);
}

fn what_is_there_costs_nothing(first: Commit, copies: u64) {
    let file = File::new();
    let desk = file.open();
    desk.create(run(1), None, first);
    desk.journal.close();
    fill(&file, copies);
    let started = Instant::now();
    let desk = file.open_as(A);
    assert_eq!(desk.claim(A, 10), vec![]);
    assert_eq!(desk.list(Filter { limit: 50, ..Filter::default() }).len(), 50);
    desk.ask(next_due(A, &["w"])).unwrap();
    desk.ask(Request::Prune { finished_before: 1, limit: 100 }).unwrap();
    let failed = Filter { phase: Some(Phase::Failed), limit: 50, ..Filter::default() };
    assert_eq!(desk.list(failed), []);
    desk.create(run(2), None, commit(&["a"]));
    assert_eq!(desk.claim(A, 10).len(), 1);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[test]
fn runs_that_wait_are_not_looked_at() {
    what_is_there_costs_nothing(waiting(None), 100_000);
}

#[test]
fn runs_that_are_due_later_are_not_looked_at() {
    what_is_there_costs_nothing(waiting(Some(11)), 100_000);
}

#[test]
fn runs_that_are_over_are_not_looked_at() {
    what_is_there_costs_nothing(ending(Phase::Completed, "x"), 200_000);
}

#[test]
fn a_long_history_is_not_loaded() {
    let file = File::new();
    let desk = file.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    let append = |after| {
        let checkpoint = (after % 500 == 0).then(|| vec![1; 100]);
        Request::Append { run: id(1), epoch: 1, after, commit: Commit { checkpoint, ..commit(&["x"]) } }
    };
    desk.ask_all((1..=20_000).map(append).collect()).into_iter().for_each(|answer| drop(answer.unwrap()));
    desk.append(id(1), 1, 20_001, commit(&["y"]));
    let loaded = desk.load(id(1));
    assert_eq!(loaded.checkpoint, Some((20_001, vec![1; 100])));
    assert_eq!(loaded.records, texts(&["y"]));
    desk.journal.close();
    let rows: i64 =
        Connection::open(file.path()).unwrap().query_row("SELECT count(*) FROM commits", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
}

#[test]
fn a_process_with_many_waiting_runs_is_forgotten_bit_by_bit() {
    let file = File::new();
    let desk = file.open_as(A);
    desk.create(run(1), Some(A), waiting(None));
    desk.journal.close();
    fill(&file, 2500);
    let desk = file.open_as(B);
    desk.done(Request::Release { owner: A });
    let connection = Connection::open(file.path()).unwrap();
    let owned = || connection.query_row("SELECT count(owner) FROM runs", [], |row| row.get::<_, i64>(0)).unwrap();
    for left in [1501, 501, 0] {
        assert_eq!(desk.claim(B, 10), vec![]);
        assert_eq!(owned(), left);
    }
    let owners: i64 = connection.query_row("SELECT count(*) FROM processes", [], |row| row.get(0)).unwrap();
    assert_eq!(owners, 1);
}
