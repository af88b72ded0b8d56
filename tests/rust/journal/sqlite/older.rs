//! A file of an older version is migrated when it is opened, and a process of that version does no harm then.

use rusqlite::Connection;
use treadle::journal::Filter;
use treadle::journal::sqlite::{self, Fault, VERSION};

use super::super::desk::*;

/// The tables of version 1, as far as they differ, and what a process of that version would ask.
const BACK_TO_1: &str = "
    CREATE TABLE owners (n INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB UNIQUE, lease_until INTEGER NOT NULL) STRICT;
    INSERT INTO owners SELECT n, id, 4102444800000000 FROM processes;
    DROP TABLE processes;
    DROP TABLE ends;
    DROP TABLE folded;
    DROP TABLE keyframes;
    DROP INDEX inbox_dead;
    ALTER TABLE inbox DROP COLUMN dead;
    ALTER TABLE runs DROP COLUMN op;
    ALTER TABLE runs DROP COLUMN made_by;
    ALTER TABLE runs DROP COLUMN reopened_by;
    ALTER TABLE runs DROP COLUMN recoveries;
    ALTER TABLE runs DROP COLUMN not_before;
    ALTER TABLE runs DROP COLUMN reason;
    ALTER TABLE runs DROP COLUMN dead_letters;
    DROP INDEX runs_parent;
    DROP INDEX runs_root;
    ALTER TABLE runs DROP COLUMN parent;
    ALTER TABLE runs DROP COLUMN root;
    ALTER TABLE runs DROP COLUMN depth;
    PRAGMA user_version = 1;
";
const FIND_IN_1: &str = "SELECT r.seq FROM runs r LEFT JOIN owners o ON o.n = r.owner WHERE r.n = 1";
const LIVING_IN_1: &str = "SELECT n FROM owners WHERE id = zeroblob(16)";

fn of_version_1() -> File {
    let file = File::new();
    let desk = file.open_as(A);
    desk.create_each(1..=3, Some(A));
    desk.journal.close();
    Connection::open(file.path()).unwrap().execute_batch(BACK_TO_1).unwrap();
    file
}

#[test]
fn what_an_older_version_has_written_goes_on() {
    let file = of_version_1();
    let desk = file.open_as(B);
    assert_eq!(desk.list(Filter { limit: 9, ..Filter::default() }), [3, 2, 1].map(id));
    let claimed = desk.claim(B, 10);
    assert_eq!(claimed.iter().map(|row| row.epoch).collect::<Vec<_>>(), [2, 2, 2], "at once, whatever its lease was");
    assert_eq!(desk.append(id(1), 2, 1, commit(&["b"])), 2);
    let version: i64 =
        Connection::open(file.path()).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, VERSION);
}

#[test]
fn a_process_of_an_older_version_that_has_the_file_open_can_append_nothing() {
    let file = of_version_1();
    let older = Connection::open(file.path()).unwrap();
    let mut find = older.prepare(FIND_IN_1).unwrap();
    let mut living = older.prepare(LIVING_IN_1).unwrap();
    assert_eq!(find.query_row([], |row| row.get::<_, i64>(0)).unwrap(), 1);
    let desk = file.open_as(B);
    assert_eq!(desk.claim(B, 10).len(), 3);
    for statement in [&mut find, &mut living] {
        let error = statement.query_row([], |row| row.get::<_, i64>(0)).unwrap_err();
        assert!(error.to_string().contains("no such table"), "{error}");
    }
}

#[test]
fn an_older_file_is_not_looked_into() {
    let file = of_version_1();
    let error = sqlite::look(&file.path(), &file.options, Box::new(|_| {})).err();
    assert_eq!(error, Some(Fault::NotSetUp.at(&file.path())));
}
