//! Power cuts: every acknowledged commit is in every image that a cut could have left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
use treadle::journal::sqlite::{self, Options, Synchronous};
use treadle::journal::{Commit, Reply, Request};

use super::super::desk::*;
use super::disk::{Disk, Op, Unsynced, image};
use super::vfs;

/// Carries out a history on a recorded disk. Each acknowledgement is a mark: this run has this many records.
fn record(synchronous: Synchronous) -> Vec<Op> {
    let directory = memory_directory();
    let disk = Arc::new(Disk::default());
    // A short log is copied and started anew many times.
    let vfs = Some(vfs::register(&disk));
    let options = Options { vfs, wal_pages: 12, synchronous, ..Options::default() };
    let (tell, told) = std::sync::mpsc::channel();
    let marks = Arc::clone(&disk);
    let on_batch = Box::new(move |batch: treadle::journal::Batch| {
        for (ticket, answer) in batch.answers {
            match answer.unwrap() {
                Reply::Created { .. } => marks.did(Op::Mark((ticket, 1))),
                Reply::Appended { seq, .. } => marks.did(Op::Mark((ticket, seq))),
                _ => {}
            }
            tell.send(()).unwrap();
        }
    });
    let journal = sqlite::open(&directory.path().join("runs.db"), &options, on_batch).unwrap();
    for requests in history() {
        let count = requests.len();
        journal.submit(requests).unwrap();
        (0..count).for_each(|_| told.recv_timeout(PATIENCE).unwrap());
    }
    journal.close();
    disk.log()
}

/// Batches of requests; the ticket of a request is the number of its run.
fn history() -> Vec<Vec<(u64, Request)>> {
    let mut batches = vec![vec![(0, enlist(A, LEASE))]];
    let create = |number| Request::Create { run: run(number), owner: Some(A), commit: commit(&[&text(number, 1)]) };
    batches.push((1..=3).map(|number| (number, create(number))).collect());
    for after in 1..12 {
        let append = |number: u64| {
            let body = text(number, after + 1);
            let folds = after % 4 == number;
            let checkpoint = folds.then(|| format!("state {number} {}", "x".repeat(6000)).into_bytes());
            let commit = Commit { checkpoint, published: vec![(after, vec![1; 900])], ..commit(&[&body]) };
            (number, Request::Append { run: id(number), epoch: 1, after, commit })
        };
        batches.push((1..=3).map(append).collect());
        batches.push(vec![(9, send(id(1), after as u8, &"m".repeat(700)))]);
    }
    batches
}

fn text(run: u64, seq: u64) -> String {
    format!("record {seq} of run {run} {}", "y".repeat(300))
}

// Images are made by the thousand; where there is memory that looks like a disk, they are made there.
fn memory_directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// Opens an image, and says what of the acknowledged is not there or not right.
fn examine(directory: &Path, acknowledged: &BTreeMap<u64, u64>) -> Result<(), String> {
    let connection = Connection::open(directory.join("runs.db")).map_err(|error| error.to_string())?;
    check_integrity(&connection).map_err(|error| error.to_string())?;
    for (&number, &seq) in acknowledged {
        let found = seq_of(&connection, number).unwrap_or(0);
        if found < seq {
            return Err(format!("run {number} has {found} records instead of {seq}"));
        }
        check_records(&connection, number, found).map_err(|error| format!("run {number}: {error}"))?;
    }
    Ok(())
}

fn check_integrity(connection: &Connection) -> rusqlite::Result<()> {
    let found: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    let is_ok = found == "ok";
    if is_ok { Ok(()) } else { Err(rusqlite::Error::InvalidColumnName(found)) }
}

fn seq_of(connection: &Connection, number: u64) -> rusqlite::Result<u64> {
    connection.query_row("SELECT seq FROM runs WHERE id = ?1", [id(number).as_bytes()], |row| row.get(0))
}

