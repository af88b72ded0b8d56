//! Runs that move from one journal to another.
//!
//! A copier takes the run, so that no process appends to it. It writes all of it to the other journal, where the run
//! arrives: no process claims it there, and it takes messages as any run does. Then the run leaves here, in one transaction that
//! also sees that no message has come which was not copied. Only that makes it the other journal's, and what is left here
//! is the proof of it: it is forgotten after the other journal was told. At no time can both execute it.

use super::error::JournalError;
use super::op::OpId;
use super::reply::RunRow;
use super::request::{Commit, Copying, OwnerId, Seen};
use super::rules;

/// Whether a run whose first commit this is arrives from another journal.
pub(super) fn begin(first: &Commit) -> Copying {
    if first.arrival.is_some() { Copying::Arrives } else { Copying::No }
}

/// Refuses a commit that is not for a run that arrives, and one that is, if the run does not.
pub(super) fn check(row: &RunRow, commit: &Commit) -> Result<(), JournalError> {
    let why = match (&commit.arrival, row.copying) {
        (None, Copying::No) => return Ok(()),
        (Some(arrival), Copying::Arrives) if arrival.behind.is_none() || commit.checkpoint.is_some() => return Ok(()),
        (Some(_), Copying::Arrives) => "only a checkpoint moves the number of the last record",
        (Some(_), _) => "only a run that arrives from another journal is written so",
        (None, _) => return Err(JournalError::BeingCopied(row.id)),
    };
    Err(JournalError::Invalid { run: row.id, why })
}

/// Where the records of a run that arrives come.
pub(super) fn place(row: &mut RunRow, commit: &Commit) {
    if let Some(behind) = commit.arrival.as_ref().and_then(|arrival| arrival.behind) {
        row.seq = behind;
    }
}

/// What is said of a run that arrives.
pub(super) fn settle(row: &mut RunRow, commit: &Commit) {
    let Some(arrival) = &commit.arrival else { return };
    row.recoveries = arrival.recoveries;
    row.not_before = arrival.not_before;
    row.reason.clone_from(&arrival.reason);
    if arrival.is_last {
        row.copying = Copying::No;
    }
}

/// Gives one run to a process, however far it is.
pub(super) fn take(row: &mut RunRow, owner: OwnerId, op: OpId) -> Result<(), JournalError> {
    if row.copying == Copying::Left {
        return Err(JournalError::BeingCopied(row.id));
    }
    match row.owner {
        Some(other) if other != owner => return Err(JournalError::RunActive(row.id)),
        Some(_) if op.is_same(row.op) => return Ok(()),
        _ => {}
    }
    rules::give(row, Some(owner));
    row.op = op;
    Ok(())
}

/// The run is another journal's.
pub(super) fn leave(row: &mut RunRow, epoch: u64, seen: Seen) -> Result<(), JournalError> {
    if row.copying == Copying::Left && row.epoch == epoch {
        return Ok(());
    }
    rules::check_epoch(row, epoch)?;
    if row.copying.is_any() || seen_of(row) != seen {
        return Err(JournalError::Conflict(row.id));
    }
    row.copying = Copying::Left;
    row.owner = None;
    Ok(())
}

/// Whether the run may be forgotten, as the other journal has been told that it is its.
pub(super) fn check_remove(row: &RunRow, epoch: u64, seen: Seen) -> Result<(), JournalError> {
    match row.copying == Copying::Left && row.epoch == epoch && seen_of(row) == seen {
        true => Ok(()),
        false => Err(JournalError::Conflict(row.id)),
    }
}

/// Whether the run may be deleted.
pub(super) fn check_delete(row: &RunRow) -> Result<(), JournalError> {
    match (row.owner, row.copying) {
        (Some(_), _) => Err(JournalError::RunActive(row.id)),
        (None, Copying::Left) => Err(JournalError::BeingCopied(row.id)),
        (None, _) => Ok(()),
    }
}

/// The messages that a run has.
fn seen_of(row: &RunRow) -> Seen {
    Seen { inbox: row.inbox, dead_letters: row.dead_letters }
}
