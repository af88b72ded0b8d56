//! Looking into a file makes and changes nothing, neither the file nor any beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use treadle::journal::sqlite::{self, Fault, Options, VERSION};
use treadle::journal::{Filter, JournalError, OnBatch, Request};

use super::super::desk::*;

struct Looked(PathBuf);

impl Store for Looked {
    fn open_with(&self, on_batch: OnBatch) -> Box<dyn treadle::journal::Journal> {
        sqlite::look(&self.0, &Options::default(), on_batch).unwrap()
    }
}

fn refusal(path: &Path) -> JournalError {
    sqlite::look(path, &Options::default(), Box::new(|_| {})).err().expect("an error")
}

/// The files of a directory and what is in them.
fn files(file: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(file.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn all() -> Filter {
    Filter { limit: 99, ..Filter::default() }
}

#[test]
fn a_journal_that_nobody_has_open_is_read_and_left_as_it_is() {
    let file = File::new();
    let desk = file.open();
    desk.create_each(1..=3, None);
    desk.journal.close();
    let before = files(&file.path());
    let look = Looked(file.path()).open();
    assert_eq!(look.list(all()), [id(3), id(2), id(1)]);
    assert_eq!(look.load(id(2)).records, file_records());
    look.journal.close();
    assert_eq!(files(&file.path()), before);
}

fn file_records() -> Vec<Vec<u8>> {
    let other = File::new();
    let desk = other.open();
    desk.create_each(2..=2, None);
    desk.load(id(2)).records
}

#[test]
fn what_others_write_is_seen_and_told() {
    let file = File::new();
    file.open().journal.close();
    let look = Looked(file.path()).open();
    assert_eq!(look.list(all()), []);
    for number in 1..=5 {
        // Now somebody has it open, and then nobody.
        let desk = file.open();
        desk.create(run(2 * number), None, commit(&["a"]));
        assert!(look.is_told_of_a_change(PATIENCE));
        assert!(look.list(all()).contains(&id(2 * number)), "while it is open");
        desk.create(run(2 * number + 1), None, commit(&["a"]));
        assert!(look.list(all()).contains(&id(2 * number + 1)), "from the log");
        desk.journal.close();
        assert_eq!(look.list(all()).len() as u64, 2 * number, "once it is closed");
    }
}

#[test]
fn what_a_killed_process_has_left_is_read() {
    let file = File::new();
    let desk = file.open();
    desk.create_each(1..=3, None);
    // As a crash leaves them: the log was not copied into the database.
    let place = tempfile::tempdir().unwrap();
    let copy = place.path().join("runs.db");
    for suffix in ["", "-wal"] {
        let from = format!("{}{suffix}", file.path().display());
        fs::copy(from, format!("{}{suffix}", copy.display())).unwrap();
    }
    assert_eq!(Looked(copy).open().list(all()), [id(3), id(2), id(1)]);
}

#[test]
fn everything_that_is_read_is_whole_while_others_open_write_and_close() {
    let file = File::new();
    file.open().journal.close();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 1..=40 {
                let desk = file.open();
                desk.create_each(2 * number..=2 * number + 1, None);
                desk.journal.close();
            }
        });
        let look = Looked(file.path()).open();
        let mut seen = 0;
        while !writer.is_finished() {
            let listed = look.list(all()).len();
            assert!(listed >= seen, "{listed} after {seen}");
            seen = listed;
        }
        assert_eq!(look.list(all()).len(), 80);
    });
}

#[test]
fn whatever_would_write_is_refused_and_the_rest_is_answered() {
    let file = File::new();
    let desk = file.open();
    desk.create_each(1..=1, None);
    desk.journal.close();
    let look = Looked(file.path()).open();
    let answers = look.ask_all(vec![
        Request::Get { run: id(1) },
        send(id(1), 1, "a message"),
        enlist(A, LEASE),
        Request::Delete { run: id(1) },
        Request::Get { run: id(2) },
    ]);
    assert!(answers[0].is_ok());
    for refused in &answers[1..4] {
        let error = refused.as_ref().unwrap_err();
        assert!(is_unusable(error, "cannot be written"), "{error:?}");
        assert!(error.to_string().contains("reading only"), "{error}");
    }
    assert_eq!(answers[4], Err(JournalError::UnknownRun(id(2))));
}

#[test]
fn what_is_no_journal_is_named_and_left_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a b?%20#.db");
    assert!(is_unusable(&refusal(&path), "cannot be read"));
    assert!(!path.exists(), "nothing was made");
    assert_eq!(refusal(place.path()), Fault::IsDirectory.at(place.path()));
    fs::write(&path, []).unwrap();
    assert_eq!(refusal(&path), Fault::NotSetUp.at(&path));
    fs::write(&path, vec![7; 10_000]).unwrap();
    assert_eq!(refusal(&path), Fault::NotADatabase.at(&path));
    fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert_eq!(refusal(&path), Fault::Foreign.at(&path));
    fs::remove_file(&path).unwrap();
    sqlite::open(&path, &Options::default(), Box::new(|_| {})).unwrap().close();
    assert_eq!(Looked(path.clone()).open().list(all()), [], "whatever characters the path has");
    let newer = format!("PRAGMA user_version = {}", VERSION + 1);
    Connection::open(&path).unwrap().execute_batch(&newer).unwrap();
    assert!(is_unusable(&refusal(&path), "upgrade"));
    assert_eq!(files(&path).len(), 1);
}

#[test]
fn a_lock_of_somebody_who_writes_keeps_nobody_from_looking() {
    let file = File::new();
    let desk = file.open();
    desk.create_each(1..=1, None);
    let other = Connection::open(file.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let look = Looked(file.path()).open();
    assert_eq!(look.list(all()), [id(1)]);
    assert_eq!(look.next(Duration::ZERO).map(|batch| batch.answers), None);
}

#[test]
fn the_secret_is_read_if_it_is_there_and_never_made() {
    let file = File::new();
    file.open().journal.close();
    assert_eq!(sqlite::secret::secret_if_made(&file.path()), Ok(None));
    assert!(!sqlite::secret::path(&file.path()).exists());
    let made = sqlite::secret::secret(&file.path()).unwrap();
    assert_eq!(sqlite::secret::secret_if_made(&file.path()), Ok(Some(made)));
}