fn check_records(connection: &Connection, number: u64, seq: u64) -> Result<(), String> {
    let sql = "SELECT c.seq, c.records FROM commits c JOIN runs r ON r.n = c.run WHERE r.id = ?1 ORDER BY c.seq";
    let mut statement = connection.prepare(sql).map_err(|error| error.to_string())?;
    let rows = statement.query_map([id(number).as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)));
    let rows: Vec<(u64, Vec<u8>)> = rows.unwrap().collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let sql = "SELECT coalesce(max(c.seq), 0) FROM checkpoints c JOIN runs r ON r.n = c.run WHERE r.id = ?1";
    let folded: u64 = connection.query_row(sql, [id(number).as_bytes()], |row| row.get(0)).unwrap();
    let numbers: Vec<u64> = rows.iter().map(|(seq, _)| *seq).collect();
    if numbers != (folded + 1..=seq).collect::<Vec<_>>() {
        return Err(format!("a checkpoint at {folded}, then {numbers:?}, instead of up to {seq}"));
    }
    match rows.iter().all(|(seq, packed)| packed[4..] == *text(number, *seq).as_bytes()) {
        true => Ok(()),
        false => Err("a record has changed".into()),
    }
}

/// Examines an image for every point of the log and every fate of the unsynced; gives the complaints.
fn complaints(log: &[Op]) -> Vec<String> {
    static ROUND: AtomicU64 = AtomicU64::new(0);
    let root = memory_directory();
    let mut acknowledged = BTreeMap::new();
    let mut found = Vec::new();
    for (at, op) in log.iter().enumerate() {
        if let Op::Mark((number, seq)) = op {
            acknowledged.insert(*number, *seq);
        }
        let fates = [Unsynced::Dropped, Unsynced::Kept, Unsynced::Torn(at as u64), Unsynced::Torn(!(at as u64))];
        for fate in fates {
            let directory: PathBuf = root.path().join(ROUND.fetch_add(1, Ordering::Relaxed).to_string());
            std::fs::create_dir(&directory).unwrap();
            image(&log[..=at], fate, &directory);
            found.extend(examine(&directory, &acknowledged).err().map(|why| format!("{at} {fate:?}: {why}")));
            if at % 16 == 0 && found.is_empty() {
                goes_on(&directory);
            }
            std::fs::remove_dir_all(&directory).unwrap();
        }
    }
    found
}

/// The journal itself opens the image, and goes on with it.
fn goes_on(directory: &Path) {
    let (tell, told) = std::sync::mpsc::channel();
    let on_batch = Box::new(move |batch: treadle::journal::Batch| drop(tell.send(batch.answers)));
    let journal = sqlite::open(&directory.join("runs.db"), &Options::default(), on_batch).unwrap();
    let create = Request::Create { run: run(77), owner: None, commit: commit(&["after the power cut"]) };
    journal.submit(vec![(1, create)]).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), [(1, Ok(Reply::Created { epoch: 0 }))]);
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let log = record(Synchronous::Full);
    let count = |fits: fn(&Op) -> bool| log.iter().filter(|op| fits(op)).count();
    assert_eq!(count(|op| matches!(op, Op::Mark(_))), 36);
    let copies = count(|op| matches!(op, Op::Sync { file } if file == "runs.db"));
    assert!(copies > 5, "the log was copied into the database {copies} times");
    let complaints = complaints(&log);
    assert_eq!(complaints, Vec::<String>::new());
}

#[test]
fn the_same_cuts_are_seen_to_lose_commits_where_commits_are_not_synced() {
    let complaints = complaints(&record(Synchronous::Normal));
    assert!(complaints.len() > 20, "{complaints:?}");
}

#[test]
fn the_same_cuts_are_seen_to_do_damage_where_nothing_is_synced() {
    let complaints = complaints(&record(Synchronous::Off));
    assert!(complaints.len() > 20, "{complaints:?}");
}
