//! A disk that fails at any of its operations: nothing is acknowledged after it, and nothing that was is lost.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use treadle::journal::sqlite::{self, Options};
use treadle::journal::{Commit, Journal, JournalError, Outcome, Reply, Request};

use super::super::desk::*;
use super::disk::Disk;
use super::vfs;

struct Asked {
    journal: Box<dyn Journal>,
    answers: std::sync::mpsc::Receiver<Vec<(u64, Outcome)>>,
}

impl Asked {
    fn open(path: &Path, options: &Options) -> Result<Self, JournalError> {
        let (tell, answers) = channel();
        let on_batch = Box::new(move |batch: treadle::journal::Batch| {
            if !batch.answers.is_empty() {
                drop(tell.send(batch.answers));
            }
        });
        Ok(Self { journal: sqlite::open(path, options, on_batch)?, answers })
    }

    fn ask(&self, request: Request) -> Outcome {
        self.journal.submit(vec![(1, request)]).unwrap();
        self.answers.recv_timeout(PATIENCE).unwrap().pop().unwrap().1
    }
}

fn history() -> Vec<(u64, Request)> {
    let create = |number| Request::Create { run: run(number), owner: Some(A), commit: commit(&["1"]) };
    let append = |number, after: u64| {
        let records = vec![(after + 1).to_string().into_bytes(); 1];
        let checkpoint = (after == 2).then(|| vec![3; 9000]);
        let commit = Commit { checkpoint, published: vec![(after, vec![2; 3000])], records, ..Commit::default() };
        (number, Request::Append { run: id(number), epoch: 1, after, commit })
    };
    let mut requests = vec![(0, enlist(A, LEASE)), (1, create(1)), (2, create(2))];
    requests.extend((1..5).flat_map(|after| [append(1, after), append(2, after)]));
    requests.push((0, Request::Load { runs: vec![id(1)] }));
    requests
}

/// Carries out the history; gives the records that were acknowledged of each run.
fn carry_out(asked: &Asked) -> BTreeMap<u64, u64> {
    let mut acknowledged = BTreeMap::new();
    let mut has_failed = false;
    for (number, request) in history() {
        match asked.ask(request) {
            Err(error) => {
                let is_later = matches!(error, JournalError::Failed { .. });
                let is_first = matches!(error, JournalError::Unusable { .. });
                assert!(is_first || is_later, "{error:?}");
                assert!(is_later || !has_failed, "it goes on after a failure: {error:?}");
                assert!(error.to_string().contains("runs.db"), "{error}");
                has_failed = true;
            }
            Ok(reply) => {
                assert!(!has_failed, "acknowledged after a failure: {reply:?}");
                let seq = if let Reply::Appended { seq, .. } = reply { seq } else { 1 };
                acknowledged.insert(number, seq);
            }
        }
    }
    acknowledged.remove(&0);
    acknowledged
}

fn everything_acknowledged_is_there(path: &Path, acknowledged: &BTreeMap<u64, u64>) {
    let asked = Asked::open(path, &Options::default()).unwrap();
    for (&number, &seq) in acknowledged {
        let loaded = one_loaded(asked.ask(Request::Load { runs: vec![id(number)] })).expect("it is there");
        assert!(loaded.run.seq >= seq, "run {number} has {} records instead of {seq}", loaded.run.seq);
        let epoch = loaded.run.epoch;
        let on = Request::Append { run: id(number), epoch, after: loaded.run.seq, commit: commit(&["on"]) };
        assert_eq!(asked.ask(on), Ok(Reply::appended(loaded.run.seq + 1)));
    }
    asked.journal.close();
    let connection = rusqlite::Connection::open(path).unwrap();
    let found: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(found, "ok");
}

fn every_operation_fails_once(stays_broken: bool, is_full: bool) {
    let directory = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "." }).unwrap();
    let disk = Arc::new(Disk::default());
    let options = Options { vfs: Some(vfs::register(&disk)), wal_pages: 8, ..Options::default() };
    let mut refused_to_open = 0;
    for count in 0.. {
        let path = directory.path().join(format!("{count}-runs.db"));
        disk.fail_after(count, stays_broken, is_full);
        let acknowledged = match Asked::open(&path, &options) {
            Ok(asked) => carry_out(&asked),
            Err(error) => {
                assert!(error.to_string().contains("runs.db"), "{error}");
                refused_to_open += 1;
                BTreeMap::new()
            }
        };
        let has_failed = disk.heal();
        everything_acknowledged_is_there(&path, &acknowledged);
        if !has_failed {
            assert_eq!(acknowledged, BTreeMap::from([(1, 5), (2, 5)]));
            assert!(count > 60 && refused_to_open > 10, "{count} operations, {refused_to_open} of them to open");
            return;
        }
    }
}

#[test]
fn after_an_error_of_the_disk_nothing_is_acknowledged() {
    every_operation_fails_once(false, false);
}

#[test]
fn a_disk_that_stays_broken_loses_nothing_that_was_acknowledged() {
    every_operation_fails_once(true, false);
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    every_operation_fails_once(true, true);
}
