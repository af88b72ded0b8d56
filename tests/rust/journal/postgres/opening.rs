//! Making the tables, and what is not opened.

use std::thread;

use treadle::journal::postgres::{self, Options, Place, VERSION};
use treadle::journal::{Cursor, Filter, JournalError, Reply, Request};

use super::Schema;
use crate::journal::desk::*;

fn open(schema: &Schema, options: &Options) -> Result<Box<dyn treadle::journal::Journal>, JournalError> {
    postgres::open(&schema.place(), options, Box::new(drop))
}

#[test]
fn many_that_open_a_new_schema_at_once_make_its_tables_once() {
    let schema = Schema::new();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| schema.open().list(Filter { limit: 1, ..Filter::default() }));
        }
    });
    assert_eq!(schema.query("SELECT version FROM {s}.meta"), [VERSION.to_string()]);
}

#[test]
fn a_newer_schema_is_refused() {
    let schema = Schema::new();
    drop(schema.open());
    schema.execute("UPDATE {s}.meta SET version = 1000");
    for options in [Options::default(), Options { only_looks: true, ..Options::default() }] {
        let error = open(&schema, &options).err().unwrap();
        assert!(is_unusable(&error, "has schema version 1000"), "{error:?}");
        assert!(error.to_string().contains("upgrade treadle"), "{error}");
    }
}

#[test]
fn who_only_looks_makes_no_tables_and_writes_nothing() {
    let schema = Schema::new();
    let looks = Options { only_looks: true, ..Options::default() };
    assert!(is_unusable(&open(&schema, &looks).err().unwrap(), "is no journal of this version"));
    let desk = schema.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    let looking = Schema::looking(&schema);
    assert_eq!(looking.load(id(1)).records, texts(&["a"]));
    for request in [Request::Delete { run: id(1) }, send(id(1), 1, "x")] {
        assert!(is_unusable(&looking.ask(request).unwrap_err(), "is only looked into"));
    }
}

#[test]
fn the_statements_that_are_printed_make_the_same_tables() {
    let schema = Schema::new();
    schema.execute(&postgres::statements(schema.name(), 0));
    let desk = schema.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    assert_eq!(postgres::statements(schema.name(), VERSION), "");
}

#[test]
fn a_server_that_is_not_there_and_one_that_refuses_are_told_apart() {
    let nowhere = Place::parse("postgresql://me:hunter2@127.0.0.1:1/d").unwrap();
    let options = Options { patience: Some(std::time::Duration::ZERO), ..Options::default() };
    let error = postgres::open(&nowhere, &options, Box::new(drop)).err().unwrap();
    assert!(matches!(error, JournalError::Unavailable { .. }), "{error:?}");
    let schema = Schema::new();
    let database = schema.url().replace("?", "?dbname=there_is_no_such_database&");
    let error = postgres::open(&Place::parse(&database).unwrap(), &options, Box::new(drop)).err().unwrap();
    assert!(is_unusable(&error, "there_is_no_such_database"), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter"));
}

#[test]
fn numbers_go_on_in_a_database_that_was_restored() {
    let schema = Schema::new();
    let desk = schema.open_as(A);
    desk.create(run(1), Some(A), waiting(None));
    desk.send(id(1), 1, "old");
    // Its transactions were those of a server that had carried out many more.
    schema.execute("UPDATE {s}.inbox SET number = number + (1::bigint << 50)");
    desk.journal.close();
    let desk = schema.open();
    desk.send(id(1), 2, "new");
    let inbox = desk.load(id(1)).inbox;
    assert_eq!(inbox.iter().map(|entry| entry.id[0]).collect::<Vec<_>>(), [1, 2]);
    let first = Request::Poll { owner: A, after: Cursor::default(), limit: 1 };
    let Ok(Reply::Polled(polled)) = desk.ask(first) else { panic!("no poll") };
    assert_eq!(desk.poll(A, &polled.cursor).entries[0].id[0], 2);
}
