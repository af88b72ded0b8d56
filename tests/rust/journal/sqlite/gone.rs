//! A file that is removed or moved away while it is open: nothing is acknowledged from then on.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use treadle::journal::{Filter, JournalError, Request};

use super::super::desk::*;

/// A file in a directory of its own, which can be moved.
struct Placed {
    root: tempfile::TempDir,
}

impl Placed {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("place")).unwrap();
        Self { root }
    }

    fn path(&self) -> PathBuf {
        self.root.path().join("place").join("runs.db")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        PathBuf::from(format!("{}{suffix}", self.path().display()))
    }
}

impl Store for Placed {
    fn open_with(&self, on_batch: treadle::journal::OnBatch) -> Box<dyn treadle::journal::Journal> {
        treadle::journal::sqlite::open(&self.path(), &Default::default(), on_batch).unwrap()
    }
}

fn create(number: u64) -> Request {
    Request::Create { run: run(number), owner: None, commit: commit(&["a"]) }
}

type Lose = fn(&Placed);

const LOSSES: [(&str, Lose); 8] = [
    ("removed", |store| fs::remove_file(store.path()).unwrap()),
    ("moved away", |store| fs::rename(store.path(), store.beside(".old")).unwrap()),
    ("its directory removed", |store| fs::remove_dir_all(store.path().parent().unwrap()).unwrap()),
    ("its directory moved", |store| fs::rename(store.path().parent().unwrap(), store.root.path().join("b")).unwrap()),
    ("its log removed", |store| fs::remove_file(store.beside("-wal")).unwrap()),
    ("its log emptied by a copy", |store| {
        fs::rename(store.beside("-wal"), store.beside("-wal.old")).unwrap();
        fs::write(store.beside("-wal"), []).unwrap();
    }),
    ("its shared memory removed", |store| fs::remove_file(store.beside("-shm")).unwrap()),
    ("replaced by a copy", |store| {
        fs::copy(store.path(), store.beside(".copy")).unwrap();
        fs::rename(store.beside(".copy"), store.path()).unwrap();
    }),
];

#[test]
fn nothing_is_acknowledged_once_a_file_is_gone() {
    for (how, lose) in LOSSES {
        let store = Placed::new();
        let desk = store.open();
        desk.create_each(1..=2, None);
        lose(&store);
        // It may have been noticed already, by looking whether others have written.
        let error = match desk.ask(create(3)) {
            Err(JournalError::Failed { cause }) => (*cause).clone(),
            other => other.expect_err(how),
        };
        assert!(is_unusable(&error, "was removed, moved away or replaced"), "{how}: {error:?}");
        let root = fs::canonicalize(store.root.path()).unwrap();
        assert!(error.to_string().starts_with(root.to_str().unwrap()), "{error}");
        for request in [create(4), Request::Get { run: id(1) }] {
            assert!(matches!(desk.ask(request), Err(JournalError::Failed { .. })), "{how}");
        }
    }
}

#[test]
fn what_was_acknowledged_before_its_directory_was_moved_is_there() {
    let store = Placed::new();
    let desk = store.open();
    desk.create_each(1..=2, None);
    let moved = store.root.path().join("moved");
    fs::rename(store.path().parent().unwrap(), &moved).unwrap();
    desk.ask(create(3)).unwrap_err();
    drop(desk);
    fs::rename(&moved, store.path().parent().unwrap()).unwrap();
    let there = store.open().list(Filter { limit: 9, ..Filter::default() });
    assert!(there.ends_with(&[id(2), id(1)]), "{there:?}");
}

#[test]
fn a_loss_is_noticed_while_nothing_is_asked() {
    let store = Placed::new();
    let desk = store.open();
    fs::rename(store.path(), store.beside(".old")).unwrap();
    thread::sleep(Duration::from_millis(200));
    fs::rename(store.beside(".old"), store.path()).unwrap();
    assert!(matches!(desk.ask(create(1)), Err(JournalError::Failed { .. })), "it was away in between");
}

/// The log at the path is that of the database at the path, not of one that was there before.
#[test]
fn closing_a_lost_database_removes_nothing_of_the_one_in_its_place() {
    let store = Placed::new();
    for is_noticed in [false, true] {
        let lost = store.open();
        lost.create_each(1..=2, None);
        for suffix in ["", "-wal", "-shm"] {
            fs::remove_file(store.beside(suffix)).unwrap();
        }
        let desk = store.open();
        desk.create_each(5..=7, None);
        if is_noticed {
            lost.ask(create(3)).unwrap_err();
        }
        drop(lost);
        assert!(store.beside("-wal").exists());
        // As a crash would leave them.
        let copies = tempfile::tempdir().unwrap();
        copy(&store, copies.path());
        let there = At(copies.path().join("runs.db")).open().list(Filter { limit: 9, ..Filter::default() });
        assert_eq!(there, [7, 6, 5].map(id));
        drop(desk);
        fs::remove_file(store.path()).unwrap();
    }
}

struct At(PathBuf);

impl Store for At {
    fn open_with(&self, on_batch: treadle::journal::OnBatch) -> Box<dyn treadle::journal::Journal> {
        treadle::journal::sqlite::open(&self.0, &Default::default(), on_batch).unwrap()
    }
}

fn copy(store: &Placed, to: &Path) {
    for suffix in ["", "-wal"] {
        fs::copy(store.beside(suffix), to.join(format!("runs.db{suffix}"))).unwrap();
    }
}
