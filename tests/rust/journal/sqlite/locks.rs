//! The runs of a process that has ended are free at once; one that merely says nothing has its lease.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use treadle::journal::{JournalError, Next, Reply, Request};

use super::super::desk::*;

fn owners(file: &File) -> PathBuf {
    PathBuf::from(format!("{}-owners", file.path().display()))
}

fn locks(file: &File) -> usize {
    fs::read_dir(owners(file)).map_or(0, Iterator::count)
}

#[test]
fn the_runs_of_a_process_that_has_ended_are_claimed_at_once() {
    let file = File::new();
    let (desk, other) = (file.open_as(A), file.open_as(B));
    desk.create_each(1..=2, Some(A));
    assert_eq!(other.claim(B, 10), vec![]);
    // Its journal is gone without a word, as if it had been killed.
    drop(desk);
    let next = other.ask(next_due(B, &["w"]));
    assert_eq!(next, Ok(Reply::Next(Next { due: None, lapse: Some(Duration::ZERO) })));
    let taken = other.claim(B, 10);
    assert_eq!(taken.iter().map(|row| row.epoch).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn an_end_is_told_as_a_change() {
    let file = File::new();
    let (desk, other) = (file.open_as(A), file.open_as(B));
    while other.is_told_of_a_change(Duration::from_millis(200)) {}
    drop(desk);
    assert!(other.is_told_of_a_change(PATIENCE));
    assert!(!other.is_told_of_a_change(Duration::from_millis(300)), "once");
}

#[test]
fn whoever_comes_later_sees_the_end_as_well() {
    let file = File::new();
    let desk = file.open_as(A);
    desk.create_each(1..=2, Some(A));
    drop(desk);
    assert_eq!(file.open_as(B).claim(B, 10).len(), 2);
}

#[test]
fn an_owner_that_comes_back_has_its_lock_again() {
    let file = File::new();
    let (desk, other) = (file.open_as(A), file.open_as(B));
    file.clock().set(LEASE + 1);
    other.done(renew(B, 10 * LEASE));
    other.claim(B, 10);
    assert_eq!(desk.ask(renew(A, LEASE)), Err(JournalError::LeaseLost(A)));
    for _ in 0..3 {
        desk.done(Request::Release { owner: A });
        desk.done(enlist(A, 10 * LEASE));
    }
    desk.create_each(1..=1, Some(A));
    assert_eq!(other.claim(B, 10), vec![]);
    drop(desk);
    assert_eq!(other.claim(B, 10).len(), 1);
}

#[test]
fn a_lock_that_cannot_be_seen_says_nothing() {
    let file = File::new();
    let (desk, other) = (file.open_as(A), file.open_as(B));
    desk.create_each(1..=1, Some(A));
    fs::remove_dir_all(owners(&file)).unwrap();
    assert_eq!(other.claim(B, 10), vec![]);
    assert_eq!(desk.append(id(1), 1, 1, commit(&["b"])), 2);
    file.clock().set(LEASE + 1);
    other.done(renew(B, LEASE));
    assert_eq!(other.claim(B, 10).len(), 1, "the lease decides");
}

#[test]
fn nothing_is_left_beside_the_file() {
    let file = File::new();
    for _ in 0..3 {
        let desk = file.open_as(A);
        assert_eq!(locks(&file), 1);
        desk.done(Request::Release { owner: A });
        assert!(!owners(&file).exists());
        // One that hands nothing back leaves its lock, and the next one to come removes it.
        desk.done(enlist(A, LEASE));
        drop(desk);
        assert_eq!(locks(&file), 1);
        let other = file.open_as(B);
        other.claim(B, 10);
        other.done(Request::Release { owner: B });
        drop(other);
        drop(file.open());
        assert!(!owners(&file).exists());
    }
}

#[test]
fn a_strangers_file_in_the_directory_stays() {
    let file = File::new();
    let desk = file.open_as(A);
    let strange = ["notes.txt", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "0"].map(|name| owners(&file).join(name));
    strange.iter().for_each(|path| fs::write(path, "kept").unwrap());
    drop(file.open_as(B));
    drop(desk);
    drop(file.open());
    assert!(strange.iter().all(|path| path.exists()));
}

#[cfg(unix)]
#[test]
fn a_program_that_the_process_has_started_keeps_no_lock() {
    let file = File::new();
    let (desk, other) = (file.open_as(A), file.open_as(B));
    desk.create_each(1..=1, Some(A));
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    drop(desk);
    // A process that another test forks at this moment has the lock until it is the program.
    let mut claims = (0..500).map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        other.claim(B, 10).len()
    });
    let is_taken = claims.any(|taken| taken == 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_taken);
}

#[test]
fn two_paths_to_one_file_have_the_same_locks() {
    let file = File::new();
    let (desk, place) = (file.open_as(A), tempfile::tempdir().unwrap());
    desk.create_each(1..=1, Some(A));
    let link = place.path().join("link.db");
    #[cfg(unix)]
    std::os::unix::fs::symlink(file.path(), &link).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let other = treadle::journal::sqlite::open(&link, &file.options, Box::new(move |batch| drop(tell.send(batch))));
    let other = other.unwrap();
    drop(desk);
    let claim = Request::Claim(claim_of(B, 10, 9));
    other.submit(vec![(0, enlist(B, LEASE)), (1, claim)]).unwrap();
    let batch = told.iter().find(|batch| !batch.answers.is_empty()).unwrap();
    let Ok(Reply::Claimed(claimed)) = &batch.answers[1].1 else { panic!("{batch:?}") };
    assert_eq!(claimed.runs.len(), 1);
}
