//! A log that is not whole is refused when it is loaded, and harms no other run.

use rusqlite::Connection;
use treadle::RunId;
use treadle::journal::{Commit, Filter, JournalError, Reply, Request};

use super::super::desk::*;

/// A file with three runs: 1 and 3 have four commits of one record, 2 has a checkpoint in place of the first two.
fn filled() -> File {
    let file = File::new();
    let desk = file.open_as(A);
    desk.create_each(1..=3, Some(A));
    for number in 1..=3 {
        let checkpoint = (number == 2).then(|| b"state".to_vec());
        desk.append(id(number), 1, 1, Commit { checkpoint, ..commit(&["b"]) });
        desk.append(id(number), 1, 2, commit(&["c"]));
        desk.append(id(number), 1, 3, commit(&["d"]));
    }
    file
}

/// What is said of a run after this was done to the file.
fn said(run: RunId, sql: &str) -> String {
    let file = filled();
    Connection::open(file.path()).unwrap().execute_batch(sql).unwrap();
    let desk = file.open_as(B);
    let Ok(Reply::Loaded(loaded)) = desk.ask(Request::Load { runs: [1, 2, 3].map(id).into() }) else { panic!("{sql}") };
    let mut said = String::new();
    for (number, (loaded, answer)) in (1..).zip(loaded) {
        assert_eq!(loaded, id(number));
        match answer {
            Err(JournalError::Damaged { run: damaged, what }) if damaged == run && id(number) == run => said = what,
            other => assert!(other.is_ok(), "{sql}: run {number}: {other:?}"),
        }
    }
    assert!(!said.is_empty(), "{sql}: nothing was noticed");
    desk.create(self::run(9), Some(B), commit(&["a"]));
    assert_eq!(desk.append(id(9), 1, 1, commit(&["b"])), 2, "the journal goes on");
    said
}

#[test]
fn the_run_and_what_is_missing_are_named() {
    let error =
        JournalError::Damaged { run: id(1), what: said(id(1), "DELETE FROM commits WHERE run = 1 AND seq = 4") };
    let text = error.to_string();
    assert!(text.contains(&id(1).to_string()) && text.contains("record 4 is missing"), "{text}");
}

#[test]
fn whatever_part_of_a_log_is_missing_is_noticed() {
    for (number, sql, what) in [
        (1, "DELETE FROM commits WHERE run = 1 AND seq > 2", "the records from 3 to 4 are missing"),
        (1, "DELETE FROM commits WHERE run = 1", "the records from 1 to 4 are missing"),
        (1, "DELETE FROM commits WHERE run = 1 AND seq = 1", "record 1 is missing"),
        (1, "DELETE FROM commits WHERE run = 1 AND seq = 2", "record 2 is missing"),
        (2, "DELETE FROM checkpoints", "the records from 1 to 2 are missing"),
        (2, "DELETE FROM commits WHERE run = 2 AND seq = 3", "record 3 is missing"),
        (2, "UPDATE checkpoints SET seq = 1", "record 2 is missing"),
        (2, "UPDATE checkpoints SET seq = 3", "a commit of 1 records ends with record 3, behind record 3"),
        (3, "UPDATE runs SET seq = 3 WHERE n = 3", "a commit of 1 records ends with record 4, behind record 3"),
        (3, "UPDATE runs SET seq = 9 WHERE n = 3", "the records from 5 to 9 are missing"),
        (
            3,
            "DELETE FROM commits WHERE run = 3; INSERT INTO checkpoints VALUES (3, 7, x'00')",
            "its checkpoint stands for 7 records, and 4 were acknowledged",
        ),
    ] {
        let said = said(id(number), sql);
        assert!(said.contains(what), "{sql}: {said}");
    }
}

#[test]
fn a_row_that_makes_no_sense_is_the_fault_of_its_run_alone() {
    for sql in [
        "UPDATE commits SET records = x'ffffffff00' WHERE run = 1 AND seq = 2",
        "UPDATE commits SET records = x'' WHERE run = 1 AND seq = 2",
        "UPDATE runs SET phase = 77 WHERE n = 1",
        "UPDATE runs SET seq = -1 WHERE n = 1",
        "UPDATE runs SET epoch = -5, input = x'00' WHERE n = 1",
        "UPDATE commits SET seq = 0 WHERE run = 1 AND seq = 1",
    ] {
        said(id(1), sql);
    }
}

#[test]
fn records_that_are_only_looked_at_are_refused_where_they_make_no_sense() {
    let file = filled();
    let sql = "UPDATE commits SET seq = 0 WHERE run = 1 AND seq = 1";
    Connection::open(file.path()).unwrap().execute_batch(sql).unwrap();
    let desk = file.open();
    // The cursor is behind the record that there cannot be.
    assert_eq!(desk.records(id(1), 1, 99).0.len(), 3);
    let broken = "UPDATE commits SET records = x'0100000061010000006201000000630100000064' WHERE run = 1 AND seq = 2";
    Connection::open(file.path()).unwrap().execute_batch(broken).unwrap();
    let records = Request::Records { run: id(1), after: 0, limit: 99 };
    assert!(matches!(desk.ask(records), Err(JournalError::Damaged { .. })));
}

#[test]
fn a_page_of_runs_says_which_of_them_are_cut_short() {
    let file = filled();
    Connection::open(file.path()).unwrap().execute_batch("DELETE FROM commits WHERE run = 1 AND seq > 2").unwrap();
    let desk = file.open();
    let listed = desk.ask(Request::List { filter: Filter { limit: 9, ..Filter::default() } });
    let Ok(Reply::Listed(rows)) = listed else { panic!("{listed:?}") };
    let damaged: Vec<_> = rows.iter().map(|row| (row.id, row.is_cut_short)).collect();
    assert_eq!(damaged, [(id(3), false), (id(2), false), (id(1), true)]);
    assert!(desk.get(id(1)).0.is_cut_short && !desk.get(id(2)).0.is_cut_short);
}
